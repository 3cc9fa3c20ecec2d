"""Peak memory of a training step on a GPU that is pretended, counted tensor by tensor, beside the model of it.

A whole step in bfloat16 runs on tensors that have shapes and no values, as CUDA would dispatch it: the backward pass,
the optimizer and the momentum update included. When each tensor is made and freed is known then, and
:mod:`lab.benchmark.allocator` says what the card would lose to it. Not counted: what a kernel takes for itself and
gives back (workspaces of cuDNN, cuBLAS and flash attention), and the CUDA context.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor

import mocox.engine  # noqa: F401  registers what configs name
from lab.benchmark import memory
from lab.benchmark.allocator import Allocator, Event
from lab.benchmark.contender import PreparedViews
from lab.benchmark.live_memory import LiveMemory
from lab.benchmark.mocox_contender import read_config
from lab.benchmark.pretended import flash_attention, pretended_gpu, run_module
from lab.benchmark.report import table
from lab.benchmark.step import Setting
from mocox.registry import MODELS

GIB = 2**30


class Recorder(LiveMemory):
    """Live memory that writes down when each tensor is made and freed, and the operation at the peak."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        self.events: list[Event] = []
        self.operation = self.at_peak = 'start'
        super().__init__(known)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.operation = str(func)
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _add(self, tensor: Tensor) -> None:
        key, peak = tensor.untyped_storage()._cdata, self.peak
        is_new = key not in self._sizes
        if tensor.device.type == 'cuda':
            super()._add(tensor)
            if is_new:
                self.events.append(Event(key, self._sizes[key]))
        if self.peak > peak:
            self.at_peak = self.operation

    def _forget(self, key: int) -> None:
        super()._forget(key)
        self.events.append(Event(key, None))


def count(path: str, batch_size: int, image_size: int = 224, options: dict | None = None) -> dict[str, Any]:
    """One step of a pre-training in bfloat16, its optimizer's moments made before. In a process without accelerator.

    Args:
        path: Of a config.
        batch_size: Images.
        image_size: Side of a view.
        options: What ``--cfg-options`` gave.

    Returns:
        Bytes: ``static`` before and after a step, ``live`` at its peak, ``allocated`` by the allocator at its peak,
        ``reserved`` from the card, also with ``expandable`` segments; and the operation ``at_peak``.
    """
    config = read_config(path, image_size, options)
    with DefaultScope.overwrite_default_scope('mocox'):
        model = MODELS.build(dict(config.model, data_preprocessor=None)).train()
        model.data_preprocessor = PreparedViews()
        with pretended_gpu() as gpu, flash_attention():
            gpu.move_module(model)
            with mock.patch('mocox.engine.optim_wrapper.get_device', return_value='cuda'):
                wrapper = build_optim_wrapper(model, dict(config.optim_wrapper, type='mocox.AmpOptimWrapper'))
            moments = list(_moments(wrapper.optimizer))
            views = [gpu.tensor(batch_size, 3, image_size, image_size) for _ in range(2)]
            with Recorder([*model.parameters(), *model.buffers(), *moments, *views]) as live:
                static = live.current
                model.update_momentum_encoder()
                model.train_step(dict(inputs=views), wrapper)
    return dict(static=static, live=live.peak, at_peak=live.at_peak, **_allocate(live.events))


def _moments(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    """Made by a step with gradients of the same shapes."""
    for group in optimizer.param_groups:
        for parameter in group['params']:
            if parameter.requires_grad:  # MMEngine hands over frozen ones too
                parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for state in optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))


def _allocate(events: list[Event]) -> dict[str, int]:
    found = {}
    for name in ('reserved', 'expandable'):
        allocator = Allocator(expandable=name == 'expandable')
        allocator.replay(events)
        found |= {name: allocator.reserved, 'allocated': allocator.peak}
    return found


def count_elsewhere(*args: Any) -> dict[str, Any]:
    """:func:`count` in a new process that has no accelerator; see :func:`lab.benchmark.pretended.run_module`."""
    return json.loads(run_module('lab.benchmark.counted_memory', json.dumps(args)))


def compare(paths: list[str], batch_size: int, chunk_sizes: list[int], image_size: int = 224) -> str:
    """A table: the model of memory and the count, for each config without chunks and with each ``chunk_size``."""
    rows = []
    for path in paths:
        for chunk_size in (None, *chunk_sizes):
            config = memory.with_chunks(read_config(path, image_size), chunk_size)
            found = count_elsewhere(path, batch_size, image_size, {'model.chunk_size': chunk_size})
            rows.append([path, str(chunk_size or 'whole'), *_row(config, batch_size, image_size, found)])
    header = [
        'config',
        'chunk_size',
        'computed, GiB',
        'counted, GiB',
        'difference',
        'reserved',
        'expandable',
        'peak at',
    ]
    return f'{batch_size} images at {image_size} px in bfloat16, one step:\n\n{table(header, rows)}'


def _row(config: Config, batch_size: int, image_size: int, found: dict[str, Any]) -> list[str]:
    computed = memory.compute(config, Setting(batch_size, image_size, 'cuda'), half=True)
    sizes = [f'{found[name] / GIB:.2f}' for name in ('allocated', 'reserved', 'expandable')]
    if computed is None:
        return ['-', sizes[0], '-', *sizes[1:], found['at_peak']]
    difference = f'{computed / found["allocated"] - 1:+.1%}'
    return [f'{computed / GIB:.2f}', sizes[0], difference, *sizes[1:], found['at_peak']]


if __name__ == '__main__':
    print(json.dumps(count(*json.loads(sys.argv[1]))))
