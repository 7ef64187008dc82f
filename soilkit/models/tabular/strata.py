"""Classes of static characteristics, and the weights that balance them."""

from collections.abc import Mapping
from numbers import Number

import numpy as np
import pandas as pd

from soilkit.errors import ContractError

UNKNOWN = ""
# Numbers in these columns are codes of classes, not amounts.
CODED = ("texture", "koeppen", "land_cover")


def balanced_weights(classes) -> np.ndarray:
    """Weights that give every class the same total, w = n / (n_classes n_i) [1]_.

    Parameters
    ----------
    classes : array (row,) of class names; a missing one is a class of its own

    Returns
    -------
    array (row,); its mean is one

    References
    ----------
    .. [1] Poehls et al. (2024), Downscaling Soil Moisture to Sub-km Resolutions with Simple Machine
       Learning Ensembles, equation 1

    Examples
    --------
    >>> balanced_weights(["Loam", "Loam", "Loam", "Sand"]).round(2).tolist()
    [0.67, 0.67, 0.67, 2.0]
    """
    codes, names = pd.factorize(np.asarray(classes, dtype=object), use_na_sentinel=False)
    counts = np.bincount(codes, minlength=len(names))
    return len(codes) / (len(names) * counts[codes])


def matching_strata(strata, X, *, n_rows: int, columns=None) -> pd.DataFrame:
    """The strata as a table whose rows are the n_rows of X; with ``columns``, these alone.

    Raises
    ------
    ContractError
        If rows do not match, no column is there, or a wanted one is missing.
    """
    strata = pd.DataFrame(strata)
    if len(strata) != n_rows:
        raise ContractError(
            f"strata has {len(strata)} rows for {n_rows} rows of predictors. "
            "Give the characteristics of each row, in the same order."
        )
    if isinstance(X, pd.DataFrame) and not X.index.equals(strata.index):
        raise ContractError(
            "strata and predictors have different indices. Reset both, or select the same rows."
        )
    lacking = [name for name in columns or () if name not in strata.columns]
    if lacking or not len(strata.columns):
        raise ContractError(
            f"strata lacks {', '.join(map(str, lacking)) or 'every characteristic'}; "
            f"it has {', '.join(map(str, strata.columns)) or 'no column'}."
        )
    strata = strata if columns is None else strata[list(columns)]
    return strata.set_axis([str(name) for name in strata.columns], axis=1)


def learn_bins(strata: pd.DataFrame, n_bins: int) -> dict[str, list[float] | None]:
    """Inner edges of equal-width bins for each column of amounts, None for a column of classes.

    Bins are of equal width between the least and the greatest value in training: bins of equal
    counts would leave nothing to balance. Columns named texture, koeppen or land_cover hold classes
    even where these are numbers.
    """
    edges: dict[str, list[float] | None] = {}
    for name, column in strata.items():
        edges[str(name)] = None
        if pd.api.types.is_numeric_dtype(column) and name not in CODED:
            known = column.to_numpy(float)
            known = known[np.isfinite(known)]
            low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
            edges[str(name)] = np.linspace(low, high, n_bins + 1)[1:-1].tolist()
    return edges


def as_classes(strata: pd.DataFrame, bins: Mapping[str, list[float] | None]) -> pd.DataFrame:
    """Class names (row, characteristic); an empty name where the characteristic is unknown."""
    classes = {}
    for name, edges in bins.items():
        column = strata[name]
        if edges is None:
            codes, found = pd.factorize(column, use_na_sentinel=True)
            names = [f"{v:g}" if isinstance(v, Number) else str(v) for v in found]
        else:
            values = column.to_numpy(float)
            codes = np.where(np.isfinite(values), np.searchsorted(edges, values, side="right"), -1)
            names = [str(k) for k in range(len(edges) + 1)]
        classes[name] = np.array([*names, UNKNOWN], dtype=object)[codes]  # code -1 is the last
    return pd.DataFrame(classes, index=strata.index)
