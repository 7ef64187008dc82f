"""The station explorer: what is picked on the map is what is drawn."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

from soilkit.errors import ContractError, UnknownNameError
from soilkit.show import widgets


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


def test_a_click_on_a_marker_draws_that_station_once():
    """Map and list show one choice; the figure follows it, and is a PNG."""
    drawn = []
    view = explorer(drawn)
    assert drawn == ["N__A"]
    marker = view._markers["N__B"]
    marker._handle_mouse_events(None, {"event": "interaction", "type": "click"}, None)
    assert drawn == ["N__A", "N__B"]
    assert view.choice.value == "N__B"
    assert marker.color == widgets.PICKED
    assert bytes(view.picture.value).startswith(b"\x89PNG")


def test_the_list_moves_the_map():
    """Whoever cannot click a map picks in the list."""
    view = explorer([])
    view.choice.value = "N__B"
    assert view._markers["N__B"].color == widgets.PICKED
    assert view._markers["N__A"].color == widgets.OTHER


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
    centre, zoom = widgets._centre_and_zoom(places())
    assert centre == [30.5, -98.5]
    assert zoom == 8
    wide = places(longitude=[-124.0, -67.0])
    assert widgets._centre_and_zoom(wide)[1] == 4
