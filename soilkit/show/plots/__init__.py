"""Static pictures of scores, series and chips: every axis with its unit, every title its data.

Each function takes tables of the contracts and returns a matplotlib figure. The caller writes the
title: it says "synthetic", or names the data that the numbers come from.
"""

from soilkit.show.plots.diagrams import class_point_matrix as class_point_matrix
from soilkit.show.plots.diagrams import class_ratios as class_ratios
from soilkit.show.plots.diagrams import density_scatter as density_scatter
from soilkit.show.plots.diagrams import target_diagram as target_diagram
from soilkit.show.plots.diagrams import taylor_diagram as taylor_diagram
from soilkit.show.plots.diagrams import trait_plane as trait_plane
from soilkit.show.plots.diagrams import win_matrices as win_matrices
from soilkit.show.plots.region_maps import chip_panel as chip_panel
from soilkit.show.plots.region_maps import cube_ages as cube_ages
from soilkit.show.plots.region_maps import cube_panel as cube_panel
from soilkit.show.plots.region_maps import imagery_series as imagery_series
from soilkit.show.plots.region_maps import layer_page as layer_page
from soilkit.show.plots.region_maps import map_and_truth as map_and_truth
from soilkit.show.plots.region_maps import moisture_range as moisture_range
from soilkit.show.plots.region_maps import overlay as overlay
from soilkit.show.plots.region_maps import sample_gallery as sample_gallery
from soilkit.show.plots.region_maps import world_place as world_place
from soilkit.show.plots.reliability import dissimilarity_histogram as dissimilarity_histogram
from soilkit.show.plots.reliability import dissimilarity_skill as dissimilarity_skill
from soilkit.show.plots.reliability import distance_curves as distance_curves
from soilkit.show.plots.reliability import reliability_lines as reliability_lines
from soilkit.show.plots.reliability import spread_skill as spread_skill
from soilkit.show.plots.score_charts import beside_paper as beside_paper
from soilkit.show.plots.score_charts import beside_works as beside_works
from soilkit.show.plots.score_charts import class_table as class_table
from soilkit.show.plots.score_charts import error_parts as error_parts
from soilkit.show.plots.score_charts import interval_dots as interval_dots
from soilkit.show.plots.score_charts import learning_curves as learning_curves
from soilkit.show.plots.score_charts import paper_table as paper_table
from soilkit.show.plots.score_charts import series_panel as series_panel
from soilkit.show.plots.score_charts import spatial_skill as spatial_skill
from soilkit.show.plots.score_charts import station_record as station_record
from soilkit.show.plots.score_charts import strata_panels as strata_panels
from soilkit.show.plots.score_charts import training_curve as training_curve
from soilkit.show.plots.station_maps import class_bars as class_bars
from soilkit.show.plots.station_maps import difference_maps as difference_maps
from soilkit.show.plots.station_maps import distributions as distributions
from soilkit.show.plots.station_maps import join_funnel as join_funnel
from soilkit.show.plots.station_maps import score_maps as score_maps
from soilkit.show.plots.station_maps import split_maps as split_maps
from soilkit.show.plots.station_maps import station_density as station_density
from soilkit.show.plots.station_maps import station_map as station_map
from soilkit.show.plots.style import live as live
from soilkit.show.plots.style import readable as readable
from soilkit.show.plots.style import show as show
