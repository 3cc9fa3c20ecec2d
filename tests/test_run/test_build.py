"""What a run sets before it joins its processes, and closes after it."""

import os

import pytest
import torch.distributed as torch_dist
from mmengine.config import Config

from mocox import cli
from mocox.processes import group
from mocox.run.build import build_runner


class Stop(Exception):
    pass


@pytest.mark.parametrize(('deterministic', 'set_before', 'expected'), [
    (True, None, ':4096:8'), (True, ':16:8', ':16:8'), (False, None, None),
])  # fmt: skip
def test_a_deterministic_run_gives_cublas_its_workspace_before_cuda_starts(
    deterministic, set_before, expected, monkeypatch
):
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG', raising=False)
    if set_before:
        monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', set_before)
    found = []

    def start(*_: object) -> None:
        found.append(os.environ.get('CUBLAS_WORKSPACE_CONFIG'))
        raise Stop

    monkeypatch.setattr(group, 'start', start)
    with pytest.raises(Stop):
        build_runner(Config(dict(launcher='none', randomness=dict(deterministic=deterministic))))
    assert found == [expected]


class Watchdog:
    def finish(self, failure: str) -> None:
        assert not failure


def test_a_run_that_succeeds_closes_its_group(monkeypatch, tmp_path):
    """NCCL warns of one that nobody closes."""
    monkeypatch.setattr(group, '_watchdog', Watchdog())
    torch_dist.init_process_group('gloo', init_method=(tmp_path / 'meeting').as_uri(), rank=0, world_size=1)
    try:
        cli._run(lambda: None, '')
        assert not torch_dist.is_initialized()
    finally:
        if torch_dist.is_initialized():
            torch_dist.destroy_process_group()
