"""Every notebook runs from its parameters, small but whole, and its report opens offline."""

import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

from soilkit import contracts
from soilkit.show import exercises, reports
from soilkit.show.reports.book import BOOKS, SYNTHETIC, US_10DAY, real_data
from soilkit.show.reports.pages import WIDGET_VIEW
from soilkit.show.reports.runner import declared

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
ALL = sorted(NOTEBOOKS.glob("*.ipynb"))
MIN_ALT = 40  # letters that a title, axes and units take at least
SMALL = {
    "00_start_here": {"n_stations": 12},
    "01_synthetic_world": {
        "n_stations": 6, "n_bands": 1,
        "layers": ["sentinel1", "landsat8", "polaris", "modis_lst", "smap_l4"],
    },
    "10_build_dataset": {"n_stations": 15, "start": "2019-03-01", "end": "2019-12-01"},
    "14_build_a_cube": {
        "region": [-99.205, 36.398, -99.199, 36.402], "pixel_size_m": 40.0,
        "dates": ["2019-05-11", "2019-05-16"],
    },
    "23_convlstm_daily": {
        "n_stations": 60, "region": [-98.9, 36.2, -98.3, 36.6], "start": "2019-08-01",
        "end": "2019-11-08", "epochs": 1,
    },
    "24_tabular_baselines": {"preset": "small", "epochs": 5},
    "25_simple_ensembles": {
        "n_stations": 16, "preset": "small", "epochs": 1, "start": "2019-04-10",
        "end": "2019-06-20", "every_days": 1, "region_km": 2.7,  # SMAP was out after it
    },
    "26_daily_from_weather": {
        "table": "synthetic", "n_stations": 6, "every_days": 5, "n_trees": 5,
    },
    "12_read_published_shards": {"n_stations": 6, "n_records": 6},
    "20_train_xception_fusion": {"epochs": 1, "batch_size": 16},
    "21_deepsoil_30m": {
        "n_stations": 5, "dates": ["2019-05-10 12:00", "2019-07-02 12:00"], "epochs": 1,
        "monthly_epochs": 1, "map_km": 1.0,
    },
    "22_composite_loss_1km": {
        "cells": 8, "dates": ["2018-06-08 18:00", "2018-06-21 18:00"], "n_stations": 40,
        "epochs": 2, "study_epochs": 1, "n_folds": 2, "alphas": [0.0, 0.001], "block_deg": 0.2,
    },
    "30_ablate_sources": {"steps": 2},
    "32_input_size_and_choices": {"steps": 2},
    "33_extra_inputs": {"steps": 2},
    "34_anchors": {"steps": 2},
    "40_map_a_region": {"n_stations": 15, "region_km": 2.6},
    "41_true_map_error": {"n_stations": 15, "n_regions": 2, "region_km": 5.12},
    "42_real_ground": {
        "every_days": 40, "n_folds": 3, "year_folds": [[2023]], "map_every_days": 120,
        "n_trees": 5,
    },
}  # fmt: skip
# The order is that of the road: 10 writes what the others read, 20 and 24 what 31 and 40 read.
ROAD = [path.stem for path in ALL]
FOLDERS = {section.notebook: section.folder for section in SYNTHETIC.sections}
FOLDERS["26_daily_from_weather"] = "weather"  # its predictions are not notebook 24's
FOLDERS["22_composite_loss_1km"], FOLDERS["23_convlstm_daily"] = "composite", "convlstm"
FOLDERS["21_deepsoil_30m"] = "deepsoil"
NEEDS = {"42_real_ground": ("kings_creek", "oznet_100m_daily")}  # folders of real data
MEANINGS = {
    "archive": str, "out_dir": str, "seed": int, "n_stations": int, "preset": str, "epochs": int,
}  # fmt: skip


