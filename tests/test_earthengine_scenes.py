"""Scenes and series from Earth Engine: which, when, how cloudy; asked once and kept."""

import errno
import threading
from pathlib import Path

import ee
import numpy as np
import pandas as pd
import pytest

from soilkit import contracts, grids, sources
from soilkit.errors import BoundError, ContractError, StoreError, TimeZoneError, UnknownNameError
from soilkit.export.archives import open_archive
from soilkit.export.archives.earthengine import EarthEngineArchive, Policy, expressions, scene_index
from soilkit.export.archives.earthengine.executor import ServiceError
from soilkit.export.archives.earthengine.scene_index import ScenesCache
from soilkit.world import schedule
from tests.helpers_earthengine import BETWEEN_SLICES, JUNE, PLACE, stations_table
from tests.stand_in_ee import sentinel1
from tests.stand_in_ee.oracle import expected, expected_at, expected_mosaic
from tests.stand_in_ee.rasters import Earth
from tests.stand_in_ee.scenes import Query

QUICK = Policy(first_wait_s=0.01, longest_wait_s=0.05, deadline_s=10.0, attempts=3)
S2 = "COPERNICUS/S2_HARMONIZED"
MASKED = "2022-06-01", "2022-07-01"


@pytest.fixture
def archive(earth_engine):
    return open_archive("earthengine", policy=QUICK)


def asked_tables(stand_in):
    return stand_in.counters.snapshot()["requests"].get("table:computeFeatures", 0)


def listed(asset, place, period):
    """Every image over a place's footprint, from the analytic Earth itself."""
    grid = expressions.footprint(place[::-1], 2560.0)
    left, bottom, right, top = grid.bounds_m
    to_degrees = grids.transformer(grid.crs, "EPSG:4326")
    corners = to_degrees.transform([left, right, right, left], [bottom, bottom, top, top])
    span = (np.datetime64(t, "ms").astype(int) for t in period)
    return Earth().list(asset, Query((np.stack(corners, axis=1),), *span))


def test_radar_scenes_are_those_of_the_wide_swath_in_both_polarisations(archive, monkeypatch):
    """The extra-wide swath, here in VV and VH like the wide one, is coarser and left out."""
    kinds = (
        (0.4, ("VV", "VH"), "IW", "H", "1SDV"),
        (0.3, ("VV",), "IW", "H", "1SSV"),
        (0.3, ("VV", "VH"), "EW", "M", "1SDV"),
    )
    monkeypatch.setattr(sentinel1, "KINDS", kinds)
    monkeypatch.setattr(sentinel1, "_scene", sentinel1._scene.__wrapped__)  # no memory of others
    modes = {s.properties["instrumentMode"] for s in listed("COPERNICUS/S1_GRD", PLACE, JUNE)}
    assert {"IW", "EW"} <= modes
    wanted = {
        scene.index
        for scene in listed("COPERNICUS/S1_GRD", PLACE, JUNE)
        if scene.properties["instrumentMode"] == "IW"
        and {"VV", "VH"} <= set(scene.properties["transmitterReceiverPolarisation"])
    }
    table = archive.scenes(stations_table(PLACE), "sentinel1", *JUNE)
    found = {one for scene in table.scene_id for one in scene.split("+")}
    assert found == wanted
    assert len(wanted) < len(listed("COPERNICUS/S1_GRD", PLACE, JUNE))  # others were there to take


def test_a_scene_spans_its_slices(archive):
    """A pass over a slice's end is one scene, from the first start to the last end."""
    table = archive.scenes(stations_table(BETWEEN_SLICES), "sentinel1", *JUNE)
    contracts.check(table, contracts.SCENES)
    scene = next(row for row in table.itertuples() if "+" in row.scene_id)
    one, other = (Earth().image(f"COPERNICUS/S1_GRD/{s}") for s in scene.scene_id.split("+"))
    assert scene.start == pd.Timestamp(one.start_ms, unit="ms")
    assert scene.end == pd.Timestamp(other.end_ms, unit="ms")
    assert scene.orbit == one.properties["orbitProperties_pass"].lower()
    assert scene.valid_fraction == 1.0
    assert table.end.sort_values().diff().min() > pd.Timedelta("1h")


