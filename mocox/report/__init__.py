"""The report: one HTML page that says and shows whether a run learns.

Nothing is imported here: the hook is registered before every run, and drawing needs what takes seconds to import.
"""
