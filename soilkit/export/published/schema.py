"""What a published example holds: one row a feature, each constant marked certain or inferred."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.errors import ContractError, UnknownNameError
from soilkit.sources import Linear, LogSigmoid

BYTE_MAX = 255
SIDE_PX = 512
N_SHARDS = 500
SHARD_NAME = "data-{:05d}-of-00500.tfrecord.gz"
STATISTICS = ("now", "max", "mean", "min")  # the scene itself, and over the year before it
S1_BANDS = ("VH", "VV", "angle")
S2_BANDS = ("B11", "B12", "B2", "B3", "B4", "B5", "B6", "B7", "B8")
SAND, SILT, CLAY, BDOD = (
    f"soil_grids_{short}_{band}_0-5cm_mean"
    for short, band in (("sand", "sand"), ("silt", "silt"), ("clay", "clay"), ("bd", "bdod"))
)
# Prefix of a dated source's scalars, and its name in our catalogue.
DATED = {
    "aster": "", "cgls_lc": "land_cover", "gldas": "gldas", "modis_leaf_area": "modis_lai",
    "nasa_dem": "dem", "sentinel_1": "sentinel1", "sentinel_2": "sentinel2", "smap": "smap",
    "soil_grids_bd": "soilgrids", "soil_grids_clay": "soilgrids", "soil_grids_sand": "soilgrids",
    "soil_grids_silt": "soilgrids",
}  # fmt: skip

README = "named in the README"
PARSED = "kind read off the inference script"
GUESSED = "kind by analogy with the images that the inference script reads"
TABLE4 = "Table 4 gives the range for normalising; that bytes span it linearly is inferred"
TABLE17 = "Table 17 gives the transform into 0-1; that bytes are 255 x it is inferred"
ZERO_IS_DATA = "0 is a value here"


@dataclass(frozen=True)
class Feature:
    """One feature of an example.

    ``kind`` is "image" (512 x 512 integers), "int", "float" or "bytes"; ``source`` and ``band``
    name a row of the catalogue where there is one; ``statistic`` is one of ``STATISTICS``, empty
    for scalars; ``unit`` is that of the decoded value; ``scaling`` is the range that bytes span, or
    Table 17's transform, None where the integer is the stored value; ``zero_is_missing`` tells
    whether 0 is no data. ``kind_certain`` and ``scaling_certain`` are False where inferred, ``why``
    says from what.
    """

    name: str
    kind: str
    source: str = ""
    band: str = ""
    statistic: str = ""
    unit: str = ""
    scaling: Linear | LogSigmoid | None = None
    zero_is_missing: bool = False
    required: bool = False
    kind_certain: bool = True
    scaling_certain: bool = True
    why: str = README


def _image(name: str, source: str, band: str, *, unit: str, statistic: str = "now") -> Feature:
    """An image in bytes that span a catalogue band's normalised range; 0 is no data."""
    scaling, certain = sources.get(source).band(band).normalisation, statistic == "now"
    basis = TABLE17 if isinstance(scaling, LogSigmoid) else TABLE4
    return Feature(
        name, "image", source, band, statistic, unit, scaling,
        zero_is_missing=True, required=certain, kind_certain=certain, scaling_certain=False,
        why=f"{PARSED if certain else GUESSED}; {basis}",
    )  # fmt: skip


def _inferred(name: str, band: str, why: str, *, unit: str, **more: Any) -> Feature:
    """An image of whose integers nothing is said: taken as they are, unless ``more`` scales."""
    unsure: dict[str, Any] = {"kind_certain": False, "scaling_certain": False}
    more = {"statistic": "now"} | unsure | more
    return Feature(name, "image", band=band, unit=unit, why=f"{GUESSED}; {why}", **more)


def _scalar(name: str, kind: str, unit: str = "", *, source: str = "", why: str = "") -> Feature:
    """A scalar that the inference script reads, unless ``why`` says on what its kind rests."""
    return Feature(
        name, kind, source, unit=unit, required=not why, kind_certain=not why,
        scaling_certain=bool(unit), why=why or PARSED,
    )  # fmt: skip


def _imagery(statistic: str) -> Iterable[Feature]:
    middle = "" if statistic == "now" else f"{statistic}_"
    for band in S1_BANDS:
        unit = "deg" if band == "angle" else "dB"
        yield _image(
            f"sentinel_1_{middle}{band}", "sentinel1", band, unit=unit, statistic=statistic
        )
    for band in S2_BANDS:
        name = f"sentinel_2_{middle}{band}"
        yield _image(name, "sentinel2", band, unit="digital number", statistic=statistic)
    why = f"its meaning is not said; {ZERO_IS_DATA}"
    mask = f"sentinel_2_{middle}sen_2_mask"
    yield _inferred(mask, "sen_2_mask", why, unit="flag", statistic=statistic)


