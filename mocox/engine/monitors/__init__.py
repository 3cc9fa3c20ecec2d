"""Is it learning? Calibrated progress, k-NN while training, and the stability of the gradients."""

from mocox.engine.monitors.bad_step import Replay, replay_step
from mocox.engine.monitors.monitor_hook import MonitorHook
from mocox.engine.monitors.stability_hook import StabilityHook
from mocox.engine.monitors.states import Reading, TrainingState, Verdict, final_verdict

__all__ = [
    'MonitorHook',
    'Reading',
    'Replay',
    'StabilityHook',
    'TrainingState',
    'Verdict',
    'final_verdict',
    'replay_step',
]
