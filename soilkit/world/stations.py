"""Stations of the synthetic world: where they stand, and what their probes say."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from soilkit import grids
from soilkit.errors import UnknownNameError
from soilkit.world import cells, constants as c, fields, moisture, noise, places

# Name, share of the stations, box in the domain as fractions (west, east, south, north), probe.
# All names are invented.
NETWORKS = (
    ("SYN-PLAINS", 0.22, (0.03, 0.45, 0.10, 0.90), "Hydra-S1"),
    ("SYN-PRAIRIE", 0.20, (0.45, 0.97, 0.50, 0.97), "Tri-S2"),
    ("SYN-GULF", 0.18, (0.50, 0.97, 0.03, 0.45), "Cap-S3"),
    ("SYN-CLIMATE", 0.22, (0.03, 0.97, 0.03, 0.97), "Hydra-S1"),
    ("SYN-DENSE", 0.18, (0.0, 0.0, 0.0, 0.0), "TDR-S4"),
)
DENSE_CENTRE = (-98.6, 36.3)  # longitude, latitude: its stations share one 36 km cell
SITES_PER_STATION = 6
DEEP_M = 0.20
_HOUR = np.timedelta64(1, "h")


@dataclass(frozen=True)
class Network:
    """Every sensor: the contract's ``table`` and, row by row, what decides its readings."""

    table: pd.DataFrame
    probe: np.ndarray  # instrument names
    site: np.ndarray  # row of the station's place in ``place``
    place: places.Place  # (station,)
    offset_m3_m3: np.ndarray
    fault: np.ndarray  # "", "stuck" or "broken"
    texture_percent: np.ndarray  # (sensor, 3): sand, silt, clay at the point


def network(world) -> Network:
    """Place the stations of a world and their sensors."""
    sites = _sites(world)
    u_m, v_m = grids.transformer("EPSG:4326", grids.EASE2_CRS).transform(
        sites.longitude.to_numpy(), sites.latitude.to_numpy()
    )
    place = places.place_at(world.seed, None, np.asarray(u_m), np.asarray(v_m))
    sensors = _sensors(world, sites)
    site = sensors.pop("site").to_numpy()
    ground = place.ground
    rows, cols = grids.ease2_cell(sites.longitude.to_numpy(), sites.latitude.to_numpy())
    climate = world.cells(rows, cols).koeppen
    texture = np.stack([ground.sand_percent, ground.silt_percent, ground.clay_percent], axis=1)
    table = pd.DataFrame(
        {
            "sensor_id": sensors.sensor_id, "station_id": sensors.station_id,
            "network": sensors.network, "station": sensors.station,
            "latitude": sites.latitude.to_numpy()[site], "longitude": sites.longitude.to_numpy()[site],
            "elevation_m": np.round(ground.elevation_m[site].astype(float), 1),
            "depth_from_m": sensors.depth_from_m, "depth_to_m": sensors.depth_to_m,
            "land_cover": ground.land_cover[site].astype(str), "koeppen": climate[site],
            "texture": [usda_texture(*t) for t in texture[site]],
        }
    )  # fmt: skip
    for name in (
        "sensor_id",
        "station_id",
        "network",
        "station",
        "land_cover",
        "koeppen",
        "texture",
    ):
        table[name] = table[name].astype("str")
    return Network(
        table, sensors.probe.to_numpy(str), site, place, sensors.offset.to_numpy(),
        sensors.fault.to_numpy(str), texture[site],
    )  # fmt: skip


def _counts(n_stations):
    exact = np.array([share for _, share, _, _ in NETWORKS]) * n_stations
    counts = np.floor(exact).astype(int)
    for k in np.argsort(counts - exact)[: n_stations - counts.sum()]:
        counts[k] += 1
    return counts


def _sites(world) -> pd.DataFrame:
    frames = []
    for (name, _, box, probe), count in zip(NETWORKS, _counts(world.n_stations), strict=True):
        rng = world.rng("sites", name)
        if name == "SYN-DENSE":
            lon, lat = _dense(count)(rng)
        else:
            lon, lat = _clustered(count, box, rng)
        names = [f"{name.split('-')[1].title()}-{k + 1:03d}" for k in range(count)]
        frames.append(
            pd.DataFrame(
                {
                    "network": name,
                    "station": names,
                    "probe": probe,
                    "longitude": lon,
                    "latitude": lat,
                }
            )
        )
    sites = pd.concat(frames, ignore_index=True)
    sites[["longitude", "latitude"]] = sites[["longitude", "latitude"]].round(5)
    return sites


def _clustered(count, box, rng):
    """Sites in loose clusters, as campaigns lay them: two of three alone, the others near another."""
    west, east, south, north = box
    lon = c.WEST + (c.EAST - c.WEST) * rng.uniform(west, east, count)
    lat = c.SOUTH + (c.NORTH - c.SOUTH) * rng.uniform(south, north, count)
    for k in range(2, count, 3):
        lon[k] = lon[k - 1] + rng.uniform(0.05, 0.25) * rng.choice([-1, 1])
        lat[k] = lat[k - 1] + rng.uniform(0.05, 0.20) * rng.choice([-1, 1])
    return np.clip(lon, c.WEST + 0.1, c.EAST - 0.1), np.clip(lat, c.SOUTH + 0.1, c.NORTH - 0.1)


