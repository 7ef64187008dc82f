"""The ten-day table of real stations: labels from hourly readings, and predictors in sets."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from soilkit.contracts import FEATURES, PREDICTIONS, SAMPLES, STATIONS, apart, check
from soilkit.errors import ContractError, UnitError
from soilkit.export import features
from soilkit.export.insitu import columns
from soilkit.export.insitu.ismn import plain
from soilkit.export.insitu.rules import Notes
from soilkit.files import read_table
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

OPTICAL_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
# How the table's columns are called among the features of a built dataset. The mean of NLCD class
# codes keeps its own name and stands in no set: averaged codes are no quantity.
FEATURE_NAMES = (
    {band: f"sentinel2_{band}" for band in OPTICAL_BANDS}
    | {"VV": "sentinel1_VV", "VH": "sentinel1_VH", "angle": "sentinel1_angle"}
    | {"smap_usda_ssm_mm": "smap_ssm", "elevation_m": "dem_elevation", "mtpi": "dem_mtpi"}
    | {"field_capacity_pct": "soil_field_capacity_pct", "nlcd_mean": "nlcd_mean"}
)
CHARACTERISTICS = ("texture", "clay", "sand", "koeppen", "land_cover", "ph")  # of strata
CLASSES = ("texture", "koeppen", "land_cover")
PLACE_COLUMNS = ("key", "network", "station", "lat", "lon", "start")
SITE_NAMES = {"key": "station_id", "lat": "latitude", "lon": "longitude"}
FILL_VALUE = -9999.0
LABEL_DEPTH_M = 0.0508  # sensors at two inches or less make the label
# Predictor groups by the first words of a feature's name.
GROUPS = {
    "smap": ("smap_",), "sentinel1": ("sentinel1_",), "sentinel2": ("sentinel2_",),
    "static": ("dem_", "soil_", "soilgrids_"), "season": ("season_",),
    "other": ("gldas_", "modis_"),
}  # fmt: skip


class TabularDataset(NamedTuple):
    """Stations, samples (moisture NaN where unknown) and features, in the same row order."""

    stations: pd.DataFrame
    samples: pd.DataFrame
    features: pd.DataFrame


def read_ten_day_table(path: str | Path) -> TabularDataset:
    """Read a parquet table of ten-day windows as stations, samples and features.

    The table has key, network, station, lat, lon [degrees], start and predictors. ``station_id`` is
    ``key``, ``time`` is ``start`` (UTC), ``sample_id`` is key and start. Samples carry
    ``label_days``, the days with in-situ readings in the window; one without a label keeps its row,
    moisture NaN. Features are named ``<source>_<band>``, in the table's own units. Negative
    moisture, predictors of -9999 and infinite ones are missing: a warning counts both. A station's
    elevation, given with the label only, is filled in elsewhere. Raises ``ContractError`` if a
    column that places a row is missing or has gaps, no predictor is there, a window stands twice or
    a station at several places, and ``UnitError`` if the label cannot be m3 m-3.
    """
    table = read_table(path)
    lacking = [name for name in PLACE_COLUMNS if name not in table.columns]
    if lacking:
        raise ContractError(
            f"{Path(path).name} lacks {', '.join(lacking)}; it has {', '.join(table.columns)}. "
            "A ten-day table names its station (key, network, station, lat, lon) and start."
        )
    table = _typed(table.reset_index(drop=True))
    samples = _samples(table)
    predictors = _features(table, samples["sample_id"])
    stations = _stations(table)
    for part, schema in ((samples, SAMPLES), (predictors, FEATURES), (stations, STATIONS)):
        check(part, schema)
    return TabularDataset(stations, samples, predictors)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """The table with keys as text, numbers as floats and ``start`` in naive UTC, without gaps."""
    source = columns.Columns(table, {c: c for c in table} | {"time": "start"}, ".", Notes())
    numbers = [c for c in ("lat", "lon", "sm_insitu", "sm_days", *FEATURE_NAMES) if c in table]
    typed = table.assign(**{name: source.numbers(name) for name in numbers})
    typed = typed.assign(key=source.text("key"), start=source.utc(timezone="UTC"))
    lost = typed["start"].isna() | (typed["key"] == "")
    moved = apart(typed.rename(columns=SITE_NAMES))
    if lost.any() or moved:
        raise ContractError(
            f"{lost.sum()} windows lack a key or a possible start, and {len(moved)} stations stand "
            f"at several places ({', '.join(moved[:10])}). Mend these rows, or leave them out."
        )
    return typed


def _samples(table: pd.DataFrame) -> pd.DataFrame:
    none = pd.Series(np.nan, index=table.index)
    moisture = table.get("sm_insitu", none)
    if moisture.max() > MAX_SOIL_MOISTURE_M3_M3:
        raise UnitError(
            f"sm_insitu reaches {moisture.max():.1f}; soil moisture in m3 m-3 stays below "
            f"{MAX_SOIL_MOISTURE_M3_M3:g}. If it is percent, divide by 100."
        )
    label = moisture.to_frame("sm_insitu")
    moisture = _known(label, label < 0, "negative")["sm_insitu"]
    key, time = table["key"], table["start"]
    return pd.DataFrame({
        "sample_id": key + "_" + time.dt.strftime("%Y-%m-%d"),
        "sensor_id": key, "station_id": key, "time": time, "soil_moisture_m3_m3": moisture,
        "label_days": table.get("sm_days", none),
    })  # fmt: skip


def _features(table: pd.DataFrame, sample_id: pd.Series) -> pd.DataFrame:
    have = {name: new for name, new in FEATURE_NAMES.items() if name in table.columns}
    if not have:
        raise ContractError(
            f"No predictor of a ten-day table among {', '.join(table.columns)}; "
            f"wanted some of {', '.join(FEATURE_NAMES)}."
        )
    gone = np.isinf(table[list(have)]) | (table[list(have)] <= FILL_VALUE)
    predictors = _known(table[list(have)], gone, "infinite").rename(columns=have)
    if "dem_elevation" in predictors:
        known = predictors["dem_elevation"].groupby(table["key"]).transform("first")
        predictors["dem_elevation"] = predictors["dem_elevation"].fillna(known)
    predictors.insert(0, "sample_id", sample_id)
    return predictors


def _known(table: pd.DataFrame, gone: pd.DataFrame, word: str) -> pd.DataFrame:
    """The table with values NaN where ``gone``, which a warning counts by column."""
    counts = gone.sum()
    counts = counts[counts > 0]
    if len(counts):
        numbers = ", ".join(f"{n} of {name}" for name, n in counts.items())
        warnings.warn(f"{word.capitalize()} values count as missing: {numbers}.", stacklevel=4)
    return table.mask(gone)


def _stations(table: pd.DataFrame) -> pd.DataFrame:
    first = table.reindex(columns=[*PLACE_COLUMNS[:-1], "elevation_m"]).rename(columns=SITE_NAMES)
    stations = first.groupby("station_id", sort=False).first().reset_index()
    stations.insert(0, "sensor_id", stations["station_id"])
    stations["depth_from_m"], stations["depth_to_m"] = 0.0, LABEL_DEPTH_M
    stations = stations.assign(**dict.fromkeys(CLASSES[::-1], ""))
    return stations.astype({"elevation_m": float} | dict.fromkeys(CLASSES, "str"))


def read_dataset(folder: str | Path) -> TabularDataset:
    """Read a built dataset's stations, samples and features, features in the samples' row order.

    Raises ``ContractError`` if the folder holds no built dataset, or a sample has no row of
    features.
    """
    paths = [Path(folder) / f"{name}.parquet" for name in TabularDataset._fields]
    lacking = [path.name for path in paths if not path.is_file()]
    if lacking:
        raise ContractError(f"{folder} lacks {', '.join(lacking)}. Build the dataset there first.")
    stations, samples, predictors = map(read_table, paths)
    for part, schema in ((stations, STATIONS), (samples, SAMPLES), (predictors, FEATURES)):
        check(part, schema)
    lost = ~samples["sample_id"].isin(predictors["sample_id"])
    if lost.any():
        raise ContractError(
            f"{int(lost.sum())} of {len(samples)} samples have no row of features. "
            "Both tables must come from one build."
        )
    predictors = samples[["sample_id"]].merge(predictors, on="sample_id", how="left")
    return TabularDataset(stations, samples, predictors)


def read(path: str | Path, *, n_stations: int = 0) -> TabularDataset:
    """A table of ten-day windows, or a built dataset's folder, with the season among its features.

    ``n_stations`` takes the first so many stations; 0 takes all.
    """
    data = read_dataset(path) if Path(path).is_dir() else read_ten_day_table(path)
    data = with_season(data)
    if not n_stations:
        return data
    first = data.stations["station_id"].drop_duplicates()[:n_stations]
    keep = data.samples["station_id"].isin(first)
    samples, predictors = (t[keep].reset_index(drop=True) for t in data[1:])
    chosen = data.stations["station_id"].isin(samples["station_id"])
    return TabularDataset(data.stations[chosen], samples, predictors)


def predictions_table(
    samples: pd.DataFrame,
    stations: pd.DataFrame | None = None,
    *,
    predicted,
    model,
    split,
    std=None,
) -> pd.DataFrame:
    """Predicted moisture (row,) and its standard error, m3 m-3, as rows of predictions.

    ``split`` is one label, or a label a row; the network is the samples' own without ``stations``.
    """
    if stations is not None:
        network = stations.drop_duplicates("sensor_id").set_index("sensor_id")["network"]
        samples = samples.assign(network=samples["sensor_id"].astype(str).map(network.astype(str)))
    table = samples[["sample_id", "sensor_id", "station_id", "network", "time"]].assign(
        observed_m3_m3=samples["soil_moisture_m3_m3"],
        predicted_m3_m3=np.asarray(predicted, dtype=float),
        model=model,
        split=split,
    )
    table = table[[c.name for c in PREDICTIONS.columns if c.required]]
    if std is not None:
        table["predicted_std_m3_m3"] = np.asarray(std, dtype=float)
    check(table, PREDICTIONS)
    return table


def station_keys(archive_stations: pd.DataFrame) -> pd.Index:
    """How a ten-day table writes the stations of an in-situ archive, one a row."""
    names = zip(archive_stations["network"], archive_stations["station"], strict=True)
    return pd.Index([f"{network}/{plain(station)}" for network, station in names])


def fill_statics(stations: pd.DataFrame, archive_stations: pd.DataFrame) -> pd.DataFrame:
    """Take texture, clay, sand, climate and land cover from the stations of an in-situ archive.

    A ten-day table writes a station as NETWORK/name in lower-case letters and digits; an archive's
    station with the same network and the same letters and digits is the same station. Clay and
    sand are percent by weight, NaN where unknown; an unknown class is "". The archive tells no pH.
    """
    statics = archive_stations.rename(columns={"clay_percent": "clay", "sand_percent": "sand"})
    statics = statics.reindex(columns=[*CLASSES, "clay", "sand"])  # a table may lack the two
    statics = statics.astype(dict.fromkeys(CLASSES, "str")).groupby(station_keys(archive_stations))
    known = statics.agg(dict.fromkeys(CLASSES, "first") | {"clay": "mean", "sand": "mean"})
    known = known.reindex(stations["station_id"].astype(str)).fillna(dict.fromkeys(CLASSES, ""))
    return stations.assign(**{name: known[name].to_numpy() for name in known})


def by_sample(by_station: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Columns of a table of stations, the first row of each, on the rows of samples."""
    first = by_station.drop_duplicates("station_id")  # a stations table has a row a sensor
    table = first.set_index(first["station_id"].astype(str)).drop(columns="station_id")
    return table.reindex(samples["station_id"].astype(str)).reset_index(drop=True)


