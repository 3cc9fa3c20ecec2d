"""Files as people have them: each is read whole and right, or refused with what it is and what to do."""

import json
import os
import pickle
import shutil
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models import ResNet, resnet18
from torchvision.models.resnet import BasicBlock

from mocox.checkpoint import convert, load_backbone, read
from mocox.checkpoint.architecture import describe
from mocox.evaluation.encoder import load_encoder
from mocox.evaluation.published import published_numbers
from tests.test_checkpoint.conftest import perturbed, same

HALF = [127.5] * 3


def tiny_vit(**settings) -> VisionTransformer:
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=0, **settings)


def small_resnet() -> ResNet:
    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)
    model.fc = nn.Linear(512, 5)
    return model


VIT = perturbed(tiny_vit()).state_dict()
RESNET = perturbed(small_resnet()).state_dict()
TRUNK = {key: tensor for key, tensor in RESNET.items() if not key.startswith('fc.')}
SHIFTED = {key: tensor + 1 for key, tensor in VIT.items()}
HEAD = {'head.0.weight': torch.ones(3, 24)}


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in tensors.items()}


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


# --- heads, kinds, published numbers ---


@pytest.fixture(scope='module')
def vit_small() -> dict[str, Tensor]:
    """Of ViT-S in shape, and expanded from one number, so that nothing is written but shapes."""
    with torch.device('meta'):
        shapes = timm.create_model('vit_small_patch16_224', num_classes=10).state_dict()
    return {key: torch.zeros(tensor.shape, dtype=torch.float16) for key, tensor in shapes.items()}


def probe(moved: int) -> dict:
    return {'best_acc1': 79.0, 'optimizer': {'state': {i: {} for i in range(moved)}}}


@pytest.mark.parametrize(
    ('prefix', 'fields', 'heads', 'kind'),
    [
        ('', dict(arch='vit_small_patch16_224', epoch=300), 6, 'classifier'),
        ('', dict(arch='vit_small_patch8_224.dino'), 6, 'classifier'),
        ('', dict(args=Namespace(model='deit_small_patch16_224')), 6, 'classifier'),
        ('', dict(arch='vit_small'), 6, 'classifier'),
        ('module.', dict(arch='vit_small', epoch=90, **probe(2)), 12, 'linear'),  # the official linear evaluation
        ('module.', dict(arch='vit_small', epoch=300, **probe(152)), None, 'fine-tuned'),
        ('module.', dict(arch='vit_small', epoch=300, best_acc1=79.0), None, 'classifier'),
        ('', dict(arch='something'), None, 'classifier'),
    ],
)
def test_a_name_tells_heads_only_in_the_layout_it_belongs_to(tmp_path, vit_small, prefix, fields, heads, kind):
    found = read(saved(tmp_path / 'a.pth', {'state_dict': below(prefix, vit_small), **fields}))
    assert (found.arch['num_heads'], found.kind) == (heads, kind)
    if kind != 'linear':
        assert published_numbers(found) == []


def test_a_supervised_file_says_that_its_training_is_unknown(tmp_path):
    path = saved(tmp_path / 'a.pth', {'state_dict': RESNET, 'arch': 'resnet10', 'best_acc1': 70.0})
    module = small_resnet()
    module.fc = nn.Identity()
    assert any('unknown' in note for note in load_backbone(module, path).notes)


@pytest.mark.parametrize('name', ['resnetblur18', 'resnetaa18', 'seresnet18', 'resnet18d', 'timm/resnetblur18.x'])
def test_the_name_of_another_network_is_believed(tmp_path, name):
    path = saved(tmp_path / 'a.pth', {'state_dict': resnet18(num_classes=2).state_dict(), 'arch': name})
    assert read(path).arch['family'] == 'unknown'
    with pytest.raises(ValueError, match=name):
        load_encoder(path)


@pytest.mark.parametrize('name', ['resnet18', 'tv_resnet18', 'resnet18.a1_in1k', 'timm/resnet18.a1', 'resnet18_100e'])
def test_plain_names_are_plain(tmp_path, name):
    path = saved(tmp_path / 'a.pth', {'state_dict': resnet18(num_classes=2).state_dict(), 'arch': name})
    assert read(path).arch['name'] == 'ResNet-18'


