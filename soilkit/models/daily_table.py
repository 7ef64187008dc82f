"""The daily table of seed 004: one row a station and day, nine predictors, and how it is pruned.

It is made from the synthetic world. The world renders SMAP L3 (mornings only), SoilGrids, a DEM and
land cover; NDVI, LST, ET, rain and pH are the stand-ins of ``world.composites``.
"""

import logging
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from soilkit import grids, strata
from soilkit.contracts import PREDICTIONS, Archive, check
from soilkit.errors import ContractError, UnknownNameError
from soilkit.world.sensors import composites

log = logging.getLogger(__name__)
# In the paper's order (section 2); units in the names.
STATIC = ("sand_percent", "clay_percent", "ph", "elevation_m")
MOVING = ("smap_m3_m3", "ndvi", "lst_c", "precipitation_mm", "et_mm_8d")
PREDICTORS = ("smap_m3_m3", "ndvi", "lst_c", "precipitation_mm", "sand_percent", "clay_percent",
              "ph", "et_mm_8d", "elevation_m")  # fmt: skip
CHARACTERISTICS = ("texture", "clay", "sand", "koeppen", "land_cover", "ph")
COMPOSITE_DAYS = {"ndvi": 16, "lst_c": 8, "et_mm_8d": 8}
_MAKERS = {"ndvi": (composites.ndvi, 500.0), "lst_c": (composites.lst_c, 1000.0),
           "et_mm_8d": (composites.et_mm, 500.0)}  # fmt: skip
SOIL_PX, SOIL_PIXEL_M = 4, 250  # SoilGrids at 1 km, as in the paper
DEM_PX, DEM_PIXEL_M = 3, 30  # averaged to MERIT's 90 m
FROST_C, MOST_M3_M3 = 3.0, 0.7  # section 2.5
MIN_HOURS, MAX_DEPTH_M = 12, 0.055
WETLAND = "Wetland"
SOURCES = (
    ("smap_m3_m3", "SMAP L3, AM and PM averaged", "SMAP L3, AM", "the world has no evening pass"),
    ("ndvi", "MOD13A1, 500 m", "stand-in", "mean NDVI of the pixel's canopy, mid-period"),
    ("lst_c", "MOD11A2, 1 km", "stand-in", "ground temperature at 10:30; blind to moisture"),
    ("precipitation_mm", "CHIRPS, 5.5 km", "stand-in", "the rain with errors that drives SMAP10KM"),
    ("sand_percent", "SoilGrids, 1 km", "SoilGrids, 1 km", ""),
    ("clay_percent", "SoilGrids, 1 km", "SoilGrids, 1 km", ""),
    ("ph", "SoilGrids, 1 km", "stand-in", "from the water balance; the world's soil has none"),
    ("et_mm_8d", "MOD16A2, 500 m", "stand-in", "demand times leaf area; blind to moisture"),
    ("elevation_m", "MERIT, 90 m", "NASADEM, mean of 90 m", ""),
    ("land_cover", "MCD12Q1, IGBP", "Copernicus 100 m", "the world has no IGBP classes"),
    ("koeppen", "Koeppen-Geiger map", "the 9 km cell's weather", ""),
)


class DailyTable(NamedTuple):
    """``rows`` (one a station and day), ``stations`` (one a station) and counted ``drops``."""

    rows: pd.DataFrame
    stations: pd.DataFrame
    drops: pd.DataFrame


def sources_table() -> pd.DataFrame:
    """What the paper took for each layer, and what stands here: ``layer, paper, here, note``."""
    return pd.DataFrame(SOURCES, columns=["layer", "paper", "here", "note"])


