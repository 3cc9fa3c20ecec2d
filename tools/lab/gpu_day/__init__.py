"""Everything that is open for a GPU, in stages that can be interrupted and continued."""
