"""Linear evaluation: a classifier on frozen features."""

import logging
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mocox.models.algorithms.base import LoggedModel, build_preprocessor
from mocox.models.layout import last_output, require_layout
from mocox.models.necks import average_positions
from mocox.models.parts import build_on, build_part
from mocox.registry import MODELS


@MODELS.register_module()
class LinearProbe(LoggedModel):
    """A linear classifier on a frozen backbone, the protocol of the MoCo papers.

    The backbone stays in evaluation mode while the head trains, so that neither its weights nor its BatchNorm
    statistics move, and it gets no gradient. No normalisation stands between features and classifier. Source:
    arXiv 1911.05722, section 4.1; arXiv 2104.02057, appendix A.

    Args:
        backbone: The backbone, a module or its config; its last output is used, averaged over positions if it has any.
        head: A classification head, a module or its config, e.g. mmpretrain's ``LinearClsHead`` with
            ``_scope_='mmpretrain'``, whose ``in_channels`` may be left out.
        data_preprocessor: Config; must give images and labelled data samples.
        init_cfg: Initialiser config.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        head: dict | nn.Module,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(build_preprocessor(data_preprocessor), init_cfg)
        self.backbone = build_part(backbone)
        self.backbone.requires_grad_(False)
        self.head: Any = build_on(self.backbone, head)

    def init_weights(self) -> None:
        """Initialise as every model, and warn if nothing was loaded into the backbone."""
        super().init_weights()
        configs = getattr(self.backbone, 'init_cfg', None) or []
        kinds = [config['type'] for config in ([configs] if isinstance(configs, dict) else configs)]
        if not any(str(kind).rpartition('.')[2] == 'Pretrained' for kind in kinds):
            print_log(
                'The backbone has random weights: give its checkpoint with --pretrained FILE.',
                logger='current',
                level=logging.WARNING,
            )

    def train(self, mode: bool = True) -> 'LinearProbe':
        """Switch the head's mode; the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def extract_feat(self, inputs: Tensor) -> tuple[Tensor]:
        """Frozen features of images (B, 3, S, S), as a one-element tuple with (B, C)."""
        name = type(self.backbone).__name__
        return (average_positions(require_layout(last_output(self.backbone(inputs), name), inputs, name)),)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        """MMEngine's entry: ``loss`` gives losses, ``predict`` data samples with scores, ``tensor`` class scores."""
        features = self.extract_feat(inputs)
        width = getattr(self.head, 'in_channels', None)
        if width not in (None, features[0].shape[1]):
            raise ValueError(
                f'head.in_channels={width}, but the backbone gives {features[0].shape[1]} features: set '
                'model.head.in_channels to that'
            )
        if mode == 'loss':
            return self.head.loss(features, data_samples)
        if mode == 'predict':
            return self.head.predict(features, data_samples)
        return self.head(features)
