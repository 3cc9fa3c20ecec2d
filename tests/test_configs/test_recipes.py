"""The shipped recipes are the published ones: every value after inheritance against the table in ``published.py``."""

import re
from dataclasses import asdict
from math import isclose

import pytest
import torch
import torchvision.transforms.v2.functional as F
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from mocox.models.batch_norm import SplitBatchNorm, SyncBatchNorm
from mocox.registry import MODELS
from tests.test_configs.published import BICUBIC, LINEAR_TABLE, PRETRAINING_TABLE, VIEWS, Linear, Pretraining
from tests.test_configs.shipped import LINEAR, PRETRAINING, ROOT, build, load, model_config

LINEAR_VIEW = dict(color_jitter_prob=0.0, grayscale_prob=0.0, blur_prob=0.0, solarize_prob=0.0, flip_prob=0.5)
IMAGENET = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # (.485, .456, .406), (.229, .224, .225) times 255

PATH = 'configs/{}.py'.format
OWN_COLOURS = ('cifar', 'fashion', 'elpv', 'multispectral', 'grayscale', 'pathology')
ON_IMAGENET = [name for name in PRETRAINING_TABLE if not any(word in name for word in OWN_COLOURS)]
WITH_PARAMETER_GROUPS = {
    name for name in PRETRAINING_TABLE if name.startswith(('moby', 'fast_moco', 'mocov3/continue'))
}
WARM_VITS = ['mocov3/continue_vit-small']  # its patches stay as they were trained
MOCOVITS = [name for name in PRETRAINING_TABLE if PRETRAINING_TABLE[name].backbone[0] == 'vit']


def gpus(name):
    """The devices that the launch command in the docstring starts: nodes x processes."""
    docstring = (ROOT / PATH(name)).read_text().split('"""')[1]
    launch = docstring[docstring.index('Launch') :]
    nodes = re.search(r'NNODES=(\d+)', launch)
    processes = re.search(r'\.py (\d+)', launch)
    return int(nodes[1] if nodes else 1) * int(processes[1] if processes else 1)


def describe_backbone(backbone, cfg):
    kind = type(backbone).__name__
    if kind in ('ResNet', 'ResNet_CIFAR', 'GridPooledResNet'):
        zero = ('last scale of each block starts at 0',) if backbone.zero_init_residual else ()
        stem = backbone.conv1
        plain = (stem.kernel_size, stem.stride) == ((3, 3), (1, 1))
        assert plain or (stem.kernel_size, stem.stride) == ((7, 7), (2, 2))
        return ('resnet, 3 x 3 stem' if plain else 'resnet', backbone.depth, *zero)
    if kind == 'TIMMBackbone':
        return 'timm', cfg.model_name
    if kind == 'SwinTransformer':
        stages = [stage.blocks for stage in backbone.stages]
        heads = tuple(blocks[0].attn.w_msa.num_heads for blocks in stages)
        window, patch = stages[0][0].attn.window_size, backbone.patch_embed.projection.kernel_size[0]
        return 'swin', backbone.embed_dims, tuple(map(len, stages)), heads, window, patch
    if kind == 'VisionTransformer':
        assert backbone.out_type == 'cls_token'
        block, patch = backbone.layers[0], backbone.patch_embed.projection.kernel_size[0]
        widths = backbone.embed_dims, len(backbone.layers), block.attn.num_heads, block.ffn.feedforward_channels
        return 'deit', *widths, patch, backbone.pos_embed.shape[1] - 1
    block = backbone.blocks[0]
    frozen = not any(p.requires_grad for p in backbone.patch_embed.parameters())
    return (
        'vit', backbone.embed_dim, len(backbone.blocks), block.attn.num_heads, block.mlp.fc1.out_features,
        backbone.patch_embed.patch_size[0], backbone.pos_embed.shape[1] - 1,
        'patch' if isinstance(backbone.patch_embed.proj, nn.Conv2d) else 'conv', frozen,
    )  # fmt: skip


