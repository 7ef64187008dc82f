"""The moving half of the world: a two-layer bucket a 9 km cell, by the day and at a point."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from soilkit import grids, retention
from soilkit.errors import ContractError
from soilkit.world import fields, noise
from soilkit.world import parameters as c
from soilkit.world.climate import Weather, koeppen, weather

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


# The world at 9 km: daily series and states of EASE-Grid cells, computed in blocks and kept.

CELL_M = grids.EASE2_PIXEL_SIZE_M[9]
SAMPLES_PER_SIDE = 12  # points in a cell whose ground stands for the whole cell
MAX_BLOCKS = 400  # about 0.8 MB each over two years
BATCH = 48  # blocks computed together: numpy's overhead a day is paid once
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class CellSeries:
    """Daily series of cells: states at the day's start (00:00 UTC), fluxes over the day.

    ``time`` (day,) datetime64[us]; daily arrays (cell, day); static arrays (cell,).
    """

    time: np.ndarray
    precipitation_mm: np.ndarray
    pet_mm: np.ndarray
    temperature_c: np.ndarray
    soil_temperature_c: np.ndarray
    surface_m3_m3: np.ndarray
    root_zone_m3_m3: np.ndarray
    ndvi: np.ndarray
    lai: np.ndarray
    snow_mm: np.ndarray
    sand_percent: np.ndarray
    clay_percent: np.ndarray
    porosity: np.ndarray
    field_capacity: np.ndarray
    elevation_m: np.ndarray
    irrigated_fraction: np.ndarray
    koeppen: np.ndarray


@dataclass(frozen=True)
class Block:
    """A square of cells: ``values`` (name, day, cell); the rest as in ``CellSeries``."""

    values: np.ndarray
    rain_hour: np.ndarray  # (day, cell), NaN on dry days
    daily: dict
    static: dict


def cell_centre(rows, cols) -> tuple[np.ndarray, np.ndarray]:
    """World coordinates of cell centres: (u_m, v_m)."""
    u_m = grids.EASE2_LEFT_M + (np.asarray(cols) + 0.5) * CELL_M
    v_m = grids.EASE2_TOP_M - (np.asarray(rows) + 0.5) * CELL_M
    return u_m, v_m


class Cells:
    """All cells of a world over its period; blocks are computed when first asked for."""

    def __init__(self, seed: int, first_day: int, last_day: int):
        self.seed = seed
        self.days = np.arange(first_day - c.SPIN_UP_DAYS, last_day + 1)
        self.kept = slice(c.SPIN_UP_DAYS - c.MARGIN_DAYS, None)
        self.first = int(self.days[self.kept][0])
        self._blocks: OrderedDict[tuple[int, int], Block] = OrderedDict()

    def __getstate__(self):
        return {**self.__dict__, "_blocks": OrderedDict()}

    def block(self, row: int, col: int) -> Block:
        """The block whose number is (row, col), from the cache or computed."""
        if (row, col) not in self._blocks:
            self._compute([(row, col)])
        self._blocks.move_to_end((row, col))
        return self._blocks[row, col]

    def _compute(self, numbers):
        for start in range(0, len(numbers), BATCH):
            batch = numbers[start : start + BATCH]
            self._blocks.update(zip(batch, _blocks(self, np.array(batch)), strict=True))
        while len(self._blocks) > max(MAX_BLOCKS, len(numbers)):
            self._blocks.popitem(last=False)

    def parts(self, rows, cols):
        """Yield for each block touched: the block, positions in the request, cells in the block."""
        rows, cols = np.broadcast_arrays(np.atleast_1d(rows), np.atleast_1d(cols))
        numbers = np.stack([rows // c.BLOCK_CELLS, cols // c.BLOCK_CELLS])
        cell = rows % c.BLOCK_CELLS * c.BLOCK_CELLS + cols % c.BLOCK_CELLS
        touched = [(int(row), int(col)) for row, col in np.unique(numbers, axis=1).T]
        self._compute([number for number in touched if number not in self._blocks])
        for number in touched:
            here = np.flatnonzero((numbers[0] == number[0]) & (numbers[1] == number[1]))
            yield self.block(*number), here, cell[here]

    def series(self, rows, cols) -> CellSeries:
        """Daily series of cells (see ``CellSeries``)."""
        n = np.broadcast(np.atleast_1d(rows), np.atleast_1d(cols)).size
        days = self.days[self.kept]
        out: dict = {}
        for block, here, cell in self.parts(rows, cols):
            for name, values in block.daily.items():
                out.setdefault(name, np.empty((n, len(days))))[here] = values[:, cell].T
            for name, values in block.static.items():
                out.setdefault(name, np.empty(n, dtype=values.dtype))[here] = values[cell]
        return CellSeries(time=days.astype("datetime64[D]").astype("datetime64[us]"), **out)

    def states(self, times, *, rows, cols) -> np.ndarray:
        """All state variables at some times: array (name, time, cell), see ``moisture.NAMES``.

        Raises
        ------
        ContractError
            Where a time lies outside the world's period.
        """
        times = np.atleast_1d(np.asarray(times, "datetime64[us]"))
        days = times.astype("datetime64[D]")
        part = (times - days) / _DAY
        index = days.astype(int) - self.first
        self._check_period(index, times)
        n = np.broadcast(np.atleast_1d(rows), np.atleast_1d(cols)).size
        out = np.empty((len(NAMES), len(times), n))
        for block, here, cell in self.parts(rows, cols):
            out[:, :, here] = _between(block, index, (part[:, None], cell))
        return out

    def _check_period(self, index, times):
        n = len(self.days[self.kept])
        if index.min() < 0 or index.max() >= n - 1:
            wrong = times[(index < 0) | (index >= n - 1)][0]
            days = self.days[self.kept].astype("datetime64[D]")
            raise ContractError(
                f"The world has no state at {wrong}: its period runs from {days[0]} to {days[-1]}. "
                "Build the World with another start or end."
            )


def _between(block, index, moment):
    """States between two day starts: with rain a jump of three hours, else a straight line."""
    part, cell = moment  # (time, 1), (cell,)
    days = block.values[:, :, cell]
    now, then = days[:, index], days[:, index + 1]
    jump = np.clip((part * 24 - block.rain_hour[:, cell][index]) / 3, 0, 1)
    weight = np.where(np.isnan(jump), part, jump)
    n = len(JUMPING)
    out = now + (then - now) * part
    out[:n] = now[:n] + (then[:n] - now[:n]) * weight
    return out


def _blocks(cells: Cells, numbers) -> list[Block]:
    """Compute some blocks together; inside, their rows are stacked: (day, block x row, col)."""
    n = c.BLOCK_CELLS
    u_m, _ = cell_centre(0, numbers[:, 1:] * n + np.arange(n))  # (block, col)
    _, v_m = cell_centre(numbers[:, :1] * n + np.arange(n), 0)  # (block, row)
    sky = weather(cells.seed, cells.days, u_m=u_m, v_m=v_m)
    place_u = np.repeat(u_m, n, axis=0)  # (block x row, col)
    place_v = np.repeat(v_m.reshape(-1, 1), n, axis=1)
    static, fractions = _cell_ground(cells.seed, place_u, place_v)
    earth = soil(cells.seed, static, u_m=place_u, v_m=place_v)
    columns = _columns(cells.seed, (sky, earth), static)
    flat = [_flat(np.broadcast_to(columns[name], sky.snow_mm.shape), cells) for name in NAMES]
    values = np.stack(flat)  # (name, day, cell)
    whole = _pack(cells, values, (sky, earth, static, fractions))
    size = n * n
    return [_cut(whole, slice(k * size, (k + 1) * size)) for k in range(len(numbers))]


def _columns(seed, world, static):
    """Everything that ``moisture.NAMES`` lists, (day, row, col) or (row, col)."""
    sky, earth = world
    state = bucket(seed, sky, soil=earth)
    watering = irrigation(state, sky, soil=earth)
    added = static["irrigated_fraction"] * watering
    for name, share in (("surface", 1.0), ("fast", 1.0), ("root", 0.5)):
        state[name] = state[name] + share * added
    return {
        **state,
        "irrigation": watering,
        "greenness": greenness(state, sky, soil=earth),
        "temperature": sky.temperature_c,
        "soil_temperature": sky.soil_temperature_c,
        "snow": sky.snow_mm,
        "melt": sky.melt_mm,
        "middle": (earth.dry + earth.field_capacity) / 2,
        "irrigated_fraction": static["irrigated_fraction"],
        "canopy": static["canopy"],
    }


def _flat(values, cells):
    kept = values[cells.kept]
    return kept.reshape(len(kept), -1).astype(np.float32)


def _cut(block, part):
    return Block(
        block.values[:, :, part].copy(),
        block.rain_hour[:, part].copy(),
        {name: values[:, part].copy() for name, values in block.daily.items()},
        {name: values[part].copy() for name, values in block.static.items()},
    )


def _pack(cells, values, parts):
    sky, earth, static, fractions = parts
    get = {name: values[k] for name, k in INDEX.items()}
    day = cells.days[cells.kept].astype("datetime64[D]")
    doy = (day - day.astype("datetime64[Y]")).astype(int) + 1
    by_type = fields.ndvi_by_type(get["greenness"], doy[:, None])  # (day, cell, type)
    rain = _flat(sky.precipitation_mm, cells)
    daily = {
        "precipitation_mm": rain,
        "pet_mm": _flat(sky.pet_mm, cells),
        "snow_mm": get["snow"],
        "temperature_c": get["temperature"],
        "soil_temperature_c": get["soil_temperature"],
        "surface_m3_m3": get["surface"],
        "root_zone_m3_m3": get["root"],
        "ndvi": (by_type * fractions).sum(axis=-1).astype(np.float32),
        "lai": (fields.lai(by_type) * fractions).sum(axis=-1).astype(np.float32),
    }
    names = ("sand_percent", "clay_percent", "porosity", "elevation_m", "irrigated_fraction")
    fixed = {name: static[name].ravel() for name in names}
    fixed["field_capacity"] = earth.field_capacity.ravel()
    fixed["koeppen"] = koeppen(sky.temperature_c, sky.precipitation_mm, days=cells.days)
    hour = np.where(rain + _flat(sky.melt_mm, cells) > 0.2, _flat(sky.rain_hour, cells), np.nan)
    return Block(values, hour, daily, fixed)


def _cell_ground(seed, u_m, v_m):
    """Cell means of the ground from a net of points: columns (row, col), fractions (cell, type)."""
    steps = ((np.arange(SAMPLES_PER_SIDE) + 0.5) / SAMPLES_PER_SIDE - 0.5) * CELL_M
    du, dv = np.meshgrid(steps, steps)
    points_u = u_m.reshape(-1, 1) + du.ravel()  # (cell, point)
    points_v = v_m.reshape(-1, 1) + dv.ravel()
    ground = fields.ground(seed, points_u, points_v)
    fractions = (ground.vegetation[:, :, None] == np.arange(len(fields.TYPES))).mean(axis=1)
    means = {
        name: getattr(ground, name).mean(axis=1).reshape(u_m.shape)
        for name in ("sand_percent", "clay_percent", "porosity", "elevation_m")
    }
    means["irrigated_fraction"] = ground.irrigated.mean(axis=1).reshape(u_m.shape)
    means["canopy"] = (fractions * fields.CANOPY).sum(axis=1).reshape(u_m.shape)
    return means, fractions
