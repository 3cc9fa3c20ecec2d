"""Tar shards written by tarfile and by WebDataset's own writer, read at random."""

import io
import logging
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from mocox.datasets import EpochSampler, ImageFiles, WebDatasetImages, collate_views
from mocox.datasets.tar_index import index_shard
from mocox.datasets.webdataset_images import expand_shards
from tests.support.image_folders import level_shown
from tests.support.shards import write_shard

pytest.importorskip('fsspec')
pytest.importorskip('braceexpand')
CROPS = dict(type='RandomResizedCrops', size=8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new('RGB', (12, 10), (level,) * 3).save(buffer, 'PNG')
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path) -> Path:
    """12 images of level 0, 1, ... in 3 shards, with labels of 100 + level."""
    for shard in range(3):
        levels = range(4 * shard, 4 * shard + 4)
        members = {f'{level:02}.{ending}': b'' for level in levels for ending in ('cls', 'png')}
        members = {n: png(int(n[:2])) if n.endswith('png') else b'%d' % (100 + int(n[:2])) for n in members}
        write_shard(tmp_path / f'shards/train-{shard:03}.tar', members)
    return tmp_path / 'shards'


def levels(dataset: WebDatasetImages) -> list[int]:
    return [level_shown(dataset[index]) for index in range(len(dataset))]


def test_all_images_in_the_order_of_shards_and_members(folder):
    dataset = WebDatasetImages(str(folder), CROPS, 'train-{000..002}.tar', with_labels=True)
    assert levels(dataset) == list(range(12))
    assert [dataset[index]['label'] for index in range(12)] == list(range(100, 112))
    assert dataset.path(5) == f'{folder}/train-001.tar/05.png'
    backwards = WebDatasetImages(str(folder), CROPS, [f'train-00{n}.tar' for n in (2, 0)])
    assert levels(backwards) == [8, 9, 10, 11, 0, 1, 2, 3]
    assert 'label' not in backwards[0]


def test_webdatasets_own_writer(tmp_path):
    writer = pytest.importorskip('webdataset').ShardWriter(str(tmp_path / 'own-%02d.tar'), maxcount=3, verbose=0)
    with writer as shards:
        for level in range(5):
            shards.write({'__key__': f'folder/{level}', 'jpg': png(level), 'cls': level, 'json': {'any': 'thing'}})
    dataset = WebDatasetImages(str(tmp_path), CROPS, 'own-{00..01}.tar', with_labels=True)
    assert levels(dataset) == list(range(5))
    assert dataset.labels.tolist() == list(range(5))


def test_views_are_those_of_the_folder(tmp_path):
    """Another container, the same data set: seeds, crops and draws are functions of the index alone."""
    generator = np.random.default_rng(0)
    (tmp_path / 'files').mkdir()
    for index in range(6):
        pixels = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'files/{index}.png')
    write_shard(tmp_path / 'all.tar', {p.name: p.read_bytes() for p in sorted((tmp_path / 'files').iterdir())})
    one, other = ImageFiles(str(tmp_path / 'files'), CROPS), WebDatasetImages(str(tmp_path), CROPS, 'all.tar')
    for index in range(6):
        for view, same in zip(one[3, index]['inputs'], other[3, index]['inputs'], strict=True):
            assert (view == same).all()


