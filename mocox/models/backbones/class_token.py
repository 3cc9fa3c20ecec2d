"""A transformer block that can compute the class token alone."""

from typing import Any

from timm.models.vision_transformer import Block
from torch import Tensor
from torch.nn import functional


class ClassTokenBlock(Block):
    """timm's block. With ``trimmed`` it gives, while training, the class token only, (B, 1, C), and computes no more.

    Behind the last block a loss on the class token reads nothing else: of the other tokens it needs keys and values,
    but no queries, no projection and no MLP, which are 10 of the 12 C^2 weights' products.
    """

    trimmed = False

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Tokens (B, N, C) after the block, or the first one of them."""
        if not (self.trimmed and self.training):
            return super().forward(x, *args, **kwargs)
        first = x[:, :1] + self.drop_path1(self.ls1(self._attend(self.norm1(x))))
        return first + self.drop_path2(self.ls2(self.mlp(self.norm2(first))))

    def _attend(self, x: Tensor) -> Tensor:
        attention: Any = self.attn
        width, weight, bias = x.shape[2], attention.qkv.weight, attention.qkv.bias
        biases = (None, None) if bias is None else (bias[:width], bias[width:])
        q = functional.linear(x[:, :1], weight[:width], biases[0])
        k, v = functional.linear(x, weight[width:], biases[1]).chunk(2, dim=2)
        q, k, v = (part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for part in (q, k, v))
        return attention.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
