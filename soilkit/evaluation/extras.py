"""Parts that need more than observed and predicted: inputs, spreads, traits, other products."""

from typing import Any

import numpy as np
import pandas as pd

from soilkit import applicability, metrics
from soilkit.errors import ContractError, SoilkitError
from soilkit.evaluation.records import (
    OK,
    Applicability,
    Background,
    Calibration,
    Failures,
    Options,
    is_missing,
    missing,
)
from soilkit.evaluation.scoring import Places, attempt, role_of
from soilkit.evaluation.turns import turns
from soilkit.metrics import bootstrap
from soilkit.metrics.resampling import cluster_names

LEVELS = (0.5, 0.8, 0.9, 0.95)
NOT_TRAITS = {"depth_from_m", "depth_to_m"}
IN_SITU = "in_situ"


def distance(unseen, main: str, *, background: Background, places: Places, seed: int):
    """How far the inputs of the main model's predictions lie from training, and the skill there."""
    own = unseen[unseen["model"].astype("str") == main].reset_index(drop=True)
    try:
        measured, threshold = _measured(own, background, places, seed)
    except SoilkitError as error:
        return Applicability(str(error))
    cluster = cluster_names(own, places.or_none)
    skill = applicability.skill_by_dissimilarity(
        own, measured, clusters=cluster.tolist(), seed=seed
    )
    inside = (measured["status"] == "inside").astype(float)
    shares = inside.groupby(own["station_id"].astype("str")).mean()
    blocks = pd.Series(cluster).groupby(own["station_id"].astype("str")).first()
    ends = bootstrap.intervals(
        shares.to_numpy(), blocks.reindex(shares.index).to_numpy(), confidence=0.95,
        rng=np.random.default_rng(seed),
    )[0]  # fmt: skip
    share = (float(shares.mean()), float(ends[0]), float(ends[1]))
    median = float(measured["dissimilarity_index"].median())
    return Applicability(OK, measured, skill, share, median, threshold)


def _measured(own, background, places, seed):
    """``Area.measure`` of every prediction, and the threshold (the median one over folds)."""
    features = background.features
    if features is None or not background.predictors:
        raise ContractError("not known: no features of the predictions, or no predictors, given")
    lacking = [c for c in ("sample_id", *background.predictors) if c not in features]
    if lacking:
        raise ContractError(f"the features lack {', '.join(lacking)}")
    table = features.assign(sample_id=features["sample_id"].astype("str"))
    table = table.drop_duplicates("sample_id").set_index("sample_id")
    asked = table.reindex(own["sample_id"].astype("str")).reset_index()
    how: dict[str, Any] = {"predictors": list(background.predictors), "seed": seed}
    trained = background.training_features
    if trained is not None:
        groups = trained["station_id"].astype("str") if "station_id" in trained else None
        area = applicability.fit(trained, groups=groups, **how)
        return area.measure(asked), float(area.threshold)
    return _by_fold(own, table, asked, background=background, how=how)


def _by_fold(own, table, asked, *, background, how):
    """Each fold's predictions against the features of the samples that trained for them."""
    if background.samples is None:
        raise ContractError("not known: neither training features nor samples that trained given")
    parts, thresholds = [], []
    for held_out, trained in turns(own, background):
        known = trained[trained.index.isin(table.index)]
        if not len(known):
            raise ContractError("not known: no sample that trained has features")
        area = applicability.fit(
            table.loc[known.index], groups=_groups(known.index, known, background), **how
        )
        parts.append(area.measure(asked.iloc[held_out]))
        thresholds.append(area.threshold)
    return pd.concat(parts).sort_index(), float(np.median(thresholds))


def _groups(ids, labels, background):
    """Stations of training rows where they are known, else their folds, else none."""
    samples = background.samples
    if samples is not None:
        known = samples.assign(sample_id=samples["sample_id"].astype("str"))
        station = known.drop_duplicates("sample_id").set_index("sample_id")["station_id"]
        found = station.astype("str").reindex(ids)
        if found.notna().all() and found.nunique() > 1:
            return found.to_numpy()
    folds = labels.reindex(ids)
    return folds.to_numpy() if folds.nunique() > 1 else None


