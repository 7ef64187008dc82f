"""SMAP: brightness temperature over 36 km, and moisture retrieved by other, wrong parameters."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from soilkit import grids, sources
from soilkit.world import fields, schedule
from soilkit.world import parameters as world_c
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors import lattice
from soilkit.world.sensors.coarse import forcing as drivers
from soilkit.world.sensors.coarse.forcing import Forcing, Product
from soilkit.world.surface import SOLAR_NOON_UTC

# Overpass: hour UTC, within half an hour of 6 h and 18 h local solar time, and direction.
PASSES = {"am": (12.0, "descending"), "pm": (0.0, "ascending")}
KEPT_WHOLE = ("y_m", "x_m", "n_past")  # of a forcing, when its past is cut off
REACH = 2  # cells around the middle one that the antenna sees: a square of 45 km
_COS = float(np.cos(np.deg2rad(c.SMAP_INCIDENCE_DEG)))
_KELVIN = 273.15


@dataclass(frozen=True)
class Canopy:
    """Parameters of tau-omega, arrays that broadcast to (cell, day)."""

    albedo: Any
    roughness: Any  # h; it also mixes the polarisations, Q = 0.1771 h
    opacity: Any  # at nadir


def mironov(moisture_m3_m3, clay_percent) -> np.ndarray:
    """Real permittivity of moist soil at 1.41 GHz by the mineralogy-based model.

    Mironov et al. (2009), doi:10.1109/TGRS.2008.2011631, equations 11-25:
    n = n_dry + (n_bound - 1) min(m, m_t) + (n_free - 1) max(m - m_t, 0), the absorption k alike;
    permittivity is n^2 - k^2. Moisture in m3 m-3, clay in %.
    """
    clay = np.asarray(clay_percent) / 100
    dry, loss, most_bound, *water = (np.polynomial.Polynomial(p)(clay) for p in c.MIRONOV)
    bound, free = _refraction(*water[:3]), _refraction(*c.MIRONOV_FREE, water[3])
    in_bound = np.minimum(moisture_m3_m3, most_bound)
    in_free = np.maximum(moisture_m3_m3 - most_bound, 0)
    n = dry + (bound.real - 1) * in_bound + (free.real - 1) * in_free
    k = loss + bound.imag * in_bound + free.imag * in_free
    return n**2 - k**2


def _refraction(static, relaxation_s, conductivity_s_m):
    """Complex refractive index of water by Debye's equation."""
    angular = 2 * np.pi * c.SMAP_FREQUENCY_HZ
    debye = (static - c.WATER_HIGH_PERMITTIVITY) / (1 - 1j * angular * relaxation_s)
    lost = 1j * conductivity_s_m / (angular * c.VACUUM_PERMITTIVITY_F_M)
    return np.sqrt(c.WATER_HIGH_PERMITTIVITY + debye + lost)


def fresnel(permittivity) -> np.ndarray:
    """Reflectivity (H and V, ...) of a smooth surface at 40 degrees by Fresnel's equations."""
    root = np.sqrt(permittivity - (1 - _COS**2))
    h = (_COS - root) / (_COS + root)
    v = (permittivity * _COS - root) / (permittivity * _COS + root)
    return np.stack([h, v]) ** 2


def brightness_temperature(smooth, canopy: Canopy, *, kelvin, canopy_kelvin=None) -> np.ndarray:
    """Brightness temperature of rough soil under a canopy by the tau-omega model.

    TB = Ts (1 - r) g + Tc (1 - w) (1 - g) (1 + r g), g = exp(-tau / cos 40), with
    r_p = ((1 - Q) r*_p + Q r*_q) exp(-h cos^2 40) (Mo et al. 1982, doi:10.1029/JC087iC13p11229;
    O'Neill et al. 2020, SMAP level 2 and 3 passive ATBD). ``smooth`` is the reflectivity r* and the
    result K, both (polarisation, ...), H before V; the canopy is as warm as the soil by default.

    Examples
    --------
    >>> grass = Canopy(albedo=0.05, roughness=0.15, opacity=0.1)
    >>> smooth = fresnel(mironov(np.array([0.3]), 20.0))
    >>> brightness_temperature(smooth, grass, kelvin=295).ravel().round()
    array([198., 236.])
    """
    mixing = c.MIXING * canopy.roughness
    r = ((1 - mixing) * smooth + mixing * smooth[::-1]) * np.exp(-canopy.roughness * _COS**2)
    gamma = np.exp(-canopy.opacity / _COS)
    warmth = kelvin if canopy_kelvin is None else canopy_kelvin
    above = warmth * (1 - canopy.albedo) * (1 - gamma) * (1 + r * gamma)
    return kelvin * (1 - r) * gamma + above