def test_a_resnext_is_no_resnet():
    """Their names are the same; the groups are in the shapes."""
    from mocox.checkpoint.architecture import describe

    with torch.device('meta'):
        model = timm.create_model('resnext50_32x4d', num_classes=0)
    assert describe(model.state_dict())['depth'] is None


# --- half a model ---


@pytest.fixture(params=['safetensors', 'bin'])
def sharded(request, tmp_path) -> Path:
    from safetensors.torch import save_file

    start, end = ('model', 'safetensors') if request.param == 'safetensors' else ('pytorch_model', 'bin')
    keys, weight_map = list(VIT), {}
    for number, part in enumerate((keys[:9], keys[9:]), 1):
        name = f'{start}-0000{number}-of-00002.{end}'
        tensors = {key: VIT[key].contiguous() for key in part}
        (save_file if end == 'safetensors' else torch.save)(tensors, str(tmp_path / name))
        weight_map |= dict.fromkeys(part, name)
    (tmp_path / f'{start}.{end}.index.json').write_text(json.dumps({'weight_map': weight_map}))
    return tmp_path


def test_a_model_in_several_files_is_read_whole(sharded):
    for path in (sharded, *sharded.iterdir()):
        assert same(read(path).backbone(), VIT)
    next(sharded.glob('*.json')).unlink()
    for path in (sharded, *sharded.iterdir()):
        assert same(read(path).backbone(), VIT)


def test_half_of_a_model_in_several_files(sharded, tmp_path):
    index, second = next(sharded.glob('*.json')), next(sharded.glob('*-00002-of-*'))
    second.rename(tmp_path / 'elsewhere')
    for path in (sharded, index, next(sharded.glob('*-00001-of-*'))):
        with pytest.raises(ValueError, match=f'2 files, of which 1 are not beside it: {second.name}'):
            convert(path, tmp_path / 'out.pth', 'timm')
    assert not (tmp_path / 'out.pth').exists()


def test_an_index_that_is_wrong(sharded):
    index = next(sharded.glob('*.json'))
    weight_map = json.loads(index.read_text())['weight_map']
    for changed, message in (
        ({**weight_map, 'more.weight': next(iter(weight_map.values()))}, 'lack 1 tensors of their index, such as more'),
        ({'a': '../a.bin'}, 'outside of its folder'),
        ({}, 'no weight_map'),
    ):
        index.write_text(json.dumps({'weight_map': changed}))
        with pytest.raises(ValueError, match=message):
            read(index)


@pytest.mark.parametrize(
    ('tensors', 'left_out', 'named'),
    [
        (VIT, 'blocks.0.', 'blocks.0'),
        (VIT, 'norm.', 'norm'),
        (VIT, ('cls_token', 'pos_embed', 'patch_embed', 'blocks.0.'), 'blocks.0'),  # the last of several files
        (VIT, 'blocks.1.mlp.fc2.weight', 'blocks.1.mlp.fc2.weight'),
        (RESNET, 'layer3.', 'layer3.0'),
        (RESNET, 'layer4.', 'layer4.0'),
        (RESNET, 'layer2.0.bn1.running_var', 'layer2.0.bn1.running_var'),
    ],
)
def test_gaps_are_errors(tmp_path, tensors, left_out, named):
    path = saved(tmp_path / 'a.pth', {k: v for k, v in tensors.items() if not k.startswith(left_out)})
    assert f'INCOMPLETE without {named}' in read(path).summary
    for use in (lambda: convert(path, tmp_path / 'out.pth', 'timm'), lambda: load_encoder(path, heads=3)):
        with pytest.raises(ValueError, match=f'not hold a whole backbone.*{named}'):
            use()
    assert not (tmp_path / 'out.pth').exists()


# --- what stands beside the weights ---


@pytest.fixture
def folder(tmp_path) -> Callable[..., Path]:
    def write(config: dict, preprocessor: dict | None = None) -> Path:
        torch.save(VIT, tmp_path / 'pytorch_model.bin')
        (tmp_path / 'config.json').write_text(json.dumps(config))
        if preprocessor is not None:
            (tmp_path / 'preprocessor_config.json').write_text(json.dumps(preprocessor))
        return tmp_path

    return write


