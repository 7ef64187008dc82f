"""One call from a predictions table to every table and sentence of its evaluation."""

from dataclasses import replace

import pandas as pd

from soilkit import metrics
from soilkit.metrics.evaluation import records, score_tables
from soilkit.metrics.evaluation.cautions import cautions, checklist, protocol, stage
from soilkit.metrics.evaluation.grades import sentence, verdict
from soilkit.metrics.evaluation.records import (
    GIVEN,
    NOT_AUDITABLE,
    Applicability,
    Background,
    Calibration,
    Evaluation,
    Failures,
    NotAudited,
    Options,
    check_predictions,
    completed,
    is_missing,
    missing,
    sift,
)


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
    check_predictions(predictions)
    if background.samples is None:  # the predictions themselves know place, time and reading
        background = replace(background, samples=predictions)
    main = score_tables.main_model(predictions, main, options=options)
    every = completed(stations, predictions)
    audits = records.audit_splits(predictions, every, background=background)
    leaky = {name for name, audit in audits.items() if records.is_leaky(audit.claim())}
    clean = {name for name, audit in audits.items() if not isinstance(audit, NotAudited)} - leaky
    sifted = sift(
        predictions, main, leaky=leaky, options=options, notes=background.notes, clean=clean
    )
    places = score_tables.Places.of(every, sifted.candidates)
    splits_scored = _splits_of(main, sifted.unseen if len(sifted.unseen) else sifted.candidates)
    table = records.audit_table(audits, predictions)
    models = list(dict.fromkeys([main, *sifted.candidates["model"].astype("str")]))
    scores = metrics.station_scores(
        sifted.candidates, min_samples=options.min_samples, metrics=options.metrics
    )
    facts = {
        "label": label, "main": main, "models": models, "options": options,
        "background": background, "stations": every, "handed_in": sifted.handed_in,
        "unseen": sifted.unseen, "losses": sifted.losses, "audits": audits, "scores": scores,
        "claim": records.weakest([audits[name].claim() for name in splits_scored]),
        "audit_table": table.assign(is_scored=table["split"].isin(splits_scored)),
    }  # fmt: skip
    has_rows = (sifted.unseen["model"].astype("str") == main).any()
    return Evaluation(**facts, **(_parts if has_rows else _no_parts)(facts, places))


def _splits_of(main: str, rows: pd.DataFrame) -> list[str]:
    return rows.loc[rows["model"].astype("str") == main, GIVEN].unique().tolist()


def _no_parts(facts: dict, places: score_tables.Places) -> dict:
    """The parts of an evaluation whose main model has not one row to score."""
    words = f"no sample of {facts['main']} is scored: {facts['scores']['status'].iloc[0]}"
    why = missing(words)
    how = {"clusters": places.unit, "seed": facts["options"].seed}
    by = (*facts["options"].by, "season")
    parts = ("by_block", "errors", "comparison", "wins", "wins_by_class", "anomaly", "rescaled",
             "spatial", "spatial_mean", "spatial_parts", "literature", "triple")  # fmt: skip
    return {
        **dict.fromkeys(parts, why),
        "overall": metrics.summarize(facts["scores"], places.stations, **how),
        "strata": dict.fromkeys(by, why),
        "applicability": Applicability(words),
        "calibration": Calibration(words),
        "failures": Failures(words, why, why, None, words),
        "shared_pixels": pd.DataFrame(columns=list(records.SHARED)),
    }


def _parts(facts: dict, places: score_tables.Places) -> dict:
    """Whatever is made of the scored rows."""
    options, background, main = facts["options"], facts["background"], facts["main"]
    unseen, scores = facts["unseen"], facts["scores"]
    how = {"places": places, "options": options}
    rows = unseen.drop(columns=GIVEN)
    tables = [rows, *score_tables.baselines(unseen, main, background=background)]
    wins, wins_by_class = score_tables.contests(rows, places=places)
    used = places.stations["station_id"].astype("str").isin(set(unseen["station_id"].astype("str")))
    summary = {"clusters": places.unit, "seed": options.seed}
    try_ = score_tables.attempt
    return {
        "overall": metrics.summarize(scores, places.stations, **summary),
        "by_block": try_(lambda: metrics.block_means(scores, places.required())),
        "errors": score_tables.relative_errors(
            rows, scores[scores["model"] == main], places=places
        ),
        "strata": score_tables.strata(scores, rows, **how),
        "comparison": try_(lambda: score_tables.comparison(tables, main, **how)),
        "wins": wins,
        "wins_by_class": wins_by_class,
        "anomaly": try_(lambda: score_tables.anomaly(rows, **how)),
        "rescaled": try_(lambda: score_tables.rescaled(rows, **how)),
        **score_tables.in_space(rows, places=places, options=options),
        "applicability": score_tables.distance(
            unseen, main, background=background, places=places, seed=options.seed
        ),
        "calibration": score_tables.calibration(rows, places=places, seed=options.seed),
        "failures": score_tables.failures(scores, main, **how),
        "literature": try_(lambda: score_tables.literature(scores, main)),
        "triple": try_(
            lambda: score_tables.triple(rows, main, background=background, options=options)
        ),
        "shared_pixels": records.shared_pixels(places.stations[used], rows, background=background),
    }


__all__ = [
    "NOT_AUDITABLE",
    "Applicability",
    "Background",
    "Calibration",
    "Evaluation",
    "Failures",
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
