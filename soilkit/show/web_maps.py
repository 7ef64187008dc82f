"""Maps to move in JupyterLab, and what every view shows: pictures, dots of stations, rings."""

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import ipywidgets as ipw
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import image, rc_context
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from soilkit.errors import ContractError, UnknownNameError
from soilkit.show import map_views
from soilkit.show.plots import outlines, overlay
from soilkit.show.plots.style import escape

HEIGHT_PX, WIDTH_PX = 380, 700  # the width is what a narrow notebook leaves
DPI, RIM_PX = 110, 8
CHUNK = 500  # points of a line drawn at a time: a long noisy one is slow as a whole
SCALE_PX = 400  # the width of a colour bar and of a slider with a long day
PICKED, OTHER = "#d7301f", "#2b8cbe"
APART_PX, MOST_FANNED = 12, 8  # dots nearer than this fan out, unless a zoom has to part them
OUTLINES_DEG = 15.0  # around a map, as far as it may be moved
PANES = {side: {"zIndex": 350} for side in ("left", "right")}  # below outlines and stations


def picture_box(**look: Any) -> ipw.Image:
    return ipw.Image(format="png", layout=ipw.Layout(max_width="100%", **look))


class Dots:
    """Stations as one layer of dots: a name under the mouse, a ring around the one picked.

    Dots that would lie on each other fan out at each zoom; so many that a fan would misplace them
    stay where they are until a zoom parts them. ``places`` (index: station_id) are the true ones,
    ``shown`` those drawn. ``choice`` is the list of their names, for whoever has no mouse.
    """

    def __init__(
        self, view: Any, stations: pd.DataFrame, on_pick: Callable[[str], None] | None = None
    ) -> None:
        from ipyleaflet import GeoJSON, WidgetControl

        places = stations.drop_duplicates("station_id").dropna(subset=["latitude", "longitude"])
        self.places = places.astype({"station_id": str}).set_index("station_id")
        self._view, look = view, {"radius": 5, "color": OTHER, "fillColor": OTHER, "weight": 1}
        self.layer = GeoJSON(point_style=look | {"fillOpacity": 0.7}, hover_style={"weight": 4})
        self.name, self.ring = ipw.HTML("point at a station"), _ring(radius=9)
        names = sorted(self.places.index)
        self.choice = ipw.Dropdown(options=names, value=None, description="station")
        self._fan()
        self.layer.on_hover(lambda feature, **_: self._name(feature["properties"]["station_id"]))
        if on_pick is not None:
            self.layer.on_click(
                lambda feature, **_: self.choice.set_trait(
                    "value", feature["properties"]["station_id"]
                )
            )
            self.choice.observe(lambda change: on_pick(change["new"]), names="value")
        for layer in (self.layer, self.ring):
            view.add(layer)
        view.add(WidgetControl(widget=self.name, position="topright"))
        view.observe(lambda _: self._fan(), names="zoom")

    def on_choice(self, act: Callable[[float, float], None]) -> None:
        """Hand on longitude and latitude of the station that is chosen in the list."""

        def hand_on(change: Any) -> None:
            self.mark(change["new"])
            act(*self.places.loc[change["new"], ["longitude", "latitude"]].astype(float))

        self.choice.observe(hand_on, names="value")

    def mark(self, station_id: str) -> None:
        """Put the ring around a station; ``UnknownNameError`` if it is not on the map."""
        if station_id not in self.places.index:
            raise UnknownNameError(f"No station {station_id!r} on this map.")
        self.ring.location = tuple(self.shown.loc[station_id, ["latitude", "longitude"]])
        self.ring.opacity = 1.0
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
        if self.choice.value is not None:  # the ring goes with its dot
            self.mark(self.choice.value)


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


class MapSide(ipw.VBox):
    """One half of a split map: its day and its layer, opaque, with a colour bar and its unit.

    Parameters
    ----------
    days : map of (time, y, x)
    day : number of the day it begins with
    layer : one of ``map_views.layers_of``
    pane : "left" or "right", of the map that shows ``image``
    """

    def __init__(self, days: xr.Dataset, *, day: int, layer: str, pane: str) -> None:
        from ipyleaflet import ImageOverlay

        self._days, self._layers = days, map_views.layers_of(days)
        names = [map_views.day_words(time) for time in days["time"].values]
        self.day = ipw.SelectionSlider(
            options=[*zip(names, range(len(names)), strict=True)], value=day, description="day",
            continuous_update=False, layout=ipw.Layout(width=f"{SCALE_PX}px"),
        )  # fmt: skip
        layers = [(words, name) for name, words in self._layers.items()]
        self.layer = ipw.Dropdown(options=layers, value=layer, description="layer")
        self.image, self.scale = ImageOverlay(pane=pane), picture_box(width=f"{SCALE_PX}px")
        self._draw()
        for control in (self.day, self.layer):
            control.observe(lambda _: self._draw(), names="value")
        super().__init__([ipw.HTML(f"<b>{pane}</b>"), self.day, self.layer, self.scale])

    def _draw(self) -> None:
        name = self.layer.value
        values = self._days[name]
        limits, cmap, unit = map_views.scale_of(name, values)
        drawn = overlay(
            values[self.day.value].values, map_views.grid_of(self._days), limits=limits, cmap=cmap
        )
        self.image.url, self.image.bounds = drawn
        words = f"{self._layers[name]} [{unit}]"
        self.scale.value = png(map_views.colour_scale(limits, cmap, words=words))


