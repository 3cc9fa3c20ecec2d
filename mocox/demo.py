"""The full pipeline in minutes on a CPU: real images, pre-training without labels, evaluation.

What runs is what ``tools/train.py`` and ``tools/test.py`` run, on the recipes that ``DIGITS`` and ``FASHION`` name.
"""

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmengine.runner import Runner
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from mocox.configs import shipped_config
from mocox.evaluation import extract_from_loader, knn_classify
from mocox.report.hook import ReportHook
from mocox.report.page import BeforeAfter, write_report
from mocox.report.runs import read_run
from mocox.run.build import build_runner, load_for_test
from mocox.run.options import prepare_config
from mocox.version import __version__
from mocox.visualize.contact_sheet import augmented_views, draw_sheet

NUM_CLASSES = 10
# The matrices are small: a second thread gains a third on an idle machine, and where another program takes its core the
# two wait for each other and training is ten times slower.
NUM_THREADS = 1
VERSIONS = ('torch', 'torchvision', 'timm', 'mmengine', 'mmpretrain', 'numpy', 'scikit-learn')
BLUE, ORANGE, GRAY = '#0072B2', '#E69F00', '#555555'  # Okabe and Ito's colours, which colour-blind people tell apart

NEXT_STEPS = """What to do next
  your own images   mocox pretrain DIR --out WORK_DIR
  other recipes     mocox configs list
  this recipe again mocox train {recipe} --data-root {data_root}"""
NUM_TEST_DIGITS = 360


@dataclass(frozen=True)
class Images:
    """A data set of the demo, with its recipes.

    Args:
        name: In words.
        pretraining: The recipe, as ``mocox train`` takes it.
        linear: The linear evaluation of it.
        num_train: Images to train on.
        num_test: Images to test on.
        targets: Accuracies, as fractions, that the full run must reach on any machine.
        options: Changes of both recipes, by key with dots.
        epochs: Epochs of pre-training, if not the recipe's.
    """

    name: str
    pretraining: str
    linear: str
    num_train: int
    num_test: int
    targets: Mapping[str, float]
    options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None


DIGITS = Images(
    'handwritten digits', 'mocov3/vit-tiny_digits.py', 'mocov3/vit-tiny_digits_linear.py', 1437, NUM_TEST_DIGITS,
    targets=dict(knn=0.94, linear=0.97),
)  # fmt: skip
FASHION = Images(
    'photographs of clothes', 'mocov3/resnet18_fashion.py', 'mocov3/resnet18_fashion_linear.py', 8000, 10_000,
    targets=dict(knn=0.72, linear=0.72),
    options={'train_dataloader.dataset.part': (0, 8000)},
    epochs=8,
)  # fmt: skip


def run(
    work_dir: str = 'work_dirs/demo',
    data_root: str = 'data/digits',
    seed: int = 0,
    epochs: int | None = None,
    fashion: str | None = None,
) -> bool:
    """Run the demo from the images to the report.

    Args:
        work_dir: Where logs, checkpoints, ``results.json``, ``report.html`` and ``report.png`` go; where an earlier
            demo lies, ``WORK_DIR-2`` is used.
        data_root: Where the digits are written.
        seed: Seed of initial weights, order and augmentation.
        epochs: Epochs of each training, to try the demo itself; by default those of the configs.
        fashion: A folder with Fashion-MNIST, to show it on 8,000 of its images instead of the digits.

    Returns:
        Whether the accuracies are what the recipe reaches. With ``epochs`` given, always True.

    Raises:
        FileNotFoundError: Fashion-MNIST is not in the folder; says how to install it.
    """
    start = time.monotonic()
    images = DIGITS if fashion is None else FASHION
    if fashion is not None:
        data_root = fashion
    work_dir = _unused(work_dir)
    torch.set_num_threads(NUM_THREADS)
    options = {'randomness.seed': seed, 'log_level': 'ERROR', **images.options}
    if epochs is not None:
        options['train_cfg.max_epochs'] = epochs

    print('\n1/4  The images', flush=True)
    if fashion is None:
        write_digits(Path(data_root))
    print(f'{images.name} in {data_root}: {images.num_train:,} to train on, {images.num_test:,} to test')

    print('\n2/4  A random backbone, for comparison: a linear classifier on its features, with labels', flush=True)
    evaluated = evaluate(images.linear, data_root, f'{work_dir}/linear_random', options)
    results = dict(zip(('knn_random', 'linear_random'), evaluated))

    print('\n3/4  Pre-training with MoCo v3, without labels', flush=True)
    length = {} if images.epochs is None else {'train_cfg.max_epochs': images.epochs}
    runner = _build_runner(images.pretraining, data_root, f'{work_dir}/pretraining', length | options)
    runner.train()

    print('\n4/4  The pre-trained backbone: a linear classifier on its features, with labels', flush=True)
    accuracies = evaluate(images.linear, data_root, f'{work_dir}/linear', options, pretrained=_checkpoint(runner))
    results.update(zip(('knn', 'linear'), accuracies))

    results['seconds'] = round(time.monotonic() - start, 1)
    results.update(describe_run(runner, seed))
    Path(work_dir, 'results.json').write_text(json.dumps(results, indent=2) + '\n')
    draw_report(runner, results, images).savefig(Path(work_dir, 'report.png'))
    _write_page(runner, results, images, work_dir)
    print(format_results(results, images, work_dir))
    worked = epochs is not None or all(results[name] >= target for name, target in images.targets.items())
    steps = NEXT_STEPS.format(recipe=images.pretraining, data_root=data_root)
    print(steps if worked else f'\nThis is less than the recipe reaches: {dict(images.targets)}')
    return worked


