"""``python -m tests.benchmarks.smap_year reports/convlstm --data FOLDER``: SMAP, a real year ahead.

Surface moisture that SMAP saw at 412 pixels, from the weather of two years: models learn from the
first year and are scored in the second, beside a plain LSTM and two published models. Weights and
widths are chosen on months of blocks that are hidden from the first year; the second year is read
when the tables are written.
"""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from soilkit.constants import MIN_SAMPLES, OK
from soilkit.files import write_bytes_whole, write_whole
from soilkit.metrics import point_scores
from soilkit.metrics.calibration import row_threshold
from soilkit.metrics.intervals import mean_and_median
from soilkit.models.convlstm import gap_filter
from tests.benchmarks import smap_members
from tests.benchmarks.smap_members import (
    MEMBERS,
    N_FOLDS,
    PLAIN,
    RECIPES,
    UNIT_M3_M3,
    Inputs,
    Pixels,
    read_pixels,
)
from tests.benchmarks.trials import Job, Rows, carry_out, command_line, key_of, run, understood

PEERS = {  # of each published model, its moisture and the logarithm of its variance
    "hydroDL, one target": ("CONUSv4f1/CONUSv4f1_20160401_20170401_ep100_SMAP_AM.csv", ""),
    "hydroDL, two targets": tuple(
        f"CONUSv4f1_multi/SMAP_AM{kind}_CONUSv4f1_20160401_20170401_ep100.csv"
        for kind in ("", "SigmaX")
    ),
}
PEER_MEAN, PEER_STD = 0.18420095, 0.088578376  # m3 m-3, by which hydroDL normalised SMAP


