"""Labels from an in-situ archive for published records: one sensor and one reading, or a reason."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soilkit.errors import ContractError
from soilkit.export import insitu
from soilkit.export.published import labels
from soilkit.export.published.labels import Labels
from soilkit.world import World

NOON = pd.Timestamp("2020-06-01 12:00")
REAL = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data") / "ismn"
SMALL = REAL / "small" / "ismn_pkg_test_data"


def stations(*sensors, latitude=36.0, longitude=-98.0):
    """A stations table of (network, station, probe, depth from, depth to)."""
    rows = []
    for network, station, probe, start, end in sensors:
        station_id = f"{network}__{station}"
        rows.append({"sensor_id": f"{station_id}__{probe}__{start:.2f}__{end:.2f}"})
        rows[-1] |= {"station_id": station_id, "network": network, "station": station}
        rows[-1] |= {"depth_from_m": start, "depth_to_m": end}
    place = {"latitude": latitude, "longitude": longitude, "elevation_m": 300.0}
    words = dict.fromkeys(("land_cover", "koeppen", "texture"), "")
    return pd.DataFrame(rows).assign(**place, **words)


def readings(sensor_id, *rows):
    """An observations table of (minutes after noon, value, flag)."""
    minutes, values, flags = zip(*rows, strict=True)
    when = NOON + pd.to_timedelta(minutes, unit="min")
    table = pd.DataFrame({"sensor_id": sensor_id, "time": when, "soil_moisture_m3_m3": values})
    return table.assign(flag=flags).astype({"time": "datetime64[us]"})


def record(sensor_id, *, seconds=0.0, label=np.nan, latitude=36.0, longitude=-98.0):
    """One published record, some seconds after noon."""
    row = {"sensor_id": sensor_id, "time": NOON + pd.Timedelta(seconds=seconds)}
    row |= {"soil_moisture_m3_m3": label, "latitude": latitude, "longitude": longitude}
    return pd.DataFrame([row]).astype({"time": "datetime64[us]"})


ONE = ("NET", "Tucson-11-W", "Hydra-A", 0.05, 0.05)
ONE_ID = "NET__Tucson-11-W__Hydra-A__0.05__0.05"


def merge_one(*rows, sensors=(ONE,), asked="NET__Tucson_11_W__Hydra-A", **told):
    """The one merged row of one record against a few readings of the first sensor."""
    table = stations(*sensors)
    observations = readings(table["sensor_id"][0], *(rows or [(0, 0.2, "G")]))
    return Labels(table, observations).merge(record(asked, **told)).iloc[0]


def test_names_spelt_with_underscores_mean_the_same_station():
    """The shards write "Tucson_11_W" where the archive writes "Tucson-11-W"."""
    found = merge_one()
    assert (found["outcome"], found["insitu_sensor_id"]) == ("merged", ONE_ID)
    assert found["soil_moisture_m3_m3"] == np.float32(0.2)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("ELSE__Tucson_11_W__Hydra-A", "network absent"),
        ("NET__Phoenix__Hydra-A", "station absent"),
        ("NET__Tucson_11_W__CS655", "probe absent at 5 cm"),
        ("NET__Tucson_11_W", "sensor_id is not NETWORK__STATION__SENSOR"),
        ("NET__Tucson_11_W__Hydra-A__0.05", "sensor_id is not NETWORK__STATION__SENSOR"),
    ],
)
def test_what_is_not_there_is_told_apart(asked, reason):
    found = merge_one(asked=asked)
    assert found["outcome"] == reason
    assert np.isnan(found["soil_moisture_m3_m3"])


def test_another_probe_at_the_same_station_is_not_taken():
    """The published script takes the first probe at 0.05 m, whatever the id says."""
    both = (("NET", "A", "Alpha", 0.05, 0.05), ("NET", "A", "Beta", 0.05, 0.05))
    found = merge_one(sensors=both, asked="NET__A__Beta")
    assert found["insitu_sensor_id"] == "NET__A__Beta__0.05__0.05"
    assert found["outcome"] == "no reading within 3 min"  # Alpha has one
    assert merge_one(sensors=both, asked="NET__A__Alpha")["outcome"] == "merged"


@pytest.mark.parametrize(
    "sensors",
    [
        [("NET", "A", "P", 0.0, 0.05), ("NET", "A", "P", 0.05, 0.05)],
        [("NET", "A", "P", 0.05, 0.05), ("NET", "A", "P~2", 0.05, 0.05)],
        [("NET", "A", "P-E", 0.05, 0.05), ("NET", "A", "P-W", 0.05, 0.05)],
    ],
    ids=["two depths", "twin files", "replicates"],
)
def test_two_sensors_that_an_id_fits_are_ambiguous(sensors):
    """A published id has no depth: where two probes fit it, neither is taken."""
    found = merge_one(sensors=sensors, asked="NET__A__P")
    assert found["outcome"] == "several probes or depths fit"
    assert np.isnan(found["soil_moisture_m3_m3"])


def test_a_probe_whose_name_goes_on_is_taken_when_it_is_alone():
    found = merge_one(sensors=[("NET", "A", "P-E", 0.05, 0.05)], asked="NET__A__P")
    assert found["outcome"] == "merged"
    found = merge_one(sensors=[("NET", "A", "PE", 0.05, 0.05)], asked="NET__A__P")
    assert found["outcome"] == "probe absent at 5 cm"


def test_a_deeper_or_shallower_probe_of_the_name_does_not_compete():
    """Labels were read at 5 cm: the same probe at 2 or at 20 cm is another quantity."""
    depths = [(0.05, 0.05), (0.02, 0.02), (0.2, 0.2)]
    found = merge_one(sensors=[("NET", "A", "P", *d) for d in depths], asked="NET__A__P")
    assert found["insitu_sensor_id"] == "NET__A__P__0.05__0.05"


def test_a_station_that_stands_elsewhere_labels_no_image():
    """2 km off, the probe lies outside the 2.56 km square that models see."""
    near, far = 36.0 + 1_000 / 111_195, 36.0 + 2_000 / 111_195
    assert merge_one(latitude=near)["outcome"] == "merged"
    assert merge_one(latitude=far)["outcome"] == "station stands elsewhere"
    assert merge_one(latitude=np.nan)["outcome"] == "merged"


def test_a_renamed_station_is_found_by_its_parts_only_where_it_stands():
    """The published script takes any station whose name holds the parts: "CR1" is in "CR10"."""
    sensors = [("NET", "CR10", "P", 0.05, 0.05)]
    assert merge_one(sensors=sensors, asked="NET__CR1__P")["outcome"] == "merged"
    for place in ({"latitude": 36.5}, {"latitude": np.nan}):
        found = merge_one(sensors=sensors, asked="NET__CR1__P", **place)
        assert found["outcome"] == "station absent"
    both = [*sensors, ("NET", "CR12", "P", 0.05, 0.05)]
    assert merge_one(sensors=both, asked="NET__CR1__P")["outcome"] == "several stations fit"


def test_three_minutes_count_and_a_second_more_does_not():
    """Published times are float32 milliseconds: up to 66 s from the reading's own."""
    assert merge_one(seconds=180)["outcome"] == "merged"
    assert merge_one(seconds=-180)["insitu_time"] == NOON
    assert merge_one(seconds=181)["outcome"] == "no reading within 3 min"
    assert pd.isna(merge_one(seconds=-181)["insitu_time"])


