"""Scores of models, splits and classes with their intervals, beside the papers'."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soilkit.show.plots import style
from soilkit.show.plots.domain import SPLIT_COLOURS
from soilkit.show.plots.style import COLOURS, colours, label
from soilkit.strata import MIN_STATIONS, mark_small

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


# Where a model works: one score in every class of every stratum, on one sheet.

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


# Scores of models under several splits, side by side.


def split_dots(
    table: pd.DataFrame, *, labels: Mapping[str, str] | None = None, title: str = ""
) -> Figure:
    """Values with their intervals: one panel a metric, one row a split, one colour a model.

    Parameters
    ----------
    table : columns split, model, metric, value, lower, upper; orders are kept as they come
    labels : axis label of a metric where the house has none
    """
    metrics, splits, models = (
        list(dict.fromkeys(table[c].astype("str"))) for c in ("metric", "split", "model")
    )
    names = dict(labels or {})
    figure, axes = plt.subplots(
        1, len(metrics), figsize=(11, 1.7 + 0.42 * len(splits)), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    shifts = np.linspace(-0.14, 0.14, len(models)) if len(models) > 1 else [0.0]
    for axis, metric in zip(axes[0], metrics, strict=True):
        rows = table[table["metric"] == metric]
        for model, colour, shift in zip(models, colours(len(models)), shifts, strict=True):
            one = rows[rows["model"] == model].set_index("split").reindex(splits)
            y, value = np.arange(len(splits)) + shift, one["value"].to_numpy(float)
            ends = [value - one["lower"].to_numpy(float), one["upper"].to_numpy(float) - value]
            axis.errorbar(
                value, y, xerr=np.nan_to_num(np.clip(ends, 0, None)), fmt="o", capsize=3,
                color=colour, label=model,
            )  # fmt: skip
        axis.set_xlabel(names.get(metric, label(metric)))
        axis.grid(axis="x", color="0.92")
    axes[0, 0].set_yticks(range(len(splits)), splits)
    axes[0, 0].set_ylim(len(splits) - 0.5, -0.5)
    handles, words = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside lower center", ncols=len(models), fontsize="small")
    figure.suptitle(title, fontsize="medium")
    return figure


def split_maps(
    samples: pd.DataFrame, stations: pd.DataFrame, *, splits: Mapping[str, pd.Series],
    title: str = "",
) -> Figure:  # fmt: skip
    """Who trains and who tests, on one small map a split.

    A station's test rows are drawn as a dot over the ring of its training rows: a ringed dot is a
    station on both sides.

    Parameters
    ----------
    samples, stations : tables of those contracts
    splits : name to labels per sample, from ``soilkit.metrics.splits``
    """
    places = stations.drop_duplicates("station_id").set_index("station_id")
    figure, axes = plt.subplots(
        1, len(splits), figsize=(11, 3.2), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    sizes = {"train": 60, "validation": 30, "test": 16}
    for axis, (name, labels) in zip(axes[0], splits.items(), strict=True):
        for part, size in sizes.items():
            ids = sorted(set(samples["station_id"].astype("str")[labels == part]))
            at = places.loc[ids]
            colour = SPLIT_COLOURS[part]
            axis.scatter(at["longitude"], at["latitude"], s=size, color=colour, label=part)
        axis.set_title(name, fontsize="medium")
        axis.set_aspect(1 / np.cos(np.radians(places["latitude"].mean())))
        axis.grid(color="0.92")
        axis.set_axisbelow(True)
    figure.supxlabel("longitude [degrees]", fontsize="medium")
    figure.supylabel("latitude [degrees]", fontsize="medium")
    handles, words = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside right upper", fontsize="small")
    figure.suptitle(title, fontsize="medium")
    return figure


# What a study found: scores and steps beside the paper's, and how training went.

MAKER = "studies.paper_beside_ours"
METRICS = ("r", "ubrmse_m3_m3")
OURS, PAPERS = "ours, 95 % interval", "the paper's, on real stations"


def beside_paper(
    table: pd.DataFrame, *, step: bool = False, metrics: Sequence[str] = METRICS, title: str = ""
) -> Figure:
    """Every line's score, or its step from the reference line, ours with intervals and the paper's.

    Parameters
    ----------
    table : from ``studies.paper_beside_ours``, of one experiment and split
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


PAPER_HEADS = {
    "variant": "line",
    "paper": "the paper's",
    "ours": "ours",
    "difference": "ours minus the paper's",
    "paper_step": "the paper's step",
    "our_step": "our step",
    "lower": "our step, from",
    "upper": "our step, to",
    "pattern": "sign of the step",
    "n_seeds": "seeds",
    "n_sensors": "sensors",
    "n_blocks": "blocks",
}


