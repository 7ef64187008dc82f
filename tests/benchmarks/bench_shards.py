"""Samples a second of ``read_shard`` against gzip and protobuf, on one shard in one process.

The peer is what one writes without TensorFlow: the gzip module, TFRecord framing by ``struct``,
``tf.train.Example`` parsed by google.protobuf (its C backend), and ``numpy.array`` of the 17 images
that the model eats. It checks no checksums; ours does. Two more peers show where the time goes: one
with ``numpy.fromiter``, one that parses and makes no arrays.
"""

import gzip
import multiprocessing
import resource
import struct
import sys
import tempfile
import time

import numpy as np
from google.protobuf.internal import api_implementation

from soilkit.export.published import read_shard, schema, write_shard
from tests.helpers_shards import example_class, sample

N_SAMPLES, ROUNDS = 8, 5
SCALARS = {"smap_sm": 77, "gldas_sm": 60, "sm_0_5": 0.25}


def write(path):
    write_shard(path, (sample(k, images=schema.IMAGES, **SCALARS) for k in range(N_SAMPLES)))


def records(path):
    """The data of each record, as one writes it first."""
    with gzip.open(path, "rb") as stream:
        while header := stream.read(12):
            (length,) = struct.unpack("<Q", header[:8])
            yield stream.read(length)
            stream.read(4)


def peer(path, to_array):
    """A dict of the model's images for each sample."""
    example = example_class()
    for data in records(path):
        found = example.FromString(data).features.feature
        yield {n: to_array(found[n].int64_list.value) for n in schema.MODEL_IMAGES}


def fromiter(values):
    return np.fromiter(values, np.int64, len(values))


def parsed_only(path):
    for data in records(path):
        yield example_class().FromString(data)


def rates(path, readers):
    """Best samples a second, least CPU ms a sample and peak MB of readers that take turns."""
    best, cpu_ms, mb = dict.fromkeys(readers, 0.0), dict.fromkeys(readers, np.inf), {}
    for _ in range(ROUNDS):
        for name, iterate in readers.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            n = sum(1 for _ in iterate(path))
            best[name] = max(best[name], n / (time.perf_counter() - start))
            cpu_ms[name] = min(cpu_ms[name], 1000 * (time.process_time() - cpu_start) / n)
            mb.setdefault(name, peak_mb())
    return best, cpu_ms, mb


READERS = {
    "ours": read_shard,
    "stored": lambda path: (sample.bands for sample in read_shard(path)),
    "array": lambda path: peer(path, np.array),
    "fromiter": lambda path: peer(path, fromiter),
    "parsing": parsed_only,
}


def peak_mb():
    """The most memory that this process has held, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if _MAC else 1e3)


_MAC = sys.platform == "darwin"


def same(path):
    side = schema.SIDE_PX
    pairs = zip(read_shard(path), peer(path, np.array), strict=True)
    return all(
        np.array_equal(ours.images[n], theirs[n].reshape(side, side))
        for ours, theirs in pairs
        for n in schema.MODEL_IMAGES
    )


def main():
    """One line, and two more against leaner peers."""
    assert api_implementation.Type() == "upb"
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/data-00000-of-00500.tfrecord.gz"
        writer = multiprocessing.get_context("spawn").Process(target=write, args=(path,))
        writer.start()  # in a process of its own: its memory is not ours
        writer.join()
        before = peak_mb()
        n, cpu_ms, mb = rates(path, READERS)
        equal = "yes" if same(path) else "NO"
    name = "shards, 17 of 66 images a sample"
    print(
        f"{name} | ours {n['ours']:.1f}/s | gzip + protobuf {n['array']:.1f}/s | "
        f"ratio {n['ours'] / n['array']:.1f} | equal results {equal}"
    )
    print(
        f"{name}, ours in stored units | ours {n['stored']:.1f}/s | gzip + protobuf + fromiter, "
        f"as stored {n['fromiter']:.1f}/s | ratio {n['stored'] / n['fromiter']:.1f} | "
        f"equal results {equal}"
    )
    print(
        f"  CPU a sample {cpu_ms['ours']:.0f} ms ours, {cpu_ms['array']:.0f} ms peer, of which "
        f"{cpu_ms['parsing']:.0f} ms gzip and parsing; "
        f"peak memory {mb['ours']:.0f} MB ours, {mb['array']:.0f} MB peer, {before:.0f} MB at rest"
    )


if __name__ == "__main__":
    main()
