"""No file of a stranger runs code: every call that could is found in the source and must be one of the safe ones."""

import ast
import json
import os
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from PIL import Image

import mocox
from mocox.checkpoint import convert, durable, read
from mocox.commands.inspect import describe
from mocox.datasets import ImageFiles
from mocox.doctor.images import look_at
from mocox.evaluation.inference import extract_features, to_pixels
from mocox.evaluation.search import search_images
from mocox.models import TransformersBackbone
from mocox.monitors.bad_step import FORMAT, _dtype, replay_step
from mocox.registry import MODELS, PARAM_SCHEDULERS, require_registered
from mocox.report.pictures import from_checkpoint
from mocox.report.runs import read_run
from mocox.run.build import find_resume, load_for_test
from tests.support.tiny_run import ROOT

SOURCES = sorted([*Path(mocox.__file__).parent.glob('**/*.py'), *ROOT.glob('tools/**/*.py')])
# Calls that are safe only with this argument.
NEEDED = {'torch.load': ('weights_only', True), 'numpy.load': ('allow_pickle', False)}
# Whatever reads or runs something, by module; None: every function of it.
DANGEROUS = {
    'pickle': {'load', 'loads'},
    'joblib': {'load'},
    'yaml': {'load', 'load_all', 'full_load', 'unsafe_load'},
    'os': {'system', 'popen'},
    'torch.jit': {'load'},
    'torch.hub': None,
    'torch.package': None,
    'mmengine.fileio': {'load'},
    **dict.fromkeys(['marshal', 'shelve', 'dill', 'cloudpickle', 'runpy', 'code', 'codeop']),
}
BUILTINS = {'eval', 'exec', 'compile', '__import__'}
METHODS = {'extract', 'extractall', 'unpack_archive', 'fromstring', 'get_object_from_string'}  # run, or lead out


