"""The anchored join against its rules and against a slow, obvious oracle."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soilkit import contracts
from soilkit.errors import BoundError, ContractError, UnitError, UnknownNameError
from soilkit.export.join import JoinTables, anchored_join, fate_of, latest_scenes

HOUR = pd.Timedelta("1h")
NOON = pd.Timestamp("2020-06-01 12:00")
CLOSER = "sentinel1: another reading is closer to the scene"


def stations_table(sensors):
    """Sensors "A1", "A2", "B1" stand at the stations "A", "A", "B"."""
    return pd.DataFrame(
        {
            "sensor_id": sensors,
            "station_id": [sensor[0] for sensor in sensors],
            "network": "N",
            "station": [sensor[0] for sensor in sensors],
            **dict.fromkeys(["latitude", "longitude", "elevation_m"], 40.0),
            **dict.fromkeys(["depth_from_m", "depth_to_m"], 0.05),
            **dict.fromkeys(["land_cover", "koeppen", "texture"], ""),
        }
    )


STATIONS = stations_table(["A1", "A2", "B1"])


def readings(*times, sensor="A1", unit="us"):
    return pd.DataFrame(
        {
            "sensor_id": pd.Categorical([sensor] * len(times)),
            "time": pd.DatetimeIndex(list(times)).as_unit(unit),
            "soil_moisture_m3_m3": np.linspace(0.1, 0.2, len(times)),
            "flag": pd.Categorical(["G"] * len(times)),
        }
    )


def scene(name, end, start=None, *, source="sentinel1", station="A", cloud=np.nan, valid=np.nan):
    end = pd.Timestamp(end)
    start = end if start is None else pd.Timestamp(start)
    return (source, name, station, start, end, cloud, "", valid)


def scenes_table(*rows, unit="us"):
    names = [c.name for c in contracts.SCENES.columns]
    table = pd.DataFrame(list(rows), columns=names)
    for name in ("start", "end"):
        table[name] = pd.to_datetime(table[name]).astype(f"datetime64[{unit}]")
    for name in ("cloud_fraction", "valid_fraction"):
        table[name] = table[name].astype(float)
    words = ["source", "scene_id", "station_id", "orbit"]
    return table.astype(dict.fromkeys(words, "str"))


def join(observations, *rows, bounds=None, **options):
    bounds = bounds or {"sentinel1": HOUR}
    return anchored_join(observations, scenes_table(*rows), STATIONS, bounds=bounds, **options)


def reasons(result):
    return dict(zip(result.drops.reason, result.drops["count"], strict=True))


def test_the_bound_is_half_open():
    """A radar scene exactly one hour old is too old; one microsecond younger is not."""
    one = readings("2020-06-01 13:00")

    too_old = join(one, scene("s", "2020-06-01 12:00"))
    assert too_old.samples.empty
    assert too_old.drops.reason.tolist() == ["sentinel1: none within 1 h"]
    assert len(join(one, scene("s", "2020-06-01 12:00:00.000001")).samples) == 1


@pytest.mark.parametrize(("end", "n"), [("12:00", 1), ("12:00:00.000001", 0)])
def test_a_scene_of_this_very_moment_is_past_and_a_later_one_is_not(end, n):
    assert len(join(readings(NOON), scene("s", f"2020-06-01 {end}")).samples) == n


def test_only_the_closest_reading_of_a_sensor_and_scene_stays():
    times = [NOON + pd.Timedelta(minutes=m) for m in (5, 20, 40, 70)]
    result = join(readings(*times), scene("s", NOON))

    assert result.samples.time.tolist() == [times[0]]
    assert result.samples.sentinel1_age_hours.tolist() == [pytest.approx(5 / 60)]
    assert reasons(result) == {"sentinel1: none within 1 h": 1, CLOSER: 2}


def test_replicate_probes_each_keep_their_own_reading_of_a_scene():
    both = pd.concat([readings(NOON), readings(NOON, sensor="A2")]).astype({"sensor_id": "str"})
    assert join(both, scene("s", NOON)).samples.sensor_id.tolist() == ["A1", "A2"]


def test_a_reading_lost_at_another_source_is_not_replaced_by_the_next_one():
    """The SMAP stamp lies between the two readings, so only the second could have used it."""
    two = readings(NOON, NOON + pd.Timedelta("30min"))
    smap = scene("p", NOON + pd.Timedelta("10min"), source="smap")
    bounds = {"sentinel1": HOUR, "smap": pd.Timedelta("3D")}
    result = join(two, scene("s", NOON), smap, bounds=bounds)

    assert result.samples.empty
    assert reasons(result) == {CLOSER: 1, "smap: none within 3 d": 1}


@pytest.mark.parametrize(
    ("fractions", "winner"),
    [((0.4, 0.9), "b"), ((0.4, np.nan), "a"), ((0.5, 0.5), "a"), ((np.nan, np.nan), "a")],
)
def test_equal_ages_go_to_the_fuller_scene_then_to_the_smaller_id(fractions, winner):
    pair = [scene(n, NOON, valid=v) for n, v in zip("ab", fractions, strict=True)]
    for rows in (pair, pair[::-1]):
        assert join(readings(NOON), *rows).samples.sentinel1_scene.tolist() == [winner]


@pytest.mark.parametrize("cloud", [np.nan, 0.3, 0.9])
def test_a_cloudy_or_unknown_scene_gives_way_to_an_older_clear_one(cloud):
    bounds = {"sentinel1": HOUR, "sentinel2": pd.Timedelta("14D")}
    older = scene("old", NOON - pd.Timedelta("9D"), source="sentinel2", cloud=0.1)
    newer = scene("new", NOON - pd.Timedelta("1D"), source="sentinel2", cloud=cloud)
    rows = (scene("s", NOON), older, newer)
    limit = {"sentinel2": 0.3}

    free = join(readings(NOON), *rows, bounds=bounds)
    strict = join(readings(NOON), *rows, bounds=bounds, max_cloud_fraction=limit)
    assert free.samples.sentinel2_scene.tolist() == ["new"]
    assert strict.samples.sentinel2_scene.tolist() == ["old"]
    none = join(readings(NOON), rows[0], newer, bounds=bounds, max_cloud_fraction=limit)
    assert none.drops.reason.tolist() == [
        "sentinel2: none within 14 d with cloud fraction below 0.3"
    ]


def test_a_composite_counts_from_its_end_unless_the_start_is_asked_for():
    """An 8-day composite that began yesterday holds next week's data."""
    lai = scene("c", NOON + pd.Timedelta("7D"), NOON - pd.Timedelta("1D"), source="modis_lai")
    bounds = {"sentinel1": HOUR, "modis_lai": pd.Timedelta("8D")}
    causal = join(readings(NOON), scene("s", NOON), lai, bounds=bounds)
    paper = join(readings(NOON), scene("s", NOON), lai, bounds=bounds, causal="start")

    assert causal.samples.empty and not causal.manifest["reads_the_future"]
    assert paper.samples.modis_lai_age_hours.tolist() == [24.0]
    assert paper.samples.attrs["join"]["causal"] == "start"
    assert paper.manifest["reads_the_future"]


