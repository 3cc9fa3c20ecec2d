"""Gradient norms by layer, and detection of spikes."""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mocox import dist
from mocox.dtensor import is_sharded, own_parts

FIRST_LAYERS = ('patch_embed', 'conv1', 'stem')  # where the paper's spikes begin


def layer_name(parameter: str, wrapper: str = '') -> str:
    """The layer of a parameter: ``patch_embed``, ``blocks.0``, ``layer1.0``, ..., ``neck``, ``head``.

    Args:
        parameter: Its name in the algorithm.
        wrapper: A part that all names in the backbone begin with and that says nothing.
    """
    part, _, rest = parameter.partition('.')
    if part != 'backbone':
        return part
    first, _, rest = rest.removeprefix(wrapper).partition('.')
    second = rest.partition('.')[0]
    return f'{first}.{second}' if second.isdigit() else first


class LayerNorms:
    """The L2 norm of each layer's gradient, in a few fused kernels.

    Args:
        model: The algorithm; its trainable parameters count.
    """

    def __init__(self, model: nn.Module) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        wrapper = _wrapper([name for name, _ in named])
        layers = [layer_name(name, wrapper) for name, _ in named]
        self.names = sorted(dict.fromkeys(layers), key=_rank)  # a stable sort: otherwise in the order of the model
        self.params = [p for _, p in named]
        self.sharded = any(map(is_sharded, self.params))  # each process then has a part of all
        self.layer_of = [self.names.index(layer) for layer in layers]

    def __call__(self) -> Tensor:
        """Norms (L,) in float32; 0 for a layer without gradients. Squares halve the exponent range of float32."""
        pairs = [(p.grad, layer) for p, layer in zip(self.params, self.layer_of, strict=True) if p.grad is not None]
        if not pairs:
            return torch.zeros(len(self.names), device=self.params[0].device)
        grads, layers = zip(*pairs, strict=True)
        squares = torch.stack(torch._foreach_norm(own_parts(grads))).float().square()
        # A sum in fixed order: index_add_ adds with atomics on a GPU, whose order differs between processes.
        squares = F.pad(squares, (0, 1))[_rows(layers, len(self.names), squares.device)].sum(dim=1)
        return (dist.all_reduce_sum(squares) if self.sharded else squares).sqrt()

    def of_layer(self, layer: str) -> list[nn.Parameter]:
        """The trainable parameters of one layer."""
        index = self.names.index(layer)
        return [p for p, i in zip(self.params, self.layer_of, strict=True) if i == index]

    def scale(self, factors: Tensor) -> None:
        """Multiply each layer's gradient by its factor (L,)."""
        each = factors.unbind()
        pairs = [(p.grad, each[i]) for p, i in zip(self.params, self.layer_of, strict=True) if p.grad is not None]
        if pairs:
            torch._foreach_mul_(own_parts(grad for grad, _ in pairs), [factor.to(grad.dtype) for grad, factor in pairs])


@cache  # copying it to a GPU in every step would cost more than its use
def _rows(layers: tuple[int, ...], num_layers: int, device: torch.device) -> Tensor:
    """Indices of the gradients of each layer (L, most of one layer), padded with the index after the last."""
    places: list[list[int]] = [[] for _ in range(num_layers)]
    for place, layer in enumerate(layers):
        places[layer].append(place)
    width = max(map(len, places))
    return torch.tensor([row + [len(layers)] * (width - len(row)) for row in places], device=device)


def _wrapper(names: list[str]) -> str:
    parts = {name.split('.')[1] for name in names if name.startswith('backbone.')}
    deep = all(name.count('.') > 2 for name in names if name.startswith('backbone.'))
    return f'{parts.pop()}.' if len(parts) == 1 and deep else ''


def _rank(layer: str) -> int:
    order = [*FIRST_LAYERS, None, 'neck', 'head']
    return order.index(layer) if layer in order else order.index(None)


class SpikeDetector:
    """Detect norms far above the recent ones of their layer; plain numbers.

    Source: the gradient spikes of arXiv 2104.02057, figure 4.

    Args:
        num_layers: L.
        factor: A spike exceeds the running median this many times.
        window: Steps that the median is taken over.
        warmup: Steps before the first decision.
    """

    def __init__(self, num_layers: int, factor: float, window: int, warmup: int) -> None:
        self.factor = factor
        self.warmup = warmup
        self.history = np.zeros((window, num_layers), dtype=np.float32)
        self.count = 0  # steps seen

    def medians(self) -> np.ndarray:
        """Running median of each layer (L,); infinite until there are enough steps."""
        if self.count < self.warmup:
            return np.full(self.history.shape[1], np.inf, dtype=np.float32)
        medians = np.median(self.history[: min(self.count, len(self.history))], axis=0)
        return np.where(medians > 0, medians, np.inf).astype(np.float32)

    def append(self, norms: np.ndarray) -> None:
        """Add a step's finite norms (L,), spikes included, so that a lasting rise soon stops counting as one."""
        self.history[self.count % len(self.history)] = norms
        self.count += 1

    def state_dict(self) -> dict:
        """Plain types, for a checkpoint."""
        return dict(count=self.count, history=torch.from_numpy(self.history.copy()))

    def load_state_dict(self, state: dict) -> None:
        """Restore the result of :meth:`state_dict`; a model with other layers starts anew."""
        count, history = state['count'], state['history']
        if (
            type(count) is not int
            or count < 0
            or not isinstance(history, torch.Tensor)
            or history.dtype != torch.float32
        ):
            raise ValueError(
                f'the checkpoint holds count={count!r:.80} and {type(history).__name__} for the norms of layers'
            )
        if tuple(history.shape) == self.history.shape:
            self.count, self.history = count, history.cpu().numpy().copy()
