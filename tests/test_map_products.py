"""A map as files that strangers open, a page that is read at a glance, and a view to move."""

import base64
import io
import json
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
import xarray as xr
from matplotlib.path import Path as Outline
from PIL import Image
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.errors import ContractError, StoreError
from soilkit.models import maps
from soilkit.models.maps.windows import map_dataset
from soilkit.show import map_views, plots, widgets
from soilkit.show.plots import outlines

FLAGS = {
    "flag_masks": np.array([1, 2, 4, 32], np.uint8),
    "flag_meanings": "edge cloud water outside_applicability",
}
DAYS = pd.to_datetime(["2021-07-01", "2021-07-13"])
KANSAS = Grid("EPSG:32614", 700_000.0, 4_330_000.0, 100.0, 20, 30)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def moisture(grid=KANSAS, *, wetter=0.0):
    """Wetter to the east and to the south, never one value twice, m3 m-3."""
    cells = np.arange(grid.height * grid.width).reshape(grid.height, grid.width)
    return (0.1 + 0.2 * cells / cells.max() + wetter).astype(np.float32)


def one_day(grid=KANSAS, *, wetter=0.0, comment=""):
    """The north-west cell lies under cloud, the north-east one outside the applicability."""
    values, flags = moisture(grid, wetter=wetter), np.zeros((grid.height, grid.width), np.uint8)
    values[0, 0], flags[0, 0], flags[0, -1] = np.nan, 2, 32
    age = np.full(values.shape, 5, np.float32)
    layers = {
        "soil_moisture": (values, {}),
        "soil_moisture_std": (0.1 * values, {"units": "m3 m-3"}),
        "validity": (flags, FLAGS),
        "sentinel1_age_hours": (age, {"units": "h"}),
    }
    about = {"comment": comment} if comment else {}
    return map_dataset(layers, grid, title="Made for a test", **about)


def two_days(grid=KANSAS, **options):
    parts = [one_day(grid, **options), one_day(grid, wetter=0.05, **options)]
    crs = parts[0]["crs"]
    days = xr.concat([part.drop_vars("crs") for part in parts], "time")
    return days.assign(crs=crs).assign_coords(time=DAYS.astype("datetime64[us]"))


# ---- files --------------------------------------------------------------------------------------


def test_every_day_is_a_cog_with_names_units_and_no_data(tmp_path):
    paths = maps.save(two_days(), tmp_path, archive="local", tags={"model": "forest"})
    with rasterio.open(paths["2021-07-13"]) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.descriptions == ("soil_moisture", "soil_moisture_std", "sentinel1_age_hours")
        assert file.units == ("m3 m-3", "m3 m-3", "h")
        assert np.isnan(file.nodata) and file.crs.to_epsg() == 32614
        assert file.tags()["model"] == "forest" and file.tags()["archive"] == "local"
        assert file.tags()["time"] == "2021-07-13T00:00:00Z"
        read, mask = file.read(1), file.read_masks(1)
        (value,) = file.sample([(700_150.0, 4_329_950.0)])
    np.testing.assert_array_equal(read[1:], moisture(wetter=0.05)[1:])
    assert mask[0, 0] == 0 and mask[1:].all()
    assert value[0] == moisture(wetter=0.05)[0, 1]
    with rasterio.open(paths["2021-07-13_validity"]) as file:
        assert file.dtypes == ("uint8",) and file.nodata is None
        assert file.tags()["flag_meanings"] == FLAGS["flag_meanings"]
        assert file.tags()["flag_masks"] == "1 2 4 32"
        assert file.read(1)[0, [0, 1, -1]].tolist() == [2, 0, 32]


