"""What ``torch.compile`` would make of a function on a GPU that is not there: kernels, their bytes, their machine code.

Inductor lowers a trace of pretended CUDA tensors; what it and Triton ask a driver is answered with an H200's
properties. Triton's own compiler, with the ``ptxas`` that it ships, then compiles each kernel for a named generation of
GPUs. Nothing runs, and no block size is tuned. Triton keeps what it is told: use a process of its own.
"""

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from lab.benchmark.pretended import PretendedGPU, pretended_gpu

SOURCE = re.compile(r"(\w+) = async_compile\.triton\('\w+', '''(.*?)''', device_str", re.DOTALL)
LIBRARY = re.compile(r'extern_kernels\.\w+\(|torch\.ops\.aten\.\w+\.\w+\(')
GENERATIONS = (80, 90)  # A100; H100 and H200
WARP = 32
DEVICE = dict(
    multi_processor_count=132, major=9, regs_per_multiprocessor=65536, max_threads_per_multi_processor=2048,
    max_threads_per_block=1024, warp_size=WARP,
)  # fmt: skip
H200 = SimpleNamespace(
    **DEVICE, minor=0, name='NVIDIA H200', total_memory=141 * 2**30, L2_cache_size=50 * 2**20,
    shared_memory_per_block=49152, shared_memory_per_block_optin=232448,
)  # fmt: skip


@dataclass
class Lowered:
    """What a function became.

    Args:
        kernels: Names and sources of Triton kernels.
        library_calls: Matrix products, attention and other kernels that are not generated.
        num_bytes: Read or written by all of them, each buffer once for each kernel.
    """

    kernels: dict[str, str]
    library_calls: int
    num_bytes: int


@contextmanager
def pretended_driver() -> Iterator[PretendedGPU]:
    """In this context Inductor finds an H200; nothing is ever started there."""
    from torch._inductor.runtime.hints import DeviceProperties
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.driver import CudaDriver

    answers: list[tuple[Any, str, Any]] = [
        (torch.cuda, 'current_device', 0),
        (torch.cuda, 'device_count', 1),
        (torch.cuda, 'is_available', True),
        (torch.cuda, 'get_device_properties', H200),
        (torch.cuda, 'get_device_capability', (9, 0)),
        (torch._subclasses.fake_tensor, 'init_gpu_context', None),
        (DeviceProperties, 'create', DeviceProperties(type='cuda', index=0, cc=90, **DEVICE)),
        (CudaDriver, '__init__', None),
        (CudaDriver, 'is_active', True),
        (CudaDriver, 'get_current_target', GPUTarget('cuda', 90, WARP)),
    ]
    with pretended_gpu() as gpu, ExitStack() as stack:  # torch guards no device of a GPU that it does not see at first
        for owner, name, answer in answers:
            stack.enter_context(mock.patch.object(owner, name, return_value=answer))
        yield gpu


def lower(fn: Callable, inputs: list[Tensor], gpu: PretendedGPU) -> Lowered:
    """Trace ``fn(*inputs)`` and lower it; a backward pass in it needs a process without accelerator."""
    from torch._inductor.debug import DebugContext
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V

    graph = make_fx(fn, decomposition_table=select_decomp_table())(*inputs)
    graph.graph.eliminate_dead_code()
    lowering = GraphLowering(graph, example_inputs=inputs, is_inference=True)
    with V.set_fake_mode(gpu.mode), V.set_debug_handler(DebugContext()), V.set_graph_handler(lowering):
        lowering.run(*inputs)
        code: Any = lowering.codegen()[0]
        num_bytes = lowering.count_bytes()[0]
    text = getattr(code, 'value', code)
    body = SOURCE.sub('', text)
    return Lowered(dict(SOURCE.findall(text)), len(LIBRARY.findall(body)), num_bytes)


def machine_code(name: str, source: str, generation: int, folder: Path) -> bytes:
    """Compile a kernel with the first of its block sizes.

    Args:
        name: Of the kernel.
        source: Of a module that defines it; see :class:`Lowered`.
        generation: 80 for sm_80, and so on.
        folder: Gets the source, which Triton reads from a file.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    path = folder / f'{name}_{generation}.py'
    path.write_text(source)
    spec: Any = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    kernel: Any = getattr(module, name)
    block, meta = kernel.configs[0], kernel.triton_meta
    parts = ASTSource(kernel.fn, meta['signature'], meta['constants'] | block.kwargs, meta['configs'][0])
    options = dict(num_warps=block.num_warps, num_stages=block.num_stages)
    return triton.compile(parts, target=GPUTarget('cuda', generation, WARP), options=options).asm['cubin']
