"""The choices of ``mocox pretrain`` for given images and a machine: two tables and a few rules.

``docs/own_images.md`` shows the same tables; a test compares them.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mocox.checkpoint.files import write_atomically
from mocox.datasets.survey import Survey
from mocox.doctor.images import look_at
from mocox.doctor.speed import Speed, measure
from mocox.image_choice import NUM_IMAGES, ImageChoice, choose_for_images, open_images
from mocox.recipe import Recipe
from mocox.run.options import prepare_config
from mocox.terminal import indented

RECIPES = {
    'resnet18': ('mocov3/resnet18_custom.py', None),
    'resnet50': ('mocov3/resnet18_custom.py', 'resnet50'),
    'vit-tiny': ('mocov3/vit-tiny_custom.py', None),
    'vit-small': ('mocov3/vit-small_custom.py', None),
    'vit-base': ('mocov3/vit-small_custom.py', 'base'),
}
MINUTES = 10  # of a run on a CPU
FEWEST_EPOCHS = 10
PEAK_LR = 6e-4  # of a transformer: the paper's for 1,024 images


@dataclass(frozen=True)
class Row:
    """Settings for at least this much memory and this many images.

    Args:
        device: ``CPU`` or ``GPU``.
        memory_gb: Of the GPU, at least.
        num_images: At least.
        model: A key of ``RECIPES``.
        image_size: Side in pixels, at most.
        batch_size: At most.
        chunk_size: Images that pass through the backbone together, where the batch is larger.
    """

    device: str
    memory_gb: int
    num_images: int
    model: str
    image_size: int
    batch_size: int
    chunk_size: int | None = None


TABLE = (  # the last row that fits
    Row('CPU', 0, 0, 'resnet18', 96, 32),
    Row('GPU', 0, 0, 'resnet18', 128, 128),
    Row('GPU', 0, 5_000, 'vit-tiny', 224, 256, 64),
    Row('GPU', 12, 5_000, 'vit-small', 224, 512, 64),
    Row('GPU', 40, 100_000, 'vit-base', 224, 1024, 128),
)
EPOCHS = ((0, 400), (1_000, 300), (10_000, 200), (100_000, 100))  # from so many images on


@dataclass(frozen=True)
class Machine:
    """The machine of the run.

    Args:
        device: ``CPU`` or ``GPU``.
        memory_gb: Of the GPU; 0 without one.
        cores: That this process may use.
        name: Of the GPU.
    """

    device: str
    memory_gb: float
    cores: int
    name: str = ''

    @classmethod
    def here(cls) -> 'Machine':
        """Describe this machine."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
        if not torch.cuda.is_available():
            return cls('CPU', 0, cores)
        gigabytes = torch.cuda.get_device_properties(0).total_memory / 1e9
        return cls('GPU', gigabytes, cores, torch.cuda.get_device_name())

    def __str__(self) -> str:
        cores = f'{self.cores} core{"s" * (self.cores != 1)}'
        return f'{self.name}, {self.memory_gb:.0f} GB, {cores}' if self.device == 'GPU' else f'CPU, {cores}'


