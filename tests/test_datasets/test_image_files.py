"""Finding, labelling and reading image files, and what happens to those that cannot be read."""

import errno
import logging
import os
import random
from pathlib import Path

import pytest
from PIL import Image
from torch.utils.data import DataLoader

from mocox.datasets import ImageFiles, collate_views, replacement
from mocox.datasets.folders import EXTENSIONS, EXTRAS, scan
from mocox.datasets.lists import parse_list
from mocox.registry import DATASETS
from tests.support.image_folders import level_shown, make_files, names, write_image

CROPS = dict(type='RandomResizedCrops', size=8)


def test_flat_and_nested_folders_in_sorted_order(tmp_path):
    make_files(tmp_path, 'b.png', 'a/deep/er/x.JPG', 'a/y z.jpeg', 'c.TiFF', 'ä.webp')
    for extra in ('notes.txt', '.hidden.png', 'a/._x.jpg', '.thumbs/t.png', 'no_extension'):
        write_image(tmp_path / extra)
    dataset = ImageFiles(str(tmp_path), CROPS)
    assert names(dataset) == ['a/deep/er/x.JPG', 'a/y z.jpeg', 'b.png', 'c.TiFF', 'ä.webp']
    assert [level_shown(dataset[index]) for index in range(5)] == [0, 1, 2, 3, 4]


def test_every_ending_that_is_read_is_listed(tmp_path):
    """In any case; written out, so that none is lost."""
    names_of_plain = (
        'apng avif bmp btf dib gif j2c j2k jfif jhc jp2 jpe jpeg jpf jpg jph jpx mpo npy npz '
        'pam pbm pfm pgm png pnm ppm tf8 tga tif tiff webp'
    )
    plain = set(names_of_plain.split(' '))
    extra = {'dcm', 'dicom', 'heic', 'heif', 'hif', 'jls', 'jxl'}
    for number, ending in enumerate(sorted(plain | extra)):
        write_image(tmp_path / f'{number:02}.{ending if number % 2 else ending.upper()}', number)
    assert names(ImageFiles(str(tmp_path), CROPS)) == [path.name for path in sorted(tmp_path.iterdir())]
    assert {f'.{ending}' for ending in extra} == set(EXTRAS) < set(EXTENSIONS)


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    make_files(tmp_path / 'real', '1.png')
    (tmp_path / 'data/sub').mkdir(parents=True)
    (tmp_path / 'data/linked').symlink_to(tmp_path / 'real')
    (tmp_path / 'data/sub/circle').symlink_to(tmp_path / 'data')
    assert names(ImageFiles(str(tmp_path / 'data'), CROPS)) == ['linked/1.png']


def test_an_item(tmp_path):
    make_files(tmp_path / 'train', 'a.png', 'b.png')
    dataset = DATASETS.build(dict(type='ImageFiles', data_root=tmp_path, data_prefix='train', crops=CROPS))
    item = dataset[7, 1]
    assert set(item) == {'inputs', 'draws', 'index'}
    assert [(view.shape, str(view.dtype)) for view in item['inputs']] == [((3, 8, 8), 'torch.uint8')] * 2
    assert item['draws'].shape == (2, 16)
    assert item['index'] == 1
    assert dataset.metainfo == {}
    assert len(list(dataset)) == 2


def test_class_folders(tmp_path):
    make_files(tmp_path, 'dog/1.png', 'dog/more/2.png', 'cat/1.png', 'ant/1.png')
    dataset = ImageFiles(str(tmp_path), CROPS, with_labels=True)
    assert dataset.metainfo == dict(classes=('ant', 'cat', 'dog'))
    assert [dataset[index]['label'] for index in range(4)] == [0, 1, 2, 2]
    subset = ImageFiles(str(tmp_path), CROPS, with_labels=True, classes=['dog', 'cat'])
    assert names(subset) == ['cat/1.png', 'dog/1.png', 'dog/more/2.png']
    assert subset.labels.tolist() == [1, 0, 0]
    assert 'label' not in ImageFiles(str(tmp_path), CROPS)[0]


