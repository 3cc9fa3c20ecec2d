"""The input pipeline with more and more cores, and a real run that it feeds."""

import os
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from lab.benchmark import photos
from lab.benchmark.run import run
from lab.gpu_day.day import VIT_S, Day, Notes, Piece
from lab.gpu_day.machine import small_limits
from lab.gpu_day.profiles import start_profiler, summarise
from mocox.engine.batches import iteration_seconds
from mocox.run.build import build_runner
from mocox.run.options import prepare_config

CORES = (1, 2, 4, 8, 16)
ON_FILES = 'mocox::mocov3/vit-small_custom.py'  # the same model, for a folder of files
NUM_PHOTOS, NUM_FILES = 200, 24_576  # 24 batches of 1024
WARM_UP, PROFILED, SEEN = 6, 2, 16  # iterations of the real run


def pieces(day: Day, stage: str) -> list[Piece]:
    """One core against the published pipelines, several cores, and a real run."""
    numbers = [n for n in CORES if n <= day.cores] or [1]
    if day.tiny:
        numbers = numbers[:2]
    return [
        Piece('one core', 40, lambda notes: one_core(day)),
        *(Piece(f'{n} cores', 10, partial(_several, day, n)) for n in numbers),
        Piece('real run', 70, lambda notes: real_run(day)),
    ]


def one_core(day: Day) -> dict[str, Any]:
    """``tools/benchmark.py data --against mmpretrain``."""
    against = 'mmpretrain' if not _lacks_peer() else None
    size = day.size(224, 32)
    with small_limits(day.tiny):
        result = run('data', against, VIT_S, day.options(VIT_S), day.size(64, 2), size, 'cpu', day.size(4, 1))
    return asdict(result) | dict(text=f'{result.ours:.0f} images/s, {result.ratio:.2f} x {against or "official"}')


def _lacks_peer() -> bool:
    from importlib.util import find_spec

    return find_spec('mmpretrain') is None


def photo_folder(day: Day) -> Path:
    """Generated photographs, each under many names."""
    folder, few, many = day.out / 'photos', day.size(NUM_PHOTOS, 4), day.size(NUM_FILES, 64)
    if (folder / 'whole').exists():
        return folder / 'images'
    photos.write_photos(folder / 'images', few)
    originals = sorted((folder / 'images').glob('*.jpg'))
    for number in range(len(originals), many):
        link = folder / 'images' / f'link-{number:06}.jpg'
        if not link.exists():
            os.link(originals[number % len(originals)], link)
    (folder / 'whole').touch()
    return folder / 'images'


def config_of(day: Day, workers: int, batch: int, **options: Any) -> Config:
    """ViT-S on the photographs."""
    changed = day.options(VIT_S) | {'log_level': 'WARNING'} | options
    return prepare_config(
        ON_FILES,
        work_dir=str(day.out / f'real_run-{time.time():.0f}'),
        data_root=str(photo_folder(day)),
        batch_size=batch,
        workers=workers,
        image_size=day.size(224, 32),
        amp=day.device == 'cuda',
        cfg_options=changed,
    )


def _several(day: Day, workers: int, notes: Notes) -> dict[str, Any]:
    """Images per second that so many loading processes hand over, to pinned memory on a GPU."""
    batch, seconds = day.size(256, 8), day.size(6, 0)
    loader = build_loader(config_of(day, workers, batch), day)
    ahead, counted, start = day.size(2 * workers, 0), 0, time.perf_counter()
    for number, views in enumerate(loader):
        if number <= ahead:  # what was fetched before somebody asked does not count
            counted, start = 0, time.perf_counter()
        else:
            counted += len(views['inputs'][0])
        if counted and time.perf_counter() - start >= seconds:
            break
    rate = counted / (time.perf_counter() - start)
    return dict(workers=workers, rate=rate, text=f'{rate:.0f} images/s')


def build_loader(config: Config, day: Day) -> Any:
    """The loader that the runner would build; on a GPU with pinned memory."""
    with DefaultScope.overwrite_default_scope('mocox'):
        return Runner.build_dataloader(config.train_dataloader | dict(pin_memory=day.device == 'cuda'), seed=0)


class Profile(Hook):
    """Profiles some iterations of a run, with all of its hooks."""

    priority = 'VERY_HIGH'

    def __init__(self, device: str, iterations: range) -> None:
        self.device, self.iterations = device, iterations
        self.found: dict[str, Any] = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Begins before the other hooks of the first iteration, ends after the last one's."""
        if runner.iter == self.iterations.start:
            self.profiler = start_profiler(self.device)
            self.profiler.start()
        elif runner.iter == self.iterations.stop:
            self.profiler.stop()
            self.found = summarise(self.profiler, self.device)
            del self.profiler


def real_run(day: Day) -> dict[str, Any]:
    """All of a training: workers, augmentation on the device, every hook, mixed precision on a GPU."""
    workers, batch = day.size(min(day.cores, max(CORES)), 0), day.size(1024, 8)
    warm_up, seen = day.size(WARM_UP, 1), day.size(SEEN, 3)
    hook = Profile(day.device, range(warm_up, warm_up + PROFILED))
    config = config_of(day, workers, batch, **{'train_cfg.max_epochs': 1})
    config.default_hooks.pop('report')  # draws for seconds, at the end
    runner = build_runner(config)
    runner.register_hook(hook)
    runner.train()
    seconds, waited = iteration_seconds(runner, seen) or (0.0, 0.0)
    rate, share = batch / seconds, waited / seconds
    syncs = {name: count / PROFILED for name, count in hook.found['syncs'].items()}
    text = f'{rate:.0f} images/s end to end, {share:.1%} of the time waiting for images, syncs per step {syncs}'
    return dict(rate=rate, waiting=share, workers=workers, batch=batch, syncs=syncs, top=hook.found['top'], text=text)
