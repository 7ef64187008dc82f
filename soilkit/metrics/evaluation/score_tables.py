"""The parts of an evaluation: each a table of one case, or one row that says why there is none."""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import wraps
from typing import Any

import numpy as np
import pandas as pd

from soilkit import metrics
from soilkit.constants import OK
from soilkit.errors import ContractError, SharedErrorsError, SoilkitError
from soilkit.metrics.anomalies import ORACLE
from soilkit.metrics.comparison import COMPARISON, DIFFERENCES, with_better
from soilkit.metrics.evaluation import applicability
from soilkit.metrics.evaluation.literature import beside_literature
from soilkit.metrics.evaluation.records import (
    SHARED,
    Applicability,
    Background,
    Calibration,
    Case,
    Failures,
    by_sample,
    is_missing,
    missing,
    shared_pixels,
    training_folds,
)
from soilkit.metrics.intervals import (
    clusters,
    few_clusters,
    jackknife,
    mean_and_median,
    mean_of_means,
)
from soilkit.metrics.points import METRICS, SERIES, correlation_of_sums
from soilkit.metrics.spatial.station_fields import (
    LOST,
    MIN_STATIONS,
    PARTS,
    date_sums,
    split_parts,
    station_dates,
    without_each,
)

# Columns of the stations that make strata, in words.
BY = {"network": "network", "land_cover": "land cover", "texture": "texture", "koeppen": "climate"}
EXTRA_METRICS = ("spearman", "kge")
CONSTANT_ACROSS = "constant across stations"  # the status of a map that shows all places alike
TINY = 1e-6  # a ratio of errors that is as good as none
ROLES = {
    "oracle": re.compile(f"^{re.escape(ORACLE)}$"),
    "climatology": re.compile(r"climatolog|training mean|persistence", re.IGNORECASE),
    "smap": re.compile(r"^smap(?!.*(\+|network|forest|fusion|ensemble))", re.IGNORECASE),
    "gldas": re.compile(r"^gldas(?!.*(\+|network|forest|fusion|ensemble))", re.IGNORECASE),
}
ERRORS = ("metric", "mean", "lower", "upper", "q25", "median", "q75", "n_sensors", "n_blocks",
          "status")  # fmt: skip


def role_of(model: str) -> str:
    """ "smap", "gldas", "climatology", "oracle" or "model"."""
    return next((role for role, words in ROLES.items() if words.search(model)), "model")


def main_model(predictions: pd.DataFrame, main: str | None) -> str:
    """The model to judge: the one named, else the first that is no baseline.

    Raises ``ContractError`` when no row is of the model named.
    """
    models = list(dict.fromkeys(predictions["model"].astype("str")))
    if main is not None and main not in models:
        raise ContractError(f"No model {main!r} in the predictions; there are {', '.join(models)}.")
    others = [name for name in models if role_of(name) == "model"]
    return main or (others or models)[0]


def parts(case: Case) -> dict[str, Any]:
    """Every part of an evaluation by its name; statuses where the main model has no row."""
    if len(case.pairs):
        tables: dict[str, Any] = {name: make(case) for name, make in TABLES.items()}
        points = tables["wins_by_class"]
        tables["wins"] = points if is_missing(points) else metrics.normalized_wins(points)
        tables |= {"applicability": distance(case), "calibration": calibration(case)}
        return tables | {"strata": strata(case), "failures": failures(case)}
    words = f"no sample of {case.main} is scored: {case.scores['status'].iloc[0]}"
    why = missing(words)
    return {
        **dict.fromkeys((*TABLES, "wins"), why),
        "strata": dict.fromkeys((*BY, "season"), why),
        "applicability": Applicability(words),
        "calibration": Calibration(words),
        "failures": Failures(why, why, None, words),
        "shared_pixels": pd.DataFrame(columns=list(SHARED)),
    }


