"""In-situ archives and tables to the stations and observations tables."""

from soilkit.insitu.reader import read_counts, read_ismn, read_stations

__all__ = ["read_counts", "read_ismn", "read_stations"]
