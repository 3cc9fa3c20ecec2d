"""What every run has in common: hooks, processes, logging. No number here changes what a model learns but the seed."""
default_scope = 'mocox'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=10, max_keep_ckpts=3),
    setup=dict(type='SetupHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    epoch_seed=dict(type='EpochSeedHook'),
    runtime_info=dict(type='RuntimeInfoHook'),
    watchdog=dict(type='WatchdogHook'),
    sharding=dict(type='ShardingHook'),
    classes=dict(type='ClassesHook'),
    unreadable=dict(type='UnreadableImagesHook'),
    stability=dict(type='StabilityHook'), monitor=dict(type='MonitorHook'),  # docs/monitoring.md; change no weight
    progress=dict(type='ProgressHook'),
    report=dict(type='ReportHook'),
    preemption=dict(type='PreemptionHook'))

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl', timeout=600))  # seconds; without a GPU the tools use gloo

# The device is the current one, or the CPU. No BatchNorm statistics are broadcast: SyncBN's are equal on all ranks, and
# of SplitBN's, which no training step reads, those of rank 0 are saved.
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel',
    device_ids=None,
    broadcast_buffers=False,
    find_unused_parameters=False,
    gradient_as_bucket_view=True)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends)

log_processor = dict(window_size=10)
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0)
