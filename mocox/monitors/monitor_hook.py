"""Judge during training whether a run learns."""

import logging
from math import isfinite
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mocox import dist
from mocox.datasets.pixels import RGB
from mocox.engine.batches import images_per_process, iteration_seconds
from mocox.engine.warm_start import starts_warm
from mocox.models.losses import InfoNCELoss
from mocox.monitors.events import write_event
from mocox.monitors.learning_state import TrainingState
from mocox.monitors.offline_knn import check_data, offline_knn
from mocox.monitors.plain_images import PlainMonitor
from mocox.monitors.readings import AT_CHANCE, Reading
from mocox.monitors.signals import FeatureBank, measure
from mocox.monitors.stability_hook import StabilityHook
from mocox.monitors.summary import final_verdict
from mocox.registry import HOOKS
from mocox.schedules import info_nce_floor, progress_percent

CHECKPOINT_KEY = 'mocox_monitor'


@HOOKS.register_module()
class MonitorHook(Hook):
    """Measure a contrastive run, write the measurements as scalars, and state in words how the run is doing.

    Every ``interval`` iterations: loss with chance level and floor, progress between them, contrastive top-1, cosines,
    spread and rank of the features, accuracy of an online k-NN classifier. See docs/monitoring.md. It changes nothing
    in the training: weights are equal to the bit with and without it. Of models that are not contrastive only the speed
    is measured.

    Args:
        interval: Iterations between two readings.
        knn: Whether to classify recent training features by their neighbours. Labels are class folders or those of the
            data set; they are read for this alone. Without labels there is no such curve.
        bank_size: Features that each process keeps for it.
        num_neighbours: Voters.
        knn_temperature: Of their weights.
        knn_data_root: Folder with labelled held-out images (the layouts of tools/evaluate.py); None: no offline k-NN.
        knn_epochs: Epochs between two offline evaluations.
        knn_batch_size: Images per forward pass of it.
        plain: Whether to measure k-NN, effective rank and alignment on up to 512 training images without augmentation,
            before the first step and 20 times or more after it, so that the run is compared with what it started from.

    Raises:
        ValueError: A count below 1.
    """

    priority = 'NORMAL'  # after MMEngine's timer, before its logger

    def __init__(
        self,
        interval: int = 10,
        knn: bool = True,
        bank_size: int = 4096,
        num_neighbours: int = 20,
        knn_temperature: float = 0.07,
        knn_data_root: str | None = None,
        knn_epochs: int = 10,
        knn_batch_size: int = 128,
        plain: bool = True,
    ) -> None:
        counts = dict(interval=interval, bank_size=bank_size, num_neighbours=num_neighbours, knn_epochs=knn_epochs)
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f'MonitorHook: {name}={value} must be at least 1')
        self.interval = interval
        self.knn = knn
        self.bank_size = bank_size
        self.num_neighbours = num_neighbours
        self.knn_temperature = knn_temperature
        self.knn_data_root = knn_data_root
        self.knn_epochs = knn_epochs
        self.knn_batch_size = knn_batch_size
        self.machine = TrainingState()
        self.plain = PlainMonitor(self.machine, knn_batch_size) if plain else None
        self.warned_of_chance = False

    def before_train(self, runner: Runner) -> None:
        """Determine what can be measured.

        Raises:
            FileNotFoundError: There is no ``knn_data_root``.
            ValueError: It holds no labelled images, or has several labels for each.
        """
        self.had_steps = runner.iter < runner.max_iters
        self.model = dist.unwrap(runner.model)
        self.contrastive = hasattr(self.model, 'observe')
        self.stability = next((hook for hook in runner.hooks if isinstance(hook, StabilityHook)), None)
        self.machine.patience = int(min(max(100, runner.max_iters / 20), 2000))
        self.batch_size = images_per_process(runner)
        self.chance = self.floor = float('nan')
        self.loss_sum: Tensor | None = None
        self.loss_steps = 0
        self.skipped_before = self.stability.skipped if self.stability else 0
        self.last_iter = runner.iter
        self.fill_before = self.model.queue_fill() if self.contrastive else 1.0
        self._prepare_knn(runner)
        if self.plain:
            self.plain.begin(runner)
        if self.contrastive and self.machine.start is None:
            self.machine.warm = starts_warm(runner, self.model)
        if self.knn_data_root and self.contrastive:
            check_data(self.knn_data_root, getattr(runner.train_dataloader.dataset, 'pixels', RGB))

    def _prepare_knn(self, runner: Runner) -> None:
        self.labels, self.bank, self.knn_chance = None, None, None
        find = getattr(runner.train_dataloader.dataset, 'monitoring_labels', None)
        labels = find() if self.knn and self.contrastive and find else None
        if labels is None:
            return
        self.labels = torch.as_tensor(labels)
        self.shown = getattr(runner.train_dataloader.dataset, 'shown', lambda indices: indices)  # not unreadable images
        self.knn_chance = float(np.bincount(labels).max() / len(labels))
        self.machine.knn_chance = self.knn_chance
        self.bank = FeatureBank(min(self.bank_size, len(labels)), int(self.labels.max()) + 1)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Ask the model to keep the tensors that it compares."""
        if self.contrastive:
            self.model.observe = self._is_due(runner) or self.bank is not None
            if self.plain:
                self.plain.open(runner, self.model, self.labels, data_batch)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Collect features, and measure and judge every ``interval`` iterations."""
        try:
            self._observe(runner, data_batch, outputs)
        except Exception as error:  # a failing monitor must not end the run
            self.bank, watched = None, self.contrastive
            self.contrastive = self.model.observe = False
            self.model.observed = None
            if watched:
                self.model.head.observed = None
            runner.logger.warning(
                f'The monitors stop: {type(error).__name__}: {error}. Training continues without them'
            )

    def _observe(self, runner: Runner, data_batch: Any, outputs: dict | None) -> None:
        if self.contrastive:
            self._collect(data_batch, outputs)
        if self.plain:
            self.plain.measure_if_due(runner, self.model)
        if self._is_due(runner):
            self._write_speed(runner)
            if self.contrastive:
                self._read(runner)
            self.last_iter = runner.iter + 1
        if self.contrastive:
            self.model.observe, self.model.observed, self.model.head.observed = False, None, None

    def _collect(self, data_batch: Any, outputs: dict | None) -> None:
        loss = outputs['loss'].detach() if outputs and isinstance(outputs.get('loss'), Tensor) else None
        if loss is not None:
            self.loss_sum = loss.clone() if self.loss_sum is None else self.loss_sum + loss
            self.loss_steps += 1
        self.image_size = tuple(data_batch['inputs'][0].shape[-2:])
        features = (self.model.observed or {}).get('features')
        if self.bank is not None and self.labels is not None and features is not None and 'index' in data_batch:
            index = self.shown(data_batch['index'].cpu())
            labels, index = (x.to(features.device, non_blocking=True) for x in (self.labels[index], index))
            self.bank.append(features, labels, index)

    def _is_due(self, runner: Runner) -> bool:
        return (runner.iter + 1) % self.interval == 0 or runner.iter + 1 == runner.max_iters or runner.iter == 0

    def _read(self, runner: Runner) -> None:
        signals = self._signals()
        loss, cross_entropy = signals.pop('loss', float('nan')), signals.pop('info_nce', float('nan'))
        chance, floor = self.model.chance_level(self.batch_size), self.model.floor_level(self.batch_size)
        scalars = dict(num_keys=float(self.model.num_keys(self.batch_size)))
        if isinstance(getattr(self.model.head, 'loss_module', None), InfoNCELoss):
            self.chance, self.floor = scalars['chance'], scalars['floor'] = chance, floor
            progress = progress_percent(loss, chance, floor)
        else:  # chance and floor of a loss of the user's own are unknown: what InfoNCE would be is judged
            unit = floor / info_nce_floor(self.model.num_keys(self.batch_size), self.model.head.temperature)
            progress = progress_percent(unit * cross_entropy, chance, floor)
        if self.fill_before < 1:  # the losses since then belong to other levels, and chance hardly differed from floor
            progress = float('nan')
        self.fill_before = self.model.queue_fill()
        if isfinite(progress):
            scalars['progress'] = progress
        for name, value in signals.items():
            scalars[name] = 100 * value if name in ('contrastive_top1', 'knn_online') else value
        for name, value in scalars.items():
            runner.message_hub.update_scalar(f'train/{name}', value)
        self._judge(runner, self._reading(runner, loss, progress, signals))

    def _signals(self) -> dict[str, float]:
        """Return all measurements, averaged over the processes, with a single host sync."""
        signals = measure(self.model.observed or {}, self.model.head.temperature)
        if self.bank is not None:
            accuracy = self.bank.accuracy(self.num_neighbours, self.knn_temperature)
            if accuracy is not None:
                signals['knn_online'] = accuracy
        if self.loss_sum is not None:
            signals['loss'] = self.loss_sum / self.loss_steps
            self.loss_sum, self.loss_steps = None, 0
        if not signals:
            return {}
        values = dist.all_reduce_sum(torch.stack([value.float() for value in signals.values()])) / dist.world_size()
        return dict(zip(signals, values.tolist(), strict=True))

    def _reading(self, runner: Runner, loss: float, progress: float, signals: dict[str, float]) -> Reading:
        skipped = self.stability.skipped if self.stability else 0
        knn = signals.get('knn_online')
        if knn is None and 'train/knn_offline' in runner.message_hub.log_scalars:
            knn = runner.message_hub.get_scalar('train/knn_offline').current() / 100
        reading = Reading(
            iteration=runner.iter + 1,
            loss=loss,
            progress=progress,
            fill=self.fill_before,
            top1=signals.get('contrastive_top1'),
            negative_cosine=signals.get('negative_cosine'),
            feature_std=signals.get('feature_std'),
            effective_rank=signals.get('effective_rank'),
            knn=knn,
            grad_norm=self.stability.total_norm if self.stability else None,
            skipped=skipped - self.skipped_before,
        )
        self.skipped_before = skipped
        return reading

    def _judge(self, runner: Runner, reading: Reading) -> None:
        before = self.machine.state
        verdict = self.machine.update(reading)
        needs_help = self.machine.needs_help(reading.iteration)
        status = dict(state=verdict.state, message=verdict.message, chance=self.chance, floor=self.floor)
        status.update(progress=reading.progress, knn=reading.knn)
        start, plain = self.machine.start, self.machine.plain
        if start and plain and plain.knn is not None:
            status.update(knn=plain.knn, knn_start=start.knn)
        runner.message_hub.update_info('monitor', status, resumed=False)
        long_at_chance = verdict.state == AT_CHANCE and needs_help and not self.warned_of_chance
        if verdict.state == before and not long_at_chance:
            return
        self.warned_of_chance = long_at_chance
        write_event(runner, 'state', verdict.state, verdict.message, verdict.evidence, verdict.causes)
        message = f'iteration {reading.iteration}: {verdict.message}'
        if needs_help:
            message += f'. Usual causes: {"; ".join(self.machine.causes(verdict.state))}'
        runner.logger.log(logging.WARNING if needs_help else logging.INFO, message)

    def _write_speed(self, runner: Runner) -> None:
        times = iteration_seconds(runner, max(runner.iter + 1 - self.last_iter, 1))
        if times is None:
            return
        seconds, waited = times
        images = self.batch_size * runner.world_size
        runner.message_hub.update_scalar('train/images_per_second', images / seconds)
        runner.message_hub.update_scalar('train/data_wait', 100 * waited / seconds)

    def after_train_epoch(self, runner: Runner) -> None:
        """Classify the held-out images every ``knn_epochs`` epochs, and after the last one."""
        epoch = runner.epoch + 1
        if not (self.knn_data_root and self.contrastive) or (epoch % self.knn_epochs and epoch != runner.max_epochs):
            return
        loader = runner.train_dataloader
        try:
            accuracy = 100 * offline_knn(
                self.model, self.knn_data_root, self.image_size, self.num_neighbours, self.knn_temperature,
                self.knn_batch_size, loader.num_workers, getattr(loader.dataset, 'pixels', RGB),
            )  # fmt: skip
            runner.message_hub.update_scalar('train/knn_offline', accuracy)
            runner.visualizer.add_scalars(dict(knn_offline=accuracy), step=runner.iter)
            runner.logger.info(f'epoch {epoch}: offline k-NN {accuracy:.1f} % on {self.knn_data_root}')
        except Exception as error:  # as above
            runner.logger.warning(
                f'default_hooks.monitor.knn_data_root={self.knn_data_root!r}: no offline k-NN after epoch {epoch}: '
                f'{type(error).__name__}: {error}. Training continues'
            )

    def after_train(self, runner: Runner) -> None:
        """Summarise the run in one paragraph."""
        if not self.contrastive or not self.had_steps:  # a finished run, continued: its verdict stands
            return
        text = final_verdict(self.machine, self.chance, self.knn_chance)
        write_event(runner, 'end', self.machine.state, text, after_training=True)
        runner.logger.info(text)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the basis of the verdict, in plain types."""
        checkpoint[CHECKPOINT_KEY] = self.machine.state_dict()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the basis of the verdict of a resumed run; a warm start begins a new one."""
        if runner._resume and CHECKPOINT_KEY in checkpoint:
            self.machine.load_state_dict(checkpoint[CHECKPOINT_KEY])