def test_static_layers_go_by_station():
    bounds = {"sentinel1": HOUR, "dem": pd.Timedelta(days=18262)}
    dem = scene("static", pd.NaT, pd.NaT, source="dem")
    result = join(readings(NOON), scene("s", NOON), dem, bounds=bounds)
    assert result.samples.dem_scene.tolist() == ["static"]
    assert result.samples.dem_age_hours.isna().all()

    elsewhere = scene("static", pd.NaT, pd.NaT, source="dem", station="B")
    lost = join(readings(NOON), scene("s", NOON), elsewhere, bounds=bounds)
    assert reasons(lost) == {"dem: none at the station": 1}


def test_the_products_hold_their_contracts():
    result = join(readings(NOON, NOON + HOUR), scene("s", NOON), scene("t", NOON + HOUR))
    contracts.check(result.samples, contracts.SAMPLES)
    contracts.check(result.drops, contracts.DROPS)
    assert result.samples.sample_id.tolist() == ["A1@20200601T120000", "A1@20200601T130000"]
    assert str(result.samples.sentinel1_scene.dtype) == "category"
    assert str(result.samples.time.dtype) == "datetime64[us]"
    assert list(result.samples.columns[-2:]) == ["sentinel1_scene", "sentinel1_age_hours"]


def test_readings_within_one_second_have_ids_of_their_own():
    later = NOON + pd.Timedelta("1us")
    result = join(readings(NOON, later), scene("s", NOON), scene("t", later))
    assert result.samples.sample_id.tolist() == ["A1@20200601T120000", "A1@20200601T120000.000001"]


