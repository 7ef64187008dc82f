"""What a dataset holds, how far held-out places lie, and where a model may be asked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from soilkit import strata
from soilkit.constants import CHIP_SIDE_M
from soilkit.metrics.splits import AuditReport
from soilkit.metrics.splits.leakage import FAR_KM
from soilkit.show.plots import style
from soilkit.show.plots.station_maps import draw_points, frame_map, width_to_height, window_around
from soilkit.show.plots.style import COLOURS, colours
from soilkit.strata import mark_small

MIN_BINS, MAX_BINS = 6, 40
# Edges of seed 001's Fig. 6 in spirit: one place, one chip (2.56 km), then roughly a decade each.
DISTANCE_EDGES_KM = (0.0, 0.05, 2.56, 10.0, 50.0, 200.0, np.inf)
DISTANCE_NAMES = (
    "same place", "< 2.56 km", "2.56-10 km", "10-50 km", "50-200 km", "> 200 km",
)  # fmt: skip
SPLIT_COLOURS = {"train": "#B0B0B0", "validation": COLOURS[4], "test": COLOURS[1]}


def distributions(
    table: pd.DataFrame, *, labels: Mapping[str, str], by: str | None = None, title: str = ""
) -> Figure:
    """Histograms side by side, one panel a column; times are counted by month.

    Parameters
    ----------
    table : any table, one row a sample or sensor
    labels : column to axis label with its unit, one panel each
    by : column of groups; each is drawn as a line of shares, so that sizes do not matter
    """
    figure, axes = plt.subplots(
        1, len(labels), figsize=(1 + 3.1 * len(labels), 3.1), squeeze=False, layout="constrained"
    )
    groups = _groups(table, by)
    for axis, (column, words) in zip(axes[0], labels.items(), strict=True):
        edges = _edges(table[column], n=min(len(rows) for _, rows, _ in groups))
        for name, rows, colour in groups:
            _histogram(axis, rows[column], edges=edges, colour=colour, name=name)
        if pd.api.types.is_datetime64_any_dtype(table[column]):
            axis.xaxis.set_major_formatter(ConciseDateFormatter(axis.xaxis.get_major_locator()))
        axis.set_xlabel(words)
        axis.grid(axis="y", color="0.92")
        axis.set_axisbelow(True)
    axes[0, 0].set_ylabel("rows [count]" if by is None else "share of the group [1]")
    if by is not None:
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper", fontsize="small")
    figure.suptitle(title, fontsize="medium")
    return figure


def _groups(table: pd.DataFrame, by: str | None) -> list[tuple[str, pd.DataFrame, str]]:
    """Name, rows and colour of each group; splits in their own order and colours."""
    if by is None:
        return [("", table, COLOURS[0])]
    found = list(dict.fromkeys(table[by].astype("str")))
    names = [n for n in SPLIT_COLOURS if n in found] + sorted(set(found) - set(SPLIT_COLOURS))
    spare = dict(zip(names, colours(len(names)), strict=True))
    return [
        (name, table[table[by].astype("str") == name], SPLIT_COLOURS.get(name) or spare[name])
        for name in names
    ]


def _edges(values: pd.Series, *, n: int) -> np.ndarray:
    """Whole months; or about 2 n^(1/3) bins (Rice's rule) for groups of at least ``n`` rows."""
    known = values.dropna()
    if pd.api.types.is_datetime64_any_dtype(known):
        first = known.min().to_period("M").to_timestamp()
        last = known.max().to_period("M").to_timestamp() + pd.offsets.MonthBegin()
        return pd.date_range(first, last, freq="MS").to_numpy()
    bins = int(np.clip(np.ceil(2 * n ** (1 / 3)), MIN_BINS, MAX_BINS))
    return np.histogram_bin_edges(known.to_numpy(float), bins=bins)


def _histogram(axis: Axes, values: pd.Series, *, edges, colour: str, name: str) -> None:
    known = values.dropna()
    if name:
        axis.hist(
            known, bins=edges, weights=np.full(len(known), 1 / max(len(known), 1)),
            label=f"{name} (n = {len(known):,})", histtype="step", color=colour,
            linewidth=2.2 if name == "train" else 1.5,
        )  # fmt: skip
    else:
        axis.hist(known, bins=edges, color=colour, edgecolor="white", linewidth=0.4)


def class_bars(
    stations: pd.DataFrame, *, labels: Mapping[str, str], by: str | None = None, title: str = ""
) -> Figure:
    """How many stations stand in each class; an asterisk marks classes with fewer than five.

    Parameters
    ----------
    stations : table with ``station_id`` and the class columns; each station counts once
    labels : class column to axis label, one panel each; empty classes count as "unknown"
    by : column of groups, whose stations are stacked
    """
    places = stations.drop_duplicates("station_id")
    figure, axes = plt.subplots(
        1, len(labels), figsize=(1 + 3.2 * len(labels), 3.3), squeeze=False, layout="constrained"
    )
    for axis, (column, words) in zip(axes[0], labels.items(), strict=True):
        classes = places[column].astype("str").replace({"": "unknown", "nan": "unknown"})
        counts = classes.value_counts()
        y, left = np.arange(len(counts)), np.zeros(len(counts))
        for name, rows, colour in _groups(places, by):
            here = classes[rows.index].value_counts().reindex(counts.index, fill_value=0)
            axis.barh(y, here, left=left, color=colour, label=name or None, height=0.72)
            left += here.to_numpy()
        axis.set_yticks(y, strata.mark_small(counts.index, counts))
        axis.set(xlabel="stations [count]", title=words)
        axis.invert_yaxis()
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axis.grid(axis="x", color="0.92")
        axis.set_axisbelow(True)
    if by is not None:
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper", fontsize="small")
    figure.suptitle(title, fontsize="medium")
    return figure


def station_density(stations: pd.DataFrame, *, by: str = "network", title: str = "") -> Figure:
    """Where the stations stand: shaded by stations a degree square, dots coloured by group.

    Parameters
    ----------
    stations : stations table; each station counts once
    by : column of groups
    """
    places = stations.drop_duplicates("station_id")
    x, y = places["longitude"].to_numpy(float), places["latitude"].to_numpy(float)
    figure, axis = plt.subplots(figsize=(8.6, 4.6), layout="constrained")
    edges = [np.arange(np.floor(v.min()) - 1, np.ceil(v.max()) + 2) for v in (x, y)]
    counts, *_ = np.histogram2d(x, y, bins=edges)  # (longitude, latitude)
    shaded = axis.pcolormesh(
        *edges, np.where(counts > 0, counts, np.nan).T, cmap="YlOrBr", vmin=0, alpha=0.75
    )
    figure.colorbar(
        shaded, ax=axis, label="stations a degree square [count]", shrink=0.8,
        ticks=MaxNLocator(integer=True),
    )  # fmt: skip
    for name, rows, colour in _groups(places, by):
        axis.scatter(
            rows["longitude"], rows["latitude"], s=26, color=colour, edgecolor="0.15",
            linewidth=0.6, label=f"{name} ({len(rows)})",
        )  # fmt: skip
    axis.set(xlabel="longitude [degrees]", ylabel="latitude [degrees]")
    axis.set_aspect(1 / np.cos(np.radians(y.mean())))
    axis.grid(color="0.92")
    axis.set_axisbelow(True)
    figure.legend(loc="outside right upper", fontsize="small", title=f"{by} (stations)")
    figure.suptitle(title, fontsize="medium")
    return figure


def distance_bars(distances_km: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """Shares of sensors by their distance to the nearest training sensor, one bar a name.

    Parameters
    ----------
    distances_km : name of a split or of its part to distances [km]
    """
    names = list(distances_km)
    shades = plt.get_cmap("RdYlBu")(np.linspace(0.06, 0.94, len(DISTANCE_NAMES)))
    figure, axis = plt.subplots(figsize=(10, 1.5 + 0.42 * len(names)), layout="constrained")
    left = np.zeros(len(names))
    shares = np.array([_shares(distances_km[name]) for name in names])  # (name, bin)
    for k, (words, shade) in enumerate(zip(DISTANCE_NAMES, shades, strict=True)):
        axis.barh(names, shares[:, k], left=left, color=shade, label=words, edgecolor="white")
        for y, (start, share) in enumerate(zip(left, shares[:, k], strict=True)):
            if share > 0.05:
                text = f"{share:.0%}"
                axis.text(start + share / 2, y, text, ha="center", va="center", fontsize="small")
        left = left + shares[:, k]
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), xlabel="share of the sensors [1]")
    figure.legend(
        loc="outside lower center", ncols=len(DISTANCE_NAMES), fontsize="small",
        title="distance to the nearest sensor that trains", title_fontsize="small",
    )  # fmt: skip
    figure.suptitle(title, fontsize="medium")
    return figure


