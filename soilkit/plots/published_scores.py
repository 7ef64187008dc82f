"""Our scores by network beside those that others have published."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soilkit.plots import style
from soilkit.strata import MIN_STATIONS, mark_small

ASTERISKS = (
    "* in-situ data of other years · ** models for one region each · *** readings of one sensor on "
    "both sides of the split. Works differ in years and sampling: no rigorous comparison."
)
GAP = 0.7  # rows between networks


def beside_works(table: pd.DataFrame, *, metric: str = "r", title: str = "") -> Figure:
    """Our value of each network beside each work's, a row a work; no intervals, not paired.

    A mean stands beside a mean and a median beside a median, so ours may move from row to row.
    Networks of which we have fewer than five stations are grey.

    Parameters
    ----------
    table : from ``metrics.beside_literature``
    metric : "r" or "ubrmse_m3_m3"
    """
    columns = ["network", "metric", "value", "n_stations", "work", "asterisk", "statistic",
               "literature_value", "status"]  # fmt: skip
    style.need(table, columns, maker="metrics.beside_literature")
    rows = table[(table["metric"] == metric) & (table["status"] == "ok")]
    absent = table.loc[(table["metric"] == metric) & (table["literature_value"].isna()), "network"]
    alone = ", ".join(dict.fromkeys(absent.astype("str")))
    if rows.empty:
        found = table[table["metric"] == metric].groupby("status", sort=True)["network"].unique()
        why = "; ".join(f"{words} ({', '.join(map(str, where))})" for words, where in found.items())
        return style.nothing(why or f"the table has no {metric}", title=title)
    lines = rows.drop_duplicates(["network", "work", "statistic", "asterisk", "literature_value"])
    lines = lines[["network", "work", "statistic", "asterisk", "literature_value", "n_stations"]]
    lines = lines.sort_values("network", kind="stable")
    place = np.arange(len(lines)) + GAP * (pd.factorize(lines["network"])[0] + 1)
    figure, (axis,) = style.panels(
        1, columns=1, size=(7, 1.4 + 0.25 * (place[-1] + 1)), aside=2, sharex=True
    )
    _works(axis, lines, place=place)
    names = style.names_of(rows)
    for name, look in style.looks(list(dict.fromkeys(names))).items():
        _ours(axis, rows[names == name], lines=lines, place=place, name=name, look=look)
    axis.set_xlabel(style.label(metric))
    style.quiet_grid(axis, "x")
    style.aside(figure)
    style.foot(figure, ASTERISKS + (f"\nNo work at {alone}." if alone else ""))
    style.head(figure, title)
    return figure


def _works(axis: Axes, lines: pd.DataFrame, *, place) -> None:
    axis.plot(lines["literature_value"], place, "D", color="black", markerfacecolor="white",
              markersize=6, linestyle="", label="literature")  # fmt: skip
    words = [
        f"{work}{star} ({statistic})"
        for work, star, statistic in lines[["work", "asterisk", "statistic"]].to_numpy()
    ]
    axis.set_yticks(place, words, fontsize="small")
    axis.set_ylim(place[-1] + 0.8, place[0] - 1.3)
    first = ~lines["network"].duplicated().to_numpy()
    for y, (network, n) in zip(place[first], lines[["network", "n_stations"]].to_numpy()[first],
                               strict=True):  # fmt: skip
        ink = "black" if n >= MIN_STATIONS else style.FAINT
        stars = mark_small([network], [n])[0]
        axis.annotate(f"{stars} ({n:.0f} of our stations)", (0, y - 0.75), fontsize="small",
                      xycoords=axis.get_yaxis_transform(), xytext=(4, 0), va="center",
                      textcoords="offset points", fontweight="bold", color=ink)  # fmt: skip
        axis.axhline(y - 1.1, color="0.85", linewidth=0.8)


def _ours(axis: Axes, rows, *, lines, place, name, look) -> None:
    keys = ["network", "work", "statistic", "asterisk", "literature_value"]
    where = {tuple(key): y for key, y in zip(lines[keys].to_numpy(), place, strict=True)}
    y = np.array([where[tuple(key)] for key in rows[keys].to_numpy()])
    small = (rows["n_stations"] < MIN_STATIONS).to_numpy()
    for pale in (False, True):
        keep = small == pale
        if keep.any():
            ink = {"color": style.FAINT} if pale else {}
            axis.plot(
                rows["value"][keep], y[keep], linestyle="", markersize=7, **(dict(look) | ink),
                label=style.wrapped(name) if not pale or small.all() else None, alpha=0.85,
            )  # fmt: skip
