"""Daily tables: the nine predictors of Poehls et al., and weather alone, with their drops."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from soilkit import contracts, grids, sources, strata
from soilkit.contracts import DROPS, FEATURES, SAMPLES, STATIONS, Archive, check
from soilkit.errors import CatalogueError, ContractError, UnknownNameError
from soilkit.export import antecedents, ten_day_table
from soilkit.export.insitu import columns, rules
from soilkit.export.join import latest_scenes
from soilkit.files import read_table
from soilkit.sources import Band, Source
from soilkit.units import conversion

log = logging.getLogger(__name__)
# In the paper's order (section 2); units in the names.
STATIC = ("sand_percent", "clay_percent", "ph", "elevation_m")
PREDICTORS = ("smap_m3_m3", "ndvi", "lst_c", "precipitation_mm", "sand_percent", "clay_percent",
              "ph", "et_mm_8d", "elevation_m")  # fmt: skip
DAILY, COMPOSITES = ("smap_m3_m3", "precipitation_mm"), ("ndvi", "lst_c", "et_mm_8d")
_SMAP = ("soil_moisture_am", "soil_moisture_pm")
# Which bands make a column: of the first source that an archive has, of ``smap_m3_m3`` of all.
LAYERS: dict[str, dict[str, tuple[str, ...]]] = {
    "smap_m3_m3": {"smap_l3_005": _SMAP, "smap_l3_006": _SMAP},
    "ndvi": {"modis_ndvi_500": ("NDVI",), "modis_ndvi_250": ("NDVI",)},
    "lst_c": {"modis_lst": ("LST_Day_1km",)},
    "precipitation_mm": {"chirps": ("precipitation",), "gridmet": ("pr",)},
    "et_mm_8d": {"modis_et": ("ET",)},
    "texture": {"soilgrids": ("sand", "silt", "clay")},
    "ph": {"soilgrids_ph": ("phh2o",)},
    "elevation_m": {"dem_merit": ("dem",), "dem": ("elevation",)},
    "land_cover": {"land_cover": ("discrete_classification",)},
    "koeppen": {"koeppen": ("class",)},
}
CLASSES = ("land_cover", "koeppen")  # a station's own stand in for a map of them
# The square around a station whose mean counts: SoilGrids at 1 km, as in the paper, MERIT's 90 m.
SIDE_M = {"texture": 1000.0, "ph": 1000.0, "elevation_m": 90.0, "land_cover": 100.0,
          "koeppen": 1000.0}  # fmt: skip
FROST_C, MOST_M3_M3 = 3.0, 0.7  # section 2.5
MAX_DEPTH_M = 0.055
WETLAND = "Wetland"
DAY = np.timedelta64(1, "D")
SOURCES = (
    ("smap_m3_m3", "SMAP L3, AM and PM averaged", ""),
    ("ndvi", "MOD13A1, 500 m", ""),
    ("lst_c", "MOD11A2, 1 km", ""),
    ("precipitation_mm", "CHIRPS, 5.5 km", ""),
    ("texture", "SoilGrids, 1 km", "mean of 1 km; sand_percent and clay_percent"),
    ("ph", "SoilGrids, 1 km", "mean of 1 km"),
    ("et_mm_8d", "MOD16A2, 500 m", "the paper prints MOD16A1, which does not exist"),
    ("elevation_m", "MERIT, 90 m", "mean of 90 m"),
    ("land_cover", "MCD12Q1, IGBP", "classes of Copernicus, else the stations' own"),
    ("koeppen", "Koeppen-Geiger map", "else the stations' own"),
)


class DailyTable(NamedTuple):
    """``rows`` (one a station and day), ``stations`` (one a station) and counted ``drops``."""

    rows: pd.DataFrame
    stations: pd.DataFrame
    drops: pd.DataFrame


class Choice(NamedTuple):
    """A source that an archive has, its bands that make a column, and its scenes."""

    source: Source
    bands: tuple[str, ...]
    scenes: pd.DataFrame

    def physical(self, stored: dict[str, np.ndarray] | pd.DataFrame) -> list[np.ndarray]:
        """Each band in its unit, temperatures in degrees C."""
        bands = [self.source.band(name) for name in self.bands]
        return [in_celsius(b, b.physical(np.asarray(stored[b.name], float))) for b in bands]


def in_celsius(band: Band, values: np.ndarray) -> np.ndarray:
    """Values in the band's unit, kelvin in degrees C."""
    scale, offset = conversion("K", "degC") if band.unit == "K" else (1.0, 0.0)
    return values * scale + offset


