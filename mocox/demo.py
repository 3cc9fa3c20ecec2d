"""The whole way of a representation in minutes on a CPU: real images, pre-training without labels, evaluation.

What runs is what ``tools/train.py`` and ``tools/test.py`` run, on
``configs/mocov3/vit-tiny_digits.py`` and ``vit-tiny_digits_linear.py``.
"""

import json
import platform
import shutil
import time
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
from mocox.run.build import build_runner, load_for_test
from mocox.run.options import prepare_config
from mocox.version import __version__
from mocox.visualize.contact_sheet import augmented_views, draw_sheet

PRETRAINING = 'mocov3/vit-tiny_digits.py'
LINEAR = 'mocov3/vit-tiny_digits_linear.py'
NUM_CLASSES = 10
NUM_TEST_IMAGES = 360
# The matrices are small: a second thread gains a third on an idle machine, and where another program takes its core the
# two wait for each other and training is ten times slower.
NUM_THREADS = 1
TARGETS = dict(knn=0.94, linear=0.97)  # what the full recipe must reach on any machine
VERSIONS = ('torch', 'torchvision', 'timm', 'mmengine', 'mmpretrain', 'numpy', 'scikit-learn')
BLUE, ORANGE, GRAY = '#0072B2', '#E69F00', '#555555'  # Okabe and Ito's colours, which colour-blind people tell apart

NEXT_STEPS = """What to do next
  your own images   mocox pretrain DIR --out WORK_DIR
  other recipes     mocox configs list
  this recipe again mocox train mocov3/vit-tiny_digits.py --data-root {data_root}"""


def run(
    work_dir: str = 'work_dirs/demo', data_root: str = 'data/digits', seed: int = 0, epochs: int | None = None
) -> bool:
    """Runs the demo from the images to the report.

    Args:
        work_dir: Where logs, checkpoints, ``results.json``, ``report.html`` and ``report.png`` go; where an earlier
            demo lies, ``WORK_DIR-2`` is used.
        data_root: Where the digits are written.
        seed: Of initial weights, order and augmentation.
        epochs: Of every training, to try the demo itself; by default those of the configs.

    Returns:
        Whether the accuracies are what the recipe reaches. With ``epochs`` given, always True.
    """
    start = time.monotonic()
    work_dir = _unused(work_dir)
    torch.set_num_threads(NUM_THREADS)
    options = {'randomness.seed': seed, 'log_level': 'ERROR'}
    if epochs is not None:
        options['train_cfg.max_epochs'] = epochs

    _say('1/4  Writing the images')
    write_digits(Path(data_root))
    print(f'1,797 handwritten digits of scikit-learn in {data_root}: 1,437 to train on, 360 to test')

    _say('2/4  A random backbone, for comparison: a linear classifier on its features, with labels')
    results = dict(zip(('knn_random', 'linear_random'), evaluate(data_root, f'{work_dir}/linear_random', options)))

    _say('3/4  Pre-training with MoCo v3, without labels')
    runner = _build_runner(PRETRAINING, data_root, f'{work_dir}/pretraining', options)
    runner.train()

    _say('4/4  The pre-trained backbone: a linear classifier on its features, with labels')
    accuracies = evaluate(data_root, f'{work_dir}/linear', options, pretrained=_checkpoint(runner))
    results.update(zip(('knn', 'linear'), accuracies))

    results['seconds'] = round(time.monotonic() - start, 1)
    results.update(describe_run(runner, seed))
    Path(work_dir, 'results.json').write_text(json.dumps(results, indent=2) + '\n')
    draw_report(runner, results).savefig(Path(work_dir, 'report.png'))
    shutil.copy(Path(runner.work_dir, 'report.html'), work_dir)  # how the pre-training went
    print(format_results(results, work_dir))
    worked = epochs is not None or all(results[name] >= target for name, target in TARGETS.items())
    print(NEXT_STEPS.format(data_root=data_root) if worked else f'\nThis is less than the recipe reaches: {TARGETS}')
    return worked


