"""Trials that take longer than a test may: each is a program (``python -m tests.faults.NAME --help``), and a sample of
each runs with the tests. docs/reliability.md says what came of them."""
