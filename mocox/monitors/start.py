"""The comparison of a run with its start, in words; plain numbers, without torch."""

from mocox.monitors.readings import BELOW, Plain

BETTER, LEVEL = 'better than its start', 'level with its start'
NOISE = 2.0  # standard errors of k-NN before the first step that do not count as a difference


def compare(start: Plain | None, now: Plain | None) -> str | None:
    """Compare by k-NN: ``BETTER``, ``LEVEL`` or ``BELOW``; None where there are no labels."""
    if start is None or now is None or start.knn is None or now.knn is None:
        return None
    error = (start.knn * (1 - start.knn) / start.num_images) ** 0.5
    if abs(now.knn - start.knn) <= max(NOISE * error, 1 / start.num_images):
        return LEVEL
    return BETTER if now.knn > start.knn else BELOW
