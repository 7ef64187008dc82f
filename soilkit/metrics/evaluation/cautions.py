"""What not to conclude, the CEOS checklist, and the protocol box."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from soilkit import __version__
from soilkit.constants import MIN_CLUSTERS, OK
from soilkit.metrics.evaluation import grades
from soilkit.metrics.evaluation.grades import estimate
from soilkit.metrics.evaluation.records import PIXELS, Evaluation, Fulfilment, Stage, is_missing
from soilkit.metrics.evaluation.score_tables import BY
from soilkit.metrics.scores import CONSTANTS, MIN_EFFECTIVE
from soilkit.metrics.splits.checks import Claim
from soilkit.strata import MIN_STATIONS

DOMINATES = 0.8
REQUIREMENT_M3_M3 = 0.04  # SMAP's, for a footprint of 36 km and later 9 km
FAMILY = 20
SURFACE_M = 0.055
FEW_SITES = 30  # "a small set" of locations in the definition of stage 1
YEARS = 2
SEASONS = 4
NOT_TOLD, NO_SAMPLE = "not told with these predictions", "no sample is scored"


def cautions(evaluation: Evaluation) -> list[str]:
    """What these scores do not say, the gravest first, each with the figures that show it."""
    parts = (_data, _split, _pixels, _places, _footprint, _classes, _networks_of, _memory, _space,
             _many, _spread)  # fmt: skip
    return [words for part in parts for words, holds in part(evaluation).items() if holds]


Sentences = dict[str, Any]  # what not to conclude, and whether there is reason to say so


def _data(evaluation: Evaluation) -> Sentences:
    rows = evaluation.pairs
    sentences: Sentences = {
        f"Nothing about the real Earth: the data ({evaluation.label}) are synthetic, made by "
        "equations that a model may find easier, or harder, than soil.": evaluation.is_synthetic,
        f"Nothing at all: no sample of {evaluation.main} could be scored.": not len(rows),
    }
    for word, column in (("predictions", "predicted_m3_m3"), ("observations", "observed_m3_m3")):
        outside, middle = int((~rows[column].between(0, 1)).sum()), rows[column].median()
        counts = f"{outside:,} of {len(rows):,} lie outside 0 to 1 m3 m-3"
        words = f"Not that all {word} are possible volumes of water: {counts}."
        if not 0 <= middle <= 1:
            words = f"Not that the {word} are volumes of water: {counts} (the median is "
            words += f"{middle:.3g}); are their units right?"
        sentences[words] = outside
    return sentences


def _split(evaluation: Evaluation) -> Sentences:
    claim, is_leaky = evaluation.claim, evaluation.level.is_leaky
    is_seen, chosen = not evaluation.is_unseen, grades.validation_share(evaluation)
    table = evaluation.audit_table
    return {
        f"Not that these scores hold anywhere else: they are {claim}, so they measure "
        "memory.": is_leaky,
        f"Not that any station was unseen: {claim}.": is_seen and not is_leaky,
        f"Not that all samples were untouched: {chosen:.0%} of them are validation, which may "
        "have chosen the model or its settings.": chosen,
    } | {
        f"Not that scores of the split {row.split!r} mean anything: {row.claim}"
        f"{f' ({row.failed})' if row.failed else ''}; its {row.n_rows:,} rows are left "
        "out.": evaluation.audits[row.split].level.is_leaky
        for row in table[~table["is_scored"]].itertuples()
    }


def _pixels(evaluation: Evaluation) -> Sentences:
    sentences = {}
    for network, rows in evaluation.shared_pixels.groupby("network", sort=False):
        # A product that gives several stations one series tells more than a grid does.
        row = rows.iloc[np.argmax(~rows["pixel"].isin(list(PIXELS)))]
        others = rows[rows["pixel"] != row["pixel"]].itertuples()
        also = ", ".join(f"{other.n_pixels} of {other.pixel}" for other in others)
        words = f"Not that {network}'s {row['n_stations']} stations are as many witnesses: they "
        words += f"stand in {row['n_pixels']} pixels of {row['pixel']}"
        words += f"{f' (and in {also})' if also else ''}, {row['n_sharing']} of them in one with "
        words += "another, so a coarse product gives these the same series."
        sentences[words] = row["n_sharing"] >= MIN_STATIONS
    return sentences


def _places(evaluation: Evaluation) -> Sentences:
    days, absent = grades.span_days(evaluation), grades.months_absent(evaluation)
    n = grades.sizes(evaluation)
    stations, blocks, lost = n["stations"], n["blocks"], n["stations"] - n["located"]
    is_short, is_narrow = 0 < days < grades.YEAR_DAYS, stations > 1 and 0 < blocks < MIN_CLUSTERS
    return {
        f"Nothing about other years: the samples span {days:.0f} days, less than one year, and "
        "R may be one season's drying.": is_short,
        f"Nothing about {', '.join(absent)}: no sample falls into those months.": absent,
        "Nothing about a map: one station is scored, and a series is no pattern.": stations == 1,
        f"No interval for the whole: {stations} stations stand in {blocks} blocks of 2 degrees, "
        f"and fewer than {MIN_CLUSTERS} cannot be drawn anew.": is_narrow,
        f"Not that intervals know of neighbours: {lost} of {stations} stations have no place, so "
        "networks are drawn instead of blocks.": lost,
    }


def _footprint(evaluation: Evaluation) -> Sentences:
    line = grades.main_of(evaluation, "ubrmse_m3_m3")
    if line is None or not np.isfinite(line["mean"]):
        return {}
    n = line["n_sensors"]
    above = int((evaluation.main_scores["ubrmse_m3_m3"] > REQUIREMENT_M3_M3).sum())
    words = f"all {n} sensors pass because their ubRMSE is within"
    if above:
        words = f"{above} of {n} sensors fail because their ubRMSE exceeds"
    others = ", nor that the others pass" if 0 < above < n else ""
    return {
        f"Not that {words} SMAP's {REQUIREMENT_M3_M3} m3 m-3{others}: that requirement is a "
        "footprint's, against many probes, and a single probe adds its own misfit.": True
    }


def _classes(evaluation: Evaluation) -> Sentences:
    table = grades.class_scores(evaluation, "rmse_m3_m3")
    few = (table["n_stations"] < MIN_STATIONS) & (table["class"].astype("str") != "unknown")
    rows = table.loc[few, ["class", "characteristic", "n_stations"]].itertuples(index=False)
    small = [f"{name} ({BY[by]}, {n})" for name, by, n in rows]
    names = ", ".join(small[:6]) + (f" and {len(small) - 6} more" if len(small) > 6 else "")
    return {
        f"Nothing about {names}: fewer than {MIN_STATIONS} stations are anecdotes "
        f"({len(small)} of {grades.n_classes(evaluation)} classes).": small
    }


def _networks_of(evaluation: Evaluation) -> Sentences:
    """Classes that are one network's, where there are several."""
    used, sentences = evaluation.used_stations.drop_duplicates("station_id"), {}
    for by in tuple(BY)[1:] if used["network"].nunique() > 1 else ():
        known = used[used[by].astype("str").str.strip() != ""]
        for name, part in known.groupby(known[by].astype("str")):
            shares = part["network"].astype("str").value_counts(normalize=True)
            share, network = shares.iloc[0], shares.index[0]
            words = f"Not that {name} ({BY[by]}) is what makes the difference: {share:.0%} of its "
            words += f"{len(part)} stations are {network}'s, with its own probes, depth and "
            words += "terrain."
            sentences[words] = len(part) >= MIN_STATIONS and share >= DOMINATES
    return sentences


