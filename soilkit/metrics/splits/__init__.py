"""Who trains, who validates, who tests, and what such a split leaks.

The functions that split return a label per sample; ``audit`` says what a split keeps apart, and
refuses to call a result "unseen" that is not.
"""

from soilkit.metrics.splits.folds import (
    BLOCK_SIZE_DEG,
    FRACTIONS,
    LABELS,
    block_ids,
    by_block,
    by_network,
    by_row,
    by_sensor,
    by_station,
    chip_groups,
    folds,
    training_distance_km,
)
from soilkit.metrics.splits.leakage import AuditReport, Rules, audit

__all__ = [
    "AuditReport",
    "BLOCK_SIZE_DEG",
    "FRACTIONS",
    "LABELS",
    "Rules",
    "audit",
    "block_ids",
    "by_block",
    "by_network",
    "by_row",
    "by_sensor",
    "by_station",
    "chip_groups",
    "folds",
    "training_distance_km",
]
