"""Fine-tuning, semi-supervised and transfer configs: what they say, what they are made of, and that they train."""

import ast
import inspect
import re
from dataclasses import asdict, dataclass
from math import isclose
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from mocox.models.backbones.vit import sincos_position_embedding
from mocox.models.batch_norm import SyncBatchNorm
from mocox.registry import DATASETS, FUNCTIONS, MODELS
from tests.support.tiny_run import run_tool
from tests.test_configs import layout
from tests.test_configs.shipped import ROOT, build_on_meta, model_config
from tests.test_downstream_configs import miniature

FOLDER = ROOT / 'configs' / 'benchmarks'
EVERY = sorted(p.relative_to(ROOT).as_posix() for p in FOLDER.rglob('*.py'))


@dataclass(frozen=True)
class Recipe:
    """One row of a table of fine-tuning recipes. Learning rate and batch are of the whole run."""

    backbone: str
    data: str
    classes: int
    batch: int
    optimizer: str
    peak_lr: float
    head_lr: float  # relative to the backbone's
    weight_decay: float
    epochs: int
    schedule: tuple  # ('cosine', warm-up epochs, final lr) or ('steps', epochs of the steps, factor)
    crop_min: float
    smoothing: float
    mixup: float
    cutmix: float
    erasing: float
    rand_augment: bool
    drop_path: float
    frozen: bool = False


def deit(backbone, **changes):
    """[V] defaults of DeiT's main.py: lr 5e-4 per 512, AdamW, wd .05, 5 epochs of warm-up, RandAugment, ..."""
    values = dict(
        backbone=backbone, data='ImageFiles', classes=1000, batch=1024, optimizer='AdamW', peak_lr=1e-3, head_lr=1.0,
        weight_decay=0.05, schedule=('cosine', 5, 1e-5), crop_min=0.08, smoothing=0.1, mixup=0.8, cutmix=1.0,
        erasing=0.25, rand_augment=True, drop_path=0.1,
    )  # fmt: skip
    return Recipe(**values | changes)


def transfer(data, classes, **changes):
    """[V] official code, transfer/README: 8 GPUs x 128, lr 3e-4 per 512, 3 epochs of warm-up, crops from 5 %."""
    values = dict(
        data=data, classes=classes, peak_lr=6e-4, weight_decay=0.1, epochs=100, schedule=('cosine', 3, 1e-5),
        crop_min=0.05, erasing=0.0, rand_augment=False,
    )  # fmt: skip
    return deit('base', **values | changes)


def sgd(**changes):
    values = dict(
        backbone='resnet50', data='ImageFiles', classes=1000, batch=256, optimizer='SGD', head_lr=1.0, crop_min=0.08,
        smoothing=0.0, mixup=0.0, cutmix=0.0, erasing=0.0, rand_augment=False, drop_path=0.0,
    )  # fmt: skip
    return Recipe(**values | changes)


def semi(weight_decay):
    """[V] OpenSelfSup: lr .01 with the head 100 times faster, 20 epochs, a fifth after 12 and 16; batch 4 x 64."""
    return sgd(peak_lr=0.01, head_lr=100.0, weight_decay=weight_decay, epochs=20, schedule=('steps', [12, 16], 0.2))


TABLE = {
    'finetune/vit-small_imagenet': deit('small', epochs=150),  # [M] the epochs
    'finetune/vit-base_imagenet': deit('base', epochs=150),  # [V] README, [P] section 6.3
    'finetune/vit-large_imagenet': deit('large', epochs=100, drop_path=0.5),  # [P]
    'finetune/resnet50_imagenet': sgd(  # [M]
        peak_lr=0.03, weight_decay=1e-4, epochs=100, schedule=('steps', [60, 80], 0.1)
    ),
    'semisup/resnet50_1percent': semi(5e-4),
    'semisup/resnet50_10percent': semi(1e-4),
    'transfer/vit-base_cifar10': transfer('CIFAR10Images', 10),
    'transfer/vit-base_cifar100': transfer('CIFAR100Images', 100, mixup=0.5),
    'transfer/vit-base_flowers102': transfer('FlowersImages', 102, weight_decay=0.3, mixup=0.0, cutmix=0.0),
    'transfer/vit-base_pets': transfer('PetsImages', 37, cutmix=0.0, drop_path=0.0),
    'transfer/resnet50_inaturalist2018': sgd(  # [P] lr, steps; [M] weight decay
        data='INaturalistImages', classes=8142, peak_lr=0.025, weight_decay=1e-4, epochs=100,
        schedule=('steps', [70, 90], 0.1),
    ),
    'transfer/resnet50_places205_linear': sgd(  # [V] mmselfsup's schedule
        classes=205, peak_lr=0.01, weight_decay=1e-4, epochs=28, schedule=('steps', [7, 14, 21], 0.1), frozen=True
    ),
}  # fmt: skip