def full_names(tree: ast.Module) -> dict[str, str]:
    """What the names that a file imports stand for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split('.')[0]] = (
                    alias.name if alias.asname else alias.name.split('.')[0]
                )
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f'{node.module}.{alias.name}' for alias in node.names}
    return names


def called(node: ast.Call, names: dict[str, str]) -> str:
    parts, target = [], node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    parts.append(names.get(target.id, target.id) if isinstance(target, ast.Name) else '?')
    return '.'.join(reversed(parts))


def unsafe_calls(source: str) -> list[str]:
    tree = ast.parse(source)
    names, found = full_names(tree), []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = called(node, names)
        module, _, function = name.rpartition('.')
        keywords = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
        if name in NEEDED:
            key, value = NEEDED[name]
            is_unsafe = keywords.get(key) is not value
        elif name.startswith('subprocess.'):
            is_unsafe = keywords.get('shell', False) is not False
        else:
            functions = DANGEROUS.get(module, set())
            is_unsafe = functions is None or function in functions or name in BUILTINS or function in METHODS
        if is_unsafe:
            found.append(f'line {node.lineno}: {name}')
    return found


def test_nothing_in_the_source_runs_what_a_file_says():
    found = {str(path): calls for path in SOURCES if (calls := unsafe_calls(path.read_text()))}
    assert len(SOURCES) > 60
    assert not found


@pytest.mark.parametrize(
    'source',
    [
        'import torch\ntorch.load(f)',
        'import torch\ntorch.load(f, weights_only=False)',
        'from torch import load as read\nread(f)',
        'import numpy as np\nnp.load(f)',
        'import pickle\npickle.loads(f)',
        'from pickle import load\nload(f)',
        'import yaml\nyaml.load(f)',
        'import joblib\njoblib.load(f)',
        'eval(text)',
        'import subprocess\nsubprocess.run(text, shell=True)',
        'archive.extractall()',
        'import mmengine.fileio as io\nio.load(f)',
    ],
)
def test_the_search_finds_what_it_looks_for(source):
    assert len(unsafe_calls(source)) == 1


def test_the_search_lets_safe_calls_pass():
    assert not unsafe_calls(
        'import json, subprocess, torch, yaml\nimport numpy as np\njson.load(f)\nyaml.safe_load(f)\nmodel.load(f)\n'
        'torch.load(f, weights_only=True)\nnp.load(f, allow_pickle=False)\nsubprocess.run(["ls"])\nmodel.eval()\n'
    )


def test_the_class_that_reads_pickles_builds_arrays_only():
    """The only subclass of an unpickler; what it refuses is tested beside its users. Each looks the pickle through."""
    assert [path.name for path in SOURCES if 'Unpickler)' in path.read_text()] == ['pickles.py']
    users = {path.name: path.read_text() for path in SOURCES if 'ArrayUnpickler(' in path.read_text()}
    assert set(users) == {'arrays.py', 'cifar.py', 'pickles.py'}
    assert all('find_cost(' in text for text in users.values())


def run_of(folder: Path, dataset: dict, preprocessor: dict | None = None, backbone: dict | None = None) -> Path:
    """A work dir that says it was trained with these parts."""
    log = folder / '20260101_000000' / 'vis_data'
    log.mkdir(parents=True)
    (log / 'scalars.json').write_text('{"loss": 1.0, "iter": 1, "step": 1, "epoch": 1}\n')
    model = dict(type='MoCoV3', backbone=backbone or dict(type='MoCoViT'), data_preprocessor=preprocessor or {})
    (log / 'config.py').write_text(f'model = {model!r}\ntrain_dataloader = {dict(dataset=dataset)!r}\n')
    return folder


HARMLESS = dict(type='ImageFiles', data_root='images', crops=dict(type='RandomResizedCrops', size=32))


TINY = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
NAMES = ['os.system', 'subprocess.check_output', 'mocox.os.system', 'mmengine.os.system', 'mmpretrain.os.system', 5]


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('place', ['dataset', 'crops', 'preprocessor', 'backbone'])
def test_a_foreign_work_dir_builds_registered_components_only(tmp_path, name, place):
    witness = tmp_path / 'witness'
    attack = dict(type=name, args=['touch', str(witness)], command=f'touch {witness}')
    dataset = attack if place == 'dataset' else dict(HARMLESS, crops=attack) if place == 'crops' else HARMLESS
    parts = {place: attack} if place in ('preprocessor', 'backbone') else {}
    folder = run_of(tmp_path / 'run', dataset, **parts)
    run = read_run(folder)
    pictures = from_checkpoint(run.config, None)
    assert not witness.exists()
    assert 'is not a registered component' in pictures.notes[0]


class Payload:
    """Pickles to a call of ``os.system``."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple:
        return os.system, (f'touch {self.witness}',)


def test_registered_components_that_read_pickles_or_download_are_refused(tmp_path):
    """A data set of MMEngine unpickles its ``ann_file``; a language model runs the code of its folder."""
    witness, pickled = tmp_path / 'witness', tmp_path / 'images.pkl'
    pickled.write_bytes(pickle.dumps(dict(metainfo={}, data_list=Payload(witness))))
    attacks = [
        dict(type=name, ann_file=str(pickled))
        for name in ('BaseDataset', 'mmengine.BaseDataset', 'mmpretrain.BaseDataset')
    ] + [
        dict(HARMLESS, data_root='http://127.0.0.1:9/images'),
        dict(type='WebDatasetImages', data_root='s3://bucket/', crops=HARMLESS['crops']),
        dict(type='LMDBImages', data_root=str(tmp_path), crops=HARMLESS['crops']),
        dict(HARMLESS, _scope_='mmpretrain'),
        dict(type='CIFAR10', _scope_='mmpretrain', data_root=str(tmp_path), download=True),
        dict(type='CIFAR10', _scope_=dict(a=1)),
    ]
    for number, dataset in enumerate(attacks):
        pictures = from_checkpoint(read_run(run_of(tmp_path / str(number), dataset)).config, None)
        assert not witness.exists()
        assert re.search('not a registered|not name an address|LMDB', pictures.notes[0]), dataset


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='mmpretrain.TIMMBackbone', model_name='resnet18', pretrained=True),
        dict(type='mmpretrain.TIMMBackbone', model_name='hf-hub:evil/model'),
        dict(type='TIMMBackbone', model_name='local-dir:evil'),
        dict(type='TIMMBackbone', model_name='resnet18', norm_layer='os.system'),
        dict(type='mmpretrain.VQAGenerationHead', answer_list_path='evil.pkl'),
        dict(type='mmpretrain.AutoModelForCausalLM', name_or_path='evil', trust_remote_code=True),
        dict(type='MoCoViT', init_cfg=dict(type='Pretrained', checkpoint='https://127.0.0.1/x.pth')),
    ],
)
def test_a_foreign_config_unpickles_and_downloads_nothing(backbone):
    with pytest.raises(ValueError, match='stranger.py: '):
        require_registered(dict(type='MoCoV3', backbone=backbone), 'stranger.py')


