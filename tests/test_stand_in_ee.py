"""The stand-in Earth Engine answers the unmodified client as the real service would."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import requests

from soilkit import grids
from soilkit.contracts import Grid
from tests.stand_in_ee import oracle
from tests.stand_in_ee.fixtures import Process, initialise, stand_in_environment
from tests.stand_in_ee.rasters import DEM, Earth
from tests.stand_in_ee.scenes import Query, milliseconds
from tests.stand_in_ee.sentinel2 import tile_corner, tiles_at

S1, S2 = "COPERNICUS/S1_GRD", "COPERNICUS/S2_HARMONIZED"
SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
PROBABILITY = "COPERNICUS/S2_CLOUD_PROBABILITY"
PLACE = 2.1, 43.2
AT_ZONES_EDGE = 5.99, 50.1
AT_SEA = -40.0, 30.0
GRID = grids.chip_grid(PLACE[1], PLACE[0], size_px=16, pixel_size_m=10)


@pytest.fixture
def ee(earth_engine):
    """The client; its own retries are off, so that every fault is seen."""
    before = earth_engine.data._get_state().max_retries
    earth_engine.data.setMaxRetries(0)
    yield earth_engine
    earth_engine.data.setMaxRetries(before)


def scenes(asset, place=PLACE, start="2020-01-01", end="2020-03-01"):
    query = Query((np.array([place]),), milliseconds(start), milliseconds(end))
    return Earth().list(asset, query)


def dual(found):
    """Radar scenes that soilkit would take."""
    return [scene for scene in found if {"VV", "VH"} <= {band.name for band in scene.bands}]


def pixels(ee, image, grid=GRID):
    a, b, c, d, e, f = grid.transform
    affine = {"scaleX": a, "shearX": b, "translateX": c}
    affine |= {"shearY": d, "scaleY": e, "translateY": f}
    return ee.data.computePixels(
        {
            "expression": image,
            "fileFormat": "NUMPY_NDARRAY",
            "grid": {
                "crsCode": grid.crs,
                "affineTransform": affine,
                "dimensions": {"width": grid.width, "height": grid.height},
            },
        }
    )


def passes(ee, asset=S1, place=PLACE, end="2020-03-01"):
    return (
        ee.ImageCollection(asset)
        .filterBounds(ee.Geometry.Point(place))
        .filterDate("2020-01-01", end)
    )


def table(ee, images, **properties):
    """Rows of a collection with some of its images' properties."""
    made = images.map(
        lambda image: ee.Feature(None, {k: image.get(v) for k, v in properties.items()})
    )
    found = ee.data.computeFeatures({"expression": made})["features"]
    return [feature["properties"] for feature in found]


# --- what it serves


def test_a_filtered_collection_lists_what_was_flown(ee):
    """Bounds, dates, mode and polarisation narrow the scenes as they do on the client's side."""
    images = passes(ee).filter(
        ee.Filter.And(
            ee.Filter.eq("instrumentMode", "IW"),
            ee.Filter.listContains("transmitterReceiverPolarisation", "VH"),
        )
    )
    rows = table(ee, images, id="system:index", start="system:time_start")

    wanted = dual(scenes(S1))
    assert rows == [{"id": scene.index, "start": scene.start_ms} for scene in wanted]
    assert len(scenes(S1)) > len(wanted) > 10


def test_a_long_table_comes_in_pages(ee):
    made = passes(ee, end="2020-06-01").map(lambda image: ee.Feature(None, {"a": 1}))
    first = ee.data.computeFeatures({"expression": made, "pageSize": 7})
    second = ee.data.computeFeatures(
        {"expression": made, "pageSize": 7, "pageToken": first["nextPageToken"]}
    )
    whole = ee.data.computeFeatures({"expression": made})

    assert len(first["features"]) == 7
    assert whole["features"][:14] == first["features"] + second["features"]
    assert "nextPageToken" not in whole


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    ("asset", "band", "place"),
    [
        (S1, "VV", PLACE),
        (S2, "B11", PLACE),
        (S2, "B4", AT_ZONES_EDGE),
        (S2, "QA60", PLACE),
        (DEM, "elevation", PLACE),
        ("MODIS/061/MCD15A3H", "Lai", PLACE),
        ("projects/soilgrids-isric/sand_mean", "sand_0-5cm_mean", PLACE),
    ],
)
def test_pixels_are_those_of_the_analytic_earth(ee, asset, band, place, method):
    """The graph over the wire agrees with values computed without it, in whatever projection."""
    indices = [""]
    if asset in (S1, S2):
        found = scenes(asset, place)
        indices = [scene.index for scene in (dual(found) if asset == S1 else found)[:2]]
    elif asset.startswith("MODIS"):
        indices = ["2020_01_05"]
    grid = grids.chip_grid(place[1], place[0], size_px=16, pixel_size_m=10)
    images = [ee.Image(f"{asset}/{i}" if i else asset).select(band) for i in indices]
    if method == "bilinear":
        images = [image.resample("bilinear") for image in images]
    found = pixels(ee, ee.ImageCollection.fromImages(images).mosaic(), grid)[band]

    wanted = oracle.expected_mosaic(asset, indices, band, grid=grid, method=method)
    np.testing.assert_allclose(found, np.nan_to_num(wanted), rtol=2e-6, atol=1e-5)


