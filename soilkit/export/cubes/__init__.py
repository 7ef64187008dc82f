"""Cubes: any region's layers on one grid over time, in a zarr store that xarray opens."""

from soilkit.export.cubes.mosaic import build as build
from soilkit.export.cubes.mosaic import losses as losses
from soilkit.export.cubes.mosaic import moments_of as moments_of
from soilkit.export.cubes.mosaic import open_cube as open_cube
from soilkit.export.cubes.mosaic import plan as plan
from soilkit.export.cubes.regions import region_of as region_of
