"""Summary of a training in a few lines, before its first step."""

from pathlib import Path

import torch
from mmengine.runner import Runner

from mocox import dist
from mocox.recipe import Recipe, type_of
from mocox.terminal import one_line


def describe_run(runner: Runner) -> str:
    """Describe method, images, batch, learning rate and machine in at most ten lines."""
    images = len(runner.train_dataloader.dataset)
    recipe = Recipe(runner.cfg, runner.world_size, images)
    rows = dict(
        recipe=short(runner.cfg.filename) if runner.cfg.filename else None,
        model=_describe_model(runner, recipe),
        images=f'{images:,}' + (f' in {short(root)}' if (root := recipe.dataset.get('data_root')) else ''),
        batch=f'{recipe.processes} x {recipe.images_per_process} = {recipe.batch_size} images; '
        f'{len(runner.train_dataloader):,} steps per epoch, {runner.max_epochs} epochs',
    )
    if isinstance(lr := recipe.peak_lr, int | float):
        rows['learning rate'] = f'{lr:.3g} at its peak, {type_of(recipe.optimizer)}'
    rows['device'] = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    log = f'{runner.timestamp}/{runner.timestamp}.log'
    rows['work dir'] = f'{short(runner.work_dir)}; environment and config are in {log}'
    return '\n'.join(one_line(f'{name:<15}{value}') for name, value in rows.items() if value)


def short(path: object) -> str:
    """A path relative to the current folder where that is possible."""
    try:
        return str(Path(str(path)).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _describe_model(runner: Runner, recipe: Recipe) -> str:
    trained = sum(p.numel() for p in dist.unwrap(runner.model).parameters() if p.requires_grad)
    count = f'{trained / 1e6:.1f} M' if trained >= 1e5 else f'{trained:,}'
    backbone = f', {recipe.network}' if recipe.network else ''
    return f'{type(dist.unwrap(runner.model)).__name__}{backbone}; {count} weights are trained'
