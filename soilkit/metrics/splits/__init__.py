"""Who trains, who validates, who tests, and what such a split leaks.

The functions that split return a label per sample; ``audit`` says what a split keeps apart, and
refuses to call a result "unseen" that is not.
"""

from soilkit.metrics.splits.folds import LABELS as LABELS
from soilkit.metrics.splits.folds import block_ids as block_ids
from soilkit.metrics.splits.folds import by_block as by_block
from soilkit.metrics.splits.folds import by_network as by_network
from soilkit.metrics.splits.folds import by_row as by_row
from soilkit.metrics.splits.folds import by_sensor as by_sensor
from soilkit.metrics.splits.folds import by_station as by_station
from soilkit.metrics.splits.folds import chip_groups as chip_groups
from soilkit.metrics.splits.folds import folds as folds
from soilkit.metrics.splits.folds import training_distance_km as training_distance_km
from soilkit.metrics.splits.leakage import AuditReport as AuditReport
from soilkit.metrics.splits.leakage import audit as audit
