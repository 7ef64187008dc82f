"""Interactive views for JupyterLab; each draws with the same function as its static twin."""

import io
from collections.abc import Callable
from typing import Any

import ipywidgets as ipw
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from soilkit.errors import ContractError, UnknownNameError

HEIGHT_PX, WIDTH_PX = 380, 700  # the width is what a narrow notebook leaves
PICKED, OTHER = "#d7301f", "#2b8cbe"


class StationExplorer(ipw.VBox):
    """Pick a station on a map or in a list, and see its figure.

    Parameters
    ----------
    stations : stations table (latitude and longitude in WGS84 degrees)
    draw : function from a ``station_id`` to a matplotlib figure; call it yourself for the picture
        that stays in a printed report
    basemap : name of a leafmap basemap, or None for a plain background that needs no network

    Raises
    ------
    ContractError
        If no station has coordinates.
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
        import leafmap
        from ipyleaflet import CircleMarker

        centre, zoom = _centre_and_zoom(places)
        view = leafmap.Map(center=centre, zoom=zoom, height=f"{HEIGHT_PX}px", draw_control=False)
        if basemap is None:
            view.layers = ()
        else:
            view.add_basemap(basemap)
        for row in places.itertuples():
            marker = CircleMarker(location=(float(row.latitude), float(row.longitude)), radius=6)
            marker.color = marker.fill_color = OTHER
            marker.title = str(row.station_id)
            marker.on_click(lambda station_id=str(row.station_id), **_: self.select(station_id))
            view.add(marker)
            self._markers[str(row.station_id)] = marker
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
