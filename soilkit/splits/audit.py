"""The leakage audit: what a split keeps apart, and what a result on it may be called."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from soilkit.errors import ContractError
from soilkit.splits import checks
from soilkit.splits.checks import Check
from soilkit.splits.inputs import fitted_on_training, label_in_features
from soilkit.splits.places import BLOCK_SIZE_DEG, CHIP_SIDE_M, nearest_km
from soilkit.splits.report import AuditReport
from soilkit.splits.sides import Sides, take_sides


@dataclass(frozen=True)
class Rules:
    """How an audit looks at a split.

    Attributes
    ----------
    train, held_out : labels of the samples that train, and of those that a score is made of; to
        count model selection as training, give ``train=("train", "validation")``
    kind : "spatial", or "temporal" for splits in time, where closeness in time is a fault
    chip_side_m : side of a chip's footprint
    ease2_km : pixel sizes of the EASE-Grid 2.0 products that the model or its rivals eat, 9 or 36
    degree_grids : products on grids of degrees counted on from 0 N, 0 E, and their pixel sizes
    coarse_columns : feature columns that hold a coarse product: stations with one series share
        its pixel, whatever its grid
    block_size_deg : of the informative check on blocks
    min_gap_days : samples closer in time than this are not independent; surface moisture decays
        over 5 to 15 days
    """

    train: tuple[str, ...] = ("train",)
    held_out: tuple[str, ...] = ("test",)
    kind: str = "spatial"
    chip_side_m: float = CHIP_SIDE_M
    ease2_km: tuple[int, ...] = (9,)
    degree_grids: Mapping[str, float] = field(
        default_factory=lambda: {"SMAP10KM": 0.1, "GLDAS": 0.25}
    )
    coarse_columns: tuple[str, ...] = ()
    block_size_deg: float = BLOCK_SIZE_DEG
    min_gap_days: float = 10.0

    def __post_init__(self) -> None:
        if self.kind not in ("spatial", "temporal"):
            raise ContractError(f"A split is 'spatial' or 'temporal', found {self.kind!r}.")


def audit(
    samples: pd.DataFrame,
    split,
    *,
    stations: pd.DataFrame | None,
    features: pd.DataFrame | None = None,
    fitted_on: Iterable | Mapping | None = None,
    rules: Rules | None = None,
) -> AuditReport:
    """Check a split for everything that lets a model remember instead of predict.

    Parameters
    ----------
    samples : samples or predictions table; ``<source>_scene`` columns are looked at where they are
    split : label per sample, from ``soilkit.splits`` or elsewhere; values other than "train",
        "validation", "test" (and those that ``rules`` name) are folds, each held out in turn
    stations : stations table; None when the samples carry latitude, longitude and network, or
        nobody knows them
    features : what the model eats, with ``sample_id`` or on the samples' index
    fitted_on : ids of the samples, sensors or stations that means and scalings were fitted on; for
        folds a mapping of fold to ids
    rules : Rules

    Returns
    -------
    AuditReport

    Raises
    ------
    ContractError
        When the tables do not belong together or one side is empty.
    """
    rules = rules or Rules()
    sides = take_sides(
        samples, split, stations=stations, train=rules.train, held_out=rules.held_out
    )
    eaten = _features(features, samples, sides)
    made = [
        *checks.same_identity(sides),
        *checks.same_scene(sides),
        checks.overlapping(sides, side_m=rules.chip_side_m),
        *checks.same_pixel(
            sides, ease2_km=rules.ease2_km, degrees=rules.degree_grids,
            block_size_deg=rules.block_size_deg,
        ),
        *_coarse(sides, eaten, rules.coarse_columns),
        checks.same_network(sides),
        checks.same_time(
            sides, min_gap_days=rules.min_gap_days, is_temporal=rules.kind == "temporal"
        ),
        checks.copied_readings(sides),
        label_in_features(sides, eaten),
        fitted_on_training(sides, fitted_on, everything=samples),
    ]  # fmt: skip
    name = getattr(split, "name", None)
    return AuditReport(
        str(name or "unnamed split"), tuple(made), _distances(sides), _sizes(sides),
        int(sides.held_out.sum()),
    )  # fmt: skip


def _features(features, samples: pd.DataFrame, sides: Sides) -> pd.DataFrame | None:
    """Feature rows in the order of the sides, without the id."""
    if features is None:
        return None
    if "sample_id" in features and "sample_id" in samples:
        ids = sides.samples["sample_id"].astype("str")
        table = features.assign(sample_id=features["sample_id"].astype("str"))
        table = table.drop_duplicates("sample_id").set_index("sample_id")
        return table.reindex(ids).reset_index(drop=True)
    if not features.index.equals(samples.index):
        raise ContractError("Features need a sample_id, or the index of the samples.")
    return features.iloc[sides.position].reset_index(drop=True)


def _coarse(sides: Sides, eaten: pd.DataFrame | None, columns: Iterable[str]) -> Iterable[Check]:
    for column in columns:
        table = sides.samples if eaten is None or column not in eaten else eaten
        if column not in table:
            raise ContractError(f"Neither features nor samples have the coarse column {column!r}.")
        yield checks.same_coarse_series(sides, column, values=table[column].to_numpy(float))


def _distances(sides: Sides) -> pd.Series:
    """Kilometres from each held-out station to the nearest that trains, by station_id.

    A station held out in several folds counts once a fold. Stations of unknown place are left out.
    """
    good = sides.stations[["latitude", "longitude"]].astype(float).notna().all(axis=1).to_numpy()
    found = []
    for out, trains in sides.parts():
        here, there = (np.unique(sides.station[rows]) for rows in (out, trains))
        here, there = here[good[here]], there[good[there]]
        if len(here) and len(there):
            places = sides.stations.iloc[here]
            km = nearest_km(places, sides.stations.iloc[there])
            found.append(pd.Series(km, index=places.index))
    empty = pd.Series(dtype=float, index=pd.Index([], name="station_id"))
    return pd.concat(found or [empty]).rename("distance_km")


def _sizes(sides: Sides) -> dict[str, int]:
    """Samples and stations of each side, or of all folds."""
    if sides.has_folds:
        return {"folds": sides.n_sides, "samples": len(sides.side), "stations": len(sides.stations)}
    sizes = {}
    for side, name in enumerate(sides.names):
        rows = sides.side == side
        sizes[f"{name} samples"] = int(rows.sum())
        sizes[f"{name} stations"] = len(np.unique(sides.station[rows]))
    return sizes
