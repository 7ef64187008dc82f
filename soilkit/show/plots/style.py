"""Words, colours and units that every picture and every table shares."""

import html
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from IPython import get_ipython
from IPython.display import HTML, Markdown, display
from matplotlib import category, dates, ticker
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from soilkit import sources
from soilkit.export import antecedents
from soilkit.metrics.evaluation import is_missing
from soilkit.strata import MIN_STATIONS, mark_small

MOISTURE = "m³ m⁻³"
METRIC_LABELS = {
    "r": "correlation R [1]", "pooled_r2": "pooled R² [1]", "spearman": "Spearman's R [1]",
    "kge_2012": "Kling-Gupta efficiency (2012) [1]",
    "kge_2009": "Kling-Gupta efficiency (2009) [1]",
    "ubrmse_m3_m3": f"ubRMSE [{MOISTURE}]", "rmse_m3_m3": f"RMSE [{MOISTURE}]",
    "bias_m3_m3": f"bias, predicted − observed [{MOISTURE}]",
    "abs_bias_m3_m3": f"|bias| [{MOISTURE}]", "crps_m3_m3": f"CRPS [{MOISTURE}]",
    "spread_m3_m3": f"predicted spread [{MOISTURE}]",
}  # fmt: skip
CLASS_NAMES = {
    "koeppen": "Köppen class", "land_cover": "land cover",
    "texture": "texture class, the stations' own", "texture_soilgrids": "texture class, SoilGrids'",
}  # fmt: skip
# Okabe and Ito's palette, told apart with any colour vision and in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FAINT = "0.6"  # of a class that is too small to judge
GRID = "0.92"
SMALL_NOTE = f"grey and * : fewer than {MIN_STATIONS} stations, too few to judge"
LETTERS_AN_INCH, NAME_LETTERS, NAME_LINES = 12, 24, 3
# A name may hold letters that the font lacks: it is drawn with boxes, and stands in the tables.
warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)


def label(metric: str) -> str:
    """The axis label of a score or of an aggregate such as "r_block_mean"."""
    return str(words(metric, METRIC_LABELS))


def class_name(by: str) -> str:
    """A column of classes in words, short enough to stand before a class."""
    return CLASS_NAMES.get(by, by).split(" class")[0]


