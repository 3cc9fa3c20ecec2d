"""The doctor: examines config, images and machine before a run."""

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import DefaultScope

from mocox.checkpoint.files import write_atomically
from mocox.datasets import ImageFiles, ViewsDataset
from mocox.datasets.copies import describe_copies
from mocox.doctor.findings import LEVELS, NOTE, PROBLEM, WARNING, Finding, count
from mocox.doctor.fitting import check_time
from mocox.doctor.images import Sample, check_images, check_pixels, look_at
from mocox.doctor.positives import check_positives
from mocox.doctor.recipe_checks import check_recipe
from mocox.doctor.speed import Speed, check_speed, free_memory_mb, measure
from mocox.recipe import Recipe
from mocox.registry import DATASETS, MODELS
from mocox.run.checks import check_channels
from mocox.run.errors import explain
from mocox.terminal import one_line

__all__ = ['Diagnosis', 'Finding', 'examine', 'write_failure']
MARKS = {PROBLEM: '✕', WARNING: '!', NOTE: '·'}


@dataclass
class Diagnosis:
    """The findings and facts of an examination.

    Args:
        recipe: What the config says.
        findings: Problems first.
        sample: Statistics of the sampled images.
        speed: None if it was not measured.
    """

    recipe: Recipe
    findings: list[Finding]
    sample: Sample
    speed: Speed | None = None
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """1 with a problem, else 0; warnings do not count."""
        return int(any(finding.level == PROBLEM for finding in self.findings))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(
            exit_code=self.exit_code,
            facts=self.facts,
            images=self.sample.as_dict(),
            speed=self.speed and self.speed.as_dict(),
            findings=[finding.as_dict() for finding in self.findings],
        )

    def write_json(self, path: str | Path) -> None:
        """Write the diagnosis as JSON."""
        _write(path, self.as_dict())

    def __str__(self) -> str:
        lines = [f'{name:<18}{value}' for name, value in self.facts.items()]
        for finding in self.findings:
            source = f' ({finding.source})' if finding.source else ''
            lines += ['', f'{MARKS[finding.level]} {finding.level}: {finding.title}']
            for text in (f'{finding.reason}{source}', f'Fix: {finding.fix}'):
                lines += textwrap.wrap(text, 110, initial_indent='  ', subsequent_indent='  ')
        lines += ['', ', '.join(count(sum(f.level == level for f in self.findings), level) for level in LEVELS)]
        return '\n'.join(map(one_line, lines))


def write_failure(path: str | Path, error: Exception) -> None:
    """Write why there is no diagnosis, so that a script finds no file of an earlier run in its place."""
    _write(path, dict(exit_code=1, error=explain(error), findings=[]))


def _write(path: str | Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2) + '\n'
    write_atomically(path, lambda temporary: Path(temporary).write_text(text, encoding='utf-8'))


def _check_channels(config: Mapping[str, Any]) -> list[Finding]:
    """Report channels, or an augmentation for other channels, for which a run would be refused."""
    try:
        check_channels(config)
        preprocessor = Recipe(config).preprocessor
        if preprocessor:
            with DefaultScope.overwrite_default_scope('mocox'):
                MODELS.build(dict(preprocessor))
    except (TypeError, ValueError) as error:
        title, _, fix = str(error).partition(': ')
        return [Finding(PROBLEM, 'channels', title, 'A run is refused before it starts.', fix)]
    return []


