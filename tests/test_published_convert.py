"""Published shards to samples and chips: nothing lost, nothing read twice, nothing overwritten."""

import errno
import threading
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from soilkit import contracts, grids, sources
from soilkit.contracts import ChipRequest
from soilkit.errors import ContractError, ShardError, StoreError
from soilkit.export import archives, chips, insitu, join, published
from soilkit.export.chips.builder import Writer
from soilkit.export.published import conversion, schema
from soilkit.export.published import examples as images
from soilkit.export.published.conversion import to_dataset
from soilkit.export.published.examples import grid_of
from soilkit.export.published.labels import Labels
from soilkit.export.published.shards import Sample, write_shard
from soilkit.models import datasets, inputs

NOON = np.datetime64("2020-06-01T12:00", "ms")
HOUR = np.timedelta64(1, "h")
NAMES = ("sentinel1", "sentinel2", "dem", "soilgrids", "smap", "gldas")
TABLES = ("stations", "observations", "scenes", "drops", "features", "samples")


# ---- cheap records: images that are constant but for their corner --------------------------------


def millis(time):
    return float(np.float32(time.astype("datetime64[ms]").astype(np.int64)))


def record(sensor_id="NET__A__P", *, hours=0, label=0.2, level=100, scene_hours=None, **scalars):
    """A record some hours after noon; its radar scene is half an hour older unless told."""
    time = NOON + hours * HOUR
    seen = time - np.timedelta64(30, "m") if scene_hours is None else NOON + scene_hours * HOUR
    east = 0.2 * (ord(sensor_id[-4]) - ord("A")) if sensor_id[-4].isupper() else 0.0
    told = {"sensor_id": sensor_id, "timestamp": millis(time)}
    told |= {"center_lat": 36.0, "center_long": -98.0 + east, "smap_sm": 51, "gldas_sm": 102}
    for prefix in ("sentinel_1", "sentinel_2", "smap", "gldas"):
        told[f"{prefix}_timestamp"] = millis(seen)
        told[f"{prefix}_time_millis_diff"] = float((time - seen) / np.timedelta64(1, "ms"))
    if label:
        told["sm_5_5"] = label
    pixels = {n: np.full((512, 512), level, np.uint8) for n in schema.MODEL_IMAGES}
    for image in pixels.values():
        image[:128, :128] = np.arange(128) + 1
    return Sample(told | scalars, pixels)


