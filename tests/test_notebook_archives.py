"""Notebooks 10, 14 and 40 on every archive: one road, only where pixels come from differs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from soilkit import contracts, grids
from soilkit.export import chips, cubes, insitu, rasters
from soilkit.export.archives import open_archive
from soilkit.models import training, xception_fusion
from soilkit.models.inputs import Inputs
from soilkit.show import reports
from tests.stand_in_ee.fixtures import PROJECT, stand_in_environment
from tests.world_catalogue import export_world

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "10_build_dataset.ipynb"
SPAN = {"start": "2019-05-01", "end": "2019-06-15"}
WORLD = {"seed": 0, "n_stations": 4, "revisit_days": 12}
TABLES = {
    "stations": contracts.STATIONS, "observations": contracts.OBSERVATIONS,
    "scenes": contracts.SCENES, "samples": contracts.SAMPLES, "drops": contracts.DROPS,
    "features": contracts.FEATURES,
}  # fmt: skip


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """Runs the notebook on an archive, once each; the same readings on every road."""
    folder = tmp_path_factory.mktemp("archives")
    world = open_archive("synthetic", **WORLD, **SPAN)
    world.world.write_ismn(folder / "ismn_synthetic.zip")
    common = {"ismn_archive": str(folder / "ismn_synthetic.zip"), **SPAN}
    done = {}

    def run(name, **parameters):
        if name not in done:
            out = {"archive": parameters.pop("archive", name), "out_dir": str(folder / name)}
            page = reports.run(NOTEBOOK, common | out | parameters, folder / f"{name}_report")
            done[name] = folder / name, page.read_text(encoding="utf-8")
        return done[name]

    run.world, run.folder = world, folder
    return run


@pytest.fixture
def synthetic(road):
    return road("synthetic", **WORLD)


@pytest.fixture
def stac(road):
    stations = insitu.read_stations(road.folder / "ismn_synthetic.zip")
    period = pd.Timestamp(SPAN["start"]) - pd.Timedelta("20D"), pd.Timestamp(SPAN["end"])
    how = {"stations": stations, "period": period, "progress": False}
    return road("stac", catalogue=str(export_world(road.world, road.folder / "catalogue", **how)))


@pytest.fixture
def earthengine(road, stand_in, monkeypatch):
    with stand_in_environment(road.folder, url=stand_in.url) as variables:
        monkeypatch.setenv("IPYTHONDIR", variables["IPYTHONDIR"])
        result = road("earthengine", project=PROJECT, go_ahead=True)
    if not hasattr(road, "asked"):  # the server forgets between tests
        road.asked = stand_in.counters.snapshot()
    return result


def test_a_csv_of_probes_leaves_the_samples_of_the_same_ismn_archive(road, synthetic):
    """Local times, percent and a probe at 25 cm: the door of those who have no ISMN zip."""
    zipped = road.folder / "ismn_synthetic.zip"
    sites = insitu.read_stations(zipped).set_index("sensor_id")
    long = insitu.read_ismn(zipped).astype({"sensor_id": str})
    table = long.join(sites[["station_id", "latitude", "longitude"]], on="sensor_id")
    local = table["time"].dt.tz_localize("UTC").dt.tz_convert("Etc/GMT+6")
    table["time"] = local.dt.strftime("%Y-%m-%d %H:%M")
    table["sm"] = 100 * table.pop("soil_moisture_m3_m3")
    table["deep"] = table["sm"] / 2
    table.to_csv(road.folder / "probes.csv", index=False)
    columns = {"station": "station_id", "sensor": "sensor_id"}
    columns |= {"soil_moisture": {"sm": 0.05, "deep": 0.25}}
    readings = {"path": str(road.folder / "probes.csv"), "units": "percent", "columns": columns}
    readings["timezone"] = "Etc/GMT+6"
    made = pd.read_parquet(
        road("csv", archive="synthetic", readings=readings, **WORLD)[0] / "samples.parquet"
    )
    ours = pd.read_parquet(synthetic[0] / "samples.parquet")
    assert made["time"].tolist() == ours["time"].tolist()
    assert np.allclose(made["soil_moisture_m3_m3"], ours["soil_moisture_m3_m3"], atol=1e-4)


@pytest.mark.parametrize("name", ["synthetic", "stac", "earthengine"])
def test_every_road_leaves_the_same_tables_and_counts_every_reading(request, name):
    folder, html = request.getfixturevalue(name)
    tables = {table: pd.read_parquet(folder / f"{table}.parquet") for table in TABLES}
    for table, schema in TABLES.items():
        contracts.check(tables[table], schema)
    assert len(tables["observations"]) == len(tables["samples"]) + tables["drops"]["count"].sum()
    assert len(tables["samples"]) >= 5
    assert reports.external_loads(html) == []
    assert f"archive {name}, version" in html


def test_the_world_and_its_own_catalogue_give_the_same_samples(synthetic, stac):
    """Scene names aside: a file's name says at which station it lies."""
    ours, theirs = (pd.read_parquet(folder / "samples.parquet") for folder, _ in (synthetic, stac))
    same = [c for c in ours.columns if not c.endswith("_scene")]
    pd.testing.assert_frame_equal(ours[same], theirs[same], rtol=1e-5, check_categorical=False)


