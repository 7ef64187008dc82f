"""The synthetic world as a STAC catalogue gives the dataset that the world itself gives."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
from scipy.ndimage import map_coordinates

from soilkit import grids, sources
from soilkit.contracts import Chip, ChipRequest
from soilkit.errors import StoreError
from soilkit.export import chips, features, insitu, join, rasters
from soilkit.export.archives import SyntheticArchive
from soilkit.export.archives.stac import StacArchive
from soilkit.export.chips import packing_of
from tests import world_catalogue
from tests.world_catalogue import export_world

NAMES = ["sentinel1", "sentinel2", "dem", "soilgrids", "smap", "gldas"]
IMAGES = NAMES[:4]
BANDS = {"sentinel2": ("B2", "B3", "B4", "B8", "B11", "B12")}
PERIOD = "2019-04-01", "2019-07-01"
SIZE_PX = 64


@dataclasses.dataclass
class Dataset:
    samples: pd.DataFrame
    drops: pd.DataFrame
    features: pd.DataFrame
    store: chips.ChipStore


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An archive, its in-situ readings and stations, and a folder."""
    folder = tmp_path_factory.mktemp("road")
    archive = SyntheticArchive(
        seed=0, n_stations=2, revisit_days=12, start="2019-01-01", end="2019-08-01"
    )
    zipped = archive.world.write_ismn(folder / "ismn.zip")
    stations = insitu.read_stations(zipped)
    readings = insitu.read_ismn(zipped)
    readings = readings[readings.time.between(*PERIOD, inclusive="left")]
    return archive, stations, readings, folder


@pytest.fixture(scope="module")
def catalogue(world):
    archive, stations, _, folder = world
    return export_world(
        archive, folder / "stac", stations=stations, period=PERIOD,
        size_px=SIZE_PX, progress=False,
    )  # fmt: skip


def road(archive, world):
    """From readings to predictors, as notebook 10 goes."""
    _, stations, readings, folder = world
    begin, end = pd.Timestamp(PERIOD[0]) - pd.Timedelta("20D"), pd.Timestamp(PERIOD[1])
    found = [archive.scenes(stations, name, begin, end) for name in NAMES]
    scenes = pd.concat(found, ignore_index=True)
    bounds = {n: pd.Timedelta(age) for n, age in sources.bounds("sentinel1", NAMES).items()}
    joined = join.anchored_join(
        readings, scenes, stations, bounds=bounds, max_cloud_fraction={"sentinel2": 0.3}
    )
    path = folder / f"{archive.name}.zarr"
    samples, lost = chips.build(
        joined.samples, archive, path, stations=stations, sources=IMAGES, bands=BANDS,
        size_px=SIZE_PX, progress=False,
    )  # fmt: skip
    store = chips.open_store(path)
    scalars = [
        features.from_series(samples, archive.series(stations, name, begin, end), name)
        for name in ("smap", "gldas")
    ]
    table = features.combine(*scalars, features.from_chips(samples, store))
    drops = pd.concat([joined.drops, lost], ignore_index=True)
    return Dataset(samples, drops, table, store)


@pytest.fixture(scope="module")
def both(world, catalogue):
    """The same road from the world itself and from its catalogue."""
    return road(world[0], world), road(StacArchive(catalogue), world)


def test_both_roads_give_the_same_samples(both):
    """The same sensors, times, labels and ages: scene ids alone differ, by the station."""
    here, there = both
    keys = ["sample_id", "sensor_id", "station_id", "time", "soil_moisture_m3_m3"]
    keys += [f"{name}_age_hours" for name in NAMES]
    assert len(here.samples) > 10
    pd.testing.assert_frame_equal(here.samples[keys], there.samples[keys], check_exact=True)
    for mine, its in zip(here.samples.sentinel1_scene, there.samples.sentinel1_scene, strict=True):
        assert str(its).startswith(str(mine))


def test_both_roads_drop_the_same_readings_for_the_same_reasons(both):
    def counted(drops):
        return drops.groupby(["sensor_id", "source", "reason"], observed=True)["count"].sum()

    pd.testing.assert_series_equal(counted(both[0].drops), counted(both[1].drops))


def test_chips_of_both_roads_differ_by_one_packing_step_at_most(both):
    """On the chips' own grid nothing is resampled: a rendered margin moves the last digit."""
    here, there = both
    rows = zip(here.samples.itertuples(), there.samples.itertuples(), strict=True)
    for mine, its in rows:
        for name in IMAGES:
            scene = f"{name}_scene"
            one = here.store.read(name, str(getattr(mine, scene)), str(mine.station_id)).values
            two = there.store.read(name, str(getattr(its, scene)), str(its.station_id)).values
            step = packing_of(sources.get(name)).scale
            np.testing.assert_array_equal(np.isnan(one), np.isnan(two))
            np.testing.assert_allclose(one, two, atol=1.001 * step)


