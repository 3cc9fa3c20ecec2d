"""Compute what pre-training on many GPUs would take: ``python tools/forecast.py --gpus 8 64 1024``; docs/scale.md."""

import argparse

from mocox import cli

CONFIGS = [f'configs/mocov3/vit-{size}.py' for size in ('base', 'large', 'huge')]


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='*', default=CONFIGS, help='default: ViT-B, ViT-L and ViT-H of MoCo v3')
    parser.add_argument('--gpus', type=int, nargs='+', default=[8, 16, 32, 64, 128, 256, 512, 1024])
    parser.add_argument('--batch', type=int, default=4096, help='images per step, over all GPUs (default: 4096)')
    parser.add_argument('--images', type=int, default=1_281_167, help='in the data set (default: ImageNet-1k)')
    parser.add_argument('--epochs', type=int, default=300)
    parser.add_argument(
        '--assume', nargs='+', default=[], metavar='NAME=VALUE', help='such as utilisation=0.5 network_rate=20e9'
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        '--operations', action='store_true', help='one step on one H200 instead, operation by operation; --batch: there'
    )
    instead.add_argument(
        '--memory',
        action='store_true',
        help='peak of one step on one GPU instead, computed and counted; --batch: there',
    )
    parser.add_argument('--chunk-sizes', type=int, nargs='*', default=[], help='with --memory: besides no chunks')
    instead.add_argument(
        '--kernels', action='store_true', help='compile augmentation and a block for sm_80 and sm_90 instead; no GPU'
    )
    return parser


def main() -> None:
    """Print the tables; every assumption can be changed."""
    parser = make_parser()
    args = parser.parse_args()
    if args.chunk_sizes and not args.memory:
        parser.error('--chunk-sizes is read with --memory only: add that, or leave it out')

    if args.operations:
        from lab.benchmark.operations import report_steps

        print(report_steps(args.configs, args.batch))
        return
    if args.memory:
        from lab.benchmark.counted_memory import compare

        print(compare(args.configs, args.batch, args.chunk_sizes))
        return
    if args.kernels:
        from lab.benchmark.compiled_parts import report as report_kernels

        print(*report_kernels(args.configs), sep='\n\n')
        return
    from lab.benchmark.forecast import Assumptions, report  # imports torch, which takes a few seconds

    changed = dict(item.partition('=')[::2] for item in args.assume)
    unknown = set(changed) - set(vars(Assumptions()))
    if unknown:
        raise ValueError(f'--assume: nothing is called {sorted(unknown)}; there are {", ".join(vars(Assumptions()))}')
    assumed = Assumptions(**{name: float(value) for name, value in changed.items()})
    print(report(args.configs, args.gpus, args.batch, args.images, args.epochs, assumed))


if __name__ == '__main__':
    cli.run_tool(main)
