"""Daily tables: the nine predictors of seed 004, and weather alone, with their drops."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from soilkit import grids, strata
from soilkit.contracts import DROPS, FEATURES, SAMPLES, STATIONS, Archive, check
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export import antecedents, columns, ten_day_table
from soilkit.export.insitu import rules
from soilkit.files import read_table
from soilkit.world.sensors import composites

# In the paper's order (section 2); units in the names.
STATIC = ("sand_percent", "clay_percent", "ph", "elevation_m")
PREDICTORS = ("smap_m3_m3", "ndvi", "lst_c", "precipitation_mm", "sand_percent", "clay_percent",
              "ph", "et_mm_8d", "elevation_m")  # fmt: skip
COMPOSITE_DAYS = {"ndvi": 16, "lst_c": 8, "et_mm_8d": 8}
_MAKERS = {"ndvi": (composites.ndvi, 500.0), "lst_c": (composites.lst_c, 1000.0),
           "et_mm_8d": (composites.et_mm, 500.0)}  # fmt: skip
SOIL_PX, SOIL_PIXEL_M = 4, 250  # SoilGrids at 1 km, as in the paper
DEM_PX, DEM_PIXEL_M = 3, 30  # averaged to MERIT's 90 m
FROST_C, MOST_M3_M3 = 3.0, 0.7  # section 2.5
MAX_DEPTH_M = 0.055
WETLAND = "Wetland"
SOURCES = (
    ("smap_m3_m3", "SMAP L3, AM and PM averaged", "SMAP L3, AM", "the world has no evening pass"),
    ("ndvi", "MOD13A1, 500 m", "stand-in", "mean NDVI of the pixel's canopy, mid-period"),
    ("lst_c", "MOD11A2, 1 km", "stand-in", "skin on clear days at 10:30; 1 K of error"),
    ("precipitation_mm", "CHIRPS, 5.5 km", "stand-in", "the rain with errors that drives SMAP10KM"),
    ("sand_percent", "SoilGrids, 1 km", "SoilGrids, 1 km", ""),
    ("clay_percent", "SoilGrids, 1 km", "SoilGrids, 1 km", ""),
    ("ph", "SoilGrids, 1 km", "stand-in", "from the water balance; the world's soil has none"),
    ("et_mm_8d", "MOD16A2, 500 m", "stand-in", "the cell's evaporation, by leaf area"),
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

    Readings at 5 cm or above, flag G, are averaged to UTC days of at least twelve hours, then over
    a station's sensors. Of networks named ``unflagged`` any flag counts, but no reading above
    0.7 m3 m-3 and no day whose LST is below 3 degrees C. Wetland sites and days without a SMAP
    retrieval go. Composites stay until the next one and tell their age.

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
    contract, one row a station, with texture, clay, sand, land
    cover, climate and pH as mapped layers tell them. ``drops``:
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
    sites = stations[["station_id", "network", "sensor_id"]].astype("str")
    table = sites.merge(pd.DataFrame({"time": days.astype("datetime64[us]")}), how="cross")
    return table.assign(sample_id=table["station_id"] + "_" + table["time"].dt.strftime("%Y-%m-%d"))


def _labels(world, stations, *, unflagged):
    """Daily means (station_id, time, soil_moisture_m3_m3, n_hours); readings above the most."""
    sensors = world.stations()
    sensors = sensors[sensors["depth_to_m"] <= MAX_DEPTH_M]
    parts, n_above = [], 0
    for sensor in sensors.itertuples(index=False):
        readings = world.readings(sensor.sensor_id)
        kept = readings["flag"] == "G"
        if str(sensor.network) in unflagged:
            kept = ~(readings["soil_moisture_m3_m3"] > MOST_M3_M3)
            n_above += int((~kept).sum())
        parts.append(ten_day_table.daily_means(readings[kept].assign(sensor_id=sensor.sensor_id)))
    days = pd.concat(parts).merge(sensors[["sensor_id", "station_id"]], on="sensor_id")
    table = days.groupby(["station_id", "time"], observed=True, as_index=False)
    return table.agg({"soil_moisture_m3_m3": "mean", "n_hours": "max"}), n_above


def _moving(archive, stations, *, days, causal):
    """What changes with the day, and its age: name -> (station x day,)."""
    world = archive.world
    series = archive.series(stations, "smap_l3_005", world.start, world.end)
    series = series.assign(day=series["start"].dt.floor("D").to_numpy().astype("datetime64[D]"))
    wide = series.pivot(index="station_id", columns="day", values="soil_moisture_am")
    wide = wide.reindex(index=stations["station_id"], columns=days.astype("datetime64[us]"))
    out = {"smap_m3_m3": wide.to_numpy(float).ravel()}
    places = stations["longitude"], stations["latitude"]
    cells = composites.pixels_at(*places, size_m=grids.EASE2_PIXEL_SIZE_M[9])
    rain_days, rain = composites.rain_mm(world, cells)
    out["precipitation_mm"] = rain[:, np.isin(rain_days, days)].ravel()
    for name in COMPOSITE_DAYS:
        pixels = composites.pixels_at(*places, size_m=_MAKERS[name][1])
        values, age = composite_on(world, name, pixels=pixels, days=days, causal=causal)
        out[name], out[f"{name}_age_days"] = values.ravel(), np.tile(age, len(stations))
    return out


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
    few = f"fewer than {ten_day_table.HOURS_A_DAY_NEEDS} accepted hours"
    cold = rows["network"].isin(unflagged) & (rows["lst_c"] < FROST_C)
    steps = (
        ("wetland sites", rows["station_id"].isin(wetland)),
        (few, rows["soil_moisture_m3_m3"].isna()),
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


def split_by_texture(stations: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Four fifths of the sites of each texture class train, the others validate [1]_.

    A class of n sites gives round(n / 5) of them, at least one; a class with one site trains, and
    its status says so. Within a dense network a validation site lies beside training sites.

    Parameters
    ----------
    stations : one row a station, with ``texture``
    seed : int

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
        n = max(1, round(0.2 * len(sites)))
        table.loc[rng.permutation(sites.index)[:n], "part"] = "validation"
    return table


# Daily soil moisture of unseen stations from weather alone: the table and its drops.

READINGS, PLACES = "scan_daily_2in.parquet", "scan_stations.csv"
SITE = ("latitude", "longitude", "elevation_m")
NAME, NETWORK = "scan_snotel_daily", "SCAN/SNOTEL"
DEPTH_M = 0.0508  # two inches
METRES_PER_FOOT = 0.3048  # the list of stations gives feet
WETTEST_M3_M3 = 0.6
RAIN_DAYS, LEAST_RAIN_KNOWN = 90, 0.8
# Values outside are unknown; the wettest is above most records of a day, not above all.
BOUNDS = {
    "precip_mm": (0.0, 400.0), "tair_c": (-60.0, 55.0), "tmax_c": (-60.0, 60.0),
    "tmin_c": (-60.0, 50.0), "rh_pct": (0.0, 100.0), "st_2in": (-40.0, 70.0),
}  # fmt: skip
NEEDED = ("Date", "Station Id", "sm_2in", *BOUNDS)


class DailyWeather(NamedTuple):
    """Stations, samples and features in one row order; ``drops`` counts station-days that went.

    ``unknown`` counts single values that a physical bound turned to NaN: ``column, lower, upper,
    values, known``.
    """

    stations: pd.DataFrame
    samples: pd.DataFrame
    features: pd.DataFrame
    drops: pd.DataFrame
    unknown: pd.DataFrame


def read_folder(folder: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Raw readings and stations of the folder with SCAN's and SNOTEL's daily table.

    Returns
    -------
    readings (as they are, percent), and stations: number, station, latitude, longitude, elevation_m

    Raises
    ------
    ContractError
        If a file or a column is missing, or the list of stations is not one.
    """
    paths = [Path(folder) / name for name in (READINGS, PLACES)]
    lacking = [path.name for path in paths if not path.is_file()]
    if lacking:
        raise ContractError(f"{folder} lacks {', '.join(lacking)}. Name the folder that has both.")
    heads = {"station": "Name", "latitude": "Lat", "longitude": "Long", "elevation": "Elv"}
    table = columns.load(paths[1], heads, of=columns.STATIONS, decimal=".", notes=rules.Notes())
    names = table.text("station").str.extract(r"^(?P<station>.*?)\s*\((?P<number>\d+)\)$")
    if names["number"].isna().any() or names["number"].duplicated().any():
        raise ContractError(f"{PLACES} should name stations 'Name (number)', each number once.")
    names = names.assign(number=names["number"].astype(int), **table.sites()[list(SITE)])
    names = rules.checked(names.assign(station_id=names["number"].astype(str)), rules.Notes())
    names["elevation_m"] *= METRES_PER_FOOT
    names = rules.placed(names, without_coordinates="raise").drop(columns="station_id")
    return read_table(paths[0]), names


