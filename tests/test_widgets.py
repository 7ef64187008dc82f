"""Interactive views: what is picked on a map or a slider is what is drawn and said."""

import io
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from soilkit.errors import ContractError, UnknownNameError
from soilkit.export.join import fate_of
from soilkit.models.training.checkpoint import write_atomic
from soilkit.show import web_maps, widgets


def places(**changes):
    table = pd.DataFrame(
        {"station_id": ["N__A", "N__B"], "latitude": [30.0, 31.0], "longitude": [-98.0, -99.0]}
    )
    return table.assign(**changes)


def explorer(drawn):
    def draw(station_id):
        drawn.append(station_id)
        figure = Figure(figsize=(1, 1))
        figure.subplots().set_title(station_id)
        return figure

    return widgets.StationExplorer(places(), draw, basemap=None)


def touch(dots, station_id, kind="click"):
    feature = {"properties": {"station_id": station_id}}
    dots.layer._handle_mouse_events(None, {"event": kind, "feature": feature}, None)


def test_a_click_on_a_dot_draws_that_station_once():
    """Map and list show one choice; the figure follows it, and is a PNG."""
    drawn = []
    view = explorer(drawn)
    assert drawn == ["N__A"]
    touch(view.dots, "N__B")
    assert drawn == ["N__A", "N__B"]
    assert view.dots.choice.value == "N__B"
    assert view.dots.ring.location == [31.0, -99.0]
    assert bytes(view.picture.value).startswith(b"\x89PNG")


def test_the_list_moves_the_map():
    """Whoever cannot click a map picks in the list, by mouse or keyboard."""
    view = explorer([])
    view.dots.choice.value = "N__B"
    assert view.dots.ring.location == [31.0, -99.0]


def test_a_dot_under_the_mouse_says_its_name_and_no_name_is_a_script():
    view = widgets.StationExplorer(places(station_id=["N__A", "<b>"]), lambda _: Figure((1, 1)),
                                   basemap=None)  # fmt: skip
    touch(view.dots, "<b>", kind="mouseover")
    assert view.dots.name.value == "&lt;b&gt;"


def test_stations_in_one_place_fan_out_until_a_zoom_parts_them():
    """Three probes' stations within 11 m: apart on the map, their mean unmoved; one alone stays."""
    table = places().loc[[0, 0, 0, 1]].assign(station_id=list("abcd"))
    table["latitude"] += [0.0, 0.0001, 0.0, 0.0]
    drawn = web_maps.fanned(table, zoom=6)
    assert len(drawn[["latitude", "longitude"]].round(6).drop_duplicates()) == 4
    pixel_deg = 360 / 256 / 2**6
    assert np.hypot(*drawn[["latitude", "longitude"]].diff().iloc[1]) > 8 * pixel_deg
    assert drawn["longitude"].iloc[:3].mean() == pytest.approx(-98.0, abs=1e-6)
    assert drawn.iloc[3][["latitude", "longitude"]].tolist() == [31.0, -99.0]


def test_a_slider_moves_through_the_samples_of_the_station():
    """Its rows in order of time, with their ages; a station without a sample says so."""
    drawn = []
    samples = pd.DataFrame({
        "station_id": ["N__A"] * 3, "sample_id": ["c", "a", "b"],
        "time": pd.to_datetime(["2020-05-03", "2020-05-01", "2020-05-02"]),
        "sentinel1_age_hours": [0.5, 0.25, 0.5], "dem_age_hours": np.nan,
        "sentinel2_age_hours": [48.0, 24.0, 36.0],
    })  # fmt: skip

    def draw(row):
        drawn.append(row["sample_id"].item())
        return Figure((1, 1))

    view = widgets.StationExplorer(
        places(), lambda _: Figure((1, 1)), samples=samples, draw_sample=draw, basemap=None
    )
    assert (view.sample.max, drawn) == (2, ["a"])
    view.sample.value = 2
    assert drawn == ["a", "c"]
    assert "3 of 3: 2020-05-03 00:00 UTC" in view.message.value
    assert "sentinel2 2.0 d" in view.message.value and "dem" not in view.message.value
    view.select("N__B")
    assert view.message.value == "This station has no sample." and view.sample.disabled
    assert view.chips.value == b""
    view.select("N__A")
    assert drawn[-1] == "a" and bytes(view.chips.value).startswith(b"\x89PNG")


