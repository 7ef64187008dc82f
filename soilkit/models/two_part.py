"""A model in two parts, level and dynamics: where a place stands, and how it moves.

A station's correlation sees only how its prediction moves in time, while one model of all rows
spends most of its freedom on which station is wet. The two parts learn apart.
"""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from soilkit.errors import ContractError, UnitError
from soilkit.export import antecedents
from soilkit.models.gap_ridge import GapRidge
from soilkit.models.neighbours import Neighbours
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

FEWEST_ROWS = 5  # labelled rows that tell a station's mean and spread
PLACE = ["sensor_id", "time", "latitude", "longitude", "block"]
STATIC = ("dem_", "soil_", "soilgrids_")


class TwoPart(RegressorMixin, BaseEstimator):
    """Moisture = level + spread * dynamics: a station's mean, its deviation, and what moves.

    Each part is a ``GapRidge``. *Dynamics* learns every training station's own standardised
    moisture from anomalies of satellites, *level* its mean and *spread* the logarithm of its
    standard deviation from what tells stations apart. A station weighs as its block's number of
    stations to the power -1/2, so that a dense network is no majority. With ``reach_km`` the
    dynamics' residuals of training stations at the same time are added, weighted by distance: such
    a model needs probes at other places when it predicts.

    Parameters
    ----------
    dynamic, level, spread : tuples of names of columns
    penalty : float, of the dynamics' ridge; level and spread have their own
    level_penalty, spread_penalty : float
    reach_km : float, e-folding distance of the residuals; 0 leaves the network out

    Attributes
    ----------
    level_error_, dynamic_error_ : what ``return_std`` is made of: the root mean square of a new
        station's offset [m3 m-3] and of its standardised moisture. From training residuals, too
        small for new stations, unless ``nested.Chosen`` replaces them by held-out ones
    """

    def __init__(
        self, dynamic=(), level=(), spread=(), penalty=300.0, level_penalty=100.0,
        spread_penalty=3.0, reach_km=0.0,
    ) -> None:  # fmt: skip
        self.dynamic = dynamic
        self.level = level
        self.spread = spread
        self.penalty = penalty
        self.level_penalty = level_penalty
        self.spread_penalty = spread_penalty
        self.reach_km = reach_km

    def fit(self, X, y, *, at):
        """Train.

        Parameters
        ----------
        X : DataFrame (row, predictor), NaN allowed
        y : array (row,), m3 m-3
        at : DataFrame (row, ...) with sensor_id, time, latitude, longitude [degrees] and block

        Raises
        ------
        ContractError
            If ``at`` lacks a column, rows differ in number, or no station has five rows whose
            moisture varies.
        UnitError
            If moisture cannot be m3 m-3.
        """
        at, y = check_place(at, len(X)), np.asarray(y, dtype=float)
        if len(y) and np.nanmax(y) > MAX_SOIL_MOISTURE_M3_M3:
            raise UnitError(f"Moisture reaches {np.nanmax(y):.4g}: in percent? Divide by 100.")
        mean, std, known = own_moments(y, at)
        if not known.any():
            raise ContractError(
                f"No station has {FEWEST_ROWS} labelled rows that vary: a level and dynamics "
                "cannot be told apart. Take longer series."
            )
        at, mean, std = at[known].reset_index(drop=True), mean[known], std[known]
        z, sensor = (y[known] - mean) / std, at["sensor_id"].to_numpy()
        first = ~at["sensor_id"].duplicated().to_numpy()
        own = sorted({*self.level, *self.spread})
        own = pd.DataFrame(_part(X, own)[known], columns=own).groupby(sensor, sort=False).mean()
        dense = block_weights(at["block"][first])
        self.level_ = GapRidge(self.level_penalty).fit(_part(own, self.level), mean[first], dense)
        self.spread_ = GapRidge(self.spread_penalty).fit(
            _part(own, self.spread), np.log(std[first]), dense
        )
        moving = _part(X, self.dynamic)[known]
        self.dynamics_ = GapRidge(self.penalty).fit(moving, z, block_weights(at["block"]))
        residual = z - self.dynamics_.predict(moving)
        self.neighbours_ = Neighbours(self.reach_km).fit(at, residual) if self.reach_km else None
        offset = mean[first] - self.level_.predict(_part(own, self.level))
        self.level_error_, self.dynamic_error_ = _rms(offset), _rms(residual)
        return self

    def predict(self, X, return_std: bool = False, *, at):
        """Moisture (row,), m3 m-3; with ``return_std`` its standard error for a new station."""
        check_is_fitted(self)
        at = check_place(at, len(X))
        spread = self.predicted_spread(X)
        moving = self.dynamics_.predict(_part(X, self.dynamic))
        if self.neighbours_ is not None:
            moving = moving + self.neighbours_.predict(at)
        moisture = self.level_.predict(_part(X, self.level)) + spread * moving
        moisture = np.clip(moisture, 0.0, MAX_SOIL_MOISTURE_M3_M3)
        if not return_std:
            return moisture
        return moisture, np.hypot(self.level_error_, spread * self.dynamic_error_)

    def predicted_spread(self, X) -> np.ndarray:
        """The standard deviation (row,) that a station's moisture is expected to have, m3 m-3."""
        return np.exp(self.spread_.predict(_part(X, self.spread)))


