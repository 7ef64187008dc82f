"""What stays: terrain, texture, parcels, land cover, patterns of moisture, the canopy."""

from dataclasses import dataclass, replace

import numpy as np

from soilkit import retention
from soilkit.world import noise
from soilkit.world import parameters as c
from soilkit.world.climate import climate

# Vegetation types behind the Copernicus classes: a row each of lowest and highest NDVI, winter
# floor (evergreen), stem water kg m-2.
TYPES = (
    "bare", "grass", "shrub", "summer crop", "winter crop", "evergreen", "deciduous", "built",
    "water",
)  # fmt: skip
LAKE = 80  # Copernicus code of permanent water
NDVI_LOW = np.array([0.10, 0.17, 0.15, 0.14, 0.15, 0.55, 0.30, 0.18, 0.05])
NDVI_SPAN = np.array([0.08, 0.50, 0.30, 0.72, 0.66, 0.30, 0.58, 0.25, 0.0])
STEM_WATER_KG_M2 = np.array([0.0, 0.0, 0.6, 0.0, 0.0, 7.0, 6.0, 0.5, 0.0])
CANOPY = np.array([-1.0, 0.2, -0.6, 0.0, 0.1, 0.9, 0.9, -0.8, 0.0])  # shade and litter keep water


@dataclass(frozen=True)
class Ground:
    """Static properties at points, arrays of one shape (see ``Surface`` for units)."""

    sand_percent: np.ndarray
    silt_percent: np.ndarray
    clay_percent: np.ndarray
    clay_deviation_percent: np.ndarray
    bulk_density_g_cm3: np.ndarray
    organic_percent: np.ndarray
    porosity: np.ndarray  # the saturated water content of the retention curve
    elevation_m: np.ndarray
    slope_east: np.ndarray
    slope_north: np.ndarray
    wetness: np.ndarray  # topographic, standardised
    land_cover: np.ndarray
    vegetation: np.ndarray  # index into TYPES
    parcel: np.ndarray  # uniform (0, 1), one number a parcel
    roughness_cm: np.ndarray
    irrigated: np.ndarray  # 0 or 1


def ground(seed: int, *axes) -> Ground:
    """Static properties of the ground at points of the world.

    Parameters
    ----------
    axes : u_m and v_m, arrays of one shape, m (EPSG:6933)

    Returns
    -------
    Ground, arrays of that shape
    """
    place = tuple(np.asarray(axis, float) for axis in axes)
    terrain = _terrain(seed, place)
    sand, silt, clay, deviation = _texture(seed, place)
    wobble = noise.smooth(
        noise.key(seed, "density"), place, scale_m=c.BULK_DENSITY_SCALE_M, zero_mean=True
    )
    density = c.BULK_DENSITY_G_CM3 + c.BULK_DENSITY_PER_SAND * (sand - 40)
    density = density + c.BULK_DENSITY_SD * wobble
    normals = climate(seed, place)
    organic = _organic(seed, place, normals)
    porosity = retention.from_texture(
        sand, clay, bulk_density_g_cm3=density, organic_percent=organic
    ).saturated
    parcel = _parcel(seed, place)
    cover, vegetation, irrigated = _cover(seed, place, normals, (terrain, parcel))
    rough = c.ROUGHNESS_CM["low"] + (c.ROUGHNESS_CM["high"] - c.ROUGHNESS_CM["low"]) * parcel
    height, east, north, wetness = terrain
    return Ground(
        sand_percent=sand, silt_percent=silt, clay_percent=clay,
        clay_deviation_percent=deviation, bulk_density_g_cm3=density,
        organic_percent=organic, porosity=porosity, elevation_m=height,
        slope_east=east, slope_north=north, wetness=wetness, land_cover=cover,
        vegetation=vegetation, parcel=parcel, roughness_cm=rough, irrigated=irrigated,
    )  # fmt: skip


@dataclass(frozen=True)
class Hydraulics:
    """Hydraulic properties at points: the retention curve, and conductivity in cm h-1."""

    curve: retention.Retention
    saturated_conductivity_cm_h: np.ndarray


