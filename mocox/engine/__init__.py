"""The training engine: loop, hooks, checkpoints, optimizers, learning-rate schedules."""

from mocox.engine.checkpoint_hook import CheckpointHook
from mocox.engine.classes_hook import ClassesHook
from mocox.engine.freeze_hook import FreezeBackboneHook
from mocox.engine.lars import LARS
from mocox.engine.lr_schedule import WarmupCosineLR
from mocox.engine.momentum_hook import MomentumUpdateHook
from mocox.engine.optim_wrapper import AmpOptimWrapper
from mocox.engine.preemption_hook import PreemptionHook
from mocox.engine.progress_hook import ProgressHook
from mocox.engine.seed_hook import EpochSeedHook
from mocox.engine.setup_hook import SetupHook
from mocox.engine.sharding_hook import ShardingHook
from mocox.engine.train_loop import EpochBasedTrainLoop
from mocox.engine.unreadable_hook import UnreadableImagesHook
from mocox.engine.vis_backend import LocalVisBackend
from mocox.engine.watchdog_hook import WatchdogHook

__all__ = [
    'LARS',
    'AmpOptimWrapper',
    'CheckpointHook',
    'ClassesHook',
    'EpochBasedTrainLoop',
    'EpochSeedHook',
    'FreezeBackboneHook',
    'LocalVisBackend',
    'MomentumUpdateHook',
    'PreemptionHook',
    'ProgressHook',
    'SetupHook',
    'ShardingHook',
    'UnreadableImagesHook',
    'WarmupCosineLR',
    'WatchdogHook',
]
