"""Wide & Deep: a linear model on crossed classes beside a dense network."""

import itertools
import warnings

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
    crosses_ : dict of crossing, such as "texture x koeppen", to the number of each of its classes

    References
    ----------
    .. [1] Poehls et al. (2024), Downscaling Soil Moisture to Sub-km Resolutions with Simple Machine
       Learning Ensembles, section 3
    .. [2] Cheng et al. (2016), doi:10.1145/2988450.2988454
    """

    def _with_crosses(self, rows: Rows, strata: pd.DataFrame | None) -> Rows:
        crossed = _crossed(as_classes(self._needed(strata), self.bins_))
        self.crosses_, n_crossed = {}, 0
        for name, column in crossed.items():
            found = pd.unique(column)
            self.crosses_[name] = {c: n_crossed + k for k, c in enumerate(found, start=1)}
            n_crossed += len(found)
        return rows._replace(crosses=self._numbers(crossed), n_crossed=n_crossed)

    def _crosses_of(self, strata, X) -> torch.Tensor:
        strata = matching_strata(self._needed(strata), X, columns=list(self.bins_))
        classes = as_classes(strata, self.bins_)
        self._warn_of_unknown(classes)
        return self._numbers(_crossed(classes))

    def _numbers(self, crossed: dict[str, pd.Series]) -> torch.Tensor:
        """Number (row, cross) of each row's class, 0 where training never held it."""
        columns = [crossed[name].map(known) for name, known in self.crosses_.items()]
        table = np.column_stack([c.fillna(0).to_numpy(np.int64) for c in columns])
        return torch.from_numpy(table)

    def _warn_of_unknown(self, classes: pd.DataFrame) -> None:
        for name, column in classes.items():
            strange = column[~column.isin(list(self.crosses_[str(name)]))]
            if len(strange):
                counts = strange.replace(UNKNOWN, "unknown").value_counts()
                told = ", ".join(f"{value} ({n} rows)" for value, n in counts.items())
                warnings.warn(
                    f"{len(strange)} of {len(column)} rows have a {name} that training never "
                    f"held, which adds nothing to the wide part: {told}",
                    stacklevel=5,
                )

    def _needed(self, strata):
        if strata is None:
            raise ContractError(
                "Wide & Deep crosses the classes of strata: give strata to fit and to predict, "
                "or take DenseEnsemble."
            )
        return strata


def _crossed(classes: pd.DataFrame) -> dict[str, pd.Series]:
    """Each column, and each pair of columns as one column of pairs."""
    crossed = {str(name): classes[name] for name in classes}
    for a, b in itertools.combinations(classes, 2):
        crossed[f"{a}{BETWEEN}{b}"] = classes[a] + BETWEEN + classes[b]
    return crossed
