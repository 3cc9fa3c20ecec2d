"""What a run started from: measured before its first step, on the same plain images as later."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from mocox.datasets import ImageFiles
from mocox.monitors import MonitorHook
from mocox.monitors.learning_state import TrainingState
from mocox.monitors.plain_images import PlainImages, choose_rows
from mocox.monitors.readings import BELOW, LEARNING, SHORTCUT, Plain, Reading
from mocox.monitors.start import BETTER, LEVEL, compare
from mocox.monitors.summary import final_verdict
from mocox.registry import MODELS
from tests.support.processes import run_processes
from tests.test_monitors.tiny import SIDE, Patterns, events, model, scalars, train

CROPS = dict(type='RandomResizedCrops', size=SIDE, scale=(0.2, 1.0))


def build():
    torch.manual_seed(0)
    return MODELS.build(model())


def measured(batch_size: int) -> dict[str, float]:
    dataset = Patterns(CROPS)
    return PlainImages(dataset, dataset.labels, SIDE, batch_size).measure(build())


def test_the_numbers_are_those_of_the_images_themselves():
    """k-NN, RankMe and alignment written out, on the images of the data set without a crop of its own."""
    dataset, algorithm = Patterns(CROPS), build().eval()
    random = torch.get_rng_state()
    found = PlainImages(dataset, dataset.labels, SIDE, batch_size=10).measure(algorithm.train())
    assert torch.equal(torch.get_rng_state(), random)
    assert algorithm.training
    images = (torch.from_numpy(dataset.images).permute(0, 3, 1, 2).float() - 127) / 64
    with torch.no_grad():
        x, mirrored = (algorithm.eval().backbone(view)[-1] for view in (images, images.flip(-1)))
    unit = F.normalize(x, dim=1)
    assert found['alignment'] == pytest.approx(
        (unit - F.normalize(mirrored, dim=1)).square().sum(1).mean().item(), rel=1e-5
    )
    singular = torch.linalg.svdvals(x.double())
    shares = singular / singular.sum()
    assert found['effective_rank'] == pytest.approx((-(shares * shares.log()).sum()).exp().item(), rel=0.02)
    cosines = (unit @ unit.T).fill_diagonal_(-2)
    labels, right = torch.as_tensor(dataset.labels), 0
    for row, label in zip(cosines, labels):
        near = row.topk(10)
        votes = torch.zeros(4).index_add_(0, labels[near.indices], (near.values / 0.07).exp())
        right += int(votes.argmax() == label)
    assert found['knn'] == pytest.approx(right / len(labels))


def test_of_an_unreadable_image_nothing_is_measured(tmp_path):
    """What stands in for it is not a second copy, and carries no label: as if the file were not there."""
    values = np.random.default_rng(0).integers(0, 256, (24, SIDE, SIDE, 3), dtype=np.uint8)
    for number, pixels in enumerate(values):
        for folder in ('all', 'readable'):
            path = tmp_path / folder / f'class{number % 2}' / f'{number:02}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    for number in (3, 8):
        (tmp_path / 'all' / f'class{number % 2}' / f'{number:02}.png').write_bytes(b'cut')
        (tmp_path / 'readable' / f'class{number % 2}' / f'{number:02}.png').unlink()
    numbers = []
    for folder in ('all', 'readable'):
        dataset = ImageFiles(str(tmp_path / folder), CROPS, with_labels=True)
        numbers.append(PlainImages(dataset, dataset.labels, SIDE, 10).measure(build()))
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-5)


def test_images_that_are_not_square():
    dataset = Patterns(dict(CROPS, size=(SIDE, 2 * SIDE)))
    oblong = PlainImages(dataset, None, (SIDE, 2 * SIDE), batch_size=64)
    assert {view.shape[-2:] for batch in oblong.batches for view in batch['inputs']} == {(SIDE, 2 * SIDE)}


@pytest.mark.dist
def test_processes_share_the_images():
    alone = measured(7)
    for found in run_processes(measured, 3, 7):
        assert found == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(
    ('num_images', 'num_classes', 'expected'), [(64, 4, 64), (2000, None, 512), (6000, 10, 510), (60_000, 1000, 512)]
)
def test_which_images(num_images, num_classes, expected):
    labels = None if num_classes is None else np.arange(num_images) % num_classes
    rows = choose_rows(num_images, labels)
    assert len(set(rows)) == len(rows) == expected
    assert rows == sorted(rows)
    if labels is not None:
        _, counts = np.unique(labels[rows], return_counts=True)
        assert len(counts) == min(num_classes, 32)
        assert counts.min() == counts.max()


def plain(knn: float | None) -> Plain:
    return Plain(num_images=400, effective_rank=10.0, alignment=0.5, knn=knn)


@pytest.mark.parametrize(('knn', 'words'), [(0.83, LEVEL), (0.85, BETTER), (0.77, LEVEL), (0.75, BELOW), (None, None)])
def test_words_for_a_start_of_80_percent(knn, words):
    """Two standard errors of 80 % of 400 images are 4 points."""
    assert compare(plain(0.8), plain(knn)) == words
    machine = TrainingState()
    machine.warm = True
    machine.measured(0, plain(0.8))
    machine.measured(10, plain(knn))
    machine.update(Reading(10, loss=2.0, progress=40.0))
    text = final_verdict(machine, chance=4.0, knn_chance=0.1)
    assert words is None or f'k-NN on plain images from 80 to {100 * knn:.0f} %, {words}, the largest class' in text


def feed(machine: TrainingState, iteration: int, knn: float) -> str:
    machine.measured(iteration, plain(knn))
    return machine.update(Reading(iteration, loss=2.0, progress=40.0, top1=0.5)).state


@pytest.mark.parametrize(
    ('top1', 'state', 'head'),
    [(1.0, SHORTCUT, 'The loss fell, perhaps by a shortcut'), (0.5, LEARNING, 'The loss fell, but k-NN did not rise')],
)
def test_random_weights_that_knew_more(top1, state, head):
    """Without augmentation: the task is solved and k-NN of the batches rises, while on plain images 55 % became 44."""
    machine = TrainingState(patience=100)
    machine.knn_chance = 0.1
    machine.measured(0, plain(0.55))
    states = []
    for i in range(10, 400, 10):
        machine.measured(i, plain(0.44))
        states.append(machine.update(Reading(i, loss=1.0, progress=89.0, top1=top1, knn=0.2 + i / 1600)).state)
    assert states[:10] == [LEARNING] * 10 and states[-1] == state
    assert final_verdict(machine, chance=4.0, knn_chance=0.1).startswith(head)


@pytest.mark.parametrize(('warm', 'state'), [(True, BELOW), (False, 'learning')])
def test_a_warm_start_that_is_lost(warm, state):
    """Standard error of 80 % of 400: 2 points. 77 % is noise, 75 % is not; it counts once it has lasted."""
    machine = TrainingState(patience=100)
    machine.warm = warm
    assert [feed(machine, 0, 0.8), *(feed(machine, i, 0.77) for i in range(10, 200, 10))] == ['learning'] * 20
    states = [feed(machine, i, 0.75) for i in range(200, 400, 10)]
    assert states[:10] == ['learning'] * 10
    assert states[-1] == state
    text = final_verdict(machine, chance=4.0)
    assert 'k-NN on plain images from 80 to 75 %' in text
    if warm:
        message = machine.update(Reading(390, loss=2.0, progress=40.0)).message
        assert message == 'below its start for 190 iterations: k-NN on plain images 75 % after 80 %'
        assert text.startswith('The run has lost what it started from')
        assert 'Usual causes: the learning rate is too high for weights that are good already' in text
        assert machine.needs_help(390)
        machine.measured(400, plain(0.79))
        assert machine.update(Reading(400, loss=2.0, progress=40.0)).message == 'no longer below its start'
        assert feed(machine, 410, 0.79) == 'learning'
    twin = TrainingState()
    twin.load_state_dict(machine.state_dict())
    assert twin.state_dict() == machine.state_dict()
    assert twin.start == plain(0.8)


class Beginning(Hook):
    """Keeps the initial weights."""

    def before_train(self, runner: Runner) -> None:
        self.weights = copy.deepcopy(runner.model.state_dict())


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    beginning = Beginning()
    runner = train(folder / 'run', epochs=30, lr=0.01, model=model(), extra=[beginning])
    return folder / 'run', runner, beginning.weights


def test_a_run_says_what_it_started_from(trained):
    folder, _, weights = trained
    algorithm, dataset = build(), Patterns(CROPS)
    algorithm.load_state_dict(weights)
    expected = PlainImages(dataset, dataset.labels, SIDE, 64).measure(algorithm)
    assert scalars(folder)[-1]['knn_start'] == pytest.approx(100 * expected['knn'])
    (end,) = events(folder, 'end')
    assert f'k-NN on plain images from {100 * expected["knn"]:.0f} to ' in end['message']


class StartWithoutLabels(Hook):
    """Leaves the monitor as a run that began with knn=False does when it is resumed with knn=True."""

    def before_train(self, runner: Runner) -> None:
        (self.monitor,) = (hook for hook in runner.hooks if isinstance(hook, MonitorHook))
        self.monitor.machine.start = plain(None)


def test_labels_that_come_after_the_start(tmp_path):
    """k-NN is measured, with nothing to compare it to."""
    begun = StartWithoutLabels()
    train(tmp_path, epochs=1, model=model(), extra=[begun])
    assert begun.monitor.contrastive  # no error has ended the monitors
    assert 0 < scalars(tmp_path)[-1]['knn_plain'] < 100
    assert 'knn_start' not in scalars(tmp_path)[-1]


def test_weights_are_the_same_without_it(trained, tmp_path):
    _, runner, _ = trained
    hook = dict(type='MonitorHook', interval=2, plain=False)
    other = train(tmp_path / 'run', epochs=30, lr=0.01, model=model(), hooks=dict(monitor=hook))
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_too_large_a_learning_rate_on_a_good_start(trained, tmp_path):
    _, runner, _ = trained
    torch.save(dict(state_dict=runner.model.state_dict()), tmp_path / 'good.pth')
    train(tmp_path / 'run', epochs=40, lr=0.1, model=model(), load_from=str(tmp_path / 'good.pth'))
    states = [event['state'] for event in events(tmp_path / 'run', 'state')]
    assert BELOW in states
    assert events(tmp_path / 'run', 'end')[0]['message'].startswith('The run has lost what it started from')
