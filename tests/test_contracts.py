"""Contracts: what crosses a border is checked there, by name."""

import numpy as np
import pandas as pd
import pytest

from soilkit import contracts
from soilkit.errors import ContractError


def observations(**changes):
    table = pd.DataFrame(
        {
            "sensor_id": pd.Categorical(["a", "a"]),
            "time": np.array(["2020-01-01T00", "2020-01-01T01"], dtype="datetime64[us]"),
            "soil_moisture_m3_m3": np.float32([0.1, 0.2]),
            "flag": pd.Categorical(["G", "G"]),
        }
    )
    return table.assign(**changes)


def test_a_table_that_keeps_its_contract_passes():
    """More columns than promised are welcome."""
    contracts.check(observations(extra=1), contracts.OBSERVATIONS)


def test_a_missing_column_is_named():
    """The error says what is missing and what there is."""
    with pytest.raises(ContractError, match=r"observations table lacks flag; it has sensor_id"):
        contracts.check(observations().drop(columns="flag"), contracts.OBSERVATIONS)


def test_moisture_as_text_is_refused():
    """A csv column with one stray word becomes text, and must not get further."""
    with pytest.raises(ContractError, match=r"soil_moisture_m3_m3 should be float \[m3 m-3\]"):
        contracts.check(observations(soil_moisture_m3_m3=["0.1", "x"]), contracts.OBSERVATIONS)


def test_zoned_times_are_refused_with_advice():
    """Tables hold naive UTC; a zoned column would compare wrongly or not at all."""
    table = observations()
    table["time"] = table["time"].dt.tz_localize("America/Chicago")
    with pytest.raises(ContractError, match="America/Chicago.*tz_convert"):
        contracts.check(table, contracts.OBSERVATIONS)


def test_two_readings_of_a_sensor_at_one_time_are_refused():
    """The key of the observations table is sensor and time."""
    with pytest.raises(ContractError, match="repeats 1 of its keys"):
        contracts.check(
            observations(time=np.datetime64("2020-01-01", "us")), contracts.OBSERVATIONS
        )


def request(**changes):
    grid = contracts.Grid("EPSG:32614", 0.0, 100.0, 10.0, 2, 3)
    words = {"source": "dem", "scene_id": "static", "station_id": "N__A", "grid": grid}
    words |= {"time": np.datetime64("NaT"), "bands": ("elevation",)} | changes
    return contracts.ChipRequest(**words)


@pytest.mark.parametrize(
    "change",
    [
        {"source": "x"}, {"scene_id": "x"}, {"time": np.datetime64("2020-01-01")},
        {"bands": ("x",)}, {"resampling": "nearest"}, {"version": "2"},
        {"grid": contracts.Grid("EPSG:32614", 10.0, 100.0, 10.0, 2, 3)},
    ],
)  # fmt: skip
def test_whatever_changes_the_pixels_changes_the_request_hash(change):
    """Scene, bands, grid, resampling, version: a resumed build must not take one for another."""
    assert request(**change).request_hash != request().request_hash


def test_the_station_is_no_part_of_the_request_hash():
    """Two stations that ask for the same pixels ask for the same data."""
    assert request(station_id="N__B").request_hash == request().request_hash


def test_a_grid_counts_from_its_north_west_corner():
    """x_m and y_m are pixel centres; rows run south."""
    grid = contracts.Grid("EPSG:32614", 500.0, 100.0, 10.0, 2, 3)
    assert grid.x_m.tolist() == [505.0, 515.0, 525.0]
    assert grid.y_m.tolist() == [95.0, 85.0]
    assert grid.bounds_m == (500.0, 80.0, 530.0, 100.0)


def test_a_pixel_is_valid_where_all_its_bands_are():
    """One band missing makes the pixel useless to a model that eats them all."""
    values = np.ones((2, 2, 2), np.float32)
    values[0, 0, 0] = values[1, 0, 1] = np.nan
    assert contracts.Chip(values, ("a", "b"), request().grid).valid_fraction == 0.5


KINDS = {"string": "a", "float": 0.5, "int": 1, "bool": True, "time": np.datetime64("2020-01-01")}
SCHEMAS = [value for value in vars(contracts).values() if isinstance(value, contracts.Table)]
BEYOND = {
    "latitude": (95.0, -9999.0, np.inf), "longitude": (-180.5, 262.0, -np.inf),
    "time": tuple(map(np.datetime64, ("-9999-01-01", "9999-12-31", "1666-01-01"))),
}  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
def test_no_table_holds_a_place_off_earth_or_a_time_out_of_mind(schema):
    """What is missing passes; what cannot be is refused by column, whatever the table."""
    row = {column.name: [KINDS[column.kind]] for column in schema.columns}
    table = pd.DataFrame(row)
    contracts.check(table, schema)
    for name in BEYOND.keys() & row.keys():
        missing = np.datetime64("NaT", "us") if name == "time" else np.nan
        contracts.check(table.assign(**{name: [missing]}), schema)
        for value in BEYOND[name]:
            bad = np.array([value], "datetime64[us]") if name == "time" else [value]
            with pytest.raises(ContractError, match=rf"{schema.name}.{name} should lie between"):
                contracts.check(table.assign(**{name: bad}), schema)


def test_a_station_stands_at_one_place_on_either_side_of_the_date_line():
    """0.002 degrees across 180 are one place; 111 km are two, whatever the sensors."""
    table = pd.DataFrame({
        "station_id": list("AABBC"), "latitude": [1.0, 1.0, 1.0, 2.0, np.nan],
        "longitude": [179.999, -179.999, 5.0, 5.0, 5.0],
    })  # fmt: skip
    assert contracts.apart(table) == ["B"]
