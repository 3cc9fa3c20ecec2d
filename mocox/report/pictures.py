"""The images of a report: pairs of views, neighbours, attention, a map; each as a data URI or a chart."""

import base64
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from PIL import Image
from torch import nn

from mocox.datasets import EncodedImages, ViewsDataset
from mocox.datasets.pixels import RGB
from mocox.datasets.resizing import Size
from mocox.datasets.subset import spread
from mocox.evaluation.features import describe_left_out
from mocox.evaluation.inference import FeatureExtractor
from mocox.evaluation.knn import nearest_neighbours
from mocox.recipe import Recipe, section, type_of
from mocox.registry import DATASETS, require_registered
from mocox.visualize.attention import overlay
from mocox.visualize.bands import describe_bands, show_bands
from mocox.visualize.contact_sheet import augmented_views, views_of
from mocox.visualize.embedding import embed
from mocox.visualize.sheets import attention_of, classes_of

TILE_PX = 112
MAP_PX = 400  # side of a map's viewBox
NUM_PAIRS, NUM_QUERIES, NUM_NEIGHBOURS, NUM_ATTENTION, MAX_HEADS = 8, 5, 6, 4, 12
METHOD_NAMES = dict(pca='PCA', tsne='t-SNE', umap='UMAP')


@dataclass
class Tile:
    """An image on the page: its data URI and what it is in words."""

    uri: str
    text: str
    label: str = ''


@dataclass
class Map:
    """Features in two dimensions: a dot (x, y, number of the class, tooltip) for each image."""

    method: str
    dots: list[tuple[float, float, int, str]]


@dataclass
class Pictures:
    """The pictures of a run, and in ``notes`` why others are missing.

    Args:
        pairs: Rows of an image and its views.
        neighbours: Rows of a query and its nearest.
        attention: Rows of an image, the mean over heads, the heads.
        maps: One for each method.
        classes: Names of the maps' colours.
        source: The weights that were used.
        bands: Which channels are shown, if not all.
        notes: Reasons.
    """

    pairs: list[list[Tile]] = field(default_factory=list)
    neighbours: list[list[Tile]] = field(default_factory=list)
    attention: list[list[Tile]] = field(default_factory=list)
    maps: list[Map] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    num_images: int = 0
    source: str = ''
    bands: str = ''
    notes: list[str] = field(default_factory=list)


def _refuse_foreign(config: dict[str, Any], dataset: Mapping[str, Any], data_root: str | None) -> None:
    """Refuse what an untrusted work dir must not do: build harmful components, or open an LMDB."""
    source = 'the config of this work dir'
    dataset = dict(dataset, data_root='') if data_root else dataset  # that was said by the user
    require_registered([dataset, config.get('model'), config.get('data_preprocessor')], source)
    if not data_root and type_of(dataset) == 'LMDBImages':
        raise ValueError(f'{source} names an LMDB, which is safe to open only if you know who made it: --data-root')


def from_checkpoint(
    config: dict[str, Any],
    checkpoint: Path | None,
    num_images: int = 256,
    data_root: str | None = None,
    methods: tuple[str, ...] = ('pca', 'tsne'),
    bands: Sequence[int] | None = None,
) -> Pictures:
    """Draw everything from files: the config's data set and a checkpoint.

    Args:
        config: The run's config.
        checkpoint: Its weights; None for pairs only.
        num_images: Images that features are computed of, evenly spread over the data set.
        data_root: Where the images are now, if not where they were.
        methods: Maps to draw: ``pca, tsne, umap``.
        bands: Channels that are shown; by default those that the config's report shows.
    """
    pictures = Pictures()
    settings = Recipe(config).dataset
    try:
        _refuse_foreign(config, settings, data_root)
    except ValueError as error:
        pictures.notes.append(str(error))
        return pictures
    if data_root:
        settings = dict(settings, data_root=data_root)
        config = dict(config, train_dataloader=dict(config['train_dataloader'], dataset=settings))
    with DefaultScope.overwrite_default_scope('mocox'):
        dataset = _attempt(pictures, 'pictures', lambda: DATASETS.build(settings))
        if dataset is None:
            return pictures
        bands = bands or section(config, 'default_hooks', 'report').get('bands')
        pictures.bands = describe_bands(dataset.pixels.num_channels, bands)
        draw = lambda: _pairs(augmented_views(config, NUM_PAIRS, bands=bands))  # noqa: E731
        pictures.pairs = _attempt(pictures, 'pairs', draw) or []
    if checkpoint is None:
        pictures.notes.append('no checkpoint was saved yet: no neighbours, attention and map')
        return pictures
    extractor = _attempt(pictures, 'features', lambda: FeatureExtractor(checkpoint, config=_part_of(config)))
    if extractor is not None:
        pictures.source = checkpoint.name
        _add_features(pictures, dataset, extractor, num_images, methods, bands)
    return pictures


