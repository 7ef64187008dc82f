"""What the leakage audit catches, what it lets pass, and what it refuses to call unseen."""

import dataclasses
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soilkit.errors import ContractError, LeakageError, UnknownNameError
from soilkit.metrics import splits
from soilkit.metrics.splits.checks import copied_series

DATA = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data") / "us_10day" / "matched_10day.parquet"
needs_data = pytest.mark.skipif(
    not DATA.is_file(), reason="SOILKIT_TEST_DATA holds no us_10day table"
)
DAYS = 40


def station(name, latitude, longitude, *, network="A", sensors=1):
    return pd.DataFrame(
        [
            {
                "sensor_id": f"{name}-{k}", "station_id": name, "network": network,
                "latitude": latitude, "longitude": longitude,
            }
            for k in range(sensors)
        ]
    )  # fmt: skip


def tables(*stations, n=DAYS, seed=0):
    """Daily samples of every sensor, each with readings of its own."""
    places = pd.concat(stations, ignore_index=True)
    rows = places.loc[places.index.repeat(n), ["sensor_id", "station_id"]].reset_index(drop=True)
    times = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.tile(np.arange(n), len(places)), "D")
    moisture = np.random.default_rng(seed).uniform(0.05, 0.45, len(rows))
    ids = [f"x{i}" for i in range(len(rows))]
    return rows.assign(sample_id=ids, time=times, soil_moisture_m3_m3=moisture), places


def held(samples, *names, column="station_id"):
    """A split that tests the stations (or sensors) of these names."""
    return pd.Series(np.where(samples[column].isin(names), "test", "train"), index=samples.index)


def status(report):
    return report.table.set_index("check")["status"]


FAR = [station("S0", 35.0, -99.0), station("S1", 40.0, -90.0, network="B")]


def test_stations_far_apart_in_other_networks_are_unseen_in_every_way():
    samples, stations = tables(*FAR)
    report = splits.audit(samples, held(samples, "S1"), stations=stations)
    assert report.claim() == "unseen networks"
    for claim in ("unseen sensors", "unseen stations", "unseen places", "unseen networks"):
        report.require(claim)
    # S1 stands 968 km from S0 (great circle of radius 6371 km: 971 km).
    assert report.distance_km["S1"] == pytest.approx(971, rel=0.01)
    assert report.distance_shares["above 10 km"] == 1
    apart = dataclasses.replace(report, distance_km=pd.Series([30.0, 351.0, 900.0]))
    assert [apart.distance_shares[k] for k in ("least_km", "median_km")] == [30.0, 351.0]
    assert "least 30, median 351 km" in str(apart)


def test_random_rows_may_be_called_nothing_else():
    samples, stations = tables(*FAR)
    report = splits.audit(samples, splits.by_row(samples), stations=stations)
    assert report.claim() == "random rows (leaky)"
    assert report.distance_shares["at a training station"] == 1
    with pytest.raises(LeakageError, match="same sensor: fail, 2 of 2 sensors on both sides"):
        report.require("unseen sensors")


def test_replicates_on_two_sides_are_unseen_sensors_at_best():
    """A sensor is new, its pit is not."""
    samples, stations = tables(station("S0", 35.0, -99.0, sensors=2), *FAR[1:])
    split = held(samples, "S0-1", column="sensor_id")
    report = splits.audit(samples, split, stations=stations)
    assert report.claim() == "unseen sensors"
    row = report.table.set_index("check").loc["same station"]
    assert (row["n_samples"], row["share"], row["examples"]) == (DAYS, 1.0, "S0")
    assert report.distance_km["S0"] == 0
    with pytest.raises(LeakageError, match="(?s)may be called 'unseen stations'.*same station"):
        report.require("unseen stations")


@pytest.mark.parametrize(
    ("north_km", "expected"), [(2.4, "fail"), (2.7, "pass"), (0.0, "fail")]
)  # fmt: skip
def test_chips_overlap_below_their_side(north_km, expected):
    """2.56 km chips; one degree of latitude is 110.9 km at 35 N. Place 0 has another name only."""
    samples, stations = tables(FAR[0], station("S2", 35 + north_km / 110.9, -99.0), FAR[1])
    report = splits.audit(samples, held(samples, "S2"), stations=stations)
    assert status(report)["overlapping chips (2.56 km)"] == expected


