"""Where the stations stand, what a dataset holds of them, and their scores on the map."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from soilkit.errors import ContractError
from soilkit.metrics.splits import block_ids
from soilkit.show.plots import style
from soilkit.show.plots.outlines import draw_outlines
from soilkit.strata import mark_small

METRICS = ("r", "ubrmse_m3_m3", "bias_m3_m3")
METRIC_COLOURS = {
    "r": {"cmap": "viridis", "vmin": 0.0, "vmax": 1.0},
    "bias_m3_m3": {"cmap": "RdBu", "vmin": -0.15, "vmax": 0.15},
}
HIGHER_IS_BETTER = ("r", "spearman", "kge_2009", "kge_2012")
MOST = 95  # percentile of sizes that a colour scale ends at
WIDTH_INCHES, HIGHEST_INCHES = 10.0, 4.4
LEFT_INCHES, BESIDE_INCHES = 0.75, 1.85  # left of a map, and on both sides with its colour bar
BELOW_INCHES, LINE_INCHES = 0.65, 0.2
NARROWEST, WIDEST = 0.8, 2.2  # width over height of a map, on the ground
WIDEST_INSET = 1.2
MIN_SPAN_DEG = 0.1  # of a map of one place
MIN_CLUSTER = 8  # a block with more stations than this is drawn again, enlarged
SPLIT_COLOURS = {"train": "#B0B0B0", "validation": style.COLOURS[4], "test": style.COLOURS[1]}
MIN_BINS, MAX_BINS = 6, 40


class Window(NamedTuple):
    """The frame of a map, degrees."""

    left: float
    right: float
    low: float
    high: float

    @property
    def shape(self) -> float:
        """Width over height on the ground."""
        shrink = np.cos(np.radians((self.low + self.high) / 2))
        return float((self.right - self.left) * shrink / (self.high - self.low))


class _Panel(NamedTuple):
    """A column on the map: its colours, the words of its colour bar, its title, its frame."""

    column: str
    colours: dict[str, Any]
    words: str
    title: str
    window: Window


def station_map(
    scores: pd.DataFrame, stations: pd.DataFrame, *, metric: str = "r", title: str = ""
) -> Figure:
    """A number a station where it stands; the densest 2-degree block is enlarged beside it.

    Parameters
    ----------
    scores : ``station_id`` and the column ``metric``, such as rows of ``metrics.station_scores`` of
        one model and split; a station's number is the mean over its rows, hollow where it has none
    """
    points = _placed(scores, stations, [metric])
    if points.empty:
        return style.nothing("no station of the table has a place", title=title)
    blocks = block_ids(points)
    crowded = blocks.eq(blocks.value_counts().index[0]).to_numpy()
    look = METRIC_COLOURS.get(metric) or _upwards(points[metric])
    panels = [_Panel(metric, look, style.label(metric), "", _window(points))]
    if MIN_CLUSTER < crowded.sum() < len(points):
        words = f"the {crowded.sum()} stations of the densest block"
        inset = _window(points[crowded], widest=WIDEST_INSET)
        panels.append(_Panel(metric, look, style.label(metric), words, inset))
    figure = _maps(points, panels, title=title)
    for left, right, low, high in [panel.window for panel in panels[1:]]:
        ink = style.COLOURS[1]
        box = plt.Rectangle((left, low), right - left, high - low, fill=False, edgecolor=ink)
        figure.axes[0].add_patch(box)
        figure.axes[0].annotate("enlarged", (left, low), xytext=(0, -3), va="top", color=ink,
                                textcoords="offset points", fontsize="small")  # fmt: skip
    return figure


def score_maps(
    scores: pd.DataFrame, stations: pd.DataFrame, *, metrics: Sequence[str] = METRICS,
    title: str = "",
) -> Figure:  # fmt: skip
    """Means over sensors of one model's ``metrics.station_scores`` of one split, a panel a metric.

    Stations without a score are hollow, those without a row are not drawn.
    """
    models = list(dict.fromkeys(style.names_of(scores)))
    if len(models) > 1:
        raise ContractError(f"Maps are of one model, found {', '.join(models)}. Select its rows.")
    points = _placed(scores, stations, metrics)
    if points.empty or points[list(metrics)].isna().all(axis=None):
        return style.nothing(_why_none(points, scores), title=title)
    window = _window(points)
    panels = [
        _Panel(m, METRIC_COLOURS.get(m) or _upwards(points[m]), style.label(m), _counted(points[m]),
               window)
        for m in metrics
    ]  # fmt: skip
    return _maps(points, panels, title=title)


def difference_maps(
    scores: pd.DataFrame, stations: pd.DataFrame, *, models: tuple[str, str],
    metrics: Sequence[str] = METRICS, title: str = "",
) -> Figure:  # fmt: skip
    """Score of the first model minus that of the second, station by station; blue: it is better.

    Scales are symmetric about zero; the bias counts by its size. Stations where either has no score
    are hollow. Scores compare only where both are of the same samples.

    Parameters
    ----------
    scores : from ``metrics.station_scores``, of both models (a, b) in one split each
    metrics : columns of the scores, a panel each
    """
    tables = []
    for model in models:
        rows = scores[scores["model"].astype("str") == model]
        if rows.empty or len(set(style.names_of(rows))) > 1:
            have = ", ".join(dict.fromkeys(style.names_of(scores)))
            raise ContractError(f"Wanted {model!r} in one split and state, found {have}.")
        sized = rows.assign(**{m: rows[m].abs() for m in metrics if m.startswith("bias")})
        tables.append(_placed(sized, stations, metrics).set_index("station_id"))
    points = tables[0].assign(**{m: tables[0][m] - tables[1][m] for m in metrics})
    points = points[points.index.isin(tables[1].index)]
    if points.empty or points[list(metrics)].isna().all(axis=None):
        return style.nothing(_why_none(points, scores), title=title)
    window = _window(points)
    panels = [
        _Panel(
            m, _symmetric(points[m], is_better=m in HIGHER_IS_BETTER),
            "difference in " + style.label(m).replace("bias, predicted − observed", "|bias|"),
            _winner(points[m], m, models=models), window,
        )
        for m in metrics
    ]  # fmt: skip
    return _maps(points, panels, title=title)


def _placed(scores: pd.DataFrame, stations: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The mean of each station's rows, beside its place; stations without a place are left out."""
    means = scores.groupby(scores["station_id"].astype("str"))[list(metrics)].mean()
    places = stations.drop_duplicates("station_id")[["station_id", "latitude", "longitude"]]
    places = places.dropna().astype({"station_id": "str"})
    return places.merge(means, left_on="station_id", right_index=True)


