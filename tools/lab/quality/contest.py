"""From the command line to a table."""

from dataclasses import replace
from pathlib import Path

import torch

from lab.quality.contestants import OWN, REFERENCES, mocox_contestants
from lab.quality.maps import compare_maps
from lab.quality.peers import PEERS, VIEWS
from lab.quality.run import Contest, run
from lab.quality.sweep import sweep as run_sweep
from lab.quality.table import as_table, read_results
from mocox.terminal import say


def compete(
    data_root: str,
    out: str,
    contestants: list[str] | None,
    seeds: list[int],
    test: bool,
    held_out: int,
    no_finetuning: bool,
    cfg_options: dict | None,
    sweep: list[str] | None = None,
    maps: str | None = None,
    own: bool = False,
    **contest: object,
) -> str:
    """Run what is missing and print the table; see ``tools/quality.py`` for the arguments.

    Raises:
        ValueError: No such contestant, or results of another contest in ``out``.
        FileNotFoundError: No IDX files.
    """
    torch.set_num_threads(1)
    settings = Contest(
        data_root,
        held_out=None if test else held_out,
        with_finetuning=not no_finetuning,
        options=cfg_options or {},
        **contest,
    )
    if maps:
        return compare_maps(maps, settings)
    if sweep:
        return run_sweep(settings, sweep, seeds, Path(out))
    known = REFERENCES | mocox_contestants(cfg_options or {}, own) | PEERS
    if contestants == ['list']:
        say(*known)
        return ''
    names = contestants or list(known)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f'--contestants {" ".join(unknown)}: known are {", ".join(known)}')
    for seed in seeds:
        for name in names:
            contest_of = _with_its_own(settings, name) if own else settings
            run(contest_of, name, known[name], seed, Path(out), is_ours=name not in PEERS)
            say(*as_table(read_results(Path(out))).splitlines())
    return as_table(read_results(Path(out)))


def _with_its_own(contest: Contest, name: str) -> Contest:
    """The same images and steps, and the views and the reading of the last map that a contestant's authors chose."""
    if name in OWN:
        return replace(contest, config=OWN[name])
    return replace(contest, options=contest.options | VIEWS.get(name, {}))
