"""Device and size of the measurements, and the description of one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.gpu_day.journal import PART, Journal

VIT_S, VIT_B = 'mocox::mocov3/vit-small.py', 'mocox::mocov3/vit-base.py'
V3_RESNET, V2_RESNET = 'mocox::mocov3/resnet50_100e.py', 'mocox::mocov2/resnet50_200e.py'
TINY_VIT: dict[str, Any] = {
    'model.backbone.arch': dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64, _delete_=True),
    'model.backbone.patch_size': 8,
    'model.neck.in_channels': 32,
    'model.neck.hid_channels': 32,
    'model.neck.out_channels': 16,
    'model.head.predictor.in_channels': 16,
    'model.head.predictor.hid_channels': 32,
    'model.head.predictor.out_channels': 16,
}
TINY_RESNET: dict[str, Any] = {
    'model.backbone.depth': 18,
    'model.backbone.base_channels': 16,  # with four in channels_last, oneDNN frees memory twice
    'model.backbone.stem_channels': 16,
    'model.neck.in_channels': 128,
    'model.neck.hid_channels': 32,
}


@dataclass(frozen=True)
class Day:
    """One start of the command.

    Args:
        out: The folder of all results.
        device: ``cuda`` or ``cpu``.
        tiny: Sizes for a rehearsal: every line of code runs, no number means anything.
        data: A folder to look for Fashion-MNIST or CIFAR-10 in, besides the usual ones.
        cores: To use, at most.
    """

    out: Path
    device: str
    tiny: bool
    data: str | None
    cores: int

    def size(self, full: int, tiny: int) -> int:
        """One of two sizes."""
        return tiny if self.tiny else full

    def options(self, config: str) -> dict[str, Any]:
        """Options that make a recipe tiny in a rehearsal."""
        if not self.tiny:
            return {}
        if 'resnet' not in config:
            return dict(TINY_VIT)
        v3 = {'model.head.predictor.hid_channels': 32} if 'mocov3' in config else {'model.queue_len': 64}
        return TINY_RESNET | v3


class Notes:
    """Notes of a piece of work, so that it can continue where it was interrupted.

    Attributes:
        known: What it has noted before, by name.
    """

    def __init__(self, journal: Journal, piece: str) -> None:
        self.journal, self.piece = journal, piece
        self.known = journal.parts(piece)

    def add(self, name: str, **result: Any) -> None:
        """Write one down."""
        self.known[name] = result
        self.journal.write(PART, self.piece, result, name)


@dataclass(frozen=True)
class Piece:
    """A unit of work, done as a whole or not at all.

    Args:
        name: Unique in its stage.
        seconds: It is expected to take on an H200; it is not begun with less time left.
        run: Returns what JSON can hold; ``text`` is the line that is printed.
    """

    name: str
    seconds: int
    run: Callable[[Notes], dict[str, Any]]
