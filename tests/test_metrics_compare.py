"""One model against several on equal terms: differences, many tests at once, wins and baselines."""

import numpy as np
import pandas as pd
import pytest

from soilkit import metrics
from soilkit.errors import ContractError
from soilkit.metrics import anomalies, comparison
from soilkit.metrics.comparison import studentized

START = np.datetime64("2020-01-01", "us")
N_DAYS = 60


def table(observed, predicted, *, model="m", network="N"):
    """A predictions table; rows of ``observed`` are stations of one sensor, columns are days."""
    observed, predicted = np.broadcast_arrays(np.atleast_2d(observed), predicted)
    m, n = observed.shape
    station = np.repeat([f"{network}__S{i:03d}" for i in range(m)], n)
    return pd.DataFrame(
        {
            "sample_id": [f"{s}@{i % n}" for i, s in enumerate(station)],
            "sensor_id": [f"{s}__P__0__5" for s in station],
            "station_id": station,
            "network": network,
            "time": np.tile(START + np.arange(n) * np.timedelta64(1, "D"), m),
            "observed_m3_m3": observed.ravel().astype(float),
            "predicted_m3_m3": predicted.ravel().astype(float),
            "model": model,
            "split": "test",
        }
    )


def places(predictions, **columns):
    """One station in each 2-degree block along a parallel."""
    keys = predictions.drop_duplicates("sensor_id")[["sensor_id", "station_id"]]
    where = {"latitude": 35.0, "longitude": -119 + 2.0 * np.arange(len(keys))}
    return keys.assign(**where, **columns).reset_index(drop=True)


def noisy(rng, observed, *, sd, model):
    """A model whose error is white noise of standard deviation ``sd``."""
    return table(observed, observed + sd * rng.standard_normal(observed.shape), model=model)


def truth(rng, n_stations=20):
    return 0.2 + 0.05 * rng.standard_normal((n_stations, N_DAYS))


# Several comparisons at once


def test_holm_by_hand():
    """Four tests by hand: 4, 3, 2 and 1 times the p-values in rising order, never falling again."""
    # Sorted .005 .01 .03 .04: 4 * .005 = .02, 3 * .01 = .03, 2 * .03 = .06, then .04 -> .06.
    found = comparison.adjust([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06, 0.02], rtol=1e-14)
    assert comparison.adjust([0.5, 0.9]).tolist() == [1.0, 1.0]


def test_what_was_not_tested_does_not_count():
    """A comparison without a p-value keeps none, and makes the others no harsher."""
    with_gap = comparison.adjust([0.01, np.nan, 0.03])
    assert np.isnan(with_gap[1])
    np.testing.assert_array_equal(with_gap[[0, 2]], comparison.adjust([0.01, 0.03]))


def test_all_models_are_compared_on_the_samples_that_all_have():
    """A day that the third model lacks does not count for the first two either."""
    rng = np.random.default_rng(0)
    observed = truth(rng)
    a = noisy(rng, observed, sd=0.02, model="a")
    b = noisy(rng, observed, sd=0.04, model="b")
    c = noisy(rng, observed, sd=0.02, model="c")
    c.loc[c.index % 4 == 0, "predicted_m3_m3"] = np.nan
    found = metrics.compare(a, [b, c.sample(frac=1, random_state=0)], stations=places(a))
    shared = a[a.index % 4 != 0]
    assert set(found["n_samples"]) == {len(shared)}
    line = found.set_index(["metric", "model_b"]).loc[("ubrmse_m3_m3", "b")]
    expected = metrics.point_scores(shared)["ubrmse_m3_m3"].mean()
    assert line["mean_a"] == pytest.approx(expected, abs=1e-12)
    together = metrics.compare(a, pd.concat([b, c]), stations=places(a))
    pd.testing.assert_frame_equal(found, together)


def test_the_better_model_is_named_and_an_equal_one_is_not():
    """Half the noise is better in R and in the errors; the same noise is not told apart."""
    rng = np.random.default_rng(1)
    observed = truth(rng)
    a = noisy(rng, observed, sd=0.02, model="a")
    worse = noisy(rng, observed, sd=0.04, model="worse")
    equal = noisy(rng, observed, sd=0.02, model="equal")
    chosen = ("r", "ubrmse_m3_m3")
    found = metrics.compare(a, [worse, equal], stations=places(a), metrics=chosen)
    found = found.set_index(["metric", "model_b"])
    for metric, sign in (("r", 1), ("ubrmse_m3_m3", -1)):
        line = found.loc[(metric, "worse")]
        assert line["better"] == "a" and sign * line["difference"] > 0
        assert sign * line["lower"] > 0 and sign * line["upper"] > 0
        assert found.loc[(metric, "equal"), "better"] == ""
    other_way = metrics.compare(worse, [a], stations=places(a), metrics=chosen)
    assert set(other_way["better"]) == {"a"}


