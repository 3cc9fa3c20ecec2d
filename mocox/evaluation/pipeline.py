"""The evaluation pipeline: encoder, images, features computed once, protocols, report."""

import inspect
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from mocox import dist
from mocox.checkpoint.architecture import module_heads
from mocox.checkpoint.files import newest_in
from mocox.configs import open_config
from mocox.datasets import ViewsDataset
from mocox.datasets.copies import describe_copies
from mocox.datasets.resizing import Size
from mocox.evaluation.data import Data, labels_of, open_data
from mocox.evaluation.encoder import LoadedEncoder, choose_device, load_encoder
from mocox.evaluation.features import cache_key, cached_features, check_finite, dataset_hash, file_hash
from mocox.evaluation.protocols import PROTOCOLS, choose_protocols
from mocox.evaluation.published import published_numbers
from mocox.evaluation.report import draw_chart, format_table, rows_of, software_versions, write_json
from mocox.evaluation.task import Result, Task
from mocox.terminal import say


def evaluate(
    checkpoint: str | Path,
    data_root: str,
    protocols: Sequence[str] | None = None,
    encoder: str = 'query',
    config: str | Path | Config | None = None,
    heads: int | None = None,
    work_dir: str | Path | None = None,
    cache_dir: str | Path = 'work_dirs/features',
    test_split: str | None = None,
    image_size: Size | None = None,
    batch_size: int = 128,
    num_workers: int = 0,
    seed: int = 0,
    device: str | None = None,
    options: Mapping[str, Any] | None = None,
    prefix: str | None = None,
) -> dict[str, Any]:
    """Evaluate the frozen encoder of a checkpoint and write ``results.json`` and ``results.png``.

    Args:
        checkpoint: Whatever :func:`mocox.checkpoint.read` recognises; of a work dir, the newest good checkpoint.
        data_root: See :func:`mocox.evaluation.data.open_data`.
        protocols: Names in ``PROTOCOLS``; by default all that suit the data.
        encoder: ``query`` or ``momentum``.
        config: See :func:`mocox.evaluation.encoder.load_encoder`; labelled datasets in it say how to read the images.
        heads: Number of attention heads, where the file does not tell.
        work_dir: Where the report goes; by default ``work_dirs/evaluate/FOLDER/NAME``, called as the checkpoint and its
            folder, with a number behind it where results of other weights or other images are there already.
        cache_dir: Where features are kept.
        test_split: The folder to test on, if it is not ``val`` or ``test``.
        image_size: Side of the images in pixels, or (height, width); by default that of pre-training.
        batch_size: Images per forward pass.
        num_workers: Loading processes.
        seed: Seed of all random numbers.
        device: ``cuda`` if there is one, by default.
        prefix: Take what is below this prefix, or in this container, of the file.
        options: Settings of protocols by ``protocol.setting``, e.g. ``{'linear.epochs': 30}``.

    Returns:
        What is written to ``results.json``.

    Raises:
        FileNotFoundError: No such file or folder.
        ValueError: Something does not fit; says what.
    """
    settings = split_options(options or {})
    config = None if config is None else open_config(config)
    checkpoint = newest_in(checkpoint)
    loaded = load_encoder(checkpoint, encoder, config=config, heads=heads, image_size=image_size, prefix=prefix)
    data = open_data(data_root, loaded.crops, config, test_split, loaded.pixels)
    notes: list[str] = []
    names = choose_protocols(protocols, data.multi_label, data.test is not None, notes)
    chosen_device = choose_device(device)
    loaded.model.to(chosen_device)
    _say(loaded.checkpoint.summary, data)
    store = FeatureStore(loaded, checkpoint, Path(cache_dir), batch_size, num_workers)
    work_dir = Path(work_dir) if work_dir else _own_folder(checkpoint, store.content, str(data))
    task = _make_task(store, data, chosen_device, work_dir, num_workers, seed)
    task.notes += notes
    if dist.rank() == 0 and data.test is not None and (copies := describe_copies(data.train, data.test)):
        task.notes.append(copies)
    results = _run_protocols(names, task, settings)
    report = _describe(loaded, data, task, results, checkpoint, store, seed)
    if dist.rank() == 0:
        write_json(report, work_dir / 'results.json')
        draw_chart(report, work_dir / 'results.png')
        classifier = ', linear.pth (for mocox predict)' if 'linear' in names else ''
        _say('', *format_table(report), f'written: {work_dir}/results.json, results.png{classifier}')
    return report


