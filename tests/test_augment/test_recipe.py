"""The recipe of a view and what a sample draws from it."""

import math

import pytest
import torch

from mocox.augment.recipe import View, blur_radius, check_num_views, sample_parameters

JITTER = dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
DISTORTING = View(
    color_jitter=JITTER, color_jitter_prob=0.8, grayscale_prob=0.2, blur_prob=0.5, solarize_prob=0.2, flip_prob=0.5
)


def test_parameters_follow_the_published_law():
    """Probabilities within four standard errors; factors uniform over their range (Kolmogorov-Smirnov at 0.1 %)."""
    num = 20_000
    p = sample_parameters(torch.rand(num, 16), DISTORTING)
    for chosen, prob in ((p.jitter, 0.8), (p.grayscale, 0.2), (p.blur, 0.5), (p.solarize, 0.2), (p.flip, 0.5)):
        assert abs(chosen.double().mean() - prob) < 4 * math.sqrt(prob * (1 - prob) / num)
    ranges = [(0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1), (0.1, 2.0)]
    for values, (low, high) in zip([*p.factors.T, p.sigma], ranges, strict=True):
        position = ((values.double() - low) / (high - low)).sort().values
        assert position[0] >= -1e-6
        assert position[-1] <= 1 + 1e-6
        assert (position - (torch.arange(num) + 0.5) / num).abs().max() < 1.95 / math.sqrt(num)
    orders, counts = p.jitter_order.unique(dim=0, return_counts=True)
    assert len(orders) == 24
    assert (orders.sort(1).values == torch.arange(4)).all()
    assert ((counts - num / 24).abs() < 5 * math.sqrt(num / 24)).all()


def test_parameters_are_independent():
    p = sample_parameters(torch.rand(20_000, 16), DISTORTING)
    columns = [p.jitter, *p.factors.T, p.jitter_order[:, 0], p.grayscale, p.blur, p.sigma, p.solarize, p.flip]
    correlation = torch.corrcoef(torch.stack([column.double() for column in columns]))
    assert (correlation - torch.eye(11)).abs().max() < 5 / math.sqrt(20_000)


def test_extreme_draws():
    last = torch.full((1, 16), 1 - 2**-24)  # the largest float32 below 1
    for prob in (0.0, 1.0):
        view = View(JITTER, prob, prob, prob, (0.1, 2.0), prob, 128.0, prob)
        for draws in (torch.zeros(1, 16), last):
            p = sample_parameters(draws, view)
            for chosen in (p.jitter, p.grayscale, p.blur, p.solarize, p.flip):
                assert chosen.tolist() == [prob == 1]
    assert p.jitter_order.tolist() == [[3, 2, 1, 0]]


def test_strong_jitter_has_no_negative_factor():
    p = sample_parameters(torch.zeros(1, 16), View(dict(brightness=1.5)))
    assert p.factors.tolist() == [[0, 1, 1, 0]]


@pytest.mark.parametrize(
    ('config', 'error', 'message'),
    [
        (dict(grayscale=0.2), TypeError, "'grayscale'; it knows .*grayscale_prob"),
        (dict(color_jitter=dict(brigthness=0.4)), TypeError, "no key 'brigthness'; it knows brightness"),
        (dict(flip_prob=1.5), ValueError, r'flip_prob.*1\.5'),
        (dict(blur_prob=-0.1), ValueError, r'blur_prob.*-0\.1'),
        (dict(color_jitter=dict(hue=0.6)), ValueError, r'hue.*0\.5.*0\.6'),
        (dict(color_jitter=dict(contrast=-1)), ValueError, 'contrast.*-1'),
        (dict(blur_sigma=(2.0, 0.1)), ValueError, 'blur_sigma'),
        (dict(blur_sigma=(0.0, 1.0)), ValueError, 'blur_sigma'),
        (dict(order=('flip', 'blur')), ValueError, r"order.*\['flip', 'blur'\]"),
    ],
)
def test_bad_views(config, error, message):
    with pytest.raises(error, match=message):
        View.from_config(config)


def test_too_few_draws():
    with pytest.raises(ValueError, match=r'P >= 11.*\(2, 5\)'):
        sample_parameters(torch.rand(2, 5), View())


def test_the_blur_is_cut_at_three_standard_deviations():
    assert [blur_radius(View(blur_sigma=(0.1, sigma))) for sigma in (0.3, 1.0, 2.0)] == [1, 3, 6]


def test_as_many_recipes_as_crops():
    check_num_views(2, 2)
    with pytest.raises(ValueError, match='cuts 1 views per image and the preprocessor augments 2.*num_views'):
        check_num_views(1, 2)
