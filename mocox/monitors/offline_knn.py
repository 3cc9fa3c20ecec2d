"""k-NN on held-out images during training."""

import logging

import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.utils.data import DataLoader

from mocox import dist
from mocox.datasets import Pixels, ViewsDataset, collate_views
from mocox.datasets.pixels import RGB
from mocox.datasets.resizing import Size
from mocox.evaluation.data import labels_of, open_data
from mocox.evaluation.encoder import evaluation_crops
from mocox.evaluation.features import Extracted, Frozen, Part, encode_images
from mocox.evaluation.knn import knn_classify
from mocox.processes import group


def offline_knn(
    model: Frozen,
    root: str,
    image_size: Size,
    num_neighbours: int,
    temperature: float,
    batch_size: int,
    num_workers: int = 0,
    pixels: Pixels = RGB,
) -> float:
    """Accuracy (0 to 1) of the query backbone's features on labelled images, without augmentation.

    Images that cannot be read are left out, and the log names them. Each process encodes its share of the images,
    equally many for all, as weights that are spread over them need it. Neither the model nor torch's random state is
    changed.

    Args:
        model: A MoCo algorithm.
        root: Folder in one of the layouts of :func:`mocox.evaluation.data.open_data`.
        image_size: Side of the images in pixels, or (height, width).
        num_neighbours: Voters, at most as many as there are images to learn from.
        temperature: Of their weights.
        batch_size: Images per forward pass.
        num_workers: Loading processes of each process.
        pixels: How image files are read: as for training.
    """
    data = open_data(root, evaluation_crops(image_size), pixels=pixels)
    device = next(model.parameters()).device
    bank, bank_labels = (part.to(device) for part in _features(model, data.train, batch_size, num_workers))
    leave_one_out = data.test is None
    features, labels = bank, bank_labels
    if data.test is not None:
        features, labels = (part.to(device) for part in _features(model, data.test, batch_size, num_workers))
    num_neighbours = min(num_neighbours, len(bank) - leave_one_out)
    predicted = knn_classify(features, bank, bank_labels, num_neighbours, temperature, leave_one_out)
    return float(dist.of_first((predicted == labels).float().mean()))  # GPUs may differ in the last bit


def check_data(root: str, pixels: Pixels = RGB) -> None:
    """Open the images once, before a training relies on them.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: Nothing recognised in it, or images with several labels each.
    """
    where = f'default_hooks.monitor.knn_data_root={root!r}'
    try:
        multi_label = open_data(root, evaluation_crops(32), pixels=pixels).multi_label
    except (OSError, ValueError) as error:
        raise type(error)(f'{where}: {str(error).removeprefix("--data-root: ")}') from error
    if multi_label:
        raise ValueError(f'{where}: k-NN needs one label per image, and these have several')


def _features(model: Frozen, dataset: ViewsDataset, batch_size: int, num_workers: int) -> tuple[Tensor, Tensor]:
    """Features (N, C) and labels (N,) of all readable images, in their order, the same in all processes."""
    size, rank = dist.world_size(), dist.rank()
    share = -(-len(dataset) // size)
    rows = (torch.arange(share) * size + rank) % len(dataset)  # wrap around, so that all processes have equally many
    # A generator of its own: the loader draws a seed, which must not change the training's random numbers.
    loader = DataLoader(
        Part(dataset, rows), batch_size, num_workers=num_workers, collate_fn=collate_views, generator=torch.Generator()
    )
    features, read = gather_turns(encode_images(model, loader), next(model.parameters()).device, len(dataset))
    everything = Extracted(features.cpu(), labels_of(dataset), read.cpu())
    if dist.rank() == 0 and (left_out := everything.left_out(dataset, 'images')):
        print_log(f'offline k-NN: {left_out}', logger='current', level=logging.WARNING)
    readable = everything.without_stand_ins()
    assert readable.labels is not None  # check_data wants one label per image
    return readable.features, readable.labels


def gather_turns(found: Extracted, device: torch.device, num_images: int) -> tuple[Tensor, Tensor]:
    """Gather features (N, C) and readability (N,) of processes that took the images in turn.

    Args:
        found: Of this process, equally many in all.
        device: Where the processes exchange tensors.
        num_images: N; what wrapped around is cut off.
    """
    columns = torch.cat([found.features, found.read[:, None].float()], dim=1).to(device)
    group.meet()  # reading images may take one process much longer than another
    gathered = dist.gather_rows(columns).view(dist.world_size(), len(columns), -1)
    in_order = gathered.transpose(0, 1).flatten(0, 1)[:num_images]
    return in_order[:, :-1], in_order[:, -1] > 0