def test_a_picture_is_laid_out_and_drawn_once():
    """The title stands inside, as constrained layout puts it, and a white rim is cut off."""
    figure, axis = plt.subplots(figsize=(3, 2), layout="constrained")
    axis.set_title("a line\nof words")
    drawn = []
    axis.draw = lambda renderer, draw=axis.draw: (drawn.append(1), draw(renderer))
    picture = web_maps.png(figure)
    width, height = Image.open(io.BytesIO(picture)).size
    assert 2.5 < width / web_maps.DPI <= 3 and 1.5 < height / web_maps.DPI <= 2
    assert len(drawn) == 1 and not plt.fignum_exists(figure.number)
    assert axis.title.get_window_extent().y1 <= 2 * web_maps.DPI


def test_an_unknown_station_is_refused_by_name():
    """A misspelt station must not leave the old picture standing as if it were the new one."""
    with pytest.raises(UnknownNameError, match="N__C"):
        explorer([]).select("N__C")


def test_stations_without_coordinates_are_refused():
    """A map of nothing would be an empty box without a word."""
    with pytest.raises(ContractError, match="coordinates"):
        widgets.StationExplorer(places(latitude=float("nan")), lambda _: Figure())


def test_all_stations_are_on_the_map_when_it_opens():
    """Two stations a degree apart fit 380 pixels at zoom 8 and not at 9 (256 x 2^z a globe)."""
    centre, zoom = web_maps._centre_and_zoom(places())
    assert centre == [30.5, -98.5]
    assert zoom == 8
    wide = places(longitude=[-124.0, -67.0])
    assert web_maps._centre_and_zoom(wide)[1] == 4


# ---- the join inspector -------------------------------------------------------------------------


def inspector():
    """Six hourly readings; the radar passes at 2:30, optics of two days before are half cloudy."""
    day = pd.Timestamp("2020-06-03")
    sensor = "N__A__P__0.05__0.05"
    stations = places().iloc[:1].assign(
        sensor_id=sensor, network="N", station="A", elevation_m=1.0, depth_from_m=0.05,
        depth_to_m=0.05, land_cover="", koeppen="", texture="",
    )  # fmt: skip
    hours = pd.date_range(day, periods=6, freq="h").astype("datetime64[us]")
    readings = pd.DataFrame({"time": hours, "soil_moisture_m3_m3": 0.2, "flag": "G"})
    readings["sensor_id"] = pd.Categorical([sensor] * 6)
    rows = [("sentinel1", "r", day + pd.Timedelta("150min"), np.nan),
            ("sentinel2", "o", day - pd.Timedelta("2D"), 0.5)]  # fmt: skip
    scenes = pd.DataFrame(rows, columns=["source", "scene_id", "end", "cloud_fraction"])
    scenes["end"] = scenes["end"].astype("datetime64[us]")
    scenes = scenes.assign(start=scenes["end"], station_id="N__A", orbit="", valid_fraction=1.0)
    bounds = {"sentinel1": pd.Timedelta("1h"), "sentinel2": pd.Timedelta("14D")}
    clouds = {"sentinel2": 0.3}
    view = widgets.JoinInspector(
        readings, scenes, stations, bounds=bounds, max_cloud_fraction=clouds, label="made up"
    )
    return view, partial(fate_of, observations=readings, scenes=scenes, stations=stations)


def test_the_inspector_says_why_a_reading_was_dropped_and_a_slider_saves_it():
    view, fate = inspector()
    view.reading.value = 3  # half an hour after the pass
    assert "sentinel2: none" in view.message.value and "03:00" in view.message.value
    before = view.funnel.value
    view.clouds["sentinel2"].value = 0.6
    assert "a sample, sentinel1 0.5 h old" in view.message.value
    assert view.funnel.value != before and "1 of 6 readings become samples" in view.funnel.value
    assert "1 left" in view.funnel.value and "5 lost" in view.funnel.value
    view.reading.value = 0
    assert "dropped, sentinel1: none" in view.message.value
    view.bounds["sentinel1"].value = pd.Timedelta("4h")
    view.reading.value = 4
    assert "another reading is closer" in view.message.value


# ---- the training watch --------------------------------------------------------------------------


def pretend(path, steps):
    """Write a history as a training does, a validation a tenth of a second; go on where it was."""
    rows = widgets._state(path)[0].to_dict("records")
    for k in range(len(rows), steps):
        rows.append({"step": 10 * k, "epoch": k, "learning_rate": 0.1, "loss": 0.1 / (k + 1),
                     "score": 0.3 / (k + 1)})  # fmt: skip
        state = {"history": rows, "identity": {"settings": {"steps": 10 * steps}}}
        write_atomic(path.with_suffix(".resume.pt"), state)
        time.sleep(0.1)
    if steps < 3:
        raise ValueError("too few steps")


