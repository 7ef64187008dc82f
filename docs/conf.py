"""The documentation's site, by ``make docs``: its source is the whole repository, so links hold."""

import re
from pathlib import Path

import nbformat

import soilkit
from soilkit.show.plots.style import escape
from soilkit.show.reports.book import BOOKS
from soilkit.show.reports.pages import WIDGET_VIEW, card
from soilkit.show.reports.runner import heading

project, copyright = "soilkit", "the soilkit authors"
version = release = soilkit.__version__
extensions = ["myst_nb", "sphinx.ext.apidoc", "sphinx.ext.autodoc", "numpydoc"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**", "notebooks/*.ipynb"]
exclude_patterns = ["build", ".*"]
html_theme, html_title = "furo", "soilkit"
html_copy_source = False

nb_execution_mode = "off"  # `make report` runs them, and leaves what is shown here
nb_output_stderr = "remove"  # progress bars
nb_render_markdown_format = "gfm"  # of outputs: model cards hold tables
myst_heading_anchors = 3

apidoc_modules = [
    {
        "path": "../soilkit",
        "destination": "docs/api",
        "module_first": True,
        "separate_modules": True,
    }
]
autodoc_typehints = "none"  # they stand in the docstrings, with shapes and units
numpydoc_show_class_members = False  # autodoc lists them
suppress_warnings = ["docutils"]  # of docstrings' markup, which is written for the terminal too
# SciPy's without a signature to read; scikit-learn's, whose words point into its own site
OTHERS = ("cKDTree", "set_fit_request", "set_predict_request", "set_score_request")
autodoc_default_options = {"exclude-members": ", ".join(OTHERS)}

# A notebook's page shows what `make report` made of it, the gallery its first picture.

ROOT = Path(__file__).parents[1]
REPORTS = {s.notebook: ROOT / "reports" / b.name for b in reversed(BOOKS) for s in b.sections}
PLACE = re.compile(r'"[^"]*[/\\]([^"/\\]+)"')  # of parameters: a page names data, no machine
GRID = "display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 2rem"
CARD = """<li><a href="../notebooks/{name}.html"><img alt="{alt}" src="{picture}"><br>
{title}</a><br>{question}</li>"""


def setup(app):
    """Sphinx calls this."""
    app.connect("source-read", fill)


def fill(app, name, source):
    """Hand Sphinx a notebook with its outputs, or the gallery with its cards."""
    stem = Path(name).name
    if name == "docs/gallery":
        cards = "\n".join(CARD.format(**one) for one in map(entry, sorted(REPORTS)))
        source[0] += f'\n<ol style="{GRID}; list-style: none; padding: 0">\n{cards}\n</ol>\n'
    elif name == f"notebooks/{stem}":
        app.env.note_dependency(str(made(stem)))
        source[0] = with_outputs(stem, source[0])


def made(stem):
    """Where the first report that holds a notebook leaves it executed."""
    return REPORTS[stem] / "work" / f"{stem}.executed.ipynb"


def entry(stem):
    """A notebook's card; without a picture before `make report` has run it."""
    title, question = heading(ROOT / "notebooks" / f"{stem}.ipynb")
    page = REPORTS[stem] / f"{stem}.html"
    texts = {
        k: escape(v) for k, v in card(page, title=title, href="", lines=[]).items() if k != "lines"
    }
    return texts | {"name": stem, "question": escape(question)}


def with_outputs(stem, stored):
    """A notebook with its run's outputs, less widgets; as stored where its code changed since."""
    run = nbformat.read(made(stem), 4).cells if made(stem).is_file() else []
    given = [c for c in run if "injected-parameters" in c.metadata.get("tags", [])]
    run = [c for c in run if c.cell_type == "code" and c not in given]
    notebook = nbformat.reads(stored, 4)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    if [c.source for c in run] != [c.source for c in code]:
        return stored
    for cell, done in zip(code, run, strict=True):
        cell.outputs = [o for o in done.outputs if WIDGET_VIEW not in o.get("data", {})]
    for cell in given:
        cell.source = PLACE.sub(r'".../\1"', cell.source)
    first = notebook.cells.index(code[0])
    notebook.cells[first + 1 : first + 1] = given
    return nbformat.writes(notebook)
