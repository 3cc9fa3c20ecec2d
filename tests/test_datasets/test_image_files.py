"""Finding, labelling and reading image files, and what happens to those that cannot be read."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from mocox.datasets import ImageFiles, collate_views
from mocox.registry import DATASETS

CROPS = dict(type='RandomResizedCrops', size=8)


def write_image(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (12, 10), (level, level, level)).save(path, 'PNG')


def make_files(root: Path, *names: str) -> None:
    for number, name in enumerate(sorted(names)):
        write_image(root / name, number)


def level_shown(item: dict) -> int:
    """Which of :func:`make_files`'s images an item shows."""
    (level,) = np.unique(item['inputs'][0])
    return int(level)


def names(dataset: ImageFiles) -> list[str]:
    return [str(Path(dataset.path(index)).relative_to(dataset.folder)) for index in range(len(dataset))]


def test_flat_and_nested_folders_in_sorted_order(tmp_path):
    make_files(tmp_path, 'b.png', 'a/deep/er/x.JPG', 'a/y z.jpeg', 'c.TiFF', 'ä.webp')
    for extra in ('notes.txt', '.hidden.png', 'a/._x.jpg', '.thumbs/t.png', 'no_extension'):
        write_image(tmp_path / extra)
    dataset = ImageFiles(str(tmp_path), CROPS)
    assert names(dataset) == ['a/deep/er/x.JPG', 'a/y z.jpeg', 'b.png', 'c.TiFF', 'ä.webp']
    assert [level_shown(dataset[index]) for index in range(5)] == [0, 1, 2, 3, 4]


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
    with pytest.raises(ValueError, match=r"list file names \['n00000009'\].*no folders"):
        ImageFiles(str(tmp_path), CROPS, 'train', list_file='1percent.txt', with_labels=True)