def test_a_slip_of_a_pixel_a_pass_or_a_zone_changes_the_numbers():
    """What the tests of an archive lean on: no such mistake stays within a tolerance."""
    one, other = dual(scenes(S1))[:2]
    half, whole = (Grid(GRID.crs, GRID.left_m + slip, GRID.top_m, 10, 16, 16) for slip in (5, 10))
    right = oracle.expected(S1, one.index, "VV", grid=GRID)
    mistakes = [
        oracle.expected(S1, one.index, "VV", grid=half),
        oracle.expected(S1, one.index, "VV", grid=whole),
        oracle.expected(S1, one.index, "VV", grid=GRID, method="nearest"),
        oracle.expected(S1, one.index, "VH", grid=GRID),
        oracle.expected(S1, other.index, "VV", grid=GRID),
    ]
    for wrong in mistakes:
        assert np.abs(right - wrong).mean() > 0.1

    edge = grids.chip_grid(*AT_ZONES_EDGE[::-1], size_px=16, pixel_size_m=10)
    moved = Grid("EPSG:32631", edge.left_m, edge.top_m, 10, 16, 16)
    by_zone = {scene.crs: scene.index for scene in dual(scenes(S1, AT_ZONES_EDGE))}
    index = by_zone["EPSG:32632"]
    assert edge.crs == "EPSG:32631" and len(by_zone) == 2
    assert np.isfinite(oracle.expected(S1, index, "VV", grid=moved)).all()
    wrong = Grid("EPSG:32632", edge.left_m, edge.top_m, 10, 16, 16)
    assert np.isnan(oracle.expected(S1, index, "VV", grid=wrong)).all()


def test_resampling_a_mosaic_blurs_it_to_a_degree(ee):
    """A composite has no projection of its own: interpolate its images, never itself."""
    index = dual(scenes(S1))[0].index
    image = ee.Image(f"{S1}/{index}").select("VV")
    before = ee.ImageCollection.fromImages([image.resample("bilinear")]).mosaic()
    after = ee.ImageCollection.fromImages([image]).mosaic().resample("bilinear")
    sharp, blurred = pixels(ee, before)["VV"], pixels(ee, after)["VV"]

    assert np.ptp(sharp) > 1
    assert np.ptp(blurred) < 0.1


def test_a_mosaic_shows_what_lies_below_masked_pixels(ee, stand_in):
    below, above = (scene.id for scene in dual(scenes(S1))[:2])
    stand_in.earth.blank.add(above)
    image = ee.ImageCollection.fromImages([ee.Image(i).select("VV") for i in (below, above)])
    found = pixels(ee, image.mosaic())["VV"]

    wanted = oracle.expected(S1, below.split("/")[-1], "VV", grid=GRID, method="nearest")
    np.testing.assert_allclose(found, wanted)


def test_power_interpolates_to_more_than_decibels(ee):
    """``resample`` after arithmetic interpolates the arithmetic's result on native pixels."""
    index = dual(scenes(S1))[0].index
    image = ee.Image(f"{S1}/{index}").select("VV")
    power = ee.Image.constant(10).pow(image.divide(10)).resample("bilinear")
    found = pixels(ee, power.log10().multiply(10))["constant"]

    decibels = oracle.expected(S1, index, "VV", grid=GRID)
    assert (found >= decibels - 1e-9).all()
    assert 0.001 < (found - decibels).mean() < 0.2


