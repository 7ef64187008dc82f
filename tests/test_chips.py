"""The chip store: whole, resumable, aware of damage, and honest about what it dropped."""

import errno
import json
import pickle
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from soilkit import grids, sources
from soilkit.contracts import Failure
from soilkit.errors import (
    ContractError,
    ParameterError,
    SceneNotFoundError,
    StoreError,
    UnknownNameError,
)
from soilkit.export import chips
from soilkit.export.chips import FILL, Packing
from soilkit.export.chips.store import Ledger, Shards, read_manifest, write_manifest
from tests.helpers_archive import FakeArchive, analytic, broken, samples_table, stations_table

STATIONS = stations_table(3)
SAMPLES = samples_table(STATIONS)
CHIPS = 2 * 3 + 3 + 3 + 3  # two radar passes, one optical scene, terrain and soil at three stations


def build(path, archive=None, samples=SAMPLES, **options):
    options = {"size_px": 32, "progress": False, "stations": STATIONS, **options}
    return chips.build(samples, archive or FakeArchive(), path, **options)


def station_zero_scene(source, scene="S1_0"):
    return source, scene, "NET__S0"


def test_a_scene_is_stored_once_per_station_however_many_samples_use_it(tmp_path):
    archive = FakeArchive()
    samples, drops = build(tmp_path / "c", archive)
    store = chips.open_store(tmp_path / "c")
    assert len(samples) == len(SAMPLES) == 8 and drops.empty
    assert len(archive.asked) == CHIPS
    assert {s: len(store.index(s)) for s in store.sources} == {
        "sentinel1": 6, "sentinel2": 3, "dem": 3, "soilgrids": 3,
    }  # fmt: skip
    assert set(store.index("dem")["scene_id"]) == {"static"}


def test_a_chip_reads_back_its_values_within_half_a_step_in_the_right_place(tmp_path):
    archive = FakeArchive()
    build(tmp_path / "c", archive)
    store = chips.open_store(tmp_path / "c")
    for request in archive.asked:
        chip = store.read(request.source, request.scene_id, request.station_id)
        step = store.packing(request.source).scale
        assert chip.grid == request.grid and chip.bands == request.bands
        np.testing.assert_allclose(chip.values, analytic(request), atol=0.51 * step)


def test_low_and_high_resolution_chips_share_their_footprint(tmp_path):
    build(tmp_path / "c", size_px=256)
    store = chips.open_store(tmp_path / "c")
    high = store.read("dem", "static", "NET__S1").grid
    low = store.read("soilgrids", "static", "NET__S1").grid
    assert (high.width, low.width) == (256, 16)
    assert high.bounds_m == low.bounds_m
    station = STATIONS.set_index("station_id").loc["NET__S1"]
    assert high == grids.chip_grid(
        station.latitude, station.longitude, size_px=256, pixel_size_m=10
    )


def test_the_request_carries_the_end_of_its_scene(tmp_path):
    archive = FakeArchive()
    build(tmp_path / "c", archive)
    times = {r.scene_id: r.time for r in archive.asked}
    assert times["S1_0"] == np.datetime64("2020-06-01T12:00")
    assert times["S1_1"] == np.datetime64("2020-06-07T12:00")
    assert times["S2_0"] == np.datetime64("2020-05-31T12:30")
    assert np.isnat(times["static"])


def test_a_second_build_asks_for_nothing_and_a_larger_one_for_the_rest_only(tmp_path):
    build(tmp_path / "c", samples=SAMPLES[SAMPLES["sentinel1_scene"] == "S1_0"])
    again, more = FakeArchive(), FakeArchive()
    build(tmp_path / "c", again, samples=SAMPLES[SAMPLES["sentinel1_scene"] == "S1_0"])
    build(tmp_path / "c", more)
    assert again.asked == []
    assert {r.scene_id for r in more.asked} == {"S1_1"}


def test_a_build_that_asks_for_nothing_leaves_every_index_as_it_is(tmp_path):
    build(tmp_path / "c")
    before = {path: path.stat().st_ino for path in (tmp_path / "c").glob("index_*")}
    build(tmp_path / "c")
    assert before and before == {path: path.stat().st_ino for path in before}


