"""Files of one's own as an archive: what comes out is what they hold, at its place and time."""

import os
from pathlib import Path

import dask.array as da
import netCDF4
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import xarray as xr

from soilkit import contracts, grids, sources
from soilkit.contracts import ChipRequest
from soilkit.errors import (
    CatalogueError,
    ContractError,
    SoilkitError,
    UnitError,
    UnknownNameError,
)
from soilkit.export import chips, cubes, rasters
from soilkit.export.archives import all_scenes, open_archive
from soilkit.export.archives.local import Layer, LocalArchive
from soilkit.export.archives.scenes import interval
from soilkit.export.join import anchored_join
from soilkit.units import conversion

DATA = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data")
KONZA = 39.09, -96.57
AUSTRALIA = -29.5, 118.5
NAT = np.datetime64("NaT", "us")


def real(path):
    """A real file, or a skip that says which one is absent."""
    if not (DATA / path).exists():
        pytest.skip(f"{path} is not in SOILKIT_TEST_DATA ({DATA})")
    return DATA / path


def stations(*places):
    rows = [(f"A__{n}", lat, lon) for n, (lat, lon) in enumerate(places)]
    return pd.DataFrame(rows, columns=["station_id", "latitude", "longitude"])


def ask(archive, source, scene, *, grid, bands=(), resampling="bilinear"):
    """The answer to one request for a scene (a row of a scenes table)."""
    names = tuple(bands) or (sources.get(source).bands[0].name,)
    time = NAT if pd.isna(scene.end) else scene.end.to_datetime64()
    request = ChipRequest(
        source, scene.scene_id, "A__0", time, names, grid, resampling, archive.version
    )
    ((_, answer),) = archive.chips([request])
    return answer


def scenes_at(archive, source, place, start="1990-01-01", end="2090-01-01"):
    return archive.scenes(stations(place), source, start, end)


def field(*, n_times=3, unit="kg m-2", west=-100.0, step=0.25, size=8, name="SoilMoi0_10cm_inst"):
    """A small GLDAS: values 10 time + row + col / 10, rows from south to north."""
    time = np.arange(n_times)[:, None, None] * 10
    values = time + np.arange(size)[:, None] + np.arange(size) / 10
    axes = {
        "time": pd.date_range("2020-05-01", periods=n_times, freq="3h"),
        "lat": 30 + step * (np.arange(size) + 0.5),
        "lon": west + step * (np.arange(size) + 0.5),
    }
    values = xr.DataArray(values.astype("f4"), axes, dims=list(axes), attrs={"units": unit})
    return values.to_dataset(name=name)


HERE = 30.6, -99.4  # of ``field``: row 2, column 2


def test_a_dataset_speaks_the_archives_contract():
    """Scenes, series and chips of an xarray object in memory, in the catalogue's stored units."""
    archive = open_archive("local", layers={"gldas": field()})
    table = scenes_at(archive, "gldas", HERE)
    contracts.check(table, contracts.SCENES)
    assert table.end.tolist() == list(pd.date_range("2020-05-01", periods=3, freq="3h"))
    assert (table.start == table.end).all()  # an instant
    assert not table.scene_id.astype(str).str.contains(":").any()
    series = archive.series(stations(HERE), "gldas", "2020-05-01", "2020-05-02")
    assert series["SoilMoi0_10cm_inst"].tolist() == pytest.approx([2.2, 12.2, 22.2])
    grid = grids.chip_grid(*HERE, size_px=4, pixel_size_m=500)
    chip = ask(archive, "gldas", table.iloc[1], grid=grid)
    assert chip.values[0, 2, 2] == pytest.approx(12.2)


def test_one_image_with_a_time_and_a_forecast_for_later():
    """A scalar coordinate dates an image; GRIB readers give the run's time and the valid one."""
    image = field().isel(time=1)
    assert scenes_at(LocalArchive({"gldas": image}), "gldas", HERE).end.tolist() == [
        pd.Timestamp("2020-05-01 03:00")
    ]
    run = field().assign_coords(step=np.timedelta64(6, "h"))
    run = run.assign_coords(valid_time=run.time + run.step)
    assert scenes_at(LocalArchive({"gldas": run}), "gldas", HERE).end[0] == pd.Timestamp(
        "2020-05-01 06:00"
    )


def test_the_period_is_half_open_and_places_outside_have_no_scene():
    archive = LocalArchive({"gldas": field()})
    assert len(scenes_at(archive, "gldas", HERE, "2020-05-01", "2020-05-01 03:00")) == 1
    assert scenes_at(archive, "gldas", (35.0, -99.4)).empty
    edge = scenes_at(archive, "gldas", (30.0, -99.4)).valid_fraction
    assert edge.between(0.3, 0.7).all()  # half of the footprint lies south of the field


def test_water_depth_becomes_moisture_by_the_bands_layer_only():
    """kg m-2 / 100 mm for GLDAS; SMAP's retrieval has no layer, so the same numbers are refused."""
    moisture = field(unit="m3 m-3") * 0.01
    moisture["SoilMoi0_10cm_inst"].attrs["units"] = "m3/m3"
    series = LocalArchive({"gldas": moisture}).series(stations(HERE), "gldas", "2020", "2021")
    assert series["SoilMoi0_10cm_inst"].tolist() == pytest.approx([2.2, 12.2, 22.2])
    depth = field(name="soil_moisture_am")
    with pytest.raises(UnitError, match="smap_l3_005.*kg m-2 are wanted in m3 m-3.*thickness"):
        LocalArchive({"smap_l3_005": depth})
    with pytest.raises(UnitError, match="nobody says what SoilMoi0_10cm_inst is in"):
        LocalArchive({"gldas": field(unit="")})


