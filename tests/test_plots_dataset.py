"""Pictures of a dataset: what they count, and which scenes they call chosen."""

import matplotlib

matplotlib.use("agg")

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba

from soilkit import contracts, grids
from soilkit.errors import ContractError, UnknownNameError
from soilkit.metrics.splits import training_distance_km
from soilkit.show import plots
from soilkit.show.plots.style import COLOURS

A, B, C = "N__A__P__0.00__0.05", "N__A__Q__0.00__0.05", "N__C__P__0.00__0.05"


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def stations():
    """Two probes in one pit, and one station a degree of latitude further north."""
    return pd.DataFrame(
        {
            "sensor_id": [A, B, C],
            "station_id": ["N__A", "N__A", "N__C"],
            "network": "N",
            "latitude": [40.0, 40.0, 41.0],
            "longitude": [-98.0, -98.0, -98.0],
            "texture": ["Loam", "Loam", ""],
        }
    )


def samples():
    times = pd.to_datetime(["2020-05-02", "2020-05-14", "2020-05-14"]).astype("datetime64[us]")
    return pd.DataFrame(
        {
            "sample_id": ["a1", "a2", "c1"],
            "sensor_id": [A, A, C],
            "station_id": ["N__A", "N__A", "N__C"],
            "time": times,
            "soil_moisture_m3_m3": [0.2, 0.3, 0.1],
            "sentinel1_scene": ["r1", "r2", "r2"],
            "sentinel2_scene": ["o1", "o1", "o1"],
        }
    )


def scenes():
    rows = [
        ("sentinel1", "r1", "2020-05-02", np.nan),
        ("sentinel1", "r2", "2020-05-14", np.nan),
        ("sentinel1", "r3", "2020-05-26", np.nan),
        ("sentinel2", "o1", "2020-05-01", 0.1),
        ("sentinel2", "o2", "2020-05-06", 0.9),
    ]
    table = pd.DataFrame(rows, columns=["source", "scene_id", "end", "cloud_fraction"])
    return table.assign(station_id="N__A", end=pd.to_datetime(table["end"]))


def observations():
    hours = pd.date_range("2020-05-01", "2020-05-27", freq="1h").astype("datetime64[us]")
    return pd.DataFrame({"sensor_id": A, "time": hours, "soil_moisture_m3_m3": 0.2, "flag": "G"})


class Store:
    """Chips of constant values; the ones of Sentinel-2 have haze of 1000 in every pixel."""

    def read(self, source, scene_id, station_id):
        size, pixel = (16, 160) if source == "soilgrids" else (32, 10)
        grid = grids.chip_grid(40.0, -98.0, size_px=size, pixel_size_m=pixel)
        bands = {
            "sentinel1": ("VV", "VH"),
            "sentinel2": ("B2", "B3", "B4"),
            "soilgrids": ("sand", "silt", "clay"),
        }[source]
        values = np.full((len(bands), size, size), -10.0, np.float32)
        if source == "sentinel2":
            values = 1000 + 500 * np.random.default_rng(0).random(values.shape, np.float32)
        if source == "soilgrids":
            values = np.full_like(values, 350.0)
        return contracts.Chip(values, bands, grid)


def test_a_replicate_that_trains_is_no_distance_away():
    """Probe B shares its pit with A: tested on B, a model has been there."""
    table = samples().assign(sensor_id=[A, B, C])
    split = pd.Series(["train", "test", "test"])
    found = training_distance_km(table, stations(), split=split)
    assert found[B] == 0
    # One degree along a meridian at 40.5 degrees north is 111.04 km on the WGS84 ellipsoid.
    assert found[C] == pytest.approx(111.04, abs=0.01)


def test_distance_needs_somebody_who_trains():
    with pytest.raises(ContractError, match="train"):
        training_distance_km(samples(), stations(), split=pd.Series(["test"] * 3))


def test_a_station_counts_once_however_many_probes_it_has():
    figure = plots.class_bars(stations(), labels={"texture": "USDA texture"}, title="synthetic")
    axis = figure.axes[0]
    names = [text.get_text() for text in axis.get_yticklabels()]
    assert dict(zip(names, [bar.get_width() for bar in axis.patches], strict=True)) == {
        "Loam*": 1,
        "unknown*": 1,
    }


