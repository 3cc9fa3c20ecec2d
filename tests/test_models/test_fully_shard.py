"""``FullyShard`` against DistributedDataParallel: the same numbers, half of the bytes in each of two processes."""

import copy

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from mocox import dist
from mocox.dtensor import gather_shards, own_parts, shard_optimizer_state
from mocox.engine import LARS, AmpOptimWrapper
from mocox.models.fully_shard import CHUNKS_WITH_DTYPE, FullyShard, blocks
from mocox.registry import MODEL_WRAPPERS, MODELS
from tests.support.processes import run_processes

VIT = dict(
    type='MoCoViT',
    arch=dict(embed_dims=16, num_layers=3, num_heads=4, feedforward_channels=32),
    img_size=8,
    patch_size=4,
)
NECK = dict(type='NonLinearNeck', in_channels=16, hid_channels=12, out_channels=8, norm_cfg=dict(type='mocox.SyncBN'))
V3_HEAD = dict(type='ContrastiveHead', predictor=dict(NECK, in_channels=8), temperature=0.2)
CHUNKS_WORK = tuple(map(int, torch.__version__.split('.')[:2])) >= CHUNKS_WITH_DTYPE
CONFIGS = {
    'v3': dict(type='MoCoV3', backbone=VIT, neck=NECK, head=V3_HEAD),
    'v3 in chunks': dict(type='MoCoV3', backbone=VIT, neck=NECK, head=V3_HEAD, chunk_size=3),
    'v3 with LARS': dict(type='MoCoV3', backbone=VIT, neck=NECK, head=V3_HEAD),
    'v2': dict(
        type='MoCo', backbone=VIT, neck=NECK, head=dict(type='ContrastiveHead'), queue_len=16, feat_dim=8
    ),
}  # fmt: skip


def build(config: dict, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return MODELS.build(config).double()


def train(wrapper: nn.Module, optimizer: OptimWrapper, first: int, last: int) -> list[float]:
    """The losses of some steps on images that differ between processes and steps."""
    losses = []
    for step in range(first, last):
        generator = torch.Generator().manual_seed(10 * step + dist.rank())
        x1, x2 = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64, generator=generator)
        wrapper.module.update_momentum_encoder()
        losses.append(wrapper.train_step(dict(inputs=[x1, x2]), optimizer)['loss'].item())
    return losses


def optimizer_of(wrapper: nn.Module, name: str) -> OptimWrapper:
    parameters = [p for p in wrapper.module.parameters() if p.requires_grad]
    if 'LARS' in name:
        return OptimWrapper(LARS(parameters, lr=0.5, weight_decay=0.1))
    return OptimWrapper(torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1), clip_grad=dict(max_norm=0.5))


def bytes_of(module: nn.Module) -> int:
    return sum(part.numel() * part.element_size() for part in own_parts(module.parameters()))


def train_both(name: str) -> dict:
    model = build(CONFIGS[name])
    model.init_weights()
    whole = MMDistributedDataParallel(model, broadcast_buffers=False)
    sharded = FullyShard(build(CONFIGS[name], seed=dist.rank()))  # drawn unlike: the first process decides
    load_state_dict(sharded.module, whole.module.state_dict(), strict=True)
    optimizers = [optimizer_of(wrapper, name) for wrapper in (whole, sharded)]
    losses = [train(wrapper, optimizer, 0, 3) for wrapper, optimizer in zip((whole, sharded), optimizers, strict=True)]
    state, steps = (gather_shards(part.state_dict()) for part in (sharded.module, optimizers[1]))
    expected = copy.deepcopy((whole.module.state_dict(), optimizers[0].state_dict()))

    again = FullyShard(build(CONFIGS[name], seed=7))
    again.module.load_state_dict(expected[0])
    optimizer = optimizer_of(again, name)
    optimizer.load_state_dict(copy.deepcopy(expected[1]))
    shard_optimizer_state(optimizer.optimizer)
    return dict(
        losses=losses,
        states=(expected[0], state),
        optimizers=(expected[1]['state'], steps['state']),
        continued=(train(whole, optimizers[0], 3, 5), train(again, optimizer, 3, 5)),
        bytes=(bytes_of(whole), bytes_of(sharded), bytes_of(sharded.module.momentum_encoder)),
        kinds={type(p).__name__ for p in sharded.parameters()},
    )


@pytest.mark.dist
@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=pytest.mark.slow if ' ' in name else ()) for name in CONFIGS]
)
def test_two_processes_get_the_numbers_of_ddp(name):
    results = run_processes(train_both, 2, name)
    for result in results:
        assert result['losses'][1] == pytest.approx(result['losses'][0], rel=1e-12)
        assert result['continued'][1] == pytest.approx(result['continued'][0], rel=1e-12)
        assert len(set(result['losses'][0])) == 3
        assert result['kinds'] == {'DTensor'}
    whole, gathered = results[0]['states']
    assert list(whole) == list(gathered)
    for key, value in whole.items():
        torch.testing.assert_close(gathered[key], value, rtol=1e-9, atol=1e-12, msg=key)
    whole, gathered = results[0]['optimizers']
    for number, state in whole.items():
        for key, value in state.items():
            torch.testing.assert_close(gathered[number][key], value, rtol=1e-9, atol=1e-12, msg=f'{number}.{key}')
    assert all(value is None or value.ndim < 2 or 'queue' in key for key, value in results[1]['states'][1].items())