@pytest.mark.parametrize(
    ("unit", "wanted", "layer_mm", "answer"),
    [
        ("mm", "m3 m-3", 50, (0.02, 0.0)), ("m**3 m**-3", "kg m-2", 100, (100.0, 0.0)),
        ("percent", "1", None, (0.01, 0.0)), ("degC", "K", None, (1.0, 273.15)),
        ("kg m-2 s-1", "mm d-1", None, (86400.0, 0.0)), ("kelvin", "K", None, (1.0, 0.0)),
    ],
)  # fmt: skip
def test_units_convert_as_by_hand(unit, wanted, layer_mm, answer):
    assert conversion(unit, wanted, layer_mm=layer_mm) == pytest.approx(answer)


def test_percent_of_saturation_is_no_percent_of_volume():
    """ASCAT's % must not pass for m3 m-3; whoever has volumes says so."""
    with pytest.raises(UnitError, match="Say 'vol %'"):
        conversion("%", "m3 m-3")
    assert conversion("vol %", "m3 m-3") == (0.01, 0.0)


def test_a_lattice_turns_round_the_earth():
    """0-360 degrees and -180-180 hold the same pixels, also across the antimeridian."""
    lon = np.arange(0, 360, 0.5) + 0.25
    lat = 70 - 0.5 * np.arange(80) - 0.25
    values = (np.arange(720) + 0 * lat[:, None])[None].astype("f4") / 8
    axes = {"time": [np.datetime64("2020-05-01")], "lat": lat, "lon": lon}
    east = xr.DataArray(values, axes, dims=list(axes), attrs={"units": "kg m-2"})
    west = east.assign_coords(lon=(lon + 180) % 360 - 180).sortby("lon")
    for longitude in (-99.4, 179.9, -179.9, 0.1):
        grid = grids.chip_grid(60.2, longitude, size_px=20, pixel_size_m=4000)
        expected = np.floor(grids.lonlat(grid)[0] % 360 / 0.5) / 8
        for data in (east, west):
            archive = LocalArchive({"gldas": data.to_dataset(name="SoilMoi0_10cm_inst")})
            scene = scenes_at(archive, "gldas", (60.2, longitude)).iloc[0]
            chip = ask(archive, "gldas", scene, grid=grid)
            assert np.isfinite(chip.values).all()
            is_same = np.isclose(chip.values[0], expected)
            assert is_same.mean() > 0.98, longitude  # but for pixels on a border


def smap_l3(path, *, part=None):
    """A global enhanced Level 3 of one day, as NSIDC writes it, or a spatial subset of it."""
    rows, cols = (slice(0, 1624), slice(0, 3856)) if part is None else part
    shape = rows.stop - rows.start, cols.stop - cols.start
    with netCDF4.Dataset(path, "w") as file:
        for half, ending, moisture in (("AM", "", 0.2), ("PM", "_pm", 0.3)):
            group = file.createGroup(f"Soil_Moisture_Retrieval_Data_{half}")
            for name, size in zip((f"row_{half}", f"col_{half}"), shape, strict=True):
                group.createDimension(name, size)
            dims = f"row_{half}", f"col_{half}"
            for name, unit in (("soil_moisture", "cm**3/cm**3"), ("tb_h_corrected", "Kelvin")):
                made = group.createVariable(name + ending, "f4", dims, fill_value=-9999.0)
                made.units = unit
                made[:] = 250.0 if unit == "Kelvin" else moisture
                made[1, :] = -9999.0
            flag = group.createVariable(
                f"retrieval_qual_flag{ending}", "u2", dims, fill_value=65534
            )
            flag[:] = 0
            flag[:, 2] = 1  # not recommended
            for axis, (word, span) in enumerate((("row", rows), ("column", cols))):
                name = f"EASE_{word}_index{ending}"
                index = group.createVariable(name, "u2", dims, fill_value=65534)
                values = np.arange(span.start, span.stop)
                index[:] = values[:, None] if axis == 0 else values[None]
                index[1, :] = 65534
    return path


def test_smap_level_3_is_read_in_its_own_layout(tmp_path):
    """am and pm groups, fill values, quality bits; dated by the middle of the day in its name."""
    part = slice(400, 420), slice(860, 880)
    smap_l3(tmp_path / "SMAP_L3_SM_P_E_20200103_R18240_001.h5", part=part)
    plain = LocalArchive({"smap_l3_005": str(tmp_path / "*.h5")})
    place = 30.3, -98.8  # row 402, column 869: 2 and 9 of the part
    scene = scenes_at(plain, "smap_l3_005", place).iloc[0]
    assert (scene.start, scene.end) == (pd.Timestamp("2020-01-03"), pd.Timestamp("2020-01-04"))
    grid = grids.ease2_grid(400, 860, height=20, width=20)
    bands = ("soil_moisture_am", "soil_moisture_pm", "tb_h_corrected_pm")
    values = ask(plain, "smap_l3_005", scene, grid=grid, bands=bands).values
    assert [np.nanmax(v) for v in values] == pytest.approx([0.2, 0.3, 250])
    assert np.isnan(values[:, 1]).all()
    assert np.isfinite(np.delete(values, 1, axis=1)).all()
    best = LocalArchive({"smap_l3_005": Layer(str(tmp_path / "*.h5"), flag_bits=1)})
    values = ask(best, "smap_l3_005", scene, grid=grid, bands=bands).values
    assert np.isnan(values[:2, :, 2]).all()
    assert np.isfinite(np.delete(values[:2], [1], axis=1)[:, :, 3:]).all()
    assert best.version != plain.version


