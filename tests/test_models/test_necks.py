"""NonLinearNeck against mmpretrain's class and its own formula."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from mocox.models.necks import NonLinearNeck, project_views

BN = dict(type='BN1d')


def layers(neck: NonLinearNeck) -> list[str]:
    return [name for name, _ in neck.named_children()]


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (dict(num_layers=1, with_last_bn=False), ['fc0']),
        (dict(num_layers=1), ['fc0', 'bn0']),
        (dict(num_layers=2, with_last_bn=False), ['fc0', 'bn0', 'fc1']),
        (dict(num_layers=3), ['fc0', 'bn0', 'fc1', 'bn1', 'fc2', 'bn2']),
    ],
)
def test_layers(arguments, expected):
    assert layers(NonLinearNeck(4, 6, 3, norm_cfg=BN, **arguments)) == expected


def test_one_layer_has_the_output_width():
    neck = NonLinearNeck(4, 6, 3, num_layers=1, with_last_bn=False, with_last_bias=True, norm_cfg=BN)
    x = torch.randn(5, 4)
    assert torch.equal(neck((x,))[0], nn.functional.linear(x, neck.fc0.weight, neck.fc0.bias))


def test_equals_mmpretrain_with_the_same_weights():
    from mmpretrain.models.necks import NonLinearNeck as Reference

    arguments = dict(
        in_channels=4, hid_channels=6, out_channels=3, num_layers=3, with_last_bn_affine=False, norm_cfg=BN
    )
    ours, reference = NonLinearNeck(**arguments).double(), Reference(**arguments).double()
    reference.load_state_dict(ours.state_dict())  # same names, all of them
    x = torch.randn(5, 4, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(ours((x,))[0], reference((x,))[0], rtol=1e-14, atol=1e-14)


def test_last_norm_has_no_affine_parameters():
    neck = NonLinearNeck(4, 6, 3, with_last_bn_affine=False, norm_cfg=BN)
    assert neck.bn0.affine and not neck.bn1.affine


def test_no_layers_is_an_error():
    with pytest.raises(ValueError, match='num_layers=0'):
        NonLinearNeck(4, 6, 3, num_layers=0)


def test_an_input_of_another_width_is_an_error():
    with pytest.raises(ValueError, match='in_channels=4 of a NonLinearNeck, but its input has 5 channels'):
        NonLinearNeck(4, 6, 3)(torch.randn(2, 5))


@pytest.mark.parametrize('shape', [(6, 5), (6, 5, 2, 2)])
def test_views_together_equal_one_at_a_time(shape):
    """Outputs, gradients and running statistics; BatchNorm over both views at once would give others."""
    torch.manual_seed(0)
    together = NonLinearNeck(5, 7, 3, num_layers=3, norm_cfg=BN).double()
    apart = deepcopy(together)
    views = [torch.randn(shape).double(), 2 + torch.randn(shape).double()]
    outputs = [apart(view)[0] for view in views]
    results = project_views(together, views)
    for result, output in zip(results, outputs, strict=True):
        torch.testing.assert_close(result, output, rtol=1e-12, atol=1e-12)
    for z in (outputs, results):
        (z[0] * z[1].roll(1, 0)).sum().backward()
    for (name, a), b in zip(apart.named_parameters(), together.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-11, msg=name)
    for a, b in zip(apart.buffers(), together.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
