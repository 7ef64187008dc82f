"""Chips rest as 16-bit integers: value = scale x integer + offset, by the CF conventions."""

from dataclasses import dataclass

import numpy as np

from soilkit.errors import ContractError
from soilkit.sources import Source

FILL = -32768  # no data
_LARGEST = 32767


@dataclass(frozen=True)
class Packing:
    """How one source's values become integers: ``scale`` is the step between two of them.

    Examples
    --------
    >>> step = Packing(0.02)
    >>> step.unpack(step.pack(np.array([-12.3456, np.nan]))).round(2)
    array([-12.34,    nan], dtype=float32)
    """

    scale: float
    offset: float = 0.0

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest value that fit."""
        return self.offset - self.scale * _LARGEST, self.offset + self.scale * _LARGEST

    def pack(self, values: np.ndarray) -> np.ndarray:
        """Integers of the same shape, int16; anything that is no finite number becomes ``FILL``.

        Raises
        ------
        ContractError
            When a value lies outside ``limits``.
        """
        finite = np.isfinite(values)
        steps = np.rint((values - self.offset) / self.scale)
        if bool((np.abs(steps) > _LARGEST)[finite].any()):
            low, high = self.limits
            worst = values[finite][np.abs(steps[finite]).argmax()]
            raise ContractError(f"value {worst:g} outside the store's {low:g} to {high:g}")
        return np.where(finite, steps, FILL).astype("<i2")

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """float32 of the same shape, NaN for ``FILL``."""
        values = packed.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        return np.where(packed == FILL, np.float32(np.nan), values)

    def table(self) -> np.ndarray:
        """Every packed integer's value, shape (65536,) float32, at index ``packed.view("u2")``."""
        return self.unpack(np.arange(65536).astype(np.uint16).view(np.int16))


# A step lies well below what the sensor can tell apart, and no finer: noise compresses badly.
# Radar: 0.02 dB against speckle of 2 dB. Optics: one digital number. Elevation: 0.25 m reaches
# from -4,192 to 12,192 m. Soil and leaf area: a tenth of the asset's own integer. What an asset
# stores as integers stays as it is; those of 16 bits without a sign begin at 1 (0 is their fill).
_ELEVATION = Packing(0.25, offset=4000.0)
_UNSIGNED = Packing(1.0, offset=32768.0)
PACKING = {
    "sentinel1": Packing(0.02),
    "sentinel2": Packing(1.0),
    "landsat8": _UNSIGNED,
    "landsat9": _UNSIGNED,
    "dem": _ELEVATION,
    "dem_3dep": _ELEVATION,
    "dem_merit": _ELEVATION,
    "dem_srtm": _ELEVATION,
    "soilgrids": Packing(0.1),
    "modis_lai": Packing(0.1),
    "modis_ndvi_500": Packing(1.0),
    "modis_ndvi_250": Packing(1.0),
    "modis_lst": _UNSIGNED,
    "modis_lst_daily": Packing(0.01, offset=300.0),
    "modis_et": Packing(1.0),
}
_CLASSES = Packing(1.0)
_ANYTHING = Packing(0.01)


def packing_of(source: Source) -> Packing:
    """The packing of a source: its row in ``PACKING``, else steps of 1 for classes and 0.01."""
    if source.name in PACKING:
        return PACKING[source.name]
    return _ANYTHING if any(band.continuous for band in source.bands) else _CLASSES
