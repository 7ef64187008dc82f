"""Scores, strata, comparisons, changed values, space, spreads and other products."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from soilkit import metrics
from soilkit.constants import OK
from soilkit.errors import ContractError, SharedErrorsError, SoilkitError
from soilkit.metrics import comparison as multiplicity
from soilkit.metrics import intervals
from soilkit.metrics.anomalies import ORACLE, WINDOW_DAYS
from soilkit.metrics.comparison import COMPARISON
from soilkit.metrics.evaluation import applicability
from soilkit.metrics.evaluation.literature import beside_literature
from soilkit.metrics.evaluation.records import (
    Applicability,
    Background,
    Calibration,
    Failures,
    Options,
    is_missing,
    missing,
)
from soilkit.metrics.evaluation.rows import GIVEN, by_sample, training_folds
from soilkit.metrics.intervals import clusters, jackknife, mean_and_median, mean_of_means
from soilkit.metrics.points import METRICS, correlation_of_sums
from soilkit.metrics.points import SERIES as VALUES
from soilkit.metrics.spatial import (
    MIN_STATIONS,
    PARTS,
    date_sums,
    split_parts,
    station_dates,
    without_each,
)

CONSTANT_ACROSS = "constant across stations"  # the status of a map that shows all places alike
WINDOW_STATE = f"anomaly: {WINDOW_DAYS:g}-day window"
ALPHA = 0.05
TINY = 1e-6  # a ratio of errors that is as good as none
ROLES = {
    "climatology": re.compile(r"climatolog|training mean|persistence", re.IGNORECASE),
    "smap": re.compile(r"^smap(?!.*(\+|network|forest|fusion|ensemble))", re.IGNORECASE),
    "gldas": re.compile(r"^gldas(?!.*(\+|network|forest|fusion|ensemble))", re.IGNORECASE),
}
ERRORS = ("metric", "mean", "lower", "upper", "q25", "median", "q75", "n_sensors", "n_blocks",
          "status")  # fmt: skip


class Places(NamedTuple):
    """The stations, and whether all that are scored have a place: then blocks can be drawn."""

    stations: pd.DataFrame
    has_all: bool

    @classmethod
    def of(cls, stations: pd.DataFrame, rows: pd.DataFrame) -> "Places":
        used = stations[stations["station_id"].astype("str").isin(set(rows["station_id"]))]
        known = used[["latitude", "longitude"]].astype(float).notna().all(axis=1)
        return cls(stations, bool(len(used)) and bool(known.all()))

    @property
    def unit(self) -> str:
        """What a bootstrap draws: "block" or "network"."""
        return "block" if self.has_all else "network"

    @property
    def or_none(self) -> pd.DataFrame | None:
        """The stations where blocks can be drawn, for functions that else take networks."""
        return self.stations if self.has_all else None

    def required(self) -> pd.DataFrame:
        """The stations, or ContractError where a place lacks."""
        if not self.has_all:
            raise ContractError("2-degree blocks need the place of every scored station")
        return self.stations


def attempt(make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table, or one row that says why there is none."""
    try:
        table = make()
    except SoilkitError as error:
        return missing(str(error))
    return table if len(table) else missing("no row could be made")


def role_of(model: str, options: Options) -> str:
    """ "smap", "gldas", "climatology", "oracle" or "model"."""
    named = {name: role for role, name in options.baselines.items()}
    if model in named:
        return named[model]
    if model == ORACLE:
        return "oracle"
    return next((role for role, words in ROLES.items() if words.search(model)), "model")


def main_model(predictions: pd.DataFrame, main: str | None, *, options: Options) -> str:
    """The model to judge: the one named, else the first that is no baseline.

    Raises
    ------
    ContractError
        When no row is of the model named.
    """
    models = list(dict.fromkeys(predictions["model"].astype("str")))
    if main is not None and main not in models:
        raise ContractError(f"No model {main!r} in the predictions; there are {', '.join(models)}.")
    others = [name for name in models if role_of(name, options) == "model"]
    return main or (others or models)[0]


