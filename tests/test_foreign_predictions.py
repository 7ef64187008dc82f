"""Anybody's table of predictions: each defect has a status, or an error that says what to do."""

import gzip

import numpy as np
import pandas as pd
import pytest

from soilkit import contracts, metrics
from soilkit.errors import ArchiveReadError, ContractError, ParameterError, TimeZoneError, UnitError
from soilkit.export.tables import read_predictions


def rows(n_days=20, stations=("A", "B"), **columns):
    """A minimal table: station, time, observed and predicted, all in m3 m-3 and UTC."""
    rng = np.random.default_rng(0)
    n = n_days * len(stations)
    time = pd.date_range("2020-01-01", periods=n_days, freq="D").strftime("%Y-%m-%dT06:00:00Z")
    observed = rng.uniform(0.1, 0.4, n).round(4)
    table = pd.DataFrame(
        {
            "station": np.repeat(stations, n_days),
            "time": np.tile(time, len(stations)),
            "observed": observed,
            "predicted": (observed + rng.normal(0, 0.03, n).round(4)).clip(0),
        }
    )
    return table.assign(**columns)


def written(tmp_path, table, **options):
    path = tmp_path / "smap.csv"
    table.to_csv(path, index=False, **options)
    return path


def read(source, *, units="m3 m-3", **options):
    """The predictions, and the notes by status; rows are conserved whatever was done."""
    predictions, notes = read_predictions(source, units=units, **options)
    contracts.check(predictions, contracts.PREDICTIONS)
    assert notes["status"].iloc[0] == "read"
    assert notes["n_rows"].iloc[0] == len(predictions) + notes["n_dropped"].sum()
    return predictions, notes.set_index("status")


# The minimal table


@pytest.mark.parametrize("form", ["csv", "csv.gz", "semicolon", "tab", "parquet", "frame", "bom"])
def test_four_columns_are_enough_in_any_file(tmp_path, form):
    """The rest is derived and noted; scores are those of the table itself."""
    table = rows()
    path = tmp_path / "smap.csv"
    separator = {"semicolon": ";", "tab": "\t"}.get(form, ",")
    text = table.to_csv(index=False, sep=separator).encode()
    if form == "csv.gz":
        path.write_bytes(gzip.compress(text))
    elif form == "parquet":
        table.to_parquet(path)
    else:
        path.write_bytes(b"\xef\xbb\xbf" + text if form == "bom" else text)
    found, notes = read(table if form == "frame" else path)
    np.testing.assert_array_equal(found["predicted_m3_m3"], table["predicted"])
    assert set(notes.loc["derived", "column"]) == {
        "sensor_id", "network", "model", "split", "sample_id",
    }  # fmt: skip
    assert found["model"].iloc[0] == ("foreign" if form == "frame" else "smap")
    assert found["split"].iloc[0] == "unknown"
    scores = metrics.station_scores(found)
    part = table[table["station"] == "A"]
    assert scores["sensor_id"].tolist() == ["A", "B"]
    assert scores["r"].iloc[0] == pytest.approx(
        np.corrcoef(part["observed"], part["predicted"])[0, 1], abs=1e-12
    )


def test_a_sensor_id_tells_station_and_network():
    """NETWORK__STATION__SENSOR__FROM__TO needs no station column."""
    table = rows(stations=("SCAN__Ames__P__0.05__0.05",)).rename(columns={"station": "sensor_id"})
    found, notes = read(table)
    assert found["station_id"].unique().tolist() == ["SCAN__Ames"]
    assert found["network"].unique().tolist() == ["SCAN"]
    assert "station_id" in set(notes.loc["derived", "column"])


def test_identifiers_stay_text(tmp_path):
    """Station 007 is no 7, and a network may be called NA, and is part of the name."""
    path = written(tmp_path, rows(stations=("007", "7")).assign(network="NA"))
    found, _ = read(path)
    assert sorted(found["station_id"].unique()) == ["NA__007", "NA__7"]
    assert found["network"].unique().tolist() == ["NA"]


def test_columns_and_constants_can_be_told():
    """A mapping wins over spellings, '=' names a constant."""
    table = rows().rename(columns={"station": "plot", "predicted": "sm"})
    told = {"station": "plot", "predicted": "sm", "model": "=l3", "split": "=test"}
    found, notes = read(table, columns=told)
    assert found["model"].unique().tolist() == ["l3"]
    assert "model" not in set(notes.loc[["derived"], "column"])
    assert set(notes.loc[["column"], "column"]) == {"time", "observed"}


