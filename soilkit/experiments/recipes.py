"""Which data a trial learns from: a recipe, the folder that it makes once, and that folder read."""

import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from soilkit import sources
from soilkit.errors import ContractError
from soilkit.export import archives, chips, features, insitu, join
from soilkit.export.chips import ChipStore
from soilkit.files import write_whole
from soilkit.models.inputs import FED

log = logging.getLogger(__name__)
TABLES = ("stations", "features", "drops", "samples")  # samples last: then the dataset is whole
EARLIER = pd.Timedelta("20D")  # scenes before the first reading that may still be joined to it
_CLEAR = {"sentinel2": 0.3}  # seed 001, 2b1
ALL = ("sentinel1", "sentinel2", "dem", "soilgrids", "modis_lai", "smap", "gldas")


@dataclass(frozen=True)
class Recipe:
    """How a dataset is made from the synthetic world, or where one stands already.

    ``folder`` holds the tables and ``chips.zarr`` that notebook 10 or 12 wrote (real or published
    imagery); then the other fields mean nothing. ``label`` names the data in every table.
    """

    name: str
    folder: str = ""
    label: str = "synthetic"
    seed: int = 0
    n_stations: int = 300
    start: str = "2019-01-01"
    end: str = "2020-01-01"
    revisit_days: int = 12
    size_px: int = 192  # room to turn a crop of 128
    anchor: str = "sentinel1"
    sources: tuple[str, ...] = ALL

    @property
    def definition(self) -> dict:
        """What the data hang on, as plain values."""
        fields = {"folder": self.folder, "label": self.label} if self.folder else asdict(self)
        return json.loads(json.dumps({k: v for k, v in fields.items() if k != "name"}))

    def place(self, work: Path) -> Path:
        """The folder of the dataset; another definition has another folder."""
        if self.folder:
            return Path(self.folder)
        words = json.dumps(self.definition, sort_keys=True)
        return work / "data" / f"{self.name}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"


def prepare(recipe: Recipe, work: str | os.PathLike[str]) -> Path:
    """The recipe's folder, built when it is not whole; an interrupted build goes on.

    Raises
    ------
    ContractError
        When a recipe names a folder that holds no dataset.
    """
    place = recipe.place(Path(work))
    if (place / "samples.parquet").exists():
        return place
    if recipe.folder:
        raise ContractError(
            f"{place} holds no samples.parquet, so no dataset. Build one there with notebook 10 "
            "(an archive) or 12 (published shards), or leave the folder out for the world."
        )
    log.info("building the dataset %s: %d stations", place.name, recipe.n_stations)
    place.mkdir(parents=True, exist_ok=True)
    _build(recipe, place)
    return place


def _build(recipe: Recipe, out: Path) -> None:
    """The road of notebook 10: readings, scenes, anchored join, chips, coarse scalars."""
    world = archives.open_archive(
        "synthetic",
        seed=recipe.seed,
        n_stations=recipe.n_stations,
        start=recipe.start,
        end=recipe.end,
        revisit_days=recipe.revisit_days,
    )
    stations, readings = _in_situ(world, out)
    readings = readings[readings["time"].between(recipe.start, recipe.end, inclusive="left")]
    span = {"start": pd.Timestamp(recipe.start) - EARLIER, "end": pd.Timestamp(recipe.end)}
    scenes = archives.all_scenes(world, stations, sources=recipe.sources, **span)
    joined = _join(recipe, readings, scenes=scenes, stations=stations)
    coarse = [s for s in recipe.sources if sources.get(s).resolution == "coarse"]
    samples, lost = chips.build(
        joined.samples,
        world,
        out / "chips.zarr",
        stations=stations,
        sources=[s for s in recipe.sources if s not in coarse],
        bands=FED,
        size_px=recipe.size_px,
    )
    series = {s: world.series(stations, s, span["start"], span["end"]) for s in coarse}
    scalars = [features.from_series(samples, table, s) for s, table in series.items()]
    if not scalars:
        scalars = [samples[["sample_id"]]]
    drops = pd.concat([joined.drops, lost], ignore_index=True)
    predictors = features.combine(*scalars)
    _write(out, stations=stations, features=predictors, drops=drops, samples=samples)


def _join(recipe: Recipe, readings, *, scenes, stations) -> join.JoinResult:
    bounds = sources.bounds(recipe.anchor, recipe.sources)
    return join.anchored_join(
        readings,
        scenes,
        stations,
        bounds={name: pd.Timedelta(age) for name, age in bounds.items()},
        anchor=recipe.anchor,
        max_cloud_fraction=_CLEAR if "sentinel2" in recipe.sources else None,
    )


def _in_situ(world, out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    archive = out / "ismn.zip"
    if not archive.exists():
        world.world.write_ismn(archive)
    stations = insitu.read_stations(archive, cache_dir=out / "cache")
    return stations, insitu.read_ismn(archive, cache_dir=out / "cache")


def _write(out: Path, **tables: pd.DataFrame) -> None:
    for name in TABLES:
        write_whole(out / f"{name}.parquet", partial(tables[name].to_parquet, index=False))


class Data:
    """A dataset folder, read: stations, samples, features, chips, and a hash of all of it."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.stations, self.features, self.samples = (
            pd.read_parquet(self.folder / f"{name}.parquet")
            for name in ("stations", "features", "samples")
        )

    @cached_property
    def store(self) -> ChipStore:
        """The chips, open for reading."""
        return chips.open_store(self.folder / "chips.zarr")

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over stations, samples, features and chips, hex."""
        digest = hashlib.sha256(self.store.data_hash.encode())
        for table in (self.stations, self.samples, self.features):
            plain = table.astype({c: "str" for c in table.columns if table[c].dtype == "category"})
            digest.update(plain.to_csv(index=False, float_format="%.9g").encode())
        return digest.hexdigest()
