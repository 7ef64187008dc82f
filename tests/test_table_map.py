"""A map of a table model shows its inputs' cells or smooths them, and never its own tiles."""

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export import archives, daily_table, ten_day_table
from soilkit.models import maps
from soilkit.models.tabular import SYSTEMS, DenseEnsemble

MAP = Grid("EPSG:32614", 500_013.0, 4_000_047.0, 90.0, 150, 170)


class Echo(BaseEstimator):
    """Predicts its first predictor."""

    def predict(self, X):
        return np.asarray(X)[:, 0]


def coarse(values, cell_m=4500.0):
    """A layer in the map's own projection, its north-west corner a little beyond the map's."""
    height, width = np.shape(values)
    grid = Grid(MAP.crs, MAP.left_m - 13, MAP.top_m + 7, cell_m, height, width)
    return maps.Layer(np.asarray(values, float), grid)


def ease_layer(size_m=2000.0):
    """Random cells of the EASE-Grid, which lie askew under a UTM map."""
    x, y = grids.transformer(MAP.crs, grids.EASE2_CRS).transform(MAP.left_m, MAP.top_m)
    grid = Grid(grids.EASE2_CRS, x - 3000, y + 3000, size_m, 14, 14)
    return maps.Layer(np.random.default_rng(0).random((14, 14)), grid)


@pytest.mark.parametrize("resampling", ["nearest", "smooth"])
def test_tiles_leave_no_seam(resampling, monkeypatch):
    """Small tiles, ragged ones and one for all give the very same map."""
    layers = {"a": ease_layer(), "b": coarse(np.arange(16.0).reshape(4, 4))}
    model = LinearRegression().fit(np.random.default_rng(1).random((9, 2)), np.arange(9.0))
    made = []
    for side in (32, 64, 512):
        monkeypatch.setattr(maps.table_map, "TILE_PX", side)
        made.append(maps.predict_table_map(model, layers, grid=MAP, resampling=resampling))

    assert made[0].soil_moisture.notnull().all()
    assert (made[0].soil_moisture == made[2].soil_moisture).all()
    assert (made[1].soil_moisture == made[2].soil_moisture).all()


def test_nearest_repeats_the_coarse_cell_and_smooth_does_not_step():
    """Cells of 50 pixels: a jump of 3 at the cells' edges, or 3 / 50 from pixel to pixel."""
    layer = coarse(np.arange(4) * 3.0 + np.zeros((4, 1)))
    cells = maps.predict_table_map(Echo(), {"a": layer}, grid=MAP, resampling="nearest")
    smooth = maps.predict_table_map(Echo(), {"a": layer}, grid=MAP, resampling="smooth")

    col = ((MAP.x_m - layer.grid.left_m) // 4500).astype(int)
    assert (cells.soil_moisture.values == layer.values[0][col]).all()
    assert np.abs(np.diff(cells.soil_moisture, axis=1)).max() == 3
    assert np.abs(np.diff(smooth.soil_moisture, axis=1)).max() == pytest.approx(3 / 50, abs=1e-5)


def test_smooth_keeps_the_value_at_each_cells_centre():
    layer = ease_layer()
    row, col = 6, 5
    x, y = grids.transformer(grids.EASE2_CRS, MAP.crs).transform(
        layer.grid.x_m[col], layer.grid.y_m[row]
    )
    one = Grid(MAP.crs, x - 0.5, y + 0.5, 1.0, 1, 1)
    found = maps.predict_table_map(Echo(), {"a": layer}, grid=one, resampling="smooth")

    assert found.soil_moisture.item() == pytest.approx(layer.values[row, col], abs=1e-5)


def test_a_missing_cell_stays_missing_and_no_larger():
    """Its neighbours are drawn from the corners that are known."""
    values = np.ones((4, 4))
    values[1, 1] = np.nan
    layer = coarse(values)
    made = [
        maps.predict_table_map(Echo(), {"a": layer, "b": coarse(np.ones((4, 4)))}, grid=MAP,
                               resampling=way)
        for way in ("nearest", "smooth")
    ]  # fmt: skip

    assert (made[0].soil_moisture.isnull() == made[1].soil_moisture.isnull()).all()
    assert np.nanmax(np.abs(made[1].soil_moisture - 1)) < 1e-6
    assert set(np.unique(made[1].known_fraction)) == {0.5, 1.0}


def test_classes_reach_the_model_as_names_and_are_never_averaged():
    class ByClass(BaseEstimator):
        def predict(self, X, return_std=False, *, strata=None):
            mean = strata["texture"].map({"Loam": 0.2, "Sand": 0.1}).to_numpy()
            return (mean, np.full(len(mean), 0.03)) if return_std else mean

    names = np.array([["Loam", "Sand"] * 2] * 4)
    texture = maps.Layer(names, coarse(np.zeros((4, 4))).grid)
    made = maps.predict_table_map(
        ByClass(), {"a": ease_layer()}, grid=MAP, classes={"texture": texture}, resampling="smooth"
    )

    assert set(np.unique(made.soil_moisture.values).round(3)) == {np.float32(0.1), np.float32(0.2)}
    assert (made.soil_moisture_std.values == np.float32(0.03)).all()


def test_a_map_says_its_units_projection_and_resampling():
    made = maps.predict_table_map(Echo(), {"a": ease_layer()}, grid=MAP)

    assert made.soil_moisture.attrs["units"] == "m3 m-3"
    assert made.attrs["resampling"] == "nearest"
    assert maps.map_grid(made) == MAP
    assert "soil_moisture_std" not in made


def test_layers_that_do_not_fit_are_refused_by_name():
    X = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 1.0]})
    model = LinearRegression().fit(X, [0.0, 1.0, 2.0])
    a, b = ease_layer(), coarse(np.ones((4, 4)))

    with pytest.raises(ContractError, match="trained on a, b, in this order"):
        maps.predict_table_map(model, {"b": b, "a": a}, grid=MAP)
    with pytest.raises(ContractError, match="'b' does not cover"):
        maps.predict_table_map(model, {"a": a, "b": coarse(np.ones((3, 4)))}, grid=MAP)
    with pytest.raises(UnknownNameError, match="'nearest' and 'smooth'"):
        maps.predict_table_map(model, {"a": a, "b": b}, grid=MAP, resampling="cubic")
    with pytest.raises(ContractError, match="shape"):
        maps.Layer(np.ones((2, 2)), MAP)


