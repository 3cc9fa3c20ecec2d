"""Projection and prediction heads (multi-layer perceptrons)."""

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mocox.registry import MODELS


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

    def forward(self, x: tuple[Tensor, ...] | Tensor) -> tuple[Tensor]:
        """Project features.

        Args:
            x: The backbone's output, (B, C) or (B, C, H, W), or a tuple whose last entry is that.

        Returns:
            One-element tuple with (B, out_channels).
        """
        x = x if isinstance(x, Tensor) else x[-1]
        if self.with_avg_pool and x.ndim == 4:
            x = x.mean(dim=(2, 3))
        x = x.flatten(1)
        for i in range(self.num_layers):
            x = self._modules[f'fc{i}'](x)
            if (norm := self._modules.get(f'bn{i}')) is not None:
                x = norm(x)
            if i < self.num_layers - 1:
                x = torch.relu(x)
        return (x,)