def _why_none(points: pd.DataFrame, scores: pd.DataFrame) -> str:
    if points.empty:
        return "no scored station is in the stations table"
    words = scores["status"] if "status" in scores else pd.Series(dtype=str)
    return f"no station has a score ({'; '.join(words.value_counts().index[:3]) or 'no status'})"


def _counted(values: pd.Series) -> str:
    lost = int(values.isna().sum())
    return f"{len(values) - lost} stations" + (f", {lost} without (hollow)" if lost else "")


def _winner(values: pd.Series, metric: str, *, models: tuple[str, str]) -> str:
    """At how many stations the first model is the better one."""
    known = values.dropna() * (1 if metric in HIGHER_IS_BETTER else -1)
    a, b = (style.wrapped(model, letters=42, lines=1) for model in models)
    count = f"{(known > 0).sum()} of {len(known)} stations"
    return f"{a}\nminus {b}\nblue, the first is better: {count}"


def _upwards(values: pd.Series) -> dict[str, Any]:
    known = values.dropna()
    top = float(np.percentile(known, MOST)) if len(known) else 1.0
    return {"cmap": "viridis_r", "vmin": 0.0, "vmax": top or 1.0}


def _symmetric(values: pd.Series, *, is_better: bool) -> dict[str, Any]:
    top = _upwards(values.abs())["vmax"]
    return {"cmap": "RdBu" if is_better else "RdBu_r", "vmin": -top, "vmax": top}


