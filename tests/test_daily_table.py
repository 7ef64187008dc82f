"""The daily table loses no station-day without a reason and never looks ahead."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from soilkit import contracts, grids, sources
from soilkit.contracts import Grid
from soilkit.errors import CatalogueError, ContractError, UnitError, UnknownNameError
from soilkit.export import archives, daily_table, rasters, ten_day_table
from soilkit.export.archives.local import Layer
from tests import world_catalogue


@pytest.fixture(scope="module")
def archive():
    return archives.open_archive(
        "synthetic", seed=3, n_stations=10, start="2019-02-01", end="2019-05-01"
    )


@pytest.fixture(scope="module")
def table(archive):
    return daily_table.build(archive)


def observations(archive):
    """The readings of the world's surface sensors as one table, of all flags."""
    sensors = archive.world.stations().query("depth_to_m < 0.055")["sensor_id"]
    parts = [archive.world.readings(name).assign(sensor_id=name) for name in sensors]
    return pd.concat(parts, ignore_index=True)


def sites(textures):
    names = [f"N__{k}" for k in range(len(textures))]
    return pd.DataFrame({"station_id": names, "texture": textures})


def test_every_station_day_is_kept_or_counted(table):
    """Rows = stations x days less what the steps dropped; readings are counted apart."""
    days = table.drops[table.drops["unit"] == "station-day"]

    assert days["rows"].iloc[0] == 10 * 89
    assert days["rows"].iloc[0] - days["dropped"].sum() == len(table.rows) == days["rows"].iloc[-1]
    assert (
        days["rows"].shift(1).iloc[1:] - days["rows"].iloc[1:] == days["dropped"].iloc[1:]
    ).all()
    assert table.rows["station_id"].nunique() == days["stations"].iloc[-1]


def test_only_networks_without_flags_are_pruned_by_temperature(archive, table):
    """A cold day with a good flag stays, as in the paper; without flags it goes."""
    cold = table.rows[table.rows["lst_c"] < daily_table.FROST_C]
    assert len(cold)
    assert not cold["network"].isin(["SYN-CLIMATE"]).any()

    trusted = daily_table.build(archive, unflagged=())
    step = trusted.drops["step"].str.startswith("LST below")
    assert trusted.drops.loc[step, "dropped"].item() == 0
    assert (trusted.rows.loc[trusted.rows["network"] == "SYN-CLIMATE", "lst_c"] < 3).any()


def test_a_composite_serves_only_once_it_has_ended(archive, table):
    """Aged 0-7 days from its end, or, as the paper pads it, from its first day."""
    assert table.rows["lst_c_age_days"].between(0, 7).all()
    at = ["station_id", "time"]
    ended = table.rows.set_index(at)
    padded = daily_table.build(archive, causal="start").rows.set_index(at)
    day, eight = pd.Timestamp("2019-03-06"), pd.Timedelta(days=8)  # the ninth period's first
    on = ended.index.get_level_values("time")

    assert set(ended.lst_c_age_days[on == day - pd.Timedelta(days=1)]) == {7}
    assert set(ended.lst_c_age_days[on == day]) == {0}
    later = ended.set_axis(pd.MultiIndex.from_arrays([ended.index.get_level_values(0), on - eight]))
    both = padded[["lst_c"]].join(later["lst_c"], rsuffix="_later", how="inner")
    assert len(both) > 100 and (both.lst_c == both.lst_c_later).all()
    soon = padded[padded.lst_c_age_days < 8]  # composites that end after the archive does are none
    assert (soon.lst_c == ended.lst_c.reindex(soon.index)).mean() < 0.02  # by chance


def test_a_daily_mean_is_that_of_its_accepted_hours(archive, table):
    """One day recomputed from the hourly readings of the station's surface sensors."""
    row = table.rows[table.rows["network"] != "SYN-CLIMATE"].iloc[20]
    sensors = archive.world.stations()
    mine = (sensors["station_id"] == row["station_id"]) & (sensors["depth_to_m"] < 0.055)
    means = []
    for name in sensors.loc[mine, "sensor_id"]:
        hours = archive.world.readings(name)
        hours = hours[(hours["time"].dt.floor("D") == row["time"]) & (hours["flag"] == "G")]
        means.append(hours["soil_moisture_m3_m3"].mean())

    assert row["soil_moisture_m3_m3"] == pytest.approx(np.mean(means))


def test_a_stations_ndvi_is_that_of_the_chip_over_it(archive, table):
    """Series and images are drawn from the same pixels, noise included."""
    row = table.rows[table.rows["ndvi_age_days"] == 0].iloc[0]
    site = table.stations.set_index("station_id").loc[row["station_id"]]
    here = grids.chip_grid(site["latitude"], site["longitude"], size_px=1, pixel_size_m=10)
    image = archive.world.render("modis_ndvi_500", row["time"], here)

    assert row["ndvi"] == pytest.approx(1e-4 * image[0, 0, 0])


