"""Chips a second from a service with 100 ms latency, by the Earth Engine archive's whole road.

The service is the stand-in, in a process of its own and answering each request for pixels 100 ms
after it came. It reckons every pixel itself, so the chips are small ones of elevation: those of the
radar would take all of a core for less than 320 a second. The peers: 32 requests at once that cost
nothing but their latency, and the client's own call in a loop, one request after the other. Both
processes share the machine's cores: ours is the best of three exports.
"""

import dataclasses
import time

import numpy as np

from soilkit import grids
from soilkit.export.archives import open_archive
from soilkit.export.archives.earthengine import Policy, connection, expressions
from tests.helpers_earthengine import JUNE, PLACE, chip_request, stations_table
from tests.stand_in_ee.fixtures import Process, initialise

LATENCY_S, CONCURRENCY, N, SIZE_PX, REPEATS = 0.1, 32, 2000, 16, 3
SOURCE = "dem"


def requests(archive, n):
    """Distinct chips of one layer, each of its own place."""
    scene = next(archive.scenes(stations_table(PLACE), SOURCE, *JUNE).itertuples())
    first = chip_request(archive, scene, source=SOURCE, size_px=SIZE_PX)
    rng = np.random.default_rng(0)
    for east, north in rng.uniform(-0.05, 0.05, (n, 2)):
        place = PLACE[0] + north, PLACE[1] + east
        grid = grids.chip_grid(*place, size_px=SIZE_PX, pixel_size_m=10.0)
        yield dataclasses.replace(first, grid=grid)


def ours(archive, wanted):
    """Chips a second, the first round not counted."""
    answers = archive.chips(wanted)
    for _ in range(CONCURRENCY):
        next(answers)
    start = time.perf_counter()
    n = sum(answer.valid_fraction > 0 for _, answer in answers)
    assert n == len(wanted) - CONCURRENCY
    return n / (time.perf_counter() - start)


def one_by_one(wanted):
    """Chips a second of the client's call in a loop."""
    connection.pixels(expressions.chip(wanted[0]), wanted[0].grid, bands=wanted[0].bands)
    start = time.perf_counter()
    for request in wanted[1:]:
        connection.pixels(expressions.chip(request), request.grid, bands=request.bands)
    return (len(wanted) - 1) / (time.perf_counter() - start)


def main():
    """One line a peer."""
    with Process(latency_s=LATENCY_S, limit_in_flight=40) as server:
        initialise(server.url)
        archive = open_archive("earthengine", policy=Policy(concurrency=CONCURRENCY))
        wanted = list(requests(archive, N))
        rate = max(ours(archive, wanted) for _ in range(REPEATS))
        most = server.counters()["most_in_flight"]
        loop = one_by_one(wanted[:20])
    name = (
        f"export of {N} chips of {SIZE_PX} px, {1000 * LATENCY_S:.0f} ms a request, "
        f"{CONCURRENCY} at once"
    )
    for peer, theirs in (
        (f"ideal {CONCURRENCY}/latency", CONCURRENCY / LATENCY_S),
        ("the client in a loop", loop),
    ):
        print(
            f"{name} | ours {rate:.0f}/s, at most {most} in flight | {peer} {theirs:.0f}/s | "
            f"ratio {rate / theirs:.2f}"
        )


if __name__ == "__main__":
    main()
