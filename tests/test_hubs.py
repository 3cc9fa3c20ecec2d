"""The hubs of mmpretrain and MMEngine know the models of mocox, wherever it is imported from."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine import hub
from PIL import Image

from mocox.datasets import CenterCrop
from tests.test_checkpoint.conftest import perturbed


@pytest.fixture(scope='module')
def probe(tmp_path_factory):
    """A tiny linear probe from mmpretrain's hub, its checkpoint and an image."""
    from mmpretrain import get_model

    folder = tmp_path_factory.mktemp('hub')
    arch = dict(_delete_=True, embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
    torch.manual_seed(0)
    tiny = dict(backbone=dict(arch=arch, img_size=224), head=dict(in_channels=32, num_classes=3))
    model = perturbed(get_model('mocov3_vit-small_linear', **deepcopy(tiny)))
    meta = dict(dataset_meta=dict(classes=('ant', 'bee', 'cat')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'probe.pth')
    pixels = np.random.default_rng(0).integers(0, 256, (260, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / 'a.png')
    return folder, tiny, pixels


def test_mmpretrain_lists_what_it_can_build():
    from mmpretrain import list_models

    names = list_models('mocov3_vit')
    assert {'mocov3_vit-small', 'mocov3_vit-small_linear', 'mocov3_vit-base-conv_linear'} <= set(names)
    assert 'resnet50_8xb32_in1k' in list_models('resnet50')
    assert not list_models('detection_')  # of another library


def test_mmpretrain_builds_the_recipes_for_images_of_ones_own():
    """They have no row in a metafile; the inferencer finds the crops of the recipe in `pipeline`."""
    from mmpretrain import get_model, list_models

    assert {'mocov3_vit-small_custom_linear', 'mocov2_resnet50_custom'} <= set(list_models('moco*custom'))
    with torch.device('meta'):
        model = get_model('mocov3_vit-tiny_digits_linear', head=dict(num_classes=3))
    assert type(model).__name__ == 'LinearProbe' and model.head.num_classes == 3
    assert model._config.test_dataloader.dataset.pipeline[0].type == 'mocox.InferencerCrops'


def test_the_inferencer_classifies_as_the_model_does(probe):
    from mmpretrain import ImageClassificationInferencer, get_model

    folder, tiny, pixels = probe
    model = get_model('mocov3_vit-small_linear', pretrained=str(folder / 'probe.pth'), **deepcopy(tiny))
    assert type(model).__name__ == 'LinearProbe'
    (result,) = ImageClassificationInferencer(model)(str(folder / 'a.png'))
    # The published test: the central 224 of 256 pixels, RGB, ImageNet's constants.
    crops = CenterCrop(size=224, resize=256)
    image = crops(pixels, None)[0][None].float()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    with torch.no_grad():
        expected = model((image - mean) / std).softmax(1)[0].numpy()
    np.testing.assert_allclose(result['pred_scores'], expected, atol=1e-6)
    assert result['pred_class'] == ('ant', 'bee', 'cat')[expected.argmax()]


def test_mmengines_hub_builds_a_model():
    """As from an installed wheel, which the test of the package does."""
    with torch.device('meta'):
        model = hub.get_model('mocox::mocov3/vit-small_linear.py')
    assert type(model).__name__ == 'LinearProbe'
    assert model.backbone.embed_dim == 384 and model.data_preprocessor.mean.shape == (3, 1, 1)