def test_a_large_map_has_overviews_and_its_headers_before_its_data(tmp_path):
    """Means of moisture; of flags one that exists: 2 and 32 must not become 17."""
    grid = Grid("EPSG:32614", 700_000.0, 4_330_000.0, 10.0, 600, 700)
    maps.save(one_day(grid), tmp_path, times=["2021-07-01"])
    with rasterio.open(tmp_path / "map_2021-07-01.tif") as file:
        assert file.overviews(1) == [2] and file.block_shapes[0] == (512, 512)
        small = file.read(1, out_shape=(300, 350))
    coarse = moisture(grid).reshape(300, 2, 350, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(small[1:], coarse[1:], atol=1e-5)
    start = (tmp_path / "map_2021-07-01.tif").read_bytes()[:400]
    assert b"LAYOUT=IFDS_BEFORE_DATA" in start
    flags = np.tile(np.array([2, 32, 32, 32], np.uint8), (600, 175))
    rough = one_day(grid).assign(validity=(("y", "x"), flags, FLAGS))
    maps.save(rough, tmp_path, name="rough", times=["2021-07-01"])
    with rasterio.open(tmp_path / "rough_2021-07-01_validity.tif") as file:
        assert set(np.unique(file.read(1, out_shape=(300, 350)))) <= {2, 32}


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_zarr_store_is_the_map(tmp_path):
    dataset = two_days(comment="Synthetic: made up.")
    paths = maps.save(dataset, tmp_path)
    back = xr.open_zarr(paths["zarr"])
    xr.testing.assert_equal(back.load(), dataset)
    assert back.attrs == dataset.attrs
    assert back["soil_moisture"].attrs["units"] == "m3 m-3"
    assert back["validity"].dtype == np.uint8
    assert back["validity"].attrs["flag_meanings"] == FLAGS["flag_meanings"]
    assert maps.map_grid(back) == KANSAS


def test_saving_again_replaces_and_a_failure_leaves_the_old(tmp_path, monkeypatch):
    maps.save(two_days(), tmp_path)
    wetter = two_days().assign(soil_moisture=two_days()["soil_moisture"] + 0.1)
    paths = maps.save(wetter, tmp_path)
    assert xr.open_zarr(paths["zarr"])["soil_moisture"].equals(wetter["soil_moisture"])

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_zarr", full)
    with pytest.raises(StoreError, match="Free some space"):
        maps.save(two_days(), tmp_path)
    assert xr.open_zarr(paths["zarr"])["soil_moisture"].equals(wetter["soil_moisture"])
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".partial")]


def test_the_item_is_valid_and_its_files_are_there(tmp_path):
    paths = maps.save(two_days(), tmp_path, name="kansas", archive="local")
    words = json.loads(paths["item"].read_text())
    JsonSchemaSTACValidator().validate_core(words, pystac.STACObjectType.ITEM, "1.1.0")
    item = pystac.Item.from_file(str(paths["item"]))
    hrefs = {key: asset.get_absolute_href() for key, asset in item.assets.items()}
    assert set(hrefs) == set(paths) - {"item"} and all(map(os.path.exists, hrefs.values()))
    assert item.properties["soilkit:archive"] == "local" and item.datetime is None
    assert item.properties["end_datetime"] == "2021-07-13T00:00:00Z"
    assert item.properties["proj:code"] == "EPSG:32614"
    assert item.properties["proj:shape"] == [20, 30]
    with rasterio.open(paths["2021-07-01"]) as file:
        assert item.properties["proj:transform"] == list(file.transform)
        lonlat = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    assert item.bbox == pytest.approx(lonlat, abs=1e-6)
    assert item.assets["2021-07-01"].media_type == pystac.MediaType.COG
    bands = words["assets"]["2021-07-01"]["bands"]
    assert [band["unit"] for band in bands] == ["m3 m-3", "m3 m-3", "h"]
    assert bands[0]["nodata"] == "nan" and bands[0]["raster:spatial_resolution"] == 100.0
    (flags,) = words["assets"]["2021-07-01_validity"]["bands"]
    assert "2 cloud" in flags["description"] and "nodata" not in flags


def test_one_day_and_the_antimeridian(tmp_path):
    """Fiji: west 179.9 is larger than east -179.9, as RFC 7946 wants, and the shape is cut."""
    x, y = grids.transformer("EPSG:4326", "EPSG:32760").transform(180.0, -17.0)
    grid = Grid("EPSG:32760", x - 10_000, y + 10_000, 1000.0, 20, 20)
    paths = maps.save(one_day(grid), tmp_path, times=["2021-07-01 06:00"])
    item = json.loads(paths["item"].read_text())
    JsonSchemaSTACValidator().validate_core(item, pystac.STACObjectType.ITEM, "1.1.0")
    west, south, east, north = item["bbox"]
    assert 179.8 < west < 180 and -180 < east < -179.8 and south < -17 < north
    assert item["geometry"]["type"] == "MultiPolygon"
    assert item["properties"]["datetime"] == "2021-07-01T06:00:00Z"


