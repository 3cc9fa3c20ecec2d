"""A sample depends on seed, epoch and index, and on nothing else: not on workers, ranks or batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader

from mocox.datasets import EpochSampler, ImageFiles, collate_views

CROPS = dict(type='RandomResizedCrops', size=8)


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(10):
        pixels = rng.integers(0, 256, (*rng.integers(9, 30, 2), 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{number}.png')
    return tmp_path


def load(dataset: ImageFiles, epochs: list[int], **options) -> list[dict]:
    """Trains through some epochs as MMEngine does: one loader, ``set_epoch`` before each."""
    loader = DataLoader(dataset, 4, sampler=EpochSampler(dataset, seed=5), collate_fn=collate_views, **options)
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