@dataclass
class RunPlan:
    """The settings of a run, and a reason for each.

    Args:
        model: A key of ``RECIPES``.
        image_size: Side in pixels.
        batch_size: Images of a step.
        chunk_size: See :class:`Row`.
        epochs: None where they follow from the speed, which is still to be measured.
        workers: Processes that load images.
        amp: Whether in bfloat16.
        lr: In the unit of the recipe; None for the recipe's.
        reasons: By setting.
        images: Channels, range and augmentation.
    """

    model: str
    image_size: int
    batch_size: int
    chunk_size: int | None
    epochs: int | None
    workers: int
    amp: bool
    lr: float | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    images: ImageChoice = field(default_factory=ImageChoice)

    def prepare(self, data: str, work_dir: str | Path, seed: int, options: dict[str, Any] | None = None) -> Config:
        """Apply these settings to the recipe's config."""
        recipe, arch = RECIPES[self.model]
        changed: dict[str, Any] = {'randomness.seed': seed, **self.images.changes}
        if self.chunk_size and self.model.startswith('vit'):
            changed['model.chunk_size'] = self.chunk_size
        return prepare_config(
            recipe, work_dir=str(work_dir), data_root=data, arch=arch, image_size=self.image_size, lr=self.lr,
            batch_size=self.batch_size, epochs=FEWEST_EPOCHS if self.epochs is None else self.epochs,
            workers=self.workers, amp=self.amp, cfg_options=changed | (options or {}),
        )  # fmt: skip

    def share(self, processes: int) -> None:
        """Divide the batch and the loader's workers among the processes.

        Raises:
            ValueError: There are not two images for each.
        """
        if not 1 <= processes <= self.batch_size // 2 or self.batch_size % processes:
            raise ValueError(
                f'processes={processes}: must be at least 1 and divide the batch of {self.batch_size} into two images '
                'or more for each'
            )
        if processes > 1:
            self.batch_size //= processes
            self.workers = max(1, self.workers // processes)
            self.reasons['batch_size'] = f'for each of {processes} processes; {self.reasons["batch_size"]}'

    def fit_epochs(self, num_images: int, images_per_second: float) -> None:
        """Choose the epochs, now that the speed is known."""
        fitting = int(60 * MINUTES * images_per_second / num_images)
        most = epochs_for(num_images)
        self.epochs = max(FEWEST_EPOCHS, min(fitting, most))
        self.reasons['epochs'] = (
            f'as many as {MINUTES} minutes allow at {rate_in_words(images_per_second)} images per second, '
            f'at least {FEWEST_EPOCHS}, at most {most}'
        )


def choose(num_images: int, side: int, machine: Machine) -> RunPlan:
    """Look up the plan in the tables.

    Args:
        num_images: Number of images in the folder.
        side: The median of their shorter sides in pixels.
        machine: Where it will run.
    """
    row = [
        row for row in TABLE
        if row.device == machine.device and row.memory_gb <= machine.memory_gb and row.num_images <= num_images
    ][-1]  # fmt: skip
    batch_size = fitting_batch(num_images, row.batch_size)
    image_size = max(32, min(row.image_size, side // 16 * 16))
    on_cpu = machine.device == 'CPU'
    workers = max(1, min(machine.cores - 1, 4)) if on_cpu else min(machine.cores, 8)
    reasons = dict(
        model=f'{num_images:,} images on {machine}',
        image_size='a CPU is slow' if on_cpu else 'as the recipe is published' if image_size == 224 else 'few images',
        batch_size=f'at most {row.batch_size} here, and a quarter of the images',
        epochs=f'for {num_images:,} images',
        workers=f'{machine.cores} cores' + (', one of which trains' if on_cpu else ''),
        amp='a CPU gains nothing from bfloat16' if on_cpu else 'a GPU is about twice as fast in bfloat16',
    )
    if image_size < min(row.image_size, side):
        reasons['image_size'] = f'a multiple of 16, and the images have {side} px'
    elif side < row.image_size:
        reasons['image_size'] = f'the images have {side} px'
    chunk = row.chunk_size if row.chunk_size and batch_size > row.chunk_size else None
    lr = PEAK_LR * 256 / batch_size if row.model.startswith('vit') and batch_size > 256 else None
    epochs = None if on_cpu else epochs_for(num_images)
    return RunPlan(row.model, image_size, batch_size, chunk, epochs, workers, not on_cpu, lr, reasons)


def fitting_batch(num_images: int, most: int) -> int:
    """The largest power of two that is no more than a quarter of the images, from 8 to ``most``."""
    return max(8, min(most, 2 ** int(math.log2(max(num_images // 4, 1)))))


def rate_in_words(images_per_second: float) -> str:
    """A rate with two digits at least, so that a slow machine is not said to stand still."""
    return f'{images_per_second:.2g}' if images_per_second < 10 else f'{images_per_second:,.0f}'


def epochs_for(num_images: int) -> int:
    """Look up the epochs for a number of images."""
    return [epochs for least, epochs in EPOCHS if least <= num_images][-1]


def plan_run(
    data: str,
    path: Path,
    given: dict[str, Any],
    seed: int,
    options: Mapping[str, Any] | None,
    processes: int = 1,
) -> None:
    """Choose the settings, print them and write the config.

    Args:
        data: The folder of images.
        path: The config to write, in the work dir.
        given: Settings of a :class:`RunPlan` that are not to be chosen.
        seed: Of everything random.
        options: Changes of the config, by key with dots.
        processes: That will share the batch.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: A model that is not known, a batch that cannot be shared, or images that cannot be used.
    """
    if given.get('model', 'resnet18') not in RECIPES:
        raise ValueError(f'model {given["model"]!r}: choose one of {", ".join(RECIPES)}')
    changes = dict(options or {})
    recipe = RECIPES['resnet18'][0]
    survey = Survey(NUM_IMAGES)
    images = choose_for_images(recipe, data, changes, survey)
    dataset = open_images(prepare_config(recipe, data_root=data, cfg_options=images.changes | changes), survey, True)
    sample = look_at(dataset, NUM_IMAGES, survey)
    images.normalise(sample, changes)
    sides = sorted(sample.sides) or [0]
    machine, side = Machine.here(), sides[len(sides) // 2]
    plan = choose(len(dataset), side, machine)
    plan.images = images
    for name, value in given.items():
        setattr(plan, name, value)
        plan.reasons[name] = 'as given'
    if plan.batch_size > len(dataset):
        raise ValueError(
            f'{data} has only {len(dataset)} images, which fill no batch of {plan.batch_size}: choose a smaller '
            'batch size'
        )
    plan.share(processes)
    config = plan.prepare(data, path.parent, seed, changes)
    speed = measure(Recipe(config, 1, len(dataset)), open_images(config, survey), 3.0)
    if plan.epochs is None:
        plan.fit_epochs(len(dataset), speed.images_per_second)
        config = plan.prepare(data, path.parent, seed, changes)
    try:
        write_atomically(path, lambda temporary: Path(temporary).write_text(config.pretty_text, encoding='utf-8'))
    except OSError as error:
        raise type(error)(f'{path.parent} cannot be the work dir ({error.strerror}): choose another --out') from None
    found = f'{len(dataset):,} images in {data}, {side} px (median of the shorter side)'
    print(indented(_describe(plan, found, len(dataset), speed, path)), flush=True)


def _describe(plan: RunPlan, images: str, num_images: int, speed: Speed, path: Path) -> str:
    """Describe a plan in ten lines, one of them for the images."""
    seconds = num_images * (plan.epochs or FEWEST_EPOCHS) / speed.images_per_second
    minutes = max(1, round(seconds / 60))
    time = f'{seconds / 3600:,.1f} hours' if seconds >= 5400 else f'{minutes} minute{"s" * (minutes > 1)}'
    chunk = f', {plan.chunk_size} at a time' if plan.chunk_size else ''
    rows = (
        ('channels', plan.images.value, plan.images.reason),
        ('model', plan.model, plan.reasons['model']),
        ('image size', f'{plan.image_size} px', plan.reasons['image_size']),
        ('batch', f'{plan.batch_size}{chunk}', plan.reasons['batch_size']),
        ('epochs', str(plan.epochs), plan.reasons['epochs']),
        ('workers', str(plan.workers), plan.reasons['workers']),
        ('precision', 'bfloat16' if plan.amp else 'float32', plan.reasons['amp']),
        ('time', f'about {time}', f'{rate_in_words(speed.images_per_second)} images per second, measured'),
    )
    lines = [f'  {name:<11} {value:<18} {reason}' for name, value, reason in rows]
    return '\n'.join([images, *lines, f'  config      {path}, which mocox train runs'])