def from_model(
    model: nn.Module,
    dataset: ViewsDataset,
    config: dict[str, Any],
    num_images: int = 256,
    methods: tuple[str, ...] = ('pca', 'tsne'),
    bands: Sequence[int] | None = None,
) -> Pictures:
    """Draw everything from a model and a data set in memory; both stay unchanged."""
    pictures = pairs_of(model, dataset, bands)
    if any(hasattr(parameter, 'device_mesh') for parameter in model.parameters()):
        # Only the first process draws, and a sharded model needs all of them for a forward pass.
        pictures.notes.append('the weights are spread over processes: mocox report WORK_DIR adds the other images')
        return pictures
    size = _image_size(config)
    extractor = _attempt(pictures, 'features', lambda: FeatureExtractor(model, image_size=size))
    if extractor is not None:
        pictures.source = 'the model at the end of training'
        _add_features(pictures, dataset, extractor, num_images, methods, bands)
    return pictures


def pairs_of(model: nn.Module, dataset: ViewsDataset, bands: Sequence[int] | None = None) -> Pictures:
    """Images beside their views only, which need no trained model."""
    num_channels = getattr(dataset, 'pixels', RGB).num_channels  # a data set of the user's own has none
    pictures = Pictures(bands=describe_bands(num_channels, bands))
    preprocessor: Any = getattr(model, 'data_preprocessor', None)
    draw = lambda: _pairs(views_of(dataset, preprocessor, NUM_PAIRS, bands=bands))  # noqa: E731
    pictures.pairs = _attempt(pictures, 'pairs', draw) or []
    return pictures


def _add_features(
    pictures: Pictures,
    dataset: ViewsDataset,
    extractor: FeatureExtractor,
    num_images: int,
    methods: tuple[str, ...],
    bands: Sequence[int] | None,
) -> None:
    rows = spread(len(dataset), num_images)
    images = [dataset.load(row)[0] for row in rows]
    shown = dataset.shown(torch.tensor(rows)).tolist()
    if missing := [_name(dataset, row) for row, other in zip(rows, shown) if row != other]:
        pictures.notes.append(describe_left_out(missing, len(rows), 'images'))
        rows, images = zip(*((row, image) for row, image, other in zip(rows, images, shown) if row == other))
    names = [_name(dataset, row) for row in rows]
    features = _attempt(pictures, 'features', lambda: extractor(images, 32))
    if features is None:
        return
    pictures.num_images = len(rows)
    shown = [show_bands([image], bands)[0] for image in images]
    found = _attempt(pictures, 'neighbours', lambda: _neighbours(shown, names, features))
    pictures.neighbours = found or []
    chosen = [images[i] for i in spread(len(images), NUM_ATTENTION)]
    pictures.attention = _attempt(pictures, 'attention maps', lambda: _attention(extractor, chosen, bands)) or []
    classes = _classes(dataset, rows)
    pictures.classes = sorted(set(classes)) if classes else []
    for method in methods:
        points = _attempt(pictures, f'{METHOD_NAMES[method]} map', partial(embed, features, method))
        if points is not None:
            pictures.maps.append(_map(METHOD_NAMES[method], points, names, classes, pictures.classes))


