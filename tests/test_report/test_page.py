"""The page as a reader gets it: what it says, what it must never do, and how a browser shows it."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from mocox.report.facts import next_steps
from mocox.report.page import BeforeAfter, render, write_report
from mocox.report.pictures import Pictures, tile
from mocox.report.runs import read_run
from mocox.report.verdict import judge
from tests.support.browser import CHROMIUM, open_browser
from tests.test_report.work_dirs import LAYERS, STAMP, write_work_dir

EVIL = '<img src=x onerror=alert(1)>'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return read_run(write_work_dir(tmp_path_factory.mktemp('work') / 'first'))


@pytest.fixture(scope='module')
def runs(run, tmp_path_factory):
    """Three runs: learning, slower and shorter, collapsed."""
    folder = tmp_path_factory.mktemp('more')
    slow = write_work_dir(folder / 'slow', speed=0.4, lines=150, seed=1)
    collapsed = write_work_dir(folder / 'collapsed', speed=0.1, seed=2, state='collapsed')
    return [run, read_run(slow), read_run(collapsed)]


def headings(page: str) -> list[str]:
    return re.findall(r'<h3>(.*?)</h3>', page)


def test_the_verdict_comes_first_and_every_scalar_has_its_chart(run):
    page = render([run], Pictures())
    assert page.index('Learning') < page.index('<h2>')
    assert {'Contrastive loss', 'k-NN accuracy', 'Effective rank', 'Learning rate', 'Waiting for data'} <= set(
        headings(page)
    )
    assert all(f'</svg>{layer}</li>' in page for layer in LAYERS)  # the legend of the layers
    assert page.count('spike: the gradient of patch_embed') == 2 * 3  # on loss, gradient norm and layers
    assert 'chance 4.44' in page and 'floor 0.79' in page


def test_a_log_without_monitors_is_judged_by_its_loss(tmp_path):
    page = render([read_run(write_work_dir(tmp_path / 'plain', monitored=False))], Pictures())
    assert 'judged from the loss alone' in page
    assert 'Progress' in headings(page) and 'Images per second' in headings(page)
    assert 'k-NN accuracy' not in headings(page)


def test_a_run_that_ended_in_nan_says_so(run, tmp_path):
    broken = read_run(write_work_dir(tmp_path / 'broken', state='diverging'))
    for name in ('loss', 'progress', 'knn_online', 'grad_norm', 'time', 'images_per_second'):
        broken.scalars[name].values[-3:] = [float('nan')] * 3
    page = render([broken], Pictures())
    assert '<dd>not finite</dd>' in page and '>nan' not in page and 'NaN' not in page
    assert 'class="card bad"' in page


def test_held_out_images_are_named_only_where_there_are_some(run, tmp_path):
    assert 'dots: held-out ones' in render([run], Pictures())
    plain = read_run(write_work_dir(tmp_path / 'plain'))
    del plain.scalars['knn_offline']
    assert 'held-out' not in render([plain], Pictures())


def test_several_runs_lie_over_each_other(runs):
    page = render(runs, Pictures())
    loss = page[page.index('<h3>Contrastive loss') :].split('</figure>')[0]
    hover = json.loads(re.search(r"data-hover='(.*?)'", loss)[1])
    assert [line['name'] for line in hover['lines']] == ['first', 'slow', 'collapsed']
    assert hover['lines'][1]['x'][-1] == 30.0  # 150 of 200 lines, of 40 epochs
    assert all(f'd{dash}' in loss for dash in (0, 1, 2))  # not by colour alone
    assert page.count('class="card good"') == 2 and page.count('class="card bad"') == 1


def test_what_a_run_brings_is_text_and_never_markup(tmp_path):
    folder = write_work_dir(tmp_path / 'work', state=EVIL)
    part = folder / STAMP
    (part / 'vis_data' / 'events.jsonl').write_text(
        json.dumps(dict(iter=1, kind='state', state=EVIL, message=EVIL, evidence={EVIL: EVIL}, causes=[EVIL])) + '\n'
        + json.dumps(dict(iter=40, kind='spike', message=f"{EVIL}'\"")) + '\n'
    )  # fmt: skip
    (part / f'{STAMP}.log').write_text(f'2026/11/22 12:30:00 - mmengine - WARNING - {EVIL}\n')
    (part / 'vis_data' / 'environment.json').write_text(json.dumps({EVIL: EVIL}))
    config = part / 'vis_data' / 'config.py'
    config.write_text(
        config.read_text().replace('data/imagenet', f'x/{EVIL}').replace("arch='small'", f"arch='{EVIL}'")
    )
    image = tile(np.zeros((8, 8, 3), np.uint8), EVIL, EVIL)
    pictures = Pictures(pairs=[[image]], neighbours=[[image]], notes=[EVIL], classes=[EVIL])
    run = read_run(folder, EVIL)
    page = render([run, run], pictures)
    assert page.count('&lt;img src=x') > 20
    assert '<img src=x' not in page
    assert re.findall(r'data-hover=\'[^\']*<', page) == []


def test_a_page_is_one_file_that_asks_for_nothing(runs, tmp_path):
    image = tile(np.random.default_rng(0).integers(0, 256, (224, 200, 3), dtype=np.uint8), 'noise')
    size = write_report(runs, tmp_path / 'report.html', Pictures(pairs=[[image] * 3] * 8))
    page = (tmp_path / 'report.html').read_text()
    assert size == len(page.encode()) < 5e6
    outside = re.findall(r'(?:src|href)="(?!data:|#)[^"]*"|url\(|https?://|@import', page)
    assert outside == []
    assert [path.name for path in tmp_path.iterdir()] == ['report.html']  # no temporary file is left


def test_a_page_that_would_be_too_large_is_refused_and_the_old_one_stays(run, tmp_path):
    (tmp_path / 'report.html').write_text('old')
    image = tile(np.zeros((8, 8, 3), np.uint8), 'x' * 6_000_000)
    with pytest.raises(ValueError, match='more than 5'):
        write_report([run], tmp_path / 'report.html', Pictures(pairs=[[image]]))
    assert (tmp_path / 'report.html').read_text() == 'old'


def test_images_have_words_and_headings_their_order(run):
    image = tile(np.zeros((8, 8, 3), np.uint8), 'a black square')
    page = render([run], Pictures(pairs=[[image]]))
    assert 'alt="a black square"' in page
    assert page.count('<h1>') == 1
    assert all('alt=' in tag for tag in re.findall('<img [^>]*>', page))
    assert page.count('<svg viewBox') == page.count('role="img" aria-label="') - 1  # the bar has one too


def test_the_first_screen_has_the_pictures_the_meaning_and_the_next_steps(run, tmp_path):
    image = tile(np.zeros((8, 8, 3), np.uint8), 'a black square')
    pictures = Pictures(pairs=[[image] * 3], neighbours=[[image] * 7], attention=[[image] * 14])
    measured = BeforeAfter('On 360 <test> images', [('k-NN', '77.2%', '98.6%')])
    page = render([run], pictures, before_after=measured)
    first = page[: page.index('<h2>')]
    assert headings(first) == ['Augmented pairs', 'Nearest neighbours']
    assert 'Falls from chance towards the floor.' in first
    assert 'On 360 &lt;test&gt; images' in first and '<td>77.2%</td><td>98.6%</td>' in first
    assert 'random weights' not in render([run], pictures)  # where nothing was measured


def test_next_steps_follow_from_how_it_stands(run, tmp_path):
    folder = write_work_dir(tmp_path / 'a run')
    (folder / 'mine.py').write_text((folder / STAMP / 'vis_data' / 'config.py').read_text())
    stopped = read_run(folder)
    stopped.config['train_cfg']['max_epochs'] *= 2
    stopped.config['model']['type'] = 'MoCoV3'
    told = [command for command, _ in next_steps(stopped, judge(stopped), running=False)]
    assert told == [f"mocox train '{folder}/mine.py' --work-dir '{folder}' --resume"]
    assert next_steps(stopped, judge(stopped), running=True) == []
    assert '>Next</h3>' in render([stopped], Pictures())
    stopped.config['train_cfg']['max_epochs'] //= 2
    (folder / 'epoch_40.pth').touch()
    told = [command for command, _ in next_steps(stopped, judge(stopped), running=False)]
    assert told[0] == f"mocox evaluate '{folder}/epoch_40.pth' --data-root DIR" and len(told) == 3
    collapsed = read_run(write_work_dir(tmp_path / 'bad', state='collapsed'))
    (tmp_path / 'bad' / 'mine.py').write_text('')
    collapsed.config['model']['type'] = 'MoCoV3'
    assert next_steps(collapsed, judge(collapsed), False)[0][0] == f'mocox doctor {tmp_path}/bad/mine.py'


@pytest.mark.skipif(not CHROMIUM, reason='needs Chromium')
def test_a_browser_shows_it_on_a_desk_and_on_a_phone_by_day_and_by_night(runs, tmp_path):
    runs[1].name = 'a_name_without_any_space_that_is_much_longer_than_a_phone_is_wide_' * 2
    image = tile(np.zeros((8, 8, 3), np.uint8), 'a black square')
    write_report(runs, tmp_path / 'report.html', Pictures(pairs=[[image] * 3], attention=[[image] * 14]))
    with open_browser() as page:
        for width in (1280, 390):
            for dark in (False, True):
                page.open(tmp_path / 'report.html', width, dark)
                assert page.evaluate('innerWidth') == width
                assert page.evaluate('document.documentElement.scrollWidth') <= width
                assert page.evaluate("document.querySelector('.heads img').clientWidth") >= 60  # of fourteen in a row
                brightness = int(page.evaluate('getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]'))
                assert (brightness < 50) if dark else (brightness > 200)
        page.evaluate("document.querySelector('svg[data-hover]').scrollIntoView()")
        box = page.evaluate("JSON.stringify(document.querySelector('svg[data-hover]').getBoundingClientRect())")
        box = json.loads(box)
        page.move(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
        tip = page.evaluate("document.querySelector('.tip').innerText")
        assert tip.startswith('epoch 1') or tip.startswith('epoch 2')  # about the middle of 40
        assert 'first' in tip and 'collapsed' in tip
        page.screenshot(tmp_path / 'page.png', whole=False)
        assert page.complaints == []
        assert [url for url in page.requests if not url.startswith(('file:', 'data:'))] == []
    with Image.open(tmp_path / 'page.png') as shot:
        assert len(np.unique(np.asarray(shot.convert('RGB')).reshape(-1, 3), axis=0)) > 50
