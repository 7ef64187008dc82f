"""What reads foreign files, and what may never come out of it.

A target makes its good files once in ``folder`` and returns ``attempt(rng)``, which reads one
damaged copy. A ``SoilkitError`` is an answer; an ``AssertionError`` is a wrong value that came in
silence: a reading outside [0, 1], a place that is none, or other content than a hash promises.
"""

import gzip
import io
import json
import shutil
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from soilkit import grids, sources
from soilkit.contracts import ChipRequest
from soilkit.export import chips, insitu, rasters, tables, ten_day_table
from soilkit.export.archives.stac import StacArchive
from soilkit.export.published import read_shard, write_shard
from soilkit.models.tabular import SYSTEMS, Problem, load_trained
from soilkit.models.training import Checkpoint, Provenance, load_checkpoint, save_checkpoint
from tests import helpers_stac
from tests.benchmarks.trials import Rows
from tests.fuzz import mutations
from tests.helpers_shards import sample
from tests.test_chips import build
from tests.test_contending import made_up
from tests.test_insitu import ROWS, STATIC, ceop, file_name, header_values

PLACE = (40.0, -100.0)
UNITS = {"units": "m3 m-3"}


def csv(table: pd.DataFrame, **options) -> bytes:
    return table.to_csv(index=False, **options).encode(options.pop("encoding", "utf-8"))