def test_class_folders_that_are_missing(tmp_path):
    make_files(tmp_path, 'dog/1.png')
    with pytest.raises(ValueError, match=r"\['cat'\].*classes"):
        ImageFiles(str(tmp_path), CROPS, with_labels=True, classes=['dog', 'cat'])
    make_files(tmp_path, 'stray.png')
    with pytest.raises(ValueError, match=r"'stray.png'.*class folder"):
        ImageFiles(str(tmp_path), CROPS, with_labels=True)


@pytest.mark.parametrize(
    ('lines', 'labels'),
    [
        ('b c/photo 1.png 3\na.png\t0\n\n', [3, 0]),
        ('b c/photo 1.png\t12\r\na.png   7\r\n', [12, 7]),
        ('\ufeffb c/photo 1.png\na.png\n', None),
        ('"b c/photo 1.png","3"\n"a.png","0"\n', [3, 0]),
        ("b c/photo 1.png\t'3'\na.png\t'0'\n", [3, 0]),
        ('b c/photo 1.png,3,\na.png,0,\n', [3, 0]),
    ],
)
def test_list_file(tmp_path, lines, labels):
    make_files(tmp_path / 'images', 'a.png', 'b c/photo 1.png', 'not listed.png')
    (tmp_path / 'list.txt').write_bytes(lines.encode())
    arguments = dict(data_root=str(tmp_path), data_prefix='images', list_file='list.txt', crops=CROPS)
    dataset = ImageFiles(**arguments)
    assert names(dataset) == ['b c/photo 1.png', 'a.png']
    assert dataset.labels is None
    if labels:
        assert ImageFiles(**arguments, with_labels=True).labels.tolist() == labels
    else:
        with pytest.raises(ValueError, match=r"'a.png'.*label"):  # in no class folder
            ImageFiles(**arguments, with_labels=True)


def test_list_file_without_labels_takes_class_folders(tmp_path):
    make_files(tmp_path, 'cat/1.png', 'dog/1.png', 'dog/2.png')
    (tmp_path / 'ten_percent.txt').write_text('dog/2.png\ncat/1.png\n')
    dataset = ImageFiles(str(tmp_path), CROPS, list_file='ten_percent.txt', with_labels=True)
    assert dataset.labels.tolist() == [1, 0]


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-16-le', 'utf-16-be'])
def test_list_file_in_utf_16(tmp_path, encoding):
    make_files(tmp_path, 'b.png', 'é.png')
    (tmp_path / 'list.txt').write_bytes(('' if encoding == 'utf-16' else '\ufeff').encode(encoding))
    with (tmp_path / 'list.txt').open('ab') as file:
        file.write('é.png 1\r\nb.png 0\r\n'.encode('utf-16-le' if encoding == 'utf-16' else encoding))
    dataset = ImageFiles(str(tmp_path), CROPS, list_file='list.txt', with_labels=True)
    assert (names(dataset), dataset.labels.tolist()) == (['é.png', 'b.png'], [1, 0])


@pytest.mark.parametrize(
    ('lines', 'classes', 'message'),
    [
        ('0,a.png,0\n1,b.png,1\n', None, 'index=False'),
        ('0 a.png 0\n1 b.png 1\n', None, 'index=False'),
        ('0,"a.png",cat\n', None, 'index=False'),
        (
            'a.png a cat\nb.png a dog\n',
            ['acat', 'adog'],
            r"'a cat' is not in classes=\['acat', 'adog'\]: correct one of the two",
        ),
        ('[{"path": "a.png", "label": 0}]\n', None, 'JSON'),
        ('{"path": "a.png", "label": 0}\n', None, 'JSON'),
        ('https://example.com/a.png 0\n', None, 'download the images'),
        ('s3://bucket/a.png\n', None, 'download the images'),
        ('a.png 0\nb.png 1\n./a.png 1\n', None, r"'a.png' twice, with the labels 0 and 1"),
    ],
)
def test_list_files_of_other_forms(tmp_path, lines, classes, message):
    make_files(tmp_path, 'a.png', 'b.png')
    (tmp_path / 'list.txt').write_text(lines)
    with pytest.raises(ValueError, match=message):
        ImageFiles(str(tmp_path), CROPS, list_file='list.txt', with_labels=True, classes=classes)


