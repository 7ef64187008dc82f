"""One call from a predictions table to every table and sentence of its evaluation."""

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from soilkit import metrics
from soilkit.metrics.evaluation import rows as row_module
from soilkit.metrics.evaluation import score_tables
from soilkit.metrics.evaluation.cautions import cautions, checklist, protocol, stage
from soilkit.metrics.evaluation.grades import sentence, verdict
from soilkit.metrics.evaluation.records import (
    Applicability,
    Background,
    Calibration,
    Evaluation,
    Failures,
    Finding,
    Fulfilment,
    Grade,
    NotAudited,
    Options,
    is_missing,
    missing,
)
from soilkit.metrics.evaluation.rows import GIVEN
from soilkit.metrics.splits.checks import Claim


def evaluate(
    predictions: pd.DataFrame,
    stations: pd.DataFrame | None,
    *,
    label: str,
    main: str | None = None,
    options: Options | None = None,
    background: Background | None = None,
) -> Evaluation:
    """Everything of an evaluation report that is a table, from any predictions table.

    Rows of splits that train or leak, repeats and rows without a pair are counted and left out;
    the rest are scored per sensor, by stratum, against every other model and against climatology,
    as anomalies, rescaled, and as maps. What cannot be made has one row that says why.

    Parameters
    ----------
    predictions : table of that contract, one or more models and splits; repeats are allowed
    stations : stations table; None, or stations unknown to it: networks stand for blocks
    label : name of the data, on every sentence; "synthetic" in it marks a made-up world
    main : the model to judge; the first that is no baseline where not named
    options : Options
    background : Background, what is known beside the table

    Returns
    -------
    Evaluation

    Raises
    ------
    ContractError
        When a table breaks its contract, or there is no row to score.
    """
    options, background = options or Options(), background or Background()
    row_module.check_predictions(predictions)
    if background.samples is None:  # the predictions themselves know place, time and reading
        background = replace(background, samples=predictions)
    main = score_tables.main_model(predictions, main, options=options)
    stations = row_module.completed(stations, predictions)
    audits = row_module.audit_splits(predictions, stations, background=background)
    leaky = {name for name, audit in audits.items() if audit.level.is_leaky}
    clean = {name for name, audit in audits.items() if not isinstance(audit, NotAudited)} - leaky
    unseen, candidates, losses, handed_in = row_module.select_rows(
        predictions, main, leaky=leaky, options=options, notes=background.notes, clean=clean
    )
    of_main = unseen if len(unseen) else candidates
    scored = of_main.loc[of_main["model"].astype("str") == main, GIVEN].unique().tolist()
    table = row_module.audit_table(audits, predictions)
    scores = metrics.station_scores(
        candidates, min_samples=options.min_samples, metrics=options.metrics
    )
    places = score_tables.Places.of(stations, candidates)
    has_rows = (unseen["model"].astype("str") == main).any()
    case = Case(unseen, scores, main=main, places=places, options=options, background=background)
    return Evaluation(
        label=label,
        main=main,
        models=list(dict.fromkeys([main, *candidates["model"].astype("str")])),
        options=options,
        background=background,
        stations=stations,
        handed_in=handed_in,
        unseen=unseen,
        losses=losses,
        weakest=row_module.weakest([audits[name] for name in scored]),
        audits=audits,
        audit_table=table.assign(is_scored=table["split"].isin(scored)),
        scores=scores,
        overall=metrics.summarize(scores, stations, clusters=places.unit, seed=options.seed),
        **(_parts if has_rows else _no_parts)(case),
    )


@dataclass(frozen=True)
class Case:
    """What every part is made of: scored rows, scores of sensors, stations, what was asked."""

    unseen: pd.DataFrame
    scores: pd.DataFrame
    main: str
    places: score_tables.Places
    options: Options
    background: Background


def _no_parts(case: Case) -> dict:
    """The parts of an evaluation whose main model has not one row to score."""
    words = f"no sample of {case.main} is scored: {case.scores['status'].iloc[0]}"
    why = missing(words)
    parts = ("by_block", "errors", "comparison", "wins", "wins_by_class", "anomaly", "rescaled",
             "spatial", "spatial_mean", "spatial_parts", "literature", "triple")  # fmt: skip
    return {
        **dict.fromkeys(parts, why),
        "strata": dict.fromkeys((*case.options.by, "season"), why),
        "applicability": Applicability(words),
        "calibration": Calibration(words),
        "failures": Failures(words, why, why, None, words),
        "shared_pixels": pd.DataFrame(columns=list(row_module.SHARED)),
    }


def _parts(case: Case) -> dict:
    """Whatever is made of the scored rows."""
    unseen, scores, main = case.unseen, case.scores, case.main
    asked: dict[str, Any] = {"places": case.places, "options": case.options}
    known: dict[str, Any] = {"places": case.places, "seed": case.options.seed}
    rows, stations = unseen.drop(columns=GIVEN), case.places.stations
    tables = [rows, *score_tables.baselines(unseen, main, background=case.background)]
    wins, wins_by_class = score_tables.contests(rows, places=case.places)
    ids = set(unseen["station_id"].astype("str"))
    used = stations[stations["station_id"].astype("str").isin(ids)]
    attempt, own = score_tables.attempt, scores[scores["model"] == main]
    return {
        "by_block": attempt(lambda: metrics.block_means(scores, case.places.required())),
        "errors": score_tables.relative_errors(rows, own, places=case.places),
        "strata": score_tables.strata(scores, rows, **asked),
        "comparison": attempt(lambda: score_tables.comparison(tables, main, **asked)),
        "wins": wins,
        "wins_by_class": wins_by_class,
        "anomaly": attempt(lambda: score_tables.anomaly(rows, **asked)),
        "rescaled": attempt(lambda: score_tables.rescaled(rows, **asked)),
        **score_tables.in_space(rows, **asked),
        "applicability": score_tables.distance(unseen, main, background=case.background, **known),
        "calibration": score_tables.calibration(rows, **known),
        "failures": score_tables.failures(scores, main, **asked),
        "literature": attempt(lambda: score_tables.literature(scores, main)),
        "triple": score_tables.triple(rows, main, background=case.background, options=case.options),
        "shared_pixels": row_module.shared_pixels(used, rows, background=case.background),
    }


__all__ = [
    "Applicability",
    "Background",
    "Calibration",
    "Claim",
    "Evaluation",
    "Failures",
    "Finding",
    "Fulfilment",
    "Grade",
    "NotAudited",
    "Options",
    "cautions",
    "checklist",
    "evaluate",
    "is_missing",
    "protocol",
    "sentence",
    "stage",
    "verdict",
]