def read_peers(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Moisture and its standard deviation (pixel, test day) of each published model, m3 m-3.

    The deviation is NaN where a model told none.
    """
    peers = {}
    for name, (moisture, log_variance) in PEERS.items():
        z = pd.read_csv(folder / moisture, header=None).to_numpy(float)
        std = np.full(z.shape, np.nan)
        if log_variance:
            values = pd.read_csv(folder / log_variance, header=None).to_numpy(float)
            std = np.exp(values / 2) * PEER_STD
        peers[name] = z * PEER_STD + PEER_MEAN, std
    return peers


# What members leave: predictions of every fold's hidden days, and of all days by all of the year.

log = logging.getLogger(__name__)
HIDDEN, TEST = "hidden months of the first year", "second year"
YEAR = "year"  # trained on everything known of the first year
OURS, ASSIMILATED = "ours", "ours + SMAP of the days before"
TRIALS = ((smap_members.TREES, 0), ("dense", 0), ("recurrent", 0), ("dense", 1), ("recurrent", 1))
SCALE_FLOOR_M3_M3, COVERAGE, Z_90 = 0.005, 0.9, 1.645


def run_trial(data: Path, path: Path, *, member: str, seed: int, fold: int | str) -> dict[str, Any]:
    """Train a member and keep its predictions (pixel, day) at ``path``; a fold sees one year."""
    pixels = read_pixels(data / smap_members.ARCHIVE)
    known = np.isfinite(pixels.first_year().smap_m3_m3)
    if fold != YEAR:
        pixels, known = pixels.first_year(), known & (pixels.folds() != fold)
    inputs = Inputs(pixels)
    if member == smap_members.TREES:
        predicted = smap_members.booster(inputs, known, seed=seed)
    else:
        predicted = smap_members.network(inputs, known, seed=seed, recipe=RECIPES[member])
    write_bytes_whole(path, lambda file: np.save(file, predicted.astype(np.float32)))
    return {"n_known": int(known.sum())}


@dataclass
class YearAhead:
    """The trials of all members, resumable; ``work`` holds their rows and predictions."""

    data: Path
    work: Path
    workers: int = 0
    again: bool = False

    @property
    def store(self) -> Rows:
        """The rows of all trials."""
        return Rows(self.work / "rows")

    def definitions(self) -> dict[str, dict[str, Any]]:
        """Every trial by its key; the plain LSTM, which chooses nothing, has no folds."""
        trials = [(name, seed, fold) for name, seed in TRIALS for fold in (*range(N_FOLDS), YEAR)]
        trials.append((PLAIN, 0, YEAR))
        each = [dict(zip(("member", "seed", "fold"), trial, strict=True)) for trial in trials]
        return {key_of(trial, str(RECIPES.get(trial["member"]))): trial for trial in each}

    def due(self) -> list[Job]:
        """The trials whose predictions are missing."""
        jobs = []
        for key, trial in self.definitions().items():
            path, row = self.path(key), self.store.read(key) or {"status": OK}
            if path.exists() or not (self.again or row["status"] == OK):
                continue
            work = partial(run_trial, self.data, path, **trial)
            jobs.append(Job(key, "{member}, seed {seed}, fold {fold}".format(**trial), work,
                            {"definition": trial}))  # fmt: skip
        return jobs

    def path(self, key: str) -> Path:
        """Where a trial's predictions stand."""
        return self.work / f"{key}.npy"

    def run(self) -> None:
        """Run what is due."""
        run(self.due(), self.store, workers=self.workers)

    def predictions(self, member: str, pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
        """A member's means over seeds: of hidden days of the first year, and of all days."""
        hidden, whole = [], []
        trials = self.definitions()
        for seed in {t["seed"] for t in trials.values() if t["member"] == member}:
            of = {t["fold"]: np.load(self.path(k)) for k, t in trials.items()
                  if t["member"] == member and t["seed"] == seed}  # fmt: skip
            whole.append(of[YEAR])
            if len(of) > 1:
                hidden.append(np.choose(pixels.folds(), [of[k] for k in range(N_FOLDS)]))
        return np.mean(hidden, axis=0) if hidden else np.nan, np.mean(whole, axis=0)


class Blended(NamedTuple):
    """A blend's predictions of hidden days of the first year and of all days, and its members."""

    hidden: np.ndarray
    whole: np.ndarray
    weights: dict[str, float]


def blend(study: YearAhead, inputs: Inputs) -> Blended:
    """The members' blend, by non-negative least squares on the hidden days.

    Of deviations from the pixel's mean, in its deviations, so that quiet pixels count.
    """
    hidden, whole = zip(*(study.predictions(name, inputs.pixels) for name in MEMBERS), strict=True)
    known = np.isfinite(inputs.target)
    mean, std = (m[:, None] for m in inputs.moments(known))
    columns = np.stack([((h - mean) / np.sqrt(std))[known] for h in hidden], axis=1)
    weights, _ = nnls(columns, ((inputs.target - mean) / np.sqrt(std))[known])
    hidden, whole = (
        mean + np.tensordot(weights, np.stack(part) - mean, axes=1) for part in (hidden, whole)
    )
    return Blended(hidden, whole, dict(zip(MEMBERS, weights.round(3).tolist(), strict=True)))


def half_widths(inputs: Inputs, blended: Blended) -> tuple[np.ndarray, np.ndarray]:
    """Half the 90 % interval of hidden days of the first year and of all days, m3 m-3.

    Trees learn the logarithm of the hidden days' absolute errors from the predictors; a quantile of
    errors, in such scales of trees that did not see them, makes a width of a scale. Every block
    counts alike in it, as in ``row_threshold``, but for the one block more that this allows for:
    the days are new, the blocks are not. For hidden days the quantile is that of the other folds.
    """
    known, folds = np.isfinite(inputs.target), inputs.pixels.folds()
    statics = inputs.statics(known)
    errors = np.abs(blended.hidden - inputs.target)
    logs = np.log(errors + SCALE_FLOOR_M3_M3)
    hidden, whole = (
        np.concatenate([inputs.weather[:, : p.shape[1]], p[..., None] / UNIT_M3_M3], axis=-1)
        for p in (blended.hidden, blended.whole)
    )

    def scales_by(rows, seen):
        model = smap_members.fitted(smap_members.boosted(100, 0), hidden, statics, logs, rows)
        return np.exp(smap_members.by_trees(model, seen, statics))

    scales = np.choose(folds, [scales_by(known & (folds != k), hidden) for k in range(N_FOLDS)])
    names = np.broadcast_to(inputs.pixels.blocks[:, None], known.shape)

    def factor(rows):
        k = len(set(names[rows]))
        return row_threshold((errors / scales)[rows], names[rows], coverage=COVERAGE * k / (k + 1))

    factors = [factor(known & (folds != k)) for k in range(N_FOLDS)]
    return scales * np.choose(folds, factors), scales_by(known, whole) * factor(known)


# Scores: medians over pixels, intervals by drawing 6-degree blocks anew.

METRICS = ("r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3")


def pixel_scores(predicted: np.ndarray, observed: np.ndarray) -> pd.DataFrame:
    """The four scores of each pixel with 13 pairs or more, by pixel, of (pixel, day) each."""
    pixel, day = np.nonzero(np.isfinite(observed) & np.isfinite(predicted))
    name = pd.Series(pixel).astype(str)
    table = pd.DataFrame(
        {
            "sample_id": name + "_" + pd.Series(day).astype(str), "sensor_id": name,
            "station_id": name, "network": "pixels",
            "time": pd.Timestamp("2000-01-01") + pd.to_timedelta(day, unit="D"),
            "observed_m3_m3": observed[pixel, day], "predicted_m3_m3": predicted[pixel, day],
            "model": "any", "split": "any",
        }
    )  # fmt: skip
    scores = point_scores(table.astype({"time": "datetime64[us]"}))
    scores = scores[scores["n"] >= MIN_SAMPLES]
    scores = scores.set_index(scores["sensor_id"].astype(int))[list(METRICS)]
    return scores.reindex(range(len(observed)))


def median_line(values: pd.Series, blocks: np.ndarray) -> dict[str, Any]:
    """The median of a value of each pixel with its 95 % interval; of a coverage, the mean.

    Pixels without a value are left out.
    """
    has = values.notna().to_numpy()
    known, names = values.to_numpy()[has], blocks[has]
    ends = mean_and_median(known, names, seed=0)
    is_mean = values.name == "coverage_90"
    line = {"value": known.mean() if is_mean else np.median(known)}
    line |= dict(zip(("lower", "upper"), ends[0 if is_mean else 1], strict=True))
    return line | {"n_pixels": len(known), "n_blocks": len(set(names))}


def coverage_of(half_width: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The share of each pixel's errors (pixel, day) within half a width, (pixel,)."""
    inside = np.where(np.isfinite(error), np.abs(error) <= half_width, np.nan)
    return np.nanmean(inside, axis=1)


def compared(study: YearAhead, pixels: Pixels, blended: Blended) -> pd.DataFrame:
    """Scores of ours, the plain LSTM and both peers in the second year, and paired differences.

    Of the first year's hidden months stand ours and its members, by which they were chosen.
    """
    n, blocks, first = pixels.n_train, pixels.blocks, pixels.first_year().smap_m3_m3
    second, (hidden, whole) = pixels.smap_m3_m3[:, n:], half_widths(Inputs(pixels), blended)
    nothing = np.full(second.shape, np.nan)
    peers = read_peers(study.data / "hydrodl_predictions")
    models = {
        OURS: (blended.whole[:, n:], whole[:, n:]),
        PLAIN: (study.predictions(PLAIN, pixels)[1][:, n:], nothing),
        **{name: (moisture, Z_90 * std) for name, (moisture, std) in peers.items()},
        ASSIMILATED: (corrected(pixels, blended, second).before, nothing),
    }
    entries = [(OURS, HIDDEN, blended.hidden, hidden, first)]
    members = {name: study.predictions(name, pixels)[0] for name in MEMBERS}
    entries += [(name, HIDDEN, m, np.full(m.shape, np.nan), first) for name, m in members.items()]
    entries += [(name, TEST, *pair, second) for name, pair in models.items()]
    tables = {}
    for name, split, predicted, half, observed in entries:
        table = pixel_scores(predicted, observed)
        if np.isfinite(half).any():
            table["coverage_90"] = coverage_of(half, predicted - observed)
        tables[name, split] = table
    for name in [name for name in models if name != OURS]:
        difference = (tables[OURS, TEST] - tables[name, TEST])[list(METRICS[:3])]
        tables[f"{OURS} less {name}", TEST] = difference
    return pd.DataFrame(
        [
            {"model": name, "split": split, "metric": metric} | median_line(values, blocks)
            for (name, split), table in tables.items()
            for metric, values in table.items()
        ]
    )


# A filter in continuous time carries what SMAP last told on to the days that it does not see.


class Filtered(NamedTuple):
    """Values (pixel, day) as known before a day's own is seen, and by all days, later ones too."""

    before: np.ndarray
    smoothed: np.ndarray


def kalman(values: np.ndarray, *, memory_days: float, noise: float) -> Filtered:
    """Filter and smoother of an Ornstein-Uhlenbeck process, seen with noise [1]_ [2]_.

    ``values`` (pixel, day) have gaps; the process has variance 1 in the unit in which ``noise`` is
    the variance of what is seen, and forgets as exp(-day / ``memory_days``).

    References
    ----------
    .. [1] Kalman (1960), doi:10.1115/1.3662552
    .. [2] Rauch, Tung and Striebel (1965), doi:10.2514/3.3166
    """
    keep = np.exp(-1 / memory_days)
    n_pixels, n_days = values.shape
    before, prior, smoothed, spread = np.zeros((4, n_days, n_pixels))
    mean, variance = np.zeros(n_pixels), np.ones(n_pixels)
    for t, seen in enumerate(values.T):
        mean, variance = keep * mean, keep**2 * variance + 1 - keep**2
        before[t], prior[t] = mean, variance
        gain = np.where(np.isfinite(seen), variance / (variance + noise), 0)
        mean, variance = mean + gain * np.nan_to_num(seen - mean), (1 - gain) * variance
        smoothed[t], spread[t] = mean, variance
    for t in range(n_days - 2, -1, -1):
        smoothed[t] += keep * spread[t] / prior[t + 1] * (smoothed[t + 1] - before[t + 1])
    return Filtered(before.T, smoothed.T)


MEMORIES_DAYS, NOISES = (2, 4, 8, 16, 32, 64), (0.1, 0.3, 1.0, 3.0)


def tuned(values: np.ndarray) -> dict[str, float]:
    """The memory and the noise that foresee values (pixel, day) best, by squared error."""
    grid = [{"memory_days": m, "noise": k} for m in MEMORIES_DAYS for k in NOISES]
    errors = [np.nanmean((kalman(values, **s).before - values) ** 2) for s in grid]
    return grid[int(np.argmin(errors))]


def corrected(pixels: Pixels, blended: Blended, given: np.ndarray) -> Filtered:
    """Ours in the second year, its error carried on from what SMAP is ``given`` to have seen.

    Memory and noise are those of the hidden days' errors. Moisture (pixel, day), m3 m-3.
    """
    errors = pixels.first_year().smap_m3_m3 - blended.hidden
    ours, unit = blended.whole[:, pixels.n_train :], np.nanstd(errors, axis=1, keepdims=True)
    unit = np.maximum(unit, SCALE_FLOOR_M3_M3)
    states = kalman((given - ours) / unit, **tuned(errors / unit))
    return Filtered(*(ours + unit * state for state in states))


def filled(pixels: Pixels, blended: Blended, *, seed: int = 0) -> pd.DataFrame:
    """Every fifth day that SMAP saw in the second year, hidden and filled, scored in medians.

    What learns, learns from the first year; a causal fill knows only days before its own.
    """
    n, seen = pixels.n_train, pixels.smap_m3_m3
    first, second = seen[:, :n], seen[:, n:]
    hides = np.isfinite(second) & (np.random.default_rng(seed).random(second.shape) < 0.2)
    given = np.where(hides, np.nan, second)
    mean = np.nanmean(first, axis=1, keepdims=True)
    months = pd.DataFrame(np.hstack([first] * 3).T).rolling(31, center=True, min_periods=1).mean()
    season = months.to_numpy()[n : 2 * n].T[:, : second.shape[1]]
    level, settings = (given - mean) / UNIT_M3_M3, tuned((first - mean) / UNIT_M3_M3)
    times = pd.date_range("2015-04-01", periods=seen.shape[1])
    learned = gap_filter.train_filter((first - mean)[..., None] / UNIT_M3_M3, times[:n], seed=seed)
    ways = [
        mean + UNIT_M3_M3 * learned.fill(level[..., None], times[n:], causal=is_causal)[..., 0]
        for is_causal in (True, False)
    ]
    ours = corrected(pixels, blended, given)
    fills = {
        "the latest value": (True, gap_filter.hold(given)),
        "climatology of the first year": (True, season),
        "Kalman filter about the mean": (
            True,
            mean + UNIT_M3_M3 * kalman(level, **settings).before,
        ),
        "continuous filter": (True, ways[0]),
        "ours, no SMAP of the year": (True, blended.whole[:, n:]),
        "ours + Kalman filter": (True, ours.before),
        "linear interpolation": (False, gap_filter.linear(given)),
        "Kalman smoother about the mean": (False, gap_filter.kalman(given)),
        "continuous filter, both ways": (False, ways[1]),
        "ours + Kalman smoother": (False, ours.smoothed),
    }
    hidden, lines = np.where(hides, second, np.nan), []
    for name, (is_causal, values) in fills.items():
        scores = pixel_scores(values, hidden)
        for metric in METRICS:
            words = {"fill": name, "is_causal": is_causal, "metric": metric}
            lines.append(words | median_line(scores[metric], pixels.blocks))
    return pd.DataFrame(lines)


def write_year(study: YearAhead, out: Path) -> None:
    """``smap_nldas.csv`` and ``gaps.csv`` in ``out``, once every trial has left its predictions."""
    lacking = [k for k in study.definitions() if not study.path(k).exists()]
    if lacking:
        log.warning("no tables: %d trials have no predictions yet", len(lacking))
        return
    pixels = read_pixels(study.data / smap_members.ARCHIVE)
    blended = blend(study, Inputs(pixels))
    log.info("weights %s", blended.weights)
    for name, table in (
        ("smap_nldas", compared(study, pixels, blended)),
        ("gaps", filled(pixels, blended)),
    ):
        write_whole(out / f"{name}.csv", table.round(5).set_index(table.columns[0]).to_csv)


def main(words: list[str] | None = None) -> None:
    """Run the study that the command line describes."""
    parser = command_line("tests.benchmarks.smap_year", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real data")
    options = understood(parser, words)
    study = YearAhead(options.data, options.work, workers=options.workers, again=options.again)
    carry_out(study, options, write=write_year)


if __name__ == "__main__":
    main()
