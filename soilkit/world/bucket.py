"""The moving half of the world: a four-layer bucket a 9 km cell, by the day and at a point."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from soilkit import grids, retention
from soilkit.errors import ContractError
from soilkit.world import fields, noise
from soilkit.world import parameters as c
from soilkit.world.climate import Weather, koeppen_of, normal_pet_mm, weather

# What a block keeps a cell and day; the first ones jump with rain, the others run evenly.
LAYERS = ("surface", "layer 2", "layer 3", "layer 4")  # 0-5, 5-15, 15-40 and 40-100 cm
JUMPING = ("surface", "fast", *(f"storm {k}" for k in range(c.STORM_PATTERNS)))
EVEN = (*LAYERS[1:], "irrigation", "greenness", "temperature", "soil_temperature", "snow", "melt")
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
    means : dict of ``CELL_MEANS``, arrays (row, col)
    u_m, v_m : array (row, col), m
    """
    sand, clay, porosity = (means[k] for k in ("sand_percent", "clay_percent", "porosity"))
    curve = retention.from_texture(
        sand, clay,
        bulk_density_g_cm3=means["bulk_density_g_cm3"], organic_percent=means["organic_percent"],
    )  # fmt: skip
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


def profile_weights(depth_m) -> np.ndarray:
    """How much each layer counts at a depth, (layer,), adding to one.

    A pair is a span whose mean is wanted. A number is a probe's depth: to 5 cm it reads the surface
    alone, at 10, 27.5 and 70 cm the layer around, between them both neighbours, straight by depth.
    Raises ``ContractError`` for depths outside 0-1 m, and spans that do not run downwards.

    Examples
    --------
    >>> profile_weights((0.0, 1.0)).round(2).tolist()
    [0.05, 0.1, 0.25, 0.6]
    >>> profile_weights(0.20).round(2).tolist()
    [0.0, 0.43, 0.57, 0.0]
    """
    depth = np.asarray(depth_m, float)
    ends = np.cumsum([0.0, *c.LAYER_MM]) / 1000
    if not (depth.shape in ((), (2,)) and (depth >= 0).all() and (depth <= ends[-1]).all()):
        raise ContractError(
            f"A world is known from 0 to {ends[-1]:g} m: depth_m is one depth, or a pair "
            f"(from, to), in metres; found {depth_m!r}."
        )
    if depth.shape == () or depth[0] == depth[1]:
        probe = np.clip(depth.max(), c.LAYER_KNOTS_M[0], c.LAYER_KNOTS_M[-1])
        each = np.eye(len(LAYERS))
        return np.array([np.interp(probe, c.LAYER_KNOTS_M, one) for one in each])
    if depth[0] > depth[1]:
        raise ContractError(f"A span of depths runs downwards, found depth_m={depth_m!r}.")
    inside = np.clip(np.minimum(ends[1:], depth[1]) - np.maximum(ends[:-1], depth[0]), 0, None)
    return inside / inside.sum()


ROOT_ZONE = profile_weights((0.0, 1.0))


def mean_of(state, weights) -> np.ndarray:
    """The layers of a state (name -> array) averaged by ``profile_weights``, m3 m-3."""
    return sum(w * state[name] for w, name in zip(weights, LAYERS, strict=True) if w)


def bucket(seed: int, weather: Weather, *, soil: Soil) -> dict[str, np.ndarray]:
    """Run the buckets day by day; each result (day, row, col) is the state at the day's start.

    Water that enters leaves again by evaporation, by roots and at the bottom, to the last
    millimetre: liquid water = evaporation + drainage + what the four layers gain.

    Returns
    -------
    dict of ``LAYERS`` and "fast" [m3 m-3], "storm k" (unit variance where it rains often), and over
    the day "evaporation" and "drainage" [mm], the latter with what runs off
    """
    shape = weather.liquid_mm.shape
    names = (*LAYERS, "fast", *JUMPING[2:], "evaporation", "drainage")
    state = {name: np.zeros(shape) for name in names}
    theta = [(low + soil.field_capacity) / 2 for low in (soil.dry, *[soil.wilting] * 3)]
    fast = theta[0]
    storms = np.zeros((c.STORM_PATTERNS, *shape[1:]))
    kicks = noise.normal(noise.key(seed, "storms"), (weather.days[:, None], np.arange(len(storms))))
    rates = _drying_rates(weather, soil)
    for day in range(shape[0]):
        for name, values in zip((*LAYERS, "fast"), (*theta, fast), strict=True):
            state[name][day] = values
        for k, storm in enumerate(storms):
            state[f"storm {k}"][day] = storm
        wet = weather.liquid_mm[day]
        target = _target(theta, soil)
        fast = _fill(fast, wet, c.LAYER_MM[0], soil)[0]
        fast = fast - _drained(fast, 0, soil)
        fast = target + (fast - target) * np.exp(-c.FAST_FACTOR * rates[day])
        theta, out = _step(theta, wet, (target, rates[day], weather.pet_mm[day]), soil)
        state["evaporation"][day], state["drainage"][day] = out
        strength = 1.86 * (1 - np.exp(-wet / 8.0))
        storms = storms * np.exp(-1 / c.STORM_DECAY_DAYS) + strength * kicks[day][:, None, None]
    return state


