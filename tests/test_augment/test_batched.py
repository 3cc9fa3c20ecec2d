"""The batched operations against torchvision and Pillow, sample by sample, with the same parameters."""

import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms import functional as tvf

from mocox.augment import batched
from mocox.augment.batched import augment, color_jitter
from mocox.augment.recipe import JITTERS, OPERATIONS, View, sample_parameters
from tests.support.photographs import crops

JITTER = dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
# torchvision's luma weights are rounded to four digits (0.2989), ours are Pillow's (0.299): up to 0.026 levels apart.
ATOL = 0.06


@pytest.fixture
def images() -> Tensor:
    """Eight patches of a photo, with a white, a black and a gray one, (11, 3, 20, 24)."""
    photo = torch.from_numpy(load_sample_image('flower.jpg').copy()).permute(2, 0, 1)
    patches = [photo[:, 40 * n : 40 * n + 20, 60 * n : 60 * n + 24] for n in range(8)]
    flat = [torch.full((3, 20, 24), level, dtype=torch.uint8) for level in (0, 255, 90)]
    return torch.stack(patches + flat).double()


def close(actual: Tensor, expected: Tensor, atol: float = 1e-9) -> None:
    torch.testing.assert_close(actual, expected.to(actual), rtol=0, atol=atol)


def in_unit_range(operation, images: Tensor, *arguments) -> Tensor:
    """Runs one of torchvision's operators, which expect 0 to 1, sample by sample."""
    columns = [argument.tolist() for argument in arguments]
    results = [operation(image[None] / 255, *row) for image, *row in zip(images, *columns, strict=True)]
    return torch.cat(results) * 255


def jitter_alone(images: Tensor, name: str, factor: Tensor) -> Tensor:
    """One of the four jitters; the others keep the image."""
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(len(images), 1).double()
    factors[:, JITTERS.index(name)] = factor
    chosen = torch.ones(len(images), dtype=torch.bool)
    return color_jitter(images.clone(), chosen, factors, torch.arange(4).repeat(len(images), 1))


@pytest.mark.parametrize(
    ('name', 'operation', 'low', 'high', 'atol'),
    [
        ('brightness', tvf.adjust_brightness, 0.0, 2.0, 1e-9),
        ('contrast', tvf.adjust_contrast, 0.0, 2.0, ATOL),
        ('saturation', tvf.adjust_saturation, 0.0, 2.0, ATOL),
        ('hue', tvf.adjust_hue, -0.5, 0.5, 1e-3),  # torchvision computes hue in float32
    ],
)
def test_each_jitter_equals_torchvision(images, name, operation, low, high, atol):
    factor = torch.linspace(low, high, len(images)).double()
    close(jitter_alone(images, name, factor), in_unit_range(operation, images, factor), atol)


def test_hue_of_pure_colours():
    """A third of a turn takes red to green to blue; half a turn takes red to cyan; gray has no hue."""
    red = torch.tensor([255.0, 0, 0]).view(1, 3, 1, 1).double()
    for shift, colour in ((1 / 3, [0, 255, 0]), (-1 / 3, [0, 0, 255]), (0.5, [0, 255, 255]), (1 / 6, [255, 255, 0])):
        turned = batched.adjust_hue(red, torch.tensor([shift], dtype=torch.float64))
        close(turned.flatten(), torch.tensor(colour), 1e-9)
    gray = torch.full((1, 3, 2, 2), 77.0)
    assert torch.equal(batched.adjust_hue(gray, torch.tensor([0.3])), gray)


def test_jitters_in_every_order(images):
    """All 24 orders at once, each against torchvision's operators applied one after the other."""
    orders = list(itertools.permutations(range(4)))
    batch = images[torch.arange(24) % 8]
    generator = torch.Generator().manual_seed(0)
    factors = torch.rand(24, 4, generator=generator).double() * 1.2 + 0.4
    factors[:, 3] = torch.rand(24, generator=generator).double() - 0.5
    chosen = torch.ones(24, dtype=torch.bool)
    actual = color_jitter(batch.clone(), chosen, factors, torch.tensor(orders))
    operators = (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation, tvf.adjust_hue)
    for sample, order in enumerate(orders):
        expected = batch[sample] / 255
        for operation in order:
            expected = operators[operation](expected, factors[sample, operation].item())
        # Hue can turn a difference of luma weights by up to six times, on almost gray pixels.
        close(actual[sample], expected * 255, 6 * ATOL)
        assert (actual[sample] - expected * 255).abs().mean() < ATOL
    shuffled = color_jitter(batch.clone(), chosen, factors, torch.tensor(orders).roll(1, 0))
    assert ((shuffled - actual).abs().mean((1, 2, 3)) > ATOL).sum() >= 15  # the order matters


