"""Real radar and optical images pass through a STAC catalogue to UTM chips."""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.warp import reproject
from scipy.ndimage import map_coordinates

from soilkit import grids, sources
from soilkit.contracts import Chip, ChipRequest
from soilkit.export.archives.stac import StacArchive
from tests import helpers_stac as make

FOLDER = Path(os.environ.get("SOILKIT_TEST_DATA") or "absent") / "chips"
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no real images: SOILKIT_TEST_DATA names no folder with chips/"
)
PERIOD = "2015-01-01", "2022-01-01"


def item_of(item_id, collection, *, paths, time, bands=None, **properties):
    """An item over a file's extent; ``paths`` by asset key, ``bands`` of a file of several."""
    with rasterio.open(next(iter(paths.values()))) as file:
        to_lonlat = Transformer.from_crs(file.crs, "EPSG:4326", always_xy=True)
        left, bottom, right, top = file.bounds
        x, y = to_lonlat.transform([left, right, right, left], [bottom, bottom, top, top])
    ring = [[a, b] for a, b in zip(x, y, strict=True)]
    area = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    assets = {k: {"href": p, **({"bands": bands} if bands else {})} for k, p in paths.items()}
    return make.item(item_id, collection, geometry=area, time=time, assets=assets, **properties)


def middle(item):
    west, south, east, north = item["bbox"]
    return (south + north) / 2, (west + east) / 2


def chip_of(archive, item, *, source, bands, size_px):
    """The chip in the middle of an item, in the UTM zone of the place."""
    place = middle(item)
    row = archive.scenes(make.stations(A__1=place), source, *PERIOD).iloc[0]
    grid = grids.chip_grid(*place, size_px=size_px, pixel_size_m=10.0)
    asked = ChipRequest(source, row.scene_id, "A__1", row.end.to_datetime64(), bands, grid)
    [(_, chip)] = archive.chips([asked])
    assert isinstance(chip, Chip), chip
    return chip


def interpolated(path, number, *, grid, power=False, nodata=None):
    """Scipy's bilinear interpolation at pyproj's coordinates; NaN beside unknown pixels."""
    with rasterio.open(path) as file:
        stored = file.read(number).astype(float)
        stored[stored == nodata] = np.nan
        x, y = np.meshgrid(grid.x_m, grid.y_m)
        x, y = Transformer.from_crs(grid.crs, file.crs, always_xy=True).transform(x, y)
        cols, rows = (np.asarray(v) for v in ~file.transform @ (x, y))
    values = 10 ** (stored / 10) if power else stored
    found = map_coordinates(values, (rows - 0.5, cols - 0.5), order=1, cval=np.nan)
    return 10 * np.log10(found) if power else found


def warped(path, number, *, grid, power=False, nodata=None):
    """The whole image warped by rasterio alone, power for radar."""
    with rasterio.open(path) as file:
        stored = file.read(number).astype("float32")
        stored[stored == nodata] = np.nan
        out = np.full((grid.height, grid.width), np.nan, dtype="float32")
        reproject(
            10 ** (stored / 10) if power else stored, out,
            src_crs=file.crs, src_transform=file.transform, src_nodata=np.nan,
            dst_crs=grid.crs, dst_transform=rasterio.Affine(*grid.transform), dst_nodata=np.nan,
            resampling=Resampling.bilinear,
        )  # fmt: skip
    return 10 * np.log10(out) if power else out


def assert_registered(values, wanted):
    """Alike, and more alike in place than a pixel to any side."""

    def likeness(rows, cols):
        moved = np.roll(wanted, (rows, cols), axis=(0, 1))
        known = np.isfinite(values) & np.isfinite(moved)
        return np.corrcoef(values[known], moved[known])[0, 1]

    in_place = likeness(0, 0)
    assert in_place > 0.97
    assert in_place > max(likeness(*side) for side in ((0, 1), (1, 0), (0, -1), (-1, 0))) + 0.01


@pytest.fixture(scope="module")
def spain(tmp_path_factory):
    """A radar (dB) and an optical (L1C) image of one place in degrees, several bands a file."""
    folder = FOLDER / "sen1floods11"
    radar = next((folder / "S1").glob("*.tif"))
    optical = next((folder / "S2").glob("*.tif"))
    with rasterio.open(optical) as file:
        names = [{"name": name} for name in file.descriptions]
    items = [
        item_of("spain_s1", "sentinel-1", paths={"image": radar}, time="2019-09-17T18:02:00Z",
                bands=[{"name": "VV", "unit": "dB"}, {"name": "VH", "unit": "dB"}]),
        item_of("spain_s2", "sentinel-2-l1c", paths={"image": optical},
                time="2019-09-18T10:50:00Z", bands=names),
    ]  # fmt: skip
    path = make.write_catalogue(tmp_path_factory.mktemp("spain"), items)
    archive = StacArchive(path, collections={"sentinel1": "sentinel-1"})
    return archive, items, radar, optical


