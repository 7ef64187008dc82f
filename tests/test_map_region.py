"""A region of any archive mapped tile by tile, held against the truth, its pictures in place."""

import base64
import io
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import matplotlib

matplotlib.use("agg")

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from matplotlib import image
from matplotlib import pyplot as plt

from soilkit import grids, sources
from soilkit.contracts import Chip, Grid
from soilkit.errors import (
    CatalogueError,
    CheckpointError,
    ContractError,
    UnknownNameError,
)
from soilkit.export import archives, chips, cubes, features, join, rasters, ten_day_table
from soilkit.export.archives.scenes import places_of, scenes_everywhere, static_image
from soilkit.metrics import map_scores, ubrmse_difference
from soilkit.models import maps, training, xception_fusion
from soilkit.models.inputs import Inputs, stored_statistics
from soilkit.models.maps import (
    Scene,
    map_grid,
    predict_map,
)
from soilkit.models.tabular import SYSTEMS
from soilkit.models.xception_fusion import look
from soilkit.show import plots
from soilkit.show.plots.region_maps import _multilook, true_colours

LATITUDE, LONGITUDE = 38.0, -98.0


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def mapped(values, *, left=500_000.0, top=4_206_000.0, size=320.0):
    """A map of these values, through the code that makes maps."""
    height, width = values.shape
    crs = grids.utm_crs(LATITUDE, LONGITUDE)
    inset = (2560 - size) / 2
    side = Grid(
        crs, left - inset, top + inset, 10.0, 256 + 32 * (height - 1), 256 + 32 * (width - 1)
    )

    class Known(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, high):
            return high[:, 0, 128, 128] * self.weight

    layer = np.zeros((1, side.height, side.width), np.float32)
    layer[0, 128::32, 128::32][:height, :width] = values
    return predict_map(Known(), Scene(side, {"high": layer}), look, progress=False)


# ---- the scalars and the scores ----------------------------------------------------------------


def test_coarse_inputs_are_scaled_by_what_the_checkpoint_carries():
    inputs = Inputs(high=(), low=(), coarse=("smap", "gldas"))
    statistics = {"smap.ssm": (0.2, 0.1), "gldas.SoilMoi0_10cm_inst": (0.3, 0.05)}
    kept = inputs.normalisation(statistics)
    assert stored_statistics(kept, inputs) == statistics
    assert stored_statistics({}, Inputs(coarse=())) == {}
    del kept["gldas.SoilMoi0_10cm_inst"]
    with pytest.raises(CheckpointError, match=r"of gldas\.SoilMoi0_10cm_inst"):
        stored_statistics(kept, inputs)


def truth(side=25, seed=0):
    return 0.2 + 0.04 * np.random.default_rng(seed).standard_normal((side, side))


def test_one_number_has_the_truths_own_spread_as_its_ubrmse():
    ground = truth()
    scores = map_scores(np.full(ground.shape, 0.15), ground)
    assert scores["ubrmse_m3_m3"] == pytest.approx(ground.std())
    assert scores["bias_m3_m3"] == pytest.approx(0.15 - ground.mean())
    assert np.isnan(scores["r"])


def test_rmse_is_bias_and_ubrmse_together():
    ground = truth()
    scores = map_scores(ground + 0.03 + 0.5 * (ground - ground.mean()), ground)
    parts = scores["bias_m3_m3"] ** 2 + scores["ubrmse_m3_m3"] ** 2
    assert scores["rmse_m3_m3"] ** 2 == pytest.approx(parts)
    assert scores["r"] == pytest.approx(1)


def test_unknown_cells_are_left_out():
    ground, guess = truth(), truth() + 0.1
    guess[:5] = np.nan
    scores = map_scores(guess, ground)
    assert (scores["n"], scores["bias_m3_m3"]) == (500, pytest.approx(0.1))
    with pytest.raises(ContractError, match="share no known cell"):
        map_scores(np.full((2, 2), np.nan), np.zeros((2, 2)))
    with pytest.raises(ContractError, match="Average the truth"):
        map_scores(np.zeros((2, 2)), np.zeros((4, 4)))


