"""Interactive views for JupyterLab; each draws with the same function as its static twin."""

import asyncio
import io
import multiprocessing
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as ipw
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from soilkit import metrics
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export import join
from soilkit.metrics.scores import classes_of
from soilkit.show import map_views, plots
from soilkit.show.plots import outlines, overlay
from soilkit.show.plots.style import class_name, escape

HEIGHT_PX, WIDTH_PX = 380, 700  # the width is what a narrow notebook leaves
SCALE_PX = 400  # the width of a colour bar and of a slider with a long day
PICKED, OTHER = "#d7301f", "#2b8cbe"
APART_PX, MOST_FANNED = 12, 8  # dots nearer than this fan out, unless a zoom has to part them
OUTLINES_DEG = 15.0  # around a map, as far as it may be moved
BOUND_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
STATIC = pd.Timedelta("3650D")  # a bound from which a source counts as without time


def _picture(**look: Any) -> ipw.Image:
    return ipw.Image(format="png", layout=ipw.Layout(max_width="100%", **look))


class StationExplorer(ipw.VBox):
    """Pick a station on a map or in a list, and see its figure.

    Raises ``ContractError`` if no station has coordinates.

    Parameters
    ----------
    stations : stations table (latitude and longitude in WGS84 degrees)
    draw : function from a ``station_id`` to a matplotlib figure; call it yourself for the picture
        that stays in a printed report
    basemap : name of a leafmap basemap, or None for coasts and borders that need no network
    """

    def __init__(
        self, stations: pd.DataFrame, draw: Callable[[str], Figure], *,
        basemap: str | None = "OpenTopoMap",
    ) -> None:  # fmt: skip
        places = stations.drop_duplicates("station_id").dropna(subset=["latitude", "longitude"])
        if places.empty:
            raise ContractError(
                "No station has coordinates, so there is nothing to show on a map: "
                "fill latitude and longitude of the stations table."
            )
        self._draw = draw
        self.picture = _picture()
        names = sorted(places["station_id"].astype(str))
        self.choice = ipw.Dropdown(options=names, description="station")
        self.map = _map(places, basemap)
        self.dots = Dots(self.map, places, self.select)
        self.choice.observe(lambda change: self.select(change["new"]), names="value")
        super().__init__([self.map, self.choice, self.picture])
        self.select(names[0])

    def select(self, station_id: str) -> None:
        """Show one station: a ring marks it on the map, and its figure appears below."""
        self.dots.mark(station_id)
        if self.choice.value != station_id:
            self.choice.value = station_id  # comes back here through observe
            return
        self.picture.value = _png(self._draw(station_id))


class Dots:
    """Stations as one layer of dots: a name under the mouse, a ring around the one picked.

    Dots that would lie on each other fan out at each zoom; so many that a fan would misplace them
    stay where they are until a zoom parts them. ``places`` (index: station_id) are the true ones,
    ``shown`` those drawn.
    """

    def __init__(
        self, view: Any, stations: pd.DataFrame, on_pick: Callable[[str], None] | None = None
    ) -> None:
        from ipyleaflet import CircleMarker, GeoJSON, WidgetControl

        places = stations.drop_duplicates("station_id").dropna(subset=["latitude", "longitude"])
        self.places = places.astype({"station_id": str}).set_index("station_id")
        self._view, look = view, {"radius": 5, "color": OTHER, "fillColor": OTHER, "weight": 1}
        self.layer = GeoJSON(point_style=look | {"fillOpacity": 0.7}, hover_style={"weight": 4})
        self._fan()
        self.name = ipw.HTML("point at a station")
        self.ring = CircleMarker(location=(0.0, 0.0), radius=9, color=PICKED, fill_opacity=0.0)
        self.layer.on_hover(lambda feature, **_: self._name(feature["properties"]["station_id"]))
        if on_pick is not None:
            self.layer.on_click(lambda feature, **_: on_pick(feature["properties"]["station_id"]))
        view.add(self.layer)
        view.add(WidgetControl(widget=self.name, position="topright"))
        view.observe(lambda _: self._fan(), names="zoom")

    def mark(self, station_id: str) -> None:
        """Put the ring around a station; ``UnknownNameError`` if it is not on the map."""
        if station_id not in self.places.index:
            raise UnknownNameError(f"No station {station_id!r} on this map.")
        self.ring.location = tuple(self.shown.loc[station_id, ["latitude", "longitude"]])
        if self.ring not in self._view.layers:
            self._view.add(self.ring)
        self._name(station_id)

    def _name(self, station_id: str) -> None:
        self.name.value = escape(station_id)

    def _fan(self) -> None:
        self.shown = fanned(self.places, zoom=self._view.zoom)
        features = [
            {
                "type": "Feature", "properties": {"station_id": row.Index},
                "geometry": {"type": "Point", "coordinates": [row.longitude, row.latitude]},
            }
            for row in self.shown[["latitude", "longitude"]].astype(float).itertuples()
        ]  # fmt: skip
        self.layer.data = {"type": "FeatureCollection", "features": features}


