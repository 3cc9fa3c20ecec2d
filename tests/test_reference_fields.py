"""No field of a trace is read over: each is compared, used by the replay, or named with a reason."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from mocox.reference import Case, account, compare
from mocox.reference.case import Fields
from mocox.reference.comparison import all_checks
from mocox.reference.configs import build_config
from mocox.reference.fields import UNKNOWN, field_names
from tests.support.traces import CASES, GOLDEN, ONE_PROCESS, VARIANTS, replayed

REPLAYED = [name if name in ONE_PROCESS else pytest.param(name, marks=pytest.mark.dist) for name in CASES]
# What every trace was recorded for; nothing here may be without a comparison.
NUMBERS = {'expected.loss_fp64', 'expected.final_fp64', 'final.safetensors', 'schedule.lr', 'train.steps', 'files',
           'trainable', 'format'}  # fmt: skip
OTHER_REASONS = {
    'a name', 'where the numbers come from', 'of the other precision', 'a measurement of the recording',
    'a name: the initial state is loaded, whatever it is', 'text; the seeds of drop paths are read from it',
    'text: what it gives is compared step by step', 'text: the positions are tensors of the states',
    'the learning rate of this case has no steps', 'the recorded learning rates are put in step by step',
}  # fmt: skip


def changed(value: Any, leaf: str) -> Any:
    """The last entry of the last entry ... a little off; of statistics, the one of the name ``leaf``."""
    if isinstance(value, dict):
        key = leaf if leaf in value else list(value)[-1]
        return value | {key: changed(value[key], leaf)}
    if isinstance(value, list):
        return [*value[:-1], changed(value[-1], leaf)]
    if isinstance(value, str):
        return value + 'x'
    return not value if isinstance(value, bool) else value + 1e-3 * (1 + abs(value))


@dataclass
class OffCase(Case):
    """A case in which the last tensor of every recorded file is a little off, or one more is there."""

    more: str = ''

    def stored(self, name: str) -> dict[str, Tensor]:
        tensors = super().stored(name)
        if name in ('expected', 'final'):
            for key in tensors:
                tensors[key] = tensors[key] + (1 + tensors[key].abs().max()) * 1e-3
        return tensors | ({self.more: torch.ones(1)} if self.more and name == 'final' else {})


@pytest.mark.parametrize('name', REPLAYED)
def test_every_field_is_accounted_for(name):
    case, result = replayed(name)
    reasons = account(case, result)
    assert set(reasons) == set(field_names(case)) and len(reasons) > 40
    numbers = {field for field in reasons if field.startswith(('expected', 'final'))}
    of_others = {field for field in numbers if field.endswith('_fp32')}
    assert {reasons[field] for field in (numbers | NUMBERS) - of_others} == {'compared'}
    assert set(reasons.values()) <= OTHER_REASONS | {'compared', 'used'}


@pytest.mark.parametrize('name', REPLAYED)
@pytest.mark.parametrize('leaf', ['l2', 'sum', 'numel'])
def test_every_compared_field_can_fail(name, leaf):
    case, result = replayed(name)
    compared = {field for field, reason in account(case, result).items() if reason == 'compared'}
    spec = deepcopy(case.spec)
    for field in compared - {'train.batch_size', 'model.in_chans', 'model.img_size'}:  # others follow from these
        section, _, key = field.rpartition('.')
        if 'safetensors' not in field:
            fields = dict.__getitem__(spec, section) if section else spec
            dict.__setitem__(fields, key, changed(dict.__getitem__(fields, key), leaf))
    failed = {
        check.field for check in all_checks(OffCase(case.folder, spec, 'float64'), result) if not check.share <= 1
    }
    assert compared - failed <= {'train.batch_size', 'model.in_chans', 'model.img_size'}


@pytest.mark.parametrize('name', [name for name in ONE_PROCESS if name not in VARIANTS])
def test_every_field_is_accounted_for_in_float32(name):
    case, result = replayed(name, 'float32')
    reasons = account(case, result)
    compared = {field for field, reason in reasons.items() if reason == 'compared'}
    assert {field for field in reasons if field.startswith('expected') and field.endswith('_fp32')} <= compared
    assert set(reasons.values()) <= OTHER_REASONS | {'compared', 'used', 'recorded in float64'}


def passes(case: Case, result: Any) -> bool:
    return compare(case, result)[0]['passed']


def with_field(case: Case, section: str, key: str, value: Any) -> Case:
    spec = deepcopy(dict(case.spec))
    spec[section] = dict(spec[section]) | {key: value}
    read = set(case.spec.read)
    return Case(case.folder, Fields(spec, read), case.precision)


def test_numbers_that_nobody_knows_fail():
    case, result = replayed('finetune')
    assert passes(case, result)
    assert not passes(with_field(case, 'expected', 'acc7_fp64', [1.0]), result)
    assert not passes(with_field(case, 'expected', 'acc1_rank3', [1.0] * 8), result)
    assert not passes(OffCase(case.folder, case.spec, 'float64', more='blocks.9.weight'), result)


def test_settings_that_nobody_knows_are_named():
    case, result = replayed('finetune')
    case = with_field(case, 'optimizer', 'warp_factor', 9)
    assert account(case, result)['optimizer.warp_factor'] == UNKNOWN


def test_every_derived_field_is_held_to_what_it_follows_from():
    case, result = replayed('finetune')
    for section, key, value in (
        ('train', 'batch_size', 7),
        ('model', 'img_size', 24),
        ('model', 'in_chans', 4),
        ('model', 'tokens', 18),
        ('files', 'final.safetensors', dict(bytes=1, sha256='0')),
    ):
        assert not passes(with_field(case, section, key, value), result), key


@pytest.mark.parametrize('name', ['finetune', 'moby'])
def test_another_kind_of_backbone_is_refused(name):
    case = with_field(Case.read(GOLDEN / name), 'model', 'arch', 'resnet')
    with pytest.raises(ValueError, match=r"model\.arch='resnet' is not one of \['"):
        build_config(case, 'nowhere')