def folder_of(checkpoint: str | Path) -> Path:
    """``work_dirs/evaluate/FOLDER/NAME``, called as the checkpoint and its folder."""
    file = Path(checkpoint).expanduser().absolute()
    return Path('work_dirs', 'evaluate', file.parent.name, file.name.split('.')[0])


def _own_folder(checkpoint: str | Path, content: str, data: str) -> Path:
    """Folder for the results of this checkpoint on these images: never that of other results.

    Args:
        checkpoint: Its file.
        content: The hash of it.
        data: The images, in words.
    """
    folder = folder_of(checkpoint)
    name = folder.name
    for number in itertools.count(2):
        try:
            there = json.loads((folder / 'results.json').read_text())
            if (there['checkpoint']['sha256'], there['data']) == (content, data):
                return folder
        except FileNotFoundError:
            return folder
        except (OSError, ValueError, LookupError, TypeError):  # results of another evaluation
            pass
        folder = folder.with_name(f'{name}-{number}')
    raise AssertionError('count ends')


def _run_protocols(names: Sequence[str], task: Task, settings: Mapping[str, dict[str, Any]]) -> list[Result]:
    """Run the protocols that these images allow; note why the others cannot run.

    Raises:
        ValueError: None can run.
    """
    results: list[Result] = []
    refused: list[ValueError] = []
    names = [name for name in names if dist.rank() == 0 or PROTOCOLS[name].collective]
    for name in names:
        _say(f'{name} ...')
        try:
            results += PROTOCOLS[name].run(task, **settings.get(name, {}))
        except ValueError as error:
            refused.append(error)
            task.notes.append(f'{name} was left out: {error}')
            _say(task.notes[-1])
    if names and len(refused) == len(names):
        raise refused[0]
    return sorted(results, key=lambda result: [*PROTOCOLS].index(result.protocol))


