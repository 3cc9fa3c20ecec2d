"""Turn a ``case.json`` into an ordinary config."""

from typing import Any

from mmengine.config import Config
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from mocox.engine.batches import accumulative_counts
from mocox.reference import methods, variants
from mocox.reference.backbones import check_fixed_fields
from mocox.reference.case import Case
from mocox.registry import PARAM_SCHEDULERS

METHODS: dict[str, Any] = dict(
    v3=methods.MoCoV3Method,
    v2=methods.QueuePretraining,
    v1=methods.QueuePretraining,
    lincls=methods.LinearEvaluation,
    moby=variants.MoBYMethod,
    fast_moco=variants.FastMoCoMethod,
    symmetric_v2=variants.SymmetricV2,
    finetune=variants.FineTuning,
)
SCHEDULES = {
    'warmup_cosine_per_iteration': lambda spec: dict(
        type='WarmupCosineLR', warmup_epochs=spec['train']['warmup_epochs'], convert_to_iter_based=True
    ),
    'cosine_per_epoch': lambda spec: dict(type='WarmupCosineLR'),
    'step_per_epoch': lambda spec: dict(type='MultiStepLR', milestones=spec['schedule']['milestones']),
}
OPTIMIZERS = {
    'adamw': ('AdamW', ('weight_decay', 'betas', 'eps', 'amsgrad')),
    'lars': ('LARS', ('weight_decay', 'momentum', 'trust_coefficient')),
    'sgd': ('SGD', ('weight_decay', 'momentum', 'dampening', 'nesterov')),
}
NO_DECAY = {'tensors of one dimension': dict(flat_decay_mult=0.0), 'biases': dict(bias_decay_mult=0.0)}


@PARAM_SCHEDULERS.register_module()
class RecordedLR(_ParamScheduler):
    """The recorded learning rate of every step.

    Args:
        optimizer: Optimizer or wrapper; MMEngine passes it.
        values: One for each step.
        fixed: The same for parameter groups with ``fix_lr``.
        kwargs: Where to go on; MMEngine passes them.
    """

    def __init__(self, optimizer, values: list[float], fixed: list[float] | None = None, **kwargs) -> None:
        self.values, self.fixed = values, fixed or values
        super().__init__(optimizer, 'lr', **kwargs)

    def _get_value(self) -> list[float]:
        step = min(self.last_step // accumulative_counts(self.optimizer), len(self.values) - 1)
        groups = self.optimizer.param_groups
        return [(self.fixed if group.get('fix_lr') else self.values)[step] for group in groups]


def recorded_schedule(spec: dict) -> dict:
    """The learning rates of the case itself; schedules of the variants have tests of their own."""
    schedule = spec['schedule']
    return dict(type='RecordedLR', values=schedule['lr'], fixed=schedule.get('lr_predictor'), by_epoch=False)


def decay_groups(text: str) -> dict:
    """Translate ``optimizer.no_decay`` into a ``paramwise_cfg``.

    Each of its parts, between commas, is ``tensors of one dimension``, ``biases`` or the name of parameters.
    """
    config: dict = dict(custom_keys={})
    for part in filter(None, map(str.strip, text.split(','))):
        if part in NO_DECAY:
            config |= NO_DECAY[part]
        elif part.isidentifier():
            config['custom_keys'][part] = dict(decay_mult=0.0)
        else:
            known = sorted(NO_DECAY)
            raise ValueError(f'optimizer.no_decay: {part!r} is not one of {known} nor the name of a parameter')
    return config


def optim_wrapper(spec: dict, accumulation: int) -> dict:
    """Optimizer, parameter groups and clipping."""
    rates = spec['optimizer']
    kind, arguments = OPTIMIZERS[rates['name']]
    optimizer = dict(type=kind, lr=rates.get('base_lr', rates['lr']), **{k: rates[k] for k in arguments if k in rates})
    paramwise = decay_groups(rates.get('no_decay', ''))
    if 'lr_predictor' in spec['schedule']:
        paramwise['custom_keys']['head.predictor'] = dict(fix_lr=True)
    config = dict(type='OptimWrapper', optimizer=optimizer, accumulative_counts=accumulation)
    if paramwise != decay_groups(''):
        config['paramwise_cfg'] = paramwise
    if rates.get('clip_grad'):
        config['clip_grad'] = dict(max_norm=rates['clip_grad'])
    return config


def build_config(case: Case, work_dir: str, chunk_size: int | None = None, accumulation: int = 1) -> Config:
    """The ordinary config that the hyper-parameters of ``case.json`` describe.

    Raises:
        ValueError: The case describes what mocox does not have.
    """
    spec = case.spec
    train, rates = spec['train'], spec['optimizer']
    if spec['method'] not in METHODS:
        raise ValueError(f'{case.folder}: method {spec["method"]!r} is not one of {sorted(METHODS)}')
    check_fixed_fields(spec['model'])
    method = METHODS[spec['method']]
    schedule = SCHEDULES.get(spec['schedule']['lr_kind'], recorded_schedule)(spec)
    scaled = schedule['type'] != 'RecordedLR' and rates['lr'] != rates['base_lr']
    model = method.model(spec)
    if chunk_size is not None:
        model['chunk_size'] = chunk_size
    dataset = dict(type='RecordedRows', folder=str(case.folder), precision=case.precision, repeats=accumulation)
    return Config(
        dict(
            default_scope='mocox',
            work_dir=work_dir,
            model=model,
            train_dataloader=dict(
                batch_size=train['per_rank_batch'],
                num_workers=0,
                drop_last=True,
                sampler=dict(type='EpochSampler', shuffle=False),
                collate_fn=dict(type='default_collate'),
                dataset=dataset,
            ),
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=train['epochs']),
            optim_wrapper=optim_wrapper(spec, accumulation),
            param_scheduler=[schedule],
            auto_scale_lr=dict(enable=scaled, base_batch_size=256),
            custom_hooks=method.hooks(spec),
            default_hooks=dict(checkpoint=None, logger=None),
            model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False),
            launcher='pytorch' if train['world_size'] > 1 else 'none',
            log_level='ERROR',
            randomness=dict(seed=0),
        )
    )
