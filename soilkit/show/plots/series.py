"""Moisture over time: predicted and observed, by season, with the scenes of each reading."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import dates as mdates
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from soilkit import units
from soilkit.contracts import Chip
from soilkit.errors import UnknownNameError
from soilkit.metrics.points import pearson_r
from soilkit.show.plots import style
from soilkit.show.plots.style import (
    COLOURS,
    MOISTURE,
    colours,
    head,
    names_of,
    nothing,
    panels,
    wrapped,
)
from soilkit.strata import MIN_STATIONS, mark_small

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
        words += f"\npooled R = {pearson_r(x, y):.2f}"
    axis.text(0.03, 0.97, words, transform=axis.transAxes, va="top", fontsize="small",
              color=COLOURS[1])  # fmt: skip
    axis.set(aspect="equal", xlim=span, ylim=span)
    axis.set_title(f"{wrapped(name, letters=28, lines=2)} (n = {len(rows):,})", fontsize="medium")
    return drawn


# Scores by season, every sensor a dot.

ORDER = ("winter", "spring", "summer", "autumn", "DJF", "MAM", "JJA", "SON")


def season_dots(
    scores: pd.DataFrame,
    *,
    summary: pd.DataFrame | None = None,
    metrics: Sequence[str] = ("r", "ubrmse_m3_m3"),
    title: str = "",
) -> Figure:
    """A score of every sensor by season, and its mean; a panel a metric, a colour a model.

    The stations of a season stand below it; of fewer than five the dots are grey.

    Parameters
    ----------
    scores : from ``metrics.season_scores``
    summary : from ``metrics.summarize(scores, stations, by="season")``, for intervals of the mean
    metrics : columns of the scores
    """
    style.need(scores, ["season", *metrics, "station_id"], maker="metrics.season_scores")
    known = scores[scores[list(metrics)].notna().any(axis=1)]
    if known.empty:
        return style.nothing("no sensor has a score in any season", title=title)
    found = set(known["season"])
    seasons = [s for s in ORDER if s in found] + sorted(found - set(ORDER))
    names = style.names_of(scores)
    looks = style.looks(list(dict.fromkeys(names.loc[known.index])))
    width = max(3.9, 0.9 * len(seasons))
    figure, axes = style.panels(
        len(metrics), columns=2, size=(width, 3.5), aside=1.8 if len(metrics) > 1 else 2.2
    )
    for axis, metric in zip(axes, metrics, strict=True):
        rows = known.assign(value=known[metric], name=names.loc[known.index])
        rows = rows[rows["value"].notna()]
        _panel(axis, rows, looks=looks, seasons=seasons)
        if summary is not None:
            _means(axis, summary[summary["metric"] == metric], looks=looks, seasons=seasons)
        axis.set_ylabel(style.label(metric))
    style.aside(figure, title="dots: sensors")
    style.head(figure, title)
    return figure


def _place(i: int, n: int) -> float:
    return 0.72 * ((i + 0.5) / n - 0.5)


def _panel(axis: Axes, rows, *, looks, seasons) -> None:
    n = [rows.loc[rows["season"] == s, "station_id"].nunique() for s in seasons]
    rng = np.random.default_rng(0)  # spreads dots sideways
    for i, (name, look) in enumerate(looks.items()):
        one = rows[rows["name"] == name]
        at = np.array([seasons.index(s) for s in one["season"]], float) + _place(i, len(looks))
        small = np.array([n[seasons.index(s)] < MIN_STATIONS for s in one["season"]], bool)
        colour = np.where(small, style.FAINT, look["color"])
        jitter = rng.uniform(-0.22, 0.22, len(one)) / len(looks)
        axis.scatter(at + jitter, one["value"], s=9, alpha=0.35, c=colour, linewidth=0)
        mean = one.groupby("season")["value"].mean().reindex(seasons).to_numpy(float)
        x, few = np.arange(len(seasons)) + _place(i, len(looks)), np.array(n) < MIN_STATIONS
        for pale, ink in ((False, look), (True, look | {"color": style.FAINT})):
            words = style.wrapped(name) if pale == few.all() else None
            axis.plot(x[few == pale], mean[few == pale], linestyle="", markersize=7, **ink,
                      markeredgecolor="black", label=words, zorder=4)  # fmt: skip
    stars = mark_small(seasons, n)
    axis.set_xticks(range(len(seasons)), [f"{s}\n({k})" for s, k in zip(stars, n, strict=True)])
    for text, k in zip(axis.get_xticklabels(), n, strict=True):
        text.set_color("black" if k >= MIN_STATIONS else style.FAINT)
    axis.set_xlim(-0.5, len(seasons) - 0.5)
    axis.set_xlabel("season (stations)")
    style.quiet_grid(axis, "y")


def _means(axis: Axes, summary, *, looks, seasons) -> None:
    names = style.names_of(summary)
    for i, name in enumerate(looks):
        one = summary[names == name].set_index("season").reindex(seasons)
        ends = style.whiskers(one, value="mean", ends=("mean_lower", "mean_upper"))
        x = np.arange(len(seasons)) + _place(i, len(looks))
        axis.errorbar(x, one["mean"], yerr=ends, fmt="none", ecolor="black", capsize=3, zorder=5)


# A sensor's record with the scenes that the join chose for it, and the chips themselves.

TRUE_COLOUR = ("B4", "B3", "B2")
SOIL_COLOUR = ("sand", "silt", "clay")
SHADOW = 0.6
LOOKS = 4  # radar pixels a side that are averaged for the eye


def station_record(
    observations: pd.DataFrame,
    samples: pd.DataFrame,
    *,
    scenes: pd.DataFrame,
    station_id: str,
    sources: Sequence[str] = ("sentinel1", "sentinel2"),
    title: str = "",
) -> Figure:
    """Every reading of a station, and below it each scene: chosen by the join, or not.

    A sample is a dot on the readings, tied to its anchor (the first of ``sources``). In the lanes
    below a filled mark is a scene that at least one sample chose, a hollow one that none did; where
    the cloud fraction is known, its shade tells it.

    Parameters
    ----------
    observations, samples, scenes : tables of those contracts
    station_id : the station to draw, with all its sensors
    sources : one lane each, the anchor first; they need times

    Returns
    -------
    matplotlib Figure; moisture in m3 m-3 against UTC

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
    _readings(top, readings, here)
    first, last = readings["time"].min(), readings["time"].max()
    for lane, source in enumerate(sources):
        _lane(lanes, passes[passes["source"] == source], here.get(f"{source}_scene"), lane=lane)
    for time in here["time"]:
        for axis in (top, lanes):
            axis.axvline(time, color=COLOURS[1], linewidth=0.5, alpha=0.35, zorder=0)
    _finish_lanes(lanes, sources)
    if pd.notna(first):
        lanes.set_xlim(first - pd.Timedelta("5D"), last + pd.Timedelta("5D"))
    figure.suptitle(title or station_id, fontsize="medium")
    return figure