@pytest.mark.parametrize(
    ('preprocessor', 'mean', 'std'),
    [
        (dict(image_mean=[0.5] * 3, image_std=[0.5] * 3), HALF, HALF),
        (dict(image_mean=[0.5] * 3, image_std=[0.25] * 3, do_normalize=True), HALF, [63.75] * 3),
        (dict(image_mean=[0.5] * 3, image_std=[0.5] * 3, do_normalize=False), [0.0] * 3, [255.0] * 3),
        (dict(image_mean=[100.0] * 3, image_std=[50.0] * 3, do_rescale=False), [100.0] * 3, [50.0] * 3),
        (dict(image_mean=[1.0] * 3, image_std=[1.0] * 3, rescale_factor=1 / 127.5), HALF, HALF),
    ],
)
def test_constants_of_transformers(folder, preprocessor, mean, std):
    """The encoder subtracts and divides as transformers' image processor: (x * rescale_factor - mean) / std."""
    loaded = load_encoder(folder(dict(num_attention_heads=3), preprocessor))
    assert loaded.model.data_preprocessor.mean.flatten().tolist() == pytest.approx(mean)
    assert loaded.model.data_preprocessor.std.flatten().tolist() == pytest.approx(std)
    assert not any('normalisation' in note for note in loaded.notes)


@pytest.mark.parametrize('nested', [True, False])
def test_constants_of_timms_hub(folder, nested):
    constants = dict(mean=[0.5] * 3, std=[0.5] * 3)
    config = dict(architecture='vit_small_patch16_224', **({'pretrained_cfg': constants} if nested else constants))
    meta = read(folder(config)).meta
    assert (meta['mean'], meta['std'], meta['recipe']) == (HALF, HALF, 'vit_small_patch16_224')


def test_strange_constants_are_left_alone(folder):
    preprocessor = dict(image_mean='0.5', image_std=[None], rescale_factor='x')
    assert 'mean' not in read(folder(dict(num_attention_heads='many', hidden_act=3), preprocessor)).meta


@pytest.mark.parametrize('activation', ['relu', 'gelu_new', 'quick_gelu'])
def test_another_activation_is_refused(folder, activation):
    path = folder(dict(num_attention_heads=3, hidden_act=activation))
    with pytest.raises(ValueError, match='was trained with the activation'):
        load_encoder(path)
    layer = {'relu': nn.ReLU, 'gelu_new': lambda: nn.GELU('tanh'), 'quick_gelu': timm.layers.activations.GELUTanh}
    if activation != 'quick_gelu':
        load_backbone(tiny_vit(act_layer=layer[activation]), path)
    assert any('activation' in note for note in convert(path, path / 'out.pth', 'timm'))


def test_the_usual_activation_is_taken(folder):
    load_encoder(folder(dict(num_attention_heads=3, hidden_act='gelu')))


# --- averaged and quantised weights ---


def test_averaged_weights_are_said_and_can_be_had(tmp_path):
    counted = {'n_averaged': torch.tensor(3), **below('module.', SHIFTED)}
    for name, average in (('state_dict_ema', SHIFTED), ('model_ema', counted)):
        path = saved(tmp_path / 'a.pth', {'state_dict': VIT, name: average})
        found = read(path)
        assert same(found.backbone(), VIT)
        assert any(f'--prefix {name}' in note for note in found.notes)
        assert same(read(path, prefix=name).backbone(), SHIFTED)
        module = tiny_vit()
        report = load_backbone(module, path)
        assert any(name in note for note in report.notes)
        load_backbone(module, path, prefix=name)
        assert same(module.state_dict(), SHIFTED)
    assert same(read(saved(tmp_path / 'b.pth', {'model_ema': counted})).backbone(), SHIFTED)


def test_mmengine_keeps_the_average_in_the_usual_place(tmp_path):
    path = saved(tmp_path / 'a.pth', {'state_dict': VIT, 'ema_state_dict': SHIFTED, 'message_hub': {}})
    assert 'state_dict holds the moving average' in read(path).notes[0]


@pytest.mark.parametrize('dtype', [torch.int8, torch.uint8, torch.complex64, torch.float8_e4m3fn, torch.bool])
def test_weights_without_their_scales_are_refused(tmp_path, dtype):
    path = saved(tmp_path / 'a.pth', {key: tensor.to(dtype) for key, tensor in VIT.items()})
    for use in (lambda: load_backbone(tiny_vit(), path), lambda: convert(path, tmp_path / 'out.pth', 'timm')):
        with pytest.raises(ValueError, match=str(dtype).removeprefix('torch.')):
            use()