def test_bands_meet_by_name_where_both_images_have_the_same(ee):
    one = ee.Image.constant([1, 2]).rename(["a", "b"])
    other = ee.Image.constant([2, 1]).rename(["b", "a"])
    found = pixels(ee, one.subtract(other))
    assert found.dtype.names == ("a", "b")
    assert (found["a"] == 0).all()
    assert (found["b"] == 0).all()


def test_masked_pixels_read_zero_and_stay_so_beyond_the_footprint(ee, stand_in):
    """``unmask`` alone fills within the footprint; with sameFootprint=False everywhere."""
    scene = dual(scenes(S1))[0]
    stand_in.earth.blank.add(scene.id)
    east = grids.chip_grid(PLACE[1], PLACE[0] + 12, size_px=4, pixel_size_m=10)
    image = ee.Image(scene.id).select("VV")

    assert (pixels(ee, image)["VV"] == 0).all()
    assert (pixels(ee, image.unmask(-9999))["VV"] == -9999).all()
    assert (pixels(ee, image.unmask(-9999), east)["VV"] == 0).all()
    assert (pixels(ee, image.unmask(-9999, False), east)["VV"] == -9999).all()


def test_a_point_reads_the_native_pixel_that_holds_it(ee):
    asset, band = "NASA/GLDAS/V021/NOAH/G025/T3H", "SoilMoi0_10cm_inst"
    rows = (
        ee.ImageCollection(asset)
        .filterDate("2020-01-01", "2020-01-02")
        .map(
            lambda image: ee.Feature(
                None,
                image.select(band).reduceRegion(ee.Reducer.first(), ee.Geometry.Point(PLACE)),
            ).set("end", image.get("system:time_end"))
        )
    )
    found = ee.data.computeFeatures({"expression": rows})["features"]

    values = [f["properties"][band] for f in found]
    assert values == [oracle.expected_at(asset, f["id"], band, place=PLACE) for f in found]
    assert len(set(values)) == 8
    assert found[0]["properties"]["end"] == milliseconds("2020-01-01T03:00")


def test_a_mean_over_a_region_counts_its_pixels(ee):
    """Half of a box beyond the swath's edge is half of the mask's mean."""
    scene = dual(scenes(S1))[0]
    south_west, south_east = scene.valid.corners[:2]
    middle = (south_west + south_east) / 2
    box = [middle[0] - 5000, middle[1] - 5000, middle[0] + 5000, middle[1] + 5000]
    region = ee.Geometry.Rectangle(box, scene.crs, False)
    seen = ee.Image(scene.id).select("VV").mask().unmask(0, False)
    mean = seen.reduceRegion(ee.Reducer.mean(), region, scale=100).get("VV").getInfo()

    assert mean == pytest.approx(0.5, abs=0.01)


# --- what the analytic Earth holds


def test_slices_of_a_pass_overlap():
    """Somewhere along a track a station lies in two slices, 25 seconds apart."""
    doubles = []
    for latitude in np.arange(40, 44, 0.1):
        starts = [s.start_ms for s in scenes(S1, (2.1, latitude), end="2020-01-13")]
        doubles.append((np.diff(starts) == 25_000).any())
    assert 0 < np.mean(doubles) < 0.5


def test_radar_flies_both_ways_and_some_of_it_is_of_no_use():
    found = scenes(S1, end="2021-01-01")
    assert {s.properties["orbitProperties_pass"] for s in found} == {"ASCENDING", "DESCENDING"}
    assert {s.properties["instrumentMode"] for s in found} == {"IW", "EW"}
    assert 0.7 < len(dual(found)) / len(found) < 1
    assert {s.index[:3] for s in scenes(S1, start="2022-01-01", end="2022-06-01")} == {"S1A"}


def test_tiles_lie_where_the_military_grid_has_them():
    """Published corners of tiles, and places within them."""
    corners = {"31TCJ": (300000, 4900020), "33UUP": (300000, 5400000), "55HEB": (499980, 6200040)}
    assert {name: tile_corner(name) for name in corners} == corners
    assert tiles_at(1.44, 43.6) == ("31TCJ",)  # Toulouse


def test_one_datatake_is_stored_in_two_zones():
    """At a zone's edge one acquisition comes twice, in two projections."""
    found = scenes(S2, AT_ZONES_EDGE)
    pairs = {}
    for scene in found:
        pairs.setdefault(scene.index.split("_")[0], set()).add(scene.crs)
    assert {"EPSG:32631", "EPSG:32632"} in pairs.values()


