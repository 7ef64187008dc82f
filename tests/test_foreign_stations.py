"""Where the stations of anybody's predictions stand; what nobody says stays unknown, by name."""

import numpy as np
import pandas as pd
import pytest

from soilkit import contracts
from soilkit.errors import ArchiveReadError, ContractError
from soilkit.export.tables import read_predictions, read_stations
from soilkit.files import csv_text
from tests.test_foreign_predictions import rows


def predictions(stations=("A", "B"), **columns):
    return read_predictions(rows(stations=stations, **columns), units="m3 m-3")[0]


def read(source, table, **options):
    """The stations by id, and the notes by status."""
    stations, notes = read_stations(source, table, **options)
    contracts.check(stations, contracts.STATIONS)
    assert stations["sensor_id"].tolist() == sorted(table["sensor_id"].astype(str).unique())
    return stations.set_index("station_id"), notes.set_index("status")


def listed(**columns):
    table = pd.DataFrame({"station": ["A", "B"], "lat": [35.5, 47.0], "lon": [-99.9, 11.0]})
    return table.assign(**columns)


def test_a_list_gives_places_and_classes(tmp_path):
    """West of 99 degrees is a place, not a fill value; unknown classes are empty."""
    path = tmp_path / "sites.csv"
    listed(land_cover=["Shrubs", ""], elevation=[-430, -9999]).to_csv(path, index=False)
    stations, notes = read(path, predictions())
    assert stations.loc["A", ["latitude", "longitude", "elevation_m"]].tolist() == [
        35.5,
        -99.9,
        -430,
    ]
    assert np.isnan(stations.loc["B", "elevation_m"])
    assert stations["land_cover"].tolist() == ["Shrubs", ""]
    assert (stations["texture"] == "").all() and notes.empty


def test_places_may_stand_in_the_predictions_file(tmp_path):
    """Every row repeats its station's place; rounding within a kilometre is one place."""
    table = rows().assign(
        latitude=np.repeat([35.5, 47.0], 20), longitude=np.repeat([-97.0, 11.0], 20)
    )
    table.loc[3, "latitude"] = 35.503
    path = tmp_path / "smap.csv"
    table.to_csv(path, index=False)
    found, _ = read_predictions(path, units="m3 m-3")
    stations, notes = read(path, found)
    assert stations["latitude"].tolist() == [35.5, 47.0] and notes.empty
    table.loc[3, "latitude"] = 36.5
    stations, notes = read(table, found)
    assert np.isnan(stations.loc["A", "latitude"]) and np.isnan(stations.loc["A", "longitude"])
    assert notes.loc["several values", "stations"].tolist() == ["A", "A"]
    assert notes.loc["unknown place", "stations"] == "A"


def test_our_own_tables_are_lists_too():
    """station_id beside station, as in every stations table, is clear; lat beside latitude no."""
    own, _ = read_stations(listed(), predictions())
    assert {"station_id", "station"} <= set(own.columns)
    stations, notes = read(own, predictions())
    assert stations["latitude"].tolist() == [35.5, 47.0] and notes.empty
    with pytest.raises(ContractError, match="latitude may be any of lat, latitude"):
        read(listed(latitude=1.0), predictions())


def test_nothing_known_is_said():
    """No list, or one without coordinates: NaN places, a note with the stations' number."""
    for source in (None, rows()):
        stations, notes = read(source, predictions())
        assert stations["latitude"].isna().all() and (stations["koeppen"] == "").all()
        assert notes.loc["unknown place", "n_stations"] == 2


@pytest.mark.parametrize(
    ("stations", "network", "names"),
    [
        (("SCAN__Ames", "SCAN__Elk"), None, {"station": ["Ames", "Elk"], "network": "SCAN"}),
        (("Ames", "Elk"), "SCAN", {"station": ["SCAN__Ames", "SCAN__Elk"]}),
        (("SCAN__Ames__P__0__0.05", "SCAN__Elk__P__0__0.05"), "SCAN",
         {"sensor_id": ["SCAN__Ames__P__0__0.05", "SCAN__Elk__P__0__0.05"]}),
    ],
    ids=["network in the list", "network in the predictions", "sensors"],
)  # fmt: skip
def test_a_station_is_found_by_each_of_its_names(stations, network, names):
    """Sensor, station, or network and station together."""
    told = {} if network is None else {"network": network}
    places = pd.DataFrame({"latitude": [42.0, 40.8], "longitude": [-93.7, -115.8], **names})
    found, notes = read(places, predictions(stations=stations, **told))
    assert found["latitude"].tolist() == [42.0, 40.8] and notes.empty


def test_a_station_that_the_list_lacks_is_named():
    """Names are never matched nearly: 'a' is not 'A'; the note shows both spellings."""
    stations, notes = read(listed(station=["a", "B"]), predictions())
    assert np.isnan(stations.loc["A", "latitude"]) and stations.loc["B", "latitude"] == 47
    assert notes.loc["not in the list", "stations"] == "A"
    assert (
        "B, a" in notes.loc["not in the list", "detail"]
        or "a, B" in notes.loc["not in the list", "detail"]
    )