@pytest.mark.parametrize('number', [float('nan'), float('inf')])
def test_weights_of_a_run_that_diverged(tmp_path, number):
    path = saved(tmp_path / 'a.pth', {**VIT, 'norm.bias': torch.full((24,), number)})
    assert any('NaN or infinite numbers in norm.bias' in note for note in load_backbone(tiny_vit(), path).notes)
    with pytest.raises(ValueError, match=r'not converted: NaN or infinite numbers in norm\.bias'):
        convert(path, tmp_path / 'out.pth', 'timm')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_numbers_are_taken(tmp_path, dtype):
    path = saved(tmp_path / 'a.pth', {key: tensor.to(dtype) for key, tensor in VIT.items()})
    assert load_backbone(tiny_vit(), path).num_tensors == len(VIT)


# --- what one process of several has written ---


@pytest.mark.parametrize(
    ('tensors', 'message'),
    [
        ({key: torch.zeros(0) for key in VIT}, 'zero_to_fp32.py'),
        ({key: tensor.flatten() for key, tensor in VIT.items()}, 'dcp_to_torch'),
        ({key: tensor.flatten() for key, tensor in TRUNK.items()}, 'dcp_to_torch'),
        ({key: tensor.sum() for key, tensor in VIT.items()}, 'dcp_to_torch'),
        ({'_fsdp_wrapped_module._flat_param': torch.ones(9)}, 'dcp_to_torch'),
        (VIT | {'blocks.1.mlp.fc1.weight': torch.zeros(0)}, 'without numbers'),
    ],
)
def test_shards_are_named_with_what_gathers_them(tmp_path, tensors, message):
    path = saved(tmp_path / 'a.pth', tensors)
    for use in (lambda: read(path), lambda: load_backbone(tiny_vit(), path), lambda: load_encoder(path)):
        with pytest.raises(ValueError, match=f'a.pth holds .*{message}'):
            use()


@pytest.mark.parametrize(('name', 'message'), [('.metadata', 'dcp_to_torch'), ('zero_to_fp32.py', 'zero_to_fp32.py')])
def test_folders_of_shards(tmp_path, name, message):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


# --- content decides ---


def test_the_suffix_does_not_decide(tmp_path):
    from safetensors.torch import save_file

    assert same(read(saved(tmp_path / 'a.safetensors', VIT)).backbone(), VIT)
    torch.save(VIT, tmp_path / 'old.safetensors', _use_new_zipfile_serialization=False)
    assert same(read(tmp_path / 'old.safetensors').backbone(), VIT)
    save_file({key: tensor.contiguous() for key, tensor in VIT.items()}, tmp_path / 'b.pth')
    assert same(read(tmp_path / 'b.pth').backbone(), VIT)


