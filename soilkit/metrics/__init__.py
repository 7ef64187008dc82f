"""Scores of every sensor first, then of strata and pairs of models, each with its interval."""

from soilkit.metrics.aggregate import block_means, summarize
from soilkit.metrics.anomalies import climatology, climatology_anomalies, window_anomalies
from soilkit.metrics.baselines import product_baseline, training_climatology, training_mean
from soilkit.metrics.calibration import interval_coverage, reliability, sharpness, spread_skill
from soilkit.metrics.comparison import compare, sensor_differences
from soilkit.metrics.conformal import Conformal
from soilkit.metrics.decomposition import spatial_parts
from soilkit.metrics.failures import class_differences, class_preferences, site_means
from soilkit.metrics.forecasts import (
    crps_gaussian,
    crps_quantiles,
    forecast_rows,
    pit_gaussian,
    pit_quantiles,
)
from soilkit.metrics.literature import beside_literature, literature_table
from soilkit.metrics.moving_block import block_bootstrap
from soilkit.metrics.own_time import at_own_time, score_both_ways
from soilkit.metrics.paired import paired_difference
from soilkit.metrics.paper import paper_strata, paper_table
from soilkit.metrics.paper_ensembles import ensembles_table
from soilkit.metrics.points import METRICS, point_scores
from soilkit.metrics.rescaling import rescale
from soilkit.metrics.seasons import season_of, season_scores
from soilkit.metrics.spatial import spatial_scores
from soilkit.metrics.stations import station_scores
from soilkit.metrics.tables import to_scores_table
from soilkit.metrics.traits import TraitSpace, trait_space
from soilkit.metrics.triple import shared_sources, triple_collocation, triplets_of
from soilkit.metrics.wins import class_points, normalized_wins, site_scores, top_shares, win_counts
from soilkit.metrics.worst import worst_stations

__all__ = [
    "METRICS",
    "Conformal",
    "TraitSpace",
    "at_own_time",
    "beside_literature",
    "block_bootstrap",
    "block_means",
    "class_differences",
    "class_points",
    "class_preferences",
    "climatology",
    "climatology_anomalies",
    "compare",
    "crps_gaussian",
    "crps_quantiles",
    "ensembles_table",
    "forecast_rows",
    "interval_coverage",
    "literature_table",
    "normalized_wins",
    "paired_difference",
    "paper_strata",
    "paper_table",
    "pit_gaussian",
    "pit_quantiles",
    "point_scores",
    "product_baseline",
    "reliability",
    "rescale",
    "score_both_ways",
    "season_of",
    "season_scores",
    "sensor_differences",
    "shared_sources",
    "sharpness",
    "site_means",
    "site_scores",
    "spatial_parts",
    "spatial_scores",
    "spread_skill",
    "station_scores",
    "summarize",
    "to_scores_table",
    "top_shares",
    "training_climatology",
    "training_mean",
    "trait_space",
    "triple_collocation",
    "triplets_of",
    "win_counts",
    "window_anomalies",
    "worst_stations",
]
