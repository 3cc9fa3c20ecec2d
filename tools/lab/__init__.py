"""The instruments of the developers: benchmarks, forecasts, fault injection. Not part of an installation."""
