"""The shipped recipes are the published ones: every value after inheritance against a table typed in from the sources.

Nothing in the tables below is read from a config. Sources: [C] the configuration page of the official moco-v3
repository, [D] the defaults of its two training scripts, [B] its model builder, [P] arXiv 2104.02057 (sections 5 and 6,
tables 1 and 2, appendix A), [O] our own recipe, for which no paper speaks: listed so that a change is seen.
"""

import re
from dataclasses import asdict, dataclass
from math import isclose

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from mocox.models.batch_norm import SyncBatchNorm
from mocox.registry import MODELS
from tests.test_configs.shipped import LINEAR, PRETRAINING, ROOT, build, load, model_config


@dataclass(frozen=True)
class Pretraining:
    """One row of a table of pre-training recipes."""

    gpus: int
    images_per_gpu: int
    base_lr: float  # for 256 images
    peak_lr: float  # after scaling to the whole batch
    optimizer: str
    weight_decay: float
    epochs: int
    warmup_epochs: int
    momentum: float  # of the key encoder at the start
    temperature: float
    crop_min: float
    size: int
    backbone: tuple  # see describe_backbone
    projector: str  # see describe_mlp
    predictor: str


@dataclass(frozen=True)
class Linear:
    """One row of a table of linear evaluations."""

    gpus: int
    images_per_gpu: int
    base_lr: float
    peak_lr: float
    epochs: int
    backbone: tuple
    classes: int
    crop_min: float
    size: int
    test_resize: int


def vit(width, depth, heads, patch, tokens, stem='patch', frozen_patches=True):
    return 'vit', width, depth, heads, 4 * width, patch, tokens, stem, frozen_patches


# Heads [P section 5, B]: no biases; BatchNorm everywhere, the last one without scale and shift; none at the end of the
# ResNet's predictor.
def vit_projector(width):
    return f'{width}-4096 BN ReLU 4096-4096 BN ReLU 4096-256 BN(no affine)'


def resnet_projector(width):
    return f'{width}-4096 BN ReLU 4096-256 BN(no affine)'


VIT_PREDICTOR = '256-4096 BN ReLU 4096-256 BN(no affine)'
RESNET_PREDICTOR = '256-4096 BN ReLU 4096-256'

# [P table 2]: blocks, width, heads; ViT-S has 12 heads [P, B]; /16, and /14 for ViT-H [P section 5, table 6]; conv
# stems go with 11 blocks [B].
VIT_S = vit(384, 12, 12, 16, 14 * 14)
VIT_B = vit(768, 12, 12, 16, 14 * 14)
VIT_L = vit(1024, 24, 16, 16, 14 * 14)
VIT_H = vit(1280, 32, 16, 14, 16 * 16)
VIT_S_CONV = vit(384, 11, 12, 16, 14 * 14, stem='conv', frozen_patches=False)
VIT_B_CONV = vit(768, 11, 12, 16, 14 * 14, stem='conv', frozen_patches=False)
RESNET50 = ('resnet', 50, 'last scale of each block starts at 0')  # zero_init_residual=True [D]
VIT_TI_32PX = vit(192, 12, 12, 4, 8 * 8)
TIMM_RESNET18 = ('timm', 'resnet18')


def adamw_vit(backbone, gpus, images_per_gpu, peak_lr, **changes):
    """[C]: lr 1.5e-4 per 256, wd .1, 300 epochs, 40 of warm-up, m .99, T .2, frozen patches; [D]: crops from 8 %."""
    values = dict(
        gpus=gpus, images_per_gpu=images_per_gpu, base_lr=1.5e-4, peak_lr=peak_lr, optimizer='AdamW', weight_decay=0.1,
        epochs=300, warmup_epochs=40, momentum=0.99, temperature=0.2, crop_min=0.08, size=224, backbone=backbone,
        projector=vit_projector(backbone[1]), predictor=VIT_PREDICTOR,
    )  # fmt: skip
    return Pretraining(**values | changes)


def lars_r50(**changes):
    """[C]: 2 nodes of 8, batch 4096, crops from 20 %; [D]: LARS, 10 epochs of warm-up, T 1, m .99."""
    values = dict(
        gpus=16, images_per_gpu=256, optimizer='LARS', warmup_epochs=10, momentum=0.99, temperature=1.0, crop_min=0.2,
        size=224, backbone=RESNET50, projector=resnet_projector(2048), predictor=RESNET_PREDICTOR,
    )  # fmt: skip
    return Pretraining(**values | changes)


