"""The whole evaluation on folders of tiny images: numbers, files, cache, and what it says about bad input."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mocox.datasets import ImageFiles
from mocox.datasets.voc07 import CLASSES
from mocox.evaluation import evaluate as package_evaluate
from mocox.evaluation.data import open_data
from mocox.evaluation.features import cache_key, cached_features, dataset_hash
from mocox.evaluation.pipeline import evaluate
from tests.support.processes import forget_runner, run_processes
from tests.support.tiny_run import ROOT, run_tool
from tests.support.voc_files import write_voc
from tests.test_checkpoint.conftest import VIT, official_file, pretraining_model
from tests.test_evaluation.images import write_images

CROPS = dict(type='CenterCrop', size=32, resize=32)
FAST = {'linear.epochs': 8, 'linear.batch_size': 8, 'fewshot.num_draws': 2, 'knn.ks': [1, 5]}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Images, a checkpoint, and one evaluation of it."""
    folder = tmp_path_factory.mktemp('evaluation')
    torch.manual_seed(0)
    write_images(folder / 'data', side=32, train=(12, 12), val=(7, 6))
    official_file(folder / 'vit.pth.tar', VIT)
    run(folder, work_dir=folder / 'first', options=FAST)
    return folder


def run(folder, data='data', **settings):
    defaults = dict(heads=4, work_dir=folder / 'again', cache_dir=folder / 'cache', device='cpu')
    return evaluate(folder / 'vit.pth.tar', str(folder / data), **(defaults | settings))


def value(report, protocol):
    return next(row['value'] for row in report['results'] if row['protocol'] == protocol)


def test_report_says_everything(folder):
    report = json.loads((folder / 'first' / 'results.json').read_text())
    assert [row['protocol'] for row in report['results']] == ['knn', 'knn', 'linear', 'logreg', *['fewshot'] * 3]
    for row in report['results']:
        assert row['value'] == 100  # brightness is easy, whatever the encoder
        assert row['n'] == 13
        assert row['metric'] == 'top-1'
        assert row['settings']
    assert report['seed'] == 0
    assert report['chance'] == pytest.approx(100 * 7 / 13, abs=0.01)
    assert report['versions']['torch'].split('+')[0] == torch.__version__.split('+')[0]
    assert report['checkpoint']['encoder'] == 'query'
    assert len(report['checkpoint']['sha256']) == 64
    with Image.open(folder / 'first' / 'results.png') as chart:
        assert chart.format == 'PNG'
        assert len(np.unique(np.asarray(chart.convert('RGB')).reshape(-1, 3), axis=0)) > 50
    assert package_evaluate.__name__ == 'evaluate'


def test_features_are_extracted_once(folder, capsys):
    changed = run(folder, protocols=['knn'], options={'knn.ks': 3})
    assert 'found in the cache' in capsys.readouterr().out
    assert [row['setting'] for row in changed['results']] == ['k=3']
    run(folder, protocols=['knn'], encoder='momentum')
    assert 'found in the cache' not in capsys.readouterr().out


def test_a_work_dir_is_its_newest_checkpoint(folder, tmp_path):
    """By another name the same weights: the features are those in the cache, and the report names the file."""
    content = torch.load(folder / 'vit.pth.tar')
    saved = dict(meta=dict(epoch=2, iter=20), message_hub={}, **content)
    torch.save({**saved, 'state_dict': {}, 'meta': dict(epoch=1, iter=10)}, tmp_path / 'epoch_1.pth')
    torch.save(saved, tmp_path / 'epoch_2.pth')
    settings = dict(heads=4, work_dir=tmp_path / 'out', cache_dir=tmp_path / 'cache', device='cpu', protocols=['knn'])
    report = evaluate(tmp_path, str(folder / 'data'), **settings)
    assert value(report, 'knn') == 100
    assert report['checkpoint']['path'].endswith('epoch_2.pth')


