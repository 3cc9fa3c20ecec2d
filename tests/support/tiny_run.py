"""A pre-training run small enough for a test: 24 images, a transformer of 2 blocks, 4 epochs of 3 steps."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from mocox.processes.store import free_port

ROOT = Path(__file__).parents[2]

CONFIG = """
_base_ = ['{root}/_base_/models/mocov3_vit.py', '{root}/_base_/datasets/custom.py', '{root}/_base_/views/mocov3.py',
          '{root}/_base_/schedules/adamw_300e.py', '{root}/_base_/default_runtime.py']
arch = dict(embed_dims=16, num_layers=2, num_heads=4, feedforward_channels=32)
model = dict(backbone=dict(arch=arch, img_size=32, patch_size=8),
             neck=dict(in_channels=16, hid_channels=16, out_channels=8),
             head=dict(predictor=dict(in_channels=8, hid_channels=16, out_channels=8)))
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False, pin_memory=False,
                        dataset=dict(data_root='{data}', crops=dict(size=32)))
optim_wrapper = dict(optimizer=dict(lr=0.1, eps=1e-3))  # eps: rounding must not become the direction of a step
param_scheduler = dict(warmup_epochs=1)
train_cfg = dict(max_epochs=4)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2), progress=dict(seconds=0.))
"""


def write_run(folder: Path) -> Path:
    """Writes the images and the config; returns the config's path."""
    (folder / 'images').mkdir()
    generator = np.random.default_rng(0)
    for index in range(24):
        # Coarse noise: crops of it differ, and shrinking it leaves something.
        pixels = generator.integers(0, 256, (5, 6, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(folder / 'images' / f'{index:02}.png')
    path = folder / 'tiny.py'
    path.write_text(CONFIG.format(root=ROOT / 'configs', data=folder / 'images'))
    return path


def run_tool(tool: str, *arguments: object) -> None:
    """Runs a tool in this process as ``python tools/TOOL arguments`` would in its own.

    Raises:
        SystemExit: The tool failed; the message is on stderr.
    """
    with mock.patch('sys.argv', [tool, *map(str, arguments)]), pytest.MonkeyPatch.context() as patch:
        patch.setenv('LOCAL_RANK', '0')  # the tool sets it where it is missing
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')


def run_script(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """Runs a shell script of tools/ on the CPU, with this interpreter as its ``python``."""
    port = free_port()
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    env = {**os.environ, 'PATH': path, 'PORT': str(port), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    command = ['bash', str(ROOT / 'tools' / script), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, timeout=300)
