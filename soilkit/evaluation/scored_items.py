"""The checklist's items about scores: metrics, intervals, strata, anomalies, other products."""

from typing import NamedTuple

import numpy as np

from soilkit.evaluation import facts
from soilkit.evaluation.records import OK, Evaluation, is_missing
from soilkit.metrics.stations import MIN_EFFECTIVE

DONE, PARTLY, NOT_DONE, NOT_APPLICABLE = "done", "partly", "not done", "not applicable"
YEARS = 2
SEASONS = 4


class Item(NamedTuple):
    """One requirement and how it was met."""

    part: str
    requirement: str
    status: str
    evidence: str


def told_of(evaluation: Evaluation, *names: str) -> str:
    """What the provider said under one of these names."""
    lines = {str(k).lower(): str(v) for k, v in evaluation.background.provenance.items()}
    return next((lines[name] for name in names if lines.get(name)), "")


def items(evaluation: Evaluation) -> list[Item]:
    """What the scores themselves show of the protocol's requirements."""
    makers = (
        _metrics, _intervals, _numbers, _strata, _seasons, _years, _anomalies, _rescaling,
        _space, _products, _triple, _uncertainty, _reference_error,
    )  # fmt: skip
    return [make(evaluation) for make in makers]


def _metrics(evaluation: Evaluation) -> Item:
    wanted = "Give bias, RMSE or ubRMSE, and correlation, per station before any mean."
    own = evaluation.main_scores
    n, r = int(own["rmse_m3_m3"].notna().sum()), int(own["r"].notna().sum())
    evidence = f"Of {len(own)} sensors {n} have bias, ubRMSE and RMSE, {r} have R; "
    evidence += f"the rest a status ({facts.statuses(evaluation)})."
    status = DONE if n and r >= len(own) / 2 else PARTLY if n else NOT_DONE
    return Item("metrics", wanted, status, evidence)


def _intervals(evaluation: Evaluation) -> Item:
    wanted = "Give confidence intervals that know about autocorrelation and neighbours."
    own = evaluation.main_scores
    scored = own[own["rmse_m3_m3"].notna()]
    n = int(scored["ubrmse_m3_m3_lower"].notna().sum())
    line = facts.main_of(evaluation, "ubrmse_m3_m3")
    whole = line is not None and bool(np.isfinite(line["mean_lower"]))
    evidence = f"{n} of {len(scored)} sensors have 95 % intervals from their effective size; "
    evidence += f"means: {line['status'] if line is not None else 'none'}."
    status = DONE if whole and n >= len(scored) / 2 else PARTLY if whole or n else NOT_DONE
    return Item("confidence intervals", wanted, status, evidence)


def _numbers(evaluation: Evaluation) -> Item:
    wanted = "Use enough samples, say how many, and leave out what has too few."
    own = evaluation.main_scores
    scored = own[own["rmse_m3_m3"].notna()]
    few = len(own) - len(scored)
    if not len(scored):
        words = f"None of {len(own)} sensors has {evaluation.options.min_samples} pairs."
        return Item("sample size", wanted, NOT_DONE, words)
    evidence = f"A sensor needs {evaluation.options.min_samples} pairs ({few} of {len(own)} have "
    evidence += f"fewer); the median one has {scored['n'].median():.0f}, worth "
    worth = scored["n_effective"].median()
    evidence += f"{worth:.0f} independent ones."
    status = DONE if worth >= MIN_EFFECTIVE else PARTLY
    return Item("sample size", wanted, status, evidence)


def _strata(evaluation: Evaluation) -> Item:
    wanted = "Stratify by land cover, soil, climate and network."
    known = [b for b, t in evaluation.strata.items() if b != "season" and not is_missing(t)]
    lacking = [b for b, t in evaluation.strata.items() if b != "season" and is_missing(t)]
    evidence = f"By {', '.join(known) or 'nothing'}; {facts.n_judged_classes(evaluation)} of "
    evidence += f"{facts.n_classes(evaluation)} classes have an interval."
    evidence += f" Not known: {', '.join(lacking)}." if lacking else ""
    share = facts.judged_share(evaluation)
    evidence += f" {share:.0%} of the stations stand in a class that can be judged."
    full = known and not lacking and share >= 0.5
    status = DONE if full else PARTLY if known else NOT_DONE
    return Item("stratification", wanted, status, evidence)


def _seasons(evaluation: Evaluation) -> Item:
    wanted = "Show the seasons apart."
    table, absent = evaluation.strata["season"], facts.months_absent(evaluation)
    if is_missing(table):
        return Item("seasons", wanted, NOT_DONE, f"{table['status'].iloc[0]}.")
    own = table[(table["model"] == evaluation.main) & (table["metric"] == "rmse_m3_m3")]
    n = int((own["n_sensors"] > 0).sum())
    evidence = f"{n} seasons are scored" + (
        f"; no sample in {', '.join(absent)}." if absent else "."
    )
    return Item("seasons", wanted, DONE if n >= SEASONS else PARTLY if n else NOT_DONE, evidence)


def _years(evaluation: Evaluation) -> Item:
    wanted = "Cover several years, so that one wet or dry one does not decide."
    years = facts.span_days(evaluation) / 365.25
    status = DONE if years >= YEARS else PARTLY if years >= 1 else NOT_DONE
    return Item("period", wanted, status, f"The samples span {years:.1f} years.")


