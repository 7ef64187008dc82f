"""``python -m tests.benchmarks.depths reports/convlstm --data FOLDER``: below, ahead, in a gap.

``depths.csv``: moisture at 20 cm from that at 5 cm, at stations of unseen 2-degree blocks, against
the exponential filter. ``regions.csv``: SMAP of the next ten days over unseen regions, against
persistence. ``boxes.csv``: boxes of pixels and days that are hidden from SMAP, against linear
interpolation.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy.spatial import cKDTree
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from soilkit.files import write_whole
from soilkit.metrics.intervals import limits, mean_and_median, ratio_draws
from soilkit.metrics.splits.folds import block_ids

FOLDS = 5
MEMORIES_DAYS = (1, 2, 4, 7, 10, 15, 20, 30, 45, 60)
SURFACE_M, DEEP_M, SAME_DEPTH_M, LEAST_DAYS = 0.05, 0.20, 0.006, 100
CHOSEN, IN_SAMPLE = "exponential filter, T of training stations", "exponential filter, T in sample"
LINE, TREES = "ridge on past means", "boosted trees on past means"


def exponential_filter(values: np.ndarray, days: np.ndarray, *, memory_days: float) -> np.ndarray:
    """The soil water index of surface series (row, ...) at their days (row,), in their unit.

    m_n = m_(n-1) + K_n (s_n - m_(n-1)), K_n = K_(n-1) / (K_(n-1) + exp(-dt / T)), K_1 = 1: [1]_,
    equation 4.

    References
    ----------
    .. [1] Albergel et al. (2008), doi:10.5194/hess-12-1323-2008

    Examples
    --------
    >>> exponential_filter(np.array([0.3, 0.1]), np.array([0, 1]), memory_days=1e9).round(3)
    array([0.3, 0.2])
    """
    index, gain = np.empty_like(values, float), 1.0
    keep = np.exp(-np.diff(days) / memory_days)
    index[0] = values[0]
    for n in range(1, len(values)):
        gain = gain / (gain + keep[n - 1])
        index[n] = index[n - 1] + gain * (values[n] - index[n - 1])
    return index


class Depths(NamedTuple):
    """Rows of stations and days: the surface, the depth, its filtered surface, the block.

    ``filtered`` is (row, memory of MEMORIES_DAYS), m3 m-3; ``station`` and ``block`` are names.
    """

    station: np.ndarray
    block: np.ndarray
    day: np.ndarray
    surface: np.ndarray
    deep: np.ndarray
    filtered: np.ndarray


def read_depths(folder: Path) -> Depths:
    """Daily means of 5 and 20 cm at the stations of the ISMN that have both for 100 days."""
    sensors = pd.read_csv(folder / "sensors.csv").drop_duplicates(["network", "station"])
    daily = pd.read_parquet(
        folder / "daily_G.parquet", columns=["network", "station", "depth_m", "date", "sm"]
    )
    daily[["network", "station"]] = daily[["network", "station"]].astype(str)
    places = sensors.rename(columns={"lat": "latitude", "lon": "longitude"})
    places = places.assign(block=block_ids(places))[["network", "station", "block"]]
    columns = {}
    for name, depth_m in (("surface", SURFACE_M), ("deep", DEEP_M)):
        of = daily[(daily["depth_m"] - depth_m).abs() < SAME_DEPTH_M]
        columns[name] = of.groupby(["network", "station", "date"])["sm"].mean().astype(float)
    table = pd.DataFrame(columns).dropna(subset="surface").reset_index()
    table = table.merge(places, on=["network", "station"])
    table["station"] = table["network"] + "/" + table["station"]
    n = table.groupby("station")["deep"].transform("count")
    table = table[n >= LEAST_DAYS].sort_values(["station", "date"])
    table["day"] = (table["date"] - pd.Timestamp("2019-01-01")).dt.days
    filtered = [
        np.stack([exponential_filter(s["surface"].to_numpy(), s["day"].to_numpy(), memory_days=t)
                  for t in MEMORIES_DAYS], axis=1)
        for _, s in table.groupby("station")
    ]  # fmt: skip
    names = ("station", "block", "day", "surface", "deep")
    return Depths(*(table[name].to_numpy() for name in names), np.concatenate(filtered))


def scaled_predictors(data: Depths) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictors (row, name), the target, both in deviations of the station's surface, and those.

    The surface, its past means and their steps less the station's surface mean, the season, and
    how the surface varies: mean and deviation are of the surface's whole record, which an unseen
    station has too. The last is the deviation, (row,), m3 m-3.
    """
    by = pd.Series(data.surface).groupby(data.station)
    mean, std = by.transform("mean").to_numpy(), by.transform("std").to_numpy()
    level = (np.column_stack([data.surface, data.filtered]) - mean[:, None]) / std[:, None]
    angle = 2 * np.pi * data.day / 365.25
    fixed = np.column_stack([np.sin(angle), np.cos(angle), mean, std])
    deep = pd.Series(data.deep)
    target = (data.deep - deep.groupby(data.station).transform("mean").to_numpy()) / std
    return np.hstack([level, np.diff(level, axis=1), fixed]), np.clip(target, -4, 4), std


