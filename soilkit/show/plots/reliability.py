"""How far to trust a prediction: its stated spread, its distance from training, its place."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from soilkit.constants import CHIP_SIDE_M
from soilkit.metrics.splits import AuditReport
from soilkit.metrics.splits.leakage import FAR_KM
from soilkit.show.plots import style
from soilkit.strata import MIN_STATIONS, mark_small

DASHED: dict[str, Any] = {"color": "0.3", "linewidth": 0.9, "linestyle": "--"}


def reliability_lines(table: pd.DataFrame, *, kind: str = "interval", title: str = "") -> Figure:
    """Observed against nominal coverage with intervals; on the line a spread is calibrated.

    Parameters
    ----------
    table : from ``metrics.reliability``; of a table by class, each class is a panel
    kind : "interval" (below the line: too sure) or "quantile"
    """
    rows = table[(table["kind"] == kind) & table["observed"].notna()]
    if rows.empty:
        why = "; ".join(dict.fromkeys(table["status"].astype("str"))) or "the table is empty"
        return style.nothing(f"no coverage ({why})", title=title)
    by = str(table.columns[2]) if table.columns[2] != "kind" else ""  # classes follow the split
    names = style.names_of(rows)
    most = rows["n_stations"].groupby(names).max()
    looks = style.looks(names)
    for name, look in looks.items():
        look["label"] = style.wrapped(mark_small([name], [most[name]])[0])
    parts = dict(list(rows.groupby(by, sort=False, observed=True))) if by else {"": rows}
    figure, axes = style.panels(
        len(parts), columns=3, size=(2.7, 2.7) if by else (4.6, 4.6), aside=2.2, sharex=True,
        sharey=True, layout="compressed",
    )  # fmt: skip
    for axis, (name, part) in zip(axes, parts.items(), strict=True):
        _reliability(axis, part, names=names.loc[part.index], looks=looks)
        n = part["n_stations"].max()
        words = f"{mark_small([name or 'unknown'], [n])[0]} ({n:.0f} stations)" if by else ""
        ink = "black" if n >= MIN_STATIONS else style.FAINT
        axis.set_title(words, fontsize="medium", color=ink)
    figure.supxlabel(f"nominal: central {kind}s of the forecast [%]", fontsize="medium")
    place = "inside the interval" if kind == "interval" else "below the quantile"
    figure.supylabel(f"observations {place} [%]", fontsize="medium")
    return style.finish(figure, title)


def _reliability(axis: Axes, rows, *, names, looks) -> None:
    axis.plot([0, 1], [0, 1], label="calibrated", **DASHED)
    for i, (name, look) in enumerate(looks.items()):
        one = rows[names == name].sort_values("nominal")
        axis.errorbar(
            one["nominal"] + 0.004 * i, one["observed"], yerr=style.whiskers(one, value="observed"),
            capsize=2.5, markersize=5, linewidth=1.2, **look,
            alpha=1.0 if one["n_stations"].max() >= MIN_STATIONS else 0.4,
        )  # fmt: skip
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    for each in (axis.xaxis, axis.yaxis):
        each.set_major_formatter(PercentFormatter(1, symbol=None))
    style.quiet_grid(axis)


def spread_skill(table: pd.DataFrame, *, title: str = "") -> Figure:
    """RMSE against predicted spread in bins of equally many rows; calibrated bins lie on 1:1.

    Above the line a model is too sure. Whiskers are the interval of the ratio times the spread.
    ``table`` is from ``metrics.spread_skill``.
    """
    rows = table[table["rmse_m3_m3"].notna()]
    if rows.empty:
        return style.nothing("no bin of spread holds a pair", title=title)
    names = style.names_of(rows)
    ends = rows[["ratio_lower", "ratio_upper"]].mul(rows["spread_m3_m3"], axis=0)
    rows = rows.assign(low=ends["ratio_lower"], high=ends["ratio_upper"])
    figure, (axis,) = style.panels(1, columns=1, size=(5.6, 4.4), aside=2.4)
    for name, look in style.looks(names).items():
        one = rows[names == name]
        n = one["n_stations"].max()
        axis.errorbar(
            one["spread_m3_m3"], one["rmse_m3_m3"], capsize=2.5, markersize=6, linewidth=1, **look,
            yerr=style.whiskers(one, value="rmse_m3_m3", ends=("low", "high")),
            alpha=1.0 if n >= MIN_STATIONS else 0.4,
            label=f"{style.wrapped(mark_small([name], [n])[0])}\n"
                  f"(about {one['n'].median():,.0f} rows a bin)",
        )  # fmt: skip
    top = 1.1 * float(rows[["rmse_m3_m3", "spread_m3_m3"]].max().max())
    axis.plot([0, top], [0, top], label="calibrated", **DASHED)
    axis.set(xlim=(0, None), ylim=(0, None), ylabel=style.label("rmse_m3_m3"))
    axis.set_xlabel(f"root mean square {style.label('spread_m3_m3')}")
    style.quiet_grid(axis)
    return style.finish(figure, title)


# Where a model may be asked: skill by distance from training data, and who lies outside.

SCORES = ("rmse_m3_m3", "r")
FAR = 0.995  # the share of indices that a histogram shows where a few lie far out
N_BINS = 40


def dissimilarity_skill(
    table: pd.DataFrame, *, threshold: float | None = None, title: str = ""
) -> Figure:
    """RMSE and R by dissimilarity index, each bin as wide as its indices, with intervals.

    Inside and outside are told by the table, so folds with thresholds of their own may overlap;
    those without an index (a missing predictor, an unseen value) stand in the note. ``table`` is
    from ``applicability.skill_by_dissimilarity``; the area's ``threshold`` is a line.
    """
    bins = table[(table["bin"] != "all") & table["rmse_m3_m3"].notna()]
    if bins.empty:
        return style.nothing("no bin of dissimilarity holds three pairs", title=title)
    names = style.names_of(bins) if "model" in bins else pd.Series("model", bins.index)
    looks = style.looks(names)
    figure, axes = style.panels(2, columns=2, size=(4.1, 3.4), aside=1.8, sharex=True)
    for axis, metric in zip(axes, SCORES, strict=True):
        for i, (name, look) in enumerate(looks.items()):
            at = (i + 1) / (len(looks) + 1)  # models of one bin stand side by side
            one = bins[names == name]
            _bins(axis, one[one["side"] == "inside"], metric=metric, at=at,
                  **look, label=style.wrapped(name))  # fmt: skip
            _bins(axis, one[one["side"] == "outside"], metric=metric, at=at, **look,
                  markerfacecolor="white")  # fmt: skip
        if threshold is not None:
            axis.axvline(threshold, label="threshold", **DASHED)
        axis.plot([], [], "o", color="0.3", markerfacecolor="white", label="outside (hollow)")
        axis.set(xlabel="dissimilarity index [1]", ylabel=style.label(metric))
        style.quiet_grid(axis)
    lost = table[table["side"].isin(["unseen value", "missing"]) & (table["bin"] == "all")]
    notes = [
        f"{row.get('model', '')} {row['side']}: n = {row['n']:,}, RMSE {row['rmse_m3_m3']:.3f}"
        for _, row in lost.iterrows()
    ]
    return style.finish(figure, title, note="; ".join(notes))


def _bins(axis: Axes, rows: pd.DataFrame, *, metric: str, at: float, **look) -> None:
    """Bins with their whiskers, each at a share of its width."""
    low, high = rows["index_from"].to_numpy(float), rows["index_to"].to_numpy(float)
    x, ends = low + at * (high - low), (f"{metric}_lower", f"{metric}_upper")
    if len(rows):
        axis.errorbar(
            x, rows[metric], yerr=style.whiskers(rows, value=metric, ends=ends), linestyle="",
            xerr=[x - low, high - x], markersize=6, elinewidth=1.1, **look,
        )  # fmt: skip


def dissimilarity_histogram(
    measured: pd.DataFrame, *, threshold: float | None = None, title: str = ""
) -> Figure:
    """Of ``Area.measure``: how many predictions lie how far from training, inside and outside.

    The area's ``threshold`` is a line; rows without an index are counted in the note.
    """
    known = measured[np.isfinite(measured["dissimilarity_index"].to_numpy(float))]
    if known.empty:
        return style.nothing(f"none of {len(measured):,} rows has an index", title=title)
    index = known["dissimilarity_index"].to_numpy(float)
    is_inside = known["is_inside"].to_numpy(bool)
    far = max(float(np.quantile(index, FAR)), threshold or 0.0) * 1.05 or 1.0
    edges = np.linspace(0, far, N_BINS + 1).tolist()
    figure, (axis,) = style.panels(1, columns=1, size=(6.8, 3.2), aside=1.8)
    parts = {"inside": index[is_inside], "outside": index[~is_inside]}
    words = [f"{k}: {len(part):,} ({len(part) / len(measured):.0%})" for k, part in parts.items()]
    axis.hist([np.minimum(p, far) for p in parts.values()], bins=edges, stacked=True, label=words,
              color=list(style.COLOURS[:2]), edgecolor="white", linewidth=0.3)  # fmt: skip
    if threshold is not None:
        axis.axvline(threshold, label=f"threshold {threshold:.3g}", **DASHED)
    axis.set(xlabel="dissimilarity index [1]", ylabel="predictions [count]", xlim=(0, far))
    beyond, lost = int((index > far).sum()), len(measured) - len(known)
    notes = [f"{beyond:,} beyond the axis count in the last bin"] if beyond else []
    notes += [f"{lost:,} without an index (missing predictor)"] if lost else []
    return style.finish(figure, title, note="; ".join(notes))


# How far held-out places lie from those that train.

AT_ZERO_KM = 0.1  # where a logarithmic axis draws what lies at, or nearer to, a training station


def distance_curves(
    reports: Mapping[str, AuditReport | Sequence[float]], *, title: str = ""
) -> Figure:
    """The share of what is held out within a distance of training, one curve a split.

    The axis is logarithmic; what lies below 0.1 km stands there. The lines are those of
    Fig. 6 of Batchu et al.: a chip's 2.56 km, and 10 km.

    Parameters
    ----------
    reports : name to the ``AuditReport`` of a split (a distance a station), or to distances [km]
    """
    km = {k: np.asarray(getattr(r, "distance_km", r), float) for k, r in reports.items()}
    km = {name: np.sort(values[np.isfinite(values)]) for name, values in km.items()}
    if not any(len(values) for values in km.values()):
        why = "no held-out station has a known place and a training station to lie near"
        return style.nothing(why, title=title)
    figure, axis = plt.subplots(figsize=(9, 4.2), layout="constrained")
    far = 2 * max(FAR_KM, *(v.max() for v in km.values() if len(v)))
    for (name, values), look in zip(km.items(), style.looks(km).values(), strict=True):
        n = len(values)
        words = style.wrapped(mark_small([name], [n])[0], letters=30) + _shares(values)
        at = np.concatenate([[AT_ZERO_KM], np.maximum(values, AT_ZERO_KM), [far]])
        share = np.concatenate([[0.0], np.arange(1, n + 1) / max(n, 1), [1.0 if n else np.nan]])
        axis.step(at, 100 * share, where="post", label=words, color=look["color"], linewidth=1.8,
                  alpha=1.0 if n >= MIN_STATIONS else 0.4)  # fmt: skip
    for line, words, side in (
        (CHIP_SIDE_M / 1000, "chips overlap below 2.56 km", "right"), (FAR_KM, "10 km", "left"),
    ):  # fmt: skip
        axis.axvline(line, **DASHED)
        axis.annotate(words, (line, 102), xytext=(0, 2), textcoords="offset points", ha=side,
                      fontsize="small", color="0.35")  # fmt: skip
    axis.set_xscale("log")
    axis.set(xlim=(0.8 * AT_ZERO_KM, far), ylim=(-2, 102),
             xlabel="distance to the nearest that trains [km]",
             ylabel="held out within it [%]")  # fmt: skip
    ticks = [t for t in (0.1, 1, 10, 100, 1000, 10000) if t <= far]
    axis.set_xticks(ticks, ["≤ 0.1", *(f"{t:g}" for t in ticks[1:])])
    style.quiet_grid(axis)
    return style.finish(figure, title)


def _shares(km: np.ndarray) -> str:
    if not len(km):
        return "\n(none held out)"
    near, beyond = (km < CHIP_SIDE_M / 1000).mean(), (km > FAR_KM).mean()
    return f"\n({len(km):,} held out: {near:.0%} below\n2.56 km, {beyond:.0%} above 10 km)"