def test_days_with_two_maps_keep_their_hours(tmp_path):
    times = pd.to_datetime(["2021-07-01 06:00", "2021-07-01 18:00"]).astype("datetime64[us]")
    paths = maps.save(two_days().assign_coords(time=times), tmp_path)
    assert {"2021-07-01T060000", "2021-07-01T180000"} <= set(paths)


def test_what_is_no_dated_map_is_refused(tmp_path):
    with pytest.raises(ContractError, match="saved with its dates"):
        maps.save(one_day(), tmp_path)
    with pytest.raises(ContractError, match="came with 2"):
        maps.save(one_day(), tmp_path, times=DAYS)
    with pytest.raises(ContractError, match="this one has .*validity"):
        maps.save(one_day().drop_vars("soil_moisture"), tmp_path, times=DAYS[:1])
    with pytest.raises(ContractError, match="lacks rain"):
        maps.to_cog(one_day(), tmp_path / "a.tif", variables=["soil_moisture", "rain"])
    with pytest.raises(ContractError, match="soil_moisture have other dimensions"):
        maps.to_cog(two_days(), tmp_path / "a.tif")
    assert not any(tmp_path.iterdir())


def test_a_dense_map_says_in_each_of_its_products_how_far_it_is_from_the_exact_one(tmp_path):
    """Files, pictures and view alike; a map of no cell has nothing to say."""
    dense = two_days().assign_attrs(dense_deviation_m3_m3=0.00456, dense_deviation_n_cells=96)
    paths = maps.save(dense, tmp_path)
    with rasterio.open(paths["2021-07-13"]) as file:
        assert file.tags()["dense_deviation_m3_m3"] == "0.00456"
        assert file.tags()["dense_deviation_n_cells"] == "96"
    item = json.loads(paths["item"].read_text())["properties"]
    assert item["soilkit:dense_deviation_m3_m3"] == 0.00456
    assert item["soilkit:dense_deviation_n_cells"] == 96
    assert xr.open_zarr(paths["zarr"]).attrs["dense_deviation_m3_m3"] == 0.00456
    words, day = "RMS 0.0046 m³ m⁻³ at 96 cells", dense.isel(time=0)
    for figure in (
        map_views.map_page(dense),
        map_views.difference_of(dense, first=DAYS[0], second=DAYS[1]),
        map_views.cell_series(dense, longitude=-96.67, latitude=39.09),
        plots.map_and_truth(day, moisture(), title="A map"),
    ):
        assert any(words in text for text in words_of(figure))
    assert words in widgets.MapView(dense).children[0].value
    nothing = dense.assign_attrs(dense_deviation_m3_m3=np.nan, dense_deviation_n_cells=0)
    item = json.loads(maps.save(nothing, tmp_path)["item"].read_text())["properties"]
    assert not any("dense" in name for name in item)
    assert "dense" not in map_views.heading_of(nothing)


# ---- the page -----------------------------------------------------------------------------------


def words_of(figure):
    return [" ".join(text.get_text().split()) for text in figure.findobj(plt.Text)]


def test_a_page_says_what_is_known_and_where_not_to_believe_it():
    """Of 600 cells 462 are valid, 108 water and 30 cloud; a reason of none is not named."""
    flags = np.zeros((20, 30), np.uint8)
    flags[:, :6], flags[:2, :15] = 4, 2  # 108 of water, 30 of cloud
    dataset = one_day().assign(validity=(("y", "x"), flags, FLAGS))
    figure = map_views.map_page(dataset, expected_error="RMSE 0.05 m³ m⁻³ at unseen stations, us")
    words = words_of(figure)
    assert "RMSE 0.05 m³ m⁻³ at unseen stations, us" in words
    assert {"valid 77 %", "cloud 5 %", "water 18 %"} <= set(words)
    assert not any("edge" in text for text in words)
    assert figure.get_suptitle() == "Made for a test"
    assert "sentinel1 5 h" in words
    assert any("not held against stations" in w for w in words_of(map_views.map_page(one_day())))