def test_fine_detail_counts_by_the_difference_of_ubrmse():
    """A map with half the detail leaves half the spread; the interval holds the value."""
    ground = truth()
    half = ground.mean() + 0.5 * (ground - ground.mean())
    flat = np.full(ground.shape, 0.4)
    gain = ubrmse_difference(half, flat, truth=ground, cell_size_m=320)
    assert gain["difference"] == pytest.approx(-0.5 * ground.std())
    assert gain["lower"] < gain["difference"] < gain["upper"] < 0
    assert gain["n_blocks"] == 9  # 8 km in blocks of about 2.56 km
    back = ubrmse_difference(flat, half, truth=ground, cell_size_m=320)
    assert back["difference"] == pytest.approx(-gain["difference"])
    same = ubrmse_difference(flat, flat - 0.1, truth=ground, cell_size_m=320)
    assert same["difference"] == pytest.approx(0, abs=1e-9)


def test_too_few_blocks_give_no_interval():
    gain = ubrmse_difference(truth(9), truth(9, 1), truth=truth(9, 2), cell_size_m=320)
    assert gain["n_blocks"] == 1
    assert np.isnan(gain["lower"])
    nothing = ubrmse_difference(np.full((9, 9), np.nan), truth(9), truth=truth(9), cell_size_m=320)
    assert nothing["n_blocks"] == 0 and np.isnan(nothing["difference"])
    finer = ubrmse_difference(
        truth(9), truth(9, 1), truth=truth(9, 2), cell_size_m=320, block_m=960, seed=1
    )
    assert finer["n_blocks"] == 9
    assert finer["lower"] < finer["difference"] < finer["upper"]


def test_smooth_errors_have_wider_intervals_than_cells_would_give():
    """Errors alike within a block: resampling cells would claim too much."""
    blocks = np.kron(np.random.default_rng(3).standard_normal((3, 3)), np.ones((8, 8)))
    ground, flat = 0.2 + 0.04 * blocks, np.full((24, 24), 0.2)
    noisy = ground + 0.04 * np.roll(blocks, 8, axis=0)
    coarse = ubrmse_difference(noisy, flat, truth=ground, cell_size_m=320)
    cells = ubrmse_difference(noisy, flat, truth=ground, cell_size_m=320, block_m=320)
    assert cells["n_blocks"] == 576
    assert coarse["upper"] - coarse["lower"] > 3 * (cells["upper"] - cells["lower"])


# ---- the pictures -----------------------------------------------------------------------------


def test_map_and_truth_share_one_scale_and_the_title_says_what_they_are():
    ground = truth(6).astype(np.float32)
    dataset = mapped(ground + 0.02)
    place = (LONGITUDE, LATITUDE)
    figure = plots.map_and_truth(dataset, ground, title="one moment (synthetic)", place=place)
    model, true, difference = (axis.images[0] for axis in figure.axes[:3])
    assert model.get_clim() == true.get_clim()
    assert difference.get_clim()[0] == -difference.get_clim()[1]
    np.testing.assert_allclose(difference.get_array(), 0.02, atol=1e-6)
    assert figure.get_suptitle() == "one moment (synthetic)"
    assert [axis.get_title() for axis in figure.axes[:3]] == ["model", "truth", "model − truth"]
    assert all("m³ m⁻³" in axis.get_ylabel() for axis in figure.axes[3:])
    assert figure.get_supxlabel() == "east of the station [km]"


def test_pictures_count_kilometres_from_the_place():
    dataset = mapped(truth(5))
    grid = map_grid(dataset)
    x, y = grid.x_m[0], grid.y_m[0]  # the centre of the north-west cell
    place = grids.transformer(grid.crs, "EPSG:4326").transform(x, y)
    figure = plots.map_and_truth(dataset, truth(5), place=place)
    assert figure.axes[0].images[0].get_extent() == pytest.approx([-0.16, 1.44, -1.44, 0.16])
    corner = plots.map_and_truth(dataset, truth(5))
    assert corner.axes[0].images[0].get_extent() == pytest.approx([0, 1.6, 0, 1.6])