def _readings(axis: Axes, readings: pd.DataFrame, samples: pd.DataFrame) -> None:
    names = [str(name) for name in readings["sensor_id"].unique()]
    shades = ["#4D6F8C", "#A3B9A0", *colours(len(names))]
    for name, colour in zip(names, shades, strict=False):
        rows = readings[readings["sensor_id"].astype("str") == name].sort_values("time")
        hourly = rows.set_index("time")["soil_moisture_m3_m3"].astype(float)
        # A day without readings becomes a gap of the line.
        filled = hourly.resample("1h").mean().interpolate(limit=24, limit_area="inside")
        probe = name.split("__", 2)[-1]
        axis.plot(filled.index, filled, color=colour, linewidth=0.8, label=f"readings, {probe}")
    axis.plot(
        samples["time"], samples["soil_moisture_m3_m3"], "o", color=COLOURS[1], markersize=4.5,
        markeredgecolor="white", markeredgewidth=0.5, label=f"samples ({len(samples)})",
    )  # fmt: skip
    axis.set_ylabel(f"soil moisture [{MOISTURE}]")
    axis.grid(color="0.92")
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize="small", frameon=False)


def _lane(axis: Axes, passes: pd.DataFrame, chosen: pd.Series | None, *, lane: int) -> None:
    wanted = set() if chosen is None else set(chosen.dropna().astype("str"))
    is_chosen = passes["scene_id"].astype("str").isin(wanted).to_numpy()
    cloud = passes["cloud_fraction"].fillna(0.0).to_numpy(float)
    cloudy = passes["cloud_fraction"].notna().any()
    rest = passes[~is_chosen]
    shade = 0.35 + 0.6 * cloud[~is_chosen] if cloudy else np.full(len(rest), 0.35)
    axis.scatter(
        rest["end"], np.full(len(rest), lane), s=20, facecolor="none", linewidth=0.9,
        edgecolor=[str(s) for s in np.clip(shade, 0, 1)],
    )  # fmt: skip
    best = passes[is_chosen]
    axis.scatter(best["end"], np.full(len(best), lane), s=34, color=COLOURS[1], zorder=3)
    axis.text(
        1.005, lane, f"{len(best)} of {len(passes)}\nchosen", transform=axis.get_yaxis_transform(),
        va="center", fontsize="small",
    )  # fmt: skip