def test_a_page_takes_intervals_and_says_what_was_not_looked_for():
    """A map that states limits and no deviation, the dense way, with two reasons unchecked."""
    dataset = one_day().drop_vars("soil_moisture_std")
    values = dataset["soil_moisture"]
    dataset = dataset.assign(soil_moisture_lower=values - 0.06, soil_moisture_upper=values + 0.08)
    dataset["validity"].attrs["not_checked"] = "snow_or_frozen radar_shadow"
    dataset = dataset.assign_attrs(
        interval="90% of readings at unseen stations", interval_half_width_m3_m3=0.08,
        dense_deviation_m3_m3=0.0012, dense_deviation_n_cells=64,
    )  # fmt: skip
    figure = map_views.map_page(dataset)
    words = " ".join(words_of(figure))
    drawn = {axis.get_title(): axis for axis in figure.findobj(plt.Axes)}
    half = drawn["half width of the interval"].images[0].get_array()
    np.testing.assert_allclose(half.compressed(), 0.07, atol=1e-6)
    assert "± 0.080 m³ m⁻³ holds 90% of readings at unseen stations" in words
    assert "not held against stations" not in words
    assert "snow or frozen, radar shadow" in words and "RMS 0.0012 m³ m⁻³ at 64 cells" in words


def test_a_page_says_synthetic_where_the_map_does():
    figure = map_views.map_page(two_days(comment="Synthetic: made up."))
    assert figure.get_suptitle() == "Made for a test (synthetic)"
    assert any("synthetic ground" in text for text in words_of(figure))
    assert not any("ynthetic" in text for text in words_of(map_views.map_page(two_days())))


def test_days_stand_side_by_side_on_one_scale():
    figure = map_views.map_page(two_days())
    drawn = {axis.get_title(): axis for axis in figure.findobj(plt.Axes)}
    first, second = (drawn[f"{day:%Y-%m-%d}"].images[0] for day in DAYS)
    assert first.get_clim() == second.get_clim()
    share = drawn["where not to believe it"].images[0].get_array()
    assert share[0, 0] == 100 and share[1, 1] == 0
    many = xr.concat([two_days()] * 20, "time", data_vars="minimal", coords="minimal")
    many = many.assign_coords(time=pd.date_range("2021-01-01", periods=40).astype("datetime64[us]"))
    titles = [axis.get_title() for axis in map_views.map_page(many).findobj(plt.Axes)]
    assert sum(title.startswith("2021-") for title in titles) == 6
    assert "2021-01-01" in titles and "2021-02-09" in titles


def test_ticks_bar_and_stations_lie_where_they_say():
    stations = pd.DataFrame({"latitude": [39.09, 0.0], "longitude": [-96.67, 0.0]})
    figure = map_views.map_page(one_day(), stations=stations)
    axis = next(a for a in figure.findobj(plt.Axes) if len(a.images) and len(a.lines) > 1)
    to_degrees = grids.transformer(KANSAS.crs, "EPSG:4326")
    for place, text in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True):
        longitude = to_degrees.transform(place, KANSAS.bounds_m[1])[0]
        assert text.get_text().endswith("° W")
        assert -float(text.get_text().split("°")[0]) == pytest.approx(longitude, abs=1e-5)
    bar, marks = axis.lines
    assert np.ptp(bar.get_xdata()) == pytest.approx(500, rel=1e-3)  # a sixth of 3 km
    assert "500 m" in [text.get_text() for text in axis.texts]
    x, y = grids.transformer("EPSG:4326", KANSAS.crs).transform(-96.67, 39.09)
    assert marks.get_xydata().tolist() == [[x, y]]


def test_a_scale_bar_counts_metres_on_the_ground():
    """At 60 N a metre of Web Mercator is half a metre of ground."""
    x, y = grids.transformer("EPSG:4326", "EPSG:3857").transform(10.0, 60.0)
    grid = Grid("EPSG:3857", x, y, 100.0, 40, 80)
    figure = map_views.map_page(one_day(grid))
    axis = next(a for a in figure.findobj(plt.Axes) if a.images and a.lines)
    assert np.ptp(axis.lines[0].get_xdata()) == pytest.approx(2000, rel=0.01)
    assert "1 km" in [text.get_text() for text in axis.texts]


