"""What Windows and macOS lack must not be needed to import mocox."""

import os
import subprocess
import sys

import pytest

from mocox.evaluation import sealed

IMPORT_ALL = """
import importlib, multiprocessing, os, pkgutil, signal, sys
import torch, mmengine, matplotlib, sklearn, timm, mmpretrain.models  # need what they need
for name in ('resource', 'fcntl', 'pwd', 'grp', 'termios'):
    sys.modules[name] = None
for name in ('SIGUSR1', 'SIGUSR2', 'SIGHUP', 'SIGQUIT', 'SIGCHLD', 'SIGALRM'):
    delattr(signal, name)
for name in ('fork', 'sched_getaffinity', 'getuid', 'O_NOFOLLOW', 'O_DIRECTORY', 'O_NONBLOCK'):
    delattr(os, name)
import mocox
names = [found.name for found in pkgutil.walk_packages(mocox.__path__, 'mocox.') if not found.name.endswith('__main__')]
for name in names:
    importlib.import_module(name)
print('IMPORTED', len(names))
"""


@pytest.mark.slow  # imports everything in a new interpreter
def test_everything_is_imported_without_what_only_unix_has():
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run([sys.executable, '-c', IMPORT_ALL], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split('IMPORTED')[1]) > 150


def test_the_key_of_features_is_kept_where_files_have_no_owner(tmp_path, monkeypatch):
    """As on Windows, where every file reads as open to all."""
    monkeypatch.setattr(sealed, 'key_file', lambda: tmp_path / 'key')
    monkeypatch.delattr(os, 'getuid')
    key = sealed.user_key()
    (tmp_path / 'key').chmod(0o666)
    assert sealed.user_key() == key