def test_a_pass_at_new_year_is_whole():
    """Pieces of the index end with the year; a pass that does not is merged over them."""
    rows = {
        "station_id": "A__0",
        "scene_id": ["b", "a", "c"],
        "start": pd.to_datetime(
            ["2020-01-01 00:00:05", "2019-12-31 23:59:40", "2020-01-01 01:40:00"]
        ),
        "end": pd.to_datetime(
            ["2020-01-01 00:00:30", "2020-01-01 00:00:05", "2020-01-01 01:41:00"]
        ),
        "orbit": "ascending",
        "valid_fraction": [0.75, 0.5, 1.0],
        "cloud_fraction": np.nan,
    }
    merged = scene_index.merge_slices(pd.DataFrame(rows))
    assert merged.scene_id.tolist() == ["a+b", "c"]
    assert merged.valid_fraction.tolist() == [1.0, 1.0]


def test_of_overlapping_tiles_of_a_pass_the_fullest_is_taken():
    """Stamped seconds apart, the later one would win the join with a sliver of the footprint."""
    times = ["2019-06-01 17:30:00", "2019-06-01 17:30:14", "2019-06-06 17:30:00"]
    rows = {
        "station_id": "A__0", "scene_id": ["north", "south", "north_later"],
        "start": pd.to_datetime(times), "end": pd.to_datetime(times), "orbit": "",
        "valid_fraction": [1.0, 0.3, 0.2], "cloud_fraction": [0.1, 0.0, 0.0],
    }  # fmt: skip
    kept = scene_index.fullest_of_pass(pd.DataFrame(rows))
    assert kept.scene_id.tolist() == ["north", "north_later"]


def test_a_station_where_tiles_overlap_sees_one_optical_scene_a_pass(archive):
    table = archive.scenes(stations_table((36.4, -100.12)), "sentinel2", "2021-06-01", "2021-06-12")
    assert table.scene_id.str[-6:].tolist() == ["T14SLF"] * 3  # of T14SMF it sees a third
    assert (table.valid_fraction == 1).all()


def test_of_two_processings_of_a_slice_one_is_taken():
    rows = {
        "station_id": "A__0",
        "scene_id": ["S1A_1234_AAAA", "S1A_1234_BBBB"],
        "start": pd.Timestamp("2019-06-01 00:00:00"),
        "end": pd.Timestamp("2019-06-01 00:00:25"),
        "orbit": "ascending",
        "valid_fraction": 0.5,
        "cloud_fraction": np.nan,
    }
    merged = scene_index.merge_slices(pd.DataFrame(rows))
    assert merged.scene_id.tolist() == ["S1A_1234_BBBB"]
    assert merged.valid_fraction.tolist() == [0.5]


def test_valid_fraction_is_that_of_the_footprint(archive):
    """Across the end of a slice's swath the told fraction is the mask's own mean."""
    line = stations_table(*[(36.4, lon) for lon in np.arange(-101.0, -97.0, 0.08)])
    table = archive.scenes(line, "sentinel1", "2019-06-01", "2019-06-07")
    partly = table[(table.valid_fraction > 0.1) & (table.valid_fraction < 0.9)]
    assert len(partly)
    places = line.set_index("station_id")
    for scene in partly.itertuples():
        place = places.loc[scene.station_id]
        grid = expressions.footprint((place.longitude, place.latitude), 2560.0)
        slices, options = scene.scene_id.split("+"), {"grid": grid, "method": "nearest"}
        values = expected_mosaic("COPERNICUS/S1_GRD", slices, "VV", **options)
        assert scene.valid_fraction == pytest.approx(np.isfinite(values).mean(), abs=1e-9)
    assert partly.scene_id.str.contains("+", regex=False).any()  # slices overlap, and count once


def test_cloud_fraction_is_that_of_the_flags(archive):
    table = archive.scenes(stations_table(PLACE), "sentinel2", *JUNE)
    grid = expressions.footprint(PLACE[::-1], 2560.0)
    for scene in table.itertuples():
        flags = expected(S2, scene.scene_id, "QA60", grid=grid, method="nearest")
        cloudy = (flags[np.isfinite(flags)].astype(int) & (1 << 10 | 1 << 11)) > 0
        assert scene.cloud_fraction == pytest.approx(cloudy.mean(), abs=1e-9)
    assert table.cloud_fraction.nunique() > 3