def load(name: str) -> Config:
    return Config.fromfile(FOLDER / f'{name}.py')


def published_batch(name: str, cfg: Config) -> int:
    docstring = ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text()))
    gpus, images = map(int, re.search(r'(\d+) GPUs x (\d+) images', docstring).groups())
    assert images == cfg.train_dataloader.batch_size
    assert f'{name}.py {gpus} ' in docstring  # the launch command
    return gpus * images


def read(name: str) -> Recipe:
    cfg = load(name)
    model, optimizer, dataset = (
        build_on_meta(model_config(cfg)),
        cfg.optim_wrapper.optimizer,
        cfg.train_dataloader.dataset,
    )
    batch, scale = published_batch(name, cfg), cfg.auto_scale_lr
    assert scale.enable or scale.base_batch_size == batch
    scheduler = cfg.param_scheduler
    assert not {'end', 'T_max'} & set(scheduler), 'MMEngine takes the end from train_cfg.max_epochs'
    if scheduler.type == 'MultiStepLR':
        schedule = ('steps', scheduler.milestones, scheduler.gamma)
    else:
        schedule = ('cosine', scheduler.warmup_epochs, scheduler.eta_min)
    crops, transforms = dataset.crops, {}
    if crops.type == 'TransformedCrops':
        transforms = {t.type.split('.')[1]: t for t in crops.transforms}
        crops = crops.crops
    alphas = {augment['type']: augment['alpha'] for augment in (cfg.model.get('train_cfg') or {}).get('augments', [])}
    loss = cfg.model.head.loss
    resnet = type(model.backbone).__name__ == 'ResNet'
    return Recipe(
        backbone='resnet50' if resnet else cfg.model.backbone.arch,
        data=dataset.type,
        classes=model.head.fc.out_features,
        batch=batch,
        optimizer=optimizer.type,
        peak_lr=optimizer.lr * batch / scale.base_batch_size,
        head_lr=cfg.optim_wrapper.get('paramwise_cfg', {}).get('custom_keys', {}).get('head.', {}).get('lr_mult', 1.0),
        weight_decay=optimizer.weight_decay,
        epochs=cfg.train_cfg.max_epochs,
        schedule=schedule,
        crop_min=crops.scale[0],
        smoothing=loss.label_smooth_val if loss.type == 'LabelSmoothLoss' else 0.0,
        mixup=alphas.get('Mixup', 0.0),
        cutmix=alphas.get('CutMix', 0.0),
        erasing=transforms['RandomErasing'].erase_prob if transforms else 0.0,
        rand_augment='RandAugment' in transforms,
        drop_path=0.0 if resnet else cfg.model.backbone.drop_path_rate,
        frozen=not any(p.requires_grad for p in model.backbone.parameters()),
    )


@pytest.mark.parametrize('name', EVERY)
def test_layout(name):
    layout.check_length(name)
    layout.check_docstring(name)
    layout.check_bases(name)


def test_every_config_is_in_the_table():
    names = {Path(name).relative_to('configs/benchmarks').with_suffix('').as_posix() for name in EVERY}
    assert {name for name in names if not name.startswith(('detection', 'segmentation'))} == set(TABLE)


@pytest.mark.parametrize('name', TABLE)
def test_recipe(name):
    ours, published = asdict(read(name)), asdict(TABLE[name])
    for field, expected in published.items():
        same = isclose(ours[field], expected, rel_tol=1e-12) if isinstance(expected, float) else ours[field] == expected
        assert same, f'{field}: the config has {ours[field]}, the published recipe {expected}'


