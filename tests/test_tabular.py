"""Tabular systems and the ten-day table they learn from."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from soilkit import contracts
from soilkit.errors import ContractError, UnitError
from soilkit.export import ten_day_table
from soilkit.metrics import splits
from soilkit.models.tabular import DenseEnsemble, SmapLinear, cross_predict, forest
from soilkit.show import reports

SMALL_DENSE = DenseEnsemble(n_members=2, widths=(16,), epochs=40, batch_size=32)


def ten_day_rows(n_stations=12, n_windows=30, seed=0):
    """A made-up table of the ten-day schema: moisture follows SMAP, VV and a station's wetness."""
    rng = np.random.default_rng(seed)
    station, window = np.divmod(np.arange(n_stations * n_windows), n_windows)
    n = len(station)
    names = np.array([f"Site_{i}" for i in range(n_stations)])
    ssm_mm = 12 + 8 * np.sin(window / 3 + station) + rng.normal(0, 1, n)
    elevation = rng.uniform(50, 2000, n_stations)[station]
    moisture = 0.05 + 0.01 * ssm_mm + 0.00003 * elevation + rng.normal(0, 0.01, n)
    table = pd.DataFrame({band: rng.uniform(500, 4000, n) for band in ten_day_table.OPTICAL_BANDS})
    table = table.assign(
        VV=-20 + 30 * moisture + rng.normal(0, 0.5, n), VH=-25.0 + rng.normal(0, 1, n), angle=38.0,
        mtpi=rng.normal(0, 5, n_stations)[station], field_capacity_pct=20.0 + station,
        nlcd_mean=52.0, smap_usda_ssm_mm=ssm_mm, elevation_m=elevation,
        lon=-110.0 + 3 * station, lat=32.0 + 2 * (station % 4),
        start=pd.Timestamp("2019-01-01") + pd.to_timedelta(10 * window, unit="D"),
        network="MADEUP", station=names[station], sm_insitu=moisture, sm_days=10.0,
        key=[f"MADEUP/site{i}" for i in station],
    )  # fmt: skip
    table.loc[window % 5 == 0, ["VV", "VH", "angle"]] = np.nan
    table.loc[window % 7 == 0, list(ten_day_table.OPTICAL_BANDS)] = np.nan
    unlabelled = window == 4
    table.loc[unlabelled, ["sm_insitu", "sm_days", "elevation_m"]] = np.nan
    return table


def written(table, folder):
    path = folder / "table.parquet"
    table.to_parquet(path)
    return path


def test_a_linear_map_changes_no_correlation():
    rng = np.random.default_rng(1)
    ssm_mm, moisture = rng.uniform(0, 25, 50), rng.uniform(0, 0.5, 50)
    predicted = SmapLinear().fit(ssm_mm[:, None], moisture).predict(ssm_mm[:, None])
    # The slope's sign is the correlation's, so R is |R| of the product.
    assert np.corrcoef(predicted, moisture)[0, 1] == pytest.approx(
        abs(np.corrcoef(ssm_mm, moisture)[0, 1])
    )
    assert predicted.mean() == pytest.approx(moisture.mean())


def test_a_linear_map_looks_at_the_first_column_alone():
    X = np.column_stack([np.zeros(5), np.arange(5.0)])
    assert SmapLinear().fit(X, np.arange(5.0)).predict(X).tolist() == [2.0] * 5


def test_the_forest_has_the_settings_of_the_baselines():
    model = forest(seed=3, n_trees=7)
    assert (model.n_estimators, model.min_samples_leaf, model.max_features) == (7, 3, 0.4)
    assert (model.random_state, forest().n_estimators) == (3, 300)


@pytest.mark.parametrize("model", [SmapLinear(), forest(n_trees=10), SMALL_DENSE], ids=str)
def test_a_row_without_any_predictor_still_gets_a_prediction(model):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(60, 3))
    y = 0.2 + 0.05 * X[:, 0]
    predicted = model.fit(X, y).predict(np.full((2, 3), np.nan))
    assert np.isfinite(predicted).all()
    assert abs(predicted - 0.2).max() < 0.15


def test_an_infinite_predictor_is_refused():
    X = np.array([[0.0], [np.inf], [1.0]])
    for model in (SmapLinear(), SMALL_DENSE):
        with pytest.raises(ValueError, match="infinity"):
            model.fit(X, np.array([0.1, 0.2, 0.3]))


def test_missing_radar_can_itself_be_news():
    """The flag of a missing predictor is an input: here it alone tells wet from dry."""
    rng = np.random.default_rng(3)
    wet = rng.random(300) < 0.5
    X = np.where(wet, np.nan, rng.normal(size=300))[:, None]
    y = np.where(wet, 0.4, 0.1)
    assert r2_score(y, SMALL_DENSE.fit(X, y).predict(X)) > 0.95


