"""``rounding='pillow'`` in every executor, against Pillow itself: equal, level for level."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from mocox.augment.batched import augment
from mocox.augment.fused import augment_fused, pack_parameters, plan_of
from mocox.augment.opencv import SampleParameters, augment_image
from mocox.augment.recipe import Parameters, View, sample_parameters
from tests.support.photographs import crops, draws

NUM, SIZE = 48, 40
ENHANCE = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
BLENDS = dict(brightness=1.0, contrast=1.0, saturation=1.0)


def batched(images: Tensor, parameters: Parameters, view: View) -> Tensor:
    return augment(images.float(), parameters, view)


def fused(images: Tensor, parameters: Parameters, view: View) -> Tensor:
    zero, one = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    return augment_fused(images, pack_parameters(parameters, view), zero, one, plan_of(view))


def compiled(images: Tensor, parameters: Parameters, view: View) -> Tensor:
    zero, one = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    run = torch.compile(augment_fused, dynamic=False)
    return run(images, pack_parameters(parameters, view), zero, one, plan_of(view))


def in_workers(images: Tensor, parameters: Parameters, view: View) -> Tensor:
    columns = [getattr(parameters, name).tolist() for name in SampleParameters._fields]
    rows = [SampleParameters(*row) for row in zip(*columns, strict=True)]
    pictures = [augment_image(x.permute(1, 2, 0).numpy(), p, view) for x, p in zip(images, rows, strict=True)]
    return torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures]).float()


def pillow(images: Tensor, parameters: Parameters, view: View) -> Tensor:
    """The published pipeline without hue and blur."""
    p, results = parameters, []
    for n, pixels in enumerate(images):
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        for name in view.order:
            if name == 'color_jitter' and p.jitter[n]:
                for operation in p.jitter_order[n].tolist():
                    if operation < 3:
                        image = ENHANCE[operation](image).enhance(p.factors[n, operation].item())
            elif name == 'grayscale' and p.grayscale[n]:
                image = image.convert('L').convert('RGB')
            elif name == 'solarize' and p.solarize[n]:
                image = ImageOps.solarize(image, 128)
            elif name == 'flip' and p.flip[n]:
                image = ImageOps.mirror(image)
        results.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    return torch.stack(results).float()


def difference(run: Callable, view: View, images: Tensor, seed: int = 1) -> Tensor:
    parameters = sample_parameters(draws(len(images), seed), view)
    return (run(images, parameters, view) - pillow(images, parameters, view)).abs()


EAGER = [batched, fused, in_workers]


@pytest.mark.parametrize('run', EAGER)
@pytest.mark.parametrize('name', BLENDS)
def test_each_blend_is_pillows(run, name):
    """Factors from 0 to 2."""
    view = View(color_jitter={name: 1.0}, rounding='pillow')
    assert not difference(run, view, crops(NUM, SIZE)).any()
    assert difference(run, View(color_jitter={name: 1.0}), crops(NUM, SIZE)).mean() > 0.2  # not without


@pytest.mark.parametrize('run', EAGER)
@pytest.mark.parametrize('order', [View.order, ('grayscale', 'color_jitter', 'blur', 'solarize', 'flip')])
def test_a_whole_view_is_pillows(run, order):
    view = View(BLENDS, 0.8, 0.2, 0.0, (0.1, 2.0), 0.3, 128.0, 0.5, order, 'pillow')
    assert not difference(run, view, crops(NUM, SIZE), seed=3).any()


@pytest.mark.parametrize('run', EAGER)
def test_every_gray_is_pillows(run):
    """Each triple of 24 levels, among them the ties of a mean."""
    levels = torch.linspace(0, 255, 24).round().byte()
    image = torch.stack(torch.meshgrid(levels, levels, levels, indexing='ij')).view(1, 3, 96, 144)
    view = View(grayscale_prob=1.0, rounding='pillow')
    assert not difference(run, view, image).any()
    tie = torch.tensor([100, 101], dtype=torch.uint8).view(1, 1, 1, 2).expand(4, 3, 2, 2).contiguous()
    assert not difference(run, View(dict(contrast=0.5), rounding='pillow'), tie).any()


@pytest.mark.parametrize('run', [fused, in_workers])
def test_hue_and_blur_are_whole_levels_in_every_executor(run):
    for config in Config.fromfile('configs/_base_/views/mocov3.py').data_preprocessor.views:
        view = View.from_config(config | dict(rounding='pillow'))
        parameters = sample_parameters(draws(NUM), view)
        expected, actual = (f(crops(NUM, SIZE), parameters, view) for f in (batched, run))
        assert torch.equal(expected, expected.round()) and torch.equal(actual, actual.round())
        # A tie of hue or blur may be rounded up by one and down by the other, and a later blend carries it on.
        assert ((actual - expected).abs() > 0).float().mean() < 0.02
        assert (actual - expected).abs().mean() < 0.03


def test_all_orders_of_the_blends():
    orders = list(permutations(range(4)))
    images, view = crops(24, SIZE), View(BLENDS, rounding='pillow')
    parameters = sample_parameters(draws(24), view)
    parameters = Parameters(**{**vars(parameters), 'jitter_order': torch.tensor(orders)})
    expected = pillow(images, parameters, view)
    for run in EAGER:
        assert torch.equal(run(images, parameters, view), expected)


@pytest.mark.slow
def test_compiled_by_inductor():
    """The whole range of the factors."""
    view = View(BLENDS, 0.8, 0.2, 0.0, (0.1, 2.0), 0.3, 128.0, 0.5, View.order, 'pillow')
    assert not difference(compiled, view, crops(NUM, SIZE)).any()


def test_another_rounding_is_refused():
    with pytest.raises(ValueError, match="rounding must be None or 'pillow', got 'floor'"):
        View(rounding='floor')
    with pytest.raises(ValueError, match='for the published operations'):
        View(rounding='pillow', vertical_flip_prob=0.5)