def _target(theta, soil):
    """Where the surface dries to: the drier, the drier the layers below are."""
    below = sum(w * t for w, t in zip(c.TARGET_WEIGHTS, theta, strict=True))
    full = np.clip(_relative(below, soil), 0, 1)
    return soil.dry + c.ROOT_WEIGHT * (soil.field_capacity - soil.dry) * full


def _relative(theta, soil):
    return (theta - soil.wilting) / (soil.field_capacity - soil.wilting)


def _step(theta, wet_mm, demand, soil):
    """A day: water goes down, the surface dries towards its target, roots drink, layers exchange.

    Returns the layers and (evaporation, drainage), mm.
    """
    target, rate, pet_mm = demand
    theta, depth, left = list(theta), c.LAYER_MM, wet_mm
    for k in range(4):  # what one layer has no room for goes to the next
        theta[k], left = _fill(theta[k], left, depth[k], soil)
    for k in range(4):
        drained = _drained(theta[k], k, soil)
        if k < 3:
            room = np.maximum(soil.porosity - theta[k + 1], 0) * depth[k + 1] / depth[k]
            drained = np.minimum(drained, room)
            theta[k + 1] = theta[k + 1] + drained * depth[k] / depth[k + 1]
        else:
            left = left + drained * depth[k]
        theta[k] = theta[k] - drained
    dried = (theta[0] - target) * (1 - np.exp(-rate))
    spare = np.maximum(theta[1] - soil.wilting, 0) * depth[1] / depth[0]
    risen = np.minimum(np.maximum(-dried, 0), spare)  # from below, where the target is wetter
    lost_mm = np.maximum(dried, 0) * depth[0]
    theta[0] = theta[0] - np.maximum(dried, 0) + risen
    theta[1] = theta[1] - risen * depth[0] / depth[1]
    wanted_mm = np.maximum(c.ROOT_UPTAKE * pet_mm - lost_mm, 0)
    for k in (1, 2, 3):
        stress = np.clip(_relative(theta[k], soil) / 0.6, 0, 1)
        spare_mm = np.maximum(theta[k] - soil.wilting, 0) * depth[k]
        drunk_mm = np.minimum(c.ROOT_FRACTION[k] * stress * wanted_mm, spare_mm)
        theta[k] = theta[k] - drunk_mm / depth[k]
        lost_mm = lost_mm + drunk_mm
    for k, exchange_mm in enumerate(c.EXCHANGE_MM):
        moved_mm = exchange_mm * (_relative(theta[k], soil) - _relative(theta[k + 1], soil))
        theta[k] = theta[k] - moved_mm / depth[k]
        theta[k + 1] = theta[k + 1] + moved_mm / depth[k + 1]
    return theta, (lost_mm, left)


def _drying_rates(weather, soil):
    days = c.DRYDOWN_DAYS + c.DRYDOWN_CLAY_DAYS * soil.clay_percent
    demand = c.LEAST_DRYING + (1 - c.LEAST_DRYING) * weather.pet_mm / c.REFERENCE_PET_MM
    return np.where(weather.soil_temperature_c < 0, 0.1, 1.0) * demand / days


def _fill(moisture, wet_mm, depth_mm, soil):
    """Water enters while there is room: the moisture then, and what goes on, mm."""
    room_mm = np.maximum(soil.porosity - moisture, 0.01) * depth_mm
    into_mm = room_mm * (1 - np.exp(-wet_mm / room_mm))
    return moisture + into_mm / depth_mm, wet_mm - into_mm


def _drained(moisture, layer, soil):
    """What stands above field capacity and drains within a day."""
    return np.maximum(moisture - soil.field_capacity, 0) * (1 - np.exp(-1 / c.DRAIN_DAYS[layer]))


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
    moist = np.clip((mean_of(state, ROOT_ZONE) - soil.wilting) / (0.7 * span), 0, 1)
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
    """Spread of fine moisture at a coarse mean, k m exp(-m / peak) (Famiglietti 2008)."""
    relative = mean_m3_m3 / c.PEAK_MEAN_M3_M3
    return c.PEAK_SD_M3_M3 * relative * np.exp(1 - relative)


