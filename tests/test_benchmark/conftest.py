import pytest

from lab.benchmark import limits


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch):
    """What measures the machine itself takes seconds at full size."""
    monkeypatch.setitem(limits.SIDES, 'cpu', 64)
    monkeypatch.setattr(limits, 'NUM_VALUES', 2**12)
