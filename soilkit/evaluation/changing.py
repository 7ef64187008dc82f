"""Scores of changed values: anomalies and rescaled predictions, their state always named."""

import pandas as pd

from soilkit import metrics
from soilkit.evaluation.records import OK, Options
from soilkit.evaluation.scoring import Places

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
