"""What became of every line of an archive, from the cache's tallies alone."""

import logging

import numpy as np
import pandas as pd

from soilkit.insitu import rules

LOG = logging.getLogger("soilkit.insitu")
LOST_WHILE_READING = {
    "malformed": "malformed line",
    "missing": "missing value",
    "duplicate": "repeated time",
    "sub_hourly": "later reading of an hour",
}
OUTSIDE = "value outside 0-1 m3 m-3"
OTHER_DEPTH = "other depth"


def accepted_rows(sensors, tallies, *, flags, max_depth_m) -> pd.DataFrame:
    """The sensors within the depth rule, by id, with ``n_accepted`` readings, ``n_outside`` more.

    Parameters
    ----------
    sensors, tallies : DataFrame, the cache's tables
    flags : tuple of text
    max_depth_m : float, m

    Raises
    ------
    UnitError
        For a network most of whose accepted values exceed 1 m3 m-3.
    """
    used = tallies[_carries(tallies, flags)]
    n, below, above = (
        np.bincount(used["sensor"], used[name], minlength=len(sensors)).astype("int64")
        for name in ("n", "n_below_0", "n_above_1")
    )
    near = _is_near(sensors, max_depth_m)
    _refuse_percent(
        sensors["sensor_id"].where(near), sensors["network"], n=n * near, above=above * near
    )
    table = sensors.assign(n_accepted=n - below - above, n_outside=below + above)
    return table[near].sort_values("sensor_id", ignore_index=True)


def _refuse_percent(sensor_id: pd.Series, network: pd.Series, *, n, above) -> None:
    """A network shares one unit: most of it above 1 is percent, one such sensor alone is broken."""
    if not above.any():
        return
    share = above / np.maximum(n, 1)
    for name, rows in pd.DataFrame({"n": n, "above": above}).groupby(network).sum().iterrows():
        worst = sensor_id.iloc[int(np.where(network == name, share, -1).argmax())]
        rules.refuse_percent(
            rows["above"] / max(rows["n"], 1), where=f"The network {name} (such as sensor {worst})"
        )
    for name in sensor_id[share > 0.5]:
        LOG.warning("%s: most values exceed 1 m3 m-3; they are left out and counted", name)


def counts(sensors, tallies, *, unreadable, flags, max_depth_m) -> pd.DataFrame:
    """One row for each fate of a line; rows of "input" = rows of "lost" + rows of "kept".

    Parameters
    ----------
    sensors, tallies, unreadable : DataFrame, the cache's tables
    flags : tuple of text
    max_depth_m : float, m

    Returns
    -------
    DataFrame with ``step``, ``what``, ``sensors``, ``rows``
    """
    is_near = _is_near(sensors, max_depth_m)
    near, deep = sensors[is_near], sensors[~is_near]
    tallies = tallies[is_near[tallies["sensor"]]]
    carried = _carries(tallies, flags)
    used, others = tallies[carried], tallies[~carried]
    outside = used["n_below_0"] + used["n_above_1"]
    rows = [("input", "lines of soil moisture files", len(sensors), sensors["lines"].sum())]
    rows.append(("lost", OTHER_DEPTH, len(deep), deep["lines"].sum()))
    for column, what in LOST_WHILE_READING.items():
        rows.append(("lost", what, (near[column] > 0).sum(), near[column].sum()))
    for flag, of_flag in others.groupby("flag"):
        known = "" if rules.is_known(flag) else " (unknown to ISMN)"
        rows.append(("lost", f"flag {flag}{known}", len(of_flag), of_flag["n"].sum()))
    rows.append(("lost", OUTSIDE, (outside > 0).sum(), outside.sum()))
    for flag, of_flag in used.assign(kept=used["n"] - outside).groupby("flag")["kept"]:
        rows.append(("kept", f"flag {flag}", (of_flag > 0).sum(), of_flag.sum()))
    return _table(rows + _notes(near, unreadable))


def _notes(near: pd.DataFrame, unreadable: pd.DataFrame) -> list[tuple[str, str, int, int]]:
    nowhere = near["latitude"].isna() | near["longitude"].isna()
    silent = near["n_rows"] == 0
    return [
        ("note", "no static variables", (~near["has_static_variables"]).sum(), 0),
        ("note", "no coordinates", nowhere.sum(), near.loc[nowhere, "n_rows"].sum()),
        ("note", "no reading at all", silent.sum(), 0),
        ("note", "unreadable files", len(unreadable), 0),
    ]


def _table(rows) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["step", "what", "sensors", "rows"])
    table[["sensors", "rows"]] = table[["sensors", "rows"]].astype("int64")
    shown = (table["rows"] > 0) | (table["sensors"] > 0) | (table["step"] == "input")
    return table[shown].reset_index(drop=True)


def _is_near(sensors: pd.DataFrame, max_depth_m: float) -> np.ndarray:
    return rules.depth_accepted(
        sensors["depth_from_m"], sensors["depth_to_m"], max_depth_m=max_depth_m
    )


def _carries(tallies: pd.DataFrame, flags) -> np.ndarray:
    return np.isin(tallies["flag"].to_numpy(dtype=object), flags)


def as_dict(table: pd.DataFrame) -> dict[str, int]:
    """``{"kept: flag G": rows, ...}``: plain, so that it survives in ``DataFrame.attrs``."""
    names = table["step"] + ": " + table["what"]
    rows = np.where(table["step"] == "note", table["sensors"], table["rows"])
    return dict(zip(names, rows.tolist(), strict=True))


def log(table: pd.DataFrame, *, name: str) -> None:
    """One line in the log; a warning where nothing was kept."""
    kept = table.loc[table["step"] == "kept", "rows"].sum()
    fates = ", ".join(
        f"{row.rows:,} {row.what}" for row in table.itertuples() if row.step == "lost" and row.rows
    )
    level = logging.INFO if kept else logging.WARNING
    LOG.log(level, "%s: %s readings kept; lost: %s", name, f"{kept:,}", fates or "none")