def paper_table(table: pd.DataFrame, metric: str = "r") -> pd.DataFrame:
    """Every line's score and step for reading, ours beside the paper's, in words.

    Parameters
    ----------
    table : from ``studies.paper_beside_ours``, of one experiment and split
    metric : the rows that are shown
    """
    style.need(table, ["metric", *PAPER_HEADS], maker=MAKER)
    rows = style.readable(table[table["metric"] == metric], PAPER_HEADS)
    return rows.set_index("line").rename_axis(columns=style.label(metric))


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
    curves, lines : from ``studies.read_study``; lines of one experiment
    """
    style.need(curves, ["key", "step", "score"], maker="studies.read_study")
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


# Our scores by network beside those that others have published.

ASTERISKS = (
    "* in-situ data of other years · ** models for one region each · *** readings of one sensor on "
    "both sides of the split. Works differ in years and sampling: no rigorous comparison."
)
GAP = 0.7  # rows between networks


def beside_works(table: pd.DataFrame, *, metric: str = "r", title: str = "") -> Figure:
    """Our value of each network beside each work's, a row a work; no intervals, not paired.

    A mean stands beside a mean and a median beside a median, so ours may move from row to row.
    Networks of which we have fewer than five stations are grey.

    Parameters
    ----------
    table : from ``metrics.beside_literature``
    metric : "r" or "ubrmse_m3_m3"
    """
    columns = ["network", "metric", "value", "n_stations", "work", "asterisk", "statistic",
               "literature_value", "status"]  # fmt: skip
    style.need(table, columns, maker="metrics.beside_literature")
    rows = table[(table["metric"] == metric) & (table["status"] == "ok")]
    absent = table.loc[(table["metric"] == metric) & (table["literature_value"].isna()), "network"]
    alone = ", ".join(dict.fromkeys(absent.astype("str")))
    if rows.empty:
        found = table[table["metric"] == metric].groupby("status", sort=True)["network"].unique()
        why = "; ".join(f"{words} ({', '.join(map(str, where))})" for words, where in found.items())
        return style.nothing(why or f"the table has no {metric}", title=title)
    lines = rows.drop_duplicates(["network", "work", "statistic", "asterisk", "literature_value"])
    lines = lines[["network", "work", "statistic", "asterisk", "literature_value", "n_stations"]]
    lines = lines.sort_values("network", kind="stable")
    place = np.arange(len(lines)) + GAP * (pd.factorize(lines["network"])[0] + 1)
    figure, (axis,) = style.panels(
        1, columns=1, size=(7, 1.4 + 0.25 * (place[-1] + 1)), aside=2, sharex=True
    )
    _works(axis, lines, place=place)
    names = style.names_of(rows)
    for name, look in style.looks(list(dict.fromkeys(names))).items():
        _ours(axis, rows[names == name], lines=lines, place=place, name=name, look=look)
    axis.set_xlabel(style.label(metric))
    style.quiet_grid(axis, "x")
    style.aside(figure)
    style.foot(figure, ASTERISKS + (f"\nNo work at {alone}." if alone else ""))
    style.head(figure, title)
    return figure


def _works(axis: Axes, lines: pd.DataFrame, *, place) -> None:
    axis.plot(lines["literature_value"], place, "D", color="black", markerfacecolor="white",
              markersize=6, linestyle="", label="literature")  # fmt: skip
    words = [
        f"{work}{star} ({statistic})"
        for work, star, statistic in lines[["work", "asterisk", "statistic"]].to_numpy()
    ]
    axis.set_yticks(place, words, fontsize="small")
    axis.set_ylim(place[-1] + 0.8, place[0] - 1.3)
    first = ~lines["network"].duplicated().to_numpy()
    for y, (network, n) in zip(place[first], lines[["network", "n_stations"]].to_numpy()[first],
                               strict=True):  # fmt: skip
        ink = "black" if n >= MIN_STATIONS else style.FAINT
        stars = mark_small([network], [n])[0]
        axis.annotate(f"{stars} ({n:.0f} of our stations)", (0, y - 0.75), fontsize="small",
                      xycoords=axis.get_yaxis_transform(), xytext=(4, 0), va="center",
                      textcoords="offset points", fontweight="bold", color=ink)  # fmt: skip
        axis.axhline(y - 1.1, color="0.85", linewidth=0.8)


def _ours(axis: Axes, rows, *, lines, place, name, look) -> None:
    keys = ["network", "work", "statistic", "asterisk", "literature_value"]
    where = {tuple(key): y for key, y in zip(lines[keys].to_numpy(), place, strict=True)}
    y = np.array([where[tuple(key)] for key in rows[keys].to_numpy()])
    small = (rows["n_stations"] < MIN_STATIONS).to_numpy()
    for pale in (False, True):
        keep = small == pale
        if keep.any():
            ink = {"color": style.FAINT} if pale else {}
            axis.plot(
                rows["value"][keep], y[keep], linestyle="", markersize=7, **(dict(look) | ink),
                label=style.wrapped(name) if not pale or small.all() else None, alpha=0.85,
            )  # fmt: skip
