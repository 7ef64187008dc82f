"""Daily weather of 9 km cells as products are driven by it, and the errors that they share."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import ndtri

from soilkit import grids
from soilkit.world import schedule
from soilkit.world.sensors import instruments as c
from soilkit.world.sensors import lattice

_DAY = np.timedelta64(1, "D")


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
    rain_hour: np.ndarray | None = None  # UTC hour when rain begins, NaN on dry and past days

    @property
    def kept(self) -> slice:
        """The days that a product gives."""
        return slice(self.n_past, None)

    @property
    def days_of_epoch(self) -> np.ndarray:
        """Days since 1970-01-01, on which errors hang, (day,) int64."""
        return self.days.astype(np.int64)

    @property
    def rain_ends(self) -> np.ndarray:
        """UTC hour by which a day's rain has fallen, (cell, day); late where it is unknown."""
        begins = np.full(self.pet_mm.shape, np.nan) if self.rain_hour is None else self.rain_hour
        return np.nan_to_num(begins, nan=c.UNSEEN_RAIN_HOUR) + c.RAIN_LASTS_HOURS

    def lonlat(self) -> tuple[np.ndarray, np.ndarray]:
        """Longitude and latitude of the cells, degrees."""
        return grids.transformer(grids.EASE2_CRS, "EPSG:4326").transform(self.x_m, self.y_m)

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
    unknown = np.full(state.past_precipitation_mm.shape, np.nan)
    return Forcing(
        first - n_past + np.arange(series[names[0]].shape[1]),
        grids.EASE2_TOP_M - (np.asarray(rows) + 0.5) * size,
        grids.EASE2_LEFT_M + (np.asarray(cols) + 0.5) * size,
        **series,
        n_past=n_past,
        rain_hour=np.hstack([unknown, state.rain_hour]),
    )


def error_field(forcing: Forcing, name: str, *, seed: int, scale_m: float = c.RAIN_ERROR_SCALE_M):
    """Standard normal errors, smooth in space and new every day, (cell, day) float32."""
    seeds = lattice.keys((seed, name), forcing.days_of_epoch)
    return lattice.smooth_points(seeds, (forcing.y_m, forcing.x_m), scale_m=scale_m).T


def constant_field(
    forcing: Forcing, name: str, *, seed: int, scale_m: float = c.RAIN_ERROR_SCALE_M
):
    """Standard normal errors, smooth in space and the same for all times, (cell, 1) float32."""
    seeds = lattice.keys((seed, name), np.zeros(1, dtype=np.int64))
    return lattice.smooth_points(seeds, (forcing.y_m, forcing.x_m), scale_m=scale_m).T


def observed_rain(forcing: Forcing, *, seed: int, kind: str = "satellites") -> np.ndarray:
    """Rain as a product gives it: scaled, missed and invented, (cell, day), mm.

    Errors are lognormal and correlated over about 100 km; some wet days are missed and some dry
    ones invented [1]_. ``RAIN_ERRORS`` gives each kind its size, and how much of its variance it
    has in common with the others. The satellites' errors are those of SMAP10KM, GLDAS and IMERG,
    all of which rest on the same radiometers; CHIRPS, infrared with gauges, and SMAP L4, corrected
    by gauges, share a part. NLDAS-2 rests on gauges alone: none of its errors is the satellites'.
    gridMET takes its days from NLDAS-2 [2]_, hence shares with it and SMAP L4. The rest of a kind's
    errors is not shared.

    References
    ----------
    .. [1] Maggioni et al. (2016), doi:10.1175/JHM-D-15-0190.1
    .. [2] Abatzoglou (2013), doi:10.1002/joc.3413
    """
    error = c.RAIN_ERRORS[kind]
    shares = {"": error["satellites"], "gauges ": error["gauges"]}
    shares[f"{kind} "] = 1 - error["satellites"] - error["gauges"]

    def mixed(name: str, field: Any) -> Any:
        parts = (
            np.float32(np.sqrt(share)) * field(forcing, prefix + name, seed=seed)
            for prefix, share in shares.items()
            if share > 1e-6
        )
        return sum(parts)

    spread = error["log_std"]
    place = error["log_std"] / c.RAIN_LOG_STD * c.RAIN_GAIN_STD * mixed("rain gain", constant_field)
    log = spread * mixed("rain error", error_field) + place
    chance = mixed("rain hit", error_field)
    rain = forcing.precipitation_mm
    seen = np.where(chance < ndtri(error["missed"]), 0, rain * np.exp(log - spread**2 / 2))
    invented = np.where(chance > ndtri(1 - error["false"]), c.RAIN_FALSE_MM * np.exp(log), 0)
    return np.where(rain > 0.2, seen, invented)  # (cell, day)


def instants(
    forcing: Forcing, after: np.ndarray, *, times: np.ndarray, jump: np.ndarray
) -> np.ndarray:
    """Values within days from those at the days' ends, (cell, time) float32.

    They change evenly but for what rain adds, which is there when the rain has fallen: no instant
    knows rain to come.

    Parameters
    ----------
    after : array (cell, day), at the end of each day
    times : datetime64 array (time,)
    jump : array (cell, day), what the day's rain added to it
    """
    day = (times.astype("datetime64[D]") - forcing.days[0]).astype(int)
    part = ((times - times.astype("datetime64[D]")) / _DAY).astype(np.float32)
    after, jump = after.astype(np.float32), jump.astype(np.float32)
    before = after[:, day - 1]
    values = before + ((after - jump)[:, day] - before) * part
    fallen = part * 24 >= forcing.rain_ends.astype(np.float32)[:, day]
    return values + jump[:, day] * fallen


def slow_noise(name: str, forcing: Forcing, *, seed: int, days: float) -> np.ndarray:
    """Standard normal noise that changes within ``days``, smooth in space too, (cell, day)."""
    knot, weight = lattice.cubic(forcing.days_of_epoch / days)
    numbers = np.arange(knot.min(), knot.max() + 4)
    place = forcing.y_m, forcing.x_m
    fields = lattice.smooth_points(
        lattice.keys((seed, name), numbers), place, scale_m=c.RAIN_ERROR_SCALE_M
    )  # (knot, cell)
    index = (knot - knot.min())[:, None] + np.arange(4)
    starts = np.arange(0, 4 * len(knot) + 1, 4)
    shape = len(knot), len(numbers)
    return (csr_matrix((weight.ravel(), index.ravel(), starts), shape=shape) @ fields).T
