"""Stations of the synthetic world, what their probes say, and the ISMN archive made of it."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from soilkit import contracts, grids, strata
from soilkit.errors import StoreError, UnknownNameError
from soilkit.files import write_whole
from soilkit.world import bucket, fields, surface
from soilkit.world import parameters as c

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


@dataclass(frozen=True)
class Network:
    """Every sensor: the contract's ``table`` and, row by row, what decides its readings."""

    table: pd.DataFrame
    probe: np.ndarray  # instrument names
    site: np.ndarray  # row of the station's place in ``place``
    place: surface.Place  # (station,)
    offset_m3_m3: np.ndarray
    fault: np.ndarray  # "", "stuck" or "broken"
    texture_percent: np.ndarray  # (sensor, 3): sand, silt, clay at the point


def network(world) -> Network:
    """Place the stations of a world and their sensors."""
    sites = _sites(world)
    there = grids.transformer("EPSG:4326", grids.EASE2_CRS)
    points = there.transform(sites.longitude.to_numpy(), sites.latitude.to_numpy())
    place = surface.place_at(world.seed, points)
    list(world._cells.parts(place.rows, place.cols))  # all that readings ask, computed together
    ground = place.ground
    texture = np.stack([ground.sand_percent, ground.silt_percent, ground.clay_percent], axis=1)
    sites["elevation_m"] = np.round(ground.elevation_m.astype(float), 1)
    sites["land_cover"] = strata.land_cover_class(ground.land_cover)
    sites["koeppen"] = world.cells(*grids.ease2_cell(sites.longitude, sites.latitude)).koeppen
    sites["texture"] = strata.texture_class(texture[:, 0], texture[:, 1], clay=texture[:, 2])
    sensors = _sensors(world, sites)
    site = sensors.site.to_numpy()
    return Network(
        _table(sensors, sites), sensors.probe.to_numpy(str), site, place,
        sensors.offset.to_numpy(), sensors.fault.to_numpy(str), texture[site],
    )  # fmt: skip


def _table(sensors, sites):
    """The contract's columns, one row a sensor."""
    alone = sites[["longitude", "latitude", "elevation_m", "land_cover", "koeppen", "texture"]]
    table = pd.concat([sensors, alone.iloc[sensors.site].reset_index(drop=True)], axis=1)
    table = table[[column.name for column in contracts.STATIONS.columns]]
    return table.astype({x.name: "str" for x in contracts.STATIONS.columns if x.kind == "string"})


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
            lon, lat = _dense(count, rng)
        else:
            lon, lat = _clustered(count, box, rng)
        names = [f"{name.split('-')[1].title()}-{k + 1:03d}" for k in range(count)]
        site = {"network": name, "station": names, "probe": probe}
        frames.append(pd.DataFrame(site | {"longitude": lon, "latitude": lat}))
    sites = pd.concat(frames, ignore_index=True)
    return _ashore(world.seed, sites)


def _ashore(seed, sites):
    """Sites that fell into a lake move east until they stand on land."""
    while True:
        sites[["longitude", "latitude"]] = sites[["longitude", "latitude"]].round(5)
        place = grids.transformer("EPSG:4326", grids.EASE2_CRS).transform(
            sites.longitude.to_numpy(), sites.latitude.to_numpy()
        )
        wet = fields.ground(seed, *place).land_cover == fields.LAKE
        if not wet.any():
            return sites
        sites.loc[wet, "longitude"] += 0.01


def _clustered(count, box, rng):
    """Sites in loose clusters, as campaigns lay them: every third stands near another."""
    west, east, south, north = box
    lon = c.WEST + (c.EAST - c.WEST) * rng.uniform(west, east, count)
    lat = c.SOUTH + (c.NORTH - c.SOUTH) * rng.uniform(south, north, count)
    for k in range(2, count, 3):
        lon[k] = lon[k - 1] + rng.uniform(0.05, 0.25) * rng.choice([-1, 1])
        lat[k] = lat[k - 1] + rng.uniform(0.05, 0.20) * rng.choice([-1, 1])
    return np.clip(lon, c.WEST + 0.1, c.EAST - 0.1), np.clip(lat, c.SOUTH + 0.1, c.NORTH - 0.1)


