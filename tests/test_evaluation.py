"""What an evaluation makes of a predictions table: rows, parts, and statuses for what lacks."""

import time

import numpy as np
import pandas as pd
import pytest

from soilkit.errors import ContractError
from soilkit.metrics import evaluation
from soilkit.metrics.evaluation.records import (
    Background,
    Case,
    NotAudited,
    audit_splits,
    is_missing,
    select_rows,
    shared_pixels,
    weakest,
)
from soilkit.metrics.evaluation.score_tables import baselines, main_model, triple
from soilkit.metrics.splits.checks import LADDER, Claim


def world(n_stations=8, n=80, *, noise, seed=0, step="10D", shared=0.02):
    """Stations far apart that share a season, and models that err by white noise [m3 m-3]."""
    rng = np.random.default_rng(seed)
    times = pd.date_range("2019-01-01", periods=n, freq=step).astype("datetime64[us]")
    season = 0.05 * np.sin(2 * np.pi * times.day_of_year.to_numpy() / 365.25)
    rows, places = [], []
    for k in range(n_stations):
        name = f"N{k % 2}__S{k}"
        observed = rng.uniform(0.1, 0.35) + season + shared * rng.standard_normal(n)
        place = {"latitude": 30.0 + 3 * (k % 4), "longitude": -120.0 + 3 * (k // 4)}
        place |= {"elevation_m": 100.0 * k, "depth_from_m": 0.0, "depth_to_m": 0.05}
        place |= {"land_cover": "", "koeppen": "", "texture": "", "station": f"S{k}"}
        ids = {"sensor_id": f"{name}__a", "station_id": name, "network": f"N{k % 2}"}
        places.append(ids | place)
        for model, error in noise.items():
            values = {"sample_id": [f"{name}_{i}" for i in range(n)], **ids, "time": times,
                      "observed_m3_m3": observed, "model": model, "split": "test",
                      "predicted_m3_m3": observed + error * rng.standard_normal(n)}  # fmt: skip
            rows.append(pd.DataFrame(values))
    return pd.concat(rows, ignore_index=True), pd.DataFrame(places)


def folds_of(predictions, by="station_id"):
    once = predictions.drop_duplicates("sample_id")
    return pd.Series(once[by].to_numpy(), index=once["sample_id"].to_numpy())


@pytest.fixture(scope="module")
def pair():
    return world(noise={"ours": 0.02, "SMAP": 0.06})


@pytest.fixture(scope="module")
def found(pair):
    predictions, stations = pair
    background = Background(folds={"test": folds_of(predictions)}, samples=predictions)
    return evaluation.evaluate(predictions, stations, label="made up", background=background)


def test_every_row_is_scored_or_lost_for_a_reason(pair):
    """80 rows of a training split, 3 repeats, 5 without observation, 2 infinite, 12 too few."""
    predictions, stations = pair
    ours = predictions[predictions["model"] == "ours"].reset_index(drop=True)
    trained = ours[:80].assign(split="train", sample_id=[f"t{k}" for k in range(80)])
    table = pd.concat([ours, ours[:3], trained], ignore_index=True)
    table.loc[10:14, "observed_m3_m3"] = np.nan
    table.loc[20:21, "predicted_m3_m3"] = [np.inf, np.nan]
    last = table.index[(table["station_id"] == "N1__S7") & (table["split"] == "test")]
    table = table.drop(last[12:])

    ev = evaluation.evaluate(table, stations, label="x")

    lost = ev.losses.set_index("reason")["n_rows"]
    assert lost.drop("rows of the table as it came").tolist() == [80, 3, 5, 2, 12]
    assert ev.handed_in == len(table) == len(ev.unseen) + lost.sum()
    assert ev.losses["n_left"].iloc[-1] == len(ev.unseen)
    assert ev.losses["n_stations_left"].iloc[-1] == ev.unseen["station_id"].nunique() == 7
    short = ev.scores.set_index("sensor_id")["status"]["N1__S7__a"]
    assert short == "too few samples: 12 < 13"


def test_what_a_reader_dropped_is_part_of_the_funnel(pair):
    predictions, _ = pair
    notes = pd.DataFrame({"status": ["read", "duplicate"], "n_rows": [1285, 5],
                          "n_dropped": [0, 5], "detail": ["", "kept: first"]})  # fmt: skip
    found = select_rows(predictions, "ours", audits={}, notes=notes)

    assert found.handed_in == len(predictions) + 5
    assert found.handed_in == len(found.unseen) + found.losses["n_rows"].sum()
    assert "duplicate: kept: first" in found.losses["reason"].tolist()


def test_a_model_is_scored_once_a_sample_whatever_its_splits(pair):
    predictions, _ = pair
    twice = pd.concat([predictions, predictions.assign(split="validation")], ignore_index=True)

    found = select_rows(twice, "ours", audits={})

    assert len(found.unseen) == len(predictions)
    assert found.unseen["split"].unique().tolist() == ["scored"]
    assert found.unseen["given_split"].unique().tolist() == ["test"]


def test_whoever_is_no_baseline_is_judged(pair):
    predictions, stations = pair
    smap_first = predictions.sort_values("model", key=lambda m: m != "SMAP", kind="stable")

    assert main_model(smap_first, None) == "ours"
    assert main_model(smap_first[:80], None) == "SMAP", "nothing else is there"
    with pytest.raises(ContractError, match="No model 'theirs'.*ours, SMAP"):
        evaluation.evaluate(predictions, stations, label="x", main="theirs")


def test_the_first_models_of_a_table_of_categories(found):
    """Of two categories one is asked for: the other's name is no fault."""
    table = found.unseen.astype({"model": "category"})
    assert found.first(table, 1)["model"].unique().tolist() == ["ours"]
    assert found.first(table[::-1])["model"].unique().tolist() == ["ours", "SMAP"]


def test_a_broken_table_is_refused(pair):
    predictions, stations = pair
    with pytest.raises(ContractError, match="lacks observed_m3_m3"):
        evaluation.evaluate(predictions.drop(columns="observed_m3_m3"), stations, label="x")
    with pytest.raises(ContractError, match="no rows"):
        evaluation.evaluate(predictions[:0], stations, label="x")


def test_comparisons_name_their_roles_and_the_training_season(found):
    """With folds known, the season of the stations that trained is a baseline of its own."""
    roles = found.comparison.drop_duplicates("model_b").set_index("model_b")["role"].to_dict()
    oracle = {"climatology of its own other years (oracle)": "oracle"}
    assert roles == {"SMAP": "smap", "training climatology": "climatology"} | oracle
    line = found.comparison.set_index(["model_b", "metric"]).loc[("SMAP", "ubrmse_m3_m3")]
    assert line["better"] == "ours" and line["difference"] == pytest.approx(-0.04, abs=0.004)


def test_the_training_season_knows_nothing_of_the_station_that_it_predicts(pair):
    """A station 0.5 wetter in its own fold leaves its climatology as it was."""
    predictions, _ = pair
    wet = predictions.copy()
    mine = wet["station_id"] == "N0__S0"
    wet.loc[mine, "observed_m3_m3"] += 0.5
    season = []
    for table in (predictions, wet):
        background = Background(folds={"test": folds_of(table)}, samples=table)
        unseen = select_rows(table, "ours", audits={}).unseen
        *_, made = baselines(Case("ours", unseen, None, None, background))  # training's is last
        season.append(made.set_index("sample_id")["predicted_m3_m3"])
    change = season[1] - season[0]
    there = change.index.str.startswith("N0__S0_")
    assert np.allclose(change[there], 0) and np.allclose(change[~there], 0.5 / 7)


def test_ten_day_windows_have_anomalies_and_the_raw_score_of_the_same_sensors(found):
    for table in (found.anomaly, found.rescaled):
        line = table[(table["model"] == "ours") & (table["metric"] == "r")].iloc[0]
        assert np.isfinite(line["mean"]) == np.isfinite(line["raw_mean"])
    line = found.anomaly[found.anomaly["metric"] == "r"].set_index("model").loc["ours"]
    line = line.iloc[0] if isinstance(line, pd.DataFrame) else line
    assert line["state"] == "anomaly: 70-day window"
    scored = found.main_scores
    raw = scored["r"].mean()
    assert line["n_sensors"] == len(scored) and line["raw_mean"] == pytest.approx(raw, abs=0.02)
    states = found.rescaled["state"].dropna().unique()
    assert any("in sample" in state for state in states)


def test_daily_values_have_anomalies_and_the_oracle_says_its_name():
    predictions, stations = world(2, 800, noise={"ours": 0.02}, step="1D")

    ev = evaluation.evaluate(predictions, stations, label="x")

    r = ev.anomaly[ev.anomaly["metric"] == "r"].set_index("state")["mean"]
    assert r["anomaly: 35-day window"] == pytest.approx(0.5**0.5, abs=0.05)
    assert any("(oracle)" in state for state in r.index)
    assert "oracle" in ev.comparison["role"].tolist()
    assert ev.rescaled["state"].str.contains("of its own other years|in sample").all()


def test_missing_parts_are_one_row_that_says_why(pair):
    """No stations, no spread, no classes, no features: no exception."""
    predictions, _ = pair
    ev = evaluation.evaluate(predictions[predictions["model"] == "ours"], None, label="x")

    for name in ("by_block", "comparison", "wins", "triple"):
        assert is_missing(getattr(ev, name)) and len(getattr(ev, name)) == 1, name
    assert ev.by_block["status"].iloc[0].startswith("2-degree blocks need the place")
    assert is_missing(ev.strata["texture"]) and not is_missing(ev.strata["network"])
    assert "no predicted standard deviation" in ev.calibration.status
    assert "no features" in ev.applicability.status
    assert ev.failures.status == "2-degree blocks need the place of every scored station"


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[t["station_id"] == "N0__S0"],
        lambda t: t.groupby(["model", "sensor_id"]).head(4),
        lambda t: t.assign(predicted_m3_m3=0.2),
        lambda t: t.assign(observed_m3_m3=0.2),
        lambda t: t.assign(observed_m3_m3=np.nan),
    ],
    ids=["one station", "four samples", "constant prediction", "constant reading", "no reading"],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_thin_tables_end_in_statuses_on_every_page(pair, change):
    predictions, stations = pair
    ours = predictions[predictions["model"] == "ours"]
    ev = evaluation.evaluate(change(ours), stations, label="x")

    assert ev.handed_in == len(ev.unseen) + ev.losses["n_rows"].sum()
    verdict = evaluation.verdict(ev)
    assert "yes" not in verdict["grade"].tolist()
    for page in (verdict, evaluation.protocol(ev), evaluation.checklist(ev)):
        assert page.notna().all(axis=None)
        assert not page.map(lambda words: "nan" in str(words).split()).any(axis=None)
    assert all(isinstance(words, str) for words in evaluation.cautions(ev))


def test_a_split_is_what_its_audit_allows(pair):
    """By station: unseen. By row: random rows, out as soon as another split is there."""
    predictions, stations = pair
    draws = np.random.default_rng(0).integers(5, size=640)
    by_row = pd.Series(draws, index=predictions["sample_id"].unique())
    rows = predictions.assign(split="shuffled")
    both = pd.concat([rows, predictions], ignore_index=True)
    folds = {"shuffled": by_row, "test": folds_of(predictions)}

    alone = audit_splits(rows, stations, background=Background(folds=folds))
    beside = evaluation.evaluate(both, stations, label="x", background=Background(folds=folds))

    assert alone["shuffled"].claim() == "random rows (leaky)"
    kept = select_rows(rows, "ours", audits=alone).unseen
    assert len(kept) == len(rows), "nothing else is there, so it is scored, and named"
    assert beside.claim == LADDER[2] and beside.is_unseen
    assert set(beside.unseen["given_split"]) == {"test"}
    failed = beside.audit_table.set_index("split")["failed"]
    assert "same station" in failed["shuffled"] and failed["test"] == ""


def test_nothing_is_unseen_that_nobody_could_audit(pair):
    predictions, stations = pair
    nothing = audit_splits(predictions, stations, background=Background())
    few = Background(folds={"test": folds_of(predictions)[:-1]})
    some = audit_splits(predictions, stations, background=few)

    assert nothing["test"].claim() == some["test"].claim() == Claim.NOT_AUDITABLE
    assert some["test"].reason == "1 of its 640 samples have no label"


def test_scored_samples_that_train_are_leaky_whatever_the_rest_says(pair):
    predictions, stations = pair
    labels = pd.Series("test", index=predictions["sample_id"].unique())
    labels.iloc[:7] = "train"
    found = audit_splits(predictions, stations, background=Background(folds={"test": labels}))
    assert found["test"].claim() == "leaky: 7 scored samples are among those that train"


def test_a_table_with_its_own_training_rows_is_audited_from_them(pair):
    predictions, stations = pair
    words = predictions["station_id"].isin(["N0__S0", "N1__S1"]).map({True: "train", False: "test"})
    table = predictions.assign(split=words)
    assert audit_splits(table, stations, background=Background())["test"].claim() == LADDER[2]

    names = stations["station_id"].isin(["N0__S0", "N1__S1"])
    near = stations.assign(latitude=stations["latitude"].where(names, 30.001))
    near["longitude"] = near["longitude"].where(names, -120.001)
    found = audit_splits(table, near, background=Background())["test"].claim()
    assert found == LADDER[1], "stations in one pixel with a training one are no unseen places"


def test_the_weakest_split_decides():
    times, stations, networks, unknown, leaky, random = (
        NotAudited(name, "", claim)
        for name, claim in (
            ("times", Claim.TIMES), ("stations", LADDER[1]), ("networks", LADDER[3]),
            ("unknown", Claim.NOT_AUDITABLE), ("leaky", Claim.LEAKY), ("rows", Claim.RANDOM_ROWS),
        )
    )  # fmt: skip
    assert weakest([networks, stations]) is stations
    assert weakest([stations, times]) is times
    assert weakest([networks, unknown]) is unknown
    assert weakest([unknown, leaky]) is leaky
    assert weakest([random, leaky]) is random, "of leaky ones the first"
    assert weakest([]).level is Claim.NOT_AUDITABLE


def test_stations_in_one_coarse_pixel_are_named(pair):
    """Four stations within 0.02 degrees share each grid's pixel; a copied series tells alike."""
    predictions, stations = pair
    near = stations.copy()
    near.loc[:3, ["latitude", "longitude"]] = np.array([[30.05, -98.05]] * 4) + [
        [0.0, 0.0], [0.01, 0.0], [0.0, 0.01], [0.01, 0.01],
    ]  # fmt: skip
    once = predictions.drop_duplicates("sample_id")
    number = pd.factorize(once["station_id"])[0]
    series = np.where(number < 4, 0.0, 1.0 * number) + once.groupby("station_id").cumcount()
    features = pd.DataFrame({"sample_id": once["sample_id"], "smap_ssm": series})
    background = Background(features=features, coarse_columns=("smap_ssm",))

    table = shared_pixels(Case("ours", predictions, None, near, background))

    told = table[table["network"] == "N0"].set_index("pixel")[["n_stations", "n_pixels"]]
    assert told.loc["SMAP10KM, 0.1 degrees"].tolist() == [4, 3]
    assert told.loc["smap_ssm (one series)"].tolist() == [4, 3]
    assert (table["n_sharing"] == 2).all()


def test_the_map_is_judged_by_its_mean_over_dates():
    """Right levels and no daily skill: the static part has R 1, the dynamic part none."""
    predictions, stations = world(16, 60, noise={"ours": 0.0}, shared=0.03)
    stations["latitude"] = 30.0 + 3 * np.arange(16) % 24
    stations["longitude"] = -120.0 + 3 * (np.arange(16) // 8)
    level = predictions.groupby("station_id")["observed_m3_m3"].transform("mean")
    rng = np.random.default_rng(1)
    predictions["predicted_m3_m3"] = level + 0.01 * rng.standard_normal(len(predictions))

    parts = evaluation.evaluate(predictions, stations, label="x").spatial_mean.set_index("part")

    assert parts["r"]["static"] > 0.999
    assert parts["lower"]["dynamic"] < 0 < parts["upper"]["dynamic"]
    assert (parts["n_dates"] == 60).all()


def test_distance_from_training_follows_the_folds(pair):
    """One station whose inputs lie far from all others is outside, each fold by the others."""
    predictions, stations = pair
    once = predictions.drop_duplicates("sample_id").reset_index(drop=True)
    rng = np.random.default_rng(0)
    features = pd.DataFrame({"sample_id": once["sample_id"], "a": rng.standard_normal(len(once)),
                             "b": rng.standard_normal(len(once))})  # fmt: skip
    odd = once["station_id"] == "N1__S3"
    features.loc[odd, "a"] += 50
    background = Background(
        folds={"test": folds_of(predictions)},
        samples=once,
        features=features,
        predictors=("a", "b"),
    )
    found = evaluation.evaluate(predictions, stations, label="x", background=background)

    measured, odd = found.applicability.measured, found.pairs["station_id"] == "N1__S3"
    assert not measured.loc[odd, "is_inside"].any()
    assert measured.loc[~odd, "is_inside"].mean() > 0.9
    assert found.applicability.share_inside[0] < 0.9
    assert "outside" in found.applicability.skill["side"].tolist()


def test_triple_collocation_is_refused_where_sources_are_shared(pair):
    predictions, stations = pair
    sources = {"ours": ("sentinel1", "smap"), "SMAP": ("smap",)}
    refused, unnamed = (
        triple(Case("ours", predictions, None, stations, Background(sources=given)))
        for given in (sources, {})
    )
    assert is_missing(refused) and "needs independent errors" in refused["status"].iloc[0]
    assert "Series ours names no source: say what went" in unnamed["status"].iloc[0]


@pytest.mark.slow
def test_a_large_table_takes_less_than_a_minute():
    predictions, stations = world(
        150, 1000, noise={"ours": 0.02, "SMAP": 0.06, "third": 0.04}, step="1D"
    )
    start = time.process_time()
    evaluation.evaluate(predictions, stations, label="x")
    assert time.process_time() - start < 60
