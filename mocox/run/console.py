"""Console output of our tools: MMEngine's environment, config and hooks go to the log file only."""

import logging

from mmengine.logging import MMLogger
from mmengine.runner import Runner

# Warnings of MMEngine's own use of what it has deprecated itself.
NORMAL = ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias')


class _NoMonologue(logging.Filter):
    """Keep MMEngine's own log records off the console, except scores of a validation or a test."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.getMessage().startswith(NORMAL):
            return False
        of_mmengine = 'mmengine' in record.pathname and record.module not in ('logger_hook', 'logger')
        return record.levelno >= logging.WARNING or not of_mmengine  # `logger`: print_log's


class QuietRunner(Runner):
    """MMEngine's ``Runner`` with a full log file and a short console."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Build MMEngine's logger, and filter its console."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(_NoMonologue())
        return logger
