"""What leaks from one side of a split to the other: one function a check."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, triu

from soilkit.constants import CHIP_SIDE_M
from soilkit.errors import ContractError
from soilkit.metrics.points import pearson_r
from soilkit.metrics.splits.folds import (
    BLOCK_SIZE_DEG,
    LABELS,
    block_ids,
    ease2_ids,
    overlapping_chips,
)

LABEL_COLUMNS = ("soil_moisture_m3_m3", "observed_m3_m3")
DEGREE_GRIDS = {"SMAP10KM": 0.1, "GLDAS": 0.25}  # counted on from 0 N, 0 E


@dataclass(frozen=True)
class Sides:
    """Samples that train or are held out, every array (row,).

    ``side`` is a number: 0 trains and 1 is held out; or it is the fold, where each fold is held
    out in turn and all others train. ``position`` is the row in the table that was audited.
    ``station`` numbers the rows of ``stations``; ``names`` says what each side is called.
    """

    samples: pd.DataFrame
    side: np.ndarray
    held_out: np.ndarray
    position: np.ndarray
    station: np.ndarray
    stations: pd.DataFrame
    names: tuple[str, ...]
    has_folds: bool

    @property
    def n_sides(self) -> int:
        return int(self.side.max()) + 1

    @property
    def time(self) -> pd.Series | None:
        """The samples' times, if they have any."""
        return self.samples.get("time")

    @property
    def label(self) -> np.ndarray | None:
        """The in-situ moisture, (row,), m3 m-3, if the samples have one."""
        names = [name for name in LABEL_COLUMNS if name in self.samples]
        return self.samples[names[0]].to_numpy(float) if names else None

    @property
    def located(self) -> np.ndarray:
        """The stations whose place is known, (station,) of bool."""
        return self.stations[["latitude", "longitude"]].astype(float).notna().all(axis=1).to_numpy()

    def crossing(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Held-out rows (row,) whose key stands on another side too, and the sorted keys that do.

        ``keys`` is an int array (row,); negative ones belong to nothing.
        """
        known = keys >= 0
        pairs = np.unique(keys[known].astype(np.int64) * self.n_sides + self.side[known])
        units, n_sides = np.unique(pairs // self.n_sides, return_counts=True)
        shared = units[n_sides > 1]
        return self.held_out & np.isin(keys, shared), shared

    def present(self, units: np.ndarray, n_units: int) -> np.ndarray:
        """On which sides each unit has rows, bool (unit, side), of units (row,)."""
        present = np.zeros((n_units, self.n_sides), bool)
        present[units, self.side] = True
        return present

    def parts(self) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        """Masks (row,) of who is held out and of who trains, one pair a fold."""
        for side in range(self.n_sides) if self.has_folds else [1]:
            yield self.side == side, self.side != side


def take_sides(samples: pd.DataFrame, split, *, stations: pd.DataFrame | None, held_out) -> Sides:
    """Samples sorted into those that train and those held out, or into folds.

    Raises ``ContractError`` when split and samples do not belong together, or a side is empty.
    """
    if len(split) != len(samples):
        raise ContractError(
            f"A split has one label a sample; found {len(split)} labels for {len(samples)} samples."
        )
    if isinstance(split, pd.Series) and not split.index.equals(samples.index):
        raise ContractError(
            "The split's index is not the samples': take the labels that a split gave for this "
            "very table, or reset both indices."
        )
    numbers, names, has_folds = _numbers(pd.Series(split), tuple(held_out))
    used = np.flatnonzero(numbers >= 0)
    rows = samples.iloc[used].reset_index(drop=True)
    for column in ("sensor_id", "station_id"):
        if column not in rows or rows[column].isna().any():
            raise ContractError(f"An audit needs the {column} of every sample; some or all lack.")
    codes, ids = pd.factorize(rows["station_id"].astype("str"), sort=True)
    table = rows if stations is None else stations
    table = table.assign(station_id=table["station_id"].astype("str"))
    places = table.drop_duplicates("station_id").set_index("station_id")
    places = places.reindex(
        index=pd.Index(ids, name="station_id"), columns=["latitude", "longitude", "network"]
    )
    side = numbers[used]
    is_out = np.ones(len(rows), bool) if has_folds else side == 1
    return Sides(rows, side, is_out, used, codes, places, names, has_folds)


def _numbers(
    labels: pd.Series, held_out: tuple[str, ...]
) -> tuple[np.ndarray, tuple[str, ...], bool]:
    """A side per sample, -1 where it takes no part; the sides' names; whether they are folds."""
    text = labels.astype("str").where(labels.notna())
    names = sorted(set(text.dropna()))
    if not set(names) & {*LABELS, *held_out}:
        if len(names) < 2:
            raise ContractError(f"Folds need at least two names; found {names}.")
        return pd.factorize(text, sort=True)[0], tuple(names), True
    train, *_ = LABELS
    if train in held_out:
        raise ContractError(f"{train!r} trains and {held_out} is held out: no label can be both.")
    numbers = np.where(text == train, 0, np.where(text.isin(held_out), 1, -1))
    if not {0, 1} <= set(numbers):
        raise ContractError(
            f"An audit needs samples labelled {train} and {' or '.join(held_out)}; found "
            f"{', '.join(names)}. Say in held_out which labels are, and call what trains {train!r}."
        )
    return numbers, (train, " + ".join(held_out)), False


# Series that are copies of each other, found by the values that they share.

MIN_COMMON = 10  # common times below which likeness proves nothing
MIN_SHARE = 0.9  # of the common times, with the same value
MIN_DISTINCT = 5  # a dry spell at the sensor's floor is no copy
MOST_UNITS = 200  # a value that more units share at one time is a floor or a fill value
DECIMALS = 9
PAIRS_AT_ONCE = 20_000


def copied_series(units: np.ndarray, times, *, values: np.ndarray) -> np.ndarray:
    """Pairs of units whose series have the same values at the same times, int array (pair, 2).

    Two series are copies when at least ten common times exist, nine tenths of them with equal
    values, of which five and more are distinct; the smaller unit stands first. One finite value a
    unit (from 0, (row,)) and time is looked at. Time and memory grow with the pairs that share a
    value at a time, not with all pairs.
    """
    table = pd.DataFrame({"unit": units, "time": times, "value": np.round(values, DECIMALS)})
    table = table[np.isfinite(table["value"])].drop_duplicates(["unit", "time"])
    groups = table.groupby(["time", "value"], sort=False)
    table = table.assign(group=groups.ngroup(), size=groups["unit"].transform("size"))
    shared = table[(table["size"] > 1) & (table["size"] <= MOST_UNITS)]
    if shared.empty:
        return np.zeros((0, 2), np.int64)
    equal, group = _incidence(shared["unit"], shared["group"])
    upper = triu(equal @ equal.T, k=1).tocoo()
    pairs = np.column_stack([upper.row, upper.col, upper.data])[upper.data >= MIN_COMMON]
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].astype(np.int64)
    pairs, n_equal = pairs[:, :2], pairs[:, 2]
    present, times = _incidence(table["unit"], table["time"])
    pairs = pairs[n_equal >= MIN_SHARE * _n_distinct(present, pairs, np.arange(len(times)))]
    of_group = shared.drop_duplicates("group").set_index("group")["value"].loc[group]
    return pairs[_n_distinct(equal, pairs, pd.factorize(of_group)[0]) >= MIN_DISTINCT]