def test_float32_milliseconds_of_any_hour_find_their_reading():
    hours = NOON + pd.to_timedelta(np.arange(500) * 7, unit="h")
    rows = [((t - NOON).total_seconds() / 60, k / 1000, "G") for k, t in enumerate(hours)]
    millis = np.float32(hours.to_numpy().astype("datetime64[ms]").view("int64"))
    records = pd.concat([record("NET__Tucson_11_W__Hydra-A")] * 500, ignore_index=True)
    records["time"] = millis.astype("int64").view("datetime64[ms]").astype("datetime64[us]")
    assert (records["time"] != hours).any()
    found = Labels(stations(ONE), readings(ONE_ID, *rows)).merge(records)
    assert found["insitu_time"].tolist() == hours.tolist()
    assert np.array_equal(found["soil_moisture_m3_m3"], np.float32(np.arange(500) / 1000))


def test_the_nearest_of_two_readings_is_taken_if_they_agree():
    assert merge_one((-2, 0.200, "G"), (1, 0.204, "G"))["soil_moisture_m3_m3"] == np.float32(0.204)
    apart = merge_one((-2, 0.20, "G"), (1, 0.21, "G"))
    assert apart["outcome"] == "readings within 3 min disagree"
    assert np.isnan(apart["soil_moisture_m3_m3"])


def test_a_flagged_reading_is_a_reason_and_no_label():
    """The published script takes frozen soil's readings; here D01 says why there is no label."""
    frozen = merge_one((0, 0.2, "D01,D02"))
    assert (frozen["outcome"], frozen["flag"]) == ("reading flagged D01,D02", "D01,D02")
    assert np.isnan(frozen["soil_moisture_m3_m3"]) and frozen["insitu_time"] == NOON
    good = merge_one((-1, 0.2, "G"), (0, 0.9, "D01"))
    assert (good["outcome"], good["flag"]) == ("merged", "G")
    assert merge_one((0, 0.7, "C02"))["outcome"] == "merged"