def test_by_default_no_results_are_written_over_those_of_others(folder, tmp_path, monkeypatch):
    """Of another run whose folder or whose checkpoint has the same name, and of the same weights on other images."""
    weights, where = torch.load(folder / 'vit.pth.tar'), []
    for run_folder, changed in (('x/a', 0.0), ('x/b', 0.0), ('y/b', 1.0)):
        (tmp_path / run_folder).mkdir(parents=True)
        weights['state_dict'] = {name: tensor + changed for name, tensor in weights['state_dict'].items()}
        torch.save(weights, tmp_path / run_folder / 'epoch_1.pth')
    (tmp_path / 'other').symlink_to(folder / 'data')
    monkeypatch.chdir(tmp_path)
    results = tmp_path / 'work_dirs' / 'evaluate'
    for path, data in (('x/a', 'data'), ('x/b', 'data'), ('y/b', 'data'), ('x/b', 'data'), ('x/b', 'other')):
        root = str(tmp_path / 'other' if data == 'other' else folder / 'data')
        settings = dict(heads=4, cache_dir=folder / 'cache', device='cpu', protocols=['knn'])
        report = evaluate(f'{path}/epoch_1.pth', root, **settings)
        where += [file for file in results.rglob('results.json') if json.loads(file.read_text()) == report]
    names = [str(file.parent.relative_to(results)) for file in where]
    assert names == ['a/epoch_1', 'b/epoch_1', 'b/epoch_1-2', 'b/epoch_1', 'b/epoch_1-3']


def test_other_heads_or_another_part_are_other_features(folder, capsys):
    """Neither changes what the model prints, so both must be in the name under which features are kept."""
    settings = dict(protocols=['knn'], options={'knn.ks': 3})
    for other in (dict(heads=2), dict(prefix='momentum_encoder')):
        run(folder, **(settings | other))
        assert 'found in the cache' not in capsys.readouterr().out
        run(folder, **(settings | other))
        assert 'found in the cache' in capsys.readouterr().out


def test_tools_test_gives_the_same_number_from_the_saved_classifier(folder):
    """With random pixels as a third class the accuracy is not a round number."""
    write_images(folder / 'noisy', side=32, train=(8, 8), val=(6, 6))
    generator = np.random.default_rng(1)
    for split in ('train', 'val'):
        for path in sorted((folder / 'noisy' / split).rglob('*.png'))[::2]:
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    report = run(folder, 'noisy', protocols=['linear'], options=FAST, work_dir=folder / 'noisy_run')
    backbone = {key: setting for key, setting in VIT.items() if key != 'type'}
    (folder / 'probe.py').write_text(
        f"_base_ = [f'{ROOT}/configs/_base_/{{name}}.py' for name in (\n"
        "    'models/linear_vit', 'datasets/imagenet_linear', 'schedules/sgd_linear_90e', 'default_runtime')]\n"
        f'model = dict(backbone={backbone!r}, head=dict(num_classes=2, in_channels=32, topk=(1,)))\n'
        'loader = dict(batch_size=5, num_workers=0, persistent_workers=False, dataset=dict(crops=dict(size=32)))\n'
        'train_dataloader = loader\n'
        f"val_dataloader = dict(loader, dataset=dict(data_root='{folder / 'noisy'}', crops=dict(size=32, resize=32)))\n"
        'test_dataloader = val_dataloader\n'
        'val_evaluator = dict(topk=(1,))\n'
        'test_evaluator = dict(topk=(1,))\n'
    )
    out = folder / 'tested.json'
    linear = folder / 'noisy_run' / 'linear.pth'
    run_tool('test.py', folder / 'probe.py', linear, '--work-dir', folder / 't', '--out', out)
    forget_runner()
    assert json.loads(out.read_text())['accuracy/top1'] == pytest.approx(value(report, 'linear'), abs=0.01)
    assert 0 < value(report, 'linear') < 100


def test_saved_backbone_is_that_of_the_checkpoint(folder):
    saved = torch.load(folder / 'first' / 'linear.pth', weights_only=True)
    original = torch.load(folder / 'vit.pth.tar', weights_only=True)['state_dict']
    names = {name for name in saved['state_dict'] if name.startswith('backbone.')}
    assert names == {f'backbone.{name}' for name in pretraining_model(VIT).backbone.state_dict()}
    for name in names:
        assert torch.equal(saved['state_dict'][name], original[f'module.base_encoder.{name[9:]}'])
    assert saved['mocox']['kind'] == 'linear'
    assert saved['mocox']['classes'] == sorted(path.name for path in (folder / 'data' / 'train').iterdir())


def test_single_folder_is_tested_by_leaving_one_out(folder):
    report = run(folder, 'data/train', options={'knn.ks': [1]})
    (row,) = report['results']
    assert (row['protocol'], row['n'], row['settings']['leave_one_out']) == ('knn', 24, True)
    with pytest.raises(ValueError, match='linear needs test images'):
        run(folder, 'data/train', protocols=['linear'])


