"""The words of the catalogue: ``Source``, ``Band``, and how archives hold a source."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import numpy as np

from soilkit.errors import ContractError, UnknownNameError

# Where the images of a source lie in Earth Engine: passes differ from place to place, every image
# of a global product covers all places, static ones have no time, tiles are mosaicked into one.
PASSES, GLOBAL, STATIC, TILES = "passes", "global", "static", "tiles"
FINE_M = 250.0  # images with smaller pixels do not cover the Earth, as those of global products do
ROUNDED = 1e-6  # of a range: by so much a limit in float32 may lie beyond it
STATIC_MAX_AGE = "50Y"  # the bound of a static layer in the paper's tables: whenever


@dataclass(frozen=True)
class Linear:
    """Linear scaling of [minimum, maximum] to zero mean and unit variance.

    z = sqrt(12) (x - (maximum + minimum) / 2) / (maximum - minimum): the mean and the standard
    deviation of a uniform variable on the range, which is all that Table 4 [1]_ prints.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, section 2b4, Table 4
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

    Attributes
    ----------
    valid_range : smallest and largest physical value (class, flags) that can be true
    normalisation : acts on stored values
    continuous : false for classes and flags, which are never interpolated
    layer_mm : soil layer behind a water depth: moisture [m3 m-3] = depth [mm or kg m-2] / layer_mm
    cloud_bits : bits of a band of flags that say cloud or cirrus
    features : what a table model gets of a chip beside the band's mean: "std", "slope" [deg]
    aliases : other names as asset, band or common name in STAC catalogues
    """

    name: str
    unit: str
    valid_range: tuple[float, float]
    normalisation: Linear | LogSigmoid | None = None
    scale: float = 1.0
    offset: float = 0.0
    continuous: bool = True
    layer_mm: float | None = None
    cloud_bits: tuple[int, ...] = ()
    features: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    def physical(self, stored: np.ndarray) -> np.ndarray:
        """Stored values in the band's unit."""
        return stored * self.scale + self.offset

    @property
    def stored_range(self) -> tuple[float, float]:
        """The valid range in stored values."""
        low, high = self.valid_range
        return (low - self.offset) / self.scale, (high - self.offset) / self.scale

    def valid(self, stored: np.ndarray) -> np.ndarray:
        """Stored values, NaN where they lie outside the valid range: fill values and class codes.

        To be applied before resampling, which would blend them into their neighbours.
        """
        low, high = self.stored_range
        slack = ROUNDED * (high - low)
        inside = (stored >= low - slack) & (stored <= high + slack)
        return np.where(inside, stored, np.float32("nan"))


def alike(
    unit: str, valid_range: tuple[float, float], *names: str, **more: Any
) -> tuple[Band, ...]:
    """Bands that differ in their names only."""
    return tuple(Band(name, unit, valid_range, **more) for name in names)


@dataclass(frozen=True)
class EarthEngine:
    """How Earth Engine holds a source's pixels.

    Attributes
    ----------
    form : ``PASSES``, ``GLOBAL``, ``STATIC`` or ``TILES``
    image : id of a static image; "{band}" stands for the band's name; by default the asset
    band : what a band is called there; "{band}" its name here, empty for the image's only band
    equal : properties that an image must have: (name, value)
    contains : members that a list property must have: (property, member)
    valid_band : the band whose mask tells where a scene holds data; by default the first
    cloud_scores : whether Cloud Score+ and s2cloudless tell of clouds where flags are masked
    new_year : whether composites restart with every year
    """

    form: str
    image: str = ""
    band: str = "{band}"
    equal: tuple[tuple[str, str], ...] = ()
    contains: tuple[tuple[str, str], ...] = ()
    valid_band: str = ""
    cloud_scores: bool = False
    new_year: bool = False


@dataclass(frozen=True)
class Collection:
    """A STAC collection that serves a source.

    ``note`` says how it differs from the paper's; ``unit`` is "power" where backscatter is stored
    as linear power.
    """

    id: str
    note: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Stac:
    """How STAC catalogues hold a source.

    Attributes
    ----------
    collections : the usual ones, in order of preference; one named like the source comes first
    mode, polarisations : of a radar's items that are wanted
    platform : that is wanted of a collection in which several share
    nodata : what files that do not tell hold where there is no data
    raised : processing baseline since which digital numbers are raised, and what to add to them
    """

    collections: tuple[Collection, ...] = ()
    mode: str = ""
    polarisations: tuple[str, ...] = ()
    platform: str = ""
    nodata: float | None = None
    raised: tuple[float, float] | None = None


