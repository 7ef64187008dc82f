"""Scores of models, splits and classes with their intervals, beside the papers'."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soilkit.show.plots import style
from soilkit.strata import MIN_STATIONS, mark_small


def interval_dots(
    table: pd.DataFrame, *, rows: str = "model", zero: bool = False, title: str = ""
) -> Figure:
    """Values with their intervals, one panel a metric, one row a model (or a split).

    Parameters
    ----------
    table : columns model, metric, value, lower, upper; orders are kept as they come
    rows : column of the rows; models are coloured where it is another one, such as "split"
    zero : bool, the values are differences: draw the line of none
    """
    metrics, names, models = (
        list(dict.fromkeys(table[c].astype("str"))) for c in ("metric", rows, "model")
    )
    n, models = max(len(metrics), 1), [""] if rows == "model" else models
    figure, axes = style.panels(n, columns=n, size=(10 / n, 0.8 + 0.4 * len(names)), sharey=True)
    shifts = np.linspace(-0.14, 0.14, len(models)) if len(models) > 1 else [0.0]
    for axis, metric in zip(axes, metrics, strict=False):
        part = table[table["metric"] == metric]
        for model, colour, shift in zip(models, style.colours(len(models)), shifts, strict=True):
            one = part[part["model"] == model] if model else part
            one, at = one.set_index(rows).reindex(names), np.arange(len(names)) + shift
            style.dots(axis, one, at=at, color=colour, label=model or None)
        if zero:
            axis.axvline(0, color="0.3", linewidth=0.8)
        words = f"difference in {style.label(metric)}" if zero else style.label(metric)
        axis.set_xlabel(words if n == 1 else style.wrapped(words, letters=30))
        axis.locator_params(axis="x", nbins=5)
        style.quiet_grid(axis, "x")
    axes[0].set_yticks(range(len(names)), [style.wrapped(name) for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return style.finish(figure, title)


# Where a model works: one score in every class of every stratum, on one sheet.


def strata_panels(table: pd.DataFrame, *, metric: str = "r_mean", title: str = "") -> Figure:
    """A score by class, one panel a stratum, dots with intervals; small classes are grey.

    The vertical line is each model's score over all stations; numbers in brackets are stations, and
    an asterisk marks fewer than five. A dot without whiskers has no interval.

    Parameters
    ----------
    table : scores table with columns ``stratum`` ("all" or a column of the stations) and ``class``
    metric : the rows that are drawn
    """
    rows = table[(table["metric"] == metric) & (table["n"] > 0)]
    rows = rows.assign(**{"class": rows["class"].astype("str").replace("", "unknown")})
    models = list(dict.fromkeys(rows["model"].astype("str")))
    strata = [s for s in dict.fromkeys(rows["stratum"].astype("str")) if s != "all"]
    if not strata:
        return style.nothing("no class has a score", title=title)
    most = rows[rows["stratum"] != "all"].groupby("stratum")["class"].nunique().max()
    step, height = min(0.3, 0.7 / max(len(models), 1)), 0.16 + 0.08 * len(models)
    figure, axes = style.panels(
        len(strata), columns=2, size=(4.4, 0.9 + height * most), aside=2, sharex=True
    )
    wholes = rows[rows["stratum"] == "all"].drop_duplicates("model").set_index("model")["value"]
    for axis, name in zip(axes, strata, strict=True):
        part = rows[rows["stratum"] == name]
        n = part.groupby("class", sort=False)["n"].max()
        for i, (model, colour) in enumerate(zip(models, style.colours(len(models)), strict=True)):
            one = part[part["model"] == model].set_index("class").reindex(n.index)
            place = np.arange(len(n)) + step * (i - (len(models) - 1) / 2)
            style.dots(axis, one, at=place, small=n < MIN_STATIONS, color=colour, label=model)
            if model in wholes:
                axis.axvline(wholes[model], color=colour, linewidth=0.9, linestyle="--", zorder=0)
        style.class_ticks(axis, n.index, stations=n)
        axis.set_title(style.CLASS_NAMES.get(name, name), loc="left", fontsize="medium")
        axis.set_xlabel(style.label(metric))
        style.quiet_grid(axis, "x")
    return style.finish(figure, title)


def class_table(table: pd.DataFrame, by: str, *, paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """One model's mean scores by class for reading, with intervals, beside the paper's.

    Classes with fewer than five stations bear an asterisk, and no interval.

    Parameters
    ----------
    table : rows of one model from ``metrics.summarize(..., by=by)``
    by : column of the classes
    paper : from ``literature.paper_table``, of that stratum
    """
    stats = ["mean", "mean_lower", "mean_upper"]
    wide = table.pivot(index=by, columns="metric", values=stats)
    wide.columns = pd.Index([metric + stat.removeprefix("mean") for stat, metric in wide.columns])
    wide["n_stations"] = table.groupby(by, observed=True)["n_stations"].max()
    heads = {"class": style.CLASS_NAMES.get(by, by), "n_stations": "stations"}
    theirs = pd.DataFrame() if paper is None else paper.set_index("class")
    wide = wide.reindex([*theirs.index, *wide.index.difference(theirs.index, sort=False)])
    small = ~(wide["n_stations"] >= MIN_STATIONS)
    wide.loc[small, [c for c in wide if c.endswith(("_lower", "_upper"))]] = np.nan
    for metric in ("r", "ubrmse_m3_m3", "rmse_m3_m3"):
        words, unit = style.words(metric).split(" [")
        heads[metric] = f"{words} (95 %) [{unit}"
        if metric in theirs:
            stars = theirs["is_small"].map({True: "*", False: ""})
            wide[f"{metric} paper"] = theirs[metric].map("{:.3f}".format).add(stars).mask(
                theirs[metric].isna())  # fmt: skip
            heads[f"{metric} paper"] = f"the paper's {words}"
    names = [str(name).rstrip("*") or "unknown" for name in wide.index]
    wide["class"] = mark_small(names, wide["n_stations"].fillna(0))
    heads = {name: words for name, words in heads.items() if name in wide}
    return style.readable(wide.reset_index(drop=True), heads, intervals=True)


# The mean square error in its exact parts.

SQUARES = {  # the part of the error: its name and colour
    "bias_m3_m3": ("bias²", style.COLOURS[4]),
    "ubrmse_static_m3_m3": ("static ubRMSE² (places)", style.COLOURS[1]),
    "ubrmse_dynamic_m3_m3": ("dynamic ubRMSE² (days)", style.COLOURS[0]),
}
CORRELATIONS = {
    "r": ("R, all", "black"),
    "r_static": ("R, static part (places)", style.COLOURS[1]),
    "r_dynamic": ("R, dynamic part (days)", style.COLOURS[0]),
}


def error_parts(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Of ``metrics.spatial_parts``: each model's mean square error in exact parts, and their R."""
    rows = table.assign(name=style.names_of(table))
    wide = rows.pivot_table(index="name", columns="metric", values="value", sort=False)
    if not set(SQUARES) <= set(wide.columns):
        return style.nothing("no station-date has a finite pair", title=title)
    places = np.arange(len(wide))
    size = (3.9, 1.1 + 0.45 * len(wide))
    figure, (left, right) = style.panels(2, columns=2, size=size, aside=2, sharey=True)
    start = np.zeros(len(wide))
    for metric, (words, colour) in SQUARES.items():
        square = 1e4 * wide[metric].to_numpy(float) ** 2
        left.barh(places, square, left=start, height=0.55, color=colour, label=words)
        start = start + square
    for i, rmse in enumerate(wide["rmse_m3_m3"]):
        left.text(start[i], i, f" RMSE {rmse:.3f}", va="center", fontsize="small")
    left.set_xlim(0, 1.5 * max(float(np.nanmax(start)), 1e-6))
    left.set_xlabel(f"mean square error [10⁻⁴ ({style.MOISTURE})²]")
    for k, (metric, (words, colour)) in enumerate(CORRELATIONS.items()):
        one = rows[rows["metric"] == metric].set_index("name").reindex(wide.index)
        style.dots(right, one, at=places + 0.2 * (k - 1), marker=style.MARKERS[k], color=colour,
                   label=words)  # fmt: skip
    right.set_xlabel(style.label("r") + ", 95 %")
    counts = rows.groupby("name")["n_stations"].max().reindex(wide.index)
    names = [style.wrapped(name, lines=2) for name in wide.index]
    style.class_ticks(left, names, stations=counts)
    left.set_ylabel("model (stations)")
    for axis in (left, right):
        style.quiet_grid(axis, "x")
    return style.finish(figure, title)


