"""Every archive keeps the same promises; each test runs over each archive."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from soilkit import contracts, grids, sources
from soilkit.contracts import Chip, ChipRequest, Failure
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export.archives import all_scenes, open_archive
from soilkit.export.archives.scenes import pass_numbers
from soilkit.world.schedule import tile
from tests.world_catalogue import export_world

# An archive of each kind over the same two stations: the invented world, a stand-in of the service
# over analytic rasters, and the world's own export as a static catalogue.
ARCHIVES = ("synthetic", "earthengine", "stac")
WORLD = {"seed": 0, "n_stations": 8}
PERIOD = "2019-06-01", "2019-07-01"
ORBITING = ["sentinel1", "sentinel2"]
STATIC = ["dem", "soilgrids", "land_cover"]
PERIODIC = ["smap", "gldas", "modis_lai"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory, stations):
    """Each archive by name, opened once."""
    done = {}

    def get(name):
        folder = tmp_path_factory.mktemp(name) if name not in done else None
        if name not in done and name == "stac":
            names = (*ORBITING, *STATIC, *PERIODIC)
            world = open_archive("synthetic", **WORLD)
            how = {"stations": stations, "period": PERIOD, "sources": names}
            done[name] = open_archive(
                "stac", catalogue=export_world(world, folder, progress=False, **how)
            )
        elif name not in done:
            options = {"synthetic": WORLD, "earthengine": {"cache_dir": folder}}[name]
            done[name] = open_archive(name, **options)
        return done[name]

    return get


@pytest.fixture(params=ARCHIVES)
def archive(request, opened):
    if request.param == "earthengine":
        request.getfixturevalue("earth_engine")
    return opened(request.param)


@pytest.fixture(scope="module")
def stations():
    """Two stations, the first with two probes, none on the border of a coarse pixel."""
    return pd.DataFrame(
        {
            "sensor_id": ["A__1__x__0.05__0.05", "A__1__y__0.05__0.05", "A__2__x__0.05__0.05"],
            "station_id": ["A__1", "A__1", "A__2"],
            "latitude": [36.43, 36.43, 40.13],
            "longitude": [-99.23, -99.23, -96.73],
        }
    )


def request(archive, scene, *, source, size_px=16, pixel_size_m=160.0):
    grid = grids.chip_grid(36.43, -99.23, size_px=size_px, pixel_size_m=pixel_size_m)
    bands = tuple(band.name for band in sources.get(source).bands)
    time = scene.end.to_datetime64() if pd.notna(scene.end) else np.datetime64("NaT", "us")
    return ChipRequest(source, scene.scene_id, "A__1", time, bands, grid, version=archive.version)


def first_request(archive, stations, source, **options):
    table = archive.scenes(stations, source, *PERIOD)
    scene = next(table[table.station_id == "A__1"].itertuples())
    return request(archive, scene, source=source, **options)


@pytest.mark.parametrize("source", ORBITING + STATIC + PERIODIC)
def test_scenes_keep_the_contract_with_one_row_a_scene_and_station(archive, stations, source):
    """Two probes at one place see the same scenes, listed once."""
    table = archive.scenes(stations, source, *PERIOD)

    contracts.check(table, contracts.SCENES)
    assert set(table.source) == {source}
    assert set(table.station_id) == {"A__1", "A__2"}
    assert not any(":" in scene for scene in table.scene_id.unique())


@pytest.mark.parametrize("source", ORBITING + PERIODIC)
def test_scenes_end_within_the_period_half_open(archive, stations, source):
    """A scene that ends at the period's last moment belongs to the next period."""
    table = archive.scenes(stations, source, *PERIOD)
    last = table.end.max()

    assert (table.end >= pd.Timestamp(PERIOD[0])).all()
    assert (table.end < pd.Timestamp(PERIOD[1])).all()
    assert (table.start <= table.end).all()
    assert archive.scenes(stations, source, PERIOD[0], last).end.max() < last
    assert archive.scenes(stations, source, last, PERIOD[1]).end.min() == last


@pytest.mark.parametrize("source", STATIC)
def test_a_static_source_has_one_scene_a_station_without_times(archive, stations, source):
    table = archive.scenes(stations, source, *PERIOD)
    assert table.scene_id.tolist() == ["static", "static"]
    assert table[["start", "end"]].isna().all(axis=None)


def test_radar_slices_of_a_pass_are_one_scene(archive, stations):
    """No two radar scenes of a station lie within an hour."""
    table = archive.scenes(stations, "sentinel1", *PERIOD).sort_values("end")
    for _, rows in table.groupby("station_id", observed=True):
        assert rows.end.diff().min() > pd.Timedelta("1h")


