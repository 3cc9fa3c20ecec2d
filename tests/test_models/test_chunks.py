"""Chunks: exact for transformers, the statistics of a GPU's images with BatchNorm, a chunk's memory."""

import copy
import logging

import pytest
import torch
import torch.distributed as torch_dist
from torch import Tensor, nn

from mocox.models.chunks import encode_in_chunks
from mocox.models.shuffle_bn import draw_permutation
from mocox.registry import MODELS
from tests.support.gradients import assert_same, gradients, saved_bytes
from tests.support.oracles import contrast, encode
from tests.support.processes import run_processes
from tests.support.small_models import VIT, build, config, resnet_model, views

# ---- transformers: exact


@pytest.mark.parametrize('chunk_size', [1, 4, 5, 6, 12])
def test_transformer_is_exact(chunk_size):
    straight, chunked = build(), build(chunk_size=chunk_size)
    losses = [model(views(), mode='loss')['loss'] for model in (straight, chunked)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-13)
    assert_same(gradients(chunked, losses[1]), gradients(straight, losses[0]))


def test_exact_under_autocast():
    # Every image passes the same bfloat16 kernels. What differs is the sum over images in the gradients of weights: in
    # bfloat16 within a chunk, rounded to 8 bits, and in float32 between chunks.
    results = []
    for chunk_size in (None, 2):
        model = build(chunk_size=chunk_size).float()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            loss = model([x.float() for x in views()], mode='loss')['loss']
        assert loss.dtype == torch.float32
        results.append((loss.item(), gradients(model, loss)))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-6)
    assert_same(results[1][1], results[0][1], rtol=2e-2)


@pytest.mark.parametrize('interleave', [False, True])
def test_gradients_of_chunks_add_up_in_float32(interleave):
    """The oracle: the gradient of every chunk by itself, under an autocast of its own, added up in float64."""
    backbone = build().backbone.float()
    x = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        features = encode_in_chunks(backbone, x, 2, interleave)
    found = gradients(backbone, (features.float() * weight).sum())
    parts = [slice(j, None, 32) if interleave else slice(2 * j, 2 * j + 2) for j in range(32)]
    total: dict[str, Tensor] = {}
    for part in parts:
        with torch.autocast('cpu', dtype=torch.bfloat16):
            features = backbone(x[part])[-1]
        for name, grad in gradients(backbone, (features.float() * weight[part]).sum()).items():
            total[name] = total.get(name, 0) + grad.double()
    assert_same({name: grad.double() for name, grad in found.items()}, total, rtol=1e-5)


def test_a_closed_form_that_bfloat16_cannot_add_up():
    """The gradient is the sum of 320 images of 1, one by one. In bfloat16 it stops at 256, from where steps are 2."""
    layer = nn.Linear(1, 1, bias=False)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        encode_in_chunks(layer, torch.ones(320, 1), 1).sum().backward()
    assert layer.weight.grad.item() == 320


def test_dropped_paths_are_those_of_the_first_computation():
    # The kept graph of one chunk after the other, with the same random numbers, is the oracle.
    backbone = dict(VIT, drop_path_rate=0.5)
    chunked, kept = build(backbone=backbone, chunk_size=3), build(backbone=backbone)
    x1, x2 = views()
    torch.manual_seed(3)
    loss = chunked([x1, x2], mode='loss')['loss']
    ours = gradients(chunked, loss)
    torch.manual_seed(3)
    with torch.no_grad():
        keys = [torch.cat([kept.momentum_encoder.backbone(c)[-1] for c in x.split(3)]) for x in (x1, x2)]
        k1, k2 = (torch.nn.functional.normalize(kept.momentum_encoder.neck((k,))[-1], dim=1) for k in keys)
    z1, z2 = (kept.neck((torch.cat([kept.backbone(c)[-1] for c in x.split(3)]),))[-1] for x in (x1, x2))
    expected = 2 * 0.2 * (kept.head.loss(z1, k2) + kept.head.loss(z2, k1))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-13)
    assert_same(ours, gradients(kept, expected))


