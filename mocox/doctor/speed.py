"""Speed of loading and training on this machine, and memory of a step, measured for a few seconds."""

import contextlib
import copy
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from mocox.datasets import ViewsDataset, collate_views
from mocox.doctor.findings import NOTE, PROBLEM, WARNING, Finding
from mocox.engine.disk_space import STATES
from mocox.models.algorithms.base import MomentumContrast
from mocox.recipe import Recipe, type_of
from mocox.registry import MODELS

MEBI = 2**20


@dataclass
class Speed:
    """Measured speeds, and what follows from them.

    Args:
        device: Where the step ran.
        cores: Number of CPU cores.
        load_per_worker: Images per second that one process loads.
        step: Images per second of the training step alone.
        step_images: The batch that it was measured with.
        workers: Loader workers in the config.
        loading: Images per second of all workers, estimated: no more than one per core.
        bottleneck: ``loader`` or ``step``.
        suggested_workers: With which the loader keeps up, as far as there are cores.
        images_per_second: Expected rate of the run, in one process.
        hours: Expected time of the whole run; None without ``max_epochs``.
        memory_mb: Memory of one process: weights, gradients, optimizer, activations of the whole batch.
        parameters: Trained parameters of the query encoder and heads.
    """

    device: str
    cores: int
    load_per_worker: float
    step: float
    step_images: int
    workers: int
    loading: float
    bottleneck: str
    suggested_workers: int
    images_per_second: float
    hours: float | None
    memory_mb: float
    parameters: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def measure(recipe: Recipe, dataset: ViewsDataset, seconds: float = 5.0) -> Speed:
    """Load and train for about so many seconds; the weights are thrown away.

    Raises:
        ValueError: The model cannot be built from the config.
    """
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    samples, load = _time_loading(dataset, seconds / 2, 64)
    step, images, memory, parameters = _time_steps(recipe, samples, seconds, device)
    workers = int(recipe.loader.get('num_workers') or 0)
    useful = cores if device == 'cuda' else max(1, cores - 1)  # on a CPU the step wants a core too
    loading = load * max(1, min(workers, useful))
    both = 1 / (1 / loading + 1 / step) if workers == 0 else min(loading, step)
    suggested = min(useful, max(1, -(-int(1.2 * step) // max(int(load), 1))))
    total = (recipe.num_images or 0) * (recipe.epochs or 0)
    return Speed(
        device=torch.cuda.get_device_name() if device == 'cuda' else 'CPU',
        cores=cores, load_per_worker=load, step=step, step_images=images, workers=workers, loading=loading,
        bottleneck='loader' if loading < step else 'step', suggested_workers=suggested, images_per_second=both,
        hours=total / (both * recipe.processes) / 3600 if total else None, memory_mb=memory, parameters=parameters,
    )  # fmt: skip


def check_speed(speed: Speed, free_mb: float | None = None, is_vit: bool = True, batch_size: int = 64) -> list[Finding]:
    """Findings of a measurement.

    Args:
        speed: Of :func:`measure`.
        free_mb: Memory that there is; None if the run is for another machine.
        is_vit: The backbone can be computed in chunks.
        batch_size: Images of a process and step.
    """
    found = []
    if speed.workers and speed.workers > speed.cores:
        found.append(Finding(
            NOTE, 'too_many_workers', f'{speed.workers} workers on {speed.cores} cores',
            'They take turns, and memory.', f'--cfg-options train_dataloader.num_workers={speed.suggested_workers}',
        ))  # fmt: skip
    elif speed.bottleneck == 'loader' and speed.suggested_workers > max(1, speed.workers):
        found.append(Finding(
            WARNING, 'loader_too_slow',
            f'the loader gives {speed.loading:,.0f} images per second, the step takes {speed.step:,.0f}',
            'The device waits for images.',
            f'--cfg-options train_dataloader.num_workers={speed.suggested_workers}', 'facebookresearch/moco-v3#39',
        ))  # fmt: skip
    elif speed.bottleneck == 'loader' and speed.loading < 0.8 * speed.step:
        found.append(Finding(
            NOTE, 'too_few_cores',
            f'the loader gives {speed.loading:,.0f} images per second, the step takes {speed.step:,.0f}',
            f'The device waits for images, and this machine has no more than {speed.cores} cores.',
            'store the images smaller, once: with a shorter side of 256 px they decode faster',
        ))  # fmt: skip
    if free_mb and speed.memory_mb > free_mb:
        chunks = '--cfg-options model.chunk_size=32, which gives the same result; or '
        found.append(Finding(
            PROBLEM, 'memory', f'a step takes about {speed.memory_mb / 1024:.1f} GiB, there are {free_mb / 1024:.1f}',
            'The run would end with an out-of-memory error.',
            f'{chunks if is_vit else ""}--amp; or --batch-size {fitting_batch(batch_size, speed.memory_mb, free_mb)}',
        ))  # fmt: skip
    return found


def fitting_batch(batch_size: int, needed_mb: float, free_mb: float) -> int:
    """The largest power of two, of fewer images, whose step fits if memory grows with the batch."""
    wanted, fitting = batch_size * free_mb / needed_mb, 2
    while 2 * fitting <= min(wanted, batch_size - 1):
        fitting *= 2
    return fitting


def free_memory_mb() -> float | None:
    """Memory of the GPU, or of the machine without one."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / MEBI
    info = Path('/proc/meminfo')
    if not info.is_file():  # not Linux
        return None
    (line,) = (line for line in info.read_text().splitlines() if line.startswith('MemAvailable:'))
    return int(line.split()[1]) / 1024


def _time_loading(dataset: ViewsDataset, seconds: float, most: int) -> tuple[list[dict], float]:
    """Some samples, and images per second of this process."""
    dataset[0, 0]  # libraries start up
    samples: list[dict] = []
    start = time.perf_counter()
    while (len(samples) < 2 or time.perf_counter() - start < seconds) and len(samples) < most:
        samples.append(dataset[0, (7919 * len(samples)) % len(dataset)])
    return samples, len(samples) / (time.perf_counter() - start)


def _time_steps(recipe: Recipe, samples: list[dict], seconds: float, device: str) -> tuple[float, int, float, int]:
    """Images per second and the batch measured with, memory of a step in MiB, trained parameters."""
    settings = copy.deepcopy(dict(recipe.model))
    settings['data_preprocessor'] = recipe.preprocessor or None
    with DefaultScope.overwrite_default_scope('mocox'), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about small batches, which are ours
        model = MODELS.build(settings).to(device).train()
        wrapper = build_optim_wrapper(model, _wrapper_config(recipe, device))
        saved, size = _saved_bytes(model, samples[:2])
        _time_step(model, wrapper, collate_views(samples[:2]), device)  # libraries and optimizer start up
        images, start = min(2, recipe.images_per_process), time.perf_counter()
        took: dict[int, float] = {}
        while True:
            batch = collate_views([samples[i % len(samples)] for i in range(images)])
            took[images] = _time_step(model, wrapper, batch, device)
            spent = time.perf_counter() - start
            if images >= recipe.images_per_process or (len(took) > 1 and spent + 2 * took[images] > seconds):
                break
            images = min(2 * images, recipe.images_per_process)
    chunk = recipe.model.get('chunk_size')
    alive = min(recipe.images_per_process, chunk) if chunk else recipe.images_per_process
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    weights = sum(p.numel() * p.element_size() for p in [*model.parameters(), *model.buffers()])
    states = 1 + STATES.get(type_of(recipe.optimizer), 2)
    rate = recipe.images_per_process / _extrapolate(took, recipe.images_per_process)
    return rate, images, (weights + 4 * trained * states + saved / size * alive) / MEBI, trained


def _extrapolate(took: dict[int, float], images: int) -> float:
    """Seconds of a step with so many images, from those of smaller ones: what the optimizer does costs the same."""
    if images in took:
        return took[images]
    *_, second, last = [(0, 0.0), *took.items()]
    per_image = max((last[1] - second[1]) / (last[0] - second[0]), last[1] / last[0] / 4)  # noise is not speed
    return last[1] + per_image * (images - last[0])


def _wrapper_config(recipe: Recipe, device: str) -> Mapping[str, Any]:
    wrapper = copy.deepcopy(dict(recipe.optim_wrapper))
    wrapper.pop('accumulative_counts', None)
    if device == 'cpu' and wrapper.get('dtype') == 'float16':
        wrapper['dtype'] = 'bfloat16'
    return wrapper


def _time_step(model: BaseModel, wrapper: Any, batch: dict, device: str) -> float:
    """Seconds of one whole step."""
    _synchronize(device)
    start = time.perf_counter()
    model.train_step(batch, wrapper)
    if isinstance(model, MomentumContrast):
        model.update_momentum_encoder()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()


def _saved_bytes(model: BaseModel, samples: list[dict]) -> tuple[int, int]:
    """Bytes that autograd keeps for a backward pass, weights not counted, and the images that it keeps them for."""
    weights = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    data = model.data_preprocessor(collate_views(samples), training=True)
    with _whole_batches(model), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model(**data, mode='loss')
    del losses
    return sum(storages.values()), len(samples)


@contextlib.contextmanager
def _whole_batches(model: nn.Module) -> Iterator[None]:
    """Without chunks, in which autograd would keep nothing."""
    if not isinstance(model, MomentumContrast):
        yield
        return
    chunk = model.chunk_size
    model.chunk_size = None
    try:
        yield
    finally:
        model.chunk_size = chunk
