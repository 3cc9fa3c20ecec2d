"""Predict classes of new images with the encoder and the classifier of a linear evaluation or a fine-tuning."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mmengine.config import Config
from torch import nn

from mocox.checkpoint.files import newest_in, write_atomically
from mocox.checkpoint.reading import Checkpoint
from mocox.datasets.resizing import Size
from mocox.evaluation.encoder import LoadedEncoder, choose_device, load_encoder
from mocox.evaluation.features import Progress, check_finite, encode_images
from mocox.evaluation.places import ImagePlaces, loader_of
from mocox.terminal import say


@dataclass(frozen=True)
class Predictions:
    """Classes of images.

    Args:
        paths: Paths of the N readable images.
        classes: Names of the K classes; their numbers where the file has no names.
        probabilities: (N, K) float32, each row adds up to 1.
        unreadable: Paths of the images that were left out.
    """

    paths: list[str]
    classes: list[str]
    probabilities: np.ndarray
    unreadable: list[str]

    def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """The ``k`` most probable classes of each image with their probabilities, the best first."""
        rows = np.argsort(-self.probabilities, axis=1, kind='stable')[:, :k]
        return [
            [(self.classes[label], float(values[label])) for label in row]
            for row, values in zip(rows, self.probabilities)
        ]


def classifier_of(checkpoint: Checkpoint) -> nn.Linear | None:
    """The frozen linear layer on top of the encoder in a file, or None."""
    tensors = checkpoint.classifier()
    if 'weight' not in tensors or tensors['weight'].ndim != 2:
        return None
    classes, width = tensors['weight'].shape
    layer = nn.Linear(width, classes, bias='bias' in tensors)
    layer.load_state_dict(tensors)
    return layer.requires_grad_(False).eval()


def load_classifier(
    checkpoint: str | Path,
    config: str | Path | Config | None = None,
    heads: int | None = None,
    image_size: Size | None = None,
    prefix: str | None = None,
) -> tuple[LoadedEncoder, nn.Linear, list[str]]:
    """Return the encoder of a checkpoint, the linear layer on its features, and the classes' names.

    Args:
        checkpoint: File of a linear evaluation or fine-tuning, in any layout that :func:`mocox.checkpoint.read` knows.
        config: See :func:`mocox.evaluation.encoder.load_encoder`.
        heads: Number of attention heads, where the file does not tell.
        image_size: Side in pixels, or (height, width); by default as in the test of that training.
        prefix: Take what is below this prefix, or in this container, of the file.

    Raises:
        ValueError: There is no classifier in the file.
    """
    loaded = load_encoder(newest_in(checkpoint), config=config, heads=heads, image_size=image_size, prefix=prefix)
    layer = classifier_of(loaded.checkpoint)
    if layer is None:
        raise ValueError(
            f'{checkpoint} has no classifier: it is {loaded.checkpoint.summary}. Train one: mocox evaluate '
            'CHECKPOINT --data-root DIR --protocols linear writes linear.pth, and so does mocox train RECIPE_linear.py '
            '--pretrained CHECKPOINT --data-root DIR its own'
        )
    crops = loaded.checkpoint.meta.get('test_crops')
    if crops and not (config or image_size):
        loaded = replace(loaded, crops=dict(type='CenterCrop', **crops), image_size=crops['size'])
    names = loaded.checkpoint.meta.get('classes')
    if names and len(names) != layer.out_features:
        names = None
    if not names:
        loaded.notes.append(f'the file does not name its {layer.out_features} classes: they are numbers, from 0')
    return loaded, layer, list(names or map(str, range(layer.out_features)))


def predict(
    checkpoint: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    top_k: int = 5,
    batch_size: int = 64,
    num_workers: int = 0,
    device: str | None = None,
    progress: bool = False,
    config: str | Path | Config | None = None,
    heads: int | None = None,
    image_size: Size | None = None,
    prefix: str | None = None,
) -> Predictions:
    """Predict classes of image files and of all images in folders; unreadable ones are named and left out.

    Images are read, cut and normalised as in the test of the training that has made the checkpoint.

    Args:
        checkpoint: See :func:`load_classifier`.
        images: Files and folders, or one of them.
        out: A CSV file to write: ``path``, then ``class`` and ``probability``, then those of the next most probable
            classes as ``class_2``, ``probability_2``, ...
        top_k: Number of classes to write per image.
        batch_size: Images per forward pass.
        num_workers: Processes that load images.
        device: By default ``cuda`` if there is a GPU.
        progress: Print how far it is, and what is to be known of the checkpoint.
        config: See :func:`load_classifier`.
        heads: See :func:`load_classifier`.
        image_size: See :func:`load_classifier`.
        prefix: See :func:`load_classifier`.

    Raises:
        FileNotFoundError: No such file or folder.
        ValueError: No classifier in the checkpoint, no readable images; ``out`` of another kind.
    """
    if out is not None and Path(out).suffix != '.csv':
        raise ValueError(f'out={str(out)!r}: predictions are written as .csv')
    if top_k < 1:
        raise ValueError(f'top_k={top_k}: at least 1')
    loaded, classifier, names = load_classifier(checkpoint, config, heads, image_size, prefix)
    loaded.model.to(choose_device(device))
    for note in loaded.notes if progress else ():
        say(note)
    dataset = ImagePlaces([images] if isinstance(images, str | Path) else images, loaded)
    report = Progress('images', len(dataset), len(dataset)) if progress else None
    found = encode_images(loaded.model, loader_of(dataset, batch_size, num_workers), report)
    paths, unreadable = (
        [dataset.path(row) for row in mask.nonzero()[:, 0].tolist()] for mask in (found.read, ~found.read)
    )
    scores = classifier(found.features[found.read])
    check_finite(scores, 'images')
    result = Predictions(paths, names, scores.softmax(1).numpy(), unreadable)
    if unreadable:
        say(found.left_out(dataset, 'images'))
    if out is not None:
        write_atomically(out, lambda temporary: _write_table(temporary, result, min(top_k, len(names))))
    return result


def _write_table(path: str, found: Predictions, top_k: int) -> None:
    numbers = ['', *(f'_{rank}' for rank in range(2, top_k + 1))]
    with open(path, 'w', newline='', encoding='utf-8', errors='surrogateescape') as file:
        table = csv.writer(file)
        table.writerow(['path', *(name + number for number in numbers for name in ('class', 'probability'))])
        for image, best in zip(found.paths, found.top(top_k)):
            table.writerow([image, *(value for name, p in best for value in (name, f'{p:.6f}'))])
