"""Compiled blocks: same numbers, same names, in real runs."""

import copy

import pytest
import torch
from mmengine.runner import Runner
from torch import nn

from mocox.models.compilation import compile_blocks, repeated_blocks
from mocox.registry import MODELS
from mocox.visualize.attention import attention_maps
from tests.support.gradients import assert_same, gradients
from tests.support.processes import run_processes
from tests.support.runs import train
from tests.support.small_models import VIT, build, config, moco_config, views

RESNET = moco_config()['backbone']


@pytest.fixture(autouse=True)
def forget_compiled():
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(('backbone', 'num_blocks', 'kind'), [(VIT, 2, 'Block'), (RESNET, 8, 'BasicBlock')])
def test_what_is_compiled(backbone, num_blocks, kind):
    blocks = repeated_blocks(MODELS.build(backbone))
    assert [type(m).__name__ for m in blocks] == [kind] * num_blocks


@pytest.mark.parametrize(('before', 'after'), [(8, 64), (100, 100)])
def test_the_limit_of_programs_is_raised(before, after):
    with torch._dynamo.config.patch(recompile_limit=before):
        compile_blocks(MODELS.build(VIT), True)
        assert torch._dynamo.config.recompile_limit == after


def test_timm_and_swin():
    timm = MODELS.build(dict(type='mmpretrain.TIMMBackbone', model_name='convnext_atto', features_only=False))
    assert {type(m).__name__ for m in repeated_blocks(timm)} == {'ConvNeXtBlock'}
    swin = MODELS.build(dict(type='mmpretrain.SwinTransformer', arch='tiny', img_size=32))
    assert {type(m).__name__ for m in repeated_blocks(swin)} == {'SwinBlock'}


@pytest.mark.parametrize('chunk_size', [None, 4])
def test_same_loss_and_gradients(chunk_size):
    eager = build()
    compiled = build(chunk_size=chunk_size, compile=dict(backend='aot_eager'))
    assert list(compiled.state_dict()) == list(eager.state_dict())
    torch._dynamo.utils.counters.clear()
    losses = [model(views(), mode='loss')['loss'] for model in (eager, compiled)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-13)
    assert_same(gradients(compiled, losses[1]), gradients(eager, losses[0]))
    # One graph for all blocks of the query encoder, one without gradient for the momentum encoder's.
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 2


def test_a_trimmed_block():
    eager, compiled = build(), build(backbone=dict(VIT, trim_last_block=True), compile=dict(backend='eager'))
    losses = [model(views(), mode='loss')['loss'] for model in (eager, compiled)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-13)
    assert_same(gradients(compiled, losses[1]), gradients(eager, losses[0]))


@pytest.mark.parametrize('norm', ['mocox.SplitBN', pytest.param('mocox.SyncBN', marks=pytest.mark.slow)])
def test_resnet(norm):
    results = []
    torch._dynamo.utils.counters.clear()
    for compile in (False, dict(backend='aot_eager')):
        torch.manual_seed(0)
        model = MODELS.build(moco_config(norm, compile=compile)).double()
        model.init_weights()
        loss = model(views(32), mode='loss')['loss']
        results.append((loss.item(), gradients(model, loss), dict(model.named_buffers())))
    # 7 shapes of blocks, with and without gradient: torch gives up after 8 graphs unless it is told otherwise
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 14
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-12)
    assert_same(results[1][1], results[0][1])
    for name, buffer in results[0][2].items():
        torch.testing.assert_close(results[1][2][name], buffer, rtol=1e-10, atol=1e-12, msg=name)


def test_both_encoders_are_compiled_and_a_copy_is_not():
    model = build(compile=dict(backend='eager'))
    for block in (*model.backbone.blocks, *model.momentum_encoder.backbone.blocks):
        assert block._compiled_call_impl is not None
    twin = copy.deepcopy(model)
    assert twin.backbone.blocks[0]._compiled_call_impl is None
    assert twin(views(), mode='loss')['loss'].item() == pytest.approx(
        model(views(), mode='loss')['loss'].item(), rel=1e-13
    )


def test_attention_of_a_compiled_backbone():
    # hooks inside a block that is compiled already are not called
    maps = []
    for compile in (False, dict(backend='eager')):
        model = build(compile=compile)
        model(views(), mode='loss')
        maps.append(attention_maps(model.backbone, views()[0]))
    torch.testing.assert_close(maps[1], maps[0])


def run(folder, compile: bool | dict, **kwargs) -> Runner:
    return train(folder, model=config(VIT, base_momentum=0.9, compile=compile), **kwargs)[0]


def test_a_run_stopped_and_resumed(tmp_path):
    eager = run(tmp_path / 'eager', False)
    saving = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    compile = dict(backend='aot_eager')
    straight = run(tmp_path / 'straight', compile, default_hooks=saving)
    for key, value in eager.model.state_dict().items():
        torch.testing.assert_close(straight.model.state_dict()[key], value, rtol=1e-4, atol=1e-5, msg=key)
    resumed = run(tmp_path / 'resumed', compile, load_from=str(tmp_path / 'straight/epoch_1.pth'), resume=True)
    for key, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key


def _rank_step(compile: bool | dict) -> tuple[float, dict]:
    rank = torch.distributed.get_rank()
    model = build(compile=compile)
    wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
    loss = wrapped([x[rank * 3 : rank * 3 + 3] for x in views()], mode='loss')['loss']
    return loss.item(), gradients(model, loss)


@pytest.mark.slow
@pytest.mark.dist
def test_two_processes():
    eager = run_processes(_rank_step, 2, False)
    compiled = run_processes(_rank_step, 2, dict(backend='eager'))
    for (loss, grads), (expected, expected_grads) in zip(compiled, eager, strict=True):
        assert loss == pytest.approx(expected, rel=1e-13)
        assert_same(grads, expected_grads)


@pytest.mark.slow
def test_inductor():
    eager, compiled = build().float(), build(compile=True).float()
    x = [v.float() for v in views()]
    losses = [model(x, mode='loss')['loss'] for model in (eager, compiled)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-5)
    assert_same(gradients(compiled, losses[1]), gradients(eager, losses[0]), rtol=1e-4)


def test_mistakes():
    with pytest.raises(TypeError, match="compile='yes': give True, False or a dict"):
        build(compile='yes')
    with pytest.raises(ValueError, match='Linear has no list of blocks'):
        compile_blocks(nn.Linear(1, 1), True)