@pytest.mark.parametrize("source", ORBITING + STATIC + PERIODIC)
def test_a_chip_has_the_asked_bands_on_the_asked_grid(archive, stations, source):
    asked = first_request(archive, stations, source)
    [(answered, chip)] = archive.chips([asked])

    assert answered == asked
    assert isinstance(chip, Chip)
    assert chip.values.shape == (len(asked.bands), 16, 16)
    assert chip.values.dtype == np.float32
    assert chip.grid == asked.grid and chip.bands == asked.bands


def test_bands_come_in_the_order_in_which_they_were_asked(archive, stations):
    asked = first_request(archive, stations, "sentinel1")
    turned = dataclasses.replace(asked, bands=("angle", "VV"))
    both = dict(archive.chips([asked, turned]))
    np.testing.assert_array_equal(both[turned].values, both[asked].values[[2, 0]])


def test_every_request_is_answered_once_whatever_the_order(archive, stations):
    table = archive.scenes(stations, "sentinel1", *PERIOD)
    rows = list(table[table.station_id == "A__1"].itertuples())
    asked = [request(archive, row, source="sentinel1") for row in rows]

    forth, back = dict(archive.chips(asked)), dict(archive.chips(asked[::-1]))

    assert set(forth) == set(back) == set(asked)
    assert all(forth[one].values.tobytes() == back[one].values.tobytes() for one in asked)


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"bands": ("VV", "HH")}, "no band HH"),
        ({"version": "another world"}, "asked of another world"),
        ({"source": "palsar"}, "'palsar'"),
        ({"scene_id": "S1A_IW_GRDH_1SDV_19990101"}, "no scene"),
        ({"time": np.datetime64("2019-06-03T03:33:33", "us")}, "no scene"),
        ({"time": np.datetime64("NaT", "us")}, "needs a time"),
    ],
)
def test_what_cannot_come_is_a_failure_with_its_reason(archive, stations, change, reason):
    asked = dataclasses.replace(first_request(archive, stations, "sentinel1"), **change)
    [(_, failure)] = archive.chips([asked])
    assert isinstance(failure, Failure) and failure.permanent
    assert reason in failure.reason


def test_a_failure_does_not_stop_the_other_chips(archive, stations):
    good = first_request(archive, stations, "dem")
    bad = dataclasses.replace(good, bands=("slope",))
    answers = dict(archive.chips([bad, good]))
    assert isinstance(answers[bad], Failure) and isinstance(answers[good], Chip)


def test_cloud_fraction_is_what_qa60_flags_over_the_footprint(archive, stations):
    """A 2.56 km chip's flagged fraction agrees with the scenes table."""
    table = archive.scenes(stations, "sentinel2", *PERIOD)
    rows = list(table[table.station_id == "A__1"].itertuples())
    flagged = [
        (chip.values[-1][np.isfinite(chip.values[-1])] > 0).mean()
        for row in rows
        for _, chip in archive.chips([request(archive, row, source="sentinel2")])
    ]
    np.testing.assert_allclose(flagged, [row.cloud_fraction for row in rows], atol=0.08)


def test_valid_fraction_is_told_before_the_chip_is_fetched(archive):
    """Along a line through a swath's edge some scenes cover a chip partly, and say by how much."""
    if archive.name == "stac":
        pytest.skip("the exported catalogue holds the surroundings of its stations only")
    line = pd.DataFrame({"longitude": np.arange(-100, -97.5, 0.02), "latitude": 37.0})
    line["station_id"] = [f"L__{k}" for k in range(len(line))]
    table = archive.scenes(line, "sentinel1", *PERIOD)
    partly = table[(table.valid_fraction > 0.2) & (table.valid_fraction < 0.8)]
    assert len(partly)
    scene = partly.iloc[0]
    place = line.set_index("station_id").loc[scene.station_id]
    grid = grids.chip_grid(place.latitude, place.longitude, size_px=32, pixel_size_m=80)
    asked = ChipRequest(
        "sentinel1", scene.scene_id, scene.station_id, scene.end.to_datetime64(), ("VV",), grid
    )
    [(_, chip)] = archive.chips([asked])
    assert chip.valid_fraction == pytest.approx(scene.valid_fraction, abs=0.06)


@pytest.mark.parametrize("source", PERIODIC)
def test_a_series_has_a_value_for_every_scene(archive, stations, source):
    band = sources.get(source).bands[0].name
    table = archive.series(stations, source, *PERIOD)
    scenes = archive.scenes(stations, source, *PERIOD)

    assert list(table.columns) == ["station_id", "scene_id", "start", "end", band]
    assert np.isfinite(table[band]).all()
    keys = ["station_id", "scene_id", "start", "end"]
    pd.testing.assert_frame_equal(
        table[keys].astype({"station_id": str, "scene_id": str}).reset_index(drop=True),
        scenes[keys].astype({"station_id": str, "scene_id": str}).reset_index(drop=True),
    )


