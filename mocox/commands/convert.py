"""Rewrite a checkpoint for another library: ``mocox convert IN OUT --to timm``; or as a graph: ``--to onnx``."""

import argparse
from collections.abc import Callable
from pathlib import Path

from mocox.terminal import say

# The names in mocox.checkpoint.writing and mocox.export, whose import takes seconds.
TARGETS = ('openmmlab', 'mmseg', 'timm', 'torchvision', 'transformers', 'official', 'mocox')
GRAPHS = ('onnx', 'torch-export')
OF_GRAPHS = ('config', 'image_size', 'dynamic_size', 'normalise', 'opset')


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', help='any checkpoint that mocox inspect recognises')
    parser.add_argument('output', nargs='?', help='file to write (.pth or .safetensors); a directory for transformers;'
                        ' for a graph by default the name of the checkpoint with .onnx or .pt2')  # fmt: skip
    parser.add_argument('--to', required=True, choices=TARGETS + GRAPHS, help='format of the output')
    parser.add_argument('--encoder', default='query', choices=['query', 'momentum'], help='which of the two encoders')
    parser.add_argument('--heads', type=int, help='number of attention heads, where the file does not say it')
    parser.add_argument('--prefix', help='take what is below this prefix, or in this container, of the file')
    graphs = parser.add_argument_group('for onnx and torch-export')
    graphs.add_argument('--config', help='backbone and normalisation, where the file does not say them')
    graphs.add_argument('--image-size', type=int, metavar='PX', help='side in pixels (default: that of pre-training)')
    graphs.add_argument('--dynamic-size', action='store_true', default=None, help='take images of other sizes too')
    graphs.add_argument('--normalise', action='store_true', default=None, help='inside: the input is levels 0 to 255')
    graphs.add_argument('--opset', type=int, help='version of the operators of ONNX (default: 18)')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Convert one file, prints what it was and how to load the result."""
    from mocox.checkpoint import convert, read

    given = {name: value for name in OF_GRAPHS if (value := getattr(arguments, name)) is not None}
    shared = dict(encoder=arguments.encoder, heads=arguments.heads, prefix=arguments.prefix)
    write: Callable[..., list[str]] = convert
    if arguments.to in GRAPHS:
        from mocox.export import default_name, export

        out = arguments.output or default_name(arguments.input, arguments.to)
        write = export
    elif given:
        raise ValueError(f'--{next(iter(given)).replace("_", "-")} is for --to {" and ".join(GRAPHS)}')
    elif arguments.output is None:
        raise ValueError('name the file to write: mocox convert IN OUT --to ...')
    else:
        out = arguments.output
    was_there = Path(out).exists()
    notes = write(arguments.input, out, arguments.to, **shared, **given)
    summary = read(arguments.input, prefix=arguments.prefix).summary
    replaced = ', in place of the file that was there' * was_there
    say(f'{out} written from {arguments.input}: {summary}{replaced}', *(f'  {note}' for note in notes))