def test_an_ensemble_is_the_mean_of_its_members_and_tells_their_spread():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(200, 2))
    y = 0.2 + 0.05 * np.tanh(X[:, 0])
    ensemble = DenseEnsemble(n_members=3, widths=(8,), epochs=10, batch_size=32).fit(X, y)
    mean, std = ensemble.predict(X, return_std=True)
    alone = []
    members = ensemble.members_
    for member in members:
        ensemble.members_ = [member]
        alone.append(ensemble.predict(X))
    np.testing.assert_allclose(mean, np.mean(alone, axis=0), atol=1e-7)  # single precision
    np.testing.assert_allclose(std, np.std(alone, axis=0), atol=1e-7)
    far = ensemble.scaling_.scale * 20
    ensemble.members_ = members
    assert ensemble.predict(far[None], return_std=True)[1] > std.mean()


def test_a_seed_gives_the_same_network_whatever_else_draws_numbers():
    import torch

    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(80, 2)), rng.random(80)
    first = DenseEnsemble(n_members=1, epochs=3, seed=9).fit(X, y).predict(X)
    torch.rand(5)
    before = torch.random.get_rng_state()
    again = DenseEnsemble(n_members=1, epochs=3, seed=9).fit(X, y).predict(X)
    np.testing.assert_array_equal(first, again)
    assert torch.equal(before, torch.random.get_rng_state())
    other = DenseEnsemble(n_members=1, epochs=3, seed=10).fit(X, y).predict(X)
    assert abs(first - other).max() > 1e-6


def test_no_station_of_a_block_helps_to_predict_its_neighbours():
    """A model that only remembers places is useless across blocks and perfect across rows."""
    rng = np.random.default_rng(6)
    place = np.repeat(np.arange(20), 30)
    y = rng.random(20)[place]
    X = place[:, None].astype(float)
    by_row = cross_predict(forest(n_trees=20), X, y=y)
    by_block = cross_predict(forest(n_trees=20), X, y=y, groups=place)
    assert r2_score(y, by_row) > 0.99
    assert r2_score(y, by_block) < 0.3


def test_few_blocks_are_left_out_one_at_a_time_and_one_block_is_refused():
    X, y = np.arange(9.0)[:, None], np.repeat([0.1, 0.2, 0.3], 3)
    predicted = cross_predict(SmapLinear(), X * 0, y=y, groups=y)
    # A constant product predicts the mean of the other two groups.
    np.testing.assert_allclose(predicted, np.repeat([0.25, 0.2, 0.15], 3))
    with pytest.raises(ContractError, match="two groups"):
        cross_predict(SmapLinear(), X, y=y, groups=np.zeros(9))


def test_a_window_becomes_a_sample_of_the_contract(tmp_path):
    table = ten_day_rows()
    stations, samples, features = ten_day_table.read_ten_day_table(written(table, tmp_path))
    assert samples["sample_id"].iloc[1] == "MADEUP/site0_2019-01-11"
    assert samples["station_id"].tolist() == table["key"].tolist()
    assert len(samples) == len(features) == len(table)
    assert samples["soil_moisture_m3_m3"].isna().sum() == 12
    assert stations["station_id"].is_unique and len(stations) == 12
    assert not any(":" in i for i in samples["sample_id"])


def test_a_station_keeps_its_elevation_where_the_label_is_missing(tmp_path):
    """The table knows elevation from the in-situ file only, but the ground stays where it is."""
    table = ten_day_rows()
    _, _, features = ten_day_table.read_ten_day_table(written(table, tmp_path))
    assert table["elevation_m"].isna().sum() == 12
    assert features["dem_elevation"].notna().all()


def test_a_table_without_labels_keeps_every_row(tmp_path):
    table = ten_day_rows().drop(columns=["sm_insitu", "sm_days", "elevation_m"])
    stations, samples, features = ten_day_table.read_ten_day_table(written(table, tmp_path))
    assert len(samples) == len(table)
    assert samples["soil_moisture_m3_m3"].isna().all()
    assert "dem_elevation" not in features and stations["elevation_m"].isna().all()


def test_percent_is_no_soil_moisture(tmp_path):
    table = ten_day_rows()
    table["sm_insitu"] *= 100
    with pytest.raises(UnitError, match="divide by 100"):
        ten_day_table.read_ten_day_table(written(table, tmp_path))


