"""Where a model may be asked: skill by distance from training data, and who lies outside."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soilkit.plots import style
from soilkit.plots.places import draw_points, frame_map, width_to_height, window_around

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
