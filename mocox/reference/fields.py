"""Every field of a trace: compared, used by the replay, or named with the reason why it is neither."""

import hashlib
import re
from collections.abc import Callable, Iterable
from math import inf
from typing import Any

from safetensors import safe_open

from mocox.reference.case import SUFFIX, Case
from mocox.reference.checks import Check

Spec = dict[str, Any]

# What follows from other fields, or has one value in mocox.
DERIVED: dict[str, Callable[[Spec], Any]] = {
    'format': lambda spec: 'moco-golden/1',
    'train.steps': lambda spec: spec['train']['epochs'] * spec['train']['iters_per_epoch'],
    'train.batch_size': lambda spec: spec['train']['per_rank_batch'] * spec['train']['world_size'],
    'model.tokens': lambda spec: (spec['model']['img_size'] // spec['model']['patch_size']) ** 2 + 1,
    'model.head_dim': lambda spec: spec['model']['embed_dim'] // spec['model']['num_heads'],
    'model.mlp_hidden': lambda spec: round(spec['model']['embed_dim'] * spec['model']['mlp_ratio']),
    'model.stem_channels': lambda spec: [spec['model']['embed_dim'] // n for n in (8, 4, 2, 1, 1)],
    'model.stage_planes': lambda spec: [spec['model']['width'] * 2**i for i in range(len(spec['model']['layers']))],
    'model.expansion': lambda spec: {'basic': 1, 'bottleneck': 4}[spec['model']['block']],
    'model.feature_dim': lambda spec: feature_dim(spec['model']),
    'moco.symmetric': lambda spec: spec['method'] != 'v2',
    'optimizer.decoupled': lambda spec: True,
}
# What no number depends on, and why.
STATED = {
    'case|set|lincls.source_case': 'a name',
    r'reference\..*': 'where the numbers come from',
    'init_kind': 'a name: the initial state is loaded, whatever it is',
    'notes': 'text; the seeds of drop paths are read from it',
    r'schedule\.(lr|m)_formula': 'text: what it gives is compared step by step',
    r'model\.pos_embed': 'text: the positions are tensors of the states',
    r'tolerance\..*\.measured_loss_rel_noise': 'a measurement of the recording',
    r'tolerance\.{other}\..*': 'of the other precision',
    r'expected\..*_{other}': 'of the other precision',
    r'expected\.acc[15](_rank\d+)?': 'recorded in float64',
    r'(final|expected)\.safetensors.*': 'recorded in float64',
}
# What is read in some cases only.
UNREAD = {
    r'schedule\.milestones': 'the learning rate of this case has no steps',
    r'train\.warmup_epochs': 'the recorded learning rates are put in step by step',
    r'optimizer\.base_lr': 'the recorded learning rates are put in step by step',
    r'tolerance\..*': 'of numbers that this case does not have',
}
INPUTS = r'probe\.x|val\d+\.[xy]|step\d+\.(rank\d+\.)?(x|y|x1|x2|idx_shuffle)'


def feature_dim(model: Spec) -> int:
    """Width of the features."""
    if model['arch'] == 'resnet':
        return model['width'] * 2 ** (len(model['layers']) - 1) * (4 if model['block'] == 'bottleneck' else 1)
    if model['arch'] == 'swin':
        return (model.get('embed_dims') or model['embed_dim']) * 2 ** (len(model['depths']) - 1)
    return model['embed_dim']


def consistency(case: Case) -> Iterable[Check]:
    """The fields that follow from others, and the checksums of the files."""
    for name, derive in DERIVED.items():
        section, _, key = name.rpartition('.')
        fields = case.spec.get(section) if section else case.spec
        if fields and key in fields:
            yield _equal(name, fields[key], derive(case.spec))
    if 'val_batches' in case.spec.get('lincls', {}):
        recorded = case.spec['lincls']['val_batches']
        inputs = case.stored('inputs')
        sizes = [len(inputs[name]) for name in sorted(inputs) if re.fullmatch(r'val\d+\.x', name)]
        yield _equal('lincls.val_batches', recorded, sizes)
    channels, height, width = case.stored('inputs')['probe.x'].shape[1:]
    if 'img_size' in case.spec['model']:
        yield _equal('model.img_size', [case.spec['model']['img_size']] * 2, [height, width])
    yield _equal('model.in_chans', case.spec['model'].get('in_chans', 3), channels)
    for name, recorded in case.spec.get('files', {}).items():
        content = (case.folder / name).read_bytes()
        yield _equal('files', recorded, dict(bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))


def _equal(field: str, recorded: Any, expected: Any) -> Check:
    if recorded == expected:
        return Check('consistency', field, 0.0, 0.0, field)
    return Check('consistency', f'{field}={recorded!r}, not {expected!r}', inf, inf, field)


def unknown_numbers(case: Case, checks: list[Check]) -> list[Check]:
    """A failed check for each recorded number that nothing was compared with."""
    numbers = ('expected.', 'expected.safetensors/', 'inputs.safetensors/', 'final.safetensors')
    lost = [name for name, reason in reasons(case, checks).items() if reason == UNKNOWN and name.startswith(numbers)]
    return [Check('not compared', f'{name}: {UNKNOWN}', inf, inf, name) for name in lost]


UNKNOWN = 'mocox does not know this field'


def reasons(case: Case, checks: list[Check]) -> dict[str, str]:
    """Every field: ``compared``, ``used``, or why it is neither, given the checks."""
    judged = {check.field for check in checks}
    return {name: _reason(case, name, judged) for name in field_names(case)}


def _reason(case: Case, name: str, judged: set[str]) -> str:
    if name in judged:
        return 'compared'
    if not name.startswith(('expected', 'final')) and (name in case.spec.read or name in USED_FILES):
        return 'used'
    (other,) = set(SUFFIX.values()) - {SUFFIX[case.precision]}
    for pattern, reason in (STATED | UNREAD).items():
        if reason == 'recorded in float64' and case.precision == 'float64':
            continue
        if re.fullmatch(pattern.replace('{other}', other), name):
            return reason
    return UNKNOWN


USED_FILES = ('init.safetensors', 'fc_init.safetensors', 'inputs.safetensors')


def field_names(case: Case) -> list[str]:
    """The names of all fields: entries of ``case.json``, groups of tensors in the files."""
    found = []
    for name, value in case.spec.items():
        nested = isinstance(value, dict) and name != 'files'
        found += list(_entries(name, value)) if nested else [name]
    for path in sorted(case.folder.glob('*.safetensors')):
        with safe_open(path, 'pt') as file:
            names = set(file.keys())
        if path.stem == 'expected':
            found += sorted(f'{path.name}/{name}' for name in names)
        elif path.stem == 'inputs' and (lost := [name for name in names if not re.fullmatch(INPUTS, name)]):
            found += sorted(f'{path.name}/{name}' for name in lost)
        found += [path.name] if path.stem != 'expected' else []
    return found


def _entries(section: str, values: dict) -> Iterable[str]:
    for name, value in values.items():
        if section == 'tolerance':
            yield from (f'{section}.{name}.{key}' for key in value)
        else:
            yield f'{section}.{name}'
