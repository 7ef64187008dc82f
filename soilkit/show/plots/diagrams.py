"""Predicted against observed, Taylor and target diagrams, models head to head, places by traits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from soilkit.constants import MIN_SAMPLES
from soilkit.metrics import normalized_wins, point_scores
from soilkit.metrics.evaluation.applicability import TraitSpace
from soilkit.metrics.points import pearson_r
from soilkit.metrics.spatial.station_fields import THRESHOLD
from soilkit.show.plots import style
from soilkit.strata import MIN_STATIONS, mark_small

VALUES = ["observed_m3_m3", "predicted_m3_m3"]
KEYS = ["model", "split", "sensor_id"]
R_TICKS = (1.0, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.4, 0.2, 0.0, -0.2, -0.4, -0.6, -0.8, -1.0)
MOST_RATIO = 2.5  # standard deviations of the observations
CENTRE, FAR = 0.5, 0.98  # the share of dots that a diagram shows where a few lie far out
NO_SENSOR = f"no sensor has {MIN_SAMPLES} samples and a series that varies"


def density_scatter(predictions: pd.DataFrame, *, title: str = "") -> Figure:
    """Predicted against observed moisture as counts of samples, one panel a model.

    One logarithmic colour scale and one frame for all; the thin line is 1:1, the thick one the
    least-squares line of predicted on observed, all samples pooled: it mixes places and times. Rows
    without a finite pair are left out.
    """
    known = predictions[np.isfinite(predictions[VALUES].to_numpy(float)).all(axis=1)]
    if known.empty:
        return style.nothing(f"none of {len(predictions):,} rows has a finite pair", title=title)
    names = style.names_of(known)
    low, high = min(float(known[VALUES].min().min()), 0.0), float(known[VALUES].max().max())
    models = list(dict.fromkeys(names))
    figure, axes = style.panels(
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
        axis.set_xlabel(f"observed [{style.MOISTURE}]")
    for axis in axes[::3]:
        axis.set_ylabel(f"predicted [{style.MOISTURE}]")
    return style.head(figure, title)


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
        axis.plot(ends, intercept + slope * ends, color=style.COLOURS[1], linewidth=1.8)
        words = f"y = {slope:.2f} x {'−' if intercept < -0.0005 else '+'} {abs(intercept):.3f}"
        words += f"\npooled R = {pearson_r(x, y):.2f}"
    axis.text(0.03, 0.97, words, transform=axis.transAxes, va="top", fontsize="small",
              color=style.COLOURS[1])  # fmt: skip
    axis.set(aspect="equal", xlim=span, ylim=span)
    name = style.wrapped(name, letters=28, lines=2)
    axis.set_title(f"{name} (n = {len(rows):,})", fontsize="small")
    return drawn


def sensor_moments(predictions: pd.DataFrame, *, min_samples: int = MIN_SAMPLES) -> pd.DataFrame:
    """Point scores of every sensor, with the standard deviations of both series and ``sd_ratio``.

    Of the same finite pairs and with divisor n, so that (ubRMSE / sd_observed)2 = 1 + s2 - 2 s R
    holds, with s = sd_predicted / sd_observed (Taylor 2001, doi:10.1029/2000JD900719, equation 3).
    Sensors with fewer pairs than ``min_samples`` are left out.
    """
    pairs = predictions[np.isfinite(predictions[VALUES].to_numpy(float)).all(axis=1)]
    keys = [*KEYS, *(["state"] if "state" in pairs else [])]
    sd = pairs.groupby(keys, observed=True)[VALUES].std(ddof=0).add_prefix("sd_").reset_index()
    table = point_scores(pairs).merge(sd, on=keys, how="left")
    observed = table["sd_observed_m3_m3"].where(table["sd_observed_m3_m3"] > 0)
    table["sd_ratio"] = table["sd_predicted_m3_m3"] / observed
    return table.assign(name=style.names_of(table))[table["n"] >= min_samples]


def taylor_diagram(
    predictions: pd.DataFrame, *, min_samples: int = MIN_SAMPLES, title: str = ""
) -> Figure:
    """Standard deviation against correlation, per sensor and model; arcs are the centred RMSE [1]_.

    All is in standard deviations of the sensor's own observations, so a perfect model lies at
    "observed". Faint dots are sensors, the large marker is their mean R and geometric mean ratio;
    sensors beyond the rim are counted in the legend. A sensor without R, or with fewer samples than
    ``min_samples``, is not drawn.

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
    for name, look in style.looks(table["name"]).items():
        _cloud(axis, table[table["name"] == name], rim=rim, look=look)
    return style.finish(figure, title, legend="mean of sensors; dots: sensors")


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
    most sensors lie; sensors beyond the frame are counted, those below ``min_samples`` left out.

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
    figure, axes = style.panels(len(names), columns=3, size=(3.3, 3.6), sharex=True, sharey=True)
    for axis, (name, look) in zip(axes, style.looks(names).items(), strict=True):
        _target(axis, table[table["name"] == name], reach=reach, look=look)
    figure.supxlabel(
        f"← varies less     ubRMSE × sign(sd predicted − sd observed) [{style.MOISTURE}]"
        "     varies more →", fontsize="medium",
    )  # fmt: skip
    figure.supylabel(style.label("bias_m3_m3"), fontsize="medium")
    return style.head(figure, title)


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


