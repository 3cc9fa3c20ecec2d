"""Files that are whole or not there, on disks that fail."""

import logging
import os
import random
import resource
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import torch

from mocox.checkpoint import durable, files
from mocox.checkpoint.durable import CheckpointWriter, newest_good, read_position, remove_leftovers, verify


def content(iteration: int, run: str | None = 'a', size: int = 1000) -> dict:
    generator = torch.Generator().manual_seed(iteration)
    exact = dict(exact_resume=dict(run=run)) if run else {}
    weights = dict(x=torch.rand(size, generator=generator))
    return dict(meta=dict(epoch=0, iter=iteration), state_dict=weights, message_hub={}, **exact)


def save(path: Path, iteration: int, run: str | None = 'a') -> Path:
    torch.save(content(iteration, run), path)
    os.utime(path, ns=(iteration * 10**9,) * 2)
    return path


class Said(list):
    def __call__(self, level: int, text: str) -> None:
        self.append(text)


def test_any_change_is_noticed_or_harmless(tmp_path):
    """torch.load alone reads most flipped bits as other weights."""
    path = save(tmp_path / 'iter_1.pth', 1)
    verify(path)
    original, expected = path.read_bytes(), content(1)['state_dict']['x']
    dice, silent = random.Random(0), 0
    for _ in range(300):
        changed = bytearray(original)
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        path.write_bytes(changed)
        try:
            verify(path)
        except ValueError:
            continue
        silent += 1
        loaded = torch.load(path, weights_only=True)
        assert loaded['meta'] == dict(epoch=0, iter=1)
        assert torch.equal(loaded['state_dict']['x'], expected)
    assert silent < 100  # padding and dates between the records


@pytest.mark.parametrize('length', [0, 1, 100, 3000, -1])
def test_a_cut_file_is_noticed(tmp_path, length):
    path = save(tmp_path / 'iter_1.pth', 1)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match='iter_1.pth is'):
        verify(path)
    with pytest.raises(ValueError, match='iter_1.pth is'):
        read_position(path)


def test_files_of_old_torch_count_as_whole_if_they_load(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(content(3), path, _use_new_zipfile_serialization=False)
    verify(path)
    assert read_position(path).iteration == 3
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match='epoch_1.pth is'):
        verify(path)


def test_the_newest_whole_one_is_found(tmp_path):
    said = Said()
    assert newest_good(tmp_path, said) is None
    paths = {iteration: save(tmp_path / f'iter_{iteration}.pth', iteration) for iteration in (9, 10, 11)}
    save(tmp_path / 'best_accuracy_epoch_12.pth', 12)
    save(tmp_path / 'notes.pth', 13)
    (tmp_path / 'last_checkpoint').write_text(str(paths[10]))  # killed before the note was renewed
    assert newest_good(tmp_path, said) == str(paths[11]) and not said
    damaged = bytearray(paths[11].read_bytes())
    damaged[-3000] ^= 1  # in the tensor
    paths[11].write_bytes(damaged)
    paths[10].write_bytes(paths[10].read_bytes()[:2000])
    assert newest_good(tmp_path, said) == str(paths[9])
    assert any('iter_11.pth is damaged' in text and 'the one before' in text for text in said)
    assert any('iter_10.pth is damaged or truncated' in text for text in said)
    paths[9].write_bytes(b'')
    assert newest_good(tmp_path, said) is None


def test_another_run_in_the_same_folder_is_not_meant(tmp_path):
    save(tmp_path / 'epoch_300.pth', 300, run='old')
    mine = save(tmp_path / 'epoch_301.pth', 4000, run='mine')
    torch.save(content(5, 'mine'), mine)
    assert newest_good(tmp_path, Said()) == str(mine)  # the newest file
    os.utime(tmp_path / 'epoch_300.pth')
    (tmp_path / 'last_checkpoint').write_text(f'/before/it/was/moved/{mine.name}')
    assert newest_good(tmp_path, Said()) == str(mine)  # the note


def test_another_folder_is_found_by_the_note(tmp_path):
    (tmp_path / 'out').mkdir()
    path = save(tmp_path / 'out' / 'epoch_1.pth', 1)
    (tmp_path / 'last_checkpoint').write_text(str(path))
    assert newest_good(tmp_path, Said()) == str(path)


