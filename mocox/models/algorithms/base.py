"""What MoCo v1, v2 and v3 share: a query encoder, its momentum copy, a head."""

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mocox import dist
from mocox.models.momentum_encoder import MomentumEncoder
from mocox.models.necks import average_positions
from mocox.registry import MODELS


def encode_views(backbone: nn.Module, neck: nn.Module, views: list[Tensor], chunk_size: int | None) -> list[Tensor]:
    """Project V views of N images.

    Without BatchNorm in the backbone its features do not depend on their batch, so all views pass as one batch, in
    chunks if asked to: every chunk is recomputed in the backward pass (``torch.utils.checkpoint``), which bounds the
    activation memory and changes no number. A backbone with BatchNorm sees one view at a time, as published. The neck
    always sees one whole view.

    Args:
        backbone: Maps (B, 3, S, S) to a tuple of features.
        neck: Maps that tuple to a tuple with (B, D).
        views: V tensors (N, 3, S, S).
        chunk_size: Images per backbone pass; None means all at once.

    Returns:
        V tensors (N, D).
    """
    groups = views if has_batch_norm(backbone) else [torch.cat(views)]
    features = torch.cat([_chunked(backbone, group, chunk_size) for group in groups])
    return [neck((feature,))[-1] for feature in features.chunk(len(views))]


def has_batch_norm(module: nn.Module) -> bool:
    """Whether the output for one image depends on the others in its batch."""
    return any(isinstance(m, _BatchNorm) for m in module.modules())


def build_preprocessor(config: dict | nn.Module | None) -> nn.Module | None:
    """Built in our scope: MMEngine's BaseModel would look in the default scope, and there may be none."""
    return MODELS.build(config) if isinstance(config, dict) and 'type' in config else config


def _chunked(backbone: nn.Module, x: Tensor, chunk_size: int | None) -> Tensor:
    if chunk_size is None or len(x) <= chunk_size:
        return backbone(x)[-1]
    if not torch.is_grad_enabled():
        return torch.cat([backbone(chunk)[-1] for chunk in x.split(chunk_size)])
    return torch.cat([checkpoint(backbone, chunk, use_reentrant=False)[-1] for chunk in x.split(chunk_size)])


class MomentumContrast(BaseModel):
    """Base of the algorithms. The forward pass is pure: only ``MomentumUpdateHook`` moves the momentum encoder.

    Args:
        backbone: Config of the query backbone; must return a tuple of features, last one used.
        neck: Config of the projector.
        head: Config of the contrastive head.
        base_momentum: Weight of the old key encoder in its update (the papers' convention), in [0, 1].
        chunk_size: Images per pass through the backbone, see :func:`encode_views`.
        data_preprocessor: Config of the batched augmentation.
        init_cfg: Initialiser config.

    Raises:
        ValueError: ``base_momentum`` outside [0, 1]; ``chunk_size`` below 1, or given with a backbone whose BatchNorm
            would see the chunk instead of the batch.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        base_momentum: float,
        chunk_size: int | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(build_preprocessor(data_preprocessor), init_cfg)
        if not 0 <= base_momentum <= 1:
            raise ValueError(
                f'base_momentum={base_momentum}: must lie in [0, 1]; it is the weight of the OLD key encoder, e.g. 0.99'
            )
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f'chunk_size={chunk_size}: must be at least 1, or None to pass the batch at once')
        self.backbone = MODELS.build(backbone)
        if chunk_size is not None and has_batch_norm(self.backbone):
            raise ValueError(
                f'chunk_size={chunk_size}: {type(self.backbone).__name__} has BatchNorm, whose statistics would come '
                'from the chunk and not from the batch; leave chunk_size out, or use a backbone without BatchNorm'
            )
        self.neck = MODELS.build(neck)
        self.head = MODELS.build(head)
        self.momentum_encoder = MomentumEncoder(self.backbone, self.neck)
        self.base_momentum = self.momentum = base_momentum
        self.iteration = 0  # MomentumUpdateHook counts
        self.chunk_size = chunk_size

    def init_weights(self) -> None:
        """Initialise the query encoder, then make the momentum encoder equal to it."""
        super().init_weights()
        self.sync_momentum_encoder()

    def sync_momentum_encoder(self) -> None:
        """Copy the query encoder into the momentum encoder."""
        self.momentum_encoder.sync(self.backbone, self.neck)

    def update_momentum_encoder(self) -> None:
        """One step of the moving average with the current coefficient ``momentum``."""
        self.momentum_encoder.update(self.backbone, self.neck, self.momentum)

    def forward(self, inputs: list[Tensor] | Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        """MMEngine's entry: ``mode='loss'`` takes views and trains, ``'tensor'`` takes images and gives features."""
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'tensor':
            return self.extract_feat(inputs)
        raise ValueError(f"mode={mode!r}: a self-supervised model has 'loss' and 'tensor'; evaluate it with a probe")

    def loss(self, inputs: list[Tensor], data_samples: list | None = None) -> dict[str, Tensor]:
        """The training loss of V views; see the algorithm."""
        raise NotImplementedError

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to train on and what is logged, which is the mean over all processes and not the first one's."""
        loss, log_vars = super().parse_losses(losses)
        return loss, {name: dist.all_reduce_sum(value.detach()) / dist.world_size() for name, value in log_vars.items()}

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Features (B, C) of images (B, 3, S, S): the query backbone's last output, averaged over positions."""
        return average_positions(self.backbone(inputs)[-1])

    def encode_queries(self, views: list[Tensor]) -> list[Tensor]:
        """Projections (N, D) of each view by the query encoder."""
        return encode_views(self.backbone, self.neck, views, self.chunk_size)

    @torch.no_grad()
    def encode_keys(self, views: list[Tensor]) -> list[Tensor]:
        """Projections (N, D) of each view by the momentum encoder, without gradient."""
        return encode_views(self.momentum_encoder.backbone, self.momentum_encoder.neck, views, self.chunk_size)