def test_a_map_without_flags_or_spread_still_gets_its_page():
    figure = map_views.map_page(one_day()[["soil_moisture", "crs"]])
    assert any("no standard deviation" in text for text in words_of(figure))
    assert {"a value 100 %", "no value < 1 %"} <= set(words_of(figure))
    assert "where it has a value; no flags" in words_of(figure)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_map_of_clouds_and_a_map_of_one_cell_get_their_pages(tmp_path):
    """Nothing to see is an answer: its reason is named, in pictures, film and view alike."""
    flags = np.full((20, 30), 2, np.uint8)
    clouds = two_days().assign(validity=(("time", "y", "x"), np.stack([flags, flags]), FLAGS))
    names = ["soil_moisture", "soil_moisture_std"]
    clouds = clouds.assign({name: clouds[name] * np.nan for name in names})
    figure = map_views.map_page(clouds.isel(time=0))
    figure.canvas.draw()
    assert "cloud 100 %" in words_of(figure)
    map_views.difference_of(clouds, first=DAYS[0], second=DAYS[1]).canvas.draw()
    map_views.animation(clouds, tmp_path / "clouds.gif")
    widgets.MapView(clouds)
    one = map_dataset({"soil_moisture": (np.full((1, 1), 0.2, "f4"), {})}, Grid("EPSG:32614",
                      700_000.0, 4_330_000.0, 100.0, 1, 1))  # fmt: skip
    figure = map_views.map_page(one)
    figure.canvas.draw()
    assert "a value 100 %" in words_of(figure)


def test_the_outlines_are_small_and_know_land_from_sea():
    assert outlines.OUTLINES.stat().st_size <= 200_000
    with np.load(outlines.OUTLINES) as file:
        assert "Natural Earth" in str(file["source"])
    land = Outline.make_compound_path(*map(Outline, outlines.outlines()["land"]))
    inside = land.contains_points([(-96.6, 39.1), (-40.0, 30.0), (147.0, -35.0), (178.0, -17.8)])
    assert inside.tolist() == [True, False, True, True]
    border = np.concatenate(outlines.outlines()["border"])
    pacific_49n = np.hypot(*(border - (-122.76, 49.0)).T)
    assert pacific_49n.min() < 0.05


def test_a_large_map_shows_the_coast_in_its_own_projection():
    """A 200 km map of the coast of Texas in UTM: a point of Galveston's shore lies on a line."""
    x, y = grids.transformer("EPSG:4326", "EPSG:32615").transform(-94.8, 29.3)
    grid = Grid("EPSG:32615", x - 100_000, y + 100_000, 4000.0, 50, 50)
    figure = map_views.map_page(one_day(grid))
    axis = next(a for a in figure.findobj(plt.Axes) if a.images and a.lines)
    coast = np.concatenate([line.get_xydata() for line in axis.lines])
    assert np.nanmin(np.hypot(*(coast - (x, y)).T)) < 10_000
    assert axis.get_xlim() == pytest.approx((x - 100_000, x + 100_000))


@pytest.mark.parametrize("place", [(180.0, -17.0, "EPSG:32760"), (20.0, 70.0, "EPSG:32634")])
def test_a_page_at_the_edges_of_the_earth(place):
    longitude, latitude, crs = place
    x, y = grids.transformer("EPSG:4326", crs).transform(longitude, latitude)
    figure = map_views.map_page(one_day(Grid(crs, x - 80_000, y + 80_000, 8000.0, 20, 20)))
    figure.canvas.draw()
    axis = next(a for a in figure.findobj(plt.Axes) if a.images and a.lines)
    sides = {text.get_text()[-1] for text in axis.get_xticklabels()}
    assert sides == ({"E", "W"} if longitude == 180 else {"E"})


# ---- change, cells, films -----------------------------------------------------------------------


