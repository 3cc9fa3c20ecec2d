"""The only door to ``torch.distributed``: joining the processes of a run, and the few collectives the models need.

Everything works in a single process without a process group, and across processes with NCCL on GPUs or gloo on CPUs.
``python -m mocox.dist`` starts the processes of one machine (see ``tools/dist_train.sh``).
"""

import atexit
import datetime
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor, nn

from mocox.watchdog import BETWEEN, STEP, Watchdog

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: asked to leave, has saved, wants to be started again
MEETING_S = 30.0  # at least, to start and to meet: torch asks a name server for every peer's name, which may be slow
MARGIN_S = 30.0  # by which torch's own timeout comes after ours

_watchdog: Watchdog | None = None


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


def start(launcher: str, timeout_s: float = 600.0) -> None:
    """Joins the processes that a launcher started: NCCL with one GPU each, gloo where there is no GPU.

    Call it before building a ``Runner``: MMEngine then skips its own start-up, which needs a GPU. From here on a
    :class:`~mocox.watchdog.Watchdog` ends this process, with a message that names the culprit, when another one has
    died or hangs.

    Args:
        launcher: ``'none'`` for a single process, ``'pytorch'`` (torchrun), ``'slurm'`` or ``'mpi'``.
        timeout_s: How long the processes may wait for one another in each training step; and here, where it is at
            least half a minute.

    Raises:
        ValueError: Unknown launcher, not started by that launcher, or more processes than GPUs on this machine.
        ConnectionError: The other processes did not arrive in time; the message names those.
    """
    global _watchdog
    if launcher not in LAUNCHERS:
        raise ValueError(f'launcher is {launcher!r}, but must be one of {", ".join(LAUNCHERS)}')
    if launcher == 'none' or _is_running():
        return
    if not timeout_s > 0:
        raise ValueError(f'env_cfg.dist_cfg.timeout={timeout_s}: must be above 0 seconds')
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
    _watchdog = _join('nccl' if num_gpus else 'gloo', timeout_s)


def _join(backend: str, timeout_s: float) -> Watchdog:
    rank, world_size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
    address = f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}'
    meeting_s = max(timeout_s, MEETING_S)
    store, store_of_watchdog = (_open_store(rank, meeting_s) for _ in range(2))
    watchdog = Watchdog(_branch(store_of_watchdog, 'watchdog'), rank, world_size, timeout_s, address)
    watchdog.announce()
    _wait_for_all(_branch(store, 'arrival'), rank, world_size, meeting_s)
    # The watchdog speaks first; what it does not watch (an evaluation, a checkpoint) ends by the timeout of torch.
    timeout = datetime.timedelta(seconds=timeout_s + MARGIN_S)
    store = _branch(store, 'group')
    torch_dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    watchdog.start()
    atexit.register(finish)  # before the interpreter takes the threads down
    return watchdog


def _branch(store: torch_dist.Store, name: str) -> torch_dist.Store:
    """A part of the store for one purpose and one start: ``torchrun --max-restarts`` may keep the store."""
    return torch_dist.PrefixStore(f'mocox/{os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)}/{name}', store)


def _open_store(rank: int, timeout_s: float) -> torch_dist.TCPStore:
    """Connects to the store, which torchrun serves; without it rank 0 does."""
    address, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
    serve = rank == 0 and os.environ.get('TORCHELASTIC_USE_AGENT_STORE') != 'True'
    timeout = datetime.timedelta(seconds=timeout_s)
    try:
        return torch_dist.TCPStore(
            address, port, is_master=serve, timeout=timeout, wait_for_workers=False, multi_tenant=True
        )
    except RuntimeError as error:
        hint = 'is the port taken (set PORT)' if serve else 'was the first machine started, is MASTER_ADDR its address'
        raise ConnectionError(
            f'rank {rank} found no meeting point at {address}:{port} within {timeout_s:g} s: {hint}, '
            f'does a firewall stand between, does the name server answer at once? ({str(error).splitlines()[0][:200]})'
        ) from error