def test_more_comparisons_ask_for_more_evidence():
    """Holm's smallest p-value is multiplied by the number of lines, that of one line by one."""
    rng = np.random.default_rng(2)
    observed = truth(rng)
    a, b = (noisy(rng, observed, sd=0.02, model=name) for name in "ab")
    holm = metrics.compare(a, [b], stations=places(a))
    smallest = holm["p_value"].min()
    assert holm["p_adjusted"].min() == pytest.approx(min(1, 4 * smallest))


def test_an_interval_and_its_p_value_agree():
    """The 95 % interval excludes zero where p is below 0.05, and nowhere else."""
    rng = np.random.default_rng(3)
    cluster = np.repeat(np.arange(8), 3)
    seen = set()
    for shift in np.linspace(0, 1, 30):
        found, status = studentized(shift + rng.standard_normal(24), cluster, rng=rng, n_draws=999)
        excludes = found["lower"] > 0 or found["upper"] < 0
        assert excludes == (found["p_value"] < 0.05) and status == "ok"
        seen.add(excludes)
    assert seen == {True, False}


def test_each_draw_is_measured_by_its_own_error():
    """Small-block errors with one huge outlier: an unstudentised bootstrap would reach too far.

    t* has tails far heavier than the normal's where one of seven blocks decides everything, so
    the interval is wider than the normal one with the same standard error, in the known ratio.
    """
    values = np.array([0.0, 0.1, -0.1, 0.05, -0.05, 0.02, 5.0])
    found, _ = studentized(values, np.arange(7), rng=np.random.default_rng(0))
    error = values.std(ddof=1) / np.sqrt(7)
    # Draws without the outlier, (6/7)^7 = 34 % of them, lie about 0.72 below the mean with a
    # spread of 0.02: their |t*| is above 20, and the 95 % quantile is one of theirs.
    assert (found["upper"] - found["lower"]) / (2 * error) > 20
    assert found["p_value"] > 0.3


@pytest.mark.parametrize(
    "n_trials", [150, pytest.param(2000, marks=pytest.mark.slow)], ids=["short", "full"]
)
def test_few_blocks_do_not_find_what_is_not_there(n_trials):
    """Ten blocks of unequal size: a true zero is rejected in 4 % of trials, not in 10 %."""
    rng = np.random.default_rng(4)
    rejected = 0
    for _ in range(n_trials):
        cluster = np.repeat(np.arange(10), rng.integers(1, 8, 10))
        values = 0.5 * rng.standard_normal(10)[cluster] + 0.5 * rng.standard_normal(len(cluster))
        found, _ = studentized(values, cluster, rng=rng, n_draws=499)
        rejected += found["p_value"] <= 0.05
    # Its own rate is 0.04, a little careful; percentiles of the same draws would reject 0.10.
    # Three binomial standard errors are 0.048 at 150 trials and 0.013 at 2000.
    assert rejected / n_trials == pytest.approx(0.04, abs=3 * np.sqrt(0.04 * 0.96 / n_trials))


def test_what_cannot_be_tested_says_why():
    """A constant baseline has no R, a copy no difference, four blocks no interval."""
    rng = np.random.default_rng(5)
    observed = truth(rng)
    a = noisy(rng, observed, sd=0.02, model="a")
    flat = table(observed, 0.2, model="flat")
    copy = a.assign(model="copy")
    found = metrics.compare(a, [flat, copy], stations=places(a), metrics=["r"])
    assert found["status"].tolist() == [
        "no sensor has this score in both with 13 common samples; they share 1,200 of 1,200",
        "the scores are identical",
    ]
    assert np.isnan(found["p_value"][0]) and found["p_value"][1] == 1
    shifted = a.assign(model="off", predicted_m3_m3=observed.ravel() + 0.05)
    exact = a.assign(predicted_m3_m3=observed.ravel() + 0.01)
    line = metrics.compare(exact, shifted, stations=places(a), metrics=["bias_m3_m3"]).iloc[0]
    assert line["status"] == "no test: the difference is the same in every block"
    assert line["difference"] == pytest.approx(-0.04, abs=1e-12) and line["better"] == ""
    near = places(a).assign(longitude=-119 + 2.0 * (np.arange(20) % 4))
    few = metrics.compare(a, copy, stations=near, metrics=["r"]).iloc[0]
    assert few["status"] == "no test: 4 blocks < 5" and few["n_blocks"] == 4


