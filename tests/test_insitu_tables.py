"""Plain tables of readings: units and zones are named, never guessed, and every row is counted."""

import gzip
import os
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soilkit import contracts
from soilkit.errors import (
    ArchiveReadError,
    ContractError,
    ParameterError,
    TimeZoneError,
    UnitError,
    UnknownNameError,
)
from soilkit.export import tables

DATA = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data")
needs_data = pytest.mark.skipif(
    not DATA.exists(), reason="SOILKIT_TEST_DATA names no folder with real tables"
)
LONG = {
    "station": "site",
    "time": "when",
    "soil_moisture": "sm",
    "latitude": "lat",
    "longitude": "lon",
    "network": "=KENASTER",
}


def mesonet(moisture=(0.21, 0.22, 0.23), **changes):
    table = {
        "site": ["A", "A", "B"],
        "when": ["2020-07-01 06:00", "2020-07-01 07:00", "2020-07-01 06:00"],
        "sm": moisture,
        "lat": [51.4, 51.4, 51.5],
        "lon": [-106.4, -106.4, -106.5],
    }
    return pd.DataFrame(table | changes)


def test_a_long_csv_becomes_stations_and_observations(tmp_path):
    mesonet().to_csv(tmp_path / "site.csv", index=False)
    stations, observations, notes = tables.read_readings(
        tmp_path / "site.csv", columns=LONG, units="m3 m-3", timezone="UTC"
    )
    contracts.check(stations, contracts.STATIONS)
    contracts.check(observations, contracts.OBSERVATIONS)
    assert stations["station_id"].tolist() == ["KENASTER__A", "KENASTER__B"]
    assert stations["sensor_id"].tolist()[0] == "KENASTER__A__probe__0.05__0.05"
    assert observations["time"].tolist()[1] == pd.Timestamp("2020-07-01 07:00")
    assert len(observations) == 3 and notes["n_dropped"].sum() == 0


def test_percent_must_be_called_percent():
    table = mesonet((21.0, 22.0, 23.0))
    with pytest.raises(UnitError, match=r"look like percent.*units='%'"):
        tables.read_readings(table, columns=LONG, units="m3 m-3", timezone="UTC")
    _, observations, notes = tables.read_readings(
        table, columns=LONG, units="percent", timezone="UTC"
    )
    assert observations["soil_moisture_m3_m3"].tolist() == pytest.approx([0.21, 0.22, 0.23])


@pytest.mark.parametrize(
    ("units", "words"), [("vol", "not guessed"), ("percent", "pass units='m3")]
)
def test_fractions_are_not_percent_and_other_units_do_not_exist(units, words):
    with pytest.raises(UnitError, match=words):
        tables.read_readings(mesonet(), columns=LONG, units=units, timezone="UTC")


def test_naive_times_need_a_zone_and_local_ones_move_to_utc():
    with pytest.raises(TimeZoneError, match=r"naive.*2020-07-01.*America/Chicago"):
        tables.read_readings(mesonet(), columns=LONG, units="m3 m-3")
    with pytest.raises(TimeZoneError, match="No time zone is called"):
        tables.read_readings(mesonet(), columns=LONG, units="m3 m-3", timezone="Mars/Olympus")
    _, observations, notes = tables.read_readings(
        mesonet(), columns=LONG, units="m3 m-3", timezone="America/Regina"
    )
    assert observations["time"].tolist()[0] == pd.Timestamp("2020-07-01 12:00")  # six hours west


@pytest.mark.parametrize("zone", ["Z", "+01:00", "-0600"])
def test_times_of_which_only_some_carry_a_zone_are_refused(zone):
    """Half of a logger's file in another firmware: nobody knows the zone of the other half."""
    when = ["2020-07-01 06:00", f"2020-07-01 07:00{zone}", "2020-07-01 06:00"]
    with pytest.raises(TimeZoneError, match="1 of 3 times carry an offset or Z"):
        tables.read_readings(mesonet(when=when), columns=LONG, units="m3 m-3", timezone="UTC")


