"""Is the map right each day: skill across stations by date, and its static and dynamic parts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from soilkit.plots import style
from soilkit.plots.series import GAP_DAYS
from soilkit.strata import mark_small

PART_LOOKS: dict[str, dict[str, Any]] = {
    "all": {"color": "black", "linewidth": 1.6, "marker": "."},
    "static": {"color": style.COLOURS[1], "linewidth": 1.2, "marker": "", "linestyle": "--"},
    "dynamic": {"color": style.COLOURS[0], "linewidth": 1.2, "marker": ""},
}
PART_WORDS = {"all": "all", "static": "static part (places)", "dynamic": "dynamic part (days)"}
SQUARES = ("bias_m3_m3", "ubrmse_static_m3_m3", "ubrmse_dynamic_m3_m3")
SQUARE_WORDS = ("bias²", "static ubRMSE² (places)", "dynamic ubRMSE² (days)")
R_ENDS = ("r_lower", "r_upper")
CORRELATIONS = ("r", "r_static", "r_dynamic")


def spatial_skill(
    parts: Mapping[str, pd.DataFrame] | pd.DataFrame, *, metric: str = "r", title: str = ""
) -> Figure:
    """A score across the stations of each date over time, one panel a model, with its parts.

    The band is R's interval. No line crosses a gap of more than 15 days (three dates where dates
    are longer than five days); dates with too few stations are ticks at the bottom.

    Parameters
    ----------
    parts : {"all": ..., "static": ..., "dynamic": ...} from ``metrics.spatial_scores`` with that
        ``part``, any of them; or one table
    metric : "r", "ubrmse_m3_m3", "rmse_m3_m3" or "bias_m3_m3"
    """
    tables = {"all": parts} if isinstance(parts, pd.DataFrame) else dict(parts)
    for table in tables.values():
        style.need(table, ["date", metric, "n_stations", "status"], maker="metrics.spatial_scores")
    if not any(table[metric].notna().any() for table in tables.values()):
        words = {w for t in tables.values() for w in t["status"].astype("str")}
        why = "; ".join(sorted(words)[:3]) or "the table is empty"
        return style.nothing(f"no date has a score ({why})", title=title)
    names = {key: style.names_of(table) for key, table in tables.items()}
    models = list(dict.fromkeys(name for column in names.values() for name in column))
    figure, axes = style.panels(
        len(models), columns=1, size=(7.6, 1.75), aside=2, sharex=True, sharey=True
    )
    for axis, model in zip(axes, models, strict=True):
        for key, table in tables.items():
            _dates(axis, table[names[key] == model].sort_values("date"), key=key, metric=metric)
        axis.set_title(
            f"{style.wrapped(model, letters=56, lines=1)}, across the stations of each date",
            loc="left",
            fontsize="medium",
        )
        if metric != "r":
            axis.axhline(0, color="0.4", linewidth=0.8)
        style.quiet_grid(axis)
    _date_axis(axes[-1])
    figure.supylabel(style.label(metric), fontsize="medium")
    style.aside(figure)
    style.head(figure, title)
    return figure


def _date_axis(axis: Axes) -> None:
    locator = AutoDateLocator()
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axis.set_xlabel("date [UTC]")


def _dates(axis: Axes, rows: pd.DataFrame, *, key: str, metric: str) -> None:
    """One part's line with gaps, its band, and ticks for dates without a score."""
    known = rows[rows[metric].notna()]
    lost = rows.loc[rows[metric].isna(), "date"]
    look = PART_LOOKS.get(key, {"color": style.COLOURS[2]})
    if key == "all" and len(lost):
        axis.plot(lost, np.full(len(lost), 0.02), "|", color="0.5", markersize=6,
                  transform=axis.get_xaxis_transform(), label="too few stations")  # fmt: skip
    if known.empty:
        return
    time = known["date"].to_numpy()
    step = np.median(np.diff(time)) if len(time) > 1 else np.timedelta64(0, "D")
    longest = max(np.timedelta64(GAP_DAYS, "D"), 3 * step)
    cut = np.flatnonzero(np.diff(time) > longest) + 1
    x = np.insert(time, cut, time[cut])
    n = known["n_stations"].median()
    words = PART_WORDS.get(key, key)
    words += f"\n(about {n:.0f} stations a date)" if key == "all" else ""
    axis.plot(x, np.insert(known[metric].to_numpy(float), cut, np.nan), label=words, **look)
    if metric == "r" and key == "all":
        low, high = (np.insert(known[e].to_numpy(float), cut, np.nan) for e in R_ENDS)
        axis.fill_between(x, low, high, color="0.5", alpha=0.25, linewidth=0, label="95 % of all")


