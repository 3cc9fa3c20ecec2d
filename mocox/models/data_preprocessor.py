"""From uint8 views to the model's input: photometric augmentation and normalisation, on the training device."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mocox.models.gpu_augment import View, augment, sample_parameters
from mocox.registry import MODELS


@MODELS.register_module()
class ViewsPreprocessor(BaseDataPreprocessor):
    """Augments every view in its own way and normalises it.

    All randomness comes in with the data (``draws``), so the result does not depend on the device, the batch that a
    sample is in, or the state of any generator. Autocast is off inside. With ``training=False`` it only normalises.

    Args:
        mean: Per channel (RGB), 0 to 255.
        std: Per channel (RGB), 0 to 255.
        views: One dictionary per view, see :class:`mocox.models.gpu_augment.View`.
        non_blocking: Whether the copy to a GPU may overlap with its work.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], views: Sequence[dict], non_blocking: bool = True
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f'mean and std must be three levels (RGB, 0 to 255), std > 0; got {mean!r} and {std!r}')
        self.views = [View.from_config(view) for view in views]
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepares a batch.

        Args:
            data: What ``collate_views`` returns.

        Returns:
            ``inputs``: list of V float32 tensors (B, 3, S, S); ``data_samples``: None.
        """
        return dict(inputs=self._prepare_views(data, training), data_samples=None)

    def _prepare_views(self, data: dict[str, Any], training: bool) -> list[Tensor]:
        crops = self.cast_data(data['inputs'])
        if training and len(crops) != len(self.views):
            raise ValueError(
                f'the dataset cuts {len(crops)} views per image and the preprocessor augments {len(self.views)}: '
                'make num_views of the crops and the length of views agree'
            )
        with torch.autocast(self.device.type, enabled=False):
            images = [crop.to(torch.float32, copy=True) for crop in crops]
            if training:
                draws = data['draws'].unbind(1)  # stays on the CPU
                images = [
                    augment(image, sample_parameters(draw, view), view)
                    for image, draw, view in zip(images, draws, self.views, strict=True)
                ]
            return [(image - self.mean) / self.std for image in images]


@MODELS.register_module()
class LabelledPreprocessor(ViewsPreprocessor):
    """One view and its label, in the form that mmpretrain's classifiers take; ``views`` has one entry."""

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], views: Sequence[dict] = ({},), non_blocking: bool = True
    ) -> None:
        super().__init__(mean, std, views, non_blocking)
        if len(self.views) != 1:
            raise ValueError(f'LabelledPreprocessor prepares one view, got {len(self.views)} in views')

    @torch.no_grad()
    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepares a batch.

        Returns:
            ``inputs``: float32 (B, 3, S, S); ``data_samples``: list of B mmpretrain DataSamples with ``gt_label``.
        """
        from mmpretrain.structures import DataSample  # slow to import, and only classifiers need it

        if 'label' not in data:
            raise ValueError('the batch has no labels: set with_labels=True in the dataset')
        (images,) = self._prepare_views(data, training)
        labels = self.cast_data(data['label'])
        return dict(inputs=images, data_samples=[DataSample().set_gt_label(label) for label in labels.split(1)])
