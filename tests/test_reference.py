"""The recorded traces of the official codes, replayed with every option that must not change a number."""

import json
from pathlib import Path

import pytest
import torch

from mocox import commands
from mocox.reference import Case, compare, replay
from mocox.reference.configs import METHODS
from tests.support import tiny_run
from tests.support.processes import run_processes
from tests.support.traces import CASES, GOLDEN, ONE_PROCESS, VARIANTS, change_case, copy_case, replay_here, replayed


def verify(name: str, precision: str = 'float64', **options) -> dict:
    case = Case.read(GOLDEN / name, precision)
    summary, worst = compare(case, replay(case, **options))
    assert summary['passed'], worst
    return summary


def test_all_cases_are_here():
    assert len(CASES) == 12


@pytest.mark.parametrize(
    ('name', 'precision'),
    [(name, 'float64') for name in ONE_PROCESS] + [(name, 'float32') for name in ONE_PROCESS if name not in VARIANTS],
)
def test_trace(name, precision):
    summary, worst = compare(*replayed(name, precision))
    assert summary['passed'], worst
    assert summary['max_rel_loss'] < (1e-9 if precision == 'float64' else 1e-4)


@pytest.mark.parametrize('name', VARIANTS)
def test_precision_without_numbers_is_refused(name):
    with pytest.raises(ValueError, match="no numbers of precision 'float32'"):
        Case.read(GOLDEN / name, 'float32')


@pytest.mark.dist
@pytest.mark.parametrize('name', [name for name in CASES if name not in ONE_PROCESS])
def test_trace_of_two_processes(name):
    """Each process of v2 has BatchNorm statistics of its own images; the recorded ones are those of the first."""
    summary, worst = compare(*replayed(name))
    assert summary['passed'], worst


def replay_whole_batch(folder: Path) -> tuple[bool, list]:
    METHODS['v2'].norm = 'mocox.SyncBN'  # in the traces of one process, statistics are those of the whole batch
    try:
        summary, worst = compare(*replay_here(folder))
    finally:
        METHODS['v2'].norm = 'BN'
    return summary['passed'], worst


