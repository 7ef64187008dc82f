"""Several notebooks as one report, the reports of this project, several at a time."""

import logging
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from soilkit.errors import ParameterError
from soilkit.files import csv_text, read_csv, write_text_whole
from soilkit.show.plots.style import words
from soilkit.show.reports.pages import card, list_page, takeaway, to_pdf
from soilkit.show.reports.runner import as_yaml, check_parameters, declared, heading, run

DIFFERENCES = {name: words(name) for name in ("r", "ubrmse_m3_m3", "rmse_m3_m3")}
HEADLINES = {f"{m}_block_mean": words(m) for m in (*DIFFERENCES, "bias_m3_m3")}
COMPARED = {
    "metric": "metric", "model_a": "model", "model_b": "minus",
    "block_difference": "value", "block_lower": "lower", "block_upper": "upper",
    "notebook": "notebook",
}  # fmt: skip
FILES = {
    "Parameters": "parameters.yaml", "Versions, seed and data hashes": "stamp.yaml",
    "All scores": "scores.csv",
}  # fmt: skip
SHELF = "Reports"
GIVEN = "row.yaml"  # beside a sweep's page: the parameters that made it


@dataclass(frozen=True)
class Section:
    """One notebook of a report, and the parameters that differ from its defaults.

    ``folder`` names a working folder of its own, for a dataset that is not the one of the others.
    In text parameters "{work}" stands for the section's working folder and "{data}" for the folder
    of the real data.
    """

    notebook: str
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    folder: str = ""


@dataclass(frozen=True)
class Book:
    """A report of several notebooks that share one working folder.

    ``needs`` names the folder of real data that it cannot be made without.
    """

    name: str
    title: str
    about: str
    sections: tuple[Section, ...]
    needs: str = ""


def real_data() -> Path:
    """The folder of real data, which lie outside the project."""
    return Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data").resolve()


def build(
    book: Book, notebooks: Path, reports: Path, *, code: bool = True, pdf: bool = False
) -> Path:
    """Run every section in order and write ``reports/<name>/`` with its index; returns the index.

    The working data (chips, checkpoints) go to ``reports/work/<name>``; a second call takes up what
    it finds there.
    """
    out_dir = reports / book.name
    for section in book.sections:
        work = str((reports / "work" / book.name).resolve() / section.folder)
        parameters = {"out_dir": work} | {
            name: value.format(work=work, data=real_data()) if isinstance(value, str) else value
            for name, value in section.parameters.items()
        }
        notebook = notebooks / f"{section.notebook}.ipynb"
        page = run(notebook, parameters, out_dir, code=code, up=book.title)
        if pdf:
            to_pdf(page)
    return bind(book, notebooks=notebooks, out_dir=out_dir)


def bind(book: Book, *, notebooks: Path, out_dir: Path) -> Path:
    """Join the sections' parameters, stamps and scores, and write ``index.html``."""
    import yaml

    names = ("parameters.yaml", "stamp.yaml", "scores.csv", "differences.csv")
    parts = {n: {s.notebook: out_dir / s.notebook / n for s in book.sections} for n in names}
    files = {n: {k: p for k, p in paths.items() if p.is_file()} for n, paths in parts.items()}
    scores, differences = _joined(files["scores.csv"]), _joined(files.pop("differences.csv"))
    texts = {"scores.csv": csv_text(scores)}
    for name in ("parameters.yaml", "stamp.yaml"):
        whole = {k: yaml.safe_load(path.read_text("utf-8")) for k, path in files[name].items()}
        texts[name] = as_yaml(whole)
    for name, text in texts.items():
        write_text_whole(out_dir / name, text)
        for path in files[name].values():  # the whole stands for its parts
            path.unlink()
    pages = {s.notebook: heading(notebooks / f"{s.notebook}.ipynb") for s in book.sections}
    cards = [
        card(out_dir / f"{name}.html", title=title, href=f"{name}.html", lines=[question])
        for name, (title, question) in pages.items()
    ]
    return list_page(
        out_dir / "index.html", title=book.title, about=book.about, cards=cards, files=FILES,
        tables=_comparisons(differences) | _headlines(scores), up=SHELF,
    )  # fmt: skip


