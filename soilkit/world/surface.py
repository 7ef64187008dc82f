"""The world on a grid: static fields of a place, kept, and the surface at a moment."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.world import bucket, fields
from soilkit.world import parameters as c


@dataclass(frozen=True)
class Surface:
    """The synthetic ground, every array (row, col) on ``grid`` at ``time`` (naive UTC).

    ``u_m`` and ``v_m`` are coordinates in the world's own plane: noise of sensors hangs on them, so
    that overlapping grids see the same ground. Land cover holds Copernicus 100 m class codes.
    """

    grid: Grid
    time: np.datetime64
    u_m: np.ndarray
    v_m: np.ndarray
    soil_moisture_m3_m3: np.ndarray  # 0-5 cm
    root_zone_m3_m3: np.ndarray  # 0-100 cm
    sand_percent: np.ndarray
    silt_percent: np.ndarray
    clay_percent: np.ndarray
    bulk_density_g_cm3: np.ndarray
    organic_percent: np.ndarray
    porosity: np.ndarray  # m3 m-3, the retention curve's saturated water content
    elevation_m: np.ndarray
    slope_east: np.ndarray  # dz/dx, m m-1
    slope_north: np.ndarray  # dz/dy, m m-1
    ndvi: np.ndarray  # the canopy's own, without atmosphere
    lai: np.ndarray  # m2 m-2
    vegetation_water_kg_m2: np.ndarray
    roughness_cm: np.ndarray  # root mean square height
    soil_temperature_c: np.ndarray
    air_temperature_c: np.ndarray
    skin_temperature_c: np.ndarray  # what a radiometer sees of ground and canopy
    frozen: np.ndarray  # bool
    snow_mm: np.ndarray  # water equivalent
    snow_cover: np.ndarray  # 0-1
    wet_snow: np.ndarray  # bool
    land_cover: np.ndarray  # int16


# The world on a grid: static fields of a place, kept, and the surface at a moment.

COARSE_FROM_M = 3000.0  # pixels this wide see the state between cell centres, and no pattern
FINEST_M = 10.0
MAX_REFINEMENT = {160.0: 16, COARSE_FROM_M: 8}  # up to this pixel size: points a side
SOLAR_NOON_UTC = 18.5  # at 98 W
SURFACE = bucket.profile_weights((0.0, 0.05))


@dataclass(frozen=True)
class Place:
    """Static fields on a grid, arrays (row, col) float32, and the weights of the cells around."""

    grid: Grid | None
    u_m: np.ndarray
    v_m: np.ndarray
    ground: fields.Ground
    pattern: fields.Pattern
    vigour: np.ndarray
    rows: np.ndarray  # (cell,)
    cols: np.ndarray
    weights: csr_matrix  # (pixel, cell)

    def at(self, points) -> "Place":
        """Some points (a list of numbers) of a place whose arrays are (point,)."""
        near = self.weights[points]
        used = np.unique(near.indices)
        return Place(
            None,
            self.u_m[points],
            self.v_m[points],
            fields.Ground(**{k: v[points] for k, v in vars(self.ground).items()}),
            fields.Pattern(**{k: v[..., points] for k, v in vars(self.pattern).items()}),
            self.vigour[points],
            self.rows[used],
            self.cols[used],
            near[:, used],
        )


def place(seed: int, grid: Grid) -> Place:
    """The static fields of a grid, pixel by pixel at its centre."""
    return place_at(seed, grids.project(grid, grids.EASE2_CRS), grid=grid)


def place_at(seed: int, points, *, grid: Grid | None = None) -> Place:
    """The static fields at points (u_m, v_m) of the world."""
    u_m, v_m = points
    ground = fields.ground(seed, *points)
    pattern = fields.pattern(seed, points, ground=ground)
    rows, cols, weights = cell_weights(u_m, v_m)
    vigour = fields.vigour(seed, points)
    return Place(
        grid,
        u_m,
        v_m,
        _light(ground),
        _light(pattern),
        vigour.astype(np.float32),
        rows,
        cols,
        weights,
    )


def _light(record):
    kinds = {"f": np.float32}
    words = {k: v.astype(kinds.get(v.dtype.kind, v.dtype)) for k, v in record.__dict__.items()}
    return type(record)(**words)


def cell_weights(u_m, v_m):
    """Bilinear weights of the cells around each point: (rows, cols, sparse (point, cell))."""
    x = (np.ravel(u_m) - grids.EASE2_LEFT_M) / bucket.CELL_M - 0.5
    y = (grids.EASE2_TOP_M - np.ravel(v_m)) / bucket.CELL_M - 0.5
    x = np.where(np.abs(x - np.round(x)) < 1e-6, np.round(x), x)
    y = np.where(np.abs(y - np.round(y)) < 1e-6, np.round(y), y)
    col, row = np.floor(x).astype(int), np.floor(y).astype(int)
    right, down = x - col, y - row
    low_r, low_c = row.min(), col.min()
    n_c = col.max() - low_c + 2
    corner = (row - low_r) * n_c + (col - low_c)
    index = np.stack([corner, corner + 1, corner + n_c, corner + n_c + 1], axis=1)
    weight = np.stack(
        [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], axis=1
    )
    is_used = np.zeros(index.max() + 1, bool)
    is_used[index] = True
    used, inverse = np.flatnonzero(is_used), (np.cumsum(is_used) - 1)[index]
    starts = np.arange(0, 4 * len(x) + 1, 4)
    matrix = csr_matrix((weight.ravel(), inverse.ravel(), starts), shape=(len(x), len(used)))
    return used // n_c + low_r, used % n_c + low_c, matrix


def coarse_states(source: bucket.Cells, place: Place, *, time) -> dict[str, np.ndarray]:
    """Coarse state between cell centres at every pixel: name -> (row, col) float32."""
    values = source.states(time, rows=place.rows, cols=place.cols)[:, 0]  # (name, cell)
    pixels = place.weights @ values.T  # (pixel, name)
    shape = place.u_m.shape
    columns = np.ascontiguousarray(pixels.T.astype(np.float32))
    return {name: columns[k].reshape(shape) for name, k in bucket.INDEX.items()}


def point_states(source: bucket.Cells, place: Place, *, times) -> dict[str, np.ndarray]:
    """Coarse state at points through time: name -> (time, point)."""
    values = source.states(times, rows=place.rows, cols=place.cols)  # (name, time, cell)
    flat = (place.weights @ values.reshape(-1, values.shape[-1]).T).T
    points = flat.reshape(*values.shape[:2], -1)  # (name, time, point)
    return {name: points[k] for name, k in bucket.INDEX.items()}


def truth(state, place: Place, *, weights) -> np.ndarray:
    """Soil moisture at every pixel, m3 m-3: layers counted by ``bucket.profile_weights``."""
    weights = np.asarray(weights, np.float32)
    return bucket.fine(state, place.pattern, ground=place.ground, weights=weights)


def surface(state, place: Place, *, grid: Grid, time) -> Surface:
    """All that a sensor may look at on a grid (see ``Surface``)."""
    ground = place.ground
    doy, hour = _clock(time)
    ndvi, lai, water = _canopy(state, place, doy)
    soil_c = state["soil_temperature"] + _diurnal(hour - 2) * 0.6 * np.exp(-0.4 * lai)
    air_c = state["temperature"] + _diurnal(hour)
    top, root = (truth(state, place, weights=w) for w in (SURFACE, bucket.ROOT_ZONE))
    snow_cover = 1 - np.exp(-state["snow"] / np.float32(c.SNOW_COVER_MM))
    skin_c = air_c + skin_excess_c(
        sun_height(time, v_m=place.v_m),
        ndvi=ndvi,
        filled=(top / ground.porosity, root / ground.porosity),
    )
    return Surface(
        grid=grid, time=np.datetime64(time, "us"), u_m=place.u_m, v_m=place.v_m,
        soil_moisture_m3_m3=top, root_zone_m3_m3=root,
        sand_percent=ground.sand_percent, silt_percent=ground.silt_percent,
        clay_percent=ground.clay_percent, bulk_density_g_cm3=ground.bulk_density_g_cm3,
        organic_percent=ground.organic_percent, porosity=ground.porosity,
        elevation_m=ground.elevation_m,
        slope_east=ground.slope_east, slope_north=ground.slope_north,
        ndvi=ndvi, lai=lai, vegetation_water_kg_m2=water,
        roughness_cm=_roughness(ground, doy), soil_temperature_c=soil_c,
        air_temperature_c=air_c,
        skin_temperature_c=skin_c + snow_cover * np.minimum(-skin_c, 0),  # snow stays at 0 C
        frozen=soil_c < -0.3, land_cover=ground.land_cover,
        snow_mm=state["snow"], snow_cover=snow_cover, wet_snow=(state["snow"] > 2) & (air_c > 0),
    )  # fmt: skip


def sun_height(time, *, v_m) -> np.ndarray:
    """Sine of the sun's elevation over the world's middle longitude, 0 by night.

    Declination by Cooper (1969), doi:10.1016/0038-092X(69)90047-4.

    Parameters
    ----------
    time : datetime64, UTC
    v_m : array, m, northings of the world's plane
    """
    doy, hour = _clock(time)
    tilt = np.deg2rad(23.45) * np.sin(2 * np.pi * (284 + doy) / 365)
    turn = 2 * np.pi * (hour - SOLAR_NOON_UTC) / 24
    sine = np.clip(v_m * np.cos(np.pi / 6) / c.EARTH_RADIUS_M, -1, 1)  # of latitude
    height = sine * np.sin(tilt) + np.sqrt(1 - sine**2) * np.cos(tilt) * np.cos(turn)
    return np.maximum(height, 0).astype(np.float32)


def skin_excess_c(sun, *, ndvi, filled) -> np.ndarray:
    """How much warmer than the air the skin of ground and canopy is, C.

    Bare and vegetated ground, wet and dry, are the corners of a trapezoid [1]_; the sun's height
    spans it, and by night the skin is a little colder than the air.

    Parameters
    ----------
    sun : array, sine of the sun's elevation, 0-1
    ndvi : array
    filled : (surface, root zone), arrays, water as a fraction of porosity

    References
    ----------
    .. [1] Moran et al. (1994), doi:10.1016/0034-4257(94)90020-5
    """
    green = np.clip((ndvi - c.NDVI_SOIL) / (c.NDVI_FULL - c.NDVI_SOIL), 0, 1)
    dry, deep_dry = (1 - np.clip(1.6 * f, 0, 1) for f in filled)
    bare = c.SKIN_BARE_C + c.SKIN_BARE_DRY_C * dry
    leaves = c.SKIN_GREEN_C + c.SKIN_GREEN_DRY_C * deep_dry
    day = sun * ((1 - green) * bare + green * leaves)
    return np.where(sun > 0, day, np.float32(c.SKIN_NIGHT_C))


def _clock(time):
    time = np.datetime64(time, "us")
    day = time.astype("datetime64[D]")
    doy = int((day - time.astype("datetime64[Y]")).astype(int)) + 1
    return doy, float((time - day) / np.timedelta64(1, "h"))


def _diurnal(hour):
    """Air temperature about its daily mean, C: warmest two hours after solar noon."""
    return np.float32(c.DIURNAL_AMPLITUDE_C * np.cos(2 * np.pi * (hour - SOLAR_NOON_UTC - 2) / 24))


def _canopy(state, place, doy):
    kind = place.ground.vegetation
    season = (fields.NDVI_SPAN * fields.phenology(doy)).astype(np.float32)
    green = np.clip(
        state["greenness"] + 0.35 * place.ground.irrigated * (state["irrigation"] > 0.01), 0, 1
    )
    ndvi = fields.NDVI_LOW.astype(np.float32)[kind] + season[kind] * green * (1 + place.vigour)
    ndvi = np.clip(ndvi, 0.05, 0.92)
    stem = fields.STEM_WATER_KG_M2.astype(np.float32)[kind]
    return ndvi, fields.lai(ndvi), fields.water(ndvi, stem)


def _roughness(ground, doy):
    """Tillage of cropland in spring or autumn roughens a field, and rain smooths it again."""
    tilled = np.where(ground.vegetation == 4, 265.0, 115.0) + 20 * (ground.parcel - 0.5)
    age = np.mod(doy - tilled, 365.0)
    bump = c.ROUGHNESS_CM["tillage"] * np.exp(-age / c.TILLAGE_DECAY_DAYS)
    return (ground.roughness_cm + np.where(ground.land_cover == 40, bump, 0)).astype(np.float32)
