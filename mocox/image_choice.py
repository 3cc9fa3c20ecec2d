"""Channels, range and augmentation that suit some images: what ``mocox pretrain`` takes in place of a recipe's RGB."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from mocox.configs import open_config
from mocox.datasets import Pixels, ViewsDataset
from mocox.datasets.encoded_images import EncodedImages
from mocox.datasets.image_files import FIX
from mocox.datasets.readers import load, needs_own_reader, read_raw
from mocox.datasets.subset import spread
from mocox.doctor.images import Sample
from mocox.registry import DATASETS
from mocox.run.options import prepare_config

NUM_IMAGES = 64  # looked at
COLOUR = 3
SETTING = 'train_dataloader.dataset.'
VIEWS = {1: 'mocov3/vit-small_grayscale.py'}
BANDS = 'mocov3/vit-small_multispectral.py'  # of any number but 1 and 3


@dataclass
class ImageChoice:
    """What is chosen for the images of a folder.

    Args:
        changes: Of the config, by key with dots.
        value: Channels and range, for people.
        reason: Why.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    value: str = '3'
    reason: str = 'red, green and blue of 8 bits'

    def normalise(self, sample: Sample, options: Mapping[str, Any]) -> None:
        """Takes mean and standard deviation as measured, where the recipe's are for others and none are given."""
        if self.changes and sample.mean:
            measured = dict(mean=sample.mean, std=[max(value, 1.0) for value in sample.std])
            lines = {f'data_preprocessor.{name}': [round(v, 2) for v in values] for name, values in measured.items()}
            taken = {key: value for key, value in lines.items() if key not in options}
            self.changes |= taken
            self.reason += '; mean and deviation as measured' if taken else ''


def choose_for_images(recipe: str, data: str, options: Mapping[str, Any]) -> ImageChoice:
    """Looks at some images.

    Args:
        recipe: That would be taken for RGB.
        data: The folder.
        options: Changes of the config that are given, by key with dots; they are kept.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: No image can be read.
    """
    given = Pixels(channels=options.get(f'{SETTING}channels'))
    seen = _count_bands(recipe, data, options) if given.channels is None else Counter()
    channels = _channels(seen) if seen else given.num_channels
    changes: dict[str, Any] = {}
    if channels != COLOUR:
        views = [dict(view) for view in open_config(VIEWS.get(channels, BANDS)).data_preprocessor.views]
        for view in views:
            if 'channel_drop' in view:  # no more than a quarter, and never all
                view['channel_drop'] = (1, max(1, min(view['channel_drop'][1], channels // 4)))
        changes = {'model.backbone.in_channels': channels, 'data_preprocessor.views': views}
        changes |= {f'{SETTING}channels': channels} if seen else {}
    dataset = _open(recipe, data, {**changes, **options})
    found = {} if f'{SETTING}value_range' in options else getattr(dataset, 'suggested', {})
    changes |= {f'{SETTING}{name}': value for name, value in found.items() if value != 'percentile'}
    if not changes and not dataset.pixels.settings():
        return ImageChoice()
    value, reason = _describe(dataset.pixels, found, seen, channels)
    changes.setdefault(f'{SETTING}value_range', dataset.pixels.value_range)
    return ImageChoice({key: value for key, value in changes.items() if key not in options}, value, reason)


def _open(recipe: str, data: str, options: dict[str, Any]) -> ViewsDataset:
    try:
        config = prepare_config(recipe, data_root=data, cfg_options=options)
    except FileNotFoundError as error:
        raise FileNotFoundError(str(error).removeprefix('--data-root: ')) from None
    return open_images(config)


def open_images(config: Config) -> ViewsDataset:
    """The images of a config, with errors that name no option of another command."""
    with DefaultScope.overwrite_default_scope('mocox'):
        try:
            return DATASETS.build(config.train_dataloader.dataset)
        except (OSError, ValueError) as error:
            raise type(error)(str(error).replace(FIX, 'give another folder')) from None


def _count_bands(recipe: str, data: str, options: Mapping[str, Any]) -> Counter:
    """How many images have so many bands; alpha is none."""
    with _silence():  # of one band only, which all have
        dataset = _open(recipe, data, {**options, f'{SETTING}channels': [0]})
    seen: Counter = Counter()
    if not isinstance(dataset, EncodedImages):
        return seen
    for row in spread(len(dataset), NUM_IMAGES):
        try:
            seen[_bands(dataset.read_bytes(row), dataset.frame(row))] += 1
        except Exception:  # whatever a library raises: the data set says so when it comes to the file
            continue
    return seen


def _bands(data: bytes, frame: int) -> int:
    if not needs_own_reader(data):
        image = load(data)
        if image.mode in ('1', 'L', 'LA', 'La'):
            return 1
        if not image.mode.startswith(('I', 'F')):
            return COLOUR
    raw = read_raw(data, frame)
    return raw.bands.shape[2] - raw.has_alpha


def _channels(seen: Counter) -> int:
    """With which most images can be read, all of their bands if possible."""
    if set(seen) == {1}:
        return 1
    readable = {count: number for count, number in seen.items() if count > 1}
    readable[COLOUR] = seen[1] + seen[COLOUR]
    return max(readable, key=lambda count: (readable[count], count))


def _describe(pixels: Pixels, found: Mapping[str, Any], seen: Counter, channels: int) -> tuple[str, str]:
    total, fitting = seen.total(), seen[channels] + (seen[1] if channels == COLOUR else 0)
    bands = 'one channel' if channels == 1 else f'{channels} bands'
    of_all = f'all {total}' if fitting == total else f'{fitting} of {total}'
    reasons = [f'{of_all} images looked at have {bands}' if seen else 'as given'] if channels != COLOUR else []
    value_range = found.get('value_range', pixels.value_range)
    if found and value_range != 'percentile':
        reasons.append('the range is that of their numbers, of which the files say none')
    if channels != COLOUR:
        reasons.append('brightness and contrast change per channel')
    if not reasons:
        reasons.append('red, green and blue of more than 8 bits')
    shown = str(channels)
    if isinstance(value_range, tuple):
        shown += f', {value_range[0]:g} to {value_range[1]:g}'
    elif pixels.auto_range:
        shown += f', {pixels.auto_range[0]:.4g} to {pixels.auto_range[1]:.4g}'
    return shown, '; '.join(reasons)


@contextmanager
def _silence() -> Iterator[None]:
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
