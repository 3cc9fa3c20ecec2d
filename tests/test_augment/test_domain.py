"""Operations for images that are not photographs: each law by NumPy and SciPy, what is drawn, and all executors."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from mocox.augment.batched import augment
from mocox.augment.domain import LAWS, draw_numbers
from mocox.augment.fused import augment_fused, pack_numbers, pack_parameters, plan_of
from mocox.augment.noise import poisson_quantile
from mocox.augment.opencv import augment_image, read_parameters
from mocox.augment.recipe import OPERATIONS, View, sample_parameters
from mocox.models import ViewsPreprocessor
from tests.support.photographs import draws

OPTIONS = dict(
    channel_jitter=dict(channel_jitter=dict(brightness=0.4, contrast=0.6), channel_jitter_prob=0.7),
    weighted_grayscale=dict(grayscale_prob=0.7, grayscale_weights='mean'),
    channel_drop=dict(channel_drop_prob=0.7, channel_drop=(1, 2)),
    poisson_noise=dict(poisson_noise_prob=0.7, poisson_noise=(5, 5000)),
    gaussian_noise=dict(gaussian_noise_prob=0.7, gaussian_noise=(1, 20)),
    vertical_flip=dict(vertical_flip_prob=0.7),
    quarter_turn=dict(quarter_turn_prob=0.7),
    stain_jitter=dict(stain_jitter=dict(scale=0.2, shift=0.1), stain_jitter_prob=0.7),
)
EVERYTHING = {key: value for options in OPTIONS.values() for key, value in options.items()}
PUBLISHED = dict(blur_prob=0.5, solarize_prob=0.3, flip_prob=0.5)


def images(num: int = 12, channels: int = 5, size: int = 16) -> Tensor:
    """Smooth shapes with black and white in them, (num, channels, size, size) float."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(-40, 300, (num, channels, 4, 4))).float()
    return torch.nn.functional.interpolate(coarse, (size, size), mode='bilinear').clamp(0, 255)


def follow(name: str, batch: Tensor, numbers: np.ndarray) -> np.ndarray:
    """A law in double precision."""
    return LAWS[name](batch.double().clone(), torch.from_numpy(numbers)).numpy()


def test_brightness_and_contrast_of_each_channel():
    batch, rng = images(), np.random.default_rng(1)
    b, c = rng.uniform(0.2, 1.8, (2, 12, 5))
    for i in range(12):
        for k in range(5):
            x = np.clip(b[i, k] * batch[i, k].double().numpy(), 0, 255)
            expected = np.clip(x.mean() + c[i, k] * (x - x.mean()), 0, 255)
            actual = follow('channel_jitter', batch[i : i + 1], np.concatenate([b[i], c[i]])[None])[0, k]
            np.testing.assert_allclose(actual, expected, atol=1e-9)


def test_gray_is_the_weighted_sum_in_every_channel():
    batch, weights = images(), np.array([0.5, 0, 0.1, 0.1, 0.3])
    actual = follow('weighted_grayscale', batch, np.tile(weights, (12, 1)))
    expected = np.einsum('bchw,c->bhw', batch.double().numpy(), weights)
    for channel in range(5):
        np.testing.assert_allclose(actual[:, channel], expected, atol=1e-9)


def test_dropped_channels_are_black():
    batch = images()
    actual = follow('channel_drop', batch, np.tile([1.0, 0, 1, 0, 1], (12, 1)))
    assert not actual[:, [1, 3]].any()
    assert np.array_equal(actual[:, ::2], batch.double().numpy()[:, ::2])


def test_vertical_flip_and_quarter_turns():
    batch = images()
    upside_down = follow('vertical_flip', batch, np.zeros((12, 0)))
    turned = follow('quarter_turn', batch, np.tile([[1.0], [2], [3]], (4, 1)))
    for i, image in enumerate(batch.double().numpy()):
        assert np.array_equal(upside_down[i], np.flip(image, axis=1))
        assert np.array_equal(turned[i], np.rot90(image, i % 3 + 1, axes=(1, 2)))
    with pytest.raises(ValueError, match='quarter turns need square crops, these are 16 x 12'):
        follow('quarter_turn', batch[:, :, :12], np.ones((12, 1)))