@pytest.mark.parametrize(
    "asset",
    [
        S1,
        S2,
        SCORE,
        "NASA/GLDAS/V021/NOAH/G025/T3H",
        "NASA_USDA/HSL/SMAP10KM_soil_moisture",
        "MODIS/061/MCD15A3H",
        "COPERNICUS/Landcover/100m/Proba-V-C3/Global",
    ],
)
def test_an_image_is_found_again_by_its_id(asset):
    earth = Earth()
    found = scenes(asset, (147.3, -35.1), start="2018-12-30", end="2019-03-01")
    assert found
    for scene in found:
        again = earth.image(scene.id)
        assert (again.start_ms, again.crs, again.properties) == (
            scene.start_ms,
            scene.crs,
            scene.properties,
        )
    assert earth.image(found[0].id[:-1] + "!") is None


def test_clouds_agree_between_flags_score_and_probability():
    """Three maps of one cloud; the score and the probability lack some scenes."""
    grid = grids.chip_grid(PLACE[1], PLACE[0], size_px=64, pixel_size_m=60)
    scored = {scene.index for scene in scenes(SCORE)}
    likely = {scene.index for scene in scenes(PROBABILITY)}
    every = {scene.index for scene in scenes(S2, end="2020-12-01")}
    both = sorted(scored & likely & {scene.index for scene in scenes(S2)})
    covers = []
    for index in both:
        flags = oracle.expected(S2, index, "QA60", grid=grid, method="nearest")
        score = oracle.expected(SCORE, index, "cs_cdf", grid=grid, method="nearest")
        chance = oracle.expected(PROBABILITY, index, "probability", grid=grid, method="nearest")
        cloud = flags > 0
        assert ((score < 0.6) == cloud).mean() > 0.97
        assert ((chance > 50) == cloud).mean() > 0.97
        covers.append(cloud.mean())
    assert min(covers) < 0.3 < max(covers)
    assert len({scene.index for scene in scenes(SCORE, end="2020-12-01")}) < len(every)


@pytest.mark.parametrize(("year", "known"), [(2021, True), (2023, False), (2025, True)])
def test_cloud_flags_are_masked_for_two_years(year, known):
    scene = scenes(S2, start=f"{year}-06-01", end=f"{year}-07-01")[0]
    flags = oracle.expected(S2, scene.index, "QA60", grid=GRID, method="nearest")
    assert np.isfinite(flags).all() == known
    assert np.isfinite(oracle.expected(S2, scene.index, "B4", grid=GRID)).all()


def test_the_sea_is_seen_from_above_but_has_no_ground():
    assert scenes(S1, AT_SEA)
    assert np.isnan(oracle.expected_at(DEM, "", "elevation", place=AT_SEA))
    sand = "projects/soilgrids-isric/sand_mean"
    assert np.isnan(oracle.expected_at(sand, "", "sand_0-5cm_mean", place=AT_SEA))
    assert np.isfinite(oracle.expected_at(sand, "", "sand_0-5cm_mean", place=PLACE))


def test_linking_a_missing_score_masks_its_band(ee):
    """Unknown is told apart from clear: the band is there, and masked."""
    scored = {scene.index for scene in scenes(SCORE, end="2021-01-01")}
    every = [scene.index for scene in scenes(S2, end="2021-01-01")]
    lacking = next(index for index in every if index not in scored)
    having = next(index for index in every if index in scored)
    for index, valid in ((lacking, 0), (having, 1)):
        images = ee.ImageCollection(S2).filter(ee.Filter.eq("system:index", index))
        linked = images.linkCollection(ee.ImageCollection(SCORE), ["cs"]).first()
        mask = ee.Image(linked).select("cs").mask().unmask(0, False)
        assert (pixels(ee, mask)["cs"] == valid).all()


# --- what it refuses


def test_a_node_that_is_not_evaluated_is_refused_by_name(ee):
    with pytest.raises(ee.EEException, match="does not evaluate Kernel.square"):
        ee.Image(1).entropy(ee.Kernel.square(1)).getInfo()


