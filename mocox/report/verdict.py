"""Does the run learn? In words, with the evidence: the monitors' judgement, or one from the loss alone."""

import math
from dataclasses import dataclass, field
from typing import Any

from mocox.monitors.learning_state import CHANCE_PROGRESS, LOST_PROGRESS
from mocox.monitors.readings import AT_CHANCE, DIVERGING, LEARNING
from mocox.report.runs import Run

# The tone and mark of a state, for readers without colours too. States of the monitors are found by their words.
TONES = (
    (('diverg', 'collaps', 'non-finite', 'non_finite'), 'bad', '✕'),
    (('chance', 'below its start', 'shortcut', 'spike', 'rises'), 'warn', '!'),
    (('saturated',), 'calm', '='),
    (('warming', 'started', 'start'), 'calm', '…'),
    (('learning', 'learned', 'finished'), 'good', '✓'),
)
LEARNED = 'it learned'  # of a run that has ended
FEW_LINES = 3  # of the log, below which there is no verdict
RISES = 10.0  # percent of the progress lost that are reported, though not yet diverging for the monitors


@dataclass
class RunVerdict:
    """One run in words.

    Args:
        state: A word or two.
        tone: ``good``, ``warn``, ``bad`` or ``calm``: the colour.
        mark: The same as a sign.
        message: A sentence.
        evidence: Names and values that speak for it.
        causes: Usual causes.
        source: Source of the judgement.
    """

    state: str
    tone: str
    mark: str
    message: str
    evidence: dict[str, str] = field(default_factory=dict)
    causes: list[str] = field(default_factory=list)
    source: str = ''


def judge(run: Run) -> RunVerdict:
    """The monitors' last verdict, or one from the loss where they were off."""
    states = [event for event in run.events if event.get('kind') == 'state']
    ends = [event for event in run.events if event.get('kind') == 'end']
    state, message = _from_loss(run)
    if states:
        verdict = from_event(states[-1])
        if ends:
            text = str(ends[-1].get('message', ''))
            verdict.message = _sentence(text.partition(' Usual causes:')[0] if verdict.causes else text)
            if text.startswith('The run learned'):
                verdict.state = LEARNED
        elif 'warming' not in verdict.state:  # the state may be old: say how the run stands now
            verdict.message = f'Since iteration {states[-1].get("iter", "?")}: {verdict.message} Now: {message}'
        return verdict
    state = LEARNED if state == LEARNING and run.finished else state
    return RunVerdict(
        state, *tone_of(state), message, source='judged from the loss alone: no monitor was on in this run'
    )


def from_event(event: dict[str, Any]) -> RunVerdict:
    """The verdict that a line of ``events.jsonl`` states."""
    state = str(event.get('state') or event.get('kind') or 'unknown')
    evidence, causes = event.get('evidence'), event.get('causes')
    evidence = evidence if isinstance(evidence, dict) else {}
    causes = causes if isinstance(causes, list) else []
    early = 'chance' in state and not causes  # as every run is at first
    return RunVerdict(
        state,
        *(('calm', '…') if early else tone_of(state)),
        _sentence(event.get('message', '')),
        {str(key).replace('_', ' '): format_value(value) for key, value in evidence.items()},
        [str(cause) for cause in causes],
        f'judged by the monitors at iteration {event.get("iter", "?")}',
    )


def tone_of(state: str) -> tuple[str, str]:
    """Colour and sign of a state."""
    words = state.lower()
    return next(((tone, mark) for keys, tone, mark in TONES if any(key in words for key in keys)), ('calm', '·'))


def format_value(value: object) -> str:
    """Format a number for people; anything else as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ', '.join(map(format_value, value)) if isinstance(value, list | tuple) else str(value)
    if not math.isfinite(value):
        return 'not finite'
    if isinstance(value, int) or (value == int(value) and abs(value) >= 1000):
        return f'{int(value):,}'
    if value and not 1e-3 <= abs(value) < 1e5:
        return f'{value:.2e}'
    return f'{value:.4g}'


def _sentence(text: object) -> str:
    text = str(text).strip()
    return text[:1].upper() + text[1:] + ('' if text.endswith(('.', '!', '?')) or not text else '.')


def _has_levels(run: Run) -> bool:
    ends = [run.scalars[name].last for name in ('chance', 'floor') if name in run.scalars]
    return 'progress' in run.scalars and len(ends) == 2 and all(map(math.isfinite, ends)) and ends[0] != ends[1]


def _from_loss(run: Run) -> tuple[str, str]:
    loss = run.scalars.get('loss')
    if not loss or len(loss) < FEW_LINES:
        return 'just started', 'Too few steps are in the log to say anything.'
    if not math.isfinite(loss.last):
        return 'diverged', 'The loss is not finite any more.'
    if not _has_levels(run):
        if run.metrics:
            scores = ', '.join(f'{name} {series.last:.4g}' for name, series in list(run.metrics.items())[:3])
            return 'evaluation', f'The loss went from {loss.values[0]:.3f} to {loss.last:.3f}; {scores}.'
        return 'loss only', f'The loss went from {loss.values[0]:.3f} to {loss.last:.3f}; its levels are unknown.'
    chance, floor = run.scalars['chance'].last, run.scalars['floor'].last
    recent = loss.recent(3)
    full = next(i for i, level in zip(run.scalars['chance'].iters, run.scalars['chance'].values) if level == chance)
    values = [v for i, v in zip(loss.iters, loss.values) if i >= full]  # while a queue fills up the loss is low
    best = min((sum(values[i : i + 3]) / 3 for i in range(len(values) - 2)), default=recent)
    progress = 100 * (chance - recent) / (chance - floor)
    levels = f'chance ({chance:.2f}) to the floor ({floor:.2f})'
    lost = 100 * (recent - best) / (chance - floor)
    was = f'The loss was {best:.2f} and is {recent:.2f} now, on the way from {levels}.'
    if lost > LOST_PROGRESS:
        return DIVERGING, was
    if progress < CHANCE_PROGRESS:
        return (
            AT_CHANCE,
            f'The loss, {recent:.2f}, is where guessing would be: {progress:.0f} % of the way from {levels}.',
        )
    if lost > RISES:
        return 'loss rises', was
    return LEARNING, f'The loss is {recent:.2f}: {progress:.0f} % of the way from {levels}.'
