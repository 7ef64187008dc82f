"""The sides of a split, and what stands on more than one of them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from soilkit.errors import ContractError
from soilkit.splits.labels import LABELS

LABEL_COLUMNS = ("soil_moisture_m3_m3", "observed_m3_m3")


@dataclass(frozen=True)
class Sides:
    """Samples that train or are held out, every array (row,).

    ``side`` is a number: 0 trains and 1 is held out; or it is the fold, where each fold is held
    out in turn and all others train. ``position`` is the row in the table that was audited.
    ``station`` numbers the rows of ``stations``;
    ``names`` says what each side is called.
    """

    samples: pd.DataFrame
    side: np.ndarray
    held_out: np.ndarray
    position: np.ndarray
    station: np.ndarray
    stations: pd.DataFrame
    names: tuple[str, ...]
    has_folds: bool

    @property
    def n_sides(self) -> int:
        return int(self.side.max()) + 1

    @property
    def time(self) -> pd.Series | None:
        """The samples' times, if they have any."""
        return self.samples.get("time")

    @property
    def label(self) -> np.ndarray | None:
        """The in-situ moisture, (row,), m3 m-3, if the samples have one."""
        names = [name for name in LABEL_COLUMNS if name in self.samples]
        return self.samples[names[0]].to_numpy(float) if names else None

    def crossing(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Held-out rows whose key stands on another side too, and those keys.

        Parameters
        ----------
        keys : int array (row,); negative ones belong to nothing

        Returns
        -------
        (row,) of bool, and the sorted keys
        """
        known = keys >= 0
        pairs = np.unique(keys[known].astype(np.int64) * self.n_sides + self.side[known])
        found, sides = np.unique(pairs // self.n_sides, return_counts=True)
        shared = found[sides > 1]
        return self.held_out & np.isin(keys, shared), shared

    def near(self, pairs: np.ndarray) -> np.ndarray:
        """Held-out rows whose station, or one paired with it, stands on another side, (row,).

        Parameters
        ----------
        pairs : int array (pair, 2), rows of ``stations``
        """
        present = np.zeros((len(self.stations), self.n_sides), bool)
        present[self.station, self.side] = True
        around = present.copy()
        np.logical_or.at(around, pairs[:, 0], present[pairs[:, 1]])
        np.logical_or.at(around, pairs[:, 1], present[pairs[:, 0]])
        others = around.sum(axis=1)[self.station] - around[self.station, self.side]
        return self.held_out & (others > 0)

    def parts(self) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        """Masks (row,) of who is held out and of who trains, one pair a fold."""
        for side in range(self.n_sides) if self.has_folds else [1]:
            yield self.side == side, self.side != side


def take_sides(
    samples: pd.DataFrame, split, *, stations: pd.DataFrame | None, train, held_out
) -> Sides:
    """Samples sorted into those that train and those held out, or into folds.

    Raises
    ------
    ContractError
        When split and samples do not belong together, or a side is empty.
    """
    labels = _aligned(samples, split)
    numbers, names, has_folds = _numbers(labels, tuple(train), tuple(held_out))
    used = np.flatnonzero(numbers >= 0)
    rows = samples.iloc[used].reset_index(drop=True)
    side = numbers[used]
    for column in ("sensor_id", "station_id"):
        if column not in rows or rows[column].isna().any():
            raise ContractError(f"An audit needs the {column} of every sample; some or all lack.")
    codes, found = pd.factorize(rows["station_id"].astype("str"), sort=True)
    places = _places(pd.Index(found, name="station_id"), rows, stations)
    is_out = np.ones(len(rows), bool) if has_folds else side == 1
    return Sides(rows, side, is_out, used, codes, places, names, has_folds)


def _aligned(samples: pd.DataFrame, split) -> pd.Series:
    if len(split) != len(samples):
        raise ContractError(
            f"A split has one label a sample; found {len(split)} labels for {len(samples)} samples."
        )
    if not isinstance(split, pd.Series):
        return pd.Series(np.asarray(split), index=samples.index)
    if not split.index.equals(samples.index):
        raise ContractError(
            "The split's index is not the samples': take the labels that a split gave for this "
            "very table, or reset both indices."
        )
    return split


def _numbers(
    labels: pd.Series, train: tuple[str, ...], held_out: tuple[str, ...]
) -> tuple[np.ndarray, tuple[str, ...], bool]:
    """A side per sample, -1 where it takes no part; the sides' names; whether they are folds."""
    text = labels.astype("str").where(labels.notna())
    found = sorted(set(text.dropna()))
    if not set(found) & {*LABELS, *train, *held_out}:
        if len(found) < 2:
            raise ContractError(f"Folds need at least two names; found {found}.")
        return pd.factorize(text, sort=True)[0], tuple(found), True
    if set(train) & set(held_out):
        raise ContractError(f"{train} trains and {held_out} is held out: no label can be both.")
    numbers = np.where(text.isin(train), 0, np.where(text.isin(held_out), 1, -1))
    if not ((numbers == 0).any() and (numbers == 1).any()):
        raise ContractError(
            f"An audit needs samples labelled {' or '.join(train)} and {' or '.join(held_out)}; "
            f"found {', '.join(found)}. Say in Rules which labels train and which are held out."
        )
    return numbers, (" + ".join(train), " + ".join(held_out)), False


def _places(names: pd.Index, samples: pd.DataFrame, stations: pd.DataFrame | None) -> pd.DataFrame:
    """Latitude, longitude and network of every station, NaN where unknown."""
    columns = ["latitude", "longitude", "network"]
    table = samples if stations is None else stations
    table = table.assign(station_id=table["station_id"].astype("str"))
    table = table.drop_duplicates("station_id").set_index("station_id").reindex(names)
    return table.reindex(columns=columns)
