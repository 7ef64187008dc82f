"""The leakage audit: what a split keeps apart, and what a result on it may be called."""

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from soilkit.constants import CHIP_SIDE_M
from soilkit.errors import ContractError, LeakageError, UnknownNameError
from soilkit.metrics.splits import checks
from soilkit.metrics.splits.checks import CLAIMS, LADDER, Check, Claim, Sides
from soilkit.metrics.splits.folds import nearest_km

FAR_KM = 10.0
# Batchu et al.'s Fig. 6: validation sensors within a chip's 2.56 km, and beyond 10 km, of training.
PAPER = "Batchu et al. (2022), Fig. 6: about 12 % below 2.56 km and 70 % above 10 km"
HEADINGS = {"n_samples": "held-out samples", "detail": "what was found"}
COLOURS = {"pass": "#1b7837", "fail": "#b2182b", "info": "#666666", "not checked": "#b35806"}


@dataclass(frozen=True)
class AuditReport:
    """The checks of one split; printed as a table in a terminal and in a notebook.

    Attributes
    ----------
    split : its name
    checks : in the order they were made
    distance_km : Series by station_id, from each held-out station to the nearest that trains
    sizes : samples and stations a side
    n_held_out : held-out samples; all of them where folds take turns
    """

    split: str
    checks: tuple[Check, ...]
    distance_km: pd.Series
    sizes: Mapping[str, int]
    n_held_out: int

    @property
    def table(self) -> pd.DataFrame:
        """One row a check: status, held-out samples touched and their share, units, examples."""
        names = ["check", "status", "n_samples", "share", "n_units", "detail", "examples"]
        rows = [
            (c.name, c.status, n := int(c.rows.sum()), n / self.n_held_out, c.n_units, c.detail,
             "; ".join(c.examples))
            for c in self.checks
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=names)

    @property
    def distance_shares(self) -> dict[str, float]:
        """Shares of held-out stations by their distance to training, its least and median [km]."""
        km = self.distance_km.to_numpy(float)
        if not len(km):
            return {}
        return {
            "at a training station": float((km == 0).mean()),
            "below 2.56 km": float((km < CHIP_SIDE_M / 1000).mean()),
            "above 10 km": float((km > FAR_KM).mean()),
            "least_km": float(km.min()),
            "median_km": float(np.median(km)),
        }

    @property
    def level(self) -> Claim:
        """The strongest claim that no check forbids."""
        allowed = (claim for claim in (*LADDER[::-1], Claim.TIMES) if not self.blocking(claim))
        same = any(check.name == "same sensor" for check in self.blocking(Claim.SENSORS))
        return next(allowed, Claim.RANDOM_ROWS if same else Claim.LEAKY)

    def claim(self) -> str:
        """The strongest honest label of a result on this split.

        One of "unseen networks", "unseen places: no shared chip or coarse pixel", "unseen
        stations", "unseen sensors", "unseen times", "random rows (leaky)"; or "leaky: ..." with
        the checks that failed where sensors are apart and something else is not.
        """
        level = self.level
        if level is Claim.LEAKY:
            return f"{level}: {', '.join(c.name for c in self.blocking(Claim.SENSORS))}"
        return level.value

    def blocking(self, claim: str) -> list[Check]:
        """The checks that forbid ``claim``.

        Raises ``UnknownNameError`` for a claim that there is not; the part before a colon is
        enough.
        """
        full = [name for name in CLAIMS if claim in (name, name.split(":")[0])]
        if not full:
            raise UnknownNameError(f"No claim {claim!r}; there are {'; '.join(CLAIMS)}.")
        return [check for check in self.checks if check.blocks(full[0])]

    def require(self, claim: str) -> None:
        """Refuse to go on unless a result on this split may be called ``claim``, as of ``claim()``.

        Raises ``LeakageError`` with every check that forbids it, and what to do.
        """
        if blocking := self.blocking(claim):
            lines = [
                f"- {c.name}: {c.status}, {c.detail}"
                + (f" (such as {c.examples[0]})" if c.examples else "")
                + (f"; {c.advice}" if c.advice else "")
                for c in blocking
            ]
            raise LeakageError(
                f"No result on the split {self.split!r} may be called {claim!r}; "
                f"the most that holds is {self.claim()!r}.\n" + "\n".join(lines)
            )

    def _heading(self) -> list[str]:
        sizes = ", ".join(f"{n:,} {name}" for name, n in self.sizes.items())
        lines = [f"Leakage audit of {self.split}: {self.claim()}", sizes]
        if shares := self.distance_shares:
            lines.append(
                f"nearest training station: {shares['below 2.56 km']:.0%} of the held-out stations "
                f"below 2.56 km, {shares['above 10 km']:.0%} above 10 km, least "
                f"{shares['least_km']:.3g}, median {shares['median_km']:.3g} km ({PAPER})"
            )
        return lines

    def _cells(self) -> pd.DataFrame:
        """The table as text, with words for heads."""
        table = self.table
        counts = zip(table["n_samples"], table["share"], strict=True)
        table["n_samples"] = [f"{n:,} ({share:.0%})" if n else "" for n, share in counts]
        return table.drop(columns=["share", "n_units"]).rename(columns=HEADINGS).astype("str")

    def __str__(self) -> str:
        cells = self._cells().T.reset_index().T
        lines = cells.apply(lambda column: column.str.ljust(column.str.len().max())).to_numpy()
        return "\n".join([*self._heading(), "", *("  ".join(line).rstrip() for line in lines)])

    def _repr_html_(self) -> str:
        title, *rest = map(html.escape, self._heading())
        cells = self._cells().map(html.escape)
        ink = "color-mix(in srgb, {} 60%, CanvasText)"  # which a dark page lightens
        inks = {word: ink.format(colour) for word, colour in COLOURS.items()}
        cells["status"] = [f"<b style='color: {inks[w]}'>{w}</b>" for w in cells["status"]]
        with pd.option_context("display.max_colwidth", None):
            table = cells.to_html(index=False, escape=False, border=0, justify="left")
        return f"<b>{title}</b>{''.join(f'<p>{line}</p>' for line in rest)}{table}"


