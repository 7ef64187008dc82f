"""A model in two parts, level and dynamics; the choice inside training; a blend of models."""

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.linear_model import Ridge
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from soilkit.constants import EARTH_RADIUS_KM
from soilkit.errors import ContractError, UnitError
from soilkit.export import antecedents
from soilkit.models.tabular.estimators import (
    NanTolerant,
    Scaling,
    cross_predict,
    fit_rows,
    rows_for,
    station_r,
)
from soilkit.units import MAX_SOIL_MOISTURE_M3_M3

CLIP = 4.0  # standard deviations; a predictor beyond them counts as there


class GapRidge(NanTolerant):
    """Linear regression with a penalty on standardised predictors, winsorised, gaps at the mean.

    Minimises sum w (y - b0 - Z b)^2 + penalty |b|^2 with weights of mean one, the penalty in rows;
    Z is clipped at four training standard deviations (of rows, without weights), and a missing
    predictor is 0 there.

    Examples
    --------
    >>> line = GapRidge(penalty=1e-9).fit(np.array([[0.0], [1.0], [2.0]]), [0.0, 1.0, 2.0])
    >>> line.predict(np.array([[1.5], [np.nan]])).round(3)
    array([1.5, 1. ])
    """

    def __init__(self, penalty: float = 100.0) -> None:
        self.penalty = penalty

    def fit(self, X, y, sample_weight=None):
        """Fit on X (row, predictor), y (row,) and weights (row,); returns itself."""
        X, y = validate_data(
            self, X, y, ensure_all_finite="allow-nan", y_numeric=True, dtype=np.float64
        )
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weights.any():
            raise ContractError("All sample_weight are zero: nothing is left to train on.")
        self.scaling_ = Scaling.of(X)
        line = Ridge(self.penalty).fit(self._standard(X), y, weights / weights.mean())
        self.coef_, self.intercept_ = line.coef_, float(line.intercept_)
        return self

    def predict(self, X):
        """Prediction (row,) of X (row, predictor), in the unit of y."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, ensure_all_finite="allow-nan", dtype=np.float64)
        return self.intercept_ + self._standard(X) @ self.coef_

    def _standard(self, X: np.ndarray) -> np.ndarray:
        return np.clip(self.scaling_.standard(X), -CLIP, CLIP)


# What probes elsewhere say at the same time: residuals carried over by distance.

WITHIN_MICROSECONDS = 10 * 86_400e6  # residuals of other times count, the less the farther
NOISE = 1.5  # variance of a station's own residual over that of the regional one


class Neighbours(BaseEstimator):
    """Regional residuals by simple kriging, each time for itself [1]_.

    cov(r_i, r_j) = exp(-d_ij / reach_km) + 1.5 [i = j], d the chord between two stations, so that
    the expected residual is K_new (K + 1.5 I)^-1 r: a dense network counts little more than one
    place. Between two times of training stations the field is interpolated; where they have none
    within ten days, it is 0.

    References
    ----------
    .. [1] Cressie (1993), Statistics for Spatial Data, section 3.2, doi:10.1002/9781119115151
    """

    def __init__(self, reach_km: float) -> None:
        self.reach_km = reach_km

    def fit(self, at: pd.DataFrame, residual: np.ndarray) -> "Neighbours":
        """Keep residuals (row,) at places (row; time, latitude, longitude); returns itself."""
        place_km = _chord_places(at)
        self.known_ = {}  # by time: places and their weighted residuals
        for when, rows in _by_time(at):
            cov = self._covariance(place_km[rows], place_km[rows]) + NOISE * np.eye(len(rows))
            self.known_[when] = place_km[rows], np.linalg.solve(cov, residual[rows])
        return self

    def predict(self, at: pd.DataFrame) -> np.ndarray:
        """Expected residual (row,) at places (row; time, latitude, longitude)."""
        place_km, expected = _chord_places(at), np.zeros(len(at))
        known = np.array(sorted(self.known_))
        for when, rows in _by_time(at):
            after = int(np.searchsorted(known, when))
            exact = when in self.known_
            around = [when] if exact else known[max(after - 1, 0) : after + 1].tolist()
            weights = np.clip(1 - np.abs(np.array(around) - when) / WITHIN_MICROSECONDS, 0, None)
            for known_at, weight in zip(around, weights / max(weights.sum(), 1), strict=True):
                near_km, weighted = self.known_[known_at]
                expected[rows] += weight * (self._covariance(place_km[rows], near_km) @ weighted)
        return expected

    def _covariance(self, a_km: np.ndarray, b_km: np.ndarray) -> np.ndarray:
        return np.exp(-cdist(a_km, b_km) / self.reach_km)


def _by_time(at: pd.DataFrame):
    """(microseconds since 1970, rows) of each time."""
    time = at["time"].to_numpy().astype("datetime64[us]").astype("int64")
    return [(int(when), rows) for when, rows in pd.Series(time).groupby(time).indices.items()]


def _chord_places(at: pd.DataFrame) -> np.ndarray:
    """Places (row, 3) from the Earth's centre, km."""
    lat, lon = np.radians(at[["latitude", "longitude"]].to_numpy(float)).T
    unit = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    return EARTH_RADIUS_KM * unit