# What a study found: scores and steps beside the paper's, and how training went.

METRICS = ("r", "ubrmse_m3_m3")
OURS, PAPERS = "ours, 95 % interval", "the paper's, on real stations"
HOLLOW: dict[str, Any] = {
    "marker": "D", "color": "black", "markerfacecolor": "white", "linestyle": "",
}  # fmt: skip


def beside_paper(table: pd.DataFrame, *, step: bool = False, title: str = "") -> Figure:
    """Every line's score, or its step from the reference line, ours with intervals and the paper's.

    ``table`` is from ``paper_tables.paper_beside_ours``, of one experiment and split; with ``step``
    differences from the reference line are drawn instead of scores.
    """
    ours, *ends, printed = ("our_step", "lower", "upper", "paper_step") if step else (
        "ours", "ours_lower", "ours_upper", "paper")  # fmt: skip
    rows = table[table[ours].notna() | table[printed].notna()]
    if rows[ours].isna().all():
        return style.nothing("no trial of this table stands: run make study", title=title)
    names = list(dict.fromkeys(rows["variant"]))
    y = np.arange(len(names))
    figure, axes = style.panels(
        2, columns=2, size=(4.2, 0.9 + 0.36 * len(names)), aside=3.6, sharey=True
    )
    for axis, metric in zip(axes, METRICS, strict=True):
        one = rows[rows["metric"] == metric].set_index("variant").reindex(names)
        style.dots(axis, one, at=y, value=ours, ends=ends, color=style.COLOURS[0], label=OURS)
        if one[printed].notna().any():
            axis.plot(one[printed], y + 0.22, **HOLLOW, label=PAPERS)
        axis.set_xlabel(f"step in {style.label(metric)}" if step else style.label(metric))
        if step:
            axis.axvline(0, color="0.6", linewidth=0.8, zorder=0)
        style.quiet_grid(axis, "x")
    axes[0].set_yticks(y, [style.wrapped(n, letters=34) for n in names])
    axes[0].invert_yaxis()
    return style.finish(figure, title)


