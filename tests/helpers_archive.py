"""A small archive of analytic chips: band, scene and place decide each value."""

import hashlib

import numpy as np
import pandas as pd

from soilkit.contracts import Chip, ChipRequest, Failure

BASE = {"VV": -12.0, "VH": -19.0, "angle": 38.0, "elevation": 400.0, "QA60": 0.0}
OPTICAL, SOIL = 1500.0, 300.0


def analytic(request: ChipRequest) -> np.ndarray:
    """A level per band and scene, plus one unit a kilometre eastward: (band, row, col)."""
    level = int(hashlib.sha256(request.scene_id.encode()).hexdigest()[:4], 16) % 5
    east_km = (request.grid.x_m - request.grid.x_m.mean()) / 1000
    plane = np.broadcast_to(east_km, (request.grid.height, request.grid.width))
    base = [BASE.get(b, SOIL if request.source == "soilgrids" else OPTICAL) for b in request.bands]
    flat = np.array([b == "QA60" for b in request.bands])[:, None, None]
    values = np.array(base)[:, None, None] + np.where(flat, 0, level + plane)
    return values.astype(np.float32)


class FakeArchive:
    """Yields analytic chips, last request first; remembers what it was asked for.

    ``failures`` maps a scene to the Failure given for it, ``holes`` a scene to the fraction of
    columns that hold no data, ``stop_after`` interrupts like a user after so many chips.
    """

    name = "fake"

    def __init__(self, *, version="1", failures=None, holes=None, stop_after=None):
        self.version = version
        self.failures, self.holes, self.stop_after = failures or {}, holes or {}, stop_after
        self.asked: list[ChipRequest] = []

    def chips(self, requests):
        requests = list(requests)
        self.asked += requests
        for n, request in enumerate(reversed(requests)):
            if n == self.stop_after:
                raise KeyboardInterrupt
            if request.scene_id in self.failures:
                yield request, self.failures[request.scene_id]
                continue
            values = analytic(request)
            hole = round(self.holes.get(request.scene_id, 0.0) * request.grid.width)
            values[:, :, :hole] = np.nan
            yield request, Chip(values, request.bands, request.grid)


def broken(reason="no such asset", permanent=True):
    return Failure(reason, permanent)


def stations_table(n=3):
    """``n`` stations a tenth of a degree apart, two probes at the first."""
    ids = [f"NET__S{i}" for i in [0, *range(n)]]
    probes = [f"{s}__{'B' if i == 0 else 'A'}__0__5" for i, s in enumerate(ids)]
    places = np.array([0, *range(n)])
    return pd.DataFrame(
        {
            "sensor_id": probes,
            "station_id": ids,
            "network": "NET",
            "station": [s.split("__")[1] for s in ids],
            "latitude": 38.0 + 0.1 * places,
            "longitude": -98.0 + 0.1 * places,
            "elevation_m": 400.0,
            "depth_from_m": 0.0,
            "depth_to_m": 0.05,
            "land_cover": "",
            "koeppen": "",
            "texture": "",
        }
    )


def samples_table(stations, *, passes=2):
    """Each sensor reads half an hour after each radar pass; one optical scene serves all passes."""
    rows = []
    for k in range(passes):
        for sensor, station in zip(stations["sensor_id"], stations["station_id"], strict=True):
            rows.append(
                {
                    "sample_id": f"{sensor}_{k}",
                    "sensor_id": sensor,
                    "station_id": station,
                    "time": pd.Timestamp("2020-06-01 12:30") + pd.Timedelta(days=6 * k),
                    "soil_moisture_m3_m3": 0.2 + 0.01 * k,
                    "sentinel1_scene": f"S1_{k}",
                    "sentinel1_age_hours": 0.5,
                    "sentinel2_scene": "S2_0",
                    "sentinel2_age_hours": 24.0 + 144 * k,
                    "dem_scene": "static",
                    "dem_age_hours": np.nan,
                    "soilgrids_scene": "static",
                    "soilgrids_age_hours": np.nan,
                }
            )
    table = pd.DataFrame(rows)
    return table.astype({"time": "datetime64[us]"})
