"""The same command on every road: the world, published shards, whatever folder a dataset is in."""

import numpy as np
import pandas as pd
import pytest
import torch

from soilkit import sources
from soilkit.export import archives, insitu, join, published
from tests.benchmarks.fusion_study import main
from tests.benchmarks.fusion_trial import Data, Recipe, prepare

torch.set_num_threads(1)
NAMES = ("sentinel1", "sentinel2", "dem", "soilgrids", "smap", "gldas")
PERIOD = {"start": "2019-05-01", "end": "2019-07-01"}


@pytest.mark.slow
def test_a_recipe_is_built_once_and_holds_what_notebook_10_makes(tmp_path):
    """Rows in = samples + drops; a second call changes nothing; SMAP may be the anchor."""
    small = {"n_stations": 4, "size_px": 64, **PERIOD}
    for recipe in (Recipe("a", **small), Recipe("b", anchor="smap", sources=NAMES, **small)):
        folder = prepare(recipe, tmp_path)
        before = (folder / "samples.parquet").stat().st_mtime_ns
        assert prepare(recipe, tmp_path) == folder
        assert (folder / "samples.parquet").stat().st_mtime_ns == before
        data = Data(folder)
        drops = pd.read_parquet(folder / "drops.parquet")
        readings = insitu.read_ismn(folder / "ismn.zip", progress=False)
        inside = readings["time"].between(*PERIOD.values(), inclusive="left")
        assert len(data.samples) + drops["count"].sum() == inside.sum()
        assert data.samples[f"{recipe.anchor}_age_hours"].max() < 1
        assert data.content_hash == Data(folder).content_hash


def shards_of_a_world(folder):
    """Twelve records of six stations, written as published shards; the labels are in them."""
    archive = archives.open_archive("synthetic", seed=0, n_stations=6, revisit_days=12, **PERIOD)
    ismn = archive.world.write_ismn(folder / "ismn.zip")
    stations = insitu.read_stations(ismn, progress=False)
    readings = insitu.read_ismn(ismn, progress=False)
    bounds = {n: pd.Timedelta(b) for n, b in sources.bounds("sentinel1", NAMES).items()}
    scenes = archives.all_scenes(
        archive, stations, sources=NAMES, start="2019-04-10", end="2019-07-01"
    )
    joined = join.anchored_join(readings, scenes, stations, bounds=bounds).samples
    rows = joined.groupby("station_id", observed=True).tail(2).reset_index(drop=True)
    told = {"archive": archive, "stations": stations, "labelled": set(stations["network"])}
    published.write_archive_shard(folder / "data-00000-of-00001.tfrecord.gz", rows, **told)
    return published.Labels.from_ismn(ismn, progress=False)


@pytest.mark.slow
def test_the_same_command_runs_on_shards_of_the_published_schema(tmp_path):
    """Shards -> dataset -> trials; a layer that shards lack is refused by name, in its row."""
    labels = shards_of_a_world(tmp_path)
    data = tmp_path / "dataset"
    published.to_dataset(tmp_path, data, labels=labels, size_px=192, progress=False)
    out = tmp_path / "study"
    words = [str(out), "--only", "table19,table18", "--seeds", "0", "--steps", "2"]
    main([*words, "--dataset", str(data), "--label", "synthetic shards", "--workers", "0"])
    trials = pd.read_csv(out / "trials.csv")
    lai = trials["low"].fillna("").str.contains("modis_lai")

    assert (trials.loc[~lai, "status"] == "ok").all() and (~lai).sum() == 5
    assert trials.loc[lai, "status"].str.contains("modis_lai").all() and lai.sum() == 1
    assert set(trials["data"]) == {"synthetic shards"}
    key = trials.loc[~lai, "key"].iloc[-1]
    predictions = pd.read_parquet(
        tmp_path / "work" / "study" / "predictions" / f"{key}-validation.parquet"
    )
    assert len(predictions) >= 2 and np.isfinite(predictions["predicted_m3_m3"]).all()