def test_only_the_chosen_samples_are_jittered(images):
    chosen = torch.arange(len(images)) % 2 == 0
    factors = torch.tensor([0.7, 1.3, 0.5, 0.2]).repeat(len(images), 1).double()
    order = torch.tensor([3, 2, 1, 0]).repeat(len(images), 1)
    every = color_jitter(images.clone(), torch.ones_like(chosen), factors, order)
    some = color_jitter(images.clone(), chosen, factors, order)
    assert torch.equal(some[~chosen], images[~chosen])
    close(some[chosen], every[chosen], 0)
    assert torch.equal(color_jitter(images, torch.zeros_like(chosen), factors, order), images)


def test_float32_keeps_unchosen_samples_exactly(images):
    images = images.float() * 0.993  # no whole levels
    chosen = torch.tensor([True] + [False] * 10)
    factors = torch.full((11, 4), 0.37)
    result = color_jitter(images.clone(), chosen, factors, torch.arange(4).repeat(11, 1))
    assert torch.equal(result[1:], images[1:])


def test_grayscale(images):
    gray = batched.to_grayscale(images)
    close(gray, in_unit_range(lambda x: tvf.rgb_to_grayscale(x, 3), images), ATOL)
    closed_form = 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]
    close(gray, closed_form[:, None].expand_as(gray))
    for sample, image in zip(gray, images, strict=True):
        pillow = np.asarray(Image.fromarray(image.permute(1, 2, 0).byte().numpy()).convert('L'))
        close(sample[0], torch.tensor(pillow), 0.5 + 1e-3)  # Pillow rounds


def test_solarize_equals_pillow():
    levels = torch.arange(256, dtype=torch.float64).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    expected = ImageOps.solarize(Image.fromarray(levels[0, 0].byte().numpy()), 128)
    close(batched.solarize(levels)[0, 1], torch.tensor(np.asarray(expected)), 0)
    assert batched.solarize(levels, 10.0)[0, 0, 0, 9:12].tolist() == [9, 245, 244]


def test_flip(images):
    assert torch.equal(batched.horizontal_flip(images), tvf.hflip(images))


@pytest.mark.parametrize('max_sigma', [0.3, 1.0, 2.0])
@pytest.mark.parametrize('side', [3, 20])
def test_blur_equals_torchvision(images, max_sigma, side):
    """At the border torchvision reflects, so the border is replicated by hand and torchvision's own part cut off."""
    images = images[:, :, :side, : side + 4].contiguous()
    sigma = torch.linspace(0.1, max_sigma, len(images)).double()
    radius = math.ceil(3 * max_sigma)
    padded = pad(images, (2 * radius,) * 4, mode='replicate')
    kernel = 2 * radius + 1
    blurred = [tvf.gaussian_blur(image, kernel, [value]) for image, value in zip(padded, sigma.tolist(), strict=True)]
    cut = slice(2 * radius, -2 * radius)
    close(batched.gaussian_blur(images, sigma, radius), torch.stack(blurred)[..., cut, cut], 1e-4)


def test_blur_resembles_pillow():
    """Pillow approximates the Gaussian by three box filters: 0.3 to 0.7 levels apart on average."""
    photo = Image.fromarray(load_sample_image('china.jpg')).resize((96, 96))
    pixels = torch.tensor(np.asarray(photo)).permute(2, 0, 1)[None].double()
    for sigma in (0.5, 1.0, 2.0):
        expected = torch.tensor(np.asarray(photo.filter(ImageFilter.GaussianBlur(sigma)))).permute(2, 0, 1)
        blurred = batched.gaussian_blur(pixels, torch.tensor([sigma]), 6)[0]
        assert (blurred - expected).abs().mean() < 1.0
        assert (pixels[0] - expected).abs().mean() > 2.0


def test_blur_keeps_flat_images(images):
    flat = images[-3:]
    close(batched.gaussian_blur(flat, torch.tensor([0.1, 1.0, 2.0]), 6), flat, 1e-9)


DISTORTING = View(
    color_jitter=JITTER, color_jitter_prob=0.8, grayscale_prob=0.2, blur_prob=0.5, solarize_prob=0.2, flip_prob=0.5
)