def test_no_reading_gives_no_sample_and_no_drop():
    result = join(readings(), scene("s", NOON))
    assert result.samples.empty and result.drops.empty
    contracts.check(result.samples, contracts.SAMPLES)
    contracts.check(result.drops, contracts.DROPS)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("scene_unit", ["s", "us", "ns"])
def test_the_time_unit_of_a_table_changes_nothing(unit, scene_unit):
    one = readings("2020-06-01 13:00", unit=unit)
    for end, n in (("12:00:00", 0), ("12:00:01", 1), ("13:00:00", 1), ("13:00:01", 0)):
        table = scenes_table(scene("s", f"2020-06-01 {end}"), unit=scene_unit)
        result = anchored_join(one, table, STATIONS, bounds={"sentinel1": HOUR})
        assert len(result.samples) == n, end
        assert str(result.samples.time.dtype) == "datetime64[us]"


def test_whole_seconds_compare_exactly_with_microseconds():
    """Rounding the scene to the readings' seconds would let it pass, or choose the future."""
    one = readings("2020-06-01 13:00", unit="s")
    assert len(join(one, scene("s", "2020-06-01 12:59:59.999999")).samples) == 1
    assert join(one, scene("s", "2020-06-01 13:00:00.000001")).samples.empty
    assert len(join(one, scene("s", "2020-06-01 12:00:00.000001")).samples) == 1


@pytest.mark.parametrize(
    "bound",
    [
        pd.Timedelta(0),
        pd.Timedelta("-1h"),
        pd.NaT,
        3600,
        0,
        "0h",
        "soon",
        "",
        "5",
        "3.5",
        np.timedelta64(5),
    ],
)
def test_a_bound_must_be_a_positive_length_of_time(bound):
    """A number without a unit would be nanoseconds."""
    with pytest.raises(BoundError, match="sentinel1"):
        join(readings(NOON), scene("s", NOON), bounds={"sentinel1": bound})


@pytest.mark.parametrize("bound", ["2D", "2d", "48h", "P2D", "2 days", "48:00:00"])
def test_a_bound_may_be_written_in_any_of_pandas_ways(bound):
    result = join(readings(NOON), scene("s", NOON), bounds={"sentinel1": bound})
    assert result.samples.attrs["join"]["bounds"] == {"sentinel1": "2 d"}


def test_local_times_are_refused_and_never_taken_for_utc():
    local = readings(NOON)
    local["time"] = local["time"].dt.tz_localize("America/Chicago")
    with pytest.raises(ContractError, match=r"observations\.time carries the zone America/Chicago"):
        join(local, scene("s", NOON))
    zoned = scenes_table(scene("s", NOON))
    zoned["end"] = zoned["end"].dt.tz_localize("UTC")
    with pytest.raises(ContractError, match=r"scenes\.end carries the zone UTC.*tz_convert"):
        anchored_join(readings(NOON), zoned, STATIONS, bounds={"sentinel1": HOUR})


def test_repeated_scene_ids_are_named():
    with pytest.raises(ContractError, match="sentinel1 twice at A"):
        join(readings(NOON), scene("twice", NOON), scene("twice", NOON - HOUR))


