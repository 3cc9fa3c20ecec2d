"""The forecast against sums by hand."""

import pytest

from lab.benchmark.forecast import Assumptions, Size, count, forecast
from tests.support.tiny_run import run_tool
from tests.test_configs.shipped import ROOT

EASY = Assumptions(
    peak_flops=1e12, utilisation=0.5, node_rate=1e9, network_rate=1e8, node_latency_s=0.0, network_latency_s=0.001,
    core_rate=10.0,
)  # fmt: skip
SIZE = Size(flops=1e9, trained=1_000_000, weights=3_000_000, sharded=500_000)


def test_one_node():
    step = forecast(SIZE, 8, 4096, EASY)
    assert step.images == 512
    assert step.compute_s == pytest.approx(512 * 1e9 / 0.5e12)
    assert step.gradients_s == pytest.approx(2 * 7 / 8 * 4e6 / 1e9)
    assert step.exposed_s == 0  # hidden in the backward pass
    assert step.keys_s == pytest.approx(7 / 8 * 4096 * 2 * 256 * 4 / 1e9)
    assert step.cores == pytest.approx(512 / step.seconds / 10)
    assert step.limit(EASY) == 'decoding of images'


def test_many_nodes_wait_for_gradients_and_batch_norm():
    step = forecast(SIZE, 1024, 4096, EASY)
    assert step.images == 4
    assert step.exposed_s == pytest.approx(2 * 1023 / 1024 * 4e6 / 1e8 - step.compute_s / 2)
    assert step.batch_norm_s == pytest.approx(0.026)
    sharded = forecast(SIZE, 1024, 4096, EASY, sharded=True)
    assert sharded.gradients_s == pytest.approx(1023 / 1024 * (6 * 0.5e6 + 4e6) / 1e8)
    fast = Assumptions(**{**vars(EASY), 'core_rate': 1e9})
    assert forecast(SIZE, 1024, 4096, fast).limit(fast) == 'keys'
    quiet = Assumptions(**{**vars(fast), 'network_rate': 1e15})
    assert forecast(SIZE, 1024, 4096, quiet).limit(quiet) == 'SyncBN'
    assert forecast(SIZE, 8, 4096, fast).limit(fast) == 'GPU'


def test_counts():
    """ViT-B has 85.8 M weights (arXiv 2010.11929, table 1: 86 M), and a step is 4 forward passes of 2 views."""
    size = count(str(ROOT / 'configs/mocov3/vit-base.py'))
    blocks = 12 * (12 * 768**2 + 13 * 768)
    assert size.sharded == blocks
    projector = 768 * 4096 + 4096**2 + 4096 * 256 + 4 * 4096
    predictor = 256 * 4096 + 4096 * 256 + 2 * 4096
    assert size.trained == blocks + 3 * 768 + projector + predictor  # class token and last norm
    frozen = 768 * 769 + 197 * 768
    assert size.weights == 2 * (blocks + 3 * 768 + frozen + projector) + predictor
    assert size.flops == pytest.approx(8 * 35.1e9, rel=0.01)
    assert size.checkpoint_bytes == 4 * (size.weights + 2 * size.trained)


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('forecast.py', ['--memory', '--kernels'], 'not allowed with'),
        ('forecast.py', ['--chunk-sizes', '64'], 'read with --memory only'),
        ('quality.py', ['--data-root', 'x', '--out', 'x', '--maps', 'x', '--sweep', 'batch'], 'not allowed with'),
    ],
)
def test_arguments_of_which_one_would_be_ignored(tool, arguments, message, capsys):
    with pytest.raises(SystemExit, match='2'):
        run_tool(tool, *arguments)
    assert message in capsys.readouterr().err
