"""Groups of files that belong together: shards of a model, their index, settings beside the weights."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from mocox.checkpoint.bombs import is_regular

WEIGHT_FILES = ('model.safetensors', 'pytorch_model.bin')
_SHARD = re.compile(r'(?P<start>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<end>\.[A-Za-z]+)')
_DEEPSPEED = 'mp_rank_00_model_states.pt'
_SETTINGS = {'config': 'config.json', 'preprocessor': 'preprocessor_config.json'}
_FOREIGN_FOLDERS = {  # a file that identifies a folder, and what to do with it
    '.metadata': 'shards of torch.distributed.checkpoint: gather them with '
    '`python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIR FILE`',
    'saved_model.pb': 'a SavedModel of TensorFlow, which mocox does not read',
    'zero_to_fp32.py': 'a checkpoint of DeepSpeed: gather its weights with the zero_to_fp32.py in it',
    '_METADATA': 'a checkpoint of Orbax (JAX): save its parameters with numpy.savez',
}


def main_file(folder: Path) -> Path | None:
    """The main file in a folder of ``transformers``, ``timm`` or DeepSpeed; None for other folders.

    Raises:
        ValueError: The folder holds weights that first have to be gathered.
    """
    indices, shards = sorted(folder.glob('*.index*.json')), [p for p in folder.iterdir() if _SHARD.fullmatch(p.name)]
    note = folder / 'latest'
    latest = note.read_text(errors='replace').strip()[:200] if note.is_file() else ''
    inside = [folder / latest / _DEEPSPEED] if latest and Path(latest).name == latest else []
    candidates = [*(folder / name for name in WEIGHT_FILES), *indices, *sorted(shards), folder / _DEEPSPEED, *inside]
    found = next((path for path in candidates if path.is_file()), None)
    foreign = next((what for name, what in _FOREIGN_FOLDERS.items() if (folder / name).exists()), None)
    if found is None and foreign:
        raise ValueError(f'{folder} holds {foreign}')
    return found


def files_of(path: Path) -> tuple[list[Path], set[str]]:
    """All files that make up a model together with this one, and the tensors that an index expects in them.

    Args:
        path: A file of weights, one of several such as ``model-00001-of-00002.safetensors``, or their index.

    Raises:
        ValueError: Files are missing, or the index is none.
    """
    index = path if path.name.endswith('.json') else _index_of(path)
    if index is not None:
        weight_map = read_json(index).get('weight_map')
        if not isinstance(weight_map, Mapping) or not weight_map:
            raise ValueError(f'{index} is not an index of weights: it has no weight_map')
        names = sorted({str(name) for name in weight_map.values()})
        if outside := [name for name in names if Path(name).name != name or '\\' in name]:
            raise ValueError(f'{index} names files outside of its folder: {outside[0]!r}')
        return _present([index.parent / name for name in names], index), set(weight_map)
    if match := _SHARD.fullmatch(path.name):
        digits, count = len(match['number']), int(match['count'])
        if not 1 <= count <= 10_000:
            raise ValueError(f'{path} says that it is one of {count} files')
        names = [f'{match["start"]}-{i:0{digits}}-of-{match["count"]}{match["end"]}' for i in range(1, count + 1)]
        return _present([path.with_name(name) for name in names], path), set()
    return [path], set()


def settings_beside(path: Path) -> dict[str, dict]:
    """Settings from ``config.json`` and ``preprocessor_config.json``, which belong to a whole folder.

    Raises:
        ValueError: One of them is damaged.
    """
    if path.name not in WEIGHT_FILES and not _SHARD.fullmatch(path.name) and not path.name.endswith('.json'):
        return {}
    files = {key: path.with_name(name) for key, name in _SETTINGS.items()}
    return {key: read_json(file) for key, file in files.items() if file.is_file()}


def read_json(path: Path) -> dict:
    """A JSON file that holds settings.

    Raises:
        ValueError: It is damaged or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f'{path}, beside the weights, cannot be read ({error}): copy or download it again') from None
    if not isinstance(content, dict):
        raise ValueError(f'{path}, beside the weights, holds a {type(content).__name__} instead of settings')
    return content


def _index_of(path: Path) -> Path | None:
    """``model.safetensors.index.json`` of ``model-00001-of-00002.safetensors``."""
    match = _SHARD.fullmatch(path.name)
    index = path.with_name(f'{match["start"]}{match["end"]}.index.json') if match else None
    return index if index is not None and index.is_file() else None


def _present(files: list[Path], asked: Path) -> list[Path]:
    missing = [file.name[:255] for file in files if not is_regular(file)]
    if missing:
        more = f', ... ({len(missing) - 3} more)' if len(missing) > 3 else ''
        raise ValueError(
            f'{asked} belongs to a model in {len(files)} files, of which {len(missing)} are not beside it: '
            f'{", ".join(missing[:3])}{more}. Half a model cannot be loaded: copy or download them too'
        )
    return files
