"""Images and iterations of an optimizer step, and the duration of iterations."""

from typing import Any

from mmengine.runner import Runner

from mocox import dist
from mocox.datasets import EncodedImages

_NOT_A_LARGE_BATCH = (
    'optim_wrapper.accumulative_counts={count} averages the gradients of {count} small batches. That is not one large '
    'batch: queries have only the negatives of their own small batch (or of the queue), and BatchNorm its statistics. '
    'For a large batch in little memory, raise train_dataloader.batch_size and set model.chunk_size'
)


def images_per_process(runner: Runner) -> int:
    """Images of one iteration in this process."""
    loader = runner.train_dataloader
    return loader.batch_size if loader.batch_size is not None else loader.batch_sampler.batch_size


def accumulative_counts(optim_wrapper: Any) -> int:
    """Iterations of one optimizer step; 1 for a wrapper that knows no gradient accumulation."""
    return getattr(optim_wrapper, '_accumulative_counts', 1)


def check_accumulation(runner: Runner) -> None:
    """Warn that accumulated gradients do not equal a large batch for a contrastive loss.

    Raises:
        ValueError: The model's wrapper cannot add them up.
    """
    count = accumulative_counts(runner.optim_wrapper)
    if count == 1:
        return
    runner.logger.warning(_NOT_A_LARGE_BATCH.format(count=count))
    if getattr(runner.model, 'static_graph', False):
        raise ValueError(
            f'model_wrapper_cfg.static_graph=True does not work with accumulative_counts={count}: torch fails in the '
            'backward pass. Remove one of them'
        )


def describe_batches(runner: Runner) -> dict[str, int]:
    """Describe what decides which images an iteration sees, and how many iterations make a step."""
    return dict(
        processes=dist.world_size(),
        batch_size=images_per_process(runner),
        accumulative_counts=accumulative_counts(runner.optim_wrapper),
        epoch_length=len(runner.train_dataloader),
    )


def describe_images(runner: Runner) -> dict[str, int | str] | None:
    """Describe the images and pairs of an epoch, as far as names tell them; None for other data sets than ours."""
    dataset = runner.train_dataloader.dataset
    if not isinstance(dataset, EncodedImages):
        return None
    found: dict[str, int | str] = dict(count=len(dataset), names=dataset.checksum)
    return found | (dict(positives=dataset.pairing) if dataset.pairing else {})


def iteration_seconds(runner: Runner, iterations: int) -> tuple[float, float] | None:
    """Mean seconds of the last iterations, and how many of them were spent waiting for images.

    Returns:
        None without MMEngine's ``IterTimerHook``.
    """
    scalars = runner.message_hub.log_scalars
    if not {'train/time', 'train/data_time'} <= set(scalars):
        return None
    seconds, waited = (float(scalars[f'train/{name}'].mean(iterations)) for name in ('time', 'data_time'))
    return max(seconds, 1e-9), waited