def test_an_overlay_lies_where_the_map_lies():
    """The one wet cell is found in the picture at its own longitude and latitude."""
    values = np.zeros((20, 30), np.float32)
    values[4, 7] = 1.0
    values[0, 0] = np.nan
    grid = Grid(grids.utm_crs(LATITUDE, LONGITUDE), 500_000.0, 4_206_000.0, 320.0, 20, 30)
    picture = plots.overlay(values, grid, limits=(0, 1), cmap="gray")
    png = image.imread(io.BytesIO(base64.b64decode(picture.url.split(",")[1])))
    lon, lat = grids.transformer(grid.crs, "EPSG:4326").transform(grid.x_m[7], grid.y_m[4])
    there = grids.transformer("EPSG:4326", "EPSG:3857").transform
    (south, west), (north, east) = picture.bounds
    (left, right), (bottom, top) = there([west, east], [south, north])
    x, y = there(lon, lat)
    row = int((top - y) / (top - bottom) * png.shape[0])
    col = int((x - left) / (right - left) * png.shape[1])
    assert png[row, col].tolist() == [1, 1, 1, 1]
    assert (png[..., 0] > 0.5).mean() == pytest.approx(1 / 600, rel=0.3)
    assert png[2, 2, 3] == 0  # unknown is transparent
    assert picture.url.startswith("data:image/png;base64,")


def test_the_scale_is_common_and_round():
    assert plots.moisture_range(np.full(50, 0.123), np.full(50, 0.342)) == (0.12, 0.35)


def test_speckle_is_averaged_in_linear_power_for_the_eye():
    """Half the pixels at 0 dB and half at -30 dB look like 10 log10(0.5005) = -3 dB."""
    vv = np.where(np.arange(16) % 2, 0.0, -30.0)
    shown = _multilook(np.broadcast_to(vv, (16, 16)), 8)
    assert shown.shape == (2, 2)
    np.testing.assert_allclose(shown, 10 * np.log10(0.5005))


def test_clouds_do_not_darken_the_ground():
    """A white cloud in a tenth of the chip leaves the stretch to the ground."""
    ground = np.linspace(500, 1500, 400).reshape(20, 20)
    flags = np.zeros((20, 20))
    flags[:2] = 1 << 10
    bands = np.where(flags > 0, 9000, ground)
    grid = Grid("EPSG:32614", 0.0, 0.0, 10.0, 20, 20)
    chip = Chip(np.stack([bands, bands, bands, flags]), ("B4", "B3", "B2", "QA60"), grid)
    (colour,) = true_colours([chip])
    assert colour[2:].max() == 1
    assert np.median(colour[2:]) == pytest.approx(0.5, abs=0.03)
    assert (colour[:2] == 1).all()


def test_a_map_file_answers_in_another_projection(tmp_path):
    """Asked in Web Mercator for the pixel at a cell's centre, the file gives that cell."""
    values = truth(6).astype(np.float32)
    dataset = mapped(values)
    maps.to_cog(dataset, tmp_path / "map.tif")
    grid = map_grid(dataset)
    x, y = grids.transformer(grid.crs, "EPSG:3857").transform(grid.x_m[4], grid.y_m[1])
    pixel = Grid("EPSG:3857", x - 5, y + 5, 10.0, 1, 1)
    read = rasters.read(tmp_path / "map.tif", pixel, resampling="nearest")
    assert read.item() == pytest.approx(values[1, 4])
    assert isinstance(dataset, xr.Dataset)


# ---- the door: any region, dates and archive ---------------------------------------------------

BANDS = {"sentinel2": ("B2", "B3", "B4", "B8", "B11", "B12")}
SOURCES = ("sentinel1", "sentinel2", "dem", "soilgrids", "smap", "gldas")
PERIOD = {"start": "2019-05-01", "end": "2019-07-01"}
STATISTICS = {"smap.ssm": (0.2, 0.1), "gldas.SoilMoi0_10cm_inst": (0.25, 0.05)}


def untrained(*names, **options):
    """A fusion model with settled batch norms, so that its answers depend on what it sees."""
    inputs = Inputs.of(*names)
    torch.manual_seed(0)
    model = xception_fusion.XceptionFusion.for_inputs(inputs, preset="small", **options)
    for norm in (m for m in model.modules() if hasattr(m, "running_mean")):
        norm.momentum = 1.0
    with torch.no_grad():
        model(**{n: torch.randn(8, *t.shape[1:]) for n, t in model.example().items()})
    rules = training.Provenance(inputs.names, inputs.normalisation(STATISTICS), "none")
    checkpoint = training.Checkpoint(model.configuration, rules, model.state_dict(), 1, 0.1)
    return xception_fusion.TrainedFusion(model.eval(), checkpoint)


@pytest.fixture(scope="module")
def archive():
    return archives.open_archive("synthetic", seed=3, n_stations=4, revisit_days=12, **PERIOD)