def _attempt(pictures: Pictures, what: str, draw: Callable[[], Any]) -> Any:
    """Draw one part; a part that cannot be drawn leaves a note and does not affect the others."""
    try:
        return draw()
    except Exception as error:  # a picture must not end a run; the reason is in the report and in the log
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        pictures.notes.append(f'no {what}: {reason}')
        print_log(f'report: {pictures.notes[-1]}', logger='current', level=logging.INFO)
        return None


def _pairs(rows: list[list[np.ndarray]]) -> list[list[Tile]]:
    names = ['image', *(f'view {number}' for number in range(1, len(rows[0])))]
    return [[tile(image, f'{name} of example {i}', name) for name, image in zip(names, row)]
            for i, row in enumerate(rows, start=1)]  # fmt: skip


def _neighbours(images: list[np.ndarray], names: list[str], features: np.ndarray) -> list[list[Tile]]:
    bank = torch.from_numpy(features)
    count = min(NUM_NEIGHBOURS, len(images) - 1)
    similarities, rows = nearest_neighbours(bank, bank, count, leave_one_out=True)
    found = []
    for query in spread(len(images), NUM_QUERIES):
        near = zip(similarities[query].tolist(), rows[query].tolist())
        tiles = [tile(images[row], f'{names[row]}, cosine {value:.3f}', f'{value:.3f}') for value, row in near]
        found.append([tile(images[query], f'query {names[query]}', 'query'), *tiles])
    return found


def _attention(extractor: FeatureExtractor, images: list[np.ndarray], bands: Sequence[int] | None) -> list[list[Tile]]:
    crops, maps = attention_of(extractor, images, bands)
    found = []
    for number, (crop, heads) in enumerate(zip(crops, maps, strict=True), start=1):
        large = np.asarray(_fit(crop, TILE_PX))
        row = [
            tile(large, f'image {number}', 'image'),
            tile(overlay(large, heads.mean(dim=0)), 'mean of heads', 'mean'),
        ]
        row += [
            tile(overlay(large, head), f'image {number}, head {i}', f'head {i}')
            for i, head in enumerate(heads[:MAX_HEADS], start=1)
        ]
        found.append(row)
    return found


def _map(method: str, points: np.ndarray, names: list[str], classes: list[str] | None, order: list[str]) -> Map:
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (MAP_PX - 24) / max(float((high - low).max()), 1e-12)
    placed = (points - (low + high) / 2) * scale + MAP_PX / 2
    dots = [
        (round(float(x), 1), round(MAP_PX - float(y), 1), order.index(classes[i]) if classes else 0, names[i])
        for i, (x, y) in enumerate(placed)
    ]
    return Map(method, dots)


def tile(image: np.ndarray, text: str, label: str = '') -> Tile:
    """A small picture as a data URI: JPEG, or PNG where pixels are magnified."""
    small = max(image.shape[:2]) <= TILE_PX // 2
    picture = Image.fromarray(image) if small else _fit(image, TILE_PX)
    buffer = io.BytesIO()
    if small:  # the browser magnifies it, pixel by pixel
        picture.save(buffer, 'PNG', optimize=True)
    else:
        picture.save(buffer, 'JPEG', quality=80)
    kind = 'png' if small else 'jpeg'
    return Tile(f'data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}', text, label)


def _fit(image: np.ndarray, side: int) -> Image.Image:
    picture = Image.fromarray(image)
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR)


def _name(dataset: ViewsDataset, row: int) -> str:
    if not isinstance(dataset, EncodedImages):
        return f'image {row}'
    return str(Path(dataset.path(row)).relative_to(dataset.folder))


def _classes(dataset: ViewsDataset, rows: list[int]) -> list[str] | None:
    """Names for colours, which training has not seen: class folders."""
    if not isinstance(dataset, EncodedImages):
        return None
    return classes_of([dataset.path(row) for row in rows], dataset.folder)


def _image_size(config: dict[str, Any]) -> Size | None:
    size = Recipe(config).crops.get('size')
    return tuple(size) if isinstance(size, list) else size


def _part_of(config: dict[str, Any]) -> Config:
    """A config for :func:`load_encoder`, which takes backbone, normalisation and size from it."""
    return Config({key: config[key] for key in ('model', 'data_preprocessor', 'train_dataloader') if key in config})
