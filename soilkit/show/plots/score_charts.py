"""Scores of models, splits and classes with their intervals, beside the papers', and in time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from soilkit.errors import UnknownNameError
from soilkit.export import join
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
        axis.locator_params(axis="x", nbins=5 if n < 4 else 3)
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

    ``table`` is from ``studies.experiment_table``, of one experiment and split; with ``step``
    differences from the reference line are drawn instead of scores.
    """
    ours, *ends, printed = ("our_step", "lower", "upper", "paper_step") if step else (
        "ours", "ours_lower", "ours_upper", "paper")  # fmt: skip
    rows = table[table[ours].notna() | table[printed].notna()]
    if rows[ours].isna().all():
        return style.nothing("no trial of this table stands: run make study", title=title)
    names = list(dict.fromkeys(rows["variant"]))
    y = np.arange(len(names))
    size = (4.2, 0.9 + 0.36 * len(names))
    figure, axes = style.panels(2, columns=2, size=size, aside=3.6, sharey=True)
    for axis, metric in zip(axes, METRICS, strict=True):
        one = rows[rows["metric"] == metric].set_index("variant").reindex(names)
        style.dots(axis, one, at=y, value=ours, ends=ends, color=style.COLOURS[0], label=OURS)
        if one[printed].notna().any():
            axis.plot(one[printed], y + 0.22, **HOLLOW, label=PAPERS)
        axis.set_xlabel(f"step in {style.label(metric)}" if step else style.label(metric))
        if step:
            axis.axvline(0, color="0.6", linewidth=0.8, zorder=0)
        axis.locator_params(axis="x", nbins=6)
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

    ``table`` is from ``studies.experiment_table``, of one experiment and split.
    """
    rows = style.readable(table[table["metric"] == metric], PAPER_HEADS)
    return rows.set_index("line").rename_axis(columns=style.label(metric))


def learning_curves(curves: pd.DataFrame, lines: pd.DataFrame, *, title: str = "") -> Figure:
    """Validation RMSE over training steps, a colour a line of the table, a thin line a seed.

    ``curves`` and ``lines``, of one experiment, are from ``studies.read_study``.
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


def training_curve(history: pd.DataFrame, *, title: str = "") -> Figure:
    """Errors of a training as they fell: of its own batches, and of the validation stations.

    Parameters
    ----------
    history : of ``training.fit`` with a Huber loss and the RMSE as score, m3 m-3
    """
    figure, (axis,) = style.panels(1, columns=1, size=(8, 2.8))
    rmse = {"training": np.sqrt(2 * history["loss"]), "validation": history["score"]}
    for (name, values), look in zip(rmse.items(), style.looks(rmse).values(), strict=True):
        axis.plot(history["step"], values, label=name, **look)
    axis.set(xlabel="step", ylabel=f"RMSE [{style.MOISTURE}]", ylim=(0, None))
    style.quiet_grid(axis)
    if history.empty:
        axis.text(0.5, 0.5, "no validation yet", ha="center", transform=axis.transAxes)
    else:
        best = history.loc[history["score"].idxmin()]
        axis.axvline(best["step"], color="0.6", linewidth=0.9, linestyle="--", label="kept")
        axis.legend(frameon=False)
    return style.head(figure, title)


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


LONGEST_GAP = np.timedelta64(15, "D")  # a line is not drawn across a longer gap


def series_panel(predictions: pd.DataFrame, sensor_ids: list[str], *, title: str = "") -> Figure:
    """Observed and predicted moisture over time, one panel a sensor, one line a model.

    ``lower_m3_m3`` and ``upper_m3_m3``, where the predictions have them, become a band.
    """
    figure, axes = style.panels(
        len(sensor_ids), columns=1, size=(8, 1.75), aside=2, sharex=True, sharey=True
    )
    models = list(dict.fromkeys(predictions["model"].astype("str")))
    for axis, sensor_id in zip(axes, sensor_ids, strict=True):
        rows = predictions[predictions["sensor_id"].astype("str") == sensor_id].sort_values("time")
        for model, colour in zip(models, style.colours(len(models)), strict=True):
            _line(axis, rows[rows["model"] == model], label=style.wrapped(model), colour=colour)
        seen = rows.drop_duplicates("time")
        label = "observed" if predictions["observed_m3_m3"].notna().any() else None
        axis.plot(
            seen["time"], seen["observed_m3_m3"], ".", color="black", markersize=4, label=label
        )
        axis.set_title(sensor_id, loc="left", fontsize="medium")
        style.quiet_grid(axis)
    figure.supylabel(f"soil moisture [{style.MOISTURE}]", fontsize="medium")
    _date_axis(axes[-1])
    return style.finish(figure, title)


