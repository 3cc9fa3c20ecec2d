"""Several processes against one: images per second of each, and the bytes they exchange in a step."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

from lab.benchmark.contender import Contender, random_views
from lab.benchmark.report import Result, device_name, table
from lab.benchmark.step import (
    LARGEST_COMPARED_BATCH,
    NUM_COMPARED_STEPS,
    TOLERANCES,
    Setting,
    build,
    check_losses,
    full_float32,
)
from lab.benchmark.timing import Timings, time_call

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


def benchmark_scaling(config: Config, setting: Setting, processes: int, with_peer: bool = False) -> Result:
    """Times a step of one process alone and of all together, in turn; the batch is that of each process.

    The share of the limit is the efficiency: images per second of each of many over those of one alone. So is the
    ratio, unless there is a peer: then it is our images per second over its, all processes together.

    Raises:
        ValueError: Fewer than two processes, or fewer GPUs than processes; losses that differ from the peer's.
    """
    if processes < 2:
        raise ValueError(f'--processes {processes}: at least 2 are compared with 1')
    if setting.device == 'cuda' and torch.cuda.device_count() < processes:
        raise ValueError(f'--processes {processes}: there are {torch.cuda.device_count()} GPUs')
    # Built here as well: what cannot be built or compared is said once, and not by every process.
    contenders = build(config, setting, with_peer, processes=processes)
    names, remarks = [c.name for c in contenders], contenders[-1].remarks
    del contenders
    differences = {}
    for remark in remarks:
        print(f'  {names[-1]}: {remark}')
    if with_peer:
        for dtype, losses in _spawn(_compare, processes, config, setting).items():
            differences[dtype] = check_losses(losses, getattr(torch, dtype))
    found = _spawn(_measure, processes, config, setting, with_peer)
    times = Timings(found['seconds'])
    rates = {name: setting.batch_size / times.median(name) for name in found['seconds']}
    efficiencies = {name: times.speedup(f'{name}, {MANY}', f'{name}, {ONE}') for name in names}
    efficiency = efficiencies['ours']
    ratio = times.speedup(f'ours, {MANY}', f'{names[1]}, {MANY}') if with_peer else efficiency
    result = Result(
        'scaling',
        ours=rates[f'ours, {MANY}'],
        theirs=rates[f'{names[1]}, {MANY}'] if with_peer else None,
        ratio=ratio.median,
        ratio_min=ratio.smallest,
        ratio_max=ratio.largest,
        share_of_limit=efficiency.median,
        max_loss_difference=max(differences.values(), default=None),
        device=f'{processes} x {device_name(setting.device)}',
        details=dict(
            unit='images per second and process',
            processes=processes,
            setting=vars(setting),
            images_per_second_of_one_alone=rates[f'ours, {ONE}'],
            images_per_second=rates,
            efficiencies=efficiencies,
            bytes_per_step=found['bytes']['ours'],
            collectives_per_step=found['calls']['ours'],
            gradient_bytes=found['gradient_bytes'],
            key_bytes=found['key_bytes'],
            loss_differences=differences,
            remarks=remarks,
        ),
    )
    if with_peer:
        result.details['bytes_per_step_of_the_peer'] = found['bytes'][names[1]]
        result.details['collectives_per_step_of_the_peer'] = found['calls'][names[1]]
    rows = [
        [name, collective, str(found['calls'][name][collective]), f'{size / 1e6:.3f}']
        for name in names
        for collective, size in found['bytes'][name].items()
    ]
    print(table(['who', 'collective', 'per step', 'MB handed over by a process'], rows))
    print(f'computed: gradients {found["gradient_bytes"] / 1e6:.3f} MB, keys {found["key_bytes"] / 1e6:.3f} MB')
    for name in names:
        print(
            f'{name}: one alone {rates[f"{name}, {ONE}"]:.1f} images/s; each of {processes} '
            f'{rates[f"{name}, {MANY}"]:.1f}: efficiency ' + '{:.1%} ({:.1%}-{:.1%})'.format(*efficiencies[name])
        )
    if with_peer:
        print('ours over theirs, all together: {:.2f} ({:.2f}-{:.2f}) times as fast'.format(*ratio))
    return result


def _spawn(work: Callable[..., dict], processes: int, *args: Any) -> dict:
    """Return the result of ``work(rank, folder, barrier, *args)`` on rank 0."""
    with tempfile.TemporaryDirectory() as folder:
        barrier = multiprocessing.get_context('spawn').Barrier(processes)
        multiprocessing.spawn(_run, (work, processes, folder, barrier, torch.get_num_threads(), args), nprocs=processes)
        return torch.load(Path(folder, 'result'), weights_only=True)


def _run(
    rank: int, work: Callable[..., dict], processes: int, folder: str, barrier: Any, num_threads: int, args: tuple
) -> None:
    torch.set_num_threads(num_threads)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    result = work(rank, folder, barrier, *args)
    if rank == 0:
        torch.save(result, Path(folder, 'result'))


def _compare(rank: int, folder: str, barrier: Any, config: Config, setting: Setting) -> dict[str, dict]:
    """Losses over a few optimizer steps of all processes together, by precision and contender; no two images equal."""
    batch_size = min(setting.batch_size, LARGEST_COMPARED_BATCH)
    found = {}
    for dtype in TOLERANCES:
        views = random_views(batch_size, setting.image_size, setting.device, dtype, seed=rank)
        contenders = build(config, setting, True, dtype, amp=False, processes=int(os.environ['WORLD_SIZE']))
        losses = {}
        for contender in contenders:
            with _joined(contender, setting.device, Path(folder, f'{dtype}, {contender.name}')), full_float32():
                losses[contender.name] = [_mean(contender.step(views)) for _ in range(NUM_COMPARED_STEPS)]
        found[str(dtype).removeprefix('torch.')] = losses
    return found


def _mean(loss: Tensor) -> float:
    """The mean over all processes; ours logs it already, mmpretrain logs that of each process."""
    torch_dist.all_reduce(loss)
    return loss.item() / torch_dist.get_world_size()


def _measure(rank: int, folder: str, barrier: Any, config: Config, setting: Setting, with_peer: bool) -> dict[str, Any]:
    contenders = build(config, setting, with_peer, processes=int(os.environ['WORLD_SIZE']))
    views = random_views(setting.batch_size, setting.image_size, setting.device, seed=rank)
    seconds: dict[str, list[float]] = {f'{c.name}, {how}': [] for c in contenders for how in (ONE, MANY)}
    counted: dict[str, Communication] = {}
    for round_index in range(setting.rounds + 1):
        for contender in contenders:
            barrier.wait()
            alone = _time_steps(contender, views, setting) if rank == 0 else 0.0
            barrier.wait()
            with _joined(contender, setting.device, Path(folder, f'{round_index}, {contender.name}')):
                for _ in range(2):  # in the second step DistributedDataParallel arranges its buckets anew
                    contender.step(views)
                with Communication() as counted[contender.name]:
                    contender.step(views)
                torch_dist.barrier()
                together = _time_steps(contender, views, setting)
            if round_index:
                seconds[f'{contender.name}, {ONE}'].append(alone)
                seconds[f'{contender.name}, {MANY}'].append(together)
    return dict(
        seconds=seconds,
        bytes={name: dict(communication.bytes) for name, communication in counted.items()},
        calls={name: dict(communication.calls) for name, communication in counted.items()},
        gradient_bytes=sum(p.numel() * 4 for p in contenders[0].model.parameters() if p.requires_grad),
        key_bytes=2 * setting.batch_size * config.model.neck.out_channels * 4,
    )


@contextmanager
def _joined(contender: Contender, device: str, rendezvous: Path) -> Iterator[None]:
    """Join the processes with this contender's model in DistributedDataParallel, and release them afterwards."""
    torch_dist.init_process_group(
        'nccl' if device == 'cuda' else 'gloo',
        init_method=rendezvous.as_uri(),
        rank=int(os.environ['RANK']),
        world_size=int(os.environ['WORLD_SIZE']),
        timeout=timedelta(seconds=300),
    )
    inner = contender.model
    contender.model = MMDistributedDataParallel(
        inner,
        broadcast_buffers=False,
        find_unused_parameters=contender.find_unused_parameters,
        gradient_as_bucket_view=True,
    )
    try:
        yield
    finally:
        contender.model = inner
        torch_dist.destroy_process_group()


def _time_steps(contender: Contender, views: list[Tensor], setting: Setting) -> float:
    """Seconds of a step."""
    contender.step(views)
    return time_call(lambda: [contender.step(views) for _ in range(setting.steps)], setting.device) / setting.steps
