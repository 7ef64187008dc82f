"""Pictures: what a reader can tell from them without the text around."""

import html
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from soilkit import contracts, grids
from soilkit.show import plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def predictions(n=40, models=("SMAP linear", "forest")):
    rng = np.random.default_rng(0)
    parts = []
    for model in models:
        observed = np.linspace(0.05, 0.45, n)
        parts.append(
            pd.DataFrame(
                {
                    "sample_id": [f"a_{i}" for i in range(n)],
                    "sensor_id": "N__a",
                    "station_id": "N__a",
                    "network": "N",
                    "time": pd.date_range("2020-01-01", periods=n, freq="10D").astype(
                        "datetime64[us]"
                    ),
                    "observed_m3_m3": observed,
                    "predicted_m3_m3": observed + rng.normal(0, 0.02, n),
                    "model": model,
                    "split": "test",
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def stations(n, *, clustered=0):
    rng = np.random.default_rng(1)
    latitude = np.concatenate([30.1 + 0.3 * rng.random(clustered), rng.uniform(33, 45, n)])
    longitude = np.concatenate([-98.9 + 0.3 * rng.random(clustered), rng.uniform(-120, -80, n)])
    ids = [f"N__{i}" for i in range(n + clustered)]
    return pd.DataFrame({"station_id": ids, "latitude": latitude, "longitude": longitude})


def all_labels(figure):
    axes = [a for a in figure.axes if a.get_visible()]
    words = [text for a in axes for text in (a.get_xlabel(), a.get_ylabel(), a.get_title())]
    words += [t.get_text() for t in (figure._supxlabel, figure._supylabel) if t is not None]
    return " | ".join(words)


def test_a_dense_network_is_shown_enlarged():
    places = stations(10, clustered=20)
    scores = places[["station_id"]].assign(r=0.5)
    figure = plots.station_map(scores, places, metric="r", title="synthetic")
    assert "the 20 stations of the densest block" in all_labels(figure)
    sparse = stations(10)
    alone = plots.station_map(sparse[["station_id"]].assign(r=0.5), sparse, metric="r")
    assert "densest" not in all_labels(alone)


def test_a_station_without_a_score_stays_on_the_map():
    places = stations(4)
    scores = places[["station_id"]].assign(ubrmse_m3_m3=[0.03, np.nan, 0.05, 0.04])
    figure = plots.station_map(scores, places, metric="ubrmse_m3_m3", title="synthetic")
    hollow, filled = figure.axes[0].collections[:2]
    assert (len(hollow.get_offsets()), len(filled.get_offsets())) == (1, 3)
    assert "ubRMSE [m³ m⁻³]" in all_labels(figure)


def test_no_line_is_drawn_across_a_gap():
    table = predictions()
    late = table["time"] > pd.Timestamp("2020-06-01")
    table.loc[late, "time"] += pd.Timedelta("60D")
    figure = plots.series_panel(table, ["N__a"], title="synthetic")
    line = figure.axes[0].get_lines()[0].get_ydata()
    assert np.isnan(line).sum() == 1
    assert "soil moisture [m³ m⁻³]" in all_labels(figure)


def test_predictions_without_an_observation_are_not_in_the_scatter():
    table = predictions()
    table.loc[table.index[:5], "observed_m3_m3"] = np.nan
    figure = plots.density_scatter(table, title="synthetic")
    assert "SMAP linear (n = 35)" in all_labels(figure)
    assert "forest (n = 40)" in all_labels(figure)


def test_whiskers_end_at_the_interval():
    one = pd.DataFrame(
        {"metric": "r_mean", "model": ["a"], "value": 0.7, "lower": 0.6, "upper": 0.9}
    )
    figure = plots.interval_dots(one, title="synthetic")
    (whisker,) = figure.axes[0].collections[0].get_segments()
    np.testing.assert_allclose(whisker[:, 0], [0.6, 0.9])


def test_a_chip_is_shown_in_physical_units():
    """Sand is stored in g/kg and read in percent: 400 becomes 40."""
    grid = grids.chip_grid(30.3, -98.8, size_px=16, pixel_size_m=160)
    bands = ("sand", "silt", "clay", "bdod")
    chip = contracts.Chip(np.full((4, 16, 16), 400.0, np.float32), bands, grid)
    figure = plots.chip_panel(chip, source="soilgrids", title="synthetic")
    image = figure.axes[0].get_images()[0]
    assert float(image.get_array().max()) == pytest.approx(40)
    assert image.get_extent() == [-1.28, 1.28, -1.28, 1.28]
    assert "sand [%]" in all_labels(figure)


def test_an_optical_chip_comes_in_true_colour_first():
    grid = grids.chip_grid(30.3, -98.8, size_px=8, pixel_size_m=10)
    values = np.random.default_rng(2).uniform(500, 3000, (4, 8, 8)).astype(np.float32)
    chip = contracts.Chip(values, ("B2", "B3", "B4", "B8"), grid)
    figure = plots.chip_panel(chip, source="sentinel2", title="synthetic")
    colour = figure.axes[0].get_images()[0].get_array()
    assert colour.shape == (8, 8, 3)
    # The reddest pixel is the one where B4 is highest, the darkest the one where it is lowest.
    assert colour[..., 0].flat[np.argmax(values[2])] == colour[..., 0].max() > 0.9
    assert colour[..., 0].flat[np.argmin(values[2])] == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [("sentinel1_VV_mean_80m", "Sentinel-1 VV within 80 m [dB]"),
     ("sentinel2_NDVI_mean_1280m", "Sentinel-2 NDVI within 1280 m [1]"),
     ("soilgrids_sand_mean_320m", "SoilGrids sand within 320 m [as stored]"),
     ("sentinel2_B8A", "Sentinel-2 B8A"), ("smap_ssm", "SMAP ssm [mm]"),
     ("api_90", "rain index of decay 0.90 [mm]"), ("humidity_7d_percent", "humidity over 7 d [%]"),
     ("soil_field_capacity_pct", "soil field capacity [%]"), ("SITE_M", "SITE_M")],
)  # fmt: skip
def test_a_predictor_is_named_in_words_wherever_it_is_shown(name, words):
    """As a head, as a cell of a column of names, and as an index; a station's name stays."""
    shown = plots.readable(pd.DataFrame({name: [1.0], "layer": [name]}))
    assert list(shown) == [words, "layer"] and shown["layer"].tolist() == [words]
    weights = pd.DataFrame({"weight": [0.5]}, index=pd.Index([name], name="predictor"))
    assert plots.readable(weights).index.tolist() == [words]


def test_a_column_of_a_users_file_keeps_its_name():
    """Notes name it, and "swc_c" may be no temperature."""
    notes = pd.DataFrame({"status": ["column"], "column": ["swc_c"]})
    assert plots.readable(notes)["column"].tolist() == ["swc_c"]


def test_a_table_for_reading_has_words_with_units_and_no_missing_number():
    """Heads, metric names and the index are words; NaN and empty text are a dash."""
    table = pd.DataFrame(
        {
            "metric": ["r", "ubrmse_m3_m3"], "value": [0.5, np.nan], "lower": [0.1, np.nan],
            "upper": [0.6, np.nan], "n_stations": [3.0, 4.0], "file": [Path("/a/b.csv"), None],
            "is_small": [True, False],
        }
    )  # fmt: skip
    shown = plots.readable(table, intervals=True)
    assert list(shown) == ["metric", "value, 95 %", "stations", "file", "is small"]
    assert shown.iloc[0].tolist() == ["R [1]", "0.500 (0.100 to 0.600)", "3", "b.csv", "yes"]
    assert shown.iloc[1].tolist() == ["ubRMSE [m³ m⁻³]", "–", "4", "–", "no"]
    by_metric = plots.readable(table.set_index("metric"), {"value": "score"}, digits={"value": 1})
    assert by_metric.to_dict() == {"score": {"R [1]": "0.5", "ubRMSE [m³ m⁻³]": "–"}}


def test_a_missing_part_is_shown_as_a_sentence(monkeypatch):
    """A table that could not be made has one row with the reason; a picture of it neither."""
    seen = []
    monkeypatch.setattr(plots.style, "display", seen.append)
    lost = pd.DataFrame({"status": ["no station has a place."]})
    plots.show(lost, title="Means of blocks")
    plots.show(lost, draw=plots.interval_dots, title="Means of blocks")
    assert [s.data for s in seen] == ["*Means of blocks: no station has a place.*"] * 2
    plots.show(pd.DataFrame({"n_stations": [3.0], "grade": ["no"]}), graded="grade", title="T")
    page = seen[-1].to_html()
    assert "stations</th>" in page and "<caption>T</caption>" in page and "#b2182b" in page


def test_a_class_of_few_stations_has_no_interval_beside_the_papers():
    rows = [("Loam", 0.7, 8), ("Sand", 0.5, 2)]
    ours = pd.DataFrame(rows, columns=["texture", "mean", "n_stations"])
    ours = ours.assign(metric="r", mean_lower=0.4, mean_upper=0.8)
    paper = pd.DataFrame({"class": ["Clay", "Loam"], "r": [0.6, 0.65], "is_small": [True, False]})
    shown = plots.class_table(ours, "texture", paper=paper)
    assert shown.to_numpy().tolist() == [
        ["Clay*", "–", "–", "0.600*"],
        ["Loam", "8", "0.700 (0.400 to 0.800)", "0.650"],
        ["Sand*", "2", "0.500", "–"],
    ]
    assert list(shown) == [
        "texture class, the stations' own",
        "stations",
        "R (95 %) [1]",
        "the paper's R",
    ]


HOSTILE = '<script>boom()</script> **A** $x_1$ & "B" [c](javascript:d)'


def test_names_of_the_data_are_read_in_tables_and_never_obeyed(monkeypatch):
    """Heads, index, cells and caption of a table, and the words of a missing one."""
    shown = []
    monkeypatch.setattr(plots.style, "display", shown.append)
    table = pd.DataFrame({HOSTILE: [HOSTILE]}, index=pd.Index([HOSTILE], name=HOSTILE))
    plots.show(table, graded=HOSTILE, title=HOSTILE)
    plots.show(table.reset_index(drop=True), title=HOSTILE)
    for page, n in zip([view.to_html() for view in shown], (5, 3), strict=True):
        assert "<script>" not in page
        assert page.count("&lt;script&gt;") == n

    plots.show(pd.DataFrame({"status": [HOSTILE]}), title=HOSTILE)
    text = shown[-1].data
    assert not set("<$[`") & set(text)
    assert text.count("*") == 2  # the words' own emphasis
    assert html.unescape(text) == f"*{HOSTILE}: {HOSTILE}.*"


def test_a_dollar_in_a_name_is_a_dollar_in_the_picture():
    """Matplotlib would set the words between two dollars as a formula, or fail over it."""
    names = (r"$\frac{1}{$ a", "b $2$", "c", "d", "e", r"\$f$")
    rows = pd.DataFrame({"model": names, "metric": "r", "value": 0.5, "lower": 0.4, "upper": 0.6})
    figure = plots.interval_dots(rows, title=r"$\frac{$")
    figure.canvas.draw()
    ticks = figure.axes[0].get_yticklabels()
    assert [text.get_text() for text in ticks] == list(names)
    assert not any(text.get_parse_math() for text in ticks if "$" in text.get_text())


def test_any_name_has_its_place_in_the_legend():
    """One that begins with an underscore too, which matplotlib would leave out."""
    names = ["_ours", "SMAP"]
    rows = pd.DataFrame({"model": names, "metric": "r", "value": 0.5, "lower": 0.4, "upper": 0.6})
    figure = plots.interval_dots(rows.assign(split="test"), rows="split")
    words = [text.get_text().lstrip("\u200b") for text in figure.legends[0].get_texts()]
    assert words == names


def test_a_picture_says_in_words_what_it_shows():
    """Labels shared by panels bear their range, dates are dates, of many names the first dozen."""
    figure, axes = plt.subplots(1, 2)
    for axis, name in zip(axes, ("VV [dB]", "VH [dB]"), strict=True):
        drawn = axis.imshow([[0.0, 1.0]], extent=(-1, 1, -2, 2))
        axis.set_title(name)
    figure.colorbar(drawn, ax=axes, label="backscatter [dB]")
    figure.supxlabel("east [km]")
    figure.suptitle("A chip\n(synthetic)")
    assert plots.style.described(figure) == (
        "A chip (synthetic). 2 panels: VV [dB], VH [dB]. Across: east [km], -1 to 1. "
        "Colours: backscatter [dB], 0 to 1."
    )
    figure, axis = plt.subplots()
    for k in range(15):
        axis.plot(pd.to_datetime(["2019-05-01", "2019-06-30"]), [k, k], label=f"s{k}")
    axis.set(xlabel="time", xlim=pd.to_datetime(["2019-05-01", "2019-07-01"]))
    words = plots.style.described(figure)
    assert words.startswith("Across: time, 2019-05-01 to 2019-07-01. Shown: s0, s1")
    assert words.endswith("s11 and 3 more.")
    assert "Nothing to draw: no date" in plots.style.described(plots.style.nothing("no date"))
