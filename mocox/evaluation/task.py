"""What every protocol gets and gives: features and labels, numbers."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from mocox.evaluation.data import Data
from mocox.evaluation.encoder import LoadedEncoder


@dataclass(frozen=True)
class Result:
    """One number.

    Args:
        protocol: Its name in ``PROTOCOLS``.
        setting: Setting that the number is for, e.g. ``k=20``.
        metric: ``top-1`` or ``mAP``.
        value: In percent.
        n: Images (of the test) that it counts.
        std: Over repetitions, in percent.
        settings: Everything else that a repetition needs.
    """

    protocol: str
    setting: str
    metric: str
    value: float
    n: int
    std: float | None = None
    settings: dict = field(default_factory=dict)


@dataclass
class Task:
    """The input of a protocol: features and labels on the device, and the images for training on crops.

    Args:
        features: (N, C).
        labels: (N,), or (N, K) for images with several labels.
        test_features: (M, C); the same as ``features`` for leave-one-out.
        test_labels: (M,) or (M, K).
        encoder: The encoder.
        data: The images.
        work_dir: Where files go.
        num_workers: Loading processes.
        seed: Seed of all random numbers.
        notes: Protocols add what a person should know.
    """

    features: Tensor
    labels: Tensor
    test_features: Tensor
    test_labels: Tensor
    encoder: LoadedEncoder | None = None
    data: Data | None = None
    work_dir: Path = Path('.')
    num_workers: int = 0
    seed: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def leave_one_out(self) -> bool:
        """True without a test set: leave-one-out on the training images."""
        return self.test_features is self.features

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return self.labels.shape[1] if self.labels.ndim == 2 else int(self.labels.max()) + 1

    def top1(self, predicted: Tensor) -> float:
        """Accuracy in percent of the test images."""
        return 100 * (predicted.to(self.test_labels.device) == self.test_labels).cpu().double().mean().item()
