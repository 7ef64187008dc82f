"""Reports: parameters are checked before anything runs, pages open with no network."""

import base64
import errno
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from datetime import date
from html import escape
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from soilkit import files
from soilkit.errors import ParameterError
from soilkit.export import chips
from soilkit.models.training.checkpoint import Checkpoint, Provenance
from soilkit.show import reports
from soilkit.show.reports import __main__ as main
from soilkit.show.reports import book as side_by_side
from soilkit.show.reports.book import Book, Section, build


def notebook_at(path, *, cells=(), parameters='seed = 1\nname = "a"\nout_dir = ""\n'):
    page = new_notebook(
        cells=[
            new_markdown_cell("# 99 · A question\n\n*Does it run?*"),
            new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            *[new_code_cell(source) for source in cells],
        ]
    )
    nbformat.write(page, path)
    return path


def test_a_misspelt_parameter_is_refused_by_name(tmp_path):
    """papermill only warns; the runner names the parameter, the known ones and the nearest."""
    notebook = notebook_at(tmp_path / "a.ipynb")
    with pytest.raises(ParameterError, match=r"no parameter 'sead'.*Did you mean 'seed'"):
        reports.run(notebook, {"sead": 2}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_command_runs_one_notebook(tmp_path, monkeypatch):
    """Values are YAML; files are named from where one stands, not from where notebooks run."""
    notebook = notebook_at(tmp_path / "a.ipynb", parameters='seed = 1\nregion = []\nday = ""\n')
    (tmp_path / "field.geojson").write_text("{}")
    monkeypatch.chdir(tmp_path)
    words = ["a.ipynb", "out", "-p", "seed=3", "region=[field.geojson]", "day=2019-07-01"]
    monkeypatch.setattr(sys, "argv", ["reports", *words])
    main.main()
    used = yaml.safe_load((tmp_path / "out" / "a" / "parameters.yaml").read_text())
    assert used["seed"] == 3 and used["day"] == "2019-07-01"
    assert main.parameter("region=[field.geojson]")[1] == [str(tmp_path / "field.geojson")]
    assert main.parameter("archive=out") == ("archive", "out")
    for wrong, words in {"seed": "write NAME=VALUE", "x=[": "no YAML"}.items():
        with pytest.raises(ParameterError, match=words):
            main.parameter(wrong)
    monkeypatch.setattr(sys, "argv", ["reports", str(notebook), "out", "-p", "sead=3"])
    with pytest.raises(SystemExit, match="no parameter 'sead'"):
        main.main()


def test_a_parameter_of_another_type_is_refused(tmp_path):
    """A seed given as text would pass papermill and fail far away."""
    notebook = notebook_at(tmp_path / "a.ipynb")
    with pytest.raises(ParameterError, match="'seed' should be int"):
        reports.check_parameters(notebook, {"seed": "2"})


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Path("a") / "b.csv", str(Path.cwd() / "a" / "b.csv")),
        (np.int64(3), 3),
        (np.datetime64("2020-02-01T06:30", "ns"), "2020-02-01T06:30:00"),
        (date(2020, 2, 1), "2020-02-01"),
        ([np.float64(0.5), (np.bool_(True), np.str_("x"))], [0.5, [True, "x"]]),
        (
            {"seeds": np.arange(2), "at": {"p": Path("/d/e")}},
            {"seeds": [0, 1], "at": {"p": "/d/e"}},
        ),
    ],
)
def test_parameters_become_plain_values_before_the_run(tmp_path, value, plain):
    """Where the default is None, and inside lists and mappings: what papermill writes as JSON."""
    notebook = notebook_at(tmp_path / "a.ipynb", parameters="x: dict | None = None\n")
    handed = reports.check_parameters(notebook, {"x": value})["x"]
    assert json.loads(json.dumps(handed)) == handed == plain


