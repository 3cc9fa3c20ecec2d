"""The only door to ``torch.distributed``: joining the processes of a run, and the few collectives the models need.

Everything works in a single process without a process group, and across processes with NCCL on GPUs or gloo on CPUs.
``python -m mocox.dist`` starts the processes of one machine (see ``tools/dist_train.sh``).
"""

import datetime
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor, nn

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def world_size() -> int:
    """The number of processes; 1 without a process group."""
    return torch_dist.get_world_size() if _is_running() else 1


def rank() -> int:
    """The number of this process, from 0; 0 without a process group."""
    return torch_dist.get_rank() if _is_running() else 0


def rank_offset(num_rows: int) -> int:
    """Where the rows of this process begin in what :func:`gather_rows` returns."""
    return rank() * num_rows


def gather_rows(x: Tensor) -> Tensor:
    """Concatenates the rows of every process, in rank order; one process gets its own tensor back.

    No gradient flows through. Every process must pass a tensor of the same shape, as equal batches do.

    Args:
        x: (N, ...).

    Returns:
        (world_size * N, ...).
    """
    return start_gathering(x)()


def start_gathering(x: Tensor) -> Callable[[], Tensor]:
    """Starts :func:`gather_rows` and returns at once; what it returns waits for the rows and gives them.

    What is computed in between overlaps with the communication.
    """
    x = x.detach()
    if world_size() == 1:
        return lambda: x
    x = x.contiguous()
    rows = x.new_empty(world_size() * len(x), *x.shape[1:])
    work = torch_dist.all_gather_into_tensor(rows, x, async_op=True)

    def wait() -> Tensor:
        work.wait()
        return rows

    return wait


@torch.no_grad()
def exchange_rows(x: Tensor, order: Tensor) -> Tensor:
    """This process's share of all processes' rows in another order; only the rows of a share travel to it.

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
    """What every process passes, in rank order. It is pickled on the way: among our own processes only."""
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


def unwrap(model: nn.Module) -> nn.Module:
    """The model itself, where several processes train it inside DistributedDataParallel."""
    from mmengine.model import is_model_wrapper

    return model.module if is_model_wrapper(model) else model


def all_reduce_sum(x: Tensor) -> Tensor:
    """Adds up the tensors of all processes; the gradient is the sum of the gradients of all processes."""
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


def start(launcher: str, timeout_s: float = 1800.0) -> None:
    """Joins the processes that a launcher started: NCCL with one GPU each, gloo where there is no GPU.

    Call it before building a ``Runner``: MMEngine then skips its own start-up, which needs a GPU.

    Args:
        launcher: ``'none'`` for a single process, ``'pytorch'`` (torchrun), ``'slurm'`` or ``'mpi'``.
        timeout_s: How long a collective may wait for the other processes.

    Raises:
        ValueError: Unknown launcher, not started by that launcher, or more processes than GPUs on this machine.
    """
    if launcher not in LAUNCHERS:
        raise ValueError(f'launcher is {launcher!r}, but must be one of {", ".join(LAUNCHERS)}')
    if launcher == 'none' or _is_running():
        return
    local_rank, local_size = _read_environment(launcher)
    num_gpus = torch.cuda.device_count()
    if num_gpus:
        # A slurm step that binds GPUs to tasks shows each task only its own.
        bound = 'SLURM_GPUS_PER_TASK' in os.environ
        if not bound and local_size > num_gpus:
            raise ValueError(
                f'{local_size} processes were started on this machine, but it has {num_gpus} GPU(s): start at most '
                f'{num_gpus} (tools/dist_train.sh CONFIG {num_gpus}), or set CUDA_VISIBLE_DEVICES="" to use the CPU'
            )
        torch.cuda.set_device(local_rank % num_gpus)
    torch_dist.init_process_group('nccl' if num_gpus else 'gloo', timeout=datetime.timedelta(seconds=timeout_s))


def _is_running() -> bool:
    return torch_dist.is_available() and torch_dist.is_initialized()


def _read_environment(launcher: str) -> tuple[int, int]:
    """Fills in what ``init_process_group`` reads from the environment; returns the local rank and the local size."""
    env = os.environ
    try:
        if launcher == 'slurm':
            nodes = env['SLURM_NODELIST']
            env.update(RANK=env['SLURM_PROCID'], WORLD_SIZE=env['SLURM_NTASKS'], LOCAL_RANK=env['SLURM_LOCALID'])
            if 'MASTER_ADDR' not in env:
                answer = subprocess.run(
                    ['scontrol', 'show', 'hostnames', nodes], stdout=subprocess.PIPE, text=True, check=True
                )
                env['MASTER_ADDR'] = answer.stdout.split()[0]
            # "4(x2),1" means 4 tasks on each of two nodes and 1 on the third.
            tasks = env.get('SLURM_STEP_TASKS_PER_NODE') or env['SLURM_TASKS_PER_NODE']
            local_size = max(int(part.split('(')[0]) for part in tasks.split(','))
        elif launcher == 'mpi':
            env.update(
                RANK=env['OMPI_COMM_WORLD_RANK'],
                WORLD_SIZE=env['OMPI_COMM_WORLD_SIZE'],
                LOCAL_RANK=env['OMPI_COMM_WORLD_LOCAL_RANK'],
            )
            env.setdefault('MASTER_ADDR', 'localhost')
            local_size = int(env['OMPI_COMM_WORLD_LOCAL_SIZE'])
        else:
            local_size = int(env.get('LOCAL_WORLD_SIZE', env['WORLD_SIZE']))
        env.setdefault('MASTER_PORT', '29500')
        return int(env['LOCAL_RANK']), local_size
    except KeyError as error:
        raise ValueError(
            f'launcher is {launcher!r}, but the environment variable {error.args[0]} is not set: start the processes '
            'with tools/dist_train.sh or tools/slurm_train.sh, or use --launcher none'
        ) from None


def launch(arguments: list[str]) -> int:
    """Runs ``torchrun`` with these arguments; what a worker has printed about its error is not repeated."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    if not torch.cuda.is_available():
        # torchrun gives each process one thread; without GPUs the cores are there to be shared.
        options = [argument.partition('=') for argument in arguments]
        num_processes = next((int(value) for name, _, value in options if name == '--nproc_per_node'), 1)
        os.environ.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1) // num_processes)))
    try:
        main(arguments)
    except ChildFailedError as error:
        return next(iter(error.failures.values())).exitcode or 1
    return 0


if __name__ == '__main__':
    sys.exit(launch(sys.argv[1:]))
