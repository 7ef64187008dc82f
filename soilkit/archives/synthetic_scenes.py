"""Scenes tables and long series of the synthetic archive."""

from typing import Any

import numpy as np
import pandas as pd

from soilkit import grids
from soilkit.world import schedule, sensors
from soilkit.world.sensors import coarse, instruments, optics

MISSIONS = {"sentinel1": schedule.SENTINEL1, "sentinel2": schedule.SENTINEL2}
SKY_PX = 24  # points a side at which a footprint's clouds are counted
Period = tuple[Any, Any]


def orbiting(
    world: Any,
    source: str,
    *,
    places: pd.DataFrame,
    period: Period,
    footprint_m: float,
    revisit_days: int | None,
) -> pd.DataFrame:
    """Scenes of a mission on orbits; one radar pass is one scene whatever its slices.

    Parameters
    ----------
    world : World
    source : "sentinel1" or "sentinel2"
    places : DataFrame with ``station_id``, ``longitude``, ``latitude``
    period : (start, end), UTC, half-open, of the scenes' ends
    footprint_m : float, m
    revisit_days : int or None, of Sentinel-1 (see ``SyntheticArchive``)
    """
    mission = MISSIONS[source]
    thin = revisit_days if source == "sentinel1" else None
    parts = []
    for place in places.itertuples(index=False):
        tracks = schedule.tracks_over(
            mission, float(place.longitude), latitude=float(place.latitude), side_m=footprint_m
        )
        kept = _thinned(tracks, place, revisit_days=thin, footprint_m=footprint_m)
        rows = _passes(kept, place, (period, footprint_m, thin))
        if source == "sentinel2" and len(rows):
            rows["cloud_fraction"] = _cloud_fraction(world, place, rows["end"], footprint_m)
            rows["scene_id"] += "_" + tile(place.longitude, latitude=place.latitude)
        parts.append(rows)
    return _scenes(source, pd.concat(parts, ignore_index=True) if parts else _empty())


def _thinned(tracks, place, *, revisit_days: int | None, footprint_m: float):
    """All tracks, or the one nearest to the nominal incidence that covers the footprint best."""
    if revisit_days is None or not tracks:
        return tracks

    def off(track) -> tuple[float, float]:
        distance = track.distance_m(place.longitude, place.latitude)
        covered = float(schedule.covered_fraction(track, distance, side_m=footprint_m))
        angle = float(schedule.incidence_deg(distance))
        return -covered, abs(angle - instruments.NOMINAL_INCIDENCE_DEG)

    return (min(tracks, key=off),)


