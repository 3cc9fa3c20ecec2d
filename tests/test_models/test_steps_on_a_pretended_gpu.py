"""Whole training steps on a GPU that is pretended: preprocessor, forward and backward pass, monitors, optimizer."""

import copy
import re
from collections.abc import Callable
from unittest import mock

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mocox.engine.lars import LARS
from mocox.engine.optim_wrapper import AmpOptimWrapper
from mocox.monitors.gradients import LayerNorms
from mocox.monitors.signals import measure
from mocox.registry import MODELS
from tests.support.pretended import PretendedGPU, pretended_gpu, without_accelerator
from tests.support.small_models import MODELS_BY_NAME

IMAGES = 8
PREPROCESSOR = dict(type='ViewsPreprocessor', mean=[127.0] * 3, std=[64.0] * 3, views=[{}, {}])
OPTIMIZERS = {
    'AdamW, fused': lambda p: torch.optim.AdamW(p, lr=1e-3, fused=True),
    'SGD': lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    'LARS': lambda p: LARS(p, lr=0.1, weight_decay=1e-4),
}


def build(name: str, chunk_size: int | None = None) -> tuple[nn.Module, int]:
    size, config = MODELS_BY_NAME[name]
    config = dict(config, data_preprocessor=PREPROCESSOR, chunk_size=chunk_size)
    return MODELS.build(copy.deepcopy(config)).train(), size


class Training:
    """A model on the pretended GPU and what trains it.

    Args:
        dtype: Of autocast, with the scaler that float16 needs; None trains in float32.
    """

    def __init__(self, gpu: PretendedGPU, model: nn.Module, size: int, dtype: str | None, optimizer: str) -> None:
        self.model = gpu.move_module(model)
        self.model.data_preprocessor._device = torch.device('cuda')
        self.model.observe = True
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = OPTIMIZERS[optimizer](trained)
        with mock.patch('mocox.engine.optim_wrapper.get_device', return_value='cuda'):
            amp = dict(optimizer=self.optimizer)
            self.wrapper = AmpOptimWrapper(dtype=dtype, **amp) if dtype else OptimWrapper(**amp)
        crops = [gpu.tensor(IMAGES, 3, size, size, dtype=torch.uint8) for _ in range(2)]
        self.batch = dict(inputs=crops, augmented=True)  # draws are real numbers of the host: see test_devices.py
        self.norms = LayerNorms(self.model)
        self.seen: list[Tensor] = []
        self.optimizer.register_step_pre_hook(self._look_at_gradients)

    def _look_at_gradients(self, *_: object) -> None:
        norms = self.norms()
        self.norms.scale(torch.ones_like(norms))
        self.seen += [norms, *(p.grad for p in self.norms.params)]

    def step(self) -> None:
        """What a run does in one iteration."""
        self.model.update_momentum_encoder()
        self.seen += self.model.train_step(self.batch, self.wrapper).values()
        self.seen += measure(self.model.observed, temperature=0.2).values()
        self.seen += [x for state in self.optimizer.state.values() for x in state.values() if isinstance(x, Tensor)]

    def kinds(self) -> set[str]:
        """Where all gradients, moments, norms, signals and losses were, and of what type."""
        return {f'{x.device.type}, {x.dtype}' for x in self.seen}


def train(name: str, dtype: str | None, optimizer: str, chunk_size: int | None = None, steps: int = 1) -> set[str]:
    model, size = build(name, chunk_size)
    with pretended_gpu() as gpu:
        training = Training(gpu, model, size, dtype, optimizer)
        for _ in range(steps):
            training.step()
        return training.kinds()


ALGORITHMS = ('v3', 'v2', 'v2, groups', 'MoBY', 'Fast-MoCo')
STEPS = [
    *((name, None, None) for name in ALGORITHMS),
    *((name, 'bfloat16', 4) for name in ALGORITHMS),
    *((name, 'bfloat16', None) for name in MODELS_BY_NAME if name not in ALGORITHMS),
]