def test_where_flags_are_masked_clouds_come_from_the_scores_else_they_are_unknown(archive):
    """Cloud Score+ below 0.6 first, then s2cloudless; a scene that neither knows is unknown."""
    grid = expressions.footprint(PLACE[::-1], 2560.0)
    first = {}
    for scene in listed(S2, PLACE, ("2022-02-01", "2024-02-01")):
        first.setdefault(from_scores(scene.index), scene)
    assert set(first) == {"score", "probability", "unknown"}
    for kind, scene in first.items():
        day = np.datetime64(scene.start_ms, "ms").astype("datetime64[D]")
        table = archive.scenes(stations_table(PLACE), "sentinel2", day, day + 1)
        [found] = table.cloud_fraction[table.scene_id == scene.index]
        wanted = cloudy(kind, scene.index, grid)
        assert found == pytest.approx(wanted, abs=1e-9, nan_ok=True)


SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
PROBABILITY = "COPERNICUS/S2_CLOUD_PROBABILITY"


def from_scores(index):
    """Which mask knows a scene."""
    if Earth().image(f"{SCORE}/{index}"):
        return "score"
    return "probability" if Earth().image(f"{PROBABILITY}/{index}") else "unknown"


def cloudy(kind, index, grid):
    """The cloudy fraction of a footprint after a mask."""
    options = {"grid": grid, "method": "nearest"}
    if kind == "score":
        values = expected(SCORE, index, "cs_cdf", **options)
        return (values[np.isfinite(values)] < 0.6).mean()
    if kind == "probability":
        values = expected(PROBABILITY, index, "probability", **options)
        return (values[np.isfinite(values)] > 50).mean()
    return np.nan


@pytest.mark.parametrize("source", ["smap", "gldas", "modis_lai"])
@pytest.mark.parametrize("period", [("2019-01-01", "2019-02-01"), ("2019-12-20", "2020-01-10")])
def test_composites_are_dated_as_everywhere_in_soilkit(archive, source, period):
    """Age runs from a scene's end: the last moment of its data, for the year's last scene, too."""
    table = archive.scenes(stations_table(PLACE), source, *period)
    wanted = schedule.CALENDARS[source](*period)
    length = (wanted.end - wanted.start)[0]
    if source == "smap":  # the asset's own three-day rhythm, counted from its first scene
        assert set(table.end - table.start) == {pd.Timedelta(length)}
        assert (table.end - pd.Timestamp("2015-04-02")).dt.days.mod(3).eq(0).all()
    else:
        assert table.scene_id.tolist() == wanted.scene_id.tolist()
        np.testing.assert_array_equal(table.start, wanted.start)
        np.testing.assert_array_equal(table.end, wanted.end)


def dated(source, begin, end):
    """Images with these stamps, as the index dates them."""
    begin, end = (pd.Series(np.array(t, "datetime64[ms]").astype(float)) for t in (begin, end))
    stamps = {"scene_id": "a", "begin_ms": begin, "end_ms": end.where(end > 0)}  # NaT is negative
    return scene_index.dated(sources.get(source), pd.DataFrame(stamps))


def test_a_stamped_end_never_makes_a_composite_end_earlier():
    """An asset that stamps its last day's beginning would have the join read the future."""
    images = dated("smap", ["2019-01-01"] * 3, ["2019-01-03", "2019-01-05", "NaT"])
    assert images.end.astype(str).tolist() == ["2019-01-04", "2019-01-05", "2019-01-04"]


def test_a_yearly_map_ends_with_its_year_in_leap_years_too():
    days = ["2019-01-01", "2020-01-01"]
    images = dated("modis_land_cover", days, days)
    assert images.end.astype(str).tolist() == ["2020-01-01", "2021-01-01"]


def test_a_product_dated_in_its_middle_reaches_half_a_step_to_both_sides():
    images = dated("smap_l3_005", ["2019-06-01T12"], ["2019-06-01T12"])
    assert images.start.astype(str).tolist() == ["2019-06-01"]
    assert images.end.astype(str).tolist() == ["2019-06-02"]


def test_global_images_are_listed_once_for_all_stations(archive, stand_in):
    stations = stations_table(*[(36 + 0.1 * k, -99.0) for k in range(30)])
    table = archive.scenes(stations, "gldas", *JUNE)
    assert asked_tables(stand_in) == 1
    assert len(table) == 30 * 240
    assert table.scene_id.dtype == "category" and table.station_id.dtype == "category"


