"""The recorded traces and their inputs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset

from mocox.registry import DATASETS, MODELS

DTYPES = {'float64': torch.float64, 'float32': torch.float32}
SUFFIX = {'float64': 'fp64', 'float32': 'fp32'}


class Fields(dict):
    """A mapping of ``case.json`` that notes which of its entries were asked for.

    Args:
        values: The entries; mappings among them note theirs in the same set.
        read: The set, of names such as ``model.depth``.
        prefix: Of the names.
    """

    def __init__(self, values: dict, read: set[str], prefix: str = '') -> None:
        self.read, self.prefix = read, prefix
        nested = {k: Fields(v, read, f'{prefix}{k}.') if isinstance(v, dict) else v for k, v in values.items()}
        super().__init__(nested)

    def __getitem__(self, name: str) -> Any:
        self.read.add(self.prefix + name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As in a dictionary."""
        return self[name] if name in self else default  # noqa: SIM401  must be noted


@dataclass
class Case:
    """A trace folder.

    Attributes:
        folder: Where it lies.
        spec: The content of ``case.json``; ``spec.read`` names the fields that were used.
        precision: ``float64`` or ``float32``.
    """

    folder: Path
    spec: Fields
    precision: str

    @classmethod
    def read(cls, folder: str | Path, precision: str = 'float64') -> 'Case':
        """Read ``case.json``; raises FileNotFoundError or ValueError that says what is wrong with the folder."""
        path = Path(folder) / 'case.json'
        if not path.is_file():
            raise FileNotFoundError(f'{path} not found: a trace folder holds case.json and safetensors files')
        if precision not in DTYPES:
            raise ValueError(f'precision={precision!r}: choose one of {list(DTYPES)}')
        spec = json.loads(path.read_text())
        if f'loss_{SUFFIX[precision]}' not in spec['expected']:
            raise ValueError(f'{path} has no numbers of precision {precision!r}: it was recorded in another one')
        return cls(Path(folder), Fields(spec, set()), precision)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """All tensors of one file, floating ones in the run's precision."""
        tensors = self.stored(name)
        return {k: v.to(DTYPES[self.precision]) if v.is_floating_point() else v for k, v in tensors.items()}

    def stored(self, name: str) -> dict[str, Tensor]:
        """All tensors of one file, as recorded."""
        return load_file(self.folder / f'{name}.safetensors')

    @property
    def tolerance(self) -> dict:
        return self.spec['tolerance'][SUFFIX[self.precision]]

    def expected(self, name: str) -> Any:
        """An expected number of this precision, e.g. ``loss``."""
        return self.spec['expected'][f'{name}_{SUFFIX[self.precision]}']


@DATASETS.register_module()
class RecordedRows(Dataset):
    """The recorded inputs, one image (pair) per index, ordered so that ``EpochSampler`` deals each rank its own rows.

    Args:
        folder: Trace folder.
        precision: ``float64`` or ``float32``.
        repeats: How often every step's batch is dealt in a row, for gradient accumulation over equal micro-batches.
    """

    def __init__(self, folder: str, precision: str, repeats: int = 1) -> None:
        case = Case.read(folder, precision)
        self.train, self.repeats = case.spec['train'], repeats
        self.inputs = case.tensors('inputs')
        labelled = any(key.startswith('step') and key.endswith('.y') for key in self.inputs)
        self.views = ['x'] if labelled else ['x1', 'x2']

    def __len__(self) -> int:
        return self.train['batch_size'] * self.train['iters_per_epoch'] * self.repeats

    def __getitem__(self, key: tuple[int, int]) -> dict:
        epoch, index = key
        iteration, place = divmod(index, self.train['batch_size'])
        step = epoch * self.train['iters_per_epoch'] + iteration // self.repeats
        row, rank = divmod(place, self.train['world_size'])
        if f'step{step:02d}.{self.views[0]}' in self.inputs:
            name, row = f'step{step:02d}', row + rank * self.train['per_rank_batch']
        else:
            name = f'step{step:02d}.rank{rank}'
        views = [self.inputs[f'{name}.{view}'][row] for view in self.views]
        if len(views) == 1:
            return dict(inputs=views[0], label=self.inputs[f'{name}.y'][row])
        return dict(inputs=views)


@MODELS.register_module()
class RecordedInputs(BaseDataPreprocessor):
    """Hands the recorded inputs on unchanged; labels become data samples.

    Args:
        batch_augments: Always None: mmpretrain's classifiers pass it.
        kwargs: See ``mmengine.model.BaseDataPreprocessor``.
    """

    def __init__(self, batch_augments: None = None, **kwargs) -> None:
        super().__init__(**kwargs)

    def forward(self, data: dict, training: bool = False) -> dict:
        """``{'inputs', 'data_samples'}`` on the model's device."""
        data = self.cast_data(data)
        if 'label' not in data:
            return dict(inputs=data['inputs'], data_samples=None)
        from mmpretrain.structures import DataSample

        soft = data['label'].is_floating_point()  # one score for each class, as mixing images gives
        samples = [DataSample().set_gt_score(y) if soft else DataSample().set_gt_label(y) for y in data['label']]
        return dict(inputs=data['inputs'], data_samples=samples)
