"""The moving average against its closed form."""

import torch
from torch import nn

from mocox.models.momentum_encoder import MomentumEncoder


def pair() -> tuple[nn.Module, nn.Module]:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double(), nn.Linear(4, 2).double()


def test_closed_form_over_three_steps():
    backbone, neck = pair()
    encoder = MomentumEncoder(backbone, neck)
    start = encoder.backbone[0].weight.clone()
    nn.init.constant_(backbone[0].weight, 2.0)
    for _ in range(3):
        encoder.update(backbone, neck, 0.9)
    torch.testing.assert_close(encoder.backbone[0].weight, 0.9**3 * start + (1 - 0.9**3) * 2.0, rtol=1e-14, atol=0)


def test_frozen_parameters_follow_and_buffers_do_not():
    backbone, neck = pair()
    encoder = MomentumEncoder(backbone, neck)
    backbone[0].weight.requires_grad_(False)
    nn.init.constant_(backbone[0].weight, 2.0)
    backbone[1].running_mean.fill_(5.0)
    encoder.update(backbone, neck, 0.0)
    assert (encoder.backbone[0].weight == 2.0).all()
    assert (encoder.backbone[1].running_mean == 0.0).all()


def test_it_has_no_trainable_parameters_and_shares_none():
    backbone, neck = pair()
    encoder = MomentumEncoder(backbone, neck)
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not {id(p) for p in encoder.parameters()} & {id(p) for p in [*backbone.parameters(), *neck.parameters()]}


def test_sync_copies_weights_and_buffers():
    backbone, neck = pair()
    encoder = MomentumEncoder(backbone, neck)
    for tensor in [*backbone.parameters(), backbone[1].running_var]:
        nn.init.uniform_(tensor)
    encoder.sync(backbone, neck)
    for ours, theirs in zip(encoder.backbone.state_dict().values(), backbone.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
