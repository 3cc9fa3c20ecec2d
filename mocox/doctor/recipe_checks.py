"""Checks for known bad combinations of settings, one function each."""

import math
from collections.abc import Callable

from mocox.doctor.findings import NOTE, PROBLEM, WARNING, Finding, count
from mocox.recipe import Recipe, argument, type_of

V3 = 'arXiv 2104.02057'
V1 = 'arXiv 1911.05722'
# Peak learning rates per 256 images between which the published recipes of an optimizer lie, with a factor of 8 left on
# both sides: what lies outside belongs to another optimizer.
USUAL_LR = {'AdamW': (1e-5, 1e-2), 'LARS': (3e-2, 10.0), 'SGD': (3e-3, 1.0)}

Check = Callable[[Recipe], Finding | None]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Add a check to the list."""
    CHECKS.append(function)
    return function


def check_recipe(recipe: Recipe) -> list[Finding]:
    """Run all checks."""
    return [finding for function in CHECKS if (finding := function(recipe))]


@check
def temperature(recipe: Recipe) -> Finding | None:
    """T = 1 is MoCo v3's for ResNets; its ViTs have 0.2."""
    value = recipe.temperature
    if recipe.method != 'MoCoV3' or not recipe.is_vit or value is None or value < 0.5:
        return None
    return Finding(
        WARNING, 'temperature', f'temperature {value:g} with a vision transformer',
        'The paper trains its vision transformers at 0.2; 1.0 is for its ResNets.',
        '--cfg-options model.head.temperature=0.2', f'{V3}, official code (ViT: 0.2, ResNet-50: 1.0)',
    )  # fmt: skip


@check
def sync_bn_with_queue(recipe: Recipe) -> Finding | None:
    """A backbone whose BatchNorm lets a key know its query."""
    if recipe.method != 'MoCo' or 'ResNet' not in type_of(recipe.backbone):
        return None
    norm = recipe.backbone.get('norm_cfg') or dict(type='BN')
    kind, group = type_of(norm) or 'BN', norm.get('group_size', 32)
    split = kind == 'SplitBN' and recipe.images_per_process >= 2 * group
    if split or (kind in ('BN', 'SplitBN') and recipe.processes > 1):
        return None
    title = f'{kind} in a backbone with a queue' + ('' if kind == 'SyncBN' else ', in one process')
    if kind == 'SplitBN':
        title = f'SplitBN with groups of {group} and {recipe.images_per_process} images: a single group'
    return Finding(
        PROBLEM if kind == 'SyncBN' else WARNING, 'sync_bn_with_queue', title,
        'Query and key are normalised with the same statistics. The model can tell the right key by them, without '
        'looking at the image: the loss falls, and nothing is learned.',
        "backbone.norm_cfg=dict(type='mocox.SplitBN', group_size=32) with at least 64 images per process",
        f'{V1}, section 3.3; facebookresearch/moco#46',
    )  # fmt: skip


@check
def momentum_of_small_data(recipe: Recipe) -> Finding | None:
    """The key encoder's memory against the length of an epoch."""
    base, steps = recipe.momentum, recipe.steps_per_epoch
    if base is None or not steps or base < 0.995 or base >= 1:
        return None
    memory = 1 / (1 - base)
    if memory <= 2 * steps:
        return None
    return Finding(
        WARNING, 'momentum_of_small_data', f'momentum {base:g} and {count(steps, "step")} per epoch',
        f'The keys lag {memory:,.0f} steps behind, {memory / steps:.1f} epochs. On small data sets such runs stay at '
        f'chance for many epochs.',
        '--cfg-options model.base_momentum=0.99', 'DTennant/CL-Visualizing-Feature-Transformation#1 (ImageNet-100)',
    )  # fmt: skip


@check
def momentum_convention(recipe: Recipe) -> Finding | None:
    """The number of mmpretrain, which is 1 less ours."""
    base = recipe.momentum
    if base is None or base >= 0.5:
        return None
    return Finding(
        WARNING, 'momentum_convention', f'base_momentum {base:g}',
        'This is the weight of the OLD key encoder, as in the papers: it would be almost replaced in each step. '
        'mmpretrain writes 1 less this number.',
        f'--cfg-options model.base_momentum={1 - base:g}', f'{V1}, table of section 4.1: 0 fails, 0.9 costs 4 points',
    )  # fmt: skip


