"""What leaks from one side of a split to the other: one function a check."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from soilkit import grids
from soilkit.splits.copies import copied_series
from soilkit.splits.places import block_ids, overlapping_chips
from soilkit.splits.sides import Sides

TIMES = "unseen times"
SENSORS = "unseen sensors"
STATIONS = "unseen stations"
PLACES = "unseen places: no shared chip or coarse pixel"
NETWORKS = "unseen networks"
LADDER = (SENSORS, STATIONS, PLACES, NETWORKS)
CLAIMS = (TIMES, *LADDER)
N_EXAMPLES = 3


@dataclass(frozen=True)
class Check:
    """One question to a split.

    Attributes
    ----------
    name : the question, and ``advice`` what to do about a failure
    status : "pass", "fail", "info" (shared, but no fault by itself) or "not checked"
    denies : the claims that need this check
    is_required : whether those claims need it checked; else only a failure denies them
    rows : bool array (row,), held-out samples that are touched
    n_units : stations, pixels, columns ... that stand on several sides
    """

    name: str
    status: str
    detail: str
    denies: tuple[str, ...] = ()
    is_required: bool = False
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    n_units: int = 0
    examples: tuple[str, ...] = ()
    advice: str = ""

    def blocks(self, claim: str, *, strict: bool = False) -> bool:
        """Whether this check forbids ``claim``; if ``strict``, also when it was not made."""
        if claim not in self.denies:
            return False
        if self.is_required:
            return self.status != "pass"
        return self.status == "fail" or (strict and self.status == "not checked")


def judged(rows, n_units, *, name, status="fail", **more) -> Check:
    """A check that passes where no row is touched."""
    status = status if rows.any() else "pass"
    return Check(name, status, more.pop("detail", ""), rows=rows, n_units=int(n_units), **more)


def examples_of(values: Iterable) -> tuple[str, ...]:
    return tuple(str(value) for value, _ in zip(values, range(N_EXAMPLES), strict=False))


def same_identity(sides: Sides) -> Iterator[Check]:
    """The same sensor, and the same station, trained on and held out."""
    for k, (column, word) in enumerate((("sensor_id", "sensor"), ("station_id", "station"))):
        codes, names = pd.factorize(sides.samples[column].astype("str"), sort=True)
        rows, shared = sides.crossing(codes)
        yield judged(
            rows, len(shared), name=f"same {word}", denies=LADDER[k:], is_required=True,
            detail=f"{len(shared)} of {len(names)} {word}s on both sides",
            examples=examples_of(names[shared]), advice=f"split with by_{word}, or coarser",
        )  # fmt: skip


def overlapping(sides: Sides, *, side_m: float) -> Check:
    """Chips around stations on one side that cover ground of chips on the other."""
    common: dict[str, Any] = {
        "name": f"overlapping chips ({side_m / 1000:g} km)", "denies": LADDER[2:],
        "is_required": True, "advice": "split with by_station, which keeps such chips together",
    }  # fmt: skip
    good = _located(sides)
    which = np.flatnonzero(good)
    pairs = which[overlapping_chips(sides.stations[good], side_m=side_m)]
    rows = sides.near(pairs)
    touched = np.unique(sides.station[rows])
    near = pairs[np.isin(pairs, touched).any(axis=1)]
    names = sides.stations.index
    check = judged(
        rows, len(touched), **common,
        detail=f"{len(touched)} held-out stations share ground with one that trains",
        examples=examples_of(f"{names[a]} and {names[b]}" for a, b in near),
    )  # fmt: skip
    return _if_located(check, good)


def same_pixel(
    sides: Sides, *, ease2_km: Iterable[int], degrees: Mapping[str, float], block_size_deg: float
) -> Iterator[Check]:
    """Stations in one pixel of a coarse product, or in one block, on both sides."""
    good = _located(sides)
    places = sides.stations[good]
    lonlat = places["longitude"].to_numpy(float), places["latitude"].to_numpy(float)
    cells = {}
    for size_km in ease2_km:
        row, col = grids.ease2_cell(*lonlat, pixel_size_km=size_km)
        cells[f"same SMAP pixel (EASE-Grid 2.0, {size_km} km)"] = pd.Series(row * 10**5 + col)
    for product, size in degrees.items():
        cells[f"same {product} pixel ({size:g} degrees)"] = block_ids(places, size_deg=size)
    for name, cell in cells.items():
        check = _cell_check(
            sides, cell, good=good, name=name, denies=LADDER[2:], is_required=True,
            advice="split with by_block, and check again",
        )  # fmt: skip
        yield _if_located(check, good)
    blocks = block_ids(places, size_deg=block_size_deg)
    name = f"same block ({block_size_deg:g} degrees)"
    yield _if_located(_cell_check(sides, blocks, good=good, name=name, status="info"), good)


def _cell_check(sides: Sides, cell: pd.Series, *, good: np.ndarray, **more) -> Check:
    codes = np.full(len(good), -1)
    codes[good], names = pd.factorize(cell)
    rows, shared = sides.crossing(codes[sides.station])
    inside = np.isin(codes, shared)
    examples = (_some(sides.stations.index[codes == cell]) for cell in shared)
    return judged(
        rows, len(shared), examples=examples_of(examples), **more,
        detail=f"{len(shared)} of {len(names)} on both sides, with {inside.sum()} stations",
    )  # fmt: skip


def _some(names: pd.Index) -> str:
    more = len(names) - N_EXAMPLES
    return ", ".join(names[:N_EXAMPLES]) + (f" and {more} more" if more > 0 else "")


def _located(sides: Sides) -> np.ndarray:
    return sides.stations[["latitude", "longitude"]].astype(float).notna().all(axis=1).to_numpy()


def _if_located(check: Check, good: np.ndarray) -> Check:
    """Not checked where places are missing, unless the known ones fail already."""
    if good.all() or check.status == "fail":
        return check
    detail = f"{(~good).sum()} of {len(good)} stations have no latitude and longitude"
    return Check(
        check.name, "not checked", detail, denies=check.denies, is_required=check.is_required,
        advice="give a stations table with latitude and longitude",
    )  # fmt: skip


def same_network(sides: Sides) -> Check:
    """Networks, which share instruments and calibration, on both sides."""
    common: dict[str, Any] = {"name": "same network", "denies": LADDER[3:], "is_required": True}
    networks = sides.stations["network"].astype("str").where(sides.stations["network"].notna())
    if networks.isna().any():
        lost = f"{networks.isna().sum()} of {len(networks)} stations have no network"
        return Check(status="not checked", detail=lost, **common)
    codes, names = pd.factorize(networks, sort=True)
    rows, shared = sides.crossing(codes[sides.station])
    return judged(
        rows, len(shared), status="info", **common, examples=examples_of(names[shared]),
        detail=f"{len(shared)} of {len(names)} networks on both sides", advice="split by_network",
    )  # fmt: skip


def same_time(sides: Sides, *, min_gap_days: float, is_temporal: bool) -> Check:
    """Held-out samples close in time to one that trains, wherever that stands."""
    name = f"overlap in time (within {min_gap_days:g} days)"
    denies = CLAIMS if is_temporal else (TIMES,)
    if sides.time is None or sides.time.isna().any():
        return Check(name, "not checked", "samples lack times", denies=denies, is_required=True)
    days = (sides.time - sides.time.min()).dt.total_seconds().to_numpy() / 86400
    gap = np.full(len(days), np.inf)
    for out, trains in sides.parts():
        known = np.unique(days[trains])
        after = np.searchsorted(known, days[out])
        before, later = known[np.maximum(after - 1, 0)], known[np.minimum(after, len(known) - 1)]
        gap[out] = np.minimum(np.abs(days[out] - before), np.abs(later - days[out]))
    rows = gap < min_gap_days
    return judged(
        rows, np.unique(days[rows]).size, name=name, denies=denies, is_required=True,
        status="fail" if is_temporal else "info",
        detail=f"{rows.sum() / sides.held_out.sum():.0%} of the held-out samples",
        advice=f"leave {min_gap_days:g} days between training and held-out times",
    )  # fmt: skip


def same_scene(sides: Sides) -> Iterator[Check]:
    """Scenes over one station (chips), and scenes over any, on both sides."""
    columns = [name for name in sides.samples if str(name).endswith("_scene")]
    for name, denies, status in (("same chip", LADDER[1:], "fail"), ("same scene", (), "info")):
        if not columns:
            yield Check(name, "not checked", "samples name no scenes", denies=denies)
            continue
        rows, counts = np.zeros(len(sides.side), bool), {}
        for column in columns:
            codes, scenes = pd.factorize(sides.samples[column])
            if name == "same chip":
                codes = np.where(codes >= 0, codes + len(scenes) * sides.station, -1)
            touched, shared = sides.crossing(codes)
            rows, counts[column.removesuffix("_scene")] = rows | touched, len(shared)
        words = ", ".join(f"{source} {n}" for source, n in counts.items())
        yield judged(
            rows, sum(counts.values()), name=name, status=status, denies=denies,
            detail=f"on both sides: {words}", advice="split with by_station, or coarser",
        )  # fmt: skip


def copied_readings(sides: Sides) -> Check:
    """One series under two sensors' names, on both sides."""
    common: dict[str, Any] = {"name": "duplicated readings", "denies": LADDER}
    if sides.label is None or sides.time is None:
        return Check(status="not checked", detail="samples lack readings or times", **common)
    codes, names = pd.factorize(sides.samples["sensor_id"].astype("str"), sort=True)
    pairs = copied_series(codes, sides.time, values=sides.label)
    return _copies_check(
        sides, pairs, codes=codes, names=names, **common, advice="keep one sensor of each pair"
    )