def _incidence(units: pd.Series, groups: pd.Series):
    """Sparse ones (unit, group), and which group each column is."""
    columns, names = pd.factorize(groups)
    shape = (int(units.max()) + 1, len(names))
    ones = np.ones(len(units), np.int32)
    return coo_array((ones, (units.to_numpy(), columns)), shape).tocsr(), names


def _n_distinct(incidence, pairs: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Distinct codes (column,) of the columns that both units of a pair have, (pair,)."""
    counts = [np.zeros(0, np.int64)]
    for first in range(0, len(pairs), PAIRS_AT_ONCE):
        part = pairs[first : first + PAIRS_AT_ONCE]
        both = (incidence[part[:, 0]] * incidence[part[:, 1]]).tocoo()
        distinct = np.unique(both.row.astype(np.int64) * len(codes) + codes[both.col])
        counts.append(np.bincount(distinct // len(codes), minlength=len(part)))
    return np.concatenate(counts)


# The checks, and the claims that each of them can deny.


class Claim(StrEnum):
    """What a result on a split may be called, the weakest first; rules ask for members only."""

    LEAKY = "leaky"
    RANDOM_ROWS = "random rows (leaky)"
    NOT_AUDITABLE = "not auditable: the training stations are unknown"
    TIMES = "unseen times"
    SENSORS = "unseen sensors"
    STATIONS = "unseen stations"
    PLACES = "unseen places: no shared chip or coarse pixel"
    NETWORKS = "unseen networks"

    @property
    def is_leaky(self) -> bool:
        """Whether the held-out samples are no test."""
        return self in (Claim.LEAKY, Claim.RANDOM_ROWS)

    @property
    def is_unseen(self) -> bool:
        """Whether the scored stations may be called unseen."""
        return self in (Claim.STATIONS, Claim.PLACES, Claim.NETWORKS)


LADDER = (Claim.SENSORS, Claim.STATIONS, Claim.PLACES, Claim.NETWORKS)
CLAIMS = (Claim.TIMES, *LADDER)
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

    def blocks(self, claim: str) -> bool:
        """Whether this check forbids ``claim``."""
        is_refuted = self.status != "pass" if self.is_required else self.status == "fail"
        return claim in self.denies and is_refuted


def _answered(name, rows, n_units, *, detail, examples=(), fault="fail", **rest) -> Check:
    """A check that passes where no row is touched, with the first few examples."""
    shown = tuple(str(value) for value, _ in zip(examples, range(N_EXAMPLES), strict=False))
    status = fault if rows.any() else "pass"
    return Check(name, status, detail, rows=rows, n_units=int(n_units), examples=shown, **rest)


def same_names(sides: Sides) -> Iterator[Check]:
    """The same sensor, station or network (common instruments and calibration) on both sides."""
    for k, word, fault in ((0, "sensor", "fail"), (1, "station", "fail"), (3, "network", "info")):
        if word == "network":
            values = sides.stations["network"].iloc[sides.station]
            if n_lost := sides.stations["network"].isna().sum():
                lost = f"{n_lost} of {len(sides.stations)} stations have no network"
                yield Check("same network", "not checked", lost, LADDER[k:], is_required=True)
                continue
        else:
            values = sides.samples[f"{word}_id"]
        codes, names = pd.factorize(values.astype("str"), sort=True)
        rows, shared = sides.crossing(codes)
        yield _answered(
            f"same {word}", rows, len(shared), denies=LADDER[k:], is_required=True, fault=fault,
            detail=f"{len(shared)} of {len(names)} {word}s on both sides", examples=names[shared],
            advice=f"split with by_{word}" + (", or coarser" if k < 3 else ""),
        )  # fmt: skip


def _if_located(sides: Sides, check: Check) -> Check:
    """Not checked where places are missing, unless the known ones fail already."""
    lost = ~sides.located
    if not lost.any() or check.status == "fail":
        return check
    return Check(
        check.name, "not checked",
        f"{lost.sum()} of {len(lost)} stations have no latitude and longitude",
        check.denies, check.is_required, advice="give a stations table with latitude and longitude",
    )  # fmt: skip


def overlapping(sides: Sides) -> Check:
    """Chips around stations on one side that cover ground of chips on the other."""
    which, names = np.flatnonzero(sides.located), sides.stations.index
    pairs = which[overlapping_chips(sides.stations.iloc[which])]
    around = sides.present(sides.station, len(names))
    reach, (a, b) = around.copy(), pairs.T
    np.logical_or.at(reach, a, around[b])
    np.logical_or.at(reach, b, around[a])
    others = reach.sum(axis=1)[sides.station] - reach[sides.station, sides.side]
    rows = sides.held_out & (others > 0)
    touched = np.unique(sides.station[rows])
    near = pairs[np.isin(pairs, touched).any(axis=1)]
    check = _answered(
        f"overlapping chips ({CHIP_SIDE_M / 1000:g} km)", rows, len(touched),
        detail=f"{len(touched)} held-out stations share ground with one that trains",
        examples=(f"{names[a]} and {names[b]}" for a, b in near), denies=LADDER[2:],
        is_required=True, advice="split with by_station, which keeps such chips together",
    )  # fmt: skip
    return _if_located(sides, check)


def same_pixel(sides: Sides, *, ease2_km: Iterable[int]) -> Iterator[Check]:
    """Stations in one pixel of a coarse product, or in one 2-degree block, on both sides."""
    places = sides.stations[sides.located]
    cells = {
        f"same SMAP pixel (EASE-Grid 2.0, {size} km)": ease2_ids(places, pixel_size_km=size)
        for size in ease2_km
    }
    for product, size in DEGREE_GRIDS.items():
        cells[f"same {product} pixel ({size:g} degrees)"] = block_ids(places, size_deg=size)
    block = f"same block ({BLOCK_SIZE_DEG:g} degrees)"
    need = {
        "denies": LADDER[2:], "is_required": True,
        "advice": "split with by_block, and check again",
    }  # fmt: skip
    for name, cell in {**cells, block: block_ids(places)}.items():
        codes = np.full(len(sides.stations), -1)
        codes[sides.located], names = pd.factorize(cell)
        rows, shared = sides.crossing(codes[sides.station])
        n = np.isin(codes, shared).sum()
        detail = f"{len(shared)} of {len(names)} on both sides, with {n} stations"
        examples = (_some(sides.stations.index[codes == code]) for code in shared)
        rest = {"fault": "info"} if name == block else need
        yield _if_located(
            sides, _answered(name, rows, len(shared), detail=detail, examples=examples, **rest)
        )


def _some(names: pd.Index) -> str:
    more = len(names) - N_EXAMPLES
    return ", ".join(names[:N_EXAMPLES]) + (f" and {more} more" if more > 0 else "")


def same_time(sides: Sides, *, is_temporal: bool) -> Check:
    """Held-out samples close in time to one that trains, wherever that stands."""
    name = f"overlap in time (within {MIN_GAP_DAYS:g} days)"
    denies = CLAIMS if is_temporal else (Claim.TIMES,)
    if sides.time is None or sides.time.isna().any():
        return Check(name, "not checked", "samples lack times", denies, is_required=True)
    days = (sides.time - sides.time.min()).dt.total_seconds().to_numpy() / 86400
    gap = np.full(len(days), np.inf)
    for out, trains in sides.parts():
        known = np.unique(days[trains])
        after = np.searchsorted(known, days[out])
        before, later = known[np.maximum(after - 1, 0)], known[np.minimum(after, len(known) - 1)]
        gap[out] = np.minimum(np.abs(days[out] - before), np.abs(later - days[out]))
    rows = gap < MIN_GAP_DAYS
    return _answered(
        name, rows, np.unique(days[rows]).size, denies=denies, is_required=True,
        fault="fail" if is_temporal else "info",
        detail=f"{rows.sum() / sides.held_out.sum():.0%} of the held-out samples",
        advice=f"leave {MIN_GAP_DAYS:g} days between training and held-out times",
    )  # fmt: skip


def same_scene(sides: Sides) -> Iterator[Check]:
    """Scenes over one station (chips), and scenes over any, on both sides."""
    columns = [name for name in sides.samples if str(name).endswith("_scene")]
    for name, denies, fault in (("same chip", LADDER[1:], "fail"), ("same scene", (), "info")):
        if not columns:
            yield Check(name, "not checked", "samples name no scenes", denies)
            continue
        rows, counts = np.zeros(len(sides.side), bool), {}
        for column in columns:
            codes, scenes = pd.factorize(sides.samples[column])
            if name == "same chip":
                codes = np.where(codes >= 0, codes + len(scenes) * sides.station, -1)
            touched, shared = sides.crossing(codes)
            rows, counts[column.removesuffix("_scene")] = rows | touched, len(shared)
        words = ", ".join(f"{source} {n}" for source, n in counts.items())
        yield _answered(
            name, rows, sum(counts.values()), detail=f"on both sides: {words}", denies=denies,
            fault=fault, advice="split with by_station, or coarser",
        )  # fmt: skip


def same_series(sides: Sides, values: np.ndarray | None, *, column: str = "") -> Check:
    """One series of readings under two sensors' names, on both sides.

    With the ``column`` of a coarse product: stations that the product itself cannot tell apart.
    """
    name, advice = "duplicated readings", "keep one sensor of each pair"
    if column:
        name, advice = f"same series of {column}", "split with by_block, and check again"
    denies = LADDER[2:] if column else LADDER
    if values is None or sides.time is None:
        lacking = "times" if column else "readings or times"
        return Check(name, "not checked", f"samples lack {lacking}", denies)
    codes, names = sides.station, sides.stations.index
    if not column:
        codes, names = pd.factorize(sides.samples["sensor_id"].astype("str"), sort=True)
    pairs = copied_series(codes, sides.time, values=values)
    present = sides.present(codes, len(names))
    across = pairs[(present[pairs[:, 0]] | present[pairs[:, 1]]).sum(axis=1) > 1]
    # Of a pair on both sides every held-out row is touched: its twin, or itself, trains.
    rows = sides.held_out & np.isin(codes, across)
    detail = f"{len(pairs)} pairs have the same values, {len(across)} of them on both sides"
    examples = (f"{names[a]} = {names[b]}" for a, b in across)
    return _answered(
        name, rows, len(across), detail=detail, examples=examples, denies=denies, advice=advice
    )


# What a model ate that it should not have: held-out statistics, and the label itself.

NORMALISED = "normalisation saw held-out samples"
LABEL_EATEN = "label among the features"
MIN_GAP_DAYS = 10.0  # surface moisture decays over 5 to 15 days
MIN_PAIRS = 30  # fewer rows show no equality of a feature with the label
ALMOST_ONE = 0.9999  # a correlation that no predictor has
LIKELY, FEW = 0.99, 2000  # rows enough to tell a predictor from the label
ID_COLUMNS = ("sample_id", "sensor_id", "station_id")


def fitted_on_training(sides: Sides, fitted_on, *, everything: pd.DataFrame) -> Check:
    """Whether means, scalings and the like know training samples only.

    ``fitted_on`` is ids of samples, sensors or stations; for folds a mapping of fold to ids; None
    where unknown. ``everything`` is the audited table with the samples on neither side.
    """
    if fitted_on is None:
        words = "nobody said what they were fitted on"
        return Check(NORMALISED, "not checked", words, CLAIMS, advice="give fitted_on")
    if sides.has_folds != isinstance(fitted_on, Mapping):
        raise ContractError(
            "Folds are fitted one by one: give fitted_on as {fold: ids}." if sides.has_folds
            else "Only folds take fitted_on as a mapping; give the ids alone."
        )  # fmt: skip
    rows, strange, n_ids = np.zeros(len(sides.side), bool), [], 0
    if sides.has_folds:
        if lost := sorted(set(sides.names) - {str(fold) for fold in fitted_on}):
            raise ContractError(f"fitted_on knows nothing of the folds {', '.join(lost[:3])}.")
        for fold, ids in fitted_on.items():
            seen, unknown = _seen(everything, ids)
            strange += unknown
            rows |= seen[sides.position] & (sides.side == sides.names.index(str(fold)))
        n_ids = int(rows.sum())
    else:
        seen, strange = _seen(everything, fitted_on)
        rows = seen[sides.position] & sides.held_out
        n_ids = int(seen.sum() - (seen[sides.position] & ~sides.held_out).sum())
    return Check(
        NORMALISED, "fail" if n_ids or strange else "pass",
        f"{n_ids} samples that do not train and {len(strange)} unknown ids took part", CLAIMS,
        rows=rows, n_units=n_ids + len(strange), examples=tuple(strange[:N_EXAMPLES]),
        advice="fit them on training samples alone",
    )  # fmt: skip


def _seen(everything: pd.DataFrame, ids: Iterable) -> tuple[np.ndarray, list]:
    """Rows whose sample, sensor or station has one of the ids; and ids that nothing has."""
    wanted = pd.Series(list(ids)).astype("str").drop_duplicates()
    columns = {n: everything[n].astype("str") for n in ID_COLUMNS if n in everything}
    known = {name: wanted.isin(column) for name, column in columns.items()}
    best = max(known, key=lambda name: known[name].sum())  # of equals the first, the finest
    return columns[best].isin(wanted).to_numpy(), sorted(wanted[~known[best]])


def label_in_features(sides: Sides, features: pd.DataFrame | None) -> Check:
    """Features (row,) that are the label in disguise: equal to it, or a monotone function of it.

    A column fails where Pearson's or Spearman's correlation with the label is 0.9999 and more in
    absolute value over at least 30 finite pairs.
    """
    if features is None or sides.label is None:
        lacking = "features" if features is None else "readings"
        return Check(LABEL_EATEN, "not checked", f"no {lacking} were given", CLAIMS)
    label, same, thin = sides.label, [], []
    numeric = features.select_dtypes("number")
    for name, column in numeric.items():
        values = column.to_numpy(float)
        good = np.isfinite(values) & np.isfinite(label)
        x, y, step = values[good], label[good], max(good.sum() // FEW, 1)
        if len(x) < MIN_PAIRS:
            thin.append(name)
        # A few rows, evenly taken, settle most columns without ranking all of them.
        elif _likeness(x[::step], y[::step]) >= LIKELY and _likeness(x, y) >= ALMOST_ONE:
            same.append(name)
    return _answered(
        LABEL_EATEN, sides.held_out & bool(same), len(same), denies=CLAIMS, examples=same,
        detail=f"{len(same)} of {numeric.shape[1]} columns give the label away"
        + (f"; {len(thin)} with too few values to tell" if thin else ""),
        advice="leave them out",
    )  # fmt: skip


def _likeness(x: np.ndarray, y: np.ndarray) -> float:
    ranks = [pd.Series(values).rank() for values in (x, y)]
    return np.nan_to_num(np.abs([pearson_r(x, y), pearson_r(*ranks)])).max()
