"""The processes of a run: how they start, meet, and end together."""

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: start this run again; it was asked to leave, or lost another process
