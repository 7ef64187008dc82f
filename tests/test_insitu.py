"""In-situ archives: what a reading, a sensor and a station are, and what is counted on the way."""

import errno
import logging
import os
import weakref
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soilkit import contracts
from soilkit.errors import ArchiveReadError, ParameterError, StoreError, UnitError, UnknownNameError
from soilkit.export import insitu, ten_day_table
from soilkit.export.insitu import ismn, reader

DATA = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data")
BIG = DATA / "ismn" / "ismn_us_header_2019_2021.zip"
SMALL = DATA / "ismn" / "small" / "ismn_pkg_test_data"
needs_data = pytest.mark.skipif(
    not BIG.exists(), reason="SOILKIT_TEST_DATA names no folder with the real ISMN archives"
)
STATIC = """quantity_name;unit;depth_from[m];depth_to[m];value;description;quantity_source_name;
clay fraction;% weight;0.00;0.30;24.00;;HWSD;
sand fraction;% weight;0.00;0.30;47.00;;HWSD;
silt fraction;% weight;0.00;0.30;29.00;;HWSD;
saturation;m^3*m^-3;0.00;0.30;0.43;;HWSD;
organic carbon;% weight;0.00;0.30;0.86;;HWSD;
land cover classification;;;;130;Grassland;CCI_landcover_2010;
climate classification;;;;Cfa;Temperate;koeppen_geiger_2007;
"""


def file_name(station="Byron", *, probe="Hydra", depth="0.050000_0.050000", top=""):
    return f"{top}ARM/{station}/ARM_ARM_{station}_sm_{depth}_{probe}_20190101_20191231.stm"


def header_values(*rows, place="36.5 -97.5 322.0", end="\n"):
    lines = [f"ARM ARM Byron {place} 0.05 0.05 Hydra", *rows]
    return end.join(lines) + end


def ceop(*rows, end="\n"):
    """The same readings in the 15 columns of CEOP, nominal and actual time apart."""
    lines = []
    for row in rows:
        day, hour, *rest = row.split()
        lines.append(
            f"{day} {hour} {day} {hour} ARM ARM Byron 36.5 -97.5 322.0 0.05 0.05 {' '.join(rest)}"
        )
    return end.join(lines) + end


ROWS = (
    "2019/01/01 00:00 0.2000 G M",
    "2019/01/01 01:00 0.2100 D03 M",
    "2019/01/01 02:00 0.6200 C02 M",
    "2019/01/01 03:00 0.6300 C03,C02 M",
)


def values(observations):
    return observations["soil_moisture_m3_m3"].astype(float).round(4).tolist()


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def archive_of(tmp_path, *rows, name="a.zip", **options):
    return write_zip(tmp_path / name, {file_name(): header_values(*rows, **options)})


@pytest.fixture
def read(tmp_path):
    def read_it(path, **options):
        return insitu.read_ismn(path, cache_dir=tmp_path / "cache", progress=False, **options)

    return read_it


@pytest.fixture
def options(tmp_path):
    return {"cache_dir": tmp_path / "cache", "progress": False}


def test_frozen_soil_is_not_accepted_but_very_wet_soil_is(tmp_path, read):
    observations = read(archive_of(tmp_path, *ROWS))
    contracts.check(observations, contracts.OBSERVATIONS)
    assert observations["flag"].tolist() == ["G", "C02", "C02,C03"]
    assert values(observations) == [0.2, 0.62, 0.63]
    assert observations.attrs["counts"]["kept: flag C02"] == 1
    assert observations.attrs["counts"]["lost: flag D03"] == 1


