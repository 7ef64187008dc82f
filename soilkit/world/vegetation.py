"""The canopy: from greenness to NDVI, leaf area and water."""

import numpy as np

from soilkit.world import constants as c
from soilkit.world.fields import NDVI_LOW, NDVI_SPAN, TYPES


def phenology(day_of_year) -> np.ndarray:
    """What fraction of its greenness each vegetation type shows on a day, 0-1, shape (..., type).

    Summer crops emerge in May and are harvested in September, winter crops in June; the rest
    follows warmth and water alone.
    """
    day = np.asarray(day_of_year, float)
    season = np.ones((*day.shape, len(TYPES)))
    season[..., TYPES.index("summer crop")] = np.interp(
        day, [0, 130, 190, 245, 275, 366], [0.05, 0.05, 1.0, 1.0, 0.08, 0.05]
    )
    season[..., TYPES.index("winter crop")] = np.interp(
        day, [0, 60, 100, 150, 178, 285, 320, 366], [0.9, 0.9, 1.2, 1.2, 0.1, 0.1, 0.8, 0.9]
    )
    return season


def ndvi_by_type(greenness, day_of_year) -> np.ndarray:
    """NDVI of every vegetation type, low + span x greenness x phenology, shape (..., type)."""
    green = np.asarray(greenness)[..., None]
    return NDVI_LOW + NDVI_SPAN * green * phenology(day_of_year)


def lai(ndvi):
    """Leaf area index from NDVI, -ln((N_full - N) / (N_full - N_soil)) / K (Baret and Guyot 1991).

    Examples
    --------
    >>> lai(np.array([0.12, 0.5, 0.85])).round(1)
    array([-0. ,  1. ,  3.4])
    """
    left = np.clip((c.NDVI_FULL - ndvi) / (c.NDVI_FULL - c.NDVI_SOIL), 0.02, 1.0)
    return -np.log(left) / c.LAI_EXTINCTION


def water(ndvi, stem_kg_m2):
    """Vegetation water content, 1.9134 N^2 - 0.3215 N + stems, kg m-2 (Jackson 1999; SMAP ATBD).

    Parameters
    ----------
    ndvi : array
    stem_kg_m2 : array, kg m-2
    """
    return np.maximum(1.9134 * ndvi**2 - 0.3215 * ndvi, 0.0) + stem_kg_m2