def test_an_interrupted_build_resumes_and_ends_like_an_uninterrupted_one(tmp_path, capsys):
    """Its bar counts what is still to be fetched, with the time that it takes."""
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "broken", FakeArchive(stop_after=7))
    rest = FakeArchive()
    samples, _ = build(tmp_path / "broken", rest, progress=True)
    assert re.search(
        rf"chips: 100%.*{CHIPS - 7}/{CHIPS - 7} \[.*<.*chip/s", capsys.readouterr().err
    )
    build(tmp_path / "whole")
    assert len(rest.asked) == CHIPS - 7 and len(samples) == len(SAMPLES)
    broken_one, whole = (chips.open_store(tmp_path / name) for name in ("broken", "whole"))
    assert broken_one.data_hash == whole.data_hash
    for source in whole.sources:
        pd.testing.assert_frame_equal(broken_one.index(source), whole.index(source))


def test_a_plan_names_what_a_build_would_ask_for_and_asks_for_nothing(tmp_path):
    archive = FakeArchive()
    options = {"stations": STATIONS, "size_px": 32}
    before = chips.plan(SAMPLES, archive, **options)
    assert archive.asked == [] and len(before) == CHIPS
    build(tmp_path / "c", archive)
    assert {r.request_hash for r in before} == {r.request_hash for r in archive.asked}
    assert chips.plan(SAMPLES, archive, store=tmp_path / "c", **options) == []
    assert len(chips.plan(SAMPLES, archive, store=tmp_path / "none", **options)) == CHIPS


def test_a_plan_asks_again_for_what_may_yet_come(tmp_path):
    archive = FakeArchive(
        failures={"S1_0": broken("quota: too many", permanent=False), "S2_0": broken("no tile")}
    )
    build(tmp_path / "c", archive)
    again = chips.plan(SAMPLES, archive, stations=STATIONS, size_px=32, store=tmp_path / "c")
    assert {r.scene_id for r in again} == {"S1_0"} and len(again) == 3


def test_a_trial_fetches_whole_samples_up_to_its_limit_and_the_rest_comes_later(tmp_path):
    """Seven chips hold at least one whole sample, which needs four."""
    trial, rest = FakeArchive(), FakeArchive()
    some, drops = build(tmp_path / "c", trial, limit=7)
    assert len(trial.asked) == 7 and 1 <= len(some) < len(SAMPLES)
    assert set(drops["reason"]) == {"chip failed: not fetched"}
    assert len(some) + drops["count"].sum() == len(SAMPLES)
    everything, none = build(tmp_path / "c", rest)
    assert len(rest.asked) == CHIPS - 7 and len(everything) == len(SAMPLES) and none.empty


@pytest.mark.parametrize("limit", [-1, 2.5, "200"])
def test_a_limit_that_is_no_count_is_refused_before_anything_is_asked(tmp_path, limit):
    """As a slice, -1 would be all chips but one: no trial."""
    archive = FakeArchive()
    with pytest.raises(ParameterError, match=f"limit.*found {limit!r}"):
        build(tmp_path / "c", archive, limit=limit)
    assert archive.asked == [] and not (tmp_path / "c").exists()


def test_the_archive_is_closed_as_soon_as_a_build_stops(tmp_path, monkeypatch):
    """A full disk must not leave thirty-two requests running for nothing."""
    closed = []

    def answers(requests):
        try:
            yield from FakeArchive().chips(requests)
        finally:
            closed.append(True)

    archive = FakeArchive()
    monkeypatch.setattr(archive, "chips", answers)
    monkeypatch.setattr(
        "soilkit.export.chips.builder.Writer._put",
        lambda *_: (_ for _ in ()).throw(OSError(5, "I/O")),
    )
    with pytest.raises(OSError) as caught:
        build(tmp_path / "c", archive)
    assert closed == [True] and caught.value.errno == 5


