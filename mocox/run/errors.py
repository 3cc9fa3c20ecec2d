"""Errors of MMEngine, torch and Python in words that a person can act on."""

import difflib
import inspect
import os
import re
import traceback
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from types import FrameType
from typing import Any, NamedTuple

_DEAD_WORKER = re.compile(
    r'DataLoader worker \(pid\S* (?P<pid>[\d, ]+)\) (?:is killed by signal: (?P<signal>.+?)\.|exited)'
)
_CHANNELS = re.compile(r'expected input\S* to have (?P<wanted>\d+) channels, but got (?P<given>\d+) channels instead')
_RESUME = 'The run goes on from its last checkpoint with --resume'
_FEWER = 'lower train_dataloader.num_workers or train_dataloader.batch_size'
_FULL_SHARED_MEMORY = (
    f'the shared memory (/dev/shm) through which loader workers hand over batches is full: enlarge it (docker run '
    f'--shm-size=8g, or --ipc=host), or {_FEWER}. {_RESUME}'
)
_WORKER_FAILURES = (
    (
        re.compile('out of shared memory|No space left on device.*torch_|torch_.*No space left on device'),
        _FULL_SHARED_MEMORY,
    ),
    (
        re.compile('received 0 items of ancdata|torch_.*Too many open files'),
        f'the processes may not open more files, and loader workers hand batches over as open files: raise the limit '
        f'(ulimit -n 65536), or lower train_dataloader.num_workers. {_RESUME}',
    ),
)


# Functions of MMEngine and mmcv that build a component, and their names for its type, its class and its arguments.
_BUILDERS = {
    'build_from_cfg': ('obj_type', 'obj_cls', 'args'),
    'build_scheduler_from_cfg': ('scheduler_type', 'scheduler_cls', 'args'),
    'build_norm_layer': ('layer_type', 'norm_layer', 'cfg_'),
    'build_conv_layer': ('layer_type', 'conv_layer', 'cfg_'),
    '__call__': ('optimizer_cfg', 'optimizer_cls', 'optimizer_cfg'),  # of DefaultOptimWrapperConstructor
    'build_dataloader': ('collate_fn_type', 'collate_fn', 'dataloader_cfg'),
}
_MAX_VALUE = 80  # characters of an argument's value in a message


class _Build(NamedTuple):
    """A component that was being built: its type in the config, where that was looked up, what was found."""

    name: Any
    registry: Any
    found: Any
    arguments: dict

    @property
    def is_unknown(self) -> bool:
        """Whether the registry does not know the name."""
        return self.found is None and isinstance(self.name, str)


def is_worker_failure(error: BaseException) -> bool:
    """Whether data loader workers died or could not hand over a batch.

    torch reports that as a ``RuntimeError``, or as a lost connection where the batch was on its way.
    """
    if isinstance(error, ConnectionError | EOFError):
        return any(
            Path(frame.f_code.co_filename).parts[-2:] == ('multiprocessing', 'resource_sharer.py')  # not the store's
            for frame, _ in traceback.walk_tb(error.__traceback__)
        )
    return isinstance(error, RuntimeError) and _explain_worker_failure(str(error)) is not None


def is_wrong_channels(error: BaseException) -> bool:
    """Whether a convolution was given images, or maps, of another number of channels."""
    return isinstance(error, RuntimeError) and _CHANNELS.search(str(error)) is not None


def is_refusal(error: BaseException) -> bool:
    """Whether another library refused the arguments of a component by an assertion, as OpenMMLab's constructors do."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, AssertionError) and _innermost_build(frames) is not None and not _is_ours(frames[-1])


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get('__name__')).partition('.')[0] == __name__.partition('.')[0]


def _innermost_build(frames: list[FrameType]) -> _Build | None:
    for frame in reversed(frames):
        values = frame.f_locals
        names = _BUILDERS.get(frame.f_code.co_name)
        if names and all(name in values for name in names):
            name, found, arguments = (values[key] for key in names)
            if isinstance(name, dict):
                name = name['type']
            return _Build(name, values.get('registry'), found, arguments)
    return None


def _explain_worker_failure(message: str) -> str | None:
    for pattern, explanation in _WORKER_FAILURES:
        if pattern.search(message):
            return explanation
    dead = _DEAD_WORKER.search(message)
    if dead is None:
        return None
    if dead['signal'] in (None, 'Killed'):
        return _explain_killed_worker(f'pid {dead["pid"]}')
    return (
        f'a data loader worker (pid {dead["pid"]}) crashed: {dead["signal"]}. train_dataloader.num_workers=0 and '
        f'MOCOX_DEBUG=1 show where. {_RESUME}'
    )


def _explain_killed_worker(who: str) -> str:
    return (
        f'a data loader worker ({who}) was killed, as a rule by the system because memory or shared memory ran out '
        f'(see dmesg, the limit of your job or container, and df /dev/shm): {_FEWER}, or give the job more. {_RESUME}'
    )


def explain(error: BaseException) -> str:
    """The message of an error in words that name the value and, where it can be known, the fix."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    build = _innermost_build(frames)
    message = _unwrap_worker_message(str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error))
    if is_wrong_channels(error):
        found = _CHANNELS.search(message)
        return (
            f'a convolution of the model takes {found["wanted"]} channels and was given {found["given"]}. Where that '
            f'is the first one, give the backbone in_channels={found["given"]}, or the data set and the preprocessor '
            f'{found["wanted"]} channels (docs/data.md)'
        )
    if is_worker_failure(error):
        return _explain_worker_failure(message) or _explain_killed_worker('it did not hand over its batch')
    unpickling = any('_weights_only_unpickler' in frame.f_code.co_filename for frame in frames)
    if isinstance(error, UnpicklingError) or (unpickling and isinstance(error, KeyError)):
        return _explain_refused_file(message, frames)
    if isinstance(error, SyntaxError):
        return f'{_path_in_use(frames)}, line {error.lineno}: {error.msg}'
    if build and build.is_unknown and isinstance(error, KeyError | TypeError):
        return _explain_unknown_component(build.name, build.registry)
    if isinstance(error, KeyError) and 'must contain the key "type"' in message:
        part = frames[-1].f_locals.get('cfg')
        return f'{part} has no type, so nothing can be built from it: is the key that it stands under misspelt?'
    if isinstance(error, TypeError) and 'unexpected keyword argument' in message:
        return _explain_argument(message, [build.found if build else None, *frames[-1].f_globals.values()])
    if isinstance(error, FileNotFoundError) and f'{os.sep}.mim{os.sep}' in message:
        return f'{message}: configs are found by package name once mocox is installed (pip install -e .)'
    if isinstance(error, KeyError):
        message = f'{message} is missing' if re.fullmatch(r'[\w.-]+', message) else message
    if build and (isinstance(error, TypeError) or not _is_ours(frames[-1])):
        return f'{_describe_build(build)}: {message or type(error).__name__}'
    return message or type(error).__name__


