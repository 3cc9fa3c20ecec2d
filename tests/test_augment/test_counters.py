"""Random numbers by position: against NumPy's unsigned arithmetic, and their laws."""

import numpy as np
import torch
from scipy import stats

from mocox.augment.counters import normal, seeds_of, uniform

SEEDS = torch.tensor([[0, 0], [1, 0], [0, 1], [123456, 7654321], [2**24 - 1, 2**24 - 1]])


def mixed(word: np.ndarray) -> np.ndarray:
    """The hash in 32 bits that overflow."""
    word = (word ^ (word >> np.uint32(16))) * np.uint32(0x21F0AAAD)
    word = (word ^ (word >> np.uint32(15))) * np.uint32(0x735A2D97)
    return word ^ (word >> np.uint32(15))


def test_in_unsigned_arithmetic():
    for stream in (0, 5, 127):
        first, second = SEEDS.numpy().astype(np.uint32).T[:, :, None]
        high = np.array([stream << 24, (stream + 128) << 24], np.uint32)
        key, other = mixed(mixed(first | high[0]) ^ second), mixed(mixed(second | high[1]) ^ first)
        expected = (mixed(mixed(np.arange(30, dtype=np.uint32) ^ key) ^ other) >> np.uint32(8)) / 2**24
        assert np.array_equal(uniform(SEEDS, stream, (5, 6)).numpy().reshape(5, 30), expected.astype(np.float32))


def test_seeds_are_the_numbers_that_travel():
    draws = np.random.default_rng(0).random((4, 2), dtype=np.float32)
    assert np.array_equal(seeds_of(torch.from_numpy(draws)).numpy(), np.round(draws.astype(float) * 2**24))


def test_laws():
    """Kolmogorov-Smirnov within one sample and, at one position, over samples with neighbouring seeds."""
    neighbours = torch.stack([torch.arange(20_000), torch.zeros(20_000).long()], 1)
    for numbers in (uniform(SEEDS[:1], 3, (20_000,))[0], uniform(neighbours, 3, (1,))[:, 0]):
        assert stats.kstest(numbers.numpy(), 'uniform').pvalue > 1e-3
    for numbers in (normal(SEEDS[:1], 3, (20_000,))[0], normal(neighbours, 3, (1,))[:, 0]):
        assert stats.kstest(numbers.numpy(), 'norm').pvalue > 1e-3


def test_samples_streams_and_positions_are_independent():
    rows = [*uniform(SEEDS, 0, (20_001,)), *uniform(SEEDS, 1, (20_001,))]
    rows = torch.stack([*(row[1:] for row in rows), *(row[:-1] for row in rows)])
    assert (torch.corrcoef(rows) - torch.eye(len(rows))).abs().max() < 5 / 20_000**0.5


def test_a_sample_does_not_depend_on_its_batch():
    together = normal(SEEDS, 9, (3, 4, 5))
    for i in range(len(SEEDS)):
        assert torch.equal(normal(SEEDS[i : i + 1], 9, (3, 4, 5))[0], together[i])
