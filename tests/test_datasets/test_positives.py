"""Positives beyond two crops of one file: who belongs together, what an item then shows, and what is refused."""

import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mocox.datasets import EpochSampler, ImageFiles, LMDBImages, WebDatasetImages, collate_views, write_lmdb
from mocox.datasets.folders import scan
from mocox.datasets.positives import Groups

CROPS = dict(type='RandomResizedCrops', size=4)
# A patient each, with 1, 2, 3 and 4 images, and one image of nobody.
SIZES = dict(p1=1, p2=2, p3=3, p4=4)
NAMES = [f'{patient}/{patient}_{i}.png' for patient, size in SIZES.items() for i in range(size)] + ['q/x.png']
EVERY = dict(pattern=r'(p\d)_', prob=1.0)


def level(index: int) -> int:
    return 10 * index + 5


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Images of one level each, by which a crop tells where it comes from."""
    root = tmp_path_factory.mktemp('images')
    for index, name in enumerate(NAMES):
        (root / name).parent.mkdir(exist_ok=True)
        Image.new('RGB', (8, 8), (level(index),) * 3).save(root / name)
    assert list(scan(str(root))) == NAMES
    return root


def write_table(folder: Path, text: str) -> str:
    (folder / 'table.txt').write_text(text)
    return str(folder / 'table.txt')


def shown(item: dict) -> list[int]:
    """The image that each view was cut from."""
    return [(int(view.unique()) - 5) // 10 for view in item['inputs']]


def partition(groups: Groups) -> set[frozenset[str]]:
    found = {}
    for index, number in enumerate(groups.numbers):
        found.setdefault(int(number) if number >= 0 else f'alone {index}', set()).add(NAMES[index])
    return {frozenset(names) for names in found.values()}


BY_PATIENT = {frozenset(name for name in NAMES if name.startswith(patient)) for patient in (*SIZES, 'q')}


@pytest.mark.parametrize('source', ['folder', 'list', 'lmdb', 'tar'])
@pytest.mark.parametrize('kind', ['folder', 'pattern', 'column'])
def test_groups_from_every_source(folder, tmp_path, monkeypatch, source, kind):
    rows = [f'./{name}\t{index}\t{name[:2] if name[0] == "p" else ""}\n' for index, name in enumerate(NAMES)]
    table = write_table(tmp_path, 'file\tlabel\tpatient\n' + ''.join(reversed(rows)) + 'unknown.png\t0\tp1\n')
    positives = dict(
        folder=dict(folder=True), pattern=dict(pattern=r'(p\d)_'), column=dict(column='patient', list_file=table)
    )[kind] | dict(prob=0.5)
    if source == 'lmdb':
        pytest.importorskip('lmdb')
        write_lmdb(str(folder), str(tmp_path / 'x.lmdb'))
        dataset = LMDBImages(str(tmp_path / 'x.lmdb'), CROPS, positives=positives)
    elif source == 'tar':
        pytest.importorskip('fsspec')
        with tarfile.open(tmp_path / 'x.tar', 'w') as archive:
            for name in NAMES:
                archive.add(folder / name, name)
        options = dict(index_folder=str(tmp_path), positives=positives)
        dataset = WebDatasetImages(str(tmp_path), CROPS, 'x.tar', **options)
    else:
        (tmp_path / 'list.txt').write_text('\n'.join(NAMES))
        listed = dict(list_file=str(tmp_path / 'list.txt')) if source == 'list' else {}
        dataset = ImageFiles(str(folder), CROPS, positives=positives, **listed)
    assert partition(dataset._groups) == BY_PATIENT
    text = '3 groups of 2 to 4 images (median 3), 2 images alone; the second view is of another image of the group '
    assert any(text + 'with probability 0.5' in note for _, note in dataset.file_notes)
    dataset.keep(np.array([1, 3, 4]))
    assert sorted(dataset._groups.sizes) == [2]


def test_a_list_may_be_of_the_whole_root_and_in_any_form(folder, tmp_path):
    table = write_table(
        tmp_path, 'image; "the place"\n\n"p4/p4_0.png"; A\n' + f'{folder}/p4/p4_2.png; A\np4/p4_1.png;B'
    )
    positives = dict(column='the place', list_file=table, prob=1)
    assert sorted(ImageFiles(str(folder), CROPS, positives=positives)._groups.sizes) == [2]
    below = ImageFiles(str(folder), CROPS, 'p4', positives=positives)  # paths of the list begin at the root
    assert below._groups.numbers.tolist() == [0, 1, 0, -1]


def test_probability_0_and_the_first_view_are_as_without_groups(folder):
    """What holds anyway, told in words, changes nothing either: two views, three channels."""
    told = CROPS | dict(num_views=2)
    plain, never, always = (
        ImageFiles(str(folder), crops, seed=3, positives=positives, channels=3 if crops is told else None)
        for crops, positives in ((CROPS, None), (told, EVERY | dict(prob=0)), (CROPS, EVERY))
    )
    for epoch in range(3):
        for index in range(len(plain)):
            items = [dataset[epoch, index] for dataset in (plain, never, always)]
            for key in ('draws', 'index'):
                assert all(torch.equal(torch.as_tensor(item[key]), torch.as_tensor(items[0][key])) for item in items)
            assert all(map(torch.equal, items[0]['inputs'], items[1]['inputs']))
            assert torch.equal(items[0]['inputs'][0], items[2]['inputs'][0])


def test_pairs_follow_their_law(folder):
    """Of an image of 4: itself with 1 - 0.6, each other one with 0.6 / 3; within five standard deviations."""
    dataset = ImageFiles(str(folder), CROPS, positives=EVERY | dict(prob=0.6))
    first, epochs = NAMES.index('p4/p4_0.png'), 400
    pairs = [shown(dataset[epoch, first + 1]) for epoch in range(epochs)]
    assert {one for one, _ in pairs} == {first + 1}
    counts = Counter(other for _, other in pairs)
    assert sorted(counts) == [first, first + 1, first + 2, first + 3]
    for image, count in counts.items():
        chance = 0.4 if image == first + 1 else 0.2
        assert abs(count - epochs * chance) < 5 * (epochs * chance * (1 - chance)) ** 0.5


def test_pairs_lie_within_their_groups(folder):
    dataset = ImageFiles(str(folder), CROPS, positives=EVERY)
    for index, name in enumerate(NAMES):
        for epoch in range(5):
            one, other = shown(dataset[epoch, index])
            alone = name[:2] in ('p1', 'q/')
            assert one == index
            assert NAMES[other][:2] == name[:2] and (other != index) != alone


def test_more_views_show_the_same_other_image(folder):
    dataset = ImageFiles(str(folder), dict(CROPS, num_views=4), positives=EVERY)
    one, *others = shown(dataset[0, NAMES.index('p4/p4_0.png')])
    assert len(others) == 3 and len(set(others)) == 1 and others[0] != one


@pytest.mark.parametrize('num_workers', [1, 2])
def test_draws_do_not_depend_on_workers_or_processes(folder, num_workers, monkeypatch):
    dataset = ImageFiles(str(folder), CROPS, seed=7, positives=EVERY | dict(prob=0.5))

    def batches(num_workers: int, rank: int = 0, world: int = 1) -> list[dict]:
        monkeypatch.setattr('mocox.dist.rank', lambda: rank)
        monkeypatch.setattr('mocox.dist.world_size', lambda: world)
        sampler = EpochSampler(dataset, seed=7)
        sampler.set_epoch(2)
        return list(DataLoader(dataset, 2, sampler=sampler, num_workers=num_workers, collate_fn=collate_views))

    def items(batches: list[dict]) -> dict[int, list[torch.Tensor]]:
        return {
            int(index): [view[row] for view in batch['inputs']]
            for batch in batches
            for row, index in enumerate(batch['index'])
        }

    alone = items(batches(0))
    assert sum(not torch.equal(*views) for views in alone.values()) > 2
    shared = items(batches(num_workers, 0, 2)) | items(batches(num_workers, 1, 2))
    for found in (items(batches(num_workers)), shared):
        assert len(found) >= len(alone) - 1  # an odd number of images is cut off
        assert all(torch.equal(a, b) for index in found for a, b in zip(found[index], alone[index], strict=True))


def test_other_seeds_and_epochs_pair_otherwise(folder):
    pairs = {}
    for seed in (0, 1):
        dataset = ImageFiles(str(folder), CROPS, positives=EVERY)
        dataset.use_seed(seed)
        for epoch in (0, 1):
            pairs[seed, epoch] = tuple(shown(dataset[epoch, index])[1] for index in range(len(NAMES)))
    assert len(set(pairs.values())) == 4


def test_unreadable_positives_are_replaced_within_the_group(tmp_path):
    for index, name in enumerate(NAMES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new('RGB', (8, 8), (level(index),) * 3).save(tmp_path / name)
    broken = ('p2/p2_1.png', 'p4/p4_1.png', 'p4/p4_2.png')
    for name in broken:
        (tmp_path / name).write_bytes(b'damaged')
    dataset = ImageFiles(str(tmp_path), CROPS, positives=EVERY)
    place = NAMES.index
    for epoch in range(20):
        assert shown(dataset[epoch, place('p4/p4_0.png')])[1] == place('p4/p4_3.png')
        assert shown(dataset[epoch, place('p2/p2_0.png')]) == [place('p2/p2_0.png')] * 2  # nobody else is left
        one, other = shown(dataset[epoch, place('p4/p4_1.png')])  # itself replaced: its positive is that one's
        assert NAMES[one] not in broken
        assert NAMES[other][:2] == NAMES[one][:2] and NAMES[other] not in broken
    assert dataset.num_unreadable == 3


@pytest.mark.parametrize(
    ('positives', 'message'),
    [
        (dict(pattern='(x.)_', prob=1), r"pattern='\(x\.\)_' names no image .*is 'p1/p1_0.png'\): correct the pattern"),
        (dict(pattern='(.*)', prob=1), 'makes 11 groups of a single image .*leave positives out'),
        (dict(pattern=r'(png)', prob=1), 'one group of all 11 images'),
        (dict(pattern='p._', prob=1), r"has no group: put parentheses around .*'\(patient"),
        (dict(pattern='(p', prob=1), "'\\(p' is not a regular expression: missing \\)"),
        (dict(pattern='(p)', folder=True, prob=1), "need one of folder=True, .*folder=True, pattern='\\(p\\)'"),
        (dict(prob=1), 'need one of folder=True, pattern'),
        (dict(folder=True, prob=1.5), 'prob must lie between 0 and 1, got 1.5'),
        (dict(folder=True, prob=True), 'prob must lie between 0 and 1, got True'),
        (dict(column='patient', prob=1), 'column and list_file belong together'),
        (dict(column='age', list_file='{table}', prob=1), r"no column 'age' behind the paths.*\['file', 'patient'\]"),
        (dict(column='file', list_file='{table}', prob=1), "no column 'file' behind the paths"),
        (dict(column='patient', list_file='{table}', prob=1), "column='patient' names no image"),
        (dict(column='patient', list_file='none.csv', prob=1), "none.csv' does not exist: correct positives.list_file"),
    ],
)
def test_what_is_refused(folder, tmp_path, positives, message):
    table = write_table(tmp_path, 'file,patient\nelsewhere.png,1\n')
    positives = {key: table if value == '{table}' else value for key, value in positives.items()}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ImageFiles(str(folder), CROPS, positives=positives)


def test_one_view_has_no_positive(folder):
    with pytest.raises(ValueError, match='need crops of at least two views'):
        ImageFiles(str(folder), dict(CROPS, num_views=1), positives=EVERY)


def test_share_of_a_group():
    """Two of 5, three of 5: of the 20 ordered pairs 2 + 6 are of one group."""
    assert Groups(np.array([0, 1, 0, 1, 1])).share() == pytest.approx(8 / 20)
    assert Groups(np.array([-1, 0, 1])).share() == 0


def test_a_list_lies_below_the_data_or_where_the_program_was_started(folder, tmp_path, monkeypatch):
    text = 'file,patient\n' + ''.join(f'{name},{name[:2]}\n' for name in NAMES[:10])
    (tmp_path / 'here.csv').write_text(text)
    monkeypatch.chdir(tmp_path)
    positives = dict(column='patient', prob=1.0)
    dataset = ImageFiles(str(folder), CROPS, positives=dict(list_file='here.csv', **positives))
    assert sorted(dataset.groups.sizes.tolist()) == [2, 3, 4]
    with pytest.raises(FileNotFoundError, match=r"images.*/gone.csv' or 'gone.csv' does not exist"):
        ImageFiles(str(folder), CROPS, positives=dict(list_file='gone.csv', **positives))
