"""Every constant of the synthetic world's state, with its source, and a hash over them all.

They are fixed from the literature and from what the acceptance table of the design asks for. They
were frozen before any model was trained, and ``constants_hash`` is recorded in a test: whoever
changes one makes another world, and says so.
"""

import hashlib
import importlib
import json
import pkgutil
from dataclasses import asdict, is_dataclass
from functools import lru_cache
from typing import Any

import numpy as np

# Where the world lies: longitudes and latitudes are carriers only, the world is invented.
WEST, EAST, SOUTH, NORTH = -104.0, -92.0, 32.0, 44.0
EARTH_RADIUS_M = 6_371_007.0  # authalic sphere
CENTRE_U_M, CENTRE_V_M = -9_455_600.0, 4_529_000.0  # EPSG:6933, middle of the domain
HALF_U_M, HALF_V_M = 579_000.0, 606_000.0

# Elevation: a plain that rises to the west, and octaves (knot distance m, sd m) whose slopes fall
# off as in fractal terrain of dimension about 2.3 (Turcotte 1997, ISBN 9780521567336).
ELEVATION_MEAN_M, ELEVATION_RISE_WEST_M = 700.0, 550.0
ELEVATION_OCTAVES = (
    (150_000, 90.0),
    (35_000, 40.0),
    (9_000, 18.0),
    (2_400, 9.0),
    (700, 3.0),
    (200, 0.7),
)
N_WETNESS_OCTAVES = 3  # the finest octaves make the wetness index, so that cells keep their mean
MIN_SLOPE = 0.001

# Texture: log ratios of sand and clay to silt, a logistic normal (Aitchison 1982,
# doi:10.1111/j.2517-6161.1982.tb01195.x); octaves (knot distance m, sd); the fine ones have no
# mean over a cell. Spread: Hengl 2017, doi:10.1371/journal.pone.0169748.
SAND_LOG_RATIO, CLAY_LOG_RATIO = 0.10, -0.70
TEXTURE_COARSE_OCTAVES = ((90_000, 0.45), (25_000, 0.40))
TEXTURE_FINE_OCTAVES = ((2_800, 0.25), (800, 0.17), (220, 0.08))
BULK_DENSITY_G_CM3, BULK_DENSITY_PER_SAND = 1.36, 0.004
BULK_DENSITY_SD, BULK_DENSITY_SCALE_M = 0.06, 4_000
PARTICLE_DENSITY_G_CM3 = 2.65

# Parcels: quarter sections of about half a mile, halved or quartered by chance.
PARCEL_M = 800.0
ROUGHNESS_CM = {"low": 0.6, "high": 1.6, "tillage": 1.2}  # Baghdadi 2016, doi:10.3390/rs8110920
TILLAGE_DECAY_DAYS = 60.0  # Zobeck and Onstad 1987, doi:10.1016/0167-1987(87)90015-8
IRRIGATED_FRACTION_DRY, IRRIGATED_FRACTION_WET = 0.35, 0.04
SURFACE_IRRIGATION_TARGET = 0.85  # of field capacity; Lawston 2017, doi:10.1002/2017GL075733

# Organic matter rises with rain: Jobbagy and Jackson 2000,
# doi:10.1890/1051-0761(2000)010[0423:TVDOSO]2.0.CO;2.
ORGANIC_PERCENT, ORGANIC_PER_RAIN, ORGANIC_SD, ORGANIC_SCALE_M = 2.0, 0.35, 0.25, 6_000
# What texture does not tell of a retention curve and of conductivity: natural logarithms; Schaap
# 2001, doi:10.1016/S0022-1694(01)00466-8, Table 3.
LOG_ALPHA_SD, LOG_N_SD, LOG_KSAT_SD = 0.45, 0.20, 1.5
HYDRAULIC_OCTAVES_M = ((20_000, 0.70), (1_500, 0.71))

# Lakes lie in flat country that is not the driest: about a hundredth of the land, as in the Global
# Lakes and Wetlands Database (Lehner and Doell 2004, doi:10.1016/j.jhydrol.2004.03.028).
LAKE_SCALE_M, LAKE_ABOVE_SD, LAKE_MAX_SLOPE = 2_500, 2.15, 0.012

# Climate: a Great-Plains-like gradient (Rubel 2017, doi:10.1127/metz/2016/0816).
PRECIPITATION_MM, PRECIPITATION_EAST_MM, PRECIPITATION_SD_MM = 670.0, 420.0, 70.0
WET_DAY_PROBABILITY, WET_DAY_EAST = 0.27, 0.05
WET_SEASONALITY_NORTHWEST, WET_SEASONALITY_SOUTHEAST = 0.75, 0.20
WETTEST_DAY = 160.0
RAIN_OCTAVES_M = ((140_000, 0.86), (38_000, 0.51))
RAIN_PERSISTENCE = 0.35  # Wilks 1999, doi:10.1016/S0168-1923(99)00037-4
# Spells of weeks give the 10-day memory of US stations (lag-1 0.74-0.75 over 94 of them).
SPELL_SD, SPELL_DAYS, SPELL_SCALE_M = 0.55, 35, 450_000
RAIN_TAIL = 1.25  # exponent on an exponential amount
TEMPERATURE_C, TEMPERATURE_NORTH_C, LAPSE_C_M = 12.2, -7.0, 0.0055
SEASON_AMPLITUDE_C, SEASON_AMPLITUDE_NORTH_C = 12.2, 2.2
WARMEST_DAY = 202.0
WEATHER_SD_C, WEATHER_MEMORY, WEATHER_SCALE_M = 3.8, 0.7, 400_000
DIURNAL_AMPLITUDE_C = 5.0
SOIL_DAMPING, SOIL_MEMORY_DAYS = 0.85, 4.0
SNOW_THRESHOLD_C, MELT_MM_PER_C_DAY = 0.5, 3.0  # Hock 2003, doi:10.1016/S0022-1694(03)00257-9
SNOW_INSULATION_MM = 15.0
SNOW_COVER_MM = 8.0  # covers 1 - 1/e of the ground: Zaitchik 2009, doi:10.1175/2008JHM1042.1

