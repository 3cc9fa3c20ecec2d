"""Detection and segmentation configs: they parse everywhere; with mmdet or mmseg they build and train one step."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mocox.checkpoint import load_backbone
from mocox.models import MoCoViT, SimpleFeaturePyramid
from tests.support.tiny_run import run_tool
from tests.test_configs.shipped import ROOT, LinspaceOnCPU
from tests.test_downstream_configs import miniature

DETECTION = [
    'detection/faster-rcnn_resnet50-c4_voc0712',
    'detection/mask-rcnn_resnet50-c4_coco',
    'detection/mask-rcnn_resnet50-fpn_coco',
    'detection/mask-rcnn_vit-base_coco',
]
SEGMENTATION = [
    'segmentation/fcn_resnet50_voc12aug',
    'segmentation/fcn_resnet50_cityscapes',
    'segmentation/upernet_resnet50_ade20k',
    'segmentation/upernet_vit-base_ade20k',
]
LIBRARY = dict(detection='mmdet', segmentation='mmseg')


def path(name: str) -> Path:
    return ROOT / 'configs' / 'benchmarks' / f'{name}.py'


def need(name: str) -> None:
    """Skips unless the library of a config can be used, which takes an mmcv with compiled operators."""
    library = LIBRARY[name.split('/')[0]]
    if find_spec(library) is None:
        pytest.skip(f'{library} is not installed')
    try:
        import mmcv.ops  # noqa: F401
    except ImportError as error:
        pytest.skip(f'{library} needs a full mmcv, and this one is mmcv-lite: {error}')


def test_every_config_is_tested():
    found = {p.relative_to(ROOT / 'configs/benchmarks').with_suffix('').as_posix()
             for folder in LIBRARY for p in (ROOT / 'configs/benchmarks' / folder).glob('*.py')}  # fmt: skip
    assert found == {*DETECTION, *SEGMENTATION}


@pytest.mark.parametrize('name', DETECTION + SEGMENTATION)
def test_the_input_is_that_of_pretraining(name):
    """RGB, the same mean and standard deviation, nothing frozen, BatchNorm trained: what the papers do."""
    model = Config.fromfile(path(name)).model
    preprocessor = model.data_preprocessor
    assert preprocessor.bgr_to_rgb is True  # the libraries decode BGR
    assert (preprocessor.mean, preprocessor.std) == ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    backbone = model.backbone
    if backbone.type == 'ResNet':
        assert backbone.get('style', 'pytorch') == 'pytorch'
        assert backbone.get('frozen_stages', -1) == -1
        assert (backbone.norm_cfg.type, backbone.norm_cfg.requires_grad, backbone.norm_eval) == (
            'mocox.SyncBN', True, False)  # fmt: skip
    else:
        assert (backbone.type, backbone.stop_grad_conv1, backbone.out_type) == ('mocox.MoCoViT', False, 'featmap')


def test_recipes():
    """[V] detection configs of the official code; [P] arXiv 1911.05722, appendix: 70 % and 90 % of the training."""
    steps = {}
    for name in DETECTION + SEGMENTATION:
        cfg = Config.fromfile(path(name))
        schedulers = cfg.param_scheduler if isinstance(cfg.param_scheduler, list) else [cfg.param_scheduler]
        milestones = [s.milestones for s in schedulers if s.type == 'MultiStepLR']
        optimizer = cfg.optim_wrapper.optimizer
        steps[name] = (optimizer.lr, optimizer.weight_decay, cfg.train_cfg.max_iters, *milestones)
        assert cfg.train_dataloader.batch_size == 2
        assert 'end' not in schedulers[-1]
    assert steps['detection/faster-rcnn_resnet50-c4_voc0712'] == (0.02, 1e-4, 24000, [18000, 22000])
    assert steps['detection/mask-rcnn_resnet50-c4_coco'] == (0.02, 1e-4, 180000, [120000, 160000])
    assert steps['detection/mask-rcnn_resnet50-fpn_coco'] == (0.02, 1e-4, 180000, [120000, 160000])
    assert steps['segmentation/fcn_resnet50_voc12aug'] == (0.003, 1e-4, 30000, [21000, 27000])
    assert steps['segmentation/fcn_resnet50_cityscapes'] == (0.01, 1e-4, 90000, [63000, 81000])


def test_feature_pyramid_on_the_transformer():
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    backbone = MoCoViT(arch, img_size=64, stop_grad_conv1=False, learn_positions=True, out_type='featmap')
    neck = SimpleFeaturePyramid(16, out_channels=8, num_outs=5)
    maps = neck(backbone(torch.randn(2, 3, 64, 96)))
    assert [tuple(m.shape) for m in maps] == [(2, 8, 64 // s, 96 // s) for s in (4, 8, 16, 32)] + [(2, 8, 1, 2)]
    sum(m.sum() for m in maps).backward()
    assert all(p.grad is not None for p in neck.parameters())
    assert backbone.patch_embed.proj.weight.grad is not None
    with pytest.raises(ValueError, match='num_outs=3'):
        SimpleFeaturePyramid(16, num_outs=3)


@pytest.mark.parametrize('name', DETECTION + SEGMENTATION)
def test_every_part_builds(name):
    need(name)
    cfg = Config.fromfile(path(name))
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'), LinspaceOnCPU():
        model = MODELS.build(cfg.model)
    assert type(model).__module__.split('.')[0] == cfg.default_scope


@pytest.fixture(scope='module')
def resnet50(tmp_path_factory):
    """The backbone of a ResNet-50 in torchvision's names, as pre-training saves it."""
    from torchvision.models import resnet50

    file = tmp_path_factory.mktemp('pretrained') / 'resnet50.pth'
    backbone = {key: x for key, x in resnet50().state_dict().items() if not key.startswith('fc.')}
    torch.save(dict(state_dict={f'backbone.{key}': x for key, x in backbone.items()}), file)
    return file, backbone


