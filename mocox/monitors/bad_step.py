"""Dump of a bad step, and its replay."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn

from mocox import dist
from mocox.checkpoint.files import open_pickle
from mocox.checkpoint.provenance import parse_config
from mocox.monitors.gradients import LayerNorms
from mocox.monitors.rollback import QueueUndo
from mocox.recipe import Recipe
from mocox.registry import MODELS, require_registered
from mocox.terminal import one_line

FORMAT = 'mocox bad step 1'


class StepRecorder:
    """Record what a replay of the current optimizer step needs: its batches, random state, the queue before it."""

    def begin(self, runner: Runner, num_keys: int) -> None:
        """Begin an optimizer step that will write ``num_keys`` keys to a queue, before its first micro-batch."""
        self.batches: list[dict] = []
        self.iteration = runner.iter
        self.rng = torch.get_rng_state()
        self.cuda_rng = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        self.queue = QueueUndo(dist.unwrap(runner.model), num_keys)

    def add(self, batch: dict) -> None:
        """Record a micro-batch."""
        self.batches.append(batch)

    def write(self, path: Path, runner: Runner, reason: str, norms: dict[str, float], exact: bool) -> None:
        """Write tensors and plain types only: the file loads with ``weights_only=True``.

        Weights, queue and optimizer are equal in all processes: the first writes them, so that no other keeps the
        step waiting for gigabytes; the files of the others hold their batches and generators.

        Args:
            path: The file; its folder is made, not that of the run.
            runner: The run, stopped between backward pass and update.
            reason: In words.
            norms: Gradient norm of each layer.
            exact: Whether the weights are still those of the step.
        """
        model = dist.unwrap(runner.model)
        state = None
        if runner.rank == 0:
            state = dict(model.state_dict())
            self.queue.apply(state)
        path.parent.mkdir(exist_ok=True)
        dtype = getattr(runner.optim_wrapper, 'dtype', None)
        content = dict(
            format=FORMAT,
            reason=reason,
            exact=exact,
            iteration=self.iteration,
            epoch=runner.epoch,
            rank=runner.rank,
            world_size=runner.world_size,
            norms=norms,
            config=runner.cfg.pretty_text,
            autocast=str(dtype).removeprefix('torch.') if dtype else None,
            batches=self.batches,
            state_dict=state,
            optimizer=runner.optim_wrapper.state_dict() if runner.rank == 0 else None,
            momentum=float(model.momentum) if hasattr(model, 'momentum') else None,
            rng=self.rng,
            cuda_rng=self.cuda_rng,
        )
        torch.save(content, path)


@dataclass
class Replay:
    """The result of a repeated step.

    Args:
        dump: The file's content.
        losses: Of each micro-batch.
        norms: Gradient norm of each layer.
        first_bad: The first module, in the order of execution, with an output that is not finite, and what it is.
        bad_inputs: Images per micro-batch that are not finite after augmentation.
    """

    dump: dict[str, Any]
    losses: list[float]
    norms: dict[str, float]
    first_bad: tuple[str, str] | None
    bad_inputs: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        dump = self.dump
        lines = [f'iteration {dump["iteration"]}, epoch {dump["epoch"] + 1}: {dump["reason"]}']
        if dump['world_size'] > 1:
            lines.append(
                f'process {dump["rank"]} of {dump["world_size"]}; repeated alone, so it has fewer keys than it had'
            )
        if not dump['exact']:
            lines.append('the run noticed one step later: the momentum encoder has moved on by that step')
        for number, loss in enumerate(self.losses):
            bad = f', {self.bad_inputs[number]} images are not finite' if self.bad_inputs[number] else ''
            lines.append(f'micro-batch {number}: loss {loss:.6g}{bad}')
        name, kind = self.first_bad or (None, None)
        lines.append(
            f'first output that is not finite: {name} ({kind})'
            if name
            else 'all outputs of the forward pass are finite'
        )
        lines += ['', f'{"gradient norm of layer":<28}{"recorded":>14}{"repeated":>14}']
        lines += [
            f'{layer:<28}{dump["norms"].get(layer, float("nan")):>14.6g}{norm:>14.6g}'
            for layer, norm in self.norms.items()
        ]
        return '\n'.join(map(one_line, lines))


def replay_step(path: str | Path, device: str = 'cpu') -> Replay:
    """Repeat the forward and backward pass of a dumped step.

    Args:
        path: A file of :class:`StepRecorder`.
        device: Where to compute.

    Raises:
        FileNotFoundError: No such file, or that of another process without the first one's beside it.
        ValueError: Not such a file, or a run whose model was not built from its config.
    """
    dump = _read(Path(path))
    if dump['state_dict'] is None:
        dump['state_dict'] = _read(first_process_file(path, dump['rank']))['state_dict']
    model: Any = _build(dump, path).to(device).train()
    first_bad: list[tuple[str, str]] = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, _, output, name=name: _note(first_bad, name, m, output))
    torch.set_rng_state(dump['rng'])
    if device != 'cpu' and dump['cuda_rng'] is not None:
        torch.cuda.set_rng_state(dump['cuda_rng'])
    dtype = _dtype(dump['autocast'], path)
    losses, bad_inputs = [], []
    for batch in dump['batches']:
        with torch.autocast(device.split(':')[0], dtype=dtype) if dtype else nullcontext():
            data = model.data_preprocessor(batch, True)
            bad_inputs.append(sum(int((~view.isfinite()).flatten(1).any(dim=1).sum()) for view in data['inputs']))
            loss, _ = model.parse_losses(model(**data, mode='loss'))
        (loss / len(dump['batches'])).backward()
        losses.append(float(loss.detach()))
    norms = LayerNorms(model)
    return Replay(
        dump, losses, dict(zip(norms.names, norms().tolist())), first_bad[0] if first_bad else None, bad_inputs
    )


def dump_name(iteration: int, rank: int, world_size: int) -> str:
    """File name of a step's dump: ``iter_12.pth``, or ``iter_12_rank3.pth`` of one process of several."""
    suffix = f'_rank{rank}' if world_size > 1 else ''
    return f'iter_{iteration + 1}{suffix}.pth'