# Where a config is read out of a foreign file, and which modules may build from it.
FOREIGN = {'parse_config', 'read_run'}
GUARDED = {'pictures.py', 'bad_step.py', 'rebuilding.py'}  # the last one guards what evaluation/encoder.py builds


def test_every_path_from_a_foreign_config_to_a_build_is_guarded():
    """By module: whatever builds and has a foreign config in its hands calls ``require_registered``."""
    builders, readers, guards = set(), set(), set()
    for path in SOURCES:
        words = set(re.findall(r'[A-Za-z_]+', path.read_text()))
        builders |= {path.name} if re.search(r'\w\.build\(', path.read_text()) else set()
        readers |= {path.name} if FOREIGN & words else set()
        guards |= {path.name} if 'require_registered' in words else set()
    assert guards == GUARDED | {'registry.py'}
    assert builders & readers <= GUARDED
    # Those that read and hand on, without building: the report tool, whose runs end in from_checkpoint, the page, which
    # draws text, provenance and api, which keep numbers, warm_start, which compares them, and the demo, which draws its
    # own run. A new name here needs a guard and a row above.
    assert readers - GUARDED == {
        'provenance.py', 'runs.py', 'report.py', 'hook.py', 'api.py', 'warm_start.py', 'demo.py',
    }  # fmt: skip


@pytest.mark.parametrize('name', NAMES[:2])
def test_a_config_inside_a_checkpoint_builds_nothing(tmp_path, name, monkeypatch):
    """Every tool that takes a checkpoint: its config is read for numbers, never built."""
    witness = tmp_path / 'witness'
    attack = dict(type=name, args=['touch', str(witness)], command=f'touch {witness}')
    parts = dict(model=dict(attack, backbone=attack, data_preprocessor=attack), data_preprocessor=attack)
    text = '\n'.join(f'{key} = {value!r}' for key, value in parts.items())
    weights = {
        f'backbone.{key}': value
        for key, value in MODELS.build(dict(type='MoCoViT', arch=TINY, img_size=32, patch_size=8)).state_dict().items()
    }
    file = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=weights, meta=dict(cfg=text, epoch=1, iter=1, experiment_name='x')), file)
    describe(read(file), all_keys=True)
    images = tmp_path / 'images'
    images.mkdir()
    for number in range(4):
        Image.effect_noise((32, 32), 60 + number).save(images / f'{number}.png')
    extract_features(file, sorted(images.iterdir()), heads=2)
    search_images([images / '0.png'], str(images), file, 2, cache_dir=tmp_path / 'cache', heads=2)
    convert(file, tmp_path / 'out.pth', 'mocox')
    run = run_of(tmp_path / 'run', dict(HARMLESS, data_root=str(images)))
    from_checkpoint(dict(read_run(run).config, **parts), file)
    assert not witness.exists()


class Claims:
    """Pickles to a call that takes 2 GB, which torch's safe loading allows."""

    def __reduce__(self) -> tuple:
        return bytearray, (2 * 10**9,)


@pytest.mark.parametrize(
    'reader',
    [
        read,
        durable.verify,
        durable.read_position,
        replay_step,
        lambda path: load_for_test(None, str(path)),
        lambda path: find_resume(Config(dict(load_from=str(path)))),
        lambda path: find_resume(Config(dict(load_from=str(path), resume=True))),
    ],
)
def test_every_reader_of_checkpoints_refuses_a_bomb_first(tmp_path, reader):
    torch.save(dict(format=FORMAT, meta=dict(epoch=0, iter=1), state_dict={}, x=Claims()), tmp_path / 'bomb.pth')
    with pytest.raises(ValueError, match='bytearray'):
        reader(tmp_path / 'bomb.pth')


