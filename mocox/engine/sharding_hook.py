"""Optimizer states of sharded weights, out of checkpoints that hold whole tensors."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mocox.dtensor import shard_optimizer_state
from mocox.models import FullyShard
from mocox.registry import HOOKS


@HOOKS.register_module()
class ShardingHook(Hook):
    """Lets the optimizer of a model in ``FullyShard`` keep its part of the states that a checkpoint brings.

    Without ``FullyShard`` it does nothing.
    """

    def before_run(self, runner: Runner) -> None:
        """Before MMEngine loads a checkpoint."""
        if isinstance(runner.model, FullyShard) and hasattr(runner.optim_wrapper, 'optimizer'):
            runner.optim_wrapper.optimizer.register_load_state_dict_post_hook(shard_optimizer_state)
