"""Cases that no recording covers: their numbers come from the official loops, written out here."""

import json
from math import cos, pi
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mocox.reference import Case, compare, replay

STEPS, BATCH, CLASSES, RATE = 2, 4, 5, 0.3
MODEL = dict(arch='vit', img_size=24, patch_size=8, embed_dim=12, depth=3, num_heads=3, mlp_ratio=3, qkv_bias=True)
MODEL |= dict(drop_path_rate=RATE, feature_dim=12, classes=CLASSES)
MOCO = dict(dim=6, mlp_dim=10, K=10, T=0.3, m=0.9, m_cos=True)
LR = [0.01, 0.02]


def drop_path(x: Tensor, rate: float) -> Tensor:
    """As timm had it in 2021."""
    if not rate:
        return x
    return x / (1 - rate) * (1 - rate + torch.rand((len(x), 1, 1), dtype=x.dtype)).floor()


def class_token(vit: VisionTransformer, x: Tensor, rate: float) -> Tensor:
    tokens = vit.patch_embed(x)
    tokens = torch.cat([vit.cls_token.expand(len(x), -1, -1), tokens], dim=1) + vit.pos_embed
    for block, p in zip(vit.blocks, torch.linspace(0, rate, MODEL['depth']).tolist(), strict=True):
        tokens = tokens + drop_path(block.attn(block.norm1(tokens)), p)
        tokens = tokens + drop_path(block.mlp(block.norm2(tokens)), p)
    return vit.norm(tokens)[:, 0]


def small_vit(num_classes: int = 0) -> VisionTransformer:
    sizes = dict(img_size=24, patch_size=8, embed_dim=12, depth=3, num_heads=3, mlp_ratio=3)
    return VisionTransformer(**sizes, num_classes=num_classes)