def test_one_scene_may_cover_several_stations():
    both = pd.concat([readings(NOON), readings(NOON, sensor="B1")]).astype({"sensor_id": "str"})
    result = join(both, scene("s", NOON), scene("s", NOON, station="B"))
    assert result.samples.station_id.tolist() == ["A", "B"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"anchor": "smap"}, UnknownNameError, "'smap' has no bound"),
        ({"bounds": {"sentinel1": HOUR, "snow": HOUR}}, UnknownNameError, "no 'snow' scene"),
        ({"max_cloud_fraction": {"sentinel2": 0.3}}, UnknownNameError, "sentinel2"),
        ({"max_cloud_fraction": {"sentinel1": 30}}, UnitError, "Divide a percentage"),
        ({"causal": "middle"}, UnknownNameError, "'middle'"),
    ],
)
def test_a_name_or_limit_that_cannot_be_meant_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        join(readings(NOON), scene("s", NOON), **options)


def test_a_sensor_without_a_station_is_named():
    with pytest.raises(UnknownNameError, match="C9"):
        join(readings(NOON, sensor="C9"), scene("s", NOON))


@pytest.mark.parametrize(
    "rows",
    [
        [scene("s", NOON, NOON + HOUR)],
        [scene("s", NOON, pd.NaT)],
        [scene("s", NOON), scene("t", pd.NaT, pd.NaT)],
        [scene("s", pd.NaT, pd.NaT)],
    ],
    ids=["ends before it starts", "half a time", "static among dated", "static anchor"],
)
def test_scenes_whose_times_make_no_sense_are_refused(rows):
    with pytest.raises(ContractError):
        join(readings(NOON), *rows)


def test_two_readings_of_one_time_or_none_are_refused():
    with pytest.raises(ContractError, match="repeats 1 of its keys"):
        join(readings(NOON, NOON), scene("s", NOON))
    with pytest.raises(ContractError, match="without a sensor_id or a time"):
        join(readings(NOON, pd.NaT), scene("s", NOON))


# The oracle: plain loops over whole minutes.

MINUTE = pd.Timedelta("1min")
BOUNDS = {"smap": 9, "sentinel1": 4, "dem": 1}
fractions = st.sampled_from([np.nan, 0.0, 0.3, 1.0])


@st.composite
def worlds(draw):
    """Readings of three sensors at two stations and scenes of three sources, in whole minutes."""
    minutes = st.integers(0, 25)
    observed = sorted(
        draw(st.sets(st.tuples(st.sampled_from(["A1", "A2", "B1"]), minutes), max_size=25))
    )
    rows = []
    for source in ("sentinel1", "smap"):
        drawn = st.tuples(st.sampled_from("AB"), minutes, st.integers(0, 6), fractions, fractions)
        for station, start, length, cloud, valid in draw(st.lists(drawn, max_size=14)):
            name = f"scene{len(rows):02d}"
            rows.append((source, name, station, start, start + length, cloud, valid))
    for station in draw(st.sets(st.sampled_from("AB"))):
        rows.append(("dem", "static", station, None, None, np.nan, 1.0))
    return observed, draw(st.permutations(rows))


def oracle(observed, rows, *, edge, limit):
    """Samples as {(sensor, minute): {source: scene}} and lost readings as {(sensor, source): n}."""

    def best(sensor, minute, source):
        candidates = []
        for kind, name, station, start, end, cloud, valid in rows:
            if kind != source or station != sensor[0]:
                continue
            if source == "smap" and limit is not None and not cloud < limit:
                continue
            stamp = end if edge == "end" else start
            age = 0 if stamp is None else minute - stamp
            if stamp is None or 0 <= age < BOUNDS[source]:
                candidates.append((age, 2.0 if np.isnan(valid) else -valid, name))
        return min(candidates, default=None)

    closest, lost, samples = {}, {}, {}

    def lose(sensor, source):
        lost[sensor, source] = lost.get((sensor, source), 0) + 1

    for sensor, minute in observed:
        found = best(sensor, minute, "sentinel1")
        if found is None or (sensor, found[2]) in closest:
            lose(sensor, "sentinel1")
        else:
            closest[sensor, found[2]] = (minute, found)
    for (sensor, _), (minute, found) in closest.items():
        chosen = {"sentinel1": found}
        for source in ("smap", "dem"):
            chosen[source] = best(sensor, minute, source)
            if chosen[source] is None:
                lose(sensor, source)
                break
        else:
            samples[sensor, minute] = {k: (v[2], v[0]) for k, v in chosen.items()}
    return samples, lost


