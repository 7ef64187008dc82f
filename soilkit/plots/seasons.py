"""Scores by season, every sensor a dot."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soilkit.plots import style
from soilkit.strata import MIN_STATIONS, mark_small

ORDER = ("winter", "spring", "summer", "autumn", "DJF", "MAM", "JJA", "SON")


def season_dots(
    scores: pd.DataFrame,
    *,
    summary: pd.DataFrame | None = None,
    metrics: Sequence[str] = ("r", "ubrmse_m3_m3"),
    title: str = "",
) -> Figure:
    """A score of every sensor by season, and its mean; a panel a metric, a colour a model.

    The stations of a season stand below it; of fewer than five the dots are grey.

    Parameters
    ----------
    scores : from ``metrics.season_scores``
    summary : from ``metrics.summarize(scores, stations, by="season")``, for intervals of the mean
    metrics : columns of the scores
    """
    style.need(scores, ["season", *metrics, "station_id"], maker="metrics.season_scores")
    known = scores[scores[list(metrics)].notna().any(axis=1)]
    if known.empty:
        return style.nothing("no sensor has a score in any season", title=title)
    found = set(known["season"])
    seasons = [s for s in ORDER if s in found] + sorted(found - set(ORDER))
    names = style.names_of(scores)
    looks = style.looks(list(dict.fromkeys(names.loc[known.index])))
    width = max(3.9, 0.9 * len(seasons))
    figure, axes = style.panels(
        len(metrics), columns=2, size=(width, 3.5), aside=1.8 if len(metrics) > 1 else 2.2
    )
    for axis, metric in zip(axes, metrics, strict=True):
        rows = known.assign(value=known[metric], name=names.loc[known.index])
        rows = rows[rows["value"].notna()]
        _panel(axis, rows, looks=looks, seasons=seasons)
        if summary is not None:
            _means(axis, summary[summary["metric"] == metric], looks=looks, seasons=seasons)
        axis.set_ylabel(style.label(metric))
    style.aside(figure, title="dots: sensors")
    style.head(figure, title)
    return figure


def _place(i: int, n: int) -> float:
    return 0.72 * ((i + 0.5) / n - 0.5)


def _panel(axis: Axes, rows, *, looks, seasons) -> None:
    n = [rows.loc[rows["season"] == s, "station_id"].nunique() for s in seasons]
    rng = np.random.default_rng(0)  # spreads dots sideways
    for i, (name, look) in enumerate(looks.items()):
        one = rows[rows["name"] == name]
        at = np.array([seasons.index(s) for s in one["season"]], float) + _place(i, len(looks))
        small = np.array([n[seasons.index(s)] < MIN_STATIONS for s in one["season"]], bool)
        colour = np.where(small, style.FAINT, look["color"])
        jitter = rng.uniform(-0.22, 0.22, len(one)) / len(looks)
        axis.scatter(at + jitter, one["value"], s=9, alpha=0.35, c=colour, linewidth=0)
        mean = one.groupby("season")["value"].mean().reindex(seasons).to_numpy(float)
        x, few = np.arange(len(seasons)) + _place(i, len(looks)), np.array(n) < MIN_STATIONS
        for pale, ink in ((False, look), (True, look | {"color": style.FAINT})):
            words = style.wrapped(name) if pale == few.all() else None
            axis.plot(x[few == pale], mean[few == pale], linestyle="", markersize=7, **ink,
                      markeredgecolor="black", label=words, zorder=4)  # fmt: skip
    stars = mark_small(seasons, n)
    axis.set_xticks(range(len(seasons)), [f"{s}\n({k})" for s, k in zip(stars, n, strict=True)])
    for text, k in zip(axis.get_xticklabels(), n, strict=True):
        text.set_color("black" if k >= MIN_STATIONS else style.FAINT)
    axis.set_xlim(-0.5, len(seasons) - 0.5)
    axis.set_xlabel("season (stations)")
    style.quiet_grid(axis, "y")


def _means(axis: Axes, summary, *, looks, seasons) -> None:
    names = style.names_of(summary)
    for i, name in enumerate(looks):
        one = summary[names == name].set_index("season").reindex(seasons)
        ends = style.whiskers(one, value="mean", ends=("mean_lower", "mean_upper"))
        x = np.arange(len(seasons)) + _place(i, len(looks))
        axis.errorbar(x, one["mean"], yerr=ends, fmt="none", ecolor="black", capsize=3, zorder=5)
