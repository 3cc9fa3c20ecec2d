"""What drives training: hooks, optimizers, learning-rate schedules."""

from mocox.engine.lars import LARS
from mocox.engine.lr_schedule import WarmupCosineLR
from mocox.engine.momentum_hook import MomentumUpdateHook
from mocox.engine.optim_wrapper import AmpOptimWrapper
from mocox.engine.progress_hook import ProgressHook
from mocox.engine.report_hook import ReportHook
from mocox.engine.seed_hook import EpochSeedHook
from mocox.engine.unreadable_hook import UnreadableImagesHook

__all__ = [
    'LARS',
    'AmpOptimWrapper',
    'EpochSeedHook',
    'MomentumUpdateHook',
    'ProgressHook',
    'ReportHook',
    'UnreadableImagesHook',
    'WarmupCosineLR',
]