def from_world(archive: Archive) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same two tables from the synthetic archive, in the same units.

    Moisture is that of ``build``, soil temperature its LST. Rain is the world's with errors, air
    temperature that of the 9 km cell with a range of 12 degrees C; humidity is unknown.
    """
    table = build(archive)
    world: Any = archive.world  # type: ignore[attr-defined]
    sites = table.stations.rename_axis("number").reset_index()
    places = sites["longitude"], sites["latitude"]
    cells = composites.pixels_at(*places, size_m=grids.EASE2_PIXEL_SIZE_M[9])
    days, rain = composites.rain_mm(world, cells)
    air = np.asarray(world.cells(cells.rows, cells.cols).temperature_c).ravel()
    at = [sites["station_id"], days.astype("datetime64[us]")]
    index = pd.MultiIndex.from_product(at, names=["station_id", "time"])
    ground = table.rows.set_index(index.names).reindex(index)
    rows = pd.DataFrame({
        "Date": index.get_level_values("time"), "Station Id": np.repeat(sites["number"], len(days)),
        "sm_2in": 100 * ground["soil_moisture_m3_m3"].to_numpy(), "precip_mm": rain.ravel(),
        "tair_c": air, "tmax_c": air + 6, "tmin_c": air - 6, "rh_pct": np.nan,
        "st_2in": ground["lst_c"].to_numpy(),
    })  # fmt: skip
    names = ["station", "latitude", "longitude", "elevation_m", "number"]
    return rows.reset_index(drop=True), sites[names]


def prepare(readings: pd.DataFrame, places: pd.DataFrame) -> DailyWeather:
    """Stations, samples, features and drops from raw readings.

    Dropped and counted, in this order: moisture unknown, below 0 or above 0.6 m3 m-3, soil at or
    below 0 degrees C, soil temperature unknown, and days with rain unknown on more than a fifth of
    the 90 days up to them (among them the first of each record).

    Parameters
    ----------
    readings : one row a station and day, with the columns ``NEEDED``; moisture in percent
    places : stations, as ``read_folder`` gives them

    Raises
    ------
    ContractError
        If a column or a station is missing, or a station-day stands twice.
    UnitError
        If moisture is m3 m-3 already.
    """
    readings = _checked(readings, places)
    readings, unknown = _bounded(readings)
    stations = _stations_daily_weather(places, readings["Station Id"].unique())
    day = readings["Date"].to_numpy().astype("datetime64[D]")
    days = np.arange(day.min(), day.max() + 1)
    order = pd.Index(stations["number"])
    cells = (day - days[0]).astype(int), order.get_indexer(readings["Station Id"])
    columns = ("precip_mm", "tair_c", "tmin_c", "tmax_c", "rh_pct")
    series = np.full((len(columns), len(days), len(order)), np.nan)
    series[:, *cells] = readings[list(columns)].to_numpy(float).T
    weather = antecedents.Weather(days, stations["latitude"].to_numpy(), *series)
    rain_known = pd.DataFrame(np.isfinite(weather.rain_mm).astype(float))
    known = (rain_known.rolling(RAIN_DAYS, min_periods=1).sum() / RAIN_DAYS).to_numpy()[cells]
    kept, drops = _drops(readings, stations["sensor_id"].to_numpy(str)[cells[1]], rain_known=known)
    rows, at = readings[kept].reset_index(drop=True), (cells[0][kept], cells[1][kept])
    ids, time = stations["station_id"].to_numpy(str)[at[1]], rows["Date"].astype("datetime64[us]")
    samples = pd.DataFrame({
        "sample_id": ids + "_" + time.dt.strftime("%Y-%m-%d"), "sensor_id": ids, "station_id": ids,
        "time": time, "soil_moisture_m3_m3": rows["sm_2in"].astype(float) / 100,
    })  # fmt: skip
    made = antecedents.build(weather).items()
    table = pd.DataFrame({name: v[at].astype("float32") for name, v in made})
    table["elevation_m"] = stations["elevation_m"].to_numpy("float32")[at[1]]
    table.insert(0, "sample_id", samples["sample_id"])
    stations = stations.drop(columns="number")
    for part, schema in ((samples, SAMPLES), (table, FEATURES), (stations, STATIONS)):
        check(part, schema)
    return DailyWeather(stations, samples, table, drops, unknown)


def _checked(readings, places):
    lacking = [name for name in NEEDED if name not in readings]
    if lacking:
        raise ContractError(f"Readings lack {', '.join(lacking)}; they have {list(readings)}.")
    places_of = {name: name for name in NEEDED} | {"time": "Date"}
    source = columns.Columns(readings, places_of, ".", rules.Notes())
    source.moisture("sm_2in", units="percent", stations=readings["Station Id"])  # or it is refused
    numbers = {name: source.numbers(name) for name in ("sm_2in", *BOUNDS)}
    readings = readings.assign(Date=source.utc(timezone="UTC"), **numbers)
    if n := readings["Date"].isna().sum():
        raise ContractError(f"{n} rows have no possible Date: drop them.")
    strange = set(readings["Station Id"]) - set(places["number"])
    twice = int(readings.duplicated(["Station Id", "Date"]).sum())
    if strange or twice:
        raise ContractError(
            f"{len(strange)} stations of the readings have no place ({sorted(strange)[:5]}), and "
            f"{twice} station-days stand twice. Complete the list, or keep one row a day."
        )
    return readings[list(NEEDED)].sort_values(["Station Id", "Date"]).reset_index(drop=True)


def _bounded(readings):
    """Readings with impossible weather unknown, and how many values that were."""
    counts, changed = [], {}
    for name, (low, high) in BOUNDS.items():
        values = readings[name].astype(float)
        beyond = values.notna() & ~values.between(low, high)
        counts.append((name, low, high, int(beyond.sum()), int(values.notna().sum())))
        changed[name] = values.mask(beyond)
    halves = (changed["tmax_c"] + changed["tmin_c"]) / 2
    changed["tair_c"] = changed["tair_c"].fillna(halves)
    unknown = pd.DataFrame(counts, columns=["column", "lower", "upper", "values", "known"])
    return readings.assign(**changed), unknown


def _stations_daily_weather(places, numbers):
    table = places[places["number"].isin(numbers)].sort_values("number").reset_index(drop=True)
    ids = NETWORK + "/" + table["number"].astype(str)
    classes = dict.fromkeys(("land_cover", "koeppen", "texture"), "")
    table = table.assign(
        sensor_id=ids, station_id=ids, network=NETWORK, depth_from_m=DEPTH_M, depth_to_m=DEPTH_M,
        **classes,
    )  # fmt: skip
    return table.astype(dict.fromkeys(("station", "network", *classes), "str"))


def _drops(readings, sensors, *, rain_known):
    """Which rows stay, and how many went at each sensor for each reason."""
    moisture = readings["sm_2in"].to_numpy(float) / 100
    soil_c = readings["st_2in"].to_numpy()
    steps = (
        ("moisture unknown", np.isnan(moisture)),
        (f"moisture below 0 or above {WETTEST_M3_M3:g} m3 m-3",
         (moisture < 0) | (moisture > WETTEST_M3_M3)),
        ("soil frozen: at or below 0 degC", soil_c <= 0),
        ("soil temperature unknown", np.isnan(soil_c)),
        (f"rain unknown on more than a fifth of {RAIN_DAYS} days", rain_known < LEAST_RAIN_KNOWN),
    )  # fmt: skip
    kept, parts = np.ones(len(readings), bool), []
    for reason, gone in steps:
        count = pd.Series(sensors[kept & gone]).value_counts().rename_axis("sensor_id")
        parts.append(count.rename("count").reset_index().assign(source=NAME, reason=reason))
        kept &= ~gone
    drops = pd.concat(parts, ignore_index=True)[["sensor_id", "source", "reason", "count"]]
    drops = drops.astype({"sensor_id": "str", "source": "str", "reason": "str"})
    check(drops, DROPS)
    return kept, drops
