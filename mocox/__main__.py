"""``mocox COMMAND``, also as ``python -m mocox COMMAND``."""

import difflib
import sys
from collections.abc import Sequence

from mocox.commands import SUMMARIES
from mocox.commands import main as run_command
from mocox.version import __version__


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ('-h', '--help', 'help'):
        print(usage())
    elif given[0] in ('-V', '--version'):
        print(f'mocox {__version__}')
    elif given[0] in SUMMARIES:
        run_command(given[0], given[1:], prog=f'mocox {given[0]}')
    else:
        nearest = difflib.get_close_matches(given[0], SUMMARIES, n=1)
        hint = f'did you mean {nearest[0]}?' if nearest else 'mocox --help lists them.'
        print(f'error: there is no command {given[0]!r}; {hint}', file=sys.stderr)
        sys.exit(2)


def usage() -> str:
    """Return the text of ``mocox --help``."""
    rows = (f'  {name:<10} {summary}' for name, summary in SUMMARIES.items())
    return '\n'.join([
        'usage: mocox COMMAND ...', '', 'Self-supervised pre-training with Momentum Contrast (MoCo v1, v2, v3).', '',
        *rows, '', 'mocox COMMAND --help says more. To begin: mocox demo',
    ])  # fmt: skip


if __name__ == '__main__':
    main()
