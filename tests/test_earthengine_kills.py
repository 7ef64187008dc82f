"""An export from Earth Engine that breaks goes on where it stopped, and ends as if it never had."""

import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soilkit.export import chips, join
from soilkit.export.archives import open_archive
from soilkit.export.archives.earthengine import Policy
from tests.helpers_earthengine import PLACE, stations_table
from tests.stand_in_ee.fixtures import ROOT, Process

PERIOD = "2019-06-01", "2019-08-01"
SOURCES = ("sentinel1", "sentinel2", "dem")
POLICY = Policy(concurrency=8, attempts=20, first_wait_s=0.01, longest_wait_s=0.05)
RATE = {"429": 0.08, "500": 0.05, "503": 0.05, "truncate": 0.06, "reset": 0.06}  # 30 % in all
TROUBLE = {"latency_s": 0.05, "rate": RATE, "permanent": 0.05, "seed": 5}
CHILD = """
import pickle, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
url, job, store = sys.argv[1:]
from tests.stand_in_ee.fixtures import initialise
initialise(url)
from soilkit.export import chips
from soilkit.export.archives import open_archive
from soilkit.export.chips import builder as writing
writing.SAVE_EVERY_S = 0.05  # the index is saved after each few chips, not each few seconds
with open(job, "rb") as file:
    samples, stations, policy = pickle.load(file)
archive = open_archive("earthengine", policy=policy)
chips.build(samples, archive, store, stations=stations, size_px=16, progress=False)
"""


@pytest.fixture
def study(earth_engine):
    """Samples of three stations over two months, joined from the stand-in's own scenes."""
    latitude, longitude = PLACE
    stations = stations_table(PLACE, (latitude + 0.4, longitude), (latitude, longitude + 0.7))
    stations = stations.assign(
        network="A", station=stations.station_id.str[3:], elevation_m=400.0, depth_from_m=0.0,
        depth_to_m=0.05, land_cover="", koeppen="", texture="",
    )  # fmt: skip
    archive = open_archive("earthengine", policy=POLICY)
    scenes = pd.concat([archive.scenes(stations, source, *PERIOD) for source in SOURCES])
    times = pd.date_range(*PERIOD, freq="20min", unit="us")
    observations = pd.concat(
        pd.DataFrame({"sensor_id": s, "time": times, "soil_moisture_m3_m3": 0.2, "flag": "G"})
        for s in stations.sensor_id
    )
    bounds = {"sentinel1": "1h", "sentinel2": "14D", "dem": "18262D"}
    bounds = {name: pd.Timedelta(age) for name, age in bounds.items()}
    samples = join.anchored_join(observations, scenes, stations, bounds=bounds).samples
    assert len(samples) > 20
    return samples, stations


def build(study, store, *, policy=POLICY):
    """The export in this process: kept samples and drops."""
    samples, stations = study
    archive = open_archive("earthengine", policy=policy)
    return chips.build(samples, archive, store, stations=stations, size_px=16, progress=False)


def standing(store):
    """How many chips of a store are good, and how many were refused for good."""
    if not (Path(store) / "dem").exists():
        return 0, 0
    opened = chips.open_store(store)
    table = pd.concat([opened.index(name) for name in SOURCES])
    good = table.data_sha256 != ""
    return int(good.sum()), int((table.permanent & ~good).sum())