def with_season(data: TabularDataset) -> TabularDataset:
    """The dataset with the season among its features, unless it is there already."""
    if "season_sin" in data.features:
        return data
    season = features.season_point(data.samples["time"].to_numpy())
    return data._replace(features=data.features.reset_index(drop=True).assign(**season))


def predictor_sets(table: pd.DataFrame) -> dict[str, list[str]]:
    """The columns of each model's predictors, by the groups that features' names tell.

    A set is left out where the table lacks its group. ``smap`` holds the product alone, first the
    column that a linear map takes.

    Examples
    --------
    >>> sets = predictor_sets(pd.DataFrame(columns=["sample_id", "smap_ssm", "dem_mtpi"]))
    >>> sets["SMAP + static + season"]
    ['smap_ssm', 'dem_mtpi']
    """
    group = {
        name: [c for c in table.columns if c.startswith(starts)] for name, starts in GROUPS.items()
    }
    radar_optics = group["sentinel1"] + group["sentinel2"]
    context = group["static"] + group["season"]
    sets = {
        "SMAP": group["smap"],
        "S1 + S2 + static + season": radar_optics + context if radar_optics else [],
        "SMAP + static + season": group["smap"] + context if group["smap"] else [],
        "all": group["smap"] + radar_optics + context + group["other"],
    }
    return {name: columns for name, columns in sets.items() if columns}


