"""Scores of models under several splits, side by side."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from soilkit.plots.dataset import SPLIT_COLOURS
from soilkit.plots.style import colours, label


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
