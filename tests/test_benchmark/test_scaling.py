import json

import pytest

from mocox.benchmark.run import run
from tests.test_benchmark.tiny import TINY_VIT, VIT


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_against_one(tmp_path):
    out = tmp_path / 'scaling.json'
    run('scaling', None, VIT, TINY_VIT, 4, 32, 'cpu', rounds=1, threads=1, json=str(out))
    result = json.loads(out.read_text())
    details = result['details']
    assert result['ratio'] == result['share_of_limit'] > 0
    assert result['ours'] > 0 and details['images_per_second_of_one_alone'] > 0
    counted = details['bytes_per_step']
    # Keys are all that is gathered; all-reduced are gradients, BatchNorm's sums and the logged loss.
    assert sum(size for name, size in counted.items() if 'gather' in name) == details['key_bytes'] == 2 * 4 * 16 * 4
    assert details['gradient_bytes'] < counted['allreduce'] < 1.1 * details['gradient_bytes']


@pytest.mark.parametrize(
    ('arguments', 'message'), [((1,), '--processes 1'), ((2, 'mmpretrain'), 'leave --against out')]
)
def test_mistakes(arguments, message):
    processes, *against = arguments
    with pytest.raises(ValueError, match=message):
        run('scaling', *(against or [None]), VIT, TINY_VIT, 4, 32, 'cpu', processes=processes)
