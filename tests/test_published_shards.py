"""Published shards: framing, wire format against protobuf, scaling, streaming, what is broken."""

import gc
import gzip
import importlib.util
import itertools
import logging
import os
import re
import struct
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soilkit import contracts, sources
from soilkit.contracts import ChipRequest
from soilkit.errors import ContractError, ShardError, UnknownNameError
from soilkit.export import archives
from soilkit.export.published import (
    read_shard,
    schema,
    wire,
    write_archive_shard,
    write_shard,
)
from soilkit.export.published.shards import Sample
from tests.helpers_shards import example_class, sample

VV = "sentinel_1_VV"
DEM = "nasa_dem_elevation"
INT64 = st.one_of(
    st.integers(0, 127), st.integers(0, 300), st.integers(-9000, 9000),
    st.integers(-(2**63), 2**63 - 1),
)  # fmt: skip


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """Three samples with two textured images, at their sensors 0, 1, 2."""
    path = tmp_path_factory.mktemp("shard") / "data-00000-of-00500.tfrecord.gz"
    write_shard(path, (sample(k, images=(VV, DEM), size=k) for k in range(3)))
    return path


def inflated(path):
    return bytearray(gzip.decompress(path.read_bytes()))


def refilled(tmp_path, data):
    path = tmp_path / "changed.tfrecord.gz"
    path.write_bytes(gzip.compress(bytes(data), 1))
    return path


def read_until_broken(path, **options):
    """The sizes of the samples read, and the error that ended it."""
    seen = []
    with pytest.raises(ShardError) as caught:
        for one in read_shard(path, features=[VV], **options):
            seen.append(one.scalars["size"])
    return seen, caught.value


# ---- the schema ----------------------------------------------------------------------------------


def test_there_are_66_images_of_which_the_model_eats_17():
    """As many as the publication lists, source by source; bytes but for the elevation."""
    prefixes = ["aster", "cgls_lc", "mask", "modis", "nasa_dem", "sentinel_1", "sentinel_2", "soil"]
    found = [sum(name.startswith(p) for name in schema.IMAGES) for p in prefixes]
    assert found == [2, 4, 1, 2, 1, 12, 40, 4]
    assert len(set(schema.IMAGES)) == 66 and len(set(schema.MODEL_IMAGES)) == 17
    assert set(schema.MODEL_IMAGES) == {f.name for f in schema.FEATURES if f.required} & set(
        schema.IMAGES
    )


def test_every_constant_says_what_it_rests_on():
    """What the inference script reads is certain in kind; no scaling but "as it is" is certain."""
    table = schema.schema_table().set_index("name")
    assert (table["why"].str.len() > 10).all()
    assert table.loc[list(schema.MODEL_IMAGES), "kind_certain"].all()
    assert not table.loc[table["kind"].eq("image") & ~table["required"], "kind_certain"].any()
    assert set(table.loc[table["scaling_certain"], "scaling"]) == {"as it is"}
    assert table.loc[DEM, "scaling_certain"] and not table.loc["smap_sm", "scaling_certain"]


def test_features_are_found_by_source():
    assert schema.images_of("sentinel1") == (
        "sentinel_1_VH", "sentinel_1_VV", "sentinel_1_angle",
    )  # fmt: skip
    with pytest.raises(UnknownNameError, match="have no images of smap"):
        schema.images_of("smap")
    with pytest.raises(UnknownNameError, match="sentinel_1_VH"):
        schema.feature("sentinel_1_HH")


def test_bytes_span_the_ranges_of_table_4():
    """-25 to 5 dB, 0 to 90 degrees, 0 to 800 g/kg, 0 to 100 kg m-2; 0 is no data."""
    byte = np.array([0, 51, 255], np.uint8)
    for name, values in (
        (VV, [np.nan, -19, 5]),
        ("sentinel_1_mean_angle", [np.nan, 18, 90]),
        (schema.SAND, [np.nan, 160, 800]),
        ("gldas_sm", [np.nan, 20, 100]),
        ("smap_sm", [np.nan, 10, 50]),
    ):
        np.testing.assert_allclose(schema.decode(name, byte), values, rtol=1e-6)
    assert schema.decode("cgls_lc_crops-coverfraction", byte).tolist() == [0, 51, 255]


