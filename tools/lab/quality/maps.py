"""Where to read the features of a trained ResNet: from which of its maps, and how finely."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.benchmark.mocox_contender import read_config
from lab.quality.images import Images
from lab.quality.judge import judge
from lab.quality.run import Contest
from mocox.checkpoint.files import newest_in
from mocox.evaluation.encoder import load_encoder
from mocox.terminal import say

# In words: which maps, counted from the end, and into how many parts a side they are averaged.
READINGS: dict[str, tuple[tuple[int, ...], int]] = {
    'last map, averaged': ((-1,), 1),
    'last map, 2 x 2': ((-1,), 2),
    'map before it, 2 x 2': ((-2,), 2),
    'both, 2 x 2': ((-2, -1), 2),
}


def compare_maps(checkpoint: str, contest: Contest) -> str:
    """Judge the frozen features of a checkpoint, read in each of these ways.

    Args:
        checkpoint: A file or a work dir's newest; a ResNet with four stages.
        contest: Images to learn from and to test on.

    Returns:
        The table, which is printed.

    Raises:
        ValueError: No ResNet.
    """
    images = Images(
        read_config(contest.config), contest.data_root, contest.train, contest.held_out, contest.first_held_out, seed=0
    )
    model = load_encoder(newest_in(checkpoint)).model.eval()
    resnet = next((module for module in model.modules() if hasattr(module, 'res_layers')), None)
    if resnet is None:
        raise ValueError(f'{checkpoint} holds no ResNet, whose maps --maps compares')
    resnet.out_indices = range(4)
    lines = ['| features | numbers | k-NN | linear |', '|---|---|---|---|']
    for name, (maps, side) in READINGS.items():
        train, test = (read(resnet, part.images, maps, side).numpy() for part in (images.train, images.test))
        scores = judge(train, test, images.train.labels, images.test.labels)
        lines.append(f'| {name} | {train.shape[1]} | {scores["knn"]:.1f} | {scores["linear"]:.1f} |')
        say(lines[-1])
    return '\n'.join(lines)


@torch.no_grad()
def read(resnet: nn.Module, images: Tensor, maps: tuple[int, ...], side: int) -> Tensor:
    """(N, C * side * side), of several maps one behind the other."""
    return torch.cat(
        [
            torch.cat([F.adaptive_avg_pool2d(found[number], side).flatten(1) for number in maps], dim=1)
            for found in map(getattr(resnet, 'forward_map', resnet), images.split(500))
        ]
    )
