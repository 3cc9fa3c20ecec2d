"""``python -m mocox.processes`` starts the processes of one machine; see ``tools/dist_train.sh``."""

import sys

from mocox.processes.launch import launch

sys.exit(launch(sys.argv[1:]))