def _memory(evaluation: Evaluation) -> Sentences:
    scores = evaluation.main_scores
    scored = scores[scores["rmse_m3_m3"].notna()]
    few = int((scored["n_effective"] < MIN_EFFECTIVE).sum())
    flat = int(scores["status"].astype("str").isin(CONSTANTS).sum())
    return {
        f"Nothing from a single score of {few} of {len(scored)} sensors: they have fewer than "
        f"{MIN_EFFECTIVE:g} independent samples' worth, so no interval exists.": few,
        f"Nothing about R at {flat} of {len(scores)} sensors: a series there is constant, and "
        "they are missing from its mean.": flat,
    }


def _space(evaluation: Evaluation) -> Sentences:
    static, dynamic = (
        grades.row_of(evaluation.spatial_mean, model=evaluation.main, part=part)
        for part in ("static", "dynamic")
    )
    if static is None or dynamic is None:
        return {}
    of_means, of_departures = estimate(static), estimate(dynamic)
    moves, knows = dynamic["lower"] > 0, static["lower"] > 0
    return {
        f"Not that the map moves rightly: its skill in space is that of places' means, R {of_means}"
        ", which a map of soils has too; of departures from them R is "
        f"{of_departures}.": knows and not moves,
        "Not that it tells wet places from dry ones: its skill in space is that of departures, R "
        f"{of_departures}; of places' means R is {of_means}.": moves and static["lower"] <= 0,
    }


