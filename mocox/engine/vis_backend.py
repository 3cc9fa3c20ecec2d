"""Log files on a disk that may be full."""

import logging
from typing import Any

from mmengine.logging import print_log
from mmengine.visualization import vis_backend

from mocox.registry import VISBACKENDS


@VISBACKENDS.register_module()
class LocalVisBackend(vis_backend.LocalVisBackend):
    """MMEngine's backend, in which a line that cannot be written does not end a training.

    The first line that fails is a warning with the path; lines are written again as soon as they can be, and those in
    between are missing from ``scalars.json``. Checkpoints hold the whole history.
    """

    is_failing = False

    def _dump(self, value_dict: dict[str, Any], file_path: str, file_format: str) -> None:
        try:
            super()._dump(value_dict, file_path, file_format)
            self.is_failing = False
        except OSError as error:
            if not self.is_failing:
                text = f'{file_path} could not be written: {error}. Training continues; free space, or mount it again.'
                print_log(text, logger='current', level=logging.ERROR)
            self.is_failing = True