def write(folder, *shards):
    """Shards of records; returns their paths."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"data-{k:05d}-of-00500.tfrecord.gz" for k in range(len(shards))]
    for path, records in zip(paths, shards, strict=True):
        write_shard(path, records)
    return paths


def run(shards, out, **options):
    return to_dataset(shards, out, progress=False, **options)


def archive_labels(*rows, probes=("P",)):
    """An archive of one station NET__A, its readings (hours after noon, value, flag)."""
    ids = [f"NET__A__{p}__0.05__0.05" for p in probes]
    stations = pd.DataFrame({"sensor_id": ids, "station_id": "NET__A", "network": "NET"})
    stations = stations.assign(station="A", latitude=36.0, longitude=-98.0, elevation_m=412.0)
    stations = stations.assign(depth_from_m=0.05, depth_to_m=0.05, land_cover="Agriculture")
    stations = stations.assign(koeppen="Cfa", texture="Loam")
    hours, values, flags = zip(*rows, strict=True)
    readings = pd.DataFrame({"sensor_id": ids[0], "soil_moisture_m3_m3": values, "flag": flags})
    readings["time"] = NOON + np.array(hours) * HOUR
    return Labels(stations, readings.astype({"time": "datetime64[us]"}))


def test_every_record_is_a_sample_or_a_counted_drop(tmp_path):
    """Merged, own, flagged, repeated, nameless, not read, empty, half empty: each counted."""
    empty, holes = record(hours=5), record(hours=6)
    empty.images["sentinel_1_VV"][:] = 0
    holes.images["sentinel_2_B4"][:, :200] = 0
    shards = write(
        tmp_path / "in",
        [record(label=0, hours=1), record(hours=2), record(label=0, hours=3), record(hours=2)],
        [record("NOBODY"), record(label=0, hours=4), empty, holes],
    )
    labels = archive_labels((1, 0.31, "G"), (3, 0.4, "D01"))
    found = run(shards, tmp_path / "out", labels=labels)
    assert found.n_records == 8
    assert found.samples["soil_moisture_m3_m3"].tolist() == pytest.approx([0.31, 0.2])
    drops = found.drops.set_index("reason")
    assert drops["count"].to_dict() == {
        "sensor_id is not NETWORK__STATION__SENSOR": 1,
        "reading flagged D01": 1,
        "no reading within 3 min": 1,
        "repeats a record of the same sensor and time": 1,
        "chip failed: empty": 1,
        "chip below 80% valid": 1,
    }
    assert drops.loc["chip failed: empty", "source"] == "sentinel1"
    assert drops.loc["chip below 80% valid", "source"] == "sentinel2"
    assert found.label_counts["records"].sum() == 8
    for name in TABLES:
        table = pd.read_parquet(tmp_path / "out" / f"{name}.parquet")
        contracts.check(table, getattr(contracts, name.upper()))


def test_without_an_archive_only_the_shards_own_labels_count(tmp_path):
    shards = write(tmp_path / "in", [record(), record(label=0, hours=1)])
    found = run(shards, tmp_path / "out")
    assert len(found.samples) == 1
    assert found.drops["reason"].tolist() == ["no label in the shard, and no in-situ archive given"]
    row = found.stations.iloc[0]
    assert row["sensor_id"] == "NET__A__P__0.05__0.05" and row["land_cover"] == ""


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"timestamp": 0.0}, "record has no time"),
        ({"timestamp": float("nan")}, "record has no time"),
        ({"timestamp": 1e30}, "record has no time"),
        ({"center_lat": float("nan")}, "record has no place in a UTM zone"),
        ({"center_lat": 88.0}, "record has no place in a UTM zone"),
        ({"sm_5_5": -0.1}, "label in the shard is no soil moisture"),
        ({"sm_5_5": 17.0}, "label in the shard is no soil moisture"),
    ],
)
def test_a_record_that_cannot_be_a_sample_is_counted_and_costs_no_other(tmp_path, told, reason):
    found = run(write(tmp_path / "in", [record(**told), record(hours=1)]), tmp_path / "out")
    assert len(found.samples) == 1 and found.n_records == 2
    assert found.drops[["source", "reason", "count"]].values.tolist() == [["label", reason, 1]]


def test_a_scene_seen_after_its_reading_makes_no_sample(tmp_path):
    """The stamps tell it, whatever the sign of the difference beside them."""
    late = record(hours=0, scene_hours=1, sentinel_1_time_millis_diff=3.6e6)
    found = run(write(tmp_path / "in", [late, record(hours=5)]), tmp_path / "out")
    assert found.samples["sentinel1_age_hours"].tolist() == pytest.approx([0.5])
    assert found.drops[["source", "reason"]].values.tolist() == [
        ["sentinel1", "seen after the reading"]
    ]
    assert found.n_records == 2


def test_a_coarse_value_that_is_missing_has_neither_scene_nor_age(tmp_path):
    found = run(write(tmp_path / "in", [record(smap_sm=0)]), tmp_path / "out")
    sample = found.samples.iloc[0]
    assert pd.isna(sample["smap_scene"]) and np.isnan(sample["smap_age_hours"])
    assert np.isnan(found.features["smap_ssm"][0]) and sample["gldas_age_hours"] == 0.5


@pytest.mark.parametrize("records", [[], [record(label=0)]], ids=["empty", "no label"])
def test_shards_without_a_single_label_give_empty_tables_and_counted_drops(tmp_path, records):
    found = run(write(tmp_path / "in", records), tmp_path / "out")
    assert found.samples.empty and found.n_records == len(records)
    assert pd.read_parquet(tmp_path / "out" / "samples.parquet").empty


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_read(tmp_path, reads):
    shards = write(tmp_path / "in", [record()])
    (tmp_path / "out").write_text("a file is in the way")
    with pytest.raises(
        StoreError, match="cannot be made or written.*a place that you may write to"
    ):
        run(shards, tmp_path / "out")
    assert reads == []


def test_a_merged_label_brings_its_station_and_its_own_exact_time(tmp_path):
    """The shard's time is off by up to 66 s; the archive's is not, and it knows the ground."""
    shards = write(tmp_path / "in", [record(label=0, hours=1)])
    found = run(shards, tmp_path / "out", labels=archive_labels((1, 0.3, "C03")))
    sample, station = found.samples.iloc[0], found.stations.iloc[0]
    assert sample["time"] == pd.Timestamp(NOON + HOUR)
    assert sample["sentinel1_age_hours"] == 0.5
    assert (station["elevation_m"], station["texture"]) == (412.0, "Loam")
    assert found.observations["flag"].tolist() == ["C03"]


def test_a_scene_is_stored_once_a_station_however_many_records_hold_it(tmp_path, monkeypatch):
    """Two readings of one pass share their chips; the same pass at another station does not."""
    puts, put = [], Writer._put
    monkeypatch.setattr(
        Writer, "_put", lambda self, *pair: puts.append(pair[0].source) or put(self, *pair)
    )
    shards = write(
        tmp_path / "in",
        [record(hours=1, scene_hours=0), record(hours=2, scene_hours=0)],
        [record("NET__B__P", hours=1, scene_hours=0)],
    )
    found = run(shards, tmp_path / "out")
    assert found.samples.groupby("station_id")["sentinel1_scene"].nunique().tolist() == [1, 1]
    store = chips.open_store(tmp_path / "out" / "chips.zarr")
    for source in store.sources:
        assert len(store.index(source)) == puts.count(source) == 2, source


def test_equal_times_of_unequal_images_are_two_scenes(tmp_path):
    """Stamps are 131 s apart, so two tiles may share one: neither may overwrite the other."""
    shards = write(
        tmp_path / "in",
        [record(hours=1, scene_hours=0), record(hours=2, scene_hours=0, level=90)],
    )
    found = run(shards, tmp_path / "out")
    store = chips.open_store(tmp_path / "out" / "chips.zarr")
    scenes = found.samples["sentinel1_scene"].tolist()
    centres = [store.read("sentinel1", s, "NET__A").values[0, 256, 256] for s in scenes]
    assert centres == pytest.approx([-25 + 30 * level / 255 for level in (100, 90)], abs=0.01)


def test_saturated_optics_stand_at_the_stores_limit(tmp_path):
    """Byte 255 of B8 decodes to 90,000: the chip keeps what an integer of 16 bits can hold."""
    bright = record(level=255)
    found = run(write(tmp_path / "in", [bright]), tmp_path / "out")
    store = chips.open_store(tmp_path / "out" / "chips.zarr")
    chip = store.read("sentinel2", found.samples["sentinel2_scene"][0], "NET__A")
    assert chip.values[chip.bands.index("B8"), 300, 300] == 32767


def test_soil_maps_are_means_of_the_known_pixels(tmp_path):
    """0 is no data: a block of 160 m that is half unknown has the mean of its other half."""
    soil = record()
    for name in images.FEATURES["soilgrids"].values():
        soil.images[name][:, ::2] = 0
        soil.images[name][128:144, 128:144] = 0
    found = run(write(tmp_path / "in", [soil]), tmp_path / "out")
    store = chips.open_store(tmp_path / "out" / "chips.zarr")
    chip = store.read("soilgrids", found.samples["soilgrids_scene"][0], "NET__A")
    assert chip.grid.pixel_size_m == 160 and chip.values.shape == (4, 32, 32)
    assert chip.values[:, 16, 16] == pytest.approx(800 * 100 / 255, abs=0.06)
    assert np.isnan(chip.values[:, 8, 8]).all()


def test_a_smaller_chip_is_the_centre_of_the_whole_one(tmp_path):
    shards = write(tmp_path / "in", [record()])
    whole, part = (run(shards, tmp_path / str(n), size_px=n) for n in (512, 256))
    for source, edge in (("sentinel1", 128), ("soilgrids", 8)):
        values, grid = {}, {}
        for n, found in ((512, whole), (256, part)):
            scene = found.samples[f"{source}_scene"][0]
            chip = chips.open_store(tmp_path / str(n) / "chips.zarr").read(source, scene, "NET__A")
            values[n], grid[n] = chip.values, chip.grid
        assert np.array_equal(values[512][:, edge:-edge, edge:-edge], values[256], equal_nan=True)
        assert grid[256].left_m == grid[512].left_m + 1280
    with pytest.raises(ContractError, match="multiple of 32"):
        run(shards, tmp_path / "odd", size_px=500)


# ---- going on ------------------------------------------------------------------------------------


def four_records():
    return [
        [record(hours=1), record("NET__B__P", hours=2)],
        [record(hours=3, level=80), record(hours=4, scene_hours=2.5, level=80)],
    ]


def content(out):
    tables = {n: pd.read_parquet(out / f"{n}.parquet") for n in TABLES}
    return chips.open_store(out / "chips.zarr").data_hash, tables


@pytest.mark.parametrize(("n", "killed"), [(3, False), (1, True)], ids=["interrupted", "killed"])
def test_a_conversion_goes_on_to_the_same_end(tmp_path, monkeypatch, n, killed):
    """Stopped inside either shard, with its ledgers saved or not: the same store and tables."""
    shards = write(tmp_path / "in", *four_records())
    run(shards, tmp_path / "undisturbed")
    original = images.chips_of
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "images", _Images(original, n))
        if killed:
            patch.setattr(Writer, "_save", lambda self: None)
        with pytest.raises(KeyboardInterrupt):
            run(shards, tmp_path / "out")
    assert not (tmp_path / "out" / "samples.parquet").exists()
    run(shards, tmp_path / "out")
    expected, found = content(tmp_path / "undisturbed"), content(tmp_path / "out")
    assert found[0] == expected[0]
    for name in TABLES:
        pd.testing.assert_frame_equal(found[1][name], expected[1][name])
    assert chips.verify(tmp_path / "out" / "chips.zarr").empty


class _Images:
    """The module ``images``, whose ``chips_of`` is interrupted at its n-th record."""

    def __init__(self, original, n):
        self._original, self._left = original, n

    def __getattr__(self, name):
        return getattr(images, name)

    def chips_of(self, sample, **options):
        self._left -= 1
        for k, pair in enumerate(self._original(sample, **options)):
            if self._left < 0 and k == 2:
                raise KeyboardInterrupt
            yield pair


@pytest.fixture
def reads(monkeypatch):
    """The names of shards that are opened, in order."""
    opened = []

    def counted(path, **options):
        opened.append(path.name[5:10])
        return published.read_shard(path, **options)

    monkeypatch.setattr(conversion, "read_shard", counted)
    return opened


def test_a_shard_is_read_once_unless_it_or_the_labels_change(tmp_path, reads):
    first, second = write(tmp_path / "in", *four_records())
    run([first], tmp_path / "out")
    kept = next((tmp_path / "out" / "shards").glob("data-00000*.parquet"))
    run([first, second], tmp_path / "out")
    assert reads == ["00000", "00001"]
    kept.write_bytes(kept.read_bytes()[:-20])
    run([first, second], tmp_path / "out")
    assert reads == ["00000", "00001", "00000"]
    reads.clear()
    run([first, second], tmp_path / "out", labels=archive_labels((1, 0.3, "G")))
    assert reads == ["00000", "00001"]
    write_shard(first, [record(hours=9)])
    found = run([first, second], tmp_path / "out")
    assert reads[2:] == ["00000"]
    assert len(found.samples) == 3


def test_a_chip_damaged_on_disk_is_read_from_its_shard_again(tmp_path, reads):
    shards = write(tmp_path / "in", *four_records())
    store = tmp_path / "out" / "chips.zarr"
    run(shards, tmp_path / "out")
    whole = chips.open_store(store).data_hash
    victim = store / "sentinel1" / "values" / "c.0.0.0.0"
    victim.write_bytes(victim.read_bytes()[:-500])
    assert len(chips.verify(store)) == 1
    found = run(shards, tmp_path / "out")
    assert reads == ["00000", "00001", "00000"]
    assert len(found.samples) == 4 and chips.open_store(store).data_hash == whole


def test_a_cut_shard_costs_no_other_and_is_named(tmp_path, reads):
    cut, sound = write(tmp_path / "in", *four_records())
    bytes_ = cut.read_bytes()
    cut.write_bytes(bytes_[: len(bytes_) // 2])
    with pytest.raises(ShardError, match=r"1 of 2 shards.*data-00000.* truncated"):
        run(tmp_path / "in", tmp_path / "out")
    assert chips.verify(tmp_path / "out" / "chips.zarr").empty
    assert len(run([sound], tmp_path / "out").samples) == 2
    cut.write_bytes(bytes_)
    assert len(run(tmp_path / "in", tmp_path / "out").samples) == 4
    assert reads == ["00000", "00001", "00000"]


def test_a_store_that_fails_leaves_no_shard_open(tmp_path, monkeypatch):
    def full(self, request, answer):
        raise OSError(errno.ENOSPC, "No space left on device")

    def inflating():
        return {t for t in threading.enumerate() if t.name.startswith("inflate")}

    shards, before = write(tmp_path / "in", [record(), record(hours=1)]), inflating()
    monkeypatch.setattr(Writer, "_put", full)
    with pytest.raises(StoreError, match="disk is full") as held:
        run(shards, tmp_path / "out")
    assert inflating() == before and held.value.__traceback__ is not None


def test_a_record_of_a_wrong_checksum_is_a_counted_drop(tmp_path, monkeypatch):
    from soilkit.export.published import wire

    right = wire.masked_crc32c
    wrong = iter([0, 0, 0, 1])  # length and data of the first record, then of the second
    with monkeypatch.context() as patch:
        patch.setattr(wire, "masked_crc32c", lambda data: right(data) ^ next(wrong, 0))
        shards = write(tmp_path / "in", [record(hours=1), record(hours=2), record(hours=3)])
    found = run(shards, tmp_path / "out")
    assert len(found.samples) == 2 and found.n_records == 3
    assert found.drops["reason"].tolist() == ["record fails its checksum"]


def test_no_shards_at_all_is_said(tmp_path):
    with pytest.raises(ShardError, match=r"no \*.tfrecord.gz in"):
        run(tmp_path, tmp_path / "out")
    with pytest.raises(ShardError, match="no file .*absent"):
        run([tmp_path / "absent.tfrecord.gz"], tmp_path / "out")


def test_memory_does_not_grow_with_the_shard(tmp_path):
    """A record raw is 24 MB: four more in the shard add none to the peak."""
    peaks = []
    for n in (3, 7):
        shards = write(tmp_path / f"in{n}", [record(hours=k) for k in range(n)])
        tracemalloc.start()
        run(shards, tmp_path / f"out{n}")
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    assert peaks[1] < 250 and peaks[1] < peaks[0] + 8, peaks


# ---- where an image lies -------------------------------------------------------------------------

GRID = grids.chip_grid(36.0, -98.0, size_px=512, pixel_size_m=10)


def corners(grid, *, shift_m=0.0, short_m=0.0):
    left, bottom, right, top = grid.bounds_m
    left, bottom, right, top = (
        left + shift_m + short_m, bottom + short_m, right + shift_m - short_m, top - short_m,
    )  # fmt: skip
    return np.array([left, top, right, top, right, bottom, left, bottom, left, top], np.float32)


@pytest.mark.parametrize("zone", ["14N", "14", "UTM zone 14", "EPSG:32614", "32614", 14])
def test_a_polygon_and_its_zone_tell_the_grid(zone):
    """The zone's spelling is not published; 137 m off the sensor is the polygon's to say."""
    told = record(utm_zone=zone, utm_easting_northing_image_polygon=corners(GRID, shift_m=137))
    grid, is_told = grid_of(told)
    assert is_told
    assert (grid.crs, grid.left_m, grid.top_m) == ("EPSG:32614", GRID.left_m + 137, GRID.top_m)


@pytest.mark.parametrize(
    "scalars",
    [
        {},
        {"utm_zone": "14N"},
        {"utm_zone": "?", "utm_easting_northing_image_polygon": corners(GRID)},
        {"utm_zone": "15N", "utm_easting_northing_image_polygon": corners(GRID)},
        {"utm_zone": "14N", "utm_easting_northing_image_polygon": corners(GRID, short_m=50)},
        {"utm_zone": "14N", "utm_easting_northing_image_polygon": corners(GRID, shift_m=9e3)},
        {"utm_zone": "14N", "utm_easting_northing_image_polygon": "POLYGON EMPTY"},
    ],
    ids=["none", "no polygon", "no zone", "other zone", "not 5.12 km", "elsewhere", "no numbers"],
)
def test_a_polygon_that_cannot_be_it_is_passed_over(scalars):
    assert grid_of(record(**scalars)) == (GRID, False)


def test_a_polygon_through_pixel_centres_or_as_text_is_the_same_image():
    text = "POLYGON ((" + ", ".join(f"{x} {y}" for x, y in corners(GRID).reshape(-1, 2)) + "))"
    for polygon in (corners(GRID, short_m=5), text):
        told = record(utm_zone="14N", utm_easting_northing_image_polygon=polygon)
        assert grid_of(told) == (GRID, True)


def test_the_southern_hemisphere_has_its_own_zones():
    south = grids.chip_grid(-36.0, -98.0, size_px=512, pixel_size_m=10)
    told = {"utm_zone": "14S", "utm_easting_northing_image_polygon": corners(south)}
    grid, is_told = grid_of(record(center_lat=-36.0, **told))
    assert is_told and grid.crs == "EPSG:32714"


def test_places_that_were_inferred_are_counted(tmp_path):
    told = {"utm_zone": "14N", "utm_easting_northing_image_polygon": corners(GRID)}
    found = run(write(tmp_path / "in", [record(**told), record(hours=1)]), tmp_path / "out")
    assert found.places_inferred == 1


# ---- the synthetic world through shards and back -------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Four samples of two stations of a world: one network's labels are in the shards."""
    folder = tmp_path_factory.mktemp("world")
    archive = archives.open_archive(
        "synthetic", seed=0, n_stations=6, start="2019-05-01", end="2019-07-01", revisit_days=12
    )
    ismn = archive.world.write_ismn(folder / "ismn.zip")
    how = {"cache_dir": folder / "cache", "progress": False}
    stations, readings = insitu.read_stations(ismn, **how), insitu.read_ismn(ismn, **how)
    bounds = {n: pd.Timedelta(b) for n, b in sources.bounds("sentinel1", NAMES).items()}
    scenes = [archive.scenes(stations, n, "2019-04-10", "2019-07-01") for n in NAMES]
    joined = join.anchored_join(readings, pd.concat(scenes), stations, bounds=bounds).samples
    ends = joined["station_id"].astype(str).isin(stations["station_id"].iloc[[0, -1]])
    rows = joined[ends].groupby("station_id", observed=True).tail(2).reset_index(drop=True)
    for k in range(2):
        published.write_archive_shard(
            folder / f"data-{k:05d}-of-00500.tfrecord.gz", rows.iloc[k::2],
            archive=archive, stations=stations, labelled=[stations["network"].iloc[-1]],
        )  # fmt: skip
    labels = Labels.from_ismn(ismn, **how)
    return archive, rows, run(folder, folder / "out", labels=labels), folder / "out"


