"""Chips from Earth Engine: every pixel where and what it should be, every failure with its reason.

The stand-in serves analytic rasters to the unmodified client; what a chip must hold is computed
from the same analytic Earth by another road (``tests/stand_in_ee/oracle.py``).
"""

import dataclasses
import time

import numpy as np
import pytest

from soilkit import sources
from soilkit.contracts import Chip, ChipRequest, Failure, Grid
from soilkit.errors import DatasetError
from soilkit.export.archives import open_archive
from soilkit.export.archives.earthengine import Policy, doctor
from soilkit.export.archives.earthengine.executor import ServiceError
from soilkit.export.archives.earthengine.expressions import ChipJob
from tests.helpers_earthengine import (
    BETWEEN_SLICES,
    BETWEEN_ZONES,
    JUNE,
    PLACE,
    chip_request,
    expected_chip,
    stations_table,
)
from tests.stand_in_ee.faults import BODIES, ODD_JSON, PAGES
from tests.stand_in_ee.oracle import expected, expected_mosaic
from tests.stand_in_ee.rasters import smooth
from tests.stand_in_ee.scenes import Scene, Single
from tests.stand_in_ee.shapes import Convex

QUICK = Policy(first_wait_s=0.01, longest_wait_s=0.05, deadline_s=5.0, attempts=4)
# Float32 holds seven digits; a tenth of a per mille of a pixel's step would show.
TIGHT = {"rtol": 3e-6, "atol": 2e-5}


@pytest.fixture
def archive(earth_engine):
    return open_archive("earthengine", policy=QUICK)


def scene_of(archive, source, *, place=PLACE, period=JUNE, number=0):
    table = archive.scenes(stations_table(place), source, *period)
    return list(table.itertuples())[number]


def ask(archive, source, *, place=PLACE, period=JUNE, number=0, **changes):
    """A request for one scene's chip."""
    scene = scene_of(archive, source, place=place, period=period, number=number)
    return chip_request(archive, scene, source=source, place=place, **changes)


def only(archive, request):
    [(answered, chip)] = archive.chips([request])
    assert answered == request
    return chip


@pytest.mark.parametrize("source", ["sentinel1", "sentinel2", "modis_lai", "smap", "gldas"])
def test_a_chip_holds_the_scene_on_the_asked_grid(archive, source):
    """Backscatter averaged as power, reflectance bilinear, flags and coarse cells nearest."""
    request = ask(archive, source, number=2)
    chip = only(archive, request)
    assert chip.values.dtype == np.float32 and chip.bands == request.bands
    np.testing.assert_allclose(chip.values, expected_chip(request), **TIGHT)


@pytest.mark.parametrize(
    "source, there, index",
    [
        ("dem", "{band}", ""),
        ("soilgrids", "{band}_0-5cm_mean", ""),
        ("land_cover", "{band}", "2019"),
    ],
)
def test_a_static_chip_holds_the_layer_whatever_its_bands_are_called_there(
    archive, source, there, index
):
    request = ask(archive, source)
    assert request.scene_id == "static"
    wanted = expected_chip(request, there=there, index=index)
    np.testing.assert_allclose(only(archive, request).values, wanted, **TIGHT)


@dataclasses.dataclass(frozen=True)
class Tiles:
    """A collection of two tiles that share one degree, as 3DEP's: west and east of 99 W."""

    asset: str = "USGS/3DEP/10m_collection"
    kind: str = "IMAGE_COLLECTION"

    def get(self, index):
        west, east = {"west": (-100.0, -99.2), "east": (-99.25, -98.0)}[index]
        area = Convex.of([(west, 36), (east, 36), (east, 37), (west, 37)])
        band = smooth(self.asset, "elevation", "float", 1 / 10_800, 500, 300)
        origin = (-100.0, 37.0)
        return Scene(self.asset, index, 0, 0, "EPSG:4326", origin, (band,), {}, area, area)

    def list(self, query):
        return [s for s in map(self.get, ("west", "east")) if query.admits(s)]


