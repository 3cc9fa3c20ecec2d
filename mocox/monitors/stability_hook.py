"""Keep gradients that are not finite, or that spike, away from the weights."""

import logging
import shlex
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.optim import Optimizer

from mocox import dist
from mocox.engine.batches import accumulative_counts
from mocox.engine.optim_wrapper import fill_momentum_buffers
from mocox.monitors.bad_step import StepRecorder, dump_name
from mocox.monitors.events import write_event
from mocox.monitors.gradients import FIRST_LAYERS, LayerNorms, SpikeDetector
from mocox.monitors.readings import CAUSES, DIVERGING
from mocox.monitors.rollback import Snapshot, Statistics
from mocox.registry import HOOKS

CHECKPOINT_KEY = 'mocox_stability'
ON_NON_FINITE = ('warn', 'skip', 'rollback')
ON_SPIKE = ('warn', 'skip', 'clip', 'freeze', 'rollback')
SCALER_STEPS = 20  # overflows in a row with which a float16 gradient scaler finds its scale
QUIET_STEPS = 10  # steps without incident before a snapshot


@HOOKS.register_module()
class StabilityHook(Hook):
    """Measure each layer's gradient before every optimizer step, and act on non-finite ones and spikes.

    The decision falls between backward pass and update, on gradients that are equal in all processes, so all decide
    alike. On a CPU it is read at once. On a GPU it stays there: fused optimizers and LARS take it as a flag, and the
    host reads the norms one step later; other optimizers make the host wait for the flag in every step. See
    docs/monitoring.md.

    Args:
        on_non_finite: ``skip`` the update (weights, optimizer, BatchNorm statistics and queue stay as they were),
            ``rollback`` to the last snapshot in memory, or only ``warn``.
        on_spike: ``warn``, ``skip``, ``clip`` the layer's gradient to its running median, ``freeze`` the patch
            projection for the rest of the run (arXiv 2104.02057, section 4.2), or ``rollback``.
        spike_factor: A spike exceeds the running median of its layer this many times.
        window: Steps of that median.
        interval: Iterations between two scalars in the log.
        snapshot_interval: Optimizer steps between snapshots, which are taken for ``rollback`` only.
        max_dumps: Bad steps written to ``<work_dir>/bad_steps`` for ``mocox replay``, each with model and
            optimizer.
        dump_spikes: Write spikes too, not only what is not finite.
        max_skips: Skipped steps in a row after which the run ends.

    Raises:
        ValueError: An unknown reaction, or a count or factor out of range.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        on_non_finite: str = 'skip',
        on_spike: str = 'warn',
        spike_factor: float = 20.0,
        window: int = 64,
        interval: int = 10,
        snapshot_interval: int = 100,
        max_dumps: int = 2,
        dump_spikes: bool = False,
        max_skips: int = 100,
    ) -> None:
        for name, value, allowed in (
            ('on_non_finite', on_non_finite, ON_NON_FINITE),
            ('on_spike', on_spike, ON_SPIKE),
        ):
            if value not in allowed:
                raise ValueError(f'StabilityHook: {name}={value!r} must be one of {", ".join(allowed)}')
        if spike_factor <= 1 or min(window, interval, snapshot_interval, max_skips) < 1:
            raise ValueError(
                f'StabilityHook: spike_factor={spike_factor} must exceed 1, and window={window}, interval={interval}, '
                f'snapshot_interval={snapshot_interval}, max_skips={max_skips} must be at least 1'
            )
        self.on_non_finite = on_non_finite
        self.on_spike = on_spike
        self.spike_factor = spike_factor
        self.window = window
        self.interval = interval
        self.snapshot_interval = snapshot_interval
        self.max_dumps = max_dumps
        self.dump_spikes = dump_spikes
        self.max_skips = max_skips
        self.skipped = 0
        self.total_norm: float | None = None
        self.frozen = False
        self.loaded: dict | None = None

    def before_train(self, runner: Runner) -> None:
        """Attach to the optimizer."""
        self.runner = runner
        self.model = dist.unwrap(runner.model)
        self.optimizer: Optimizer = runner.optim_wrapper.optimizer
        self.late = next(self.model.parameters()).device.type != 'cpu'
        self.takes_flag = takes_flag(self.optimizer) and fill_momentum_buffers(self.optimizer)
        self.norms = LayerNorms(self.model)
        self.statistics = Statistics(self.model)
        self.detector = SpikeDetector(len(self.norms.names), self.spike_factor, self.window, min(20, self.window))
        if self.loaded:
            self._load(self.loaded)
        self.patch_projection = self._find_patch_projection() if self.on_spike == 'freeze' else []
        self.recorder = StepRecorder()
        self.snapshot: Snapshot | None = None
        self.pending: tuple[int, Tensor, Any, bool] | None = None
        self.layer_norms: list[float] = []
        self.steps = self.quiet_steps = self.dumps = self.skips_in_a_row = 0
        self.in_spike = self.logged_wait = self.owns_flag = False
        self.handles = [
            self.optimizer.register_step_pre_hook(self._before_step),
            self.optimizer.register_step_post_hook(self._after_step),
        ]

    def after_train(self, runner: Runner) -> None:
        """Detach from the optimizer."""
        self._digest_pending()
        for handle in self.handles:
            handle.remove()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Back up the buffers that the forward pass will change."""
        counts = accumulative_counts(runner.optim_wrapper)
        if runner.iter % counts == 0 or not hasattr(self.recorder, 'batches'):
            batch_size = len(next(iter(data_batch.values()))[0]) if isinstance(data_batch, dict) else 0
            self.recorder.begin(runner, batch_size * dist.world_size() * counts)
            self.statistics.keep()
        self.recorder.add(data_batch)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Log the norms of the last step that has been read."""
        if (runner.iter + 1) % self.interval or not self.layer_norms:
            return
        scalars = {f'grad_norm/{name}': norm for name, norm in zip(self.norms.names, self.layer_norms, strict=True)}
        if self.total_norm is not None and not runner.optim_wrapper.clip_grad_kwargs:  # MMEngine writes it then
            scalars['grad_norm'] = self.total_norm
        for name, value in dict(scalars, skipped_steps=float(self.skipped)).items():
            runner.message_hub.update_scalar(f'train/{name}', value)

    @torch.no_grad()
    def _before_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        """Measure, decide and act between backward pass and update."""
        if self.late and self._digest_pending():
            return  # after a rollback no gradient belongs to the weights
        if self.frozen:
            self._drop(self.patch_projection)
        norms = self._measure()
        scale = getattr(optimizer, 'grad_scale', None)  # float16: the optimizer divides by it
        norms = norms if scale is None else norms / scale
        medians = torch.from_numpy(self.detector.medians()).to(norms.device, non_blocking=True)
        spikes = norms > self.spike_factor * medians
        bad = ~norms.isfinite().all()
        unwanted = bad if self.on_non_finite != 'warn' else torch.zeros_like(bad)
        if self.on_spike == 'skip':
            unwanted = unwanted | (spikes.any() & ~bad)
        if self.late:
            self._act_on_device(optimizer, norms, medians, spikes, unwanted, scale is not None)
        else:
            self._act_on_host(norms, medians, spikes, bool(unwanted.tolist()), scale is not None)
        self._take_snapshot()

    def _measure(self) -> Tensor:
        """Return the norms, bit-identical in all processes where they can affect the weights.

        GPUs may differ in the last bit of a sum. Nothing synchronises weights again, so a gradient that each process
        clips to its own norm, or a threshold that only some exceed, would let the replicas drift apart.
        """
        norms = self.norms()
        return norms if self.on_spike == 'warn' or self.norms.sharded else dist.of_first(norms)

    def _act_on_host(self, norms: Tensor, medians: Tensor, spikes: Tensor, unwanted: bool, scaled: bool) -> None:
        rolled_back = self._digest(self.runner.iter, norms.numpy(), unwanted, scaled, exact=True)
        if self.on_spike == 'clip' and any(spikes.tolist()) and not unwanted:
            self.norms.scale(torch.where(spikes, medians / norms, 1.0))
        if unwanted or rolled_back:
            if not rolled_back:
                self.statistics.restore_where(torch.ones(()))
            self._drop(self.norms.params)

    def _act_on_device(
        self, optimizer: Optimizer, norms: Tensor, medians: Tensor, spikes: Tensor, unwanted: Tensor, scaled: bool
    ) -> None:
        if self.on_spike == 'clip':
            self.norms.scale(torch.where(spikes & norms.isfinite(), medians / norms, 1.0))
        flag = unwanted.float()
        self.statistics.restore_where(flag)
        if self.takes_flag:
            given = getattr(optimizer, 'found_inf', None)  # of a gradient scaler, which removes it again
            self.owns_flag = given is None
            wanted = flag if given is None else torch.maximum(given, flag)
            optimizer.found_inf = wanted  # type: ignore[attr-defined]  # torch's kernels look for it
        else:
            if not self.logged_wait:
                self.logged_wait = True
                self.runner.logger.info(
                    f'{type(optimizer).__name__} has no flag that skips a step on the device, so every step '
                    'needs a host sync: fused=True in optim_wrapper.optimizer avoids that (Adam, AdamW, SGD)'
                )
            if bool(unwanted):
                self._drop(self.norms.params)
        self.pending = (self.runner.iter, *_start_copy(torch.cat([norms, flag[None]])), scaled)

    def _after_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        if self.owns_flag:
            optimizer.found_inf = None  # type: ignore[attr-defined]

    def _digest_pending(self) -> bool:
        """Read the previous step, which has finished by now, if any; returns True after a rollback."""
        if self.pending is None:
            return False
        iteration, values, event, scaled = self.pending
        self.pending = None
        if event is not None:
            event.synchronize()
        *norms, flag = values.tolist()
        went_back = self._digest(iteration, np.array(norms, dtype=np.float32), bool(flag), scaled, exact=False)
        if went_back:
            self._drop(self.norms.params)  # the present gradient belongs to the weights before the rollback
        return went_back

    def _digest(self, iteration: int, norms: np.ndarray, skipped: bool, scaled: bool, exact: bool) -> bool:
        """Count, report and dump a bad step; returns True after a rollback to a snapshot."""
        self.steps += 1
        self.layer_norms = norms.tolist()
        self.total_norm = float(np.sqrt((norms.astype(np.float64) ** 2).sum()))
        finite = bool(np.isfinite(norms).all())
        medians = self.detector.medians()
        spiking = np.flatnonzero(norms > self.spike_factor * medians) if finite else np.array([], dtype=int)
        self.skipped += skipped
        self.skips_in_a_row = self.skips_in_a_row + 1 if skipped else 0
        self.quiet_steps = 0 if skipped or not finite or len(spiking) else self.quiet_steps + 1
        went_back = False
        if not finite and not (scaled and self.skips_in_a_row < SCALER_STEPS):
            went_back = self._report_non_finite(exact)
        elif len(spiking):
            went_back = self._report_spike(spiking, norms, medians, exact)
        self.in_spike = len(spiking) > 0
        if finite:
            self.detector.append(norms)
        if self.skips_in_a_row >= self.max_skips:
            raise ValueError(
                f'{self.max_skips} steps in a row had an unusable gradient, the last at iteration '
                f'{iteration + 1}: the run cannot recover. Repeat the first of them with mocox replay '
                f'{shlex.quote(str(self._dump_folder()))}/*.pth, lower optim_wrapper.optimizer.lr, or look at the data'
            )
        return went_back

    def _report_non_finite(self, exact: bool) -> bool:
        layers = {name: norm for name, norm in zip(self.norms.names, self.layer_norms) if not isfinite(norm)}
        done = dict(warn='it reached the weights', skip='the step was left out', rollback='')[self.on_non_finite]
        went_back = self._roll_back() if self.on_non_finite == 'rollback' else None
        done = done or (f'back to iteration {went_back}' if went_back is not None else 'the step was left out')
        message = f'the gradient is not finite in {len(layers)} layers, first {next(iter(layers))}; {done}'
        if self.skips_in_a_row <= 3:
            self._dump('the gradient is not finite', exact)
            self._report('non_finite', message, layers)
        return went_back is not None

    def _report_spike(self, spiking: np.ndarray, norms: np.ndarray, medians: np.ndarray, exact: bool) -> bool:
        names = [self.norms.names[i] for i in spiking]
        evidence = {f'{name} / median': float(norms[i] / medians[i]) for name, i in zip(names, spiking)}
        message = (
            f'the gradient of {names[0]} is {norms[spiking[0]] / medians[spiking[0]]:.0f} times its running median'
        )
        went_back = None
        if self.on_spike == 'freeze' and not self.frozen:
            self.frozen = True
            self._drop(self.patch_projection)
            message += '; the patch projection is frozen from here on'
        elif self.on_spike == 'rollback':
            went_back = self._roll_back()
            message += '; there is no snapshot yet' if went_back is None else f'; back to iteration {went_back}'
        elif self.on_spike in ('skip', 'clip'):
            message += dict(skip='; the step was left out', clip='; its gradient was clipped')[self.on_spike]
        if not self.in_spike:  # once per spike, however many steps it lasts
            if self.dump_spikes:
                self._dump(message, exact)
            self._report('spike', message, evidence)
        return went_back is not None

    def _report(self, kind: str, message: str, evidence: dict[str, float]) -> None:
        write_event(self.runner, kind, None, message, evidence, CAUSES[DIVERGING])
        level = logging.INFO if kind == 'spike' and self.on_spike != 'warn' else logging.WARNING
        self.runner.logger.log(level, f'iteration {self.runner.iter + 1}: {message}')

    def _take_snapshot(self) -> None:
        if 'rollback' not in (self.on_spike, self.on_non_finite):
            return
        due = self.snapshot is None or self.runner.iter - self.snapshot.iteration >= self.snapshot_interval
        if due and (self.quiet_steps >= QUIET_STEPS or self.snapshot is None):
            self.snapshot = Snapshot(self.model, self.optimizer, self.runner.iter)

    def _roll_back(self) -> int | None:
        """Return the iteration of the snapshot; None where there is none."""
        if self.snapshot is None:
            return None
        self.snapshot.restore()
        self.statistics.keep()
        message = f'weights, momentum encoder, queue and optimizer are those of iteration {self.snapshot.iteration}'
        write_event(self.runner, 'rollback', None, message, dict(snapshot_iter=self.snapshot.iteration))
        return self.snapshot.iteration

    def _drop(self, params: list[torch.nn.Parameter]) -> None:
        """Remove gradients: an optimizer then skips the parameter, its state and its weight decay."""
        for param in params:
            param.grad = None

    def _find_patch_projection(self) -> list[torch.nn.Parameter]:
        for name in FIRST_LAYERS:
            if name in self.norms.names:
                return self.norms.of_layer(name)
        raise ValueError(
            "StabilityHook: on_spike='freeze' freezes the patch projection, but none is trained here "
            f'(layers: {", ".join(self.norms.names[:4])}, ...): MoCoViT keeps it frozen unless stop_grad_conv1=False'
        )

    def _dump_folder(self) -> Path:
        return Path(self.runner.work_dir, 'bad_steps')

    def _dump(self, reason: str, exact: bool) -> None:
        whole = not self.norms.sharded  # a process has no more than a part of the weights
        if self.dumps >= self.max_dumps or not whole or not isinstance(self.recorder.batches[0], dict):
            return
        self.dumps += 1
        name = dump_name(self.recorder.iteration, self.runner.rank, self.runner.world_size)
        path = self._dump_folder() / name
        norms = dict(zip(self.norms.names, self.layer_norms, strict=True))
        try:
            self.recorder.write(path, self.runner, reason, norms, exact)
        except (OSError, RuntimeError) as error:  # torch turns an OSError of a write into a RuntimeError
            self.runner.logger.error(f'{path} could not be written: {str(error).splitlines()[0]}. Training continues.')
            return
        self.runner.logger.info(f'the step is in {path}: mocox replay {shlex.quote(str(path))}')

    def before_snapshot(self, runner: Runner) -> None:
        """Read the last step, and roll back if need be, in all processes, of which only the first saves."""
        self._digest_pending()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the basis of later decisions, in plain types and tensors."""
        self.before_snapshot(runner)  # where MMEngine saves, and tells the first process only
        checkpoint[CHECKPOINT_KEY] = dict(
            skipped=self.skipped, frozen=self.frozen, layers=self.norms.names, detector=self.detector.state_dict()
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore that basis in a resumed run; a warm start begins anew."""
        self.loaded = checkpoint.get(CHECKPOINT_KEY) if runner._resume else None

    def _load(self, state: dict) -> None:
        if type(state.get('skipped')) is not int or type(state.get('frozen')) is not bool:
            raise ValueError(
                f'the checkpoint holds skipped={state.get("skipped")!r:.80}, frozen={state.get("frozen")!r:.80}'
            )
        self.skipped, self.frozen = state['skipped'], state['frozen']
        if state['layers'] == self.norms.names:
            self.detector.load_state_dict(state['detector'])


def takes_flag(optimizer: Optimizer) -> bool:
    """True if an optimizer skips a step by itself where the tensor ``found_inf`` is 1."""
    fused = all(group.get('fused') for group in optimizer.param_groups)
    return hasattr(optimizer, 'found_inf') or (fused and getattr(optimizer, '_step_supports_amp_scaling', False))


def _start_copy(values: Tensor) -> tuple[Tensor, Any]:
    """Copy to the host asynchronously; the event signals completion."""
    if values.device.type != 'cuda':
        return values, None
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return host, event