@pytest.mark.parametrize("source", ["smap", "gldas"])
def test_a_series_and_its_chip_tell_the_same_value(archive, stations, source):
    asked = first_request(archive, stations, source, size_px=1, pixel_size_m=10.0)
    table = archive.series(stations, source, *PERIOD)
    [(_, chip)] = archive.chips([asked])
    mine = table[(table.station_id == "A__1") & (table.scene_id == asked.scene_id)]
    assert chip.values.item() == mine[asked.bands[0]].item()


def test_an_unknown_source_is_refused_by_name(archive, stations):
    with pytest.raises(UnknownNameError, match="palsar.*sentinel1"):
        archive.scenes(stations, "palsar", *PERIOD)
    with pytest.raises(UnknownNameError, match="no series of 'dem'"):
        archive.series(stations, "dem", *PERIOD)


def test_scenes_of_several_sources_stand_in_one_table_of_the_same_rows(archive, stations):
    """Source after source, with names as categories: as text they would cost gigabytes."""
    names = ["sentinel1", "smap", "dem"]
    table = all_scenes(archive, stations, sources=names, start=PERIOD[0], end=PERIOD[1])
    parts = [archive.scenes(stations, name, *PERIOD).astype(object) for name in names]

    contracts.check(table, contracts.SCENES)
    texts = ["source", "scene_id", "station_id", "orbit"]
    assert all(isinstance(table[name].dtype, pd.CategoricalDtype) for name in texts)
    expected = pd.concat(parts, ignore_index=True).astype(str)
    pd.testing.assert_frame_equal(table.astype(object).astype(str), expected)


def test_stations_without_coordinates_are_refused(archive, stations):
    with pytest.raises(ContractError, match="1 stations have no coordinates.* A__2"):
        archive.scenes(stations.assign(latitude=[36.43, 36.43, np.nan]), "dem", *PERIOD)


def test_a_slice_that_begins_a_minute_after_the_last_ended_is_another_pass():
    """The gap is half-open as every bound; another orbit is another pass whatever the time."""
    end = pd.Timestamp("2019-06-01 06:00:25")
    gaps = pd.to_timedelta([-25, 59.999999, 145, 100], unit="s")
    images = pd.DataFrame({"orbit": ["up", "up", "up", "down"], "start": end + gaps})
    images["end"] = images.start + pd.Timedelta(seconds=25)
    number = pass_numbers(images, flight=["orbit"])
    # the second ends 85 s after the first did; the third begins 60 s after that
    assert number[0] == number[1] and number.nunique() == 3


# ---- the synthetic archive's own -----------------------------------------------------------------


@pytest.mark.parametrize("days, most", [(6, 61), (12, 31), (24, 16)])
def test_a_longer_revisit_keeps_one_track_and_fewer_anchors(stations, days, most):
    archive = open_archive("synthetic", n_stations=2, revisit_days=days)
    table = archive.scenes(stations, "sentinel1", "2019-01-01", "2020-01-01")
    for _, rows in table.groupby("station_id", observed=True):
        assert most - 2 <= len(rows) <= most
        assert set(rows.end.diff().dropna()) == {pd.Timedelta(days=days)}
        assert rows.orbit.nunique() == 1
        assert (rows.valid_fraction == 1).all()


def test_smap_l3_misses_more_than_half_of_the_days(stations):
    """A morning pass on three days in eight, and none over frozen ground."""
    archive = open_archive("synthetic", n_stations=2)
    table = archive.series(stations, "smap_l3_005", "2019-01-01", "2020-01-01")
    table = table.dropna(subset="soil_moisture_am")
    days = table.groupby("station_id", observed=True).size() / 365
    assert ((days > 0.25) & (days < 0.5)).all()
    assert table.soil_moisture_am.between(0.02, 0.62).all()


def test_a_place_lies_in_the_tile_of_sentinel_2_names():
    assert tile(-98.8, latitude=30.3) == "T14RNU"


def test_another_world_has_another_version():
    names = {
        open_archive("synthetic", n_stations=2, **options).version
        for options in ({}, {"seed": 1}, {"start": "2019-02-01"})
    }
    assert len(names) == 3


def test_an_unknown_archive_or_revisit_is_refused():
    with pytest.raises(UnknownNameError, match="No archive is called 'landsat'"):
        open_archive("landsat")
    with pytest.raises(ContractError, match="multiple of 12"):
        open_archive("synthetic", revisit_days=7)
