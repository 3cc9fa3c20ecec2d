"""The augmentation recipe of a view as a config states it, and the parameters that a sample draws from it.

Written once and carried out in three ways, which give the same picture up to rounding: in batches on any device
(:mod:`mocox.augment.batched`), in batches by few fused kernels (:mod:`mocox.augment.fused`), and image by
image in the workers that load the data (:mod:`mocox.augment.opencv`).
"""

import itertools
import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mocox.augment.counters import seeds_of
from mocox.augment.kernels import KERNELS, kernel_radius
from mocox.augment.options import FIRST, LAST, DomainOptions

MAX_LEVEL = 255.0
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as in Pillow's convert('L')
PILLOW_LUMA = tuple(weight / 2**16 for weight in (19595, 38470, 7471))  # what it computes with, exact in float32
JITTERS = ('brightness', 'contrast', 'saturation', 'hue')
# On the CPU even if this module is first imported while a model is built on the meta device. (24, 4)
JITTER_ORDERS = torch.tensor(list(itertools.permutations(range(len(JITTERS)))), device='cpu')
OPERATIONS = ('color_jitter', 'grayscale', 'blur', 'solarize', 'flip')
NUM_DRAWS_USED = 11
SEED_DRAWS = slice(11, 13)  # of what is drawn by counters, see mocox.augment.domain


@dataclass(frozen=True)
class View(DomainOptions):
    """The augmentation of one view; the defaults leave it unchanged.

    Source: BYOL (arXiv 2006.07733), appendix B, which MoCo v3 (arXiv 2104.02057) follows; MoCo v1 differs in ``order``.

    Args:
        color_jitter: Strengths x of ``brightness``, ``contrast``, ``saturation`` (factors from [max(0, 1 - x), 1 + x])
            and ``hue`` (shift from [-x, x] of the colour circle); those left out are 0. They run in random order.
        blur_sigma: Smallest and largest standard deviation in pixels.
        solarize_threshold: Levels from here on are inverted.
        order: The operations in the order of their application. Those of :class:`DomainOptions` may be named too; else
            stains and channels are jittered first, and the others follow at the end.
        rounding: None keeps fractions of a level between the operations. ``'pillow'`` makes whole levels after each, as
            the published pipelines did on images of 8 bits: brightness, contrast and saturation cut fractions off as
            Pillow's blend does, and use its gray; hue and blur are rounded.
        blur_kernel: ``gaussian``, as the papers write, or ``boxes``, the three box filters by which Pillow approximates
            it.

    More options, for images that are not photographs: :class:`mocox.augment.options.DomainOptions`.
    """

    color_jitter: dict[str, float] | None = None
    color_jitter_prob: float = 1.0
    grayscale_prob: float = 0.0
    blur_prob: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_prob: float = 0.0
    solarize_threshold: float = 128.0
    flip_prob: float = 0.0
    order: tuple[str, ...] = OPERATIONS
    rounding: str | None = None
    blur_kernel: str = 'gaussian'

    @classmethod
    def from_config(cls, config: dict) -> 'View':
        """Build a view from the dictionary in a config.

        Raises:
            TypeError: A key is unknown.
        """
        _refuse_unknown('a view', config, [field.name for field in fields(cls)])
        return cls(**config)

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name.endswith('_prob')):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name} must be a probability between 0 and 1, got {getattr(self, name)!r}')
        strengths = self.color_jitter or {}
        _refuse_unknown('color_jitter', strengths, JITTERS)
        for name, strength in strengths.items():
            largest = 0.5 if name == 'hue' else math.inf
            if not 0 <= strength <= largest:
                raise ValueError(f'color_jitter.{name} must lie between 0 and {largest}, got {strength!r}')
        low, high = self.blur_sigma
        if not 0 < low <= high:
            raise ValueError(f'blur_sigma must be (low, high) with 0 < low <= high, got {self.blur_sigma!r}')
        if sorted(self._published) != sorted(OPERATIONS) or len(set(self.order)) < len(self.order):
            raise ValueError(f'order must name each of {list(OPERATIONS)} once, got {list(self.order)}')
        if self.blur_kernel not in KERNELS:
            raise ValueError(f'blur_kernel must be one of {list(KERNELS)}, got {self.blur_kernel!r}')
        if self.rounding not in (None, 'pillow'):
            raise ValueError(f"rounding must be None or 'pillow', got {self.rounding!r}")
        if self.rounding and not self.is_plain:
            raise ValueError("rounding='pillow' is for the published operations: leave it out, or the others")
        self._check_domain()

    @property
    def _published(self) -> list[str]:
        return [name for name in self.order if name not in (*FIRST, *LAST)]

    @property
    def steps(self) -> tuple[str, ...]:
        """All operations in their order, ``weighted_grayscale`` in place of ``grayscale`` where there are weights."""
        left = [name for name in self.domain_steps if name not in self.order]
        steps = sorted(left, key=FIRST.__contains__, reverse=True)  # stable: those of FIRST come first
        num_first = sum(name in FIRST for name in left)
        steps[num_first:num_first] = self.order
        gray = 'grayscale' if self.grayscale_weights is None else 'weighted_grayscale'
        return tuple(gray if name == 'grayscale' else name for name in steps)