def lacks(stem):
    """The folders of real data that a notebook needs and that are not at hand."""
    return [name for name in NEEDS.get(stem, ()) if not (real_data() / name).is_dir()]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Run notebooks up to the one asked for, each once, in one working folder."""
    folder = tmp_path_factory.mktemp("road")
    done: dict[str, Path] = {}

    def run(stem):
        if lacking := lacks(stem):
            pytest.skip(f"SOILKIT_TEST_DATA holds no {lacking[0]}")
        for name in ROAD[: ROAD.index(stem) + 1]:
            if name not in done and not lacks(name):
                data = folder / "data" / FOLDERS.get(name, "")
                parameters = {"out_dir": str(data)} | SMALL.get(name, {})
                done[name] = reports.run(NOTEBOOKS / f"{name}.ipynb", parameters, folder / "report")
        return done[stem]

    run.data = folder / "data"
    return run


@pytest.mark.parametrize("stem", ROAD)
def test_a_notebook_runs_and_its_report_opens_anywhere(built, stem):
    """The page loads nothing from elsewhere, says what is synthetic, and is stamped."""
    page = built(stem)
    html = page.read_text(encoding="utf-8")
    assert reports.external_loads(html) == []
    assert "synthetic" in html
    alts = re.findall(r'<img alt="([^"]*)"', html)
    assert len(alts) == html.count("<img ") and not [a for a in alts if len(a) < MIN_ALT]
    stamp = yaml.safe_load((page.parent / stem / "stamp.yaml").read_text())
    assert {"seed", "versions", "data"} <= stamp.keys()
    assert (page.parent / stem / "parameters.yaml").exists()


RAW = {  # what a programmer prints and a reader stumbles over
    "a missing number": r"\b(?:nan|NaN|NaT)\b", "fifty years as days": r"\b18262 days",
    "a path as an object": r"(?:Posix|Windows)Path", "six decimals": r"(?<![\w.:])\d+\.\d{6,}\b",
}  # fmt: skip
UNREAD = re.compile(r"<(script|style|svg|iframe)\b.*?</\1>|data:[^\"')]+", re.DOTALL)


def read_by_people(output):
    """The text of an output as JupyterLab would show it; none of a widget's."""
    data = output.get("data", {})
    if WIDGET_VIEW in data:
        return ""
    kinds = [data[kind] for kind in ("text/html", "text/markdown", "text/plain") if kind in data]
    return UNREAD.sub("", (kinds or [output.get("text", "")])[0])


@pytest.mark.parametrize("stem", ROAD)
def test_no_output_shows_what_only_a_programmer_reads(built, stem):
    """Dashes and words for what is missing, rounded numbers, no red bar of the error stream."""
    executed = built(stem).parent / "work" / f"{stem}.executed.ipynb"
    cells = [c for c in nbformat.read(executed, as_version=4).cells if c.cell_type == "code"]
    outputs = [(cell.source[:60], output) for cell in cells for output in cell.outputs]
    assert not [source for source, output in outputs if output.get("name") == "stderr"]
    texts = [(source, read_by_people(output)) for source, output in outputs]
    found = [
        (what, source, hit[0])
        for source, text in texts for what, pattern in RAW.items()
        if (hit := re.search(pattern, text))
    ]  # fmt: skip
    assert not found


# Exercises without a number or a word to check: what a picture shows, a run of minutes, an opinion.
PROSE = {
    "00_start_here": {3}, "01_synthetic_world": {1}, "11_inspect_in_situ": {3},
    "12_read_published_shards": {3}, "13_choose_splits": {3}, "20_train_xception_fusion": {1, 3},
    "21_deepsoil_30m": {1, 3}, "22_composite_loss_1km": {2, 3}, "23_convlstm_daily": {2, 3},
    "25_simple_ensembles": {1}, "30_ablate_sources": {2, 3}, "31_evaluate_by_stratum": {3},
    "32_input_size_and_choices": {2, 3}, "33_extra_inputs": {2}, "34_anchors": {2},
    "40_map_a_region": {1}, "41_true_map_error": {3}, "42_real_ground": {2},
}  # fmt: skip
# Folded answers that hold for as much data as this report has, not for the few of a test.
AT_SIZE = {
    "synthetic": {
        "00_start_here": {1, 2}, "10_build_dataset": {1, 2}, "11_inspect_in_situ": {1, 2},
        "12_read_published_shards": {1}, "13_choose_splits": {1}, "31_evaluate_by_stratum": {2},
        "41_true_map_error": {1, 2},
    },
    "convlstm": {"23_convlstm_daily": {1}}, "composite_1km": {"22_composite_loss_1km": {1}},
    "tabular_us_10day": {"24_tabular_baselines": {1, 2}},
    "daily_scan_snotel": {"26_daily_from_weather": {1, 2}},
    "maps": {"42_real_ground": {1, 3}},
}  # fmt: skip


