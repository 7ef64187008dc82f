"""Scores of models and classes, with their intervals."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from soilkit.plots.style import COLOURS, colours, label

CLASS_NAMES = {"koeppen": "Köppen class", "land_cover": "land cover", "texture": "texture class"}


def strata_bars(table: pd.DataFrame, *, by: str, metric: str = "r", title: str = "") -> Figure:
    """A score by class, one bar a model, whiskers for the interval, the number of stations beside.

    Parameters
    ----------
    table : scores table with the stratum column ``by``; rows of ``metric`` are drawn
    by : column of the classes
    """
    rows = table[table["metric"] == metric]
    classes = list(dict.fromkeys(rows[by].astype("str")))
    models = list(dict.fromkeys(rows["model"].astype("str")))
    height = 0.8 / max(len(models), 1)
    figure, axis = plt.subplots(
        figsize=(8, 1.4 + 0.24 * len(classes) * max(len(models), 1)), layout="constrained"
    )
    for i, (model, colour) in enumerate(zip(models, colours(len(models)), strict=True)):
        one = rows[rows["model"] == model].set_index(by).reindex(classes)
        y = np.arange(len(classes)) + (i - (len(models) - 1) / 2) * height
        axis.barh(y, one["value"], height=height * 0.92, color=colour, label=model)
        axis.errorbar(
            one["value"], y, xerr=_whiskers(one), fmt="none", ecolor="0.2", elinewidth=0.9
        )
    counts = rows.groupby(rows[by].astype("str"))["n"].max()
    axis.set_yticks(
        range(len(classes)), [f"{name or 'unknown'} ({counts[name]:.0f})" for name in classes]
    )
    axis.invert_yaxis()
    axis.set(xlabel=label(metric), ylabel=f"{CLASS_NAMES.get(by, by)} (stations)")
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    figure.suptitle(title, fontsize="medium")
    return figure


def _whiskers(rows: pd.DataFrame) -> np.ndarray:
    """Distances from the value down and up to its interval, shape (2, row)."""
    value = rows["value"].to_numpy(float)
    ends = [value - rows["lower"].to_numpy(float), rows["upper"].to_numpy(float) - value]
    return np.nan_to_num(np.clip(ends, 0, None))


def interval_dots(table: pd.DataFrame, *, zero: bool = False, title: str = "") -> Figure:
    """Values with their intervals, one panel a metric, one row a model.

    Parameters
    ----------
    table : scores table
    zero : bool, the values are differences: draw the line of none
    """
    metrics = list(dict.fromkeys(table["metric"].astype("str")))
    models = list(dict.fromkeys(table["model"].astype("str")))
    figure, axes = plt.subplots(
        1, max(len(metrics), 1), figsize=(10, 1.3 + 0.34 * len(models)), sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for axis, metric in zip(axes[0], metrics, strict=False):
        rows = table[table["metric"] == metric].set_index("model").reindex(models)
        y = np.arange(len(models))
        axis.errorbar(rows["value"], y, xerr=_whiskers(rows), fmt="o", color=COLOURS[0], capsize=3)
        if zero:
            axis.axvline(0, color="0.3", linewidth=0.8)
        axis.set_xlabel(f"difference in {label(metric)}" if zero else label(metric))
        axis.locator_params(axis="x", nbins=5)
        axis.grid(axis="x", color="0.9")
    axes[0, 0].set_yticks(range(len(models)), models)
    axes[0, 0].set_ylim(len(models) - 0.5, -0.5)
    figure.suptitle(title, fontsize="medium")
    return figure
