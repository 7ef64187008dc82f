"""Interactive views for JupyterLab; each draws with the same function as its static twin."""

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as ipw
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from soilkit import metrics
from soilkit.errors import ContractError
from soilkit.export import join
from soilkit.metrics.scores import classes_of
from soilkit.show import plots
from soilkit.show.plots.style import METRIC_LABELS, class_name, escape
from soilkit.show.web_maps import Dots, map_of, on_click, picture_box, png
from soilkit.show.web_maps import MapView as MapView

BOUND_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
FUNNEL_ROW = """<tr><td>{0}</td><td style="width: 24em"><div role="presentation" style="background:
#0072B2; height: 0.7em; width: {3:.1%}"></div></td><td>{1:,} left</td><td>{2:,} lost</td></tr>"""
STATIC = pd.Timedelta("3650D")  # a bound from which a source counts as without time


class StationExplorer(ipw.VBox):
    """Pick a station on a map or in a list, and see its figure; move through its samples.

    Raises ``ContractError`` if no station has coordinates.

    Parameters
    ----------
    stations : stations table (latitude and longitude in WGS84 degrees)
    draw : function from a ``station_id`` to a matplotlib figure, such as ``plots.station_record``;
        call it yourself for the picture that stays in a printed report
    samples, draw_sample : samples table, and a function from one row of it to a figure, such as
        ``plots.sample_gallery`` of its chips; both or neither
    basemap : name of a leafmap basemap, or None for coasts and borders that need no network
    """

    def __init__(
        self, stations: pd.DataFrame, draw: Callable[[str], Figure], *,
        samples: pd.DataFrame | None = None,
        draw_sample: Callable[[pd.DataFrame], Figure] | None = None,
        basemap: str | None = "OpenTopoMap",
    ) -> None:  # fmt: skip
        places = stations.drop_duplicates("station_id").dropna(subset=["latitude", "longitude"])
        if places.empty:
            raise ContractError(
                "No station has coordinates, so there is nothing to show on a map: "
                "fill latitude and longitude of the stations table."
            )
        self._draw, self._draw_sample = draw, draw_sample
        self.picture, self.chips, self.message = picture_box(), picture_box(), ipw.HTML()
        self.map = map_of(places, basemap)
        self.dots = Dots(self.map, places, self._show)
        parts = [self.map, self.dots.choice, self.picture]
        if samples is not None and draw_sample is not None:
            self._samples = samples.sort_values("time", ignore_index=True)
            self._of_station = self._samples.groupby("station_id", observed=True).indices
            self.sample = _row_slider("sample")
            self.sample.observe(lambda _: self._show_sample(), names="value")
            parts += [self.sample, self.message, self.chips]
        super().__init__(parts)
        self.select(min(self.dots.places.index))

    def select(self, station_id: str) -> None:
        """Show one station: a ring marks it on the map, and its figure appears below."""
        self.dots.mark(station_id)
        self.dots.choice.value = station_id  # comes back as ``_show`` where it is another one

    def _show(self, station_id: str) -> None:
        self.dots.mark(station_id)
        self.picture.value = png(self._draw(station_id))
        if self._draw_sample is not None:
            self._rows = self._samples.iloc[self._of_station.get(station_id, [])]
            self.sample.max = max(len(self._rows) - 1, 0)
            self.sample.disabled = len(self._rows) < 2
            self._show_sample()

    def _show_sample(self) -> None:
        """What the satellites had seen at the sample on which the slider stands."""
        row = self._rows.iloc[[self.sample.value]] if len(self._rows) else self._rows
        if row.empty or self._draw_sample is None:
            self.message.value, self.chips.value = "This station has no sample.", b""
            return
        ages = row.filter(like="_age_hours").iloc[0].dropna() / 24
        words = [f"{k.removesuffix('_age_hours')} {days:.1f} d" for k, days in ages.items()]
        when = f"{row['time'].iloc[0]:%Y-%m-%d %H:%M} UTC, ages {', '.join(words)}"
        self.message.value = escape(f"{self.sample.value + 1} of {len(self._rows)}: {when}")
        self.chips.value = png(self._draw_sample(row))