def _wait_for_all(store: torch_dist.Store, rank: int, world_size: int, timeout_s: float) -> None:
    """Waits until all ranks are here: rank 0 looks for each of them, the others for its answer."""
    store.set(str(rank), '')
    awaited = {str(other) for other in range(world_size)} if rank == 0 else {'complete'}
    deadline = time.monotonic() + timeout_s + (0 if rank == 0 else MARGIN_S / 2)  # rank 0 knows who is missing
    while True:
        awaited = {key for key in awaited if not store.check([key])}
        if not awaited or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    missing = ''
    if rank == 0:
        missing = ', '.join(sorted(awaited, key=int))
        store.set('complete', missing)
        time.sleep(1.0 if missing else 0.0)  # the others read it before the store ends with this process
    elif not awaited:
        missing = store.get('complete').decode()
    if awaited or missing:
        raise ConnectionError(
            f'waited {timeout_s:g} s for {world_size} processes; missing: rank {missing or 0}. Was every machine '
            'started, with its own NODE_RANK and the same NNODES and MASTER_ADDR?'
        )


def note_progress(iteration: int, in_step: bool) -> None:
    """Tells the watchdog of a run of several processes where the training loop is; costs nothing without one."""
    if _watchdog:
        _watchdog.note(iteration, STEP if in_step else BETWEEN)


def note_signal() -> None:
    """Tells the watchdog that this process was asked to end, and has not done so."""
    if _watchdog:
        _watchdog.asked_to_end = True


def await_verdict(error: Exception) -> None:
    """After a failed collective: lets the watchdog say who broke it and end this process; else returns at once.

    It does not wait in a process that was asked to end: torchrun asks when it has seen another one die.
    """
    if _watchdog is None or _watchdog.ended or _watchdog.asked_to_end or not _is_collective_error(error):
        return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is left to be saved when torchrun ends its processes
    _watchdog.await_verdict()


def _is_collective_error(error: Exception) -> bool:
    if isinstance(error, torch_dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in ('gloo', 'nccl'))


def finish(failure: str = '') -> None:
    """Ends the watch over this process; call it at the end of a run, with the reason if it failed."""
    if _watchdog:
        _watchdog.finish(failure)


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
            if 'SLURM_JOB_ID' in env:  # jobs on one machine must not share a port
                env.setdefault('MASTER_PORT', env.get('PORT') or str(20000 + int(env['SLURM_JOB_ID']) % 10000))
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
    """Runs ``torchrun`` with these arguments.

    What a worker has printed about its error is not repeated; one that could not print any more is named.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, main

    if '--signals-to-handle' in get_args_parser().format_help():  # torch >= 2.9; before, SIGUSR1 ends torchrun alone
        arguments = ['--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1', *arguments]

    if not torch.cuda.is_available():
        # torchrun gives each process one thread; without GPUs the cores are there to be shared.
        options = [argument.partition('=') for argument in arguments]
        num_processes = next((int(value) for name, _, value in options if name == '--nproc_per_node'), 1)
        os.environ.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1) // num_processes)))
    try:
        main(arguments)
    except SignalException as received:  # its processes have had it too, and 30 s to save
        return EXIT_PREEMPTED if received.sigval in (signal.SIGTERM, signal.SIGUSR1) else 128 + received.sigval
    except ChildFailedError as error:
        for rank, failure in sorted(error.failures.items()):
            if failure.exitcode < 0:
                print(f'error: {describe_death(rank, failure.pid, -failure.exitcode)}', file=sys.stderr, flush=True)
        return next(iter(error.failures.values())).exitcode or 1
    return 0


def describe_death(rank: int, pid: int, signal_number: int) -> str:
    """What to tell a person about a process that a signal ended."""
    name = signal.Signals(signal_number).name
    causes = {
        'SIGKILL': ': if nobody did that, the machine ran out of memory (dmesg tells); fewer loader workers need less',
        'SIGBUS': ': often /dev/shm is full; fewer loader workers, or a larger one (docker run --shm-size)',
        'SIGABRT': ': see the message of NCCL or of the driver above',
    }
    host = socket.gethostname()
    return f'rank {rank} (host {host}, process {pid}) was ended by {name}{causes.get(name, "")}'


if __name__ == '__main__':
    sys.exit(launch(sys.argv[1:]))
