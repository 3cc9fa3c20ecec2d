"""Events of a run with their times: one JSON object a line, beside MMEngine's scalars."""

import json
from math import isfinite
from pathlib import Path
from typing import Any

from mmengine.runner import Runner


def write_event(
    runner: Runner,
    kind: str,
    state: str | None,
    message: str,
    evidence: dict[str, Any] | None = None,
    causes: list[str] | None = None,
    after_training: bool = False,
) -> None:
    """Append to ``<work_dir>/<timestamp>/vis_data/events.jsonl``; only the first process writes.

    Args:
        runner: The run.
        kind: ``state``, ``spike``, ``non_finite``, ``rollback``, ``freeze`` or ``end``.
        state: What :class:`mocox.monitors.learning_state.TrainingState` says, if the event is about that.
        message: One sentence.
        evidence: The numbers behind it. A number that is not finite becomes text: JSON has no such numbers.
        causes: What usually brings it about.
        after_training: The runner has counted the last iteration already.
    """
    if runner.rank != 0:
        return
    path = Path(runner.log_dir, 'vis_data', 'events.jsonl')
    event = dict(
        iter=runner.iter + (not after_training),
        epoch=runner.epoch + (not after_training),
        kind=kind,
        state=state,
        message=message,
        evidence={name: _json_number(value) for name, value in (evidence or {}).items()},
        causes=causes or [],
    )
    try:
        path.parent.mkdir(exist_ok=True)  # the folder of the run is not made anew: its disk may be gone
        with path.open('a') as file:
            file.write(json.dumps(event) + '\n')
    except OSError as error:
        runner.logger.error(f'{path} could not be written: {error}. Training continues; free space, or mount it again.')


def _json_number(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not isfinite(value) else value