def test_other_flags_and_depths_reuse_the_same_cache(tmp_path, read, monkeypatch):
    archive = write_zip(
        tmp_path / "a.zip",
        {
            file_name(): header_values(*ROWS),
            file_name(depth="0.200000_0.200000"): header_values(*ROWS),
        },
    )
    read(archive)
    monkeypatch.setattr(reader, "write_cache", None)  # would raise if it were called again
    frozen = read(archive, flags=("D03",))
    assert values(frozen) == [0.21]
    assert read(archive, max_depth_m=0.2)["sensor_id"].nunique() == 2
    for wrong in ("x", None, -0.05, np.nan):
        with pytest.raises(ParameterError, match="max_depth_m should be metres"):
            read(archive, max_depth_m=wrong)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\r", "\r\r\n"])
@pytest.mark.parametrize("write", [header_values, ceop])
def test_formats_and_line_ends_say_the_same(tmp_path, read, write, end):
    archive = write_zip(tmp_path / "a.zip", {file_name(): write(*ROWS, end=end)})
    assert values(read(archive)) == [0.2, 0.62, 0.63]


def test_a_top_folder_and_an_unpacked_archive_change_nothing(tmp_path, read, options):
    member, text = file_name(), header_values(*ROWS)
    zipped = write_zip(tmp_path / "a.zip", {"download/2019/" + member: text})
    path = tmp_path / "unpacked" / member
    path.parent.mkdir(parents=True)
    path.write_text(text)
    pd.testing.assert_frame_equal(read(zipped), read(tmp_path / "unpacked"))
    stations = insitu.read_stations(zipped, **options)
    assert stations["station_id"].tolist() == ["ARM__Byron"]


def test_one_probe_name_at_two_depths_is_two_sensors_of_one_station(tmp_path, options):
    archive = write_zip(
        tmp_path / "a.zip",
        {
            file_name(depth="0.000000_0.050000"): header_values(*ROWS),
            file_name(depth="0.050000_0.050000"): header_values(*ROWS),
            file_name(probe="Hydra-B"): header_values(*ROWS),
            "more/" + file_name(): header_values(*ROWS),
        },
    )
    stations = insitu.read_stations(archive, **options)
    contracts.check(stations, contracts.STATIONS)
    assert stations["sensor_id"].tolist() == [
        "ARM__Byron__Hydra-B__0.05__0.05",
        "ARM__Byron__Hydra__0.00__0.05",
        "ARM__Byron__Hydra__0.05__0.05",
        "ARM__Byron__Hydra~2__0.05__0.05",
    ]
    assert stations["station_id"].unique().tolist() == ["ARM__Byron"]


def test_two_inches_are_surface_and_a_layer_below_it_is_not(tmp_path, options):
    depths = ["0.050800_0.050800", "0.000000_0.000000", "0.020000_0.050000", "0.000000_0.100000"]
    archive = write_zip(
        tmp_path / "a.zip", {file_name(depth=depth): header_values(*ROWS) for depth in depths}
    )
    stations = insitu.read_stations(archive, **options)
    assert stations["depth_to_m"].tolist() == [0.0, 0.0508]
    deeper = insitu.read_stations(archive, max_depth_m=0.1, **options)
    assert deeper["depth_to_m"].tolist() == [0.0, 0.1, 0.0508]


def test_an_hour_counts_once_and_every_lost_row_is_counted(tmp_path, read, options):
    rows = (
        "2019/01/01 01:30 0.1300 G M",
        "2019/01/01 00:00 0.1000 G M",
        "2019/01/01 00:00 0.1500 G M",
        "2019/01/01 00:30 0.1700 G M",
        "2019/01/01 02:00 -9999 M M",
    )
    archive = archive_of(tmp_path, *rows)
    observations = read(archive)
    assert observations["time"].tolist() == [
        pd.Timestamp("2019-01-01 00:00"),
        pd.Timestamp("2019-01-01 01:30"),
    ]
    assert values(observations) == [0.1, 0.13]
    counts = insitu.read_counts(archive, **options).set_index("what")["rows"]
    assert (
        counts[["repeated time", "later reading of an hour", "missing value"]].tolist() == [1] * 3
    )


