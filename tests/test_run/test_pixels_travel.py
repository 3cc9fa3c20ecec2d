"""Whole small runs on images as the field has them: train, judge, features, export, load elsewhere."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
import timm
import torch
from PIL import Image
from pydicom.data import get_testdata_file

from mocox.checkpoint import read
from mocox.checkpoint.writing import convert
from mocox.datasets import Pixels
from mocox.datasets.readers import read_raw
from mocox.evaluation.encoder import load_encoder
from mocox.evaluation.inference import FeatureExtractor, extract_features
from mocox.evaluation.pipeline import evaluate
from tests.support.tiny_run import ROOT, run_tool

RUN = """
_base_ = ['{root}/_base_/models/mocov3_vit.py', '{root}/_base_/datasets/custom.py',
          '{root}/_base_/schedules/adamw_300e.py', '{root}/_base_/default_runtime.py']
arch = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
model = dict(backbone=dict(arch=arch, img_size=16, patch_size=4, in_channels={channels}),
             neck=dict(in_channels=32, hid_channels=32, out_channels=16),
             head=dict(predictor=dict(in_channels=16, hid_channels=32, out_channels=16)))
data_preprocessor = dict(type='ViewsPreprocessor', mean=[{mean}] * {channels}, std=[{std}] * {channels},
                         views=[dict(flip_prob=0.5)] * 2)
train_dataloader = dict(batch_size=16, num_workers=0, persistent_workers=False, pin_memory=False,
                        dataset=dict(data_root='{data}', crops=dict(size=16, scale=(0.3, 1.0)), {dataset}))
