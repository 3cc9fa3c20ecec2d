"""What indexes images leaves unreadable ones out: its result is that of the images without them, and it names them."""

import os
import shutil
from types import SimpleNamespace

import lmdb
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mocox import dist
from mocox.datasets import ImageFiles, LMDBImages, VOC07Images, WebDatasetImages, collate_views
from mocox.evaluation.features import dataset_hash
from mocox.evaluation.inference import FeatureExtractor
from mocox.evaluation.pipeline import evaluate
from mocox.evaluation.search import search_images
from mocox.monitors import MonitorHook
from mocox.monitors.offline_knn import offline_knn
from mocox.monitors.signals import FeatureBank
from mocox.registry import MODELS
from mocox.report.pictures import from_model
from mocox.visualize.sheets import embedding_map, pick_images
from tests.support.processes import run_processes
from tests.support.shards import write_shard
from tests.support.tiny_run import run_tool, write_run
from tests.support.voc_files import write_voc
from tests.test_checkpoint.conftest import VIT, official_file
from tests.test_evaluation.images import write_images

CROPS = dict(type='CenterCrop', size=32, resize=32)
OPTIONS = {'linear.epochs': 2, 'linear.batch_size': 4, 'linear.held_out': 0.25, 'knn.ks': [1, 3], 'fewshot.shots': [1]}
BROKEN = ('train/bright/3.png', 'train/dark/0.png', 'val/dark/1.png')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Three kinds of broken files, the same images without them, and a checkpoint."""
    folder = tmp_path_factory.mktemp('unreadable')
    torch.manual_seed(0)
    write_images(folder / 'broken', side=32, train=(8, 8), val=(5, 4))
    for name, content in zip(BROKEN, (b'', b'no image', (folder / 'broken' / BROKEN[2]).read_bytes()[:60])):
        (folder / 'broken' / name).write_bytes(content)
    shutil.copytree(folder / 'broken', folder / 'clean')
    for name in BROKEN:
        (folder / 'clean' / name).unlink()
    official_file(folder / 'vit.pth.tar', VIT)
    return folder


def judge(folder, data, cache, **settings):
    """Everything that a repetition would compare."""
    settings = dict(heads=4, cache_dir=cache, work_dir=cache / 'out', device='cpu', options=OPTIONS, **settings)
    report = evaluate(folder / 'vit.pth.tar', str(folder / data), **settings)
    rows = [{key: row[key] for key in ('protocol', 'setting', 'value', 'n', 'std')} for row in report['results']]
    held_out = [row['settings'].get('held_out_top1') for row in report['results']]
    return rows, held_out, report['chance'], report['data'].replace(data, ''), report['notes']


def test_an_evaluation_is_that_of_the_other_images(folder, tmp_path, capfd):
    *expected, _ = judge(folder, 'clean', tmp_path / 'clean')
    for source in ('extracted', 'cached'):
        *found, notes = judge(folder, 'broken', tmp_path / 'broken')
        assert found == expected, source
        train, test = (note for note in notes if 'left out' in note)
        assert train.startswith('14 of 16 training images; left out, because they cannot be read: ')
        assert test.startswith('8 of 9 test images; ')
        assert all(name in note for name, note in zip(BROKEN, (train, train, test)))
    assert f'{notes[-2]}\n' in capfd.readouterr().out


@pytest.mark.dist
def test_two_processes_leave_the_same_ones_out(folder, tmp_path):
    *expected, notes = judge(folder, 'broken', tmp_path / 'one', protocols=['knn', 'logreg'])
    both = run_processes(judge_in_process, 2, folder, tmp_path / 'two')
    assert both[0] == (*expected, notes)
    assert both[1][-1] == notes


def judge_in_process(folder, cache):
    return judge(folder, 'broken', cache, protocols=['knn', 'logreg'])


def test_a_file_that_was_mended_is_no_longer_left_out(folder, tmp_path):
    """Also where neither its size nor its time tell, as after a failure of the storage or for want of a library."""
    shutil.copytree(folder / 'broken' / 'train', tmp_path / 'data')
    path, query = tmp_path / 'data' / 'bright' / '3.png', str(tmp_path / 'data' / 'bright' / '5.png')
    whole = (folder / 'clean' / 'train' / 'bright' / '4.png').read_bytes()
    settings = dict(folder=str(tmp_path / 'data'), checkpoint=folder / 'vit.pth.tar', heads=4, device='cpu')
    path.write_bytes(bytes(len(whole)))
    status = path.stat()
    (found,) = search_images([query], num_results=13, cache_dir=tmp_path / 'cache', **settings)
    assert str(path) not in dict(found)
    path.write_bytes(whole)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (found,) = search_images([query], num_results=14, cache_dir=tmp_path / 'cache', **settings)
    assert dict(found)[str(path)] == dict(found)[str(path.with_name('4.png'))]  # the same pixels


def test_a_search_finds_no_unreadable_file(folder, tmp_path, capfd):
    settings = dict(checkpoint=folder / 'vit.pth.tar', heads=4, num_results=13, device='cpu')
    query = str(folder / 'clean' / 'val' / 'bright' / '4.png')
    (found,) = search_images([query], folder=str(folder / 'broken' / 'train'), cache_dir=tmp_path / 'a', **settings)
    (expected,) = search_images([query], folder=str(folder / 'clean' / 'train'), cache_dir=tmp_path / 'b', **settings)
    shown = [[(path.split('/train/')[1], value) for path, value in pairs] for pairs in (found, expected)]
    assert shown[0] == shown[1]
    assert '14 of 16 images in the folder; left out' in capfd.readouterr().out
    with pytest.raises(ValueError, match='has 14 images: at most 13 results'):
        search_images([query], folder=str(folder / 'broken' / 'train'), cache_dir=tmp_path / 'a',
                      **(settings | dict(num_results=14)))  # fmt: skip


def test_a_query_that_cannot_be_read_is_told_before_the_folder_is_searched(folder, tmp_path):
    """Not after minutes of features; nor is a number of results that the folder cannot give."""
    settings = dict(folder=str(folder / 'clean' / 'train'), checkpoint=folder / 'vit.pth.tar', heads=4, device='cpu')
    for query, num_results in ((tmp_path / 'none.png', 2), (folder / 'vit.pth.tar', 2), (folder / 'none.png', 99)):
        with pytest.raises((FileNotFoundError, ValueError), match=f'{query.name}|at most 13'):
            search_images([str(query)], num_results=num_results, cache_dir=tmp_path / 'cache', **settings)
    assert not (tmp_path / 'cache').exists()


def test_pictures_of_a_folder_leave_them_out(folder, tmp_path, capfd):
    data, clean = str(folder / 'broken' / 'train'), str(folder / 'clean' / 'train')
    names = [[path.split('/train/')[1] for path in pick_images([place], 16)] for place in (data, clean)]
    assert names[0] == names[1]
    assert '14 of 16 images of' in capfd.readouterr().out
    assert embedding_map(folder / 'vit.pth.tar', data, tmp_path / 'map.png', heads=4, device='cpu') == (14, 2)
    run_tool('visualize.py', 'neighbours', folder / 'vit.pth.tar', '--folder', data, '--heads', 4, '--num-results', 3,
             '--cache-dir', tmp_path, '--out', tmp_path / 'near.png')  # fmt: skip
    assert '5 images and their neighbours' in capfd.readouterr().out


def tiny_model(folder):
    torch.manual_seed(0)
    config = Config.fromfile(write_run(folder))
    model = MODELS.build(dict(config.model, data_preprocessor=config.data_preprocessor))
    return model, config


def test_a_report_leaves_them_out(folder, tmp_path):
    model, config = tiny_model(tmp_path)
    broken, clean = (ImageFiles(str(folder / name / 'train'), config.train_dataloader.dataset.crops)
                     for name in ('broken', 'clean'))  # fmt: skip
    found, expected = (from_model(model, images, config, methods=('pca',)) for images in (broken, clean))
    assert found.notes == [
        "14 of 16 images; left out, because they cannot be read: 'bright/3.png', 'dark/0.png'",
        *expected.notes,
    ]
    assert found.num_images == 14
    assert found.maps == expected.maps
    assert found.neighbours == expected.neighbours


def knn_of(model_folder, data):
    model, _ = tiny_model(model_folder)
    return offline_knn(model, str(data), 32, 3, 0.07, batch_size=4)


@pytest.mark.dist
def test_k_nn_on_held_out_images_leaves_them_out(folder, tmp_path, capfd):
    for name in 'abcd':
        (tmp_path / name).mkdir()
    alone = knn_of(tmp_path / 'a', folder / 'broken')
    assert 'offline k-NN: 14 of 16 images; left out' in ''.join(capfd.readouterr())
    assert alone == knn_of(tmp_path / 'b', folder / 'clean')
    assert run_processes(knn_of_process, 2, tmp_path, folder / 'broken') == [alone] * 2


def knn_of_process(folder, data):
    return knn_of(folder / 'cd'[dist.rank()], data)


def test_k_nn_while_training_knows_which_image_stood_in(folder):
    """The stand-in brings features, label and number of its own."""
    images = ImageFiles(str(folder / 'broken' / 'train'), CROPS)
    batch = collate_views([images[index] for index in range(16)])
    hook = MonitorHook()
    hook.contrastive, hook.loss_sum = True, None
    labels = images.monitoring_labels()
    runner = SimpleNamespace(train_dataloader=SimpleNamespace(dataset=images))
    hook._prepare_knn(runner)
    features = torch.stack([view.float().mean(dim=(1, 2)) for view in batch['inputs'][0]])
    hook.model = SimpleNamespace(observed=dict(features=features))
    hook._collect(batch, None)
    assert isinstance(hook.bank, FeatureBank)
    levels = {int(index): tuple(row) for index, row in zip(batch['index'], features.tolist())}
    for row in range(16):
        number = int(hook.bank.indices[row])
        assert number not in (3, 8) and (number == row) == (row not in (3, 8))
        assert levels[row] == levels[number]
        assert int(hook.bank.labels[row]) == labels[number]


def test_other_containers_are_hashed_by_their_content_and_leave_out(folder, tmp_path):
    paths = sorted((folder / 'broken' / 'train').rglob('*.png'))
    members = {f'{number:02}.png': path.read_bytes() for number, path in enumerate(paths)}

    def write(number, **changed):
        content = members | changed
        database = str(tmp_path / f'{number}.lmdb')
        with lmdb.open(database, map_size=2**24) as opened, opened.begin(write=True) as transaction:
            for name, data in content.items():
                transaction.put(name.encode(), data)
        write_shard(tmp_path / 'a.tar', content)
        shards = WebDatasetImages(str(tmp_path), CROPS, 'a.tar', index_folder=str(tmp_path / 'index'))
        found = LMDBImages(database, CROPS), shards
        return found, [dataset_hash(images) for images in found]

    (_, first), (second, changed) = write(1), write(2, **{'00.png': members['01.png']})
    assert first[0] != changed[0] and first[1] != changed[1]
    for images in second:
        images.keep(np.array([row for row in range(16) if images.can_read(row)]))
        assert len(images) == 14
        assert images.path(3).endswith('04.png') and images.shown(torch.arange(14)).tolist() == list(range(14))
        level = images[3]['inputs'][0].float().mean()
        assert level == ImageFiles(str(paths[4].parent), CROPS)[4]['inputs'][0].float().mean()


def test_voc_leaves_them_out(tmp_path):
    write_voc(tmp_path, {'trainval': ['000005', '000007', '000012']})
    (tmp_path / 'JPEGImages' / '000007.jpg').write_bytes(b'')
    images = VOC07Images(str(tmp_path), CROPS, with_labels=True)
    batch = collate_views([images[index] for index in range(3)])
    assert (images.shown(batch['index']) == batch['index']).tolist() == [True, False, True]
    assert 'JPEGImages/000007.jpg' in images.path(1)


def test_an_image_that_a_program_asks_for_by_name_is_an_error(folder):
    extractor = FeatureExtractor(folder / 'vit.pth.tar', heads=4, device='cpu')
    with pytest.raises(ValueError, match=r'train/bright/3\.png cannot be read'):
        extractor([folder / 'broken' / BROKEN[0]])
