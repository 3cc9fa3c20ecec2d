import json

import pytest

from lab.benchmark import scaling
from lab.benchmark.run import run
from tests.test_lab.test_benchmark.tiny import TINY_VIT, VIT


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_side_by_side_with_equal_losses(tmp_path, capsys):
    out = tmp_path / 'scaling.json'
    run('scaling', 'mmpretrain', VIT, TINY_VIT, 4, 32, 'cpu', rounds=1, threads=1, json=str(out))
    result = json.loads(out.read_text())
    details = result['details']
    assert details['loss_differences']['float64'] <= 1e-12
    assert result['ours'] > 0 and result['theirs'] > 0 and details['images_per_second_of_one_alone'] > 0
    assert result['ratio_min'] <= result['ratio'] <= result['ratio_max']
    assert result['share_of_limit'] == details['efficiencies']['ours'][0] > 0
    # Gathered are keys, and mean, variance and count of each BatchNorm (two views; projector, its momentum copy and
    # predictor); all-reduced are gradients, BatchNorm's sums and the logged loss.
    statistics = 2 * 4 * (2 * _statistics(layers=(32, 32, 16)) + _statistics(layers=(32, 16)))
    assert details['key_bytes'] == 2 * 4 * 16 * 4
    for counted in (details['bytes_per_step'], details['bytes_per_step_of_the_peer']):
        gathered = sum(size for name, size in counted.items() if 'gather' in name)
        assert gathered == details['key_bytes'] + statistics
    assert not any('broadcast' in name for name in details['bytes_per_step'])
    assert details['gradient_bytes'] < details['bytes_per_step']['allreduce'] < 1.1 * details['gradient_bytes']
    printed = capsys.readouterr().out
    assert 'losses of 4 steps, float64' in printed
    assert "mmpretrain: SyncBN computed by that of mocox: torch's needs a GPU" in printed


def _statistics(layers: tuple[int, ...]) -> int:
    return sum(2 * width + 1 for width in layers)


def test_alone_the_ratio_is_the_efficiency(monkeypatch):
    seconds = {f'ours, {scaling.ONE}': [1.0, 1.0, 1.0], f'ours, {scaling.MANY}': [2.0, 4.0, 1.6]}
    counted = dict(bytes=dict(ours={'allreduce': 5}), calls=dict(ours={'allreduce': 1}), gradient_bytes=4, key_bytes=1)
    monkeypatch.setattr(scaling, '_spawn', lambda work, *args: dict(seconds=seconds, **counted))
    result = run('scaling', None, VIT, TINY_VIT, 4, 32, 'cpu')
    assert (result.ratio, result.ratio_min, result.ratio_max) == (0.5, 0.25, 0.625)
    assert result.share_of_limit == 0.5
    assert result.ours == 2  # 4 images in 2 s
    assert result.theirs is result.max_loss_difference is None


def test_no_time_is_taken_where_the_losses_of_the_processes_differ(monkeypatch):
    losses = dict(float64=dict(ours=[2.0, 1.0], mmpretrain=[2.0, 1.1]))
    monkeypatch.setattr(scaling, '_spawn', lambda work, *args: {scaling._compare: losses}[work])
    with pytest.raises(ValueError, match='no time was taken: the losses differ'):
        run('scaling', 'mmpretrain', VIT, TINY_VIT, 4, 32, 'cpu')


@pytest.mark.parametrize('processes', [0, 1])
def test_mistakes(processes):
    with pytest.raises(ValueError, match=f'--processes {processes}: at least 2'):
        run('scaling', None, VIT, TINY_VIT, 4, 32, 'cpu', processes=processes)
