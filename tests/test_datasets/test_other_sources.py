"""Training from tar shards and from an LMDB: the very weights of training from the folder, also when resumed."""

import tarfile
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mocox.datasets import write_lmdb
from mocox.run.build import build_runner
from tests.support.processes import forget_runner
from tests.support.tiny_run import write_run

pytest.importorskip('fsspec')
pytest.importorskip('lmdb')


def train(folder: Path, name: str, load_from: Path | None = None, **dataset) -> dict[str, torch.Tensor]:
    """The weights after the last epoch."""
    config = Config.fromfile(folder / 'tiny.py')
    start = dict(load_from=str(load_from), resume=True) if load_from else {}
    config.merge_from_dict(dict(work_dir=str(folder / name), launcher='none', **start))
    config.train_cfg.max_epochs = 2
    config.default_hooks.checkpoint.interval = 1
    config.train_dataloader.update(num_workers=2)
    if dataset:
        config.train_dataloader.dataset = dict(crops=config.train_dataloader.dataset.crops, **dataset)
    try:
        runner = build_runner(config)
        runner.train()
        return runner.model.state_dict()
    finally:
        forget_runner()


@pytest.mark.slow
def test_the_same_weights_from_every_source(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    write_run(tmp_path)
    images = sorted((tmp_path / 'images').iterdir())
    images[5].write_bytes(b'damaged')
    write_lmdb(str(tmp_path / 'images'), str(tmp_path / 'images.lmdb'))
    (tmp_path / 'shards').mkdir()
    for shard in range(3):
        with tarfile.open(tmp_path / f'shards/{shard}.tar', 'w') as archive:
            for path in images[8 * shard : 8 * shard + 8]:
                archive.add(path, path.name)
    sources = dict(
        lmdb=dict(type='LMDBImages', data_root=str(tmp_path / 'images.lmdb')),
        shards=dict(type='WebDatasetImages', data_root=str(tmp_path / 'shards'), shards='{0..2}.tar'),
    )
    expected = train(tmp_path, 'folder')
    for name, dataset in sources.items():
        found = train(tmp_path, name, **dataset)
        resumed = train(tmp_path, f'{name}_resumed', tmp_path / name / 'epoch_1.pth', **dataset)
        for key, value in expected.items():
            assert torch.equal(found[key], value), (name, key)
            assert torch.equal(resumed[key], value), (name, key)