def _dense(count, rng):
    """Sites inside the one 36 km cell around ``DENSE_CENTRE``."""
    row, col = grids.ease2_cell(*DENSE_CENTRE, pixel_size_km=36)
    size = grids.EASE2_PIXEL_SIZE_M[36]
    u = grids.EASE2_LEFT_M + (col + rng.uniform(0.04, 0.96, count)) * size
    v = grids.EASE2_TOP_M - (row + rng.uniform(0.04, 0.96, count)) * size
    return grids.transformer(grids.EASE2_CRS, "EPSG:4326").transform(u, v)


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
            for depth in c.DEEP_M:
                deeper = offset + c.REPLICATE_OFFSET_SD * rng.standard_normal()
                rows.append((k, site, site.probe, (depth, depth), deeper, ""))
    return pd.DataFrame([_row(*row) for row in rows])


def _row(site_number, site, probe, depth, offset, fault):
    station_id = f"{site.network}__{site.station}"
    return {
        "site": site_number, "network": site.network, "station": site.station,
        "station_id": station_id, "probe": probe, "offset": offset, "fault": fault,
        "sensor_id": f"{station_id}__{probe}__{depth[0]:.2f}__{depth[1]:.2f}",
        "depth_from_m": depth[0], "depth_to_m": depth[1],
    }  # fmt: skip


# What the probes of synthetic stations say: offset, noise, frost, faults, gaps and flags.

_HOUR = np.timedelta64(1, "h")


def hours(world) -> np.ndarray:
    """The world's hours, (time,) datetime64[us]: half-open from start to end."""
    return np.arange(world.start, world.end, _HOUR).astype("datetime64[us]")


def _coarse_and_truth(world, site, depth, times):
    place = world.network().place.at([site])
    state = surface.point_states(world._cells, place, times=times)
    wet = surface.truth(state, place, weights=bucket.profile_weights(depth))
    return {name: values[:, 0] for name, values in state.items()}, wet[:, 0]


def readings(world, sensor_id: str) -> pd.DataFrame:
    """A sensor's hourly readings.

    Raises ``UnknownNameError`` where no sensor has that id.

    Returns
    -------
    DataFrame of ``time``, ``soil_moisture_m3_m3``, ``flag`` (ISMN's) and ``truth_m3_m3`` (which no
    probe has); hours without a reading are absent
    """
    net = world.network()
    rows = np.flatnonzero(net.table.sensor_id == sensor_id)
    if not len(rows):
        raise UnknownNameError(
            f"No sensor {sensor_id!r} among the {len(net.table)} of this world; "
            "World.stations() lists them."
        )
    sensor, times = int(rows[0]), hours(world)
    depth = tuple(net.table.loc[sensor, ["depth_from_m", "depth_to_m"]].astype(float))
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


# Write the synthetic stations as an ISMN archive: zip, header+values, one file a sensor.

_EPOCH = (2019, 1, 1, 0, 0, 0)  # of the zip's members: its bytes depend on the world alone
# ESA CCI classes for the Copernicus ones, as ISMN's static variables speak CCI.
CCI_CLASS = {
    20: 120, 30: 130, 40: 10, 50: 190, 60: 200, 90: 180, 111: 71, 114: 61, 121: 72, 124: 62,
}  # fmt: skip
_CSV_HEADER = (
    "quantity_name;unit;depth_from[m];depth_to[m];value;description;quantity_source_name;"
    "quantity_source_description;quantity_source_provider;quantity_source_version;"
    "quantity_source_resolution;quantity_source_timerange;quantity_source_url;"
)
_METADATA = """<?xml version="1.0" encoding="UTF-8"?>
<gmd:MD_Metadata xmlns:gmd="http://www.isotc211.org/2005/gmd"
    xmlns:gco="http://www.isotc211.org/2005/gco">
    <gmd:fileIdentifier><gco:CharacterString>Metadata</gco:CharacterString></gmd:fileIdentifier>
    <gmd:language><gco:CharacterString>eng</gco:CharacterString></gmd:language>
    <gmd:identificationInfo><gmd:MD_DataIdentification><gmd:abstract>
        <gco:CharacterString>Synthetic soil moisture, {version}. No reading in this archive was
        measured anywhere.</gco:CharacterString>
    </gmd:abstract></gmd:MD_DataIdentification></gmd:identificationInfo>
</gmd:MD_Metadata>
"""
_README = """Synthetic soil moisture in the format of the International Soil Moisture Network
(header+values), {version}.

Networks, stations and readings are invented; none of them was measured. One file a sensor:
<network>/<station>/<network>_<network>_<station>_sm_<from>_<to>_<sensor>_<start>_<end>.stm
Columns: date, time (UTC), soil moisture [m3 m-3], ISMN quality flag, provider flag.
"""