def write_digits(root: Path) -> None:
    """Write scikit-learn's digits as 8 x 8 PNG files, ``{train,test}/CLASS/NUMBER.png``, always split the same way."""
    digits = load_digits()
    levels = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), from 0 ... 16
    split = train_test_split(range(len(levels)), test_size=NUM_TEST_DIGITS, stratify=digits.target, random_state=0)
    for name, indices in zip(('train', 'test'), split, strict=True):
        for index in indices:
            path = root / name / str(digits.target[index]) / f'{index:04}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels[index]).save(path)


def evaluate(
    recipe: str, data_root: str, work_dir: str, options: dict, pretrained: str | None = None
) -> tuple[float, float]:
    """Train and test a linear classifier on a frozen backbone, and classify by nearest neighbours.

    Args:
        recipe: Recipe of the linear evaluation.
        data_root: The images.
        work_dir: Work dir of the linear evaluation.
        options: Changes of the config, by key with dots.
        pretrained: A checkpoint; by default the backbone is random.

    Returns:
        Accuracy on the test images, by k nearest neighbours and by the classifier, as fractions.
    """
    runner = _build_runner(recipe, data_root, work_dir, options, pretrained)
    runner.train()
    load_for_test(runner, _checkpoint(runner))
    linear = runner.test()['accuracy/top1'] / 100
    bank, bank_labels = extract_from_loader(runner.model, runner.train_dataloader)
    features, labels = extract_from_loader(runner.model, runner.test_dataloader)
    if bank_labels is None or labels is None:
        raise ValueError(f'{data_root}: the images have no labels')
    knn = knn_classify(features, bank, bank_labels).eq(labels).double().mean().item()
    return round(knn, 4), round(linear, 4)


def _unused(work_dir: str) -> str:
    """The folder, or ``FOLDER-2`` and so on next to earlier demos."""
    number, name = 1, work_dir
    while Path(name, 'pretraining').is_dir():
        number += 1
        name = f'{work_dir}-{number}'
    return name


def _build_runner(config: str, data_root: str, work_dir: str, options: dict, pretrained: str | None = None) -> Runner:
    """Build the runner that ``tools/train.py`` builds from the same arguments."""
    path = str(shipped_config(config))
    return build_runner(
        prepare_config(path, data_root=data_root, work_dir=work_dir, cfg_options=options, pretrained=pretrained)
    )


def _checkpoint(runner: Runner) -> str:
    """The newest checkpoint."""
    return Path(runner.work_dir, 'last_checkpoint').read_text().strip()


