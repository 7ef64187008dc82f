"""Models head to head: who wins at how many stations, and in which classes of land."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soilkit.metrics import normalized_wins
from soilkit.plots import style
from soilkit.plots.scores import CLASS_NAMES
from soilkit.strata import MIN_STATIONS, mark_small

WON = "RdBu"  # red loses, blue wins; white is half
POINTS = "YlGnBu"
# How far from the middle of each colour scale white letters read better.
DARK, DARK_FROM_ZERO = 0.3, 0.55
SUMMED = "numbers: stations won, ties shared; last rows: mean of the normalised points"


def win_matrices(counts: pd.DataFrame, *, title: str = "") -> Figure:
    """Each pair of models: the share of stations that the row's model wins, a panel a metric.

    Parameters
    ----------
    counts : from ``metrics.win_counts``; a tie is half a win for each
    """
    columns = ["metric", "model_a", "model_b", "wins_a", "wins_b", "ties", "n_stations"]
    style.need(counts, columns, maker="metrics.win_counts")
    rows = counts[counts["n_stations"] > 0]
    if rows.empty:
        return style.nothing("no station has a score of two models", title=title)
    metrics = list(dict.fromkeys(rows["metric"]))
    names = list(dict.fromkeys([*rows["model_a"], *rows["model_b"]]))
    side = 1.1 + 0.72 * len(names)
    figure, axes = style.panels(
        len(metrics), columns=2 if len(metrics) in (2, 4) else 3, size=(side + 0.9, side),
        sharex=True, sharey=True, aside=0.8, layout="compressed",
    )  # fmt: skip
    for axis, metric in zip(axes, metrics, strict=True):
        drawn = _duel(axis, rows[rows["metric"] == metric], names=names)
        axis.set_title(_short(metric, rows), fontsize="medium")
    bar = figure.colorbar(drawn, ax=axes, label="stations where the row beats the column [%]")
    bar.set_ticks([0, 25, 50, 75, 100])
    style.head(figure, title)
    return figure


def _short(metric: str, rows: pd.DataFrame) -> str:
    n = int(rows.loc[rows["metric"] == metric, "n_stations"].max())
    words = style.label(metric).split(" [")[0]
    words = f"|{words.split(',')[0]}|" if metric.startswith("bias") else words
    return mark_small([words], [n])[0] + f" ({n} stations)"


def _duel(axis: Axes, rows: pd.DataFrame, *, names: list[str]):
    share = np.full((len(names), len(names)), np.nan)
    words = np.full(share.shape, "", object)
    for _, row in rows.iterrows():
        i, j, n = names.index(row["model_a"]), names.index(row["model_b"]), row["n_stations"]
        for a, b, won in ((i, j, row["wins_a"]), (j, i, row["wins_b"])):
            share[a, b] = 100 * (won + row["ties"] / 2) / n
            words[a, b] = f"{won}" + (f"\n+{row['ties']} tied" if row["ties"] else "")
    axis.set_facecolor("0.85")
    drawn = axis.imshow(share, cmap=WON, vmin=0, vmax=100)
    small = bool((rows["n_stations"] < MIN_STATIONS).any())
    if small:
        drawn.set_alpha(0.25)
    pale = np.full(len(names), small)
    _letters(axis, words, share=share / 100, middle=0.5, pale=pale)
    _names(axis, names, names)
    return drawn


def _letters(axis: Axes, words, *, share, middle: float, pale) -> None:
    """Text in each cell, white where the cell is dark, grey in pale rows."""
    for (i, j), text in np.ndenumerate(words):
        if text:
            dark = abs(share[i, j] - middle) > (DARK if middle else DARK_FROM_ZERO)
            colour = style.FAINT if pale[i] else "white" if dark else "black"
            axis.text(j, i, text, ha="center", va="center", fontsize="small", color=colour)


def _names(axis: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    axis.set_xticks(range(len(columns)), [style.wrapped(n, letters=16, lines=2) for n in columns],
                    rotation=30, ha="right", rotation_mode="anchor", fontsize="small")  # fmt: skip
    axis.set_yticks(range(len(rows)), [style.wrapped(n, letters=26, lines=2) for n in rows],
                    fontsize="small")  # fmt: skip
    axis.tick_params(length=0, labelbottom=True)


def class_point_matrix(
    points: pd.DataFrame, *, metric: str | None = None, title: str = ""
) -> Figure:
    """Normalised points by class: the best model of a class has 1, every class weighs alike.

    Cells hold the points, the class's stations stand in brackets; the last rows sum up as the
    paper does, over all classes, and over those with five stations or more.

    Parameters
    ----------
    points : from ``metrics.class_points``
    metric : one of the table's, the first where none is named
    """
    columns = ["metric", "characteristic", "class", "model", "points", "normalized", "n_stations"]
    style.need(points, columns, maker="metrics.class_points")
    metric = metric or (str(points["metric"].iloc[0]) if len(points) else "")
    rows = points[points["metric"] == metric]
    if rows.empty:
        why = f"no class of land has a station with {metric or 'a score'}"
        return style.nothing(why, title=title)
    names = list(dict.fromkeys(rows["model"]))
    index, n, values, words = _cells(rows, names)
    figure, (axis,) = style.panels(
        1, columns=1, size=(2.6 + 1.25 * len(names), 1.0 + 0.29 * len(values)), aside=1.4
    )
    drawn = axis.imshow(values, cmap=POINTS, vmin=0, vmax=1, aspect="auto")
    _veil(axis, n)
    pale = np.append(n < MIN_STATIONS, [False, False])
    _letters(axis, np.array(words, object), share=values, middle=0.0, pale=pale)
    _class_names(axis, index, n=n, models=names)
    figure.colorbar(
        drawn, ax=axis, label=f"normalised points, {style.label(metric).split(' [')[0]} [1]"
    )
    style.foot(figure, f"{SUMMED}\n{style.SMALL_NOTE}")
    style.head(figure, title)
    return figure


def _cells(rows: pd.DataFrame, names: list[str]):
    """Classes, their stations, and (class + 2 sums, model) colours and words."""
    keys = ["characteristic", "class"]
    wide = rows.pivot_table(index=keys, columns="model", values="normalized", sort=False)[names]
    won = rows.pivot_table(index=keys, columns="model", values="points", sort=False)[names]
    n = rows.groupby(keys, sort=False)["n_stations"].first().reindex(wide.index).to_numpy()
    totals = [normalized_wins(rows, include_small=k) for k in (True, False)]
    shares = [t.set_index("model")["share"].reindex(names).to_numpy(float) for t in totals]
    values = np.vstack([wide.to_numpy(float), *shares])
    words = [[f"{p:g}" if p == round(p) else f"{p:.1f}" for p in line] for line in won.to_numpy()]
    words += [[f"{s:.2f}" if np.isfinite(s) else "–" for s in line] for line in shares]
    return wide.index, n, values, words


def _veil(axis: Axes, n_stations) -> None:
    """A pale sheet over classes that are too small, and a line above the sums."""
    for i, n in enumerate(n_stations):
        if n < MIN_STATIONS:
            axis.axhspan(i - 0.5, i + 0.5, color="white", alpha=0.7, linewidth=0)
    axis.axhline(len(n_stations) - 0.5, color="black", linewidth=1.5)


def _class_names(axis: Axes, index, *, n, models) -> None:
    ticks = mark_small(
        [f"{CLASS_NAMES.get(c, c).removesuffix(' class')}: {k}" for c, k in index], n
    )
    ticks = [f"{t} ({k})" for t, k in zip(ticks, n, strict=True)]
    _names(axis, [], models)
    axis.set_yticks(range(len(ticks) + 2), [*ticks, "mean over all classes", "mean without *"],
                    fontsize="small")  # fmt: skip
    for text, k in zip(axis.get_yticklabels(), n, strict=False):
        text.set_color("black" if k >= MIN_STATIONS else style.FAINT)
