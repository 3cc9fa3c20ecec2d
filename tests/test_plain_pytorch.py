"""The scripts of docs/plain_pytorch.md run as printed, with smaller numbers."""

import re
import sys
from pathlib import Path
from types import ModuleType

import torch
from PIL import Image
from torch.utils.data import Dataset

BLOCKS = re.findall(
    r'```python\n(.*?)```', (Path(__file__).parents[1] / 'docs/plain_pytorch.md').read_text(encoding='utf-8'), re.DOTALL
)


class TwoViews(Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return tuple(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(index)))


def run(code: str, *smaller: tuple[str, str]) -> dict:
    for large, small in smaller:
        assert large in code
        code = code.replace(large, small)
    names: dict = {}
    exec(compile(code, 'docs/plain_pytorch.md', 'exec'), names)
    return names


def test_a_loop_of_your_own(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'my_data', ModuleType('my_data'))
    sys.modules['my_data'].TwoViews = TwoViews
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS[0].splitlines()) <= 26  # twenty without the imports
    found = run(
        BLOCKS[0],
        ('100, 256, 1.5e-4', '2, 4, 0.01'),
        ("'vit_small_patch16_224'", "'vit_tiny_patch16_224', depth=1, img_size=32"),
        ('4096', '16'),
        ('256', '8'),
        ('LR * BATCH / 8', 'LR'),
        ('num_workers=8', 'num_workers=0'),
    )
    model, saved = found['model'], torch.load(tmp_path / 'backbone.pth')
    assert saved.keys() == model.backbone.state_dict().keys()
    # Four steps; the coefficient is that of the last: a cosine from 0.99 at step 0 to 1 at step 4.
    assert found['step'] == 3
    assert model.momentum == 1 - 0.01 * (1 + torch.cos(torch.tensor(3 * torch.pi / 4, dtype=torch.float64)).item()) / 2


def test_data_set_and_augmentation_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'images').mkdir()
    for index in range(2):
        Image.new('RGB', (40, 30), (100 * index, 50, 200)).save(tmp_path / 'images' / f'{index}.png')
    found = run(BLOCKS[1], ('size=224', 'size=16'))
    assert found['x1'].shape == found['x2'].shape == (2, 3, 16, 16)
    assert not torch.equal(found['x1'], found['x2'])


def test_a_momentum_encoder_alone():
    found = run(BLOCKS[2])
    slow = found['slow']
    assert torch.equal(slow.backbone.weight, found['backbone'].weight)
    found['neck'].weight.data.zero_()
    before = slow.neck.weight.clone()
    slow.update(found['backbone'], found['neck'], momentum=0.75)
    torch.testing.assert_close(slow.neck.weight, 0.75 * before)
