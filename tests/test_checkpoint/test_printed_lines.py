"""What a conversion prints runs as it is printed, in a fresh interpreter, and computes the features of the file."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from mocox.checkpoint import convert, load_backbone
from mocox.models.layout import last_output
from mocox.models.necks import average_positions
from mocox.registry import MODELS
from tests.support.ready_made import TIMM_MODELS, TRANSFORMERS_MODELS, saved
from tests.test_checkpoint.conftest import CONV_VIT, RESNET, VIT, backbone

FULL = dict(type='mmpretrain.ResNet', depth=18, out_indices=(3,))
WIDE_VIT = dict(VIT, in_channels=5, img_size=48)
CONFIGS = dict(vit=VIT, conv=CONV_VIT, channels=WIDE_VIT, resnet=FULL, narrow=dict(RESNET, in_channels=13))
CONFIGS |= {f'timm: {key}': dict(type='TIMMBackbone', model_name=name, **kwargs)
            for key, (name, kwargs, *_) in TIMM_MODELS.items()}  # fmt: skip
FOLDERS = [f'transformers: {member}' for member in TRANSFORMERS_MODELS]
FROM_CONFIG = """
from mocox.registry import MODELS
model = MODELS.build(backbone)
model.init_weights()
"""
RUN = """
import functools, torch, torchvision, timm, mocox, mocox.models.backbones.vit
{line}
{then}
model.eval()
images = torch.load({images!r})
with torch.no_grad():
    output = model(images)
