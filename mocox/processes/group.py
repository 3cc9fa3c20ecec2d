"""Join the processes of a run, and report this one's position to the watchdog."""

import atexit
import datetime
import os
import signal
import socket
import subprocess
import time

import torch
import torch.distributed as torch_dist

from mocox import dist
from mocox.processes import LAUNCHERS
from mocox.processes.store import TOKEN, SignedStore, branch, serve
from mocox.processes.watchdog import BETWEEN, STEP, Watchdog

MEETING_S = 30.0  # at least, to start and to meet: torch asks a name server for every peer's name, which may be slow
MARGIN_S = 30.0  # by which torch's own timeout comes after ours

_watchdog: Watchdog | None = None
_meetings: SignedStore | None = None
_num_meetings = 0
_served: torch_dist.TCPStore | None = None
ends_with_run = False  # this process is one of the command line tools


def start(launcher: str, timeout_s: float = 600.0) -> None:
    """Join the processes that a launcher started: NCCL with one GPU each, gloo without GPUs.

    Call it before building a ``Runner``: MMEngine then skips its own start-up, which needs a GPU. From here on a
    :class:`~mocox.processes.watchdog.Watchdog` ends this process, with a message that names the culprit, when another
    one has died or hangs.

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
    if launcher == 'none' or (torch_dist.is_available() and torch_dist.is_initialized()):
        return
    if not timeout_s > 0:
        raise ValueError(f'env_cfg.dist_cfg.timeout={timeout_s}: must be above 0 seconds')
    local_rank, local_size = _read_environment(launcher)
    _share_compilers(local_size)
    num_gpus = torch.cuda.device_count()
    if num_gpus:
        if not (launcher == 'slurm' and _is_bound(num_gpus)) and local_size > num_gpus:
            raise ValueError(
                f'{local_size} processes were started on this machine, but it has {num_gpus} GPU(s): start at most '
                f'{num_gpus} (tools/dist_train.sh CONFIG {num_gpus}), or set CUDA_VISIBLE_DEVICES="" to use the CPU'
            )
        torch.cuda.set_device(local_rank % num_gpus)
    _watchdog = _join('nccl' if num_gpus else 'gloo', timeout_s, _is_one_machine(launcher, local_size))


def _is_one_machine(launcher: str, local_size: int) -> bool:
    told = launcher != 'pytorch' or 'LOCAL_WORLD_SIZE' in os.environ
    return told and local_size == int(os.environ['WORLD_SIZE'])


def _share_compilers(local_size: int) -> None:
    """Divide the machine's cores among its processes, each of which would start up to 32 compilers of its own."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    os.environ.setdefault('TORCHINDUCTOR_COMPILE_THREADS', str(max(1, min(32, cores // local_size))))


def _is_bound(num_gpus: int) -> bool:
    """True if a Slurm step shows each task only its own GPUs: it says so, or there are more than this task sees."""
    gpus_on_node = os.environ.get('SLURM_GPUS_ON_NODE', '')
    hidden = gpus_on_node.isdigit() and int(gpus_on_node) > num_gpus
    return 'SLURM_GPUS_PER_TASK' in os.environ or hidden


