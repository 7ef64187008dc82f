"""Unit conversions and physical bounds, as pure functions over arrays."""

import re

import numpy as np

from soilkit.errors import UnitError

MAX_SOIL_MOISTURE_M3_M3 = 1.0  # organic soils reach 0.8 and more; nothing holds more than itself
OF_ENDINGS = {  # of names: what a column called "rain_mm" is in
    "m3_m3": "m³ m⁻³", "percent": "%", "pct": "%", "fraction": "1", "hours": "h", "seconds": "s",
    "degrees": "°", "deg": "°", "db": "dB", "px": "pixels", "mib": "MiB", "gib": "GiB",
    "mb": "MB", "c": "°C", "km": "km", "mm": "mm", "m2": "m²", "m": "m", "s": "s",
}  # fmt: skip

# How files write a unit, in small letters without ^, * and brackets, and the catalogue's word.
SPELLINGS = {
    "m3 m-3": "m3 m-3|m3/m3|m3m-3|m3.m-3|cm3/cm3|cm3 cm-3|m³ m⁻³|m³/m³",
    "kg m-2": "kg m-2|kg/m2|kgm-2|kg.m-2|mm", "K": "k|kelvin|kelvins", "degC": "degc|c|°c|celsius",
    "%": "%|percent", "vol %": "vol %|vol%|vol. %|% vol",
    "1": "1|-|dimensionless|unitless|normalized",
    "dB": "db|decibel|decibels", "deg": "deg|degree|degrees", "m": "m|metre|metres|meter|meters",
    "mm d-1": "mm d-1|mm/d|mm/day|mm day-1|kg m-2 d-1", "mm s-1": "kg m-2 s-1|kg/m2/s|mm/s|mm s-1",
}  # fmt: skip
CONVERSIONS = {  # from, to: factor and summand
    ("vol %", "m3 m-3"): (0.01, 0.0), ("1", "m3 m-3"): (1.0, 0.0), ("%", "1"): (0.01, 0.0),
    ("1", "%"): (100.0, 0.0), ("degC", "K"): (1.0, 273.15), ("K", "degC"): (1.0, -273.15),
    ("mm s-1", "mm d-1"): (86_400.0, 0.0),
}  # fmt: skip


def unit_name(text: str) -> str:
    """The catalogue's word for a unit as files write it; an unknown one comes back as it is.

    Examples
    --------
    >>> unit_name("m**3 m**-3"), unit_name("cm3/cm3"), unit_name("kg/m^2"), unit_name("furlong")
    ('m3 m-3', 'm3 m-3', 'kg m-2', 'furlong')
    """
    plain = re.sub(r"[\^*{}()]", "", text).strip().lower()
    return next((u for u, names in SPELLINGS.items() if plain in names.split("|")), text.strip())


def conversion(unit: str, wanted: str, *, layer_mm: float | None = None) -> tuple[float, float]:
    """Factor a and summand b of value [wanted] = a value [unit] + b.

    Water in a layer [kg m-2 or mm] becomes m3 m-3, and back, by the layer's thickness [mm]. Raises
    ``UnitError`` where no conversion is known, and for a water depth without the layer's thickness.

    Examples
    --------
    >>> conversion("kg m-2", "m3 m-3", layer_mm=100), conversion("degC", "K")
    ((0.01, 0.0), (1.0, 273.15))
    """
    have, want = unit_name(unit), unit_name(wanted)
    if have == want:
        return 1.0, 0.0
    if {have, want} == {"kg m-2", "m3 m-3"}:
        if layer_mm:
            return (1 / layer_mm if want == "m3 m-3" else float(layer_mm)), 0.0
        raise UnitError(
            f"Values in {unit} are wanted in {wanted}, and the layer's thickness is unknown: "
            "divide them by it [mm] first, or map them to a source whose layer it is."
        )
    if (have, want) in CONVERSIONS:
        return CONVERSIONS[have, want]
    hint = " Of the volume? Say 'vol %'." if (have, want) == ("%", "m3 m-3") else ""
    raise UnitError(
        f"Values in {unit!r} cannot be turned into {wanted!r}.{hint} Name their right unit, or "
        "choose another source or variable."
    )


def db_from_linear(power):
    """Backscatter, dB, of linear power (m2 m-2), 10 log10(power); NaN where that is not positive.

    Examples
    --------
    >>> db_from_linear(np.array([1.0, 0.1, 0.0]))
    array([  0., -10.,  nan])
    """
    power = np.asarray(power)
    positive = np.where(power > 0, power, np.nan)
    return 10 * np.log10(positive)


def linear_from_db(backscatter_db):
    """Linear power (sigma nought, m2 m-2) of backscatter in dB, 10^(dB / 10).

    Examples
    --------
    >>> linear_from_db(np.array([0.0, -10.0]))
    array([1. , 0.1])
    """
    return 10 ** (np.asarray(backscatter_db) / 10)


def volumetric_from_water_depth(water_mm, *, layer_mm):
    """Volumetric soil moisture, m3 m-3, of a water depth [mm or kg m-2] in a layer [mm].

    One mm of water is one kg m-2 at 1000 kg m-3: GLDAS's 0-10 cm layer has ``layer_mm=100``,
    SMAP's 5 cm has ``layer_mm=50`` (Batchu et al., 2b3).

    Examples
    --------
    >>> volumetric_from_water_depth(np.array([25.0]), layer_mm=100)
    array([0.25])
    """
    return np.asarray(water_mm) / layer_mm


def normalised_difference(first, second):
    """(first - second) / (first + second), NaN where the sum is not positive.

    Of reflectances in the infrared and the red it is the NDVI: Tucker (1979),
    doi:10.1016/0034-4257(79)90013-0.

    Examples
    --------
    >>> normalised_difference(np.array([0.4, 0.0]), np.array([0.1, 0.0])).round(2)
    array([0.6, nan])
    """
    total = first + second
    return (first - second) / np.where(total > 0, total, np.nan)
