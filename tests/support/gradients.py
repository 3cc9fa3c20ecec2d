"""Gradients of a model by name, and what autograd keeps for them."""

import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(ours: dict, expected: dict, rtol: float = 1e-10) -> None:
    assert ours.keys() == expected.keys()
    largest = max(g.abs().max() for g in expected.values())
    for name in expected:
        torch.testing.assert_close(ours[name], expected[name], rtol=rtol, atol=rtol * largest.item(), msg=name)


def saved_bytes(loss_of: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """The loss, and what autograd keeps for its backward pass beside the parameters."""
    saved = []

    def pack(x: Tensor) -> Tensor:
        if not isinstance(x, nn.Parameter):
            saved.append(weakref.ref(x))
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = loss_of()
    storages = [x().untyped_storage() for x in saved if x() is not None]
    return loss, sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