@pytest.mark.parametrize("band", schema.S2_BANDS)
def test_sentinel_2_bytes_undo_the_logarithm_and_the_sigmoid(band):
    """Digital numbers through Table 17 to a byte and back: within what half a byte is worth."""
    rule = sources.get("sentinel2").band(band).normalisation
    numbers = np.linspace(50, 6000, 400)
    byte = schema.encode(f"sentinel_2_{band}", numbers)
    assert byte.dtype == np.uint8
    back = schema.decode(f"sentinel_2_{band}", byte)
    np.testing.assert_allclose(rule(back) * 255, rule(numbers) * 255, atol=0.51)
    assert np.isfinite(schema.decode(f"sentinel_2_{band}", np.uint8(255)))


def test_encoding_keeps_no_data_apart_from_low_values():
    """NaN is 0; backscatter below -25 dB is 1, so that it is not lost; elevation keeps its sign."""
    assert schema.encode(VV, [np.nan, -40.0, -25.0, 9.0]).tolist() == [0, 1, 1, 255]
    elevation = schema.encode(DEM, [-430.0, 8848.0])
    assert elevation.dtype == np.int16 and elevation.tolist() == [-430, 8848]
    with pytest.raises(ContractError, match="16 bits"):
        schema.encode(DEM, [40_000.0])


# ---- the wire format, against protobuf -----------------------------------------------------------


@given(st.lists(INT64, max_size=60))
def test_integer_lists_are_protobufs(values):
    message = example_class()()
    message.features.feature["a"].int64_list.value.extend(values)
    found = wire.decode_example(np.frombuffer(message.SerializeToString(), np.uint8))
    assert found["a"].values.tolist() == values
    packed = wire.pack_ints(np.array(values, np.int64))
    assert wire.packed_ints(packed).tolist() == values


@given(st.lists(st.integers(0, 255), max_size=60))
def test_bytes_take_the_fast_path_and_stay_bytes(values):
    packed = wire.pack_ints(np.array(values, np.int64))
    assert wire.pack_ints(np.array(values, np.uint8)) == packed
    found = wire.packed_ints(packed)
    assert found.dtype == np.uint8 and found.tolist() == values


FEATURES = st.dictionaries(
    st.text(max_size=5),
    st.one_of(
        st.tuples(st.just("int"), st.lists(INT64, min_size=1, max_size=5)),
        st.tuples(st.just("float"), st.lists(st.floats(width=32), min_size=1, max_size=5)),
        st.tuples(st.just("bytes"), st.lists(st.binary(max_size=5), min_size=1, max_size=5)),
    ),
    max_size=4,
)
LIST_NAMES = {"int": "int64_list", "float": "float_list", "bytes": "bytes_list"}


def to_protobuf(features, *, packed):
    message = example_class(packed=packed)()
    for name, (kind, values) in features.items():
        getattr(message.features.feature[name], LIST_NAMES[kind]).value.extend(values)
    return message


@given(FEATURES, FEATURES, st.booleans())
def test_examples_are_protobufs_packed_or_not(first, second, packed):
    """Two examples one after the other are one example: protobuf merges, and so do we."""
    data = to_protobuf(first, packed=packed).SerializeToString()
    data += to_protobuf(second, packed=not packed).SerializeToString()
    found = wire.decode_example(np.frombuffer(data, np.uint8))
    assert {n: v.kind for n, v in found.items()} == {
        n: kind for n, (kind, _) in (first | second).items()
    }
    for name, (_, values) in (first | second).items():
        np.testing.assert_array_equal(np.array(found[name].values), np.array(values))


@given(FEATURES)
def test_protobuf_reads_what_is_written(features):
    arrays = {"int": np.int64, "float": np.float32}
    written = {
        n: wire.Values(kind, np.array(v, arrays[kind]) if kind in arrays else v)
        for n, (kind, v) in features.items()
    }
    message = example_class().FromString(wire.encode_example(written))
    again = {
        n: (kind, list(getattr(message.features.feature[n], LIST_NAMES[kind]).value))
        for n, (kind, _) in features.items()
    }
    assert set(message.features.feature) == set(features)
    assert repr(again) == repr(features)  # NaN differs from itself


