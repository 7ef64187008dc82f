"""Static pictures of scores, series and chips: every axis with its unit, every title its data.

Each function takes tables of the contracts and returns a matplotlib figure. The caller writes the
title: it says "synthetic", or names the data that the numbers come from.
"""

from soilkit.show.plots.diagrams import (
    class_point_matrix,
    class_ratios,
    density_scatter,
    target_diagram,
    taylor_diagram,
    trait_plane,
    win_matrices,
)
from soilkit.show.plots.region_maps import (
    chip_panel,
    imagery_series,
    map_and_truth,
    moisture_range,
    overlay,
    region_panel,
    sample_gallery,
)
from soilkit.show.plots.reliability import (
    dissimilarity_histogram,
    dissimilarity_skill,
    distance_curves,
    reliability_lines,
    spread_skill,
)
from soilkit.show.plots.score_charts import (
    beside_paper,
    beside_works,
    class_table,
    error_parts,
    interval_dots,
    learning_curves,
    paper_table,
    strata_panels,
)
from soilkit.show.plots.series import series_panel, spatial_skill, station_record
from soilkit.show.plots.station_maps import (
    class_bars,
    difference_maps,
    distributions,
    score_maps,
    split_maps,
    station_density,
    station_map,
)
from soilkit.show.plots.style import live, readable, show
