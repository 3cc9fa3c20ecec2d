import math
from types import SimpleNamespace

import pytest

from mocox.models.algorithms import MomentumContrast
from mocox.report.closing import describe_end
from mocox.report.page import render
from mocox.report.pictures import Pictures
from mocox.report.runs import Run, read_run
from mocox.report.scalars import Series
from mocox.report.verdict import format_value, judge, tone_of
from tests.test_report.work_dirs import STAMP, write_work_dir


def run_with(losses: list[float], events: list[dict] | None = None, levels: bool = True) -> Run:
    """Chance is 4, the floor 1."""
    iters = list(range(1, len(losses) + 1))
    scalars = dict(loss=Series(iters, losses))
    if levels:
        for name, value in dict(chance=4.0, floor=1.0, progress=0.0).items():
            scalars[name] = Series(iters, [value] * len(losses))
    return Run('run', None, {}, scalars, {}, events or [], {}, [], Series())


@pytest.mark.parametrize(
    ('losses', 'state', 'tone', 'words'),
    [
        ([4.0, 3.9], 'just started', 'calm', 'Too few'),
        ([4.0, 4.01, 3.99, 4.0, 3.98], 'at chance', 'warn', 'where guessing would be'),
        ([4.0, 3.0, 2.5, 2.2, 2.2, 2.2], 'learning', 'good', '60 % of the way from chance (4.00) to the floor (1.00)'),
        ([4.0, 2.0, 2.0, 2.0, 2.5, 2.5, 2.5], 'loss rises', 'warn', 'was 2.00 and is 2.50'),
        ([4.0, 3.9, 3.88, 3.88, 3.88], 'at chance', 'warn', '4 % of the way'),  # below 5 %, as for the monitors
        ([4.0, 3.9, 3.82, 3.82, 3.82], 'learning', 'good', '6 % of the way'),
        ([4.0, 2.0, 2.0, 2.0, 2.95, 2.95, 2.95], 'diverging', 'bad', 'was 2.00 and is 2.95'),  # 32 % are lost
        ([4.0, 2.0, 2.0, 2.0, 2.85, 2.85, 2.85], 'loss rises', 'warn', 'was 2.00 and is 2.85'),  # 28 %
        ([4.0, 3.0, 2.0, math.nan], 'diverged', 'bad', 'not finite'),
    ],
)
def test_without_monitors_the_loss_speaks(losses, state, tone, words):
    verdict = judge(run_with(losses))
    assert (verdict.state, verdict.tone) == (state, tone)
    assert words in verdict.message
    assert 'no monitor was on' in verdict.source


def test_a_loss_without_known_levels_is_reported_as_it_is():
    run = run_with([2.0, 1.7, 1.5], levels=False)
    assert 'went from 2.000 to 1.500' in judge(run).message
    run.metrics = {'accuracy/top1': Series([1, 2], [50.0, 71.25])}
    verdict = judge(run)
    assert (verdict.state, verdict.tone) == ('evaluation', 'calm') and 'accuracy/top1 71.25' in verdict.message
    assert '<h3>accuracy/top1</h3>' in render([run], Pictures())
    assert '<h3>Loss</h3>' in render([run], Pictures()) and 'Contrastive loss' not in render([run], Pictures())


def test_the_monitors_have_the_last_word():
    event = dict(kind='state', iter=40, state='collapsed', message='all features are alike',
                 evidence=dict(feature_std=0.00123), causes=['the learning rate'])  # fmt: skip
    verdict = judge(run_with([4.0, 2.0, 2.0, 2.0], [dict(event, state='learning'), event]))
    assert (verdict.state, verdict.tone, verdict.mark) == ('collapsed', 'bad', '✕')
    assert verdict.message.startswith('Since iteration 40: All features are alike. Now: The loss is 2.00')
    assert verdict.evidence == {'feature std': '0.00123'}
    assert verdict.causes == ['the learning rate']
    end = dict(kind='end', iter=50, state='collapsed', message='it was nothing. Usual causes: the learning rate.')
    assert judge(run_with([4.0, 2.0, 2.0], [event, end])).message == 'It was nothing.'


