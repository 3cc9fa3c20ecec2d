"""How each method's ``case.json`` becomes an ordinary config, and where its numbers are found."""

from mmengine.config import Config
from torch import Tensor, nn

from mocox.checkpoint import load_backbone, mocox_to_official, official_to_mocox
from mocox.models.necks import average_positions
from mocox.reference.case import Case
from mocox.registry import MODELS


class Pretraining:
    """MoCo v3 pre-training: how a case describes it, and where its numbers are found."""

    @staticmethod
    def model(spec: dict) -> dict:
        moco = spec['moco']
        backbone, width = backbone_config(spec['model'])
        norm = dict(type='mocox.SyncBN')
        head = dict(type='NonLinearNeck', hid_channels=moco['mlp_dim'], out_channels=moco['dim'], norm_cfg=norm)
        projector = dict(num_layers=moco['projector_layers'], with_last_bn=moco['projector_last_bn'])
        predictor = dict(num_layers=moco['predictor_layers'], with_last_bn=moco['predictor_last_bn'])
        return dict(
            type='MoCoV3',
            base_momentum=moco['m'],
            backbone=backbone,
            neck=dict(head, in_channels=width, with_last_bn_affine=False, **projector),
            head=dict(
                type='ContrastiveHead',
                temperature=moco['T'],
                predictor=dict(head, in_channels=moco['dim'], with_last_bn_affine=False, **predictor)
                if moco['predictor_layers']
                else None,
            ),
            data_preprocessor=dict(type='RecordedInputs'),
        )

    @staticmethod
    def hooks(spec: dict) -> list[dict]:
        return [dict(type='MomentumUpdateHook', schedule='cosine' if spec['moco'].get('m_cos') else 'constant')]

    @staticmethod
    def load(model: nn.Module, case: Case) -> None:
        model.load_state_dict(official_to_mocox(case.tensors('init')))

    @staticmethod
    def official_state(model: nn.Module) -> dict[str, Tensor]:
        return mocox_to_official(model.state_dict())

    @staticmethod
    def outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
        momentum = model.momentum_encoder
        features, keys = model.backbone(x), momentum.backbone(x)
        projection = model.neck(features)
        outputs = dict(
            backbone=average_positions(features[-1]),
            projection=projection[-1],
            momentum_backbone=average_positions(keys[-1]),
            momentum_projection=momentum.neck(keys)[-1],
        )
        predictor = model.head.predictor
        outputs['prediction'] = projection[-1] if predictor is None else predictor(projection)[-1]
        return outputs


class QueuePretraining(Pretraining):
    """MoCo v1 and v2 pre-training; the recorded permutations replace our own."""

    @staticmethod
    def model(spec: dict) -> dict:
        moco = spec['moco']
        backbone, width = backbone_config(spec['model'], norm='BN')
        if moco['mlp']:
            neck = dict(type='mmpretrain.MoCoV2Neck', in_channels=width, hid_channels=width, out_channels=moco['dim'])
        else:
            neck = dict(
                type='mmpretrain.LinearNeck', in_channels=width, out_channels=moco['dim'], gap_dim=2, norm_cfg=None
            )
        return dict(
            type='MoCo',
            queue_len=moco['K'],
            feat_dim=moco['dim'],
            base_momentum=moco['m'],
            backbone=backbone,
            neck=neck,
            head=dict(type='ContrastiveHead', temperature=moco['T']),
            data_preprocessor=dict(type='RecordedInputs'),
        )

    @staticmethod
    def load(model: nn.Module, case: Case) -> None:
        Pretraining.load(model, case)
        inputs = case.tensors('inputs')
        model.draw_permutation = lambda num_rows, iteration: inputs[f'step{iteration:02d}.idx_shuffle']


class LinearEvaluation:
    """The linear probe on a frozen backbone."""

    @staticmethod
    def model(spec: dict) -> dict:
        backbone, width = backbone_config(spec['model'])
        head = dict(
            type='mmpretrain.LinearClsHead',
            _scope_='mmpretrain',
            in_channels=width,
            num_classes=spec['lincls']['classes'],
            loss=dict(type='mmpretrain.CrossEntropyLoss'),
        )
        return dict(type='LinearProbe', backbone=backbone, head=head, data_preprocessor=dict(type='RecordedInputs'))

    @staticmethod
    def hooks(spec: dict) -> list[dict]:
        return []

    @staticmethod
    def load(model: nn.Module, case: Case) -> None:
        heads = getattr(model.backbone, 'num_heads', None)
        load_backbone(model.backbone, case.folder / 'init.safetensors', encoder='query', heads=heads)
        head = case.tensors('fc_init')
        model.head.fc.load_state_dict({k.removeprefix('head.'): v for k, v in head.items()})

    @staticmethod
    def official_state(model: nn.Module) -> dict[str, Tensor]:
        state = {f'module.{k}': v for k, v in model.backbone.state_dict().items()}
        classifier = 'head' if hasattr(model.backbone, 'cls_token') else 'fc'
        return state | {f'module.{classifier}.{k}': v for k, v in model.head.fc.state_dict().items()}

    @staticmethod
    def outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
        return dict(backbone=model.extract_feat(x)[-1], logits=model(x))