def tables_of(observed, rows):
    table = pd.DataFrame(observed, columns=["sensor_id", "minute"])
    table["time"] = (NOON + table.pop("minute").astype("int64") * MINUTE).astype("datetime64[us]")
    table["soil_moisture_m3_m3"] = 0.2
    table = table.astype({"sensor_id": pd.CategoricalDtype(["A1", "A2", "B1"])})

    def at(minute):
        return pd.NaT if minute is None else NOON + minute * MINUTE

    scenes = scenes_table(
        *(scene(n, at(e), at(s), source=k, station=p, cloud=c, valid=v)
          for k, n, p, s, e, c, v in rows)
    )  # fmt: skip
    scenes["source"] = scenes["source"].astype(pd.CategoricalDtype(list(BOUNDS)))
    return table, scenes


def rules(limit):
    clouds = None if limit is None else {"smap": limit}
    bounds = {name: n * MINUTE for name, n in BOUNDS.items()}
    return {"bounds": bounds, "max_cloud_fraction": clouds}


def run(observed, rows, *, edge, limit):
    table, scenes = tables_of(observed, rows)
    return anchored_join(table, scenes, STATIONS, causal=edge, **rules(limit))


@settings(max_examples=250, deadline=None)
@given(worlds(), st.sampled_from(["end", "start"]), st.sampled_from([None, 0.3]))
def test_the_join_agrees_with_plain_loops(world, edge, limit):
    observed, rows = world
    result = run(observed, rows, edge=edge, limit=limit)
    samples, lost = oracle(observed, rows, edge=edge, limit=limit)

    found = {}
    for row in result.samples.to_dict("records"):
        minute = (row["time"] - NOON) // MINUTE
        found[row["sensor_id"], minute] = {
            s: (row[f"{s}_scene"], 0 if s == "dem" else round(row[f"{s}_age_hours"] * 60))
            for s in BOUNDS
        }
    counts = result.drops.groupby(["sensor_id", "source"], observed=True)["count"].sum()
    assert found == samples
    assert counts.to_dict() == lost


@settings(max_examples=100, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_nothing_is_lost_anchors_are_unique_and_order_does_not_matter(world, random):
    observed, rows = world
    result = run(observed, rows, edge="end", limit=None)
    assert len(result.samples) + result.drops["count"].sum() == len(observed)
    assert not result.samples.duplicated(["sensor_id", "sentinel1_scene"]).any()
    assert result.samples.sample_id.is_unique
    assert (result.samples[["sentinel1_age_hours", "smap_age_hours"]] >= 0).all(axis=None)

    again = run(observed, random.sample(rows, len(rows)), edge="end", limit=None)
    pd.testing.assert_frame_equal(again.samples, result.samples)
    pd.testing.assert_frame_equal(again.drops, result.drops)

    unsorted = run(random.sample(observed, len(observed)), rows, edge="end", limit=None)
    for name, key in (("samples", ["sample_id"]), ("drops", ["sensor_id", "reason"])):
        expected, found = (
            getattr(r, name).sort_values(key, ignore_index=True) for r in (result, unsorted)
        )
        pd.testing.assert_frame_equal(found, expected)


# ---- the same look-up without readings -----------------------------------------------------------


def moments(*places, times):
    times = pd.DatetimeIndex(list(times)).as_unit("us")
    return pd.DataFrame({"station_id": list(places), "time": times})


def test_moments_take_their_own_stations_latest_scene():
    """No row is dropped; a category stands for a text, whatever it counts."""
    early, late = (
        scene("early", NOON - 3 * HOUR, station="1"),
        scene("late", NOON - HOUR, station="1"),
    )
    scenes = scenes_table(early, late, scene("other", NOON - 2 * HOUR, station="2"))
    table = moments("1", "2", "1", "3", times=[NOON, NOON, NOON - 2 * HOUR, NOON])
    for column in (table.station_id, pd.Categorical([1, 2, 1, 3])):
        joined = latest_scenes(
            table.assign(station_id=column), scenes, bounds={"sentinel1": 2 * HOUR}
        )
        assert joined.sentinel1_scene.astype(object).fillna("").tolist() == [
            "late",
            "",
            "early",
            "",
        ]
        np.testing.assert_array_equal(joined.sentinel1_age_hours, [1, np.nan, 1, np.nan])
    assert latest_scenes(table, scenes, bounds={}).equals(table)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"station_id": [1]}, "station_id should be string"),
        ({"station_id": pd.Categorical([None], categories=["A"])}, "without a station_id"),
        ({"time": ["2020-06-01"]}, "time should be time"),
        ({"time": pd.DatetimeIndex([NOON], tz="America/Chicago")}, "naive UTC"),
    ],
)
def test_moments_that_would_find_nothing_or_another_time_are_refused(change, words):
    scenes = scenes_table(scene("one", NOON))
    table = moments("A", times=[NOON]).assign(**change)
    with pytest.raises(ContractError, match=words):
        latest_scenes(table, scenes, bounds={"sentinel1": HOUR})
    with pytest.raises(ContractError, match="lacks time"):
        latest_scenes(table[["station_id"]], scenes, bounds={"sentinel1": HOUR})