@pytest.mark.dist
def test_each_process_keeps_its_half():
    results = run_processes(train_both, 2, 'v3')
    (whole, first, first_keys), (_, second, second_keys) = (result['bytes'] for result in results)
    assert first + second == whole
    assert first == pytest.approx(whole / 2, rel=0.02)  # the positions, of one row, are not cut
    assert first_keys == pytest.approx(second_keys, rel=0.03)
    assert first_keys > 0.25 * first


def weights_of(wrapper: nn.Module) -> torch.Tensor:
    weights = [p.full_tensor() if hasattr(p, 'full_tensor') else p for p in wrapper.module.parameters()]
    return torch.cat([weight.detach().flatten() for weight in weights]).clone()


def look_before_and_after_training(param_dtype: str | None, name: str = 'v3') -> dict:
    """Losses and first updates in bfloat16, whole and sharded; features before, which a k-NN monitor asks for."""
    model = MODELS.build(CONFIGS[name])
    model.init_weights()
    whole = MMDistributedDataParallel(model, broadcast_buffers=False)
    sharded = FullyShard(MODELS.build(CONFIGS[name]), param_dtype=param_dtype)
    sharded.module.load_state_dict(whole.module.state_dict())
    x1, x2 = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(dist.rank()))
    features, losses, updates = [], [], []
    for wrapper in (whole, sharded):
        initial = weights_of(wrapper)
        optimizer = AmpOptimWrapper(optimizer=torch.optim.SGD(wrapper.module.parameters(), lr=0.1))
        with torch.no_grad():
            first = wrapper.module.extract_feat(x1)
        losses.append(wrapper.train_step(dict(inputs=[x1, x2]), optimizer)['loss'].item())
        updates.append(weights_of(wrapper) - initial)
        losses.append(wrapper.train_step(dict(inputs=[x1, x2]), optimizer)['loss'].item())
        with torch.no_grad():
            features.append((first, wrapper.module.extract_feat(x1)))
        wrapper.module.update_momentum_encoder()
    types = {p.dtype for p in sharded.parameters()} | {p.grad.dtype for p in sharded.parameters() if p.grad is not None}
    distance = (updates[1] - updates[0]).norm() / updates[0].norm()
    return dict(losses=losses, distance=distance.item(), features=features, types=types)


@pytest.mark.dist
@pytest.mark.parametrize(('param_dtype', 'name'), [(None, 'v3'), ('bfloat16', 'v3'), ('bfloat16', 'v3 in chunks')])
def test_mixed_precision_and_features_outside_of_a_step(param_dtype, name):
    if param_dtype and 'chunks' in name and not CHUNKS_WORK:
        with pytest.raises(
            RuntimeError, match=r"param_dtype='bfloat16' with model.chunk_size=3 needs torch 2.14, this is"
        ):
            run_processes(look_before_and_after_training, 2, param_dtype, name)
        return
    for result in run_processes(look_before_and_after_training, 2, param_dtype, name):
        first, second, sharded_first, sharded_second = result['losses']
        # The loss is 4 T times a cross entropy of cosines / T: it moves by at most 8 times what they do, and 8 bits
        # keep a cosine to about 0.01. Without a dtype, the same operations run on the same numbers. The gradients of
        # weights are added up in 8 bits at worst; a second step of so few images makes anything of the last of them.
        tolerance = 0.1 if param_dtype else 1e-5
        assert sharded_first == pytest.approx(first, abs=tolerance)
        assert result['distance'] < (2**-8 if param_dtype else 1e-6)
        if param_dtype is None:
            assert sharded_second == pytest.approx(second, abs=tolerance)
        (before, after), (sharded_before, sharded_after) = result['features']
        torch.testing.assert_close(sharded_before, before, rtol=0, atol=0.1 if param_dtype else 1e-5)
        torch.testing.assert_close(sharded_after, after, rtol=0, atol=0.1 if param_dtype else 1e-4)
        assert result['types'] == {torch.float32}


def test_refusals():
    with pytest.raises(ValueError, match="param_dtype='int8'.*bfloat16"):
        FullyShard(nn.Linear(2, 2), param_dtype='int8')
    with pytest.raises(RuntimeError, match='needs a process group: .*dist_train.sh'):
        FullyShard(nn.Linear(2, 2))


def test_it_is_found_by_name_and_knows_the_layers():
    assert MODEL_WRAPPERS.get('FullyShard') is FullyShard
    model = MODELS.build(CONFIGS['v3'])
    assert list(blocks(model.backbone)) == list(model.backbone.blocks)
    assert len(list(blocks(nn.ModuleDict(dict(a=nn.Sequential(nn.ReLU(), nn.Linear(2, 2))))))) == 1