# Where a model fails: places by their static traits, and classes of land against the rest.

FAILED, HELD, UNKNOWN = style.COLOURS[1], style.COLOURS[0], "0.6"
MOST_ARROWS = 8
VERDICTS = {"worse": style.COLOURS[1], "better": style.COLOURS[0], "alike": "0.25", "": "0.25"}


def trait_plane(space: TraitSpace, *, title: str = "") -> Figure:
    """The first two components of the static traits, failed stations marked among the others.

    Arrows are the columns that weigh most in the plane, eight at most, to a scale of their own.
    ``space`` is from ``metrics.evaluation.applicability.trait_space``.
    """
    places = space.places
    if "pc1" not in places or not places["pc1"].notna().any():
        return style.nothing("no station has all traits", title=title)
    y = places["pc2"] if "pc2" in places else pd.Series(0.0, places.index)
    failed = places["failed"].astype("boolean")
    groups = (
        ("no score or no baseline", failed.isna(), {"facecolor": "none", "edgecolor": UNKNOWN}),
        ("holds", failed.eq(False).fillna(False), {"color": HELD, "alpha": 0.75}),
        ("fails", failed.eq(True).fillna(False), {"color": FAILED, "marker": "^", "s": 46}),
    )
    drawn = places["pc1"].notna()
    figure, (axis, beside) = style.panels(2, columns=2, size=(4.4, 4.0), aside=2)
    for words, mask, look in groups:
        here = drawn & mask.astype(bool)
        axis.scatter(places["pc1"][here], y[here], **({"s": 26} | look),
                     label=f"{words}:\n{here.sum()} stations")  # fmt: skip
    _arrows(beside, space.loadings)
    share = space.explained["share"].to_numpy(float)
    for k, way in enumerate("xy"):
        part = f"{share[k]:.0%} of the variance" if k < len(share) else "there is none"
        axis.set(**{f"{way}label": f"component {k + 1} ({part}) [1]"})
        beside.set(**{f"{way}label": f"weight in component {k + 1} [1]"})
    lost = int((~drawn).sum())
    style.quiet_grid(axis)
    note = f"{lost} stations lack a trait and are not drawn" if lost else ""
    return style.finish(figure, title, note=note)


