import collections
import importlib.util
import os
import pickle
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import mmengine.config
import mmengine.utils
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner import runner as mmengine_runner

import mocox.compat
from mocox.compat.installed import find_without_loader
from tests.test_monitors.tiny import train


def test_log_history_is_loaded_safely(tmp_path):
    history = HistoryBuffer()
    for value in (3.0, 1.0, 2.0):
        history.update(value)
    numbers = dict(scalar=np.float64(0.5), count=np.int64(3), flag=np.bool_(True), array=np.arange(3, dtype=np.int32))
    torch.save(dict(message_hub={'train/loss': history}, numbers=numbers), tmp_path / 'epoch_1.pth')

    loaded = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)

    restored = loaded['message_hub']['train/loss']
    assert (restored.mean(), restored.min(), restored.max(), restored.current()) == (2, 1, 3, 2)
    assert loaded['numbers']['array'].tolist() == [0, 1, 2]
    assert (loaded['numbers']['scalar'], loaded['numbers']['count'], loaded['numbers']['flag']) == (0.5, 3, True)


@pytest.mark.parametrize('core', [b'numpy.core', b'numpy._core'])
def test_checkpoints_of_both_numpy_generations_are_loaded(tmp_path, core):
    """What differs is the name of one module, which the older file format holds as plain text."""
    path = tmp_path / 'x.pth'
    torch.save([np.float64(1.5), np.arange(2)], path, _use_new_zipfile_serialization=False)
    path.write_bytes(re.sub(rb'numpy\._?core', core, path.read_bytes()))
    scalar, array = torch.load(path, weights_only=True)
    assert (scalar, array.tolist()) == (1.5, [0, 1])


class Reads:
    """Pickles as ``getattr(owner, name)``."""

    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)


class Runs:
    """Pickles as a shell command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize(
    'attribute', [(HistoryBuffer, '__init__'), (HistoryBuffer, '__subclasses__'), (collections.OrderedDict, 'mean')]
)
def test_getattr_is_allowed_for_the_statistics_only(tmp_path, attribute):
    torch.save(Reads(*attribute), tmp_path / 'x.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'x.pth', weights_only=True)


def test_mmengine_never_runs_code_of_a_checkpoint(tmp_path):
    torch.save(dict(state_dict=Runs(f'touch {tmp_path}/ran')), tmp_path / 'x.pth')
    with pytest.raises(pickle.UnpicklingError):
        mmengine_checkpoint._load_checkpoint(str(tmp_path / 'x.pth'))
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('imports', ['mocox, mmengine.runner', 'mmengine.runner, mocox'])
def test_repairs_take_effect_in_either_order(imports):
    code = (
        f'import {imports}, torch; from mmengine.config.utils import MODULE2PACKAGE; '
        "assert 'mocox' in MODULE2PACKAGE; print(len(torch.serialization.get_safe_globals()))"
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 10


def test_resume_runs_nothing_that_a_checkpoint_holds_and_reads_it_into_host_memory(tmp_path, monkeypatch):
    runner = train(tmp_path / 'run', epochs=1)
    witness, path = tmp_path / 'witness', tmp_path / 'run' / 'epoch_1.pth'
    runner.save_checkpoint(path.parent, path.name, by_epoch=False)
    evil = torch.load(path, weights_only=True)
    evil['meta']['config'] = f'import os\nos.system("touch {witness}")\n'
    torch.save(evil, path)
    places, read = [], mmengine_runner._load_checkpoint
    monkeypatch.setattr(mmengine_runner, 'get_device', lambda: 'meta')  # where the model would be

    def spy(filename, map_location=None, **kwargs):
        places.append(map_location)
        return read(filename, map_location=map_location, **kwargs)

    monkeypatch.setattr(mmengine_runner, '_load_checkpoint', spy)
    runner.resume(str(path))
    assert not witness.exists()
    assert places == ['cpu']


def original(name):
    """A module of MMEngine or MMCV as it is, without our repairs."""
    spec = importlib.util.spec_from_file_location('original', importlib.util.find_spec(name).origin)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_installed_packages_are_found_without_pkg_resources(monkeypatch):
    """As MMEngine's own functions find them where setuptools still has that module."""
    asked = ('mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain', 'mocox', 'tests', 'no-such-package')
    if importlib.util.find_spec('pkg_resources'):
        theirs = original('mmengine.utils.package_utils')
        assert [mmengine.utils.is_installed(name) for name in asked] == [theirs.is_installed(name) for name in asked]
        for name in ('mmengine', 'mmpretrain'):
            assert os.path.samefile(mmengine.utils.get_installed_path(name), theirs.get_installed_path(name))
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)  # its import fails
    assert [mmengine.utils.is_installed(name) for name in asked if name != 'mmcv-lite'] == [True] * 5 + [False]
    assert mmengine.utils.get_installed_path('mmengine') == os.path.dirname(mmengine.__file__)
    assert mmengine.config.config.get_installed_path is mmengine.utils.get_installed_path  # held under the same name
    with pytest.raises(PackageNotFoundError, match='no-such-package'):
        mmengine.utils.get_installed_path('no-such-package')


@pytest.mark.parametrize('name', ['mmengine.utils.dl_utils.misc', 'mmcv.utils.ext_loader'])
def test_modules_are_looked_for_without_find_loader(monkeypatch, name):
    """What Python 3.14 no longer has; whoever asks for compiled operators asks through it."""
    module = importlib.import_module(name) if name.startswith('mmengine') else original(name)
    if not hasattr(module, 'pkgutil'):
        pytest.skip('a fork of the stack that asks importlib')
    ask = module.mmcv_full_available if name.startswith('mmengine') else module.check_ops_exist
    expected = importlib.util.find_spec('mmcv._ext') is not None
    monkeypatch.delattr(pkgutil, 'find_loader', raising=False)
    monkeypatch.setattr(module, 'pkgutil', pkgutil)
    with pytest.raises(AttributeError, match='find_loader'):
        ask()
    find_without_loader(module)
    assert ask() == expected


def test_a_module_to_repair_that_is_not_installed_is_missing():
    """It is searched for as any other."""
    finder = mocox.compat._RepairAfterImport({'mmpretrain_of_nobody': lambda module: None})
    assert finder.find_spec('mmpretrain_of_nobody') is None