def test_groups_of_a_histogram_are_shares():
    """A validation split of a third of the rows is as tall as the training split."""
    table = pd.DataFrame({"x": [0.1, 0.2, 0.3] * 4, "split": ["train"] * 9 + ["validation"] * 3})
    figure = plots.distributions(table, labels={"x": "x [1]"}, by="split", title="synthetic")
    for drawn in figure.axes[0].patches:
        corners = drawn.get_xy()
        assert corners[:, 1].max() == pytest.approx(1 / 3)


def test_times_are_counted_by_month():
    figure = plots.distributions(samples(), labels={"time": "month"}, title="synthetic")
    assert [bar.get_height() for bar in figure.axes[0].patches] == [3]


def test_a_map_shades_stations_and_not_sensors():
    figure = plots.station_density(stations(), title="synthetic")
    shaded = figure.axes[0].collections[0].get_array()
    assert np.nansum(np.ma.filled(shaded, np.nan)) == 2


def scored(table):
    return table[["station_id"]].assign(model="ours", split="test", r=0.5)


def marks(figure, lane):
    """Times of a lane's hollow and filled marks."""
    rest, chosen = figure.axes[1].collections[2 * lane : 2 * lane + 2]
    return len(rest.get_offsets()), len(chosen.get_offsets())


def test_a_scene_is_filled_where_a_sample_chose_it():
    """Two of three radar passes and one of two optical ones were chosen at this station."""
    figure = plots.station_record(observations(), samples(), scenes=scenes(), station_id="N__A")
    assert marks(figure, 0) == (1, 2)
    assert marks(figure, 1) == (1, 1)
    words = [text.get_text() for text in figure.axes[1].texts]
    assert words == ["2 of 3\nchosen", "1 of 2\nchosen"]


def test_a_record_shows_the_samples_of_its_own_station():
    figure = plots.station_record(observations(), samples(), scenes=scenes(), station_id="N__A")
    (dots,) = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    assert dots.get_ydata().tolist() == [0.2, 0.3]
    assert to_rgba(dots.get_color()) == to_rgba(COLOURS[1])


def test_models_and_products_are_lines_beside_the_readings():
    """The mean of two sensors at one time; another station's rows are not drawn."""
    times = pd.to_datetime(["2020-05-02", "2020-05-14", "2020-05-02", "2020-05-02"])
    names, places = ["smap", "smap", "smap", "fusion"], ["N__A", "N__A", "N__A", "N__Z"]
    table = pd.DataFrame({"station_id": places, "time": times, "model": names})
    table["predicted_m3_m3"] = [0.1, 0.2, 0.3, 0.4]
    where = {"scenes": scenes(), "station_id": "N__A", "predictions": table}
    figure = plots.station_record(observations(), samples(), **where)
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[0].get_lines()}
    assert drawn["smap"].tolist() == pytest.approx([0.2, 0.2]) and "fusion" not in drawn


def test_an_unknown_station_has_no_record():
    with pytest.raises(UnknownNameError, match="N__Z"):
        plots.station_record(observations(), samples(), scenes=scenes(), station_id="N__Z")


def test_imagery_stands_under_the_readings_it_belongs_to():
    figure = plots.imagery_series(
        observations(), samples(), store=Store(), sensor_id=A, title="synthetic"
    )
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["a · 02 May\n0.20 m³ m⁻³", "b · 14 May\n0.30 m³ m⁻³"]


def test_an_unknown_sensor_has_no_imagery():
    with pytest.raises(UnknownNameError, match="nobody"):
        plots.imagery_series(observations(), samples(), store=Store(), sensor_id="nobody")


def test_a_gallery_takes_the_haze_off():
    """A constant 1000 in every pixel of every band is haze: the darkest pixels become black."""
    figure = plots.sample_gallery(samples(), Store(), title="synthetic")
    optical = figure.axes[0].get_images()[0].get_array()
    assert optical.min() == 0
    assert optical.max() == 1
    soil = figure.axes[9].get_images()[0].get_array()
    np.testing.assert_allclose(soil, 0.5)  # 350 of 700 g/kg