def test_malformed_lines_are_skipped_counted_and_shown(tmp_path, read, caplog):
    bad = ("2019/02/30 00:00 0.3 G M", "2019/01/01 07:", "@@@@", "2019/01/01 08:00 wet G M")
    with caplog.at_level(logging.WARNING, "soilkit.export.insitu"):
        observations = read(archive_of(tmp_path, ROWS[0], *bad, ROWS[2]))
    assert len(observations) == 2
    assert observations.attrs["counts"]["lost: malformed line"] == 4
    assert "4 of 6 lines are malformed" in caplog.text
    assert "such as '2019/01/01 07:'" in caplog.text


line = st.builds(
    lambda minute, value, flag: (minute, value, flag),
    st.integers(0, 600),
    st.sampled_from([-9999, -0.2, 0, 0.05, 0.31, 0.6, 0.61, 1.0]),
    st.sampled_from(["G", "C01", "C02", "C03,C02", "D01", "U", "broken line"]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(line, min_size=1, max_size=12))
def test_any_archive_reads_as_the_slow_rule_says_and_its_counts_balance(tmp_path_factory, lines):
    """Sort, drop missing, first row of a time, first row of an hour, then flags and bounds."""
    folder = tmp_path_factory.mktemp("any")
    start = pd.Timestamp("2020-02-28 20:00")
    times = [start + pd.Timedelta(minutes=minute) for minute, _, _ in lines]
    rows = [f"{t:%Y/%m/%d %H:%M} {v} {f}" for t, (_, v, f) in zip(times, lines, strict=True)]
    archive = archive_of(folder, "2020/01/01 00:00 0.2 G", *rows)
    wanted, hours = [(pd.Timestamp("2020-01-01"), 0.2)], set()
    for time, (_, value, flag) in sorted(zip(times, lines, strict=True), key=lambda x: x[0]):
        if flag == "broken line" or value == -9999 or time.floor("h") in hours:
            continue
        hours.add(time.floor("h"))
        if flag in ("G", "C02", "C03,C02") and 0 <= value <= 1:
            wanted.append((time, value))
    observations = insitu.read_ismn(archive, cache_dir=folder, progress=False)
    found = values(observations)
    assert observations["time"].tolist() == [time for time, _ in wanted]
    assert found == pytest.approx([value for _, value in wanted])
    counts = insitu.read_counts(archive, cache_dir=folder).groupby("step")["rows"].sum()
    assert counts["input"] == counts.get("lost", 0) + counts["kept"] == len(lines) + 1


def test_percent_is_recognised_and_never_guessed(tmp_path, read):
    rows = [f"2019/01/01 {hour:02}:00 {20 + hour}.5 G M" for hour in range(13)]
    with pytest.raises(UnitError, match=r"ARM__Byron.*percent.*units='percent'"):
        read(archive_of(tmp_path, *rows))


def test_one_broken_sensor_does_not_make_its_network_percent(tmp_path, read, caplog):
    wet = [f"2019/01/01 {hour:02}:00 1.5 C02 M" for hour in range(3)]
    members = {file_name(): header_values(*ROWS), file_name("Medford"): header_values(*wet)}
    with caplog.at_level(logging.WARNING, "soilkit.export.insitu"):
        observations = read(write_zip(tmp_path / "a.zip", members))
    assert observations["sensor_id"].unique().tolist() == ["ARM__Byron__Hydra__0.05__0.05"]
    assert observations.attrs["counts"]["lost: value outside 0-1 m3 m-3"] == 3
    assert "ARM__Medford__Hydra__0.05__0.05: most values exceed 1" in caplog.text


def test_one_impossible_value_is_left_out_and_counted(tmp_path, read):
    observations = read(archive_of(tmp_path, *ROWS, "2019/01/02 00:00 1.7 G M"))
    assert observations["soil_moisture_m3_m3"].max() < 1
    assert observations.attrs["counts"]["lost: value outside 0-1 m3 m-3"] == 1


def test_an_unknown_flag_is_named_with_the_known_ones(tmp_path, read):
    archive = archive_of(tmp_path, *ROWS, "2019/01/02 00:00 0.3 D77 M")
    with pytest.raises(UnknownNameError, match=r"D77.*D03 \(GLDAS soil temperature"):
        read(archive)
    assert len(read(archive, unknown_flags="drop")) == 3
    assert len(read(archive, flags=("G", "D77"))) == 2
    assert len(read(archive, flags=None)) == 5
    with pytest.raises(UnknownNameError, match=r"Unknown flags GOOD.*Here are"):
        read(archive, flags=("GOOD",))


def test_an_old_archive_of_unchecked_readings_warns_rather_than_falls_silent(
    tmp_path, read, caplog
):
    archive = archive_of(tmp_path, "2019/01/01 00:00 0.2 U M", "2019/01/01 01:00 0.2 U M")
    with caplog.at_level(logging.WARNING, "soilkit.export.insitu"):
        assert read(archive).empty
    assert "0 readings kept; lost: 2 flag U" in caplog.text
    assert len(read(archive, flags=("G", "U"))) == 2


def test_static_variables_become_texture_climate_and_land_cover(tmp_path, options, caplog):
    folder = "ARM/Byron/ARM_ARM_Byron_static_variables.csv"
    archive = write_zip(
        tmp_path / "a.zip",
        {
            file_name(): header_values(*ROWS),
            folder: STATIC,
            file_name("Medford"): header_values(*ROWS),
        },
    )
    stations = insitu.read_stations(archive, **options)
    assert stations["texture"].tolist() == ["Loam", ""]
    assert stations["koeppen"].tolist() == ["Cfa", ""]
    assert stations["land_cover"].tolist() == ["Vegetation", ""]
    assert stations["clay_percent"].tolist()[0] == 24
    counts = insitu.read_counts(archive, **options).set_index("what")["sensors"]
    assert counts["no static variables"] == 1
    assert "1 of 2 sensors have no static variables" in caplog.text


def test_stations_without_coordinates_are_named(tmp_path, options):
    archive = archive_of(tmp_path, *ROWS, place="-9999 None 322.0")
    with pytest.raises(ArchiveReadError, match=r"no coordinates: ARM__Byron.*without_coordinates"):
        insitu.read_stations(archive, **options)
    assert insitu.read_stations(archive, without_coordinates="drop", **options).empty
    counts = insitu.read_counts(archive, **options).set_index("what")["sensors"]
    assert counts["no coordinates"] == 1


def damage(path):
    """Flip bytes in the middle of the only member; its CRC then tells."""
    raw = bytearray(path.read_bytes())
    raw[200:220] = b"?" * 20
    path.write_bytes(raw)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-30])


