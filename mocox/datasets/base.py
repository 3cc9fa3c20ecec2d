"""What a sample is: uint8 crops, the uniform numbers for its photometric operations, and its index."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from mocox.registry import FUNCTIONS, TRANSFORMS

# Uniform numbers shipped per view. More than today's operations read, so that a new one leaves the crops as they are.
NUM_DRAWS = 16

Crops = Callable[[np.ndarray, np.random.Generator], list[torch.Tensor]]


class ViewsDataset(Dataset):
    """Images cut into views; a subclass knows where they come from (:meth:`load`, ``__len__``).

    Every random number of a sample is a function of (seed, epoch, index), so a sample does not depend on the number of
    workers or processes, nor on a restart. The sampler ships the epoch: an item is asked for as ``(epoch, index)``; a
    bare index means epoch 0. Crops are cut here, on the CPU; everything photometric happens later, in batches, with the
    uniform ``draws`` that travel with the sample.

    Args:
        crops: A registered transform, as a config or built: ``crops(image, rng) -> views``.
        with_labels: Whether an item has a ``label``.
        classes: Class names in the order of their labels.
        seed: Not negative.
    """

    def __init__(
        self, crops: dict | Crops, with_labels: bool = False, classes: list[str] | None = None, seed: int = 0
    ) -> None:
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f'seed must be an integer >= 0, got {seed!r}')
        self.crops = TRANSFORMS.build(crops) if isinstance(crops, dict) else crops
        self.with_labels = with_labels
        self.classes = classes
        self.seed = seed

    @property
    def metainfo(self) -> dict[str, Any]:
        """What MMEngine hands to evaluators and visualizers."""
        return {} if self.classes is None else dict(classes=tuple(self.classes))

    def load(self, index: int) -> tuple[np.ndarray, int | None]:
        """Reads one image.

        Returns:
            RGB, (H, W, 3) uint8, and its label (None without labels).
        """
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):  # also ends a plain `for item in dataset`
            raise IndexError(f'index {index} is outside of a dataset of {len(self)} images')
        image, label = self.load(index)
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch, index]))
        # Drawn before the crops, which take a varying number of random numbers.
        draws = torch.from_numpy(rng.random((self.crops.num_views, NUM_DRAWS), dtype=np.float32))
        item = dict(inputs=self.crops(image, rng), draws=draws, index=index)
        if self.with_labels:
            item['label'] = label
        return item


@FUNCTIONS.register_module()
def collate_views(samples: list[dict[str, Any]], _scope_: str | None = None) -> dict[str, Any]:
    """Stacks samples view by view, inside a worker straight into shared memory.

    Args:
        samples: What a dataset gave.
        _scope_: Ignored: MMEngine hands over all of a config that was inherited from another package.

    Returns:
        ``inputs``: V tensors (B, 3, S, S) uint8; ``draws`` (B, V, P); ``index`` (B,); with labels ``label`` (B,).
    """
    batch = {key: default_collate([sample[key] for sample in samples]) for key in samples[0] if key != 'inputs'}
    views = zip(*(sample['inputs'] for sample in samples), strict=True)
    return dict(inputs=[default_collate(list(view)) for view in views], **batch)