@given(st.lists(INT64, min_size=1, max_size=5), st.lists(INT64, min_size=1, max_size=5))
def test_a_list_given_in_two_pieces_is_joined(first, second):
    """Packed and unpacked pieces may follow each other in one message."""
    one, two = ({"a": ("int", v)} for v in (first, second))
    piece = to_protobuf(one, packed=True).features.feature["a"].SerializeToString()
    other = to_protobuf(two, packed=False).features.feature["a"].SerializeToString()
    oracle = example_class().FromString(wrapped(piece + other)).features.feature["a"]
    found = wire.decode_example(np.frombuffer(wrapped(piece + other), np.uint8))
    assert found["a"].values.tolist() == list(oracle.int64_list.value) == first + second


def test_of_two_kinds_the_last_one_counts():
    """A oneof: what came before under another kind is forgotten, as protobuf does."""
    pieces = [
        to_protobuf({"a": one}, packed=True).features.feature["a"].SerializeToString()
        for one in (("float", [1.5]), ("int", [7]), ("bytes", [b"x"]), ("int", [8, 9]))
    ]
    data = wrapped(b"".join(pieces))
    oracle = example_class().FromString(data).features.feature["a"]
    found = wire.decode_example(np.frombuffer(data, np.uint8))["a"]
    assert found.kind == "int"
    assert found.values.tolist() == list(oracle.int64_list.value) == [8, 9]


@pytest.mark.parametrize("body", [b"\x08\x05\x08", b"\x0a\x03\x05", b"\x0a\x01\x85", b"\x0b"])
def test_integer_lists_that_are_cut_are_no_lists(body):
    """A tag without its value, a length beyond the end, half an integer, a group."""
    with pytest.raises(wire.WireError):
        wire.int_list(memoryview(body))


def wrapped(feature):
    """The bytes of a Feature in an Example under the name "a"; unknown fields stand about it."""
    unknown = b"\x48\x07" + b"\x5d" + bytes(4) + b"\x61" + bytes(8)  # a varint, 4 and 8 bytes
    feature = unknown + feature + unknown
    entry = b"\x0a\x01a" + b"\x12" + wire._length(len(feature)) + feature
    features = unknown + b"\x0a" + wire._length(len(entry)) + entry
    return b"\x0a" + wire._length(len(features)) + features + unknown


@settings(max_examples=300)
@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 255))
def test_damaged_messages_raise_one_error(noise, at, byte):
    """Whatever the bytes: an example, or ``WireError``; never another exception."""
    good = bytearray(to_protobuf({"a": ("int", [1, 300, -5])}, packed=True).SerializeToString())
    good[at % len(good)] = byte
    for data in (noise, bytes(good), bytes(good[: at % len(good)])):
        try:
            wire.decode_example(np.frombuffer(data, np.uint8))
        except wire.WireError:
            continue


# ---- reading and writing -------------------------------------------------------------------------


def test_all_66_images_come_back_as_they_were(tmp_path):
    path = tmp_path / "a.tfrecord.gz"
    made = [sample(k, images=schema.IMAGES, gldas_sm=60, utm_zone="14N") for k in range(2)]
    made[1].scalars["polygon"] = np.array([1.5, 2.5], np.float32)
    assert write_shard(path, made) == 2
    back = list(read_shard(path, features=schema.IMAGES))
    for ours, theirs in zip(made, back, strict=True):
        assert all(np.array_equal(ours.images[n], theirs.images[n]) for n in schema.IMAGES)
        assert {k: str(v) for k, v in ours.scalars.items()} == {
            k: str(v) for k, v in theirs.scalars.items()
        }
    assert back[0].images[DEM].dtype == np.int16 and back[0].images[VV].dtype == np.uint8
    assert back[0].bands[VV].dtype == np.float32 and back[0].bands[VV].shape == (512, 512)


def test_the_gzip_module_and_protobuf_read_what_is_written(shard):
    """An independent reader sees three framed records of 66 lists of 262,144 integers."""
    data, at, seen = inflated(shard), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        features = example_class().FromString(bytes(data[at + 12 : at + 12 + length])).features
        images = [n for n in features.feature if n in schema.IMAGES]
        assert len(images) == 66
        assert {len(features.feature[n].int64_list.value) for n in images} == {512 * 512}
        seen.append(features.feature["size"].int64_list.value[0])
        at += 12 + length + 4
    assert seen == [0, 1, 2]


def bitwise_masked_crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8 & 0xFFFFFFFF


def test_checksums_are_those_of_tfrecords():
    """Castagnoli's polynomial, rotated and offset, computed bit by bit."""
    for data in (b"", b"soil", bytes(range(256))):
        assert wire.masked_crc32c(data) == bitwise_masked_crc32c(data)