def test_what_every_run_goes_through_at_first_is_no_warning():
    event = dict(kind='state', iter=1, state='at chance', message='at chance, as every run is at first', causes=[])
    verdict = judge(run_with([4.0, 4.0, 4.0], [event]))
    assert (verdict.tone, verdict.mark) == ('calm', '…')
    assert judge(run_with([4.0] * 3, [dict(event, causes=['the learning rate'])])).tone == 'warn'
    warming = dict(event, state='queue warming', message='the queue is 12 % full')
    assert judge(run_with([0.9, 2.0, 3.0], [warming])).message == 'The queue is 12 % full.'  # no loss to compare


def test_the_low_loss_of_a_young_queue_is_no_best():
    run = run_with([0.5, 1.0, 2.0, 4.0, 3.5, 3.0, 2.5])
    run.scalars['chance'].values[:3] = [1.0, 2.0, 3.0]
    assert judge(run).state == 'learning'


def test_every_state_of_the_monitors_has_a_tone():
    tones = dict.fromkeys(['collapsed', 'diverging'], 'bad') | dict.fromkeys(
        ['at chance', 'shortcut suspected'], 'warn'
    )
    tones |= dict.fromkeys(['queue warming', 'saturated'], 'calm') | {'learning': 'good'}
    assert {state: tone_of(state)[0] for state in tones} == tones
    assert tone_of('something new')[0] == 'calm'


def test_numbers_read_well():
    values = [0.5, 1234567, 12345.678, 1e-9, math.nan, [1, 2.5], 'text', 3.0]
    expected = ['0.5', '1,234,567', '1.235e+04', '1.00e-09', 'not finite', '1, 2.5', 'text', '3']
    assert [format_value(value) for value in values] == expected


def test_a_run_that_has_ended_learned(tmp_path):
    run = read_run(write_work_dir(tmp_path / 'run'))
    assert (judge(run).state, judge(run).tone) == ('learning', 'good')
    run.events.append(dict(kind='end', state='learning', iter=4000, message='The run learned: loss 1.2.'))
    assert (judge(run).state, judge(run).tone) == ('it learned', 'good')
    run.events[-1]['message'] = 'The run has learned little: loss 4.'
    assert judge(run).state == 'learning'


def test_a_title_is_recipe_and_data(tmp_path):
    folder = write_work_dir(tmp_path / 'run')
    assert read_run(folder).title == 'run on imagenet'
    (folder / 'vit-small_custom.py').write_text((folder / STAMP / 'vis_data' / 'config.py').read_text())
    assert read_run(folder).title == 'vit-small_custom on imagenet'
    assert '<h1>vit-small_custom on imagenet</h1>' in render([read_run(folder)], Pictures())


@pytest.mark.parametrize(
    ('data', 'title'),
    [('photos', 'ResNet 18 on photos'),
     ('/data/cats/train', 'ResNet 18 on cats/train'), ('/train', 'ResNet 18 on train'),
     ('', 'ResNet 18'), ('/', 'ResNet 18 on /'), ('s3://bucket/shards', 'ResNet 18 on shards')],
)  # fmt: skip
def test_the_title_of_a_chosen_recipe_is_its_network(tmp_path, data, title):
    run = read_run(write_work_dir(tmp_path / 'run'))
    run.recipe_name = 'auto'
    run.config['model']['backbone'] = dict(type='mmpretrain.ResNet', depth=18)
    run.config['train_dataloader']['dataset']['data_root'] = data
    assert run.title == title


def test_the_commands_printed_at_the_end_of_a_run_quote_its_path(tmp_path, monkeypatch):
    work_dir = tmp_path / 'my run'
    work_dir.mkdir()
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_2.pth'))
    monkeypatch.chdir(tmp_path)
    model = MomentumContrast.__new__(MomentumContrast)
    text = describe_end(SimpleNamespace(work_dir=str(work_dir), timestamp='now', model=model))
    assert 'weights  my run/epoch_2.pth' in text
    assert "mocox evaluate 'my run/epoch_2.pth' --data-root DIR" in text
    assert text.count("'my run/epoch_2.pth'") == 3