@pytest.mark.parametrize('name', TABLE)
def test_settings_are_known_and_test_data_has_no_augmentation(name):
    cfg = load(name)
    unknown = (
        set(cfg) - set(inspect.signature(Runner).parameters) - {'auto_scale_lr', 'model_wrapper_cfg', 'vis_backends'}
    )
    assert not unknown, f'nothing reads {unknown}'
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.crops.type == 'CenterCrop'
        assert (loader.dataset.crops.size, loader.dataset.crops.resize) == (224, 256)
        assert loader.sampler.round_up is True
        train = cfg.train_dataloader.dataset
        places = ('split', 'data_prefix', 'list_file')
        assert [loader.dataset.get(key) for key in places] != [train.get(key) for key in places]
        assert loader.dataset.data_root == train.data_root
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        arguments = {key: value for key, value in loader.dataset.items() if key != 'type'}
        inspect.signature(DATASETS.get(loader.dataset.type)).bind(**arguments)


@pytest.mark.parametrize('name', [name for name in TABLE if 'vit' in name])
def test_transformers_are_trained_whole_and_vectors_not_decayed(name):
    """[V] DeiT: no weight decay on biases, norms, class token and positions. Patches and positions are trained."""
    cfg = load(name)
    model = build_on_meta(model_config(cfg))
    assert all(p.requires_grad for p in model.parameters())
    assert {block.attn.num_heads for block in model.backbone.blocks} == {16 if 'large' in name else 12}
    with DefaultScope.overwrite_default_scope('mocox'):
        groups = build_optim_wrapper(model, cfg.optim_wrapper.to_dict()).optimizer.param_groups
    decay = {id(p): group['weight_decay'] for group in groups for p in group['params']}
    for key, p in model.named_parameters():
        free = p.ndim == 1 or key.endswith(('cls_token', 'pos_embed'))
        assert decay[id(p)] == (0.0 if free else TABLE[name].weight_decay), key


def test_resnets_train_their_batch_norm_across_processes():
    for name in ('finetune/resnet50_imagenet', 'semisup/resnet50_1percent', 'transfer/resnet50_inaturalist2018'):
        model = build_on_meta(model_config(load(name)))
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | SyncBatchNorm)]
        assert len(norms) == 53 and all(isinstance(m, SyncBatchNorm) for m in norms)
        assert all(p.requires_grad for p in model.parameters())


def test_layer_decay_can_be_switched_on():
    """Depth d of D gets lr * rate ** (D - 1 - d): patches 0, block i at i + 1, the head last."""
    cfg = load('finetune/vit-base_imagenet')
    cfg.optim_wrapper.constructor = 'mmpretrain.LearningRateDecayOptimWrapperConstructor'
    cfg.optim_wrapper.paramwise_cfg.layer_decay_rate = 0.5
    model = build_on_meta(model_config(cfg))
    with DefaultScope.overwrite_default_scope('mocox'):
        groups = build_optim_wrapper(model, cfg.optim_wrapper.to_dict()).optimizer.param_groups
    lr = {id(p): group['lr'] for group in groups for p in group['params']}
    depth = {
        'backbone.patch_embed.proj.weight': 0,
        'backbone.pos_embed': 0,
        'backbone.cls_token': 0,
        'head.fc.bias': 13,
        'backbone.blocks.0.norm1.bias': 1,
        'backbone.blocks.11.mlp.fc2.weight': 12,
        'backbone.norm.weight': 13,
    }
    parameters = dict(model.named_parameters())
    assert {key: lr[id(parameters[key])] for key in depth} == {k: 5e-4 * 0.5 ** (13 - d) for k, d in depth.items()}


def small(name: str, folder: Path) -> Path:
    """The config with a model and images for a test, written to a file."""
    cfg = load(name)
    if cfg.model.backbone.type == 'MoCoViT':
        cfg.model.backbone.update(
            arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32), img_size=32, patch_size=8
        )
        cfg.model.head.in_channels = 16
    else:
        cfg.model.backbone.depth = 18
        cfg.model.head.in_channels = 512
    cfg.model.head.update(num_classes=3, topk=(1,))
    if 'num_classes' in cfg.data_preprocessor:
        cfg.data_preprocessor.num_classes = 3
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=4, num_workers=0, persistent_workers=False, pin_memory=False)
        crops = loader.dataset.crops
        (crops.crops if 'crops' in crops else crops).update(size=32, **(dict(resize=36) if 'resize' in crops else {}))
    cfg.val_evaluator.topk = cfg.test_evaluator.topk = (1,)
    cfg.train_cfg.max_epochs = 2
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.interval = 2
    if cfg.param_scheduler.type == 'WarmupCosineLR':
        cfg.param_scheduler.warmup_epochs = 1
    path = folder / 'small.py'
    cfg.dump(path)
    return path


