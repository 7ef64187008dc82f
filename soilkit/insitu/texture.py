"""The USDA texture class of a soil from its sand, silt and clay."""

import numpy as np


def usda_texture(*, sand_percent, silt_percent, clay_percent):
    """USDA texture class, from the triangle's inequalities [1]_; "" where a part is unknown.

    The three parts are scaled to sum to 100 first; maps and laboratories round them.

    Parameters
    ----------
    sand_percent, silt_percent, clay_percent : array, % weight

    Returns
    -------
    array of text, such as "sandy loam"

    References
    ----------
    .. [1] Soil Survey Manual, USDA Handbook 18 (2017), chapter 3

    Examples
    --------
    >>> usda_texture(
    ...     sand_percent=[47, 92, np.nan], silt_percent=[29, 5, 1], clay_percent=[24, 3, 1]
    ... ).tolist()
    ['loam', 'sand', '']
    """
    parts = np.stack(
        [np.asarray(p, dtype="float64") for p in (sand_percent, silt_percent, clay_percent)]
    )
    total = parts.sum(axis=0)
    known = np.isfinite(total) & (total > 0) & (parts >= 0).all(axis=0)
    sand, silt, clay = 100 * parts / np.where(known, total, 1)
    # The first inequality that holds names the class.
    classes = {
        "sand": silt + 1.5 * clay < 15,
        "loamy sand": silt + 2 * clay < 30,
        "silty clay": (clay >= 40) & (silt >= 40),
        "sandy clay": (clay >= 35) & (sand > 45),
        "clay": clay >= 40,
        "silty clay loam": (clay >= 27) & (sand <= 20),
        "sandy clay loam": (clay >= 20) & (silt < 28) & (sand > 45),
        "clay loam": clay >= 27,
        "silt": (silt >= 80) & (clay < 12),
        "silt loam": silt >= 50,
        "sandy loam": ((clay >= 7) & (clay < 20) & (sand > 52)) | ((clay < 7) & (silt < 50)),
    }
    named = np.select(list(classes.values()), list(classes), default="loam")
    return np.where(known, named, "")
