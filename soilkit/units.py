"""Unit conversions and physical bounds, as pure functions over arrays."""

import numpy as np

MAX_SOIL_MOISTURE_M3_M3 = 1.0  # organic soils reach 0.8 and more; nothing holds more than itself
OF_ENDINGS = {  # of names: what a column called "rain_mm" is in
    "m3_m3": "m³ m⁻³", "percent": "%", "pct": "%", "fraction": "1", "hours": "h", "seconds": "s",
    "degrees": "°", "deg": "°", "db": "dB", "px": "pixels", "mib": "MiB", "gib": "GiB",
    "mb": "MB", "c": "°C", "km": "km", "mm": "mm", "m2": "m²", "m": "m", "s": "s",
}  # fmt: skip


def db_from_linear(power):
    """Backscatter in dB from linear power, 10 log10(power).

    Parameters
    ----------
    power : array, m2 m-2 (sigma nought, linear)

    Returns
    -------
    array, dB; NaN where the power is not positive

    Examples
    --------
    >>> db_from_linear(np.array([1.0, 0.1, 0.0]))
    array([  0., -10.,  nan])
    """
    power = np.asarray(power)
    positive = np.where(power > 0, power, np.nan)
    return 10 * np.log10(positive)


def linear_from_db(backscatter_db):
    """Linear power from backscatter in dB, 10^(dB / 10).

    Parameters
    ----------
    backscatter_db : array, dB

    Returns
    -------
    array, m2 m-2 (sigma nought, linear)

    Examples
    --------
    >>> linear_from_db(np.array([0.0, -10.0]))
    array([1. , 0.1])
    """
    return 10 ** (np.asarray(backscatter_db) / 10)


def volumetric_from_water_depth(water_mm, *, layer_mm):
    """Volumetric soil moisture from a water depth, water / layer.

    One mm of water is one kg m-2 at 1000 kg m-3: GLDAS's 0-10 cm layer has ``layer_mm=100``,
    SMAP's 5 cm has ``layer_mm=50`` (seed 001, 2b3).

    Parameters
    ----------
    water_mm : array, mm or kg m-2
    layer_mm : float, mm

    Returns
    -------
    array, m3 m-3

    Examples
    --------
    >>> volumetric_from_water_depth(np.array([25.0]), layer_mm=100)
    array([0.25])
    """
    return np.asarray(water_mm) / layer_mm


def normalised_difference(first, second):
    """(first - second) / (first + second); of infrared and red it is the NDVI [1]_.

    Parameters
    ----------
    first, second : arrays of one shape, such as reflectances

    Returns
    -------
    array, dimensionless; NaN where the sum is not positive

    References
    ----------
    .. [1] Tucker (1979), doi:10.1016/0034-4257(79)90013-0

    Examples
    --------
    >>> normalised_difference(np.array([0.4, 0.0]), np.array([0.1, 0.0])).round(2)
    array([0.6, nan])
    """
    total = first + second
    return (first - second) / np.where(total > 0, total, np.nan)