def test_tiles_are_laid_side_by_side(archive, stand_in):
    """A chip over the seam of two tiles has no hole, and none is shifted."""
    stand_in.earth.assets["USGS/3DEP/10m_collection"] = Tiles()
    try:
        request = ask(archive, "dem_3dep", place=(36.4, -99.225), size_px=400)
        values = only(archive, request).values
        wanted = expected_mosaic(
            "USGS/3DEP/10m_collection", ["west", "east"], "elevation",
            grid=request.grid, earth=stand_in.earth,
        )  # fmt: skip
    finally:
        del stand_in.earth.assets["USGS/3DEP/10m_collection"]
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values[0], wanted, **TIGHT)


@pytest.mark.parametrize(
    "source, band, image, there",
    [
        ("polaris", "ksat", "projects/sat-io/open-datasets/polaris/ksat_mean/ksat_0_5", "b1"),
        ("gnatsgo", "aws0_5", "projects/sat-io/open-datasets/gNATSGO/raster/aws0_5", "b1"),
        ("solus100", "claytotal", "USDA/SOLUS100/V0/claytotal", "r_5_cm_p"),
        ("nlcd_2019", "landcover", "USGS/NLCD_RELEASES/2019_REL/NLCD/2019", "landcover"),
        ("nlcd_2021", "landcover", "USGS/NLCD_RELEASES/2021_REL/NLCD/2021", "landcover"),
        ("dem_merit", "dem", "MERIT/DEM/v1_0_3", "dem"),
        ("dem_srtm", "elevation", "USGS/SRTMGL1_003", "elevation"),
        ("soilgrids_ph", "phh2o", "projects/soilgrids-isric/phh2o_mean", "phh2o_0-5cm_mean"),
    ],
)
def test_a_layer_is_read_from_the_image_that_holds_it(
    archive, stand_in, source, band, image, there
):
    """One image a property, a year, a depth: the catalogue's traps."""
    held = stand_in.earth.assets.get(image)
    low, high = sources.get(source).band(band).stored_range
    layer = smooth(image, there, "float", 1 / 1000, (low + high) / 2, (high - low) / 3)
    stand_in.earth.assets[image] = Single(image, "EPSG:4326", (layer,))
    try:
        request = ask(archive, source, bands=(band,))
        method = "bilinear" if sources.get(source).band(band).continuous else "nearest"
        options = {"grid": request.grid, "method": method, "earth": stand_in.earth}
        values, wanted = only(archive, request).values, expected(image, "", there, **options)
    finally:
        if held is None:
            del stand_in.earth.assets[image]
        else:
            stand_in.earth.assets[image] = held
    np.testing.assert_allclose(values[0], wanted, **TIGHT)


@pytest.mark.parametrize("source", ["sentinel1", "sentinel2"])
def test_a_chip_at_the_border_of_utm_zones_lies_on_the_station_s_zone(archive, source):
    """Scenes of both zones cover the place; those of the other zone are warped, not shifted."""
    table = archive.scenes(stations_table(BETWEEN_ZONES), source, *JUNE)
    requests = [
        chip_request(archive, scene, source=source, place=BETWEEN_ZONES)
        for scene in list(table.itertuples())[:4]
    ]
    for request, chip in archive.chips(requests):
        assert request.grid.crs == "EPSG:32614"
        np.testing.assert_allclose(chip.values, expected_chip(request), **TIGHT)


def test_backscatter_averaged_in_db_would_be_seen(archive):
    """The bilinear mean of decibels lies below that of power by more than the tests allow."""
    request = dataclasses.replace(ask(archive, "sentinel1"), bands=("VV",))
    wanted = expected_chip(request)
    in_db = expected_mosaic("COPERNICUS/S1_GRD", [request.scene_id], "VV", grid=request.grid)
    assert (wanted - in_db).max() > 50 * TIGHT["atol"]


