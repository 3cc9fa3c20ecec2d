import math

import pytest

from mocox.report.charts import HEIGHT, LEFT, MAX_POINTS, RIGHT, WIDTH, Level, Line, Mark, draw_chart


def test_a_line_lies_between_the_axes():
    chart = draw_chart('t', 'c', [Line('a', [0, 5, 10], [0, 1, 2])], 'epoch', [Level(3, 'chance')], [Mark(5, 'spike')])
    points = [tuple(map(float, part.split())) for part in chart.paths[0]['d'].replace('M', 'L').split('L')[1:]]
    assert [x for x, _ in points] == [LEFT, pytest.approx((LEFT + WIDTH - RIGHT) / 2), WIDTH - RIGHT]
    assert points[0][1] > points[1][1] > points[2][1] > chart.levels[0]['y'] > 0  # SVG's y points down
    assert points[0][1] < HEIGHT
    assert chart.marks[0]['x'] == points[1][0]
    assert [text for _, text in chart.x_ticks] == ['0', '2', '4', '6', '8', '10']
    assert 'last value 2' in chart.summary


def test_what_is_not_finite_is_a_gap_and_nothing_finite_is_no_chart():
    chart = draw_chart('t', 'c', [Line('a', [1, 2, 3, 4], [1, math.nan, 3, math.inf])], 'epoch')
    assert chart.paths[0]['d'].count('M') == 2 and 'nan' not in chart.paths[0]['d']
    assert chart.hover['lines'][0]['y'] == [1.0, None, 3.0, None]
    assert draw_chart('t', 'c', [Line('a', [1], [math.nan])], 'epoch') is None
    assert draw_chart('t', 'c', [], 'epoch') is None


def test_many_points_are_averaged_but_a_spike_is_kept():
    values = [1.0] * 9999
    values[5000] = 1000.0
    line = Line('a', range(9999), values)
    mean = draw_chart('t', 'c', [line], 'epoch').hover['lines'][0]
    assert len(mean['y']) == MAX_POINTS and max(mean['y']) < 100
    assert mean['x'][-1] == 9998
    worst = draw_chart('t', 'c', [line], 'epoch', log=True, worst=True).hover['lines'][0]
    assert max(worst['y']) == 1000


@pytest.mark.parametrize('values', [[2.0, 2.0], [0.0, 0.0], [1e-9, 2e-9], [-5.0, 7e6]])
def test_any_range_has_ticks_inside_it(values):
    chart = draw_chart('t', 'c', [Line('a', [1, 2], values)], 'iteration')
    assert len(chart.y_ticks) >= 2
    assert all(0 <= y <= HEIGHT for y, _ in chart.y_ticks)


def test_a_logarithmic_axis_leaves_out_zero():
    chart = draw_chart('t', 'c', [Line('a', [1, 2, 3], [0.0, 0.01, 100.0])], 'epoch', log=True)
    assert [text for _, text in chart.y_ticks] == ['0.01', '0.1', '1', '10', '100']
    assert chart.hover['lines'][0]['y'][0] is None


def test_a_single_point_is_a_dot_as_a_path_of_one_point_is_not_seen():
    chart = draw_chart('t', 'c', [Line('a', [1, 2], [math.nan, 3]), Line('b', [1, 2], [1, 2])], 'epoch')
    alone, curve = chart.paths
    assert alone['dots'] and alone['points'] == [(WIDTH - RIGHT, chart.paths[0]['points'][0][1])]
    assert not curve['dots'] and curve['points'] == []
    assert [item['dots'] for item in chart.legend] == [True, False]
