"""SMAP over Western Australia as the coarse target of the composite loss: grid, gaps, fill values.

``python -m tests.benchmarks.smap_australia NC CSV`` lays ``cubes/smap_w_australia_2020.nc`` on 1 km
pixels of the EASE-Grid 2.0, takes the 9 km cells back from them and writes a row a day: how many
cells there are and are known, the largest difference from the file, and the correlation of D of the
pixels with the cells.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

from soilkit import grids
from soilkit.export import archives, cubes
from soilkit.export.archives.local import Layer
from soilkit.files import csv_text, write_text_whole
from soilkit.models.composite_unet import coarsened
from soilkit.models.datasets import coarse_cells, whole_cells

BOX = (117.0, -30.5, 118.5, -29.5)
DAYS = pd.date_range("2020-01-02", periods=8)  # a day's values are known when it is over


def drawn(path, folder, *, days=DAYS, shift_deg=0.0):
    """SMAP of the box on whole cells of 1 km pixels, and the file's values at their centres.

    Both are (time, row, col); ``shift_deg`` moves the file's longitudes.
    """
    with xr.open_dataset(path) as file:
        data = file.load()
    moved = data.assign_coords(lon=data.lon + shift_deg)
    layer = Layer(moved, bands={"soil_moisture_am": "sm"}, unit="m3 m-3")
    archive = archives.open_archive("local", layers={"smap_l3_005": layer})
    cube = cubes.build(
        BOX, archive, folder, crs=grids.EASE2_CRS, pixel_size_m=1000, times=days,
        sources={"smap_l3_005": ["soil_moisture_am"]}, progress=False,
    )  # fmt: skip
    layer = whole_cells(cube).load()["smap_l3_005_soil_moisture_am"]
    x_m, y_m = np.meshgrid(layer["x"].to_numpy()[4::9], layer["y"].to_numpy()[4::9])
    degrees = grids.transformer(grids.EASE2_CRS, "EPSG:4326").transform(x_m.ravel(), y_m.ravel())
    at = {n: xr.DataArray(v, dims="p") for n, v in zip(("lon", "lat"), degrees, strict=True)}
    before = pd.DatetimeIndex(days) - pd.Timedelta("1D")
    expected = data.sm.sel(t=before).sel(at, method="nearest").to_numpy()
    return layer, expected.reshape(len(before), *x_m.shape)


def main(source, target):
    """Write the rows by day."""
    with tempfile.TemporaryDirectory() as folder:
        layer, expected = drawn(source, Path(folder) / "cube")
    cells, fine = coarse_cells(layer), torch.from_numpy(layer.to_numpy())
    means = coarsened(fine.nan_to_num(), fine.isfinite()).numpy()
    rows = []
    for day, ours, file, wide in zip(DAYS, cells, expected, means, strict=True):
        known = np.isfinite(ours)
        same = np.array_equal(known, np.isfinite(file))
        rows.append({
            "day": f"{day - pd.Timedelta('1D'):%Y-%m-%d}", "n_cells": known.size,
            "known_share": known.mean(), "gaps_as_in_the_file": "yes" if same else "no",
            "largest_difference_m3_m3": np.abs(ours - file)[known].max(initial=0.0),
            "r_of_d": np.corrcoef(wide[known], ours[known])[0, 1] if known.sum() > 2 else np.nan,
        })  # fmt: skip
    table = pd.DataFrame(rows).round(5)
    write_text_whole(Path(target), csv_text(table))
    return table


if __name__ == "__main__":
    sys.stdout.write(main(*sys.argv[1:]).to_string() + "\n")
