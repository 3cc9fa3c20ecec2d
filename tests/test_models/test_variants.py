"""MoBY, Fast-MoCo and symmetric v2 against their papers' equations."""

from copy import deepcopy
from itertools import combinations
from math import cos, exp, log, pi

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from scipy.stats import kstest
from torch.nn.modules.batchnorm import _BatchNorm

from mocox.models.algorithms.fast_moco import split_grid
from mocox.registry import MODELS
from tests.support.gradients import assert_same, gradients
from tests.support.oracles import contrast
from tests.support.runs import Images, train
from tests.support.small_models import VIT, moco_config, views
from tests.support.tiny_run import ROOT

MLP = dict(
    type='NonLinearNeck', hid_channels=12, out_channels=8, with_bias=True, with_last_bias=True, with_last_bn=False
)


def build(config: dict):
    torch.manual_seed(0)
    model = MODELS.build(config).double()
    model.init_weights()
    return model


def moby(backbone: dict = VIT):
    head = dict(type='ContrastiveHead', predictor=dict(MLP, in_channels=8), temperature=0.2)
    return build(
        dict(type='MoBY', backbone=backbone, neck=dict(MLP, in_channels=16), head=head, queue_len=16, feat_dim=8)
    )


def test_moby_is_the_sum_of_both_directions_through_the_predictor():
    model, reference = moby(), moby()
    x1, x2 = views()
    queues = model.queue.keys.clone(), model.queue_x1.keys.clone()
    loss = model([x1, x2], mode='loss')['loss']
    q1, q2 = (F.normalize(reference.head.predictor(reference.neck(reference.backbone(x)))[0], dim=1) for x in (x1, x2))
    momentum = reference.momentum_encoder
    k1, k2 = (F.normalize(momentum.neck(momentum.backbone(x))[0], dim=1) for x in (x1, x2))
    expected = contrast(q1, k2, queues[0]) + contrast(q2, k1, queues[1])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert model.chance_level(6) == pytest.approx(2 * log(7 + 10 * exp(-5)))


def test_moby_drops_paths_in_the_query_encoder_only():
    model = moby(dict(VIT, drop_path_rate=0.9))
    model.train()
    x1, _ = views()
    assert torch.equal(model.encode_keys([x1])[0], model.encode_keys([x1])[0])
    assert not torch.equal(model.encode_queries([x1])[0], model.encode_queries([x1])[0])


def test_moby_with_swin():
    swin = dict(
        type='mmpretrain.SwinTransformer', arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]), img_size=32,
        patch_size=4, window_size=4, out_indices=(1,), drop_path_rate=0.2,
    )  # fmt: skip
    loss = moby(swin)(views(32), mode='loss')['loss']
    loss.backward()
    assert loss.isfinite()


def fast_moco(**kwargs):
    resnet = moco_config()['backbone']
    head = dict(type='ContrastiveHead', predictor=dict(MLP, in_channels=8), temperature=1.0)
    neck = dict(MLP, in_channels=32, with_last_bn=True)
    return build(dict(type='FastMoCo', backbone=resnet, neck=neck, head=head, **kwargs))


def test_fast_moco_is_its_equation():
    model, reference = fast_moco(), fast_moco()
    x1, x2 = views(64)
    loss = model([x1, x2], mode='loss')['loss']
    momentum = reference.momentum_encoder
    keys = [F.normalize(momentum.neck(momentum.backbone(x))[0], dim=1) for x in (x1, x2)]

    terms = []
    for x, k in ((x1, keys[1]), (x2, keys[0])):
        corners = [x[:, :, i : i + 32, j : j + 32] for i in (0, 32) for j in (0, 32)]
        patches = reference.backbone(torch.cat(corners))[-1].mean(dim=(2, 3)).view(4, 6, 32)
        pairs = [(patches[a] + patches[b]) / 2 for a, b in combinations(range(4), 2)]
        q = F.normalize(reference.head.predictor(reference.neck((torch.cat(pairs),)))[0], dim=1).view(6, 6, 8)
        terms += [F.cross_entropy(one @ k.T, torch.arange(6)) for one in q]
    assert len(terms) == 12
    assert loss.item() == pytest.approx((sum(terms) / 12).item(), rel=1e-12)
    assert model.chance_level(6) == pytest.approx(log(6))


def test_fast_moco_in_chunks():
    results = []
    for chunk_size in (None, 2):
        head = dict(type='ContrastiveHead', predictor=dict(MLP, in_channels=8))
        neck = dict(MLP, in_channels=16, with_last_bn=True)
        model = build(dict(type='FastMoCo', backbone=VIT, neck=neck, head=head, chunk_size=chunk_size))
        seen = []
        model.backbone.register_forward_pre_hook(lambda m, inputs, seen=seen: seen.append(len(inputs[0])))
        loss = model(views(), mode='loss')['loss']
        assert set(seen) == ({24} if chunk_size is None else {8})  # 4 patches of 6 images, of 2 images
        results.append((loss, gradients(model, loss)))
    assert results[1][0].item() == pytest.approx(results[0][0].item(), rel=1e-12)
    assert_same(results[1][1], results[0][1])


