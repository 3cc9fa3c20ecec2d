"""Two-dimensional embeddings of features, by other libraries."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

METHODS = ('pca', 'tsne', 'umap')
MIN_IMAGES = 4


def embed(features: np.ndarray, method: str = 'pca', seed: int = 0) -> np.ndarray:
    """Embed features in two dimensions, scaled to unit length as in the contrastive loss.

    Args:
        features: (N, C).
        method: ``pca`` (linear: distances mean something), ``tsne`` or ``umap`` (neighbours stay neighbours, distances
            between groups mean nothing).
        seed: Of t-SNE and UMAP.

    Returns:
        (N, 2).

    Raises:
        ImportError: ``umap`` without the library umap-learn.
        ValueError: Another method, fewer than 4 features, or some that are not finite.
    """
    if method not in METHODS:
        raise ValueError(f'method={method!r}: choose one of {", ".join(METHODS)}')
    if len(features) < MIN_IMAGES:
        raise ValueError(f'{len(features)} images are too few for a map: at least {MIN_IMAGES}')
    if not np.isfinite(features).all():
        raise ValueError('some features are NaN or infinite: the run has diverged, there is no map of them')
    unit = normalize(features)
    if method == 'pca':
        return PCA(n_components=2, random_state=seed).fit_transform(unit)
    if method == 'tsne':
        from sklearn.manifold import TSNE  # slow to import

        perplexity = min(30, (len(unit) - 1) / 3)
        return TSNE(2, perplexity=perplexity, metric='cosine', init='random', random_state=seed).fit_transform(unit)
    return _umap(unit, seed)


def _umap(unit: np.ndarray, seed: int) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError(f'method umap needs umap-learn ({error}): pip install umap-learn, or choose tsne') from None
    neighbours = min(15, len(unit) - 1)
    return UMAP(n_neighbors=neighbours, metric='cosine', init='random', random_state=seed, n_jobs=1).fit_transform(unit)
