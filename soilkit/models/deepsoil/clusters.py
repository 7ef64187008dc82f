"""Clusters of extents that are alike in soil, land cover, climate and season, a model for each."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import zoom
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from soilkit.errors import ContractError
from soilkit.models.deepsoil.extents import MISSING, Channel, ExtentTiles, Maps

log = logging.getLogger(__name__)

SEASONS = ("winter", "spring", "summer", "autumn")
COARSE_MOISTURE = "SMAP"
GROUPS = ("NLCD", "Koeppen", "elevation", "polaris", "gnatsgo", COARSE_MOISTURE)  # weigh alike
MOST_CLUSTERS, STARTS = 25, 10
SOFTNESS = 0.25  # of the median distance between a centre and the next: how far shares reach


@dataclass(frozen=True)
class Clusters:
    """Centres of clusters among the features of extents.

    Attributes
    ----------
    features : names; ``weights`` (feature,) scale them and ``middle`` (feature,) is their mean
    centres : array (cluster, feature), scaled
    reach : distance within which a further cluster has a share
    silhouettes : {number of clusters: silhouette score of the training extents}
    stations : {cluster: training extents with a reading}; those with none have no ground truth
    """

    features: tuple[str, ...]
    weights: np.ndarray
    middle: np.ndarray
    centres: np.ndarray
    reach: float
    silhouettes: dict[int, float]
    stations: dict[int, int]

    @property
    def n(self) -> int:
        """How many clusters there are."""
        return len(self.centres)

    def nearest(self, data: ExtentTiles) -> np.ndarray:
        """The nearest cluster of each tile's extent, int (tile,), be it seen in training or new."""
        return self._of_tiles(data, self.distances(features_of(data)).argmin(axis=1))

    def shares(self, data: ExtentTiles) -> np.ndarray:
        """The weights of the clusters' models at each tile's extent, (tile, cluster), of sum 1."""
        return self._of_tiles(data, self.shares_of(features_of(data)))

    def shares_of(self, table: pd.DataFrame) -> np.ndarray:
        """Weights of the clusters at rows of features, (row, cluster), of sum 1.

        (1 - (d - d_nearest) / reach), 0 beyond: 1 deep inside a cluster, equal on the border of
        two, and without a jump on the way, so that a map blended by them has no seam there.
        """
        distances = self.distances(table)
        beyond = distances - distances.min(axis=1, keepdims=True)
        shares = np.maximum(1 - beyond / self.reach, 0) if self.reach > 0 else beyond == 0
        return shares / shares.sum(axis=1, keepdims=True)

    def distances(self, table: pd.DataFrame) -> np.ndarray:
        """Of rows of features to the centres, (row, cluster); over the features that are known."""
        scaled = (table[list(self.features)].to_numpy(float) - self.middle) * self.weights
        squares = (scaled[:, None] - self.centres) ** 2  # (row, cluster, feature)
        share = np.isfinite(squares).mean(axis=2)
        if not (share[:, 0] > 0).all():
            raise ContractError(
                f"{int((share[:, 0] == 0).sum())} extents have none of the features that clusters "
                "are made of. Build their land cover, soil or climate."
            )
        return np.sqrt(np.nansum(squares, axis=2) / share)

    def plain(self) -> dict[str, Any]:
        """Plain numbers for a checkpoint; ``Clusters.of`` takes them."""
        arrays = {n: getattr(self, n).tolist() for n in ("weights", "middle", "centres")}
        counts = {
            name: {str(k): v for k, v in getattr(self, name).items()}
            for name in ("silhouettes", "stations")
        }
        return {"features": list(self.features), "reach": self.reach, **arrays, **counts}

    @classmethod
    def of(cls, words: dict[str, Any]) -> "Clusters":
        """The clusters of ``plain``."""
        weights, middle, centres = (np.array(words[n]) for n in ("weights", "middle", "centres"))
        silhouettes, stations = (
            {int(k): v for k, v in words[n].items()} for n in ("silhouettes", "stations")
        )
        reach = float(words["reach"])
        return cls(tuple(words["features"]), weights, middle, centres, reach, silhouettes, stations)

    def _of_tiles(self, data: ExtentTiles, by_extent: np.ndarray) -> np.ndarray:
        rows = pd.Index(data.stores).get_indexer(data.tiles["extent"])
        return by_extent[rows]