def test_times_with_a_zone_need_no_other():
    when = ["2020-07-01T06:00-06:00", "2020-07-01T07:00-06:00", "2020-07-01T06:00-06:00"]
    _, observations, notes = tables.read_readings(mesonet(when=when), columns=LONG, units="m3 m-3")
    assert observations["time"].tolist()[0] == pd.Timestamp("2020-07-01 12:00")


def test_offsets_that_follow_daylight_saving_are_all_honoured():
    when = ["2020-01-01T00:00-06:00", "2020-07-01T00:00-05:00", "2020-07-02T00:00-05:00"]
    _, observations, notes = tables.read_readings(mesonet(when=when), columns=LONG, units="m3 m-3")
    assert observations["time"].dt.hour.tolist() == [6, 5, 5]


@pytest.mark.parametrize("first", ["midsummer", "07/01/2020 06:00"])
def test_only_iso_times_are_read_because_others_have_two_readings(first):
    options = {"columns": LONG, "units": "m3 m-3", "timezone": "UTC"}
    when = ["2020-07-01 06:00", "2020-07-02", "2020-07-03 06:00:30"]
    assert len(tables.read_readings(mesonet(when=when), **options)[1]) == 3
    with pytest.raises(ContractError, match=f"ISO 8601.*found.*{first}"):
        tables.read_readings(mesonet(when=[first] * 3), **options)


def test_an_hour_that_the_clock_skips_or_repeats_is_counted_not_guessed():
    # Chicago 2020: 02:30 on 8 March never was, 01:30 on 1 November was twice.
    when = ["2020-03-08 02:30", "2020-11-01 01:30", "2020-07-01 06:00"]
    _, observations, notes = tables.read_readings(
        mesonet(when=when), columns=LONG, units="m3 m-3", timezone="America/Chicago"
    )
    notes = notes.set_index("status")
    assert len(observations) == 1
    assert notes.loc["no such time", "n_rows"] == notes.loc["no time", "n_dropped"] == 2
    assert "missing value" not in notes.index


def test_a_wide_table_has_one_sensor_a_depth():
    table = mesonet().assign(deep=[0.3, np.nan, 0.32])
    columns = LONG | {"soil_moisture": {"sm": (0.0, 0.05), "deep": 0.2032}}
    stations, observations, notes = tables.read_readings(
        table, columns=columns, units="m3 m-3", timezone="UTC"
    )
    assert stations["depth_from_m"].tolist() == [0.0, 0.2032, 0.0, 0.2032]
    assert observations["sensor_id"].value_counts().to_dict() == {
        "KENASTER__A__probe__0.00__0.05": 2,
        "KENASTER__A__probe__0.2032__0.2032": 1,
        "KENASTER__B__probe__0.00__0.05": 1,
        "KENASTER__B__probe__0.2032__0.2032": 1,
    }


def test_a_loggers_own_file_is_read_as_it_is(tmp_path):
    """TOA5 has one line above the names and two below them; "NAN" is a reading that failed."""
    rows = [
        '"TOA5","KONZA","CR1000X","12345","Std.04.02","CPU:soil.CR1X","51234","Hourly"',
        '"TIMESTAMP","RECORD","VWC_5_Avg","VWC_25_Avg"', '"TS","RN","m^3/m^3","m^3/m^3"',
        '"","","Avg","Avg"', '"2019-06-01 00:00:00",0,0.231,0.301',
        '"2019-06-01 01:00:00",1,"NAN",0.302',
    ]  # fmt: skip
    (tmp_path / "konza.dat").write_bytes("\r\n".join(rows).encode())
    columns = {"station": "=KONZA", "latitude": 39.1, "longitude": -96.6}
    columns |= {"soil_moisture": {"VWC_5_Avg": 0.05, "VWC_25_Avg": 0.25}}
    how = {"columns": columns, "units": "m3 m-3", "timezone": "Etc/GMT+6"}
    stations, observations, notes = tables.read_readings(tmp_path / "konza.dat", **how)
    assert stations["depth_to_m"].tolist() == [0.05, 0.25]
    assert observations["soil_moisture_m3_m3"].tolist() == pytest.approx([0.231, 0.301, 0.302])
    assert observations["time"].tolist()[0] == pd.Timestamp("2019-06-01 06:00")
    assert notes.set_index("status")["n_dropped"]["missing value"] == 1


