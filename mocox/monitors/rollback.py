"""Copies of a run's state in memory for rollback: all of it, and the buffers that a forward pass changes."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from mocox.models.key_queue import KeyQueue


class Snapshot:
    """Snapshot of weights, momentum encoder, queue, statistics and optimizer state, on their device.

    Learning rates are not part of it: the schedules go on.

    Args:
        model: The algorithm.
        optimizer: Its optimizer.
        iteration: When it was taken.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, iteration: int) -> None:
        self.iteration = iteration
        self.tensors = [t.detach() for t in (*model.parameters(), *model.buffers())]
        self.copies = [t.clone() for t in self.tensors]
        self.optimizer = optimizer
        self.state = _copy_state(optimizer.state)

    @torch.no_grad()
    def restore(self) -> None:
        """Roll back to the snapshot; may be called repeatedly."""
        for tensor, copy in zip(self.tensors, self.copies, strict=True):
            tensor.copy_(copy)
        self.optimizer.state.clear()
        self.optimizer.state.update(_copy_state(self.state))


def _copy_state(state: dict) -> dict:
    return {
        param: {name: value.clone() if isinstance(value, Tensor) else value for name, value in entries.items()}
        for param, entries in state.items()
    }


class Statistics:
    """The running statistics of all BatchNorm layers, which a forward pass writes before any gradient is known.

    Args:
        model: The algorithm.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
        self.buffers: list[Tensor] = [b for m in layers for b in (m.running_mean, m.running_var) if b is not None]
        self.backup = self._flat()

    def _flat(self) -> Tensor | None:
        return torch.cat([buffer.flatten() for buffer in self.buffers]) if self.buffers else None

    def keep(self) -> None:
        """Back up the present statistics."""
        self.backup = self._flat()

    @torch.no_grad()
    def restore_where(self, bad: Tensor) -> None:
        """Restore the backup if the scalar ``bad`` is not 0, without a host sync."""
        present = self._flat()
        if self.backup is None or present is None:
            return
        chosen = torch.where(bad > 0, self.backup, present)
        parts = chosen.split([buffer.numel() for buffer in self.buffers])
        torch._foreach_copy_(self.buffers, [p.view_as(b) for p, b in zip(parts, self.buffers, strict=True)])


class QueueUndo:
    """The keys that the next steps will overwrite, so that a bad step can be repeated as it was.

    Args:
        model: The algorithm.
        num_keys: Keys that will be written to each queue.
    """

    def __init__(self, model: nn.Module, num_keys: int) -> None:
        self.entries = []
        for name, queue in model.named_modules():
            if isinstance(queue, KeyQueue):
                span = torch.arange(min(num_keys, len(queue)), device=queue.keys.device)
                columns = (queue.pointer + span) % len(queue)
                old = dict(keys=queue.keys[:, columns], pointer=queue.pointer.clone(), filled=queue.filled.clone())
                self.entries.append((name, columns, old))

    def apply(self, state_dict: dict[str, Tensor]) -> None:
        """Put the keys into a copy of the model's state."""
        for name, columns, old in self.entries:
            keys = state_dict[f'{name}.keys'].clone()
            keys[:, columns] = old['keys']
            state_dict.update(
                {f'{name}.keys': keys, f'{name}.pointer': old['pointer'], f'{name}.filled': old['filled']}
            )