@dataclass(frozen=True)
class Parameters:
    """The operations on each of B samples; CPU tensors.

    ``jitter``, ``grayscale``, ``blur``, ``solarize``, ``flip`` (B,) bool: whether; ``factors`` (B, 4): of
    :data:`JITTERS`; ``jitter_order`` (B, 4): the operation at each position; ``sigma`` (B,) pixels; ``seed`` (B, 2)
    int64: of all else.
    """

    jitter: Tensor
    factors: Tensor
    jitter_order: Tensor
    grayscale: Tensor
    blur: Tensor
    sigma: Tensor
    solarize: Tensor
    flip: Tensor
    seed: Tensor


def sample_parameters(draws: Tensor, view: View) -> Parameters:
    """Maps uniform numbers to parameters, each column to the same one always.

    Args:
        draws: (B, P) from [0, 1), P >= 11, for the operations of :class:`DomainOptions` P >= 13.
    """
    needed = NUM_DRAWS_USED if view.is_plain else SEED_DRAWS.stop
    if draws.ndim != 2 or draws.shape[1] < needed:
        raise ValueError(f'draws must be (B, P) with P >= {needed}, got {tuple(draws.shape)}')
    strength = torch.tensor([(view.color_jitter or {}).get(name, 0.0) for name in JITTERS])
    centre = torch.tensor([1.0, 1.0, 1.0, 0.0])
    low = torch.where(centre > 0, (centre - strength).clamp(min=0), -strength)
    min_sigma, max_sigma = view.blur_sigma
    return Parameters(
        jitter=(draws[:, 0] < view.color_jitter_prob) & bool(strength.any()),
        factors=low + draws[:, 1:5] * (centre + strength - low),
        jitter_order=JITTER_ORDERS[(draws[:, 5] * len(JITTER_ORDERS)).long()],
        grayscale=draws[:, 6] < view.grayscale_prob,
        blur=draws[:, 7] < view.blur_prob,
        sigma=min_sigma + draws[:, 8] * (max_sigma - min_sigma),
        solarize=draws[:, 9] < view.solarize_prob,
        flip=draws[:, 10] < view.flip_prob,
        seed=draws.new_zeros(len(draws), 2).long() if view.is_plain else seeds_of(draws[:, SEED_DRAWS]),
    )


def blur_radius(view: View) -> int:
    """Pixels that the widest blur of a view reaches."""
    return kernel_radius(view.blur_sigma[1], view.blur_kernel)


def check_num_views(num_crops: int, num_views: int) -> None:
    """Raise ValueError unless the dataset cuts as many views as the recipe augments."""
    if num_crops != num_views:
        raise ValueError(
            f'the dataset cuts {num_crops} views per image and the preprocessor augments {num_views}: '
            'make num_views of the crops and the length of views agree'
        )


def _refuse_unknown(what: str, config: dict, known: list[str] | tuple[str, ...]) -> None:
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise TypeError(f'{what} has no key {", ".join(map(repr, unknown))}; it knows {", ".join(known)}')
