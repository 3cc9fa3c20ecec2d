"""The vision transformer of MoCo v3, on timm's VisionTransformer."""

from functools import partial
from math import sqrt
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from mocox.models.backbones.class_token import ClassTokenBlock
from mocox.registry import MODELS

ARCHITECTURES = {
    'tiny': dict(embed_dims=192, num_layers=12, num_heads=12, feedforward_channels=768),
    'small': dict(embed_dims=384, num_layers=12, num_heads=12, feedforward_channels=1536),
    'base': dict(embed_dims=768, num_layers=12, num_heads=12, feedforward_channels=3072),
    'large': dict(embed_dims=1024, num_layers=24, num_heads=16, feedforward_channels=4096),
    'huge': dict(embed_dims=1280, num_layers=32, num_heads=16, feedforward_channels=5120),
}


def sincos_position_embedding(grid: tuple[int, int], width: int) -> Tensor:
    """Fixed 2-D sine-cosine positions with a zero row for the class token.

    Source: arXiv 2104.02057, section 5. For the patch at row r and column c the entries are
    ``[sin(r w), cos(r w), sin(c w), cos(c w)]`` with ``w_j = 10000 ** (-4 j / width)``.

    Args:
        grid: Patches per column and per row of the image, (rows, columns).
        width: Embedding width, a multiple of 4.

    Returns:
        (1, 1 + rows * columns, width), patches in row-major order.
    """
    frequency = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing='ij')
    r, c = rows.reshape(-1, 1) * frequency, columns.reshape(-1, 1) * frequency  # (patches, width / 4)
    patches = torch.cat([r.sin(), r.cos(), c.sin(), c.cos()], dim=1)
    return torch.cat([patches.new_zeros(1, width), patches])[None].float()


class ConvStem(PatchEmbed):
    """Strided 3 x 3 convolutions with BatchNorm and ReLU, then a 1 x 1 convolution, in place of the patch projection.

    Source: arXiv 2106.14881, section 3, as used by arXiv 2104.02057. The width doubles at each of the
    ``log2(patch_size)`` convolutions and ends at ``embed_dim``.
    """

    def __init__(self, *, in_chans: int = 3, embed_dim: int = 768, norm_cfg: dict, **kwargs: Any) -> None:
        super().__init__(in_chans=in_chans, embed_dim=embed_dim, **kwargs)
        depth = self.patch_size[0].bit_length() - 1
        if self.patch_size != (2**depth, 2**depth) or embed_dim % 2 ** (depth - 1):
            raise ValueError(
                f'patch_size={self.patch_size}, embed_dims={embed_dim}: the convolutional stem needs a square patch '
                'whose side is a power of 2, and a width that can be halved for each of its convolutions but one'
            )
        layers: list[nn.Module] = []
        width = in_chans
        for i in reversed(range(depth)):
            wider = embed_dim // 2**i
            layers += [
                nn.Conv2d(width, wider, 3, stride=2, padding=1, bias=False),
                build_norm_layer(norm_cfg, wider)[1],
            ]
            layers += [nn.ReLU(inplace=True)]
            width = wider
        self.proj = nn.Sequential(*layers, nn.Conv2d(width, embed_dim, 1))  # type: ignore[assignment]  # not one Conv2d


