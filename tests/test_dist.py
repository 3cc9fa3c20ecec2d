import os
import re

import pytest
import torch

from mocox import dist
from mocox.processes import group
from mocox.processes.launch import describe_death
from tests.support.processes import run_processes


def use_collectives(num_rows: int) -> dict:
    x = torch.arange(num_rows * 2.0).view(num_rows, 2) + 100 * dist.rank()
    order = torch.randperm(2 * num_rows, generator=torch.Generator().manual_seed(num_rows))
    y = torch.tensor([1.0 + dist.rank()], requires_grad=True)
    (dist.all_reduce_sum(y) * (dist.rank() + 1)).backward()
    parameter = x.clone().requires_grad_()
    return dict(
        rows=dist.gather_rows(parameter),
        transposed=dist.gather_rows(x.t()),
        offset=dist.rank_offset(num_rows),
        size=dist.world_size(),
        total=dist.all_reduce_sum(y).detach(),
        y=y.detach(),
        grad=y.grad,
        half=dist.gather_rows(x.bfloat16()),
        integers=dist.gather_rows(x.long()),
        exchanged=[dist.exchange_rows(y, order) for y in (x, x.bfloat16(), x.view(num_rows, 1, 2))],
        order=order,
    )


@pytest.mark.dist
def test_collectives_of_two_processes():
    results = run_processes(use_collectives, 2, 3)
    mine = torch.arange(6.0).view(3, 2)
    rows = torch.cat([mine, mine + 100])
    for rank, result in enumerate(results):
        assert torch.equal(result['rows'], rows)
        assert not result['rows'].requires_grad
        assert torch.equal(result['transposed'], torch.cat([mine.t(), mine.t() + 100]))
        assert torch.equal(result['half'], rows.bfloat16())
        assert torch.equal(result['integers'], rows.long())
        share = rows[result['order']][rank * 3 : rank * 3 + 3]
        for exchanged, dtype in zip(result['exchanged'], (None, torch.bfloat16, None), strict=True):
            assert torch.equal(exchanged.flatten(1), share.to(dtype))
        assert result['offset'] == rank * 3
        assert result['size'] == 2
        assert result['total'] == 3  # 1 + 2
        assert result['y'] == 1 + rank  # the input is left alone
        assert result['grad'] == 3  # the losses are 1 x total and 2 x total


def test_one_process_needs_no_group():
    x = torch.randn(3, 2, requires_grad=True)
    assert torch.equal(dist.gather_rows(x), x)
    assert not dist.gather_rows(x).requires_grad
    assert torch.equal(dist.start_gathering(x)(), x)
    assert torch.equal(dist.exchange_rows(x, torch.tensor([2, 0, 1])), x[[2, 0, 1]])
    assert dist.all_reduce_sum(x) is x
    assert (dist.world_size(), dist.rank(), dist.rank_offset(3)) == (1, 0, 0)
    group.start('none')
    assert not torch.distributed.is_initialized()


@pytest.fixture
def environment(monkeypatch):
    """An environment without any launcher's variables, and a way to set some."""
    for name in list(os.environ):
        if name.startswith(('SLURM_', 'OMPI_', 'MASTER_')) or name.endswith(('RANK', 'WORLD_SIZE')):
            monkeypatch.delenv(name)
    return lambda **values: [monkeypatch.setenv(name, str(value)) for name, value in values.items()]


@pytest.mark.parametrize(
    ('launcher', 'missing'), [('pytorch', 'WORLD_SIZE'), ('slurm', 'SLURM_NODELIST'), ('mpi', 'OMPI_COMM_WORLD_RANK')]
)
def test_not_started_by_the_launcher(environment, launcher, missing):
    with pytest.raises(ValueError, match=f'{missing} is not set.*dist_train.sh'):
        group.start(launcher)


def test_unknown_launcher():
    with pytest.raises(ValueError, match="'torchrun'.*none, pytorch, slurm, mpi"):
        group.start('torchrun')


STARTED_BY = {
    'pytorch': dict(RANK=3, LOCAL_RANK=3, WORLD_SIZE=4, LOCAL_WORLD_SIZE=4, MASTER_ADDR='localhost'),
    'slurm': dict(
        SLURM_NODELIST='n1',
        SLURM_PROCID=3,
        SLURM_NTASKS=8,
        SLURM_LOCALID=3,
        SLURM_TASKS_PER_NODE='4(x2)',
        MASTER_ADDR='n1',
    ),
    'mpi': dict(
        OMPI_COMM_WORLD_RANK=3, OMPI_COMM_WORLD_SIZE=4, OMPI_COMM_WORLD_LOCAL_RANK=3, OMPI_COMM_WORLD_LOCAL_SIZE=4
    ),
}


