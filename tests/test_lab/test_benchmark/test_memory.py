import json

import pytest
import torch

from lab.benchmark import memory, memory_model
from lab.benchmark.contender import random_views
from lab.benchmark.live_memory import LiveMemory, peak_bytes
from lab.benchmark.mocox_contender import Ours, read_config
from lab.benchmark.run import run
from lab.benchmark.step import Setting
from mocox.registry import MODELS
from tests.test_lab.test_benchmark.tiny import MEDIUM_VIT, NARROW_HEADS, RESNET, TINY_RESNET, TINY_VIT, VIT


def test_live_memory_follows_tensors_to_their_end():
    x = torch.zeros(1000)  # 4 kB
    with LiveMemory([x, x.view(10, 100)]) as live:
        assert live.current == 4000
        y = x + 1
        z = y.view(10, 100)  # the same memory
        assert live.current == 8000
        del y
        assert live.current == 8000
        del z
        assert live.current == 4000
        (x * 2).sum()
        assert live.peak == 8004
    assert peak_bytes(lambda: x + 1 + 1, [x], 'cpu') == 12000


def test_what_autograd_keeps_is_alive():
    x = torch.zeros(1000, requires_grad=True)
    with LiveMemory([x]) as live:
        loss = x.exp().sin().sum()  # of the two intermediate results, exp and sin need the first
        assert live.current == 2 * 4000 + 4
        loss.backward()
        del loss
        assert live.current == 2 * 4000  # the gradient is left


@pytest.mark.parametrize(
    ('config', 'options', 'batch_size', 'chunk_size', 'autocast', 'largest_error'),
    [
        (VIT, MEDIUM_VIT, 16, None, None, 0.05),
        (VIT, MEDIUM_VIT, 16, None, 'bfloat16', 0.05),
        (VIT, MEDIUM_VIT, 32, 16, None, 0.05),
        (VIT, MEDIUM_VIT, 32, 16, 'bfloat16', 0.05),
        pytest.param(RESNET, NARROW_HEADS, 8, None, None, 0.08, marks=pytest.mark.slow),
        pytest.param(RESNET, NARROW_HEADS, 8, None, 'bfloat16', 0.08, marks=pytest.mark.slow),
    ],
)
def test_the_model_agrees_with_what_is_measured(config, options, batch_size, chunk_size, autocast, largest_error):
    """Of what a step adds to weights, moments and views, from the forward pass to the end of the backward pass."""
    read = memory.with_chunks(read_config(config, 96, options), chunk_size)
    contender = Ours(read, 'cpu', autocast=autocast)
    views = random_views(batch_size, 96, 'cpu')
    contender.step(views)
    known = [*contender.tensors(), *views]
    measured = peak_bytes(lambda: contender.forward_backward(views), known, 'cpu')
    static = LiveMemory(known).current
    computed = memory.compute(read, Setting(batch_size, 96, 'cpu'), half=autocast is not None)
    assert computed - static == pytest.approx(measured - static, rel=largest_error)


def test_weights_are_counted_exactly():
    for arch, config in (('vit-small', VIT), ('resnet50', RESNET)):
        model = MODELS.build(read_config(config, 224).model)
        computed = memory_model.step_memory(memory_model.describe(arch, 224, half=True), 2)
        assert computed.weights == sum(4 * p.numel() for part in ('backbone', 'neck', 'head')
                                       for p in getattr(model, part).parameters())  # fmt: skip
        assert computed.momentum == sum(4 * p.numel() for p in model.momentum_encoder.parameters())


def test_smaller_chunks_take_less_and_larger_batches_more():
    backbone = memory_model.describe('vit-base', 224, half=True)
    peaks = [memory_model.step_memory(backbone, 1024, chunk).total for chunk in (8, 64, 512, None)]
    assert peaks == sorted(peaks)
    assert memory_model.step_memory(backbone, 512).total < memory_model.step_memory(backbone, 1024).total


def test_what_fits_leaves_room():
    backbone = memory_model.describe('vit-small', 224, half=True)
    chunk_size, needed = memory_model.largest_chunk(backbone, 1024, 24 * 2**30)
    assert needed.total <= 0.9 * 24 * 2**30 < memory_model.step_memory(backbone, 1024, None).total
    assert chunk_size in memory_model.CHUNK_SIZES
    assert memory_model.largest_chunk(backbone, 64, 141 * 2**30)[0] is None
    assert memory_model.largest_chunk(backbone, 1024, 2**30) is None


def test_an_unknown_model_is_an_error():
    with pytest.raises(ValueError, match='vit-giant'):
        memory_model.describe('vit-giant', 224, half=True)


def test_the_result(tmp_path, capsys):
    out = tmp_path / 'memory.json'
    run('memory', 'mmpretrain', VIT, TINY_VIT, 16, 32, 'cpu', chunk_sizes=[4], json=str(out))
    result = json.loads(out.read_text())
    peaks = result['details']['peaks']
    assert list(peaks) == ['ours, chunk_size=None', 'ours, chunk_size=4', 'mmpretrain']
    assert result['ours'] == peaks['ours, chunk_size=4'] < peaks['ours, chunk_size=None']
    assert result['ratio'] == pytest.approx(peaks['mmpretrain'] / result['ours'])
    assert result['max_loss_difference'] < 1e-4
    assert '| vit-large, 4096' in capsys.readouterr().out


def test_a_chunk_that_changes_the_loss_is_an_error(monkeypatch):
    losses = iter([1.0, 1.5])
    monkeypatch.setattr(memory, 'measure', lambda *args: (1, next(losses)))
    with pytest.raises(ValueError, match='losses differ'):
        run('memory', None, VIT, TINY_VIT, 4, 32, 'cpu', chunk_sizes=[2])


def test_what_does_not_fit_is_said(monkeypatch, capsys):
    def measure(make, views, device):
        if make().model.chunk_size != 2:
            raise torch.OutOfMemoryError
        return 7, 1.0

    monkeypatch.setattr(memory, 'measure', measure)
    assert run('memory', None, VIT, TINY_VIT, 4, 32, 'cpu', chunk_sizes=[2]).ours == 7
    assert 'ours, chunk_size=None: does not fit' in capsys.readouterr().out
    with pytest.raises(ValueError, match='a batch of 4 does not fit, even with ours, chunk_size=3'):
        run('memory', None, VIT, TINY_VIT, 4, 32, 'cpu', chunk_sizes=[3])


def test_a_peer_that_does_not_fit_is_said(monkeypatch, capsys):
    def measure(make, views, device):
        if make().name == 'mmpretrain':
            raise torch.OutOfMemoryError
        return 7, 1.0

    monkeypatch.setattr(memory, 'measure', measure)
    monkeypatch.setattr(memory, 'compare_losses', lambda *args: {})
    result = run('memory', 'mmpretrain', VIT, TINY_VIT, 4, 32, 'cpu', chunk_sizes=[2])
    assert result.ours == 7 and result.theirs is result.ratio is None
    assert 'mmpretrain: does not fit' in capsys.readouterr().out


def test_a_backbone_with_batch_norm_is_measured_whole():
    result = run('memory', None, RESNET, TINY_RESNET, 4, 32, 'cpu')
    assert list(result.details['peaks']) == ['ours, chunk_size=None']
    assert result.details['computed'] == {'ours, chunk_size=None': None}  # of ResNet-18
