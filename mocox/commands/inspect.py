"""Say what a checkpoint is: kind, encoders, architecture, and what its tensors are called in mocox.

``mocox inspect --config CONFIG`` says how large a recipe's model is, and what an image costs.
"""

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from mocox import cli
from mocox.terminal import one_line

if TYPE_CHECKING:
    from mmengine.config import Config

    from mocox.checkpoint import Checkpoint


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('file', nargs='?', help='a PyTorch or safetensors file, a directory of transformers, a work dir')
    what.add_argument('--config', metavar='CONFIG', help='a recipe: parameters and FLOPs of its parts')
    parser.add_argument('--arch', metavar='NAME', help='with --config: as `mocox train` takes it')
    parser.add_argument('--image-size', type=int, metavar='PX', help='with --config: side of the crops')
    option = parser.add_argument('--cfg-options', nargs='+', action=cli.OptionsAction, metavar='KEY=VALUE')
    option.help = 'change the config'
    parser.add_argument('--json', action='store_true', help='print everything as JSON')
    parser.add_argument('--keys', action='store_true', help='print all tensors, not only the first of each part')
    parser.add_argument('--prefix', help='take what is below this prefix, or in this container, of the file')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Read one file or config and print it for people or, with ``--json``, for programs."""
    if arguments.config:
        from mocox.run.options import prepare_config

        changes = dict(arch=arguments.arch, image_size=arguments.image_size, cfg_options=arguments.cfg_options)
        print(describe_model(prepare_config(arguments.config, **changes), arguments.json))
        return
    from mocox.checkpoint import read

    checkpoint = read(arguments.file, prefix=arguments.prefix)
    print(json.dumps(checkpoint.table(), indent=2) if arguments.json else describe(checkpoint, arguments.keys))


def describe_model(config: 'Config', as_json: bool = False) -> str:
    """The parts of its model as a table, or as JSON."""
    from mocox.complexity import measure_parts

    parts, shape = measure_parts(config)
    if as_json:
        return json.dumps(dict(image=shape, parts=[asdict(part) for part in parts]), indent=2)
    rows = [('part', 'class', 'parameters', 'trained', 'FLOPs')]
    rows += [(part.name, part.kind, f'{part.parameters:,}', f'{part.trained:,}', _giga(part.flops)) for part in parts]
    total = [sum(numbers) for numbers in zip(*((part.parameters, part.trained) for part in parts))]
    rows.append(('all', type_of_model(config), f'{total[0]:,}', f'{total[1]:,}', ''))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ['  '.join([*(f'{cell:<{width}}' for cell, width in zip(row[:2], widths)),
                        *(f'{cell:>{width}}' for cell, width in zip(row[2:], widths[2:]))]).rstrip()
             for row in rows]  # fmt: skip
    lines += [
        '',
        f'FLOPs of one image of {shape[1]} x {shape[2]} px with {shape[0]} channels; multiply and add are two.',
    ]
    return '\n'.join(map(one_line, lines))


def type_of_model(config: 'Config') -> str:
    """The name of its class."""
    from mocox.recipe import type_of

    return type_of(config.model)


def _giga(flops: int | None) -> str:
    return '-' if flops is None else f'{flops / 1e9:.3g} G'


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