class JoinInspector(ipw.VBox):
    """Why was this reading dropped? Move a bound and see which readings stay.

    ``plots.station_record`` and ``plots.join_funnel`` draw the pictures that stay in a report; the
    bars of the funnel that is moved are as long as the logarithm of what is left.

    Parameters
    ----------
    observations, scenes, stations : tables of those contracts
    bounds, max_cloud_fraction : of ``join.anchored_join``, from which the sliders start
    label : what the data are, for titles
    """

    def __init__(
        self, observations: pd.DataFrame, scenes: pd.DataFrame, stations: pd.DataFrame, *,
        bounds: Mapping[str, pd.Timedelta], max_cloud_fraction: Mapping[str, float], label: str,
    ) -> None:  # fmt: skip
        self._observations, self._stations, self._label = observations, stations, label
        self._scenes = scenes.astype({"source": "category"})
        self._tables = join.JoinTables.of(observations, self._scenes, stations=stations)
        self._of_station = self._scenes.groupby("station_id", observed=True).indices
        self._of_sensor = observations.groupby("sensor_id", observed=True).indices
        self._static = {s: b for s, b in bounds.items() if b >= STATIC}
        self.bounds = {
            source: ipw.SelectionSlider(
                options=[(join.in_words(join.bound_us(source, bound * k)), bound * k)
                         for k in BOUND_FACTORS],
                value=bound, description=source, continuous_update=False,
            )
            for source, bound in bounds.items() if source not in self._static
        }  # fmt: skip
        self.clouds = {
            source: ipw.FloatSlider(
                value=most, min=0.0, max=1.0, step=0.05, description=f"{source}: cloud below",
                continuous_update=False, style={"description_width": "initial"},
            )
            for source, most in max_cloud_fraction.items()
        }  # fmt: skip
        names = [str(name) for name in self._of_sensor]
        self.sensor = ipw.Dropdown(options=names, description="sensor")
        self.reading = _row_slider("reading")
        self.message, self.picture, self.funnel = ipw.HTML(), picture_box(), ipw.HTML()
        controls = [*self.bounds.values(), *self.clouds.values()]
        super().__init__(
            [ipw.HBox(controls, layout=ipw.Layout(flex_flow="row wrap")), self.sensor,
             self.picture, self.reading, self.message, self.funnel]
        )  # fmt: skip
        self.sensor.observe(lambda _: self._draw_sensor(), names="value")
        self.reading.observe(lambda _: self._say(), names="value")
        for control in controls:
            control.observe(lambda _: self._draw(), names="value")
        self._draw()

    @property
    def rules(self) -> dict[str, Any]:
        """The join's options as the sliders stand."""
        bounds = {source: slider.value for source, slider in self.bounds.items()}
        clouds = {source: slider.value for source, slider in self.clouds.items()}
        return {"bounds": bounds | self._static, "max_cloud_fraction": clouds}

    def _draw(self) -> None:
        self._draw_sensor()
        kept, drops = self._tables.losses(**self.rules)
        n = len(self._observations)
        steps = plots.station_maps.funnel_steps(kept, drops)
        title = escape(f"{len(kept):,} of {n:,} readings become samples ({self._label})")
        columns = map(escape, steps["step"]), steps["left"], steps["lost"]
        rows = map(FUNNEL_ROW.format, *columns, np.log1p(steps["left"]) / np.log1p(n))
        self.funnel.value = f"<table><caption>{title}</caption>{''.join(rows)}</table>"

    def _draw_sensor(self) -> None:
        sensor = self.sensor.value
        self._station = self._stations[self._stations["sensor_id"].astype(str) == sensor]
        station = str(self._station["station_id"].iloc[0])
        self._passes = self._scenes.iloc[self._of_station.get(station, [])]
        readings = self._observations.iloc[self._of_sensor[sensor]]
        self._readings = readings.assign(sensor_id=pd.Categorical([sensor] * len(readings)))
        joined = join.anchored_join(self._readings, self._passes, self._station, **self.rules)
        title = f"{sensor}: {len(joined.samples)} of {len(self._readings):,} readings stay"
        self.picture.value = png(
            plots.station_record(
                self._readings, joined.samples, scenes=self._passes, station_id=station,
                sources=list(self.bounds)[:2], title=f"{title} ({self._label})",
            )
        )  # fmt: skip
        self.reading.max = len(self._readings) - 1
        self._say()

    def _say(self) -> None:
        time = self._readings["time"].iloc[self.reading.value]
        fate = join.fate_of(
            time, self._readings, scenes=self._passes, stations=self._station, **self.rules
        )
        self.message.value = escape(f"{time:%Y-%m-%d %H:%M} UTC: {fate}")