def _many(evaluation: Evaluation) -> Sentences:
    n, table = grades.n_judged_classes(evaluation), evaluation.comparison
    rows, n_pairs, taken = evaluation.literature, 0, 0
    if not is_missing(table):
        is_taken = (table["p_value"] < grades.ALPHA) & (table["p_adjusted"] >= grades.ALPHA)
        n_pairs, taken = len(table), int(is_taken.sum())
    works = 0 if is_missing(rows) else rows.loc[rows["status"] == OK, "network"].nunique()
    return {
        f"Not that one class is different because one of {n} intervals says so: of {FAMILY} at "
        "95 %, one misses by chance; only the comparisons of models are "
        "adjusted.": n >= FAMILY / 2,
        f"Not that {taken} of {n_pairs} paired differences are real because their own interval "
        "leaves zero out: Holm's correction for so many takes them back.": taken,
        f"Not that it beats, or loses to, the literature at {works} networks: other samples, "
        "years and splits, not paired.": works,
    }


def _stated(evaluation: Evaluation) -> pd.Series | None:
    """The line of the main model's 90 % intervals, where it states any."""
    keys: dict[str, Any] = {"model": evaluation.main, "kind": "interval", "nominal": 0.9}
    return grades.row_of(evaluation.calibration.reliability, **keys)


def _spread(evaluation: Evaluation) -> Sentences:
    row, area, sentences = _stated(evaluation), evaluation.applicability, {}
    if row is not None:
        words = "Not that its stated uncertainty can be used as it is: 90 % intervals hold "
        words += f"{estimate(row, 'observed')} of the readings."
        sentences[words] = np.isfinite(row["lower"]) and not row["is_consistent"]
    if area.status == OK:
        lacking = area.measured["dissimilarity_index"].isna()
        outside = ~area.measured["is_inside"] & ~lacking
        tail = f", and {int(lacking.sum()):,} lack an input" if lacking.any() else ""
        words = f"Nothing of the mean score about inputs unlike training: {int(outside.sum()):,} "
        words += f"of {len(outside):,} predictions lie outside the area of applicability{tail}."
        sentences[words] = area.share_inside[0] < 1
    return sentences


# The good-practice protocol of CEOS LPV as a checklist that an evaluation fills: a rule a part,
# whose docstring is the requirement as the page shows it.

DONE, PARTLY, NOT_DONE = Fulfilment.DONE, Fulfilment.PARTLY, Fulfilment.NOT_DONE
Met = tuple[Fulfilment, str]
STAGES = {
    0: "no accuracy assessed against independent reference data",
    1: "accuracy assessed at a small set of places and times, typically fewer than 30",
    2: "accuracy assessed at a significant set of places and times, typically more than 30",
}


