"""The training step: views on the device, forward pass, backward pass, optimizer, momentum update."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmengine.config import Config
from torch import nn

from lab.benchmark import host_syncs, roofline
from lab.benchmark.contender import Contender, random_views
from lab.benchmark.mocox_contender import Ours
from lab.benchmark.report import Result, device_name, table
from lab.benchmark.timing import Timings, interleave

# Largest difference of two losses that rounding explains, a few steps after the same weights.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 2e-3}
NUM_COMPARED_STEPS = 4
LARGEST_COMPARED_BATCH = 32
MOMENTUM_UPDATE, OFFICIAL = 'momentum update', 'official formula'


@dataclass(frozen=True)
class Setting:
    """Settings of a measurement.

    Args:
        batch_size: Images per step.
        image_size: Side of the views in pixels.
        device: ``cpu`` or ``cuda``.
        rounds: Rounds that count.
        steps: Training steps per round.
    """

    batch_size: int
    image_size: int
    device: str
    rounds: int = 7
    steps: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ValueError(f'--batch {self.batch_size}: at least 2, for BatchNorm needs two values')

    @property
    def autocast(self) -> str | None:
        """bfloat16 on a GPU, no mixed precision on a CPU."""
        return 'bfloat16' if self.device == 'cuda' else None


def benchmark_step(config: Config, setting: Setting, with_peer: bool) -> Result:
    """Compare losses, then time whole steps and their parts; print results as they come.

    Raises:
        ValueError: The losses of the two sides differ: they do not compute the same thing.
    """
    differences = compare_losses(config, setting) if with_peer else {}
    contenders = build(config, setting, with_peer)
    for remark in contenders[-1].remarks:
        print(f'  {contenders[-1].name}: {remark}')
    views = random_views(setting.batch_size, setting.image_size, setting.device)
    counts = {c.name: count_reads(c, views, setting.device) for c in contenders}
    parts = time_parts(contenders, views, setting)
    rate = roofline.matrix_rate(setting.device, getattr(torch, setting.autocast or 'float32'))
    updated = sum(p.numel() for p in contenders[0].model.momentum_encoder.parameters())
    flops = roofline.step_flops(contenders[0].model, views[0].shape[1:])
    rates = {c.name: setting.batch_size * setting.steps / parts['step'].median(c.name) for c in contenders}
    theirs = contenders[1].name if with_peer else None
    print(_report(parts, contenders, setting))
    result = Result(
        'step',
        ours=rates['ours'],
        share_of_limit=rates['ours'] * flops / rate,
        max_loss_difference=max(differences.values(), default=None),
        device=device_name(setting.device),
        details=dict(
            unit='images per second',
            setting=vars(setting),
            precision={c.name: _precision(c) for c in contenders},
            flops_per_image=flops,
            matrix_rate=rate,
            momentum_update_limit_ms=12e3 * updated / roofline.memory_rate(setting.device),
            scalar_reads_per_step=counts,
            loss_differences=differences,
            milliseconds={name: _milliseconds(times, contenders) for name, times in parts.items()},
            remarks=contenders[-1].remarks,
        ),
    )
    if theirs:
        result.theirs = rates[theirs]
        result.ratio, result.ratio_min, result.ratio_max = parts['step'].speedup('ours', theirs)
    print(_summary(result))
    return result


def build(
    config: Config,
    setting: Setting,
    with_peer: bool,
    dtype: torch.dtype = torch.float32,
    amp: bool = True,
    processes: int = 1,
) -> list[Contender]:
    """Ours, and the peer with the same weights."""
    if with_peer:
        from lab.benchmark.mmpretrain_peer import MMPretrain, comparable

        config = comparable(config)
    torch.manual_seed(0)
    ours = Ours(config, setting.device, dtype, setting.autocast if amp else None)
    if not with_peer:
        return [ours]
    return [ours, MMPretrain(ours, config, setting.device, dtype, amp and setting.device == 'cuda', processes)]


def compare_losses(config: Config, setting: Setting) -> dict[str, float]:
    """Largest difference of the losses over a few optimizer steps from the same weights, for each precision.

    Raises:
        ValueError: It is more than rounding.
    """
    batch_size = min(setting.batch_size, LARGEST_COMPARED_BATCH)
    differences = {}
    for dtype in TOLERANCES:
        views = random_views(batch_size, setting.image_size, setting.device, dtype)
        contenders = build(config, setting, True, dtype, amp=False)
        with full_float32():
            losses = {c.name: [c.step(views).item() for _ in range(NUM_COMPARED_STEPS)] for c in contenders}
        differences[str(dtype).removeprefix('torch.')] = check_losses(losses, dtype)
    return differences


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep cuDNN from rounding float32 to TF32, which two sides that merge views in other ways do differently."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def check_losses(losses: dict[str, list[float]], dtype: torch.dtype) -> float:
    """Print the losses of both sides, step by step; return their largest difference.

    Raises:
        ValueError: It is more than rounding.
    """
    first, *_ = names = list(losses)
    check_moving(losses[first], first)
    check_equal(list(losses.values()), names, TOLERANCES[dtype])
    difference = max(abs(a - b) for a, b in zip(*losses.values()))
    print(
        f'losses of {len(losses[first])} steps, {str(dtype).removeprefix("torch.")}: {_numbers(losses[first])}; '
        f'largest difference {difference:.1e}'
    )
    return difference


def check_moving(losses: list[float], name: str) -> None:
    """Refuse losses that stand still: training does nothing, and nothing would be compared.

    Raises:
        ValueError: Two of them are equal.
    """
    if len(set(losses)) < len(losses):
        raise ValueError(f'no time was taken: the loss of {name} does not change ({_numbers(losses)})')


def check_equal(losses: list[list[float]], names: list[str], tolerance: float) -> None:
    """Refuse losses that differ by more than rounding.

    Args:
        losses: Of each contender, step by step.
        names: Of the contenders.
        tolerance: Largest difference allowed.

    Raises:
        ValueError: They differ, or are not finite.
    """
    reference = losses[0]
    for name, other in zip(names, losses):
        if not max(abs(a - b) for a, b in zip(reference, other)) <= tolerance:  # also true for NaN
            raise ValueError(
                f'no time was taken: the losses differ by more than {tolerance:.0e}, so the two sides do not compute '
                f'the same. {names[0]}: {_numbers(reference)}; {name}: {_numbers(other)}'
            )


def count_reads(contender: Contender, views: list[torch.Tensor], device: str) -> int:
    """Numbers read back to the host in one step, after one step to warm up."""
    contender.step(views)
    count = host_syncs.device_reads if device == 'cuda' else host_syncs.scalar_reads
    return count(lambda: contender.step(views))


def time_parts(contenders: list[Contender], views: list[torch.Tensor], setting: Setting) -> dict[str, Timings]:
    """Seconds per round of the whole step (``steps`` of them) and of its parts (one each)."""

    def time(part: Callable[[Contender], object], repeats: int = 1, **others: Callable[[], None]) -> Timings:
        def repeat(contender: Contender) -> Callable[[], None]:
            return lambda: [part(contender) for _ in range(repeats)] and None

        return interleave({c.name: repeat(c) for c in contenders} | others, setting.rounds, setting.device)

    parts = {'step': time(lambda c: c.step(views), setting.steps)}
    parts['forward and backward'] = time(lambda c: c.forward_backward(views))  # leaves the optimizer its gradients
    parts['optimizer'] = time(Contender.update_weights)
    official = {OFFICIAL: official_momentum_update(contenders[0].model)}
    parts[MOMENTUM_UPDATE] = time(lambda c: c.update_momentum(), **official)
    return parts


def official_momentum_update(model: nn.Module) -> Callable[[], None]:
    """The update as its equation is written, with new tensors for every weight; leaves the model as it is.

    Source: arXiv 1911.05722, equation 2; the official code of all versions computes it in this way.
    """
    keys = [p.detach().clone() for p in model.momentum_encoder.parameters()]
    queries = [*model.backbone.parameters(), *model.neck.parameters()]
    m = model.momentum

    def update() -> None:
        for k, q in zip(keys, queries, strict=True):
            k.data = k.data * m + q.data * (1 - m)

    return update


def _precision(contender: Contender) -> str:
    dtype = getattr(contender.optim_wrapper, 'dtype', None) or getattr(contender.optim_wrapper, 'cast_dtype', None)
    if type(contender.optim_wrapper).__name__ == 'AmpOptimWrapper':
        return f'{dtype or torch.float16} autocast'
    return str(next(contender.model.parameters()).dtype)


def _milliseconds(times: Timings, contenders: list[Contender]) -> dict[str, object]:
    found: dict[str, object] = {c.name: times.median(c.name) * 1e3 for c in contenders}
    if len(contenders) > 1:
        found['ratio'], found['ratio_min'], found['ratio_max'] = times.speedup('ours', contenders[1].name)
    if OFFICIAL in times.seconds:
        ratio = times.speedup('ours', OFFICIAL)
        found['official_formula'] = times.median(OFFICIAL) * 1e3
        found |= dict(zip(('ratio_to_official', 'ratio_to_official_min', 'ratio_to_official_max'), ratio))
    return found


def _report(parts: dict[str, Timings], contenders: list[Contender], setting: Setting) -> str:
    rows = []
    for part, times in parts.items():
        steps = setting.steps if part == 'step' else 1
        row = [part, *(_spread(times, c.name, steps) for c in contenders)]
        if len(contenders) > 1:
            row.append('{:.2f} ({:.2f}-{:.2f})'.format(*times.speedup('ours', contenders[1].name)))
        rows.append(row)
    header = ['ms: median (range)', *(c.name for c in contenders), *(['ratio (range)'] if len(contenders) > 1 else [])]
    return table(header, rows)


def _spread(times: Timings, name: str, steps: int) -> str:
    values = [1e3 * seconds / steps for seconds in (times.median(name), *times.spread(name))]
    return '{:.2f} ({:.2f}-{:.2f})'.format(*values)


def _summary(result: Result) -> str:
    details = result.details
    lines = [f'ours {result.ours:.1f} images/s']
    if result.ratio is not None:
        lines[0] += f', theirs {result.theirs:.1f}: {result.ratio:.2f} times as fast'
    lines.append(
        f'{result.share_of_limit:.1%} of the limit: {details["flops_per_image"] / 1e9:.2f} GFLOP per image at the '
        f'{details["matrix_rate"] / 1e12:.3f} TFLOP/s of a matrix product in this run'
    )
    lines.append(
        f'momentum update: {details["momentum_update_limit_ms"]:.2f} ms would be two reads and a write of every weight '
        'at the memory rate of this run'
    )
    update = details['milliseconds'][MOMENTUM_UPDATE]
    lines.append(
        f'momentum update as the official code writes it, with new tensors: {update["official_formula"]:.2f} ms, '
        f'{update["ratio_to_official"]:.2f} ({update["ratio_to_official_min"]:.2f}-'
        f'{update["ratio_to_official_max"]:.2f}) times as long as ours'
    )
    lines.append(f'numbers read back from the device per step: {details["scalar_reads_per_step"]}')
    return '\n'.join(lines)


def _numbers(values: list[float]) -> str:
    return ' '.join(f'{value:.6f}' for value in values)