def describe_run(runner: Runner, seed: int) -> dict[str, Any]:
    """Describe a run by what makes two results comparable."""
    return dict(
        seed=seed,
        epochs=runner.max_epochs,
        threads=torch.get_num_threads(),
        machine=f'{platform.machine()}, {platform.system()}',
        python=platform.python_version(),
        versions=dict(mocox=__version__, **{name: _version(name) for name in VERSIONS}),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a fork with another name and the same modules
        return None


def format_results(results: dict[str, Any], images: Images, work_dir: str) -> str:
    """The table on the console."""
    rows = [('backbone', 'k-NN', 'linear')]
    for name, suffix in (('random', '_random'), ('pre-trained', '')):
        rows.append((name, f'{results[f"knn{suffix}"]:.1%}', f'{results[f"linear{suffix}"]:.1%}'))
    table = '\n'.join(f'  {name:<14}{knn:>8}{linear:>10}' for name, knn, linear in rows)
    return (
        f'\nAccuracy on the {images.num_test:,} test images, which no training has seen (chance: 10 %)\n{table}\n'
        f'{results["seconds"]:.0f} seconds. Written: {work_dir}/report.html, report.png and results.json\n'
    )


def draw_report(runner: Runner, results: dict[str, Any], images: Images) -> Figure:
    """Draw loss, accuracies and augmented pairs on one page."""
    figure = Figure(figsize=(13, 7), dpi=110, layout='constrained')
    figure.suptitle(f'MoCo v3 on {images.num_train:,} {images.name}, without labels', fontsize=14)
    ((left, right),) = figure.subfigures(1, 2, squeeze=False, width_ratios=[1, 1.15])
    loss_axes, accuracy_axes = left.subplots(2, 1)
    _draw_loss(loss_axes, runner)
    _draw_accuracies(accuracy_axes, results, images.num_test)
    _draw_views(right.subplots(), runner)
    return figure


def _write_page(runner: Runner, results: dict[str, Any], images: Images, work_dir: str) -> None:
    """Write the report of the pre-training with its accuracies."""
    rows = [
        (name, f'{results[f"{kind}_random"]:.1%}', f'{results[kind]:.1%}')
        for name, kind in (('k-NN', 'knn'), ('linear classifier', 'linear'))
    ]
    title = f'Accuracy on the {images.num_test:,} test images, which no training has seen'
    pictures = next(hook.pictures for hook in runner.hooks if isinstance(hook, ReportHook))
    run = read_run(runner.work_dir)
    write_report([run], Path(work_dir, 'report.html'), pictures, before_after=BeforeAfter(title, rows))


def _draw_loss(axes: Axes, runner: Runner) -> None:
    losses, counts = runner.message_hub.get_scalar('train/loss').data
    iters = len(runner.train_dataloader)
    means = (losses / counts)[: len(losses) // iters * iters].reshape(-1, iters).mean(axis=1)
    chance = runner.model.chance_level(runner.train_dataloader.batch_size)
    epochs = np.arange(1, len(means) + 1)
    axes.plot(epochs, means, color=BLUE, linewidth=2, marker='o' if len(means) < 10 else None)
    axes.axhline(chance, color=GRAY, linestyle='--')
    axes.annotate(
        f'chance level {chance:.2f}: cannot tell the images apart', (1, chance), (0.98, -4), color=GRAY,
        xycoords=('axes fraction', 'data'), textcoords=('axes fraction', 'offset points'), ha='right', va='top',
    )  # fmt: skip
    axes.set(title='Pre-training', xlabel='epoch', ylabel='contrastive loss (nats)')
    axes.set_ylim(0, 1.08 * max(chance, *means))
    axes.grid(alpha=0.3)


def _draw_accuracies(axes: Axes, results: dict[str, Any], num_test: int) -> None:
    groups = {'k nearest neighbours': 'knn', 'linear classifier': 'linear'}
    for offset, (label, suffix, color, hatch) in enumerate(
        (('random backbone', '_random', ORANGE, '//'), ('pre-trained backbone', '', BLUE, None))
    ):
        heights = [100 * results[f'{name}{suffix}'] for name in groups.values()]
        places = np.arange(2) + 0.36 * (offset - 0.5)
        bars = axes.bar(places, heights, 0.34, label=label, color=color, hatch=hatch, edgecolor='white')
        axes.bar_label(bars, fmt='%.1f %%', padding=2)
    axes.axhline(100 / NUM_CLASSES, color=GRAY, linestyle='--', label='chance level')
    axes.set_xticks(range(2), groups)
    axes.set(title=f'Accuracy on {num_test:,} test images', ylabel='accuracy (%)', ylim=(0, 125))
    axes.set_yticks(range(0, 101, 20))
    axes.legend(loc='upper center', ncols=3, frameon=False, fontsize=9)


def _draw_views(axes: Axes, runner: Runner) -> None:
    axes.imshow(draw_sheet(augmented_views(runner.cfg, 12)), interpolation='none')
    axes.set_title('Images and the two views that the model learns to recognise as the same')
    axes.axis('off')