def locked(path):
    """Mark the only member as encrypted."""
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    raw[raw.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)


def no_bytes(path):
    path.write_bytes(b"")


def no_members(path):
    write_zip(path, {})


def no_readings(path):
    write_zip(path, {"Readme.txt": "hello"})


def no_sensible_file(path):
    write_zip(path, {file_name(): "no good data here\n"})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (damage, "is damaged.*again"),
        (locked, "encrypted.*unpack it"),
        (truncated, "no readable zip"),
        (no_bytes, "0 bytes"),
        (no_members, "no .stm file"),
        (no_readings, "no .stm file"),
        (no_sensible_file, "no readable soil moisture sensor"),
        (Path.unlink, "No archive at"),
    ],
)
def test_a_spoilt_archive_is_refused_and_leaves_no_cache(tmp_path, read, spoil, words):
    archive = archive_of(tmp_path, *(ROWS * 10))
    spoil(archive)
    with pytest.raises(ArchiveReadError, match=words):
        read(archive)
    assert not list(tmp_path.glob("cache/*"))


def test_an_unreadable_file_is_counted_and_the_others_are_read(tmp_path, read, options):
    archive = write_zip(
        tmp_path / "a.zip",
        {file_name(): header_values(*ROWS), file_name("Medford"): "no good data here"},
    )
    assert len(read(archive)) == 3
    counts = insitu.read_counts(archive, **options).set_index("what")["sensors"]
    assert counts["unreadable files"] == 1


