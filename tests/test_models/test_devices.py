"""Algorithms, monitors, optimizers and metrics on a GPU that is pretended: no mixed devices, no host sync."""

import copy

import pytest
import torch
from torch import nn

from mocox.augment.recipe import NUM_DRAWS_USED
from mocox.engine.lars import LARS
from mocox.monitors.gradients import LayerNorms
from mocox.monitors.signals import FeatureBank, measure
from mocox.registry import MODELS
from tests.support.pretended import meta_device, pretended_gpu
from tests.support.small_models import MODELS_BY_NAME

IMAGES = 8


def build(name: str) -> tuple[nn.Module, int]:
    size, config = MODELS_BY_NAME[name]
    model = MODELS.build(copy.deepcopy(config))
    model.init_weights()
    return model.train(), size


@pytest.mark.parametrize('name', MODELS_BY_NAME)
def test_a_forward_pass(name):
    """Under autocast; whole steps are in test_steps_on_a_pretended_gpu.py, for which this needs no compiler."""
    model, size = build(name)
    model.observe = True
    with pretended_gpu() as gpu, torch.autocast('cuda', dtype=torch.bfloat16):
        gpu.move_module(model)
        outputs = model([gpu.tensor(IMAGES, 3, size, size) for _ in range(2)], mode='loss')
        assert outputs['loss'].device.type == 'cuda'
        signals = measure(model.observed, temperature=0.2)
        assert {value.device.type for value in signals.values()} == {'cuda'}
        model.update_momentum_encoder()
        assert model([gpu.tensor(IMAGES, 3, size, size)][0], mode='tensor')[-1].device.type == 'cuda'


def test_autocast_is_on():
    with pretended_gpu() as gpu, torch.autocast('cuda', dtype=torch.bfloat16):
        assert gpu.move_module(nn.Linear(4, 3))(gpu.tensor(2, 4)).dtype == torch.bfloat16


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
        layer.zero_grad()  # as after a rollback
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
