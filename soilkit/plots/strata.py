"""Where a model works: one score in every class of every stratum, on one sheet."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soilkit.plots.scores import CLASS_NAMES
from soilkit.plots.style import colours, label
from soilkit.strata import MIN_STATIONS, mark_small

FAINT = 0.3  # opacity of classes that are too small to judge


def strata_panels(table: pd.DataFrame, *, metric: str = "r_mean", title: str = "") -> Figure:
    """A score by class, one panel a stratum, dots with intervals; small classes are faint.

    The vertical line is each model's score over all stations; numbers in brackets are stations, and
    an asterisk marks fewer than five. A dot without whiskers has no interval.

    Parameters
    ----------
    table : scores table with columns ``stratum`` ("all" or a column of the stations) and ``class``
    metric : the rows that are drawn

    Returns
    -------
    matplotlib Figure
    """
    rows = table[(table["metric"] == metric) & (table["n"] > 0)]
    strata = [name for name in dict.fromkeys(rows["stratum"].astype(str)) if name != "all"]
    models = list(dict.fromkeys(rows["model"].astype(str)))
    counts = [rows.loc[rows["stratum"] == name, "class"].nunique() for name in strata]
    n_rows = max(-(-len(strata) // 2), 1)
    heights = [max(counts[2 * i : 2 * i + 2], default=1) + 2 for i in range(n_rows)]
    figure, axes = plt.subplots(
        n_rows, 2, figsize=(10.5, 0.6 + 0.3 * sum(heights)), height_ratios=heights,
        sharex=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for axis, name in zip(axes.ravel(), strata, strict=False):
        _panel(axis, rows[rows["stratum"] == name], models)
        _overall(axis, rows[rows["stratum"] == "all"], models)
        axis.set_title(CLASS_NAMES.get(name, name), loc="left", fontsize="medium")
        axis.set_xlabel(label(metric))
        axis.tick_params(labelbottom=True)
    for axis in axes.ravel()[len(strata) :]:
        axis.set_visible(False)
    if strata:
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize="small")
    figure.suptitle(title, fontsize="medium")
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, models: list[str]) -> None:
    classes = list(dict.fromkeys(rows["class"].astype(str)))
    n_stations = rows.groupby(rows["class"].astype(str))["n"].max().reindex(classes)
    for i, (model, colour) in enumerate(zip(models, colours(len(models)), strict=True)):
        one = rows[rows["model"] == model].set_index("class").reindex(classes)
        y = np.arange(len(classes)) + 0.3 * (i - (len(models) - 1) / 2)
        for is_small in (False, True):
            keep = ((n_stations < MIN_STATIONS) == is_small).to_numpy()
            axis.errorbar(
                one["value"][keep], y[keep], xerr=_ends(one[keep]), fmt="o", color=colour,
                markersize=5, capsize=2.5, alpha=FAINT if is_small else 1.0,
                label=None if is_small else model,
            )  # fmt: skip
    names = mark_small(classes, n_stations)
    axis.set_yticks(
        range(len(classes)), [f"{a} ({n:.0f})" for a, n in zip(names, n_stations, strict=True)]
    )
    for text, n in zip(axis.get_yticklabels(), n_stations, strict=True):
        text.set_color("0.6" if n < MIN_STATIONS else "black")
    axis.set_ylim(len(classes) - 0.4, -0.6)
    axis.grid(axis="x", color="0.92")
    axis.set_axisbelow(True)


def _ends(rows: pd.DataFrame) -> np.ndarray:
    """Distances from the value down and up to its interval, (2, row); NaN draws nothing."""
    value = rows["value"].to_numpy(float)
    return np.stack([value - rows["lower"].to_numpy(float), rows["upper"].to_numpy(float) - value])


def _overall(axis: Axes, rows: pd.DataFrame, models: list[str]) -> None:
    for model, colour in zip(models, colours(len(models)), strict=True):
        for value in rows.loc[rows["model"] == model, "value"].dropna()[:1]:
            axis.axvline(value, color=colour, linewidth=0.9, linestyle="--", zorder=0)