@check
def queue_longer_than_data(recipe: Recipe) -> Finding | None:
    """Negatives that are older keys of the same image."""
    length = recipe.queue_len
    if length is None or recipe.num_images is None or length <= recipe.num_images:
        return None
    fitting = 2 ** max(0, int(math.log2(max(recipe.num_images // 2, 1))))
    return Finding(
        WARNING, 'queue_longer_than_data', f'{length:,} keys in the queue and {recipe.num_images:,} images',
        'Every image has older keys of its own in the queue, and the model is told to push them away.',
        f'--cfg-options model.queue_len={fitting}', 'facebookresearch/moco#17, #36',
    )  # fmt: skip


@check
def heads_of_vit_small(recipe: Recipe) -> Finding | None:
    """6 heads in a ViT-S, as timm and DeiT have it."""
    arch = recipe.backbone.get('arch')
    heads = None
    if isinstance(arch, dict) and arch.get('embed_dims') == 384:
        heads = arch.get('num_heads')
    elif str(recipe.backbone.get('model_name', '')).startswith(('vit_small', 'deit_small')) or arch in (
        'deit-small',
        'deit-s',
    ):
        heads = 6
    if recipe.method != 'MoCoV3' or heads != 6:
        return None
    return Finding(
        WARNING, 'heads_of_vit_small', 'a ViT-S with 6 heads',
        "MoCo v3's has 12. Weights of one load into the other without an error and mean something else.",
        "backbone=dict(type='MoCoViT', arch='small')", f'{V3}, table 2',
    )  # fmt: skip


@check
def float16(recipe: Recipe) -> Finding | None:
    """Half precision where it hurts."""
    wrapper = recipe.optim_wrapper
    if type_of(wrapper) != 'AmpOptimWrapper' or wrapper.get('dtype') not in (None, 'float16'):
        return None
    head = type_of(recipe.head)
    own = head != 'ContrastiveHead'
    return Finding(
        WARNING if own else NOTE, 'float16',
        'float16' + (f' with {head}, which may compute the loss in it' if own else ' (the loss is in float32)'),
        'In float16 the guard against zero vectors in a normalisation is 0, and logits overflow: the loss becomes NaN. '
        'bfloat16 has the range of float32.',
        '--cfg-options optim_wrapper.dtype=bfloat16' + (', and normalise in float32' if own else ''),
        'facebookresearch/dino#58, sihyun-yu/REPA#46, open-mmlab/mmengine#960',
    )  # fmt: skip


@check
def batch_of_v3(recipe: Recipe) -> Finding | None:
    """MoCo v3's negatives are its batch."""
    if recipe.method != 'MoCoV3' or recipe.batch_size >= 256:
        return None
    level = PROBLEM if recipe.batch_size < 2 else WARNING if recipe.batch_size < 32 else NOTE
    return Finding(
        level, 'batch_of_v3', f'{recipe.batch_size} images in a step, so {recipe.batch_size - 1} negatives',
        'The other images of the batch are the only negatives. The paper has 1,024 to 4,096.',
        'a larger train_dataloader.batch_size; model.chunk_size=64 trains it in little memory (no BatchNorm in the '
        'backbone)',
        f'{V3}, figure 1 and table 4',
    )  # fmt: skip


@check
def accumulation(recipe: Recipe) -> Finding | None:
    """Added gradients are not a batch."""
    if recipe.accumulation == 1 or recipe.method not in ('MoCoV3', 'FastMoCo'):
        return None
    return Finding(
        WARNING, 'accumulation', f'gradients of {recipe.accumulation} steps are added up',
        f'This adds no negatives: each image is contrasted with {recipe.batch_size - 1}, not '
        f'{recipe.accumulation * recipe.batch_size - 1}, and BatchNorm sees the small batch.',
        f'accumulative_counts=1, train_dataloader.batch_size={recipe.accumulation * recipe.images_per_process} and '
        'model.chunk_size, which gives exactly the large batch',
        'google-research/simclr#203',
    )  # fmt: skip


@check
def fewer_images_than_a_batch(recipe: Recipe) -> Finding | None:
    """Nothing to train on."""
    if recipe.steps_per_epoch != 0:
        return None
    return Finding(
        PROBLEM, 'fewer_images_than_a_batch', f'{recipe.num_images:,} images, and {recipe.batch_size:,} in a batch',
        'drop_last=True drops the only, incomplete batch: an epoch has no step.',
        f'--cfg-options train_dataloader.batch_size={max(2, (recipe.num_images or 0) // 4 // recipe.processes)}',
    )  # fmt: skip


@check
def much_is_dropped(recipe: Recipe) -> Finding | None:
    """A large part of every epoch is not seen."""
    steps, num_images = recipe.steps_per_epoch, recipe.num_images
    if not steps or num_images is None or not recipe.loader.get('drop_last'):
        return None
    lost = num_images - steps * recipe.batch_size
    if lost < 0.1 * num_images:
        return None
    return Finding(
        NOTE, 'much_is_dropped', f'{lost / num_images:.0%} of the images are left out of each epoch',
        f'{num_images:,} images make {steps:,} whole batch{"es" * (steps != 1)} of {recipe.batch_size:,}. '
        'Others are left out each time.',
        'a smaller batch, or more epochs', '',
    )  # fmt: skip


@check
def small_last_batch(recipe: Recipe) -> Finding | None:
    """A last batch with few negatives."""
    if recipe.method != 'MoCoV3' or recipe.loader.get('drop_last', False):
        return None
    if recipe.num_images is not None and recipe.num_images % recipe.batch_size == 0:
        return None
    return Finding(
        WARNING, 'small_last_batch', 'drop_last is off',
        'The last batch of an epoch has fewer negatives, so another loss and another gradient.',
        '--cfg-options train_dataloader.drop_last=True', 'open-mmlab/mmpretrain#1850',
    )  # fmt: skip


@check
def lr_not_scaled(recipe: Recipe) -> Finding | None:
    """A learning rate for another batch."""
    scale = recipe.config.get('auto_scale_lr') or {}
    base = scale.get('base_batch_size')
    effective = recipe.batch_size * recipe.accumulation
    if scale.get('enable') or not base or base / 2 <= effective <= 2 * base:
        return None
    return Finding(
        WARNING, 'lr_not_scaled', f'the learning rate is for {base} images, a step has {effective}',
        'A learning rate belongs to a batch: the published recipes scale it in proportion.',
        f'--auto-scale-lr, or optim_wrapper.optimizer.lr={recipe.optimizer.get("lr", 0) * effective / base:.3g}',
        'arXiv 1706.02677; facebookresearch/moco#19, #132',
    )  # fmt: skip


@check
def lr_of_another_optimizer(recipe: Recipe) -> Finding | None:
    """A learning rate that no recipe of this optimizer has."""
    kind = type_of(recipe.optimizer)
    if recipe.peak_lr is None or kind not in USUAL_LR or recipe.method not in ('MoCo', 'MoCoV3', 'MoBY', 'FastMoCo'):
        return None
    per_256 = recipe.peak_lr * 256 / (recipe.batch_size * recipe.accumulation)
    low, high = USUAL_LR[kind]
    if low <= per_256 <= high:
        return None
    return Finding(
        WARNING, 'lr_of_another_optimizer', f'{kind} with a learning rate of {per_256:.2g} per 256 images',
        f'Recipes for {kind} lie between {low:g} and {high:g}. Too low, it stays at chance; too high, it diverges.',
        '1.5e-4 for AdamW and 0.3 to 0.6 for LARS (MoCo v3), 0.03 for SGD (MoCo v1, v2), each per 256 images',
        f'{V3}, official code; facebookresearch/moco-v3#34',
    )  # fmt: skip


@check
def warmup_too_long(recipe: Recipe) -> Finding | None:
    """A peak that is never reached."""
    schedule = recipe.config.get('param_scheduler')
    parts = schedule if isinstance(schedule, list | tuple) else [schedule]
    warmups = [part.get('warmup_epochs', 0) if isinstance(part, dict) else 0 for part in parts]
    warmup = max(warmups, default=0)
    if not recipe.epochs or not warmup or warmup < recipe.epochs / 2:
        return None
    place = f'param_scheduler.{warmups.index(warmup)}' if isinstance(schedule, list | tuple) else 'param_scheduler'
    shorter = recipe.epochs // 8 or recipe.epochs / 8  # a part of an epoch, where there are few
    return Finding(
        WARNING, 'warmup_too_long', f'{warmup:g} of {recipe.epochs} epochs are warm-up',
        'The learning rate is at its peak for a moment or never.',
        f'--cfg-options {place}.warmup_epochs={shorter:g}', f'{V3}: 40 of 300 epochs',
    )  # fmt: skip


@check
def trained_patches(recipe: Recipe) -> Finding | None:
    """The cure of the paper, switched off."""
    trained = not argument(recipe.backbone, 'stop_grad_conv1') and argument(recipe.backbone, 'stem') == 'patch'
    if recipe.method != 'MoCoV3' or type_of(recipe.backbone) != 'MoCoViT' or not trained:
        return None
    return Finding(
        WARNING, 'trained_patches', 'the patch projection is trained',
        'Instability starts there: frozen at its random initial value it gained 0.4 to 1.7 points, and no spikes.',
        '--cfg-options model.backbone.stop_grad_conv1=True', f'{V3}, section 4.2',
    )  # fmt: skip
