"""Runs too long or too large for this machine, and a command that fits."""

from mocox.doctor.findings import WARNING, Finding
from mocox.doctor.speed import Speed
from mocox.recipe import Recipe, type_of

LONG_HOURS = 24.0
SMALL_PX = 96


def check_time(recipe: Recipe, speed: Speed) -> Finding | None:
    """Days on one device, and what makes them hours."""
    if speed.hours is None or speed.hours <= LONG_HOURS or not recipe.epochs:
        return None
    size = recipe.crops.get('size')
    hours, flags = speed.hours, []
    if isinstance(size, int) and size > SMALL_PX and not isinstance(recipe.backbone.get('arch'), dict):
        hours *= (SMALL_PX / size) ** 2
        flags.append(f'--image-size {SMALL_PX}')
    if type_of(recipe.backbone) == 'MoCoViT' and recipe.backbone.get('arch') in ('small', 'base', 'large', 'huge'):
        flags.append('--arch tiny')  # whose share of the time is not counted: heads and loading stay
    if hours > LONG_HOURS:
        epochs = max(1, int(recipe.epochs * LONG_HOURS / hours))
        hours *= epochs / recipe.epochs
        flags.append(f'--epochs {epochs}')
    return Finding(
        WARNING, 'too_slow', f'about {speed.hours:,.0f} hours',
        f'A run of {recipe.epochs} epochs takes {speed.hours / 24:,.1f} days on this machine.',
        f'{" ".join(flags)}: {hours:,.0f} hours or less, by the number of pixels and epochs. '
        'mocox pretrain DIR --out WORK_DIR chooses what fits',
    )  # fmt: skip
