"""The monitors in real runs: one that learns, one with an absurd learning rate, one that collapses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from mocox.datasets import ImageFiles, collate_views
from mocox.evaluation import extract_from_loader, knn_classify
from mocox.monitors import MonitorHook
from mocox.monitors.events import write_event
from mocox.monitors.offline_knn import offline_knn
from mocox.registry import MODELS
from mocox.schedules import in_batch_chance_level, in_batch_floor
from tests.support.processes import run_processes
from tests.support.runs import CountingModel, run_counting
from tests.support.small_models import VIT, config
from tests.test_monitors.tiny import PREPROCESSOR, Patterns, events, model, scalars, train

SIGNALS = {
    *('chance', 'floor', 'progress', 'num_keys', 'contrastive_top1', 'positive_cosine', 'negative_cosine'),
    *('feature_std', 'effective_rank', 'alignment', 'uniformity', 'grad_norm', 'grad_norm/blocks.0'),
    *('grad_norm/neck', 'grad_norm/head', 'skipped_steps', 'images_per_second', 'data_wait', 'loss', 'time'),
}


def monitor(**settings) -> dict:
    return dict(monitor=dict(dict(type='MonitorHook', interval=2), **settings))


def machine(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, MonitorHook)).machine


def test_a_run_that_learns(tmp_path):
    runner = train(tmp_path / 'run', epochs=30, lr=0.01, model=model(), hooks=monitor())
    assert [event['state'] for event in events(tmp_path / 'run')] == ['at chance', 'learning', 'learning']
    assert events(tmp_path / 'run', 'end')[0]['message'].startswith('The run learned: loss')
    last = scalars(tmp_path / 'run')[-1]
    assert set(last) >= SIGNALS | {'knn_online'}
    assert last['chance'] == pytest.approx(in_batch_chance_level(16, 0.2), abs=1e-4)
    assert last['floor'] == pytest.approx(in_batch_floor(16, 0.2), abs=1e-4)
    assert last['num_keys'] == 16
    assert 15 < last['progress'] < 60
    assert last['knn_online'] > 70  # of four classes
    assert last['positive_cosine'] > last['negative_cosine'] + 0.1
    assert last['alignment'] == pytest.approx(2 - 2 * last['positive_cosine'], abs=2e-4)
    assert last['grad_norm'] > last['grad_norm/blocks.0'] > 0
    assert runner.message_hub.get_info('monitor')['state'] == 'learning'


def test_progress_is_that_of_the_logged_losses(tmp_path):
    runner = train(tmp_path / 'run', epochs=3, model=model())
    losses = [float(x) for x in runner.message_hub.get_scalar('train/loss').data[0]]
    chance, floor = in_batch_chance_level(16, 0.2), in_batch_floor(16, 0.2)
    progress = runner.message_hub.get_scalar('train/progress').data[0]
    # Read after iterations 1, 2, 4, 6, ...: of the losses since the reading before, the mean.
    means = [losses[0], losses[1], *((a + b) / 2 for a, b in zip(losses[2::2], losses[3::2]))]
    assert progress == pytest.approx([100 * (chance - mean) / (chance - floor) for mean in means], abs=1e-3)


def test_there_is_no_progress_while_the_queue_fills(tmp_path):
    """Until then chance hardly differs from the floor, and the first mean has losses of other levels in it."""
    queue = dict(model(), type='MoCo', queue_len=96, feat_dim=32)
    queue['head'].pop('predictor')
    run = train(tmp_path / 'run', epochs=3, model=queue)  # 16 keys in each of 12 steps, read after 1, 2, 4, 6, ...
    assert run.message_hub.get_scalar('train/chance').data[1].sum() == 7
    assert run.message_hub.get_scalar('train/progress').data[1].sum() == 3  # after 8, 10 and 12
    assert events(tmp_path / 'run', 'state')[0]['state'] == 'queue warming'


def test_an_absurd_learning_rate(tmp_path):
    optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e3))
    runner = train(tmp_path / 'run', epochs=10, model=model(), optim_wrapper=optim_wrapper)
    assert machine(runner).state == 'diverging'
    (event,) = [event for event in events(tmp_path / 'run', 'state') if event['state'] == 'diverging']
    assert set(event['evidence']) <= {'loss', 'skipped_steps'}
    assert 'learning rate' in event['causes'][0]
    text = events(tmp_path / 'run', 'end')[0]['message']
    assert text.startswith('The run did not learn')
    assert 'steps were skipped' in text


@pytest.mark.parametrize('lr', [0.2, 1.0])
def test_a_learning_rate_too_large_is_never_called_learning(tmp_path, lr):
    runner = train(tmp_path / 'run', epochs=15, lr=lr, model=config(VIT, data_preprocessor=PREPROCESSOR))
    assert machine(runner).state in ('at chance', 'collapsed', 'diverging')
    assert 'learning' not in {event['state'] for event in events(tmp_path / 'run')}


def test_a_collapse(tmp_path):
    """Nothing pushes apart, keys equal queries, no BatchNorm keeps them spread: all images end in one point."""
    cfg = model(base_momentum=0.0)
    cfg['head'].update(loss=dict(type='NoNegatives'), predictor=None)
    cfg['neck'].update(with_last_bn=False, norm_cfg=None)
    hooks = [dict(type='MomentumUpdateHook', schedule='constant')]
    runner = train(tmp_path / 'run', epochs=15, lr=0.02, model=cfg, custom_hooks=hooks)
    assert machine(runner).state == 'collapsed'
    assert events(tmp_path / 'run', 'state')[-1]['evidence']['negative_cosine'] > 0.98
    assert 'chance' not in scalars(tmp_path / 'run')[-1]  # of a loss of one's own it is unknown
    assert abs(scalars(tmp_path / 'run')[-1]['progress']) < 5  # that of InfoNCE on the same logits
    assert scalars(tmp_path / 'run')[-1]['contrastive_top1'] < 50


def test_weights_are_equal_to_the_bit_with_and_without(tmp_path):
    cfg = model()
    cfg['backbone'] = dict(VIT, drop_path_rate=0.3)  # draws from torch's generator
    on = train(tmp_path / 'on', epochs=3, model=cfg, hooks=monitor(interval=1))
    off = train(tmp_path / 'off', epochs=3, model=cfg, hooks=dict(monitor=None, stability=None))
    for name, value in off.model.state_dict().items():
        assert torch.equal(value, on.model.state_dict()[name]), name
    assert len(events(tmp_path / 'on')) >= 2
    assert events(tmp_path / 'off') == []


def test_nothing_is_kept_after_a_step(tmp_path):
    class Look(Hook):
        priority = 'LOWEST'
        seen = []

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            self.seen += [runner.model.observe, runner.model.observed, runner.model.head.observed]

    train(tmp_path / 'run', epochs=1, extra=[Look()], model=model())
    assert set(Look.seen) == {False, None}


def test_a_resumed_run_goes_on_with_its_verdict(tmp_path):
    def hooks():
        return dict(monitor=dict(type='MonitorHook', interval=2), checkpoint=dict(type='CheckpointHook', interval=2))

    straight = train(tmp_path / 'straight', epochs=4, model=model(), default_hooks=hooks())
    resumed = train(
        tmp_path / 'resumed',
        epochs=4,
        model=model(),
        default_hooks=hooks(),
        load_from=str(tmp_path / 'straight' / 'epoch_2.pth'),
        resume=True,
    )
    assert machine(resumed).first_std == machine(straight).first_std
    assert len(machine(resumed).window) >= len(machine(straight).window) - 1
    warm = train(tmp_path / 'warm', epochs=1, model=model(), load_from=str(tmp_path / 'straight' / 'epoch_2.pth'))
    assert machine(warm).first_std != machine(straight).first_std


def test_long_at_chance_is_a_warning(tmp_path):
    """A learning rate of 0 for 112 iterations, of which 100 are the patience; told once."""
    train(tmp_path / 'run', epochs=28, lr=0.0, model=model())
    found = events(tmp_path / 'run', 'state')
    assert [event['state'] for event in found] == ['at chance', 'at chance']
    assert found[1]['iter'] == 100
    assert found[1]['message'] == 'at chance for 100 iterations'
    assert found[1]['causes']


def write_classes(folder: Path, prefixes: list[str]) -> None:
    """Eight images of each of four kinds, as files in a folder each."""
    images = Patterns(crops=None).images
    for prefix in prefixes:
        for number, image in enumerate(images[:32]):
            path = folder / prefix / f'class{number % 4}' / f'{number}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(image, len(prefix), axis=0)).save(path)


def test_offline_knn_on_held_out_images(tmp_path):
    write_classes(tmp_path / 'data', ['train', 'val'])
    settings = dict(knn_data_root=str(tmp_path / 'data'), knn_epochs=2, num_neighbours=5)
    runner = train(tmp_path / 'run', epochs=5, model=model(), hooks=monitor(**settings))
    curve = runner.message_hub.get_scalar('train/knn_offline').data[0]
    assert len(curve) == 3  # after epochs 2, 4 and the last

    crops = dict(type='CenterCrop', size=8, resize=8)
    parts = []
    for split in ('train', 'val'):
        dataset = ImageFiles(str(tmp_path / 'data'), crops, data_prefix=split, with_labels=True)
        parts.append(extract_from_loader(runner.model, DataLoader(dataset, 8, collate_fn=collate_views)))
    (bank, bank_labels), (features, labels) = parts
    expected = (knn_classify(features, bank, bank_labels, 5) == labels).float().mean().item()
    assert curve[-1] == pytest.approx(100 * expected)
    without = train(tmp_path / 'without', epochs=5, model=model(), hooks=monitor())
    for name, value in without.model.state_dict().items():
        assert torch.equal(value, runner.model.state_dict()[name]), name


def accuracy_of(folder: str) -> tuple[float, int]:
    """Accuracy, and the images that this process has encoded of the two times 32."""
    torch.manual_seed(0)
    algorithm, encoded = MODELS.build(model()), []
    algorithm.data_preprocessor.register_forward_hook(lambda _, args, output: encoded.append(len(args[0]['inputs'][0])))
    return offline_knn(algorithm, folder, 8, 5, 0.07, batch_size=8), sum(encoded)


@pytest.mark.dist
def test_processes_share_the_images_of_offline_knn(tmp_path):
    write_classes(tmp_path / 'data', ['train', 'val'])
    (tmp_path / 'data' / 'val' / 'class0' / '0.png').unlink()  # 31: one image is encoded twice
    (alone, images), shared = accuracy_of(str(tmp_path / 'data')), run_processes(accuracy_of, 2, str(tmp_path / 'data'))
    assert images == 63
    assert shared == [(alone, 32), (alone, 32)]


def test_labels_of_class_folders_are_used_for_nothing_else(tmp_path):
    """The k-NN curve appears with class folders and not in a flat folder; items have no label in either."""
    write_classes(tmp_path / 'data', ['train'])
    (tmp_path / 'flat').mkdir()
    for number, path in enumerate(sorted((tmp_path / 'data' / 'train').rglob('*.png'))):
        (tmp_path / 'flat' / f'{number:02}.png').write_bytes(path.read_bytes())
    curves, weights = [], []
    for folder in ('data/train', 'flat'):
        loader = dict(
            dataset=dict(
                type='ImageFiles',
                data_root=str(tmp_path / folder),
                crops=dict(type='RandomResizedCrops', size=8, scale=(0.7, 1.0)),
            ),
            batch_size=16,
            sampler=dict(type='EpochSampler', shuffle=True),
            collate_fn=dict(type='mocox.collate_views'),
        )
        runner = train(tmp_path / folder.replace('/', '_'), epochs=8, model=model(), train_dataloader=loader)
        curves.append('train/knn_online' in runner.message_hub.log_scalars)
        assert 'label' not in runner.train_dataloader.dataset[0]
        weights.append(runner.model.state_dict())
    assert curves == [True, False]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_without_labels(tmp_path):
    runner = train(tmp_path / 'run', epochs=30, lr=0.01, model=model(), hooks=monitor(knn=False))
    last = scalars(tmp_path / 'run')[-1]
    assert 'knn_online' not in last
    assert set(last) >= {'alignment', 'uniformity', 'effective_rank'}
    assert machine(runner).state == 'learning'


def test_tensorboard_gets_the_scalars(tmp_path):
    visualizer = dict(
        type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
    )
    train(tmp_path / 'run', epochs=2, model=model(), visualizer=visualizer)
    (file,) = (tmp_path / 'run').rglob('events.out.tfevents.*')
    written = EventAccumulator(str(file))
    written.Reload()
    assert set(written.Tags()['scalars']) >= SIGNALS
    last = written.Scalars('progress')[-1]
    assert last.value == pytest.approx(scalars(tmp_path / 'run')[-1]['progress'], abs=1e-3)


def test_a_model_that_is_not_contrastive_is_left_alone(tmp_path):
    runner = run_counting(tmp_path, MonitorHook(interval=2), CountingModel())
    assert 'train/images_per_second' in runner.message_hub.log_scalars
    assert 'train/progress' not in runner.message_hub.log_scalars
    assert not list(tmp_path.rglob('events.jsonl'))


@pytest.mark.parametrize('bad', [dict(interval=0), dict(bank_size=0), dict(knn_epochs=-1)])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        MonitorHook(**bad)


def test_an_event_is_valid_json(tmp_path):
    runner = type('R', (), dict(rank=0, log_dir=str(tmp_path), iter=4, epoch=1))()
    write_event(runner, 'spike', None, 'x', dict(loss=float('nan'), norm=float('inf'), ratio=2.5), ['why'])
    (line,) = (tmp_path / 'vis_data' / 'events.jsonl').read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == dict(
        iter=5, epoch=2, kind='spike', state=None, message='x', evidence=dict(loss='nan', norm='inf', ratio=2.5),
        causes=['why'],
    )  # fmt: skip
