"""Moisture and skill over time: predicted and observed, by date, and with each scene."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from soilkit.errors import UnknownNameError
from soilkit.show.plots import style

GAP = np.timedelta64(15, "D")  # a line is not drawn across a longer gap


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
    x, predicted = style.broken(time, rows["predicted_m3_m3"].to_numpy(float), longest=GAP)
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
    x, line, *band = style.broken(time, *values, longest=max(GAP, 3 * step))
    words = f"all\n(about {known['n_stations'].median():.0f} stations a date)"
    axis.plot(x, line, label=PART_WORDS.get(key, words if key == "all" else key),
              **PART_LOOKS.get(key, {"color": style.COLOURS[2]}))  # fmt: skip
    if band and key == "all":
        axis.fill_between(
            x, band[0], band[1], color="0.5", alpha=0.25, linewidth=0, label="95 % of all"
        )


# A sensor's record with the scenes that the join chose for it.


def station_record(
    observations: pd.DataFrame, samples: pd.DataFrame, *, scenes: pd.DataFrame, station_id: str,
    sources: Sequence[str] = ("sentinel1", "sentinel2"), title: str = "",
) -> Figure:  # fmt: skip
    """Every reading of a station, and below it each scene: chosen by the join, or not.

    A sample is a dot on the readings, tied to its anchor (the first of ``sources``). In the lanes
    below a filled mark is a scene that at least one sample chose, a hollow one that none did; where
    the cloud fraction is known, its shade tells it.

    Parameters
    ----------
    observations, samples, scenes : tables of those contracts
    station_id : the station to draw, with all its sensors
    sources : one lane each, the anchor first; they need times

    Raises
    ------
    UnknownNameError
        If the scenes know no such station.
    """
    passes = scenes[scenes["station_id"].astype("str") == station_id]
    if passes.empty:
        raise UnknownNameError(f"The scenes table has no row of a station {station_id!r}.")
    here = samples[samples["station_id"].astype("str") == station_id]
    of_station = station_id + "__"
    sensors = [s for s in observations["sensor_id"].unique() if str(s).startswith(of_station)]
    readings = observations[observations["sensor_id"].isin(sensors)]
    figure, (top, lanes) = plt.subplots(
        2, 1, figsize=(10, 4.6), sharex=True, height_ratios=[3, 0.4 + 0.5 * len(sources)],
        layout="constrained",
    )  # fmt: skip
    draw_readings(top, readings, samples=here)
    for lane, source in enumerate(sources):
        _lane(lanes, passes[passes["source"] == source], here.get(f"{source}_scene"), lane=lane)
    for time in here["time"]:
        for axis in (top, lanes):
            axis.axvline(time, color=style.COLOURS[1], linewidth=0.5, alpha=0.35, zorder=0)
    lanes.set_yticks(range(len(sources)), [*sources])
    _date_axis(lanes)
    lanes.set(ylim=(len(sources) - 0.4, -0.6),
              xlabel="time [UTC]; ● chosen   ○ not chosen, paler with more cloud")  # fmt: skip
    lanes.spines[["top", "right"]].set_visible(False)
    if len(readings):
        around = pd.Timedelta("5D")
        lanes.set_xlim(readings["time"].min() - around, readings["time"].max() + around)
    return style.head(figure, title or station_id)


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