def test_a_label_of_the_shard_stays():
    found = merge_one(label=0.31)
    assert found["outcome"] == "label in the shard"
    assert found["soil_moisture_m3_m3"] == 0.31 and found["insitu_sensor_id"] == ""


def test_readings_in_any_order_give_the_same_labels():
    """The user's own table need not be sorted."""
    table = stations(ONE, ("NET", "B", "P", 0.05, 0.05))
    parts = [readings(s, *[(60 * k, k / 100, "G") for k in range(9)]) for s in table["sensor_id"]]
    mixed = pd.concat(parts).sample(frac=1, random_state=0)
    records = pd.concat([record("NET__B__P", seconds=3600 * k) for k in range(9)])
    found = Labels(table, mixed).merge(records)
    assert found["soil_moisture_m3_m3"].tolist() == pytest.approx([k / 100 for k in range(9)])


def test_no_records_have_no_labels_and_all_columns():
    found = Labels(stations(ONE), readings(ONE_ID, (0, 0.2, "G")))
    none = found.merge(record("NET__A__P").iloc[:0])
    assert none.empty and none.columns.equals(found.merge(record("NET__A__P")).columns)


def test_records_without_a_place_are_refused():
    with pytest.raises(ContractError, match="lacks latitude"):
        Labels(stations(ONE), readings(ONE_ID, (0, 0.2, "G"))).merge(
            record("NET__A__P").drop(columns="latitude")
        )


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """A world of 12 stations, its archive, and a record of every third accepted reading."""
    folder = tmp_path_factory.mktemp("synthetic")
    world = World(seed=3, n_stations=12, start="2020-01-01", end="2020-03-01")
    found = Labels.from_ismn(
        world.write_ismn(folder / "ismn.zip"), cache_dir=folder / "cache", progress=False
    )
    return world, found


def published(world, sensor_ids, *, every=97):
    """Records as the shards would hold them: no depth, "_" for "-", float32 milliseconds."""
    rows = []
    table = world.stations().set_index("sensor_id")
    for sensor in sensor_ids:
        at, said = table.loc[sensor], world.readings(sensor).iloc[::every]
        network, station, probe = sensor.split("__")[:3]
        name = f"{network}__{station.replace('-', '_')}__{probe}"
        millis = np.float32(said["time"].to_numpy().astype("datetime64[ms]").view("int64"))
        when = millis.astype("int64").view("datetime64[ms]").astype("datetime64[us]")
        part = pd.DataFrame({"sensor_id": name, "time": when, "sensor": sensor})
        part["truth"], part["flag"] = said["soil_moisture_m3_m3"].to_numpy(), said["flag"].to_list()
        rows.append(part.assign(latitude=at["latitude"], longitude=at["longitude"]))
    return pd.concat(rows, ignore_index=True).assign(soil_moisture_m3_m3=np.nan)


def test_the_worlds_labels_come_back_and_every_miss_has_its_reason(synthetic):
    """Merged labels are the readings; flagged ones, replicates at two depths and deep ones not."""
    world, found = synthetic
    surface = world.stations().query("depth_to_m < 0.06")
    records = published(world, surface["sensor_id"])
    merged = found.merge(records)
    done = merged["outcome"] == "merged"
    assert done.mean() > 0.4
    assert (merged["insitu_sensor_id"] == records["sensor"])[done].all()
    truth = records["truth"].round(4).astype(np.float32)
    assert np.abs(merged["soil_moisture_m3_m3"] - truth)[done].max() == 0
    assert records.loc[done, "flag"].isin(["G", "C02", "C03", "C02,C03"]).all()
    names = surface["sensor_id"].str.rsplit("__", n=2).str[0]
    unclear = set(surface["sensor_id"][names.duplicated(keep=False)])
    assert unclear
    many = merged["outcome"] == "several probes or depths fit"
    assert set(records.loc[many, "sensor"]) == unclear
    flagged = merged["outcome"].str.startswith("reading flagged ")
    assert flagged.any()
    assert ("reading flagged " + records["flag"])[flagged].equals(merged["outcome"][flagged])
    assert (done | many | flagged | (merged["outcome"] == "no reading within 3 min")).all()


