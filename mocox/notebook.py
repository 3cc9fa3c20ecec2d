"""An updating line in a notebook, whose cells keep every line and interpret no terminal codes."""

import sys
from collections.abc import Callable


def live_line() -> Callable[[str], None] | None:
    """Replace the previous text below the running cell; None outside a notebook."""
    ipython = sys.modules.get('IPython')
    shell = ipython.get_ipython() if ipython else None
    if getattr(shell, 'kernel', None) is None:  # IPython in a terminal counts as a terminal
        return None
    from IPython.display import display  # there, since it runs

    handle = display({'text/plain': ''}, raw=True, display_id=True)
    return lambda text: handle.update({'text/plain': text}, raw=True)