FEATURES: tuple[Feature, ...] = (
    _scalar("sensor_id", "bytes", "NETWORK__STATION__SENSOR"),
    _scalar("center_lat", "float", "degrees"),
    _scalar("center_long", "float", "degrees"),
    _scalar("timestamp", "float", "ms since 1970, UTC; steps of 131 s"),
    *(
        Feature(name, "float", unit="m3 m-3", zero_is_missing=True,
                why=f"{PARSED}; absent where labels may not be passed on")
        for name in ("sm_0_5", "sm_5_5")
    ),
    Feature(
        "smap_sm", "int", "smap", "ssm", "", "mm", Linear(0, 50), zero_is_missing=True,
        scaling_certain=False,
        why=f"{PARSED}, which divides by 255; that this is m3 m-3 of a layer of 50 mm is inferred "
        "from the text and from GLDAS. Table 4's 50-255 is no range of 0-25.39 mm",
    ),
    Feature(
        "gldas_sm", "int", "gldas", "SoilMoi0_10cm_inst", "", "kg m-2",
        sources.get("gldas").band("SoilMoi0_10cm_inst").normalisation, zero_is_missing=True,
        scaling_certain=False, why=f"{PARSED}, which divides by 255; {TABLE4}",
    ),
    *(
        _scalar(f"{prefix}_{ending}", "float", "ms", source=source,
                why=f"{README}; kind by analogy with timestamp")
        for prefix, source in DATED.items()
        for ending in ("timestamp", "time_millis_diff")
    ),
    *(
        _scalar(name, "int", why=f"{README}; kind as gldas_sm, unit not said")
        for name in ("gldas_evaporation", "gldas_rainfall", "gldas_snow_depth", "gldas_temp")
    ),
    _scalar("sentinel_1_orbit_pass", "bytes", why=f"{README}; text or code is not said"),
    _scalar("sentinel_2_cloud_percentage", "float", "%", why=README),
    _scalar("size", "int", "px", why=README),
    _scalar("utm_zone", "bytes", why=f"{README}, as a string"),
    _scalar("utm_easting_northing_image_polygon", "float", "m", why=README),
    Feature(
        "nasa_dem_elevation", "image", "dem", "elevation", "now", "m",
        zero_is_missing=True, required=True,
        why=f"{PARSED}, whose comment calls the DEM unnormalised and scales it by 3000; that 0 m "
        "is no data is inferred from the other images: it cannot be told from sea level",
    ),
    _image(BDOD, "soilgrids", "bdod", unit="cg cm-3"),
    _image(CLAY, "soilgrids", "clay", unit="g kg-1"),
    _image(SAND, "soilgrids", "sand", unit="g kg-1"),
    _image(SILT, "soilgrids", "silt", unit="g kg-1"),
    _inferred("mask", "", f"its meaning is not said; {ZERO_IS_DATA}", unit="flag", statistic=""),
    *(
        _inferred(f"cgls_lc_{cover}-coverfraction", f"{cover}-coverfraction",
                  f"percent as Copernicus stores it; {ZERO_IS_DATA}", unit="%")
        for cover in ("crops", "grass", "moss")
    ),
    _inferred("cgls_lc_discrete_classification", "discrete_classification",
              "classes as Copernicus codes them", unit="class", source="land_cover",
              zero_is_missing=True),
    _inferred("modis_leaf_area_Fpar", "Fpar", TABLE4, unit="%", scaling=Linear(0, 100),
              zero_is_missing=True),
    _inferred("modis_leaf_area_Lai", "Lai", TABLE4, unit="m2 m-2 x 10", source="modis_lai",
              scaling=Linear(0, 100), zero_is_missing=True),
    *(
        _inferred(f"aster_{band}", band, "no range is published for ASTER", unit="byte",
                  zero_is_missing=True)
        for band in ("B13", "B14")
    ),
    *(feature for statistic in STATISTICS for feature in _imagery(statistic)),
)  # fmt: skip
_BY_NAME = {feature.name: feature for feature in FEATURES}
IMAGES: tuple[str, ...] = tuple(f.name for f in FEATURES if f.kind == "image")
# The images that the published model eats, in its order; with two scalars they are its inputs.
MODEL_IMAGES: tuple[str, ...] = (
    *(f"sentinel_1_{band}" for band in ("VV", "VH", "angle")),
    *(f"sentinel_2_{band}" for band in ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B11", "B12")),
    "nasa_dem_elevation",
    *(SAND, SILT, CLAY, BDOD),
)


def feature(name: str) -> Feature:
    """The feature of that name; ``UnknownNameError`` lists those alike."""
    if name not in _BY_NAME:
        alike = [n for n in _BY_NAME if n.startswith(str(name).split("_")[0])] or list(IMAGES)
        raise UnknownNameError(
            f"The published schema has no feature {name!r}; it has {', '.join(alike)}."
        )
    return _BY_NAME[name]


def images_of(*names: str) -> tuple[str, ...]:
    """The images of some sources of our catalogue, of the scenes themselves.

    Raises ``UnknownNameError`` for a source of which the shards have no image.

    Examples
    --------
    >>> images_of("sentinel1", "dem")
    ('nasa_dem_elevation', 'sentinel_1_VH', 'sentinel_1_VV', 'sentinel_1_angle')
    """
    images = [f for f in FEATURES if f.kind == "image" and f.source and f.statistic == "now"]
    known = {f.source for f in images}
    if absent := sorted(set(names) - known):
        raise UnknownNameError(
            f"The shards have no images of {', '.join(absent)}; they have those of "
            f"{', '.join(sorted(known))}."
        )
    return tuple(f.name for f in images if f.source in names)


def schema_table() -> pd.DataFrame:
    """The features as a table, one row each: what each constant is and what it rests on."""
    return pd.DataFrame([asdict(f) | {"scaling": _words(f.scaling)} for f in FEATURES])


def _words(scaling: Linear | LogSigmoid | None) -> str:
    if isinstance(scaling, Linear):
        return f"{scaling.minimum:g} + {scaling.maximum - scaling.minimum:g} x byte / 255"
    if scaling is None:
        return "as it is"
    return "inverse of Table 17's logarithm and sigmoid at byte / 255"


def decode(name: str, raw: Any) -> np.ndarray:
    """Stored values of a feature's integers, float32, NaN where 0 stands for no data.

    Linear scalings span [minimum, maximum] by 0-255 (Table 4 [1]_). Sentinel-2's is the inverse of
    Table 17: byte / 255 = sigmoid(5 z - 1), z = (ln(0.005 DN + 1) - log_mean) / log_std; it
    saturates, and 255 is read as 254.5, the least that rounds to it.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649

    Examples
    --------
    >>> decode("sentinel_1_VV", np.array([0, 51, 255], "uint8"))
    array([ nan, -19.,   5.], dtype=float32)
    """
    raw = np.asarray(raw)
    if raw.dtype == np.uint8:
        return _byte_table(name)[raw]
    return _decoded(feature(name), raw.astype(np.float64))


@cache
def _byte_table(name: str) -> np.ndarray:
    """The stored value of each byte, float32 (256,)."""
    return _decoded(feature(name), np.arange(256.0))


def _decoded(row: Feature, raw: np.ndarray) -> np.ndarray:
    stored, rule = raw, row.scaling
    if isinstance(rule, Linear):
        stored = rule.minimum + (rule.maximum - rule.minimum) * (raw / BYTE_MAX)
    elif isinstance(rule, LogSigmoid):
        fraction = np.clip(raw, 0.5, BYTE_MAX - 0.5) / BYTE_MAX
        z = (np.log(fraction / (1 - fraction)) + 1) / 5
        stored = np.maximum(np.expm1(z * rule.log_std + rule.log_mean) / 0.005, 0.0)
    return np.where(row.zero_is_missing & (raw == 0), np.nan, stored).astype(np.float32)


def encode(name: str, stored: Any) -> np.ndarray:
    """Integers of a feature's stored values: uint8, or int16 where they do not fit.

    NaN becomes 0. Where 0 stands for no data, a known value below the range becomes 1. Bytes are
    rounded to the nearest; whether the publication rounds or cuts off is not said. Raises
    ``ContractError`` for a value that no int16 holds.
    """
    row, rule = feature(name), feature(name).scaling
    values = integers = np.asarray(stored, np.float64)
    if isinstance(rule, Linear):
        integers = (values - rule.minimum) / (rule.maximum - rule.minimum) * BYTE_MAX
    elif isinstance(rule, LogSigmoid):
        integers = rule(values) * BYTE_MAX
    integers = np.rint(integers)
    if rule is not None:
        integers = np.clip(integers, int(row.zero_is_missing), BYTE_MAX)
    integers = np.where(np.isfinite(values), integers, 0)
    if (np.abs(integers) > np.iinfo(np.int16).max).any():
        raise ContractError(
            f"{name} holds {integers.max():.0f} and {integers.min():.0f}; an image of the shards "
            "fits into 16 bits. Give it in the unit that schema_table() names."
        )
    fits = integers.size == 0 or (integers.min() >= 0 and integers.max() <= BYTE_MAX)
    return integers.astype(np.uint8 if fits else np.int16)
