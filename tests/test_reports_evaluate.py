"""One command from anybody's table to a page: what it writes, and how it refuses."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from soilkit import contracts
from soilkit.errors import ContractError, ParameterError
from soilkit.metrics import evaluation
from soilkit.show import reports
from soilkit.show.reports import evaluate
from soilkit.show.reports.runner import EVALUATION, declared
from tests.test_evaluation import world
from tests.test_foreign_predictions import rows

PARAMETERS = """archive = ""
out_dir = ""
predictions = ""
stations = ""
notes = ""
folds = ""
features = ""
main = ""
seed = 0
min_samples = 13"""
COUNTS = """import pandas as pd
from soilkit import contracts
table, places = pd.read_parquet(predictions), pd.read_parquet(stations)
contracts.check(table, contracts.PREDICTIONS)
contracts.check(places, contracts.STATIONS)
print(f"{archive}: {len(table)} rows, {len(places)} stations, {len(pd.read_csv(notes))} notes")"""


def notebook(path, *cells):
    """An evaluation notebook of one's own, with the parameters of notebook 31."""
    book = nbformat.v4.new_notebook()
    first = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]
    book.cells = [nbformat.v4.new_markdown_cell("# Mine"), first, *code]
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, path)
    return path


def written(folder, table, name="smap.csv"):
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / name, index=False)
    return str(folder / name)


def refused(capsys, *arguments):
    """The exit code and what stands on stderr, which is one line."""
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(argument) for argument in arguments])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return stop.value.code, lines[0]


def test_the_command_hands_clean_tables_to_a_notebook(tmp_path, capsys):
    """Millimetres, local times, foreign names and a list of sites, all by arguments."""
    table = rows().rename(columns={"station": "site", "observed": "sm", "predicted": "ssm"})
    table["ssm"] *= 50
    table["time"] = table["time"].str.rstrip("Z")
    sites = pd.DataFrame({"site": ["A", "B"], "y": [35.5, 47.0], "x": [-99.9, 11.0]})
    evaluate.main([
        written(tmp_path, table), "--units", "observed=m3 m-3", "predicted=mm in 50 mm",
        "--columns", "observed=sm", "predicted=ssm", "model==SMAP", "--timezone", "Etc/GMT+6",
        "--stations", written(tmp_path, sites, "sites.csv"), "--station-columns", "latitude=y",
        "longitude=x", "--name", "my sites", "--out", str(tmp_path / "report"),
        "--notebook", str(notebook(tmp_path / "mine.ipynb", COUNTS)),
    ])  # fmt: skip
    page = tmp_path / "report" / "mine.html"
    assert capsys.readouterr().out.strip() == str(page)
    html = page.read_text()
    assert "my sites: 40 rows, 2 stations" in html and reports.external_loads(html) == []
    found = pd.read_parquet(tmp_path / "report" / "work" / "predictions.parquet")
    assert found["model"].unique().tolist() == ["SMAP"]
    assert found["time"].min() == pd.Timestamp("2020-01-01 12:00")
    np.testing.assert_allclose(found["predicted_m3_m3"], table["ssm"] / 50)
    places = pd.read_parquet(tmp_path / "report" / "work" / "stations.parquet")
    assert places["latitude"].tolist() == [35.5, 47.0]


def test_places_come_from_the_table_itself_under_its_own_names(tmp_path):
    """Latitude and longitude as columns beside a station that is called plot."""
    table = rows().assign(lat=np.repeat([35.5, 47.0], 20), lon=np.repeat([-97.0, 11.0], 20))
    reports.evaluate_table(
        written(tmp_path, table.rename(columns={"station": "plot"})), tmp_path,
        reading={"units": "m3 m-3", "columns": {"station": "plot"}},
        notebook=notebook(tmp_path / "mine.ipynb", COUNTS),
    )  # fmt: skip
    places = pd.read_parquet(tmp_path / "work" / "stations.parquet")
    assert places["longitude"].tolist() == [-97.0, 11.0]
    assert "unknown place" not in set(pd.read_csv(tmp_path / "work" / "notes.csv")["status"])


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        ({"drop": ["time", "observed"]}, (), "lacks 2 of the 4 columns"),
        ({"percent": True}, (), "look like percent"),
        ({}, ("--columns", "observed"), "--columns takes pairs such as observed=sm_obs"),
        ({}, ("--columns", "observed=a", "observed=b"), "names a quantity twice"),
        ({}, ("--main", "ours"), "No model 'ours' .* there are smap"),
        ({}, ("--folds", "none.parquet"), "No table of folds at"),
        ({}, ("--stations", "none.csv"), "No table at none.csv"),
        ({"n_days": 4}, (), "No sensor has 13 pairs .* the best of 2 has 4"),
        ({"observed": np.nan}, (), "the best of 2 has 0"),
    ],
)
def test_a_wrong_table_or_argument_is_one_sentence_and_code_2(
    tmp_path, capsys, change, arguments, words
):
    """No traceback, nothing written."""
    change = dict(change)
    drop, percent = change.pop("drop", []), change.pop("percent", False)
    table = rows(**change).drop(columns=drop)
    if percent:
        table[["observed", "predicted"]] *= 100
    own = notebook(tmp_path / "mine.ipynb", COUNTS)
    arguments = ("--units", "m3 m-3", *arguments, "--notebook", own, "--out", tmp_path / "report")
    code, line = refused(capsys, written(tmp_path, table), *arguments)
    assert code == 2 and pd.Series([line]).str.contains(words).all(), line
    assert not (tmp_path / "report").exists()


