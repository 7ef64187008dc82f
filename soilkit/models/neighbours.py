"""What probes elsewhere say at the same time: residuals carried over by distance."""

import numpy as np
import pandas as pd

EARTH_RADIUS_KM = 6371.0
NOISE = 1.5  # variance of a station's own residual over that of the regional one


class Neighbours:
    """Regional residuals by simple kriging, each time for itself [1]_.

    cov(r_i, r_j) = exp(-d_ij / reach) + 1.5 [i = j], d the chord between two stations, so that the
    expected residual is K_new (K + 1.5 I)^-1 r: a dense network counts little more than one place.
    Where no training station has a residual at the very time, it is 0.

    Parameters
    ----------
    reach_km : float

    References
    ----------
    .. [1] Cressie (1993), Statistics for Spatial Data, section 3.2, doi:10.1002/9781119115151
    """

    def __init__(self, reach_km: float) -> None:
        self.reach_km = reach_km

    def fit(self, at: pd.DataFrame, residual: np.ndarray) -> "Neighbours":
        """Keep residuals (row,) at places (row; time, latitude, longitude); returns itself."""
        place, time = _unit_vectors(at), at["time"].to_numpy().astype("datetime64[us]")
        self._known = {}
        for when, rows in pd.Series(np.arange(len(at))).groupby(time).indices.items():
            cov = self._covariance(place[rows], place[rows]) + NOISE * np.eye(len(rows))
            key = np.datetime64(when, "us")
            self._known[key] = place[rows], np.linalg.solve(cov, residual[rows])
        return self

    def predict(self, at: pd.DataFrame) -> np.ndarray:
        """Expected residual (row,) at places (row; time, latitude, longitude)."""
        place, time = _unit_vectors(at), at["time"].to_numpy().astype("datetime64[us]")
        expected = np.zeros(len(at))
        for when, rows in pd.Series(np.arange(len(at))).groupby(time).indices.items():
            near, weighted = self._known.get(np.datetime64(when, "us"), (None, None))
            if near is not None:
                expected[rows] = self._covariance(place[rows], near) @ weighted
        return expected

    def _covariance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        apart_km = np.linalg.norm(a[:, None] - b[None], axis=2) * EARTH_RADIUS_KM
        return np.exp(-apart_km / self.reach_km)


def _unit_vectors(at: pd.DataFrame) -> np.ndarray:
    lat, lon = np.radians(at[["latitude", "longitude"]].to_numpy(float)).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
