"""In-situ archives and tables to the stations and observations tables."""

from soilkit.insitu.labels import compare_labels, differing_windows, ten_day_labels
from soilkit.insitu.reader import citations, read_counts, read_ismn, read_stations
from soilkit.insitu.tables import read_table, read_uscrn_daily

__all__ = [
    "citations",
    "compare_labels",
    "differing_windows",
    "read_counts",
    "read_ismn",
    "read_stations",
    "read_table",
    "read_uscrn_daily",
    "ten_day_labels",
]