def shelve(reports: Path) -> Path:
    """Write ``reports/index.html``: each report's picture, highest score or takeaway, and date."""
    cards = []
    for index in sorted(reports.glob("*/index.html"), key=lambda path: path.parent.name):
        name = index.parent.name
        title = next((book.title for book in BOOKS if book.name == name), name)
        scores = index.with_name("scores.csv")
        has_scores = scores.is_file() and scores.stat().st_size > 1
        best = (has_scores and best_score(read_csv(scores))) or takeaway(index.parent)
        lines = filter(None, [best, _date(index)])
        cards.append(card(index, title=title, href=f"{name}/index.html", lines=lines))
    for page in sorted(reports.glob("*/*.failed.html")):
        href = f"{page.parent.name}/{page.name}"
        cards.append(card(page, title=f"Stopped: {href}", href=href, lines=[_date(page)]))
    about = (
        "Scores are of places that no model trained on; each report says how, and of which data."
    )
    return list_page(reports / "index.html", title=SHELF, about=about, cards=cards)


def _date(page: Path) -> str:
    return f"{pd.Timestamp(page.stat().st_mtime, unit='s'):%Y-%m-%d %H:%M} UTC"


def best_score(scores: pd.DataFrame) -> str:
    """The highest R at unseen places of the last notebook that has one, in a sentence, or nothing.

    Examples
    --------
    >>> row = {"metric": "r", "split": "test", "lower": 0.6, "upper": 0.8, "notebook": "20"}
    >>> best_score(pd.DataFrame([row | {"model": "a", "value": 0.7, "data": "synthetic"}]))
    'R 0.70 (0.60 to 0.80), a, test, synthetic'
    """
    for metric in ("r_block_mean", "r") if {"metric", "split"} <= set(scores) else ():
        rows = scores[(scores["metric"] == metric) & scores["value"].notna() & _unseen(scores)]
        if len(rows):
            rows = rows[rows["notebook"] == rows["notebook"].iloc[-1]]
            best, n = rows.loc[rows["value"].idxmax()], rows["model"].nunique()
            ends = f" ({best.lower:.2f} to {best.upper:.2f})" if pd.notna(best.get("lower")) else ""
            words = [f"R {best.value:.2f}{ends}", best.model, best.split, best.get("data")]
            text = ", ".join(str(word) for word in words if pd.notna(word))
            return f"{text}: the highest of {n} compared" if n > 1 else text
    return ""


def _unseen(scores: pd.DataFrame) -> pd.Series:
    """Rows over all classes, of a split that no model trained on and none leaks into."""
    strata = scores["stratum"].fillna("all") if "stratum" in scores else "all"
    return (strata == "all") & ~scores["split"].astype("str").str.contains("train|leaky")