def write(writer: CheckpointWriter, folder: Path, iteration: int, **options) -> bool:
    writer.save(content(iteration), folder / f'iter_{iteration}.pth', folder / 'last_checkpoint', **options)
    return writer.wait()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob('*.pth*')}


def test_old_files_go_after_the_new_one_is_whole(tmp_path, monkeypatch):
    writer = CheckpointWriter(Said())
    present = []
    monkeypatch.setattr(durable, 'verify', lambda path: present.append(names(tmp_path) - {Path(path).name}))
    for iteration in (1, 2, 3):
        assert write(writer, tmp_path, iteration, keep=1)
    assert present == [set(), {'iter_1.pth'}, {'iter_2.pth'}]
    assert names(tmp_path) == {'iter_3.pth'}
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_3.pth')
    assert write(writer, tmp_path, 4, between=True) and write(writer, tmp_path, 5, between=True)
    assert names(tmp_path) == {'iter_3.pth', 'iter_5.pth'}
    assert write(writer, tmp_path, 6, keep=2)
    assert names(tmp_path) == {'iter_3.pth', 'iter_6.pth'}


def test_a_file_that_does_not_read_back_is_dropped(tmp_path, monkeypatch):
    said = Said()
    writer = CheckpointWriter(said)
    assert write(writer, tmp_path, 1, keep=1)
    flush = files._flush

    def spoil(path):
        flush(path)
        if str(path).endswith('.tmp'):
            data = bytearray(Path(path).read_bytes())
            data[-3000] ^= 1
            Path(path).write_bytes(data)

    monkeypatch.setattr(files, '_flush', spoil)
    assert not write(writer, tmp_path, 2, keep=1)
    assert names(tmp_path) == {'iter_1.pth'}
    assert 'damaged' in said[0] and 'last good checkpoint is' in said[0]


def test_writing_does_not_keep_the_training_waiting(tmp_path, monkeypatch):
    verified = threading.Event()
    monkeypatch.setattr(durable, 'verify', lambda path: verified.wait(60))
    writer = CheckpointWriter(Said())
    writer.save(content(1), tmp_path / 'iter_1.pth', None)
    assert not verified.is_set() and names(tmp_path) != {'iter_1.pth'}
    threading.Timer(0.3, verified.set).start()
    writer.save(content(2), tmp_path / 'iter_2.pth', None)  # waits for the first
    assert verified.is_set()
    assert writer.wait() and names(tmp_path) == {'iter_1.pth', 'iter_2.pth'}


def test_bugs_are_not_mistaken_for_a_full_disk(tmp_path):
    writer = CheckpointWriter(Said())
    writer.save(dict(x=lambda: 0), tmp_path / 'iter_1.pth', None)
    with pytest.raises(Exception, match='lambda'):
        writer.wait()


def test_leftovers_are_removed(tmp_path):
    for name in ('iter_1.pth.abc.tmp', 'last_checkpoint.abc.tmp', 'report.html.abc.tmp', 'mine.tmp'):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['mine.tmp']


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / 'small'
    folder.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder], capture_output=True).returncode:
        pytest.skip('mounting is not permitted')
    yield folder
    subprocess.run(['umount', '-l', folder])


def test_a_full_disk(full_disk):
    said = Said()
    writer = CheckpointWriter(said)
    assert write(writer, full_disk, 1)
    (full_disk / 'filler').write_bytes(bytes(900_000))
    writer.save(content(2, size=100_000), full_disk / 'iter_2.pth', full_disk / 'last_checkpoint')
    assert not writer.wait()
    assert names(full_disk) == {'iter_1.pth'}  # nothing half-written stays
    assert 'MB are free there' in said[0] and f'Free space in {full_disk}' in said[0]
    assert f'The last good checkpoint is {full_disk / "iter_1.pth"}' in said[0]
    (full_disk / 'filler').unlink()
    writer.save(content(3, size=100_000), full_disk / 'iter_3.pth', full_disk / 'last_checkpoint')
    assert writer.wait() and newest_good(full_disk, said) == str(full_disk / 'iter_3.pth')


def test_a_vanished_mount(full_disk):
    """The folder below the mount point, which is there again then, gets no file."""
    said = Said()
    work_dir = full_disk / 'work'
    work_dir.mkdir()
    writer = CheckpointWriter(said)
    assert write(writer, work_dir, 1)
    subprocess.run(['umount', '-l', full_disk], check=True)
    assert not write(writer, work_dir, 2)
    assert f'the folder {work_dir} is gone' in said[0] and 'mount it again' in said[0]
    assert not work_dir.exists()


