"""The good-practice protocol of CEOS LPV as a checklist that an evaluation fills from its facts.

Requirements are ours in wording, after Montzka et al. (2020), "Soil Moisture Product Validation
Good Practices Protocol", doi:10.5067/doc/ceoswgcv/lpv/sm.001, and Gruber et al. (2020),
doi:10.1016/j.rse.2020.111806.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from soilkit.evaluation import facts, scored_items
from soilkit.evaluation.auditing import is_leaky
from soilkit.evaluation.records import NOT_AUDITABLE, Evaluation, is_missing
from soilkit.evaluation.scored_items import DONE, NOT_APPLICABLE, NOT_DONE, PARTLY, Item, told_of

SURFACE_M = 0.055
FEW_SITES = 30  # "a small set" of locations in the definition of stage 1
STAGES = {
    0: "no accuracy assessed against independent reference data",
    1: "accuracy assessed at a small set of places and times, typically fewer than 30",
    2: "accuracy assessed at a significant set of places and times, typically more than 30",
}


class Stage(NamedTuple):
    """The validation stage that the figures correspond to, and why not another."""

    number: int
    why: str


def checklist(evaluation: Evaluation) -> pd.DataFrame:
    """Each requirement of the protocol, whether this evaluation meets it, and by which figures.

    What only the provider knows (flags, upscaling, collocation) counts as done where
    ``background.provenance`` tells it under that name.

    Returns
    -------
    DataFrame: ``part, requirement, status`` ("done", "partly", "not done", "not applicable"),
    ``evidence``; the last row is the CEOS validation stage

    References
    ----------
    .. [1] Montzka et al. (2020), doi:10.5067/doc/ceoswgcv/lpv/sm.001
    .. [2] Gruber et al. (2020), doi:10.1016/j.rse.2020.111806
    """
    made = [
        _flags(evaluation),
        _networks(evaluation),
        _representativeness(evaluation),
        _independence(evaluation),
        _in_space(evaluation),
        _in_time(evaluation),
        _depth(evaluation),
        _same_samples(evaluation),
        *scored_items.items(evaluation),
        _reporting(evaluation),
        _stage_item(evaluation),
    ]
    return pd.DataFrame(made, columns=list(Item._fields))


def stage(evaluation: Evaluation) -> Stage:
    """The CEOS LPV validation stage that this evaluation alone would correspond to.

    Stages 3 and 4 also want errors characterised over places that stand for the globe, and that
    repeated with every version and as the record grows; no single evaluation shows either.
    """
    n, days = facts.sizes(evaluation), facts.span_days(evaluation)
    absent = facts.months_absent(evaluation)
    places = f"{n['stations']} stations in {n['blocks']} blocks, {n['networks']} networks"
    climates = evaluation.strata.get("koeppen")
    if climates is not None and not is_missing(climates):
        places += f", {climates['koeppen'].nunique()} climates"
    words = f"{places}, {days / 365.25:.1f} years"
    if evaluation.is_synthetic:
        return Stage(0, f"the reference is a made-up world ({words})")
    if not n["samples"] or is_leaky(evaluation.claim):
        why = "no sample is scored" if not n["samples"] else f"the split is {evaluation.claim}"
        return Stage(0, f"{why} ({words})")
    if n["stations"] < FEW_SITES or n["blocks"] < FEW_SITES or days < 365 or absent:
        lacking = f", nothing in {', '.join(absent)}" if absent else ""
        why = f"{words}{lacking}; stage 2 wants {FEW_SITES} places and more that are not "
        return Stage(1, why + "neighbours, over all seasons")
    why = f"{words}; stage 2 in full also wants its consistency with other products published, and "
    return Stage(2, why + "stage 3 errors characterised over places that stand for the globe")


def _stage_item(evaluation: Evaluation) -> Item:
    found = stage(evaluation)
    evidence = f"Corresponds to stage {found.number} ({STAGES[found.number]}): {found.why}."
    if evaluation.claim == NOT_AUDITABLE and found.number:
        evidence += " This presumes that the stations did not train, which nobody said."
    status = (NOT_DONE, PARTLY, DONE)[found.number]
    return Item("stage", "State the CEOS validation stage and what it rests on.", status, evidence)


def _flags(evaluation: Evaluation) -> Item:
    wanted = "Use the reference's quality flags, and say which readings they let through."
    told = told_of(evaluation, "flags", "quality flags")
    evidence = f"Told: {told}." if told else "Nobody said which quality flags the readings passed."
    return Item("reference quality", wanted, DONE if told else NOT_DONE, evidence)


def _networks(evaluation: Evaluation) -> Item:
    n = facts.sizes(evaluation)
    names = sorted(facts.pairs_of_main(evaluation)["network"].astype("str").unique())
    known = [name for name in names if name.strip() and name.lower() not in ("unknown", "nan")]
    status = DONE if known and len(known) == len(names) else PARTLY if known else NOT_DONE
    shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
    evidence = f"{n['stations']} stations of {len(known)} named networks: {shown or 'none'}."
    return Item("reference documented", "Name the reference networks.", status, evidence)


def _representativeness(evaluation: Evaluation) -> Item:
    wanted = "Make the reference stand for the footprint: upscale, select, or bound the misfit."
    told = told_of(evaluation, "upscaling", "representativeness")
    n = facts.sizes(evaluation)
    if told:
        return Item("representativeness", wanted, DONE, f"Told: {told}.")
    table = evaluation.shared_pixels
    if len(table):
        row = table.sort_values("n_sharing").iloc[-1]
        evidence = f"{row['n_sharing']} {row['network']} stations share pixels of {row['pixel']}, "
        evidence += f"but each of the {n['sensors']} probes is scored for itself, as a point."
        return Item("representativeness", wanted, PARTLY, evidence)
    evidence = (
        f"Each of the {n['sensors']} probes is taken for its footprint; scores hold the misfit."
    )
    return Item("representativeness", wanted, NOT_DONE, evidence)


def _independence(evaluation: Evaluation) -> Item:
    wanted = "Keep the reference apart from what the product was trained or tuned on."
    rows = evaluation.audit_table[evaluation.audit_table["is_scored"]]
    made = f"{int(rows['auditable'].sum())} of {len(rows)} scored splits could be audited"
    evidence = f"{made}; what they allow: {evaluation.claim}."
    if evaluation.claim == NOT_AUDITABLE:
        return Item("independence", wanted, NOT_DONE, evidence)
    shared = evaluation.claim.startswith("unseen stations") or facts.validation_share(evaluation)
    if facts.validation_share(evaluation):
        evidence += " Some samples are validation, which may have chosen the model."
    status = NOT_DONE if not evaluation.is_unseen else PARTLY if shared else DONE
    return Item("independence", wanted, status, evidence)


def _in_space(evaluation: Evaluation) -> Item:
    wanted = "Say how a station found its pixel, and what grid that is."
    told, n = told_of(evaluation, "spatial collocation", "grid", "pixel"), facts.sizes(evaluation)
    evidence = f"{n['located']} of {n['stations']} stations have a place; "
    evidence += f"told: {told}." if told else "the pixel that a prediction is of was not told."
    status = (
        DONE if told and n["located"] == n["stations"] else PARTLY if n["located"] else NOT_DONE
    )
    return Item("spatial collocation", wanted, status, evidence)


def _in_time(evaluation: Evaluation) -> Item:
    wanted = "Pair product and reference within a stated time window."
    told = told_of(evaluation, "temporal collocation", "bounds", "join")
    samples = evaluation.background.samples
    ages = [] if samples is None else [c for c in samples if str(c).endswith("_age_hours")]
    if told:
        return Item("temporal collocation", wanted, DONE, f"Told: {told}.")
    if samples is not None and ages:
        longest = {c.removesuffix("_age_hours"): samples[c].max() for c in ages}
        words = ", ".join(f"{k} {v:.3g} h" for k, v in longest.items() if np.isfinite(v))
        return Item("temporal collocation", wanted, DONE, f"Oldest scene used: {words}.")
    evidence = "Every pair has one time stamp; how far apart its halves were was not told."
    return Item("temporal collocation", wanted, PARTLY, evidence)


def _depth(evaluation: Evaluation) -> Item:
    wanted = "Compare like depths, and say where probe and sensing depth differ."
    ends = facts.used_stations(evaluation)["depth_to_m"].astype(float)
    n, known = len(ends), int(ends.notna().sum())
    if not known:
        return Item("depth", wanted, NOT_DONE, f"No depth is known of any of {n} sensors.")
    shallow = int((ends <= SURFACE_M).sum())
    evidence = f"Depths: {facts.depths(evaluation)}; {shallow} of {n} sensors end within 5 cm."
    told = told_of(evaluation, "sensing depth", "depth")
    evidence += f" Told: {told}." if told else " The depth that the product senses was not told."
    status = DONE if shallow == n and told else PARTLY
    return Item("depth", wanted, status, evidence)


def _same_samples(evaluation: Evaluation) -> Item:
    wanted = "Compare products on the same samples, pair by pair."
    table = evaluation.comparison
    if is_missing(table):
        one = len(evaluation.models) == 1
        words = f"{table['status'].iloc[0]}."
        return Item("common samples", wanted, NOT_APPLICABLE if one else NOT_DONE, words)
    n = table.groupby(table["model_b"].astype("str"), sort=False)["n_samples"].max()
    evidence = f"{n.min():,} to {n.max():,} samples in common with {', '.join(n.index)}."
    status = DONE if n.min() else PARTLY if n.max() else NOT_DONE
    return Item("common samples", wanted, status, evidence)


def _reporting(evaluation: Evaluation) -> Item:
    wanted = "Report versions, settings and every sample lost, so that others can repeat it."
    lost = int(evaluation.losses["n_rows"].sum())
    told = told_of(evaluation, "versions", "version", "product version")
    evidence = (
        f"{evaluation.handed_in:,} rows in, {len(evaluation.unseen):,} scored, {lost:,} lost, "
    )
    evidence += f"each with its reason; seed {evaluation.options.seed}; "
    evidence += f"versions: {told}." if told else "the product's version was not told."
    return Item("reporting", wanted, DONE if told else PARTLY, evidence)
