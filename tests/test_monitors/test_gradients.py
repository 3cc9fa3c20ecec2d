import numpy as np
import pytest
import torch
from torch import nn

from mocox.monitors.gradients import LayerNorms, SpikeDetector, layer_name
from mocox.registry import MODELS
from tests.support.small_models import VIT, config


@pytest.mark.parametrize(
    ('parameter', 'layer'),
    [
        ('backbone.patch_embed.proj.weight', 'patch_embed'),
        ('backbone.blocks.11.mlp.fc1.weight', 'blocks.11'),
        ('backbone.layer1.0.conv1.weight', 'layer1.0'),
        ('backbone.cls_token', 'cls_token'),
        ('neck.fc0.weight', 'neck'),
        ('head.predictor.bn0.bias', 'head'),
    ],
)
def test_layer_name(parameter, layer):
    assert layer_name(parameter) == layer


def test_norms_of_a_transformer():
    model = MODELS.build(config(dict(VIT, stop_grad_conv1=False)))
    norms = LayerNorms(model)
    assert norms.names == ['patch_embed', 'cls_token', 'blocks.0', 'blocks.1', 'norm', 'neck', 'head']
    model([torch.randn(4, 3, 8, 8)] * 2, mode='loss')['loss'].backward()
    for name, norm in zip(norms.names, norms().tolist()):
        grads = [p.grad.flatten() for n, p in model.named_parameters() if layer_name(n) == name and p.grad is not None]
        assert norm == pytest.approx(torch.cat(grads).norm().item(), rel=1e-5)
    assert norms.of_layer('patch_embed') == [p for p in model.backbone.patch_embed.parameters() if p.requires_grad]


def test_frozen_and_missing_gradients():
    model = MODELS.build(config(VIT))
    norms = LayerNorms(model)
    assert 'patch_embed' not in norms.names
    assert norms().tolist() == [0] * len(norms.names)
    model.backbone.norm.weight.grad = torch.full((16,), torch.nan)
    assert norms().isnan().tolist() == [name == 'norm' for name in norms.names]


def test_a_wrapper_around_the_backbone_has_no_name():
    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.timm_model = nn.ModuleDict(dict(conv1=nn.Conv2d(3, 4, 1), layer1=nn.Sequential(nn.Linear(2, 2))))
    assert LayerNorms(model).names == ['conv1', 'layer1.0']


def test_scale():
    model = MODELS.build(config(VIT))
    norms = LayerNorms(model)
    for p in norms.params:
        p.grad = torch.ones_like(p)
    before = norms()
    norms.scale(torch.arange(len(norms.names)).float())
    torch.testing.assert_close(norms(), before * torch.arange(len(norms.names)))


def test_medians():
    detector = SpikeDetector(num_layers=2, factor=10, window=5, warmup=3)
    assert np.isinf(detector.medians()).all()
    for value in (1, 5, 2):
        detector.append(np.array([value, 0.0]))
    assert detector.medians().tolist() == [2, np.inf]  # a layer without gradient has no spikes
    for value in (100, 3, 4, 4):
        detector.append(np.array([value, 0.0]))
    assert detector.medians()[0] == 4  # of 2, 100, 3, 4, 4: the oldest two have left


def test_a_lasting_change_stops_being_a_spike():
    detector = SpikeDetector(1, factor=10, window=8, warmup=4)
    for _ in range(8):
        detector.append(np.array([1.0]))
    spikes = []
    for _ in range(8):
        spikes.append(bool(10 * detector.medians()[0] < 50))
        detector.append(np.array([50.0]))
    assert spikes == [True] * 4 + [False] * 4  # the median of four 1 and four 50 is 25.5


def test_state():
    detector = SpikeDetector(2, 10, 5, 3)
    for i in range(7):
        detector.append(np.array([i, 2.0 * i]))
    copy = SpikeDetector(2, 10, 5, 3)
    copy.load_state_dict(detector.state_dict())
    for one in (detector, copy):
        one.append(np.array([9.0, 9.0]))
    assert copy.medians().tolist() == detector.medians().tolist()
    other = SpikeDetector(3, 10, 5, 3)
    other.load_state_dict(detector.state_dict())
    assert other.count == 0