def test_half_hourly_repeated_and_impossible_rows_are_counted():
    when = ["2020-07-01 06:00", "2020-07-01 06:30", "2020-07-01 06:00"]
    table = pd.concat([mesonet(when=when), mesonet((1.4, 0.2, -9999), when=["2020-07-02"] * 3)])
    _, observations, notes = tables.read_readings(
        table, columns=LONG, units="m3 m-3", timezone="UTC"
    )
    assert notes["n_rows"].iloc[0] == 6 == len(observations) + notes["n_dropped"].sum()
    assert notes[notes["n_dropped"] > 0].set_index("status")["n_dropped"].to_dict() == {
        "missing value": 1,
        "later reading of an hour": 1,
        "impossible value": 1,  # and no repeated time: what no soil holds wins no hour
    }


def test_a_wrong_mapping_says_what_the_table_has():
    with pytest.raises(
        ContractError, match=r"no quantity or no place of one: lat: 'lat';.*table has site, when"
    ):
        columns = {"lat" if k == "latitude" else k: v for k, v in LONG.items()}
        tables.read_readings(mesonet(), columns=columns, units="m3 m-3", timezone="UTC")
    with pytest.raises(ContractError, match=r"absent columns: KENASTER;.*has site.*'=KENASTER'"):
        tables.read_readings(
            mesonet(), columns=LONG | {"network": "KENASTER"}, units="m3 m-3", timezone="UTC"
        )


def test_a_station_that_nobody_can_place_is_named():
    with pytest.raises(ArchiveReadError, match="1 stations have no coordinates: KENASTER__B"):
        tables.read_readings(
            mesonet(lat=[51.4, 51.4, np.nan]), columns=LONG, units="m3 m-3", timezone="UTC"
        )


def test_a_file_is_read_by_what_it_holds_and_not_by_its_name(tmp_path):
    parquet = tmp_path / "site.parquet.gz"  # a plain parquet with a misleading name
    mesonet().to_parquet(parquet)
    (tmp_path / "site.txt.gz").write_bytes(gzip.compress(mesonet().to_csv(index=False).encode()))
    options = {"columns": LONG, "units": "m3 m-3", "timezone": "UTC"}
    one, other = (tables.read_readings(p, **options)[1] for p in sorted(tmp_path.iterdir()))
    pd.testing.assert_frame_equal(one, other)
    whole = gzip.compress(mesonet().to_csv(index=False).encode())
    for bad in (b"PAR1 and then nothing", b"", whole[:60], whole[:40] + b"????" + whole[44:]):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(ArchiveReadError, match="Fetch it again"):
            tables.read_readings(tmp_path / "bad", **options)


def test_a_uscrn_day_is_dated_at_its_local_noon(tmp_path):
    table = pd.DataFrame(
        {
            "wban": ["03047"],
            "lst_date": pd.to_datetime(["2020-01-01"]),
            "longitude": [-102.81],
            "latitude": [31.62],
            **{f"soil_moisture_{cm}_daily": [0.1] for cm in (5, 10, 20, 50, 100)},
        }
    )
    table.to_parquet(tmp_path / "crn.parquet")
    stations, observations, notes = tables.read_uscrn_daily(tmp_path / "crn.parquet")
    assert observations["time"].tolist() == [pd.Timestamp("2020-01-01 19:00")]  # 12:00 + 7 h
    assert stations["depth_to_m"].tolist() == [0.05]
    stations, _, _ = tables.read_uscrn_daily(tmp_path / "crn.parquet", max_depth_m=0.2)
    assert stations["depth_to_m"].tolist() == [0.05, 0.1, 0.2]
    with pytest.raises(ParameterError, match="max_depth_m should be metres"):
        tables.read_uscrn_daily(tmp_path / "crn.parquet", max_depth_m="x")


