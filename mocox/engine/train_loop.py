"""Training loop by epochs that can resume in the middle of one."""

from collections.abc import Iterator
from typing import Any

from mmengine.runner import loops

from mocox.datasets.samplers import skip_batches
from mocox.engine.preemption_hook import workers_shielded
from mocox.randomness import GeneratorStates, generator_states, set_generator_states, undisturbed
from mocox.registry import LOOPS


@LOOPS.register_module()
class EpochBasedTrainLoop(loops.EpochBasedTrainLoop):
    """MMEngine's loop, which can also resume in the middle of an epoch.

    The batches that the epoch has had are left out by their indices: none of their images is read. Hooks see the number
    of a batch in the whole epoch, and the end of the epoch once, at its end. What happens between two epochs, such as
    validation, and how the loader starts its workers, draws nothing from the generators that training draws from.

    See ``mmengine.runner.EpochBasedTrainLoop`` for the arguments.
    """

    start = 0  # batches of the next epoch that are already done; set by CheckpointHook
    generators: GeneratorStates | None = None  # their states at the next iteration; set by CheckpointHook

    def run_epoch(self) -> None:
        """Run one epoch, or the rest of it."""
        start, self.start = self.start, 0
        if self.generators and not start:
            set_generator_states(self.generators)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        batches = self._batches(start)
        if self.generators and start:  # hooks have seeded them for the beginning of the epoch
            set_generator_states(self.generators)
        for index, batch in batches:
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self.generators = generator_states()
        self._epoch += 1

    def _batches(self, start: int) -> Iterator[tuple[int, Any]]:
        if start == len(self.dataloader):  # saved after the last iteration: only the end of the epoch remains
            return iter(())
        if start:
            skip_batches(self.dataloader, start)
        with undisturbed(), workers_shielded(self.dataloader):
            return enumerate(iter(self.dataloader), start)