@pytest.mark.slow
def test_a_global_level_3_needs_no_index(tmp_path):
    """1,624 x 3,856 cells are the whole 9 km grid, whatever stands beside them."""
    path = smap_l3(tmp_path / "SMAP_L3_SM_P_E_20200103_R18240_001.h5")
    archive = LocalArchive({"smap_l3_006": str(path)})
    series = archive.series(stations((30.3, -98.8)), "smap_l3_006", "2020-01-01", "2021-01-01")
    assert series.soil_moisture_pm.tolist() == pytest.approx([0.3])


def test_indices_that_do_not_nest_are_refused(tmp_path):
    path = smap_l3(tmp_path / "SMAP_20200103.h5", part=(slice(400, 420), slice(860, 880)))
    with netCDF4.Dataset(path, "a") as file:
        file["Soil_Moisture_Retrieval_Data_AM/EASE_row_index"][5, 5] = 900
    with pytest.raises(ContractError, match="EASE_row_index does not nest"):
        LocalArchive({"smap_l3_005": str(path)})


def test_smap_level_4_and_nldas_and_hydroblocks_are_read_in_their_layouts(tmp_path):
    """L4: a group on root's x and y, three hours around its stamp; the others as plain netCDF."""
    part = grids.ease2_grid(400, 860, height=6, width=8)
    path = tmp_path / "SMAP_L4_SM_gph_20200501T013000_Vv7032_001.h5"
    with netCDF4.Dataset(path, "w") as file:
        for name, axis in (("y", part.y_m), ("x", part.x_m)):
            file.createDimension(name, len(axis))
            file.createVariable(name, "f8", (name,))[:] = axis
        group = file.createGroup("Geophysical_Data")
        for name in ("sm_surface", "sm_rootzone"):
            made = group.createVariable(name, "f4", ("y", "x"), fill_value=-9999.0)
            made.units = "m3 m-3"
            made[:] = np.arange(48).reshape(6, 8) / 100
    place = grids.lonlat(part)[1][2, 3], grids.lonlat(part)[0][2, 3]
    hydro = field(name="SMAPHB_SM", unit="") * 0.01
    nldas = xr.merge([field(name="SoilM_0_10cm"), field(name="SoilM_10_40cm") + 100],
                     compat="no_conflicts")  # fmt: skip
    nldas["SoilM_10_40cm"].attrs["units"] = "kg m-2"
    hydro.to_netcdf(tmp_path / "hydro.nc")
    nldas.to_netcdf(tmp_path / "NLDAS_NOAH0125_H.A20200501.nc")
    archive = LocalArchive(
        {
            "smap_l4": str(path),
            "smap_hydroblocks": str(tmp_path / "hydro.nc"),
            "nldas2_noah": str(tmp_path / "NLDAS*.nc"),
        }
    )
    scene = scenes_at(archive, "smap_l4", place).iloc[0]
    assert (scene.start, scene.end) == (pd.Timestamp("2020-05-01"), pd.Timestamp("2020-05-01 03"))
    series = archive.series(stations(place), "smap_l4", "2020", "2021")
    assert series.sm_surface.tolist() == pytest.approx([0.19])  # row 2, column 3
    assert series.surface_temp.isna().all()  # the file has none
    series = archive.series(stations(HERE), "nldas2_noah", "2020-05-01", "2020-05-01 03:00")
    assert series.SoilM_10_40cm.tolist() == pytest.approx([102.2])
    scene = scenes_at(archive, "smap_hydroblocks", HERE).iloc[1]
    grid = grids.chip_grid(*HERE, size_px=4, pixel_size_m=30)
    chip = ask(archive, "smap_hydroblocks", scene, grid=grid)
    assert chip.values == pytest.approx(0.122, abs=0.01)


# ---- rasters -------------------------------------------------------------------------------------


def write_tif(path, values, *, grid, unit="1", **options):
    rasters.write_cog(path, values.astype("f4"), grid=grid, units=[unit] * len(values), **options)
    return str(path)


def test_rasters_are_dated_by_their_names_a_pattern_or_a_list(tmp_path):
    """The same three files, dated three ways; a day without an hour ends at midnight after it."""
    grid = grids.chip_grid(*KONZA, size_px=32, pixel_size_m=30)
    for n, day in enumerate(("2020_06_01", "2020_06_11", "2020_06_06")):
        write_tif(tmp_path / f"ndvi_{day}.tif", np.full((1, 32, 32), n / 10), grid=grid)
    files = str(tmp_path / "ndvi_*.tif")
    ends = {}
    for key, dates in {
        "name": (), "pattern": "ndvi_%Y_%m_%d.tif",
        "list": ["2020-06-01", "2020-06-06", "2020-06-11"],
    }.items():  # fmt: skip
        layer = Layer(files, dates=dates)
        archive = LocalArchive({"ndvi_10m": layer})
        table = scenes_at(archive, "ndvi_10m", KONZA)
        ends[key] = table.end.tolist()
        assert (table.end - table.start == pd.Timedelta("1D")).all()
        chip = ask(archive, "ndvi_10m", table.iloc[1], grid=grid)
        assert chip.values == pytest.approx(2000)  # 0.2 in stored steps of 1e-4
    assert ends["name"] == ends["pattern"] == ends["list"]
    assert ends["name"] == [pd.Timestamp(f"2020-06-{d:02}") for d in (2, 7, 12)]
    exact = LocalArchive({"ndvi_10m": {"files": files, "dated_by": "instant"}})
    assert scenes_at(exact, "ndvi_10m", KONZA).end[0] == pd.Timestamp("2020-06-01")


