"""How many cases are tried, and what every one of them must keep."""

import os
import resource
from collections.abc import Callable
from datetime import timedelta

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

CASES = int(os.environ.get('MOCOX_FUZZ_CASES', 0))
MAX_GROWTH_MB = 600  # of one test, over all of its cases


def fuzz(cases: int) -> Callable:
    """Settings of a test: its number of cases, and seconds for one of them.

    Short runs repeat the same cases, so that they do not fail by chance; long ones look for new ones.
    """
    return settings(
        max_examples=CASES or cases,
        derandomize=not CASES,
        database=None,
        deadline=timedelta(seconds=10),
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )


def mutations(seeds: dict[str, bytes]) -> st.SearchStrategy[bytes]:
    """One of the seeds with bytes overwritten, cut out, repeated or inserted."""
    edit = st.tuples(
        st.sampled_from(['set', 'set', 'flip', 'cut', 'truncate', 'repeat', 'insert']),
        st.floats(0, 1, exclude_max=True),  # where
        st.integers(1, 64),
        st.binary(min_size=1, max_size=8),
    )
    return st.builds(_mutate, st.sampled_from(sorted(seeds)).map(seeds.__getitem__), st.lists(edit, max_size=6))


def _mutate(data: bytes, edits: list[tuple[str, float, int, bytes]]) -> bytes:
    for kind, where, size, new in edits:
        at = int(where * len(data))
        if kind == 'set':
            data = data[:at] + new + data[at + len(new) :]
        elif kind == 'flip' and data:
            data = data[:at] + bytes([data[at] ^ 1 << size % 8]) + data[at + 1 :]
        elif kind == 'cut':
            data = data[:at] + data[at + size :]
        elif kind == 'truncate':
            data = data[:at]
        elif kind == 'repeat':
            data = data[:at] + data[at : at + size] * 3 + data[at + size :]
        elif kind == 'insert':
            data = data[:at] + new + data[at:]
    return data


def peak_mb() -> float:
    """The most memory that this process has used so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