def _provided(evaluation: Evaluation, *names: str) -> str:
    """What the provider said under one of these names."""
    lines = {str(k).lower(): str(v) for k, v in evaluation.background.provenance.items()}
    return next((lines[name] for name in names if lines.get(name)), "")


def _degree(full: object, some: object) -> Fulfilment:
    return DONE if full else PARTLY if some else NOT_DONE


def _why(table: pd.DataFrame) -> str:
    return f"{str(table['status'].iloc[0]).rstrip('.')}."


def _flags(evaluation: Evaluation) -> Met:
    """Use the reference's quality flags, and say which readings they let through."""
    flags = _provided(evaluation, "flags", "quality flags")
    words = f"Told: {flags}." if flags else "Nobody said which quality flags the readings passed."
    return _degree(flags, False), words


def _networks(evaluation: Evaluation) -> Met:
    """Name the reference networks."""
    names = sorted(evaluation.pairs["network"].astype("str").unique())
    known = [name for name in names if name.strip() and name.lower() not in ("unknown", "nan")]
    shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
    n = grades.sizes(evaluation)["stations"]
    words = f"{n} stations of {len(known)} named networks: {shown or 'none'}."
    return _degree(known and len(known) == len(names), known), words


def _representativeness(evaluation: Evaluation) -> Met:
    """Make the reference stand for the footprint: upscale, select, or bound the misfit."""
    upscaling = _provided(evaluation, "upscaling", "representativeness")
    n, table = grades.sizes(evaluation)["sensors"], evaluation.shared_pixels
    if upscaling:
        return DONE, f"Told: {upscaling}."
    if not len(table):
        words = f"Each of the {n} probes is taken for its footprint; scores hold the misfit."
        return NOT_DONE, words
    row = table.sort_values("n_sharing").iloc[-1]
    words = f"{row['n_sharing']} {row['network']} stations share pixels of {row['pixel']}, "
    return PARTLY, f"{words}but each of the {n} probes is scored for itself, as a point."


def _independence(evaluation: Evaluation) -> Met:
    """Keep the reference apart from what the product was trained or tuned on."""
    rows, level = evaluation.scored_splits, evaluation.level
    words = f"{int(rows['auditable'].sum())} of {len(rows)} scored splits could be audited; "
    words += f"what they allow: {evaluation.claim}."
    if level is Claim.NOT_AUDITABLE:
        return NOT_DONE, words
    chosen = grades.validation_share(evaluation)
    words += " Some samples are validation, which may have chosen the model." if chosen else ""
    is_apart = evaluation.is_unseen and level is not Claim.STATIONS and not chosen
    return _degree(is_apart, evaluation.is_unseen), words


def _in_space(evaluation: Evaluation) -> Met:
    """Say how a station found its pixel, and what grid that is."""
    pixel = _provided(evaluation, "spatial collocation", "grid", "pixel")
    n = grades.sizes(evaluation)
    words = f"{n['located']} of {n['stations']} stations have a place; "
    words += f"told: {pixel}." if pixel else "the pixel that a prediction is of was not told."
    return _degree(pixel and n["located"] == n["stations"], n["located"]), words


def _in_time(evaluation: Evaluation) -> Met:
    """Pair product and reference within a stated time window."""
    window = _provided(evaluation, "temporal collocation", "bounds", "join")
    if window:
        return DONE, f"Told: {window}."
    samples = evaluation.background.samples
    ages = pd.Series() if samples is None else samples.filter(regex="_age_hours$").max()
    if not len(ages):
        return PARTLY, "Every pair has one time stamp; how far apart its halves were was not told."
    oldest = {str(k).removesuffix("_age_hours"): v for k, v in ages.items() if np.isfinite(v)}
    words = ", ".join(f"{name} {age:.3g} h" for name, age in oldest.items())
    return DONE, f"Oldest scene used: {words}."