def colours(n: int) -> list[str]:
    """The first ``n`` colours, begun anew where they run out."""
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each name in order of appearance, no two alike for the first 49."""
    n = len(COLOURS)
    return {
        name: {"color": COLOURS[i % n], "marker": MARKERS[(i + i // n) % n]}
        for i, name in enumerate(dict.fromkeys(names))
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
    text, most = re.sub("^_", "\u200b_", str(name)), int(0.85 * letters * lines)
    if len(text) > letters * lines:
        tail = most // 4
        text = f"{text[: most - tail - 1]}…{text[-tail:]}"
    return fill(text, letters)


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
    for axis in axes.ravel()[:n]:
        axis.tick_params(labelbottom=True)
    return figure, list(axes.ravel()[:n])


def head(figure: Figure, title: str) -> Figure:
    """A title above all panels, on several lines where it is long."""
    letters = int(LETTERS_AN_INCH * figure.get_size_inches()[0])
    figure.suptitle(fill(title, letters), fontsize="medium")
    for text in _named(figure):
        if "$" in text.get_text():  # of a name: this package writes no formulas
            text.set_parse_math(False)
    return figure


def _named(artist: Artist) -> Iterator[Text]:
    """Texts in a picture, without the numbers along axes: asked for, their ticks are made twice."""
    if isinstance(artist, Text):
        yield artist
    numbers = isinstance(artist, Axis) and not isinstance(artist.get_major_formatter(), NAMES)
    for child in [artist.label] if numbers else artist.get_children():  # type: ignore[attr-defined]
        yield from _named(child)


def finish(figure: Figure, title: str, *, note: str = "", legend: str = "") -> Figure:
    """A title above all panels, a note below them, and at the right what is named in any of them.

    Each name stands once; ``legend`` is the heading over them.
    """
    handles: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            known = handles.get(name)
            line = known[0] if isinstance(known, tuple) else known  # of an error bar its dots
            if known is None or getattr(line, "get_color", str)() == FAINT:  # grey gives way
                handles[name] = handle
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside right center", fontsize="small",
            title=legend or None, title_fontsize="small",
        )  # fmt: skip
    if note:
        figure.supxlabel(note, fontsize="small", color="0.35", wrap=True)
    return head(figure, title)


def nothing(why: str, *, title: str = "") -> Figure:
    """A picture that says why there is none."""
    figure, axis = plt.subplots(figsize=(8, 1.8), layout="constrained")
    axis.text(0.5, 0.5, fill(f"Nothing to draw: {why}", 90), ha="center", va="center")
    axis.set_axis_off()
    return head(figure, title)


# A picture in words, for whoever cannot see it: they go out with every figure of a notebook.

MOST_NAMES = 12  # that stand in a picture's words; of more their number
NAMES = (category.StrCategoryFormatter, ticker.FixedFormatter, ticker.FuncFormatter)
DATES = (dates.ConciseDateFormatter, dates.AutoDateFormatter, dates.DateFormatter)


def described(figure: Figure) -> str:
    """Title, panels, axes with units and ranges, colours, and what is named, as one text.

    Examples
    --------
    >>> figure, axis = plt.subplots()
    >>> _ = axis.plot([0, 2], [0.1, 0.3], label="station A")
    >>> _ = axis.set(xlabel="age [h]", ylabel="VV [dB]", title="Drying (synthetic)", xlim=(0, 2))
    >>> _ = axis.set_yticks([0.1, 0.3], ["dry", "wet"])
    >>> described(figure)
    'Drying (synthetic). Across: age [h], 0 to 2. Up: VV [dB], dry, wet. Shown: station A.'
    >>> plt.close(figure)
    """
    bars = [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]
    panels = [axis for axis in figure.axes if axis not in bars]
    drawn = [axis for axis in panels if axis.axison]
    bare = [text.get_text() for axis in panels if not axis.axison for text in axis.texts]
    titles = [axis.get_title(side) for axis in panels for side in ("center", "left", "right")]
    legends = [*figure.legends, *filter(None, (axis.get_legend() for axis in panels))]
    named = [name for axis in panels for name in axis.get_legend_handles_labels()[1]]
    named += [text.get_text() for legend in legends for text in legend.get_texts()]
    across, up = figure.get_supxlabel(), figure.get_supylabel()
    parts = [
        ("", [figure.get_suptitle(), *bare]),
        (f"{len(drawn)} panels: " if len(drawn) > 1 else "", titles),
        ("Across: ", _ranges([axis.xaxis for axis in drawn], across)),
        ("Up: ", _ranges([axis.yaxis for axis in drawn], up)),
        ("Colours: ", _ranges([max(b.xaxis, b.yaxis, key=_name) for b in bars])),
        ("Shown: ", named),
    ]
    lists = [(head, _listed(texts)) for head, texts in parts]
    return " ".join(f"{head}{text}." for head, text in lists if text) or "A picture without words."


def _listed(texts: Iterable[str]) -> str:
    """Every text once, without line breaks; of many only the first, and the number of all."""
    once = [t for t in dict.fromkeys(" ".join(text.split()).rstrip(".") for text in texts) if t]
    more = f" and {len(once) - MOST_NAMES} more" if len(once) > MOST_NAMES else ""
    return ", ".join(once[:MOST_NAMES]) + more


def _name(axis: Axis) -> str:
    return axis.get_label_text()


def _ranges(axes: Sequence[Axis], shared: str = "") -> list[str]:
    """Each label once, with the names along it or the ends of all axes that bear it.

    ``shared`` stands for the labels where no axis has one, and behind them where any has.
    """
    has_labels = any(map(_name, axes))
    by_name: dict[str, list[Axis]] = {}
    for axis in axes:
        by_name.setdefault(_name(axis) if has_labels else shared, []).append(axis)
    texts = []
    for name, alike in by_name.items():
        formatter = alike[0].get_major_formatter()
        ends = [f(end for a in alike for end in a.get_view_interval()) for f in (min, max)]
        if isinstance(formatter, NAMES):
            ticks = [tick.get_text() for a in alike for tick in a.get_ticklabels()]
            texts.append(f"{name}, {_listed(ticks)}".strip(", "))
        elif name:
            written = [
                f"{dates.num2date(end):%Y-%m-%d}" if isinstance(formatter, DATES) else f"{end:.3g}"
                for end in ends
            ]
            texts.append(f"{name}, {' to '.join(written)}")
    return [*texts, shared] if has_labels else texts


def describe_figures() -> None:
    """Send its words along with every figure that a notebook shows, as the picture's ``alt``."""
    if (shell := get_ipython()) is None:
        return
    plt.switch_backend(plt.get_backend())  # it registers how it draws, which is wrapped here
    formatter = shell.display_formatter.formatters["image/png"]
    draw = formatter.type_printers.get(Figure)
    if draw is not None:
        formatter.for_type(Figure, lambda figure: (draw(figure), {"alt": described(figure)}))