def test_memory_falls_with_the_chunk():
    kept = []
    for chunk_size in (None, 8, 2):
        model = build(chunk_size=chunk_size)
        kept.append(saved_bytes(lambda model=model: model(views(n=16), mode='loss')['loss'])[1])
    inputs = 2 * 16 * 3 * 8 * 8 * 8
    assert kept[1] - inputs < (kept[0] - inputs) / 4  # all activations of the backbone are gone: heads remain
    assert kept[2] < kept[0] / 4


def test_one_chunk_at_a_time_is_computed_again():
    events = []

    class Layer(nn.Linear):
        def forward(self, x: Tensor) -> tuple[Tensor]:
            events.append(f'computed {len(x)}')
            out = super().forward(x)
            out.register_hook(lambda grad: events.append('differentiated'))
            return (out.sin(),)

    loss = encode_in_chunks(Layer(4, 4), torch.randn(12, 4), 3).sum()
    events.clear()
    loss.backward()
    assert events == ['computed 3', 'differentiated'] * 4


def _rank_step(chunk_size: int | None, static_graph: bool) -> tuple[float, dict]:
    rank = torch_dist.get_rank()
    model = build(chunk_size=chunk_size)
    settings = dict(broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=static_graph)
    wrapped = nn.parallel.DistributedDataParallel(model, **settings)
    loss = wrapped([x[rank * 3 : rank * 3 + 3] for x in views()], mode='loss')['loss']
    return loss.item(), gradients(model, loss)


@pytest.mark.dist
@pytest.mark.parametrize('static_graph', [False, True])
def test_exact_in_two_processes(static_graph):
    results = run_processes(_rank_step, 2, 2, static_graph)
    model = build()
    loss = model(views(), mode='loss')['loss']
    assert (results[0][0] + results[1][0]) / 2 == pytest.approx(loss.item(), rel=1e-12)
    expected = gradients(model, loss)
    for _, grads in results:
        assert_same(grads, expected)


# ---- BatchNorm: the statistics of a chunk


def test_batch_norm_normalises_interleaved_chunks_and_moves_its_statistics_once():
    resnet = resnet_model().backbone
    reference = copy.deepcopy(resnet)
    x = views(32)[0]  # 6 images
    ours = encode_in_chunks(resnet, x, 2, interleave=True)
    expected = torch.empty_like(ours)
    for j in range(3):
        expected[j::3] = reference(x[j::3])[-1]
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(ours)
    assert_same(gradients(resnet, (ours * weight).sum()), gradients(reference, (expected * weight).sum()))
    for (name, buffer), other in zip(resnet.named_buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, rtol=1e-12, atol=1e-14, msg=name)
    assert int(resnet.bn1.num_batches_tracked) == 3  # and not 6: the backward pass computes every chunk again


def test_statistics_in_evaluation_mode_are_read():
    resnet = resnet_model().eval().backbone
    for buffer in resnet.buffers():
        buffer.add_(1)
    reference = copy.deepcopy(resnet)
    x = views(32)[0]
    loss = encode_in_chunks(resnet, x, 2, interleave=True).square().sum()
    assert_same(gradients(resnet, loss), gradients(reference, reference(x)[-1].square().sum()))


