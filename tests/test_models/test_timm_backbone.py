"""TIMMBackbone against timm itself: tokens, registers, channels last, ConvNets, hybrids, in training and evaluation."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from mocox.evaluation.encoder import Encoder
from mocox.models import TIMMBackbone
from mocox.models.chunks import has_batch_norm
from mocox.registry import MODELS
from tests.support.gradients import assert_same, gradients
from tests.support.ready_made import TIMM_MODELS as MEMBERS

WITHOUT_BATCH_NORM = ['vit', 'DINOv2', 'DINOv3', 'swin', 'convnext']


def config(member: str, method: str = 'v3', **kwargs) -> dict:
    name, arguments, width, _ = MEMBERS[member]
    neck = dict(type='NonLinearNeck', in_channels=width, hid_channels=12, out_channels=8, with_last_bn_affine=False)
    predictor = dict(neck, in_channels=8) if method == 'v3' else None
    of_method = dict(type='MoCoV3') if method == 'v3' else dict(type='MoCo', queue_len=8, feat_dim=8)
    return dict(
        **of_method,
        backbone=dict(type='TIMMBackbone', model_name=name, **arguments),
        neck=neck,
        head=dict(type='ContrastiveHead', predictor=predictor, temperature=0.2),
        **kwargs,
    )


def build(member: str, method: str = 'v3', **kwargs) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(config(member, method, **kwargs)).double()
    model.init_weights()
    return model


def views(member: str, n: int = 4) -> list[torch.Tensor]:
    side, generator = MEMBERS[member][3], torch.Generator().manual_seed(1)
    return list(torch.randn(2, n, 3, side, side, dtype=torch.float64, generator=generator))


def twin(backbone: TIMMBackbone, member: str) -> nn.Module:
    """The model that timm builds, with the weights of ours."""
    name, arguments, *_ = MEMBERS[member]
    model = timm.create_model(name, num_classes=0, **arguments).double()
    model.load_state_dict({key.removeprefix('timm_model.'): t for key, t in backbone.state_dict().items()})
    return model


def contrast(z: torch.Tensor, k: torch.Tensor, negatives: torch.Tensor | None = None) -> torch.Tensor:
    z, k = F.normalize(z, dim=1), F.normalize(k, dim=1)
    if negatives is None:
        return 0.4 * F.cross_entropy(z @ k.T / 0.2, torch.arange(len(z)))
    logits = torch.cat([(z * k).sum(1, keepdim=True), z @ negatives], dim=1)
    return F.cross_entropy(logits / 0.2, torch.zeros(len(z), dtype=torch.long))


def expected_loss(model: nn.Module, member: str, x: list[torch.Tensor]) -> torch.Tensor:
    """Algorithm 1 of the paper, on features that timm's own model gives."""
    query, key = twin(model.backbone, member), twin(model.momentum_encoder.backbone, member)
    head, neck, slow = copy.deepcopy((model.head, model.neck, model.momentum_encoder.neck))
    if head.predictor is None:
        return contrast(neck(query(x[0]))[0], slow(key(x[1]))[0], model.queue.keys.clone())
    q1, q2 = (head.predictor(neck(query(view)))[0] for view in x)
    k1, k2 = (slow(key(view))[0] for view in x)
    return contrast(q1, k2) + contrast(q2, k1)


@pytest.mark.filterwarnings('ignore:Shuffling BatchNorm has no effect')
@pytest.mark.parametrize('method', ['v2', 'v3'])
@pytest.mark.parametrize('member', MEMBERS)
def test_two_steps_of_training(member, method):
    model, x = build(member, method), views(member)
    if method == 'v2':
        model.draw_permutation = lambda num, _: torch.arange(num)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        expected = expected_loss(model, member, x)
        before = {name: p.clone() for name, p in model.momentum_encoder.named_parameters()}
        loss = model(x, mode='loss')['loss']
        assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
        optimizer.zero_grad()
        loss.backward()
        assert {n for n, p in model.backbone.named_parameters() if p.grad is None} <= {'timm_model.mask_token'}
        optimizer.step()
        model.update_momentum_encoder()
        queries = dict(model.named_parameters())
        for name, key in model.momentum_encoder.named_parameters():
            torch.testing.assert_close(key, model.momentum * before[name] + (1 - model.momentum) * queries[name])


@pytest.mark.parametrize('member', MEMBERS)
def test_features_of_an_evaluation_are_timms(member):
    model, (x, _) = build(member).eval(), views(member)
    expected = twin(model.backbone, member).eval()(x)
    assert expected.shape == (4, MEMBERS[member][2])
    head = dict(type='LinearClsHead', _scope_='mmpretrain', num_classes=2, in_channels=expected.shape[1])
    probe = MODELS.build(dict(type='LinearProbe', backbone=config(member)['backbone'], head=head)).double().eval()
    probe.backbone.load_state_dict(model.backbone.state_dict())
    for features in (model.extract_feat(x), Encoder(model.backbone).extract_feat(x), probe.extract_feat(x)[0]):
        torch.testing.assert_close(features, expected)


@pytest.mark.parametrize('member', WITHOUT_BATCH_NORM)
def test_views_together_or_apart_and_chunks_give_the_same(member):
    results = []
    for settings in (dict(merge_views=False), dict(), dict(chunk_size=3)):
        model = build(member, **settings)
        assert not has_batch_norm(model.backbone)
        loss = model(views(member), mode='loss')['loss']
        results.append((loss.item(), gradients(model, loss)))
    for loss, grads in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-10)
        assert_same(grads, results[0][1], rtol=1e-8)


