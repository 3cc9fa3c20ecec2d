"""The dictionary of MoCo v1 and v2: a first-in-first-out queue of keys."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeyQueue(nn.Module):
    """A ring of the last K keys, saved with the model.

    Source: arXiv 1911.05722, section 3.2 and algorithm 1. It starts with random unit vectors, as the official code
    does; ``filled`` counts the real keys. Any number of keys can be enqueued at a time: the ring wraps exactly where
    it ends. Every process enqueues the same keys, so all queues stay equal without communication.

    Args:
        length: Number of keys, K.
        width: Width of a key, D.

    Raises:
        ValueError: ``length`` or ``width`` below 1.
    """

    keys: Tensor  # (D, K), one key per column
    pointer: Tensor  # (1,), the oldest key's column: where the next one goes
    filled: Tensor  # (1,), real keys so far, at most K

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        if length < 1 or width < 1:
            raise ValueError(f'queue of {length} keys of width {width}: both must be at least 1')
        self.register_buffer('keys', F.normalize(torch.randn(width, length), dim=0))
        self.register_buffer('pointer', torch.zeros(1, dtype=torch.long))
        self.register_buffer('filled', torch.zeros(1, dtype=torch.long))

    def __len__(self) -> int:
        return self.keys.shape[1]

    @torch.no_grad()
    def enqueue(self, k: Tensor) -> None:
        """Replace the oldest keys by unit-length rows (M, D); of more than K rows the last K stay.

        A row that is not finite replaces nothing: one bad image would spoil the loss of all steps until its key leaves.
        """
        skipped = max(len(k) - len(self), 0)
        columns = (self.pointer + torch.arange(skipped, len(k), device=k.device)) % len(self)  # stays on the device
        k = k[skipped:].to(self.keys.dtype)
        kept = torch.where(k.isfinite().all(dim=1, keepdim=True), k, self.keys[:, columns].T)
        self.keys.index_copy_(1, columns, kept.T)
        self.pointer.add_(skipped + len(k)).remainder_(len(self))
        self.filled.add_(len(k)).clamp_(max=len(self))

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        if prefix + 'keys' in state_dict:  # the official files do not count: a saved queue has long been full
            state_dict.setdefault(prefix + 'filled', torch.full((1,), len(self)))
        super()._load_from_state_dict(state_dict, prefix, *args)
