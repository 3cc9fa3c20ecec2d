"""From JPEG files to a batch of two views: pure decoding, the published pipelines, and ours."""

import inspect
import random
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image, ImageFilter, ImageOps
from torch.utils.data import default_collate
from torchvision import transforms

from mocox.datasets import ImageFiles, collate_views
from mocox.datasets.decoding import decode
from mocox.datasets.transforms import RandomResizedCrops
from mocox.recipe import Recipe
from mocox.registry import MODELS, TRANSFORMS

# A pipeline takes numbers of images and gives a batch.
Pipeline = Callable[[Sequence[int]], Any]


class RandomBlur:
    """PIL's blur with a standard deviation drawn from a range, as in the official code."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __call__(self, image: Image.Image) -> Image.Image:
        """Blurs one image."""
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(self.low, self.high)))


def official_view(image_size: int, scale: Sequence[float], blur_prob: float, solarize_prob: float) -> Callable:
    """One view as the official code makes it with PIL and torchvision, normalised, float32.

    Source: arXiv 2104.02057, section 4 (BYOL's augmentation, arXiv 2006.07733, table 6); the operations and their order
    are those of the official repository.
    """
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(image_size, scale=tuple(scale)),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.RandomApply([RandomBlur(0.1, 2.0)], p=blur_prob),
            transforms.RandomApply([ImageOps.solarize], p=solarize_prob),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )


def decoding(folder: Path) -> Pipeline:
    """OpenCV's decoder alone: no pipeline that decodes the whole image can be faster."""
    paths = _paths(folder)
    return lambda indices: [cv2.imread(paths[i], cv2.IMREAD_COLOR) for i in indices]


def official(folder: Path, image_size: int, scale: Sequence[float]) -> Pipeline:
    """PIL and torchvision, two views."""
    paths = _paths(folder)
    views = [official_view(image_size, scale, *probs) for probs in ((1.0, 0.0), (0.1, 0.2))]

    def load(index: int) -> list[torch.Tensor]:
        with open(paths[index], 'rb') as file:
            image = Image.open(file).convert('RGB')
        return [view(image) for view in views]

    return lambda indices: default_collate([load(i) for i in indices])


def of_mmpretrain(folder: Path, ours: Config, image_size: int) -> tuple[Pipeline, list[str]]:
    """The pipeline of its published config, and what was changed in it; gives uint8 and normalises on the device."""
    from lab.benchmark.mmpretrain_peer import published_config, view_pipeline

    paths = _paths(folder)
    config, _ = published_config(ours)
    remarks: list[str] = []
    pipeline = view_pipeline(config, image_size, remarks)
    return lambda indices: [pipeline(dict(img_path=paths[i]))['inputs'] for i in indices], remarks


def ours(folder: Path, config: Config, image_size: int) -> dict[str, Pipeline]:
    """The ways mocox has: crops alone, with what a GPU would then do left out, and all of it on the CPU."""
    with DefaultScope.overwrite_default_scope('mocox'):
        crops = TRANSFORMS.build(dict(config.train_dataloader.dataset.crops, size=image_size))
        preprocessor = MODELS.build(Recipe(config).preprocessor)
        dataset = ImageFiles(str(folder), crops=crops)
    recipes = list(Recipe(config).views)

    epochs = count()  # other crops in each round

    def load(indices: Sequence[int]) -> list[dict]:
        epoch = next(epochs)
        return [dataset[epoch, i] for i in indices]

    def crop(indices: Sequence[int]) -> dict:
        return collate_views(load(indices))

    found: dict[str, Pipeline] = {'ours, uint8 crops': crop}
    if 'views' in inspect.signature(collate_views).parameters:

        def augment(indices: Sequence[int]) -> dict:
            return collate_views(load(indices), views=recipes)

        found['ours, augmented by workers'] = augment
        found['ours, augmented by workers, normalised'] = lambda indices: preprocessor(augment(indices), training=True)
    else:
        found['ours, augmented in batches'] = lambda indices: preprocessor(crop(indices), training=True)
    return found


def largest_crop_difference(folder: Path, image_size: int, num_images: int = 4) -> int:
    """Largest difference, in levels of 255, of our crops from PIL's ``crop().resize()`` of the same boxes."""
    crops = RandomResizedCrops(image_size, num_views=1)
    largest = 0
    for path in _paths(folder)[:num_images]:
        image = decode(Path(path).read_bytes())
        for seed in range(4):
            (view,) = crops(image, np.random.default_rng(seed))
            top, left, height, width = crops.sample_box(*image.shape[:2], np.random.default_rng(seed))
            pil = Image.open(path).convert('RGB').crop((left, top, left + width, top + height))
            expected = np.asarray(pil.resize((image_size, image_size), Image.Resampling.BILINEAR)).astype(int)
            largest = max(largest, int(np.abs(view.permute(1, 2, 0).numpy().astype(int) - expected).max()))
    return largest


def _paths(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.glob('*.jpg'))