def test_predictors_of_both_roads_are_the_same(both):
    here, there = (one.features.drop(columns="sample_id") for one in both)
    scale = here.abs().mean()
    assert ((here - there).abs().max() / scale).max() < 1e-3
    coarse = ["smap_ssm", "gldas_SoilMoi0_10cm_inst"]
    pd.testing.assert_frame_equal(here[coarse], there[coarse], check_exact=True)


def test_an_export_goes_on_where_it_stopped(world, tmp_path, monkeypatch):
    """Broken off after ten files it keeps what stands, and a second run writes only the rest."""
    archive, stations, _, _ = world
    options = {"stations": stations, "period": ("2019-05-01", "2019-06-01"), "size_px": SIZE_PX}
    options |= {"sources": ("sentinel1", "gldas")}
    written, write = [], rasters.write_cog

    def breaks(path, *args, **more):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *args, **more)

    monkeypatch.setattr(rasters, "write_cog", breaks)
    with pytest.raises(KeyboardInterrupt):
        export_world(archive, tmp_path, progress=False, **options)
    first = set(written)
    assert not (tmp_path / "catalog.json").exists()

    def counts(path, *args, **more):
        written.append(path)
        write(path, *args, **more)

    monkeypatch.setattr(rasters, "write_cog", counts)
    path = export_world(archive, tmp_path, progress=False, **options)
    assert len(set(written)) == len(written) and first < set(written)
    whole = export_world(archive, tmp_path / "whole", progress=False, **options)
    assert StacArchive(path).version == StacArchive(whole).version
    files = {p.relative_to(path.parent): p.read_bytes() for p in path.parent.glob("s*/*.tif")}
    again = {p.relative_to(whole.parent): p.read_bytes() for p in whole.parent.glob("s*/*.tif")}
    assert files == again


def test_an_export_of_another_world_does_not_mix_with_what_stands(world, catalogue):
    archive, stations, _, _ = world
    other = SyntheticArchive(seed=1, n_stations=2, start="2019-01-01", end="2019-08-01")
    for mine, size_px in ((other, SIZE_PX), (archive, 32)):
        with pytest.raises(StoreError, match="holds an export of"):
            export_world(mine, catalogue.parent, stations=stations, period=PERIOD, size_px=size_px)


def test_an_export_of_an_older_format_or_a_damaged_one_is_refused(world, tmp_path):
    """An older version would have written other files under the same names."""
    archive, stations, _, _ = world
    older = json.dumps({"world": archive.version, "size_px": SIZE_PX})
    for words, said in ((older, "'format': 2"), ("{", "export.json is damaged")):
        (tmp_path / "export.json").write_text(words)
        with pytest.raises(StoreError, match=said):
            export_world(archive, tmp_path, stations=stations, period=PERIOD, size_px=SIZE_PX)


def test_the_catalogue_is_valid_stac_and_says_that_it_is_synthetic(catalogue):
    root = pystac.Catalog.from_file(str(catalogue))
    assert "ynthetic" in root.title
    found = {one.id: one for one in root.get_children()}
    assert set(found) == {*NAMES, "modis_lai"}
    for name, collection in found.items():
        collection.stac_extensions = []
        if name in ("sentinel1", "gldas"):
            collection.validate()
        assert collection.title.startswith("Synthetic")
        assert collection.providers[0].name == "soilkit synthetic"
        first = next(collection.get_items())
        first.stac_extensions = []  # their schemas lie on the network
        if name in ("sentinel1", "gldas"):
            first.validate()
        assert first.properties["soilkit:synthetic"], name
        for asset in first.assets.values():
            grid = rasters.grid_of(asset.get_absolute_href())
            assert grid.crs == first.properties["proj:code"]


def test_files_hold_the_numbers_that_the_source_stores(catalogue):
    folder = catalogue.parent
    for name in ("sentinel1", "sentinel2", "dem", "modis_lai"):
        with rasterio.open(next((folder / name).glob("*.tif"))) as file:
            assert set(file.dtypes) == {"float32"} and np.isnan(file.nodata)
            assert list(file.descriptions) == [band.name for band in sources.get(name).bands]
            assert "Synthetic" in file.tags()["data"]


# ---- grids that are not the chips' own -----------------------------------------------------------

FORTNIGHT = "2019-06-01", "2019-06-14"
# Interpolating half a pixel away, against the chip rendered in place: the largest root mean square
# difference of pixels, in stored units (smooth maps), and the largest difference of means over
# 320 m (images: speckle is white from pixel to pixel, so that interpolation smooths it).
# The edges of SoilGrids' 250 m pixels lie in the plane of the world: a file half a pixel off blends
# them.
RMS = {"dem": ("elevation", 0.05), "soilgrids": ("sand", 3.0), "sentinel1": ("VV", 1.5)}
VV_MEAN_DB, B8_MEAN = 0.1, 0.02