@pytest.mark.parametrize(('name', 'dtype', 'chunk_size'), STEPS)
def test_a_step(name, dtype, chunk_size):
    assert without_accelerator(train, name, dtype, 'AdamW, fused', chunk_size) == {'cuda, torch.float32'}


@pytest.mark.parametrize(('optimizer', 'dtype'), [('SGD', None), ('LARS', 'bfloat16'), ('AdamW, fused', 'float16')])
def test_optimizers(optimizer, dtype):
    """Not fused SGD, whose kernel torch cannot pretend, and float16 with no other: its scaler reads a flag back."""
    assert without_accelerator(train, 'v3', dtype, optimizer, None, 2) == {'cuda, torch.float32'}


class GradientOfTheHost(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * torch.ones(1)


class Loss(nn.Module):
    """A cross entropy that goes wrong in the way that is asked for."""

    def __init__(self, wrong: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.wrong = wrong

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.wrong(nn.functional.cross_entropy(logits, labels))


def host_like(x: Tensor) -> Tensor:
    return torch.zeros(x.shape)


def lose_on_the_host(training: Training) -> None:
    training.model.head.loss_module = Loss(lambda loss: loss + torch.ones(1))


def read_the_loss(training: Training) -> None:
    training.model.head.loss_module = Loss(lambda loss: loss / max(float(loss.detach()), 1))


def differentiate_on_the_host(training: Training) -> None:
    training.model.head.loss_module = Loss(lambda loss: GradientOfTheHost.apply(loss[None]))


def normalise_on_the_host(training: Training) -> None:
    training.model.data_preprocessor.mean = torch.zeros(3, 1, 1)


def leave_a_key_weight(training: Training) -> None:
    training.model.momentum_encoder.neck.fc0.weight = nn.Parameter(
        host_like(training.model.momentum_encoder.neck.fc0.weight), requires_grad=False
    )


def observe_on_the_host(training: Training) -> None:
    observe = training.model.train_step

    def with_labels_of_the_host(*args):
        out = observe(*args)
        training.model.observed['labels'] = host_like(training.model.observed['labels']).long()
        return out

    training.model.train_step = with_labels_of_the_host


def leave_a_moment(training: Training) -> None:
    training.step()
    state = next(state for state in training.optimizer.state.values() if state['exp_avg'].ndim)
    state['exp_avg'] = host_like(state['exp_avg'])


# Some operations say it in other words before torch 2.14.
MIXED, READ, LEFT = r'cuda:0( and|,) cpu', r'aten\._local_scalar_dense', r"'cpu, torch\.float32'"
BROKEN = {
    lose_on_the_host: MIXED,
    read_the_loss: READ,
    differentiate_on_the_host: MIXED,
    normalise_on_the_host: MIXED,
    leave_a_key_weight: MIXED,
    observe_on_the_host: MIXED,
    leave_a_moment: LEFT,  # torch does not look at the moments that it pretends to fuse
}


def errors_of(name: str) -> dict[str, str]:
    found = {}
    for break_it in BROKEN:
        model, size = build(name)
        with pretended_gpu() as gpu:
            training = Training(gpu, model, size, 'bfloat16', 'AdamW, fused')
            break_it(training)
            try:
                training.step()
                found[break_it.__name__] = str(training.kinds())
            except Exception as error:
                found[break_it.__name__] = str(error)
    return found


@pytest.mark.parametrize(
    'name',
    ['v3', *(pytest.param(name, marks=pytest.mark.slow) for name in ('v2', 'v2, symmetric', 'MoBY', 'Fast-MoCo'))],
)
def test_one_of_each_kind_would_be_seen(name):
    """A tensor of the host in each part of a step, a number read back, a gradient made on the host."""
    found = without_accelerator(errors_of, name)
    for break_it, seen in BROKEN.items():
        assert re.search(seen, found[break_it.__name__]), (break_it.__name__, found)
