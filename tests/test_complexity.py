"""Parameters and FLOPs of recipes, against counts by hand."""

import json
import re
from pathlib import Path

import pytest

from mocox.__main__ import main
from mocox.complexity import measure_parts
from mocox.run.options import prepare_config


def parts_of(name, **changes):
    parts, shape = measure_parts(prepare_config(name, **changes))
    return {part.name: part for part in parts}, shape


def test_a_vision_transformer_is_counted_as_by_hand():
    """ViT-S/16 at 96 px: 36 patches and the class token, 12 blocks of width 384; a product costs two."""
    parts, shape = parts_of('mocov3/vit-small.py', image_size=96)
    tokens, width, blocks, patch = 37, 384, 12, 3 * 16 * 16
    linear = tokens * (3 + 1 + 4 + 4) * width**2  # qkv, projection, two layers of the MLP
    attention = 2 * tokens**2 * width
    assert shape == (3, 96, 96)
    assert parts['backbone'].flops == 2 * ((tokens - 1) * patch * width + blocks * (linear + attention))
    assert parts['neck'].flops == 2 * (384 * 4096 + 4096 * 4096 + 4096 * 256)
    assert parts['head'].flops == 2 * (256 * 4096 + 4096 * 256)
    assert parts['momentum_encoder'].flops == parts['backbone'].flops + parts['neck'].flops
    frozen = patch * width + width + tokens * width  # the patch projection, and the positions
    assert parts['backbone'].parameters - parts['backbone'].trained == frozen
    assert parts['momentum_encoder'].trained == 0


def test_a_resnet_has_its_published_size():
    parts, _ = parts_of('mocov2/resnet50_200e.py')
    assert parts['backbone'].parameters == 25_557_032 - 2048 * 1000 - 1000  # torchvision's, without its classifier
    assert parts['backbone'].flops == pytest.approx(2 * 4.09e9, rel=2e-3)  # torchvision states 4.09 G products


def test_the_command_prints_what_is_counted(capsys):
    main(['inspect', '--config', 'mocov3/vit-tiny_digits_linear.py', '--json'])
    told = json.loads(capsys.readouterr().out)
    assert told['image'] == [3, 16, 16]
    assert [(part['name'], part['trained'], part['flops']) for part in told['parts'][1:]] == [('head', 970, 2 * 960)]
    main(['inspect', '--config', 'mocov3/vit-tiny_digits.py', '--image-size', '32'])
    shown = capsys.readouterr().out
    assert '32 x 32 px with 3 channels' in shown and 'NonLinearNeck' in shown


def test_a_file_and_a_config_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        main(['inspect', 'FILE', '--config', 'mocov3/vit-small.py'])
    assert 'not allowed with argument' in capsys.readouterr().err


def test_the_table_of_costs_follows_from_the_counts():
    """Two views, each forward, backward and through the momentum encoder; then images, epochs and rate."""
    page = (Path(__file__).parents[1] / 'docs' / 'own_images.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| ([\d,]+) \| (\d+) \| (\S+) \| (\d+) px \| ([\d.]+) \|(.*)\|$', page, re.MULTILINE)
    assert len(rows) == 6
    counted = {}
    for images, epochs, network, side, stated, times in rows:
        if network not in counted:
            parts, _ = parts_of(f'mocov3/{network}_custom.py', image_size=int(side))
            encoder = parts['backbone'].flops + parts['neck'].flops
            counted[network] = 2 * (3 * (encoder + parts['head'].flops) + encoder) / 1e9
        assert float(stated) == pytest.approx(counted[network], rel=2e-3)
        work = int(images.replace(',', '')) * int(epochs) * counted[network]
        for cell, rate in zip(times.split('|'), (175, 20e3, 100e3), strict=True):
            number, unit = cell.split()
            digits = len(number.partition('.')[2])
            seconds = dict(min=60, h=3600, days=86400)[unit]
            assert float(number) == pytest.approx(work / rate / seconds, abs=0.51 * 10**-digits)
