"""MoCoV3 against algorithm 1 written out, its fast paths, and two processes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mocox.checkpoint import convert, load_backbone
from tests.support.gradients import assert_same, gradients
from tests.support.processes import run_processes
from tests.support.runs import train
from tests.support.small_models import VIT, build, config, views

CONV = dict(type='MoCoViT', arch=VIT['arch'], img_size=32, patch_size=16, stem='conv')


@pytest.mark.parametrize(('backbone', 'size'), [(VIT, 8), (CONV, 32)], ids=['patch', 'conv stem'])
def test_loss_is_algorithm_1(backbone, size):
    model, reference = build(backbone=backbone), build(backbone=backbone)
    x1, x2 = views(size)
    for p in (*model.momentum_encoder.parameters(), *reference.momentum_encoder.parameters()):
        p.data.mul_(0.9)

    def queries(x):
        return reference.head.predictor(reference.neck(reference.backbone(x)))[0]

    def keys(x):
        with torch.no_grad():
            return reference.momentum_encoder.neck(reference.momentum_encoder.backbone(x))[0]

    def contrast(q, k):
        q, k = F.normalize(q, dim=1), F.normalize(k, dim=1)
        return 2 * 0.2 * F.cross_entropy(q @ k.T / 0.2, torch.arange(len(q)))

    q1, q2, k1, k2 = queries(x1), queries(x2), keys(x1), keys(x2)
    expected = contrast(q1, k2) + contrast(q2, k1)
    loss = model([x1, x2], mode='loss')['loss']
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert_same(gradients(model, loss), gradients(reference, expected))
    for (name, ours), theirs in zip(model.named_buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14, msg=name)  # BatchNorm saw each view by itself


def test_one_pass_for_each_view_is_the_same():
    one, two = build(), build(merge_views=False)
    losses = [model(views(), mode='loss')['loss'] for model in (one, two)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-13)
    assert_same(gradients(two, losses[1]), gradients(one, losses[0]))


def test_channels_last_through_a_run_and_its_checkpoint(tmp_path):
    model = config(backbone=dict(VIT, stem='conv'), channels_last=True)
    saving = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    straight, _ = train(tmp_path / 'straight', model=model, default_hooks=saving)
    checkpoint = str(tmp_path / 'straight' / 'epoch_1.pth')
    resumed, _ = train(tmp_path / 'resumed', model=model, load_from=checkpoint, resume=True)
    assert resumed.model.backbone.patch_embed.proj[0].weight.is_contiguous(memory_format=torch.channels_last)
    for key, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key
    convert(checkpoint, tmp_path / 'timm.safetensors', 'timm')  # the layout does not reach other libraries
    backbone = build(backbone=dict(VIT, stem='conv')).backbone
    load_backbone(backbone, tmp_path / 'timm.safetensors', encoder='query', heads=4)
    assert backbone.patch_embed.proj[0].weight.is_contiguous()


def test_momentum_encoder_starts_equal_and_gets_no_gradient():
    model = build()
    for key, value in model.momentum_encoder.backbone.state_dict().items():
        assert torch.equal(value, model.backbone.state_dict()[key])
    assert not any(name.startswith('momentum') for name in gradients(model, model(views(), mode='loss')['loss']))


def test_forward_moves_no_momentum_weight():
    model = build()
    before = [p.clone() for p in model.momentum_encoder.parameters()]
    model(views(), mode='loss')
    assert all(torch.equal(a, b) for a, b in zip(before, model.momentum_encoder.parameters(), strict=True))


def test_chance_level_is_the_loss_of_equal_keys():
    model = build()
    nn.init.zeros_(model.momentum_encoder.neck.fc1.weight)
    nn.init.zeros_(model.neck.fc1.weight)
    assert model(views(n=6), mode='loss')['loss'].item() == pytest.approx(model.chance_level(6), rel=1e-12)


def test_features():
    model = build()
    x = views()[0]
    assert torch.equal(model(x), model.backbone(x)[0])


@pytest.mark.parametrize('momentum', [-0.1, 1.01])
def test_bad_momentum(momentum):
    with pytest.raises(ValueError, match=f'base_momentum={momentum}'):
        build(base_momentum=momentum)


def test_bad_chunk_size():
    with pytest.raises(ValueError, match='chunk_size=0'):
        build(chunk_size=0)
    with pytest.raises(ValueError, match='chunk_size=1: must be at least 2'):
        build(backbone=CONV, chunk_size=1)


def test_predicting_is_refused():
    with pytest.raises(ValueError, match='evaluate it with a probe'):
        build()(views(), mode='predict')


def _rank_step(backbone: dict, size: int) -> tuple[float, dict, dict]:
    rank = torch.distributed.get_rank()
    model = build(backbone=backbone)
    wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    loss = wrapped([x[rank * 3 : rank * 3 + 3] for x in views(size)], mode='loss')['loss']
    grads = gradients(model, loss)
    return loss.item(), grads, dict(model.named_buffers())


@pytest.mark.dist
@pytest.mark.parametrize(('backbone', 'size'), [(VIT, 8), (CONV, 32)], ids=['patch', 'conv stem'])
def test_two_processes_equal_one_on_the_whole_batch(backbone, size):
    results = run_processes(_rank_step, 2, backbone, size)
    model = build(backbone=backbone)
    loss = model(views(size), mode='loss')['loss']
    assert (results[0][0] + results[1][0]) / 2 == pytest.approx(loss.item(), rel=1e-10)
    expected = gradients(model, loss)
    for _, grads, buffers in results:
        assert_same(grads, expected)
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(buffers[name], buffer, rtol=1e-10, atol=1e-12, msg=name)