def hydraulics(seed: int, place, *, ground: Ground) -> Hydraulics:
    """The ground's retention curve and conductivity: of its texture, and a residual beside it.

    Parameters
    ----------
    place : (u_m, v_m), arrays of one shape, m
    ground : Ground at these points; its porosity is the curve's saturated water content
    """
    words = {
        "bulk_density_g_cm3": ground.bulk_density_g_cm3,
        "organic_percent": ground.organic_percent,
    }
    texture = ground.sand_percent, ground.clay_percent
    curve = retention.from_texture(*texture, **words)

    def rest(name):
        return sum(
            weight * noise.smooth(noise.key(seed, name, scale), place, scale_m=scale)
            for scale, weight in c.HYDRAULIC_OCTAVES_M
        )

    return Hydraulics(
        replace(
            curve,
            saturated=ground.porosity,
            alpha_per_cm=curve.alpha_per_cm * np.exp(c.LOG_ALPHA_SD * rest("alpha")),
            n=1 + (curve.n - 1) * np.exp(c.LOG_N_SD * rest("n")),
        ),
        retention.saturated_conductivity_cm_h(*texture, **words)
        * np.exp(c.LOG_KSAT_SD * rest("ksat")),
    )


def _organic(seed, place, normals):
    """Organic matter, %: more where more rain falls."""
    wet = (normals.precipitation_mm - c.PRECIPITATION_MM) / c.PRECIPITATION_EAST_MM
    rest = noise.smooth(noise.key(seed, "organic"), place, scale_m=c.ORGANIC_SCALE_M)
    return np.clip(
        c.ORGANIC_PERCENT * np.exp(c.ORGANIC_PER_RAIN * wet + c.ORGANIC_SD * rest), 0.4, 8.0
    )


def elevation_m(seed: int, place) -> np.ndarray:
    """Height of the ground at points of the world, m: that of ``ground``, without all the rest."""
    height = _tilt_m(place[0])
    for index, (scale, sd) in enumerate(c.ELEVATION_OCTAVES):
        octave = noise.key(seed, "elevation", index)
        height = height + sd * noise.smooth(octave, place, scale_m=scale)
    return height


def _tilt_m(u_m):
    return c.ELEVATION_MEAN_M - c.ELEVATION_RISE_WEST_M * (u_m - c.CENTRE_U_M) / c.HALF_U_M


def _terrain(seed, place):
    """Elevation, slopes per real metre and the wetness index of the finest octaves."""
    u_m, v_m = place
    height = _tilt_m(u_m)
    east = np.full(np.shape(place[0]), -c.ELEVATION_RISE_WEST_M / c.HALF_U_M)
    north = np.zeros(np.shape(place[0]))
    fine_east, fine_north, bend = np.zeros((3, *np.shape(place[0])))
    for index, (scale, sd) in enumerate(c.ELEVATION_OCTAVES):
        jet = noise.smooth_jet(noise.key(seed, "elevation", index), place, scale_m=scale)
        height = height + sd * jet.value
        east, north = east + sd * jet.du, north + sd * jet.dv
        if index >= len(c.ELEVATION_OCTAVES) - c.N_WETNESS_OCTAVES:
            fine_east, fine_north = fine_east + sd * jet.du, fine_north + sd * jet.dv
            bend = bend + sd * (jet.duu + jet.dvv)
    stretch = plane_stretch(v_m)
    wetness = _wetness(np.hypot(fine_east, fine_north), bend)
    return height, east * stretch, north / stretch, wetness


def plane_stretch(v_m):
    """Metres of the plane to one metre on the ground, west to east: cos 30 / cos latitude."""
    sine = np.clip(np.asarray(v_m) * np.cos(np.pi / 6) / c.EARTH_RADIUS_M, -0.999, 0.999)
    return np.cos(np.pi / 6) / np.sqrt(1 - sine**2)


def _slope_moments():
    """Standard deviations of the fine slope (per axis) and curvature, from the octaves."""
    spline = {0: 151 / 315, 1: 2 / 3, 2: 8 / 3}  # integrals of B3, B3' and B3'' squared
    slope = bend = 0.0
    for scale, sd in c.ELEVATION_OCTAVES[-c.N_WETNESS_OCTAVES :]:
        slope += (sd / scale) ** 2 * spline[1] / spline[0]
        bend += 2 * (sd / scale**2) ** 2 * (spline[2] / spline[0] + (spline[1] / spline[0]) ** 2)
    return np.sqrt(slope), np.sqrt(bend)


