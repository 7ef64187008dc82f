"""Extents of DEEPSOIL: quadkey tiles about stations, 75 maps in [0, 1], and batches of tiles."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from soilkit import grids, sources
from soilkit.contracts import Chip
from soilkit.errors import ContractError
from soilkit.export import cubes
from soilkit.export.archives import open_archive
from soilkit.export.archives.scenes import places_of, scenes_everywhere, static_image
from soilkit.models import deepsoil
from soilkit.models.datasets import make_loader
from soilkit.models.deepsoil import extents

PLACE = (-97.5, 36.2)  # longitude, latitude
DAYS = ["2019-06-12 18:00", "2019-06-13 18:00", "2019-07-04 18:00"]


# ---- an archive whose every value is known -------------------------------------------------------


class Plain:
    """Every source at every noon; a band's value is in the middle of its range, then rises south.

    Land cover is 82 in the west and 41 in the east; a fifth of June 12 lies under clouds.
    """

    name, version = "plain", "1"

    def scenes(self, stations, source, start, end):
        images = static_image()
        if not sources.get(source).is_static:
            days = pd.date_range("2019-05-01 12:00", "2019-07-10", freq="D", unit="us")
            days = days[(days >= pd.Timestamp(start)) & (days < pd.Timestamp(end))]
            names = [f"{source}_{day:%Y%m%d}" for day in days]
            images = pd.DataFrame({"scene_id": names, "start": days, "end": days})
        table = scenes_everywhere(source, images, places=places_of(stations))
        return table.assign(cloud_fraction=0.2)

    def chips(self, requests):
        for request in requests:
            bands = [self.band(request, name) for name in request.bands]
            yield request, Chip(np.stack(bands).astype(np.float32), request.bands, request.grid)

    def band(self, request, name):
        grid, band = request.grid, sources.get(request.source).band(name)
        x, y = np.meshgrid(grid.x_m, grid.y_m)
        if band.unit == "bits":
            is_cloudy = (y % 3000 < 600) & (request.time < np.datetime64("2019-06-13"))
            return np.where(is_cloudy, 8, 64)
        if band.unit == "class":
            east = x > grids.transformer("EPSG:4326", grid.crs).transform(*PLACE)[0]
            return np.where(east, 5, 6) if band.valid_range[1] == 30 else np.where(east, 41, 82)
        if request.source == "smap_hydroblocks":
            return 0.25 + 0 * x
        low, high = extents_range(request.source, name)
        return (low + (high - low) * (0.4 + (y % 12_000) / 60_000) - band.offset) / band.scale


def extents_range(source, band):
    layers = {f"{source}_{band}"} | {
        f"{source}_{k}" for k, v in extents._LANDSAT.items() if v == band
    }
    for channel in deepsoil.CHANNELS:
        if layers & set(channel.layers):
            return channel.low, channel.high
    return {"theta_s": (0.4, 0.5), "alpha": (-2.0, -1.0), "n": (1.2, 1.6)}[band]


STATIONS = pd.DataFrame({
    "sensor_id": ["N__A__p__0__0.05", "N__A__q__0__0.05", "N__B__p__0__0.05"],
    "station_id": ["N__A", "N__A", "N__B"], "network": "N", "station": ["A", "A", "B"],
    "longitude": [PLACE[0], PLACE[0], PLACE[0] + 0.02], "latitude": PLACE[1], "elevation_m": 300.0,
    "depth_from_m": 0.0, "depth_to_m": 0.05, "land_cover": "", "koeppen": "", "texture": "",
})  # fmt: skip


def samples_of(rows):
    table = pd.DataFrame(rows, columns=["sensor_id", "time", "soil_moisture_m3_m3"])
    table["time"] = pd.to_datetime(table["time"]).astype("datetime64[us]")
    table["station_id"] = table["sensor_id"].str.split("__").str[:2].str.join("__")
    return table.assign(sample_id=[f"s{k}" for k in range(len(table))])


SAMPLES = samples_of([
    ("N__A__p__0__0.05", DAYS[0], 0.10), ("N__A__q__0__0.05", DAYS[0], 0.20),
    ("N__A__p__0__0.05", DAYS[2], 0.30), ("N__B__p__0__0.05", DAYS[0], 0.40),
])  # fmt: skip


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extents")
    place = STATIONS[STATIONS["station_id"] == "N__A"]
    return deepsoil.build_extents(place, Plain(), folder=folder, times=DAYS, progress=False)


@pytest.fixture(scope="module")
def cube(stores):
    (store,) = stores.values()
    return cubes.open_cube(store).load()


@pytest.fixture(scope="module")
def tiles(stores):
    return deepsoil.ExtentTiles(stores, SAMPLES, stations=STATIONS)


# ---- quadkeys and extents ------------------------------------------------------------------------


def test_an_extent_is_nine_tiles_of_64_pixels_about_its_station(stores, cube):
    """192 pixels of about 30 m on the ground, the station in the middle tile."""
    (key,) = stores
    assert len(key) == 14 and key == grids.quadkey_at(*PLACE, length=14)
    assert dict(cube.sizes) == {"time": 3, "y": 192, "x": 192}
    x, y = grids.transformer("EPSG:4326", "EPSG:3857").transform(*PLACE)
    row, col = abs(cube["y"] - y).argmin() // 64, abs(cube["x"] - x).argmin() // 64
    assert (int(row), int(col)) == (1, 1)
    ground_m = float(cube["x"][1] - cube["x"][0]) * np.cos(np.radians(PLACE[1]))
    assert ground_m == pytest.approx(30, abs=1)


def test_a_store_lies_under_its_coarse_quadkey(stores):
    ((key, store),) = stores.items()
    assert store.parts[-2:] == (key[:12], key)


def test_tiles_are_the_quadkeys_of_their_ground(stores, tiles):
    """The middle of each tile has the quadkey by which the tile is called."""
    first = tiles.tiles.query("step == 0")
    to_degrees = grids.transformer("EPSG:3857", "EPSG:4326")
    (cube,) = (cubes.open_cube(store) for store in stores.values())
    for tile in first.itertuples():
        x, y = (float(cube[axis][64 * n + 31]) for axis, n in (("x", tile.col), ("y", tile.row)))
        assert grids.quadkey_at(*to_degrees.transform(x, y), length=14) == tile.quadkey
    assert first["quadkey"].is_unique and len(first) == 9


@pytest.mark.parametrize("quadkey", ["023130031213", "0231300312133311"])
def test_a_quadkey_of_another_length_is_named(quadkey):
    with pytest.raises(ContractError, match=f"14 digits, found {len(quadkey)}"):
        extents.extent_box(quadkey)


def test_a_place_and_its_quadkey_go_together():
    for longitude, latitude in ((-179.9, -60.0), (12.3, 45.6), (179.99, 84.0)):
        key = grids.quadkey_at(longitude, latitude, length=14)
        left, bottom, right, top = grids.quadkey_bounds(key)
        x, y = grids.transformer("EPSG:4326", "EPSG:3857").transform(longitude, latitude)
        assert left <= x <= right and bottom <= y <= top
    with pytest.raises(ContractError, match="85.05 degrees"):
        grids.quadkey_at(0.0, 88.0, length=14)
    with pytest.raises(ContractError, match="edge of the map"):
        grids.quadkeys_around("00000000000000")


def test_stations_of_one_tile_share_an_extent(tmp_path):
    near = STATIONS.assign(station_id=["N__A", "N__A2", "N__B"])
    near["longitude"] = [PLACE[0], PLACE[0] + 1e-4, PLACE[0] + 0.02]
    assert extents.extent_keys(near).nunique() == 2


# ---- the maps ------------------------------------------------------------------------------------


def test_the_paper_eats_75_maps():
    """Section 2.1 and Table 3: 5 gNATSGO, 7 POLARIS, 4 bands, NDVI, 16 + 30 classes, 12 others."""
    names = [channel.name for channel in deepsoil.CHANNELS]
    assert len(names) == len(set(names)) == 75
    counts = {"NLCD": 16, "Koeppen": 30, "gnatsgo": 5, "polaris": 7, "gridmet": 9, "modis_lai": 1}
    for start, n in counts.items():
        assert sum(name.startswith(start) for name in names) == n, start
    low = [deepsoil.CHANNELS[k].name for k in deepsoil.LOW_LEVEL]
    assert low[:5] == ["blue", "green", "red", "infrared", "NDVI"] and low[5:] == [
        f"NLCD {code}" for code in extents.NLCD_CLASSES
    ]


def test_every_channel_is_a_band_of_the_catalogue():
    derived = {*extents._LANDSAT, "NDVI"}
    for channel in deepsoil.CHANNELS:
        for layer in channel.layers:
            source = extents._source_of(layer)
            band = layer.removeprefix(f"{source.name}_")
            assert band in derived or source.band(band).continuous == (channel.code is None)


def test_maps_lie_between_0_and_1_or_are_missing(cube):
    maps = deepsoil.maps_of(cube)
    for step in range(3):
        inputs = maps.at(step)
        assert inputs.shape == (75, 192, 192) and inputs.dtype == np.float32
        assert (((inputs >= 0) & (inputs <= 1)) | (inputs == -1)).all()
    assert maps.is_dated.sum() == 16  # Landsat, NDVI, LAI, SMAP and nine of gridMET


def test_a_map_is_scaled_by_its_range(cube):
    # Plain: 0.4 + (y mod 12 km) / 60 km of the range, in 16-bit steps
    maps, y = deepsoil.maps_of(cube).at(2), cube["y"].to_numpy()
    for name in ("elevation", "SMAP", "gridmet tmmx", "polaris sand"):
        k = [channel.name for channel in deepsoil.CHANNELS].index(name)
        np.testing.assert_allclose(maps[k, :, 0], 0.4 + (y % 12_000) / 60_000, atol=0.02)


def test_training_ranges_take_the_place_of_the_physical_ones(cube, stores):
    ranges = deepsoil.training_ranges(stores.values())
    sand = cube["polaris_sand"].to_numpy()
    assert ranges["polaris sand"] == (pytest.approx(sand.min()), pytest.approx(sand.max()))
    k = [channel.name for channel in deepsoil.CHANNELS].index("polaris sand")
    scaled = deepsoil.maps_of(cube, ranges=ranges).at(0)[k]
    assert (scaled.min(), scaled.max()) == (0, 1)


def test_classes_are_one_hot_and_strange_ones_counted(cube):
    at = {c.name: k for k, c in enumerate(deepsoil.CHANNELS)}
    inputs = deepsoil.maps_of(cube).at(0)
    nlcd = [at[f"NLCD {code}"] for code in extents.NLCD_CLASSES]
    np.testing.assert_array_equal(inputs[nlcd].sum(axis=0), 1)
    assert inputs[at["NLCD 82"]][:, 0].all() and inputs[at["NLCD 41"]][:, -1].all()
    strange = cube.copy(deep=True)
    strange["nlcd_2019_landcover"][:10] = 51  # dwarf scrub, of Alaska alone
    maps = deepsoil.maps_of(strange)
    assert maps.outside == {"nlcd_2019_landcover": 10 * 192}
    assert (maps.at(0)[nlcd][:, :10] == -1).all()


def test_a_layer_with_another_legend_is_named(cube):
    copernicus = cube.assign(nlcd_2019_landcover=cube["nlcd_2019_landcover"] * 0 + 126)
    with pytest.raises(ContractError, match="classes 126 only, none of its legend"):
        deepsoil.maps_of(copernicus)


def test_a_cube_that_lacks_a_layer_is_named(cube):
    with pytest.raises(ContractError, match="lacks koeppen_class, which 'Koeppen 1'"):
        deepsoil.maps_of(cube.drop_vars("koeppen_class"))


def test_clouds_are_gaps_that_an_earlier_day_fills_within_the_source_s_bound(cube):
    """Hidden on the first day, seen on the second; hidden again, shown as it was, and older."""
    hidden = (cube["y"] % 3000 < 600).to_numpy()
    assert 0 < hidden.mean() < 1
    red = [c.name for c in deepsoil.CHANNELS].index("red")
    first, second = (deepsoil.maps_of(cube).at(step)[red] for step in (0, 1))
    np.testing.assert_array_equal(first == -1, np.repeat(hidden[:, None], 192, axis=1))
    assert (second >= 0).all()
    later = cube.copy(deep=True)
    later["landsat8_QA_PIXEL"][1:] = 8
    maps = deepsoil.maps_of(later)
    np.testing.assert_array_equal(maps.at(1)[red], first)  # a day later
    np.testing.assert_array_equal(maps.at(2)[red], first)  # 22 days, 32 are allowed
    lai_ages, red_ages = maps.ages_hours[:, 5], maps.ages_hours[:, 2]
    assert red_ages[1] == pytest.approx(red_ages[0] + 24)
    assert red_ages[2] == pytest.approx(red_ages[0] + 22 * 24)
    assert lai_ages[2] < 24
    later["smap_l3_005_soil_moisture_am"][1:] = np.nan
    smap = [c.name for c in deepsoil.CHANNELS].index("SMAP")
    maps = deepsoil.maps_of(later)
    assert (maps.at(1)[smap] >= 0).all() and (maps.at(2)[smap] == -1).all()  # three days


def test_months_are_means_of_what_was_seen(cube):
    """June has two days, July one; clouds take no part."""
    months = deepsoil.monthly(cube)
    assert months["time"].dt.month.values.tolist() == [6, 7]
    smap = cube["smap_l3_005_soil_moisture_am"]
    np.testing.assert_allclose(
        months["smap_l3_005_soil_moisture_am"][0], smap[:2].mean("time"), atol=1e-6
    )
    red = deepsoil.CHANNELS.index(next(c for c in deepsoil.CHANNELS if c.name == "red"))
    assert (deepsoil.maps_of(months).at(0)[red] >= 0).all()
    assert months["polaris_sand"].equals(cube["polaris_sand"])


# ---- batches -------------------------------------------------------------------------------------


def test_a_batch_holds_what_the_network_and_its_loss_want(tiles):
    batch = next(iter(make_loader(tiles, batch_size=5, shuffle_seed=1)))
    shapes = {name: tuple(values.shape[1:]) for name, values in batch.items()}
    square = (64, 64)
    assert shapes == {
        "inputs": (75, *square), "known": (1, *square), "target": square, "valid": square,
        "weights": square, "soil": (4, *square), "probe": square,
    }  # fmt: skip
    assert batch["valid"].dtype == torch.bool
    assert all(torch.isfinite(v).all() for n, v in batch.items() if n != "probe")
    theta_r, theta_s, alpha, n = batch["soil"].unbind(1)
    assert (theta_s > theta_r).all() and (n > 1.1).all()
    assert ((alpha > 0.009) & (alpha < 0.11)).all()  # per kPa, no logarithm


def test_known_is_where_no_map_is_missing(tiles):
    for i in (0, 4, 9):
        tile = tiles.tile(i)
        missing = (tile["inputs"] == -1).any(axis=0)
        np.testing.assert_array_equal(tile["known"][0] == 0, missing)
    assert tiles.tile(9)["known"].all()  # of the second day, without clouds


def test_readings_stand_in_their_pixel_and_weigh_about_it(tiles):
    """Two sensors of a pixel are averaged; the 4 x 4 pixels about them weigh ten times."""
    middle = tiles.tiles.query("step == 0 and row == 1 and col == 1").index[0]
    tile = tiles.tile(middle)
    ((row, col),) = np.argwhere(np.isfinite(tile["probe"]))
    assert tile["probe"][row, col] == pytest.approx(0.15)
    heavy = np.argwhere(tile["weights"] == 10)
    assert (
        len(heavy) == 16
        and [row, col] in heavy.tolist()
        and set(np.unique(tile["weights"])) == {1, 10}
    )
    assert tiles.tiles.loc[middle, "n_probes"] == 1


def test_a_reading_is_found_by_its_tile_and_pixel(tiles):
    found = tiles.readings.drop_duplicates("sample_id").set_index("sample_id")
    assert len(found) == len(SAMPLES)
    for sample in SAMPLES.itertuples():
        place = found.loc[sample.sample_id]
        reading = tiles.tile(place.tile)["probe"][place.row, place.col]
        mean = 0.15 if sample.time == pd.Timestamp(DAYS[0]) and "A" in sample.station_id else None
        assert reading == pytest.approx(mean or sample.soil_moisture_m3_m3)
        assert tiles.tiles.loc[place.tile, "time"] == sample.time


def test_what_is_not_handed_in_is_not_seen(stores):
    """A probe of the test part in an extent of the training part leaves no trace."""
    one = SAMPLES[SAMPLES["station_id"] == "N__A"]
    tiles = deepsoil.ExtentTiles(stores, one, stations=STATIONS)
    assert tiles.tiles.query("step == 0")["n_probes"].sum() == 1
    weights = np.stack([tiles.tile(i)["weights"] for i in range(9)])
    assert (weights == 10).sum() == 16


def test_tiles_without_a_target_are_counted_and_left_out(stores, cube):
    ((key, _),) = stores.items()
    lakes = cube.copy(deep=True)
    lakes["smap_hydroblocks_soil_moisture"][:, :64] = np.nan
    lakes["smap_hydroblocks_soil_moisture"][:, 64:70] = 7.0  # no moisture
    tiles = deepsoil.ExtentTiles({key: lakes})
    assert (tiles.tiles["valid_fraction"] == 0).sum() == 3 * 3
    assert (tiles.tiles["valid_fraction"] > 0).sum() == 3 * 6
    tile = tiles.tile(3)
    assert not tile["valid"][:6].any() and tile["valid"][6:].all()
    assert (tile["target"][:6] == 0).all()


def test_readings_alone_can_be_the_target(stores):
    tiles = deepsoil.ExtentTiles(stores, SAMPLES, stations=STATIONS, target="")
    assert tiles.tiles["valid_fraction"].sum() == pytest.approx(3 / 4096)
    tile = tiles.tile(tiles.tiles["valid_fraction"].to_numpy().nonzero()[0][0])
    assert tile["target"][tile["valid"]] == pytest.approx(tile["probe"][tile["valid"]])


def test_months_average_readings_and_target_too(stores):
    tiles = deepsoil.ExtentTiles(stores, SAMPLES, stations=STATIONS, is_monthly=True)
    assert len(tiles) == 2 * 9
    june = tiles.tile(4)
    assert june["probe"][np.isfinite(june["probe"])] == pytest.approx([0.15])
    july = tiles.tile(9 + 4)
    assert july["probe"][np.isfinite(july["probe"])] == pytest.approx([0.30])


def test_a_cube_that_is_no_extent_is_named(stores, cube):
    with pytest.raises(ContractError, match="has 192 x 192. Make it by build_extents"):
        len(deepsoil.ExtentTiles({"0" * 14: cube.isel(y=slice(0, 64))}))


# ---- the synthetic world -------------------------------------------------------------------------


def test_the_world_gives_all_75_maps_a_target_and_soil(tmp_path):
    """Synthetic: every layer known nearly everywhere, HydroBlocks near the truth."""
    archive = open_archive("synthetic", seed=0, n_stations=2, start="2019-05-01", end="2019-08-01")
    stations = archive.world.stations().drop_duplicates("station_id").head(1)
    stores = deepsoil.build_extents(
        stations, archive, folder=tmp_path, times=["2019-06-20 18:00"], progress=False
    )
    tiles = deepsoil.ExtentTiles(stores)
    extent = tiles.extent(next(iter(stores)))
    inputs = extent["maps"].at(0)
    assert len(inputs) == 75 and not extent["maps"].outside
    assert (inputs != -1).mean() > 0.9
    codes = inputs[5:21]
    assert set(np.unique(codes.sum(axis=0))) <= {1.0, -16.0}
    truth = archive.world.truth("2019-06-20 18:00", grids.cover(
        tuple(np.ravel([grids.quadkey_bounds(grids.quadkeys_around(next(iter(stores)))[k])[i]
                        for k, i in ((6, 0), (6, 1), (2, 2), (2, 3))])),
        "EPSG:3857", pixel_size_m=float(np.diff(tiles.cube(next(iter(stores)))["x"][:2])[0]),
    ))  # fmt: skip
    error = extent["target"][0] - truth
    assert np.nanmean(np.abs(error)) < 0.12
    assert isinstance(tiles.cube(next(iter(stores))), xr.Dataset)