def test_the_difference_of_two_days_is_the_second_minus_the_first():
    figure = map_views.difference_of(two_days(), first="2021-07-01", second="2021-07-12")
    first, second, change = (axis.images[0] for axis in figure.axes[:3])
    assert [axis.get_title() for axis in figure.axes[:2]] == ["2021-07-01", "2021-07-13"]
    assert first.get_clim() == second.get_clim()
    np.testing.assert_allclose(change.get_array().compressed(), 0.05, atol=1e-6)
    assert change.get_clim()[0] == -change.get_clim()[1]


def degrees_at(x, y):
    longitude, latitude = grids.transformer(KANSAS.crs, "EPSG:4326").transform(x, y)
    return {"longitude": longitude, "latitude": latitude}


def test_a_cell_through_time_is_that_cell():
    days = two_days(comment="Synthetic: made up.")
    place = degrees_at(KANSAS.x_m[7] + 40, KANSAS.y_m[3] - 40)
    figure = map_views.cell_series(days, **place)
    line = next(one for one in figure.axes[0].lines if one.get_label() == "map")
    np.testing.assert_allclose(line.get_ydata(), days["soil_moisture"].values[:, 3, 7])
    assert "synthetic" in figure.get_suptitle()
    corner = degrees_at(KANSAS.x_m[0], KANSAS.y_m[0])
    labels = [one.get_label() for one in map_views.cell_series(days, **corner).axes[0].lines]
    assert "cloud" in labels and "water" not in labels
    with pytest.raises(ContractError, match="lies outside the map"):
        map_views.cell_series(days, longitude=0.0, latitude=0.0)


def test_a_film_has_a_frame_a_day(tmp_path):
    path = map_views.animation(two_days(), tmp_path / "days.gif", frames_per_second=2.0)
    with Image.open(path) as film:
        assert film.format == "GIF" and film.n_frames == 2
        assert film.info["duration"] == 500
        frames = []
        for k in range(2):
            film.seek(k)
            frames.append(np.asarray(film.convert("RGB"), int))
    assert np.abs(frames[0] - frames[1]).max() > 20
    assert [p.name for p in tmp_path.iterdir()] == ["days.gif"]


# ---- the view to move ---------------------------------------------------------------------------


def test_a_view_across_the_antimeridian_stays_in_one_piece(tmp_path):
    """Fiji: 6 km and not the whole globe; places of both sides lie on it, and answer."""
    crs = "EPSG:32760"
    x, y = grids.transformer("EPSG:4326", crs).transform(180.0, -17.0)
    grid = Grid(crs, x - 3000, y + 2000, 200.0, 20, 30)
    sides = pd.DataFrame(
        {"station_id": ["w", "e"], "latitude": -17.0, "longitude": [179.99, -179.99]}
    )
    days = two_days(grid)
    view = widgets.MapView(days, stations=sides)
    (south, west), (north, east) = view.left.image.bounds
    assert west < 180 < east and east - west < 0.07 and south < -17 < north
    assert (west + east) / 2 == pytest.approx(view.map.center[1], abs=1e-6)
    assert view.dots.places.loc[["w", "e"], "longitude"].tolist() == pytest.approx([179.99, 180.01])
    for longitude in (179.99, 180.01, -179.99):
        view.message.value = "?"
        view.pick(longitude, -17.0)
        assert view.message.value == ""
    drawn = Image.open(io.BytesIO(base64.b64decode(view.left.image.url.split(",")[1])))
    assert np.asarray(drawn)[..., 3].mean() > 200  # most of the picture is the map
    map_views.difference_of(days, first=DAYS[0], second=DAYS[1]).canvas.draw()
    map_views.animation(days, tmp_path / "days.gif")


def click(view, longitude, latitude):
    event = {"event": "interaction", "type": "click", "coordinates": [latitude, longitude]}
    view.map._handle_leaflet_event(None, event, [])


