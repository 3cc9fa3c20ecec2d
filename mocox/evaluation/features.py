"""Features of a whole dataset."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader


@torch.no_grad()
def extract_features(model: nn.Module, loader: DataLoader) -> tuple[Tensor, Tensor | None]:
    """Runs the images of a loader through a frozen model, in evaluation mode.

    Args:
        model: One with ``data_preprocessor`` and ``extract_feat``: an algorithm, a linear probe, a classifier. Left in
            the mode it was in.
        loader: Its batches are those of ``collate_views``; the first view counts.

    Returns:
        Features (N, C) in the order of the loader, and labels (N,), or None if the dataset has none. On the CPU.
    """
    was_training = model.training
    model.eval()
    features, labels = [], []
    for batch in loader:
        inputs = model.data_preprocessor(batch, training=False)['inputs']
        output = model.extract_feat(inputs if isinstance(inputs, Tensor) else inputs[0])
        features.append((output if isinstance(output, Tensor) else output[-1]).float().cpu())
        if 'label' in batch:
            labels.append(batch['label'])
    model.train(was_training)
    return torch.cat(features), torch.cat(labels) if labels else None
