"""The recipes that came with mocox: ``mocox configs list``, ``print NAME``, ``copy NAME FILE``."""

import argparse
import ast
from pathlib import Path

from mocox import cli
from mocox.configs import find_config, open_config, shipped_configs
from mocox.terminal import say


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(prog='mocox configs', dest='action', required=True, metavar='ACTION')
    listing = actions.add_parser('list', help='names, each with a sentence')
    listing.add_argument('words', nargs='*', metavar='WORD', help='that name or sentence must contain')
    printing = actions.add_parser('print', help='all values, after inheritance')
    printing.add_argument('config', help='a name of the list, or a file')
    printing.add_argument(
        '--cfg-options', nargs='+', action=cli.OptionsAction, metavar='KEY=VALUE', help='change the config'
    )
    copying = actions.add_parser('copy', help='a file of your own that starts from a recipe')
    copying.add_argument('config', help='a name of the list')
    copying.add_argument('out', metavar='FILE', help='the file to write, which must not exist')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Print or write."""
    if arguments.action == 'list':
        print(list_recipes(arguments.words))
    elif arguments.action == 'print':
        from mocox.run.options import prepare_config

        print(prepare_config(arguments.config, cfg_options=arguments.cfg_options).pretty_text)
    else:
        copy_recipe(arguments.config, arguments.out)
        say(f'{arguments.out}: starts from {arguments.config}. Edit it, then: mocox train {arguments.out}')


def list_recipes(words: list[str]) -> str:
    """One line each.

    Raises:
        ValueError: None has all the words.
    """
    recipes = shipped_configs().items()
    found = {name: text for name, text in recipes if all(word.lower() in f'{name} {text}'.lower() for word in words)}
    if not found:
        raise ValueError(f'no recipe has {" and ".join(map(repr, words))} in its name or sentence')
    width = max(map(len, found))
    return '\n'.join(f'{name:<{width}}  {text}' for name, text in found.items())


def copy_recipe(name: str, out: str | Path) -> None:
    """Write a recipe with all that it inherits, so that the file stands alone.

    Raises:
        FileExistsError: ``out`` is there already.
    """
    config = open_config(name)
    if Path(out).exists():
        raise FileExistsError(f'{out} exists already: give the copy another name')
    docstring = ast.get_docstring(ast.parse(find_config(name).read_text(encoding='utf-8')), clean=False)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(f'"""{docstring}"""\n\n{config.pretty_text}', encoding='utf-8')
