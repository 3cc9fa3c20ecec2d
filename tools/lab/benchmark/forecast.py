"""Forecast pre-training on many GPUs: computed, not measured, from counted operations and assumptions."""

import warnings
from dataclasses import dataclass
from functools import cache
from math import ceil

import torch
from mmengine.registry import DefaultScope
from torch._subclasses.fake_tensor import FakeTensorMode

from lab.benchmark.report import table
from lab.benchmark.roofline import step_flops
from mocox.configs import open_config
from mocox.models.fully_shard import blocks
from mocox.registry import MODELS

FLOAT, HALF = 4, 2  # bytes
KEY_WIDTH = 256
BATCH_NORMS = (
    26  # collectives of SyncBN in a step: 16 forward (3 + 3 of projectors, 2 of the predictor, 2 views), 10 back
)


@dataclass
class Assumptions:
    """Change any of them; none is a measurement of this code on GPUs.

    Args:
        peak_flops: Dense bfloat16 rate of a GPU, per second (H100, H200: the data sheet's).
        utilisation: Share of it that a step reaches, in [0, 1].
        node_gpus: GPUs per machine.
        node_rate: Bytes per second that a collective moves per GPU within a machine.
        network_rate: The same between machines (400 Gbit/s per GPU, 80 % of it).
        node_latency_s: Of a small collective within a machine.
        network_latency_s: Of one between machines.
        image_bytes: Mean size of a file (ImageNet).
        core_rate: Images per second that one core decodes and crops twice (measured: 438 on one Zen 3 core, less the
            transport to the main process).
        cores_per_gpu: Of the machine.
        disk_rate: Bytes per second at which a checkpoint is written.
    """

    peak_flops: float = 989e12
    utilisation: float = 0.35
    node_gpus: int = 8
    node_rate: float = 300e9
    network_rate: float = 40e9
    node_latency_s: float = 30e-6
    network_latency_s: float = 60e-6
    image_bytes: float = 110e3
    core_rate: float = 371.0
    cores_per_gpu: int = 12
    disk_rate: float = 2e9


@dataclass
class Size:
    """Counts of a model.

    Args:
        flops: Per image of a training step.
        trained: Weights that are trained.
        weights: All weights, momentum encoder included.
        sharded: Weights of the blocks of one backbone, which FSDP gathers.
    """

    flops: float
    trained: int
    weights: int
    sharded: int

    @property
    def checkpoint_bytes(self) -> int:
        """Weights and AdamW's two moments."""
        return FLOAT * (self.weights + 2 * self.trained)


@dataclass
class Step:
    """Seconds and bytes of one step on one of many GPUs."""

    images: int
    compute_s: float
    gradients_s: float
    exposed_s: float
    keys_s: float
    batch_norm_s: float
    cores: float

    @property
    def seconds(self) -> float:
        """Computation and the communication that does not overlap with it."""
        return self.compute_s + self.exposed_s + self.keys_s + self.batch_norm_s

    def limit(self, assumed: Assumptions) -> str:
        """The bottleneck."""
        if self.cores > assumed.cores_per_gpu:
            return 'decoding of images'
        waits = {'gradients': self.exposed_s, 'SyncBN': self.batch_norm_s, 'keys': self.keys_s}
        name, seconds = max(waits.items(), key=lambda item: item[1])
        return name if seconds > 0.1 * self.compute_s else 'GPU'


@cache
def count(config: str) -> Size:
    """Counts the model of a config, with tensors that have shapes and no values: nothing is computed."""
    cfg = open_config(config)
    with DefaultScope.overwrite_default_scope('mocox'), torch.device('meta'):
        model = MODELS.build(cfg.model.to_dict())
    parameters = list(model.parameters())
    warnings.filterwarnings('ignore', 'Accessing the data pointer of FakeTensor')  # torch's own __deepcopy__ does
    with FakeTensorMode(allow_non_fake_inputs=True):  # autocast knows no meta device
        flops = step_flops(model.to_empty(device='cpu'), (3, 224, 224))
    return Size(
        flops=flops,
        trained=sum(p.numel() for p in parameters if p.requires_grad),
        weights=sum(p.numel() for p in parameters),
        sharded=sum(p.numel() for block in blocks(model.backbone) for p in block.parameters()),
    )


