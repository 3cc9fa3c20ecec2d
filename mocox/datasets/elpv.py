"""Photographs of solar cells with the probability of a defect, as the PyPI package ``elpv-dataset`` has them."""

from mocox.datasets.annotated import AnnotatedImages
from mocox.registry import DATASETS

PROBABILITIES = (0.0, 1 / 3, 2 / 3, 1.0)
NAMES = ['functional', 'probably functional', 'probably defective', 'defective']
TEST_EVERY = 4  # of the cells of a class
SPLITS = ('train', 'test', 'all')


@DATASETS.register_module()
class ELPVImages(AnnotatedImages):
    """ELPV: 2,624 gray images of 300 x 300 pixels; ``labels.csv`` and ``images/``.

    Its authors publish no split. Here every fourth cell of a class, in the order of the file, is ``test``, the others
    are ``train``; ``all`` is both, for pre-training without labels. The data are CC BY-NC-SA 4.0.

    Source: A benchmark for visual identification of defective solar cells in electroluminescence imagery (Buerhop-Lutz
    et al., 2018).
    """

    url = 'the Python package elpv-dataset (pip install elpv-dataset; its folder data)'

    def read_annotations(self) -> tuple[list[str], list[int], list[str]]:
        if self.split not in SPLITS:
            raise ValueError(f'split must be one of {list(SPLITS)}, got {self.split!r}')
        path = self.annotation_file('labels.csv')
        with open(path, encoding='utf-8') as file:
            rows = [_parse(line, path) for line in file if line.strip()]
        seen, paths, labels = [0] * len(NAMES), [], []
        for name, label in rows:
            is_test = seen[label] % TEST_EVERY == TEST_EVERY - 1
            seen[label] += 1
            if self.split == 'all' or is_test == (self.split == 'test'):
                paths.append(name)
                labels.append(label)
        return paths, labels, NAMES


def _parse(line: str, path: str) -> tuple[str, int]:
    """The name of the image, and the number of its class."""
    words = line.split()
    try:
        label = min(range(len(NAMES)), key=lambda i: abs(PROBABILITIES[i] - float(words[1])))
        if len(words) == 3 and abs(PROBABILITIES[label] - float(words[1])) < 0.01:
            return words[0], label
    except (IndexError, ValueError):
        pass
    raise ValueError(
        f'{path!r}: {line.strip()[:100]!r} is not "images/NAME.png PROBABILITY TYPE", with 0, 1/3, 2/3 or 1'
    )