def test_a_damaged_chunk_is_found_and_rebuilt(tmp_path):
    build(tmp_path / "c")
    store = chips.open_store(tmp_path / "c")
    row = store.rows("sentinel1", ["S1_0"], station_ids=["NET__S0"])[0]
    shard = store.shards("sentinel1").file(row)
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(StoreError, match=r"chips\.verify"):
        store.read(*station_zero_scene("sentinel1"))

    damaged = chips.verify(tmp_path / "c")
    archive = FakeArchive()
    build(tmp_path / "c", archive)
    assert damaged[["source", "scene_id", "station_id"]].values.tolist() == [
        ["sentinel1", "S1_0", "NET__S0"]
    ]
    assert [(r.scene_id, r.station_id) for r in archive.asked] == [("S1_0", "NET__S0")]
    assert chips.verify(tmp_path / "c").empty
    assert chips.open_store(tmp_path / "c").data_hash == store.data_hash


def test_a_lost_or_cut_shard_is_named_and_fetched_again(tmp_path):
    build(tmp_path / "c")
    store = chips.open_store(tmp_path / "c")
    lost, cut = (store.shards("dem").file(row) for row in (0, 1))
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:20])
    assert len(chips.verify(tmp_path / "c")) == 2
    archive = FakeArchive()
    build(tmp_path / "c", archive)
    assert len(archive.asked) == 2 and chips.verify(tmp_path / "c").empty


def test_rows_in_are_samples_plus_drops_whatever_fails(tmp_path):
    archive = FakeArchive(failures={"S1_0": broken()}, holes={"S2_0": 0.1})
    samples, drops = build(tmp_path / "c", archive, min_valid_fraction=0.95)
    assert len(samples) + drops["count"].sum() == len(SAMPLES)
    assert set(zip(drops["source"], drops["reason"], strict=True)) == {
        ("sentinel1", "chip failed: no such asset"),
        ("sentinel2", "chip below 95% valid"),
    }


def test_an_empty_chip_is_dropped_and_takes_no_space(tmp_path):
    samples, drops = build(tmp_path / "c", FakeArchive(holes={"S1_1": 1.0}))
    assert set(samples["sentinel1_scene"]) == {"S1_0"}
    assert drops["reason"].unique().tolist() == ["chip failed: empty"]
    store = chips.open_store(tmp_path / "c")
    assert not any(store.shards("sentinel1").file(row).exists() for row in (3, 4, 5))
    with pytest.raises(SceneNotFoundError, match="empty"):
        store.read(*station_zero_scene("sentinel1", "S1_1"))


def test_a_permanent_failure_is_never_asked_for_again_and_a_passing_one_is(tmp_path):
    build(tmp_path / "c", FakeArchive(failures={"S1_0": broken(), "S1_1": broken("429", False)}))
    archive = FakeArchive()
    samples, _ = build(tmp_path / "c", archive)
    assert {r.scene_id for r in archive.asked} == {"S1_1"}
    assert set(samples["sentinel1_scene"]) == {"S1_1"}


def test_a_lower_threshold_needs_no_new_chips(tmp_path):
    strict, _ = build(tmp_path / "c", FakeArchive(holes={"S1_0": 0.5}))
    archive = FakeArchive()
    lenient, _ = build(tmp_path / "c", archive, min_valid_fraction=0.4)
    assert (len(strict), len(lenient), len(archive.asked)) == (4, 8, 0)


def test_a_masked_cloud_flag_is_unknown_and_no_hole(tmp_path):
    class Masked(FakeArchive):
        def chips(self, requests):
            for request, chip in super().chips(requests):
                if "QA60" in chip.bands:
                    chip.values[chip.bands.index("QA60")] = np.nan
                yield request, chip

    samples, drops = build(tmp_path / "c", Masked())
    assert len(samples) == len(SAMPLES) and drops.empty