def test_what_cannot_be_measured_counts_as_missing_and_is_counted(tmp_path):
    """A fill value of -9999 is no moisture and a division by zero no backscatter: rows stay."""
    table = ten_day_rows()
    table.loc[table.index[:2], "sm_insitu"] = -9999.0
    table.loc[table.index[3], "VV"] = np.inf
    with pytest.warns(UserWarning) as told:
        data = ten_day_table.read_ten_day_table(written(table, tmp_path))
    assert [str(warning.message) for warning in told] == [
        "Negative values count as missing: 2 of sm_insitu.",
        "Infinite values count as missing: 1 of VV.",
    ]
    assert data.samples["soil_moisture_m3_m3"].head(2).isna().all()
    assert np.isnan(data.features["sentinel1_VV"].iloc[3])
    assert len(data.samples) == len(table)


def test_a_table_of_other_things_is_refused_by_what_it_lacks(tmp_path):
    table = ten_day_rows()
    with pytest.raises(ContractError, match="lacks key, start"):
        ten_day_table.read_ten_day_table(written(table.drop(columns=["key", "start"]), tmp_path))
    twice = pd.concat([table, table.head(2)])
    with pytest.raises(ContractError, match="repeats 2"):
        ten_day_table.read_ten_day_table(written(twice, tmp_path))
    bare = table[["key", "network", "station", "lat", "lon", "start"]]
    with pytest.raises(ContractError, match="No predictor"):
        ten_day_table.read_ten_day_table(written(bare, tmp_path))
    days = pd.Series(["01/02/2019"] * len(table))
    for change in ({"start": days}, {"lat": 40.0 + np.arange(len(table))}, {"sm_insitu": "0,2"}):
        with pytest.raises(ContractError, match=r"ISO 8601|several places|holds text"):
            ten_day_table.read_ten_day_table(written(table.assign(**change), tmp_path))


def test_averaged_class_codes_are_no_predictor(tmp_path):
    data = ten_day_table.with_season(
        ten_day_table.read_ten_day_table(written(ten_day_rows(), tmp_path))
    )
    features, sets = data.features, ten_day_table.predictor_sets(data.features)
    assert "nlcd_mean" in features
    assert not any("nlcd_mean" in columns for columns in sets.values())
    assert len(sets["all"]) == 1 + 3 + 13 + 3 + 2


def test_a_season_that_was_built_is_kept(tmp_path):
    once = ten_day_table.with_season(
        ten_day_table.read_ten_day_table(written(ten_day_rows(2), tmp_path))
    )
    assert once.features["season_cos"].iloc[0] == pytest.approx(1)
    built = once._replace(features=once.features.assign(season_sin=7.0))
    assert ten_day_table.with_season(built).features["season_sin"].eq(7.0).all()


def test_statics_come_from_the_station_of_the_same_letters(tmp_path):
    stations = ten_day_table.read_ten_day_table(written(ten_day_rows(3), tmp_path)).stations
    archive = pd.DataFrame(
        {
            "network": ["MADEUP", "MADEUP", "OTHER"],
            "station": ["SITE-1", "SITE-1", "SITE-0"],
            "land_cover": ["Grassland"] * 3,
            "koeppen": ["Cfa", "Cfa", "BSk"],
            "texture": ["Loam", "Loam", "Sand"],
            "clay_percent": [20.0, 30.0, np.nan],
            "sand_percent": [40.0, 40.0, np.nan],
        }
    )
    filled = ten_day_table.fill_statics(stations, archive)
    assert filled["koeppen"].tolist() == ["", "Cfa", ""]
    assert filled["texture"].tolist() == ["", "Loam", ""]
    assert filled.loc[1, ["clay", "sand"]].tolist() == [25.0, 40.0]
    bare = archive.drop(columns=["clay_percent", "sand_percent"])
    assert ten_day_table.fill_statics(stations, bare)["clay"].isna().all()


def test_an_hour_without_a_value_is_no_hour_of_its_day():
    times = pd.date_range("2020-01-01", periods=14, freq="h")
    readings = pd.DataFrame({"sensor_id": "a", "time": times, "soil_moisture_m3_m3": 0.2})
    readings.loc[:1, "soil_moisture_m3_m3"] = np.nan
    assert ten_day_table.daily_means(readings)["n_hours"].tolist() == [12]
    readings.loc[2, "soil_moisture_m3_m3"] = np.nan
    assert ten_day_table.daily_means(readings).empty


