"""The Python API, ``mocox.pretrain(...)`` and its like; the commands call the same functions."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mocox import dist
from mocox.auto import plan_run
from mocox.checkpoint.files import newest_in
from mocox.datasets import Pixels
from mocox.evaluation.encoder import choose_device, load_encoder
from mocox.evaluation.feature_files import Features, features_of, parts_of, require_format, write_features
from mocox.evaluation.inference import FeatureExtractor
from mocox.processes.launch import train_in_processes
from mocox.report.runs import read_run
from mocox.report.verdict import judge
from mocox.run.build import build_runner
from mocox.run.options import prepare_config
from mocox.terminal import say

CONFIG = 'auto.py'  # of a work dir
Auto = Literal['auto']


def load(checkpoint: str | Path, **settings: Any) -> FeatureExtractor:
    """The encoder of a checkpoint, or of the newest good one of a work dir; called with images it gives features.

    Args:
        checkpoint: Of any layout that :func:`mocox.checkpoint.read` recognises.
        settings: ``level``, ``encoder``, ``config``, ``heads``, ``image_size``, ``device``, ``pixels`` of
            :class:`~mocox.FeatureExtractor`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file does not have what was asked for.
    """
    return FeatureExtractor(newest_in(checkpoint), **settings)


def features(
    checkpoint: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    progress: bool = False,
    device: str | None = None,
    pixels: Pixels | None = None,
    level: str = 'backbone',
    **settings: Any,
) -> Features:
    """Features of image files and of all images in folders; unreadable files of a folder are left out.

    Args:
        checkpoint: See :func:`load`.
        images: Files and folders, or one of them.
        out: A file to write them to, with ``features`` and ``paths``: ``.npz``, ``.parquet`` or ``.csv``. Until it is
            whole, a folder of that name with ``.parts`` behind it keeps what is done; the next call goes on there.
        batch_size: Images per forward pass.
        num_workers: Processes that load images.
        progress: Print how far it is.
        device: By default ``cuda`` if there is a GPU.
        pixels: How image files are read; by default as the checkpoint says.
        level: ``backbone``; ``projector``; or ``patches`` for the map (N, H, W, C), a vector for each place.
        settings: ``encoder``, ``config``, ``heads``, ``image_size`` of :func:`load`.

    Raises:
        FileNotFoundError: No such file or folder.
        ValueError: No images, or a file of them that cannot be read; ``out`` of another kind.
    """
    if out is not None:
        require_format(out, level == 'patches')
    checkpoint = newest_in(checkpoint)
    loaded = load_encoder(checkpoint, level=level, **settings)
    if pixels is not None:
        loaded.pixels = pixels
    loaded.model.to(choose_device(device))
    for note in loaded.notes if progress and dist.rank() == 0 else ():
        say(note)
    places = [images] if isinstance(images, str | Path) else images
    found = features_of(loaded, checkpoint, places, None if out is None else parts_of(out), batch_size, num_workers)
    if out is not None:
        write_features(out, found)
    return found


@dataclass(frozen=True)
class Pretraining:
    """A run: its work dir and its results. In a notebook it shows its report.

    Args:
        work_dir: Its folder.
        config: What :func:`pretrain` has made; ``mocox train`` runs it.
        checkpoint: The newest; None where the run was only planned.
        report: The page; None where there is none.
        state: The verdict in a word or two.
        verdict: In a sentence.
        numbers: The last of each scalar in the log: ``loss``, ``progress``, ``knn_online`` and others.
    """

    work_dir: Path
    config: Path
    checkpoint: Path | None = None
    report: Path | None = None
    state: str = 'planned'
    verdict: str = ''
    numbers: Mapping[str, float] | None = None

    def _repr_html_(self) -> str:
        if self.report is None:
            return f'<pre>{html.escape(repr(self))}</pre>'
        page = html.escape(self.report.read_text(encoding='utf-8'))
        return f'<iframe srcdoc="{page}" style="width:100%;height:720px;border:0" sandbox="allow-scripts"></iframe>'


def pretrain(
    data: str | Path,
    *,
    out: str | Path,
    model: str = 'auto',
    epochs: int | Auto = 'auto',
    batch_size: int | Auto = 'auto',
    image_size: int | Auto = 'auto',
    lr: float | Auto = 'auto',
    workers: int | Auto = 'auto',
    amp: bool | Auto = 'auto',
    seed: int = 0,
    resume: bool = False,
    options: Mapping[str, Any] | None = None,
    processes: int = 1,
    train: bool = True,
) -> Pretraining:
    """Pre-train on a folder of images, with settings that suit them and this machine; see ``docs/own_images.md``.

    Args:
        data: The images, in subfolders too.
        out: The work dir; it gets the config, ``auto.py``.
        model: ``resnet18``, ``resnet50``, ``vit-tiny``, ``vit-small`` or ``vit-base``.
        epochs: How often every image is seen.
        batch_size: Images of a step, of all processes together.
        image_size: Side in pixels.
        lr: In the unit of the recipe, for 256 images.
        workers: Processes that load images.
        amp: Mixed precision.
        seed: Of everything random.
        resume: Go on with the run that ``out`` holds; what else is given does not count then.
        options: Changes of the config, by key with dots.
        processes: On this machine, one per GPU, which share the batch; on a CPU too.
        train: False: only choose, print and write the config.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: ``out`` holds a run already; images or a value that cannot be used.
        ChildProcessError: One of several processes has failed.
    """
    path = Path(out, CONFIG)
    if not (resume and path.is_file()):
        if any(Path(out).glob('*_*.pth')):
            raise ValueError(f'{out} holds a run already: resume it (--resume), or choose another folder')
        given = dict(
            epochs=epochs, batch_size=batch_size, image_size=image_size, lr=lr, workers=workers, amp=amp,
            model=model,
        )  # fmt: skip
        given = {name: value for name, value in given.items() if value != 'auto'}
        plan_run(str(data), path, given, seed, options, processes)
    if train and processes > 1:
        train_in_processes(str(path), str(out), processes, resume)
    elif train:
        config = prepare_config(str(path), work_dir=str(out), resume='auto' if resume else None)
        build_runner(config).train()
    return _result(Path(out))


def _result(out: Path) -> Pretraining:
    """Read the result of a run from its work dir."""
    if not any(out.glob('*/vis_data/scalars.json')):
        return Pretraining(out, out / CONFIG)
    run = read_run(out)
    verdict, report = judge(run), out / 'report.html'
    numbers = {name: series.last for name, series in run.scalars.items() if len(series)}
    page = report if report.is_file() else None
    return Pretraining(out, out / CONFIG, run.checkpoint, page, verdict.state, verdict.message, numbers)
