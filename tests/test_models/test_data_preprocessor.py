"""From a collated batch to the model's input."""

import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from mocox.augment import fused
from mocox.augment.batched import augment
from mocox.augment.recipe import NUM_DRAWS_USED, View, sample_parameters
from mocox.datasets import NUM_DRAWS
from mocox.models.data_preprocessor import LabelledPreprocessor, ViewsPreprocessor
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


def test_what_workers_have_augmented_is_only_normalised():
    preprocessor = ViewsPreprocessor(MEAN, STD, VIEWS)
    data = dict(make_batch(), augmented=True)
    for actual, crop in zip(preprocessor(data, training=True)['inputs'], data['inputs'], strict=True):
        torch.testing.assert_close(actual, normalised(crop.float()))
    with pytest.raises(ValueError, match='cuts 1 views'):
        preprocessor(dict(make_batch(1), augmented=True), training=True)


@pytest.fixture
def backend(monkeypatch):
    """Replaces torch's compiler by one that only traces, or that fails."""

    def choose(name: str) -> None:
        compile_ = torch.compile
        monkeypatch.setattr('torch.compile', lambda f, **options: compile_(f, backend=name, **options))
        fused.compiled.cache_clear()

    yield choose
    fused.compiled.cache_clear()


DISTORTING = [dict(color_jitter=dict(contrast=0.4, hue=0.2), blur_prob=0.5), dict(flip_prob=0.5)]


def test_fused_augmentation_gives_the_same(backend):
    backend('aot_eager')
    data = make_batch()
    expected = ViewsPreprocessor(MEAN, STD, DISTORTING)(data, training=True)['inputs']
    actual = ViewsPreprocessor(MEAN, STD, DISTORTING, fused=True)(data, training=True)['inputs']
    assert fused.compiled.cache_info().currsize == 2
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


def broken(graph, inputs):
    raise RuntimeError('no compiler here')


def test_without_a_compiler(backend, monkeypatch, capfd):
    """Asked for, it is an error; chosen on a GPU, a warning, once."""
    backend(broken)
    data = make_batch()
    with pytest.raises(Exception, match='no compiler here'):
        ViewsPreprocessor(MEAN, STD, DISTORTING, fused=True)(data, training=True)
    preprocessor = ViewsPreprocessor(MEAN, STD, DISTORTING)
    expected = preprocessor(data, training=True)['inputs']
    assert fused.compiled.cache_info().misses == 1  # 'auto' compiles nothing on a CPU
    monkeypatch.setattr(preprocessor, '_pays_to_fuse', lambda crops, view: True)
    capfd.readouterr()
    for _ in range(2):
        assert torch.equal(preprocessor(data, training=True)['inputs'][0], expected[0])
    logged = ''.join(capfd.readouterr())
    assert logged.count('augmentation is not compiled') == logged.count('no compiler here') == 1


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


def mixed(kind: str, labels: Tensor) -> tuple[LabelledPreprocessor, dict]:
    augments = dict(augments=[dict(type=kind, alpha=1.0)])
    return LabelledPreprocessor(MEAN, STD, num_classes=6, batch_augments=augments), make_batch(1, label=labels)


def partners(result: dict, labels: list[int]) -> list[tuple[float, int]]:
    """Share of its own label and index of the other image, read from the scores of images with different labels."""
    found = []
    for label, sample in zip(labels, result['data_samples'], strict=True):
        share = sample.gt_score[label].item()
        others = [other for other in labels if other != label and sample.gt_score[other] > 0]
        assert sample.gt_score.sum().item() == pytest.approx(1)
        found.append((share, labels.index(others[0]) if others else labels.index(label)))
    return found


def test_mixup_by_hand():
    labels = [3, 1, 4, 0]
    preprocessor, data = mixed('Mixup', torch.tensor(labels))
    images = normalised(data['inputs'][0].float())
    result = preprocessor(data, training=True)
    pairs = partners(result, labels)
    assert any(other != i for i, (_, other) in enumerate(pairs))
    for i, (share, other) in enumerate(pairs):
        torch.testing.assert_close(
            result['inputs'][i], share * images[i] + (1 - share) * images[other], atol=1e-5, rtol=0
        )
    assert [sample.gt_label.tolist() for sample in result['data_samples']] == [[3], [1], [4], [0]]


def test_cutmix_by_hand():
    """A share of the pixels comes from the other image, as large as its share of the label."""
    labels = [3, 1, 4, 0]
    preprocessor, data = mixed('CutMix', torch.tensor(labels))
    data['inputs'] = [torch.arange(0, 200, 50, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 6, 6)]
    images = normalised(data['inputs'][0].float())
    result = preprocessor(data, training=True)
    for i, (share, other) in enumerate(partners(result, labels)):
        own = (result['inputs'][i] == images[i]).all(0)
        assert torch.equal(result['inputs'][i][:, ~own], images[other][:, ~own])
        assert own.float().mean().item() == pytest.approx(share, abs=1e-6)


def test_mixing_is_a_function_of_the_draws_and_only_for_training():
    preprocessor, data = mixed('Mixup', torch.tensor([3, 1, 4, 0]))
    state = torch.get_rng_state()
    first = preprocessor(data, training=True)['inputs']
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(first, preprocessor(data, training=True)['inputs'])
    plain = preprocessor(data)
    torch.testing.assert_close(plain['inputs'], normalised(data['inputs'][0].float()))
    assert 'gt_score' not in plain['data_samples'][0]
    data['draws'] = torch.rand(4, 1, NUM_DRAWS)
    assert not torch.equal(first, preprocessor(data, training=True)['inputs'])


def test_mixing_needs_the_number_of_classes():
    augments = dict(augments=[dict(type='Mixup', alpha=1.0)])
    with pytest.raises(ValueError, match='num_classes'):
        LabelledPreprocessor(MEAN, STD, batch_augments=augments)
    preprocessor = LabelledPreprocessor(MEAN, STD, num_classes=4, batch_augments=augments)
    with pytest.raises(ValueError, match='a label is 4, but num_classes=4'):
        preprocessor(make_batch(1, label=torch.tensor([3, 1, 4, 0])), training=True)


def test_configs_build():
    for name in ('mocov3', 'mocov3_32px'):
        config = Config.fromfile(f'configs/_base_/views/{name}.py')
        assert len(MODELS.build(config.data_preprocessor).views) == 2


@pytest.mark.parametrize(
    ('config', 'error', 'message'),
    [
        (dict(views=[dict(flip=0.5)]), TypeError, "'flip'; it knows .*flip_prob"),
        (dict(views=[dict(flip_prob=2)]), ValueError, 'flip_prob.*2'),
        (dict(photometric='gpu'), ValueError, "'auto', 'device' or 'workers', got 'gpu'"),
        (dict(fused='yes'), ValueError, "True, False or 'auto', got 'yes'"),
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
