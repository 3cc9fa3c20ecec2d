"""Start the processes of one machine through ``torchrun``."""

import os
import signal
import socket
import subprocess
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

import torch

from mocox.processes import EXIT_PREEMPTED
from mocox.processes.store import free_port, make_token, serve
from mocox.terminal import say

if TYPE_CHECKING:
    from torch.distributed import TCPStore


def launch(arguments: list[str]) -> int:
    """Run ``torchrun`` with these arguments.

    What a worker has printed about its error is not repeated; one that could not print any more is named.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main, parse_args

    names = [name for name in ('SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1') if hasattr(signal, name)]
    arguments = [f'--signals-to-handle={",".join(names)}', *arguments]
    options = parse_args(arguments)
    if not torch.cuda.is_available():
        # torchrun gives each process one thread; without GPUs the cores are there to be shared.
        num_processes = int(options.nproc_per_node) if options.nproc_per_node.isdigit() else 1
        os.environ.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1) // num_processes)))
    try:
        served = _serve(options)  # noqa: F841 (open for as long as this function runs)
        main(arguments)
    except ConnectionError as error:
        print(f'error: {error}', file=sys.stderr, flush=True)
        return 1
    except SignalException as received:  # its processes have had it too, and 30 s to save
        asked = received.sigval in (signal.SIGTERM, getattr(signal, 'SIGUSR1', None))
        return EXIT_PREEMPTED if asked else 128 + received.sigval
    except ChildFailedError as error:
        for rank, failure in sorted(error.failures.items()):
            if failure.exitcode < 0:
                print(f'error: {describe_death(rank, failure.pid, -failure.exitcode)}', file=sys.stderr, flush=True)
        return next(iter(error.failures.values())).exitcode or 1
    return 0


def train_in_processes(config: str, work_dir: str, num_processes: int, resume: bool = False) -> None:
    """Trains what a config describes in several processes of this machine, and prints what they print.

    For programs and notebooks: they need no ``if __name__ == '__main__'``, since nothing of theirs is run again.

    Raises:
        ChildProcessError: A process has failed; what it said was printed.
    """
    command = [sys.executable, '-m', 'mocox.processes', f'--nproc_per_node={num_processes}']
    command += [f'--master_port={free_port()}', '-m', 'mocox', 'train', config, '--work-dir', work_dir]
    command += ['--launcher', 'pytorch']
    command += ['--resume'] if resume else []
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))  # mocox may be imported from anywhere
    pipes: dict[str, Any] = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
    with subprocess.Popen(command, env=environment, **pipes) as started:
        try:
            for line in started.stdout or ():
                say(line.rstrip('\n'))
        except BaseException:  # an interrupt: the processes save and end
            started.terminate()
            raise
    if started.returncode:
        raise ChildProcessError(f'the training of {num_processes} processes ended with exit code {started.returncode}')


def _serve(options: Namespace) -> 'TCPStore | None':
    """Open the store before torchrun, which reuses this process's store at its port."""
    if options.rdzv_backend != 'static' or options.rdzv_endpoint or options.standalone:
        return None
    one_machine = options.nnodes in ('1', '1:1')
    if one_machine:
        make_token()
    if options.node_rank != 0:
        return None
    return serve(options.master_addr, options.master_port or 29500, one_machine, timeout_s=600)


def describe_death(rank: int, pid: int, signal_number: int) -> str:
    """Describe the death of a process that a signal ended."""
    name = signal.Signals(signal_number).name
    causes = {
        'SIGKILL': ': if nobody sent it, the machine ran out of memory (see dmesg); use fewer loader workers',
        'SIGBUS': ': often /dev/shm is full; fewer loader workers, or a larger one (docker run --shm-size)',
        'SIGABRT': ': see the message of NCCL or of the driver above',
    }
    host = socket.gethostname()
    return f'rank {rank} (host {host}, process {pid}) was ended by {name}{causes.get(name, "")}'
