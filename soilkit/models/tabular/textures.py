"""One random forest for each soil texture class, averaged without weights."""

import warnings

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from soilkit.errors import ContractError
from soilkit.models.tabular.baselines import forest
from soilkit.models.tabular.inputs import NanTolerant, Scaling, new_rows, training_rows
from soilkit.models.tabular.strata import as_classes, matching_strata
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

TEXTURE, ALL = "texture", "all"


class TextureForest(NanTolerant):
    """The random forest of Poehls et al. [1]_: a forest for each texture class, averaged equally.

    Balance comes from the average: what each class taught counts alike, however few its rows. A
    class with fewer than ``min_sites`` sites joins the class whose mean predictors lie nearest (in
    standard deviations), and a warning says so. Where no class has enough sites, one forest learns
    from all. Rows without a texture are a class of their own, as in the paper.

    Parameters
    ----------
    n_trees : int, of each forest
    min_sites : int
    n_jobs : int, processes' worth of threads
    seed : int
    target_max : float or None, m3 m-3; a larger target is refused, None takes any

    Attributes
    ----------
    member_names_ : list of str, the classes with a forest
    merged_ : dict of class to the class that it joined

    References
    ----------
    .. [1] Poehls et al. (2024), Downscaling Soil Moisture to Sub-km Resolutions with Simple Machine
       Learning Ensembles, section 3.1, after Abbaszadeh et al. (2019), doi:10.1029/2018WR023354
    """

    def __init__(
        self,
        n_trees: int = 100,
        min_sites: int = 2,
        n_jobs: int = 1,
        seed: int = 0,
        target_max: float | None = MAX_SOIL_MOISTURE_M3_M3,
    ) -> None:
        self.n_trees = n_trees
        self.min_sites = min_sites
        self.n_jobs = n_jobs
        self.seed = seed
        self.target_max = target_max

    def fit(self, X, y, strata=None, *, stations=None):
        """Train a forest on the rows of each texture class; returns itself.

        Parameters
        ----------
        X : (row, predictor), NaN where missing
        y : (row,), moisture, m3 m-3
        strata : DataFrame with the column ``texture``; other columns are not looked at
        stations : (row,) station of each row, to count sites; None counts each row as a site

        Raises
        ------
        ContractError
            If strata has no texture, or its rows are not those of X, or a value is infinite.
        UnitError
            If the target exceeds ``target_max``, as moisture in percent does.
        """
        if strata is None:
            raise ContractError("A forest for each texture class needs strata with their texture.")
        given = X
        X, y = training_rows(self, given, y=y)
        strata = matching_strata(strata, given, n_rows=len(X), columns=[TEXTURE])
        scaling = Scaling.of(X)
        scaling.warn_of_constants(self)
        classes = as_classes(strata, {TEXTURE: None})[TEXTURE].replace("", "unknown")
        classes = classes.reset_index(drop=True)
        sites = _sites(classes, stations)
        self.merged_ = _merges(classes, sites, min_sites=self.min_sites, inputs=scaling.apply(X))
        classes = classes.replace(self.merged_)
        self.member_names_ = sorted(set(classes))
        seeds = np.random.SeedSequence(self.seed).generate_state(len(self.member_names_))
        self.members_ = []
        for name, seed in zip(self.member_names_, seeds, strict=True):
            own = (classes == name).to_numpy()
            trees = forest(seed=int(seed), n_trees=self.n_trees, n_jobs=self.n_jobs)
            self.members_.append(trees.fit(X[own], y[own]))
        return self

    def predict(self, X, return_std: bool = False, *, strata=None):
        """Mean of the forests (row,), m3 m-3; with ``return_std`` their spread beside it.

        ``strata`` is not looked at: every forest predicts every row.
        """
        moisture = self._outputs(X)
        mean = moisture.mean(axis=0)
        return (mean, moisture.std(axis=0)) if return_std else mean

    def predict_members(self, X, *, strata=None) -> pd.DataFrame:
        """Moisture (row, member), m3 m-3, a column for each of ``member_names_``."""
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.DataFrame(self._outputs(X).T, columns=self.member_names_, index=index)

    def _outputs(self, X) -> np.ndarray:
        check_is_fitted(self)
        X = new_rows(self, X)
        return np.stack([trees.predict(X) for trees in self.members_])  # (member, row)


def _sites(classes: pd.Series, stations) -> pd.Series:
    """Number of sites of each class."""
    stations = np.arange(len(classes)) if stations is None else np.asarray(stations)
    if len(stations) != len(classes):
        raise ContractError(f"stations has {len(stations)} entries for {len(classes)} rows.")
    return pd.Series(stations).groupby(classes).nunique()


def _merges(
    classes: pd.Series, sites: pd.Series, *, min_sites: int, inputs: np.ndarray
) -> dict[str, str]:
    """The class that each class of too few sites joins, with a warning that counts."""
    small = sites.index[sites < min_sites]
    if not len(small):
        return {}
    kept = sites.index.difference(small)
    centers = pd.DataFrame(inputs).groupby(classes).mean()
    merges = dict.fromkeys(sites.index, ALL)
    if len(kept):
        away = {s: ((centers.loc[kept] - centers.loc[s]) ** 2).sum(axis=1) for s in small}
        merges = {name: str(distance.idxmin()) for name, distance in away.items()}
    told = ", ".join(f"{a} ({sites[a]} sites) with {b}" for a, b in merges.items())
    warnings.warn(
        f"{len(small)} of {len(sites)} texture classes have fewer than {min_sites} sites "
        f"and are merged: {told}",
        stacklevel=3,
    )
    return merges