def test_a_worlds_samples_come_back_from_its_shards(world):
    """Labels to float32, ages to a second, times to half a step of the shard's."""
    _, rows, found, _ = world
    assert len(found.samples) == len(rows) == 4
    assert found.label_counts.set_index("outcome")["records"].to_dict() == {
        "merged": 2, "label in the shard": 2,
    }  # fmt: skip
    mine = found.samples.sort_values(["sensor_id", "time"])
    theirs = rows.sort_values(["sensor_id", "time"])
    for (_, a), (_, b) in zip(mine.iterrows(), theirs.iterrows(), strict=True):
        assert a["sensor_id"] == b["sensor_id"]
        assert np.float32(a["soil_moisture_m3_m3"]) == np.float32(b["soil_moisture_m3_m3"])
        assert abs(a["time"] - b["time"]) <= pd.Timedelta("66s")
        for name in ("sentinel1", "sentinel2", "smap", "gldas"):
            assert a[f"{name}_age_hours"] == pytest.approx(b[f"{name}_age_hours"], abs=2e-4)


def test_chips_are_the_worlds_own_within_a_byte(world):
    """To half a step of byte and store: no shift, no swapped band, no other scene."""
    archive, rows, found, out = world
    store = chips.open_store(out / "chips.zarr")
    sample = found.samples.iloc[0]
    mine = rows[rows["sensor_id"].astype(str) == str(sample["sensor_id"])]
    row = mine.loc[(mine["time"] - sample["time"]).abs().idxmin()]
    for name in images.BANDS:
        chip = store.read(name, str(sample[f"{name}_scene"]), str(sample["station_id"]))
        high = chip.grid.pixel_size_m == 10
        grid = chip.grid if high else contracts.Grid(
            chip.grid.crs, chip.grid.left_m, chip.grid.top_m, 10.0, 512, 512)  # fmt: skip
        age = pd.Timedelta(hours=np.nan_to_num(row[f"{name}_age_hours"]))
        request = ChipRequest(
            name, str(row[f"{name}_scene"]), str(row["station_id"]),
            (row["time"] - age.round("us")).to_datetime64().astype("datetime64[us]"),
            chip.bands, grid, version=archive.version,
        )  # fmt: skip
        truth = next(archive.chips([request]))[1].values
        if not high:
            blocks = truth.reshape(len(truth), 32, 16, 32, 16)
            assert np.abs(chip.values - blocks.mean(axis=(2, 4))).max() < 800 / 255 / 2 + 0.06
            continue
        for band, ours, theirs in zip(chip.bands, chip.values, truth, strict=True):
            feature = images.FEATURES[name][band]
            apart = schema.encode(feature, ours).astype(int) - schema.encode(feature, theirs)
            assert np.abs(apart).max() <= 1, (name, band)
            assert (apart == 0).mean() > 0.9, (name, band)


def test_the_dataset_feeds_the_paper_model(world):
    """ChipDataset reads what 20 reads: ten bands at 10 m, four at 160 m, two scalars, the label."""
    _, _, found, out = world
    data = datasets.ChipDataset(
        found.samples, found.features, chips.open_store(out / "chips.zarr"),
        inputs=inputs.Inputs(),
    )  # fmt: skip
    batch = data[0]
    assert [tuple(t.shape) for t in list(batch.values())[:3]] == [(10, 256, 256), (4, 16, 16), (2,)]
    assert all(bool(t.isfinite().all()) for t in batch.values())
    assert float(batch["moisture"]) == pytest.approx(found.samples["soil_moisture_m3_m3"][0])


def test_the_manifest_names_its_origin_and_the_networks_to_cite(world):
    _, _, found, out = world
    manifest = chips.open_store(out / "chips.zarr").manifest
    assert manifest["archive"] == {"name": "published", "version": "soil_moisture_retrieval"}
    assert set(found.stations["network"]) <= set(manifest["networks"])
