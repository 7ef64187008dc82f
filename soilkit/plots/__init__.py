"""Static pictures of scores, series and chips: every axis with its unit, every title its data.

Each function takes tables of the contracts and returns a matplotlib figure. The caller writes the
title: it says "synthetic", or names the data that the numbers come from.
"""

from soilkit.metrics.splits import training_distance_km
from soilkit.plots.calibration import coverage_dots, pit_histograms, reliability_lines, spread_skill
from soilkit.plots.compare import split_dots, split_maps
from soilkit.plots.dataset import class_bars, distance_bars, distributions, station_density
from soilkit.plots.diagrams import target_diagram, taylor_diagram
from soilkit.plots.distances import distance_curves
from soilkit.plots.domain import dissimilarity_histogram, dissimilarity_skill, outside_map
from soilkit.plots.heads import class_point_matrix, win_matrices
from soilkit.plots.maps import Overlay, map_and_truth, moisture_range, overlay, region_panel
from soilkit.plots.places import chip_panel, station_map
from soilkit.plots.published_scores import beside_works
from soilkit.plots.record import imagery_series, sample_gallery, station_record
from soilkit.plots.scores import interval_dots, strata_bars
from soilkit.plots.seasons import season_dots
from soilkit.plots.series import density_scatter, series_panel
from soilkit.plots.spatial import error_parts, spatial_skill
from soilkit.plots.station_maps import difference_maps, score_maps
from soilkit.plots.strata import strata_panels
from soilkit.plots.study import beside_paper, learning_curves
from soilkit.plots.traits import class_ratios, trait_plane

__all__ = [
    "Overlay",
    "beside_paper",
    "beside_works",
    "chip_panel",
    "class_bars",
    "class_point_matrix",
    "class_ratios",
    "coverage_dots",
    "density_scatter",
    "difference_maps",
    "dissimilarity_histogram",
    "dissimilarity_skill",
    "distance_bars",
    "distance_curves",
    "distributions",
    "error_parts",
    "imagery_series",
    "interval_dots",
    "learning_curves",
    "map_and_truth",
    "moisture_range",
    "outside_map",
    "overlay",
    "pit_histograms",
    "region_panel",
    "reliability_lines",
    "sample_gallery",
    "score_maps",
    "season_dots",
    "series_panel",
    "spatial_skill",
    "split_dots",
    "split_maps",
    "spread_skill",
    "station_density",
    "station_map",
    "station_record",
    "strata_bars",
    "strata_panels",
    "target_diagram",
    "taylor_diagram",
    "training_distance_km",
    "trait_plane",
    "win_matrices",
]
