"""The three command-line tools."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mocox.checkpoint import read
from tests.test_checkpoint.conftest import VIT, backbone, same

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a tool in this process; gives its exit code, output and error output."""

    def run(tool: str, *args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
        code = 0
        try:
            runpy.run_path(str(TOOLS / f'{tool}.py'), run_name='__main__')
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def test_inspect(run, official_vit):
    code, shown, _ = run('inspect_checkpoint', official_vit)
    assert code == 0
    assert 'facebookresearch/moco-v3' in shown
    assert 'query, momentum' in shown
    assert json.loads(run('inspect_checkpoint', official_vit, '--json')[1])['coverage'] == 1
    assert run('inspect_checkpoint', official_vit, '--keys')[1].count('blocks.1.mlp.fc2.bias') == 4


def test_convert(run, tmp_path, official_vit):
    out = tmp_path / 'timm.pth'
    code, shown, _ = run('convert_checkpoint', official_vit, out, '--to', 'timm', '--encoder', 'momentum', '--heads', 4)
    assert code == 0
    assert 'timm.create_model(' in shown
    assert same(read(out).backbone('momentum'), read(official_vit).backbone('momentum'))


@pytest.mark.parametrize(('to', 'prefix'), [(None, 'backbone.'), ('timm', '')])
def test_extract(run, tmp_path, official_vit, to, prefix):
    out = tmp_path / 'backbone.pth'
    assert run('extract_backbone', official_vit, out, *(['--to', to] if to else []))[0] == 0
    assert {key.startswith('backbone.') for key in torch.load(out)['state_dict']} == {bool(prefix)}
    assert same(read(out).backbone(), read(official_vit).backbone())


def test_prefix(run, tmp_path):
    """Every tool takes the averaged weights where they are asked for."""
    raw = backbone(VIT).state_dict()
    averaged = {key: tensor + 1 for key, tensor in raw.items()}
    torch.save({'state_dict': raw, 'state_dict_ema': averaged}, tmp_path / 'a.pth')
    assert '--prefix state_dict_ema' in run('inspect_checkpoint', tmp_path / 'a.pth')[1]
    ema = ('--prefix', 'state_dict_ema')
    assert 'below state_dict_ema' in run('inspect_checkpoint', tmp_path / 'a.pth', *ema)[1]
    for tool, *options in (('convert_checkpoint', '--to', 'timm', '--heads', 4), ('extract_backbone',)):
        assert run(tool, tmp_path / 'a.pth', tmp_path / 'out.pth', *options)[0] == 0
        assert same(read(tmp_path / 'out.pth').backbone(), raw)
        assert run(tool, tmp_path / 'a.pth', tmp_path / 'out.pth', *options, *ema)[0] == 0
        assert same(read(tmp_path / 'out.pth').backbone(), averaged)


def test_a_prefix_with_a_wrapper(run, tmp_path, official_vit):
    prefix = ('--prefix', 'module.momentum_encoder.')
    assert run('extract_backbone', official_vit, tmp_path / 'out.pth', *prefix)[0] == 0
    assert same(read(tmp_path / 'out.pth').backbone(), read(official_vit).backbone('momentum'))


def test_of_an_unknown_architecture_nothing_is_recognised(run, tmp_path):
    torch.save({'a.weight': torch.ones(2, 2)}, tmp_path / 'a.pth')
    shown = run('inspect_checkpoint', tmp_path / 'a.pth')[1]
    assert 'unknown architecture' in shown
    assert '100%' not in shown


def test_mistakes_are_one_line_and_exit_code_1(run, tmp_path):
    (tmp_path / 'notes.txt').write_text('hello')
    for tool, *args in [
        ('inspect_checkpoint', tmp_path / 'notes.txt'),
        ('convert_checkpoint', tmp_path / 'missing.pth', tmp_path / 'out.pth', '--to', 'timm'),
        ('extract_backbone', tmp_path / 'notes.txt', tmp_path / 'out.pth'),
    ]:
        code, _, errors = run(tool, *args)
        assert code == 1
        assert errors.strip().startswith('error: ')


def test_as_a_program(official_vit):
    command = [sys.executable, TOOLS / 'inspect_checkpoint.py', official_vit, '--json']
    result = subprocess.run(command, cwd=TOOLS.parent, capture_output=True, text=True, env=None)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)['kind'] == 'self-supervised'
