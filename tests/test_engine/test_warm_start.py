"""What a run says about the weights that it begins with."""

import copy
import re

import torch
from mmengine.registry import init_default_scope

from mocox.engine.warm_start import fit_state, is_pretrained, other_normalisation
from mocox.registry import MODELS
from tests.support.processes import forget_runner
from tests.support.small_models import VIT, config
from tests.support.tiny_run import run_tool, write_run

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
TINY = dict(embed_dim=16, depth=2, num_heads=2, img_size=32)


def log_of(work_dir) -> str:
    return next(work_dir.glob('*/*.log')).read_text()


def test_load_from_of_another_size_batch_and_length_begins_anew(tmp_path):
    path = write_run(tmp_path)
    run_tool('train.py', path, '--work-dir', tmp_path / 'first', '--epochs', 2)
    forget_runner()
    run_tool('train.py', path, '--work-dir', tmp_path / 'first', '--epochs', 4, '--resume')
    forget_runner()
    assert all('begin anew' not in log.read_text() for log in (tmp_path / 'first').glob('*/*.log'))
    file = tmp_path / 'first' / 'epoch_4.pth'
    changes = ['model.backbone.img_size=48', 'train_dataloader.dataset.crops.size=48', f'load_from={file}']
    run_tool('train.py', path, '--work-dir', tmp_path / 'second', '--epochs', 2, '--batch-size', 6,
             '--cfg-options', *changes, 'optim_wrapper.optimizer.lr=0')  # fmt: skip
    forget_runner()
    log = log_of(tmp_path / 'second')
    assert (
        f'load_from: weights of epoch 4 of 4, batch 8, 32 px, from {file}. Learning rate, momentum and epochs begin '
        'anew: 2 epochs, batch 6, 48 px. To go on with that run instead: --resume'
    ) in log
    assert log.count('position embeddings interpolated (bicubic) from 4 x 4 to 6 x 6 patches') == 1
    assert re.search(r'before the first step: effective rank .* \(24 plain images, \d+\.\d s\)', log)
    old, new = (torch.load(f, weights_only=True)['state_dict'] for f in (file, tmp_path / 'second' / 'epoch_2.pth'))
    fixed = [key for key in old if not re.search(r'bn|pos_embed|momentum_encoder|running|tracked', key)]
    assert len(fixed) > 20 and all(torch.equal(old[key], new[key]) for key in fixed)
    assert new['momentum_encoder.backbone.pos_embed'].shape == (1, 37, 16)


def test_positions_of_both_encoders_are_fitted_and_nothing_else():
    model, other = (MODELS.build(config(dict(VIT, img_size=side))) for side in (8, 16))
    state = {f'module.{key}': t for key, t in model.state_dict().items()}
    before = copy.deepcopy(state)
    notes = fit_state(dict(state_dict=state), other)
    assert len(notes) == 1
    changed = {key for key in state if state[key].shape != before[key].shape}
    assert changed == {'module.backbone.pos_embed', 'module.momentum_encoder.backbone.pos_embed'}
    assert state['module.backbone.pos_embed'].shape == other.backbone.pos_embed.shape


def algorithm(constants: dict, **backbone):
    init_default_scope('mocox')
    timm = dict(type='TIMMBackbone', model_name='vit_base_patch16_224', **TINY, **backbone)
    return MODELS.build(config(timm, data_preprocessor=dict(type='ViewsPreprocessor', **constants, views=[{}, {}])))


def test_images_that_the_weights_do_not_know_are_named(tmp_path):
    """ViT-B of timm was trained with mean and deviation .5; a file that says its own is believed before the name."""
    pretrained = algorithm(IMAGENET)
    assert other_normalisation(pretrained, {}) is None  # random weights know no images
    pretrained.backbone.init_cfg = dict(type='mocox.Pretrained', checkpoint='a')
    assert is_pretrained(pretrained.backbone)
    half = 'mean=[127.5,127.5,127.5] data_preprocessor.std=[127.5,127.5,127.5]'
    warning = other_normalisation(pretrained, {})
    assert warning.endswith(f'To take theirs: --cfg-options data_preprocessor.{half}')
    assert 'trained on images with mean=[127.5,127.5,127.5], std=[127.5,127.5,127.5]' in warning
    assert 'this run has mean=[123.675,116.28,103.53], std=[58.395,57.12,57.375]' in warning
    nearly = {key: [value + 0.4 for value in values] for key, values in IMAGENET.items()}
    assert other_normalisation(pretrained, nearly) is None  # load_from says
    assert 'mean=[1,2,3]' in other_normalisation(pretrained, dict(IMAGENET, mean=[1.0, 2.0, 3.0]))
    assert other_normalisation(pretrained, dict(mean=[1.0], std=[1.0])) is None  # of gray images

    state = {f'backbone.{key}': tensor for key, tensor in pretrained.backbone.state_dict().items()}
    torch.save(dict(state_dict=state, mocox=dict(kind='self-supervised', **IMAGENET)), tmp_path / 'a.pth')
    loaded = algorithm(IMAGENET, checkpoint_path=str(tmp_path / 'a.pth'))
    loaded.init_weights()
    assert other_normalisation(loaded, {}) is None
    other = algorithm(dict(IMAGENET, std=[1.0, 2.0, 3.0]), checkpoint_path=str(tmp_path / 'a.pth'))
    other.init_weights()
    assert 'trained on images with mean=[123.675' in other_normalisation(other, {})


def test_a_run_warns(tmp_path):
    path = write_run(tmp_path)
    state = MODELS.build(dict(type='mocox.MoCoViT', img_size=32, patch_size=8, arch=dict(
        embed_dims=16, num_layers=2, num_heads=4, feedforward_channels=32))).state_dict()  # fmt: skip
    meta = dict(kind='self-supervised', heads=4, mean=IMAGENET['mean'], std=[1.0, 1.0, 1.0])
    torch.save(dict(state_dict={f'backbone.{k}': t for k, t in state.items()}, mocox=meta), tmp_path / 'a.pth')
    run_tool('train.py', path, '--work-dir', tmp_path / 'run', '--epochs', 1, '--pretrained', tmp_path / 'a.pth')
    forget_runner()
    assert 'which the weights do not know' in log_of(tmp_path / 'run')
