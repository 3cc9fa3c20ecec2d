"""Pictures of a model's input and of its features."""

from mocox.visualize.attention import attention_maps, overlay
from mocox.visualize.embedding import METHODS, embed
from mocox.visualize.schedule import schedule_chart, schedule_of
from mocox.visualize.sheets import (
    attention_sheet,
    embedding_map,
    neighbours_sheet,
    views_sheet,
)

__all__ = [
    'METHODS',
    'attention_maps',
    'attention_sheet',
    'embed',
    'embedding_map',
    'neighbours_sheet',
    'overlay',
    'schedule_chart',
    'schedule_of',
    'views_sheet',
]