class Head(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        layers = nn.Identity(), nn.Linear(width, MOCO['mlp_dim']), nn.BatchNorm1d(MOCO['mlp_dim']), nn.ReLU()
        self.linear_hidden = nn.Sequential(*layers)
        self.linear_out = nn.Linear(MOCO['mlp_dim'], MOCO['dim'])

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_out(self.linear_hidden(x))


class MoBY(nn.Module):
    """The official names."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.encoder_k = small_vit(), small_vit()
        self.projector, self.projector_k = Head(12), Head(12)
        self.predictor = Head(MOCO['dim'])
        for name in ('queue1', 'queue2'):
            self.register_buffer(name, F.normalize(torch.randn(MOCO['dim'], MOCO['K']), dim=0))
        self.register_buffer('queue_ptr', torch.zeros(1, dtype=torch.long))

    def query(self, x: Tensor) -> Tensor:
        return F.normalize(self.predictor(self.projector(class_token(self.encoder, x, RATE))), dim=1)

    def key(self, x: Tensor) -> Tensor:
        return F.normalize(self.projector_k(class_token(self.encoder_k, x, 0)), dim=1)

    def contrast(self, q: Tensor, k: Tensor, queue: Tensor) -> Tensor:
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.clone()], dim=1) / MOCO['T']
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))

    def loss(self, step: int, inputs: dict) -> Tensor:
        x1, x2 = inputs['x1'], inputs['x2']
        q1, q2 = self.query(x1), self.query(x2)
        with torch.no_grad():
            m = 1 - (1 - MOCO['m']) * (cos(pi * step / STEPS) + 1) / 2
            pairs = (self.encoder, self.encoder_k), (self.projector, self.projector_k)
            for fast, slow in ((f, s) for pair in pairs for f, s in zip(*(p.parameters() for p in pair), strict=True)):
                slow.mul_(m).add_(fast, alpha=1 - m)
            k1, k2 = self.key(x1), self.key(x2)
        loss = self.contrast(q1, k2, self.queue2) + self.contrast(q2, k1, self.queue1)
        columns = (self.queue_ptr + torch.arange(BATCH)) % MOCO['K']
        self.queue1[:, columns], self.queue2[:, columns] = k1.T, k2.T
        self.queue_ptr[0] = (self.queue_ptr[0] + BATCH) % MOCO['K']
        return loss


class FineTuning(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vit = small_vit(CLASSES)

    def loss(self, step: int, inputs: dict) -> Tensor:
        scores = self.vit.head(class_token(self.vit, inputs['x'], RATE))
        target = inputs['y'] * 0.9 + 0.1 / CLASSES
        return -(target * scores.log_softmax(1)).sum(1).mean()


def draw_inputs(method: str) -> dict:
    images = BATCH, 3, 24, 24
    inputs = {'probe.x': torch.randn(images)}
    for step in range(STEPS):
        if method == 'moby':
            inputs |= {f'step{step:02d}.{name}': torch.randn(images) for name in ('x1', 'x2')}
        else:
            inputs[f'step{step:02d}.x'] = torch.randn(images)
            inputs[f'step{step:02d}.y'] = torch.randn(BATCH, CLASSES).softmax(1)
    return inputs


def record(folder: Path, method: str, seed: int) -> dict:
    """Train the written-out loop and write it down as a trace."""
    torch.manual_seed(2)
    model = MoBY() if method == 'moby' else FineTuning()
    for tensor in (t for t in model.parameters() if t.ndim < 3):
        tensor.data += 0.1 * torch.randn_like(tensor)
    inputs = draw_inputs(method)
    save_file(official(model), folder / 'init.safetensors')
    save_file(inputs, folder / 'inputs.safetensors')
    model.double().train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW([dict(params=decayed), dict(params=rest, weight_decay=0)], weight_decay=0.05)
    losses = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group['lr'] = LR[step]
        torch.manual_seed(seed + step)
        batch = {k[7:]: v.double() for k, v in inputs.items() if k.startswith(f'step{step:02d}')}
        loss = model.loss(step, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    save_file({}, folder / 'expected.safetensors')
    final = official(model)
    save_file(final, folder / 'final.safetensors')
    return dict(loss_fp64=losses, final_fp64={k: statistics(v) for k, v in final.items()})


def official(model: nn.Module) -> dict[str, Tensor]:
    if isinstance(model, FineTuning):
        return {k.removeprefix('vit.'): v.clone() for k, v in model.state_dict().items()}
    return {f'module.{k}': v.clone() for k, v in model.state_dict().items()}


def statistics(tensor: Tensor) -> dict:
    return dict(l2=tensor.double().norm().item(), sum=tensor.double().sum().item(), numel=tensor.numel())


@pytest.mark.parametrize('method', ['moby', 'finetune'])
def test_drop_paths_of_a_deit(tmp_path, method):
    """Seeds from the notes, float32 rates, every view and branch in its order; labels and smoothing beyond float32."""
    expected = record(tmp_path, method, seed=500)
    spec = dict(
        case=method,
        method=method,
        model=MODEL,
        moco=MOCO,
        label_smoothing=0.1,
        train=dict(batch_size=BATCH, world_size=1, per_rank_batch=BATCH, epochs=1, iters_per_epoch=STEPS),
        optimizer=dict(name='adamw', lr=0.02, weight_decay=0.05, clip_grad=1.0, no_decay='tensors of one dimension'),
        schedule=dict(lr_kind='recorded', lr=LR, moco_m=[0.9, 0.95]),
        expected=expected,
        notes=['torch.manual_seed(500 + step) precedes the queries of a step.'],
        tolerance=dict(fp64=dict(loss_rtol=1e-12, rtol=1e-9, atol_elem_default=1e-9)),
    )
    (tmp_path / 'case.json').write_text(json.dumps(spec))
    case = Case.read(tmp_path)
    summary, worst = compare(case, replay(case))
    assert summary['passed'], worst
    (tmp_path / 'case.json').write_text(json.dumps(spec | dict(notes=[])))
    with pytest.raises(ValueError, match='no note states its seed'):
        replay(Case.read(tmp_path))
