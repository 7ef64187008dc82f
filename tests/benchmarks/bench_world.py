"""A year of the world's coarse products over 100 x 100 cells of 9 km, one line a product."""

import sys
import time

import numpy as np

from soilkit.world import World
from soilkit.world.sensors import coarse

SIDE, PART, REQUIRED_S = 100, 1_000, 180
SOURCES = (
    "smap", "gldas", "nldas2_noah", "smap_l4", "geos5_lst", "gridmet", "chirps", "imerg",
    "modis_lai",
)  # fmt: skip


def main() -> int:
    """Run each product by parts of a thousand cells; 1 where all need longer than required."""
    rows, cols = (axis.ravel() for axis in np.indices((SIDE, SIDE)) + np.array([[[300]], [[820]]]))
    world = World(0, 8, "2019-01-01", "2020-01-01")
    parts = np.array_split(np.arange(rows.size), -(-rows.size // PART))
    seconds = dict.fromkeys(("weather and states", *SOURCES), 0.0)
    stamps = {}
    for part in parts:
        started = time.perf_counter()
        world.cells(rows[part], cols[part])
        seconds["weather and states"] += time.perf_counter() - started
        for source in SOURCES:
            started = time.perf_counter()
            product = coarse.product(world, source, rows=rows[part], cols=cols[part])
            seconds[source] += time.perf_counter() - started
            stamps[source] = len(product.periods.end)
    for name, needed in seconds.items():
        print(
            f"world {name} | {rows.size:,} cells x {stamps.get(name, 0):,} times | {needed:.1f} s"
        )
    total = sum(seconds.values())
    print(f"world, all products of a year | {total:.0f} s, required {REQUIRED_S}")
    return int(total > REQUIRED_S)


if __name__ == "__main__":
    sys.exit(main())
