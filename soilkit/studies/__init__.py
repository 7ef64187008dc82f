"""The tables of ``make study``: the paper's values beside ours, as they were written or tried.

``contest`` is of tabular systems. What runs both is a benchmark: ``tests/benchmarks``.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from soilkit.errors import ContractError
from soilkit.files import read_csv, read_whole
from soilkit.metrics.evaluation import literature

FULL = "Sentinel-1 + DEM + Sentinel-2 + SoilGrids + SMAP + GLDAS"
SAME = "as in the paper"
NAMES = ("lines", "trials", "sensors", "curves", "places", "tables", "strata", "sizes", "series")
REPOSITORY = Path(__file__).parents[2]
RUNNER = "tests.benchmarks.fusion_study"


def read_study(folder: Path | str) -> dict[str, pd.DataFrame]:
    """The tables of ``make study``, those that there are, by name.

    ``lines`` (line of a table and seed -> trial), ``trials`` (definition, status, size, time),
    ``sensors`` (scores), ``curves``, ``places``; and made of them ``tables`` (paper beside ours),
    ``sizes``, and of the full model ``strata`` and ``series`` (three sensors over time).
    """
    paths = {name: Path(folder) / f"{name}.csv" for name in NAMES}
    tables = {name: read_whole(path, read_csv) for name, path in paths.items() if path.is_file()}
    if {"sensors", "places"} <= tables.keys():
        names = tables["places"].set_index("place")["sensor_id"]
        tables["sensors"]["sensor_id"] = tables["sensors"].pop("place").map(names)
    return tables


def open_study(
    folder: Path | str,
    *,
    only: Sequence[str],
    dataset: Path | str,
    steps: int,
    seed: int,
    label: str,
) -> dict[str, pd.DataFrame]:
    """The tables of a study that was run; else of a try: few steps on a dataset, one seed.

    A try shows the road, not a result: it trains ``steps`` steps on crops of 64 pixels, in
    ``dataset/study``. ``["trials"]`` of them says how many steps each trial had.

    Parameters
    ----------
    folder : where ``make study`` wrote its tables
    only : experiments that must be in it
    dataset : folder of notebook 10
    steps, seed : of the try
    label : how its data are called, such as "synthetic"

    Raises
    ------
    ContractError
        When a try is due and the dataset, or the repository with the study's runner, is not there.
    """
    tables = read_study(folder)
    if "sensors" in tables and set(only) <= set(tables["lines"]["experiment"]):
        return tables
    place = Path(dataset).resolve()
    if not (place / "samples.parquet").exists():
        raise ContractError(f"{dataset} holds no samples.parquet, so no dataset: run notebook 10.")
    if not (REPOSITORY / f"{RUNNER.replace('.', '/')}.py").exists():
        raise ContractError(f"A try needs the repository of soilkit; {REPOSITORY} is none.")
    kept = place / "study" / "-".join(["tables", *only, str(steps), str(seed)])
    words = [kept, "--work", place / "study", "--profile", "try", "--workers", "0"]
    words += ["--only", ",".join(only), "--seeds", seed, "--steps", steps]
    words += ["--dataset", place, "--label", label]
    subprocess.run([sys.executable, "-m", RUNNER, *map(str, words)], cwd=REPOSITORY, check=True)
    return read_study(kept)


def experiment_table(
    tables: dict[str, pd.DataFrame], experiment: str, *, split: str = "validation"
) -> pd.DataFrame:
    """A table of the paper, such as "table9", with our scores beside its own.

    A *step* is a line's score minus the reference line's. Ours is paired: on identical samples,
    sensors and seeds; its interval knows of places and of seeds. The paper's has no interval.
    ``difference`` is our score minus the paper's: other data, no claim.

    Returns
    -------
    DataFrame, one row a line and metric: ``experiment, table, split, variant, metric, paper, ours,
    ours_lower, ours_upper, difference, paper_step, our_step, lower, upper, pattern, n_seeds,
    n_sensors, n_blocks, status``. ``pattern`` compares the steps' signs: "as in the paper" or
    "opposite" where our interval excludes 0, else "not resolved"; empty where the paper prints none
    """
    table = tables["tables"].query("experiment == @experiment and split == @split")
    return table.fillna({"pattern": ""}).reset_index(drop=True)


def line_scores(
    tables: dict[str, pd.DataFrame], experiment: str, *, variant: str, metric: str
) -> pd.DataFrame:
    """Validation scores of one line of a table, (seed, sensor)."""
    lines = tables["lines"].query("experiment == @experiment and variant == @variant")
    sensors = tables["sensors"].query("split == 'validation'")
    both = lines.fillna({"withheld": ""}).merge(
        sensors.fillna({"withheld": ""}), on=["key", "withheld"]
    )
    return both.pivot(index="seed", columns="sensor_id", values=metric)


def in_both_worlds(first: pd.DataFrame, second: pd.DataFrame, *, metric: str = "r") -> pd.DataFrame:
    """Steps of the paper beside those of two synthetic worlds, and where its pattern holds.

    Parameters
    ----------
    first, second : tables of ``paper_beside_ours``, of world 1 and world 2
    metric : str, a column of ``SCORES``

    Returns
    -------
    DataFrame, one row a line of the paper that both have on the validation split: ``table, line,
    paper``, for each world its step, as ``world 1``, with ``_lower`` and ``_upper``, and ``holds
    in``: "both", one of them, or "neither"
    """
    keys, parts = ["experiment", "variant"], []
    for number, table in ((1, first), (2, second)):
        name = f"world {number}"
        heads = {"our_step": name, "lower": f"{name}_lower", "upper": f"{name}_upper"}
        heads |= {"pattern": f"{name} pattern", "table": "table", "paper_step": "paper"}
        kept = table.query("split == 'validation' and metric == @metric and paper_step.notna()")
        kept = kept.loc[kept["our_step"].notna(), [*keys, *heads]]
        parts.append(kept.rename(columns=heads))
    both = parts[0].merge(parts[1].drop(columns=["table", "paper"]), on=keys)
    same = [both.pop(f"world {n} pattern") == SAME for n in (1, 2)]
    cases = [same[0] & same[1], *same]
    both["holds in"] = np.select(cases, ["both", "world 1", "world 2"], "neither")
    both = both.rename(columns={"variant": "line"}).drop(columns="experiment")
    first_columns = ["table", "line", "paper"]
    return both[[*first_columns, *both.columns.drop(first_columns)]]


def beside_literature(strata_table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Our value by network with the paper's and the others' as columns of text, asterisks kept.

    ``strata_table`` is from ``by_stratum``, ``metric`` "r" or "ubrmse_m3_m3".
    """
    works = literature.literature_table(metric)
    works = works[works["value"].notna()]
    text = works["value"].map("{:.3f}".format) + works["asterisk"]
    wide = works.assign(text=text).pivot_table(
        index="network", columns="work", values="text", aggfunc=" / ".join, sort=False
    )
    rows = strata_table.reindex(columns=["stratum", "metric", "class", "ours"])
    mine = rows[(rows["stratum"] == "network") & (rows["metric"] == metric)]
    ours = mine.set_index("class")["ours"].map("{:.3f}".format).rename("full model, ours")
    table = pd.concat([ours, wide], axis=1).rename_axis("network")
    return table.astype(object).where(table.notna(), "")
