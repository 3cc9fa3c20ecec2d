import pytest

from lab.benchmark import roofline


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch):
    """What measures the machine itself takes seconds at full size."""
    monkeypatch.setitem(roofline.SIDES, 'cpu', 64)
    monkeypatch.setattr(roofline, 'NUM_VALUES', 2**12)