def test_stains_by_colour_deconvolution():
    """Beer and Lambert's law and the published vectors, pixel by pixel, there and back again."""
    batch, rng = images(channels=3).clamp(min=1), np.random.default_rng(2)
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])  # haematoxylin, eosin, DAB
    scale, shift = rng.uniform(0.8, 1.2, (12, 3)), rng.uniform(-0.1, 0.1, (12, 3))
    actual = follow('stain_jitter', batch, np.concatenate([scale, shift], axis=1))
    for i, image in enumerate(batch.double().numpy()):
        density = -np.log(image.reshape(3, -1).T / 255)
        amounts = np.linalg.solve(vectors.T, density.T).T
        expected = 255 * np.exp(-(scale[i] * amounts + shift[i]) @ vectors)
        np.testing.assert_allclose(actual[i], np.clip(expected, 0, 255).T.reshape(image.shape), atol=2e-3)
    same = follow('stain_jitter', images(channels=3), np.tile([1.0, 1, 1, 0, 0, 0], (12, 1)))
    assert np.array_equal(same, images(channels=3).double().numpy())  # black too


def test_gaussian_noise_has_the_law_that_it_says():
    """Mean, deviation and shape, in every channel, none like another; the sum is cut."""
    batch = torch.full((2, 3, 64, 64), 120.0)
    numbers = np.array([[3.0, 5, 6], [12.0, 7, 8]])
    noise = follow('gaussian_noise', batch, numbers) - 120
    for i, sigma in enumerate((3, 12)):
        for channel in noise[i]:
            assert stats.kstest(channel.ravel() / sigma, 'norm').pvalue > 1e-3
    correlation = np.corrcoef(noise.reshape(6, -1))
    assert np.abs(correlation - np.eye(6)).max() < 5 / 64
    for level in (0, 255):
        cut = follow('gaussian_noise', torch.full((1, 1, 64, 64), float(level)), numbers[1:])
        assert abs((cut == level).mean() - 0.5) < 5 * 0.5 / 64
        assert cut.min() >= 0 and cut.max() <= 255


@pytest.mark.parametrize('mean', [0.0, 0.01, 0.7, 3.99, 4.01, 10.0, 30.0, 400.0, 20_000.0])
def test_poisson_quantiles(mean):
    """SciPy's, from the same normal deviates; one count off where a deviate lies on the edge between two."""
    deviates = np.random.default_rng(3).standard_normal(40_000).astype(np.float32)
    actual = poisson_quantile(torch.full((40_000,), mean), torch.from_numpy(deviates)).numpy()
    expected = stats.poisson.ppf(stats.norm.cdf(deviates.astype(float)), mean) if mean else np.zeros(40_000)
    assert np.abs(actual - expected).max() <= 1
    assert (actual != expected).mean() < (3e-3 if mean < 1000 else 1e-2)  # float32 holds a hundredth of a count there


def test_poisson_noise_counts_photons():
    """Levels are whole numbers of photons, whose counts have the law of their expectation (chi-squared)."""
    for level, photons in ((51.0, 20), (0.0, 20), (200.0, 100)):
        batch = torch.full((1, 4, 64, 64), level)
        counts = follow('poisson_noise', batch, np.array([[photons, 11.0, 12]])) * photons / 255
        assert np.abs(counts - counts.round()).max() < 1e-3
        mean = level / 255 * photons
        if not mean:
            assert not counts.any()
            continue
        most = min(photons, math.ceil(mean + 3 * math.sqrt(mean)))  # white is cut
        seen = np.bincount(counts.round().astype(int).ravel().clip(0, most), minlength=most + 1)
        law = stats.poisson.pmf(np.arange(most), mean)
        expected = counts.size * np.append(law, 1 - law.sum())
        few = expected < 5
        rest = [seen[few].sum()] if few.any() else []
        assert (
            stats.chisquare([*seen[~few], *rest], [*expected[~few], *([expected[few].sum()] if rest else [])]).pvalue
            > 1e-3
        )