@dataclass(frozen=True)
class Source:
    """One input layer: where it lives, when it is dated, what its bands mean.

    Raises ``ContractError`` for a dated source without a cadence, and for one with fine pixels that
    does not say how Earth Engine holds them: taken for global, its images would go to every
    station.

    Attributes
    ----------
    asset : in Earth Engine; empty where it lacks the layer: ``lives_at`` then says where to get it
    resolution : "high" (10 m chips), "low" (160 m chips) or "coarse" (a scalar series)
    dated_by : "instant", "start" (a composite stamped with its first moment), "middle" or "static"
    cadence : usual step between scenes and a composite's length ("3h", "8D", "1Y"); static: empty
    max_age : how old a scene may be for a reading in the anchored join ("6h", "14D", "50Y"); by
        default two cadences
    begins, ends : ISO dates, ``ends`` exclusive, empty where unknown or still running
    sliced : whether a pass is cut into images that belong together
    packing : step and offset of the chip store's integers; by default 0.01, of classes 1
    model_bands : those that a model eats, in its order, where it does not eat all continuous ones
    colours : bands by what vegetation indices call them: "blue", "red", "infrared"
    earth_engine, stac : how these archives hold it; static and global products need no word
    """

    name: str
    _: KW_ONLY
    title: str
    asset: str = ""
    bands: tuple[Band, ...]
    pixel_size_m: float
    resolution: str
    dated_by: str = "static"
    cadence: str = ""
    max_age: str = ""
    begins: str = ""
    ends: str = ""
    successor: str = ""
    lives_at: str = ""
    citation: str = ""
    trap: str = ""
    sliced: bool = False
    packing: tuple[float, float] | None = None
    model_bands: tuple[str, ...] = ()
    colours: Mapping[str, str] = field(default_factory=dict, hash=False)
    earth_engine: EarthEngine | None = None
    stac: Stac = Stac()

    def __post_init__(self) -> None:
        fine = self.resolution == "high" or self.pixel_size_m < FINE_M
        if self.asset and fine and not self.is_static and self.earth_engine is None:
            raise ContractError(
                f"The row of {self.name!r} lacks its earth_engine part: a dated source with pixels "
                f"of {self.pixel_size_m:g} m is no global product. Say how Earth Engine holds it, "
                "such as earth_engine=EarthEngine(PASSES)."
            )
        if not self.is_static and not self.cadence:
            raise ContractError(
                f"The row of {self.name!r} lacks its cadence: how far are two scenes apart, or how "
                "long is a composite?"
            )
        if self.is_static:
            object.__setattr__(self, "max_age", STATIC_MAX_AGE)
        elif not self.max_age:
            twice = f"{2 * int(self.cadence[:-1])}{self.cadence[-1]}"
            object.__setattr__(self, "max_age", twice)
        if self.asset:
            part = self.earth_engine or EarthEngine(STATIC if self.is_static else GLOBAL)
            part = replace(part, image=part.image or self.asset)
            object.__setattr__(self, "earth_engine", part)

    @property
    def is_static(self) -> bool:
        """Whether the layer has no time."""
        return self.dated_by == "static"

    @property
    def fed(self) -> tuple[str, ...]:
        """The bands that a model eats, in its order."""
        return self.model_bands or tuple(band.name for band in self.bands if band.continuous)

    @property
    def cloud_band(self) -> Band | None:
        """The band whose flags tell of clouds."""
        return next((band for band in self.bands if band.cloud_bits), None)

    def band(self, name: str) -> Band:
        """The band of that name; ``UnknownNameError`` lists the ones there are."""
        for band in self.bands:
            if band.name == name:
                return band
        have = ", ".join(b.name for b in self.bands)
        raise UnknownNameError(f"{self.name} has no band {name!r}; it has {have}.")