def test_a_list_may_repeat_itself_and_quote_names(tmp_path):
    make_files(tmp_path, 'a.png', 'b.png')
    (tmp_path / 'list.txt').write_text('"a.png","a cat"\n"b.png","a dog"\n"a.png","a cat"\n')
    dataset = ImageFiles(str(tmp_path), CROPS, list_file='list.txt', with_labels=True, classes=['a dog', 'a cat'])
    assert dataset.labels.tolist() == [1, 0, 1]


def test_list_files_that_cannot_be_used(tmp_path):
    make_files(tmp_path, 'a.png', 'b.png')
    for content, message in (('', 'no images'), (' \n', 'no images'), ('a.png 1\nb.png\n', r"'b.png'.*label")):
        (tmp_path / 'list.txt').write_text(content)
        with pytest.raises(ValueError, match=message):
            ImageFiles(str(tmp_path), CROPS, list_file='list.txt', with_labels=True)
    with pytest.raises(FileNotFoundError, match=r'missing\.txt'):
        ImageFiles(str(tmp_path), CROPS, list_file='missing.txt')
    (tmp_path / 'list.txt').write_text('gone.png\nalso gone.png\n')
    with pytest.raises(ValueError, match=r'no readable image.*gone\.png'):
        ImageFiles(str(tmp_path), CROPS, list_file='list.txt')


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file').write_text('text')
    (tmp_path / 'text.jpg').write_text('text')
    for name, error, message in (
        ('nowhere', FileNotFoundError, 'does not exist'),
        ('file', NotADirectoryError, 'is a file'),
        ('empty', ValueError, 'no images'),
        ('', ValueError, r"no readable image.*text\.jpg': not an image"),
    ):
        with pytest.raises(error, match=message) as info:
            ImageFiles(str(tmp_path), CROPS, data_prefix=name)
        assert str(tmp_path / name) in str(info.value)
        assert '--data-root' in str(info.value)


@pytest.mark.parametrize('seed', [-1, 0.5, '1'])
def test_seed_must_be_a_count(tmp_path, seed):
    with pytest.raises(ValueError, match=f'seed.*{seed}'):
        ImageFiles(str(tmp_path), CROPS, seed=seed)


@pytest.fixture
def damaged(tmp_path) -> Path:
    make_files(tmp_path, *(f'{number:02}.png' for number in range(12)))
    (tmp_path / '03.png').write_bytes(b'')
    (tmp_path / '05.png').write_text('not an image')
    (tmp_path / '07.png').write_bytes((tmp_path / '08.png').read_bytes()[:50])
    return tmp_path


def test_unreadable_files_are_replaced_always_by_the_same(damaged):
    first, second = (ImageFiles(str(damaged), CROPS, seed=3) for _ in range(2))
    for index in range(12):
        shown = level_shown(first[index])
        assert first[index]['index'] == index
        assert shown not in (3, 5, 7)
        assert shown == index or index in (3, 5, 7)
        assert [level_shown(second[epoch, index]) for epoch in (1, 0)] == [shown] * 2
    assert first.num_unreadable == 3


def test_a_replacement_brings_its_label(tmp_path):
    make_files(tmp_path, 'a/0.png', 'b/1.png', 'c/2.png')
    (tmp_path / 'b/1.png').write_bytes(b'')
    dataset = ImageFiles(str(tmp_path), CROPS, with_labels=True)
    assert dataset[1]['label'] == level_shown(dataset[1]) != 1


def test_vanished_files_are_replaced(tmp_path):
    make_files(tmp_path, 'a.png', 'b.png')
    dataset = ImageFiles(str(tmp_path), CROPS)
    (tmp_path / 'b.png').unlink()
    assert level_shown(dataset[1]) == 0