def wait(view, until):
    end = time.monotonic() + 300
    while not until() and time.monotonic() < end:
        time.sleep(0.2)
        view.update()
    assert until()


def test_a_training_is_watched_stopped_and_taken_up_again(tmp_path):
    """The curve grows while it runs; what stands after a stop is where the next start goes on."""
    path = tmp_path / "fusion.pt"
    view = widgets.TrainingWatch(partial(pretend, path, 10_000), path, title="made up")
    assert view.go.description == "start" and view.halt.disabled
    empty = view.picture.value
    view.start()
    wait(view, lambda: len(view._history) >= 2)
    assert view.picture.value != empty and view.go.disabled and not view.halt.disabled
    assert " of 100,000, about " in view.message.value and " left" in view.message.value
    view.stop()
    kept = len(view._history)
    assert view.go.description == "resume" and "stopped; not running" in view.message.value
    done = widgets.TrainingWatch(partial(pretend, path, kept + 2), path)
    done.start()
    wait(done, lambda: done.message.value.startswith("done"))
    assert len(done._history) == kept + 2


def test_a_training_that_fails_says_why(tmp_path):
    view = widgets.TrainingWatch(partial(pretend, tmp_path / "a.pt", 1), tmp_path / "a.pt")
    view.start()
    wait(view, lambda: "failed: ValueError: too few steps" in view.message.value)
    assert not view.go.disabled


# ---- the evaluation browser ----------------------------------------------------------------------


def test_stratum_class_and_metric_move_map_and_table(monkeypatch):
    n = 12
    stations = pd.DataFrame({
        "sensor_id": [f"N__{k}__P" for k in range(n)], "station_id": [f"N__{k}" for k in range(n)],
        "network": "N", "latitude": 30.0 + np.arange(n) % 4 * 2.5,
        "longitude": -100.0 + np.arange(n) // 4 * 2.5,
        "texture": ["Loam", "Clay"] * 6, "land_cover": ["crops"] * n,
    })  # fmt: skip
    scores = stations[["sensor_id", "station_id", "network"]].assign(
        model="ours", split="test", r=np.linspace(0.1, 0.9, n), ubrmse_m3_m3=0.05,
        rmse_m3_m3=0.06, bias_m3_m3=0.01, n=50, n_effective=20.0, status="ok",
    )  # fmt: skip
    view = widgets.EvaluationBrowser(
        scores, stations, strata=["texture", "land_cover"], label="made up"
    )
    assert "Loam" in view.table.value and view.klass.options == ("all", "Clay", "Loam")
    seen, drawn, draw = {bytes(view.picture.value)}, [], widgets.plots.station_map
    count = lambda *tables, **words: (drawn.append(1), draw(*tables, **words))[1]  # noqa: E731
    monkeypatch.setattr(widgets.plots, "station_map", count)
    view.klass.value = "Clay"
    seen.add(bytes(view.picture.value))
    view.metric.value = "bias_m3_m3"
    seen.add(bytes(view.picture.value))
    view.stratum.value = "land_cover"
    seen.add(bytes(view.picture.value))
    assert len(seen) == 4 and "crops" in view.table.value
    assert len(drawn) == 3, "one picture a move: a stratum draws but once, whatever its class"


# ---- the world -----------------------------------------------------------------------------------


def test_a_click_on_the_world_shows_what_stands_there(monkeypatch):
    from soilkit.world import World

    world = World(seed=0, n_stations=4, start="2019-05-20", end="2019-07-01")
    drawn = []

    def draw(_, place, *, time, title):
        drawn.append((*place, time))
        return Figure((1, 1))

    monkeypatch.setattr(widgets.plots, "world_place", draw)
    view = widgets.WorldView(world, days=["2019-06-01T12", "2019-06-15T12"])
    event = {"event": "interaction", "type": "click", "coordinates": [38.0, -98.0]}
    view.map._handle_leaflet_event(None, event, [])
    view.day.value = "2019-06-15T12"
    assert drawn[1:] == [(-98.0, 38.0, "2019-06-01T12"), (-98.0, 38.0, "2019-06-15T12")]
    view.place.value = "north of here"
    assert len(drawn) == 3 and "Wanted latitude" in view.message.value
    view.place.value = "36, -97.5"
    assert drawn[-1] == (-97.5, 36.0, "2019-06-15T12")
    view.dots.choice.value = view.dots.choice.options[2]  # by keyboard
    assert drawn[-1][:2] == pytest.approx(
        view.dots.places.loc[view.dots.choice.value, ["longitude", "latitude"]], abs=5e-4
    )