def test_the_world_and_its_own_catalogue_give_the_same_chips(synthetic, stac):
    """The files lie on the chips' own pixels: equal but for one step of the store's packing."""
    ours, theirs = (chips.open_store(folder / "chips.zarr") for folder, _ in (synthetic, stac))
    left, right = (pd.read_parquet(folder / "samples.parquet") for folder, _ in (synthetic, stac))
    for mine, other in zip(left.itertuples(), right.itertuples(), strict=True):
        for source in ours.sources:
            scene = getattr(mine, f"{source}_scene"), getattr(other, f"{source}_scene")
            a = ours.read(source, scene[0], mine.station_id).values
            b = theirs.read(source, scene[1], other.station_id).values
            assert (np.isfinite(a) == np.isfinite(b)).all()
            np.testing.assert_allclose(a, b, atol=1.01 * ours.packing(source).scale)


def test_earth_engine_is_asked_for_each_chip_once_after_saying_what_it_costs(earthengine, road):
    """What the store holds is what the server answered, and not a request more."""
    folder, html = earthengine
    store = chips.open_store(folder / "chips.zarr")
    held = sum((store.index(source)["data_sha256"] != "").sum() for source in store.sources)
    answered = road.asked["pixels"]
    assert held > 20 and len(answered) == held and set(answered.values()) == {1}
    assert f"{held} chips to fetch" in html and "EECU" in html
    assert road.asked["most_in_flight"] <= 32


