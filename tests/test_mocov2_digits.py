"""MoCo v2's recipe for the demo's digits: a short run with a resume, and (on request) the full run with its k-NN."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mocox.demo import write_digits
from mocox.evaluation import extract_from_loader, knn_classify
from mocox.registry import MODELS
from tests.support.processes import forget_runner
from tests.support.tiny_run import ROOT, run_tool
from tests.test_configs.shipped import load, model_config

CONFIG = 'configs/mocov2/resnet18_digits.py'
TARGET = 0.95  # of the full recipe; a random backbone has 0.93


def train(work_dir: Path, digits: Path, *arguments: object) -> dict:
    """The state after a run of the tool."""
    options = ['log_level=ERROR', 'default_hooks.checkpoint.interval=1', *(a for a in arguments if '=' in str(a))]
    flags = [a for a in arguments if '=' not in str(a)]
    flags += ['--data-root', digits, '--work-dir', work_dir]
    run_tool('train.py', ROOT / CONFIG, *flags, '--cfg-options', *options)
    forget_runner()
    return torch.load((work_dir / 'last_checkpoint').read_text(), weights_only=True)['state_dict']


def knn_accuracy(digits: Path, state: dict | None = None) -> float:
    """k-NN accuracy of a backbone, random if there is no state, on the 360 test images."""
    torch.manual_seed(0)
    features = []
    with DefaultScope.overwrite_default_scope('mocox'):
        model = MODELS.build(model_config(load(CONFIG)))
        model.init_weights()
        if state is not None:
            model.load_state_dict(state)
        for part in ('train', 'test'):
            loader = load('configs/mocov2/resnet18_digits_linear.py').val_dataloader.to_dict()
            loader['dataset'] |= dict(data_root=str(digits), data_prefix=part)
            features.append(extract_from_loader(model, Runner.build_dataloader(loader)))
    (bank, bank_labels), (queries, labels) = features
    return (knn_classify(queries, bank, bank_labels) == labels).double().mean().item()


def test_two_epochs_equal_one_and_a_resumed_one(tmp_path):
    """With the queue, whose ring has wrapped by then."""
    digits = tmp_path / 'digits'
    write_digits(digits)
    for i, path in enumerate(sorted(digits.glob('train/*/*.png'))):
        if i % 20:
            path.unlink()
    tiny = ['train_dataloader.batch_size=24', 'train_cfg.max_epochs=2', 'model.queue_len=40']
    straight = train(tmp_path / 'straight', digits, *tiny)
    resumed = train(tmp_path / 'resumed', digits, '--resume', tmp_path / 'straight' / 'epoch_1.pth', *tiny)
    assert straight.keys() == resumed.keys() and 'queue.keys' in straight
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    assert int(straight['queue.filled']) == 40
    assert int(straight['queue.pointer']) == 2 * 3 * 24 % 40  # 72 images: 3 batches in each epoch


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get('MOCOX_FULL_DEMO') != '1', reason='takes minutes; MOCOX_FULL_DEMO=1 runs it')
def test_full_recipe_learns(tmp_path):
    digits = tmp_path / 'digits'
    write_digits(digits)
    random = knn_accuracy(digits)
    trained = knn_accuracy(digits, train(tmp_path / 'run', digits))
    print(f'k-NN of a random backbone {random:.1%}, pre-trained {trained:.1%}')
    assert trained >= TARGET
    assert trained > random + 0.02