def test_a_map_eats_what_its_stations_were_trained_on(tmp_path):
    """At a station, the layers of a day are the row of that day in the daily table."""
    archive = archives.open_archive(
        "synthetic", seed=3, n_stations=6, start="2019-04-01", end="2019-05-01"
    )
    table = daily_table.build(archive)
    row = table.rows.iloc[-40]
    station = table.stations.set_index("station_id").loc[row["station_id"]]
    here = grids.chip_grid(station["latitude"], station["longitude"], size_px=1, pixel_size_m=10)
    where = {"grid": here, "store": tmp_path / "cube", "progress": False}
    predictors, classes = maps.daily_layers(archive, row["time"], **where)
    found = {
        name: maps.predict_table_map(Echo(), {name: layer}, grid=here).soil_moisture.item()
        for name, layer in predictors.items()
    }

    assert tuple(predictors) == daily_table.PREDICTORS
    for name in ("smap_m3_m3", "precipitation_mm", "lst_c", "et_mm_8d"):
        assert found[name] == pytest.approx(row[name], rel=1e-4), name
    for name, slack in (
        ("sand_percent", 1),
        ("clay_percent", 1),
        ("ph", 0.05),
        ("elevation_m", 15),
    ):
        assert found[name] == pytest.approx(row[name], abs=slack), name
    assert found["ndvi"] == pytest.approx(row["ndvi"], abs=0.2)  # finer pixels on the map
    assert tuple(classes) == ten_day_table.CHARACTERISTICS


class First(Echo):
    """Echoes the first predictor of the daily table."""

    feature_names_in_ = np.array(daily_table.PREDICTORS)


def test_a_model_of_the_daily_table_maps_days_of_a_region(tmp_path):
    """Each day of the region is what that day's layers give; later days cost no more chips."""
    archive = archives.open_archive(
        "synthetic", seed=3, n_stations=2, start="2019-04-01", end="2019-05-01"
    )
    box, days = (-98.51, 38.0, -98.49, 38.01), ["2019-04-20", "2019-04-21"]
    asked = {"archive": archive, "store": tmp_path / "region", "progress": False}
    mapped = maps.predict_region(First(), box, dates=days, **asked)
    grid = maps.map_grid(mapped)
    layers, _ = maps.daily_layers(
        archive, days[1], grid=grid, store=tmp_path / "day", progress=False
    )
    alone = maps.predict_table_map(First(), layers, grid=grid)

    assert mapped.time.dt.strftime("%Y-%m-%d").values.tolist() == days
    inside = mapped.validity.isel(time=1) == 0
    assert inside.sum() > 0.8 * inside.size
    expected = alone.soil_moisture.where(inside).values
    np.testing.assert_allclose(mapped.soil_moisture.isel(time=1), expected, rtol=1e-5)
    del asked["progress"]
    assert maps.plan_region(First(), box, dates=days, **asked) == []


