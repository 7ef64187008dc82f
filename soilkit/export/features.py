"""Chips and coarse series to scalar columns: what a table model eats, and a fusion's two scalars.

Every function returns a features table: ``sample_id`` and one column a predictor, in stored units.
"""

from typing import Any

import numpy as np
import pandas as pd

from soilkit import contracts, sources, units
from soilkit.constants import STATIC_SCENE
from soilkit.errors import ContractError, SceneNotFoundError

RADII_M = (80, 320, 1280)
DAYS_PER_YEAR = 365.2425
_MIN_PIXELS = 4  # fewer pixels than this within a radius make no statistic


def season(samples: pd.DataFrame) -> pd.DataFrame:
    """Day of year of samples as a point on the circle: sin and cos of 2 pi day / 365.2425."""
    return pd.DataFrame({"sample_id": _ids(samples), **season_point(samples["time"].to_numpy())})


def season_point(time: np.ndarray) -> dict[str, np.ndarray]:
    """``season_sin`` and ``season_cos`` of an array of datetime64, in its shape."""
    time = time.astype("datetime64[s]")
    days = (time - time.astype("datetime64[Y]")) / np.timedelta64(86_400, "s")
    angle = 2 * np.pi * days / DAYS_PER_YEAR
    return {"season_sin": np.sin(angle), "season_cos": np.cos(angle)}


def from_series(samples: pd.DataFrame, series: pd.DataFrame, source: str) -> pd.DataFrame:
    """The values of the coarse scene that the join chose for each sample.

    Parameters
    ----------
    samples : samples table with ``<source>_scene``
    series : what ``Archive.series`` gave: station_id, scene_id and one column a band
    source : name, such as "smap"

    Returns
    -------
    DataFrame with sample_id and ``<source>_<band>`` in the band's stored unit; NaN where the sample
    has no scene

    Raises
    ------
    ContractError
        When samples or series lack a column.
    SceneNotFoundError
        When the series lack a scene that a sample names.
    """
    bands = [b.name for b in sources.get(source).bands if b.name in series.columns]
    column = f"{source}_scene"
    if column not in samples.columns or not bands:
        raise ContractError(
            f"Wanted {column} in the samples and a band of {source} in the series; found "
            f"{', '.join(samples.columns)} and {', '.join(series.columns)}."
        )
    known = series.drop_duplicates(["station_id", "scene_id"])
    scenes = samples[column].astype(str)
    at = pd.MultiIndex.from_frame(known[["station_id", "scene_id"]].astype(str))
    keys = pd.MultiIndex.from_arrays([samples["station_id"].astype(str), scenes])
    rows = at.get_indexer(keys)
    absent = (rows < 0) & scenes.notna().to_numpy()
    if absent.any():
        station, scene = keys[int(absent.argmax())]
        raise SceneNotFoundError(
            f"The series of {source} lack {int(absent.sum())} of the samples' scenes, such as "
            f"{scene} at {station}. Fetch the series for the same stations and times as the scenes."
        )
    values = known[bands].to_numpy(float)[rows]
    values[rows < 0] = np.nan
    table = pd.DataFrame(values, columns=[f"{source}_{band}" for band in bands])
    table.insert(0, "sample_id", _ids(samples))
    return table


def from_chips(samples: pd.DataFrame, store: Any) -> pd.DataFrame:
    """Statistics of each sample's chips within 80, 320 and 1280 m of the station.

    Means of every continuous band as ``<source>_<band>_mean_<radius>m``; radar backscatter is
    averaged in linear power and given in dB. Beside them what the source's row names: ``NDVI``, the
    mean of the pixels' (infrared - red) / (infrared + red); ``slope`` in degrees; the spread
    within the circle, as ``sentinel1_VV_std`` in dB. Pixels flagged as cloud are left out; a class
    source gives its most frequent class. A circle with fewer than four known pixels gives NaN;
    radii below one pixel of a source are left out for it. ``store`` is an open chip store.
    """
    parts = [_of_source(samples, store, source) for source in store.sources]
    return pd.concat([pd.DataFrame({"sample_id": _ids(samples)}), *parts], axis=1)


