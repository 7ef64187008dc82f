"""Benchmarks against peers: one line each, ``python -m tests.benchmarks`` for all of them."""
