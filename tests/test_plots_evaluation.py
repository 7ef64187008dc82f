"""Pictures of an evaluation: marks stand where the numbers say, small classes are told apart."""

import matplotlib

from soilkit.metrics.evaluation import applicability

matplotlib.use("agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from matplotlib import pyplot as plt

from soilkit import metrics
from soilkit.errors import ContractError
from soilkit.show import plots
from soilkit.show.plots import style
from soilkit.show.plots.diagrams import sensor_moments


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def predictions(n_stations=6, *, models=("one",), n=30, gain=2.0, network="NET"):
    """Each model sees the observations times ``gain`` plus 0.01 for its place in the list."""
    rng = np.random.default_rng(0)
    parts = []
    for station in range(n_stations):
        observed = rng.uniform(0.05, 0.25, n)
        for k, model in enumerate(models):
            parts.append(
                pd.DataFrame(
                    {
                        "sample_id": [f"{station}_{i}" for i in range(n)],
                        "sensor_id": f"{network}__{station}__P__0__5",
                        "station_id": f"{network}__{station}",
                        "network": network,
                        "time": pd.date_range("2020-01-01", periods=n, freq="10D").astype(
                            "datetime64[us]"
                        ),
                        "observed_m3_m3": observed,
                        "predicted_m3_m3": gain * observed + 0.01 * k + k * rng.normal(0, 0.05, n),
                        "model": model,
                        "split": "test",
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def stations(n=6, network="NET", **columns):
    ids = [f"{network}__{i}" for i in range(n)]
    table = pd.DataFrame(
        {
            "sensor_id": [f"{i}__P__0__5" for i in ids],
            "station_id": ids,
            "network": network,
            "latitude": 30.0 + 3 * np.arange(n),
            "longitude": -100.0 + 4 * np.arange(n),
        }
    )
    return table.assign(**columns)


def texts(figure):
    """Every word that a figure shows."""
    words = [t.get_text() for t in figure.findobj(plt.Text)]
    return " | ".join(w for w in words if w)


def legend_words(figure):
    return [t.get_text().replace("\n", " ") for t in figure.legends[0].get_texts()]


def test_all_exported_pictures_carry_a_title():
    """The title is where "synthetic" stands."""
    figure = plots.taylor_diagram(predictions(), title="synthetic, six stations")
    assert figure.get_suptitle() == "synthetic, six stations"


def test_moments_obey_the_cosine_law():
    """(ubRMSE / sd)2 = 1 + s2 - 2 s R, so the three scores of a Taylor diagram are one triangle."""
    table = sensor_moments(predictions(models=("one", "two")))
    left = (table["ubrmse_m3_m3"] / table["sd_observed_m3_m3"]) ** 2
    right = 1 + table["sd_ratio"] ** 2 - 2 * table["sd_ratio"] * table["r"]
    np.testing.assert_allclose(left, right, atol=1e-12)


def test_twice_the_amplitude_lies_at_two_on_the_axis_of_perfect_correlation():
    figure = plots.taylor_diagram(predictions(gain=2.0))
    (axis,) = figure.axes
    marker = next(line for line in axis.lines if str(line.get_label()).startswith("one"))
    angle, ratio = marker.get_xydata()[0]
    assert angle == pytest.approx(0, abs=1e-6)
    assert ratio == pytest.approx(2)
    dots = next(c for c in axis.collections if len(c.get_offsets()) == 6)
    np.testing.assert_allclose(dots.get_offsets()[:, 1], 2)


def test_a_negative_correlation_widens_the_diagram():
    quarter = plots.taylor_diagram(predictions(gain=1.0)).axes[0]
    wide = plots.taylor_diagram(predictions(gain=-1.0)).axes[0]
    assert quarter.get_thetamax() == pytest.approx(90)
    assert wide.get_thetamax() == pytest.approx(180)


def test_fewer_than_five_stations_bear_an_asterisk_in_the_diagrams():
    assert "one* (4 stations)" in legend_words(plots.taylor_diagram(predictions(4)))
    assert "one (5 stations)" in legend_words(plots.taylor_diagram(predictions(5)))
    assert plots.target_diagram(predictions(4)).axes[0].get_title() == "one*\n4 stations"


def test_the_side_of_a_target_tells_the_amplitude():
    """Predictions that vary more lie right of the middle, their bias upwards."""
    for gain, side in ((1.5, 1), (0.5, -1)):
        axis = plots.target_diagram(predictions(gain=gain)).axes[0]
        dots = axis.collections[0].get_offsets()
        scores = metrics.point_scores(predictions(gain=gain))
        np.testing.assert_allclose(dots[:, 0], side * scores["ubrmse_m3_m3"])
        np.testing.assert_allclose(dots[:, 1], scores["bias_m3_m3"])


def test_density_shows_regression_n_and_one_colour_scale():
    table = predictions(models=("one", "two"), gain=2.0)
    table.loc[0, "predicted_m3_m3"] = np.inf
    figure = plots.density_scatter(table)
    first, second = figure.axes[:2]
    assert first.get_title() == "one (n = 179)"
    assert "y = 2.00 x + 0.000" in texts(figure)
    assert first.get_xlim() == second.get_xlim() == first.get_ylim()
    norms = [axis.collections[0].norm for axis in (first, second)]
    assert norms[0] is norms[1] and isinstance(norms[0], colors.LogNorm)


def test_a_model_with_no_pair_says_why_instead_of_a_picture():
    table = predictions().assign(observed_m3_m3=np.nan)
    for draw in (plots.taylor_diagram, plots.target_diagram, plots.density_scatter):
        assert "Nothing to draw" in texts(draw(table, title="t"))
    scores = metrics.station_scores(table)
    assert "too few samples: 0 < 13" in texts(plots.score_maps(scores, stations()))
    assert "no station-date" in texts(plots.error_parts(metrics.spatial_parts(table)))
    assert "Nothing to draw" in texts(plots.spatial_skill(metrics.spatial_scores(table)))


def duels():
    return pd.DataFrame(
        [("r", "a", "b", 6, 2, 2, 10), ("r", "a", "c", 0, 10, 0, 10), ("r", "b", "c", 5, 5, 0, 10)],
        columns=["metric", "model_a", "model_b", "wins_a", "wins_b", "ties", "n_stations"],
    )


def test_the_row_beats_the_column_and_a_tie_is_half_a_win():
    axis = plots.win_matrices(duels()).axes[0]
    share = np.ma.filled(axis.images[0].get_array().astype(float), np.nan)
    np.testing.assert_allclose(share, [[np.nan, 70, 0], [30, np.nan, 50], [100, 50, np.nan]])
    cells = {t.get_position(): t.get_text() for t in axis.texts}
    assert cells[(1, 0)] == "6\n+2 tied" and cells[(0, 1)] == "2\n+2 tied"
    assert axis.get_title() == "correlation R (10 stations)"


def points():
    rows = [("Loam", "a", 6, 1.0, 8), ("Loam", "b", 2, 1 / 3, 8), ("Sand", "a", 0, 0.0, 2),
            ("Sand", "b", 2, 1.0, 2)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["class", "model", "points", "normalized", "n_stations"])
    return table.assign(metric="r", characteristic="texture", is_small=table["n_stations"] < 5)


def test_normalised_points_sum_up_with_and_without_small_classes():
    axis = plots.class_point_matrix(points()).axes[0]
    shown = axis.images[0].get_array()
    np.testing.assert_allclose(shown, [[1, 1 / 3], [0, 1], [0.5, 2 / 3], [1, 1 / 3]])
    ticks = {t.get_text(): t.get_color() for t in axis.get_yticklabels()}
    assert ticks["texture: Loam (8)"] == "black"
    assert ticks["texture: Sand* (2)"] == style.FAINT


def ratio_table():
    rows = [
        ("Loam", 1.3, 1.1, 1.5, "worse", True, 8),
        ("Clay", 0.8, np.nan, np.nan, "better", None, 6),
        ("Silt", 1.02, 0.9, 1.2, "alike", False, 9),
        ("Sand", 1.5, np.nan, np.nan, "worse", None, 2),
    ]
    names = ["class", "ratio", "ratio_lower", "ratio_upper", "verdict", "is_certain", "n_stations"]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(
        model="m", split="test", characteristic="texture", metric="ubrmse_m3_m3", status="ok",
        label=table["class"] + np.where(table["n_stations"] < 5, "*", ""), rest_mean=0.05,
    )  # fmt: skip


def test_class_ratios_are_coloured_by_verdict_and_filled_when_certain():
    axis = plots.class_ratios(ratio_table()).axes[0]
    dots = {line.get_xdata()[0]: line for line in axis.lines if len(line.get_xdata()) == 1
            and line.get_marker() == "o"}  # fmt: skip
    assert dots[1.3].get_color() == style.COLOURS[1] == dots[1.3].get_markerfacecolor()
    assert dots[0.8].get_color() == style.COLOURS[0]
    assert dots[1.02].get_markerfacecolor() == "white"
    assert dots[1.5].get_color() == style.FAINT
    widths = [np.ptp(s[:, 0]) for c in axis.collections for s in c.get_segments() if s.size]
    assert sorted(w for w in widths if np.isfinite(w)) == pytest.approx([0.3, 0.4])
    band = axis.patches[0].get_extents().transformed(axis.transData.inverted())
    assert (band.x0, band.x1) == (pytest.approx(0.9), pytest.approx(1.1))


def test_failed_stations_are_triangles_in_the_plane_of_traits():
    n = 8
    places = stations(n, elevation=np.arange(n) ** 2.0, clay=[5.0, 9, 1, 7, 3, 2, 8, 4])
    places.loc[7, "clay"] = np.nan
    table = predictions(n - 1, models=("a", "b"))
    scores = metrics.station_scores(table)
    space = applicability.trait_space(
        scores[scores.model == "b"], places, traits=["elevation", "clay"],
        baseline=scores[scores.model == "a"],
    )  # fmt: skip
    figure = plots.trait_plane(space)
    counts = [len(c.get_offsets()) for c in figure.axes[0].collections]
    failed = int((space.places["failed"].fillna(False) & space.places["pc1"].notna()).sum())
    assert counts == [0, 7 - failed, failed]
    assert "1 stations lack a trait" in texts(figure)
    assert f"({space.explained['share'][0]:.0%} of the variance)" in figure.axes[0].get_xlabel()
    assert {"elevation", "clay"} <= {t.get_text() for t in figure.axes[1].texts}


def dates(r, **columns):
    time = pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03", "2020-03-01", "2020-03-02"])
    table = pd.DataFrame({"date": time.astype("datetime64[us]"), "r": r})
    table = table.assign(r_lower=table.r - 0.1, r_upper=table.r + 0.1, n_stations=12, status="ok")
    return table.assign(model="m", split="test", **columns)


def test_no_line_of_spatial_skill_crosses_a_winter():
    table = dates([0.5, 0.6, 0.7, 0.4, np.nan])
    table.loc[4, "status"] = "too few stations: 3 < 10"
    figure = plots.spatial_skill({"all": table, "static": dates([0.3] * 5)})
    lines = {line.get_label().split("\n")[0]: line for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["all"].get_ydata(), [0.5, 0.6, 0.7, np.nan, 0.4])
    assert len(lines["too few stations"].get_xdata()) == 1
    assert "static part (places)" in lines


def test_the_bars_of_the_error_add_up_to_the_mean_square():
    figure = plots.error_parts(metrics.spatial_parts(predictions(models=("one", "two"))))
    axis = figure.axes[0]
    tops = [max(p.get_x() + p.get_width() for p in axis.patches if round(p.get_y() + 0.275) == i)
            for i in (0, 1)]  # fmt: skip
    table = predictions(models=("one", "two"))
    error = table["predicted_m3_m3"] - table["observed_m3_m3"]
    square = (error**2).groupby(table["model"]).mean()
    assert tops == pytest.approx([1e4 * square["one"], 1e4 * square["two"]])


def test_scores_are_mapped_where_the_stations_stand():
    scores = metrics.station_scores(predictions())
    scores.loc[0, "r"] = np.nan
    figure = plots.score_maps(scores, stations(), metrics=("r", "ubrmse_m3_m3"))
    hollow, filled = figure.axes[0].collections[:2]
    np.testing.assert_allclose(hollow.get_offsets(), [[-100, 30]])
    assert len(filled.get_offsets()) == 5
    assert figure.axes[0].get_title() == "5 stations, 1 without (hollow)"
    assert "ubRMSE [m³ m⁻³]" in texts(figure)
    with pytest.raises(ContractError, match="one model, found one, two"):
        plots.score_maps(metrics.station_scores(predictions(models=("one", "two"))), stations())


def test_a_difference_is_symmetric_and_blue_where_the_first_is_better():
    """ "two" adds noise: its R is lower and its ubRMSE higher than that of "one" everywhere."""
    scores = metrics.station_scores(predictions(models=("one", "two"), gain=1.0))
    for models, wins in ((("one", "two"), 6), (("two", "one"), 0)):
        figure = plots.difference_maps(
            scores, stations(), models=models, metrics=("r", "ubrmse_m3_m3")
        )
        for axis in figure.axes[:2]:
            dots = axis.collections[1]
            assert dots.norm.vmin == -dots.norm.vmax
            red, _, blue, _ = dots.to_rgba(dots.get_array()).T
            assert ((blue > red) == bool(wins)).all()
            assert f"better: {wins} of 6 stations" in axis.get_title()


def works():
    rows = [("NET", 0.7, 8, "SMAP", "", "mean", 0.6, "ok"),
            ("NET", 0.7, 8, "Bi et al.", "*", "mean", 0.8, "ok"),
            ("FEW", 0.5, 3, "SMAP", "", "mean", 0.4, "ok"),
            ("ARM", 0.5, 9, "", "", "", np.nan, "no work at this network")]  # fmt: skip
    names = ["network", "value", "n_stations", "work", "asterisk", "statistic", "literature_value",
             "status"]  # fmt: skip
    return pd.DataFrame(rows, columns=names).assign(metric="r", model="m", split="test")


def test_our_value_stands_in_the_row_of_each_work():
    figure = plots.beside_works(works())
    axis = figure.axes[0]
    at = {t.get_text(): y for t, y in zip(axis.get_yticklabels(), axis.get_yticks(), strict=True)}
    assert "Bi et al.* (mean)" in at
    theirs, *ours = [ln for ln in axis.lines if ln.get_linestyle() == "None"]
    assert set(theirs.get_xdata()) == {0.6, 0.8, 0.4}
    solid = next(ln for ln in ours if ln.get_color() == style.COLOURS[0])
    grey = next(ln for ln in ours if ln.get_color() == style.FAINT)
    assert sorted(solid.get_xdata()) == [0.7, 0.7] and list(grey.get_xdata()) == [0.5]
    row = dict(theirs.get_xydata())
    assert row[0.8] == at["Bi et al.* (mean)"]
    assert sorted(solid.get_ydata()) == sorted([row[0.6], row[0.8]])
    assert list(grey.get_ydata()) == [row[0.4]]
    words = texts(figure)
    assert "FEW* (3 of our stations)" in words and "No work at ARM." in words


def test_several_splits_of_a_model_are_told_apart():
    one = predictions()
    both = pd.concat([one, one.assign(split="leaky")], ignore_index=True)
    assert [w for w in legend_words(plots.taylor_diagram(both)) if w.startswith("one")] == [
        "one, test (6 stations)", "one, leaky (6 stations)",
    ]  # fmt: skip


def test_names_that_are_too_long_keep_their_ends():
    name = "model " + 40 * "x" + " version 7"
    short = style.wrapped(name, letters=20, lines=1)
    assert short.startswith("model xx") and short.endswith("n 7") and len(short) <= 20
    assert len({str(look) for look in style.looks([str(i) for i in range(49)]).values()}) == 49
