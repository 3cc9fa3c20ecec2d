"""Backbones that give tokens or channels last, in training, linear evaluation and evaluation alike."""

import pytest
import torch
from torch import nn

from mocox.evaluation.encoder import Encoder
from mocox.models.layout import require_layout
from mocox.registry import MODELS
from tests.support.small_models import VIT, config


@pytest.mark.parametrize('sides', [(224, 224), (32, 32), (8, 8), (64, 32), (225, 96)])
@pytest.mark.parametrize('stride', [4, 8, 32])
@pytest.mark.parametrize('channels', [7, 16, 64, 768])
def test_every_map_and_vector_passes_and_channels_last_do_not(sides, stride, channels):
    images = torch.zeros(2, 3, *sides)
    height, width = (-(-side // stride) for side in sides)  # rounded up, as strided convolutions do
    for shape in ((2, channels), (2, channels, height, width)):
        assert require_layout(torch.zeros(shape), images, 'X').shape == shape
    for shape in ((2, height * width + 1, channels), (2, channels, 1, 1, 1), (2,)):
        with pytest.raises(ValueError, match='^X gives'):
            require_layout(torch.zeros(shape), images, 'X')


@pytest.mark.parametrize(('sides', 'shape'), [((224, 224), (2, 7, 7, 768)), ((64, 32), (2, 8, 4, 96))])
def test_a_map_of_swin_is_refused(sides, shape):
    with pytest.raises(ValueError, match=r'channels last \(B, H, W, C\): .*SwinTransformer'):
        require_layout(torch.zeros(shape), torch.zeros(2, 3, *sides), 'TIMMBackbone')


class Other(nn.Module):
    """Gives what its name says, from one linear layer."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout, self.embed = layout, nn.Conv2d(3, 16, 4, stride=4)

    def forward(self, x):
        x = self.embed(x).permute(0, 2, 3, 1)
        return (x.flatten(1, 2) if self.layout == 'tokens' else x,)


@pytest.fixture(params=['tokens', 'channels last'])
def backbone(request):
    MODELS.register_module(name='Other', module=Other, force=True)
    yield dict(type='Other', layout=request.param)
    MODELS.module_dict.pop('Other')


def test_training_and_evaluation_refuse_it(backbone):
    images = torch.zeros(4, 3, 8, 8)
    model = MODELS.build(config(VIT))
    model.backbone = model.momentum_encoder.backbone = MODELS.build(backbone)
    probe = MODELS.build(
        dict(
            type='LinearProbe',
            backbone=backbone,
            head=dict(type='LinearClsHead', _scope_='mmpretrain', num_classes=2, in_channels=16),
        )
    )
    encoder = Encoder(MODELS.build(backbone))
    for use in (
        lambda: model.loss([images, images]),
        lambda: model.extract_feat(images),
        lambda: probe.extract_feat(images),
        lambda: encoder.extract_feat(images),
    ):
        with pytest.raises(ValueError, match='^Other gives (features .* tokens|a map)'):
            use()
