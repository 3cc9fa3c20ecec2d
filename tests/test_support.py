import os
import time

import pytest
import torch
import torch.distributed as dist

from tests.support.processes import run_processes

pytestmark = pytest.mark.dist


def add_ranks(start: float) -> tuple[int, torch.Tensor, float]:
    x = torch.tensor([start + dist.get_rank()])
    dist.all_reduce(x)
    return dist.get_rank(), x, torch.rand(1).item()


def fail_on_rank_one() -> None:
    if dist.get_rank() == 1:
        raise ValueError('this is why')
    dist.barrier()


def hang_on_rank_one() -> None:
    time.sleep(60 * dist.get_rank())


def die_on_rank_one() -> None:
    os._exit(dist.get_rank())


def test_results_come_in_rank_order_from_kept_processes():
    for start in (1.0, 2.0):
        (rank0, sum0, random0), (rank1, sum1, random1) = run_processes(add_ranks, 2, start)
        assert (rank0, rank1) == (0, 1)
        assert sum0 == sum1 == 2 * start + 1
        torch.manual_seed(0)
        assert random0 == random1 == torch.rand(1).item()


def test_failures_are_told_apart_and_do_not_last():
    run_processes(add_ranks, 2, 0.0)  # so that the time below is not that of starting
    with pytest.raises(TimeoutError, match='hang_on_rank_one did not end in 2 processes'):
        run_processes(hang_on_rank_one, 2, timeout=2)
    with pytest.raises(RuntimeError, match='rank 1: Traceback(.|\n)*ValueError: this is why'):
        run_processes(fail_on_rank_one, 2)
    with pytest.raises(RuntimeError, match='rank [01] died'):
        run_processes(die_on_rank_one, 2)
    assert len(run_processes(add_ranks, 2, 0.0)) == 2