def _arrows(axis: Axes, loadings: pd.DataFrame) -> None:
    """Columns as arrows in the unit circle, their names moved apart where they would meet."""
    part = loadings.reindex(columns=["pc1", "pc2"]).fillna(0.0).to_numpy(float)
    length = np.hypot(*part.T)
    chosen = np.argsort(-length, kind="stable")[:MOST_ARROWS]
    chosen = chosen[length[chosen] > 0]
    reach = 1.6 * max(float(length[chosen].max(initial=0)), 1e-9)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
    taken = {True: -np.inf, False: -np.inf}  # the highest name on each side
    for k in chosen[np.argsort(part[chosen, 1], kind="stable")]:
        x, y = part[k]
        right = bool(x >= 0)
        at = taken[right] = max(y, taken[right] + 0.12 * reach)
        axis.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": FAILED})
        axis.annotate(
            str(loadings["column"].iloc[k]).replace("=", ": ").replace("_", " "), (x, y),
            (0.97 * reach * (1 if right else -1), at), ha="right" if right else "left",
            va="center", fontsize="x-small", color="0.15",
            arrowprops={"arrowstyle": "-", "color": "0.8", "linewidth": 0.6},
        )  # fmt: skip
    axis.axhline(0, color="0.8", linewidth=0.8)
    axis.axvline(0, color="0.8", linewidth=0.8)
    shown = f"{len(chosen)} of {len(length)} columns" if len(chosen) < len(length) else "columns"
    axis.set_title(f"what the plane is made of ({shown})", fontsize="medium")