@pytest.mark.parametrize(
    "value",
    [
        float("nan"), [np.float32("inf")], {1, 2}, b"a", {"a": [pd.NaT]}, {(1, 2): "a"}, "\udc80",
        {1: "a"}, np.timedelta64(5, "m"), pd.Series([1]), len,
    ],
    ids=repr,
)  # fmt: skip
def test_what_no_notebook_takes_is_refused_before_the_run(tmp_path, value):
    """It would end the run after the last cell, without a page."""
    notebook = notebook_at(tmp_path / "a.ipynb", parameters="x = None\n", cells=["1 / 0"])
    with pytest.raises(ParameterError, match=r"(?s)'x' is .*Give text, finite"):
        reports.run(notebook, {"x": value}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("%matplotlib inline\nseed = 1", r"line 1 .*'%matplotlib inline'.*magics"),
        ("seed = 1\n!ls", r"line 2 .*'!ls'"),
        ("a, b = 1, 2", r"'\(a, b\)' is no plain literal"),
        ("seed: int", "'seed' is no plain literal"),
        ("x = {1, 2}", "'x' is no plain literal"),
        ("x = {1: 2}", "'x' is no plain literal"),
        ("x = 1\nx += 1", r"line 2 .*'x \+= 1', sets no name"),
        ("x = [1]\nx.append(2)", "line 2 .* sets no name"),
        ("x = '\0'", "null bytes"),
    ],
)
def test_a_parameters_cell_holds_names_and_plain_values(tmp_path, cell, words):
    """A magic, a tuple of names, a type without a value: refused in words, not by the parser."""
    with pytest.raises(ParameterError, match=words):
        reports.check_parameters(notebook_at(tmp_path / "a.ipynb", parameters=cell), {})


def test_an_annotated_parameter_is_one(tmp_path):
    """`seed: int = 3` takes another integer, and no text."""
    notebook = notebook_at(tmp_path / "a.ipynb", parameters="seed: int = 3\na = b = (1, 2)\n")
    assert reports.check_parameters(notebook, {"seed": 4, "b": (5,)}) == {"seed": 4, "b": [5]}
    with pytest.raises(ParameterError, match="'seed' should be int"):
        reports.check_parameters(notebook, {"seed": "4"})


def test_a_page_holds_no_place_of_this_machine(tmp_path):
    """Parameters, prints, tables and warnings name data, not the machine that made the page."""
    code = (
        "import os, sys, tempfile, warnings\nfrom IPython.display import HTML, Markdown, display\n"
        "for show in (print, HTML, Markdown): display(show(f'<p>{out_dir}/x.csv</p>'))\n"
        "print(os.path.expanduser('~/y.csv'), tempfile.gettempdir(), os.getcwd(), name)\n"
        "from soilkit.show import plots\nplots.style.nothing('玛曲')\n"  # letters that fonts lack
        "warnings.warn('beware')\n'%s/z' % sys.prefix"
    )
    notebook = notebook_at(tmp_path / "a.ipynb", cells=[code])
    page = reports.run(notebook, {"name": "/far/away/from/table.csv"}, tmp_path / "out").read_text()
    assert (
        "Glyph" not in page
        and "beware" in page
        and "work/x.csv" in page
        and "from/table.csv" in page
    )
    places = [Path.home(), tmp_path, sys.prefix, "/far", tempfile.gettempdir(), Path.cwd()]
    assert not [place for place in places if str(place) in page]


def test_a_name_is_no_formula_in_a_csv_and_comes_back_as_it_was(tmp_path):
    """Text that begins with = + - @ or a tab is quoted, its number twin is not."""
    names = [
        "=cmd|'/C calc'!A0",
        "+1+1",
        "-2+3",
        "@SUM(1)",
        "\tx",
        "'=kept",
        "'quoted",
        "NA",
        "-0.5",
    ]
    table = pd.DataFrame({"=head": names, "value": np.linspace(-1, 1, 9)})
    table["number"] = pd.Series([1234567] * 8 + [None], dtype=object)
    path = reports.save_result(tmp_path, "a", scores=table.astype({"=head": "category"}))
    cells = [
        line.split(",")[0].strip('"') for line in (path / "scores.csv").read_text().split("\n")
    ]
    assert not [c for c in cells if c.startswith(("=", "+", "@", "\t"))]
    assert [c for c in cells if c.startswith("-")] == ["-0.5"]
    again = files.read_csv(path / "scores.csv")
    assert again["=head"].tolist() == names and np.allclose(again["value"], table["value"])
    assert again["number"].tolist()[:8] == [1234567] * 8


