"""What not to conclude, the CEOS checklist, and the protocol box."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from soilkit import __version__
from soilkit.metrics.evaluation import grades
from soilkit.metrics.evaluation.records import (
    NOT_AUDITABLE,
    OK,
    ONE_SERIES,
    Evaluation,
    is_leaky,
    is_missing,
)
from soilkit.metrics.intervals import MIN_CLUSTERS
from soilkit.metrics.scores import MIN_EFFECTIVE
from soilkit.strata import MIN_STATIONS

YEAR_DAYS = 365.0
DOMINATES = 0.8
REQUIREMENT_M3_M3 = 0.04  # SMAP's, for a footprint of 36 km and later 9 km
FAMILY = 20


def cautions(evaluation: Evaluation) -> list[str]:
    """What these scores do not say, the gravest first.

    Returns
    -------
    list of sentences, each with the figures that brought it up
    """
    parts = (_data, _split, _pixels, _time, _places, _classes, _memory, _space, _many, _spread)
    return [sentence for part in parts for sentence in part(evaluation)]


def _data(evaluation: Evaluation) -> Iterator[str]:
    if evaluation.is_synthetic:
        yield (
            f"Nothing about the real Earth: the data ({evaluation.label}) are synthetic, made by "
            "equations that a model may find easier, or harder, than soil."
        )
    if not len(grades.pairs_of_main(evaluation)):
        yield f"Nothing at all: no sample of {evaluation.main} could be scored."
    rows = grades.pairs_of_main(evaluation)
    for word, column in (("predictions", "predicted_m3_m3"), ("observations", "observed_m3_m3")):
        outside = int((~rows[column].between(0, 1)).sum())
        if not outside:
            continue
        found = f"{outside:,} of {len(rows):,} lie outside 0 to 1 m3 m-3"
        middle = rows[column].median()
        if 0 <= middle <= 1:
            yield f"Not that all {word} are possible volumes of water: {found}."
        else:
            yield (
                f"Not that the {word} are volumes of water: {found} (the median is {middle:.3g}); "
                "are their units right?"
            )


def _split(evaluation: Evaluation) -> Iterator[str]:
    table = evaluation.audit_table
    if is_leaky(evaluation.claim):
        yield (
            f"Not that these scores hold anywhere else: they are {evaluation.claim}, so they "
            "measure memory."
        )
    elif not evaluation.is_unseen:
        yield f"Not that any station was unseen: {evaluation.claim}."
    chosen = grades.validation_share(evaluation)
    if chosen:
        yield (
            f"Not that all samples were untouched: {chosen:.0%} of them are validation, which may "
            "have chosen the model or its settings."
        )
    for row in table[~table["is_scored"]].itertuples():
        if is_leaky(row.claim):
            found = f" ({row.failed})" if row.failed else ""
            yield (
                f"Not that scores of the split {row.split!r} mean anything: {row.claim}{found}; "
                f"its {row.n_rows:,} rows are left out."
            )


def _pixels(evaluation: Evaluation) -> Iterator[str]:
    table = evaluation.shared_pixels
    for network, rows in table.groupby("network", sort=False):
        row = rows.iloc[np.argmax(rows["pixel"].str.contains(ONE_SERIES, regex=False))]
        if row["n_sharing"] < MIN_STATIONS:
            continue
        others = [
            f"{r.n_pixels} of {r.pixel}" for r in rows.itertuples() if r.pixel != row["pixel"]
        ]
        also = f" (and in {', '.join(others)})" if others else ""
        yield (
            f"Not that {network}'s {row['n_stations']} stations are as many witnesses: they stand "
            f"in {row['n_pixels']} pixels of {row['pixel']}{also}, {row['n_sharing']} of them in "
            "one with another, so a coarse product gives these the same series."
        )


def _time(evaluation: Evaluation) -> Iterator[str]:
    days, absent = grades.span_days(evaluation), grades.months_absent(evaluation)
    if days and days < YEAR_DAYS:
        yield (
            f"Nothing about other years: the samples span {days:.0f} days, less than one year, and "
            "R may be one season's drying."
        )
    if absent:
        yield f"Nothing about {', '.join(absent)}: no sample falls into those months."


def _places(evaluation: Evaluation) -> Iterator[str]:
    n = grades.sizes(evaluation)
    if n["stations"] == 1:
        yield "Nothing about a map: one station is scored, and a series is no pattern."
    elif 0 < n["blocks"] < MIN_CLUSTERS:
        yield (
            f"No interval for the whole: {n['stations']} stations stand in {n['blocks']} blocks of "
            f"2 degrees, and fewer than {MIN_CLUSTERS} cannot be drawn anew."
        )
    if n["located"] < n["stations"]:
        lost = n["stations"] - n["located"]
        yield (
            f"Not that intervals know of neighbours: {lost} of {n['stations']} stations have no "
            "place, so networks are drawn instead of blocks."
        )
    line = grades.main_of(evaluation, "ubrmse_m3_m3")
    if line is not None and np.isfinite(line["mean"]):
        above = int((evaluation.main_scores["ubrmse_m3_m3"] > REQUIREMENT_M3_M3).sum())
        n_sensors = line["n_sensors"]
        words = f"all {n_sensors} sensors pass because their ubRMSE is within"
        if above:
            words = f"{above} of {n_sensors} sensors fail because their ubRMSE exceeds"
        others = ", nor that the others pass" if 0 < above < n_sensors else ""
        yield (
            f"Not that {words} SMAP's {REQUIREMENT_M3_M3} m3 m-3{others}: that requirement is a "
            "footprint's, against many probes, and a single probe adds its own misfit."
        )


def _classes(evaluation: Evaluation) -> Iterator[str]:
    small = grades.small_classes(evaluation)
    if small:
        names = ", ".join(small[:6]) + (f" and {len(small) - 6} more" if len(small) > 6 else "")
        yield (
            f"Nothing about {names}: fewer than {MIN_STATIONS} stations are anecdotes "
            f"({len(small)} of {grades.n_classes(evaluation)} classes)."
        )
    for by, name, network, share, n in dominated(evaluation):
        yield (
            f"Not that {name} ({by}) is what makes the difference: {share:.0%} of its {n} stations "
            f"are {network}'s, with its own probes, depth and terrain."
        )


def dominated(evaluation: Evaluation) -> list[tuple[str, str, str, float, int]]:
    """Classes that one network makes up to four fifths and more, where there are others.

    Returns
    -------
    (characteristic, class, network, share of the class's stations, stations) each
    """
    used = grades.used_stations(evaluation).drop_duplicates("station_id")
    found: list[tuple[str, str, str, float, int]] = []
    if used["network"].nunique() < 2:
        return found
    for by in (name for name in evaluation.options.by if name != "network" and name in used):
        known = used[used[by].astype("str").str.strip() != ""]
        for name, part in known.groupby(known[by].astype("str")):
            shares = part["network"].astype("str").value_counts(normalize=True)
            if len(part) >= MIN_STATIONS and shares.iloc[0] >= DOMINATES:
                found.append((by, str(name), str(shares.index[0]), shares.iloc[0], len(part)))
    return found


def _memory(evaluation: Evaluation) -> Iterator[str]:
    own = evaluation.main_scores
    scored = own[own["rmse_m3_m3"].notna()]
    few = scored["n_effective"] < MIN_EFFECTIVE
    if few.any():
        yield (
            f"Nothing from a single score of {int(few.sum())} of {len(scored)} sensors: they have "
            f"fewer than {MIN_EFFECTIVE:g} independent samples' worth, so no interval exists."
        )
    flat = own["status"].astype("str").str.startswith("constant")
    if flat.any():
        yield (
            f"Nothing about R at {int(flat.sum())} of {len(own)} sensors: a series there is "
            "constant, and they are missing from its mean."
        )


def _space(evaluation: Evaluation) -> Iterator[str]:
    parts = {
        part: grades.row_of(evaluation.spatial_mean, model=evaluation.main, part=part)
        for part in ("static", "dynamic")
    }
    static, dynamic = parts["static"], parts["dynamic"]
    if static is None or dynamic is None:
        return
    if static["lower"] > 0 and not dynamic["lower"] > 0:
        yield (
            "Not that the map moves rightly: its skill in space is that of places' means, R "
            f"{grades.with_interval(static['r'], (static['lower'], static['upper']))}, which a "
            "map of soils has too; of departures from them R is "
            f"{grades.with_interval(dynamic['r'], (dynamic['lower'], dynamic['upper']))}."
        )
    if dynamic["lower"] > 0 and static["lower"] <= 0:
        yield (
            "Not that it tells wet places from dry ones: its skill in space is that of departures, "
            f"R {grades.with_interval(dynamic['r'], (dynamic['lower'], dynamic['upper']))}; of "
            "places' means R is "
            f"{grades.with_interval(static['r'], (static['lower'], static['upper']))}."
        )


def _many(evaluation: Evaluation) -> Iterator[str]:
    n = grades.n_judged_classes(evaluation)
    if n >= FAMILY / 2:
        yield (
            f"Not that one class is different because one of {n} intervals says so: of "
            f"{FAMILY} at 95 %, one misses by chance; only the comparisons of models are adjusted."
        )
    if not is_missing(evaluation.comparison):
        table = evaluation.comparison
        taken = (table["p_value"] < 0.05) & (table["p_adjusted"] >= 0.05)
        if taken.any():
            yield (
                f"Not that {int(taken.sum())} of {len(table)} paired differences are real because "
                "their own interval leaves zero out: Holm's correction for so many takes them back."
            )
    rows = evaluation.literature
    if not is_missing(rows) and (rows["status"] == OK).any():
        works = rows.loc[rows["status"] == OK, "network"].nunique()
        yield (
            f"Not that it beats, or loses to, the literature at {works} networks: other samples, "
            "years and splits, not paired."
        )


def _spread(evaluation: Evaluation) -> Iterator[str]:
    found = evaluation.calibration
    if found.status == OK:
        row = grades.row_of(found.reliability, model=evaluation.main, kind="interval", nominal=0.9)
        if row is not None and np.isfinite(row["lower"]) and not row["is_consistent"]:
            ends = grades.with_interval(row["observed"], (row["lower"], row["upper"]))
            yield (
                f"Not that its stated uncertainty can be used as it is: 90 % intervals hold {ends} "
                "of the readings."
            )
    distance = evaluation.applicability
    if distance.status == OK and distance.share_inside[0] < 1:
        lacking = distance.measured["dissimilarity_index"].isna()
        outside = (distance.measured["status"] != "inside") & ~lacking
        tail = f", and {int(lacking.sum()):,} lack an input" if lacking.any() else ""
        yield (
            f"Nothing of the mean score about inputs unlike training: {int(outside.sum()):,} of "
            f"{len(outside):,} predictions lie outside the area of applicability{tail}."
        )


# The checklist's items about scores: metrics, intervals, strata, anomalies, other products.

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
        _space_scored_items, _products, _triple, _uncertainty, _reference_error,
    )  # fmt: skip
    return [make(evaluation) for make in makers]


def _metrics(evaluation: Evaluation) -> Item:
    wanted = "Give bias, RMSE or ubRMSE, and correlation, per station before any mean."
    own = evaluation.main_scores
    n, r = int(own["rmse_m3_m3"].notna().sum()), int(own["r"].notna().sum())
    evidence = f"Of {len(own)} sensors {n} have bias, ubRMSE and RMSE, {r} have R; "
    evidence += f"the rest a status ({grades.statuses(evaluation)})."
    status = DONE if n and r >= len(own) / 2 else PARTLY if n else NOT_DONE
    return Item("metrics", wanted, status, evidence)


def _intervals(evaluation: Evaluation) -> Item:
    wanted = "Give confidence intervals that know about autocorrelation and neighbours."
    own = evaluation.main_scores
    scored = own[own["rmse_m3_m3"].notna()]
    n = int(scored["ubrmse_m3_m3_lower"].notna().sum())
    line = grades.main_of(evaluation, "ubrmse_m3_m3")
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
    evidence = f"By {', '.join(known) or 'nothing'}; {grades.n_judged_classes(evaluation)} of "
    evidence += f"{grades.n_classes(evaluation)} classes have an interval."
    evidence += f" Not known: {', '.join(lacking)}." if lacking else ""
    share = grades.judged_share(evaluation)
    evidence += f" {share:.0%} of the stations stand in a class that can be judged."
    full = known and not lacking and share >= 0.5
    status = DONE if full else PARTLY if known else NOT_DONE
    return Item("stratification", wanted, status, evidence)


def _seasons(evaluation: Evaluation) -> Item:
    wanted = "Show the seasons apart."
    table, absent = evaluation.strata["season"], grades.months_absent(evaluation)
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
    years = grades.span_days(evaluation) / 365.25
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


def _space_scored_items(evaluation: Evaluation) -> Item:
    wanted = "Judge the spatial pattern beside the temporal one."
    row = grades.row_of(evaluation.spatial_mean, model=evaluation.main, part="all")
    if row is None or np.isnan(row["r"]):
        table = evaluation.spatial_mean
        why = table["status"].iloc[0] if row is None else row["status"]
        return Item("spatial pattern", wanted, NOT_DONE, f"{why}.")
    evidence = (
        f"R across stations {grades.with_interval(row['r'], (row['lower'], row['upper']))}, mean "
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
    row = grades.row_of(found.reliability, model=evaluation.main, kind="interval", nominal=0.9)
    if row is None or np.isnan(row["observed"]):
        return Item("stated uncertainty", wanted, NOT_DONE, "No sensor of it has enough rows.")
    ends = grades.with_interval(row["observed"], (row["lower"], row["upper"]))
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


# The good-practice protocol of CEOS LPV as a checklist that an evaluation fills from its facts.

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
        *items(evaluation),
        _reporting(evaluation),
        _stage_item(evaluation),
    ]
    return pd.DataFrame(made, columns=list(Item._fields))


def stage(evaluation: Evaluation) -> Stage:
    """The CEOS LPV validation stage that this evaluation alone would correspond to.

    Stages 3 and 4 also want errors characterised over places that stand for the globe, and that
    repeated with every version and as the record grows; no single evaluation shows either.
    """
    n, days = grades.sizes(evaluation), grades.span_days(evaluation)
    absent = grades.months_absent(evaluation)
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
    n = grades.sizes(evaluation)
    names = sorted(grades.pairs_of_main(evaluation)["network"].astype("str").unique())
    known = [name for name in names if name.strip() and name.lower() not in ("unknown", "nan")]
    status = DONE if known and len(known) == len(names) else PARTLY if known else NOT_DONE
    shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
    evidence = f"{n['stations']} stations of {len(known)} named networks: {shown or 'none'}."
    return Item("reference documented", "Name the reference networks.", status, evidence)


def _representativeness(evaluation: Evaluation) -> Item:
    wanted = "Make the reference stand for the footprint: upscale, select, or bound the misfit."
    told = told_of(evaluation, "upscaling", "representativeness")
    n = grades.sizes(evaluation)
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
    shared = evaluation.claim.startswith("unseen stations") or grades.validation_share(evaluation)
    if grades.validation_share(evaluation):
        evidence += " Some samples are validation, which may have chosen the model."
    status = NOT_DONE if not evaluation.is_unseen else PARTLY if shared else DONE
    return Item("independence", wanted, status, evidence)


def _in_space(evaluation: Evaluation) -> Item:
    wanted = "Say how a station found its pixel, and what grid that is."
    told, n = told_of(evaluation, "spatial collocation", "grid", "pixel"), grades.sizes(evaluation)
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
    ends = grades.used_stations(evaluation)["depth_to_m"].astype(float)
    n, known = len(ends), int(ends.notna().sum())
    if not known:
        return Item("depth", wanted, NOT_DONE, f"No depth is known of any of {n} sensors.")
    shallow = int((ends <= SURFACE_M).sum())
    evidence = f"Depths: {grades.depths(evaluation)}; {shallow} of {n} sensors end within 5 cm."
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


# The protocol box: what was scored, how, and what was lost on the way.

NOT_TOLD = "not told with these predictions"


def protocol(evaluation: Evaluation) -> pd.DataFrame:
    """What a score's reader has to know before the score: one line an item.

    ``background.provenance`` adds lines, and takes the place of ours where the item is the same.

    Returns
    -------
    DataFrame: ``item, value``
    """
    lines = {
        "data": evaluation.label + (" (a made-up world)" if evaluation.is_synthetic else ""),
        "versions": f"soilkit {__version__}",
        "model": evaluation.main,
        "beside it": ", ".join(evaluation.models[1:]) or "no other model",
        "split": _split_protocol(evaluation),
        "may be called": evaluation.claim,
        "window": _window(evaluation),
        "flags": NOT_TOLD,
        "depth": grades.depths(evaluation),
        "places": _places_protocol(evaluation),
        **_losses(evaluation),
        "a sensor counts": f"from {evaluation.options.min_samples} pairs on",
        "sensors by status": grades.statuses(evaluation),
        "intervals of a sensor": "95 %, effective sample size from lag-1 correlations in time",
        "intervals of a mean": f"95 %, whole {_unit(evaluation)} drawn anew",
        "comparisons": "paired on identical samples, studentised bootstrap over 2-degree blocks, "
        "p-values by Holm",
        "values": _state(evaluation),
        "dates of the map's skill": _dates(evaluation),
        "seed": str(evaluation.options.seed),
    }
    lines |= {str(item): str(value) for item, value in evaluation.background.provenance.items()}
    return pd.DataFrame(lines.items(), columns=["item", "value"])


def _split_protocol(evaluation: Evaluation) -> str:
    table = evaluation.audit_table
    rows = table[table["is_scored"]]
    return "; ".join(f"{row.split} ({row.claim})" for row in rows.itertuples())


def _window(evaluation: Evaluation) -> str:
    time = grades.pairs_of_main(evaluation)["time"]
    if not len(time):
        return "no sample is scored"
    return f"{time.min():%Y-%m-%d} to {time.max():%Y-%m-%d} (UTC)"


def _places_protocol(evaluation: Evaluation) -> str:
    n = grades.sizes(evaluation)
    words = f"{n['stations']} stations, {n['sensors']} sensors, {n['networks']} networks, "
    words += f"{n['blocks']} blocks of 2 degrees, {n['samples']:,} samples"
    lost = n["stations"] - n["located"]
    return words + (f"; {lost} stations of unknown place" if lost else "")


def _losses(evaluation: Evaluation) -> dict[str, str]:
    """A line a step that took rows, of all models together."""
    table = evaluation.losses
    lines = {"rows handed in": f"{evaluation.handed_in:,}, of {len(evaluation.models)} models"}
    for row in table[table["n_rows"] > 0].itertuples():
        lines[f"lost: {row.reason}"] = f"{row.n_rows:,}, {row.n_left:,} left"
    lines["rows scored"] = f"{len(evaluation.unseen):,}"
    return lines


def _unit(evaluation: Evaluation) -> str:
    return "networks" if is_missing(evaluation.by_block) else "2-degree blocks"


def _state(evaluation: Evaluation) -> str:
    words = "raw: as predicted, not rescaled"
    if not is_missing(evaluation.rescaled) and evaluation.rescaled["metric"].notna().any():
        states = evaluation.rescaled["state"].dropna().unique()
        words += f"; beside them, always named: {'; '.join(states)}"
    return words


def _dates(evaluation: Evaluation) -> str:
    table = evaluation.spatial_mean
    if is_missing(table):
        return table["status"].iloc[0]
    row = grades.row_of(table, model=evaluation.main, part="all")
    if row is None or not row["n_dates"]:
        return "no date has ten stations"
    return f"{row['n_dates']} dates with ten stations and more"