@needs_data
def test_the_real_uscrn_table_is_read_and_balances():
    stations, observations, notes = tables.read_uscrn_daily(
        DATA / "uscrn_daily_2020" / "crn_2020.parquet.gz"
    )
    contracts.check(stations, contracts.STATIONS)
    contracts.check(observations, contracts.OBSERVATIONS)
    assert len(stations) == 155
    assert notes["n_rows"].iloc[0] == len(observations) + notes["n_dropped"].sum()
    assert observations["soil_moisture_m3_m3"].median() == pytest.approx(0.16, abs=0.08)


@needs_data
def test_a_real_table_in_percent_is_recognised():
    folder = DATA / "scan_snotel_daily"
    readings = pd.read_parquet(folder / "scan_daily_2in.parquet").head(5000)
    columns = {
        "station": "Station Id",
        "time": "Date",
        "soil_moisture": "sm_2in",
        "latitude": 35.0,
        "longitude": -100.0,
        "depth_from_m": 0.0508,
    }
    with pytest.raises(UnitError, match="percent"):
        tables.read_readings(readings, columns=columns, units="m3 m-3", timezone="UTC")
    _, observations, notes = tables.read_readings(
        readings, columns=columns, units="percent", timezone="UTC"
    )
    assert 0.05 < observations["soil_moisture_m3_m3"].median() < 0.5


@pytest.mark.filterwarnings("error")
def test_rows_that_end_in_a_separator_keep_their_columns(tmp_path):
    """The header has no name for the empty field behind the last comma."""
    text = mesonet().to_csv(index=False).replace("\n", ",\n")
    header, rows = text.split("\n", 1)
    (tmp_path / "site.csv").write_text(f"{header.rstrip(',')}\n{rows}")
    options = {"columns": LONG, "units": "m3 m-3", "timezone": "UTC"}
    found = tables.read_readings(tmp_path / "site.csv", **options)[1]
    pd.testing.assert_frame_equal(found, tables.read_readings(mesonet(), **options)[1])


@pytest.mark.parametrize("depths", [(-0.05, -0.5), (5, 50)])
def test_depths_are_positive_metres(depths):
    columns = LONG | {"soil_moisture": {"sm": depths[0], "deep": depths[1]}}
    table = mesonet().assign(deep=0.3)
    with pytest.raises(ContractError, match="metres below the surface"):
        tables.read_readings(table, columns=columns, units="m3 m-3", timezone="UTC")


def test_a_year_that_no_probe_has_seen_is_no_time():
    when = ["-9999", "2020-07-01 07:00", "9999-12-31"]
    options = {"columns": LONG, "units": "m3 m-3", "timezone": "UTC"}
    _, observations, notes = tables.read_readings(mesonet(when=when), **options)
    assert observations["time"].tolist() == [pd.Timestamp("2020-07-01 07:00")]
    assert notes.set_index("status").loc["impossible time", "n_rows"] == 2


def test_a_station_that_moved_is_refused():
    with pytest.raises(ArchiveReadError, match="1 stations stand at several places.*KENASTER__A"):
        tables.read_readings(
            mesonet(lat=[51.4, 52.4, 51.5]), columns=LONG, units="m3 m-3", timezone="UTC"
        )


UTC = {"units": "m3 m-3", "timezone": "UTC"}