# Ten-day labels of stations from hourly readings, and how far two tables of them agree.

HOURS_A_DAY_NEEDS = 12
DAYS_A_WINDOW = 10
FIRST_WINDOW = pd.Timestamp("2019-01-01")
SAME_LABEL_M3_M3 = 1e-3


def ten_day_labels(observations: pd.DataFrame, stations: pd.DataFrame) -> pd.DataFrame:
    """Mean soil moisture of each station in each window of ten days.

    Readings of flag "G" from sensors at two inches or less. A sensor's day is the mean of its
    readings and counts with at least twelve of them; a station's day is the mean over its sensors;
    the label is the mean over the window's days. Windows are counted from 2019-01-01. The tables
    are those of ``read_ismn`` and ``read_stations``.

    Returns
    -------
    DataFrame with ``key`` (NETWORK/station in lower-case letters and digits), ``station_id``,
        ``start`` (of the window), ``sm_insitu`` (m3 m-3), ``sm_days`` (days in the mean)
    """
    shallow = stations[stations["depth_to_m"] <= LABEL_DEPTH_M]
    is_used = (observations["flag"] == "G") & observations["sensor_id"].isin(shallow["sensor_id"])
    good = observations.loc[is_used, ["sensor_id", "time", "soil_moisture_m3_m3"]]
    days = daily_means(good.astype({"sensor_id": "category", "soil_moisture_m3_m3": "float64"}))
    days = days.astype({"sensor_id": str}).merge(shallow[["sensor_id", "station_id"]].astype(str))
    days = days.groupby(["station_id", "time"], as_index=False)["soil_moisture_m3_m3"].mean()
    length = pd.Timedelta(DAYS_A_WINDOW, "D")
    days["start"] = FIRST_WINDOW + (days["time"] - FIRST_WINDOW) // length * length
    windows = days.groupby(["station_id", "start"], as_index=False)["soil_moisture_m3_m3"]
    table = windows.agg(sm_insitu="mean", sm_days="count")
    keys = dict(zip(shallow["station_id"].astype(str), station_keys(shallow), strict=True))
    table.insert(0, "key", table["station_id"].map(keys).astype("str"))
    return table.astype({"start": "datetime64[us]"})