def test_a_limit_on_the_size_of_files(tmp_path):
    said = Said()
    writer = CheckpointWriter(said)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        writer.save(content(1, size=100_000), tmp_path / 'iter_1.pth', None)
        assert not writer.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
    assert 'could not be written' in said[0] and 'There is no good checkpoint yet' in said[0]


def test_a_folder_that_may_not_be_written(tmp_path):
    folder = tmp_path / 'readonly'
    folder.mkdir()
    folder.chmod(0o500)
    mount = ['mount', '-t', 'tmpfs', '-o', 'ro', 'tmpfs', folder]  # root may write anywhere but to a read-only disk
    if os.access(folder, os.W_OK) and subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('root, and mounting is not permitted')
    said = Said()
    try:
        writer = CheckpointWriter(said)
        assert not write(writer, folder, 1)
        assert 'make it writable' in said[0]
    finally:
        subprocess.run(['umount', '-l', folder], capture_output=True)


def test_reports_have_a_level(tmp_path):
    levels = []
    writer = CheckpointWriter(lambda level, text: levels.append(level))
    assert not write(writer, tmp_path / 'gone', 1)
    assert levels == [logging.ERROR]


@pytest.mark.parametrize(
    'put',
    [
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to('nowhere'),
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to('/dev/zero'),
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(b''),
        lambda path: torch.save([1], path),
        lambda path: torch.save(dict(meta=dict(epoch=0, iter='9')), path),
        lambda path: torch.save(dict(content(9), meta=dict(epoch=0, iter='9')), path),
        lambda path: torch.save(dict(content(9), meta=dict(epoch=0, iter=[9])), path),
        lambda path: torch.save(dict(content(9), exact_resume=[1]) | dict(state_dict=None), path),
        lambda path: torch.save({k: v for k, v in content(9).items() if k != 'message_hub'}, path),
        lambda path: torch.save(dict(content(9), exact_resume=dict(run=[1])), path),
    ],
)
def test_whatever_is_no_whole_checkpoint_is_passed_over(tmp_path, put):
    good = save(tmp_path / 'iter_8.pth', 8)
    put(tmp_path / 'iter_9.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_9.pth'))
    assert newest_good(tmp_path, Said()) == str(good)


def test_a_note_that_is_none(tmp_path):
    good = save(tmp_path / 'iter_8.pth', 8)
    os.mkfifo(tmp_path / 'last_checkpoint')
    assert newest_good(tmp_path, Said()) == str(good)
    os.unlink(tmp_path / 'last_checkpoint')
    for text in ('\0', '/', '..', 'a' * 10**6, '\n'):
        (tmp_path / 'last_checkpoint').write_text(text)
        assert newest_good(tmp_path, Said()) == str(good)


def test_bombs_are_passed_over_in_little_memory(tmp_path):
    """An archive whose structure unpacks to 600 MB; one file of some hundred bytes that asks for as much."""
    good = save(tmp_path / 'iter_8.pth', 8)
    with zipfile.ZipFile(tmp_path / 'iter_9.pth', 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as bomb:
        bomb.writestr('archive/data.pkl', bytes(600 * 10**6))
    for name, zipped in (('iter_10.pth', True), ('iter_11.pth', False)):
        torch.save(dict(content(9), x=Claims()), tmp_path / name, _use_new_zipfile_serialization=zipped)
    program = (
        'import resource, sys; from mocox.checkpoint import durable, read\n'
        'before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n'
        'print(durable.newest_good(sys.argv[1], lambda *said: None))\n'
        'for number in (9, 10, 11):\n'
        '    for reader in (read, durable.verify):\n'
        '        try: reader(f"{sys.argv[1]}/iter_{number}.pth")\n'
        '        except ValueError as error: assert "refused" in str(error), error\n'
        '        else: raise SystemExit(f"{reader} read {number}")\n'
        'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n'
    )
    done = subprocess.run([sys.executable, '-c', program, tmp_path], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    found, grown_kb = done.stdout.split()
    assert found == str(good)
    assert int(grown_kb) < 300_000


class Claims:
    def __reduce__(self) -> tuple:
        return bytearray, (2 * 10**9,)
