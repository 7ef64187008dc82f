"""Anybody's predictions as our predictions table, with every doubt named."""

from soilkit.foreign.reader import read_predictions

__all__ = ["read_predictions"]
