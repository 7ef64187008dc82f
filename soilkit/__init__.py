"""Surface soil moisture at field scale: from in-situ archive to stamped report, in Jupyter.

Import the part that you need: ``from soilkit.export import insitu, join``. Nothing heavy is
imported here, so that ``import soilkit`` costs nothing.
"""

__version__ = "0.1.0"
