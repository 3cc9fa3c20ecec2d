"""Profile a step: the most expensive kernels, host syncs, and the idle time of the GPU."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from lab.benchmark.contender import random_views
from lab.benchmark.mocox_contender import read_config
from lab.benchmark.step import Setting, build
from lab.benchmark.timing import time_call
from lab.gpu_day.day import V3_RESNET, VIT_B, VIT_S, Day, Notes, Piece

TOP = 10
# What blocks the host; reading a number back shows as several of them. The profiler itself waits for the device.
SYNCS = ('cudaStreamSynchronize', 'cudaEventSynchronize', 'aten::_local_scalar_dense', 'aten::nonzero')


def pieces(day: Day, stage: str) -> list[Piece]:
    """A piece for each model."""
    rows = [('ViT-S/16, 1024', VIT_S, 1024), ('ViT-B/16, 512', VIT_B, 512), ('ResNet-50, MoCo v3, 512', V3_RESNET, 512)]
    rows = rows[: day.size(3, 1)]
    return [Piece(name, 20, partial(_profile_step, day, config, batch, name)) for name, config, batch in rows]


def _profile_step(day: Day, config: str, batch: int, name: str, notes: Notes) -> dict[str, Any]:
    size = day.size(224, 32)
    setting = Setting(day.size(batch, 4), size, day.device)
    (ours,) = build(read_config(config, size, day.options(config)), setting, with_peer=False)
    views = random_views(setting.batch_size, size, day.device)
    for _ in range(3):
        ours.step(views)
    seconds = min(time_call(lambda: ours.step(views), day.device) for _ in range(3))
    trace = day.out / f'profile-{name.split(",")[0].replace("/", "-")}.json.gz'
    found = profiled(lambda: ours.step(views), day.device, str(trace))
    busy = found['busy_us'] / 1e6 / seconds
    first = found['top'][0]
    text = (
        f'{1e3 * seconds:.1f} ms, device busy {busy:.0%}, {found["kernels"]} kernels, syncs {found["syncs"] or "none"}'
    )
    return found | dict(step_ms=1e3 * seconds, busy=busy, trace=trace.name, text=f'{text}; first: {first["name"][:60]}')


def profiled(run: Callable[[], object], device: str, trace: str | None = None) -> dict[str, Any]:
    """One call under the profiler; see :func:`summarise`."""
    with start_profiler(device) as profiler:
        run()
        if device == 'cuda':
            torch.cuda.synchronize()
    if trace:
        profiler.export_chrome_trace(trace)
    return summarise(profiler, device)


def start_profiler(device: str) -> profile:
    """Of the host and, if it is one, of the GPU."""
    return profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == 'cuda' else [])])


def summarise(profiler: profile, device: str) -> dict[str, Any]:
    """Results of a stopped profiler.

    Returns:
        ``top``: the most expensive kernels (on a CPU: operations) with calls, microseconds and share; ``syncs``: calls
        that block the host, by name; ``kernels``: how many ran; ``busy_us``: microseconds in which one ran.
    """
    on_gpu, events = device == 'cuda', list(profiler.events())
    kernels = [event for event in events if _is_kernel(event)] if on_gpu else events
    spent: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in kernels:
        spent[event.name] += event.time_range.elapsed_us() if on_gpu else event.self_cpu_time_total
        calls[event.name] += 1
    total = sum(spent.values()) or 1
    top = [dict(name=name, calls=calls[name], us=round(us, 1), share=us / total) for name, us in spent.most_common(TOP)]
    syncs = Counter(event.name for event in events if event.name in SYNCS or 'DtoH' in event.name)
    intervals = [(event.time_range.start, event.time_range.end) for event in kernels]
    return dict(top=top, syncs=dict(syncs), kernels=len(kernels), busy_us=union(intervals) if on_gpu else total)


def _is_kernel(event: Any) -> bool:
    """Work on the GPU, copies included; no range that a user or an optimizer has named."""
    named = getattr(event, 'is_user_annotation', False) or event.name.startswith(('Optimizer.', 'ProfilerStep'))
    return event.device_type == DeviceType.CUDA and not named


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """The length that intervals cover together, overlaps once."""
    covered, end = 0.0, float('-inf')
    for start, stop in sorted(intervals):
        covered += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return covered