def test_class_codes_are_missing_and_blend_into_no_neighbour(archive, stand_in):
    """MODIS keeps 250 and the like where no leaf area is; here in every fourth column of pixels."""
    lai = stand_in.earth.assets["MODIS/061/MCD15A3H"]
    fraction, leaves = lai.bands

    def coded(scene, x, y):
        return np.where(np.floor(x / leaves.step) % 4 == 0, 250, leaves.value(scene, x, y))

    bands = fraction, dataclasses.replace(leaves, value=coded)
    stand_in.earth.assets["MODIS/061/MCD15A3H"] = dataclasses.replace(lai, bands=bands)
    try:
        request = ask(archive, "modis_lai", size_px=64)
        values = only(archive, request).values
        places = [(36.4, longitude) for longitude in np.linspace(-99.2, -99.1, 20)]
        series = archive.series(stations_table(*places), "modis_lai", "2019-06-01", "2019-06-06")
    finally:
        stand_in.earth.assets["MODIS/061/MCD15A3H"] = lai
    there = np.isfinite(values)
    assert 0.3 < there.mean() < 0.7  # of four columns one is missing, and blends into two halves
    np.testing.assert_allclose(values[there], expected_chip(request)[there], **TIGHT)
    assert 0 < series.station_id.nunique() < 20 and series.Lai.max() <= 100


def test_slices_of_a_pass_are_laid_together(archive):
    """At a slice's end one slice leaves holes over the chip, the scene of the pass does not."""
    table = archive.scenes(stations_table(BETWEEN_SLICES), "sentinel1", *JUNE)
    scene = next(row for row in table.itertuples() if "+" in row.scene_id)
    options = {"source": "sentinel1", "place": BETWEEN_SLICES, "size_px": 256}
    request = chip_request(archive, scene, **options)
    slices = [dataclasses.replace(request, scene_id=one) for one in scene.scene_id.split("+")]

    chips = dict(archive.chips([request, *slices]))

    assert chips[request].valid_fraction == 1.0
    assert min(chips[one].valid_fraction for one in slices) < 0.95
    np.testing.assert_allclose(chips[request].values, expected_chip(request), **TIGHT)


def test_nearest_is_kept_when_asked_for(archive):
    request = dataclasses.replace(ask(archive, "dem"), resampling="nearest")
    values = only(archive, request).values
    assert set(np.unique(values)) <= set(np.unique(np.round(values)))  # no mean of two heights


def test_flags_that_are_masked_are_unknown_in_the_chip(archive):
    """In 2022 QA60 holds nothing, while the reflectances are there."""
    request = ask(archive, "sentinel2", period=("2022-06-01", "2022-06-10"))
    values = only(archive, request).values
    assert np.isnan(values[request.bands.index("QA60")]).all()
    assert np.isfinite(values[request.bands.index("B4")]).all()


def test_a_chip_too_large_for_the_service_comes_in_parts(archive, stand_in):
    """Quadrants, and quadrants of quadrants, pasted where they belong."""
    request = ask(archive, "sentinel2", size_px=96)
    whole = only(archive, request)
    stand_in.faults.set(memory_limit_px=30 * 30)
    before = stand_in.counters.snapshot()["requests"]["image:computePixels"]
    parts = only(archive, request)
    assert stand_in.counters.snapshot()["requests"]["image:computePixels"] - before == 1 + 4 + 16
    np.testing.assert_array_equal(parts.values, whole.values)


def test_what_no_cutting_makes_small_enough_fails_for_good(archive, stand_in):
    stand_in.faults.set(memory_limit_px=10)
    failure = only(archive, ask(archive, "dem"))
    assert failure.permanent and failure.reason.startswith("memory: ")


def test_an_uneven_grid_is_cut_and_pasted_whole():
    """The quadrants of 33 x 47 pixels tile it."""
    grid = Grid("EPSG:32614", 5.0, 95.0, 10.0, 33, 47)
    request = ChipRequest("dem", "static", "A", np.datetime64("NaT"), ("elevation",), grid)
    job = ChipJob()
    places = [(part.grid.x_m + part.grid.y_m[:, None])[None] for part in job.split(request)]
    whole = job.merge(request, places)
    np.testing.assert_array_equal(whole[0], (grid.x_m + grid.y_m[:, None]).astype(np.float32))


PASSING = ["409", "429", "499", "500", "503", "truncate", "cut_chunk", "reset", "huge header"]


