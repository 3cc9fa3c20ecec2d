"""Checks of a resumed run: which checkpoint it takes, and what must be as it was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from mocox import dist
from mocox.checkpoint.durable import Report, newest_good
from mocox.engine.batches import describe_images
from mocox.processes import group


def newest_for_all(work_dir: str, report: Report) -> str | None:
    """Result of :func:`mocox.checkpoint.durable.newest_good` in the first process, on all processes."""
    found = newest_good(work_dir, report) if dist.rank() == 0 else None
    group.meet()  # large files may take longer to check than a collective waits
    return dist.gather_objects(found)[0]


def refuse_used_folder(work_dir: str) -> None:
    """Refuse to overwrite checkpoints of an earlier run; files that no run can resume from may be overwritten."""
    found = newest_for_all(work_dir, lambda level, text: None)
    if found:
        raise ValueError(
            f'{work_dir} holds the checkpoints of an earlier run ({Path(found).name}), which this one would overwrite: '
            'choose another --work-dir, or resume that run with --resume'
        )


def refuse_other_batches(saved: dict[str, int], now: dict[str, int]) -> None:
    """Compare the results of :func:`mocox.engine.batches.describe_batches` in two runs.

    Another number of processes is fine as long as they have as many images together: they see the same images in every
    iteration, with the same learning rate.

    Raises:
        ValueError: The run cannot go on with the same images in the same order.
    """
    total, total_now = (run['processes'] * run['batch_size'] for run in (saved, now))
    if total != total_now:
        if total % now['processes']:
            fix = f'start a number of processes that divides {total}'
        else:
            fix = f'use --cfg-options train_dataloader.batch_size={total // now["processes"]}'
        problem = (
            f'with {saved["processes"]} processes of {saved["batch_size"]} images, {total} in all; now there are '
            f'{now["processes"]} of {now["batch_size"]}, {total_now} in all'
        )
    elif saved['accumulative_counts'] != now['accumulative_counts']:
        fix = f'use --cfg-options optim_wrapper.accumulative_counts={saved["accumulative_counts"]}'
        problem = f'with accumulative_counts={saved["accumulative_counts"]}, which is now {now["accumulative_counts"]}'
    elif saved['epoch_length'] != now['epoch_length']:
        fix = 'restore the original images'
        problem = f'when an epoch had {saved["epoch_length"]} iterations; now it has {now["epoch_length"]}'
    else:
        return
    raise ValueError(
        f'the checkpoint was made {problem}. Learning rate and order of the images would change: {fix}.'
        ' To start anew from its weights: --cfg-options load_from=FILE, without --resume'
    )


def changes(checkpoint: dict, runner: Runner) -> Iterator[str]:
    """Config values that a checkpoint overrides, and the ways in which the resumed run differs from an undisturbed one.

    Yields:
        A warning for each.
    """
    then, now = checkpoint['exact_resume'].get('images'), describe_images(runner)
    if then and now:
        yield from _changed_images(dict(then), dict(now))
    optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
    saved = checkpoint.get('optimizer', {}).get('param_groups')
    if optimizer is None or not saved:
        return
    different = {
        name.removeprefix('initial_'): (old[name], new[name])
        for old, new in zip(saved, optimizer.param_groups)
        for name in sorted(old.keys() & new.keys())
        if name != 'params' and f'initial_{name}' not in new and old[name] != new[name]  # others follow a schedule
    }
    if different:
        named = ', '.join(f'{name}={new} is left at {old}' for name, (old, new) in different.items())
        yield (
            f'The optimizer goes on with the settings of the checkpoint: {named}. To train with those of the config, '
            'start anew from the weights: --cfg-options load_from=FILE, without --resume.'
        )


def _changed_images(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Compare the results of :func:`mocox.engine.batches.describe_images` in two runs."""
    if then.pop('positives', None) != now.pop('positives', None):
        yield 'The second view is cut from other images than in the run of the checkpoint: positives have changed.'
    if then != now:
        yield (
            f'The images are not those of the checkpoint: {then["count"]} then, {now["count"]} now'
            + ('' if then['count'] != now['count'] else ', with other names or in another order')
            + '. From here on their order is another one; in this epoch some may come twice, and some not at all.'
        )