def test_only_what_is_asked_for_is_decoded(tmp_path):
    """A list that cannot be decoded does no harm until someone wants it."""
    one = sample(0, images=(VV, DEM))
    features = {n: wire.Values("int", i) for n, i in one.images.items()}
    features |= {n: wire.Values("float", [v]) for n, v in one.scalars.items() if n != "sensor_id"}
    features["sensor_id"] = wire.Values("bytes", [b"A__B__C"])
    data = wire.encode_example(features)
    cut = wire.encode_example({"mask": wire.Values("bytes", [b""])})
    broken = cut.replace(b"\x0a\x02\x0a\x00", b"\x1a\x02\x08\x80")  # an integer that does not end
    assert broken != cut
    wire.write_records(tmp_path / "a.gz", [data + broken])
    assert next(read_shard(tmp_path / "a.gz", features=[VV])).images.keys() == {VV}
    with pytest.raises(ShardError, match=r"record 0 .*feature 'mask'.*ends inside"):
        next(read_shard(tmp_path / "a.gz", features=[VV, "mask"]))


def test_the_label_is_the_second_depth_where_the_first_is_missing():
    """0 is no label: a probe that reads exactly nothing was not read."""
    for scalars, label in (
        ({"sm_0_5": 0.25, "sm_5_5": 0.1}, 0.25),
        ({"sm_0_5": 0.0, "sm_5_5": 0.1}, 0.1),
        ({"sm_5_5": 0.1}, 0.1),
        ({"sm_0_5": 0.0}, np.nan),
        ({"sm_0_5": float("nan"), "sm_5_5": 0.0}, np.nan),
        ({}, np.nan),
    ):
        np.testing.assert_equal(Sample(scalars).soil_moisture_m3_m3, label)


def test_coarse_values_and_ages_come_in_units():
    """SMAP 102 / 255 x 50 mm; an age from its own difference, else from two stamps."""
    hour_ms = 3_600_000
    made = sample(
        images=(), smap_sm=102, gldas_sm=0, smap_time_millis_diff=-2.0 * hour_ms,
        sentinel_1_timestamp=sample(images=()).scalars["timestamp"] - 131_072 * 20,
    )  # fmt: skip
    assert made.coarse["smap"] == pytest.approx(20) and np.isnan(made.coarse["gldas"])
    assert made.ages_hours == {"smap": 2.0, "sentinel_1": pytest.approx(131.072 * 20 / 3600)}
    assert made.scene_times["sentinel_1"] == made.time - np.timedelta64(2_621_440, "ms")


def test_stamps_a_rounding_apart_are_no_look_into_the_future():
    """Two stamps of equal times may differ by a step of 131 s; more is another time."""
    step_ms = 2.0**17
    now = float(np.float32(1_590_000_000_000))
    ages = sample(smap_timestamp=now + step_ms, gldas_timestamp=now + 2 * step_ms).ages_hours
    assert ages["smap"] == 0.0 and ages["gldas"] < 0


def test_a_sample_knows_its_time_to_131_seconds():
    """Milliseconds since 1970 in 32 bits: a reading on the hour is off by up to 66 s."""
    hours = np.arange("2015-04-01", "2015-05-01", dtype="datetime64[h]")
    stored = hours.astype("datetime64[ms]").astype(np.int64).astype(np.float32)
    read = [Sample({"timestamp": float(t)}).time for t in stored]
    off_s = np.abs(np.array(read) - hours) / np.timedelta64(1, "s")
    assert 55 < off_s.max() <= 65.6
    assert {t.dtype for t in read} == {np.dtype("datetime64[us]")}


def test_the_same_samples_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_shard(tmp_path / name, [sample(images=(VV,))])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_shard_is_written_whole_or_not_at_all(tmp_path):
    def broken():
        yield sample(images=(VV,))
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "a.gz", broken())
    small = Sample(sample(images=()).scalars, {VV: np.zeros((4, 4), np.uint8)})
    with pytest.raises(ContractError, match=r"\(4, 4\) is none of the schema's 66"):
        write_shard(tmp_path / "a.gz", [small])
    with pytest.raises(ContractError, match="needs sensor_id"):
        write_shard(tmp_path / "a.gz", [Sample({"timestamp": 1.0})])
    assert list(tmp_path.iterdir()) == []


