"""Measures mocox, alone or side by side with a peer in one process; see ``tools/benchmark.py``."""
