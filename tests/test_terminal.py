"""Foreign text on its way to the terminal and the log: it is seen, and does nothing."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from PIL import Image

from mocox import cli, terminal
from mocox.registry import MODELS
from mocox.terminal import CLEAR_LINE, EscapedStream, indented, one_line, renew_line, say
from tests.support.tiny_run import ROOT, run_tool, write_run

# Clears the screen, names the window, goes back to the start of the line, begins one that looks like ours, turns the
# direction of text, ends a line as Unicode does, starts a sequence in one byte, goes back one, hides, is half a pair.
HOSTILE = 'a\x1b[2J\x1b]0;b\x07\r\nerror: faked\n10 - mmengine - INFO - faked\u202egnp\u2066\u2028\x9b2J\b\u200b\x7f'


def is_harmless(text: str) -> bool:
    """Against Unicode's own table: no control, format, surrogate or separator character but line breaks and spaces."""
    bad = [char for char in text if unicodedata.category(char) in ('Cc', 'Cf', 'Cs', 'Co', 'Cn', 'Zl', 'Zp')]
    faked = [line for line in text.splitlines() if line.startswith(('error: faked', '10 - mmengine'))]
    return set(bad) <= {'\n', '\t'} and not faked


def test_the_table_of_this_test_finds_what_is_bad():
    assert not is_harmless(HOSTILE)
    assert not is_harmless('a\nerror: faked')
    assert is_harmless('a\n  é ✕ 漢字\n')


def test_one_line_shows_what_is_there():
    assert one_line('a\x1b[1m\n\u202e\udc80é') == 'a\\x1b[1m\\n\\u202e\\udc80é'
    assert is_harmless(one_line(HOSTILE))
    assert one_line('plain, with 漢字') == 'plain, with 漢字'


def test_only_the_first_of_several_lines_stands_at_the_margin():
    assert indented('a\nb\n  c\n\td\n\ne') == 'a\n  b\n  c\n\td\n\n  e'
    assert is_harmless(indented(HOSTILE))


def test_a_stream_escapes_and_keeps_the_levels_of_mmengine():
    inner = io.StringIO()
    stream = EscapedStream(inner)
    level = '\x1b[5m\x1b[4m\x1b[33mWARNING\x1b[0m'
    assert stream.write(f'{level} {HOSTILE}\n') == len(f'{level} {HOSTILE}\n')
    stream.writelines(['b\t\x1b[8m', 'c\n'])
    text = inner.getvalue()
    assert text.startswith(f'{level} a\\x1b[2J')
    assert text.endswith('b\t\\x1b[8mc\n')
    assert '\x1b' not in text.removeprefix(level)
    assert not stream.isatty()


def test_a_terminal_that_knows_no_unicode_is_no_error(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(raw, encoding='ascii'))
    say('✕ é')
    assert raw.getvalue() == b'\\u2715 \\xe9\n'


def test_a_line_is_renewed_by_us_alone(capsys):
    with terminal.escaped_output():
        renew_line(f'50 % {CLEAR_LINE}100 %')
        print(CLEAR_LINE)
    assert capsys.readouterr().out == f'{CLEAR_LINE}50 % \\r\\x1b[K100 %\\r\\x1b[K\n'


def test_the_log_has_one_record_a_line(tmp_path, capsys):
    logger = MMLogger('hostile', log_file=str(tmp_path / 'a.log'))
    logger.warning('%s', HOSTILE)
    logger.info('{"a": 1}\nb')
    text = (tmp_path / 'a.log').read_text()
    assert is_harmless(text)
    assert text.endswith('{"a": 1}\n  b\n')
    assert len([line for line in text.splitlines() if line[0] != ' ']) == 2
    assert is_harmless(re.sub(r'(\x1b\[\d+m)+(WARNING|INFO)\x1b\[0m', '', capsys.readouterr().out))


@pytest.mark.parametrize('error', [ValueError, RuntimeError])
def test_errors_of_any_kind_are_escaped(error, capsys):
    """One that a person can cure is a paragraph; another one has its traceback."""

    def main() -> None:
        print(HOSTILE[:4])
        raise error(HOSTILE)

    with pytest.raises(SystemExit if error is ValueError else error) as caught:
        cli.run_tool(main)
    if error is RuntimeError:
        sys.excepthook(error, caught.value, caught.tb)
    out, err = capsys.readouterr()
    assert out == 'a\\x1b[2\n'
    assert 'error: faked' in err.lower()
    assert is_harmless(err) if error is ValueError else '\x1b' not in err
    assert not isinstance(sys.stdout, EscapedStream)


ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)


