"""The pictures of ``tools/visualize.py``, from a config or a checkpoint to a file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from mocox.checkpoint.files import write_atomically
from mocox.datasets import ImageFiles, Pixels, collate_views
from mocox.datasets.pixels import RGB
from mocox.datasets.subset import spread
from mocox.evaluation.encoder import checkpoint_pixels
from mocox.evaluation.features import describe_left_out
from mocox.evaluation.inference import FeatureExtractor, to_pixels
from mocox.evaluation.search import search_images
from mocox.recipe import Recipe, section
from mocox.registry import TRANSFORMS
from mocox.terminal import say
from mocox.visualize.attention import attention_maps, overlay
from mocox.visualize.bands import describe_bands, show_bands
from mocox.visualize.contact_sheet import augmented_views, draw_sheet
from mocox.visualize.embedding import embed

# Okabe and Ito's colours, which colour-blind people tell apart; after eight of them the shape changes.
COLORS = ('#0072B2', '#E69F00', '#009E73', '#D55E00', '#CC79A7', '#56B4E9', '#999999', '#000000')
SHAPES = ('o', '^', 's', 'D')
MAX_CLASSES = len(COLORS) * len(SHAPES)
MAX_TILE_PX = 128
MIN_SIDE_PX = 160  # small images are magnified before attention is laid over them


def views_sheet(
    config: dict[str, Any], out: str | Path, num: int = 12, epoch: int = 0, bands: Sequence[int] | None = None
) -> tuple[int, str]:
    """Write images beside their augmented views; return how many, and which bands are shown if not all.

    Without ``bands`` those of the config's report count, ``default_hooks.report.bands``.
    """
    recipe = Recipe(config)
    bands = bands or section(config, 'default_hooks', 'report').get('bands')
    rows = augmented_views(config, num, epoch, bands)
    shown = describe_bands(len(recipe.preprocessor['mean']), bands)
    titles = [shown or 'image', *(f'view {number}' for number in range(1, len(rows[0])))]
    save_picture(draw_sheet(rows, titles), out)
    return len(rows), shown


def attention_sheet(
    checkpoint: str | Path,
    images: Sequence[str | Path],
    out: str | Path,
    num: int = 8,
    bands: Sequence[int] | None = None,
    **settings,
) -> tuple[int, int]:
    """Write a row for each image: itself, the mean over heads, every head.

    Args:
        checkpoint: Of a vision transformer, in any layout that :func:`mocox.checkpoint.read` recognises.
        images: Files, or folders, of which ``num`` images are taken, evenly spread.
        out: The PNG file.
        num: Images from folders.
        bands: See :func:`mocox.visualize.bands.show_bands`.
        settings: ``encoder, config, heads, image_size, device`` of :class:`FeatureExtractor`.

    Returns:
        Number of images and of heads.

    Raises:
        FileNotFoundError: No such file or folder.
        ValueError: Not an image, or no vision transformer.
    """
    extractor = FeatureExtractor(checkpoint, **settings)
    found = [to_pixels(path, extractor.pixels) for path in pick_images(images, num, extractor.pixels)]
    crops, maps = attention_of(extractor, found, bands)
    rows = [attention_row(crop, heads) for crop, heads in zip(crops, maps, strict=True)]
    shown = describe_bands(extractor.pixels.num_channels, bands)
    titles = [shown or 'image', 'mean', *(f'head {i}' for i in range(1, maps.shape[1] + 1))]
    save_picture(draw_sheet(rows, titles), out)
    return len(rows), maps.shape[1]


def attention_of(
    extractor: FeatureExtractor, images: Sequence[np.ndarray], bands: Sequence[int] | None = None
) -> tuple[list[np.ndarray], Tensor]:
    """Input images (H, W, C) of a vision transformer as RGB uint8, and its attention (B, heads, h, w)."""
    batch = collate_views([dict(inputs=extractor.crops(image, None)) for image in images])
    inputs = extractor.model.data_preprocessor(batch, training=False)['inputs']
    inputs = inputs if isinstance(inputs, Tensor) else inputs[0]
    maps = attention_maps(extractor.model.backbone, inputs.flip(1) if extractor.model.bgr else inputs)
    crops = [view.permute(1, 2, 0).numpy() for view in batch['inputs'][0]]
    return [show_bands([crop], bands)[0] for crop in crops], maps.cpu()


def attention_row(crop: np.ndarray, heads: Tensor) -> list[np.ndarray]:
    """An image (S, S, 3) uint8, the mean attention on it, and that of each head (heads, h, w)."""
    factor = max(1, -(-MIN_SIDE_PX // len(crop)))
    crop = crop.repeat(factor, 0).repeat(factor, 1)
    return [crop, *(overlay(crop, attention) for attention in (heads.mean(dim=0), *heads))]


def neighbours_sheet(
    checkpoint: str | Path,
    folder: str,
    out: str | Path,
    queries: Sequence[str] | None = None,
    num: int = 6,
    num_results: int = 8,
    bands: Sequence[int] | None = None,
    **settings,
) -> list[list[tuple[str, float]]]:
    """Write a row for each query image: itself and its nearest neighbours; see :func:`search_images`.

    Args:
        checkpoint: In any layout that :func:`mocox.checkpoint.read` recognises.
        folder: Searched with all its subfolders.
        out: The PNG file.
        queries: Image files; by default ``num`` images of the folder, evenly spread.
        num: Queries from the folder.
        num_results: Neighbours of each.
        bands: See :func:`mocox.visualize.bands.show_bands`.
        settings: Those of :func:`search_images`.
    """
    pixels = checkpoint_pixels(checkpoint, settings.get('config'))
    queries = queries or pick_images([folder], num, pixels)
    found = search_images(queries, folder, checkpoint, num_results, **settings)
    save_picture(draw_grid(queries, found, pixels, bands), out)
    return found


def draw_grid(
    queries: Sequence[str | Path],
    found: Sequence[Sequence[tuple[str, float]]],
    pixels: Pixels = RGB,
    bands: Sequence[int] | None = None,
) -> Image.Image:
    """One row per query: the query, then what was found; a single row has the similarities as titles."""
    rows = [
        [_tile(path, pixels, bands) for path in (query, *(path for path, _ in pairs))]
        for query, pairs in zip(queries, found)
    ]
    titles = [f'{value:.3f}' if len(found) == 1 else str(rank) for rank, (_, value) in enumerate(found[0], start=1)]
    return draw_sheet(rows, [describe_bands(pixels.num_channels, bands) or 'query', *titles])


def _tile(path: str | Path, pixels: Pixels, bands: Sequence[int] | None) -> np.ndarray:
    image = Image.fromarray(show_bands([to_pixels(path, pixels)], bands)[0])
    image.thumbnail((MAX_TILE_PX, MAX_TILE_PX))
    return np.asarray(image)


def embedding_map(
    checkpoint: str | Path,
    folder: str,
    out: str | Path,
    method: str = 'pca',
    num: int = 1000,
    seed: int = 0,
    batch_size: int = 64,
    num_workers: int = 0,
    **settings,
) -> tuple[int, int]:
    """Write a map of a folder's images, those with similar features close to each other, coloured by class folder.

    Returns:
        Number of images and of classes, 0 where the folder does not tell classes.
    """
    extractor = FeatureExtractor(checkpoint, **settings)
    paths = pick_images([folder], num, extractor.pixels)
    points = embed(extractor(paths, batch_size, num_workers, progress=True), method, seed)
    classes = classes_of(paths, folder)
    write_atomically(out, lambda path: _draw_map(points, classes, method).savefig(path, format='png'))
    return len(points), len(set(classes)) if classes else 0


def pick_images(places: Sequence[str | Path], num: int, pixels: Pixels = RGB) -> list[str]:
    """Files as they are, and of every folder at most ``num`` images, evenly spread, without those that are unreadable.

    Raises:
        FileNotFoundError: There is neither a file nor a folder of that name.
        ValueError: A folder without images, or ``num`` below 1.
    """
    if num < 1:
        raise ValueError(f'the number of images must be at least 1, got {num}')
    found = []
    for place in places:
        if Path(place).is_dir():
            settings = dict(splits=False, **pixels.settings())
            images = ImageFiles(str(place), TRANSFORMS.build(dict(type='CenterCrop')), **settings)
            rows = spread(len(images), num)
            read = [row for row in rows if images.can_read(row)]
            missing = [images.path(row) for row in rows if row not in read]
            if missing:
                say(describe_left_out(missing, len(rows), f'images of {place}'))
            found += [images.path(row) for row in read]
        elif Path(place).is_file():
            found.append(str(place))
        else:
            raise FileNotFoundError(f'there is no image or folder {place}')
    return found


def classes_of(paths: Sequence[str], folder: str | Path) -> list[str] | None:
    """The class of each image, which is the first folder on its path; None where that tells nothing.

    It tells nothing where images lie in the folder itself, where there is one class, and where there are more than can
    be told apart.
    """
    parts = [Path(path).relative_to(folder).parts for path in paths]
    names = [part[0] for part in parts]
    known = all(len(part) > 1 for part in parts) and 1 < len(set(names)) <= MAX_CLASSES
    return names if known and max(Counter(names).values()) > 1 else None


def _draw_map(points: np.ndarray, classes: list[str] | None, method: str) -> Any:
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(8.5, 7), dpi=110, layout='constrained')
    axes = figure.subplots()
    names = sorted(set(classes)) if classes else ['']
    for number, name in enumerate(names):
        of_class = points if classes is None else points[np.array(classes) == name]
        shape, color = SHAPES[number // len(COLORS)], COLORS[number % len(COLORS)]
        x, y = of_class.T
        axes.scatter(x, y, s=22, c=color, marker=shape, alpha=0.75, linewidths=0, label=name.replace('$', r'\$'))
    axes.set(xticks=[], yticks=[], title=f'{len(points):,} images, {method.upper().replace("TSNE", "t-SNE")}')
    axes.set_aspect('equal', 'datalim')
    if classes:
        figure.legend(loc='outside right upper', frameon=False, fontsize=9)
    return figure


def save_picture(image: Image.Image, out: str | Path) -> None:
    """Write a PNG file, all of it or nothing."""
    write_atomically(out, lambda path: image.save(path, format='PNG'))
