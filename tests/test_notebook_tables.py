"""Notebook 24 with two tables: one trains, every row of the other gets a prediction."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from papermill import PapermillExecutionError

from soilkit import contracts
from soilkit.export import ten_day_table as ten_day
from soilkit.show import reports

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "24_tabular_baselines.ipynb"
SMALL = {"preset": "small", "epochs": 2}


def ten_day_table(n_stations, *, first=0, n_windows=24):
    """Windows of invented stations, each in a block of its own, wetness told by SMAP and VV."""
    rng = np.random.default_rng(first)
    rows = pd.MultiIndex.from_product([range(first, first + n_stations), range(n_windows)])
    station, window = (rows.get_level_values(k).to_numpy() for k in (0, 1))
    wet = np.sin(window / 4 + station) + rng.normal(0, 0.3, len(rows))
    noise = {
        name: rng.normal(2000, 300, len(rows))
        for name in ten_day.FEATURE_NAMES
        if name.startswith("B")
    }
    return pd.DataFrame(
        {
            "key": [f"NET/s{k}" for k in station], "network": "NET",
            "station": [f"s{k}" for k in station], "lat": 30.5 + station % 10,
            "lon": -110.5 + 2.0 * station, **noise,
            "start": pd.Timestamp("2019-01-05") + pd.to_timedelta(10 * window, unit="D"),
            "VV": -12 + 2 * wet, "VH": -19 + wet, "angle": 38.0,
            "smap_usda_ssm_mm": 12 + 4 * wet, "mtpi": station % 5 - 2.0,
            "field_capacity_pct": 25.0 + station % 7, "nlcd_mean": 71.0,
            "elevation_m": 300.0 + 10 * station, "sm_days": 10.0,
            "sm_insitu": (0.2 + 0.01 * (station % 7) + 0.05 * wet).clip(0.02, 0.5),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Paths of a table that trains, and of one with other stations, gaps and no label."""
    folder = tmp_path_factory.mktemp("tables")
    ten_day_table(12).to_parquet(folder / "train.parquet")
    new = ten_day_table(4, first=20).drop(columns=["sm_insitu", "sm_days", "elevation_m"])
    new.loc[::3, ["VV", "VH", "angle"]] = np.nan
    new.loc[5, [name for name in ten_day.FEATURE_NAMES if name in new]] = np.nan
    new.to_parquet(folder / "new.parquet")
    return folder


@pytest.mark.filterwarnings("ignore")
def test_every_row_of_a_table_without_labels_gets_a_prediction_and_an_interval(tables):
    """Gaps, absent columns and a row that knows nothing are no reason to leave a row out."""
    out = tables / "out"
    parameters = {
        "train_table": str(tables / "train.parquet"), "predict_table": str(tables / "new.parquet"),
        "out_dir": str(out),
    }  # fmt: skip
    reports.run(NOTEBOOK, parameters | SMALL, tables / "report")
    made = pd.read_parquet(out / "predictions.parquet")
    contracts.check(made, contracts.PREDICTIONS)
    assert len(made) == 4 * 24
    assert made["model"].nunique() == 1
    assert made["predicted_m3_m3"].between(0, 1).all()
    assert made["observed_m3_m3"].isna().all()
    assert (made["lower_m3_m3"] < made["predicted_m3_m3"]).all()
    assert (made["predicted_m3_m3"] < made["upper_m3_m3"]).all()
    truth = ten_day.read_ten_day_table(tables / "new.parquet").samples[["sample_id"]]
    assert set(truth["sample_id"]) == set(made["sample_id"])
    wet = ten_day_table(4, first=20)["sm_insitu"].to_numpy()
    order = truth.merge(made, on="sample_id")["predicted_m3_m3"]
    assert np.corrcoef(order, wet)[0, 1] > 0.8


def test_stations_that_train_are_not_scored(tables):
    """A score at a station that trained is no test: the audit refuses the table by name."""
    path = str(tables / "train.parquet")
    parameters = {"train_table": path, "predict_table": path, "out_dir": str(tables / "leak")}
    with pytest.raises(PapermillExecutionError, match="may be called 'unseen stations'"):
        reports.run(NOTEBOOK, parameters | SMALL, tables / "refused")


@pytest.mark.filterwarnings("ignore")
def test_a_table_with_labels_of_other_stations_is_scored(tables):
    """Windows without a label, or with one of few days, count as unlabelled; the rest is scored."""
    labelled = ten_day_table(4, first=30)
    labelled.loc[::5, "sm_insitu"] = np.nan
    labelled.loc[1::5, ["sm_insitu", "sm_days"]] = 0.9, 2.0
    labelled.to_parquet(tables / "labelled.parquet")
    parameters = {
        "train_table": str(tables / "train.parquet"), "out_dir": str(tables / "scored"),
        "predict_table": str(tables / "labelled.parquet"),
    }  # fmt: skip
    page = reports.run(NOTEBOOK, parameters | SMALL, tables / "scored_report")
    made = pd.read_parquet(tables / "scored" / "predictions.parquet")
    assert made["observed_m3_m3"].notna().sum() == (np.arange(4 * 24) % 5 > 1).sum()
    scores = pd.read_csv(page.with_suffix("") / "station_scores.csv")
    blend = scores[scores["model"].str.startswith("blend")].set_index("sensor_id")["n"]
    told = made.groupby("sensor_id")["observed_m3_m3"].count()
    assert blend.sort_index().tolist() == told.sort_index().tolist()