@pytest.fixture(scope='module')
def hostile(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint, class folders and images, and a work dir, of someone who names them so."""
    folder = tmp_path_factory.mktemp('hostile')
    model = MODELS.build(dict(type='MoCoViT', arch=ARCH, img_size=32, patch_size=8))
    weights = {f'backbone.{key}': value for key, value in model.state_dict().items()}
    meta = dict(epoch=1, iter=1, experiment_name=HOSTILE, mmengine_version=HOSTILE, cfg=f'a = {HOSTILE!r}')
    checkpoint = folder / f'{HOSTILE}.pth'
    torch.save(dict(state_dict={**weights, f'{HOSTILE}.weight': torch.ones(2)}, meta=meta), checkpoint)
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for label in ('0', '1'):
            (folder / 'images' / split / f'{HOSTILE}{label}').mkdir(parents=True)
            for number in range(4):
                path = folder / 'images' / split / f'{HOSTILE}{label}' / f'{HOSTILE}{number}.png'
                Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
            path.with_name(f'{HOSTILE}.jpg').write_bytes(b'broken')
    (folder / 'own').mkdir()
    log = folder / f'run{HOSTILE}' / '20260101_000000' / 'vis_data'
    log.mkdir(parents=True)
    lines = [{'loss': 2.0 - i / 10, HOSTILE: 1.0, 'iter': i, 'step': i, 'epoch': 1} for i in range(1, 9)]
    (log / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    event = dict(kind='state', iter=3, state=HOSTILE, message=HOSTILE, evidence={HOSTILE: HOSTILE}, causes=[HOSTILE])
    (log / 'events.jsonl').write_text(json.dumps(event))
    dataset = dict(type=HOSTILE, data_root=HOSTILE)
    (log / 'config.py').write_text(f'model = {dict(type=HOSTILE)!r}\ntrain_dataloader = {dict(dataset=dataset)!r}\n')
    return dict(checkpoint=checkpoint, images=folder / 'images', run=log.parents[1], config=write_run(folder / 'own'))


TOOLS = {
    'inspect_checkpoint.py': '{checkpoint} --keys',
    'convert_checkpoint.py': '{checkpoint} {out}/a.pth --to mocox',
    'extract_backbone.py': '{checkpoint} {out}/b.pth',
    'search_images.py': '{image} --folder {images} --checkpoint {checkpoint} --heads 2 --out {out}/c.png',
    'evaluate.py': '{checkpoint} --data-root {images} --protocols knn --heads 2 --work-dir {out}/d --cache-dir {out}/e',
    'doctor.py': '{config} --data-root {images} --seconds 0',
    'report.py': '{run} --out {out}/f.html',
    'visualize.py': 'views {config} --data-root {images} --out {out}/{name}.png --num 2',
    'train.py': '{config} --data-root {images} --work-dir {out}/run --cfg-options train_cfg.max_epochs=1 '
    'train_dataloader.batch_size=4',
}
ERRORS = {
    'inspect_checkpoint.py': '{run}',
    'convert_checkpoint.py': '{out}/{name} x.pth --to mocox',
    'evaluate.py': '{checkpoint} --data-root {out}/{name}',
    'doctor.py': '{config} --cfg-options model.type={name}',
    'report.py': '{out}/{name}',
    'search_images.py': '{out}/{name} --folder {images} --checkpoint {checkpoint}',
    'make_subset.py': '{images}/train --fraction 0.5 --out {out}/list.txt',
    'replay_step.py': '{checkpoint}',
    'train.py': '{config} --cfg-options model.backbone.type={name}',
    'test.py': '{out}/{name} x.pth',
}
# The same key, of whose characters some end in MMEngine's parser and some in a config that nobody could write down.
KEYS = {
    'train.py': '{config} --cfg-options model.{name}=1',
    'doctor.py': '{config} --cfg-options {name}=1',
    'test.py': '{config} x.pth --cfg-options model.{name}=1',
    'visualize.py': 'views {config} --out a.png --cfg-options model.{name}=1',
    'evaluate.py': '{checkpoint} --data-root {images} --options {name}=1',
}


@pytest.mark.parametrize(
    ('tool', 'arguments', 'fails'),
    [(*item, False) for item in TOOLS.items()] + [(*item, True) for item in (*ERRORS.items(), *KEYS.items())],
)
def test_tools_print_hostile_names_and_no_control_characters(
    hostile, tmp_path, capfd, monkeypatch, tool, arguments, fails
):
    image = next(hostile['images'].glob('*/*/*.png'))
    words = [word.format(**hostile, out=tmp_path, image=image, name=HOSTILE) for word in arguments.split()]
    monkeypatch.chdir(tmp_path)
    codes = []
    try:
        run_tool(tool, *words)
    except SystemExit as end:
        codes.append(end.code)
    out, err = capfd.readouterr()
    if fails:
        assert codes and codes[0] not in (0, None)
        assert '\\x1b[2J' in err
    else:
        assert codes in ([], [0]) or tool == 'doctor.py', err  # which finds problems
        assert '\\x1b[2J' in out + err
    assert is_harmless(out), out
    assert is_harmless(err), err
    for log in tmp_path.rglob('*.log'):
        assert is_harmless(log.read_text())


CLOSED = """
import sys, time
from mocox.terminal import escaped_output, renew_line, say
with escaped_output():
    for number in range(50):
        print('print', 'x' * 999)
        say('say')
        renew_line('renewed')
        time.sleep(0.002)
print('outside')
print('done', file=sys.stderr)
"""


def test_a_pipe_that_nobody_reads_any_more_ends_nothing():
    command = [sys.executable, '-c', CLOSED]
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    with subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith('print x')
        process.stdout.close()
        assert (process.stderr.read(), process.wait(20)) == ('done\n', 0)


@pytest.mark.parametrize('output', ['pipe', 'full', 'none'])
def test_a_training_whose_output_goes_nowhere_ends_as_usual(tmp_path, monkeypatch, output):
    """As ``python tools/train.py CONFIG | head -1``, with a full disk behind ``> FILE``, and with ``>&-``."""
    if output == 'pipe':
        reader, writer = os.pipe()
        os.close(reader)
        stream = os.fdopen(writer, 'w')
    else:
        stream = open('/dev/full', 'w') if output == 'full' else None  # noqa: SIM115
    options = ['--cfg-options', 'train_cfg.max_epochs=2']
    with monkeypatch.context() as patch:
        patch.setattr(sys, 'stdout', stream)
        run_tool('train.py', write_run(tmp_path), '--work-dir', tmp_path / 'run', *options)
    assert torch.load(tmp_path / 'run' / 'epoch_2.pth', weights_only=True)['meta']['iter'] == 6
    if stream:
        with contextlib.suppress(OSError):  # /dev/full
            stream.close()