def shifted(world, crs):
    """An archive of one station's images on pixels of another CRS or half a pixel off."""
    archive, stations, _, folder = world

    def off(latitude, longitude, *, source, size_px):
        size, pixel_m = (280, 10.0) if source.resolution == "high" else (18, 160.0)
        x, y = grids.transformer("EPSG:4326", crs).transform(longitude, latitude)
        half = size * pixel_m / 2 + pixel_m / 2
        left, top = (round(v / pixel_m) * pixel_m for v in (x - half, y + half))
        half_m = pixel_m / 2
        return grids.Grid(crs, left + half_m, top + half_m, pixel_m, size + 1, size + 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world_catalogue, "file_grid", off)
        path = export_world(
            archive, folder / crs.replace(":", ""), stations=stations.iloc[:1], period=FORTNIGHT,
            sources=IMAGES, progress=False,
        )  # fmt: skip
    return StacArchive(path)


@pytest.fixture(scope="module")
def half_a_pixel_off(world):
    return shifted(world, "EPSG:32615")


@pytest.fixture(scope="module")
def next_zone(world):
    return shifted(world, "EPSG:32614")


def cut(archive, world, *, source, band, end=None):
    """A station's chip of the source's scene that ends then (the last one), and when it ends."""
    station = world[1].iloc[0]
    assert grids.utm_crs(station.latitude, station.longitude) == "EPSG:32615"
    size, pixel_m = (256, 10.0) if sources.get(source).resolution == "high" else (16, 160.0)
    grid = grids.chip_grid(station.latitude, station.longitude, size_px=size, pixel_size_m=pixel_m)
    rows = archive.scenes(world[1].iloc[:1], source, *FORTNIGHT)
    row = (rows if end is None or pd.isna(end) else rows[rows.end == end]).iloc[-1]
    time = np.datetime64("NaT") if pd.isna(row.end) else row.end.to_datetime64()
    asked = ChipRequest(source, row.scene_id, row.station_id, time, (band,), grid)
    [(_, chip)] = archive.chips([asked])
    assert isinstance(chip, Chip), chip
    return chip, row.end, row.scene_id


def means_of_320_m(image):
    return image.reshape(8, 32, 8, 32).mean(axis=(1, 3))


@pytest.mark.parametrize("source", RMS)
def test_pixels_half_a_pixel_off_agree_within_the_stated_tolerance(world, half_a_pixel_off, source):
    band, rms = RMS[source]
    there, end, _ = cut(half_a_pixel_off, world, source=source, band=band)
    here, _, _ = cut(world[0], world, source=source, band=band, end=end)
    assert there.valid_fraction == 1
    assert np.sqrt(((there.values - here.values) ** 2).mean()) < rms


def test_images_half_a_pixel_off_agree_in_the_mean_of_320_m(world, half_a_pixel_off):
    there, end, _ = cut(half_a_pixel_off, world, source="sentinel1", band="VV")
    here, _, _ = cut(world[0], world, source="sentinel1", band="VV", end=end)
    power = [means_of_320_m(10 ** (one.values[0] / 10)) for one in (here, there)]
    assert np.abs(10 * np.log10(power[1] / power[0])).max() < VV_MEAN_DB
    there, end, _ = cut(half_a_pixel_off, world, source="sentinel2", band="B8")
    here, _, _ = cut(world[0], world, source="sentinel2", band="B8", end=end)
    mean = [means_of_320_m(one.values[0]) for one in (here, there)]
    assert np.abs(mean[1] / mean[0] - 1).max() < B8_MEAN


@pytest.mark.parametrize("source, band", [("sentinel1", "VV"), ("sentinel2", "B8")])
def test_images_of_the_next_zone_are_interpolated_where_pyproj_says(world, next_zone, source, band):
    """Against scipy's bilinear interpolation at pyproj's coordinates, power for radar."""
    chip, _, scene = cut(next_zone, world, source=source, band=band)
    folder = Path(next_zone_folder(world)) / source
    grid = rasters.grid_of(folder / f"{scene}.tif")
    assert grid.crs == "EPSG:32614" != chip.grid.crs
    with rasterio.open(folder / f"{scene}.tif") as file:
        stored = file.read(file.descriptions.index(band) + 1).astype(float)
    x, y = np.meshgrid(chip.grid.x_m, chip.grid.y_m)
    x, y = grids.transformer(chip.grid.crs, grid.crs).transform(x, y)
    at = (grid.top_m - y) / grid.pixel_size_m - 0.5, (x - grid.left_m) / grid.pixel_size_m - 0.5
    radar = source == "sentinel1"
    wanted = map_coordinates(10 ** (stored / 10) if radar else stored, at, order=1)
    wanted = 10 * np.log10(wanted) if radar else wanted

    def likeness(rows, cols):
        moved = np.roll(wanted, (rows, cols), axis=(0, 1))
        return np.corrcoef(chip.values[0].ravel(), moved.ravel())[0, 1]

    sides = ((0, 1), (1, 0), (0, -1), (-1, 0))
    assert likeness(0, 0) > 0.995  # the warper smooths a little where grids are turned
    assert likeness(0, 0) > max(likeness(*side) for side in sides) + 0.2


def next_zone_folder(world):
    return world[3] / "EPSG32614"