def build(
    archive: Archive,
    *,
    unflagged: tuple[str, ...] = ("SYN-CLIMATE",),
    every_days: int = 1,
    causal: str = "end",
) -> DailyTable:
    """The daily table of all stations of a synthetic archive.

    Readings of sensors at 5 cm or above are averaged to UTC days with at least twelve accepted
    hours, then over a station's sensors. Accepted is flag G; networks named ``unflagged`` are taken
    as the paper takes AmeriFlux: any flag, but no reading above 0.7 m3 m-3 and no day whose LST is
    below 3 degrees C. Wetland sites and days without a SMAP retrieval go. Composites stay until
    the next one and tell their age.

    Parameters
    ----------
    archive : synthetic archive
    unflagged : networks whose flags are not used
    every_days : keep each station's every so many-th day, staggered over stations
    causal : "end": a composite is used once it has ended (age from its last day); "start": from
        its first day on, as in the paper, so that up to 15 days of it lie ahead

    Returns
    -------
    DailyTable. ``rows``: sample_id, sensor_id (the station's first), station_id, network, time,
    soil_moisture_m3_m3, n_hours, ``PREDICTORS`` and ``<predictor>_age_days``. ``stations``: of the
    contract, one row a station, with ``CHARACTERISTICS`` as mapped layers tell them. ``drops``:
    step, unit, dropped, rows, stations.

    Raises
    ------
    UnknownNameError
        For another archive than the synthetic one, or another ``causal``.
    """
    if not hasattr(archive, "world"):
        raise UnknownNameError(
            f"The daily table is made from the synthetic archive, found {archive.name!r}: NDVI, "
            "LST, ET, rain and pH have no door in it yet."
        )
    if causal not in ("end", "start"):
        raise UnknownNameError(f"causal is 'end' or 'start', found {causal!r}.")
    world: Any = archive.world
    stations = _stations(world)
    log.info("daily table of %d stations", len(stations))
    days = np.arange(world.start.astype("datetime64[D]"), world.end.astype("datetime64[D]"))
    labels, wild = _labels(world, stations, unflagged=unflagged)
    rows = _grid_of_days(stations, days).merge(labels, on=["station_id", "time"], how="left")
    rows = rows.assign(**_moving(archive, stations, days=days, causal=causal))
    for name in STATIC:
        rows[name] = np.repeat(stations[name].to_numpy(float), len(days))
    return _pruned(rows, stations, unflagged=unflagged, every_days=every_days, wild=wild)


def _stations(world) -> pd.DataFrame:
    """One row a station (its first surface sensor), statics and classes as maps tell them."""
    table = world.stations()
    table = table[table["depth_to_m"] <= MAX_DEPTH_M].drop_duplicates("station_id")
    table = table.reset_index(drop=True).astype({"station_id": "str", "network": "str"})
    places = list(zip(table["latitude"], table["longitude"], strict=True))
    soil = np.array([_mean_of(world, "soilgrids", at, (SOIL_PX, SOIL_PIXEL_M)) for at in places])
    high = [_mean_of(world, "dem", at, (DEM_PX, DEM_PIXEL_M))[0] for at in places]
    code = [_mean_of(world, "land_cover", at, (1, 100))[0] for at in places]
    pixels = composites.pixels_at(table["longitude"], table["latitude"], size_m=1000.0)
    return table.assign(
        sand_percent=soil[:, 0] / 10, clay_percent=soil[:, 2] / 10, elevation_m=high,
        ph=composites.ph(world, pixels), land_cover=strata.land_cover_class(np.array(code)),
        texture=strata.texture_class(soil[:, 0], soil[:, 1], clay=soil[:, 2]),
        sand=soil[:, 0] / 10, clay=soil[:, 2] / 10,
    )  # fmt: skip


def _mean_of(world, source, at, size):
    n, pixel_m = size
    grid = grids.chip_grid(*at, size_px=n, pixel_size_m=pixel_m)
    return world.render(source, world.start, grid).reshape(-1, n * n).mean(axis=1)