def _window(points: pd.DataFrame, *, widest: float = WIDEST) -> Window:
    """A frame around points, no flatter or steeper than the limits."""
    east, north = points["longitude"], points["latitude"]
    shrink = np.cos(np.radians(north.mean()))
    width = max(1.12 * np.ptp(east) * shrink, MIN_SPAN_DEG)  # degrees of latitude
    height = max(1.12 * np.ptp(north), MIN_SPAN_DEG, width / widest)
    half_x, half_y = max(width, height * NARROWEST) / shrink / 2, height / 2
    x, y = (east.min() + east.max()) / 2, (north.min() + north.max()) / 2
    return Window(x - half_x, x + half_x, y - half_y, y + half_y)


def _maps(points: pd.DataFrame, panels: Sequence[_Panel], *, title: str) -> Figure:
    """Panels of the ground's own shape; laid out by hand, as matplotlib takes twice as long."""
    shapes = [panel.window.shape for panel in panels]
    across = min(len(panels), 3 if max(shapes) < 1.4 else 2)
    rows = [shapes[i : i + across] for i in range(0, len(shapes), across)]
    wide = max(sum(row) for row in rows)
    high = min(HIGHEST_INCHES, (WIDTH_INCHES - BESIDE_INCHES * across) / wide)
    width = max(high * wide + BESIDE_INCHES * across, 5)
    lines = max(len(panel.title.splitlines()) for panel in panels)
    head = LINE_INCHES * (1 + len(fill(title, int(style.LETTERS_AN_INCH * width)).splitlines()))
    step = high + BELOW_INCHES + LINE_INCHES * lines
    figure = plt.figure(figsize=(width, head + step * len(rows)))
    whole = np.array([width, figure.get_figheight()] * 2)
    places = [
        (sum(row[:k]) * high + BESIDE_INCHES * k + LEFT_INCHES,
         whole[1] - head - step * (i + 1) + BELOW_INCHES, row[k] * high, high)
        for i, row in enumerate(rows) for k in range(len(row))
    ]  # fmt: skip
    axes = [figure.add_axes(np.array(place) / whole) for place in places]
    for axis, panel, (x, y, size, _) in zip(axes, panels, places, strict=True):
        drawn = _draw_points(axis, points, panel)
        place = np.array((x + size + 0.12, y, 0.18, high)) / whole
        bar = figure.colorbar(
            drawn, cax=figure.add_axes(place, label="<colorbar>"),
            extend=_beyond(points[panel.column], panel.colours),
        )  # fmt: skip
        bar.set_label(panel.words, fontsize="small" if len(panel.words) < 40 else "x-small")
        axis.set_title(panel.title, fontsize="small")
        _frame(axis, panel.window)
    return style.head(figure, title)


def _beyond(values: pd.Series, look: Mapping[str, Any]) -> str:
    """Which end of the colour bar wants an arrow because values lie beyond it."""
    below, above = bool(values.min() < look["vmin"]), bool(values.max() > look["vmax"])
    return ("neither", "min", "max", "both")[below + 2 * above]


def _draw_points(axis: Axes, points: pd.DataFrame, panel: _Panel):
    """Coloured dots where a column is known and hollow ones where it is not."""
    known = points[panel.column].notna()
    x, y = points["longitude"], points["latitude"]
    axis.scatter(x[~known], y[~known], s=28, facecolor="none", edgecolor="0.5")
    return axis.scatter(
        x[known], y[known], c=points[panel.column][known], s=42, edgecolor="0.25", linewidth=0.5,
        **panel.colours,
    )  # fmt: skip


def _frame(axis: Axes, window: Window) -> None:
    """A window with its coasts and borders, a degree as long to the north as to the east."""
    axis.set(xlim=window[:2], ylim=window[2:])
    axis.set(xlabel="longitude [degrees]", ylabel="latitude [degrees]")
    axis.set_aspect(1 / np.cos(np.radians((window.low + window.high) / 2)))
    axis.ticklabel_format(useOffset=False)
    axis.locator_params(axis="x", nbins=4, steps=[1, 2, 5, 10])
    axis.locator_params(axis="y", nbins=7)
    style.quiet_grid(axis)
    draw_outlines(axis)


