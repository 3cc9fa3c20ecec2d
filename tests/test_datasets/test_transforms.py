"""Crops against torchvision and Pillow."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as tvf

from mocox.datasets import CenterCrop, ImageFiles, RandomAffineCrops, RandomResizedCrops, TransformedCrops
from mocox.datasets.transforms import affine_matrix
from mocox.registry import TRANSFORMS


@pytest.fixture(scope='module')
def photo() -> np.ndarray:
    return load_sample_image('china.jpg').copy()  # (427, 640, 3), writable


class Recorded(RandomResizedCrops):
    """Notes the boxes that it draws."""

    def sample_box(self, *arguments) -> tuple[int, int, int, int]:
        self.boxes.append(super().sample_box(*arguments))
        return self.boxes[-1]


def test_random_resized_crops_equal_pillow(photo):
    crops = Recorded(64, scale=(0.02, 1.0), num_views=20)
    crops.boxes = []
    views = crops(photo, np.random.default_rng(0))
    differences = []
    for view, (top, left, height, width) in zip(views, crops.boxes, strict=True):
        box = (left, top, left + width, top + height)
        expected = Image.fromarray(photo).crop(box).resize((64, 64), Image.Resampling.BILINEAR)
        assert view.permute(1, 2, 0).is_contiguous()  # RGBRGB...
        differences.append(np.abs(view.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected)))
    assert max(difference.max() for difference in differences) <= 1
    assert np.mean(differences) < 0.1


def test_crops_that_are_no_squares_equal_pillow_and_torchvision(photo):
    crops = Recorded((40, 88), scale=(0.05, 1.0), num_views=6)
    crops.boxes = []
    for view, (top, left, height, width) in zip(crops(photo, np.random.default_rng(0)), crops.boxes):
        cut = Image.fromarray(photo).crop((left, top, left + width, top + height))
        expected = np.asarray(cut.resize((88, 40), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(view.permute(1, 2, 0).numpy() - expected).max() <= 1
    assert RandomResizedCrops((32, 64), scaled_decoding=True).reduction(3000, 4000) == 8
    assert RandomResizedCrops((32, 448), scaled_decoding=True).reduction(3000, 4000) == 1


@pytest.mark.parametrize(
    ('shape', 'size', 'resize', 'resized'),
    [
        ((427, 640), (40, 88), 46, (67, 101)),  # covers 46 x 101: the width decides
        ((427, 640), (88, 40), 101, (222, 332)),  # covers 222 x 101: the height decides
        ((427, 640), (40, 88), (60, 90), (60, 90)),
        ((200, 640), (40, 88), (40, 88), (40, 128)),
    ],
)
def test_evaluation_crops_that_are_no_squares(photo, shape, size, resize, resized):
    image = photo[: shape[0], : shape[1]]
    pil = Image.fromarray(image).resize(resized[::-1], Image.Resampling.BILINEAR)
    expected = np.asarray(tvf.center_crop(pil, list(size))).astype(int)
    (view,) = CenterCrop(size, resize)(image, None)
    assert np.abs(view.permute(1, 2, 0).numpy() - expected).max() <= 1


def test_affine_views_that_are_no_squares(photo):
    """Shifts are fractions of width and height; the turn is about the centre."""
    image = np.ascontiguousarray(photo[100:148, 200:280])
    for angle, shift in ((0, (8, -6)), (90, (0, 0)), (20, (3, 5))):
        view = RandomAffineCrops((48, 80))._warp(image, affine_matrix((48, 80), angle, np.array(shift), 1.0, 0.0))
        pil = tvf.affine(Image.fromarray(image), angle, list(shift), 1.0, [0.0, 0.0], InterpolationMode.BILINEAR)
        difference = np.abs(view.permute(1, 2, 0).numpy().astype(int) - np.asarray(pil).astype(int))
        assert view.shape == (3, 48, 80) and np.median(difference) <= 2
    shifts = [RandomAffineCrops((48, 80), translate=(0.1, 0.5)).sample_matrix(np.random.default_rng(i))[:, 2]
              for i in range(200)]  # fmt: skip
    largest = np.abs(shifts).max(axis=0)
    assert 7.5 < largest[0] <= 8 and 23 < largest[1] <= 24
    assert RandomAffineCrops((48, 80))(photo, np.random.default_rng(0))[0].shape == (3, 48, 80)


def test_law_of_random_resized_crops(photo):
    """Same law as torchvision's: moments of 2000 boxes each, within four standard errors."""
    scale, ratio = (0.08, 1.0), (3 / 4, 4 / 3)
    crops, rng = RandomResizedCrops(8, scale, ratio), np.random.default_rng(0)
    ours = np.array([crops.sample_box(427, 640, rng) for _ in range(2000)], float)
    image = torch.empty(3, 427, 640)
    theirs = np.array([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(2000)], float)
    for moment in (
        lambda boxes: boxes,
        lambda boxes: boxes[:, 2:3] * boxes[:, 3:],
        lambda boxes: (boxes[:, 2:3] * boxes[:, 3:]) ** 2 / 1e6,
        lambda boxes: np.log(boxes[:, 3:] / boxes[:, 2:3]),
        lambda boxes: np.log(boxes[:, 3:] / boxes[:, 2:3]) ** 2,
    ):
        a, b = moment(ours), moment(theirs)
        error = np.sqrt((a.var(0) + b.var(0)) / 2000)
        assert (np.abs(a.mean(0) - b.mean(0)) < 4 * error).all()
    tops, lefts, heights, widths = ours.T
    assert ((tops >= 0) & (lefts >= 0) & (tops + heights <= 427) & (lefts + widths <= 640)).all()
    assert (heights * widths).min() >= 0.075 * 427 * 640  # sides are rounded


