"""On request: what the recipes for Fashion-MNIST learn in two minutes, so that no change makes it less unseen."""

import os
from pathlib import Path

import pytest
import torch

from lab.quality.contestants import OWN, mocox_contestants
from lab.quality.run import Contest, run

IMAGES = Path('/usr/share/datasets/fashion-mnist')
# k-NN and linear, percent: the means of three seeds in docs/small_images.md, less three of their standard deviations.
# The second part of a key: whether the recipe's own views and network are taken, as with --own.
LEAST = {('mocox v3', False): (70.7, 73.9), ('mocox v2', False): (72.3, 73.7), ('mocox v3', True): (72.8, 78.3)}
WIDTH = {'model.backbone.base_channels': 8, 'model.backbone.stem_channels': 8}


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get('MOCOX_FASHION') != '1', reason='takes minutes; MOCOX_FASHION=1 runs it')
@pytest.mark.skipif(not IMAGES.is_dir(), reason=f'needs {IMAGES}: apt-get install dataset-fashion-mnist')
@pytest.mark.parametrize(('name', 'own'), LEAST)
def test_accuracy_on_held_out_training_images(name, own, tmp_path):
    config = OWN[name] if own else 'configs/mocov2/resnet18_fashion.py'
    contest = Contest(str(IMAGES), config, epochs=4, points=1, with_finetuning=False, options=WIDTH)
    torch.set_num_threads(1)
    result = run(contest, name, mocox_contestants(WIDTH, own)[name], 0, tmp_path)
    knn, linear = (result['points'][-1][key] for key in ('knn', 'linear'))
    assert knn >= LEAST[name, own][0] and linear >= LEAST[name, own][1], result['points']
