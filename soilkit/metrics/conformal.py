"""Split-conformal intervals for stations never seen: whole stations are exchangeable, rows not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pandas as pd

from soilkit import contracts
from soilkit.errors import ContractError
from soilkit.metrics.forecasts import NO_SPREAD
from soilkit.metrics.stations import OK

NO_PREDICTION = "no prediction"
GUARANTEES = ("row", "station")


@dataclass(frozen=True)
class Conformal:
    """What ``fit`` learned: half-widths are ``threshold`` m3 m-3, or that many predicted std.

    ``str()`` says what is promised, for whom, and what is not.
    """

    model: str
    coverage: float
    guarantee: str
    share_of_stations: float
    threshold: float
    is_normalised: bool
    n_groups: int
    n_rows: int
    calibration_groups: frozenset[str] = field(repr=False)
    group_of: Mapping[str, str] | None = field(repr=False, default=None)

    def __str__(self) -> str:
        if self.guarantee == "row":
            promise = (
                f"a random reading of a new group lies inside with probability >= {self.coverage:g}"
                ", averaged over groups and over calibration sets; a single station may be covered "
                "far less or more"
            )
        else:
            promise = (
                f"with probability >= {self.share_of_stations:g} a new group has at least "
                f"{self.coverage:g} of its readings inside; no promise for the rest"
            )
        return (
            f"From {self.n_rows} readings of {self.n_groups} groups: {promise}. It holds if new "
            "groups are drawn as the calibration groups were (same kind of places, seasons and "
            "record lengths) and none of them trained the model; not for another continent or a "
            "later climate."
        )


def fit(
    calibration: pd.DataFrame,
    *,
    coverage: float = 0.9,
    guarantee: str = "row",
    share_of_stations: float = 0.9,
    groups: pd.Series | None = None,
    training_stations: Iterable[str] = (),
) -> Conformal:
    """Calibrate symmetric intervals on stations that neither trained the model nor test it.

    The score of a reading is abs(observed - predicted), divided by ``predicted_std_m3_m3`` where
    the table has it. Guarantee "row" weighs every group alike and adds one group of infinite
    scores (hierarchical conformal prediction [1]_); "station" takes each group's own quantile
    first, and a conformal quantile of those ([2]_ pools two layers alike); with ``coverage=1`` that
    is each group's largest score. Rows of one station are never taken for exchangeable with rows of
    another: the usual row-wise quantile covers too little.

    Parameters
    ----------
    calibration : predictions table of one model
    coverage : float, share of readings inside
    guarantee : "row" or "station"
    share_of_stations : float, for "station" only
    groups : Series by station_id (such as ``splits.chip_groups``, or blocks): stations that are
        not independent stay in one group; it names the new stations too. None: each station alone
    training_stations : station_ids that trained the model; none may calibrate

    Raises
    ------
    ContractError
        For several models, leaked stations, or too few groups for that coverage.

    References
    ----------
    .. [1] Lee, Barber and Willett (2023), arXiv:2306.06342
    .. [2] Dunn, Wasserman and Ramdas (2023), doi:10.1080/01621459.2022.2060112
    """
    contracts.check(calibration, contracts.PREDICTIONS)
    model = _one_model(calibration)
    group = _groups(calibration, None if groups is None else _mapping(groups))
    trained = _groups_of(training_stations, groups)
    _refuse_shared(trained & set(group), "trained the model and calibrate it")
    is_normalised = "predicted_std_m3_m3" in calibration.columns
    scores = _scores(calibration, is_normalised)
    usable = ~np.isnan(scores)
    scores, group = scores[usable], group[usable]
    if guarantee == "row":
        threshold = row_threshold(scores, group, coverage=coverage)
    elif guarantee == "station":
        threshold = station_threshold(scores, group, coverage=coverage, share=share_of_stations)
    else:
        raise ContractError(f"A guarantee is one of {', '.join(GUARANTEES)}; found {guarantee!r}.")
    if not np.isfinite(threshold):
        n = int(np.isinf(scores).sum())
        raise ContractError(f"No finite interval: {n} wrong predictions have a std of zero.")
    return Conformal(
        model, coverage, guarantee, share_of_stations, threshold, is_normalised,
        len(set(group)), len(scores), frozenset(group),
        None if groups is None else _mapping(groups),
    )  # fmt: skip


def apply(conformal: Conformal, predictions: pd.DataFrame) -> pd.DataFrame:
    """Intervals for the predictions at new stations.

    Parameters
    ----------
    conformal : from ``fit``
    predictions : predictions table of the same model; observations may be unknown

    Returns
    -------
    DataFrame: the table with ``lower_m3_m3``, ``upper_m3_m3`` and ``interval_status`` ("ok", or
    why there is none)

    Raises
    ------
    ContractError
        For another model, or stations whose group calibrated the intervals.
    """
    contracts.check(predictions, contracts.PREDICTIONS)
    model = _one_model(predictions)
    if model != conformal.model:
        raise ContractError(f"Calibrated for {conformal.model!r}, found predictions of {model!r}.")
    group = _groups(predictions, conformal.group_of)
    _refuse_shared(set(group) & conformal.calibration_groups, "calibrated these intervals")
    predicted = predictions["predicted_m3_m3"].to_numpy(float)
    half = np.full(len(predictions), conformal.threshold)
    if conformal.is_normalised:
        half = conformal.threshold * _std(predictions)
    lower, upper = predicted - half, predicted + half
    missing = [~np.isfinite(predicted), ~np.isfinite(half)]
    none = missing[0] | missing[1]
    return predictions.assign(
        lower_m3_m3=np.where(none, np.nan, lower),
        upper_m3_m3=np.where(none, np.nan, upper),
        interval_status=np.select(missing, [NO_PREDICTION, NO_SPREAD], default=OK),
    )


def row_threshold(scores, groups, *, coverage):
    """The score below which a random reading of a new group lies with probability ``coverage``.

    The ``coverage`` quantile of all scores, each weighing 1 / ((K + 1) N_k) in a group of N_k
    readings, with the missing 1 / (K + 1) at infinity [1]_.

    Parameters
    ----------
    scores : array (row,)
    groups : array (row,), names
    coverage : float

    References
    ----------
    .. [1] Lee, Barber and Willett (2023), arXiv:2306.06342, equation 4

    Examples
    --------
    >>> float(row_threshold(np.arange(4.0), np.array(["a", "a", "a", "b"]), coverage=0.5))
    3.0
    """
    codes, names = pd.factorize(np.asarray(groups))
    _need_groups(len(names), Fraction(str(coverage)) / (1 - Fraction(str(coverage))), coverage)
    order = np.argsort(scores, kind="stable")
    weights = 1 / np.bincount(codes)[codes][order] / (len(names) + 1)
    # Sums of weights carry rounding: an exact hit must count as one.
    return np.asarray(scores)[order][np.argmax(np.cumsum(weights) >= coverage - 1e-12)]


def station_threshold(scores, groups, *, coverage, share):
    """The score that ``coverage`` of a new group's readings stay below, in ``share`` of groups.

    The ceil(share (K + 1))-th smallest of the groups' own quantiles, each the ceil(coverage
    N_k)-th smallest score of its group.

    Parameters
    ----------
    scores : array (row,)
    groups : array (row,), names
    coverage, share : float

    Examples
    --------
    >>> float(station_threshold(np.arange(4.0), np.array(list("aabb")), coverage=1, share=0.5))
    3.0
    """
    if not 0 < coverage <= 1:
        raise ContractError(f"A share of readings lies above 0 and up to 1, found {coverage}.")
    by_group = pd.Series(np.asarray(scores, float)).groupby(np.asarray(groups))
    wanted = Fraction(str(coverage))
    own = sorted(np.sort(part)[-int(-wanted * len(part) // 1) - 1] for _, part in by_group)
    exact = Fraction(str(share))
    _need_groups(len(own), exact / (1 - exact) if share < 1 else Fraction(0), share)
    return own[int(-(-exact * (len(own) + 1) // 1)) - 1]


def _need_groups(n, wanted, share):
    if not 0 < share < 1:
        raise ContractError(f"A coverage lies between 0 and 1, found {share}.")
    if n < wanted:
        raise ContractError(
            f"Intervals of {share:.0%} for unseen groups need {int(-(-wanted // 1))} calibration "
            f"groups with a finite residual, found {n}. Ask for less, or hold out more stations."
        )


def _scores(predictions, is_normalised):
    """Absolute residuals, over the predicted std if normalised; NaN where one is missing."""
    residual = np.abs(
        predictions["observed_m3_m3"].to_numpy(float)
        - predictions["predicted_m3_m3"].to_numpy(float)
    )
    residual = np.where(np.isfinite(residual), residual, np.nan)
    if not is_normalised:
        return residual
    std = _std(predictions)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = residual / std
    return np.where((residual == 0) & (std == 0), 0.0, ratio)


def _std(predictions):
    if "predicted_std_m3_m3" not in predictions.columns:
        raise ContractError("Calibrated in predicted_std_m3_m3, which these predictions lack.")
    std = predictions["predicted_std_m3_m3"].to_numpy(float)
    if (std < 0).any():
        raise ContractError(f"predicted_std_m3_m3 is negative in {int((std < 0).sum())} rows.")
    return np.where(np.isfinite(std), std, np.nan)


def _one_model(predictions):
    names = predictions["model"].astype("str").unique()
    if len(names) != 1:
        found = ", ".join(names) or "no rows"
        raise ContractError(f"Intervals belong to one model, found {found}. Select its rows first.")
    return str(names[0])


def _mapping(groups):
    return {str(station): str(group) for station, group in groups.items()}


def _groups(predictions, group_of):
    stations = predictions["station_id"].astype("str")
    if group_of is None:
        return stations.to_numpy(object)
    found = stations.map(group_of)
    if found.isna().any():
        lost = ", ".join(sorted(set(stations[found.isna()]))[:3])
        raise ContractError(f"groups names no group for {lost}. Give every station its group.")
    return found.to_numpy(object)


def _groups_of(station_ids, groups):
    names = {str(name) for name in station_ids}
    if groups is None:
        return names
    return {group for station, group in _mapping(groups).items() if station in names}


def _refuse_shared(shared, what):
    if shared:
        some = ", ".join(sorted(map(str, shared))[:3])
        raise ContractError(
            f"{len(shared)} groups {what} ({some}). The guarantee is void: training, calibration "
            "and test need stations of their own."
        )
