"""MoCo v1 and v2 against algorithm 1 written out, shuffling across processes, the queue through a resume."""

import warnings
from math import exp, log

import pytest
import torch
import torch.distributed as torch_dist
import torch.nn.functional as F
from torch import nn

from mocox import dist
from mocox.models import MoCo
from mocox.models.shuffle_bn import draw_permutation, shuffle_rows, unshuffle_rows
from mocox.registry import MODELS
from tests.support.gradients import assert_same, gradients
from tests.support.oracles import contrast, encode
from tests.support.processes import run_processes
from tests.support.runs import train
from tests.support.small_models import VIT, views
from tests.support.small_models import moco_config as config


def build(**kwargs) -> MoCo:
    torch.manual_seed(0)
    model = MODELS.build(config(**kwargs)).double()
    model.init_weights()
    return model


def test_loss_is_algorithm_1_and_the_queue_is_read_before_it_is_written():
    model, reference = build(), build()
    for step in range(4):  # 4 x 6 keys in a queue of 16: it wraps
        x1, x2 = views(32) if step % 2 else views(32)[::-1]
        before = model.queue.keys.clone()
        loss = model([x1, x2], mode='loss')['loss']
        q = encode(reference.backbone, reference.neck, x1)
        with torch.no_grad():
            k = encode(reference.momentum_encoder.backbone, reference.momentum_encoder.neck, x2)
        assert loss.item() == pytest.approx(contrast(q, k, before).item(), rel=1e-12)
        columns = [(6 * step + i) % 16 for i in range(6)]
        torch.testing.assert_close(model.queue.keys[:, columns], k.T, rtol=1e-10, atol=1e-12)
        loss.backward()  # the queue has moved on; the graph must not have


def test_a_queue_of_another_width_is_an_error():
    with pytest.raises(ValueError, match='feat_dim=16, but the neck gives 8 channels'):
        build(feat_dim=16)(list(views(32)), mode='loss')


def test_symmetric_is_the_mean_of_both_directions_with_a_queue_for_each_view():
    model, reference = build(symmetric=True), build(symmetric=True)
    x1, x2 = views(32)
    queue, queue_x1 = model.queue.keys.clone(), model.queue_x1.keys.clone()
    assert not torch.equal(queue, queue_x1)
    loss = model([x1, x2], mode='loss')['loss']
    momentum = reference.momentum_encoder
    q1, q2 = (encode(reference.backbone, reference.neck, x) for x in (x1, x2))
    k2, k1 = (encode(momentum.backbone, momentum.neck, x) for x in (x2, x1))
    assert loss.item() == pytest.approx((contrast(q1, k2, queue) + contrast(q2, k1, queue_x1)).item() / 2, rel=1e-12)
    torch.testing.assert_close(model.queue.keys[:, :6].T, k2, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model.queue_x1.keys[:, :6].T, k1, rtol=1e-10, atol=1e-12)
    loss.backward()


def test_v1_projector_by_name():
    neck = dict(type='mmpretrain.LinearNeck', in_channels=32, out_channels=8, gap_dim=2, norm_cfg=None)
    assert build(neck=neck)(views(32), mode='loss')['loss'].isfinite()


def test_chance_level_follows_the_fill():
    model = build()
    levels = []
    for _ in range(3):
        model(views(32), mode='loss')
        levels.append(model.chance_level(6))
    # f real keys among 16, of cosine 1 like the positive; the random rest has cosine 0
    assert levels == pytest.approx([log(1 + f + (16 - f) * exp(-5)) for f in (6, 12, 16)])


def test_chance_level_is_the_loss_of_a_collapsed_encoder():
    model = build(queue_len=12, feat_dim=8)
    one = F.one_hot(torch.tensor(0), 8).double()
    model.queue.keys.copy_(F.one_hot(torch.tensor([1] * 12), 8).T)  # orthogonal to every key of the collapsed encoder
    model.queue.enqueue(one.repeat(5, 1))
    z = one.repeat(6, 1)
    assert model.head.loss(z, z, model.queue.keys.T).item() == pytest.approx(model.chance_level(6), rel=1e-12)


def test_a_positive_is_never_among_its_negatives():
    # with the batch's own keys in the queue, a key equal to the query would appear twice
    model = build()
    seen = []
    model.head.loss = lambda z, k, queue: seen.append((queue @ k.T).max()) or z.sum()
    model(views(32), mode='loss')
    assert max(seen) < 1 - 1e-6


