"""Projection and prediction heads (multi-layer perceptrons); the feature pyramid that detectors put on a ViT."""

from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mocox.registry import MODELS


def average_positions(features: Tensor) -> Tensor:
    """One vector (B, C) for each image: the mean over the positions of a (B, C, H, W) map; (B, C) stays as it is."""
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features


@MODELS.register_module()
class NonLinearNeck(BaseModule):
    """Fully connected layers with BatchNorm and ReLU between them: the projector and the predictor of MoCo v3.

    Source: arXiv 2104.02057, section 5 ("MLP heads"). Same arguments and state-dict names (``fc0, bn0, fc1, ...``) as
    mmpretrain's class. With one layer it is ``in_channels -> out_channels`` and follows the ``with_last_*`` arguments.

    Args:
        in_channels: Width of the input.
        hid_channels: Width between layers.
        out_channels: Width of the output.
        num_layers: Number of fully connected layers, at least 1.
        with_bias: Bias in all layers but the last.
        with_last_bn: BatchNorm after the last layer.
        with_last_bn_affine: Scale and shift in that last BatchNorm; MoCo v3 has none.
        with_last_bias: Bias in the last layer.
        with_avg_pool: Average a (B, C, H, W) input over its positions first.
        norm_cfg: The normalisation layer; ``SyncBN`` shares statistics between processes.
        init_cfg: Initialiser; by default BatchNorm scales are 1 and linear layers keep PyTorch's initialisation.

    Raises:
        ValueError: ``num_layers`` is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: int,
        out_channels: int,
        num_layers: int = 2,
        with_bias: bool = False,
        with_last_bn: bool = True,
        with_last_bn_affine: bool = True,
        with_last_bias: bool = False,
        with_avg_pool: bool = True,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_layers < 1:
            raise ValueError(f'num_layers={num_layers}: NonLinearNeck needs at least one layer')
        norm_cfg = norm_cfg or dict(type='mocox.SyncBN')
        self.num_layers = num_layers
        self.in_channels = in_channels
        self.with_avg_pool = with_avg_pool
        widths = [in_channels] + [hid_channels] * (num_layers - 1) + [out_channels]
        for i in range(num_layers):
            last = i == num_layers - 1
            self.add_module(f'fc{i}', nn.Linear(widths[i], widths[i + 1], bias=with_last_bias if last else with_bias))
            if not last:
                self.add_module(f'bn{i}', build_norm_layer(norm_cfg, widths[i + 1])[1])
            elif with_last_bn:
                cfg = dict(norm_cfg, affine=with_last_bn_affine)
                self.add_module(f'bn{i}', build_norm_layer(cfg, widths[i + 1])[1])

    def forward(self, x: tuple[Tensor, ...] | Tensor, num_views: int = 1) -> tuple[Tensor]:
        """Project features.

        Args:
            x: The backbone's output, (B, C) or (B, C, H, W), or a tuple whose last entry is that.
            num_views: Views in ``x``, one after the other. Linear layers take them together, which reads their weights
                once; BatchNorm takes its statistics from one view at a time, as published.

        Returns:
            One-element tuple with (B, out_channels).
        """
        features = x if isinstance(x, Tensor) else x[-1]
        if self.with_avg_pool:
            features = average_positions(features)
        z: Any = features.flatten(1)
        if z.shape[1] != self.in_channels:
            raise ValueError(
                f'in_channels={self.in_channels} of a NonLinearNeck, but its input has {z.shape[1]} channels'
            )
        for i in range(self.num_layers):
            z = self._modules[f'fc{i}'](z)
            if (norm := self._modules.get(f'bn{i}')) is not None:
                z = torch.cat([norm(view) for view in z.chunk(num_views)]) if num_views > 1 else norm(z)
            if i < self.num_layers - 1:
                z = torch.relu(z)
        return (z,)


def project_views(neck: nn.Module, features: list[Tensor]) -> list[Tensor]:
    """Projections (N, D) of each view's features; a :class:`NonLinearNeck` takes all views together."""
    if not isinstance(neck, NonLinearNeck) or len(features) == 1:
        return [neck((feature,))[-1] for feature in features]
    if neck.with_avg_pool:
        features = [average_positions(feature) for feature in features]
    return list(neck((torch.cat(features),), num_views=len(features))[-1].chunk(len(features)))


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Feature maps of several strides from the one map of a plain transformer, for detectors.

    Source: arXiv 2203.16527, section 3. The last map, at the stride of the patches, is resized to 4, 2, 1 and 1/2 of
    its size by strided (transposed) convolutions or pooling; each result passes a 1 x 1 and a 3 x 3 convolution, both
    followed by a norm over channels. Further maps are pooled from the last.

    Args:
        in_channels: Width of the backbone.
        out_channels: Width of all maps.
        num_outs: Number of maps, at least 4; the 5th has half the size of the 4th, and so on.
        init_cfg: Initialiser config.

    Raises:
        ValueError: ``num_outs`` is below 4.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        num_outs: int = 5,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_outs < 4:
            raise ValueError(f'num_outs={num_outs}: SimpleFeaturePyramid gives at least 4 maps')
        self.num_outs = num_outs
        half, quarter = in_channels // 2, in_channels // 4
        resize = [
            nn.Sequential(
                nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                ChannelNorm(half),
                nn.GELU(),
                nn.ConvTranspose2d(half, quarter, 2, stride=2),
            ),
            nn.ConvTranspose2d(in_channels, half, 2, stride=2),
            nn.Identity(),
            nn.MaxPool2d(2),
        ]
        widths = [quarter, half, in_channels, in_channels]
        self.stages = nn.ModuleList(
            nn.Sequential(
                layer,
                nn.Conv2d(width, out_channels, 1, bias=False),
                ChannelNorm(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                ChannelNorm(out_channels),
            )
            for layer, width in zip(resize, widths, strict=True)
        )

    def forward(self, x: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Maps of stride 1/4, 1/2, 1, 2, ... of the backbone's last map (B, C, H, W)."""
        maps = [stage(x[-1]) for stage in self.stages]
        while len(maps) < self.num_outs:
            maps.append(maps[-1][:, :, ::2, ::2])
        return tuple(maps)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a (B, C, H, W) map."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
