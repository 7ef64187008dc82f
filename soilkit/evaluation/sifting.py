"""From the rows handed in to the rows scored: every row that is lost has a reason."""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.errors import ContractError
from soilkit.evaluation.records import SCORED, Options

# "train", "training set", "train 2019"; not "trained on 2019, tested on 2020".
TRAINS = re.compile(
    r"^train(?:ing|ed)?(?:[ _-]*(?:set|rows?|samples?|data|split|part|fold|stations|\d+))*$",
    re.IGNORECASE,
)
TRAINING = re.compile(
    rf"{TRAINS.pattern}|(?<!\bnot )(?<!\bnon[ -])(?<!\bun)(?<!\bno )\bleak(?:y|ing|s)?\b"
    r"|\brandom[ _-]?rows?\b|\brows?[ _-]at[ _-]random\b",
    re.IGNORECASE,
)
GIVEN = "given_split"
TRAINED = "a split that trains or leaks"
REPEATED = "the same model and sample again"
NO_OBSERVATION = "no observation"
NO_PREDICTION = "no finite prediction"


class Sifted(NamedTuple):
    """``unseen`` the rows scored, ``candidates`` those before pairs were asked for, ``losses``."""

    unseen: pd.DataFrame
    candidates: pd.DataFrame
    losses: pd.DataFrame
    handed_in: int


def check_predictions(predictions: pd.DataFrame) -> None:
    """Raise unless the columns are those of the contract; repeated keys are sifted out later.

    Raises
    ------
    ContractError
    """
    schema = contracts.PREDICTIONS
    contracts.check(predictions, contracts.Table(schema.name, schema.columns))
    if not len(predictions):
        raise ContractError("The predictions table has no rows: there is nothing to evaluate.")
    for name in ("model", "split", "sensor_id", "station_id", "time"):
        n = int(predictions[name].isna().sum())
        if n:
            raise ContractError(f"{n} predictions have no {name}; fill it in, or drop those rows.")


def sift(
    predictions: pd.DataFrame,
    main: str,
    *,
    leaky: set[str],
    options: Options,
    notes: pd.DataFrame | None = None,
    clean: frozenset[str] | set[str] = frozenset(),
) -> Sifted:
    """Drop what must not be scored, step by step, and count it.

    Parameters
    ----------
    predictions : checked table
    main : model; where all of its splits train or leak they are kept, since nothing else is there
    leaky : splits that an audit calls leaky, beside those whose name says so
    options : Options
    notes : of a foreign reader, whose own losses come first
    clean : splits that an audit cleared, whatever their name says
    """
    steps = _Steps(predictions, notes)
    table = predictions.reset_index(drop=True)
    table = steps.drop(table, _trained(table, main, leaky=leaky, clean=clean), reason=TRAINED)
    table = steps.drop(table, _repeated(table), reason=REPEATED)
    table = table.assign(**{GIVEN: table["split"].astype("str"), "split": SCORED})
    candidates = table
    observed = np.isfinite(table["observed_m3_m3"].to_numpy(float))
    table = steps.drop(table, ~observed, reason=NO_OBSERVATION)
    predicted = np.isfinite(table["predicted_m3_m3"].to_numpy(float))
    table = steps.drop(table, ~predicted, reason=NO_PREDICTION)
    keys = [table[name].astype("str") for name in ("model", "sensor_id")]
    n = table.groupby(keys)["sample_id"].transform("size")
    reason = f"a sensor with fewer than {options.min_samples} pairs of a model"
    table = steps.drop(table, n < options.min_samples, reason=reason)
    return Sifted(table, candidates, steps.table(), steps.handed_in)


def _repeated(table: pd.DataFrame) -> pd.Series:
    """Rows of a model and sample that another row stands for: the first one that is a pair."""
    pair = np.isfinite(table[["observed_m3_m3", "predicted_m3_m3"]].to_numpy(float)).all(axis=1)
    ids = {name: table[name].astype("str") for name in ("model", "sample_id")}
    ordered = pd.DataFrame(ids).iloc[np.argsort(~pair, kind="stable")]
    return ordered.duplicated().sort_index()


def _trained(table: pd.DataFrame, main: str, *, leaky: set[str], clean) -> pd.Series:
    """Rows to leave out, (row,): the strictest choice that leaves the main model something.

    Training rows go before those of leaky splits stay, and all stay where there is nothing else.
    """
    words = table["split"].astype("str")
    named = {word: bool(TRAINING.search(word)) and word not in clean for word in words.unique()}
    named = words.map(named).astype(bool)
    own = table["model"].astype("str") == main
    for bad in (named | words.isin(leaky), named):
        if (own & ~bad).any():
            return bad
    return named & False


class _Steps:
    """The funnel: what each step took, and what it left."""

    def __init__(self, predictions: pd.DataFrame, notes: pd.DataFrame | None) -> None:
        dropped = notes[notes["n_dropped"] > 0] if notes is not None and len(notes) else None
        lost = 0 if dropped is None else int(dropped["n_dropped"].sum())
        self.handed_in = len(predictions) + lost
        n_stations = predictions["station_id"].nunique()
        self.lines = [("handed in", "rows of the table as it came", 0, self.handed_in, -1)]
        left = self.handed_in
        for row in [] if dropped is None else dropped.itertuples():
            left -= int(row.n_dropped)
            reason = f"{row.status}: {row.detail}"
            self.lines.append(("read", reason, int(row.n_dropped), left, -1))
        first = self.lines[-1]
        self.lines[-1] = (*first[:4], n_stations)

    def drop(self, table: pd.DataFrame, bad, *, reason: str) -> pd.DataFrame:
        bad = np.asarray(bad, bool)
        kept = table[~bad].reset_index(drop=True)
        n_stations = kept["station_id"].nunique()
        self.lines.append(("sift", reason, int(bad.sum()), len(kept), n_stations))
        return kept

    def table(self) -> pd.DataFrame:
        found = pd.DataFrame(
            self.lines, columns=["step", "reason", "n_rows", "n_left", "n_stations_left"]
        )
        unknown = found["n_stations_left"] < 0  # a reader counts rows, not the stations they had
        found["n_stations_left"] = found["n_stations_left"].astype("Int64").mask(unknown)
        return found


def completed(stations: pd.DataFrame | None, predictions: pd.DataFrame) -> pd.DataFrame:
    """The stations of the predictions, those unknown to the table with empty places and classes."""
    columns = {c.name: c.kind for c in contracts.STATIONS.columns}
    ids = ["sensor_id", "station_id", "network"]
    seen = predictions[ids].astype("str").drop_duplicates("sensor_id")
    seen = seen.assign(station=seen["station_id"])
    if stations is None:
        table = seen
    else:
        if "station_id" not in stations:
            raise ContractError("The stations table has no station_id: whose places are these?")
        table = stations.copy(deep=False)
        if "sensor_id" not in table:
            table = seen[["sensor_id", "station_id"]].merge(
                table.assign(station_id=table["station_id"].astype("str")), on="station_id"
            )
        lost = seen[~seen["station_id"].isin(table["station_id"].astype("str"))]
        table = pd.concat([table, lost], ignore_index=True) if len(lost) else table
    for name, kind in columns.items():
        if name not in table:
            table[name] = np.nan if kind == "float" else ""
        elif kind == "string" and name not in ids:
            table[name] = table[name].astype("str").where(table[name].notna(), "")
    return table.reset_index(drop=True)