def hourly(station, values, **changes):
    """A station's hours from midnight, all at one place."""
    when = pd.date_range("2020-07-01", periods=len(values), freq="h").astype(str)
    place = {"lat": 50.0 + len(station), "lon": -100.0}
    return pd.DataFrame({"site": station, "when": when, "sm": values} | place | changes)


def test_one_station_in_percent_is_named_and_one_bad_reading_condemns_nobody():
    """Gaps at other stations do not shift whose value is judged; 14 of 20 stay below 1."""
    gaps = hourly("A", [np.nan] * 14 + [0.2] * 14)
    table = pd.concat([gaps, hourly("BB", [20.0 + k for k in range(14)]), hourly("C", [0.3] * 60)])
    with pytest.raises(UnitError, match=r"at 1 of 3 stations \(KENASTER__BB__"):
        tables.read_readings(table, columns=LONG, **UTC)
    table = pd.concat([gaps, hourly("BB", [1.3])])
    _, observations, notes = tables.read_readings(table, columns=LONG, **UTC)
    assert len(observations) == 14
    assert notes.set_index("status").loc["impossible value", "stations"].startswith("KENASTER__BB")


@pytest.mark.parametrize("fill", [-99, -99.0, -999, -9999.0, "-99.9", None])
def test_a_depth_may_be_missing(fill):
    stations, _, _ = tables.read_readings(
        mesonet(z=[0.05, 0.05, fill]), columns=LONG | {"depth_from_m": "z"}, **UTC
    )
    assert stations["depth_from_m"].isna().tolist() == [False, True]


@pytest.mark.parametrize("number", [np.float32(0.25), np.int64(1), np.float64(0.25)])
def test_a_number_of_any_kind_stands_for_itself(number):
    columns = LONG | {"depth_to_m": number, "depth_from_m": 0}
    stations, _, _ = tables.read_readings(mesonet(), columns=columns, **UTC)
    assert (stations["depth_to_m"] == float(number)).all()


@pytest.mark.parametrize(
    "columns",
    [
        {"network": None}, {"depth_from_m": True}, {"station": ["site"]}, {"time": {"when": 0.05}},
        {"soil_moisture": {"sm": None}}, {"soil_moisture": {"sm": "0-5 cm"}},
        {"soil_moisture": {"sm": (0, 0.05, 0.1)}}, {"depth_to": 0.05, "depth_to_m": 0.1}, {5: "sm"},
    ],
)  # fmt: skip
def test_what_no_mapping_can_mean_is_refused_in_words(columns):
    with pytest.raises(ContractError, match="columns holds what is no quantity"):
        tables.read_readings(mesonet(), columns=LONG | columns, **UTC)


def test_a_probe_is_no_station_and_a_decimal_is_a_point_or_a_comma():
    columns = {k: v for k, v in LONG.items() if k != "station"} | {"sensor": "site"}
    with pytest.raises(ContractError, match="lacks 1 of the 5 columns.*station"):
        tables.read_readings(mesonet(), columns=columns, **UTC)
    with pytest.raises(ParameterError, match="decimal is '.' or ',', found ';'"):
        tables.read_readings(mesonet(), columns=LONG, decimal=";", **UTC)


