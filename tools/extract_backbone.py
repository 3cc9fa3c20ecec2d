"""Keep only a backbone's weights: ``python tools/extract_backbone.py CKPT OUT``."""

import argparse

from mocox.checkpoint import convert, read
from mocox.cli import run_tool


def main() -> None:
    """Writes one encoder's backbone without projector, predictor or classifier."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='any checkpoint that tools/inspect_checkpoint.py recognises')
    parser.add_argument('output', help='file to write (.pth or .safetensors)')
    parser.add_argument(
        '--to', default='openmmlab', choices=['openmmlab', 'timm', 'mocox'], help='naming of the tensors'
    )
    parser.add_argument('--encoder', default='query', choices=['query', 'momentum'], help='which of the two encoders')
    parser.add_argument('--prefix', help='take what is below this prefix, or in this container, of the file')
    args = parser.parse_args()
    notes = convert(args.checkpoint, args.output, args.to, args.encoder, backbone_only=True, prefix=args.prefix)
    print(
        '\n  '.join(
            [
                f'{args.output} written from {args.checkpoint}: {read(args.checkpoint, prefix=args.prefix).summary}',
                *notes,
            ]
        )
    )


if __name__ == '__main__':
    run_tool(main)
