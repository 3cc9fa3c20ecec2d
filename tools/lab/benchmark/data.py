"""The input pipeline: images per second of one core, against the published pipelines and against pure decoding."""

import io
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

from lab.benchmark import photos, pipelines
from lab.benchmark.pipelines import Pipeline
from lab.benchmark.plain_decoder import decode_plainly
from lab.benchmark.report import Result, device_name, table
from lab.benchmark.timing import Timings, interleave
from mocox.datasets.decoding import decode

DECODING, OFFICIAL, MMPRETRAIN = 'decoding alone', 'official: PIL, torchvision', 'mmpretrain'
DECODERS = {'readers': decode, 'before': decode_plainly}
NUM_LARGE = 8
NUM_DECODED, NUM_PNGS = 40, 10
LARGE_DETAIL = 0.4
MAX_CROP_DIFFERENCE = 1
# Images per second that a training step on one H200 could eat: share of its 790 TFLOP/s, FLOPs per image.
APPETITES = {'ViT-S/16 at 35 %': 0.35 * 790e12 / 73.4e9, 'ViT-B/16 at 48 %': 0.48 * 790e12 / 280.4e9}


def benchmark_data(
    config: Config, image_size: int, num_images: int, rounds: int, with_peer: bool, step_rate: float | None = None
) -> Result:
    """Times the pipelines on generated photographs, one thread; prints as it goes.

    Args:
        config: Whose crops and views ours makes.
        image_size: Side of the views in pixels.
        num_images: Images per round.
        rounds: Rounds that count.
        with_peer: Whether to time mmpretrain's pipeline too.
        step_rate: Images per second of a training step to feed, besides those of an H200.

    Raises:
        ValueError: Our crops are not PIL's: the two sides do not compute the same thing.
    """
    with tempfile.TemporaryDirectory() as folder, one_thread():
        small, large = Path(folder, 'small'), Path(folder, 'large')
        size = photos.write_photos(small, min(num_images, 100))
        large_size = photos.write_photos(large, NUM_LARGE, photos.LARGE, LARGE_DETAIL)
        difference = pipelines.largest_crop_difference(small, image_size)
        if difference > MAX_CROP_DIFFERENCE:
            raise ValueError(f'no time was taken: a crop of ours is {difference} levels from that of PIL')
        print(f"JPEGs of {size / 1e3:.0f} KB; crops of {image_size} px are at most {difference} level(s) from PIL's")
        found, remarks = build(small, config, image_size, with_peer)
        for remark in remarks:
            print(f'  mmpretrain: {remark}')
        times = run(found, min(num_images, 100), num_images, rounds)
        readers = compare_decoders(small, rounds)
        found_large, _ = build(large, config, image_size, with_peer)
        times_large = run(found_large, NUM_LARGE, NUM_LARGE, max(rounds // 2, 1))
    names = list(found)
    rates = {name: num_images / times.median(name) for name in names}
    print(_report(times, names, num_images), f'\n1600 x 1200 photographs of {large_size / 1e3:.0f} KB:')
    print(_report(times_large, names, NUM_LARGE))
    print(_of_readers(readers))
    best = 'ours, uint8 crops'
    appetites = APPETITES | ({'the given step': step_rate} if step_rate else {})
    cores = {goal: {name: rate / rates[name] for name in names} for goal, rate in appetites.items()}
    print(_feeding(cores, names))
    result = Result(
        'data',
        ours=rates[best],
        share_of_limit=times.speedup(best, DECODING).median,
        device=f'{device_name("cpu").rpartition(",")[0]}, 1 thread',
        details=dict(
            unit='images per second and core',
            images_per_second=rates,
            ranges={name: [num_images / seconds for seconds in reversed(times.spread(name))] for name in names},
            ratio_to_official={name: times.speedup(name, OFFICIAL) for name in names},
            large_photographs={name: NUM_LARGE / times_large.median(name) for name in names},
            large_ratio_to_official={name: times_large.speedup(name, OFFICIAL) for name in names},
            cores_to_feed=cores,
            readers_against_plain_decoder=readers,
            crop_difference_levels=difference,
            mean_bytes=size,
            large_mean_bytes=large_size,
            remarks=remarks,
        ),
    )
    other = MMPRETRAIN if with_peer else OFFICIAL
    result.theirs = rates[other]
    result.ratio, result.ratio_min, result.ratio_max = times.speedup(best, other)
    return result


def build(folder: Path, config: Config, image_size: int, with_peer: bool) -> tuple[dict[str, Pipeline], list[str]]:
    """All pipelines by name, and what was changed in mmpretrain's."""
    scale = config.train_dataloader.dataset.crops.get('scale', (0.08, 1.0))
    found = {DECODING: pipelines.decoding(folder), OFFICIAL: pipelines.official(folder, image_size, scale)}
    remarks: list[str] = []
    if with_peer:
        found[MMPRETRAIN], remarks = pipelines.of_mmpretrain(folder, config, image_size)
    return found | pipelines.ours(folder, config, image_size), remarks


def run(found: dict[str, Pipeline], num_files: int, num_images: int, rounds: int) -> Timings:
    """Times them on the same images; the random crops are drawn anew in each round."""
    indices = [i % num_files for i in range(num_images)]
    return interleave({name: lambda p=pipeline: p(indices) for name, pipeline in found.items()}, rounds)


def compare_decoders(folder: Path, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Speed-up of the chain of readers on 8-bit files over the previous decoder: median and range.

    Raises:
        ValueError: A pixel differs: the two sides do not compute the same thing.
    """
    jpegs = [path.read_bytes() for path in sorted(folder.glob('*.jpg'))[:NUM_DECODED]]
    pngs = [_as_png(data) for data in jpegs[:NUM_PNGS]]
    found = {}
    for kind, files in (('JPEG', jpegs), ('PNG', pngs)):
        readers, before = DECODERS.values()
        if not all(np.array_equal(readers(data), before(data)) for data in files):
            raise ValueError(f'no time was taken: a {kind} has other pixels than by the plain decoder')
        sides = {name: lambda f=f, files=files: [f(data) for data in files] for name, f in DECODERS.items()}
        found[kind] = tuple(interleave(sides, rounds).speedup(*DECODERS))
    return found


def _as_png(data: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(decode(data)).save(buffer, 'PNG', compress_level=1)
    return buffer.getvalue()


def _of_readers(readers: dict[str, tuple[float, float, float]]) -> str:
    ratios = ', '.join('{} {:.2f} ({:.2f}-{:.2f})'.format(kind, *ratio) for kind, ratio in readers.items())
    return (
        f'decoding of 8 bits, x the decoder before there were readers of more (range), equal in every pixel: {ratios}'
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch and OpenCV, as in a worker of a data loader."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _report(times: Timings, names: list[str], num_images: int) -> str:
    rows = []
    for name in names:
        slow, fast = (num_images / seconds for seconds in reversed(times.spread(name)))
        official = times.speedup(name, OFFICIAL)
        rows.append(
            [
                name,
                f'{num_images / times.median(name):.0f} ({slow:.0f}-{fast:.0f})',
                '{:.2f} ({:.2f}-{:.2f})'.format(*official),
                f'{times.speedup(name, DECODING).median:.0%}',
            ]
        )
    return table(['one core', 'images/s (range)', 'x official (range)', 'of decoding'], rows)


def _feeding(cores: dict[str, dict[str, float]], names: list[str]) -> str:
    rows = [[goal, *(f'{math.ceil(row[name])}' for name in names)] for goal, row in cores.items()]
    return 'cores that feed a step:\n' + table(['step on one H200', *names], rows)