def test_a_long_index_comes_page_by_page(archive, stand_in):
    """A year of three-hourly images is three pages of a thousand."""
    table = archive.scenes(stations_table(PLACE), "gldas", "2018-03-01", "2018-12-31")
    assert asked_tables(stand_in) == 3
    assert len(table) == 305 * 8 and table.scene_id.is_unique


@pytest.mark.parametrize("source", ["smap", "gldas", "modis_lai"])
def test_a_series_is_the_native_pixel_that_holds_each_station(archive, source):
    places = [PLACE, (36.41, -99.13), (40.1, -96.7)]
    row, (start, end) = sources.get(source), ("2019-06-01", "2019-06-09")
    table = archive.series(stations_table(*places), source, start, end)
    band = row.bands[0].name
    stands = stations_table(*places).set_index("station_id")
    for value in table.itertuples():
        place = stands.loc[value.station_id]
        lonlat = place.longitude, place.latitude
        wanted = expected_at(row.asset, value.scene_id, band, place=lonlat)
        assert getattr(value, band) == pytest.approx(wanted, rel=1e-6)
    assert table.station_id.nunique() == 3


def test_a_series_leaves_out_what_the_sea_masks(archive):
    table = archive.series(stations_table(PLACE, (30.0, -40.0)), "smap", *JUNE)
    assert set(table.station_id) == {"A__0"}
    assert table.ssm.notna().all()


def test_a_series_of_many_stations_takes_few_requests_and_none_too_large(archive, stand_in):
    """Forty stations a request at most, five thousand values at most."""
    stations = stations_table(*[(30 + 0.2 * k, -99.0) for k in range(45)])
    table = archive.series(stations, "smap", *JUNE)
    assert asked_tables(stand_in) == 2
    assert table.groupby("station_id", observed=True).size().tolist() == [10] * 45


def test_an_index_too_large_for_the_service_comes_in_halves(archive, stand_in):
    whole = archive.scenes(stations_table(PLACE), "sentinel2", *JUNE)
    stand_in.faults.set(script=["memory", None, "memory"])
    halves = archive.scenes(stations_table(PLACE), "sentinel2", *JUNE)
    pd.testing.assert_frame_equal(halves, whole)


def test_an_interrupted_index_goes_on_where_it_stopped(earth_engine, stand_in, tmp_path):
    """What came is kept; the next call asks for the rest alone, and ends as an undisturbed one."""
    stations = stations_table(*[(36 + 0.1 * k, -99.0) for k in range(6)])
    first = open_archive("earthengine", cache_dir=tmp_path, policy=QUICK)
    stand_in.faults.set(permanent=0.5, seed=3)
    wanted = r"of 6 pieces of sentinel1 did not come \(.*doctor.*call again"
    with pytest.raises(ServiceError, match=wanted):
        first.scenes(stations, "sentinel1", *JUNE)
    kept = len(list(tmp_path.rglob("*.table")))
    assert 0 < kept < 6

    stand_in.reset()
    table = first.scenes(stations, "sentinel1", *JUNE)
    assert asked_tables(stand_in) == 6 - kept
    again = first.scenes(stations, "sentinel1", *JUNE)
    assert asked_tables(stand_in) == 6 - kept  # all of it is on disk now
    undisturbed = open_archive("earthengine", policy=QUICK).scenes(stations, "sentinel1", *JUNE)
    pd.testing.assert_frame_equal(table, undisturbed)
    pd.testing.assert_frame_equal(again, undisturbed)


def test_what_is_on_disk_needs_no_login(earth_engine, stand_in, tmp_path, monkeypatch):
    """On a plane the index of yesterday still joins; a station more has to be asked for."""
    stations = stations_table(PLACE, PLACE, (36.6, -99.0))
    online = open_archive("earthengine", cache_dir=tmp_path, policy=QUICK)
    before = {name: online.scenes(stations, name, *JUNE) for name in ("sentinel1", "smap", "dem")}
    values = online.series(stations, "smap", *JUNE)

    monkeypatch.setattr(EarthEngineArchive, "connect", lambda self: pytest.fail("logged in"))
    offline = open_archive("earthengine", cache_dir=tmp_path, policy=QUICK)
    for name, table in before.items():
        pd.testing.assert_frame_equal(offline.scenes(stations, name, *JUNE), table)
    pd.testing.assert_frame_equal(offline.series(stations, "smap", *JUNE), values)
    fewer = offline.scenes(stations.iloc[:1], "sentinel1", *JUNE)
    assert set(fewer["station_id"]) == {"A__0"}
    with pytest.raises(pytest.fail.Exception, match="logged in"):
        offline.scenes(stations_table((37.0, -99.0)), "sentinel1", *JUNE)


