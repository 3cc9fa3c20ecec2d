"""Configs that are refused before anything is built."""

import pytest
from mmengine.config import Config
from mmengine.optim import OptimWrapper

from mocox.datasets import ImageFiles
from mocox.models import MoCoV3
from mocox.run.checks import check_options, check_run, require_file
from mocox.run.options import _use_mixed_precision

CONFIG = dict(
    model=dict(backbone=dict(arch=dict(depth=2), patch=8)),
    visualizer=dict(vis_backends=[dict(type='LocalVisBackend')]),
    arch=dict(depth=2),
    vis_backends=[dict(type='LocalVisBackend')],
    my_number=8,
    my_setting='for a hook of mine',
)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('modl.backbone.patch', "nothing reads 'modl'; did you mean model"),
        ('arch.depth', r"nothing reads 'arch.depth'.*copied.*Set model\.backbone\.arch\.depth=\.\.\.$"),
        ('vis_backends.0.type', r'Set visualizer\.vis_backends\.0\.type=\.\.\.$'),
        ('arch', r'Set model\.backbone\.arch=\.\.\.$'),
        ('model.\x1b[2Jx', r"'model\.\\x1b\[2Jx' is not a key"),
        ('model.a\nb', r"'model\.a\\nb' is not a key"),
        ('model.a b', r"'model\.a b' is not a key"),
        ('model.a\u202eb', r"'model\.a\\u202eb' is not a key"),
    ],
)
def test_an_option_that_nothing_reads(option, message):
    with pytest.raises(ValueError, match=message):
        check_options(Config(CONFIG), {option: 1})


@pytest.mark.parametrize('option', ['model.backbone.arch.depth', 'my_number', 'my_setting', 'work_dir', 'train_cfg.x'])
def test_an_option_that_may_be_read(option):
    check_options(Config(CONFIG), {option: 1})


@pytest.mark.parametrize('value', [0, -1, 1.5, 'ten', None, True, float('inf'), float('nan')])
@pytest.mark.parametrize('key', ['max_epochs', 'max_iters', 'val_interval'])
def test_a_duration_that_is_none(key, value):
    with pytest.raises(ValueError, match=rf'train_cfg\.{key} must be a whole number of at least 1, got {value!r}'):
        check_run(Config(dict(train_cfg={key: value})))


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (dict(model='MoCoV3'), "model must be a dict .*got 'MoCoV3'"),
        (dict(model=None), 'model must be a dict .*got None'),
        (dict(default_scope='moocx'), "default_scope='moocx'"),
        (dict(log_level='LOUD'), "log_level='LOUD': choose"),
        (dict(randomness=dict(seed='abc')), "seed must be .*'abc'"),
        (dict(randomness=dict(seed=-1)), 'seed must be .*-1'),
        (dict(val_dataloader=dict(num_workers='two')), "val_dataloader.num_workers must be .*'two'"),
        (dict(train_dataloader=dict(num_workers=-1)), 'train_dataloader.num_workers must be .*-1'),
        (dict(work_dir=__file__), 'work_dir=.* is a file'),
    ],
)
def test_values_that_cannot_be(values, message):
    with pytest.raises((ValueError, NotADirectoryError), match=message):
        check_run(Config(values))


def test_a_start_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'load_from: there is no file .*nowhere\.pth'):
        check_run(Config(dict(load_from=str(tmp_path / 'nowhere.pth'))))
    check_run(Config(dict(load_from='https://example.org/x.pth', train_cfg=dict(max_epochs=3))))
    check_run(Config(dict(load_from=None, train_cfg=None)))


TRAINING = dict(
    default_scope='mocox', model=dict(type='MoCoV3'), train_dataloader=dict(num_workers=0), train_cfg=dict(max_epochs=2)
)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(train_cfg=dict(type='IterBasedTrainLoop', max_iters=30)), r'max_epochs=N\) with N = max_iters x'),
        (dict(train_cfg=dict(by_epoch=False, max_iters=30)), 'counts training in epochs'),
        (dict(val_dataloader=dict(num_workers=0)), 'default_hooks.monitor.knn_data_root=DIR'),
        (dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_best='loss'))), '^save_best acts on'),
        (dict(custom_hooks=[dict(type='EarlyStoppingHook', monitor='loss')]), '^EarlyStoppingHook acts on'),
        (dict(model=dict(type='LinearProbe'), default_hooks=dict(x=dict(type='EarlyStoppingHook'))), 'no val_dataload'),
    ],
)
def test_what_a_training_would_ignore_or_fail_at_after_an_epoch(change, message):
    check_run(Config(TRAINING))
    with pytest.raises(ValueError, match=message):
        check_run(Config(TRAINING | change))


def test_a_detector_may_train_by_iterations_and_a_probe_save_its_best():
    check_run(
        Config(TRAINING | dict(default_scope='mmpretrain', train_cfg=dict(type='IterBasedTrainLoop', max_iters=30)))
    )
    save_best = dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_best='auto')))
    check_run(Config(TRAINING | save_best | dict(model=dict(type='LinearProbe'), val_dataloader=dict(num_workers=0))))


def test_a_pure_python_config_whose_types_are_classes():
    """MMEngine's style of ``from mocox.models import MoCoV3`` and ``model=dict(type=MoCoV3)``."""
    model = dict(type=MoCoV3, data_preprocessor=dict(type='ViewsPreprocessor', mean=[0] * 3, std=[1] * 3))
    config = Config(
        TRAINING
        | dict(model=model, train_dataloader=dict(dataset=dict(type=ImageFiles)), optim_wrapper=dict(type=OptimWrapper))
    )
    check_run(config)
    _use_mixed_precision(config)
    assert config.optim_wrapper.type == 'mocox.AmpOptimWrapper'
    with pytest.raises(ValueError, match='a pre-training has no predictions'):
        check_run(Config(config.to_dict() | dict(val_dataloader=dict(num_workers=0))))


def test_a_backbone_may_come_from_a_folder(tmp_path):
    require_file(str(tmp_path), '--pretrained', or_folder=True)
    for path, or_folder in ((tmp_path, False), (tmp_path / 'nowhere', True)):
        with pytest.raises(FileNotFoundError, match='--pretrained: there is no file'):
            require_file(str(path), '--pretrained', or_folder)
