"""The commands: what ``mocox NAME`` and the file of the same purpose in ``tools/`` do.

Each module has ``make_parser() -> ArgumentParser`` and ``run(arguments)``; what needs torch, which takes seconds to
import, is imported by the latter.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from mocox import cli
from mocox.terminal import escaped_output

# In the order in which a person meets them.
SUMMARIES = {
    'demo': 'pre-train on handwritten digits and evaluate, in minutes, on a CPU',
    'pretrain': 'pre-train on a folder of images, with what suits them and this machine',
    'doctor': 'examine images, speed, memory and settings before a training is started',
    'train': 'pre-train, or train a linear classifier, as a config says',
    'test': 'test a classifier as a config says',
    'evaluate': 'measure what a checkpoint has learned: k-NN, linear probe, few-shot and more',
    'features': 'write the features of images to a file',
    'predict': 'name the classes of new images, after a linear evaluation or fine-tuning',
    'search': 'find the images that are most similar to one',
    'report': 'write report.html, a page that says whether runs learn',
    'visualize': 'pictures of views, attention, neighbours and features',
    'inspect': 'say what a checkpoint is, or how large the model of a config',
    'extract': "keep only a backbone's weights",
    'convert': 'rewrite a checkpoint for another library',
    'configs': 'list, print and copy the recipes that came with mocox',
    'subset': 'write a fixed, stratified list of images',
    'lmdb': 'copy the images of a folder into one LMDB',
    'replay': 'repeat a training step that went wrong',
    'verify': 'replay a recorded run of the official code and compare every number',
}

AFTER_INTERRUPT = ': the same command with --resume at its end goes on from the newest checkpoint, if there is one'


def main(name: str, arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Run a command, and end the process with an exit code where it failed.

    Args:
        name: Of a module of this package.
        arguments: By default those of the process.
        prog: What the usage calls it; by default the file that was started.
    """
    command = import_module(f'{__name__}.{name}')
    parser: argparse.ArgumentParser = command.make_parser()
    parser.prog = prog or parser.prog
    with escaped_output():
        parsed = parser.parse_args(arguments)
    cli.run_tool(partial(command.run, parsed), AFTER_INTERRUPT if hasattr(parsed, 'resume') else '')
