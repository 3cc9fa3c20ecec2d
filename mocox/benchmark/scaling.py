"""Several processes against one: images per second of each, and the bytes they exchange in a step."""

import os
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from torch import Tensor, multiprocessing
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mocox.benchmark.contender import Contender, random_views
from mocox.benchmark.ours import Ours
from mocox.benchmark.report import Result, device_name, table
from mocox.benchmark.rounds import Timings, time_call
from mocox.benchmark.step import Setting

ONE, MANY = 'one process', 'many processes'


class Communication(TorchDispatchMode):
    """Counts collectives and the bytes that this process hands to them, by their names, while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func.namespace == 'c10d':
            name = func._opname.strip('_')
            # A gather has its output first; what this process contributes stands last.
            sent = [leaf for leaf in tree_leaves(args[1] if 'gather' in name else args[0]) if isinstance(leaf, Tensor)]
            self.calls[name] += 1
            self.bytes[name] += sum(tensor.nbytes for tensor in sent)
        return func(*args, **(kwargs or {}))


def benchmark_scaling(config: Config, setting: Setting, processes: int) -> Result:
    """Times a step of one process alone and of all together, in turn; the batch is that of each process.

    Ratio and share of the limit are both the efficiency: images per second of each of many over those of one alone.

    Raises:
        ValueError: Fewer than two processes, or fewer GPUs than processes.
    """
    if processes < 2:
        raise ValueError(f'--processes {processes}: at least 2 are compared with 1')
    if setting.device == 'cuda' and torch.cuda.device_count() < processes:
        raise ValueError(f'--processes {processes}: there are {torch.cuda.device_count()} GPUs')
    with tempfile.TemporaryDirectory() as folder:
        barrier = multiprocessing.get_context('spawn').Barrier(processes)
        args = (processes, config, setting, folder, barrier, torch.get_num_threads())
        multiprocessing.spawn(_work, args, nprocs=processes)
        found = torch.load(Path(folder, 'result'), weights_only=True)
    times = Timings(found['seconds'])
    rates = {name: setting.batch_size / times.median(name) for name in (ONE, MANY)}
    efficiency = times.speedup(MANY, ONE)
    result = Result(
        'scaling',
        ours=rates[MANY],
        ratio=efficiency.median,
        ratio_min=efficiency.smallest,
        ratio_max=efficiency.largest,
        share_of_limit=efficiency.median,
        device=f'{processes} x {device_name(setting.device)}',
        details=dict(
            unit='images per second and process',
            processes=processes,
            setting=vars(setting),
            images_per_second_of_one_alone=rates[ONE],
            bytes_per_step=found['bytes'],
            collectives_per_step=found['calls'],
            gradient_bytes=found['gradient_bytes'],
            key_bytes=found['key_bytes'],
        ),
    )
    rows = [[name, str(found['calls'][name]), f'{size / 1e6:.3f}'] for name, size in found['bytes'].items()]
    print(table(['collective', 'per step', 'MB handed over by a process'], rows))
    print(
        f'computed: gradients {found["gradient_bytes"] / 1e6:.3f} MB, keys {found["key_bytes"] / 1e6:.3f} MB\n'
        f'one alone {rates[ONE]:.1f} images/s; each of {processes} {rates[MANY]:.1f}: efficiency '
        '{:.1%} ({:.1%}-{:.1%})'.format(*efficiency)
    )
    return result


def _work(
    rank: int, processes: int, config: Config, setting: Setting, folder: str, barrier: Any, num_threads: int
) -> None:
    torch.set_num_threads(num_threads)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
    if setting.device == 'cuda':
        torch.cuda.set_device(rank)
    torch.manual_seed(0)
    contender = Ours(config, setting.device, autocast=setting.autocast)
    views = random_views(setting.batch_size, setting.image_size, setting.device)
    seconds: dict[str, list[float]] = {ONE: [], MANY: []}
    for round_index in range(setting.rounds + 1):
        barrier.wait()
        alone = _time_steps(contender, views, setting) if rank == 0 else 0.0
        barrier.wait()
        together, communication = _time_together(contender, views, setting, Path(folder, f'round{round_index}'), rank)
        if round_index:
            seconds[ONE].append(alone)
            seconds[MANY].append(together)
    if rank == 0:
        trained = [p for p in contender.model.parameters() if p.requires_grad]
        found = dict(
            seconds=seconds,
            bytes=dict(communication.bytes),
            calls=dict(communication.calls),
            gradient_bytes=sum(p.numel() * 4 for p in trained),
            key_bytes=2 * setting.batch_size * config.model.neck.out_channels * 4,
        )
        torch.save(found, Path(folder, 'result'))


def _time_together(
    contender: Contender, views: list[Tensor], setting: Setting, rendezvous: Path, rank: int
) -> tuple[float, Communication]:
    """Joins the processes, warms up, counts, times, and lets them go again."""
    torch_dist.init_process_group(
        'nccl' if setting.device == 'cuda' else 'gloo',
        init_method=rendezvous.as_uri(),
        rank=rank,
        world_size=int(os.environ['WORLD_SIZE']),
        timeout=timedelta(seconds=300),
    )
    wrapped = MMDistributedDataParallel(
        contender.model, broadcast_buffers=False, find_unused_parameters=False, gradient_as_bucket_view=True
    )
    inner, contender.model = contender.model, wrapped
    try:
        contender.step(views)
        with Communication() as communication:
            contender.step(views)
        torch_dist.barrier()
        return _time_steps(contender, views, setting), communication
    finally:
        contender.model = inner
        torch_dist.destroy_process_group()


def _time_steps(contender: Contender, views: list[Tensor], setting: Setting) -> float:
    """Seconds of a step."""
    contender.step(views)
    return time_call(lambda: [contender.step(views) for _ in range(setting.steps)], setting.device) / setting.steps