def _joined(files: dict[str, Path]) -> pd.DataFrame:
    parts = [read_csv(path).assign(notebook=stem) for stem, path in files.items()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _headlines(scores: pd.DataFrame, *, by: str = "notebook") -> dict[str, str]:
    """Means of 2-degree blocks' means, one row a model and split that no model trained on."""
    if scores.empty or "stratum" not in scores:
        return {}
    unseen = (scores["stratum"].fillna("all") == "all") & (scores["split"] != "train")
    table = _wide(scores[unseen], HEADLINES, keys=[by, "split", "model"])
    return {"Scores: means over 2-degree blocks, with 95 % intervals": table} if table else {}


def _comparisons(differences: pd.DataFrame) -> dict[str, str]:
    """The paired differences that sections saved, one row each, whatever their sign."""
    if not set(COMPARED) <= set(differences.columns):
        return {}
    rows = differences[list(COMPARED)].rename(columns=COMPARED)
    head = "Paired differences on the same unseen samples: means over blocks, with 95 % intervals"
    return {head: _wide(rows, DIFFERENCES, keys=["notebook", "model", "minus"])}


def _wide(rows: pd.DataFrame, titles: dict[str, str], *, keys: list[str]) -> str:
    """One column a metric, "value (lower to upper)" in each cell, as HTML."""
    rows = rows[rows["metric"].isin(titles) & rows["value"].notna()]
    if rows.empty:
        return ""
    text = [f"{r.value:.4f} ({r.lower:.4f} to {r.upper:.4f})" for r in rows.itertuples()]
    table = rows.assign(text=text, metric=rows["metric"].map(titles)).pivot_table(
        index=keys, columns="metric", values="text", aggfunc="first", sort=False
    )
    table = table.reindex(columns=[title for title in titles.values() if title in table])
    page = table.fillna("").reset_index().rename_axis(columns=None)
    return page.to_html(index=False, border=0)


# One notebook over a table of parameters.


def sweep(notebook: Path, table: Path, *, out_dir: Path, workers: int = 2) -> Path:
    """Run a notebook once for every row of a csv of parameters; the path of the summary page.

    A column "name" names the rows' folders in ``out_dir``; an empty cell leaves the default. A row
    whose page stands is not run again, one that failed is; its page says where and why. Rows that
    write to one ``out_dir`` of their own run one after the other.

    Raises ``ParameterError`` for a table without rows, a name that stands twice, or a parameter
    that the notebook lacks, before anything runs.
    """
    import yaml

    rows = pd.read_csv(table, dtype="str", keep_default_na=False)
    names = rows.pop("name") if "name" in rows else pd.Series([f"row_{i + 1}" for i in rows.index])
    if rows.empty or names.duplicated().any() or not names.str.fullmatch(r"[\w.-]+").all():
        raise ParameterError(
            f"{table} has {len(rows)} rows named {', '.join(names)}. Give rows of parameters, and "
            "in a column 'name' a word of letters, digits, . and - to each, none twice."
        )
    defaults, jobs = declared(notebook), {}
    for name, row in zip(names, rows.to_dict("records"), strict=True):
        texts = {k: v for k, v in row.items() if v}
        values = {k: v if isinstance(defaults.get(k), str) else yaml.safe_load(v)
                  for k, v in texts.items()}  # fmt: skip
        jobs[name] = check_parameters(notebook, values)
    shared = "out_dir" in rows and rows["out_dir"][rows["out_dir"] != ""].duplicated().any()
    todo = {n: p for n, p in jobs.items() if not _stands(out_dir / n, notebook, p)}
    with _pool(1 if shared else workers) as pool:
        done = {n: pool.submit(_run_row, notebook, p, out_dir / n) for n, p in todo.items()}
    errors = {n: str(future.exception() or "").strip() for n, future in done.items()}
    cards, files = [], {}
    for name, given in jobs.items():
        folder = out_dir / name
        files[name] = folder / notebook.stem / "scores.csv"
        score = (
            best_score(read_csv(files[name]).assign(notebook=name)) if files[name].is_file() else ""
        )
        why = errors.get(name, "")
        page = folder / f"{notebook.stem}{'.failed' if why else ''}.html"
        lines = [
            why.splitlines()[-1] if why else score,
            ", ".join(f"{k} {v}" for k, v in given.items()),
        ]
        href = f"{name}/{page.name}"
        cards.append(card(page, title=f"{name}: stopped" if why else name, href=href, lines=lines))
    scores = _joined({n: p for n, p in files.items() if p.is_file() and not errors.get(n)})
    return list_page(
        out_dir / "index.html", title=f"{heading(notebook)[0]}: {len(jobs)} runs",
        about=heading(notebook)[1], cards=cards, up="",
        tables=_headlines(scores.rename(columns={"notebook": "run"}), by="run"),
    )  # fmt: skip


def _stands(folder: Path, notebook: Path, parameters: dict[str, Any]) -> bool:
    """Whether a row's page is there, of these very parameters."""
    given, page = folder / GIVEN, folder / f"{notebook.stem}.html"
    return page.is_file() and given.is_file() and given.read_text("utf-8") == as_yaml(parameters)


def _run_row(notebook: Path, parameters: dict[str, Any], folder: Path) -> None:
    (folder / GIVEN).unlink(missing_ok=True)
    run(notebook, parameters, folder)
    write_text_whole(folder / GIVEN, as_yaml(parameters))


# The reports of this project: which notebooks, in which order, with which parameters.

SYNTHETIC = Book(
    "synthetic",
    "soilkit on the synthetic world",
    "Every number here is synthetic: it was computed on an invented world with a known truth and "
    "is no evidence about the real Earth. What it shows is that the road works from end to end.",
    (
        Section("00_start_here"),
        Section("01_synthetic_world"),
        Section("10_build_dataset", {"n_stations": 120}),
        Section("11_inspect_in_situ"),
        Section("12_read_published_shards", folder="published"),
        Section("13_choose_splits"),
        Section("14_build_a_cube"),
        Section("20_train_xception_fusion"),
        Section("24_tabular_baselines", {"preset": "small", "epochs": 30}),
        Section("31_evaluate_by_stratum"),
        Section("35_bring_your_own_predictions"),
        Section("40_map_a_region", {"n_stations": 120}),
        Section("41_true_map_error", {"n_stations": 120}),
    ),
)

XCEPTION_FUSION = Book(
    "xception_fusion",
    "The Xception fusion study on the synthetic world",
    "Every number of ours here is synthetic; the paper's stand in their own columns. The trials "
    "were run by `make study`; their rows lie beside this page, which is made from them.",
    (
        Section("30_ablate_sources"),
        Section("32_input_size_and_choices"),
        Section("33_extra_inputs"),
        Section("34_anchors"),
    ),
)

TABULAR_SYNTHETIC = Book(
    "tabular_synthetic",
    "Simple ensembles on the synthetic world",
    "Every number of ours here is synthetic; those of Poehls et al. (2024), of real stations, "
    "stand in their own columns.",
    (Section("25_simple_ensembles", {"every_days": 6}),),
)

COMPOSITE = Book(
    "composite_1km",
    "Composite loss at 1 km on the synthetic world",
    "Every number of ours here is synthetic but those of section 8, which come from real cells; "
    "Tsagkatakis et al. print curves, no numbers.",
    (Section("22_composite_loss_1km"),),
)

DEEPSOIL = Book(
    "deepsoil",
    "DEEPSOIL: daily moisture at 30 m, on the synthetic world",
    "Every number of ours here is synthetic; those of Khandelwal et al. (2024), of real stations, "
    "stand in their own columns. What their paper leaves open is asked in the csv files beside "
    "this page, of the synthetic world too.",
    (Section("21_deepsoil_30m"),),
)

CONVLSTM = Book(
    "convlstm",
    "Daily moisture at 5 and 25 cm by a ConvLSTM, on the synthetic world",
    "Every number of ours in the notebook is synthetic but those of its last section; scores on "
    "real series (SMAP at 412 pixels, 20 cm from 5 cm) stand in the csv files beside this page.",
    (Section("23_convlstm_daily"),),
)

PROVENANCE = {
    "flags": "G only; a sensor's day counts from 12 good hours, a window from 6 such days",
    "rescaling": "none: models are fitted to the in-situ moisture of other blocks",
    "labels": "means over ten-day windows of a station's sensors, from ISMN",
    "temporal collocation": "in situ and satellites are means of one ten-day window",
    "spatial collocation": "Sentinel-1 and -2 at the station, SMAP's 10 km pixel around it",
}


US_10DAY = Book(
    "tabular_us_10day",
    "Ten-day soil moisture at 94 real stations (USCRN, TxSON, ARM), 2019-2021",
    "Real data: the us_10day table of Sentinel-1, Sentinel-2 and SMAP predictors with labels "
    "from the International Soil Moisture Network.",
    (
        Section("24_tabular_baselines", {
            "train_table": "{data}/us_10day/matched_10day.parquet",
            "ismn_archive": "{data}/ismn/ismn_us_header_2019_2021.zip",
            "epochs": 30,
        }),
        Section("31_evaluate_by_stratum", {
            "archive": "us_10day",
            "main": "two parts: retrospective",
            "min_samples": 20,
            "leave_out": ["by block, all labelled rows"],
            "predictions": "{work}/predictions.parquet",
            "stations": "{work}/ten_day/stations.parquet",
            "folds": "{work}/folds.parquet",
            "features": "{work}/ten_day/features.parquet",
            "provenance": PROVENANCE,
        }),
    ),
    needs="us_10day",
)  # fmt: skip

DAILY = Book(
    "daily_scan_snotel",
    "Daily soil moisture at 162 real stations (SCAN, SNOTEL) from weather alone, 2010-2018",
    "Real data: daily readings of the US Department of Agriculture's SCAN and SNOTEL.",
    (Section("26_daily_from_weather", {"table": "{data}/scan_snotel_daily"}),),
    needs="scan_snotel_daily",
)

MAPS = Book(
    "maps",
    "Maps of real ground: Kings Creek (Kansas) and Yanco (New South Wales)",
    "Real data: probes of Patrignani et al. (2022) and the daily table of Yu et al. (2025).",
    (Section("42_real_ground", {"map_every_days": 5}),),
    needs="kings_creek",
)
BOOKS = (  # the longest first
    SYNTHETIC, US_10DAY, DEEPSOIL, TABULAR_SYNTHETIC, CONVLSTM, MAPS, COMPOSITE, DAILY,
    XCEPTION_FUSION,
)  # fmt: skip


# Several reports at a time, each in a process of its own.


def build_all(
    books: Sequence[Book], *, notebooks: Path, reports: Path, workers: int, **options: bool
) -> list[Path]:
    """Build reports side by side, each in a process of its own; their index pages, in order.

    ``options`` are those of ``build``. The list of all reports is written whatever happens.

    One that fails does not stop the others; its error is raised when they are done.
    """
    try:
        if workers < 2 or len(books) < 2:
            return [build(book, notebooks, reports, **options) for book in books]
        with _pool(workers) as pool:
            built = [pool.submit(build, book, notebooks, reports, **options) for book in books]
        return [future.result() for future in built]
    finally:
        shelve(reports)


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (workers,))


def speak() -> None:
    """Log progress, here and in every process of a report."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")


def _begin(workers: int) -> None:
    """Share the cores among the reports: threads that outnumber them wait for one another."""
    speak()
    cores = os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))