def invoke(name, /, **arguments):
    """An expression as the wire carries it, past the client's own checks."""
    call = {"functionName": name, "arguments": arguments}
    return {"result": "0", "values": {"0": {"functionInvocationValue": call}}}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (invoke("Image.imagine"), "Unrecognized function"),
        (invoke("Image.load"), "Parameter 'id' is required"),
        (invoke("Image.load", id={"constantValue": 3}), "Expected type: String"),
        (invoke("Image.load", name={"constantValue": DEM}), "Unrecognized argument 'name'"),
        (invoke("Image.load", id={"constantValue": "A/B"}), "Image asset 'A/B' not found"),
        (invoke("Image.load", id={"valueReference": "7"}), "'7' is not defined"),
        (invoke("Image.load", id={"argumentReference": "x"}), "'x' is not defined"),
        (invoke("Image.load", id={"fancyValue": 1}), "no expression node"),
    ],
)
def test_a_call_that_breaks_its_signature_is_refused(stand_in, call, message):
    address = f"{stand_in.url}/v1/projects/some-project/value:compute"
    answer = requests.post(address, json={"expression": call}, timeout=10)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_other_methods_are_not_there(stand_in):
    for path in ("v1/projects/some-project/maps", "v1/projects/some-project/image:export", "x"):
        answer = requests.post(f"{stand_in.url}/{path}", json={}, timeout=10)
        assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")


def test_a_band_that_is_not_there_is_refused(ee):
    with pytest.raises(ee.EEException, match="'B99' did not match any bands"):
        pixels(ee, ee.Image(DEM).select("B99"))


def test_pixels_beyond_48_mebibytes_are_refused(ee):
    """A float of four bytes and a byte of mask: 3,172 pixels a side still pass."""
    large = Grid("EPSG:32631", 0, 0, 10, 3173, 3173)
    with pytest.raises(ee.EEException, match=r"Total request size \(50339645 bytes\)"):
        pixels(ee, ee.Image.constant(1).toFloat(), large)


def test_an_asset_tells_of_itself_or_is_not_found(ee):
    dem, radar = ee.data.getAsset(DEM), ee.data.getAsset(S1)
    assert (dem["type"], dem["bands"][0]["id"]) == ("IMAGE", "elevation")
    assert radar["type"] == "IMAGE_COLLECTION"
    assert ee.data.getInfo("COPERNICUS/NOTHING") is None
    with pytest.raises(ee.EEException, match="not found"):
        ee.data.getAsset("COPERNICUS/NOTHING")


# --- what goes wrong


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("429", "Quota exceeded"),
        ("500", "internal error"),
        ("503", "unavailable"),
        ("400", "refuses"),
        ("memory", "User memory limit exceeded"),
        ("too_large", "Total request size"),
        ("403", "has not been used in project"),
    ],
)
def test_an_injected_error_reaches_the_client_once(ee, stand_in, kind, message):
    stand_in.faults.set(script=[kind])
    with pytest.raises(ee.EEException, match=message):
        pixels(ee, ee.Image.constant(1))
    assert pixels(ee, ee.Image.constant(1)).shape == (16, 16)
    assert stand_in.counters.snapshot()["faults"] == {kind: 1}


def test_a_refusal_for_now_may_say_how_long_to_wait(stand_in):
    stand_in.faults.set(script=["429", "500"], retry_after_s=3)
    address = f"{stand_in.url}/v1/projects/some-project/value:compute"
    waits = [requests.post(address, json={}, timeout=10).headers.get("Retry-After") for _ in "ab"]
    assert waits == ["3", None]


@pytest.mark.parametrize("kind", ["truncate", "cut_chunk", "reset"])
def test_a_broken_answer_is_an_error_and_never_half_an_image(ee, stand_in, kind):
    stand_in.faults.set(script=[kind])
    with pytest.raises(OSError):
        pixels(ee, ee.Image.constant(1))
    assert stand_in.counters.snapshot()["answers"] == {"0": 1}
    assert not stand_in.counters.snapshot()["pixels"]


def test_a_stall_lasts_beyond_the_clients_deadline(ee, stand_in):
    """The client gives up; the server sees that it went and counts it out."""
    stand_in.faults.set(script=["stall"])
    ee.data.setDeadline(200)
    try:
        with pytest.raises(TimeoutError):
            pixels(ee, ee.Image.constant(1))
        pixels(ee, ee.Image.constant(1))
    finally:
        ee.data.setDeadline(0)
    assert stand_in.counters.snapshot()["most_in_flight"] == 1


