"""Replay a recorded trace of the official MoCo with mocox, and compare every number.

    mocox verify tests/data/golden/v3_vit_adamw --precision float64 --out result.json

Exits 0 when every recorded number agrees within the tolerances that the trace states, else 1. Fields that are neither
compared nor used are listed with the reason.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('case', help='trace folder with case.json')
    parser.add_argument(
        '--precision', choices=['float64', 'float32'], default='float64', help='to compute in (default: float64)'
    )
    parser.add_argument('--out', help='write the result as JSON')
    parser.add_argument('--chunk-size', type=int, help='images per backbone pass')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Replay, print, compare."""
    from mocox.reference import Case, account, compare, replay

    case = Case.read(arguments.case, arguments.precision)
    result = replay(case, arguments.chunk_size)
    summary, worst = compare(case, result)
    print(f'{summary["case"]} in {arguments.precision}')
    print(f'step  {"our loss":>20}  {"recorded loss":>20}  relative difference')
    for step, (ours, recorded) in enumerate(zip(summary['losses'], summary['reference_losses'], strict=True)):
        print(f'{step:4d}  {ours:20.15f}  {recorded:20.15f}  {abs(ours - recorded) / abs(recorded):.1e}')
    print('\nlargest difference by group (relative; share of what is tolerated)')
    for check in worst:
        print(f'{check.group:22s} {check.difference:8.1e}  {check.share:8.1e}  {check.name}')
    reasons = account(case, result)
    print(f'\nfields of the trace: {len(reasons)}')
    for reason, count in Counter(reasons.values()).most_common():
        names = '' if reason in ('compared', 'used') else ': ' + ', '.join(k for k, v in reasons.items() if v == reason)
        print(f'{count:4d} {reason}{names}')
    print('PASSED' if summary['passed'] else 'FAILED')
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(summary, indent=1))
    sys.exit(0 if summary['passed'] else 1)
