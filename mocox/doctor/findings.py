"""What the doctor says: one finding each, with reason, fix and source."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

PROBLEM, WARNING, NOTE = 'problem', 'warning', 'note'
LEVELS = (PROBLEM, WARNING, NOTE)


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know before the run.

    Args:
        level: ``problem`` (the run fails or cannot learn), ``warning`` (known to cost accuracy or time) or ``note``.
        check: Which check says so; a stable name for scripts.
        title: What is the case, with the value.
        reason: Why it matters.
        fix: What to do, as an option where there is one.
        source: Where this is known from.
    """

    level: str
    check: str
    title: str
    reason: str
    fix: str
    source: str = ''

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """What a config is going to do, in numbers.

    Args:
        config: All of it.
        processes: One per GPU.
        num_images: Of the training set; None if it could not be opened.
    """

    config: Mapping[str, Any]
    processes: int = 1
    num_images: int | None = None

    @property
    def model(self) -> Mapping[str, Any]:
        return self.config.get('model') or {}

    @property
    def method(self) -> str:
        """The algorithm's class, without its scope."""
        return type_of(self.model)

    @property
    def backbone(self) -> Mapping[str, Any]:
        return self.model.get('backbone') or {}

    @property
    def is_vit(self) -> bool:
        name = f'{type_of(self.backbone)} {self.backbone.get("model_name", "")}'.lower()
        return 'vit' in name or 'visiontransformer' in name or 'deit' in name

    @property
    def has_queue(self) -> bool:
        return self.method in ('MoCo', 'MoBY')

    @property
    def loader(self) -> Mapping[str, Any]:
        return self.config.get('train_dataloader') or {}

    @property
    def images_per_process(self) -> int:
        """Of one step."""
        return int(self.loader.get('batch_size') or 1)

    @property
    def batch_size(self) -> int:
        """Images of one step in all processes."""
        return self.images_per_process * self.processes

    @property
    def accumulation(self) -> int:
        """Steps whose gradients are added up."""
        return int((self.config.get('optim_wrapper') or {}).get('accumulative_counts') or 1)

    @property
    def optimizer(self) -> Mapping[str, Any]:
        return (self.config.get('optim_wrapper') or {}).get('optimizer') or {}

    @property
    def peak_lr(self) -> float | None:
        """After scaling by the batch, if the config asks for it."""
        lr, scale = self.optimizer.get('lr'), self.config.get('auto_scale_lr') or {}
        if lr is None or not scale.get('enable'):
            return lr
        return lr * self.batch_size / scale['base_batch_size']

    @property
    def epochs(self) -> int | None:
        return (self.config.get('train_cfg') or {}).get('max_epochs')

    @property
    def steps_per_epoch(self) -> int | None:
        if self.num_images is None:
            return None
        drops = self.loader.get('drop_last', False)
        full = self.num_images // self.batch_size
        return full if drops else -(-self.num_images // self.batch_size)


def count(num: int, noun: str) -> str:
    """``1 step``, ``2 steps``."""
    return f'{num:,} {noun}{"s" * (num != 1)}'


def type_of(config: Mapping[str, Any]) -> str:
    """The class that a config names, without its scope."""
    return str(config.get('type', '')).rpartition('.')[2]
