"""One HTML page that says whether a run learns, and shows it.

Nothing is imported here: the hook is registered before every run, and drawing needs what takes seconds to import.
"""