class TrainingWatch(ipw.VBox):
    """Start a training beside the notebook, see its curves, stop it and take it up again.

    The training runs in a process of its own; what is shown is the state that it writes at each
    validation, so that a stopped or killed run goes on there. ``plots.training_curve`` draws the
    picture that stays in a report.

    Parameters
    ----------
    train : function without arguments that trains and writes its state, such as a ``partial`` of
        ``xception_fusion.train`` with an ``out_dir``
    path : of the checkpoint that it writes
    title : of the picture
    """

    def __init__(self, train: Callable[[], Any], path: str | Path, *, title: str = "") -> None:
        self._train, self._path, self._title = train, Path(path), title
        self._process: Any = None
        self._task: Any = None
        self._answer: Any = None
        self._ending, self._begin = "", (0.0, 0)
        self.go = ipw.Button(description="start", icon="play")
        self.halt = ipw.Button(description="stop", icon="stop", disabled=True)
        self.message, self.picture = ipw.HTML(), picture_box()
        self.go.on_click(lambda _: self.start())
        self.halt.on_click(lambda _: self.stop())
        super().__init__([ipw.HBox([self.go, self.halt, self.message]), self.picture])
        self._stamp, self._history, self._n_steps = -1, pd.DataFrame(), 0
        self.update()

    def start(self) -> None:
        """Train, from the last state on if there is one, and follow it."""
        context = multiprocessing.get_context("spawn")
        self._answer, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(self._train, sender), daemon=True)
        self._process.start()
        sender.close()  # the other process holds its own: when that ends, so does the pipe
        self._ending = ""
        self.update()
        self._begin = time.monotonic(), self._step
        try:
            self._task = asyncio.get_running_loop().create_task(self._follow())
        except RuntimeError:  # no kernel: whoever holds the view calls ``update``
            self._task = None

    def stop(self) -> None:
        """End the process; what it learned until its last validation stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.join()
        self.update()

    def update(self) -> None:
        """Show what is known by now: curves, and whether it runs, is done or failed."""
        runs = self._process is not None and self._process.is_alive()
        history = self._history
        if self._has_written():
            history, self._n_steps = _state(self._path)
        n = len(history)
        self._step = int(history["step"].iloc[-1]) if n else 0
        if self._answer is not None and not runs:
            try:
                self._ending = f"{self._answer.recv()}; "
            except EOFError:  # killed, by the button or by the system
                self._ending = "stopped; "
            self._answer = None
        words = "running" if runs else f"{self._ending}not running"
        words += f", {n} validations, step {self._step:,}"
        words += f" of {self._n_steps:,}" if self._n_steps else ""
        self.message.value = escape(words + (self._time_left() if runs else ""))
        self.go.disabled, self.halt.disabled = runs, not runs
        self.go.description = "resume" if n else "start"
        if history is not self._history:
            self._history = history
            self.picture.value = png(plots.training_curve(history, title=self._title))

    def _time_left(self) -> str:
        """Words on it, from the steps since the start; none before the first validation."""
        began, first = self._begin
        done, left = self._step - first, self._n_steps - self._step
        if done <= 0 or left <= 0:
            return ""
        minutes = (time.monotonic() - began) / done * left / 60
        return f", about {minutes:.0f} min left" if minutes >= 1.5 else ", about a minute left"

    def _has_written(self) -> bool:
        """Whether the state on disk, which may be large, is another than the one shown."""
        state = self._path.with_suffix(".resume.pt")
        before, self._stamp = self._stamp, state.stat().st_mtime_ns if state.exists() else 0
        return self._stamp != before

    async def _follow(self, every_seconds: float = 1.0) -> None:
        while self._process.is_alive():
            await asyncio.sleep(every_seconds)
            self.update()
        self.update()


def _run(train: Callable[[], Any], sender: Any) -> None:
    """In the other process: train, and send one sentence on how it ended."""
    try:
        train()
        sender.send("done")
    except Exception as error:  # whatever it was, the reader has to see it
        sender.send(f"failed: {type(error).__name__}: {error}")


def _state(path: Path) -> tuple[pd.DataFrame, int]:
    """The rows that a training has written so far, and its steps in all (0: unknown)."""
    from soilkit.models.training.checkpoint import read_plain

    file = path.with_suffix(".resume.pt")
    state = read_plain(file) if file.exists() else {}
    columns = ["step", "epoch", "learning_rate", "loss", "score"]
    n_steps = state.get("identity", {}).get("settings", {}).get("steps", 0)
    return pd.DataFrame(state.get("history", []), columns=columns), int(n_steps)


class EvaluationBrowser(ipw.VBox):
    """Choose model, split, stratum, class and metric: map and table follow.

    ``plots.station_map`` and ``plots.class_table`` give what stays in a report.

    Parameters
    ----------
    scores : from ``metrics.station_scores``
    stations : table with places and a column for each of ``strata``
    strata : columns of classes
    label : what the data are, for titles
    """

    def __init__(
        self, scores: pd.DataFrame, stations: pd.DataFrame, *, strata: list[str], label: str
    ) -> None:
        self._scores, self._stations, self._label = scores, stations, label
        self._tables: dict[tuple[str, ...], pd.DataFrame] = {}
        self._names = plots.style.names_of(scores)
        self.model = ipw.Dropdown(options=[*dict.fromkeys(self._names)], description="model")
        heads = [(class_name(by), by) for by in strata]
        self.stratum = ipw.Dropdown(options=heads, description="stratum")
        self.klass = ipw.Dropdown(description="class")
        words = [(plots.style.label(m), m) for m in METRIC_LABELS if m in scores]
        self.metric = ipw.Dropdown(options=words, description="metric")
        self.picture, self.table = picture_box(), ipw.HTML()
        controls = [self.model, self.stratum, self.klass, self.metric]
        super().__init__(
            [ipw.HBox(controls, layout=ipw.Layout(flex_flow="row wrap")), self.picture, self.table]
        )
        for control in (self.model, self.stratum):
            control.observe(lambda _: self._fill(), names="value")
        for control in (self.klass, self.metric):
            control.observe(lambda _: self._draw(), names="value")
        self._fill()

    def _fill(self) -> None:
        """A new table of classes; the map follows."""
        by, model = self.stratum.value, self.model.value
        rows = self._scores[self._names == model]
        if (model, by) not in self._tables:
            self._tables[model, by] = metrics.summarize(rows, self._stations, by=by)
        self._rows, table = rows, self._tables[model, by]
        self._classes = classes_of(rows, self._stations, by=by).astype(str)
        before = self.klass.value
        self.klass.options = ["all", *sorted(self._classes.unique())]
        if self.klass.value == before:  # another value draws by itself, as every choice does
            self._draw()
        text = plots.class_table(table, by).to_html(index=False, escape=True, border=0)
        self.table.value = f'<div class="jp-RenderedHTMLCommon">{text}</div>'  # as other tables

    def _draw(self) -> None:
        rows, chosen = self._rows, self.klass.value or "all"
        if chosen != "all":
            rows = rows[self._classes == chosen]
        n = rows["station_id"].nunique()
        title = f"{self.model.value}, {chosen} ({n} stations; {self._label})"
        figure = plots.station_map(rows, self._stations, metric=self.metric.value, title=title)
        self.picture.value = png(figure)


class WorldView(ipw.VBox):
    """Click or type a place of the synthetic world: truth, radar, optics and SMAP there.

    ``plots.world_place`` draws the picture that stays in a report. Where ipyleaflet is absent, as
    in a browser without Python, the place is typed.

    Parameters
    ----------
    world : ``soilkit.world.World``
    days : moments to choose from, UTC
    """

    def __init__(self, world: Any, *, days: list[Any]) -> None:
        self._world = world
        stations = world.stations().drop_duplicates("station_id")
        options = [(f"{pd.Timestamp(day):%Y-%m-%d}", day) for day in days]
        wide = ipw.Layout(width="400px")  # room for a date
        self.day = ipw.SelectionSlider(
            options=options, description="day", continuous_update=False, layout=wide
        )
        first = "{0.latitude:.3f}, {0.longitude:.3f}".format(stations.iloc[0])
        words = {"description": "place", "continuous_update": False}
        self.place = ipw.Text(first, placeholder="latitude, longitude", **words)
        self.message, self.picture = ipw.HTML(), picture_box()
        try:
            self.map = map_of(stations, None)
        except ImportError:
            self.map = ipw.HTML("There is no ipyleaflet here, so no map: type a place.")
        else:
            self.dots = Dots(self.map, stations)
            self.map.on_interaction(partial(on_click, self.pick))
            self.dots.on_choice(self.pick)
        for control in (self.day, self.place):
            control.observe(lambda _: self._draw(), names="value")
        lists = [self.dots.choice] if hasattr(self, "dots") else []
        controls = ipw.HBox([self.place, *lists, self.day], layout=ipw.Layout(flex_flow="row wrap"))
        super().__init__([self.map, controls, self.message, self.picture])
        self._draw()

    def pick(self, longitude: float, latitude: float) -> None:
        """Show a place."""
        self.place.value = f"{latitude:.3f}, {longitude:.3f}"

    def _draw(self) -> None:
        """The place as typed; words where it is none, or outside the world's period."""
        try:
            latitude, longitude = map(float, self.place.value.split(","))
            words = f"{self.place.value} on {self.day.label} (synthetic)"
            figure = plots.world_place(
                self._world, (longitude, latitude), time=self.day.value, title=words
            )
        except (ValueError, ContractError) as error:
            self.message.value = escape(f"Wanted latitude, longitude: {error}")
            return
        self.message.value = "Click a place on the map, or type one."
        self.picture.value = png(figure)


def _row_slider(name: str) -> ipw.IntSlider:
    """A slider over rows of a table, which words beside it name."""
    look = {"readout": False, "continuous_update": False, "layout": ipw.Layout(width="95%")}
    return ipw.IntSlider(description=name, **look)
