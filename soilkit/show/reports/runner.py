"""One notebook, checked parameters, one stamped report that opens with no network."""

import ast
import hashlib
import logging
import platform
import re
import shutil
from difflib import get_close_matches
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from jinja2 import DictLoader
from nbconvert import HTMLExporter

from soilkit._version import __version__
from soilkit.errors import ParameterError
from soilkit.files import write_text_whole

PACKAGES = ("numpy", "pandas", "xarray", "scikit-learn", "torch", "zarr", "ismn", "papermill")


def stamp(*, seed: int, data: dict[str, str | Path]) -> dict[str, Any]:
    """Versions, seed and one SHA-256 a named piece of data; no clock, so that equal runs are equal.

    Parameters
    ----------
    seed : int
    data : mapping of a name to a file (hashed here) or to a hash that its owner gives (a chip
        store's ``data_hash``, a world's ``version``)
    """
    versions = {"soilkit": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in PACKAGES}
    return {
        "seed": int(seed),
        "versions": versions,
        "data": {name: _hash(item) for name, item in data.items()},
    }


def _hash(item: str | Path) -> str:
    path = Path(item)
    if not isinstance(item, Path) and (len(str(item)) > 255 or not path.is_file()):
        return str(item)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_result(out_dir: str | Path, notebook: str, **results: Any) -> Path:
    """Write a notebook's small text results to ``out_dir/results/<notebook>/``, for the report.

    A table becomes ``<name>.csv``, a mapping ``<name>.yaml``.
    """
    folder = Path(out_dir) / "results" / notebook
    folder.mkdir(parents=True, exist_ok=True)
    for name, result in results.items():
        if isinstance(result, dict):
            write_text_whole(folder / f"{name}.yaml", yaml.safe_dump(result, sort_keys=False))
        else:
            write_text_whole(folder / f"{name}.csv", as_csv(result))
    return folder


def as_csv(table: Any) -> str:
    """A table as the text that reports keep: six digits, no index."""
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


# Executed notebooks to one HTML file that asks the network for nothing.

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LOADING_TAGS = {
    "script": ("src",), "link": ("href",), "img": ("src", "srcset"), "iframe": ("src",),
    "source": ("src", "srcset"), "video": ("src", "poster"), "audio": ("src",),
    "embed": ("src",), "object": ("data",), "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
}  # fmt: skip
ELSEWHERE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
LOADING_STYLE = re.compile(
    r"""(?:url\(|@import)\s*['"]?\s*((?:https?:)?//[^'")\s]+)""", re.IGNORECASE
)
TEMPLATE = """
{%- extends 'index.html.j2' -%}
{%- block html_head_js_requirejs -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{% block input_group -%}
<details class="soilkit-code"><summary>code</summary>{{ super() }}</details>
{%- endblock input_group %}
{%- block html_head_css -%}
<style>
body { max-width: 62rem; margin: 0 auto; padding: 1rem 1.5rem; }
details.soilkit-code > summary { cursor: pointer; color: #777; font: 0.75rem sans-serif; }
.jp-RenderedHTMLCommon { overflow-x: auto; }
.jp-OutputPrompt, .jp-InputPrompt { display: none; }
.jp-RenderedHTMLCommon img, .jp-RenderedImage img { max-width: 100%; height: auto; }
</style>
{%- endblock -%}
"""


