"""SMAP-HydroBlocks: 30 m moisture of hydrologic response units, late on rain, wrong in patches."""

import numpy as np
from scipy.special import expit, logit

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.world import fields
from soilkit.world.sensors import composites, lattice, optics
from soilkit.world.sensors import instruments as c

N_UNITS, THIRDS = 3 * len(fields.TYPES), (-0.43, 0.43)  # of a standard normal index


def render(world, grid: Grid, *, time: np.datetime64) -> np.ndarray:
    """SMAP-HydroBlocks: 0-5 cm moisture of hydrologic response units, m3 m-3, (1, row, col).

    A unit is the ground of one land cover and wetness class within a kilometre and has one value
    [1]_: the truth's mean over it, late on rain, with errors that stay and errors that pass [2]_.
    Every six hours; NaN over lakes.

    References
    ----------
    .. [1] Chaney et al. (2016), doi:10.1002/hyp.10891
    .. [2] Vergopolan et al. (2021), doi:10.1038/s41597-021-01050-2
    """
    stamp = time.astype("datetime64[h]").astype(int) // 6 * 6  # hours since 1970
    pixels, show = composites.pixels_under(grid, size_m=c.HYDROBLOCKS_PIXEL_M)
    place = pixels.centres
    blocks, block = composites.distinct(
        *composites.rows_cols(*place, size_m=c.UNIT_M), size_m=c.UNIT_M
    )
    ground = fields.ground(world.seed, *place)
    unit = block * N_UNITS + _unit_class(ground)
    key, col = (
        lattice.key(world.seed, "unit"),
        blocks.cols[block] * composites.CODE + unit % N_UNITS,
    )
    error = c.UNIT_STAYS * lattice.normals(key, rows=blocks.rows[block], cols=col)
    turn = 2 * np.pi * stamp / (24 * c.UNIT_ERROR_DAYS)
    weights = c.UNIT_PATCH, c.UNIT_PASSES * np.cos(turn), c.UNIT_PASSES * np.sin(turn)
    for name, weight in enumerate(weights):
        error += weight * world.noise(f"unit {name}", place, scale_m=c.UNIT_PATCH_SCALE_M)
    skill = np.tanh(world.noise("unit skill", place, scale_m=c.UNIT_ERROR_SCALE_M))
    share = c.UNIT_ERROR + c.UNIT_ERROR_SPAN * skill  # of saturation
    filled = np.clip(_unit_means(world, blocks, stamp)[unit] / ground.porosity, 0.02, 0.98)
    values = ground.porosity * expit(logit(filled) + 4 * share * error)  # of slope 1 / 4 half full
    return show(np.where(np.isin(ground.land_cover, optics.LAKES), np.nan, values)[None])


def _unit_class(ground: fields.Ground) -> np.ndarray:
    """Number of a unit in its block: vegetation type and third of the wetness index."""
    return ground.vegetation * 3 + np.searchsorted(THIRDS, ground.wetness)


def _unit_means(world, blocks: composites.Pixels, stamp: int) -> np.ndarray:
    """Lagged truth of every unit, from a net of samples, (block x unit,); else its block's mean."""
    u_m, v_m = blocks.points(c.UNIT_SAMPLES)  # (block, point)
    unit = _unit_class(fields.ground(world.seed, u_m, v_m))
    unit = (np.arange(len(u_m))[:, None] * N_UNITS + unit).ravel()
    times = (stamp - np.array(c.UNIT_LAGS_H)).astype("datetime64[h]").astype("datetime64[us]")
    to_lonlat = grids.transformer(grids.EASE2_CRS, "EPSG:4326")
    longitude, latitude = to_lonlat.transform(u_m.ravel(), v_m.ravel())
    truth = np.mean(world.truth_at(times, longitude=longitude, latitude=latitude), axis=0)
    n = np.bincount(unit, minlength=len(u_m) * N_UNITS)
    total = np.bincount(unit, weights=truth, minlength=len(n))
    mean = np.repeat(truth.reshape(u_m.shape).mean(axis=1), N_UNITS)
    return np.where(n > 0, total / np.maximum(n, 1), mean)