# One set of guards: every kind of column is read right, or refused in words.


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.convert_dtypes(dtype_backend="pyarrow"),
        lambda t: t.assign(when=t["when"].dt.tz_localize("UTC")).convert_dtypes(
            dtype_backend="pyarrow"
        ),
        lambda t: t.convert_dtypes(),
        lambda t: t.astype({"site": "category", "sm": "string"}),
        lambda t: t.assign(sm=[Decimal(str(v)) for v in t["sm"]]),
        lambda t: t.assign(
            sm=t["sm"].astype(str).str.encode("ascii"), site=t["site"].str.encode("ascii")
        ),
        lambda t: t.assign(when=t["when"].astype("datetime64[ns]").astype(object)),
        lambda t: t.assign(when=t["when"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")),
        lambda t: t.set_index(["site", "when"]),
        lambda t: t.assign(sm=t["sm"].astype(pd.SparseDtype(float))),
    ],
)
def test_a_frame_of_any_kind_is_the_same_table(change):
    table = mesonet(when=pd.to_datetime(mesonet()["when"]))
    want = tables.read_readings(table, columns=LONG, **UTC)[1]
    pd.testing.assert_frame_equal(tables.read_readings(change(table), columns=LONG, **UTC)[1], want)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"z": ["0-5 cm"] * 3}, "depth_from: column 'z' holds text in 3 rows: '0-5 cm' in row 1"),
        ({"lat": "51.4N"}, "latitude: column 'lat' holds text"),
        ({"sm": [True, False, True]}, "holds text in 3 rows: 'True'"),
        ({"sm": [0.2 + 1j] * 3}, "holds text"),
        ({"sm": ["0x1", "0.2", "0_2"]}, "holds text in 2 rows: '0x1' in row 1, '0_2' in row 3"),
        ({"sm": ["\uff10.2", "0.2", "0.2"]}, "holds text in 1 rows"),
        ({"sm": ["0,21", "0,22", "0,23"]}, "with ';' between columns: pass decimal=','"),
        ({"site": ["A", "A", "B\n7"]}, "line break.*quotation mark"),
        ({"when": pd.PeriodIndex(["2020-07"] * 3, freq="M")}, "found periods"),
        ({"when": ["2020", "2021", "2022"]}, "found '2020' in row 1"),
        ({"when": ["2020-07-01", "now", "today"]}, "found 'now' in row 2"),
        ({"when": ["2020-07-01", "43832", "43833"]}, "found '43832' in row 2.*days of a spread"),
        ({"lat": [95.0, 95.0, 51.5]}, "no place on Earth, first 'A'"),
        ({"lon": [-190.0, -190.0, 10.0]}, "no place on Earth"),
        ({"lon": 361.0}, "no place on Earth"),
        ({"lat": np.inf}, "2 stations have no coordinates"),
        ({"lat": [51.4, -9999, 51.5], "lon": [np.nan, -9999, 11.0]}, "1 stations have no coord"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_words(changes, words):
    columns = LONG | ({"depth_from_m": "z"} if "z" in changes else {})
    with pytest.raises((ContractError, ArchiveReadError), match=words):
        tables.read_readings(mesonet(**changes), columns=columns, **UTC)


@pytest.mark.parametrize(
    "zone",
    [
        "",
        "5",
        5,
        "America",
        "../UTC",
        "CEST",
        5.0,
        ["UTC"],
        "posixrules",
        "localtime",
        "right/UTC",
        "posix/UTC",
        "Factory",
    ],
)
def test_only_zones_of_the_database_are_zones(zone):
    with pytest.raises(TimeZoneError, match="No time zone is called"):
        tables.read_readings(mesonet(), columns=LONG, units="m3 m-3", timezone=zone)


def test_one_place_has_one_longitude():
    """360 degrees of longitude are zero, and 180 is -180: blocks of two degrees end there."""
    places = {"A": 180.0, "B": -180.0, "C": 359.5, "D": 190.0}
    table = pd.concat([hourly(name, [0.2], lon=lon) for name, lon in places.items()])
    stations, _, _ = tables.read_readings(table, columns=LONG, **UTC)
    assert stations["longitude"].tolist() == [-180.0, -180.0, -0.5, -170.0]
    moved = pd.concat([hourly("A", [0.2, 0.2]).assign(lon=[179.999, -179.999])])
    assert len(tables.read_readings(moved, columns=LONG, **UTC)[0]) == 1


def test_blanks_around_a_name_mean_nothing():
    stations, observations, _ = tables.read_readings(
        mesonet(site=["A ", "A", "\u00a0B"]), columns=LONG, **UTC
    )
    assert stations["station"].tolist() == ["A", "B"] and len(observations) == 3


@pytest.mark.parametrize("kind", [int, float, str, "Int64"])
def test_flags_of_another_kind_must_be_told(kind):
    """0 is good and 1 is bad at NEON, 1 is good elsewhere; the bad one wins no hour."""
    flag = pd.Series([1, 0, 0, 1]).astype(kind).where([True, True, True, False])
    when = [f"2020-07-01 {hour}" for hour in ("06:00", "06:30", "07:00", "08:00")]
    table = hourly("A", [0.9, 0.2, 0.21, 0.5], qc=flag, when=when)
    columns = LONG | {"flag": "qc"}
    with pytest.raises(UnknownNameError, match=r"unknown flags '', '0', '1'.*flags=\(...\)"):
        tables.read_readings(table, columns=columns, **UTC)
    _, observations, notes = tables.read_readings(table, columns=columns, flags=("0",), **UTC)
    assert observations["soil_moisture_m3_m3"].tolist() == pytest.approx([0.2, 0.21])
    assert observations["flag"].tolist() == ["G", "G"]
    assert notes[notes["status"] == "flag"]["n_dropped"].tolist() == [1, 1]
    assert notes["n_rows"].iloc[0] == len(observations) + notes["n_dropped"].sum()


def test_known_flags_that_are_not_good_win_no_hour():
    table = hourly("A", [0.9, 0.2], qc=["D06", "G"], when=["2020-07-01 06:00", "2020-07-01 06:30"])
    _, observations, _ = tables.read_readings(table, columns=LONG | {"flag": "qc"}, **UTC)
    assert observations["soil_moisture_m3_m3"].tolist() == pytest.approx([0.2])


def test_files_that_no_table_is_in_are_refused_at_once(tmp_path):
    """A folder, a pipe, a link to nothing, a bomb, a row of 5,000 fields, no text."""
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    text = mesonet().to_csv(index=False).encode()
    (tmp_path / "bomb").write_bytes(gzip.compress(text + b"," * 2**28))
    (tmp_path / "wide").write_bytes(text.replace(b"A,", b"," * 5000 + b"A,", 1))
    (tmp_path / "nul").write_bytes(text.replace(b"A", b"A\0", 1))
    (tmp_path / "header").write_bytes(text.split(b"\n")[0])
    words = {"": "No table at", "link": "No table at", "pipe": "No table at", "bomb": "unpacks to",
             "wide": "over 1000 fields", "nul": "NUL", "header": "no rows"}  # fmt: skip
    for name, match in words.items():
        with pytest.raises((ArchiveReadError, ContractError), match=match):
            tables.read_readings(tmp_path / name, columns=LONG, **UTC)


def test_another_unit_depth_or_decimal_is_refused_and_a_gap_is_noted():
    """A network's "A" in m3 m-3 among percent; depths of inf; constants in a table of commas."""
    percent = hourly("A", [20.0 + k for k in range(14)], net="X")
    mixed = pd.concat([percent, hourly("A", [0.2] * 14, net="Y", lat=60.0)])
    columns = {k: LONG[k] for k in ("station", "time", "soil_moisture", "latitude", "longitude")}
    with pytest.raises(UnitError, match=r"1 stations exceeds 1 \(Y__A__"):
        tables.read_readings(mixed, columns=columns | {"network": "net"}, units="%", timezone="UTC")
    some = hourly("A", [0.2] * 3, z=np.inf)
    with pytest.raises(ContractError, match="inf to inf"):
        tables.read_readings(some, columns=columns | {"depth_from_m": "z"}, **UTC)
    gap = columns | {"depth_from_m": "z"}
    _, _, notes = tables.read_readings(some.assign(z=np.nan), columns=gap, **UTC)
    assert "unknown depth" in set(notes["status"])
    stations, _, _ = tables.read_readings(some, columns=columns, **UTC, decimal=",")
    assert stations["depth_from_m"].tolist() == [0.05]
