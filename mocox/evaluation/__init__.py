"""Evaluation of frozen representations."""

from mocox.evaluation.encoder import Encoder, load_encoder
from mocox.evaluation.features import extract_from_loader
from mocox.evaluation.inference import FeatureExtractor, extract_features
from mocox.evaluation.knn import knn_classify, nearest_neighbours
from mocox.evaluation.protocols import PROTOCOLS
from mocox.evaluation.realms import evaluate
from mocox.evaluation.task import Result, Task

__all__ = [
    'PROTOCOLS',
    'Encoder',
    'FeatureExtractor',
    'Result',
    'Task',
    'evaluate',
    'extract_features',
    'extract_from_loader',
    'knn_classify',
    'load_encoder',
    'nearest_neighbours',
]
