"""Keep only a backbone's weights: ``mocox extract CKPT OUT``."""

import argparse

from mocox.terminal import say


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='any checkpoint that mocox inspect recognises')
    parser.add_argument('output', help='file to write (.pth or .safetensors)')
    parser.add_argument(
        '--to', default='openmmlab', choices=['openmmlab', 'timm', 'mocox'], help='naming of the tensors'
    )
    parser.add_argument('--encoder', default='query', choices=['query', 'momentum'], help='which of the two encoders')
    parser.add_argument('--prefix', help='take what is below this prefix, or in this container, of the file')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Write one encoder's backbone without projector, predictor or classifier."""
    from mocox.checkpoint import convert, read

    given = (arguments.checkpoint, arguments.output, arguments.to, arguments.encoder)
    notes = convert(*given, backbone_only=True, prefix=arguments.prefix)
    summary = read(arguments.checkpoint, prefix=arguments.prefix).summary
    say(f'{arguments.output} written from {arguments.checkpoint}: {summary}', *(f'  {note}' for note in notes))