def test_unfair_comparisons_are_refused():
    """A model given twice, none at all, several as the first."""
    rng = np.random.default_rng(6)
    a = noisy(rng, truth(rng), sd=0.02, model="a")
    with pytest.raises(ContractError, match="given twice"):
        metrics.compare(a, [a], stations=places(a))
    with pytest.raises(ContractError, match="at least one other"):
        metrics.compare(a, [], stations=places(a))
    both = pd.concat([a, a.assign(model="b")])
    with pytest.raises(ContractError, match="one model with one other"):
        metrics.compare(both, [a.assign(model="c")], stations=places(a))


# Wins


def contest(errors):
    """A table of models whose bias at station i is errors[model][i]; equal days throughout."""
    n = len(next(iter(errors.values())))
    observed = np.tile(np.linspace(0.1, 0.3, 15), (n, 1))
    parts = [
        table(observed, observed + np.array(e)[:, None], model=name) for name, e in errors.items()
    ]
    return pd.concat(parts, ignore_index=True)


def test_stations_won_head_to_head():
    """Biases of three models at four stations, and a tie that nobody wins."""
    predictions = contest(
        {"a": [0.01, 0.01, 0.05, 0.02], "b": [-0.02, 0.03, 0.01, 0.02], "c": [0.09] * 4}
    )
    sites = comparison.site_scores(predictions, metrics=["bias_m3_m3"])
    pairs = comparison.win_counts(sites).set_index(["model_a", "model_b"])
    # a wins at the first and second, b at the third, the fourth is a tie; both beat c everywhere.
    assert pairs.loc[("a", "b"), ["wins_a", "wins_b"]].tolist() == [2, 1]
    assert pairs.loc[("a", "c"), ["wins_a", "wins_b", "ties"]].tolist() == [4, 0, 0]
    points = comparison.class_points(sites, places(predictions, texture="Loam"), by=["texture"])
    # The tie gives half a point to each.
    assert points.set_index("model")["points"].to_dict() == {"a": 2.5, "b": 1.5, "c": 0.0}


def test_every_class_weighs_the_same():
    """Six stations of loam won by a and b at 5 : 1, one of clay won by b: b leads with 1.2 : 1."""
    predictions = contest(
        {"a": [0.01] * 5 + [0.03, 0.03], "b": [0.02] * 5 + [0.01, 0.01]},
    )
    stations = places(predictions[predictions["model"] == "a"], texture=["Loam"] * 6 + ["Clay"])
    sites = comparison.site_scores(predictions, metrics=["rmse_m3_m3"])
    points = comparison.class_points(sites, stations, by=["texture"])
    found = points.set_index(["class", "model"])
    # Loam: a 5 points -> 1, b 1 point -> 1/5. Clay: b 1 point -> 1, a 0.
    assert found.loc[("Loam", "a"), ["points", "normalized"]].tolist() == [5, 1]
    assert found.loc[("Loam", "b"), "normalized"] == pytest.approx(0.2)
    assert found.loc[("Clay", "a"), "normalized"] == 0
    assert found.loc["Clay"]["is_small"].all() and not found.loc["Loam"]["is_small"].any()
    total = comparison.normalized_wins(points).set_index("model")
    assert total["total"].to_dict() == pytest.approx({"a": 1.0, "b": 1.2})
    assert total["share"].to_dict() == pytest.approx({"a": 0.5, "b": 0.6})
    large = comparison.normalized_wins(points, include_small=False).set_index("model")["total"]
    assert large.to_dict() == pytest.approx({"a": 1.0, "b": 0.2})


