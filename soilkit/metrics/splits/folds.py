"""Who trains, who validates, who tests: a label per sample, by places and their distances."""

import numpy as np
import pandas as pd
from pyproj import Geod
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from soilkit import grids
from soilkit.constants import CHIP_SIDE_M, HIGH_PIXEL_M
from soilkit.errors import ContractError, UnknownNameError

BLOCK_SIZE_DEG = 2.0
_NEIGHBOURS = 8  # candidates for the nearest; straight lines rank them as geodesics do


def block_ids(stations, *, size_deg=BLOCK_SIZE_DEG):
    """The block of each row, floor(latitude / size) and floor(longitude / size) as text.

    Examples
    --------
    >>> block_ids(pd.DataFrame({"latitude": [30.3], "longitude": [-98.8]})).tolist()
    ['15_-50']
    """
    if not size_deg > 0:
        raise ContractError(f"A block needs a positive size in degrees, found {size_deg}.")
    cells = np.floor(stations[["latitude", "longitude"]].to_numpy(float) / size_deg)
    if not np.isfinite(cells).all():
        raise ContractError("Blocks need the latitude and longitude of every station; some lack.")
    names = [f"{row}_{col}" for row, col in cells.astype(int)]
    return pd.Series(names, index=stations.index, dtype="str")


def ease2_ids(stations: pd.DataFrame, *, pixel_size_km: int = 9) -> pd.Series:
    """A number of each row's pixel in an EASE-Grid 2.0, equal where pixels are."""
    row, col = grids.ease2_cell(*_lonlat(stations), pixel_size_km=pixel_size_km)
    return pd.Series(row * 10**5 + col, index=stations.index)


def overlapping_chips(stations: pd.DataFrame, *, side_m: float = CHIP_SIDE_M) -> np.ndarray:
    """Pairs of rows of ``stations`` whose chips overlap, int array (pair, 2).

    Chips are squares on UTM grids snapped to 10 m. Across a zone border, where squares are turned
    against each other, stations closer than a square's diagonal count as overlapping.
    """
    size_px = round(side_m / HIGH_PIXEL_M)
    boxes = [
        grids.chip_grid(latitude, longitude, size_px=size_px, pixel_size_m=HIGH_PIXEL_M)
        for longitude, latitude in zip(*_lonlat(stations), strict=True)
    ]
    if not boxes:
        return np.zeros((0, 2), np.intp)
    # 1 % and one snap more than the diagonal: UTM scale and snapping.
    reach_m = side_m * np.sqrt(2) * 1.01 + 2 * HIGH_PIXEL_M
    near = cKDTree(_xyz_m(stations)).query_pairs(reach_m, output_type="ndarray")
    bounds = np.array([box.bounds_m for box in boxes])  # (station, left bottom right top)
    zones = np.array([box.crs for box in boxes])
    a, b = bounds[near[:, 0]], bounds[near[:, 1]]
    overlap = (a[:, :2] < b[:, 2:]).all(axis=1) & (b[:, :2] < a[:, 2:]).all(axis=1)
    return near[overlap | (zones[near[:, 0]] != zones[near[:, 1]])]


def chip_groups(stations: pd.DataFrame) -> pd.Series:
    """Groups of stations whose chips overlap, directly or through others: numbers by station_id."""
    places = stations.drop_duplicates("station_id")
    pairs = overlapping_chips(places)
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(places),) * 2)
    _, groups = connected_components(graph, directed=False)
    return pd.Series(groups, index=pd.Index(places["station_id"].astype("str")), name="group")


def training_distance_km(
    samples: pd.DataFrame, stations: pd.DataFrame, *, split: pd.Series, label: str = "test"
) -> pd.Series:
    """Geodesic distance of each sensor labelled ``label`` to the nearest sensor that trains.

    A sensor whose own rows train, or whose replicate in the same pit does, is 0 km away. Distances
    are on the WGS84 ellipsoid [1]_. ``split`` stands on the samples' index. The Series by
    sensor_id, km, is empty where the split has no such sensor; ``ContractError`` when no sample
    trains.

    References
    ----------
    .. [1] Karney (2013), doi:10.1007/s00190-012-0578-z
    """
    places = stations.assign(sensor_id=stations["sensor_id"].astype("str"))
    places = places.drop_duplicates("sensor_id").set_index("sensor_id")
    sensors = samples["sensor_id"].astype("str")
    here = places.loc[sorted(set(sensors[split == label]))]
    there = places.loc[sorted(set(sensors[split == "train"]))]
    if there.empty:
        raise ContractError(
            f"No sample is labelled 'train', only {', '.join(sorted(set(split)))}: "
            "nothing to measure a distance to. Take another split or other fractions."
        )
    return pd.Series(nearest_km(here, there), index=here.index, name="distance_km")


