"""Linear classifiers: the published probe, for a grid of learning rates at once, and logistic regression."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from mocox import dist
from mocox.datasets import EpochSampler, ViewsDataset, collate_views
from mocox.evaluation.features import Part
from mocox.registry import TRANSFORMS
from mocox.schedules import cosine

# Per 256 images. The published rates are among them: 0.1 (v3, ResNet), 3 (v3, ViT) and 30 (v1 and v2).
BASE_LRS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
MIN_STEPS_PER_EPOCH = 16


@dataclass(frozen=True)
class LinearRecipe:
    """A published recipe for linear evaluation; SGD with momentum 0.9, no weight decay.

    Args:
        epochs: Duration.
        batch_size: Images per step, of all processes together.
        milestones: Epochs after which the learning rate is divided by 10; None for a cosine, constant in an epoch.
    """

    epochs: int
    batch_size: int
    milestones: tuple[int, ...] | None = None

    def lr_factor(self, epoch: int) -> float:
        """Factor of the base learning rate during an epoch, counted from 0."""
        if self.milestones is None:
            return cosine(epoch / self.epochs, 1.0, 0.0)
        return 0.1 ** sum(epoch >= milestone for milestone in self.milestones)


# arXiv 1911.05722, section 4.1; arXiv 2104.02057, section 5, with the values of the official code.
V1_V2 = LinearRecipe(100, 256, (60, 80))
V3 = LinearRecipe(90, 1024)


class LinearGrid:
    """Linear classifiers with different learning rates on the same batches: L of them for the price of one pass.

    They start equal, with weights from N(0, 0.01) and no bias.

    Args:
        num_features: C.
        num_classes: K.
        lrs: L learning rates.
        momentum: Momentum of SGD.
        seed: Seed of the initial weights.
        device: Where they are trained.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        lrs: Sequence[float],
        momentum: float = 0.9,
        seed: int = 0,
        device: str | torch.device = 'cpu',
    ) -> None:
        start = 0.01 * torch.randn(num_classes, num_features, generator=torch.Generator().manual_seed(seed))
        self.weight = start.repeat(len(lrs), 1, 1).to(device).requires_grad_()  # (L, K, C)
        self.bias = torch.zeros(len(lrs), num_classes, device=device, requires_grad=True)  # (L, K)
        self.lrs = torch.tensor(lrs, device=device)
        self.momentum = momentum
        self._velocity = [torch.zeros_like(self.weight), torch.zeros_like(self.bias)]

    def scores(self, features: Tensor) -> Tensor:
        """Class scores (L, N, K) of features (N, C)."""
        return torch.einsum('nc,lkc->lnk', features, self.weight) + self.bias[:, None]

    def step(self, features: Tensor, labels: Tensor, lr_factor: float = 1.0) -> Tensor:
        """One step of SGD for every classifier; returns their losses (L,)."""
        scores = self.scores(features)
        losses = F.cross_entropy(scores.flatten(0, 1), labels.repeat(len(scores)), reduction='none')
        losses = losses.view(len(scores), -1).mean(dim=1)
        # The gradient of the sum is, for each classifier, that of its own loss; one that diverges harms no other.
        gradients = torch.autograd.grad(losses.sum(), [self.weight, self.bias])
        with torch.no_grad():
            for parameter, velocity, gradient in zip([self.weight, self.bias], self._velocity, gradients):
                gradient = dist.all_reduce_sum(gradient) / dist.world_size()
                velocity.mul_(self.momentum).add_(gradient)
                parameter.sub_((lr_factor * self.lrs).view(-1, *[1] * (velocity.ndim - 1)) * velocity)
        return losses.detach()

    @torch.no_grad()
    def predict(self, features: Tensor, block_size: int = 8192) -> Tensor:
        """Labels (L, N) of features (N, C); on the CPU."""
        blocks = features.split(block_size)
        return torch.cat([self.scores(block.to(self.weight.device)).argmax(dim=2).cpu() for block in blocks], dim=1)


