"""Where a model fails: places by their static traits, and classes of land against the rest."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from soilkit.metrics.evaluation.applicability import TraitSpace
from soilkit.metrics.spatial import THRESHOLD
from soilkit.plots import style
from soilkit.plots.scores import CLASS_NAMES
from soilkit.strata import MIN_STATIONS

FAILED, HELD, UNKNOWN = style.COLOURS[1], style.COLOURS[0], "0.6"
MOST_ARROWS = 8
VERDICTS = {"worse": style.COLOURS[1], "better": style.COLOURS[0], "alike": "0.25", "": "0.25"}


def trait_plane(space: TraitSpace, *, title: str = "") -> Figure:
    """The first two components of the static traits, failed stations marked among the others.

    Arrows are the columns that weigh most in the plane, eight at most, to a scale of their own.

    Parameters
    ----------
    space : from ``metrics.trait_space``
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
    figure, (axis, beside) = style.panels(2, columns=2, size=(4.9, 4.3))
    for words, mask, look in groups:
        here = drawn & mask.astype(bool)
        axis.scatter(places["pc1"][here], y[here], **({"s": 26} | look),
                     label=f"{words}: {here.sum()} stations")  # fmt: skip
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, fontsize="small")
    _arrows(beside, space.loadings)
    share = space.explained["share"].to_numpy(float)
    for k, way in enumerate("xy"):
        part = f"{share[k]:.0%} of the variance" if k < len(share) else "there is none"
        axis.set(**{f"{way}label": f"component {k + 1} ({part}) [1]"})
        beside.set(**{f"{way}label": f"weight in component {k + 1} [1]"})
    lost = int((~drawn).sum())
    style.foot(figure, f"{lost} stations lack a trait and are not drawn" if lost else "")
    style.quiet_grid(axis)
    style.head(figure, title)
    return figure


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


def class_ratios(table: pd.DataFrame, *, threshold: float = THRESHOLD, title: str = "") -> Figure:
    """Each class against the rest (or the mean of models), a panel a model, with intervals.

    The band is the paper's +-10 %: beyond it a class is coloured as better or worse, and filled
    where the interval leaves out 1. Classes with fewer than five stations are grey, with an
    asterisk; a class without an interval has no whiskers. The axis is logarithmic.

    Parameters
    ----------
    table : from ``metrics.class_differences`` or ``metrics.class_preferences``
    threshold : half-width of the band, as the table was made with
    """
    columns = ["characteristic", "class", "label", "metric", "ratio", "ratio_lower", "ratio_upper",
               "verdict", "is_certain", "n_stations"]  # fmt: skip
    style.need(table, columns if len(table) else columns[:7], maker="metrics.class_differences")
    rows = table[table["ratio"].notna() & (table["ratio"] > 0)]
    if rows.empty:
        found = "; ".join(dict.fromkeys(table["status"])) if len(table) else "no station is scored"
        return style.nothing(f"no class has a ratio ({found})", title=title)
    names = style.names_of(rows)
    models = list(dict.fromkeys(names))
    classes = list(dict.fromkeys(zip(rows["characteristic"], rows["class"], strict=True)))
    figure, axes = style.panels(
        len(models), columns=3, size=(3.1, 0.8 + 0.27 * len(classes)), aside=1.6, sharex=True,
        sharey=True,
    )  # fmt: skip
    for axis, model in zip(axes, models, strict=True):
        one = rows[names == model]
        _ratios(axis, one, classes=classes, threshold=threshold)
        axis.set_title(style.wrapped(model, letters=28, lines=2), fontsize="medium")
        axis.tick_params(labelbottom=True)
    _ratio_ticks(axes, rows, classes=classes)
    _verdict_legend(figure, threshold)
    other = "the mean of all models" if "models_mean" in rows else "all other stations"
    score = style.label(rows["metric"].iloc[0]).split(" [")[0].split(",")[0]
    figure.supxlabel(f"{score} of the class / of {other} [1]", fontsize="medium")
    style.head(figure, title)
    return figure


def _ratios(axis: Axes, rows: pd.DataFrame, *, classes, threshold: float) -> None:
    axis.axvspan(1 - threshold, 1 + threshold, color="0.9", linewidth=0, zorder=0)
    axis.axvline(1, color="0.4", linewidth=0.8)
    for _, row in rows.iterrows():
        small = row["n_stations"] < MIN_STATIONS
        colour = style.FAINT if small else VERDICTS[row["verdict"]]
        certain = bool(row["is_certain"]) if pd.notna(row["is_certain"]) else False
        one = row.to_frame().T
        ends = style.whiskers(one, value="ratio", ends=("ratio_lower", "ratio_upper"))
        axis.errorbar(
            row["ratio"], classes.index((row["characteristic"], row["class"])), xerr=ends,
            fmt="o", color=colour, markersize=6, capsize=2.5,
            markerfacecolor=colour if certain else "white",
        )  # fmt: skip
    axis.set_xscale("log")
    axis.grid(axis="x", color=style.GRID)
    axis.set_axisbelow(True)


def _verdict_legend(figure: Figure, threshold: float) -> None:
    """What the colours mean, drawn of marks that stand nowhere."""
    looks = (
        (f"worse by {threshold:.0%} or more", VERDICTS["worse"], "white"),
        (f"better by {threshold:.0%} or more", VERDICTS["better"], "white"),
        ("alike", VERDICTS["alike"], "white"),
        ("filled: the interval\nleaves out 1", "0.25", "0.25"),
        (f"* fewer than {MIN_STATIONS} stations", style.FAINT, "white"),
    )
    axis = figure.axes[0]
    for words, colour, face in looks:
        axis.plot([], [], "o", color=colour, markerfacecolor=face, label=words)
    style.aside(figure, axis)


def _ratio_ticks(axes: list[Axes], rows: pd.DataFrame, *, classes) -> None:
    keys = ["characteristic", "class"]
    first = rows.drop_duplicates(keys).set_index(keys).reindex(pd.MultiIndex.from_tuples(classes))
    words = [
        f"{CLASS_NAMES.get(c, c).removesuffix(' class')}: {name} ({n:.0f})"
        for (c, _), name, n in zip(classes, first["label"], first["n_stations"], strict=True)
    ]
    axes[0].set_yticks(range(len(classes)), words, fontsize="small")
    axes[0].set_ylim(len(classes) - 0.4, -0.6)
    for text, n in zip(axes[0].get_yticklabels(), first["n_stations"], strict=True):
        text.set_color("black" if n >= MIN_STATIONS else style.FAINT)
    seen = rows[["ratio", "ratio_lower", "ratio_upper"]].to_numpy(float)
    low, high = min(0.85, 0.93 * np.nanmin(seen[seen > 0])), max(1.18, 1.07 * np.nanmax(seen))
    ticks = [t for t in (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10) if low <= t <= high]
    for axis in axes:
        axis.set_xlim(low, high)
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axis.xaxis.set_minor_formatter(NullFormatter())