PRETRAINING_TABLE = {
    'vit-small': adamw_vit(VIT_S, 8, 128, 6e-4),  # [C] one node, -b 1024
    'vit-base': adamw_vit(VIT_B, 64, 64, 2.4e-3),  # [C] 8 nodes, batch 4096
    'vit-large': adamw_vit(VIT_L, 64, 64, 2.4e-3),  # [P] batch 4096, 300 epochs (section 6.2, training length)
    'vit-huge': adamw_vit(VIT_H, 64, 64, 2.4e-3),  # [P]
    'vit-small-conv': adamw_vit(VIT_S_CONV, 8, 128, 6e-4),  # [B] vit_conv_small with ViT-S's recipe
    'vit-base-conv': adamw_vit(VIT_B_CONV, 64, 64, 2.4e-3),  # [B] vit_conv_base with ViT-B's recipe
    'resnet50_100e': lars_r50(base_lr=0.6, peak_lr=9.6, weight_decay=1e-6, epochs=100),  # [C, D]
    'resnet50_300e': lars_r50(base_lr=0.3, peak_lr=4.8, weight_decay=1e-6, epochs=300),  # [C, D]
    'resnet50_1000e': lars_r50(base_lr=0.3, peak_lr=4.8, weight_decay=1.5e-6, epochs=1000, momentum=0.996),  # [C]
    'vit-tiny_cifar10': adamw_vit(VIT_TI_32PX, 1, 512, 6e-4, base_lr=3e-4, epochs=800, crop_min=0.2, size=32),  # [O]
    'vit-small_custom': adamw_vit(VIT_S, 1, 64, 1.5e-4, base_lr=6e-4),  # [O]
    'timm-resnet18_custom': lars_r50(
        gpus=1, images_per_gpu=64, base_lr=0.3, peak_lr=0.075, weight_decay=1e-6, epochs=300, temperature=0.2,
        backbone=TIMM_RESNET18, projector=resnet_projector(512),
    ),  # [O]
}  # fmt: skip


def linear(backbone, base_lr, peak_lr, **changes):
    """[C, D]: one node of 8, batch 1024, lr 3 (ViT) or .1 (ResNet) per 256, 90 epochs, 224 of 256 px in the test."""
    values = dict(
        gpus=8, images_per_gpu=128, base_lr=base_lr, peak_lr=peak_lr, epochs=90, backbone=backbone, classes=1000,
        crop_min=0.08, size=224, test_resize=256,
    )  # fmt: skip
    return Linear(**values | changes)


LINEAR_TABLE = {
    'vit-small_linear': linear(VIT_S, 3.0, 12.0),
    'vit-base_linear': linear(VIT_B, 3.0, 12.0),
    'vit-large_linear': linear(VIT_L, 3.0, 12.0),
    'vit-huge_linear': linear(VIT_H, 3.0, 12.0),
    'vit-small-conv_linear': linear(VIT_S_CONV, 3.0, 12.0),
    'vit-base-conv_linear': linear(VIT_B_CONV, 3.0, 12.0),
    'resnet50_linear': linear(('resnet', 50), 0.1, 0.4),
    'vit-tiny_cifar10_linear': linear(
        VIT_TI_32PX, 3.0, 12.0, gpus=1, images_per_gpu=1024, classes=10, crop_min=0.2, size=32, test_resize=32
    ),  # [O]
    'vit-small_custom_linear': linear(VIT_S, 3.0, 0.75, gpus=1, images_per_gpu=64),  # [O]
    'timm-resnet18_custom_linear': linear(TIMM_RESNET18, 0.1, 0.025, gpus=1, images_per_gpu=64),  # [O]
}

# [P appendix A, D]: the same for both views but for blur and solarisation.
VIEW = dict(
    color_jitter=dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1),
    color_jitter_prob=0.8,
    grayscale_prob=0.2,
    blur_sigma=(0.1, 2.0),
    flip_prob=0.5,
)
VIEWS = [VIEW | dict(blur_prob=1.0, solarize_prob=0.0), VIEW | dict(blur_prob=0.1, solarize_prob=0.2)]
VIEWS_32PX = [view | dict(blur_prob=0.0) for view in VIEWS]  # [O]
LINEAR_VIEW = dict(color_jitter_prob=0.0, grayscale_prob=0.0, blur_prob=0.0, solarize_prob=0.0, flip_prob=0.5)
IMAGENET = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # (.485, .456, .406), (.229, .224, .225) times 255

MOCOV3 = 'configs/mocov3/{}.py'.format
ON_IMAGENET = [name for name in PRETRAINING_TABLE if 'cifar' not in name]


