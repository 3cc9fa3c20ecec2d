"""An encoder rebuilt from a checkpoint gives the features of the model that was saved."""

import pytest
import torch
import torchvision
from mmengine.config import Config
from torch import nn

from mocox.checkpoint import load_backbone, read, reading
from mocox.checkpoint.writing import convert
from mocox.evaluation.encoder import Encoder, evaluation_crops, load_encoder
from mocox.evaluation.rebuilding import build_projector
from mocox.models import NonLinearNeck
from mocox.registry import MODELS
from tests.test_checkpoint.conftest import CONV_VIT, RESNET, VIT, official_file, pretraining_model

IMAGES = dict(vit=(2, 3, 32, 32), resnet=(2, 3, 64, 64))
BOTTLENECK = dict(
    type='mmpretrain.ResNet', depth=50, stem_channels=8, base_channels=8, out_indices=(3,), zero_init_residual=False
)


def mocox_file(path, model, **meta):
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=3), **meta), path)
    return path


@pytest.mark.parametrize('encoder', ['query', 'momentum'])
@pytest.mark.parametrize(
    ('config', 'width'),
    [
        (VIT, 32),
        (CONV_VIT, 32),
        (RESNET, 64),
        (dict(RESNET, type='mmpretrain.ResNet_CIFAR'), 64),
        (BOTTLENECK, 256),
        (dict(BOTTLENECK, expansion=2), 128),  # a wide ResNet
        (dict(RESNET, stem_channels=16, base_channels=8), 64),
    ],
)
def test_every_architecture_is_built_from_its_tensors(tmp_path, config, width, encoder):
    model = pretraining_model(config, width).eval()
    loaded = load_encoder(mocox_file(tmp_path / 'x.pth', model), encoder, heads=4 if 'arch' in config else None)
    images = torch.randn(IMAGES['vit' if 'arch' in config else 'resnet'])
    backbone = model.backbone if encoder == 'query' else model.momentum_encoder.backbone
    with torch.no_grad():
        expected = backbone(images)[-1]
    expected = expected.mean(dim=(2, 3)) if expected.ndim == 4 else expected
    torch.testing.assert_close(loaded.model.extract_feat(images), expected)
    assert loaded.which == encoder
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.image_size == (224 if config['type'] == 'mmpretrain.ResNet' else 32)


@pytest.mark.parametrize(('depth', 'depths'), [(18, [2, 2, 2, 2]), (34, [3, 4, 6, 3])])
def test_a_torchvision_file_gives_torchvision_features(tmp_path, depth, depths):
    model = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, depths).eval()
    torch.save(model.state_dict(), tmp_path / 'x.pth')
    loaded = load_encoder(tmp_path / 'x.pth')
    images = torch.randn(1, 3, 32, 32)
    model.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(loaded.model.extract_feat(images), model(images))
    assert any('ImageNet' in note for note in loaded.notes)


def test_an_official_file_is_normalised_as_imagenet(tmp_path):
    loaded = load_encoder(official_file(tmp_path / 'x.pth.tar', VIT), heads=4)
    preprocessor = loaded.model.data_preprocessor
    assert preprocessor.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert loaded.crops == dict(type='CenterCrop', size=32, resize=32)
    assert evaluation_crops(224) == dict(type='CenterCrop', size=224, resize=256)


@pytest.mark.parametrize(('config', 'width'), [(VIT, 32), (RESNET, 64)])
@pytest.mark.parametrize('encoder', ['query', 'momentum'])
def test_projector(tmp_path, config, width, encoder):
    model = pretraining_model(config, width).eval()
    heads = 4 if 'arch' in config else None
    loaded = load_encoder(mocox_file(tmp_path / 'x.pth', model), encoder, 'projector', heads=heads)
    images = torch.randn(IMAGES['vit' if heads else 'resnet'])
    owner = model if encoder == 'query' else model.momentum_encoder
    with torch.no_grad():
        expected = owner.neck(owner.backbone(images))[-1]
    torch.testing.assert_close(loaded.model.extract_feat(images), expected)


