"""Daily weather of 9 km cells as products are driven by it, and the errors that they share."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from soilkit import grids
from soilkit.world import schedule
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors import lattice

_NORMAL_MISSED, _NORMAL_FALSE = (float(ndtri(p)) for p in (c.RAIN_MISSED, 1 - c.RAIN_FALSE))


@dataclass(frozen=True)
class Forcing:
    """Daily weather of cells: arrays (cell, day); ``y_m``, ``x_m`` (cell,) place the errors.

    The first ``n_past`` days lie before the kept states of the world: models run over them too,
    so that what they start from is forgotten, and cut them off (``kept``).
    """

    days: np.ndarray  # datetime64[D], (day,)
    y_m: np.ndarray
    x_m: np.ndarray
    precipitation_mm: np.ndarray
    pet_mm: np.ndarray
    temperature_c: np.ndarray
    n_past: int = 0

    @property
    def kept(self) -> slice:
        """The days that a product gives."""
        return slice(self.n_past, None)

    @property
    def span(self) -> tuple[np.datetime64, np.datetime64]:
        """The first kept day and the day after the last."""
        return self.days[self.n_past], self.days[-1] + 1


@dataclass(frozen=True)
class Product:
    """A product over cells: its periods and stored values (cell, time, band), NaN where none."""

    periods: schedule.Periods
    values: np.ndarray


def forcing(state: Any, *, rows: np.ndarray, cols: np.ndarray) -> Forcing:
    """The weather of some EASE-Grid 9 km cells, ``state`` being their ``CellSeries``."""
    size = grids.EASE2_PIXEL_SIZE_M[9]
    n_past = state.past_precipitation_mm.shape[1]
    first = np.asarray(state.time).astype("datetime64[D]")[0]
    names = ("precipitation_mm", "pet_mm", "temperature_c")
    series = {n: np.hstack([getattr(state, f"past_{n}"), getattr(state, n)]) for n in names}
    return Forcing(
        first - n_past + np.arange(series[names[0]].shape[1]),
        grids.EASE2_TOP_M - (np.asarray(rows) + 0.5) * size,
        grids.EASE2_LEFT_M + (np.asarray(cols) + 0.5) * size,
        **series,
        n_past=n_past,
    )


def observed_rain(forcing: Forcing, *, seed: int) -> np.ndarray:
    """Rain as a satellite product gives it: scaled, missed and invented, (cell, day), mm.

    Errors are lognormal and correlated over about 100 km; 12 % of the wet days are missed and 4 %
    of the dry ones invented [1]_. One error field serves every model.

    References
    ----------
    .. [1] Maggioni et al. (2016), doi:10.1175/JHM-D-15-0190.1
    """
    number = forcing.days.astype(np.int64)

    def field(name: str, *, when=number) -> np.ndarray:
        seeds = lattice.keys((seed, name), when)
        place = forcing.y_m, forcing.x_m
        return lattice.smooth_points(seeds, place, scale_m=c.RAIN_ERROR_SCALE_M).T

    rain = forcing.precipitation_mm
    place = field("rain gain", when=np.zeros(1, dtype=np.int64))
    log = c.RAIN_LOG_STD * field("rain error") + c.RAIN_GAIN_STD * place
    chance = field("rain hit")
    seen = np.where(chance < _NORMAL_MISSED, 0, rain * np.exp(log - c.RAIN_LOG_STD**2 / 2))
    invented = np.where(chance > _NORMAL_FALSE, c.RAIN_FALSE_MM * np.exp(log), 0)
    return np.where(rain > 0.2, seen, invented)  # (cell, day)


def cell_numbers(forcing: Forcing) -> np.ndarray:
    """A number for each cell, (cell,) int64, on which its own errors hang."""
    row, col = np.round(forcing.y_m / 9000), np.round(forcing.x_m / 9000)
    return row.astype(np.int64) * 4096 + col.astype(np.int64)


def slow_noise(name: str, forcing: Forcing, *, seed: int, days: float) -> np.ndarray:
    """Standard normal noise that changes within ``days``, apart in every cell, (cell, day)."""
    seeds = lattice.keys((seed, name), cell_numbers(forcing))
    line = np.zeros(1), forcing.days.astype(np.int64).astype(float)
    return lattice.smooth(seeds, line, scale_m=days)[:, 0]
