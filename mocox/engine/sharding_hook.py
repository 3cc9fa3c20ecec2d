"""Load optimizer states of sharded weights from checkpoints that hold whole tensors."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mocox.dtensor import shard_optimizer_state
from mocox.models import FullyShard
from mocox.registry import HOOKS


@HOOKS.register_module()
class ShardingHook(Hook):
    """Reduce the optimizer states of a checkpoint to the local shards of a model in ``FullyShard``.

    Without ``FullyShard`` it does nothing.
    """

    def before_run(self, runner: Runner) -> None:
        """Register the reduction before MMEngine loads a checkpoint."""
        if isinstance(runner.model, FullyShard) and hasattr(runner.optim_wrapper, 'optimizer'):
            runner.optim_wrapper.optimizer.register_load_state_dict_post_hook(shard_optimizer_state)