def _dense(count):
    """Sites inside the one 36 km cell around ``DENSE_CENTRE``."""

    def draw(rng):
        row, col = grids.ease2_cell(*DENSE_CENTRE, pixel_size_km=36)
        size = grids.EASE2_PIXEL_SIZE_M[36]
        u = grids.EASE2_LEFT_M + (col + rng.uniform(0.04, 0.96, count)) * size
        v = grids.EASE2_TOP_M - (row + rng.uniform(0.04, 0.96, count)) * size
        return grids.transformer(grids.EASE2_CRS, "EPSG:4326").transform(u, v)

    return draw


def _sensors(world, sites) -> pd.DataFrame:
    """One row a probe: the station's own, every few stations a replicate or a deep one."""
    rows = []
    for k, site in enumerate(sites.itertuples()):
        rng = world.rng("probes", site.network, site.station)
        offset = c.PROBE_OFFSET_SD * rng.standard_normal()
        fault = "broken" if k % c.BROKEN_EVERY == 7 else "stuck" if k % c.STUCK_EVERY == 11 else ""
        at_five = site.network in ("SYN-PLAINS", "SYN-DENSE")
        top = (0.05, 0.05) if at_five else (0.0, 0.05)
        rows.append((k, site, site.probe, top, offset, fault))
        if k % c.REPLICATE_EVERY == 3:  # the same name at another depth, or another name
            other = (0.0, 0.05) if at_five else (0.05, 0.05)
            twin = offset + c.REPLICATE_OFFSET_SD * rng.standard_normal()
            if k % (2 * c.REPLICATE_EVERY) == 3:
                rows.append((k, site, f"{site.probe}-B", top, twin, ""))
            else:
                rows.append((k, site, site.probe, other, twin, ""))
        if k % c.DEEP_EVERY == 4:
            rows.append((k, site, site.probe, (DEEP_M, DEEP_M), offset, ""))
    return pd.DataFrame([_row(*row) for row in rows])


def _row(site_number, site, probe, depth, offset, fault):
    station_id = f"{site.network}__{site.station}"
    return {
        "site": site_number, "network": site.network, "station": site.station,
        "station_id": station_id, "probe": probe, "offset": offset, "fault": fault,
        "sensor_id": f"{station_id}__{probe}__{depth[0]:.2f}__{depth[1]:.2f}",
        "depth_from_m": depth[0], "depth_to_m": depth[1],
    }  # fmt: skip


def usda_texture(sand_percent: float, silt_percent: float, clay_percent: float) -> str:
    """The USDA texture class of one soil.

    Examples
    --------
    >>> usda_texture(40, 40, 20), usda_texture(90, 5, 5), usda_texture(20, 30, 50)
    ('loam', 'sand', 'clay')
    """
    sand, silt, clay = sand_percent, silt_percent, clay_percent
    rules = (
        ("sand", silt + 1.5 * clay < 15),
        ("loamy sand", silt + 2 * clay < 30),
        ("sandy clay", clay >= 35 and sand > 45),
        ("silty clay", clay >= 40 and silt >= 40),
        ("clay", clay >= 40 and sand <= 45),
        ("silty clay loam", clay >= 27 and sand <= 20),
        ("clay loam", clay >= 27 and sand <= 45),
        ("sandy clay loam", clay >= 20 and silt < 28 and sand > 45),
        ("silt", silt >= 80 and clay < 12),
        ("silt loam", silt >= 50),
        ("sandy loam", sand > 52 or (clay < 7 and silt < 50)),
    )
    return next((name for name, fits in rules if fits), "loam")


def hours(world) -> np.ndarray:
    """The world's hours, (time,) datetime64[us]: half-open from start to end."""
    return np.arange(world.start, world.end, _HOUR).astype("datetime64[us]")


def point_truth(world, site: int, *, depth: str = "surface", times=None) -> np.ndarray:
    """The true moisture at a station's point, m3 m-3, hourly or at some times."""
    return _coarse_and_truth(world, site, depth, hours(world) if times is None else times)[1]


def _coarse_and_truth(world, site, depth, times):
    place = world.network().place
    weights = place.weights[[site]].toarray()[0]
    near = np.flatnonzero(weights)
    values = world._cells.states(times, rows=place.rows[near], cols=place.cols[near])
    state = dict(zip(moisture.NAMES, values @ weights[near], strict=True))  # name -> (time,)
    pattern = fields.Pattern(*(np.take(v, site, axis=-1) for v in place.pattern.__dict__.values()))
    wet = moisture.fine(
        state,
        pattern,
        irrigated=place.ground.irrigated[site],
        porosity=place.ground.porosity[site],
        layer=depth,
    )
    return state, wet


def readings(world, sensor_id: str) -> pd.DataFrame:
    """A sensor's hourly readings.

    Parameters
    ----------
    world : World
    sensor_id : str

    Returns
    -------
    DataFrame of ``time``, ``soil_moisture_m3_m3``, ``flag`` (ISMN's) and ``truth_m3_m3`` (no probe has
    that); hours without a reading are absent

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
