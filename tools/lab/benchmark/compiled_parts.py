"""The augmentation of a recipe and a block of its transformer, compiled for GPUs that are not there: a table."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lab.benchmark.kernels import GENERATIONS, lower, machine_code, pretended_driver
from lab.benchmark.mocox_contender import read_config
from lab.benchmark.operations import Operations, Rates
from lab.benchmark.pretended import PretendedGPU, flash_attention, run_module
from lab.benchmark.report import table
from mocox.augment.fused import FIRST_WEIGHT, augment_fused, plan_of
from mocox.augment.recipe import View
from mocox.models.compilation import repeated_blocks
from mocox.registry import MODELS

NUM_IMAGES = 64
PARTS = ('view 1', 'view 2', 'block, keys', 'block, queries')


def measure(path: str, part: str, image_size: int = 224, options: dict | None = None) -> dict[str, Any]:
    """Lower a part and compile its kernels. In a process of its own that has no accelerator.

    Args:
        path: Of a config that pre-trains a transformer.
        part: ``view 1`` or ``view 2`` of the augmentation; ``block, keys`` is a block's forward pass, ``block,
            queries`` that and its backward pass, under bfloat16 autocast.
        image_size: Side of a view.
        options: What ``--cfg-options`` gave.

    Returns:
        Numbers of Triton ``kernels``, ``library`` calls and ``eager`` operations, ``megabytes`` and ``eager_megabytes``
        per image, ``seconds`` to lower and compile, and bytes of machine code by generation.
    """
    config = read_config(path, image_size, options)
    model = config.model
    block = (
        repeated_blocks(MODELS.build(dict(model.backbone, _scope_='mocox')))[0] if part.startswith('block') else None
    )
    with tempfile.TemporaryDirectory() as folder, pretended_driver() as gpu, flash_attention():
        os.environ['TORCHINDUCTOR_CACHE_DIR'] = folder
        os.environ['TRITON_CACHE_DIR'] = folder
        if block is None:
            view = View(**config.data_preprocessor.views[int(part[-1]) - 1])
            fn, inputs = _augmentation(view, image_size, gpu)
        else:
            tokens = 1 + (image_size // model.backbone.get('patch_size', 16)) ** 2
            fn, inputs = _block(gpu.move_module(block), tokens, part.endswith('queries'), gpu)
        with Operations(Rates()) as eager:
            fn(*inputs)
        start = time.perf_counter()
        found = lower(fn, inputs, gpu)
        code = {
            f'sm_{generation}': sum(
                len(machine_code(*kernel, generation, Path(folder))) for kernel in found.kernels.items()
            )
            for generation in GENERATIONS
        }
        seconds = time.perf_counter() - start
    return dict(
        kernels=len(found.kernels),
        library=found.library_calls,
        eager=sum(cost.kernels for cost in eager.costs.values()),
        megabytes=found.num_bytes / NUM_IMAGES / 1e6,
        eager_megabytes=sum(cost.num_bytes for cost in eager.costs.values()) / NUM_IMAGES / 1e6,
        seconds=seconds,
        **code,
    )


def _augmentation(view: View, image_size: int, gpu: PretendedGPU) -> tuple[Callable, list[Tensor]]:
    plan = plan_of(view)
    crops = gpu.tensor(NUM_IMAGES, 3, image_size, image_size, dtype=torch.uint8)
    packed = gpu.tensor(NUM_IMAGES, FIRST_WEIGHT + 2 * plan.radius + 1)
    mean, std = gpu.tensor(3, 1, 1), gpu.tensor(3, 1, 1)
    return lambda *tensors: augment_fused(*tensors, plan=plan), [crops, packed, mean, std]


def _block(block: nn.Module, tokens: int, backward: bool, gpu: PretendedGPU) -> tuple[Callable, list[Tensor]]:
    names, weights = zip(*block.named_parameters(), strict=True)
    x = gpu.tensor(NUM_IMAGES, tokens, block.norm1.weight.shape[0])

    def forward(x: Tensor, *weights: Tensor) -> Tensor:
        with torch.autocast('cuda', dtype=torch.bfloat16, cache_enabled=False):
            return functional_call(block, dict(zip(names, weights, strict=True)), (x,))

    def both(grad: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in inputs]
        return torch.autograd.grad(forward(*leaves), leaves, grad)

    if backward:
        return both, [torch.empty_like(x), x, *weights]
    return torch.no_grad()(forward), [x, *weights]


def report(paths: list[str]) -> Iterator[str]:
    """A table for each config."""
    for path in paths:
        rows = []
        for part in PARTS:
            found = json.loads(run_module('lab.benchmark.compiled_parts', json.dumps([path, part])))
            kernels = f'{found["kernels"]} + {found["library"]}'
            megabytes = [f'{found[name]:.2f}' for name in ('eager_megabytes', 'megabytes')]
            sizes = [f'{found[f"sm_{generation}"] / 1024:.0f}' for generation in GENERATIONS]
            rows.append([part, str(found['eager']), kernels, *megabytes, *sizes, f'{found["seconds"]:.0f}'])
        header = ['', 'operations', 'Triton + library kernels', 'MB per image, eager', 'compiled',
                  *(f'sm_{generation}, KiB' for generation in GENERATIONS), 'seconds']  # fmt: skip
        yield f'{path}, {NUM_IMAGES} images at 224 px in bfloat16:\n\n{table(header, rows)}'


if __name__ == '__main__':
    print(json.dumps(measure(*json.loads(sys.argv[1]))))
