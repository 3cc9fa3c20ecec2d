"""A line that renews itself in a notebook, whose cells keep every line and know no codes of a terminal."""

import sys
from collections.abc import Callable


def live_line() -> Callable[[str], None] | None:
    """Shows a text in place of the one before, below the running cell; None where no notebook runs."""
    ipython = sys.modules.get('IPython')
    shell = ipython.get_ipython() if ipython else None
    if getattr(shell, 'kernel', None) is None:  # in a terminal IPython is one like any other
        return None
    from IPython.display import display  # there, since it runs

    handle = display({'text/plain': ''}, raw=True, display_id=True)
    return lambda text: handle.update({'text/plain': text}, raw=True)