def error_parts(table: pd.DataFrame, *, title: str = "") -> Figure:
    """The mean square error of each model in its exact parts, and R of the parts with intervals.

    Parameters
    ----------
    table : from ``metrics.spatial_parts``
    """
    columns = ["metric", "value", "lower", "upper", "n_stations", "status"]
    style.need(table, columns, maker="metrics.spatial_parts")
    rows = table.assign(name=style.names_of(table))
    wide = rows.pivot_table(index="name", columns="metric", values="value", sort=False)
    if not set(SQUARES) <= set(wide.columns):
        return style.nothing("no station-date has a finite pair", title=title)
    names = list(wide.index)
    size = (3.9, 1.1 + 0.45 * len(names))
    figure, (left, right) = style.panels(2, columns=2, size=size, aside=2, sharey=True)
    _squares(left, wide, names=names)
    _correlations(right, rows, names=names)
    counts = rows.groupby("name", sort=False)["n_stations"].max()
    left.set_yticks(
        range(len(names)),
        [
            f"{style.wrapped(mark_small([n], [counts[n]])[0], lines=2)} ({counts[n]:.0f})"
            for n in names
        ],
    )
    left.set_ylabel("model (stations)")
    left.set_ylim(len(names) - 0.5, -0.5)
    for axis in (left, right):
        style.quiet_grid(axis, "x")
    style.aside(figure)
    style.head(figure, title)
    return figure


def _squares(left: Axes, wide: pd.DataFrame, *, names: list[str]) -> None:
    """Bars of the parts, in 1e-4, and the RMSE at their end."""
    start = np.zeros(len(names))
    shades = (style.COLOURS[4], style.COLOURS[1], style.COLOURS[0])
    for metric, words, colour in zip(SQUARES, SQUARE_WORDS, shades, strict=True):
        square = 1e4 * wide[metric].to_numpy(float) ** 2
        left.barh(range(len(names)), square, left=start, height=0.55, color=colour, label=words)
        start = start + square
    for i, rmse in enumerate(wide["rmse_m3_m3"]):
        left.text(start[i], i, f" RMSE {rmse:.3f}", va="center", fontsize="small")
    left.set_xlim(0, 1.5 * max(float(np.nanmax(start)), 1e-6))
    left.set_xlabel(f"mean square error [10⁻⁴ ({style.MOISTURE})²]")


def _correlations(axis: Axes, rows: pd.DataFrame, *, names: list[str]) -> None:
    words = ("R, all", "R, static part (places)", "R, dynamic part (days)")
    for k, (metric, word) in enumerate(zip(CORRELATIONS, words, strict=True)):
        one = rows[rows["metric"] == metric].set_index("name").reindex(names)
        colour = ("black", style.COLOURS[1], style.COLOURS[0])[k]
        axis.errorbar(
            one["value"], np.arange(len(names)) + 0.2 * (k - 1), xerr=style.whiskers(one),
            fmt=style.MARKERS[k], color=colour, capsize=2.5, markersize=5, label=word,
        )  # fmt: skip
    axis.set_xlabel(style.label("r") + ", 95 %")