def strata(scores, unseen, *, places: Places, options: Options) -> dict[str, pd.DataFrame]:
    """``summarize`` by each column and by season; a status where no class is known."""
    found = {}
    how: dict[str, Any] = {"clusters": places.unit, "seed": options.seed}
    used = places.stations[places.stations["sensor_id"].astype("str").isin(scores["sensor_id"])]
    for by in options.by:
        if by not in used or not used[by].astype("str").str.strip().ne("").any():
            found[by] = missing(f"no {by} is known of any station")
        else:
            found[by] = attempt(partial(metrics.summarize, scores, places.stations, by=by, **how))

    def seasons():
        rows = metrics.season_scores(unseen, places.stations, min_samples=options.min_samples)
        return metrics.summarize(rows, places.stations, by="season", **how)

    found["season"] = attempt(seasons)
    return found


def relative_errors(unseen, main_scores, *, places: Places) -> pd.DataFrame:
    """ubRMSE and RMSE as shares of the observations' own standard deviation, and their sizes.

    A ratio below one says that the model knows more than the station's own mean would. Means are
    over sensors, of ratios geometric, so that one desert that hardly varies does not decide;
    intervals are Student's over the means of 2-degree blocks (networks without places).
    """
    own = unseen[unseen["model"].isin(main_scores["model"])]
    spread = own.groupby(own["sensor_id"].astype("str"))["observed_m3_m3"].std(ddof=0)
    table = main_scores[main_scores["ubrmse_m3_m3"].notna()].copy()
    if not len(table):
        return missing("no sensor has an error")
    deviation = table["sensor_id"].map(spread).replace(0, np.nan)
    table["bias size_m3_m3"] = table["bias_m3_m3"].abs()
    for name in ("ubrmse", "rmse"):
        table[f"{name} / sd"] = table[f"{name}_m3_m3"] / deviation
    cluster = clusters(table, places.or_none, kind=places.unit)
    rows = []
    for name in ("ubrmse / sd", "rmse / sd", "ubrmse_m3_m3", "bias size_m3_m3", "rmse_m3_m3"):
        has = table[name].notna().to_numpy()
        is_ratio = name.endswith("/ sd")
        values = np.log(table[name][has].clip(lower=TINY)) if is_ratio else table[name][has]
        line = mean_of_means(values, cluster[has], confidence=0.95)
        ends = [line[end] for end in ("value", "lower", "upper")]
        ends = np.exp(ends).tolist() if is_ratio else ends
        quarters = table[name].quantile([0.25, 0.5, 0.75]).tolist()
        few = line["n_blocks"] < intervals.MIN_CLUSTERS
        words = f"no interval: {line['n_blocks']} {places.unit}s < {intervals.MIN_CLUSTERS}"
        rows.append((name, *ends, *quarters, int(has.sum()), line["n_blocks"],
                     words if few else OK))  # fmt: skip
    return pd.DataFrame(rows, columns=list(ERRORS))


def baselines(unseen, main: str, *, background: Background) -> list[pd.DataFrame]:
    """Climatologies of the main model's samples: of its own other years, and of training."""
    given = unseen[unseen["model"].astype("str") == main].reset_index(drop=True)
    own = given.drop(columns=GIVEN)
    made = []
    oracle = metrics.climatology(own)
    oracle = oracle[oracle["predicted_m3_m3"].notna()].drop(columns=["state", "status"])
    if len(oracle):
        made.append(oracle)
    learned = _training_climatology(given, background)
    if learned is not None:
        made.append(learned)
    return made


def _training_climatology(given, background):
    """The season of the samples that trained, fold by fold; None where they are unknown."""
    if background.samples is None:
        return None
    samples, own = by_sample(background.samples), given.drop(columns=GIVEN)
    try:
        parts = [
            metrics.training_climatology(own.iloc[held_out], samples.reindex(trained.index))
            for held_out, trained in training_folds(given, background)
        ]
    except ContractError:
        return None
    return pd.concat(parts, ignore_index=True)


