"""Strata: USDA texture, the paper's land-cover names, Koeppen classes, and which are too small."""

import re

import numpy as np
import pandas as pd

from soilkit.errors import ContractError, UnknownNameError

MIN_STATIONS = 5  # classes below are marked with an asterisk: seed tables 10-12
UNKNOWN = ""

# Copernicus Global Land Cover codes (Buchhorn et al. 2020, doi:10.5281/zenodo.3939050) to the
# names of Batchu et al. (2022), arXiv:2206.09649, Table 10; it names no class for the rest.
LAND_COVER_NAMES = {
    20: "Shrubs",
    30: "Vegetation",
    40: "Agriculture",
    50: "Built-up",
    60: "Bareground",
    90: "Wetland",
    **dict.fromkeys(range(111, 117), "Closed forest"),
    **dict.fromkeys(range(121, 127), "Open forest"),
    **dict.fromkeys((70, 80, 100, 200), "Other"),
}
# The same names for ESA's Climate Change Initiative legend, which ISMN's static variables speak
# (ESA 2017, Land Cover CCI Product User Guide 2.0, table 3-1).
CCI_NAMES = {
    **dict.fromkeys((10, 11, 12, 20, 30), "Agriculture"),
    **dict.fromkeys((61, 71, 81), "Closed forest"),
    # "Closed to open (> 15 %)" promises no more than the paper's open forest.
    **dict.fromkeys((50, 60, 62, 70, 72, 80, 82, 90, 100), "Open forest"),
    **dict.fromkeys((40, 110, 130), "Vegetation"),
    **dict.fromkeys((120, 121, 122), "Shrubs"),
    **dict.fromkeys((150, 151, 152, 153, 200, 201, 202), "Bareground"),
    **dict.fromkeys((160, 170, 180), "Wetland"),
    190: "Built-up",
    **dict.fromkeys((140, 210, 220), "Other"),
}
LEGENDS = {"copernicus": LAND_COVER_NAMES, "cci": CCI_NAMES}
# The same again for that legend's words: the first pattern that fits their beginning counts.
CCI_WORDS = {
    "cropland|mosaic cropland": "Agriculture",
    "(tree|shrub) .*flooded": "Wetland",
    r"tree cover.* closed \(": "Closed forest",
    "tree cover|mosaic tree|forest, closed to open": "Open forest",
    "mosaic natural|mosaic herb|grassland": "Vegetation",
    "shrubland": "Shrubs",
    "sparse|(un)?consolidated|bare": "Bareground",
    "urban": "Built-up",
    "lichens|water|permanent": "Other",
}

# Codes of Koeppen-Geiger maps: Beck et al. (2018), doi:10.1038/sdata.2018.214
KOEPPEN_CODES = {
    "Af": 1, "Am": 2, "Aw": 3, "BWh": 4, "BWk": 5, "BSh": 6, "BSk": 7, "Csa": 8, "Csb": 9,
    "Csc": 10, "Cwa": 11, "Cwb": 12, "Cwc": 13, "Cfa": 14, "Cfb": 15, "Cfc": 16, "Dsa": 17,
    "Dsb": 18, "Dsc": 19, "Dsd": 20, "Dwa": 21, "Dwb": 22, "Dwc": 23, "Dwd": 24, "Dfa": 25,
    "Dfb": 26, "Dfc": 27, "Dfd": 28, "ET": 29, "EF": 30,
}  # fmt: skip

# Triangle of the USDA Soil Survey Manual (2017), chapter 3; the first rule that holds names the
# class, so that a boundary belongs to one class only. s, i, c: sand, silt, clay in percent.
TEXTURE_RULES = (
    ("Sand", lambda s, i, c: i + 1.5 * c < 15),
    ("Loamy sand", lambda s, i, c: i + 2 * c < 30),
    ("Silt", lambda s, i, c: (i >= 80) & (c < 12)),
    ("Silty clay", lambda s, i, c: (c >= 40) & (i >= 40)),
    ("Clay", lambda s, i, c: (c >= 40) & (s <= 45)),
    ("Sandy clay", lambda s, i, c: (c >= 35) & (s > 45)),
    ("Silty clay loam", lambda s, i, c: (c >= 27) & (s <= 20)),
    ("Clay loam", lambda s, i, c: (c >= 27) & (s <= 45)),
    ("Sandy clay loam", lambda s, i, c: (c >= 20) & (i < 28) & (s > 45)),
    ("Silt loam", lambda s, i, c: i >= 50),
    ("Loam", lambda s, i, c: (c >= 7) & (s <= 52)),
    ("Sandy loam", lambda s, i, c: np.isfinite(s)),
)


def texture_class(sand, silt, *, clay):
    """USDA texture class of sand, silt and clay fractions (any common unit), renormalised to one.

    Each fraction enters as f / (sand + silt + clay), because mapped fractions are predicted apart
    and rarely sum to one. Class limits are those of the USDA triangle [1]_; text of the same shape,
    empty where a fraction is missing, negative, or all are zero.

    References
    ----------
    .. [1] Soil Science Division Staff (2017), Soil Survey Manual, USDA Handbook 18, chapter 3

    Examples
    --------
    >>> texture_class([400, 900], [400, 50], clay=[200, 50]).tolist()
    ['Loam', 'Sand']
    """
    parts = np.stack(np.broadcast_arrays(sand, silt, clay)).astype(float)  # (3, ...)
    total = parts.sum(axis=0)
    good = np.isfinite(total) & (parts >= 0).all(axis=0) & (total > 0)
    percent = np.where(good, 100 * parts / np.where(good, total, 1), np.nan)
    names = [name for name, _ in TEXTURE_RULES]
    return np.select([rule(*percent) for _, rule in TEXTURE_RULES], names, default=UNKNOWN)