def train(name: str, folder: Path, *extra: object, run: str = 'run') -> dict:
    run_tool('train.py', small(name, folder), '--data-root', folder / 'data', '--work-dir', folder / run, *extra)
    return torch.load(folder / run / 'epoch_2.pth', weights_only=True)['state_dict']


def test_fine_tuning_runs(tmp_path):
    """Two epochs with all of DeiT's augmentation; positions are learned, and the same seed gives the same run."""
    for split in ('train', 'val'):
        miniature.write_class_folders(tmp_path / 'data' / split, ['ant', 'bee', 'cow'], 4)
    state = train('finetune/vit-small_imagenet', tmp_path)
    assert not torch.equal(state['backbone.pos_embed'], sincos_position_embedding((4, 4), 16))
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    again = train('finetune/vit-small_imagenet', tmp_path, run='again')
    assert all(torch.equal(tensor, again[key]) for key, tensor in state.items())


def test_semi_supervised_run_from_a_published_list(tmp_path):
    """Bare ImageNet names in the list, class folders on disk; the head learns 100 times faster; tested at the end."""
    classes = ['n01440764', 'n01443537', 'n01484850']
    for split in ('train', 'val'):
        for name in classes:
            miniature.write_class_folders(tmp_path / 'data' / split, [name], 3, pattern=f'{name}_{{}}.JPEG')
    names = [f'{name}_{number}.JPEG' for name in classes for number in (0, 2)]
    (tmp_path / 'data' / '1percent.txt').write_text('\n'.join(names) + '\n')
    state = train('semisup/resnet50_1percent', tmp_path)
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'accuracy/top1' in log
    cfg = Config.fromfile(tmp_path / 'small.py')
    cfg.train_dataloader.dataset.data_root = str(tmp_path / 'data')
    with DefaultScope.overwrite_default_scope('mocox'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        groups = build_optim_wrapper(
            MODELS.build(model_config(cfg)), cfg.optim_wrapper.to_dict()
        ).optimizer.param_groups
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert {group['lr'] for group in groups} == {0.01, 1.0}
    assert sum(group['lr'] == 1.0 for group in groups) == 2  # weight and bias of the head


@pytest.mark.parametrize(
    'name', ['finetune/vit-base_imagenet', 'transfer/vit-base_pets', 'transfer/vit-base_flowers102']
)
def test_one_real_batch_passes_the_whole_pipeline(name, tmp_path):
    """The published sizes, from files to the model's input, with the NumPy and OpenCV that are installed."""
    cfg = load(name)
    miniature.write_class_folders(tmp_path, ['a', 'b'], 8)
    dataset = dict(
        type='ImageFiles', data_root=str(tmp_path), with_labels=True, crops=cfg.train_dataloader.dataset.crops.to_dict()
    )
    with DefaultScope.overwrite_default_scope('mocox'):
        images = DATASETS.build(dataset)
        preprocessor = model_config(cfg)['data_preprocessor']
        preprocessor = MODELS.build(preprocessor | dict(batch_augments=cfg.model.get('train_cfg')))
    for epoch in range(4):  # 64 images, and 2 of 15 operations each
        batch = FUNCTIONS.get('collate_views')([images[epoch, i] for i in range(16)])
        result = preprocessor(batch, training=True)
        assert result['inputs'].shape == (16, 3, 224, 224) and torch.isfinite(result['inputs']).all()
        if TABLE[name].mixup:
            scores = torch.stack([sample.gt_score for sample in result['data_samples']])
            assert scores.shape == (16, TABLE[name].classes)
            torch.testing.assert_close(scores.sum(1), torch.ones(16))
        else:
            assert not any('gt_score' in sample for sample in result['data_samples'])
