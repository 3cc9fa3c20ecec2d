"""What every test starts from: one torch thread, a fixed seed, and nothing that an earlier ``Runner`` left behind."""

from collections.abc import Iterator

import pytest
import torch

from tests.processes import forget_runner

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fresh_start() -> Iterator[None]:
    """Seeds torch before the test, and makes MMEngine forget its global instances after it."""
    torch.manual_seed(0)
    yield
    forget_runner()