def audit(
    samples: pd.DataFrame,
    split,
    *,
    stations: pd.DataFrame | None,
    features: pd.DataFrame | None = None,
    fitted_on: Iterable | Mapping | None = None,
    held_out: tuple[str, ...] = ("test",),
    coarse_columns: tuple[str, ...] = (),
    kind: str = "spatial",
) -> AuditReport:
    """Check a split for everything that lets a model remember instead of predict.

    Pixels are those of SMAP10KM, GLDAS and the EASE-Grid 2.0 of 9 km, and of 36 km where a coarse
    column is SMAP's, whose radiometer sees no less. Raises ``ContractError`` when the tables do not
    belong together or one side is empty, and for another ``kind``.

    Parameters
    ----------
    samples : samples or predictions table; ``<source>_scene`` columns are looked at where they are
    split : label per sample, from ``metrics.splits`` or elsewhere; values other than "train",
        "validation", "test" (and those ``held_out``) are folds, each held out in turn
    stations : stations table; None when the samples carry latitude, longitude and network, or
        nobody knows them
    features : what the model eats, with ``sample_id`` or on the samples' index
    fitted_on : ids of the samples, sensors or stations that means and scalings were fitted on; for
        folds a mapping of fold to ids
    held_out : labels of the samples that a score is made of; "train" trains
    coarse_columns : feature columns that hold a coarse product: stations with one series share its
        pixel, whatever its grid
    kind : "spatial", or "temporal" for splits in time, where closeness in time is a fault

    Returns
    -------
    AuditReport
    """
    if kind not in ("spatial", "temporal"):
        raise ContractError(f"A split is 'spatial' or 'temporal', found {kind!r}.")
    ease2_km = (9, 36) if any("smap" in c.lower() for c in coarse_columns) else (9,)
    sides = checks.take_sides(samples, split, stations=stations, held_out=held_out)
    eaten = _features(features, samples, sides)
    sensor, station, network = checks.same_names(sides)
    made = [
        sensor,
        station,
        *checks.same_scene(sides),
        checks.overlapping(sides),
        *checks.same_pixel(sides, ease2_km=ease2_km),
        *_coarse(sides, eaten, coarse_columns),
        network,
        checks.same_time(sides, is_temporal=kind == "temporal"),
        checks.same_series(sides, sides.label),
        checks.label_in_features(sides, eaten),
        checks.fitted_on_training(sides, fitted_on, everything=samples),
    ]
    name, n = str(getattr(split, "name", None) or "unnamed split"), int(sides.held_out.sum())
    return AuditReport(name, tuple(made), _distances(sides), _sizes(sides), n)


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
        yield checks.same_series(sides, table[column].to_numpy(float), column=column)


def _distances(sides: Sides) -> pd.Series:
    """Kilometres from each held-out station to the nearest that trains, by station_id.

    A station held out in several folds counts once a fold. Stations of unknown place are left out.
    """
    good, distances = sides.located, []
    for out, trains in sides.parts():
        here, there = (np.unique(sides.station[rows]) for rows in (out, trains))
        here, there = here[good[here]], there[good[there]]
        if len(here) and len(there):
            places = sides.stations.iloc[here]
            km = nearest_km(places, sides.stations.iloc[there])
            distances.append(pd.Series(km, index=places.index))
    empty = pd.Series(dtype=float, index=pd.Index([], name="station_id"))
    return pd.concat(distances or [empty]).rename("distance_km")


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