def test_fast_moco_starts_its_momentum_encoder_as_a_copy():
    model = fast_moco()
    for ours, theirs in zip(model.momentum_encoder.backbone.parameters(), model.backbone.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_split_grid():
    x = torch.arange(32.0).view(1, 2, 4, 4)
    patches = split_grid(x, 2)
    assert torch.equal(patches[1], x[0, :, :2, 2:]) and torch.equal(patches[2], x[0, :, 2:, :2])
    with pytest.raises(ValueError, match='4 x 4 px cannot be cut into 3 x 3'):
        split_grid(x, 3)


def test_bad_combination():
    with pytest.raises(ValueError, match='num_combined=5'):
        fast_moco(num_combined=5)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def published_run(model, steps: int, predict: bool, weight: float) -> tuple[list[float], list[torch.Tensor]]:
    """Losses and queues of a run as the papers write it: average, queries, keys, loss, queues, step; 4 images each."""
    momentum, images, pointer = model.momentum_encoder, Images(), 0
    queues = [model.queue.keys.clone(), model.queue_x1.keys.clone()]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    losses = []
    for step in range(steps):
        x1, x2 = torch.stack([torch.stack(images[i % 16]['inputs']) for i in range(4 * step, 4 * step + 4)], dim=1)
        m = 1 - (1 - 0.9) * (1 + cos(pi * step / steps)) / 2
        for part in ('backbone', 'neck'):
            pairs = zip(getattr(momentum, part).parameters(), getattr(model, part).parameters(), strict=True)
            for key, query in pairs:
                key.data = m * key.data + (1 - m) * query.data
        z1, z2 = (model.neck(model.backbone(x))[0] for x in (x1, x2))
        q1, q2 = (F.normalize(model.head.predictor(z)[0] if predict else z, dim=1) for z in (z1, z2))
        with torch.no_grad():
            k1, k2 = (F.normalize(momentum.neck(momentum.backbone(x))[0], dim=1) for x in (x1, x2))
        loss = weight * (contrast(q1, k2, queues[0].clone()) + contrast(q2, k1, queues[1].clone()))
        for row in range(4):
            queues[0][:, pointer], queues[1][:, pointer] = k2[row], k1[row]
            pointer = (pointer + 1) % 10
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, queues


@pytest.mark.parametrize('kind', ['MoBY', 'MoCo'])
def test_a_run_with_two_queues_is_the_published_loop(kind, tmp_path, float64):
    """8 steps of a Runner; 32 keys go around a queue of 10."""
    head = dict(type='ContrastiveHead', predictor=dict(MLP, in_channels=8) if kind == 'MoBY' else None, temperature=0.2)
    config = dict(type=kind, backbone=VIT, neck=dict(MLP, in_channels=16), head=head, queue_len=10, feat_dim=8)
    model = build(config | dict(base_momentum=0.9) | (dict(symmetric=True) if kind == 'MoCo' else {}))
    reference = deepcopy(model)
    losses, queues = published_run(reference, 8, kind == 'MoBY', 1.0 if kind == 'MoBY' else 0.5)
    seen = []
    forward = model.loss
    model.loss = lambda *args: seen.append(forward(*args)) or seen[-1]
    train(tmp_path, model=model)
    assert [loss['loss'].item() for loss in seen] == pytest.approx(losses, rel=1e-9)
    for ours, expected in zip((model.queue, model.queue_x1), queues, strict=True):
        torch.testing.assert_close(ours.keys, expected, rtol=0, atol=1e-9)
    for (name, ours), expected in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9, msg=name)
    statistics = dict(reference.named_buffers())
    for name, ours in model.named_buffers():
        if 'running_' in name:  # of the momentum encoder, too: view 1 comes first in the published loops
            torch.testing.assert_close(ours, statistics[name], rtol=0, atol=1e-9, msg=name)


def test_fast_moco_starts_with_scales_between_0_and_1():
    """The law of the official initial state: heads only, biases 0, the momentum projector a copy."""
    config = Config.fromfile(ROOT / 'configs/fast_moco/resnet50_100e.py').model
    small = dict(in_channels=16, hid_channels=4000, out_channels=16)
    config.backbone = VIT
    config.neck.update(small)
    config.head.predictor.update(small)
    model = build(config)
    for part in (model.neck, model.head.predictor):
        scales = torch.cat([m.weight for m in part.modules() if isinstance(m, _BatchNorm)])
        assert kstest(scales.detach().numpy(), 'uniform').pvalue > 0.001
        assert all(not m.bias.any() for m in part.modules() if isinstance(m, _BatchNorm))
        bound = part.fc0.weight.detach().abs().max().item()
        assert bound == pytest.approx(16**-0.5, rel=1e-2)  # linear layers keep PyTorch's law
    for own, copy in zip(model.neck.parameters(), model.momentum_encoder.neck.parameters(), strict=True):
        assert torch.equal(own, copy)
