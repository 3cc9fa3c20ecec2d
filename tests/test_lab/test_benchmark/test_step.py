import json
import math
from math import log

import pytest
import torch

from lab.benchmark import mmpretrain_peer, step
from lab.benchmark.contender import random_views
from lab.benchmark.mocox_contender import read_config
from lab.benchmark.run import run
from tests.support.tiny_run import run_tool
from tests.test_lab.test_benchmark.tiny import RESNET, TINY_RESNET, TINY_VIT, V2, VIT

KEYS = {
    'mode', 'ours', 'theirs', 'ratio', 'ratio_min', 'ratio_max', 'share_of_limit', 'max_loss_difference', 'versions',
    'device', 'details',
}  # fmt: skip
SETTING = step.Setting(batch_size=4, image_size=32, device='cpu', rounds=2)


@pytest.mark.parametrize(
    ('config', 'options', 'temperature'),
    [(VIT, TINY_VIT, 0.2), pytest.param(RESNET, TINY_RESNET, 1.0, marks=pytest.mark.slow)],
)
def test_side_by_side_with_equal_losses(tmp_path, config, options, temperature, capsys):
    out = tmp_path / 'new' / 'step.json'
    run('step', 'mmpretrain', config, options, 4, 32, 'cpu', rounds=1, json=str(out))
    result = json.loads(out.read_text())
    assert set(result) == KEYS
    size = max(1.0, 2 * temperature * log(4))  # of the loss of 4 images at chance
    assert result['max_loss_difference'] <= 1e-4 * size  # float32: 1e-4 is what its traces tolerate, too
    assert result['details']['loss_differences']['float64'] <= 1e-12
    assert result['ratio_min'] <= result['ratio'] <= result['ratio_max']
    assert result['ours'] > 0 and result['theirs'] > 0 and result['share_of_limit'] > 0
    parts = result['details']['milliseconds']
    assert set(parts) == {'step', 'forward and backward', 'optimizer', 'momentum update'}
    assert all(part['ours'] > 0 and part['mmpretrain'] > 0 for part in parts.values())
    update = parts['momentum update']
    assert update['ratio_to_official_min'] <= update['ratio_to_official'] <= update['ratio_to_official_max']
    reads = result['details']['scalar_reads_per_step']
    assert reads['ours'] < reads['mmpretrain']
    printed = capsys.readouterr().out
    for remark in result['details']['remarks']:
        assert remark in printed


def test_the_official_momentum_update_is_ours_in_other_words():
    (ours,) = step.build(read_config(VIT, 32, TINY_VIT), SETTING, with_peer=False)
    ours.step(random_views(4, 32, 'cpu'))
    ours.model.momentum = 0.9
    update = step.official_momentum_update(ours.model)
    official = dict(zip(update.__code__.co_freevars, (cell.cell_contents for cell in update.__closure__)))['keys']
    before = [p.clone() for p in ours.model.momentum_encoder.parameters()]
    update()
    assert all(map(torch.equal, before, ours.model.momentum_encoder.parameters()))
    ours.update_momentum()
    for official_key, key in zip(official, ours.model.momentum_encoder.parameters(), strict=True):
        torch.testing.assert_close(official_key, key)


def test_losses_are_compared_in_full_float32(monkeypatch):
    seen = []
    monkeypatch.setattr(step.Ours, 'step', lambda self, views: seen.append(torch.backends.cudnn.allow_tf32) or 1 / 0)
    before = torch.backends.cudnn.allow_tf32
    with pytest.raises(ZeroDivisionError):
        step.compare_losses(read_config(VIT, 32, TINY_VIT), SETTING)
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32 == before


def test_alone_there_is_no_ratio():
    result = run('step', None, VIT, TINY_VIT, 4, 32, 'cpu', rounds=1)
    assert result.ours > 0
    assert result.theirs is result.ratio is result.max_loss_difference is None


def test_no_time_is_taken_where_the_peer_computes_something_else(monkeypatch):
    def wrong(model, ours):
        load_ours(model, ours)
        with torch.no_grad():
            model.neck.fc0.weight[0, 0] += 1e-3

    load_ours = mmpretrain_peer.load_ours
    monkeypatch.setattr(mmpretrain_peer, 'load_ours', wrong)
    monkeypatch.setattr(step, 'time_parts', lambda *args: pytest.fail('time was taken'))
    with pytest.raises(ValueError, match='the losses differ by more than 1e-09') as error:
        step.benchmark_step(read_config(VIT, 32, TINY_VIT), SETTING, with_peer=True)
    assert 'ours: ' in str(error.value) and 'mmpretrain: ' in str(error.value)


