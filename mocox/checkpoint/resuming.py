"""What a checkpoint of a training must hold for another training to start from it."""

from collections.abc import Mapping

from torch import Tensor, nn


def require_same_backbone(checkpoint: Mapping, backbone: nn.Module) -> dict[str, Tensor]:
    """Refuses a checkpoint of a training whose backbone is another one; MMEngine would load the rest of it.

    Args:
        checkpoint: As MMEngine saves it.
        backbone: Of the model that it is for.

    Returns:
        The tensors of the checkpoint, without a wrapper's ``module.``.

    Raises:
        ValueError: A tensor of the backbone is not there in name and shape.
    """
    state = {key.removeprefix('module.'): v for key, v in checkpoint.get('state_dict', checkpoint).items()}
    wanted = {f'backbone.{key}': tensor.shape for key, tensor in backbone.state_dict().items()}
    missing = [key for key, shape in wanted.items() if key not in state or state[key].shape != shape]
    if missing:
        raise ValueError(
            f"the checkpoint has {len(wanted) - len(missing)} of the backbone's {len(wanted)} tensors in this name and "
            f'shape; the first it lacks: {", ".join(missing[:3])}. load_from and resume need a checkpoint of the same '
            'model; to start from a backbone in any layout use --pretrained FILE'
        )
    return state
