"""The judge, which is not part of mocox: scikit-learn on frozen features, and a plain torch loop for few labels."""

from copy import deepcopy

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from lab.quality.images import Labelled

NEIGHBOURS = 20
LABELLED = 0.01  # of the training images, for fine-tuning
FINETUNE_STEPS, FINETUNE_BATCH, FINETUNE_LR = 200, 40, 1e-3


@torch.no_grad()
def features_of(backbone: nn.Module, images: Tensor) -> np.ndarray:
    """Features (N, C) in evaluation mode."""
    was_training = backbone.training
    backbone.eval()
    found = torch.cat([backbone(part) for part in images.split(500)])
    backbone.train(was_training)
    return found.numpy()


def judge(train: np.ndarray, test: np.ndarray, labels: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Percent of the test images that are classified rightly from features (N, C) and (M, C)."""
    knn = KNeighborsClassifier(min(NEIGHBOURS, len(train)), metric='cosine').fit(train, labels)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500)).fit(train, labels)
    return dict(knn=100 * knn.score(test, truth), linear=100 * linear.score(test, truth))


def finetune(backbone: nn.Module, train: Labelled, test: Labelled, seed: int) -> float:
    """Percent that a copy of a backbone and a linear layer get right after training on few labels, the same for all.

    Source: arXiv 2104.02057 has no such test; 1 % of the labels is that of arXiv 2002.05709, section 6.
    """
    rng = np.random.default_rng(seed)
    rows = _few_of_each(train.labels, rng)
    model = nn.Sequential(deepcopy(backbone), nn.LazyLinear(int(train.labels.max()) + 1)).train()
    with torch.no_grad():
        model[0].eval()
        model(train.images[:2])
        model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), FINETUNE_LR)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, FINETUNE_STEPS)
    for _ in range(FINETUNE_STEPS):
        batch = rng.choice(rows, min(FINETUNE_BATCH, len(rows)), replace=False)
        loss = F.cross_entropy(model(train.images[batch]), torch.from_numpy(train.labels[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    right = features_of(model, test.images).argmax(1) == test.labels
    return 100 * float(right.mean())


def _few_of_each(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.concatenate([rng.choice(of, max(2, round(LABELLED * len(of))), replace=False) for of in rows])