def describe_mlp(neck):
    """The layers in order of their registration; ``NonLinearNeck`` has its ReLUs in ``forward``."""
    if neck is None:
        return None
    words = []
    layers = [m for m in neck.modules() if not list(m.children())]
    layers = [m for m in layers if not isinstance(m, nn.Identity | nn.AdaptiveAvgPool2d)]
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.Linear):
            words.append(f'{layer.in_features}-{layer.out_features}' + '+b' * (layer.bias is not None))
        elif isinstance(layer, nn.ReLU):
            words.append('ReLU')
        else:
            assert isinstance(layer, SyncBatchNorm)
            words.append('BN' if layer.affine else 'BN(no affine)')
            words += ['ReLU'] * (i < len(layers) - 1)
    return ' '.join(words)


def describe_batch_norm(model):
    """The one kind of BatchNorm in all of the model, with PyTorch's defaults."""
    norms = [m for m in model.train().modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert all(m.eps == 1e-5 and m.momentum == 0.1 and m.track_running_stats and m.training for m in norms)
    names = {
        f'SplitBN {m.group_size}' if isinstance(m, SplitBatchNorm)
        else 'SyncBN' if isinstance(m, SyncBatchNorm) else type(m).__name__
        for m in norms
    }  # fmt: skip
    assert len(names) <= 1
    return next(iter(names), None)


def describe_schedule(scheduler):
    assert scheduler.by_epoch is True
    if scheduler.type == 'MultiStepLR':
        return 'steps', tuple(scheduler.milestones), scheduler.gamma
    assert scheduler.type == 'WarmupCosineLR'
    per = 'iteration' if scheduler.convert_to_iter_based else 'epoch'
    rest = scheduler.warmup_epochs, scheduler.get('warmup_start_ratio', 0.0), scheduler.get('eta_min', 0.0)
    return 'cosine per ' + per, *rest, scheduler.get('warmup_prefix', True)


def describe_momentum(cfg, model):
    (hook,) = [hook for hook in cfg.custom_hooks if hook.type == 'MomentumUpdateHook']
    start = model.base_momentum
    return start, start if hook.get('schedule', 'cosine') == 'constant' else hook.get('end_momentum', 1.0)


def describe_queues(model):
    queues = [m for m in (getattr(model, 'queue', None), getattr(model, 'queue_x1', None)) if m is not None]
    return (len(queues), len(queues[0]), len(queues[0].keys)) if queues else None


def read_training(cfg, devices):
    """What pre-training and linear evaluation have in common."""
    optimizer, loader, scaling = cfg.optim_wrapper.optimizer, cfg.train_dataloader, cfg.auto_scale_lr
    images = devices * loader.batch_size
    # A rate that does not follow the batch must be for the batch of the recipe, so that --auto-scale-lr works.
    assert scaling.enable or scaling.base_batch_size == images
    clip = cfg.optim_wrapper.get('clip_grad')
    assert clip is None or set(clip) == {'max_norm'}
    return dict(
        gpus=devices,
        images_per_gpu=loader.batch_size,
        lr=optimizer.lr,
        lr_images=scaling.base_batch_size,
        peak_lr=optimizer.lr * images / scaling.base_batch_size,
        optimizer=optimizer.type,
        clip=clip and clip.max_norm,
        epochs=cfg.train_cfg.max_epochs,
        schedule=describe_schedule(cfg.param_scheduler),
        crop_min=loader.dataset.crops.scale[0],
        size=loader.dataset.crops.size,
    )


def read_pretraining(name):
    cfg, model = load(PATH(name)), build(PATH(name))
    return Pretraining(
        **read_training(cfg, gpus(name)),
        algorithm=type(model).__name__,
        weight_decay=cfg.optim_wrapper.optimizer.weight_decay,
        momentum=describe_momentum(cfg, model),
        temperature=model.head.temperature,
        queue=describe_queues(model),
        views=PRETRAINING_TABLE[name].views,  # test_augmentation
        batch_norm=describe_batch_norm(model),
        backbone=describe_backbone(model.backbone, cfg.model.backbone),
        projector=describe_mlp(model.neck),
        predictor=describe_mlp(model.head.predictor),
    )


def read_linear(name):
    cfg, model = load(PATH(name)), build(PATH(name))
    backbone = describe_backbone(model.backbone, cfg.model.backbone)
    if backbone[0] == 'vit':  # all of it is frozen, so whether the patch projection was trained does not show
        backbone = (*backbone[:-1], backbone[-2] == 'patch')
    return Linear(
        **read_training(cfg, gpus(name)),
        label_smoothing=getattr(model.head.loss_module, 'label_smooth_val', 0.0),
        backbone=backbone,
        classes=model.head.fc.out_features,
        test_resize=cfg.test_dataloader.dataset.crops.resize,
    )


def assert_same(ours, published):
    """Equal, and floats to rounding."""
    for field, expected in asdict(published).items():
        value = getattr(ours, field)
        same = isclose(value, expected, rel_tol=1e-12) if isinstance(expected, float) else value == expected
        assert same, f'{field}: the config has {value}, the published recipe {expected}'


def built_optimizer(name):
    cfg, model = load(PATH(name)), build(PATH(name))
    with DefaultScope.overwrite_default_scope('mocox'):
        return model, build_optim_wrapper(model, cfg.optim_wrapper.to_dict()).optimizer


def test_every_shipped_config_is_in_a_table():
    """The digits recipes have tests of their own, which hold them to a target."""
    names = {name.removeprefix('configs/').removesuffix('.py') for name in PRETRAINING + LINEAR}
    assert {name for name in names if 'digits' not in name} == set(PRETRAINING_TABLE) | set(LINEAR_TABLE)


@pytest.mark.parametrize('name', PRETRAINING_TABLE)
def test_pretraining_recipe(name):
    assert_same(read_pretraining(name), PRETRAINING_TABLE[name])


@pytest.mark.parametrize('name', LINEAR_TABLE)
def test_linear_recipe(name):
    assert_same(read_linear(name), LINEAR_TABLE[name])


@pytest.mark.parametrize('name', PRETRAINING_TABLE)
def test_optimizer_settings(name):
    """PyTorch's defaults [D, Q, M, F]."""
    _, optimizer = built_optimizer(name)
    settings = optimizer.defaults
    if PRETRAINING_TABLE[name].optimizer == 'AdamW':
        assert (settings['betas'], settings['eps'], settings['amsgrad']) == ((0.9, 0.999), 1e-8, False)
    elif PRETRAINING_TABLE[name].optimizer == 'SGD':
        assert (settings['momentum'], settings['dampening'], settings['nesterov']) == (0.9, 0, False)
    else:
        trust = 0.02 if 'fashion' in name else 0.001  # that of solo-learn for CIFAR
        assert (settings['momentum'], settings['trust_coefficient']) == (0.9, trust)


@pytest.mark.parametrize('name', sorted(PRETRAINING_TABLE.keys() - WITH_PARAMETER_GROUPS))
def test_one_weight_decay_for_everything(name):
    """[D, Q]: AdamW and SGD decay norms and biases too; LARS leaves vectors alone."""
    model, optimizer = built_optimizer(name)
    (group,) = optimizer.param_groups
    assert {id(p) for p in model.parameters() if p.requires_grad} <= {id(p) for p in group['params']}
    assert group['weight_decay'] == PRETRAINING_TABLE[name].weight_decay


@pytest.mark.parametrize('name', ['mocov3/continue_vit-small', 'mocov3/continue_convnext-tiny'])
def test_going_on_moves_early_layers_least(name):
    """[O]: the heads have the whole learning rate, the last block .75 of it, each one before .75 of the next."""
    model, optimizer = built_optimizer(name)
    for group in optimizer.param_groups:
        (p,) = group['params']
        key = group['param_name']
        assert group['weight_decay'] == (0 if p.ndim == 1 else 0.05), key
        depth, num_depths = model.backbone.get_layer_depth(key, 'backbone.') if key.startswith('backbone.') else (1, 2)
        assert group['lr'] == pytest.approx(1e-4 * 0.75 ** (num_depths - 1 - depth)), key
    rates = {group['param_name']: group['lr'] for group in optimizer.param_groups}
    assert set(rates) == {key for key, p in model.named_parameters() if p.requires_grad}
    if name == 'mocov3/continue_vit-small':
        assert rates['backbone.timm_model.blocks.0.attn.qkv.weight'] == pytest.approx(1e-4 * 0.75**12)
        assert rates['backbone.timm_model.cls_token'] == pytest.approx(1e-4 * 0.75**13)


@pytest.mark.parametrize('name', ['moby/swin-tiny', 'moby/deit-small'])
def test_moby_leaves_norms_and_biases_without_decay(name):
    model, optimizer = built_optimizer(name)
    decay = {id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']}
    for key, p in model.named_parameters():
        if p.requires_grad:
            assert decay[id(p)] == (0 if key.endswith('.bias') or p.ndim == 1 else 0.05), key


@pytest.mark.parametrize('name', ['moby/swin-tiny', 'moby/deit-small'])
def test_moby_drops_paths_of_the_query_encoder_only(name):
    """[M]: .2 in the last block, growing linearly from 0; none in the momentum encoder."""
    model = build(PATH(name))
    rates = [m.drop_prob for m in model.backbone.modules() if type(m).__name__ == 'DropPath']
    assert rates == sorted(rates) and rates[0] == 0 and rates[-1] == pytest.approx(0.2)
    assert not any(getattr(m, 'drop_prob', 0) for m in model.momentum_encoder.modules())


def test_fast_moco_keeps_the_learning_rate_of_its_predictor():
    """[F] WCosCon: a cosine for the encoder, a constant for the predictor; one weight decay."""
    model, optimizer = built_optimizer('fast_moco/resnet50_100e')
    fixed = {id(p) for group in optimizer.param_groups if group.get('fix_lr') for p in group['params']}
    assert fixed == {id(p) for p in model.head.predictor.parameters()}
    assert {group['weight_decay'] for group in optimizer.param_groups} == {1e-4}
    assert {group['lr'] for group in optimizer.param_groups} == {0.1}


def test_fast_moco_combines_pairs_of_four_patches():
    model = build(PATH('fast_moco/resnet50_100e'))
    assert (model.num_splits, model.num_combined) == (2, 2)


def test_lars_leaves_vectors_without_decay_and_scaling():
    cfg = load(PATH('mocov3/resnet50_100e')).optim_wrapper.to_dict()
    model = nn.Linear(2, 2)
    with DefaultScope.overwrite_default_scope('mocox'):
        optimizer = build_optim_wrapper(model, cfg).optimizer
    before = model.bias.detach().clone()
    model.weight.grad, model.bias.grad = torch.ones(2, 2), torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(model.bias.detach(), before - 0.6)


@pytest.mark.parametrize('name', PRETRAINING_TABLE)
def test_data_pipeline(name):
    """[D, Q, M, F, S]: two random crops of the default aspect ratio, shuffled, the last incomplete batch dropped."""
    loader = load(PATH(name)).train_dataloader
    assert loader.drop_last is True
    assert (loader.sampler.type, loader.sampler.shuffle) == ('EpochSampler', True)
    crops = loader.dataset.crops
    assert (crops.type, crops.num_views, crops.scale[1]) == ('RandomResizedCrops', 2, 1)
    assert tuple(crops.get('ratio', (3 / 4, 4 / 3))) == (3 / 4, 4 / 3)
    assert crops.get('interpolation', 'bilinear') == ('bicubic' if name in BICUBIC else 'bilinear')
    assert not loader.dataset.get('with_labels', False)


@pytest.mark.parametrize('name', PRETRAINING_TABLE)
def test_augmentation(name):
    """Everything that happens to a view, in its order; what never happens has no place in the order."""
    built = build(PATH(name)).data_preprocessor.views
    views = [asdict(view) for view in built]
    for view, steps in zip(views, (view.steps for view in built), strict=True):
        prob = view | dict(weighted_grayscale_prob=view['grayscale_prob'])
        unused = [] if view['color_jitter'] else ['color_jitter']
        view['order'] = [step for step in steps if prob[f'{step}_prob'] > 0 and step not in unused]
    assert views == VIEWS[PRETRAINING_TABLE[name].views]


def test_v1_turns_gray_before_it_jitters_the_colours():
    """The config's preprocessor on one image, against torchvision's operators in the published order and in v2's."""
    cfg = model_config(load(PATH('mocov1/resnet50_200e')))['data_preprocessor']
    with DefaultScope.overwrite_default_scope('mocox'):
        preprocessor = MODELS.build(cfg | dict(mean=[0.0] * 3, std=[255.0] * 3))
    image = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    # jitter; brightness 1.12, contrast .68, saturation 1.2, hue +.2 in this order; grayscale; no blur, flip
    draws = torch.tensor([0.99, 0.65, 0.1, 0.75, 0.75, 0.0, 0.1, 0.0, 0.5, 0.0, 0.4]).expand(1, 2, -1)
    ours = preprocessor(dict(inputs=[image, image], draws=draws), training=True)['inputs'][0]

    def gray(x):
        return F.rgb_to_grayscale(x, num_output_channels=3)

    def jitter(x):
        x = F.adjust_contrast(F.adjust_brightness(x, 1.12), 0.68)
        return F.adjust_hue(F.adjust_saturation(x, 1.2), 0.2)

    published, swapped = (F.horizontal_flip(x) for x in (jitter(gray(image / 255)), gray(jitter(image / 255))))
    torch.testing.assert_close(ours, published, rtol=0, atol=1e-3)
    assert (ours - swapped).abs().max() > 0.02


@pytest.mark.parametrize(
    'name', ON_IMAGENET + [name for name in LINEAR_TABLE if not any(word in name for word in OWN_COLOURS)]
)
def test_normalisation(name):
    cfg = model_config(load(PATH(name)))['data_preprocessor']
    assert (cfg['mean'], cfg['std']) == IMAGENET


@pytest.mark.parametrize('name', PRETRAINING_TABLE)
def test_nothing_but_positions_and_patches_of_moco_vits_is_frozen(name):
    model = build(PATH(name))
    names = {key.removeprefix('timm_model.'): p.requires_grad for key, p in model.backbone.named_parameters()}
    frozen = {key.split('.')[0] for key, trained in names.items() if not trained}
    patches = {'patch_embed'} if PRETRAINING_TABLE[name].backbone[-1] is True or name in WARM_VITS else set()
    assert frozen == patches | ({'pos_embed'} if name in MOCOVITS else set())
    assert all(p.requires_grad for p in [*model.neck.parameters(), *model.head.parameters()])


@pytest.mark.parametrize('name', MOCOVITS)
def test_output_of_the_vit_is_the_normalised_class_token(name):
    backbone = build(PATH(name)).backbone
    assert (backbone.out_type, type(backbone.norm), backbone.norm.eps) == ('cls_token', nn.LayerNorm, 1e-6)  # [B]


@pytest.mark.parametrize(
    ('name', 'zero'),
    [('mocov3/resnet50_100e', True), ('fast_moco/resnet50_100e', True), ('mocov2/resnet50_200e', False)],
)
def test_residual_blocks_start_as_identities_where_published(name, zero):
    """zero_init_residual [D, F; not Q]: a smaller ResNet in the shipped config, query and momentum encoder."""
    cfg = model_config(load(PATH(name)))
    cfg['backbone'] |= dict(depth=18)
    cfg['neck'] |= dict(in_channels=512, hid_channels=8)
    with DefaultScope.overwrite_default_scope('mocox'):
        model = MODELS.build(cfg)
    model.init_weights()
    for encoder in (model, model.momentum_encoder):
        scales = [norm for name, norm in encoder.backbone.named_parameters() if name.endswith('bn2.weight')]
        assert len(scales) == 8
        assert all((scale == (0 if zero else 1)).all() for scale in scales)


@pytest.mark.parametrize('name', ['mocov1/resnet50_200e', 'mocov2/resnet50_200e'])
def test_projectors_keep_the_initialisation_of_pytorch(name):
    """[Q]: nn.Linear's own, uniform within 1 / sqrt(width of the input), for weights and biases."""
    cfg = model_config(load(PATH(name)))['neck'] | dict(in_channels=256, out_channels=256)
    with DefaultScope.overwrite_default_scope('mocox'):
        neck = MODELS.build(cfg)
    neck.init_weights()
    for layer in [m for m in neck.modules() if isinstance(m, nn.Linear)]:
        for tensor in (layer.weight, layer.bias):
            assert tensor.std().item() == pytest.approx((3 * layer.in_features) ** -0.5, rel=0.2)
            assert tensor.abs().max() <= layer.in_features**-0.5


SMALLER = {
    'moby/swin-tiny': dict(arch=dict(embed_dims=64, depths=[1, 1], num_heads=[1, 2]), out_indices=(1,)),
    'moby/deit-small': dict(arch=dict(embed_dims=64, num_layers=1, num_heads=2, feedforward_channels=256)),
}


@pytest.mark.parametrize('name', SMALLER)
def test_transformers_of_moby_start_as_published(name):
    """[M], timm: linear layers from a normal law of .02, biases 0. mmpretrain keeps Xavier for the MLPs of a ViT."""
    cfg = model_config(load(PATH(name)))['backbone'] | SMALLER[name] | dict(img_size=32)
    with DefaultScope.overwrite_default_scope('mocox'):
        backbone = MODELS.build(cfg)
    backbone.init_weights()
    layers = {key: m for key, m in backbone.named_modules() if isinstance(m, nn.Linear)}
    layers = {key: m for key, m in layers.items() if 'swin' in name or 'ffn' not in key}
    assert layers
    for key, layer in layers.items():
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1), key
        assert layer.bias is None or (layer.bias == 0).all(), key


def test_classifier_starts_as_published():
    """[D, Q, F]: N(0, 0.01) and zero bias."""
    cfg = model_config(load(PATH('mocov3/vit-tiny_cifar10_linear')))
    cfg['head'] |= dict(num_classes=1000)
    with DefaultScope.overwrite_default_scope('mocox'):
        model = MODELS.build(cfg)
    model.init_weights()
    assert model.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.01)  # 192 000 draws: 0.2 % standard error
    assert (model.head.fc.bias == 0).all()