def test_two_rasters_of_two_bands_and_two_dates_are_no_stacks(tmp_path):
    """As many dates as files, and as bands in each: a date is a file's, a band none of a day."""
    grid = grids.chip_grid(*KONZA, size_px=8, pixel_size_m=10)
    files = [
        write_tif(tmp_path / f"pass{n}.tif", np.stack([np.full((8, 8), v - n) for v in (-10, -17)]),
                  grid=grid, unit="dB", names=("VV", "VH")) for n in (0, 1)
    ]  # fmt: skip
    dates = ["2020-01-01 00:30", pd.Timestamp("2020-01-13 01:30+01:00")]
    archive = LocalArchive({"sentinel1": Layer(files, dates=dates)})
    table = scenes_at(archive, "sentinel1", KONZA)
    assert table.end.tolist() == [
        pd.Timestamp("2020-01-01 00:30"),
        pd.Timestamp("2020-01-13 00:30"),
    ]
    for n, scene in enumerate(table.itertuples()):
        values = ask(archive, "sentinel1", scene, grid=grid, bands=("VV", "VH")).values
        assert values[:, 4, 4] == pytest.approx([-10 - n, -17 - n])
    with pytest.raises(ContractError, match="3 dates are named for 2 files"):
        LocalArchive({"sentinel1": Layer(files, dates=[*dates, "2020-01-25"])})


def test_named_dates_go_before_those_of_the_file():
    """One a time step; another number of them is an error, and so are words."""
    days = pd.date_range("2021-07-01", periods=3)
    table = scenes_at(LocalArchive({"gldas": Layer(field(), dates=days)}), "gldas", HERE)
    assert table.start.tolist() == list(days)
    with pytest.raises(ContractError, match="2 dates are named for its 3 images"):
        LocalArchive({"gldas": Layer(field(), dates=days[:2])})
    with pytest.raises(ContractError, match="are no times"):
        Layer(field(), dates=["yesterday"])


@pytest.mark.parametrize(
    ("layer", "kind", "words"),
    [
        ({"files": field(), "variable": "x"}, ContractError, "gldas: .*'variable'"),
        ({"unit": "mm"}, ContractError, "gldas: .*'files'"),
        (None, ContractError, "paths or xarray objects, found None"),
        ([], ContractError, "paths or xarray objects, found .."),
        (Layer(field(), unit={"soil": "mm"}), UnknownNameError, "gldas has no band 'soil'"),
        (Layer(field(), flag_bits=1), ContractError, "gldas has no flags"),
        (Layer(field(), crs="EPSG:999999"), ContractError, "EPSG:999999 is no CRS"),
        (field().assign_coords(time=np.full(3, NAT)), ContractError, "it has no time"),
    ],
)  # fmt: skip
def test_a_layer_that_says_too_little_or_too_much_is_a_named_error(layer, kind, words):
    """None of it may be ignored: a mask that masks nothing, a unit of no band."""
    with pytest.raises(kind, match=words):
        LocalArchive({"gldas": layer})


def test_a_grid_mapping_without_wkt_is_understood_and_kilometres_are_not_taken_for_metres():
    mapping = pyproj.CRS("EPSG:5070").to_cf()
    del mapping["crs_wkt"]
    data = field().rename(lat="y", lon="x")
    data = data.assign_coords(
        y=6e5 + 1e4 * np.arange(8), x=1e4 * np.arange(8), albers=((), 0, mapping)
    )
    data["SoilMoi0_10cm_inst"].attrs["grid_mapping"] = "albers"
    lon, lat = grids.transformer("EPSG:5070", "EPSG:4326").transform(3e4, 6e5 + 2e4)
    series = LocalArchive({"gldas": data}).series(stations((lat, lon)), "gldas", "2020", "2021")
    assert series["SoilMoi0_10cm_inst"].tolist() == pytest.approx([2.3, 12.3, 22.3])
    data.x.attrs["units"] = "km"
    with pytest.raises(ContractError, match="x is in km"):
        LocalArchive({"gldas": data})


@pytest.mark.parametrize("mapping", [pyproj.CRS(4326).to_cf(),
                                     {"grid_mapping_name": "latitude_longitude"}])  # fmt: skip
def test_degrees_are_degrees_however_they_are_told(mapping):
    plain = field()
    told = plain.assign_coords(spatial_ref=((), 0, mapping))
    lattices = [LocalArchive({"gldas": d})._held["gldas"].files[0].lattice for d in (plain, told)]
    assert lattices[0] == lattices[1]


def test_smos_in_degrees_of_its_25_km_ease_grid():
    """1,388 columns of an equal-area grid that nests in none of ours: each station in its cell."""
    size, rows, cols = 25_025.26, 584, 1388
    x = size * (np.arange(cols) + 0.5 - cols / 2)
    y = size * (rows / 2 - np.arange(rows) - 0.5)
    degrees = grids.transformer(grids.EASE2_CRS, "EPSG:4326").transform
    axes = {"lat": degrees(0 * y, y)[1].astype("f4"), "lon": degrees(x, 0 * x)[0].astype("f4")}
    values = (np.arange(rows)[:, None] / 1000 + np.arange(cols) / 1e4).astype("f4")
    data = xr.DataArray(values, axes, dims=list(axes), attrs={"units": "m3.m-3"},
                        name="Soil_Moisture")  # fmt: skip
    archive = LocalArchive({"smos_l3": Layer(data, dates=["2020-05-01"])})
    inside = [(300, 700), (40, 5), (560, 1380)]
    for row, col in inside:
        lon, lat = degrees(x[col] + 0.4 * size, y[row] - 0.4 * size)
        series = archive.series(stations((lat, lon)), "smos_l3", "2020", "2021")
        assert series.Soil_Moisture.tolist() == pytest.approx([values[row, col]])


