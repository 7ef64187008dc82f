"""The same requests on a Dask cluster: the same answers, and never more in flight than allowed."""

import os
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
import xarray as xr

from soilkit.errors import DependencyError
from soilkit.export import cubes
from soilkit.export.archives import open_archive
from soilkit.export.archives.earthengine.executor import (
    Fault,
    Policy,
    ServiceError,
    fault_of_status,
    run,
)
from tests.helpers_earthengine import JUNE, PLACE, chip_request, stations_table

distributed = pytest.importorskip("distributed")

SERVER = fault_of_status(503, "The service is currently unavailable.")
MEMORY = fault_of_status(400, "User memory limit exceeded.", name="INVALID_ARGUMENT")
BAD = fault_of_status(400, "Image.select: no band named B99.", name="INVALID_ARGUMENT")
EXPIRED = fault_of_status(401, "Request had invalid credentials.", name="UNAUTHENTICATED")
POLICY = Policy(concurrency=3, attempts=6, first_wait_s=0.01, longest_wait_s=0.02)


class Seen:
    """What the workers' threads of this process have done, by name of the test."""

    lock = threading.Lock()
    calls: Counter = Counter()
    in_flight = most = 0


class Doubling:
    """Doubles numbers; multiples of 10 fail once, 13 for good, tuples of more than 2 are too large.

    Picklable: its counts are the process's.
    """

    def __init__(self, *, seconds=0.0, fail=None, always=False):
        self.seconds, self.fail, self.always = seconds, fail, always

    def __call__(self, item):
        with Seen.lock:
            Seen.calls[item] += 1
            nth = Seen.calls[item]
            Seen.in_flight += 1
            Seen.most = max(Seen.most, Seen.in_flight)
        try:
            time.sleep(self.seconds)
            self._fault(item, nth)
            return [2 * part for part in item] if isinstance(item, tuple) else 2 * item
        finally:
            with Seen.lock:
                Seen.in_flight -= 1

    def _fault(self, item, nth):
        if self.fail is not None and item >= 5:
            raise self.fail
        if isinstance(item, tuple):
            if len(item) > 2:
                raise ServiceError(MEMORY)
        elif item == 13:
            raise ServiceError(BAD)
        elif item % 10 == 0 and (nth == 1 or self.always):
            raise ServiceError(SERVER)

    def split(self, item):
        half = len(item) // 2
        return [item[:half], item[half:]]

    def merge(self, item, parts):
        return [value for part in parts for value in part]


@pytest.fixture(scope="module")
def client():
    """Two workers of eight threads in this process."""
    options = {"n_workers": 2, "threads_per_worker": 8, "dashboard_address": None}
    with distributed.Client(processes=False, set_as_default=True, **options) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_seen():
    Seen.calls, Seen.most = Counter(), 0


def test_a_cluster_answers_as_threads_do(client):
    """Retries, splits and permanent faults give what they give in one process."""
    items = [*range(40), (1, 2, 3, 4, 5)]
    there = dict(run(items, Doubling(), client=client, policy=POLICY))
    assert Seen.calls.pop(13) == 1
    assert Seen.calls[10] == 2
    Seen.calls = Counter()
    here = dict(run(items, Doubling(), policy=POLICY))
    assert there == here
    assert there[(1, 2, 3, 4, 5)] == [2, 4, 6, 8, 10]
    assert isinstance(there[13], Fault)
    assert not there[13].retry


def test_the_semaphore_holds_across_workers(client):
    """Sixteen threads on two workers never have more than three calls in flight."""
    results = dict(run(range(41, 49), Doubling(seconds=0.05), client=client, policy=POLICY))
    assert len(results) == 8
    assert Seen.most == 3


def test_submission_to_a_cluster_is_bounded(client):
    """No more items are drawn than 1.5 times the concurrency beyond what came back."""
    drawn = []

    def endless():
        while True:
            drawn.append(len(drawn))
            yield drawn[-1]

    results = run(endless(), Doubling(), client=client, policy=POLICY)
    for taken in range(1, 11):
        next(results)
        assert len(drawn) - taken <= 4
    results.close()


