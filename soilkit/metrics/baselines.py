"""What a model has to beat: coarse products, the training mean and the training climatology.

Each is a predictions table on the samples of another one, so that it is scored like any model.
"""

import numpy as np
import pandas as pd

from soilkit.errors import ContractError

WINDOW_DAYS = 31
N_DAYS = 366
TARGETS = ("observed_m3_m3", "soil_moisture_m3_m3")


def product_baseline(
    predictions: pd.DataFrame,
    features: pd.DataFrame,
    *,
    column: str,
    model: str,
    units_per_m3_m3: float = 1.0,
) -> pd.DataFrame:
    """A coarse product as it comes, at the samples of ``predictions``.

    Parameters
    ----------
    predictions : predictions table of one model, for its samples, observations and split
    features : features table
    column : of the features, such as "smap_ssm"
    model : name of the baseline
    units_per_m3_m3 : float, of the column: 50 for SMAP's mm in 5 cm, 100 for GLDAS's kg m-2 in
        10 cm, 1 for m3 m-3

    Returns
    -------
    predictions table; samples without a value keep NaN, and stay out of every score

    Raises
    ------
    ContractError
        When the features lack the column or hold a sample twice.
    """
    if column not in features.columns:
        have = ", ".join(c for c in features.columns if c != "sample_id")
        raise ContractError(f"No feature {column!r} for a baseline; there are {have}.")
    values = pd.Series(
        features[column].to_numpy(float), index=features["sample_id"].astype("str").to_numpy()
    )
    if values.index.has_duplicates:
        raise ContractError("A sample stands twice in the features: a baseline needs one value.")
    found = values.reindex(predictions["sample_id"].astype("str")).to_numpy() / units_per_m3_m3
    return _like(predictions, found, model)


def training_mean(
    predictions: pd.DataFrame, training: pd.DataFrame, *, model: str = "training mean"
) -> pd.DataFrame:
    """One number everywhere: the mean of the training stations' means.

    Its R does not exist, and its status says "constant prediction"; its ubRMSE is the standard
    deviation within a station.

    Parameters
    ----------
    predictions : predictions table of one model, for its samples
    training : table with station_id and ``observed_m3_m3`` or ``soil_moisture_m3_m3``, whose
        stations are not those that are predicted
    model : name of the baseline

    Returns
    -------
    predictions table

    Raises
    ------
    ContractError
        When there is no training value.
    """
    known = _training(training)
    mean = known["value"].groupby(known["station_id"]).mean().mean()
    return _like(predictions, np.full(len(predictions), mean), model)


def training_climatology(
    predictions: pd.DataFrame, training: pd.DataFrame, *, model: str = "training climatology"
) -> pd.DataFrame:
    """The training stations' mean for the day of year: a season that knows no place.

    On each day of the year, the mean over stations of their values within 15 days, whatever the
    year; every station with a value there counts the same.

    Parameters
    ----------
    predictions, training, model : as for ``training_mean``; the training needs ``time``

    Returns
    -------
    predictions table; NaN on days that no training value is near

    Raises
    ------
    ContractError
        When there is no training value.
    """
    known = _training(training)
    codes, names = pd.factorize(known["station_id"])
    shape = (len(names), N_DAYS)
    cell = codes * N_DAYS + known["time"].dt.dayofyear.to_numpy() - 1
    total = _window(np.bincount(cell, known["value"], minlength=np.prod(shape)), shape)
    count = _window(np.bincount(cell, minlength=np.prod(shape)), shape)
    with np.errstate(invalid="ignore"):
        of_station = np.where(count > 0, total / np.maximum(count, 1), np.nan)  # (station, day)
        of_day = np.where(count > 0, of_station, 0).sum(axis=0) / (count > 0).sum(axis=0)
    wanted = predictions["time"].dt.dayofyear.to_numpy() - 1
    return _like(predictions, of_day[wanted], model)


def _window(flat, shape):
    """Sums over a circular window of days, (station, day)."""
    half = WINDOW_DAYS // 2
    table = flat.reshape(shape).astype(float)
    wrapped = np.concatenate([table[:, -half:], table, table[:, :half]], axis=1)
    return np.lib.stride_tricks.sliding_window_view(wrapped, WINDOW_DAYS, axis=1).sum(axis=2)


def _training(training):
    """The finite training values with their stations (and times), on an index of their own."""
    column = next((c for c in TARGETS if c in training.columns), None)
    if column is None or not np.isfinite(training[column].to_numpy(float)).any():
        raise ContractError(
            f"A training baseline needs finite {' or '.join(TARGETS)} in the training table, "
            "found none."
        )
    known = training.assign(value=training[column].astype(float))
    known = known[np.isfinite(known["value"])].reset_index(drop=True)
    return known.astype({"station_id": "str"})


def _like(predictions, values, model):
    if predictions["model"].nunique() > 1:
        raise ContractError("A baseline copies the samples of one model: select its rows first.")
    kept = predictions.drop(columns="predicted_std_m3_m3", errors="ignore")
    return kept.assign(predicted_m3_m3=np.asarray(values, float), model=model)