def _finish_lanes(axis: Axes, sources: Sequence[str]) -> None:
    axis.set_yticks(range(len(sources)), [*sources])
    axis.set_ylim(len(sources) - 0.4, -0.6)
    axis.set_xlabel("time [UTC]; ● chosen   ○ not chosen, paler with more cloud")
    axis.xaxis.set_major_formatter(mdates.ConciseDateFormatter(axis.xaxis.get_major_locator()))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def imagery_series(
    observations: pd.DataFrame,
    samples: pd.DataFrame,
    *,
    store: Any,
    sensor_id: str,
    n_scenes: int = 8,
    title: str = "",
) -> Figure:
    """A sensor's readings over time, and under them what the satellites saw at some of its samples.

    Optical chips share one stretch after their haze is taken off, radar chips one grey scale after
    averaging 4 x 4 pixels in linear power, so that panels compare.

    Parameters
    ----------
    observations, samples : tables of those contracts
    store : open chip store with sentinel1 and sentinel2
    sensor_id : the sensor to draw
    n_scenes : int, samples shown, evenly spread over the record

    Raises
    ------
    UnknownNameError
        If the sensor has no sample.
    """
    mine = samples[samples["sensor_id"].astype("str") == sensor_id].sort_values("time")
    if mine.empty:
        raise UnknownNameError(f"No sample of a sensor {sensor_id!r}.")
    rows = mine.iloc[np.unique(np.linspace(0, len(mine) - 1, n_scenes).round().astype(int))]
    readings = observations[observations["sensor_id"].astype("str") == sensor_id]
    figure = plt.figure(figsize=(11, 5.6), layout="constrained")
    cells = figure.add_gridspec(3, len(rows), height_ratios=[1.7, 1, 1])
    series = figure.add_subplot(cells[0, :])
    _readings(series, readings, mine)
    optical = [_chip(store, row, "sentinel2") for _, row in rows.iterrows()]
    radar = [_chip(store, row, "sentinel1") for _, row in rows.iterrows()]
    colour = _true_colours(optical)
    below = [figure.add_subplot(cells[2, k]) for k in range(len(rows))]
    _radar(below, radar, band="VV")
    for k, (_, row) in enumerate(rows.iterrows()):
        letter = chr(ord("a") + k)
        at = (row["time"], row["soil_moisture_m3_m3"])
        series.annotate(letter, at, xytext=(0, 6), textcoords="offset points", ha="center")
        above = figure.add_subplot(cells[1, k])
        above.imshow(colour[k])
        words = f"{letter} · {row['time']:%d %b}\n{row['soil_moisture_m3_m3']:.2f} {MOISTURE}"
        above.set_title(words, fontsize="small")
        _bare(above, "Sentinel-2 RGB" if k == 0 else "")
        _bare(below[k], "Sentinel-1 VV" if k == 0 else "")
    figure.suptitle(title or sensor_id, fontsize="medium")
    return figure


