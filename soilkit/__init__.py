"""Surface soil moisture at field scale: from in-situ archive to stamped report, in Jupyter.

Import the part that you need: ``from soilkit.export import insitu, join``. Nothing heavy is
imported here, so that ``import soilkit`` costs nothing.
"""

from soilkit._version import __version__

__all__ = ["__version__"]
