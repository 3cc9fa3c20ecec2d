import json

import numpy as np
import pytest
import torch
from PIL import Image

from lab.benchmark import data, photos, pipelines
from lab.benchmark.mmpretrain_peer import adjust_hue
from lab.benchmark.mocox_contender import read_config
from lab.benchmark.run import run
from tests.test_lab.test_benchmark.tiny import VIT


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photos')
    photos.write_photos(folder, 3, ((96, 72, 1.0),))
    return folder


def test_photographs_are_seeded_and_of_natural_size(tmp_path):
    size = photos.write_photos(tmp_path / 'a', 4)
    photos.write_photos(tmp_path / 'b', 4)
    for i in range(4):
        assert (tmp_path / f'a/{i:04}.jpg').read_bytes() == (tmp_path / f'b/{i:04}.jpg').read_bytes()
    sizes = {Image.open(path).size for path in (tmp_path / 'a').iterdir()}
    assert sizes <= {(width, height) for width, height, _ in photos.SIZES}
    assert 70_000 < size < 120_000  # ImageNet's mean is 110 KB


def test_pink_noise_has_the_spectrum_of_its_name():
    spectrum = abs(np.fft.rfft2(photos.pink_noise(256, 256, np.random.default_rng(0))))
    low, high = spectrum[0, 4:16].mean(), spectrum[0, 32:128].mean()
    expected = np.mean(1 / np.arange(4, 16)) / np.mean(1 / np.arange(32, 128))
    assert low / high == pytest.approx(expected, rel=0.4)


def test_every_pipeline_gives_two_views_of_every_image(folder):
    config = read_config(VIT, 32)
    found, remarks = data.build(folder, config, 32, with_peer=True)
    assert {data.DECODING, data.OFFICIAL, data.MMPRETRAIN, 'ours, uint8 crops'} < set(found)
    assert any('adjust_hue' in remark for remark in remarks)
    assert [image.shape for image in found.pop(data.DECODING)([0, 2])] == [(72, 96, 3)] * 2
    torch.manual_seed(0)
    for name, pipeline in found.items():
        batch = pipeline([0, 2])
        views = batch['inputs'] if isinstance(batch, dict) else batch
        shapes = [tuple(view.shape) for view in views] if isinstance(views[0], torch.Tensor) else None
        if name == data.MMPRETRAIN:
            assert all(tuple(view.shape) == (3, 32, 32) for image in views for view in image)
        else:
            assert shapes == [(2, 3, 32, 32)] * 2, name
    crops = found['ours, uint8 crops']
    assert not torch.equal(crops([0])['inputs'][0], crops([0])['inputs'][0])  # other crops in the next round


def test_our_crops_are_those_of_pil(folder, monkeypatch):
    assert pipelines.largest_crop_difference(folder, 32) <= 1
    monkeypatch.setattr(pipelines, 'largest_crop_difference', lambda *args: 2)
    with pytest.raises(ValueError, match='no time was taken'):
        data.benchmark_data(read_config(VIT, 32), 32, 1, 1, with_peer=False)


def test_the_decoder_before_gives_the_same_pixels(folder, monkeypatch):
    found = data.compare_decoders(folder, rounds=1)
    assert found.keys() == {'JPEG', 'PNG'}
    monkeypatch.setitem(data.DECODERS, 'before', lambda content: data.decode_plainly(content) ^ 1)
    with pytest.raises(ValueError, match='no time was taken: a JPEG has other pixels'):
        data.compare_decoders(folder, rounds=1)


@pytest.mark.parametrize('shift', [-0.1, 0.0, 0.3])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_the_hue_of_the_peer_is_turned_as_on_numpy_1(shift, backend):
    import cv2

    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    turned = adjust_hue(image, shift, backend)
    if shift >= 0:  # numpy 2 computes these too
        import mmcv.image.photometric as original

        assert np.array_equal(turned, original.adjust_hue(image, shift, backend))
    else:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV_FULL).astype(int)
        difference = (cv2.cvtColor(turned, cv2.COLOR_BGR2HSV_FULL).astype(int) - hsv)[..., 0]
        saturated = hsv[..., 1] > 100
        assert np.median(np.mod(difference[saturated], 256)) == pytest.approx(256 + int(shift * 255), abs=3)


def test_the_result(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(photos, 'LARGE', ((160, 120, 1.0),))
    out = tmp_path / 'data.json'
    run('data', 'mmpretrain', VIT, None, 4, 32, 'cpu', rounds=1, step_rate=1000, json=str(out))
    result = json.loads(out.read_text())
    assert result['mode'] == 'data'
    assert result['theirs'] == result['details']['images_per_second']['mmpretrain']
    assert result['details']['crop_difference_levels'] <= 1
    cores = result['details']['cores_to_feed']['the given step']['ours, uint8 crops']
    assert cores == pytest.approx(1000 / result['ours'])
    said = capsys.readouterr().out
    assert 'ViT-S/16 at 35 %' in said
    assert 'x the decoder before there were readers of more (range), equal in every pixel: JPEG ' in said
    alone = run('data', None, VIT, None, 2, 32, 'cpu', rounds=1)
    assert alone.theirs == alone.details['images_per_second'][data.OFFICIAL]
