"""A benchmark of several data sets, judged one by one and on average: OmniBenchmark and what is laid out like it.

OmniBenchmark (arXiv 2207.07106) has 21 visual realms, each a folder with list files of its own images.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mocox import dist
from mocox.checkpoint.files import newest_in
from mocox.datasets.lists import find_lists
from mocox.evaluation import pipeline
from mocox.evaluation.report import write_json
from mocox.terminal import say


def find_realms(root: str | Path) -> list[str]:
    """Return the names of the realms below a folder: subfolders with lists of training and test images, two or more.

    Args:
        root: What ``--data-root`` names.
    """
    root = os.path.expanduser(root)
    if not os.path.isdir(root) or find_lists(root):
        return []
    realms = sorted(
        entry.name for entry in os.scandir(root) if entry.name[0] != '.' and entry.is_dir() and find_lists(entry.path)
    )
    return realms if len(realms) > 1 else []


def evaluate(
    checkpoint: str | Path, data_root: str | Path, protocols: Sequence[str] | None = None, **settings: Any
) -> dict[str, Any]:
    """Judge a frozen encoder on a data set, or on each realm of a folder of several; what ``mocox evaluate`` runs.

    Args:
        checkpoint: As :func:`~mocox.evaluation.pipeline.evaluate` takes it.
        data_root: A data set as :func:`~mocox.evaluation.data.open_data` knows it, or a folder of realms.
        protocols: Names in ``PROTOCOLS``; by default all that suit the data, on realms logistic regression.
        settings: The other arguments of :func:`~mocox.evaluation.pipeline.evaluate`.

    Returns:
        What is written to ``results.json``; of realms, what is written to ``average.json``.

    Raises:
        FileNotFoundError: No such file or folder.
        ValueError: Something does not fit; says what.
    """
    if realms := find_realms(data_root):
        return evaluate_realms(checkpoint, data_root, realms, protocols, **settings)
    return pipeline.evaluate(checkpoint, str(data_root), protocols, **settings)


def evaluate_realms(
    checkpoint: str | Path,
    data_root: str | Path,
    realms: Sequence[str],
    protocols: Sequence[str] | None = None,
    work_dir: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Judge a frozen encoder on each realm, and average the accuracies over the realms.

    Args:
        checkpoint: As :func:`~mocox.evaluation.pipeline.evaluate` takes it.
        data_root: Their folder.
        realms: Their names.
        protocols: Names in ``PROTOCOLS``; by default logistic regression, OmniBenchmark's own.
        work_dir: Gets ``REALM/results.json`` of each, and ``average.json``; by default
            ``work_dirs/evaluate/FOLDER/NAME/REALMS`` after the checkpoint and ``data_root``.
        settings: The other arguments of ``evaluate``, the same for all realms.

    Returns:
        What is written to ``average.json``: ``realms``, percent by realm and protocol, and ``average``, percent by
        protocol, of those that ran on every realm.

    Raises:
        ValueError: A realm cannot be judged; names it.
    """
    folder = Path(work_dir) if work_dir else pipeline.folder_of(newest_in(checkpoint)) / Path(data_root).name
    results: dict[str, dict[str, float]] = {}
    for number, realm in enumerate(realms, start=1):
        if dist.rank() == 0:
            say(f'realm {number} of {len(realms)}: {realm}')
        try:
            report = pipeline.evaluate(
                checkpoint,
                os.path.join(data_root, realm),
                protocols or ['logreg'],
                work_dir=folder / realm,
                **settings,
            )
        except ValueError as error:
            raise ValueError(f'realm {realm}: {error}') from error
        results[realm] = {_name(row): row['value'] for row in report['results']}
    everywhere = [name for name in results[realms[0]] if all(name in found for found in results.values())]
    average = {name: round(fmean(found[name] for found in results.values()), 2) for name in everywhere}
    summary = dict(checkpoint=report['checkpoint'], realms=results, average=average)
    if dist.rank() == 0:
        write_json(summary, folder / 'average.json')
        say('', *_table(results, average), f'written: {folder}/average.json')
    return summary


def _name(row: dict[str, Any]) -> str:
    """Name a number the same in all realms: the penalty of a regression is chosen on each."""
    return row['protocol'] if row['protocol'] == 'logreg' else f'{row["protocol"]} {row["setting"]}'


def _table(results: dict[str, dict[str, float]], average: dict[str, float]) -> list[str]:
    width = max(len(f'average of {len(results)} realms'), *map(len, results))
    lines = [f'{"realm":<{width}}  ' + '  '.join(average)]
    for realm, found in [*results.items(), (f'average of {len(results)} realms', average)]:
        lines.append(f'{realm:<{width}}  ' + '  '.join(f'{found[name]:>{len(name)}.2f}' for name in average))
    return lines