def skin_water(rain_mm, normal_mm, *, temperature_c) -> np.ndarray:
    """What the skin that L band senses holds beyond the probe's layer, (cell, day), m3 m-3.

    Rain wets the skin more, and it dries sooner (Shellito et al. 2016, doi:10.1002/2016GL069946):
    past rain (mm), decaying, less what the normal rainfall (cell,), mm a year, would leave.
    """
    from scipy.signal import lfilter  # here: it takes as long to load as pandas

    keep = np.exp(-1 / c.SKIN_DAYS)
    wetting = c.SKIN_GAIN * np.minimum(rain_mm, c.SKIN_MOST_MM) * (temperature_c > 0)
    before = np.concatenate([np.zeros((len(rain_mm), 1)), wetting[:, :-1]], axis=1)
    usual = c.SKIN_GAIN * c.SKIN_SHARE * normal_mm / 365.25 / (1 - keep)
    return lfilter([1.0], [1.0, -keep], before, axis=1) - usual[:, None]


def _at(values, state, hour: float) -> np.ndarray:
    """A state between two day starts at an hour UTC: with rain a jump of three hours."""
    if not hour:
        return values
    jump = np.clip((hour - state.rain_hour) / 3, 0, 1)
    later = np.concatenate([values[:, 1:], values[:, -1:]], axis=1)
    return values + (later - values) * np.where(np.isnan(jump), hour / 24, jump)


def effective_c(state, hour: float) -> tuple[np.ndarray, np.ndarray]:
    """Temperature of the soil (Choudhury 1982, doi:10.1029/JC087iC02p01301) and the canopy, C."""
    phase = 2 * np.pi * (hour - SOLAR_NOON_UTC - 2) / 24
    canopy_c = state.temperature_c + world_c.DIURNAL_AMPLITUDE_C * np.cos(phase)
    soil_c = state.soil_temperature_c
    return soil_c + c.SURFACE_WEIGHT * (canopy_c - soil_c), canopy_c


def emission(world: Any, now: Forcing, *, state: Any, skin_m3_m3, hour: float) -> np.ndarray:
    """True brightness temperature of each 9 km cell, (polarisation, cell, day), K."""
    soil_c, canopy_c = effective_c(state, hour)
    moisture = _at(state.surface_m3_m3 + skin_m3_m3, state, hour)
    moisture = np.clip(moisture, 0.02, state.porosity[:, None] - 0.02)
    moisture = np.where(soil_c < c.FREEZES_C, c.FROZEN_MOISTURE_PERCENT / 100, moisture)
    land_share = _land(state)
    albedo, roughness, b = (
        (land_share @ np.array(c.TRUE_CANOPY[name]))[:, None]
        * np.exp(still * _place(world, now, name) + slow * _slow(world, now, name))
        for name, (still, slow) in c.TRUE_CANOPY_LOG_STD.items()
    )
    stems = land_share @ fields.STEM_WATER_KG_M2[: land_share.shape[1]]
    canopy = Canopy(albedo, roughness, b * fields.water(state.ndvi, stems[:, None]))
    smooth, kelvin = fresnel(mironov(moisture, state.clay_percent[:, None])), soil_c + _KELVIN
    land = brightness_temperature(smooth, canopy, kelvin=kelvin, canopy_kelvin=canopy_c + _KELVIN)
    melting = (state.snow_mm > c.SNOW_MM) & (canopy_c > 0)
    land = np.where(melting, c.WET_SNOW_EMISSIVITY * _KELVIN, land)
    share = state.water_fraction[:, None]
    return (1 - share) * land + share * _of_water(kelvin)


def _of_water(kelvin):
    return (1 - fresnel(c.WATER_PERMITTIVITY))[:, None, None] * kelvin


def _land(state) -> np.ndarray:
    """Shares of the vegetation types in what is no lake, (cell, type)."""
    land = state.type_fraction[:, : len(c.TABLE_CANOPY["b"])]
    return land / np.maximum(land.sum(axis=1, keepdims=True), 1e-6)


def _place(world, weather, name):
    """Noise that a place keeps, (cell, 1)."""
    name = f"passive {name}"
    return drivers.constant_field(weather, name, seed=world.seed, scale_m=c.CANOPY_SCALE_M)


def _daily(world, weather, name, scale_m):
    """Noise that is new every day, (cell, day)."""
    return drivers.error_field(weather, f"passive {name}", seed=world.seed, scale_m=scale_m)


