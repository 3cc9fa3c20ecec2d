"""Rewrite a checkpoint for another library: ``python tools/convert_checkpoint.py IN OUT --to timm``."""

import argparse

from mocox.checkpoint import TARGETS, convert, read
from mocox.cli import run_tool


def main() -> None:
    """Converts one file, prints what it was and how to load the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', help='any checkpoint that tools/inspect_checkpoint.py recognises')
    parser.add_argument('output', help='file to write (.pth or .safetensors); a directory for transformers')
    parser.add_argument('--to', required=True, choices=TARGETS, help='format of the output')
    parser.add_argument('--encoder', default='query', choices=['query', 'momentum'], help='which of the two encoders')
    parser.add_argument('--heads', type=int, help='number of attention heads, where the file does not say it')
    parser.add_argument('--prefix', help='take what is below this prefix, or in this container, of the file')
    args = parser.parse_args()
    notes = convert(args.input, args.output, args.to, args.encoder, args.heads, prefix=args.prefix)
    print(
        '\n  '.join(
            [f'{args.output} written from {args.input}: {read(args.input, prefix=args.prefix).summary}', *notes]
        )
    )


if __name__ == '__main__':
    run_tool(main)