TINY_V2 = {
    'model.backbone.depth': 18,
    'model.backbone.norm_cfg': dict(type='BN', _delete_=True),
    'model.neck.in_channels': 512,
    'model.neck.hid_channels': 32,
    'model.queue_len': 64,
}


def test_moco_v2_has_a_peer():
    """Queries, keys, queue, momentum and optimizer are mmpretrain's, in float64 and float32."""
    differences = step.compare_losses(read_config(V2, 32, TINY_V2), SETTING)
    assert differences['float64'] < 1e-9


def test_groups_of_batch_norm_have_none():
    with pytest.raises(ValueError, match='on MoCo v2 with a ResNet and plain BatchNorm, not on MoCo with ResNet'):
        mmpretrain_peer.published_config(read_config(V2, 32))


def test_another_momentum_is_noticed(monkeypatch):
    def faster(model, ours):
        load_ours(model, ours)
        model.momentum_encoder.momentum = 0.02  # of the new weights; ours has 0.01

    load_ours = mmpretrain_peer.load_ours
    monkeypatch.setattr(mmpretrain_peer, 'load_ours', faster)
    with pytest.raises(ValueError, match='losses differ'):
        step.compare_losses(read_config(VIT, 32, TINY_VIT), SETTING)


@pytest.mark.parametrize('wrong', [[1.0, 2.1], [math.nan, 2.0], [1.0, math.inf]])
def test_losses_that_differ_are_refused(wrong):
    with pytest.raises(ValueError, match='the losses differ'):
        step.check_equal([[1.0, 2.0], wrong], ['ours', 'theirs'], tolerance=0.01)
    step.check_equal([[1.0, 2.0], [1.001, 2.0]], ['ours', 'theirs'], tolerance=0.01)


def test_a_loss_that_stands_still_compares_nothing():
    with pytest.raises(ValueError, match='does not change'):
        step.check_moving([2.0, 1.0, 1.0], 'ours')


def test_forward_and_backward_leave_the_weights_and_the_momentum_encoder():
    for contender in step.build(read_config(VIT, 32, TINY_VIT), SETTING, with_peer=True):
        before = {name: p.clone() for name, p in contender.model.named_parameters()}
        contender.forward_backward(random_views(4, 32, 'cpu'))
        assert all(torch.equal(p, before[name]) for name, p in contender.model.named_parameters())
        contender.update_weights()
        changed = {name for name, p in contender.model.named_parameters() if not torch.equal(p, before[name])}
        assert changed and not any(name.startswith('momentum_encoder') for name in changed)
        contender.step(random_views(4, 32, 'cpu'))
        keys = dict(contender.model.momentum_encoder.named_parameters())
        before = {name: p.clone() for name, p in keys.items()}
        contender.update_momentum()
        assert any(not torch.equal(p, before[name]) for name, p in keys.items())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--batch', 0], '--batch 0: must be at least 1'),
        (['--batch', 1], '--batch 1: at least 2'),
        (['--rounds', 0], '--rounds 0: must be at least 1'),
        (['--chunk-sizes', 2], '--chunk-sizes is for memory; step does not read it'),
        (['--processes', 2], '--processes is for scaling'),
        (['--step-rate', 9], '--step-rate is for data'),
        (['--step-rate', 0], '--step-rate 0.0: must be above 0'),
        (['--json', '/proc/nowhere/step.json'], '--json /proc/nowhere/step.json: cannot be written'),
        (['--json', 'configs'], '--json configs: cannot be written'),
        (['--cfg-options', 'model.chunk_size=[(1]'], '--cfg-options: cannot read'),
        (['--cfg-options', 'nonsense'], '--cfg-options: \'nonsense\' has no "="'),
        (['--config', 'missing.py'], 'there is no config file missing.py'),
        (['--config', 'configs/mocov3/vit-small_linear.py'], 'pre-trains nothing'),
        (['--config', 'configs/mocov2/resnet50_200e.py', '--against', 'mmpretrain'], 'leave --against out'),
        (['--config', 'configs/mocov3/vit-small-conv.py', '--against', 'mmpretrain'], 'plain ViT'),
        (['--image-size', 60], 'not divisible by the patch size'),
    ],
)
def test_mistakes_end_in_one_paragraph(arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(VIT.partition('/configs/')[0])
    with pytest.raises(SystemExit):
        run_tool('benchmark.py', 'step', '--device', 'cpu', *arguments)
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there_is_an_error(capsys):
    with pytest.raises(SystemExit):
        run_tool('benchmark.py', 'step', '--device', 'cuda')
    assert 'torch sees no GPU here' in capsys.readouterr().err


def test_a_peer_that_is_not_installed_is_an_error(monkeypatch):
    monkeypatch.setattr(mmpretrain_peer, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match='mmpretrain is not installed'):
        mmpretrain_peer.published_config(read_config(VIT, 32, TINY_VIT))
