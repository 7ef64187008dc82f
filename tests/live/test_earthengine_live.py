"""The real Earth Engine, source by source: bands, scale, dates, one chip, and what it costs.

Never run by default. It needs a Google Cloud project with the Earth Engine API enabled and a
login; it takes some minutes and some EECU-seconds a source::

    earthengine authenticate                          # or GOOGLE_APPLICATION_CREDENTIALS=key.json
    EARTHENGINE_PROJECT=my-project \\
        python -m pytest -m live tests/live --log-cli-level=INFO --junitxml=live.xml

The log and the properties in ``live.xml`` name the EECU-seconds of each source's chip. What fails
here is news about the archive: correct ``soilkit/sources``
and refresh the doctor's facts.
"""

import dataclasses
import io
import logging
import os
import re

import numpy as np
import pandas as pd
import pytest

from soilkit import contracts, grids, sources
from soilkit.contracts import ChipRequest
from soilkit.export.archives.earthengine import (
    EarthEngineArchive,
    connect,
    connection,
    doctor,
    expressions,
    scene_index,
)
from soilkit.sources.row import GLOBAL, PASSES, STATIC, TILES

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        not os.environ.get("EARTHENGINE_PROJECT"),
        reason="needs EARTHENGINE_PROJECT and a login; see the module's docstring",
    ),
]
log = logging.getLogger(__name__)
PLACE = 36.4, -99.2  # cropland in Oklahoma: latitude, longitude
METRES_PER_DEGREE = 111_320.0
SUMMER = "2021-06-01", "2021-07-15"
# Where the summer of 2021 lies outside of a product, or holds none of its scenes.
PERIODS = {
    "landsat9": ("2022-06-01", "2022-07-15"),
    "smap_l3_006": ("2024-06-01", "2024-06-15"),
    "modis_land_cover": ("2020-06-01", "2021-06-01"),
}
SERVED = [source.name for source in sources.CATALOGUE if source.asset]
TIMED = [name for name in SERVED if not sources.get(name).is_static]


@pytest.fixture(scope="session")
def archive():
    connect(os.environ["EARTHENGINE_PROJECT"])
    return EarthEngineArchive()


@pytest.fixture(scope="session")
def scenes(archive):
    """The scenes of a source at the place, asked once."""
    station = {"station_id": ["LIVE__1"], "latitude": [PLACE[0]], "longitude": [PLACE[1]]}
    kept = {}

    def of(name):
        if name not in kept:
            period = PERIODS.get(name, SUMMER)
            kept[name] = archive.scenes(pd.DataFrame(station), name, *period)
        return kept[name]

    return of


def request_of(archive, scene, name, size_px=8):
    row = sources.get(name)
    size_m = 10.0 if row.resolution == "high" else 160.0
    grid = grids.chip_grid(*PLACE, size_px=size_px, pixel_size_m=size_m)
    time = scene.end.to_datetime64() if pd.notna(scene.end) else np.datetime64("NaT", "us")
    bands = tuple(band.name for band in row.bands)
    return ChipRequest(name, scene.scene_id, "LIVE__1", time, bands, grid, version=archive.version)


def best(table):
    """The scene that covers most, with the least cloud."""
    order = table.assign(cloud=table.cloud_fraction.fillna(1), valid=table.valid_fraction.fillna(0))
    return next(order.sort_values(["valid", "cloud"], ascending=[False, True]).itertuples())


@pytest.mark.parametrize("name", SERVED)
def test_bands_are_there_at_the_catalogue_s_scale(archive, scenes, name):
    source, how = sources.get(name), expressions.layer(name)
    finest_m = np.inf  # some bands, as the angle or the flags, are coarser than the image
    for asset, wanted in doctor.assets_of(name).items():
        if how.form == TILES:
            asset = first_image(asset)
        elif how.form != STATIC:
            asset = f"{asset}/{best(scenes(name)).scene_id.split('+')[0]}"
        bands = {band["id"]: band for band in connection.call("getAsset", asset)["bands"]}
        for there in wanted or bands:
            assert there in bands, f"{asset} has {', '.join(bands)}"
            finest_m = min(finest_m, pixel_size_m(bands[there]))
    assert finest_m == pytest.approx(source.pixel_size_m, rel=0.25)


def first_image(collection):
    ee = connection.ee
    point = ee.Geometry.Point(list(PLACE[::-1]))
    first = ee.ImageCollection(collection).filterBounds(point).limit(1)
    ids = first.map(lambda image: ee.Feature(None, {"i": image.get("system:index")}))
    return f"{collection}/{connection.features(ids, ['i'])['i'][0]}"


