"""Anybody's predictions as our predictions table, with every doubt named."""

from soilkit.foreign.reader import read_predictions
from soilkit.foreign.stations import read_stations_list

__all__ = ["read_predictions", "read_stations_list"]
