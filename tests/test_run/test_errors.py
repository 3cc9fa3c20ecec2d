import os
import re
import signal

import pytest
import torch
from mmengine.registry import build_from_cfg
from torch.utils.data import DataLoader, Dataset

from mocox.registry import DATASETS, MODELS
from mocox.run.components import check_components
from mocox.run.errors import explain, is_refusal, is_worker_failure


class Base:
    def __init__(self, depth, width):
        pass


class Closed(Base):
    def __init__(self, arch):
        super().__init__(1, 2)


class Open(Base):
    def __init__(self, *, arch, **kwargs):
        super().__init__(**kwargs)


@pytest.mark.parametrize(('component', 'hint'), [(Closed, 'it takes arch'), (Open, 'did you mean depth?')])
def test_arguments_of_a_parent_class_count_if_they_are_passed_on(component, hint):
    def build(cfg: dict) -> None:
        check_components(dict(model=cfg))
        build_from_cfg(cfg, MODELS)  # names what a class passes on

    with pytest.raises(TypeError) as caught:
        build(dict(type=component, arch=1, deph=2))
    assert explain(caught.value) == f"{component.__name__} has no argument 'deph'; {hint}"


class Strict:
    def __init__(self, width, lr=0.1):
        float(width)
        assert lr > 0, 'lr is too small'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(width=[1]), r"^Strict\(width=\[1\]\): float\(\) argument must be .*'list'$"),
        (dict(width=1, lr=-1), r'^Strict\(width=1, lr=-1\): lr is too small'),
    ],
)
def test_messages_that_name_no_argument_get_all(arguments, message):
    with pytest.raises((TypeError, AssertionError)) as caught:
        build_from_cfg(dict(type=Strict, **arguments), MODELS)
    assert re.search(message, explain(caught.value))


def test_a_name_that_an_empty_registry_does_not_know():
    pytest.importorskip('mmpretrain.evaluation')
    with pytest.raises(KeyError) as caught:
        check_components(dict(default_scope='mocox', val_evaluator=dict(type='Acuracy')))
    assert re.search(
        "no 'Acuracy' in the metric registry of scope .* did you mean .*mmpretrain.Accuracy", explain(caught.value)
    )


def test_an_assertion_is_a_refusal_where_another_library_builds_something():
    with pytest.raises(AssertionError) as caught:
        build_from_cfg(dict(type=Strict, width=1, lr=-1), MODELS)
    assert is_refusal(caught.value)
    assert not is_refusal(AssertionError('a bug'))


class Failing(Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise ValueError('data/x.png has no pixels:\nremove it')


def test_errors_of_workers_are_unwrapped():
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        list(DataLoader(Failing(), num_workers=1))
    assert explain(caught.value) == 'data/x.png has no pixels:\nremove it'


class Deadly(Failing):
    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_comes_with_the_cure():
    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(Deadly(), num_workers=1))
    assert is_worker_failure(caught.value)
    assert re.search(r'worker \(pid \d+\) was killed.*memory.*num_workers.*--resume', explain(caught.value))


@pytest.mark.parametrize(
    ('message', 'cure'),
    [
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out "
         'of shared memory. Please try to raise your shared memory limit.', 'shm-size'),
        ('unable to write to file </torch_1_2_0>: No space left on device (28)', 'shm-size'),
        ('unable to open shared memory object </torch_1_2_0> in read-write mode: Too many open files (24)', 'ulimit'),
        ('received 0 items of ancdata', 'ulimit'),
        ('DataLoader worker (pid(s) 7, 8) exited unexpectedly', 'pid 7, 8'),
        ('DataLoader worker (pid 7) is killed by signal: Segmentation fault. ', 'crashed: Segmentation'),
    ],
)  # fmt: skip
def test_what_loader_workers_fail_of(message, cure):
    assert is_worker_failure(RuntimeError(message))
    assert cure in explain(RuntimeError(message))


@pytest.mark.parametrize('error', [ConnectionResetError(104, 'Connection reset by peer'), EOFError()])
def test_a_worker_that_dies_while_it_hands_over_a_batch(monkeypatch, error):
    """The main process then talks to nobody."""

    def break_off(*arguments, **keywords):
        raise error

    monkeypatch.setattr('multiprocessing.connection.Client', break_off)
    with pytest.raises(type(error)) as caught:
        list(DataLoader(torch.zeros(2, 3), num_workers=1))
    assert is_worker_failure(caught.value)
    assert re.search(r'worker .*was killed.*memory.*num_workers', explain(caught.value))
    assert not is_worker_failure(type(error)())


def test_other_errors_are_no_worker_failures():
    assert not is_worker_failure(RuntimeError('mat1 and mat2 shapes cannot be multiplied'))
    assert not is_worker_failure(OSError(28, 'No space left on device'))


def test_an_argument_that_a_class_has_passed_on_is_its_own():
    crops = dict(type='CenterCrop', size=8, resize=8)
    with pytest.raises(TypeError) as caught:
        build_from_cfg(
            dict(type='mocox.ImageFiles', data_root=os.path.dirname(__file__), crops=crops, crop=1), DATASETS
        )
    assert explain(caught.value) == "ImageFiles has no argument 'crop'; did you mean crops?"


@pytest.mark.parametrize(
    'config',
    [
        dict(model=dict(type='mocox.MoCoV3', backbone=None, train_cfg=dict(sampler=dict(type='RandomBoxes')))),
        dict(optim_wrapper=dict(type='OptimWrapper', clip_grad=dict(type='value', clip_value=1))),
        dict(train_dataloader=dict(dataset=dict(type=Open, arch=1, depth=2))),
        dict(model=dict(type='mocox.MoCoV3', neck=dict(type=Open, norm_cfg=dict(type='BN', requires_grad=True)))),
        dict(model=dict(type='mocox.MoCoV3', backbone=dict(type=Open, dcn=dict(type='Conv2d', fallback=False)))),
    ],
)
def test_what_another_library_may_know_is_left_to_the_building(config):
    check_components(config)


def test_a_wrong_argument_is_named_before_anything_is_built():
    config = dict(model=dict(type=Open, backbone=dict(type=Strict, width='wide', lrr=1)))
    with pytest.raises(TypeError, match=r"^Strict has no argument 'lrr'; did you mean lr\?$"):
        check_components(config)
