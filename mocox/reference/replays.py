"""Training on recorded inputs."""

import os
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, multiprocessing

import mocox.engine  # noqa: F401  registers what the config names
from mocox import dist
from mocox.engine.batches import accumulative_counts
from mocox.processes import group
from mocox.reference.case import DTYPES, Case
from mocox.reference.configs import METHODS, build_config
from mocox.registry import MODELS


@dataclass
class ReplayResult:
    """The numbers of a replay.

    Attributes:
        losses: Loss of each step, mean over processes.
        lr: Learning rate used in each step.
        momentum: Coefficient of the momentum encoder used in each step.
        state: Final state in the official naming.
        outputs: Outputs for the probe images, by the trace's names.
        validation: Linear probe: loss and accuracy after each epoch.
    """

    losses: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    momentum: list[float] = field(default_factory=list)
    state: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    validation: list[dict] = field(default_factory=list)


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
            return _train(config, case)
        out = Path(work_dir) / 'result.pt'
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        multiprocessing.spawn(_train_rank, (world_size, port, config, case, out), nprocs=world_size)
        return ReplayResult(**torch.load(out, weights_only=True))


class TraceHook(Hook):
    """Records loss, learning rate and momentum coefficient of every optimizer step."""

    priority = 'HIGH'  # before the schedule moves on

    def __init__(self, result: ReplayResult, validation: list[tuple[Tensor, Tensor]]) -> None:
        self.result = result
        self.validation = validation

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if (runner.iter + 1) % accumulative_counts(runner.optim_wrapper):
            return
        loss = dist.all_reduce_sum(outputs['loss'].detach().clone().double()) / dist.world_size()
        self.result.losses.append(loss.item())
        self.result.lr.append(runner.optim_wrapper.param_groups[0]['lr'])
        self.result.momentum.append(getattr(dist.unwrap(runner.model), 'momentum', None))

    def after_train_epoch(self, runner: Runner) -> None:
        if self.validation:
            model = dist.unwrap(runner.model).eval()
            with torch.no_grad():
                scores = torch.cat([model(x) for x, _ in self.validation])
            labels = torch.cat([y for _, y in self.validation])
            accuracy = (scores.argmax(1) == labels).double().mean().item() * 100
            self.result.validation.append(dict(loss=F.cross_entropy(scores, labels).item(), acc1=accuracy))
            model.train()


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
    result = _train(config, case)
    if rank == 0:
        torch.save(vars(result), out)
    dist.barrier()
    torch.distributed.destroy_process_group()


def _train(config: Config, case: Case) -> ReplayResult:
    method = METHODS[case.spec['method']]
    model = MODELS.build(config.model).to(DTYPES[case.precision])
    runner_config = {k: v for k, v in config.items() if k not in ('model', 'model_wrapper_cfg')}
    runner = Runner(model=model, experiment_name=Path(config.work_dir).name, cfg=config, **runner_config)
    result = ReplayResult()
    inputs = case.tensors('inputs')
    validation = [(inputs[k], inputs[k[:-1] + 'y']) for k in sorted(inputs) if k.startswith('val') and k[-1] == 'x']
    runner.register_hook(TraceHook(result, validation))
    runner.register_hook(InitialState(method, case))
    runner.train()
    model.eval()
    with torch.no_grad():
        result.outputs = method.outputs(model, inputs['probe.x'])
    result.state = method.official_state(model, case.spec)
    return result


class InitialState(Hook):
    """Loads the recorded initial state where a checkpoint would be loaded: after initialisation, before training."""

    priority = 'VERY_HIGH'

    def __init__(self, method: type, case: Case) -> None:
        self.method = method
        self.case = case

    def before_train(self, runner: Runner) -> None:
        self.method.load(dist.unwrap(runner.model), self.case)