def sources_table() -> pd.DataFrame:
    """What the paper took for each layer, and what stands here: ``layer, paper, here, note``."""
    rows = []
    for layer, paper, note in SOURCES:
        titles = [sources.get(name).title for name in LAYERS[layer]]
        rows.append((layer, paper, ", else ".join(titles), note))
    return pd.DataFrame(rows, columns=["layer", "paper", "here", "note"])


def choose(
    archive: Archive,
    stations: pd.DataFrame,
    *,
    start: Any,
    end: Any,
    layers: Mapping[str, Mapping[str, tuple[str, ...]]] = LAYERS,
) -> dict[str, list[Choice]]:
    """The sources of layers that an archive has over places, from days ``start`` to ``end``.

    Raises ``CatalogueError`` where layers of predictors lack: the message names them all.
    """
    chosen, lacking = dict[str, list[Choice]](), list[str]()
    for column, options in layers.items():
        chosen[column] = []
        for name, bands in options.items():
            row = sources.get(name)
            back = 0 * DAY if row.is_static else sources.duration(row.max_age)
            try:
                scenes = archive.scenes(stations, name, start - back, end + DAY)
            except UnknownNameError:
                continue
            if len(scenes):
                chosen[column].append(Choice(row, bands, scenes))
            if chosen[column] and column != "smap_m3_m3":
                break
        if not chosen[column] and column not in CLASSES:
            lacking.append(f"{column} ({' or '.join(options)})")
    if lacking:
        raise CatalogueError(
            f"The archive {archive.name!r} lacks layers of the daily table from {start} to {end}: "
            f"{', '.join(lacking)}. Open one that has them, or add the user's own files by the "
            "archive 'local'."
        )
    return chosen


