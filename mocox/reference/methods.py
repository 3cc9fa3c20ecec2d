"""The models of MoCo v1, v2 and v3 that a ``case.json`` describes, and where their numbers are found."""

from torch import Tensor, nn

from mocox.checkpoint import load_backbone, mocox_to_official, official_to_mocox
from mocox.models.algorithms.base import MomentumContrast
from mocox.models.algorithms.linear_probe import LinearProbe
from mocox.models.algorithms.moco import MoCo
from mocox.models.necks import average_positions
from mocox.reference.backbones import backbone_config
from mocox.reference.case import Case
from mocox.reference.names import Patterns


class MoCoV3Method:
    """MoCo v3 pre-training: how a case describes it, and where its numbers are found."""

    ignored = r'$^'  # official tensors without a counterpart
    aliases: Patterns = []  # other official names of the same tensors
    in_official_order = True  # of the parameters that our converter writes
    first_step = dict(q1=('queries', 0), q2=('queries', 1), k1=('keys', 0), k2=('keys', 1))  # what, and which call

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
        moco = spec['moco']
        schedule = 'cosine' if moco.get('m_cos') else 'constant'
        return [dict(type='MomentumUpdateHook', schedule=schedule, end_momentum=moco.get('m_final', 1.0))]

    @staticmethod
    def momentum(spec: dict) -> list[float]:
        """The coefficient that each step uses."""
        return spec['schedule']['moco_m']

    @staticmethod
    def load(model: nn.Module, case: Case) -> None:
        model.load_state_dict(official_to_mocox(case.tensors('init')))

    @staticmethod
    def final_momentum(spec: dict) -> float | None:
        """The coefficient that is set after training."""
        return spec['schedule']['moco_m'][-1]

    @staticmethod
    def official_state(state: dict[str, Tensor], spec: dict) -> dict[str, Tensor]:
        return mocox_to_official(state)

    @staticmethod
    def outputs(model: MomentumContrast, x: Tensor) -> dict[str, Tensor]:
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


class QueuePretraining(MoCoV3Method):
    """MoCo v1 and v2 pre-training; the recorded permutations replace our own."""

    norm = 'BN'  # one for each process
    first_step = dict(q_raw=('queries', 0), k_raw_shuffled=('keys', 0), logits=('logits', 0))

    @classmethod
    def model(cls, spec: dict) -> dict:
        moco = spec['moco']
        backbone, width = backbone_config(spec['model'], cls.norm)
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
        MoCoV3Method.load(model, case)
        inputs = case.tensors('inputs')
        assert isinstance(model, MoCo)
        model.draw_permutation = lambda num_rows, iteration: inputs[f'step{iteration:02d}.idx_shuffle']


class LinearEvaluation:
    """The linear probe on a frozen backbone."""

    ignored = r'$^'
    aliases: Patterns = []
    in_official_order = False
    first_step = dict(backbone=('features', 0), logits=('logits', 0))

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
    def momentum(spec: dict) -> list[float]:
        return []

    @staticmethod
    def load(model: LinearProbe, case: Case) -> None:
        heads = getattr(model.backbone, 'num_heads', None)
        load_backbone(model.backbone, case.folder / 'init.safetensors', encoder='query', heads=heads)
        head = case.tensors('fc_init')
        model.head.fc.load_state_dict({k.removeprefix('head.'): v for k, v in head.items()})

    @staticmethod
    def final_momentum(spec: dict) -> None:
        return None

    @staticmethod
    def official_state(state: dict[str, Tensor], spec: dict) -> dict[str, Tensor]:
        classifier = 'head' if 'backbone.cls_token' in state else 'fc'
        names = (('backbone.', 'module.'), ('head.fc.', f'module.{classifier}.'))
        return {new + k.removeprefix(old): v for old, new in names for k, v in state.items() if k.startswith(old)}

    @staticmethod
    def outputs(model: LinearProbe, x: Tensor) -> dict[str, Tensor]:
        return dict(backbone=model.extract_feat(x)[-1], logits=model(x))