def write(world, path) -> Path:
    """Write every sensor of a world, hourly, as an ISMN-format zip (header+values).

    The archive appears under its name only when it is complete. Raises ``StoreError`` when the disk
    is full or refuses; what stood at ``path`` still stands.

    Parameters
    ----------
    path : path of the zip

    Returns
    -------
    Path
    """

    def fill(part):
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
            _add(archive, "Metadata.xml", _METADATA.format(version=world.version))
            _add(archive, "Readme.txt", _README.format(version=world.version))
            _write_stations(world, archive)

    try:
        return write_whole(path, fill)
    except OSError as error:
        raise StoreError(
            f"Cannot write the archive {path}: {error}. Nothing is left of it; free space, or "
            "choose another folder."
        ) from error


def _add(archive, name, text):
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, text)


def _write_stations(world, archive):
    network = world.network()
    span = f"{_compact(world.start)}_{_compact(world.end)}"
    stamps = _stamps(hours(world))
    described = set()
    for k, row in enumerate(
        tqdm(network.table.itertuples(), total=len(network.table), desc="ISMN")
    ):
        folder = f"{row.network}/{row.station}/{row.network}_{row.network}_{row.station}"
        if row.station_id not in described:
            described.add(row.station_id)
            _add(archive, f"{folder}_static_variables.csv", _static(network, k))
        depth = f"{row.depth_from_m:.6f}_{row.depth_to_m:.6f}"
        name = f"{folder}_sm_{depth}_{network.probe[k]}_{span}.stm"
        _add(archive, name, _series(world, row, network.probe[k], stamps))


def _compact(time):
    return str(time.astype("datetime64[D]")).replace("-", "")


def _stamps(times):
    text = np.datetime_as_string(times, unit="m")
    return np.array([t.replace("-", "/").replace("T", " ") for t in text])


def _series(world, row, probe, stamps):
    header = (
        f"{row.network:<10} {row.network:<10} {row.station:<15}{row.latitude:.5f} "
        f"{row.longitude:.5f} {row.elevation_m:20.1f} {row.depth_from_m:.4f} "
        f"{row.depth_to_m:.4f} {probe}"
    )
    table = world.readings(row.sensor_id)
    hour = (table.time.to_numpy() - world.start) // np.timedelta64(1, "h")
    values = [f"{v:.4f}" for v in table.soil_moisture_m3_m3.tolist()]
    lines = map(" ".join, zip(stamps[hour].tolist(), values, table.flag.tolist(), strict=True))
    return header + "\n" + " M\n".join(lines) + " M\n"


def _static(network, k):
    """ISMN's table of static variables, for the station of sensor ``k``."""
    sand, silt, clay = network.texture_percent[k]
    cover = int(network.place.ground.land_cover[network.site[k]])
    lines = [_CSV_HEADER]
    for name, value in (("clay fraction", clay), ("sand fraction", sand), ("silt fraction", silt)):
        lines.append(f"{name};% weight;0.00;0.30;{value:.2f};;synthetic;;;;;;;")
    for year in (2000, 2005, 2010):
        lines.append(
            f"land cover classification;;;;{CCI_CLASS[cover]};Copernicus class {cover};"
            f"CCI_landcover_{year};synthetic;;;;;;"
        )
    for edition in (2007, 2017):
        lines.append(
            f"climate classification;;;;{network.table.koeppen[k]};;koeppen_geiger_{edition};"
            "synthetic;;;;;;"
        )
    return "\n".join(lines) + "\n"