def test_every_position_can_occur():
    crops, rng = RandomResizedCrops(8, scale=(0.4, 0.5), ratio=(1.0, 1.0)), np.random.default_rng(0)
    boxes = {crops.sample_box(3, 3, rng) for _ in range(200)}  # 2 x 2 pixels of 3 x 3
    assert boxes == {(0, 0, 2, 2), (0, 1, 2, 2), (1, 0, 2, 2), (1, 1, 2, 2)}


@pytest.mark.parametrize(
    ('height', 'width', 'box'),
    [(10, 100, (0, 43, 10, 13)), (100, 10, (43, 0, 13, 10)), (1, 1000, (0, 499, 1, 1)), (1, 1, (0, 0, 1, 1))],
)
def test_fallback_for_extreme_shapes(height, width, box):
    """No crop of the whole area fits after ten tries: the largest central one within 3/4 to 4/3."""
    crops = RandomResizedCrops(4, scale=(1.0, 1.0))
    assert crops.sample_box(height, width, np.random.default_rng(0)) == box
    views = crops(np.full((height, width, 3), 9, np.uint8), np.random.default_rng(0))
    assert all((view == 9).all() and view.shape == (3, 4, 4) for view in views)


def test_images_smaller_than_the_crop(photo):
    views = RandomResizedCrops(32)(photo[:5, :7], np.random.default_rng(0))
    assert [view.shape for view in views] == [(3, 32, 32)] * 2


def test_only_large_images_may_shrink():
    """The smallest crop, 8 % of the area at 3 : 4, keeps the size of the view: 4000 x 3000 has 848 pixels of 224."""
    crops = RandomResizedCrops(224, scaled_decoding=True)
    assert [crops.reduction(*size) for size in ((375, 500), (1200, 1600), (3000, 4000), (4000, 3000))] == [1, 1, 2, 2]
    assert crops.reduction(500, 20_000) == 2  # 500 pixels high: the fallback crop is no smaller
    assert RandomResizedCrops(32, scaled_decoding=True).reduction(3000, 4000) == 8
    assert RandomResizedCrops(32).reduction(3000, 4000) == 1  # only on request


def test_shrunk_photographs_give_nearly_the_same_views(tmp_path):
    """Crops cover the same part, and are as large: a large photograph, whole and shrunk as it is decoded."""
    photo = Image.fromarray(load_sample_image('china.jpg')).resize((2560, 1708), Image.Resampling.BICUBIC)
    photo.save(tmp_path / 'photo.jpg', quality=95)
    whole, shrunk = (
        ImageFiles(str(tmp_path), RandomResizedCrops(96, num_views=8, scaled_decoding=scaled))
        for scaled in (False, True)
    )
    assert (whole.load(0)[0].shape, shrunk.load(0)[0].shape) == ((1708, 2560, 3), (427, 640, 3))
    differences = [(a.float() - b.float()).abs() for a, b in zip(whole[0]['inputs'], shrunk[0]['inputs'], strict=True)]
    assert torch.stack(differences).mean() < 3.0