def _line(axis: Axes, rows: pd.DataFrame, *, label: str, colour: str) -> None:
    time = rows["time"].to_numpy()
    x, predicted = style.broken(time, rows["predicted_m3_m3"].to_numpy(float), longest=LONGEST_GAP)
    axis.plot(x, predicted, color=colour, linewidth=1.1, marker=".", markersize=2.5, label=label)
    ends = rows.reindex(columns=["lower_m3_m3", "upper_m3_m3"]).astype(float)
    if ends.notna().all(axis=1).any():
        axis.fill_between(time, *ends.to_numpy().T, color=colour, alpha=0.15, linewidth=0)


def _date_axis(axis: Axes) -> None:
    axis.xaxis.set_major_formatter(ConciseDateFormatter(axis.xaxis.get_major_locator()))
    axis.set_xlabel("time [UTC]")


# Is the map right each day: skill across stations by date, and its static and dynamic parts.

PART_LOOKS: dict[str, dict[str, Any]] = {
    "all": {"color": "black", "linewidth": 1.6, "marker": "."},
    "static": {"color": style.COLOURS[1], "linewidth": 1.2, "linestyle": "--"},
    "dynamic": {"color": style.COLOURS[0], "linewidth": 1.2},
}
PART_WORDS = {"static": "static part (places)", "dynamic": "dynamic part (days)"}


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
        name = style.wrapped(model, letters=56, lines=1)
        axis.set_title(f"{name}, across the stations of each date", loc="left", fontsize="medium")
        if metric != "r":
            axis.axhline(0, color="0.4", linewidth=0.8)
        style.quiet_grid(axis)
    _date_axis(axes[-1])
    figure.supylabel(style.label(metric), fontsize="medium")
    return style.finish(figure, title)


def _dates(axis: Axes, rows: pd.DataFrame, *, key: str, metric: str) -> None:
    """One part's line with gaps, its band, and ticks for dates without a score."""
    known = rows[rows[metric].notna()]
    lost = rows.loc[rows[metric].isna(), "date"]
    if key == "all" and len(lost):
        axis.plot(lost, np.full(len(lost), 0.02), "|", color="0.5", markersize=6,
                  transform=axis.get_xaxis_transform(), label="too few stations")  # fmt: skip
    if known.empty:
        return
    time = known["date"].to_numpy()
    step = np.median(np.diff(time)) if len(time) > 1 else np.timedelta64(0, "D")
    columns = [metric, *(("r_lower", "r_upper") if metric == "r" else ())]
    values = [known[c].to_numpy(float) for c in columns]
    x, line, *band = style.broken(time, *values, longest=max(LONGEST_GAP, 3 * step))
    words = f"all\n(about {known['n_stations'].median():.0f} stations a date)"
    axis.plot(x, line, label=PART_WORDS.get(key, words if key == "all" else key),
              **PART_LOOKS.get(key, {"color": style.COLOURS[2]}))  # fmt: skip
    if band and key == "all":
        axis.fill_between(
            x, band[0], band[1], color="0.5", alpha=0.25, linewidth=0, label="95 % of all"
        )


# A sensor's record with the scenes that the join chose for it.

RECORD_MARGINS = {"left": 0.1, "right": 0.92, "bottom": 0.12, "top": 0.84, "hspace": 0.06}
MODEL_COLOURS = [style.COLOURS[k] for k in (2, 4, 3, 5)]


