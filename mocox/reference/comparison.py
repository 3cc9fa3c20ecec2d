"""Holding a replay against the recorded numbers."""

import re
from collections.abc import Iterable
from math import inf

import torch
from torch import Tensor

from mocox.reference.case import SUFFIX, Case
from mocox.reference.checks import Check, elements, sequence, statistics
from mocox.reference.configs import METHODS
from mocox.reference.fields import consistency, reasons, unknown_numbers
from mocox.reference.names import rename
from mocox.reference.recorder import ReplayResult

STATE_GROUPS = ('parameters', 'momentum parameters', 'predictor', 'BN statistics', 'queue')


def compare(case: Case, result: ReplayResult) -> tuple[dict, list[Check]]:
    """Hold a replay against the recorded numbers.

    Returns:
        The summary that ``--out`` writes, and the worst comparison of every group.
    """
    checks = all_checks(case, result)
    worst: dict[str, Check] = {}
    for check in checks:
        if check.group not in worst or not check.share <= worst[check.group].share:
            worst[check.group] = check
    summary = dict(
        case=case.spec['case'],
        precision=case.precision,
        losses=result.losses,
        lr=result.lr,
        momentum=[m for m in result.momentum if m is not None],
        reference_losses=case.expected('loss'),
        max_rel_loss=max(c.difference for c in checks if c.group == 'loss'),
        max_rel_final=max(c.difference for c in checks if c.group in STATE_GROUPS),
        passed=all(c.share <= 1 for c in checks),
    )
    return summary, list(worst.values())


def all_checks(case: Case, result: ReplayResult) -> list[Check]:
    """Every comparison, also of the fields with each other."""
    checks = [*_of_steps(case, result), *_of_state(case, result.state), *_of_tensors(case, result)]
    checks += [*_of_statistics(case, result), *_of_names(case, result), *consistency(case)]
    return checks + unknown_numbers(case, checks)


def account(case: Case, result: ReplayResult) -> dict[str, str]:
    """Every field of a trace: ``compared``, ``used``, or the reason why it is neither."""
    return reasons(case, all_checks(case, result))


def _of_steps(case: Case, result: ReplayResult) -> Iterable[Check]:
    """The records of every step and every epoch."""
    spec, method, rtol = case.spec, METHODS[case.spec['method']], case.tolerance['loss_rtol']
    schedule, expected, suffix = spec['schedule'], spec['expected'], SUFFIX[case.precision]
    yield from sequence('loss', result.losses, case.expected('loss'), rtol, f'expected.loss_{suffix}')
    yield from sequence('learning rate', result.lr, schedule['lr'], 1e-12, 'schedule.lr')
    if 'lr_predictor' in schedule:
        recorded = schedule['lr_predictor']
        yield from sequence('learning rate', result.fixed_lr, recorded, 1e-12, 'schedule.lr_predictor')
    recorded, ours = method.momentum(spec), [m for m in result.momentum if m is not None]
    if recorded:
        name = next(name for name in ('moco_m', 'moco_m_after_step') if name in schedule)
        yield from sequence('momentum', ours, recorded, 1e-12, f'schedule.{name}')
        last = [method.final_momentum(spec)]
        yield from sequence('momentum', [result.final_momentum], last, 1e-12, f'schedule.{name}')
    if 'queue_ptr_after_step' in expected:
        recorded = expected['queue_ptr_after_step']
        yield from sequence('queue', result.queue_pointers, recorded, 1e-12, 'expected.queue_ptr_after_step')
    if 'grad_norm_after_clipping' in spec['optimizer']:
        recorded = spec['optimizer']['grad_norm_after_clipping']
        field = 'optimizer.grad_norm_after_clipping'
        yield from sequence('gradients', result.grad_norms, recorded, case.tolerance['rtol'], field)
    for name in expected:
        if found := re.fullmatch(rf'loss_rank(\d+)(_identity_shuffle)?_{suffix}', name):
            steps = result.unshuffled if found[2] else result.rank_losses
            yield from sequence('loss', _of_rank(steps, int(found[1])), expected[name], rtol, f'expected.{name}')
        elif (found := re.fullmatch(r'acc([15])(?:_rank(\d+))?', name)) and case.precision == 'float64':
            of_rank = found[2] or f'acc{found[1]}_rank1' in expected  # otherwise of the whole batch
            processes = [int(found[2] or 0)] if of_rank else range(len(result.rank_losses[0]))
            of_each = [[step[found[1] == '5'] for step in _of_rank(result.accuracies, rank)] for rank in processes]
            shares = [sum(step) / len(step) for step in zip(*of_each, strict=True)]
            yield from sequence('accuracy', shares, expected[name], 1e-6, f'expected.{name}')  # float32
    if f'validation_{suffix}' in expected:
        recorded = case.expected('validation')
        for name in sorted({name for epoch in recorded for name in epoch}):
            measured, reference = ([epoch.get(name) for epoch in epochs] for epochs in (result.validation, recorded))
            tolerated = rtol if name == 'loss' else 1e-6  # accuracies were recorded in float32
            yield from sequence('validation', measured, reference, tolerated, f'expected.validation_{suffix}')


def _of_rank(steps: list[list], rank: int) -> list:
    return [step[rank] for step in steps if rank < len(step)]


def _state_group(key: str) -> str:
    if any(name in key for name in ('running_', 'num_batches_tracked')):
        return 'BN statistics'
    if 'momentum_encoder' in key or 'encoder_k' in key:
        return 'momentum parameters'
    if 'queue' in key:
        return 'queue'
    return 'predictor' if 'predictor' in key else 'parameters'