def _grid_of_days(stations, days):
    n = len(days)
    first = {k: np.repeat(stations[k].to_numpy(str), n) for k in ("station_id", "network")}
    first["sensor_id"] = np.repeat(stations["sensor_id"].to_numpy(str), n)
    table = pd.DataFrame(first).assign(time=np.tile(days.astype("datetime64[us]"), len(stations)))
    stamp = np.tile(days.astype(str), len(stations))
    return table.assign(sample_id=table["station_id"] + "_" + stamp)


def _labels(world, stations, *, unflagged):
    """Daily means (station_id, time, soil_moisture_m3_m3, n_hours); readings above the most."""
    sensors = world.stations()
    sensors = sensors[sensors["depth_to_m"] <= MAX_DEPTH_M]
    parts, wild = [], 0
    for sensor in sensors.itertuples(index=False):
        found = world.readings(sensor.sensor_id)
        if str(sensor.network) in unflagged:
            above = found["soil_moisture_m3_m3"] > MOST_M3_M3
            wild += int(above.sum())
            found = found[~above]
        else:
            found = found[found["flag"] == "G"]
        by_day = found.groupby(found["time"].dt.floor("D"))["soil_moisture_m3_m3"]
        daily = by_day.agg(soil_moisture_m3_m3="mean", n_hours="size").reset_index()
        parts.append(daily[daily["n_hours"] >= MIN_HOURS].assign(station_id=sensor.station_id))
    table = pd.concat(parts).groupby(["station_id", "time"], observed=True, as_index=False)
    return table.agg({"soil_moisture_m3_m3": "mean", "n_hours": "max"}), wild


def _moving(archive, stations, *, days, causal):
    """What changes with the day, and its age: name -> (station x day,)."""
    world = archive.world
    series = archive.series(stations, "smap_l3", world.start, world.end)
    series = series.assign(day=series["start"].dt.floor("D").to_numpy().astype("datetime64[D]"))
    wide = series.pivot(index="station_id", columns="day", values="soil_moisture_am")
    wide = wide.reindex(index=stations["station_id"], columns=days.astype("datetime64[us]"))
    out = {"smap_m3_m3": wide.to_numpy(float).ravel()}
    where = stations["longitude"], stations["latitude"]
    cells = composites.pixels_at(*where, size_m=grids.EASE2_PIXEL_SIZE_M[9])
    rain_days, rain = composites.rain_mm(world, cells)
    out["precipitation_mm"] = rain[:, np.isin(rain_days, days)].ravel()
    for name, length in COMPOSITE_DAYS.items():
        values, age = composite_by_day(world, name, where=where, days=days, causal=causal)
        out[name], out[f"{name}_age_days"] = values.ravel(), np.tile(age, len(stations))
        log.info("%s: %d-day composites", name, length)
    return out


def composite_by_day(world, name: str, *, where, days, causal: str = "end"):
    """The last composite known on each day at some places (see ``composite_on``).

    ``where`` is (longitude, latitude), arrays (place,), degrees.
    """
    pixels = composites.pixels_at(*where, size_m=_MAKERS[name][1])
    return composite_on(world, name, pixels=pixels, days=days, causal=causal)


def composite_on(world, name: str, *, pixels, days, causal: str = "end"):
    """The last composite known on each day, (pixel, day), and its age in days, (day,).

    Parameters
    ----------
    world : World
    name : "ndvi", "lst_c" or "et_mm_8d"
    pixels : composites.Pixels
    days : datetime64[D] array (day,), in order
    causal : as in ``build``
    """
    length = COMPOSITE_DAYS[name]
    margin = np.timedelta64(2 * length, "D")
    first, after = composites.periods(days[0] - margin, days[-1] + 1, days=length)
    known = after if causal == "end" else first
    last = np.searchsorted(known, days, side="right") - 1  # the last that is known by then
    used = np.unique(last)
    values = _MAKERS[name][0](world, pixels, starts=first[used])
    return values[np.searchsorted(used, last)].T, (days - known[last]).astype(int)


