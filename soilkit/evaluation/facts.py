"""Figures of an evaluation as the report's sentences need them."""

import re
from typing import Any

import numpy as np
import pandas as pd

from soilkit import splits
from soilkit.evaluation.answers import GOOD_R
from soilkit.evaluation.records import Evaluation, is_missing
from soilkit.metrics.seasons import season_of
from soilkit.strata import MIN_STATIONS

VALIDATION = re.compile(r"^(?:val|valid|validation|dev)\b", re.IGNORECASE)
YEAR_DAYS = 365
LEVELS_WRONG = "swings yes, levels no"


def row_of(table: pd.DataFrame, **keys: Any) -> pd.Series | None:
    """The first row where every column has that value; None without one, or without a table."""
    if is_missing(table) or any(name not in table for name in keys):
        return None
    good = np.ones(len(table), bool)
    for name, value in keys.items():
        good &= (table[name] == value).to_numpy()
    return table[good].iloc[0] if good.any() else None


def between(lower: float, upper: float, *, places: int = 2) -> str:
    """ "0.61 to 0.72", or that there is no interval."""
    if not (np.isfinite(lower) and np.isfinite(upper)):
        return "no interval"
    return f"{lower:.{places}f} to {upper:.{places}f}"


def with_interval(value: float, limits: tuple[float, float], *, places: int = 2) -> str:
    """ "0.68 (95 %: 0.61 to 0.72)", "0.68 (no interval)", or "undefined" without a value."""
    if np.isnan(value):
        return "undefined"
    ends = between(*limits, places=places)
    tail = f" (95 %: {ends})" if ends != "no interval" else " (no interval)"
    return f"{value:.{places}f}{tail}"


def pairs_of_main(evaluation: Evaluation) -> pd.DataFrame:
    """The rows of the main model that are scored."""
    return evaluation.unseen[evaluation.unseen["model"].astype("str") == evaluation.main]


def used_stations(evaluation: Evaluation) -> pd.DataFrame:
    """The rows of the stations table whose sensors are scored for the main model."""
    ids = set(pairs_of_main(evaluation)["sensor_id"].astype("str"))
    return evaluation.stations[evaluation.stations["sensor_id"].astype("str").isin(ids)]


def sizes(evaluation: Evaluation) -> dict[str, int]:
    """Counts of the main model's scored samples, sensors, stations, networks and blocks.

    ``blocks`` counts 2-degree blocks of stations with a known place.
    """
    rows, used = pairs_of_main(evaluation), used_stations(evaluation)
    places = used.drop_duplicates("station_id")
    places = places[places[["latitude", "longitude"]].notna().all(axis=1)]
    return {
        "samples": len(rows),
        "sensors": rows["sensor_id"].nunique(),
        "stations": rows["station_id"].nunique(),
        "networks": rows["network"].nunique(),
        "blocks": int(splits.block_ids(places).nunique()) if len(places) else 0,
        "located": len(places),
    }


def span_days(evaluation: Evaluation) -> float:
    """Days from the first to the last scored sample of the main model."""
    time = pairs_of_main(evaluation)["time"]
    return (time.max() - time.min()) / pd.Timedelta("1D") if len(time) else 0.0


def months_absent(evaluation: Evaluation) -> list[str]:
    """Of DJF, MAM, JJA and SON those without a scored sample."""
    rows = pairs_of_main(evaluation)
    if not len(rows):
        return []
    present = set(season_of(rows["time"], float("nan"))["months"])
    return [name for name in ("DJF", "MAM", "JJA", "SON") if name not in present]


def is_short(evaluation: Evaluation) -> bool:
    """Whether the samples miss a season, or span less than a year."""
    return span_days(evaluation) < YEAR_DAYS - 15 or bool(months_absent(evaluation))


def depths(evaluation: Evaluation) -> str:
    """The depths of the sensors in words."""
    spans = used_stations(evaluation)[["depth_from_m", "depth_to_m"]].dropna().drop_duplicates()
    words = [
        f"{100 * top:g} to {100 * end:g} cm" if top < end else f"{100 * top:g} cm"
        for top, end in spans.sort_values(["depth_to_m", "depth_from_m"]).to_numpy(float)
    ]
    return " · ".join(words) or "unknown"