def _join(backend: str, timeout_s: float, one_machine: bool) -> Watchdog:
    global _meetings, _served
    if one_machine:  # gloo would listen at the address that the machine's name has
        for _, name in socket.if_nameindex():
            if name in ('lo', 'lo0'):
                os.environ.setdefault('GLOO_SOCKET_IFNAME', name)
    rank, world_size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
    address = f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}'
    meeting_s = max(timeout_s, MEETING_S)
    if rank == 0 and os.environ.get('TORCHELASTIC_USE_AGENT_STORE') != 'True':
        _served = serve(os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']), one_machine, meeting_s)
    store, store_of_watchdog = _served or _open_store(rank, meeting_s), _open_store(rank, meeting_s)
    watchdog = Watchdog(SignedStore(store_of_watchdog, 'watchdog'), rank, world_size, timeout_s, address)
    watchdog.announce()
    _wait_for_all(SignedStore(store, 'arrival'), rank, world_size, meeting_s)
    # The watchdog fires first; phases that it does not watch (an evaluation, a checkpoint) end by torch's timeout.
    timeout = datetime.timedelta(seconds=timeout_s + MARGIN_S)
    _meetings = SignedStore(store, 'meetings')
    groups = branch(store, 'group')
    torch_dist.init_process_group(backend, store=groups, rank=rank, world_size=world_size, timeout=timeout)
    watchdog.start()
    atexit.register(finish)  # before the interpreter takes the threads down
    return watchdog


def _open_store(rank: int, timeout_s: float) -> torch_dist.TCPStore:
    """Connect to the store, which torchrun serves, or rank 0 without torchrun."""
    address, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
    timeout = datetime.timedelta(seconds=timeout_s)
    try:
        return torch_dist.TCPStore(address, port, is_master=False, timeout=timeout, wait_for_workers=False)
    except RuntimeError as error:
        raise ConnectionError(
            f'rank {rank} could not reach rank 0 at {address}:{port} within {timeout_s:g} s: was the first machine '
            'started, is MASTER_ADDR its address, is a firewall in between, does the name server answer at once? '
            f'({str(error).splitlines()[0][:200]})'
        ) from error


def _wait_for_all(arrivals: SignedStore, rank: int, world_size: int, timeout_s: float) -> None:
    """Wait until all ranks have arrived: rank 0 looks for each of them, the others for its answer.

    Only what is signed counts, so that no stranger can report a rank as present or missing.
    """
    arrivals.set(str(rank), 'here')
    awaited = {str(other) for other in range(world_size)} if rank == 0 else {'complete'}
    deadline = time.monotonic() + timeout_s + (0 if rank == 0 else MARGIN_S / 2)  # rank 0 knows who is missing
    while True:
        awaited = {key for key in awaited if not arrivals.holds([key])}
        if not awaited or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    missing = ''
    if rank == 0:
        missing = ', '.join(sorted(awaited, key=int))
        arrivals.set('complete', f'missing: {missing}')
        time.sleep(1.0 if missing else 0.0)  # the others read it before the store ends with this process
    elif not awaited:
        missing = arrivals.get('complete').removeprefix('missing: ')
    if awaited or missing:
        raise ConnectionError(
            f'waited {timeout_s:g} s for {world_size} processes; missing: rank {missing or 0}. Was every machine '
            f'started, with its own NODE_RANK and the same NNODES, MASTER_ADDR and {TOKEN}?'
        )


def meet() -> None:
    """Barrier without a timeout: return once every process has called it.

    For work whose length differs between processes, such as an evaluation: a collective would end the run once its
    timeout is over. The watchdog still ends it when a process has died.
    """
    global _num_meetings
    if dist.world_size() == 1:
        return
    if _meetings is None:  # the group was opened by somebody else
        dist.barrier()
        return
    _num_meetings += 1
    _meetings.set(f'{_num_meetings}/{dist.rank()}', 'here')
    awaited = [f'{_num_meetings}/{rank}' for rank in range(dist.world_size())]
    while not _meetings.holds(awaited):
        time.sleep(0.05)


def end_with_run() -> None:
    """Say that this process has nothing to do after its run, so that a signal in between may be ignored."""
    global ends_with_run
    ends_with_run = True


def note_progress(iteration: int, in_step: bool) -> None:
    """Report the position of the training loop to the watchdog; costs nothing without one."""
    if _watchdog:
        _watchdog.note(iteration, STEP if in_step else BETWEEN)


def note_signal() -> None:
    """Tell the watchdog that this process was asked to end, and has not yet done so."""
    if _watchdog:
        _watchdog.asked_to_end = True


def await_verdict(error: Exception) -> None:
    """After a failed collective, let the watchdog name the culprit and end this process; otherwise return at once.

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
    """End the watch over this process; call it at the end of a run, with the reason if it failed."""
    if _watchdog:
        _watchdog.finish(failure)


def close() -> None:
    """Close the group of a successful run; NCCL warns of one left open."""
    if _watchdog and torch_dist.is_initialized():
        torch_dist.destroy_process_group()


def _read_environment(launcher: str) -> tuple[int, int]:
    """Fill in the environment for ``init_process_group``; return the local rank and the local size."""
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
