"""Replaying recorded traces of the official implementations, number by number.

A trace is a folder with ``case.json`` (hyper-parameters, expected numbers, tolerances) and safetensors files (initial
state in the official naming, the inputs of every step, the final state, probe outputs). The replay is an ordinary
config run by MMEngine's Runner: only the data set is unusual.
"""

from mocox.reference.case import Case
from mocox.reference.comparison import account, compare
from mocox.reference.replays import replay

__all__ = ['Case', 'account', 'compare', 'replay']
