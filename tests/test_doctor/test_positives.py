"""What the doctor says of images that are positives of each other."""

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mocox.doctor import examine
from tests.support.tiny_run import CONFIG, ROOT


@pytest.fixture
def findings(tmp_path):
    """Five patients in each split; of these, 3 and 4 are in both."""
    for split, patients in (('train', range(5)), ('val', range(3, 8))):
        for patient in patients:
            for i in range(2):
                path = tmp_path / 'images' / split / f'{patient}_{i}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    (tmp_path / 'run.py').write_text(CONFIG.format(root=ROOT / 'configs', data=tmp_path / 'images'))

    def examined(batch_size: int = 8, **positives) -> dict:
        config = Config.fromfile(tmp_path / 'run.py')
        config.train_dataloader.update(batch_size=batch_size)
        config.train_dataloader.dataset.update(positives=positives)
        return {finding.check: finding for finding in examine(config, seconds=0).findings}

    return examined


def test_groups_and_split_groups_are_said(findings, tmp_path):
    found = findings(pattern=r'(\d)_', prob=0.5)
    assert '5 groups of 2 images, 0 images alone; the second view is of another image' in found['file_contents'].title
    assert found['split_groups'].title == "2 of 5 groups also have images in 'val', such as '3'"
    table = 'path,patient\n' + ''.join(
        f'{path.relative_to(tmp_path / "images")},P{path.name[0]}\n' for path in sorted(tmp_path.rglob('*.png'))
    )
    (tmp_path / 'images' / 'list.csv').write_text(table)
    found = findings(column='patient', list_file='list.csv', prob=0.5)
    assert found['split_groups'].title == "2 of 5 groups also have images in 'val', such as 'P3'"
    assert 'split_groups' not in findings(pattern=r'(\d)_', prob=0)


def test_groups_that_are_large_against_the_keys(findings):
    """Of 10 images in pairs another one is of the same group with 1/9: of 7 others 0.78, of 9 others 1."""
    assert 'positives_as_negatives' not in findings(pattern=r'(\d)_', prob=0.5)
    found = findings(10, pattern=r'(\d)_', prob=0.5)['positives_as_negatives']
    assert found.title == 'of 10 keys about 1.0 are of the group of the query, as negatives'
