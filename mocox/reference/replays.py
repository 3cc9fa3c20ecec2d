"""Training on recorded inputs."""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import multiprocessing

import mocox.engine  # noqa: F401  registers what the config names
from mocox import dist
from mocox.processes import group
from mocox.processes.store import free_port
from mocox.reference.case import DTYPES, SUFFIX, Case
from mocox.reference.configs import METHODS, build_config
from mocox.reference.recorder import ReplayResult, TraceHook
from mocox.registry import MODELS


def replay(
    case: Case, chunk_size: int | None = None, accumulation: int = 1, optimizer_options: dict | None = None
) -> ReplayResult:
    """Train on the recorded inputs, in processes of its own unless there are as many as the trace has already.

    Args:
        case: The trace.
        chunk_size: Images per backbone pass; must not change the result.
        accumulation: Micro-batches per optimizer step, each the recorded batch; must not change losses and weights
            (BatchNorm's running statistics do see every micro-batch).
        optimizer_options: Further arguments of the optimizer, such as ``fused``; must not change the result.
    """
    world_size = case.spec['train']['world_size']
    with tempfile.TemporaryDirectory() as work_dir:
        config = build_config(case, work_dir, chunk_size, accumulation)
        config.optim_wrapper.optimizer.update(optimizer_options or {})
        if world_size == dist.world_size():
            return _replay_here(config, case)
        out = Path(work_dir) / 'result.pt'
        multiprocessing.spawn(_train_rank, (world_size, free_port(), config, case, out), nprocs=world_size)
        return ReplayResult(**torch.load(out, weights_only=True))


def _train_rank(rank: int, world_size: int, port: int, config: Config, case: Case, out: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port),
    )
    group.start('pytorch')
    result = _replay_here(config, case)
    if rank == 0:
        torch.save(vars(result), out)
    dist.barrier()
    torch.distributed.destroy_process_group()


def _replay_here(config: Config, case: Case) -> ReplayResult:
    result = _train(config, case)
    if any(name.endswith(f'identity_shuffle_{SUFFIX[case.precision]}') for name in case.spec['expected']):
        result.unshuffled = _train(config, case, shuffle=False).rank_losses
    return result


def _train(config: Config, case: Case, shuffle: bool = True) -> ReplayResult:
    method = METHODS[case.spec['method']]
    model: Any = MODELS.build(config.model).to(DTYPES[case.precision])
    runner_config = {k: v for k, v in config.items() if k not in ('model', 'model_wrapper_cfg')}
    name = f'{Path(config.work_dir).name}_{shuffle}'
    runner = Runner(model=model, experiment_name=name, cfg=config, **runner_config)
    result = ReplayResult()
    inputs = case.tensors('inputs')
    validation = [(inputs[k], inputs[k[:-1] + 'y']) for k in sorted(inputs) if k.startswith('val') and k[-1] == 'x']
    runner.register_hook(TraceHook(result, method, case.spec, validation))
    runner.register_hook(InitialState(method, case, shuffle))
    runner.train()
    model.eval()
    with torch.no_grad():
        result.outputs = method.outputs(model, inputs['probe.x'])
    result.state = method.official_state(model.state_dict(), case.spec)
    result.final_momentum = getattr(model, 'momentum', None)
    return result


class InitialState(Hook):
    """Loads the recorded initial state where a checkpoint would be loaded: after initialisation, before training."""

    priority = 'VERY_HIGH'

    def __init__(self, method: Any, case: Case, shuffle: bool) -> None:
        self.method, self.case, self.shuffle = method, case, shuffle

    def before_train(self, runner: Runner) -> None:
        model = dist.unwrap(runner.model)
        self.method.load(model, self.case)
        if not self.shuffle:
            model.draw_permutation = lambda num_rows, iteration: torch.arange(num_rows)