@pytest.mark.parametrize('num_workers', [0, 2])
def test_shuffled_as_a_whole_and_resumed_at_an_epoch(folder, num_workers):
    def batches(epochs: list[int]) -> list[list[int]]:
        dataset = WebDatasetImages(str(folder), CROPS, 'train-{000..002}.tar')
        sampler = EpochSampler(dataset)
        loader = DataLoader(dataset, 4, sampler=sampler, num_workers=num_workers, collate_fn=collate_views)
        shown = []
        for epoch in epochs:
            sampler.set_epoch(epoch)
            shown += [batch['inputs'][0][:, 0, 0, 0].tolist() for batch in loader]
        return shown

    everything = batches([0, 1])
    assert sorted(level for batch in everything[:3] for level in batch) == list(range(12))
    assert any(len({level // 4 for level in batch}) > 1 for batch in everything)  # not shard by shard
    assert batches([1]) == everything[3:]


def test_from_an_object_store(folder):
    """Fsspec's store in memory stands for the others; forked workers open it on their own."""
    store = pytest.importorskip('fsspec').filesystem('memory')
    for path in folder.iterdir():
        store.pipe(f'/bucket/{path.name}', path.read_bytes())
    dataset = WebDatasetImages('memory://bucket', CROPS, 'train-{000..002}.tar')
    loader = DataLoader(dataset, 4, num_workers=2, collate_fn=collate_views)
    assert [level for batch in loader for level in batch['inputs'][0][:, 0, 0, 0].tolist()] == list(range(12))
    with pytest.raises(FileNotFoundError, match='memory://bucket/none.tar'):
        WebDatasetImages('memory://bucket', CROPS, 'none.tar')


@pytest.mark.parametrize(
    'change',
    [
        dict(offsets=[2**62]), dict(offsets=[-1]), dict(sizes=[-1]), dict(sizes=[2**62]), dict(labels=[-(2**62)]),
        dict(name_ends=[2**40]), dict(texts=5), dict(problem='x\n\x1b[2J'), dict(packed=[0] * 9999), dict(fifo=True),
    ],
)  # fmt: skip
def test_an_index_that_cannot_be_of_the_shard_is_written_again(tmp_path, change):
    write_shard(tmp_path / 'a.tar', {'9.png': png(9)})
    arguments = dict(data_root=str(tmp_path), crops=CROPS, shards='a.tar', index_folder=str(tmp_path / 'own'))
    assert levels(WebDatasetImages(**arguments)) == [9]
    (file,) = (tmp_path / 'own').iterdir()
    with np.load(file) as content:
        columns = {**content, **{key: np.array(value) for key, value in change.items()}}
    whole = file.read_bytes()
    if 'fifo' in change:
        file.unlink()
        os.mkfifo(file)
    else:
        (np.savez_compressed if 'packed' in change else np.savez)(file, **columns)
    assert levels(WebDatasetImages(**arguments)) == [9]
    assert file.read_bytes() == whole


def test_braces_name_so_many_shards_at_most(monkeypatch):
    monkeypatch.setattr('mocox.datasets.webdataset_images.MAX_SHARDS', 1000)
    assert len(expand_shards('', '{000..999}.tar')) == 1000
    for pattern in ('{0..1000000000}.tar', '{a,b}' * 12 + '.tar'):
        with pytest.raises(ValueError, match='names more than 1000 files'):
            expand_shards('', pattern)
    for pattern, message in (
        ('{' * 9000 + '}' * 9000 + '.tar', 'longer than 4096'),
        ('{' * 2000 + '}' * 2000, 'braces'),
    ):
        with pytest.raises(ValueError, match=message):
            expand_shards('', pattern)


def test_the_index_is_kept_and_belongs_to_one_state_of_a_shard(folder, tmp_path, monkeypatch):
    arguments = (str(folder), CROPS, 'train-000.tar')
    WebDatasetImages(*arguments)
    (file,) = (tmp_path / 'cache/mocox/shards').iterdir()
    with monkeypatch.context() as patch:
        patch.setattr('mocox.datasets.webdataset_images.index_shard', None)
        assert levels(WebDatasetImages(*arguments)) == [0, 1, 2, 3]
    file.write_bytes(file.read_bytes()[:100])  # a damaged index is written again
    assert levels(WebDatasetImages(*arguments)) == [0, 1, 2, 3]
    write_shard(folder / 'train-000.tar', {'x.png': png(9)})
    assert levels(WebDatasetImages(*arguments)) == [9]
    assert levels(WebDatasetImages(*arguments, index_folder=str(tmp_path / 'own'))) == [9]
    assert len(list((tmp_path / 'own').iterdir())) == 1


def test_damaged_members_are_replaced_always_by_the_same(tmp_path, capfd):
    members = {f'{level}.png': png(level) for level in range(6)}
    members['2.png'], members['4.png'] = b'', b'no image'
    write_shard(tmp_path / 'a.tar', members)
    first, second = (WebDatasetImages(str(tmp_path), CROPS, 'a.tar', seed=3) for _ in range(2))
    shown = levels(first)
    assert [shown[index] for index in (0, 1, 3, 5)] == [0, 1, 3, 5]
    assert {shown[2], shown[4]} <= {0, 1, 3, 5}
    assert levels(second) == shown
    assert first.num_unreadable == 2
    assert f"{tmp_path}/a.tar/4.png': not an image" in ''.join(capfd.readouterr())


def test_a_shard_that_vanishes_or_shrinks_during_the_run(folder):
    dataset = WebDatasetImages(str(folder), CROPS, 'train-{000..002}.tar')
    (folder / 'train-001.tar').unlink()
    os.truncate(folder / 'train-002.tar', 3000)  # the first label and image fit
    shown = levels(dataset)
    assert [shown[index] for index in (0, 1, 2, 3, 8)] == [0, 1, 2, 3, 8]
    assert set(shown) <= {0, 1, 2, 3, 8}
    assert dataset.num_unreadable == 7


def test_a_truncated_shard_gives_what_is_whole(folder, capfd):
    path = folder / 'train-000.tar'
    for size, number in ((6 * 1024 + 512 + 20, 3), (4 * 1024 + 100, 2)):  # inside a member, inside a header
        os.truncate(path, size)
        assert levels(WebDatasetImages(str(folder), CROPS, 'train-000.tar')) == [*range(number)]
    assert 'is damaged' in ''.join(capfd.readouterr())
    content = bytearray(path.read_bytes())
    content[1024:1536] = bytes(range(256)) * 2  # a header in the middle
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'no images in .*train-000'):
        WebDatasetImages(str(folder), CROPS, 'train-000.tar')


def test_what_is_no_image_is_left_out(tmp_path, capfd):
    members = {'._a.png': b'', 'a.txt': b'', 'a.mask.png': png(1), 'a.png': png(2), 'a.jpg': png(3), 'b/.c.png': b''}
    write_shard(tmp_path / 'a.tar', {**members, 'b/a.png': png(4)}, format=tarfile.PAX_FORMAT)
    assert levels(WebDatasetImages(str(tmp_path), CROPS, 'a.tar')) == [2, 4]
    assert '2 images are left out' in ''.join(capfd.readouterr())


def test_members_never_leave_the_archive(tmp_path):
    """Names that would escape a folder, links and devices: nothing is unpacked, so nothing happens."""
    write_shard(tmp_path / 'shards/a.tar', {'../../evil.png': png(1), '/etc/evil.png': png(2)})
    with tarfile.open(tmp_path / 'shards/a.tar', 'a') as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(f'link{number}.png')
            info.type, info.linkname = kind, '/etc/passwd'
            archive.addfile(info)
    before = sorted(tmp_path.rglob('*.png'))
    assert levels(WebDatasetImages(str(tmp_path / 'shards'), CROPS, 'a.tar')) == [1, 2]
    assert sorted(tmp_path.rglob('*.png')) == before == []


def header(name: str, **fields) -> bytes:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(('mode', 'tool'), [('w:gz', 'gunzip'), ('w:bz2', 'bunzip2'), ('w:xz', 'unxz')])
def test_compressed_archives_are_named_with_what_unpacks_them(tmp_path, mode, tool):
    with tarfile.open(tmp_path / 'a.tar', mode) as archive:
        archive.addfile(tarfile.TarInfo('a.jpg'))
    with (tmp_path / 'a.tar').open('rb') as file, pytest.raises(ValueError, match=rf'compressed.*{tool} < IN > OUT'):
        index_shard(file, 'a.tar', (tmp_path / 'a.tar').stat().st_size)


@pytest.mark.parametrize(
    'content',
    [
        header('x', type=tarfile.XHDTYPE, size=2**40),  # a header that would fill the memory
        header('x', type=tarfile.GNUTYPE_LONGNAME, size=2**40),
        b'PK\x03\x04' + bytes(2000),
        b'\x1f\x8b' + bytes(2000),
        b'',
        b'text',
    ],
    ids=['pax bomb', 'name bomb', 'zip', 'gzip', 'empty', 'text'],
)
def test_archives_that_are_none(tmp_path, content):
    (tmp_path / 'a.tar').write_bytes(content)
    with pytest.raises(ValueError, match=r'a\.tar.*(not a tar archive|no images)|no images.*a\.tar'):
        WebDatasetImages(str(tmp_path), CROPS, 'a.tar')


def test_members_that_claim_to_be_huge(tmp_path):
    """One that is larger than the archive, and one behind which it goes on."""
    content = header('a.png', size=len(png(1))) + png(1).ljust(512, b'\0') + header('b.png', size=2**60) + bytes(2000)
    index = index_shard(io.BytesIO(content), 'a.tar', len(content))
    assert list(index.names) == [b'a.png']
    assert 'is damaged' in index.problem


@pytest.mark.parametrize(
    ('shards', 'message'),
    [('a.tar.gz', 'unpack them'), ('pipe:cat a.tgz', 'pipe:'), ([], 'names no file'), ('pipe:rm -r x; cat a.tar', 'x')],
)
def test_shards_that_cannot_be_used(tmp_path, shards, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        WebDatasetImages(str(tmp_path), CROPS, shards)
    assert expand_shards('https://host/x', 'a-{0..2..2}{p,q}.tar') == [
        f'https://host/x/a-{n}{letter}.tar' for n in (0, 2) for letter in 'pq'
    ]


@pytest.mark.parametrize(
    ('cls', 'message'),
    [
        (b'cat', 'not label numbers'),
        (b'1' * 40, 'not label numbers'),
        (b'-1', 'not label numbers'),
        (b'', 'has no label'),
        (None, 'has no label'),
    ],
)
def test_labels_that_are_missing_or_none(tmp_path, cls, message):
    members = {'a.png': png(0), 'a.cls': b' 7\n', 'b.png': png(1)}
    write_shard(tmp_path / 'a.tar', members if cls is None else {**members, 'b.cls': cls})
    with pytest.raises(ValueError, match=message):
        WebDatasetImages(str(tmp_path), CROPS, 'a.tar', with_labels=True)


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'braceexpand', None)
    with pytest.raises(ImportError, match=r'pip install "mocox\[webdataset\]"'):
        WebDatasetImages(str(tmp_path), CROPS, 'a.tar')


def test_unreadable_everything(tmp_path):
    write_shard(tmp_path / 'a.tar', {f'{n}.png': b'x' for n in range(3)})
    logging.disable(logging.WARNING)
    with pytest.raises(ValueError, match='no readable image.*3 of 3 files'):
        WebDatasetImages(str(tmp_path), CROPS, 'a.tar')
    logging.disable(logging.NOTSET)


def test_labels_count_only_where_they_are_used(tmp_path):
    contents = [b'cat', b'-1', b'', b'1 2', b'3.0']
    members = {f'{n}.{ending}': b'' for n in range(5) for ending in ('cls', 'png')}
    write_shard(tmp_path / 'a.tar', {n: png(int(n[0])) if 'png' in n else contents[int(n[0])] for n in members})
    assert levels(WebDatasetImages(str(tmp_path), CROPS, 'a.tar')) == [*range(5)]


def test_labels_that_are_names(tmp_path):
    members = {'a.png': png(0), 'a.cls': b'dog', 'b.cls': b'cat', 'b.png': png(1), 'c.PNG': png(2), 'c.CLS': b'dog\n'}
    write_shard(tmp_path / 'a.tar', members)
    with pytest.raises(ValueError, match=r"set classes=\['cat', 'dog'\]"):
        WebDatasetImages(str(tmp_path), CROPS, 'a.tar', with_labels=True)
    with pytest.raises(ValueError, match=r"classes lacks \['cat'\]"):
        WebDatasetImages(str(tmp_path), CROPS, 'a.tar', with_labels=True, classes=['dog'])
    dataset = WebDatasetImages(str(tmp_path), CROPS, 'a.tar', with_labels=True, classes=['cat', 'dog'])
    assert dataset.labels.tolist() == [1, 0, 1]
    assert dataset.classes == ['cat', 'dog']


def test_whole_numbers_may_have_a_point(tmp_path):
    write_shard(tmp_path / 'a.tar', {'a.png': png(0), 'a.cls': b'3.0', 'b.png': png(1), 'b.CLS': b'4'})
    assert WebDatasetImages(str(tmp_path), CROPS, 'a.tar', with_labels=True).labels.tolist() == [3, 4]


def test_dots_belong_to_the_names_where_no_image_is_named_without(tmp_path):
    members = {}
    for number in range(4):
        members |= {f'd/img_0.{number}_2.5x.png': png(number), f'd/img_0.{number}_2.5x.cls': b'%d' % (7 + number)}
    write_shard(tmp_path / 'a.tar', members)
    dataset = WebDatasetImages(str(tmp_path), CROPS, 'a.tar', with_labels=True)
    assert levels(dataset) == [0, 1, 2, 3]
    assert dataset.labels.tolist() == [7, 8, 9, 10]


def test_links_within_the_archive_are_images(tmp_path, capfd):
    write_shard(tmp_path / 'a.tar', {'src/0.png': png(0), 'src/1.png': png(1), 'x.png': png(5)})
    links = [
        ('hard/0.png', tarfile.LNKTYPE, 'src/0.png'),
        ('soft/1.png', tarfile.SYMTYPE, '../src/1.png'),
        ('again.png', tarfile.SYMTYPE, 'hard/0.png'),
        ('lost.png', tarfile.SYMTYPE, 'nowhere.png'),
        ('out.png', tarfile.SYMTYPE, '../../../etc/passwd'),
        ('own.png', tarfile.LNKTYPE, 'own.png'),
    ]
    with tarfile.open(tmp_path / 'a.tar', 'a') as archive:
        for name, kind, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    dataset = WebDatasetImages(str(tmp_path), CROPS, 'a.tar')
    assert levels(dataset) == [0, 1, 5, 0, 1, 0]
    assert '3 links are left out' in ''.join(capfd.readouterr())


def test_joined_archives_are_read_to_the_end(tmp_path):
    for name, start in (('a', 0), ('b', 2), ('c', 4)):
        write_shard(tmp_path / f'{name}.tar', {f'{start + n}.png': png(start + n) for n in range(2)})
    joined = b''.join((tmp_path / f'{name}.tar').read_bytes() for name in 'abc')
    (tmp_path / 'all.tar').write_bytes(joined)
    dataset = WebDatasetImages(str(tmp_path), CROPS, 'all.tar')
    assert levels(dataset) == [*range(6)]


def test_a_cut_between_two_members_is_told(tmp_path, capfd):
    write_shard(tmp_path / 'a.tar', {f'{n}.png': png(n) for n in range(3)})
    with tarfile.open(tmp_path / 'a.tar') as archive:
        third = archive.getmembers()[2].offset
    os.truncate(tmp_path / 'a.tar', third)
    assert levels(WebDatasetImages(str(tmp_path), CROPS, 'a.tar')) == [0, 1]
    assert 'cut between two members' in ''.join(capfd.readouterr())


def test_an_empty_shard_among_good_ones_is_told(folder, capfd):
    os.truncate(folder / 'train-001.tar', 0)
    dataset = WebDatasetImages(str(folder), CROPS, 'train-{000..002}.tar', with_labels=True)
    assert levels(dataset) == [0, 1, 2, 3, 8, 9, 10, 11]
    assert 'train-001.tar' in (said := ''.join(capfd.readouterr())) and '0 bytes' in said