def _shares(distances_km: Sequence[float]) -> np.ndarray:
    counts, _ = np.histogram(np.asarray(distances_km, float), bins=DISTANCE_EDGES_KM)
    return counts / max(counts.sum(), 1)


# Where a model may be asked: skill by distance from training data, and who lies outside.

SCORES = ("rmse_m3_m3", "r")
INSIDE, OUTSIDE = style.COLOURS[0], style.COLOURS[1]
FAR = 0.995  # the share of indices that a histogram shows where a few lie far out
N_BINS = 40


def dissimilarity_skill(
    table: pd.DataFrame, *, threshold: float | None = None, title: str = ""
) -> Figure:
    """RMSE and R by dissimilarity index, each bin as wide as its indices, with intervals.

    Inside and outside are told by the table, so folds with thresholds of their own may overlap;
    those without an index (a missing predictor, an unseen value) stand in the note.

    Parameters
    ----------
    table : from ``applicability.skill_by_dissimilarity``
    threshold : of the area, drawn as a line where there is one
    """
    columns = ["side", "bin", "index_from", "index_to", "n", *SCORES, "status"]
    style.need(table, columns, maker="applicability.skill_by_dissimilarity")
    bins = table[(table["bin"] != "all") & table["rmse_m3_m3"].notna()]
    if bins.empty:
        return style.nothing("no bin of dissimilarity holds three pairs", title=title)
    names = style.names_of(bins) if "model" in bins else pd.Series("model", bins.index)
    looks = style.looks(list(dict.fromkeys(names)))
    figure, axes = style.panels(2, columns=2, size=(4.1, 3.4), aside=1.8, sharex=True)
    for axis, metric in zip(axes, SCORES, strict=True):
        for i, (name, look) in enumerate(looks.items()):
            at = (i + 1) / (len(looks) + 1)  # models of one bin stand side by side
            for side in ("inside", "outside"):
                one = bins[(names == name) & (bins["side"] == side)]
                words = style.wrapped(name) if side == "inside" else None
                _bins(axis, one, metric=metric, look=look | {"label": words}, at=at)
        if threshold is not None:
            axis.axvline(threshold, color="0.3", linewidth=0.9, linestyle="--", label="threshold")
        axis.plot([], [], "o", color="0.3", markerfacecolor="white", label="outside (hollow)")
        axis.set(xlabel="dissimilarity index [1]", ylabel=style.label(metric))
        style.quiet_grid(axis)
    style.aside(figure)
    style.foot(figure, _unplaced(table))
    style.head(figure, title)
    return figure


