"""Words, colours and units that every picture shares."""

from collections.abc import Iterable, Sequence
from html import escape
from textwrap import fill
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from bokeh.embed import file_html
from bokeh.resources import INLINE
from IPython.display import HTML
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soilkit.errors import ContractError
from soilkit.strata import MIN_STATIONS

MOISTURE = "m³ m⁻³"
METRIC_LABELS = {
    "r": "correlation R [1]",
    "ubrmse_m3_m3": f"ubRMSE [{MOISTURE}]",
    "rmse_m3_m3": f"RMSE [{MOISTURE}]",
    "bias_m3_m3": f"bias, predicted − observed [{MOISTURE}]",
    "spearman": "Spearman's R [1]",
    "kge_2012": "Kling-Gupta efficiency (2012) [1]",
    "kge_2009": "Kling-Gupta efficiency (2009) [1]",
    "crps_m3_m3": f"CRPS [{MOISTURE}]",
    "spread_m3_m3": f"predicted spread [{MOISTURE}]",
}
# Okabe and Ito's palette, told apart with any colour vision and in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FAINT = "0.6"  # of a class that is too small to judge
GRID = "0.92"
SMALL_NOTE = f"grey and * : fewer than {MIN_STATIONS} stations, too few to judge"
LETTERS_AN_INCH, NAME_LETTERS, NAME_LINES = 12, 24, 3


def label(metric: str) -> str:
    """The axis label of a score or of an aggregate such as "r_block_mean"."""
    for ending, words in (("_block_mean", "mean over blocks, "), ("_mean", "mean "), ("", "")):
        name = metric.removesuffix(ending) if metric.endswith(ending) else ""
        if name in METRIC_LABELS:
            return words + METRIC_LABELS[name]
    return metric


def colours(n: int) -> list[str]:
    """The first ``n`` colours, begun anew where they run out."""
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each name, no two alike for the first 49."""
    n = len(COLOURS)
    return {
        name: {"color": COLOURS[i % n], "marker": MARKERS[(i + i // n) % n]}
        for i, name in enumerate(names)
    }


def names_of(table: pd.DataFrame) -> pd.Series:
    """The model of each row, with its split and state where the table has several of them."""
    names = table["model"].astype("str")
    for key in ("split", "state"):
        if key in table.columns and table[key].astype("str").nunique() > 1:
            names = names + ", " + table[key].astype("str")
    return names


def wrapped(name: str, *, letters: int = NAME_LETTERS, lines: int = NAME_LINES) -> str:
    """A long name on about ``lines`` lines; what is longer yet loses its middle.

    Examples
    --------
    >>> wrapped("forest of radar, optics and SMAP, third edition", letters=20, lines=1)
    'forest of ra…tion'
    """
    text, most = str(name), int(0.85 * letters * lines)
    if len(text) > letters * lines:
        tail = most // 4
        text = f"{text[: most - tail - 1]}…{text[-tail:]}"
    return fill(text, letters)


def need(table: pd.DataFrame, columns: Iterable[str], *, maker: str) -> None:
    """Raise ``ContractError`` unless the table has the columns that ``maker`` gives it."""
    lacking = [name for name in columns if name not in table.columns]
    if lacking:
        raise ContractError(
            f"This picture wants the table of {maker}; it lacks {', '.join(lacking)}, and has "
            f"{', '.join(map(str, table.columns))}."
        )


def head(figure: Figure, title: str) -> None:
    """A title above all panels, on several lines where it is long."""
    letters = int(LETTERS_AN_INCH * figure.get_size_inches()[0])
    figure.suptitle(fill(title, letters), fontsize="medium")


def foot(figure: Figure, words: str) -> None:
    """A note below all panels; it has the place of the figure's axis label."""
    if words:
        figure.supxlabel(words, fontsize="small", color="0.35", wrap=True)


def quiet_grid(axis: Axes, which: str = "both") -> None:
    """A pale grid behind everything."""
    axis.grid(axis=which, color=GRID)  # type: ignore[arg-type]
    axis.set_axisbelow(True)


def whiskers(rows: pd.DataFrame, *, value: str = "value", ends: Sequence[str] = ("lower", "upper")):
    """Distances from a value down and up to its interval, (2, row); NaN draws nothing."""
    middle = rows[value].to_numpy(float)
    low, high = (rows[name].to_numpy(float) for name in ends)
    return np.clip([middle - low, high - middle], 0, None)


def panels(
    n: int, *, columns: int, size: tuple[float, float], aside: float = 0.0, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of ``n`` panels, at most ``columns`` a row, ``size`` inches each.

    ``aside`` inches are for a legend; panels of equal aspect want ``layout="compressed"``.
    """
    across = min(columns, max(n, 1))
    down = -(-max(n, 1) // across)
    shared = {"layout": "constrained"} | shared
    figure, axes = plt.subplots(
        down, across, figsize=(max(size[0] * across + aside, 5.0), size[1] * down + 0.6),
        squeeze=False, **shared,
    )  # fmt: skip
    for axis in axes.ravel()[n:]:
        axis.set_visible(False)
    return figure, list(axes.ravel()[:n])


def aside(figure: Figure, axis: Axes | None = None, *, title: str = "") -> None:
    """A legend right of all panels, of what is named in one of them, each name once."""
    axes = figure.axes if axis is None else [axis]
    found: dict[str, Any] = {}
    for each in axes:
        for handle, words in zip(*each.get_legend_handles_labels(), strict=True):
            found.setdefault(words, handle)
    if found:
        figure.legend(
            list(found.values()), list(found), loc="outside right center", fontsize="small",
            title=title or None, title_fontsize="small",
        )  # fmt: skip


def nothing(why: str, *, title: str = "") -> Figure:
    """A picture that says why there is none."""
    figure, axis = plt.subplots(figsize=(8, 1.8), layout="constrained")
    axis.text(0.5, 0.5, fill(f"Nothing to draw: {why}", 90), ha="center", va="center")
    axis.set_axis_off()
    head(figure, title)
    return figure


# Interactive views that carry everything they need.


def live(view: Any, *, height_px: int = 430) -> HTML:
    """A hvplot or HoloViews view as one piece of HTML that works in notebooks and reports, offline.

    Its scripts are embedded (about a megabyte), in a frame of their own. Build the view with
    ``hvplot.hvPlot(table)(...)``: importing ``hvplot.pandas`` loads scripts from elsewhere. Print
    shows no frame, so set a static picture beside it.

    Parameters
    ----------
    view : HoloViews element or overlay
    height_px : int, of the frame

    Returns
    -------
    IPython HTML
    """
    hv.Store.set_current_backend("bokeh")
    page = file_html(hv.render(view, backend="bokeh"), resources=INLINE, title="interactive view")
    frame = (
        f'<div><iframe srcdoc="{escape(page)}" width="100%" height="{height_px}" frameborder="0">'
    )
    return HTML(f"{frame}</iframe></div>")