def test_one_coarse_pixel_on_both_sides_is_no_unseen_place():
    """3.7 km apart: no common chip, one GLDAS pixel (34.0-34.25 N), and two of SMAP10KM."""
    samples, stations = tables(station("S0", 34.08, -99.1), station("S2", 34.12, -99.1), FAR[1])
    report = splits.audit(samples, held(samples, "S2"), stations=stations)
    found = status(report)
    assert found["overlapping chips (2.56 km)"] == "pass"
    assert found["same SMAP10KM pixel (0.1 degrees)"] == "pass"
    assert found["same GLDAS pixel (0.25 degrees)"] == "fail"
    assert found["same block (2 degrees)"] == "info"
    assert report.claim() == "unseen stations"


def test_the_ease_grid_is_looked_at_where_asked():
    """Rows of cells part at 34.23 N for 9 km, and at 34.14 N and 34.48 N for 36 km."""
    samples, stations = tables(station("S0", 34.20, -99.1), station("S2", 34.27, -99.1), FAR[1])
    samples["smap_l3"] = np.random.default_rng(0).uniform(0, 0.5, len(samples))
    eaten = {"coarse_columns": ("smap_l3",)}
    found = status(splits.audit(samples, held(samples, "S2"), stations=stations, **eaten))
    assert found["same SMAP pixel (EASE-Grid 2.0, 9 km)"] == "pass"
    assert found["same SMAP pixel (EASE-Grid 2.0, 36 km)"] == "fail"


def test_stations_that_a_coarse_product_cannot_tell_apart_share_its_pixel():
    """The product's own series is the best witness, whatever its grid is."""
    samples, stations = tables(*FAR, station("S2", 45.0, -80.0, network="C"))
    series = np.random.default_rng(1).uniform(0, 25, DAYS).round(1)
    other = np.random.default_rng(2).uniform(0, 25, DAYS).round(1)
    features = pd.DataFrame({"sample_id": samples["sample_id"]})
    features["smap_mm"] = np.concatenate([series, series, other])
    options = {"stations": stations, "features": features, "coarse_columns": ("smap_mm",)}
    report = splits.audit(samples, held(samples, "S1"), **options)
    assert status(report)["same series of smap_mm"] == "fail"
    assert report.claim() == "unseen stations"
    assert splits.audit(samples, held(samples, "S2"), **options).claim() == "unseen networks"
    with pytest.raises(ContractError, match="coarse column 'gldas'"):
        splits.audit(
            samples, held(samples, "S1"), stations=stations,
            coarse_columns=("gldas",),
        )  # fmt: skip


def test_a_network_on_both_sides_is_told_and_denies_unseen_networks_only():
    samples, stations = tables(FAR[0], station("S2", 45.0, -80.0, network="A"))
    report = splits.audit(samples, held(samples, "S2"), stations=stations)
    assert status(report)["same network"] == "info"
    assert report.claim() == "unseen places: no shared chip or coarse pixel"


def test_a_chip_on_both_sides_is_found_and_a_pass_over_two_stations_is_told():
    """One Sentinel-1 pass sees both stations; a chip belongs to one."""
    samples, stations = tables(station("S0", 35.0, -99.0, sensors=2), *FAR[1:])
    samples["sentinel1_scene"] = samples["time"].astype(str)
    report = splits.audit(samples, held(samples, "S1"), stations=stations)
    assert status(report)[["same chip", "same scene"]].tolist() == ["pass", "info"]
    report = splits.audit(samples, held(samples, "S0-1", column="sensor_id"), stations=stations)
    assert status(report)[["same chip", "same scene"]].tolist() == ["fail", "info"]
    bare = splits.audit(samples.drop(columns="sentinel1_scene"), held(samples, "S1"), stations=None)
    assert status(bare)["same chip"] == "not checked"


def test_one_series_under_two_names_is_no_unseen_sensor():
    """A station listed by two networks, some rows lost, coordinates rounded to another place."""
    samples, stations = tables(*FAR)
    twin = samples["sensor_id"] == "S1-0"
    samples.loc[twin, "soil_moisture_m3_m3"] = samples.loc[~twin, "soil_moisture_m3_m3"].to_numpy()
    samples = samples.drop(index=[3, 4, 5, DAYS + 8])
    report = splits.audit(samples, held(samples, "S1"), stations=stations)
    assert status(report)["duplicated readings"] == "fail"
    assert report.claim() == "leaky: duplicated readings"
    assert "S0-0 = S1-0" in report.table.set_index("check").loc["duplicated readings", "examples"]
    with pytest.raises(LeakageError, match="keep one sensor of each pair"):
        report.require("unseen sensors")