@pytest.mark.parametrize("kind", [*PASSING, *PAGES, *ODD_JSON, *BODIES])
def test_a_passing_fault_is_asked_over(archive, stand_in, kind):
    request = ask(archive, "dem")
    stand_in.faults.set(script=[kind, kind])
    assert isinstance(only(archive, request), Chip)
    assert stand_in.counters.snapshot()["faults"] == {kind: 2}


@pytest.mark.parametrize("kind", ["stall", "trickle", "trickle head"])
def test_an_answer_that_is_not_whole_at_the_deadline_is_given_up(earth_engine, stand_in, kind):
    """Bytes that go on to come, ten a second, do not move it."""
    policy = dataclasses.replace(QUICK, deadline_s=0.5)
    archive = open_archive("earthengine", policy=policy)
    request = ask(archive, "dem")
    stand_in.faults.set(script=[kind, kind], stall_s=20)
    begun = time.monotonic()
    assert isinstance(only(archive, request), Chip)
    assert 1.0 <= time.monotonic() - begun < 4.0


@pytest.mark.parametrize(
    "kind, reason",
    [
        ("page 404", "server: HTTP 404 Not Found: Not ü here nginx (4 attempts)"),
        ("number", "damaged: no answer that the client can read: AttributeError"),
        ("text", 'server: HTTP 400 Bad Request: {"error": "bad"} (4 attempts)'),
        ("409", "server: The operation was aborted. (4 attempts)"),
        ("page 302", "network: sent elsewhere (a redirect)"),
        (
            "other bands",
            "damaged: wanted 48 x 48 floating values of elevation; found 9344 b",
        ),
        (
            "terabytes",
            "damaged: wanted 48 x 48 floating values of elevation; found 78 bytes, Un",
        ),
        ("huge header", "network: "),
    ],
)
def test_a_fault_that_stays_is_named_and_asked_again_by_the_next_build(
    archive, stand_in, kind, reason
):
    request = ask(archive, "dem")
    stand_in.faults.set(rate={kind: 1.0})
    failure = only(archive, request)
    assert not failure.permanent and failure.reason.startswith(reason)
    assert "computePixels" not in failure.reason and "<h" not in failure.reason
    assert stand_in.counters.snapshot()["faults"] == {kind: QUICK.attempts}


def test_a_fault_that_stays_is_no_verdict_on_the_chip(archive, stand_in):
    """After its attempts a chip counts as failed for now: the next build asks again."""
    request = ask(archive, "dem")
    stand_in.faults.set(rate={"503": 1.0})
    failure = only(archive, request)
    assert not failure.permanent and failure.reason.startswith("server: ")
    assert stand_in.counters.snapshot()["answers"]["503"] == QUICK.attempts


def test_a_refused_request_is_never_sent_again(archive, stand_in):
    request = ask(archive, "dem")
    stand_in.faults.set(permanent=1.0)
    failure = only(archive, request)
    assert failure.permanent and failure.reason.startswith("request: ")
    assert stand_in.counters.snapshot()["answers"]["400"] == 1


def test_a_scene_that_is_gone_fails_by_name(archive, stand_in):
    request = ask(archive, "sentinel1")
    stand_in.earth.removed.add(f"COPERNICUS/S1_GRD/{request.scene_id}")
    failure = only(archive, request)
    assert failure.permanent and f"no scene {request.scene_id}" in failure.reason


def test_a_scene_without_a_valid_pixel_fails_by_name(archive, stand_in):
    request = ask(archive, "sentinel1")
    stand_in.earth.blank.add(f"COPERNICUS/S1_GRD/{request.scene_id}")
    failure = only(archive, request)
    assert failure.permanent and f"{request.scene_id} holds nothing over A__0" in failure.reason