def test_a_damaged_piece_is_asked_for_again(earth_engine, stand_in, tmp_path):
    """Cut, or with one flipped bit anywhere."""
    archive = open_archive("earthengine", cache_dir=tmp_path, policy=QUICK)
    table = archive.scenes(stations_table(PLACE), "smap", *JUNE)
    [kept] = tmp_path.rglob("*.table")
    whole = kept.read_bytes()
    flipped = [
        whole[:k] + bytes([whole[k] ^ 4]) + whole[k + 1 :] for k in range(0, len(whole), 150)
    ]
    for damaged in (whole[:100], *flipped):
        kept.write_bytes(damaged)
        pd.testing.assert_frame_equal(archive.scenes(stations_table(PLACE), "smap", *JUNE), table)
    assert asked_tables(stand_in) == 2 + len(flipped)


@pytest.mark.parametrize(
    "row",
    [
        {"begin_ms": 1.5e12},
        {"scene_id": "a", "begin_ms": None},
        {"scene_id": "a", "begin_ms": 1e300},
        {"scene_id": "a", "begin_ms": "June"},
        {"scene_id": "a", "begin_ms": 1.5e12, "valid": [1]},
        5,
    ],
)
def test_an_answer_without_a_name_or_a_time_is_no_scene(archive, monkeypatch, row):
    """It is asked again, and named when it stays so."""
    asked = []
    answer = {"features": [{"properties": row}]}
    monkeypatch.setattr(ee.data, "_execute_cloud_call", lambda call: asked.append(1) or answer)
    with pytest.raises(ServiceError, match=r"damaged: .*\(no answer that the client can read"):
        archive.scenes(stations_table(PLACE), "sentinel1", *JUNE)
    assert len(asked) == QUICK.attempts


def test_another_footprint_is_another_index(earth_engine, stand_in, tmp_path):
    """What is kept for one side of the footprint never answers for another."""
    for side_m in (2560.0, 5120.0):
        options = {"cache_dir": tmp_path, "policy": QUICK, "footprint_m": side_m}
        open_archive("earthengine", **options).scenes(stations_table(PLACE), "sentinel1", *JUNE)
    assert asked_tables(stand_in) == 2


def test_stations_at_one_place_see_the_same_scenes_asked_once(archive, stand_in):
    table = archive.scenes(stations_table(PLACE, PLACE), "sentinel1", *JUNE)
    assert asked_tables(stand_in) == 1
    one, two = (rows.drop(columns="station_id").reset_index(drop=True)
                for _, rows in table.groupby("station_id", observed=True))  # fmt: skip
    pd.testing.assert_frame_equal(one, two)


@pytest.mark.parametrize("source", ["sentinel1", "sentinel2", "smap", "modis_lai"])
@pytest.mark.parametrize("period", [("1990-01-01", "1991-01-01"), ("2019-06-02", "2019-06-01")])
def test_a_bound_without_scenes_gives_an_empty_table(archive, source, period):
    table = archive.scenes(stations_table(PLACE), source, *period)
    contracts.check(table, contracts.SCENES)
    assert len(table) == 0
    if source not in ("sentinel1", "sentinel2"):
        series = archive.series(stations_table(PLACE), source, *period)
        assert len(series) == 0 and series.end.dtype == "datetime64[us]"


def test_no_stations_give_an_empty_table(archive):
    none = stations_table(PLACE).iloc[:0]
    for source in ("sentinel1", "smap", "dem"):
        table = archive.scenes(none, source, *JUNE)
        contracts.check(table, contracts.SCENES)
        assert len(table) == 0


def test_a_source_that_earth_engine_lacks_is_refused_with_its_home(archive):
    with pytest.raises(UnknownNameError, match="no 'smap_l2'.*nsidc.org"):
        archive.scenes(stations_table(PLACE), "smap_l2", *JUNE)
    with pytest.raises(UnknownNameError, match="palsar.*sentinel1"):
        archive.scenes(stations_table(PLACE), "palsar", *JUNE)
    with pytest.raises(UnknownNameError, match="no series of 'dem'"):
        archive.series(stations_table(PLACE), "dem", *JUNE)