def test_a_floor_or_chance_is_no_copy():
    """Dry spells at one floor, one reading in ten alike, or few common times prove nothing."""
    rng = np.random.default_rng(0)
    days = np.arange(100)
    a = rng.normal(size=100)
    tenth = np.where(days % 10 == 0, a, rng.normal(size=100))
    dry, arid = (np.where(days < 4, rng.normal(size=100), 0.02) for _ in range(2))
    units = np.repeat([0, 1, 2, 3, 4], 100)
    values = np.concatenate([a, tenth, dry, arid, a])
    assert copied_series(units, np.tile(days, 5), values=values).tolist() == [[0, 4]]
    few = np.isin(units, [0, 4]) & (np.tile(days, 5) < 9)
    assert copied_series(units[few], np.tile(days, 5)[few], values=values[few]).tolist() == []


def test_statistics_may_know_training_samples_only():
    """Of samples, sensors or stations; an id that stands in no row is suspicious too."""
    samples, stations = tables(*FAR)
    split = held(samples, "S1")
    split[:4] = "validation"
    name = "normalisation saw held-out samples"

    def found(ids):
        return splits.audit(samples, split, stations=stations, fitted_on=ids)

    assert status(found(None))[name] == "not checked"
    assert status(found(samples["sample_id"][split == "train"]))[name] == "pass"
    assert status(found(samples["sample_id"]))[name] == "fail"
    assert status(found([*samples["sample_id"][split == "train"], "x0"]))[name] == "fail"
    assert status(found(["S1"]))[name] == "fail"
    assert status(found(["nobody"]))[name] == "fail"
    assert found(["S1-0"]).claim() == f"leaky: {name}"
    found(samples["sample_id"][split == "train"]).require("unseen networks")
    found(None).require("unseen networks")


def test_folds_are_fitted_one_by_one():
    """Each fold is held out in turn, so each has statistics of its own."""
    samples, stations = tables(*FAR, station("S2", 45.0, -80.0))
    folds = samples["station_id"].str[1].astype(int)
    name = "normalisation saw held-out samples"
    good = {k: samples["sample_id"][folds != k] for k in range(3)}
    report = splits.audit(samples, folds, stations=stations, fitted_on=good)
    assert status(report)[name] == "pass"
    assert len(report.distance_km) == 3
    report = splits.audit(samples, folds, stations=stations, fitted_on={**good, 1: ["S1"]})
    assert status(report)[name] == "fail"
    assert report.table.set_index("check").loc[name, "n_samples"] == DAYS
    with pytest.raises(ContractError, match="fitted one by one"):
        splits.audit(samples, folds, stations=stations, fitted_on=["S0"])
    with pytest.raises(ContractError, match="nothing of the folds 1, 2"):
        splits.audit(samples, folds, stations=stations, fitted_on={0: ["S0"]})


@pytest.mark.parametrize("disguise", [lambda y: y, lambda y: 100 * y, lambda y: -np.log(y)])
def test_the_label_among_the_features_is_found_in_any_unit(disguise):
    """m3 m-3, percent, or a logarithm: a monotone function of the label is the label."""
    samples, stations = tables(*FAR, n=100)
    label = samples["soil_moisture_m3_m3"]
    noisy = label + np.random.default_rng(3).normal(0, 0.01, len(label))
    features = pd.DataFrame({"good": noisy, "eaten": disguise(label), "constant": 1.0})
    report = splits.audit(samples, held(samples, "S1"), stations=stations, features=features)
    assert report.table.set_index("check").loc["label among the features", "examples"] == "eaten"
    assert report.claim() == "leaky: label among the features"
    clean = features.drop(columns="eaten")
    report = splits.audit(samples, held(samples, "S1"), stations=stations, features=clean)
    assert report.claim() == "unseen networks"


