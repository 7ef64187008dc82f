"""What a study found: scores and steps beside the paper's, and how training went."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soilkit.plots import style

MAKER = "experiments.paper_beside_ours"
METRICS = ("r", "ubrmse_m3_m3")
OURS, PAPERS = "ours, 95 % interval", "the paper's, on real stations"


def beside_paper(
    table: pd.DataFrame, *, step: bool = False, metrics: Sequence[str] = METRICS, title: str = ""
) -> Figure:
    """Every line's score, or its step from the reference line, ours with intervals and the paper's.

    Parameters
    ----------
    table : from ``experiments.paper_beside_ours``, of one experiment and split
    step : whether to draw differences from the reference line instead of scores
    metrics : a panel each
    """
    columns = ("our_step", "lower", "upper", "paper_step") if step else (
        "ours", "ours_lower", "ours_upper", "paper")  # fmt: skip
    style.need(table, ["variant", "metric", *columns], maker=MAKER)
    rows = table[table[columns[0]].notna() | table[columns[3]].notna()]
    if rows[columns[0]].isna().all():
        return style.nothing("no trial of this table stands: run make study", title=title)
    names = list(dict.fromkeys(rows["variant"]))
    figure, axes = style.panels(
        len(metrics), columns=2, size=(4.2, 0.9 + 0.36 * len(names)), aside=3.6, sharey=True
    )
    for axis, metric in zip(axes, metrics, strict=True):
        one = rows[rows["metric"] == metric].set_index("variant").reindex(names)
        _draw(axis, one, columns=columns)
        words = style.label(metric)
        axis.set_xlabel(f"step in {words}" if step else words)
        if step:
            axis.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    axes[0].set_yticks(range(len(names)), [style.wrapped(n, letters=34) for n in names])
    axes[0].invert_yaxis()
    style.aside(figure)
    style.head(figure, title)
    return figure


def _draw(axis: Axes, rows: pd.DataFrame, *, columns: Sequence[str]) -> None:
    value, lower, upper, printed = columns
    y = np.arange(len(rows))
    far = np.nan_to_num(style.whiskers(rows, value=value, ends=(lower, upper)))
    axis.errorbar(rows[value], y, xerr=far, fmt="o", capsize=3, color=style.COLOURS[0], label=OURS)
    if rows[printed].notna().any():
        axis.plot(
            rows[printed], y + 0.22, "D", color="black", markerfacecolor="white", label=PAPERS
        )
    style.quiet_grid(axis, "x")


def learning_curves(curves: pd.DataFrame, lines: pd.DataFrame, *, title: str = "") -> Figure:
    """Validation RMSE over training steps, a colour a line of the table, a thin line a seed.

    Parameters
    ----------
    curves, lines : from ``experiments.read_study``; lines of one experiment
    """
    style.need(curves, ["key", "step", "score"], maker="experiments.read_study")
    rows = lines.merge(curves, on="key")
    if rows.empty:
        return style.nothing("no trial of this table was trained", title=title)
    figure, (axis,) = style.panels(1, columns=1, size=(6.5, 3.4), aside=3.6)
    names = list(dict.fromkeys(rows["variant"]))
    for name, look in style.looks(names).items():
        for seed, one in rows[rows["variant"] == name].groupby("seed"):
            words = style.wrapped(name, letters=34) if seed == rows["seed"].min() else None
            axis.plot(one["step"], one["score"], markersize=3, linewidth=0.9, label=words, **look)
    axis.set(xlabel="training step", ylabel=f"validation RMSE [{style.MOISTURE}]")
    style.quiet_grid(axis)
    style.aside(figure)
    style.head(figure, title)
    return figure