def land_cover_class(codes, *, legend="copernicus"):
    """Names of land-cover codes as the paper's Table 10 groups them [1]_; empty where unknown.

    The stations table holds these names, because one code means different things in two legends:
    "copernicus" (Copernicus 100 m) or "cci" (ESA CCI, in ISMN's static variables); another raises
    ``UnknownNameError``. Unknown and missing codes are allowed, names stay, and the words of the
    CCI legend, as ISMN writes them, are read.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, Table 10

    Examples
    --------
    >>> land_cover_class([40, 114, 0]).tolist()
    ['Agriculture', 'Closed forest', '']
    """
    if legend not in LEGENDS:
        raise UnknownNameError(f"No legend {legend!r}; there are {', '.join(LEGENDS)}.")
    names = LEGENDS[legend]
    text = pd.Series(np.asarray(codes, dtype=object).ravel(), dtype=object)
    numbers = pd.to_numeric(text, errors="coerce")

    def of_word(word):
        if word in LAND_COVER_NAMES.values():
            return word
        words = str(word).strip().lower()
        return next((name for p, name in CCI_WORDS.items() if re.match(p, words)), UNKNOWN)

    classes = [names.get(n) or of_word(t) for t, n in zip(text, numbers, strict=True)]
    return np.array(classes, dtype=object).astype(str)


def koeppen_pair(classes):
    """The first two letters of Koeppen classes, the stratum of the paper's Table 12, or empty.

    Examples
    --------
    >>> koeppen_pair(["BSk", "Cfa", None]).tolist()
    ['BS', 'Cf', '']
    """
    text = pd.Series(classes, dtype=object).fillna(UNKNOWN).astype(str).str.strip()
    return text.str[:2].to_numpy(dtype=object).astype(str)


def mark_small(names, n_stations):
    """Class names with an asterisk where fewer than five stations stand behind them.

    Examples
    --------
    >>> mark_small(["Loam", "Sand"], [17, 4])
    ['Loam', 'Sand*']
    """
    pairs = zip(names, n_stations, strict=True)
    return [f"{name}*" if n < MIN_STATIONS else str(name) for name, n in pairs]


def koeppen(temperature_c, precipitation_mm):
    """Koeppen-Geiger class, as "Cfa", of a monthly climatology, as revised by Peel et al. [1]_.

    E where the warmest month stays below 10 degrees C; B where the annual precipitation is below
    ten times a threshold of 2 T + 28, 2 T or 2 T + 14 as 70 % of it falls in the warm half-year, in
    the cold half-year, or neither; else A, C, D by the coldest month (18 and 0 degrees C). The warm
    half-year is the warmer one of April-September and October-March. Means [degrees C] and sums
    [mm] of the months from January are (..., 12), or ``ContractError`` is raised.

    References
    ----------
    .. [1] Peel et al. (2007), doi:10.5194/hess-11-1633-2007, Table 1

    Examples
    --------
    >>> warm = 15 - 10 * np.cos(2 * np.pi * np.arange(12) / 12)
    >>> str(koeppen(warm, np.full(12, 80.0)))
    'Cfa'
    """
    t, p = np.broadcast_arrays(
        np.asarray(temperature_c, float), np.asarray(precipitation_mm, float)
    )
    if t.shape[-1:] != (12,):
        raise ContractError(f"A climatology has 12 months on its last axis, found shape {t.shape}.")
    # Summer in months 3-8: a southern year starts half a year later.
    is_north = t[..., 3:9].mean(axis=-1) >= t[..., [9, 10, 11, 0, 1, 2]].mean(axis=-1)
    t, p = (np.where(is_north[..., None], v, np.roll(v, 6, axis=-1)) for v in (t, p))
    annual, mean, warmest, coldest = p.sum(-1), t.mean(-1), t.max(-1), t.min(-1)
    summer, winter = p[..., 3:9], p[..., [9, 10, 11, 0, 1, 2]]
    rain_in = [half.sum(axis=-1) >= 0.7 * annual for half in (winter, summer)]
    threshold_mm = 10 * (2 * mean + np.select(rain_in, [0, 28], 14))
    arid = np.where(annual < 0.5 * threshold_mm, "BW", "BS").astype(object)
    arid, driest = arid + np.where(mean >= 18, "h", "k"), p.min(axis=-1)
    tropical = np.select([driest >= 60, driest >= 100 - annual / 25], ["Af", "Am"], "Aw")
    # The dry season: s, w or f; where both hold, the half with less rain is the dry one.
    s = (summer.min(-1) < 40) & (summer.min(-1) < winter.max(-1) / 3)
    w = winter.min(-1) < summer.max(-1) / 10
    drier_summer = summer.sum(-1) <= winter.sum(-1)
    season = np.select([s & (~w | drier_summer), w & (~s | ~drier_summer)], ["s", "w"], "f")
    heat = [warmest >= 22, (t >= 10).sum(-1) >= 4, coldest < -38]
    rest = np.where(coldest > 0, "C", "D").astype(object) + season.astype(object)
    rest = rest + np.select(heat, ["a", "b", "d"], "c")
    named = (UNKNOWN, np.where(warmest > 0, "ET", "EF"), arid, tropical)
    known = np.isfinite(t).all(axis=-1) & np.isfinite(p).all(axis=-1)
    classes = np.select(
        [~known, warmest < 10, annual < threshold_mm, coldest >= 18],
        [np.asarray(names, object) for names in named],
        rest,
    )
    return classes.astype(str)
