"""Files of features: the same numbers in every format, and the same bytes after a kill."""

import contextlib
import csv

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

import mocox
from mocox.__main__ import main
from mocox.checkpoint import load_backbone
from mocox.evaluation import feature_files
from mocox.evaluation.encoder import load_encoder
from mocox.registry import MODELS
from tests.support.processes import run_processes
from tests.test_checkpoint.conftest import RESNET, VIT, backbone

TIMM = dict(type='TIMMBackbone', model_name='vit_tiny_patch16_224', img_size=32, patch_size=8, depth=2)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('features')
    torch.manual_seed(0)
    (folder / 'images').mkdir()
    generator = np.random.default_rng(0)
    for index in range(6):
        pixels = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / 'images' / f'{index}.png')
    (folder / 'images' / '9.png').write_bytes(b'no image')
    for name, config in dict(vit=VIT, resnet=RESNET, timm=TIMM).items():
        module = backbone(config)
        meta = dict(kind='self-supervised', **(dict(backbone=config) if name == 'timm' else dict(heads=4)))
        tensors = {f'backbone.{key}': tensor for key, tensor in module.state_dict().items()}
        torch.save(dict(state_dict=tensors, mocox=meta), folder / f'{name}.pth')
    return folder


def test_every_format_holds_the_same(made, tmp_path):
    found = mocox.features(made / 'vit.pth', made / 'images')
    assert len(found.paths) == 6
    for ending in ('npz', 'csv', 'parquet'):
        mocox.features(made / 'vit.pth', made / 'images', out=tmp_path / f'f.{ending}')
    packed = np.load(tmp_path / 'f.npz', allow_pickle=False)
    rows = list(csv.reader((tmp_path / 'f.csv').open(newline='')))
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(tmp_path / 'f.parquet').to_pydict()
    assert packed['paths'].tolist() == [row[0] for row in rows[1:]] == table['path'] == found.paths
    for values in (packed['features'], [row[1:] for row in rows[1:]], table['features']):
        np.testing.assert_array_equal(np.array(values, np.float32), found.features)
    assert sorted(file.name for file in tmp_path.iterdir()) == ['f.csv', 'f.npz', 'f.parquet']  # no shards are left


@pytest.mark.parametrize('ending', ['npz', 'csv', 'parquet'])
def test_a_killed_extraction_goes_on_to_the_same_bytes(made, tmp_path, monkeypatch, ending):
    monkeypatch.setattr(feature_files, 'SHARD_IMAGES', 2)
    options = dict(batch_size=2)
    mocox.features(made / 'vit.pth', made / 'images', out=tmp_path / f'whole.{ending}', **options)
    seen = count_images(monkeypatch)
    with monkeypatch.context() as killed:
        killed.setattr(seen, 'limit', 2)
        with pytest.raises(KeyboardInterrupt):
            mocox.features(made / 'vit.pth', made / 'images', out=tmp_path / f'f.{ending}', **options)
    assert not (tmp_path / f'f.{ending}').exists()
    assert len(list((tmp_path / f'f.{ending}.parts').rglob('*.features'))) == 2
    seen.count = 0
    mocox.features(made / 'vit.pth', made / 'images', out=tmp_path / f'f.{ending}', **options)
    assert seen.count == 2  # of the four shards
    assert (tmp_path / f'f.{ending}').read_bytes() == (tmp_path / f'whole.{ending}').read_bytes()


def count_images(monkeypatch):
    """Counts forward passes, and ends the process as Ctrl-C does after ``limit`` of them."""
    from mocox.evaluation.encoder import Encoder

    class Seen:
        count, limit = 0, 10**6

    plain = Encoder.extract_feat

    def counted(self, images):
        if Seen.count == Seen.limit:
            raise KeyboardInterrupt
        Seen.count += 1
        return plain(self, images)

    monkeypatch.setattr(Encoder, 'extract_feat', counted)
    return Seen