def test_features_are_matched_by_their_sample():
    """The order of a features table means nothing; its sample_id does."""
    samples, stations = tables(*FAR)
    features = pd.DataFrame(
        {"sample_id": samples["sample_id"], "x": samples["soil_moisture_m3_m3"]}
    )
    shuffled = features.sample(frac=1, random_state=0)
    report = splits.audit(samples, held(samples, "S1"), stations=stations, features=shuffled)
    assert status(report)["label among the features"] == "fail"


def test_nearness_in_time_is_a_fault_of_splits_in_time_only():
    """Tested right after training it fails; ten days later it passes, at sensors that trained."""
    samples, stations = tables(*FAR)
    day = (samples["time"] - samples["time"].min()).dt.days
    close = pd.Series(np.where(day < 20, "train", "test"), index=samples.index)
    report = splits.audit(samples, close, stations=stations, kind="temporal")
    # Training ends on day 19: days 20 to 28 are closer than ten days.
    row = report.table.set_index("check").loc["overlap in time (within 10 days)"]
    assert (row["status"], row["n_samples"]) == ("fail", 2 * 9)
    assert report.claim() == "random rows (leaky)"
    gap = close.where((day < 20) | (day >= 29), None)
    report = splits.audit(samples, gap, stations=stations, kind="temporal")
    assert report.claim() == "unseen times"
    report.require("unseen times")
    # A spatial split shares its dates; that is told, and denies nothing but unseen times.
    report = splits.audit(samples, held(samples, "S1"), stations=stations)
    assert status(report)["overlap in time (within 10 days)"] == "info"
    with pytest.raises(LeakageError, match="leave 10 days between"):
        report.require("unseen times")
    report = splits.audit(samples, held(samples, "S1"), stations=stations, kind="temporal")
    assert report.claim() == "leaky: overlap in time (within 10 days)"


def test_places_that_nobody_knows_are_not_called_unseen():
    """No coordinates: sensors and stations can be told apart, places cannot."""
    samples, stations = tables(*FAR)
    report = splits.audit(samples, held(samples, "S1"), stations=None)
    assert report.claim() == "unseen stations"
    assert status(report)["overlapping chips (2.56 km)"] == "not checked"
    assert report.distance_shares == {}
    with pytest.raises(LeakageError, match="give a stations table"):
        report.require("unseen places")
    lost = stations.assign(latitude=[np.nan, 40.0])
    report = splits.audit(samples, held(samples, "S1"), stations=lost)
    assert "1 of 2 stations have no latitude" in str(report)
    carried = samples.merge(stations.drop(columns="sensor_id"), on="station_id")
    assert splits.audit(carried, held(carried, "S1"), stations=None).claim() == "unseen networks"


def test_who_trains_and_who_is_held_out_can_be_said():
    """Where validation chose the model, it has been seen too."""
    samples, stations = tables(*FAR)
    split = held(samples, "S1")
    split[samples["time"] < "2020-01-11"] = "validation"
    assert splits.audit(samples, split, stations=stations).claim() == "unseen networks"
    strict = split.replace("validation", "train")
    report = splits.audit(samples, strict, stations=stations)
    assert report.claim() == "random rows (leaky)"
    report = splits.audit(samples, split, stations=stations, held_out=("validation",))
    assert report.claim() == "random rows (leaky)"


def test_tables_that_do_not_belong_together_are_refused():
    samples, stations = tables(*FAR)
    split = held(samples, "S1")
    with pytest.raises(ContractError, match="one label a sample"):
        splits.audit(samples, split[:-1], stations=stations)
    with pytest.raises(ContractError, match="index is not the samples'"):
        splits.audit(samples, split[::-1], stations=stations)
    with pytest.raises(ContractError, match="found train"):
        splits.audit(samples, split.replace("test", "train"), stations=stations)
    with pytest.raises(ContractError, match="sensor_id"):
        splits.audit(samples.drop(columns="sensor_id"), split, stations=stations)
    with pytest.raises(ContractError, match="'spatial' or 'temporal'"):
        splits.audit(samples, split, stations=stations, kind="by chance")
    report = splits.audit(samples, split.tolist(), stations=stations)
    with pytest.raises(UnknownNameError, match="unseen stations"):
        report.require("perfect")


def test_a_report_reads_in_a_terminal_and_in_a_notebook():
    """Claim first; names of stations are text, never markup."""
    samples, stations = tables(station("<b>S0</b>", 35.0, -99.0), FAR[1])
    report = splits.audit(samples, splits.by_row(samples), stations=stations)
    first, *rest = str(report).splitlines()
    assert first == "Leakage audit of by_row (leaky): random rows (leaky)"
    assert any(line.startswith("same sensor") and " fail " in line for line in rest)
    page = report._repr_html_()
    assert "&lt;b&gt;S0&lt;/b&gt;" in page and "<b>S0</b>" not in page


