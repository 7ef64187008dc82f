"""Static pictures of scores, series and chips: every axis with its unit, every title its data.

Each function takes tables of the contracts and returns a matplotlib figure. The caller writes the
title: it says "synthetic", or names the data that the numbers come from.
"""

from soilkit.plots.compare import split_dots, split_maps
from soilkit.plots.dataset import (
    class_bars,
    distance_bars,
    distributions,
    station_density,
)
from soilkit.plots.maps import Overlay, map_and_truth, moisture_range, overlay, region_panel
from soilkit.plots.places import chip_panel, station_map
from soilkit.plots.record import imagery_series, sample_gallery, station_record
from soilkit.plots.scores import interval_dots, strata_bars
from soilkit.plots.series import density_scatter, series_panel
from soilkit.plots.strata import strata_panels
from soilkit.splits import training_distance_km

__all__ = [
    "Overlay",
    "chip_panel",
    "class_bars",
    "density_scatter",
    "distance_bars",
    "distributions",
    "imagery_series",
    "interval_dots",
    "map_and_truth",
    "moisture_range",
    "overlay",
    "region_panel",
    "sample_gallery",
    "series_panel",
    "split_dots",
    "split_maps",
    "station_density",
    "station_map",
    "station_record",
    "strata_bars",
    "strata_panels",
    "training_distance_km",
]
