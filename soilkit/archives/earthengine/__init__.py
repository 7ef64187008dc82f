"""Earth Engine: scenes, chips and series of the real archives, asked for within its limits."""

from soilkit.archives.earthengine.archive import EarthEngineArchive
from soilkit.archives.earthengine.connecting import connect
from soilkit.archives.earthengine.work import Policy

__all__ = ["EarthEngineArchive", "Policy", "connect"]
