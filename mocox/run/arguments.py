"""Arguments of components: their names, and messages about wrong ones."""

import difflib
import inspect
from collections.abc import Iterator


def describe_untyped(part: object) -> str:
    """The message for a dict that should be built and has no type."""
    return f'{part} has no type, so nothing can be built from it: is the key that it stands under misspelt?'


def describe_argument(component: type, unexpected: str, known: list[str]) -> str:
    """The message for an argument that a component does not take."""
    nearest = difflib.get_close_matches(unexpected, known, n=3)
    hint = f'did you mean {" or ".join(nearest)}?' if nearest else f'it takes {", ".join(known)}'
    return f'{component.__name__} has no argument {unexpected!r}; {hint}'


def passes_on(component: type) -> bool:
    """True if a class takes arguments that it does not name."""
    try:
        parameters = inspect.signature(component).parameters.values()
    except ValueError:  # of a class written in C
        return True
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def argument_names(component: type) -> Iterator[str]:
    """The arguments of a class, and those of its parents as far as it passes arguments on."""
    for cls in component.__mro__[:-1]:
        if '__init__' in vars(cls):
            parameters = list(inspect.signature(vars(cls)['__init__']).parameters.values())[1:]
            yield from (p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
            if all(p.kind is not p.VAR_KEYWORD for p in parameters):
                return  # what this class does not name, it does not pass on
