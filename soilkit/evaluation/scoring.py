"""Scores, strata, comparisons and contests of an evaluation."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from soilkit import metrics
from soilkit.errors import ContractError, SoilkitError
from soilkit.evaluation.records import OK, Background, Options, missing
from soilkit.evaluation.sifting import GIVEN
from soilkit.evaluation.turns import turns
from soilkit.metrics import bootstrap, multiplicity
from soilkit.metrics.aggregate import mean_of_means
from soilkit.metrics.anomalies import ORACLE
from soilkit.metrics.comparison import COMPARISON
from soilkit.metrics.points import METRICS

CLIMATOLOGY = "training climatology"
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
    cluster = bootstrap.clusters(table, places.or_none, kind=places.unit)
    rows = []
    for name in ("ubrmse / sd", "rmse / sd", "ubrmse_m3_m3", "bias size_m3_m3", "rmse_m3_m3"):
        has = table[name].notna().to_numpy()
        is_ratio = name.endswith("/ sd")
        values = np.log(table[name][has].clip(lower=TINY)) if is_ratio else table[name][has]
        line = mean_of_means(values, cluster[has], confidence=0.95)
        ends = [line[end] for end in ("value", "lower", "upper")]
        ends = np.exp(ends).tolist() if is_ratio else ends
        quarters = table[name].quantile([0.25, 0.5, 0.75]).tolist()
        few = line["n_blocks"] < bootstrap.MIN_CLUSTERS
        words = f"no interval: {line['n_blocks']} {places.unit}s < {bootstrap.MIN_CLUSTERS}"
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
    """The season of the samples that trained, turn by turn; None where they are unknown."""
    samples = background.samples
    if samples is None:
        return None
    samples = samples.assign(sample_id=samples["sample_id"].astype("str"))
    samples = samples.drop_duplicates("sample_id").set_index("sample_id")
    own = given.drop(columns=GIVEN)
    try:
        parts = [
            metrics.training_climatology(own.iloc[held_out], samples.reindex(trained.index))
            for held_out, trained in turns(given, background)
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
