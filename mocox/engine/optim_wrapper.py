"""Mixed precision that also works on a CPU, with a gradient scaler only where one is needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mocox.registry import OPTIM_WRAPPERS

DTYPES = {'bfloat16': torch.bfloat16, 'float16': torch.float16}


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(OptimWrapper):
    """Run the forward pass under autocast.

    bfloat16 has the exponent of float32 and needs nothing else. The small exponent of float16 needs the loss scaled,
    which is done here as in MMEngine's class of the same name, and it is for GPUs only.

    Args:
        dtype: ``'bfloat16'`` or ``'float16'``.
        kwargs: See ``mmengine.optim.OptimWrapper``.

    Raises:
        ValueError: Another dtype, or float16 without a GPU.
    """

    def __init__(self, dtype: str = 'bfloat16', **kwargs: Any) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"optim_wrapper.dtype is {dtype!r}, but must be 'bfloat16' or 'float16'")
        self.device_type = get_device().split(':')[0]
        if dtype == 'float16' and self.device_type == 'cpu':
            raise ValueError("optim_wrapper.dtype='float16' needs a GPU: use 'bfloat16' on the CPU")
        super().__init__(**kwargs)
        self.dtype = DTYPES[dtype]
        # Disabled, it passes everything through and has an empty state.
        self.loss_scaler = torch.amp.GradScaler(self.device_type, enabled=dtype == 'float16')
        if self.loss_scaler.is_enabled():
            fill_momentum_buffers(self.optimizer)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, in addition to what the parent does for gradient accumulation."""
        with super().optim_context(model), torch.autocast(self.device_type, dtype=self.dtype):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Back-propagate the scaled loss."""
        super().backward(self.loss_scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Update the parameters, unless a float16 gradient overflowed."""
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()

    def state_dict(self) -> dict:
        """Return the optimizer's state, and the scaler's where there is one."""
        state = super().state_dict()
        if self.loss_scaler.is_enabled():
            state['loss_scaler'] = self.loss_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a result of :meth:`state_dict`, of a run with or without a scaler."""
        state_dict = dict(state_dict)
        scaler_state = state_dict.pop('loss_scaler', None)
        if scaler_state and self.loss_scaler.is_enabled():
            self.loss_scaler.load_state_dict(scaler_state)
        super().load_state_dict(state_dict)


def fill_momentum_buffers(optimizer: torch.optim.Optimizer) -> bool:
    """Give a fused SGD its momentum buffers, of zeros, before its first step.

    torch allocates them in that step without a value, and its kernel fills them unless the step is left out by
    ``found_inf``: they would keep whatever the memory held. From zeros the first step is the same,
    ``0 * momentum + grad``.

    Returns:
        Whether a first step may be left out: not with ``dampening``, which torch does not apply to the first gradient.
    """
    safe = True
    for group in optimizer.param_groups:
        if not (isinstance(optimizer, torch.optim.SGD) and group.get('fused') and group['momentum']):
            continue
        if group['dampening']:
            safe = False
            continue
        for parameter in group['params']:
            state = optimizer.state[parameter]
            if state.get('momentum_buffer') is None:
                state['momentum_buffer'] = torch.zeros_like(parameter)
    return safe
