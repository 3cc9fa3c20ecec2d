"""A miniature of VOC 2007 in its published layout."""

import pytest

from mocox.datasets import VOC07Images, collate_views
from mocox.datasets.voc07 import CLASSES, find_voc07
from tests.support.voc_files import OBJECTS, write_voc

CROPS = dict(type='CenterCrop', size=8, resize=8)


@pytest.mark.parametrize('above', ['.', 'VOC2007', 'VOCdevkit/VOC2007'])
def test_labels_have_the_signs_of_the_challenge(tmp_path, above):
    write_voc(tmp_path / above, {'trainval': ['000005', '000012'], 'test': ['000007']})
    trainval = VOC07Images(str(tmp_path), CROPS, with_labels=True)
    assert len(trainval) == 2
    signs = {name: int(sign) for name, sign in zip(CLASSES, trainval[0]['label'])}
    assert signs.pop('chair') == 1  # one of them is not difficult
    assert signs.pop('dog') == 0
    assert set(signs.values()) == {-1}
    assert set(trainval[1]['label']) == {-1}
    test = VOC07Images(str(tmp_path), CROPS, split='test', with_labels=True)
    assert test[0]['label'].tolist() == [1 if name == 'car' else -1 for name in CLASSES]
    assert test.path(0).endswith('000007.jpg')
    assert int(test[0]['inputs'][0].float().mean().round()) == 40


def test_batches_have_a_row_of_labels_per_image(tmp_path):
    write_voc(tmp_path, {'trainval': list(OBJECTS)})
    dataset = VOC07Images(str(tmp_path), CROPS, with_labels=True)
    batch = collate_views([dataset[index] for index in range(3)])
    assert batch['label'].shape == (3, 20)
    assert 'label' not in VOC07Images(str(tmp_path), CROPS)[0]


def test_classes_are_the_20_of_the_challenge_in_order():
    assert len(CLASSES) == 20
    assert sorted(CLASSES) == CLASSES


def test_what_is_missing_or_wrong_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='no VOC 2007 in .*VOCdevkit/VOC2007'):
        VOC07Images(str(tmp_path), CROPS)
    assert find_voc07(str(tmp_path)) is None
    write_voc(tmp_path, {'trainval': ['000005']})
    with pytest.raises(FileNotFoundError, match="has no split 'test'"):
        VOC07Images(str(tmp_path), CROPS, split='test')
    annotation = tmp_path / 'Annotations' / '000005.xml'
    annotation.write_text(annotation.read_text().replace('chair', 'unicorn'))
    with pytest.raises(ValueError, match=r"000005.xml' has an object of class 'unicorn'"):
        VOC07Images(str(tmp_path), CROPS, with_labels=True)
    annotation.write_text('<annotation>')
    with pytest.raises(ValueError, match=r"000005.xml' is not a VOC annotation"):
        VOC07Images(str(tmp_path), CROPS, with_labels=True)