def _wetness(slope, bend):
    """Hollows and flats are wet: (-ln slope + curvature) / 2, each of zero mean and unit variance.

    The slope of two Gaussian components is Rayleigh distributed: E ln s is ln(sd) +
    (ln 2 - 0.5772) / 2 and the sd of ln s is pi / sqrt(24). After Beven and Kirkby (1979),
    doi:10.1080/02626667909491834.
    """
    slope_sd, bend_sd = _slope_moments()
    mean = np.log(slope_sd) + (np.log(2) - 0.5772) / 2
    flat = -(np.log(np.maximum(slope, c.MIN_SLOPE)) - mean) / (np.pi / np.sqrt(24))
    return (np.clip(flat, -2.5, 2.5) + bend / bend_sd) / np.sqrt(2)


def _texture(seed, place):
    ratios, coarse = [], []
    for name, start in (("sand", c.SAND_LOG_RATIO), ("clay", c.CLAY_LOG_RATIO)):
        ratio = np.full(np.shape(place[0]), start)
        for scale, sd in c.TEXTURE_COARSE_OCTAVES:
            ratio += sd * noise.smooth(noise.key(seed, name, scale), place, scale_m=scale)
        coarse.append(ratio.copy())
        for scale, sd in c.TEXTURE_FINE_OCTAVES:
            octave = noise.key(seed, name, scale)
            ratio += sd * noise.smooth(octave, place, scale_m=scale, zero_mean=True)
        ratios.append(ratio)
    sand, clay = _fractions(*ratios)
    return sand, 100 - sand - clay, clay, clay - _fractions(*coarse)[1]


def _fractions(sand_ratio, clay_ratio):
    sand, clay = np.exp(sand_ratio), np.exp(clay_ratio)
    total = 1 + sand + clay
    return 100 * sand / total, 100 * clay / total


def _parcel(seed, place):
    """One uniform number a parcel: a section is whole, halved or quartered."""
    u_m, v_m = place
    i, j = np.floor(u_m / c.PARCEL_M), np.floor(v_m / c.PARCEL_M)
    cut = noise.uniform(noise.key(seed, "parcel cut"), (i, j))
    half_i = np.where(cut > 0.4, np.floor(2 * u_m / c.PARCEL_M) - 2 * i, 0)
    half_j = np.where(cut > 0.75, np.floor(2 * v_m / c.PARCEL_M) - 2 * j, 0)
    return noise.uniform(noise.key(seed, "parcel"), (2 * i + half_i, 2 * j + half_j))


def _cover(seed, place, normals, ground):
    """Copernicus class, vegetation type and irrigation from climate, terrain and parcel."""
    terrain, parcel = ground
    steep = np.hypot(terrain[1], terrain[2]) / 0.02
    patch = 0.8 * noise.smooth(noise.key(seed, "cover"), place, scale_m=5_000)
    patch = patch + 0.5 * noise.smooth(noise.key(seed, "cover fine"), place, scale_m=900)
    wet = (normals.precipitation_mm - 720) / 250 - 0.3 * (normals.temperature_c - 13) / 5
    forest = 0.9 * wet + 0.45 * steep + patch - 1.2
    crop = 1.1 - 0.6 * steep - 0.8 * patch - 0.5 * np.abs(wet)
    cold = normals.temperature_c < 12
    cover = np.where(wet + 0.3 * patch > -0.9, 30, 20)
    cover = np.where(crop > 0.60, 40, cover)
    cover = np.where(forest > 0.2, np.where(cold, 121, 124), cover)
    cover = np.where(forest > 0.8, np.where(cold, 111, 114), cover)
    cover = np.where((wet < -1.2) & (patch < -1.1), 60, cover)
    cover = np.where((terrain[3] > 1.9) & (wet > -0.2) & (forest < 0.8), 90, cover)
    cover = np.where(parcel > 0.992, 50, cover)
    basin = noise.smooth(noise.key(seed, "lake"), place, scale_m=c.LAKE_SCALE_M)
    flat = np.hypot(terrain[1], terrain[2]) < c.LAKE_MAX_SLOPE
    cover = np.where((basin > c.LAKE_ABOVE_SD) & flat & (wet > -1.2), LAKE, cover)
    lookup = {20: 2, 30: 1, 40: 3, 50: 7, 60: 0, 80: 8, 90: 1, 111: 5, 121: 5, 114: 6, 124: 6}
    vegetation = np.select([cover == code for code in lookup], list(lookup.values()), 1)
    vegetation = np.where((cover == 40) & (parcel * 7 % 1 < 0.35), 4, vegetation)
    share = np.interp(wet, [-1.5, 1.0], [c.IRRIGATED_FRACTION_DRY, c.IRRIGATED_FRACTION_WET])
    irrigated = (vegetation == 3) & (parcel * 13 % 1 < share)
    return cover.astype(np.int16), vegetation.astype(np.int8), irrigated.astype(float)


