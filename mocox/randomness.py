"""The global generators that other libraries draw from: their states, and a seed of ours for one call."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NotRequired, TypedDict

import numpy as np
import torch


class GeneratorStates(TypedDict):
    """The states of the generators, in types any checkpoint may hold."""

    python: torch.Tensor
    python_gauss: float | None
    numpy: torch.Tensor
    numpy_rest: torch.Tensor  # position, and the normal number in reserve
    torch: torch.Tensor
    cuda: NotRequired[torch.Tensor]


def generator_states() -> GeneratorStates:
    """The states of Python's, NumPy's, torch's and the current GPU's generators."""
    _, python_words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002
    rest = numpy_state['state']['pos'], numpy_state['has_gauss'], numpy_state['gauss']
    states = GeneratorStates(
        python=torch.tensor(python_words),
        python_gauss=gauss,
        numpy=torch.from_numpy(numpy_state['state']['key'].astype(np.int64)),
        numpy_rest=torch.tensor(rest, dtype=torch.float64),
        torch=torch.get_rng_state(),
    )
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def set_generator_states(states: GeneratorStates) -> None:
    """Restore the generators to the states of :func:`generator_states`; a GPU's only where there is one."""
    random.setstate((3, tuple(states['python'].tolist()), states['python_gauss']))
    position, has_gauss, cached = states['numpy_rest'].tolist()
    words = states['numpy'].cpu().numpy().astype(np.uint32)
    np.random.set_state(('MT19937', words, int(position), int(has_gauss), cached))  # noqa: NPY002
    torch.set_rng_state(states['torch'].cpu())
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore the generators after the block, whatever it draws."""
    states = generator_states()
    try:
        yield
    finally:
        set_generator_states(states)


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the generators of Python, NumPy and torch (CPU) inside the block, and restore them after it.

    Args:
        seed: 0 to 2**32 - 1.
    """
    python_state, torch_state = random.getstate(), torch.get_rng_state()
    numpy_state = np.random.get_state()  # noqa: NPY002
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
