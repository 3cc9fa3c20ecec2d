"""timm's cache of downloaded files, and its readers for files of other projects."""

import contextlib
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

PREFIX = 'timm:'


def cached_file(name: str) -> Path:
    """The weights of ``timm:NAME`` in timm's cache. Nothing is downloaded.

    Args:
        name: Of ``timm.list_pretrained()``, with or without ``timm:``.

    Raises:
        FileNotFoundError: They are not there; says what puts them there.
        ValueError: timm has no such weights.
    """
    import timm
    from huggingface_hub import try_to_load_from_cache
    from timm.models._hub import get_cache_dir

    from mocox.models.backbones.timm_backbone import require_model

    name = name.removeprefix(PREFIX)
    require_model(name)
    known = timm.models.is_model_pretrained(name) or '.' not in name
    config: Any = timm.get_pretrained_cfg(name) if known else None
    if config is None or not config.has_weights:
        raise ValueError(
            f'timm:{name}: timm {timm.__version__} has no weights of this name; see timm.list_pretrained()'
        )
    if config.file and Path(config.file).is_file():
        return Path(config.file)
    for file in [config.hf_hub_filename] if config.hf_hub_filename else ['model.safetensors', 'pytorch_model.bin']:
        found = try_to_load_from_cache(config.hf_hub_id, file) if config.hf_hub_id else None
        if isinstance(found, str):
            return Path(found)
    by_url = Path(get_cache_dir(), (config.url or '-').rpartition('/')[2])
    if by_url.is_file():
        return by_url
    raise FileNotFoundError(
        f'timm:{name}: not in the cache of timm ({config.hf_hub_id or by_url}), and mocox downloads nothing. Where '
        f'there is a network: python -c "import timm; timm.create_model({name!r}, pretrained=True)"; then run this '
        'again, with the same HF_HOME, or pass the file instead'
    )


def as_timm(model: nn.Module, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Translate names and shapes to those of a timm model, by timm's own filter function for it.

    Args:
        model: Of timm, without a classifier.
        weights: Under any names.

    Returns:
        The tensors, and what a person should know about them. What does not belong to the model stays as it is.
    """
    target = model.state_dict()
    classifiers = (getattr(model, 'pretrained_cfg', None) or {}).get('classifier') or ()
    starts = tuple(f'{c}.' for c in ([classifiers] if isinstance(classifiers, str) else classifiers))
    weights = {k: t for k, t in weights.items() if k in target or not k.startswith(starts or '\0')}
    translate = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)
    if translate is None or target.keys() <= weights.keys():
        return weights, []
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # some print what they try
            translated = dict(translate(dict(weights), model))
    except (
        KeyError,
        RuntimeError,
        AttributeError,
        ValueError,
        TypeError,
    ):  # not of this model: a later check lists all
        return weights, []
    if not target.keys() <= translated.keys():
        return weights, []
    return translated, ["names translated by timm's own checkpoint_filter_fn"]