def two_part(columns: pd.DataFrame, kind: str, *, reach_km: float = 0.0) -> TwoPart:
    """The model in two parts on the columns of ``antecedents.widen`` that a kind may see.

    Dynamics see all of them but the station's means and deviations, and the mean of land-cover
    codes. Level sees means and deviations and static layers, spread SMAP's; a nowcast's level sees
    the means so far and static layers, its spread static layers only.

    Parameters
    ----------
    columns : ``columns`` of ``antecedents.Widened``
    kind : "nowcast" or "retrospective"
    reach_km : float, as of ``TwoPart``

    Raises
    ------
    ContractError
        For another kind.
    """
    seen = antecedents.Widened(pd.DataFrame(), columns).names(kind)
    seen = [name for name in seen if name != "nlcd_mean"]
    static = [name for name in seen if name.startswith(STATIC)]
    if kind == antecedents.NOWCAST:
        moving = seen
        level = [name for name in seen if name.endswith("_mean_so_far")] + static
        spread = static  # a deviation of few windows would move the prediction by itself
    else:
        own = [name for name in seen if name.endswith(("_station_mean", "_station_std"))]
        moving = [name for name in seen if name not in own]
        level = own + static
        spread = [name for name in own if name.startswith("smap_")] or static
    return TwoPart(
        tuple(moving), tuple(level or seen), tuple(spread or level or seen), reach_km=reach_km
    )


def places(samples: pd.DataFrame, stations: pd.DataFrame, *, blocks) -> pd.DataFrame:
    """What ``TwoPart`` asks about rows: sensor, time, latitude, longitude and block of each."""
    at = stations.drop_duplicates("station_id")
    at = at.set_index(at["station_id"].astype(str))
    own = samples["station_id"].astype(str)
    return pd.DataFrame(
        {
            "sensor_id": samples["sensor_id"].astype(str).to_numpy(),
            "time": samples["time"].to_numpy(),
            "latitude": own.map(at["latitude"]).to_numpy(float),
            "longitude": own.map(at["longitude"]).to_numpy(float),
            "block": np.asarray(blocks),
        }
    )


def check_place(at: pd.DataFrame, n_rows: int) -> pd.DataFrame:
    """The places of ``n_rows`` rows, numbered anew.

    Raises
    ------
    ContractError
        If a column is missing or their number differs.
    """
    lacking = [name for name in PLACE if name not in at]
    if lacking or len(at) != n_rows:
        raise ContractError(
            f"A row's place has {', '.join(PLACE)}; missing: {', '.join(lacking) or 'none'}, "
            f"and {len(at)} places stand beside {n_rows} rows. Make them with two_part.places."
        )
    return at[PLACE].reset_index(drop=True)


def own_moments(y: np.ndarray, at: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each row's station's mean and standard deviation, m3 m-3, and whether its rows tell them.

    Parameters
    ----------
    y : array (row,), m3 m-3
    at : DataFrame (row, ...) with sensor_id
    """
    moments = pd.Series(y).groupby(at["sensor_id"].to_numpy()).transform
    mean, std, n = (moments(name).to_numpy() for name in ("mean", "std", "size"))
    return mean, std, (n >= FEWEST_ROWS) & (std > 0)


def block_weights(block) -> np.ndarray:
    """Weights (row,) by the size of a row's block to the power -1/2, mean one."""
    codes = pd.factorize(np.asarray(block))[0]
    weights = np.bincount(codes)[codes] ** -0.5
    return weights / weights.mean()


def _part(X: pd.DataFrame, names) -> np.ndarray:
    lacking = [name for name in names if name not in X]
    if lacking:
        raise ContractError(f"Predictors lack {', '.join(lacking[:5])}. Widen them the same way.")
    return X[list(names)].to_numpy(float)


def _rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(error))))
