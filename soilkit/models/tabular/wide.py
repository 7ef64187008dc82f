"""Wide & Deep: a linear model on crossed classes beside a dense network."""

import itertools
import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch

from soilkit.errors import ContractError
from soilkit.models.tabular.networks import NetworkEnsemble
from soilkit.models.tabular.stack import Rows
from soilkit.models.tabular.strata import UNKNOWN, as_classes, matching_strata

BETWEEN = " x "


class WideDeepEnsemble(NetworkEnsemble):
    """The Wide & Deep ensemble of Poehls et al. [1]_, after Cheng et al. [2]_.

    The deep part is a member of DenseEnsemble; the wide part adds one weight for each class of each
    characteristic and for each pair of classes of two characteristics that training rows held.
    Both are trained together. A class or pair that training never held adds nothing; unknown
    classes are counted in a warning. Which characteristics were crossed stands in a supplement that
    was not at hand: all pairs is our choice.

    ``strata`` is needed in ``fit`` and in ``predict``. Parameters are those of DenseEnsemble.

    Attributes
    ----------
    classes_ : dict of characteristic to the classes that training rows held
    crosses_ : dict of crossing, such as "texture x koeppen", to the number of each combination of
        classes, 0 where training rows held none; the last place of each axis is an unknown class

    References
    ----------
    .. [1] Poehls et al. (2024), Downscaling Soil Moisture to Sub-km Resolutions with Simple Machine
       Learning Ensembles, section 3
    .. [2] Cheng et al. (2016), doi:10.1145/2988450.2988454
    """

    def _with_crosses(self, rows: Rows, strata: pd.DataFrame | None) -> Rows:
        classes = as_classes(self._needed(strata), self.bins_)
        self.classes_ = {str(name): sorted(set(column)) for name, column in classes.items()}
        codes = self._codes(classes)
        self.crosses_, n_crossed = {}, 0
        for crossing in _crossings(self.classes_):
            sizes = [len(self.classes_[name]) + 1 for name in crossing]
            numbers = np.zeros(sizes, dtype=np.int64)
            numbers[tuple(codes[name] for name in crossing)] = 1  # what training rows hold
            held = numbers.astype(bool)
            numbers[held] = np.arange(n_crossed + 1, n_crossed + held.sum() + 1)
            self.crosses_[BETWEEN.join(crossing)] = numbers
            n_crossed += int(held.sum())
        return rows._replace(crosses=self._numbers(codes), n_crossed=n_crossed)

    def _crosses_of(self, strata, X, *, n_rows: int) -> torch.Tensor:
        strata = self._needed(strata)
        strata = matching_strata(strata, X, n_rows=n_rows, columns=list(self.bins_))
        classes = as_classes(strata, self.bins_)
        codes = self._codes(classes)
        for name, column in codes.items():
            _warn_of_unknown(name, classes[name][column < 0], n_rows=len(classes))
        return self._numbers(codes)

    def _codes(self, classes: pd.DataFrame) -> dict[str, np.ndarray]:
        """Number (row,) of each row's class among those of training, -1 for another class."""
        return {
            name: pd.Index(known, dtype=object).get_indexer(classes[name])
            for name, known in self.classes_.items()
        }

    def _numbers(self, codes: dict[str, np.ndarray]) -> torch.Tensor:
        """Number (row, cross) of each row's crossed class, 0 where training never held it."""
        found = [
            numbers[tuple(codes[name] for name in crossing)]
            for crossing, numbers in zip(
                _crossings(self.classes_), self.crosses_.values(), strict=True
            )
        ]
        return torch.from_numpy(np.stack(found, axis=1))

    def _needed(self, strata):
        if strata is None:
            raise ContractError(
                "Wide & Deep crosses the classes of strata: give strata to fit and to predict, "
                "or take DenseEnsemble."
            )
        return strata


def _crossings(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Each characteristic alone, then each pair."""
    names = list(names)
    return [*((name,) for name in names), *itertools.combinations(names, 2)]


def _warn_of_unknown(name: str, strange: pd.Series, *, n_rows: int) -> None:
    """Tell how many rows have which class that training never held."""
    if not len(strange):
        return
    counts = strange.replace(UNKNOWN, "unknown").value_counts()
    told = ", ".join(f"{value} ({n} rows)" for value, n in counts.items())
    warnings.warn(
        f"{len(strange)} of {n_rows} rows have a {name} that training never held, "
        f"which adds nothing to the wide part: {told}",
        stacklevel=5,
    )