def test_replicate_sensors_keep_their_depths():
    """Two probes of one station: each its own depth, both the station's place."""
    table = pd.concat(
        [rows(stations=("A",)).assign(sensor="A1"), rows(stations=("A",)).assign(sensor="A2")]
    )
    found, _ = read_predictions(table, units="m3 m-3")
    probes = pd.DataFrame({
        "station": "A", "sensor": ["A1", "A2"], "lat": 35.5, "lon": -97.0,
        "depth_from_m": [0.0, 0.05], "depth_to_m": [0.05, 0.05],
    })  # fmt: skip
    stations, _ = read_stations(probes, found)
    assert stations["depth_from_m"].tolist() == [0.0, 0.05]
    assert stations["latitude"].tolist() == [35.5, 35.5]


def test_impossible_places_are_refused():
    """Exchanged coordinates and metres of a projection; 0, 0 and fill values are unknown."""
    with pytest.raises(ContractError, match="first 'B': latitude 139.7.*exchanged"):
        read(listed(lat=[35.5, 139.7], lon=[-97.0, 35.7]), predictions())
    with pytest.raises(ContractError, match="metres of a projection"):
        read(listed(lat=[4.2e6, 4.3e6], lon=[5e5, 6e5]), predictions())
    with pytest.raises(ContractError, match="lacks 1 of the 3 columns.*: longitude"):
        read(listed().drop(columns="lon"), predictions())
    stations, notes = read(listed(lat=[0.0, -9999], lon=[0.0, -9999]), predictions())
    assert stations["longitude"].isna().all()
    assert notes.loc["unknown place", "n_stations"] == 2


def test_longitudes_count_either_way_round():
    """262 degrees east is 98 west."""
    stations, _ = read(listed(lon=[262.0, 11.0]), predictions())
    assert stations["longitude"].tolist() == [-98.0, 11.0]


def test_decimal_commas_and_other_names(tmp_path):
    """A list as a German spreadsheet writes it."""
    path = tmp_path / "orte.csv"
    path.write_text("Ort;Breite;Länge\nA;35,5;-97,25\nB;47,0;11,0\n", encoding="utf-8-sig")
    told = {"station": "Ort", "latitude": "Breite", "longitude": "Länge"}
    stations, _ = read(path, predictions(), columns=told, decimal=",")
    assert stations["longitude"].tolist() == [-97.25, 11.0]
    with pytest.raises(ContractError, match="lacks 1 of the 1 columns.*station"):
        read(path, predictions(), decimal=",")
    with pytest.raises(ArchiveReadError, match="No table at"):
        read(tmp_path / "none.csv", predictions())


def test_an_ismn_archive_is_a_list_too(tmp_path):
    """Stations of a downloaded zip, with the classes of its static variables."""
    from soilkit.world import World

    archive = World(seed=1, n_stations=4).write_ismn(tmp_path / "ismn.zip")
    from soilkit.export import insitu

    known = insitu.read_stations(archive, progress=False)
    table = predictions(stations=tuple(known["station_id"].unique()[:2]))
    stations, notes = read(archive, table)
    first = known[known["station_id"] == stations.index[0]].iloc[0]
    assert stations["latitude"].iloc[0] == first["latitude"]
    assert stations["koeppen"].iloc[0] == first["koeppen"] and notes.empty


@pytest.mark.parametrize(
    ("network", "places", "place"),
    [
        ("N1", {"station": ["12"]}, 35.5),
        ("N1", {"station": ["12"], "network": ["N2"]}, np.nan),
        ("N1", {"station": ["12", "12"], "network": ["N2", "N1"]}, 40.0),
        ("", {"station": ["12", "12"], "network": ["N1", "N2"]}, np.nan),
        ("", {"station": ["12"], "network": ["N2"]}, 35.5),
    ],
)
def test_a_bare_name_finds_its_place_where_one_station_has_it(network, places, place):
    """Another network's station of that name is another station."""
    table = predictions(stations=("12",), network=network)
    assert table["station_id"].iloc[0] == ("N1__12" if network else "12")
    n = len(places["station"])
    listed = pd.DataFrame(places | {"lat": [35.5, 40.0][:n], "lon": [5.0, 6.0][:n]})
    stations, notes = read(listed, table)
    np.testing.assert_equal(stations["latitude"].iloc[0], place)
    assert ("unknown place" in notes.index) == np.isnan(place)


def test_a_probes_name_at_two_stations_is_two_sensors():
    """Without the station before it the two series would become one."""
    table = rows().assign(probe="p1", time=lambda t: t["time"])
    found, _ = read_predictions(table, units="m3 m-3", columns={"sensor": "probe"})
    assert found["sensor_id"].unique().tolist() == ["A__p1", "B__p1"]


def test_our_own_csv_reads_back_and_a_station_has_one_place(tmp_path):
    """A name like a formula keeps no apostrophe; two probes 111 km apart have no place."""
    path = tmp_path / "p.csv"
    table = pd.DataFrame({
        "station": "=1+1", "sensor": ["a", "b"], "time": "2020-07-01", "observed": 0.2,
        "predicted": 0.3, "latitude": [47.0, 48.0], "longitude": 11.0,
    })  # fmt: skip
    path.write_text(csv_text(table))
    table, _ = read_predictions(path, units="m3 m-3", timezone="UTC")
    assert set(table["station_id"]) == {"=1+1"}
    stations, notes = read_stations(path, table)
    assert stations["latitude"].isna().all()
    assert "several values" in set(notes["status"])