def test_a_radar_image_in_degrees_becomes_a_utm_chip(spain):
    archive, items, radar, _ = spain
    chip = chip_of(archive, items[0], source="sentinel1", bands=("VV", "VH"), size_px=256)
    assert chip.grid.crs == "EPSG:32630" and chip.valid_fraction > 0.99
    for n, values in enumerate(chip.values, start=1):
        wanted = warped(radar, n, grid=chip.grid, power=True)
        np.testing.assert_allclose(values, wanted, atol=1e-3)
        assert_registered(values, interpolated(radar, n, grid=chip.grid, power=True))
    vv, vh = (np.nanmedian(band) for band in chip.values)
    assert -25 < vv < -3 and 3 < vv - vh < 15


def test_an_optical_image_in_degrees_becomes_a_utm_chip(spain):
    archive, items, _, optical = spain
    bands = ("B2", "B3", "B4", "B8", "B11", "B12")
    chip = chip_of(archive, items[1], source="sentinel2", bands=bands, size_px=256)
    with rasterio.open(optical) as file:
        numbers = [file.descriptions.index(band) + 1 for band in bands]
    for n, values in zip(numbers, chip.values, strict=True):
        np.testing.assert_allclose(values, warped(optical, n, grid=chip.grid, nodata=0), atol=0.05)
        assert_registered(values, interpolated(optical, n, grid=chip.grid, nodata=0))
    reflectance = np.nanmedian(chip.values, axis=(1, 2)) * sources.get("sentinel2").bands[0].scale
    assert ((reflectance > 0.01) & (reflectance < 0.6)).all()


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    """Six pairs of patches, one band a file, in zones 29, 33 and 35; optics at 10 and 20 m."""
    folder = tmp_path_factory.mktemp("patches")
    for packed in (FOLDER / "bigearthnet").glob("*.tar.bz2"):
        with tarfile.open(packed) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # from 3.11.4 on
            archive.extractall(folder)
    items = []
    for patch in sorted(folder.glob("*/S[12]*")):
        radar = "_IW_" in patch.name
        told = json.loads(next(patch.glob("*_labels_metadata.json")).read_text())
        time = told["acquisition_time" if radar else "acquisition_date"].replace(" ", "T") + "Z"
        keys = {p: p.stem.rpartition("_")[2] for p in patch.glob("*.tif")}
        paths = {key.lower() if radar else key: p for p, key in keys.items()}
        collection = "sentinel-1" if radar else "sentinel-2-l2a"
        items.append(item_of(patch.name, collection, paths=paths, time=time))
    path = make.write_catalogue(folder / "stac", items)
    return StacArchive(path, collections={"sentinel1": "sentinel-1"}, footprint_m=1200), items


def test_patches_of_several_zones_become_chips_with_sane_values(patches):
    archive, items = patches
    zones = set()
    for item in items:
        radar = item["collection"] == "sentinel-1"
        source = "sentinel1" if radar else "sentinel2"
        bands = ("VV", "VH") if radar else ("B2", "B3", "B4", "B8", "B11", "B12")
        chip = chip_of(archive, item, source=source, bands=bands, size_px=112)
        zones.add(chip.grid.crs)
        assert chip.valid_fraction > 0.9, item["id"]
        middle_value = np.nanmedian(chip.values, axis=(1, 2))
        if radar:
            assert -25 < middle_value[0] < 0 and middle_value[1] < middle_value[0] - 3
        else:
            assert (middle_value > 30).all() and (middle_value < 7000).all()
    assert len(zones) >= 3 and len(items) == 12


def test_twenty_metre_bands_are_interpolated_onto_ten(patches):
    """B11 of a patch whose zone is the chip's own, against scipy, and B2 pixel for pixel."""
    archive, items = patches
    item = next(i for i in items if "87_48" in i["id"] and i["collection"] == "sentinel-2-l2a")
    chip = chip_of(archive, item, source="sentinel2", bands=("B2", "B11"), size_px=112)
    wanted = interpolated(item["assets"]["B11"]["href"], 1, grid=chip.grid)
    known = np.isfinite(wanted)
    assert known.mean() > 0.9
    np.testing.assert_allclose(chip.values[1][known], wanted[known], atol=1.0)
    wanted = interpolated(item["assets"]["B02"]["href"], 1, grid=chip.grid)
    np.testing.assert_allclose(chip.values[0], wanted, atol=1e-3)
