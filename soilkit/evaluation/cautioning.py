"""What not to conclude: each caution with what triggered it, and only where it applies."""

from collections.abc import Iterator

import numpy as np

from soilkit.evaluation import facts
from soilkit.evaluation.auditing import ONE_SERIES, is_leaky
from soilkit.evaluation.records import OK, Evaluation, is_missing
from soilkit.metrics.bootstrap import MIN_CLUSTERS
from soilkit.metrics.stations import MIN_EFFECTIVE
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
    if not len(facts.pairs_of_main(evaluation)):
        yield f"Nothing at all: no sample of {evaluation.main} could be scored."
    rows = facts.pairs_of_main(evaluation)
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
    chosen = facts.validation_share(evaluation)
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
    days, absent = facts.span_days(evaluation), facts.months_absent(evaluation)
    if days and days < YEAR_DAYS:
        yield (
            f"Nothing about other years: the samples span {days:.0f} days, less than one year, and "
            "R may be one season's drying."
        )
    if absent:
        yield f"Nothing about {', '.join(absent)}: no sample falls into those months."


def _places(evaluation: Evaluation) -> Iterator[str]:
    n = facts.sizes(evaluation)
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
    line = facts.main_of(evaluation, "ubrmse_m3_m3")
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
    small = facts.small_classes(evaluation)
    if small:
        names = ", ".join(small[:6]) + (f" and {len(small) - 6} more" if len(small) > 6 else "")
        yield (
            f"Nothing about {names}: fewer than {MIN_STATIONS} stations are anecdotes "
            f"({len(small)} of {facts.n_classes(evaluation)} classes)."
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
    used = facts.used_stations(evaluation).drop_duplicates("station_id")
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
        part: facts.row_of(evaluation.spatial_mean, model=evaluation.main, part=part)
        for part in ("static", "dynamic")
    }
    static, dynamic = parts["static"], parts["dynamic"]
    if static is None or dynamic is None:
        return
    if static["lower"] > 0 and not dynamic["lower"] > 0:
        yield (
            "Not that the map moves rightly: its skill in space is that of places' means, R "
            f"{facts.with_interval(static['r'], (static['lower'], static['upper']))}, which a map "
            "of soils has too; of departures from them R is "
            f"{facts.with_interval(dynamic['r'], (dynamic['lower'], dynamic['upper']))}."
        )
    if dynamic["lower"] > 0 and static["lower"] <= 0:
        yield (
            "Not that it tells wet places from dry ones: its skill in space is that of departures, "
            f"R {facts.with_interval(dynamic['r'], (dynamic['lower'], dynamic['upper']))}; of "
            "places' means R is "
            f"{facts.with_interval(static['r'], (static['lower'], static['upper']))}."
        )


def _many(evaluation: Evaluation) -> Iterator[str]:
    n = facts.n_judged_classes(evaluation)
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
        row = facts.row_of(found.reliability, model=evaluation.main, kind="interval", nominal=0.9)
        if row is not None and np.isfinite(row["lower"]) and not row["is_consistent"]:
            ends = facts.with_interval(row["observed"], (row["lower"], row["upper"]))
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
