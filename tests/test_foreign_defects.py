"""What spreadsheets, time zones and other units do to a table, and what is said about it."""

import time

import numpy as np
import pandas as pd
import pytest

from soilkit import metrics
from soilkit.errors import ArchiveReadError, ContractError, TimeZoneError, UnitError
from tests.test_foreign_predictions import read, rows, written

# Water in a layer


def test_millimetres_need_the_thickness_of_their_layer():
    """SMAP's 12 mm of the top 50 mm are 0.24; in 100 mm they would be 0.12."""
    table = rows().assign(predicted=12.0 + np.tile([0.0, 1.0], 20))
    for units, first in (("mm in 50 mm", 0.24), ("kg m-2 in 100 mm", 0.12)):
        found, notes = read(table, units={"observed": "m3 m-3", "predicted": units})
        assert found["predicted_m3_m3"][0] == pytest.approx(first)
        assert notes.loc["unit", "detail"].startswith(f"{units} divided by")
    with pytest.raises(UnitError, match="such as 'mm in 50 mm'.*found 'mm' for predicted"):
        read(table, units={"observed": "m3 m-3", "predicted": "mm"})
    with pytest.raises(UnitError, match="like mm of water.*'mm in 50 mm'"):
        read(table)


def test_a_layer_too_thin_for_its_water_is_refused():
    """12 mm do not fit in a layer of 10 mm, nor 0.2 in any: the unit is another."""
    table = rows().assign(predicted=12.0 + np.tile([0.0, 1.0], 20))
    with pytest.raises(UnitError, match="more than half of its values exceed 10, "):
        read(table, units={"observed": "m3 m-3", "predicted": "mm in 10 mm"})
    with pytest.raises(UnitError, match="said to be in mm in 50 mm, but 99 %"):
        read(rows(), units="mm in 50 mm")


# Times


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (43831.25, "days of a spreadsheet"),
        (43831, "days of a spreadsheet"),
        (1577858400, "seconds since 1970"),
        (1577858400000, "milliseconds since 1970"),
    ],
)
def test_times_that_are_numbers_are_recognised_and_refused(tmp_path, first, kind):
    """A number has no zero written beside it: the message says which date it would be."""
    table = rows().assign(time=first + np.tile(np.arange(20), 2))
    for source in (table, written(tmp_path, table)):
        with pytest.raises(ContractError, match=rf"looks like {kind} \(2020-01-01 0[06]:00"):
            read(source, timezone="UTC")


def test_a_compact_date_is_a_date(tmp_path):
    """20200101 is ISO 8601, no number of days."""
    path = written(tmp_path, rows().assign(time=20200101 + np.tile(np.arange(20), 2)))
    assert read(path, timezone="UTC")[0]["time"].iloc[1] == pd.Timestamp("2020-01-02")


def test_an_hour_that_the_clock_strikes_twice_is_left_out():
    """01:30 on the night that summer time ends in Chicago; its offset tells which one."""
    table = rows().assign(time=lambda t: t["time"].str.rstrip("Z"))
    table.loc[0, "time"] = "2020-11-01T01:30:00"
    found, notes = read(table, timezone="America/Chicago")
    assert len(found) == 39 and notes.loc["no such time", "n_rows"] == 1
    both = rows(n_days=2, stations=("A",)).assign(
        time=["2020-11-01T01:30:00-05:00", "2020-11-01T01:30:00-06:00"]
    )
    found, _ = read(both)
    assert found["time"].dt.hour.tolist() == [6, 7]


def test_several_offsets_are_one_utc(tmp_path):
    """Winter at +01:00, summer at +02:00, as a logger writes it; an empty time drops out."""
    table = rows()
    table["time"] = table["time"].str.replace("Z", "+01:00")
    table.loc[1, "time"], table.loc[2, "time"] = "2020-07-02T06:00:00+02:00", ""
    found, notes = read(written(tmp_path, table))
    assert found["time"][0] == pd.Timestamp("2020-01-01 05:00")
    assert found["time"][1] == pd.Timestamp("2020-07-02 04:00")
    assert notes.loc["no time", "n_dropped"] == 1


def test_a_wrong_zone_and_a_wrong_date_name_themselves():
    """One line each: no advice of another library's."""
    with pytest.raises(TimeZoneError, match="No time zone is called 'CEST'"):
        read(rows().assign(time="2020-01-01 06:00"), timezone="CEST")
    with pytest.raises(ContractError) as error:
        read(rows().assign(time="1 January 2020"), timezone="UTC")
    assert "\n" not in str(error.value) and "1 January 2020" in str(error.value)


# Names