def _passes(tracks, place, options) -> pd.DataFrame:
    (start, end), footprint_m, revisit_days = options
    satellites = (0, 1) if revisit_days in (None, 6) else (0,)
    rows = []
    for track in tracks:
        distance = track.distance_m(place.longitude, place.latitude)
        covered = float(schedule.covered_fraction(track, distance, side_m=footprint_m))
        for one in schedule.passes(track, start=start, end=end, satellites=satellites):
            if revisit_days in (None, 6) or one.cycle % (revisit_days // 12) == 0:
                rows.append((one.scene_id, one.start, one.end, track.direction, covered))
    table = pd.DataFrame(rows, columns=["scene_id", "start", "end", "orbit", "valid_fraction"])
    table = table.sort_values(["end", "scene_id"], ignore_index=True)
    return table.assign(station_id=place.station_id, cloud_fraction=np.nan)


def _empty() -> pd.DataFrame:
    columns = [
        "scene_id",
        "start",
        "end",
        "orbit",
        "valid_fraction",
        "station_id",
        "cloud_fraction",
    ]
    return pd.DataFrame(columns=columns)


def _cloud_fraction(world: Any, place: Any, times: pd.Series, footprint_m: float) -> np.ndarray:
    """Fraction of the footprint under cloud or cirrus, as QA60 of the chip would flag it."""
    grid = grids.chip_grid(
        float(place.latitude),
        float(place.longitude),
        size_px=SKY_PX,
        pixel_size_m=footprint_m / SKY_PX,
    )
    days = times.to_numpy().astype("datetime64[D]")
    rain = sensors.rain_at(world, days, longitude=place.longitude, latitude=place.latitude)
    return optics.sky(grid, days, seed=world.seed, rain_mm=rain).fraction


def tile(longitude: float, *, latitude: float) -> str:
    """The Military Grid tile of 100 km that holds a point, as in Sentinel-2 names.

    Examples
    --------
    >>> tile(-98.8, latitude=30.3)
    'T14RNU'
    """
    zone = min(int((longitude + 180) // 6) + 1, 60)
    to_utm = grids.transformer("EPSG:4326", grids.utm_crs(latitude, longitude))
    x, y = to_utm.transform(longitude, latitude)
    band = "CDEFGHJKLMNPQRSTUVWX"[min(int((latitude + 80) // 8), 19)]
    column = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")[(zone - 1) % 3][int(x // 100_000) - 1]
    row = "ABCDEFGHJKLMNPQRSTUV"[(int(y // 100_000) + (5 if zone % 2 == 0 else 0)) % 20]
    return f"T{zone}{band}{column}{row}"


def periodic(source: str, *, places: pd.DataFrame, period: Period) -> pd.DataFrame:
    """Scenes of a product with a calendar: every period at every station."""
    times = schedule.CALENDARS[source](*period)
    n, m = len(places), len(times.end)
    table = pd.DataFrame(
        {
            "scene_id": _repeated(times.scene_id, np.tile(np.arange(m), n)),
            "station_id": _repeated(places.station_id, np.repeat(np.arange(n), m)),
            "start": np.tile(times.start, n),
            "end": np.tile(times.end, n),
            "cloud_fraction": np.nan,
            "orbit": _repeated([""], np.zeros(n * m, dtype=int)),
            "valid_fraction": 1.0,
        }
    )
    return _scenes(source, table)


def static(source: str, *, places: pd.DataFrame) -> pd.DataFrame:
    """One scene a station, called "static", without times."""
    nat = np.full(len(places), np.datetime64("NaT"), dtype="datetime64[us]")
    table = pd.DataFrame(
        {
            "scene_id": "static",
            "station_id": places.station_id,
            "start": nat,
            "end": nat,
            "cloud_fraction": np.nan,
            "orbit": "",
            "valid_fraction": 1.0,
        }
    )
    return _scenes(source, table)


def long_series(
    band: str, found: coarse.Product, *, places: pd.DataFrame, period: Period
) -> pd.DataFrame:
    """Rows (station, scene) with a value, from a product whose cells follow the places."""
    times = found.periods
    keep = (times.end >= period[0]) & (times.end < period[1])
    values = found.values[:, keep]
    station, scene = np.nonzero(np.isfinite(values))
    return pd.DataFrame(
        {
            "station_id": _repeated(places.station_id, station),
            "scene_id": _repeated(times.scene_id[keep], scene),
            "start": times.start[keep][scene],
            "end": times.end[keep][scene],
            band: values[station, scene],
        }
    )


def _repeated(names: Any, codes: np.ndarray) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, categories=pd.Index(np.asarray(names), dtype="str"))


def _scenes(source: str, table: pd.DataFrame) -> pd.DataFrame:
    """Columns of the contract in their order and kinds."""
    order = ["source", "scene_id", "station_id", "start", "end"]
    order += ["cloud_fraction", "orbit", "valid_fraction"]
    kinds = dict.fromkeys(("source", "scene_id", "station_id", "orbit"), "category")
    kinds |= {"start": "datetime64[us]", "end": "datetime64[us]"}
    kinds |= {"cloud_fraction": "float64", "valid_fraction": "float64"}
    return table.assign(source=source)[order].astype(kinds)