def parquet(table: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    table.to_parquet(file)
    return file.getvalue()


def plausible(moisture: pd.Series, time: pd.Series) -> None:
    values = moisture.to_numpy(dtype=float)
    assert np.isfinite(values).all() and ((values >= 0) & (values <= 1)).all(), "moisture"
    assert time.notna().all() and time.dt.year.between(1900, 2100).all(), "times"


def on_earth(stations: pd.DataFrame, *, known: bool = True) -> None:
    places = stations[["latitude", "longitude"]].astype(float)
    if not known:
        places = places.dropna()
    assert np.isfinite(places.to_numpy()).all(), "places without a number"
    assert places["latitude"].between(-90, 90).all(), "latitudes"
    assert places["longitude"].between(-180, 180).all(), "longitudes"


# ---- tables --------------------------------------------------------------------------------------


def _rows(n: int = 24) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "station": ["A__s1", "B__s2"] * (n // 2),
            "time": pd.date_range("2020-01-01", periods=n, freq="6h").astype(str),
            "soil_moisture": rng.uniform(0.05, 0.5, n).round(3),
            "latitude": [40.1, 35.2] * (n // 2),
            "longitude": [-100.2, -97.0] * (n // 2),
            "flag": "G",
            "deep": rng.uniform(0.05, 0.5, n).round(3),
        }
    )


def readings(folder: Path):
    table = _rows()
    times = table.assign(time=pd.to_datetime(table["time"]))
    good = [csv(table), csv(table).replace(b"\n", b"\r\n"), parquet(table), parquet(times)]
    good.append(gzip.compress(csv(table), mtime=0))
    columns = {name: name for name in table.columns[:6]}
    wide = columns | {"soil_moisture": {"soil_moisture": 0.05, "deep": 0.1}}

    def attempt(rng):
        path = folder / "readings.csv"
        path.write_bytes(mutations.damaged_inside(rng.choice(good), rng))
        stations, observations, _ = tables.read_readings(
            path,
            columns=rng.choice((columns, wide)),
            timezone=rng.choice(("UTC", "America/Chicago")),
            **UNITS,
        )
        plausible(observations["soil_moisture_m3_m3"], observations["time"])
        on_earth(stations)

    return attempt


def uscrn(folder: Path):
    days = pd.DataFrame(
        {
            "wban": [1, 1, 2, 2], "lst_date": pd.to_datetime(["2020-01-01", "2020-01-02"] * 2),
            "longitude": [-100.0, -100, -80, -80], "latitude": [40.0, 40, 35, 35],
            "soil_moisture_5_daily": [0.1, 0.2, 0.3, 0.2],
            "soil_moisture_10_daily": [0.1, 0.2, 0.3, 0.2],
        }
    )  # fmt: skip
    good = [csv(days), parquet(days), gzip.compress(parquet(days), mtime=0)]

    def attempt(rng):
        path = folder / "uscrn.parquet"
        path.write_bytes(mutations.damaged_inside(rng.choice(good), rng))
        stations, observations, _ = tables.read_uscrn_daily(path, max_depth_m=0.1)
        plausible(observations["soil_moisture_m3_m3"], observations["time"])
        on_earth(stations)

    return attempt


def _predicted() -> pd.DataFrame:
    table = _rows().rename(columns={"soil_moisture": "observed", "deep": "predicted"})
    return table.drop(columns="flag").assign(predicted_std=0.03)


def predictions(folder: Path):
    table = _predicted()
    good = [
        csv(table), csv(table, sep=";", decimal=","), csv(table, sep="\t"), parquet(table),
        csv(table, encoding="utf-16"), b"\xef\xbb\xbf" + csv(table),
        gzip.compress(csv(table), mtime=0),
        parquet(table.assign(time=pd.to_datetime(table["time"]))),
    ]  # fmt: skip

    def attempt(rng):
        path = folder / "predictions.csv"
        path.write_bytes(mutations.damaged_inside(rng.choice(good), rng))
        read, notes = tables.read_predictions(
            path,
            units=rng.choice(("m3 m-3",) * 9 + ("%",)),
            timezone=rng.choice(("UTC", "America/Chicago")),
            duplicates=rng.choice(("refuse", "first", "mean")),
            decimal=rng.choice((".", ".", ",")),
        )
        n_read = int(notes.loc[notes["status"] == "read", "n_rows"].iloc[0])
        assert n_read == len(read) + int(notes["n_dropped"].sum()), "rows are lost uncounted"
        known = read.dropna(subset="observed_m3_m3")
        plausible(known["observed_m3_m3"], known["time"])

    return attempt


def stations(folder: Path):
    predicted, _ = tables.read_predictions(_predicted(), timezone="UTC", **UNITS)
    table = pd.DataFrame(
        {
            "station": ["A__s1", "B__s2"], "latitude": [40.1, 35.2], "longitude": [-100.2, -97.0],
            "elevation_m": [100.0, 200], "land_cover": ["grass", "crop"],
            "depth_from_m": [0.0, 0.05], "depth_to_m": [0.05, 0.05], "koeppen": ["Dfa", "Cfa"],
        }
    )  # fmt: skip
    good = [csv(table), csv(table, sep=";", decimal=","), parquet(table), csv(_predicted())]

    def attempt(rng):
        path = folder / "stations.csv"
        path.write_bytes(mutations.damaged_inside(rng.choice(good), rng))
        read, _ = tables.read_stations(path, predicted, decimal=rng.choice((".", ".", ",")))
        on_earth(read, known=False)

    return attempt


def ten_day(folder: Path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "key": ["N/a", "N/b"] * 6, "network": "N", "station": ["a", "b"] * 6,
            "lat": [40.0, 41] * 6, "lon": [-100.0, -101] * 6,
            "start": np.repeat(pd.date_range("2020-01-01", periods=6, freq="10D"), 2),
            "sm_insitu": rng.uniform(0.1, 0.4, 12), "sm_days": 10.0,
            "VV": -12.0, "smap_sm": 12.0,
        }
    )  # fmt: skip
    good = parquet(table)
    built = folder / "dataset"
    built.mkdir()
    for name, part in ten_day_table.TabularDataset(*made_up(4, 4))._asdict().items():
        part.to_parquet(built / f"{name}.parquet")
    files = {path: path.read_bytes() for path in built.iterdir()}

    def attempt(rng):
        if rng.random() < 0.5:
            path = folder / "ten_day.parquet"
            path.write_bytes(mutations.damaged(good, rng))
            read = ten_day_table.read(path)
        else:
            path = rng.choice(sorted(files))
            path.write_bytes(mutations.damaged(files[path], rng))
            try:
                read = ten_day_table.read(built)
            finally:
                path.write_bytes(files[path])
        on_earth(read.stations, known=False)
        moisture = read.samples["soil_moisture_m3_m3"].dropna()
        assert moisture.between(0, 1).all(), "moisture"

    return attempt


# ---- ISMN ----------------------------------------------------------------------------------------

NAMES = [
    "..", "../..", "/etc", "C:", "\\", "a\x00b", "é", "<script>", "=1+1", "{{7*7}}", "x" * 300,
    "%s", "a_b", "", "-", "nan", " ", "\n", "\u202e", "NUL", "'", '"', "*", ":", "|",
]  # fmt: skip
MEMBERS = [
    (file_name(), header_values(*ROWS * 3).encode()),
    (file_name("Other"), ceop(*ROWS * 3).encode()),
    ("ARM/Byron/ARM_ARM_Byron_static_variables.csv", STATIC.encode()),
]


def _read_ismn(path: Path, cache: Path, rng) -> None:
    options = {"cache_dir": cache, "progress": False}
    flags = rng.choice((None, ("G",), insitu.rules.DEFAULT_FLAGS))
    refuse = rng.choice(("raise", "drop"))
    shutil.rmtree(cache, ignore_errors=True)
    try:
        observations = insitu.read_ismn(path, flags=flags, unknown_flags=refuse, **options)
    finally:
        assert not list(cache.glob(".*.partial")), "a half cache stays"
    plausible(observations["soil_moisture_m3_m3"], observations["time"])
    on_earth(insitu.read_stations(path, without_coordinates=refuse, **options))
    insitu.read_counts(path, flags=None, **options)


def ismn_zip(folder: Path):
    good = [
        mutations.zipped(MEMBERS, method)
        for method in (
            zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA,
        )
    ]  # fmt: skip

    def attempt(rng):
        data = bytearray(rng.choice(good))
        if rng.random() < 0.6:  # the headers, where sizes, offsets and methods stand
            starts = [0, data.find(b"PK\x01\x02"), data.rfind(b"PK\x01\x02"), data.find(b"PK\5\6")]
            start = rng.choice(starts)
            for _ in range(rng.choice((1, 1, 2, 4))):
                at = min(len(data) - 1, start + rng.randrange(60))
                data[at] = rng.choice((0, 255, 1, 0x7F, 0x80, rng.randrange(256)))
        else:
            data = mutations.damaged(bytes(data), rng)
        (folder / "a.zip").write_bytes(data)
        _read_ismn(folder / "a.zip", folder / "cache", rng)

    return attempt


def ismn_text(folder: Path):
    def attempt(rng):
        members = list(MEMBERS)
        chosen = rng.randrange(len(members))
        members[chosen] = members[chosen][0], mutations.damaged(members[chosen][1], rng)
        (folder / "a.zip").write_bytes(mutations.zipped(members))
        _read_ismn(folder / "a.zip", folder / "cache", rng)

    return attempt


def ismn_names(folder: Path):
    depths = ["0.05_0.05"] * 3 + ["-0.05_0.05", "0.1_0.05", "99999999999999999999.0_1.0", "5_5"]
    places = ["91 0 0", "nan nan nan", "1e9 2 3", "0 0 0", "-90 -180 0", "40 361 0", "inf 0 0"]
    tops = ["", "", "", "../", "/tmp/", "../../../../tmp/", "a/b/c/", "\\..\\"]
    contents = [MEMBERS[0][1], MEMBERS[1][1], b"", b"\n"]
    contents += [header_values(*ROWS, place=place).encode() for place in places]

    def attempt(rng):
        members = []
        for _ in range(rng.choice((1, 2, 3))):
            network, station, probe = (
                rng.choice([*NAMES, *[usual] * 10]) for usual in ("ARM", "Byron", "Hydra")
            )
            sensor = f"{network}_{network}_{station}_sm_{rng.choice(depths)}_{probe}"
            end = rng.choice((".stm", ".STM"))
            path = f"{rng.choice(tops)}{network}/{station}/{sensor}_20190101_20191231{end}"
            members.append((path, rng.choice(contents)))
        if rng.random() < 0.5:
            statics = f"{network}/{station}/{network}_{network}_{station}_static_variables.csv"
            members.append((statics, MEMBERS[2][1]))
        (folder / "a.zip").write_bytes(mutations.zipped(members))
        _read_ismn(folder / "a.zip", folder / "cache", rng)

    return attempt


def ismn_cache(folder: Path):
    path = folder / "a.zip"
    path.write_bytes(mutations.zipped(MEMBERS))
    read = partial(insitu.read_ismn, path, cache_dir=folder / "kept", progress=False, flags=None)
    wanted = read()
    cached = {file: file.read_bytes() for file in (folder / "kept").rglob("*") if file.is_file()}

    def attempt(rng):
        file = rng.choice(sorted(cached))
        file.write_bytes(mutations.damaged(cached[file], rng))
        try:
            assert read().equals(wanted), "a damaged cache gives other readings"
            on_earth(insitu.read_stations(path, cache_dir=folder / "kept", progress=False))
        finally:
            for standing, content in cached.items():
                standing.parent.mkdir(parents=True, exist_ok=True)
                standing.write_bytes(content)

    return attempt


# ---- rasters and catalogues ----------------------------------------------------------------------


def _catalogue(folder: Path) -> grids.Grid:
    grid = grids.chip_grid(*PLACE, size_px=64, pixel_size_m=10)
    rng = np.random.default_rng(0)
    shape = (grid.height, grid.width)
    raster = helpers_stac.raster
    raster(folder / "s1.tif", rng.uniform(-20, -5, (2, *shape)).astype("float32"), grid)
    raster(folder / "dem.tif", rng.uniform(100, 200, shape).astype("float32"), grid)
    coarse = grids.Grid("EPSG:4326", PLACE[1] - 1, PLACE[0] + 1, 0.1, 20, 20)
    raster(folder / "smap.tif", rng.uniform(0, 25, (20, 20)).astype("float32"), coarse)
    around = helpers_stac.around(*PLACE)
    radar = {"vv": {"href": "../s1.tif", "bands": [{"name": "VV"}]}, "vh": {"href": "../s1.tif"}}
    item = partial(helpers_stac.item, geometry=around)
    items = [
        item("S1A", "sentinel-1-rtc", time="2020-06-01T12:00:00Z", assets=radar,
             **{"sar:instrument_mode": "IW", "sar:polarizations": ["VV", "VH"]}),
        item("dem", "nasadem", time="2020-01-01T00:00:00Z", assets={"data": "../dem.tif"}),
        item("smap", "smap", time=("2020-05-30T00:00:00Z", "2020-06-01T23:59:59Z"),
             assets={"ssm": "../smap.tif"}),
    ]  # fmt: skip
    helpers_stac.write_catalogue(folder, items)
    return grid


def _use_catalogue(folder: Path, grid: grids.Grid) -> None:
    archive = StacArchive(folder, workers=1)
    station = helpers_stac.stations(A=PLACE)
    for source in archive.served["source"]:
        scenes = archive.scenes(station, source, "2020-01-01", "2021-01-01")
        if source == "smap":
            archive.series(station, source, "2020-01-01", "2021-01-01")
            continue
        row = sources.get(source)
        bands = ("VV", "VH") if source == "sentinel1" else tuple(b.name for b in row.bands)
        requests = [
            ChipRequest(source, scene.scene_id, scene.station_id,
                        np.datetime64(None if pd.isna(scene.end) else scene.end, "us"), bands, grid)
            for scene in scenes.itertuples()
        ]  # fmt: skip
        for _, _ in archive.chips(requests):
            pass


def stac(folder: Path):
    grid = _catalogue(folder)
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def attempt(rng):
        path = rng.choice(sorted(files))
        is_json = path.suffix == ".json" and rng.random() < 0.85
        damage = mutations.damaged_json if is_json else mutations.damaged
        path.write_bytes(damage(files[path], rng))
        try:
            _use_catalogue(folder, grid)
        finally:
            path.write_bytes(files[path])

    return attempt


def raster(folder: Path):
    grid = grids.chip_grid(*PLACE, size_px=64, pixel_size_m=10)
    path = folder / "x.tif"
    values = np.random.default_rng(0).uniform(0, 1, (2, 64, 64)).astype("float32")
    rasters.write_cog(path, values, grid=grid)
    helpers_stac.raster(folder / "plain.tif", values, grid)
    good = [path.read_bytes(), (folder / "plain.tif").read_bytes()]

    def attempt(rng):
        path.write_bytes(mutations.damaged(rng.choice(good), rng))
        rasters.read(path, grid)
        rasters.sample(path, np.array([PLACE[::-1]]))

    return attempt


# ---- what soilkit writes itself ------------------------------------------------------------------


def chip_store(folder: Path):
    store = folder / "chips"
    build(store)
    files = {p: p.read_bytes() for p in store.rglob("*") if p.is_file() and p.name[0] != "."}
    opened = chips.open_store(store)
    keys = [
        (source, row.scene_id, row.station_id)
        for source in opened.sources
        for row in opened.index(source).itertuples()
    ]
    wanted = {key: opened.read(*key).values for key in keys}
    weights = [8 if "json" in path.suffix else 4 if "parquet" in path.name else 1 for path in files]

    def compare(when):
        now = chips.open_store(store)
        for key in keys:
            same = np.array_equal(now.read(*key).values, wanted[key], equal_nan=True)
            assert same, f"other values {when}"

    def attempt(rng):
        path = rng.choices(list(files), weights)[0]
        is_json = path.suffix == ".json" and rng.random() < 0.7
        damage = mutations.damaged_json if is_json else mutations.damaged
        path.write_bytes(damage(files[path], rng))
        try:
            chips.verify(store)
            build(store)
            compare("after verify and build")
        finally:
            shutil.rmtree(store)
            for standing, content in files.items():
                standing.parent.mkdir(parents=True, exist_ok=True)
                standing.write_bytes(content)

    return attempt


def checkpoint(folder: Path):
    path = folder / "model.pt"
    weights = {"w": torch.arange(12.0).reshape(3, 4), "b": torch.zeros(4)}
    origin = Provenance(("s1",), {"x": {"mean": 1.0}}, "hash")
    kept = Checkpoint({"a": 1, "b": [1, 2]}, origin, weights, 3, 0.5)
    save_checkpoint(path, kept)
    good = path.read_bytes()

    def attempt(rng):
        path.write_bytes(mutations.damaged(good, rng))
        read = load_checkpoint(path)
        read.require(inputs=("s1",), data_hash="hash")
        same = read.weights.keys() == weights.keys() and all(
            torch.equal(read.weights[name], weights[name]) for name in weights
        )
        assert same and read.configuration == kept.configuration, "another model"

    return attempt


def ensemble(folder: Path):
    path = folder / "ensemble.pt"
    problem = Problem(*made_up(4, 8))
    split = pd.Series(np.where(problem.samples["station_id"] < "SCAN/s2", "train", "test"))
    trained = SYSTEMS["dense ensemble"].train(problem, split, preset="small")
    trained.save(path)
    good = path.read_bytes()
    wanted = trained.predict(problem)["predicted_m3_m3"]

    def attempt(rng):
        path.write_bytes(mutations.damaged(good, rng))
        predicted = load_trained(path).predict(problem)["predicted_m3_m3"]
        assert np.allclose(predicted, wanted, equal_nan=True), "another model"

    return attempt


def shard(folder: Path):
    path = folder / "data-00000-of-00500.tfrecord.gz"
    write_shard(path, (sample(k, images=("nasa_dem_elevation",), size=k) for k in range(2)))
    good = path.read_bytes()

    def attempt(rng):
        damage = rng.choice((mutations.damaged, mutations.damaged_inside))
        path.write_bytes(damage(good, rng))
        for one in read_shard(path, features=("nasa_dem_elevation",), checksums=rng.random() < 0.5):
            moisture = one.soil_moisture_m3_m3
            assert np.isnan(moisture) or 0 <= moisture <= 1, "moisture"

    return attempt


def study_row(folder: Path):
    rows = Rows(folder)
    good = json.dumps({"format_version": 1, "key": "k", "status": "ok", "r": 0.5}).encode()

    def attempt(rng):
        damage = rng.choice((mutations.damaged, mutations.damaged_json))
        rows.path("k").write_bytes(damage(good, rng))
        row = rows.read("k")
        assert row is None or isinstance(row, dict), "no row"

    return attempt


# Of a hundred inputs so many go to each: cheap readers of strangers' files get most.
SHARES = {
    readings: 14, predictions: 12, stations: 10, uscrn: 6, ten_day: 8, ismn_zip: 8, ismn_text: 7,
    ismn_names: 5, ismn_cache: 4, stac: 3, raster: 6, chip_store: 2, checkpoint: 6, ensemble: 2,
    shard: 4, study_row: 3,
}  # fmt: skip