def fanned(places: pd.DataFrame, *, zoom: float) -> pd.DataFrame:
    """Places (latitude, longitude, degrees) of which few that a map's zoom draws as one part.

    Up to eight within 12 pixels are set on a circle around their mean.
    """
    stretch = np.cos(np.radians(places["latitude"].astype(float)))
    pixel_deg = 360 / (256 * 2.0**zoom)  # of longitude
    cell_deg = APART_PX * pixel_deg
    cells = [
        np.floor(places["longitude"] / cell_deg), np.floor(places["latitude"] / stretch / cell_deg),
    ]  # fmt: skip
    group = places.groupby(cells)["latitude"]
    size, number = group.transform("size"), group.cumcount()
    turn = 2 * np.pi * number / size
    radius_deg = np.where((size > 1) & (size <= MOST_FANNED), (6 + 2 * size) * pixel_deg, 0.0)
    return places.assign(
        longitude=places["longitude"] + radius_deg * np.sin(turn),
        latitude=places["latitude"] + radius_deg * stretch * np.cos(turn),
    )


class JoinInspector(ipw.VBox):
    """Why was this reading dropped? Move a bound and see which readings stay.

    ``plots.station_record`` and ``plots.join_funnel`` draw the pictures that stay in a report.

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
        self._of_station = self._scenes.groupby("station_id", observed=True).indices
        self._of_sensor = observations.groupby("sensor_id", observed=True).indices
        self._static = {s: b for s, b in bounds.items() if b >= STATIC}
        self.bounds = {
            source: ipw.SelectionSlider(
                options=[(join.in_words(_us(bound * k)), bound * k) for k in BOUND_FACTORS],
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
        self.reading = ipw.IntSlider(
            description="reading", readout=False, continuous_update=False,
            layout=ipw.Layout(width="95%"),
        )  # fmt: skip
        self.message, self.picture, self.funnel = ipw.HTML(), _picture(), _picture()
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
        joined = join.anchored_join(self._observations, self._scenes, self._stations, **self.rules)
        n = len(joined.samples)
        title = f"{n:,} of {len(self._observations):,} readings become samples ({self._label})"
        self.funnel.value = _png(plots.join_funnel(joined.samples, joined.drops, title=title))
        self._draw_sensor()

    def _draw_sensor(self) -> None:
        sensor = self.sensor.value
        rows = self._stations["sensor_id"].astype(str) == sensor
        self._station = self._stations[rows]
        station = str(self._station["station_id"].iloc[0])
        self._passes = self._scenes.iloc[self._of_station.get(station, [])]
        self._readings = self._observations.iloc[self._of_sensor[sensor]]
        joined = join.anchored_join(self._readings, self._passes, self._station, **self.rules)
        title = f"{sensor}: {len(joined.samples)} of {len(self._readings):,} readings stay"
        self.picture.value = _png(
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
        self._ending = ""
        self.go = ipw.Button(description="start", icon="play")
        self.halt = ipw.Button(description="stop", icon="stop", disabled=True)
        self.message, self.picture = ipw.HTML(), _picture()
        self.go.on_click(lambda _: self.start())
        self.halt.on_click(lambda _: self.stop())
        super().__init__([ipw.HBox([self.go, self.halt, self.message]), self.picture])
        self._stamp, self._history = -1, pd.DataFrame()
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
        history = _history(self._path) if self._has_written() else self._history
        n = len(history)
        step = int(history["step"].iloc[-1]) if n else 0
        if self._answer is not None and not runs:
            try:
                self._ending = f"{self._answer.recv()}; "
            except EOFError:  # killed, by the button or by the system
                self._ending = "stopped; "
            self._answer = None
        words = "running" if runs else f"{self._ending}not running"
        self.message.value = escape(f"{words}, {n} validations, step {step:,}")
        self.go.disabled, self.halt.disabled = runs, not runs
        self.go.description = "resume" if n else "start"
        if history is not self._history:
            self._history = history
            self.picture.value = _png(plots.training_curve(history, title=self._title))

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
    except Exception as error:  # whatever it was, the reader has to see it
        sender.send(f"failed: {type(error).__name__}: {error}")
    else:
        sender.send("done")


def _history(path: Path) -> pd.DataFrame:
    """The rows that a training has written so far."""
    from soilkit.models.training.checkpoint import read_plain

    state = path.with_suffix(".resume.pt")
    rows = read_plain(state)["history"] if state.exists() else []
    return pd.DataFrame(rows, columns=["step", "epoch", "learning_rate", "loss", "score"])


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

    METRICS = ("r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")

    def __init__(
        self, scores: pd.DataFrame, stations: pd.DataFrame, *, strata: list[str], label: str
    ) -> None:
        self._scores, self._stations, self._label = scores, stations, label
        self._tables: dict[tuple[str, ...], pd.DataFrame] = {}
        names = plots.style.names_of(scores)
        self._names = names
        self.model = ipw.Dropdown(options=list(dict.fromkeys(names)), description="model")
        heads = [(class_name(by), by) for by in strata]
        self.stratum = ipw.Dropdown(options=heads, description="stratum")
        self.klass = ipw.Dropdown(description="class")
        words = [(plots.style.label(m), m) for m in self.METRICS if m in scores]
        self.metric = ipw.Dropdown(options=words, description="metric")
        self.picture, self.table = _picture(), ipw.HTML()
        controls = [self.model, self.stratum, self.klass, self.metric]
        super().__init__(
            [ipw.HBox(controls, layout=ipw.Layout(flex_flow="row wrap")), self.picture, self.table]
        )
        self._fill()
        for control in (self.model, self.stratum):
            control.observe(lambda _: self._fill(), names="value")
        for control in (self.klass, self.metric):
            control.observe(lambda _: self._draw(), names="value")

    def _fill(self) -> None:
        """A new table of classes; the map follows."""
        by, model = self.stratum.value, self.model.value
        rows = self._scores[self._names == model]
        if (model, by) not in self._tables:
            self._tables[model, by] = metrics.summarize(rows, self._stations, by=by)
        self._rows, table = rows, self._tables[model, by]
        self._classes = classes_of(rows, self._stations, by=by).astype(str)
        self.klass.options = ["all", *sorted(self._classes.unique())]
        text = plots.class_table(table, by).to_html(index=False, escape=True, border=0)
        self.table.value = text
        self._draw()

    def _draw(self) -> None:
        rows, chosen = self._rows, self.klass.value or "all"
        if chosen != "all":
            rows = rows[self._classes == chosen]
        title = f"{self.model.value}, {chosen} ({rows['station_id'].nunique()} stations; "
        figure = plots.station_map(
            rows, self._stations, metric=self.metric.value, title=f"{title}{self._label})"
        )
        self.picture.value = _png(figure)


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
        self.day = ipw.SelectionSlider(options=options, description="day", continuous_update=False)
        first = "{0.latitude:.3f}, {0.longitude:.3f}".format(stations.iloc[0])
        words = {"description": "place", "placeholder": "latitude, longitude"}
        self.place = ipw.Text(first, continuous_update=False, **words)
        self.message, self.picture = ipw.HTML(), _picture()
        try:
            self.map = _map(stations, None)
        except ImportError:
            self.map = ipw.HTML("There is no ipyleaflet here, so no map: type a place.")
        else:
            self.dots = Dots(self.map, stations)
            self.map.on_interaction(partial(_on_click, self.pick))
        for control in (self.day, self.place):
            control.observe(lambda _: self._draw(), names="value")
        controls = ipw.HBox([self.place, self.day])
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
        self.picture.value = _png(figure)


class MapView(ipw.VBox):
    """A map to move: choose a day and a layer, and click a cell to see it through time.

    One layer at a time, opaque: two that shine through each other show neither.
    ``map_views.map_page`` and ``map_views.cell_series`` draw the pictures that stay in a printed
    report.

    Parameters
    ----------
    dataset : map of ``models.maps``, of (y, x) or (time, y, x)
    stations : table with ``station_id``, ``latitude`` and ``longitude``, marked on the map
    basemap : name of a leafmap basemap, or None for coasts and borders that need no network
    """

    def __init__(
        self, dataset: xr.Dataset, *, stations: pd.DataFrame | None = None,
        basemap: str | None = None,
    ) -> None:  # fmt: skip
        from ipyleaflet import CircleMarker, ImageOverlay

        self._dataset, self._days = dataset, map_views.days_of(dataset)
        names = [map_views.day_words(time) for time in self._days["time"].values]
        self.day = ipw.SelectionSlider(
            options=[*zip(names, range(len(names)), strict=True)], description="day",
            continuous_update=False, layout=ipw.Layout(width=f"{SCALE_PX}px"),
        )  # fmt: skip
        layers = [(words, name) for name, words in map_views.layers_of(self._days).items()]
        self.layer = ipw.Dropdown(options=layers, description="layer")
        self.scale, self.picture = _picture(width=f"{SCALE_PX}px"), _picture(width=f"{WIDTH_PX}px")
        self.message = ipw.HTML("Click a cell to see it through time.")
        self.image = ImageOverlay()
        self._draw()
        corners = pd.DataFrame(self.image.bounds, columns=["latitude", "longitude"])
        self.map = _map(corners, basemap)
        self.map.add(self.image)
        if stations is not None:  # on the side of the antimeridian on which the map is drawn
            away = stations["longitude"] - corners["longitude"].mean()
            turned = stations["longitude"] - 360 * (away / 360).round()
            self.dots = Dots(self.map, stations.assign(longitude=turned))
        self._picked = CircleMarker(location=(0.0, 0.0), radius=7, color=PICKED, fill_opacity=0.0)
        for control in (self.day, self.layer):
            control.observe(lambda _: self._draw(), names="value")
        self.map.on_interaction(partial(_on_click, self.pick))
        controls = ipw.HBox([self.day, self.layer])
        title = ipw.HTML(f"<b>{escape(map_views.heading_of(dataset))}</b>")
        super().__init__([title, controls, self.map, self.scale, self.message, self.picture])

    def pick(self, longitude: float, latitude: float) -> None:
        """Mark a place and show its cell through time; outside the map, words say so."""
        try:
            figure = map_views.cell_series(self._dataset, longitude=longitude, latitude=latitude)
        except ContractError as error:
            self.message.value = escape(str(error))
            return
        self.message.value = ""
        self._picked.location = (latitude, longitude)
        if self._picked not in self.map.layers:
            self.map.add(self._picked)
        self.picture.value = _png(figure)

    def _draw(self) -> None:
        name = self.layer.value
        values = self._days[name]
        limits, cmap, unit = map_views.scale_of(name, values)
        words = f"{map_views.layers_of(self._days)[name]} [{unit}]"
        grid = map_views.grid_of(self._dataset)
        drawn = overlay(values[self.day.value].values, grid, limits=limits, cmap=cmap)
        self.image.url, self.image.bounds = drawn
        self.scale.value = _png(map_views.colour_scale(limits, cmap, words=words))


def _on_click(act: Callable[[float, float], None], **event: Any) -> None:
    """Hand a click on a map to a function of longitude and latitude."""
    if event.get("type") == "click":
        latitude, longitude = event["coordinates"]
        act(longitude, latitude)


def _us(length: pd.Timedelta) -> int:
    return int(length / pd.Timedelta("1us"))


def _map(places: pd.DataFrame, basemap: str | None) -> Any:
    """A map that shows all places; without a basemap it asks the network for nothing."""
    from ipyleaflet import Map, Polyline, ScaleControl

    centre, zoom = _centre_and_zoom(places)
    look = {"center": centre, "zoom": zoom, "scroll_wheel_zoom": True}
    if basemap is not None:
        import leafmap

        view = leafmap.Map(height=f"{HEIGHT_PX}px", draw_control=False, **look)
        view.add_basemap(basemap)
        return view
    view = Map(layout=ipw.Layout(height=f"{HEIGHT_PX}px"), attribution_control=False, **look)
    view.layers = ()
    view.add(ScaleControl(position="bottomleft", imperial=False))
    latitude, longitude = centre
    window = (longitude - OUTLINES_DEG, latitude - OUTLINES_DEG,
              longitude + OUTLINES_DEG, latitude + OUTLINES_DEG)  # fmt: skip
    for kind, grey in {"land": "#555555", "border": "#999999"}.items():
        lines = [line[:, ::-1].tolist() for line in outlines.lines_in(kind, window)]
        if lines:
            view.add(Polyline(locations=lines, color=grey, weight=1, fill=False))
    return view


def _centre_and_zoom(places: pd.DataFrame) -> tuple[list[float], int]:
    """The middle of the stations, and the deepest zoom at which all of them are on the map.

    At zoom z the whole globe is 256 x 2^z pixels wide; the map knows its own size only once shown.
    """
    extent = places[["latitude", "longitude"]].astype(float).agg(["min", "max"])
    middle = extent.mean()
    height_deg, width_deg = (extent.loc["max"] - extent.loc["min"]).clip(lower=0.01)
    stretch = np.cos(np.radians(middle["latitude"]))  # 1 / how much taller Mercator draws it
    fits = min(WIDTH_PX / width_deg, HEIGHT_PX * stretch / height_deg) * 360 / 256
    return [middle["latitude"], middle["longitude"]], int(np.clip(np.log2(fits), 1, 13))


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)  # the widget shows it, not pyplot
    return buffer.getvalue()
