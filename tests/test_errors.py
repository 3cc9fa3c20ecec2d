import pytest
from mmengine.registry import build_from_cfg
from torch.utils.data import DataLoader, Dataset

from mocox.errors import explain
from mocox.registry import MODELS


class Base:
    def __init__(self, depth, width):
        pass


class Closed(Base):
    def __init__(self, arch):
        super().__init__(1, 2)


class Open(Base):
    def __init__(self, *, arch, **kwargs):
        super().__init__(**kwargs)


@pytest.mark.parametrize(('component', 'hint'), [(Closed, 'it takes arch'), (Open, 'did you mean depth?')])
def test_arguments_of_a_parent_class_count_if_they_are_passed_on(component, hint):
    with pytest.raises(TypeError) as caught:
        build_from_cfg(dict(type=component, arch=1, deph=2), MODELS)
    assert explain(caught.value) == f"{component.__name__} has no argument 'deph'; {hint}"


class Failing(Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise ValueError('data/x.png has no pixels:\nremove it')


def test_errors_of_workers_are_unwrapped():
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        list(DataLoader(Failing(), num_workers=1))
    assert explain(caught.value) == 'data/x.png has no pixels:\nremove it'