@pytest.mark.parametrize("limits", [{"sentinel1": None}, {"sentinel1": "half"}, 0.3])
def test_a_cloud_limit_that_is_no_number_is_refused(limits):
    scenes, bounds = scenes_table(scene("one", NOON)), {"sentinel1": HOUR}
    with pytest.raises(UnitError, match="0 to 1"):
        latest_scenes(moments("A", times=[NOON]), scenes, bounds=bounds, max_cloud_fraction=limits)
    with pytest.raises(UnitError, match="0 to 1"):
        anchored_join(readings(NOON), scenes, STATIONS, bounds=bounds, max_cloud_fraction=limits)


@settings(max_examples=15, deadline=None)
@given(worlds(), st.sampled_from([None, 0.3]))
def test_the_fates_of_single_readings_add_up_to_what_the_join_counts(world, limit):
    table, scenes = tables_of(*world)
    for _, mine in table.groupby("sensor_id", observed=True):
        joined = anchored_join(mine, scenes, STATIONS, **rules(limit))
        told = {"scenes": scenes, "stations": STATIONS} | rules(limit)
        fates = pd.Series([fate_of(time, mine, **told) for time in mine["time"]])
        is_lost = fates.str.startswith("dropped, ")
        lost = fates[is_lost].str.removeprefix("dropped, ").value_counts()
        assert lost.to_dict() == reasons(joined)
        assert (~is_lost).sum() == len(joined.samples)


@settings(max_examples=30, deadline=None)
@given(worlds(), st.sampled_from([None, 0.3]))
def test_tables_prepared_once_count_what_each_join_counts(world, limit):
    """Bound after bound on the same prepared tables, as a slider moves."""
    tables = tables_of(*world)
    prepared = JoinTables.of(*tables, stations=STATIONS)
    options = rules(limit)
    for factor in (1, 3, 0.5):
        bounds = {name: bound * factor for name, bound in options["bounds"].items()}
        kept, drops = prepared.losses(**options | {"bounds": bounds})
        whole = anchored_join(*tables, STATIONS, **options | {"bounds": bounds})
        assert len(kept) == len(whole.samples)
        pd.testing.assert_frame_equal(drops, whole.drops)


def test_a_reading_that_is_not_there_has_no_fate():
    with pytest.raises(UnknownNameError, match="2030"):
        told = {"scenes": scenes_table(), "stations": STATIONS, "bounds": {"sentinel1": HOUR}}
        fate_of(pd.Timestamp("2030-01-01"), readings(NOON), **told)
