"""A run on views that are not squares, from its config to evaluation, pictures and exports."""

import numpy as np
import pytest
import torch
from PIL import Image

from mocox.checkpoint import read
from mocox.checkpoint.loading import load_backbone
from mocox.evaluation import FeatureExtractor
from mocox.evaluation.encoder import load_encoder
from mocox.evaluation.pipeline import evaluate
from mocox.models import MoCoViT
from tests.support.processes import forget_runner
from tests.support.tiny_run import ROOT, run_tool

# 16 x 64 pixels are 2 x 8 patches: as many as in a square of 4 x 4, which a reader of the file would take them for.
SIZE = 16, 64
CONFIG = """
_base_ = ['{root}/_base_/models/mocov3_vit.py', '{root}/_base_/datasets/custom.py', '{root}/_base_/views/mocov3.py',
          '{root}/_base_/schedules/adamw_300e.py', '{root}/_base_/default_runtime.py']
arch = dict(embed_dims=16, num_layers=2, num_heads=4, feedforward_channels=32)
model = dict(backbone=dict(arch=arch, img_size=(16, 64), patch_size=8),
             neck=dict(in_channels=16, hid_channels=16, out_channels=8),
             head=dict(predictor=dict(in_channels=8, hid_channels=16, out_channels=8)))
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False, pin_memory=False,
                        dataset=dict(data_root='{data}', crops=dict(size=(16, 64))))
train_cfg = dict(max_epochs=1)
param_scheduler = dict(warmup_epochs=1)
default_hooks = dict(monitor=dict(knn_data_root='{data}', knn_epochs=1), checkpoint=dict(interval=1))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Wide images, bright or dark, and a run on them."""
    folder = tmp_path_factory.mktemp('oblong')
    generator = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name, level in (('bright', 200), ('dark', 20)):
            (folder / 'data' / split / name).mkdir(parents=True)
            for index in range(8):
                pixels = generator.integers(level, level + 50, (20, 90, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / 'data' / split / name / f'{index}.png')
    (folder / 'wide.py').write_text(CONFIG.format(root=ROOT / 'configs', data=folder / 'data'))
    run_tool('train.py', folder / 'wide.py', '--work-dir', folder / 'work')
    forget_runner()
    return folder


def test_the_run_is_watched_and_shown(folder):
    log = next((folder / 'work').glob('*/*.log')).read_text()
    assert 'offline k-NN' in log and 'no offline k-NN' not in log
    page = (folder / 'work' / 'report.html').read_text()
    assert '16 x 64 px' in page
    assert 'no attention' not in page and 'no neighbours' not in page


def test_the_file_tells_its_shape(folder):
    loaded = load_encoder(folder / 'work' / 'epoch_1.pth')
    assert loaded.image_size == SIZE
    assert loaded.crops == dict(type='CenterCrop', size=SIZE, resize=SIZE)
    pixels = np.array(Image.open(folder / 'data' / 'val' / 'dark' / '0.png'))
    batch = loaded.model.data_preprocessor(dict(inputs=[torch.zeros(1, 3, *SIZE, dtype=torch.uint8)]), training=False)
    assert batch['inputs'][0].shape[1:] == (3, *SIZE)
    by_file = FeatureExtractor(folder / 'work' / 'epoch_1.pth', device='cpu')([pixels])
    by_model = FeatureExtractor(loaded.model.backbone, image_size=SIZE, device='cpu')([pixels])
    np.testing.assert_allclose(by_file, by_model, atol=1e-5)
    report = evaluate(folder / 'work' / 'epoch_1.pth', str(folder / 'data'), protocols=['knn'], cache_dir=folder / 'c',
                      work_dir=folder / 'judged', device='cpu')  # fmt: skip
    assert report['results'][0]['value'] == 100


def test_positions_are_interpolated_from_the_grid_that_they_are_for(folder):
    """To 2 x 8 patches nothing changes; to 4 x 4, as many, they are resampled."""
    path = folder / 'work' / 'epoch_1.pth'
    given = read(path).backbone('query')['pos_embed']
    arch = dict(embed_dims=16, num_layers=2, num_heads=4, feedforward_channels=32)
    same, square = (MoCoViT(arch, img_size=size, patch_size=8) for size in (SIZE, 32))
    assert 'interpolated' not in ' '.join(load_backbone(same, path).notes) and torch.equal(same.pos_embed, given)
    assert 'from 2 x 8 to 4 x 4 patches' in ' '.join(load_backbone(square, path).notes)
    grid = given[:, 1:].mT.unflatten(2, (2, 8))
    expected = torch.nn.functional.interpolate(grid, (4, 4), mode='bicubic', antialias=True).flatten(2).mT
    torch.testing.assert_close(square.pos_embed[:, 1:], expected)


def test_exports_keep_it_or_say_that_they_cannot(folder, capsys):
    path = folder / 'work' / 'epoch_1.pth'
    run_tool('convert_checkpoint.py', path, folder / 'timm.pth', '--to', 'timm')
    assert 'img_size=[16, 64]' in capsys.readouterr().out
    run_tool('extract_backbone.py', path, folder / 'backbone.pth')
    assert load_encoder(folder / 'backbone.pth').image_size == SIZE
    with pytest.raises(SystemExit):
        run_tool('convert_checkpoint.py', path, folder / 'hf', '--to', 'transformers')
    assert 'not square' in capsys.readouterr().err


def test_tools_before_the_run(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        run_tool('doctor.py', folder / 'wide.py', '--seconds', 0.1)
    assert not ended.value.code, capsys.readouterr().out
    run_tool('visualize.py', 'views', folder / 'wide.py', '--num', 2, '--out', tmp_path / 'views.png')
    run_tool('visualize.py', 'attention', folder / 'work' / 'epoch_1.pth', '--images', folder / 'data', '--num', 2,
             '--out', tmp_path / 'attention.png')  # fmt: skip
    assert '2 images, 4 heads' in capsys.readouterr().out
