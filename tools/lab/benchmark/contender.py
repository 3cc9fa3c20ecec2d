"""A model in training that can be stepped on prepared views and taken apart: the common face of mocox and its peers."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

# Steps of the run that is played: what the momentum's schedule is stretched over.
NUM_STEPS = 100_000


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MMEngine from listing every tensor that it initialises or leaves to no optimizer."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class PreparedViews(nn.Module):
    """Stands in for a data preprocessor: the views are prepared already, so that every contender gets the same."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """Hands the batch through."""
        return data


class Contender(ABC):
    """Args: the model, and the wrapper of its optimizer.

    Attributes:
        remarks: What was changed to make the comparison possible, one line each.
    """

    name: str
    find_unused_parameters = False  # what DistributedDataParallel is told

    def __init__(self, model: BaseModel, optim_wrapper: OptimWrapper, remarks: list[str] | None = None) -> None:
        self.model = model.train()
        self.model.data_preprocessor = PreparedViews()
        self.optim_wrapper = optim_wrapper
        self.remarks = remarks or []

    @abstractmethod
    def step(self, views: list[Tensor]) -> Tensor:
        """One whole training step, the momentum update included; returns the loss (scalar, detached)."""

    @abstractmethod
    def update_momentum(self) -> None:
        """The momentum update alone."""

    def train_step(self, views: list[Tensor]) -> Tensor:
        """Forward pass, backward pass and optimizer as MMEngine's training loop runs them."""
        return self.model.train_step(dict(inputs=views, data_samples=None), self.optim_wrapper)['loss'].detach()

    def forward_backward(self, views: list[Tensor]) -> None:
        """The gradients of a step; the weights stay as they are."""
        self.optim_wrapper.zero_grad()
        with self.optim_wrapper.optim_context(self.model):
            losses = self.model(views, data_samples=None, mode='loss')
        self.optim_wrapper.backward(self.model.parse_losses(losses)[0])

    def update_weights(self) -> None:
        """The optimizer alone, on the gradients that are there."""
        self.optim_wrapper.optimizer.step()

    def tensors(self) -> list[Tensor]:
        """All that lives between two steps: weights, statistics, the optimizer's moments."""
        moments = [value for state in self.optim_wrapper.optimizer.state.values() for value in state.values()]
        state = [*self.model.parameters(), *self.model.buffers(), *moments]
        return [tensor for tensor in state if isinstance(tensor, Tensor)]


def random_views(
    batch_size: int, image_size: int, device: str, dtype: torch.dtype = torch.float32, seed: int = 0
) -> list[Tensor]:
    """Two seeded views (N, 3, S, S), values as after normalisation; the second resembles the first, as views do."""
    generator = torch.Generator().manual_seed(seed)
    images, noise = (torch.randn(batch_size, 3, image_size, image_size, generator=generator) for _ in range(2))
    return [view.to(device, dtype) for view in (images, 0.7 * images + 0.7 * noise)]