def _bins(axis: Axes, rows, *, metric: str, look: Mapping[str, Any], at: float) -> None:
    """Bins with their whiskers, each at a share of its width; hollow where outside."""
    low, high = rows["index_from"].to_numpy(float), rows["index_to"].to_numpy(float)
    x = low + at * (high - low)
    ends = (f"{metric}_lower", f"{metric}_upper")
    hollow = {"markerfacecolor": "white"} if rows["side"].eq("outside").any() else {}
    if len(rows):
        axis.errorbar(
            x, rows[metric], yerr=style.whiskers(rows, value=metric, ends=ends), linestyle="",
            xerr=[x - low, high - x], markersize=6, elinewidth=1.1, **(dict(look) | hollow),
        )  # fmt: skip


def _unplaced(table: pd.DataFrame) -> str:
    """What the table says of rows that have no index."""
    rows = table[table["side"].isin(["unseen value", "missing"]) & (table["bin"] == "all")]
    return "; ".join(
        f"{row.get('model', '')} {row['side']}: n = {row['n']:,}, RMSE {row['rmse_m3_m3']:.3f}"
        for _, row in rows.iterrows()
    )


def dissimilarity_histogram(
    measured: pd.DataFrame,
    *,
    threshold: float | None = None,
    training: Sequence[float] | None = None,
    title: str = "",
) -> Figure:
    """How far predictions lie from training data: counts of the index, inside and outside.

    Parameters
    ----------
    measured : from ``Area.measure``; rows without an index are counted in the note
    threshold : of the area, drawn as a line
    training : the area's ``training_index``, drawn as an outline of equal area
    """
    columns = ["dissimilarity_index", "is_inside", "status"]
    style.need(measured, columns, maker="Area.measure")
    known = measured[np.isfinite(measured["dissimilarity_index"].to_numpy(float))]
    if known.empty:
        return style.nothing(f"none of {len(measured):,} rows has an index", title=title)
    index = known["dissimilarity_index"].to_numpy(float)
    far = max(float(np.quantile(index, FAR)), threshold or 0.0) * 1.05 or 1.0
    edges = np.linspace(0, far, N_BINS + 1).tolist()
    figure, axis = plt.subplots(figsize=(8.6, 3.8), layout="constrained")
    sides = {"inside": True, "outside": False}
    parts = [index[known["is_inside"].to_numpy(bool) == inside] for inside in sides.values()]
    words = [
        f"{name}: {len(part):,} ({len(part) / len(measured):.0%})"
        for name, part in zip(sides, parts, strict=True)
    ]
    axis.hist([np.minimum(p, far) for p in parts], bins=edges, stacked=True, label=words,
              color=[INSIDE, OUTSIDE], edgecolor="white", linewidth=0.3)  # fmt: skip
    if training is not None and len(training):
        weight = np.full(len(training), len(index) / len(training))
        axis.hist(np.minimum(training, far), bins=edges, weights=weight, histtype="step",
                  color="0.2", label=f"training rows ({len(training):,}),\nscaled")  # fmt: skip
    if threshold is not None:
        axis.axvline(threshold, color="0.2", linestyle="--", label=f"threshold {threshold:.3g}")
    axis.set(xlabel="dissimilarity index [1]", ylabel="predictions [count]", xlim=(0, far))
    style.foot(figure, _uncounted(int((index > far).sum()), len(measured) - len(known)))
    style.aside(figure)
    style.head(figure, title)
    return figure