def pixel_size_m(band):
    width = abs(band["grid"]["affineTransform"]["scaleX"])
    return width * METRES_PER_DEGREE if width < 1 else width


@pytest.mark.parametrize("name", TIMED)
def test_scenes_are_dated_as_the_catalogue_says(scenes, name):
    """In the period, a cadence long, a cadence apart."""
    source, how = sources.get(name), expressions.layer(name)
    table, period = scenes(name), PERIODS.get(name, SUMMER)
    contracts.check(table, contracts.SCENES)
    assert len(table)
    assert table.end.between(*map(pd.Timestamp, period), inclusive="left").all()
    step = pd.Timedelta(scene_index.cadence(source))
    length = table.end - table.start
    if source.dated_by == "instant":
        assert length.max() < pd.Timedelta("2min")
    else:
        assert (length - step).abs().max() <= 0.05 * step
    if how.form == GLOBAL and len(table) > 2:
        assert table.end.diff().median() == pytest.approx(step, rel=0.01)
    if how.form == PASSES:
        assert table.valid_fraction.between(0, 1).all()


@pytest.mark.parametrize("name", SERVED)
def test_a_small_chip_comes_and_costs_are_told(archive, scenes, name, record_property):
    """Eight by eight pixels, some of them valid; the profile's EECU-seconds are recorded."""
    ee, text = connection.ee, io.StringIO()
    request = request_of(archive, best(scenes(name)), name)
    with ee.profilePrinting(destination=text):
        values = expressions.ChipJob()(request)
    eecu_seconds = sum(float(n) for n in re.findall(r"^\s*(\d+\.\d+)\s", text.getvalue(), re.M))
    log.info("%s: %.3f EECU-seconds a chip", name, eecu_seconds)
    record_property("eecu_seconds", eecu_seconds)
    assert values.shape == (len(request.bands), 8, 8)
    assert np.isfinite(values).any()


@pytest.mark.parametrize("name", [n for n in TIMED if sources.get(n).resolution == "coarse"])
def test_a_series_comes_in_the_catalogue_s_units(archive, name):
    """Soil moisture between nothing and saturation, after the catalogue's scale."""
    station = {"station_id": ["LIVE__1"], "latitude": [PLACE[0]], "longitude": [PLACE[1]]}
    start = pd.Timestamp(PERIODS.get(name, SUMMER)[0])
    table = archive.series(pd.DataFrame(station), name, start, start + pd.Timedelta("8D"))
    assert len(table)
    for band in sources.get(name).bands:
        if band.layer_mm or band.unit == "m3 m-3":
            moisture = band.scale * table[band.name] / (band.layer_mm or 1)
            assert moisture.dropna().between(0, 0.8).all()


def test_where_flags_are_masked_cloud_score_plus_answers(archive):
    station = {"station_id": ["LIVE__1"], "latitude": [PLACE[0]], "longitude": [PLACE[1]]}
    table = archive.scenes(pd.DataFrame(station), "sentinel2", "2022-06-01", "2022-07-01")
    assert table.cloud_fraction.notna().mean() > 0.9


def test_radar_slices_of_a_pass_lie_apart_by_less_than_a_minute(scenes):
    table = scenes("sentinel1").sort_values("end")
    assert table.end.diff().min() > pd.Timedelta("1h")
    assert set(table.orbit) <= {"ascending", "descending"}


def test_a_part_of_a_chip_is_the_chip_s_part(archive, scenes):
    """Quadrants asked alone hold the same pixels: the seams of a split chip are invisible."""
    request = request_of(archive, best(scenes("sentinel1")), "sentinel1", size_px=32)
    job = expressions.ChipJob()
    parts = [job(part) for part in job.split(request)]
    np.testing.assert_allclose(job.merge(request, parts), job(request), atol=1e-4)


def test_nearest_pixels_are_native_pixels(archive, scenes):
    """Where the chip's zone is the scene's, a native lattice is met without interpolation."""
    request = request_of(archive, best(scenes("sentinel2")), "sentinel2")
    request = dataclasses.replace(request, bands=("B4",))
    nearest = dataclasses.replace(request, resampling="nearest")
    job = expressions.ChipJob()
    np.testing.assert_allclose(job(request), job(nearest), atol=1e-3)


def test_the_doctor_s_facts_still_hold(archive):
    """What was pinned about the assets is what the service tells today."""
    found = doctor.refresh()
    pinned = doctor.load_facts()
    changed = [
        (asset, key, pinned[asset][key], fact[key])
        for asset, fact in found.items()
        for key in ("exists", "type", "bands")
        if asset in pinned and pinned[asset][key] and pinned[asset][key] != fact[key]
    ]
    assert not changed
