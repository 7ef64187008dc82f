"""Coasts and borders of Natural Earth under a map, without a network."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

OUTLINES = Path(__file__).parents[1] / "outlines.npz"
COAST, BORDER = "0.35", "0.55"
COLOURS = {"land": COAST, "border": BORDER}
Window = tuple[float, float, float, float]  # west, south, east, north, degrees


@cache
def outlines() -> Mapping[str, list[np.ndarray]]:
    """Natural Earth's land and borders, {kind: lines of (point, 2) degrees}, 1:50 million."""
    with np.load(OUTLINES) as file:
        # Steps of 0.01 degrees in 16 bits wrap around as their sums do.
        return {
            kind: np.split(
                np.cumsum(file[kind], axis=1, dtype=np.int16).T / 100,
                np.cumsum(file[f"{kind}_points"], dtype=int)[:-1],
            )
            for kind in COLOURS
        }


@cache
def _extents(kind: str) -> np.ndarray:
    """West, south, east and north of each line, (4, line): a slider waits for a map."""
    return np.array([(*line.min(axis=0), *line.max(axis=0)) for line in outlines()[kind]]).T


def lines_in(kind: str, window: Window) -> Iterator[np.ndarray]:
    """Lines that a window (west, south, east, north) may touch, also across the antimeridian."""
    west, south, east, north = window
    left, low, right, high = _extents(kind)
    for turn in (-360.0, 0.0, 360.0):
        touches = (left + turn <= east) & (right + turn >= west) & (low <= north) & (high >= south)
        yield from (outlines()[kind][k] + (turn, 0) for k in np.flatnonzero(touches))


def draw_outlines(axis: Axes) -> None:
    """Coasts and borders below what an axis of degrees shows within its limits."""
    (west, east), (south, north) = axis.get_xlim(), axis.get_ylim()
    for kind, colour in COLOURS.items():
        lines = lines_in(kind, (west, south, east, north))
        parts = [np.vstack((line, (np.nan, np.nan))) for line in lines]
        if parts:  # one artist: hundreds of them draw slowly
            axis.plot(*np.concatenate(parts).T, color=colour, linewidth=0.6, zorder=0.5,
                      scalex=False, scaley=False)  # fmt: skip