def _depth(evaluation: Evaluation) -> Met:
    """Compare like depths, and say where probe and sensing depth differ."""
    ends = evaluation.used_stations["depth_to_m"].astype(float)
    if not ends.notna().any():
        return NOT_DONE, f"No depth is known of any of {len(ends)} sensors."
    shallow, depth = int((ends <= SURFACE_M).sum()), _provided(evaluation, "sensing depth", "depth")
    words = f"Depths: {grades.depths(evaluation)}; {shallow} of {len(ends)} sensors end within "
    tail = f"Told: {depth}." if depth else "The depth that the product senses was not told."
    return _degree(shallow == len(ends) and depth, True), f"{words}5 cm. {tail}"


def _same_samples(evaluation: Evaluation) -> Met:
    """Compare products on the same samples, pair by pair."""
    table = evaluation.comparison
    if is_missing(table):
        is_alone = len(evaluation.models) == 1
        return Fulfilment.NOT_APPLICABLE if is_alone else NOT_DONE, _why(table)
    n = table.groupby(table["model_b"].astype("str"), sort=False)["n_samples"].max()
    words = f"{n.min():,} to {n.max():,} samples in common with {', '.join(n.index)}."
    lost = table[table["model_b"].map(n) == 0].drop_duplicates("model_b")
    why = "".join(f" {row.model_b}: {row.status}." for row in lost.itertuples())
    return _degree(n.min(), n.max()), words + why


def _metrics(evaluation: Evaluation) -> Met:
    """Give bias, RMSE or ubRMSE, and correlation, per station before any mean."""
    scores = evaluation.main_scores
    n, r = int(scores["rmse_m3_m3"].notna().sum()), int(scores["r"].notna().sum())
    words = f"Of {len(scores)} sensors {n} have bias, ubRMSE and RMSE, {r} have R; "
    words += f"the rest a status ({grades.statuses(evaluation)})."
    return _degree(n and r >= len(scores) / 2, n), words


def _intervals(evaluation: Evaluation) -> Met:
    """Give confidence intervals that know about autocorrelation and neighbours."""
    scored = evaluation.main_scores[evaluation.main_scores["rmse_m3_m3"].notna()]
    n = int(scored["ubrmse_m3_m3_lower"].notna().sum())
    line = grades.main_of(evaluation, "ubrmse_m3_m3")
    whole = line is not None and bool(np.isfinite(line["mean_lower"]))
    words = f"{n} of {len(scored)} sensors have 95 % intervals from their effective size; "
    words += f"means: {line['status'] if line is not None else 'none'}."
    return _degree(whole and n >= len(scored) / 2, whole or n), words


def _numbers(evaluation: Evaluation) -> Met:
    """Use enough samples, say how many, and leave out what has too few."""
    scores, least = evaluation.main_scores, evaluation.min_samples
    scored = scores[scores["rmse_m3_m3"].notna()]
    if not len(scored):
        return NOT_DONE, f"None of {len(scores)} sensors has {least} pairs."
    worth = scored["n_effective"].median()
    words = f"A sensor needs {least} pairs ({len(scores) - len(scored)} of {len(scores)} have "
    words += f"fewer); the median one has {scored['n'].median():.0f}, worth "
    return _degree(worth >= MIN_EFFECTIVE, True), f"{words}{worth:.0f} independent ones."


def _strata(evaluation: Evaluation) -> Met:
    """Stratify by land cover, soil, climate and network."""
    known, share = grades.strata_known(evaluation), grades.judged_share(evaluation)
    lacking = [words for by, words in BY.items() if by not in known]
    words = f"By {', '.join(BY[by] for by in known) or 'nothing'}; "
    words += f"{grades.n_judged_classes(evaluation)} of {grades.n_classes(evaluation)} classes "
    words += "have an interval."
    words += f" Not known: {', '.join(lacking)}." if lacking else ""
    words += f" {share:.0%} of the stations stand in a class that can be judged."
    return _degree(known and not lacking and share >= 0.5, known), words


