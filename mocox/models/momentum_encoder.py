"""The momentum (key) encoder: a slow copy of the query encoder."""

from copy import deepcopy

import torch
from torch import nn

from mocox.dtensor import own_parts


class MomentumEncoder(nn.Module):
    """A copy of backbone and neck that follows the originals as an exponential moving average.

    Source: arXiv 1911.05722, equation 2. All parameters follow, frozen ones too; buffers (BatchNorm statistics) do not:
    the copy collects its own. It has no ``init_weights``: the algorithm calls :meth:`sync` once the originals are
    initialised.

    Args:
        backbone: The query backbone to copy.
        neck: The query projector to copy.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module) -> None:
        super().__init__()
        self.backbone = deepcopy(backbone)
        self.neck = deepcopy(neck)
        self.requires_grad_(False)

    def sync(self, backbone: nn.Module, neck: nn.Module) -> None:
        """Copy weights and buffers of the originals."""
        self.backbone.load_state_dict(backbone.state_dict())
        self.neck.load_state_dict(neck.state_dict())

    @torch.no_grad()
    def update(self, backbone: nn.Module, neck: nn.Module, momentum: float) -> None:
        """One step of the average, in one fused call: ``key <- momentum * key + (1 - momentum) * query``."""
        keys = own_parts([*self.backbone.parameters(), *self.neck.parameters()])
        queries = own_parts([*backbone.parameters(), *neck.parameters()])
        torch._foreach_lerp_(keys, queries, 1 - momentum)
