"""The one reading of a config: the method, its numbers and its parts."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from mocox.registry import MODELS, TRANSFORMS


def type_of(config: Mapping[str, Any]) -> str:
    """The name of the class that a config builds, without its scope; empty if it names none.

    In MMEngine's pure-Python configs a type is the class itself.
    """
    kind = config.get('type') or ''
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def section(config: object, *names: str) -> Mapping[str, Any]:
    """A part of a config by its path; empty where it is missing or no mapping."""
    for name in names:
        config = config.get(name) if isinstance(config, Mapping | Config) else None
    return config if isinstance(config, Mapping) else {}


def argument(config: Mapping[str, Any], name: str, registry: Registry = MODELS) -> Any:
    """An argument of a component: as its config says, else the default of its class; None where neither tells.

    The classes are those registered here. Nothing is imported that a config may name, so that one from a stranger's
    work dir can be read.
    """
    if name in config:
        return config[name]
    kind = _class_of(config, registry)
    parameter = inspect.signature(kind).parameters.get(name) if kind else None
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def _class_of(config: Mapping[str, Any], registry: Registry) -> type | None:
    if inspect.isclass(config.get('type')):
        return config['type']
    scope, _, name = str(config.get('type', '')).rpartition('.')
    if scope not in ('', 'mocox'):
        return None
    registry.import_from_location()
    return registry.module_dict.get(name)


@dataclass(frozen=True)
class Recipe:
    """The numbers of a config; where it states none, the defaults of the classes that it names.

    Args:
        config: All of it.
        processes: One per GPU.
        num_images: Size of the training set; None if unknown.
    """

    config: Mapping[str, Any]
    processes: int = 1
    num_images: int | None = None

    @property
    def model(self) -> Mapping[str, Any]:
        return section(self.config, 'model')

    @property
    def method(self) -> str:
        """The algorithm's class, without its scope."""
        return type_of(self.model)

    @property
    def algorithm(self) -> Any:
        """Its class, if it is one of momentum contrast that is registered here."""
        kind = _class_of(self.model, MODELS)
        return kind if hasattr(kind, 'levels') else None

    @property
    def backbone(self) -> Mapping[str, Any]:
        return section(self.model, 'backbone')

    @property
    def network(self) -> str:
        """The backbone in a word or two, such as ``ResNet 18``; empty where the config has none."""
        size = next((str(self.backbone[key]) for key in ('model_name', 'arch', 'depth') if key in self.backbone), '')
        size = '' if len(size) > 40 else f' {size}'  # an arch may be a dictionary
        return f'{type_of(self.backbone)}{size}' if self.backbone else ''

    @property
    def is_vit(self) -> bool:
        name = f'{type_of(self.backbone)} {self.backbone.get("model_name", "")}'.lower()
        return 'vit' in name or 'visiontransformer' in name or 'deit' in name

    @property
    def head(self) -> Mapping[str, Any]:
        return section(self.model, 'head')

    @property
    def temperature(self) -> float | None:
        return argument(self.head, 'temperature')

    @property
    def momentum(self) -> float | None:
        """Weight of the old key encoder at the start; None for another kind of model."""
        return argument(self.model, 'base_momentum') if self.algorithm else None

    @property
    def queue_len(self) -> int | None:
        """Keys in the queue; None for a method without one."""
        return argument(self.model, 'queue_len') if self.algorithm else None

    @property
    def num_keys(self) -> int:
        """Keys that each query is compared with, its positive one among them."""
        return self.batch_size if self.queue_len is None else 1 + self.queue_len

    @property
    def levels(self) -> tuple[float, float] | None:
        """The loss at chance and at its floor, in nats, with a full queue; None for a loss that is not ours.

        None also where there is a single key, so that both are the same.
        """
        if self.algorithm is None or self.temperature is None or self.num_keys < 2:
            return None
        weight = argument(section(self.head, 'loss'), 'loss_weight')
        weight = 1.0 if weight is None else weight
        chance, floor = self.algorithm.levels(self.num_keys, self.temperature)
        return weight * chance, weight * floor

    @property
    def preprocessor(self) -> Mapping[str, Any]:
        """The preprocessor in the model, or beside it, as MMEngine's Runner reads it."""
        return section(self.model, 'data_preprocessor') or section(self.config, 'data_preprocessor')

    @property
    def views(self) -> Sequence[Mapping[str, Any]]:
        return self.preprocessor.get('views') or []

    @property
    def loader(self) -> Mapping[str, Any]:
        return section(self.config, 'train_dataloader')

    @property
    def dataset(self) -> Mapping[str, Any]:
        return section(self.loader, 'dataset')

    @property
    def is_labelled(self) -> bool:
        return bool(self.dataset.get('with_labels'))

    @property
    def crops(self) -> Mapping[str, Any]:
        """The transform of the training images."""
        return section(self.dataset, 'crops')

    @property
    def test_crops(self) -> Mapping[str, Any]:
        return section(self.config, 'test_dataloader', 'dataset', 'crops')

    @property
    def crop_scale(self) -> Sequence[float] | None:
        """Least and largest part of an image that a crop takes."""
        return argument(self.crops, 'scale', TRANSFORMS)

    @property
    def images_per_process(self) -> int:
        """Images of one iteration in one process."""
        return int(self.loader.get('batch_size') or 1)

    @property
    def batch_size(self) -> int:
        """Images of one step in all processes."""
        return self.images_per_process * self.processes

    @property
    def optim_wrapper(self) -> Mapping[str, Any]:
        return section(self.config, 'optim_wrapper')

    @property
    def accumulation(self) -> int:
        """Steps whose gradients are added up."""
        return int(self.optim_wrapper.get('accumulative_counts') or 1)

    @property
    def optimizer(self) -> Mapping[str, Any]:
        return section(self.optim_wrapper, 'optimizer')

    @property
    def base_batch_size(self) -> int | None:
        """The batch that the learning rate is scaled from; None if it is not scaled."""
        scale = section(self.config, 'auto_scale_lr')
        return scale['base_batch_size'] if scale.get('enable') else None

    @property
    def peak_lr(self) -> float | None:
        """After scaling by the batch, if the config asks for it."""
        lr, base = self.optimizer.get('lr'), self.base_batch_size
        return lr if lr is None or base is None else lr * self.batch_size / base

    @property
    def epochs(self) -> int | None:
        return section(self.config, 'train_cfg').get('max_epochs')

    @property
    def steps_per_epoch(self) -> int | None:
        if self.num_images is None:
            return None
        drops = self.loader.get('drop_last', False)
        full = self.num_images // self.batch_size
        return full if drops else -(-self.num_images // self.batch_size)
