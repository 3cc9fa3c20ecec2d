"""What a program calls, ``mocox.features(...)`` and its like; the commands call the same."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mocox.checkpoint.files import newest_in, write_atomically
from mocox.evaluation.inference import FeatureExtractor
from mocox.visualize.sheets import pick_images


class Features(NamedTuple):
    """Features of images.

    Args:
        features: (N, C) float32.
        paths: Of the N images.
    """

    features: np.ndarray
    paths: list[str]


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
    **settings: Any,
) -> Features:
    """Features of image files and of all images in folders; those of a folder that cannot be read are left out.

    Args:
        checkpoint: See :func:`load`.
        images: Files and folders, or one of them.
        out: An ``.npz`` file to write them to, with ``features`` and ``paths``.
        batch_size: Images per forward pass.
        num_workers: Processes that load images.
        progress: Print how far it is.
        settings: See :func:`load`.

    Raises:
        FileNotFoundError: No such file or folder.
        ValueError: No images, or a file of them that cannot be read; ``out`` of another kind.
    """
    if out is not None and Path(out).suffix != '.npz':
        raise ValueError(f'out={str(out)!r}: features are written as .npz')
    extractor = load(checkpoint, **settings)
    places = [images] if isinstance(images, str | Path) else images
    paths = pick_images(places, sys.maxsize, extractor.pixels)
    found = Features(extractor(paths, batch_size, num_workers, progress), paths)
    if out is not None:
        write_atomically(out, lambda temporary: _write_npz(temporary, found))
    return found


def _write_npz(path: str, found: Features) -> None:
    with open(path, 'wb') as file:
        np.savez(file, features=found.features, paths=np.array(found.paths))