def _slow(world, weather, name):
    """Noise that changes within weeks, (cell, day): a line between fields some days apart."""
    when = weather.days_of_epoch / c.SLOW_DAYS
    knot = np.floor(when).astype(np.int64)
    fields_at = replace(weather, days=np.arange(knot[0], knot[-1] + 2))
    noise = _daily(world, fields_at, f"slow {name}", c.CANOPY_SCALE_M)
    first, part = knot - knot[0], when - knot
    line = (1 - part) * noise[:, first] + part * noise[:, first + 1]
    return line / np.hypot(1 - part, part)


@dataclass(frozen=True)
class Ancillary:
    """What a retrieval believes, erroneous, arrays (cell, day) or (cell, 1)."""

    kelvin: np.ndarray
    water_kg_m2: np.ndarray
    soil: tuple[np.ndarray, ...]  # coefficients of the permittivity a + b m + c m^2
    canopy: Canopy  # of the single-channel algorithm
    dual: Canopy  # of the dual-channel one


def ndvi_climatology(state: Any, days) -> np.ndarray:
    """NDVI that mean warmth and wetness let expect on a day, (cell, day): no year's own drought."""
    doy = (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(float) + 1
    season = np.cos(2 * np.pi * (doy - world_c.WARMEST_DAY - world_c.GREENING_DAYS) / 365.25)
    warmth_c = state.normal_temperature_c[:, None] + world_c.SEASON_AMPLITUDE_C * season
    warm = np.interp(warmth_c, [world_c.GREEN_FROM_C, world_c.GREEN_FULL_C], [0, 1])
    wet = np.interp(state.normal_precipitation_mm, *c.CLIMATOLOGY_WETNESS)[:, None]
    by_type = fields.ndvi_by_type(wet * warm, doy)  # (cell, day, type)
    return np.einsum("ijk,ik->ij", by_type, state.type_fraction)


def ancillary(world: Any, now: Forcing, *, state: Any, hour: float, weights) -> Ancillary:
    """What the retrieval takes for true, over the footprints of ``weights`` (cell, neighbour).

    Permittivity is that of Hallikainen et al. (1985), doi:10.1109/TGRS.1985.289497, Table II, of a
    wrong texture.
    """
    land = weights @ _land(state)
    cover = np.argmax(land, axis=1)  # the commonest class rules the single-channel algorithm
    table = {name: np.array(row)[cover][:, None] for name, row in c.TABLE_CANOPY.items()}
    albedo, h = ((land @ np.array(c.TRUE_CANOPY[k]))[:, None] for k in ("albedo", "roughness"))
    green = fields.water(ndvi_climatology(state, now.days), 0.0)
    wrong = weights @ _place(world, now, "water")
    water = (weights @ green + table["stem"]) * np.exp(c.WATER_ERROR_STD * wrong)
    fast = _daily(world, now, f"kelvin {hour}", c.SYNOPTIC_SCALE_M)
    error = c.TEMPERATURE_ERROR_STD_K * fast
    error = error + c.TEMPERATURE_SLOW_STD_K * _slow(world, now, "kelvin")
    kelvin = weights @ (effective_c(state, hour)[0] + error) + _KELVIN
    sand, clay = (
        weights @ (values[:, None] * np.exp(c.TEXTURE_LOG_STD * _place(world, now, name)))
        for name, values in (("sand", state.sand_percent), ("clay", state.clay_percent))
    )
    soil = tuple(base + by_sand * sand + by_clay * clay for base, by_sand, by_clay in c.HALLIKAINEN)
    single = Canopy(table["albedo"], table["roughness"], table["b"] * water)
    return Ancillary(kelvin, water, soil, single, Canopy(albedo, h, single.opacity))


def single_channel(tb_v_k, known: Ancillary) -> np.ndarray:
    """Soil moisture from V alone (SCA-V; Jackson 1993, doi:10.1002/hyp.3360070205), m3 m-3."""
    gamma = np.exp(-known.canopy.opacity / _COS)
    above = (1 - known.canopy.albedo) * (1 - gamma)
    # TB / T = gamma + above + r gamma (above - 1) is linear in r.
    r = (gamma + above - tb_v_k / known.kelvin) / (gamma * (1 - above))
    smooth = np.nan_to_num(r) * np.exp(known.canopy.roughness * _COS**2)
    permittivity = np.linspace(1.5, 60, 1200)
    seen = np.interp(smooth, fresnel(permittivity)[1], permittivity)
    a, b, square = known.soil
    moisture = (np.sqrt(np.maximum(b**2 + 4 * square * (seen - a), 0)) - b) / (2 * square)
    return np.where(np.isnan(tb_v_k), np.nan, np.clip(moisture, *c.RETRIEVED_RANGE_M3_M3))


def dual_channel(tb_k, known: Ancillary) -> tuple[np.ndarray, np.ndarray]:
    """Soil moisture (m3 m-3) and opacity from H and V (DCA), (cell, day) each.

    Minimises |TB - TB(m, tau)|^2 + lambda^2 (tau - tau*)^2, tau* being what the climatology of
    vegetation water says, by Gauss-Newton steps (Chaubell et al. 2020,
    doi:10.1109/TGRS.2019.2959239).
    """
    a, b, square = known.soil
    trust, prior = c.REGULARISATION_K**2, np.broadcast_to(known.dual.opacity, tb_k.shape[1:])

    def model(m, tau):
        canopy = Canopy(known.dual.albedo, known.dual.roughness, tau)
        smooth = fresnel(a + b * m + square * m**2)
        return brightness_temperature(smooth, canopy, kelvin=known.kelvin)

    moisture, opacity, step = single_channel(tb_k[1], known), prior, 1e-3
    for _ in range(c.DUAL_CHANNEL_STEPS):
        seen = model(moisture, opacity)
        by_m = (model(moisture + step, opacity) - seen) / step
        by_tau = (model(moisture, opacity + step) - seen) / step
        mm, mt, tt = ((x * y).sum(axis=0) for x, y in ((by_m, by_m), (by_m, by_tau), (by_tau,) * 2))
        down_m, down_tau = ((x * (tb_k - seen)).sum(axis=0) for x in (by_m, by_tau))
        tt, down_tau = tt + trust, down_tau + trust * (prior - opacity)
        scale = (mm + 1) * tt - mt**2
        change = np.clip((tt * down_m - mt * down_tau) / scale, -0.1, 0.1)
        moisture = np.clip(moisture + change, *c.RETRIEVED_RANGE_M3_M3)
        opacity = np.clip(opacity + ((mm + 1) * down_tau - mt * down_m) / scale, 0, 3)
    return moisture, opacity


def footprint(y_m, x_m) -> tuple[np.ndarray, np.ndarray, csr_matrix]:
    """Rows and columns of the 9 km cells that the antenna sees, and weights (cell, neighbour).

    A Gaussian of 36 km between half powers (Chan et al. 2018, doi:10.1016/j.rse.2017.08.025), cut
    to a square of 45 km.
    """
    size = grids.EASE2_PIXEL_SIZE_M[9]
    row = np.round((grids.EASE2_TOP_M - y_m) / size - 0.5).astype(int)
    col = np.round((x_m - grids.EASE2_LEFT_M) / size - 0.5).astype(int)
    down, right = (k.ravel() for k in np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1])
    power = 0.5 ** ((down**2 + right**2) * (2 * size / c.FOOTPRINT_M) ** 2)
    cells, index = lattice.distinct((row[:, None] + down).ravel(), (col[:, None] + right).ravel())
    starts = np.arange(0, len(index) + 1, len(power))
    values = np.tile(power / power.sum(), len(row))
    return *cells, csr_matrix((values, index, starts), (len(row), cells.shape[1]))