@pytest.mark.parametrize(
    ('images', 'options', 'protocols', 'reasons'),
    [
        (dict(train=(1, 1), val=(2, 2)), {}, ['knn', 'fewshot'], ['linear was left out: every', 'logreg was']),
        (dict(train=(3, 3), val=(2, 2)), {'knn.ks': [50]}, ['linear', 'logreg', 'fewshot'], ['at most 6 neighbours']),
        (dict(train=(3, 3), val=(2, 2)), {'fewshot.num_ways': 3}, ['knn', 'linear', 'logreg'], ['between 2 and the 2']),
        (dict(train=(3, 3), val=(2, 0)), {'fewshot.shots': [9]}, ['knn', 'linear', 'logreg'], ['at most 3 images per']),
    ],
)  # fmt: skip
def test_a_protocol_that_cannot_run_does_not_cost_the_others(folder, tmp_path, images, options, protocols, reasons):
    write_images(tmp_path / 'data', side=32, **images)
    options = {'linear.epochs': 1, 'fewshot.num_draws': 2} | options
    settings = dict(work_dir=tmp_path, cache_dir=tmp_path / 'cache', options=options)
    run(folder, tmp_path / 'data', **settings)
    report = json.loads((tmp_path / 'results.json').read_text())
    assert list(dict.fromkeys(row['protocol'] for row in report['results'])) == protocols
    for reason in reasons:
        assert any(reason in note for note in report['notes'])
    left_out = {'knn', 'linear', 'logreg', 'fewshot'} - {*protocols}
    with pytest.raises(ValueError, match=reasons[0].partition(': ')[2] or reasons[0]):
        run(folder, tmp_path / 'data', protocols=[*left_out][:1], **settings)


def test_images_that_are_alone_in_their_class(folder, tmp_path):
    """Leave-one-out cannot classify them: 0 % would say nothing of the encoder."""
    write_images(tmp_path, side=32, a=(1, 1, 1), b=(3, 3, 1))
    with pytest.raises(ValueError, match='every class has one image, so leave-one-out always fails'):
        run(folder, tmp_path / 'a')
    report = run(folder, tmp_path / 'b', protocols=['knn', 'linear'], options={'knn.ks': [1]})
    assert 'k-NN: 1 of 7 images are the only ones of their class and count as wrong' in report['notes']
    assert (
        'linear was left out: it needs test images: a folder with train and val, or --protocols knn' in report['notes']
    )
    assert value(report, 'knn') == pytest.approx(100 * 6 / 7, abs=0.01)


@pytest.mark.dist
def test_two_processes_give_the_same_numbers(folder):
    shutil.rmtree(folder / 'cache2', ignore_errors=True)
    options = {'linear.epochs': 2, 'linear.batch_size': 6, 'knn.ks': [1]}
    settings = dict(protocols=['linear', 'knn'], options=options)
    one = run(folder, **settings)
    both = run_processes(run_in_process, 2, folder, settings)
    assert [row['protocol'] for row in both[1]['results']] == ['linear']  # the others wait for nobody
    for key in ('value', 'setting'):
        assert [row[key] for row in both[0]['results']] == [row[key] for row in one['results']]
    held_out = [report['results'][1]['settings']['held_out_top1'] for report in (one, both[0])]
    assert held_out[0] == held_out[1]


def run_in_process(folder, settings):
    return run(folder, cache_dir=folder / 'cache2', work_dir=folder / 'two', **settings)


def test_voc_layout(folder):
    names = [f'{number:06}' for number in range(60)]
    rng = np.random.default_rng(0)
    objects = {name: [(kind, 0) for kind in rng.choice(CLASSES, 8, replace=False)] for name in names}
    write_voc(folder / 'VOC2007', {'trainval': names[:40], 'test': names[40:]}, objects)
    options = {'svm.costs': [1.0], 'lowshot.costs': [1.0], 'lowshot.shots': [1, 96], 'lowshot.num_draws': 2}
    report = run(folder, 'VOC2007', options=options)
    assert [(row['protocol'], row['setting'], row['metric']) for row in report['results']] == [
        ('svm', 'all images', 'mAP'), ('lowshot', '1 per class', 'mAP')]  # fmt: skip
    assert len(report['results'][0]['settings']['average_precisions']) == 20
    assert any('96 left out' in note for note in report['notes'])
    assert report['chance'] is None


