"""The images of a folder that an encoder finds most similar to a query."""

from collections.abc import Sequence
from pathlib import Path

import torch

from mocox.datasets import ImageFiles
from mocox.evaluation.encoder import choose_device, load_encoder
from mocox.evaluation.inference import FeatureExtractor
from mocox.evaluation.knn import nearest_neighbours
from mocox.evaluation.pipeline import FeatureStore


def search_images(
    queries: Sequence[str | Path],
    folder: str,
    checkpoint: str | Path,
    num_results: int = 8,
    cache_dir: str | Path = 'work_dirs/features',
    batch_size: int = 128,
    num_workers: int = 0,
    device: str | None = None,
    **settings,
) -> list[list[tuple[str, float]]]:
    """Find the most similar images by cosine; a query from the folder does not find itself.

    Files of the folder that cannot be read are left out and named.

    Args:
        queries: Image files.
        folder: Searched with all its subfolders.
        checkpoint: Any file that :func:`mocox.checkpoint.read` recognises.
        num_results: Images per query.
        cache_dir: Where the features of the folder are kept.
        batch_size: Images per forward pass.
        num_workers: Loading processes.
        device: By default ``cuda`` if there is a GPU.
        settings: ``encoder, level, config, heads, image_size`` of :func:`mocox.evaluation.encoder.load_encoder`.

    Returns:
        For each query paths and similarities, the most similar first.

    Raises:
        FileNotFoundError: No such file or folder.
        ValueError: Not an image, or fewer images than results.
    """
    if num_results < 1:
        raise ValueError(f'--num-results {num_results}: ask for at least 1')
    place = choose_device(device)
    loaded = load_encoder(checkpoint, **settings)
    loaded.model.to(place)
    dataset = ImageFiles(folder, loaded.crops, splits=False, **loaded.pixels.settings())
    _check_enough(folder, dataset, num_results)
    extractor = FeatureExtractor(loaded.model, image_size=loaded.image_size, pixels=loaded.pixels)
    extractor.crops = dataset.crops
    asked = torch.from_numpy(extractor(queries, batch_size)).to(place)  # first, so that a wrong path fails at once
    store = FeatureStore(loaded, checkpoint, Path(cache_dir), batch_size, num_workers)
    bank, _ = store(dataset, 'images in the folder')
    _check_enough(folder, dataset, num_results)  # without unreadable images
    found = []
    similarities, rows = nearest_neighbours(asked, bank.to(place), num_results + 1)
    for query, values, places in zip(queries, similarities.tolist(), rows.tolist()):
        own = Path(query).resolve()
        pairs = [(dataset.path(row), value) for row, value in zip(places, values)]
        found.append([pair for pair in pairs if Path(pair[0]).resolve() != own][:num_results])
    return found


def _check_enough(folder: str, dataset: ImageFiles, num_results: int) -> None:
    if num_results > len(dataset) - 1:
        raise ValueError(f'{folder} has {len(dataset)} images: at most {len(dataset) - 1} results are possible')