@pytest.mark.parametrize('member', ['DINOv3', 'swin', 'mobilenet'])
def test_compiled_blocks_give_the_same(member):
    losses = []
    for options in (False, dict(backend='eager')):
        cfg = config(member, compile=options)
        if member == 'swin':  # each of its stages takes dynamo seconds: two say what four would
            cfg['backbone'] |= dict(depths=(1, 1), num_heads=(1, 1))
            cfg['neck']['in_channels'] = 16
        torch.manual_seed(0)
        losses.append(MODELS.build(cfg).double()(views(member), mode='loss')['loss'].item())
    torch._dynamo.reset()
    assert losses[1] == pytest.approx(losses[0], rel=1e-10)


def test_drop_path_belongs_to_training_alone():
    model = MODELS.build(dict(config('vit')['backbone'], drop_path_rate=0.5)).double()
    x, _ = views('vit', 16)
    torch.manual_seed(0)
    first, second = model(x)[0], model(x)[0]
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(x)[0], model(x)[0])


@pytest.mark.parametrize('member', ['vit', 'DINOv2', 'DINOv3', 'swin'])
def test_a_frozen_patch_projection_stays(member):
    cfg = config(member)
    cfg['backbone']['stop_grad_conv1'] = True
    model = MODELS.build(cfg).double()
    before = {name: p.clone() for name, p in model.backbone.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(views(member), mode='loss')['loss'].backward()
    optimizer.step()
    kept = {n for n, p in model.backbone.named_parameters() if torch.equal(p, before[n])} - {'timm_model.mask_token'}
    assert kept == {'timm_model.patch_embed.proj.weight', 'timm_model.patch_embed.proj.bias'}


@pytest.mark.parametrize('member', ['vit', 'swin', 'convnext', 'efficientnet'])
def test_maps_of_several_depths(member):
    name, arguments, _, side = MEMBERS[member]
    arguments = dict(arguments, depth=3) if member == 'vit' else arguments
    maps = TIMMBackbone(name, features_only=True, **arguments)(torch.zeros(2, 3, side, side))
    info = timm.create_model(name, features_only=True, **arguments).feature_info
    expected = [(2, width, side // stride, side // stride) for width, stride in zip(info.channels(), info.reduction())]
    assert [tuple(m.shape) for m in maps] == expected


def test_weights_are_drawn_once():
    """MMEngine would have timm's models draw theirs again, after the weights were loaded."""
    model = MODELS.build(config('vit'))
    before = copy.deepcopy(model.backbone.state_dict())
    model.init_weights()
    assert all(torch.equal(t, before[key]) for key, t in model.backbone.state_dict().items())


def test_weights_of_a_file(tmp_path):
    name, arguments, *_ = MEMBERS['DINOv3']
    torch.save(timm.create_model(name, **arguments, num_classes=0).state_dict(), tmp_path / 'weights.pth')
    model = MODELS.build(
        {
            **config('DINOv3'),
            'backbone': dict(config('DINOv3')['backbone'], checkpoint_path=str(tmp_path / 'weights.pth')),
        }
    )
    model.init_weights()
    for key, tensor in torch.load(tmp_path / 'weights.pth').items():
        assert torch.equal(model.backbone.state_dict()[f'timm_model.{key}'], tensor)
        assert torch.equal(model.momentum_encoder.backbone.state_dict()[f'timm_model.{key}'], tensor)


def test_depth_of_layers():
    """0 for what sees the image, then the blocks, the last with the norm behind it, as timm groups them; then heads."""
    backbone = TIMMBackbone(MEMBERS['DINOv2'][0], **MEMBERS['DINOv2'][1])
    depths = {n: backbone.get_layer_depth(f'backbone.{n}', 'backbone.') for n, _ in backbone.named_parameters()}
    for start, depth in (
        ('patch_embed.', 0),
        ('pos_embed', 0),
        ('reg_token', 0),
        ('blocks.0.', 1),
        ('blocks.1.', 2),
        ('norm.', 2),
    ):
        found = {depths[name] for name in depths if name.startswith(f'timm_model.{start}')}
        assert found == {(depth, 4)}
    assert backbone.get_layer_depth('neck.fc0.weight', 'backbone.') == (3, 4)


@pytest.mark.parametrize(
    ('wrong', 'error', 'message'),
    [
        (dict(model_name='resnet_18'), ValueError, "model_name='resnet_18': .* did you mean resnet18"),
        (dict(model_name='resnet18', img_size=32), TypeError, "'resnet18'.*unexpected keyword argument 'img_size'"),
        (dict(model_name='resnet18', stop_grad_conv1=True), ValueError, 'resnet18 has no linear patch projection'),
        (dict(model_name='resnet18', pretrained='a.pth'), TypeError, "pretrained='a.pth': True or False"),
        (dict(model_name='efficientnet_b0', norm_layer='mocox.SyncBN'), TypeError, 'efficientnet_b0.*syncbatchnorm'),
    ],
)
def test_mistakes(wrong, error, message):
    with pytest.raises(error, match=message):
        TIMMBackbone(**wrong)