def same_coarse_series(sides: Sides, column: str, *, values: np.ndarray) -> Check:
    """Stations that the coarse product itself cannot tell apart, on both sides."""
    common: dict[str, Any] = {"name": f"same series of {column}", "denies": LADDER[2:]}
    if sides.time is None:
        return Check(status="not checked", detail="samples lack times", **common)
    pairs = copied_series(sides.station, sides.time, values=values)
    return _copies_check(
        sides, pairs, codes=sides.station, names=sides.stations.index, **common,
        advice="split with by_block, and check again",
    )  # fmt: skip


def _copies_check(sides: Sides, pairs: np.ndarray, *, codes, names, **more) -> Check:
    present = np.zeros((len(names), sides.n_sides), bool)
    present[codes, sides.side] = True
    across = pairs[(present[pairs[:, 0]] | present[pairs[:, 1]]).sum(axis=1) > 1]
    # Of a pair on both sides every held-out row is touched: its twin, or itself, trains.
    rows = sides.held_out & np.isin(codes, across)
    examples = examples_of(f"{names[a]} = {names[b]}" for a, b in across)
    return judged(
        rows, len(across), examples=examples, **more,
        detail=f"{len(pairs)} pairs have the same values, {len(across)} of them on both sides",
    )  # fmt: skip
