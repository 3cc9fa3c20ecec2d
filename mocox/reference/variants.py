"""MoBY, Fast-MoCo, symmetric v2 and fine-tuning: their models, and where their numbers are found."""

import re
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mocox import dist
from mocox.engine.momentum_hook import MomentumUpdateHook
from mocox.reference import backbones, names
from mocox.reference.case import Case
from mocox.reference.methods import MoCoV3Method
from mocox.registry import HOOKS

INPUTS = dict(type='mocox.RecordedInputs')


class Variant(MoCoV3Method):
    """Base of the variants: names are translated one by one, and drop paths use recorded random numbers."""

    in_official_order = False

    @staticmethod
    def patterns(spec: dict) -> names.Patterns:
        raise NotImplementedError

    @staticmethod
    def arrange(official: dict[str, Tensor]) -> dict[str, Tensor]:
        """The official state with one tensor for each of ours."""
        return official

    @classmethod
    def hooks(cls, spec: dict) -> list[dict]:
        return super().hooks(spec) + drop_path_hooks(spec)

    @classmethod
    def load(cls, model: Any, case: Case) -> None:
        names.load_renamed(model, cls.arrange(case.tensors('init')), cls.patterns(case.spec), cls.ignored)
        draw_recorded_paths(model, case.spec['model'])

    @classmethod
    def official_state(cls, state: dict[str, Tensor], spec: dict) -> dict[str, Tensor]:
        return names.renamed_state(state, cls.patterns(spec))


class MoBYMethod(Variant):
    """MoBY with Swin or DeiT."""

    ignored = r'.*\.attn_mask'  # we compute it where it is used

    @staticmethod
    def model(spec: dict) -> dict:
        moco = spec['moco']
        backbone, width = backbones.build_one_of(spec['model'], swin=backbones.swin, vit=backbones.deit)
        layers = dict(type='NonLinearNeck', hid_channels=moco['mlp_dim'], out_channels=moco['dim'])
        layers |= dict(with_bias=True, with_last_bn=False, with_last_bias=True)
        predictor = dict(layers, in_channels=moco['dim'], num_layers=moco.get('predictor_layers', 2))
        return dict(
            type='MoBY',
            queue_len=moco['K'],
            feat_dim=moco['dim'],
            base_momentum=moco['m'],
            merge_views=not spec['model'].get('drop_path_rate'),  # the recorded code drew for one view at a time
            backbone=backbone,
            neck=dict(layers, in_channels=width, num_layers=moco.get('projector_layers', 2)),
            head=dict(type='ContrastiveHead', temperature=moco['T'], predictor=dict(predictor, with_avg_pool=False)),
            data_preprocessor=INPUTS,
        )

    @staticmethod
    def patterns(spec: dict) -> names.Patterns:
        moco = spec['moco']
        inner = names.SWIN if spec['model']['arch'] == 'swin' else names.DEIT
        projector = names.moby_layers(moco.get('projector_layers', 2))
        predictor = names.moby_layers(moco.get('predictor_layers', 2))
        heads = [(rf'neck{old}', f'neck{new}') for old, new in projector]
        heads += [(rf'predictor{old}', f'predictor{new}') for old, new in predictor]
        return [*inner, *heads, *names.MOBY_ENCODERS]


class FastMoCoMethod(Variant):
    """Fast-MoCo with a ResNet."""

    aliases = [(r'^module\.backbone\.', 'module.encoder.0.'), (r'^module\.bbone_ema\.', 'module.encoder_ema.0.')]

    @staticmethod
    def model(spec: dict) -> dict:
        moco = spec['moco']
        backbone, width = backbones.backbone_config(spec['model'])
        layers = dict(type='NonLinearNeck', with_bias=True, with_last_bias=True)
        sizes = dict(in_channels=moco['dim'], hid_channels=moco['predictor_dim'], out_channels=moco['dim'])
        return dict(
            type='FastMoCo',
            num_splits=moco['split_num'],
            num_combined=moco['combs'],
            base_momentum=moco['m'],
            backbone=backbone,
            neck=dict(layers, num_layers=3, in_channels=width, hid_channels=moco['mlp_dim'], out_channels=moco['dim']),
            head=dict(
                type='ContrastiveHead',
                temperature=moco['T'],
                predictor=dict(layers, num_layers=2, with_last_bn=False, with_avg_pool=False, **sizes),
            ),
            data_preprocessor=INPUTS,
        )

    @staticmethod
    def patterns(spec: dict) -> names.Patterns:
        return names.FAST_MOCO