def test_a_full_disk_ends_with_a_clear_error_and_a_consistent_store(tmp_path, monkeypatch):
    real, written = zarr.storage.LocalStore.set, []

    async def full(self, key, value, *args, **options):
        if "/c." in f"/{key}":
            written.append(key)
            if len(written) > 5:
                raise OSError(errno.ENOSPC, "No space left on device")
        return await real(self, key, value, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(zarr.storage.LocalStore, "set", full)
        with pytest.raises(StoreError, match="disk is full"):
            build(tmp_path / "c")
    store = chips.open_store(tmp_path / "c")
    kept = sum((store.index(s)["data_sha256"] != "").sum() for s in store.sources)
    assert kept == 5 and chips.verify(tmp_path / "c").empty
    archive = FakeArchive()
    samples, _ = build(tmp_path / "c", archive)
    assert len(archive.asked) == CHIPS - 5 and len(samples) == len(SAMPLES)


def test_two_builds_of_one_store_never_share_a_row(tmp_path):
    """A second build (or verify of damage) is refused; the first goes on as if alone."""
    store = tmp_path / "c"

    class Rival(FakeArchive):
        def chips(self, requests):
            with pytest.raises(StoreError, match=r"Another build.* is at work on .*another folder"):
                build(store, samples=SAMPLES.iloc[4:])
            yield from super().chips(requests)

    build(store, Rival())
    build(tmp_path / "alone")
    assert chips.open_store(store).data_hash == chips.open_store(tmp_path / "alone").data_hash
    assert chips.verify(store).empty


def test_a_rival_build_in_another_process_is_refused_and_a_killed_one_holds_nothing(tmp_path):
    store = tmp_path / "c"
    hold = (
        "import sys, time; from pathlib import Path\n"
        "from soilkit.export.chips.builder import sole_builder"
        "\nwith sole_builder(Path(sys.argv[1])):\n print('held', flush=True)\n time.sleep(60)"
    )
    command = [sys.executable, "-c", hold, str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as rival:
        assert rival.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="Another build"):
            build(store)
        rival.kill()
        rival.wait()
    assert len(build(store)[0]) == len(SAMPLES)


def test_a_store_that_is_no_folder_is_named_and_left_alone(tmp_path):
    (tmp_path / "c").write_text("mine")
    with pytest.raises(StoreError, match="cannot be made or written.*Name a folder"):
        build(tmp_path / "c")
    assert (tmp_path / "c").read_text() == "mine"


def test_a_damaged_index_says_what_to_delete_and_is_rebuilt(tmp_path):
    build(tmp_path / "c")
    before = chips.open_store(tmp_path / "c").data_hash
    (tmp_path / "c" / "index_dem.parquet").write_bytes(b"half")
    for use in (
        lambda: chips.open_store(tmp_path / "c").index("dem"),
        lambda: build(tmp_path / "c"),
    ):
        with pytest.raises(StoreError, match=r"index_dem\.parquet is damaged.*Delete that file"):
            use()
    (tmp_path / "c" / "index_dem.parquet").unlink()
    archive = FakeArchive()
    build(tmp_path / "c", archive)
    assert {r.source for r in archive.asked} == {"dem"} and len(archive.asked) == 3
    assert chips.open_store(tmp_path / "c").data_hash == before


def manifest(edit):
    """A damage of the manifest."""

    def damage(store):
        content = json.loads((store / "manifest.json").read_text())
        edit(content)
        (store / "manifest.json").write_text(json.dumps(content))

    return damage


def index(edit):
    """A damage of the radar's index."""

    def damage(store):
        path = store / "index_sentinel1.parquet"
        edit(pd.read_parquet(path)).to_parquet(path)

    return damage


def text(name, words):
    """Other words in a file."""
    return lambda store: (store / name).write_text(words)


def moved_place(store):
    array = zarr.open_array(store / "sentinel1" / "epsg", mode="r+")
    array[0] = 4326


DAMAGES = {
    "scale": manifest(lambda m: m["sources"]["sentinel1"].update(scale_factor=0.04)),
    "band order": manifest(lambda m: m["sources"]["sentinel1"]["bands"].reverse()),
    "no sources": manifest(lambda m: m.pop("sources")),
    "no json": text("manifest.json", "{half"),
    "a list": text("manifest.json", "[]"),
    "left edge": index(lambda t: t.assign(left_m=t["left_m"] + 1000)),
    "rows in another order": index(lambda t: t.assign(row=t["row"].to_numpy()[::-1])),
    "all rows 0": index(lambda t: t.assign(row=0)),
    "an unknown row": index(lambda t: t.assign(row=t["row"].astype("Int64").where(t["row"] > 0))),
    "valid fraction": index(lambda t: t.assign(valid_fraction=0.1)),
    "no checksum of pixels": index(lambda t: t.assign(data_sha256="")),
    "group": text("sentinel1/zarr.json", "{"),
    "root": text("zarr.json", '{"node_type": "array", "zarr_format": 3}'),
    "array": text("sentinel1/values/zarr.json", "{half"),
    "place for other readers": moved_place,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_a_store_says_of_its_chips_is_checked_and_mended(tmp_path, damage):
    """Nothing is read otherwise than it was written, and a build makes the store as it was."""
    build(tmp_path / "c")
    whole = chips.open_store(tmp_path / "c")
    keys = [
        (s, i.scene_id, i.station_id) for s in whole.sources for i in whole.index(s).itertuples()
    ]
    chip = {key: whole.read(*key) for key in keys}
    files = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    DAMAGES[damage](tmp_path / "c")

    def assert_equal(store):
        for key in keys:
            read = store.read(*key)
            assert (read.grid, read.bands) == (chip[key].grid, chip[key].bands)
            np.testing.assert_array_equal(read.values, chip[key].values)

    try:
        assert_equal(chips.open_store(tmp_path / "c"))
    except StoreError as error:
        assert "chips.build again" in str(error)
    try:
        assert len(chips.verify(tmp_path / "c")) or damage in ("group", "root")
    except StoreError as error:
        assert "manifest" in str(error)
    build(tmp_path / "c")
    again = chips.open_store(tmp_path / "c")
    assert_equal(again)
    assert again.data_hash == whole.data_hash and chips.verify(tmp_path / "c").empty
    assert {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()} == files
    with xr.open_zarr(tmp_path / "c", group="sentinel1", consolidated=False) as data:
        assert len(data["values"]) == len(data["epsg"]) == 6


def test_the_data_hash_knows_scale_and_place(tmp_path):
    """The same integers mean something else with another step, or elsewhere."""
    hashes = set()
    for name, step in (("a", {}), ("b", {"scale_factor": 0.5}), ("c", {"bands": ["elevation2"]})):
        build(tmp_path / name)
        content = read_manifest(tmp_path / name)
        content["sources"]["dem"].update(step)
        write_manifest(tmp_path / name, content)
        hashes.add(chips.open_store(tmp_path / name).data_hash)
    ledger = Ledger(tmp_path / "a", "dem")
    next(iter(ledger.entries.values())).top_m += 10
    ledger.save()
    hashes.add(chips.open_store(tmp_path / "a").data_hash)
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError(errno.ENOSPC, "full"), "disk is full while writing .*c. Every"),
     (OSError(errno.EACCES, "denied"), "cannot be made or written"), (NotImplementedError(), ""),
     (OSError(errno.EINVAL, "no locks"), ""), (OSError(errno.EIO, "no locks"), "")],
    ids=str,
)  # fmt: skip
def test_a_file_system_without_locks_is_trusted_and_a_full_one_is_named(
    tmp_path, monkeypatch, error, words
):
    def refuse(self):
        raise error

    monkeypatch.setattr("soilkit.export.chips.builder.FileLock.__enter__", refuse)
    if not words:
        assert len(build(tmp_path / "c")[0]) == len(SAMPLES)
        return
    with pytest.raises(StoreError, match=words):
        build(tmp_path / "c")


