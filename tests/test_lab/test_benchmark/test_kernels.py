"""Kernels that Inductor makes for a GPU that is not there, and Triton compiles for two generations of them."""

import json
from importlib.util import find_spec

import pytest

from lab.benchmark import compiled_parts
from lab.benchmark.pretended import no_accelerator_library, run_module
from tests.test_lab.test_benchmark.tiny import VIT

SIDE = 32
VIEWS = [dict(), dict(flip_prob=0.5, solarize_prob=0.5)]


@pytest.mark.slow  # a process of its own, since Triton keeps what it is told of its driver
@pytest.mark.skipif(not find_spec('triton') or no_accelerator_library() is None, reason='needs Triton and a C compiler')
def test_flip_solarisation_and_normalisation_are_one_kernel():
    """It reads a byte for a value and writes four; three numbers of each image and the normalisation beside it."""
    arguments = [VIT, 'view 2', SIDE, {'data_preprocessor.views': VIEWS}]
    found = json.loads(run_module('lab.benchmark.compiled_parts', json.dumps(arguments)))
    assert (found['kernels'], found['library']) == (1, 0)
    assert found['megabytes'] * 1e6 == pytest.approx(3 * SIDE**2 * (1 + 4), rel=0.01)
    assert found['eager_megabytes'] > 3 * found['megabytes']
    assert found['sm_80'] > 1000 and found['sm_90'] > 1000


def test_the_table(monkeypatch):
    found = dict(
        kernels=10, library=5, eager=20, megabytes=6.4, eager_megabytes=8.1, seconds=17, sm_80=2048, sm_90=4096
    )
    monkeypatch.setattr(compiled_parts, 'run_module', lambda *args: json.dumps(found))
    (table,) = compiled_parts.report([VIT])
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in table.splitlines()[-4:]]
    assert rows == [[part, '20', '10 + 5', '8.10', '6.40', '2', '4', '17'] for part in compiled_parts.PARTS]
