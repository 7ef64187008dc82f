"""ISMN archives to the stations and observations tables; other files are read by export.tables."""

from soilkit.export.insitu.ismn import citations as citations
from soilkit.export.insitu.reader import read_counts as read_counts
from soilkit.export.insitu.reader import read_ismn as read_ismn
from soilkit.export.insitu.reader import read_stations as read_stations