def _seasons(evaluation: Evaluation) -> Met:
    """Show the seasons apart."""
    table, absent = evaluation.strata["season"], grades.months_absent(evaluation)
    if is_missing(table):
        return NOT_DONE, _why(table)
    rows = table[(table["model"] == evaluation.main) & (table["metric"] == "rmse_m3_m3")]
    n = int((rows["n_sensors"] > 0).sum())
    tail = f"; no sample in {', '.join(absent)}." if absent else "."
    return _degree(n >= SEASONS, n), f"{n} seasons are scored{tail}"


def _years(evaluation: Evaluation) -> Met:
    """Cover several years, so that one wet or dry one does not decide."""
    years = grades.span_days(evaluation) / 365.25
    return _degree(years >= YEARS, years >= 1), f"The samples span {years:.1f} years."


def _changed(table: pd.DataFrame, evaluation: Evaluation) -> tuple[str, str]:
    """States that scored the main model, and why others did not."""
    if is_missing(table):
        return "", f" Not: {table['status'].iloc[0]}."
    good = table[(table["model"] == evaluation.main) & (table["n_sensors"] > 0)]
    states = good["state"].dropna().unique()
    rest = table[~table["state"].isin(states)]
    why = "; ".join(f"{row.state}: {row.status}" for row in rest.itertuples())
    return "; ".join(states), f" Not: {why}." if why else ""


def _anomalies(evaluation: Evaluation) -> Met:
    """Score short-term and climatological anomalies beside the values."""
    states, why = _changed(evaluation.anomaly, evaluation)
    return _degree(states and not why, states), f"Scored: {states or 'none'}.{why}"


def _rescaling(evaluation: Evaluation) -> Met:
    """Say whether values were rescaled, how, and on which data it was fitted."""
    states, why = _changed(evaluation.rescaled, evaluation)
    words = "Scores are of raw values unless they name a state"
    words += f"; beside them {states}." if states else "; none was rescaled."
    values = _provided(evaluation, "rescaling", "values")
    tail = f" Told: {values}." if values else " Whether they came rescaled was not told."
    return _degree(values, True), words + why + tail


def _pattern(evaluation: Evaluation) -> Met:
    """Judge the spatial pattern beside the temporal one."""
    table = evaluation.spatial_mean
    row = grades.row_of(table, model=evaluation.main, part="all")
    if row is None or np.isnan(row["r"]):
        return NOT_DONE, f"{table['status'].iloc[0] if row is None else row['status']}."
    words = f"R across stations {estimate(row)}, mean of {row['n_dates']} dates, static and "
    return _degree(np.isfinite(row["lower"]), True), f"{words}dynamic parts apart."


def _products(evaluation: Evaluation) -> Met:
    """Stand beside other products and a climatology."""
    table = evaluation.comparison
    if is_missing(table):
        return NOT_DONE, _why(table)
    scored = table[table["lower"].notna()].drop_duplicates("model_b")
    if not len(scored):
        return NOT_DONE, f"No difference has an interval: {table['status'].iloc[0]}."
    roles = set(scored["role"])
    named = ", ".join(f"{row.model_b} ({row.role})" for row in scored.itertuples())
    lost = sorted(set(table["model_b"]) - set(scored["model_b"]))
    has_both = roles & {"smap", "gldas"} and roles & {"climatology", "oracle"}
    words = f" Not with {', '.join(lost)}." if lost else ""
    words = f"Compared with {named}, p-values by Holm.{words}"
    return _degree(has_both and not lost, True), words


def _collocated(evaluation: Evaluation) -> tuple[int, int]:
    """Sensors with an estimate of triple collocation, and all of them."""
    table = evaluation.triple.reindex(columns=["sensor_id", "status"])
    return table.loc[table["status"] == OK, "sensor_id"].nunique(), table["sensor_id"].nunique()


