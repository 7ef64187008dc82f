"""Which chips a samples table needs, and which samples stand once the chips are in."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from soilkit import contracts, grids, sources
from soilkit.constants import HIGH_PIXEL_M, PIXEL_RATIO, STATIC_SCENE
from soilkit.contracts import ChipRequest, Grid
from soilkit.errors import ContractError
from soilkit.export.chips.store import Entry
from soilkit.sources import Source

_US_PER_HOUR = 3_600_000_000


def chip_size(source: Source, size_px: int) -> tuple[int, float]:
    """Pixels a side and pixel size [m] of a source's chips over ``size_px`` pixels of 10 m.

    Low-resolution chips have an even number of pixels, so that their centre, like that of the high
    ones, lies on a pixel corner; they cover at least the same ground.

    Examples
    --------
    >>> [chip_size(sources.get("soilgrids"), n) for n in (256, 512, 362)]
    [(16, 160.0), (32, 160.0), (24, 160.0)]
    """
    if source.resolution == "high":
        return size_px, HIGH_PIXEL_M
    return 2 * int(np.ceil(size_px / PIXEL_RATIO / 2)), HIGH_PIXEL_M * PIXEL_RATIO


def chip_sources(samples, names: Iterable[str] | None = None) -> list[Source]:
    """The sources that come as chips: those named, else every ``<source>_scene`` of the samples."""
    columns = [c.removesuffix("_scene") for c in samples.columns if c.endswith("_scene")]
    wanted = [sources.get(name) for name in (columns if names is None else names)]
    fine = [source for source in wanted if source.resolution != "coarse"]
    for source in fine:
        if not source.is_static and source.name not in columns:
            raise ContractError(
                f"The samples have no column {source.name}_scene, which says what to cut; they "
                f"have {', '.join(f'{c}_scene' for c in columns) or 'none of the kind'}. Put "
                f"{source.name!r} into the join's bounds, or leave it out of the sources."
            )
    return fine


def scene_ids(samples, source: Source) -> pd.Series:
    """The scene of each sample, empty where there is none, "static" without a time."""
    column = f"{source.name}_scene"
    if column not in samples.columns:
        return pd.Series(STATIC_SCENE, index=samples.index)
    return samples[column].astype(object).where(samples[column].notna(), "").astype(str)


class Planner:
    """Turns samples into requests, a grid a station and a request a distinct chip."""

    def __init__(self, samples, stations, *, size_px: int, version: str):
        places = stations.drop_duplicates("station_id").set_index("station_id")
        absent = sorted(set(samples["station_id"].astype(str)) - set(places.index.astype(str)))
        if absent:
            raise ContractError(
                f"{len(absent)} of the samples' stations are not in the stations table, "
                f"such as {absent[0]}. Hand the table that the samples were joined with."
            )
        unplaced = places.index[places[["latitude", "longitude"]].isna().any(axis=1)].astype(str)
        nowhere = sorted(set(unplaced) & set(samples["station_id"].astype(str)))
        if nowhere:
            raise ContractError(
                f"{len(nowhere)} of the samples' stations have no coordinates, such as "
                f"{nowhere[0]}. Fill them in, or leave the samples of these stations out."
            )
        self.samples, self.size_px, self.version = samples, size_px, version
        self.places = places[["latitude", "longitude"]].set_axis(places.index.astype(str))
        self._grids: dict[tuple[str, float], Grid] = {}

    def grid(self, station_id: str, source: Source) -> Grid:
        """The station's grid at the source's resolution."""
        size, pixel_m = chip_size(source, self.size_px)
        key = (station_id, pixel_m)
        if key not in self._grids:
            lat, lon = self.places.loc[station_id]
            self._grids[key] = grids.chip_grid(lat, lon, size_px=size, pixel_size_m=pixel_m)
        return self._grids[key]

    def requests(self, bands: Mapping[str, Sequence[str]]) -> list[ChipRequest]:
        """The distinct chips of sources, given with their bands."""
        return [r for name, some in bands.items() for r in self._requests(sources.get(name), some)]

    def spread(self, requests: list[ChipRequest], *, limit: int) -> list[ChipRequest]:
        """At most ``limit`` requests, those of samples drawn from all over the table.

        All chips of a drawn sample come before those of the next, so that whole samples stand.
        """
        order = np.random.default_rng(0).permutation(len(self.samples))  # a trial is repeatable
        stations = self.samples["station_id"].astype(str).to_numpy()[order]
        first: dict[tuple[str, str, str], int] = {}
        for name in dict.fromkeys(r.source for r in requests):
            scenes = scene_ids(self.samples, sources.get(name)).to_numpy()[order]
            for rank, (scene, station) in enumerate(zip(scenes, stations, strict=True)):
                first.setdefault((name, scene, station), rank)
        ranked = sorted(requests, key=lambda r: first[r.source, r.scene_id, r.station_id])
        return ranked[:limit]

    def _requests(self, source: Source, bands: Sequence[str]) -> list[ChipRequest]:
        """The distinct chips of one source, sorted by scene and station."""
        chips = pd.DataFrame({"scene": scene_ids(self.samples, source)})
        chips["station"] = self.samples["station_id"].astype(str)
        chips["time"] = _scene_times(self.samples, source)
        chips = chips[chips["scene"] != ""].drop_duplicates(["scene", "station"])
        chips = chips.sort_values(["scene", "station"])
        continuous = any(source.band(b).continuous for b in bands)
        return [
            ChipRequest(
                source=source.name,
                scene_id=scene,
                station_id=station,
                time=time,
                bands=tuple(bands),
                grid=self.grid(station, source),
                resampling="bilinear" if continuous else "nearest",
                version=self.version,
            )
            for scene, station, time in zip(
                chips["scene"], chips["station"], chips["time"].to_numpy(), strict=True
            )
        ]


def _scene_times(samples, source: Source) -> np.ndarray:
    """When each sample's scene ended: its own time less the scene's age; NaT for static sources."""
    column = f"{source.name}_age_hours"
    if source.is_static or column not in samples.columns:
        return np.full(len(samples), "NaT", dtype="datetime64[us]")
    age_us = samples[column].to_numpy(float) * _US_PER_HOUR
    age = np.where(np.isfinite(age_us), np.rint(np.nan_to_num(age_us)), 0).astype("timedelta64[us]")
    return samples["time"].to_numpy().astype("datetime64[us]") - age


def settle(
    samples,
    ledgers: Mapping[str, Mapping[tuple[str, str], Entry]],
    *,
    names: Iterable[str],
    min_valid_fraction: float,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Part samples into those whose chips all stand, and drops by sensor, source and reason.

    A sample that several sources lack is a drop of the first of ``names``.
    """
    columns = ["sensor_id", "source", "reason"]
    blame = pd.DataFrame(
        {"sensor_id": samples["sensor_id"].astype(str), "source": "", "reason": ""}
    )
    stations = samples["station_id"].astype(str)
    for name in names:
        why = {key: fault(e, min_valid_fraction) for key, e in ledgers[name].items()}
        keys = zip(scene_ids(samples, sources.get(name)), stations, strict=True)
        faults = pd.Series([why.get(key, "no scene") for key in keys], blame.index, dtype="str")
        first = (blame["reason"] == "") & (faults != "")
        blame.loc[first, "source"], blame.loc[first, "reason"] = name, faults[first]
    lost = blame["reason"] != ""
    drops = blame[lost].groupby(columns).size().rename("count").reset_index()
    contracts.check(drops, contracts.DROPS)
    return samples[~lost].reset_index(drop=True), drops


def fault(entry: Entry, min_valid_fraction: float) -> str:
    """Why a chip does not stand, or nothing."""
    if not entry.data_sha256:
        return f"chip failed: {entry.reason or 'not fetched'}"
    if entry.valid_fraction < min_valid_fraction:
        return f"chip below {min_valid_fraction:.0%} valid"
    return ""