def _of_state(case: Case, state: dict[str, Tensor]) -> Iterable[Check]:
    """Size and sum of every tensor, and in float64 every element too."""
    field = f'expected.final_{SUFFIX[case.precision]}'
    expected, tolerance = case.expected('final'), case.tolerance
    for key in sorted(_ignoring(case, set(expected) | set(state))):
        for check in statistics(key, state, expected, _absolute(tolerance, 'atol_elem', key), tolerance, field):
            check.group = _state_group(key)
            yield check
    final = case.stored('final') if case.precision == 'float64' else {}
    field = 'final.safetensors'
    for key in sorted(_ignoring(case, set(final))):
        if key in state:
            rtol = 2e-7 if final[key].dtype == torch.float32 else tolerance['rtol']
            atol = _absolute(tolerance, 'atol_elem', key)
            yield elements('elements', key, state[key], final[key], atol, rtol, field)
        else:
            yield Check('elements', key, inf, inf, field)


def _ignoring(case: Case, keys: Iterable[str]) -> set[str]:
    ignored = METHODS[case.spec['method']].ignored
    return {key for key in keys if not re.fullmatch(ignored, key)}


def _by_state_names(case: Case, recorded: dict) -> dict:
    """Parameters that the official code holds under a second name, by the one in its state."""
    return {rename(key, METHODS[case.spec['method']].aliases): value for key, value in recorded.items()}


def _absolute(tolerance: dict, name: str, key: str) -> float:
    return tolerance.get(name, {}).get(key, tolerance.get('atol_elem_default', 1e-12))


def _of_statistics(case: Case, result: ReplayResult) -> Iterable[Check]:
    """The gradient of the first step, and what the optimizer keeps."""
    expected, tolerance, suffix = case.spec['expected'], case.tolerance, SUFFIX[case.precision]
    checks: list[Check] = []
    if (name := f'grad_step0_{suffix}') in expected:
        recorded = _by_state_names(case, expected[name])
        for key in sorted(_ignoring(case, set(recorded) | set(result.gradients))):
            atol = _absolute(tolerance, 'grad0_atol_elem', key)
            checks += statistics(key, result.gradients, recorded, atol, tolerance, f'expected.{name}')
    for check in checks:
        check.group = 'gradients'
    if (name := f'optimizer_state_{suffix}') in expected:
        field, recorded = f'expected.{name}', _by_state_names(case, expected[name])
        for key in sorted(_ignoring(case, set(recorded) | set(result.optimizer_state))):
            ours, theirs = result.optimizer_state.get(key, {}), recorded.get(key, {})
            for kind in sorted(set(ours) | set(theirs)):
                label = f'{key}: {kind}'
                if kind in ours and isinstance(theirs.get(kind), float):  # a counter, the same for all elements
                    yield from sequence('optimizer', [ours[kind].max().item()], [theirs[kind]], 1e-12, field)
                    continue
                tensors = {label: ours[kind]} if kind in ours else {}
                numbers = {label: theirs[kind]} if kind in theirs else {}
                checks += statistics(label, tensors, numbers, 1e-12, tolerance, field)
    for check in checks:
        check.group = check.group or 'optimizer'
        yield check


def _of_names(case: Case, result: ReplayResult) -> Iterable[Check]:
    """The trained tensors, and the order in which the official optimizer holds all of them."""
    if 'trainable' in case.spec:
        recorded = _by_state_names(case, dict.fromkeys(case.spec['trainable']))
        for key in sorted(_ignoring(case, set(recorded) ^ set(result.gradients))):
            yield Check('names', key, inf, inf, 'trainable')
        yield Check('names', f'{len(result.gradients)} learn', 0.0, 0.0, 'trainable')
    if 'param_order' in case.spec:
        recorded = _by_state_names(case, dict.fromkeys(case.spec['param_order']))
        order = [key for key in recorded if key in _ignoring(case, [key])]
        ours = [key for key in result.state if key in set(order)]
        if METHODS[case.spec['method']].in_official_order:
            wrong = [a for a, b in zip(order, ours, strict=False) if a != b]
        else:
            wrong = sorted(set(order) - set(ours))
        difference = inf if wrong or len(order) != len(ours) else 0.0
        yield Check('names', (wrong or [f'{len(ours)} parameters'])[0], difference, difference, 'param_order')


def _of_tensors(case: Case, result: ReplayResult) -> Iterable[Check]:
    """Outputs for the probe images, and in float64 those inside of the first step, element by element."""
    tolerance, rtol = case.tolerance, case.tolerance['rtol']
    ours = {f'probe.{name}': output for name, output in result.outputs.items()}
    if case.precision == 'float64':
        for name, outputs in result.first_step.items():
            ours |= {f'step0.rank{rank}.{name}': x for rank, x in enumerate(outputs)}
            ours[f'step0.{name}'] = torch.cat(outputs)
    recorded = case.tensors('expected')
    for name in sorted(recorded):
        field = f'expected.safetensors/{name}'
        step, _, last = name.rpartition('.')
        of_first = step == 'step0' and f'step0.rank1.{last}' in recorded  # otherwise of the whole batch
        values = ours.get(f'step0.rank0.{last}' if of_first else name)
        if values is None:
            continue
        group = 'probe features' if step == 'probe' else 'first step'
        default = tolerance.get('atol_elem_default', 0.0)
        atol = tolerance.get('probe_atol', {}).get(last, 0.0) if step == 'probe' else default
        yield elements(group, name, values, recorded[name], atol, rtol, field)