def test_attributes_with_keys_that_are_no_text_are_kept(tmp_path):
    samples = SAMPLES.copy()
    samples.attrs = {("causal", 1): "end", 2: np.float64(0.5)}
    build(tmp_path / "c", samples=samples)
    join = chips.open_store(tmp_path / "c").manifest["join"]
    assert join["('causal', 1)"] == "end" and float(join["2"]) == 0.5


def test_a_station_without_coordinates_is_named_before_anything_is_written(tmp_path):
    nowhere = STATIONS.assign(
        latitude=STATIONS["latitude"].where(STATIONS["station_id"] != "NET__S1")
    )
    with pytest.raises(ContractError, match="no coordinates, such as NET__S1"):
        build(tmp_path / "c", stations=nowhere)
    assert not (tmp_path / "c").exists()


def test_values_that_the_integers_cannot_hold_fail_by_name(tmp_path):
    class Wild(FakeArchive):
        def chips(self, requests):
            for request, chip in super().chips(requests):
                if request.source == "dem":
                    chip.values[0, 0, 0] = 1e6
                yield request, chip

    samples, drops = build(tmp_path / "c", Wild())
    assert samples.empty and drops["reason"].str.contains("outside the store's").all()


def test_failures_of_one_kind_are_counted_together(tmp_path):
    """The names of scene and station stand in the index row; in the reason they would hide it."""

    class Sea(FakeArchive):
        def chips(self, requests):
            for request, chip in super().chips(requests):
                words = f"{request.scene_id} holds nothing over {request.station_id}."
                yield request, Failure(words) if request.source == "sentinel1" else chip

    _, drops = build(tmp_path / "c", Sea())
    assert set(drops["reason"]) == {"chip failed: <scene> holds nothing over <station>."}
    assert len(drops) == drops["sensor_id"].nunique() and drops["count"].sum() == len(SAMPLES)


