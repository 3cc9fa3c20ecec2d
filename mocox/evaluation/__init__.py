"""How good a representation is, measured without fine-tuning it."""

from mocox.evaluation.features import extract_features
from mocox.evaluation.knn import knn_classify, nearest_neighbours

__all__ = ['extract_features', 'knn_classify', 'nearest_neighbours']