def examine(config: Mapping[str, Any], processes: int = 1, num_images: int = 300, seconds: float = 5.0) -> Diagnosis:
    """Examine a config, its images, and their speed on this machine.

    Args:
        config: A whole config for pre-training.
        processes: With how many it will be run, one per GPU.
        num_images: Images to read.
        seconds: To measure for; 0 leaves that out.

    Raises:
        FileNotFoundError: The images are not there.
        ValueError: Not a config for training, ``processes`` below 1, or images and model that do not fit.
    """
    if not config.get('train_dataloader') or not config.get('model'):
        raise ValueError('the config has no train_dataloader and model: mocox doctor examines trainings')
    if processes < 1 or num_images < 1 or seconds < 0:
        raise ValueError(f'processes={processes}, num_images={num_images}: at least 1; seconds={seconds}: at least 0')
    settings = config['train_dataloader']['dataset']
    with DefaultScope.overwrite_default_scope('mocox'):
        dataset = DATASETS.build(settings)
    if not isinstance(dataset, ViewsDataset):
        raise ValueError(f'{type(dataset).__name__} is not a dataset of mocox: mocox doctor examines those')
    recipe = Recipe(config, processes, len(dataset))
    sample = look_at(dataset, num_images)
    jitters = any((view.get('color_jitter') or {}).get('hue') for view in recipe.views)
    findings = [*check_recipe(recipe), *check_images(sample, _shorter_side(recipe.crops.get('size')), jitters)]
    findings += [*_check_channels(config), *_check_held_out(dataset)]
    mean = recipe.preprocessor.get('mean') or []
    findings += check_pixels(sample, dataset.pixels, mean)
    findings += check_positives(dataset, recipe.num_keys)
    fits = len(mean) == dataset.pixels.num_channels and not any(found.check == 'channels' for found in findings)
    speed = measure(recipe, dataset, seconds) if seconds and fits else None
    if speed:
        here = processes == 1 or torch.cuda.is_available()  # else it will run elsewhere
        findings += check_speed(speed, free_memory_mb() if here else None, recipe.is_vit, recipe.images_per_process)
        findings += [slow] if (slow := check_time(recipe, speed)) else []
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    return Diagnosis(recipe, findings, sample, speed, _facts(recipe, sample, speed))


def _check_held_out(dataset: ViewsDataset) -> list[Finding]:
    """Images of the splits beside the training images that are among these."""
    found: list[Finding] = []
    splits = getattr(dataset, 'found_splits', None)
    if splits is None or not isinstance(dataset, ImageFiles):
        return found
    for name in splits.tests:
        root = dataset.folder.removesuffix(splits.train)
        try:
            held_out = ImageFiles(root, dataset.crops, data_prefix=name, **dataset.pixels.settings())
        except (OSError, ValueError):  # an empty folder, say
            continue
        if copies := describe_copies(dataset, held_out):
            found.append(Finding(
                WARNING, 'shared_images', f'{name}: {copies}',
                'Training images do not show how well the model does on new ones.', 'remove them from one of the two',
            ))  # fmt: skip
    return found


def _shorter_side(size: Any) -> int | None:
    return min(size) if isinstance(size, list | tuple) else size


def _facts(recipe: Recipe, sample: Sample, speed: Speed | None) -> dict[str, str]:
    assert recipe.steps_per_epoch is not None  # the images have been counted
    sides = sorted(sample.sides) or [0]
    modes = ', '.join(f'{count} {mode}' for mode, count in sample.modes.items())
    facts = dict(
        images=f'{sample.total:,}; {sample.looked_at} looked at: {sides[0]} to {sides[-1]} px (shorter side, median '
        f'{sides[len(sides) // 2]})' + (f'; {modes}' if modes else ''),
        batch=f'{recipe.processes} x {recipe.images_per_process} = {recipe.batch_size} images; '
        f'{count(recipe.steps_per_epoch, "step")} per epoch',
    )  # fmt: skip
    if recipe.peak_lr is not None:
        lr, base = recipe.optimizer['lr'], recipe.base_batch_size
        scaled = ', not scaled' if base is None else f' = {lr:g} x {recipe.batch_size} / {base}'
        facts['learning rate'] = f'{recipe.peak_lr:.3g}{scaled}'
    if recipe.levels:
        facts['chance level'] = f'{recipe.levels[0]:.2f} nats ({recipe.num_keys:,} keys)'
    if speed:
        facts |= _speed_facts(recipe, speed)
    return facts


def _speed_facts(recipe: Recipe, speed: Speed) -> dict[str, str]:
    workers = 'no worker' if not speed.workers else f'{speed.workers} worker' + 's' * (speed.workers > 1)
    facts = {
        'loader': f'{speed.load_per_worker:,.0f} images per second and process; about {speed.loading:,.0f} with '
        f'{workers} on {speed.cores} cores',
        'step': f'{speed.step:,.{0 if speed.step >= 10 else 2}f} images per second '
        f'({speed.device}, measured with {speed.step_images} images)',
        'bottleneck': f'the {speed.bottleneck}',
        'memory': f'{speed.memory_mb / 1024:.1f} GiB in a process, estimated; {speed.parameters / 1e6:.1f} M weights',
    }
    if speed.hours is not None and recipe.epochs is not None:
        time = f'{speed.hours:,.1f} hours' if speed.hours >= 1 else count(round(60 * speed.hours), 'minute')
        facts['time'] = f'about {time} for {count(recipe.epochs, "epoch")}, on this machine' + (
            f' and {recipe.processes - 1} like it' if recipe.processes > 1 else ''
        )
    return facts
