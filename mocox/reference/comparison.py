"""Holding a replay against the recorded numbers."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from mocox.reference.case import Case
from mocox.reference.configs import METHODS
from mocox.reference.replays import ReplayResult

STATE_GROUPS = ('parameters', 'momentum parameters', 'predictor', 'BN statistics', 'queue')


@dataclass
class Check:
    """One comparison.

    Attributes:
        group: What was compared.
        name: Tensor or step with the largest difference.
        difference: That difference, relative to the recorded size.
        share: It as a share of what is tolerated: up to 1 passes.
    """

    group: str
    name: str
    difference: float
    share: float


def compare(case: Case, result: ReplayResult) -> tuple[dict, list[Check]]:
    """Hold a replay against the recorded numbers.

    Returns:
        The summary that ``--out`` writes, and the worst comparison of every group.
    """
    tolerance, reference = case.tolerance, case.expected('loss')
    checks = _compare_sequence('loss', result.losses, reference, tolerance['loss_rtol'])
    checks += _compare_sequence('learning rate', result.lr, case.spec['schedule']['lr'], 1e-12)
    momentum = [m for m in result.momentum if m is not None]
    checks += _compare_sequence('momentum', momentum, METHODS[case.spec['method']].momentum(case.spec), 1e-12)
    checks += _compare_state(case, result.state) + _compare_outputs(case, result.outputs)
    if result.validation:
        recorded = case.expected('validation')
        losses = [[v['loss'] for v in values] for values in (result.validation, recorded)]
        checks += _compare_sequence('validation loss', *losses, tolerance['loss_rtol'])
        accuracies = [[v['acc1'] for v in values] for values in (result.validation, recorded)]
        checks += _compare_sequence('validation accuracy', *accuracies, 1e-6)  # recorded in float32
    worst: dict[str, Check] = {}
    for check in checks:
        if check.group not in worst or not check.share <= worst[check.group].share:
            worst[check.group] = check
    summary = dict(
        case=case.spec['case'],
        precision=case.precision,
        losses=result.losses,
        lr=result.lr,
        momentum=momentum,
        reference_losses=reference,
        max_rel_loss=max(c.difference for c in checks if c.group == 'loss'),
        max_rel_final=max(c.difference for c in checks if c.group in STATE_GROUPS),
        passed=all(c.share <= 1 for c in checks),
    )
    return summary, list(worst.values())


def _compare_sequence(group: str, ours: list[float], recorded: list[float], rtol: float) -> list[Check]:
    if len(ours) != len(recorded):
        return [Check(group, f'{len(ours)} values, {len(recorded)} recorded', float('inf'), float('inf'))]
    checks = []
    for step, (value, reference) in enumerate(zip(ours, recorded, strict=True)):
        difference = _relative(abs(value - reference), abs(reference))
        checks.append(Check(group, f'step {step}', difference, difference / rtol))
    return checks


def _state_group(key: str) -> str:
    if any(name in key for name in ('running_', 'num_batches_tracked')):
        return 'BN statistics'
    if 'momentum_encoder' in key or 'encoder_k' in key:
        return 'momentum parameters'
    if 'queue' in key:
        return 'queue'
    return 'predictor' if 'predictor' in key else 'parameters'


def _compare_state(case: Case, state: dict[str, Tensor]) -> list[Check]:
    """Size and sum of every tensor, and in float64 every element too.

    A tolerance has an absolute part; differences are given relative to ``|recorded| + absolute / rtol``, so that a
    tensor whose exact value is zero does not report its rounding noise as a difference of 100 %.
    """
    tolerance, expected = case.tolerance, case.expected('final')
    rtol = tolerance['rtol']
    ignored = METHODS[case.spec['method']].ignored
    lonely = [k for k in set(expected) ^ set(state) if not re.fullmatch(ignored, k)]
    checks = [Check(_state_group(k), k, float('inf'), float('inf')) for k in lonely]
    final = case.stored('final') if case.precision == 'float64' else {}
    for key in sorted(set(expected) & set(state)):
        ours, stats = state[key].double(), expected[key]
        atol = tolerance.get('atol_elem', {}).get(key, tolerance.get('atol_elem_default', 1e-12))
        l2, n = stats['l2'], stats['numel']
        for difference, size in (
            (abs(ours.norm().item() - l2), l2 + atol / rtol * n**0.5),
            (abs(ours.sum().item() - stats['sum']), max(abs(stats['sum']), l2) + atol / rtol * n),
        ):
            checks.append(Check(_state_group(key), key, difference / size, difference / size / rtol))
        if key in final:
            checks.append(_compare_elements(key, ours, final[key], atol, rtol))
    return checks


def _compare_elements(key: str, ours: Tensor, recorded: Tensor, atol: float, rtol: float) -> Check:
    """Against the largest element; a final state that was rounded to float32 is held to 2e-7 of it."""
    rtol = 2e-7 if recorded.dtype == torch.float32 else rtol
    size = recorded.double().abs().max().item() + atol / rtol
    difference = (ours - recorded.double()).abs().max().item() / size
    return Check('elements', key, difference, difference / rtol)


def _compare_outputs(case: Case, outputs: dict[str, Tensor]) -> list[Check]:
    """Probe outputs, element by element."""
    expected = case.tensors('expected')
    tolerance = case.tolerance
    probes = [name.removeprefix('probe.') for name in expected if name.startswith('probe.')]
    checks = []
    for name, atol in tolerance.get('probe_atol', dict.fromkeys(probes, 0.0)).items():
        recorded, ours = expected[f'probe.{name}'].double(), outputs[name].double()
        largest = recorded.abs().max().item()
        difference = (ours - recorded).abs().max().item()
        share = difference / (atol + tolerance['rtol'] * largest)
        checks.append(Check('probe features', name, _relative(difference, largest), share))
    return checks


def _relative(difference: float, size: float) -> float:
    return difference / size if size else difference