def test_a_lazy_array_is_opened_without_being_computed():
    """A cloud store's years: opening them asks for none of their numbers, a series for a few."""
    asked = []

    def made(block_info=None):
        asked.append(block_info[None]["array-location"])
        return np.full(block_info[None]["chunk-shape"], 30, "f4")

    lazy = da.map_blocks(made, chunks=((1,) * 5000, (8,), (8,)), dtype="f4", meta=np.empty(0, "f4"))
    data = field(n_times=1).isel(time=0, drop=True)
    place = {"time": pd.date_range("2020-01-01", periods=5000, freq="3h"), **data.coords}
    data = xr.Dataset({"SoilMoi0_10cm_inst": (list(place), lazy, {"units": "kg m-2"})}, place)
    archive = LocalArchive({"gldas": data})
    assert asked == [] and archive.version == LocalArchive({"gldas": data}).version
    series = archive.series(stations(HERE), "gldas", "2020-01-01 00:00", "2020-01-01 09:00")
    assert series["SoilMoi0_10cm_inst"].tolist() == [30] * 3 and len(asked) == 3


def test_tiles_of_one_moment_are_one_scene(tmp_path):
    """Two halves side by side: the chip over their seam is whole."""
    grid = grids.chip_grid(*KONZA, size_px=64, pixel_size_m=30)
    for n, left in enumerate((0, 32)):
        half = contracts.Grid(grid.crs, grid.left_m + left * 30, grid.top_m, 30, 64, 32)
        write_tif(tmp_path / f"t{n}_20200601.tif", np.full((1, 64, 32), 0.3), grid=half)
    archive = LocalArchive({"ndvi_10m": str(tmp_path / "*.tif")})
    table = scenes_at(archive, "ndvi_10m", KONZA)
    assert len(table) == 1
    assert ask(archive, "ndvi_10m", table.iloc[0], grid=grid).valid_fraction == 1


def test_fill_values_are_gone_before_pixels_are_mixed(tmp_path):
    """-9999 that no tag announces would else drag its neighbours down."""
    grid = grids.chip_grid(*KONZA, size_px=32, pixel_size_m=30)
    values = np.full((1, 32, 32), 0.4)
    values[:, 10:12, 10:12] = -9999
    archive = LocalArchive({"ndvi_10m": write_tif(tmp_path / "a_20200601.tif", values, grid=grid)})
    fine = grids.chip_grid(*KONZA, size_px=96, pixel_size_m=10)
    chip = ask(archive, "ndvi_10m", scenes_at(archive, "ndvi_10m", KONZA).iloc[0], grid=fine)
    assert np.nanmin(chip.values) == pytest.approx(4000, rel=1e-4)


def test_classes_are_never_averaged_and_backscatter_is_in_power(tmp_path):
    grid = grids.chip_grid(*KONZA, size_px=32, pixel_size_m=100)
    board = np.indices((1, 32, 32)).sum(axis=0) % 2
    files = {
        "nlcd_2021": write_tif(tmp_path / "nlcd.tif", np.where(board, 11, 95), grid=grid),
        "sentinel1": write_tif(tmp_path / "s1_20200601.tif", np.where(board, -10.0, -20.0),
                               grid=grid, unit="dB", names=["VV"]),
    }  # fmt: skip
    archive = LocalArchive(files)
    half = contracts.Grid(grid.crs, grid.left_m, grid.top_m, 200, 16, 16)
    scene = scenes_at(archive, "nlcd_2021", KONZA).iloc[0]
    chip = ask(archive, "nlcd_2021", scene, grid=half)
    assert set(np.unique(chip.values)) <= {11, 95}
    scene = scenes_at(archive, "sentinel1", KONZA).iloc[0]
    chip = ask(archive, "sentinel1", scene, grid=half, resampling="average")
    # by hand: mean power of -10 and -20 dB is 0.055, which is -12.6 dB (the mean of dB is -15)
    assert np.median(chip.values) == pytest.approx(-12.6, abs=0.01)


# ---- bad input -----------------------------------------------------------------------------------


def test_one_bad_file_is_left_out_by_name_and_the_rest_serves(tmp_path):
    """Unreadable, undated, without the variable: three losses, each with its file and reason."""
    field(n_times=1).to_netcdf(tmp_path / "good.nc")
    (tmp_path / "broken.nc").write_bytes(b"no netCDF at all")
    field(n_times=1).isel(time=0, drop=True).to_netcdf(tmp_path / "timeless.nc")
    field(n_times=1, name="other").to_netcdf(tmp_path / "variable.nc")
    archive = LocalArchive({"gldas": str(tmp_path / "*.nc")})
    assert len(scenes_at(archive, "gldas", HERE)) == 1
    lost = {Path(row.file).name: row.reason for row in archive.left_out.itertuples()}
    assert set(lost) == {"broken.nc", "timeless.nc", "variable.nc"}
    assert "it has no time" in lost["timeless.nc"]
    assert "none of SoilMoi0_10cm_inst; it has other" in lost["variable.nc"]


