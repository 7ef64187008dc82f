"""Does a predicted spread mean what it says: PIT, reliability, coverage by class, spread-skill."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from soilkit.constants import MIN_SAMPLES, OK
from soilkit.metrics.intervals import clusters, limits, ratio_draws
from soilkit.show.plots import style
from soilkit.show.plots.score_charts import CLASS_NAMES
from soilkit.strata import MIN_STATIONS, mark_small

COVERAGE = "observations inside the interval [%]"


def pit_histograms(
    rows: pd.DataFrame,
    *,
    stations: pd.DataFrame | None = None,
    n_bins: int = 10,
    seed: int = 0,
    title: str = "",
) -> Figure:
    """Histogram of the probability integral transform, a panel a model; flat when calibrated.

    Bars are means over sensors with at least 13 rows, over what a flat histogram has. The band is
    where a calibrated bar lies with 95 % (Student, whole 2-degree blocks drawn anew, networks
    without stations), as wide as the bar's own interval; fewer than five clusters have none.
    A U means a spread too narrow, a hump one too wide, a slope a bias.

    Parameters
    ----------
    rows : from ``metrics.forecast_rows``
    stations : stations table, for blocks
    n_bins : int
    seed : int
    """
    style.need(rows, ["pit", "sensor_id", "status"], maker="metrics.forecast_rows")
    names = style.names_of(rows)[(rows["status"] == OK).to_numpy()]
    rows = rows[rows["status"] == OK]
    if rows.empty:
        return style.nothing("no row has a pair and a predicted spread", title=title)
    models = list(dict.fromkeys(names))
    figure, axes = style.panels(len(models), columns=3, size=(3.3, 2.9), sharex=True, sharey=True)
    for axis, (name, look) in zip(axes, style.looks(models).items(), strict=True):
        bars = _bars(rows[names == name], stations, n_bins=n_bins, seed=seed)
        _histogram(axis, bars, name=name, colour=look["color"])
        axis.tick_params(labelbottom=True)
    figure.supxlabel("probability that the forecast gave to less than was observed [1]",
                     fontsize="medium")  # fmt: skip
    figure.supylabel("share of a sensor's rows / flat share [1]", fontsize="medium")
    style.head(figure, title)
    return figure


def _bars(rows, stations, *, n_bins, seed):
    """Bars (bin,) as multiples of the flat share, the half-widths of their band, and counts."""
    which = np.clip((rows["pit"].to_numpy(float) * n_bins).astype(int), 0, n_bins - 1)
    codes, _ = pd.factorize(rows["sensor_id"].astype("str"))
    counts = np.zeros((codes.max() + 1, n_bins))
    np.add.at(counts, (codes, which), 1)
    n = counts.sum(axis=1)
    sensors = rows.iloc[np.unique(codes, return_index=True)[1]][n >= MIN_SAMPLES]
    shares = (counts / n[:, None])[n >= MIN_SAMPLES] * n_bins  # (sensor, bin)
    low = high = middle = np.full(n_bins, np.nan)
    k = 0
    if len(shares):
        cluster = clusters(sensors, stations)
        k, middle = len(set(cluster)), shares.mean(axis=0)
        rng = np.random.default_rng(seed)
        draws = ratio_draws(shares, np.ones((len(shares), 1)), cluster=cluster, rng=rng)
        low, high = limits(draws, n_clusters=k)
    words = f"{sensors['station_id'].nunique()} stations, {k} clusters"
    return middle, 1 - (high - middle), 1 + (middle - low), words


def _histogram(axis: Axes, bars, *, name: str, colour: str) -> None:
    middle, low, high, words = bars
    edges = np.linspace(0, 1, len(middle) + 1)
    axis.bar(edges[:-1], middle, width=np.diff(edges), align="edge", color=colour, alpha=0.75,
             edgecolor="white")  # fmt: skip
    axis.axhline(1, color="0.2", linewidth=1, linestyle="--")
    if np.isfinite(low).all():
        axis.fill_between(edges, np.append(low, low[-1]), np.append(high, high[-1]), step="post",
                          color="0.25", alpha=0.22, linewidth=0)  # fmt: skip
    else:
        words += ": no band"
    if np.isnan(middle).all():
        axis.text(0.5, 0.5, f"no sensor with\n{MIN_SAMPLES} usable rows", ha="center",
                  transform=axis.transAxes)  # fmt: skip
    axis.set(xlim=(0, 1), ylim=(0, None))
    axis.set_title(f"{style.wrapped(name, letters=28, lines=2)}\n{words}", fontsize="medium")


def reliability_lines(table: pd.DataFrame, *, kind: str = "interval", title: str = "") -> Figure:
    """Observed against nominal coverage with intervals; on the line a spread is calibrated.

    Parameters
    ----------
    table : from ``metrics.reliability``; of a table by class, each class is a panel
    kind : "interval" (below the line: too sure) or "quantile"
    """
    columns = ["kind", "nominal", "observed", "lower", "upper", "n_stations", "status"]
    style.need(table, columns, maker="metrics.reliability")
    rows = table[(table["kind"] == kind) & table["observed"].notna()]
    if rows.empty:
        why = "; ".join(dict.fromkeys(table["status"].astype("str"))) or "the table is empty"
        return style.nothing(f"no coverage ({why})", title=title)
    by = _class_column(rows)
    classes = list(dict.fromkeys(rows[by].astype("str"))) if by else [""]
    names = style.names_of(rows)
    looks = _legend_of(style.looks(list(dict.fromkeys(names))), rows, names=names)
    size = (2.7, 2.7) if by else (4.6, 4.6)
    figure, axes = style.panels(
        len(classes), columns=3, size=size, aside=2.2, sharex=True, sharey=True, layout="compressed"
    )
    for axis, one in zip(axes, classes, strict=True):
        part = rows[rows[by].astype("str") == one] if by else rows
        _reliability(axis, part, names=names.loc[part.index], looks=looks)
        stars = mark_small([one or "unknown"], [part["n_stations"].max()])[0]
        axis.set_title(f"{stars} ({part['n_stations'].max():.0f} stations)" if by else "",
                       fontsize="medium", color=_ink(part["n_stations"].max()))  # fmt: skip
        axis.tick_params(labelbottom=True)
    figure.supxlabel(f"nominal: central {kind}s of the forecast [%]", fontsize="medium")
    figure.supylabel(COVERAGE if kind == "interval" else "observations below the quantile [%]",
                     fontsize="medium")  # fmt: skip
    style.aside(figure)
    style.head(figure, title)
    return figure


def _reliability(axis: Axes, rows, *, names, looks) -> None:
    axis.plot([0, 1], [0, 1], color="0.3", linewidth=0.9, linestyle="--", label="calibrated")
    for i, (name, look) in enumerate(looks.items()):
        one = rows[names == name].sort_values("nominal")
        n = one["n_stations"].max() if len(one) else 0
        axis.errorbar(
            one["nominal"] + 0.004 * i, one["observed"], yerr=style.whiskers(one, value="observed"),
            capsize=2.5, markersize=5, linewidth=1.2, **look,
            alpha=1.0 if n >= MIN_STATIONS else 0.4,
        )  # fmt: skip
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    for each in (axis.xaxis, axis.yaxis):
        each.set_major_formatter(PercentFormatter(1, symbol=None))
    style.quiet_grid(axis)


def _legend_of(looks, rows, *, names) -> dict:
    """Looks with the name of each model, marked where all its stations are fewer than five."""
    most = rows["n_stations"].groupby(names).max()
    return {
        name: look | {"label": style.wrapped(mark_small([name], [most[name]])[0])}
        for name, look in looks.items()
    }


def _class_column(table: pd.DataFrame) -> str | None:
    """The column of classes that the tables of ``metrics.calibration`` put after the split."""
    third = table.columns[2]
    return None if third in ("kind", "metric") else str(third)


def _ink(n_stations: float) -> str:
    return "black" if n_stations >= MIN_STATIONS else style.FAINT


def coverage_dots(table: pd.DataFrame, *, nominal: float = 0.9, title: str = "") -> Figure:
    """Coverage of one interval by class, with intervals, against the nominal line.

    Parameters
    ----------
    table : from ``metrics.reliability(..., by=...)`` or ``metrics.interval_coverage(..., by=...)``
    nominal : float, 0-1; of a reliability table the level that is drawn
    """
    style.need(table, ["observed", "lower", "upper", "n_stations"], maker="metrics.reliability")
    if "kind" in table.columns:
        rows = table[(table["kind"] == "interval") & np.isclose(table["nominal"], nominal)]
    else:
        rows = table[table["metric"] == "coverage"]
    rows = rows[rows["observed"].notna()]
    if rows.empty:
        return style.nothing(f"no coverage of {nominal:.0%} intervals in the table", title=title)
    by = _class_column(rows)
    of = rows[by].astype("str").replace({"": "unknown"}) if by else pd.Series("all", rows.index)
    classes, names = list(dict.fromkeys(of)), style.names_of(rows)
    counts = rows["n_stations"].groupby(of).max().reindex(classes)
    looks = style.looks(list(dict.fromkeys(names)))
    figure, (axis,) = style.panels(
        1, columns=1, size=(7, 1.2 + max(0.36, 0.11 * len(looks)) * len(classes)), aside=2
    )
    for i, (name, look) in enumerate(looks.items()):
        shift = 0.72 / max(len(looks), 3) * (i - (len(looks) - 1) / 2)
        _dots(axis, rows[names == name], of=of, look=look, shift=shift, classes=classes)
    axis.axvline(
        nominal, color="0.3", linewidth=0.9, linestyle="--", label=f"nominal {nominal:.0%}"
    )
    _class_ticks(axis, classes, counts)
    axis.xaxis.set_major_formatter(PercentFormatter(1, symbol=None))
    axis.set(xlabel=COVERAGE, ylabel=f"{CLASS_NAMES.get(by or '', by or '')} (stations)")
    style.quiet_grid(axis, "x")
    style.aside(figure)
    style.head(figure, title)
    return figure


def _class_ticks(axis: Axes, classes: list[str], n_stations: pd.Series) -> None:
    words = mark_small(classes, n_stations)
    ticks = [f"{t} ({n:.0f})" for t, n in zip(words, n_stations, strict=True)]
    axis.set_yticks(range(len(classes)), ticks)
    for text, n in zip(axis.get_yticklabels(), n_stations, strict=True):
        text.set_color(_ink(n))
    axis.set_ylim(len(classes) - 0.4, -0.6)


def _dots(axis: Axes, rows, *, of, look, shift, classes) -> None:
    """One model's classes; small ones are pale, and only a solid dot enters the legend."""
    name = style.wrapped(style.names_of(rows).iloc[0])
    small = (rows["n_stations"] < MIN_STATIONS).to_numpy()
    y = np.array([classes.index(c) for c in of.loc[rows.index]]) + shift
    for pale in (False, True):
        keep = small == pale
        ink = {"color": style.FAINT} if pale else {}
        if keep.any():
            axis.errorbar(
                rows["observed"][keep], y[keep], xerr=style.whiskers(rows[keep], value="observed"),
                linestyle="", capsize=2.5, markersize=5, **(look | ink),
                label=None if pale and not small.all() else name,
            )  # fmt: skip