def test_characteristics_add_up_and_unknown_classes_count_in_none():
    """Texture and land cover are counted one after the other; an empty class is no class."""
    predictions = contest({"a": [0.01, 0.03], "b": [0.02, 0.01]})
    stations = places(
        predictions[predictions["model"] == "a"],
        texture=["Loam", ""], land_cover=["Shrubs", "Shrubs"],
    )  # fmt: skip
    sites = comparison.site_scores(predictions, metrics=["rmse_m3_m3"])
    points = comparison.class_points(sites, stations, by=["texture", "land_cover"])
    total = comparison.normalized_wins(points).set_index("model")
    # Loam: a. Shrubs: one each, both normalised to 1. The station without texture is not "".
    assert total["total"].to_dict() == {"a": 2.0, "b": 1.0}
    assert set(total["n_classes"]) == {2}
    with pytest.raises(ContractError, match="lacks koeppen"):
        comparison.class_points(sites, stations)


def test_a_station_counts_where_all_models_have_the_score():
    """One model's gap takes the station from all, and the table says how many are missing."""
    predictions = contest({"a": [0.01, 0.01, 0.01], "b": [0.02, 0.02, 0.02]})
    gone = (predictions["model"] == "b") & (predictions["station_id"] == "N__S001")
    predictions.loc[gone, "predicted_m3_m3"] = np.nan
    sites = comparison.site_scores(predictions, metrics=["rmse_m3_m3"])
    assert sites["station_id"].tolist() == ["N__S000", "N__S002"]
    assert sites.attrs == {"n_stations": 3, "unscored": {"rmse_m3_m3": 1}}
    with pytest.raises(ContractError, match="at least two models"):
        comparison.site_scores(predictions[predictions["model"] == "a"])


def test_a_constant_model_leaves_the_contest_of_r_to_the_others():
    """R of a constant exists nowhere: the other two are judged, and the errors have all three."""
    predictions = contest({"a": [0.01, 0.01], "b": [0.02, 0.02], "flat": [0.0, 0.0]})
    flat = predictions["model"] == "flat"
    predictions.loc[flat, "predicted_m3_m3"] = 0.2
    sites = comparison.site_scores(predictions, metrics=["r", "rmse_m3_m3"])
    points = comparison.class_points(sites, places(predictions, texture="Loam"), by=["texture"])
    models = points.groupby("metric")["model"].agg(list).to_dict()
    assert models == {"r": ["a", "b"], "rmse_m3_m3": ["a", "b", "flat"]}
    pairs = comparison.win_counts(sites)
    assert pairs["metric"].value_counts().to_dict() == {"rmse_m3_m3": 3, "r": 1}
    first = predictions.iloc[np.argsort(~flat, kind="stable")]
    sites = comparison.site_scores(first, metrics=["r", "rmse_m3_m3"])
    assert list(sites.columns[3:]) == ["flat", "a", "b"], "models stand as they came"


# Baselines


def test_a_training_climatology_counts_stations_not_rows():
    """A station with ten times the rows does not decide the mean."""
    wanted = table(np.full((1, 10), 0.3), 0.3)
    training = pd.DataFrame(
        {"station_id": ["x"] * 10 + ["y"], "time": START, "observed_m3_m3": [0.1] * 10 + [0.3]}
    )
    found = anomalies.training_climatology(wanted, training)
    np.testing.assert_allclose(found["predicted_m3_m3"], 0.2, rtol=1e-12)
    with pytest.raises(ContractError, match="training baseline needs"):
        anomalies.training_climatology(wanted, training.assign(observed_m3_m3=np.nan))


def test_a_training_climatology_knows_the_season_and_no_other():
    """A wave of the year comes back, damped by the window of 31 days; beyond it nothing is said."""
    days = np.arange(730)
    wave = 0.2 + 0.1 * np.cos(2 * np.pi * days / 365.25)
    training = table(wave[None, :], 0.0)
    found = anomalies.training_climatology(training, training)["predicted_m3_m3"].to_numpy()
    # A running mean over w = 31 days damps a wave by sin(pi w / 365) / (w sin(pi / 365)) = 0.988.
    damped = 0.2 + 0.988 * (wave - 0.2)
    np.testing.assert_allclose(found, damped, atol=0.002)
    # One value on the last of December speaks for the first of January, across the year's end.
    eve = training[training["time"].dt.dayofyear == 366]
    first = anomalies.training_climatology(training[:1], eve)["predicted_m3_m3"].item()
    assert first == pytest.approx(eve["observed_m3_m3"].mean())
    january = training[training["time"].dt.month == 1]
    july = training[training["time"].dt.month == 7]
    assert anomalies.training_climatology(july, january)["predicted_m3_m3"].isna().all()
