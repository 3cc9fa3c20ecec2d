import pytest
import torch
from torch import nn

from lab.benchmark.mocox_contender import read_config
from lab.benchmark.operations import MATRIX, NORM, OPTIMIZER, REST, Operations, Rates, count_step, report
from lab.benchmark.roofline import step_flops
from mocox.registry import MODELS
from tests.test_lab.test_benchmark.tiny import TINY_VIT, VIT

RATES = Rates(matrix=1e9, memory=1e9, launch=1e-6)


def test_an_operation_is_as_slow_as_its_slowest_part():
    """A product of 10 x 20 and 20 x 30 by its arithmetic, a sum of 1,000 by its bytes, one of 10 by its launch."""
    a, b, many, few = torch.ones(10, 20), torch.ones(20, 30), torch.ones(1000), torch.ones(10)
    with Operations(RATES) as counted:
        a @ b.T.T  # views are not kernels
        many + 1
        few + 1
    product, rest = counted.costs[MATRIX], counted.costs[REST]
    assert (product.kernels, product.flops) == (1, 2 * 10 * 20 * 30)
    assert product.num_bytes == 4 * (10 * 20 + 20 * 30 + 10 * 30)
    assert product.matrix_s == pytest.approx(12e-6) and product.memory_s == product.launch_s == 0
    assert (rest.kernels, rest.num_bytes) == (2, 4 * 2 * (1000 + 10))
    assert rest.memory_s == pytest.approx(8e-6) and rest.launch_s == pytest.approx(1e-6)
    assert set(counted.costs) == {MATRIX, REST}


def test_a_step_has_the_arithmetic_of_one_that_is_computed():
    """Counted with values in float32 by another counter; heads, both encoders and attention are in it."""
    config = read_config(VIT, 32, TINY_VIT)
    costs = count_step(config, 4, 32, RATES)
    model: nn.Module = MODELS.build(config.model)
    assert sum(cost.flops for cost in costs.values()) == pytest.approx(4 * step_flops(model, (3, 32, 32)), rel=0.02)
    assert costs[OPTIMIZER].kernels == 3  # counts of steps, fused AdamW, and the lerp of the momentum update
    text = report('tiny', costs, 4)
    assert '(computed)' in text and NORM in text
