"""tools/test.py on a linear probe: its metrics, the same in two processes, and what it refuses."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.processes import forget_runner
from tests.support.tiny_run import ROOT, run_script, run_tool

CONFIG = """
_base_ = ['{root}/_base_/models/linear_vit.py', '{root}/_base_/datasets/imagenet_linear.py',
          '{root}/_base_/schedules/sgd_linear_90e.py', '{root}/_base_/default_runtime.py']
arch = dict(embed_dims=16, num_layers=1, num_heads=4, feedforward_channels=32)
model = dict(backbone=dict(arch=arch, img_size=32, patch_size=8), head=dict(in_channels=16, num_classes=2, topk=(1,)))
loader = dict(batch_size=4, num_workers=0, persistent_workers=False, pin_memory=False)
train_dataloader = dict(**loader, dataset=dict(data_root='{data}', crops=dict(size=32, scale=(0.5, 1.0))))
val_dataloader = dict(**loader, dataset=dict(data_root='{data}', crops=dict(size=32, resize=36)))
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))
test_evaluator = dict(topk=(1,))
optim_wrapper = dict(optimizer=dict(lr=20.0))
train_cfg = dict(max_epochs=6)
default_hooks = dict(checkpoint=dict(interval=6))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Dark and bright images in two class folders; 13 to test with, which no number of processes divides."""
    folder = tmp_path_factory.mktemp('probe')
    generator = np.random.default_rng(0)
    for split, numbers in (('train', (8, 8)), ('val', (7, 6))):
        for name, number, level in zip(('bright', 'dark'), numbers, (200, 20)):
            (folder / 'data' / split / name).mkdir(parents=True)
            for index in range(number):
                pixels = generator.integers(level, level + 50, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / 'data' / split / name / f'{index}.png')
    (folder / 'probe.py').write_text(CONFIG.format(root=ROOT / 'configs', data=folder / 'data'))
    return folder


@pytest.fixture(scope='module')
def checkpoint(folder):
    """A probe trained by tools/train.py."""
    run_tool('train.py', folder / 'probe.py', '--work-dir', folder / 'trained')
    forget_runner()
    return folder / 'trained' / 'epoch_6.pth'


def test_metrics(folder, checkpoint):
    out = folder / 'out' / 'm.json'
    run_tool('test.py', folder / 'probe.py', checkpoint, '--work-dir', folder / 'tested', '--out', out)
    metrics = json.loads(out.read_text())
    assert metrics['accuracy/top1'] == 100  # brightness is easy

    labels_swapped = torch.load(checkpoint, weights_only=True)
    for name in ('head.fc.weight', 'head.fc.bias'):
        labels_swapped['state_dict'][name] = labels_swapped['state_dict'][name].flip(0)
    torch.save(labels_swapped, folder / 'swapped.pth')
    forget_runner()
    run_tool('test.py', folder / 'probe.py', folder / 'swapped.pth', '--out', folder / 'm.json')
    assert json.loads((folder / 'm.json').read_text())['accuracy/top1'] == 0


@pytest.mark.dist
def test_two_processes_count_every_image_once(folder, checkpoint):
    """The head always says 'bright': 7 of 13, and images repeated to fill up the last batch would change that."""
    always = torch.load(checkpoint, weights_only=True)
    always['state_dict']['head.fc.weight'].zero_()
    always['state_dict']['head.fc.bias'].copy_(torch.tensor([1.0, 0.0]))
    torch.save(always, folder / 'always.pth')
    result = run_script('dist_test.sh', folder / 'probe.py', folder / 'always.pth', 2, '--out', 'two.json', cwd=folder)
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / 'two.json').read_text())['accuracy/top1'] == pytest.approx(100 * 7 / 13, rel=1e-6)


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        (lambda state: state.pop('head.fc.bias'), 'missing.*head.fc.bias'),
        (lambda state: state.update({'neck.fc0.weight': torch.zeros(1)}), 'unexpected.*neck.fc0.weight'),
        (lambda state: state.update({'head.fc.weight': torch.zeros(3, 16)}), 'head.fc.weight.*3, 16.*2, 16'),
        (lambda state: [state.pop(name) for name in list(state) if 'backbone' in name], 'missing.*backbone.cls_token'),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(folder, checkpoint, capfd, change, told):
    other = torch.load(checkpoint, weights_only=True)
    change(other['state_dict'])
    torch.save(other, folder / 'other.pth')
    with pytest.raises(SystemExit):
        run_tool('test.py', folder / 'probe.py', folder / 'other.pth')
    message = capfd.readouterr().err
    assert re.search(f'error: .*other.pth does not fit .*{told}', message, re.DOTALL), message
    assert len(message) < 1000


@pytest.mark.parametrize('name', ['nowhere.pth', 'text.pth'])
def test_what_is_no_checkpoint_is_refused(folder, capfd, name):
    (folder / 'text.pth').write_text('no checkpoint')
    with pytest.raises(SystemExit):
        run_tool('test.py', folder / 'probe.py', folder / name)
    assert f'{name}' in capfd.readouterr().err.partition('error: ')[2]


def test_other_class_folders_are_refused(folder, checkpoint, capfd):
    """A label is a position among the sorted folders: 'dark' would be tested as 'bright'."""
    (folder / 'other').mkdir()
    (folder / 'other' / 'val').symlink_to(folder / 'other_val')
    (folder / 'other_val').mkdir()
    (folder / 'other_val' / 'dark').symlink_to(folder / 'data' / 'val' / 'dark')
    with pytest.raises(SystemExit):
        run_tool('test.py', folder / 'probe.py', checkpoint, '--data-root', folder / 'other')
    assert re.search(r"learned 2 classes .* have 1.*\['bright'\]", capfd.readouterr().err)


@pytest.mark.parametrize(
    ('numbers', 'told'),
    [
        (dict(bright=1, dark=2), r'only for test: label 2; .* Subtract 1 from the labels for test'),
        (dict(bright=1, dark=0), r"images in the folder 'bright' have label 1 for test and 0 for training"),
    ],
)
def test_a_list_that_numbers_the_classes_in_another_way_is_refused(folder, checkpoint, capfd, numbers, told):
    lines = [f'{name}/{index}.png {number}\n' for name, number in numbers.items() for index in range(6)]
    (folder / 'data' / 'list.txt').write_text(''.join(lines))
    with pytest.raises(SystemExit):
        run_tool('test.py', folder / 'probe.py', checkpoint, '--cfg-options',
                 'test_dataloader.dataset.list_file=list.txt')  # fmt: skip
    assert re.search(f'learned 2 classes and the test images have 2, .*{told}', capfd.readouterr().err)
