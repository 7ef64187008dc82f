"""What a published example holds: one row a feature, each constant marked certain or inferred.

Names come from the publication's README, kinds from its inference script [1]_, ranges from Tables 4
and 17 [2]_. No shard was at hand when this was written. What those three do not say is *inferred*,
with the reason beside it; check it on your own first shard.

References
----------
.. [1] google-research/google-research, folder soil_moisture_retrieval (README.md, run_inference.py)
.. [2] Batchu et al. (2022), arXiv:2206.09649
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pandas as pd

from soilkit import sources
from soilkit.errors import UnknownNameError
from soilkit.published.scaling import ByteLinear, ByteLogSigmoid, Scaling, Unscaled
from soilkit.sources import Linear, LogSigmoid

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
    for scalars; ``unit`` is that of the decoded value; ``zero_is_missing`` tells whether 0 is no
    data. ``kind_certain`` and ``scaling_certain`` are False where inferred, ``why`` says from what.
    """

    name: str
    kind: str
    source: str = ""
    band: str = ""
    statistic: str = ""
    unit: str = ""
    scaling: Scaling = Unscaled()
    zero_is_missing: bool = False
    required: bool = False
    kind_certain: bool = True
    scaling_certain: bool = True
    why: str = README


def _catalogue_scaling(source: str, band: str) -> Scaling:
    rule = sources.get(source).band(band).normalisation
    if isinstance(rule, LogSigmoid):
        return ByteLogSigmoid(rule)
    if isinstance(rule, Linear):
        return ByteLinear(rule.minimum, rule.maximum)
    return Unscaled()


def _image(name: str, *place: str, unit: str, certain: bool) -> Feature:
    """An image in bytes that span a catalogue band's normalised range; 0 is no data."""
    source, band, statistic = place
    scaling = _catalogue_scaling(source, band)
    basis = TABLE17 if isinstance(scaling, ByteLogSigmoid) else TABLE4
    return Feature(
        name, "image", source, band, statistic, unit, scaling,
        zero_is_missing=True, required=certain, kind_certain=certain, scaling_certain=False,
        why=f"{PARSED if certain else GUESSED}; {basis}",
    )  # fmt: skip


def _plain(name: str, *place: str, unit: str, why: str, zero_is_missing: bool = False) -> Feature:
    """An image whose integers are taken as they are, for want of anything said about them."""
    source, band, statistic = place
    return Feature(
        name, "image", source, band, statistic, unit,
        zero_is_missing=zero_is_missing, kind_certain=False, scaling_certain=False,
        why=f"{GUESSED}; {why}",
    )  # fmt: skip


def _ground() -> Iterable[Feature]:
    yield Feature(
        "nasa_dem_elevation", "image", "dem", "elevation", "now", "m",
        zero_is_missing=True, required=True,
        why=f"{PARSED}, whose comment calls the DEM unnormalised and scales it by 3000; that 0 m "
        "is no data is inferred from the other images: it cannot be told from sea level",
    )  # fmt: skip
    for name, band, unit in (
        (BDOD, "bdod", "cg cm-3"), (CLAY, "clay", "g kg-1"),
        (SAND, "sand", "g kg-1"), (SILT, "silt", "g kg-1"),
    ):  # fmt: skip
        yield _image(name, "soilgrids", band, "now", unit=unit, certain=True)
    yield _plain("mask", "", "", "", unit="flag", why=f"its meaning is not said; {ZERO_IS_DATA}")


def _cover() -> Iterable[Feature]:
    for cover in ("crops", "grass", "moss"):
        yield _plain(f"cgls_lc_{cover}-coverfraction", "", f"{cover}-coverfraction", "now",
                     unit="%", why=f"percent as Copernicus stores it; {ZERO_IS_DATA}")  # fmt: skip
    yield _plain("cgls_lc_discrete_classification", "land_cover", "discrete_classification",
                 "now", unit="class", zero_is_missing=True,
                 why="classes as Copernicus codes them")  # fmt: skip
    for band, source, unit in (("Fpar", "", "%"), ("Lai", "modis_lai", "m2 m-2 x 10")):
        yield Feature(
            f"modis_leaf_area_{band}", "image", source, band, "now", unit, ByteLinear(0, 100),
            zero_is_missing=True, kind_certain=False, scaling_certain=False,
            why=f"{GUESSED}; {TABLE4}",
        )  # fmt: skip
    for band in ("B13", "B14"):
        yield _plain(f"aster_{band}", "", band, "now", unit="byte", zero_is_missing=True,
                     why="no range is published for ASTER")  # fmt: skip


def _imagery(statistic: str) -> Iterable[Feature]:
    middle, certain = ("", True) if statistic == "now" else (f"{statistic}_", False)
    for band in S1_BANDS:
        unit = "deg" if band == "angle" else "dB"
        yield _image(f"sentinel_1_{middle}{band}", "sentinel1", band, statistic,
                     unit=unit, certain=certain)  # fmt: skip
    for band in S2_BANDS:
        yield _image(f"sentinel_2_{middle}{band}", "sentinel2", band, statistic,
                     unit="digital number", certain=certain)  # fmt: skip
    yield _plain(f"sentinel_2_{middle}sen_2_mask", "", "sen_2_mask", statistic,
                 unit="flag", why=f"its meaning is not said; {ZERO_IS_DATA}")  # fmt: skip