def _triple(evaluation: Evaluation) -> Met:
    """Estimate errors against the unknown truth by triple collocation, if independent."""
    table, (good, n) = evaluation.triple, _collocated(evaluation)
    if is_missing(table):
        is_refused = table.attrs.get("is_refused", False)
        return Fulfilment.NOT_APPLICABLE if is_refused else NOT_DONE, _why(table)
    return _degree(good >= n / 2, good), f"{good} of {n} sensors have an estimate."


def _uncertainty(evaluation: Evaluation) -> Met:
    """Check the uncertainties that the product states."""
    row, status = _stated(evaluation), evaluation.calibration.status
    if status != OK:
        return Fulfilment.NOT_APPLICABLE, f"{status}."
    if row is None or np.isnan(row["observed"]):
        return NOT_DONE, "No sensor of it has enough rows."
    return DONE, f"90 % intervals hold {estimate(row, 'observed')} of the readings."


def _reference_error(evaluation: Evaluation) -> Met:
    """Account for the reference's own errors."""
    good, n = _collocated(evaluation)
    words = "Probes count as truth: their error and misfit to the footprint stand in every score."
    if good:
        words = f"Triple collocation gives the probes' error at {good} of {n} sensors."
    return _degree(good and good >= n / 2, good), words


def _reporting(evaluation: Evaluation) -> Met:
    """Report versions, settings and every sample lost, so that others can repeat it."""
    lost = int(evaluation.losses["n_rows"].sum())
    version = _provided(evaluation, "versions", "version", "product version")
    words = f"{evaluation.handed_in:,} rows in, {len(evaluation.unseen):,} scored, {lost:,} lost, "
    words += f"each with its reason; seed {evaluation.seed}; "
    words += f"versions: {version}." if version else "the product's version was not told."
    return _degree(version, True), words


def _stage(evaluation: Evaluation) -> Met:
    """State the CEOS validation stage and what it rests on."""
    number, why = stage(evaluation)
    words = f"Corresponds to stage {number} ({STAGES[number]}): {why}."
    if evaluation.level is Claim.NOT_AUDITABLE and number:
        words += " This presumes that the stations did not train, which nobody said."
    return _degree(number == 2, number), words


REQUIREMENTS: dict[str, Callable[[Evaluation], Met]] = {
    "reference quality": _flags, "reference documented": _networks,
    "representativeness": _representativeness, "independence": _independence,
    "spatial collocation": _in_space, "temporal collocation": _in_time, "depth": _depth,
    "common samples": _same_samples, "metrics": _metrics, "confidence intervals": _intervals,
    "sample size": _numbers, "stratification": _strata, "seasons": _seasons, "period": _years,
    "anomalies": _anomalies, "rescaling": _rescaling, "spatial pattern": _pattern,
    "other products": _products, "triple collocation": _triple,
    "stated uncertainty": _uncertainty, "reference error": _reference_error,
    "reporting": _reporting, "stage": _stage,
}  # fmt: skip


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
    items = [(part, rule.__doc__, *rule(evaluation)) for part, rule in REQUIREMENTS.items()]
    table = pd.DataFrame(items, columns=["part", "requirement", "status", "evidence"])
    return table.astype({"status": "str"})


