"""From the command line to a measurement."""

import torch

from mocox.benchmark.ours import read_config
from mocox.benchmark.report import Result, require_device

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
    processes: int = 2,
    step_rate: float | None = None,
    json: str | None = None,
) -> Result:
    """Measures and prints; see ``tools/benchmark.py`` for the arguments.

    Raises:
        ValueError: A value out of range, a GPU that is not there, a model the peer does not have, losses that differ.
        FileNotFoundError: No such config.
        ImportError: The peer is not installed.
    """
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    require_device(device)
    for name, value in (('--batch', batch), ('--image-size', image_size), ('--threads', threads), ('--steps', steps)):
        if value is not None and value < 1:
            raise ValueError(f'{name} {value}: must be at least 1')
    if threads:
        torch.set_num_threads(threads)
    image_size = image_size or (224 if device == 'cuda' or mode == 'data' else 64)
    read = read_config(config or DEFAULT_CONFIG, image_size, cfg_options)
    if mode == 'step':
        from mocox.benchmark.step import Setting, benchmark_step

        setting = Setting(batch or (256 if device == 'cuda' else 16), image_size, device, rounds, steps)
        result = benchmark_step(read, setting, against is not None)
    elif mode == 'data':
        from mocox.benchmark.data import benchmark_data

        result = benchmark_data(read, image_size, batch or 32, rounds, against is not None, step_rate)
    if json:
        result.write(json)
    return result
