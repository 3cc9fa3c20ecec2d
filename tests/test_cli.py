"""What a person's mistakes look like: one paragraph that names the value and the fix, exit code 1."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mocox import cli
from mocox.run.build import _drop_refused, find_resume
from mocox.run.options import prepare_config
from tests.support.processes import forget_runner
from tests.support.tiny_run import ROOT, run_tool, write_run


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The config of a tiny run; the working directory is that of the test."""
    monkeypatch.chdir(tmp_path)
    return write_run(tmp_path)


class RunsCode:
    def __reduce__(self):
        return os.system, ('touch it_ran',)


def write_files() -> None:
    """Files of the kinds that people pass by mistake, and one that somebody else means badly."""
    os.makedirs('empty')
    os.makedirs('corrupt')
    for name in ('corrupt/1.png', 'corrupt/2.jpg', 'text.pth'):
        with open(name, 'w') as file:
            file.write('not an image, nor a checkpoint')
    torch.save(dict(state_dict=dict(x=RunsCode())), 'malicious.pth')
    torch.save(dict(state_dict={'backbone.conv1.weight': torch.zeros(4, 3, 7, 7)}), 'other.pth')


MISTAKES = {
    'missing data folder': (['--data-root', 'nowhere'], '--data-root.*nowhere'),
    'empty data folder': (['--data-root', 'empty'], 'empty'),
    'no readable image': (['--data-root', 'corrupt'], 'corrupt'),
    'unknown key': (['--cfg-options', 'model.backbone.ptch_size=8'], "MoCoViT has no argument 'ptch_size'.*patch_size"),
    'unknown key of a parent class': (['--cfg-options', 'model.chunk_sise=8'], "MoCoV3 .*'chunk_sise'.*chunk_size"),
    'unknown key of a torch class': (['--cfg-options', 'optim_wrapper.optimizer.lrr=1'], "AdamW .*'lrr'.*lr"),
    'unknown key of the loop': (['--cfg-options', 'train_cfg.max_epoch=2'], "has no argument 'max_epoch'.*max_epochs"),
    'unknown key of the loader': (
        ['--cfg-options', 'train_dataloader.bach_size=2'],
        "DataLoader has no argument 'bach_size'.*batch_size",
    ),
    'unknown section': (['--cfg-options', 'train_dataloadr.batch_size=2'], "'train_dataloadr'.*train_dataloader"),
    'unknown component': (
        ['--cfg-options', 'model.backbone.type=MoCoVit'],
        "no 'MoCoVit' in the model registry of scope mocox.*MoCoViT",
    ),
    'unknown foreign component': (
        ['--cfg-options', 'model.backbone.type=mmpretrain.ResNett'],
        "'mmpretrain.ResNett'.*mmpretrain.ResNet",
    ),
    'unknown optimizer': (
        ['--cfg-options', 'optim_wrapper.optimizer.type=Adamw'],
        "no 'Adamw' in the optimizer registry of scope mocox; did you mean AdamW",
    ),
    'unknown argument of the checkpoints': (
        ['--cfg-options', 'default_hooks.checkpoint.intervall=1'],
        "'intervall'.* did you mean interval",
    ),
    'unknown schedule': (['--cfg-options', 'param_scheduler.type=WarmupCosinLR'], 'did you mean WarmupCosineLR'),
    'unknown collation': (
        ['--cfg-options', 'train_dataloader.collate_fn.type=collate_vews'],
        "no 'collate_vews'.*mocox.collate_views",
    ),
    'unknown norm': (['--cfg-options', 'model.neck.norm_cfg.type=SyncBatch'], "no 'SyncBatch' in the model registry"),
    'learning rate in words': (['--cfg-options', 'optim_wrapper.optimizer.lr=fast'], r"AdamW\(lr='fast', "),
    'workers in words': (['--cfg-options', 'train_dataloader.num_workers=two'], "num_workers must be .*'two'"),
    'no momentum update': (['--cfg-options', 'custom_hooks=[]'], 'custom_hooks has no MomentumUpdateHook.*replaces'),
    'hook without a type': (['--cfg-options', 'default_hooks.chekpoint.interval=1'], "'interval': 1.*has no type"),
    'package that is not installed': (['--cfg-options', 'model.backbone.type=mmfoo.ResNet'], 'mmfoo is not installed'),
    'batch of one': (['--cfg-options', 'train_dataloader.batch_size=1'], 'batch size 1.*train_dataloader.batch_size'),
    'momentum out of range': (['--cfg-options', 'model.base_momentum=1.5'], r'momentum.*1\.5'),
    'temperature out of range': (['--cfg-options', 'model.head.temperature=0.0'], r'temperature.*0\.0'),
    'image and patch': (['--cfg-options', 'model.backbone.img_size=36'], '36.*8'),
    'pretrained is missing': (['--pretrained', 'nowhere.pth'], '--pretrained.*nowhere.pth'),
    'pretrained is text': (['--pretrained', 'text.pth'], 'text.pth'),
    'pretrained is malicious': (['--pretrained', 'malicious.pth'], 'malicious.pth'),
    'pretrained is for another network': (['--pretrained', 'other.pth'], 'other.pth.*'),
    'resume is missing': (['--resume', 'nowhere.pth'], '--resume.*nowhere.pth'),
    'resume is text': (['--resume', 'text.pth'], 'text.pth is not a checkpoint'),
    'resume is malicious': (['--resume', 'malicious.pth'], 'malicious.pth is refused.*system'),
    'float16 on the CPU': (
        ['--cfg-options', 'optim_wrapper.type=AmpOptimWrapper', 'optim_wrapper.dtype=float16'],
        "'float16' needs a GPU",
    ),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_mistakes_end_training_with_an_explanation(tiny, capfd, mistake):
    arguments, explanation = MISTAKES[mistake]
    write_files()
    with pytest.raises(SystemExit) as end:
        run_tool('train.py', tiny, *arguments)
    assert end.value.code == 1
    message = capfd.readouterr().err
    message = message[message.index('error: ') :]
    assert re.search(explanation, message, re.DOTALL), message
    assert 'Traceback' not in message
    assert len(message) < 1500
    assert not os.path.exists('it_ran')


@pytest.mark.parametrize('arguments', [['nowhere.py'], ['mocox::mocov3/nowhere.py'], ['broken.py'], ['inherits.py']])
def test_mistakes_in_the_config_file(tmp_path, monkeypatch, capfd, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'broken.py').write_text('model = dict(\ntrain = 1')
    (tmp_path / 'inherits.py').write_text("_base_ = ['nowhere.py']")
    with pytest.raises(SystemExit) as end:
        run_tool('train.py', *arguments)
    message = capfd.readouterr().err
    assert end.value.code == 1
    assert re.search(r'error: .*(nowhere\.py|broken\.py|pip install)', message), message
    assert 'Traceback' not in message


@pytest.mark.parametrize('error', [RuntimeError('a bug'), AssertionError(), ZeroDivisionError()])
def test_bugs_keep_their_traceback(error):
    def main():
        raise error

    with pytest.raises(type(error)):
        cli.run_tool(main)


def test_out_of_memory_comes_with_advice(capsys):
    def main():
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB.')

    with pytest.raises(SystemExit):
        cli.run_tool(main)
    assert 'model.chunk_size=64' in capsys.readouterr().err


def test_debug_keeps_the_traceback(monkeypatch):
    monkeypatch.setenv('MOCOX_DEBUG', '1')
    with pytest.raises(ValueError, match='wrong'):
        cli.run_tool(lambda: int('wrong'))


def test_later_ranks_say_one_line(monkeypatch, capsys):
    def main():
        raise ValueError('first line\nsecond line')

    monkeypatch.setenv('LOCAL_RANK', '3')
    with pytest.raises(SystemExit):
        cli.run_tool(main)
    assert capsys.readouterr().err == 'error: (rank 3) first line\n'


def prepare(path, *arguments):
    parser = cli.make_parser('')
    cli.add_training_arguments(parser)
    args = vars(parser.parse_args([str(path), *map(str, arguments)]))
    return prepare_config(args.pop('config'), **args)


def test_options_change_the_config(tiny, tmp_path):
    (tmp_path / 'other').mkdir()
    torch.save(dict(state_dict={'backbone.cls_token': torch.zeros(1, 1, 16)}), tmp_path / 'start.pth')
    config = prepare(
        tiny,
        '--data-root',
        'other',
        '--pretrained',
        'start.pth',
        '--amp',
        '--auto-scale-lr',
        '--launcher',
        'pytorch',
        '--cfg-options',
        'optim_wrapper.optimizer.lr=0.5',
        'auto_scale_lr.enable=False',
    )
    assert config.train_dataloader.dataset.data_root == 'other'
    assert config.model.backbone.init_cfg == dict(type='mocox.Pretrained', checkpoint='start.pth')
    assert config.optim_wrapper.type == 'mocox.AmpOptimWrapper'
    assert config.optim_wrapper.optimizer.lr == 0.5
    assert config.auto_scale_lr == dict(enable=True, base_batch_size=256)
    assert config.launcher == 'pytorch'
    assert config.work_dir == os.path.join('work_dirs', 'tiny')
    assert prepare(tiny, '--work-dir', 'here').work_dir == 'here'


def test_data_root_reaches_every_data_set(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(
        "train_dataloader = dict(dataset=dict(datasets=[dict(data_root='a'), dict(data_root='b')]))\n"
        "val_dataloader = dict(dataset=dict(dataset=dict(data_root='c')))\ntest_dataloader = None\n"
    )
    config = prepare(path, '--data-root', tmp_path)
    assert [part.data_root for part in config.train_dataloader.dataset.datasets] == [str(tmp_path)] * 2
    assert config.val_dataloader.dataset.dataset.data_root == str(tmp_path)


def test_data_root_may_be_an_object_store():
    config = prepare(ROOT / 'configs/mocov3/vit-small_webdataset.py', '--data-root', 's3://bucket/imagenet')
    assert config.train_dataloader.dataset.data_root == 's3://bucket/imagenet'


def test_data_root_reaches_an_evaluators_annotations(tmp_path):
    path = tmp_path / 'coco.py'
    path.write_text(
        "val_dataloader = dict(dataset=dict(data_root='data/coco/'))\n"
        "val_evaluator = dict(ann_file='data/coco/annotations/val.json')\n"
        "test_evaluator = [dict(ann_file='elsewhere/val.json'), dict(type='x')]\n"
    )
    config = prepare(path, '--data-root', tmp_path)
    assert config.val_evaluator.ann_file == str(tmp_path / 'annotations/val.json')
    assert config.test_evaluator[0].ann_file == 'elsewhere/val.json'


def test_pretrained_reaches_the_stage_in_the_head_of_a_detector(tmp_path):
    path = tmp_path / 'c4.py'
    path.write_text("model = dict(backbone=dict(type='ResNet'), roi_head=dict(shared_head=dict(stage=3)))\n")
    (tmp_path / 'start.pth').touch()
    model = prepare(path, '--pretrained', tmp_path / 'start.pth').model
    assert model.backbone.init_cfg == dict(type='mocox.Pretrained', checkpoint=str(tmp_path / 'start.pth'))
    assert model.roi_head.shared_head.init_cfg == dict(model.backbone.init_cfg, part='layer4.')


@pytest.mark.parametrize(
    ('text', 'option', 'explanation'),
    [
        ('model = dict()', ['--data-root', '.'], 'no dataset of this config has a data_root'),
        ('optim_wrapper = dict(type="Other")', ['--amp'], "optim_wrapper.type='Other'"),
        ('model = dict()', ['--auto-scale-lr'], 'base_batch_size'),
    ],
)
def test_options_that_do_not_fit_the_config(tmp_path, text, option, explanation):
    path = tmp_path / 'config.py'
    path.write_text(text)
    with pytest.raises(ValueError, match=explanation):
        prepare(path, *option)


def write_checkpoint(path: Path, epoch: int) -> None:
    torch.save(dict(meta=dict(epoch=epoch, iter=3 * epoch), state_dict={}, message_hub={}), path)


def resumed(config: str, *arguments: str) -> tuple:
    config = prepare(config, *arguments)
    find_resume(config)
    return config.resume, config.load_from


def test_resume(tiny, tmp_path, capsys):
    assert resumed(tiny, '--resume') == (False, None)
    assert 'holds no checkpoint yet' in capsys.readouterr().out

    work_dir = Path('work_dirs', 'tiny')
    work_dir.mkdir(parents=True)
    (work_dir / 'last_checkpoint').write_text('x.pth')
    start = ('--cfg-options', 'load_from=start.pth')
    assert resumed(tiny, '--resume', *start) == (False, 'start.pth')  # what the note names is gone: nothing to resume
    for epoch in (10, 2):
        write_checkpoint(work_dir / f'epoch_{epoch}.pth', epoch)
    for word in (['--resume'], ['--resume', 'auto']):
        assert resumed(tiny, *word, *start) == (True, str(work_dir / 'epoch_10.pth'))

    (tmp_path / 'mine.pth').write_bytes((work_dir / 'epoch_2.pth').read_bytes())
    assert resumed(tiny, '--resume', 'mine.pth') == (True, 'mine.pth')
    (tmp_path / 'mine.pth').write_bytes((work_dir / 'epoch_2.pth').read_bytes()[:-100])
    with pytest.raises(ValueError, match='mine.pth is damaged or truncated'):
        resumed(tiny, '--resume', 'mine.pth')


def test_a_process_that_replaces_a_failed_one_goes_on(tiny, monkeypatch):
    work_dir = Path('work_dirs', 'tiny')
    work_dir.mkdir(parents=True)
    write_checkpoint(Path('mine.pth'), 1)
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    assert resumed(tiny) == (False, None)
    assert resumed(tiny, '--resume', 'mine.pth') == (True, 'mine.pth')
    write_checkpoint(work_dir / 'epoch_2.pth', 2)
    for arguments in ([], ['--resume'], ['--resume', 'mine.pth']):
        assert resumed(tiny, *arguments) == (True, str(work_dir / 'epoch_2.pth'))


@pytest.mark.parametrize(
    ('num_gpus', 'has_bfloat16', 'dtype'), [(0, False, 'bfloat16'), (1, True, 'bfloat16'), (1, False, 'float16')]
)
def test_amp_chooses_what_the_device_can(tiny, monkeypatch, num_gpus, has_bfloat16, dtype):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: has_bfloat16)
    assert prepare(tiny, '--amp').optim_wrapper.dtype == dtype


def test_a_file_that_is_no_config(tmp_path):
    (tmp_path / 'epoch_1.pth').touch()
    with pytest.raises(ValueError, match=r'epoch_1.pth is not a config'):
        prepare(tmp_path / 'epoch_1.pth')


def test_a_tool_in_its_own_process(tmp_path):
    """The exit code and the streams as a shell sees them."""
    result = subprocess.run(
        [sys.executable, ROOT / 'tools' / 'train.py', 'nowhere.py'],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    assert (result.returncode, result.stdout) == (1, '')
    hint = 'mocox configs list names those that came with mocox'
    assert f'error: there is no config file nowhere.py: {hint}\n(MOCOX_DEBUG=1 shows the traceback)\n' in result.stderr


@pytest.mark.slow
@pytest.mark.dist
def test_a_killed_loader_worker_ends_training_with_the_cure(tmp_path):
    """As the system kills it where memory runs out."""
    options = [
        'train_dataloader.num_workers=2',
        'train_dataloader.persistent_workers=True',
        'train_cfg.max_epochs=9999',
    ]
    command = [sys.executable, str(ROOT / 'tools/train.py'), str(write_run(tmp_path)), '--cfg-options', *options]
    with subprocess.Popen(command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        next(line for line in process.stdout if 'epoch 2/' in line)
        children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        try:
            _, errors = process.communicate(timeout=240)
        finally:
            process.kill()
    assert process.returncode == 1
    assert re.search(r'^error: a data loader worker .* was killed.*num_workers.*--resume', errors, re.MULTILINE)
    assert 'Traceback' not in errors


def test_what_needs_workers_is_dropped_without_them():
    loader = dict(num_workers=0, persistent_workers=True, prefetch_factor=2, dataset=dict(type='mmpretrain.ImageNet'))
    _drop_refused(loader)
    assert loader.keys() == {'num_workers', 'dataset'}
    loader = dict(num_workers=1, persistent_workers=True, dataset=dict(type='mmpretrain.ImageNet'))
    _drop_refused(loader)
    assert loader['persistent_workers']


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU to pin memory for')
def test_no_memory_is_pinned_without_a_gpu():
    loader = dict(pin_memory=True, dataset=dict(type='ImageFiles', data_root='x'))
    _drop_refused(loader)
    assert 'pin_memory' not in loader and 'seed' not in loader['dataset']


def test_a_run_whose_workers_augment_learns_the_same(tiny):
    """Equal to one whose preprocessor does it, up to the rounding of the views to whole levels."""
    losses = []
    for place in ('workers', 'device'):
        options = ['train_dataloader.num_workers=2', f'data_preprocessor.photometric={place}', 'train_cfg.max_epochs=1']
        run_tool('train.py', tiny, '--work-dir', place, '--cfg-options', *options)
        forget_runner()
        scalars = next(Path(place).glob('*/vis_data/scalars.json')).read_text().splitlines()
        losses.append([json.loads(line)['loss'] for line in scalars])
        log = next(Path(place).glob('*/*.log')).read_text()
        assert ('Views are augmented by the loader workers.' in log) == (place == 'workers')
    assert len(losses[0]) == 3
    assert losses[0] == pytest.approx(losses[1], abs=0.1)  # without augmentation 0.6 less
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('/my photos', '/my photos'),
        ("'/my  photos'", '/my  photos'),
        ('[ /my photos , b,(1 , 2)]', ['/my photos', 'b', (1, 2)]),
        ('/photos (1)/of [2023] all', '/photos (1)/of [2023] all'),
        ('[/photos (1), (a, b (c))]', ['/photos (1)', ('a', 'b (c)')]),
        ('1, 2', [1, 2]),
        (' 0.5', 0.5),
        ('no', 'no'),
        ('False', False),
    ],
)
def test_values_of_options_keep_their_spaces(text, value):
    parser = cli.make_parser('x')
    found = parser.parse_args(['config.py', '--cfg-options', 'a.b=1', f'c.d={text}']).cfg_options
    assert found == {'a.b': 1, 'c.d': value}
    assert type(found['c.d']) is type(value)


@pytest.mark.parametrize(
    ('option', 'explanation'),
    [
        ('model.backbone.img_size=(128,', "cannot read '(128,' as the value of model.backbone.img_size: close every"),
        ('model=1[,]', "cannot read '1[,]' as the value of model: close every bracket"),
        ('train.py', '\'train.py\' has no "=": write KEY=VALUE'),
    ],
)
def test_an_option_that_cannot_be_read_is_named_alone(capsys, option, explanation):
    with pytest.raises(SystemExit) as end:
        cli.make_parser('').parse_args(['config.py', '--cfg-options', 'seed=1', option, 'work_dir=x'])
    message = capsys.readouterr().err
    assert end.value.code == 2
    assert message.startswith(f'error: --cfg-options: {explanation}') and message.count('\n') == 1
