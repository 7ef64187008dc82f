"""A training run that the system kills, again and again, ends as if nothing had happened."""

import multiprocessing as mp
import random
import signal

import pytest

from soilkit.models.training.checkpoint import read_plain
from tests.helpers_training import scalars_run

STEPS = 30
# A fork server imports torch once for all runs; Windows has none.
CONTEXT = mp.get_context("forkserver" if "forkserver" in mp.get_all_start_methods() else "spawn")
CONTEXT.set_forkserver_preload(["tests.helpers_training"])


def run(path, killed_at):
    """In a process of its own; how that ended."""
    process = mp.get_context("spawn").Process(
        target=scalars_run, args=(str(path), killed_at, STEPS)
    )
    process.start()
    process.join()
    return process.exitcode


def check(folder, moments):
    """Kill at each moment in turn, then let the run end; compare with one left alone, by bytes."""
    assert run(folder / "whole.pt", None) == 0
    for moment in moments:
        assert run(folder / "parted.pt", moment) == -getattr(signal, "SIGKILL", signal.SIGTERM)
    assert run(folder / "parted.pt", None) == 0
    for suffix in (".pt", ".resume.pt"):
        whole, parted = (read_plain((folder / n).with_suffix(suffix)) for n in ("whole", "parted"))
        for name, tensor in whole["weights"].items():
            assert tensor.numpy().tobytes() == parted["weights"][name].numpy().tobytes()
        assert {k: v for k, v in whole.items() if k in ("history", "step", "score")} == {
            k: v for k, v in parted.items() if k in ("history", "step", "score")
        }
    assert len(list(folder.iterdir())) == 4, "half-written files stay behind"


def test_a_run_killed_twice_ends_with_the_same_bytes(tmp_path):
    """Once in the middle of a step, once in the middle of writing its third file."""
    check(tmp_path, [9, -3])


@pytest.mark.slow
def test_a_run_killed_ten_times_at_random_ends_with_the_same_bytes(tmp_path):
    """Every start gets at least to a new step or a new file, or repeats the old ones exactly."""
    draw = random.Random(0)
    moments = [draw.choice([draw.randrange(0, 7), -draw.randrange(1, 3)]) for _ in range(10)]
    check(tmp_path, moments)
