"""The linear probe: a frozen backbone and a trained head. A recorded trace (test_reference.py) proves its numbers."""

import pytest
import torch

from mocox import dist
from mocox.models import LinearProbe
from mocox.registry import MODELS
from tests.support.processes import run_processes
from tests.support.small_models import VIT


def build(backbone: dict) -> LinearProbe:
    loss = dict(type='mmpretrain.CrossEntropyLoss')
    head = dict(type='mmpretrain.LinearClsHead', _scope_='mmpretrain', num_classes=3, in_channels=16, loss=loss)
    return MODELS.build(dict(type='LinearProbe', backbone=backbone, head=head))


def test_only_the_head_trains():
    model = build(dict(VIT, drop_path_rate=0.5)).train()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {'head.fc.weight', 'head.fc.bias'}
    assert model.head.training and not any(m.training for m in model.backbone.modules())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(model(x), model(x))  # no path is dropped
    assert not model.extract_feat(x)[0].requires_grad and model(x).requires_grad


def test_statistics_of_the_backbone_stay():
    resnet = dict(type='mmpretrain.ResNet', depth=18, stem_channels=4, base_channels=2)
    model = build(resnet).train()
    before = {name: value.clone() for name, value in model.backbone.named_buffers()}
    scores = model(torch.randn(4, 3, 32, 32))
    assert scores.shape == (4, 3)  # feature maps are averaged
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.named_buffers())


def logged_and_trained() -> tuple[float, float]:
    loss, logs = build(VIT).parse_losses(dict(loss=torch.tensor(dist.rank() + 1.0)))
    return float(logs['loss']), float(loss)


@pytest.mark.dist
def test_what_is_logged_is_the_mean_of_all_processes():
    assert run_processes(logged_and_trained, 2) == [(1.5, 1.0), (1.5, 2.0)]


def test_a_head_of_another_width_is_refused():
    model = build(dict(VIT, arch=dict(VIT['arch'], embed_dims=32)))
    with pytest.raises(ValueError, match='head.in_channels=16, but the backbone gives 32'):
        model(torch.randn(2, 3, 8, 8))