def test_the_next_run_clears_what_a_killed_one_left(tmp_path):
    """Not what another process still writes, nor anybody's hidden file."""
    killed = subprocess.Popen([sys.executable, "-c", "pass"])
    killed.wait()
    made = {pid: tmp_path / f".a.csv.{files.HOST}-{pid}-{'0' * 32}.partial" for pid in
            (killed.pid, os.getppid())}  # fmt: skip
    elsewhere = [tmp_path / f".b.{host}-1-{'1' * 32}.partial" for host in ("new", "old")]
    for path in (*made.values(), *elsewhere, tmp_path / ".mine.partial"):
        path.touch()
    for old in (elsewhere[1], made[os.getppid()]):
        os.utime(old, (0, 0))
    with files.temporary_folder(tmp_path / "a") as folder:
        assert folder.is_dir()
    left = {made[os.getppid()], elsewhere[0], tmp_path / ".mine.partial"}
    assert set(tmp_path.iterdir()) == left


def test_a_default_must_be_a_plain_literal(tmp_path):
    """What is derived in the parameters cell stays stale when papermill injects another value."""
    notebook = notebook_at(tmp_path / "a.ipynb", parameters="seed = 1\ntwice = 2 * seed\n")
    with pytest.raises(ParameterError, match="'twice' is no plain literal"):
        reports.check_parameters(notebook, {})


@pytest.mark.parametrize("text", [None, b"{", b"[]", b"\xff\xfe"], ids=repr)
def test_what_is_no_notebook_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "a.ipynb").write_bytes(text)
    with pytest.raises(ParameterError, match="a.ipynb cannot be read as a notebook"):
        reports.check_parameters(tmp_path / "a.ipynb", {})


def test_a_notebook_without_parameters_is_refused(tmp_path):
    """No tagged cell, no reproducible report."""
    path = tmp_path / "a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 + 1")]), path)
    with pytest.raises(ParameterError, match="no cell tagged"):
        reports.check_parameters(path, {})


TO = "https://a.org/x"


@pytest.mark.parametrize(
    "html",
    [
        f'<script src="{TO}.js"></script>',
        '<link rel="stylesheet" href="//a.org/x.css">',
        f'<base href="{TO}/">',
        f"<object data={TO}></object>",
        f"<embed src={TO}>",
        f"<iframe src={TO}></iframe>",
        '<img src="ht\ntps:/a.org/x.png">',
        r'<img src="\\a.org\x.png">',
        f'<img srcset="a.png 1x,{TO}.png 2x">',
        f'<a href="#x" ping="{TO}">x</a>',
        f"<style>@import '{TO}.css';</style>",
        f'<style>a {{ background: image-set("{TO}.png" 1x) }}</style>',
        '<div style="background: url(//a.org/x.png)"></div>',
        f'<svg><rect fill="url({TO}#a)"/></svg>',
        f'<meta http-equiv="Refresh" content="0; URL={TO}">',
        f'<script>import("{TO}.js")</script>',
        f'<script type="module">import x from "{TO}.js"</script>',
        f"<script>fetch(`{TO}`)</script>",
        f"<script>let r = new XMLHttpRequest(); r.open('GET', '{TO}')</script>",
        f'<script>new Image().src = "{TO}"</script>',
        f"<img src=x onerror=\"fetch('{TO}')\">",
        f"<iframe src=\"javascript:fetch('{TO}')\"></iframe>",
        f'<iframe srcdoc="&lt;img src={TO}&gt;"></iframe>',
    ],
)
def test_whatever_loads_from_elsewhere_is_found(html):
    """Tags, styles, scripts, refreshes and frames all count, once."""
    assert len(reports.external_loads(html)) == 1


def test_links_embedded_data_and_bundles_load_nothing():
    """A reader may follow a link; a library may name a call, and text an address."""
    html = (
        f'<a href="{TO}">import "{TO}"</a><img src="data:image/png;base64,//AA">'
        f'<img srcset="data:image/png;base64,//8A 1x, b.png 2x"><meta name="x" content="{TO}">'
        f"<script>function get(u) {{ return fetch(u) }} // see {TO}</script>"
        f'<script type="application/json">{{"see": "{TO}"}}</script>'
    )
    assert reports.external_loads(html) == []