def _uncounted(beyond: int, lost: int) -> str:
    notes = [f"{beyond:,} beyond the axis count in the last bin"] if beyond else []
    return "; ".join(notes + ([f"{lost:,} without an index (missing predictor)"] if lost else []))


def outside_map(
    predictions: pd.DataFrame, measured: pd.DataFrame, *, stations: pd.DataFrame, title: str = ""
) -> Figure:
    """The share of each station's predictions that lie outside the area, where it stands.

    Parameters
    ----------
    predictions : table of that contract, one model
    measured : what ``Area.measure`` says of each, on the same index
    stations : stations table; those without a prediction are not drawn
    """
    style.need(measured, ["is_inside"], maker="Area.measure")
    outside = ~measured["is_inside"].astype(bool).loc[predictions.index]
    share = outside.groupby(predictions["station_id"].astype("str")).mean()
    places = stations.drop_duplicates("station_id").astype({"station_id": "str"})
    points = places.assign(share=100 * places["station_id"].map(share)).dropna(subset=["share"])
    if points.empty:
        return style.nothing("no predicted station is in the stations table", title=title)
    points = points.sort_values("share")
    window = window_around(points)
    wide = width_to_height(window)
    high = min(4.2, 8.4 / wide)
    figure, axis = plt.subplots(figsize=(high * wide + 1.9, high + 0.9), layout="compressed")
    colours = {"cmap": "viridis_r", "vmin": 0.0, "vmax": 100.0}
    drawn = draw_points(axis, points, metric="share", colours=colours)
    frame_map(axis, window)
    figure.colorbar(drawn, ax=axis, label="predictions outside the area [%]")
    mostly = int((points["share"] > 50).sum())
    axis.set_title(f"{len(points)} stations; {mostly} with more than half outside",
                   fontsize="medium")  # fmt: skip
    style.head(figure, title)
    return figure