def build(
    archive: Archive,
    *,
    stations: pd.DataFrame | None = None,
    readings: pd.DataFrame | None = None,
    unflagged: str | Sequence[str] = ("SYN-CLIMATE",),
    every_days: int = 1,
    causal: str = "end",
) -> DailyTable:
    """The daily table of stations, with the layers of any archive that has them (``LAYERS``).

    Readings at 5 cm or above, flag G, are averaged to UTC days of at least twelve hours, then over
    a station's sensors. Of networks named ``unflagged`` any flag counts, but no reading above
    0.7 m3 m-3 and no day whose LST is below 3 degrees C. Wetland sites and days without a SMAP
    retrieval go. Composites stay until the next one and tell their age.

    Parameters
    ----------
    archive : any; dated layers come by its ``series``, static ones by small chips
    stations, readings : tables STATIONS and OBSERVATIONS, of all flags; without them those of the
        synthetic archive's own world
    unflagged : networks whose flags are not used
    every_days : keep each station's every so many-th day, staggered over stations
    causal : "end": a composite is used once it has ended (age from its last day); "start": from
        its first day on, as in the paper, so that up to 15 days of it lie ahead

    Returns
    -------
    DailyTable. ``rows``: sample_id, sensor_id (the station's first), station_id, network, time,
    soil_moisture_m3_m3, n_hours, ``PREDICTORS`` and ``<predictor>_age_days``. ``stations``: of the
    contract, one row a station, with texture, clay, sand, land cover, climate and pH as mapped
    layers tell them. ``drops``: step, unit, dropped, rows, stations.

    Raises
    ------
    CatalogueError
        Where the archive lacks layers.
    ContractError
        For an archive without readings of its own, where none are given, or no ``every_days``.
    UnitError
        For readings in percent.
    UnknownNameError
        For another ``causal``.
    """
    if every_days < 1 or every_days != int(every_days):
        raise ContractError(f"every_days is a whole number from 1 on, found {every_days!r}.")
    unflagged = (unflagged,) if isinstance(unflagged, str) else tuple(unflagged)
    if causal not in ("end", "start"):
        raise UnknownNameError(f"causal is 'end' or 'start', found {causal!r}.")
    sensors, parts = _in_situ(archive, stations, readings)
    sensors = sensors[sensors["depth_to_m"] <= MAX_DEPTH_M]
    labels, wild, (first, last) = _labels(parts, sensors, unflagged=unflagged)
    days = np.arange(first, last + DAY)
    sites = sensors.drop_duplicates("station_id").reset_index(drop=True)
    sites = sites.astype({"station_id": "str", "network": "str"})
    chosen = choose(archive, sites, start=days[0], end=days[-1] + DAY)
    sites = _mapped(archive, sites, chosen)
    rows = _grid_of_days(sites, days).merge(labels, on=["station_id", "time"], how="left")
    for name in DAILY:
        rows[name] = _of_day(archive, rows, sites, choices=chosen[name])
    for name in COMPOSITES:
        last_known = _composite(archive, rows, sites, choice=chosen[name][0], causal=causal)
        rows[name], rows[f"{name}_age_days"] = last_known
    for name in STATIC:
        rows[name] = np.repeat(sites[name].to_numpy(float), len(days))
    return _pruned(rows, sites, unflagged=unflagged, every_days=every_days, wild=wild)


def _in_situ(
    archive: Archive, stations: pd.DataFrame | None, readings: pd.DataFrame | None
) -> tuple[pd.DataFrame, Iterable[pd.DataFrame]]:
    """The table of sensors, and their readings in parts."""
    if stations is not None and readings is not None:
        check(stations, STATIONS)
        check(readings, contracts.OBSERVATIONS)
        return stations, [readings]
    world: Any = getattr(archive, "world", None)
    if world is None or stations is not None or readings is not None:
        raise ContractError(
            f"The archive {archive.name!r} has no readings of its own: give both stations= and "
            "readings=, such as insitu.read_stations(path) and read_ismn(path, flags=None)."
        )
    table = world.stations()
    names = table.loc[table["depth_to_m"] <= MAX_DEPTH_M, "sensor_id"]
    return table, (world.readings(name).assign(sensor_id=name) for name in names)


def _labels(parts, sensors, *, unflagged):
    """Daily means (station_id, time, soil_moisture_m3_m3, n_hours), readings above the most, and
    the first and the last day with a reading."""
    of = sensors.set_index(sensors["sensor_id"].astype("str"))[["station_id", "network"]]
    tables, n_above, spans = [], 0, []
    for readings in parts:
        readings = readings.assign(sensor_id=readings["sensor_id"].astype("str"))
        readings = readings[readings["sensor_id"].isin(of.index)]
        is_free = readings["sensor_id"].map(of["network"].astype("str")).isin(unflagged)
        wild = is_free & (readings["soil_moisture_m3_m3"] > MOST_M3_M3)
        n_above += int(wild.sum())
        tables.append(
            ten_day_table.daily_means(readings[~wild & (is_free | (readings["flag"] == "G"))])
        )
        spans += [readings["time"].min(), readings["time"].max()]
    span = pd.Series(spans).dropna()
    if not len(span):
        raise ContractError(f"No reading of a sensor at {MAX_DEPTH_M:g} m or above: none is a row.")
    days = pd.concat(tables)
    days["station_id"] = days["sensor_id"].map(of["station_id"].astype("str"))
    table = days.groupby(["station_id", "time"], observed=True, as_index=False)
    means = table.agg({"soil_moisture_m3_m3": "mean", "n_hours": "max"})
    return means, n_above, np.array([span.min(), span.max()], "datetime64[D]")


