"""Daily moisture from weather: nothing of the soil but its label, nothing of tomorrow."""

import numpy as np
import pandas as pd
import pytest

from soilkit.errors import ContractError, LeakageError, SoilkitError, UnitError
from soilkit.export import antecedents, daily_table
from soilkit.models.tabular import daily_weather

N_DAYS = 160


def places(n):
    return pd.DataFrame(
        {
            "number": range(n), "station": [f"place {k}" for k in range(n)],
            "latitude": 35.0 + 3.0 * np.arange(n), "longitude": -100.0,
            "elevation_m": 300.0,
        }
    )  # fmt: skip


def readings(n=1, *, seed=0):
    """Showers on one day in four; moisture in percent is what the last two weeks' rain left."""
    rng = np.random.default_rng(seed)
    parts = []
    for k in range(n):
        rain = np.where(rng.random(N_DAYS) < 0.25, rng.gamma(2.0, 6.0, N_DAYS), 0.0)
        left = antecedents.antecedent_precipitation(rain, retention=0.9)
        parts.append(pd.DataFrame({
            "Date": pd.date_range("2015-03-01", periods=N_DAYS), "Station Id": k,
            "sm_2in": 8.0 + k + 0.3 * left, "precip_mm": rain, "tair_c": 15.0, "tmax_c": 22.0,
            "tmin_c": 8.0, "rh_pct": 60.0, "st_2in": 14.0,
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_percent_becomes_volume_and_volume_is_refused():
    """30 % is 0.3 m3 m-3; a table that never exceeds 1 cannot be percent."""
    table = readings()
    data = daily_table.prepare(table, places(1))

    last = data.samples["soil_moisture_m3_m3"].iloc[-1]
    assert last == pytest.approx(table["sm_2in"].iloc[-1] / 100)

    with pytest.raises(UnitError, match="percent"):
        daily_table.prepare(table.assign(sm_2in=table["sm_2in"] / 100), places(1))
    mixed = pd.concat([table, table.assign(sm_2in=0.2, **{"Station Id": 1})], ignore_index=True)
    with pytest.raises(UnitError, match=r"1 stations exceeds 1 \(1\)"):
        daily_table.prepare(mixed, places(2))


def test_a_damaged_folder_is_refused_in_words(tmp_path):
    """A list without numbers, and a table that is none."""
    (tmp_path / daily_table.READINGS).write_bytes(b"PAR1")
    for name, words in (("A", "number"), ("A (1)", "damaged")):
        (tmp_path / daily_table.PLACES).write_text(f"Name;Lat;Long;Elv\n{name};40;-100;300\n")
        with pytest.raises(SoilkitError, match=words):
            daily_table.read_folder(tmp_path)


def test_the_rain_of_tomorrow_does_not_move_a_predictor_of_today():
    """Every column: a flood on one day changes that day and later ones only."""
    table = readings()
    flood, moved = 120, table.copy()
    moved.loc[flood, ["precip_mm", "tmax_c", "tair_c", "rh_pct"]] = [90.0, 35.0, 25.0, 99.0]
    before, after = (daily_table.prepare(t, places(1)) for t in (table, moved))
    day = before.samples["time"] < table["Date"][flood]

    columns = before.features.columns[1:]
    changed = before.features[columns].ne(after.features[columns])
    changed &= before.features[columns].notna()
    assert not changed[day].to_numpy().any()
    today = changed[~day].iloc[0]
    assert today[["rain_mm", "api_90", "rain_90d_mm", "bucket_20", "demand_mm"]].all()


def test_frozen_impossible_and_rainless_days_are_counted():
    """Rows = readings less drops, each with its reason; the first 71 days know too little rain."""
    table = readings()
    table.loc[100:104, "st_2in"] = [0.0, -1.0, -2.0, 0.5, np.nan]
    table.loc[110:111, "sm_2in"] = [-1.0, 70.0]
    table.loc[112, "sm_2in"] = 60.0
    data = daily_table.prepare(table, places(1))

    count = data.drops.set_index("reason")["count"]
    assert count["soil frozen: at or below 0 degC"] == 3
    assert count["soil temperature unknown"] == 1
    assert count["moisture below 0 or above 0.6 m3 m-3"] == 2
    assert count["rain unknown on more than a fifth of 90 days"] == 71
    assert len(table) == len(data.samples) + data.drops["count"].sum()


def test_an_impossible_rain_is_unknown_and_counted():
    """1283 mm in a day falls into no sum; soil temperature is in no predictor."""
    table = readings()
    table.loc[130, "precip_mm"] = 1283.0
    data = daily_table.prepare(table, places(1))

    assert data.unknown.set_index("column")["values"]["precip_mm"] == 1
    assert data.features["rain_90d_mm"].max() < 1000
    warm = daily_table.prepare(table.assign(st_2in=30.0), places(1))
    pd.testing.assert_frame_equal(warm.features, data.features)


def test_a_station_without_a_place_and_a_day_that_stands_twice_are_refused():
    """Neither can be told from a mistake in joining tables."""
    table = readings(2)
    with pytest.raises(ContractError, match="no place"):
        daily_table.prepare(table, places(1))
    with pytest.raises(ContractError, match="stand twice"):
        daily_table.prepare(pd.concat([table, table[:1]]), places(2))


def test_snow_waits_for_warmth_and_a_full_bucket_spills():
    """20 mm at -5 degC melt at 3 mm a degree; demand empties a bucket towards zero."""
    rain, air = np.array([[20.0], [0.0], [0.0]]), np.array([[-5.0], [2.0], [10.0]])
    held, water = antecedents.snowpack(rain, air)
    np.testing.assert_allclose(held[:, 0], [20, 14, 0])
    np.testing.assert_allclose(water[:, 0], [0, 6, 14])

    wet = np.array([[500.0], [0.0]])
    filling = antecedents.bucket(wet, np.array([[0.0], [20.0]]), capacity_mm=20.0)
    np.testing.assert_allclose(filling[:, 0], [1, np.exp(-1)])


def test_the_yardstick_finds_the_decay_from_training_stations():
    """Moisture made with a retention of 0.9 a day correlates best with that index."""
    data = daily_table.prepare(readings(3), places(3))
    index = data.features.filter(like="api_")
    y, stations = data.samples["soil_moisture_m3_m3"], data.samples["station_id"]
    line = daily_weather.ApiLinear().fit(index, y, stations=stations)

    assert line.column_ == "api_90"
    assert line.slope_ == pytest.approx([0.003], rel=0.1)
    flood = index.head(1).assign(api_90=1000.0)
    assert line.predict(flood) == [1.0]  # soil holds no more than its own volume


def test_a_season_s_slopes_are_those_within_stations():
    """Wetter places with more rain do not steepen the answer to rain: 0.3 % a mm, exactly."""
    table = readings(3)
    table.loc[table["Station Id"] == 2, "sm_2in"] += 20.0
    data = daily_table.prepare(table, places(3))
    columns = ["api_90", *daily_weather.SEASON]
    line = daily_weather.ApiLinear(season=True).fit(
        data.features[columns], data.samples["soil_moisture_m3_m3"],
        stations=data.samples["station_id"],
    )  # fmt: skip

    np.testing.assert_allclose(line.slope_, [0.003, 0, 0, 0, 0], atol=1e-6)


def test_every_day_is_predicted_by_models_that_never_saw_its_station():
    """A station given the moisture of another world does not change its own prediction."""
    table = readings(4)
    data = daily_table.prepare(table, places(4))
    folds = daily_weather.block_folds(data, n_folds=4)
    station = data.samples["station_id"]
    assert (folds["fold"].groupby(station).nunique() == 1).all()

    options = {"every_days": 4, "n_trees": 3}
    found, told = daily_weather.predict_days(data, folds, **options)
    assert found["predicted_m3_m3"].notna().all()
    assert len(found) == 8 * len(data.samples)
    assert (told["train_stations"] == 3).all()

    other = data.samples["soil_moisture_m3_m3"].mask(station.eq("SCAN/SNOTEL/2"), 0.5)
    changed = data._replace(samples=data.samples.assign(soil_moisture_m3_m3=other))
    again, _ = daily_weather.predict_days(changed, folds, **options)
    own = found["station_id"].eq("SCAN/SNOTEL/2")
    same = np.isclose(again["predicted_m3_m3"], found["predicted_m3_m3"])
    assert same[own].all()
    assert not same[~own].all()

    first = folds["fold"].eq(0)  # what no other fold knows, no model of that fold can use
    more = data.features.assign(extra=data.features["rain_mm"].where(first))
    wider, _ = daily_weather.predict_days(data._replace(features=more), folds, **options)
    trees = found["model"].isin([daily_weather.BOOSTED, daily_weather.FOREST])
    same = wider["predicted_m3_m3"] == found["predicted_m3_m3"]
    own = found["sample_id"].isin(data.samples.loc[first, "sample_id"])
    assert same[trees & own].all() and not same[trees & ~own].all()

    with pytest.raises(LeakageError, match="two folds"):
        daily_weather.predict_days(data, folds.assign(fold=np.arange(len(folds)) % 2))
