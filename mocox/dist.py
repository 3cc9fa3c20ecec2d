"""The collectives that models and evaluation need: the only door to ``torch.distributed`` inside a step.

Everything works in a single process without a process group, and across processes with NCCL on GPUs or gloo on CPUs.
Which processes there are is decided in :mod:`mocox.processes`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor


def world_size() -> int:
    """The number of processes; 1 without a process group."""
    return torch_dist.get_world_size() if _is_running() else 1


def rank() -> int:
    """The number of this process, from 0; 0 without a process group."""
    return torch_dist.get_rank() if _is_running() else 0


def rank_offset(num_rows: int) -> int:
    """Offset of this process's rows in the result of :func:`gather_rows`."""
    return rank() * num_rows


def gather_rows(x: Tensor) -> Tensor:
    """Concatenate the rows of every process, in rank order; one process gets its own tensor back.

    No gradient flows through. Every process must pass a tensor of the same shape, as equal batches do.

    Args:
        x: (N, ...).

    Returns:
        (world_size * N, ...).
    """
    return start_gathering(x)()


def start_gathering(x: Tensor) -> Callable[[], Tensor]:
    """Start :func:`gather_rows` asynchronously; the returned function waits for the rows and returns them.

    What is computed in between overlaps with the communication.
    """
    x = x.detach()
    if world_size() == 1:
        return lambda: x
    x = x.contiguous()
    rows = x.new_empty(world_size() * len(x), *x.shape[1:])
    work = torch_dist.all_gather_into_tensor(rows, x, async_op=True)

    def wait() -> Tensor:
        if work is not None:  # None on a process outside the group; all are inside
            work.wait()
        return rows

    return wait


@torch.no_grad()
def exchange_rows(x: Tensor, order: Tensor) -> Tensor:
    """Permute rows across processes and return this process's share; each row travels to one process only.

    Args:
        x: (N, ...), the rows of this process; (world_size * N, ...) in rank order are all rows.
        order: (world_size * N,), on the CPU and equal on all processes: which row stands where.

    Returns:
        (N, ...), the rows ``order[rank * N : (rank + 1) * N]`` of all rows.
    """
    size, n = world_size(), len(x)
    shares = order.view(size, n)
    if size == 1:
        return x[order.to(x.device, non_blocking=True)]
    owners = shares // n  # (receiver, position)
    mine = owners == rank()
    outgoing = x[(shares[mine] - rank() * n).to(x.device, non_blocking=True)]  # by receiver
    incoming = torch.empty_like(outgoing)  # by owner
    received = owners[rank()].bincount(minlength=size).tolist()
    torch_dist.all_to_all_single(incoming, outgoing, received, mine.sum(dim=1).tolist())
    position = owners[rank()].argsort(stable=True).argsort()
    return incoming[position.to(x.device, non_blocking=True)]


def gather_objects(value: Any) -> list[Any]:
    """Gather one object of each process, in rank order. They are pickled: among our own processes only."""
    values = [value] * world_size()
    if world_size() > 1:
        torch_dist.all_gather_object(values, value)
    return values


def maxima(values: Sequence[float]) -> list[float]:
    """The largest of each value over all processes, the same everywhere; waits for all of them."""
    if world_size() == 1:
        return list(values)
    device = 'cuda' if torch_dist.get_backend() == 'nccl' else 'cpu'
    largest = torch.tensor(values, dtype=torch.float64, device=device)
    torch_dist.all_reduce(largest, torch_dist.ReduceOp.MAX)
    return largest.tolist()


def of_first(x: Tensor) -> Tensor:
    """The tensor of the first process, on all of them."""
    if world_size() > 1:
        x = x.contiguous()
        torch_dist.broadcast(x, src=0)
    return x


def barrier() -> None:
    """Barrier: return once every process has called it.

    The value is read back: an NCCL collective alone returns to the host before the others have arrived.
    """
    maxima([0.0])


def unwrap(model: Any) -> Any:
    """The model itself, where several processes train it inside DistributedDataParallel."""
    from mmengine.model import is_model_wrapper

    return model.module if is_model_wrapper(model) else model


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum the tensors of all processes; the gradient is the sum of the gradients of all processes."""
    return _AllReduceSum.apply(x) if world_size() > 1 else x


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        torch_dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        torch_dist.all_reduce(grad)  # every process's loss depends on this process's x
        return grad


def _is_running() -> bool:
    return torch_dist.is_available() and torch_dist.is_initialized()