def around(
    chip: contracts.Chip, source: str, *, x_m: np.ndarray, y_m: np.ndarray, columns: Any
) -> dict[str, np.ndarray]:
    """Statistics of ``from_chips`` about many points of one large chip, by column.

    Parameters
    ----------
    chip : stored values; it should reach as far about the points as the columns' radii
    source : name of its source
    x_m, y_m : arrays of one shape, m of the chip's CRS, at the same place in a pixel, such as the
        centres of a map's cells
    columns : those that are wanted, such as "sentinel1_VV_mean_320m"; others are left out

    Returns
    -------
    {column: array of the points' shape}
    """
    size, wanted = chip.grid.pixel_size_m, set(columns)
    row, col = (chip.grid.top_m - y_m) / size, (x_m - chip.grid.left_m) / size
    statistics = {}
    for name, (values, statistic) in _layers(chip, source).items():
        for radius in RADII_M:
            column = f"{source}_{name}_{radius:g}m"
            if column in wanted:
                disc = _Disc(row, col, radius / size)
                statistics[column] = disc.statistic(values, statistic)
    return statistics


class _Disc:
    """The pixels whose centres lie within a radius [pixel] of points, row by row of the disc."""

    def __init__(self, row: np.ndarray, col: np.ndarray, radius: float):
        self.pad = int(np.ceil(radius)) + 1
        base_row, base_col = np.floor(row).astype(int), np.floor(col).astype(int)
        down, right = (float((v - np.floor(v)).flat[0]) for v in (row, col))
        self.runs = []  # row, first column and the one after the last, of the padded image
        for k in range(-self.pad, self.pad + 1):
            half = radius**2 - (k + 0.5 - down) ** 2
            if half < 0:
                continue
            first = int(np.ceil(right - np.sqrt(half) - 0.5))
            after = int(np.floor(right + np.sqrt(half) - 0.5)) + 1
            columns = (base_col + self.pad + edge for edge in (first, after))
            self.runs.append((base_row + self.pad + k, *columns))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """The sum of an image (row, col) about each point; nothing lies beyond the image."""
        sums = np.pad(np.cumsum(np.pad(values, self.pad), axis=1), ((0, 0), (1, 0)))
        return sum(sums[row, after] - sums[row, first] for row, first, after in self.runs)

    def statistic(self, values: np.ndarray, of: Any) -> np.ndarray:
        """The statistic of ``_layers`` about each point, NaN where fewer than four are known."""
        known = np.isfinite(values)
        n = self.sums(known.astype(float))
        if of is _mode:
            classes = np.unique(values[known])
            counts = [self.sums((values == one).astype(float)) for one in classes]
            major = classes[np.argmax(counts, axis=0)] if len(classes) else np.full(n.shape, np.nan)
            return np.where(n >= _MIN_PIXELS, major, np.nan)
        middle = values[known].mean() if known.any() else 0.0
        off, n_known = np.where(known, values - middle, 0.0), np.maximum(n, 1)
        mean = self.sums(off) / n_known
        if of is np.std:
            result = np.sqrt(np.maximum(self.sums(off**2) / n_known - mean**2, 0))
        else:
            result = mean + middle
            result = units.db_from_linear(np.maximum(result, 1e-12)) if of is _mean_db else result
        return np.where(n >= _MIN_PIXELS, result, np.nan)


