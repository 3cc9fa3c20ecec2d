"""A training step operation by operation, computed: how long each kind would take on a GPU at stated rates.

The step is dispatched with tensors that have shapes and no values, under the autocast of a CPU, which casts what that
of a GPU casts; nothing is computed and no GPU is needed. An operation takes the longest of its arithmetic at the rate
of matrix products, its tensors at the rate of memory, each read or written once, and the launch of a kernel. What a
compiler fuses, what overlaps, and what a cache holds is not known here.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from lab.benchmark.mocox_contender import read_config
from lab.benchmark.report import table
from mocox.registry import MODELS

MATRIX, ATTENTION, CONVOLUTION, NORM = 'matrix products', 'attention', 'convolutions', 'norms'
CASTS, OPTIMIZER, REST = 'casts and copies', 'optimizer and momentum', 'elementwise and reductions'
KINDS = {  # by a part of the operation's name, the first that fits
    'attention': ATTENTION, 'convolution': CONVOLUTION, 'mm': MATRIX, 'norm_backward': NORM, 'layer_norm': NORM,
    'batch_norm': NORM, 'fused_adam': OPTIMIZER, 'foreach': OPTIMIZER, '_to_copy': CASTS, 'copy_': CASTS,
    'clone': CASTS,
}  # fmt: skip
NO_KERNEL = ('prim.', 'aten._unsafe_view', 'aten.empty', 'aten.new_empty', 'aten.lift_fresh', 'aten._reshape_alias')


@dataclass(frozen=True)
class Rates:
    """Rates of a GPU; the defaults are 80 % of an H200's data sheet, and the launch of a kernel.

    Args:
        matrix: Operations per second of bfloat16 matrix products.
        memory: Bytes per second.
        launch: Seconds from one kernel to the next, at least.
    """

    matrix: float = 0.8 * 989e12
    memory: float = 0.8 * 4.8e12
    launch: float = 4e-6


@dataclass
class Cost:
    """Of all operations of a kind in a step: kernels, arithmetic, bytes, and seconds by what limits them."""

    kernels: int = 0
    flops: float = 0.0
    num_bytes: float = 0.0
    matrix_s: float = 0.0
    memory_s: float = 0.0
    launch_s: float = 0.0

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.matrix_s + self.memory_s + self.launch_s

    def add(self, flops: float, num_bytes: float, rates: Rates) -> None:
        """One more operation, which is as slow as its slowest part."""
        self.kernels, self.flops, self.num_bytes = self.kernels + 1, self.flops + flops, self.num_bytes + num_bytes
        parts = dict(matrix_s=flops / rates.matrix, memory_s=num_bytes / rates.memory, launch_s=rates.launch)
        slowest = max(parts, key=lambda name: parts[name])
        setattr(self, slowest, getattr(self, slowest) + parts[slowest])


class Operations(TorchDispatchMode):
    """While it is active, counts what is dispatched, by kind."""

    def __init__(self, rates: Rates) -> None:
        super().__init__()
        self.rates, self.costs = rates, defaultdict[str, Cost](Cost)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func)
        if not func.is_view and not name.startswith(NO_KERNEL):
            flops = _flops(func, args, kwargs or {}, out)
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
            num_bytes = sum(x.numel() * x.element_size() for x in tensors)
            kind = next((kind for part, kind in KINDS.items() if part in name), REST)
            self.costs[kind].add(flops, num_bytes, self.rates)
        return out


def _flops(func: Any, args: tuple, kwargs: dict, out: Any) -> float:
    count = flop_registry.get(func.overloadpacket)
    if count:
        return count(*args, **kwargs, out_val=out)
    if 'flash_attention_for_cpu' not in str(func):  # which torch does not count, unlike that of a GPU
        return 0
    backward = 'backward' in str(func)
    *batch, tokens, width = args[1 if backward else 0].shape
    products = 5 if backward else 2  # of a matrix of attention, which the backward pass computes once more
    return products * 2 * prod(batch) * tokens**2 * width


def count_step(config: Config, batch_size: int, image_size: int, rates: Rates) -> dict[str, Cost]:
    """The costs of a step in bfloat16, from views on the device to the update of the momentum encoder.

    Args:
        config: Of a pre-training, see :func:`lab.benchmark.mocox_contender.read_config`.
        batch_size: Images.
        image_size: Side of a view.
        rates: Of the GPU.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with DefaultScope.overwrite_default_scope('mocox'):
        model = MODELS.build(dict(config.model, data_preprocessor=None)).train()
        with mode:
            replace_tensors(model, lambda x: FakeTensor(mode, x.detach().to('meta'), torch.device('cpu')))
            wrapper = build_optim_wrapper(model, dict(config.optim_wrapper, type='mocox.AmpOptimWrapper'))
            views = [torch.empty(batch_size, 3, image_size, image_size) for _ in range(2)]
            _step(model, wrapper, views)  # makes the moments
            with Operations(rates) as counted:
                _step(model, wrapper, views)
    return dict(sorted(counted.costs.items(), key=lambda item: -item[1].seconds))


def _step(model: nn.Module, wrapper: Any, views: list[Tensor]) -> None:
    model.update_momentum_encoder()
    model.train_step(dict(inputs=views), wrapper)


def replace_tensors(module: nn.Module, fake: Callable[[Tensor], Tensor]) -> None:
    """Replace parameters and buffers in place, shared ones by shared ones.

    Args:
        module: Gets the new tensors.
        fake: Makes a tensor that stands for the given one.
    """
    made: dict[int, Tensor] = {}
    for part in module.modules():
        for values in (part._parameters, part._buffers):
            for name, value in values.items():
                if value is None:
                    continue
                if id(value) not in made:
                    tensor = fake(value)
                    is_parameter = isinstance(value, nn.Parameter)
                    made[id(value)] = nn.Parameter(tensor, value.requires_grad) if is_parameter else tensor
                values[name] = made[id(value)]


def report_steps(configs: list[str], batch_size: int, image_size: int = 224) -> str:
    """A table for each config."""
    parts = []
    for path in configs:
        costs = count_step(read_config(path, image_size), batch_size, image_size, Rates())
        parts.append(report(path, costs, batch_size))
    return '\n\n'.join(parts)


def report(name: str, costs: dict[str, Cost], batch_size: int) -> str:
    """A table."""
    total = sum(cost.seconds for cost in costs.values())
    rows = [
        [kind, str(cost.kernels), f'{cost.flops / 1e12:.2f}', f'{cost.num_bytes / 1e9:.1f}',
         *(f'{1e3 * part:.2f}' for part in (cost.matrix_s, cost.memory_s, cost.launch_s)),
         f'{cost.seconds / total:.0%}']
        for kind, cost in costs.items()
    ]  # fmt: skip
    header = ['operations', 'kernels', 'TFLOP', 'GB', 'ms by arithmetic', 'by memory', 'by launches', 'share']
    title = f'{name}, {batch_size} images: {1e3 * total:.1f} ms, {batch_size / total:.0f} images/s (computed)'
    return f'{title}\n\n{table(header, rows)}'