@pytest.fixture(scope="module")
def us_10day():
    table = pd.read_parquet(DATA).reset_index(drop=True)
    names = {
        "key": "station_id", "start": "time", "sm_insitu": "soil_moisture_m3_m3",
        "lat": "latitude", "lon": "longitude",
    }  # fmt: skip
    table = table.rename(columns=names).assign(sample_id=[f"x{i}" for i in range(len(table))])
    table["sensor_id"] = table["station_id"]
    places = ["sensor_id", "station_id", "network", "latitude", "longitude"]
    return table, table[places].drop_duplicates("sensor_id")


@needs_data
def test_real_rows_at_random_are_caught(us_10day):
    samples, stations = us_10day
    report = splits.audit(samples, splits.by_row(samples), stations=stations)
    assert report.claim() == "random rows (leaky)"
    assert report.table.set_index("check").loc["same sensor", "n_units"] == 94


@needs_data
@pytest.mark.parametrize("seed", range(3))
def test_txson_by_station_shares_smap_pixels_and_by_block_does_not(us_10day, seed):
    """35 TxSON stations stand in 10 pixels of 9 km: a split by station parts some of them."""
    samples, stations = us_10day
    options = {
        "stations": stations,
        "features": samples[["sample_id", "smap_usda_ssm_mm"]],
        "coarse_columns": ("smap_usda_ssm_mm",),
    }
    txson = samples[samples["network"] == "TxSON"]
    split = splits.by_station(txson, stations[stations["network"] == "TxSON"], seed=seed)
    alone = splits.audit(txson, split, stations=stations, held_out=("validation", "test"))
    row = alone.table.set_index("check").loc["same SMAP pixel (EASE-Grid 2.0, 9 km)"]
    assert row["status"] == "fail" and " of 10 on both sides" in row["detail"]

    report = splits.audit(samples, splits.by_station(samples, stations, seed=seed), **options)
    assert report.claim() == "unseen stations"
    assert status(report)["same series of smap_usda_ssm_mm"] == "fail"
    with pytest.raises(LeakageError, match="TxSON"):
        report.require("unseen places")
    blocks = splits.audit(samples, splits.by_block(samples, stations, seed=seed), **options)
    blocks.require("unseen places")


def paper_sized(n_stations=1300, each=100):
    rng = np.random.default_rng(0)
    dense = rng.random(n_stations) < 0.3
    latitude = np.where(dense, 36 + rng.normal(0, 0.2, n_stations), rng.uniform(30, 48, n_stations))
    longitude = np.where(
        dense, -98 + rng.normal(0, 0.2, n_stations), rng.uniform(-120, -75, n_stations)
    )
    names = [f"S{i}" for i in range(n_stations)]
    stations = pd.DataFrame(
        {
            "sensor_id": names, "station_id": names, "latitude": latitude, "longitude": longitude,
            "network": [f"N{i % 20}" for i in range(n_stations)],
        }
    )  # fmt: skip
    samples = stations.loc[stations.index.repeat(each), ["sensor_id", "station_id"]]
    n = len(samples)
    return samples.assign(
        sample_id=np.arange(n).astype(str),
        time=pd.Timestamp("2019-01-01")
        + pd.to_timedelta(np.tile(np.arange(each), n_stations), "D"),
        soil_moisture_m3_m3=rng.uniform(0, 0.5, n).round(3),
        sentinel1_scene=rng.integers(0, 5000, n).astype(str),
    ).reset_index(drop=True), stations


def test_the_papers_size_takes_seconds():
    """1,300 stations and 130,000 samples; a loop over rows or pairs would take minutes."""
    samples, stations = paper_sized()
    features = pd.DataFrame(np.random.default_rng(1).normal(size=(len(samples), 10)))
    start = time.perf_counter()
    report = splits.audit(
        samples, splits.by_row(samples), stations=stations, features=features,
        fitted_on=samples["sample_id"],
    )  # fmt: skip
    assert time.perf_counter() - start < 30
    assert report.claim() == "random rows (leaky)"
