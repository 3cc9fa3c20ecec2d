"""Any model of timm as a backbone."""

import difflib
from functools import cached_property
from typing import Any

import timm
from timm.models import group_parameters
from torch import Tensor, nn

from mocox.models.backbones.ready_made import ReadyMadeBackbone
from mocox.registry import MODELS, find_layer


@MODELS.register_module()
class TIMMBackbone(ReadyMadeBackbone):
    """A model of timm, without its classifier; the same arguments and state-dict names as mmpretrain's class.

    It gives one vector (B, C) per image, pooled by the model's own rule: the class token, the mean of the patches, the
    mean of a map, attention pooling, whatever stands between its last block and its classifier. So transformers with
    registers, models whose channels come last, ConvNets and hybrids need no setting.

    Args:
        model_name: A name of ``timm.list_models()``.
        features_only: Give the maps (B, C, H, W) of several depths instead, the deepest last, as detectors need them.
        pretrained: Load the weights of timm's hub, from its cache if they are there.
        checkpoint_path: A file with weights in any layout that ``mocox.checkpoint.read`` knows, loaded completely or
            not at all by ``init_weights``; short for ``init_cfg=dict(type='mocox.Pretrained', checkpoint=...)``.
        in_channels: Channels of the image.
        stop_grad_conv1: Keep the patch projection as it is, which MoCo v3 advises for a transformer that begins with
            random weights (arXiv 2104.02057, section 4.2).
        norm_layer: The normalisation layer: a name of the registry, such as ``mocox.SyncBN``, or one of timm's.
        init_cfg: Initialiser config.
        kwargs: For ``timm.create_model``: ``img_size``, ``dynamic_img_size``, ``drop_path_rate``, ``depth``, ...

    Raises:
        TypeError: An argument that this model does not have, or ``pretrained`` is not True or False.
        ValueError: timm has no such model, or nothing to freeze by ``stop_grad_conv1``.
    """

    def __init__(
        self,
        model_name: str,
        features_only: bool = False,
        pretrained: bool = False,
        checkpoint_path: str = '',
        in_channels: int = 3,
        stop_grad_conv1: bool = False,
        norm_layer: str | None = None,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(pretrained, bool):
            raise TypeError(f'pretrained={pretrained!r}: True or False; checkpoint_path takes a file')
        if checkpoint_path:
            init_cfg = dict(type='mocox.Pretrained', checkpoint=checkpoint_path)
        super().__init__(init_cfg)
        require_model(model_name)
        if norm_layer is not None:
            kwargs['norm_layer'] = find_layer(norm_layer) or norm_layer
        kwargs |= dict(features_only=True) if features_only else dict(num_classes=0)
        try:
            self.timm_model: Any = timm.create_model(model_name, pretrained, in_chans=in_channels, **kwargs)
        except (TypeError, AssertionError) as error:
            fused = ' its norms have an activation of their own: leave norm_layer out' if norm_layer else ''
            raise TypeError(f'TIMMBackbone(model_name={model_name!r}): {error or fused}') from error
        self.model_name, self.features_only, self.pretrained = model_name, features_only, pretrained
        if stop_grad_conv1:
            _patch_projection(self.timm_model, model_name).requires_grad_(False)

    @property
    def normalisation(self) -> dict[str, list[float]]:
        """``mean`` and ``std`` of the images that timm's weights were trained on, in levels of 0 to 255."""
        config = getattr(self.timm_model, 'pretrained_cfg', None) or {}
        return {key: [round(255 * x, 4) for x in config[key]] for key in ('mean', 'std') if config.get(key)}

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of images (B, in_channels, H, W): a one-element tuple with (B, C), or maps (B, C, H, W)."""
        if self.features_only:
            return tuple(self._channels_first(features) for features in self.timm_model(x))
        return (self.timm_model.forward_head(self.timm_model.forward_features(x), pre_logits=True),)

    def forward_map(self, x: Tensor) -> Tensor:
        """The map (B, C, H, W) that is pooled to a vector; of tokens, those of patches on their grid.

        Raises:
            ValueError: The tokens do not form the grid of this model's patches.
        """
        features = self.timm_model.forward_features(x)
        if isinstance(features, Tensor) and features.ndim == 4:
            return self._channels_first(features)
        embed: Any = getattr(self.timm_model, 'patch_embed', None)
        prefix = getattr(self.timm_model, 'num_prefix_tokens', 0)
        if not isinstance(features, Tensor) or features.ndim != 3 or not hasattr(embed, 'dynamic_feat_size'):
            raise ValueError(f'{self.model_name} gives no map and no tokens of patches')
        patches = features[:, prefix:]  # (B, patches, C)
        grid = embed.dynamic_feat_size(x.shape[2:])
        if grid[0] * grid[1] != patches.shape[1]:
            raise ValueError(f'{self.model_name} gives {patches.shape[1]} tokens for {grid[0]} x {grid[1]} patches')
        return patches.transpose(1, 2).unflatten(2, tuple(grid))

    def _channels_first(self, features: Tensor) -> Tensor:
        fmt = getattr(self.timm_model, 'output_fmt', 'NCHW')
        return features.permute(0, 3, 1, 2).contiguous() if str(fmt).endswith('NHWC') else features

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter, for mmpretrain's layer-wise learning rate decay, by timm's own grouping.

        Args:
            param_name: Its name in the whole model.
            prefix: What the names of this backbone start with there.

        Returns:
            0 for what sees the image, rising with depth, the last depth for all that is not part of this backbone; and
            the number of depths.
        """
        name = param_name.removeprefix(f'{prefix}timm_model.')
        num_depths = max(self._depths.values()) + 2
        return self._depths.get(name, num_depths - 1) if name != param_name else num_depths - 1, num_depths

    @cached_property
    def _depths(self) -> dict[str, int]:
        depths = group_parameters(self.timm_model, self.timm_model.group_matcher(coarse=False), reverse=True)
        if 'reg_token' in depths:  # before 1.0.28 timm takes it for a part of the head
            depths['reg_token'] = 0
        return depths


def require_model(model_name: str) -> None:
    """Refuse a name that timm does not have.

    Raises:
        ValueError: Names the nearest.
    """
    if not timm.is_model(model_name.partition('.')[0]):
        nearest = difflib.get_close_matches(model_name, timm.list_models(), n=3)
        hint = f'; did you mean {", ".join(nearest)}?' if nearest else ': see timm.list_models()'
        raise ValueError(f'model_name={model_name!r}: timm {timm.__version__} has no such model{hint}')


def _patch_projection(model: nn.Module, model_name: str) -> nn.Module:
    projection = getattr(getattr(model, 'patch_embed', None), 'proj', None)
    if not isinstance(projection, nn.Conv2d | nn.Linear):
        raise ValueError(
            f'stop_grad_conv1=True: {model_name} has no linear patch projection (patch_embed.proj) to freeze'
        )
    return projection
