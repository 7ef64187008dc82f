"""How Earth Engine holds each source of the catalogue: a table of what is out of the ordinary."""

from dataclasses import dataclass, field, replace

import numpy as np

from soilkit import sources
from soilkit.errors import UnknownNameError
from soilkit.sources import Source

ORBIT, GLOBAL, STATIC, TILES = "orbit", "global", "static", "tiles"
DAY = np.timedelta64(1, "D")
SLICES = "+"  # joins the ids of the images that are one scene


@dataclass(frozen=True)
class Layer:
    """Where a source's pixels are.

    Attributes
    ----------
    form : "orbit" scenes differ from place to place; "global" every image covers all places;
        "static" images without a time; "tiles" a collection that is mosaicked into one
    image : id of a static image; "{band}" stands for the band's name
    band : what a band is called there; "{band}" its name here, empty for the image's only band
    equal : properties that an image must have, by name
    contains : members that a list property must have: (property, member)
    valid_band : the band whose mask tells where a scene holds data
    cloud_bits : band of flags and the bits that say cloud or cirrus
    power : bands in dB, which are averaged as power
    slices : whether a pass is cut into images that belong together
    new_year : whether composites restart with every year
    """

    form: str
    image: str = ""
    band: str = "{band}"
    equal: dict[str, str] = field(default_factory=dict, hash=False)
    contains: tuple[tuple[str, str], ...] = ()
    valid_band: str = ""
    cloud_bits: tuple[str, tuple[int, ...]] = ("", ())
    power: tuple[str, ...] = ()
    slices: bool = False
    new_year: bool = False


# https://developers.google.com/earth-engine/datasets/catalog, page of each asset
_LANDSAT = Layer(ORBIT, valid_band="SR_B4", cloud_bits=("QA_PIXEL", (1, 2, 3)))
LAYERS = {
    "sentinel1": Layer(
        ORBIT,
        equal={"instrumentMode": "IW"},
        contains=(
            ("transmitterReceiverPolarisation", "VV"),
            ("transmitterReceiverPolarisation", "VH"),
        ),
        valid_band="VV",
        power=("VV", "VH"),
        slices=True,
    ),
    "sentinel2": Layer(ORBIT, valid_band="B4", cloud_bits=("QA60", (10, 11))),
    "cloud_score_plus": Layer(ORBIT, valid_band="cs_cdf"),
    "s2_cloud_probability": Layer(ORBIT, valid_band="probability"),
    "landsat8": _LANDSAT,
    "landsat9": _LANDSAT,
    "soilgrids": Layer(STATIC, "projects/soilgrids-isric/{band}_mean", "{band}_0-5cm_mean"),
    "soilgrids_ph": Layer(STATIC, "projects/soilgrids-isric/{band}_mean", "{band}_0-5cm_mean"),
    "dem_3dep": Layer(TILES),
    "polaris": Layer(STATIC, "projects/sat-io/open-datasets/polaris/{band}_mean/{band}_0_5", ""),
    "gnatsgo": Layer(STATIC, "projects/sat-io/open-datasets/gNATSGO/raster/{band}", ""),
    "solus100": Layer(STATIC, "USDA/SOLUS100/V0/{band}", "r_5_cm_p"),
    "nlcd_2019": Layer(STATIC, "USGS/NLCD_RELEASES/2019_REL/NLCD/2019"),
    "nlcd_2021": Layer(STATIC, "USGS/NLCD_RELEASES/2021_REL/NLCD/2021"),
    "land_cover": Layer(STATIC, "COPERNICUS/Landcover/100m/Proba-V-C3/Global/2019"),
    "modis_lai": Layer(GLOBAL, new_year=True),
    "modis_lst": Layer(GLOBAL, new_year=True),
    "modis_et": Layer(GLOBAL, new_year=True),
    "modis_land_cover": Layer(GLOBAL, new_year=True),
}


def layer(name: str) -> tuple[Source, Layer]:
    """A source of the catalogue and how Earth Engine holds it.

    Raises
    ------
    UnknownNameError
        For a name that the catalogue lacks, or a source that Earth Engine lacks: it then says
        where that one lives.
    """
    source = sources.get(name)
    if not source.asset:
        raise UnknownNameError(f"Earth Engine has no {name!r}. {source.lives_at}")
    plain = Layer(STATIC, source.asset) if source.is_static else Layer(GLOBAL)
    found = LAYERS.get(name, plain)
    return source, replace(found, image=found.image or source.asset)


def cadence(source: Source) -> np.timedelta64:
    """The usual step between scenes, datetime units of microseconds."""
    return sources.duration(source.cadence).astype("timedelta64[us]")


def dated(source: Source, begin: np.ndarray, *, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of scenes from the two times that Earth Engine stamps on an image.

    What is instantaneous keeps its first stamp. A composite ends a cadence after its start; a later
    stamped end counts, an earlier one does not: some assets stamp the last day's beginning, and a
    scene that ends too early reads the future. Where a product restarts with the year, so does its
    last composite end with it, whatever is stamped.

    Parameters
    ----------
    source : Source
    begin, end : datetime64[us], (scene,), ``end`` NaT where there is none

    Examples
    --------
    >>> first = np.array(["2019-12-31"], "datetime64[us]")
    >>> [str(t[0])[:10] for t in dated(sources.get("modis_lai"), first, end=first)]
    ['2019-12-31', '2020-01-01']
    """
    stamped = np.where(np.isnat(end), begin, np.maximum(begin, end))
    if source.dated_by == "instant":
        return begin, stamped if layer(source.name)[1].slices else begin
    step = cadence(source)
    if source.dated_by == "middle":
        return begin - step // 2, np.maximum(begin + step - step // 2, stamped)
    if layer(source.name)[1].new_year:
        next_year = (begin.astype("datetime64[Y]") + 1).astype("datetime64[us]")
        step = -(-step // DAY) * DAY  # a mean year ends before a leap year does
        return begin, np.minimum(begin + step, next_year)
    return begin, np.maximum(begin + step, stamped)