def _changed(table, evaluation: Evaluation):
    """States that scored the main model, and why others did not."""
    if is_missing(table):
        return [], [str(table["status"].iloc[0])]
    good = table[(table["model"] == evaluation.main) & (table["n_sensors"] > 0)]
    states = good["state"].dropna().unique().tolist()
    rest = table[~table["state"].isin(states)]
    return states, [f"{row.state}: {row.status}" for row in rest.itertuples()]


def _anomalies(evaluation: Evaluation) -> Item:
    wanted = "Score short-term and climatological anomalies beside the values."
    states, why = _changed(evaluation.anomaly, evaluation)
    evidence = f"Scored: {'; '.join(states) or 'none'}."
    evidence += f" Not: {'; '.join(why)}." if why else ""
    status = DONE if states and not why else PARTLY if states else NOT_DONE
    return Item("anomalies", wanted, status, evidence)


def _rescaling(evaluation: Evaluation) -> Item:
    wanted = "Say whether values were rescaled, how, and on which data it was fitted."
    states, why = _changed(evaluation.rescaled, evaluation)
    evidence = "Scores are of raw values unless they name a state"
    evidence += f"; beside them {'; '.join(states)}." if states else "; none was rescaled."
    evidence += f" Not: {'; '.join(why)}." if why else ""
    told = told_of(evaluation, "rescaling", "values")
    evidence += f" Told: {told}." if told else " Whether they came rescaled was not told."
    return Item("rescaling", wanted, DONE if told else PARTLY, evidence)


def _space(evaluation: Evaluation) -> Item:
    wanted = "Judge the spatial pattern beside the temporal one."
    row = facts.row_of(evaluation.spatial_mean, model=evaluation.main, part="all")
    if row is None or np.isnan(row["r"]):
        table = evaluation.spatial_mean
        why = table["status"].iloc[0] if row is None else row["status"]
        return Item("spatial pattern", wanted, NOT_DONE, f"{why}.")
    evidence = (
        f"R across stations {facts.with_interval(row['r'], (row['lower'], row['upper']))}, mean "
    )
    evidence += f"of {row['n_dates']} dates, static and dynamic parts apart."
    status = DONE if np.isfinite(row["lower"]) else PARTLY
    return Item("spatial pattern", wanted, status, evidence)


def _products(evaluation: Evaluation) -> Item:
    wanted = "Stand beside other products and a climatology."
    table = evaluation.comparison
    if is_missing(table):
        return Item("other products", wanted, NOT_DONE, f"{table['status'].iloc[0]}.")
    scored = table[table["lower"].notna()]
    roles = set(scored["role"])
    named = ", ".join(f"{row.model_b} ({row.role})" for row in
                      scored.drop_duplicates("model_b").itertuples())  # fmt: skip
    if not named:
        words = f"No difference has an interval: {table['status'].iloc[0]}."
        return Item("other products", wanted, NOT_DONE, words)
    has = bool(roles & {"smap", "gldas"}), bool(roles & {"climatology", "oracle"})
    status = DONE if all(has) else PARTLY
    return Item("other products", wanted, status, f"Compared with {named}, p-values by Holm.")


def _triple(evaluation: Evaluation) -> Item:
    wanted = "Estimate errors against the unknown truth by triple collocation, if independent."
    table = evaluation.triple
    if is_missing(table):
        why = str(table["status"].iloc[0])
        status = NOT_APPLICABLE if "independent errors" in why else NOT_DONE
        return Item("triple collocation", wanted, status, f"{why.rstrip('.')}.")
    n, good = table["sensor_id"].nunique(), table[table["status"] == OK]["sensor_id"].nunique()
    status = DONE if good >= n / 2 else PARTLY if good else NOT_DONE
    return Item("triple collocation", wanted, status, f"{good} of {n} sensors have an estimate.")


def _uncertainty(evaluation: Evaluation) -> Item:
    wanted = "Check the uncertainties that the product states."
    found = evaluation.calibration
    if found.status != OK:
        return Item("stated uncertainty", wanted, NOT_APPLICABLE, f"{found.status}.")
    row = facts.row_of(found.reliability, model=evaluation.main, kind="interval", nominal=0.9)
    if row is None or np.isnan(row["observed"]):
        return Item("stated uncertainty", wanted, NOT_DONE, "No sensor of it has enough rows.")
    ends = facts.with_interval(row["observed"], (row["lower"], row["upper"]))
    return Item("stated uncertainty", wanted, DONE, f"90 % intervals hold {ends} of the readings.")


def _reference_error(evaluation: Evaluation) -> Item:
    wanted = "Account for the reference's own errors."
    table = evaluation.triple
    if not is_missing(table) and (table["status"] == OK).any():
        n, good = table["sensor_id"].nunique(), table[table["status"] == OK]["sensor_id"].nunique()
        words = f"Triple collocation gives the probes' error at {good} of {n} sensors."
        return Item("reference error", wanted, DONE if good >= n / 2 else PARTLY, words)
    evidence = (
        "Probes count as truth: their error and misfit to the footprint stand in every score."
    )
    return Item("reference error", wanted, NOT_DONE, evidence)
