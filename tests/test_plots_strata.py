"""Pictures by class say how few stations stand behind a dot; live views need no network."""

import html

import matplotlib

matplotlib.use("agg")

import hvplot
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from soilkit.show import plots
from soilkit.show.plots.style import live
from soilkit.show.reports import external_loads


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def scores(rows):
    """Scores of one model: (stratum, class, R, half width, stations)."""
    table = pd.DataFrame(rows, columns=["stratum", "class", "value", "half", "n"])
    return table.assign(
        model="m", metric="r_mean", lower=table.value - table.half, upper=table.value + table.half
    )


TABLE = scores(
    [
        ("all", "", 0.6, 0.1, 40),
        ("texture", "Loam", 0.7, 0.1, 35),
        ("texture", "Clay", 0.5, np.nan, 5),
        ("texture", "Sand", 0.1, np.nan, 4),
        ("texture", "Silt", np.nan, np.nan, 0),
        ("network", "N", 0.6, np.nan, 40),
    ]
)


def texture_panel():
    return plots.strata_panels(TABLE, title="synthetic").axes[0]


def test_fewer_than_five_stations_bear_an_asterisk_and_grey():
    ticks = {t.get_text(): t.get_color() for t in texture_panel().get_yticklabels()}

    assert ticks == {"Loam (35)": "black", "Clay (5)": "black", "Sand* (4)": "0.6"}


def test_a_class_without_an_interval_has_no_whiskers():
    """Whiskers of length zero would claim certainty."""
    whiskers = [s for c in texture_panel().collections for s in c.get_segments() if len(s)]
    widths = [np.ptp(s[:, 0]) for s in whiskers if np.isfinite(s).all()]

    assert widths == pytest.approx([0.2])


def test_the_line_of_all_stations_stands_in_every_panel():
    figure = plots.strata_panels(TABLE)

    for axis in figure.axes[:2]:
        assert [0.6, 0.6] in [list(line.get_xdata()) for line in axis.lines]


def test_each_stratum_has_its_panel_with_unit_and_name():
    figure = plots.strata_panels(TABLE)

    shown = [a for a in figure.axes if a.get_visible()]
    assert [a.get_title(loc="left") for a in shown] == [
        "texture class, the stations' own",
        "network",
    ]
    assert {a.get_xlabel() for a in shown} == {"mean correlation R [1]"}


def test_a_live_view_carries_its_own_scripts_and_data():
    """Names that would close its script, load a picture or have a formula set load nothing."""
    names = ["</script><script src=//a.org></script>", "$$x$$ <img src=https://a.org/x>"]
    table = pd.DataFrame({"r": [0.5, 0.6], "ubrmse": [0.04, 0.05], "sensor": names})
    view = hvplot.hvPlot(table)(kind="scatter", x="ubrmse", y="r", hover_cols=["sensor"])

    page = live(view).data

    inner = html.unescape(page.split('srcdoc="')[1].split('" width=')[0])
    assert not external_loads(page)
    assert not external_loads(inner)
    assert "Bokeh" in inner and "ubrmse" in inner
    assert len(page) < 3e6


def test_a_model_keeps_its_colour_in_the_legend_where_one_stratum_is_all_small():
    """Grey of classes too small to judge tells no models apart."""
    rows = [("all", "", 9, 0.6), ("network", "N", 2, 0.5), ("texture", "loam", 7, 0.7)]
    rows = [(m, "r_mean", *row, row[-1] - 0.1, row[-1] + 0.1) for m in "AB" for row in rows]
    heads = ["model", "metric", "stratum", "class", "n", "value", "lower", "upper"]
    figure = plots.strata_panels(pd.DataFrame(rows, columns=heads))
    bars = [lines.get_color()[0] for lines in figure.legends[0].legend_handles]
    assert [to_hex(colour).upper() for colour in bars] == plots.style.colours(2)
