"""Static pictures of scores, series and chips: every axis with its unit, every title its data.

Each function takes tables of the contracts and returns a matplotlib figure. The caller writes the
title: it says "synthetic", or names the data that the numbers come from.
"""

from soilkit.plots.places import chip_panel, station_map
from soilkit.plots.scores import interval_dots, strata_bars
from soilkit.plots.series import density_scatter, series_panel

__all__ = [
    "chip_panel",
    "density_scatter",
    "interval_dots",
    "series_panel",
    "station_map",
    "strata_bars",
]
