"""Moisture over time, and predicted against observed."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from soilkit.plots.style import COLOURS, MOISTURE, colours, head, names_of, nothing, panels, wrapped

GAP_DAYS = 15  # a line is not drawn across a longer gap


def series_panel(predictions: pd.DataFrame, sensor_ids: list[str], *, title: str = "") -> Figure:
    """Observed and predicted moisture over time, one panel a sensor, one line a model.

    Parameters
    ----------
    predictions : predictions table, one or more models; ``lower_m3_m3`` and ``upper_m3_m3``, where
        it has them, become a band
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
        label = "observed" if predictions["observed_m3_m3"].notna().any() else None
        axis.plot(
            seen["time"], seen["observed_m3_m3"], ".", color="black", markersize=4, label=label
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
    ends = rows.reindex(columns=["lower_m3_m3", "upper_m3_m3"]).astype(float)
    if ends.notna().all(axis=1).any():
        axis.fill_between(time, *ends.to_numpy().T, color=colour, alpha=0.15, linewidth=0)


def density_scatter(predictions: pd.DataFrame, *, title: str = "") -> Figure:
    """Predicted against observed moisture as counts of samples, one panel a model.

    One logarithmic colour scale and one frame for all; the thin line is 1:1, the thick one the
    least-squares line of predicted on observed, all samples pooled: it mixes places and times.

    Parameters
    ----------
    predictions : predictions table, one or more models; rows without a finite pair are left out
    """
    values = ["observed_m3_m3", "predicted_m3_m3"]
    known = predictions[np.isfinite(predictions[values].to_numpy(float)).all(axis=1)]
    if known.empty:
        return nothing(f"none of {len(predictions):,} rows has a finite pair", title=title)
    names = names_of(known)
    low, high = min(float(known[values].min().min()), 0.0), float(known[values].max().max())
    models = list(dict.fromkeys(names))
    figure, axes = panels(
        len(models), columns=3, size=(3.1, 3.1), sharex=True, sharey=True, layout="compressed"
    )
    drawn = [
        _density(axis, known[names == model], name=model, span=(low, max(high, low + 0.01)))
        for axis, model in zip(axes, models, strict=True)
    ]
    scale = LogNorm(1, max(2.0, *(float(d.get_array().max()) for d in drawn)))
    for one in drawn:
        one.set_norm(scale)
    figure.colorbar(drawn[-1], ax=axes, label="samples [count]", shrink=0.85, format="%g")
    for axis in axes:
        axis.set_xlabel(f"observed [{MOISTURE}]")
        axis.tick_params(labelbottom=True)
    for axis in axes[::3]:
        axis.set_ylabel(f"predicted [{MOISTURE}]")
    head(figure, title)
    return figure


def _density(axis: Axes, rows: pd.DataFrame, *, name: str, span: tuple[float, float]):
    """Hexagons of one model, the 1:1 line and the regression."""
    x, y = rows["observed_m3_m3"].to_numpy(float), rows["predicted_m3_m3"].to_numpy(float)
    drawn = axis.hexbin(x, y, gridsize=40, mincnt=1, extent=span * 2, cmap="viridis",
                        linewidths=0.1)  # fmt: skip
    axis.plot(span, span, color="0.3", linewidth=0.8)
    words = "no line: too few or constant"
    if len(x) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0:
        slope, intercept = np.polyfit(x, y, 1)
        ends = np.array([x.min(), x.max()])
        axis.plot(ends, intercept + slope * ends, color=COLOURS[1], linewidth=1.8)
        words = f"y = {slope:.2f} x {'−' if intercept < -0.0005 else '+'} {abs(intercept):.3f}"
        words += f"\npooled R = {np.corrcoef(x, y)[0, 1]:.2f}"
    axis.text(0.03, 0.97, words, transform=axis.transAxes, va="top", fontsize="small",
              color=COLOURS[1])  # fmt: skip
    axis.set(aspect="equal", xlim=span, ylim=span)
    axis.set_title(f"{wrapped(name, letters=28, lines=2)} (n = {len(rows):,})", fontsize="medium")
    return drawn
