"""How often the intervals hold the truth, on series whose truth is given, and on real halves.

Writes ``reports/coverage/coverage.csv``, one row a kind of series, method, length, lag-1
correlation, true R and metric::

    python -m tests.benchmarks.coverage                 # the full study, some minutes
    python -m tests.benchmarks.coverage --n-series 200 --out coverage.csv

Column ``data`` says "synthetic" where no soil was measured. Rows of "SCAN" stand on daily stations
of $SOILKIT_TEST_DATA; of those every second one chose the intervals' rule, the others stand here.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.signal import lfilter
from scipy.special import gammaln

from soilkit import metrics
from soilkit.metrics import intervals

START, DAY = np.datetime64("2018-01-01", "us"), np.timedelta64(1, "D")
SCALE, OFFSET = 0.06, 0.03  # m3 m-3
KINDS = ("autoregressive", "seasonal", "dry-down", "two-speed errors", "drifting errors")
CHANGING, CHANGING_LENGTHS = "relation changes by year", (1000, 2000, 3000)
METHODS = ("product", "gruber", "i.i.d.", "moving block")
LAG_ONES, LENGTHS, TRUE_RS = (0.0, 0.5, 0.8, 0.9, 0.95), (100, 365, 1000), (0.3, 0.8)
WHITE_LAG_ONE, SOIL_LAG_ONE = 0.3, 0.8  # of fast errors, and of soil under errors that drift
COLUMNS = [
    "data", "kind", "method", "metric", "n", "lag_1", "true_r", "coverage", "standard_error",
    "share_given", "n_effective", "n_series", "n_clusters", "confidence",
]  # fmt: skip


def autoregressive(rng, *, shape, rho):
    """Unit-variance first-order autoregressive series, (series, day)."""
    noise = rng.standard_normal(shape)
    noise[:, 1:] *= np.sqrt(1 - rho**2)
    return lfilter([1], [1, -rho], noise, axis=1)


def dry_downs(rng, *, shape, rho, n_before=400):
    """Standardised sawtooth series that rain fills and days empty, (series, day).

    s' = k s (1 - j) + j, where j is the share of the deficit that a day's rain fills, zero on dry
    days: bounded, skewed, and of lag-1 correlation k (1 - E j) exactly; so are mean and variance.
    """
    mean_fill = 0.4 * (1 - rho)  # of all days; half the deficit a rainy day
    keep = rho / (1 - mean_fill)
    is_rain = rng.random((shape[0], shape[1] + n_before)) < 2 * mean_fill
    fill = np.where(is_rain, rng.uniform(0.1, 0.9, is_rain.shape), 0)
    storage, series = np.full(shape[0], 0.4), np.empty(is_rain.shape)
    for day in range(is_rain.shape[1]):
        storage = keep * storage * (1 - fill[:, day]) + fill[:, day]
        series[:, day] = storage
    square_fill = 2 * mean_fill * (0.25 + 0.8**2 / 12)
    mean = mean_fill / (1 - rho)
    square = (2 * keep * mean * (mean_fill - square_fill) + square_fill) / (
        1 - keep**2 * (1 - 2 * mean_fill + square_fill)
    )
    return (series[:, n_before:] - mean) / np.sqrt(square - mean**2)


def pairs(kind, rng, *, shape, rho, r):
    """Observed and predicted series (series, day) of a kind, and their true scores.

    Truth is that of the process; of the seasonal kind, that of the process about the season as it
    was sampled, since a season is no accident.
    """
    if kind == "dry-down":
        x, noise = (f(rng, shape=shape, rho=rho) for f in (dry_downs, autoregressive))
        slope = 0.8  # a prediction of too small amplitude
        error = slope * np.sqrt(1 / r**2 - 1)
        return _scaled(x, slope * x + error * noise, r=r, scatter=np.hypot(1 - slope, error))
    if kind == "drifting errors":  # half the noise is slow, and no part of the observations
        lag_ones = (SOIL_LAG_ONE, rho, WHITE_LAG_ONE)
        x, slow, fast = (autoregressive(rng, shape=shape, rho=k) for k in lag_ones)
        noise = np.sqrt(0.5) * (slow + fast)
        return _scaled(x, r * x + np.sqrt(1 - r**2) * noise, r=r, scatter=np.sqrt(2 - 2 * r))
    x = autoregressive(rng, shape=shape, rho=rho)
    noise_rho = WHITE_LAG_ONE if kind == "two-speed errors" else rho
    noise = autoregressive(rng, shape=shape, rho=noise_rho)
    y = r * x + np.sqrt(1 - r**2) * noise
    if kind != "seasonal":
        return _scaled(x, y, r=r, scatter=np.sqrt(2 - 2 * r))
    phase = rng.uniform(0, 2 * np.pi, (shape[0], 1))
    season = np.sqrt(0.5) * np.sin(2 * np.pi * np.arange(shape[1]) / 365 + phase)
    variance = season.var(axis=1)
    true_r = (0.8 * variance + r) / np.sqrt((variance + 1) * (0.64 * variance + 1))
    scatter = np.sqrt(0.04 * variance + 2 - 2 * r)
    shift = -0.2 * season.mean(axis=1)
    return _scaled(x + season, y + 0.8 * season, r=true_r, scatter=scatter, shift=shift)


def changing_years(rng, *, shape, rho, r):
    """Series (series, day) whose slope, level and variance are drawn anew each year, and their R.

    Slopes are lognormal (0.5), the observations' spreads too (0.3), levels normal (0.56): with the
    moments E s = exp(0.125), E s^2 = exp(0.5) and E v = exp(0.18), R is that of an endless series.
    """
    x, noise = (autoregressive(rng, shape=shape, rho=k) for k in (rho, min(rho, SOIL_LAG_ONE)))
    years = rng.standard_normal((3, shape[0], shape[1] // 365 + 1))
    slope, spread, level = np.repeat(years, 365, axis=2)[:, :, : shape[1]]
    x = x * np.exp(0.3 * spread)
    y = r * np.exp(0.5 * slope) * x + np.sqrt(1 - r**2) * noise + 0.56 * level
    variance_x = np.exp(0.18)
    variance_y = r**2 * np.exp(0.5) * variance_x + 1 - r**2 + 0.56**2
    true_r = r * np.exp(0.125) * np.sqrt(variance_x / variance_y)
    return 0.25 + SCALE * x, 0.25 + SCALE * y, {"r": true_r}


def _scaled(x, y, *, r, scatter, shift=0.0):
    bias = OFFSET + SCALE * shift
    truth = {
        "r": r,
        "ubrmse_m3_m3": SCALE * scatter,
        "rmse_m3_m3": np.hypot(SCALE * scatter, bias),
        "bias_m3_m3": bias,
    }
    return 0.25 + SCALE * x, 0.25 + OFFSET + SCALE * y, truth


def predictions(observed, predicted):
    """A predictions table of daily series; rows are sensors in the order given."""
    n_series, n = observed.shape
    ids = pd.Categorical.from_codes(
        np.repeat(np.arange(n_series), n), [f"N__S{i:05d}__P__0__5" for i in range(n_series)]
    )
    zeros = np.zeros(n_series * n, int)
    words = {"network": "N", "model": "m", "split": "test"}
    return pd.DataFrame(
        {
            "sample_id": np.arange(n_series * n).astype(str),
            "sensor_id": ids,
            "station_id": ids,
            "time": np.tile(START + np.arange(n) * DAY, n_series),
            "observed_m3_m3": observed.ravel(),
            "predicted_m3_m3": predicted.ravel(),
            **{name: pd.Categorical.from_codes(zeros, [word]) for name, word in words.items()},
        }
    )


def scored(table, method):
    """Scores with the intervals of a method."""
    if method == "moving block":
        return metrics.block_bootstrap(table)
    if method != "i.i.d.":
        return metrics.station_scores(table, r_interval=method)
    scores = metrics.station_scores(table)
    half = 1.96 / np.sqrt(scores["n"] - 3)
    scores["r_lower"] = np.tanh(np.arctanh(scores["r"]) - half)
    scores["r_upper"] = np.tanh(np.arctanh(scores["r"]) + half)
    half = 1.96 * scores["ubrmse_m3_m3"] / np.sqrt(scores["n"])
    scores["bias_m3_m3_lower"] = scores["bias_m3_m3"] - half
    scores["bias_m3_m3_upper"] = scores["bias_m3_m3"] + half
    return scores.drop(columns=["ubrmse_m3_m3_lower", "rmse_m3_m3_lower"])


def coverages(scores, truth):
    """Per metric the share of the given intervals that hold the truth, and the share given."""
    rows = []
    for metric, value in truth.items():
        if f"{metric}_lower" not in scores:
            continue
        lower, upper = scores[f"{metric}_lower"].to_numpy(), scores[f"{metric}_upper"].to_numpy()
        given = np.isfinite(lower)
        holds = ((lower <= value) & (value <= upper))[given]
        rate = holds.mean() if len(holds) else np.nan
        error = np.sqrt(rate * (1 - rate) / max(len(holds), 1))
        rows.append(
            {"metric": metric, "coverage": rate, "standard_error": error,
             "share_given": given.mean(), "n_effective": scores["n_effective"].median(),
             "n_series": len(scores)}
        )  # fmt: skip
    return rows


def study(*, n_series, methods=METHODS, kinds=(*KINDS, CHANGING), lag_ones=LAG_ONES):
    """The rows of single stations' intervals."""
    rows = []
    for number, kind in enumerate(kinds):
        for n in CHANGING_LENGTHS if kind == CHANGING else LENGTHS:
            for rho in lag_ones:
                if rho == 0 and kind in ("dry-down", "drifting errors"):
                    continue  # rain that is gone the same day is no dry-down
                for r in TRUE_RS:
                    rng = np.random.default_rng([number, n, round(100 * rho)])
                    made = {"shape": (n_series, n), "rho": rho, "r": r}
                    of_years = kind == CHANGING
                    x, y, truth = (
                        changing_years(rng, **made) if of_years else pairs(kind, rng, **made)
                    )
                    table = predictions(x, y)
                    names = {"kind": kind, "n": n, "lag_1": rho, "true_r": r}
                    for method in methods[:2] if of_years else methods:
                        # The published size is fitted series by series: a fifth of them tells.
                        few = table[: len(table) // 5] if method == "gruber" else table
                        found = coverages(scored(few, method), _first(truth, few, n))
                        rows += [{**names, "method": method, **row} for row in found]
    return rows


# Both halves of real daily series: the difference of their R lies within both intervals together.

SCAN = Path("scan_snotel_daily") / "scan_daily_2in.parquet"
MIN_DAYS = 1000
BESIDE = {"rain of the past": "rain", "8 inches": "sm_8in", "20 inches": "sm_20in",
          "air temperature": "tair_c"}  # fmt: skip


def halves_study(folder, *, remainder=1):
    """The rows of R on both halves of SCAN stations at two inches, each beside another series.

    Of stations in the order of their numbers every second one is taken. Where two intervals are
    right, |z_1 - z_2| of z = arctanh R is within sqrt(h_1^2 + h_2^2) of their half widths in 95 %;
    "other half" counts how often one interval holds the other half's R: 83 % are due.
    """
    table = pd.read_parquet(folder / SCAN).sort_values(["Station Id", "Date"])
    ids = table["Station Id"].unique()[remainder::2]
    table = table[table["Station Id"].isin(ids)].assign(
        rain=lambda t: t.groupby("Station Id")["precip_mm"].transform(
            lambda mm: lfilter([1], [1, -0.92], mm.clip(0, 200).fillna(0))
        )
    )  # fmt: skip
    rows = []
    for beside, column in BESIDE.items():
        known = table[np.isfinite(table["sm_2in"]) & np.isfinite(table[column])]
        n = known.groupby("Station Id")["Date"].transform("size")
        half = 2 * known.groupby("Station Id").cumcount() >= n
        known, half = known[n >= MIN_DAYS], half[n >= MIN_DAYS]
        name = known["Station Id"].astype(str)
        pairs = pd.DataFrame(
            {"sample_id": np.arange(len(known)).astype(str), "sensor_id": name, "station_id": name,
             "network": "SCAN", "time": known["Date"], "observed_m3_m3": known["sm_2in"] / 100,
             "predicted_m3_m3": known[column].astype(float) / 100, "model": beside,
             "split": half.map({False: "first", True: "second"})}
        )  # fmt: skip
        for method in METHODS[:2]:
            scores = metrics.station_scores(pairs, r_interval=method)
            rows += _of_halves(scores, {"kind": f"halves, {beside}", "method": method})
    return rows


def _of_halves(scores, names):
    columns = ["r", "r_lower", "r_upper", "n", "n_effective"]
    wide = scores.pivot(index="sensor_id", columns="split", values=columns)
    given = wide["r_lower"].notna().all(axis=1)
    z = np.arctanh(wide[given][["r", "r_lower", "r_upper"]])
    half = (z["r_upper"] - z["r_lower"]) / 2
    apart = (z["r"]["first"] - z["r"]["second"]).abs()
    both = apart <= np.hypot(half["first"], half["second"])
    other = half.ge(apart, axis=0).mean(axis=1)
    sizes = wide[given][["n", "n_effective"]].stack(future_stack=True).median()
    return [
        {**names, "method": f"{names['method']}{words}", "metric": "r", "coverage": held.mean(),
         "standard_error": np.sqrt(held.mean() * (1 - held.mean()) / len(held)), **sizes,
         "share_given": given.mean(), "n_series": len(wide), "data": "SCAN"}
        for words, held in (("", both), (", other half", other))
    ]  # fmt: skip


def _first(truth, table, n):
    """The truth of the series of n days that the table has, from the first on."""
    return {m: v[: len(table) // n] if np.ndim(v) else v for m, v in truth.items()}


def clustered_scores(rng, *, n_clusters, sizes):
    """One table of station scores whose clusters share an error, and its stations.

    The truth is a mean and a median of 0.5; a cluster's effect has four times a station's variance.
    """
    cluster = np.repeat(np.arange(n_clusters), sizes(rng, n_clusters))
    effect = rng.normal(0, 0.1, n_clusters)[cluster] + rng.normal(0, 0.05, len(cluster))
    names = [f"s{i}" for i in range(len(cluster))]
    scores = pd.DataFrame(
        {"model": "m", "split": "test", "sensor_id": names, "station_id": names,
         "network": [f"net{c}" for c in cluster], "n": 99, "n_effective": 50.0, "status": "ok"}
    )  # fmt: skip
    scores = scores.assign(**dict.fromkeys(metrics.METRICS, 0.5 + effect))
    stations = scores[["sensor_id", "station_id"]].assign(
        latitude=31.0 + 2.0 * (cluster % 8), longitude=-119.0 + 2.0 * (cluster // 8)
    )
    return scores, stations


SIZES = {
    "clusters of 5 stations": lambda rng, k: np.full(k, 5),
    "clusters of 1 to 40 stations": lambda rng, k: np.ceil(np.exp(rng.uniform(0, 3.7, k))).astype(
        int
    ),
}


def cluster_study(*, n_tables, n_clusters=(5, 10, 20, 50), kinds=tuple(SIZES)):
    """The rows of aggregates: the cluster bootstrap by block and by network, and block means."""
    rows = []
    for kind in kinds:
        for k in n_clusters:
            rng = np.random.default_rng([len(SIZES), k])
            tables = [
                clustered_scores(rng, n_clusters=k, sizes=SIZES[kind]) for _ in range(n_tables)
            ]
            for method, (lower, upper, n) in _aggregates(tables).items():
                rate = ((lower <= 0.5) & (upper >= 0.5)).mean()
                rows.append(
                    {"kind": kind, "method": method, "metric": "r", "n": n, "coverage": rate,
                     "standard_error": np.sqrt(rate * (1 - rate) / n_tables), "share_given": 1.0,
                     "n_series": n_tables, "n_clusters": k}
                )  # fmt: skip
    return rows


def _aggregates(tables):
    """By blocks; here each block is a network, so a bootstrap over networks is the same."""
    found = {}
    for i, (scores, stations) in enumerate(tables):
        values = scores["r"].to_numpy()
        cluster = intervals.clusters(scores, stations, kind="block")
        mean, median = intervals.mean_and_median(values, cluster, seed=i)
        half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
        of_means = intervals.mean_of_means(values, cluster)
        limits = {
            "stations as i.i.d., mean": (values.mean() - half, values.mean() + half),
            "cluster bootstrap, mean": mean,
            "cluster bootstrap, median": median,
            "mean of cluster means": (of_means["lower"], of_means["upper"]),
        }
        for name, ends in limits.items():
            found.setdefault(name, []).append((*ends, len(values)))
    columns = {name: np.array(rows).T for name, rows in found.items()}
    return {name: (low, up, np.median(n)) for name, (low, up, n) in columns.items()}


def paired_models(rng, *, n_clusters, n_samples=13):
    """Predictions of two models at five stations a cluster, their stations, and what is true.

    White errors; the spreads of a cluster's errors differ by its own amount between the models,
    0.01 m3 m-3 on average. Of n normal errors the ubRMSE is sqrt(2 / n) gamma(n / 2) /
    gamma((n - 1) / 2) times their spread on average, for both alike.
    """
    cluster = np.repeat(np.arange(n_clusters), 5)
    more = 0.01 + rng.normal(0, 0.008, n_clusters)[cluster] + rng.normal(0, 0.004, len(cluster))
    spread = 0.06 + np.array([more, -more]) / 2
    shape = (len(cluster), n_samples)
    observed = 0.25 + SCALE * rng.standard_normal(shape)
    tables = [
        predictions(observed, observed + one[:, None] * rng.standard_normal(shape)).assign(model=m)
        for m, one in zip("ab", spread, strict=True)
    ]
    known = tables[0].drop_duplicates("sensor_id")[["sensor_id", "station_id"]]
    stations = known.assign(latitude=31.0 + 2.0 * (cluster % 8), longitude=1.0 + 2 * (cluster // 8))
    factor = np.sqrt(2 / n_samples) * np.exp(gammaln(n_samples / 2) - gammaln((n_samples - 1) / 2))
    return tables, stations, 0.01 * factor


def paired_study(*, n_tables, n_clusters=(5, 10, 20, 50)):
    """The rows of a paired difference, by both of its intervals."""
    rows = []
    for k in n_clusters:
        rng = np.random.default_rng([len(SIZES), k, 1])
        holds = []
        for _ in range(n_tables):
            (a, b), stations, truth = paired_models(rng, n_clusters=k)
            found = metrics.paired_difference(a, b, stations=stations, metric="ubrmse_m3_m3")
            ends = found[["lower", "upper", "block_lower", "block_upper"]].to_numpy(float)
            holds.append((ends[::2] <= truth) & (truth <= ends[1::2]))
        for method, rate in zip(("mean", "mean of cluster means"), np.mean(holds, 0), strict=True):
            rows.append(
                {"kind": "clusters of 5 stations", "method": f"paired difference, {method}",
                 "metric": "ubrmse_m3_m3", "n": 5 * k, "coverage": rate, "share_given": 1.0,
                 "standard_error": np.sqrt(rate * (1 - rate) / n_tables),
                 "n_series": n_tables, "n_clusters": k}
            )  # fmt: skip
    return rows


def main():
    """Write the table and print what a reader wants first: the worst cell of each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-series", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("reports/coverage/coverage.csv"))
    options = parser.parse_args()
    rows = study(n_series=options.n_series) + cluster_study(n_tables=options.n_series)
    rows += paired_study(n_tables=options.n_series)
    if folder := os.environ.get("SOILKIT_TEST_DATA"):
        rows += halves_study(Path(folder))
    table = pd.DataFrame(rows).assign(confidence=0.95).fillna({"data": "synthetic"})[COLUMNS]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table.round(4).to_csv(options.out, index=False, lineterminator="\n")
    # n_effective of R's product form; the requirement is made from ten on.
    told = table[(table["n_clusters"].notna()) | (table["n_effective"] >= 10)]
    print(
        told.groupby(["kind", "method", "metric"])["coverage"].describe()[["count", "min", "max"]]
    )


if __name__ == "__main__":
    main()