output = getattr(output, {field!r}, output)
output = output[-1] if isinstance(output, tuple) else output
output = output.mean((2, 3)) if output.ndim == 4 else output[:, 0] if output.ndim == 3 else output
torch.save(output, {out!r})
"""
CASES = [
    *(('openmmlab', name) for name in ('vit', 'channels', 'resnet', 'narrow')),
    *(('mocox', name) for name in CONFIGS),
    *(('torchvision', name) for name in ('vit', 'channels', 'resnet')),
    *(('timm', name) for name in ('vit', 'conv', 'channels', 'resnet')),
    ('transformers', 'channels'),
    *(('timm', name) for name in CONFIGS if name.startswith('timm: ')),
    *((to, name) for name in FOLDERS for to in ('transformers', 'mocox')),
    *(('timm', f'transformers: {member}') for member in ('ViT', 'Dinov2', 'Dinov2WithRegisters', 'DINOv3ViT')),
]


def write(folder: Path, name: str) -> None:
    """A checkpoint with the backbone of a run, and images for it."""
    if name in FOLDERS:
        saved(folder / name, name.removeprefix('transformers: '))
        config, meta = dict(type='TransformersBackbone', folder=name), dict(folder=name)
        module = MODELS.build(dict(config, folder=str(folder / name)))
        settings, side = TRANSFORMERS_MODELS[name.removeprefix('transformers: ')]
        side = settings.get('image_size', side)
    else:
        config = CONFIGS[name]
        meta = dict(backbone=config) if name.startswith('timm: ') else dict(heads=4)
        module, side = backbone(config), config.get('img_size', 32)
    tensors = {f'backbone.{key}': tensor for key, tensor in module.state_dict().items()}
    torch.save(dict(state_dict=tensors, mocox=dict(kind='self-supervised', **meta)), folder / f'{name}.pth')
    torch.save(torch.randn(2, config.get('in_channels', 3), side, side), folder / f'{name}.images')


def built(folder: Path, name: str) -> nn.Module:
    """Ours, of that file."""
    of_folder = dict(type='TransformersBackbone', folder=str(folder / name), pretrained=False)
    module = MODELS.build(of_folder if name in FOLDERS else CONFIGS[name])
    load_backbone(module, folder / f'{name}.pth')
    return module


@pytest.fixture(scope='module')
def made(tmp_path_factory) -> tuple[Path, str]:
    """Every target of every backbone, converted, and run by one interpreter each printed line on its own."""
    folder = tmp_path_factory.mktemp('lines')
    code = []
    for to, name in CASES:
        if to == 'transformers':
            pytest.importorskip('transformers')
        source = folder / f'{name}.pth'
        if not source.exists():
            write(folder, name)
        out = folder / f'{to}-{name}{"" if to == "transformers" else ".out"}'
        line = convert(source, out, to, heads=2 if (to, name in FOLDERS) == ('timm', True) else None)[0]
        line = line if line.startswith(('model', 'backbone')) else f'model = {line}'
        library = 'import transformers\n' if to == 'transformers' else ''
        then = FROM_CONFIG if line.startswith('backbone=') else ''
        pooled = name in FOLDERS and not name.endswith(' ViT')  # ViT's pooled output goes through a layer of BERT's
        names = dict(field='pooler_output' if pooled else 'last_hidden_state', images=str(folder / f'{name}.images'))
        run = RUN.format(line=library + line, then=then, out=f'{out}.features', **names)
        code.append(
            f'try:\n    exec({run!r}, {{}})\nexcept Exception as error:\n    print({to!r}, {name!r}, repr(error))'
        )
    done = subprocess.run([sys.executable, '-c', '\n'.join(code)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.parametrize(('to', 'name'), CASES)
def test_the_printed_line_runs_as_printed(made, to, name):
    folder, output = made
    features = folder / f'{to}-{name}{"" if to == "transformers" else ".out"}.features'
    assert features.exists(), output[-1500:]
    module = built(folder, name)
    module.eval()  # mmpretrain's ResNet returns nothing here
    with torch.no_grad():
        images = torch.load(folder / f'{name}.images')
        expected = average_positions(last_output(module(images), name))
    torch.testing.assert_close(torch.load(features), expected, rtol=1e-4, atol=1e-5)


def test_a_class_of_timm_keeps_its_classifier_and_its_name(tmp_path):
    """EfficientNet's is no ``head``: written as one, timm would refuse the file."""
    config = dict(type='TIMMBackbone', model_name='efficientnet_b0', norm_layer='mocox.SyncBN')
    module = backbone(dict(config, norm_layer=None))
    tensors = {f'backbone.{key}': tensor for key, tensor in module.state_dict().items()}
    tensors |= {'head.fc.weight': torch.randn(3, 1280), 'head.fc.bias': torch.randn(3)}
    torch.save(dict(state_dict=tensors, mocox=dict(kind='linear', backbone=config)), tmp_path / 'a.pth')
    line = convert(tmp_path / 'a.pth', tmp_path / 'b.pth', 'timm')[0]
    assert line == f"timm.create_model('efficientnet_b0', num_classes=3, checkpoint_path={str(tmp_path / 'b.pth')!r})"
    model, images = eval(line, dict(timm=timm)).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = module.eval()(images)[0] @ tensors['head.fc.weight'].T + tensors['head.fc.bias']
        torch.testing.assert_close(model(images), expected)


def test_what_timm_does_not_name_so_is_refused(tmp_path):
    write(tmp_path, 'transformers: Swin')
    with pytest.raises(ValueError, match='timm names the tensors of .* otherwise: --to transformers'):
        convert(tmp_path / 'transformers: Swin.pth', tmp_path / 'b.pth', 'timm')
    config = dict(CONFIGS['timm: vit'], features_only=True, depth=3)
    tensors = {f'backbone.{key}': t for key, t in backbone(dict(CONFIGS['timm: vit'])).state_dict().items()}
    torch.save(dict(state_dict=tensors, mocox=dict(kind='self-supervised', backbone=config)), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='features_only=True is a part of the model'):
        convert(tmp_path / 'a.pth', tmp_path / 'b.pth', 'timm')


def test_the_line_for_mmsegmentation_is_a_config_of_its_sizes(tmp_path):
    module = backbone(WIDE_VIT)
    tensors = {f'backbone.{key}': tensor for key, tensor in module.state_dict().items()}
    torch.save(dict(state_dict=tensors, mocox=dict(kind='self-supervised', heads=4)), tmp_path / 'a.pth')
    found: dict = {}
    exec(convert(tmp_path / 'a.pth', tmp_path / 'b.pth', 'mmseg')[0], found)
    sizes = dict(embed_dims=32, num_layers=2, num_heads=4, img_size=48, patch_size=8, in_channels=5)
    assert found['backbone'] == found['backbone'] | sizes