def _grid_of_days(stations, days):
    sites = stations[["station_id", "network", "sensor_id"]].astype("str")
    table = sites.merge(pd.DataFrame({"time": days.astype("datetime64[us]")}), how="cross")
    return table.assign(sample_id=table["station_id"] + "_" + table["time"].dt.strftime("%Y-%m-%d"))


def _mapped(archive, stations, chosen):
    """Stations with statics and classes as maps tell them, else with classes of their own."""
    at_sites = {name: _around(archive, stations, name, choice=chosen[name][0])
             for name in SIDE_M if chosen[name]}  # fmt: skip
    sand, silt, clay = at_sites["texture"]
    table = stations.assign(
        sand_percent=sand, clay_percent=clay, sand=sand, clay=clay, ph=at_sites["ph"][0],
        elevation_m=at_sites["elevation_m"][0], texture=strata.texture_class(sand, silt, clay=clay),
    )  # fmt: skip
    classes = {name: table[name].to_numpy(str) for name in CLASSES}
    for name in CLASSES:
        if name in at_sites:
            mapped = class_names(name, at_sites[name][0])
            classes[name] = np.where(mapped == strata.UNKNOWN, classes[name], mapped)
    return table.assign(**classes)


def class_names(column: str, codes: np.ndarray) -> np.ndarray:
    """Names of "land_cover" or "koeppen" codes, of the codes' shape; empty where unknown."""
    if column == "land_cover":
        return strata.land_cover_class(codes).reshape(np.shape(codes))
    names = np.array([strata.UNKNOWN, *strata.KOEPPEN_CODES])  # the codes are 1, 2, ...
    known = np.nan_to_num(codes).astype(int)
    return names[np.where((known > 0) & (known < len(names)), known, 0)]


def _around(archive, stations, column, *, choice) -> list[np.ndarray]:
    """Each band's mean over the square around the stations, (station,); of classes their pixel."""
    row, scenes = choice.source, choice.scenes
    n_px = max(1, round(SIDE_M[column] / row.pixel_size_m))
    scene_of = dict(zip(scenes["station_id"].astype(str), scenes["scene_id"], strict=True))
    way = "bilinear" if row.band(choice.bands[0]).continuous else "nearest"
    requests = [
        contracts.ChipRequest(
            row.name, str(scene_of[site.station_id]), site.station_id, np.datetime64("NaT", "us"),
            choice.bands, version=archive.version, resampling=way,
            grid=grids.chip_grid(site.latitude, site.longitude, size_px=n_px,
                                 pixel_size_m=SIDE_M[column] / n_px),
        )
        for site in stations.itertuples() if site.station_id in scene_of
    ]  # fmt: skip
    values = pd.DataFrame(np.nan, stations["station_id"], choice.bands)
    for request, chip in archive.chips(requests):
        if isinstance(chip, contracts.Failure):
            log.warning("%s of %s: %s", row.name, request.station_id, chip.reason)
        elif np.isfinite(chip.values).any():
            values.loc[request.station_id] = np.nanmean(chip.values, axis=(1, 2))
    return choice.physical(values)


def _of_day(archive, rows, stations, *, choices) -> np.ndarray:
    """The mean of a day's values, of all bands and sources, (row,)."""
    first, after = rows["time"].min(), rows["time"].max() + 2 * DAY
    tables = []
    for choice in choices:
        series = archive.series(stations, choice.source.name, first, after)
        tables += [
            pd.DataFrame({"station_id": series["station_id"].astype("str"),
                          "time": series["start"].dt.floor("D"), "value": values})
            for values in choice.physical(series)
        ]  # fmt: skip
    values = pd.concat(tables).groupby(["station_id", "time"])["value"].mean()
    return values.reindex(pd.MultiIndex.from_frame(rows[["station_id", "time"]])).to_numpy()