def small_classes(evaluation: Evaluation) -> list[str]:
    """Classes below five stations, "Sand (texture, 2)"."""
    found = []
    for by, table in evaluation.strata.items():
        if is_missing(table) or by == "season":
            continue
        own = table[(table["model"] == evaluation.main) & (table["metric"] == "rmse_m3_m3")]
        small = own[(own["n_stations"] < MIN_STATIONS) & (own[by].astype("str") != "unknown")]
        pairs = zip(small[by], small["n_stations"], strict=True)
        found += [f"{name} ({by}, {n})" for name, n in pairs]
    return found


def n_classes(evaluation: Evaluation) -> int:
    """How many classes all strata have together, seasons left out."""
    tables = [t for by, t in evaluation.strata.items() if by != "season" and not is_missing(t)]
    return sum(t[t.columns[2]].nunique() for t in tables)


def statuses(evaluation: Evaluation) -> str:
    """How many of the main model's sensors have which status."""
    words = evaluation.main_scores["status"].astype("str")
    words = words.map(lambda text: re.sub(r": [\d.]+ <", ", below", text))
    return " · ".join(f"{name}: {n}" for name, n in words.value_counts().items())


def main_of(evaluation: Evaluation, metric: str) -> pd.Series | None:
    """The main model's line of a metric in the overall summary."""
    return row_of(evaluation.overall, model=evaluation.main, metric=metric)


def classes_apart(evaluation: Evaluation) -> pd.DataFrame:
    """Classes that are surely more than a tenth worse than the rest, or surely without skill.

    Without skill is a class whose mean R has an interval that holds zero and ends below 0.5.

    Returns
    -------
    DataFrame: ``characteristic, class, n_stations, why``
    """
    found = []
    classes = evaluation.failures.classes
    if not is_missing(classes):
        sure = (classes["verdict"] == "worse") & (classes["ratio_lower"] > 1)
        for row in classes[sure].itertuples():
            ends = between(row.ratio_lower, row.ratio_upper)
            why = f"ubRMSE {row.ratio:.2f} times the rest's (95 %: {ends})"
            # A namedtuple cannot have a field called "class".
            found.append((row.characteristic, row.label.rstrip("*"), row.n_stations, why))
    for by, table in evaluation.strata.items():
        if is_missing(table) or by == "season":
            continue
        own = table[(table["model"] == evaluation.main) & (table["metric"] == "r")]
        for _, row in own[(own["mean_lower"] <= 0) & (own["mean_upper"] < GOOD_R)].iterrows():
            why = f"R {with_interval(row['mean'], (row['mean_lower'], row['mean_upper']))}"
            found.append((by, str(row[by]), int(row["n_stations"]), why))
    return pd.DataFrame(found, columns=["characteristic", "class", "n_stations", "why"])


def n_judged_classes(evaluation: Evaluation) -> int:
    """Classes whose mean R or ratio to the rest has an interval."""
    names = set()
    classes = evaluation.failures.classes
    if not is_missing(classes):
        good = classes[classes["ratio_lower"].notna()]
        names |= set(zip(good["characteristic"], good["class"].astype(str), strict=True))
    for by, table in evaluation.strata.items():
        if not is_missing(table) and by != "season":
            own = table[(table["model"] == evaluation.main) & (table["metric"] == "r")]
            good = own[own["mean_lower"].notna()]
            names |= {(by, str(name)) for name in good[by]}
    return len(names)


def judged_share(evaluation: Evaluation) -> float:
    """Share of stations, over all characteristics, in classes whose mean R decides something.

    An interval that holds zero and reaches 0.5 decides nothing.
    """
    judged = total = 0
    for by, table in evaluation.strata.items():
        if is_missing(table) or by == "season":
            continue
        own = table[(table["model"] == evaluation.main) & (table["metric"] == "r")]
        decides = (own["mean_lower"] > 0) | (own["mean_upper"] < GOOD_R)
        judged += int(own.loc[decides, "n_stations"].sum())
        total += int(own["n_stations"].sum())
    return judged / total if total else 0.0


def validation_share(evaluation: Evaluation) -> float:
    """Share of the main model's scored samples whose split is called validation."""
    words = pairs_of_main(evaluation)["given_split"].astype("str")
    return float(words.str.contains(VALIDATION).mean()) if len(words) else 0.0


def unmeasured_share(evaluation: Evaluation) -> float:
    """Share of predictions without a distance from training: an input lacks."""
    table = evaluation.applicability.measured
    return float(table["dissimilarity_index"].isna().mean()) if len(table) else 0.0
