"""The moving half of the world: a two-layer bucket a 9 km cell, and what it means at a point.

The surface layer fills with rain, drains above field capacity and dries exponentially towards a
value that the root zone sets [1]_. At fine scale

    theta(x, t) = S + sd(S) z(x) + g(x) (S - S_mid) + f(x) (F - S) + sum_k a_k(t) p_k(x)
                  + irrigation

with S the coarse state between cell centres, F a bucket that dries faster, a_k what storms left,
and z, g, f, p_k patterns without a mean over a cell, so that S stays the mean of the fine values.
sd(S) = k S exp(-S / peak) [2]_.

References
----------
.. [1] McColl et al. (2017), doi:10.1002/2017GL074067
.. [2] Famiglietti et al. (2008), doi:10.1029/2006WR005804
"""

from dataclasses import dataclass

import numpy as np

from soilkit import retention
from soilkit.world import constants as c
from soilkit.world import fields, noise
from soilkit.world.weather import Weather

# What a block keeps a cell and day; the first ones jump with rain, the others run evenly.
JUMPING = ("surface", "fast", *(f"storm {k}" for k in range(c.STORM_PATTERNS)))
EVEN = ("root", "irrigation", "greenness", "temperature", "soil_temperature", "snow", "melt")
STATIC = ("middle", "irrigated_fraction", "canopy")
NAMES = JUMPING + EVEN + STATIC
INDEX = {name: number for number, name in enumerate(NAMES)}


@dataclass(frozen=True)
class Soil:
    """Hydraulic properties of cells, arrays (row, col), m3 m-3 but for clay."""

    clay_percent: np.ndarray
    dry: np.ndarray
    wilting: np.ndarray
    field_capacity: np.ndarray
    porosity: np.ndarray


def soil(seed: int, means, *, u_m, v_m) -> Soil:
    """Hydraulic properties from mean texture, and a residual that no texture map tells.

    Parameters
    ----------
    seed : int
    means : dict of sand_percent, clay_percent, porosity, arrays (row, col)
    u_m, v_m : array (row, col), m
    """
    sand, clay, porosity = (means[k] for k in ("sand_percent", "clay_percent", "porosity"))
    density = (1 - porosity) * c.PARTICLE_DENSITY_G_CM3
    curve = retention.from_texture(sand, clay, bulk_density_g_cm3=density)
    rest = sum(
        weight * noise.smooth(noise.key(seed, "soil", scale), (u_m, v_m), scale_m=scale)
        for scale, weight in c.WETNESS_RESIDUAL_OCTAVES_M
    )
    shift = c.WETNESS_RESIDUAL_SD * rest
    wilting = retention.water_content(retention.WILTING_POINT_CM, curve)
    capacity = retention.water_content(retention.FIELD_CAPACITY_CM, curve)
    return Soil(
        clay,
        np.clip(c.DRY_FRACTION_OF_WILTING * wilting + 0.5 * shift, 0.02, 0.25),
        np.clip(wilting + 0.7 * shift, 0.04, 0.30),
        np.clip(capacity + shift, 0.12, porosity - 0.06),
        porosity,
    )


def bucket(seed: int, weather: Weather, *, soil: Soil) -> dict[str, np.ndarray]:
    """Run the buckets day by day; each result (day, row, col) is the state at the day's start.

    Returns
    -------
    dict of "surface", "fast", "root" [m3 m-3] and "storm k" (unit variance where it rains often)
    """
    shape = weather.liquid_mm.shape
    state = {name: np.zeros(shape) for name in (*JUMPING, "root")}
    surface = fast = (soil.dry + soil.field_capacity) / 2
    root = (soil.wilting + soil.field_capacity) / 2
    storms = np.zeros((c.STORM_PATTERNS, *shape[1:]))
    kicks = noise.normal(noise.key(seed, "storms"), (weather.days[:, None], np.arange(len(storms))))
    rates = _drying_rates(weather, soil)
    for day in range(shape[0]):
        state["surface"][day], state["fast"][day], state["root"][day] = surface, fast, root
        for k, storm in enumerate(storms):
            state[f"storm {k}"][day] = storm
        wet = weather.liquid_mm[day]
        full = np.clip((root - soil.wilting) / (soil.field_capacity - soil.wilting), 0, 1)
        target = soil.dry + c.ROOT_WEIGHT * (soil.field_capacity - soil.dry) * full
        filled, left = _fill(surface, wet, soil)
        fast_filled, _ = _fill(fast, wet, soil)
        surface = target + (filled - target) * np.exp(-rates[day])
        fast = target + (fast_filled - target) * np.exp(-c.FAST_FACTOR * rates[day])
        root = _root_step(root, left, weather.pet_mm[day], soil)
        strength = 1.86 * (1 - np.exp(-wet / 8.0))
        storms = storms * np.exp(-1 / c.STORM_DECAY_DAYS) + strength * kicks[day][:, None, None]
    return state


