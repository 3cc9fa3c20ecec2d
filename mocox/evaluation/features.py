"""Features of a whole dataset, computed once: kept in shards on disk that a resumed or repeated evaluation reuses."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mocox import dist
from mocox.checkpoint.parts import files_of
from mocox.datasets import EncodedImages, ViewsDataset, collate_views
from mocox.evaluation.sealed import read_sealed, user_key, write_sealed
from mocox.processes import group
from mocox.terminal import say

SHARD_IMAGES = 4096
CONTENT = 3  # of a shard: which images could be read, and a keyed checksum
MAX_NAMED = 10


class Extracted(NamedTuple):
    """Features of images in their order, including those of stand-ins for unreadable images.

    Args:
        features: (N, C), on the CPU.
        labels: (N,) or (N, K); None where the data set has none.
        read: (N,) bool, False where another image stood in.
    """

    features: Tensor
    labels: Tensor | None
    read: Tensor

    def without_stand_ins(self) -> 'Extracted':
        """Return the features of the readable images only."""
        labels = None if self.labels is None else self.labels[self.read]
        return Extracted(self.features[self.read], labels, self.read[self.read])

    def left_out(self, dataset: ViewsDataset, name: str) -> str:
        """See :func:`describe_left_out`."""
        path_of = getattr(dataset, 'path', str)
        paths = [path_of(row) for row in (~self.read).nonzero()[:, 0].tolist()]
        return describe_left_out(paths, len(self.read), name)


def describe_left_out(paths: Sequence[str], total: int, name: str) -> str:
    """Say how many images count and which are left out; '' if none is.

    Args:
        paths: Paths of the unreadable images.
        total: Images in all.
        name: Name of the images in the message.
    """
    if not paths:
        return ''
    more = f' and {len(paths) - MAX_NAMED:,} more' if len(paths) > MAX_NAMED else ''
    names = ', '.join(map(repr, paths[:MAX_NAMED]))  # a name may hold line breaks
    return f'{total - len(paths):,} of {total:,} {name}; left out, because they cannot be read: {names}{more}'


def check_finite(features: Tensor, name: str) -> None:
    """Refuse features that no protocol could use.

    Raises:
        ValueError: Some are NaN or infinite.
    """
    wrong = (~features.isfinite().all(dim=1)).nonzero().flatten()
    if len(wrong):
        raise ValueError(
            f'the features of {len(wrong)} of {len(features)} {name} are NaN or infinite, first number '
            f'{int(wrong[0])}: the checkpoint is of a run that diverged, or not for these images'
        )


class Loader(Protocol):
    """The part of a ``DataLoader``'s interface that is used here."""

    dataset: Any

    def __iter__(self) -> Iterator[dict[str, Any]]: ...


class Frozen(Protocol):
    """A model that gives features: an algorithm, a linear probe, a classifier, an encoder."""

    @property
    def data_preprocessor(self) -> Callable[..., Any]: ...

    def extract_feat(self, images: Tensor, /) -> Any: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def eval(self) -> Any: ...


def extract_from_loader(
    model: Frozen, loader: Loader, report: Callable[[int], None] | None = None
) -> tuple[Tensor, Tensor | None]:
    """Compute features of a loader's images with a frozen model.

    Those that cannot be read are left out, and the log names them.

    Args:
        model: See :func:`encode_images`.
        loader: See :func:`encode_images`.
        report: See :func:`encode_images`.

    Returns:
        Features (N, C) in the order of the loader, and labels (N,), or None if the dataset has none. On the CPU.
    """
    features, labels, _ = encode_images(model, loader, report).without_stand_ins()
    return features, labels


@torch.no_grad()
def encode_images(model: Frozen, loader: Loader, report: Callable[[int], None] | None = None) -> Extracted:
    """Run the images of a loader through a frozen model, in evaluation mode.

    Args:
        model: Left in the mode it was in.
        loader: Its batches are those of ``collate_views``; the first view counts.
        report: Called after every batch with its number of images.
    """
    modes = [(module, module.training) for module in model.modules()]  # frozen parts differ from the rest
    model.eval()
    features, labels, read = [], [], []
    for batch in loader:
        inputs = model.data_preprocessor(batch, training=False)['inputs']
        output = model.extract_feat(inputs if isinstance(inputs, Tensor) else inputs[0])
        features.append((output if isinstance(output, Tensor) else output[-1]).float().cpu())
        read.append(_were_read(loader.dataset, batch, len(features[-1])))
        if 'label' in batch:
            labels.append(batch['label'])
        if report:
            report(len(features[-1]))
    for module, training in modes:
        module.training = training
    return Extracted(torch.cat(features), torch.cat(labels) if labels else None, torch.cat(read))


def _were_read(dataset: Dataset, batch: dict, num: int) -> Tensor:
    """(N,) bool: True for each image of a batch that is the requested one."""
    dataset = dataset.dataset if isinstance(dataset, Part) else dataset
    if not isinstance(dataset, ViewsDataset):
        return torch.ones(num, dtype=torch.bool)
    return dataset.shown(batch['index']) == batch['index']