def test_a_station_beyond_utm_is_refused_by_its_latitude(archive):
    with pytest.raises(ContractError, match="latitude 86"):
        archive.scenes(stations_table((86.0, 10.0)), "sentinel1", *JUNE)


def test_an_empty_table_is_explained_in_the_log(archive, caplog):
    """The paper's SMAP ended in 2022: whoever asks for 2023 is told so, and where to turn."""
    for ask in (archive.scenes, archive.series):
        caplog.clear()
        assert len(ask(stations_table(PLACE), "smap", "2023-06-01", "2023-06-12")) == 0
        assert "No smap from 2023-06-01" in caplog.text and "ended on 2022-08-02" in caplog.text
        assert "smap_l4" in caplog.text


@pytest.mark.parametrize("start", ["June", None, pd.NaT, [1]])
def test_what_is_no_moment_is_refused_by_its_name(archive, start):
    with pytest.raises(BoundError, match="start is a moment such as"):
        archive.scenes(stations_table(PLACE), "sentinel1", start, "2019-07-01")


def test_a_zoned_time_is_refused(archive):
    """Dropping the zone would shift every bound by hours."""
    zoned = pd.Timestamp("2019-07-01", tz="America/Chicago")
    with pytest.raises(TimeZoneError, match="end carries the zone America/Chicago"):
        archive.series(stations_table(PLACE), "smap", "2019-06-01", zoned)


def test_a_stations_table_without_places_is_refused_by_column(archive):
    with pytest.raises(ContractError, match="lacks latitude"):
        archive.scenes(stations_table(PLACE).drop(columns="latitude"), "sentinel1", *JUNE)


def test_a_cache_that_cannot_be_written_is_named_before_anything_is_asked(
    earth_engine, stand_in, tmp_path
):
    (tmp_path / "file").write_text("no folder")
    archive = open_archive("earthengine", cache_dir=tmp_path / "file", policy=QUICK)
    before = stand_in.counters.snapshot()["requests"]
    with pytest.raises(StoreError, match="cannot be kept in .*file.*another cache_dir"):
        archive.scenes(stations_table(PLACE), "sentinel1", *JUNE)
    assert stand_in.counters.snapshot()["requests"] == before


def test_a_disk_that_fills_leaves_the_index_whole(earth_engine, tmp_path, monkeypatch):
    """No part of a file stays, and the next call goes on."""
    archive = open_archive("earthengine", cache_dir=tmp_path, policy=QUICK)

    def full(self, data):
        self.write_text("a part")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(StoreError, match="No space left.*call again"):
            archive.scenes(stations_table(PLACE), "sentinel1", *JUNE)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert len(archive.scenes(stations_table(PLACE), "sentinel1", *JUNE)) > 5


@pytest.mark.parametrize("ask, source", [("scenes", "sentinel2"), ("series", "chirps")])
def test_an_interrupted_index_stops_asking_at_once(earth_engine, stand_in, tmp_path, ask, source):
    """Ctrl-C while a piece is put away: a notebook keeps the traceback, and with it the run."""
    archive = open_archive("earthengine", cache_dir=tmp_path, policy=Policy(concurrency=2))
    n = 30 if ask == "scenes" else 1200  # pieces of one station, and of forty
    stations = stations_table(*[(36 + 0.001 * k, -99.0) for k in range(n)])
    period = ("2019-06-01", "2019-06-03")
    stand_in.faults.set(latency_s=0.02)
    write = ScenesCache.write

    def interrupted(self, path, table):
        write(self, path, table)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ScenesCache, "write", interrupted)
        with pytest.raises(KeyboardInterrupt) as kept:
            getattr(archive, ask)(stations, source, *period)
    left = [t for t in threading.enumerate() if t.name.startswith("soilkit-request")]
    assert kept.value is not None and not any(t.is_alive() for t in left)
    assert stand_in.counters.snapshot()["in_flight"] == 0
    assert len(list(tmp_path.rglob("*.table"))) == 1 and not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    "kind, words", [("401", "run `earthengine authenticate`"), ("403", "enable the API at")]
)
def test_a_login_that_is_refused_on_the_way_says_what_to_do(archive, stand_in, kind, words):
    archive.connect()
    stand_in.faults.set(every_request=kind)
    with pytest.raises(ServiceError, match=f"permission: .*{words}"):
        archive.scenes(stations_table(PLACE), "sentinel1", *JUNE)
