"""STAC: scenes, chips and series from any catalogue, and the synthetic world as one."""

from soilkit.archives.stac.archive import StacArchive
from soilkit.archives.stac.export import Layout, export_world

__all__ = ["Layout", "StacArchive", "export_world"]