def test_warning_where_statistics_leak():
    def first_loss(*args, **kwargs):
        MODELS.build(config(*args, **kwargs))([x.float() for x in views(32)], mode='loss')

    with pytest.warns(UserWarning, match='one process normalises the whole batch'):
        first_loss()
    with pytest.warns(UserWarning, match='a single group of 32 or more of a batch of 6'):
        first_loss('mocox.SplitBN')
    with pytest.warns(UserWarning, match='SyncBN normalises'):
        first_loss('mocox.SyncBN')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        split = dict(config()['backbone'], norm_cfg=dict(type='mocox.SplitBN', group_size=3))
        first_loss(backbone=split)


def test_no_warning_without_batch_norm_in_the_backbone():
    neck = dict(type='NonLinearNeck', in_channels=16, hid_channels=16, out_channels=8)  # its SyncBN is on purpose
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        MODELS.build(config(backbone=VIT, neck=neck))([x.float() for x in views()], mode='loss')


def test_split_groups_of_keys_differ_from_those_of_queries():
    model = build(norm='mocox.SplitBN')
    for m in model.modules():
        if hasattr(m, 'group_size'):
            m.group_size = 3
    x1, _ = views(32)
    (shuffled,) = model.gather_keys([x1])()
    (straight,) = model.encode_keys([x1])
    assert (shuffled - F.normalize(straight, dim=1)).abs().max() > 1e-3


def test_resume_keeps_the_queue(tmp_path):
    neck = dict(type='mmpretrain.MoCoV2Neck', in_channels=16, hid_channels=16, out_channels=8, with_avg_pool=False)
    model = config(backbone=VIT, neck=neck)
    hook = dict(type='MomentumUpdateHook', schedule='constant')
    straight, _ = train(tmp_path / 'straight', model=model, hook=hook)
    saving = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    train(tmp_path / 'stopped', model=model, hook=hook, default_hooks=saving)
    resumed, _ = train(
        tmp_path / 'resumed', model=model, hook=hook, load_from=str(tmp_path / 'stopped' / 'epoch_1.pth'), resume=True
    )
    for key, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key
    assert int(resumed.model.queue.filled) == 16


def _shuffle_round_trip() -> tuple[torch.Tensor, torch.Tensor]:
    rank = torch_dist.get_rank()
    rows = torch.arange(8.0)[:, None][rank * 4 : rank * 4 + 4]
    order = draw_permutation(8, iteration=3)
    mine = shuffle_rows(rows, order)
    return mine, unshuffle_rows(dist.gather_rows(mine), order)


def _rank_step() -> tuple[float, dict, dict]:
    rank = torch_dist.get_rank()
    model = build()
    wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    loss = wrapped([x[rank * 3 : rank * 3 + 3] for x in views(32)], mode='loss')['loss']
    loss.backward()
    return loss.item(), dict(model.queue.named_buffers()), {n: p.grad for n, p in model.backbone.named_parameters()}


@pytest.mark.dist
def test_across_processes():
    order = draw_permutation(8, iteration=3)
    results = run_processes(_shuffle_round_trip, 2)
    assert torch.cat([r[0] for r in results])[:, 0].long().tolist() == order.tolist()
    for _, whole in results:
        assert torch.equal(whole, torch.arange(8.0)[:, None])

    first, second = run_processes(_rank_step, 2)
    for name in first[1]:
        assert torch.equal(first[1][name], second[1][name])  # the same queue everywhere
    # algorithm 1 by hand: each process normalises the keys that the permutation deals it
    reference, (x1, x2) = build(), views(32)
    order = draw_permutation(6, iteration=0)
    keys = torch.empty(6, 8, dtype=torch.float64)
    for share in order.view(2, 3):
        keys[share] = encode(reference.momentum_encoder.backbone, reference.momentum_encoder.neck, x2[share]).detach()
    torch.testing.assert_close(first[1]['keys'][:, :6].T, keys, rtol=1e-10, atol=1e-12)
    losses = []
    for rank in range(2):
        rows = slice(rank * 3, rank * 3 + 3)
        q = encode(reference.backbone, reference.neck, x1[rows])
        losses.append(contrast(q, keys[rows], build().queue.keys))
    assert [first[0], second[0]] == pytest.approx([loss.item() for loss in losses], rel=1e-10)
    (sum(losses) / 2).backward()
    for name, p in reference.backbone.named_parameters():
        torch.testing.assert_close(first[2][name], p.grad, rtol=1e-8, atol=1e-12, msg=name)


def test_channels_last_gives_the_same_numbers():
    results = []
    for channels_last in (False, True):
        model = build(channels_last=channels_last)
        assert model.momentum_encoder.backbone.conv1.weight.is_contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )
        maps = model.backbone.layer1(torch.randn(2, 4, 8, 8, dtype=torch.float64))
        assert maps.is_contiguous(memory_format=torch.channels_last) == channels_last
        loss = model(views(32), mode='loss')['loss']
        results.append((loss.item(), gradients(model, loss)))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-12)
    assert_same(results[1][1], results[0][1])
