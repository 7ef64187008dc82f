"""What a published example holds: features, scaling to stored units, sensor names."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export.insitu.ismn import plain
from soilkit.sources import Linear, LogSigmoid

BYTE_MAX = 255


class Scaling(Protocol):
    """How an integer of the shards stands for a stored value."""

    def decode(self, raw: np.ndarray) -> np.ndarray:
        """Stored values, float64, of integers."""
        ...

    def encode(self, stored: np.ndarray) -> np.ndarray:
        """Integers, as floats not yet rounded or clipped, of stored values."""
        ...

    def words(self) -> str:
        """The rule in words, for a table."""
        ...


@dataclass(frozen=True)
class ByteLinear:
    """Stored value = minimum + (maximum - minimum) byte / 255.

    Examples
    --------
    >>> ByteLinear(-25, 5).decode(np.array([51.0, 255.0]))
    array([-19.,   5.])
    """

    minimum: float
    maximum: float

    def decode(self, raw: np.ndarray) -> np.ndarray:
        return self.minimum + (self.maximum - self.minimum) * (raw / BYTE_MAX)

    def encode(self, stored: np.ndarray) -> np.ndarray:
        return (stored - self.minimum) / (self.maximum - self.minimum) * BYTE_MAX

    def words(self) -> str:
        return f"{self.minimum:g} + {self.maximum - self.minimum:g} x byte / 255"


@dataclass(frozen=True)
class ByteLogSigmoid:
    """Sentinel-2: byte / 255 = sigmoid(5 z - 1), z = (ln(0.005 DN + 1) - log_mean) / log_std.

    The transform saturates: 255 is read as 254.5, the least that rounds to it.

    Examples
    --------
    >>> rule = ByteLogSigmoid(LogSigmoid(1.6798, 2.1796))
    >>> rule.decode(rule.encode(np.array([300.0, 3000.0]))).round(6)
    array([ 300., 3000.])
    """

    rule: LogSigmoid

    def decode(self, raw: np.ndarray) -> np.ndarray:
        fraction = np.clip(raw, 0.5, BYTE_MAX - 0.5) / BYTE_MAX
        z = (np.log(fraction / (1 - fraction)) + 1) / 5
        return np.maximum(np.expm1(z * self.rule.log_std + self.rule.log_mean) / 0.005, 0.0)

    def encode(self, stored: np.ndarray) -> np.ndarray:
        return self.rule(stored) * BYTE_MAX

    def words(self) -> str:
        return "inverse of Table 17's logarithm and sigmoid at byte / 255"


@dataclass(frozen=True)
class Unscaled:
    """The integer is the stored value."""

    def decode(self, raw: np.ndarray) -> np.ndarray:
        return raw

    def encode(self, stored: np.ndarray) -> np.ndarray:
        return stored

    def words(self) -> str:
        return "as it is"


# What a published example holds: one row a feature, each constant marked certain or inferred.

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


# Which sensor of an in-situ archive a published ``sensor_id`` means: exactly one, or a reason.

MAX_DISTANCE_M = 1280.0  # half of the 2.56 km that models see: beyond it the probe is off the image
LABEL_DEPTH_M = (0.045, 0.055)  # where a 5 cm reading ends; two inches are 0.0508 m
METRES_PER_DEGREE = 111_195.0

NOT_AN_ID = "sensor_id is not NETWORK__STATION__SENSOR"
NO_NETWORK = "network absent"
NO_STATION = "station absent"
ELSEWHERE = "station stands elsewhere"
NO_PROBE = "probe absent at 5 cm"
MANY_STATIONS = "several stations fit"
MANY_PROBES = "several probes or depths fit"
_TWIN = re.compile(r"~\d+$")  # the mark of the second of two equal file names
_BORDER = re.compile(r"[-_ ]")


@dataclass(frozen=True)
class Meaning:
    """The archive's ``sensor_id`` behind a published one, or the reason why there is none."""

    sensor_id: str = ""
    reason: str = ""


def parts(sensor_id: str) -> tuple[str, str, str] | None:
    """Network, station and sensor of a published id; None where it is none.

    Examples
    --------
    >>> parts("FR_Aqui__fraye__ThetaProbe-ML2X")
    ('FR_Aqui', 'fraye', 'ThetaProbe-ML2X')
    """
    found = sensor_id.split("__")
    return (found[0], found[1], found[2]) if len(found) == 3 and all(found) else None