describe_figures()


def quiet_grid(axis: Axes, which: str = "both") -> None:
    """A pale grid behind everything."""
    axis.grid(axis=which, color=GRID)  # type: ignore[arg-type]
    axis.set_axisbelow(True)


def whiskers(rows: pd.DataFrame, *, value: str = "value", ends: Sequence[str] = ("lower", "upper")):
    """Distances from a value down and up to its interval, (2, row); NaN draws nothing."""
    middle = rows[value].to_numpy(float)
    low, high = (rows[name].to_numpy(float) for name in ends)
    return np.clip([middle - low, high - middle], 0, None)


def dots(
    axis: Axes, rows: pd.DataFrame, *, at: Any, value: str = "value",
    ends: Sequence[str] | None = ("lower", "upper"), small: Any = False, upright: bool = False,
    **look: Any,
) -> None:  # fmt: skip
    """A dot and its interval for each row, at its place along the other axis.

    Rows that are ``small`` (too few stations to judge) are grey, and named only if all are. No
    interval, no whisker: one of length zero would claim certainty.
    """
    at, small = np.asarray(at, float), np.broadcast_to(np.asarray(small, bool), len(rows))
    look = {"marker": "o", "markersize": 5, "capsize": 2.5, "linestyle": ""} | look
    # A legend leaves out what begins with an underscore, unless something stands before it.
    name = re.sub("^_", "\u200b_", str(look.pop("label", None) or "")) or None
    for pale in (False, True):
        part, place = rows[small == pale], at[small == pale]
        if len(part):
            here: dict[str, Any] = look | ({"color": FAINT} if pale else {})
            if ends is not None:
                here["yerr" if upright else "xerr"] = whiskers(part, value=value, ends=ends)
            x, y = (place, part[value]) if upright else (part[value], place)
            axis.errorbar(x, y, **here, label=name if not pale or small.all() else None)


def class_ticks(
    axis: Axes, names: Iterable[str], *, stations: Any, also: Sequence[str] = (), **look: Any
) -> None:
    """Classes from the top, their stations in brackets; small ones are grey with an asterisk."""
    counts = np.nan_to_num(np.asarray(stations, float))
    words = [f"{k} ({n:.0f})" for k, n in zip(mark_small(names, counts), counts, strict=True)]
    axis.set_yticks(range(len(words) + len(also)), [*words, *also], **look)
    for text, n in zip(axis.get_yticklabels(), counts, strict=False):
        text.set_color("black" if n >= MIN_STATIONS else FAINT)
    axis.set_ylim(len(words) + len(also) - 0.4, -0.6)