class SymmetricV2(Variant):
    """MoCo v2 in both directions, with BatchNorm of the whole batch and nothing shuffled."""

    ignored = r'module\.classifier\..*'  # an online probe on detached features

    @staticmethod
    def model(spec: dict) -> dict:
        moco = spec['moco']
        backbone, width = backbones.backbone_config(spec['model'])
        return dict(
            type='MoCo',
            symmetric=True,
            queue_len=moco['K'],
            feat_dim=moco['dim'],
            base_momentum=moco['m'],
            backbone=backbone,
            neck=dict(
                type='mmpretrain.MoCoV2Neck',
                in_channels=width,
                hid_channels=moco['mlp_dim'],
                out_channels=moco['dim'],
            ),
            head=dict(type='ContrastiveHead', temperature=moco['T']),
            data_preprocessor=INPUTS,
        )

    @classmethod
    def hooks(cls, spec: dict) -> list[dict]:
        moco = spec['moco']
        schedule = 'cosine' if moco.get('m_cos') else 'constant'
        return [dict(type='LateMomentumHook', schedule=schedule, end_momentum=moco.get('m_final', 1.0))]

    @staticmethod
    def patterns(spec: dict) -> names.Patterns:
        return names.SOLO

    @staticmethod
    def arrange(official: dict[str, Tensor]) -> dict[str, Tensor]:
        queues = official.pop('module.queue')
        return official | {'module.queue_x1.keys': queues[0], 'module.queue.keys': queues[1]}

    @classmethod
    def load(cls, model: Any, case: Case) -> None:
        super().load(model, case)
        model.draw_permutation = lambda num_rows, iteration: torch.arange(num_rows)
        model.warned = True  # that statistics leak, as they do in the recorded code

    @classmethod
    def official_state(cls, state: dict[str, Tensor], spec: dict) -> dict[str, Tensor]:
        state = super().official_state(state, spec)
        queues = [state.pop(f'module.{name}.keys') for name in ('queue_x1', 'queue')]
        return state | {'module.queue': torch.stack(queues)}

    @staticmethod
    def momentum(spec: dict) -> list[float]:
        return [1.0, *spec['schedule']['moco_m_after_step'][:-1]]

    @staticmethod
    def final_momentum(spec: dict) -> float:
        return spec['schedule']['moco_m_after_step'][-1]


class FineTuning:
    """All of a transformer trained with DeiT's recipe, on soft labels."""

    ignored = r'$^'
    aliases: names.Patterns = []
    in_official_order = False
    first_step = dict(backbone=('features', 0), logits=('logits', 0))
    PATTERNS = [(r'^backbone\.', r''), (r'^head\.fc\.', r'head.')]

    @staticmethod
    def model(spec: dict) -> dict:
        backbone, width = backbones.build_one_of(spec['model'], vit=backbones.finetuned_vit)
        loss = dict(type='LabelSmoothLoss', label_smooth_val=float(spec['label_smoothing']), mode='original')
        return dict(
            type='mmpretrain.ImageClassifier',
            backbone=backbone,
            head=dict(
                type='LinearClsHead',
                _scope_='mmpretrain',
                in_channels=width,
                num_classes=spec['model']['classes'],
                loss=loss,
            ),
            data_preprocessor=INPUTS,
        )

    @staticmethod
    def hooks(spec: dict) -> list[dict]:
        return drop_path_hooks(spec)

    @classmethod
    def load(cls, model: Any, case: Case) -> None:
        names.load_renamed(model, case.tensors('init'), cls.PATTERNS, cls.ignored, prefix='')
        draw_recorded_paths(model, case.spec['model'])
        loss = model.head.loss_module  # makes float32 of labels, which 1e-9 does not allow
        loss.generate_one_hot_like_label = lambda label: _soft(label, loss.num_classes, model.head.fc.weight.dtype)

    @classmethod
    def official_state(cls, state: dict[str, Tensor], spec: dict) -> dict[str, Tensor]:
        return names.renamed_state(state, cls.PATTERNS, prefix='')

    @staticmethod
    def outputs(model: Any, x: Tensor) -> dict[str, Tensor]:
        return dict(backbone=model.backbone(x)[-1], logits=model(x, mode='tensor'))

    @staticmethod
    def momentum(spec: dict) -> list[float]:
        return []

    @staticmethod
    def final_momentum(spec: dict) -> None:
        return None


def _soft(label: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    return (label if label.ndim == 2 else nn.functional.one_hot(label, num_classes)).to(dtype)


def draw_recorded_paths(model: Any, sizes: dict) -> None:
    """Drop paths as recorded, if there are any; the momentum encoder has none."""
    if sizes.get('drop_path_rate'):
        depth = sum(sizes['depths']) if 'depths' in sizes else sizes['depth']
        backbones.draw_published_paths(model.backbone, sizes['drop_path_rate'], depth)


def drop_path_hooks(spec: dict) -> list[dict]:
    """The recorded seeds of drop paths, which the notes of a case state.

    Raises:
        ValueError: Drop paths without a seed.
    """
    if not spec['model'].get('drop_path_rate'):
        return []
    stated = re.search(r'manual_seed\((\d+) \+ step\)', ' '.join(spec['notes']))
    if stated is None:
        raise ValueError('model.drop_path_rate is set, but no note states its seed as torch.manual_seed(N + step)')
    return [dict(type='RecordedSeedHook', first=int(stated[1]))]


@HOOKS.register_module()
class RecordedSeedHook(Hook):
    """Seeds the random numbers of drop paths at the start of a step.

    Args:
        first: Seed of the first step; the others follow.
    """

    def __init__(self, first: int) -> None:
        self.first = first

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        torch.manual_seed(self.first + runner.iter)


@HOOKS.register_module()
class LateMomentumHook(MomentumUpdateHook):
    """Moves the momentum encoder as a code does that moves it after the optimizer's step.

    That is our update before the next step, with the coefficient of this one: 1, m_0, m_1, ..., and the last after
    training.
    """

    def coefficient(self, base: float, step: int, total: int) -> float:
        """1 in the first step, then that of the step before."""
        return super().coefficient(base, step - 1, total) if step else 1.0

    def after_train(self, runner: Runner) -> None:
        model = dist.unwrap(runner.model)
        model.momentum = self.coefficient(model.base_momentum, runner.max_iters, runner.max_iters)
        model.update_momentum_encoder()
