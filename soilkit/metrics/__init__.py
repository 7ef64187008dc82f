"""Scores of every sensor first, then of strata and pairs of models, each with its interval."""

from soilkit.metrics.anomalies import (
    climatology,
    climatology_anomalies,
    rescale,
    season_of,
    season_scores,
    training_climatology,
    window_anomalies,
)
from soilkit.metrics.calibration import forecast_rows, reliability, spread_skill
from soilkit.metrics.collocation import shared_sources, triple_collocation, triplets_of
from soilkit.metrics.comparison import (
    class_points,
    compare,
    normalized_wins,
    paired_difference,
    site_scores,
    win_counts,
)
from soilkit.metrics.intervals import block_bootstrap
from soilkit.metrics.points import METRICS, point_scores
from soilkit.metrics.scores import block_means, station_scores, summarize, to_scores_table
from soilkit.metrics.spatial import (
    class_differences,
    class_preferences,
    site_means,
    spatial_parts,
    spatial_scores,
    worst_stations,
)

__all__ = [
    "METRICS",
    "block_bootstrap",
    "block_means",
    "class_differences",
    "class_points",
    "class_preferences",
    "climatology",
    "climatology_anomalies",
    "compare",
    "forecast_rows",
    "normalized_wins",
    "paired_difference",
    "point_scores",
    "reliability",
    "rescale",
    "season_of",
    "season_scores",
    "shared_sources",
    "site_means",
    "site_scores",
    "spatial_parts",
    "spatial_scores",
    "spread_skill",
    "station_scores",
    "summarize",
    "to_scores_table",
    "training_climatology",
    "triple_collocation",
    "triplets_of",
    "win_counts",
    "window_anomalies",
    "worst_stations",
]
