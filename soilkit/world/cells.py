"""The world at 9 km: daily series and states of EASE-Grid cells, computed in blocks and kept."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from soilkit import grids
from soilkit.errors import ContractError
from soilkit.world import constants as c
from soilkit.world import fields, moisture, vegetation
from soilkit.world.weather import koeppen, weather

CELL_M = grids.EASE2_PIXEL_SIZE_M[9]
SAMPLES_PER_SIDE = 12  # points in a cell whose ground stands for the whole cell
MAX_BLOCKS = 96
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
    koeppen: np.ndarray


@dataclass(frozen=True)
class CellState:
    """Cells at one moment, arrays (cell,)."""

    surface_m3_m3: np.ndarray
    root_zone_m3_m3: np.ndarray
    temperature_c: np.ndarray
    soil_temperature_c: np.ndarray
    ndvi: np.ndarray
    lai: np.ndarray
    snow_mm: np.ndarray
    melt_mm: np.ndarray


@dataclass(frozen=True)
class Block:
    """A square of cells: ``values`` (name, day, cell), ``daily`` and ``static`` as in ``CellSeries``."""

    values: np.ndarray
    rain_hour: np.ndarray  # (day, cell), NaN on dry days
    daily: dict
    static: dict
    fractions: np.ndarray  # (cell, vegetation type)


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
            self._blocks[row, col] = _compute(self, row, col)
            if len(self._blocks) > MAX_BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end((row, col))
        return self._blocks[row, col]

    def _parts(self, rows, cols):
        """Yield for each block touched: the block, positions in the request, cells in the block."""
        rows, cols = np.broadcast_arrays(np.atleast_1d(rows), np.atleast_1d(cols))
        numbers = np.stack([rows // c.BLOCK_CELLS, cols // c.BLOCK_CELLS])
        cell = rows % c.BLOCK_CELLS * c.BLOCK_CELLS + cols % c.BLOCK_CELLS
        for row, col in np.unique(numbers, axis=1).T:
            here = np.flatnonzero((numbers[0] == row) & (numbers[1] == col))
            yield self.block(int(row), int(col)), here, cell[here]

    def series(self, rows, cols) -> CellSeries:
        """Daily series of cells (see ``CellSeries``)."""
        n = np.broadcast(np.atleast_1d(rows), np.atleast_1d(cols)).size
        days = self.days[self.kept]
        out: dict = {}
        for block, here, cell in self._parts(rows, cols):
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
        out = np.empty((len(moisture.NAMES), len(times), n))
        for block, here, cell in self._parts(rows, cols):
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
    n = len(moisture.JUMPING)
    out = now + (then - now) * part
    out[:n] = now[:n] + (then[:n] - now[:n]) * weight
    return out


def _compute(cells: Cells, row: int, col: int) -> Block:
    n = c.BLOCK_CELLS
    rows, cols = row * n + np.arange(n), col * n + np.arange(n)
    u_m, v_m = cell_centre(rows, cols)
    sky = weather(cells.seed, cells.days, u_m=u_m, v_m=v_m)
    static, fractions, irrigated = _cell_ground(cells.seed, *np.meshgrid(u_m, v_m))
    texture = tuple(static[k].reshape(n, n) for k in ("sand_percent", "clay_percent", "porosity"))
    earth = moisture.soil(
        cells.seed, texture, u_m=u_m[None, :] + 0 * v_m[:, None], v_m=v_m[:, None] + 0 * u_m
    )
    state = moisture.bucket(cells.seed, sky, soil=earth)
    watering = moisture.irrigation(state, sky, soil=earth)
    fraction = irrigated.reshape(n, n)
    for name in ("surface", "fast"):
        state[name] = state[name] + fraction * watering
    state["root"] = state["root"] + 0.5 * fraction * watering
    columns = {
        **state, "irrigation": watering, "greenness": moisture.greenness(state, sky, soil=earth),
        "temperature": sky.temperature_c, "soil_temperature": sky.soil_temperature_c,
        "snow": sky.snow_mm, "melt": sky.melt_mm,
        "middle": (earth.dry + earth.field_capacity) / 2, "irrigated_fraction": fraction,
    }  # fmt: skip
    shape = (len(cells.days), n, n)
    flat = {k: np.broadcast_to(v, shape)[cells.kept].reshape(-1, n * n) for k, v in columns.items()}
    values = np.stack([flat[name] for name in moisture.NAMES]).astype(np.float32)
    return _pack(cells, values, (sky, earth, static, fractions))


def _pack(cells, values, parts):
    sky, earth, static, fractions = parts
    kept = cells.kept

    def flat(x):
        return x[kept].reshape(len(x[kept]), -1).astype(np.float32)

    get = {name: values[k] for name, k in moisture.INDEX.items()}
    day = cells.days[kept].astype("datetime64[D]")
    doy = (day - day.astype("datetime64[Y]")).astype(int)[:, None] + 1
    by_type = vegetation.ndvi_by_type(get["greenness"], np.broadcast_to(doy, get["root"].shape))
    rain = flat(sky.precipitation_mm)
    daily = {
        "precipitation_mm": rain, "pet_mm": flat(sky.pet_mm), "snow_mm": get["snow"],
        "temperature_c": get["temperature"], "soil_temperature_c": get["soil_temperature"],
        "surface_m3_m3": get["surface"], "root_zone_m3_m3": get["root"],
        "ndvi": (by_type * fractions).sum(axis=-1).astype(np.float32),
        "lai": (vegetation.lai(by_type) * fractions).sum(axis=-1).astype(np.float32),
    }  # fmt: skip
    static = {**static, "field_capacity": earth.field_capacity.ravel()}
    static["koeppen"] = _climate_classes(cells.days, sky)
    hour = np.where(rain + flat(sky.melt_mm) > 0.2, flat(sky.rain_hour), np.nan)
    return Block(values, hour, daily, static, fractions)


def _climate_classes(days, sky):
    whole = slice(0, len(days) // 365 * 365)
    n = sky.temperature_c[0].size
    warm = sky.temperature_c[whole].reshape(-1, n)
    rain = sky.precipitation_mm[whole].reshape(-1, n)
    return np.array([koeppen(warm[:, k], rain[:, k], days=days[whole]) for k in range(n)], "U3")


def _cell_ground(seed, u_m, v_m):
    """Cell means of the ground from a net of points: static columns, type fractions, irrigation."""
    steps = ((np.arange(SAMPLES_PER_SIDE) + 0.5) / SAMPLES_PER_SIDE - 0.5) * CELL_M
    du, dv = np.meshgrid(steps, steps)
    points_u = u_m.reshape(-1, 1) + du.ravel()  # (cell, point)
    points_v = v_m.reshape(-1, 1) + dv.ravel()
    ground = fields.ground(seed, points_u, points_v)
    static = {
        name: getattr(ground, name).mean(axis=1)
        for name in ("sand_percent", "clay_percent", "porosity", "elevation_m")
    }
    types = np.arange(len(fields.TYPES))
    fractions = (ground.vegetation[:, :, None] == types).mean(axis=1)  # (cell, type)
    return static, fractions, ground.irrigated.mean(axis=1)


def state_at(source: Cells, time, *, rows, cols) -> CellState:
    """Cells at one moment (see ``CellState``)."""
    get = dict(zip(moisture.NAMES, source.states(time, rows=rows, cols=cols)[:, 0], strict=True))
    day = np.datetime64(time, "D")
    doy = int((day - day.astype("datetime64[Y]")).astype(int)) + 1
    fractions = np.empty((get["root"].size, len(fields.TYPES)))
    for block, here, cell in source._parts(rows, cols):
        fractions[here] = block.fractions[cell]
    by_type = vegetation.ndvi_by_type(get["greenness"], doy)  # (cell, type)
    return CellState(
        get["surface"], get["root"], get["temperature"], get["soil_temperature"],
        (by_type * fractions).sum(axis=-1), (vegetation.lai(by_type) * fractions).sum(axis=-1),
        get["snow"], get["melt"],
    )  # fmt: skip