def comparison(tables, main: str, *, places: Places, options: Options) -> pd.DataFrame:
    """``metrics.compare`` of the main model with every other, one Holm family, and their roles.

    Each pair stands on the samples that both predict: a short rival takes none from the others.
    """
    by_name: dict[Any, pd.DataFrame] = {}
    for table in tables:
        by_name |= dict(list(table.groupby(table["model"].astype("str"), sort=False)))
    own, others = by_name.pop(main), list(by_name.values())
    if not others:
        return missing("no other model, and no climatology could be made")
    ids = set(own["sample_id"].astype("str"))
    kept = [other for other in others if ids & set(other["sample_id"].astype("str"))]
    if not kept:
        return missing("no other model predicts a sample of the main one")
    pairs = [_pair(own, other, places.required(), seed=options.seed) for other in kept]
    found = pd.concat(pairs, ignore_index=True)
    order = {name: place for place, name in enumerate(METRICS)}
    found = found.sort_values("metric", key=lambda m: m.map(order), kind="stable")
    found["p_adjusted"] = multiplicity.adjust(found["p_value"], "holm")
    is_first = found["difference"].gt(0) == (found["metric"] == "r")
    name = found["model_a"].where(is_first, found["model_b"])
    found["better"] = name.where(found["p_adjusted"] < ALPHA, "")
    roles = [role_of(name, options) for name in found["model_b"]]
    return found[COMPARISON].reset_index(drop=True).assign(role=roles)


def _pair(own, other, stations, *, seed):
    """One rival's lines; where it cannot be compared each says why."""
    try:
        return metrics.compare(own, other, stations=stations, correction=None, seed=seed)
    except ContractError as error:
        names = {"model_a": own["model"].iloc[0], "model_b": other["model"].iloc[0]}
        lines = pd.DataFrame({"metric": list(METRICS), **names})
        counts = dict.fromkeys(("n_samples", "n_sensors", "n_stations", "n_blocks"), 0)
        lines = lines.assign(**counts, better="", status=str(error)).reindex(columns=COMPARISON)
        figures = [name for name in COMPARISON if lines[name].isna().all()]
        return lines.astype(dict.fromkeys(figures, float))


def contests(unseen, *, places: Places) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Normalised wins of all models, and the points that they had in each class."""
    known = [
        by
        for by in ("texture", "land_cover", "koeppen")
        if places.stations[by].astype("str").str.strip().ne("").any()
    ]
    if unseen["model"].nunique() < 2:
        why = missing("a contest needs two models")
        return why, why
    if not known:
        why = missing("no class of land is known of any station")
        return why, why

    points = attempt(
        lambda: metrics.class_points(metrics.site_scores(unseen), places.stations, by=known)
    )
    if list(points.columns) == ["status"]:
        return points, points
    return metrics.normalized_wins(points), points


# Scores of changed values: anomalies and rescaled predictions, their state always named.

COLUMNS = ("state", "model", "metric", "mean", "mean_lower", "mean_upper", "median", "q25", "q75",
           "n_sensors", "n_stations", "n_values", "n_rows", "status")  # fmt: skip


def anomaly(unseen, *, places: Places, options: Options) -> pd.DataFrame:
    """Skill beside the season: by a 35-day window, and by the sensor's other years (an oracle)."""
    changed = [metrics.window_anomalies(unseen), metrics.climatology_anomalies(unseen)]
    return _stacked(changed, places, options)


def rescaled(unseen, *, places: Places, options: Options) -> pd.DataFrame:
    """Skill on the observations' scale, every year by a fit to the sensor's other years."""
    changed = [metrics.rescale(unseen, method=method) for method in options.rescaling]
    return _stacked(changed, places, options)


def _stacked(tables, places: Places, options: Options) -> pd.DataFrame:
    rows = [_state(table, places, options) for table in tables]
    return pd.concat(rows, ignore_index=True).reindex(columns=list(COLUMNS))