def test_closing_stops_the_cluster(client):
    """After a break the workers neither begin a call nor wait out a back-off of minutes."""
    patient = Policy(concurrency=3, first_wait_s=1000, longest_wait_s=1000)
    job = Doubling(always=True)
    results = run([1, *range(10, 1000, 10)], job, client=client, policy=patient)
    assert next(results) == (1, 2)
    results.close()
    time.sleep(0.3)
    begun = sum(Seen.calls.values())
    busy = [key for keys in client.processing().values() for key in keys if "_ask_on_worker" in key]
    assert not busy
    assert begun <= 6
    assert sum(Seen.calls.values()) == begun


@pytest.mark.parametrize("fail", [ZeroDivisionError("a bug"), ServiceError(EXPIRED)])
def test_a_bug_or_a_refused_login_ends_the_run(client, fail):
    """What would fail every item comes out as itself."""
    with pytest.raises(type(fail)):
        list(run(range(1, 9), Doubling(fail=fail), client=client, policy=POLICY))


def test_an_archive_fetches_the_same_chips_on_a_cluster(client, earth_engine, stand_in):
    """The archive with a client gives what it gives with threads, within the semaphore."""
    here, there = (
        open_archive("earthengine", policy=POLICY, client=used) for used in (None, client)
    )
    scenes = here.scenes(stations_table(PLACE), "sentinel1", *JUNE)
    wanted = [
        chip_request(here, scene, source="sentinel1", size_px=16) for scene in scenes.itertuples()
    ]
    expected = {request: chip.values for request, chip in here.chips(wanted)}
    stand_in.counters.reset()
    stand_in.faults.set(latency_s=0.05, rate={"503": 0.1})
    found = {request: chip.values for request, chip in there.chips(wanted)}
    assert found.keys() == expected.keys()
    for request, values in found.items():
        np.testing.assert_array_equal(values, expected[request])
    assert stand_in.counters.snapshot()["most_in_flight"] == POLICY.concurrency


def _log_in(url):
    from tests.stand_in_ee.fixtures import initialise

    initialise(url)


@pytest.mark.slow
def test_a_cube_from_worker_processes_is_that_of_threads(earth_engine, stand_in, tmp_path):
    """Workers of two processes of their own, which are logged in as they start."""
    box, days = (-99.205, 36.398, -99.199, 36.402), ["2019-06-12", "2019-06-20 18:00"]
    options = {"sources": {"sentinel1": ["VV"], "dem": None}, "times": days, "pixel_size_m": 10,
               "tile_px": 32, "progress": False}  # fmt: skip
    workers = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": None}
    with distributed.LocalCluster(**workers) as cluster, distributed.Client(cluster) as client:
        client.run(_log_in, stand_in.url)
        made = []
        for name, used in (("threads", None), ("workers", client)):
            archive = open_archive("earthengine", cache_dir=tmp_path / "index", client=used)
            made.append(cubes.build(box, archive, tmp_path / name, **options).load())
    xr.testing.assert_identical(*made)
    assert cubes.losses(made[1]).empty and made[1].sentinel1_VV.notnull().all()


def test_without_distributed_the_error_says_what_to_install(monkeypatch):
    """The extra is named, and what to do without it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DependencyError, match=r"pip install soilkit\[cluster\]"):
        next(run([1], Doubling(), client=object()))


class Logged:
    """Writes when its calls began and ended, so that other processes' calls can be counted."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, item):
        begin = time.time()
        time.sleep(0.1)
        (self.folder / f"{item}_{os.getpid()}").write_text(f"{begin} {time.time()}")
        return item

    def split(self, item):
        return []

    def merge(self, item, parts):
        return parts


@pytest.mark.slow
def test_the_semaphore_holds_across_processes(tmp_path):
    """Two processes of four threads: calls of three at most overlap at any moment."""
    options = {"n_workers": 2, "threads_per_worker": 4, "dashboard_address": None}
    with distributed.Client(processes=True, **options) as client:
        results = dict(run(range(24), Logged(tmp_path), client=client, policy=POLICY))
    assert results == {i: i for i in range(24)}
    spans = np.array([path.read_text().split() for path in tmp_path.iterdir()], float)
    assert len({path.name.split("_")[1] for path in tmp_path.iterdir()}) == 2
    overlaps = [((spans[:, 0] <= t) & (t < spans[:, 1])).sum() for t in spans[:, 0]]
    assert max(overlaps) == 3