def part(make: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """A function that makes a table, or one row that says why it cannot be made."""

    @wraps(make)
    def table_or_status(*arguments) -> pd.DataFrame:
        try:
            table = make(*arguments)
        except SoilkitError as error:
            return missing(str(error), is_refused=isinstance(error, SharedErrorsError))
        return table if len(table) else missing("no row could be made")

    return table_or_status


@part
def by_block(case: Case) -> pd.DataFrame:
    """Means of the means of 2-degree blocks."""
    return metrics.block_means(case.scores, case.located())


def strata(case: Case) -> dict[str, pd.DataFrame]:
    """``summarize`` by each column and by season; a status where no class is known."""
    return {by: _stratum(case, by) for by in (*BY, "season")}


@part
def _stratum(case: Case, by: str) -> pd.DataFrame:
    if by != "season" and not case.known([by]):
        raise ContractError(f"no {BY[by]} is known of any station")
    scores = case.scores
    if by == "season":
        scores = metrics.season_scores(case.rows, case.stations, min_samples=case.min_samples)
    return metrics.summarize(scores, case.stations, by=by, clusters=case.unit, seed=case.seed)


@part
def errors(case: Case) -> pd.DataFrame:
    """ubRMSE and RMSE as shares of the observations' own standard deviation, and their sizes.

    A ratio below one says that the model knows more than the station's own mean would. Means are
    over sensors, of ratios geometric, so that one desert that hardly varies does not decide;
    intervals are Student's over the means of 2-degree blocks (networks without places).
    """
    scores, pairs = case.main_scores, case.pairs
    scores = scores[scores["ubrmse_m3_m3"].notna()]
    if not len(scores):
        raise ContractError("no sensor has an error")
    spread = pairs.groupby(pairs["sensor_id"].astype("str"))["observed_m3_m3"].std(ddof=0)
    deviation = scores["sensor_id"].map(spread).replace(0, np.nan)
    sizes = {
        "ubrmse / sd": scores["ubrmse_m3_m3"] / deviation,
        "rmse / sd": scores["rmse_m3_m3"] / deviation,
        "ubrmse_m3_m3": scores["ubrmse_m3_m3"],
        "bias size_m3_m3": scores["bias_m3_m3"].abs(),
        "rmse_m3_m3": scores["rmse_m3_m3"],
    }
    cluster, rows = clusters(scores, case.places, kind=case.unit), []
    for name, size in sizes.items():
        has, is_ratio = size.notna().to_numpy(), name.endswith("/ sd")
        values = np.log(size[has].clip(lower=TINY)) if is_ratio else size[has]
        line = mean_of_means(values, cluster[has])
        ends = [line[end] for end in ("value", "lower", "upper")]
        ends = np.exp(ends).tolist() if is_ratio else ends
        ends += size.quantile([0.25, 0.5, 0.75]).tolist()
        counts = (int(has.sum()), line["n_blocks"], few_clusters(line["n_blocks"], case.unit))
        rows.append((name, *ends, *counts))
    return pd.DataFrame(rows, columns=list(ERRORS))


def baselines(case: Case) -> list[pd.DataFrame]:
    """Climatologies of the main model's samples: of its own other years, and of training."""
    rows = case.rows[case.rows["model"].astype("str") == case.main].reset_index(drop=True)
    oracle = metrics.climatology(rows)
    tables = [oracle[oracle["predicted_m3_m3"].notna()].drop(columns=["state", "status"])]
    samples = by_sample(case.background.samples)
    with suppress(ContractError):  # where nobody said what trained
        seasons = [
            metrics.training_climatology(rows.iloc[held_out], samples.reindex(trained.index))
            for held_out, trained in training_folds(case.pairs, case.background)
        ]
        tables.append(pd.concat(seasons, ignore_index=True))
    return [table for table in tables if len(table)]


@part
def comparison(case: Case) -> pd.DataFrame:
    """``metrics.compare`` of the main model with every other, one Holm family, and their roles.

    Each pair stands on the samples that both predict: a short rival takes none from the others,
    and one that shares too few keeps its lines, whose status says how many.
    """
    by_name: dict[Any, pd.DataFrame] = {}
    for table in (case.rows, *baselines(case)):
        by_name |= dict(list(table.groupby(table["model"].astype("str"), sort=False)))
    ours, others = by_name.pop(case.main), list(by_name.values())
    lost = [m for m in case.scores["model"].unique() if m != case.main and m not in by_name]
    if not others and not lost:
        raise ContractError("no other model, and no climatology could be made")
    pairs = [_without(case.main, m, f"no sensor has {case.min_samples} pairs of it") for m in lost]
    pairs += [_pair(ours, other, case.located(), seed=case.seed) for other in others]
    lines = pd.concat(pairs, ignore_index=True)
    order = {name: place for place, name in enumerate(DIFFERENCES.values())}
    lines = lines.sort_values("metric", key=lambda m: m.map(order), kind="stable")
    lines = with_better(lines).reset_index(drop=True)
    return lines.assign(role=lines["model_b"].map(role_of))


def _pair(ours, other, stations, *, seed):
    """One rival's lines; where it cannot be compared each says why."""
    try:
        return metrics.compare(ours, other, stations=stations, seed=seed)
    except ContractError as error:
        return _without(ours["model"].iloc[0], other["model"].iloc[0], str(error))


def _without(ours, other, why):
    """The lines of a rival that cannot be compared."""
    counts = dict.fromkeys(("n_samples", "n_sensors", "n_stations", "n_blocks"), 0)
    line = {"model_a": ours, "model_b": other, "status": why, **counts}
    lines = pd.DataFrame({"metric": list(DIFFERENCES.values()), **line})
    return lines.reindex(columns=COMPARISON)


@part
def wins_by_class(case: Case) -> pd.DataFrame:
    """The points that all models had in each class."""
    if case.unseen["model"].nunique() < 2:
        raise ContractError("a contest needs two models")
    known = case.known(("texture", "land_cover", "koeppen"))
    if not known:
        raise ContractError("no class of land is known of any station")
    sites = metrics.site_scores(case.rows)
    if not len(sites):
        raise ContractError("no sensor has samples enough that all models predict")
    return metrics.class_points(sites, case.stations, by=known)


# Scores of changed values: anomalies and rescaled predictions, their state always named.

COLUMNS = ("state", "model", "metric", "mean", "mean_lower", "mean_upper", "median", "q25", "q75",
           "raw_mean", "n_sensors", "n_stations", "n_values", "n_rows", "status")  # fmt: skip


@part
def anomaly(case: Case) -> pd.DataFrame:
    """Skill beside the season: by a moving window, and by the sensor's other years (an oracle)."""
    changed = [metrics.window_anomalies(case.rows), metrics.climatology_anomalies(case.rows)]
    return _stacked(case, changed)


@part
def rescaled(case: Case) -> pd.DataFrame:
    """Skill on the observations' scale, by a fit to the sensor's other years, and in sample."""
    return _stacked(case, [metrics.rescale(case.rows, in_sample=fit) for fit in (False, True)])


def _stacked(case: Case, tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    rows = [_state(case, table) for table in tables]
    return pd.concat(rows, ignore_index=True).reindex(columns=list(COLUMNS))


def _state(case: Case, table: pd.DataFrame) -> pd.DataFrame:
    """One state's means over sensors; a single row with a status where no sensor has a score.

    ``raw_mean`` is that of the raw score of the same sensors on the same samples.
    """
    has = table["status"] == OK
    counts = {"state": table["state"].iloc[0], "n_values": int(has.sum()), "n_rows": len(table)}
    why = table.loc[~has, "status"].value_counts()
    reason = f": {why.index[0]} ({why.iloc[0]:,} of {len(table):,} rows)" if len(why) else ""
    if not has.any():
        return pd.DataFrame([{**counts, "status": f"no value{reason}"}])
    scores = metrics.station_scores(table, min_samples=case.min_samples)
    if scores["rmse_m3_m3"].isna().all():
        words = f"no sensor has {case.min_samples} values{reason}"
        return pd.DataFrame([{**counts, "status": words}])
    means = metrics.summarize(scores, case.stations, clusters=case.unit, seed=case.seed)
    keys, raw = ["model", "sensor_id"], metrics.point_scores(case.rows[has.to_numpy()])
    raw = scores[keys].merge(raw, on=keys, how="left")[list(METRICS)].where(scores.notna())
    raw = raw.groupby(scores["model"]).mean().stack(future_stack=True).rename("raw_mean")
    return means.join(raw.rename_axis(["model", "metric"]), on=["model", "metric"]).assign(**counts)


# Is the map right: skill across stations at fixed dates, its parts, and its mean over dates.

MEAN = ("model", "part", "r", "lower", "upper", "n_dates", "n_stations", "n_clusters", "status")


def _date_length(rows: pd.DataFrame) -> str:
    """A day, or the step of the table where its stations are read less often."""
    steps = rows.sort_values("time").groupby(rows["sensor_id"].astype("str"))["time"].diff()
    days = steps[steps > pd.Timedelta(0)].median() / pd.Timedelta("1D")
    return f"{max(int(round(days)), 1)}D" if np.isfinite(days) else "1D"


@part
def spatial(case: Case) -> pd.DataFrame:
    """``metrics.spatial_scores`` of the values, of their static and of their dynamic part."""
    every: dict[str, Any] = {"stations": case.places, "every": _date_length(case.rows)}
    table = pd.concat(
        [metrics.spatial_scores(case.rows, part=name, **every).assign(part=name) for name in PARTS],
        ignore_index=True,
    )
    if table["r"].isna().all():
        n = int(table["n_stations"].max()) if len(table) else 0
        raise ContractError(f"no date with {MIN_STATIONS} stations: the most is {n}")
    return table


@part
def spatial_parts(case: Case) -> pd.DataFrame:
    """``metrics.spatial_parts``: what the mean square error of all station-dates is made of."""
    every = _date_length(case.rows)
    # One cluster left out may leave nothing: the status says so, a warning need not.
    with np.errstate(invalid="ignore", divide="ignore"):
        return metrics.spatial_parts(case.rows, stations=case.places, every=every)


@part
def spatial_mean(case: Case) -> pd.DataFrame:
    """The mean over dates of R across stations, with an interval that leaves blocks out.

    Dates are those with ten stations and more. The static part is each station's mean over them,
    so its R says whether wet places are shown wet; the dynamic part is what is left, so its R says
    whether the map shows *where* it is wetter than usual that day.
    """
    every, rows = _date_length(case.rows), []
    values = station_dates(case.rows, case.places, every=every, kind=case.unit)
    for model, table in values.groupby("model", observed=True, sort=True):
        table = table[table.groupby("date")["station_id"].transform("size") >= MIN_STATIONS]
        n = {"n_dates": table["date"].nunique(), "n_stations": table["station_id"].nunique()}
        chosen = dict.fromkeys(PARTS, table[SERIES])
        if len(table):
            chosen["static"], chosen["dynamic"] = split_parts(table[SERIES], table["station_id"])
        for name, pairs in chosen.items():
            line = _mean_r(pairs.to_numpy(float), table["date"], table["cluster"])
            rows.append({"model": model, "part": name, **line, **n})
    return pd.DataFrame(rows, columns=list(MEAN))


def _mean_r(values: np.ndarray, date: pd.Series, cluster: pd.Series) -> dict:
    """Mean over dates of R across rows, and its limits by leaving clusters out."""
    k = cluster.nunique()
    none = {"r": np.nan, "lower": np.nan, "upper": np.nan, "n_clusters": k}
    if not len(date):
        return {**none, "status": f"no date with {MIN_STATIONS} stations"}
    sums = date_sums(values - values.mean(axis=0), date, cluster=cluster)
    whole = correlation_of_sums(sums.sum(axis=1))
    if np.isnan(whole).all():
        return {**none, "status": CONSTANT_ACROSS}
    mean, status = np.nanmean(whole), few_clusters(k)
    if status != OK:
        return {**none, "r": mean, "status": status}
    with np.errstate(invalid="ignore"):  # (cluster, date)
        left_out = np.nanmean(correlation_of_sums(without_each(sums)), axis=1)
    lower, upper = map(float, jackknife(mean, left_out, scale="r"))
    status = OK if np.isfinite(lower) else LOST
    return {"r": mean, "lower": lower, "upper": upper, "n_clusters": k, "status": status}


# Parts that need more than observed and predicted: inputs, spreads, traits, other products.

LEVELS = (0.5, 0.8, 0.9, 0.95)
NOT_TRAITS = {"depth_from_m", "depth_to_m"}
IN_SITU = "in situ"


def distance(case: Case) -> Applicability:
    """How far the inputs of the main model's predictions lie from training, and the skill there."""
    pairs = case.pairs
    try:
        measured, threshold = _measured(pairs, case.background, case.seed)
    except SoilkitError as error:
        return Applicability(str(error))
    cluster = clusters(pairs, case.places)
    skill = applicability.skill_by_dissimilarity(
        pairs, measured, clusters=cluster.tolist(), seed=case.seed
    )
    shares = measured.assign(cluster=cluster).groupby(pairs["station_id"].astype("str"))
    values, blocks = shares["is_inside"].mean().to_numpy(), shares["cluster"].first().to_numpy()
    (lower, upper), _ = mean_and_median(values, blocks, seed=case.seed)
    share = (float(values.mean()), float(lower), float(upper))
    median = float(measured["dissimilarity_index"].median())
    return Applicability(OK, measured, skill, share, median, threshold)


def _measured(pairs: pd.DataFrame, background: Background, seed: int) -> tuple[pd.DataFrame, float]:
    """``Area.measure`` of each fold's predictions, and the median of the folds' thresholds."""
    features, predictors = background.features, list(background.predictors)
    if features is None or not predictors:
        raise ContractError("not known: no features of the predictions, or no predictors, given")
    lacking = [c for c in ("sample_id", *predictors) if c not in features]
    if lacking:
        raise ContractError(f"the features lack {', '.join(lacking)}")
    table, station = by_sample(features), by_sample(background.samples)["station_id"].astype("str")
    asked = table.reindex(pairs["sample_id"].astype("str")).set_axis(pairs.index)
    tables, thresholds = [], []
    for held_out, trained in training_folds(pairs, background):
        known = trained[trained.index.isin(table.index)]
        if not len(known):
            raise ContractError("not known: no sample that trained has features")
        # Stations of training rows where they are known, else their folds, else none.
        groups = station.reindex(known.index)
        groups = groups if groups.notna().all() and groups.nunique() > 1 else known
        apart = groups.to_numpy() if groups.nunique() > 1 else None
        area = applicability.fit(
            table.loc[known.index], predictors=predictors, groups=apart, seed=seed
        )
        tables.append(area.measure(asked.iloc[held_out]))
        thresholds.append(area.threshold)
    return pd.concat(tables).sort_index(), float(np.median(thresholds))


def calibration(case: Case) -> Calibration:
    """Do stated standard deviations mean what they say; a status where there are none."""
    rows = case.rows
    if "predicted_std_m3_m3" not in rows or rows["predicted_std_m3_m3"].isna().all():
        return Calibration("no predicted standard deviation: the table states no uncertainty")
    try:
        rows = metrics.forecast_rows(rows[rows["predicted_std_m3_m3"].notna()])
    except SoilkitError as error:
        return Calibration(str(error))
    reliability = metrics.reliability(rows, levels=LEVELS, stations=case.places, seed=case.seed)
    spread_skill = metrics.spread_skill(rows, stations=case.places, seed=case.seed)
    return Calibration(OK, reliability, spread_skill)


def failures(case: Case) -> Failures:
    """Classes apart from the rest, the worst stations, and traits of the places that fail.

    Traits are the columns of numbers that vary over stations, depths of sensors left out.
    """
    numbers = case.stations.select_dtypes("number")
    traits = [str(n) for n in numbers if n not in NOT_TRAITS and numbers[n].dropna().nunique() > 1]
    try:
        space, words = _trait_space(case, traits), OK
    except SoilkitError as error:
        space, words = None, str(error)
    return Failures(_class_differences(case), _worst_stations(case, traits), space, words)


@part
def _class_differences(case: Case) -> pd.DataFrame:
    known = case.known(BY)
    if not known:
        raise ContractError("no class of any station is known")
    places = case.located()
    return metrics.class_differences(case.main_scores, places, by=known, seed=case.seed)


@part
def _worst_stations(case: Case, traits: list[str]) -> pd.DataFrame:
    return metrics.worst_stations(case.main_scores, case.stations, traits=traits, n=10)


def _trait_space(case: Case, traits: list[str]) -> applicability.TraitSpace:
    """The space of traits, failures being places worse than SMAP, or the worst quarter."""
    if not traits:
        raise ContractError("no numeric trait of the stations varies")
    rivals = [m for m in case.scores["model"].unique() if role_of(m) == "smap"]
    rival = case.scores[case.scores["model"].isin(rivals[:1])]
    baseline = rival if len(rival) and rivals[0] != case.main else None
    return applicability.trait_space(
        case.main_scores, case.located(), traits=traits, baseline=baseline, seed=case.seed
    )


@part
def triple(case: Case) -> pd.DataFrame:
    """Triple collocation of the main model, SMAP and the stations, or why it is refused."""
    by_name = dict(list(case.unseen.groupby(case.unseen["model"].astype("str"))))
    products = {name for name in by_name if role_of(name) != "model"}
    rivals = [n for n in by_name if n != case.main and n in products | {*case.background.sources}]
    rivals.sort(key=lambda name: role_of(name) != "smap")
    if not rivals:
        raise ContractError("no third product (SMAP, GLDAS) beside the model and the stations")
    # A product whose name is known needs nobody to say what it is made of.
    names = {name: (name,) for name in rivals if role_of(name) in ("smap", "gldas")}
    known = names | dict(case.background.sources)
    pair = (case.main, rivals[0])
    sources = {name: tuple(known.get(name, ())) for name in pair} | {IN_SITU: (IN_SITU,)}
    triplets = metrics.triplets_of([by_name[name] for name in pair], observed=IN_SITU)
    triplets = triplets.drop_duplicates(["sensor_id", "time"])
    return metrics.triple_collocation(triplets, sources, seed=case.seed)


TABLES: dict[str, Callable[[Case], pd.DataFrame]] = {
    "by_block": by_block, "errors": errors, "comparison": comparison,
    "wins_by_class": wins_by_class, "anomaly": anomaly, "rescaled": rescaled, "spatial": spatial,
    "spatial_mean": spatial_mean, "spatial_parts": spatial_parts, "triple": triple,
    "literature": part(lambda case: beside_literature(case.main_scores)),
    "shared_pixels": shared_pixels,
}  # fmt: skip