def first_process_file(path: str | Path, rank: int) -> Path:
    """The file of process 0, which holds the weights, next to that of process ``rank``.

    Raises:
        FileNotFoundError: It is not there.
    """
    path = Path(path)
    first = path.with_name(path.name.replace(f'_rank{rank}.', '_rank0.'))
    if not first.is_file():
        raise FileNotFoundError(
            f'{path} holds the images of process {rank}, and no weights: copy {first.name} beside it'
        )
    return first


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f'there is no file {path}')
    with open(path, 'rb') as file:
        head = file.read(64)
    dump = open_pickle(path, head, 'cpu')
    if not isinstance(dump, dict) or dump.get('format') != FORMAT:
        raise ValueError(f'{path} is not a dump of a bad step: those are in WORK_DIR/bad_steps')
    return dump


def _dtype(name: str | None, path: str | Path) -> torch.dtype | None:
    dtypes = {None: None, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
    if not isinstance(name, str | None) or name not in dtypes:
        raise ValueError(f'{path}: autocast={name!r}, but torch has no such mixed precision')
    return dtypes[name]


def _build(dump: dict[str, Any], path: str | Path) -> nn.Module:
    config = parse_config(dump['config'])
    if not isinstance(config.get('model'), dict):
        raise ValueError(f'{path}: the model of that run was not built from its config, so it cannot be built again')
    model_config = {**config['model'], 'data_preprocessor': Recipe(config).preprocessor or None}
    require_registered(model_config, path)
    with DefaultScope.overwrite_default_scope('mocox'):
        model = MODELS.build(model_config)
    model.load_state_dict(dump['state_dict'])
    model.iteration = dump['iteration']
    if dump['momentum'] is not None:
        model.momentum = dump['momentum']
    return model


def _note(found: list[tuple[str, str]], name: str, module: nn.Module, output: Any) -> None:
    if found:
        return
    outputs = output if isinstance(output, (tuple, list)) else [output]
    if any(isinstance(x, Tensor) and x.is_floating_point() and not x.isfinite().all() for x in outputs):
        found.append((name or 'the model', type(module).__name__))