class Names:
    """The surface sensors of a stations table, ready to be looked up by published names.

    Parameters
    ----------
    stations : stations table, one row a sensor
    max_distance_m : float, m; a station of the right name that stands farther off is another place
    """

    def __init__(self, stations: pd.DataFrame, *, max_distance_m: float = MAX_DISTANCE_M):
        low, high = LABEL_DEPTH_M
        at_five = stations["depth_to_m"].between(low, high)
        self._max_distance_m = max_distance_m
        places = stations.drop_duplicates("station_id")
        networks = places["network"].astype(str).map(plain)
        self._places = {str(key): rows for key, rows in places.groupby(networks)}
        self._probes: dict[str, list[tuple[str, str]]] = {}
        for station, sensor in stations.loc[at_five, ["station_id", "sensor_id"]].itertuples(
            index=False
        ):
            probe = _TWIN.sub("", str(sensor).split("__")[2])
            self._probes.setdefault(str(station), []).append((probe, str(sensor)))

    def find(
        self, sensor_id: str, *, latitude: float = np.nan, longitude: float = np.nan
    ) -> Meaning:
        """The one sensor that an id means.

        Network and station agree in letters and digits; where no station does, one that holds every
        part of the published name and is known to stand there may be it. The probe is the one of
        that name, else those whose names go on from it ("SMP1" and "SMP1-A"). Where two fit, none
        is taken.

        Parameters
        ----------
        sensor_id : ``NETWORK__STATION__SENSOR``
        latitude, longitude : WGS84 degrees of the published image; NaN trusts the name alone
        """
        named = parts(sensor_id)
        if named is None:
            return Meaning(reason=NOT_AN_ID)
        network, station, probe = named
        places = self._places.get(plain(network))
        if places is None:
            return Meaning(reason=NO_NETWORK)
        far_m = _distance_m(places, latitude, longitude)
        names = places["station"].astype(str)
        fits = names.map(plain) == plain(station)
        missing = ELSEWHERE if fits.any() else NO_STATION
        if fits.any():
            near = places[fits & ~(far_m > self._max_distance_m)]
        else:
            near = places[_holds_parts(names, station) & (far_m <= self._max_distance_m)]
        if len(near) != 1:
            return Meaning(reason=MANY_STATIONS if len(near) else missing)
        return _probe(self._probes.get(str(near["station_id"].iloc[0]), []), probe)


def _holds_parts(names: pd.Series, station: str) -> np.ndarray:
    """Which names hold every part of a published one, as its own script compares them."""
    words = [word for word in station.split("_") if word]
    return np.array([all(w in n or w in n.replace("-", "") for w in words) for n in names], bool)


def _probe(probes: Sequence[tuple[str, str]], wanted: str) -> Meaning:
    fitting = [sensor for probe, sensor in probes if plain(probe) == plain(wanted)]
    if not fitting:
        fitting = [sensor for probe, sensor in probes if _goes_on(probe, wanted)]
    if len(fitting) == 1:
        return Meaning(fitting[0])
    return Meaning(reason=MANY_PROBES if fitting else NO_PROBE)


def _goes_on(probe: str, wanted: str) -> bool:
    """Whether a name is the wanted one and more words, as in "SMP1" and "SMP1-A"."""
    found, start = (_BORDER.split(name.lower()) for name in (probe, wanted))
    return len(found) > len(start) and found[: len(start)] == start


def _distance_m(places: pd.DataFrame, latitude: float, longitude: float) -> pd.Series:
    """How far each station stands from a point [m]; NaN where either is unknown."""
    north = (places["latitude"] - latitude) * METRES_PER_DEGREE
    east = (places["longitude"] - longitude) * METRES_PER_DEGREE * np.cos(np.radians(latitude))
    return np.hypot(north, east)


# Between a feature's integers and the stored values of our sources.


@cache
def _byte_table(name: str) -> np.ndarray:
    """The stored value of each byte, float32 (256,)."""
    return _decoded(feature(name), np.arange(256.0))


def decode(name: str, raw: Any) -> np.ndarray:
    """Stored values of a feature's integers, float32, NaN where 0 stands for no data.

    Parameters
    ----------
    name : a feature
    raw : integers of any shape

    Examples
    --------
    >>> decode("sentinel_1_VV", np.array([0, 51, 255], "uint8"))
    array([ nan, -19.,   5.], dtype=float32)
    """
    raw = np.asarray(raw)
    if raw.dtype == np.uint8:
        return _byte_table(name)[raw]
    return _decoded(feature(name), raw.astype(np.float64))


def _decoded(row: Feature, raw: np.ndarray) -> np.ndarray:
    stored = row.scaling.decode(raw)
    return np.where(row.zero_is_missing & (raw == 0), np.nan, stored).astype(np.float32)


def encode(name: str, stored: Any) -> np.ndarray:
    """Integers of a feature's stored values: uint8, or int16 where they do not fit.

    NaN becomes 0. Where 0 stands for no data, a known value below the range becomes 1. Bytes are
    rounded to the nearest; whether the publication rounds or cuts off is not said.

    Raises
    ------
    ContractError
        For a value that no int16 holds.
    """
    row = feature(name)
    values = np.asarray(stored, np.float64)
    integers = np.rint(row.scaling.encode(values))
    if not isinstance(row.scaling, Unscaled):
        integers = np.clip(integers, int(row.zero_is_missing), 255)
    integers = np.where(np.isfinite(values), integers, 0)
    if (np.abs(integers) > np.iinfo(np.int16).max).any():
        raise ContractError(
            f"{name} holds {integers.max():.0f} and {integers.min():.0f}; an image of the shards "
            "fits into 16 bits. Give it in the unit that schema_table() names."
        )
    fits = integers.size == 0 or (integers.min() >= 0 and integers.max() <= 255)
    return integers.astype(np.uint8 if fits else np.int16)
