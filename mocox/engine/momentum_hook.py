"""The only writer of the momentum encoder's weights and of their coefficient."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mocox import dist
from mocox.checkpoint.completeness import require_same_backbone
from mocox.engine.batches import accumulative_counts, check_accumulation
from mocox.registry import HOOKS
from mocox.schedules import momentum_cosine


@HOOKS.register_module()
class MomentumUpdateHook(Hook):
    """Update the momentum encoder before each optimizer step, from the query encoder's weights at that time.

    The coefficient is a function of the runner's progress alone, so resuming, warm starting and other batch sizes need
    no state. Under gradient accumulation the encoder moves once per optimizer step, not once per micro-batch.

    Args:
        schedule: ``cosine`` raises the model's ``base_momentum`` to ``end_momentum`` (MoCo v3, arXiv 2104.02057,
            appendix A); ``constant`` keeps it (MoCo v1 and v2).
        end_momentum: Coefficient at the end of the cosine schedule, in [0, 1].

    Raises:
        ValueError: Unknown ``schedule``, or ``end_momentum`` outside [0, 1].
    """

    priority = 'NORMAL'

    def __init__(self, schedule: str = 'cosine', end_momentum: float = 1.0) -> None:
        if schedule not in ('cosine', 'constant'):
            raise ValueError(f"schedule={schedule!r}: choose 'cosine' (MoCo v3) or 'constant' (MoCo v1, v2)")
        if not 0 <= end_momentum <= 1:
            raise ValueError(f'end_momentum={end_momentum}: must lie in [0, 1], the weight of the OLD key encoder')
        self.schedule = schedule
        self.end_momentum = end_momentum
        self.sync_after_load = False

    def coefficient(self, base: float, step: int, total: int) -> float:
        """Weight of the old key encoder in optimizer step ``step`` of ``total``."""
        return base if self.schedule == 'constant' else momentum_cosine(step / total, base, self.end_momentum)

    def before_run(self, runner: Runner) -> None:
        """Refuse a model that has no momentum encoder."""
        model = dist.unwrap(runner.model)
        if not hasattr(model, 'update_momentum_encoder'):
            raise TypeError(
                f'MomentumUpdateHook needs a model with a momentum encoder, got {type(model).__name__}; '
                "remove the hook from custom_hooks, or use a MoCo algorithm such as dict(type='MoCoV3', ...)"
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to half-load; note a checkpoint without momentum encoder, which then starts as a copy of the query's.

        MMEngine's own loading would go on with random weights for whatever the checkpoint lacks.
        """
        state = require_same_backbone(checkpoint, dist.unwrap(runner.model).backbone)
        self.sync_after_load = not any(key.startswith('momentum_encoder.') for key in state)

    def before_train(self, runner: Runner) -> None:
        """Initialise the momentum encoder if no checkpoint has, after loading and before the first step."""
        check_accumulation(runner)
        if self.sync_after_load:
            runner.logger.info('The checkpoint has no momentum encoder: it starts as a copy of the query encoder.')
            dist.unwrap(runner.model).sync_momentum_encoder()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Set the coefficient and update, at the first micro-batch of each optimizer step."""
        model = dist.unwrap(runner.model)
        model.iteration = runner.iter
        if runner.iter % accumulative_counts(runner.optim_wrapper):
            return
        model.momentum = self.coefficient(model.base_momentum, runner.iter, runner.max_iters)
        model.update_momentum_encoder()
        runner.message_hub.update_scalar('train/momentum', model.momentum)
