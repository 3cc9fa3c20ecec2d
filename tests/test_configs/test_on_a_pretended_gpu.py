"""Every shipped recipe at its full width on a GPU that is pretended: no mixed devices, no number that is read back.

Recipes with the same model share a pass, and of blocks that are alike two stay: they are the same code on the same
shapes.
"""

import json

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from mocox.evaluation.knn import weighted_vote
from mocox.evaluation.linear import LinearGrid
from mocox.models.compilation import repeated_blocks
from mocox.monitors.signals import measure
from mocox.registry import MODELS
from tests.support.pretended import meta_device, pretended_gpu
from tests.test_configs.shipped import LINEAR, PRETRAINING, build_on_meta, load, model_config

IMAGES = 32  # a multiple of the groups of SplitBN
KEPT = 2


class Passes(nn.Module):
    def forward(self, x, *args, **kwargs):
        return x


def image_shape(name):
    """(C, S, S) of a view."""
    size = load(name).train_dataloader.dataset.crops.size
    return len(model_config(load(name))['data_preprocessor']['mean']), size, size


def distinct(names, part):
    """One recipe of each ``part``, named after the first that has it."""
    found = {}
    for name in names:
        found.setdefault(json.dumps(part(name), sort_keys=True, default=str), name)
    return list(found.values())


def model_alone(name):
    """What decides on the operations: the model without what only changes numbers."""
    model = model_config(load(name))
    del model['data_preprocessor']
    model.pop('base_momentum', None)
    model['backbone'].pop('init_cfg', None)
    return model, image_shape(name)


def kind_of_backbone(name):
    return load(name).model.backbone.type, load(name).model.head.type


def preprocessor(name):
    config = model_config(load(name))['data_preprocessor']
    return config.get('views'), image_shape(name)[0]


def build(name, **changes):
    config = dict(model_config(load(name)), **changes)
    config['data_preprocessor'] = dict(config['data_preprocessor'], fused=False)
    config['backbone'] = dict(config['backbone'])
    config['backbone'].pop('init_cfg', None)
    model = build_on_meta(config).train()
    for part in [part for part in model.modules() if isinstance(part, nn.Sequential | nn.ModuleList)]:
        alike = set(repeated_blocks(part)) & set(part.children())
        for key in [key for key, child in part.named_children() if child in alike][KEPT:]:
            part._modules[key] = Passes()
    return model


@pytest.mark.slow  # together
@pytest.mark.parametrize('name', distinct(PRETRAINING, model_alone))
def test_pre_training_under_bfloat16_autocast(name):
    """Forward pass, the monitor's signals and the momentum update; float32 is in tests/test_models/test_devices.py."""
    model = build(name)
    model.observe = True
    with pretended_gpu() as gpu, torch.autocast('cuda', dtype=torch.bfloat16):
        gpu.move_module(model)
        loss = model([gpu.tensor(IMAGES, *image_shape(name)) for _ in range(2)], mode='loss')['loss']
        signals = measure(model.observed, temperature=0.2)
        model.update_momentum_encoder()
    assert (loss.device.type, loss.dtype) == ('cuda', torch.float32)
    assert {value.device.type for value in signals.values()} == {'cuda'}


@pytest.mark.parametrize('name', distinct(LINEAR, kind_of_backbone))
def test_linear_evaluation(name):
    model = build(name)
    with pretended_gpu() as gpu:
        gpu.move_module(model)
        scores = model(gpu.tensor(2, *image_shape(name)))
    assert scores.device.type == 'cuda'
    assert scores.shape == (2, model.head.num_classes)


@pytest.mark.parametrize('name', distinct(PRETRAINING + LINEAR, preprocessor))
def test_the_preprocessor_after_its_part_on_the_cpu(name):
    channels, size, _ = image_shape(name)
    with DefaultScope.overwrite_default_scope('mocox'):
        part = MODELS.build(dict(model_config(load(name))['data_preprocessor'], fused=False)).to('meta')
    crops = [torch.empty(4, channels, size, size, dtype=torch.uint8, device='meta') for _ in part.views]
    with meta_device():
        views = part._prepare_views(dict(inputs=crops, draws=torch.rand(4, len(part.views), 13)), True)
    assert {(x.device.type, x.dtype, x.shape) for x in views} == {('meta', torch.float32, (4, channels, size, size))}


def test_evaluation_of_features():
    """The vote of k-NN and the scores of the linear grid; their searches and solvers read back by design."""
    with pretended_gpu() as gpu:
        labels = weighted_vote(gpu.tensor(8, 5), gpu.tensor(8, 5, dtype=torch.int64), num_classes=3)
        grid = LinearGrid(5, 3, (0.1, 1.0))
        grid.weight, grid.bias = gpu.move(grid.weight), gpu.move(grid.bias)
        assert (labels.device.type, grid.scores(gpu.tensor(8, 5)).device.type) == ('cuda', 'cuda')
