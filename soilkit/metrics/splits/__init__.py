"""Who trains, who validates, who tests, and what such a split leaks.

The functions that split return a label per sample; ``audit`` says what a split keeps apart, and
refuses to call a result "unseen" that is not.
"""

from soilkit.metrics.splits.folds import (
    BLOCK_SIZE_DEG,
    CHIP_SIDE_M,
    FRACTIONS,
    LABELS,
    block_ids,
    by_block,
    by_network,
    by_row,
    by_sensor,
    by_station,
    chip_groups,
    folds_by_block,
    folds_by_network,
    training_distance_km,
)
from soilkit.metrics.splits.leakage import AuditReport, Rules, audit

__all__ = [
    "AuditReport",
    "BLOCK_SIZE_DEG",
    "CHIP_SIDE_M",
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
    "folds_by_block",
    "folds_by_network",
    "training_distance_km",
]
