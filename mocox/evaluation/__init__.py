"""How good a representation is, measured without fine-tuning it."""

from mocox.evaluation.encoder import Encoder, load_encoder
from mocox.evaluation.evaluate import evaluate
from mocox.evaluation.features import extract_features
from mocox.evaluation.inference import FeatureExtractor
from mocox.evaluation.knn import knn_classify, nearest_neighbours
from mocox.evaluation.protocols import PROTOCOLS, Result, Task

__all__ = [
    'PROTOCOLS',
    'Encoder',
    'FeatureExtractor',
    'Result',
    'Task',
    'evaluate',
    'extract_features',
    'knn_classify',
    'load_encoder',
    'nearest_neighbours',
]
