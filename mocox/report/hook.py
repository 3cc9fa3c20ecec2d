"""Keep report.html up to date during training."""

import json
import logging
import time
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mocox import dist
from mocox.dtensor import is_sharded
from mocox.registry import HOOKS
from mocox.report.closing import describe_end
from mocox.terminal import say


@HOOKS.register_module()
class ReportHook(Hook):
    """Write ``report.html`` into the work dir, at intervals and after the last step; see :mod:`mocox.report`.

    Only the first process does so. The page is read from the log, so it survives a run that does not; images are added
    after the last step. Drawing never ends a run: what fails is named in the log.

    Args:
        minutes: Between two pages; the first is written after a quarter of it. 0 writes none at all.
        num_images: Images of the training set that neighbours and maps are computed from; 0 leaves them out.
        maps: Of ``pca``, ``tsne``, ``umap`` (which needs umap-learn).
        bands: One or three channels to show of images that have others than gray or colour, counted from 0.

    Raises:
        ValueError: ``minutes`` or ``num_images`` negative.
    """

    priority = 'LOWEST'  # after the loggers

    def __init__(
        self,
        minutes: float = 5.0,
        num_images: int = 256,
        maps: tuple[str, ...] = ('pca', 'tsne'),
        bands: tuple[int, ...] | None = None,
    ) -> None:
        if not minutes >= 0 or num_images < 0:
            raise ValueError(f'minutes={minutes}, num_images={num_images}: must not be below 0')
        self.seconds, self.num_images, self.maps = 60 * minutes, num_images, tuple(maps)
        self.bands = bands
        self.pictures: Any = None

    def before_train(self, runner: Runner) -> None:
        """Record the run's environment beside its log."""
        self.next_time = time.monotonic() + self.seconds / 4
        self._guard(runner, self._note_environment)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Write the page when it is due."""
        if time.monotonic() >= self.next_time and self._has_log(runner):
            self._guard(runner, self._write, running=True)
            self.next_time = time.monotonic() + self.seconds

    def after_train(self, runner: Runner) -> None:
        """Write the last page, with images."""
        # The first process alone can compute nothing with weights that are spread over all.
        whole = not any(is_sharded(parameter) for parameter in runner.model.parameters())
        if self.num_images and whole and hasattr(dist.unwrap(runner.model), 'backbone'):
            self._guard(runner, self._draw_pictures)
        self._guard(runner, self._write, running=False)
        if runner.rank == 0 and runner.logger.isEnabledFor(logging.INFO):
            say(*describe_end(runner).split('\n'))

    def _has_log(self, runner: Runner) -> bool:
        """True if the log has a line to draw: with slow steps the first one comes late."""
        return any(Path(runner.work_dir).glob('*/vis_data/scalars.json'))

    def _guard(self, runner: Runner, act: Any, **arguments: Any) -> None:
        if runner.rank != 0 or not self.seconds:
            return
        try:
            act(runner, **arguments)
        except Exception as error:  # a page must not end a run: log the error (MMEngine prints it once)
            runner.logger.warning(f'report.html: {type(error).__name__}: {error}. Training continues without it')

    def _note_environment(self, runner: Runner) -> None:
        from mocox.report.environment import describe_environment  # slow to import

        device = next(runner.model.parameters()).device
        folder = Path(runner._log_dir, 'vis_data')
        folder.mkdir(parents=True, exist_ok=True)
        noted = describe_environment(runner.world_size, device)
        if notes := getattr(runner.train_dataloader.dataset, 'file_notes', []):  # what of the files is not used
            noted['images'] = '; '.join(note for _, note in notes)
        (folder / 'environment.json').write_text(json.dumps(noted, indent=2) + '\n')

    def _write(self, runner: Runner, running: bool) -> None:
        from mocox.report import page, pictures, runs

        if self.pictures is None and hasattr(dist.unwrap(runner.model), 'data_preprocessor'):
            dataset = runner.train_dataloader.dataset
            self.pictures = pictures.pairs_of(dist.unwrap(runner.model), dataset, self.bands)
        run = runs.read_run(runner.work_dir)
        page.write_report([run], Path(runner.work_dir, 'report.html'), self.pictures, running)

    def _draw_pictures(self, runner: Runner) -> None:
        from mocox.report import pictures

        model, dataset = dist.unwrap(runner.model), runner.train_dataloader.dataset
        settings = self.num_images, self.maps, self.bands
        self.pictures = pictures.from_model(model, dataset, runner.cfg.to_dict(), *settings)
