"""Operations on the channels of any image: brightness and contrast of each, their weighted sum, dropped ones, stains.

Like all laws that :mod:`mocox.augment.domain` names, they take float images (B, C, H, W) from 0 to 255 and what was
drawn for each sample, (B, K), both on one device, and return new images of that shape. They draw nothing.
"""

import torch
from torch import Tensor

from mocox.augment.recipe import MAX_LEVEL

# Optical density of red, green and blue per unit of haematoxylin, eosin and DAB: Ruifrok and Johnston 2001, as printed.
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
DARKEST = 1.0  # level; below it an optical density says nothing


def jitter_channels(images: Tensor, numbers: Tensor) -> Tensor:
    """Brightness, then contrast, of every channel by itself: b x, then m + c (x - m) with the channel's mean m.

    Each is cut to 0 to 255. Without that cut the two could change places: m scales with b.

    Source: SSL4EO-S12 (arXiv 2211.07044), whose factors are common to all bands; brightness and contrast are those of
    its code. A factor of its own for each band stands for gain and haze, which differ from band to band.

    Args:
        numbers: (B, 2 C): b of all channels, then c of all.
    """
    brightness, contrast = (part[..., None, None] for part in numbers.chunk(2, dim=1))
    images = (images * brightness).clamp(0, MAX_LEVEL)
    return torch.lerp(images.mean(dim=(2, 3), keepdim=True), images, contrast).clamp(0, MAX_LEVEL)


def weigh_channels(images: Tensor, numbers: Tensor) -> Tensor:
    """Gray: every channel becomes the sum of all channels, weighted.

    Source: SSL4EO-S12 (arXiv 2211.07044), with the mean of all bands; the weights 0.299, 0.587, 0.114 are RGB's luma.

    Args:
        numbers: (B, C), adding up to 1.
    """
    return (images * numbers[..., None, None]).sum(dim=1, keepdim=True).expand_as(images).clone()


def drop_channels(images: Tensor, numbers: Tensor) -> Tensor:
    """Some channels become black (level 0), so that no view can rely on a single band.

    Source: the sensor drop of DINO-MM (arXiv 2204.05381), here for single bands.

    Args:
        numbers: (B, C): 1 keeps a channel, 0 drops it.
    """
    return images * numbers[..., None, None]


def jitter_stains(images: Tensor, numbers: Tensor) -> Tensor:
    """Changes the amount of each of three stains, and with it the colours, as staining differs between laboratories.

    Optical density -ln(x / 255) of the three colours is a sum of those of the stains; their amounts s become
    a s + b, with a and b drawn for each stain. Pixels that are black stay so.

    Source: Tellez et al. 2018 (arXiv 1808.05896), colour augmentation, with stains after Ruifrok and Johnston,
    Quantification of histochemical staining by color deconvolution, 2001. Amounts are in optical density by the natural
    logarithm; scikit-image's ``rgb2hed`` divides them by ln 10**6.

    Args:
        numbers: (B, 6): a of haematoxylin, eosin and DAB, then b of each.
    """
    matrix = torch.tensor(STAINS, dtype=images.dtype, device=images.device)
    scale, shift = (part[..., None, None] for part in numbers.chunk(2, dim=1))
    density = -(images.clamp(min=DARKEST) / MAX_LEVEL).log()
    amounts = torch.einsum('bchw,cs->bshw', density, torch.linalg.inv(matrix))
    change = torch.einsum('bshw,sc->bchw', (scale - 1) * amounts + shift, matrix)
    return (images * torch.exp(-change)).clamp(0, MAX_LEVEL)