def train_grid(
    model: Any,
    dataset: ViewsDataset,
    rows: Tensor,
    num_classes: int,
    crops: dict,
    recipe: LinearRecipe = V3,
    base_lrs: Sequence[float] = BASE_LRS,
    num_workers: int = 0,
    seed: int = 0,
    report: Callable[[int, Tensor], None] | None = None,
) -> LinearGrid:
    """Train classifiers on augmented images as published, on top of a frozen encoder.

    Args:
        model: An encoder with ``data_preprocessor`` and ``extract_feat``; its tensors are the same afterwards, bit by
            bit, or it is an error.
        dataset: Labelled images.
        rows: Rows to train on.
        num_classes: K.
        crops: Config of the random crops, one view per image.
        recipe: Duration, batch and schedule; the batch is made smaller where an epoch would have few steps.
        base_lrs: Learning rates for 256 images.
        num_workers: Loading processes.
        seed: Seed of initial weights, order and crops.
        report: Called after every epoch with its number, from 1, and the mean losses (L,).

    Raises:
        RuntimeError: The encoder changed.
    """
    augmented = copy.copy(dataset)
    augmented.crops, augmented.seed = TRANSFORMS.build(crops), seed
    batch_size = fitting_batch(recipe.batch_size, len(rows)) // dist.world_size()
    part = Part(augmented, rows)
    sampler = EpochSampler(part, shuffle=True, seed=seed)
    loader = DataLoader(part, batch_size, sampler=sampler, num_workers=num_workers, collate_fn=collate_views,
                        persistent_workers=num_workers > 0)  # fmt: skip
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.eval()
    device = next(model.parameters()).device
    grid: Any = None
    for epoch in range(recipe.epochs):
        sampler.set_epoch(epoch)
        losses = []
        for batch in loader:
            inputs = model.data_preprocessor(batch, training=True)['inputs'][0]
            features = model.extract_feat(inputs)
            if grid is None:
                scale = batch_size * dist.world_size() / 256
                lrs = [scale * lr for lr in base_lrs]
                grid = LinearGrid(features.shape[1], num_classes, lrs, seed=seed, device=device)
            losses.append(grid.step(features, batch['label'].to(device), recipe.lr_factor(epoch)))
        if report:
            report(epoch + 1, torch.stack(losses).mean(dim=0))
    if not all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items()):
        raise RuntimeError('the frozen backbone changed while the linear classifier was trained')
    return grid


def fitting_batch(batch_size: int, num_images: int) -> int:
    """The batch of the recipe, or less where an epoch would be fewer than 16 steps."""
    return max(dist.world_size(), min(batch_size, max(32, num_images // MIN_STEPS_PER_EPOCH)))


def logistic_regression(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    penalty: float,
    start: Tensor | None = None,
    max_iters: int = 200,
    tolerance: float = 1e-5,
    block_size: int = 65536,
    rows: Tensor | None = None,
    scaling: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Minimise ``mean cross entropy + penalty / 2 * |weights|^2`` with L-BFGS; the bias is not penalised.

    It is scikit-learn's ``LogisticRegression(C=1 / (penalty * N))``, on any device and in any precision.

    Args:
        features: (N, C).
        labels: (N,).
        num_classes: K.
        penalty: Above 0.
        start: Initial weights (K, C + 1); 0 by default.
        max_iters: Iterations of L-BFGS.
        tolerance: On the largest entry of the gradient.
        block_size: Rows of which a scaled copy and scores exist at a time.
        rows: Rows of the N to learn from; all by default.
        scaling: Mean and standard deviation, (C,) each, that the features are freed from.

    Returns:
        (K, C + 1): weights, then the bias in the last column.
    """
    if not penalty > 0:
        raise ValueError(f'penalty={penalty}: must be above 0, as separable classes have no optimum without it')
    shape = num_classes, features.shape[1] + 1
    solution = (features.new_zeros(shape) if start is None else start.clone()).requires_grad_()
    solver = torch.optim.LBFGS(
        [solution], max_iter=max_iters, tolerance_grad=tolerance, tolerance_change=1e-12, line_search_fn='strong_wolfe'
    )

    rows = torch.arange(len(features), device=features.device) if rows is None else rows

    def objective() -> Tensor:
        solver.zero_grad()
        value = penalty / 2 * solution[:, :-1].square().sum()
        value.backward()
        for block in rows.split(block_size):
            scores = linear_scores(_scaled(features[block], scaling), solution)
            loss = F.cross_entropy(scores, labels[block], reduction='sum') / len(rows)
            loss.backward()
            value = value + loss
        return value.detach()

    solver.step(objective)
    return solution.detach()


def predict(
    features: Tensor,
    solution: Tensor,
    rows: Tensor | None = None,
    scaling: tuple[Tensor, Tensor] | None = None,
    block_size: int = 65536,
) -> Tensor:
    """Classes (N,) for what :func:`logistic_regression` returns, with its arguments."""
    rows = torch.arange(len(features), device=features.device) if rows is None else rows
    blocks = [linear_scores(_scaled(features[block], scaling), solution).argmax(1) for block in rows.split(block_size)]
    return torch.cat(blocks)


def _scaled(features: Tensor, scaling: tuple[Tensor, Tensor] | None) -> Tensor:
    if scaling is None:
        return features
    mean, std = scaling
    return (features - mean) / std


def linear_scores(features: Tensor, solution: Tensor) -> Tensor:
    """Class scores (N, K) for what :func:`logistic_regression` returns."""
    return features @ solution[:, :-1].T + solution[:, -1]
