"""What an audit found, as a table, a claim, and a refusal."""

import html
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from soilkit.errors import LeakageError, UnknownNameError
from soilkit.splits.checks import CLAIMS, LADDER, SENSORS, TIMES, Check
from soilkit.splits.places import CHIP_SIDE_M

RANDOM_ROWS = "random rows (leaky)"
FAR_KM = 10.0
# Seed 001's Fig. 6: validation sensors within a chip's 2.56 km, and beyond 10 km, of training.
PAPER = "Batchu et al. (2022), Fig. 6: about 12 % below 2.56 km and 70 % above 10 km"
HEADINGS = ("check", "status", "held-out samples", "what was found", "examples")
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
        rows = [
            {
                "check": c.name, "status": c.status, "n_samples": int(c.rows.sum()),
                "share": c.rows.sum() / self.n_held_out, "n_units": c.n_units, "detail": c.detail,
                "examples": "; ".join(c.examples),
            }
            for c in self.checks
        ]  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def distance_shares(self) -> dict[str, float]:
        """Shares of held-out stations by their distance to training, and its median [km]."""
        km = self.distance_km.to_numpy(float)
        if not len(km):
            return {}
        return {
            "at a training station": float((km == 0).mean()),
            "below 2.56 km": float((km < CHIP_SIDE_M / 1000).mean()),
            "above 10 km": float((km > FAR_KM).mean()),
            "median_km": float(np.median(km)),
        }

    def claim(self) -> str:
        """The strongest honest label of a result on this split.

        One of "unseen networks", "unseen places: no shared chip or coarse pixel", "unseen
        stations", "unseen sensors", "unseen times", "random rows (leaky)"; or "leaky: ..." with
        the checks that failed where sensors are apart and something else is not.
        """
        for claim in (*LADDER[::-1], TIMES):
            if not self.blocking(claim):
                return claim
        if any(c.name == "same sensor" for c in self.blocking(SENSORS)):
            return RANDOM_ROWS
        return f"leaky: {', '.join(c.name for c in self.blocking(SENSORS))}"

    def blocking(self, claim: str, *, strict: bool = False) -> list[Check]:
        """The checks that forbid ``claim``; if ``strict``, also those that were not made.

        Raises
        ------
        UnknownNameError
            For a claim that there is not; the part before a colon is enough.
        """
        full = [name for name in CLAIMS if claim in (name, name.split(":")[0])]
        if not full:
            raise UnknownNameError(f"No claim {claim!r}; there are {'; '.join(CLAIMS)}.")
        return [check for check in self.checks if check.blocks(full[0], strict=strict)]

    def require(self, claim: str, *, strict: bool = False) -> None:
        """Refuse to go on unless a result on this split may be called ``claim``.

        Parameters
        ----------
        claim : "unseen sensors", "unseen stations", "unseen places", "unseen networks" or
            "unseen times"
        strict : refuse too where a check was not made for lack of information

        Raises
        ------
        LeakageError
            With every check that forbids it, and what to do.
        """
        found = self.blocking(claim, strict=strict)
        if found:
            raise LeakageError(
                f"No result on the split {self.split!r} may be called {claim!r}; "
                f"the most that holds is {self.claim()!r}.\n" + "\n".join(map(_line, found))
            )

    def _heading(self) -> list[str]:
        sizes = ", ".join(f"{n:,} {name}" for name, n in self.sizes.items())
        lines = [f"Leakage audit of {self.split}: {self.claim()}", sizes]
        shares = self.distance_shares
        if shares:
            lines.append(
                f"nearest training station: {shares['below 2.56 km']:.0%} of the held-out stations "
                f"below 2.56 km, {shares['above 10 km']:.0%} above 10 km, median "
                f"{shares['median_km']:.3g} km ({PAPER})"
            )
        return lines

    def _cells(self) -> list[tuple[str, ...]]:
        rows = self.table
        counts = zip(rows["n_samples"], rows["share"], strict=True)
        touched = [f"{n:,} ({share:.0%})" if n else "" for n, share in counts]
        columns = (rows["check"], rows["status"], touched, rows["detail"], rows["examples"])
        return list(zip(*columns, strict=True))

    def __str__(self) -> str:
        cells = [HEADINGS, *self._cells()]
        widths = [max(len(row[i]) for row in cells) for i in range(4)]
        table = [
            "  ".join([*(text.ljust(w) for text, w in zip(row[:4], widths, strict=True)), row[4]])
            for row in cells
        ]
        return "\n".join([*self._heading(), "", *(line.rstrip() for line in table)])

    def _repr_html_(self) -> str:
        title, *rest = map(html.escape, self._heading())
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in HEADINGS)
        body = "".join(
            "<tr>" + "".join(_cell(text, is_status=i == 1) for i, text in enumerate(row)) + "</tr>"
            for row in self._cells()
        )
        lines = "".join(f"<p>{line}</p>" for line in rest)
        return f"<b>{title}</b>{lines}<table><tr>{head}</tr>{body}</table>"


def _line(check: Check) -> str:
    example = f" (such as {check.examples[0]})" if check.examples else ""
    advice = f"; {check.advice}" if check.advice else ""
    return f"- {check.name}: {check.status}, {check.detail}{example}{advice}"


def _cell(text: str, *, is_status: bool) -> str:
    colour = f";color:{COLOURS[text]};font-weight:bold" if is_status else ""
    return f"<td style='text-align:left{colour}'>{html.escape(text)}</td>"