def fit(
    data: ExtentTiles,
    extents: Iterable[str],
    *,
    numbers: Sequence[int] = range(2, MOST_CLUSTERS + 1),
    seed: int = 0,
) -> Clusters:
    """k-means++ on what *training* extents are like, as many clusters as part them best [1]_.

    Features are the extents' means of the static maps, soil, land cover, elevation and climate, and
    the seasonal means of SMAP; each of these groups has the same variance in all, so that 46
    columns of classes do not outvote seven of soil. The number of clusters is the one with the
    greatest silhouette score, so small that clusters have two extents on average.

    Parameters
    ----------
    data : tiles; those of other extents are not looked at
    extents : quadkeys of the training extents
    numbers : of clusters to choose from; one alone is taken as it is

    Raises
    ------
    ContractError
        For fewer than two training extents a cluster, for an extent that ``data`` lacks.

    References
    ----------
    .. [1] Khandelwal et al. (2024), doi:10.1145/3678717.3691261, section 3.2
    """
    keys = list(dict.fromkeys(extents))
    table = features_of(data, keys)
    possible = [k for k in numbers if k <= len(keys) // 2]
    if not possible:
        raise ContractError(
            f"{len(keys)} training extents make no {min(numbers)} clusters of two and more. Train "
            "one model, or bring more stations."
        )
    known = table.dropna(axis=1, how="all")
    middle = known.mean()
    weights = _weights(known)
    scaled = ((known - middle) * weights).fillna(0.0).to_numpy()
    fits = {k: KMeans(k, n_init=STARTS, random_state=seed).fit(scaled) for k in possible}
    scores = {k: _silhouette(scaled, one.labels_) for k, one in fits.items()}
    best = fits[max(scores, key=lambda k: scores[k])]
    has_reading = data.tiles.groupby("extent")["n_probes"].sum().reindex(keys).to_numpy() > 0
    stations = {k: int(has_reading[best.labels_ == k].sum()) for k in range(best.n_clusters)}
    if bare := [str(k) for k, n in stations.items() if n == 0]:
        log.warning("cluster %s has no station with a reading", ", ".join(bare))
    gaps = np.linalg.norm(best.cluster_centers_[:, None] - best.cluster_centers_, axis=2)
    np.fill_diagonal(gaps, np.inf)
    return Clusters(
        tuple(known), weights.to_numpy(), middle.to_numpy(), best.cluster_centers_,
        SOFTNESS * float(np.median(gaps.min(axis=1))), scores, stations,
    )  # fmt: skip


def features_of(data: ExtentTiles, extents: Sequence[str] | None = None) -> pd.DataFrame:
    """The features of extents, a row each (all of ``data``), NaN where nothing is known."""
    keys = list(data.stores) if extents is None else list(extents)
    if strange := [key for key in keys if key not in data.stores]:
        raise ContractError(
            f"The data have no extent {strange[0]}; they have {len(data.stores)}, such as "
            f"{next(iter(data.stores))}. Take extents of data.stores."
        )
    times = data.tiles.groupby(["extent", "step"])["time"].first()
    rows = [
        features_of_maps(data.extent(key)["maps"], data.channels, times=times[key].to_numpy())
        for key in keys
    ]
    return pd.DataFrame(rows, index=pd.Index(keys, name="extent"))


def features_of_maps(
    maps: Maps, channels: Sequence[Channel], *, times: np.ndarray
) -> dict[str, float]:
    """Means of the static maps over what is known of them, and of SMAP by season."""
    static = [c.name for c, is_dated in zip(channels, maps.is_dated, strict=True) if not is_dated]
    dated = [c.name for c, is_dated in zip(channels, maps.is_dated, strict=True) if is_dated]
    row = {name: _mean(maps.static[k]) for k, name in enumerate(static) if _group(name)}
    if COARSE_MOISTURE in dated:
        season = (np.asarray(times).astype("datetime64[M]").astype(int) % 12 + 1) % 12 // 3
        values = maps.dated[:, dated.index(COARSE_MOISTURE)]
        for k, name in enumerate(SEASONS):
            row[f"{COARSE_MOISTURE} {name}"] = _mean(values[season == k])
    return row


def on_pixels(shares: np.ndarray, tile_px: int) -> np.ndarray:
    """Shares of tiles side by side, (tile row, tile col, cluster), between their centres.

    Bilinear, (row, col, cluster), so that the models' blend has no seam between tiles either.
    """
    return zoom(shares, (tile_px, tile_px, 1), order=1, mode="nearest", grid_mode=True)


def _group(name: str) -> str:
    return next((group for group in GROUPS if name.startswith(group)), "")


def _mean(values: np.ndarray) -> float:
    known = values[values != MISSING]
    return float(known.mean(dtype=float)) if known.size else np.nan


def _weights(table: pd.DataFrame) -> pd.Series:
    """By feature, such that the variances of each group sum to 1; 0 for groups that do not vary."""
    groups = table.columns.map(_group)
    totals = table.var(ddof=0).groupby(groups).transform("sum")
    return pd.Series(
        np.where(totals > 0, 1 / np.sqrt(totals.where(totals > 0, 1)), 0), table.columns
    )


def _silhouette(scaled: np.ndarray, labels: np.ndarray) -> float:
    """Silhouette score, -1 where fewer clusters than wanted are distinct."""
    n = len(np.unique(labels))
    return float(silhouette_score(scaled, labels)) if 1 < n < len(labels) else -1.0
