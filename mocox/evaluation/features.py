"""Features of a whole dataset, once: in shards on disk that an interrupted or repeated evaluation finds again."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mocox import dist
from mocox.checkpoint.files import write_atomically
from mocox.checkpoint.parts import files_of
from mocox.datasets import ViewsDataset, collate_views

SHARD_IMAGES = 4096


@torch.no_grad()
def extract_from_loader(
    model: nn.Module, loader: DataLoader, report: Callable[[int], None] | None = None
) -> tuple[Tensor, Tensor | None]:
    """Runs the images of a loader through a frozen model, in evaluation mode.

    Args:
        model: One with ``data_preprocessor`` and ``extract_feat``: an algorithm, a linear probe, a classifier. Left in
            the mode it was in.
        loader: Its batches are those of ``collate_views``; the first view counts.
        report: Called after every batch with its number of images.

    Returns:
        Features (N, C) in the order of the loader, and labels (N,), or None if the dataset has none. On the CPU.
    """
    modes = [(module, module.training) for module in model.modules()]  # frozen parts differ from the rest
    model.eval()
    features, labels = [], []
    for batch in loader:
        inputs = model.data_preprocessor(batch, training=False)['inputs']
        output = model.extract_feat(inputs if isinstance(inputs, Tensor) else inputs[0])
        features.append((output if isinstance(output, Tensor) else output[-1]).float().cpu())
        if 'label' in batch:
            labels.append(batch['label'])
        if report:
            report(len(features[-1]))
    for module, training in modes:
        module.training = training
    return torch.cat(features), torch.cat(labels) if labels else None


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
    model: nn.Module,
    dataset: ViewsDataset,
    folder: Path,
    batch_size: int = 64,
    num_workers: int = 0,
    shard_images: int = SHARD_IMAGES,
    name: str = 'images',
) -> tuple[Tensor, Tensor | None]:
    """Features of a dataset, those that are in the folder already read from there.

    Every shard is one file, written whole or not at all. Several processes take turns with the shards; the folder must
    be one that all of them see.

    Args:
        model: See :func:`extract_from_loader`.
        dataset: Its views must not be random.
        folder: Belongs to this model, this dataset and this transform alone, see :func:`cache_key`.
        batch_size: Images per forward pass.
        num_workers: Loading processes.
        shard_images: Images per file.
        name: What the progress line calls the images.

    Returns:
        Features (N, C) in the order of the dataset, and labels or None. On the CPU.
    """
    files = [folder / f'{start:09}.pt' for start in range(0, len(dataset), shard_images)]
    shards = [range(start, min(start + shard_images, len(dataset))) for start in range(0, len(dataset), shard_images)]
    missing = [(file, rows) for file, rows in zip(files, shards) if not file.is_file()]
    dist.barrier()  # list the missing shards before any rank writes one
    mine = missing[dist.rank() :: dist.world_size()]
    progress = Progress(name, sum(len(rows) for _, rows in mine), len(dataset))
    for file, rows in mine:
        loader = DataLoader(Part(dataset, rows), batch_size, num_workers=num_workers, collate_fn=collate_views)
        features, labels = extract_from_loader(model, loader, progress)
        content = dict(features=features) if labels is None else dict(features=features, labels=labels)
        write_atomically(file, lambda path, content=content: torch.save(content, path))
    dist.barrier()  # every file is written before any rank reads
    parts = [torch.load(file, weights_only=True) for file in files]
    labels = torch.cat([part['labels'] for part in parts]) if 'labels' in parts[0] else None
    return torch.cat([part['features'] for part in parts]), labels


class Progress:
    """Prints how many images are done and how long the rest takes; silent but for the first process."""

    def __init__(self, name: str, num_images: int, num_total: int, seconds: float = 5.0) -> None:
        self.name, self.num_images, self.cached = name, num_images, num_total - num_images
        self.done, self.seconds = 0, seconds
        self.start = self.last = time.monotonic()
        if dist.world_size() == 1 and not num_images:
            print(f'{name}: features of {num_total:,} images found in the cache', flush=True)

    def __call__(self, num_images: int) -> None:
        """Counts a batch."""
        self.done += num_images
        now = time.monotonic()
        finished = self.done == self.num_images
        if dist.rank() == 0 and (finished or now - self.last > self.seconds):
            self.last = now
            rate = self.done / max(now - self.start, 1e-9)
            rest = '' if finished else f', {(self.num_images - self.done) / rate:.0f} s left'
            print(f'{self.name}: {self.done:,} of {self.num_images:,} images, {rate:,.0f} per second{rest}', flush=True)


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
    """Hash of what a dataset holds: name, size and time of every file, or the pixels if they are in memory."""
    digest = hashlib.sha256()
    if hasattr(dataset, 'path'):
        for index in range(len(dataset)):
            try:
                status = os.stat(dataset.path(index))
            except OSError:  # a broken link: the data set shows another image in its place
                status = os.lstat(dataset.path(index))
            digest.update(f'{dataset.path(index)}\0{status.st_size}\0{status.st_mtime_ns}\n'.encode('utf-8', 'replace'))
    else:
        digest.update(dataset.images.tobytes())
    labels = getattr(dataset, 'labels', None)
    if labels is not None:
        digest.update(torch.as_tensor(labels).numpy().tobytes())
    return digest.hexdigest()


def cache_key(**parts: object) -> str:
    """A short name for one set of features; anything that changes them must be among the parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]