def gpus(name):
    """The devices that the launch command in the docstring starts: nodes x processes."""
    docstring = (ROOT / MOCOV3(name)).read_text().split('"""')[1]
    launch = docstring[docstring.index('Launch') :]
    nodes = re.search(r'NNODES=(\d+)', launch)
    processes = re.search(r'\.py (\d+)', launch)
    return int(nodes[1] if nodes else 1) * int(processes[1] if processes else 1)


def describe_backbone(backbone, cfg):
    kind = type(backbone).__name__
    if kind == 'ResNet':
        zero = ('last scale of each block starts at 0',) if backbone.zero_init_residual else ()
        return ('resnet', backbone.depth, *zero)
    if kind == 'TIMMBackbone':
        return 'timm', cfg.model_name
    block = backbone.blocks[0]
    frozen = not any(p.requires_grad for p in backbone.patch_embed.parameters())
    return (
        'vit', backbone.embed_dim, len(backbone.blocks), block.attn.num_heads, block.mlp.fc1.out_features,
        backbone.patch_embed.patch_size[0], backbone.pos_embed.shape[1] - 1,
        'patch' if isinstance(backbone.patch_embed.proj, nn.Conv2d) else 'conv', frozen,
    )  # fmt: skip


def describe_mlp(neck):
    """The layers in order of their registration, BatchNorm and linear layers checked for what MoCo v3 asks of them."""
    words = []
    layers = list(neck.children())
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.Linear):
            assert layer.bias is None
            words.append(f'{layer.in_features}-{layer.out_features}')
        else:
            assert isinstance(layer, SyncBatchNorm)
            words.append('BN' if layer.affine else 'BN(no affine)')
            words += ['ReLU'] * (i < len(layers) - 1)
    return ' '.join(words)


def read_pretraining(name):
    cfg, model = load(MOCOV3(name)), build(MOCOV3(name))
    optimizer, loader = cfg.optim_wrapper.optimizer, cfg.train_dataloader
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=256)
    devices = gpus(name)
    return Pretraining(
        gpus=devices,
        images_per_gpu=loader.batch_size,
        base_lr=optimizer.lr,
        peak_lr=optimizer.lr * devices * loader.batch_size / cfg.auto_scale_lr.base_batch_size,
        optimizer=optimizer.type,
        weight_decay=optimizer.weight_decay,
        epochs=cfg.train_cfg.max_epochs,
        warmup_epochs=cfg.param_scheduler.warmup_epochs,
        momentum=model.base_momentum,
        temperature=model.head.temperature,
        crop_min=loader.dataset.crops.scale[0],
        size=loader.dataset.crops.size,
        backbone=describe_backbone(model.backbone, cfg.model.backbone),
        projector=describe_mlp(model.neck),
        predictor=describe_mlp(model.head.predictor),
    )


def read_linear(name):
    cfg, model = load(MOCOV3(name)), build(MOCOV3(name))
    loader, lr, devices = cfg.train_dataloader, cfg.optim_wrapper.optimizer.lr, gpus(name)
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=256)
    backbone = describe_backbone(model.backbone, cfg.model.backbone)
    if backbone[0] == 'vit':  # all of it is frozen, so whether the patch projection was trained does not show
        backbone = (*backbone[:-1], backbone[-2] == 'patch')
    return Linear(
        gpus=devices,
        images_per_gpu=loader.batch_size,
        base_lr=lr,
        peak_lr=lr * devices * loader.batch_size / cfg.auto_scale_lr.base_batch_size,
        epochs=cfg.train_cfg.max_epochs,
        backbone=backbone,
        classes=model.head.fc.out_features,
        crop_min=loader.dataset.crops.scale[0],
        size=loader.dataset.crops.size,
        test_resize=cfg.test_dataloader.dataset.crops.resize,
    )


def assert_same(ours, published):
    """Equal, and floats to rounding."""
    for field, expected in asdict(published).items():
        value = getattr(ours, field)
        same = isclose(value, expected, rel_tol=1e-12) if isinstance(expected, float) else value == expected
        assert same, f'{field}: the config has {value}, the published recipe {expected}'


def test_every_shipped_config_is_in_a_table():
    """The digits recipes belong to the demo, whose own tests hold them to its target."""
    names = {name.removeprefix('configs/mocov3/').removesuffix('.py') for name in PRETRAINING + LINEAR}
    assert {name for name in names if 'digits' not in name} == set(PRETRAINING_TABLE) | set(LINEAR_TABLE)


@pytest.mark.parametrize('name', PRETRAINING_TABLE)
def test_pretraining_recipe(name):
    assert_same(read_pretraining(name), PRETRAINING_TABLE[name])