@pytest.fixture(scope="module")
def at_a_cell(archive, tmp_path_factory):
    """A dataset folder of two readings at a cell's centre, its samples, and a box about it."""
    places = archive.world.stations().iloc[[0]]
    crs = grids.utm_crs(places.latitude.iloc[0], places.longitude.iloc[0])
    there = grids.transformer("EPSG:4326", crs)
    x, y = there.transform(places.longitude.iloc[0], places.latitude.iloc[0])
    x, y = (round((v - 160) / 320) * 320 + 160 for v in (x, y))
    longitude, latitude = there.transform(x, y, direction="INVERSE")
    places = places.assign(longitude=longitude, latitude=latitude)
    period = {k: pd.Timestamp(v) for k, v in PERIOD.items()}
    scenes = archives.all_scenes(archive, places, sources=SOURCES, **period)
    passes = scenes.loc[scenes["source"] == "sentinel1", "end"].sort_values()[2:4]
    readings = pd.DataFrame({"sensor_id": places["sensor_id"].iloc[0], "time": passes})
    readings["time"] += pd.Timedelta("20min")
    readings = readings.assign(soil_moisture_m3_m3=0.2, flag="G")
    bounds = {n: pd.Timedelta(age) for n, age in sources.bounds("sentinel1", SOURCES).items()}
    samples = join.anchored_join(
        readings, scenes, places, bounds=bounds, max_cloud_fraction={"sentinel2": 0.3}
    ).samples
    folder = tmp_path_factory.mktemp("at_a_cell")
    wanted = {"stations": places, "sources": SOURCES[:4], "bands": BANDS, "progress": False}
    samples, _ = chips.build(samples, archive, folder / "chips.zarr", **wanted)
    series = {name: archive.series(places, name, *period.values()) for name in SOURCES[4:]}
    table = features.combine(
        *(features.from_series(samples, values, name) for name, values in series.items()),
        features.from_chips(samples, chips.open_store(folder / "chips.zarr")),
        features.season(samples),
    )
    for name, part in {"stations": places, "samples": samples, "features": table}.items():
        part.to_parquet(folder / f"{name}.parquet")
    half = 0.004  # 0.9 km: five cells or so
    box = longitude - half, latitude - half, longitude + half, latitude + half
    return folder, samples, box, {"x": float(x), "y": float(y)}


@pytest.mark.parametrize("crop_px", [256, 128])
def test_the_map_says_at_a_station_what_the_model_says_of_its_chip(
    archive, at_a_cell, tmp_path, crop_px
):
    """The same scenes, the same ground, the same scalars: both answers differ by rounding only.

    A model that was trained on crops of half the side looks at windows of half the side.
    """
    folder, samples, box, place = at_a_cell
    trained = untrained(*SOURCES, crop_px=crop_px)
    alone = trained.predict(folder)["predicted_m3_m3"]
    times = samples["time"].to_numpy()
    mapped = maps.predict_region(
        trained, box, archive=archive, dates=times, store=tmp_path, progress=False
    )

    here = mapped.sel(place)
    assert here.soil_moisture.values == pytest.approx(alone.to_numpy(), abs=1e-4)
    assert abs(alone[0] - alone[1]) > 0.01 and float(mapped.soil_moisture.std()) > 1e-3
    for name in ("sentinel1", "sentinel2", "smap", "gldas"):
        age = f"{name}_age_hours"
        assert here[age].values == pytest.approx(samples[age].to_numpy(), rel=1e-5)
    assert mapped.comment.startswith("Synthetic") and len(cubes.losses(mapped)) == 0
    assert map_grid(mapped).pixel_size_m == 320
    assert ((mapped.validity == 0) == mapped.soil_moisture.notnull()).all()


