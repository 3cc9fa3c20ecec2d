"""The findings of the doctor, each with reason, fix and source."""

from dataclasses import asdict, dataclass

PROBLEM, WARNING, NOTE = 'problem', 'warning', 'note'
LEVELS = (PROBLEM, WARNING, NOTE)


@dataclass(frozen=True)
class Finding:
    """One finding that the user should know before the run.

    Args:
        level: ``problem`` (the run fails or cannot learn), ``warning`` (known to cost accuracy or time) or ``note``.
        check: Name of the check, stable for scripts.
        title: The finding, with the value.
        reason: Why it matters.
        fix: The fix, as an option if there is one.
        source: Source of the advice.
    """

    level: str
    check: str
    title: str
    reason: str
    fix: str
    source: str = ''

    def as_dict(self) -> dict[str, str]:
        """Return plain values for JSON."""
        return asdict(self)


def count(num: int, noun: str) -> str:
    """``1 step``, ``2 steps``."""
    return f'{num:,} {noun}{"s" * (num != 1)}'