@MODELS.register_module()
class MoCoViT(VisionTransformer, BaseModule):
    """Vision transformer with the positions, initialisation and frozen patch projection of MoCo v3.

    Source: arXiv 2104.02057, section 5, and section 4.2 for the frozen patch projection. State-dict names are timm's.
    ``small`` has 12 heads, not the 6 of DeiT-S: their weights have equal shapes and unequal meaning.

    Args:
        arch: ``tiny``, ``small``, ``base``, ``large``, ``huge``, or a dict with ``embed_dims``, ``num_layers``,
            ``num_heads`` and ``feedforward_channels``.
        img_size: Side of the training images in pixels, or (height, width). Other sizes are accepted later: the
            positions are then interpolated.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of the image.
        stem: ``patch`` for the linear patch projection, ``conv`` for the convolutional stem. A named ``arch`` then has
            one block fewer, as published, to keep the cost.
        stop_grad_conv1: Keep the patch projection at its random initial value; has no effect on the ``conv`` stem.
        learn_positions: Train the position embedding, as the official fine-tuning does; in pre-training it is fixed.
        out_type: What each output holds: ``cls_token`` (B, C), ``avg_featmap`` (B, C) averaged over patches,
            ``featmap`` (B, C, H, W) or ``raw`` (B, 1 + HW, C).
        out_indices: Blocks to give out, from 0; negative counts from the end.
        final_norm: Normalise after the last block.
        qkv_bias: Bias in the query, key and value projections.
        drop_path_rate: Stochastic depth of the last block; grows linearly from 0.
        norm_cfg: The convolutional stem's normalisation layer.
        trim_last_block: While training, compute of the last block only what the class token needs; the result is the
            same. For ``out_type='cls_token'`` of the last block.
        init_cfg: Initialiser config, e.g. ``dict(type='mocox.Pretrained', checkpoint=...)``.

    Raises:
        ValueError: Unknown ``arch``, ``stem`` or ``out_type``; sizes that do not divide; ``out_indices`` out of range;
            ``trim_last_block`` where more than the last class token is given out.
    """

    def __init__(
        self,
        arch: str | dict = 'small',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        stem: str = 'patch',
        stop_grad_conv1: bool = True,
        learn_positions: bool = False,
        out_type: str = 'cls_token',
        out_indices: int | list[int] = -1,
        final_norm: bool = True,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_cfg: dict | None = None,
        trim_last_block: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        settings = resolve_arch(arch, stem)
        _one_of('stem', stem, ['patch', 'conv'])
        _one_of('out_type', out_type, ['cls_token', 'avg_featmap', 'featmap', 'raw'])
        for name, value in {**settings, 'patch_size': patch_size}.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'{name} must be a whole number of at least 1, got {value!r}')
        width, heads = settings['embed_dims'], settings['num_heads']
        if width % 4 or width % heads:
            raise ValueError(f'embed_dims={width}, num_heads={heads}: the width must divide by 4 and by the heads')
        height, width_px = (img_size, img_size) if isinstance(img_size, int) else img_size
        _check_divisible((height, width_px), patch_size)
        conv_stem = partial(ConvStem, norm_cfg=norm_cfg or dict(type='mocox.SyncBN'))
        super().__init__(
            img_size=(height, width_px),
            patch_size=patch_size,
            in_chans=in_channels,
            num_classes=0,
            embed_dim=width,
            depth=settings['num_layers'],
            num_heads=heads,
            mlp_ratio=(settings['feedforward_channels'] + 0.5) / width,  # timm truncates the product
            qkv_bias=qkv_bias,
            final_norm=final_norm,
            drop_path_rate=drop_path_rate,
            dynamic_img_size=True,
            weight_init='skip',
            embed_layer=conv_stem if stem == 'conv' else PatchEmbed,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            block_fn=ClassTokenBlock if trim_last_block else Block,
        )
        self.init_cfg = init_cfg
        self.arch, self.stem, self.out_type, self.num_heads = arch, stem, out_type, heads
        self.out_indices = _block_indices(out_indices, settings['num_layers'])
        if trim_last_block and (out_type != 'cls_token' or self.out_indices != [settings['num_layers'] - 1]):
            raise ValueError(
                f'trim_last_block with out_type={out_type!r}, out_indices={out_indices!r}: what it leaves out is given '
                "out there; set trim_last_block=False, or out_type='cls_token' and out_indices=-1"
            )
        if trim_last_block:
            last: Any = self.blocks[-1]
            last.trimmed = True
        self._tokens()[1].requires_grad_(learn_positions)
        if stop_grad_conv1 and stem == 'patch':
            self.patch_embed.requires_grad_(False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the published initial weights: Xavier uniform, q, k and v counted as separate matrices."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                fan_out = module.out_features // 3 if name.endswith('qkv') else module.out_features
                bound = sqrt(6 / (module.in_features + fan_out))
                nn.init.uniform_(module.weight, -bound, bound)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif name.startswith('patch_embed.proj.') and hasattr(module, 'reset_parameters'):
                module.reset_parameters()
        if self.stem == 'patch':
            kernel = self.patch_embed.proj.weight
            bound = sqrt(6 / (kernel[0].numel() + len(kernel)))
            nn.init.uniform_(kernel, -bound, bound)
            nn.init.zeros_(self.patch_embed.proj.bias)
        class_token, positions = self._tokens()
        nn.init.normal_(class_token, std=1e-6)
        with torch.no_grad():
            positions.copy_(sincos_position_embedding(self.patch_embed.grid_size, self.embed_dim))

    def _tokens(self) -> tuple[Tensor, Tensor]:
        """The class token and the positions, which timm's other transformers may lack."""
        assert self.cls_token is not None
        assert self.pos_embed is not None
        return self.cls_token, self.pos_embed

    def init_weights(self) -> None:  # type: ignore[override]  # MMEngine's, not timm's
        """MMEngine's entry: the published initialisation, then ``init_cfg`` if there is one."""
        if not self.is_init:
            self.reset_parameters()
        BaseModule.init_weights(self)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter, for mmpretrain's layer-wise learning rate decay.

        Args:
            param_name: Its name in the whole model.
            prefix: What the names of this backbone start with there.

        Returns:
            0 for patches, class token and positions, i + 1 for block i, one more for all behind; and one more than
            that, the number of depths.
        """
        num_depths = len(self.blocks) + 2
        name = param_name.removeprefix(prefix)
        if name.startswith('blocks.') and param_name.startswith(prefix):
            return int(name.split('.')[1]) + 1, num_depths
        if name.startswith(('patch_embed.', 'cls_token', 'pos_embed')) and param_name.startswith(prefix):
            return 0, num_depths
        return num_depths - 1, num_depths

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]  # as OpenMMLab's backbones
        """Features of images.

        Args:
            x: (B, in_channels, H, W), sides divisible by the patch size.

        Returns:
            One tensor for each of ``out_indices``, shaped as ``out_type`` says.

        Raises:
            ValueError: A side is not divisible by the patch size.
        """
        height, width = x.shape[2:]
        _check_divisible((height, width), self.patch_embed.patch_size[0])
        grid = self.patch_embed.dynamic_feat_size((height, width))
        tokens = self._pos_embed(self.patch_embed(x))  # (B, 1 + patches, C)
        outputs = []
        for i, block in enumerate(self.blocks):
            tokens = block(tokens)
            if i == len(self.blocks) - 1:
                tokens = self.norm(tokens)
            if i in self.out_indices:
                outputs.append(self._format(tokens, grid))
        return tuple(outputs)

    def _format(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.out_type == 'cls_token':
            return tokens[:, 0]
        if self.out_type == 'raw':
            return tokens
        patches = tokens[:, 1:]
        if self.out_type == 'avg_featmap':
            return patches.mean(dim=1)
        return patches.transpose(1, 2).unflatten(2, grid).contiguous()


def resolve_arch(arch: str | dict, stem: str) -> dict:
    """The four sizes of an architecture given by name or as a dict."""
    if isinstance(arch, str):
        _one_of('arch', arch, list(ARCHITECTURES))
        settings = dict(ARCHITECTURES[arch])
        settings['num_layers'] -= stem == 'conv'
        return settings
    if set(arch) != set(ARCHITECTURES['small']):
        raise ValueError(f'arch={dict(arch)}: expected a name or exactly the keys {sorted(ARCHITECTURES["small"])}')
    return dict(arch)


def _one_of(name: str, value: str, choices: list[str]) -> None:
    if value not in choices:
        raise ValueError(f'{name}={value!r}: choose one of {choices}')


def _check_divisible(size: tuple[int, int], patch_size: int) -> None:
    if size[0] % patch_size or size[1] % patch_size:
        raise ValueError(
            f'image size {size[0]} x {size[1]} is not divisible by the patch size {patch_size}; '
            f'the nearest that is: {max(round(size[0] / patch_size), 1) * patch_size} x '
            f'{max(round(size[1] / patch_size), 1) * patch_size}'
        )


def _block_indices(out_indices: int | list[int], depth: int) -> list[int]:
    given = [out_indices] if isinstance(out_indices, int) else list(out_indices)
    if any(not -depth <= i < depth for i in given):
        raise ValueError(f'out_indices={out_indices}: the backbone has {depth} blocks, 0 to {depth - 1}')
    return sorted(i % depth for i in given)