def numpy_of(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {key: tensor.numpy() for key, tensor in tensors.items()}


@pytest.mark.parametrize('write', [np.savez, np.savez_compressed])
def test_archives_of_numpy(tmp_path, write):
    write(tmp_path / 'a.npz', **numpy_of(VIT))
    assert same(read(tmp_path / 'a.npz').backbone(), VIT)
    write(tmp_path / 'objects.npz', a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match='objects.npz is an archive of NumPy that cannot be read'):
        read(tmp_path / 'objects.npz')


def test_a_state_dict_of_arrays(tmp_path):
    assert same(read(saved(tmp_path / 'a.pth', numpy_of(VIT))).backbone(), VIT)
    assert same(read(saved(tmp_path / 'b.pth', {'model': numpy_of(VIT)})).backbone(), VIT)


def in_jax(model: VisionTransformer, heads: int) -> dict[str, np.ndarray]:
    """As google-research/vision_transformer writes it; timm's own reader, below, says whether this is right."""
    state, width = model.state_dict(), model.embed_dim
    found = {
        'cls': state['cls_token'],
        'Transformer/posembed_input/pos_embedding': state['pos_embed'],
        'embedding/kernel': state['patch_embed.proj.weight'].permute(2, 3, 1, 0),
        'embedding/bias': state['patch_embed.proj.bias'],
        'Transformer/encoder_norm/scale': state['norm.weight'],
        'Transformer/encoder_norm/bias': state['norm.bias'],
    }
    for i in range(len(model.blocks)):
        ours, theirs = f'blocks.{i}.', f'Transformer/encoderblock_{i}/'
        attention = theirs + 'MultiHeadDotProductAttention_1/'
        for number, name in ((0, 'norm1'), (2, 'norm2')):
            found[f'{theirs}LayerNorm_{number}/scale'] = state[f'{ours}{name}.weight']
            found[f'{theirs}LayerNorm_{number}/bias'] = state[f'{ours}{name}.bias']
        for number in (0, 1):
            found[f'{theirs}MlpBlock_3/Dense_{number}/kernel'] = state[f'{ours}mlp.fc{number + 1}.weight'].T
            found[f'{theirs}MlpBlock_3/Dense_{number}/bias'] = state[f'{ours}mlp.fc{number + 1}.bias']
        weights, biases = state[f'{ours}attn.qkv.weight'].chunk(3), state[f'{ours}attn.qkv.bias'].chunk(3)
        for name, weight, bias in zip(('query', 'key', 'value'), weights, biases, strict=True):
            found[f'{attention}{name}/kernel'] = weight.T.reshape(width, heads, -1)
            found[f'{attention}{name}/bias'] = bias.reshape(heads, -1)
        found[f'{attention}out/kernel'] = state[f'{ours}attn.proj.weight'].T.reshape(heads, -1, width)
        found[f'{attention}out/bias'] = state[f'{ours}attn.proj.bias']
    return numpy_of(found)


def test_the_vision_transformers_of_jax(tmp_path):
    model, timms = perturbed(tiny_vit()), tiny_vit()
    np.savez(tmp_path / 'a.npz', **in_jax(model, 3))
    timms.load_pretrained(str(tmp_path / 'a.npz'))
    found = read(tmp_path / 'a.npz')
    assert same(found.backbone(), timms.state_dict())
    assert (found.arch['num_heads'], found.meta['mean']) == (3, HALF)


def test_text_in_place_of_weights_of_jax(tmp_path):
    """It is no weight, as in any other archive; all others are there."""
    model = tiny_vit()
    text = {'Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel': np.array(['none'])}
    np.savez(tmp_path / 'a.npz', **(in_jax(model, 3) | text))
    assert set(model.state_dict()) - set(read(tmp_path / 'a.npz').backbone()) == {'blocks.0.mlp.fc1.weight'}


def in_detectron2(state: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """The renaming of the official MoCo's detection/convert-pretrain.py, step by step."""
    found = {}
    for name, tensor in state.items():
        if name.endswith('num_batches_tracked'):
            continue
        name = name if 'layer' in name else 'stem.' + name
        for i in (1, 2, 3, 4):
            name = name.replace(f'layer{i}', f'res{i + 1}')
        for i in (1, 2, 3):
            name = name.replace(f'bn{i}', f'conv{i}.norm')
        name = name.replace('downsample.0', 'shortcut').replace('downsample.1', 'shortcut.norm')
        found[name] = tensor.numpy()
    return found


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_detectron2s_pickle_of_moco(tmp_path, protocol):
    content = {'model': in_detectron2(TRUNK), '__author__': 'MOCO', 'matching_heuristics': True}
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(content, protocol))
    found = read(tmp_path / 'a.pkl')
    assert same(found.backbone(), {k: v for k, v in TRUNK.items() if not k.endswith('num_batches_tracked')})
    assert found.meta['mean'] == [123.675, 116.28, 103.53]


class Runs:
    """Leaves a file where its pickle is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_a_pickle_of_arrays_runs_nothing(tmp_path, protocol):
    for evil in (
        Runs(tmp_path / 'ran'),
        np.array([Runs(tmp_path / 'ran')], dtype=object),
        {Path: 1},
        [zipfile.ZipFile],
    ):
        content = {'model': in_detectron2(TRUNK), 'more': evil}
        (tmp_path / 'a.pkl').write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(ValueError, match='refused: loading it would call (nt|posix|pathlib|zipfile)'):
            read(tmp_path / 'a.pkl')
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('length', [2**40, 2**62])
def test_a_pickle_that_claims_to_be_long(tmp_path, length):
    claimed = pickle.PROTO + b'\x05' + pickle.BYTEARRAY8 + length.to_bytes(8, 'little') + b'abc' + pickle.STOP
    (tmp_path / 'a.pkl').write_bytes(claimed)
    with pytest.raises(ValueError, match=r'a\.pkl'):
        read(tmp_path / 'a.pkl')


def test_what_holds_no_tensors_by_name_is_named(tmp_path):
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / 'script.pt')
    saved(tmp_path / 'inner.pth', VIT)
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.write(tmp_path / 'inner.pth', 'weights/inner.pth')
    with zipfile.ZipFile(tmp_path / 'a.keras', 'w') as archive:
        archive.writestr('config.json', '{}')
        archive.writestr('model.weights.h5', b'')
    (tmp_path / 'a.h5').write_bytes(b'\x89HDF\r\n\x1a\n' + bytes(600))
    (tmp_path / 'a.gguf').write_bytes(b'GGUF' + bytes(600))
    np.save(tmp_path / 'a.npy', np.ones(3))
    shutil.make_archive(str(tmp_path / 'b'), 'tar', tmp_path, 'inner.pth')
    for name, what in {
        'script.pt': 'a TorchScript program',
        'a.zip': r'a zip archive of 1 files .*inner\.pth',
        'a.keras': 'a model of Keras',
        'a.h5': 'an HDF5 file',
        'a.gguf': 'a GGUF file',
        'a.npy': 'a single NumPy array',
        'b.tar': 'a tar archive',
    }.items():
        with pytest.raises(ValueError, match=what) as caught:
            read(tmp_path / name)
        assert 'download' not in str(caught.value)


# --- layouts ---

LOSSES = {'criterion.weight': torch.ones(5), 'train_accuracy.total': torch.tensor(1.0)}
FIRST = {key.replace('blocks.1.', 'blocks.1._checkpoint_wrapped_module.'): tensor for key, tensor in VIT.items()}
ALONE = {
    'DeepSpeed': ({'module': VIT, 'optimizer': None, 'ds_version': '0.14'}, VIT),
    'FSDP and checkpointing': (below('_fsdp_wrapped_module.', FIRST), VIT),
    'compiled in the middle': ({'state_dict': below('model._orig_mod.', VIT) | LOSSES}, VIT),
    **{
        f'Lightning {prefix}': ({'state_dict': below(prefix, RESNET) | LOSSES}, TRUNK)
        for prefix in ('model.', 'net.', 'encoder.', 'backbone.model.', 'student_backbone.')
    },
    'SimSiam': (
        {
            'state_dict': below('module.encoder.', TRUNK | {'fc.0.weight': torch.ones(3, 3)})
            | {'module.predictor.0.weight': torch.ones(3, 3)}
        },
        TRUNK,
    ),
    'VISSL': (
        {'classy_state_dict': {'base_model': {'model': {'trunk': below('_feature_blocks.', TRUNK), 'heads': {}}}}},
        TRUNK,
    ),
    'masked': ({'model': {**VIT, 'mask_token': torch.ones(1, 1, 24)}}, VIT),
    'MAE': ({'model': {**VIT, 'mask_token': torch.ones(1, 1, 24), 'decoder_embed.weight': torch.ones(2, 2)}}, VIT),
    "lightly's masked ViT": ({'mask_token': torch.ones(1, 1, 24), **below('vit.', VIT)}, VIT),
    "lightly's masked ViT, trained": (
        below('backbone.', {'mask_token': torch.ones(1, 1, 24), **below('vit.', VIT)}),
        VIT,
    ),
    'one container': ({'online': VIT, 'step': 3}, VIT),
}


@pytest.mark.parametrize('name', ALONE)
def test_layouts_with_one_backbone(tmp_path, name):
    content, tensors = ALONE[name]
    path = saved(tmp_path / 'a.pth', content)
    module = tiny_vit() if tensors is VIT else small_resnet()
    module.fc = nn.Identity()
    load_backbone(module, path)
    assert same(module.state_dict(), tensors)
    convert(path, tmp_path / 'out.pth', 'timm')
    assert same({k: v for k, v in torch.load(tmp_path / 'out.pth')['state_dict'].items() if k[:3] != 'fc.'}, tensors)


def test_a_folder_of_deepspeed(tmp_path):
    (tmp_path / 'global_step7').mkdir()
    (tmp_path / 'latest').write_text('global_step7')
    (tmp_path / 'zero_to_fp32.py').touch()
    saved(tmp_path / 'global_step7/mp_rank_00_model_states.pt', {'module': VIT})
    assert same(read(tmp_path).backbone(), VIT)


@pytest.mark.parametrize(
    ('state', 'tensors'),
    [
        (below('module.encoder_k.', TRUNK | {'fc.0.weight': torch.ones(3, 3)}), TRUNK),
        (below('module.momentum_encoder.', VIT | HEAD), VIT),
        (below('momentum_encoder.backbone.', VIT), VIT),
    ],
)
def test_files_with_a_key_encoder_only(tmp_path, state, tensors):
    found = read(saved(tmp_path / 'a.pth', {'state_dict': state}))
    assert (found.kind, found.encoders) == ('self-supervised', ('momentum',))
    assert same(found.backbone('momentum'), tensors)


def test_student_and_teacher(tmp_path):
    student = below('module.backbone.', VIT) | {'module.head.mlp.0.weight': torch.ones(3, 3)}
    teacher = below('backbone.', SHIFTED) | {'head.mlp.0.weight': torch.ones(3, 3)}
    content = {'student': student, 'teacher': teacher, 'args': Namespace(arch='vit_small'), 'epoch': 3}
    found = read(saved(tmp_path / 'a.pth', content))
    assert (found.kind, found.encoders) == ('self-supervised', ('query', 'momentum'))
    assert same(found.backbone('query'), VIT)
    assert same(found.backbone('momentum'), SHIFTED)
    assert any('--encoder momentum' in note for note in found.notes)
    assert published_numbers(found) == []


def test_a_second_backbone_is_said(tmp_path):
    path = saved(tmp_path / 'a.pth', {'state_dict': below('backbone.', VIT) | below('ema_backbone.', SHIFTED)})
    assert same(read(path).backbone(), VIT)
    assert read(path).notes == ('another backbone is in the file below ema_backbone. (--prefix takes it)',)
    assert same(read(path, prefix='ema_backbone').backbone(), SHIFTED)


def test_several_backbones_are_a_choice(tmp_path):
    path = saved(tmp_path / 'a.pth', below('first.', VIT) | below('second.', SHIFTED))
    with pytest.raises(ValueError, match=r'several backbones, below first\., second\.: choose one with prefix'):
        read(path).backbone()
    assert same(read(path, prefix='second').backbone(), SHIFTED)
    path = saved(tmp_path / 'b.pth', {'one': VIT, 'two': SHIFTED})
    with pytest.raises(ValueError, match='several places, one, two: choose one with --prefix'):
        read(path)
    assert same(read(path, prefix='one').backbone(), VIT)
    assert same(read(path, prefix='two').backbone(), SHIFTED)


def test_a_name_with_and_without_a_wrapper_is_no_choice_of_ours(tmp_path):
    with pytest.raises(ValueError, match='twice, with and without'):
        read(saved(tmp_path / 'a.pth', VIT | below('_orig_mod.', SHIFTED)))


def test_nothing_is_recognised_of_an_unknown_architecture(tmp_path):
    found = read(
        saved(tmp_path / 'a.pth', {'stages.0.w.weight': torch.ones(2, 2), 'stages.1.w.weight': torch.ones(2, 2)})
    )
    assert found.arch['family'] == 'unknown'
    assert found.table()['coverage'] == 0
    extra = read(saved(tmp_path / 'b.pth', {**VIT, 'blocks.0.attn.q_norm.weight': torch.ones(24)}))
    assert extra.table()['unknown'] == ['blocks.0.attn.q_norm.weight']
    for state in (VIT, RESNET):
        assert read(saved(tmp_path / 'c.pth', state)).table()['coverage'] == 1


def test_a_work_dir_stands_for_its_newest_good_checkpoint(tmp_path):
    for number, state in ((1, VIT), (2, SHIFTED), (3, VIT)):
        saved(
            tmp_path / f'epoch_{number}.pth',
            dict(state_dict=state, meta=dict(epoch=number, iter=number), message_hub={}),
        )
    content = (tmp_path / 'epoch_3.pth').read_bytes()
    (tmp_path / 'epoch_3.pth').write_bytes(content[: len(content) // 2])
    assert same(read(tmp_path).backbone(), SHIFTED)


# --- other networks, parts of networks ---


@pytest.mark.parametrize('name', ['convnext_atto', 'swin_tiny_patch4_window7_224', 'resnetv2_50'])
def test_what_is_not_known_is_not_called_incomplete(name):
    model = timm.create_model(name, num_classes=0)
    assert 'gaps' not in describe(model.state_dict())
    assert describe({'stages.1.blocks.0.gamma': torch.ones(1), 'stages.1.blocks.1.gamma': torch.ones(1)})['gaps']


@pytest.mark.parametrize('name', ['layer1.0.se.fc1.weight', 'layer2.1.attn.conv.weight', 'layer4.0.gamma'])
def test_a_resnet_with_further_tensors_is_no_plain_one(tmp_path, name):
    file = saved(tmp_path / 'file.pth', resnet18().state_dict() | {name: torch.ones(3, 3, 1, 1)})
    assert read(file).arch['depth'] is None
    for target in ('openmmlab', 'torchvision'):
        with pytest.raises(ValueError, match='no place for'):
            convert(file, tmp_path / 'out.pth', target)
    assert '<the same model>' in convert(file, tmp_path / 'out.pth', 'timm')[0]


@pytest.mark.parametrize('container', [None, 'state_dict', 'model'])
def test_layers_that_torch_has_quantised(tmp_path, container):
    packed = {**VIT, 'blocks.0.attn.qkv._packed_params._packed_params': (torch.ones(3), None)}
    file = saved(tmp_path / 'file.pth', {container: packed} if container else packed)
    with pytest.raises(ValueError, match=r'file\.pth holds .*before it is quantised'):
        read(file)


@pytest.mark.parametrize('beside', [{}, VIT])
def test_adapters_are_no_models(tmp_path, beside):
    adapter = {f'blocks.0.attn.qkv.lora_{part}.weight': torch.ones(2, 24) for part in 'AB'}
    with pytest.raises(ValueError, match=r'2 tensors of a LoRA adapter.*merge_and_unload'):
        read(saved(tmp_path / 'adapter_model.bin', {**adapter, **beside}))


@pytest.mark.parametrize('name', ['swa_state_dict', 'swa_model', 'model_ema_state_dict'])
def test_weights_averaged_by_other_programs(tmp_path, name):
    average = {'n_averaged': torch.tensor(5), **below('module.', SHIFTED)}
    file = saved(tmp_path / 'file.pth', {'state_dict': VIT, name: average})
    assert any(f'--prefix {name}' in note for note in read(file).notes)
    assert torch.equal(read(file, prefix=name).backbone()['cls_token'], SHIFTED['cls_token'])


def test_the_classifier_of_a_teacher_is_left_out(tmp_path):
    head = {'head.weight': torch.ones(2, 24), 'head.bias': torch.ones(2)}
    student, teacher = below('student.backbone.', VIT | head), below('teacher.backbone.', SHIFTED | head)
    file = saved(tmp_path / 'file.pth', student | teacher)
    for choice in ({'encoder': 'momentum'}, {'prefix': 'teacher.backbone'}):
        convert(file, tmp_path / 'out.pth', 'openmmlab', heads=3, backbone_only=True, **choice)
        assert same(read(tmp_path / 'out.pth').backbone(), SHIFTED)


@pytest.mark.parametrize(('fast', 'slow'), [('backbone.', 'momentum_encoder.backbone.'), ('encoder_q.', 'encoder_k.')])
def test_a_momentum_encoder_does_not_stand_in_for_a_damaged_query_encoder(tmp_path, fast, slow):
    """Weights of the one were handed out as those of the other where a tensor of the query encoder was missing."""
    model = perturbed(small_resnet() if fast == 'encoder_q.' else tiny_vit())
    lost = 'conv1.weight' if fast == 'encoder_q.' else 'cls_token'
    state = {f'{slow}{key}': tensor for key, tensor in model.state_dict().items()}
    state |= {f'{fast}{key}': tensor + 1 for key, tensor in model.state_dict().items() if key != lost}
    torch.save(dict(state_dict=state), tmp_path / 'damaged.pth')
    found = read(tmp_path / 'damaged.pth')
    assert 'unknown or incomplete; that of the momentum encoder is whole' in found.summary
    with pytest.raises(ValueError, match='unknown or incomplete'):
        load_encoder(tmp_path / 'damaged.pth')
