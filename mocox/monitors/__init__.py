"""Is it learning? Calibrated progress, k-NN while training, and the stability of the gradients."""

from mocox.monitors.bad_step import Replay, replay_step
from mocox.monitors.monitor_hook import MonitorHook
from mocox.monitors.stability_hook import StabilityHook
from mocox.monitors.states import Reading, TrainingState, Verdict, final_verdict

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
