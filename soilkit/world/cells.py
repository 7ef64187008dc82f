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
    """A square of cells: ``values`` (name, day, cell); the rest as in ``CellSeries``."""

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
        out = np.empty((len(moisture.NAMES), len(times), n))
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
    n = len(moisture.JUMPING)
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
    earth = moisture.soil(cells.seed, static, u_m=place_u, v_m=place_v)
    columns = _columns(cells.seed, (sky, earth), static)
    flat = [
        _flat(np.broadcast_to(columns[name], sky.snow_mm.shape), cells) for name in moisture.NAMES
    ]
    values = np.stack(flat)  # (name, day, cell)
    whole = _pack(cells, values, (sky, earth, static, fractions))
    size = n * n
    return [_cut(whole, slice(k * size, (k + 1) * size)) for k in range(len(numbers))]


def _columns(seed, world, static):
    """Everything that ``moisture.NAMES`` lists, (day, row, col) or (row, col)."""
    sky, earth = world
    state = moisture.bucket(seed, sky, soil=earth)
    watering = moisture.irrigation(state, sky, soil=earth)
    added = static["irrigated_fraction"] * watering
    for name, share in (("surface", 1.0), ("fast", 1.0), ("root", 0.5)):
        state[name] = state[name] + share * added
    return {
        **state,
        "irrigation": watering,
        "greenness": moisture.greenness(state, sky, soil=earth),
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
        block.fractions[part].copy(),
    )


def _pack(cells, values, parts):
    sky, earth, static, fractions = parts
    get = {name: values[k] for name, k in moisture.INDEX.items()}
    day = cells.days[cells.kept].astype("datetime64[D]")
    doy = (day - day.astype("datetime64[Y]")).astype(int) + 1
    by_type = vegetation.ndvi_by_type(get["greenness"], doy[:, None])  # (day, cell, type)
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
        "lai": (vegetation.lai(by_type) * fractions).sum(axis=-1).astype(np.float32),
    }
    names = ("sand_percent", "clay_percent", "porosity", "elevation_m", "irrigated_fraction")
    fixed = {name: static[name].ravel() for name in names}
    fixed["field_capacity"] = earth.field_capacity.ravel()
    fixed["koeppen"] = koeppen(sky.temperature_c, sky.precipitation_mm, days=cells.days)
    hour = np.where(rain + _flat(sky.melt_mm, cells) > 0.2, _flat(sky.rain_hour, cells), np.nan)
    return Block(values, hour, daily, fixed, fractions)


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


def state_at(source: Cells, time, *, rows, cols) -> CellState:
    """Cells at one moment (see ``CellState``)."""
    get = dict(zip(moisture.NAMES, source.states(time, rows=rows, cols=cols)[:, 0], strict=True))
    day = np.datetime64(time, "D")
    doy = int((day - day.astype("datetime64[Y]")).astype(int)) + 1
    fractions = np.empty((get["root"].size, len(fields.TYPES)))
    for block, here, cell in source.parts(rows, cols):
        fractions[here] = block.fractions[cell]
    by_type = vegetation.ndvi_by_type(get["greenness"], doy)  # (cell, type)
    return CellState(
        get["surface"], get["root"], get["temperature"], get["soil_temperature"],
        (by_type * fractions).sum(axis=-1), (vegetation.lai(by_type) * fractions).sum(axis=-1),
        get["snow"], get["melt"],
    )  # fmt: skip