# Prefix of a dated source's scalars, and its name in our catalogue.
DATED = {
    "aster": "", "cgls_lc": "land_cover", "gldas": "gldas", "modis_leaf_area": "modis_lai",
    "nasa_dem": "dem", "sentinel_1": "sentinel1", "sentinel_2": "sentinel2", "smap": "smap",
    "soil_grids_bd": "soilgrids", "soil_grids_clay": "soilgrids", "soil_grids_sand": "soilgrids",
    "soil_grids_silt": "soilgrids",
}  # fmt: skip


def _scalar(name: str, kind: str, unit: str = "", *, source: str = "", why: str = "") -> Feature:
    """A scalar that the inference script reads, unless ``why`` says on what its kind rests."""
    return Feature(
        name, kind, source, unit=unit, required=not why, kind_certain=not why,
        scaling_certain=bool(unit), why=why or PARSED,
    )  # fmt: skip


def _scalars() -> Iterable[Feature]:
    yield _scalar("sensor_id", "bytes", "NETWORK__STATION__SENSOR")
    yield _scalar("center_lat", "float", "degrees")
    yield _scalar("center_long", "float", "degrees")
    yield _scalar("timestamp", "float", "ms since 1970, UTC; steps of 131 s")
    for name in ("sm_0_5", "sm_5_5"):
        yield Feature(name, "float", unit="m3 m-3", zero_is_missing=True,
                      why=f"{PARSED}; absent where labels may not be passed on")  # fmt: skip
    yield Feature(
        "smap_sm", "int", "smap", "ssm", "", "mm", ByteLinear(0, 50), zero_is_missing=True,
        scaling_certain=False,
        why=f"{PARSED}, which divides by 255; that this is m3 m-3 of a layer of 50 mm is inferred "
        "from the text and from GLDAS. Table 4's 50-255 is no range of 0-25.39 mm",
    )  # fmt: skip
    yield Feature(
        "gldas_sm", "int", "gldas", "SoilMoi0_10cm_inst", "", "kg m-2",
        _catalogue_scaling("gldas", "SoilMoi0_10cm_inst"), zero_is_missing=True,
        scaling_certain=False, why=f"{PARSED}, which divides by 255; {TABLE4}",
    )  # fmt: skip
    for prefix, source in DATED.items():
        for ending in ("timestamp", "time_millis_diff"):
            yield _scalar(f"{prefix}_{ending}", "float", "ms", source=source,
                          why=f"{README}; kind by analogy with timestamp")  # fmt: skip
    for name in ("gldas_evaporation", "gldas_rainfall", "gldas_snow_depth", "gldas_temp"):
        yield _scalar(name, "int", why=f"{README}; kind as gldas_sm, unit not said")
    yield _scalar("sentinel_1_orbit_pass", "bytes", why=f"{README}; text or code is not said")
    yield _scalar("sentinel_2_cloud_percentage", "float", "%", why=README)
    yield _scalar("size", "int", "px", why=README)
    yield _scalar("utm_zone", "bytes", why=f"{README}, as a string")
    yield _scalar("utm_easting_northing_image_polygon", "float", "m", why=README)


FEATURES: tuple[Feature, ...] = (
    *_scalars(),
    *_ground(),
    *_cover(),
    *(f for statistic in STATISTICS for f in _imagery(statistic)),
)
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
    """The feature of that name.

    Raises
    ------
    UnknownNameError
        With the names alike.

    Examples
    --------
    >>> feature("sentinel_1_VV").scaling
    ByteLinear(minimum=-25, maximum=5)
    """
    if name not in _BY_NAME:
        alike = [n for n in _BY_NAME if n.startswith(str(name).split("_")[0])] or list(IMAGES)
        raise UnknownNameError(
            f"The published schema has no feature {name!r}; it has {', '.join(alike)}."
        )
    return _BY_NAME[name]


def images_of(*names: str, statistic: str = "now") -> tuple[str, ...]:
    """The images of some sources of our catalogue; of Sentinel-1 and -2 one ``statistic``.

    Examples
    --------
    >>> images_of("sentinel1", "dem")
    ('nasa_dem_elevation', 'sentinel_1_VH', 'sentinel_1_VV', 'sentinel_1_angle')
    """
    known = {f.source for f in FEATURES if f.kind == "image" and f.source}
    absent = sorted(set(names) - known)
    if absent or statistic not in STATISTICS:
        raise UnknownNameError(
            f"The shards have no images of {', '.join(absent) or statistic!r}; they have the "
            f"sources {', '.join(sorted(known))} and the statistics {', '.join(STATISTICS)}."
        )
    return tuple(
        f.name for f in map(feature, IMAGES) if f.source in names and f.statistic == statistic
    )


def schema_table() -> pd.DataFrame:
    """The features as a table, one row each: what each constant is and what it rests on."""
    table = pd.DataFrame([asdict(f) for f in FEATURES])
    return table.assign(scaling=[f.scaling.words() for f in FEATURES])