def spread_skill(table: pd.DataFrame, *, title: str = "") -> Figure:
    """RMSE against predicted spread in bins of equally many rows; calibrated bins lie on 1:1.

    Above the line a model is too sure. Whiskers are the interval of the ratio times the spread.

    Parameters
    ----------
    table : from ``metrics.spread_skill``
    """
    columns = ["spread_m3_m3", "rmse_m3_m3", "ratio", "ratio_lower", "ratio_upper", "n", "status"]
    style.need(table, columns, maker="metrics.spread_skill")
    rows = table[table["rmse_m3_m3"].notna()]
    if rows.empty:
        return style.nothing("no bin of spread holds a pair", title=title)
    names = style.names_of(rows)
    figure, (axis,) = style.panels(1, columns=1, size=(5.6, 4.4), aside=2.4)
    for name, look in style.looks(list(dict.fromkeys(names))).items():
        one = rows[names == name]
        ends = one[["ratio_lower", "ratio_upper"]].mul(one["spread_m3_m3"], axis=0)
        found = one.assign(low=ends["ratio_lower"], high=ends["ratio_upper"])
        words = style.wrapped(mark_small([name], [one["n_stations"].max()])[0])
        axis.errorbar(
            one["spread_m3_m3"], one["rmse_m3_m3"], capsize=2.5, markersize=6, linewidth=1,
            yerr=style.whiskers(found, value="rmse_m3_m3", ends=("low", "high")),
            alpha=1.0 if one["n_stations"].max() >= MIN_STATIONS else 0.4, **look,
            label=f"{words}\n(about {one['n'].median():,.0f} rows a bin)",
        )  # fmt: skip
    top = 1.1 * float(rows[["rmse_m3_m3", "spread_m3_m3"]].max().max())
    axis.plot([0, top], [0, top], color="0.3", linewidth=0.9, linestyle="--", label="calibrated")
    axis.set(xlim=(0, None), ylim=(0, None), ylabel=style.label("rmse_m3_m3"))
    axis.set_xlabel(f"root mean square {style.label('spread_m3_m3')}")
    style.quiet_grid(axis)
    style.aside(figure)
    style.head(figure, title)
    return figure
