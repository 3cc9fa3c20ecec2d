"""What is chosen for which images and machine, by hand from the tables; and the tables of the docs."""

import re
from pathlib import Path

import pytest

from mocox.auto import EPOCHS, RECIPES, TABLE, Machine, choose, fitting_batch, rate_in_words
from mocox.commands.pretrain import MODELS
from mocox.recipe import Recipe

DOCS = (Path(__file__).parents[1] / 'docs' / 'own_images.md').read_text()
LAPTOP, SMALL, LARGE = Machine('CPU', 0, 2), Machine('GPU', 16, 8, 'T4'), Machine('GPU', 80, 64, 'A100')


@pytest.mark.parametrize(
    ('num_images', 'side', 'machine', 'expected'),
    [
        (300, 256, LAPTOP, ('resnet18', 96, 32, None, None, 1, False)),
        (300, 64, Machine('CPU', 0, 16), ('resnet18', 64, 32, None, None, 4, False)),
        (20, 100, LAPTOP, ('resnet18', 96, 8, None, None, 1, False)),
        (300, 500, SMALL, ('resnet18', 128, 64, None, 400, 8, True)),
        (8_000, 500, SMALL, ('vit-small', 224, 512, 64, 300, 8, True)),
        (8_000, 100, Machine('GPU', 6, 4), ('vit-tiny', 96, 256, 64, 300, 4, True)),
        (50_000, 224, LARGE, ('vit-small', 224, 512, 64, 200, 8, True)),
        (200_000, 400, LARGE, ('vit-base', 224, 1024, 128, 100, 8, True)),
    ],
)
def test_choice(num_images, side, machine, expected):
    plan = choose(num_images, side, machine)
    chosen = (plan.model, plan.image_size, plan.batch_size, plan.chunk_size, plan.epochs, plan.workers, plan.amp)
    assert chosen == expected
    assert set(plan.reasons) == {'model', 'image_size', 'batch_size', 'epochs', 'workers', 'amp'}


@pytest.mark.parametrize(('num', 'most', 'batch'), [(300, 64, 64), (255, 64, 32), (5, 64, 8), (4096, 512, 512)])
def test_the_batch_is_a_quarter_of_the_images_at_most(num, most, batch):
    assert fitting_batch(num, most) == batch


@pytest.mark.parametrize(('speed', 'epochs'), [(30.0, 60), (1.0, 10), (1e4, 400)])
def test_epochs_on_a_cpu_take_ten_minutes(speed, epochs):
    plan = choose(300, 256, LAPTOP)
    plan.fit_epochs(300, speed)  # 600 s x 30 / 300 = 60
    assert plan.epochs == epochs


@pytest.mark.parametrize('machine', [LAPTOP, LARGE])
def test_the_config_says_what_the_plan_says(machine, tmp_path):
    plan = choose(200_000, 256, machine)
    config = plan.prepare(str(tmp_path), tmp_path / 'out', seed=3)
    recipe = Recipe(config)
    assert (recipe.crops['size'], recipe.batch_size) == (plan.image_size, plan.batch_size)
    assert config.randomness.seed == 3
    assert config.work_dir == str(tmp_path / 'out')
    if machine is LARGE:
        assert recipe.backbone.arch == 'base' and recipe.backbone.img_size == 224
        assert config.model.chunk_size == 128
        assert recipe.peak_lr == pytest.approx(6e-4)  # the paper's, for 1,024 images
        assert config.optim_wrapper.type == 'mocox.AmpOptimWrapper'


def test_the_docs_show_the_tables():
    cells = [
        [cell.strip() for cell in line.strip('|').split('|')] for line in DOCS.splitlines() if line.startswith('|')
    ]
    rows = [tuple(row) for row in cells if row[0] in ('CPU', 'GPU')]
    assert rows == [
        (row.device, f'{row.memory_gb} GB', f'{row.num_images:,}', row.model, str(row.image_size), str(row.batch_size),
         str(row.chunk_size or '-')) for row in TABLE
    ]  # fmt: skip
    numbers = [tuple(row) for row in cells if len(row) == 2 and re.fullmatch(r'[\d,]+', row[0])]
    assert numbers == [(f'{least:,}', str(epochs)) for least, epochs in EPOCHS]


def test_the_command_knows_the_models():
    assert set(MODELS) == set(RECIPES)


def test_processes_share_the_batch():
    plan = choose(8_000, 500, LARGE)  # a batch of 512, 8 workers
    plan.share(4)
    assert (plan.batch_size, plan.workers) == (128, 2)
    assert plan.reasons['batch_size'].startswith('for each of 4 processes; at most')
    for processes in (0, 3, 128):
        with pytest.raises(ValueError, match=f'processes={processes}: must be at least 1 and divide the batch of 128'):
            plan.share(processes)


def test_a_slow_machine_is_not_said_to_stand_still():
    assert [rate_in_words(rate) for rate in (0.04, 0.36, 9.94, 10.4, 1234)] == ['0.04', '0.36', '9.9', '10', '1,234']


def test_no_epochs_are_refused_and_not_replaced(tmp_path):
    plan = choose(300, 256, LAPTOP)
    plan.epochs = 0
    with pytest.raises(ValueError, match='--epochs must be at least 1, got 0'):
        plan.prepare(str(tmp_path), tmp_path / 'out', seed=0)