@pytest.mark.parametrize("name", ["stac", "earthengine"])
def test_the_cube_notebook_takes_either_road(request, road, name):
    """Around a station of the same world: all that the archive has, its ages and its losses."""
    stac, stand_in = (request.getfixturevalue(one) for one in ("stac", "stand_in"))
    place = pd.read_parquet(stac[0] / "stations.parquet").iloc[0]
    west, south = float(place["longitude"]) - 0.004, float(place["latitude"]) - 0.003
    parameters = {
        "archive": name, "out_dir": str(road.folder / f"{name}_cube"), "bounds": {}, "clear": {},
        "region": [west, south, west + 0.008, south + 0.006], "pixel_size_m": 20.0,
        "dates": ["2019-05-20", "2019-06-01"], "project": PROJECT, "go_ahead": True,
        "bands": {"sentinel1": ["VV"], "sentinel2": ["B2", "B3", "B4", "B8"], "dem": []},
        "catalogue": str(road.folder / "catalogue"),
    }  # fmt: skip
    with (
        stand_in_environment(road.folder, url=stand_in.url) as variables,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("IPYTHONDIR", variables["IPYTHONDIR"])
        page = reports.run(NOTEBOOK.with_name("14_build_a_cube.ipynb"), parameters, road.folder)
    cube = cubes.open_cube(road.folder / f"{name}_cube" / "cube.zarr")
    assert reports.external_loads(page.read_text(encoding="utf-8")) == []
    assert cube.sizes["time"] == 2 and cube.dem_elevation.notnull().all()
    known = cube.sentinel1_age_hours.notnull()
    assert known.any() and (cube.sentinel1_VV.notnull() == known).all()
    assert known.all() or "sentinel1" in set(cubes.losses(cube)["source"])


def checkpoint(path, *names):
    """An untrained fusion model of some sources, as notebook 20 leaves a trained one."""
    torch.manual_seed(0)
    inputs = Inputs.of(*names)
    model = xception_fusion.XceptionFusion.for_inputs(inputs, preset="small")
    rules = inputs.normalisation(dict.fromkeys(inputs.coarse, (0.2, 0.1)))
    how = training.Provenance(inputs.names, rules, "none")
    training.save_checkpoint(
        path, training.Checkpoint(model.configuration, how, model.state_dict(), 1, 0.1)
    )
    return str(path)


def ground(path, *, longitude, latitude):
    """A GeoTIFF of hills, 8 km about a place."""
    grid = grids.chip_grid(latitude, longitude, size_px=800, pixel_size_m=10)
    x, y = np.meshgrid(grid.x_m, grid.y_m)
    heights = (300 + 50 * np.sin(x / 700) * np.cos(y / 900)).astype(np.float32)
    rasters.write_cog(path, heights, grid=grid, names=["elevation"], units=["m"])
    return {"dem": {"files": str(path), "unit": "m"}}


@pytest.mark.parametrize("name", ["stac", "earthengine", "local"])
def test_the_map_notebook_takes_every_road(request, road, name):
    """A few cells about a station by a saved model; the synthetic road is that of all notebooks."""
    stac, stand_in = (request.getfixturevalue(one) for one in ("stac", "stand_in"))
    place = pd.read_parquet(stac[0] / "stations.parquet").iloc[0]
    at = {"longitude": float(place["longitude"]), "latitude": float(place["latitude"])}
    west, south, out = at["longitude"] - 0.001, at["latitude"] - 0.001, road.folder / f"{name}_map"
    eaten = ("dem",) if name == "local" else ("sentinel1", "dem", "smap")
    scenes = pd.read_parquet(stac[0] / "scenes.parquet").query("source == 'sentinel1'")
    passes = scenes.loc[scenes["station_id"] == place["station_id"], "end"].dt.normalize()
    out.mkdir()
    parameters = {
        "archive": name, "out_dir": str(out), "dates": passes.astype(str).unique()[-3:-1].tolist(),
        "region": [west, south, west + 0.002, south + 0.002], "project": PROJECT,
        "checkpoint": checkpoint(out / "model.pt", *eaten), "go_ahead": True,
        "catalogue": str(road.folder / "catalogue"), "layers": ground(out / "dem.tif", **at),
    }  # fmt: skip
    with (
        stand_in_environment(road.folder, url=stand_in.url) as variables,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("IPYTHONDIR", variables["IPYTHONDIR"])
        page = reports.run(NOTEBOOK.with_name("40_map_a_region.ipynb"), parameters, road.folder)
    html = page.read_text(encoding="utf-8")
    assert reports.external_loads(html) == [] and "truth (synthetic)" not in html
    with xr.open_dataset(out / "map.nc") as mapped:
        assert mapped.sizes["time"] == 2 and "truth" not in mapped
        assert (mapped.valid_fraction > 0.9).any()
        # the stand-in's ground is noise, whose slopes no radar sees
        assert name == "earthengine" or mapped.soil_moisture.notnull().any()
    files = sorted((out / "map_files").glob("map_*.tif"))
    assert [path.stem.endswith("validity") for path in files] == [False, True] * 2
    assert {rasters.grid_of(path).pixel_size_m for path in files} == {320}


@pytest.mark.slow
def test_the_notebooks_after_it_run_on_a_dataset_of_earth_engine(earthengine, road, stand_in):
    """Whoever looks, splits and trains does not know which road the data came."""
    folder, _ = earthengine
    common = {"archive": "earthengine", "out_dir": str(folder)}
    later = {
        "11_inspect_in_situ": {"ismn_archive": str(road.folder / "ismn_synthetic.zip")},
        "13_choose_splits": {},
        "20_train_xception_fusion": {"epochs": 1, "batch_size": 16},
    }
    with (
        stand_in_environment(road.folder, url=stand_in.url) as variables,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("IPYTHONDIR", variables["IPYTHONDIR"])
        for name, parameters in later.items():
            notebook = NOTEBOOK.with_name(f"{name}.ipynb")
            page = reports.run(notebook, common | parameters, road.folder / "later")
            assert reports.external_loads(page.read_text(encoding="utf-8")) == []
