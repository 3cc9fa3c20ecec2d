"""Bad inputs by the thousand: only stated errors come out, nothing hangs, nothing fills the memory.

``MOCOX_FUZZ_CASES=20000 pytest tests/test_fuzz`` tries that many cases per test, new ones every time; without it a few
hundred, always the same.
"""