@pytest.mark.parametrize('num_workers', [0, 2])
def test_unreadable_files_are_logged_once_and_counted(damaged, num_workers, capfd):
    dataset = ImageFiles(str(damaged), CROPS)
    for _ in range(2):  # new workers in every epoch
        list(DataLoader(dataset, batch_size=4, num_workers=num_workers, collate_fn=collate_views))
    assert dataset.num_unreadable == 3
    logged = ''.join(capfd.readouterr())
    for name in ('03.png', '05.png', '07.png'):
        assert logged.count(name) == 1
    assert logged.count('unreadable image') == 3


def test_giving_up_when_nothing_is_readable_any_more(tmp_path):
    make_files(tmp_path, 'a.png', 'b.png')
    dataset = ImageFiles(str(tmp_path), CROPS, max_replacements=5)
    for name in ('a.png', 'b.png'):
        (tmp_path / name).write_bytes(b'')
    with pytest.raises(ValueError, match=r'no readable image among 6 tried .*a\.png'):
        dataset[0]


def test_a_bad_start_does_not_condemn_a_folder(tmp_path):
    make_files(tmp_path, *(f'{number:03}.png' for number in range(100)))
    for number in range(60):
        (tmp_path / f'{number:03}.png').write_bytes(b'')
    logging.disable(logging.WARNING)
    dataset = ImageFiles(str(tmp_path), CROPS)
    logging.disable(logging.NOTSET)
    assert level_shown(dataset[99]) == 99


def test_list_file_with_commas(tmp_path):
    """Places205's lists are called csv; both separators are read."""
    make_files(tmp_path, 'a/1.png', 'b/2, x.png')
    (tmp_path / 'list.csv').write_text('a/1.png,4\nb/2, x.png , 7\n')
    dataset = ImageFiles(str(tmp_path), CROPS, list_file='list.csv', with_labels=True)
    assert names(dataset) == ['a/1.png', 'b/2, x.png']
    assert dataset.labels.tolist() == [4, 7]


def test_published_list_of_imagenet_names(tmp_path):
    """The class comes from the WordNet id; a class that the list leaves out keeps its number."""
    make_files(tmp_path / 'train', *(f'n0000000{c}/n0000000{c}_{i}.JPEG' for c in (1, 2, 3) for i in (0, 1)))
    (tmp_path / '1percent.txt').write_text('n00000003_1.JPEG\nn00000001_0.JPEG\n')
    dataset = ImageFiles(str(tmp_path), CROPS, 'train', list_file='1percent.txt', with_labels=True)
    assert names(dataset) == ['n00000003/n00000003_1.JPEG', 'n00000001/n00000001_0.JPEG']
    assert dataset.labels.tolist() == [2, 0]
    assert len(dataset.classes) == 3
    assert [level_shown(dataset[i]) for i in (0, 1)] == [5, 0]
    make_files(tmp_path / 'flat', 'n00000003_1.JPEG')
    (tmp_path / 'flat.txt').write_text('n00000003_1.JPEG\n')
    assert names(ImageFiles(str(tmp_path), CROPS, 'flat', list_file='flat.txt')) == ['n00000003_1.JPEG']
    (tmp_path / '1percent.txt').write_text('n00000009_1.JPEG\nn00000001_0.JPEG\n')
    with pytest.raises(ValueError, match=r"list file names \['n00000009'\].*not folders"):
        ImageFiles(str(tmp_path), CROPS, 'train', list_file='1percent.txt', with_labels=True)


def test_the_order_is_that_of_sorted(tmp_path):
    """Walked folder by folder, yet as all relative paths sorted: 'a b/x' < 'a.png' < 'a/x' < 'a0/x'."""
    generator = random.Random(0)
    letters = [
        ' ',
        '!',
        '-',
        '.',
        '0',
        'A',
        'a',
        'b',
        'é',
        '\U0001f600',
        '\n',
        b'\xff'.decode(errors='surrogateescape'),
    ]
    expected = set()
    for _ in range(300):
        parts = [''.join(generator.choices(letters, k=generator.randint(1, 3))) for _ in range(generator.randint(1, 4))]
        parts[-1] += '.png'
        path = tmp_path.joinpath(*parts)
        if any(part.startswith('.') for part in parts) or path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        expected.add('/'.join(parts))
    assert len(expected) > 100
    assert list(scan(str(tmp_path))) == sorted(expected)