# What a dataset holds: places, parts of a split, classes and histograms.


def station_density(stations: pd.DataFrame, *, by: str = "network", title: str = "") -> Figure:
    """Where the stations stand: shaded by stations a degree square, dots coloured by group.

    Parameters
    ----------
    stations : stations table; each station counts once
    by : column of groups
    """
    places = stations.drop_duplicates("station_id")
    figure, (axis,) = style.panels(1, columns=1, size=(6.6, 4.0), aside=2)
    x, y = places["longitude"].to_numpy(float), places["latitude"].to_numpy(float)
    edges = [np.arange(np.floor(v.min()) - 1, np.ceil(v.max()) + 2) for v in (x, y)]
    counts, *_ = np.histogram2d(x, y, bins=edges)  # (longitude, latitude)
    counts = np.where(counts > 0, counts, np.nan).T
    shaded = axis.pcolormesh(*edges, counts, cmap="YlOrBr", vmin=0, alpha=0.75)
    figure.colorbar(shaded, ax=axis, label="stations a degree square [count]", shrink=0.8,
                    ticks=MaxNLocator(integer=True))  # fmt: skip
    for name, rows, colour in _groups(places, by):
        axis.scatter(rows["longitude"], rows["latitude"], s=26, color=colour, edgecolor="0.15",
                     linewidth=0.6, label=f"{name} ({len(rows)})")  # fmt: skip
    _frame(axis, _window(places))
    return style.finish(figure, title, legend=f"{by} (stations)")


def funnel_steps(samples: pd.DataFrame, drops: pd.DataFrame) -> pd.DataFrame:
    """``step``, ``left`` and ``lost`` of ``join_funnel``: a row for all readings and each step."""
    lost = drops.groupby(["source", "reason"], observed=True)["count"].sum()  # as the join went
    lost = lost[lost > 0]
    counts = np.array([0, *lost], dtype=np.int64)
    names = ["all readings", *(str(reason) for _, reason in lost.index)]
    left = len(samples) + counts.sum() - counts.cumsum()
    return pd.DataFrame({"step": names, "left": left, "lost": counts})


def join_funnel(samples: pd.DataFrame, drops: pd.DataFrame, *, title: str = "") -> Figure:
    """How many readings are left after each step of a join, and what each step took.

    Parameters
    ----------
    samples, drops : tables of those contracts, of one join: together they are all readings
    """
    steps = funnel_steps(samples, drops)
    left = steps["left"].tolist()
    names = [style.wrapped(name, letters=60, lines=1) for name in steps["step"]]
    height = 0.36 * len(left) + 1.3
    figure, axis = plt.subplots(figsize=(8.5, height), layout="constrained")
    rows = np.arange(len(left))
    axis.hlines(rows, 0.5, left, color="0.85", linewidth=1)
    axis.plot(left, rows, "o", color=style.COLOURS[0])
    for row, (n, lost) in enumerate(zip(left, steps["lost"], strict=True)):
        words = f"{n:,}" + (f"  (−{lost:,})" if row else "")
        axis.annotate(words, (n, row), xytext=(7, 0), textcoords="offset points", va="center")
    axis.set_yticks(rows, names)
    axis.set(xscale="log", xlim=(0.5, 8 * left[0] + 1), ylim=(len(left) - 0.5, -0.5))
    axis.minorticks_off()
    axis.set_xlabel("readings that are left [count]")
    axis.spines[["top", "right"]].set_visible(False)
    return style.head(figure, title)


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
    figure, axes = style.panels(
        len(splits), columns=len(splits), size=(2.2, 2.6), sharex=True, sharey=True
    )
    for axis, (name, labels) in zip(axes, splits.items(), strict=True):
        for part, size in {"train": 60, "validation": 30, "test": 16}.items():
            at = places.loc[sorted(set(samples["station_id"].astype("str")[labels == part]))]
            colour = SPLIT_COLOURS[part]
            axis.scatter(at["longitude"], at["latitude"], s=size, color=colour, label=part)
        axis.set_title(name, fontsize="medium")
        axis.set_aspect(1 / np.cos(np.radians(places["latitude"].mean())))
        style.quiet_grid(axis)
        draw_outlines(axis)
    figure.supxlabel("longitude [degrees]", fontsize="medium")
    figure.supylabel("latitude [degrees]", fontsize="medium")
    return style.finish(figure, title)