def class_ratios(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Each class against the rest (or the mean of models), a panel a model, with intervals.

    The band is the paper's +-10 %: beyond it a class is coloured as better or worse, and filled
    where the interval leaves out 1. Classes with fewer than five stations are grey, with an
    asterisk; a class without an interval has no whiskers. The axis is logarithmic. ``table`` is
    from ``metrics.class_differences`` or ``metrics.class_preferences``.
    """
    rows = table[table["ratio"].notna() & (table["ratio"] > 0)]
    if rows.empty:
        why = "; ".join(dict.fromkeys(table["status"])) if len(table) else "no station is scored"
        return style.nothing(f"no class has a ratio ({why})", title=title)
    names = style.names_of(rows)
    models = list(dict.fromkeys(names))
    keys = ["characteristic", "class"]
    classes = rows.drop_duplicates(keys).set_index(keys)["n_stations"]
    figure, axes = style.panels(
        len(models), columns=3, size=(3.1, 0.8 + 0.27 * len(classes)), aside=1.6, sharex=True,
        sharey=True,
    )  # fmt: skip
    for axis, model in zip(axes, models, strict=True):
        one = rows[names == model]
        place = classes.index.get_indexer(pd.MultiIndex.from_frame(one[keys]))
        _ratios(axis, one, place=place)
        axis.set_title(style.wrapped(model, letters=28, lines=2), fontsize="medium")
    words = [f"{style.class_name(by)}: {name or 'unknown'}" for by, name in classes.index]
    style.class_ticks(axes[0], words, stations=classes, fontsize="small")
    seen = rows[["ratio", "ratio_lower", "ratio_upper"]].to_numpy(float)
    low, high = min(0.85, 0.93 * np.nanmin(seen[seen > 0])), max(1.18, 1.07 * np.nanmax(seen))
    ticks = [t for t in (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10) if low <= t <= high]
    axes[0].set(xlim=(low, high), xscale="log")
    for axis in axes:
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axis.xaxis.set_minor_formatter(NullFormatter())
    _verdict_legend(axes[0])
    other = "the mean of all models" if "models_mean" in rows else "all other stations"
    score = style.label(rows["metric"].iloc[0]).split(" [")[0].split(",")[0]
    figure.supxlabel(f"{score} of the class / of {other} [1]", fontsize="medium")
    return style.finish(figure, title)


def _ratios(axis: Axes, rows: pd.DataFrame, *, place) -> None:
    axis.axvspan(1 - THRESHOLD, 1 + THRESHOLD, color="0.9", linewidth=0, zorder=0)
    axis.axvline(1, color="0.4", linewidth=0.8)
    for i, (_, row) in enumerate(rows.iterrows()):
        small = row["n_stations"] < MIN_STATIONS
        colour = style.FAINT if small else VERDICTS[row["verdict"]]
        certain = pd.notna(row["is_certain"]) and bool(row["is_certain"])
        style.dots(
            axis, rows.iloc[[i]], at=place[[i]], value="ratio", ends=("ratio_lower", "ratio_upper"),
            color=colour, markersize=6, markerfacecolor=colour if certain else "white",
        )  # fmt: skip
    style.quiet_grid(axis, "x")


def _verdict_legend(axis: Axes) -> None:
    """What the colours mean, drawn of marks that stand nowhere."""
    looks = (
        (f"worse by {THRESHOLD:.0%} or more", VERDICTS["worse"], "white"),
        (f"better by {THRESHOLD:.0%} or more", VERDICTS["better"], "white"),
        ("alike", VERDICTS["alike"], "white"),
        ("filled: the interval\nleaves out 1", "0.25", "0.25"),
        (f"* fewer than {MIN_STATIONS} stations", style.FAINT, "white"),
    )
    for words, colour, face in looks:
        axis.plot([], [], "o", color=colour, markerfacecolor=face, label=words)


# Models head to head: who wins at how many stations, and in which classes of land.

WON = "RdBu"  # red loses, blue wins; white is half
POINTS = "YlGnBu"
# How far from the middle of each colour scale white letters read better.
DARK, DARK_FROM_ZERO = 0.3, 0.55
SUMS = ("mean over all classes", "mean without *")
SUMMED = "numbers: stations won, ties shared; last rows: mean of the normalised points"


def win_matrices(counts: pd.DataFrame, *, title: str = "") -> Figure:
    """Of ``metrics.win_counts``: the share of stations that a row's model wins, a tie for half."""
    rows = counts[counts["n_stations"] > 0]
    if rows.empty:
        return style.nothing("no station has a score of two models", title=title)
    metrics = list(dict.fromkeys(rows["metric"]))
    names = list(dict.fromkeys([*rows["model_a"], *rows["model_b"]]))
    side = 1.1 + 0.72 * len(names)
    figure, axes = style.panels(
        len(metrics), columns=2 if len(metrics) in (2, 4) else 3, size=(side + 0.9, side),
        sharex=True, sharey=True, aside=0.8, layout="compressed",
    )  # fmt: skip
    for axis, metric in zip(axes, metrics, strict=True):
        drawn = _duel(axis, rows[rows["metric"] == metric], names=names)
        axis.set_title(_short(metric, rows), fontsize="medium")
    bar = figure.colorbar(drawn, ax=axes, label="stations where the row beats the column [%]")
    bar.set_ticks([0, 25, 50, 75, 100])
    return style.head(figure, title)


def _short(metric: str, rows: pd.DataFrame) -> str:
    n = int(rows.loc[rows["metric"] == metric, "n_stations"].max())
    words = style.label(metric).split(" [")[0]
    words = f"|{words.split(',')[0]}|" if metric.startswith("bias") else words
    return mark_small([words], [n])[0] + f" ({n} stations)"


def _duel(axis: Axes, rows: pd.DataFrame, *, names: list[str]):
    share = np.full((len(names), len(names)), np.nan)
    words = np.full(share.shape, "", object)
    for _, row in rows.iterrows():
        i, j, n = names.index(row["model_a"]), names.index(row["model_b"]), row["n_stations"]
        for a, b, won in ((i, j, row["wins_a"]), (j, i, row["wins_b"])):
            share[a, b] = 100 * (won + row["ties"] / 2) / n
            words[a, b] = f"{won}" + (f"\n+{row['ties']} tied" if row["ties"] else "")
    axis.set_facecolor("0.85")
    drawn = axis.imshow(share, cmap=WON, vmin=0, vmax=100)
    small = (rows["n_stations"] < MIN_STATIONS).any()
    drawn.set_alpha(0.25 if small else None)
    _letters(axis, words, share=share / 100, middle=0.5, pale=np.full(len(names), small))
    _names(axis, names, names)
    return drawn


def _letters(axis: Axes, words, *, share, middle: float, pale) -> None:
    """Text in each cell, white where the cell is dark, grey in pale rows."""
    for (i, j), text in np.ndenumerate(words):
        if text:
            dark = abs(share[i, j] - middle) > (DARK if middle else DARK_FROM_ZERO)
            colour = style.FAINT if pale[i] else "white" if dark else "black"
            axis.text(j, i, text, ha="center", va="center", fontsize="small", color=colour)


def _names(axis: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    axis.set_xticks(range(len(columns)), [style.wrapped(n, letters=16, lines=2) for n in columns],
                    rotation=30, ha="right", rotation_mode="anchor", fontsize="small")  # fmt: skip
    axis.set_yticks(range(len(rows)), [style.wrapped(n, letters=26, lines=2) for n in rows],
                    fontsize="small")  # fmt: skip
    axis.tick_params(length=0, labelbottom=True)


def class_point_matrix(
    points: pd.DataFrame, *, metric: str | None = None, title: str = ""
) -> Figure:
    """Normalised points by class: the best model of a class has 1, every class weighs alike.

    Cells hold the points, the class's stations stand in brackets; the last rows sum up as the
    paper does, over all classes, and over those with five stations or more. ``points`` is from
    ``metrics.class_points``; without a ``metric`` its first is drawn.
    """
    metric = metric or (str(points["metric"].iloc[0]) if len(points) else "")
    rows = points[points["metric"] == metric]
    if rows.empty:
        why = f"no class of land has a station with {metric or 'a score'}"
        return style.nothing(why, title=title)
    names = list(dict.fromkeys(rows["model"]))
    n, values, words = _cells(rows, names)
    figure, (axis,) = style.panels(
        1, columns=1, size=(2.6 + 1.25 * len(names), 1.0 + 0.29 * len(values)), aside=1.4
    )
    drawn = axis.imshow(values, cmap=POINTS, vmin=0, vmax=1, aspect="auto")
    small = (n < MIN_STATIONS).to_numpy()
    for i in np.flatnonzero(small):  # a pale sheet over classes that are too small
        axis.axhspan(i - 0.5, i + 0.5, color="white", alpha=0.7, linewidth=0)
    axis.axhline(len(n) - 0.5, color="black", linewidth=1.5)
    _letters(axis, words, share=values, middle=0.0, pale=np.append(small, [False, False]))
    _names(axis, [], names)
    ticks = [f"{style.class_name(by)}: {name}" for by, name in n.index]
    style.class_ticks(axis, ticks, stations=n, also=SUMS, fontsize="small")
    axis.set_ylim(len(values) - 0.5, -0.5)
    words = f"normalised points, {style.label(metric).split(' [')[0]} [1]"
    figure.colorbar(drawn, ax=axis, label=words)
    return style.finish(figure, title, note=f"{SUMMED}\n{style.SMALL_NOTE}")


def _cells(rows: pd.DataFrame, names: list[str]):
    """Stations of each class, and (class + 2 sums, model) colours and words."""
    keys = ["characteristic", "class"]
    wide = rows.pivot_table(index=keys, columns="model", values="normalized", sort=False)[names]
    won = rows.pivot_table(index=keys, columns="model", values="points", sort=False)[names]
    n = rows.groupby(keys, sort=False)["n_stations"].first().reindex(wide.index)
    totals = [normalized_wins(rows, include_small=k) for k in (True, False)]
    shares = [t.set_index("model")["share"].reindex(names).to_numpy(float) for t in totals]
    words = [[f"{p:g}" if p == round(p) else f"{p:.1f}" for p in line] for line in won.to_numpy()]
    words += [[f"{s:.2f}" if np.isfinite(s) else "–" for s in line] for line in shares]
    return n, np.vstack([wide.to_numpy(float), *shares]), np.array(words, object)