def split_options(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``{'linear.epochs': 30}`` as ``{'linear': {'epochs': 30}}``.

    Raises:
        ValueError: No protocol, or none of its settings.
    """
    settings: dict[str, dict[str, Any]] = {}
    for key, value in options.items():
        name, _, setting = key.partition('.')
        if name not in PROTOCOLS:
            raise ValueError(f'--options {key}: there is no protocol {name!r}; there are {", ".join(PROTOCOLS)}')
        parameters = inspect.signature(PROTOCOLS[name].run).parameters
        known = [parameter for parameter in parameters if parameter != 'task']
        if setting not in known:
            raise ValueError(f'--options {key}: {name} has the settings {", ".join(known)}')
        is_list = isinstance(parameters[setting].default, tuple)
        settings.setdefault(name, {})[setting] = [value] if is_list and not isinstance(value, list | tuple) else value
    return settings


class FeatureStore:
    """Features of datasets by one encoder, cached on disk; ``notes`` says which images were left out.

    Args:
        loaded: The encoder.
        checkpoint: Its file.
        folder: Where features are kept, a folder for each set.
        batch_size: Images per forward pass.
        num_workers: Loading processes.
    """

    def __init__(
        self, loaded: LoadedEncoder, checkpoint: str | Path, folder: Path, batch_size: int = 128, num_workers: int = 0
    ) -> None:
        self.loaded, self.model, self.folder = loaded, loaded.model, folder
        self.batch_size, self.num_workers = batch_size, num_workers
        self.content = file_hash(checkpoint)
        self.notes: list[str] = []
        preprocessor = loaded.model.data_preprocessor
        self.identity = dict(
            checkpoint=self.content,
            encoder=loaded.which,
            part=loaded.checkpoint.layout,  # with the prefix that was asked for
            heads=module_heads(self.model.backbone),  # which the model does not print
            model=repr(loaded.model),
            mean=preprocessor.mean.flatten().tolist(),
            std=preprocessor.std.flatten().tolist(),
            bgr=loaded.model.bgr,
            crops=loaded.crops,
            image_size=loaded.image_size,
            **loaded.pixels.settings(),
        )

    def __call__(self, dataset: ViewsDataset, name: str) -> tuple[Tensor, Tensor | None]:
        """Return features (N, C) and labels, on the CPU; unreadable images are left out, here and in the dataset.

        Raises:
            ValueError: Features are not finite.
        """
        folder = self.folder / cache_key(dataset=dataset_hash(dataset), **self.identity)
        found = cached_features(self.model, dataset, folder, self.batch_size, self.num_workers, name=name)
        if left_out := found.left_out(dataset, name):
            self.notes.append(left_out)
            _say(left_out)
            dataset.keep(found.read.nonzero()[:, 0].numpy())
        features, labels, _ = found.without_stand_ins()
        check_finite(features, name)
        return features, labels


def _make_task(
    store: FeatureStore, data: Data, device: torch.device, work_dir: Path, num_workers: int, seed: int
) -> Task:
    def load(images: ViewsDataset, name: str) -> tuple[Tensor, Tensor]:
        features, labels = store(images, name)
        if labels is None:
            raise ValueError(f'{data.name}: the {name} have no labels')
        return features.to(device), labels.to(device)

    learn = load(data.train, 'training images')
    test = learn if data.test is None else load(data.test, 'test images')
    return Task(*learn, *test, store.loaded, data, work_dir, num_workers, seed, [*store.notes])


def _describe(
    loaded: LoadedEncoder,
    data: Data,
    task: Task,
    results: list[Result],
    path: str | Path,
    store: FeatureStore,
    seed: int,
) -> dict[str, Any]:
    published = published_numbers(loaded.checkpoint)
    benchmark = data.published_as
    notes = [*loaded.notes, *task.notes]
    if published and benchmark is None:
        numbers = '; '.join(f'{row.source}: {_numbers(row.numbers)}' for row in published)
        notes.append(f'the published numbers of this recipe are for other images ({numbers})')
    train_labels = labels_of(data.train)
    chance = None
    if not data.multi_label:
        counts = torch.bincount(task.test_labels.cpu())
        chance = round(100 * counts.max().item() / counts.sum().item(), 2)
    return dict(
        checkpoint=dict(
            path=str(path),
            sha256=store.content,
            summary=loaded.checkpoint.summary,
            architecture=loaded.checkpoint.arch['name'],
            encoder=loaded.which,
            recipe=loaded.checkpoint.meta.get('recipe'),
            epochs=loaded.checkpoint.meta.get('epochs'),
        ),
        data=str(data),
        classes=train_labels.shape[1] if data.multi_label else data.num_classes,
        chance=chance,
        transform=loaded.crops,
        normalisation={key: store.identity[key] for key in ('mean', 'std', 'bgr')},
        pixels=loaded.pixels.settings(),
        seed=seed,
        device=str(task.features.device),
        versions=software_versions(),
        results=rows_of(results, published, benchmark),
        notes=notes,
    )


def _numbers(numbers: Mapping[Any, float]) -> str:
    names = [key if isinstance(key, str) else ' '.join(key) for key in numbers]
    return ', '.join(f'{name} {value}' for name, value in zip(names, numbers.values()))


def _say(*lines: object) -> None:
    if dist.rank() == 0:
        say(*lines)
