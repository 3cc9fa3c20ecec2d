"""Contact sheets: images beside their views, through the dataset and the preprocessor of a config."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from mocox.datasets import ViewsDataset, collate_views
from mocox.models import ViewsPreprocessor
from mocox.recipe import Recipe
from mocox.registry import DATASETS, MODELS
from mocox.visualize.bands import show_bands

MIN_TILE_PX = 96  # smaller views are magnified, pixel by pixel
MAX_TILE_PX = 224
GAP_PX = 6
TITLE_PX = 22


def augmented_views(
    config: dict[str, Any], num_images: int, epoch: int = 0, bands: Sequence[int] | None = None
) -> list[list[np.ndarray]]:
    """Augment some images, spread over the dataset, as in training.

    Args:
        config: A whole config with ``train_dataloader`` and a data preprocessor, of the model or at the top level.
        num_images: At most as many as the dataset has.
        epoch: The epoch whose random numbers are used.
        bands: See :func:`mocox.visualize.bands.show_bands`.

    Returns:
        For each image: itself, then its views, each (H, W, 3) uint8.
    """
    if num_images < 1:
        raise ValueError(f'the number of images must be at least 1, got {num_images}')
    preprocessor = MODELS.build(_preprocessor_config(config))
    return views_of(DATASETS.build(config['train_dataloader']['dataset']), preprocessor, num_images, epoch, bands)


def views_of(
    dataset: ViewsDataset,
    preprocessor: ViewsPreprocessor,
    num_images: int,
    epoch: int = 0,
    bands: Sequence[int] | None = None,
) -> list[list[np.ndarray]]:
    """:func:`augmented_views` for an existing dataset and preprocessor."""
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(num_images, len(dataset))).astype(int)).tolist()
    batch = collate_views([dataset[epoch, index] for index in indices])
    inputs = preprocessor(batch, training=True)['inputs']
    views = [inputs] if isinstance(inputs, torch.Tensor) else inputs
    levels = [(view * preprocessor.std + preprocessor.mean).round().clamp(0, 255).byte() for view in views]
    levels = [view.permute(0, 2, 3, 1).cpu().numpy() for view in levels]  # V x (B, S, S, C)
    rows = [[dataset.load(index)[0], *(view[i] for view in levels)] for i, index in enumerate(indices)]
    return [show_bands(row, bands) for row in rows]


def draw_sheet(rows: list[list[np.ndarray]], titles: list[str] | None = None) -> Image.Image:
    """Lay images out as a contact sheet: groups of tiles in rows, several groups side by side.

    Args:
        rows: Groups of equal length, of images (H, W, 3) uint8; the last image gives the size of the tiles.
        titles: One per image of a group; by default ``image``, ``view 1``, ``view 2`` ...
    """
    side = max(MIN_TILE_PX, min(MAX_TILE_PX, rows[0][-1].shape[0]))
    titles = titles or ['image', *(f'view {number}' for number in range(1, len(rows[0])))]
    group_width = len(titles) * (side + GAP_PX) + 2 * GAP_PX
    num_columns = max(1, round(math.sqrt(len(rows) * 1.6 * (side + GAP_PX) / group_width)))  # wider than high
    num_lines = math.ceil(len(rows) / num_columns)
    sheet = Image.new('RGB', (num_columns * group_width, TITLE_PX + num_lines * (side + GAP_PX)), 'white')
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for number, row in enumerate(rows):
        left, top = number % num_columns * group_width + GAP_PX, TITLE_PX + number // num_columns * (side + GAP_PX)
        for title, image in zip(titles, row, strict=True):
            if number < num_columns:
                draw.text((left, 4), title, fill='black', font=font)
            sheet.paste(*_fit(image, left, top, side))
            left += side + GAP_PX
    return sheet


def _preprocessor_config(config: dict[str, Any]) -> Mapping[str, Any]:
    preprocessor = Recipe(config).preprocessor
    if not preprocessor:
        raise ValueError('the config has no data_preprocessor: there are no views to show')
    return preprocessor


def _fit(image: np.ndarray, left: int, top: int, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """Scale an image into a square of the given side, and return where to paste it."""
    tile = Image.fromarray(image)
    scale = side / max(tile.size)
    width, height = (max(1, round(length * scale)) for length in tile.size)
    tile = tile.resize((width, height), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR)
    return tile, (left + (side - width) // 2, top + (side - height) // 2)
