"""Where stations stand: blocks, chips that overlap, and kilometres to the nearest that trains."""

import numpy as np
import pandas as pd
from pyproj import Geod
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from soilkit import grids
from soilkit.errors import ContractError

CHIP_SIDE_M = 2560.0
BLOCK_SIZE_DEG = 2.0
PIXEL_SIZE_M = 10
_NEIGHBOURS = 8  # candidates for the nearest; straight lines rank them as geodesics do


def block_ids(stations, *, size_deg=BLOCK_SIZE_DEG):
    """The block of each row, floor(latitude / size) and floor(longitude / size) as text.

    Parameters
    ----------
    stations : table with latitude, longitude [WGS84 degrees]
    size_deg : float, degrees

    Examples
    --------
    >>> block_ids(pd.DataFrame({"latitude": [30.3], "longitude": [-98.8]})).tolist()
    ['15_-50']
    """
    if not size_deg > 0:
        raise ContractError(f"A block needs a positive size in degrees, found {size_deg}.")
    rows = np.floor(stations["latitude"].to_numpy(float) / size_deg)
    cols = np.floor(stations["longitude"].to_numpy(float) / size_deg)
    if not (np.isfinite(rows).all() and np.isfinite(cols).all()):
        raise ContractError("Blocks need the latitude and longitude of every station; some lack.")
    names = [
        f"{row:d}_{col:d}" for row, col in zip(rows.astype(int), cols.astype(int), strict=True)
    ]
    return pd.Series(names, index=stations.index, dtype="str")


def overlapping_chips(stations: pd.DataFrame, *, side_m: float = CHIP_SIDE_M) -> np.ndarray:
    """Pairs of rows of ``stations`` whose chips overlap, int array (pair, 2).

    Chips are squares on UTM grids snapped to 10 m. Across a zone border, where squares are turned
    against each other, stations closer than a square's diagonal count as overlapping.
    """
    latitude, longitude = (stations[name].to_numpy(float) for name in ("latitude", "longitude"))
    boxes = [
        grids.chip_grid(
            lat, lon, size_px=round(side_m / PIXEL_SIZE_M), pixel_size_m=PIXEL_SIZE_M
        )
        for lat, lon in zip(latitude, longitude, strict=True)
    ]  # fmt: skip
    if not boxes:
        return np.zeros((0, 2), np.intp)
    # 1 % and one snap more than the diagonal: UTM scale and snapping.
    reach_m = side_m * np.sqrt(2) * 1.01 + 2 * PIXEL_SIZE_M
    near = cKDTree(_xyz_m(stations)).query_pairs(reach_m, output_type="ndarray")
    bounds = np.array([box.bounds_m for box in boxes])  # (station, left bottom right top)
    zones = np.array([box.crs for box in boxes])
    a, b = bounds[near[:, 0]], bounds[near[:, 1]]
    overlap = (a[:, :2] < b[:, 2:]).all(axis=1) & (b[:, :2] < a[:, 2:]).all(axis=1)
    return near[overlap | (zones[near[:, 0]] != zones[near[:, 1]])]


def chip_groups(stations, *, side_m=CHIP_SIDE_M):
    """Groups of stations whose chips overlap, directly or through others.

    Parameters
    ----------
    stations : stations table (one row a sensor)
    side_m : float, m

    Returns
    -------
    Series by station_id of group numbers
    """
    places = stations.drop_duplicates("station_id")
    pairs = overlapping_chips(places, side_m=side_m)
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(places),) * 2)
    _, groups = connected_components(graph, directed=False)
    return pd.Series(groups, index=pd.Index(places["station_id"].astype("str")), name="group")


def training_distance_km(
    samples: pd.DataFrame, stations: pd.DataFrame, *, split: pd.Series, label: str = "test"
) -> pd.Series:
    """Geodesic distance of each sensor labelled ``label`` to the nearest sensor that trains.

    A sensor whose own rows train, or whose replicate in the same pit does, is 0 km away. Distances
    are on the WGS84 ellipsoid [1]_.

    Parameters
    ----------
    samples, stations : tables of those contracts
    split : Series on the samples' index, from ``soilkit.splits``
    label : which side to measure from

    Returns
    -------
    Series by sensor_id, km; empty where the split has no such sensor

    Raises
    ------
    ContractError
        When no sample trains.

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
    _, found = cKDTree(_xyz_m(there)).query(_xyz_m(here), k=np.arange(1, k + 1))  # (row, k)
    from_here, to_there = here.iloc[np.repeat(np.arange(len(here)), k)], there.iloc[found.ravel()]
    _, _, metres = Geod(ellps="WGS84").inv(*_lonlat(from_here), *_lonlat(to_there))
    return np.reshape(metres, (len(here), k)).min(axis=1) / 1000


def _xyz_m(places: pd.DataFrame) -> np.ndarray:
    """Earth-centred coordinates on the ellipsoid, (place, 3), m."""
    to_earth = grids.transformer("EPSG:4979", "EPSG:4978")
    return np.column_stack(to_earth.transform(*_lonlat(places), np.zeros(len(places))))


def _lonlat(places: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return places["longitude"].to_numpy(float), places["latitude"].to_numpy(float)