def write_digits(root: Path) -> None:
    """Writes scikit-learn's digits as 8 x 8 PNG files, ``{train,test}/CLASS/NUMBER.png``, always split the same way."""
    digits = load_digits()
    levels = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), from 0 ... 16
    split = train_test_split(range(len(levels)), test_size=NUM_TEST_IMAGES, stratify=digits.target, random_state=0)
    for name, indices in zip(('train', 'test'), split, strict=True):
        for index in indices:
            path = root / name / str(digits.target[index]) / f'{index:04}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels[index]).save(path)


def evaluate(data_root: str, work_dir: str, options: dict, pretrained: str | None = None) -> tuple[float, float]:
    """Trains and tests a linear classifier on a frozen backbone, and classifies by its nearest neighbours.

    Args:
        data_root: The digits.
        work_dir: Of the linear evaluation.
        options: Changes of the config, by key with dots.
        pretrained: A checkpoint; by default the backbone is random.

    Returns:
        Accuracy on the test images, by k nearest neighbours and by the classifier, as fractions.
    """
    runner = _build_runner(LINEAR, data_root, work_dir, options, pretrained)
    runner.train()
    load_for_test(runner, _checkpoint(runner))
    linear = runner.test()['accuracy/top1'] / 100
    bank, bank_labels = extract_from_loader(runner.model, runner.train_dataloader)
    features, labels = extract_from_loader(runner.model, runner.test_dataloader)
    knn = (knn_classify(features, bank, bank_labels) == labels).double().mean().item()
    return round(knn, 4), round(linear, 4)


def _unused(work_dir: str) -> str:
    """The folder, or ``FOLDER-2`` and so on beside the demo of another day."""
    number, name = 1, work_dir
    while Path(name, 'pretraining').is_dir():
        number += 1
        name = f'{work_dir}-{number}'
    return name


def _build_runner(config: str, data_root: str, work_dir: str, options: dict, pretrained: str | None = None) -> Runner:
    """What ``tools/train.py`` builds from the same arguments."""
    path = str(shipped_config(config))
    settings = dict(data_root=data_root, work_dir=work_dir, cfg_options=options, pretrained=pretrained)
    return build_runner(prepare_config(path, **settings))


def _checkpoint(runner: Runner) -> str:
    """The one saved last."""
    return Path(runner.work_dir, 'last_checkpoint').read_text().strip()


def describe_run(runner: Runner, seed: int) -> dict[str, Any]:
    """What a person needs to know to compare two results."""
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


def format_results(results: dict[str, Any], work_dir: str) -> str:
    """The table on the console."""
    rows = [('backbone', 'k-NN', 'linear')]
    for name, suffix in (('random', '_random'), ('pre-trained', '')):
        rows.append((name, *(f'{results[f"{kind}{suffix}"]:.1%}' for kind in ('knn', 'linear'))))
    table = '\n'.join(f'  {name:<14}{knn:>8}{linear:>10}' for name, knn, linear in rows)
    return (
        f'\nAccuracy on the {NUM_TEST_IMAGES} test images, which no training has seen (chance: 10 %)\n{table}\n'
        f'{results["seconds"]:.0f} seconds. Written: {work_dir}/report.html, report.png and results.json\n'
    )


def draw_report(runner: Runner, results: dict[str, Any]) -> Figure:
    """Loss, accuracies, and what the model has seen, on one page."""
    figure = Figure(figsize=(13, 7), dpi=110, layout='constrained')
    figure.suptitle('MoCo v3 on 1,437 handwritten digits, without labels', fontsize=14)
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.15])
    loss_axes, accuracy_axes = left.subplots(2, 1)
    _draw_loss(loss_axes, runner)
    _draw_accuracies(accuracy_axes, results)
    _draw_views(right.subplots(), runner)
    return figure


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


def _draw_accuracies(axes: Axes, results: dict[str, Any]) -> None:
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
    axes.set(title=f'Accuracy on {NUM_TEST_IMAGES} test images', ylabel='accuracy (%)', ylim=(0, 125))
    axes.set_yticks(range(0, 101, 20))
    axes.legend(loc='upper center', ncols=3, frameon=False, fontsize=9)


def _draw_views(axes: Axes, runner: Runner) -> None:
    axes.imshow(draw_sheet(augmented_views(runner.cfg, 12)), interpolation='none')
    axes.set_title('Images and the two views that the model learns to recognise as the same')
    axes.axis('off')


def _say(heading: str) -> None:
    print(f'\n{heading}', flush=True)
