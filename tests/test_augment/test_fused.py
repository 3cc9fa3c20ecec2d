"""The function for the compiler: on real photographs equal to the batched operations, as it stands and compiled."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch
from mmengine.config import Config
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mocox.augment.batched import augment
from mocox.augment.fused import augment_fused, fuse, pack_parameters, plan_of
from mocox.augment.opencv import SampleParameters, augment_image
from mocox.augment.recipe import JITTERS, OPERATIONS, Parameters, View, sample_parameters
from tests.support.photographs import crops, draws

NUM, SIZE = 48, 40
MEAN, STD = torch.tensor([120.0, 110.0, 100.0]).view(3, 1, 1), torch.tensor([60.0, 50.0, 40.0]).view(3, 1, 1)
JITTER = dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
DISTORTING = View(JITTER, 0.8, 0.2, 0.5, (0.1, 2.0), 0.2, 128.0, 0.5)


def levels(images: Tensor) -> Tensor:
    return images * STD + MEAN


def expected(view: View, seed: int = 1) -> Tensor:
    return augment(crops(NUM, SIZE).float(), sample_parameters(draws(NUM, seed), view), view)


def fused(view: View, seed: int = 1, run=augment_fused) -> Tensor:
    """The same by the function under test, in levels."""
    packed = pack_parameters(sample_parameters(draws(NUM, seed), view), view)
    return levels(run(crops(NUM, SIZE), packed, MEAN, STD, plan=plan_of(view)))


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=5e-3)


@pytest.mark.parametrize(
    'view',
    [
        *(View(color_jitter={name: 0.4}) for name in JITTERS),
        View(color_jitter=dict(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5)),
        View(color_jitter=dict(contrast=0.4), color_jitter_prob=0.5),
        View(grayscale_prob=0.5),
        View(blur_prob=0.5),
        View(blur_prob=1.0, blur_sigma=(0.1, 0.4)),
        View(solarize_prob=0.5),
        View(solarize_prob=1.0, solarize_threshold=10.5),
        View(flip_prob=0.5),
        View(),
    ],
)
def test_each_operation_equals_the_batched_one(view):
    assert_equal(fused(view), expected(view))


V1_ORDER = ('grayscale', 'color_jitter', 'blur', 'solarize', 'flip')
SCATTERED = ('color_jitter', 'flip', 'blur', 'grayscale', 'solarize')


@pytest.mark.parametrize('order', [OPERATIONS, V1_ORDER, SCATTERED])
def test_the_order_of_a_view(order):
    view = View(**{**vars(DISTORTING), 'order': order})
    assert_equal(fused(view), expected(view))


@pytest.mark.parametrize('name', ['mocov1', 'mocov2', 'mocov3', 'mocov3_32px'])
def test_the_shipped_recipes(name):
    for config in Config.fromfile(f'configs/_base_/views/{name}.py').data_preprocessor.views:
        view = View.from_config(config)
        assert_equal(fused(view), expected(view))


def test_operations_that_never_happen_are_no_part_of_the_program():
    plan = plan_of(View(dict(hue=0.1, contrast=0.0), 0.5, blur_prob=0.5, blur_sigma=(0.1, 1.0)))
    assert plan == (('color_jitter', 'blur'), ('hue',), 3, False)
    assert plan_of(View(JITTER, color_jitter_prob=0.0)).order == ()


def test_one_program_serves_all_numbers():
    """Traced once as a whole, with any other draws it gives the right pictures."""
    view = DISTORTING
    trace = torch.compile(augment_fused, backend='aot_eager', fullgraph=True, dynamic=False)
    torch._dynamo.reset()
    assert_equal(fused(view, 1, trace), expected(view, 1))
    with torch.compiler.set_stance('fail_on_recompile'):
        for seed in (2, 3):
            assert_equal(fused(view, seed, trace), expected(view, seed))


class Reads(TorchDispatchMode):
    """Counts values that go from the device to Python, and results whose shape depends on values."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        Reads.count += name in ('_local_scalar_dense', 'nonzero', 'masked_select', 'is_nonzero', 'equal')
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device():
    packed = pack_parameters(sample_parameters(draws(NUM), DISTORTING), DISTORTING)
    with Reads():
        torch.ones(1).item()
        assert Reads.count == 1  # it counts
        augment_fused(crops(NUM, SIZE), packed, MEAN, STD, plan_of(DISTORTING))
    assert Reads.count == 1


@pytest.mark.slow
def test_compiled_by_inductor():
    """MoCo v3's second view, with the backend that is used: equal, and no more than ten loops over the pixels."""
    from torch._inductor import metrics

    view = View.from_config(Config.fromfile('configs/_base_/views/mocov3.py').data_preprocessor.views[1])
    metrics.reset()
    actual = fuse(crops(NUM, SIZE), sample_parameters(draws(NUM), view), view, MEAN, STD)
    assert_equal(levels(actual), expected(view))
    assert 0 < metrics.generated_kernel_count <= 10


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_compiled_on_a_gpu_equals_cpu_and_never_waits():
    images, mean, std = crops(NUM, SIZE).cuda(), MEAN.cuda(), STD.cuda()
    run = partial(fuse, images, sample_parameters(draws(NUM), DISTORTING), DISTORTING, mean, std)
    run()  # compiles
    torch.cuda.set_sync_debug_mode('error')
    try:
        actual = run()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    torch.testing.assert_close(levels(actual.cpu()), expected(DISTORTING), rtol=0, atol=0.1)


FULL = plan_of(DISTORTING)
SUBSETS = ('none', 'some', 'all')  # of a batch take part in an operation


def of_subsets(view: View, subsets: tuple[str, ...], num: int) -> Parameters:
    """The parameters of ``num`` samples, of which each operation takes none, the first ones or all."""
    parameters = sample_parameters(draws(num, 2), view)
    chosen = {
        name: torch.arange(num) < dict(none=0, some=max(1, num // 2), all=num)[subset]
        for name, subset in zip(('jitter', 'grayscale', 'blur', 'solarize', 'flip'), subsets, strict=True)
    }
    return replace(parameters, **chosen)


@pytest.mark.parametrize('order', [OPERATIONS, V1_ORDER, SCATTERED])
@pytest.mark.parametrize('num', [1, 2, 3])
def test_every_subset_of_every_operation_in_every_executor(order, num):
    """One sample at a time is the reference: no operation may write into pixels that it shares with another."""
    view = View(JITTER, order=order)
    images = crops(num, 12)
    for subsets in itertools.product(SUBSETS, repeat=5):
        parameters = of_subsets(view, subsets, num)
        columns = vars(parameters)
        batched = augment(images.float(), parameters, view)
        alone = [
            augment(images[i : i + 1].float(), Parameters(**{k: v[i : i + 1] for k, v in columns.items()}), view)
            for i in range(num)
        ]
        torch.testing.assert_close(batched, torch.cat(alone), rtol=0, atol=1e-3)
        in_one = levels(
            augment_fused(images, pack_parameters(parameters, view), MEAN, STD, plan=FULL._replace(order=order))
        )
        assert (in_one - batched).abs().mean() < 1e-3
        for i in range(num):
            row = SampleParameters(*(columns[name][i].tolist() for name in SampleParameters._fields))
            picture = augment_image(images[i].permute(1, 2, 0).numpy(), row, view)
            difference = (torch.from_numpy(picture).permute(2, 0, 1) - batched[i]).abs()
            assert difference.mean() < 1.0, subsets  # whole levels, of which solarisation turns those at its edge
