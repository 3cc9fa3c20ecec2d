"""The last block of a transformer that computes the class token alone: same loss, same gradients, less to do."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mocox.models.backbones.vit import MoCoViT
from mocox.visualize.attention import attention_maps
from tests.support.gradients import assert_same, gradients
from tests.support.small_models import VIT, build, views

TOKENS, WIDTH, MLP = 5, 16, 32  # of VIT, which has two blocks


def twins(**options) -> list[MoCoViT]:
    kwargs = {key: value for key, value in VIT.items() if key != 'type'} | options
    models = [MoCoViT(**kwargs, trim_last_block=trim).double().train() for trim in (False, True)]
    for weight in models[0].parameters():
        if weight.ndim == 1:
            nn.init.normal_(weight, std=0.5)  # biases are zeros, in which a mistake would hide
    models[1].load_state_dict(models[0].state_dict())
    return models


@pytest.mark.parametrize('options', [{}, dict(qkv_bias=False), dict(drop_path_rate=0.5), dict(final_norm=False)])
def test_features_and_gradients_are_those_of_the_whole_block(options):
    x = torch.randn(6, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outputs, grads = [], []
    for model in twins(**options):
        torch.manual_seed(1)  # of stochastic depth
        outputs.append(model(x)[-1])
        grads.append(gradients(model, outputs[-1].cos().sum()))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-12, atol=1e-12)
    assert_same(grads[1], grads[0])


@pytest.mark.parametrize('options', [{}, dict(chunk_size=4)])
def test_a_step_of_the_algorithm_is_the_same(options):
    whole, trimmed = build(), build(backbone=dict(VIT, trim_last_block=True), **options)
    losses = [model(views(), mode='loss')['loss'] for model in (whole, trimmed)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-13)
    assert_same(gradients(trimmed, losses[1]), gradients(whole, losses[0]))


def test_what_is_left_out():
    """Per image: queries, projection and MLP of all tokens but one, and the attention of their queries."""
    counts = []
    for model in twins():
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            model(torch.zeros(1, 3, 8, 8, dtype=torch.float64))
        counts.append(counter.get_total_flops())
    products = 2 * (2 * WIDTH**2 + 2 * WIDTH * MLP)
    attention = 4 * TOKENS * WIDTH
    assert counts[0] - counts[1] == (TOKENS - 1) * (products + attention)


def test_an_evaluation_sees_all_tokens():
    whole, trimmed = (model.eval() for model in twins())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(trimmed(x)[-1], whole(x)[-1])
    assert torch.equal(attention_maps(trimmed, x), attention_maps(whole, x))
    assert trimmed.training is False