def test_the_chips_of_one_sample_stand_in_a_row():
    figure = plots.sample_gallery(samples().iloc[:1], Store(), title="synthetic")
    rows = {axis.get_subplotspec().rowspan.start for axis in figure.axes}
    names = ["Sentinel-2 RGB", "VV", "VH", "SoilGrids"]
    assert rows == {0} and [axis.get_ylabel() for axis in figure.axes] == names


def test_a_cloud_shadow_is_not_the_haze():
    """Shadow that is darker than the ground in red alone must not turn the ground green."""
    from soilkit.show.plots.region_maps import true_colours

    grid = grids.chip_grid(40.0, -98.0, size_px=8, pixel_size_m=10)
    ground = np.random.default_rng(0).uniform(1000, 1500, (8, 8)).astype(np.float32)
    values = np.stack([ground, ground, ground, np.full_like(ground, 3000)])
    chip = contracts.Chip(values, ("B2", "B3", "B4", "B8"), grid)
    shaded = values.copy()
    shaded[2, :2], shaded[3, :2] = 100, 500
    (seen,) = true_colours([contracts.Chip(shaded, chip.bands, grid)])
    lit = seen[2:]  # grey ground stays grey
    np.testing.assert_allclose(lit[..., 0], lit[..., 1], atol=1e-6)


def test_radar_is_averaged_in_linear_power():
    """Half of the pixels at 0 dB and half at -20 dB average to -2.97 dB, not to -10."""
    from soilkit.show.plots.region_maps import _multilook

    checker = np.where(np.indices((4, 4)).sum(axis=0) % 2 == 0, 0.0, -20.0)
    assert _multilook(checker, 4)[0, 0] == pytest.approx(10 * np.log10(0.505))


def cube():
    """8 x 8 pixels of 20 m on two days: the second has no radar, and a cloud in its first row."""
    y, x = 4e6 - 20 * np.arange(8.0), 5e5 + 20 * np.arange(8.0)
    time = pd.to_datetime(["2019-06-01", "2019-06-11"])
    checker = np.where(np.indices((8, 8)).sum(axis=0) % 2, 0.0, -20.0)
    flags = np.zeros((2, 8, 8))
    flags[1, 0] = 1 << 10
    ground = np.random.default_rng(0).uniform(0.1, 0.15, (2, 8, 8))
    dated = {
        "sentinel1_VV": np.stack([checker, np.full((8, 8), np.nan)]), "sentinel2_QA60": flags,
        "sentinel1_age_hours": np.stack([np.full((8, 8), 12.0), np.full((8, 8), np.nan)]),
        "sentinel2_age_hours": np.stack([np.full((8, 8), 24.0), np.full((8, 8), 84.0)]),
        **{f"sentinel2_{band}": ground for band in ("B2", "B3", "B4")}, "sentinel2_B8": 3 * ground,
    }  # fmt: skip
    layers = {name: (("time", "y", "x"), values) for name, values in dated.items()}
    layers["dem_elevation"] = ("y", "x"), np.tile(np.arange(300.0, 308.0), (8, 1))
    layers["inside"] = ("y", "x"), np.ones((8, 8), dtype="i1")
    place = xr.DataArray(0, attrs={"GeoTransform": "499990.0 20.0 0.0 4000010.0 0.0 -20.0"})
    return xr.Dataset(layers, {"time": time, "y": y, "x": x, "spatial_ref": place})


def test_every_layer_of_a_cube_has_a_picture_with_its_age():
    figure = plots.cube_panel(cube(), "2019-06-10", title="synthetic")  # the 11th is nearest
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == [
        "sentinel1: VV [dB], 80 m means\nnone", "sentinel2: true colour\n3.5 d old",
        "sentinel2: NDVI [1]\n3.5 d old, 0.5 everywhere", "sentinel2: QA60, clouds\n3.5 d old",
        "dem: elevation [m]\nstatic",
    ]  # fmt: skip
    by_title = {axis.get_title().split("\n")[0]: axis for axis in figure.axes}
    clouds = by_title["sentinel2: QA60, clouds"].images[0].get_array()
    assert clouds.sum() == 8 and (clouds[0] == 1).all()
    first = plots.cube_panel(cube(), "2019-06-01", title="synthetic")
    np.testing.assert_allclose(first.axes[0].images[0].get_array(), 10 * np.log10(0.505))