def test_a_report_holds_page_parameters_stamp_and_scores(tmp_path):
    """Two sections become one folder whose pages load nothing and whose tables are joined."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    code = (
        "import pandas as pd\nfrom soilkit.show import reports\n"
        "row = dict(stratum='all', model=name, split='test', metric='r', value=0.5,\n"
        "           lower=0.4, upper=0.6, n=9)\n"
        "reports.save_result(out_dir, stem, scores=pd.DataFrame([row]),\n"
        "                    stamp=reports.stamp(seed=seed, data={'world': 'abc'}))"
    )
    for stem in ("98_a", "99_b"):
        notebook_at(folder / f"{stem}.ipynb", cells=[f"stem = {stem!r}\n{code}"])
    book = Book("two", "Two", "About.", (Section("98_a", {"name": "x"}), Section("99_b")))

    index = build(book, folder, tmp_path / "reports")

    out = tmp_path / "reports" / "two"
    assert index == out / "index.html"
    pages = sorted(p.name for p in out.glob("*.html"))
    assert pages == ["98_a.html", "99_b.html", "index.html"]
    assert all(reports.external_loads((out / p).read_text()) == [] for p in pages)
    parameters = yaml.safe_load((out / "parameters.yaml").read_text())
    assert parameters["98_a"]["name"] == "x"
    assert parameters["99_b"] == {"name": "a", "out_dir": "work/two", "seed": 1}
    assert yaml.safe_load((out / "stamp.yaml").read_text())["99_b"]["data"] == {"world": "abc"}
    assert len((out / "scores.csv").read_text().splitlines()) == 3


PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="


def picture(alt):
    return new_output("display_data", {"image/png": PNG}, metadata={"image/png": {"alt": alt}})


def page_of(*cells, **options):
    return BeautifulSoup(
        reports.to_html(new_notebook(cells=[*cells]), "T", **options), "html.parser"
    )


def test_a_page_begins_with_its_headline_and_takeaway():
    """The first picture, or what the cell tagged headline shows; it stands on the page once."""
    title, end = (new_markdown_cell(text) for text in ("# T\n\n*Q?*", "## Takeaway\n\nWet."))
    cells = [
        new_code_cell("1", outputs=[picture(alt), picture(alt)]) for alt in ("first", "second")
    ]
    page = page_of(title, *cells, end)
    assert [img["alt"] for img in page.select("img")] == ["first", "first", "second", "second"]
    assert page.select_one("#lead img")["alt"] == "first"
    assert page.select_one("main > .prose:nth-of-type(3)").get_text(strip=True) == "Wet."
    cells[1].metadata["tags"] = ["headline"]
    tagged = page_of(title, *cells, end)
    assert [img["alt"] for img in tagged.select("img")] == ["second"] * 2 + ["first"] * 2
    assert "stands at the top" in tagged.select_one("#cell-2").get_text()


def test_a_takeaway_shown_as_text_stands_at_the_top_too():
    said = new_output("display_data", {"text/markdown": "**Takeaway.** Wet."})
    printed = new_output("stream", name="stdout", text="Damp.\n")
    for cells in (
        [new_code_cell("1", outputs=[said])],
        [new_markdown_cell("## Takeaway"), new_code_cell("1", outputs=[printed])],
    ):
        page = page_of(new_markdown_cell("# T"), new_code_cell("0"), *cells)
        assert page.select_one("#takeaway").get_text().strip() in ("Takeaway. Wet.", "Damp.")
    assert page_of(new_markdown_cell("# T"), new_code_cell("0")).select_one("#takeaway") is None


def test_a_products_own_title_is_the_only_first_heading():
    """A first screen that bears a title stands above the notebook's, which steps down."""
    screen = new_output("display_data", {"text/html": "<h1>SMAP on my sites</h1>"})
    chapters = [new_markdown_cell(f"## {word}") for word in "abc"]
    page = page_of(new_markdown_cell("# 31"), new_code_cell("1", outputs=[screen],
                   metadata={"tags": ["headline"]}), *chapters)  # fmt: skip
    assert [h.get_text() for h in page.select("h1")] == ["SMAP on my sites"]
    links = page.select("nav.contents a")
    assert [a.get_text() for a in links] == ["31", "a", "b", "c", "Code"]
    assert all(page.select_one(f'[id="{a["href"][1:]}"]') for a in links)