@dataclass(frozen=True)
class Pattern:
    """Fine patterns of moisture at points; every one has zero mean over a 9 km cell.

    ``deviation`` has unit variance, ``gain`` multiplies how far the state is from its middle,
    ``fast`` how much sooner a point dries, ``storms`` (pattern, ...) what storms leave behind.
    """

    deviation: np.ndarray
    gain: np.ndarray
    fast: np.ndarray
    storms: np.ndarray


def pattern(seed: int, place, *, ground: Ground) -> Pattern:
    """Fine patterns of moisture at points of the world (see ``Pattern``)."""
    weights = c.FINE_WEIGHTS
    known = (
        weights["clay"] * ground.clay_deviation_percent / _clay_deviation_sd()
        + weights["wetness"] * ground.wetness
    )
    rest = np.sqrt(1 - weights["clay"] ** 2 - weights["wetness"] ** 2)
    deviation = known + rest * _octaves(seed, "residual", place, c.RESIDUAL_OCTAVES)
    storms = [
        noise.smooth(noise.key(seed, "storm", k), place, scale_m=c.STORM_SCALE_M, zero_mean=True)
        for k in range(c.STORM_PATTERNS)
    ]
    return Pattern(
        deviation,
        _octaves(seed, "gain", place, c.GAIN_OCTAVES),
        _octaves(seed, "fast", place, c.FAST_OCTAVES),
        np.stack(storms),
    )


def _clay_deviation_sd():
    """A typical clay fraction of 22 % changes by p (1 - p) for a unit change of its log ratio."""
    ratio_sd = np.sqrt(sum(sd**2 for _, sd in c.TEXTURE_FINE_OCTAVES))
    return 100 * ratio_sd * 0.22 * np.hypot(0.78, 0.41)


def _octaves(seed, name, place, octaves):
    total = 0.0
    for scale, sd in octaves:
        octave = noise.key(seed, name, scale)
        total = total + sd * noise.smooth(octave, place, scale_m=scale, zero_mean=True)
    return total


def vigour(seed: int, place) -> np.ndarray:
    """How much greener than its type a point is, relative, of zero mean."""
    return c.VIGOUR_SD * noise.smooth(noise.key(seed, "vigour"), place, scale_m=150, zero_mean=True)


# The canopy: from greenness to NDVI, leaf area and water.


def phenology(day_of_year) -> np.ndarray:
    """What fraction of its greenness each vegetation type shows on a day, 0-1, shape (..., type).

    Summer crops emerge in May and are harvested in September, winter crops in June; the rest
    follows warmth and water alone.
    """
    day = np.asarray(day_of_year, float)
    season = np.ones((*day.shape, len(TYPES)))
    season[..., TYPES.index("summer crop")] = np.interp(
        day, [0, 130, 190, 245, 275, 366], [0.05, 0.05, 1.0, 1.0, 0.08, 0.05]
    )
    season[..., TYPES.index("winter crop")] = np.interp(
        day, [0, 60, 100, 150, 178, 285, 320, 366], [0.9, 0.9, 1.2, 1.2, 0.1, 0.1, 0.8, 0.9]
    )
    return season


def ndvi_by_type(greenness, day_of_year) -> np.ndarray:
    """NDVI of every vegetation type, low + span x greenness x phenology, shape (..., type)."""
    green = np.asarray(greenness)[..., None]
    return NDVI_LOW + NDVI_SPAN * green * phenology(day_of_year)


def lai(ndvi):
    """Leaf area index from NDVI, -ln((N_full - N) / (N_full - N_soil)) / K (Baret and Guyot 1991).

    Examples
    --------
    >>> lai(np.array([0.12, 0.5, 0.85])).round(1)
    array([-0. ,  1. ,  3.4])
    """
    left = np.clip((c.NDVI_FULL - ndvi) / (c.NDVI_FULL - c.NDVI_SOIL), 0.02, 1.0)
    return -np.log(left) / c.LAI_EXTINCTION


def water(ndvi, stem_kg_m2):
    """Vegetation water content, 1.9134 N^2 - 0.3215 N + stems, kg m-2 (Jackson 1999; SMAP ATBD).

    Parameters
    ----------
    ndvi : array
    stem_kg_m2 : array, kg m-2
    """
    return np.maximum(1.9134 * ndvi**2 - 0.3215 * ndvi, 0.0) + stem_kg_m2
