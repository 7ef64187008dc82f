"""ISMN archives to the stations and observations tables; other files are read by export.tables."""

from soilkit.export.insitu.ismn import citations
from soilkit.export.insitu.reader import read_counts, read_ismn, read_stations

__all__ = [
    "citations",
    "read_counts",
    "read_ismn",
    "read_stations",
]