@pytest.mark.dist
@pytest.mark.parametrize(
    'name', ['v1_resnet_sgd', 'v2_resnet_sgd', 'v3_resnet_lars', 'moby', 'fast_moco', 'symmetric_v2']
)
def test_two_processes_give_the_trace_of_the_whole_batch(tmp_path, name):
    """Each has half of it: statistics, keys, queues, gradients and clipping are those of the whole."""
    folder = copy_case(name, tmp_path)
    change_case(folder, 'train', 'world_size', 2)
    change_case(folder, 'train', 'per_rank_batch', Case.read(folder).spec['train']['batch_size'] // 2)
    for passed, worst in run_processes(replay_whole_batch, 2, folder):
        assert passed, worst


def test_chunked_backbone_gives_the_same_trace():
    verify('v3_vit_adamw', chunk_size=3)


@pytest.mark.parametrize('name', ['v3_vit_adamw', 'v3_resnet_lars'])
def test_accumulation_over_equal_micro_batches_gives_the_same_losses(name):
    # loss, gradient, learning rate and momentum of a step are those of its (twice repeated) batch
    case = Case.read(GOLDEN / name)
    result = replay(case, accumulation=2)
    assert result.losses == pytest.approx(case.expected('loss'), rel=1e-9)
    assert result.lr == pytest.approx(case.spec['schedule']['lr'], rel=1e-12)
    assert result.momentum == pytest.approx(case.spec['schedule']['moco_m'], rel=1e-12)


@pytest.mark.parametrize('options', [dict(foreach=False), dict(foreach=True), dict(fused=True)])
def test_every_adamw_gives_the_same_trace(options):
    verify('v3_vit_adamw', optimizer_options=options)


@pytest.mark.dist
def test_tool_starts_the_processes_of_a_trace_and_writes_its_result(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        tiny_run.run_tool('verify_reference.py', GOLDEN / 'v2_resnet_sgd_2proc', '--out', tmp_path / 'result.json')
    assert end.value.code == 0
    assert capsys.readouterr().out.rstrip().endswith('PASSED')
    result = json.loads((tmp_path / 'result.json').read_text())
    assert set(result) == {
        'case', 'precision', 'losses', 'lr', 'momentum', 'reference_losses', 'max_rel_loss', 'max_rel_final', 'passed',
    }  # fmt: skip
    assert result['passed'] and len(result['losses']) == len(result['lr']) == 9


def run_tool(folder: Path) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        commands.main('verify', [str(folder)])
    return end.value.code


@pytest.fixture
def case_copy(tmp_path) -> Path:
    return copy_case('v3_vit_adamw', tmp_path)


def passes_with(folder: Path, section: str | None, key: str, value) -> bool:
    change_case(folder, section, key, value)
    case = Case.read(folder)
    return compare(case, replay(case))[0]['passed']


@pytest.mark.parametrize(
    ('name', 'section', 'key', 'value'),
    [
        ('finetune', None, 'label_smoothing', 0.126),
        ('finetune', 'optimizer', 'no_decay', 'tensors of one dimension, biases, pos_embed'),
        ('finetune', 'optimizer', 'no_decay', 'biases, pos_embed, cls_token'),
        ('fast_moco', 'schedule', 'lr_predictor', [0.3] * 10),
        ('fast_moco', 'optimizer', 'clip_grad', 1.1),
        ('fast_moco', 'moco', 'combs', 3),
        ('symmetric_v2', 'moco', 'm_final', 0.998),
        ('symmetric_v2', 'moco', 'm_cos', False),
    ],
)
def test_every_field_of_a_variant_counts(tmp_path, name, section, key, value):
    assert not passes_with(copy_case(name, tmp_path), section, key, value)


@pytest.mark.parametrize(
    ('section', 'key', 'value'),
    [
        ('moco', 'm', 0.98),
        ('moco', 'm_cos', False),
        ('moco', 'T', 0.21),
        ('optimizer', 'base_lr', 1.6e-4),
        ('optimizer', 'weight_decay', 0.11),
        ('optimizer', 'eps', 1e-7),
        ('optimizer', 'betas', [0.9, 0.99]),
        ('train', 'warmup_epochs', 2),
        ('model', 'stop_grad_conv1', False),
        ('model', 'num_heads', 8),
    ],
)
def test_every_field_counts(case_copy, section, key, value):
    assert not passes_with(case_copy, section, key, value)


def test_tool_names_what_it_does_not_compare(capsys):
    assert run_tool(GOLDEN / 'finetune') == 0
    printed = capsys.readouterr().out.splitlines()
    assert '   1 text; the seeds of drop paths are read from it: notes' in printed
    start = next(number for number, line in enumerate(printed) if line.startswith('fields of the trace: '))
    counts = [int(line.split()[0]) for line in printed[start + 1 : -1]]
    assert printed[start] == f'fields of the trace: {sum(counts)}' and len(counts) == 8


def test_tool_fails_when_a_number_is_off(case_copy, capsys):
    path = case_copy / 'case.json'
    spec = json.loads(path.read_text())
    spec['expected']['loss_fp64'][3] *= 1 + 2e-9
    path.write_text(json.dumps(spec))
    assert run_tool(case_copy) == 1
    assert capsys.readouterr().out.rstrip().endswith('FAILED')


def test_not_a_case(tmp_path, capsys):
    assert run_tool(tmp_path) == 1
    assert 'case.json not found' in capsys.readouterr().err


def test_positions_are_the_recorded_ones():
    from mocox.models.backbones.vit import sincos_position_embedding

    recorded = Case.read(GOLDEN / 'v3_vit_adamw').tensors('init')['module.base_encoder.pos_embed']
    torch.testing.assert_close(sincos_position_embedding((4, 4), 64).double(), recorded, rtol=0, atol=1e-6)
