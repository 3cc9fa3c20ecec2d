import os
import sys

import numpy as np
import pytest

from mocox.visualize.embedding import embed


def groups(num: int = 20) -> np.ndarray:
    """Two groups of directions in 6 dimensions; their lengths mean nothing."""
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(6)[:2], num, axis=0)
    return (centres + 0.05 * rng.normal(size=centres.shape)) * rng.uniform(1, 9, (2 * num, 1))


@pytest.mark.parametrize('method', ['pca', 'tsne'])
def test_groups_stay_groups(method):
    points = embed(groups(), method)
    assert points.shape == (40, 2)
    one, other = points[:20], points[20:]
    spread = max(np.linalg.norm(part - part.mean(axis=0), axis=1).mean() for part in (one, other))
    assert np.linalg.norm(one.mean(axis=0) - other.mean(axis=0)) > 2 * spread
    np.testing.assert_array_equal(points, embed(groups(), method))  # the same every time


def test_pca_is_the_projection_on_the_largest_singular_vectors():
    unit = groups() / np.linalg.norm(groups(), axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(embed(groups())), np.abs(left[:, :2] * values[:2]), atol=1e-9)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="method='lda': choose one of pca, tsne, umap"):
        embed(groups(), 'lda')
    with pytest.raises(ValueError, match='3 images are too few'):
        embed(groups()[:3])
    with pytest.raises(ValueError, match='NaN or infinite'):
        embed(np.full((9, 2), np.nan))


def test_without_umap_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'umap', None)
    with pytest.raises(ImportError, match='pip install umap-learn'):
        embed(groups(), 'umap')


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get('MOCOX_UMAP') != '1', reason='compiles for a minute; MOCOX_UMAP=1 runs it')
def test_umap_keeps_groups_too():
    pytest.importorskip('umap')
    points = embed(groups(), 'umap')
    distance = np.linalg.norm(points[:20].mean(axis=0) - points[20:].mean(axis=0))
    assert points.shape == (40, 2) and distance > 2