def test_an_expired_login_and_a_project_without_the_service_fail_at_once(ee, stand_in):
    from google.auth.exceptions import RefreshError
    from google.oauth2.credentials import Credentials

    stand_in.faults.set(every_request="403")
    with pytest.raises(ee.EEException, match="has not been used in project"):
        ee.data.getAsset(DEM)
    stand_in.faults.set(every_request="401")
    try:
        with pytest.raises(RefreshError):
            initialise(stand_in.url, credentials=Credentials("stale"))
    finally:
        stand_in.reset()
        initialise(stand_in.url)


def test_large_requests_run_out_of_memory_and_small_ones_do_not(ee, stand_in):
    stand_in.faults.set(memory_limit_px=100)
    with pytest.raises(ee.EEException, match="User memory limit exceeded"):
        pixels(ee, ee.Image.constant(1))
    assert pixels(ee, ee.Image.constant(1), Grid(GRID.crs, 0, 0, 10, 10, 10)).size == 100


def ask(stand_in, n, *, images=None):
    """``n`` requests for a pixel at once; their codes and the seconds it took."""
    address = f"{stand_in.url}/v1/projects/some-project/image:computePixels"
    grid = {"crsCode": "EPSG:32631", "affineTransform": {"scaleX": 10, "scaleY": -10}}
    grid["dimensions"] = {"width": 1, "height": 1}
    codes = [0] * n

    def one(k):
        image = invoke(
            "Image.constant", value={"constantValue": k if images is None else images[k]}
        )
        body = {"expression": image, "fileFormat": "NPY", "grid": grid}
        codes[k] = requests.post(address, json=body, timeout=30).status_code

    threads = [threading.Thread(target=one, args=(k,)) for k in range(n)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return codes, time.perf_counter() - start


def test_waiting_requests_do_not_hold_up_each_other(stand_in):
    stand_in.faults.set(latency_s=0.5)
    codes, seconds = ask(stand_in, 24)
    assert set(codes) == {200}
    assert seconds < 6  # one after the other: 12
    assert 12 < stand_in.counters.snapshot()["most_in_flight"] <= 24


def test_more_than_the_limit_in_flight_is_refused(stand_in):
    stand_in.faults.set(latency_s=0.5, limit_in_flight=10)
    codes, _ = ask(stand_in, 20)
    counted = stand_in.counters.snapshot()
    assert set(codes) == {200, 429}
    assert counted["answers"] == {"200": codes.count(200), "429": codes.count(429)}
    assert counted["in_flight"] == 0


def test_each_request_for_pixels_is_counted_when_it_is_answered(stand_in):
    """Twice the same image is one distinct request, answered twice."""
    ask(stand_in, 3, images=[1, 1, 2])
    assert sorted(stand_in.counters.snapshot()["pixels"].values()) == [1, 2]


def test_random_faults_depend_on_the_seed_and_not_on_the_order(stand_in):
    def met(order):
        stand_in.faults.reset()
        stand_in.faults.set(rate={"500": 0.2, "429": 0.2}, seed=3)
        address = ("image:computePixels", "image:computePixels")
        return {key: [stand_in.faults.choose(m, str(key)) for m in address] for key in order}

    forth, back = met(range(300)), met(reversed(range(300)))
    kinds = [kind for pair in forth.values() for kind in pair]
    assert forth == back
    assert 0.32 < np.mean([kind is not None for kind in kinds]) < 0.48
    with pytest.raises(ValueError, match="No such kind"):
        stand_in.faults.set(rate={"418": 0.1})


# --- other processes


def test_a_server_in_another_process_is_told_and_asked_over_http():
    with Process(script=["500"]) as other:
        codes, _ = ask(other, 2)
        assert sorted(codes) == [200, 500]
        other.ask("faults", rate={"429": 1.0})
        assert ask(other, 1)[0] == [429]
        assert other.counters()["answers"] == {"200": 1, "500": 1, "429": 1}


def test_a_notebooks_kernel_finds_the_client_initialised(tmp_path, stand_in):
    """The start-up of the profile runs before the first cell."""
    cell = "import ee; print(ee.data.is_initialized(), ee.Number(40).add(2).getInfo())"
    with stand_in_environment(tmp_path, stand_in.url) as variables:
        command = [sys.executable, "-m", "IPython", "--no-banner", "-c", cell]
        told = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
    assert "True 42" in told.stdout
