"""Moisture over time, and predicted against observed."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soilkit.plots.style import MOISTURE, colours

GAP_DAYS = 15  # a line is not drawn across a longer gap


def series_panel(predictions: pd.DataFrame, sensor_ids: list[str], *, title: str = "") -> Figure:
    """Observed and predicted moisture over time, one panel a sensor, one line a model.

    Parameters
    ----------
    predictions : predictions table, one or more models
    sensor_ids : sensors to draw, in this order
    """
    n = len(sensor_ids)
    figure, axes = plt.subplots(
        n, 1, figsize=(10, 0.8 + 1.75 * n), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    models = list(dict.fromkeys(predictions["model"].astype("str")))
    for axis, sensor_id in zip(axes[:, 0], sensor_ids, strict=True):
        rows = predictions[predictions["sensor_id"].astype("str") == sensor_id].sort_values("time")
        for model, colour in zip(models, colours(len(models)), strict=True):
            _line(axis, rows[rows["model"] == model], label=model, colour=colour)
        seen = rows.drop_duplicates("time")
        axis.plot(
            seen["time"], seen["observed_m3_m3"], ".", color="black", markersize=4, label="observed"
        )
        axis.set_title(sensor_id, loc="left", fontsize="medium")
        axis.grid(color="0.9")
    figure.supylabel(f"soil moisture [{MOISTURE}]", fontsize="medium")
    axes[-1, 0].set_xlabel("time [UTC]")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize="small")
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    return figure


def _line(axis: Axes, rows: pd.DataFrame, *, label: str, colour: str) -> None:
    predicted = rows["predicted_m3_m3"].astype(float).to_numpy(copy=True)
    time = rows["time"].to_numpy()
    gap = np.flatnonzero(np.diff(time) > np.timedelta64(GAP_DAYS, "D")) + 1
    axis.plot(
        np.insert(time, gap, time[gap]), np.insert(predicted, gap, np.nan),
        color=colour, linewidth=1.1, marker=".", markersize=2.5, label=label,
    )  # fmt: skip


def density_scatter(predictions: pd.DataFrame, *, title: str = "") -> Figure:
    """Predicted against observed moisture as counts of samples, one panel a model."""
    known = predictions.dropna(subset=["observed_m3_m3"])
    models = list(dict.fromkeys(known["model"].astype("str")))
    n = max(len(models), 1)
    figure, axes = plt.subplots(
        1, n, figsize=(0.9 + 3.1 * n, 3.7), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    top = float(known[["observed_m3_m3", "predicted_m3_m3"]].max().max()) if len(known) else 0.5
    for axis, model in zip(axes[0], models, strict=False):
        rows = known[known["model"] == model]
        drawn = axis.hexbin(
            rows["observed_m3_m3"], rows["predicted_m3_m3"], gridsize=40, bins="log", mincnt=1,
            extent=(0, top, 0, top), cmap="viridis", linewidths=0.1,
        )  # fmt: skip
        axis.plot([0, top], [0, top], color="0.3", linewidth=0.8)
        axis.set(aspect="equal", xlabel=f"observed [{MOISTURE}]")
        axis.set_title(f"{model} (n = {len(rows):,})", fontsize="medium")
    if models:
        figure.colorbar(drawn, ax=axes[0, -1], label="samples [count]")
    axes[0, 0].set_ylabel(f"predicted [{MOISTURE}]")
    figure.suptitle(title, fontsize="medium")
    return figure