def test_thinning_keeps_each_stations_every_third_day(archive, table):
    thin = daily_table.build(archive, every_days=3)
    gaps = thin.rows.groupby("station_id")["time"].diff().dropna().dt.days

    assert (gaps % 3 == 0).all()
    assert 0.2 < len(thin.rows) / len(table.rows) < 0.47
    assert set(thin.rows["sample_id"]) <= set(table.rows["sample_id"])


def test_a_fifth_of_each_texture_class_validates_and_a_single_site_trains():
    split = daily_table.split_by_texture(sites(["Loam"] * 10 + ["Clay"] * 2 + ["Sand"]), seed=1)
    counts = split.groupby("texture")["part"].value_counts().unstack(fill_value=0)

    assert counts.loc["Loam"].to_dict() == {"train": 8, "validation": 2}
    assert counts.loc["Clay"].to_dict() == {"train": 1, "validation": 1}
    assert counts.loc["Sand"].to_dict() == {"train": 1, "validation": 0}
    assert split.loc[split["texture"] == "Sand", "status"].item() == "Sand: one site, it trains"
    with pytest.raises(ContractError, match="one row a station"):
        daily_table.split_by_texture(pd.concat([sites(["Loam"])] * 2))


def test_predictions_and_characteristics_follow_the_rows(table):
    rows = table.rows.iloc[::7].reset_index(drop=True)
    smap = {"predicted": rows["smap_m3_m3"], "model": "SMAP", "split": "all"}
    contracts.check(ten_day_table.predictions_table(rows, **smap), contracts.PREDICTIONS)

    classes = table.stations[["station_id", *ten_day_table.CHARACTERISTICS]]
    classes = ten_day_table.by_sample(classes, rows)
    assert list(classes.columns) == list(ten_day_table.CHARACTERISTICS)
    assert np.allclose(classes["clay"], rows["clay_percent"])


def test_what_an_archive_or_a_call_lacks_is_named(archive):
    local = archives.open_archive("local", layers={})
    known = {"stations": archive.world.stations(), "readings": observations(archive)}

    with pytest.raises(ContractError, match="'local' has no readings of its own"):
        daily_table.build(local)
    with pytest.raises(CatalogueError, match="lacks .* smap_m3_m3 .*, ndvi .* or modis_ndvi_250"):
        daily_table.build(local, **known)
    with pytest.raises(UnknownNameError, match="'end' or 'start'"):
        daily_table.build(archive, causal="middle")
    for days in (0, -1, 2.5):
        with pytest.raises(ContractError, match="every_days is a whole number"):
            daily_table.build(archive, every_days=days)
    percent = known["readings"].assign(soil_moisture_m3_m3=25.0)
    with pytest.raises(UnitError, match="divide percent by 100"):
        daily_table.build(archive, **known | {"readings": percent})


# ---- other archives ------------------------------------------------------------------------------

SPAN = np.datetime64("2019-06-01"), np.datetime64("2019-06-16")
PIXELS_M = {"modis_ndvi_500": 500.0, "modis_lst": 1000.0, "modis_et": 500.0, "soilgrids": 250.0,
            "soilgrids_ph": 250.0, "dem_merit": 90.0, "land_cover": 100.0}  # fmt: skip


@pytest.fixture(scope="module")
def known():
    """A world, and two of its probes set down two kilometres apart, in one 0.05 degree cell."""
    options = {"seed": 3, "n_stations": 4, "start": "2019-04-20", "end": "2019-07-01"}
    archive = archives.open_archive("synthetic", **options)
    stations = archive.world.stations().query("depth_to_m < 0.055").drop_duplicates("station_id")
    stations = stations.iloc[[0, 2]].assign(latitude=[37.02, 37.04], longitude=[-98.015, -98.02])
    readings = observations(archive)
    readings = readings[readings["sensor_id"].isin(stations["sensor_id"])]
    readings = readings[readings["time"].between(*SPAN, inclusive="left")]
    return archive, {"stations": stations, "readings": readings.reset_index(drop=True)}