class MapView(ipw.VBox):
    """A map to move: two days or layers either side of a line to drag; click a cell for its series.

    Every layer is opaque: two that shine through each other show neither. A map of one day and one
    layer is not split. ``map_views.map_page``, ``map_views.difference_of`` and
    ``map_views.cell_series`` draw the pictures that stay in a printed report.

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
        from ipyleaflet import SplitMapControl

        self._dataset, days = dataset, map_views.days_of(dataset)
        layers, last = [*map_views.layers_of(days)], days.sizes["time"] - 1
        self.left = MapSide(days, day=0, layer=layers[0], pane="left")
        second = layers[:2][0 if last else -1]  # another day, else another layer
        self.right = MapSide(days, day=last, layer=second, pane="right")
        sides = [self.left, self.right] if last or len(layers) > 1 else [self.left]
        self.picture = picture_box(width=f"{WIDTH_PX}px")
        self.message = ipw.HTML("Click a cell to see it through time.")
        corners = pd.DataFrame(self.left.image.bounds, columns=["latitude", "longitude"])
        self.map = map_of(corners, basemap)
        for side in sides:
            self.map.add(side.image)
        lists: list[Any] = []
        if stations is not None:  # on the side of the antimeridian on which the map is drawn
            away = stations["longitude"] - corners["longitude"].mean()
            turned = stations["longitude"] - 360 * (away / 360).round()
            self.dots = Dots(self.map, stations.assign(longitude=turned))
            self.dots.on_choice(self.pick)
            lists = [self.dots.choice]
        self._picked = _ring(radius=7)
        self.map.add(self._picked)
        if len(sides) > 1:  # at the end: the line forgets its layers where another is added
            images = {"left_layer": self.left.image, "right_layer": self.right.image}
            self.map.add(SplitMapControl(**images))
        self.map.on_interaction(partial(on_click, self.pick))
        title = ipw.HTML(f"<b>{escape(map_views.heading_of(dataset))}</b>")
        row = ipw.HBox(sides, layout=ipw.Layout(flex_flow="row wrap"))
        super().__init__([title, self.map, row, *lists, self.message, self.picture])

    def pick(self, longitude: float, latitude: float) -> None:
        """Mark a place and show its cell through time; outside the map, words say so."""
        try:
            figure = map_views.cell_series(self._dataset, longitude=longitude, latitude=latitude)
        except ContractError as error:
            self.message.value = escape(str(error))
            return
        self.message.value = ""
        self._picked.location, self._picked.opacity = (latitude, longitude), 1.0
        self.picture.value = png(figure)


def on_click(act: Callable[[float, float], None], **event: Any) -> None:
    """Hand a click on a map to a function of longitude and latitude."""
    if event.get("type") == "click":
        latitude, longitude = event["coordinates"]
        act(longitude, latitude)


def _ring(radius: int) -> Any:
    """What marks a place that is picked; not to be seen before."""
    from ipyleaflet import CircleMarker

    look = {"color": PICKED, "fill_opacity": 0.0, "opacity": 0.0}
    return CircleMarker(location=(0.0, 0.0), radius=radius, **look)


def map_of(places: pd.DataFrame, basemap: str | None) -> Any:
    """A map that shows all places; without a basemap it asks the network for nothing."""
    from ipyleaflet import Map, Polyline, ScaleControl

    centre, zoom = _centre_and_zoom(places)
    look = {"center": centre, "zoom": zoom, "scroll_wheel_zoom": True, "panes": PANES}
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


def png(figure: Figure) -> bytes:
    """A figure as PNG without its white rim, laid out and drawn once: ``savefig`` does it twice."""
    figure.set_dpi(DPI)
    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    with rc_context({"agg.path.chunksize": CHUNK}):
        canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())  # (row, col, 4)
    ink = pixels.view(np.uint32)[..., 0] != 0xFFFFFFFF  # white, its four bytes at once
    down, across = (np.flatnonzero(np.any(ink, axis=k)) for k in (1, 0))
    if len(down):
        rows, cols = (slice(max(n[0] - RIM_PX, 0), n[-1] + RIM_PX) for n in (down, across))
        pixels = pixels[rows, cols]
    image.imsave(buffer, pixels, format="png", pil_kwargs={"compress_level": 1})
    plt.close(figure)  # the widget shows it, not pyplot
    return buffer.getvalue()
