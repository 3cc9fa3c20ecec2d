"""One HTML page that says whether a run learns, and shows it."""

from mocox.report.page import describe_environment, render, write_report
from mocox.report.pictures import Pictures, from_checkpoint, from_model, pairs_of
from mocox.report.runs import Run, name_runs, read_run
from mocox.report.verdict import Verdict, judge

__all__ = [
    'Pictures',
    'Run',
    'Verdict',
    'describe_environment',
    'from_checkpoint',
    'from_model',
    'judge',
    'name_runs',
    'pairs_of',
    'read_run',
    'render',
    'write_report',
]