# Missing columns


def test_three_missing_columns_are_named_with_what_is_there():
    """What is needed, what is missing, what the table has, and how to say it."""
    table = rows().rename(columns={"time": "when", "observed": "x", "predicted": "y"})
    with pytest.raises(ContractError) as error:
        read(table)
    text = str(error.value)
    assert "lacks 3 of the 4 columns that are needed: time, observed, predicted" in text
    assert "the table has station, when, x, y" in text and "columns={'time': 'its name'" in text


def test_a_wrong_mapping_is_refused():
    """Unknown quantities, absent columns, constants for what must vary, two candidates."""
    with pytest.raises(ContractError, match="no quantity or no place of one: depth: 'd'"):
        read(rows(), columns={"depth": "d"})
    with pytest.raises(ContractError, match="absent columns: sm;.*the table has station, time"):
        read(rows(), columns={"predicted": "sm"})
    with pytest.raises(ContractError, match="constants that cannot be: observed"):
        read(rows(), columns={"observed": "=0.2"})
    with pytest.raises(ContractError, match="predicted may be any of predicted, pred"):
        read(rows().assign(pred=0.2))


# Duplicates


def test_duplicates_are_refused_until_told_which_row_counts():
    """Two repeats of one row, one of them with another value: each rule by hand."""
    table = rows()
    again = table.iloc[[3, 5]].copy()
    again["predicted"] = [table["predicted"][3], table["predicted"][5] + 0.1]
    doubled = pd.concat([table, again], ignore_index=True)
    with pytest.raises(ContractError, match="2 rows repeat .* 1 of them with other values.*A at"):
        read(doubled)
    for rule, extra in (("first", 0.0), ("last", 0.1), ("mean", 0.05)):
        found, notes = read(doubled, duplicates=rule)
        assert len(found) == len(table)
        line = notes.loc["duplicate"]
        assert (line["n_rows"], line["n_dropped"], line["stations"]) == (2, 2, "A")
        found = found.sort_values("sample_id", ignore_index=True)
        assert found["predicted_m3_m3"][5] == pytest.approx(table["predicted"][5] + extra)
        assert found["predicted_m3_m3"][3] == pytest.approx(table["predicted"][3])
    with pytest.raises(ParameterError, match="'any'"):
        read(doubled, duplicates="any")


def test_replicate_sensors_are_no_duplicates_once_named():
    """Two probes at a station: the error points at the sensor column, which solves it."""
    table = pd.concat([rows().assign(probe="p1"), rows().assign(probe="p2")])
    with pytest.raises(ContractError, match="several sensors, name their column"):
        read(table)
    named = table.assign(probe=table["station"] + "-" + table["probe"])
    found, notes = read(named, columns={"sensor": "probe"})
    assert found["sensor_id"].nunique() == 4 and "duplicate" not in notes.index


# Values


def test_constant_series_are_named_and_have_no_correlation():
    """A prediction that never moves: noted by station, and again in the scores' status."""
    table = rows()
    table.loc[table["station"] == "B", "predicted"] = 0.25
    found, notes = read(table)
    line = notes.loc["constant series"]
    assert (line["column"], line["n_rows"], line["stations"]) == ("predicted_m3_m3", 20, "B")
    scores = metrics.station_scores(found).set_index("station_id")
    assert scores.loc["B", "status"] == "constant prediction" and np.isnan(scores.loc["B", "r"])


def test_infinite_and_fill_values_are_missing_and_counted(tmp_path):
    """inf, -inf and -9999 from a file: three rows without a pair, none of them in a score."""
    table = rows()
    table.loc[0, "predicted"], table.loc[1, "observed"] = np.inf, -np.inf
    table.loc[25, "observed"] = -9999
    found, notes = read(written(tmp_path, table))
    infinite = notes.loc["infinite"].set_index("column")
    assert infinite["n_rows"].to_dict() == {"observed": 1, "predicted": 1}
    assert (notes.loc["fill value", "n_rows"], notes.loc["fill value", "stations"]) == (1, "B")
    assert notes.loc["no finite pair", "n_rows"] == 3
    assert np.isfinite(found["predicted_m3_m3"]).sum() == 39
    assert metrics.station_scores(found)["n"].tolist() == [18, 19]