@pytest.mark.parametrize('name', LINEAR_TABLE)
def test_linear_recipe(name):
    assert_same(read_linear(name), LINEAR_TABLE[name])


@pytest.mark.parametrize('name', PRETRAINING_TABLE)
def test_optimizer_settings_and_exclusions(name):
    """[D]: one group, one weight decay for everything: AdamW decays norms and biases too; LARS leaves vectors alone."""
    cfg, model = load(MOCOV3(name)), build(MOCOV3(name))
    with DefaultScope.overwrite_default_scope('mocox'):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper.to_dict()).optimizer
    (group,) = optimizer.param_groups
    assert {id(p) for p in model.parameters() if p.requires_grad} <= {id(p) for p in group['params']}
    assert group['weight_decay'] == PRETRAINING_TABLE[name].weight_decay
    if PRETRAINING_TABLE[name].optimizer == 'AdamW':
        assert (group['betas'], group['eps'], group['amsgrad']) == ((0.9, 0.999), 1e-8, False)  # PyTorch's defaults [D]
    else:
        assert (group['momentum'], group['trust_coefficient']) == (0.9, 0.001)
    assert 'clip_grad' not in cfg.optim_wrapper


def test_lars_leaves_vectors_without_decay_and_scaling():
    cfg = load(MOCOV3('resnet50_100e')).optim_wrapper.to_dict()
    model = nn.Linear(2, 2)
    with DefaultScope.overwrite_default_scope('mocox'):
        optimizer = build_optim_wrapper(model, cfg).optimizer
    before = model.bias.detach().clone()
    model.weight.grad, model.bias.grad = torch.ones(2, 2), torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(model.bias.detach(), before - 0.6)


@pytest.mark.parametrize('name', PRETRAINING_TABLE)
def test_schedules_are_cosines_per_iteration(name):
    """[C]: --moco-m-cos everywhere. [D]: linear warm-up, then half a cosine down to 0, moving with every iteration."""
    cfg = load(MOCOV3(name))
    scheduler = cfg.param_scheduler
    assert (scheduler.type, scheduler.by_epoch, scheduler.convert_to_iter_based) == ('WarmupCosineLR', True, True)
    assert scheduler.get('eta_min', 0) == 0
    (hook,) = [hook for hook in cfg.custom_hooks if hook.type.endswith('MomentumUpdateHook')]
    assert (hook.get('schedule', 'cosine'), hook.get('end_momentum', 1)) == ('cosine', 1)


@pytest.mark.parametrize('name', PRETRAINING_TABLE)
def test_data_pipeline(name):
    """[D]: two random crops of the default aspect ratio, shuffled, the last incomplete batch dropped."""
    loader = load(MOCOV3(name)).train_dataloader
    assert loader.drop_last is True
    assert (loader.sampler.type, loader.sampler.shuffle) == ('EpochSampler', True)
    crops = loader.dataset.crops
    assert (crops.type, crops.num_views, crops.scale[1]) == ('RandomResizedCrops', 2, 1)
    assert tuple(crops.get('ratio', (3 / 4, 4 / 3))) == (3 / 4, 4 / 3)
    assert not loader.dataset.get('with_labels', False)


@pytest.mark.parametrize('name', PRETRAINING_TABLE)
def test_augmentation(name):
    published = VIEWS_32PX if 'cifar' in name else VIEWS
    cfg = model_config(load(MOCOV3(name)))['data_preprocessor']
    assert len(cfg['views']) == 2
    for ours, view in zip(cfg['views'], published, strict=True):
        ours = VIEW | dict(blur_prob=0.0, solarize_prob=0.0) | ours if 'cifar' in name else ours
        assert _plain(ours) == _plain(view)


@pytest.mark.parametrize('name', ON_IMAGENET + [name for name in LINEAR_TABLE if 'cifar' not in name])
def test_normalisation(name):
    cfg = model_config(load(MOCOV3(name)))['data_preprocessor']
    assert (cfg['mean'], cfg['std']) == IMAGENET


@pytest.mark.parametrize('name', PRETRAINING_TABLE)
def test_all_batch_norm_is_synchronised(name):
    """[D] converts every BatchNorm of the model, those of a ResNet and of the conv stem included; [P] appendix A."""
    model = build(MOCOV3(name)).train()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(m, SyncBatchNorm) and m.training for m in norms)
    assert all(m.eps == 1e-5 and m.momentum == 0.1 and m.track_running_stats for m in norms)