def test_code_stands_at_the_end_or_nowhere():
    """A result links to its code and back; without code no link leads nowhere."""
    said = new_output("stream", name="stdout", text="42")
    cells = [new_code_cell("x = 1"), new_code_cell("print(42)", outputs=[said])]
    page = page_of(*cells)
    assert page.select_one("section.code #code-cell-1").get_text().strip() == "x = 1"
    assert [a["href"] for a in page.select(".code-link a")] == ["#code-cell-2", "#cell-2"]
    assert "print" not in page_of(*cells, code=False).get_text()
    assert "print" in page_of(*cells, for_lab=False, code=True).get_text()


def test_tables_name_their_heads_and_can_be_scrolled_by_keyboard():
    table = pd.DataFrame({"a": [1]}, index=["row"]).rename_axis("k")
    wide = pd.DataFrame([range(20)])
    outputs = [new_output("display_data", {"text/html": t.to_html()}) for t in (table, wide)]
    page = page_of(new_code_cell("1", outputs=outputs))
    assert [th.get("scope") for th in page.table.select("th") if th.text] == ["col", "col", "row"]
    groups = page.select(".table")
    assert [g["tabindex"] for g in groups] == ["0", "0"]
    assert [g["class"] for g in groups] == [["table"], ["table", "wide"]]


def test_a_long_table_is_folded_behind_the_picture_of_its_chapter():
    """A short one stands open, and so does a long one that is all that its chapter has."""
    long, short = pd.DataFrame({"a": range(20)}), pd.DataFrame({"b": [1]})
    tables = [new_output("display_data", {"text/html": t.to_html()}) for t in (long, short)]
    page = page_of(
        new_code_cell("0", outputs=[picture("what leads")]),
        new_markdown_cell("## One"), new_code_cell("1", outputs=[*tables, picture("a map")]),
        new_markdown_cell("## Two"), new_code_cell("2", outputs=tables[:1]),
    )  # fmt: skip
    folded = page.select("details table")
    assert [t.find_previous("h2").text for t in folded] == ["One"] and len(
        page.select("table")
    ) == 3
    assert page.summary.text == "Table (20 rows)"


def test_a_sweep_runs_each_row_once_and_shows_what_failed(tmp_path):
    """A csv of parameters, a page a row; a second call runs only what is missing."""
    code = (
        "import pandas as pd\nfrom soilkit.show import reports\n"
        "open(out_dir + '/../runs.txt', 'a').write(name)\nassert seed < 3, 'seed too large'\n"
        "row = dict(stratum='all', model='m', split='test', metric='r_block_mean',\n"
        "           value=seed / 10, lower=0.0, upper=0.6)\n"
        "reports.save_result(out_dir, 'a', scores=pd.DataFrame([row]))"
    )
    notebook, rows = notebook_at(tmp_path / "a.ipynb", cells=[code]), tmp_path / "rows.csv"
    rows.write_text("name,seed\none,1\ntwo,2\nbad,3\n")
    for _ in range(2):
        summary = side_by_side.sweep(notebook, rows, out_dir=tmp_path / "out")
    ran = {n: (tmp_path / "out" / n / "runs.txt").read_text() for n in ("one", "two", "bad")}
    assert ran == {"one": "a", "two": "a", "bad": "aa"}
    page = BeautifulSoup(summary.read_text(), "html.parser")
    hrefs = [a["href"] for a in page.select(".cards a")]
    assert hrefs == ["one/a.html", "two/a.html", "bad/a.failed.html"]
    assert "seed too large" in page.get_text() and "0.2000 (0.0000 to 0.6000)" in page.get_text()