@pytest.fixture(scope="module")
def images(known):
    """What the archive's scenes hold over 20 km: source -> (scenes, (scene, band, y, x), Grid)."""
    archive, tables = known
    chosen = daily_table.choose(archive, tables["stations"][:1], start=SPAN[0], end=SPAN[1])
    u_m, v_m = grids.transformer("EPSG:4326", grids.EASE2_CRS).transform(-98.025, 37.025)
    held = {}
    for one in (one for some in chosen.values() for one in some):
        name = one.source.name
        size_m = PIXELS_M.get(name, grids.EASE2_PIXEL_SIZE_M[9])
        if name in ("chirps", "koeppen"):  # on pixels that neither cells nor degrees know
            size_m = 800.0
        n = int(20_000 // size_m // 2 * 2)
        origin = (grids.EASE2_LEFT_M, grids.EASE2_TOP_M)
        left, top = (at + size_m * np.floor((v - at) / size_m - s * n // 2)
                     for at, v, s in zip(origin, (u_m, v_m), (1, -1), strict=True))  # fmt: skip
        grid = Grid(grids.EASE2_CRS, float(left), float(top), size_m, n, n)
        moments = one.scenes["end"].fillna(pd.Timestamp("2019-06-01"))
        held[name] = one.scenes, [archive.world.render(name, t, grid) for t in moments], grid
    return archive, tables, held


def local_archive(images):
    """The images as xarray objects in memory, a dated one a time."""
    layers = {}
    for name, (scenes, stack, grid) in images.items():
        row, values = sources.get(name), np.stack(stack)
        place = {"y": grid.y_m, "x": grid.x_m}
        if row.is_static:
            dims, values = ("y", "x"), values[0][None]
        else:
            dims, place = ("time", "y", "x"), {"time": scenes["start"].to_numpy(), **place}
        bands = {b.name: (dims, values[0, k] if row.is_static else values[:, k])
                 for k, b in enumerate(row.bands)}  # fmt: skip
        dated = (
            {}
            if row.is_static
            else {"dated_by": "instant" if row.dated_by == "middle" else "start"}
        )
        layers[name] = Layer(xr.Dataset(bands, place), unit="stored", crs=grid.crs, **dated)
    return archives.open_archive("local", layers=layers)


def stac_archive(images, folder, *, start):
    """The images as cloud-optimised GeoTIFFs in a static catalogue."""
    for name, (scenes, stack, grid) in images.items():
        row = sources.get(name)
        for scene, values in zip(scenes.itertuples(), stack, strict=True):
            scene = scene._replace(orbit="")
            named = type("Scene", (), {**scene._asdict(), "item_id": f"{name}-{scene.scene_id}"})
            moments = (start, start) if row.is_static else (scene.start, scene.end)
            item = world_catalogue._item(row, named, moments=moments, values=values, grid=grid)
            place, names = folder / name, [band.name for band in row.bands]
            path = place / f"{named.item_id}.tif"
            rasters.write_cog(path, values, grid=grid, names=names, tags={})
            world_catalogue._write_json(place / f"{named.item_id}.json", item)
    return archives.open_archive(
        "stac", catalogue=world_catalogue._write_catalogue(folder, "daily")
    )


@pytest.mark.parametrize("name", ["local", "stac"])
@pytest.mark.parametrize("causal", ["end", "start"])
def test_every_archive_gives_the_same_table(images, tmp_path, name, causal):
    """Dated layers to their last digit; static ones within what resampling their files changes."""
    synthetic, tables, held = images
    other = local_archive(held) if name == "local" else stac_archive(
        held, tmp_path, start=synthetic.world.start)  # fmt: skip
    wanted = daily_table.build(synthetic, **tables, causal=causal)
    made = daily_table.build(other, **tables, causal=causal)

    assert len(wanted.rows) > 10 and (made.rows["sample_id"] == wanted.rows["sample_id"]).all()
    pd.testing.assert_frame_equal(made.drops, wanted.drops)
    same = ["soil_moisture_m3_m3", *daily_table.DAILY, *daily_table.COMPOSITES]
    same += [f"{name}_age_days" for name in daily_table.COMPOSITES]
    np.testing.assert_allclose(made.rows[same], wanted.rows[same], rtol=1e-5, atol=1e-6)
    slack = {"sand_percent": 1.0, "clay_percent": 1.0, "ph": 0.1, "elevation_m": 4.0}
    for column, atol in slack.items():
        np.testing.assert_allclose(made.rows[column], wanted.rows[column], rtol=0, atol=atol)
    classes = ["texture", "koeppen"]
    assert (made.stations[classes] == wanted.stations[classes]).all(axis=None)


def test_an_archive_that_lacks_a_layer_is_told_which_and_classes_may_lack(images):
    """Without a Koeppen map the stations' own classes stand; without NDVI there is no table."""
    _, tables, held = images
    local = local_archive({k: v for k, v in held.items() if k not in ("koeppen", "land_cover")})
    made = daily_table.build(local, **tables)
    own = tables["stations"].set_index("station_id").loc[made.stations["station_id"]]

    assert made.stations["koeppen"].tolist() == own["koeppen"].tolist()
    local = local_archive({k: v for k, v in held.items() if "ndvi" not in k and k != "chirps"})
    with pytest.raises(CatalogueError) as lacking:
        daily_table.build(local, **tables)
    assert "ndvi (modis_ndvi_500 or modis_ndvi_250), precipitation_mm" in str(lacking.value)
    assert "smap" not in str(lacking.value)