def test_the_command_itself_shows_no_traceback(tmp_path):
    """`python -m`: a naive time ends the program with its sentence."""
    table = rows().assign(time="2020-01-01 06:00")
    command = ["-m", "soilkit.show.reports.evaluate", written(tmp_path, table), "--units", "m3 m-3"]
    own = notebook(tmp_path / "mine.ipynb")
    ran = subprocess.run(
        [sys.executable, *command, "--out", str(tmp_path / "report"), "--notebook", str(own)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr and "runpy" not in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("error: The times are naive")


@pytest.mark.parametrize(("kind", "code"), [("ContractError", 2), ("ValueError", 1)])
def test_a_notebook_that_fails_says_what_it_said(tmp_path, capsys, kind, code):
    """A soilkit error inside is the table's fault (2), another one is ours (1)."""
    cell = f"from soilkit.errors import ContractError\nraise {kind}('no R')"
    own = notebook(tmp_path / "mine.ipynb", cell)
    told = ("--units", "m3 m-3", "--notebook", own, "--out", tmp_path / "report")
    found, line = refused(capsys, written(tmp_path, rows()), *told)
    assert (found, line) == (code, f"error: the evaluation stopped: {kind}: no R")


def test_without_its_repository_the_notebook_must_be_named(tmp_path):
    """An installed package has no notebooks: the message says where they are."""
    assert EVALUATION.is_file()
    with pytest.raises(ParameterError, match="clone the repository and pass its path"):
        reports.evaluate_table(
            rows(), tmp_path, reading={"units": "m3 m-3"}, notebook=tmp_path / "31.ipynb"
        )
    with pytest.raises(ContractError, match="lacks 1 of the 4"):
        reports.evaluate_table(
            rows().drop(columns="time"), tmp_path, reading={"units": "m3 m-3"},
            notebook=notebook(tmp_path / "mine.ipynb"),
        )  # fmt: skip


def test_what_went_into_a_model_is_told_by_argument(tmp_path):
    """Names with "=" and words with commas; a model that the table lacks ends with code 2."""
    common = ["t.csv", "--out", str(tmp_path), "--units", "%"]
    options = evaluate.parser().parse_args([
        *common, "--made-of", "smap=SMAP", "forest, k=3=sentinel1,ERA5", "--provenance",
        "flags=G only", "grid=EASE-Grid 2.0, 9 km",
    ])  # fmt: skip
    assert evaluate._arguments(options)["parameters"] == {
        "seed": 0, "made_of": {"smap": ["SMAP"], "forest, k=3": ["sentinel1", "ERA5"]},
        "provenance": {"flags": "G only", "grid": "EASE-Grid 2.0, 9 km"},
    }  # fmt: skip
    assert "made_of" not in evaluate._arguments(evaluate.parser().parse_args(common))["parameters"]
    with pytest.raises(ContractError, match="No model 'SMOS' .* there are foreign"):
        reports.evaluate_table(
            rows(),
            tmp_path,
            reading={"units": "m3 m-3"},
            parameters={"made_of": {"SMOS": ["smos"]}},
        )


NAMES = ("<script>alert('M')</script>", "[x](javascript:alert(1)) `a` | $b$")


@pytest.mark.parametrize(
    ("n_stations", "words"),
    [(12, r"R [\d.]+ \(95 %: .*\) at 12 stations."),
     (4, r"R [\d.]+ at 4 stations; too few for an interval over blocks.")],
)  # fmt: skip
def test_the_first_screen_says_in_numbers_what_is_known(n_stations, words):
    """Verdict, figures, period and stations, few of them too; names are text, not tags."""
    table, places = world(n_stations=n_stations, n=60, noise={NAMES[0]: 0.02})
    ev = evaluation.evaluate(table, places, label=NAMES[1])
    verdict, protocol = evaluation.verdict(ev), evaluation.protocol(ev)
    page = BeautifulSoup(evaluate.first_screen(ev, verdict, protocol=protocol).data, "html.parser")
    assert page.h1.get_text() == f"{NAMES[0]} on {NAMES[1]}"
    assert not page.find_all(["script", "a", "img"])
    assert re.fullmatch(words, evaluate.figures(ev))
    text = page.get_text(" ")
    assert evaluate.figures(ev) in text and verdict.attrs["grade"] in text
    assert (
        f"{n_stations} stations, {n_stations} sensors" in text and "2019-01-01 to 2020-08" in text
    )
    assert len(page.select(".figures div")) == 4


def test_a_page_is_no_lesson(tmp_path):
    """Cells tagged "lab", code, silent cells and what was logged stay in the notebook."""
    book = nbformat.v4.new_notebook()
    lesson = nbformat.v4.new_markdown_cell("Guess first", metadata={"tags": ["lab"]})
    said = [nbformat.v4.new_output("stream", name=name, text=f"{name} text")
            for name in ("stdout", "stderr")]  # fmt: skip
    code = [nbformat.v4.new_code_cell("a_line_of_code()", outputs=said),
            nbformat.v4.new_code_cell("silent()")]  # fmt: skip
    book.cells = [lesson, nbformat.v4.new_markdown_cell("What it shows"), *code]
    page, lab = (
        BeautifulSoup(reports.to_html(book, "x", for_lab=is_lab), "html.parser").body.get_text()
        for is_lab in (False, True)
    )
    assert page.split() == ["What", "it", "shows", "stdout", "text"]
    assert "Guess first" in lab and "a_line_of_code" in lab and "stderr text" in lab


def test_notebook_31_takes_what_the_command_hands_over():
    """A renamed parameter would break every report of a foreign table."""
    wanted = {"predictions", "stations", "notes", "archive", "out_dir", "seed", "min_samples"}
    assert (
        wanted | {"folds", "features", "main", "made_of", "provenance"}
        <= declared(EVALUATION).keys()
    )


@pytest.mark.slow
def test_a_table_without_places_has_a_report_all_the_same(tmp_path):
    """Three stations nobody can place, one of them constant, one with four samples."""
    table = rows(n_days=60, stations=("A", "B", "C"))
    table.loc[table["station"] == "B", "predicted"] = 0.2
    table = table.drop(index=table.index[table["station"] == "C"][4:])
    page = reports.evaluate_table(
        written(tmp_path, table), tmp_path / "report", reading={"units": "m3 m-3"}
    )
    html = page.read_text()
    assert reports.external_loads(html) == []
    assert "unknown place" in html
    assert "constant prediction: 1" in html and "too few samples, below 13: 1" in html


@pytest.mark.slow
def test_smap_at_real_stations_is_evaluated_by_one_command(tmp_path, capsys):
    """SMAP10KM of the us_10day table, in mm of the top 50 mm, as a colleague's csv."""
    data = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data") / "us_10day"
    if not data.is_dir():
        pytest.skip("SOILKIT_TEST_DATA holds no us_10day table")
    table = pd.read_parquet(data / "matched_10day.parquet")
    named = {"station": "key", "time": "start", "observed": "sm_insitu"}
    columns = ["network", *named.values(), "smap_usda_ssm_mm", "lat", "lon"]
    told = [f"{ours}={theirs}" for ours, theirs in named.items()]
    evaluate.main([
        written(tmp_path, table[columns]), "--units", "observed=m3 m-3", "predicted=mm in 50 mm",
        "--columns", *told, "predicted=smap_usda_ssm_mm", "model==SMAP10KM", "--timezone", "UTC",
        "--name", "us_10day", "--out", str(tmp_path / "report"),
    ])  # fmt: skip
    page = Path(capsys.readouterr().out.strip())
    html = page.read_text()
    assert reports.external_loads(html) == []
    assert "SMAP10KM" in html and "us_10day" in html
    scores = pd.read_csv(page.with_suffix("") / "scores.csv")
    whole = scores[(scores["metric"] == "r_mean") & (scores["stratum"].fillna("all") == "all")]
    assert 0.55 < whole["value"].iloc[0] < 0.85
    contracts.check(pd.read_parquet(page.parent / "work" / "stations.parquet"), contracts.STATIONS)


def test_an_option_given_twice_adds_to_itself(tmp_path):
    """--columns a=b --columns c=d is --columns a=b c=d, and the next command starts anew."""
    common = ["t.csv", "--out", str(tmp_path), "--units", "observed=%"]
    twice = [*common, "--units", "predicted=m3 m-3", "--columns", "observed=o", "--columns",
             "predicted=p"]  # fmt: skip
    found = evaluate.parser().parse_args(twice)
    assert found.columns == ["observed=o", "predicted=p"]
    assert found.units == ["observed=%", "predicted=m3 m-3"]
    assert evaluate.parser().parse_args(common).columns == []