def fine(state, pattern: fields.Pattern, *, ground: fields.Ground, weights):
    """Moisture at points from the coarse state between cell centres (the module's equation).

    Parameters
    ----------
    state : dict name -> array, coarse values at the points (``NAMES``)
    pattern : Pattern, broadcast against the state
    ground : Ground, broadcast against the state
    weights : array (layer,), from ``profile_weights``

    Returns
    -------
    array, m3 m-3
    """
    mean = mean_of(state, weights)
    shade = fields.CANOPY.astype(np.float32)[ground.vegetation] - state["canopy"]
    wet = mean + spread(mean) * (pattern.deviation + c.FINE_WEIGHTS["canopy"] * shade)
    water = state["irrigation"] * (ground.irrigated - state["irrigated_fraction"])
    share = np.dot(weights, c.IRRIGATION_SHARE)
    if top := np.dot(weights, c.PATTERN_SHARE):  # what storms and drying leave, fading downwards
        wet = wet + top * pattern.gain * (state["surface"] - state["middle"])
        wet = wet + top * pattern.fast * (state["fast"] - state["surface"])
        for k in range(c.STORM_PATTERNS):
            wet = wet + (top * c.STORM_SD * pattern.storms[k]) * state[f"storm {k}"]
    wet = wet + share * water
    return np.clip(wet, c.LEAST_MOISTURE_M3_M3, c.MOST_FILLED * ground.porosity)


# The world at 9 km: daily series and states of EASE-Grid cells, computed in blocks and kept.

CELL_M = grids.EASE2_PIXEL_SIZE_M[9]
SAMPLES_PER_SIDE = 12  # points in a cell whose ground stands for the whole cell
MAX_BLOCKS = 400  # about 0.8 MB each over two years
BATCH = 48  # blocks computed together: numpy's overhead a day is paid once
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class CellSeries:
    """Daily series of cells: states at the day's start (00:00 UTC), fluxes over the day.

    ``time`` (day,) datetime64[us]; daily arrays (cell, day); static arrays (cell,). Layers 2 to 4
    are 5-15, 15-40 and 40-100 cm. Evaporation and drainage are those of the ground that nobody
    irrigates, whose water is balanced. ``past`` arrays (cell, 365) are the weather before ``time``.
    """

    time: np.ndarray
    past_precipitation_mm: np.ndarray
    past_pet_mm: np.ndarray
    past_temperature_c: np.ndarray
    precipitation_mm: np.ndarray
    rain_hour: np.ndarray  # when the day's rain begins, UTC; NaN on dry days
    evaporation_mm: np.ndarray
    drainage_mm: np.ndarray
    pet_mm: np.ndarray
    temperature_c: np.ndarray
    soil_temperature_c: np.ndarray
    surface_m3_m3: np.ndarray
    layer_2_m3_m3: np.ndarray
    layer_3_m3_m3: np.ndarray
    layer_4_m3_m3: np.ndarray
    root_zone_m3_m3: np.ndarray
    ndvi: np.ndarray
    lai: np.ndarray
    snow_mm: np.ndarray
    sand_percent: np.ndarray
    clay_percent: np.ndarray
    bulk_density_g_cm3: np.ndarray
    organic_percent: np.ndarray
    porosity: np.ndarray
    field_capacity: np.ndarray
    wilting_point: np.ndarray
    elevation_m: np.ndarray
    irrigated_fraction: np.ndarray
    water_fraction: np.ndarray
    type_fraction: np.ndarray  # (cell, type) of fields.TYPES
    normal_precipitation_mm: np.ndarray  # a year
    normal_pet_mm: np.ndarray  # a year
    normal_temperature_c: np.ndarray
    koeppen: np.ndarray


