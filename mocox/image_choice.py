"""Channels, range and augmentation that suit some images: what ``mocox pretrain`` takes in place of a recipe's RGB."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from mocox.configs import open_config
from mocox.datasets import Pixels, ViewsDataset
from mocox.datasets.census import describe_bands, shared_bands
from mocox.datasets.encoded_images import EncodedImages
from mocox.datasets.folders import FIX
from mocox.datasets.survey import Survey
from mocox.doctor.images import Sample
from mocox.registry import DATASETS
from mocox.run.options import prepare_config

NUM_IMAGES = 64  # looked at
COLOUR = 3
SETTING = 'train_dataloader.dataset.'
MAX_SHARE, MOST_LEFT_OUT = 'default_hooks.unreadable.max_share', 0.1  # of images that a run may leave out; its default
VIEWS = {1: 'mocov3/vit-small_grayscale.py'}
BANDS = 'mocov3/vit-small_multispectral.py'  # of any number but 1 and 3


@dataclass
class ImageChoice:
    """The settings chosen for the images of a folder.

    Args:
        changes: Changes of the config, by dotted key.
        value: Channels and range, for people.
        reason: Why.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    value: str = '3'
    reason: str = 'red, green and blue of 8 bits'

    def normalise(self, sample: Sample, options: Mapping[str, Any]) -> None:
        """Take mean and standard deviation as measured, where the recipe's are for others and none are given."""
        if self.changes and sample.mean:
            measured = dict(mean=sample.mean, std=[max(value, 1.0) for value in sample.std])
            lines = {f'data_preprocessor.{name}': [round(v, 2) for v in values] for name, values in measured.items()}
            taken = {key: value for key, value in lines.items() if key not in options}
            self.changes |= taken
            self.reason += '; mean and deviation as measured' if taken else ''


def choose_for_images(recipe: str, data: str, options: Mapping[str, Any], survey: Survey | None = None) -> ImageChoice:
    """Look at some images, each of which is read once.

    Args:
        recipe: Recipe for RGB images.
        data: The folder.
        options: Changes of the config that are given, by key with dots; they are kept.
        survey: The images already read.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: No image can be read, or no channels suit nearly all of them.
    """
    survey = survey or Survey(NUM_IMAGES)
    given = Pixels(channels=options.get(f'{SETTING}channels'))
    seen = _count_bands(recipe, data, options, survey) if given.channels is None else Counter()
    channels = _channels(seen) if seen else given.num_channels
    _check_mixture(seen, channels, options)
    changes: dict[str, Any] = {}
    if channels != COLOUR:
        views = [dict(view) for view in open_config(VIEWS.get(channels, BANDS)).data_preprocessor.views]
        for view in views:
            if 'channel_drop' in view:  # no more than a quarter, and never all
                view['channel_drop'] = (1, max(1, min(view['channel_drop'][1], channels // 4)))
        changes = {'model.backbone.in_channels': channels, 'data_preprocessor.views': views}
        changes |= {f'{SETTING}channels': channels} if seen else {}
    dataset = _open(recipe, data, {**changes, **options}, survey)
    found = {} if f'{SETTING}value_range' in options else getattr(dataset, 'suggested', {})
    changes |= {f'{SETTING}{name}': value for name, value in found.items() if value != 'percentile'}
    if not changes and not dataset.pixels.settings():
        return ImageChoice()
    value, reason = _describe(dataset.pixels, found, seen, channels)
    changes.setdefault(f'{SETTING}value_range', dataset.pixels.value_range)
    if changes[f'{SETTING}value_range'] == 'auto':  # what mean and deviation are measured with
        measured = {name: getattr(dataset.pixels, name) for name in ('auto_range', 'nodata')}
        changes |= {f'{SETTING}{name}': value for name, value in measured.items() if value is not None}
    return ImageChoice({key: value for key, value in changes.items() if key not in options}, value, reason)


def _open(recipe: str, data: str, options: dict[str, Any], survey: Survey) -> ViewsDataset:
    try:
        config = prepare_config(recipe, data_root=data, cfg_options=options)
    except FileNotFoundError as error:
        raise FileNotFoundError(str(error).removeprefix('--data-root: ')) from None
    return open_images(config, survey, quiet=True)  # the data set of the run says it all


def open_images(config: Config, survey: Survey, quiet: bool = False) -> ViewsDataset:
    """The images of a config, with errors that name no option of another command.

    Args:
        config: For pre-training.
        survey: Images already read, which are not read again.
        quiet: Nothing is logged.
    """
    with DefaultScope.overwrite_default_scope('mocox'), survey.shared(), _silence() if quiet else nullcontext():
        try:
            return DATASETS.build(config.train_dataloader.dataset)
        except (OSError, ValueError) as error:
            raise type(error)(str(error).replace(FIX, 'give another folder')) from None


def _count_bands(recipe: str, data: str, options: Mapping[str, Any], survey: Survey) -> Counter:
    """Count the images by their number of bands, alpha not counted."""
    dataset = _open(recipe, data, {**options, f'{SETTING}channels': [0]}, survey)  # one band all have
    if not isinstance(dataset, EncodedImages):
        return Counter()
    found = [seen.raw for seen in survey.look(dataset).values() if seen.raw is not None]
    return Counter(raw.bands.shape[2] - raw.has_alpha for raw in found)


def _check_mixture(seen: Counter, channels: int, options: Mapping[str, Any]) -> None:
    """Refuse a folder of which a run would leave out more than it may; it would end after its first epoch."""
    fitting = seen[channels] + (seen[1] if channels == COLOUR else 0)
    if seen.total() - fitting <= options.get(MAX_SHARE, MOST_LEFT_OUT) * seen.total():
        return
    kinds = ', '.join(f'{number} have {describe_bands(count)}' for count, number in sorted(seen.items()))
    raise ValueError(
        f'of {seen.total()} images looked at {kinds}: no number of channels reads all of them. Keep each kind in a '
        'folder of its own; or take the first bands that all of them have: --cfg-options '
        f'{SETTING}channels={shared_bands(seen)}; or only those of {describe_bands(channels)}: --cfg-options '
        f'{SETTING}channels={channels} {MAX_SHARE}=1'
    )


def _channels(seen: Counter) -> int:
    """Channels with which most images can be read, with all of their bands if possible."""
    if set(seen) == {1}:
        return 1
    readable = {count: number for count, number in seen.items() if count > 1}
    readable[COLOUR] = seen[1] + seen[COLOUR]
    return max(readable, key=lambda count: (readable[count], count))


def _describe(pixels: Pixels, found: Mapping[str, Any], seen: Counter, channels: int) -> tuple[str, str]:
    total, fitting = seen.total(), seen[channels] + (seen[1] if channels == COLOUR else 0)
    bands = 'one channel' if channels == 1 else describe_bands(channels)
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