@pytest.mark.parametrize(('height', 'width'), [(427, 640), (333, 251), (64, 64), (20, 31)])
def test_center_crop_equals_pillow(photo, height, width):
    image = photo[:height, :width]
    (view,) = CenterCrop(56, 64)(image, np.random.default_rng(0))
    expected = tvf.center_crop(tvf.resize(Image.fromarray(image), 64, InterpolationMode.BILINEAR), [56, 56])
    assert np.abs(view.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected)).max() <= 1


def test_center_crop_of_the_right_size_changes_nothing(photo):
    image = photo[:32, :32]
    (view,) = CenterCrop(32, 32)(image, np.random.default_rng(0))
    np.testing.assert_array_equal(view.permute(1, 2, 0).numpy(), image)


@pytest.mark.parametrize(
    ('angle', 'shift', 'zoom', 'shear'),
    [
        (0, (0, 0), 1, 0),
        (15, (0, 0), 1, 0),
        (0, (3, -2), 1, 0),
        (0, (0, 0), 1.3, 0),
        (0, (0, 0), 1, 9),
        (-12, (2, 1), 0.9, 5),
    ],
)
def test_affine_warp_equals_torchvision(photo, angle, shift, zoom, shear):
    image = np.asarray(Image.fromarray(photo).resize((48, 48)))
    view = RandomAffineCrops(48)._warp(image, affine_matrix(48, angle, np.array(shift), zoom, shear))
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float()
    expected = tvf.affine(pixels, angle, list(shift), zoom, [shear, 0.0], InterpolationMode.BILINEAR)
    inner = (view.float() - expected).abs()[:, 12:-12, 12:-12]  # the blend with the fill differs
    assert inner.mean() < 0.5
    assert inner.max() < 6  # OpenCV 4 rounds positions to 1/32 pixel


def test_affine_parameters_stay_in_range():
    crops = RandomAffineCrops(20, degrees=10, translate=(0.1, 0.2), scale=(0.8, 1.25))
    rng = np.random.default_rng(0)
    matrices = np.array([crops.sample_matrix(rng) for _ in range(1000)])
    zooms = np.sqrt(np.linalg.det(matrices[:, :, :2]))
    angles = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    shifts = matrices @ np.array([9.5, 9.5, 1]) - 9.5  # where the centre goes
    for values, low, high in ((zooms, 0.8, 1.25), (angles, -10, 10), (shifts[:, 0], -2, 2), (shifts[:, 1], -4, 4)):
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high >= values.max() > high - 0.02 * (high - low)


def test_affine_views_of_a_digit():
    """The first step brings any size to ``size``; outside of the image there is ``fill``."""
    crops = TRANSFORMS.build(dict(type='RandomAffineCrops', size=16, translate=(1.0, 1.0), num_views=3, fill=7))
    views = crops(np.full((40, 30, 3), 255, np.uint8), np.random.default_rng(0))
    assert len(views) == 3
    for view in views:
        assert view.shape == (3, 16, 16)
        assert view.min() == 7


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='RandomResizedCrops', size=0), 'size.*0'),
        (dict(type='RandomResizedCrops', size=8.5), r'size.*8\.5'),
        (dict(type='RandomResizedCrops', size=8, scale=(0.5, 0.2)), r'scale.*\(0\.5, 0\.2\)'),
        (dict(type='RandomResizedCrops', size=8, scale=(0.0, 1.0)), 'scale'),
        (dict(type='RandomResizedCrops', size=8, scale=(0.5, 1.2)), 'scale'),
        (dict(type='RandomResizedCrops', size=8, ratio=(2.0, 1.0)), 'ratio'),
        (dict(type='RandomResizedCrops', size=8, num_views=0), 'num_views'),
        (dict(type='RandomResizedCrops', size=8, interpolation='cubic'), "interpolation.*'cubic'"),
        (dict(type='CenterCrop', size=8, interpolation='nearest'), 'interpolation'),
        (dict(type='CenterCrop', size=8, resize=7), 'resize=7 is smaller than size=8'),
        (dict(type='RandomAffineCrops', size=8, degrees=-1), 'degrees.*-1'),
        (dict(type='RandomAffineCrops', size=8, shear=90), 'shear.*90'),
        (dict(type='RandomAffineCrops', size=8, fill=300), 'fill.*300'),
        (dict(type='RandomAffineCrops', size=8, translate=(0.1, 2)), 'translate'),
        (dict(type='RandomAffineCrops', size=8, scale=(0, 1)), 'scale'),
    ],
)
def test_bad_arguments(config, message):
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build(config)


