"""A new layer is one row of ``soilkit.sources`` and nothing else, whatever archive serves it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from soilkit import sources
from soilkit.export import chips, features, join
from soilkit.export.archives import open_archive
from soilkit.models.datasets import ChipDataset
from soilkit.models.inputs import Inputs
from soilkit.sources import Band, Collection, EarthEngine, Linear, Source, Stac
from soilkit.sources.row import PASSES
from tests.helpers_earthengine import PLACE
from tests.helpers_stac import around, grid_at, item, raster, write_catalogue
from tests.stand_in_ee.oracle import expected_mosaic
from tests.stand_in_ee.sentinel1 import POLARISATIONS, Sentinel1

ASSET, STATION = "TEST/LBAND", "NET__S"
LBAND = Source(
    "lband",
    title="An invented radar at 24 cm",
    asset=ASSET,
    bands=(
        Band("HH", "dB", (-50, 30), Linear(-25, 5), features=("std",)),
        Band("HV", "dB", (-50, 30), Linear(-35, -5), aliases=("cross",)),
    ),
    pixel_size_m=10,
    resolution="high",
    dated_by="instant",
    cadence="14D",
    max_age="28D",
    sliced=True,
    packing=(0.02, 0.0),
    earth_engine=EarthEngine(PASSES, equal=(("instrumentMode", "IW"),), valid_band="HH"),
    stac=Stac((Collection("l-band-rtc", unit="power"),), mode="FBD", polarisations=("HH", "HV")),
    citation="none: invented",
)
STATIONS = pd.DataFrame(
    {
        "sensor_id": [f"{STATION}__A__0__5"], "station_id": [STATION], "network": ["NET"],
        "station": ["S"], "latitude": [PLACE[0]], "longitude": [PLACE[1]], "elevation_m": [400.0],
        "depth_from_m": [0.0], "depth_to_m": [0.05], "land_cover": [""], "koeppen": [""],
        "texture": [""],
    }
)  # fmt: skip


@pytest.fixture(autouse=True)
def lband(monkeypatch):
    """The catalogue with one row more."""
    monkeypatch.setattr(sources, "CATALOGUE", (*sources.CATALOGUE, LBAND))


class LBand(Sentinel1):
    """The stand-in's radar of two polarisations with other bands, under another name."""

    asset = ASSET
    bands = (POLARISATIONS["HH"], POLARISATIONS["HV"])

    def list(self, query):
        return [self._turned(scene) for scene in super().list(query)]

    def get(self, index):
        scene = super().get(index)
        return scene and self._turned(scene)

    def _turned(self, scene):
        return dataclasses.replace(scene, asset=ASSET, bands=self.bands)


def through(archive, folder, *, start, end):
    """Scenes, join, chips, tensors and features: the store, and what the two kinds of model eat."""
    times = pd.date_range(start, end, freq="1h", unit="us")
    readings = pd.DataFrame(
        {"sensor_id": STATIONS.sensor_id[0], "time": times, "soil_moisture_m3_m3": 0.2, "flag": "G"}
    )
    scenes = archive.scenes(STATIONS, "lband", start, end)
    bounds = {n: pd.Timedelta(age) for n, age in sources.bounds("lband", ["lband"]).items()}
    joined = join.anchored_join(readings, scenes, STATIONS, bounds=bounds, anchor="lband")
    samples, drops = chips.build(
        joined.samples, archive, folder, stations=STATIONS, size_px=64, progress=False
    )
    assert len(joined.samples) == len(scenes) == len(samples) + len(drops) and len(samples) > 0
    store = chips.open_store(folder)
    inputs = Inputs(high=("lband",), low=(), coarse=())
    data = ChipDataset(samples, samples[["sample_id"]], store, inputs=inputs, crop_px=32)
    return samples, store, data[0]["high"].numpy(), features.from_chips(samples, store)


def check(samples, store, high, table):
    """The network eats the row's normalisation, the table model its statistics in dB."""
    chip = store.read("lband", samples["lband_scene"][0], STATION).values
    inner = chip[:, 16:48, 16:48]
    np.testing.assert_allclose(high[0], Linear(-25, 5)(inner[0]), atol=1e-5)
    np.testing.assert_allclose(high[1], Linear(-35, -5)(inner[1]), atol=1e-5)
    names = [name for name in table if name.endswith("_80m")]
    assert names == ["lband_HH_mean_80m", "lband_HV_mean_80m", "lband_HH_std_80m"]
    assert table["lband_HH_mean_80m"][0] == pytest.approx(
        10 * np.log10((10 ** (chip[0, 24:40, 24:40] / 10)).mean()), abs=0.2
    )
    return chip


def test_it_goes_from_earth_engine_into_every_model(earth_engine, stand_in, tmp_path):
    """Passes over the station only, one scene a pass, averaged as power."""
    stand_in.earth.assets[ASSET] = LBand()
    try:
        archive = open_archive("earthengine")
        far = STATIONS.assign(latitude=-30.0, longitude=20.0)
        here, there = (
            archive.scenes(t, "lband", "2019-06-01", "2019-06-20") for t in (STATIONS, far)
        )
        samples, *rest = through(archive, tmp_path / "c.zarr", start="2019-06-01", end="2019-06-20")
        store = rest[0]
        scene = samples["lband_scene"][0]
        grid = store.read("lband", scene, STATION).grid
        wanted = expected_mosaic(
            ASSET, scene.split("+"), "HH", grid=grid, method="bilinear", earth=stand_in.earth
        )
    finally:
        del stand_in.earth.assets[ASSET]
    assert not set(here.scene_id) & set(there.scene_id)
    assert here.end.diff().min() > pd.Timedelta("1h")
    chip = check(samples, *rest)
    np.testing.assert_allclose(chip[0], wanted, atol=0.2)  # the oracle's mean is one of decibels


def test_it_goes_from_a_stac_catalogue_into_every_model(tmp_path):
    """Linear power in a collection of a usual name, one band under its alias, slices of a pass."""
    grid = grid_at(*PLACE, size_px=128)
    ramp = np.linspace(0.05, 0.2, 128 * 128, dtype=np.float32).reshape(128, 128)
    hh = raster(tmp_path / "hh.tif", ramp, grid)
    hv = raster(tmp_path / "hv.tif", ramp / 10, grid)
    radar = {"sar:instrument_mode": "FBD", "sar:polarizations": ["HH", "HV"]}

    def seen(name, time, **more):
        place, files = around(*PLACE), {"HH": hh, "cross": hv}
        words = radar | more
        return item(name, "l-band-rtc", geometry=place, time=time, assets=files, **words)

    items = [
        seen("a", "2019-06-02T06:00:00Z"),
        seen("b", "2019-06-02T06:00:59Z"),
        seen("c", "2019-06-16T06:00:00Z"),
        seen("d", "2019-06-18T06:00:00Z", **{"sar:polarizations": ["HH"]}),
    ]
    archive = open_archive("stac", catalogue=write_catalogue(tmp_path / "stac", items))
    assert archive.served.source.tolist() == ["lband"]
    samples, *rest = through(archive, tmp_path / "c.zarr", start="2019-06-01", end="2019-06-20")
    assert samples["lband_scene"].tolist() == ["a+b", "c"]
    assert archive.left_out.item_id.unique().tolist() == ["d"]
    chip = check(samples, *rest)
    np.testing.assert_allclose(chip[1], 10 * np.log10(ramp[32:96, 32:96] / 10), atol=0.02)