@pytest.mark.parametrize("text", ["seed\n", "name,seed\na,1\na,2\n", "name,seed\n../b,1\n"])
def test_a_sweep_refuses_rows_without_names_of_their_own(tmp_path, text):
    notebook, rows = notebook_at(tmp_path / "a.ipynb"), tmp_path / "rows.csv"
    rows.write_text(text)
    with pytest.raises(ParameterError, match="in a column 'name'"):
        side_by_side.sweep(notebook, rows, out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folded_answers_stay_folded():
    """An answer that stands open spoils the exercise: what is inside <details> stays inside."""
    text = "<details><summary>Answers</summary>\n\n1. Forty-two.\n</details>"
    html = reports.to_html(new_notebook(cells=[new_markdown_cell(text)]), "folded")
    inside = html[html.rindex("<details>") : html.rindex("</details>")]
    assert "Forty-two" in inside


def test_a_failing_cell_leaves_a_page_that_says_where_and_why(tmp_path):
    """A report that broke is no report; its page goes with the next run that succeeds."""
    notebook = notebook_at(
        tmp_path / "a.ipynb",
        cells=["print('before')", "if seed == 1:\n    raise ValueError('<b>')"],
    )
    with pytest.raises(Exception, match="ValueError"):
        reports.run(notebook, {}, tmp_path / "out")
    (page,) = (tmp_path / "out").glob("*.html")
    soup = BeautifulSoup(page.read_text(), "html.parser")
    assert page.name == "a.failed.html" and str(tmp_path) not in page.read_text()
    alarm = soup.select_one("main > *")
    assert "stopped at code cell 4. ValueError: <b>" in alarm.get_text()
    assert "ValueError" in soup.select_one(alarm.a["href"]).get_text()
    assert (
        "before" in soup.get_text() and "raise ValueError" in soup.select_one("#code-cell-4").text
    )
    reports.run(notebook, {"seed": 2}, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").glob("*.html")] == ["a.html"]


def test_a_full_disk_leaves_the_old_page_and_no_part_of_the_new(tmp_path, monkeypatch):
    """The run fails while its page is written: what stood there before still opens."""
    notebook = notebook_at(tmp_path / "a.ipynb")
    page = reports.run(notebook, {}, tmp_path / "out")
    before, real = page.read_text(), Path.write_text

    def full(self, text, **options):
        real(self, text[: len(text) // 2], **options)
        if self.name.startswith(".a.html."):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="disk is full"):
        reports.run(notebook, {"seed": 2}, tmp_path / "out")
    assert page.read_text() == before
    assert not list(tmp_path.rglob("*.partial"))


def test_without_its_data_the_real_report_is_left_out_with_a_warning(tmp_path, monkeypatch, caplog):
    """A bare clone has no real data: the synthetic report is built all the same."""
    built = []
    monkeypatch.setattr(side_by_side, "build", lambda book, *_, **__: built.append(book.name))
    out = str(tmp_path / "reports")
    monkeypatch.setattr("sys.argv", ["reports", "notebooks", out, "--workers", "1"])
    monkeypatch.delenv("SOILKIT_TEST_DATA", raising=False)
    main.main()
    without = built.copy()
    assert "synthetic" in without and "holds no us_10day: its report is left out" in caplog.text
    (tmp_path / "us_10day").mkdir()
    monkeypatch.setenv("SOILKIT_TEST_DATA", str(tmp_path))
    main.main()
    assert set(built[len(without) :]) - set(without) == {"tabular_us_10day"}


def test_reports_side_by_side_do_not_stop_one_another(tmp_path):
    """One report that fails is told at the end; the others' pages stand."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    takes = "from IPython.display import Markdown\nMarkdown('**Takeaway (synthetic).** R **0.7**.')"
    notebook_at(folder / "98_good.ipynb", cells=["1 + 1", takes])
    notebook_at(folder / "99_bad.ipynb", cells=["1 / 0"])
    books = [Book(n, n, "About.", (Section(n),)) for n in ("99_bad", "98_good")]
    with pytest.raises(Exception, match="division by zero"):
        side_by_side.build_all(books, notebooks=folder, reports=tmp_path / "reports", workers=2)
    assert (tmp_path / "reports" / "98_good" / "index.html").exists()
    assert not (tmp_path / "reports" / "99_bad" / "index.html").exists()
    shelf = (tmp_path / "reports" / "index.html").read_text()
    assert "Takeaway (synthetic). R 0.7." in shelf  # where no score stands
    assert 'href="98_good/index.html"' in shelf and "Stopped: 99_bad/99_bad.failed.html" in shelf


@pytest.mark.parametrize("stem", ["13_choose_splits", "20_train_xception_fusion"])
def test_a_folder_without_a_dataset_says_which_notebook_makes_one(tmp_path, stem):
    """Whoever runs the notebooks out of order is told where to begin, and no page appears."""
    notebook = Path(__file__).parents[1] / "notebooks" / f"{stem}.ipynb"
    with pytest.raises(Exception, match="run notebook 10"):
        reports.run(notebook, {"out_dir": str(tmp_path / "empty")}, tmp_path / "out")
    assert not (tmp_path / "out" / f"{stem}.html").exists()
    assert not (tmp_path / "empty").exists()


def test_differences_of_several_notebooks_stand_in_one_table():
    """Notebook 13 saves value, lower and upper of its own, which are not the comparison's."""
    compared = {"metric": "r", "model_a": "A", "model_b": "B", "notebook": "20"}
    compared |= {"block_difference": 0.1, "block_lower": 0.05, "block_upper": 0.15}
    other = {"notebook": "13", "model": "A", "value": 0.3, "lower": 0.2, "upper": 0.4}
    (page,) = side_by_side._comparisons(pd.DataFrame([other, compared])).values()
    assert page.count("<tr>") == 1 and "0.1000 (0.0500 to 0.1500)" in page


def card_text(tmp_path, labels=("train", "train", "test", "test")):
    samples = pd.DataFrame({"sample_id": list("abcd"), "station_id": ["p", "p", "q", "r"]})
    samples["sensor_id"] = samples["station_id"] + "__s"
    samples["time"] = pd.date_range("2019-05-01", periods=4, freq="30D")
    origin = Provenance(("sentinel1:VV", "smap:ssm"), {}, "abc123")
    weights = {"w": torch.zeros(3, 4), "b": torch.zeros(5)}
    trained = SimpleNamespace(
        name="net|work <b>", labels=pd.Series(labels, index=samples["sample_id"]),
        checkpoint=Checkpoint({"encoder": "local"}, origin, weights, 1200, 0.0512),
    )  # fmt: skip
    row = {"model": trained.name, "split": "test", "lower": 0.61, "upper": 0.79, "n": 7}
    row["metric"] = "r_block_mean"
    scores = pd.DataFrame([row | {"value": 0.7}, row | {"value": 0.9, "split": "train"}])
    sensors = pd.DataFrame({"model": trained.name, "split": "test", "sensor_id": ["q__s", "r__s"],
                            "r": [0.31, 0.8]})  # fmt: skip
    path = tmp_path / "net.md"
    reports.model_card(
        trained, scores, by_sensor=sensors, samples=samples, path=path, label="synthetic"
    )
    return path.read_text()


def test_a_models_card_says_what_it_learnt_and_where_it_fails(tmp_path):
    """Training rows alone count as learnt, test rows alone as scores; names cannot break it."""
    text = card_text(tmp_path)
    assert "synthetic: 2 samples, 2019-05-01 to 2019-05-31, 1 stations, 1 sensors" in text
    assert "| R [1] | 0.700 | 7 | 0.610 to 0.790 |" in text and "0.900" not in text
    assert "17 numbers in weights" in text and "at step 1,200" in text and "abc123" in text
    assert "R is below 0.5 at 1 of 2 unseen sensors" in text and "R 0.31" in text
    assert (
        "Copernicus Sentinel data" in text and "SMAP" in text and "| p | 1 | none listed |" in text
    )
    assert "no use on, the real Earth" in text and "<b>" not in text


def test_a_card_fits_every_system(tmp_path):
    """Folds of a table count all their rows; clusters add up; products teach without a probe."""
    rows = pd.DataFrame({"sample_id": ["a", "b"], "station_id": ["SCAN__p", "SCAN__q"]})
    rows = rows.assign(sensor_id="SCAN__s", time=pd.Timestamp("2020-02-01"))
    heads = ["model", "split", "metric", "value", "sensor_id"]
    empty = pd.DataFrame(columns=heads).assign(r=pd.Series(dtype=float))
    table = SimpleNamespace(
        name="trees", kind="nowcast", models={0: 1, 1: 2}, labels=pd.Series({"a": 0, "b": 1}),
        columns=["gldas_x", "dem_slope_mean_80m"], split_name="by block",
    )  # fmt: skip
    origin = Provenance(("smap_l3_ancillary_tb",), {}, "f00")
    point = Checkpoint({}, origin, {"w": torch.zeros(4)}, 9, 0.1)
    net = SimpleNamespace(name="net", checkpoints={0: point, 1: point})
    about = {"by_sensor": empty, "path": tmp_path / "card.md", "label": "prairie"}
    text = reports.model_card(table, empty, samples=rows, **about).data
    assert "2 samples" in text and "2 stations" in text and "nowcast, fitted 2 times" in text
    assert "GLDAS" in text and "NASADEM" in text and "| SCAN | 2 | Schaefer" in text
    text = reports.model_card(net, empty, samples=rows[["time"]], **about).data
    assert "taught by products" in text and "8 numbers in weights" in text
    assert "### Networks" not in text and "SMAP" in text and "No unseen sensor" in text
    maps = SimpleNamespace(**vars(net), layers=["dem_3dep_elevation"])  # called "elevation" inside
    text = reports.model_card(maps, empty, samples=rows, **about).data
    assert "| 3D Elevation Program, 10 m |" in text and "NASA's open data" not in text


def test_a_datasets_card_counts_what_was_lost_and_names_whom_to_cite(tmp_path, monkeypatch):
    samples = pd.DataFrame({"station_id": ["p", "q"], "sensor_id": ["p__1", "q__1"]})
    samples = samples.assign(time=pd.Timestamp("2020-02-01"), soil_moisture_m3_m3=[0.1, 0.3])
    samples = samples.assign(sentinel1_scene="s", soilgrids_scene="static")
    stations = samples[["station_id"]].assign(network=["SCAN", "A|B"], land_cover="Grassland")
    stations = stations.assign(depth_from_m=0.0, depth_to_m=0.05)
    drops = pd.DataFrame({"reason": ["late", "cloudy", "late"], "count": [3, 4, 5]})
    tables = {"samples": samples, "stations": stations, "drops": drops}
    for name, table in tables.items():
        files.write_table(tmp_path / f"{name}.parquet", table)
    manifest = {"archive": {"name": "stac", "version": "v1"}, "networks": {"SCAN": "Schaefer 2007"}}
    store = SimpleNamespace(manifest=manifest, data_hash="f00")
    monkeypatch.setattr(chips, "open_store", lambda path: store)
    text = reports.data_card(tmp_path, label="prairie").data
    assert text + "\n" == (tmp_path / "data_card.md").read_text()
    assert "12; most of them: late (8); cloudy (4)" in text
    assert "| SCAN | 1 | Schaefer 2007 |" in text and "| A&#124;B | 1 | none listed |" in text
    assert "CC BY 4.0" in text and "Copernicus Sentinel data" in text and "synthetic" not in text
    assert "Fewer than 5 stations stand for: Grassland" in text


def with_html(text):
    shown = new_output("display_data", {"text/html": text})
    return new_notebook(cells=[new_code_cell(outputs=[shown])])


def test_a_live_view_travels_packed_and_is_searched_before():
    """A frame is a third of its page, which the browser unpacks; what it would load is refused."""
    inside = f'<p>&amp; it\'s "here"</p><script>{"let far = 1; " * 500}</script>'
    frame = f'<div><iframe srcdoc="{escape(inside)}" height="9" title="a chart"></iframe></div>'
    page = reports.to_html(with_html(frame), "Page")
    assert len(page) < len(reports.to_html(with_html("<p>none</p>"), "Page")) + len(inside) / 3
    packed = re.search('id="packed"&gt;([^&]*)&lt;|id=&quot;packed&quot;&gt;([^&]*)&lt;', page)
    code = next(filter(None, packed.groups()))
    assert gzip.decompress(base64.b64decode(code)).decode() == inside
    harmful = frame.replace("let far", f"fetch('{TO}'); let far", 1)
    with pytest.raises(ValueError, match="would load"):
        reports.to_html(with_html(harmful), "Page")