def test_the_day_moves_the_picture_and_a_click_draws_its_cell():
    stations = pd.DataFrame({"station_id": ["N__A"], "latitude": [39.09], "longitude": [-96.67]})
    view = widgets.MapView(two_days(), stations=stations)
    assert [name for name, _ in view.left.day.options] == ["2021-07-01", "2021-07-13"]
    before, scale = view.left.image.url, view.left.scale.value
    view.left.day.value = 1
    assert view.left.image.url != before and view.left.image.url.startswith("data:image/png")
    assert view.left.scale.value == scale  # one scale for all days
    (south, west), (north, east) = view.left.image.bounds
    assert south < 39.09 < north and west < -96.66 < east
    click(view, -96.67, 39.09)
    assert bytes(view.picture.value).startswith(b"\x89PNG")
    assert view._picked.location == [39.09, -96.67] and view._picked in view.map.layers
    click(view, 0.0, 0.0)
    assert "outside the map" in view.message.value
    assert view._picked.location == [39.09, -96.67]


def test_one_opaque_layer_is_shown_at_a_time_and_nothing_asks_the_network():
    view = widgets.MapView(two_days(comment="Synthetic: made up."))
    assert "synthetic" in view.children[0].value
    moisture_url = view.left.image.url
    view.left.layer.value = "soil_moisture_std"
    assert view.left.image.url != moisture_url
    assert view.left.image.opacity == 1.0
    assert any(type(layer).__name__ == "Polyline" for layer in view.map.layers), "no outlines"
    assert not [layer for layer in view.map.layers if "Tile" in type(layer).__name__]
    alone = widgets.MapView(one_day()[["soil_moisture", "crs"]])
    assert [name for _, name in alone.left.layer.options] == ["soil_moisture"]


def test_a_split_map_has_a_day_and_a_layer_on_either_side():
    """Both opaque, in panes of their own under outlines and dots; one side leaves the other be."""
    view = widgets.MapView(two_days())
    (split,) = [c for c in view.map.controls if type(c).__name__ == "SplitMapControl"]
    sides = {"left": view.left, "right": view.right}
    assert [split.left_layer, split.right_layer] == [side.image for side in sides.values()]
    assert [side.day.value for side in sides.values()] == [0, 1]
    for pane, side in sides.items():
        assert side.image in view.map.layers and side.image.pane == pane
        assert side.image.opacity == 1.0 and view.map.panes[pane]["zIndex"] < 400
    left, right = view.left.image.url, view.right.image.url
    view.right.layer.value = "soil_moisture_std"
    assert view.right.image.url != right and view.left.image.url == left
    layers = list(view.map.layers)
    click(view, -96.67, 39.09)
    assert list(view.map.layers) == layers  # the line forgets its layers where one is added
    alone = widgets.MapView(one_day()[["soil_moisture", "crs"]])
    assert not [c for c in alone.map.controls if type(c).__name__ == "SplitMapControl"]
    assert alone.right not in alone.children


def test_a_station_of_the_list_is_marked_and_its_cell_drawn():
    stations = pd.DataFrame({"station_id": ["N__A"], "latitude": [39.09], "longitude": [-96.67]})
    view = widgets.MapView(two_days(), stations=stations)
    view.dots.choice.value = "N__A"
    assert view._picked.location == [39.09, -96.67] and view.dots.ring.opacity == 1.0
    assert bytes(view.picture.value).startswith(b"\x89PNG")


def test_each_layer_of_a_map_is_drawn_on_a_scale_of_its_own_unit():
    """Applicability has no unit, an age has hours; a constant layer still spans its scale."""
    age, index = np.full((2, 20, 30), 5.0), np.linspace(0, 2, 600).reshape(20, 30)
    dims = ("time", "y", "x")
    days = two_days().assign(
        dem_age_hours=(dims, age), applicability=(dims, np.stack([index, index]))
    )
    layers = map_views.layers_of(days)
    assert layers["dem_age_hours"] == "age of dem"
    scales = {name: map_views.scale_of(name, days[name]) for name in layers}
    assert scales["applicability"][0] == (0.0, 2.0) and scales["applicability"][2] == "1"
    assert scales["dem_age_hours"][0] == (5.0, 5.01) and scales["dem_age_hours"][2] == "hours"
    assert scales["soil_moisture"][2] == "m³ m⁻³"
    view = widgets.MapView(days)
    before = view.left.scale.value
    view.left.layer.value = "applicability"
    assert view.left.scale.value != before