def drawn(name: str, num: int = 20_000, channels: int = 5, **options) -> tuple[np.ndarray, np.ndarray]:
    view = View(**OPTIONS[name] | options)
    chosen, numbers = draw_numbers(name, sample_parameters(draws(num), view), view, channels)
    return chosen.numpy(), numbers.numpy()


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    assert stats.kstest((values.ravel()[:20_000] - low) / (high - low), 'uniform').pvalue > 1e-3


@pytest.mark.parametrize('name', LAWS)
def test_probabilities(name):
    chosen, _ = drawn(name)
    assert abs(chosen.mean() - 0.7) < 4 * math.sqrt(0.21 / len(chosen))


def test_what_is_drawn():
    _, factors = drawn('channel_jitter')
    for i in range(5):
        assert_uniform(factors[:, i], 0.6, 1.4)
        assert_uniform(factors[:, 5 + i], 0.4, 1.6)
    assert np.abs(np.corrcoef(factors.T) - np.eye(10)).max() < 5 / math.sqrt(20_000)
    assert drawn('channel_jitter', channel_jitter=dict(contrast=3))[1][:, :5].std() == 0
    assert_uniform(drawn('channel_jitter', channel_jitter=dict(contrast=3))[1][:, 5], 0, 4)
    _, stains = drawn('stain_jitter')
    for i in range(3):
        assert_uniform(stains[:, i], 0.8, 1.2)
        assert_uniform(stains[:, 3 + i], -0.1, 0.1)
    assert_uniform(drawn('gaussian_noise')[1][:, 0], 1, 20)
    assert_uniform(np.log(drawn('poisson_noise')[1][:, 0]), math.log(5), math.log(5000))
    weights = drawn('weighted_grayscale', grayscale_weights=[1, 2, 3, 4, 0])[1][7]
    np.testing.assert_allclose(weights, [0.1, 0.2, 0.3, 0.4, 0], atol=1e-7)


def test_quarters_numbers_of_channels_and_channels_are_equally_likely():
    _, quarters = drawn('quarter_turn')
    _, kept = drawn('channel_drop', channel_drop=(1, 3))
    dropped = 1 - kept
    for counts in (
        np.bincount(quarters[:, 0].astype(int))[1:],
        np.bincount(dropped.sum(axis=1).astype(int))[1:],
        *(dropped[dropped.sum(axis=1) == k].sum(axis=0) for k in (1, 2, 3)),
    ):
        assert len(counts) in (3, 5)
        assert stats.chisquare(counts).pvalue > 1e-3


def test_operations_are_independent_of_each_other_and_of_the_published_ones():
    view = View(**EVERYTHING, color_jitter=dict(hue=0.1), color_jitter_prob=0.7, **PUBLISHED)
    p = sample_parameters(draws(20_000), view)
    columns = [p.jitter, *p.factors.T[3:], p.grayscale, p.blur, p.sigma, p.solarize, p.flip]
    for name in LAWS:
        if name != 'weighted_grayscale':
            chosen, numbers = draw_numbers(name, p, view, 3)
            columns += [chosen, *(column for column in numbers.T[:1] if column.std() > 0)]
    columns = torch.stack([column.double() for column in columns])
    assert (torch.corrcoef(columns) - torch.eye(len(columns))).abs().max() < 5 / math.sqrt(20_000)


def test_the_published_operations_draw_what_they_drew():
    plain, more = View(**PUBLISHED), View(**PUBLISHED, **EVERYTHING)
    one, other = vars(sample_parameters(draws(50), plain)), vars(sample_parameters(draws(50), more))
    assert all(
        torch.equal(one[name], other[name]) for name in ('jitter', 'factors', 'blur', 'sigma', 'solarize', 'flip')
    )
    assert not one['seed'].any() and other['seed'].any()


# --- Executors ---


def of_type(levels: Tensor, dtype: np.dtype) -> Tensor:
    if dtype == np.uint16:
        return (levels * 257).round().to(torch.uint16)
    return levels.round().to(torch.uint8) if dtype == np.uint8 else levels


def as_levels(crops: Tensor) -> Tensor:
    return crops.float() / 257 if crops.dtype == torch.uint16 else crops.to(torch.float32, copy=True)