def test_features_follow_the_rows_of_their_samples(tmp_path):
    """A built dataset writes tables apart; a prediction belongs to the sample of its own row."""
    dataset = ten_day_table.read_ten_day_table(written(ten_day_rows(3), tmp_path))
    for name, table in dataset._asdict().items():
        table.sample(frac=1, random_state=0).to_parquet(tmp_path / f"{name}.parquet")
    _, samples, features = ten_day_table.read_dataset(tmp_path)
    assert features["sample_id"].tolist() == samples["sample_id"].tolist()
    before = dataset.features.set_index("sample_id")["smap_ssm"]
    np.testing.assert_array_equal(features["smap_ssm"], before[samples["sample_id"]])

    dataset.features.head(5).to_parquet(tmp_path / "features.parquet")
    with pytest.raises(ContractError, match="85 of 90 samples have no row"):
        ten_day_table.read_dataset(tmp_path)
    (tmp_path / "samples.parquet").unlink()
    with pytest.raises(ContractError, match=r"lacks samples\.parquet"):
        ten_day_table.read_dataset(tmp_path)


NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "24_tabular_baselines.ipynb"
TINY = {"preset": "small", "epochs": 2}


def test_the_notebook_scores_stations_of_unseen_blocks(tmp_path):
    table = written(ten_day_rows(), tmp_path)
    reports.run(NOTEBOOK, {**TINY, "train_table": str(table), "out_dir": str(tmp_path)}, tmp_path)
    predictions = pd.read_parquet(tmp_path / "predictions.parquet")
    contracts.check(predictions, contracts.PREDICTIONS)
    assert {"SMAP linear", "forest: all"} <= set(predictions["model"])
    assert (predictions["split"] == "rows at random (leaky)").any()
    scores = pd.read_csv(tmp_path / NOTEBOOK.stem / "scores.csv")
    assert "r_block_mean" in set(scores["metric"])
    assert "all" in set(scores["stratum"])


def test_the_notebook_predicts_every_row_of_a_table_without_labels(tmp_path):
    """Stations kept aside come without labels and with gaps; each window wants its prediction."""
    everything = ten_day_rows()
    aside = everything["key"].isin(["MADEUP/site10", "MADEUP/site11"])
    train = written(everything[~aside], tmp_path)
    new = everything[aside].drop(columns=["sm_insitu", "sm_days", "elevation_m"])
    new.to_parquet(tmp_path / "new.parquet")
    parameters = {"train_table": str(train), "predict_table": str(tmp_path / "new.parquet")}
    reports.run(NOTEBOOK, {**TINY, **parameters, "out_dir": str(tmp_path)}, tmp_path)
    predictions = pd.read_parquet(tmp_path / "predictions.parquet")
    contracts.check(predictions, contracts.PREDICTIONS)
    assert predictions["sample_id"].tolist() == [
        f"{key}_{start:%Y-%m-%d}" for key, start in zip(new["key"], new["start"], strict=True)
    ]
    assert predictions["predicted_m3_m3"].between(0, 1).all()
    assert predictions["observed_m3_m3"].isna().all()


DATA = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data") / "us_10day" / "matched_10day.parquet"


@pytest.mark.skipif(not DATA.is_file(), reason="SOILKIT_TEST_DATA holds no us_10day table")
def test_the_smap_line_reproduces_its_baseline_on_real_stations():
    """R 0.710, RMSE 0.073, ubRMSE 0.0417 as means over 86 stations (us_10day, 2-degree blocks)."""
    from soilkit.metrics import station_scores

    predictions = _block_predictions(SmapLinear(), "SMAP")
    scores = station_scores(predictions, min_samples=20)
    assert scores["rmse_m3_m3"].notna().sum() == 86
    # SMAP never changes at Kingston, so a line through it has no correlation there;
    # the baseline counts it as about zero.
    assert scores.loc[scores["r"].isna(), "station_id"].tolist() == ["USCRN/kingston1w"]
    assert scores["r"].sum() / 86 == pytest.approx(0.710, abs=0.002)
    assert scores["rmse_m3_m3"].mean() == pytest.approx(0.073, abs=0.001)
    assert scores["ubrmse_m3_m3"].mean() == pytest.approx(0.0417, abs=0.0005)


def _block_predictions(model, name):
    stations, samples, features = ten_day_table.with_season(ten_day_table.read_ten_day_table(DATA))
    sets = ten_day_table.predictor_sets(features)
    use = (samples["label_days"] >= 6) & features[sets["all"]].notna().all(axis=1)
    samples = samples[use].merge(stations[["station_id", "network", "latitude", "longitude"]])
    predicted = cross_predict(
        model,
        features.loc[use, sets[name]],
        y=samples["soil_moisture_m3_m3"],
        groups=splits.block_ids(samples),
    )
    return samples.assign(
        observed_m3_m3=samples["soil_moisture_m3_m3"],
        predicted_m3_m3=predicted,
        model=name,
        split="test",
    )
