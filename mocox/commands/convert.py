"""Rewrite a checkpoint for another library: ``mocox convert IN OUT --to timm``."""

import argparse

from mocox.terminal import say

# The names in mocox.checkpoint.writing, whose import takes seconds.
TARGETS = ('openmmlab', 'mmseg', 'timm', 'torchvision', 'transformers', 'official', 'mocox')


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', help='any checkpoint that tools/inspect_checkpoint.py recognises')
    parser.add_argument('output', help='file to write (.pth or .safetensors); a directory for transformers')
    parser.add_argument('--to', required=True, choices=TARGETS, help='format of the output')
    parser.add_argument('--encoder', default='query', choices=['query', 'momentum'], help='which of the two encoders')
    parser.add_argument('--heads', type=int, help='number of attention heads, where the file does not say it')
    parser.add_argument('--prefix', help='take what is below this prefix, or in this container, of the file')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Converts one file, prints what it was and how to load the result."""
    from mocox.checkpoint import convert, read

    notes = convert(
        *(arguments.input, arguments.output, arguments.to, arguments.encoder, arguments.heads), prefix=arguments.prefix
    )
    summary = read(arguments.input, prefix=arguments.prefix).summary
    say(f'{arguments.output} written from {arguments.input}: {summary}', *(f'  {note}' for note in notes))
