"""A sample depends on seed, epoch and index, and on nothing else: not on workers, ranks or batches."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader

from mocox.augment.batched import augment
from mocox.augment.recipe import View, sample_parameters
from mocox.datasets import EpochSampler, ImageFiles, collate_views

CROPS = dict(type='RandomResizedCrops', size=8)


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(10):
        pixels = rng.integers(0, 256, (*rng.integers(9, 30, 2), 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{number}.png')
    return tmp_path


def load(dataset: ImageFiles, epochs: list[int], views: list[dict] | None = None, **options) -> list[dict]:
    """Trains through some epochs as MMEngine does: one loader, ``set_epoch`` before each."""
    collate = partial(collate_views, views=views)
    loader = DataLoader(dataset, 4, sampler=EpochSampler(dataset, seed=5), collate_fn=collate, **options)
    batches = []
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


def assert_same(first: list[dict], second: list[dict]) -> None:
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_batch(folder):
    batch = load(ImageFiles(str(folder), CROPS), [0])[0]
    assert set(batch) == {'inputs', 'draws', 'index'}
    assert [view.shape for view in batch['inputs']] == [(4, 3, 8, 8)] * 2
    assert all(view.dtype == torch.uint8 and view.is_contiguous() for view in batch['inputs'])
    assert batch['draws'].shape == (4, 2, 16)
    assert batch['draws'].dtype == torch.float32
    assert batch['index'].shape == (4,)


def test_labels_are_collated(folder):
    for number in range(4):
        (folder / f'{number % 2}').mkdir(exist_ok=True)
        (folder / f'{number}.png').rename(folder / f'{number % 2}' / f'{number}.png')
    for stray in folder.glob('*.png'):
        stray.unlink()
    dataset = ImageFiles(str(folder), CROPS, with_labels=True)
    batch = collate_views([dataset[index] for index in range(4)])
    assert batch['label'].tolist() == [0, 0, 1, 1]
    assert batch['label'].dtype == torch.int64


def test_workers_do_not_matter(folder):
    dataset = ImageFiles(str(folder), CROPS)
    expected = load(dataset, [0, 1])
    assert_same(load(dataset, [0, 1], num_workers=2, persistent_workers=True), expected)
    assert_same(load(ImageFiles(str(folder), CROPS), [1], num_workers=1), expected[3:])  # as after a restart


VIEWS = [dict(color_jitter=dict(brightness=0.5, hue=0.2), blur_prob=0.5, flip_prob=0.5), dict(solarize_prob=0.5)]


@pytest.mark.parametrize('num_workers', [0, 2])
def test_workers_augment_as_the_preprocessor_does(folder, num_workers):
    """To half a level; and it says so, or the preprocessor would do it again."""
    dataset = ImageFiles(str(folder), CROPS)
    plain, actual = load(dataset, [1]), load(dataset, [1], views=VIEWS, num_workers=num_workers)
    for before, batch in zip(plain, actual, strict=True):
        assert batch['augmented'] is True and 'augmented' not in before
        torch.testing.assert_close(batch['draws'], before['draws'], rtol=0, atol=0)
        for number, config in enumerate(VIEWS):
            view = View(**config)
            parameters = sample_parameters(batch['draws'][:, number], view)
            expected = augment(before['inputs'][number].float(), parameters, view)
            torch.testing.assert_close(batch['inputs'][number].float(), expected, rtol=0, atol=1.01)
            assert batch['inputs'][number].is_contiguous()


NOISY = [
    dict(gaussian_noise_prob=0.5, quarter_turn_prob=0.5, stain_jitter=dict(scale=0.1, shift=0.1)),
    dict(poisson_noise_prob=0.5, channel_jitter=dict(brightness=0.4), channel_drop_prob=0.5, vertical_flip_prob=0.5),
]


@pytest.mark.parametrize('views', [VIEWS, NOISY])
def test_augmented_samples_do_not_depend_on_workers_or_a_restart(folder, views):
    dataset = ImageFiles(str(folder), CROPS)
    expected = load(dataset, [0, 1], views=views)
    assert_same(load(dataset, [0, 1], views=views, num_workers=2, persistent_workers=True), expected)
    assert_same(load(ImageFiles(str(folder), CROPS), [1], views=views, num_workers=1), expected[3:])


def test_a_batch_from_a_worker_lies_in_shared_memory(folder):
    """Written there by the worker, or it would be copied once more on its way."""
    seen = []

    def collate(samples):
        batch = collate_views(samples, VIEWS)
        return dict(shared=torch.tensor([view.is_shared() for view in batch['inputs']]), **batch)

    for batch in DataLoader(ImageFiles(str(folder), CROPS), 4, num_workers=1, collate_fn=collate):
        seen += batch['shared'].tolist()
    assert seen == [True] * 6


def test_workers_refuse_what_they_cannot_augment(folder):
    samples = [ImageFiles(str(folder), CROPS)[n] for n in range(2)]
    with pytest.raises(ValueError, match='cuts 2 views per image and the preprocessor augments 1'):
        collate_views(samples, VIEWS[:1])
    for sample in samples:
        sample['inputs'] = [view.double() for view in sample['inputs']]
    with pytest.raises(TypeError, match=r"torch.float64 \(3, 8, 8\).*photometric='device'"):
        collate_views(samples, VIEWS)
    assert collate_views(samples)['inputs'][0].dtype == torch.float64


def test_a_data_set_in_memory_is_not_written_to():
    """Its images are handed out as they are where a crop has their size."""
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    sample = dict(inputs=[image, image], draws=torch.rand(2, 16), index=0)
    before = image.clone()
    collate_views([sample], VIEWS)
    assert torch.equal(image, before)


def test_the_state_of_generators_does_not_matter(folder):
    dataset = ImageFiles(str(folder), CROPS)
    expected = dataset[1, 2]
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert_same([dataset[1, 2]], [expected])


def test_seed_epoch_index_and_view_all_matter(folder):
    one, other = ImageFiles(str(folder), CROPS, seed=0), ImageFiles(str(folder), CROPS, seed=1)
    draws = [one[0, 0], one[0, 1], one[1, 0], other[0, 0]]
    streams = torch.cat([item['draws'] for item in draws])
    assert len(streams.unique()) == streams.numel()
    assert not torch.equal(one[0, 0]['inputs'][0], one[1, 0]['inputs'][0])
    assert not torch.equal(one[0, 0]['inputs'][0], one[0, 0]['inputs'][1])


def test_draws_do_not_depend_on_the_crops(folder):
    for scale in ((0.08, 1.0), (0.9, 1.0)):
        dataset = ImageFiles(str(folder), dict(CROPS, scale=scale))
        draws = dataset[3]['draws']
        torch.testing.assert_close(draws, ImageFiles(str(folder), CROPS)[3]['draws'], rtol=0, atol=0)
        assert (draws >= 0).all()
        assert (draws < 1).all()


def test_ranks_share_the_batch_of_one_process(folder, monkeypatch):
    dataset = ImageFiles(str(folder), CROPS)
    whole = load(dataset, [2])[0]
    monkeypatch.setattr('mocox.dist.world_size', lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr('mocox.dist.rank', lambda rank=rank: rank)
        loader = DataLoader(dataset, 2, sampler=EpochSampler(dataset, seed=5), collate_fn=collate_views)
        loader.sampler.set_epoch(2)
        parts.append(next(iter(loader)))
    for view in range(2):
        interleaved = torch.stack([part['inputs'][view] for part in parts], 1).flatten(0, 1)
        assert torch.equal(interleaved, whole['inputs'][view])


def test_mmengine_builds_the_loader(folder):
    dataset = dict(type='mocox.ImageFiles', data_root=str(folder), crops=CROPS)
    config = dict(
        batch_size=4,
        num_workers=0,
        drop_last=True,
        sampler=dict(type='mocox.EpochSampler', shuffle=True),
        collate_fn=dict(type='mocox.collate_views'),
        dataset=dataset,
    )
    loader = Runner.build_dataloader(config, seed=5)
    assert len(loader) == 2
    loader.sampler.set_epoch(1)
    assert_same(list(loader), load(ImageFiles(str(folder), CROPS), [1])[:2])
