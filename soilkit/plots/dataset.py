"""What a dataset holds: distributions, classes, places, and distances from test to training."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from soilkit import strata
from soilkit.plots.style import COLOURS, colours

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