def station_scores(data: Depths, predicted: np.ndarray) -> pd.DataFrame:
    """R and ubRMSE of predictions (row,) or (row, memory) at each station, by station."""
    table = pd.DataFrame(np.column_stack([data.deep, predicted])).groupby(data.station)
    lines = {}
    for station, rows in table:
        deep, *others = rows.dropna().to_numpy().T
        lines[station] = [
            *(np.corrcoef(deep, other)[0, 1] for other in others),
            *(np.std(other - deep) for other in others),
        ]
    return pd.DataFrame(lines).T


def below(data: Depths, *, seed: int = 0) -> pd.DataFrame:
    """R and ubRMSE at 20 cm of every model, medians over stations of unseen blocks, and steps."""
    predictors, target, std = scaled_predictors(data)
    n, known = len(MEMORIES_DAYS), np.isfinite(target)
    of_memory = station_scores(data, data.filtered).to_numpy()[:, :n]  # (station, memory)
    stations, code = np.unique(data.station, return_inverse=True)
    block_of = pd.Series(data.block).groupby(code).first()
    chosen, line, trees = np.zeros((3, len(code)))
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    for learns, tests in folds.split(predictors, groups=data.block):
        best = int(np.argmax(np.median(of_memory[np.unique(code[learns])], axis=0)))
        chosen[tests] = data.filtered[tests, best]
        rows = learns[known[learns]]
        scaler = StandardScaler().fit(predictors[rows])
        ridge = Ridge(10.0).fit(scaler.transform(predictors[rows]), target[rows])
        line[tests] = ridge.predict(scaler.transform(predictors[tests])) * std[tests]
        booster = HistGradientBoostingRegressor(
            max_iter=150, learning_rate=0.05, min_samples_leaf=200, max_features=0.3,
            early_stopping=False, random_state=seed,
        )  # fmt: skip
        booster.fit(predictors[rows], target[rows])
        trees[tests] = booster.predict(predictors[tests]) * std[tests]
    sample = data.filtered[np.arange(len(code)), of_memory.argmax(axis=1)[code]]
    models = {
        "surface itself": data.surface,
        CHOSEN: chosen,
        IN_SAMPLE: sample,
        LINE: line,
        TREES: trees,
    }
    scores = {name: station_scores(data, values) for name, values in models.items()}
    scores |= {f"{name} less {CHOSEN}": scores[name] - scores[CHOSEN] for name in (LINE, TREES)}
    lines = []
    for name, table in scores.items():
        for metric, values in zip(("r", "ubrmse_m3_m3"), table.to_numpy().T, strict=True):
            _, ends = mean_and_median(values, block_of.to_numpy(), seed=0)
            lines.append(
                (name, metric, np.median(values), *ends, len(stations), block_of.nunique())
            )
    return pd.DataFrame(
        lines, columns=["model", "metric", "value", "lower", "upper", "n_stations", "n_blocks"]
    )


# Ten-day SMAP of seven by seven pixels, a window ahead, at regions never seen.

LAGS, PERSISTENCE = 3, "persistence"