def test_impossible_values_are_named():
    """An observation of -0.2 is an error of the probe; a prediction of -0.2 is scored."""
    table = rows()
    table.loc[0, ["observed"]], table.loc[1, ["predicted"]] = -0.2, -0.2
    found, notes = read(table)
    lines = notes.loc["impossible value"].set_index("column")
    assert lines.loc["observed", "detail"].endswith("taken as missing")
    assert lines.loc["predicted", "detail"].endswith("scored as it stands")
    assert np.isnan(found["observed_m3_m3"][0]) and found["predicted_m3_m3"][1] == -0.2


def test_percent_is_never_divided_silently():
    """Refused as m3 m-3, divided once when told, for one column or for both."""
    percent = rows()
    percent[["observed", "predicted"]] *= 100
    with pytest.raises(UnitError, match="observed should hold m3 m-3.*2 of 2 stations.*units='%'"):
        read(percent)
    found, notes = read(percent, units="%")
    np.testing.assert_allclose(found["observed_m3_m3"], rows()["observed"], atol=1e-12)
    assert set(notes.loc["unit", "column"]) == {"observed", "predicted"}
    half = rows().assign(predicted=rows()["predicted"] * 100)
    with pytest.raises(UnitError, match="predicted should hold m3 m-3"):
        read(half)
    found, _ = read(half, units={"observed": "m3 m-3", "predicted": "%"})
    np.testing.assert_allclose(found["predicted_m3_m3"], rows()["predicted"], atol=1e-12)
    with pytest.raises(UnitError, match="predicted"):
        read(half, units={"observed": "m3 m-3"})


def test_the_other_unit_is_found_at_single_stations_too():
    """One of five stations in percent is refused by name; m3 m-3 called % as well."""
    table = rows(stations=tuple("ABCDE"))
    table.loc[table["station"] == "D", ["observed", "predicted"]] *= 100
    with pytest.raises(UnitError, match=r"1 of 5 stations \(D\)"):
        read(table)
    with pytest.raises(UnitError, match="said to be in %, but 99 %"):
        read(rows(), units="%")
    with pytest.raises(UnitError, match=r"4 stations exceeds 1 \(A, B, C, E\)"):
        read(table, units="%")
    few = pd.concat([table[table["station"] == "D"], table[table["station"] == "A"].head(3)])
    _, notes = read(few, units="%")
    assert notes.loc["perhaps another unit", "stations"].tolist() == ["A"] * 2
    with pytest.raises(UnitError, match="not guessed"):
        read(rows(), units="vol")


def test_a_std_shares_the_unit_of_the_prediction():
    """Three percent become 0.03; a negative one is an error."""
    table = rows().assign(predicted_std=3.0)
    table[["observed", "predicted"]] *= 100
    found, _ = read(table, units="%")
    np.testing.assert_allclose(found["predicted_std_m3_m3"], 0.03)
    with pytest.raises(ContractError, match="negative in 40 rows"):
        read(table.assign(predicted_std=-3.0), units="%")


def test_text_among_numbers_is_refused_with_its_rows(tmp_path):
    """'wet' in the third row is named; the usual words for nothing are not text."""
    table = rows().astype({"predicted": object})
    table.loc[2, "predicted"] = "wet"
    table.loc[4, "predicted"] = "n/a"
    with pytest.raises(ContractError, match="'predicted' holds text in 1 rows: 'wet' in row 3"):
        read(written(tmp_path, table))
    table.loc[2, "predicted"] = "-"
    found, _ = read(written(tmp_path, table))
    assert found["predicted_m3_m3"].isna().tolist()[:5] == [False, False, True, False, True]


def test_decimal_commas_must_be_told(tmp_path):
    """0,25 between semicolons is text until decimal=','; between commas the fields do not fit."""
    semicolons = written(tmp_path, rows(), sep=";", decimal=",")
    with pytest.raises(ContractError, match="decimal commas.*: pass decimal=','"):
        read(semicolons)
    found, _ = read(semicolons, decimal=",")
    np.testing.assert_allclose(found["observed_m3_m3"], rows()["observed"])
    frame = rows().astype({"observed": str})
    frame["observed"] = frame["observed"].str.replace(".", ",")
    np.testing.assert_allclose(read(frame, decimal=",")[0]["observed_m3_m3"], rows()["observed"])
    lines = semicolons.read_text().replace(";", ",")
    semicolons.write_text(lines)
    with pytest.raises(ContractError, match="more fields than the header's 4.*decimal=','"):
        read(semicolons)


# Few samples, one station