def in_workers(crops: Tensor, numbers: Tensor, view: View) -> Tensor:
    rows = zip(crops.permute(0, 2, 3, 1).numpy(), read_parameters(numbers, view), strict=True)
    results = [augment_image(image, p, view) for image, p in rows]
    assert all(
        result.dtype == crops.numpy().dtype and result.shape == crops.shape[2:] + crops.shape[1:2] for result in results
    )
    return torch.stack([torch.from_numpy(result).permute(2, 0, 1) for result in results])


def in_one_program(levels: Tensor, parameters, view: View) -> Tensor:
    packed, zero, one = pack_parameters(parameters, view), torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    numbers = pack_numbers(parameters, view, levels.shape[1], levels.device)
    return augment_fused(levels, packed, zero, one, plan_of(view), numbers)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    ('name', 'channels'), [(n, c) for n in LAWS for c in ((3,) if n == 'stain_jitter' else (3, 4, 13))]
)
def test_executors_agree(name, channels, dtype):
    """Fused in float32; the workers to half a step of the type. A photon may fall on the other side of an edge."""
    view = View(**OPTIONS[name])
    crops, numbers = of_type(images(channels=channels), dtype), draws(12)
    before = crops.clone()
    parameters = sample_parameters(numbers, view)
    batched = augment(as_levels(crops), parameters, view)
    assert (batched - as_levels(crops)).abs().mean() > 0.3
    assert (in_one_program(as_levels(crops), parameters, view) - batched).abs().max() < 1e-3
    step = {np.uint8: 1, np.uint16: 1 / 257, np.float32: 0}[dtype]
    assert (as_levels(in_workers(crops, numbers, view)) - batched).abs().max() <= 0.51 * step + 2e-3
    assert torch.equal(crops, before)


ORDERS = [OPERATIONS, ('quarter_turn', 'gaussian_noise', *OPERATIONS[::-1], 'channel_jitter')]


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('channels', [1, 3, 6])
def test_whole_views_of_any_depth(channels, order, dtype):
    """Everything at once, published operations too; OpenCV often stops at four channels."""
    options = dict(EVERYTHING, channel_drop=(1, max(1, channels - 1)), channel_drop_prob=0.5 * (channels > 1))
    colours = dict(color_jitter=dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)) if channels == 3 else {}
    options |= dict(stain_jitter=options['stain_jitter'] if channels == 3 else None, poisson_noise_prob=0.0)
    view = View(**options, **PUBLISHED, **colours, order=order)
    crops, numbers = of_type(images(channels=channels), dtype), draws(12)
    parameters = sample_parameters(numbers, view)
    batched = augment(as_levels(crops), parameters, view)
    assert (in_one_program(as_levels(crops), parameters, view) - batched).abs().mean() < 5e-3
    alone = torch.cat(
        [augment(as_levels(crops[i : i + 1]), sample_parameters(numbers[i : i + 1], view), view) for i in range(12)]
    )
    torch.testing.assert_close(batched, alone, rtol=0, atol=2e-3)
    step = {np.uint8: 1, np.uint16: 1 / 257, np.float32: 0}[dtype]
    difference = (as_levels(in_workers(crops, numbers, view)) - batched).abs()
    assert difference.mean() <= 0.26 * step + 2e-3


def test_views_of_more_than_8_bits_keep_them_in_the_workers():
    """The published operations on 16 bits and floating point are the batched ones, not rounded to 8 bits."""
    view = View(
        dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1), 1, 0.3, 0.5, solarize_prob=0.3, flip_prob=0.5
    )
    for dtype, tolerance in ((np.uint16, 0.51 / 257 + 2e-3), (np.float32, 2e-3)):
        crops, numbers = of_type(images(channels=3), dtype), draws(12)
        batched = augment(as_levels(crops), sample_parameters(numbers, view), view)
        difference = (as_levels(in_workers(crops, numbers, view)) - batched).abs()
        assert difference.quantile(0.999) <= tolerance  # solarisation turns a level at its edge
        assert difference.mean() <= tolerance / 2


