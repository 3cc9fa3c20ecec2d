"""Starts the processes of one machine through ``torchrun``."""

import os
import signal
import socket
import sys

import torch

from mocox.processes import EXIT_PREEMPTED


def launch(arguments: list[str]) -> int:
    """Runs ``torchrun`` with these arguments.

    What a worker has printed about its error is not repeated; one that could not print any more is named.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

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
