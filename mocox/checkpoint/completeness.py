"""All of a checkpoint or nothing: compare its tensors with those of a module before any is loaded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class TensorDifference:
    """Differences between the tensors of a file and those of a module.

    Args:
        missing: Names that only the module has. BatchNorm's step counters may be missing: files older than PyTorch
            0.4.1 have none, and nothing here computes with them.
        unexpected: Names that only the file has.
        wrong_shape: By name, both shapes of each tensor whose shapes differ, in words.
        num_fitting: Tensors of the module that the file has in the same shape.
    """

    missing: list[str]
    unexpected: list[str]
    wrong_shape: dict[str, str]
    num_fitting: int

    def lines(self) -> list[str]:
        """One line for each kind of difference."""
        shapes = [f'{key} {words}' for key, words in self.wrong_shape.items()]
        lists = [('missing', self.missing), ('unexpected', self.unexpected), ('wrong shape', shapes)]
        return [f'{name} ({len(keys)}): {bounded(keys)}' for name, keys in lists if keys]


def tensor_difference(given: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> TensorDifference:
    """Compare names and shapes of the tensors of a file with those that a module needs."""
    shared = [key for key in wanted if key in given]
    wrong = [key for key in shared if given[key].shape != wanted[key].shape]
    return TensorDifference(
        [key for key in wanted if key not in given and not key.endswith('num_batches_tracked')],
        [key for key in given if key not in wanted],
        {key: f'{tuple(given[key].shape)} instead of {tuple(wanted[key].shape)}' for key in wrong},
        len(shared) - len(wrong),
    )


def state_of(checkpoint: Mapping) -> dict[str, Any]:
    """The tensors of a checkpoint as MMEngine saves it, without a wrapper's ``module.``."""
    return {key.removeprefix('module.'): value for key, value in checkpoint.get('state_dict', checkpoint).items()}


def require_same_model(checkpoint: Mapping, model: nn.Module, path: str) -> None:
    """Refuse a checkpoint that does not hold exactly the tensors of a model.

    Raises:
        ValueError: The tensors differ in name or shape; lists them.
    """
    difference = tensor_difference(state_of(checkpoint), model.state_dict())
    if lines := difference.lines():
        raise ValueError('\n  '.join([f'{path} does not fit the model of this config:', *lines]))


def require_same_backbone(checkpoint: Mapping, backbone: nn.Module) -> dict[str, Tensor]:
    """Refuse a training checkpoint of another backbone; MMEngine would load the rest of it.

    Args:
        checkpoint: As MMEngine saves it.
        backbone: Of the model that it is for.

    Returns:
        The tensors of the checkpoint, without a wrapper's ``module.``.

    Raises:
        ValueError: A tensor of the backbone is missing or has another shape.
    """
    state = state_of(checkpoint)
    wanted = {f'backbone.{key}': tensor for key, tensor in backbone.state_dict().items()}
    difference = tensor_difference(state, wanted)
    if lacks := [*difference.wrong_shape, *difference.missing]:
        raise ValueError(
            f"the checkpoint has {difference.num_fitting} of the backbone's {len(wanted)} tensors in this name and "
            f'shape; the first it lacks: {", ".join(lacks[:3])}. load_from and resume need a checkpoint of the same '
            'model; to start from a backbone in any layout use --pretrained FILE'
        )
    return state


def bounded(items: Iterable[str], limit: int = 6) -> str:
    """A list for a message, cut after ``limit`` entries."""
    items = list(items)
    return ', '.join(items[:limit]) + (f', ... ({len(items) - limit} more)' if len(items) > limit else '')
