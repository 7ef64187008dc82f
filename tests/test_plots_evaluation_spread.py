"""Pictures of spread, applicability and distance: is a model sure, and asked in its place?"""

import matplotlib

matplotlib.use("agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from soilkit import metrics
from soilkit.metrics import splits
from soilkit.metrics.evaluation import applicability
from soilkit.show import plots
from soilkit.show.plots import style


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(figure):
    return " | ".join(t.get_text() for t in figure.findobj(plt.Text) if t.get_text())


def forecasts(n_stations=10, *, factor=1.0, n=60, model="m"):
    """Normal errors of 0.05 m3 m-3; the predicted spread is ``factor`` times too large."""
    rng = np.random.default_rng(3)
    m = n_stations * n
    station = np.repeat(np.arange(n_stations), n)
    return pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(m)],
            "sensor_id": [f"N__{i}__P__0__5" for i in station],
            "station_id": [f"N__{i}" for i in station],
            "network": "N",
            "time": np.tile(
                pd.date_range("2020-01-01", periods=n).astype("datetime64[us]"), n_stations
            ),
            "observed_m3_m3": 0.25 + rng.normal(0, 0.05, m),
            "predicted_m3_m3": 0.25,
            "predicted_std_m3_m3": factor * 0.05,
            "model": model,
            "split": "test",
        }
    )


def stations(n=10):
    ids = [f"N__{i}" for i in range(n)]
    return pd.DataFrame(
        {
            "sensor_id": [f"{i}__P__0__5" for i in ids],
            "station_id": ids,
            "network": "N",
            "latitude": 30.0 + 3 * np.arange(n),
            "longitude": -100.0 + 4 * np.arange(n),
            "texture": ["Loam"] * (n - 3) + ["Sand"] * 3,
        }
    )


def test_reliability_stands_on_the_numbers_of_the_table():
    rows = metrics.forecast_rows(forecasts(factor=0.5))
    table = metrics.reliability(rows, stations=stations(), levels=(0.5, 0.9))
    axis = plots.reliability_lines(table).axes[0]
    line = next(ln for ln in axis.lines if ln.get_marker() == "o")
    want = table[table["kind"] == "interval"]
    np.testing.assert_allclose(line.get_xydata(), want[["nominal", "observed"]])
    whiskers = axis.collections[0].get_segments()
    np.testing.assert_allclose([s[:, 1] for s in whiskers], want[["lower", "upper"]])
    # Overconfident: the line lies below the diagonal.
    assert (line.get_ydata() < line.get_xdata()).all()


def test_spread_skill_of_a_model_too_sure_lies_above_the_line():
    table = forecasts(factor=0.5)
    table["predicted_std_m3_m3"] *= np.linspace(0.8, 1.2, len(table))
    axis = plots.spread_skill(metrics.spread_skill(metrics.forecast_rows(table), n_bins=4)).axes[0]
    line = next(ln for ln in axis.lines if ln.get_marker() == "o")
    assert len(line.get_xdata()) == 4
    assert (line.get_ydata() > 1.5 * line.get_xdata()).all()


def measured():
    rng = np.random.default_rng(0)
    training = pd.DataFrame({"x": rng.uniform(0, 1, 200)})
    area = applicability.fit(training, predictors=["x"])
    table = forecasts(10, n=30)
    x = rng.uniform(0, 1, len(table))
    x[table["station_id"] == "N__9"] = 5.0
    x[:10] = np.nan
    found = area.measure(pd.DataFrame({"x": x}, index=table.index))
    return table, found, area


def test_the_index_is_counted_inside_outside_and_missing():
    table, found, area = measured()
    figure = plots.dissimilarity_histogram(found, threshold=area.threshold)
    words = texts(figure)
    n_in, n_out = found["is_inside"].sum(), (found["status"] == "outside").sum()
    assert f"inside: {n_in} ({n_in / 300:.0%})" in words
    assert f"outside: {n_out} ({n_out / 300:.0%})" in words
    assert "10 without an index" in words
    heights = sum(p.get_height() for c in figure.axes[0].containers[:2] for p in c)
    assert heights == n_in + n_out == 290
    assert "none of 10 rows has an index" in texts(plots.dissimilarity_histogram(found[:10]))


def test_skill_by_dissimilarity_is_hollow_outside():
    table, found, area = measured()
    skill = applicability.skill_by_dissimilarity(table, found, clusters=table["station_id"])
    figure = plots.dissimilarity_skill(skill, threshold=area.threshold)
    axis = figure.axes[0]
    lines = [ln for ln in axis.lines if ln.get_marker() == "o" and len(ln.get_xdata())]
    solid, hollow = lines
    assert solid.get_markerfacecolor() == style.COLOURS[0]
    assert hollow.get_markerfacecolor() == "white"
    bins = skill[skill["bin"] != "all"]
    np.testing.assert_allclose(
        np.concatenate([ln.get_ydata(orig=False) for ln in (solid, hollow)]), bins["rmse_m3_m3"]
    )
    assert "m missing: n = 10" in texts(figure)


def test_a_curve_counts_stations_within_a_distance():
    km = {"by block": pd.Series([0.0, 2.0, 5.0, 20.0]), "by row": pd.Series(np.zeros(6))}
    figure = plots.distance_curves(km)
    axis = figure.axes[0]
    block, row = [ln for ln in axis.lines if len(ln.get_xdata()) > 2]
    at = lambda line, x: line.get_ydata()[np.searchsorted(line.get_xdata(), x, "right") - 1]  # noqa: E731
    assert [at(block, x) for x in (0.2, 2.56, 10, 30)] == [25, 50, 75, 100]
    assert at(row, 0.11) == 100
    assert {ln.get_xdata()[0] for ln in axis.lines if len(ln.get_xdata()) == 2} == {2.56, 10.0}
    assert axis.get_xscale() == "log" and axis.get_xlabel().endswith("[km]")
    words = [t.get_text().replace("\n", " ") for t in figure.legends[0].get_texts()]
    assert words == ["by block* (4 held out: 50% below 2.56 km, 25% above 10 km)",
                     "by row (6 held out: 100% below 2.56 km, 0% above 10 km)"]  # fmt: skip


def test_an_audit_report_is_drawn_as_its_distances():
    table = forecasts(10, n=3)
    label = table["station_id"].isin(["N__0", "N__1"]).map({True: "test", False: "train"})
    report = splits.audit(table, label, stations=stations())
    line = plots.distance_curves({"two": report}).axes[0].lines[0]
    np.testing.assert_allclose(sorted(report.distance_km), line.get_xdata()[1:-1])
    empty = plots.distance_curves({"none": pd.Series(dtype=float)})
    assert "no held-out station has a known place" in texts(empty)
