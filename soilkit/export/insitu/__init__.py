"""In-situ archives and tables to the stations and observations tables."""

from soilkit.export.insitu.reader import citations, read_counts, read_ismn, read_stations

__all__ = [
    "citations",
    "read_counts",
    "read_ismn",
    "read_stations",
]
