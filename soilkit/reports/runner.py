"""One notebook, checked parameters, one report."""

import ast
import logging
import shutil
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml

from soilkit.errors import ParameterError
from soilkit.files import write_text_whole
from soilkit.reports.offline import to_html

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
