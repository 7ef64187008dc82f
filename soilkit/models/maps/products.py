"""A map as files that others open."""

import os

import xarray as xr

from soilkit.export import rasters
from soilkit.models.maps.windows import map_grid


def to_cog(
    dataset: xr.Dataset, path: str | os.PathLike[str], *, tags: dict[str, str] | None = None
) -> None:
    """Write a map's soil moisture as a cloud-optimised GeoTIFF, NaN = no data.

    ``tags`` are those of the file, such as the model, the data's hash, or that it is synthetic.
    """
    rasters.write_cog(
        path, dataset["soil_moisture"].values, grid=map_grid(dataset), tags=tags,
        names=["soil_moisture"], units=["m3 m-3"],
    )  # fmt: skip