def test_a_foreign_dump_of_a_step_runs_nothing(tmp_path):
    witness = tmp_path / 'witness'
    for config in (
        f'import os\nos.system("touch {witness}")\nmodel = dict(type="MoCoV3")',
        f'model = dict(type="os.system", command="touch {witness}")',
    ):
        dump = dict(format=FORMAT, config=config, state_dict={}, batches=[], iteration=0, momentum=None)
        torch.save(dump, tmp_path / 'dump.pth')
        with pytest.raises((ValueError, TypeError)):
            replay_step(tmp_path / 'dump.pth')
        assert not witness.exists()


def test_components_that_recipes_name_are_registered():
    for path in ('mocov3/vit-small.py', 'mocov3/resnet50_100e.py', 'mocov2/resnet50_200e_1gpu.py', 'moby/swin-tiny.py'):
        config = Config.fromfile(ROOT / 'configs' / path)
        require_registered([config.model, config.train_dataloader.dataset, config.get('data_preprocessor')], path)


@pytest.mark.parametrize('put', [os.mkfifo, lambda path: path.symlink_to('/dev/zero')])
def test_images_that_are_no_regular_files_are_not_waited_for(tmp_path, put):
    put(tmp_path / 'a.png')
    with pytest.raises(ValueError, match='not a regular file'):
        to_pixels(tmp_path / 'a.png')
    Image.new('RGB', (8, 8)).save(tmp_path / 'b.png')
    sample = look_at(ImageFiles(str(tmp_path), dict(type='CenterCrop')), 2)
    assert [reason for _, reason in sample.unreadable] == ['not a regular file']


# Which modules may remove or replace files, and what theirs are. A new name here needs a test that foreign names in its
# hands lead to no file outside of its folder.
REMOVERS = {
    'durable.py',  # checkpoints of the run's own naming scheme, and its own temporary files
    'files.py',  # a temporary file beside the target
    'tar_index.py',  # the index of shards, likewise
    'sealed.py',  # the key of this user, temporary files beside features, and shards that it has written itself
    'lmdb_images.py',  # the folder that make_lmdb has begun
    'fault_injection.py',  # of the developers: folders that it made
    'report.py',  # of the benchmark: its own chart
}
REMOVING = {'unlink', 'remove', 'rmdir', 'rmtree', 'removedirs', 'rename', 'replace', 'move', 'truncate'}
SYSTEM = {'os', 'shutil'}
# Modules that print by themselves; all others hand their lines to mocox.terminal. What each prints is escaped:
PRINTERS = {
    'cli.py',  # by `indented`
    'launch.py',  # numbers and names of ours
    'watchdog.py',  # by `one_line`
    'demo.py',  # of our own digits
    'inspect.py',  # `describe` escapes its lines, JSON everything
    'doctor.py',  # a Diagnosis escapes its lines
    'replay.py',  # a Replay does
    'verify.py',  # a case of the developers
    'configs.py',  # recipes that came with mocox, and a config of the person's own
    'auto.py',  # by `indented`
    '__main__.py',  # the person's own arguments
    'forecast.py',  # numbers
    'fault_injection.py',  # of the developers
}


