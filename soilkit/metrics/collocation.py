"""Triple collocation: the errors of three series against a truth that nobody measured."""

import itertools
import re
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from soilkit.constants import OK
from soilkit.errors import ContractError, SharedErrorsError
from soilkit.metrics import intervals
from soilkit.metrics.comparison import common_samples, model_of
from soilkit.metrics.intervals import Steps
from soilkit.metrics.points import Groups
from soilkit.sources import CATALOGUE

ESTIMATES = ("error_variance_m6_m6", "error_std_m3_m3", "r", "snr_db")
# Of a triplet's six covariances, those of each series with itself, with the other two, and
# between these: positions in (xx, yy, zz, xy, xz, yz).
ROLES = ((0, 3, 4, 5), (1, 3, 5, 4), (2, 4, 5, 3))
PAIRS = ((0, 1), (0, 2), (1, 2))
SQUARES = ((0, 0), (1, 1), (2, 2), *PAIRS)
ENDS = ("_lower", "_upper")
COLUMNS = [f"{name}{end}" for name in ESTIMATES for end in ("", *ENDS)]
MIN_EFFECTIVE = 80.0  # below, 95 % intervals of R were seen to cover 83 %
MIN_TRIPLETS = 100
ROUNDING = 1e-12


def solve(q: np.ndarray) -> np.ndarray:
    """Error variance and R^2, (..., 3, 2), from Qxx, Qyy, Qzz, Qxy, Qxz, Qyz, (..., 6).

    R^2 is above one where the error variance is negative; NaN where a covariance of two series, or
    a variance, is not positive.
    """
    soluble = (q > 0).all(axis=-1, keepdims=True)
    q = np.where(soluble, q, np.nan)
    parts = []
    for variance, with_one, with_other, between in ROLES:
        signal = q[..., with_one] * q[..., with_other] / q[..., between]
        parts.append(np.stack([q[..., variance] - signal, signal / q[..., variance]], axis=-1))
    return np.stack(parts, axis=-2)


def estimates(error: np.ndarray, square: np.ndarray) -> dict[str, np.ndarray]:
    """The four estimates, ESTIMATES, from error variances and squared R, same shape.

    The standard deviation of the error, R and SNR are NaN where the squared R is.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        std = np.sqrt(np.where(np.isnan(square), np.nan, np.maximum(error, 0)))
        snr_db = -10 * np.log10(1 / square - 1)
    return dict(zip(ESTIMATES, (error, std, np.sqrt(square), snr_db), strict=True))


def _add_intervals(table, series, *, groups, seed):
    """Write ``n_effective`` and the limits of every estimate into ``table``, and why one lacks.

    ``table`` has three rows a sensor, ``series`` is (3, row); every sensor starts from ``seed``.
    """
    size, length = _memory(series, groups)
    limits = np.full((len(ESTIMATES), 2, len(size), 3), np.nan)
    status = table["status"].to_numpy(object).copy()
    lacks_all = table[list(ESTIMATES)].isna().all(axis=1).to_numpy().reshape(-1, 3).all(axis=1)
    for i in np.flatnonzero(~lacks_all):
        why = f"no interval: {size[i]:.0f} effective triplets < {MIN_EFFECTIVE:.0f}"
        if size[i] >= MIN_EFFECTIVE:
            part = series[:, groups.starts[i] : groups.starts[i] + groups.counts[i]]
            rng = np.random.default_rng(seed)
            limits[:, :, i], why = _limits(part, length[i], rng)
        if why:
            rows = slice(3 * i, 3 * i + 3)
            status[rows] = [why if word == OK else f"{word}; {why}" for word in status[rows]]
    table["n_effective"], table["status"] = np.repeat(size, 3), status
    for name, ends in zip(ESTIMATES, limits, strict=True):
        for end, values in zip(ENDS, ends, strict=True):
            table[f"{name}{end}"] = np.where(table[name].isna(), np.nan, values.ravel())


def _memory(series, groups):
    """Effective sizes and block lengths by the longest memory of the three, two (sensor,)."""
    size, length = np.full(len(groups.counts), np.nan), np.ones(len(groups.counts), int)
    is_long = groups.counts >= 3
    long = groups.take(is_long)
    if len(long.counts):
        steps = Steps.of(long)
        z = [long.centred(one[groups.spread(is_long)]) for one in series]
        # The mean of the three, each divided by its spread, has the least noise, which hides
        # memory.
        spread = [np.sqrt(long.sum(one**2) / long.counts) for one in z]
        scaled = [a / long.spread(np.where(s > 0, s, 1)) for a, s in zip(z, spread, strict=True)]
        tau = intervals.memory_of((*z, sum(scaled)), steps)[1]
        size[is_long] = np.maximum(intervals.effective_size(2 / tau, steps), 1)
        length[is_long] = intervals.block_length(tau, steps)
    return size, length


def _limits(part, length, rng):
    """Limits of one sensor's estimates, (estimate, 2, series), over the draws with a solution."""
    z = part - part[:, :1]
    z = z - z.mean(axis=1, keepdims=True)
    columns = np.array([*z, *(z[i] * z[j] for i, j in SQUARES)])  # (9, row)
    means = intervals.block_means(columns, length, rng=rng)
    q = [means[3 + k] - means[i] * means[j] for k, (i, j) in enumerate(SQUARES)]
    drawn = solve(np.stack(q, axis=1))  # (draw, series, 2)
    soluble = np.isfinite(drawn[:, 0, 0])
    n_blocks = part.shape[1] / length
    lost = 1 - soluble.mean()
    if lost > intervals.tail_of_clusters(n_blocks):
        return np.nan, f"no interval: {100 * lost:.0f} % of the draws have no common truth"
    drawn = drawn[soluble]
    draws = estimates(drawn[..., 0], np.minimum(drawn[..., 1], 1)).values()
    # A quantile that is a draw: an infinite SNR is not averaged with a finite one.
    ends = [intervals.limits(v, n_clusters=n_blocks, method="inverted_cdf") for v in draws]
    return np.array(ends), ""


