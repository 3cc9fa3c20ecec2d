"""The recorded traces of the official codes, replayed with every option that must not change a number."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mocox.reference import Case, compare, replay
from tests.support.processes import run_processes

GOLDEN = Path(__file__).parent / 'data' / 'golden'
TOOL = Path(__file__).parents[1] / 'tools' / 'verify_reference.py'
CASES = sorted(p.name for p in GOLDEN.iterdir())
ONE_PROCESS = [name for name in CASES if not name.endswith('2proc')]
VARIANTS = ['fast_moco', 'finetune', 'moby', 'symmetric_v2']  # recorded in float64 alone


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
    summary = verify(name, precision)
    assert summary['max_rel_loss'] < (1e-9 if precision == 'float64' else 1e-4)


@pytest.mark.parametrize('name', VARIANTS)
def test_precision_without_numbers_is_refused(name):
    with pytest.raises(ValueError, match="no numbers of precision 'float32'"):
        Case.read(GOLDEN / name, 'float32')


@pytest.mark.dist
def test_trace_of_two_processes():
    verify('v3_vit_adamw_2proc')


def replay_here(folder: Path) -> tuple[bool, list]:
    case = Case.read(folder)
    summary, worst = compare(case, replay(case))
    return summary['passed'], worst


@pytest.mark.dist
def test_trace_of_two_processes_that_are_there_already():
    """Each process has BatchNorm statistics of its own images; the recorded ones are those of the first."""
    (passed, worst), _ = run_processes(replay_here, 2, GOLDEN / 'v2_resnet_sgd_2proc')
    assert passed, worst


@pytest.mark.dist
@pytest.mark.parametrize('name', ['moby', 'fast_moco', 'symmetric_v2'])
def test_two_processes_give_the_trace_of_the_whole_batch(tmp_path, name):
    """Each has half of it: statistics, keys, both queues, gradients and clipping are those of the whole."""
    folder = copy_case(name, tmp_path)
    change_case(folder, 'train', 'world_size', 2)
    change_case(folder, 'train', 'per_rank_batch', Case.read(folder).spec['train']['batch_size'] // 2)
    for passed, worst in run_processes(replay_here, 2, folder):
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


def run_tool(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def test_tool_writes_its_result(tmp_path):
    done = run_tool(GOLDEN / 'v3_lincls', '--out', tmp_path / 'result.json')
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith('PASSED')
    result = json.loads((tmp_path / 'result.json').read_text())
    assert set(result) == {
        'case', 'precision', 'losses', 'lr', 'momentum', 'reference_losses', 'max_rel_loss', 'max_rel_final', 'passed',
    }  # fmt: skip
    assert result['passed'] and len(result['losses']) == len(result['lr']) == 6


@pytest.fixture
def case_copy(tmp_path) -> Path:
    return copy_case('v3_vit_adamw', tmp_path)


def copy_case(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / name, tmp_path / 'case'))


def change_case(folder: Path, section: str | None, key: str, value) -> None:
    path = folder / 'case.json'
    spec = json.loads(path.read_text())
    (spec[section] if section else spec)[key] = value
    path.write_text(json.dumps(spec))


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


def test_tool_fails_when_a_number_is_off(case_copy):
    path = case_copy / 'case.json'
    spec = json.loads(path.read_text())
    spec['expected']['loss_fp64'][3] *= 1 + 2e-9
    path.write_text(json.dumps(spec))
    done = run_tool(case_copy)
    assert done.returncode == 1 and 'FAILED' in done.stdout


def test_not_a_case(tmp_path):
    done = run_tool(tmp_path)
    assert done.returncode == 1 and 'case.json not found' in done.stderr and 'Traceback' not in done.stderr


def test_positions_are_the_recorded_ones():
    from mocox.models.backbones.vit import sincos_position_embedding

    recorded = Case.read(GOLDEN / 'v3_vit_adamw').tensors('init')['module.base_encoder.pos_embed']
    torch.testing.assert_close(sincos_position_embedding((4, 4), 64).double(), recorded, rtol=0, atol=1e-6)
