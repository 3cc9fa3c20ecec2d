"""A graph gives what the module gives that it was made of, in the runtime of another project."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mocox import export as exports
from mocox.__main__ import main
from mocox.checkpoint import read
from mocox.export import export
from mocox.models.layout import last_output
from mocox.models.necks import average_positions
from mocox.registry import MODELS
from tests.support.ready_made import TIMM_MODELS, TRANSFORMERS_MODELS, saved
from tests.test_checkpoint.conftest import RESNET, VIT, backbone, probe_file

MEAN, STD = [10.0, 20.0, 30.0], [50.0, 51.0, 52.0]
SWIN = dict(type='TIMMBackbone', model_name='swin_tiny_patch4_window7_224', img_size=32, window_size=2)
SWIN |= dict(depths=(1, 1), num_heads=(1, 2), embed_dim=16)
CASES = {
    'vit': VIT,
    'resnet': dict(RESNET, in_channels=13),
    'timm': SWIN,
}


def written(folder: Path, config: dict, **meta) -> tuple[Path, nn.Module]:
    """A checkpoint of a perturbed backbone, with constants of its own, and the backbone."""
    module = backbone(config)
    count = config.get('in_channels', 3)
    meta |= dict(
        kind='self-supervised', heads=4, mean=[10.0 * i for i in range(count)], std=[50.0 + i for i in range(count)]
    )
    if config['type'] == 'TIMMBackbone':
        meta |= dict(backbone=config)
    tensors = {f'backbone.{name}': tensor for name, tensor in module.state_dict().items()}
    torch.save(dict(state_dict=tensors, mocox=meta), folder / 'net.pth')
    return folder / 'net.pth', module


def session_of(path: Path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])


@torch.no_grad()
def expected(module: nn.Module, levels: torch.Tensor) -> np.ndarray:
    """Of levels of 0 to 255, in torch alone."""
    count = levels.shape[1]
    mean, std = (
        torch.tensor([start + step * i for i in range(count)]).view(-1, 1, 1) for start, step in ((0.0, 10), (50.0, 1))
    )
    return average_positions(last_output(module((levels - mean) / std), 'it')).numpy()


@pytest.mark.parametrize('name', CASES)
def test_onnx_gives_our_features(name, tmp_path):
    path, module = written(tmp_path, CASES[name])
    notes = export(path, tmp_path / 'net.onnx', image_size=32, normalise=True)
    assert 'opset 18' in notes[1] and 'equal within 1e-5' in notes[1]
    session = session_of(tmp_path / 'net.onnx')
    for batch in (1, 2, 5):
        levels = torch.rand(batch, CASES[name].get('in_channels', 3), 32, 32) * 255
        features, ours = session.run(None, {'images': levels.numpy()})[0], expected(module, levels)
        assert np.abs(features - ours).max() <= 1e-5 * max(1, np.abs(ours).max())


def of_a_run(folder: Path, name: str) -> tuple[nn.Module, str, int]:
    """Writes checkpoint and config of a run with a backbone of another library; also its side."""
    torch.manual_seed(0)
    if name in TRANSFORMERS_MODELS:
        saved(folder / 'folder', name)
        config, (settings, side) = (
            dict(type='TransformersBackbone', folder=str(folder / 'folder')),
            TRANSFORMERS_MODELS[name],
        )
        side = settings.get('image_size', side)
        module = MODELS.build(dict(config, pretrained=False))
    else:
        model_name, arguments, _, side = TIMM_MODELS[name]
        config = dict(type='TIMMBackbone', model_name=model_name, **arguments)
        side = arguments.get('img_size', side)
        module = MODELS.build(config)
    with torch.no_grad():  # more, as `perturbed` adds, and float32 itself is 3e-5 off: LayerScale begins at 1e-5
        for tensor in (tensor for tensor in module.state_dict().values() if tensor.is_floating_point()):
            tensor.add_(torch.randn_like(tensor) * 0.02)
    tensors = {f'backbone.{key}': tensor for key, tensor in module.state_dict().items()}
    torch.save(dict(state_dict=tensors, mocox=dict(kind='self-supervised')), folder / 'net.pth')
    text = (
        f'model = dict(backbone={config!r}, data_preprocessor=dict(type="ViewsPreprocessor", mean={MEAN}, std={STD}))\n'
    )
    (folder / 'run.py').write_text(text + f'train_dataloader = dict(dataset=dict(crops=dict(size={side})))\n')
    return module.eval(), str(folder / 'run.py'), side


@pytest.mark.parametrize('name', [*TIMM_MODELS, *TRANSFORMERS_MODELS])
def test_models_of_other_libraries_in_both_formats(name, tmp_path):
    """Its graph takes levels and any batch, in both formats."""
    module, config, side = of_a_run(tmp_path, name)
    options = dict(config=config, image_size=side, normalise=True)
    export(tmp_path / 'net.pth', tmp_path / 'net.onnx', 'onnx', **options)
    export(tmp_path / 'net.pth', tmp_path / 'net.pt2', 'torch-export', **options)
    session, program = session_of(tmp_path / 'net.onnx'), torch.export.load(tmp_path / 'net.pt2').module()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    for batch in (1, 5):
        levels = torch.rand(batch, 3, side, side) * 255
        with torch.no_grad():
            ours = module((levels - mean) / std)[0]
            theirs = torch.from_numpy(session.run(None, {'images': levels.numpy()})[0]), program(levels)
        for features in theirs:
            assert (features - ours).abs().max() <= 1e-5 * max(1, ours.abs().max())


def test_other_sizes_and_a_printed_line(tmp_path):
    path, module = written(tmp_path, RESNET)
    notes = export(path, tmp_path / 'net.onnx', image_size=32, normalise=True, dynamic_size=True)
    levels = torch.rand(2, 3, 80, 48) * 255
    ours = expected(module, levels)
    features = session_of(tmp_path / 'net.onnx').run(None, {'images': levels.numpy()})[0]
    assert np.abs(features - ours).max() <= 1e-5 * max(1, np.abs(ours).max())
    import numpy
    import onnxruntime

    outputs = eval(notes[0], dict(onnxruntime=onnxruntime, numpy=numpy))  # as a person would paste it
    assert outputs[0].shape == (1, ours.shape[1])


def test_a_program_of_torch_and_the_classifier(tmp_path):
    """The normalised images go in; scores are the published linear layer on the features."""
    path = probe_file(tmp_path / 'probe.pth.tar')
    export(path, tmp_path / 'net.pt2', 'torch-export', heads=4)
    images = torch.randn(3, 3, 32, 32)
    features, scores = torch.export.load(tmp_path / 'net.pt2').module()(images)
    head = read(path).classifier()
    torch.testing.assert_close(scores, features @ head['weight'].T + head['bias'])
    module = backbone(VIT)
    module.load_state_dict(read(path).backbone())
    torch.testing.assert_close(features, module(images)[-1])


def test_a_graph_that_differs_is_not_left_behind(tmp_path, monkeypatch):
    path, _ = written(tmp_path, RESNET)
    (tmp_path / 'net.onnx').write_bytes(b'before')
    monkeypatch.setattr(exports, 'TOLERANCE', -1.0)
    with pytest.raises(ValueError, match='was not written: for images of shape .* differ from ours'):
        export(path, tmp_path / 'net.onnx', image_size=32)
    assert sorted(file.name for file in tmp_path.iterdir()) == ['net.onnx', 'net.pth']
    assert (tmp_path / 'net.onnx').read_bytes() == b'before'


def test_what_cannot_be_exported_is_said(tmp_path, monkeypatch):
    path, _ = written(tmp_path, SWIN)
    with pytest.raises(ValueError, match='takes images of one size only'):
        export(path, tmp_path / 'net.onnx', image_size=32, dynamic_size=True)
    with pytest.raises(ValueError, match="to='tflite'"):
        export(path, tmp_path / 'net', 'tflite')
    monkeypatch.setattr(exports, 'MAX_ONNX_BYTES', 100)
    with pytest.raises(ValueError, match='do not fit into one ONNX file'):
        export(path, tmp_path / 'net.onnx', image_size=32)
    monkeypatch.setitem(__import__('sys').modules, 'onnxscript', None)
    with pytest.raises(ImportError, match=r'pip install "mocox\[onnx\]"'):
        export(path, tmp_path / 'net.onnx', image_size=32)


def test_the_command_names_what_it_replaced(tmp_path, monkeypatch, capsys):
    written(tmp_path, RESNET)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        main(['convert', 'net.pth', '--to', 'torch-export', '--image-size', '32'])
    first, second = (line for line in capsys.readouterr().out.splitlines() if 'written from' in line)
    assert first.startswith('net.pt2 written') and 'in place of' not in first
    assert second.endswith('in place of the file that was there')
    with pytest.raises(SystemExit):
        main(['convert', 'net.pth', 'out.pth', '--to', 'timm', '--opset', '17'])
    assert '--opset is for --to onnx' in capsys.readouterr().err