def test_four_samples_at_a_station_are_too_few():
    """Noted, kept, and without a score; the other station keeps its own."""
    table = pd.concat([rows(stations=("A",)), rows(n_days=4, stations=("B",))])
    found, notes = read(table)
    assert (notes.loc["few samples", "stations"], notes.loc["few samples", "n_rows"]) == ("B", 4)
    scores = metrics.station_scores(found).set_index("station_id")
    assert scores.loc["B", "status"] == "too few samples: 4 < 13"
    assert np.isfinite(scores.loc["A", "rmse_m3_m3"])


def test_one_station_only_is_said():
    """Scores exist; the summary has no interval and says why."""
    found, notes = read(rows(stations=("A",)))
    assert notes.loc["one station", "detail"].endswith("a map or a model cannot")
    summary = metrics.summarize(metrics.station_scores(found))
    assert set(summary["status"]) == {"no interval: 1 networks < 5"}


# Times


def test_naive_times_need_their_zone():
    """Refused without it; 06:00 in Chicago is noon UTC in winter."""
    naive = rows().assign(time=lambda t: t["time"].str.rstrip("Z"))
    with pytest.raises(TimeZoneError, match="Pass timezone='UTC'"):
        read(naive)
    found, notes = read(naive, timezone="America/Chicago")
    assert found["time"].iloc[0] == pd.Timestamp("2020-01-01 12:00")
    assert str(found["time"].dtype) == "datetime64[us]"
    assert notes.loc["time zone", "detail"] == "America/Chicago converted to UTC"
    with pytest.raises(TimeZoneError, match="No time zone is called 'Chicago'"):
        read(naive, timezone="Chicago")


def test_offsets_are_converted_to_utc():
    """06:00 at +02:00 is 04:00 UTC, in text and in a zoned column."""
    text = rows().assign(time=lambda t: t["time"].str.replace("Z", "+02:00"))
    zoned = text.assign(time=pd.to_datetime(text["time"]))
    for table in (text, zoned):
        found, notes = read(table)
        assert found["time"].iloc[0] == pd.Timestamp("2020-01-01 04:00")
        assert notes.loc["time zone", "n_rows"] == 40


def test_offsets_in_some_rows_only_are_refused():
    """A naive time between zoned ones would pass for UTC."""
    table = rows()
    table.loc[7, "time"] = "2020-01-08T06:00:00"
    with pytest.raises(TimeZoneError, match="39 of 40 times carry an offset"):
        read(table)
    with pytest.raises(TimeZoneError, match="39 of 40"):
        read(table, timezone="UTC")


def test_days_are_naive_times_too():
    """2020-01-01 ends in no offset of -01: a zone is needed."""
    days = rows().assign(time=lambda t: t["time"].str[:10])
    with pytest.raises(TimeZoneError, match="Pass timezone"):
        read(days)
    assert read(days, timezone="UTC")[0]["time"].iloc[0] == pd.Timestamp("2020-01-01")


def test_unreadable_and_missing_times():
    """03/04/2020 has two meanings: refused. Empty times and skipped hours drop out, counted."""
    with pytest.raises(ContractError, match="ISO 8601"):
        read(rows().assign(time="03/04/2020"))
    table = rows().assign(time=lambda t: t["time"].str.rstrip("Z"))
    table.loc[0, "time"] = None
    table.loc[1, "time"] = "2020-03-08T02:30:00"  # skipped when summer time began
    table.loc[2, "station"] = None
    found, notes = read(table, timezone="America/Chicago")
    assert len(found) == 37
    assert notes.loc["no such time", "n_rows"] == 1
    assert notes.loc["no time", "n_dropped"] == 2
    assert notes.loc["no station", "n_dropped"] == 1


# Files


def test_what_is_no_table_says_so(tmp_path):
    """No file, bytes of another kind, ragged rows, no rows."""
    with pytest.raises(ArchiveReadError, match="No table at"):
        read(tmp_path / "none.csv")
    junk = tmp_path / "junk.csv"
    junk.write_bytes(b"PAR1 half a file")
    with pytest.raises(ArchiveReadError, match="neither a parquet nor"):
        read(junk)
    junk.write_text("station,time,observed,predicted\nA,2020-01-01Z,0.1,0.2\nA,b,c,d,e,f\n")
    with pytest.raises(ArchiveReadError, match="saw 6"):
        read(junk)
    with pytest.raises(ContractError, match="no rows; its columns are station"):
        read(rows().iloc[:0])
    with pytest.raises(ContractError, match="both a station and a time"):
        read(rows().assign(station=""))