def stage(evaluation: Evaluation) -> Stage:
    """The CEOS LPV validation stage that this evaluation alone would correspond to.

    Stages 3 and 4 also want errors characterised over places that stand for the globe, and that
    repeated with every version and as the record grows; no single evaluation shows either.
    """
    n, days = grades.sizes(evaluation), grades.span_days(evaluation)
    absent, climates = grades.months_absent(evaluation), evaluation.strata["koeppen"]
    words = f"{n['stations']} stations in {n['blocks']} blocks, {n['networks']} networks"
    words += "" if is_missing(climates) else f", {climates['koeppen'].nunique()} climates"
    words += f", {days / 365.25:.1f} years"
    if evaluation.is_synthetic:
        return Stage(0, f"the reference is a made-up world ({words})")
    if not n["samples"]:
        return Stage(0, f"{NO_SAMPLE} ({words})")
    if evaluation.level.is_leaky:
        return Stage(0, f"the split is {evaluation.claim} ({words})")
    if n["stations"] < FEW_SITES or n["blocks"] < FEW_SITES or days < 365 or absent:
        lacking = f", nothing in {', '.join(absent)}" if absent else ""
        why = f"{words}{lacking}; stage 2 wants {FEW_SITES} places and more that are not "
        return Stage(1, why + "neighbours, over all seasons")
    why = f"{words}; stage 2 in full also wants its consistency with other products published, and "
    return Stage(2, why + "stage 3 errors characterised over places that stand for the globe")


# The protocol box: what was scored, how, and what was lost on the way.


def protocol(evaluation: Evaluation) -> pd.DataFrame:
    """What a score's reader has to know before the score: ``item, value``, one line an item.

    ``background.provenance`` adds lines, and takes the place of ours where the item is the same.
    """
    n, time = grades.sizes(evaluation), evaluation.pairs["time"]
    places = f"{n['stations']} stations, {n['sensors']} sensors, {n['networks']} networks, "
    places += f"{n['blocks']} blocks of 2 degrees, {n['samples']:,} samples"
    lost = n["stations"] - n["located"]
    window = f"{time.min():%Y-%m-%d} to {time.max():%Y-%m-%d} (UTC)" if len(time) else NO_SAMPLE
    drawn = "networks" if is_missing(evaluation.by_block) else "2-degree blocks"
    values, rescaled = "raw: as predicted, not rescaled", evaluation.rescaled
    if not is_missing(rescaled) and rescaled["metric"].notna().any():
        states = rescaled["state"].dropna().unique()
        values += f"; beside them, always named: {'; '.join(states)}"
    lines = {
        "data": evaluation.label + (" (a made-up world)" if evaluation.is_synthetic else ""),
        "versions": f"soilkit {__version__}",
        "model": evaluation.main,
        "beside it": ", ".join(evaluation.models[1:]) or "no other model",
        "split": "; ".join(
            f"{row.split} ({row.claim})" for row in evaluation.scored_splits.itertuples()
        ),
        "may be called": evaluation.claim,
        "window": window,
        "flags": NOT_TOLD,
        "depth": grades.depths(evaluation),
        "places": places + (f"; {lost} stations of unknown place" if lost else ""),
        "rows handed in": f"{evaluation.handed_in:,}, of {len(evaluation.models)} models",
        **{
            f"lost: {row.reason}": f"{row.n_rows:,}, {row.n_left:,} left"
            for row in evaluation.losses.itertuples()
            if row.n_rows > 0
        },
        "rows scored": f"{len(evaluation.unseen):,}",
        "a sensor counts": f"from {evaluation.min_samples} pairs on",
        "sensors by status": grades.statuses(evaluation),
        "intervals of a sensor": "95 %, effective sample size from lag-1 correlations in time, R's "
        "also from how its years differ",
        "intervals of a mean": f"95 %, whole {drawn} drawn anew",
        "comparisons": "paired on identical samples, studentised bootstrap over 2-degree blocks, "
        "p-values by Holm",
        "values": values,
        "dates of the map's skill": _dates(evaluation),
        "seed": str(evaluation.seed),
    }
    lines |= {str(item): str(value) for item, value in evaluation.background.provenance.items()}
    return pd.DataFrame(lines.items(), columns=["item", "value"])


def _dates(evaluation: Evaluation) -> str:
    table = evaluation.spatial_mean
    row = grades.row_of(table, model=evaluation.main, part="all")
    if row is not None and row["n_dates"]:
        return f"{row['n_dates']} dates with ten stations and more"
    return table["status"].iloc[0] if is_missing(table) else "no date has ten stations"