# What the assets document of their bands: the least and the largest stored value.
STORED = {
    "landsat8": (1, 65535), "landsat9": (1, 65535), "sentinel2": (0, 28000), "QA60": (0, 3072),
    "dem": (-512, 8768), "dem_3dep": (-100, 4413), "dem_merit": (-463, 8815),
    "dem_srtm": (-10, 6500), "modis_lai": (0, 100), "modis_ndvi_500": (-2000, 10000),
    "modis_ndvi_250": (-2000, 10000), "modis_lst": (7500, 65535), "modis_lst_daily": (250, 400),
    "modis_et": (0, 32700), "soilgrids": (0, 1000), "soilgrids_ph": (20, 100), "gnatsgo": (0, 50),
    "land_cover": (0, 200), "nlcd_2021": (11, 95), "modis_land_cover": (1, 17),
}  # fmt: skip


@pytest.mark.parametrize("name", STORED)
def test_what_an_asset_stores_fits_the_chips(name):
    packing = chips.packing_of(sources.get("sentinel2" if name == "QA60" else name))
    wanted = np.array(STORED[name], float)
    kept = packing.unpack(packing.pack(wanted))
    np.testing.assert_allclose(kept, wanted, atol=0.51 * packing.scale)


def test_another_format_version_is_refused_by_name(tmp_path):
    build(tmp_path / "c")
    manifest = tmp_path / "c" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format_version": 99}))
    with pytest.raises(StoreError, match="99"):
        chips.open_store(tmp_path / "c")


@pytest.mark.parametrize(
    ("options", "word"),
    [({"size_px": 64}, "size_px"), ({"archive": FakeArchive(version="2")}, "archive"),
     ({"bands": {"sentinel1": ["VV"]}}, "sources")],
)  # fmt: skip
def test_a_store_of_another_kind_is_not_added_to(tmp_path, options, word):
    build(tmp_path / "c")
    with pytest.raises(StoreError, match=word):
        build(tmp_path / "c", **options)


def test_only_the_named_bands_are_kept(tmp_path):
    archive = FakeArchive()
    build(tmp_path / "c", archive, bands={"sentinel2": ["B4", "B8"]}, sources=["sentinel2"])
    assert {r.bands for r in archive.asked} == {("B4", "B8")}
    assert chips.open_store(tmp_path / "c").bands("sentinel2") == ("B4", "B8")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(StoreError, match="No chip store"):
        chips.open_store(tmp_path / "nowhere")
    with pytest.raises(ContractError, match="modis_lai_scene"):
        build(tmp_path / "c", sources=["modis_lai"])
    with pytest.raises(ContractError, match="NET__S0"):
        build(tmp_path / "c", stations=STATIONS[STATIONS["station_id"] != "NET__S0"])
    build(tmp_path / "c")
    with pytest.raises(UnknownNameError, match="modis_lai"):
        chips.open_store(tmp_path / "c").read("modis_lai", "x", "y")


def test_the_manifest_names_networks_and_no_wall_clock_time(tmp_path):
    build(tmp_path / "a", citations={"NET": "Someone (2020)"})
    build(tmp_path / "b", citations={"NET": "Someone (2020)"})
    manifests = [(tmp_path / n / "manifest.json").read_bytes() for n in "ab"]
    assert manifests[0] == manifests[1]
    assert chips.open_store(tmp_path / "a").manifest["networks"] == {"NET": "Someone (2020)"}