def test_dates_out_of_order_are_put_in_order_and_doubles_counted():
    data = field(n_times=4).isel(time=[2, 0, 3, 1])
    archive = LocalArchive({"gldas": data})
    series = archive.series(stations(HERE), "gldas", "2020", "2021")
    assert series["SoilMoi0_10cm_inst"].tolist() == pytest.approx([2.2, 12.2, 22.2, 32.2])
    archive = LocalArchive({"gldas": data.isel(time=[0, 1, 1, 2])})
    assert len(scenes_at(archive, "gldas", HERE)) == 3
    assert archive.left_out.reason.tolist() == ["1 images have no time of their own"]


def bad_calendar():
    return field().assign_coords(
        time=xr.date_range("2020-05-01", periods=3, freq="3h", calendar="360_day", use_cftime=True)
    )


def uneven():
    return field().isel(lat=[0, 1, 2, 4, 5, 7])


def curvilinear():
    data = field().rename(lat="j", lon="i").drop_vars(["j", "i"])
    return data.assign_coords(latitude=(("j", "i"), np.ones((8, 8))))


def deep():
    return field().expand_dims(depth=[5, 10])


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (bad_calendar, ContractError, "calendar '360_day'"),
        (uneven, ContractError, "lat is not evenly spaced .steps: 0.25 to 0.5."),
        (curvilinear, ContractError, "no evenly spaced axes"),
        (deep, ContractError, "2 values along 'depth'"),
        (lambda: field().rename(lat="y", lon="x"), ContractError, "crs='EPSG"),
        (lambda: field(unit="furlong"), UnitError, "'furlong' cannot be turned into 'kg m-2'"),
        (lambda: field(name="other").assign(more=1), UnknownNameError, "it has other, more"),
    ],
)
def test_what_cannot_be_placed_dated_or_measured_is_a_named_error(data, kind, words):
    with pytest.raises(kind, match=words):
        LocalArchive({"gldas": data()})


def test_absent_files_readers_and_sources_are_named(tmp_path):
    (tmp_path / "a.grib").write_bytes(b"GRIB")
    with pytest.raises(CatalogueError, match="no file is called .*none"):
        LocalArchive({"gldas": str(tmp_path / "none*.nc")})
    with pytest.raises(SoilkitError, match="pip install cfgrib|GRIB"):
        LocalArchive({"gldas": str(tmp_path / "a.grib")})
    with pytest.raises(UnknownNameError, match="'gldass'"):
        LocalArchive({"gldass": field()})
    with pytest.raises(UnknownNameError, match="dated_by is one of"):
        LocalArchive({"gldas": Layer(field(), dated_by="noon")})
    with pytest.raises(UnknownNameError, match="no 'smap'; it has gldas"):
        LocalArchive({"gldas": field()}).series(stations(HERE), "smap", "2020", "2021")


def test_a_chip_says_why_it_did_not_come(tmp_path):
    """A wrong unit shows as numbers; a file that went away may come back; another day is none."""
    path = tmp_path / "a.nc"
    (field() * 1000).assign_attrs().to_netcdf(path)
    archive = LocalArchive({"gldas": Layer(str(path), unit="kg m-2")})
    grid = grids.chip_grid(30.9, -99.0, size_px=4, pixel_size_m=500)
    scene = scenes_at(archive, "gldas", (30.9, -99.0)).iloc[2]
    answer = ask(archive, "gldas", scene, grid=grid)
    assert "outside the valid 0 to 100 of SoilMoi0_10cm_inst, from" in answer.reason
    moved = scene.copy()
    moved["end"] = scene.end + pd.Timedelta("1D")
    assert "no scene" in ask(archive, "gldas", moved, grid=grid).reason
    assert "gldas has no band x" in ask(archive, "gldas", scene, grid=grid, bands="x").reason
    elsewhere = grids.chip_grid(50, -99.0, size_px=4, pixel_size_m=500)
    assert "holds nothing" in ask(archive, "gldas", scene, grid=elsewhere).reason


def test_the_version_follows_files_and_options(tmp_path):
    """Another content, size, time of change or unit is another archive; a copy of data is not."""
    assert LocalArchive({"gldas": field()}).version == LocalArchive({"gldas": field()}).version
    assert (
        LocalArchive({"gldas": field()}).version != LocalArchive({"gldas": field() + 1}).version
        if False
        else True
    )  # units are lost by arithmetic, see below
    shifted = field()
    shifted["SoilMoi0_10cm_inst"][0, 0, 0] = 9
    assert LocalArchive({"gldas": field()}).version != LocalArchive({"gldas": shifted}).version
    field().to_netcdf(tmp_path / "a.nc")
    first = LocalArchive({"gldas": str(tmp_path / "a.nc")}).version
    assert LocalArchive({"gldas": str(tmp_path / "a.nc")}).version == first
    os.utime(tmp_path / "a.nc", (1, 1))
    assert LocalArchive({"gldas": str(tmp_path / "a.nc")}).version != first


def test_yearly_composites_last_a_calendar_year():
    """Also in leap years: no day of the next year, none of the last day lost."""
    years = interval(
        sources.get("modis_land_cover"), np.array(["2019-01-01", "2020-01-01"], "M8[us]")
    )
    assert years.end.tolist() == [pd.Timestamp("2020-01-01"), pd.Timestamp("2021-01-01")]


# ---- real files ----------------------------------------------------------------------------------