@dataclass(frozen=True)
class Block:
    """A square of cells: ``values`` (name, day, cell); the rest as in ``CellSeries``."""

    values: np.ndarray
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
                out.setdefault(name, np.empty((n, len(values))))[here] = values[:, cell].T
            for name, values in block.static.items():
                shape = (n, *values.shape[1:])
                out.setdefault(name, np.empty(shape, dtype=values.dtype))[here] = values[cell]
        return CellSeries(time=days.astype("datetime64[D]").astype("datetime64[us]"), **out)

    def states(self, times, *, rows, cols) -> np.ndarray:
        """All state variables at some times: array (name, time, cell), see ``moisture.NAMES``.

        Raises ``ContractError`` where a time lies outside the world's period.
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
    jump = np.clip((part * 24 - block.daily["rain_hour"][:, cell][index]) / 3, 0, 1)
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
    static["type_fraction"] = fractions
    whole = _pack(cells, values, (sky, earth, static, columns))
    size = n * n
    return [_cut(whole, slice(k * size, (k + 1) * size)) for k in range(len(numbers))]


def _columns(seed, world, static):
    """Everything that ``moisture.NAMES`` lists, (day, row, col) or (row, col)."""
    sky, earth = world
    state = bucket(seed, sky, soil=earth)
    watering = irrigation(state, sky, soil=earth)
    added = static["irrigated_fraction"] * watering
    for name, share in zip((*LAYERS, "fast"), (*c.IRRIGATION_SHARE, 1.0), strict=True):
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
        {name: values[:, part].copy() for name, values in block.daily.items()},
        {name: values[part].copy() for name, values in block.static.items()},
    )


def _pack(cells, values, parts):
    sky, earth, static, columns = parts
    get = {name: values[k] for name, k in INDEX.items()}
    day = cells.days[cells.kept].astype("datetime64[D]")
    doy = (day - day.astype("datetime64[Y]")).astype(int) + 1
    by_type = fields.ndvi_by_type(get["greenness"], doy[:, None])  # (day, cell, type)
    fractions = static["type_fraction"]
    rain = _flat(sky.precipitation_mm, cells)
    melt = _flat(sky.melt_mm, cells)
    daily = {
        "precipitation_mm": rain,
        "rain_hour": np.where(rain + melt > 0.2, _flat(sky.rain_hour, cells), np.nan),
        "pet_mm": _flat(sky.pet_mm, cells),
        "evaporation_mm": _flat(columns["evaporation"], cells),
        "drainage_mm": _flat(columns["drainage"], cells),
        "snow_mm": get["snow"],
        "temperature_c": get["temperature"],
        "soil_temperature_c": get["soil_temperature"],
        **{f"{name.replace(' ', '_')}_m3_m3": get[name] for name in LAYERS},
        "root_zone_m3_m3": mean_of(get, ROOT_ZONE.astype(np.float32)),
        "ndvi": (by_type * fractions).sum(axis=-1).astype(np.float32),
        "lai": (fields.lai(by_type) * fractions).sum(axis=-1).astype(np.float32),
    }
    for name in ("precipitation_mm", "pet_mm", "temperature_c"):
        before = getattr(sky, name)[: cells.kept.start]
        daily[f"past_{name}"] = before.reshape(len(before), -1).astype(np.float32)
    fixed = {name: static[name].ravel() for name in CELL_MEANS}
    fixed |= {name: static[name].ravel() for name in ("irrigated_fraction", "water_fraction")}
    fixed["type_fraction"] = fractions
    fixed["field_capacity"], fixed["wilting_point"] = (
        earth.field_capacity.ravel(), earth.wilting.ravel(),
    )  # fmt: skip
    fixed["normal_precipitation_mm"] = sky.normals.precipitation_mm.ravel()
    fixed["normal_pet_mm"] = normal_pet_mm(sky.normals).ravel()
    fixed["normal_temperature_c"] = sky.normals.temperature_c.ravel()
    fixed["koeppen"] = koeppen_of(sky.normals).ravel().astype("U3")
    return Block(values, daily, fixed)


CELL_MEANS = (
    "sand_percent", "clay_percent", "bulk_density_g_cm3", "organic_percent", "porosity",
    "elevation_m",
)  # fmt: skip


def _cell_ground(seed, u_m, v_m):
    """Cell means of the ground from a net of points: columns (row, col), fractions (cell, type)."""
    steps = ((np.arange(SAMPLES_PER_SIDE) + 0.5) / SAMPLES_PER_SIDE - 0.5) * CELL_M
    du, dv = np.meshgrid(steps, steps)
    points_u = u_m.reshape(-1, 1) + du.ravel()  # (cell, point)
    points_v = v_m.reshape(-1, 1) + dv.ravel()
    ground = fields.ground(seed, points_u, points_v)
    fractions = (ground.vegetation[:, :, None] == np.arange(len(fields.TYPES))).mean(axis=1)
    means = {name: getattr(ground, name).mean(axis=1).reshape(u_m.shape) for name in CELL_MEANS}
    means["irrigated_fraction"] = ground.irrigated.mean(axis=1).reshape(u_m.shape)
    means["water_fraction"] = fractions[:, fields.TYPES.index("water")].reshape(u_m.shape)
    means["canopy"] = (fractions * fields.CANOPY).sum(axis=1).reshape(u_m.shape)
    return means, fractions
