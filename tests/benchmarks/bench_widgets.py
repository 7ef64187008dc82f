"""From a hand's move to the next picture, in the kernel, at 1300 stations: 300 ms are the goal.

Invented tables: a year of hourly readings that dry down every 13 days, radar every 12 days and
optics every 5, and scores of two models. ``SOILKIT_BENCH_STATIONS`` makes it smaller.
"""

import os
import time
from functools import partial

import numpy as np
import pandas as pd

from soilkit.show import plots, widgets

N = int(os.environ.get("SOILKIT_BENCH_STATIONS", 1300))
BOUNDS = {"sentinel1": pd.Timedelta("1h"), "sentinel2": pd.Timedelta("14D")}


def tables(rng):
    """Stations, observations and scenes of a year."""
    names = np.array([f"NET__S{k:04d}" for k in range(N)])
    stations = pd.DataFrame({"station_id": names, "sensor_id": names + "__P__0.05__0.05"})
    places = {"latitude": rng.uniform(30, 48, N), "longitude": rng.uniform(-120, -75, N)}
    classes = {"texture": rng.choice(["Loam", "Clay", "Sand", "Silt"], N), "network": "NET"}
    empty = dict.fromkeys(("station", "land_cover", "koeppen"), "")
    depths = dict.fromkeys(("elevation_m", "depth_from_m", "depth_to_m"), 0.05)
    stations = stations.assign(**places, **classes, **empty, **depths)
    hours = pd.date_range("2019-01-01", periods=8760, freq="h").astype("datetime64[us]")
    codes = np.repeat(np.arange(N), len(hours))
    dry = np.exp(-(np.arange(len(codes)) % 311) / 120)  # hours since rain, and a probe's noise
    wet = (0.1 + 0.25 * dry + rng.normal(0, 0.002, len(codes))).round(3)
    observations = pd.DataFrame({
        "sensor_id": pd.Categorical.from_codes(codes, stations["sensor_id"]),
        "time": np.tile(hours.to_numpy(), N),
        "soil_moisture_m3_m3": wet.astype(np.float32),
        "flag": pd.Categorical.from_codes(np.zeros(len(codes), np.int8), ["G"]),
    })  # fmt: skip
    parts = []
    for source, every in {"sentinel1": "12D", "sentinel2": "5D"}.items():
        days = pd.date_range("2018-12-20 17:20", "2019-12-31", freq=every).astype("datetime64[us]")
        part = pd.DataFrame({"station_id": np.repeat(names, len(days)), "end": np.tile(days, N)})
        ids = source + "_" + part.groupby("station_id").cumcount().astype(str)
        parts.append(part.assign(source=source, scene_id=ids, start=part["end"]))
    scenes = pd.concat(parts, ignore_index=True)
    clouds = rng.uniform(0, 1, len(scenes))
    scenes = scenes.assign(cloud_fraction=clouds, orbit="", valid_fraction=1.0)
    return stations, observations, scenes


def scores_of(stations, rng):
    """Two models' scores."""
    parts = []
    for model in ("ours", "SMAP"):
        drawn = {"r": rng.uniform(0.2, 0.9, N), "ubrmse_m3_m3": rng.uniform(0.03, 0.09, N)}
        drawn |= {"rmse_m3_m3": 0.07, "bias_m3_m3": rng.normal(0, 0.03, N), "status": "ok"}
        part = stations[["sensor_id", "station_id", "network"]].assign(model=model, split="test")
        parts.append(part.assign(n=50, n_effective=20.0, **drawn))
    return pd.concat(parts, ignore_index=True)


def explorer_of(stations, observations, scenes):
    """A station explorer that draws a station's record, as notebook 11's."""
    none = pd.DataFrame(columns=["station_id", "time", "soil_moisture_m3_m3"])
    draw = partial(plots.station_record, observations, none, scenes=scenes)
    return widgets.StationExplorer(stations, lambda name: draw(station_id=name), basemap=None)


def timed(name, act, *, times=3):
    """Print the shortest of some moves; the first of a kind stands apart."""
    took = []
    for _ in range(times):
        start = time.perf_counter(), time.process_time()
        act()
        took.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, cpu = min(took)
    print(
        f"{name} | first {took[0][1]:.2f} s CPU | best {cpu:.2f} s CPU, {wall:.2f} s | goal 0.30 s"
    )


def main():
    rng = np.random.default_rng(0)
    stations, observations, scenes = tables(rng)
    inspector = widgets.JoinInspector(
        observations, scenes, stations, bounds=BOUNDS, max_cloud_fraction={"sentinel2": 0.3},
        label="invented",
    )  # fmt: skip
    timed("join inspector, all stations' funnel and one timeline", inspector._draw)
    timed("join inspector, another sensor", inspector._draw_sensor)
    timed("join inspector, another reading", inspector._say)
    browser = widgets.EvaluationBrowser(
        scores_of(stations, rng), stations, strata=["texture", "network"], label="invented"
    )
    timed("evaluation browser, another metric or class", browser._draw)
    timed("evaluation browser, another stratum, seen before", browser._fill)

    explorer = explorer_of(stations, observations, scenes)
    timed("station explorer, another station", lambda: explorer._show("NET__S0000"))
    timed("station explorer, another zoom", explorer.dots._fan)


if __name__ == "__main__":
    main()
