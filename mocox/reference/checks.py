"""One number, or tensor, against the recorded one."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from torch import Tensor


@dataclass
class Check:
    """One comparison.

    Attributes:
        group: What was compared.
        name: Tensor or step with the largest difference.
        difference: That difference, relative to the recorded size.
        share: It as a share of what is tolerated: up to 1 passes.
        field: The recorded field that was judged.
    """

    group: str
    name: str
    difference: float
    share: float
    field: str


def sequence(group: str, ours: list, recorded: list, rtol: float, field: str) -> Iterable[Check]:
    """A number for each step."""
    if len(ours) != len(recorded) or None in ours:
        yield Check(group, f'{len(ours)} values, {len(recorded)} recorded', inf, inf, field)
        return
    for step, (value, reference) in enumerate(zip(ours, recorded, strict=True)):
        difference = relative(abs(value - reference), abs(reference))
        yield Check(group, f'step {step}', difference, difference / rtol, field)


def statistics(
    key: str, tensors: dict[str, Tensor], recorded: dict, atol: float, tolerance: dict, field: str
) -> Iterable[Check]:
    """A tensor's size, sum and number of elements.

    A tolerance has an absolute part; differences are given relative to ``|recorded| + absolute / rtol``, so that a
    tensor whose exact value is zero does not report its rounding noise as a difference of 100 %.
    """
    if key not in tensors or key not in recorded:
        yield Check('', key, inf, inf, field)
        return
    ours, stats, rtol = tensors[key].double(), recorded[key], tolerance['rtol']
    l2, n = stats['l2'], stats['numel']
    if n != ours.numel():
        yield Check('', key, inf, inf, field)
    for difference, size in (
        (abs(ours.norm().item() - l2), l2 + atol / rtol * n**0.5),
        (abs(ours.sum().item() - stats['sum']), max(abs(stats['sum']), l2) + atol / rtol * n),
    ):
        yield Check('', key, difference / size, difference / size / rtol, field)


def elements(group: str, key: str, ours: Tensor, recorded: Tensor, atol: float, rtol: float, field: str) -> Check:
    """Every element, against the largest one."""
    if ours.shape != recorded.shape:
        return Check(group, f'{key}: {tuple(ours.shape)}, recorded {tuple(recorded.shape)}', inf, inf, field)
    size = recorded.double().abs().max().item() + atol / rtol
    difference = relative((ours.double() - recorded.double()).abs().max().item(), size)
    return Check(group, key, difference, difference / rtol, field)


def relative(difference: float, size: float) -> float:
    """The difference as a share of the size, or itself if there is none."""
    return difference / size if size else difference