FIXED_FIELDS = dict(act='gelu_erf', norm='pre', dropout=0.0, ln_eps=1e-6)  # what our ViT always is

METHODS = {'v3': Pretraining, 'v2': QueuePretraining, 'v1': QueuePretraining, 'lincls': LinearEvaluation}

SCHEDULES = {
    'warmup_cosine_per_iteration': lambda spec: dict(
        type='WarmupCosineLR', warmup_epochs=spec['train']['warmup_epochs'], convert_to_iter_based=True
    ),
    'cosine_per_epoch': lambda spec: dict(type='WarmupCosineLR'),
    'step_per_epoch': lambda spec: dict(type='MultiStepLR', milestones=spec['schedule']['milestones']),
}

OPTIMIZER_CONFIGS = {
    'adamw': lambda o: dict(
        type='AdamW',
        lr=o['base_lr'],
        weight_decay=o['weight_decay'],
        betas=tuple(o['betas']),
        eps=o['eps'],
        amsgrad=o['amsgrad'],
    ),
    'lars': lambda o: dict(
        type='LARS',
        lr=o['base_lr'],
        weight_decay=o['weight_decay'],
        momentum=o['momentum'],
        trust_coefficient=o['trust_coefficient'],
    ),
    'sgd': lambda o: dict(
        type='SGD',
        lr=o['base_lr'],
        weight_decay=o['weight_decay'],
        momentum=o['momentum'],
        dampening=o['dampening'],
        nesterov=o['nesterov'],
    ),
}


def backbone_config(model: dict, norm: str = 'mocox.SyncBN') -> tuple[dict, int]:
    """Our backbone for the ``model`` field of a case, and the width of its features."""
    if model['arch'] == 'vit':
        width = model['embed_dim']
        sizes = dict(
            embed_dims=width,
            num_layers=model['depth'],
            num_heads=model['num_heads'],
            feedforward_channels=round(width * model['mlp_ratio']),
        )
        return dict(
            type='MoCoViT',
            arch=sizes,
            img_size=model['img_size'],
            patch_size=model['patch_size'],
            in_channels=model['in_chans'],
            stem=model['stem'],
            stop_grad_conv1=model['stop_grad_conv1'],
            qkv_bias=model['qkv_bias'],
            final_norm=model['final_norm'],
            out_type={'cls': 'cls_token', 'avg': 'avg_featmap'}[model['pool']],
        ), width
    block = dict(
        type='TraceResNet',
        block=model['block'],
        layers=model['layers'],
        in_channels=model['in_chans'],
        stem_channels=model['width'],
        base_channels=model['width'],
        zero_init_residual=model['zero_init_residual'],
        norm_cfg=dict(type=norm, eps=model['bn_eps'], momentum=model['bn_momentum']),
    )
    return block, model['feature_dim']


@MODELS.register_module()
def TraceResNet(block: str, layers: list[int], **kwargs) -> nn.Module:
    """Mmpretrain's ResNet with any number of ``basic`` or ``bottleneck`` blocks per stage."""
    from mmpretrain.models.backbones.resnet import BasicBlock, Bottleneck, ResNet

    kinds = {'basic': BasicBlock, 'bottleneck': Bottleneck}
    resnet = type('TraceResNet', (ResNet,), dict(arch_settings={0: (kinds[block], tuple(layers))}))
    return resnet(depth=0, **kwargs)


def build_config(case: Case, work_dir: str, chunk_size: int | None = None, accumulation: int = 1) -> Config:
    """The ordinary config that the hyper-parameters of ``case.json`` describe."""
    spec = case.spec
    train = spec['train']
    if spec['method'] not in METHODS:
        raise ValueError(f'{case.folder}: method {spec["method"]!r} is not one of {sorted(METHODS)}')
    for name, supported in FIXED_FIELDS.items():
        if spec['model'].get(name, supported) != supported:
            raise ValueError(f'{case.folder}: model.{name}={spec["model"][name]!r}; mocox has {supported!r} only')
    method, schedule = METHODS[spec['method']], SCHEDULES[spec['schedule']['lr_kind']]
    rates = spec['optimizer']
    optimizer = OPTIMIZER_CONFIGS[rates['name']](rates)
    model = method.model(spec)
    if chunk_size is not None:
        model['chunk_size'] = chunk_size
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
                dataset=dict(
                    type='RecordedRows', folder=str(case.folder), precision=case.precision, repeats=accumulation
                ),
            ),
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=train['epochs']),
            optim_wrapper=dict(type='OptimWrapper', optimizer=optimizer, accumulative_counts=accumulation),
            param_scheduler=[schedule(spec)],
            auto_scale_lr=dict(enable=rates['lr'] != rates['base_lr'], base_batch_size=256),
            custom_hooks=method.hooks(spec),
            default_hooks=dict(checkpoint=None, logger=None),
            model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False),
            launcher='pytorch' if train['world_size'] > 1 else 'none',
            log_level='ERROR',
            randomness=dict(seed=0),
        )
    )
