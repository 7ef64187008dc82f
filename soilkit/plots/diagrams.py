"""Taylor and target diagrams: amplitude, timing and offset of every station at one glance."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soilkit.metrics import point_scores
from soilkit.metrics.scores import MIN_SAMPLES
from soilkit.plots import style
from soilkit.strata import mark_small

VALUES = ["observed_m3_m3", "predicted_m3_m3"]
KEYS = ["model", "split", "sensor_id"]
R_TICKS = (1.0, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.4, 0.2, 0.0, -0.2, -0.4, -0.6, -0.8, -1.0)
MOST_RATIO = 2.5  # standard deviations of the observations
CENTRE, FAR = 0.5, 0.98  # the share of dots that a diagram shows where a few lie far out
NO_SENSOR = f"no sensor has {MIN_SAMPLES} samples and a series that varies"


def sensor_moments(predictions: pd.DataFrame, *, min_samples: int = MIN_SAMPLES) -> pd.DataFrame:
    """Point scores of every sensor with the standard deviations of both series.

    Of the same finite pairs and with divisor n, so that (ubRMSE / sd_observed)2 = 1 + s2 - 2 s R
    holds, with s = sd_predicted / sd_observed [1]_.

    Parameters
    ----------
    predictions : table of that contract
    min_samples : int, sensors with fewer finite pairs are left out

    Returns
    -------
    DataFrame as from ``metrics.point_scores`` with ``name`` (model, and split or state where there
    are several), ``sd_observed_m3_m3, sd_predicted_m3_m3`` and ``sd_ratio`` (NaN where the
    observation is constant)

    References
    ----------
    .. [1] Taylor (2001), doi:10.1029/2000JD900719, equation 3
    """
    style.need(predictions, [*KEYS, *VALUES], maker="predictions")
    finite = np.isfinite(predictions[VALUES].to_numpy(float)).all(axis=1)
    pairs = predictions[finite]
    keys = [*KEYS, *(["state"] if "state" in pairs else [])]
    scores = point_scores(pairs)
    sd = pairs.groupby(keys, observed=True)[VALUES].std(ddof=0).reset_index()
    names = dict(zip(VALUES, ("sd_observed_m3_m3", "sd_predicted_m3_m3"), strict=True))
    table = scores.merge(sd.rename(columns=names), on=keys, how="left")
    observed = table["sd_observed_m3_m3"].where(table["sd_observed_m3_m3"] > 0)
    table["sd_ratio"] = table["sd_predicted_m3_m3"] / observed
    return table.assign(name=style.names_of(table))[table["n"] >= min_samples]


def taylor_diagram(
    predictions: pd.DataFrame, *, min_samples: int = MIN_SAMPLES, title: str = ""
) -> Figure:
    """Standard deviation against correlation, per sensor and model; arcs are the centred RMSE [1]_.

    All is in standard deviations of the sensor's own observations, so a perfect model lies at
    "observed". Faint dots are sensors, the large marker is their mean R and geometric mean ratio;
    sensors beyond the rim are counted in the legend. A sensor without R is not drawn.

    Parameters
    ----------
    predictions : table of that contract, one or more models
    min_samples : int, of a sensor

    References
    ----------
    .. [1] Taylor (2001), doi:10.1029/2000JD900719
    """
    table = sensor_moments(predictions, min_samples=min_samples)
    table = table[table["r"].notna() & (table["sd_ratio"] > 0)]
    if table.empty:
        return style.nothing(NO_SENSOR, title=title)
    rim = float(np.clip(1.08 * table["sd_ratio"].quantile(FAR), 1.5, MOST_RATIO))
    lowest = float(np.clip(np.floor(5 * table["r"].min()) / 5, -1, 0))
    figure = plt.figure(figsize=(8.8, 6.0 if lowest > -0.5 else 4.9), layout="constrained")
    axis = figure.add_subplot(projection="polar")
    _rims(axis, rim, lowest)
    looks = style.looks(list(dict.fromkeys(table["name"])))
    for name, look in looks.items():
        _cloud(axis, table[table["name"] == name], rim=rim, look=look)
    style.aside(figure, title="mean of sensors; dots: sensors")
    style.head(figure, title)
    return figure


def _rims(axis, rim: float, lowest: float) -> None:
    """Axes of a Taylor diagram, the reference point, and arcs of equal centred RMSE around it."""
    ticks = [r for r in R_TICKS if r >= lowest - 1e-9]
    axis.set(thetamin=0, thetamax=float(np.degrees(np.arccos(lowest))), ylim=(0, rim))
    axis.set_thetagrids(np.degrees(np.arccos(ticks)), [f"{r:g}" for r in ticks])
    axis.set_rgrids(np.arange(0.5, rim, 0.5))
    axis.grid(color=style.GRID)
    axis.plot(np.linspace(0, np.pi, 200), np.ones(200), color="0.35", linewidth=0.9, linestyle="--")
    axis.plot(0, 1, marker="*", color="black", markersize=13, linestyle="", clip_on=False,
              label="observed", zorder=6)  # fmt: skip
    turn = np.linspace(0, np.pi, 200)
    for radius in np.arange(0.5, rim + 1, 0.5):
        x, y = 1 + radius * np.cos(turn), radius * np.sin(turn)
        far, angle = np.hypot(x, y), np.arctan2(y, x)
        seen = (far <= rim) & (np.cos(angle) >= lowest)
        axis.plot(angle[seen], far[seen], color="#B08D57", linewidth=0.8, linestyle=":")
        if seen.any():
            last = np.flatnonzero(seen)[seen.sum() // 2]
            axis.text(angle[last], far[last], f"{radius:g}", color="#8A6A35", fontsize="small",
                      ha="center", va="center", backgroundcolor="white", zorder=1.5)  # fmt: skip
    axis.set_xlabel("standard deviation, predicted / observed [1]", labelpad=16)
    middle = np.arccos(max(lowest, 0.0) if lowest == 0 else lowest) / 2
    axis.text(middle, 1.17 * rim, "correlation R [1]", ha="center", va="center",
              rotation=np.degrees(middle) - 90)  # fmt: skip
    axis.plot([], [], color="#B08D57", linestyle=":", label="centred RMSE /\nsd observed [1]")


def _cloud(axis, rows: pd.DataFrame, *, rim: float, look: Mapping[str, Any]) -> None:
    r, ratio = rows["r"].to_numpy(float), rows["sd_ratio"].to_numpy(float)
    inside = ratio <= rim
    axis.scatter(np.arccos(r[inside]), ratio[inside], s=16, alpha=0.38, linewidth=0, **look)
    n, beyond = rows["station_id"].nunique(), int((~inside).sum())
    name = style.wrapped(mark_small([rows["name"].iloc[0]], [n])[0])
    words = f"{name}\n({n} stations{f', {beyond} beyond the rim' if beyond else ''})"
    axis.plot(
        np.arccos(np.clip(r.mean(), -1, 1)), min(np.exp(np.log(ratio).mean()), rim), markersize=11,
        markeredgecolor="black", linestyle="", label=words, zorder=5, **look,
    )  # fmt: skip


def target_diagram(
    predictions: pd.DataFrame, *, min_samples: int = MIN_SAMPLES, title: str = ""
) -> Figure:
    """Bias against ubRMSE, signed by the amplitude, per sensor; a panel a model [1]_.

    To the right the predictions vary more than the observations, to the left less; the distance
    from the middle is the RMSE. The cross is the mean bias and the mean ubRMSE, on the side where
    most sensors lie; sensors beyond the frame are counted.

    Parameters
    ----------
    predictions : table of that contract, one or more models
    min_samples : int, of a sensor

    References
    ----------
    .. [1] Jolliff et al. (2009), doi:10.1016/j.jmarsys.2008.05.014
    """
    table = sensor_moments(predictions, min_samples=min_samples)
    table = table[table["ubrmse_m3_m3"].notna()]
    if table.empty:
        return style.nothing(NO_SENSOR, title=title)
    wider = table["sd_predicted_m3_m3"] >= table["sd_observed_m3_m3"]
    table = table.assign(signed=np.where(wider, 1, -1) * table["ubrmse_m3_m3"])
    reach = 1.08 * max(float(table["rmse_m3_m3"].quantile(FAR)), 0.02)
    names = list(dict.fromkeys(table["name"]))
    figure, axes = style.panels(
        len(names), columns=3, size=(3.3, 3.3), sharex=True, sharey=True, layout="compressed"
    )
    for axis, (name, look) in zip(axes, style.looks(names).items(), strict=True):
        _target(axis, table[table["name"] == name], reach=reach, look=look)
        axis.tick_params(labelbottom=True)
    figure.supxlabel(
        f"← varies less     ubRMSE × sign(sd predicted − sd observed) [{style.MOISTURE}]"
        "     varies more →", fontsize="medium",
    )  # fmt: skip
    figure.supylabel(style.label("bias_m3_m3"), fontsize="medium")
    style.head(figure, title)
    return figure


def _target(axis: Axes, rows: pd.DataFrame, *, reach: float, look: Mapping[str, Any]) -> None:
    step = 0.02 if reach <= 0.1 else 0.05
    turn = np.linspace(0, 2 * np.pi, 200)
    for radius in np.arange(step, reach * 1.4, step):
        axis.plot(radius * np.cos(turn), radius * np.sin(turn), color="0.82", linewidth=0.8)
        at = radius / np.sqrt(2)
        if at < reach * 0.97:
            axis.text(at, at, f"{radius:.2f}", fontsize="x-small", color="0.45", ha="center",
                      va="center")  # fmt: skip
    x, y = rows["signed"].to_numpy(float), rows["bias_m3_m3"].to_numpy(float)
    axis.scatter(x, y, s=22, alpha=0.55, edgecolor="white", linewidth=0.3, zorder=3, **look)
    side = 1 if (x > 0).mean() >= CENTRE else -1
    axis.plot(side * np.abs(x).mean(), y.mean(), "P", markersize=11, color="black",
              markeredgecolor="white", zorder=4)  # fmt: skip
    axis.axhline(0, color="0.35", linewidth=0.8)
    axis.axvline(0, color="0.35", linewidth=0.8)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    n, beyond = rows["station_id"].nunique(), int((np.maximum(abs(x), abs(y)) > reach).sum())
    name = style.wrapped(mark_small([rows["name"].iloc[0]], [n])[0], letters=28, lines=2)
    axis.set_title(
        f"{name}\n{n} stations{f', {beyond} beyond' if beyond else ''}", fontsize="medium"
    )
