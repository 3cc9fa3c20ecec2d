"""Console output of our tools: MMEngine's environment, config and hooks go to the log file only."""

import logging

from mmengine.logging import MMLogger
from mmengine.runner import Runner

# Warnings of MMEngine's own use of what it has deprecated itself.
NORMAL = ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias')


class _NoMonologue(logging.Filter):
    """Keeps what MMEngine says to itself off the console; scores of a validation or a test are no monologue."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.getMessage().startswith(NORMAL):
            return False
        of_mmengine = 'mmengine' in record.pathname and record.module not in ('logger_hook', 'logger')
        return record.levelno >= logging.WARNING or not of_mmengine  # `logger` is where print_log stands, for anybody


class QuietRunner(Runner):
    """MMEngine's ``Runner``, whose log file has all and whose console what a person reads."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """As MMEngine does."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(_NoMonologue())
        return logger
