"""From a config to a ``Runner``: options, checks, and errors a person can act on."""