def class_bars(
    stations: pd.DataFrame, *, labels: Mapping[str, str], by: str | None = None, title: str = ""
) -> Figure:
    """How many stations stand in each class; an asterisk marks classes with fewer than five.

    Parameters
    ----------
    stations : stations table; each station counts once
    labels : column to axis label, one panel each; empty classes count as "unknown"
    by : column of groups, whose stations are stacked
    """
    places = stations.drop_duplicates("station_id")
    figure, axes = style.panels(len(labels), columns=len(labels), size=(3.2, 2.7), aside=1)
    for axis, (column, words) in zip(axes, labels.items(), strict=True):
        classes = places[column].astype("str").replace({"": "unknown", "nan": "unknown"})
        counts = classes.value_counts()
        y, left = np.arange(len(counts)), np.zeros(len(counts))
        for name, rows, colour in _groups(places, by):
            here = classes[rows.index].value_counts().reindex(counts.index, fill_value=0)
            axis.barh(y, here, left=left, color=colour, label=name or None, height=0.72)
            left += here.to_numpy()
        axis.set_yticks(y, mark_small(counts.index, counts))
        axis.set(xlabel="stations [count]", title=words)
        axis.invert_yaxis()
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        style.quiet_grid(axis, "x")
    return style.finish(figure, title)


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
    figure, axes = style.panels(len(labels), columns=len(labels), size=(3.1, 2.5), aside=1)
    groups = _groups(table, by)
    for axis, (column, words) in zip(axes, labels.items(), strict=True):
        edges = _edges(table[column], n=min(len(rows) for _, rows, _ in groups))
        for name, rows, colour in groups:
            _histogram(axis, rows[column].dropna(), edges=edges, colour=colour, name=name)
        if pd.api.types.is_datetime64_any_dtype(table[column]):
            locator = AutoDateLocator(maxticks=6)
            axis.xaxis.set_major_locator(locator)
            axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axis.set_xlabel(words)
        style.quiet_grid(axis, "y")
    axes[0].set_ylabel("rows [count]" if by is None else "share of the group [1]")
    return style.finish(figure, title)


def _groups(table: pd.DataFrame, by: str | None) -> list[tuple[str, pd.DataFrame, str]]:
    """Name, rows and colour of each group; splits in their own order and colours."""
    if by is None:
        return [("", table, style.COLOURS[0])]
    groups = table[by].astype("str")
    names = sorted(set(groups) - set(SPLIT_COLOURS))
    names = [n for n in SPLIT_COLOURS if n in set(groups)] + names
    shades = dict(zip(names, style.colours(len(names)), strict=True)) | SPLIT_COLOURS
    return [(name, table[groups == name], shades[name]) for name in names]


def _edges(values: pd.Series, *, n: int) -> np.ndarray:
    """Whole months; or about 2 n^(1/3) bins (Rice's rule) for groups of at least ``n`` rows."""
    known = values.dropna()
    if pd.api.types.is_datetime64_any_dtype(known):
        months = known.dt.to_period("M")
        return pd.period_range(months.min(), months.max() + 1, freq="M").to_timestamp().to_numpy()
    bins = int(np.clip(np.ceil(2 * n ** (1 / 3)), MIN_BINS, MAX_BINS))
    return np.histogram_bin_edges(known.to_numpy(float), bins=bins)


def _histogram(axis: Axes, known: pd.Series, *, edges, colour: str, name: str) -> None:
    if not name:
        axis.hist(known, bins=edges, color=colour, edgecolor="white", linewidth=0.4)
        return
    weights, width = np.full(len(known), 1 / max(len(known), 1)), 2.2 if name == "train" else 1.5
    axis.hist(known, bins=edges, weights=weights, histtype="step", color=colour, linewidth=width,
              label=f"{name} (n = {len(known):,})")  # fmt: skip
