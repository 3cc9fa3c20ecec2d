import json

import pytest

from mocox.benchmark import scaling
from mocox.benchmark.run import run
from tests.test_benchmark.tiny import TINY_VIT, VIT


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_against_one(tmp_path):
    out = tmp_path / 'scaling.json'
    run('scaling', None, VIT, TINY_VIT, 4, 32, 'cpu', rounds=1, threads=1, json=str(out))
    result = json.loads(out.read_text())
    details = result['details']
    assert result['ratio'] == result['share_of_limit'] > 0
    assert result['ours'] > 0 and details['images_per_second_of_one_alone'] > 0
    counted = details['bytes_per_step']
    # Keys are all that is gathered; all-reduced are gradients, BatchNorm's sums and the logged loss.
    assert sum(size for name, size in counted.items() if 'gather' in name) == details['key_bytes'] == 2 * 4 * 16 * 4
    assert details['gradient_bytes'] < counted['allreduce'] < 1.1 * details['gradient_bytes']


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_side_by_side_with_equal_losses(capsys):
    result = run('scaling', 'mmpretrain', VIT, TINY_VIT, 4, 32, 'cpu', rounds=1, threads=1)
    assert result.details['loss_differences']['float64'] <= 1e-12
    assert result.theirs > 0 and result.ratio_min <= result.ratio <= result.ratio_max
    assert result.share_of_limit == result.details['efficiencies']['ours'].median
    keys = sum(size for name, size in result.details['bytes_per_step_of_the_peer'].items() if 'gather' in name)
    assert keys == result.details['key_bytes']
    printed = capsys.readouterr().out
    assert 'losses of 4 steps, float64' in printed
    assert "mmpretrain: SyncBN computed by that of mocox: torch's needs a GPU" in printed


def test_no_time_is_taken_where_the_losses_of_the_processes_differ(monkeypatch):
    losses = dict(float64=dict(ours=[2.0, 1.0], mmpretrain=[2.0, 1.1]))
    monkeypatch.setattr(scaling, '_spawn', lambda work, *args: losses if work is scaling._compare else pytest.fail())
    with pytest.raises(ValueError, match='no time was taken: the losses differ'):
        run('scaling', 'mmpretrain', VIT, TINY_VIT, 4, 32, 'cpu')


def test_mistakes():
    with pytest.raises(ValueError, match='--processes 1'):
        run('scaling', None, VIT, TINY_VIT, 4, 32, 'cpu', processes=1)
    with pytest.raises(ValueError, match='--processes 0'):
        run('scaling', None, VIT, TINY_VIT, 4, 32, 'cpu', processes=0)