def test_names_that_no_text_can_hold(tmp_path, capfd):
    """Line breaks and bytes that are not UTF-8: read, and named in the log without breaking it."""
    strange = ['a\nb.png', b'c\xffd.png'.decode(errors='surrogateescape'), ' e .png', 'f\r.png']
    make_files(tmp_path, *strange, 'good.png')
    dataset = ImageFiles(str(tmp_path), CROPS)
    assert names(dataset) == sorted([*strange, 'good.png'])
    assert [level_shown(dataset[index]) for index in range(5)] == list(range(5))
    for name in strange:
        (tmp_path / name).write_bytes(b'')
    assert [level_shown(dataset[index]) for index in range(5)] == [4] * 5
    lines = ''.join(capfd.readouterr()).splitlines()
    assert sum('the file is empty' in line for line in lines) == 4 == len(lines)
    assert any(r'c\udcffd.png' in line for line in lines)


def test_links_that_lead_back_by_way_of_each_other(tmp_path):
    make_files(tmp_path, 'a/1.png', 'b/2.png')
    (tmp_path / 'a/to_b').symlink_to(tmp_path / 'b')
    (tmp_path / 'b/to_a').symlink_to(tmp_path / 'a')
    (tmp_path / 'b/self').symlink_to(tmp_path / 'b/self')
    (tmp_path / 'b/self.png').symlink_to(tmp_path / 'b/self.png')
    assert list(scan(str(tmp_path))) == [
        'a/1.png',
        'a/to_b/2.png',
        'a/to_b/self.png',
        'b/2.png',
        'b/self.png',
        'b/to_a/1.png',
    ]
    assert level_shown(ImageFiles(str(tmp_path), CROPS)[4]) in (0, 1)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch, capfd):
    """As without permission, which root always has."""
    make_files(tmp_path, 'open/1.png', 'closed/2.png')
    scandir = os.scandir

    def refuse(path: str):
        if str(path).endswith('closed'):
            raise PermissionError(errno.EACCES, 'Permission denied', path)
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    assert names(ImageFiles(str(tmp_path), CROPS)) == ['open/1.png']
    assert "closed' is left out: Permission denied" in ''.join(capfd.readouterr())
    with pytest.raises(PermissionError, match='closed.*--data-root'):
        ImageFiles(str(tmp_path), CROPS, 'closed')


@pytest.fixture
def one_bad(tmp_path) -> Path:
    """Two images in a list; the second is to become something that cannot be read."""
    make_files(tmp_path, 'a.png', 'b.png')
    (tmp_path / 'list.txt').write_text('a.png\nb.png\n')
    (tmp_path / 'b.png').unlink()
    return tmp_path


def make_pipe(path: Path) -> None:
    os.mkfifo(path)  # opening it would wait for ever


def make_huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**31)


def make_bomb(path: Path) -> None:
    """200 million pixels in 25 kB."""
    Image.new('1', (20_000, 10_000)).save(path, compress_level=9)


@pytest.mark.parametrize(
    ('make', 'reason'),
    [
        (make_pipe, 'not a regular file'),
        (make_huge, '2147483648 bytes'),
        (make_bomb, 'decompression bomb'),
        (Path.mkdir, 'directory'),
        (lambda path: path.symlink_to('/dev/zero'), 'not a regular file'),
        (lambda path: path.symlink_to('/proc/self/mem'), 'the file is empty'),
        (lambda path: path.symlink_to(path), 'symbolic links'),
        (lambda path: path.symlink_to('nowhere'), 'No such file'),
    ],
    ids=['pipe', 'huge', 'bomb', 'folder', 'endless device', 'file of the kernel', 'link to itself', 'broken link'],
)
def test_what_is_no_image_file_is_replaced(one_bad, make, reason, capfd):
    make(one_bad / 'b.png')
    dataset = ImageFiles(str(one_bad), CROPS, list_file='list.txt')
    assert level_shown(dataset[1]) == 0
    assert reason in ''.join(capfd.readouterr())


