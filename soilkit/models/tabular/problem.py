"""What a table asks of models: its rows, predictors, labels, folds and context in time."""

import os
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from soilkit import grids
from soilkit.export import antecedents, ten_day_table
from soilkit.metrics import splits
from soilkit.models.tabular.estimators import SEASON

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
        in four lacks a whole group of predictors (each group anew), half stand at times without
        labels of others.
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

    Raises ``LeakageError`` if a station with labels in the second trains: it may be predicted, not
    scored.
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
        places = {"latitude": (("y", "x"), latitude), "longitude": (("y", "x"), longitude)}
        cube = cube.assign_coords(places)
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