def test_the_counts_add_up_and_stand_beside_the_papers(synthetic):
    world, found = synthetic
    records = published(world, world.stations()["sensor_id"], every=301)
    merged = found.merge(records)
    counts = labels.count(merged, records["sensor_id"])
    assert counts["records"].sum() == len(records)
    assert set(counts["network"]) == set(world.stations()["network"])
    beside = labels.beside_the_paper(counts).set_index("what")
    assert beside["records"].sum() == len(records)
    assert (
        beside.loc["labelled, in the shard or merged", "records"]
        == (merged["outcome"] == "merged").sum()
    )
    assert "110,000" in beside["paper_script_500_shards"].iloc[0]
    by_outcome = counts.drop_duplicates("outcome").set_index("outcome")["paper_script"]
    assert by_outcome["several probes or depths fit"] == "merges the first probe"


needs_data = pytest.mark.skipif(
    not SMALL.is_dir(), reason="no real ISMN archives: set SOILKIT_TEST_DATA to their folder"
)


def in_the_published_style(table):
    """Ids of a stations table as the shards spell them."""
    spelt = table["station"].astype(str).str.replace("-", "_")
    return table["network"] + "__" + spelt + "__" + table["sensor_id"].str.split("__").str[2]


@needs_data
def test_real_names_find_their_own_sensor_or_are_ambiguous(tmp_path):
    """Real networks: replicate probes of one name are ambiguous, every other finds itself."""
    tables = [
        insitu.read_stations(
            path, cache_dir=tmp_path, progress=False, without_coordinates="drop", max_depth_m=0.06
        )
        for path in sorted(SMALL.glob("zip_archives/**/*.zip"))
    ]
    table = pd.concat(tables).drop_duplicates("sensor_id").reset_index(drop=True)
    check_round_trip(table)


def check_round_trip(table):
    asked = in_the_published_style(table)
    names = Labels(table, readings("NET__A__P__0.05__0.05", (0, 0.2, "G")))
    found = [
        names.find(a, NOON, latitude=la, longitude=lo)
        for a, la, lo in zip(asked, table["latitude"], table["longitude"], strict=True)
    ]
    at_five = table["depth_to_m"].between(*labels.LABEL_DEPTH_M)
    alone = ~asked.str.replace(r"~\d+$", "", regex=True)[at_five].duplicated(keep=False)
    for label, sensor, five in zip(found, table["sensor_id"], at_five, strict=True):
        if not five:
            assert label.insitu_sensor_id != sensor
        elif alone[table.index[table["sensor_id"] == sensor][0]]:
            assert label.insitu_sensor_id == sensor, (sensor, label)
        else:
            assert label.outcome == labels.MANY_PROBES
    return pd.Series([label.outcome for label in found]).value_counts()


@needs_data
@pytest.mark.slow
def test_the_names_of_a_whole_real_archive_find_their_sensors(tmp_path):
    """330 sensors of six networks: 5 cm probes find themselves, those at 2.5 cm are not labels."""
    table = insitu.read_stations(
        REAL / "ismn_us_header_2019_2021.zip", cache_dir=tmp_path, progress=False
    )
    tally = check_round_trip(table)
    assert tally[labels.NO_READING] > 200


@pytest.mark.parametrize(
    ("n_sensors", "n_records"),
    [(200, 5_000), pytest.param(1300, 130_000, marks=pytest.mark.slow)],
    ids=["sample", "whole"],
)
def test_every_record_of_a_whole_archive_gets_its_own_reading(n_sensors, n_records):
    """130,000 records, the published number, over 1,300 sensors of 8,760 readings each."""
    n_hours = 8760
    table = stations(*[("NET", f"S{k}", "P", 0.05, 0.05) for k in range(n_sensors)])
    hours = np.datetime64("2020-01-01", "us") + np.arange(n_hours) * np.timedelta64(1, "h")
    rng = np.random.default_rng(0)
    values = rng.uniform(0.05, 0.4, n_sensors * n_hours).astype(np.float32)
    codes = np.repeat(np.arange(n_sensors, dtype=np.int16), n_hours)
    observations = pd.DataFrame(
        {
            "sensor_id": pd.Categorical.from_codes(codes, table["sensor_id"]),
            "time": np.tile(hours, n_sensors),
            "soil_moisture_m3_m3": values,
            "flag": pd.Categorical.from_codes(np.zeros(len(codes), np.int8), ["G"]),
        }
    )
    which, when = rng.integers(n_sensors, size=n_records), rng.integers(n_hours, size=n_records)
    records = pd.DataFrame({"sensor_id": [f"NET__S{k}__P" for k in which], "time": hours[when]})
    records = records.assign(soil_moisture_m3_m3=np.nan, latitude=36.0, longitude=-98.0)
    found = Labels(table, observations)
    merged = found.merge(records)
    assert np.array_equal(merged["soil_moisture_m3_m3"], values[which * n_hours + when])
