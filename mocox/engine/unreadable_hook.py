"""Count the unreadable images of a run, and end it when they are too many."""

import logging
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mocox import dist
from mocox.datasets import EncodedImages
from mocox.registry import HOOKS

FILE = 'unreadable_images.txt'


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Report how many unreadable images were replaced, name them, and stop when they are too many.

    The total of all processes is stated after every epoch that has found new ones and at the end; the names are in
    ``unreadable_images.txt`` beside the log, as Python strings, because a name may hold line breaks. A data set that is
    no :class:`~mocox.datasets.EncodedImages` is left alone.

    Args:
        warn_share: A warning where more than this share of the images that were tried could not be read.
        max_share: An error, likewise. 1 never stops.
        min_tried: Images that must have been tried before either.
        interval: Iterations between two looks.
    """

    priority = 'VERY_LOW'

    def __init__(
        self, warn_share: float = 0.01, max_share: float = 0.1, min_tried: int = 100, interval: int = 100
    ) -> None:
        for name, share in (('warn_share', warn_share), ('max_share', max_share)):
            if not 0 <= share <= 1:
                raise ValueError(f'{name} must lie between 0 and 1, got {share!r}')
        self.warn_share, self.max_share, self.min_tried, self.interval = warn_share, max_share, min_tried, interval
        self.has_warned, self.num_stated = False, 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Check the count of this process at intervals.

        Raises:
            ValueError: Too many images cannot be read.
        """
        images = _images(runner)
        if images is not None and self.every_n_train_iters(runner, self.interval):
            self._judge(runner, images)

    def after_train_epoch(self, runner: Runner) -> None:
        """Report the total if it has grown.

        Raises:
            ValueError: Too many images cannot be read.
        """
        images = _images(runner)
        if images is not None:
            self._state(runner, images)
            self._judge(runner, images)

    def after_train(self, runner: Runner) -> None:
        """Report the total."""
        images = _images(runner)
        if images is not None:
            self.num_stated = -1
            self._state(runner, images)

    def _judge(self, runner: Runner, images: EncodedImages) -> None:
        tried, unreadable = images.num_tried, images.num_unreadable
        if tried < self.min_tried or unreadable <= self.warn_share * tried:
            return
        share = f'{unreadable} of {tried} images tried ({unreadable / tried:.1%}) cannot be read'
        if unreadable > self.max_share * tried:
            raise ValueError(
                f'{share}, more than the {self.max_share:.0%} allowed: is the storage still there? The log names the '
                'first of them and the reason. To go on with replacements for them, set '
                'default_hooks.unreadable.max_share=1'
            )
        if not self.has_warned:
            self.has_warned = True
            runner.logger.warning(f'{share}; others take their place')

    def _state(self, runner: Runner, images: EncodedImages) -> None:
        everywhere = dist.gather_objects(images.unreadable())  # each process sees different images
        indices = sorted(set().union(*everywhere))
        if len(indices) == self.num_stated or runner.rank != 0:
            return
        self.num_stated = len(indices)
        total = f'unreadable images: {len(indices)} of {len(images)}'
        if indices:
            path = Path(runner.log_dir, FILE)
            path.write_text(''.join(f'{images.path(index)!r}\n' for index in indices), encoding='utf-8')
            total += f', each replaced by another one; their names are in {path}'
            if images.num_missing:
                total += f'; {images.num_missing} of them only need a library that the log names'
        runner.logger.log(logging.WARNING if indices else logging.INFO, total)


def _images(runner: Runner) -> EncodedImages | None:
    dataset = runner.train_dataloader.dataset
    return dataset if isinstance(dataset, EncodedImages) else None