PAPER_HEADS = {
    "variant": "line", "paper": "the paper's", "ours": "ours",
    "difference": "ours minus the paper's", "paper_step": "the paper's step",
    "our_step": "our step", "lower": "our step, from", "upper": "our step, to",
    "pattern": "sign of the step", "n_seeds": "seeds", "n_sensors": "sensors",
    "n_blocks": "blocks",
}  # fmt: skip


def paper_table(table: pd.DataFrame, metric: str = "r") -> pd.DataFrame:
    """Every line's score and step for reading, ours beside the paper's, in words.

    ``table`` is from ``paper_tables.paper_beside_ours``, of one experiment and split.
    """
    rows = style.readable(table[table["metric"] == metric], PAPER_HEADS)
    return rows.set_index("line").rename_axis(columns=style.label(metric))


def learning_curves(curves: pd.DataFrame, lines: pd.DataFrame, *, title: str = "") -> Figure:
    """Validation RMSE over training steps, a colour a line of the table, a thin line a seed.

    ``curves`` and ``lines``, of one experiment, are from ``paper_tables.read_study``.
    """
    rows = lines.merge(curves, on="key")
    if rows.empty:
        return style.nothing("no trial of this table was trained", title=title)
    figure, (axis,) = style.panels(1, columns=1, size=(6.5, 3.4), aside=3.6)
    for name, look in style.looks(rows["variant"]).items():
        for seed, one in rows[rows["variant"] == name].groupby("seed"):
            words = style.wrapped(name, letters=34) if seed == rows["seed"].min() else None
            axis.plot(one["step"], one["score"], markersize=3, linewidth=0.9, label=words, **look)
    axis.set(xlabel="training step", ylabel=f"validation RMSE [{style.MOISTURE}]")
    style.quiet_grid(axis)
    return style.finish(figure, title)


