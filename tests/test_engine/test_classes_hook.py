"""Labels and outputs that do not fit."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from mocox.engine import ClassesHook


def images(classes: list[str] | None, labels: list[int], with_labels: bool = True) -> SimpleNamespace:
    return SimpleNamespace(
        dataset=SimpleNamespace(classes=classes, labels=np.array(labels) if labels else None, with_labels=with_labels)
    )


def runner(outputs: int | None, train: SimpleNamespace, val: SimpleNamespace | None = None, **cfg) -> SimpleNamespace:
    head = SimpleNamespace() if outputs is None else SimpleNamespace(num_classes=outputs)
    return SimpleNamespace(
        model=SimpleNamespace(head=head),
        cfg=cfg,
        logger=logging.getLogger('test_classes'),
        train_dataloader=train,
        val_dataloader=val,
        val_loop=val,
        test_dataloader=train,
    )


CATS = images(['cat', 'dog', 'eel'], [0, 1, 2])


def test_fewer_outputs_than_classes_end_the_run():
    for label_source, words in (
        (CATS, '3 classes, labels 0 to 2: set'),
        (images(None, [0, 2]), r'labels 0 to 2 \(2 of them\): set'),
    ):
        with pytest.raises(
            ValueError, match=f'num_classes=2 .*train_dataloader have {words} .*model.head.num_classes=3$'
        ):
            ClassesHook().before_train(runner(2, label_source))
    with pytest.raises(ValueError, match='test_dataloader have 3 classes'):
        ClassesHook().before_test(runner(2, CATS))
    with pytest.raises(ValueError, match='val_dataloader have label 3: count the labels from 0'):
        ClassesHook().before_train(runner(3, CATS, images(None, [3])))


def test_labels_from_1_on_get_the_cure_that_works():
    """Three classes are not four, and a fourth output would leave the first without an image."""
    with pytest.raises(ValueError, match=r'have labels 1 to 3: count the labels from 0 \(subtract 1\), or set'):
        ClassesHook().before_train(runner(3, images(None, [1, 2, 3])))
    with pytest.raises(ValueError, match=r'different classes \(only for validation: label 3; training has labels 0 to'):
        ClassesHook().before_train(runner(1000, CATS, images(None, [1, 2, 3])))
    with pytest.raises(ValueError, match=r'different classes \(only for validation: label 0; training has labels 1 to'):
        ClassesHook().before_train(runner(1000, images(None, [1, 2, 3]), CATS))


def test_more_outputs_than_classes_are_said_once(caplog):
    ClassesHook().before_train(runner(1000, CATS, CATS, data_preprocessor=dict(num_classes=1000)))
    (record,) = caplog.records
    assert record.levelname == 'WARNING'
    for words in ('num_classes=1000', '3 classes', 'model.head.num_classes=3 data_preprocessor.num_classes=3'):
        assert words in record.message


@pytest.mark.parametrize('others', [['cat', 'eel'], ['cat', 'dog', 'fox'], ['eel', 'dog', 'cat']])
def test_other_folders_for_validation_end_the_run(others):
    val = images(others, list(range(len(others))))
    with pytest.raises(ValueError, match='training and validation have different classes'):
        ClassesHook().before_train(runner(3, CATS, val))


def test_what_fits_and_what_has_no_classes_passes(caplog):
    hook = ClassesHook()
    hook.before_train(runner(3, CATS, CATS))
    hook.before_train(runner(None, CATS))
    hook.before_train(runner(2, images(None, [])))
    hook.before_train(runner(2, images(['a', 'b', 'c'], [0, 1, 2], with_labels=False)))
    hook.before_test(runner(3, CATS))
    assert not caplog.records


@pytest.mark.parametrize(('several', 'place'), [(False, 'val_evaluator'), (True, r'val_evaluator\.0')])
def test_top_5_of_three_classes_is_refused_before_the_first_step(several, place):
    val = SimpleNamespace(**vars(CATS), evaluator=SimpleNamespace(metrics=[SimpleNamespace(topk=(1, 5))]))
    evaluator = dict(type='Accuracy', topk=(1, 5))
    run = runner(3, CATS, val, val_evaluator=[evaluator] if several else evaluator)
    with pytest.raises(ValueError, match=rf'top-5 accuracy, and the model has 3 classes: .* {place}\.topk=1$'):
        ClassesHook().before_train(run)
    val.evaluator.metrics[0].topk = 3
    ClassesHook().before_train(run)