def broken(time: np.ndarray, *values: np.ndarray, longest: np.timedelta64) -> list[np.ndarray]:
    """Times and values with NaN where two times lie farther apart, so that no line crosses."""
    cut = np.flatnonzero(np.diff(time) > longest) + 1
    return [np.insert(time, cut, time[cut]), *(np.insert(v, cut, np.nan) for v in values)]


# Names and words of the data, on pages.

MARKS = re.compile(r"[!-$&'*:-@\[-`{-~]")  # ASCII punctuation that Markdown, HTML or TeX may read


def escape(text: Any, *, markdown: bool = False) -> str:
    """Text of the data (names, titles, notes) that a page shows as it stands and never obeys.

    Everything that is put into HTML (cells, heads, captions, attributes) or Markdown goes through
    here once. Pictures need no escape: ``head`` keeps ``$`` a character.

    Parameters
    ----------
    text : any value, by its ``str``
    markdown : whether it goes into ``Markdown(...)``: marks, links and formulas stay characters
        too, and line breaks become spaces

    Examples
    --------
    >>> escape("<b>A&B</b>"), escape("*A*", markdown=True)
    ('&lt;b&gt;A&amp;B&lt;/b&gt;', '&#42;A&#42;')
    """
    if not markdown:
        return html.escape(str(text))
    return MARKS.sub(lambda mark: f"&#{ord(mark[0])};", " ".join(str(text).split()))


# Tables for reading: heads in words with units, rounded numbers, a dash where nothing is known.

MISSING = "–"
HEADS = METRIC_LABELS | {
    "r": "R [1]", "r2": "R² [1]", "bias_m3_m3": f"bias [{MOISTURE}]", "n": "samples",
    "n_effective": "effective samples", "q25": "lower quartile", "q75": "upper quartile",
    "lower": "from", "upper": "to", "koeppen": "Köppen class", "sensor_id": "sensor",
    "station_id": "station", "model_a": "model", "model_b": "against", "mean_a": "its mean",
    "mean_b": "mean of the other", "p_adjusted": "p (Holm)", "depth_from_m": "from depth [m]",
    "depth_to_m": "to depth [m]", "latitude": "latitude [°]", "longitude": "longitude [°]",
    "raw_mean": "mean, raw", "tair_c": "air temperature [°C]", "st_2in": "soil at 2 inches [°C]",
    "tmin_c": "coldest air [°C]", "tmax_c": "warmest air [°C]", "rh_pct": "humidity of air [%]",
    "et_mm_8d": "evapotranspiration over 8 d [mm]",
    "season_sin": "sine of the season [1]", "season_cos": "cosine of the season [1]",
    **{f"bucket_{c:.0f}": f"bucket of {c:.0f} mm [1]" for c in antecedents.CAPACITIES_MM},
    **{f"api_{100 * k:.0f}": f"rain index of decay {k:.2f} [mm]" for k in antecedents.RETENTIONS},
}  # fmt: skip
LAYERS = tuple(f"{source.name}_" for source in sources.CATALOGUE)
NAMING = ("metric", "characteristic", "layer", "predictor")  # columns of our names, not a file's
AROUND = {
    "_block_mean": "mean over blocks, {}", "_mean": "mean {}", "_median": "median {}",
    "_lower": "{}, from", "_upper": "{}, to",
}  # fmt: skip


def words(name: Any, heads: Mapping[str, str] = HEADS) -> Any:
    """The head of a column in words with its unit; what is no raw name comes back as it is.

    Examples
    --------
    >>> [words(n) for n in ("ubrmse_m3_m3", "bias_m3_m3_lower", "n_stations", "max_age_hours")]
    ['ubRMSE [m³ m⁻³]', 'bias [m³ m⁻³], from', 'stations', 'max age [h]']
    """
    if not isinstance(name, str) or not name.isidentifier():
        return name
    if name in heads:
        return heads[name]
    for ending, around in AROUND.items():
        stem = name.removesuffix(ending)
        if stem != name and words(stem, heads) != stem:
            return around.format(words(stem, heads))
    if name != name.lower() and not name.startswith(LAYERS):
        return name
    text, unit, band = sources.described(name)
    if band is not None and (band.scale, band.offset) != (1, 0):
        unit = "as stored"  # not what its values mean
    return f"{text} [{unit}]" if unit else text.removeprefix("n ")


