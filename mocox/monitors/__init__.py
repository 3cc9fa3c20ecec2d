"""Is it learning? Calibrated progress, k-NN while training, and the stability of the gradients."""

from mocox.monitors.bad_step import Replay, replay_step
from mocox.monitors.learning_state import TrainingState
from mocox.monitors.monitor_hook import MonitorHook
from mocox.monitors.readings import Reading, Verdict
from mocox.monitors.stability_hook import StabilityHook
from mocox.monitors.summary import final_verdict

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