# What products are made of: those that stand on one root share errors. The analyses take
# precipitation fields built from the same gauges and forecasts. The first pattern that fits the
# beginning of a word, in small letters and figures only, tells its roots.
SMAP_TB, SMOS_TB, AMSR_TB = (f"{name} brightness temperature" for name in ("SMAP", "SMOS", "AMSR"))
RAIN, ASCAT = "precipitation analysis", "ASCAT backscatter"
MADE_OF = {
    "smapsentinel1|spl2smaps": (SMAP_TB, "sentinel1"),
    "smap(sp)?l[123]|spl[123]|smap.*brightness|smaptb": (SMAP_TB,),
    "smap|spl4": (SMAP_TB, RAIN),
    "esacci|ccisoil|c3s": (SMAP_TB, SMOS_TB, AMSR_TB, ASCAT, RAIN),
    "cgls|copernicusssm|ssm1km": ("sentinel1",),
    "satelliteembedding|alphaearth": ("sentinel1", "sentinel2", "Landsat", RAIN),
    "smos": (SMOS_TB,),
    "amsr": (AMSR_TB,),
    "ascat|metop|hsaf": (ASCAT,),
    "era5(?!land)": (RAIN, ASCAT),  # which its land analysis assimilates
    "era5|merra|gldas|nldas|geos5|chirps|imerg|gridmet|precipitation|rain": (RAIN,),
    "insitu|ismn|probe|station": ("in_situ",),
    **{name.lower(): (name,) for name in ("MODIS", "Landsat")},
    **{re.sub("[^a-z0-9]", "", s.name): (s.name,) for s in CATALOGUE},
}
INDEPENDENT = "independent:"  # a user's word for a part that shares nothing