def combine(*tables: pd.DataFrame) -> pd.DataFrame:
    """Features tables of the same samples side by side, in the order of the first.

    Raises ``ContractError`` when a table lacks a sample of the first, or a column stands in two.
    """
    out = tables[0].set_index("sample_id")
    for table in tables[1:]:
        other = table.set_index("sample_id")
        absent = out.index.difference(other.index)
        twice = out.columns.intersection(other.columns)
        if len(absent) or len(twice):
            raise ContractError(
                f"Features cannot stand side by side: {len(absent)} samples are missing from one, "
                f"and {', '.join(twice) or 'no column'} in both. Make them from the same samples."
            )
        out = out.join(other)
    out = out.reset_index()
    contracts.check(out, contracts.FEATURES)
    return out


def _ids(samples) -> np.ndarray:
    return samples["sample_id"].astype(str).to_numpy()


def _of_source(samples, store, source) -> pd.DataFrame:
    """One row a sample; each distinct chip is read once."""
    scenes = samples.get(f"{source}_scene", pd.Series(STATIC_SCENE, samples.index)).astype(str)
    keys = pd.MultiIndex.from_arrays([scenes, samples["station_id"].astype(str)])
    codes, distinct = pd.factorize(keys)
    rows = [_statistics(store.read(source, *key), source) for key in distinct]
    return pd.DataFrame(rows).take(codes).reset_index(drop=True)


def _statistics(chip: contracts.Chip, source: str) -> dict[str, float]:
    layers, grid = _layers(chip, source), chip.grid
    row, col = (np.arange(n) - (n - 1) / 2 for n in (grid.height, grid.width))
    distance = np.hypot(row[:, None], col) * grid.pixel_size_m
    statistics: dict[str, float] = {}
    for radius in (r for r in RADII_M if r >= grid.pixel_size_m):
        inside = distance <= radius
        for name, (values, statistic) in layers.items():
            here = values[inside]
            here = here[np.isfinite(here)]
            enough = len(here) >= _MIN_PIXELS
            statistics[f"{source}_{name}_{radius:g}m"] = statistic(here) if enough else np.nan
    return statistics


def _layers(chip: contracts.Chip, source: str) -> dict[str, tuple[np.ndarray, Any]]:
    """Per layer its pixels (row, col) and the statistic to take of them."""
    row = sources.get(source)
    bands = dict(zip(chip.bands, chip.values.astype(np.float64), strict=True))
    flags = row.cloud_band
    if flags is not None and flags.name in bands:
        is_cloud = cloudy(bands.pop(flags.name), flags)
        bands = {name: np.where(is_cloud, np.nan, values) for name, values in bands.items()}
    layers: dict[str, tuple[np.ndarray, Any]] = {}
    for name, values in bands.items():
        if not row.band(name).continuous:
            layers[f"{name}_mode"] = (values, _mode)
        elif row.band(name).unit == "dB":
            layers[f"{name}_mean"] = (units.linear_from_db(values), _mean_db)
        else:
            layers[f"{name}_mean"] = (values, np.mean)
    layers |= {f"{n}_std": (v, np.std) for n, v in bands.items() if "std" in row.band(n).features}
    colours = {colour: bands[name] for colour, name in row.colours.items() if name in bands}
    if {"red", "infrared"} <= colours.keys():
        red, infrared = (row.band(row.colours[c]).physical(colours[c]) for c in ("red", "infrared"))
        layers["NDVI_mean"] = (units.normalised_difference(infrared, red), np.mean)
    for name in (n for n in bands if "slope" in row.band(n).features):
        north, east = np.gradient(bands[name], chip.grid.pixel_size_m)
        layers["slope_mean"] = (np.degrees(np.arctan(np.hypot(north, east))), np.mean)
    return layers


def cloudy(flags: np.ndarray, band: sources.Band) -> np.ndarray:
    """Which pixels a band of flags calls cloud or cirrus; unknown ones are not."""
    mask = sum(1 << bit for bit in band.cloud_bits)
    return (np.nan_to_num(flags).astype(int) & mask) != 0


def _mean_db(power):
    return float(units.db_from_linear(power.mean()))


def _mode(values):
    classes, counts = np.unique(values, return_counts=True)
    return float(classes[counts.argmax()])
