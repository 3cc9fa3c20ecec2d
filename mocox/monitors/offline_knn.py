"""k-NN on held-out images while a run goes on."""

import torch
from torch import nn
from torch.utils.data import DataLoader

from mocox import dist
from mocox.datasets import collate_views
from mocox.dtensor import is_sharded
from mocox.evaluation.data import labels_of, open_data
from mocox.evaluation.encoder import evaluation_crops
from mocox.evaluation.features import extract_features
from mocox.evaluation.knn import knn_classify


def offline_knn(
    model: nn.Module, root: str, image_size: int, num_neighbours: int, temperature: float, batch_size: int
) -> float:
    """Accuracy (0 to 1) of the query backbone's features on labelled images, without augmentation.

    The first process works, the others wait, unless all are needed for the weights that are spread over them. Neither
    the model nor torch's random state is changed.

    Args:
        model: A MoCo algorithm.
        root: Folder in one of the layouts of :func:`mocox.evaluation.data.open_data`.
        image_size: Side of the images in pixels.
        num_neighbours: Voters, at most as many as there are images to learn from.
        temperature: Of their weights.
        batch_size: Images per forward pass.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: Nothing recognised in it, or images with several labels each.
    """
    device = next(model.parameters()).device
    accuracy = torch.zeros((), device=device)
    if dist.rank() == 0 or is_sharded(next(model.parameters())):
        data = open_data(root, evaluation_crops(image_size))
        if data.multi_label:
            raise ValueError(f'knn_data_root={root!r}: k-NN needs one label per image, and these have several')
        bank, bank_labels = _features(model, data.train, batch_size), labels_of(data.train)
        test = None if data.test is None else _features(model, data.test, batch_size)
        labels = bank_labels if test is None else labels_of(data.test)
        num_neighbours = min(num_neighbours, len(bank) - (test is None))
        leave_one_out = test is None
        predicted = knn_classify(
            bank if leave_one_out else test, bank, bank_labels, num_neighbours, temperature, leave_one_out
        )
        if dist.rank() == 0:
            accuracy += (predicted == labels).float().mean().to(device)
    return float(dist.all_reduce_sum(accuracy))


def _features(model: nn.Module, dataset, batch_size: int) -> torch.Tensor:
    # A generator of its own: a loader draws a seed, and training must not miss it.
    loader = DataLoader(dataset, batch_size, collate_fn=collate_views, generator=torch.Generator())
    return extract_features(model, loader)[0]