def _state(table: pd.DataFrame, places: Places, options: Options) -> pd.DataFrame:
    """One state's means over sensors; a single row with a status where no sensor has a score."""
    state = str(table["state"].iloc[0])
    has = table["status"] == OK
    counts = {"state": state, "n_values": int(has.sum()), "n_rows": len(table)}
    why = table.loc[~has, "status"].value_counts()
    reason = f"{why.index[0]} ({why.iloc[0]:,} of {len(table):,} rows)" if len(why) else ""
    if not has.any():
        return pd.DataFrame([{**counts, "status": f"no value: {reason}"}])
    scores = metrics.station_scores(table, min_samples=options.min_samples)
    if scores["rmse_m3_m3"].isna().all():
        words = f"no sensor has {options.min_samples} values" + (f": {reason}" if reason else "")
        return pd.DataFrame([{**counts, "status": words}])
    found = metrics.summarize(scores, places.stations, clusters=places.unit, seed=options.seed)
    return found.assign(**counts)


# Is the map right: skill across stations at fixed dates, its parts, and its mean over dates.

MEAN = ("model", "part", "r", "lower", "upper", "n_dates", "n_stations", "n_clusters", "status")


def date_length(unseen: pd.DataFrame, options: Options) -> str:
    """A day, or the step of the table where its stations are read less often."""
    if options.every:
        return options.every
    steps = unseen.sort_values("time").groupby(unseen["sensor_id"].astype("str"))["time"].diff()
    days = steps[steps > pd.Timedelta(0)].median() / pd.Timedelta("1D")
    return f"{max(int(round(days)), 1)}D" if np.isfinite(days) else "1D"


def in_space(unseen: pd.DataFrame, *, places: Places, options: Options) -> dict[str, pd.DataFrame]:
    """The three tables of skill in space: by date, its mean over dates, and all station-dates."""
    every = date_length(unseen, options)
    how: dict[str, Any] = {"places": places, "every": every}

    def parts():
        # One cluster left out may leave nothing: the status says so, a warning need not.
        with np.errstate(invalid="ignore", divide="ignore"):
            return metrics.spatial_parts(unseen, stations=places.or_none, every=every)

    return {
        "spatial": attempt(lambda: spatial(unseen, **how)),
        "spatial_mean": attempt(lambda: spatial_mean(unseen, **how)),
        "spatial_parts": attempt(parts),
    }


def spatial(unseen: pd.DataFrame, *, places: Places, every: str) -> pd.DataFrame:
    """``metrics.spatial_scores`` of the values, of their static and of their dynamic part."""
    found = [
        metrics.spatial_scores(unseen, stations=places.or_none, part=part, every=every).assign(
            part=part
        )
        for part in PARTS
    ]
    table = pd.concat(found, ignore_index=True)
    if table["r"].isna().all():
        n = int(table["n_stations"].max()) if len(table) else 0
        return missing(f"no date with {MIN_STATIONS} stations: the most is {n}")
    return table


def spatial_mean(unseen: pd.DataFrame, *, places: Places, every: str) -> pd.DataFrame:
    """The mean over dates of R across stations, with an interval that leaves blocks out.

    Dates are those with ten stations and more. The static part is each station's mean over them,
    so its R says whether wet places are shown wet; the dynamic part is what is left, so its R says
    whether the map shows *where* it is wetter than usual that day.
    """
    values = station_dates(unseen, places.or_none, every=every, kind=places.unit)
    rows = []
    for model, table in values.groupby("model", observed=True, sort=True):
        table = table[table.groupby("date")["station_id"].transform("size") >= MIN_STATIONS]
        n = {"n_dates": table["date"].nunique(), "n_stations": table["station_id"].nunique()}
        parts = dict.fromkeys(PARTS, table[VALUES])
        if len(table):
            parts["static"], parts["dynamic"] = split_parts(table[VALUES], table["station_id"])
        for part, chosen in parts.items():
            line = _mean_r(chosen.to_numpy(float), table["date"], table["cluster"])
            rows.append({"model": model, "part": part, **line, **n})
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
    mean = np.nanmean(whole)
    if k < intervals.MIN_CLUSTERS:
        words = f"no interval: {k} clusters < {intervals.MIN_CLUSTERS}"
        return {**none, "r": mean, "status": words}
    without = correlation_of_sums(without_each(sums))  # (cluster, date)
    with np.errstate(invalid="ignore"):
        left_out = np.nanmean(without, axis=1)
    lower, upper = map(float, jackknife(mean, left_out, scale="r"))
    good = np.isfinite(lower)
    status = OK if good else "no interval: no score without one of the clusters"
    return {"r": mean, "lower": lower, "upper": upper, "n_clusters": k, "status": status}


