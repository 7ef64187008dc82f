"""The catalogue of input layers: one row a layer, and how long a scene of it stays usable."""

from soilkit.sources.catalogue import CATALOGUE, bounds, duration, get
from soilkit.sources.model import Band, Linear, LogSigmoid, Source

__all__ = ["CATALOGUE", "Band", "Linear", "LogSigmoid", "Source", "bounds", "duration", "get"]