@pytest.mark.parametrize('num_layers', [1, 2, 3])
@pytest.mark.parametrize('options', [dict(with_bias=True, with_last_bias=True), dict(with_last_bn=False)])
def test_projectors_of_any_depth(num_layers, options):
    neck = NonLinearNeck(4, 6, 5, num_layers, norm_cfg=dict(type='BN1d'), **options)
    for tensor in neck.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape) + 0.5)
    x = torch.randn(3, 4)
    torch.testing.assert_close(build_projector(neck.state_dict()).eval()(x), neck.eval()(x)[-1])


def test_projectors_of_v1_and_v2():
    first, second = nn.Linear(4, 6), nn.Linear(6, 5)
    x = torch.randn(3, 4)
    v1 = {f'fc.{name}': tensor for name, tensor in first.state_dict().items()}
    torch.testing.assert_close(build_projector(v1)(x), first(x))
    v2 = {f'mlp.{i}.{name}': t for i, layer in ((0, first), (2, second)) for name, t in layer.state_dict().items()}
    torch.testing.assert_close(build_projector(v2)(x), second(first(x).relu()))
    with pytest.raises(ValueError, match='layers.0.weight.* is not known: use the backbone'):
        build_projector({'layers.0.weight': torch.zeros(1)})


def test_a_config_says_what_the_file_does_not(tmp_path):
    path = official_file(tmp_path / 'x.pth.tar', VIT)
    (tmp_path / 'cfg.py').write_text(
        f'backbone = {dict(VIT, out_type="avg_featmap", init_cfg=dict(type="Nothing"))!r}\n'
        'model = dict(type="LinearProbe", backbone=backbone)\n'
        'data_preprocessor = dict(type="LabelledPreprocessor", mean=[1., 2., 3.], std=[4., 5., 6.], views=[{}])\n'
        'crops = dict(type="CenterCrop", size=32, resize=40)\n'
        'train_dataloader = dict(dataset=dict(with_labels=True, crops=dict(type="RandomResizedCrops", size=32)))\n'
        'test_dataloader = dict(dataset=dict(with_labels=True, crops=crops))\n'
    )
    loaded = load_encoder(path, config=tmp_path / 'cfg.py')
    assert loaded.model.backbone.out_type == 'avg_featmap'
    assert loaded.model.data_preprocessor.mean.flatten().tolist() == [1, 2, 3]
    assert loaded.model.data_preprocessor.views[0].flip_prob == 0
    assert (loaded.crops['resize'], loaded.train_crops['type']) == (40, 'RandomResizedCrops')
    assert load_encoder(path, config=tmp_path / 'cfg.py', image_size=16).crops['size'] == 16


def test_a_file_that_wants_bgr_gets_bgr():
    """The constants of such a file are in its order, the images are RGB."""
    backbone = nn.Conv2d(3, 4, 3)
    rgb, bgr = Encoder(backbone), Encoder(backbone, bgr=True)
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(bgr.extract_feat(images.flip(1)), rgb.extract_feat(images))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(), 'number of attention heads.* --heads .*12 in MoCo v3, 6 in DeiT'),
        (dict(heads=4, level='head'), "level='head'"),
        (dict(heads=4, encoder='slow'), "encoder='slow'"),
    ],
)
def test_what_the_file_does_not_tell_is_asked_for(tmp_path, settings, message):
    path = official_file(tmp_path / 'x.pth.tar', VIT)
    with pytest.raises(ValueError, match=message):
        load_encoder(path, **settings)


def test_unknown_backbones_need_a_config(tmp_path):
    tensors = {'backbone.stem.weight': torch.zeros(2), 'backbone.x.bias': torch.zeros(1)}
    torch.save({'state_dict': tensors}, tmp_path / 'x')
    with pytest.raises(ValueError, match='tensors alone do not tell .*unknown architecture.*--config CFG'):
        load_encoder(tmp_path / 'x')


