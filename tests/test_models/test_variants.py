"""MoBY and Fast-MoCo against their papers' equations."""

from itertools import combinations
from math import exp, log

import pytest
import torch
import torch.nn.functional as F

from mocox.models.algorithms.fast_moco import split_grid
from mocox.registry import MODELS
from tests.test_models.test_moco import config as moco_config
from tests.test_models.test_moco import contrast
from tests.test_models.test_mocov3 import VIT, assert_same, gradients, views

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
