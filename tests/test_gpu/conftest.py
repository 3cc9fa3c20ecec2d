"""Every test of this folder runs on a GPU, marked ``gpu``; without one the same body runs on the CPU."""

from collections.abc import Iterator

import pytest
import torch

GPU = torch.cuda.is_available()


@pytest.fixture(params=['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Where to compute, which is where MMEngine does."""
    if request.param == 'cuda' and not GPU:
        pytest.skip('needs a GPU; on the CPU the same test runs')
    if request.param == 'cpu' and GPU:
        pytest.skip('runs on the GPU here')
    return request.param


@pytest.fixture(autouse=True)
def full_float32() -> Iterator[None]:
    """No TF32 unless a test asks for it; what one sets ends with it."""
    backends = torch.backends
    before = backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision('highest')
    yield
    backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])
