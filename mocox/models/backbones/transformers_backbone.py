"""A vision model of Hugging Face's transformers, in a folder on disk, as a backbone."""

import inspect
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mocox.models.backbones.ready_made import ReadyMadeBackbone
from mocox.registry import MODELS

_BLOCK = re.compile(r'(?:^|\.)(?:layers?|blocks|stages)\.(\d+)(?:\.(?:layers?|blocks)\.(\d+))?\.')


@MODELS.register_module()
class TransformersBackbone(ReadyMadeBackbone):
    """A model that ``save_pretrained`` of transformers has written: ViT, DINOv2, DINOv3, Swin, ConvNeXt and others.

    It gives one vector (B, C) per image: what the model itself calls its pooled output, else the class token behind
    the last norm. Nothing is downloaded, and no code in the folder is run. ``pip install "mocox[transformers]"``.

    Args:
        folder: With ``config.json`` and, for ``pretrained``, all weights.
        pretrained: Load them; otherwise the model begins with random weights of its own drawing.
        in_channels: Channels of the image; with other than the folder's the weights cannot be loaded.
        stop_grad_conv1: Keep the patch projection as it is.
        init_cfg: Initialiser config.
        kwargs: Further settings of its config, such as ``drop_path_rate``.

    Raises:
        FileNotFoundError: There is no such folder, or no config or weights in it.
        ImportError: transformers is not installed.
        ValueError: Weights are missing, a setting is unknown, or there is nothing to freeze by ``stop_grad_conv1``.
    """

    def __init__(
        self,
        folder: str,
        pretrained: bool = True,
        in_channels: int | None = None,
        stop_grad_conv1: bool = False,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        if in_channels is not None:
            kwargs['num_channels'] = in_channels
        self.folder, self.pretrained = Path(folder).expanduser(), pretrained
        self.model: Any = _build(self.folder, pretrained, kwargs)
        if isinstance(getattr(getattr(self.model, 'pooler', None), 'dense', None), nn.Linear):
            self.model.pooler = None  # a layer of BERT's, which no image model is trained with
        self.has_class_token = any(name.endswith('cls_token') for name, _ in self.model.named_parameters())
        for name, parameter in self.model.named_parameters():
            if name.endswith('mask_token'):  # of masked pre-training: it would have no gradient
                parameter.requires_grad_(False)
        if stop_grad_conv1:
            _patch_projection(self.model, self.folder).requires_grad_(False)

    @property
    def normalisation(self) -> dict[str, list[float]]:
        """``mean`` and ``std`` of the images that the weights were trained on, in levels of 0 to 255, if it says."""
        file = self.folder / 'preprocessor_config.json'
        if not file.is_file():
            return {}
        try:
            config = json.loads(file.read_text(encoding='utf-8'))
            scale = 1 / config.get('rescale_factor', 1 / 255)
            said = [name for name in ('mean', 'std') if f'image_{name}' in config]
            return {name: [round(scale * x, 4) for x in config[f'image_{name}']] for name in said}
        except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise ValueError(f'{file} holds no settings of images ({error}): copy or download it again') from error

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Features (B, C) of images (B, in_channels, H, W), in a one-element tuple."""
        output = self.model(pixel_values=x, **self._any_size)
        pooled = getattr(output, 'pooler_output', None)
        if pooled is not None:
            return (pooled.flatten(1),)
        tokens = output.last_hidden_state
        if tokens.ndim == 3:
            return (tokens[:, 0] if self.has_class_token else tokens.mean(dim=1),)
        return (tokens,)

    @cached_property
    def _any_size(self) -> dict[str, bool]:
        """Positions for other sizes than the config's, where a model has to be asked for them."""
        named = inspect.signature(self.model.forward).parameters
        return {name: True for name in ('interpolate_pos_encoding',) if name in named}

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter, for mmpretrain's layer-wise learning rate decay.

        Args:
            param_name: Its name in the whole model.
            prefix: What the names of this backbone start with there.

        Returns:
            0 for what stands before the blocks, i + 1 for the i-th block of all stages, that of the last block for what
            stands behind, the last depth for all that is not part of this backbone; and the number of depths.
        """
        num_depths = max(self._depths.values()) + 2
        name = param_name.removeprefix(f'{prefix}model.')
        return self._depths.get(name, num_depths - 1) if name != param_name else num_depths - 1, num_depths

    @cached_property
    def _depths(self) -> dict[str, int]:
        depths, seen = {}, [(-1, -1)]  # a stage and a block in it
        for name, _ in self.model.named_parameters():
            match = _BLOCK.search(name)
            stage, block = (int(match[1]), int(match[2] or 0)) if match else seen[-1]
            if match and match[2] is None and stage == seen[-1][0]:
                block = seen[-1][1]  # what reduces behind the blocks of a stage; before them it belongs to the first
            if (stage, block) != seen[-1]:
                seen.append((stage, block))
            depths[name] = len(seen) - 1
        return depths


def _build(folder: Path, pretrained: bool, settings: dict[str, Any]) -> Any:
    if not (folder / 'config.json').is_file():
        raise FileNotFoundError(
            f'folder={str(folder)!r} has no config.json: give a folder that save_pretrained of transformers has written'
        )
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError as error:
        raise ImportError(
            'TransformersBackbone needs transformers, which is not installed: pip install "mocox[transformers]"'
        ) from error

    local = dict(local_files_only=True, trust_remote_code=False)
    try:
        config, unknown = AutoConfig.from_pretrained(folder, return_unused_kwargs=True, **local, **settings)
    except (OSError, RecursionError) as error:
        raise ValueError(f'{folder / "config.json"} cannot be read ({error}): copy or download it again') from error
    if lost := [name for name in settings if name in unknown]:
        raise ValueError(f'{config.model_type} in {folder} has no setting {", ".join(lost)}')
    if not pretrained:
        return AutoModel.from_config(config, trust_remote_code=False)
    try:
        model, info = AutoModel.from_pretrained(folder, config=config, output_loading_info=True, **local)
    except (OSError, KeyError, RecursionError) as error:  # KeyError: an index without what transformers looks for
        raise FileNotFoundError(f'{folder} has no weights that transformers reads: {error}') from error
    except RuntimeError as error:
        raise ValueError(f'the weights in {folder} do not fit its config: {error}') from error
    lacks = [name for name in info['missing_keys'] if not name.startswith('pooler.')]
    if lacks or info.get('mismatched_keys'):
        raise ValueError(
            f'{folder} does not hold all weights of its model, nothing is used: {len(lacks)} missing, such as '
            f'{", ".join(sorted(lacks)[:4])}'
        )
    return model.float()


def _patch_projection(model: nn.Module, folder: Path) -> nn.Module:
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and 'patch_embeddings' in name:
            return module
    raise ValueError(f'stop_grad_conv1=True: the model in {folder} has no linear patch projection to freeze')
