"""Triple collocation: the errors of three series against a truth that nobody measured.

It needs three series whose errors have nothing in common, so every series names its sources.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from soilkit.errors import ContractError
from soilkit.metrics import collocation
from soilkit.metrics.collocation import ESTIMATES, PAIRS, SQUARES
from soilkit.metrics.groups import Groups
from soilkit.metrics.paired import common_samples, model_of
from soilkit.metrics.stations import OK

MIN_TRIPLETS = 100
ROUNDING = 1e-12
# What the coarse products are made of: those that stand in one column share errors. The analyses
# take precipitation fields built from the same gauges and forecasts.
MADE_OF = {
    "smap": ("SMAP brightness temperature", "precipitation analysis"),
    "smap_l4": ("SMAP brightness temperature", "precipitation analysis"),
    "gldas": ("precipitation analysis",),
    "nldas2_noah": ("precipitation analysis",),
    "smap_hydroblocks": ("SMAP brightness temperature", "precipitation analysis"),
    **dict.fromkeys(
        ("smap_l3_005", "smap_l3_006", "smap_l3_ancillary", "smap_l1c_tb", "smap_l2"),
        ("SMAP brightness temperature",),
    ),
    "smap_sentinel1": ("SMAP brightness temperature", "sentinel1"),
}
COLUMNS = [f"{name}{end}" for name in ESTIMATES for end in ("", "_lower", "_upper")]


def triple_collocation(
    triplets: pd.DataFrame,
    sources: Mapping[str, Iterable[str]],
    *,
    allow_shared: bool = False,
    min_triplets: int = MIN_TRIPLETS,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Error variance, R against the unknown truth and signal-to-noise ratio of three series.

    With the covariances Q of three series x, y, z that see one truth linearly and whose errors are
    independent of it and of each other: var(error of x) = Qxx - Qxy Qxz / Qyz, in the scale of x
    [1]_, R of x with the truth = sqrt(Qxy Qxz / (Qxx Qyz)) [2]_, SNR = -10 log10(1 / R^2 - 1) dB
    [3]_. A season that all share counts as truth: take anomalies where the truth is the weather's.
    Intervals are expanded percentiles of a moving-block bootstrap whose blocks follow the longest
    memory; an infinite upper SNR says that the data allow no error at all.

    Parameters
    ----------
    triplets : table with ``sensor_id``, ``time`` and one column a series [m3 m-3, or any unit: R
        and SNR do not depend on it]; rows that lack a value are left out
    sources : column -> names of all that went into this series: catalogue names such as "smap",
        whose own sources are known here, or any other word, such as "in_situ"
    allow_shared : bool, go on with series that share a source, and label every row
    min_triplets : int, fewer complete rows give no estimate
    confidence : float
    seed : int

    Returns
    -------
    DataFrame, one row a sensor and series: ``sensor_id, series``, then ``error_variance_m6_m6,
    error_std_m3_m3, r, snr_db``, each with ``_lower`` and ``_upper``, then ``n, n_effective``,
    ``shared`` (empty, or what the series share: errors are then too small or too large) and
    ``status``: "ok", or why an estimate or interval is missing

    Raises
    ------
    ContractError
        When there are not three series, one names no source, two share one, a column is missing,
        or an argument is out of range.

    References
    ----------
    .. [1] Stoffelen (1998), doi:10.1029/97JC03180
    .. [2] McColl et al. (2014), doi:10.1002/2014GL061322
    .. [3] Gruber et al. (2016), doi:10.1016/j.jag.2015.09.002
    """
    shared = shared_sources(sources)
    _check(triplets, sources, shared="" if allow_shared else shared)
    if min_triplets < 3 or not 0 < confidence < 1:
        raise ContractError(
            "Triple collocation needs min_triplets >= 3 and a confidence between 0 and 1, "
            f"found {min_triplets} and {confidence}."
        )
    names = list(sources)
    sensors, series, groups = _grouped(triplets, names)
    table = _estimates(series, groups, names, min_triplets)
    table["n"] = np.repeat(groups.counts, 3)
    table["sensor_id"] = np.repeat(sensors, 3)
    collocation.add_intervals(table, series, groups=groups, confidence=confidence, seed=seed)
    columns = ["sensor_id", "series", *COLUMNS, "n", "n_effective", "shared", "status"]
    return table.assign(shared=shared)[columns]


def triplets_of(predictions: Iterable[pd.DataFrame], *, observed: str = "in_situ") -> pd.DataFrame:
    """The observations and two models' predictions on common samples, ready to be collocated.

    Parameters
    ----------
    predictions : two predictions tables of one model each
    observed : name of the observations' column

    Returns
    -------
    DataFrame: ``sensor_id, time``, the column ``observed`` and one column a model

    Raises
    ------
    ContractError
        For other than two tables, or as ``common_samples``.
    """
    tables = list(predictions)
    names = [observed, *(model_of(table) for table in tables)]
    if len(set(names)) != 3:
        raise ContractError(f"Triplets need two models with names of their own, found {names[1:]}.")
    common = common_samples(tables)
    first = common[0].reset_index(drop=True)
    series = [first["observed_m3_m3"], *(t["predicted_m3_m3"].to_numpy() for t in common)]
    return first[["sensor_id", "time"]].assign(**dict(zip(names, series, strict=True)))


