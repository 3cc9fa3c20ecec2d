"""Global generators lent to other libraries."""

import random

import numpy as np
import pytest
import torch

from mocox.randomness import global_seed


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(()).item()  # noqa: NPY002


def test_seeded_inside_untouched_outside():
    before = draw, random.getstate(), torch.get_rng_state()
    with global_seed(7):
        inside = draw()
    assert random.getstate() == before[1] and torch.equal(torch.get_rng_state(), before[2])
    with global_seed(7):
        assert draw() == inside
    with global_seed(8):
        assert not set(draw()) & set(inside)


def test_restored_after_an_error():
    random.seed(0)
    expected = random.random()
    random.seed(0)
    with pytest.raises(ValueError, match='no'), global_seed(1):
        raise ValueError('no')
    assert random.random() == expected