class _Loads(HTMLParser):
    """Collects what a browser would fetch from elsewhere when it opens the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.in_style = tag == "style"
        for name, value in attrs:
            if value and name in LOADING_TAGS.get(tag, ()) and ELSEWHERE.match(value):
                self.found.append(f"<{tag} {name}={value!r}>")
            if value and name == "style":
                self.found += LOADING_STYLE.findall(value)

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.found += LOADING_STYLE.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self.in_style = False


def external_loads(html: str) -> list[str]:
    """What a page would load from elsewhere: scripts, styles, images, frames; links do not count.

    Examples
    --------
    >>> external_loads('<a href="https://x.org">x</a><script src="https://x.org/a.js"></script>')
    ["<script src='https://x.org/a.js'>"]
    """
    parser = _Loads()
    parser.feed(html)
    return parser.found


def _is_transient(output: dict) -> bool:
    """Whether an output means something only while the notebook runs: a widget, a progress bar."""
    if WIDGET_VIEW in output.get("data", {}):
        return True
    return output.get("name") == "stderr" and "%|" in "".join(output.get("text", ""))


def to_html(notebook: nbformat.NotebookNode, title: str) -> str:
    """One self-contained HTML page of an executed notebook, code folded.

    Widgets and progress bars, which mean something only beside a running kernel, are left out:
    notebooks set a static picture beside each interactive view.

    Raises
    ------
    ValueError
        If the page would still load something from the network.
    """
    page = nbformat.from_dict(notebook)
    page.metadata.pop("widgets", None)
    page.metadata["title"] = title
    for cell in page.cells:
        outputs = cell.get("outputs", [])
        cell["outputs"] = [o for o in outputs if not _is_transient(o)]
        if cell.cell_type != "code":
            cell.pop("outputs", None)
    exporter = HTMLExporter(
        extra_loaders=[DictLoader({"offline.html.j2": TEMPLATE})],
        template_file="offline.html.j2",
    )
    html, _ = exporter.from_notebook_node(page)
    loads = external_loads(html)
    if loads:
        raise ValueError(
            f"{title} would load {len(loads)} things from the network, first {loads[0]}. "
            "Embed them, or show a static picture instead."
        )
    return html


# One notebook, checked parameters, one report.

log = logging.getLogger(__name__)


def declared(notebook: str | Path) -> dict[str, Any]:
    """The notebook's parameters and their default values, from its ``parameters`` cell.

    Raises
    ------
    ParameterError
        If the notebook has no such cell, or a default is no plain literal (papermill would leave
        what is derived from it stale).
    """
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    if not tagged:
        raise ParameterError(f"{Path(notebook).name} has no cell tagged 'parameters'.")
    defaults = {}
    for node in ast.parse(tagged[0].source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            try:
                defaults[name] = ast.literal_eval(node.value)
            except ValueError as error:
                raise ParameterError(
                    f"{Path(notebook).name}: the default of {name!r} is no plain literal."
                ) from error
    return defaults


def check_parameters(notebook: str | Path, parameters: dict[str, Any]) -> None:
    """Raise ``ParameterError`` for a parameter that the notebook lacks, or one of another type."""
    known = declared(notebook)
    for name, value in parameters.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ParameterError(
                f"{Path(notebook).name} has no parameter {name!r}; it has {', '.join(known)}.{hint}"
            )
        wanted, found = type(known[name]), type(value)
        if (
            found is not wanted
            and not (wanted is float and found is int)
            and known[name] is not None
        ):
            raise ParameterError(
                f"{Path(notebook).name}: {name!r} should be {wanted.__name__} "
                f"(default {known[name]!r}), found {found.__name__} {value!r}."
            )


def run(notebook: str | Path, parameters: dict[str, Any], out_dir: str | Path) -> Path:
    """Run a notebook with papermill and write its report; nothing is left half-written.

    ``out_dir`` receives ``<notebook>.html``, which opens with no network, and a folder
    ``<notebook>/`` with ``parameters.yaml`` and the small text results (``stamp.yaml``,
    ``scores.csv``, ...) that the notebook saved under its own ``out_dir`` parameter (by default
    ``<out_dir>/work``).

    Parameters
    ----------
    notebook : path of an .ipynb
    parameters : values for names of its ``parameters`` cell; names and types are checked first
    out_dir : folder of the report

    Returns
    -------
    path of the HTML file

    Raises
    ------
    ParameterError
        Before anything runs, if a parameter does not exist or is of another type.
    papermill.PapermillExecutionError
        If a cell fails; the executed notebook is kept beside the report for reading.
    """
    notebook, out_dir = Path(notebook), Path(out_dir).resolve()
    check_parameters(notebook, parameters)
    parameters = dict(parameters)
    if "out_dir" in declared(notebook):
        parameters.setdefault("out_dir", str(out_dir / "work"))
    out_dir.mkdir(parents=True, exist_ok=True)
    executed = out_dir / "work" / f"{notebook.stem}.executed.ipynb"
    executed.parent.mkdir(exist_ok=True)
    log.info("running %s with %s", notebook.name, parameters)
    papermill.execute_notebook(
        str(notebook), str(executed), parameters=parameters, kernel_name="python3",
        language="python", cwd=str(notebook.parent), request_save_on_cell_execute=False,
    )  # fmt: skip
    html = to_html(nbformat.read(executed, as_version=4), _title(notebook))
    _collect(Path(str(parameters.get("out_dir", ""))), out_dir / notebook.stem)
    used = yaml.safe_dump(_portable(declared(notebook) | parameters))
    write_text_whole(out_dir / notebook.stem / "parameters.yaml", used)
    return write_text_whole(out_dir / f"{notebook.stem}.html", html)


def _title(notebook: Path) -> str:
    first = nbformat.read(notebook, as_version=4).cells[0].source
    return first.splitlines()[0].lstrip("# ") if first else notebook.stem


def _portable(parameters: dict[str, Any]) -> dict[str, Any]:
    """Absolute paths shortened to their last two parts: a report names data, not one machine."""
    return {
        name: "/".join(Path(value).parts[-2:])
        if isinstance(value, str) and Path(value).is_absolute()
        else value
        for name, value in parameters.items()
    }


def _collect(work: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    results = work / "results" / folder.name
    if results.is_dir():
        shutil.copytree(results, folder, dirs_exist_ok=True)
