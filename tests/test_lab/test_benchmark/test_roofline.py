import pytest
import torch

from lab.benchmark import roofline
from lab.benchmark.mocox_contender import Ours, read_config
from tests.test_lab.test_benchmark.tiny import RESNET, TINY_VIT, VIT


def vit_step_flops(width: int, depth: int, hidden: int, out: int, mlp: int, tokens: int, patch: int) -> int:
    """By hand, per image: one view forward is F; queries cost 3 F but for the frozen patches, keys F, for two views."""
    block = 2 * tokens * (4 * width**2 + 2 * mlp * width) + 4 * tokens**2 * width
    patches = 2 * (tokens - 1) * 3 * patch**2 * width
    projector = 2 * (width * hidden + hidden**2 + hidden * out)
    predictor = 4 * out * hidden
    return 2 * (4 * (depth * block + projector) + 2 * patches + 3 * predictor)


def test_flops_of_a_tiny_transformer_are_those_counted_by_hand():
    model = Ours(read_config(VIT, 32, TINY_VIT), 'cpu').model
    model.chunk_size = 1
    before = {name: value.clone() for name, value in model.state_dict().items()}
    counted = roofline.step_flops(model, (3, 32, 32))
    similarities = 2 * 2 * 16 * 2 * 2  # of 2 queries with 2 keys in both directions, and their gradient of the queries
    by_hand = vit_step_flops(width=32, depth=2, hidden=32, out=16, mlp=64, tokens=17, patch=8)
    assert counted == pytest.approx(by_hand + similarities, rel=0.002)
    assert model.chunk_size == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(('config', 'gflops'), [(VIT, 73.4), (RESNET, 65.1)])
def test_flops_at_224_px(config, gflops):
    model = Ours(read_config(config, 224), 'cpu').model
    assert roofline.step_flops(model, (3, 224, 224)) == pytest.approx(gflops * 1e9, rel=0.001)


def test_the_rates_are_of_this_machine():
    assert 1e8 < roofline.matrix_rate('cpu', torch.float32, rounds=1) < 1e15
    assert 1e7 < roofline.memory_rate('cpu', rounds=1) < 1e14