def test_any_zarr_reader_sees_physical_values_and_places(tmp_path):
    build(tmp_path / "c")
    store = chips.open_store(tmp_path / "c")
    chip = store.read("dem", "static", "NET__S2")
    row = int(store.rows("dem", ["static"], station_ids=["NET__S2"])[0])
    with xr.open_zarr(tmp_path / "c", group="dem", consolidated=False) as data:
        np.testing.assert_allclose(data["values"][row].values, chip.values)
        assert tuple(data["transform"][row].values) == chip.grid.transform
        assert f"EPSG:{int(data['epsg'][row])}" == chip.grid.crs


def test_a_store_travels_to_another_process(tmp_path):
    build(tmp_path / "c")
    store = chips.open_store(tmp_path / "c")
    twin = pickle.loads(pickle.dumps(store))
    assert twin.data_hash == store.data_hash
    np.testing.assert_array_equal(
        twin.read("dem", "static", "NET__S0").values, store.read("dem", "static", "NET__S0").values
    )


@settings(max_examples=25, deadline=None)
@given(
    size=st.sampled_from([16, 24, 130, 256, 362]),
    bands=st.integers(1, 3),
    share=st.floats(0.1, 1),
    hole=st.booleans(),
)
def test_a_crop_from_the_shard_equals_zarrs_own(tmp_path_factory, size, bands, share, hole):
    shards = Shards(tmp_path_factory.mktemp("s") / "values", bands, size)
    shards.create(packing=Packing(1.0), attributes={})
    array = shards.grow(2)
    values = np.random.default_rng(size).integers(-3000, 3000, (bands, size, size)).astype("i2")
    if hole:
        values[:, : size // 2 + 1] = FILL  # zarr leaves out chunks of fill alone
    array[1] = values
    crop = max(2, int(share * size)) // 2 * 2
    first = (size - crop) // 2
    window = slice(first, first + crop)
    expected = zarr.open_array(shards.path, mode="r")[1, :, window, window]
    np.testing.assert_array_equal(shards.read(1, crop_px=crop), expected)


@given(st.lists(st.floats(-600, 600, width=32) | st.just(np.nan), min_size=1))
def test_packing_errs_by_half_a_step_at_most_and_keeps_holes(values):
    values = np.array(values, dtype=np.float32)
    packing = Packing(0.02)
    back = packing.unpack(packing.pack(values))
    np.testing.assert_array_equal(np.isnan(back), np.isnan(values))
    known = np.isfinite(values)
    assert (np.abs(back - values)[known] <= 0.01 + 1e-4).all()


def test_an_empty_samples_table_builds_nothing(tmp_path):
    samples, drops = build(tmp_path / "c", samples=SAMPLES.iloc[:0])
    assert samples.empty and drops.empty and isinstance(drops, pd.DataFrame)


def test_a_build_killed_without_warning_loses_only_what_the_index_does_not_know(
    tmp_path, monkeypatch
):
    class Killed(BaseException):
        pass

    class Dying(FakeArchive):
        def chips(self, requests):
            for n, pair in enumerate(super().chips(requests)):
                if n == 6:
                    monkeypatch.setattr(
                        "soilkit.export.chips.builder.Writer._save", lambda self: None
                    )
                    raise Killed
                yield pair

    monkeypatch.setattr("soilkit.export.chips.builder.SAVE_EVERY_S", 0.0)
    with pytest.raises(Killed):
        build(tmp_path / "c", Dying())
    (tmp_path / "c" / "dem" / "values" / "c.0.0.0.0.abc.partial").write_bytes(b"half")
    monkeypatch.undo()
    assert chips.verify(tmp_path / "c").empty
    archive = FakeArchive()
    samples, _ = build(tmp_path / "c", archive)
    assert CHIPS - 6 <= len(archive.asked) < CHIPS and len(samples) == len(SAMPLES)
    assert chips.verify(tmp_path / "c").empty
    assert not list((tmp_path / "c").rglob("*.partial"))