def calibration(unseen, *, places: Places, seed: int) -> Calibration:
    """Do stated standard deviations mean what they say; a status where there are none."""
    if "predicted_std_m3_m3" not in unseen or unseen["predicted_std_m3_m3"].isna().all():
        return Calibration("no predicted standard deviation: the table states no uncertainty")
    stated = unseen[unseen["predicted_std_m3_m3"].notna()]
    try:
        rows = metrics.forecast_rows(stated)
    except SoilkitError as error:
        return Calibration(str(error))
    how: dict[str, Any] = {"stations": places.or_none, "seed": seed}
    return Calibration(
        OK,
        metrics.reliability(rows, levels=LEVELS, **how),
        metrics.sharpness(rows, **how),
        metrics.spread_skill(rows, **how),
    )


def failures(scores, main: str, *, places: Places, options: Options) -> Failures:
    """Classes apart from the rest, the worst stations, and traits of the places that fail."""
    own = scores[scores["model"] == main]
    stations = places.stations
    known = [
        by
        for by in options.by
        if by in stations and stations[by].astype("str").str.strip().ne("").any()
    ]
    traits = list(options.traits) or numeric_traits(stations)

    def classes():
        if not known:
            raise ContractError("no class of any station is known")
        table = places.required()
        return metrics.class_differences(own, table, by=known, seed=options.seed)

    space, words = _traits(scores, own, places=places, options=options)
    found = attempt(classes)
    worst = attempt(lambda: metrics.worst_stations(own, stations, traits=traits, n=options.worst))
    status = str(found["status"].iloc[0]) if is_missing(found) else OK
    return Failures(status, found, worst, space, words)


def _traits(scores, own, *, places: Places, options: Options):
    """The space of traits, failures being places worse than SMAP, or the worst quarter."""
    traits = list(options.traits) or numeric_traits(places.stations)
    rivals = [m for m in scores["model"].unique() if role_of(m, options) == "smap"]
    rival = scores[scores["model"].isin(rivals[:1])]
    has_rival = len(rival) > 0 and rivals[0] != own["model"].iloc[0]
    try:
        if not traits:
            raise ContractError("no numeric trait of the stations varies")
        space = metrics.trait_space(
            own, places.required(), traits=traits, baseline=rival if has_rival else None,
            seed=options.seed,
        )  # fmt: skip
    except SoilkitError as error:
        return None, str(error)
    return space, OK


def numeric_traits(stations: pd.DataFrame) -> list[str]:
    """Columns of numbers that vary over stations, depths of sensors left out."""
    numbers = stations.select_dtypes("number")
    return [
        str(name)
        for name in numbers
        if name not in NOT_TRAITS and numbers[name].dropna().nunique() > 1
    ]


def literature(scores, main: str) -> pd.DataFrame:
    """The main model's networks beside what eleven works report there."""
    found = metrics.beside_literature(scores[scores["model"] == main])
    return found if len(found) else missing("no network could be looked up")


def triple(unseen, main: str, *, background: Background, options: Options) -> pd.DataFrame:
    """Triple collocation of the main model, SMAP and the stations, or why it is refused."""
    by_name = dict(list(unseen.groupby(unseen["model"].astype("str"))))
    rivals = [name for name in by_name if name != main and role_of(name, options) != "model"]
    rivals.sort(key=lambda name: role_of(name, options) != "smap")
    if not rivals:
        return missing("no third product (SMAP, GLDAS) beside the model and the stations")
    other = rivals[0]
    unnamed = [name for name in (main, other) if name not in background.sources]
    if unnamed:
        return missing(
            f"not made: nobody said what went into {' and '.join(unnamed)}, and errors that two "
            "series share would pass for truth"
        )
    sources = {n: tuple(background.sources[n]) for n in (main, other)} | {IN_SITU: (IN_SITU,)}

    def made():
        triplets = metrics.triplets_of([by_name[main], by_name[other]], observed=IN_SITU)
        triplets = triplets.drop_duplicates(["sensor_id", "time"])
        return metrics.triple_collocation(triplets, sources, seed=options.seed)

    return attempt(made)