@pytest.mark.parametrize('name', LINEAR_TABLE)
def test_linear_protocol(name):
    """[D, Q, M, F]: momentum .9, that of [M] Nesterov's, no decay; random crop and flip, in the test a centre crop."""
    cfg = load(PATH(name))
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 0)
    assert optimizer.get('nesterov', False) == name.startswith('moby')
    train, test = cfg.train_dataloader, cfg.test_dataloader
    assert (train.sampler.shuffle, train.get('drop_last', False), train.dataset.with_labels) == (True, False, True)
    assert (train.dataset.crops.type, train.dataset.crops.num_views) == ('RandomResizedCrops', 1)
    assert (test.sampler.shuffle, test.get('drop_last', False), test.dataset.with_labels) == (False, False, True)
    assert (test.dataset.crops.type, test.dataset.crops.size) == ('CenterCrop', LINEAR_TABLE[name].size)
    assert cfg.val_dataloader == test
    few = re.search('custom|elpv|continue', name)  # a folder may have few classes
    assert tuple(cfg.test_evaluator.topk) == ((1,) if few else (1, 5))
    (view,) = model_config(cfg)['data_preprocessor']['views']
    assert LINEAR_VIEW | view == LINEAR_VIEW


@pytest.mark.parametrize('name', LINEAR_TABLE)
def test_linear_model_trains_the_classifier_only(name):
    """Evaluation mode while training, no BatchNorm before the classifier, which starts at N(0, 0.01) and 0."""
    cfg, model = load(PATH(name)), build(PATH(name))
    model.train()
    assert not any(m.training for m in model.backbone.modules())
    assert {key for key, p in model.named_parameters() if p.requires_grad} == {'head.fc.weight', 'head.fc.bias'}
    assert [type(m) for m in model.head.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)] == []
    assert set(dict(model.named_children())) == {'data_preprocessor', 'backbone', 'head'}
    init = cfg.model.head.init_cfg
    assert (init.type, init.layer, init.std, init.bias) == ('Normal', 'Linear', 0.01, 0)
