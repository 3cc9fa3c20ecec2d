"""What every test starts from: one torch thread, a fixed seed, and nothing that an earlier ``Runner`` left behind."""

import os
from collections.abc import Iterator
from unittest import mock

import pytest
import torch

from tests.support.processes import forget_runner

# torch asks the name server for the name of every peer, 127.0.0.1 included. One that answers late must not use up the
# few seconds in which the tests' processes wait for one another.
os.environ['RES_OPTIONS'] = 'timeout:1 attempts:1'
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first: the last one would keep a single worker busy while the others have nothing left."""
    items.sort(key=lambda item: item.get_closest_marker('slow') is None)


@pytest.fixture(autouse=True, scope='session')
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user who runs the tests keeps their own key of features."""
    with mock.patch.dict(os.environ, XDG_STATE_HOME=str(tmp_path_factory.mktemp('state'))):
        yield


@pytest.fixture(autouse=True)
def fresh_start() -> Iterator[None]:
    """Seeds torch before the test; restores the environment and MMEngine's global instances after it."""
    torch.manual_seed(0)
    with mock.patch.dict(os.environ):  # launchers and tools set variables
        yield
    forget_runner()
