"""The reader of checkpoints: files of torch and safetensors, mutated; zip files and pickles of anything."""

import io
import pickle
import warnings
import zipfile

import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save

from mocox.checkpoint import read
from mocox.checkpoint.provenance import stamp
from mocox.checkpoint.reading import recognise
from tests.test_fuzz.cases import MAX_GROWTH_MB, fuzz, mutations, peak_mb

TENSORS = {
    'backbone.cls_token': torch.zeros(1, 1, 4),
    'backbone.blocks.0.attn.qkv.weight': torch.ones(12, 4),
    'neck.mlp.0.weight': torch.ones(2, 4, dtype=torch.float16),
    'momentum_encoder.backbone.cls_token': torch.zeros(1, 1, 4),
}


def seeds() -> dict[str, bytes]:
    content = dict(state_dict=TENSORS, epoch=3, arch='vit_small', meta=dict(cfg='model = dict(type="MoCoV3")', epoch=1))
    made = {'safetensors': save(TENSORS, {'mocox': '{"kind": "self-supervised"}'})}
    for name, zipped in (('zip', True), ('legacy', False)):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        made[name] = buffer.getvalue()
    return made


SEEDS = seeds()


def torch_zip(data_pkl: bytes, **records: bytes) -> bytes:
    """A file as torch.save writes it, around any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, content in {'data.pkl': data_pkl, 'version': b'3\n', 'byteorder': b'little', **records}.items():
            archive.writestr(f'x/{name}', content)
    return buffer.getvalue()


def repack(data: bytes) -> st.SearchStrategy[bytes]:
    """The zip file with a mutated pickle inside and right checksums."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = {name.partition('/')[2]: archive.read(name) for name in archive.namelist()}
    content = records.pop('data.pkl')
    return mutations({'pickle': content}).map(lambda mutated: torch_zip(mutated, **records))


class Anything:
    """What a pickle may ask for."""

    def __init__(self, call, arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
CALLS = st.builds(
    Anything,
    st.sampled_from([exec, eval, print, open, getattr, bytearray, torch.zeros, torch.Tensor, dict]),
    st.lists(PLAIN, max_size=2).map(tuple),
)
PICKLES = st.builds(
    pickle.dumps, st.dictionaries(st.text(max_size=5), PLAIN | CALLS, max_size=3) | CALLS, st.integers(0, 5)
)
FILES = (
    mutations(SEEDS)
    | repack(SEEDS['zip'])
    | PICKLES
    | PICKLES.map(torch_zip)
    | st.dictionaries(st.text(max_size=5), st.binary(max_size=9), max_size=3).map(lambda r: torch_zip(b'}.', **r))
    | st.binary(max_size=100)
)


@fuzz(400)
@given(FILES)
@example(pickle.dumps(Anything(bytearray, (2**60,)), 2))
@example(torch_zip(pickle.dumps(Anything(bytearray, (2**60,)), 2)))
@example(len(b'[' * 10**5).to_bytes(8, 'little') + b'[' * 10**5)
def try_to_read(folder, data: bytes) -> None:
    path = folder / 'file.pth'
    path.write_bytes(data)
    try:
        checkpoint = read(path)
        stamp('backbone', 'query', checkpoint.arch, checkpoint.meta)
    except ValueError as error:
        assert str(path) in str(error)
        return
    checkpoint.table()
    for encoder in checkpoint.encoders:
        checkpoint.backbone(encoder)


def test_files(tmp_path):
    before = peak_mb()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try_to_read(tmp_path)
    assert peak_mb() - before < MAX_GROWTH_MB


KEYS = st.sampled_from(
    ['meta', 'model', 'type', 'arch', 'num_heads', 'epoch', 'mean', 'kind', 'encoder', 'heads', 'state']
)
VALUES = st.recursive(
    st.none()
    | st.integers()
    | st.text(max_size=3)
    | st.sampled_from(['MoCoV3', 'MoCoViT', 'VisionTransformer', 'vit_small']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)
TYPES = st.sampled_from(['MoCoV3', 'MoCoViT', 'MoCoV3ViT', 'VisionTransformer', 'mocox.LinearProbe']) | VALUES


def fields(**values: st.SearchStrategy) -> st.SearchStrategy[dict]:
    """All of them, most of the time."""
    return st.fixed_dictionaries(values) | st.fixed_dictionaries({}, optional=values)


MODELS = fields(
    type=TYPES,
    backbone=fields(type=TYPES, arch=VALUES | fields(num_heads=VALUES)) | VALUES,
    data_preprocessor=fields(type=TYPES, mean=VALUES, std=VALUES, to_rgb=VALUES) | VALUES,
)
CONFIGS = st.builds('model = {!r}'.format, MODELS) | VALUES
CONTENTS = fields(
    meta=fields(cfg=CONFIGS, epoch=VALUES, experiment_name=VALUES),
    **dict.fromkeys(('arch', 'epoch', 'optimizer', 'best_acc1', 'args', 'mocox'), VALUES),
)


@fuzz(400)
@given(CONTENTS, fields(config=VALUES | fields(num_attention_heads=VALUES), mocox=VALUES))
@example({'meta': {'cfg': "model = {'data_preprocessor': {'mean': 1}}"}}, {})
@example({'meta': {'cfg': "model = {'backbone': {'type': 'MoCoViT', 'arch': []}}"}}, {})
@example({'meta': {'cfg': 'model = ' + '[' * 5000}}, {})
@example({'meta': {'cfg': 'model = ' + '-' * 5000 + '1'}}, {})
@example({'meta': {'cfg': 'model = ' + '+'.join('1' * 20_000)}}, {})
def test_what_stands_beside_the_tensors(content, beside):
    """Of any type and shape: it is data of a stranger."""
    checkpoint = recognise({**content, 'state_dict': TENSORS}, beside)
    checkpoint.table()
    assert checkpoint.summary
    for encoder in set(checkpoint.encoders) & {'query', 'momentum'}:
        try:
            checkpoint.backbone(encoder)
        except ValueError as error:
            assert 'encoder' in str(error)
