"""From the command line to a measurement."""

import torch

from lab.benchmark.data import benchmark_data
from lab.benchmark.memory import benchmark_memory
from lab.benchmark.mocox_contender import read_config
from lab.benchmark.report import Result, require_device, require_writable
from lab.benchmark.scaling import benchmark_scaling
from lab.benchmark.step import Setting, benchmark_step

DEFAULT_CONFIG = 'mocox::mocov3/vit-small.py'


def run(
    mode: str,
    against: str | None = None,
    config: str | None = None,
    cfg_options: dict | None = None,
    batch: int | None = None,
    image_size: int | None = None,
    device: str | None = None,
    rounds: int = 7,
    steps: int = 1,
    threads: int | None = None,
    chunk_sizes: list[int] | None = None,
    processes: int | None = None,
    step_rate: float | None = None,
    json: str | None = None,
) -> Result:
    """Measures and prints; see ``tools/benchmark.py`` for the arguments.

    Raises:
        ValueError: A value out of range or for another mode, a GPU that is not there, a file that cannot be written, a
            model the peer does not have, losses that differ.
        FileNotFoundError: No such config.
        ImportError: The peer is not installed.
    """
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    require_device(device)
    counts = {'--batch': batch, '--image-size': image_size, '--threads': threads, '--steps': steps, '--rounds': rounds}
    counts['--chunk-sizes'] = min(chunk_sizes) if chunk_sizes else None
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f'{name} {value}: must be at least 1')
    if step_rate is not None and not step_rate > 0:
        raise ValueError(f'--step-rate {step_rate}: must be above 0')
    readers = {'--chunk-sizes': 'memory', '--processes': 'scaling', '--step-rate': 'data'}
    for (name, reader), value in zip(readers.items(), (chunk_sizes, processes, step_rate), strict=True):
        if value is not None and mode != reader:
            raise ValueError(f'{name} is for {reader}; {mode} does not read it')
    if json:
        require_writable(json)
    if threads:
        torch.set_num_threads(threads)
    image_size = image_size or (224 if device == 'cuda' or mode == 'data' else 64)
    read = read_config(config or DEFAULT_CONFIG, image_size, cfg_options)
    if mode == 'data':
        result = benchmark_data(read, image_size, batch or 32, rounds, against is not None, step_rate)
    else:
        setting = Setting(batch or (256 if device == 'cuda' else 16), image_size, device, rounds, steps)
        if mode == 'step':
            result = benchmark_step(read, setting, against is not None)
        elif mode == 'memory':
            result = benchmark_memory(read, setting, chunk_sizes, against is not None)
        else:
            processes = 2 if processes is None else processes
            result = benchmark_scaling(read, setting, processes, against is not None)
    if json:
        result.write(json)
    return result