@pytest.mark.parametrize('number', [errno.EIO, errno.ESTALE, errno.EACCES])
def test_errors_of_the_disk_are_replaced(tmp_path, number, monkeypatch, capfd):
    """EIO of a failing disk, ESTALE of a network mount, EACCES: also inside a worker."""
    make_files(tmp_path, 'a.png', 'b.png')
    dataset = ImageFiles(str(tmp_path), CROPS)
    open_file = os.open

    def fail(path: str, *arguments, **keywords):
        if str(path).endswith('b.png'):
            raise OSError(number, os.strerror(number), path)
        return open_file(path, *arguments, **keywords)

    monkeypatch.setattr(os, 'open', fail)
    (batch,) = DataLoader(dataset, batch_size=2, num_workers=1, collate_fn=collate_views)
    assert batch['inputs'][0].unique().tolist() == [0]
    assert dataset.unreadable() == [1]
    assert os.strerror(number) in ''.join(capfd.readouterr())


def test_only_the_first_unreadable_ones_are_named(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(replacement, 'MAX_NAMED', 5)
    make_files(tmp_path, 'good.png')
    for number in range(20):
        (tmp_path / f'{number}.png').touch()
    dataset = ImageFiles(str(tmp_path), CROPS)
    for index in range(21):
        dataset[index]
    logged = ''.join(capfd.readouterr())
    assert logged.count('unreadable image') == 5
    assert logged.count('counted, not named') == 1
    assert (dataset.num_unreadable, dataset.num_tried) == (20, 21)


def test_a_large_data_set_is_not_read_before_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(replacement, 'MAX_NAMED', 0)
    (tmp_path / 'list.txt').write_text(''.join(f'{number}.png\n' for number in range(50_000)))
    with pytest.raises(ValueError, match=r'no readable image.*: 1\d\d\d of 50000 files tried'):
        ImageFiles(str(tmp_path), CROPS, list_file='list.txt')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'a.png\0\n', 'not a list of paths'),
        (b'a' * 2**17, 'not a list of paths'),
        ('a.png\n'.encode('utf-16-le'), 'not a list of paths'),  # without its mark
        (b'a.png ' + b'9' * 30, '30 digits'),
        (b'\xef\xbb\xbf', 'no images'),
    ],
)
def test_files_that_are_no_list(tmp_path, content, message):
    (tmp_path / 'list.txt').write_bytes(content)
    with pytest.raises(ValueError, match=message):
        parse_list(str(tmp_path / 'list.txt'))


def test_list_files_hold_bytes(tmp_path):
    """Latin-1 and other names are read as they are; white space around a line is not part of it."""
    (tmp_path / 'list.txt').write_bytes(b'\xef\xbb\xbf\xe4\xff.png 1\r\n\n  b.png 22 \n')
    paths, labels = parse_list(str(tmp_path / 'list.txt'))
    assert list(paths) == [b'\xe4\xff.png', b'b.png']
    assert labels.tolist() == [1, 22]