def one_by_one(images: Tensor, draws: Tensor, view: View) -> Tensor:
    """An independent, plain reading of the recipe: each sample alone, torchvision's operators, in the view's order."""
    p = sample_parameters(draws, view)
    jitters = (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation, tvf.adjust_hue)
    radius = math.ceil(3 * view.blur_sigma[1])
    results = []
    for n, image in enumerate(images):
        x = image / 255
        for name in view.order:
            if name == 'color_jitter' and p.jitter[n]:
                for operation in p.jitter_order[n].tolist():
                    x = jitters[operation](x, p.factors[n, operation].item())
            elif name == 'grayscale' and p.grayscale[n]:
                x = tvf.rgb_to_grayscale(x, 3)
            elif name == 'blur' and p.blur[n]:
                x = pad(x[None], (2 * radius,) * 4, mode='replicate')[0]
                x = tvf.gaussian_blur(x, 2 * radius + 1, [p.sigma[n].item()])
                x = x[:, 2 * radius : -2 * radius, 2 * radius : -2 * radius]
            elif name == 'solarize' and p.solarize[n]:
                x = tvf.solarize(x, view.solarize_threshold / 255)
            elif name == 'flip' and p.flip[n]:
                x = tvf.hflip(x)
        results.append(x * 255)
    return torch.stack(results)


V1_ORDER = ('grayscale', 'color_jitter', 'blur', 'solarize', 'flip')


@pytest.mark.parametrize('order', [OPERATIONS, V1_ORDER, OPERATIONS[::-1]])
def test_the_whole_view_equals_torchvision_sample_by_sample(images, order):
    view = View(**{**vars(DISTORTING), 'order': order})
    batch = images[torch.arange(64) % len(images)]
    draws = torch.rand(64, 16, generator=torch.Generator().manual_seed(1))
    actual, expected = augment(batch.clone(), sample_parameters(draws, view), view), one_by_one(batch, draws, view)
    # A pixel within a hair of the threshold may be solarized by one and not by the other: hence not every pixel.
    different = ((actual - expected).abs() > 6 * ATOL).double().mean()
    assert different < 2e-3
    assert (actual - expected).abs().median() < ATOL
    assert actual.min() >= 0
    assert actual.max() <= 255 + 1e-6  # rounding in the blur


def test_a_sample_does_not_depend_on_its_batch(images):
    draws = torch.rand(len(images), 16)
    batch = augment(images.clone(), sample_parameters(draws, DISTORTING), DISTORTING)
    for n in range(len(images)):
        alone = augment(images[n : n + 1].clone(), sample_parameters(draws[n : n + 1], DISTORTING), DISTORTING)
        close(batch[n : n + 1], alone, 1e-9)


def test_a_plain_view_changes_nothing(images):
    assert torch.equal(augment(images.clone(), sample_parameters(torch.rand(11, 16), View()), View()), images)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_gpu_equals_cpu_and_never_waits(images):
    images, draws = images.float(), torch.rand(len(images), 16)
    expected = augment(images.clone(), sample_parameters(draws, DISTORTING), DISTORTING)
    augment(images.cuda(), sample_parameters(draws, DISTORTING), DISTORTING)  # fills the caches
    on_gpu = images.cuda()
    torch.cuda.set_sync_debug_mode('error')
    try:
        actual = augment(on_gpu, sample_parameters(draws, DISTORTING), DISTORTING)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    close(actual.cpu(), expected, 0.1)


@pytest.mark.parametrize(
    ('operation', 'enhance', 'brighter'),
    [(0, ImageEnhance.Brightness, 0.45), (1, ImageEnhance.Contrast, 0.44), (2, ImageEnhance.Color, 0.34)],
)
def test_pillow_truncates_where_we_do_not(operation, enhance, brighter):
    """The mean signed distance that docs/fidelity.md states, over factors from 0.6 to 1.4."""
    images = crops(24, 64)
    factor = torch.linspace(0.6, 1.4, 24)
    factors = torch.ones(24, 4).index_fill(1, torch.tensor(3), 0)
    factors[:, operation] = factor
    ours = color_jitter(images.float(), torch.ones(24, dtype=torch.bool), factors, torch.arange(4).expand(24, 4))
    pillow = [enhance(Image.fromarray(x.permute(1, 2, 0).numpy())).enhance(f) for x, f in zip(images, factor.tolist())]
    theirs = torch.stack([torch.from_numpy(np.array(x)).permute(2, 0, 1) for x in pillow])
    assert (ours.round() - theirs).mean().item() == pytest.approx(brighter, abs=0.12)
