"""A GPU that is not there: tensors with a device and a shape but no numbers.

Two ways, for what each can see. On pretended CUDA tensors (``FakeTensorMode``) a forward pass, an optimizer or a metric
runs as it would there: mixing devices raises, and so does reading a number back, for which the host would wait. Their
backward pass needs a real driver. On meta tensors the backward pass runs too; :class:`OneDevice` looks at each of its
operations instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

INDEXING = ('aten.index', 'aten._index_put')  # their indices may come from the host
COPYING = ('aten._to_copy', 'aten.copy_', 'aten._foreach_copy')  # from the host to the device


class PretendedGPU:
    """Makes tensors and modules on a CUDA device that is pretended."""

    def __init__(self) -> None:
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)

    def tensor(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.move(torch.empty(shape, dtype=dtype, device='meta'))

    def move(self, x: Tensor) -> Tensor:
        return FakeTensor(self.mode, x.detach().to('meta'), torch.device('cuda'))

    def move_module(self, module: nn.Module) -> nn.Module:
        """Replaces parameters and buffers in place, shared ones by shared ones."""
        moved: dict[int, Tensor] = {}
        for part in module.modules():
            for values in (part._parameters, part._buffers):
                for name, value in values.items():
                    if value is None:
                        continue
                    if id(value) not in moved:
                        fake = self.move(value)
                        is_parameter = isinstance(value, nn.Parameter)
                        moved[id(value)] = nn.Parameter(fake, value.requires_grad) if is_parameter else fake
                    values[name] = moved[id(value)]
        return module


@contextmanager
def pretended_gpu() -> Iterator[PretendedGPU]:
    """In this context tensors can be made on ``cuda``; nothing is ever started there."""
    gpu = PretendedGPU()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, '_lazy_init', lambda: None)
        patch.setattr(torch.cuda.amp.common, 'amp_definitely_not_available', lambda: False)  # else autocast is off
        patch.setattr(torch.cuda, 'is_bf16_supported', lambda *args, **kwargs: True)
        with gpu.mode:
            yield gpu


@contextmanager
def meta_device() -> Iterator[None]:
    """Forward and backward passes on meta tensors; autocast, which has no such device, is left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, 'autocast', lambda *args, **kwargs: nullcontext())
        with OneDevice():
            yield


class OneDevice(TorchDispatchMode):
    """Raises where an operation takes tensors of the host beside meta tensors, numbers and indices aside."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = str(func)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        kinds = {x.device.type for x in tensors if x.ndim or x.is_meta}
        if len(kinds) > 1 and not name.startswith(INDEXING + COPYING):
            raise RuntimeError(f'{name} mixes tensors of {sorted(kinds)}')
        return func(*args, **kwargs or {})