@pytest.mark.parametrize(
    ('lines', 'labels'),
    [
        ('./a/1.png 1\n./b/2.png 0\n', [1, 0]),
        ('{root}/a/1.png\n{root}/b/2.png\n', None),
        ('{root}/./a/1.png 5\n./b/2.png 6\n', [5, 6]),
        ('"a/1.png" 1\n"b/2.png" 0\n', [1, 0]),
        ("'a/1.png', 1\n'b/2.png', 0\n", [1, 0]),
        ('a\\1.png 1\nb\\2.png 0\n', [1, 0]),
        ('a/1.png 1\nb\\2.png 0\n', [1, 0]),  # only some of the lines
        ('a/1.png;1\nb/2.png; 0\n', [1, 0]),
        ('a/1.png 1.0\nb/2.png,0.0\n', [1, 0]),
    ],
)
def test_forms_of_lists(tmp_path, lines, labels):
    """Spreadsheets, Windows and pandas write these; class folders tell the k-NN curve in all of them."""
    make_files(tmp_path, 'a/1.png', 'b/2.png', 'c/3.png')
    (tmp_path / 'list.txt').write_text(lines.format(root=tmp_path))
    dataset = ImageFiles(str(tmp_path), CROPS, list_file='list.txt')
    assert names(dataset) == ['a/1.png', 'b/2.png']
    assert dataset.monitoring_labels().tolist() == [0, 1]
    labelled = ImageFiles(str(tmp_path), CROPS, list_file='list.txt', with_labels=True)
    assert labelled.labels.tolist() == (labels or [0, 1])


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('a/1.png cat', "the label 'cat' is not a whole number from 0 on. Number the classes"),
        ('a/1.png,-1', "the label '-1' is not a whole number"),
        ('a/1.png 0.5', "the label '0.5' is not a whole number"),
        ('path,label\na/1.png,cat', "'path,label' .*there is no such file.* and remove a header"),
        ('file class\na/1.png cat', 'there is no such file.* and remove a header'),
        ('name;x\na/1.png', 'there is no such file.* and remove a header'),
        ('3 a/1.png', 'the label comes before the path'),
        ('3,a/1.png', 'the label comes before the path'),
        ('3 a\\1.png', 'the label comes before the path'),
        ('a/1.png 1 2', 'has several labels, and an image has one here: leave one on each line'),
        ('a/1.png,1,0,0', 'has several labels'),
        ('a/1.png 0\na/1.png -1', "the label '-1' is not a whole number"),
        ('path,label\na/1.png,1', "'path,label' in .* has no label, .* and remove a header"),
    ],
)
def test_forms_of_lists_that_are_refused_with_the_cure(tmp_path, line, message):
    make_files(tmp_path, 'a/1.png')
    (tmp_path / 'list.txt').write_text(f'{line}\n')
    with pytest.raises(ValueError, match=message):
        ImageFiles(str(tmp_path), CROPS, list_file='list.txt', with_labels=True)


def test_names_with_spaces_and_numbers_are_names(tmp_path):
    make_files(tmp_path, '3 a.png', 'b.png copy', "'c'.png")
    (tmp_path / 'list.txt').write_text("3 a.png\n'c'.png\n")
    assert names(ImageFiles(str(tmp_path), CROPS, list_file='list.txt')) == ['3 a.png', "'c'.png"]


def test_labels_for_monitoring(tmp_path):
    """Class folders tell them whether or not items have labels; nothing else does."""
    make_files(tmp_path, 'a/1.png', 'b/x/2.png', 'b/3.png', 'c/4.png')
    plain, labelled = (ImageFiles(str(tmp_path), CROPS, with_labels=labels) for labels in (False, True))
    assert plain.monitoring_labels().tolist() == labelled.monitoring_labels().tolist() == [0, 1, 1, 2]
    assert 'label' not in plain[0]
    make_files(tmp_path / 'one', 'all/1.png', 'all/2.png')
    assert ImageFiles(str(tmp_path / 'one'), CROPS).monitoring_labels() is None
    make_files(tmp_path / 'mixed', 'a/1.png', 'b/2.png', '3.png')
    assert ImageFiles(str(tmp_path / 'mixed'), CROPS).monitoring_labels() is None


def test_labels_of_a_list_may_be_names_of_classes(tmp_path):
    make_files(tmp_path, 'a/1.png', 'b/2.png', 'c/3.png')
    (tmp_path / 'list.txt').write_text('a/1.png great cat\nb/2.png,dog\nc/3.png 0\n')
    settings = dict(list_file='list.txt', with_labels=True)
    images = ImageFiles(str(tmp_path), CROPS, classes=['dog', 'great cat'], **settings)
    assert images.labels.tolist() == [1, 0, 0]
    assert images.metainfo['classes'] == ('dog', 'great cat')
    with pytest.raises(ValueError, match=r"the label 'great cat' is not a .* set classes=\[...\] of the dataset"):
        ImageFiles(str(tmp_path), CROPS, **settings)


def test_a_name_with_a_backslash_stays_one(tmp_path):
    make_files(tmp_path, 'a/1.png', 'b\\2.png')
    (tmp_path / 'list.txt').write_text('a\\1.png\nb\\2.png\n')
    assert names(ImageFiles(str(tmp_path), CROPS, list_file='list.txt')) == ['a/1.png', 'b\\2.png']
