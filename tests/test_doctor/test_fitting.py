"""A run that takes days, or a step that does not fit, comes with flags under which it does; by hand."""

from dataclasses import replace

import pytest

from mocox.doctor.fitting import check_time
from mocox.doctor.speed import Speed, check_speed, fitting_batch
from mocox.recipe import Recipe
from mocox.run.options import prepare_config

SPEED = Speed('CPU', 2, 50.0, 5.0, 8, 1, 50.0, 'step', 1, 5.0, 60.0, 4000.0, 10**7)


def test_a_run_of_days_comes_with_the_flags_of_hours():
    recipe = Recipe(prepare_config('mocov3/vit-small_custom'), 1, 10_000)
    found = check_time(recipe, SPEED)
    # (96 / 224)^2 of 60 hours are 11
    assert found.fix.startswith('--image-size 96 --arch tiny: 11 hours or less')
    assert check_time(recipe, replace(SPEED, hours=24.0)) is None
    fix = check_time(recipe, replace(SPEED, hours=400.0)).fix  # 73.5 hours at 96 px: 24 / 73.5 of 300 epochs are 98
    assert fix.startswith('--image-size 96 --arch tiny --epochs 98: 24 hours')
    words = fix.partition(':')[0].split()
    flags = dict(zip([word.strip('-').replace('-', '_') for word in words[::2]], words[1::2]))
    config = prepare_config('mocov3/vit-small_custom', arch=flags['arch'], image_size=96, epochs=int(flags['epochs']))
    assert config.train_cfg.max_epochs == 98


def test_a_small_recipe_is_made_shorter_only():
    recipe = Recipe(prepare_config('mocov3/resnet18_custom', image_size=64), 1, 10_000)
    assert check_time(recipe, replace(SPEED, hours=48.0)).fix.startswith('--epochs 150: 24 hours')


@pytest.mark.parametrize(('batch', 'free', 'fitting'), [(64, 2000, 32), (64, 3900, 32), (256, 500, 32), (4, 10, 2)])
def test_the_batch_that_fits(batch, free, fitting):
    assert fitting_batch(batch, 4000, free) == fitting


def test_a_step_that_does_not_fit_names_the_batch_that_does():
    (found,) = check_speed(SPEED, 2500.0, is_vit=False, batch_size=64)
    assert found.check == 'memory' and found.fix == '--amp; or --batch-size 32'
