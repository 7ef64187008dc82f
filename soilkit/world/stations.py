"""Stations of the synthetic world: where they stand, and what their probes say."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from soilkit import contracts, grids, strata
from soilkit.world import constants as c
from soilkit.world import places

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
DEEP_M = 0.20


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
    place = places.place_at(world.seed, (np.asarray(u_m), np.asarray(v_m)))
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
    """Sites in loose clusters, as campaigns lay them: every third stands near another."""
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