def extract(folder, out, limit: int = 10**6) -> int:
    """In one of several processes: how many forward passes it made before it was done or killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_files, 'SHARD_IMAGES', 2)
        seen = count_images(patch)
        seen.limit = limit
        with contextlib.suppress(KeyboardInterrupt):
            mocox.features(folder / 'vit.pth', folder / 'images', out=out, batch_size=2)
        return seen.count


@pytest.mark.dist
def test_two_processes_share_an_extraction_and_go_on_after_a_kill(made, tmp_path):
    """Four shards of seven files: each process makes one, is killed, and makes its other one when started again."""
    assert extract(made, tmp_path / 'alone.npz') == 4
    assert run_processes(extract, 2, made, tmp_path / 'f.npz', 1) == [1, 1]
    assert len(list((tmp_path / 'f.npz.parts').rglob('*.features'))) == 2 and not (tmp_path / 'f.npz').exists()
    assert run_processes(extract, 2, made, tmp_path / 'f.npz') == [1, 1]
    assert (tmp_path / 'f.npz').read_bytes() == (tmp_path / 'alone.npz').read_bytes()
    assert not (tmp_path / 'f.npz.parts').exists()


@pytest.mark.parametrize('name', ['vit', 'resnet'])
def test_patches_average_to_what_the_module_gives(made, name):
    """A map's vectors are the tokens of patches; averaged, they are the module's own mean of the map."""
    maps = mocox.features(made / f'{name}.pth', made / 'images', level='patches', image_size=32).features
    assert maps.shape[:3] == {'vit': (6, 4, 4), 'resnet': (6, 1, 1)}[name]
    module = MODELS.build(dict(vit=dict(VIT, out_type='avg_featmap'), resnet=RESNET)[name])
    load_backbone(module, made / f'{name}.pth')
    paths = [str(made / 'images' / f'{index}.png') for index in range(6)]
    module.eval()  # mmpretrain's ResNet returns nothing here
    pooled = mocox.FeatureExtractor(module, image_size=32)(paths)
    np.testing.assert_allclose(maps.mean((1, 2)), pooled, atol=1e-5)


def test_patches_of_a_run_that_trained_the_class_token_alone(made):
    config = Config(dict(model=dict(backbone=dict(VIT, trim_last_block=True))))
    net = load_encoder(made / 'vit.pth', level='patches', config=config, image_size=32).model.backbone
    assert net(torch.zeros(1, 3, 32, 32))[-1].shape == (1, 32, 4, 4)


def test_patches_of_a_timm_transformer_are_its_tokens_in_rows(made):
    maps = mocox.features(made / 'timm.pth', made / 'images', level='patches', image_size=32).features
    assert maps.shape == (6, 4, 4, 192)
    net = load_encoder(made / 'timm.pth', level='patches', image_size=32).model.backbone
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        tokens = net.timm_model.forward_features(images)[:, 1:]  # without the class token
        torch.testing.assert_close(net.forward_map(images)[:, :, 1, 2], tokens[:, 4 * 1 + 2])


def test_maps_go_to_npz_only_and_projections_have_none(made, tmp_path):
    with pytest.raises(ValueError, match='maps, which are written as .npz'):
        mocox.features(made / 'vit.pth', made / 'images', level='patches', out=tmp_path / 'f.csv')
    with pytest.raises(ValueError, match=r'written as \.npz, \.parquet, \.csv'):
        mocox.features(made / 'vit.pth', made / 'images', out=tmp_path / 'f.txt')


def test_a_named_file_that_cannot_be_read_is_an_error(made):
    with pytest.raises(ValueError, match=r'9\.png'):
        mocox.features(made / 'vit.pth', [made / 'images' / '0.png', made / 'images' / '9.png'])


def test_data_is_an_option_too(made, tmp_path, capsys):
    out = tmp_path / 'f.csv'
    for _ in range(2):
        main(['features', str(made / 'vit.pth'), '--data', str(made / 'images'), '--out', str(out)])
    shown = capsys.readouterr().out
    assert f'{out}: 6 images, 32 numbers each' in shown and 'in place of the file that was there' in shown


def test_a_folder_of_a_person_beside_the_file_is_left_alone(made, tmp_path):
    own = tmp_path / 'f.npz.parts' / 'mine' / 'notes.txt'
    own.parent.mkdir(parents=True)
    own.write_text('mine')
    mocox.features(made / 'vit.pth', made / 'images', out=tmp_path / 'f.npz')
    assert [path.name for path in (tmp_path / 'f.npz.parts').iterdir()] == ['mine'] and own.read_text() == 'mine'