def asked_and_answered(cells):
    """The numbers of a notebook's exercises, and the folded answer of each."""
    prose = [c.source for c in cells if c.cell_type == "markdown"]
    (asked,) = [text.partition("## Exercises")[2] for text in prose if "## Exercises" in text]
    (folded,) = [text for text in prose if "<summary>Answers" in text]
    numbers = [int(n) for n in re.findall(r"(?m)^(\d)\. ", asked)]
    answers = re.split(r"(?m)^\d\. |<li>", folded.partition("</details>")[0])[1:]
    return dict(zip(numbers, answers, strict=True))


def bold(answer):
    """What an answer says in one number or word, or nothing."""
    found = re.search(r"\*\*(.+?)\*\*|<b>(.+?)</b>", answer)
    return found and (found[1] or found[2])


def checks_of(executed):
    """What each ``exercises.check`` of a notebook that ran knew, by the exercise's number."""
    found = {}
    for cell in nbformat.read(executed, as_version=4).cells:
        if cell.cell_type == "code" and "exercises.check(" in cell.source:
            numbers = map(int, re.findall(r"# exercise (\d):", cell.source))
            told = [o["metadata"]["soilkit"] for o in cell.outputs
                    if "soilkit" in o.get("metadata", {})]  # fmt: skip
            found |= dict(zip(numbers, told, strict=True))
    return found


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_every_exercise_checks_itself_or_is_known_to_be_prose(path):
    cells = nbformat.read(path, as_version=4).cells
    code = [c.source for c in cells if c.cell_type == "code" and "exercises.check(" in c.source]
    checked = [int(n) for text in code for n in re.findall(r"# exercise (\d):", text)]
    answers, prose = asked_and_answered(cells), PROSE.get(path.stem, set())
    assert sorted([*checked, *prose]) == sorted(answers)
    assert len(answers) >= 2 and not [n for n in checked if not bold(answers[n])]


def solve(stem, checks, *, but=()):
    """Hand in the folded answers; those that are not what the notebook computed."""
    answers = asked_and_answered(nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4).cells)
    given = {n: (bold(answers[n]), checks[n]) for n in checks.keys() - set(but)}
    return {
        n: (answer, check["truth"]) for n, (answer, check) in given.items()
        if not exercises.is_right(answer, check["truth"], tolerance=check["tolerance"])
    }  # fmt: skip


@pytest.mark.parametrize("stem", ROAD)
def test_an_exercise_waits_for_an_answer_and_takes_the_folded_one(built, stem):
    """Stored unanswered; what its own tables say is known, and what is folded counts as right."""
    checks = checks_of(built(stem).parent / "work" / f"{stem}.executed.ipynb")
    for check in checks.values():
        assert check["exercise"] == "not answered yet"
        assert check["truth"].lower() not in ("nan", "none", "")
        assert exercises.is_right(check["truth"].upper(), check["truth"])
    at_size = {n for book in AT_SIZE.values() for n in book.get(stem, ())}
    assert solve(stem, checks, but=at_size) == {}


@pytest.mark.slow
@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.name)
def test_the_folded_answers_are_those_of_the_report(book):
    """Of the pages that ``make report`` left in the working tree, whose numbers they quote."""
    work = NOTEBOOKS.parent / "reports" / book.name / "work"
    paths = {s.notebook: work / f"{s.notebook}.executed.ipynb" for s in book.sections}
    made = {stem: path for stem, path in paths.items() if path.is_file()}
    if not made:
        pytest.skip(f"no report {book.name}: make report")
    elsewhere = {
        (stem, n) for name, of in AT_SIZE.items() if name != book.name
        for stem, numbers in of.items() for n in numbers
    }  # fmt: skip
    wrong = {
        stem: solve(stem, checks_of(path), but={n for s, n in elsewhere if s == stem})
        for stem, path in made.items()
    }
    assert {stem: answers for stem, answers in wrong.items() if answers} == {}


