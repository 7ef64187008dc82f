"""One call from a predictions table to every table and sentence of its evaluation."""

from dataclasses import replace

import pandas as pd

from soilkit import metrics
from soilkit.constants import MIN_SAMPLES
from soilkit.metrics.evaluation import records, score_tables
from soilkit.metrics.evaluation.cautions import cautions as cautions
from soilkit.metrics.evaluation.cautions import checklist as checklist
from soilkit.metrics.evaluation.cautions import protocol as protocol
from soilkit.metrics.evaluation.cautions import stage as stage
from soilkit.metrics.evaluation.grades import sentence as sentence
from soilkit.metrics.evaluation.grades import verdict as verdict
from soilkit.metrics.evaluation.records import GIVEN, Case
from soilkit.metrics.evaluation.records import Background as Background
from soilkit.metrics.evaluation.records import Evaluation as Evaluation
from soilkit.metrics.evaluation.records import NotAudited as NotAudited
from soilkit.metrics.evaluation.records import is_missing as is_missing


def evaluate(
    predictions: pd.DataFrame,
    stations: pd.DataFrame | None = None,
    *,
    label: str,
    main: str | None = None,
    min_samples: int = MIN_SAMPLES,
    seed: int = 0,
    background: Background | None = None,
) -> Evaluation:
    """Everything of an evaluation report that is a table, from any predictions table.

    Rows of splits that train or leak, repeats and rows without a pair are counted and left out; the
    rest are scored per sensor, by stratum, against every other model and against climatology, as
    anomalies, rescaled, and as maps. What cannot be made has one row that says why. Raises
    ``ContractError`` when a table breaks its contract, or there is no row to score.

    Parameters
    ----------
    predictions : table of that contract, one or more models and splits; repeats are allowed
    stations : stations table; None, or stations unknown to it: networks stand for blocks
    label : name of the data, on every sentence; "synthetic" in it marks a made-up world
    main : the model to judge; the first that is no baseline where not named
    min_samples : a sensor with fewer pairs is not scored
    seed : of every resampling
    background : Background, what is known beside the table
    """
    background = background or Background()
    records.check_predictions(predictions)
    if background.samples is None:  # the predictions themselves know place, time and reading
        background = replace(background, samples=predictions)
    main = score_tables.main_model(predictions, main)
    stations = records.completed(stations, predictions)
    audits = records.audit_splits(predictions, stations, background=background)
    unseen, candidates, losses, handed_in = records.select_rows(
        predictions, main, audits=audits, min_samples=min_samples, notes=background.notes
    )
    scores = metrics.station_scores(
        candidates, min_samples=min_samples, metrics=score_tables.EXTRA_METRICS
    )
    case = Case(main, unseen, scores, stations, background, min_samples, seed)
    judged = unseen if len(unseen) else candidates
    splits = judged.loc[judged["model"].astype("str") == main, GIVEN].unique().tolist()
    table = records.audit_table(audits, predictions)
    return Evaluation(
        **vars(case),
        label=label,
        models=list(dict.fromkeys([main, *candidates["model"].astype("str")])),
        handed_in=handed_in,
        losses=losses,
        weakest=records.weakest([audits[name] for name in splits]),
        audits=audits,
        audit_table=table.assign(is_scored=table["split"].isin(splits)),
        overall=metrics.summarize(scores, stations, clusters=case.unit, seed=seed),
        **score_tables.parts(case),
    )