def test_features_must_be_vectors_or_maps():
    with pytest.raises(ValueError, match=r'Flatten gives features of shape \(2, 3, 64\)'):
        Encoder(nn.Flatten(2)).extract_feat(torch.randn(2, 3, 8, 8))


def test_a_file_is_read_once(tmp_path, monkeypatch):
    path, files = official_file(tmp_path / 'x.pth.tar', VIT), []
    opened = reading.open_file
    monkeypatch.setattr(reading, 'open_file', lambda path, *rest: (files.append(path), opened(path, *rest))[1])
    loaded = load_encoder(path, heads=4)
    assert files == [path]
    assert loaded.checkpoint.path == str(path)


def test_a_checkpoint_that_has_been_read_fills_a_backbone_as_its_file_does(tmp_path):
    path = official_file(tmp_path / 'x.pth.tar', VIT)
    one, other = (pretraining_model(VIT).backbone for _ in range(2))
    reports = load_backbone(one, path), load_backbone(other, read(path))
    assert str(reports[0]) == str(reports[1])
    for name, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


@pytest.mark.parametrize('size', [96, (64, 128)])
def test_a_resnet_is_evaluated_at_the_size_that_it_was_trained_at(tmp_path, size):
    """Its tensors do not tell; the config of the run does, and so does what is made of the file."""
    model = pretraining_model(dict(RESNET, stem_channels=16, base_channels=8), 64)
    cfg = (
        "model = dict(type='MoCoV3', backbone=dict(type='mmpretrain.ResNet', depth=18))\n"
        f"train_dataloader = dict(dataset=dict(crops=dict(type='RandomResizedCrops', size={size})))\n"
    )
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=1, cfg=cfg)), tmp_path / 'run.pth')
    convert(tmp_path / 'run.pth', tmp_path / 'made.safetensors', 'mocox')
    for name in ('run.pth', 'made.safetensors'):
        loaded = load_encoder(tmp_path / name)
        assert loaded.image_size == size
        assert not any('image size' in note for note in loaded.notes)


@pytest.mark.parametrize(('strides', 'grid'), [(None, None), ((2, 2, 1, 1), None), (None, 2), ((2, 2, 1, 1), 2)])
def test_a_run_may_be_called_anything_and_its_config_says_what_tensors_do_not(tmp_path, strides, grid):
    """``resnet18_custom`` is not a network of another name; strides are in no tensor, nor is how a map is read."""
    backbone = dict(type='mmpretrain.ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4)
    backbone |= dict(strides=strides) if strides else {}
    backbone |= dict(type='GridPooledResNet', grid=grid) if grid else {}
    neck = dict(type='NonLinearNeck', in_channels=32 * (grid or 1) ** 2, hid_channels=8, out_channels=8)
    head = dict(type='ContrastiveHead', predictor=dict(neck, in_channels=8))
    settings = dict(type='MoCoV3', backbone=backbone, neck=neck, head=head)
    model = MODELS.build(settings).eval()
    meta = dict(
        cfg=Config(dict(model=settings)).pretty_text, experiment_name='resnet18_custom_20260101_000000', epoch=1
    )
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(meta=meta, state_dict=model.state_dict()), path)
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert 'ResNet-18 of width 4' in read(path).summary
    torch.testing.assert_close(load_encoder(path).model.backbone(images)[-1], model.backbone(images)[-1])
    notes = convert(path, tmp_path / 'vision.pth', to='openmmlab')
    assert any('strides=[2, 2, 1, 1], which its tensors do not tell' in note for note in notes) == bool(strides)
    assert any('last map, averaged over each of 2 x 2 parts' in note for note in notes) == bool(grid)
    assert not any('grid=' in note for note in notes)
    convert(path, tmp_path / 'own.safetensors', to='mocox', backbone_only=True)
    again = load_encoder(tmp_path / 'own.safetensors').model.backbone(images)[-1]
    torch.testing.assert_close(again, model.backbone(images)[-1])