# Parts that need more than observed and predicted: inputs, spreads, traits, other products.

LEVELS = (0.5, 0.8, 0.9, 0.95)
NOT_TRAITS = {"depth_from_m", "depth_to_m"}
IN_SITU = "in_situ"


def distance(unseen, main: str, *, background: Background, places: Places, seed: int):
    """How far the inputs of the main model's predictions lie from training, and the skill there."""
    own = unseen[unseen["model"].astype("str") == main].reset_index(drop=True)
    try:
        measured, threshold = _measured(own, background, places, seed)
    except SoilkitError as error:
        return Applicability(str(error))
    cluster = clusters(own, places.or_none)
    skill = applicability.skill_by_dissimilarity(
        own, measured, clusters=cluster.tolist(), seed=seed
    )
    inside = (measured["status"] == "inside").astype(float)
    shares = inside.groupby(own["station_id"].astype("str")).mean()
    blocks = pd.Series(cluster).groupby(own["station_id"].astype("str")).first()
    ends = mean_and_median(
        shares.to_numpy(), blocks.reindex(shares.index).to_numpy(), confidence=0.95,
        rng=np.random.default_rng(seed),
    )[0]  # fmt: skip
    share = (float(shares.mean()), float(ends[0]), float(ends[1]))
    median = float(measured["dissimilarity_index"].median())
    return Applicability(OK, measured, skill, share, median, threshold)


def _measured(own, background, places, seed):
    """``Area.measure`` of every prediction, and the threshold (the median one over folds)."""
    features = background.features
    if features is None or not background.predictors:
        raise ContractError("not known: no features of the predictions, or no predictors, given")
    lacking = [c for c in ("sample_id", *background.predictors) if c not in features]
    if lacking:
        raise ContractError(f"the features lack {', '.join(lacking)}")
    table = by_sample(features)
    asked = table.reindex(own["sample_id"].astype("str")).reset_index()
    how: dict[str, Any] = {"predictors": list(background.predictors), "seed": seed}
    trained = background.training_features
    if trained is not None:
        groups = trained["station_id"].astype("str") if "station_id" in trained else None
        area = applicability.fit(trained, groups=groups, **how)
        return area.measure(asked), float(area.threshold)
    return _by_fold(own, table, asked, background=background, how=how)


def _by_fold(own, table, asked, *, background, how):
    """Each fold's predictions against the features of the samples that trained for them."""
    if background.samples is None:
        raise ContractError("not known: neither training features nor samples that trained given")
    parts, thresholds = [], []
    for held_out, trained in training_folds(own, background):
        known = trained[trained.index.isin(table.index)]
        if not len(known):
            raise ContractError("not known: no sample that trained has features")
        area = applicability.fit(
            table.loc[known.index], groups=_groups(known.index, known, background), **how
        )
        parts.append(area.measure(asked.iloc[held_out]))
        thresholds.append(area.threshold)
    return pd.concat(parts).sort_index(), float(np.median(thresholds))


def _groups(ids, labels, background):
    """Stations of training rows where they are known, else their folds, else none."""
    samples = background.samples
    if samples is not None:
        found = by_sample(samples)["station_id"].astype("str").reindex(ids)
        if found.notna().all() and found.nunique() > 1:
            return found.to_numpy()
    folds = labels.reindex(ids)
    return folds.to_numpy() if folds.nunique() > 1 else None