@pytest.mark.parametrize('launcher', STARTED_BY)
def test_more_processes_than_gpus(environment, monkeypatch, launcher):
    environment(**STARTED_BY[launcher])
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    with pytest.raises(ValueError, match=r'4 processes .* 2 GPU\(s\).*dist_train.sh CONFIG 2'):
        group.start(launcher)


@pytest.mark.parametrize('launcher', STARTED_BY)
@pytest.mark.parametrize(('num_gpus', 'backend'), [(4, 'nccl'), (0, 'gloo')])
def test_backend_and_device(environment, monkeypatch, launcher, num_gpus, backend):
    environment(**STARTED_BY[launcher])
    calls = []
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: num_gpus)
    monkeypatch.setattr(torch.cuda, 'set_device', lambda device: calls.append(device))
    monkeypatch.setattr(group, '_join', lambda backend, *_: calls.append(backend))
    group.start(launcher)
    assert calls == ([3, 'nccl'] if num_gpus else ['gloo'])
    assert (os.environ['RANK'], os.environ['LOCAL_RANK'], os.environ['MASTER_PORT']) == ('3', '3', '29500')
    assert os.environ['WORLD_SIZE'] == ('8' if launcher == 'slurm' else '4')


@pytest.mark.parametrize(('given', 'port'), [({}, '21234'), (dict(PORT='29777'), '29777')])
def test_jobs_of_slurm_on_one_machine_have_ports_of_their_own(environment, monkeypatch, given, port):
    environment(**STARTED_BY['slurm'], SLURM_JOB_ID=7671234, **given)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    monkeypatch.setattr(group, '_join', lambda *_: None)
    group.start('slurm')
    assert os.environ['MASTER_PORT'] == port


@pytest.mark.parametrize(
    ('variables', 'fits'),
    [
        (dict(SLURM_GPUS_PER_TASK=1), True),
        (dict(SLURM_GPUS_ON_NODE=4), True),  # --gpu-bind=single:1 shows each of the four tasks one of them
        (dict(SLURM_GPUS_ON_NODE=1), False),
        ({}, False),
    ],
)
def test_a_slurm_step_that_binds_gpus_shows_each_task_its_own(environment, monkeypatch, variables, fits):
    environment(**STARTED_BY['slurm'], **variables)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'set_device', lambda device: None)
    monkeypatch.setattr(group, '_join', lambda *_: None)
    if fits:
        group.start('slurm')
    else:
        with pytest.raises(ValueError, match=r'4 processes .* 1 GPU\(s\)'):
            group.start('slurm')


def test_a_timeout_must_be_a_time(environment):
    with pytest.raises(ValueError, match='timeout=0.* above 0'):
        group.start('pytorch', timeout_s=0)


def test_no_meeting_point(environment, monkeypatch):
    monkeypatch.setattr(group, 'MEETING_S', 0.5)
    environment(RANK=1, LOCAL_RANK=0, WORLD_SIZE=2, MASTER_ADDR='127.0.0.1', MASTER_PORT=9)  # nobody serves there
    with pytest.raises(
        ConnectionError, match=r'rank 1 could not reach rank 0 at 127.0.0.1:9 within 1 s: was the first'
    ):
        group.start('pytorch', timeout_s=1)


def test_only_errors_of_collectives_await_a_verdict():
    wait = '[third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:7'
    assert group._is_collective_error(RuntimeError(wait))
    assert group._is_collective_error(torch.distributed.DistBackendError('NCCL error in: ...'))
    assert not group._is_collective_error(RuntimeError('mat1 and mat2 shapes cannot be multiplied'))
    assert not group._is_collective_error(ValueError('gloo'))
    group.await_verdict(RuntimeError(wait))  # returns at once where there is no run of several processes


@pytest.mark.parametrize(('number', 'cause'), [(9, 'SIGKILL: .*out of memory'), (7, 'SIGBUS: .*shm'), (11, 'SIGSEGV$')])
def test_a_death_by_signal_is_described(number, cause):
    assert re.search(rf'^rank 3 \(host .*, process 77\) was ended by {cause}', describe_death(3, 77, number))


def test_processes_of_a_machine_share_its_compilers(monkeypatch):
    """What torch would start in each process: all cores, up to 32."""
    from torch._inductor.config import decide_compile_threads

    monkeypatch.delenv('TORCHINDUCTOR_COMPILE_THREADS', raising=False)
    alone = decide_compile_threads()
    group._share_compilers(local_size=1)
    assert decide_compile_threads() == alone
    monkeypatch.delenv('TORCHINDUCTOR_COMPILE_THREADS')
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: range(64), raising=False)
    group._share_compilers(local_size=8)
    assert decide_compile_threads() == 8
    group._share_compilers(local_size=2)  # what a user has set stays
    assert decide_compile_threads() == 8