# Our scores by network beside those that others have published.

ASTERISKS = (
    "* in-situ data of other years · ** models for one region each · *** readings of one sensor on "
    "both sides of the split. Works differ in years and sampling: no rigorous comparison."
)
GAP = 0.7  # rows between networks
LINE = ["network", "work", "statistic", "asterisk", "literature_value"]


def beside_works(table: pd.DataFrame, *, metric: str = "r", title: str = "") -> Figure:
    """Our value of each network beside each work's, a row a work; no intervals, not paired.

    A mean stands beside a mean and a median beside a median, so ours may move from row to row.
    Networks of which we have fewer than five stations are grey.

    Parameters
    ----------
    table : from ``metrics.beside_literature``
    metric : "r" or "ubrmse_m3_m3"
    """
    of_metric = table[table["metric"] == metric]
    rows = of_metric[of_metric["status"] == "ok"]
    if rows.empty:
        reasons = of_metric.groupby("status", sort=True)["network"].unique()
        why = "; ".join(f"{why} ({', '.join(map(str, names))})" for why, names in reasons.items())
        return style.nothing(why or f"the table has no {metric}", title=title)
    lines = rows[[*LINE, "n_stations"]].drop_duplicates(LINE).sort_values("network", kind="stable")
    place = np.arange(len(lines)) + GAP * (pd.factorize(lines["network"])[0] + 1)
    figure, (axis,) = style.panels(
        1, columns=1, size=(7, 1.4 + 0.25 * (place[-1] + 1)), aside=2, sharex=True
    )
    _works(axis, lines, place=place)
    names, place_of = style.names_of(rows), lines.assign(place=place)[[*LINE, "place"]]
    for name, look in style.looks(names).items():
        one = rows[names == name].merge(place_of, on=LINE)
        style.dots(axis, one, at=one["place"], ends=None, small=one["n_stations"] < MIN_STATIONS,
                   markersize=7, alpha=0.85, label=style.wrapped(name), **look)  # fmt: skip
    axis.set_xlabel(style.label(metric))
    style.quiet_grid(axis, "x")
    absent = of_metric.loc[of_metric["literature_value"].isna(), "network"].astype("str")
    alone = f"\nNo work at {', '.join(dict.fromkeys(absent))}." if len(absent) else ""
    return style.finish(figure, title, note=ASTERISKS + alone)


def _works(axis: Axes, lines: pd.DataFrame, *, place: np.ndarray) -> None:
    """The works' values, a row each, under the name of their network."""
    axis.plot(lines["literature_value"], place, **HOLLOW, markersize=6, label="literature")
    words = [
        f"{work}{star} ({statistic})"
        for work, star, statistic in lines[["work", "asterisk", "statistic"]].to_numpy()
    ]
    axis.set_yticks(place, words, fontsize="small")
    axis.set_ylim(place[-1] + 0.8, place[0] - 1.3)
    first = ~lines["network"].duplicated().to_numpy()
    heads = lines.loc[first, ["network", "n_stations"]].to_numpy()
    for y, (network, n) in zip(place[first], heads, strict=True):
        name = f"{mark_small([network], [n])[0]} ({n:.0f} of our stations)"
        ink = "black" if n >= MIN_STATIONS else style.FAINT
        axis.annotate(name, (0, y - 0.75), fontsize="small", xytext=(4, 0), va="center",
                      xycoords=axis.get_yaxis_transform(), textcoords="offset points",
                      fontweight="bold", color=ink)  # fmt: skip
        axis.axhline(y - 1.1, color="0.85", linewidth=0.8)
