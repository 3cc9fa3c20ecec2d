"""docs/mocov3_in_one_file.py is the method of mocox: equal weights after equal steps, in float64."""

import runpy
from pathlib import Path

import pytest
import torch

from mocox.models import ContrastiveHead, MoCoV3, MoCoViT, NonLinearNeck
from mocox.schedules import momentum_cosine, warmup_cosine

FILE = Path(__file__).parents[1] / 'docs/mocov3_in_one_file.py'
ARCH = dict(embed_dims=16, num_layers=2, num_heads=4, feedforward_channels=32)
EPOCHS, WARMUP, BATCHES, PEAK = 3, 1, 2, 0.01


@pytest.fixture(scope='module')
def plain() -> dict:
    return runpy.run_path(str(FILE))


def views() -> list[list[torch.Tensor]]:
    return [list(torch.randn(2, 6, 3, 32, 32, dtype=torch.float64)) for _ in range(BATCHES)]


def ours() -> MoCoV3:
    neck = dict(num_layers=3, hid_channels=24, out_channels=8, with_last_bn_affine=False)
    predictor = dict(type='NonLinearNeck', in_channels=8, hid_channels=24, out_channels=8, with_last_bn_affine=False)
    backbone = MoCoViT(arch=ARCH, img_size=32, patch_size=8)
    model = MoCoV3(backbone, NonLinearNeck(16, **neck), ContrastiveHead(predictor, temperature=0.2))
    model.init_weights()
    return model.double()


def theirs(plain: dict, model: MoCoV3) -> torch.nn.Module:
    backbone = plain['vit'](
        'vit_tiny_patch16_224', img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=4, mlp_ratio=2
    )
    other = plain['MoCoV3'](backbone, hidden=24, out=8).double()
    for theirs, ours in zip(*pairs(other, model), strict=True):
        theirs.data.copy_(ours)
    other.key.load_state_dict(other.query.state_dict())
    return other


def pairs(other: torch.nn.Module, model: MoCoV3) -> tuple[list, list]:
    names = model.backbone.state_dict().keys()
    assert other.query[0].state_dict().keys() == names
    one = [*(other.query[0].state_dict()[name] for name in names), *other.query[1].state_dict().values()]
    two = [*model.backbone.state_dict().values(), *model.neck.state_dict().values()]
    return [*one, *other.predictor.state_dict().values()], [*two, *model.head.predictor.state_dict().values()]


def test_equal_weights_after_equal_steps(plain, capsys):
    model, batches = ours(), views()
    other = theirs(plain, model)
    plain['train'](other, batches, EPOCHS, WARMUP, PEAK)
    printed = [float(line.split()[3]) for line in capsys.readouterr().out.splitlines()]

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], weight_decay=0.1)
    losses = []
    for step in range(EPOCHS * BATCHES):
        optimizer.param_groups[0]['lr'] = warmup_cosine(step, PEAK, WARMUP * BATCHES, EPOCHS * BATCHES)
        model.momentum = momentum_cosine(step / (EPOCHS * BATCHES), model.base_momentum)
        model.update_momentum_encoder()
        losses.append(model(batches[step % BATCHES], mode='loss')['loss'])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert printed == pytest.approx([loss.item() for loss in losses], abs=6e-5)  # four decimals are printed
    # A key's bias has no gradient but its rounding, of which AdamW makes steps.
    torch.testing.assert_close(*pairs(other, model), rtol=0, atol=1e-8)
    slow = model.momentum_encoder
    keys = [*slow.backbone.parameters(), *slow.neck.parameters()]
    other_keys = dict(other.key[0].named_parameters())
    ordered = [other_keys[name] for name, _ in slow.backbone.named_parameters()]
    torch.testing.assert_close([*ordered, *other.key[1].parameters()], keys, rtol=0, atol=1e-8)


def test_the_start_is_the_published_one(plain):
    torch.manual_seed(0)
    backbone = plain['vit'](
        'vit_tiny_patch16_224', img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=4, mlp_ratio=2
    )
    reference = MoCoViT(arch=ARCH, img_size=32, patch_size=8)
    assert {n for n, p in backbone.named_parameters() if p.requires_grad} == {
        n for n, p in reference.named_parameters() if p.requires_grad
    }
    torch.testing.assert_close(backbone.pos_embed, reference.pos_embed, rtol=0, atol=1e-6)
    for (name, one), two in zip(backbone.named_parameters(), reference.parameters(), strict=True):
        if one.ndim > 1 and name not in ('cls_token', 'pos_embed'):  # the largest of hundreds is near the bound
            assert one.abs().max().item() == pytest.approx(two.abs().max().item(), rel=0.05), name


def test_the_views_are_normalised_crops(plain):
    image = torch.full((3, 40, 50), 124, dtype=torch.uint8)
    view = plain['view'](blur=1.0, solarize=0.0)(image)
    assert view.shape == (3, 224, 224)
    assert view.dtype == torch.float32
