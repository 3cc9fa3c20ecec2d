"""Snapshot of everything that an exact resume needs, copied so that training can go on."""

import copy
import time
import uuid
from collections.abc import Mapping
from typing import Any

import mmengine
import torch
from mmengine.runner import Runner
from torch import Tensor

from mocox import dist
from mocox.dtensor import gather_shards
from mocox.engine.batches import describe_batches, describe_images
from mocox.randomness import generator_states
from mocox.version import __version__

RUN_KEY = 'run'  # in the message hub, which a continued run takes over


def take_snapshot(
    runner: Runner,
    meta: Mapping[str, Any],
    save_optimizer: bool = True,
    save_param_scheduler: bool = True,
    exact: bool = True,
    copier: 'HostCopy | None' = None,
) -> dict[str, Any] | None:
    """Content of a checkpoint, in memory of its own. All processes call it; the first gets it, the others None.

    What MMEngine's ``Runner.save_checkpoint`` writes, with the same calls of hooks, and ``exact_resume``: the states of
    all generators of every process and the numbers that must not change when the run goes on.

    Args:
        runner: Between two iterations.
        meta: ``epoch`` and ``iter`` to continue with.
        save_optimizer: With the optimizer and, of mixed precision, the scaler.
        save_param_scheduler: With the schedules.
        exact: With ``exact_resume``. Without it, only weights in ``FullyShard`` are gathered; where there are none,
            the other processes need not call.
        copier: Keeps the memory of the copy for the next one.
    """
    states = dist.gather_objects(generator_states()) if exact else None
    weights = gather_shards(dist.unwrap(runner.model).state_dict())
    optimizer = gather_shards(runner.optim_wrapper.state_dict()) if save_optimizer else None
    if dist.rank() != 0:
        return None
    if RUN_KEY not in runner.message_hub.runtime_info:
        runner.message_hub.update_info(RUN_KEY, uuid.uuid4().hex)
    content = dict(
        meta=dict(meta, **_describe(runner)),
        state_dict=weights,
        message_hub=runner.message_hub.state_dict(),
    )
    if exact:
        run = runner.message_hub.get_info(RUN_KEY)
        content['exact_resume'] = dict(
            describe_batches(runner), images=describe_images(runner), run=run, generators=states
        )
    if save_optimizer:
        content['optimizer'] = optimizer
    if save_param_scheduler and runner.param_schedulers is not None:
        content['param_schedulers'] = _schedules(runner.param_schedulers)
    runner.call_hook('before_save_checkpoint', checkpoint=content)
    return (copier or HostCopy())(content)


class HostCopy:
    """Copy the content of a checkpoint to host memory, where later training does not change it.

    The memory is kept and used again by the next copy, which the former one must not be needed for any more: fresh
    memory costs several times the copying. Two names of one tensor stay two names of one tensor.
    """

    def __init__(self) -> None:
        self.buffers: list[Tensor] = []

    def __call__(self, content: Any) -> Any:
        """Copy a nested structure together with its tensors."""
        self.former, self.buffers = self.buffers, []
        self.copies: dict[tuple, Tensor] = {}
        try:
            return self._copy(content)
        finally:
            self.former, self.copies = [], {}

    def _copy(self, node: Any) -> Any:
        if isinstance(node, Tensor):
            return self._copy_tensor(node.detach())
        if isinstance(node, dict):
            copied = copy.copy(node)  # keeps the versions of modules, which a state dict carries as an attribute
            for key, value in node.items():
                copied[key] = self._copy(value)
            return copied
        if type(node) in (list, tuple):
            return type(node)(self._copy(value) for value in node)
        return copy.deepcopy(node)

    def _copy_tensor(self, tensor: Tensor) -> Tensor:
        identity = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if identity not in self.copies or not tensor.numel():
            self.copies[identity] = self._buffer(tensor).copy_(tensor)
        return self.copies[identity]

    def _buffer(self, tensor: Tensor) -> Tensor:
        position = len(self.buffers)
        buffer = torch.empty_like(tensor, device='cpu', memory_format=torch.preserve_format)
        if position < len(self.former):
            former = self.former[position]
            if (former.dtype, former.shape, former.stride()) == (buffer.dtype, buffer.shape, buffer.stride()):
                buffer = former
        self.buffers.append(buffer)
        return buffer


def _describe(runner: Runner) -> dict[str, Any]:
    description = dict(
        cfg=runner.cfg.pretty_text,
        seed=runner.seed,
        experiment_name=runner.experiment_name,
        time=time.strftime('%Y%m%d_%H%M%S'),
        mmengine_version=mmengine.__version__,
        mocox_version=__version__,
    )
    if hasattr(runner.train_dataloader.dataset, 'metainfo'):
        description['dataset_meta'] = runner.train_dataloader.dataset.metainfo
    return description


def _schedules(schedules: list | dict) -> list | dict:
    if isinstance(schedules, dict):
        return {name: _schedules(part) for name, part in schedules.items()}
    return [schedule.state_dict() for schedule in schedules]