def test_a_model_in_two_parts_is_told_all_dates_together(tmp_path):
    """What came before moves its answer for the last date; a map of that alone knows nothing."""
    rng, n = np.random.default_rng(0), 240
    names = [f"s{k}" for k in range(8)]
    stations = pd.DataFrame({"station_id": names, "sensor_id": names, "network": "N"})
    stations = stations.assign(station=names, latitude=36.0 + np.arange(8), longitude=-98.0)
    time = pd.date_range("2019-04-01", periods=30, freq="5D").as_unit("us")
    samples = pd.DataFrame({"station_id": np.repeat(names, 30), "time": np.tile(time, 8)})
    samples = samples.assign(sample_id=[str(k) for k in range(n)], sensor_id=samples.station_id)
    water = rng.gamma(4, 3, n)
    samples["soil_moisture_m3_m3"] = 0.1 + 0.01 * water + 0.005 * np.roll(water, 1)
    features = pd.DataFrame({"sample_id": samples["sample_id"], "smap_ssm": water})
    data = ten_day_table.TabularDataset(stations, samples, features)
    system = SYSTEMS["two parts: nowcast"]
    trained = system.train(data, pd.Series(["train"] * n), preset="small")
    archive = archives.open_archive(
        "synthetic", seed=3, n_stations=2, start="2019-04-01", end="2019-06-01"
    )
    box, dates = (-98.51, 38.0, -98.50, 38.005), ["2019-04-20", "2019-05-01", "2019-05-12"]
    asked = {"archive": archive, "progress": False}
    three = maps.predict_region(trained, box, dates=dates, store=tmp_path / "a", **asked)
    last = maps.predict_region(trained, box, dates=dates[-1:], store=tmp_path / "b", **asked)

    assert set(trained.columns) - {"smap_ssm"}  # it does see context
    valid = three.validity == 0
    assert valid.any() and three.soil_moisture.where(valid).notnull().sum() == valid.sum()
    moved = np.abs(three.soil_moisture.isel(time=-1) - last.soil_moisture.isel(time=0))
    assert float(moved.max()) > 1e-4


def test_predictors_that_no_archive_has_are_named(tmp_path):
    X = pd.DataFrame({"smap_ssm": [1.0, 2.0], "probe_depth": [0.0, 1.0]})
    model = LinearRegression().fit(X, [0.1, 0.2])
    asked = {"archive": None, "dates": ["2019-04-20"], "store": tmp_path}
    with pytest.raises(ContractError, match="probe_depth: predictors that come from no layer"):
        maps.predict_region(model, (-98.5, 38.0, -98.4, 38.1), **asked)
    with pytest.raises(UnknownNameError, match="mapped with stride_m and area; found mode"):
        model = LinearRegression().fit(X[["smap_ssm"]], [0.1, 0.2])
        maps.predict_region(model, (-98.5, 38.0, -98.4, 38.1), mode="dense", **asked)


def test_repeated_pixels_of_a_source_are_smoothed_as_its_own_would_be():
    """Cells of 4,500 m, given at their own size or as 50 x 50 repeated pixels of a finer grid."""
    cells = coarse(np.random.default_rng(2).random((8, 8)))
    fine = Grid(MAP.crs, cells.grid.left_m, cells.grid.top_m, 90.0, 400, 400)
    repeated = maps.Layer(cells.values.repeat(50, 0).repeat(50, 1), fine, 4500.0)
    inner = Grid(MAP.crs, MAP.left_m + 4500, MAP.top_m - 4500, 90.0, 200, 200)
    made = [
        maps.predict_table_map(Echo(), {"a": layer}, grid=inner, resampling="smooth").soil_moisture
        for layer in (cells, repeated)
    ]

    np.testing.assert_allclose(made[0], made[1], atol=0.02)  # half a step of a fine pixel
    assert np.ptp(made[0].values) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("resampling", ["nearest", "smooth"])
def test_a_degree_at_90_m_takes_ten_seconds_of_one_core(resampling):
    """1.5 million cells through seven members, inputs at hand; processor time, not the clock's."""
    grid = Grid(MAP.crs, MAP.left_m, MAP.top_m, 90.0, 1237, 1212)
    rng = np.random.default_rng(0)
    fine = maps.Layer(rng.random((1239, 1214)), Grid(MAP.crs, MAP.left_m - 90, MAP.top_m + 90, 90.0,
                                                     1239, 1214))  # fmt: skip
    X, y = rng.random((500, 9)), rng.random(500) * 0.5
    strata = pd.DataFrame({name: rng.choice(["a", "b"], 500) for name in "abcdef"})
    model = DenseEnsemble(epochs=1).fit(X, y, strata=strata)
    start = time.process_time()
    made = maps.predict_table_map(
        model, {str(k): fine for k in range(9)}, grid=grid, resampling=resampling
    )

    assert made.soil_moisture.size > 1_499_000
    assert time.process_time() - start < 10