def _composite(archive, rows, stations, *, choice, causal) -> tuple[np.ndarray, np.ndarray]:
    """The last composite known on each row's day, and its age in days, (row,)."""
    source, length = choice.source, sources.duration(choice.source.max_age)
    scenes = choice.scenes if causal == "end" else choice.scenes.assign(end=choice.scenes["start"])
    moments = rows[["station_id", "time"]].astype({"station_id": "category"})
    last = latest_scenes(moments, scenes, bounds={source.name: length})
    first, after = rows["time"].min() - length, choice.scenes["end"].max() + DAY
    series = archive.series(stations, source.name, first, after)
    at = pd.MultiIndex.from_frame(series[["station_id", "scene_id"]].astype("str"))
    values = pd.Series(choice.physical(series)[0], at)
    scene = last[f"{source.name}_scene"].astype("str").fillna("")
    wanted = pd.MultiIndex.from_arrays([rows["station_id"].astype("str"), scene])
    return values.reindex(wanted).to_numpy(), last[f"{source.name}_age_hours"].to_numpy() / 24


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
    its status says so. Within a dense network a validation site lies beside training sites. Of
    stations with ``texture``, one row each, comes ``station_id, texture, part`` ("train" or
    "validation"), ``status``.

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

    Readings come as they are, in percent; stations have number, station, latitude, longitude and
    elevation_m. Raises ``ContractError`` if a file or a column is missing, or the list of stations
    is not one.
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


def from_archive(archive: Archive, **options: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same two tables from an archive with gridMET, in the same units.

    Moisture is that of ``build``, which takes the options, soil temperature its LST; rain and air
    are those of gridMET's day, which begins at 06:00 UTC.
    """
    table = build(archive, **options)
    sites = table.stations.rename_axis("number").reset_index()
    ground = table.rows[["station_id", "time", "soil_moisture_m3_m3", "lst_c"]]
    first, after = ground["time"].min() - RAIN_DAYS * DAY, ground["time"].max() + 2 * DAY
    row = sources.get("gridmet")
    air = archive.series(sites, "gridmet", first, after)
    number = dict(zip(sites["station_id"], sites["number"], strict=True))
    stations = air["station_id"].astype("str")
    names = ("pr", "tmmn", "tmmx", "rmin", "rmax")
    pr, low, high, *humid = Choice(row, names, air).physical(air)
    rows = pd.DataFrame({
        "station_id": stations, "time": air["start"].dt.floor("D"),
        "Station Id": stations.map(number), "precip_mm": pr, "tair_c": (low + high) / 2,
        "tmax_c": high, "tmin_c": low, "rh_pct": np.mean(humid, axis=0),
    })  # fmt: skip
    rows = rows.merge(ground, on=["station_id", "time"], how="left").rename(
        columns={"time": "Date", "lst_c": "st_2in"}
    )
    rows["sm_2in"] = 100 * rows.pop("soil_moisture_m3_m3")
    return rows.drop(columns="station_id"), sites[["station", *SITE, "number"]]


def prepare(readings: pd.DataFrame, places: pd.DataFrame) -> DailyWeather:
    """Stations, samples, features and drops from raw readings.

    Dropped and counted, in this order: moisture unknown, below 0 or above 0.6 m3 m-3, soil at or
    below 0 degrees C, soil temperature unknown, and days with rain unknown on more than a fifth of
    the 90 days up to them (among them the first of each record). Raises ``ContractError`` if a
    column or a station is missing, or a station-day stands twice, and ``UnitError`` if moisture is
    m3 m-3 already.

    Parameters
    ----------
    readings : one row a station and day, with the columns ``NEEDED``; moisture in percent
    places : stations, as ``read_folder`` gives them
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
