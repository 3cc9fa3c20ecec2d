"""From crops to the model's input: photometric augmentation and normalisation, on the training device."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import DefaultScope
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from torch.nn.functional import one_hot

from mocox.augment.batched import augment
from mocox.augment.fused import fuse
from mocox.augment.recipe import View, check_num_views, sample_parameters
from mocox.randomness import global_seed
from mocox.registry import MODELS


@MODELS.register_module()
class ViewsPreprocessor(BaseDataPreprocessor):
    """Augments each view by its own recipe, and normalises it.

    All randomness comes in with the data (``draws``), so the result does not depend on the device, the batch that a
    sample is in, or the state of any generator. Autocast is off inside. With ``training=False`` it only normalises, and
    so it does with batches that were ``augmented`` where they were loaded.

    Args:
        mean: Per channel (of RGB, say), in levels of 0 to 255 whatever the depth of the crops.
        std: Per channel, likewise.
        views: One dictionary per view, see :class:`mocox.augment.recipe.View`.
        non_blocking: Whether the copy to a GPU may overlap with its work.
        photometric: Where the views are augmented: ``'workers'`` (image by image, by the loader workers),
            ``'device'`` (here, in batches) or ``'auto'``: by the workers if the model is on the CPU and there are any.
            Carried out by ``SetupHook``; without it, it happens here.
        fused: Whether the batched operations are compiled to few kernels, which takes tens of seconds at the start.
            ``'auto'``: on a GPU, for views with more than flips, grayscale and solarisation, and if compiling fails
            there, a warning.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        views: Sequence[dict],
        non_blocking: bool = True,
        photometric: str = 'auto',
        fused: bool | str = 'auto',
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        if photometric not in ('auto', 'device', 'workers'):
            raise ValueError(f"photometric must be 'auto', 'device' or 'workers', got {photometric!r}")
        if fused not in (True, False, 'auto'):
            raise ValueError(f"fused must be True, False or 'auto', got {fused!r}")
        self.photometric, self.fused = photometric, fused
        if len(mean) != len(std) or not std or min(std) <= 0:
            raise ValueError(
                f'mean and std must be a level (0 to 255) per channel, three for RGB, std > 0; got {mean!r} and {std!r}'
            )
        self.views = [View.from_config(view) for view in views]
        for view in self.views:
            _check_channels(view, len(mean))
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def augments_in_workers(self, num_workers: int) -> bool:
        """True if the loader workers are to augment, given their number."""
        if all(view == View() for view in self.views):  # nothing to do
            return False
        chosen = self.photometric == 'auto' and self.device.type == 'cpu' and num_workers > 0
        return self.photometric == 'workers' or chosen

    @torch.no_grad()
    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch.

        Args:
            data: What ``collate_views`` returns.

        Returns:
            ``inputs``: list of V float32 tensors (B, C, S, S); ``data_samples``: None.
        """
        return dict(inputs=self._prepare_views(data, training), data_samples=None)

    def _prepare_views(self, data: dict[str, Any], training: bool) -> list[Tensor]:
        crops = [self._levels(crop) for crop in self.cast_data(data['inputs'])]
        if training:
            check_num_views(len(crops), len(self.views))
        with torch.autocast(self.device.type, enabled=False):
            if training and 'augmented' not in data:
                draws = data['draws'].unbind(1)  # stays on the CPU
                return [self._augment(*row) for row in zip(crops, draws, self.views, strict=True)]
            return [self._normalise(crop.to(torch.float32, copy=True)) for crop in crops]

    def _levels(self, crops: Tensor) -> Tensor:
        """Crops of 8 bits and of floating point are levels already; those of 16 bits become such."""
        if crops.shape[1] != len(self.mean):
            raise ValueError(
                f'the images have {crops.shape[1]} channels, mean and std of data_preprocessor {len(self.mean)}: give '
                'one of each per channel (mocox doctor measures them), or set channels of the dataset'
            )
        return crops.to(torch.float32).mul_(255 / 65535) if crops.dtype == torch.uint16 else crops

    def _normalise(self, images: Tensor) -> Tensor:
        """In place: on a CPU, new memory costs more than the arithmetic."""
        return images.sub_(self.mean).div_(self.std)

    @staticmethod
    def _pays_to_fuse(crops: Tensor, view: View) -> bool:
        return crops.device.type == 'cuda' and bool(view.color_jitter or view.blur_prob or view.domain_steps)

    def _augment(self, crops: Tensor, draws: Tensor, view: View) -> Tensor:
        """One view of the batch, augmented and normalised."""
        parameters = sample_parameters(draws, view)
        if self.fused is True or (self.fused == 'auto' and self._pays_to_fuse(crops, view)):
            try:
                return fuse(crops, parameters, view, self.mean, self.std)
            except TorchDynamoException as error:  # no compiler, no Triton, ...
                if self.fused is True:
                    raise
                self.fused = False
                reason = ' '.join(str(error).split('\n')[:2])
                print_log(
                    f'augmentation is not compiled, which costs some speed, because that failed: {reason}',
                    logger='current',
                    level=logging.WARNING,
                )
        return self._normalise(augment(crops.to(torch.float32, copy=True), parameters, view))


@MODELS.register_module()
class LabelledPreprocessor(ViewsPreprocessor):
    """One view and its label, in the form that mmpretrain's classifiers take; ``views`` has one entry.

    Args:
        mean: Per channel (of RGB, say), in levels of 0 to 255 whatever the depth of the crops.
        std: Per channel, likewise.
        views: One dictionary, see :class:`mocox.augment.recipe.View`.
        non_blocking: Whether the copy to a GPU may overlap with its work.
        num_classes: Needed by ``batch_augments`` only.
        batch_augments: Arguments of mmpretrain's ``RandomBatchAugment`` (mixup, cutmix). Its ``ImageClassifier`` passes
            its own ``train_cfg`` here. What they draw comes from the ``draws`` of the batch's first sample.
        photometric: Where the view is augmented.
        fused: Whether that is compiled if it happens in batches.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        views: Sequence[dict] = ({},),
        non_blocking: bool = True,
        num_classes: int | None = None,
        batch_augments: dict | None = None,
        photometric: str = 'auto',
        fused: bool | str = 'auto',
    ) -> None:
        super().__init__(mean, std, views, non_blocking, photometric, fused)
        if len(self.views) != 1:
            raise ValueError(f'LabelledPreprocessor prepares one view, got {len(self.views)} in views')
        if batch_augments and num_classes is None:
            raise ValueError('mixup and cutmix need the number of classes: set data_preprocessor.num_classes')
        self.num_classes = num_classes
        self.batch_augments = _build_batch_augments(batch_augments) if batch_augments else None

    @torch.no_grad()
    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch.

        Returns:
            ``inputs``: float32 (B, C, S, S); ``data_samples``: list of B mmpretrain DataSamples with ``gt_label``, and
            with ``gt_score`` (a distribution over classes) where images were mixed.
        """
        from mmpretrain.structures import DataSample  # slow to import, and only classifiers need it

        if 'label' not in data and 'data_samples' in data and not training:  # of mmpretrain's inferencers
            (images,) = self._prepare_views(dict(inputs=[data['inputs']]), training)
            return dict(inputs=images, data_samples=data['data_samples'])
        if 'label' not in data:
            raise ValueError('the batch has no labels: set with_labels=True in the dataset')
        (images,) = self._prepare_views(data, training)
        labels = self.cast_data(data['label'])
        samples = [DataSample().set_gt_label(label) for label in labels.split(1)]
        if training and self.batch_augments is not None:
            seed = int(data['draws'][0, 0, -1].item() * 2**24)
            with global_seed(seed), torch.autocast(self.device.type, enabled=False):
                images, scores = self.batch_augments(images, self._one_hot(labels))
            for sample, score in zip(samples, scores, strict=True):
                sample.set_gt_score(score)
        return dict(inputs=images, data_samples=samples)

    def _one_hot(self, labels: Tensor) -> Tensor:
        assert self.num_classes is not None  # refused at the start
        if labels.max() >= self.num_classes:
            raise ValueError(f'a label is {int(labels.max())}, but num_classes={self.num_classes} in data_preprocessor')
        return one_hot(labels, self.num_classes)


def _check_channels(view: View, num_channels: int) -> None:
    needs_luma = view.grayscale_prob and view.grayscale_weights is None
    if num_channels != 3 and (view.color_jitter or needs_luma):
        raise ValueError(
            f'color_jitter and grayscale need red, green and blue, and mean has {num_channels} channels: use '
            'channel_jitter and grayscale_weights, as mocov3/vit-small_multispectral.py does, and for one channel '
            'mocov3/vit-small_grayscale.py (--arch chooses the backbone)'
        )
    view.check_channels(num_channels)


def _build_batch_augments(cfg: dict) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    from mmpretrain.models import RandomBatchAugment

    with DefaultScope.overwrite_default_scope('mmpretrain'):  # else MMEngine warns that scope mocox has no augments
        return RandomBatchAugment(**cfg)
