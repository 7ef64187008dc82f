"""Interactive views for JupyterLab; each draws with the same function as its static twin."""

import io
from collections.abc import Callable
from typing import Any

import ipywidgets as ipw
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from soilkit.errors import ContractError, UnknownNameError
from soilkit.show import map_views
from soilkit.show.plots import overlay
from soilkit.show.plots.style import escape

HEIGHT_PX, WIDTH_PX = 380, 700  # the width is what a narrow notebook leaves
SCALE_PX = 400  # the width of a colour bar and of a slider with a long day
PICKED, OTHER = "#d7301f", "#2b8cbe"
LAYERS = {"soil_moisture": "soil moisture", "soil_moisture_std": "standard deviation"}


class StationExplorer(ipw.VBox):
    """Pick a station on a map or in a list, and see its figure.

    Raises ``ContractError`` if no station has coordinates.

    Parameters
    ----------
    stations : stations table (latitude and longitude in WGS84 degrees)
    draw : function from a ``station_id`` to a matplotlib figure; call it yourself for the picture
        that stays in a printed report
    basemap : name of a leafmap basemap, or None for a plain background that needs no network
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
        self._markers: dict[str, Any] = {}
        self.picture = ipw.Image(format="png", layout=ipw.Layout(max_width="100%"))
        names = sorted(places["station_id"].astype(str))
        self.choice = ipw.Dropdown(options=names, description="station")
        self.map = self._build_map(places, basemap)
        self.choice.observe(lambda change: self.select(change["new"]), names="value")
        super().__init__([self.map, self.choice, self.picture])
        self.select(names[0])

    def select(self, station_id: str) -> None:
        """Show one station: its marker turns red and its figure appears below the map."""
        if station_id not in self._markers:
            raise UnknownNameError(f"No station {station_id!r} on this map.")
        for name, marker in self._markers.items():
            colour = PICKED if name == station_id else OTHER
            marker.color, marker.fill_color = colour, colour
        if self.choice.value != station_id:
            self.choice.value = station_id  # comes back here through observe
            return
        self.picture.value = _png(self._draw(station_id))

    def _build_map(self, places: pd.DataFrame, basemap: str | None):
        view = _map(places, basemap)
        self._markers = _markers(places)
        for name, marker in self._markers.items():
            marker.on_click(lambda station_id=name, **_: self.select(station_id))
            view.add(marker)
        return view


class MapView(ipw.VBox):
    """A map to move: choose a day and a layer, and click a cell to see it through time.

    ``map_views.map_page`` and ``map_views.cell_series`` draw the pictures that stay in a printed
    report.

    Parameters
    ----------
    dataset : map of ``models.maps``, of (y, x) or (time, y, x)
    stations : table with ``station_id``, ``latitude`` and ``longitude``, marked on the map
    basemap : name of a leafmap basemap, or None for a plain background that needs no network
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
        layers = [(words, name) for name, words in LAYERS.items() if name in self._days]
        self.layer = ipw.Dropdown(options=layers, description="layer")
        self.opacity = ipw.FloatSlider(0.85, min=0.0, max=1.0, step=0.05, description="opacity")
        self.scale, self.picture = (
            ipw.Image(format="png", layout=ipw.Layout(width=f"{width}px", max_width="100%"))
            for width in (SCALE_PX, WIDTH_PX)
        )
        self.message = ipw.HTML("Click a cell to see it through time.")
        self.image = ImageOverlay()
        ipw.link((self.opacity, "value"), (self.image, "opacity"))
        self._draw()
        corners = pd.DataFrame(self.image.bounds, columns=["latitude", "longitude"])
        self.map = _map(corners, basemap)
        self.map.add(self.image)
        if stations is not None:  # on the side of the antimeridian on which the map is drawn
            away = stations["longitude"] - corners["longitude"].mean()
            beside = stations.assign(longitude=stations["longitude"] - 360 * (away / 360).round())
            for marker in _markers(beside).values():
                self.map.add(marker)
        self._picked = CircleMarker(location=(0.0, 0.0), radius=7, color=PICKED, fill_opacity=0.0)
        for control in (self.day, self.layer):
            control.observe(lambda _: self._draw(), names="value")
        self.map.on_interaction(self._on_map)
        controls = ipw.HBox([self.day, self.layer, self.opacity])
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

    def _on_map(self, **event: Any) -> None:
        if event.get("type") == "click":
            latitude, longitude = event["coordinates"]
            self.pick(longitude, latitude)

    def _draw(self) -> None:
        name = self.layer.value
        values = self._days[name]
        limits, cmap = map_views.limits_of(values), map_views.COLOURS_OF[name]
        grid = map_views.grid_of(self._dataset)
        drawn = overlay(values[self.day.value].values, grid, limits=limits, cmap=cmap)
        self.image.url, self.image.bounds = drawn
        self.scale.value = _png(map_views.colour_scale(limits, cmap, words=LAYERS[name]))


def _markers(stations: pd.DataFrame) -> dict[str, Any]:
    """A dot for each station that has a place."""
    from ipyleaflet import CircleMarker

    markers = {}
    for row in stations.dropna(subset=["latitude", "longitude"]).itertuples():
        marker = CircleMarker(location=(float(row.latitude), float(row.longitude)), radius=6)
        marker.color = marker.fill_color = OTHER
        marker.title = str(row.station_id)
        markers[str(row.station_id)] = marker
    return markers


def _map(places: pd.DataFrame, basemap: str | None) -> Any:
    """A map that shows all places; without a basemap it asks the network for nothing."""
    import leafmap

    centre, zoom = _centre_and_zoom(places)
    view = leafmap.Map(center=centre, zoom=zoom, height=f"{HEIGHT_PX}px", draw_control=False)
    if basemap is None:
        view.layers = ()
    else:
        view.add_basemap(basemap)
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