def _pruned(rows, stations, *, unflagged, every_days, wild):
    """Steps of preparation, one by one, each with what it dropped."""
    number = rows["station_id"].map({s: k for k, s in enumerate(stations["station_id"])})
    day = (rows["time"] - rows["time"].min()).dt.days
    wetland = set(stations.loc[stations["land_cover"] == WETLAND, "station_id"])
    cold = rows["network"].isin(unflagged) & (rows["lst_c"] < FROST_C)
    steps = (
        ("wetland sites", rows["station_id"].isin(wetland)),
        (f"fewer than {MIN_HOURS} accepted hours", rows["soil_moisture_m3_m3"].isna()),
        (f"LST below {FROST_C:g} degC, unflagged networks", cold),
        ("no SMAP retrieval that day", rows["smap_m3_m3"].isna()),
        ("another predictor missing", rows[list(PREDICTORS)].isna().any(axis=1)),
        (f"not each station's every {every_days}. day", (day + number) % every_days != 0),
    )
    kept = pd.Series(True, rows.index)
    table = [("all station-days", "station-day", 0, len(rows), len(stations)),
             (f"readings above {MOST_M3_M3:g}, unflagged networks", "reading", wild, len(rows),
              len(stations))]  # fmt: skip
    for name, gone in steps:
        dropped = int((kept & gone).sum())
        kept &= ~gone
        left = int(kept.sum()), rows.loc[kept, "station_id"].nunique()
        table.append((name, "station-day", dropped, *left))
    drops = pd.DataFrame(table, columns=["step", "unit", "dropped", "rows", "stations"])
    left_rows = rows[kept].reset_index(drop=True)
    there = stations["station_id"].isin(left_rows["station_id"])
    return DailyTable(left_rows, stations[there].reset_index(drop=True), drops)


def split_by_texture(stations: pd.DataFrame, *, seed: int = 0, share: float = 0.2) -> pd.DataFrame:
    """Four fifths of the sites of each texture class train, the others validate [1]_.

    A class of n sites gives round(share n) of them, at least one; a class with one site cannot
    stand on both sides: it trains, and its status says so. Neighbours may part: within a
    dense network a validation site lies beside training sites.

    Parameters
    ----------
    stations : one row a station, with ``texture``
    seed : int
    share : float, of the sites that validate

    Returns
    -------
    DataFrame: ``station_id, texture, part`` ("train" or "validation"), ``status``

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411, section 2.6
    """
    if stations["station_id"].duplicated().any():
        raise ContractError("Sites are split, so one row a station is wanted; found repeated ones.")
    rng = np.random.default_rng(seed)
    table = stations[["station_id", "texture"]].astype("str").reset_index(drop=True)
    table = table.assign(part="train", status="ok")
    for name, sites in table.groupby("texture", sort=True):
        if len(sites) == 1:
            table.loc[sites.index, "status"] = f"{name}: one site, it trains"
            continue
        n = max(1, round(share * len(sites)))
        table.loc[rng.permutation(sites.index)[:n], "part"] = "validation"
    return table


def characteristics(rows: pd.DataFrame, stations: pd.DataFrame) -> pd.DataFrame:
    """The six static characteristics of each row, for weights: classes as text, numbers as such."""
    by_site = stations.set_index("station_id")[list(CHARACTERISTICS)]
    return by_site.reindex(rows["station_id"]).reset_index(drop=True)


def predictions(rows: pd.DataFrame, *, predicted, model: str, split: str) -> pd.DataFrame:
    """Predicted moisture (row,) [m3 m-3] of rows, by the predictions contract."""
    table = rows[["sample_id", "sensor_id", "station_id", "network", "time"]].assign(
        observed_m3_m3=rows["soil_moisture_m3_m3"],
        predicted_m3_m3=np.asarray(predicted, dtype=float), model=model, split=split,
    )  # fmt: skip
    check(table, PREDICTIONS)
    return table
