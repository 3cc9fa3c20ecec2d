"""Checkpoints: read every layout by its content, load all of a backbone or nothing, write other libraries' formats."""

from mocox.checkpoint.loading import LoadReport, Pretrained, load_backbone
from mocox.checkpoint.reading import Checkpoint, read
from mocox.checkpoint.writing import TARGETS, convert, mocox_to_official, official_to_mocox

__all__ = [
    'TARGETS',
    'Checkpoint',
    'LoadReport',
    'Pretrained',
    'convert',
    'load_backbone',
    'mocox_to_official',
    'official_to_mocox',
    'read',
]
