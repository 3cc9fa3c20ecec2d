"""Journal of a stage: one JSON line per finished piece, flushed to disk before the next begins."""

import json
import os
import time
from pathlib import Path
from typing import Any

STARTED, PART, DONE, FAILED = 'started', 'part', 'done', 'failed'


class Journal:
    """The lines of ``OUT/STAGE.jsonl``.

    Args:
        path: Of the file; made with the first line.
        call: What tells one start of the command from another.
    """

    def __init__(self, path: Path, call: str = '') -> None:
        self.path, self.call = path, call
        self.lines = read_lines(path)

    def results(self) -> dict[str, dict[str, Any]]:
        """Results of the finished pieces."""
        return {line['piece']: line['result'] for line in self.lines if line['state'] == DONE}

    def failures(self) -> dict[str, str]:
        """Why a piece that is not done ended the last time; one that never said so was killed, or died."""
        found: dict[str, str] = {}
        for line in self.lines:
            if line['state'] == STARTED:
                found[line['piece']] = 'interrupted, or the process died'
            elif line['state'] == FAILED:
                found[line['piece']] = line['result']['error']
            elif line['state'] == DONE:
                found.pop(line['piece'], None)
        return found

    def parts(self, piece: str) -> dict[str, dict[str, Any]]:
        """Notes of a piece, of this call and earlier ones."""
        return {line['part']: line['result'] for line in self.lines if line['state'] == PART and line['piece'] == piece}

    def was_tried(self, piece: str) -> bool:
        """True if this call has begun it already: whatever ended it may happen again."""
        return any(line['piece'] == piece and line['call'] == self.call for line in self.lines)

    def write(self, state: str, piece: str, result: dict[str, Any] | None = None, part: str = '') -> None:
        """Appends a line and waits for the disk."""
        line = dict(
            state=state, piece=piece, part=part, call=self.call, time=round(time.time(), 1), result=result or {}
        )
        text = json.dumps(line, default=str) + '\n'
        with open(self.path, 'a+b') as file:
            if file.tell() and not _ends_a_line(self.path):
                text = '\n' + text  # the line before was torn
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        self.lines.append(json.loads(json.dumps(line, default=str)))


def _ends_a_line(path: Path) -> bool:
    with open(path, 'rb') as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b'\n'


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All lines that are whole: the last one of a killed process may be torn."""
    found = []
    for text in path.read_text(encoding='utf-8', errors='replace').splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return found