def readable(
    table: pd.DataFrame, columns: Sequence[str] | Mapping[str, str] | None = None, *,
    digits: int | Mapping[str, int] = 3, intervals: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """A table as a notebook shows it: words with units as heads, rounded, a dash where unknown.

    Every notebook shows its tables through this one function. Raw names of the contracts
    (``ubrmse_m3_m3``, ``bias_m3_m3_lower``, ``n_stations``) become words, in the heads, in the
    index and in a column ``metric``; paths become file names, booleans yes and no, midnights days.
    All cells are text: compute first, then show. Row numbers go, a named index stays.

    Parameters
    ----------
    table : DataFrame or Series
    columns : which columns, in this order; a mapping gives their heads too. None: all of them
    digits : decimals, of all numbers or by raw name (3 for others); whole numbers show none
    intervals : whether ``x, x_lower, x_upper`` (or ``value`` or ``difference``,
        ``lower, upper``) become one column

    Examples
    --------
    >>> scores = pd.DataFrame({"model": ["a"], "r": [0.5], "r_lower": [0.25], "r_upper": [0.75]})
    >>> readable(scores, {"model": "model", "r": "R, 95 % [1]"}, digits=2, intervals=True)
     model          R, 95 % [1]
         a  0.50 (0.25 to 0.75)
    """
    table = table.to_frame() if isinstance(table, pd.Series) else table
    wanted = list(table.columns if columns is None else columns)
    decimals = {n: digits.get(n, 3) if isinstance(digits, Mapping) else digits for n in table}
    cells = {n: _texts(table[n], decimals[n]) for n in table}
    heads = dict(columns) if isinstance(columns, Mapping) else {}
    for name in wanted if intervals else ():
        stem = "" if name in ("value", "difference") else f"{name}_"
        ends = (f"{stem}lower", f"{stem}upper")
        if set(ends) <= set(table.columns):
            low, high = (_texts(table[end], decimals[name]) for end in ends)
            cells[name] = [
                v if MISSING in (a, b) else f"{v} ({a} to {b})"
                for v, a, b in zip(cells[name], low, high, strict=True)
            ]
            wanted = [n for n in wanted if n not in ends]
            heads.setdefault(name, f"{words(name)}, 95 %")
    shown = pd.DataFrame(dict(enumerate(cells[n] for n in wanted)), index=table.index)
    shown.columns = pd.Index(wanted) if table.columns.nlevels == 1 else table.columns
    shown = shown.rename(columns=lambda n: heads.get(n) or words(n))
    for axis in ("index", "columns"):
        shown = shown.rename_axis([words(n) for n in getattr(shown, axis).names], axis=axis)
    if isinstance(table.index, pd.RangeIndex) and table.index.name is None:
        return shown.set_axis([""] * len(shown))
    raw = [level for level in shown.index.names if level in (None, *NAMING)]
    return shown.rename(index=words, level=raw[0]) if raw else shown


SMALL_PRINT: list[Any] = [
    {"selector": "", "props": "font-size: 0.85rem"},
    {"selector": "caption", "props": "text-align: left"},
    {"selector": "th, td",
     "props": "padding: 0.25rem 0.5rem; text-align: left; vertical-align: top"},
]  # fmt: skip
GRADES = {
    "yes": "#1b7837", "done": "#1b7837", "partly": "#b35806", "no": "#b2182b",
    "not done": "#b2182b", "unknown": "#666666", "not applicable": "#666666",
}  # fmt: skip
INKS = {  # their text, which a dark page lightens
    word: f"color: color-mix(in srgb, {c} 60%, CanvasText)" for word, c in GRADES.items()
}


def show(
    table: pd.DataFrame, columns: Sequence[str] | Mapping[str, str] | None = None, *,
    title: str, draw: Callable[..., Figure] | None = None, graded: str = "", **options: Any,
) -> None:  # fmt: skip
    """Display a table for reading under its title, or the picture of it; a missing one in words.

    Parameters
    ----------
    table : a table, or a part of an evaluation that may be missing
    columns, how : as for ``readable``
    draw : a picture of this package, which gets the table, ``title`` and ``how``; None: the table
    graded : column whose words ("yes", "partly", "not done") are coloured
    """
    if is_missing(table):
        why = escape(str(table["status"].iloc[0]).rstrip("."), markdown=True)
        display(Markdown(f"*{escape(title, markdown=True)}: {why}.*"))
    elif draw is not None:
        draw(table, title=title, **options)
        plt.show()
    else:
        shown = readable(table, columns, **options)
        numbered = table.index.name is None and pd.api.types.is_numeric_dtype(table.index)
        shown = shown.reset_index(drop=True) if numbered else shown
        shown = shown.replace(r" to (?=[-.\d]+\))", "\u00a0to\u00a0", regex=True)  # never broken
        for axis in ("index", "columns"):
            names = [name and escape(name) for name in getattr(shown, axis).names]
            shown = shown.rename(escape, axis=axis).rename_axis(names, axis=axis)
        style = shown.style.hide(axis="index") if numbered else shown.style
        if graded:
            style = style.map(lambda word: INKS.get(word, ""), subset=[escape(graded)])
        style.cell_ids = False  # but of coloured cells
        style = style.format(escape="html").set_table_styles(SMALL_PRINT)
        display(style.set_caption(escape(title)))


def _texts(values: pd.Series, digits: int) -> list[str]:
    """Cells as text; a column of whole numbers has no decimals."""
    numbers = pd.to_numeric(values, errors="coerce") if values.dtype.kind in "fiu" else None
    if numbers is not None and (numbers.dropna() % 1 == 0).all():
        digits = 0
    return [_text(value, digits, is_name=values.name in NAMING) for value in values]


def _text(value: Any, digits: int, *, is_name: bool) -> str:
    if value is None or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return MISSING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:,.{digits}f}"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
    if isinstance(value, pd.Timedelta):
        return f"{value / pd.Timedelta('1h'):g} h"
    text = value.name if isinstance(value, PurePath) else str(value)
    return (str(words(text)) if is_name else text) or MISSING


