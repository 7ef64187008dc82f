"""Vegetation indices, computed from the bands of a chip as it is read."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Index:
    """One number a pixel out of several bands' reflectance, held to [-1, 1].

    ``colours`` names the band of each argument of ``formula``.
    """

    colours: dict[str, str]
    formula: Callable[..., np.ndarray]

    @property
    def bands(self) -> list[str]:
        """The bands it is made of."""
        return list(self.colours.values())

    def __call__(self, *reflectance: np.ndarray) -> np.ndarray:
        """The index of the bands in their order; NaN where one is unknown, or nothing is seen."""
        with np.errstate(divide="ignore", invalid="ignore"):
            values = self.formula(**dict(zip(self.colours, reflectance, strict=True)))
        return np.clip(np.where(np.isfinite(values), values, np.nan), -1, 1)


def ndvi(infrared: np.ndarray, red: np.ndarray) -> np.ndarray:
    """Normalised difference vegetation index, (N - R) / (N + R) [1]_.

    References
    ----------
    .. [1] Tucker (1979), doi:10.1016/0034-4257(79)90013-0

    Examples
    --------
    >>> ndvi(np.array([0.4]), np.array([0.1])).round(2)
    array([0.6])
    """
    return (infrared - red) / (infrared + red)


def evi(infrared: np.ndarray, red: np.ndarray, *, blue: np.ndarray) -> np.ndarray:
    """Enhanced vegetation index, 2.5 (N - R) / (N + 6 R - 7.5 B + 1) [1]_.

    Its denominator passes zero where blue light is scattered strongly, as by clouds and, in
    reflectance at the top of the atmosphere, by haze: hence the limits of ``Index``.

    References
    ----------
    .. [1] Huete et al. (2002), doi:10.1016/S0034-4257(02)00096-2

    Examples
    --------
    >>> evi(np.array([0.4]), np.array([0.1]), blue=np.array([0.05])).round(3)
    array([0.462])
    """
    return 2.5 * (infrared - red) / (infrared + 6 * red - 7.5 * blue + 1)


_TWO = {"infrared": "B8", "red": "B4"}
INDICES = {"sentinel2": {"NDVI": Index(_TWO, ndvi), "EVI": Index(_TWO | {"blue": "B2"}, evi)}}