def ahead(cube: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    """RMSE [mm] of SMAP one window ahead of (region, window, band, row, column), regions left out.

    The last band is SMAP, known and without gaps until the window before; radar and optics are of
    that window. Intervals draw regions anew.
    """
    ssm, others = cube[:, :, -1], np.moveaxis(cube[:, :, :-1], 2, -1)
    n_regions, n_windows = ssm.shape[:2]
    now = ssm[:, LAGS:-1]
    past = [ssm[:, LAGS - k : n_windows - 1 - k] for k in range(LAGS + 1)]
    around = np.broadcast_to(now.mean(axis=(2, 3), keepdims=True), now.shape)
    running = np.cumsum(ssm, axis=1) / np.arange(1, n_windows + 1)[None, :, None, None]
    angle = 2 * np.pi * np.arange(LAGS, n_windows - 1) / 36.525
    season = [np.broadcast_to(f(angle)[None, :, None, None], now.shape) for f in (np.sin, np.cos)]
    weather_free = np.stack([*past, around, running[:, LAGS:-1], *season], axis=-1)
    predictors = np.concatenate([weather_free, others[:, LAGS:-1]], axis=-1)
    change = ssm[:, LAGS + 1 :] - now
    predicted = {PERSISTENCE: np.zeros_like(change)}
    predicted |= {
        name: np.zeros_like(change) for name in ("ridge on SMAP's past", "boosted trees, all bands")
    }
    ridge, trees = list(predicted)[1:]
    for region in range(n_regions):
        others_of = np.arange(n_regions) != region

        def flat(x, of):
            return x[of].reshape(-1, x.shape[-1])

        y = change[others_of].ravel()
        model = Ridge(1.0).fit(flat(weather_free, others_of), y)
        predicted[ridge][region] = model.predict(flat(weather_free, [region])).reshape(
            change.shape[1:]
        )
        booster = HistGradientBoostingRegressor(
            max_iter=100, learning_rate=0.05, min_samples_leaf=200, max_features=0.3,
            early_stopping=False, random_state=seed,
        ).fit(flat(predictors, others_of), y)  # fmt: skip
        predicted[trees][region] = booster.predict(flat(predictors, [region])).reshape(
            change.shape[1:]
        )
    squares = {k: ((v - change) ** 2).mean(axis=(1, 2, 3)) for k, v in predicted.items()}
    table = rmse_lines(squares, np.arange(n_regions), reference=PERSISTENCE)
    return table.rename(columns={"rmse": "rmse_mm"})


def rmse_lines(
    squares: dict[str, np.ndarray], names: np.ndarray, *, reference: str
) -> pd.DataFrame:
    """Root mean squares of errors (row,), and less the reference's, with what drawing names gives.

    Columns ``model, rmse, lower, upper, n_clusters``; the draws are the same for every line.
    """
    ones, n = np.ones((len(names), 1)), len(set(names))
    values, draws = {}, {}
    for name, rows in squares.items():
        values[name] = np.sqrt(rows.mean())
        drawn = ratio_draws(rows[:, None], ones, cluster=names, rng=np.random.default_rng(0))
        draws[name] = np.sqrt(drawn)
    for name in [name for name in squares if name != reference]:
        values[f"{name} less {reference}"] = values[name] - values[reference]
        draws[f"{name} less {reference}"] = draws[name] - draws[reference]
    ends = [np.ravel(limits(drawn, n_clusters=n)) for drawn in draws.values()]
    table = pd.DataFrame(ends, columns=["lower", "upper"])
    table.insert(0, "model", list(values))
    table.insert(1, "rmse", list(values.values()))
    return table.assign(n_clusters=n)


# Boxes of pixels and days that are hidden from a cube, filled from what is around them.

N_BOXES, BOX = 60, (3, 8, 8)  # days, rows, columns
N_NEAREST = 32
LINEAR = "linear interpolation in time"


def hidden_boxes(shape: tuple[int, int, int], *, seed: int) -> np.ndarray:
    """The number of the box that hides each cell (day, row, column), -1 where none does."""
    rng, box_of = np.random.default_rng(seed), np.full(shape, -1)
    for box in range(N_BOXES):
        corner = [rng.integers(0, n - side + 1) for n, side in zip(shape, BOX, strict=True)]
        where = tuple(slice(c, c + side) for c, side in zip(corner, BOX, strict=True))
        box_of[where] = box
    return box_of


def kriged(
    given: np.ndarray, at: np.ndarray, *, days: float, cells: float, noise: float
) -> np.ndarray:
    """Simple kriging of deviations ``given`` (day, row, column) at cells ``at`` (cell, 3).

    Of the 32 nearest known cells, the covariance being exp(-d), d the distance in ``days`` and in
    ``cells``, and ``noise`` the variance of what is seen: Cressie (1993), section 3.2.
    """
    scale = np.array([days, cells, cells])
    places = np.argwhere(np.isfinite(given))
    tree = cKDTree(places / scale)
    distance, nearest = tree.query(at / scale, k=N_NEAREST)
    values, where = given[tuple(places[nearest].transpose(2, 0, 1))], places[nearest] / scale
    apart = np.linalg.norm(where[:, :, None] - where[:, None], axis=-1)  # (cell, near, near)
    matrix = np.exp(-apart) + noise * np.eye(N_NEAREST)
    weights = np.linalg.solve(matrix, np.exp(-distance)[..., None])[..., 0]
    return (weights * values).sum(axis=1)


KRIGED = "kriging in space and time"
CHOICES = [
    {"days": d, "cells": c, "noise": e} for d in (4, 12) for c in (4, 12) for e in (0.05, 0.3)
]


def filled_boxes(cube: np.ndarray) -> pd.DataFrame:
    """RMSE [m3 m-3] in hidden boxes of a cube (day, row, column) of every fill.

    The covariance is chosen on other boxes of the given cells; none of the fills is causal, but
    for the last value seen. Intervals draw boxes anew.
    """

    def errors(given, truth, box_of, settings):
        at = np.argwhere((box_of >= 0) & np.isfinite(truth))
        table = pd.DataFrame(given.reshape(len(given), -1))
        mean = table.mean().fillna(table.mean().mean()).to_numpy().reshape(given.shape[1:])
        fills = {
            LINEAR: table.interpolate(limit_direction="both").to_numpy().reshape(given.shape),
            "last value seen": table.ffill().bfill().to_numpy().reshape(given.shape),
            "the pixel's mean": np.broadcast_to(mean, given.shape),
        }
        cells = tuple(at.T)
        values = {name: np.where(np.isfinite(v), v, mean)[cells] for name, v in fills.items()}
        values[KRIGED] = mean[cells[1:]] + kriged(given - mean, at, **settings)
        return {name: (v - truth[cells]) ** 2 for name, v in values.items()}, box_of[cells]

    boxes, others = (hidden_boxes(cube.shape, seed=seed) for seed in (0, 1))
    given = np.where(boxes >= 0, np.nan, cube)
    fewer = np.where(others >= 0, np.nan, given)
    tried = [errors(fewer, given, others, s)[0][KRIGED].mean() for s in CHOICES]
    squares, names = errors(given, cube, boxes, CHOICES[int(np.argmin(tried))])
    return rmse_lines(squares, names, reference=LINEAR).rename(columns={"rmse": "rmse_m3_m3"})


def main(words: list[str] | None = None) -> None:
    """Score both tasks on the real data of a folder."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.depths", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the csv tables")
    parser.add_argument("--data", type=Path, required=True, help="folder of the real data")
    options = parser.parse_args(words)
    regions = np.load(options.data / "us_regions7x7" / "regions7x7_10day.npz")["x"]
    with xr.open_dataset(options.data / "cubes" / "smap_w_australia_2020.nc") as data:
        boxes = data["sm"].to_numpy()
    tables = {
        "boxes": filled_boxes(boxes.astype(float)),
        "regions": ahead(regions.astype(float)),
        "depths": below(read_depths(options.data / "ismn_us_multidepth_daily")),
    }
    for name, table in tables.items():
        path = options.out / f"{name}.csv"
        write_whole(path, table.round(5).set_index("model").to_csv)


if __name__ == "__main__":
    main()