def test_cache_continues_where_it_was_interrupted(folder, tmp_path):
    dataset = ImageFiles(str(folder / 'data'), CROPS, data_prefix='train', with_labels=True)
    seen = []

    class Model(torch.nn.Linear):
        def data_preprocessor(self, batch, training):
            return dict(inputs=[image.float().mean(dim=(2, 3)) for image in batch['inputs']])

        def extract_feat(self, x):
            seen.append(len(x))
            return self(x)

    model = Model(3, 2)
    features, labels, _ = cached_features(model, dataset, tmp_path / 'c', batch_size=4, shard_images=10)
    assert labels.tolist() == [0] * 12 + [1] * 12
    assert seen == [4, 4, 2, 4, 4, 2, 4]
    sorted((tmp_path / 'c').iterdir())[1].unlink()
    seen.clear()
    again, _, _ = cached_features(model, dataset, tmp_path / 'c', batch_size=4, shard_images=10)
    assert torch.equal(features, again)
    assert seen == [4, 4, 2]


def test_cache_is_for_these_images_only(folder, tmp_path):
    shutil.copytree(folder / 'data', tmp_path / 'data')

    def current():
        return dataset_hash(ImageFiles(str(tmp_path / 'data'), CROPS, data_prefix='train', with_labels=True))

    first = current()
    assert current() == first
    Image.new('RGB', (32, 32)).save(tmp_path / 'data' / 'train' / 'dark' / '0.png')
    assert current() != first
    assert cache_key(a=1, b=[2]) == cache_key(b=[2], a=1) != cache_key(a=1, b=[3])


def test_classes_of_the_test_are_numbered_as_in_training(tmp_path):
    write_images(tmp_path, train=(2, 2, 2), val=(2, 2, 2))
    shutil.rmtree(tmp_path / 'val' / 'bright')
    data = open_data(str(tmp_path), CROPS)
    assert sorted(set(data.test.labels.tolist())) == [1, 2]
    assert data.test[0]['label'] == 1
    assert data.num_classes == 3


def break_nothing_to_test_on(folder):
    shutil.rmtree(folder / 'val')


def break_unknown_class(folder):
    (folder / 'val' / 'bright').rename(folder / 'val' / 'shiny')


def break_single_class(folder):
    shutil.rmtree(folder / 'train' / 'dark')
    shutil.rmtree(folder / 'val' / 'dark')


def break_labels_missing(folder):
    for path in (folder / 'train' / 'dark').iterdir():
        path.rename(folder / 'train' / path.name)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (break_nothing_to_test_on, 'has train but no val or test .*--test-split'),
        (break_unknown_class, r"different classes \(only for test: \['shiny'\]\)"),
        (break_single_class, 'all of one class'),
        (break_labels_missing, 'lies in no class folder'),
        (shutil.rmtree, 'there is no folder'),
    ],
)
def test_data_that_cannot_be_judged_on(folder, tmp_path, capfd, spoil, message):
    shutil.copytree(folder / 'data', tmp_path / 'data')
    spoil(tmp_path / 'data')
    with pytest.raises(SystemExit):
        run_tool('evaluate.py', folder / 'vit.pth.tar', '--heads', 4, '--data-root', tmp_path / 'data', '--cache-dir',
                 tmp_path, '--work-dir', tmp_path)  # fmt: skip
    assert re.search(f'^error: .*{message}', capfd.readouterr().err, re.DOTALL)


def test_a_diverged_checkpoint_is_named(folder, tmp_path):
    content = torch.load(folder / 'vit.pth.tar', weights_only=True)
    content['state_dict']['module.base_encoder.norm.weight'].fill_(torch.nan)
    torch.save(content, folder / 'nan.pth.tar')
    with pytest.raises(ValueError, match='24 of 24 training images are NaN or infinite.*diverged'):
        evaluate(folder / 'nan.pth.tar', str(folder / 'data'), heads=4, cache_dir=tmp_path, work_dir=tmp_path)


def test_tool_prints_a_table(folder, capsys):
    folders = ['--data-root', folder / 'data', '--cache-dir', folder / 'cache', '--work-dir', folder / 'tool']
    options = ['--heads', 4, '--protocols', 'knn', 'logreg', '--options', 'knn.ks=[1,3]']
    run_tool('evaluate.py', folder / 'vit.pth.tar', *folders, *options)
    out = capsys.readouterr().out
    assert re.search(r'knn +k=3 +top-1 +100\.00 +- +13\n', out)
    assert re.search(r'logreg +penalty=\S+ +top-1 +100\.00', out)
    assert (folder / 'tool' / 'results.png').is_file()
