"""Errors of MMEngine, torch and Python in words that a person can act on."""

import inspect
import os
import re
import traceback
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from types import FrameType
from typing import Any, NamedTuple

from mocox.run.arguments import argument_names, describe_argument, describe_untyped, passes_on

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


_BUILDERS = ('mmengine', 'mmcv')  # whose functions build the components of a config
_MAX_VALUE = 80  # characters of an argument's value in a message


class _Component(NamedTuple):
    """A component whose constructor had started: its class, and the arguments that are not the defaults."""

    kind: type
    arguments: dict[str, Any]


def is_worker_failure(error: BaseException) -> bool:
    """True if data loader workers died or could not hand over a batch.

    torch reports that as a ``RuntimeError``, or as a lost connection where the batch was on its way.
    """
    if isinstance(error, ConnectionError | EOFError):
        return any(
            Path(frame.f_code.co_filename).parts[-2:] == ('multiprocessing', 'resource_sharer.py')  # not the store's
            for frame, _ in traceback.walk_tb(error.__traceback__)
        )
    return isinstance(error, RuntimeError) and _explain_worker_failure(str(error)) is not None


def is_wrong_channels(error: BaseException) -> bool:
    """True if a convolution was given images, or maps, of another number of channels."""
    return isinstance(error, RuntimeError) and _CHANNELS.search(str(error)) is not None


def is_refusal(error: BaseException) -> bool:
    """True if another library refused the arguments of a component by an assertion, as OpenMMLab's constructors do."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, AssertionError) and _component_in(frames) is not None and not _is_ours(frames[-1])


def _is_ours(frame: FrameType) -> bool:
    return _is_of(frame, __name__.partition('.')[0])


def _is_of(frame: FrameType, *packages: str) -> bool:
    return str(frame.f_globals.get('__name__')).partition('.')[0] in packages


def _component_in(frames: list[FrameType]) -> _Component | None:
    """The innermost object that MMEngine or mmcv was constructing; their Runner is not a component."""
    for caller, frame in reversed(list(pairwise(frames))):
        if frame.f_code.co_name != '__init__' or not _is_of(caller, *_BUILDERS):
            continue
        names, _, _, values = inspect.getargvalues(frame)
        kind = type(values[names[0]])
        if kind.__name__.endswith('Runner'):
            continue
        defaults = {name: p.default for name, p in inspect.signature(kind.__init__).parameters.items()}
        given = {name: values[name] for name in names[1:] if values.get(name) is not defaults.get(name)}
        return _Component(kind, given)
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
    component = _component_in(frames)
    message = _unwrap_worker_message(str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error))
    if isinstance(error, RuntimeError) and (found := _CHANNELS.search(message)):
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
    if isinstance(error, KeyError) and 'must contain the key "type"' in message:
        return describe_untyped(message.partition('but got ')[2].partition('\n')[0])
    if isinstance(error, TypeError) and 'unexpected keyword argument' in message:
        return _explain_argument(message, component, list(frames[-1].f_globals.values()))
    if isinstance(error, FileNotFoundError) and f'{os.sep}.mim{os.sep}' in message:
        return f'{message}: configs are found by package name once mocox is installed (pip install -e .)'
    if isinstance(error, KeyError):
        message = f'{message} is missing' if re.fullmatch(r'[\w.-]+', message) else message
    if component and (isinstance(error, TypeError) or not _is_ours(frames[-1])):
        return f'{_describe(component)}: {message or type(error).__name__}'
    return message or type(error).__name__


def _describe(component: _Component) -> str:
    """``AdamW(lr='fast', fused=True)``: what the config asked for."""
    plain = (str, bool, int, float, list, tuple, type(None))
    values = {key: repr(value) for key, value in component.arguments.items() if isinstance(value, plain)}
    arguments = ', '.join(f'{key}={value}' for key, value in values.items() if len(value) <= _MAX_VALUE)
    return f'{component.kind.__name__}({arguments})'


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


def _explain_argument(message: str, component: _Component | None, candidates: list[object]) -> str:
    found = re.search(r"(\w+)(?:\.__init__)?\(\) got an unexpected .*? '(\w+)'", message)
    if found is None:
        return message
    name, unexpected = found.groups()
    outer = component.kind if component else None
    classes = [cls for cls in [outer, *candidates] if inspect.isclass(cls)]
    inner = next((cls for cls in classes if name in (base.__name__ for base in cls.__mro__)), None)
    if inner is None:
        return message
    if outer is None or not passes_on(outer):
        outer = inner
    names = list(dict.fromkeys([*argument_names(outer), *argument_names(inner)]))
    # An argument that the outer class does not name is one that it has passed on.
    return describe_argument(inner if unexpected in argument_names(outer) else outer, unexpected, names)
