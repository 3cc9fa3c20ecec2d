"""A module of your own that gives tokens, or maps with their channels last, as a backbone."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from mocox.models.layout import last_output
from mocox.registry import MODELS


@MODELS.register_module()
class PooledBackbone(BaseModule):
    """Makes one vector (B, C) per image of tokens (B, N, C) or of a map (B, H, W, C).

    Modules that give a vector (B, C) or a map (B, C, H, W) need no wrapper.

    Args:
        module: A module, or the config of one.
        pool: ``first`` takes the first token, ``mean`` the mean over all positions.
        num_prefix_tokens: Tokens at the beginning that ``mean`` leaves out, such as class token and registers.
        init_cfg: Initialiser config.

    Raises:
        ValueError: Unknown ``pool``.
    """

    def __init__(
        self,
        module: dict | nn.Module,
        pool: str,
        num_prefix_tokens: int = 0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if pool not in ('first', 'mean'):
            raise ValueError(f"pool={pool!r}: choose 'first' or 'mean'")
        self.module = module if isinstance(module, nn.Module) else MODELS.build(module)
        self.pool, self.num_prefix_tokens = pool, num_prefix_tokens

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Vectors (B, C) of images (B, C, H, W), in a one-element tuple.

        Raises:
            ValueError: The module gives neither tokens nor, with ``mean``, a map.
        """
        name = type(self.module).__name__
        features = last_output(self.module(x), name)
        if features.ndim != 3 and not (features.ndim == 4 and self.pool == 'mean'):
            wanted = 'tokens (B, N, C)' + ' or a map (B, H, W, C)' * (self.pool == 'mean')
            raise ValueError(
                f'{name} gives features of shape {tuple(features.shape)}: pool={self.pool!r} needs {wanted}'
            )
        if self.pool == 'first':
            return (features[:, 0],)
        return (features.flatten(1, -2)[:, self.num_prefix_tokens :].mean(dim=1),)
