"""Options of a view for images other than photographs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# In place of a colour jitter, before all else; and after all that an ``order`` names.
FIRST = ('stain_jitter', 'channel_jitter')
LAST = ('channel_drop', 'poisson_noise', 'gaussian_noise', 'vertical_flip', 'quarter_turn')
DOMAIN = (*FIRST, 'weighted_grayscale', *LAST)
STRENGTHS = dict(channel_jitter=('brightness', 'contrast'), stain_jitter=('scale', 'shift'))


@dataclass(frozen=True, kw_only=True)
class DomainOptions:
    """Further augmentation of a view of such images; the defaults leave it unchanged.

    Args:
        channel_jitter: Strengths x of ``brightness`` and ``contrast``: factors from [max(0, 1 - x), 1 + x], others for
            every channel. For any number of channels, in place of ``color_jitter``.
        grayscale_weights: What ``grayscale_prob`` makes of an image of any number of channels: the sum of its channels
            with these weights, one each, divided by their sum; ``'mean'`` for equal ones. None: luma, of three.
        channel_drop: Least and largest number of channels that become black, each number as likely, each channel too.
        poisson_noise: Fewest and most photons that make white, drawn evenly on a logarithmic scale.
        gaussian_noise: Smallest and largest standard deviation, in levels of 255.
        quarter_turn_prob: Probability of a turn by 90, 180 or 270 degrees, each equally likely; 0.75 makes all four
            orientations so.
        stain_jitter: Of haematoxylin, eosin and DAB in tissue: strengths x of ``scale``, a factor from
            [max(0, 1 - x), 1 + x], and ``shift``, from [-x, x] of optical density, others for every stain. RGB only.
            Tellez et al. (arXiv 1902.06543) have 0.05 for both ("light") and 0.2 ("strong").
    """

    channel_jitter: Mapping[str, float] | None = None
    channel_jitter_prob: float = 1.0
    grayscale_weights: Sequence[float] | str | None = None
    channel_drop_prob: float = 0.0
    channel_drop: tuple[int, int] = (1, 1)
    poisson_noise_prob: float = 0.0
    poisson_noise: tuple[float, float] = (100.0, 10000.0)
    gaussian_noise_prob: float = 0.0
    gaussian_noise: tuple[float, float] = (1.0, 8.0)
    vertical_flip_prob: float = 0.0
    quarter_turn_prob: float = 0.0
    stain_jitter: Mapping[str, float] | None = None
    stain_jitter_prob: float = 1.0

    @property
    def domain_steps(self) -> tuple[str, ...]:
        """The enabled operations of :data:`FIRST` and :data:`LAST`."""
        return tuple(name for name in (*FIRST, *LAST) if self._probability(name) > 0)

    @property
    def is_plain(self) -> bool:
        """True if none of this is used, as in the views of the published recipes."""
        return not self.domain_steps and self.grayscale_weights is None

    def check_channels(self, num_channels: int) -> None:
        """Raise ValueError unless the operations can be done on images of so many channels."""
        weights, (_, most) = self.grayscale_weights, self.channel_drop
        if weights is not None and weights != 'mean' and len(weights) != num_channels:
            raise ValueError(f'grayscale_weights has {len(weights)} weights for {num_channels} channels: one for each')
        if self.channel_drop_prob and most >= num_channels:
            raise ValueError(f'channel_drop={self.channel_drop!r} can drop all of {num_channels} channels: keep one')
        if self.stain_jitter and num_channels != 3:
            raise ValueError(f'stain_jitter needs red, green and blue, and the images have {num_channels} channels')

    def _probability(self, name: str) -> float:
        strengths = getattr(self, name) if name in STRENGTHS else True
        return bool(strengths and (strengths is True or any(strengths.values()))) * getattr(self, f'{name}_prob')

    def _check_domain(self) -> None:
        for name, known in STRENGTHS.items():
            _check_strengths(name, getattr(self, name) or {}, known)
        for name in ('poisson_noise', 'gaussian_noise'):
            _check_pair(name, getattr(self, name), math.inf)
        _check_pair('channel_drop', self.channel_drop, 2**16, whole=True)
        weights = self.grayscale_weights
        if weights is not None and weights != 'mean' and not _are_weights(weights):
            raise ValueError(f"grayscale_weights must be 'mean' or numbers from 0 on with a sum, got {weights!r}")


def _check_strengths(name: str, strengths: Mapping[str, float], known: Sequence[str]) -> None:
    if unknown := sorted(set(strengths) - set(known)):
        raise TypeError(f'{name} has no key {", ".join(map(repr, unknown))}; it knows {", ".join(known)}')
    for key, value in strengths.items():
        if not 0 <= value < math.inf:
            raise ValueError(f'{name}.{key} must be a number from 0 on, got {value!r}')


def _check_pair(name: str, values: Sequence[float], largest: float, whole: bool = False) -> None:
    if len(values) != 2 or not 0 < values[0] <= values[1] < largest or (whole and any(v != int(v) for v in values)):
        raise ValueError(f'{name} must be (low, high) with 0 < low <= high{", whole" * whole}, got {values!r}')


def _are_weights(weights: Sequence[float] | str) -> bool:
    return not isinstance(weights, str) and all(0 <= w < math.inf for w in weights) and sum(weights) > 0