def test_a_full_disk_leaves_nothing_half_written(tmp_path, read, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = archive_of(tmp_path, *ROWS)
    with monkeypatch.context() as patch:
        patch.setattr(reader.pq.ParquetWriter, "write_table", full)
        with pytest.raises(StoreError, match=r"No space left.*cache_dir"):
            read(archive)
    assert not list((tmp_path / "cache").iterdir())
    assert len(read(archive)) == 3


def test_a_full_scratch_folder_never_costs_a_sensor(tmp_path, read, monkeypatch):
    """The second static table cannot be unpacked: no cache without it may pass for whole."""
    members = {file_name(s): header_values(*ROWS) for s in ("Byron", "Medford")}
    members |= {f"ARM/{s}/ARM_ARM_{s}_static_variables.csv": STATIC for s in ("Byron", "Medford")}
    archive = write_zip(tmp_path / "a.zip", members)
    real, written = Path.write_bytes, []

    def full(self, content):
        written.append(self)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(StoreError, match=r"No space left.*Free some space there, or name"):
            read(archive)
    assert not list((tmp_path / "cache").iterdir())
    assert read(archive)["sensor_id"].nunique() == 2


def test_a_home_that_cannot_be_written_names_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file, and no folder")
    for name in ("HOME", "LOCALAPPDATA", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("SOILKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StoreError, match=r"cannot be written.*cache_dir=.*SOILKIT_CACHE"):
        insitu.read_ismn(archive_of(tmp_path, *ROWS), progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "home"]


def test_the_cache_follows_the_content_and_not_the_name(tmp_path, read):
    first = archive_of(tmp_path, *ROWS)
    read(first)
    read(first.rename(tmp_path / "renamed.zip"))
    assert len(list((tmp_path / "cache").iterdir())) == 1
    changed = archive_of(tmp_path, *ROWS[:1])
    assert len(read(changed)) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("name", ["observations", "sensors", "tallies", "unreadable"])
def test_a_damaged_cache_is_made_again(tmp_path, read, name):
    """One flipped bit in a page of readings, and a table that is cut."""
    archive = archive_of(tmp_path, *ROWS)
    want = read(archive)
    (folder,) = (tmp_path / "cache").iterdir()
    raw = bytearray((folder / f"{name}.parquet").read_bytes())
    raw[len(raw) // 3] ^= 4
    for damaged in (raw, raw[:20]):
        (folder / f"{name}.parquet").write_bytes(damaged)
        pd.testing.assert_frame_equal(read(archive), want)


def test_the_cache_lives_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("SOILKIT_CACHE", str(tmp_path / "mine"))
    insitu.read_ismn(archive_of(tmp_path, *ROWS), progress=False)
    assert len(list((tmp_path / "mine").iterdir())) == 1


def test_sensors_come_back_in_order_however_many_are_read_at_a_time(tmp_path, read, monkeypatch):
    """A row group a sensor; deep ones in between are not read, and no sensor loses a reading."""
    monkeypatch.setattr(reader, "SENSORS_AT_A_TIME", 3)
    members, wanted = {}, {}
    for number in range(7):
        depth = "0.050000_0.050000" if number % 3 else "0.300000_0.300000"
        station = f"S{number}"
        rows = [f"2019/01/01 {h:02}:00 0.{number}{h} G M" for h in range(number + 1)]
        members[file_name(station, depth=depth)] = header_values(*rows)
        wanted[station] = [float(f"0.{number}{h}") for h in range(number + 1)]
    observations = read(write_zip(tmp_path / "a.zip", members), max_depth_m=1.0)
    found = observations.groupby("sensor_id", observed=True)["soil_moisture_m3_m3"].apply(list)
    assert [name.split("__")[1] for name in found.index] == sorted(wanted)
    for values, expected in zip(found, wanted.values(), strict=True):
        assert values == pytest.approx(expected)
    assert observations["sensor_id"].cat.codes.is_monotonic_increasing
    assert read(tmp_path / "a.zip")["sensor_id"].nunique() == 4


def test_a_build_holds_one_sensor_at_a_time(tmp_path):
    """Fifty sensors stream through; none waits in memory for the next."""
    alive, most = weakref.WeakSet(), []

    class Sensor:
        lost: ClassVar = {"lines": 10}

        def __init__(self, number):
            self.attributes = {"sensor_id": f"s{number}", "depth_to_m": 0.05}
            self.readings = hourly("s", "2019-01-01", [0.2] * 10).drop(columns="sensor_id")
            alive.add(self)

    def sensors():
        for number in range(50):
            yield Sensor(number)
            most.append(len(alive))

    reader.write_cache(tmp_path / "cache", sensors(), unreadable=[])
    assert len(most) == 50
    assert max(most) <= 2


def test_two_builds_of_one_archive_leave_one_whole_cache(tmp_path, read):
    archive = archive_of(tmp_path, *ROWS)
    read(archive)
    (folder,) = (tmp_path / "cache").iterdir()
    slower = type(
        "Sensor",
        (),
        {
            "attributes": {"sensor_id": "s", "depth_to_m": 0.05},
            "readings": hourly("s", "2019-01-01", [0.2]),
            "lost": {},
        },
    )
    reader.write_cache(folder, [slower], unreadable=[])
    assert len(read(archive)) == 3
    assert [f.name for f in (tmp_path / "cache").iterdir()] == [folder.name]


def test_ids_are_safe_file_names():
    found = ismn.sensor_id("N", 'a:b/c "x"', instrument="P", depth_m=(0, 0.05))
    assert not set(found) & set('\\/:*?"<>| ')


# Real archives.


@needs_data
@pytest.mark.parametrize(
    ("name", "n_readings", "networks"),
    [
        ("zip_archives/ceop/Data_seperate_files_20170810_20180809.zip", 13924, {"COSMOS"}),
        ("zip_archives/header/Data_seperate_files_header_20170810_20180809.zip", 13924, {"COSMOS"}),
        ("zip_archives/format_header_values/Data_SMOSMANIA.zip", 741, {"SMOSMANIA"}),
        (
            "zip_archives/multinetwork/header_values/Data_header_values.zip",
            211403,
            {"MAQU", "SCAN", "SOILSCAPE"},
        ),
        ("format_ceop_sep", 741, {"SMOSMANIA"}),
        ("Data_seperate_files_20170810_20180809.zip", 65969, {"COSMOS", "FR_Aqui"}),
    ],
)
def test_real_samples_of_every_layout_are_read_in_full(tmp_path, name, n_readings, networks):
    options = {"cache_dir": tmp_path, "progress": False, "max_depth_m": 0.25}
    flags = (
        insitu.read_counts(SMALL / name, **options)["what"].str.extract("^flag (.*)$")[0].dropna()
    )
    observations = insitu.read_ismn(SMALL / name, flags=tuple(flags), **options)
    counts = observations.attrs["counts"]
    assert len(observations) + counts.get("lost: value outside 0-1 m3 m-3", 0) == n_readings
    assert set(insitu.read_stations(SMALL / name, **options)["network"]) == networks


@needs_data
def test_both_formats_of_one_real_archive_hold_the_same_readings(tmp_path, read):
    one, other = (
        read(SMALL / "zip_archives" / name, max_depth_m=0.25)
        for name in (
            "ceop/Data_seperate_files_20170810_20180809.zip",
            "header/Data_seperate_files_header_20170810_20180809.zip",
        )
    )
    pd.testing.assert_frame_equal(one, other)


@needs_data
def test_a_folder_without_an_archive_is_refused(read):
    with pytest.raises(ArchiveReadError, match="no .stm file"):
        read(SMALL / "malformed")


def sample_of(archive, path, *, stations):
    """A zip of some stations of a bigger one."""
    with zipfile.ZipFile(archive) as big, zipfile.ZipFile(path, "w") as small:
        for name in big.namelist():
            if name.rpartition("/")[0] in stations:
                small.writestr(name, big.read(name))
    return path


def published_labels():
    table = pd.read_parquet(DATA / "us_10day" / "matched_10day.parquet")
    return table[["key", "start", "sm_insitu", "sm_days"]]


def agreement(archive, published, options):
    observations = insitu.read_ismn(archive, **options)
    labels = ten_day_table.ten_day_labels(observations, insitu.read_stations(archive, **options))
    return ten_day_table.compare_labels(labels, published).set_index("what")["value"]


@needs_data
def test_ten_day_labels_of_real_stations_are_reproduced(tmp_path, options):
    stations = ("USCRN/Tucson-11-W", "TxSON/CR200-1", "ARM/Byron")
    archive = sample_of(BIG, tmp_path / "sample.zip", stations=stations)
    published = published_labels()
    published = published[published["key"].isin(["USCRN/tucson11w", "TxSON/cr2001", "ARM/byron"])]
    found = agreement(archive, published, options)
    assert found["stations compared"] == published["key"].nunique() >= 2
    assert found["windows compared"] == published["sm_insitu"].notna().sum()
    assert found["largest absolute difference m3 m-3"] < 1e-6


@needs_data
@pytest.mark.slow
def test_ten_day_labels_of_the_whole_real_archive_are_reproduced(options):
    """9,549 windows of 94 stations: the published labels to single precision."""
    found = agreement(BIG, published_labels(), options)
    assert found["stations compared"] == 94
    assert found["windows compared"] == 9549
    assert found["windows only here"] == found["windows only published"] == 0
    assert found["windows with another number of days"] == 0
    assert found["largest absolute difference m3 m-3"] < 1e-6


# Labels, on our own few rows.


def hourly(sensor, day, values, *, flag="G"):
    times = pd.Timestamp(day) + pd.to_timedelta(np.arange(len(values)), unit="h")
    return pd.DataFrame(
        {"sensor_id": sensor, "time": times, "soil_moisture_m3_m3": values, "flag": flag}
    )


def two_sensors(depths=(0.05, 0.0508)):
    return pd.DataFrame(
        {
            "sensor_id": ["a", "b"],
            "station_id": ["NET__St-1"] * 2,
            "network": ["NET"] * 2,
            "station": ["St-1"] * 2,
            "depth_to_m": depths,
        }
    )


def test_a_day_needs_twelve_good_hours():
    eleven = hourly("a", "2019-01-03", [0.9] * 11)
    frozen = hourly("a", "2019-01-04", [0.8] * 24, flag="D03")
    twelve = hourly("a", "2019-01-05", [0.2] * 12)
    labels = ten_day_table.ten_day_labels(pd.concat([eleven, frozen, twelve]), two_sensors())
    assert labels["sm_insitu"].tolist() == [pytest.approx(0.2)]
    assert labels["sm_days"].tolist() == [1]
    assert labels["key"].tolist() == ["NET/st1"]
    assert labels["start"].tolist() == [pd.Timestamp("2019-01-01")]


def test_sensors_are_averaged_within_the_day_before_days_are():
    # Day 1: (0.1 + 0.3) / 2 = 0.2, day 2: 0.4 of one sensor alone; the window's mean is 0.3.
    readings = pd.concat(
        [
            hourly("a", "2019-01-01", [0.1] * 24),
            hourly("b", "2019-01-01", [0.3] * 12),
            hourly("a", "2019-01-02", [0.4] * 24),
            hourly("a", "2019-01-11", [0.5] * 24),
        ]
    )
    labels = ten_day_table.ten_day_labels(readings, two_sensors())
    assert labels["sm_insitu"].tolist() == pytest.approx([0.3, 0.5])
    deep = ten_day_table.ten_day_labels(readings, two_sensors(depths=(0.05, 0.055)))
    assert deep["sm_insitu"].tolist() == pytest.approx([0.25, 0.5])  # b lies too deep


def test_the_comparison_tells_what_differs_and_what_only_one_side_has():
    labels = ten_day_table.ten_day_labels(hourly("a", "2019-01-01", [0.2] * 24), two_sensors())
    published = pd.DataFrame(
        {
            "key": "NET/st1",
            "start": pd.to_datetime(["2019-01-01", "2019-01-11"]),
            "sm_insitu": [0.25, 0.3],
            "sm_days": [2.0, 1.0],
        }
    )
    found = ten_day_table.compare_labels(labels, published).set_index("what")["value"]
    assert found["windows compared"] == found["windows only published"] == 1
    assert found["mean absolute difference m3 m-3"] == pytest.approx(0.05)
    assert found["of those, with another number of days"] == 1


def bomb(path):
    """A member that says that it holds a gigabyte, another that is cut."""
    info = zipfile.ZipInfo(file_name("Large"))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(info, "w") as member:
            for _ in range(65):
                member.write(b"\n" * 2**20)
        archive.writestr(file_name("Twice"), header_values(*ROWS))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(file_name("Twice"), header_values(ROWS[0].replace("0.2", "0.4")))


def test_bad_members_are_named_and_the_rest_is_read(tmp_path, read, options):
    """Too large, twice, older than any probe; capitals in a suffix mean nothing."""
    archive = write_zip(
        tmp_path / "a.zip",
        {
            file_name(): header_values(
                *ROWS, "0001/01/01 00:00 0.3 G M", "9999/12/31 00:00 0.3 G M"
            ),
            file_name("Up").replace(".stm", ".STM"): header_values(*ROWS),
        },
    )
    bomb(archive)
    observations = read(archive)
    assert observations["sensor_id"].nunique() == 2 and len(observations) == 6
    assert observations.attrs["counts"]["lost: malformed line"] == 2
    (folder,) = (tmp_path / "cache").iterdir()
    reasons = pd.read_parquet(folder / "unreadable.parquet").set_index("file")["reason"]
    assert "more than the 67,108,864 of any sensor" in reasons[file_name("Large")]
    assert "twice" in reasons[file_name("Twice")]


def test_pipes_and_links_to_nothing_are_named_and_not_waited_for(tmp_path, read):
    folder = tmp_path / "unpacked"
    for name in ("Byron", "Pipe", "Dead"):
        (folder / file_name(name)).parent.mkdir(parents=True)
    (folder / file_name()).write_text(header_values(*ROWS))
    os.mkfifo(folder / file_name("Pipe"))
    (folder / file_name("Dead")).symlink_to(tmp_path / "nowhere")
    observations = read(folder)
    assert len(observations) == 3 and observations.attrs["counts"]["note: unreadable files"] == 2
    with pytest.raises(ArchiveReadError, match="No archive at"):
        read(folder / file_name("Pipe"))


def test_a_station_at_two_places_is_refused_or_left_out_by_name(tmp_path, options):
    """Two probes of one station, 111 km apart: neither place is the station's."""
    members = {
        file_name(): header_values(*ROWS),
        file_name("Far"): header_values(*ROWS),
        file_name("Far", probe="B"): header_values(*ROWS, place="37.5 -97.5 322.0"),
    }
    archive = write_zip(tmp_path / "a.zip", members)
    with pytest.raises(ArchiveReadError, match="1 stations stand at several places: ARM__Far"):
        insitu.read_stations(archive, **options)
    stations = insitu.read_stations(archive, without_coordinates="drop", **options)
    assert stations["station_id"].tolist() == ["ARM__Byron"]
    counts = insitu.read_counts(archive, **options).set_index("what")
    assert counts.loc["stations at several places", "sensors"] == 2
