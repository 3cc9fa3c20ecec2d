"""Say what a checkpoint is: kind, encoders, architecture, and what its tensors are called in mocox."""

import argparse
import json
from typing import TYPE_CHECKING

from mocox.terminal import one_line

if TYPE_CHECKING:
    from mocox.checkpoint import Checkpoint


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('file', help='a PyTorch or safetensors file, a directory of transformers, or a work dir')
    parser.add_argument('--json', action='store_true', help='print everything as JSON')
    parser.add_argument('--keys', action='store_true', help='print all tensors, not only the first of each part')
    parser.add_argument('--prefix', help='take what is below this prefix, or in this container, of the file')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Reads one file and prints it for people or, with ``--json``, for programs."""
    from mocox.checkpoint import read

    checkpoint = read(arguments.file, prefix=arguments.prefix)
    print(json.dumps(checkpoint.table(), indent=2) if arguments.json else describe(checkpoint, arguments.keys))


def describe(checkpoint: 'Checkpoint', all_keys: bool) -> str:
    """The table for people."""
    table = checkpoint.table()
    heads = table['architecture'].get('num_heads')
    rows = {
        'file': table['file'],
        'layout': table['layout'],
        'kind': table['kind'],
        'encoders': ', '.join(table['encoders']),
        'architecture': table['architecture']['name'] + (f', {heads} heads' if heads else ''),
        'tensors': f'{table["tensors"]} with {table["parameters"]:,} numbers',
        'recognised': f'{table["coverage"]:.0%}' + (f', not: {table["unknown"][:6]}' if table['unknown'] else ''),
        **{
            key: value
            for key, value in table['meta'].items()
            if key not in ('kind', 'encoder', 'architecture', 'heads')
        },
    }
    rows |= {f'note {i}': note for i, note in enumerate(checkpoint.notes, 1)}
    lines = [f'{name + ":":<16}{value}' for name, value in rows.items() if value is not None]
    seen = set()
    for key in table['keys']:
        part = key['name'].split('.')[0], key['mocox'].split('.')[0]
        if all_keys or part not in seen:
            lines.append(f'  {key["name"]:<48} {key["mocox"] or "-":<48} {tuple(key["shape"])}')
        seen.add(part)
    lines += [] if all_keys else ['  (the first of each part; --keys prints all)']
    return '\n'.join(map(one_line, lines))