def daily_means(observations: pd.DataFrame) -> pd.DataFrame:
    """Each sensor's UTC days with at least twelve readings; ``UnitError`` for percent.

    ``time`` is the day, ``soil_moisture_m3_m3`` its mean over ``n_hours`` readings.
    """
    if (typical := observations["soil_moisture_m3_m3"].median()) > MAX_SOIL_MOISTURE_M3_M3:
        raise UnitError(f"Half of the readings exceed {typical:.3g} m3 m-3: divide percent by 100.")
    by_day = [observations["sensor_id"], observations["time"].dt.floor("D")]
    values = observations.groupby(by_day, observed=True)["soil_moisture_m3_m3"]
    days = values.agg(soil_moisture_m3_m3="mean", n_hours="count").reset_index()
    return days[days["n_hours"] >= HOURS_A_DAY_NEEDS]


def compare_labels(labels: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """How far ``ten_day_labels`` agree with a published table of the same stations and windows.

    ``published`` has ``key``, ``start``, ``sm_insitu`` and ``sm_days`` (NaN = no label). ``what``
    and ``value`` tell stations and windows compared, windows that one side lacks, mean and largest
    absolute difference (m3 m-3), windows that differ by more than 0.001 m3 m-3, and how many of
    those rest on another number of days.
    """
    names = ["key", "start", "sm_insitu", "sm_days"]
    theirs = published[names]
    within = labels["start"].between(theirs["start"].min(), theirs["start"].max())
    ours = labels.loc[within & labels["key"].isin(theirs["key"]), names]
    both = ours.merge(theirs, on=["key", "start"], how="outer", suffixes=("", "_published"))
    is_ours, is_theirs = both["sm_insitu"].notna(), both["sm_insitu_published"].notna()
    pair = both[is_ours & is_theirs]
    difference = (pair["sm_insitu"] - pair["sm_insitu_published"]).abs()
    differs = difference > SAME_LABEL_M3_M3
    other_days = pair["sm_days"] != pair["sm_days_published"]
    rows = {
        "stations compared": pair["key"].nunique(),
        "windows compared": len(pair),
        "windows only published": int((is_theirs & ~is_ours).sum()),
        "windows only here": int((is_ours & ~is_theirs).sum()),
        "mean absolute difference m3 m-3": difference.mean(),
        "largest absolute difference m3 m-3": difference.max(),
        f"windows that differ by more than {SAME_LABEL_M3_M3:g} m3 m-3": int(differs.sum()),
        "of those, with another number of days": int((differs & other_days).sum()),
        "windows with another number of days": int(other_days.sum()),
    }
    return pd.DataFrame({"what": list(rows), "value": list(rows.values())}, dtype="object")
