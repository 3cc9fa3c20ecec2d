"""The images that mmpretrain's inferencers read, cut as the test of a recipe cuts them."""

from typing import Any

import numpy as np

from mocox.registry import TRANSFORMS


@TRANSFORMS.register_module()
class InferencerCrops:
    """The only transform of a pipeline: an image of MMCV's reader to what a classifier takes.

    Args:
        crops: Config of the transform of the test.
    """

    def __init__(self, crops: dict) -> None:
        self.crops = TRANSFORMS.build(crops)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """``inputs``, a uint8 tensor (3, S, S) in RGB, and an empty data sample, of ``img`` (H, W, 3) in BGR."""
        from mmpretrain.structures import DataSample  # slow to import

        image = np.ascontiguousarray(results['img'][..., ::-1])
        return dict(inputs=self.crops(image, None)[0], data_samples=DataSample())