def conditions(world: Any, now: Forcing, *, state: Any, hour: float) -> dict[str, np.ndarray]:
    """What the surface flags look at, over each cell, (cell, day); see ``SURFACE_FLAGS``."""
    soil_c, _ = effective_c(state, hour)
    falls = (state.rain_hour <= hour) & (state.rain_hour + 3 > hour)
    rain = drivers.observed_rain(now, seed=world.seed) / 3
    urban = state.type_fraction[:, fields.TYPES.index("built")]
    return {
        "static water": np.broadcast_to(state.water_fraction[:, None], soil_c.shape),
        "urban": np.broadcast_to(urban[:, None], soil_c.shape),
        "precipitation": np.where(falls, rain, 0.0),
        "snow": (state.snow_mm > c.SNOW_MM).astype(float),
        "frozen ground": (soil_c < c.FREEZES_C).astype(float),
    }


@lru_cache(maxsize=8)
def observation(
    world: Any, y_m: tuple, *, x_m: tuple, time: str
) -> tuple[np.ndarray, Ancillary, dict]:
    """Corrected brightness temperature, what the retrieval knows, and conditions of the surface."""
    hour, direction = PASSES[time]
    rows, cols, weights = footprint(np.array(y_m), np.array(x_m))
    state = world.cells(rows, cols)
    every = drivers.forcing(state, rows=rows, cols=cols)
    rain, usual = every.precipitation_mm, state.normal_precipitation_mm
    skin = skin_water(rain, usual, temperature_c=every.temperature_c)[:, every.kept]
    parts = {k: v[..., every.kept] for k, v in vars(every).items() if k not in KEPT_WHOLE}
    now = replace(every, **parts, n_past=0)  # the days whose states are known
    noise = [_daily(world, now, f"{p} {time}", c.TB_NOISE_SCALE_M) for p in "HV"]
    true = emission(world, now, state=state, skin_m3_m3=skin, hour=hour) + c.TB_NOISE_K * np.stack(
        noise
    )
    known = ancillary(world, now, state=state, hour=hour, weights=weights)
    flagged = conditions(world, now, state=state, hour=hour)
    mean = {name: weights @ values for name, values in flagged.items()}
    mean["dense vegetation"] = known.water_kg_m2
    lakes = np.clip(mean["static water"] * (1 + c.WATER_MAP_ERROR), 0, 0.9)  # too large on the map
    seen = np.stack([weights @ tb for tb in true])
    seen = (seen - lakes * _of_water(known.kelvin)) / (1 - lakes)
    place = grids.transformer(grids.EASE2_CRS, "EPSG:4326").transform(x_m, y_m)
    passed = schedule.smap_overpasses(now.days, place, direction=direction)
    return np.where(passed, seen, np.nan), known, mean