def station_record(
    observations: pd.DataFrame, samples: pd.DataFrame, *, scenes: pd.DataFrame, station_id: str,
    sources: Sequence[str] = ("sentinel1", "sentinel2"), predictions: pd.DataFrame | None = None,
    title: str = "",
) -> Figure:  # fmt: skip
    """Every reading of a station, and below it each scene: chosen by the join, or not.

    A sample is a dot on the readings, tied to its anchor (the first of ``sources``). In the lanes
    below a filled mark is a scene that at least one sample chose, a hollow one that none did; where
    the cloud fraction is known, its shade tells it. Raises ``UnknownNameError`` if the scenes know
    no such station.

    Parameters
    ----------
    observations, samples, scenes : tables of those contracts
    station_id : the station to draw, with all its sensors
    sources : one lane each, the anchor first; they need times
    predictions : ``station_id``, ``time``, ``model`` and ``predicted_m3_m3`` of models and coarse
        products alike: a line each, the mean of the station's sensors
    """
    passes = scenes[scenes["station_id"].astype("str") == station_id]
    if passes.empty:
        raise UnknownNameError(f"The scenes table has no row of a station {station_id!r}.")
    here = samples[samples["station_id"].astype("str") == station_id]
    of_station = station_id + "__"
    sensors = join.as_categorical(observations["sensor_id"])
    mine = np.flatnonzero(sensors.categories.astype(str).str.startswith(of_station))
    readings = observations[np.isin(sensors.codes, mine)]  # of millions: codes compare fastest
    figure, (top, lanes) = plt.subplots(
        2, 1, figsize=(10, 4.6), sharex=True, height_ratios=[3, 0.4 + 0.5 * len(sources)],
        gridspec_kw=RECORD_MARGINS,  # a layout of its own takes as long as all else
    )  # fmt: skip
    if predictions is not None:
        _model_lines(top, predictions[predictions["station_id"].astype("str") == station_id])
    draw_readings(top, readings, samples=here)
    for lane, source in enumerate(sources):
        _lane(lanes, passes[passes["source"] == source], here.get(f"{source}_scene"), lane=lane)
    time, height = np.repeat(here["time"].to_numpy(), 3), np.tile([0, 1, np.nan], len(here))
    look = {"color": style.COLOURS[1], "linewidth": 0.5, "alpha": 0.35, "zorder": 0}
    for axis in (top, lanes):  # one artist for all samples
        axis.plot(time, height, transform=axis.get_xaxis_transform(), **look)
    lanes.set_yticks(range(len(sources)), [*sources])
    lanes.spines[["top", "right"]].set_visible(False)
    if len(readings):
        around = pd.Timedelta("5D")
        lanes.set_xlim(readings["time"].min() - around, readings["time"].max() + around)
    _date_axis(lanes)
    lanes.set_xticks(lanes.get_xticks())  # found once, not at each of a dozen looks
    lanes.set(ylim=(len(sources) - 0.4, -0.6),
              xlabel="time [UTC]; ● chosen   ○ not chosen, paler with more cloud")  # fmt: skip
    return style.head(figure, title or station_id)


def _model_lines(axis: Axes, predictions: pd.DataFrame) -> None:
    """A line a model in colours that readings and samples leave, the mean where sensors repeat."""
    keys = [predictions["model"].astype("str"), "time"]
    means = predictions.groupby(keys)["predicted_m3_m3"].mean().reset_index()
    for k, (model, rows) in enumerate(means.groupby("model")):
        colour = MODEL_COLOURS[k % len(MODEL_COLOURS)]
        _line(axis, rows, label=style.wrapped(str(model)), colour=colour)


def draw_readings(axis: Axes, readings: pd.DataFrame, *, samples: pd.DataFrame) -> None:
    """Hourly readings as a line a sensor, samples as dots."""
    names = [str(name) for name in readings["sensor_id"].unique()]
    shades = ["#4D6F8C", "#A3B9A0", *style.colours(len(names))]
    for name, colour in zip(names, shades, strict=False):
        rows = readings[readings["sensor_id"].astype("str") == name].sort_values("time")
        hourly = rows.set_index("time")["soil_moisture_m3_m3"].astype(float)
        # A day without readings becomes a gap of the line.
        filled = hourly.resample("1h").mean().interpolate(limit=24, limit_area="inside")
        probe = name.split("__", 2)[-1]
        axis.plot(filled.index, filled, color=colour, linewidth=0.8, label=f"readings, {probe}")
    axis.plot(
        samples["time"], samples["soil_moisture_m3_m3"], "o", markersize=4.5, markeredgewidth=0.5,
        markeredgecolor="white", color=style.COLOURS[1], label=f"samples ({len(samples)})",
    )  # fmt: skip
    axis.set_ylabel(f"soil moisture [{style.MOISTURE}]")
    style.quiet_grid(axis)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize="small", frameon=False)


def _lane(axis: Axes, passes: pd.DataFrame, chosen: pd.Series | None, *, lane: int) -> None:
    wanted = set() if chosen is None else set(chosen.dropna().astype("str"))
    is_chosen = passes["scene_id"].astype("str").isin(wanted)
    best, rest = passes[is_chosen], passes[~is_chosen]
    shade = (0.35 + 0.6 * rest["cloud_fraction"].fillna(0.0)).clip(0, 1)
    axis.scatter(rest["end"], np.full(len(rest), lane), s=20, facecolor="none", linewidth=0.9,
                 edgecolor=shade.astype(str).tolist())  # fmt: skip
    axis.scatter(best["end"], np.full(len(best), lane), s=34, color=style.COLOURS[1], zorder=3)
    axis.text(1.005, lane, f"{len(best)} of {len(passes)}\nchosen", va="center", fontsize="small",
              transform=axis.get_yaxis_transform())  # fmt: skip