def test_box_is_independent_of_the_size_of_the_result():
    boxes = [RandomResizedCrops(size).sample_box(50, 70, np.random.default_rng(1)) for size in (8, 224)]
    assert boxes[0] == boxes[1]
    assert math.prod(boxes[0][2:]) <= 50 * 70


def test_bicubic_crops_are_pillows_but_for_few_values(photo):
    """Where weights are negative and an image is black or white, clipping between the two passes shows."""
    crops = Recorded(64, scale=(0.02, 1.0), num_views=100, interpolation='bicubic')
    crops.boxes = []
    views = crops(photo, np.random.default_rng(0))
    differences = []
    for view, (top, left, height, width) in zip(views, crops.boxes, strict=True):
        box = Image.fromarray(photo).crop((left, top, left + width, top + height))
        expected = np.asarray(box.resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
        differences.append(np.abs(view.permute(1, 2, 0).numpy() - expected))
    assert np.max(differences) <= 9
    assert np.mean(differences) < 0.02
    assert np.mean(np.array(differences) > 1) < 5e-5


def test_bicubic_equals_pillow(photo):
    (view,) = CenterCrop(100, 100, interpolation='bicubic')(photo, np.random.default_rng(0))
    resized = np.asarray(Image.fromarray(photo).resize((640 * 100 // 427, 100), Image.Resampling.BICUBIC))
    left = round((resized.shape[1] - 100) / 2)
    difference = np.abs(view.permute(1, 2, 0).numpy().astype(int) - resized[:, left : left + 100])
    assert difference.max() <= 1
    assert not torch.equal(view, CenterCrop(100, 100)(photo, np.random.default_rng(0))[0])


ERASING = dict(type='mmpretrain.RandomErasing', erase_prob=1.0, mode='const', fill_color=[1, 2, 3])


def test_transforms_of_other_libraries_see_bgr(photo):
    crops = TransformedCrops(dict(type='CenterCrop', size=32, resize=32), [ERASING])
    (plain,), (view,) = (c(photo, np.random.default_rng(0)) for c in (crops.crops, crops))
    erased = (view != plain).any(0)
    assert 0.02 * 0.5 < erased.float().mean() < 0.5
    assert view[:, erased].unique(dim=1).flatten().tolist() == [3, 2, 1]  # filled with blue 1, green 2, red 3
    assert view.dtype == torch.uint8 and view.permute(1, 2, 0).is_contiguous()


def test_transforms_of_other_libraries_follow_the_samples_generator(photo):
    """The same sample twice is the same, whatever the global generators do; views and samples differ."""
    crops = TransformedCrops(dict(type='RandomResizedCrops', size=32, num_views=2), [ERASING])
    assert crops.num_views == 2
    first = crops(photo, np.random.default_rng([0, 1]))
    np.random.rand(3)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    again = crops(photo, np.random.default_rng([0, 1]))
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    holes = [(view == torch.tensor([3, 2, 1])[:, None, None]).all(0) for view in first]
    assert not torch.equal(*holes)


def test_transforms_must_keep_the_size(photo):
    crops = TransformedCrops(
        dict(type='CenterCrop', size=32, resize=32), [dict(type='mmpretrain.CenterCrop', crop_size=8)]
    )
    with pytest.raises(ValueError, match=r'\(3, 8, 8\) of torch.uint8 \(3, 32, 32\)'):
        crops(photo, np.random.default_rng(0))
