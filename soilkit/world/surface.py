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
    porosity: np.ndarray  # m3 m-3
    elevation_m: np.ndarray
    slope_east: np.ndarray  # dz/dx, m m-1
    slope_north: np.ndarray  # dz/dy, m m-1
    ndvi: np.ndarray  # the canopy's own, without atmosphere
    lai: np.ndarray  # m2 m-2
    vegetation_water_kg_m2: np.ndarray
    roughness_cm: np.ndarray  # root mean square height
    soil_temperature_c: np.ndarray
    frozen: np.ndarray  # bool
    wet_snow: np.ndarray  # bool
    land_cover: np.ndarray  # int16


# The world on a grid: static fields of a place, kept, and the surface at a moment.

COARSE_FROM_M = 3000.0  # pixels this wide see the state between cell centres, and no pattern
FINEST_M = 10.0
MAX_REFINEMENT = {160.0: 16, COARSE_FROM_M: 8}  # up to this pixel size: points a side
SOLAR_NOON_UTC = 18.5  # at 98 W


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
    used, inverse = np.unique(index, return_inverse=True)
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


def truth(state, place: Place, *, depth: str) -> np.ndarray:
    """Soil moisture at every pixel, m3 m-3 float32."""
    layer = "surface" if depth == "surface" else "root"
    return bucket.fine(state, place.pattern, ground=place.ground, layer=layer)


def surface(state, place: Place, *, grid: Grid, time) -> Surface:
    """All that a sensor may look at on a grid (see ``Surface``)."""
    ground = place.ground
    doy, hour = _clock(time)
    ndvi, lai, water = _canopy(state, place, doy)
    soil_c = state["soil_temperature"] + _diurnal(hour - 2) * 0.6 * np.exp(-0.4 * lai)
    return Surface(
        grid=grid, time=np.datetime64(time, "us"), u_m=place.u_m, v_m=place.v_m,
        soil_moisture_m3_m3=truth(state, place, depth="surface"),
        root_zone_m3_m3=truth(state, place, depth="root"),
        sand_percent=ground.sand_percent, silt_percent=ground.silt_percent,
        clay_percent=ground.clay_percent, bulk_density_g_cm3=ground.bulk_density_g_cm3,
        porosity=ground.porosity, elevation_m=ground.elevation_m,
        slope_east=ground.slope_east, slope_north=ground.slope_north,
        ndvi=ndvi, lai=lai, vegetation_water_kg_m2=water,
        roughness_cm=_roughness(ground, doy), soil_temperature_c=soil_c,
        frozen=soil_c < -0.3, land_cover=ground.land_cover,
        wet_snow=(state["snow"] > 2) & (state["temperature"] + _diurnal(hour) > 0),
    )  # fmt: skip


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