def test_wrong_questions_are_refused_at_once(shard):
    with pytest.raises(UnknownNameError, match="no feature 'VV'"):
        read_shard(shard, features=["VV"])
    with pytest.raises(UnknownNameError, match="is no image"):
        read_shard(shard, features=["sm_0_5"])
    with pytest.raises(UnknownNameError, match="'raise' or 'skip'"):
        read_shard(shard, damaged="ignore")


# ---- streaming -----------------------------------------------------------------------------------


def long_shard(path, n_records):
    """A shard of so many of the largest records that the schema can fill, 35 MB each."""
    full = np.full((512, 512), 255, np.uint8)
    made = Sample(sample(images=()).scalars, dict.fromkeys(schema.IMAGES, full))
    one = path.with_name("one.gz")
    write_shard(one, [made])
    record = bytes(inflated(one)[12:-4])
    wire.write_records(path, itertools.repeat(record, n_records))
    return len(record)


def test_memory_holds_two_records_whatever_the_shard(tmp_path):
    record_bytes = long_shard(tmp_path / "a.gz", 12)
    tracemalloc.start()
    n = sum(1 for _ in read_shard(tmp_path / "a.gz"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n == 12 and record_bytes > 34e6
    assert peak < 3 * record_bytes  # two records and the decoded images


@pytest.mark.slow
def test_a_shard_of_4_gigabytes_is_read_in_one(tmp_path):
    """The process as a whole, libraries and inflated stream included, stays below 1 GB."""
    path = tmp_path / "a.gz"
    assert long_shard(path, 120) * 120 > 4e9
    code = (
        "import resource, sys; from soilkit.export.published import read_shard, schema; "
        f"n = sum(1 for _ in read_shard({str(path)!r}, features=schema.IMAGES)); "
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    n, peak_kb = (int(word) for word in out.stdout.split())
    assert n == 120 and peak_kb * 1024 < 1e9


def test_a_record_holds_while_the_next_one_is_inflated(shard):
    """However long the caller takes over it."""
    data = bytes(inflated(shard))
    for number, record in wire.RecordStream(shard, checksums=True, skip_damaged=False):
        time.sleep(0.2)
        at = record_start(data, number)
        assert record.tobytes() == data[at + 12 : at + 12 + record.size]


def test_a_reader_may_stop_early_and_leaves_no_thread(shard):
    """Closed or merely dropped, without waiting for the garbage collector."""

    def inflating():
        return {t for t in threading.enumerate() if t.name.startswith("inflate")}

    before = inflating()
    reader = read_shard(shard, features=[VV])
    next(reader)
    reader.close()
    assert inflating() == before and list(reader) == []
    gc.disable()
    try:
        next(read_shard(shard, features=[VV]))
        assert inflating() == before
    finally:
        gc.enable()


def test_a_shard_of_several_gzip_members_is_one(shard, tmp_path):
    """Concatenated gzip files are a gzip file; a record may lie across two members."""
    data = inflated(shard)
    half = len(data) // 2
    path = tmp_path / "two.gz"
    path.write_bytes(gzip.compress(bytes(data[:half]), 1) + gzip.compress(bytes(data[half:]), 1))
    assert [s.scalars["size"] for s in read_shard(path, features=[VV])] == [0, 1, 2]


def test_without_isal_the_gzip_module_inflates(shard, tmp_path, monkeypatch, caplog):
    """A platform without isal reads and writes the same, slower, and says so once."""
    stream = wire.RecordStream(shard, checksums=True, skip_damaged=False)
    fast = [(number, data.copy()) for number, data in stream]  # its memory is used again
    monkeypatch.setitem(sys.modules, "isal", None)
    spec = importlib.util.spec_from_file_location("framing_without_isal", wire.__file__)
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    with caplog.at_level(logging.WARNING):
        assert plain.inflater()[0] is gzip
    assert "isal is not installed" in caplog.text
    pairs = zip(
        plain.RecordStream(shard, checksums=True, skip_damaged=False),
        fast,
        strict=True,
    )
    assert [np.array_equal(a, b) for (_, a), (_, b) in pairs] == [True] * 3
    whole = shard.read_bytes()
    for changed, reason in (
        (whole[:-2000], "truncated"),
        (damaged_stream(whole), "damaged"),
    ):
        (tmp_path / "a.gz").write_bytes(changed)
        stream = plain.RecordStream(tmp_path / "a.gz", checksums=False, skip_damaged=False)
        with pytest.raises(ShardError, match=reason):
            list(stream)


def damaged_stream(whole):
    """A block of a kind that deflate does not have, right after the header of ten bytes."""
    return whole[:10] + b"\xff" * 8 + whole[18:]


# ---- what is broken ------------------------------------------------------------------------------


def test_a_truncated_gzip_keeps_what_came_before(shard, tmp_path):
    """Cut in the third record: two samples, then an error that names the third."""
    whole = shard.read_bytes()
    path = tmp_path / "cut.gz"
    path.write_bytes(whole[: len(whole) - 2000])
    seen, error = read_until_broken(path)
    assert seen == [0, 1] and error.record == 2
    assert "record 2 (counted from 0) is truncated: the gzip stream ends" in str(error)


def test_a_cut_in_the_framing_is_told_from_a_cut_in_the_gzip(shard, tmp_path):
    """Whoever copied half the records made a whole gzip of them."""
    data = inflated(shard)
    for cut in (len(data) - 2, len(data) - 3000):  # in the last checksum, in the last data
        seen, error = read_until_broken(refilled(tmp_path, data[:cut]))
        assert seen == [0, 1] and error.record == 2
        assert "record 2 (counted from 0) is truncated: the TFRecord framing ends" in str(error)
    seen, error = read_until_broken(refilled(tmp_path, data + b"\x01\x02"))  # half a length
    assert seen == [0, 1, 2] and error.record == 3


def test_a_damaged_deflate_stream_is_an_error_of_its_own(shard, tmp_path):
    path = tmp_path / "damaged.gz"
    path.write_bytes(damaged_stream(shard.read_bytes()))
    seen, error = read_until_broken(path)
    assert seen == [] and "record 0 (counted from 0) lies where the gzip stream is damaged" in str(
        error
    )


def record_start(data, number):
    at = 0
    for _ in range(number):
        at += struct.unpack_from("<Q", data, at)[0] + 16
    return at


def test_a_wrong_checksum_names_its_record_or_is_counted(shard, tmp_path):
    """One flipped bit in the second record's data."""
    data = inflated(shard)
    data[record_start(data, 1) + 500] ^= 1
    path = refilled(tmp_path, data)
    seen, error = read_until_broken(path)
    assert seen == [0] and error.record == 1 and "record 1" in str(error)
    reader = read_shard(path, features=[VV], damaged="skip")
    assert [s.scalars["size"] for s in reader] == [0, 2]
    assert reader.damaged == [1]
    assert len(list(read_shard(path, features=[VV], checksums=False))) == 3


def test_a_wrong_length_ends_the_shard_and_is_never_allocated(shard, tmp_path):
    """2^60 bytes: refused by its checksum, and with a forged checksum by its size."""
    data, n = inflated(shard), 2**60
    at = record_start(data, 1)
    data[at : at + 8] = struct.pack("<Q", n)
    seen, error = read_until_broken(refilled(tmp_path, data), damaged="skip", checksums=False)
    assert (
        seen == [0]
        and error.record == 1
        and "record 1 (counted from 0) has a length that fails" in str(error)
    )
    data[at + 8 : at + 12] = struct.pack("<I", wire.masked_crc32c(struct.pack("<Q", n)))
    tracemalloc.start()
    seen, error = read_until_broken(refilled(tmp_path, data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == [0] and f"claims {n} bytes" in str(error) and peak < 300e6


def test_what_is_no_gzip_says_so(tmp_path):
    path = tmp_path / "a.tfrecord.gz"
    path.write_bytes(b"")
    assert "is empty" in str(read_until_broken(path)[1])
    path.write_bytes(b"<html>Please log in</html>")
    assert "no gzip file: it begins with b'<h'" in str(read_until_broken(path)[1])
    path.write_bytes(gzip.compress(b"sensor,time,soil_moisture\n" * 9))
    assert "may hold no TFRecords" in str(read_until_broken(path)[1])
    path.write_bytes(gzip.compress(b""))
    assert list(read_shard(path)) == []  # a shard to which no sample fell


def write_record(path, message):
    body = message if isinstance(message, bytes) else message.SerializeToString()
    wire.write_records(path, [body])


def test_a_shard_that_is_not_there_says_where_to_get_one(tmp_path):
    for path in (tmp_path / "absent.tfrecord.gz", tmp_path):
        with pytest.raises(ShardError, match="Fetch one with soilkit.export.published.download"):
            next(read_shard(path))


def test_another_schema_names_what_it_lacks(tmp_path):
    """A shard of pictures; a sensor without its radar; an image of another size or kind."""
    path = tmp_path / "a.gz"
    message = example_class()()
    message.features.feature["image/encoded"].bytes_list.value.append(b"jpeg")
    write_record(path, message)
    _, error = read_until_broken(path)
    assert "lacks 5 of the wanted features, sensor_id, timestamp" in str(error)
    assert VV in str(error) and "it has image/encoded" in str(error)
    known = {"timestamp": 1.5e12, "center_lat": 1.0, "center_long": 2.0}
    for name, value in known.items():
        message.features.feature[name].float_list.value.append(value)
    message.features.feature["sensor_id"].bytes_list.value.append(b"A__B__C")
    for pixels, reason in (
        ([], f"lacks 1 of the wanted features, {VV};"),
        ([1] * 100, f"image {VV} should be 262144 integers, is 100 of kind int"),
        ([70_000] * 512 * 512, "holds 70000 to 70000, beyond 16 bits"),
    ):
        message.features.feature[VV].int64_list.value[:] = pixels
        write_record(path, message)
        assert reason in str(read_until_broken(path)[1])
    message.features.feature[VV].float_list.value.extend([1.0] * 512 * 512)
    write_record(path, message)
    assert "of kind float" in str(read_until_broken(path)[1])
    write_record(path, b"\xff\xff\xff")
    seen, error = read_until_broken(path)
    assert error.record == 0 and "record 0 (counted from 0)" in str(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [("timestamp", b"noon"), ("sm_0_5", b"wet"), ("smap_sm", b""), ("smap_time_millis_diff", b"-")],
)
def test_times_places_and_moisture_that_are_no_numbers_are_another_schema(tmp_path, name, value):
    known = dict.fromkeys(("timestamp", "center_lat", "center_long"), ("float", [1.0]))
    features = {"sensor_id": ("bytes", [b"A"]), **known, name: ("bytes", [value])}
    write_record(tmp_path / "a.gz", to_protobuf(features, packed=True))
    with pytest.raises(ShardError, match=f"record 0 .*{name} should be one number, is '"):
        list(read_shard(tmp_path / "a.gz", features=[]))


def lists(kind, body):
    """An Example with one feature of a list of that kind."""
    return wrapped(bytes([kind << 3 | 2]) + wire._length(len(body)) + body)


BOMBS = {
    "one long integer and zeros": (
        lists(3, wire._field(1, b"\xac\x02" + bytes(2**22))),
        "bytes that",
    ),
    "empty texts": (lists(1, b"\x0a\x00" * 2**20), "feature 'a'.* more than 256 fields"),
    "single floats": (lists(2, (b"\x0d" + bytes(4)) * 2**18), "more than 256 fields"),
    "integers and unknown fields": (lists(3, b"\x08\x01\x10\x01" * 2**18), "more than 256 fields"),
    "features": (wire._field(1, b"\x0a\x00" * 2**20), "more than 1024 fields"),
    "messages": (b"\x0a\x00" * 2**20, "more than 16 fields"),
    "kinds": (wrapped(b"\x1a\x00" * 2**20), "more than 16 fields"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_record_takes_little_whatever_it_claims(tmp_path, bomb):
    """Kilobytes of gzip that would be gigabytes of numbers, texts or messages."""
    content, words = BOMBS[bomb]
    write_record(tmp_path / "a.gz", content)
    start, error = time.process_time(), read_until_broken(tmp_path / "a.gz")[1]
    assert re.search(words, str(error)) and error.record == 0
    assert time.process_time() - start < 5


def test_a_shard_that_inflates_without_end_is_left(shard, monkeypatch):
    monkeypatch.setattr(wire, "MAX_SHARD_BYTES", 45_000_000)
    seen, error = read_until_broken(shard)
    assert seen == [0, 1] and "record 2 (counted from 0) ends beyond 45000000" in str(error)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.gz")
    with pytest.raises(ShardError, match="cannot be opened"):
        next(read_shard(tmp_path / "a.gz"))


# ---- from an archive -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world():
    """Two stations of the synthetic archive and one sample of each."""
    archive = archives.open_archive(
        "synthetic", seed=0, n_stations=2, start="2020-05-01", end="2020-07-01", revisit_days=12
    )
    stations = archive.world.stations().drop_duplicates("station_id").reset_index(drop=True)
    rows = []
    for place in stations.itertuples():
        one = stations[stations.station_id == place.station_id]
        seen = {
            s: archive.scenes(one, s, "2020-05-20", "2020-06-10") for s in ("sentinel1", "smap")
        }
        time = seen["sentinel1"]["end"].iloc[0].ceil("h")
        row = {
            "sample_id": place.sensor_id, "sensor_id": place.sensor_id,
            "station_id": place.station_id, "time": time, "soil_moisture_m3_m3": 0.2,
            "soilgrids_scene": "static", "soilgrids_age_hours": np.nan,
        }  # fmt: skip
        for source, scenes in seen.items():
            past = scenes[scenes["end"] <= time].sort_values("end").iloc[-1]
            row[f"{source}_scene"] = past["scene_id"]
            row[f"{source}_age_hours"] = (time - past["end"]) / pd.Timedelta("1h")
        rows.append(row)
    samples = pd.DataFrame(rows).astype({"time": "datetime64[us]"})
    contracts.check(samples, contracts.SAMPLES)
    return archive, stations, samples


def test_a_shard_of_the_synthetic_world_is_what_the_archive_shows(world, tmp_path):
    """Chips within half a byte, times within 66 s, ids without depths, labels of one network."""
    archive, stations, samples = world
    labelled = [stations["network"][0]]
    path = tmp_path / "a.gz"
    n = write_archive_shard(path, samples, archive=archive, stations=stations, labelled=labelled)
    wanted = schema.images_of("sentinel1", "soilgrids", "dem")
    shown = list(read_shard(path, features=wanted))
    assert n == len(shown) == 2
    for one, row, place in zip(shown, samples.itertuples(), stations.itertuples(), strict=True):
        assert one.sensor_id == f"{place.station_id}__{place.sensor_id.split('__')[2]}"
        assert abs(one.time - row.time.to_numpy()) <= np.timedelta64(66, "s")
        assert one.ages_hours["sentinel_1"] == pytest.approx(row.sentinel1_age_hours, abs=1e-3)
        assert (one.latitude, one.longitude) == pytest.approx((place.latitude, place.longitude))
        label = 0.2 if place.network in labelled else np.nan
        assert one.soil_moisture_m3_m3 == pytest.approx(label, nan_ok=True, abs=1e-6)
        assert np.isfinite(one.coarse["smap"]) and np.isnan(one.coarse["gldas"])
        assert not one.images[DEM].any()  # the samples name no elevation
        check_chip(archive, row, place, one.bands)


def check_chip(archive, row, place, bands):
    from soilkit import grids

    grid = grids.chip_grid(place.latitude, place.longitude, size_px=512, pixel_size_m=10)
    time = (row.time - pd.Timedelta(hours=row.sentinel1_age_hours)).round("s")
    for source, scene, moment, half_byte in (
        ("sentinel1", row.sentinel1_scene, time.to_datetime64(), [30 / 510, 30 / 510, 90 / 510]),
        ("soilgrids", "static", np.datetime64("NaT"), [800 / 510] * 4),
    ):
        names = [b.name for b in sources.get(source).bands]
        request = ChipRequest(source, scene, row.station_id, moment, tuple(names), grid)
        ((_, chip),) = archive.chips([request])
        found = {schema.feature(n).band: v for n, v in bands.items() if source in place_of(n)}
        for name, values, tolerance in zip(names, chip.values, half_byte, strict=True):
            inside = (values > -24.9) & (values < 5) if name in ("VV", "VH") else values > 2
            off = np.abs(found[name] - values)[inside]
            assert off.size > 200_000 and off.max() <= tolerance * 1.001, name


def place_of(name):
    return schema.feature(name).source


def test_samples_without_a_scene_leave_their_images_out(world, tmp_path):
    archive, stations, samples = world
    bare = samples.drop(columns=["soilgrids_scene", "smap_scene"])
    bare = bare.assign(sentinel1_scene="S1_of_nobody")
    write_archive_shard(tmp_path / "a.gz", bare, archive=archive, stations=stations)
    one = next(read_shard(tmp_path / "a.gz", features=schema.IMAGES))
    assert not any(image.any() for image in one.images.values())
    assert "smap_sm" not in one.scalars
