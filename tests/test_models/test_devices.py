"""Algorithms, monitors, optimizers and metrics on a GPU that is pretended: no mixed devices, no host sync."""

import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from mocox.augment.recipe import NUM_DRAWS_USED
from mocox.engine.lars import LARS
from mocox.monitors.gradients import LayerNorms
from mocox.monitors.signals import FeatureBank, measure
from mocox.registry import MODELS
from tests.support.pretended import meta_device, pretended_gpu
from tests.support.small_models import MODELS_BY_NAME

ALL = pytest.mark.parametrize('name', MODELS_BY_NAME)
IMAGES = 8


def build(name: str, **changes) -> tuple[nn.Module, int]:
    size, config = MODELS_BY_NAME[name]
    model = MODELS.build(copy.deepcopy(dict(config, **changes)))
    model.init_weights()
    return model.train(), size


@ALL
@pytest.mark.parametrize('dtype', [None, torch.bfloat16], ids=['float32', 'bfloat16'])
def test_a_forward_pass(name, dtype):
    model, size = build(name)
    model.observe = True
    with pretended_gpu() as gpu, torch.autocast('cuda', dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        gpu.move_module(model)
        outputs = model([gpu.tensor(IMAGES, 3, size, size) for _ in range(2)], mode='loss')
        assert outputs['loss'].device.type == 'cuda'
        signals = measure(model.observed, temperature=0.2)
        assert {value.device.type for value in signals.values()} == {'cuda'}
        model.update_momentum_encoder()
        assert model([gpu.tensor(IMAGES, 3, size, size)][0], mode='tensor')[-1].device.type == 'cuda'


@ALL
@pytest.mark.parametrize('chunk_size', [None, 4])
def test_a_backward_pass(name, chunk_size):
    """Without chunks and with them, where the backbone runs again inside of the backward pass."""
    model, size = build(name, chunk_size=chunk_size)
    model.to('meta')
    with meta_device():
        outputs = model([torch.empty(IMAGES, 3, size, size, device='meta') for _ in range(2)], mode='loss')
        outputs['loss'].backward()
        LayerNorms(model)()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert trained
    assert all(p.grad is not None and p.grad.device.type == 'meta' for p in trained)


def test_autocast_is_on():
    with pretended_gpu() as gpu, torch.autocast('cuda', dtype=torch.bfloat16):
        assert gpu.move_module(nn.Linear(4, 3))(gpu.tensor(2, 4)).dtype == torch.bfloat16


class Adds(nn.Module):
    """A loss that goes wrong in the way that is asked for."""

    def __init__(self, add) -> None:
        super().__init__()
        self.add = add

    def forward(self, logits, labels):
        return self.add(nn.functional.cross_entropy(logits, labels))


class GradientOfTheHost(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * torch.ones(2)[:1].expand(1).reshape(()).expand_as(grad).reshape(1)


@pytest.mark.parametrize('name', ['v3', 'v2', 'v2, symmetric', 'MoBY', 'Fast-MoCo'])
def test_one_of_each_kind_would_be_seen(name):
    """A constant left on the host, a number read back, a gradient made on the host."""
    for add, error, message in [
        (lambda loss: loss + torch.ones(1), RuntimeError, 'device'),
        (lambda loss: loss / max(float(loss.detach()), 1), DataDependentOutputException, 'local_scalar'),
    ]:
        model, size = build(name)
        model.head.loss_module = Adds(add)
        with pretended_gpu() as gpu:
            gpu.move_module(model)
            with pytest.raises(error, match=message):
                model([gpu.tensor(IMAGES, 3, size, size) for _ in range(2)], mode='loss')
    model, size = build(name)
    model.head.loss_module = Adds(GradientOfTheHost.apply)
    model.to('meta')
    with meta_device(), pytest.raises(RuntimeError, match='mixes tensors of'):
        model([torch.empty(IMAGES, 3, size, size, device='meta') for _ in range(2)], mode='loss')['loss'].backward()


OPTIMIZERS = {  # not fused SGD, whose kernel torch cannot pretend
    'AdamW': lambda p: torch.optim.AdamW(p, lr=1e-3),
    'AdamW, fused': lambda p: torch.optim.AdamW(p, lr=1e-3, fused=True),
    'SGD': lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    'LARS': lambda p: LARS(p, lr=0.1, weight_decay=1e-4),
}


@pytest.mark.parametrize('kind', OPTIMIZERS)
def test_an_optimizer_with_a_flag_on_the_device(kind):
    with pretended_gpu() as gpu:
        layer = gpu.move_module(nn.Linear(4, 3))
        optimizer = OPTIMIZERS[kind](layer.parameters())
        for found in (False, True):
            for parameter in layer.parameters():
                parameter.grad = gpu.tensor(*parameter.shape)
            if found and kind not in ('AdamW', 'SGD'):
                optimizer.found_inf = gpu.tensor()
            optimizer.step()
        norms = LayerNorms(nn.Sequential(layer))
        assert norms().device.type == 'cuda'


@pytest.mark.parametrize('dtype', [torch.uint8, torch.uint16, torch.float32])
@pytest.mark.parametrize('channels', [3, 13])
def test_augmentation_of_a_batch(dtype, channels):
    """Its draws stay on the host, its crops are on the device."""
    colour = (
        dict(color_jitter=dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1), grayscale_prob=0.2)
        if channels == 3
        else {}
    )
    view = dict(blur_prob=0.5, solarize_prob=0.2, flip_prob=0.5, **colour)
    preprocessor = MODELS.build(
        dict(type='ViewsPreprocessor', mean=[127.0] * channels, std=[64.0] * channels, views=[view, view], fused=False)
    ).to('meta')
    crops = [torch.empty(IMAGES, channels, 16, 16, dtype=dtype, device='meta') for _ in range(2)]
    with meta_device():
        views = preprocessor._prepare_views(dict(inputs=crops, draws=torch.rand(IMAGES, 2, NUM_DRAWS_USED)), True)
    assert {(x.device.type, x.dtype) for x in views} == {('meta', torch.float32)}


def test_the_bank_of_the_monitor():
    bank = FeatureBank(600, num_classes=3)
    with pretended_gpu() as gpu:
        features, labels = gpu.tensor(400, 5), gpu.tensor(400, dtype=torch.int64)
        for _ in range(2):
            bank.append(features, labels, labels)
        assert bank.accuracy(num_neighbours=20, temperature=0.07).device.type == 'cuda'
