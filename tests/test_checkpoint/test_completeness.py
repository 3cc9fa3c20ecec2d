import pytest
import torch
from torch import nn

from mocox.checkpoint.completeness import require_same_model, tensor_difference


def test_every_difference_is_named():
    wanted = nn.BatchNorm1d(2).state_dict()
    given = dict(weight=torch.ones(3), bias=torch.ones(2), scale=torch.ones(1), running_mean=torch.ones(2))
    difference = tensor_difference(given, wanted)
    assert difference.missing == ['running_var']  # not num_batches_tracked, which old files lack
    assert difference.unexpected == ['scale']
    assert difference.wrong_shape == {'weight': '(3,) instead of (2,)'}
    assert difference.num_fitting == 2
    assert tensor_difference(wanted, wanted).lines() == []


def test_a_model_takes_all_or_nothing_through_a_wrapper():
    model = nn.Linear(2, 1)
    state = {f'module.{key}': value for key, value in model.state_dict().items()}
    require_same_model(dict(state_dict=state), model, 'x.pth')
    del state['module.bias']
    with pytest.raises(ValueError, match=r'x.pth does not fit the model of this config:\n  missing \(1\): bias'):
        require_same_model(state, model, 'x.pth')