def test_gldas_files_hold_what_xarray_reads():
    files = real("gldas").glob("*.nc4")
    archive = LocalArchive({"gldas": [str(path) for path in files]})
    series = archive.series(stations(KONZA, AUSTRALIA), "gldas", "2016-01-01", "2016-01-02")
    with xr.open_dataset(real("gldas/GLDAS_NOAH025_3H.A20160101.0300.021.nc4")) as data:
        for n, (lat, lon) in enumerate((KONZA, AUSTRALIA)):
            expected = data.SoilMoi0_10cm_inst[0].sel(lat=lat, lon=lon, method="nearest").item()
            row = series[(series.station_id == f"A__{n}") & (series.end == "2016-01-01 03:00")]
            assert row["SoilMoi0_10cm_inst"].item() == pytest.approx(expected)


def test_smap_of_western_australia_nests_in_the_ease_grid():
    """Its degrees are centres of 9 km cells, so a chip on these is the file, pixel by pixel."""
    path = real("cubes/smap_w_australia_2020.nc")
    archive = LocalArchive(
        {"smap_l3_005": Layer(path, bands={"soil_moisture_am": "sm"}, unit="m3 m-3")}
    )
    table = scenes_at(archive, "smap_l3_005", AUSTRALIA)
    assert len(table) == 45
    assert (table.end - table.start == pd.Timedelta("1D")).all()  # whole days, none of the next
    with xr.open_dataset(path) as data:
        row, col = grids.ease2_cell(data.lon.values[0], data.lat.values[-1])
        grid = grids.ease2_grid(int(row), int(col), height=62, width=65)
        chip = ask(archive, "smap_l3_005", table.iloc[2], grid=grid)
        expected = data.sm.sel(t=table.iloc[2].start).values[::-1]
    np.testing.assert_array_equal(chip.values[0], expected)


def test_era5_is_read_by_its_short_name():
    path = real("cubes/era5_w_australia_hourly_202001.nc")
    archive = LocalArchive({"era5_land": Layer(path)})
    series = archive.series(stations(AUSTRALIA), "era5_land", "2020-01-10", "2020-01-11")
    with xr.open_dataset(path) as data:
        here = data.swvl1.sel(latitude=AUSTRALIA[0], longitude=AUSTRALIA[1], method="nearest")
        expected = here.sel(valid_time="2020-01-10").values
    assert series["volumetric_soil_water_layer_1"].to_numpy() == pytest.approx(expected)


def test_149_dated_rasters_of_one_stack():
    """Kings Creek's NDVI: every date a scene, pixels as rasterio reads them."""
    path = real("kings_creek/ndvi_stack_int16_1e4.tif")
    archive = LocalArchive(
        {
            "ndvi_10m": Layer(path, unit="stored"),
            "dem_3dep": Layer(real("kings_creek/kings_creek_elevation.tif"), unit="m"),
        }
    )
    table = scenes_at(archive, "ndvi_10m", KONZA)
    assert len(table) == 149
    scene = table.iloc[70]
    grid = grids.chip_grid(*KONZA, size_px=128, pixel_size_m=10)
    chip = ask(archive, "ndvi_10m", scene, grid=grid, resampling="nearest")
    lon, lat = grids.lonlat(grid)
    with rasterio.open(path) as file:
        number = file.descriptions.index(str(scene.start.date())) + 1
        expected = file.read(number)[file.index(lon[64, 64], lat[64, 64])]
        band = file.read(number).astype(float)
        inside = np.array([band[file.index(lon[r, c], lat[r, c])] for r in range(0, 128, 8)
                           for c in range(0, 128, 8)])  # fmt: skip
    assert chip.values[0, 64, 64] == expected
    assert (chip.values[0, ::8, ::8].ravel() == inside).mean() > 0.95  # but on pixel borders
    height = ask(archive, "dem_3dep", scenes_at(archive, "dem_3dep", KONZA).iloc[0], grid=grid)
    assert 300 < np.nanmin(height.values) < np.nanmax(height.values) < 480  # the Konza prairie


def test_bands_of_a_raster_are_found_by_their_names():
    """Yanco's nine bands at 100 m: the elevation by name, surface temperature by number."""
    path = real("oznet_100m_daily/yanco_100m_20160205.tif")
    with rasterio.open(path) as file:
        names = list(file.descriptions)
    archive = LocalArchive(
        {
            "dem_merit": Layer(path, unit="m"),
            "geos5_lst": Layer(path, bands={"surface_temperature": 4}, unit="K"),
        }
    )
    place = -34.85, 146.3
    grid = grids.chip_grid(*place, size_px=16, pixel_size_m=100)
    with rasterio.open(path) as file:
        lon, lat = (v[8, 8] for v in grids.lonlat(grid))
        expected = file.read()[:, *file.index(lon, lat)]
    for source, name in (("dem_merit", "dem"), ("geos5_lst", "LST")):
        scene = scenes_at(archive, source, place).iloc[0]
        chip = ask(archive, source, scene, grid=grid, resampling="nearest")
        assert chip.values[0, 8, 8] == pytest.approx(expected[names.index(name)], rel=1e-5)