@pytest.mark.slow
def test_one_program_for_the_compiler():
    """Traced as a whole, and right with other numbers."""
    names = ('channel_jitter', 'channel_drop', 'gaussian_noise', 'quarter_turn')
    view = View(**{key: value for name in names for key, value in OPTIONS[name].items()}, flip_prob=0.5)
    levels = images(4, 3)
    torch._dynamo.reset()
    trace = torch.compile(augment_fused, backend='aot_eager', fullgraph=True, dynamic=False)
    for seed, stance in ((1, 'default'), (2, 'fail_on_recompile')):
        p = sample_parameters(draws(4, seed), view)
        arguments = (pack_parameters(p, view), torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
        with torch.compiler.set_stance(stance):
            actual = trace(levels, *arguments, plan=plan_of(view), numbers=pack_numbers(p, view, 3, levels.device))
        assert (actual - augment(levels.clone(), p, view)).abs().quantile(0.99) < 5e-3


# --- Options ---


def test_the_order_of_the_operations():
    assert View().steps == OPERATIONS
    view = View(**EVERYTHING)
    first, last = ('stain_jitter', 'channel_jitter'), view.steps[-5:]
    assert view.steps == (*first, 'color_jitter', 'weighted_grayscale', 'blur', 'solarize', 'flip', *last)
    assert last == ('channel_drop', 'poisson_noise', 'gaussian_noise', 'vertical_flip', 'quarter_turn')
    order = ('gaussian_noise', *OPERATIONS)
    assert View(gaussian_noise_prob=1, vertical_flip_prob=1, order=order).steps == (*order, 'vertical_flip')
    assert View(channel_jitter=dict(contrast=0)).is_plain
    assert not View(grayscale_weights='mean').is_plain


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (
            dict(channel_jitter=dict(hue=0.1)),
            TypeError,
            "channel_jitter has no key 'hue'; it knows brightness, contrast",
        ),
        (dict(stain_jitter=dict(scale=-1)), ValueError, r'stain_jitter\.scale.*-1'),
        (dict(vertical_flip_prob=2), ValueError, 'vertical_flip_prob.*2'),
        (dict(channel_drop=(0, 1)), ValueError, r'channel_drop.*0 < low <= high, whole, got \(0, 1\)'),
        (dict(channel_drop=(1.5, 2)), ValueError, r'channel_drop.*whole.*1\.5'),
        (dict(gaussian_noise=(3, 1)), ValueError, r'gaussian_noise.*\(3, 1\)'),
        (dict(poisson_noise=(1, math.inf)), ValueError, 'poisson_noise.*inf'),
        (dict(grayscale_weights='luma'), ValueError, "grayscale_weights.*'mean'.*'luma'"),
        (dict(grayscale_weights=[0, 0]), ValueError, r'grayscale_weights.*\[0, 0\]'),
        (dict(order=('flip', *OPERATIONS)), ValueError, 'order must name each of'),
        (dict(order=('weighted_grayscale', *OPERATIONS)), ValueError, 'order must name each of'),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        View.from_config(options)


@pytest.mark.parametrize(
    ('options', 'channels', 'message'),
    [
        (dict(grayscale_prob=0.1, grayscale_weights=[1, 1]), 4, 'grayscale_weights has 2 weights for 4 channels'),
        (dict(channel_drop_prob=0.1, channel_drop=(1, 4)), 4, r'channel_drop=\(1, 4\) can drop all of 4 channels'),
        (dict(stain_jitter=dict(scale=0.1)), 4, 'stain_jitter needs red, green and blue, and the images have 4'),
        (dict(grayscale_prob=0.1), 4, 'mean has 4 channels: use channel_jitter and grayscale_weights'),
    ],
)
def test_options_that_do_not_fit_the_channels(options, channels, message):
    with pytest.raises(ValueError, match=message):
        ViewsPreprocessor([0.0] * channels, [1.0] * channels, [options])


def test_seeds_need_their_draws():
    with pytest.raises(ValueError, match=r'P >= 13, got \(2, 11\)'):
        sample_parameters(torch.rand(2, 11), View(vertical_flip_prob=1))


def test_a_device_gets_whole_seeds():
    """24 bits pass through float32 on the way to a law."""
    view = View(gaussian_noise_prob=1)
    p = replace(sample_parameters(draws(1), view), seed=torch.tensor([[2**24 - 1, 2**24 - 3]]))
    assert draw_numbers('gaussian_noise', p, view, 1)[1][0, 1:].long().tolist() == [2**24 - 1, 2**24 - 3]