def forecast(size: Size, gpus: int, batch_size: int, assumed: Assumptions, sharded: bool = False) -> Step:
    """One step of the global batch on ``gpus`` GPUs.

    DDP sums the gradients in a ring while the backward pass, half of the step, goes on. FSDP gathers the blocks in
    bfloat16 three times (queries forward and back, keys forward) and scatters the sums in float32; both overlap with
    the whole step.
    """
    one_node = gpus <= assumed.node_gpus
    rate = assumed.node_rate if one_node else assumed.network_rate
    latency = assumed.node_latency_s if one_node else assumed.network_latency_s
    images = ceil(batch_size / gpus)
    share = (gpus - 1) / gpus
    compute = size.flops * images / (assumed.peak_flops * assumed.utilisation)
    if sharded:
        moved, hidden = share * (3 * HALF * size.sharded + FLOAT * size.trained), compute
    else:
        moved, hidden = 2 * share * FLOAT * size.trained, compute / 2
    step = Step(
        images=images,
        compute_s=compute,
        gradients_s=moved / rate,
        exposed_s=max(moved / rate - hidden, 0.0),
        keys_s=share * 2 * batch_size * KEY_WIDTH * FLOAT / rate + latency,
        batch_norm_s=BATCH_NORMS * latency,
        cores=0.0,
    )
    step.cores = images / step.seconds / assumed.core_rate
    return step


def report(
    configs: list[str], gpus: list[int], batch_size: int, num_images: int, epochs: int, assumed: Assumptions
) -> str:
    """The tables of ``docs/scale.md``."""
    lines = [f'{key} = {value:g}' for key, value in vars(assumed).items()]
    parts = ['Computed, not measured. Assumptions: ' + ', '.join(lines) + '.']
    for config in configs:
        size = count(config)
        rows = []
        for number in gpus:
            steps = [forecast(size, number, batch_size, assumed, sharded) for sharded in (False, True)]
            rows.append([str(number), *_row(steps[0], number, batch_size, num_images * epochs, assumed)])
            rows[-1].append(f'{1e3 * steps[1].seconds:.1f}')
        parts.append(
            f'{config}: {size.flops / 1e9:.0f} GFLOP per image and step, {size.trained / 1e6:.0f} M trained and '
            f'{size.weights / 1e6:.0f} M weights in all; gradients {FLOAT * size.trained / 1e6:.0f} MB, a checkpoint '
            f'{size.checkpoint_bytes / 1e9:.1f} GB, written in {size.checkpoint_bytes / assumed.disk_rate:.0f} s.\n\n'
            + table(HEADER, rows)
        )
    return '\n\n'.join(parts)


HEADER = [
    'GPUs', 'images/GPU', 'compute ms', 'gradients ms', 'of it waited for', 'SyncBN + keys ms', 'step ms', 'efficiency',
    'images/s', 'read GB/s', 'cores/GPU', 'hours', 'limited by', 'FSDP step ms',
]  # fmt: skip


def _row(step: Step, gpus: int, batch_size: int, num_images: float, assumed: Assumptions) -> list[str]:
    rate = batch_size / step.seconds
    return [
        str(step.images),
        f'{1e3 * step.compute_s:.1f}',
        f'{1e3 * step.gradients_s:.1f}',
        f'{1e3 * step.exposed_s:.1f}',
        f'{1e3 * (step.batch_norm_s + step.keys_s):.1f}',
        f'{1e3 * step.seconds:.1f}',
        f'{step.compute_s / step.seconds:.0%}',
        f'{rate:,.0f}',
        f'{rate * assumed.image_bytes / 1e9:.2f}',
        f'{step.cores:.1f}',
        f'{num_images / rate / 3600:.1f}',
        step.limit(assumed),
    ]
