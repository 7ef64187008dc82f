"""What a model ate that it should not have: held-out statistics, and the label itself."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from soilkit.errors import ContractError
from soilkit.splits.checks import CLAIMS, Check, examples_of, judged
from soilkit.splits.sides import Sides

NORMALISED = "normalisation saw held-out samples"
LABEL_EATEN = "label among the features"
MIN_PAIRS = 30  # fewer rows show no equality of a feature with the label
ALMOST_ONE = 0.9999  # a correlation that no predictor has
LIKELY, FEW = 0.99, 2000  # rows enough to tell a predictor from the label
ID_COLUMNS = ("sample_id", "sensor_id", "station_id")


def fitted_on_training(sides: Sides, fitted_on, *, everything: pd.DataFrame) -> Check:
    """Whether means, scalings and the like know training samples only.

    Parameters
    ----------
    fitted_on : ids of the samples, sensors or stations that they were fitted on; or, for folds, a
        mapping of fold to ids; None = unknown
    everything : the table that was audited, with the samples on neither side
    """
    if fitted_on is None:
        detail = "nobody said what they were fitted on"
        return Check(NORMALISED, "not checked", detail, denies=CLAIMS, advice="give fitted_on")
    if isinstance(fitted_on, Mapping):
        rows, n_ids, strange = _by_fold(sides, fitted_on, everything)
    elif sides.has_folds:
        raise ContractError("Folds are fitted one by one: give fitted_on as {fold: ids}.")
    else:
        seen, strange = _seen(everything, fitted_on)
        trains = np.zeros(len(everything), bool)
        trains[sides.position[~sides.held_out]] = True
        rows, n_ids = seen[sides.position] & sides.held_out, int((seen & ~trains).sum())
    detail = f"{n_ids} samples that do not train and {len(strange)} unknown ids took part"
    status = "fail" if n_ids or strange else "pass"
    return Check(
        NORMALISED, status, detail, denies=CLAIMS, rows=rows, n_units=n_ids + len(strange),
        examples=examples_of(strange), advice="fit them on training samples alone",
    )  # fmt: skip


def _by_fold(sides: Sides, fitted_on: Mapping, everything: pd.DataFrame):
    """Held-out rows that their own fold's statistics saw."""
    if not sides.has_folds:
        raise ContractError("Only folds take fitted_on as a mapping; give the ids alone.")
    names = sides.names
    lost = sorted(set(names) - {str(fold) for fold in fitted_on})
    if lost:
        raise ContractError(f"fitted_on knows nothing of the folds {', '.join(lost[:3])}.")
    rows, strange = np.zeros(len(sides.side), bool), []
    for fold, ids in fitted_on.items():
        seen, unknown = _seen(everything, ids)
        strange += unknown
        rows |= seen[sides.position] & (sides.side == names.index(str(fold)))
    return rows, int(rows.sum()), strange


def _seen(everything: pd.DataFrame, ids: Iterable) -> tuple[np.ndarray, list]:
    """Rows whose sample, sensor or station has one of the ids; and ids that nothing has."""
    wanted = pd.Series(list(ids)).astype("str").drop_duplicates()
    best, known = "", pd.Series(False, index=wanted.index)
    for name in ID_COLUMNS:
        if name in everything and not known.all():
            hits = wanted.isin(everything[name].astype("str"))
            if hits.sum() > known.sum():
                best, known = name, hits
    if not best:
        return np.zeros(len(everything), bool), sorted(wanted)
    return everything[best].astype("str").isin(wanted).to_numpy(), sorted(wanted[~known])


def label_in_features(sides: Sides, features: pd.DataFrame | None) -> Check:
    """Features that are the label in disguise: equal to it, or to a monotone function of it.

    A column fails where Pearson's or Spearman's correlation with the label is 0.9999 and more in
    absolute value over at least 30 finite pairs.

    Parameters
    ----------
    features : (row,) in the order of ``sides``
    """
    if features is None or sides.label is None:
        what = "features" if features is None else "readings"
        return Check(LABEL_EATEN, "not checked", f"no {what} were given", denies=CLAIMS)
    label, found, thin = sides.label, [], []
    numeric = features.select_dtypes("number")
    for name, column in numeric.items():
        values = column.to_numpy(float)
        good = np.isfinite(values) & np.isfinite(label)
        if good.sum() < MIN_PAIRS:
            thin.append(name)
        elif _is_same(values[good], label[good]):
            found.append(name)
    rows = sides.held_out & bool(found)
    return judged(
        rows, len(found), name=LABEL_EATEN, denies=CLAIMS, status="fail",
        examples=examples_of(found),
        detail=f"{len(found)} of {numeric.shape[1]} columns give the label away"
        + (f"; {len(thin)} with too few values to tell" if thin else ""),
        advice="leave them out",
    )  # fmt: skip


def _is_same(x: np.ndarray, y: np.ndarray) -> bool:
    """A few rows, evenly taken, settle most columns without ranking all of them."""
    step = max(len(x) // FEW, 1)
    few = _likeness(x[::step], y[::step])
    return few >= LIKELY and _likeness(x, y) >= ALMOST_ONE


def _likeness(x: np.ndarray, y: np.ndarray) -> float:
    return max(abs(_correlation(x, y)), abs(_correlation(rankdata(x), rankdata(y))))


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    dx, dy = x - x.mean(), y - y.mean()
    return float(dx @ dy / np.sqrt((dx @ dx) * (dy @ dy)))
