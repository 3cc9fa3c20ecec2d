"""Note, while a replay trains, everything that a trace may have recorded."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mocox import dist
from mocox.engine.batches import accumulative_counts
from mocox.reference.case import Fields


@dataclass
class ReplayResult:
    """The numbers of a replay; tensors by their official names, and what belongs to a process in rank order.

    Attributes:
        losses: Loss of each step, mean over processes.
        rank_losses: Loss of each step in each process.
        lr: Learning rate used in each step.
        fixed_lr: The same of the parameters whose rate does not move.
        momentum: Coefficient of the momentum encoder used in each step.
        final_momentum: The one that is set after training.
        queue_pointers: Where the queue goes on after each step.
        accuracies: Share of the images of each step, in percent, whose label is the largest score, and among the five
            largest, in each process.
        grad_norms: Norm of the gradient in each step, as the optimizer gets it.
        gradients: Gradient of the first step, as the optimizer gets it.
        optimizer_state: For each parameter what the optimizer keeps.
        first_step: Outputs inside of the first step, of each process.
        state: Final state.
        outputs: Outputs for the probe images, by the trace's names.
        validation: Linear probe: loss and accuracies after each epoch.
        unshuffled: ``rank_losses`` of a second replay that leaves the keys in their order, if the trace has one.
    """

    losses: list[float] = field(default_factory=list)
    rank_losses: list[list[float]] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    fixed_lr: list[float] = field(default_factory=list)
    momentum: list[float | None] = field(default_factory=list)
    final_momentum: float | None = None
    queue_pointers: list[int] = field(default_factory=list)
    accuracies: list[list[list[float]]] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    optimizer_state: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    first_step: dict[str, list[Tensor]] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    validation: list[dict] = field(default_factory=list)
    unshuffled: list[list[float]] = field(default_factory=list)


class Taps:
    """Lists of what flowed through a model since the last :meth:`clear`, in the order of the calls.

    They are ``loss`` (of this process), ``queries`` and ``keys`` before they are normalised, ``logits`` and ``labels``
    of the loss, and ``features``, which a classifier gets.
    """

    def __init__(self, model: Any) -> None:
        self.noted: dict[str, list[Tensor]] = defaultdict(list)
        model.register_forward_hook(self._note_loss)
        loss = getattr(model.head, 'loss_module', None)
        if loss is not None:
            loss.register_forward_pre_hook(lambda _, inputs: self._note('logits', inputs[0], 'labels', inputs[1]))
        if hasattr(model.head, 'fc'):
            model.head.fc.register_forward_pre_hook(lambda _, inputs: self._note('features', inputs[0]))
        if hasattr(model, 'encode_keys'):
            model.encode_keys = self._noting('keys', model.encode_keys)
            if model.head.predictor is None:
                model.encode_queries = self._noting('queries', model.encode_queries)
            else:
                model.head.predictor.register_forward_hook(lambda _, inputs, out: self._note('queries', out[-1]))

    def clear(self) -> None:
        self.noted.clear()

    def _note(self, *pairs: Any) -> None:
        for name, tensor in zip(pairs[::2], pairs[1::2], strict=True):
            self.noted[name].append(tensor.detach().clone())

    def _note_loss(self, model: nn.Module, inputs: Any, outputs: Any) -> None:
        if isinstance(outputs, dict) and 'loss' in outputs:
            self._note('loss', outputs['loss'])

    def _noting(self, name: str, encode: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
        def noting(*args: Any, **kwargs: Any) -> list[Tensor]:
            outputs = encode(*args, **kwargs)
            for output in outputs:
                self._note(name, output)
            return outputs

        return noting


class TraceHook(Hook):
    """Fills a result step by step.

    Args:
        result: The result.
        method: Of the trace.
        spec: The trace's.
        validation: Images and labels that are tested after each epoch.
    """

    priority = 'HIGH'  # before the schedule moves on

    def __init__(
        self, result: ReplayResult, method: Any, spec: Fields, validation: list[tuple[Tensor, Tensor]]
    ) -> None:
        self.result, self.method, self.spec, self.validation = result, method, spec, validation

    def before_train(self, runner: Runner) -> None:
        self.model = dist.unwrap(runner.model)
        self.taps = Taps(self.model)
        runner.optim_wrapper.optimizer.register_step_pre_hook(self._before_step)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.taps.clear()

    def _before_step(self, *args: Any) -> None:
        gradients = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        norms = torch.stack([gradient.norm() for gradient in gradients.values()])
        if not self.result.grad_norms:
            self.result.gradients = in_official_names(self.method, self.model, self.spec, gradients)
        self.result.grad_norms.append(norms.norm().item())

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if (runner.iter + 1) % accumulative_counts(runner.optim_wrapper):
            return
        result, noted = self.result, self.taps.noted
        if not result.losses:
            for name, (tap, call) in self.method.first_step.items():
                result.first_step[name] = split_rows(noted[tap][call])
        losses = dist.gather_rows(noted['loss'][0].double().reshape(1))
        result.rank_losses.append(losses.tolist())
        result.losses.append(losses.mean().item())
        if noted['logits']:
            shares = dist.gather_rows(accuracies(noted['logits'][0], noted['labels'][0])[None])
            result.accuracies.append(shares.tolist())
        groups = runner.optim_wrapper.param_groups
        result.lr.append(groups[0]['lr'])
        result.fixed_lr += [group['lr'] for group in groups if group.get('fix_lr')][:1]
        result.momentum.append(getattr(self.model, 'momentum', None))
        if hasattr(self.model, 'queue'):
            result.queue_pointers.append(int(self.model.queue.pointer))

    def after_train_epoch(self, runner: Runner) -> None:
        if self.validation:
            self.model.eval()
            with torch.no_grad():
                scores = torch.cat([self.model(x) for x, _ in self.validation])
            labels = torch.cat([y for _, y in self.validation])
            first, five = accuracies(scores, labels).tolist()
            best = max([first, *(epoch['best_acc1'] for epoch in self.result.validation)])
            loss = F.cross_entropy(scores, labels).item()
            self.result.validation.append(dict(loss=loss, acc1=first, acc5=five, best_acc1=best))
            self.model.train()

    def after_train(self, runner: Runner) -> None:
        states = runner.optim_wrapper.optimizer.state
        kept: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, parameter in self.model.named_parameters():
            for kind, value in states.get(parameter, {}).items():
                value = torch.as_tensor(value)
                kept[kind][name] = value if value.ndim else value.to(parameter).expand_as(parameter)
        for kind, values in kept.items():
            for name, value in in_official_names(self.method, self.model, self.spec, values).items():
                self.result.optimizer_state.setdefault(name, {})[kind] = value


def split_rows(x: Tensor) -> list[Tensor]:
    """The rows (N, ...) of every process."""
    return list(dist.gather_rows(x).chunk(dist.world_size()))


def accuracies(scores: Tensor, labels: Tensor) -> Tensor:
    """Percent of the rows whose label has the largest score, and one of the five largest."""
    labels = labels.argmax(1) if labels.ndim == 2 else labels
    hits = scores.topk(min(5, scores.shape[1]), dim=1).indices == labels[:, None]
    return 100 * torch.stack([hits[:, 0], hits.any(dim=1)]).double().mean(dim=1)


def in_official_names(method: Any, model: nn.Module, spec: Fields, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """One tensor for each of some parameters, as the official code names and orders it."""
    state = {
        name: torch.full_like(x, torch.nan) if x.is_floating_point() else x for name, x in model.state_dict().items()
    }
    official = method.official_state(state | {name: x.detach().clone() for name, x in values.items()}, spec)
    return {name: x for name, x in official.items() if x.is_floating_point() and not x.isnan().all()}