def test_optics_of_no_scene_are_clear_to_the_grey_behind_them():
    optics = [name for name in cube() if name.startswith("sentinel2")]
    figure = plots.cube_panel(cube().assign({n: cube()[n] * np.nan for n in optics}), title="none")
    (axis,) = (a for a in figure.axes if a.get_title() == "sentinel2: true colour\nnone")
    assert (axis.images[0].get_array()[..., 3] == 0).all()
    assert to_rgba(axis.get_facecolor())[0] < 1
    plots.cube_ages(cube().isel(time=[1])[["sentinel1_VV", "sentinel1_age_hours", "inside"]])


def test_the_gaps_of_a_cube_count_clouds_and_ages_do_not_fill_them():
    """Of radar nothing on the second day; of optics one row in eight under a cloud."""
    figure = plots.cube_ages(cube(), title="synthetic")
    ages, gaps = ([text.get_text() for text in axis.texts] for axis in figure.axes[:2])
    assert ages == ["0.5", "none", "1.0", "3.5"]
    assert gaps == ["0", "100", "0", "12"]


def test_a_split_without_a_score_leaves_a_gap():
    rows = [("by_row", "forest", 0.8), ("by_block", "forest", 0.2), ("by_row", "line", 0.5)]
    table = pd.DataFrame(rows, columns=["split", "model", "value"])
    table = table.assign(metric="r", lower=table["value"] - 0.1, upper=table["value"] + 0.1)
    figure = plots.interval_dots(table, rows="split", title="synthetic")
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["by_row", "by_block"]
    assert axis.get_xlabel() == "correlation R [1]"
    assert np.isnan(axis.containers[1].lines[0].get_xdata(orig=False)).tolist() == [False, True]


def test_a_map_of_a_leaky_split_shows_stations_on_both_sides():
    leaky, clean = pd.Series(["train", "test", "test"]), pd.Series(["train", "train", "test"])
    splits = {"by_row": leaky, "by_station": clean}
    figure = plots.split_maps(samples(), stations(), splits=splits, title="synthetic")
    sizes = [[len(c.get_offsets()) for c in axis.collections] for axis in figure.axes]
    assert sizes == [[1, 0, 2], [1, 0, 1]]  # training, validation and test stations


def test_the_funnel_counts_what_each_step_leaves():
    """100 readings, 90 lost at the anchor, 7 at the optics: 3 samples."""
    drops = pd.DataFrame(
        {"source": ["sentinel1", "sentinel2"], "reason": ["none", "cloud"], "count": [90, 7]}
    )
    axis = plots.join_funnel(samples(), drops).axes[0]
    (dots,) = axis.lines
    assert list(dots.get_xdata()) == [100, 10, 3]
    assert "3  (−7)" in [text.get_text() for text in axis.texts]


@pytest.mark.parametrize(
    "draw",
    [
        plots.station_density,
        lambda table: plots.station_map(scored(table), table),
        lambda table: plots.score_maps(scored(table), table, metrics=["r"]),
        lambda table: plots.split_maps(samples(), table, splits={"one": pd.Series(["test"] * 3)}),
    ],
    ids=["density", "map", "scores", "splits"],
)
def test_every_map_of_stations_shows_the_border_they_stand_at(draw):
    """Two stations either side of the 49th parallel: a line runs along it between them."""
    north = stations().assign(latitude=[48.5, 48.5, 49.5])
    axis = draw(north).axes[0]
    points = np.concatenate([line.get_xydata() for line in axis.lines])
    near = points[np.abs(points[:, 0] + 98) < 3]
    assert np.nanmin(np.abs(near[:, 1] - 49.0)) < 0.05
