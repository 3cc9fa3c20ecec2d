"""Works through stages in a process of its own: ``python -m lab.gpu_day.worker`` is what the command starts."""

import faulthandler
import fcntl
import gc
import importlib
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from lab.gpu_day.day import Day, Notes, Piece
from lab.gpu_day.journal import DONE, FAILED, STARTED, Journal
from lab.gpu_day.report import write_report
from lab.gpu_day.stages import STAGE_SECONDS, STAGES, Stage
from mocox.terminal import say

AGAIN = 3  # exit code: a piece failed, and what is left needs a process that it has not touched
GRACE_SECONDS = 20  # beyond the end of a stage, for a piece that takes longer than expected


def work(day: Day, names: list[str], call: str, until: float) -> int:
    """Do what is not done of some stages.

    Args:
        day: Where and how large.
        names: Of the stages.
        call: Which start of the command this belongs to.
        until: No piece is begun that would end later (seconds since 1970).

    Returns:
        0, or ``AGAIN``.
    """
    failed = False
    for stage in STAGES:
        if stage.name in names and not failed:
            failed = _work_on(stage, day, call, until)
            _report(day)
    return AGAIN if failed else 0


def _work_on(stage: Stage, day: Day, call: str, until: float) -> bool:
    """True if a piece failed."""
    journal = Journal(day.out / f'{stage.name}.jsonl', call)
    end = min(until, time.time() + STAGE_SECONDS)
    module = importlib.import_module(f'lab.gpu_day.{stage.module}')
    for piece in module.pieces(day, stage.name):
        if piece.name in journal.results():
            _say(stage, piece, 'done before')
        elif journal.was_tried(piece.name):
            _say(stage, piece, f'left to the next call ({journal.failures()[piece.name]})')
        elif time.time() + (0 if day.tiny else piece.seconds) > end:
            _say(stage, piece, f'left to the next call: it takes about {piece.seconds} s')
        elif not _try(piece, stage, journal, end):
            return True
    return False


def _report(day: Day) -> None:
    """A report can be written again, time on a GPU cannot be had again: a fault in it stops nothing."""
    try:
        write_report(day)
    except Exception:
        traceback.print_exc()


def _try(piece: Piece, stage: Stage, journal: Journal, end: float) -> bool:
    """Run one piece; whether it came to its end. One that takes far too long ends the process."""
    journal.write(STARTED, piece.name)
    faulthandler.dump_traceback_later(max(end - time.time(), 1) + GRACE_SECONDS, exit=True, file=sys.__stderr__)
    start = time.perf_counter()
    try:
        result = piece.run(Notes(journal, piece.name))
    except Exception as error:
        traceback.print_exc()
        journal.write(FAILED, piece.name, dict(error=f'{type(error).__name__}: {error}'[:500]))
        _say(stage, piece, f'FAILED: {type(error).__name__}: {error}'[:300])
        return False
    finally:
        faulthandler.cancel_dump_traceback_later()
    seconds = time.perf_counter() - start
    journal.write(DONE, piece.name, result | dict(seconds=round(seconds, 1)))
    _say(stage, piece, f'{result.get("text", "done")} ({seconds:.0f} s)')
    _free()
    return True


def _say(stage: Stage, piece: Piece, text: str) -> None:
    say(f'[{stage.name}] {piece.name}: {text}')


def _free() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def end_with(parent: int) -> None:
    """End this process when the one that started it has gone: two of them must not share a GPU."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def lock(out: Path, patience: float = 10.0) -> Any:
    """Keep a second command out of the folder, for as long as what is returned lives.

    Raises:
        ValueError: Another one works there.
    """
    file = open(out / 'lock', 'w')  # noqa: SIM115  held to the end
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError:
            if time.monotonic() > end:
                raise ValueError(f'{out}: another gpu_day.py is at work there') from None
            time.sleep(0.2)


def main(out: str, device: str, tiny: str, data: str, cores: str, call: str, until: str, *names: str) -> int:
    """Take its arguments as text."""
    faulthandler.enable()
    end_with(os.getppid())
    day = Day(Path(out), device, tiny == '1', data or None, int(cores))
    held = lock(day.out)
    code = work(day, list(names), call, float(until))
    held.close()
    return code


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
