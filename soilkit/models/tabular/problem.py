"""What a table asks of models, what supports an answer there, and how wide that makes it."""

import os
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.optimize import minimize
from scipy.spatial import KDTree
from scipy.spatial.distance import pdist
from sklearn.cluster import KMeans

from soilkit import grids
from soilkit.export import antecedents, ten_day_table
from soilkit.metrics import splits
from soilkit.models.tabular.estimators import SEASON, Scaling, SmapLinear, fitted_folds, rows_for
from soilkit.models.tabular.two_part import CLIP, Neighbours, block_weights
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

COMPLETE, ALL = "complete", "all"
LEAST_LABEL_DAYS = 6  # days with readings that make a window's label
WHERE = ["latitude", "longitude"]
TWENTY_YEARS = pd.Timedelta(7305, "D")  # the season stays, labels of the time are none


@dataclass(frozen=True)
class Problem:
    """Samples and their predictors in one row order, and what else models may be told of them.

    Attributes
    ----------
    stations, samples : tables of their contracts; samples may carry ``label_days``
    features : DataFrame (row, predictor) and ``sample_id``
    strata : DataFrame (row, characteristic), or None where nobody told them
    context : another table, whose predictors at the same stations give context in time too
    """

    stations: pd.DataFrame
    samples: pd.DataFrame
    features: pd.DataFrame
    strata: pd.DataFrame | None = None
    context: "Problem | None" = None

    @classmethod
    def of(cls, data: Any) -> "Problem":
        """The problem that a dataset folder, or an object with the three tables, poses."""
        if isinstance(data, Problem):
            return data
        if isinstance(data, str | os.PathLike):
            data = ten_day_table.with_season(ten_day_table.read_dataset(Path(data)))
        tables = (data.stations, data.samples, data.features)
        return cls(*(table.reset_index(drop=True) for table in tables))

    @property
    def moisture(self) -> np.ndarray:
        """Labels (row,), m3 m-3; NaN where there is none to train on."""
        y = self.samples["soil_moisture_m3_m3"].to_numpy(float)
        days = self.samples.get("label_days", pd.Series(np.inf, index=self.samples.index))
        return np.where(days.to_numpy(float) < LEAST_LABEL_DAYS, np.nan, y)

    @property
    def given(self) -> list[str]:
        """The table's own predictors, by groups; averaged class codes are none."""
        return ten_day_table.predictor_sets(self.features)["all"]

    @cached_property
    def series(self) -> "Problem":
        """These rows and, behind them, the context's at the same stations."""
        if self.context is None:
            return self
        shared = self.context.samples["station_id"].isin(self.samples["station_id"])
        samples, features = (
            pd.concat([getattr(self, name), getattr(self.context, name)[shared]], ignore_index=True)
            for name in ("samples", "features")
        )
        return Problem(self.stations, samples, features)

    @cached_property
    def wide(self) -> antecedents.Widened:
        """The predictors with context in time."""
        wide = antecedents.widen(self.series.samples, self.series.features)
        return wide._replace(features=wide.features.iloc[: len(self.samples)])

    @cached_property
    def poorer(self) -> "Problem":
        """The same rows with less to go by, as new tables have them.

        A station's series falls into stretches of 5 to 40 windows, each a station of its own; one
        in four lacks a group of predictors, half stand at times without labels of others.
        """
        rng = np.random.default_rng(0)
        names, codes = np.unique(self.samples["station_id"].astype(str), return_inverse=True)
        length = rng.choice([5, 10, 10, 15, 40], len(names))[codes]
        window = self.samples.groupby("station_id")["time"].rank(method="dense") - 1
        stretch = names[codes] + "#" + pd.Series((window // length).astype(int)).astype(str)
        of_row, stretches = pd.factorize(stretch)
        samples = self.samples.assign(station_id=stretch, sensor_id=stretch)
        alone = rng.random(len(stretches)) < 0.5
        samples["time"] = samples["time"].mask(alone[of_row], samples["time"] + TWENTY_YEARS)
        features = self.features.copy()
        for starts in ten_day_table.GROUPS.values():
            columns = [c for c in self.given if c.startswith(starts) and c not in SEASON]
            features.loc[(rng.random(len(stretches)) < 0.25)[of_row], columns] = np.nan
        places = self.stations.drop_duplicates("station_id").set_index("station_id")
        first = np.unique(of_row, return_index=True)[1]
        places = places.loc[self.samples["station_id"].iloc[first]].reset_index(drop=True)
        places = places.assign(station_id=stretches, sensor_id=stretches)
        return replace(self, stations=places, samples=samples, features=features, context=None)

    @cached_property
    def at(self) -> pd.DataFrame:
        """Sensor, time, latitude, longitude and 2-degree block (row, ...)."""
        places = self.stations.drop_duplicates("station_id")
        places = places.set_index(places["station_id"].astype(str))
        names = self.samples["station_id"].astype(str)
        blocks = splits.block_ids(places)
        at = places[WHERE].astype(float).assign(block=blocks).reindex(names).reset_index(drop=True)
        sensor = self.samples["sensor_id"].astype(str).to_numpy()
        return at.assign(sensor_id=sensor, time=self.samples["time"].to_numpy())

    def calibrating(self, inputs, use: np.ndarray):
        """What a model sees of some rows (positions), their predictors, and ``tables`` of them."""
        tables = {name: table for name, table in self.tables().items() if table is not None}
        tables |= {"seen": inputs(self), "given": self.features[self.given]}
        tables = {name: t.iloc[use].reset_index(drop=True) for name, t in tables.items()}
        return tables.pop("seen"), tables.pop("given"), tables

    def scored(self, rows: np.ndarray | str = COMPLETE) -> np.ndarray:
        """Which rows (row,) have a label and, if "complete", every predictor; a mask stays one."""
        if not isinstance(rows, str):
            return rows
        labelled = np.isfinite(self.moisture)
        if rows == ALL:
            return labelled
        return labelled & self.features[self.given].notna().all(axis=1).to_numpy()

    def folds(self, rows: np.ndarray | str = COMPLETE, *, seed: int = 0, n_folds: int = 5):
        """Five folds of whole blocks, dealt over scored rows: a number per sample, -1 for none."""
        blocks = self.at["block"]
        scored = blocks[self.scored(rows)].to_numpy()
        dealt = splits.folds(scored, n_folds=n_folds, seed=seed)
        fold_of = dict(zip(scored, dealt, strict=True))
        return blocks.map(fold_of).fillna(-1).astype(int).rename("by block")

    def random_folds(self, rows: np.ndarray | str = COMPLETE, *, seed: int = 0):
        """Folds of single scored rows: leaky, to show what that would claim."""
        rows = self.scored(rows)
        folds = pd.Series(-1, index=self.samples.index, name="rows at random (leaky)")
        folds[rows] = splits.folds(np.arange(rows.sum()), seed=seed)
        return folds

    def counts(self) -> pd.DataFrame:
        """Rows, stations and 2-degree blocks of all rows, of labelled and of complete ones."""
        every = np.ones(len(self.samples), bool)
        kinds = {"all": every, "with a label": self.scored(ALL), "complete": self.scored()}
        kept = {name: self.at[rows] for name, rows in kinds.items()}
        counts = {name: (len(at), at["sensor_id"].nunique(), at["block"].nunique())
                  for name, at in kept.items()}  # fmt: skip
        table = pd.DataFrame(counts, ["rows", "stations", "2-degree blocks"]).T
        return table.rename_axis("which rows")

    def tables(self) -> dict[str, Any]:
        """What estimators may ask for beside predictors, by the name of their parameter."""
        return {"at": self.at, "strata": self.strata, "stations": self.at["sensor_id"]}


def refuse_shared(training: Problem, asked: Problem) -> splits.AuditReport | None:
    """What two tables share; nothing to tell where the second has no label.

    Raises
    ------
    LeakageError
        If a station with labels in the second trains: it may be predicted, not scored.
    """
    parts = {"train": (training, training.scored(ALL)), "test": (asked, asked.scored(ALL))}
    shared = set(asked.samples["station_id"]) & set(training.samples["station_id"])
    if shared:
        warnings.warn(f"{len(shared)} stations also train, at other times", stacklevel=2)
    if not parts["test"][1].any():
        return None
    both = pd.concat([one.samples[rows] for one, rows in parts.values()], ignore_index=True)
    side = np.repeat(list(parts), [rows.sum() for _, rows in parts.values()])
    stations = pd.concat([training.stations, asked.stations]).drop_duplicates("sensor_id")
    report = splits.audit(both, pd.Series(side, name="the two tables"), stations=stations)
    if shared & set(both["station_id"][side == "test"]):
        report.require("unseen stations")
    return report


def problem_of_cube(cube: xr.Dataset) -> tuple[Problem, tuple[str, ...]]:
    """A cube's cells as stations, their values as samples; and the dimensions of the rows."""
    dims = tuple(d for d in ("time", "y", "x") if d in cube.sizes)
    crs = cube["crs"].attrs.get("code") if "crs" in cube else None
    if crs and "latitude" not in cube.coords:
        x, y = np.meshgrid(cube["x"].to_numpy(), cube["y"].to_numpy())
        longitude, latitude = grids.transformer(crs, "EPSG:4326").transform(x, y)
        where = {"latitude": (("y", "x"), latitude), "longitude": (("y", "x"), longitude)}
        cube = cube.assign_coords(where)
    table = cube.drop_vars("crs", errors="ignore").to_dataframe(dim_order=list(dims)).reset_index()
    if "time" not in table:
        table["time"] = pd.Timestamp(0)
    cells = "y" + table["y"].astype(str) + "x" + table["x"].astype(str)
    row = {"sensor_id": cells, "station_id": cells}
    samples = pd.DataFrame({"sample_id": cells + "_" + table["time"].astype(str), **row})
    samples = samples.assign(time=table["time"], soil_moisture_m3_m3=np.nan)
    stations = table.reindex(columns=WHERE).assign(**row, station=cells, network="map")
    words = [name for name in ten_day_table.CHARACTERISTICS if name in cube]
    features = table.drop(columns=["time", "y", "x", *WHERE], errors="ignore")
    features.insert(0, "sample_id", samples["sample_id"])
    strata = table[words] if words else None
    return Problem(stations.drop_duplicates("station_id"), samples, features, strata), dims


# What supports a row's answer, and the error that so much support leaves.

REACH_KM = 600.0  # of labels at the same time
FEW_WINDOWS, FAR = 15, 1.0
ALIKE = 1e-9  # standard deviations between training stations that only rounding tells apart
LEAST_BLOCKS = 10  # below that no width is promised
NORMAL_90 = 1.645  # standard deviations that hold 90 % of a normal distribution
PULLS = (0.0, 0.5, 1.0)
PRIOR = np.array([-2.5, 0.5, 0.3, 0.5, 0.1, 1.0])  # of the widths' weights, and its deviation
PRIOR_STD = np.array([9.0, 0.5, 0.5, 0.2, 0.5, 0.2])
HELD, HELD_FIFTHS = 0.86, 0.80  # of rows held out by folds of a third; fewer train than at the end


@dataclass
class Calibration:
    """What training rows know of others, and the error that their support leaves.

    log(std) = b . (1, windows^-1/2, missing, dissimilarity, 1 - labels, moisture), the columns of
    ``measure``. b is fitted by likelihood, with a normal prior, to residuals of held-out blocks
    and of held-out groups of like blocks, whole and with less to go by; less support never narrows
    it. It is stretched until 1.645 of it hold 86 % of rows of held-out blocks and 80 % of their
    driest and wettest fifth. The mean of a station goes to that of a straight line through SMAP by
    1 - 1 / (1 + (k d)^2), d its dissimilarity; k has the least held-out error.

    Attributes
    ----------
    columns, scaling : predictors as the table gives them, and their training statistics
    places : array (station, predictor), standardised means of training stations
    line : the straight line through SMAP; the training mean where there is none
    labels : weight of training labels at the same time; None where the model sees none
    causal : bool, only rows up to the time count
    """

    columns: list[str]
    scaling: Scaling
    places: np.ndarray
    line: SmapLinear
    labels: Neighbours | None
    causal: bool
    pull: float = 0.0
    weights: np.ndarray = field(default_factory=PRIOR.copy)

    @classmethod
    def of(cls, fitted, problem: Problem, *, inputs, use: np.ndarray, kind: str):
        """The calibration of a fitted model; None with fewer than ten training blocks.

        Parameters
        ----------
        inputs : function of a problem to what the model sees of it, (row, predictor)
        use : array of positions, the rows of the problem that trained
        kind : of the system
        """
        views = [one.calibrating(inputs, use) for one in (problem, problem.poorer)]
        (X, given, tables), y = views[0], problem.moisture[use]
        model = fitted.settled() if hasattr(fitted, "settled") else fitted
        blocks = tables["at"]["block"].to_numpy()
        made = cls.untold(given, tables["at"], y=y, kind=kind)
        if len(set(blocks)) < LEAST_BLOCKS:
            return None
        lines = []
        for near, folds in (
            (True, splits.folds(blocks, n_folds=3)),
            (False, made._alike(given, blocks)),
        ):
            if len(set(folds)) == 1:  # all blocks are alike
                continue
            for test, one in fitted_folds(model, X, y=y, held_out=folds, **tables):
                rest = np.setdiff1d(np.arange(len(y)), test)
                other = cls.untold(given.iloc[rest], tables["at"].iloc[rest], y=y[rest], kind=kind)
                for seen, known, rows in views:
                    asked = rows_for(one.predict, rows, rows=test)
                    moisture = one.predict(seen.iloc[test], **asked)
                    line = other.measure(known, rows["at"], moisture=moisture, rows=test)
                    lines.append(line.assign(y=y[test], block=blocks[test], near=near))
        made._fit(pd.concat(lines, ignore_index=True))
        return made

    @classmethod
    def untold(cls, given: pd.DataFrame, at: pd.DataFrame, *, y: np.ndarray, kind: str):
        """What training rows know, widths and pull unknown yet."""
        scaling = Scaling.of(given.to_numpy(float))
        standard = pd.DataFrame(scaling.standard(given.to_numpy(float))).clip(-CLIP, CLIP)
        places = standard.groupby(at["sensor_id"].to_numpy()).mean().to_numpy()
        labels = Neighbours(REACH_KM).fit(at, np.ones(len(at))) if kind == "network" else None
        line, causal = SmapLinear().fit(_coarse(given), y), kind in ("given", "nowcast")
        return cls(list(given), scaling, places, line, labels, causal)

    def measure(self, given: pd.DataFrame, at: pd.DataFrame, *, moisture, rows) -> pd.DataFrame:
        """The support (row, ...) of predicted ``moisture`` at some rows (positions) of a table.

        ``windows`` of the station, share of predictors ``missing``, ``dissimilarity`` (distance of
        the station's mean predictors to the nearest training station, over the mean distance
        between these), ``labels`` at the time (0 to 1), ``moisture``, and the ``gap`` from the
        station's mean to that of the straight line.
        """
        given = given.reindex(columns=self.columns)
        standard = pd.DataFrame(self.scaling.standard(given.to_numpy(float))).clip(-CLIP, CLIP)
        means, windows = self._means(standard, at)
        some = at.iloc[rows]
        gap = pd.DataFrame({"gap": self.line.predict(_coarse(given.iloc[rows])) - moisture})
        apart = pdist(self.places).mean() if len(self.places) > 1 else 0.0
        apart = apart if apart > ALIKE else 1.0
        return pd.DataFrame(
            {
                "windows": windows[rows],
                "missing": given.iloc[rows].isna().mean(axis=1).to_numpy(),
                "dissimilarity": KDTree(self.places).query(means[rows])[0] / apart,
                "labels": 1.0 if self.labels is None else self.labels.predict(some),
                "moisture": moisture,
                "gap": self._means(gap, some)[0][:, 0],
            }
        )

    def answer(self, moisture, problem: Problem, *, rows: np.ndarray) -> pd.DataFrame:
        """Moisture, its 90 % interval and standard deviation (row, ...), and its support."""
        series = problem.series
        lines = self.measure(series.features, series.at, moisture=moisture, rows=rows)
        mean = self._pulled(lines, self.pull)
        std = np.exp(_design(lines, mean) @ self.weights)
        half = NORMAL_90 * std
        table = lines.assign(mean=mean, std=std, lower=mean - half, upper=mean + half)
        return table.set_index(rows)

    def _means(self, values: pd.DataFrame, at: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Means (row, ...) of a station's rows, up to the time where only these count; how many."""
        order = np.argsort(at["time"].to_numpy(), kind="stable")
        station = at["sensor_id"].to_numpy()[order]
        by = values.iloc[order].groupby(station)
        windows = by.cumcount() + 1
        means = by.cumsum().div(windows, axis=0).assign(windows=windows)
        if not self.causal:
            means = means.groupby(station).transform("last")
        table = means.sort_index().to_numpy()
        return table[:, :-1], table[:, -1]

    @staticmethod
    def _pulled(lines: pd.DataFrame, pull: float) -> np.ndarray:
        kept = 1 / (1 + (pull * lines["dissimilarity"]) ** 2)
        moisture = lines["moisture"] + (1 - kept) * lines["gap"]
        return moisture.clip(0.0, MAX_SOIL_MOISTURE_M3_M3).to_numpy()

    def _fit(self, lines: pd.DataFrame) -> None:
        rows, y = block_weights(lines["block"]), lines["y"].to_numpy()
        errors = [np.average((self._pulled(lines, k) - y) ** 2, weights=rows) for k in PULLS]
        self.pull = PULLS[int(np.argmin(errors))]
        moisture, n_blocks = self._pulled(lines, self.pull), lines["block"].nunique()
        error, design = np.abs(moisture - y), _design(lines, moisture)

        def loss(b):
            log_std = design @ b
            likely = np.average(log_std + 0.5 * (error / np.exp(log_std)) ** 2, weights=rows)
            return likely + 0.5 * np.sum(((b - PRIOR) / PRIOR_STD) ** 2) / n_blocks

        bounds = [(None, None), *[(0, None)] * 4, (None, None)]
        self.weights = minimize(loss, PRIOR, bounds=bounds).x
        ratio, near = error / np.exp(design @ self.weights), lines["near"].to_numpy()
        dry, wet = np.quantile(y, [0.2, 0.8])
        parts = ((near, HELD), (near & (y <= dry), HELD_FIFTHS), (near & (y >= wet), HELD_FIFTHS))
        held = [
            np.quantile(ratio[part], share, weights=rows[part], method="inverted_cdf")
            for part, share in parts
        ]
        self.weights[0] += np.log(max(held) / NORMAL_90)

    def _alike(self, given: pd.DataFrame, blocks: np.ndarray) -> np.ndarray:
        """Folds (row,) of blocks with like mean predictors, each another kind of land."""
        means = pd.DataFrame(self.scaling.standard(given.to_numpy(float))).groupby(blocks).mean()
        groups = KMeans(4, n_init=3, random_state=0).fit_predict(means)
        return pd.Series(groups, means.index)[blocks].to_numpy()


def _design(lines: pd.DataFrame, moisture: np.ndarray) -> np.ndarray:
    far = lines["dissimilarity"].clip(upper=3)  # beyond, nothing is known
    columns = [lines["windows"] ** -0.5, lines["missing"], far, 1 - lines["labels"], moisture]
    return np.column_stack([np.ones(len(lines)), *columns])


def _coarse(given: pd.DataFrame) -> np.ndarray:
    """The coarse product (row, 1) that the straight line takes; NaN where there is none."""
    smap = [name for name in given if name.startswith("smap_")][:1]
    return given[smap].to_numpy(float) if smap else np.full((len(given), 1), np.nan)


def thin_support(lines: pd.DataFrame) -> str:
    """How many of the rows that were asked have little support, in words; "" where none."""
    counts = {
        f"at a station with {FEW_WINDOWS} windows or fewer": lines["windows"] <= FEW_WINDOWS,
        "without a label of another station within ten days": lines["labels"] <= 0,
        "lacking a predictor": lines["missing"] > 0,
        "unlike every training station": lines["dissimilarity"] > FAR,
    }
    words = ", ".join(f"{n} {name}" for name, rows in counts.items() if (n := int(rows.sum())))
    return f"Of {len(lines)} rows asked {words}: their intervals are wider." if words else ""
