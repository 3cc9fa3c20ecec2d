"""The recipes as their sources give them, typed in; nothing here is read from a config.

Sources: [C] the configuration page of the official moco-v3 repository, [D] the defaults of its two training scripts,
[B] its model builder, [P] arXiv 2104.02057 (sections 5 and 6, tables 1 and 2, appendix A); [Q] README, training scripts
and model of the official repository of MoCo v1 and v2, [R] arXiv 1911.05722; [S] solo-learn's files for MoCo v2+ on
ImageNet; [M] configuration files, model, data and training scripts of the official MoBY repository; [F] those of the
official Fast-MoCo repository; [O] our own recipe, for which no paper speaks: listed so that a change is seen.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pretraining:
    """One row of a table of pre-training recipes."""

    algorithm: str
    gpus: int
    images_per_gpu: int
    lr: float  # as the config has it
    lr_images: int  # the batch it is for
    peak_lr: float  # in training
    optimizer: str
    weight_decay: float
    clip: float | None  # largest norm of the gradient
    epochs: int
    schedule: tuple  # of the learning rate: see cosine and steps
    momentum: tuple[float, float]  # of the key encoder at the start and at the end, by a cosine
    temperature: float
    queue: tuple[int, int, int] | None  # queues, keys in each, width of a key
    views: str  # a key of VIEWS
    crop_min: float
    size: int
    batch_norm: str | None
    backbone: tuple
    projector: str
    predictor: str | None


@dataclass(frozen=True)
class Linear:
    """One row of a table of linear evaluations."""

    gpus: int
    images_per_gpu: int
    lr: float
    lr_images: int
    peak_lr: float
    optimizer: str
    clip: float | None
    epochs: int
    schedule: tuple
    label_smoothing: float
    backbone: tuple
    classes: int
    crop_min: float
    size: int
    test_resize: int


def cosine(per, warmup=0, start=0.0, end=0.0, prefix=True):
    """Linear warm-up from the fraction ``start`` of the peak, then half a cosine to ``end``.

    Without ``prefix`` the warm-up takes the place of the cosine's first part.
    """
    return 'cosine per ' + per, warmup, start, end, prefix


def steps(*epochs):
    """Divided by 10 after these epochs."""
    return 'steps', epochs, 0.1


# --- Backbones: kind, and the numbers that distinguish it ---


def vit(width, depth, heads, patch, tokens, stem='patch', frozen_patches=True):
    return 'vit', width, depth, heads, 4 * width, patch, tokens, stem, frozen_patches


# [P table 2]: blocks, width, heads; ViT-S has 12 heads [P, B]; /16, and /14 for ViT-H [P section 5, table 6]; conv
# stems go with 11 blocks [B].
VIT_S = vit(384, 12, 12, 16, 14 * 14)
VIT_B = vit(768, 12, 12, 16, 14 * 14)
VIT_L = vit(1024, 24, 16, 16, 14 * 14)
VIT_H = vit(1280, 32, 16, 14, 16 * 16)
VIT_S_CONV = vit(384, 11, 12, 16, 14 * 14, stem='conv', frozen_patches=False)
VIT_B_CONV = vit(768, 11, 12, 16, 14 * 14, stem='conv', frozen_patches=False)
VIT_TI = vit(192, 12, 12, 16, 14 * 14)
VIT_FASHION = vit(96, 4, 3, 4, 7 * 7, stem='conv', frozen_patches=False)
VIT_TI_32PX = vit(192, 12, 12, 4, 8 * 8)
RESNET50_ZERO = ('resnet', 50, 'last scale of each block starts at 0')  # zero_init_residual=True [D, F]
RESNET50 = ('resnet', 50)
RESNET18 = ('resnet', 18)
RESNET18_ZERO = ('resnet', 18, 'last scale of each block starts at 0')
RESNET18_CIFAR = ('resnet, 3 x 3 stem', 18)
TIMM_RESNET18 = ('timm', 'resnet18')
DINOV2_S = ('timm', 'vit_small_patch14_reg4_dinov2')
DINOV3_CONVNEXT = ('timm', 'convnext_tiny')
SWIN_T = ('swin', 96, (2, 2, 6, 2), (3, 6, 12, 24), 7, 4)  # width, blocks, heads, window, patch [M]
DEIT_S = ('deit', 384, 12, 6, 1536, 16, 14 * 14)  # timm's deit_small_patch16_224 [M]

# --- Heads: in-out, +b with bias ---


# [P section 5, B]: no biases; BatchNorm everywhere, the last one without scale and shift; none at the end of the
# ResNet's predictor.
def vit_projector(width):
    return f'{width}-4096 BN ReLU 4096-4096 BN ReLU 4096-256 BN(no affine)'


def resnet_projector(width):
    return f'{width}-4096 BN ReLU 4096-256 BN(no affine)'


VIT_PREDICTOR = '256-4096 BN ReLU 4096-256 BN(no affine)'
RESNET_PREDICTOR = '256-4096 BN ReLU 4096-256'


def moby_mlp(width):
    return f'{width}-4096+b BN ReLU 4096-256+b'  # [M] MoBYMLP


FAST_PROJECTOR = '2048-2048+b BN ReLU 2048-2048+b BN ReLU 2048-2048+b BN'  # [F] projection_MLP
FAST_PREDICTOR = '2048-512+b BN ReLU 512-2048+b'  # [F] prediction_MLP

# --- Pre-training ---


def adamw_vit(backbone, gpus, images_per_gpu, peak_lr, **changes):
    """[C]: lr 1.5e-4 per 256, wd .1, 300 epochs, 40 of warm-up, m .99, T .2, frozen patches; [D]: crops from 8 %."""
    values = dict(
        algorithm='MoCoV3', gpus=gpus, images_per_gpu=images_per_gpu, lr=1.5e-4, lr_images=256, peak_lr=peak_lr,
        optimizer='AdamW', weight_decay=0.1, clip=None, epochs=300, schedule=cosine('iteration', 40),
        momentum=(0.99, 1.0), temperature=0.2, queue=None, views='v3', crop_min=0.08, size=224, batch_norm='SyncBN',
        backbone=backbone, projector=vit_projector(backbone[1]), predictor=VIT_PREDICTOR,
    )  # fmt: skip
    return Pretraining(**values | changes)


def lars_r50(**changes):
    """[C]: 2 nodes of 8, batch 4096, crops from 20 %; [D]: LARS, 10 epochs of warm-up, T 1, m .99."""
    values = dict(
        algorithm='MoCoV3', gpus=16, images_per_gpu=256, lr_images=256, optimizer='LARS', clip=None,
        schedule=cosine('iteration', 10), momentum=(0.99, 1.0), temperature=1.0, queue=None, views='v3', crop_min=0.2,
        size=224, batch_norm='SyncBN', backbone=RESNET50_ZERO, projector=resnet_projector(2048),
        predictor=RESNET_PREDICTOR,
    )  # fmt: skip
    return Pretraining(**values | changes)


def queue_r50(**changes):
    """[Q]: 8 GPUs x 32, SGD .03 for this batch, wd 1e-4, m .999, K 65536, D 128, crops from 20 %; v2: T .2, an MLP."""
    values = dict(
        algorithm='MoCo', gpus=8, images_per_gpu=32, lr=0.03, lr_images=256, peak_lr=0.03, optimizer='SGD',
        weight_decay=1e-4, clip=None, epochs=200, schedule=cosine('epoch'), momentum=(0.999, 0.999), temperature=0.2,
        queue=(1, 65536, 128), views='v2', crop_min=0.2, size=224, batch_norm='SplitBN 32', backbone=RESNET50,
        projector='2048-2048+b ReLU 2048-128+b', predictor=None,
    )  # fmt: skip
    return Pretraining(**values | changes)


def moby(backbone, width):
    """[M]: 8 GPUs x 64, AdamW 1e-3 for 512 images, wd .05, clip 5, 300 epochs, 5 of warm-up from 5e-7, down to 5e-6."""
    return Pretraining(
        algorithm='MoBY', gpus=8, images_per_gpu=64, lr=1e-3, lr_images=512, peak_lr=1e-3, optimizer='AdamW',
        weight_decay=0.05, clip=5.0, epochs=300, schedule=cosine('iteration', 5, 5e-7 / 1e-3, 5e-6, prefix=False),
        momentum=(0.99, 1.0), temperature=0.2, queue=(2, 4096, 256), views='v3', crop_min=0.08, size=224,
        batch_norm='SyncBN', backbone=backbone, projector=moby_mlp(width), predictor=moby_mlp(256),
    )  # fmt: skip


def fast_moco(epochs):
    """[F]: 16 GPUs x 32, SGD .1 from .025 within one epoch, wd 1e-4, clip 1, m .99, T 1."""
    return Pretraining(
        algorithm='FastMoCo', gpus=16, images_per_gpu=32, lr=0.1, lr_images=512, peak_lr=0.1, optimizer='SGD',
        weight_decay=1e-4, clip=1.0, epochs=epochs, schedule=cosine('iteration', 1, 0.025 / 0.1),
        momentum=(0.99, 0.99), temperature=1.0, queue=None, views='v2', crop_min=0.2, size=224, batch_norm='SyncBN',
        backbone=RESNET50_ZERO, projector=FAST_PROJECTOR, predictor=FAST_PREDICTOR,
    )  # fmt: skip


def going_on(backbone, width):
    """[O]: lr 1e-4 per 256, wd .05, 50 epochs, 5 of warm-up, m .996, crops from 20 %."""
    return adamw_vit(
        backbone, 1, 64, 2.5e-5, lr=1e-4, weight_decay=0.05, epochs=50, schedule=cosine('iteration', 5),
        momentum=(0.996, 1.0), crop_min=0.2, projector=vit_projector(width),
    )  # fmt: skip


PRETRAINING_TABLE = {
    'mocov3/continue_vit-small': going_on(DINOV2_S, 384),  # [O]
    'mocov3/continue_convnext-tiny': going_on(DINOV3_CONVNEXT, 768),  # [O]
    'mocov3/vit-small': adamw_vit(VIT_S, 8, 128, 6e-4),  # [C] one node, -b 1024
    'mocov3/vit-base': adamw_vit(VIT_B, 64, 64, 2.4e-3),  # [C] 8 nodes, batch 4096
    'mocov3/vit-large': adamw_vit(VIT_L, 64, 64, 2.4e-3),  # [P] batch 4096, 300 epochs (section 6.2, training length)
    'mocov3/vit-huge': adamw_vit(VIT_H, 64, 64, 2.4e-3),  # [P]
    'mocov3/vit-huge_fsdp': adamw_vit(VIT_H, 64, 64, 2.4e-3),  # [P]
    'mocov3/vit-small-conv': adamw_vit(VIT_S_CONV, 8, 128, 6e-4),  # [B] vit_conv_small with ViT-S's recipe
    'mocov3/vit-base-conv': adamw_vit(VIT_B_CONV, 64, 64, 2.4e-3),  # [B] vit_conv_base with ViT-B's recipe
    'mocov3/resnet50_100e': lars_r50(lr=0.6, peak_lr=9.6, weight_decay=1e-6, epochs=100),  # [C, D]
    'mocov3/resnet50_300e': lars_r50(lr=0.3, peak_lr=4.8, weight_decay=1e-6, epochs=300),  # [C, D]
    'mocov3/resnet50_1000e': lars_r50(
        lr=0.3, peak_lr=4.8, weight_decay=1.5e-6, epochs=1000, momentum=(0.996, 1.0)
    ),  # [C]
    'mocov3/vit-tiny_cifar10': adamw_vit(
        VIT_TI_32PX, 1, 512, 6e-4, lr=3e-4, epochs=800, crop_min=0.2, size=32, views='v3, 32 px'
    ),  # [O]
    'mocov3/vit-tiny_fashion': adamw_vit(
        VIT_FASHION, 1, 128, 1.5e-3, lr=3e-3, epochs=100, schedule=cosine('iteration', 5), crop_min=0.4, size=28,
        views='one gray', projector='96-256 BN ReLU 256-256 BN ReLU 256-128 BN(no affine)',
        predictor='128-256 BN ReLU 256-128 BN(no affine)',
    ),  # [O]
    'mocov3/resnet18_fashion': lars_r50(
        gpus=1, images_per_gpu=128, lr=0.3, peak_lr=0.15, weight_decay=1e-6, epochs=20,
        schedule=cosine('iteration', 1), temperature=0.2, views='one gray', crop_min=0.4, size=28,
        backbone=RESNET18_CIFAR, projector='128-512 BN ReLU 512-128 BN(no affine)',
        predictor='128-512 BN ReLU 512-128',
    ),  # [O]
    'mocov3/resnet18-grid_fashion': lars_r50(
        gpus=1, images_per_gpu=128, lr=0.3, peak_lr=0.15, weight_decay=1e-6, epochs=18,
        schedule=cosine('iteration', 1), temperature=0.2, views='one gray, strong', crop_min=0.5, size=28,
        backbone=RESNET18_CIFAR, projector='1024-512 BN ReLU 512-128 BN(no affine)',
        predictor='128-512 BN ReLU 512-128',
    ),  # [O]
    'mocov3/vit-small_webdataset': adamw_vit(VIT_S, 8, 128, 6e-4),  # [C], as vit-small
    'mocov3/vit-small_lmdb': adamw_vit(VIT_S, 1, 64, 1.5e-4, lr=6e-4),  # [O], as vit-small_custom
    'mocov3/vit-small_custom': adamw_vit(VIT_S, 1, 64, 1.5e-4, lr=6e-4),  # [O]
    'mocov3/vit-small_multispectral': adamw_vit(VIT_S, 1, 64, 1.5e-4, lr=6e-4, views='bands', crop_min=0.2),  # [O]
    'mocov3/vit-small_grayscale': adamw_vit(VIT_S, 1, 64, 1.5e-4, lr=6e-4, views='gray'),  # [O]
    'mocov3/vit-small_pathology': adamw_vit(VIT_S, 1, 64, 1.5e-4, lr=6e-4, views='tissue', crop_min=0.2),  # [O]
    'mocov3/vit-tiny_custom': adamw_vit(VIT_TI, 1, 64, 1.5e-4, lr=6e-4),  # [O]
    'mocov3/resnet18_custom': lars_r50(
        gpus=1, images_per_gpu=64, optimizer='AdamW', lr=2e-3, peak_lr=5e-4, weight_decay=0.1, epochs=300,
        schedule=cosine('iteration', 40), temperature=0.2, backbone=RESNET18_ZERO, projector=resnet_projector(512),
    ),  # [O]
    'mocov3/resnet18_elpv': lars_r50(
        gpus=1, images_per_gpu=64, optimizer='AdamW', lr=2e-3, peak_lr=5e-4, weight_decay=0.1, epochs=200,
        schedule=cosine('iteration', 10), temperature=0.2, views='gray', size=128, backbone=RESNET18_ZERO,
        projector=resnet_projector(512),
    ),  # [O]
    'mocov2/resnet50_custom': queue_r50(
        gpus=1, images_per_gpu=64, lr_images=256, peak_lr=0.0075, queue=(1, 4096, 128), momentum=(0.99, 0.99)
    ),  # [O]
    'mocov2/resnet50_multispectral': queue_r50(
        gpus=1, images_per_gpu=64, lr_images=256, peak_lr=0.0075, queue=(1, 4096, 128), momentum=(0.99, 0.99),
        views='bands',
    ),  # [O]
    'mocov3/timm-resnet18_custom': lars_r50(
        gpus=1, images_per_gpu=64, lr=0.3, peak_lr=0.075, weight_decay=1e-6, epochs=300, temperature=0.2,
        backbone=TIMM_RESNET18, projector=resnet_projector(512),
    ),  # [O]
    'mocov1/resnet50_200e': queue_r50(
        schedule=steps(120, 160), temperature=0.07, views='v1', projector='2048-128+b'
    ),  # [Q, R]
    'mocov2/resnet50_200e': queue_r50(),  # [Q]
    'mocov2/resnet50_800e': queue_r50(epochs=800),  # [Q]
    'mocov2/resnet50_200e_1gpu': queue_r50(gpus=1, images_per_gpu=256),  # [O]
    'mocov2/resnet50_symmetric_100e': queue_r50(
        gpus=2, images_per_gpu=64, lr=0.3, peak_lr=0.15, weight_decay=3e-5, epochs=100,
        schedule=cosine('iteration', 10), momentum=(0.99, 0.999), queue=(2, 65536, 256), crop_min=0.08,
        projector='2048-2048+b ReLU 2048-256+b',
    ),  # [S], but for its BatchNorm
    'mocov2/resnet18_cifar10': queue_r50(
        gpus=1, images_per_gpu=512, lr=0.06, lr_images=512, peak_lr=0.06, weight_decay=5e-4, momentum=(0.99, 0.99),
        temperature=0.1, queue=(1, 4096, 128), views='v2, 32 px', size=32, batch_norm='SplitBN 64',
        backbone=RESNET18_CIFAR, projector='512-512+b ReLU 512-128+b',
    ),  # [O]
    'mocov2/resnet18_fashion': queue_r50(
        gpus=1, images_per_gpu=128, lr=0.06, lr_images=128, peak_lr=0.06, weight_decay=5e-4, epochs=20,
        schedule=cosine('iteration', 1), momentum=(0.99, 0.99), temperature=0.1, queue=(2, 4096, 128),
        views='one gray', crop_min=0.4, size=28, backbone=RESNET18_CIFAR, projector='128-128+b ReLU 128-128+b',
    ),  # [O]
    'mocov2/vit-small_queue': adamw_vit(
        VIT_S, 1, 256, 1.5e-4, algorithm='MoCo', momentum=(0.999, 0.999), queue=(1, 65536, 128), views='v2',
        crop_min=0.2, batch_norm=None, projector='384-2048+b ReLU 2048-128+b', predictor=None,
    ),  # [O]
    'moby/swin-tiny': moby(SWIN_T, 768),
    'moby/deit-small': moby(DEIT_S, 384),
    'fast_moco/resnet50_100e': fast_moco(100),
    'fast_moco/resnet50_200e': fast_moco(200),
    'fast_moco/resnet50_400e': fast_moco(400),
}  # fmt: skip
# Crops are resized bicubically by [S] and [F], bilinearly by all others.
BICUBIC = {'mocov2/resnet50_symmetric_100e', *(f'fast_moco/resnet50_{epochs}e' for epochs in (100, 200, 400))}

# --- Linear evaluation ---


def linear(backbone, lr, peak_lr, **changes):
    """[C, D]: one node of 8, batch 1024, lr 3 (ViT) or .1 (ResNet) per 256, 90 epochs, 224 of 256 px in the test."""
    values = dict(
        gpus=8, images_per_gpu=128, lr=lr, lr_images=256, peak_lr=peak_lr, optimizer='SGD', clip=None, epochs=90,
        schedule=cosine('epoch'), label_smoothing=0.0, backbone=backbone, classes=1000, crop_min=0.08, size=224,
        test_resize=256,
    )  # fmt: skip
    return Linear(**values | changes)


def queue_linear(backbone=RESNET50, peak_lr=30.0, **changes):
    """[Q]: one node of 8, batch 256, lr 30, 100 epochs, divided by 10 after 60 and 80."""
    return linear(backbone, 30.0, peak_lr, **dict(images_per_gpu=32, epochs=100, schedule=steps(60, 80)) | changes)


def moby_linear(backbone):
    """[M]: 8 GPUs x 64, lr 1 for 512, 100 epochs, 5 of warm-up from 5e-7, down to 5e-6, clip 5, smoothed labels."""
    return linear(
        backbone, 1.0, 1.0, images_per_gpu=64, lr_images=512, clip=5.0, epochs=100,
        schedule=cosine('iteration', 5, 5e-7, 5e-6, prefix=False), label_smoothing=0.1,
    )  # fmt: skip


FASHION_LINEAR = linear(
    RESNET18_CIFAR, 3.0, 3.0, gpus=1, images_per_gpu=256, epochs=30, classes=10, crop_min=0.4, size=28, test_resize=28
)
LINEAR_TABLE = {
    'mocov3/vit-small_linear': linear(VIT_S, 3.0, 12.0),
    'mocov3/vit-base_linear': linear(VIT_B, 3.0, 12.0),
    'mocov3/vit-large_linear': linear(VIT_L, 3.0, 12.0),
    'mocov3/vit-huge_linear': linear(VIT_H, 3.0, 12.0),
    'mocov3/vit-small-conv_linear': linear(VIT_S_CONV, 3.0, 12.0),
    'mocov3/vit-base-conv_linear': linear(VIT_B_CONV, 3.0, 12.0),
    'mocov3/resnet50_linear': linear(RESNET50, 0.1, 0.4),
    'mocov3/vit-tiny_cifar10_linear': linear(
        VIT_TI_32PX, 3.0, 12.0, gpus=1, images_per_gpu=1024, classes=10, crop_min=0.2, size=32, test_resize=32
    ),  # [O]
    'mocov3/vit-small_custom_linear': linear(VIT_S, 3.0, 0.75, gpus=1, images_per_gpu=64),  # [O]
    'mocov3/vit-tiny_custom_linear': linear(VIT_TI, 3.0, 0.75, gpus=1, images_per_gpu=64),  # [O]
    'mocov3/resnet18_custom_linear': linear(RESNET18, 0.1, 0.025, gpus=1, images_per_gpu=64),  # [O]
    'mocov3/resnet18_elpv_linear': linear(
        RESNET18, 0.1, 0.025, gpus=1, images_per_gpu=64, classes=4, crop_min=0.5, size=128, test_resize=128
    ),  # [O]
    'mocov2/resnet50_custom_linear': queue_linear(gpus=1, images_per_gpu=64, peak_lr=7.5),  # [O]
    'mocov3/timm-resnet18_custom_linear': linear(TIMM_RESNET18, 0.1, 0.025, gpus=1, images_per_gpu=64),  # [O]
    'mocov3/continue_vit-small_linear': linear(DINOV2_S, 3.0, 0.75, gpus=1, images_per_gpu=64),  # [O]
    'mocov3/continue_convnext-tiny_linear': linear(DINOV3_CONVNEXT, 0.1, 0.025, gpus=1, images_per_gpu=64),  # [O]
    'mocov1/resnet50_linear': queue_linear(),
    'mocov2/resnet50_linear': queue_linear(),
    'mocov2/resnet18_cifar10_linear': queue_linear(
        RESNET18_CIFAR, gpus=1, images_per_gpu=256, classes=10, crop_min=0.2, size=32, test_resize=32
    ),  # [O]
    'mocov3/vit-tiny_fashion_linear': linear(
        VIT_FASHION, 3.0, 3.0, gpus=1, images_per_gpu=256, epochs=30, classes=10, crop_min=0.4, size=28, test_resize=28
    ),  # [O]
    'mocov3/resnet18_fashion_linear': FASHION_LINEAR,  # [O]
    'mocov3/resnet18-grid_fashion_linear': FASHION_LINEAR,  # [O]
    'mocov2/resnet18_fashion_linear': FASHION_LINEAR,  # [O]
    'moby/swin-tiny_linear': moby_linear(SWIN_T),
    'moby/deit-small_linear': moby_linear(DEIT_S),
    'fast_moco/resnet50_linear': linear(RESNET50, 0.8, 0.8, gpus=32, lr_images=4096, optimizer='LARS'),  # [F]
}

# --- Augmentation: what happens with which probability, in this order ---


# What no published recipe has: off, and the numbers that are then not used.
NOT_PUBLISHED = dict(
    channel_jitter=None, channel_jitter_prob=1.0, grayscale_weights=None, channel_drop_prob=0.0, channel_drop=(1, 1),
    poisson_noise_prob=0.0, poisson_noise=(100, 10000), gaussian_noise_prob=0.0, gaussian_noise=(1, 8),
    vertical_flip_prob=0.0, quarter_turn_prob=0.0, stain_jitter=None, stain_jitter_prob=1.0,
    rounding=None, blur_kernel='gaussian',
)  # fmt: skip


def view(order, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, jitter=0.8, blur=0.0, solarize=0.0):
    """The common part: grayscale with probability .2, flip with .5; sigma of the blur from .1 to 2."""
    return dict(
        order=order.split(),
        color_jitter=dict(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue),
        color_jitter_prob=jitter,
        grayscale_prob=0.2,
        blur_prob=blur,
        blur_sigma=(0.1, 2.0),
        solarize_prob=solarize,
        solarize_threshold=128,
        flip_prob=0.5,
        **NOT_PUBLISHED,
    )


VIEWS = {
    'v1': [view('grayscale color_jitter flip', hue=0.4, jitter=1.0)] * 2,  # [Q]
    'v2': [view('color_jitter grayscale blur flip', blur=0.5)] * 2,  # [Q]; [S] and [F] too
    'v2, 32 px': [view('color_jitter grayscale flip')] * 2,  # [O]
    'v3': [
        view('color_jitter grayscale blur flip', saturation=0.2, blur=1.0),
        view('color_jitter grayscale blur solarize flip', saturation=0.2, blur=0.1, solarize=0.2),
    ],  # [P appendix A, D]; [M], which flips first: a flip commutes with all else
    'v3, 32 px': [
        view('color_jitter grayscale flip', saturation=0.2),
        view('color_jitter grayscale solarize flip', saturation=0.2, solarize=0.2),
    ],  # [O]
}

# [O]
ALL_ORIENTATIONS = dict(vertical_flip_prob=0.5, quarter_turn_prob=0.5)
CHANNELS = dict(
    color_jitter=None,
    color_jitter_prob=1.0,
    channel_jitter=dict(brightness=0.4, contrast=0.4),
    channel_jitter_prob=0.8,
)
NOISE = dict(CHANNELS, grayscale_prob=0.0, gaussian_noise_prob=0.2)
STAINS = dict(ALL_ORIENTATIONS, stain_jitter=dict(scale=0.05, shift=0.05), stain_jitter_prob=0.8)
WEAK = dict(brightness=0.2, contrast=0.2, saturation=0.1, hue=0.05)
TISSUE = 'stain_jitter color_jitter grayscale blur flip vertical_flip quarter_turn'
VIEWS |= {
    'bands': [
        view('channel_jitter weighted_grayscale blur flip channel_drop vertical_flip quarter_turn', blur=0.5)
        | dict(CHANNELS, **ALL_ORIENTATIONS, grayscale_weights='mean', channel_drop_prob=0.2, channel_drop=(1, 3))
    ]
    * 2,
    'one gray': [view('color_jitter flip') | dict(color_jitter=dict(brightness=0.4, contrast=0.4), grayscale_prob=0.0)]
    * 2,
    'one gray, strong': [
        view('color_jitter blur flip', jitter=1.0, blur=0.5)
        | dict(color_jitter=dict(brightness=0.8, contrast=0.8), grayscale_prob=0.0, blur_sigma=(0.1, 1.0))
    ]
    * 2,
    'gray': [
        view('channel_jitter blur flip gaussian_noise', blur=1.0) | NOISE,
        view('channel_jitter blur solarize flip gaussian_noise', blur=0.1, solarize=0.2) | NOISE,
    ],
    'tissue': [view(TISSUE, **WEAK, blur=1.0) | STAINS, view(TISSUE, **WEAK, blur=0.1) | STAINS],
}

# --- Accuracies: linear evaluation on ImageNet-1k, top-1 ---

# [C]; table 1 of [P] for ViT-L and ViT-H; table 1 of [R]; the READMEs of [Q], [S], [M], [F].
ACCURACIES = {
    'mocov3/vit-small': 73.2,
    'mocov3/vit-base': 76.7,
    'mocov3/vit-large': 77.6,
    'mocov3/vit-huge': 78.1,
    'mocov3/resnet50_100e': 68.9,
    'mocov3/resnet50_300e': 72.8,
    'mocov3/resnet50_1000e': 74.6,
    'mocov1/resnet50_200e': 60.6,
    'mocov2/resnet50_200e': 67.7,
    'mocov2/resnet50_800e': 71.1,
    'mocov2/resnet50_symmetric_100e': 66.84,
    'moby/swin-tiny': 75.3,
    'moby/deit-small': 72.8,
    'fast_moco/resnet50_100e': 73.5,
    'fast_moco/resnet50_200e': 75.1,
    'fast_moco/resnet50_400e': 75.5,
}
OURS = (
    'continue',
    'custom',
    'multispectral',
    'grayscale',
    'pathology',
    'cifar10',
    'queue',
    '1gpu',
    'digits',
    'fashion',
    'elpv',
    'webdataset',
    'lmdb',
    'fsdp',
)  # in the names of recipes that are no row of a paper
