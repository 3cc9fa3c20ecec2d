"""The Dockerfile, line by line: no engine builds it here, so what can be read of it is checked."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / 'Dockerfile').read_text().replace('\\\n', ' ')
LINES = [line.split(maxsplit=1) for line in TEXT.splitlines() if line.strip() and not line.startswith('#')]


def test_stages_build_on_each_other_and_documents_name_them():
    stages: list[str] = []
    for source, name in (re.fullmatch(r'(\S+) AS (\S+)', rest).groups() for word, rest in LINES if word == 'FROM'):
        assert (source in stages) == bool(stages), f'{source} is neither an earlier stage nor the one base image'
        stages.append(name)
    named = re.findall(r'--target (\S+)', TEXT + (ROOT / 'docs' / 'install.md').read_text())
    assert set(named) == {'cpu', 'cuda'} <= set(stages)


def test_its_python_is_one_of_those_supported():
    image = re.search(r'^FROM python:(\d+)\.(\d+)-slim-(\w+) ', TEXT, re.MULTILINE)
    low, high = re.search(r'range\((\d+), (\d+)\)\),', (ROOT / 'setup.py').read_text()).groups()
    assert image[1] == '3' and int(low) <= int(image[2]) < int(high)
    assert image[3] == 'bookworm'  # later releases of Debian call libglib2.0-0 libglib2.0-0t64


def test_instructions_are_those_that_docker_knows():
    assert {word for word, _ in LINES} == {'FROM', 'RUN', 'ENV', 'WORKDIR', 'COPY', 'ENTRYPOINT', 'CMD'}
    assert 'mocox = mocox.__main__:main' in (ROOT / 'setup.py').read_text()
    assert [rest for word, rest in LINES if word == 'ENTRYPOINT'] == ['["mocox"]'] * 2


def test_what_setup_reads_is_copied():
    kept = [line[1:] for line in (ROOT / '.dockerignore').read_text().splitlines() if line.startswith('!')]
    setup = (ROOT / 'setup.py').read_text()
    read = {'setup.py', 'pyproject.toml', 'mocox', *re.search(r'^MIM = \((.*)\)$', setup, re.MULTILINE)[1].split(', ')}
    read |= {'README.md', 'LICENSE'}
    assert {name.strip("'") for name in read} <= set(kept)
    assert all((ROOT / name).exists() for name in kept)
