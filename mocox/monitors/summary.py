"""Summary of a whole run in one paragraph."""

from math import isfinite

from mocox.monitors.learning_state import CHANCE_PROGRESS, FLAT_KNN, TrainingState
from mocox.monitors.readings import BELOW, CAUSES, LEARNING, SATURATED, SHORTCUT, WARMING
from mocox.monitors.start import compare


def final_verdict(state: TrainingState, chance: float, knn_chance: float | None = None) -> str:
    """Summarise the whole run in one paragraph.

    Args:
        state: The machine after the last reading.
        chance: Loss in nats of a model that knows nothing.
        knn_chance: Accuracy of always answering the most frequent class, 0 to 1.
    """
    if not state.window:
        return 'The run was too short to tell whether it learned: the monitors have read nothing.'
    last = state.window[-1]
    learned = state.state in (LEARNING, SATURATED)
    head = {True: 'The run learned', False: 'The run did not learn'}[learned]
    if state.state == WARMING:
        head = 'The run ended before its queue was full'
    elif state.state == BELOW:
        head = 'The run has lost what it started from'
    elif state.state == SHORTCUT:
        or_folders = ', or the folders are not classes' if state.never_left_chance() else ''
        head = f'The loss fell, perhaps by a shortcut{or_folders}, for k-NN did not rise'
    elif learned and state._smooth_progress() < CHANCE_PROGRESS:
        head = 'The run has learned little'
    elif learned and (state.knn_is_flat() or compare(state.start, state.plain) == BELOW or _gained_nothing(state)):
        head = 'The loss fell, but k-NN did not rise'
    parts = [f'loss {last.loss:.3f}' if isfinite(last.loss) else 'the loss is not finite']
    if isfinite(chance):  # of a loss of the user's own it is unknown
        parts[0] += f' (chance {chance:.3f})'
    if any(isfinite(reading.progress) for reading in state.window):
        parts[0] += f', {state._smooth_progress():.0f} % of the way to its floor'
    if last.top1 is not None:
        parts.append(f'contrastive top-1 {100 * last.top1:.0f} %')
    by_chance = '' if knn_chance is None else f', the largest class alone is {100 * knn_chance:.0f} %'
    start, plain = state.start, state.plain
    if start and plain and start.knn is not None and plain.knn is not None:
        compared = f', {compare(start, plain)}' * state.warm
        parts.append(f'k-NN on plain images from {100 * start.knn:.0f} to {100 * plain.knn:.0f} %{compared}{by_chance}')
    elif last.knn is not None and state.first_knn is not None:  # without a start, an early reading
        parts.append(f'k-NN from {100 * state.first_knn:.0f} to {100 * last.knn:.0f} %{by_chance}')
    if start and plain:
        ranks = f'effective rank there from {start.effective_rank:.1f} to {plain.effective_rank:.1f}'
        parts.append(f'{ranks}, alignment from {start.alignment:.2f} to {plain.alignment:.2f}')
    if last.effective_rank is not None:
        parts.append(f'effective rank of the features {last.effective_rank:.1f}')
    text = f'{head}: {"; ".join(parts)}. State at the end: {state.state}.'
    if state.skipped:
        text += f' {state.skipped} steps were skipped because their gradient was not finite.'
    if earlier := [name for name in state.worst if name != state.state]:
        text += f' On the way it was: {", ".join(earlier)}.'
    if state.state in CAUSES and state.state != SATURATED:
        text += f' Usual causes: {"; ".join(state.causes(state.state))}.'
    return text


def _gained_nothing(state: TrainingState) -> bool:
    """True if k-NN on plain images is no better than with random weights, after steps enough to see that."""
    now, start = state.knn_since_start()
    long = state.window[-1].iteration >= state.patience
    return long and not state.warm and state.knn_can_rise() and now - start < FLAT_KNN * (1 - start)