def test_one_letter_has_one_spelling():
    """An o with its dots apart is the same station, so its repeated times are found."""
    table = rows(stations=("Köln Süd", "Ko\u0308ln Su\u0308d"))
    with pytest.raises(ContractError, match="20 rows repeat a sensor and time"):
        read(table)
    found, _ = read(table.iloc[:20])
    assert found["station_id"].unique().tolist() == ["Köln Süd"]


def test_names_that_nearly_agree_are_named():
    """'Site 1', 'site-1' stay apart and are pointed at; blanks around a name mean nothing."""
    found, notes = read(rows(stations=("Site 1", "site-1", " B ")))
    assert sorted(found["station_id"].unique()) == ["B", "Site 1", "site-1"]
    line = notes.loc["perhaps one station"]
    assert (line["n_rows"], line["stations"]) == (40, "Site 1, site-1")


def test_two_models_in_one_table_are_scored_apart():
    """The same sample may stand once a model."""
    table = pd.concat([rows(model="smap"), rows(model="ours").assign(predicted=0.2)])
    found, notes = read(table)
    scores = metrics.station_scores(found).set_index(["model", "station_id"])
    assert scores.loc[("ours", "A"), "status"] == "constant prediction"
    assert scores.loc[("smap", "A"), "r"] > 0.8
    assert notes.loc["constant series", "n_rows"] == 40 and "duplicate" not in notes.index


# Files


def test_blanks_around_column_names_mean_nothing(tmp_path):
    """'station, time, observed' has no column ' time'."""
    path = tmp_path / "smap.csv"
    path.write_text("station, time, observed , predicted\nA, 2020-01-01T06:00Z, 0.2, 0.3\n")
    found, _ = read(path)
    assert found.loc[0, ["observed_m3_m3", "predicted_m3_m3"]].tolist() == [0.2, 0.3]


def test_a_column_name_that_stands_twice_is_refused(tmp_path):
    """Neither the first nor the last is taken silently."""
    path = tmp_path / "smap.csv"
    path.write_text("station,time,observed,observed,predicted\nA,2020-01-01Z,0.2,0.3,0.2\n")
    with pytest.raises(ContractError, match="1 column names stand there twice: observed"):
        read(path)


def test_a_spreadsheets_unicode_text_is_read(tmp_path):
    """UTF-16 with tabs and its mark of byte order says itself what it is."""
    path = tmp_path / "smap.txt"
    path.write_bytes(rows().to_csv(index=False, sep="\t").encode("utf-16"))
    assert len(read(path)[0]) == 40


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", r"0 bytes.*it is empty"),
        (b"\xef\xbb\xbf\r\n", r"5 bytes.*it is empty"),
        (b"PK\x03\x04" + bytes(30), "spreadsheet .xlsx.: save the sheet as 'CSV UTF-8'"),
        (b"\x89HDF\r\n" + bytes(30), "NetCDF or HDF5 file: read it with xarray"),
        ("station,time\nKöln,2020".encode("cp1252"), "no UTF-8 text.*encoding='cp1252'"),
    ],
    ids=["empty", "blank", "xlsx", "netcdf", "cp1252"],
)
def test_other_kinds_of_files_are_recognised(tmp_path, raw, words):
    """What the file is, and what to do about it."""
    path = tmp_path / "smap.csv"
    path.write_bytes(raw)
    with pytest.raises(ArchiveReadError, match=words):
        read(path)


def test_lines_above_the_header_are_shown(tmp_path):
    """The first line is taken for the header; the message shows it."""
    path = tmp_path / "smap.csv"
    path.write_text("# made by a logger\n" + rows().to_csv(index=False))
    with pytest.raises(ContractError, match=r"more fields than the header.*# made by a logger"):
        read(path)


@pytest.mark.slow
def test_a_million_rows_are_read_in_a_minute(tmp_path):
    """1,000 stations of 1,000 days: every row stands where it stood."""
    n_days, n_stations = 1000, 1000
    days = pd.date_range("2019-01-01", periods=n_days).strftime("%Y-%m-%dT%H:%M:%SZ")
    values = np.random.default_rng(0).uniform(0.1, 0.4, n_days * n_stations).round(4)
    table = pd.DataFrame({
        "station": np.repeat(np.arange(n_stations), n_days), "time": np.tile(days, n_stations),
        "observed": values, "predicted": values[::-1],
    })  # fmt: skip
    path = written(tmp_path, table)
    start = time.perf_counter()
    found, notes = read(path)
    assert time.perf_counter() - start < 60
    np.testing.assert_array_equal(found["predicted_m3_m3"], values[::-1])
    assert notes.loc["read", "n_rows"] == 1_000_000