def test_a_table_model_says_at_a_station_what_it_says_of_its_row(archive, at_a_cell, tmp_path):
    """Statistics about a station are those about the cell; a forest sees them alike."""
    folder, samples, box, place = at_a_cell
    table = pd.read_parquet(folder / "features.parquet")
    names = [c for c in table if c.endswith("_320m") or c in ("smap_ssm", "season_sin")]
    rng = np.random.default_rng(0)
    many = pd.concat([table] * 40, ignore_index=True)
    scale = many[names].std().fillna(0) + 0.05 * many[names].abs().mean()
    many[names] += rng.normal(size=(80, len(names))) * scale.to_numpy()
    rows = pd.concat([samples] * 40, ignore_index=True).assign(
        sample_id=[str(k) for k in range(80)], soil_moisture_m3_m3=rng.uniform(0.1, 0.4, 80)
    )
    stations = pd.read_parquet(folder / "stations.parquet")
    data = ten_day_table.TabularDataset(stations, rows, many.assign(sample_id=rows.sample_id))
    split = pd.Series(["train"] * 80)
    trained = SYSTEMS["forest: all"].train(data, split, preset="small", columns=names)
    alone = trained.predict(folder)["predicted_m3_m3"].to_numpy()
    mapped = maps.predict_region(
        trained,
        box,
        archive=archive,
        dates=samples["time"].to_numpy(),
        store=tmp_path,
        progress=False,
    )

    assert mapped.sel(place).soil_moisture.values == pytest.approx(alone, abs=0.01)
    assert (mapped.known_fraction.where(mapped.validity == 0).max() == 1).all()
    assert abs(alone[0] - alone[1]) > 0.01 or np.ptp(mapped.soil_moisture.values) > 0.01


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_stopped_run_goes_on_and_leaves_the_same_bytes(
    archive, at_a_cell, tmp_path, monkeypatch, capsys
):
    """Stopped after the second tile: the rest is made, nothing twice, and no byte differs."""
    _, samples, box, _ = at_a_cell
    trained, made = untrained("dem", "smap"), []
    monkeypatch.setattr(maps.scene, "TILE_CELLS", 2)
    asked = {"dates": samples["time"].to_numpy()[:1], "progress": False}
    whole = maps.predict_region(trained, box, archive=archive, store=tmp_path / "whole", **asked)
    predict = maps.scene.Windows.answer

    def answer(self, scenes, cells):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(cells)
        return predict(self, scenes, cells)

    monkeypatch.setattr(maps.scene.Windows, "answer", answer)
    with pytest.raises(KeyboardInterrupt):
        maps.predict_region(trained, box, archive=archive, store=tmp_path / "stopped", **asked)
    made[:] = [None] * 10  # never two again
    asked["progress"] = True
    again = maps.predict_region(trained, box, archive=archive, store=tmp_path / "stopped", **asked)

    n_tiles = -(-whole.sizes["y"] // 2) * -(-whole.sizes["x"] // 2)
    assert n_tiles > 3 and len(made) - 10 == n_tiles - 2
    assert re.search(r"tiles: 100%.*\[.*<.*/s", capsys.readouterr().err)
    assert whole.identical(again)
    first, second = (files_of(tmp_path / name / "maps") for name in ("whole", "stopped"))
    assert first == second


def test_tiles_leave_no_seam_and_workers_no_trace(archive, at_a_cell, tmp_path, monkeypatch):
    """One tile for all, many tiles, many tiles by other workers: the same map."""
    _, samples, box, _ = at_a_cell
    trained = untrained("sentinel1", "soilgrids", "smap")
    asked = {"dates": samples["time"].to_numpy()[:1], "progress": False}
    one = maps.predict_region(trained, box, archive=archive, store=tmp_path, **asked).load()
    monkeypatch.setattr(maps.scene, "TILE_CELLS", 2)
    many = maps.predict_region(trained, box, archive=archive, store=tmp_path, **asked).load()
    with ThreadPoolExecutor(2) as client:
        shared = maps.predict_region(
            trained, box, archive=archive, store=tmp_path / "shared", client=client, **asked
        )

    assert one.sizes == many.sizes
    np.testing.assert_allclose(one.soil_moisture, many.soil_moisture, atol=1e-5)
    assert float(one.soil_moisture.std()) > 1e-4
    xr.testing.assert_identical(many, shared.load())
    xr.testing.assert_identical(many.validity, one.validity)


def test_a_dense_map_of_tiles_says_how_far_all_of_it_is_from_the_exact_one(
    archive, at_a_cell, tmp_path, monkeypatch
):
    """Every cell of every tile is compared; a call that finds all tiles made says the same."""
    _, samples, box, _ = at_a_cell
    monkeypatch.setattr(maps.scene, "TILE_CELLS", 2)
    trained = untrained("dem", "smap")
    asked = {"archive": archive, "dates": samples["time"].to_numpy()[:1], "progress": False}
    exact = maps.predict_region(trained, box, store=tmp_path / "exact", **asked).load()
    dense = maps.predict_region(
        trained, box, store=tmp_path / "dense", mode="dense", **asked
    ).load()
    again = maps.predict_region(trained, box, store=tmp_path / "dense", mode="dense", **asked)

    assert dense.sizes["y"] > 2 and "dense_deviation_m3_m3" not in exact.attrs
    moved = dense.soil_moisture - exact.soil_moisture
    assert dense.attrs["dense_deviation_n_cells"] == int(moved.notnull().sum()) == moved.size
    rms = float((moved**2).mean() ** 0.5)
    assert dense.attrs["dense_deviation_m3_m3"] == pytest.approx(rms, rel=1e-3) and rms > 1e-5
    assert again.attrs == dense.attrs


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(archive, at_a_cell, tmp_path, monkeypatch):
    """Dask gives a dead worker's tiles to another; the map is that of one process."""
    from distributed import Client, LocalCluster

    _, samples, box, _ = at_a_cell
    monkeypatch.setattr(maps.scene, "TILE_CELLS", 1)
    trained = untrained("sentinel1", "smap")
    asked = {"archive": archive, "dates": samples["time"].to_numpy()[:1], "progress": False}
    alone = maps.predict_region(trained, box, store=tmp_path / "alone", **asked).load()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        store = tmp_path / "shared"
        made = thread.submit(maps.predict_region, trained, box, store=store, client=client, **asked)
        while not list(store.glob("maps/*/*.json")):  # until a tile stands
            time.sleep(0.05)
        os.kill(cluster.workers[0].pid, signal.SIGKILL)
        shared = made.result(timeout=300).load()

    xr.testing.assert_identical(alone, shared)


def test_a_date_is_the_moment_after_its_pass_and_else_noon(archive, at_a_cell, tmp_path):
    """A day without a pass has a map without values, and its reason is counted."""
    _, samples, box, _ = at_a_cell
    day = samples["time"].iloc[0].normalize()
    days = [day, day + pd.Timedelta("1D")]
    trained = untrained("sentinel1", "smap")
    mapped = maps.predict_region(
        trained, box, archive=archive, dates=days, store=tmp_path, progress=False
    )

    taken = pd.DatetimeIndex(mapped.time.values)
    assert 0 < mapped.sentinel1_age_hours.isel(time=0).max() < 0.5
    assert taken[1] == days[1] + pd.Timedelta("12h")
    assert mapped.soil_moisture.isel(time=0).notnull().any()
    assert mapped.soil_moisture.isel(time=1).isnull().all()
    assert set(np.unique(mapped.validity.isel(time=1))) <= {1, 64}
    lost = cubes.losses(mapped)
    assert (
        set(lost["source"]) == {"sentinel1"}
        and lost["reason"].str.contains("none within 1 h").all()
    )
    older = {"bounds": {"sentinel1": "6D"}}
    wider = maps.predict_region(
        trained, box, archive=archive, dates=days, store=tmp_path, progress=False,
        cube_options=older,
    )  # fmt: skip
    assert wider.soil_moisture.isel(time=1).notnull().any()


def test_a_map_under_clouds_is_empty_and_says_why(archive, at_a_cell, tmp_path):
    """No scene is clear enough for anybody: no value, a flag, and a count; no crash."""
    _, samples, box, _ = at_a_cell
    mapped = maps.predict_region(
        untrained("sentinel2", "smap"), box, archive=archive, dates=samples["time"].to_numpy()[:1],
        store=tmp_path, cube_options={"max_cloud_fraction": {"sentinel2": 0.0}}, progress=False,
    )  # fmt: skip

    assert mapped.soil_moisture.isnull().all()
    assert set(np.unique(mapped.validity)) <= {1, 64} and (mapped.validity == 64).any()
    assert cubes.losses(mapped)["source"].tolist() == ["sentinel2"]


class Without:
    """An archive that lacks a source."""

    def __init__(self, archive, name):
        self.archive, self.lacks = archive, name
        self.name, self.version = archive.name, archive.version

    def scenes(self, stations, source, start, end):
        if source == self.lacks:
            raise UnknownNameError(f"no {source}")
        return self.archive.scenes(stations, source, start, end)


def test_what_cannot_be_mapped_is_refused_before_anything_is_fetched(archive, at_a_cell, tmp_path):
    _, samples, box, _ = at_a_cell
    asked = {"dates": samples["time"].to_numpy()[:1], "store": tmp_path, "progress": False}
    trained = untrained("dem", "soilgrids", "smap", "gldas")
    with pytest.raises(CatalogueError, match="has no smap over the region .* the model eats dem"):
        maps.predict_region(trained, box, archive=Without(archive, "smap"), **asked)
    with pytest.raises(ContractError, match="stride of 200 m is no whole number of the 160 m"):
        maps.predict_region(trained, box, archive=archive, stride_m=200, **asked)
    with pytest.raises(UnknownNameError, match="limit is given for sentinel9"):
        options = {"bounds": {"sentinel9": "1D"}}
        maps.predict_region(trained, box, archive=archive, cube_options=options, **asked)
    with pytest.raises(ContractError, match="does not tell what it eats"):
        maps.predict_region(torch.nn.Linear(1, 1), box, archive=archive, **asked)
    assert list(tmp_path.iterdir()) == []


class Stripes:
    """Rolling ground, and a coarse product whose pixels of 10 km are wet and dry by turns."""

    name, version = "stripes", "1"

    def scenes(self, stations, source, start, end):
        images = static_image()
        if source == "smap":
            ended = pd.date_range("2019-05-25", "2019-06-01", freq="D").as_unit("us")
            images = pd.DataFrame({"scene_id": ended.strftime("%j"), "start": ended, "end": ended})
            images = images[(images["end"] >= start) & (images["end"] < end)].reset_index(drop=True)
        return scenes_everywhere(source, images, places=places_of(stations), valid_fraction=1.0)

    def chips(self, requests):
        for request in requests:
            x, y = np.meshgrid(request.grid.x_m, request.grid.y_m)
            ground = 300 + 50 * np.sin(x / 700) * np.cos(y / 900)
            stripes = 5 + 15 * (x // 10_000 % 2)
            values = ground if request.source == "dem" else stripes
            yield request, Chip(values[None].astype(np.float32), request.bands, request.grid)


@pytest.mark.parametrize(
    ("west", "south", "width_deg", "crs"),
    [
        (-100.0, 40.0, 0.001, "EPSG:32614"),  # less than a cell
        (-96.004, 40.0, 0.012, "EPSG:32615"),  # two UTM zones, more of it in the eastern one
        (179.995, 65.0, 0.012, "EPSG:32601"),  # the antimeridian
        (-150.0, 70.0, 0.02, "EPSG:32606"),
    ],
)
def test_regions_at_the_edges_of_the_usual(tmp_path, west, south, width_deg, crs):
    """The whole box is covered by cells with values, wherever it lies."""
    east, north = west + width_deg, south + width_deg / 2
    box = west, south, east - 360 if east > 180 else east, north
    asked = {"archive": Stripes(), "dates": ["2019-06-01"], "store": tmp_path, "progress": False}
    mapped = maps.predict_region(untrained("dem", "smap"), box, **asked).load()

    grid = map_grid(mapped)
    assert grid.crs == crs
    x, y = grids.transformer("EPSG:4326", crs).transform([west, east, east], [south, south, north])
    left, bottom, right, top = grid.bounds_m
    assert left <= min(x) and max(x) <= right and bottom <= min(y) and max(y) <= top
    col, row = ((np.array(x) - left) // 320).astype(int), ((top - np.array(y)) // 320).astype(int)
    assert (mapped.validity.values[0, row, col] == 0).all()
    assert np.isfinite(mapped.soil_moisture.values[0, row, col]).all()


def test_coarse_inputs_may_be_smooth_in_space(tmp_path):
    """Across the border of two coarse pixels the answer steps, or it rises over 10 km."""
    trained, box = untrained("smap"), (-98.2, 38.0, -98.0, 38.001)
    asked = {"archive": Stripes(), "dates": ["2019-06-01"], "progress": False}
    steps = maps.predict_region(trained, box, store=tmp_path / "a", **asked)
    smooth = maps.predict_region(trained, box, store=tmp_path / "b", resampling="smooth", **asked)

    row = steps.sizes["y"] // 2
    jumps, rises = (np.abs(np.diff(m.soil_moisture.values[0, row])) for m in (steps, smooth))
    assert np.nanmax(jumps) > 10 * np.nanmax(rises) > 0
    assert (np.nan_to_num(jumps) > 0).sum() <= 3