optim_wrapper = dict(optimizer=dict(lr=2e-2))
param_scheduler = dict(warmup_epochs=1)
train_cfg = dict(max_epochs={epochs})
default_hooks = dict(checkpoint=dict(interval={epochs}), report=dict(num_images=8))
"""


def train(folder: Path, data: Path, channels: int, dataset: str, mean=128.0, std=60.0, epochs: int = 3) -> Path:
    """Runs the tool; returns the last checkpoint."""
    config = folder / 'run.py'
    config.write_text(
        RUN.format(root=ROOT / 'configs', data=data, **{k: v for k, v in locals().items() if k != 'data'})
    )
    run_tool('train.py', config, '--work-dir', folder / 'work')
    return folder / 'work' / f'epoch_{epochs}.pth'


def smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise that crops and resizing leave something of, 0 to 1."""
    return rng.random((shape[0] // 8, shape[1] // 8, *shape[2:])).repeat(8, 0).repeat(8, 1)


def judge(checkpoint: Path, data: Path, work_dir: Path) -> float:
    report = evaluate(checkpoint, str(data), ['knn'], work_dir=work_dir, cache_dir=work_dir / 'cache')
    return max(row['value'] for row in report['results'])


def first_features(checkpoint: Path, levels: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Those of images (N, C, 16, 16) in levels of 0 to 255, by timm, of what an export says and holds."""
    arguments = dict(img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2, num_classes=0)
    model = timm.create_model('vit_tiny_patch16_224', in_chans=levels.shape[1], **arguments, checkpoint_path=checkpoint)
    with torch.no_grad():
        return model.eval()(torch.from_numpy((levels - mean) / std).float()).numpy()


def test_thirteen_bands(tmp_path):
    """Two classes that differ in the eleventh band only."""
    rng, data = np.random.default_rng(0), tmp_path / 'data'
    images = []
    for i in range(64):
        values = 3000 * smooth(rng, (16, 16, 13))
        values[:, :, 10] = values[:, :, 10] / 6 + 6000 * (i % 2)
        images.append(values.astype(np.uint16))
        path = data / 'ab'[i % 2] / f'{i}.tif'
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, images[-1], planarconfig='contig', photometric='minisblack', compression='deflate')
    checkpoint = train(tmp_path, data, 13, 'channels=13, value_range=(0, 10000)', mean=40.0, std=30.0)
    pixels = Pixels(13, (0, 10000))
    assert read(checkpoint).meta['pixels'] == pixels.settings()
    assert judge(checkpoint, data, tmp_path / 'judged') > 90
    loaded = load_encoder(checkpoint)
    assert loaded.pixels == pixels
    features = extract_features(checkpoint, [data / 'a' / '0.tif', data / 'b' / '1.tif'])
    levels = np.stack([image.transpose(2, 0, 1) / 10000 * 255 for image in images[:2]])
    (usage, *_) = convert(checkpoint, tmp_path / 'timm.safetensors', 'timm')
    assert 'in_chans=13' in usage
    assert read(tmp_path / 'timm.safetensors').meta['pixels'] == pixels.settings()
    np.testing.assert_allclose(features, first_features(tmp_path / 'timm.safetensors', levels, 40, 30), atol=2e-3)
    np.testing.assert_allclose(
        extract_features(tmp_path / 'timm.safetensors', [data / 'a' / '0.tif']), features[:1], atol=1e-5
    )
    report = (tmp_path / 'work' / 'report.html').read_text()
    assert 'cosine' in report


@pytest.mark.parametrize(
    ('reading', 'mean', 'std', 'lowest', 'highest'),
    [
        ('value_range=(0, 4095), depth=16', 3.7, 2.6, 90, 100),  # levels from 0 to 7.5, with digits after the point
        ('value_range=(0, 255), depth=8', 60.0, 41.0, 90, 100),
        ("value_range='auto', depth=8", 3.7, 2.6, 45, 55),  # the control: 8 of 16 bits, in which all images are black
    ],
)
def test_scans_of_12_bits(tmp_path, reading, mean, std, lowest, highest):
    """Two classes of numbers below 128 in files of 16 bits, of which the upper 8 tell nothing."""
    rng, data = np.random.default_rng(0), tmp_path / 'data'
    for i in range(64):
        values = (40 * smooth(rng, (16, 16)) + 80 * (i % 2)).astype(np.uint16)
        path = data / 'ab'[i % 2] / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    checkpoint = train(tmp_path, data, 1, f'channels=1, {reading}', mean=mean, std=std)
    assert lowest <= judge(checkpoint, data, tmp_path / 'judged') <= highest
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert 'images looked at have more than 8 bits: numbers from ' in log


def test_a_folder_of_dicoms(tmp_path):
    """Files that come with pydicom, gray in Hounsfield units or none, of many encodings."""
    names = ('CT_small', 'MR_small', 'MR_small_RLE', 'MR_small_jp2klossless', 'JPEG2000', 'MR_small_bigendian',
             'MR_small_jpeg_ls_lossless', '693_J2KI', 'image_dfl', 'examples_overlay', 'rtplan', 'MR_truncated',
             'liver_1frame', 'J2K_pixelrep_mismatch', 'MR_small_implicit', 'MR_small_padded')  # fmt: skip
    data = tmp_path / 'data'
    data.mkdir()
    for name in names:
        (data / f'{name}.dcm').write_bytes(Path(get_testdata_file(f'{name}.dcm', download=False)).read_bytes())
    (data / 'README.txt').write_text('')
    checkpoint = train(tmp_path, data, 1, 'channels=1, depth=16', epochs=1)
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert 'left out by ending: .txt 1' in log
    assert 'unreadable images: 2 of 16' in log
    file = pydicom.dcmread(data / 'CT_small.dcm')
    units = pydicom.pixels.apply_modality_lut(file.pixel_array, file)
    loaded = FeatureExtractor(checkpoint)
    assert loaded.pixels == Pixels(1, depth=16)
    seen = loaded.crops(Pixels(1, depth=16)(read_raw((data / 'CT_small.dcm').read_bytes())), None)[0]
    small = torch.nn.functional.interpolate(
        torch.from_numpy((units + 33792) / 65535 * 255)[None, None].float(), (16, 16), mode='bilinear', antialias=True
    )
    assert (seen.float() / 257 - small[0]).abs().max() < 0.02


def test_floating_point_and_a_linear_classifier(tmp_path):
    """Reflectances from -0.2 to 1.2, two bands; the evaluation by tools/train.py takes the setting over."""
    rng, data = np.random.default_rng(0), tmp_path / 'data'
    for i in range(64):
        values = 0.6 * smooth(rng, (16, 16, 2)) + [0.5 * (i % 2), -0.1]
        for split in ('train', 'val'):
            path = data / split / 'ab'[i % 2] / f'{i}.tif'
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, values.astype(np.float32), planarconfig='contig', photometric='minisblack')
    checkpoint = train(tmp_path, data, 2, 'channels=2, value_range=(-0.2, 1.2), depth=32', mean=90.0, std=40.0)
    linear = tmp_path / 'linear.py'
    linear.write_text(
        f"_base_ = ['{ROOT}/configs/mocov3/vit-small_custom_linear.py']\n"
        'arch = dict(_delete_=True, embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)\n'
        'model = dict(backbone=dict(arch=arch, img_size=16, patch_size=4), head=dict(in_channels=32, num_classes=2))\n'
        'train_dataloader = dict(batch_size=32, num_workers=0, dataset=dict(crops=dict(size=16)))\n'
        'val_dataloader = dict(num_workers=0, dataset=dict(crops=dict(size=16, resize=16)))\n'
        'test_dataloader = val_dataloader\n'
        'train_cfg = dict(max_epochs=2)\n'
    )
    run_tool('train.py', linear, '--data-root', data, '--pretrained', checkpoint, '--work-dir', tmp_path / 'linear')
    log = next((tmp_path / 'linear').glob('*/*.log')).read_text()
    accuracy = float(log.rpartition('accuracy/top1: ')[2].split()[0])
    assert accuracy > 90
    setting = dict(channels=2, value_range=[-0.2, 1.2], depth=32)
    assert torch.load(tmp_path / 'linear/epoch_2.pth', weights_only=True)['meta']['dataset_meta']['pixels'] == setting


def test_a_measured_range_stays_that_of_the_run(tmp_path):
    """A resumed run reads files that have changed as those before; so do features and an export."""
    rng, data = np.random.default_rng(0), tmp_path / 'data'
    data.mkdir()
    images = [(0.6 * smooth(rng, (16, 16))).astype(np.float32) for _ in range(16)]
    for i, image in enumerate(images):
        tifffile.imwrite(data / f'{i:02}.tif', image)
    checkpoint = train(tmp_path, data, 1, 'channels=1', epochs=1)
    measured = np.percentile(np.concatenate(images), [0.1, 99.9]).tolist()
    setting = dict(channels=1, depth=16, auto_range=pytest.approx(measured))
    assert read(checkpoint).meta['pixels'] == setting
    assert load_encoder(checkpoint).pixels.settings() == setting
    assert load_encoder(checkpoint, config=tmp_path / 'run.py').pixels.settings() == setting
    convert(checkpoint, tmp_path / 'timm.safetensors', 'timm')
    assert read(tmp_path / 'timm.safetensors').meta['pixels'] == setting
    for i, image in enumerate(images):
        tifffile.imwrite(data / f'{i:02}.tif', 100 * image)
    work, options = ['--work-dir', tmp_path / 'work'], ['--cfg-options', 'train_cfg.max_epochs=2']
    run_tool('train.py', tmp_path / 'run.py', *work, '--resume', *options)
    assert read(tmp_path / 'work' / 'epoch_2.pth').meta['pixels'] == setting


def test_a_mixed_folder_with_broken_files(tmp_path):
    """Photographs, 12-bit scans, planar TIFFs, palettes, transparency, and what is not an image at all."""
    rng, data = np.random.default_rng(0), tmp_path / 'data'
    data.mkdir()
    for i in range(8):
        rgb = (255 * smooth(rng, (24, 32, 3))).astype(np.uint8)
        Image.fromarray(rgb).save(data / f'{i}.jpg')
        Image.fromarray(rgb).convert('P').save(data / f'{i}.gif')
        Image.fromarray(rgb[:, :, 0].astype(np.uint16) * 16).save(data / f'{i}_12.png')
        planes = rgb.transpose(2, 0, 1).astype(np.uint16) * 257
        tifffile.imwrite(data / f'{i}.tif', planes, planarconfig='separate', photometric='rgb')
        tifffile.imwrite(data / f'{i}_13.tif', np.zeros((24, 32, 13), np.uint16), planarconfig='contig')
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, 'PNG')
        (data / f'{i}_cut.png').write_bytes(buffer.getvalue()[:-60])
    (data / 'note.xml').write_text('<a/>')
    (data / '@eaDir').mkdir()
    config = train(tmp_path, data, 3, 'value_range=(0, 4095), depth=8', epochs=1)
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert 'left out by ending: .xml 1, @eaDir/ 1' in log or 'left out by ending: @eaDir/ 1, .xml 1' in log
    assert 'unreadable images: 16 of 48' in log
    assert 'left out by ending: ' in (tmp_path / 'work' / 'report.html').read_text()
    assert 'a TIFF of 13 bands: set channels=13' in log
    assert config.is_file()


def test_channels_that_do_not_fit_are_refused_before_the_start(tmp_path, capsys):
    data = tmp_path / 'data'
    data.mkdir()
    tifffile.imwrite(data / '1.tif', np.zeros((24, 32, 13), np.uint16), planarconfig='contig')
    for channels, dataset, words in (
        (3, 'channels=13', 'the images have 13 channels and the backbone 3: set model.backbone.in_channels=13'),
        (13, '', 'the images have 3 channels and the backbone 13'),
    ):
        with pytest.raises(SystemExit):
            train(tmp_path, data, channels, dataset)
        assert words in capsys.readouterr().err