def overpass(world: Any, weather: Forcing, *, time: str) -> dict[str, np.ndarray]:
    """All that an overpass ("am" or "pm") gives, by the names of SMAP's fields, (cell, day).

    NaN without an overpass; moisture NaN where no retrieval was attempted: over frozen ground,
    snow or water. ``retrieval_qual_flag`` has bit 0 where the retrieval is not recommended, 1 where
    none was attempted, 2 where it failed; bits of ``surface_flag`` are those of SMAP (O'Neill et
    al. 2021, doi:10.5067/4DQ54OUIJ9DL, data fields).
    """
    tb_k, known, surface = observation(world, tuple(weather.y_m), x_m=tuple(weather.x_m), time=time)
    surface_flag, doubtful, skipped = np.zeros((3, *tb_k.shape[1:]), dtype=int)
    for name, (bit, doubt, skip) in c.SURFACE_FLAGS.items():
        surface_flag |= (surface[name] > doubt).astype(int) << bit
        doubtful |= surface[name] > doubt
        skipped |= surface[name] > skip
    moisture, opacity = dual_channel(tb_k, known)
    failed = np.isin(moisture, c.RETRIEVED_RANGE_M3_M3)
    scav, attempted = single_channel(tb_k[1], known), np.where(skipped, np.nan, 1)
    given = {
        "soil_moisture": attempted * moisture, "soil_moisture_dca": attempted * moisture,
        "soil_moisture_scav": attempted * scav, "vegetation_opacity": attempted * opacity,
        "tb_h_corrected": tb_k[0], "tb_v_corrected": tb_k[1], "albedo": known.dual.albedo,
        "roughness_coefficient": known.dual.roughness, "surface_temperature": known.kelvin,
        "vegetation_water_content": known.water_kg_m2, "surface_flag": surface_flag,
        "retrieval_qual_flag": np.where(skipped, 7, (doubtful | failed) + 4 * failed),
    }  # fmt: skip
    seen = np.where(np.isnan(tb_k[1]), np.nan, np.float32(1))
    return {name: (seen * values).astype(np.float32) for name, values in given.items()}


def retrievals(world: Any, forcing: Forcing, *, state: Any) -> np.ndarray:
    """Morning retrievals (SCA-V), (cell, day), m3 m-3; NaN without an overpass and on past days."""
    seen = overpass(world, forcing, time="am")["soil_moisture_scav"]
    return np.hstack([np.full((len(seen), forcing.n_past), np.nan, np.float32), seen])


def smap_l3(source: str, calendar: Any) -> Any:
    """What makes the series of a SMAP level 3 source, by its row in the catalogue.

    A band is named after a field of ``overpass``, with _am or _pm after it or meaning the morning;
    soil_moisture itself is the dual-channel retrieval, the baseline since version 5.
    """
    bands = [band.name for band in sources.get(source).bands]

    def product(world: Any, weather: Forcing, *, state: Any) -> Product:
        periods = calendar(*weather.span)
        index = (periods.end.astype("datetime64[D]") - weather.span[0]).astype(int)
        seen = overpass(world, weather, time="am")
        for time in PASSES if "soil_moisture_am" in bands else ():
            given = overpass(world, weather, time=time)
            seen = seen | {f"{name}_{time}": values for name, values in given.items()}
        return Product(periods, np.stack([seen[b][:, index] for b in bands], axis=2))

    return product