# Interactive views that carry everything they need.


def live(view: Any, *, height_px: int = 430):
    """A HoloViews element or overlay as one piece of HTML that works in notebooks and reports.

    Its scripts are embedded (about a megabyte), in a frame of their own, ``height_px`` high. Build
    it with ``hvplot.hvPlot(table)(...)``: importing ``hvplot.pandas`` loads scripts from elsewhere.
    Print shows no frame, so set a static picture beside it. Bokeh would fetch what sets formulas
    and Google's maps when a name asks for it: their addresses go.
    """
    import holoviews as hv
    from bokeh.embed import file_html
    from bokeh.models import Plot
    from bokeh.resources import INLINE

    hv.Store.set_current_backend("bokeh")
    drawn = hv.render(view, backend="bokeh")
    for chart in drawn.select({"type": Plot}):  # a page without WebGL is a fifth of a megabyte less
        chart.output_backend = "canvas"
    name = escape(getattr(getattr(drawn, "title", None), "text", "") or "interactive view")
    page = file_html(drawn, resources=INLINE, title="interactive view")
    page = re.sub(r"""(\.src=["'`])https?:[^"'`]*""", r"\1", page)
    page = re.sub(r'<script src="static/[^>]*></script>', "", page)  # of a server that is not there
    size = f'width="100%" height="{height_px}" frameborder="0" title="{name}"'
    return HTML(f'<div><iframe srcdoc="{html.escape(page)}" {size}></iframe></div>')