def test_a_chip_in_the_sea_holds_nothing(archive):
    sea = 30.0, -40.0
    failure = only(archive, ask(archive, "dem", place=sea))
    assert isinstance(failure, Failure) and "holds nothing" in failure.reason


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"bands": ("VV", "HH")}, "no band HH"),
        ({"version": "another world"}, "asked of another world"),
        ({"source": "palsar"}, "does not render 'palsar'"),
        ({"source": "smap_l2"}, "nsidc.org"),
        ({"time": np.datetime64("2019-06-20T03:33:33", "us")}, "no scene"),
        ({"time": np.datetime64("NaT", "us")}, "needs a time"),
    ],
)
def test_what_cannot_come_is_refused_before_it_is_asked(archive, stand_in, change, reason):
    request = dataclasses.replace(ask(archive, "sentinel1"), **change)
    failure = only(archive, request)
    assert failure.permanent and reason in failure.reason
    assert "image:computePixels" not in stand_in.counters.snapshot()["requests"]


def test_an_expired_login_ends_the_export_and_condemns_no_chip(archive, stand_in):
    """Were it a chip's failure, a night's chips would be marked as never to come."""
    requests = [ask(archive, "dem", size_px=n) for n in range(16, 24)]
    stand_in.faults.set(every_request="401")
    with pytest.raises(ServiceError, match="permission: the login was refused"):
        list(archive.chips(requests))


def test_a_refused_project_is_told_what_to_do_and_no_address(archive, stand_in):
    """The request's address would stand in a log or a page; Google's advice must stand there."""
    request = ask(archive, "dem")
    stand_in.faults.set(every_request="403")
    with pytest.raises(ServiceError, match="permission: The project .* enable the API") as refused:
        only(archive, request)
    assert stand_in.url not in str(refused.value) and "computePixels" not in str(refused.value)


def test_closing_an_export_leaves_nothing_running(archive, stand_in):
    requests = [ask(archive, "dem", size_px=n) for n in range(16, 48)]
    stand_in.faults.set(latency_s=0.05)
    answers = archive.chips(requests)
    next(answers)
    answers.close()
    counted = stand_in.counters.snapshot()
    assert counted["in_flight"] == 0
    assert sum(counted["pixels"].values()) <= 32


def test_the_version_names_the_assets(archive):
    assert archive.version == open_archive("earthengine").version
    assert archive.version.startswith("earthengine-2-")


def test_the_doctor_looks_before_the_first_chip(archive, stand_in):
    """SMAP10KM ended in August 2022: chips of later dates are refused before they are asked."""
    request = ask(archive, "smap")
    late = dataclasses.replace(request, time=np.datetime64("2023-06-01", "us"))
    before = stand_in.counters.snapshot()["requests"]
    with pytest.raises(DatasetError, match="smap.*ended"):
        list(archive.chips([late]))
    assert stand_in.counters.snapshot()["requests"] == before


def test_the_doctor_looks_at_the_bands_that_are_asked_for(archive, monkeypatch):
    """A band that Earth Engine has dropped stops nobody who leaves it out."""
    pinned = doctor.load_facts()
    s1 = {**pinned["COPERNICUS/S1_GRD"], "bands": ["VV", "angle"]}
    known = pinned | {"COPERNICUS/S1_GRD": s1}
    monkeypatch.setattr(doctor, "load_facts", lambda: known)
    request = ask(archive, "sentinel1")
    with pytest.raises(DatasetError, match="no band VH"):
        list(archive.chips([request]))
    assert isinstance(only(archive, dataclasses.replace(request, bands=("VV",))), Chip)


def test_an_estimate_needs_no_login():
    archive = open_archive("earthengine", policy=QUICK)
    grid = Grid("EPSG:32614", 0.0, 0.0, 10.0, 256, 256)
    request = ChipRequest("dem", "static", "A", np.datetime64("NaT"), ("elevation",), grid)
    assert archive.estimate([request] * 3).requests == 3


def test_chips_come_from_a_dask_cluster_alike(archive):
    """The same jobs, pickled to workers: here threads of one worker, which share the login."""
    distributed = pytest.importorskip("distributed")
    requests = [ask(archive, "sentinel2", number=n, size_px=20) for n in range(3)]
    here = dict(archive.chips(requests))
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False}
    with (
        distributed.LocalCluster(dashboard_address=None, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        there = dict(open_archive("earthengine", policy=QUICK, client=client).chips(requests))
    assert set(there) == set(requests)
    for request in requests:
        np.testing.assert_array_equal(there[request].values, here[request].values)
