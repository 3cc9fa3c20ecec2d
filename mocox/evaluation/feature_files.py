"""Features of named images, computed in shards so that an interrupted extraction resumes, and written to files."""

import csv
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mocox import dist
from mocox.checkpoint.files import write_atomically
from mocox.datasets.extras import require_extra
from mocox.evaluation.encoder import LoadedEncoder
from mocox.evaluation.features import cache_key, cached_features, check_finite, dataset_hash
from mocox.evaluation.pipeline import FeatureStore
from mocox.evaluation.places import ImagePlaces
from mocox.evaluation.sealed import remove_sealed
from mocox.processes import group
from mocox.terminal import say

SHARD_IMAGES = 1024  # the most that each process loses when it is killed


class Features(NamedTuple):
    """Features of images.

    Args:
        features: (N, C) float32; with ``level='patches'`` (N, H, W, C), a vector for each place of the map.
        paths: Paths of the N images.
    """

    features: np.ndarray
    paths: list[str]


def features_of(
    loaded: LoadedEncoder,
    checkpoint: str | Path,
    places: Sequence[str | Path],
    parts: Path | None,
    batch_size: int = 64,
    num_workers: int = 0,
) -> Features:
    """Features of image files and of all images in folders; those of a folder that cannot be read are left out.

    Several processes take turns; all of them get all.

    Args:
        loaded: The encoder, on its device.
        checkpoint: Its file.
        places: Files and folders.
        parts: Where shards are kept; None keeps none.
        batch_size: Images per forward pass.
        num_workers: Processes that load images, of each process.

    Raises:
        FileNotFoundError: No such file or folder.
        ValueError: No images; a named file that cannot be read; features that are not finite.
    """
    dataset = ImagePlaces(places, loaded)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(dist.gather_objects(temporary)[0]) if parts is None else parts
        identity = FeatureStore(loaded, checkpoint, place, batch_size, num_workers).identity
        folder = place / cache_key(dataset=dataset_hash(dataset), batch_size=batch_size, **identity)
        shard_images = max(batch_size, SHARD_IMAGES // batch_size * batch_size)  # the batches are those without shards
        found = cached_features(loaded.model, dataset, folder, batch_size, num_workers, shard_images)
        group.meet()  # the first process's folder stays until all have read
    if left_out := found.left_out(dataset, 'images'):
        lost = [dataset.path(row) for row in (~found.read).nonzero()[:, 0].tolist()]
        if named := [path for path in lost if dataset.is_named(path)]:
            raise ValueError(f'{named[0]} cannot be read as an image')
        if dist.rank() == 0:
            say(left_out)
    paths = [dataset.path(row) for row in found.read.nonzero()[:, 0].tolist()]
    features = found.without_stand_ins().features
    check_finite(features.flatten(1), 'images')
    return Features(features.numpy(), paths)


def parts_of(out: str | Path) -> Path:
    """The folder beside a file that holds its shards until the file is complete."""
    return Path(f'{out}.parts')


def require_format(out: str | Path, is_map: bool = False) -> None:
    """Refuse early a file that could not be written.

    Raises:
        ImportError: The library that writes it is missing; names the extra.
        ValueError: An ending that is not known, or maps in a table.
    """
    ending = Path(out).suffix
    if ending not in WRITERS:
        raise ValueError(f'out={str(out)!r}: features are written as {", ".join(WRITERS)}')
    if is_map and ending != '.npz':
        raise ValueError(f"out={str(out)!r}: level='patches' gives maps, which are written as .npz")
    if ending == '.parquet':
        require_extra('pyarrow.parquet', f'{out} needs', 'parquet')


def write_features(out: str | Path, found: Features) -> None:
    """Write them atomically, then remove the shards. The same features give the same bytes."""
    if dist.rank() == 0:
        write_atomically(out, lambda path: WRITERS[Path(out).suffix](path, found))
        remove_sealed(parts_of(out))
    group.meet()


def _write_npz(path: str, found: Features) -> None:
    with open(path, 'wb') as file:
        np.savez(file, features=found.features, paths=np.array(found.paths))


def _write_csv(path: str, found: Features) -> None:
    with open(path, 'w', newline='', encoding='utf-8', errors='surrogateescape') as file:
        table = csv.writer(file)
        table.writerow(['path', *(f'feature_{column}' for column in range(found.features.shape[1]))])
        for name, row in zip(found.paths, found.features):
            table.writerow([name, *map(str, row)])  # the shortest text that is the same float32


def _write_parquet(path: str, found: Features) -> None:
    arrow: Any = require_extra('pyarrow', 'parquet needs', 'parquet')
    parquet: Any = require_extra('pyarrow.parquet', 'parquet needs', 'parquet')
    vectors = arrow.FixedSizeListArray.from_arrays(found.features.ravel(), found.features.shape[1])
    parquet.write_table(arrow.table({'path': found.paths, 'features': vectors}), path)


WRITERS: dict[str, Callable[[str, Features], None]] = {
    '.npz': _write_npz,
    '.parquet': _write_parquet,
    '.csv': _write_csv,
}
