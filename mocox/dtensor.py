"""Sharded tensors (``DTensor``): gathered for a checkpoint, sharded again after loading."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mocox import dist


def gather_shards(x: Any) -> Any:
    """Replace sharded tensors in a nested structure by whole ones on the CPU; all processes must call it.

    Rank 0 gets the tensors, the others None in their places, since only rank 0 writes checkpoints. Without shards,
    nothing is sent or copied.

    Args:
        x: A state dict of a model or an optimizer, or anything else that has the same structure on all processes.
    """
    if is_sharded(x):
        whole = x.full_tensor()
        return whole.cpu() if dist.rank() == 0 else None
    if isinstance(x, dict):
        gathered = copy.copy(x)  # keeps the versions of modules, which a state dict carries as an attribute
        gathered.update({key: gather_shards(value) for key, value in x.items()})
        return gathered
    if type(x) in (list, tuple):
        return type(x)(gather_shards(value) for value in x)
    return x


def is_sharded(parameter: Tensor) -> bool:
    """True if the processes keep different rows of a tensor."""
    return hasattr(parameter, 'full_tensor')


def own_parts(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The local part of each parameter: all of it, or this process's shard."""
    return [parameter.to_local() if hasattr(parameter, 'to_local') else parameter for parameter in parameters]


def local_part(whole: Tensor, like: Any) -> Tensor:
    """The local shard of a whole tensor, sharded like ``like``: a view, possibly empty."""
    parts = whole.chunk(like.device_mesh.size())
    index = like.device_mesh.get_local_rank()
    return parts[index] if index < len(parts) else whole[:0]


def shard_optimizer_state(optimizer: torch.optim.Optimizer) -> None:
    """Shard the whole tensors that ``load_state_dict`` has put into an optimizer of sharded parameters."""
    from torch.distributed.tensor import DTensor

    parameter: Any
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and not isinstance(value, DTensor) and value.shape == parameter.shape:
                part = local_part(value, parameter).clone()
                state[name] = DTensor.from_local(
                    part,
                    parameter.device_mesh,
                    parameter.placements,
                    run_check=False,
                    shape=parameter.shape,
                    stride=parameter.stride(),
                )
