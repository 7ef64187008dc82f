"""What the probes of synthetic stations say: offset, noise, frost, faults, gaps and flags."""

import numpy as np
import pandas as pd

from soilkit.errors import UnknownNameError
from soilkit.world import constants as c
from soilkit.world import places

_HOUR = np.timedelta64(1, "h")


def hours(world) -> np.ndarray:
    """The world's hours, (time,) datetime64[us]: half-open from start to end."""
    return np.arange(world.start, world.end, _HOUR).astype("datetime64[us]")


def _coarse_and_truth(world, site, depth, times):
    place = world.network().place.at([site])
    state = places.point_states(world._cells, place, times=times)
    wet = places.truth(state, place, depth=depth)
    return {name: values[:, 0] for name, values in state.items()}, wet[:, 0]


def readings(world, sensor_id: str) -> pd.DataFrame:
    """A sensor's hourly readings.

    Parameters
    ----------
    world : World
    sensor_id : str

    Returns
    -------
    DataFrame of ``time``, ``soil_moisture_m3_m3``, ``flag`` (ISMN's) and ``truth_m3_m3`` (which no
    probe has); hours without a reading are absent

    Raises
    ------
    UnknownNameError
        Where no sensor has that id.
    """
    net = world.network()
    found = np.flatnonzero(net.table.sensor_id == sensor_id)
    if not len(found):
        raise UnknownNameError(
            f"No sensor {sensor_id!r} among the {len(net.table)} of this world; "
            "World.stations() lists them."
        )
    sensor, times = int(found[0]), hours(world)
    depth = "root" if net.table.depth_to_m[sensor] > 0.06 else "surface"
    state, wet = _coarse_and_truth(world, net.site[sensor], depth, times)
    rng = world.rng("readings", sensor_id)
    value, flag = _read(wet, state, (net.offset_m3_m3[sensor], _saturation(net, sensor)), rng)
    value, flag = _FAULTS[net.fault[sensor]](value, flag, rng)
    flag = np.where(value > 0.60, "C02", flag)
    present = ~_gaps(len(times), rng)
    return pd.DataFrame(
        {"time": times, "soil_moisture_m3_m3": value.round(4), "flag": flag, "truth_m3_m3": wet}
    )[present].reset_index(drop=True)


def _saturation(net, sensor):
    return float(net.place.ground.porosity[net.site[sensor]])


def _read(wet, state, probe, rng):
    """Offset, noise and frost; flags as the ISMN's own rules would set them."""
    offset, saturation = probe
    soil_c = state["soil_temperature"]
    frozen = soil_c < -0.3
    noisy = wet + offset + c.PROBE_NOISE_SD * rng.standard_normal(len(wet))
    value = np.maximum(np.where(frozen, c.FROZEN_FRACTION_READ * noisy, noisy), 0.004)
    flag = np.full(len(wet), "G", dtype="U7")
    flag[value > saturation] = "C03"
    flag[soil_c < 0] = "D01"
    flag[(soil_c >= 0) & (state["temperature"] < 0)] = "D02"
    flag[frozen & (rng.random(len(wet)) < 0.2)] = "D03"
    return value, flag


def _sound(value, flag, rng):
    return value, flag


def _stuck(value, flag, rng):
    """For some weeks the probe repeats one value; the ISMN flags the plateau D09."""
    value, flag = value.copy(), flag.copy()
    for _ in range(3):
        length = int(rng.integers(300, 1500))
        start = int(rng.integers(0, max(len(value) - length, 1)))
        stop = min(start + length, len(value))
        value[start:stop] = value[start]
        flag[start + 12 : stop] = "D09"
    return value, flag


def _broken(value, flag, rng):
    """Spikes (D06), a break (D07 down, D08 up) and readings above any soil's (C02)."""
    value, flag = value.copy(), flag.copy()
    spikes = rng.random(len(value)) < 0.002
    value[spikes] += rng.uniform(0.12, 0.25, spikes.sum())
    flag[spikes] = "D06"
    at = int(rng.integers(len(value) // 3, max(2 * len(value) // 3, len(value) // 3 + 1)))
    jump = 0.12 * rng.choice([-1.0, 1.0])
    value[at:] = np.maximum(value[at:] + jump, 0.002)
    flag[at : at + 1] = "D07" if jump < 0 else "D08"
    wild = rng.random(len(value)) < 0.004
    value[wild] = rng.uniform(0.62, 0.9, wild.sum())
    return value, flag


_FAULTS = {"": _sound, "stuck": _stuck, "broken": _broken}


def _gaps(n_hours, rng):
    """Outages of days, exponential in length."""
    missing = np.zeros(n_hours, dtype=bool)
    for _ in range(rng.poisson(c.GAP_RATE_PER_YEAR * n_hours / 8766)):
        start = int(rng.integers(0, n_hours))
        missing[start : start + int(24 * rng.exponential(c.GAP_MEAN_DAYS)) + 1] = True
    return missing
