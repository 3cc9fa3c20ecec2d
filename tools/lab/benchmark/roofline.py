"""Upper bound of a machine: the rate of a large matrix product, and the operations of a training step."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lab.benchmark.timing import interleave

# Side of the matrices: a GPU needs large ones to reach its rate, a CPU would need minutes for them.
SIDES = {'cuda': 8192, 'cpu': 2048}
NUM_VALUES = 2**26  # of float32, more than any cache holds


def matrix_rate(device: str, dtype: torch.dtype, rounds: int = 5) -> float:
    """Floating point operations per second of a square matrix product of random numbers.

    Args:
        device: ``cpu`` or ``cuda``.
        dtype: That of the training step's matrix products.
        rounds: The fastest of so many counts: a limit is what the machine can do.
    """
    side = SIDES[device]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    repeats = 20 if device == 'cuda' else 1

    def multiply() -> None:
        for _ in range(repeats):
            torch.mm(a, b, out=out)

    seconds = interleave(dict(product=multiply), rounds, device).seconds['product']
    return 2 * side**3 * repeats / min(seconds)


def memory_rate(device: str, rounds: int = 5) -> float:
    """Bytes per second that an in-place update of float32 values by others moves: two reads and a write each.

    That is the traffic of a momentum update, which computes next to nothing.
    """
    keys, queries = (torch.zeros(NUM_VALUES, device=device) for _ in range(2))
    seconds = interleave(dict(lerp=lambda: keys.lerp_(queries, 0.5)), rounds, device).seconds['lerp']
    return 12 * NUM_VALUES / min(seconds)


def step_flops(model: nn.Module, image_shape: tuple[int, int, int]) -> float:
    """Floating point operations per image of one training step: matrix products, convolutions, attention.

    Counted while a copy of the model takes a step with two images. A multiplication with its addition counts 2. What
    ``chunk_size`` computes a second time does not count.

    Args:
        model: Takes two views and has ``mode='loss'``; left as it is.
        image_shape: (3, S, S) of a view.
    """
    batch_size = 2  # BatchNorm needs two
    shadow = deepcopy(model).train()
    shadow.chunk_size = None
    views: list[Tensor] = [torch.randn(batch_size, *image_shape).to(next(model.parameters())) for _ in range(2)]
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        shadow(views, mode='loss')['loss'].backward()
    return counter.get_total_flops() / batch_size