def calibration(unseen, *, places: Places, seed: int) -> Calibration:
    """Do stated standard deviations mean what they say; a status where there are none."""
    if "predicted_std_m3_m3" not in unseen or unseen["predicted_std_m3_m3"].isna().all():
        return Calibration("no predicted standard deviation: the table states no uncertainty")
    stated = unseen[unseen["predicted_std_m3_m3"].notna()]
    try:
        rows = metrics.forecast_rows(stated)
    except SoilkitError as error:
        return Calibration(str(error))
    how: dict[str, Any] = {"stations": places.or_none, "seed": seed}
    return Calibration(
        OK,
        metrics.reliability(rows, levels=LEVELS, **how),
        metrics.sharpness(rows, **how),
        metrics.spread_skill(rows, **how),
    )


def failures(scores, main: str, *, places: Places, options: Options) -> Failures:
    """Classes apart from the rest, the worst stations, and traits of the places that fail."""
    own = scores[scores["model"] == main]
    stations = places.stations
    known = [
        by
        for by in options.by
        if by in stations and stations[by].astype("str").str.strip().ne("").any()
    ]
    traits = list(options.traits) or numeric_traits(stations)

    def classes():
        if not known:
            raise ContractError("no class of any station is known")
        table = places.required()
        return metrics.class_differences(own, table, by=known, seed=options.seed)

    space, words = _traits(scores, own, places=places, options=options)
    found = attempt(classes)
    worst = attempt(lambda: metrics.worst_stations(own, stations, traits=traits, n=options.worst))
    status = str(found["status"].iloc[0]) if is_missing(found) else OK
    return Failures(status, found, worst, space, words)


def _traits(scores, own, *, places: Places, options: Options):
    """The space of traits, failures being places worse than SMAP, or the worst quarter."""
    traits = list(options.traits) or numeric_traits(places.stations)
    rivals = [m for m in scores["model"].unique() if role_of(m, options) == "smap"]
    rival = scores[scores["model"].isin(rivals[:1])]
    has_rival = len(rival) > 0 and rivals[0] != own["model"].iloc[0]
    try:
        if not traits:
            raise ContractError("no numeric trait of the stations varies")
        space = applicability.trait_space(
            own, places.required(), traits=traits, baseline=rival if has_rival else None,
            seed=options.seed,
        )  # fmt: skip
    except SoilkitError as error:
        return None, str(error)
    return space, OK


def numeric_traits(stations: pd.DataFrame) -> list[str]:
    """Columns of numbers that vary over stations, depths of sensors left out."""
    numbers = stations.select_dtypes("number")
    return [
        str(name)
        for name in numbers
        if name not in NOT_TRAITS and numbers[name].dropna().nunique() > 1
    ]


def literature(scores, main: str) -> pd.DataFrame:
    """The main model's networks beside what eleven works report there."""
    found = beside_literature(scores[scores["model"] == main])
    return found if len(found) else missing("no network could be looked up")


def triple(unseen, main: str, *, background: Background, options: Options) -> pd.DataFrame:
    """Triple collocation of the main model, SMAP and the stations, or why it is refused."""
    by_name = dict(list(unseen.groupby(unseen["model"].astype("str"))))
    rivals = [name for name in by_name if name != main and role_of(name, options) != "model"]
    rivals.sort(key=lambda name: role_of(name, options) != "smap")
    if not rivals:
        return missing("no third product (SMAP, GLDAS) beside the model and the stations")
    other = rivals[0]
    unnamed = [name for name in (main, other) if name not in background.sources]
    if unnamed:
        return missing(
            f"not made: nobody said what went into {' and '.join(unnamed)}, and errors that two "
            "series share would pass for truth"
        )
    sources = {n: tuple(background.sources[n]) for n in (main, other)} | {IN_SITU: (IN_SITU,)}
    triplets = metrics.triplets_of([by_name[main], by_name[other]], observed=IN_SITU)
    triplets = triplets.drop_duplicates(["sensor_id", "time"])
    try:
        return metrics.triple_collocation(triplets, sources, seed=options.seed)
    except SharedErrorsError as error:
        return missing(str(error), is_refused=True)
    except SoilkitError as error:
        return missing(str(error))
