"""What tables models get that know less than training did: ``python -m tests.blind OUT.csv``.

Every system of ``--only`` predicts held-out blocks of $SOILKIT_TEST_DATA/us_10day whole, with one
stretch of ten windows a station, on other days, lacking predictors, in a year without labels, and
in another climate. R and RMSE are means over stations with eight windows; coverage is the share of
rows inside their 90 % interval, of all and of parts. Lines of other systems and versions are kept.
"""

import argparse
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from soilkit.export import insitu
from soilkit.export import ten_day_table as ten_day
from soilkit.models.tabular import SYSTEMS, Problem
from soilkit.studies import contest

DATA = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data")
TABLE, ARCHIVE = "us_10day/matched_10day.parquet", "ismn/ismn_us_header_2019_2021.zip"
WINDOWS, LAST_YEAR, FEWEST = 10, 2021, 8


def some(problem, mask):
    """The rows of a problem that a mask (row,) tells."""
    tables = (problem.samples, problem.features, problem.strata)
    parts = (None if t is None else t[mask].reset_index(drop=True) for t in tables)
    return Problem(problem.stations, *parts)


def few_windows(problem, rng):
    """One stretch of ten labelled windows a station."""
    keep, labelled = np.zeros(len(problem.samples), bool), np.isfinite(problem.moisture)
    for rows in problem.samples.groupby("station_id").indices.values():
        rows = rows[labelled[rows]]
        first = rng.integers(max(len(rows) - WINDOWS, 0) + 1)
        keep[rows[first : first + WINDOWS]] = True
    return some(problem, keep)


def other_days(problem, rng):
    """The same windows five days later."""
    time = problem.samples["time"] + pd.Timedelta(5, "D")
    return replace(problem, samples=problem.samples.assign(time=time))


def lacking(problem, rng):
    """Half of all windows lack SMAP, radar or optics, half of the stations their static layers."""
    features, stations = problem.features.copy(), problem.samples["station_id"]
    for starts in ("smap_", "sentinel1_", "sentinel2_", "dem_", "soil_"):
        columns = [name for name in features if name.startswith(starts)]
        gone = rng.random(len(features)) < 0.5
        if starts in ("dem_", "soil_"):
            names = stations.unique()
            gone = stations.isin(names[rng.random(len(names)) < 0.5])
        features.loc[gone, columns] = np.nan
    return replace(problem, features=features)


def predicted(system, training, asked):
    """The asked rows' predictions by a system trained on another problem, and which lack some."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        split = pd.Series("train", index=training.samples.index)
        trained = system.train(training, split, seed=0)
        for name, problem in asked.items():
            table = trained.predict(problem)
            gaps = problem.features[problem.given].isna().any(axis=1)
            known = np.isfinite(problem.moisture)
            yield name, table.assign(lacks=gaps.to_numpy())[known]


def cases(problem, *, seed):
    """(training problem, {case: asked problem}) of every trial."""
    folds = problem.folds("all", seed=seed).to_numpy()
    year = pd.DatetimeIndex(problem.samples["time"]).year.to_numpy()
    dry = problem.strata["koeppen"].astype(str).str.startswith("B").to_numpy()
    for fold in range(5):
        rng, held_out = np.random.default_rng(fold), folds == fold
        asked = some(problem, held_out)
        yield some(problem, ~held_out), {
            "whole series": asked, "ten windows a station": few_windows(asked, rng),
            "other days": other_days(asked, rng), "predictors lacking": lacking(asked, rng),
        }  # fmt: skip
        yield (
            some(problem, ~held_out & (year < LAST_YEAR)),
            {"a year without labels": some(problem, held_out & (year == LAST_YEAR))},
        )
    for name, train in (("dry trains, humid asked", dry), ("humid trains, dry asked", ~dry)):
        yield some(problem, train), {name: some(problem, ~train)}


def line(table):
    """Scores of one case and what its intervals hold, of all rows and of parts."""
    scores = contest.means(table, min_windows=FEWEST)
    p, o = table["predicted_m3_m3"], table["observed_m3_m3"]
    held = o.between(table.get("lower_m3_m3", np.nan), table.get("upper_m3_m3", np.nan))
    parts = {
        "all": o.notna(), "lacking": table["lacks"], "driest predicted": p <= p.quantile(0.2),
        "wettest predicted": p >= p.quantile(0.8), "driest observed": o <= o.quantile(0.2),
        "wettest observed": o >= o.quantile(0.8),
    }  # fmt: skip
    coverage = {f"coverage, {name}": held[rows].mean() for name, rows in parts.items()}
    return {"r": scores["r"], "rmse_m3_m3": scores["rmse_m3_m3"], **coverage, "rows": len(table)}


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.blind", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="two parts: retrospective", help="systems, by commas")
    parser.add_argument("--version", default="now", help="what the lines are called")
    parser.add_argument("--seed", type=int, default=2, help="of the deal of the blocks")
    options = parser.parse_args()
    stations = insitu.read_stations(DATA / ARCHIVE, progress=False)
    problem = contest.problem_of(ten_day.read(DATA / TABLE), archive_stations=stations)
    lines = []
    for name in options.only.split(","):
        tables = {}
        for training, asked in cases(problem, seed=options.seed):
            for case, table in predicted(SYSTEMS[name], training, asked):
                tables.setdefault(case, []).append(table)
        for case, parts in tables.items():
            head = {"model": name, "case": case, "version": options.version}
            lines.append(head | line(pd.concat(parts, ignore_index=True)))
            sys.stdout.write(f"{lines[-1]}\n")
    made = pd.DataFrame(lines).round(4)
    if options.out.exists():
        made = pd.concat([made, pd.read_csv(options.out)])
        made = made.drop_duplicates(["model", "case", "version"])
    made.sort_values(["model", "case", "version"]).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
