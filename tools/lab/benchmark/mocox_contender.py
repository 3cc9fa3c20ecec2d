"""mocox as a contender: what a config describes, without its data."""

from types import SimpleNamespace

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor

import mocox.engine  # noqa: F401  registers what configs name
from lab.benchmark.contender import NUM_STEPS, Contender, quiet
from mocox.registry import HOOKS, MODELS
from mocox.run.options import prepare_config


def read_config(path: str, image_size: int | None = None, options: dict | None = None) -> Config:
    """A config of ours, for images of another size if asked to.

    Args:
        path: A file, or ``mocox::FOLDER/NAME.py``.
        image_size: Side in pixels of the views.
        options: What ``--cfg-options`` gave.

    Raises:
        FileNotFoundError: No such config.
        ValueError: It pre-trains no model with a momentum encoder.
    """
    config = prepare_config(path, cfg_options=options)
    if 'base_momentum' not in config.get('model', {}):
        raise ValueError(f'{path} pre-trains nothing: the benchmark needs a config such as configs/mocov3/vit-small.py')
    if image_size is not None:
        if 'img_size' in config.model.backbone:
            config.model.backbone.img_size = image_size
        config.train_dataloader.dataset.crops.size = image_size
    return config


class Ours(Contender):
    """The model, the optimizer and the momentum hook of a config.

    Args:
        config: See :func:`read_config`.
        device: ``cpu`` or ``cuda``.
        dtype: Of the weights; ``float64`` is for comparing losses.
        autocast: ``'bfloat16'`` or ``'float16'`` for mixed precision, None for none.
    """

    name = 'ours'

    def __init__(
        self, config: Config, device: str, dtype: torch.dtype = torch.float32, autocast: str | None = None
    ) -> None:
        with quiet(), DefaultScope.overwrite_default_scope('mocox'):
            model = MODELS.build(config.model)
            model.init_weights()
            model.to(device, dtype)
            wrapper = dict(config.optim_wrapper)
            if autocast:
                wrapper.update(type='mocox.AmpOptimWrapper', dtype=autocast)
            super().__init__(model, build_optim_wrapper(model, wrapper))
            hooks = [hook for hook in config.custom_hooks if hook['type'].endswith('MomentumUpdateHook')]
            self.hook = HOOKS.build(hooks[0])
        self.runner = SimpleNamespace(
            model=model,
            iter=0,
            max_iters=NUM_STEPS,
            optim_wrapper=self.optim_wrapper,
            message_hub=SimpleNamespace(update_scalar=lambda name, value: None),
        )

    def step(self, views: list[Tensor]) -> Tensor:
        """The hook's update of the momentum encoder, then MMEngine's step."""
        self.hook.before_train_iter(self.runner, self.runner.iter)
        loss = self.train_step(views)
        self.runner.iter += 1
        return loss

    def update_momentum(self) -> None:
        """The update alone, with the coefficient of the last step."""
        self.model.update_momentum_encoder()