class Export:
    """The export in a process of its own, to be killed."""

    def __init__(self, server, job, store):
        command = [sys.executable, "-c", CHILD, server.url, str(job), str(store)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def end(self):
        """Let it end; it must end well."""
        said = self.process.communicate(timeout=120)[0].decode()
        assert self.process.returncode == 0, said

    def kill(self, server, *, after, how):
        """Kill it once the server has delivered ``after`` more chips; whether that came in time."""
        before = sum(server.counters()["pixels"].values())
        while sum(server.counters()["pixels"].values()) - before < after:
            if self.process.poll() is not None:
                self.end()
                return False
            time.sleep(0.01)
        self.process.send_signal(how)
        said = self.process.communicate(timeout=60)[0].decode()
        code = self.process.returncode
        assert code in (0, -how) or "KeyboardInterrupt" in said, said
        while server.counters()["in_flight"]:
            time.sleep(0.01)  # the server finishes what nobody waits for any more
        return code != 0


class Exports:
    """Exports against one server among faults, killed at random until that was done often enough.

    Every run is checked: it is given no chip twice and none that stood before.
    """

    def __init__(self, study, folder, *, kills, chips):
        self.folder, self.kills, self.chips = folder, kills, chips
        self.killed, self.rng = 0, np.random.default_rng(kills)
        (folder / "job").write_bytes(pickle.dumps((*study, POLICY)))

    def whole_stores(self):
        """Export after export, each killed and resumed until its store is whole."""
        with Process(**TROUBLE) as server:
            number = 0
            while number == 0 or self.killed < self.kills:
                store, number = self.folder / f"killed{number}", number + 1
                while not self._ended(server, store):
                    pass
                yield store
            assert server.counters()["most_in_flight"] <= POLICY.concurrency

    def _ended(self, server, store):
        """Run once; whether the export came to its end."""
        good, before = standing(store)[0], server.counters()["pixels"]
        export, ended = Export(server, self.folder / "job", store), True
        if self.killed < self.kills:
            how = signal.SIGINT if self.rng.random() < 0.25 else signal.SIGKILL
            ended = not export.kill(server, after=int(self.rng.integers(1, 25)), how=how)
            self.killed += not ended
        else:
            export.end()
        after = server.counters()["pixels"]
        given = [n - before.get(key, 0) for key, n in after.items()]
        assert set(given) <= {0, 1}
        assert sum(given) <= self.chips - good
        if ended:
            assert standing(store)[0] - good == sum(given)
        return ended


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signals")
@pytest.mark.parametrize(
    "kills", [3, pytest.param(50, marks=pytest.mark.slow)], ids=["3 kills", "50 kills"]
)
def test_a_killed_export_ends_as_an_undisturbed_one(study, stand_in, tmp_path, kills):
    """Killed at random moments among random faults: the same chips, each asked for while missing.

    One chip in twenty is refused for good, in both; what stands is not asked for again.
    """
    stand_in.faults.set(permanent=TROUBLE["permanent"], seed=TROUBLE["seed"])
    kept, drops = build(study, tmp_path / "undisturbed")
    undisturbed = chips.open_store(tmp_path / "undisturbed")
    good, refused = standing(tmp_path / "undisturbed")
    assert refused > 0
    exports = Exports(study, tmp_path, kills=kills, chips=good)
    for store in exports.whole_stores():
        assert chips.open_store(store).data_hash == undisturbed.data_hash
        assert standing(store) == (good, refused)
    assert exports.killed == kills
    stand_in.reset()
    again, same_drops = build(study, store)
    assert stand_in.counters.snapshot()["requests"].get("image:computePixels", 0) == 0
    pd.testing.assert_frame_equal(again, kept)
    pd.testing.assert_frame_equal(same_drops, drops)


@pytest.mark.parametrize("share", [0.05, 0.30])
def test_random_faults_lose_and_double_no_chip(study, stand_in, tmp_path, share):
    """Every chip is delivered exactly once, and the store is that of a service without faults."""
    build(study, tmp_path / "calm")
    stand_in.reset()
    stand_in.faults.set(rate={kind: share / len(RATE) for kind in RATE}, seed=3)
    kept, drops = build(study, tmp_path / "stormy")
    counters = stand_in.counters.snapshot()
    calm, stormy = (chips.open_store(tmp_path / name) for name in ("calm", "stormy"))
    assert stormy.data_hash == calm.data_hash
    assert len(kept) + drops["count"].sum() == len(study[0])
    assert set(counters["pixels"].values()) == {1}
    assert len(counters["pixels"]) == standing(tmp_path / "calm")[0]
    found = sum(counters["faults"].values()) / counters["requests"]["image:computePixels"]
    assert found == pytest.approx(share, rel=0.6)


def test_forty_requests_in_flight_are_never_exceeded(study, stand_in, tmp_path):
    """At the service's limit, measured there: all forty places are used, and none beyond."""
    stand_in.faults.set(latency_s=1.0, rate={"500": 0.1}, limit_in_flight=40)
    policy = Policy(concurrency=40, attempts=20, first_wait_s=0.01, longest_wait_s=0.05)
    build(study, tmp_path / "store", policy=policy)
    counters = stand_in.counters.snapshot()
    assert counters["answers"].get("429", 0) == 0
    assert 30 <= counters["most_in_flight"] <= 40
