"""From a collated batch to the model's input."""

import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from mocox.datasets import NUM_DRAWS
from mocox.models.data_preprocessor import LabelledPreprocessor, ViewsPreprocessor
from mocox.models.gpu_augment import NUM_DRAWS_USED, View, augment, sample_parameters
from mocox.registry import MODELS

MEAN, STD = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]
VIEWS = [dict(flip_prob=0.5, grayscale_prob=0.5), dict(solarize_prob=1.0)]


def make_batch(num_views: int = 2, batch: int = 4, **extra: Tensor) -> dict:
    crops = [torch.randint(0, 256, (batch, 3, 6, 6), dtype=torch.uint8) for _ in range(num_views)]
    return dict(inputs=crops, draws=torch.rand(batch, num_views, NUM_DRAWS), index=torch.arange(batch), **extra)


def normalised(images: Tensor) -> Tensor:
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def test_datasets_ship_enough_draws():
    assert NUM_DRAWS >= NUM_DRAWS_USED


def test_training_augments_each_view_in_its_own_way():
    preprocessor = MODELS.build(dict(type='ViewsPreprocessor', mean=MEAN, std=STD, views=VIEWS))
    data = make_batch()
    crops = [crop.clone() for crop in data['inputs']]
    result = preprocessor(data, training=True)
    assert result['data_samples'] is None
    for number, config in enumerate(VIEWS):
        parameters = sample_parameters(data['draws'][:, number], View(**config))
        expected = augment(crops[number].float(), parameters, View(**config))
        torch.testing.assert_close(result['inputs'][number], normalised(expected))
        assert torch.equal(data['inputs'][number], crops[number])


def test_solarize_by_hand():
    """The second view always solarizes: 200 becomes 55."""
    data = make_batch()
    data['inputs'][1].fill_(200)
    _, x2 = ViewsPreprocessor(MEAN, STD, VIEWS)(data, training=True)['inputs']
    assert x2[0, :, 0, 0].tolist() == pytest.approx([(55 - 120) / 60, (55 - 110) / 50, (55 - 100) / 40])


def test_without_training_any_number_of_views_is_only_normalised():
    preprocessor = ViewsPreprocessor(MEAN, STD, VIEWS)
    for num_views in (1, 2):
        data = make_batch(num_views)
        result = preprocessor(data)['inputs']
        for actual, crop in zip(result, data['inputs'], strict=True):
            torch.testing.assert_close(actual, normalised(crop.float()))
            assert actual.dtype == torch.float32


def test_float_views_are_not_overwritten():
    data = make_batch()
    data['inputs'] = [crop.float() for crop in data['inputs']]
    before = [crop.clone() for crop in data['inputs']]
    ViewsPreprocessor(MEAN, STD, VIEWS)(data, training=True)
    assert all(torch.equal(a, b) for a, b in zip(before, data['inputs'], strict=True))


def test_autocast_is_off_inside():
    config = dict(blur_prob=1.0, color_jitter=dict(contrast=0.5, hue=0.1))
    preprocessor = ViewsPreprocessor(MEAN, STD, [config, config])
    data = make_batch()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        actual = preprocessor(data, training=True)['inputs']
    view = View(**config)
    for number, crop in enumerate(data['inputs']):
        expected = augment(crop.float(), sample_parameters(data['draws'][:, number], view), view)
        assert torch.equal(actual[number], (expected - preprocessor.mean) / preprocessor.std)


def test_no_random_state_is_touched():
    preprocessor = ViewsPreprocessor(MEAN, STD, VIEWS)
    state = torch.get_rng_state()
    data = make_batch()
    drawn = torch.get_rng_state()
    preprocessor(data, training=True)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not torch.equal(state, drawn)


def test_state_dict_is_empty():
    """Mean and std belong to the config; a checkpoint of the model has no keys of the preprocessor."""
    assert not ViewsPreprocessor(MEAN, STD, VIEWS).state_dict()


def test_labels():
    preprocessor = LabelledPreprocessor(MEAN, STD, [dict(flip_prob=1.0)])
    data = make_batch(1, label=torch.tensor([3, 1, 4, 1]))
    result = preprocessor(data, training=True)
    torch.testing.assert_close(result['inputs'], normalised(data['inputs'][0].float()).flip(-1))
    assert [sample.gt_label.tolist() for sample in result['data_samples']] == [[3], [1], [4], [1]]
    evaluated = preprocessor(data)['inputs']
    torch.testing.assert_close(evaluated, normalised(data['inputs'][0].float()))


def test_configs_build():
    for name in ('mocov3', 'mocov3_32px'):
        config = Config.fromfile(f'configs/_base_/views/{name}.py')
        assert len(MODELS.build(config.data_preprocessor).views) == 2


@pytest.mark.parametrize(
    ('config', 'error', 'message'),
    [
        (dict(views=[dict(flip=0.5)]), TypeError, "'flip'; it knows .*flip_prob"),
        (dict(views=[dict(flip_prob=2)]), ValueError, 'flip_prob.*2'),
        (dict(mean=[120.0]), ValueError, r'mean.*\[120\.0\]'),
        (dict(std=[1.0, 1.0, 0.0]), ValueError, r'std.*\[1\.0, 1\.0, 0\.0\]'),
    ],
)
def test_bad_arguments(config, error, message):
    with pytest.raises(error, match=message):
        MODELS.build({**dict(type='ViewsPreprocessor', mean=MEAN, std=STD, views=VIEWS), **config})


def test_batches_that_do_not_fit():
    with pytest.raises(ValueError, match=r'cuts 1 views per image and the preprocessor augments 2.*num_views'):
        ViewsPreprocessor(MEAN, STD, VIEWS)(make_batch(1), training=True)
    with pytest.raises(ValueError, match='with_labels=True'):
        LabelledPreprocessor(MEAN, STD)(make_batch(1))
    with pytest.raises(ValueError, match='one view, got 2'):
        LabelledPreprocessor(MEAN, STD, VIEWS)