@pytest.mark.parametrize('name', PRETRAINING_TABLE)
def test_nothing_but_positions_and_patches_is_frozen(name):
    model = build(MOCOV3(name))
    frozen = {key.split('.')[0] for key, p in model.backbone.named_parameters() if not p.requires_grad}
    patches = {'patch_embed'} if PRETRAINING_TABLE[name].backbone[-1] is True else set()
    positions = {'pos_embed'} if PRETRAINING_TABLE[name].backbone[0] == 'vit' else set()
    assert frozen == patches | positions
    assert all(p.requires_grad for p in [*model.neck.parameters(), *model.head.parameters()])


@pytest.mark.parametrize('name', PRETRAINING_TABLE)
def test_output_of_the_vit_is_the_normalised_class_token(name):
    if PRETRAINING_TABLE[name].backbone[0] == 'vit':
        backbone = build(MOCOV3(name)).backbone
        assert (backbone.out_type, type(backbone.norm), backbone.norm.eps) == ('cls_token', nn.LayerNorm, 1e-6)  # [B]


def test_residual_blocks_start_as_identities():
    """[D] zero_init_residual=True: a smaller ResNet in the shipped config, query and momentum encoder."""
    cfg = model_config(load(MOCOV3('resnet50_100e')))
    cfg['backbone'] |= dict(depth=18)
    cfg['neck'] |= dict(in_channels=512, hid_channels=8)
    with DefaultScope.overwrite_default_scope('mocox'):
        model = MODELS.build(cfg)
    model.init_weights()
    for encoder in (model, model.momentum_encoder):
        scales = [norm for name, norm in encoder.backbone.named_parameters() if name.endswith('bn2.weight')]
        assert len(scales) == 8
        assert all((scale == 0).all() for scale in scales)


def test_classifier_starts_as_published():
    """[D]: N(0, 0.01) and zero bias."""
    cfg = model_config(load(MOCOV3('vit-tiny_cifar10_linear')))
    cfg['head'] |= dict(num_classes=1000)
    with DefaultScope.overwrite_default_scope('mocox'):
        model = MODELS.build(cfg)
    model.init_weights()
    assert model.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.01)  # 192 000 draws: 0.2 % standard error
    assert (model.head.fc.bias == 0).all()


@pytest.mark.parametrize('name', LINEAR_TABLE)
def test_linear_protocol(name):
    """[D]: SGD .9 without decay, lr constant within an epoch, no warm-up; crop and flip, in the test a centre crop."""
    cfg = load(MOCOV3(name))
    optimizer, scheduler = cfg.optim_wrapper.optimizer, cfg.param_scheduler
    assert (optimizer.type, optimizer.momentum, optimizer.weight_decay) == ('SGD', 0.9, 0)
    assert not optimizer.get('nesterov', False)
    assert (scheduler.type, scheduler.by_epoch, scheduler.convert_to_iter_based) == ('WarmupCosineLR', True, False)
    assert (scheduler.warmup_epochs, scheduler.get('eta_min', 0)) == (0, 0)
    train, test = cfg.train_dataloader, cfg.test_dataloader
    assert (train.sampler.shuffle, train.get('drop_last', False), train.dataset.with_labels) == (True, False, True)
    assert (train.dataset.crops.type, train.dataset.crops.num_views) == ('RandomResizedCrops', 1)
    assert (test.sampler.shuffle, test.get('drop_last', False), test.dataset.with_labels) == (False, False, True)
    assert (test.dataset.crops.type, test.dataset.crops.size) == ('CenterCrop', LINEAR_TABLE[name].size)
    assert cfg.val_dataloader == test
    assert tuple(cfg.test_evaluator.topk) == ((1,) if 'custom' in name else (1, 5))  # a folder may have few classes
    (view,) = model_config(cfg)['data_preprocessor']['views']
    assert LINEAR_VIEW | view == LINEAR_VIEW


@pytest.mark.parametrize('name', LINEAR_TABLE)
def test_linear_model_trains_the_classifier_only(name):
    """[D]: evaluation mode while training, no BatchNorm before the classifier, which starts at N(0, 0.01) and 0."""
    cfg, model = load(MOCOV3(name)), build(MOCOV3(name))
    model.train()
    assert not any(m.training for m in model.backbone.modules())
    assert {key for key, p in model.named_parameters() if p.requires_grad} == {'head.fc.weight', 'head.fc.bias'}
    assert [type(m) for m in model.head.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)] == []
    assert set(dict(model.named_children())) == {'data_preprocessor', 'backbone', 'head'}
    init = cfg.model.head.init_cfg
    assert (init.type, init.layer, init.std, init.bias) == ('Normal', 'Linear', 0.01, 0)


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value