def nearest_km(here: pd.DataFrame, there: pd.DataFrame) -> np.ndarray:
    """Geodesic distance of each row of ``here`` to the nearest of ``there``, (row,), km.

    Both carry latitude and longitude [WGS84 degrees].
    """
    if here.empty:
        return np.zeros(0)
    k = min(_NEIGHBOURS, len(there))
    _, nearest = cKDTree(_xyz_m(there)).query(_xyz_m(here), k=np.arange(1, k + 1))  # (row, k)
    from_here, to_there = here.iloc[np.repeat(np.arange(len(here)), k)], there.iloc[nearest.ravel()]
    _, _, metres = Geod(ellps="WGS84").inv(*_lonlat(from_here), *_lonlat(to_there))
    return np.reshape(metres, (len(here), k)).min(axis=1) / 1000


def _xyz_m(places: pd.DataFrame) -> np.ndarray:
    """Earth-centred coordinates on the ellipsoid, (place, 3), m."""
    to_earth = grids.transformer("EPSG:4979", "EPSG:4978")
    return np.column_stack(to_earth.transform(*_lonlat(places), np.zeros(len(places))))


def _lonlat(places: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return places["longitude"].to_numpy(float), places["latitude"].to_numpy(float)


# Who trains, who validates, who tests: a label per sample.

LABELS = ("train", "validation", "test")
FRACTIONS = (0.6, 0.2, 0.2)  # Batchu et al., 2c1


def by_station(samples, stations, *, seed=0, fractions=FRACTIONS):
    """Stations drawn at random; those whose chips overlap stay together.

    Parameters
    ----------
    samples, stations : tables of those contracts
    fractions : train, validation and test shares of the stations

    Returns
    -------
    Series of "train", "validation" or "test" per sample
    """
    labels = _draw(chip_groups(stations), seed=seed, fractions=fractions)
    return _per_sample(samples, "station_id", labels, name="by_station")


def by_sensor(samples, stations, *, seed=0, fractions=FRACTIONS):
    """Sensors drawn at random as in the paper [1]_: replicates and neighbours may part.

    Two probes in one pit can fall on both sides, so a score on this split is partly memory.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, section 2c1
    """
    sensors = pd.Index(stations["sensor_id"].astype("str").drop_duplicates())
    labels = _draw(pd.Series(range(len(sensors)), sensors), seed=seed, fractions=fractions)
    return _per_sample(samples, "sensor_id", labels, name="by_sensor (the paper's)")


def by_block(samples, stations, *, size_deg=BLOCK_SIZE_DEG, seed=0, fractions=FRACTIONS):
    """Blocks of ``size_deg`` degrees drawn at random, balanced by their stations.

    Where chips overlap across a block's edge, the stations follow the one nearest to "test".
    """
    blocks = _by_station(stations, block_ids(stations, size_deg=size_deg))
    labels = _keep_together(_draw(blocks, seed=seed, fractions=fractions), stations)
    return _per_sample(samples, "station_id", labels, name=f"by_block ({size_deg:g} degrees)")


def by_network(samples, stations, *, held_out=None, seed=0, fractions=FRACTIONS):
    """Whole networks drawn at random; or ``held_out`` as test and the rest split by block.

    Stations of another network whose chips overlap one that tests are tested too. Raises
    ``UnknownNameError`` when no station belongs to ``held_out``.
    """
    networks = _by_station(stations, stations["network"].astype("str").fillna("nan"))
    name = "by_network" if held_out is None else f"by_network (without {held_out})"
    if held_out is None:
        labels = _draw(networks, seed=seed, fractions=fractions)
    elif held_out not in set(networks):
        have = ", ".join(sorted(set(networks)))
        raise UnknownNameError(f"No station of network {held_out!r}; there are {have}.")
    else:
        rest = np.array([fractions[0], fractions[1], 0.0])
        blocks = _by_station(stations, block_ids(stations))[networks != held_out]
        labels = pd.Series("test", index=networks.index)
        labels[blocks.index] = _draw(blocks, seed=seed, fractions=rest / rest.sum())
    return _per_sample(samples, "station_id", _keep_together(labels, stations), name=name)


def by_row(samples, stations=None, *, seed=0, fractions=FRACTIONS):
    """Samples drawn at random: leaky, shown only as a warning.

    A station's soil, climate and season are in the training rows, so the score measures memory.
    """
    shares = _checked(fractions)
    rank = np.random.default_rng(seed).permutation(len(samples))
    parts = np.searchsorted(np.round(np.cumsum(shares)[:2] * len(samples)), rank, side="right")
    return pd.Series(np.array(LABELS)[parts], index=samples.index, name="by_row (leaky)")


def folds(groups, *, n_folds=5, seed=0):
    """Number (row,) of the fold that holds each row out; whole groups are dealt out by chance.

    The same folds as scikit-learn's GroupKFold with ``shuffle=True`` and ``random_state=seed``.
    Raises ``ContractError`` if there is one group only, so that nothing is left to train on.

    Parameters
    ----------
    groups : array (row,) of labels: 2-degree blocks, networks, or row numbers for single rows
    n_folds : int, at most; fewer groups than that are left out one at a time
    """
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ContractError(
            f"Cross-validation needs two groups or more, found {len(names)} in {len(codes)} rows. "
            "Take more stations, or smaller blocks."
        )
    order = np.random.RandomState(seed).permutation(len(names))
    fold_of = np.empty(len(names), int)
    for number, part in enumerate(np.array_split(order, min(n_folds, len(names)))):
        fold_of[part] = number
    return fold_of[codes]


def _by_station(stations, values):
    """Of values (sensor,) the first of each station, by station_id."""
    first = ~stations["station_id"].duplicated().to_numpy()
    index = pd.Index(stations["station_id"].astype("str"))
    return pd.Series(values.to_numpy(), index=index)[first]


def _checked(fractions):
    shares = np.asarray(fractions, float)
    if shares.shape != (3,) or (shares < 0).any() or abs(shares.sum() - 1) > 1e-9:
        raise ContractError(
            "A split needs three shares (train, validation, test) that sum to 1, "
            f"found {fractions}."
        )
    return shares


def _draw(units, *, seed, fractions):
    """A label for every member of ``units`` (member -> unit); members of one unit share it.

    Units in random order go to the part that lacks most members; the last ones to parts still
    empty, so that a few large units leave no part without any.
    """
    shares = _checked(fractions)
    names, sizes = np.unique(units.to_numpy(), return_counts=True)
    label_of: dict = {}
    lacking = shares * sizes.sum()
    empty = set(np.flatnonzero(shares > 0).tolist())
    for position, unit in enumerate(np.random.default_rng(seed).permutation(len(names))):
        must_fill = len(names) - position <= len(empty)
        part = max(sorted(empty) if must_fill else [0, 1, 2], key=lambda k: lacking[k])
        label_of[names[unit]] = LABELS[part]
        lacking[part] -= sizes[unit]
        empty.discard(part)
    return units.map(label_of)


def _keep_together(labels, stations):
    """Overlapping chips take the label nearest to "test", so that no test pixel was trained on."""
    rank = labels.map({label: i for i, label in enumerate(LABELS)})
    return rank.groupby(chip_groups(stations)).transform("max").map(dict(enumerate(LABELS)))


def _per_sample(samples, column, labels, *, name):
    label = samples[column].astype("str").map(labels)
    if label.isna().any():
        lost = sorted(set(samples.loc[label.isna(), column].astype("str")))
        raise ContractError(
            f"{len(lost)} {column} of the samples stand in no row of the stations table "
            f"({', '.join(lost[:3])}). Give the stations table that the samples were joined with."
        )
    return label.rename(name)
