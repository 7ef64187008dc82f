"""The words of the catalogue: ``Source``, ``Band`` and how a band is normalised."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


class Normalisation(Protocol):
    """Maps a band in its own unit to the network's range, and back where that is possible."""

    def __call__(self, values: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Linear:
    """Linear scaling of [minimum, maximum] to zero mean and unit variance.

    z = sqrt(12) (x - (maximum + minimum) / 2) / (maximum - minimum): the mean and the standard
    deviation of a uniform variable on the range, which is all that Table 4 [1]_ prints.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, section 2b4, Table 4

    Examples
    --------
    >>> Linear(-25, 5)(np.array([-25.0, -10.0, 5.0])).round(3)
    array([-1.732,  0.   ,  1.732])
    """

    minimum: float
    maximum: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        middle = (self.maximum + self.minimum) / 2
        return (values - middle) * (np.sqrt(12.0) / (self.maximum - self.minimum))


@dataclass(frozen=True)
class LogSigmoid:
    """The optical transform of Table 17: sigmoid(5 z - 1), z = (ln(0.005 x + 1) - mean) / std.

    x are raw L1C digital numbers (reflectance x 10,000) [1]_ [2]_.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, appendix, Table 17
    .. [2] Brown et al. (2022), doi:10.1038/s41597-022-01307-4

    Examples
    --------
    >>> LogSigmoid(1.6798, 2.1796)(np.array([872.9])).round(3)
    array([0.269])
    """

    log_mean: float
    log_std: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        z = (np.log(0.005 * np.maximum(values, 0) + 1) - self.log_mean) / self.log_std
        return 1 / (1 + np.exp(1 - 5 * z))


@dataclass(frozen=True)
class Band:
    """One band: physical value = ``scale`` x stored value + ``offset``, in ``unit``.

    ``normalisation`` acts on stored values. ``layer_mm`` is the soil layer behind a water depth:
    moisture [m3 m-3] = depth [mm or kg m-2] / ``layer_mm``. Bands that are not ``continuous`` hold
    classes or flags and are never interpolated.
    """

    name: str
    unit: str
    normalisation: Normalisation | None = None
    scale: float = 1.0
    offset: float = 0.0
    continuous: bool = True
    layer_mm: float | None = None


@dataclass(frozen=True)
class Source:
    """One input layer: where it lives, when it is dated, what its bands mean.

    ``dated_by`` is "instant", "start" (a composite stamped with its first moment), "middle" or
    "static". ``cadence`` is the usual step between scenes and, for a composite, its length ("3h",
    "8D", "1Y"; empty for static layers). ``resolution`` is "high" (10 m chips), "low" (160 m chips)
    or "coarse" (a scalar series). ``max_age`` holds the join's bound by anchor source ("1h", "14D",
    "50Y"). ``begins`` and ``ends`` are ISO dates, ``ends`` exclusive, empty where unknown or still
    running. ``asset`` is empty where Earth Engine lacks the layer: ``lives_at`` then says where to
    get it.
    """

    name: str
    title: str
    asset: str
    bands: tuple[Band, ...]
    pixel_size_m: float
    cadence: str
    dated_by: str
    resolution: str
    max_age: dict[str, str] = field(default_factory=dict, hash=False)
    begins: str = ""
    ends: str = ""
    successor: str = ""
    lives_at: str = ""
    citation: str = ""
    trap: str = ""

    @property
    def is_static(self) -> bool:
        """Whether the layer has no time."""
        return self.dated_by == "static"

    def band(self, name: str) -> Band:
        """The band of that name; ``UnknownNameError`` lists the ones there are."""
        from soilkit.errors import UnknownNameError

        for band in self.bands:
            if band.name == name:
                return band
        have = ", ".join(b.name for b in self.bands)
        raise UnknownNameError(f"{self.name} has no band {name!r}; it has {have}.")
