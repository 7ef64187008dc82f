"""What the tests of the Earth Engine archive share: stations, requests, and what a chip must be."""

import dataclasses

import numpy as np
import pandas as pd

from soilkit import grids, sources
from soilkit.contracts import ChipRequest
from tests.stand_in_ee.oracle import expected_mosaic
from tests.stand_in_ee.rasters import Earth

JUNE = "2019-06-01", "2019-07-01"
PLACE = 36.4, -99.2  # latitude, longitude
# At the border of two radar slices, and of two UTM zones.
BETWEEN_SLICES, BETWEEN_ZONES = (36.55, -99.2), (36.4, -96.01)


def stations_table(*places):
    """A station a place (latitude, longitude), called A__0, A__1 and so on."""
    ids = [f"A__{k}" for k in range(len(places))]
    latitude, longitude = zip(*places, strict=True)
    return pd.DataFrame(
        {"sensor_id": ids, "station_id": ids, "latitude": latitude, "longitude": longitude}
    )


def chip_request(archive, scene, *, source, place=PLACE, size_px=48, **changes):
    """The request of a scene's chip with all of its bands."""
    row = sources.get(source)
    size_m = 10.0 if row.resolution == "high" else 160.0
    grid = grids.chip_grid(*place, size_px=size_px, pixel_size_m=size_m)
    time = scene.end.to_datetime64() if pd.notna(scene.end) else np.datetime64("NaT", "us")
    bands = tuple(band.name for band in row.bands)
    made = ChipRequest(
        source, scene.scene_id, scene.station_id, time, bands, grid, version=archive.version
    )
    return dataclasses.replace(made, **changes)


class PowerEarth(Earth):
    """The stand-in's Earth with backscatter as linear power."""

    def image(self, image_id):
        scene = super().image(image_id)
        return scene and dataclasses.replace(scene, bands=tuple(map(_as_power, scene.bands)))


def _as_power(band):
    if band.name not in ("VV", "VH"):
        return band
    return dataclasses.replace(
        band, kind="double", value=lambda scene, x, y: 10 ** (band.value(scene, x, y) / 10)
    )


def expected_chip(request, *, asset="", there="{band}", index=None):
    """A chip's values by the stand-in's own reckoning: (band, row, col), NaN where masked."""
    row = sources.get(request.source)
    layers = []
    for name in request.bands:
        smooth = row.band(name).continuous and row.resolution != "coarse"
        options = {"grid": request.grid, "method": "bilinear" if smooth else "nearest"}
        at = (asset or row.asset).format(band=name)
        scenes = request.scene_id.split("+") if index is None else [index]
        if name in ("VV", "VH"):
            power = expected_mosaic(at, scenes, name, earth=PowerEarth(), **options)
            layers.append(10 * np.log10(power))
        else:
            layers.append(expected_mosaic(at, scenes, there.format(band=name), **options))
    return np.stack(layers)