class C4Head(torch.nn.Module):
    """The last stage of a ResNet-50 with a norm of its own, named like mmdetection's."""

    def __init__(self):
        super().__init__()
        from torchvision.models import resnet50

        self.layer4 = resnet50().layer4
        self.norm = torch.nn.BatchNorm2d(2048)


def test_the_head_of_a_c4_detector_takes_its_stage_from_the_checkpoint(resnet50):
    file, backbone = resnet50
    head = C4Head()
    torch.nn.init.constant_(head.norm.weight, 3.0)
    report = load_backbone(head, file, part='layer4.')
    for key, tensor in head.layer4.state_dict().items():
        assert torch.equal(tensor, backbone[f'layer4.{key}'])
    assert report.num_tensors == len(head.layer4.state_dict())
    assert head.norm.weight.eq(3.0).all()
    with pytest.raises(ValueError, match=r"C4Head.*part='layer5\.'"):
        load_backbone(head, file, part='layer5.')
    head.layer4[0].conv1 = torch.nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match=r'layer4\.0\.conv1\.weight'):
        load_backbone(head, file, part='layer4.')


SMALL = {
    'detection/faster-rcnn_resnet50-c4_voc0712': miniature.write_voc0712,
    'detection/mask-rcnn_resnet50-c4_coco': miniature.write_coco,
    'detection/mask-rcnn_resnet50-fpn_coco': miniature.write_coco,
    'detection/mask-rcnn_vit-base_coco': miniature.write_coco,
    'segmentation/fcn_resnet50_voc12aug': miniature.write_voc12aug,
    'segmentation/fcn_resnet50_cityscapes': miniature.write_cityscapes,
    'segmentation/upernet_resnet50_ade20k': miniature.write_ade20k,
    'segmentation/upernet_vit-base_ade20k': miniature.write_ade20k,
}


@pytest.mark.slow
@pytest.mark.parametrize('name', SMALL)
def test_one_training_step(name, resnet50, tmp_path):
    """With the config's own data pipeline, from a checkpoint, through tools/train.py; only sizes are changed."""
    need(name)
    SMALL[name](tmp_path / 'data')
    small = tmp_path / 'small.py'
    config = Config.fromfile(path(name))
    shrink(config)
    config.dump(small)
    pretrained = [] if 'vit' in name else ['--pretrained', resnet50[0]]
    run_tool('train.py', small, '--data-root', tmp_path / 'data', '--work-dir', tmp_path / 'run', *pretrained)
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'Iter(train)' in log and 'loss: ' in log and 'nan' not in log.split('Iter(train)')[1].splitlines()[0]
    if pretrained:
        assert 'loaded' in log
    if 'c4' in name:
        assert log.count('resnet50.pth') >= 2  # backbone and head


def shrink(config: Config) -> None:
    """One step, and the test after it, on images of about 64 px with a transformer of four blocks."""
    config.train_cfg.max_iters = 1
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    config.default_hooks.logger.interval = 1
    if config.model.backbone.type == 'mocox.MoCoViT':
        config.model.backbone.arch = dict(embed_dims=768, num_layers=4, num_heads=12, feedforward_channels=64)
        config.model.backbone.img_size = 64
        if config.default_scope == 'mmseg':
            config.model.backbone.out_indices = [0, 1, 2, 3]
    if config.model.test_cfg.get('mode') == 'slide':
        config.model.test_cfg.update(crop_size=(64, 64), stride=(48, 48))
    if 'size' in config.model.data_preprocessor:
        config.model.data_preprocessor.size = (64, 64)
    for scheduler in config.param_scheduler if isinstance(config.param_scheduler, list) else []:
        scheduler.begin = 0  # of the 1,500th iteration, where there is one only
    if 'roi_head' in config.model:
        config.model.train_cfg.rcnn.sampler.num = 8  # regions that pass through a stage of the ResNet
    for transform in [*_transforms(config.train_dataloader.dataset), *_transforms(config.val_dataloader.dataset)]:
        if transform.type == 'RandomChoiceResize':
            transform.scales = [(128, 64)]
        elif transform.type in ('RandomResize', 'Resize'):
            transform.scale = (128, 64)
        elif transform.type == 'RandomCrop':
            transform.crop_size = (64, 64)


def _transforms(dataset):
    for part in dataset.get('datasets', [dataset]):
        yield from part.pipeline