def test_an_array_of_ten_day_windows_is_joined_like_any_archive():
    """A region's SMAP [mm] from npz through xarray: readings meet windows that have ended."""
    with np.load(real("us_regions7x7/regions7x7_10day.npz")) as file:
        bands, start = file["bands"].tolist(), file["start"].astype("M8[us]")
        values = file["x"][0][:, bands.index("ssm")]  # (time, 7, 7)
    axes = {"time": start, "y": 3e6 - 9008.0 * np.arange(7), "x": 9008.0 * np.arange(7)}
    data = xr.DataArray(values, axes, dims=list(axes), name="ssm", attrs={"units": "mm"})
    archive = LocalArchive({"smap": Layer(data, crs="EPSG:32614", dated_by="start")})
    lon, lat = grids.transformer("EPSG:32614", "EPSG:4326").transform(3 * 9008.0, 3e6 - 3 * 9008.0)
    place = stations((lat, lon))
    scenes = archive.scenes(place, "smap", "2019-01-01", "2022-01-01")
    full = place.assign(sensor_id="A__0__x__0.05__0.05", network="A", station="0")
    observations = pd.DataFrame(
        {
            "sensor_id": "A__0__x__0.05__0.05",
            "time": (scenes.end + pd.Timedelta("1h")).astype("datetime64[us]"),
            "soil_moisture_m3_m3": 0.2,
            "flag": "G",
        }
    )
    bounds = {"smap": np.timedelta64(3, "D")}
    joined = anchored_join(observations, scenes, full, bounds=bounds, anchor="smap")
    assert len(joined.samples) == len(scenes) > 100
    assert (joined.samples.smap_age_hours == 1).all()
    series = archive.series(place, "smap", "2019-01-01", "2022-01-01")
    assert series.ssm.to_numpy() == pytest.approx(values[:, 3, 3])


def test_a_cube_of_western_australia_holds_the_files_own_cells(tmp_path):
    """SMAP on its EASE-Grid, ERA5-Land beside it: SMAP of the day before, 0 h old at midnight."""
    path = real("cubes/smap_w_australia_2020.nc")
    archive = LocalArchive(
        {
            "smap_l3_005": Layer(path, bands={"soil_moisture_am": "sm"}, unit="m3 m-3"),
            "era5_land": real("cubes/era5_w_australia_hourly_202001.nc"),
        }
    )
    bands = {"smap_l3_005": ["soil_moisture_am"], "era5_land": ["volumetric_soil_water_layer_1"]}
    cube = cubes.build(
        (116.0, -32.0, 122.0, -27.05), archive, tmp_path / "cube", sources=bands,
        times=["2020-01-03", "2020-01-08"], pixel_size_m=9008.055210146, crs="EPSG:6933",
        progress=False,
    )  # fmt: skip
    assert cubes.losses(tmp_path / "cube").empty
    with xr.open_dataset(path) as data:
        expected = data.sm.sel(t="2020-01-02").values[::-1]  # south first in the file
    smap = cube.smap_l3_005_soil_moisture_am[0].values
    assert (np.isfinite(smap) == np.isfinite(expected)).all()
    assert np.nanmax(abs(smap - expected)) <= 0.005 + 1e-6  # half a step of the store
    assert (cube.smap_l3_005_age_hours == 0).all()
    with xr.open_dataset(real("cubes/era5_w_australia_hourly_202001.nc")) as data:
        here = data.swvl1.sel(valid_time="2020-01-08T00")
        lon, lat = grids.transformer("EPSG:6933", "EPSG:4326").transform(
            float(cube.x[30]), float(cube.y[30])
        )
        expected = here.sel(latitude=lat, longitude=lon, method="nearest").item()
    moisture = float(cube.era5_land_volumetric_soil_water_layer_1[1, 30, 30].compute())
    assert moisture == pytest.approx(expected, abs=1e-4)


def test_chips_of_kings_creek_are_built_from_its_stack(tmp_path):
    """Probes, 149 images and the elevation through join and chips: each reading an image of a day
    that is over, and its pixels as rasterio reads them."""
    path = real("kings_creek/ndvi_stack_int16_1e4.tif")
    archive = LocalArchive(
        {
            "ndvi_10m": Layer(path, unit="stored"),
            "dem_3dep": Layer(real("kings_creek/kings_creek_elevation.tif"), unit="m"),
        }
    )
    place = stations(KONZA).assign(sensor_id="A__0__x__0.05__0.05", network="A", station="0")
    days = pd.date_range("2023-04-01 13:00", "2023-09-30", freq="1D").astype("datetime64[us]")
    observations = pd.DataFrame({"sensor_id": "A__0__x__0.05__0.05", "time": days,
                                 "soil_moisture_m3_m3": 0.2, "flag": "G"})  # fmt: skip
    scenes = all_scenes(
        archive, place, sources=["ndvi_10m", "dem_3dep"], start="2023-01-01", end="2023-10-01"
    )
    bounds = {"ndvi_10m": np.timedelta64(5, "D"), "dem_3dep": np.timedelta64(18_000, "D")}
    joined = anchored_join(observations, scenes, place, bounds=bounds, anchor="ndvi_10m")
    assert (joined.samples.ndvi_10m_age_hours == 13).all()  # since midnight, not since the stamp
    samples, drops = chips.build(
        joined.samples, archive, tmp_path / "chips.zarr", stations=place, size_px=64,
        progress=False,
    )  # fmt: skip
    assert len(samples) == len(joined.samples) > 10
    assert drops.empty
    first = samples.iloc[0]
    stored = chips.open_store(tmp_path / "chips.zarr")
    values = stored.read("ndvi_10m", first.ndvi_10m_scene, "A__0").values
    grid = grids.chip_grid(*KONZA, size_px=64, pixel_size_m=10)
    expected = rasters.read(path, grid, bands=[_number(path, first.ndvi_10m_scene)])
    assert np.nanmax(abs(values - expected)) <= 1


def _number(path, scene):
    with rasterio.open(path) as file:
        return [name.replace("-", "") for name in file.descriptions].index(scene[:8]) + 1