def _describe_build(build: _Build) -> str:
    """``AdamW(lr='fast', fused=True)``: what the config asked for."""
    name = 'DataLoader' if isinstance(build.found, partial) else getattr(build.found, '__name__', build.name)
    plain = (str, bool, int, float, list, tuple, type(None))
    values = {key: repr(value) for key, value in build.arguments.items() if isinstance(value, plain)}
    return f'{name}({", ".join(f"{key}={value}" for key, value in values.items() if len(value) <= _MAX_VALUE)})'


def _unwrap_worker_message(message: str) -> str:
    """The message inside the traceback that a DataLoader worker sends."""
    if not message.startswith('Caught ') or 'Original Traceback' not in message:
        return message
    final = list(re.finditer(r'^[\w.]*(?:Error|Exception|Exit|Interrupt)\w*: ', message, re.MULTILINE))
    return message[final[-1].end() :].strip() if final else message


def _path_in_use(frames: list[FrameType]) -> str:
    names = [frame.f_locals.get(name) for frame in reversed(frames) for name in ('filename', 'path')]
    return next((str(name) for name in names if isinstance(name, (str, Path)) and str(name) != '<unknown>'), 'the file')


def _explain_refused_file(message: str, frames: list[FrameType]) -> str:
    path = _path_in_use(frames)
    wanted = re.search(r'(?:GLOBAL|global|class|function)\s+`?([A-Za-z_][\w]*(?:\.\w+)+)', message)
    if wanted:
        return (
            f'{path} was refused: loading it would call {wanted[1]}, which no checkpoint needs. It may be '
            'malicious; if you trust its author, ask for a file that holds tensors only'
        )
    reason = message.splitlines()[0]
    return f'{path} is not a checkpoint that torch.load can read' + ('' if reason.isdigit() else f': {reason}')


def _explain_unknown_component(name: str, registry: Any) -> str:
    from mmengine.registry import FUNCTIONS

    registry = FUNCTIONS if registry is None else registry  # where collate_fn is looked up; an empty one is false
    scope, _, _ = name.rpartition('.')
    if scope and '.' not in scope and find_spec(scope) is None:
        return f'{name!r} is not available: the package {scope} is not installed'
    root = registry._get_root_registry()
    known = list(dict.fromkeys([*registry.module_dict, *root.module_dict]))
    for child_scope, child in root.children.items():
        known += [f'{child_scope}.{key}' for key in child.module_dict]
    by_bare_name: dict[str, list[str]] = {}  # in lower case: a wrong capital is the most frequent mistake
    for key in known:
        by_bare_name.setdefault(key.rpartition('.')[2].lower(), []).append(key)
    matches = difflib.get_close_matches(name.rpartition('.')[2].lower(), by_bare_name, n=3)
    nearest = [key for match in matches for key in by_bare_name[match]][:3]
    hint = f'did you mean {" or ".join(nearest)}?' if nearest else f'it knows {", ".join(sorted(registry.module_dict))}'
    return f'there is no {name!r} in the {registry.name} registry of scope {registry.scope}; {hint}'


def _explain_argument(message: str, candidates: list[object]) -> str:
    name, unexpected = re.search(r"(\w+)(?:\.__init__)?\(\) got an unexpected .*? '(\w+)'", message).groups()
    classes = [candidate for candidate in candidates if inspect.isclass(candidate)]
    component = next((cls for cls in classes if name in (base.__name__ for base in cls.__mro__)), None)
    if component is None:
        return message
    outer = candidates[0] if inspect.isclass(candidates[0]) and _passes_on(candidates[0]) else component
    names = [*_argument_names(outer), *_argument_names(component)]
    if unexpected not in _argument_names(outer):  # it has passed on what it does not know itself
        component = outer
    known = list(dict.fromkeys(names))
    nearest = difflib.get_close_matches(unexpected, known, n=3)
    hint = f'did you mean {" or ".join(nearest)}?' if nearest else f'it takes {", ".join(known)}'
    return f'{component.__name__} has no argument {unexpected!r}; {hint}'


def _passes_on(component: type) -> bool:
    """Whether a class takes arguments that it does not name."""
    parameters = inspect.signature(component.__init__).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _argument_names(component: type) -> Iterator[str]:
    for cls in component.__mro__[:-1]:
        if '__init__' in vars(cls):
            parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
            yield from (p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
            if all(p.kind is not p.VAR_KEYWORD for p in parameters):
                return  # what this class does not name, it does not pass on