def calls_in(path: Path) -> list[tuple[str, ast.Call]]:
    tree = ast.parse(path.read_text())
    names = full_names(tree)
    return [(called(node, names), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


OURS = [path for path in SOURCES if 'benchmark' not in path.parts and path.name != 'benchmark.py']


def test_files_are_removed_by_those_alone_whose_they_are():
    """``x.replace`` is of a text and ``handle.remove`` of a hook; a path is removed by ``unlink`` or a module."""
    found = set()
    for path in SOURCES:
        for name, _ in calls_in(path):
            module, _, function = name.rpartition('.')
            if function == 'unlink' or (function in REMOVING and module in SYSTEM):
                found.add(path.name)
    assert found <= REMOVERS, found - REMOVERS


def test_foreign_text_is_printed_through_the_one_door():
    found = {path.name for path in OURS for name, _ in calls_in(path) if name in ('print', 'sys.stdout.write')}
    assert found <= PRINTERS, found - PRINTERS


# Set the names of a table, of arguments and of functions of ours.
NAMING = {'dicom.py', 'auto.py', 'installed.py'}


def test_no_file_names_an_attribute_that_is_set():
    """``vars(x).update`` with names that are not our own, and ``setattr`` with a name that is not a literal."""
    found = []
    for path in OURS:
        for name, node in calls_in(path):
            named = name == 'setattr' and path.name not in NAMING
            if named and not isinstance(node.args[1], ast.Constant | ast.IfExp):
                found.append(f'{path.name}:{node.lineno}: setattr')
            if re.fullmatch(r'vars\(.*\)\.update|.*__dict__\.update', ast.unparse(node.func)):
                argument = ast.unparse(node.args[0]) if node.args else ''
                found += [] if argument == 'known_values(state, STATE)' else [f'{path.name}:{node.lineno}: {argument}']
    assert not found


@pytest.mark.parametrize('schedule', ['CosineAnnealingLR', 'WarmupCosineLR'])
def test_a_checkpoint_sets_no_other_attribute_of_a_schedule(schedule):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    settings = dict(T_max=4) if schedule == 'CosineAnnealingLR' else dict(end=4)
    built = PARAM_SCHEDULERS.build(dict(type=schedule, optimizer=optimizer, **settings))
    before = set(vars(built))
    built.load_state_dict({**built.state_dict(), 'optimizer': 'mine', 'step': 'mine', 'unknown': 1})
    assert set(vars(built)) <= before | {'_global_step', '_last_value'}
    assert built.optimizer is optimizer


def test_a_name_of_torch_comes_from_a_list(tmp_path):
    """The type of mixed precision of a dumped step was looked up in the module torch, whatever it was called."""
    for name in ('load', 'hub', 5, '__dict__'):
        with pytest.raises(ValueError, match='autocast'):
            _dtype(name, tmp_path)
    assert _dtype('bfloat16', tmp_path) is torch.bfloat16
    assert _dtype(None, tmp_path) is None


@pytest.mark.parametrize(
    'name', ['../a.safetensors', '/etc/passwd', 'b/../../a', '..', 'c\\..\\a', '', 'a' * 5000, 'a\0b', '\ud800']
)
def test_an_index_opens_files_beside_it_alone(tmp_path, name):
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text(json.dumps(dict(weight_map={'a': name})))
    with pytest.raises(ValueError, match='outside of its folder|not beside it'):
        read(index)


@pytest.mark.parametrize(
    'text', ['{"a":' * 10**5, '[1]', '{"rescale_factor": 0}', '{"image_mean": ["x"]}', '{"image_std": 5}']
)
def test_settings_of_a_foreign_folder_of_transformers_are_named_where_they_are_none(tmp_path, text):
    (tmp_path / 'preprocessor_config.json').write_text(text)
    with pytest.raises(ValueError, match='preprocessor_config.json holds no settings'):
        TransformersBackbone.normalisation.fget(SimpleNamespace(folder=tmp_path))


@pytest.mark.parametrize('content', [b'{"a":' * 10**5, b'\xff\xfe{}'])
def test_a_foreign_config_of_transformers_that_is_none_is_named(tmp_path, content):
    pytest.importorskip('transformers')
    (tmp_path / 'config.json').write_bytes(content)
    with pytest.raises(ValueError, match='config.json cannot be read'):
        MODELS.build(dict(type='TransformersBackbone', folder=str(tmp_path)))


def test_a_foreign_index_of_transformers_that_lacks_its_metadata_is_named(tmp_path):
    pytest.importorskip('transformers')
    (tmp_path / 'config.json').write_text('{"model_type": "vit", "hidden_size": 8, "num_attention_heads": 2}')
    (tmp_path / 'model.safetensors.index.json').write_text('{"weight_map": {"a": "a.safetensors"}}')
    with pytest.raises(FileNotFoundError, match='has no weights that transformers reads'):
        MODELS.build(dict(type='TransformersBackbone', folder=str(tmp_path)))