def _drying_rates(weather, soil):
    days = c.DRYDOWN_DAYS + c.DRYDOWN_CLAY_DAYS * soil.clay_percent
    demand = c.LEAST_DRYING + (1 - c.LEAST_DRYING) * weather.pet_mm / c.REFERENCE_PET_MM
    return np.where(weather.soil_temperature_c < 0, 0.1, 1.0) * demand / days


def _fill(moisture, wet_mm, soil):
    """Rain enters while there is room; what stands above field capacity drains in a day or so."""
    room_mm = np.maximum(soil.porosity - moisture, 0.01) * c.SURFACE_DEPTH_MM
    into_mm = room_mm * (1 - np.exp(-wet_mm / room_mm))
    filled = moisture + into_mm / c.SURFACE_DEPTH_MM
    drained = np.maximum(filled - soil.field_capacity, 0) * (1 - np.exp(-1 / c.SURFACE_DRAIN_DAYS))
    return filled - drained, wet_mm - into_mm + drained * c.SURFACE_DEPTH_MM


def _root_step(root, left_mm, pet_mm, soil):
    stress = np.clip((root - soil.wilting) / (0.6 * (soil.field_capacity - soil.wilting)), 0, 1)
    root = root + (left_mm - c.ROOT_UPTAKE * pet_mm * stress) / c.ROOT_DEPTH_MM
    drained = np.maximum(root - soil.field_capacity, 0) * (1 - np.exp(-1 / c.ROOT_DRAIN_DAYS))
    return np.clip(root - drained, 0.5 * soil.wilting, soil.porosity)


def irrigation(state, weather: Weather, *, soil: Soil) -> np.ndarray:
    """Water that farmers add to an irrigated field's surface, m3 m-3 (day, row, col).

    In the growing season the surface is kept near a fraction of field capacity.
    """
    dates = weather.days.astype("datetime64[D]")
    day = (dates - dates.astype("datetime64[Y]")).astype(float)[:, None, None]
    season = np.clip(np.minimum((day - 120) / 20, (260 - day) / 20), 0, 1)
    lack = c.SURFACE_IRRIGATION_TARGET * soil.field_capacity - state["surface"]
    return season * np.maximum(lack, 0)


def greenness(state, weather: Weather, *, soil: Soil) -> np.ndarray:
    """How green the canopy is, 0-1 (day, row, col): late on root-zone moisture and warmth."""
    span = soil.field_capacity - soil.wilting
    moist = np.clip((state["root"] - soil.wilting) / (0.7 * span), 0, 1)
    warm = (weather.temperature_c - c.GREEN_FROM_C) / (c.GREEN_FULL_C - c.GREEN_FROM_C)
    target = (0.25 + 0.75 * moist) * np.clip(warm, 0, 1)
    keep = np.exp(-1 / c.GREENING_DAYS)
    green = np.empty_like(target)
    now = target[:60].mean(axis=0)
    for day in range(len(target)):
        green[day] = now
        now = keep * now + (1 - keep) * target[day]
    return green


def spread(mean_m3_m3):
    """Standard deviation of fine moisture at a coarse mean, k m exp(-m / peak) (Famiglietti 2008).

    Examples
    --------
    >>> mean = np.arange(0.02, 0.5, 0.01)
    >>> round(float(mean[spread(mean).argmax()]), 2)
    0.18
    """
    relative = mean_m3_m3 / c.PEAK_MEAN_M3_M3
    return c.PEAK_SD_M3_M3 * relative * np.exp(1 - relative)


def fine(state, pattern: fields.Pattern, *, ground: fields.Ground, layer="surface"):
    """Moisture at points from the coarse state between cell centres (the module's equation).

    Parameters
    ----------
    state : dict name -> array, coarse values at the points (``NAMES``)
    pattern : Pattern, broadcast against the state
    ground : Ground, broadcast against the state
    layer : "surface" or "root"

    Returns
    -------
    array, m3 m-3
    """
    mean = state["surface"] if layer == "surface" else state["root"]
    shade = fields.CANOPY.astype(np.float32)[ground.vegetation] - state["canopy"]
    wet = mean + spread(mean) * (pattern.deviation + c.FINE_WEIGHTS["canopy"] * shade)
    water = state["irrigation"] * (ground.irrigated - state["irrigated_fraction"])
    if layer == "surface":
        wet = wet + pattern.gain * (mean - state["middle"])
        wet = wet + pattern.fast * (state["fast"] - mean)
        for k in range(c.STORM_PATTERNS):
            wet = wet + (c.STORM_SD * pattern.storms[k]) * state[f"storm {k}"]
    else:
        water = 0.5 * water
    return np.clip(wet + water, c.LEAST_MOISTURE_M3_M3, c.MOST_FILLED * ground.porosity)