# How far held-out stations lie from those that train.

AT_ZERO_KM = 0.1  # where a logarithmic axis draws what lies at, or nearer to, a training station


def distance_curves(reports: Mapping[str, AuditReport | pd.Series], *, title: str = "") -> Figure:
    """The share of held-out stations within a distance of training, one curve a split.

    The axis is logarithmic; what lies below 0.1 km stands there. The lines are those of seed 001's
    Fig. 6: a chip's 2.56 km, and 10 km.

    Parameters
    ----------
    reports : name to the ``AuditReport`` of a split, or to distances by station [km]
    """
    km = {name: _known(report) for name, report in reports.items()}
    if not any(len(values) for values in km.values()):
        why = "no held-out station has a known place and a training station to lie near"
        return style.nothing(why, title=title)
    figure, axis = plt.subplots(figsize=(9, 4.2), layout="constrained")
    far = 2 * max(float(v.max()) for v in km.values() if len(v))
    for (name, values), look in zip(km.items(), style.looks(list(km)).values(), strict=True):
        n = len(values)
        words = style.wrapped(mark_small([name], [n])[0], letters=30) + _shares_distances(values)
        at = np.concatenate([[AT_ZERO_KM], np.maximum(values, AT_ZERO_KM), [far]])
        share = np.concatenate([[0.0], np.arange(1, n + 1) / max(n, 1), [1.0 if n else np.nan]])
        axis.step(at, 100 * share, where="post", label=words, color=look["color"], linewidth=1.8,
                  alpha=1.0 if n >= style.MIN_STATIONS else 0.4)  # fmt: skip
    for line, words, side in (
        (CHIP_SIDE_M / 1000, "chips overlap below 2.56 km", "right"), (FAR_KM, "10 km", "left"),
    ):  # fmt: skip
        axis.axvline(line, color="0.35", linewidth=0.9, linestyle="--")
        axis.annotate(words, (line, 102), xytext=(0, 2), textcoords="offset points", ha=side,
                      fontsize="small", color="0.35")  # fmt: skip
    axis.set_xscale("log")
    axis.set(xlim=(0.8 * AT_ZERO_KM, far), ylim=(-2, 102),
             xlabel="distance to the nearest training station [km]",
             ylabel="held-out stations within it [%]")  # fmt: skip
    ticks = [t for t in (0.1, 1, 10, 100, 1000, 10000) if t <= far]
    axis.set_xticks(ticks, ["≤ 0.1", *(f"{t:g}" for t in ticks[1:])])
    style.quiet_grid(axis)
    style.aside(figure)
    style.head(figure, title)
    return figure


def _known(report: AuditReport | pd.Series) -> np.ndarray:
    """Sorted distances that are known, (station,), km."""
    series = report.distance_km if isinstance(report, AuditReport) else report
    values = np.sort(np.asarray(series, float))
    return values[np.isfinite(values)]


def _shares_distances(km: np.ndarray) -> str:
    if not len(km):
        return "\n(no station)"
    near, beyond = (km < CHIP_SIDE_M / 1000).mean(), (km > FAR_KM).mean()
    return f"\n({len(km)} stations: {near:.0%} below\n2.56 km, {beyond:.0%} above 10 km)"