def sample_gallery(samples: pd.DataFrame, store: Any, *, title: str = "") -> Figure:
    """Inputs and label of each sample, one column a sample: optics, VV, VH, soil.

    Soil is a false colour of sand, silt and clay as red, green and blue.

    Parameters
    ----------
    samples : the samples to show, a handful
    store : open chip store with sentinel1, sentinel2 and soilgrids
    """
    n = len(samples)
    figure, axes = plt.subplots(
        4, n, figsize=(0.8 + 1.4 * n, 6.6), squeeze=False, layout="constrained"
    )
    colour = _true_colours([_chip(store, row, "sentinel2") for _, row in samples.iterrows()])
    radar = [_chip(store, row, "sentinel1") for _, row in samples.iterrows()]
    _radar(axes[1], radar, band="VV")
    _radar(axes[2], radar, band="VH")
    for k, (_, row) in enumerate(samples.iterrows()):
        axes[0, k].imshow(colour[k])
        axes[3, k].imshow(_fractions(_chip(store, row, "soilgrids")))
        axes[0, k].set_title(f"{row['soil_moisture_m3_m3']:.3f}\n{MOISTURE}", fontsize="small")
    for line, words in zip(axes, ("Sentinel-2 RGB", "VV", "VH", "SoilGrids"), strict=True):
        for k, axis in enumerate(line):
            _bare(axis, words if k == 0 else "")
    figure.suptitle(title, fontsize="medium")
    return figure


def _chip(store: Any, row: pd.Series, source: str) -> Chip:
    return store.read(source, str(row.get(f"{source}_scene", "static")), str(row["station_id"]))


def _band(chip: Chip, name: str) -> np.ndarray:
    return chip.values[chip.bands.index(name)]


def _true_colours(chips: Sequence[Chip]) -> list[np.ndarray]:
    """Red, green and blue (row, col, 3) of each chip, one scale a band for all of them.

    Haze is taken off first: a band's darkest percentile in a chip counts as black [1]_, water and
    cloud shadow, dark in the near infrared, left out.

    References
    ----------
    .. [1] Chavez (1988), doi:10.1016/0034-4257(88)90019-3
    """
    images = [np.stack([_band(chip, b) for b in TRUE_COLOUR], axis=-1) for chip in chips]
    ground = [_ground(chip) for chip in chips]
    lit = [
        rgb - np.nanpercentile(rgb[here], 1, axis=0)
        for rgb, here in zip(images, ground, strict=True)
    ]  # each (row, col, 3)
    white = max(float(np.median([np.nanpercentile(rgb, 98) for rgb in lit])), 1e-6)
    return [np.nan_to_num(np.clip(rgb / white, 0, 1)) for rgb in lit]


def _ground(chip: Chip) -> np.ndarray:
    """Where the near infrared is no darker than SHADOW of its median, (row, col)."""
    if "B8" not in chip.bands:
        return np.ones(chip.values.shape[1:], bool)
    infrared = _band(chip, "B8")
    return infrared >= SHADOW * np.nanmedian(infrared)


def _radar(axes: Sequence[Axes], chips: Sequence[Chip], *, band: str) -> None:
    """Backscatter averaged over 4 x 4 pixels in linear power, all panels on one grey scale."""
    images = [_multilook(_band(chip, band)) for chip in chips]
    low, high = np.nanpercentile(np.stack(images), [1, 99])
    for axis, image in zip(axes, images, strict=True):
        axis.imshow(image, cmap="gray", vmin=low, vmax=high)


def _multilook(values_db: np.ndarray) -> np.ndarray:
    rows, cols = (n // LOOKS for n in values_db.shape)
    power = units.linear_from_db(values_db[: rows * LOOKS, : cols * LOOKS])
    blocks = power.reshape(rows, LOOKS, cols, LOOKS)
    return units.db_from_linear(blocks.mean(axis=(1, 3)))  # (row, col), dB


def _fractions(chip: Chip) -> np.ndarray:
    rgb = np.stack([_band(chip, band) for band in SOIL_COLOUR], axis=-1)  # (row, col, 3), g/kg
    return np.nan_to_num(np.clip(rgb / 700.0, 0, 1))


def _bare(axis: Axes, words: str) -> None:
    axis.set(xticks=[], yticks=[])
    if words:
        axis.set_ylabel(words, fontsize="small")