def triple_collocation(
    triplets: pd.DataFrame,
    sources: Mapping[str, Iterable[str]],
    *,
    allow_shared: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Error variance, R against the unknown truth and signal-to-noise ratio of three series.

    With the covariances Q of three series x, y, z that see one truth linearly and whose errors are
    independent of it and of each other: var(error of x) = Qxx - Qxy Qxz / Qyz, in the scale of x
    [1]_, R of x with the truth = sqrt(Qxy Qxz / (Qxx Qyz)) [2]_, SNR = -10 log10(1 / R^2 - 1) dB
    [3]_. A season that all share counts as truth: take anomalies where the truth is the weather's.
    Intervals are expanded percentiles of a moving-block bootstrap whose blocks follow the longest
    memory; an infinite upper SNR says that the data allow no error at all. Raises ``ContractError``
    when there are not three series, one names no source or an unknown one, two share one, or a
    column is missing.

    Parameters
    ----------
    triplets : table with ``sensor_id``, ``time`` and one column a series [m3 m-3, or any unit: R
        and SNR do not depend on it]; rows that lack a value are left out, and fewer than a hundred
        complete ones give no estimate
    sources : column -> names of all that went into this series: "in_situ", catalogue names and
        products such as "smap" or "ERA5", whose own sources are known here, or "independent: ..."
        for a part of which the user states that it shares nothing
    allow_shared : bool, go on with series that share a source or hold an unknown one, and label
        every row

    Returns
    -------
    DataFrame, one row a sensor and series: ``sensor_id, series``, then ``error_variance_m6_m6,
    error_std_m3_m3, r, snr_db``, each with ``_lower`` and ``_upper``, then ``n, n_effective``,
    ``shared`` (empty, or what the series share: errors are then too small or too large) and
    ``status``: "ok", or why an estimate or interval is missing

    References
    ----------
    .. [1] Stoffelen (1998), doi:10.1029/97JC03180
    .. [2] McColl et al. (2014), doi:10.1002/2014GL061322
    .. [3] Gruber et al. (2016), doi:10.1016/j.jag.2015.09.002
    """
    shared = shared_sources(sources)
    _check(triplets, sources, shared="" if allow_shared else shared)
    names = list(sources)
    sensors, series, groups = _grouped(triplets, names)
    table = _estimates(series, groups, names)
    table["n"] = np.repeat(groups.counts, 3)
    table["sensor_id"] = np.repeat(sensors, 3)
    _add_intervals(table, series, groups=groups, seed=seed)
    columns = ["sensor_id", "series", *COLUMNS, "n", "n_effective", "shared", "status"]
    return table.assign(shared=shared)[columns]


def triplets_of(predictions: Iterable[pd.DataFrame], *, observed: str = "in_situ") -> pd.DataFrame:
    """The observations and two models' predictions on common samples, ready to be collocated.

    ``predictions`` are two tables of one model each, ``observed`` names the observations' column;
    beside it stand ``sensor_id, time`` and one column a model. Raises ``ContractError`` for other
    than two tables, or as ``common_samples``.
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
    """What any two of the series share, and whose parts nobody knows, in words; empty where none.

    Examples
    --------
    >>> shared_sources({"ours": ["sentinel1", "smap_l3"], "L4": ["smap_l4"], "probe": ["in_situ"]})
    'ours and L4 share SMAP brightness temperature'
    >>> shared_sources({"a": ["gldas"], "b": ["radar X"], "c": ["independent: radar Y"]})
    'it is not known what radar X (b) is made of'
    """
    roots = {name: set().union(*map(_roots, _words(given))) for name, given in sources.items()}
    pairs = itertools.combinations(roots, 2)
    common = {f"{a} and {b} share ": ", ".join(sorted(roots[a] & roots[b])) for a, b in pairs}
    unknown = [f"{w} ({n})" for n, given in sources.items() for w in _words(given) if not _roots(w)]
    said = [f"{pair}{names}" for pair, names in common.items() if names]
    said += [f"it is not known what {', '.join(unknown)} is made of"] if unknown else []
    return "; ".join(said)


def _words(given):
    return [given] if isinstance(given, str) else sorted(set(given))


def _roots(word):
    """What a product is made of; nothing where its word is unknown."""
    if word.lower().startswith(INDEPENDENT):
        return {word[len(INDEPENDENT) :].strip().lower()}
    plain = re.sub("[^a-z0-9]", "", word.lower())
    return next((set(roots) for name, roots in MADE_OF.items() if re.match(name, plain)), set())


def _check(triplets, sources, *, shared):
    if len(sources) != 3:
        raise ContractError(f"Triple collocation takes three series, found {len(sources)}.")
    unnamed = [name for name, given in sources.items() if not _words(given)]
    if unnamed:
        raise ContractError(
            f"Series {', '.join(unnamed)} names no source: say what went into it, because errors "
            "that two series share are taken for truth."
        )
    lacking = [c for c in ("sensor_id", "time", *sources) if c not in triplets.columns]
    if lacking:
        raise ContractError(f"The triplets lack the columns {', '.join(lacking)}.")
    if shared:
        raise SharedErrorsError(
            f"Triple collocation needs independent errors, but {shared}. Take another series; name "
            "the sensors and analyses behind an unknown one, or state that it shares none as "
            f"'{INDEPENDENT} its name'; or pass allow_shared=True: the result is then labelled."
        )
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
    groups = Groups(counts, empty, empty, hours.to_numpy()[order], np.arange(len(sensors)), order)
    return np.asarray(sensors, dtype=object), values[order].T, groups


def _estimates(series, groups, names):
    """A row a sensor and series, without intervals; ``status`` says what is missing."""
    q, flat = _covariances(series, groups)  # (sensor, 6), (sensor, 3)
    enough = groups.counts >= MIN_TRIPLETS
    parts = solve(np.where(enough[:, None], q, np.nan))  # (sensor, 3, 2)
    error, square = parts[..., 0], parts[..., 1]
    values = estimates(error, np.where(square <= 1, square, np.nan))
    table = pd.DataFrame({"series": names * len(groups.counts)})
    table = table.assign(**{name: column.ravel() for name, column in values.items()})
    words = [
        _status(n, q[i, 3:], flat[i], error[i] < 0, names=names)
        for i, n in enumerate(groups.counts)
    ]
    return table.assign(status=np.repeat(np.array(words, object), 3))


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


def _status(n, covariances, flat, negative, *, names):
    """Words for one sensor; what ails one of its series concerns all three."""
    strange = [
        f"{names[a]} and {names[b]}"
        for (a, b), c in zip(PAIRS, covariances, strict=True) if c <= 0
    ]  # fmt: skip
    if n < MIN_TRIPLETS:
        return f"too few triplets: {n} < {MIN_TRIPLETS}"
    if flat.any():
        return f"constant series: {', '.join(itertools.compress(names, flat))}"
    if strange:
        return f"no common truth: covariance not positive, {'; '.join(strange)}"
    if negative.any():
        return f"negative error variance: {', '.join(itertools.compress(names, negative))}"
    return OK
