"""Mutated inputs for every reader: ``python -m tests.fuzz --n 20000``."""