class Part(Dataset):
    """Some images of a dataset, in a given order; keeps the ``(epoch, index)`` of the sampler."""

    def __init__(self, dataset: Dataset, rows: Tensor | range) -> None:
        self.dataset, self.rows = dataset, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        return self.dataset[epoch, int(self.rows[index])]


def cached_features(
    model: Frozen,
    dataset: ViewsDataset,
    folder: Path,
    batch_size: int = 64,
    num_workers: int = 0,
    shard_images: int = SHARD_IMAGES,
    name: str = 'images',
) -> Extracted:
    """Compute the features of a dataset, reusing those that the folder already holds.

    Every shard is one file, written whole or not at all. Several processes take turns with the shards; the folder must
    be one that all of them see. A shard that lacks an image which can be read by now is made anew; so is one that is
    damaged or that this user has not written, and a line names it.

    Args:
        model: See :func:`extract_from_loader`.
        dataset: Its views must not be random.
        folder: Belongs to this model, this dataset and this transform alone, see :func:`cache_key`.
        batch_size: Images per forward pass.
        num_workers: Loading processes.
        shard_images: Images per file.
        name: Name of the images on the progress line.
    """
    starts = range(0, len(dataset), shard_images)
    shards = [
        (folder / f'{start:09}.features', range(start, min(start + shard_images, len(dataset)))) for start in starts
    ]
    key = dist.gather_objects(user_key())[0]  # machines may have different home folders
    missing = [shard for shard in shards if not _is_whole(*shard, dataset, key)] if dist.rank() == 0 else None
    group.meet()  # rank 0 reads all files of the cache, which may take longer than a collective waits
    missing = dist.gather_objects(missing)[0]  # one list for all, made before any rank writes a shard
    mine = missing[dist.rank() :: dist.world_size()]
    progress = Progress(name, sum(len(rows) for _, rows in mine), len(dataset))
    for file, rows in mine:
        loader = DataLoader(Part(dataset, rows), batch_size, num_workers=num_workers, collate_fn=collate_views)
        content = {
            key: part for key, part in encode_images(model, loader, progress)._asdict().items() if part is not None
        }
        write_sealed(file, content, key)
    group.meet()  # every file is written before any rank reads, however much longer one rank takes
    parts = [read_sealed(file, key) for file, _ in shards]
    whole = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return Extracted(whole['features'], whole.get('labels'), whole['read'])


def _is_whole(file: Path, rows: range, dataset: ViewsDataset, key: bytes) -> bool:
    """True if a shard is intact, and the images that it lacks still cannot be read."""
    if not file.exists():
        return False
    try:
        left_out = (~read_sealed(file, key)['read']).nonzero()[:, 0].tolist()
    except ValueError as error:
        say(f'{error}: its features are computed again')
        return False
    can_read = getattr(dataset, 'can_read', lambda row: False)
    return True not in [can_read(rows[row]) for row in left_out]  # try all of them: the log says why


class Progress:
    """Print how many images are done and how long the rest takes, in the first process only."""

    def __init__(self, name: str, num_images: int, num_total: int, seconds: float = 5.0) -> None:
        self.name, self.num_images, self.cached = name, num_images, num_total - num_images
        self.done, self.seconds = 0, seconds
        self.start = self.last = time.monotonic()
        if dist.world_size() == 1 and not num_images:
            say(f'{name}: features of {num_total:,} images found in the cache')

    def __call__(self, num_images: int) -> None:
        """Count a batch."""
        self.done += num_images
        now = time.monotonic()
        finished = self.done == self.num_images
        if dist.rank() == 0 and (finished or now - self.last > self.seconds):
            self.last = now
            rate = self.done / max(now - self.start, 1e-9)
            rest = '' if finished else f', {(self.num_images - self.done) / rate:.0f} s left'
            say(f'{self.name}: {self.done:,} of {self.num_images:,} images, {rate:,.0f} per second{rest}')


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, of all that hold a model together with it, or of the files in a directory."""
    path = Path(path).expanduser()
    digest = hashlib.sha256()
    for file in sorted(path.rglob('*')) if path.is_dir() else files_of(path)[0]:
        if file.is_file():
            with open(file, 'rb') as opened:
                while block := opened.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def dataset_hash(dataset: ViewsDataset) -> str:
    """Hash of a dataset's content: name, size and time of every file, or the pixels if they are in memory."""
    digest = hashlib.sha256(f'{CONTENT}\n'.encode())
    if isinstance(dataset, EncodedImages):
        for index in range(len(dataset)):
            digest.update(f'{dataset.path(index)}\0{dataset.version(index)}\n'.encode('utf-8', 'surrogateescape'))
    else:
        images = getattr(dataset, 'images', None)
        if images is None:
            raise TypeError(f'{type(dataset).__name__} has neither files nor images in memory, so nothing to hash')
        digest.update(images.tobytes())
    labels = getattr(dataset, 'labels', None)
    if labels is not None:
        digest.update(torch.as_tensor(labels).numpy().tobytes())
    return digest.hexdigest()


def cache_key(**parts: object) -> str:
    """A short name for one set of features; anything that changes them must be among the parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]