def test_the_road_leaves_tables_that_keep_their_contracts(built):
    """What notebook 10 writes is what any other program may read."""
    built("20_train_xception_fusion")
    tables = {
        "stations": contracts.STATIONS, "observations": contracts.OBSERVATIONS,
        "scenes": contracts.SCENES, "samples": contracts.SAMPLES, "drops": contracts.DROPS,
        "features": contracts.FEATURES, "predictions_fusion": contracts.PREDICTIONS,
    }  # fmt: skip
    for name, schema in tables.items():
        contracts.check(pd.read_parquet(built.data / f"{name}.parquet"), schema)


def test_no_reading_is_lost_without_a_reason(built):
    """Readings in the period = samples + counted drops, chips included."""
    built("10_build_dataset")
    samples, drops, observations = (
        pd.read_parquet(built.data / f"{name}.parquet")
        for name in ("samples", "drops", "observations")
    )
    assert len(observations) == len(samples) + drops["count"].sum()
    assert (drops["reason"].astype(str) != "").all()


def test_texture_is_the_stations_own_and_soilgrids_beside_it(built):
    """The same stations stand in both: a user of the map has no laboratory."""
    page = built("31_evaluate_by_stratum")
    assert "by texture class, SoilGrids" in page.read_text(encoding="utf-8")
    scores = pd.read_csv(built.data / "results" / page.stem / "scores.csv")
    means = scores[(scores["metric"] == "r_mean") & (scores["model"] == "Xception fusion")]
    n = means.groupby("stratum")["n"].sum()
    assert n["texture"] == n["texture_soilgrids"] == n["all"] > 0


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_a_notebook_is_stored_clean_and_short(path):
    """No outputs, no cell of code above 20 lines, a question, exercises and a takeaway."""
    cells = nbformat.read(path, as_version=4).cells
    code = [c for c in cells if c.cell_type == "code"]
    assert all(not c.outputs and c.execution_count is None for c in code)
    assert [c.source for c in code if len(c.source.splitlines()) > 20] == []
    text = "\n".join(c.source for c in cells)
    for word in ("You need", "Time", "You will know", "Exercises", "<details>", "Takeaway"):
        assert word in text, f"{path.stem} lacks {word!r}"


PAGES = (
    "00_start_here", "01_synthetic_world", "10_build_dataset", "11_inspect_in_situ",
    "12_read_published_shards", "13_choose_splits", "14_build_a_cube", "21_deepsoil_30m",
    "22_composite_loss_1km", "23_convlstm_daily",
    "25_simple_ensembles",
    "30_ablate_sources", "31_evaluate_by_stratum",
    "32_input_size_and_choices", "33_extra_inputs", "34_anchors", "35_bring_your_own_predictions",
    "40_map_a_region", "41_true_map_error", "42_real_ground",
)  # fmt: skip


@pytest.mark.parametrize("stem", PAGES)
def test_a_notebook_reads_like_a_page(stem):
    """No function is defined in it, no cell is above 15 lines, the median is of 6 or fewer."""
    cells = nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4).cells
    code = [c.source for c in cells if c.cell_type == "code"]
    lines = [len(source.splitlines()) for source in code]
    assert not [s for s in code if any(line.startswith("def ") for line in s.splitlines())]
    assert max(lines) <= 15 and sorted(lines)[len(lines) // 2] <= 6


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_shared_parameters_keep_their_meaning_and_type(path):
    """`seed` is an int everywhere, `out_dir` a text everywhere, each default a plain literal."""
    defaults = declared(path)
    assert {"archive", "out_dir", "seed"} <= defaults.keys()
    for name in MEANINGS.keys() & defaults.keys():
        assert isinstance(defaults[name], MEANINGS[name]), f"{path.stem}: {name}"


def test_the_real_run_is_named_in_the_reports():
    """The report on real stations is built wherever the data are at hand."""
    stems = [section.notebook for section in US_10DAY.sections]
    assert stems == ["24_tabular_baselines", "31_evaluate_by_stratum"]
    for section in US_10DAY.sections:
        known = declared(NOTEBOOKS / f"{section.notebook}.ipynb")
        assert section.parameters.keys() <= known.keys()
