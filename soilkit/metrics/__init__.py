"""Scores of every sensor first, then of strata and pairs of models, each with its interval.

A table of predictions that breaks its contract raises ``ContractError``; ``stations`` is the table
of that contract, for places and classes, and ``seed`` makes draws anew, the same every time.
"""

from soilkit.metrics.anomalies import climatology as climatology
from soilkit.metrics.anomalies import climatology_anomalies as climatology_anomalies
from soilkit.metrics.anomalies import rescale as rescale
from soilkit.metrics.anomalies import season_of as season_of
from soilkit.metrics.anomalies import season_scores as season_scores
from soilkit.metrics.anomalies import training_climatology as training_climatology
from soilkit.metrics.anomalies import window_anomalies as window_anomalies
from soilkit.metrics.calibration import forecast_rows as forecast_rows
from soilkit.metrics.calibration import reliability as reliability
from soilkit.metrics.calibration import spread_skill as spread_skill
from soilkit.metrics.collocation import triple_collocation as triple_collocation
from soilkit.metrics.collocation import triplets_of as triplets_of
from soilkit.metrics.comparison import class_points as class_points
from soilkit.metrics.comparison import compare as compare
from soilkit.metrics.comparison import normalized_wins as normalized_wins
from soilkit.metrics.comparison import paired_difference as paired_difference
from soilkit.metrics.comparison import site_scores as site_scores
from soilkit.metrics.comparison import win_counts as win_counts
from soilkit.metrics.intervals import block_bootstrap as block_bootstrap
from soilkit.metrics.points import METRICS as METRICS
from soilkit.metrics.points import point_scores as point_scores
from soilkit.metrics.scores import block_means as block_means
from soilkit.metrics.scores import station_scores as station_scores
from soilkit.metrics.scores import summarize as summarize
from soilkit.metrics.scores import to_scores_table as to_scores_table
from soilkit.metrics.spatial.map_error import Field as Field
from soilkit.metrics.spatial.map_error import class_scores as class_scores
from soilkit.metrics.spatial.map_error import interval_coverage as interval_coverage
from soilkit.metrics.spatial.map_error import map_scores as map_scores
from soilkit.metrics.spatial.map_error import sampled_scores as sampled_scores
from soilkit.metrics.spatial.map_error import scale_scores as scale_scores
from soilkit.metrics.spatial.map_error import semivariogram as semivariogram
from soilkit.metrics.spatial.map_error import ubrmse_difference as ubrmse_difference
from soilkit.metrics.spatial.station_fields import class_differences as class_differences
from soilkit.metrics.spatial.station_fields import class_preferences as class_preferences
from soilkit.metrics.spatial.station_fields import site_means as site_means
from soilkit.metrics.spatial.station_fields import spatial_parts as spatial_parts
from soilkit.metrics.spatial.station_fields import spatial_scores as spatial_scores
from soilkit.metrics.spatial.station_fields import worst_stations as worst_stations
