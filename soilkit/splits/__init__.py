"""Who trains, who validates, who tests, and what such a split leaks.

The functions that split return a label per sample; ``audit`` says what a split keeps apart, and
refuses to call a result "unseen" that is not.
"""

from soilkit.splits.audit import Rules, audit
from soilkit.splits.labels import (
    FRACTIONS,
    LABELS,
    by_block,
    by_network,
    by_row,
    by_sensor,
    by_station,
    folds_by_block,
    folds_by_network,
)
from soilkit.splits.places import (
    BLOCK_SIZE_DEG,
    CHIP_SIDE_M,
    block_ids,
    chip_groups,
    training_distance_km,
)
from soilkit.splits.report import AuditReport

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
