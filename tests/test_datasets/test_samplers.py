"""Each epoch a new order, each image once, the same on all ranks."""

import pytest

from mocox.datasets import EpochSampler
from mocox.registry import DATA_SAMPLERS


@pytest.fixture
def in_world(monkeypatch):
    def enter(rank: int, world_size: int) -> None:
        monkeypatch.setattr('mocox.dist.rank', lambda: rank)
        monkeypatch.setattr('mocox.dist.world_size', lambda: world_size)

    return enter


def ranks(in_world, world_size: int, num_images: int, epoch: int = 0, **options) -> list[list[tuple[int, int]]]:
    """What each rank of a world yields."""
    results = []
    for rank in range(world_size):
        in_world(rank, world_size)
        sampler = EpochSampler(range(num_images), **options)
        sampler.set_epoch(epoch)
        results.append(list(sampler))
        assert len(sampler) == len(results[-1])
    return results


def test_every_image_once_in_a_new_order_each_epoch():
    sampler = DATA_SAMPLERS.build(dict(type='EpochSampler', dataset=range(20), seed=1))
    orders = []
    for epoch in (0, 1, 2**31):
        sampler.set_epoch(epoch)
        epochs, order = zip(*sampler, strict=True)
        assert set(epochs) == {epoch}
        assert sorted(order) == list(range(20))
        orders.append(order)
    assert len(set(orders)) == 3
    sampler.set_epoch(0)
    assert tuple(index for _, index in sampler) == orders[0]  # whatever was asked in between


def test_seeds_differ():
    assert list(EpochSampler(range(20), seed=0)) != list(EpochSampler(range(20), seed=1))
    assert list(EpochSampler(range(20), seed=0)) == list(EpochSampler(range(20), seed=None))


def test_without_shuffling():
    assert list(EpochSampler(range(3), shuffle=False)) == [(0, 0), (0, 1), (0, 2)]


def test_training_drops_the_remainder(in_world):
    parts = ranks(in_world, 3, 11, epoch=4, seed=7)
    ((alone),) = ranks(in_world, 1, 11, epoch=4, seed=7)
    assert [len(part) for part in parts] == [3, 3, 3]
    assert [pair for step in zip(*parts, strict=True) for pair in step] == alone[:9]


def test_evaluation_repeats_the_beginning(in_world):
    parts = ranks(in_world, 3, 7, shuffle=False, round_up=True)
    assert [[index for _, index in part] for part in parts] == [[0, 3, 6], [1, 4, 0], [2, 5, 1]]
    tiny = ranks(in_world, 5, 2, shuffle=False, round_up=True)
    assert [part[0][1] for part in tiny] == [0, 1, 0, 1, 0]


def test_more_processes_than_images(in_world):
    in_world(0, 4)
    with pytest.raises(ValueError, match='3 images cannot be shared by 4 processes'):
        EpochSampler(range(3))
