"""What a conversion prints runs as it is printed, in a fresh interpreter, and computes the features of the file."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mocox.checkpoint import convert, load_backbone
from mocox.models.layout import last_output
from mocox.models.necks import average_positions
from mocox.registry import MODELS
from tests.test_checkpoint.conftest import CONV_VIT, RESNET, VIT, backbone

FULL = dict(type='mmpretrain.ResNet', depth=18, out_indices=(3,))
WIDE_VIT = dict(VIT, in_channels=5, img_size=48)
CONFIGS = dict(vit=VIT, conv=CONV_VIT, channels=WIDE_VIT, resnet=FULL, narrow=dict(RESNET, in_channels=13))
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
output = getattr(output, 'last_hidden_state', output)
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
]


@pytest.fixture(scope='module')
def made(tmp_path_factory) -> tuple[Path, str]:
    """Every target of every backbone, converted, and run by one interpreter each printed line on its own."""
    folder = tmp_path_factory.mktemp('lines')
    code = []
    for to, name in CASES:
        if to == 'transformers':
            pytest.importorskip('transformers')
        source, config = folder / f'{name}.pth', CONFIGS[name]
        if not source.exists():
            module = backbone(config)
            tensors = {f'backbone.{key}': tensor for key, tensor in module.state_dict().items()}
            torch.save(dict(state_dict=tensors, mocox=dict(kind='self-supervised', heads=4)), source)
            side = config.get('img_size', 32)
            torch.save(torch.randn(2, config.get('in_channels', 3), side, side), folder / f'{name}.images')
        out = folder / f'{to}-{name}{"" if to == "transformers" else ".out"}'
        line = convert(source, out, to)[0]
        line = line if line.startswith(('model', 'backbone')) else f'model = {line}'
        library = 'import transformers\n' if to == 'transformers' else ''
        then = FROM_CONFIG if line.startswith('backbone=') else ''
        run = RUN.format(line=library + line, then=then, images=str(folder / f'{name}.images'), out=f'{out}.features')
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
    module = MODELS.build(CONFIGS[name])
    load_backbone(module, folder / f'{name}.pth')
    module.eval()  # mmpretrain's ResNet returns nothing here
    with torch.no_grad():
        images = torch.load(folder / f'{name}.images')
        expected = average_positions(last_output(module(images), name))
    torch.testing.assert_close(torch.load(features), expected, rtol=1e-4, atol=1e-5)


def test_the_line_for_mmsegmentation_is_a_config_of_its_sizes(tmp_path):
    module = backbone(WIDE_VIT)
    tensors = {f'backbone.{key}': tensor for key, tensor in module.state_dict().items()}
    torch.save(dict(state_dict=tensors, mocox=dict(kind='self-supervised', heads=4)), tmp_path / 'a.pth')
    found: dict = {}
    exec(convert(tmp_path / 'a.pth', tmp_path / 'b.pth', 'mmseg')[0], found)
    sizes = dict(embed_dims=32, num_layers=2, num_heads=4, img_size=48, patch_size=8, in_channels=5)
    assert found['backbone'] == found['backbone'] | sizes