# The skin of the ground under the sun, C above the air: bare and vegetated, wet and what dryness
# adds; the corners of the trapezoid of Moran 1994, doi:10.1016/0034-4257(94)90020-5.
SKIN_BARE_C, SKIN_BARE_DRY_C = 3.0, 20.0
SKIN_GREEN_C, SKIN_GREEN_DRY_C = 1.0, 6.0
SKIN_NIGHT_C = -2.0

# Four-layer bucket. Dry-down of 5-15 d: McColl 2017, doi:10.1002/2017GL074067; Shellito 2016.
LAYER_MM = (50.0, 100.0, 250.0, 600.0)
LAYER_KNOTS_M = (0.05, 0.10, 0.275, 0.70)  # where a probe reads each layer alone
ROOT_FRACTION = (0.0, 0.50, 0.35, 0.15)  # of grass and crops: Jackson 1996, doi:10.1007/BF00333714
DRY_FRACTION_OF_WILTING = 0.25
ROOT_WEIGHT, ROOT_UPTAKE = 0.95, 1.15  # uptake: FAO 56 crop coefficient at mid-season
DRYDOWN_DAYS, DRYDOWN_CLAY_DAYS = 4.5, 0.10
FAST_FACTOR = 2.2
REFERENCE_PET_MM, LEAST_DRYING = 4.0, 0.30
DRAIN_DAYS = (0.8, 1.0, 2.0, 12.0)
# Water that the wetter of two neighbours gives the drier a day, mm at full against empty; set, as
# the next two, by what probes at 5, 10, 20 and 50 cm have in common at 130 US stations.
EXCHANGE_MM = (1.0, 2.0, 1.0)
TARGET_WEIGHTS = (0.0, 0.55, 0.30, 0.15)  # of the layers, in what the surface dries to
PATTERN_SHARE = (1.0, 0.7, 0.3, 0.0)  # of the surface's patterns, in each layer
IRRIGATION_SHARE = (1.0, 0.8, 0.6, 0.4)  # of what the surface lacks, by layer
# Of the coarse state: soil structure and organic matter that no texture tells.
WETNESS_RESIDUAL_SD = 0.045
WETNESS_RESIDUAL_OCTAVES_M = ((120_000, 0.70), (22_000, 0.71))

# Fine scale. sd(mean) = k mean exp(-mean / PEAK_MEAN): Famiglietti 2008, doi:10.1029/2006WR005804.
PEAK_MEAN_M3_M3, PEAK_SD_M3_M3 = 0.18, 0.050
FINE_WEIGHTS = {"clay": 0.34, "wetness": 0.40, "canopy": 0.15}  # the residual takes the rest
RESIDUAL_OCTAVES = ((2_000, 0.45), (850, 0.45), (300, 0.47), (110, 0.47), (40, 0.38))
GAIN_OCTAVES = ((1_500, 0.12), (350, 0.08))
FAST_OCTAVES = ((1_500, 0.35), (500, 0.25))
STORM_PATTERNS, STORM_SCALE_M = 3, 3_000
STORM_SD, STORM_DECAY_DAYS = 0.009, 9.0
LEAST_MOISTURE_M3_M3, MOST_FILLED = 0.015, 0.99

# Vegetation. Greenness lags root-zone moisture by 2-4 weeks: Ji and Peters 2003,
# doi:10.1016/S0034-4257(03)00174-3. LAI: Baret and Guyot 1991, doi:10.1016/0034-4257(91)90009-U.
# Water: Jackson 1999 in the SMAP ATBD (O'Neill 2021), with a stem term.
GREENING_DAYS = 20.0
GREEN_FROM_C, GREEN_FULL_C = 3.0, 17.0
LAI_EXTINCTION, NDVI_SOIL, NDVI_FULL = 0.65, 0.12, 0.94
VIGOUR_SD = 0.08

# Probes: offset and noise, Seyfried 2004, doi:10.2136/vzj2004.1129.
PROBE_OFFSET_SD, REPLICATE_OFFSET_SD, PROBE_NOISE_SD = 0.03, 0.012, 0.005
FROZEN_FRACTION_READ = 0.55  # of the water, left liquid for the probe
BROKEN_EVERY, STUCK_EVERY, REPLICATE_EVERY, DEEP_EVERY = 23, 29, 6, 8
DEEP_M = (0.10, 0.20, 0.25, 0.50)
GAP_RATE_PER_YEAR, GAP_MEAN_DAYS = 2.5, 6.0

SPIN_UP_DAYS, MARGIN_DAYS = 455, 90
BLOCK_CELLS = 4
CODE_VERSION = 2


@lru_cache(maxsize=1)
def constants_hash() -> str:
    """SHA-256 of every constant of the world and its sensors, whichever module holds it."""
    package = importlib.import_module("soilkit.world")
    names = [m.name for m in pkgutil.walk_packages(package.__path__, "soilkit.world.")]
    constants = {
        f"{name}.{key}": value
        for name in sorted(names)
        for key, value in vars(importlib.import_module(name)).items()
        if key.isupper() and not _has_code(value)
    }
    text = json.dumps(constants, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _has_code(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else (value,)
    flat = [y for x in parts for y in (x if isinstance(x, tuple) else (x,))]
    return any(callable(x) and not is_dataclass(x) for x in flat)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.tolist() if isinstance(value, np.ndarray) else str(value)
