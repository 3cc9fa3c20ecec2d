"""Run a function in several real processes joined by gloo, as ``torchrun`` would on a machine without GPUs.

Starting processes costs seconds, mostly imports, so they are kept for the next call, and fork from a server that has
imported what trainings need.
"""

import datetime
import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

IMPORTED = [f'mocox.{name}' for name in ('models', 'datasets', 'engine', 'monitors', 'evaluation')]
_pools: dict[tuple[int, str], '_Pool'] = {}


def run_processes(fn: Callable, world_size: int, *args: Any, timeout: float = 240.0, preload: str = '') -> list[Any]:
    """Calls ``fn(*args)`` in every one of ``world_size`` processes and returns their results in rank order.

    ``fn`` is a function at the top level of a module, and its arguments and result can be pickled (return tensors
    detached). Inside, the default process group is up, torch uses one thread and the seed is 0.

    Args:
        timeout: Seconds for the whole call, the start of processes included.
        preload: A library whose functions the processes take before those of all others.

    Raises:
        RuntimeError: A process raised or died; the message holds its traceback.
        TimeoutError: A process did not answer in time.
    """
    pool = _pools.pop((world_size, preload), None) or _Pool(world_size, preload)
    try:
        results = pool.call(fn, args, timeout)
    except BaseException:
        pool.kill()
        raise
    _pools[world_size, preload] = pool
    return results


def warm_context() -> ForkServerContext:
    """Starts processes in milliseconds, all but the first."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(IMPORTED)
    return context


class _Pool:
    def __init__(self, world_size: int, preload: str) -> None:
        context = multiprocessing.get_context('spawn') if preload else warm_context()  # a fork loads nothing anew
        self.folder = tempfile.TemporaryDirectory()
        self.pipes, self.processes = [], []
        for rank in range(world_size):
            ours, theirs = context.Pipe()
            self.pipes.append(ours)
            args = (rank, world_size, self.folder.name, theirs)
            self.processes.append(context.Process(target=_serve, args=args, daemon=True))
            with mock.patch.dict(os.environ, LD_PRELOAD=preload) if preload else nullcontext():
                self.processes[-1].start()
            theirs.close()

    def call(self, fn: Callable, args: tuple, timeout: float) -> list[Any]:
        for pipe in self.pipes:
            pipe.send_bytes(pickle.dumps((fn, args)))
        deadline = time.monotonic() + timeout
        results: dict[int, Any] = {}
        while len(results) < len(self.pipes):
            waiting = [pipe for rank, pipe in enumerate(self.pipes) if rank not in results]
            ready = wait(waiting, deadline - time.monotonic())
            if not ready:
                raise TimeoutError(f'{fn.__name__} did not end in {len(self.pipes)} processes within {timeout} s')
            for pipe in ready:
                rank = self.pipes.index(pipe)
                results[rank] = self._receive(rank)
        return [results[rank] for rank in range(len(self.pipes))]

    def _receive(self, rank: int) -> Any:
        try:
            succeeded, answer = pickle.loads(self.pipes[rank].recv_bytes())
        except EOFError:
            raise RuntimeError(f'rank {rank} died') from None
        if not succeeded:
            raise RuntimeError(f'rank {rank}: {answer}')
        return answer

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        self.folder.cleanup()


def _serve(rank: int, world_size: int, folder: str, pipe: Connection) -> None:
    torch.set_num_threads(1)
    for name, value in dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=world_size, LOCAL_WORLD_SIZE=world_size).items():
        os.environ[name] = str(value)
    dist.init_process_group(
        'gloo',
        init_method=Path(folder, 'rendezvous').as_uri(),
        rank=rank,
        world_size=world_size,
        timeout=datetime.timedelta(seconds=120),
    )
    while True:
        try:
            task = pipe.recv_bytes()
        except EOFError:  # the tests have ended
            return
        try:
            pipe.send_bytes(_answer(task))
        except BaseException:
            pipe.send_bytes(pickle.dumps((False, traceback.format_exc())))
        forget_runner()


def _answer(task: bytes) -> bytes:
    torch.manual_seed(0)
    fn, args = pickle.loads(task)
    result = fn(*args)
    dist.barrier()
    return pickle.dumps((True, result))


def forget_runner() -> None:
    """Drops the loggers, message hubs, scopes and visualizers that a ``Runner`` leaves in MMEngine's globals."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer

    for manager in (MMLogger, MessageHub, DefaultScope, Visualizer):
        manager._instance_dict.clear()