def test_split_batch_norm_is_exact_where_a_chunk_holds_whole_groups():
    # 8 images, groups of 2, chunks of 4
    straight, chunked = resnet_model('mocox.SplitBN'), resnet_model('mocox.SplitBN', chunk_size=4)
    losses = [model(views(32, n=8), mode='loss')['loss'] for model in (straight, chunked)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-12)
    assert_same(gradients(chunked, losses[1]), gradients(straight, losses[0]))
    torch.testing.assert_close(chunked.queue.keys, straight.queue.keys, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings('error::UserWarning')  # shuffling does have an effect
def test_queue_methods_shuffle_keys_between_chunks():
    model, reference = resnet_model(chunk_size=2), resnet_model()
    x1, x2 = views(32)
    before = model.queue.keys.clone()
    loss = model([x1, x2], mode='loss')['loss']
    order = draw_permutation(6, 0)
    features, keys = (torch.empty(6, 32, 1, 1, dtype=torch.float64) for _ in range(2))
    for j in range(3):
        features[j::3] = reference.backbone(x1[j::3])[-1]
        keys[order[j::3]] = reference.momentum_encoder.backbone(x2[order[j::3]])[-1].detach()
    q = encode(nn.Identity(), reference.neck, (features,))
    k = encode(nn.Identity(), reference.momentum_encoder.neck, (keys,))
    assert loss.item() == pytest.approx(contrast(q, k, before).item(), rel=1e-12)
    torch.testing.assert_close(model.queue.keys[:, :6].T, k, rtol=1e-10, atol=1e-12)


def test_without_a_queue_keys_have_other_company_than_their_queries():
    seen = []
    model = MODELS.build(config(backbone=dict(VIT, stem='conv', img_size=8, patch_size=4), chunk_size=4)).double()
    for backbone in (model.backbone, model.momentum_encoder.backbone):
        backbone.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0][:, 0, 0, 0].int().tolist()))
    x = torch.arange(16.0, dtype=torch.float64)[:, None, None, None] + torch.zeros(16, 3, 8, 8, dtype=torch.float64)
    model([x, x], mode='loss')
    keys, queries = seen[:4], seen[8:12]
    assert keys[0] == [0, 1, 2, 3] and queries[0] == [0, 4, 8, 12]
    assert all(len(set(k) & set(q)) == 1 for k in keys for q in queries)


def test_unequal_chunks_are_refused():
    with pytest.raises(ValueError, match='chunk_size=4 does not divide the batch of 6 images.*ResNet'):
        resnet_model(chunk_size=4)(views(32), mode='loss')


@pytest.mark.parametrize(
    ('norm', 'message'),
    [
        (
            'BN',
            'chunk_size=2: ResNet has BatchNorm, which normalises the 2 images of a chunk together and not the batch',
        ),
        ('mocox.SyncBN', 'the 2 images of a chunk, with the chunks of the other processes, together'),
        ('mocox.SplitBN', None),
    ],
)
def test_the_log_says_what_is_normalised(monkeypatch, norm, message):
    lines = []
    monkeypatch.setattr(
        'mocox.models.algorithms.base.print_log', lambda text, logger, level: lines.append((text, level))
    )
    resnet_model(norm, chunk_size=2)
    assert len(lines) == (message is not None)
    assert all(message in text and level == logging.WARNING for text, level in lines)


def _rank_step_with_batch_norm() -> tuple[Tensor, dict, dict]:
    rank = torch_dist.get_rank()
    resnet = resnet_model('mocox.SyncBN').backbone

    class Chunked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.resnet = resnet

        def forward(self, x: Tensor) -> Tensor:
            return encode_in_chunks(self.resnet, x, 2, interleave=True)

    wrapped = nn.parallel.DistributedDataParallel(Chunked(), broadcast_buffers=False)
    features = wrapped(views(32, n=8)[0][rank * 4 : rank * 4 + 4])
    grads = gradients(resnet, (features * torch.arange(1.0, 33).view(32, 1, 1)).sum())
    return features.detach(), grads, dict(resnet.named_buffers())


@pytest.mark.dist
def test_synchronised_batch_norm_normalises_the_chunks_of_all_processes():
    results = run_processes(_rank_step_with_batch_norm, 2)
    reference = resnet_model('mocox.SyncBN').backbone
    x = views(32, n=8)[0]
    features = torch.empty(8, 32, 1, 1, dtype=torch.float64)
    for chunk in ([0, 2, 4, 6], [1, 3, 5, 7]):  # every second image of rank 0's and of rank 1's four
        features[chunk] = reference(x[chunk])[-1]
    expected = gradients(reference, (features * torch.arange(1.0, 33).view(32, 1, 1)).sum() / 2)
    for rank, (ours, grads, buffers) in enumerate(results):
        torch.testing.assert_close(ours, features[rank * 4 : rank * 4 + 4].detach(), rtol=1e-10, atol=1e-12)
        assert_same(grads, expected)
        for name, buffer in reference.named_buffers():
            torch.testing.assert_close(buffers[name], buffer, rtol=1e-10, atol=1e-12, msg=name)