def shared_sources(sources: Mapping[str, Iterable[str]]) -> str:
    """What any two of the series share, in words; empty where nothing.

    Examples
    --------
    >>> shared_sources({"ours": ["sentinel1", "smap"], "SMAP": ["smap"], "probe": ["in_situ"]})
    'ours and SMAP share SMAP brightness temperature, precipitation analysis, smap'
    >>> shared_sources({"a": ["gldas"], "b": ["nldas2_noah"], "c": ["in_situ"]})
    'a and b share precipitation analysis'
    """
    roots = {name: _roots(given) for name, given in sources.items()}
    names, found = list(roots), []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            common = sorted(roots[a] & roots[b])
            if common:
                found.append(f"{a} and {b} share {', '.join(common)}")
    return "; ".join(found)


def _roots(given):
    names = {given} if isinstance(given, str) else set(given)
    return names | {root for name in names for root in MADE_OF.get(name, ())}


def _check(triplets, sources, *, shared):
    if len(sources) != 3:
        raise ContractError(f"Triple collocation takes three series, found {len(sources)}.")
    unnamed = [name for name, given in sources.items() if not _roots(given)]
    if unnamed:
        raise ContractError(
            f"Series {', '.join(unnamed)} names no source: say what went into it, because errors "
            "that two series share are taken for truth."
        )
    if shared:
        raise ContractError(
            f"Triple collocation needs independent errors, but {shared}. Take another series, or "
            "pass allow_shared=True: the result is then labelled."
        )
    lacking = [c for c in ("sensor_id", "time", *sources) if c not in triplets.columns]
    if lacking:
        raise ContractError(f"The triplets lack the columns {', '.join(lacking)}.")
    if triplets.duplicated(["sensor_id", "time"]).any():
        raise ContractError("A sensor has two triplets at one time: take one, or their mean.")


def _grouped(triplets, names):
    """Sensors, their complete triplets as series (3, row) in time, and the runs of rows."""
    values = triplets[names].to_numpy(float)
    codes, sensors = pd.factorize(triplets["sensor_id"].astype("str"), sort=True)
    hours = (triplets["time"] - triplets["time"].min()) / pd.Timedelta("1h")
    good = np.isfinite(values).all(axis=1)
    order = np.lexsort((hours.to_numpy(), codes))
    order = order[good[order]]
    counts = np.bincount(codes[order], minlength=len(sensors))
    empty = np.zeros(len(order))
    groups = Groups(empty, empty, hours.to_numpy()[order], counts, np.arange(len(sensors)))
    return np.asarray(sensors, dtype=object), values[order].T, groups


def _estimates(series, groups, names, min_triplets):
    """A row a sensor and series, without intervals; ``status`` says what is missing."""
    q, flat = _covariances(series, groups)  # (sensor, 6), (sensor, 3)
    enough = groups.counts >= min_triplets
    found = collocation.solve(np.where(enough[:, None], q, np.nan))  # (sensor, 3, 2)
    error, square = found[..., 0], found[..., 1]
    values = collocation.estimates(error, np.where(square <= 1, square, np.nan))
    table = pd.DataFrame({"series": names * len(groups.counts)})
    for name, column in values.items():
        table[name] = column.ravel()
    table["status"] = _status(groups.counts, q, flat, error, names, min_triplets)
    return table


def _covariances(series, groups):
    full = groups.take(groups.counts > 0)
    q, flat = np.full((len(groups.counts), 6), np.nan), np.zeros((len(groups.counts), 3), bool)
    if len(full.counts):
        z = np.array([full.centred(one) for one in series])
        q[full.which] = np.stack([full.sum(z[i] * z[j]) / full.counts for i, j in SQUARES], axis=1)
        flat[full.which] = np.stack([full.sum(np.abs(one)) == 0 for one in z], axis=1)
        for column, (i, j) in enumerate(PAIRS, start=3):  # rounding is no covariance
            tiny = np.abs(q[:, column]) <= ROUNDING * np.sqrt(q[:, i] * q[:, j])
            q[tiny, column] = 0
    return q, flat


def _status(counts, q, flat, error, names, min_triplets):
    """Words for every sensor and series, (sensor * series,); an error of one concerns all."""
    words = []
    for i, n in enumerate(counts):
        negative = [name for name, value in zip(names, error[i], strict=True) if value < 0]
        pairs = zip(PAIRS, q[i, 3:], strict=True)
        strange = [f"{names[a]} and {names[b]}" for (a, b), c in pairs if c <= 0]
        if n < min_triplets:
            words += [f"too few triplets: {n} < {min_triplets}"] * 3
        elif flat[i].any():
            still = [name for name, is_flat in zip(names, flat[i], strict=True) if is_flat]
            words += [f"constant series: {', '.join(still)}"] * 3
        elif strange:
            words += [f"no common truth: covariance not positive, {'; '.join(strange)}"] * 3
        elif negative:
            words += [f"negative error variance: {', '.join(negative)}"] * 3
        else:
            words += [OK] * 3
    return words
