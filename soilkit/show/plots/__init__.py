"""Static pictures of scores, series and chips: every axis with its unit, every title its data.

Each function takes tables of the contracts and returns a matplotlib figure. The caller writes the
title: it says "synthetic", or names the data that the numbers come from.
"""

from soilkit.metrics.splits import training_distance_km
from soilkit.show.plots.diagrams import (
    class_point_matrix,
    class_ratios,
    target_diagram,
    taylor_diagram,
    trait_plane,
    win_matrices,
)
from soilkit.show.plots.domain import (
    class_bars,
    dissimilarity_histogram,
    dissimilarity_skill,
    distance_bars,
    distance_curves,
    distributions,
    outside_map,
    station_density,
)
from soilkit.show.plots.region_maps import (
    Overlay,
    error_parts,
    map_and_truth,
    moisture_range,
    overlay,
    region_panel,
    spatial_skill,
)
from soilkit.show.plots.reliability import (
    coverage_dots,
    pit_histograms,
    reliability_lines,
    spread_skill,
)
from soilkit.show.plots.score_charts import (
    beside_paper,
    beside_works,
    interval_dots,
    learning_curves,
    paper_table,
    split_dots,
    split_maps,
    strata_bars,
    strata_panels,
)
from soilkit.show.plots.series import (
    density_scatter,
    imagery_series,
    sample_gallery,
    season_dots,
    series_panel,
    station_record,
)
from soilkit.show.plots.station_maps import chip_panel, difference_maps, score_maps, station_map
from soilkit.show.plots.style import readable

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
    "paper_table",
    "pit_histograms",
    "readable",
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