# A model in two parts, level and dynamics: where a place stands, and how it moves.

FEWEST_ROWS = 5  # labelled rows that tell a station's mean and spread
PLACE = ["sensor_id", "time", "latitude", "longitude", "block"]
STATIC = ("dem_", "soil_", "soilgrids_")
SPREAD_PENALTY = 3.0


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
    penalty, level_penalty : float, of the ridges of dynamics and level
    reach_km : float, e-folding distance of the residuals; 0 leaves the network out
    learner : unfitted regressor that learns dynamics instead of the ridge, such as trees; it takes
        NaN and ``sample_weight``
    """

    def __init__(
        self, dynamic=(), level=(), spread=(), penalty=300.0, level_penalty=100.0, reach_km=0.0,
        learner=None,
    ) -> None:  # fmt: skip
        self.dynamic = dynamic
        self.level = level
        self.spread = spread
        self.penalty = penalty
        self.level_penalty = level_penalty
        self.reach_km = reach_km
        self.learner = learner

    def fit(self, X, y, *, at):
        """Train on X (row, predictor), NaN allowed, and y (row,), m3 m-3; returns itself.

        ``at`` (row, ...) has sensor_id, time, latitude, longitude [degrees] and block. Raises
        ``ContractError`` if it lacks a column, rows differ in number, or no station has five rows
        whose moisture varies, and ``UnitError`` if moisture cannot be m3 m-3.
        """
        at, y = check_place(at, len(X)), np.asarray(y, dtype=float)
        if len(y) and np.nanmax(y) > MAX_SOIL_MOISTURE_M3_M3:
            raise UnitError(f"Moisture reaches {np.nanmax(y):.4g}: in percent? Divide by 100.")
        moments = pd.Series(y).groupby(at["sensor_id"].to_numpy()).transform
        mean, std, n = (moments(name).to_numpy() for name in ("mean", "std", "size"))
        known = (n >= FEWEST_ROWS) & (std > 0)
        if not known.any():
            raise ContractError(
                f"No station has {FEWEST_ROWS} labelled rows that vary: a level and dynamics "
                "cannot be told apart. Take longer series."
            )
        at, mean, std = at[known].reset_index(drop=True), mean[known], std[known]
        z, sensor = (y[known] - mean) / std, at["sensor_id"].to_numpy()
        first = ~at["sensor_id"].duplicated().to_numpy()
        slow = sorted({*self.level, *self.spread})
        slow = pd.DataFrame(_part(X, slow)[known], columns=slow).groupby(sensor, sort=False).mean()
        weights = block_weights(at["block"][first])
        level, spread = _part(slow, self.level), _part(slow, self.spread)
        self.level_ = GapRidge(self.level_penalty).fit(level, mean[first], weights)
        self.spread_ = GapRidge(SPREAD_PENALTY).fit(spread, np.log(std[first]), weights)
        moving = _part(X, self.dynamic)[known]
        learner = GapRidge(self.penalty) if self.learner is None else clone(self.learner)
        weights = block_weights(at["block"])
        uneven = weights if np.ptp(weights) else None  # trees bin weighted rows slowly
        self.dynamics_ = learner.fit(moving, z, sample_weight=uneven)
        residual = z - self.dynamics_.predict(moving)
        self.neighbours_ = Neighbours(self.reach_km).fit(at, residual) if self.reach_km else None
        return self

    def predict(self, X, *, at):
        """Moisture (row,), m3 m-3, from 0 to 1."""
        check_is_fitted(self)
        at = check_place(at, len(X))
        moving = self.dynamics_.predict(_part(X, self.dynamic))
        if self.neighbours_ is not None:
            moving = moving + self.neighbours_.predict(at)
        spread = np.exp(self.spread_.predict(_part(X, self.spread)))
        moisture = self.level_.predict(_part(X, self.level)) + spread * moving
        return np.clip(moisture, 0.0, MAX_SOIL_MOISTURE_M3_M3)


def two_part(wide: antecedents.Widened, kind: str, *, learner=None) -> TwoPart:
    """The model in two parts on the columns of ``antecedents.widen`` that a kind may see.

    Dynamics see all of them but the station's means and deviations, and the mean of land-cover
    codes. Level sees means and deviations and static layers, spread SMAP's; a nowcast's level sees
    the means so far and static layers, its spread static layers only. ``kind`` is "nowcast" or
    "retrospective", or raises ``ContractError``; ``learner`` is that of ``TwoPart``.
    """
    seen = [name for name in wide.names(kind) if name != "nlcd_mean"]
    static = [name for name in seen if name.startswith(STATIC)]
    of_station, spread = [], []  # a deviation of few windows would move a nowcast by itself
    if kind == antecedents.NOWCAST:
        level = [name for name in seen if name.endswith("_mean_so_far")]
    else:
        level = of_station = [n for n in seen if n.endswith(("_station_mean", "_station_std"))]
        spread = [name for name in of_station if name.startswith("smap_")]
    dynamic = tuple(name for name in seen if name not in of_station)
    level = level + static or seen
    return TwoPart(dynamic, tuple(level), tuple(spread or static or level), learner=learner)


def check_place(at: pd.DataFrame, n_rows: int) -> pd.DataFrame:
    """The places of ``n_rows`` rows, numbered anew; ``ContractError`` for other columns or rows."""
    lacking = [name for name in PLACE if name not in at]
    if lacking or len(at) != n_rows:
        raise ContractError(
            f"A row's place has {', '.join(PLACE)}; missing: {', '.join(lacking) or 'none'}, "
            f"and {len(at)} places stand beside {n_rows} rows. Take them from Problem.at."
        )
    return at[PLACE].reset_index(drop=True)


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


# Choice inside training: candidates compete in inner folds of whole blocks, no test row seen.

PENALTIES = ("penalty", (100.0, 300.0, 1000.0))
REACHES_KM = ("reach_km", (300.0, 600.0, 1000.0))
FEWEST_BLOCKS = 4  # below that nothing is chosen: the model keeps its own parameters
FEWEST_ROWS_NESTED = 13  # of a station, for its correlation to count in the choice


class Chosen(RegressorMixin, BaseEstimator):
    """A ``TwoPart`` whose parameters are chosen by folds of blocks inside its training rows.

    Parameters are chosen one after the other, each of ``stages`` (name, values): the value with the
    highest mean R over stations, a station weighing as its block's number of stations to the power
    -1/2. ``seed`` deals the five inner folds; ``model_`` is the chosen one, fitted on all training
    rows.
    """

    def __init__(self, model, stages=(PENALTIES,), seed: int = 0) -> None:
        self.model = model
        self.stages = stages
        self.seed = seed

    def fit(self, X, y, *, at):
        """Choose and train on rows X, y at their places, as of ``TwoPart``; returns itself."""
        at, y = check_place(at, len(X)), np.asarray(y, dtype=float)
        candidate = clone(self.model)
        if at["block"].nunique() >= FEWEST_BLOCKS:
            inner = {"y": y, "groups": at["block"], "seed": self.seed, "at": at}
            for name, values in self.stages:
                models = [clone(candidate).set_params(**{name: value}) for value in values]
                scores = [_mean_r(cross_predict(one, X, **inner), y, at) for one in models]
                candidate = models[int(np.argmax(scores))]
        self.model_ = clone(candidate).fit(X, y, at=at)
        return self

    def predict(self, X, *, at):
        """Moisture (row,), m3 m-3, from 0 to 1."""
        check_is_fitted(self)
        return self.model_.predict(X, at=at)

    def settled(self):
        """The chosen model, unfitted: what was chosen is not chosen again."""
        return clone(self.model_)


def _mean_r(predicted: np.ndarray, y: np.ndarray, at: pd.DataFrame) -> float:
    """Mean correlation of stations with enough rows, dense blocks held down."""
    r = station_r(predicted, y, stations=at["sensor_id"])
    by = at.groupby("sensor_id")["block"].agg(["size", "first"]).loc[r.index]
    kept = (by["size"] >= FEWEST_ROWS_NESTED) & r.notna()
    if not kept.any():
        return 0.0
    return float(np.average(r[kept], weights=block_weights(by["first"][kept])))


# A weighted mean of unlike models.

HELD = 1e3  # how much harder the sum of weights is held than the errors


class Blend(RegressorMixin, BaseEstimator):
    """Stacked models [1]_: m + sum w_k (p_k - m), w_k >= 0, sum w_k <= 1, m the training mean.

    The weights minimise the squared error of held-out predictions (folds of whole blocks inside the
    training rows) after each station's mean error is taken away: they judge how members move, as R
    and ubRMSE do. A station weighs as its block's number of rows to the power -1/2.

    Parameters
    ----------
    members : list of (name, unfitted estimator); one whose ``fit`` knows ``at`` is given it
    seed : int, of the five inner folds
    weights : dict of name to weight, where they are known; None lets inner folds weigh

    Attributes
    ----------
    members_ : list of (name, estimator fitted on all training rows)
    weights_ : dict of name to weight

    References
    ----------
    .. [1] Breiman (1996), doi:10.1007/BF00117832
    """

    def __init__(self, members, seed: int = 0, weights=None) -> None:
        self.members = members
        self.seed = seed
        self.weights = weights

    def fit(self, X, y, *, at):
        """Weigh and train on rows X, y at their places, as of ``TwoPart``; returns itself."""
        at, y = check_place(at, len(X)), np.asarray(y, dtype=float)
        X, rows = X.reset_index(drop=True), block_weights(at["block"])
        self.weights_ = self.weights
        if self.weights is None:
            inner = {"y": y, "groups": at["block"], "seed": self.seed, "at": at}
            held_out = {name: cross_predict(one, X, **inner) for name, one in self.members}
            weights = weigh(held_out, y, stations=at["sensor_id"], rows=rows)
            self.weights_ = dict(zip(held_out, weights.tolist(), strict=True))
        self.mean_ = float(np.average(y, weights=rows))
        every, tables = slice(None), {"at": at}
        self.members_ = [
            (name, fit_rows(one, X, y=y, rows=every, tables=tables)) for name, one in self.members
        ]
        return self

    def predict(self, X, *, at):
        """Moisture (row,), m3 m-3, from 0 to 1."""
        check_is_fitted(self)
        tables, mixed = {"at": check_place(at, len(X))}, np.full(len(X), self.mean_)
        for name, one in self.members_:
            moisture = one.predict(X, **rows_for(one.predict, tables, rows=slice(None)))
            mixed += self.weights_[name] * (moisture - self.mean_)
        return np.clip(mixed, 0.0, MAX_SOIL_MOISTURE_M3_M3)

    def settled(self):
        """The same blend, unfitted, with its weights and what its members chose."""
        members = [
            (name, one.settled() if hasattr(one, "settled") else clone(one))
            for name, one in self.members_
        ]
        return Blend(members, self.seed, self.weights_)


def weigh(predicted, y, *, stations, rows) -> np.ndarray:
    """Weights (member,), none negative and one in sum at most, that move most like y (row,).

    They minimise sum r (y' - P' w)^2, where ' takes a station's mean away, P are held-out
    predictions (row,) by member, and r the weights of rows.

    Examples
    --------
    >>> members = {"right": [0.1, 0.2, 0.4], "idle": [0.2, 0.2, 0.2]}
    >>> weigh(members, [0.1, 0.2, 0.4], stations=["a", "a", "a"], rows=np.ones(3)).round(3)
    array([1., 0.])
    """
    both = pd.DataFrame(predicted).assign(_y=np.asarray(y, dtype=float))
    moving = (both - both.groupby(np.asarray(stations)).transform("mean")).to_numpy()
    moving = moving * np.sqrt(rows)[:, None]
    target = moving[:, -1].copy()
    moving[:, -1] = 0.0  # in its place what the sum leaves of one, which explains nothing
    hold = HELD * max(float(np.linalg.norm(np.column_stack([moving, target]))), 1e-12)
    left = np.vstack([moving, np.full(moving.shape[1], hold)])
    weights = nnls(left, np.append(target, hold))[0][:-1]
    return weights / max(weights.sum(), 1.0)
