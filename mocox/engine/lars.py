"""LARS as MoCo v3 uses it."""

from typing import Any

import torch
from torch.optim import Optimizer

from mocox.dtensor import own_parts
from mocox.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class LARS(Optimizer):
    """Layer-wise adaptive rate scaling.

    For a parameter p of two or more dimensions with gradient g::

        g <- g + weight_decay * p
        g <- trust_coefficient * |p| / |g| * g      (left alone where either norm is 0)
        mu <- momentum * mu + g
        p <- p - lr * mu

    Parameters of one dimension (biases, normalisation) skip the first two lines. Source: arXiv 1708.03888 with the
    choices of arXiv 2104.02057 (ResNet): the decay is inside the norm, the learning rate outside the momentum. Runs on
    whole lists of tensors on a GPU, and never reads a value back to the host.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate, not negative.
        momentum: Weight of the old momentum buffer, in [0, 1).
        weight_decay: L2 coefficient, not negative.
        trust_coefficient: Factor of the layer-wise rate.

    Raises:
        ValueError: A value out of its range.
    """

    found_inf: torch.Tensor | None = None  # where it is 1, a step changes nothing; the host does not read it

    def __init__(
        self, params, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, trust_coefficient: float = 0.001
    ) -> None:
        if lr < 0 or weight_decay < 0 or trust_coefficient <= 0 or not 0 <= momentum < 1:
            raise ValueError(
                f'lr={lr}, momentum={momentum}, weight_decay={weight_decay}, trust_coefficient={trust_coefficient}: '
                'need lr >= 0, 0 <= momentum < 1, weight_decay >= 0, trust_coefficient > 0'
            )
        super().__init__(
            params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, trust_coefficient=trust_coefficient)
        )

    @torch.no_grad()
    def step(self, closure=None):
        """Update all parameters that have a gradient; a closure, if given, recomputes the loss first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group['params'] if p.grad is not None]
            on_cpu = bool(params) and params[0].device.type == 'cpu'  # there a tensor then stays in the cache
            for together in [[p] for p in params] if on_cpu else [params]:
                self._update(together, group)
        return loss

    def _update(self, params: list[torch.Tensor], group: dict[str, Any]) -> None:
        if not params:
            return
        matrices = [p for p in params if p.ndim > 1]
        vectors = [p for p in params if p.ndim <= 1]
        updates = _scaled_gradients(matrices, group['weight_decay'], group['trust_coefficient'])
        updates += [p.grad for p in vectors if p.grad is not None]
        buffers = [self._buffer(p) for p in matrices + vectors]
        if self.found_inf is None:
            torch._foreach_mul_(buffers, group['momentum'])
            torch._foreach_add_(buffers, updates)
            steps = buffers
        else:
            moved: Any = torch._foreach_mul(buffers, group['momentum'])
            torch._foreach_add_(moved, updates)
            left_out = self.found_inf > 0
            steps = [torch.where(left_out, 0.0, new) for new in moved]
            moved = [torch.where(left_out, old, new) for old, new in zip(buffers, moved, strict=True)]
            torch._foreach_copy_(own_parts(buffers), own_parts(moved))
        torch._foreach_add_(matrices + vectors, steps, alpha=-group['lr'])

    def _buffer(self, p: torch.Tensor) -> torch.Tensor:
        state = self.state[p]
        if 'mu' not in state:
            state['mu'] = torch.zeros_like(p)
        return state['mu']


def _scaled_gradients(params: list[torch.Tensor], weight_decay: float, trust: float) -> list[torch.Tensor]:
    """Decayed gradients times ``trust * |p| / |g|``, as new tensors."""
    if not params:
        return []
    grads = [p.grad for p in params if p.grad is not None]
    updates = torch._foreach_add(grads, params, alpha=weight_decay)
    param_norms = torch.stack(torch._foreach_norm(params))
    update_norms = torch.stack(torch._foreach_norm(updates))
    defined = (param_norms > 0) & (update_norms > 0)
    ratios = torch.where(defined, trust * param_norms / update_norms, 1.0)
    torch._foreach_mul_(updates, list(ratios.unbind()))
    return list(updates)
