"""A wide region at 1 km through ``maps.predict_region``: seconds, memory, and going on.

``python -m tests.benchmarks.bench_composite_map FOLDER --km 1000 --days 30`` maps by an untrained
"paper" network. Its archive makes each chip when it is asked for, noise about a level, so that what
is measured is the door itself: layers into a cube, tiles out of it, the network, zarr. The run is
killed once it has written a fifth of its tiles and called again; a line says what each part took.
With ``--one`` it runs through, and ``--csv`` keeps the seconds and the memory by mapped day.
"""

import argparse
import resource
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from soilkit import grids, sources
from soilkit.contracts import Chip
from soilkit.export import cubes
from soilkit.export.archives.scenes import places_of, scenes_everywhere, static_image
from soilkit.files import csv_text, write_text_whole
from soilkit.models import composite_unet, maps, training

CORNER = (-104.0, 43.0)
FIRST = pd.Timestamp("2019-06-01")
LEVELS = {  # mean and standard deviation, about those of the synthetic plains in June
    "smap_l3_ancillary": {"tb_h_corrected": (230, 20), "tb_v_corrected": (260, 15),
                          "vegetation_water_content": (1.5, 0.5)},
    "sentinel1": {"VV": (-12.5, 1.1), "VH": (-17.7, 0.7), "angle": (39, 2)},
    "geos5_lst": {"surface_temperature": (298, 3)},
    "soilgrids": {"clay": (30, 8), "bdod": (1.3, 0.1)},
    "modis_land_cover": {"LC_Type1": (11, 0)}, "dem": {"elevation": (400, 50)},
    "imerg": {"precipitation": (0.1, 0.1)},
}  # fmt: skip


class Noise:
    """An archive of noise, a function of source, day and place."""

    name, version = "noise", "1"

    def scenes(self, stations, source, start, end):
        """One scene a day that ends at noon, everywhere."""
        images = static_image()
        if not sources.get(source).is_static:
            ends = pd.date_range(FIRST - pd.Timedelta("2D"), periods=40) + pd.Timedelta("12h")
            ends = ends.as_unit("us")
            ends = ends[(ends >= pd.Timestamp(start)) & (ends < pd.Timestamp(end))]
            images = pd.DataFrame({"scene_id": ends.strftime("%Y%m%d"), "start": ends, "end": ends})
        return scenes_everywhere(source, images, places=places_of(stations), valid_fraction=1.0)

    def chips(self, requests):
        """Each chip when it is asked for."""
        for request in requests:
            row = sources.get(request.source)
            rng = np.random.default_rng(zlib.crc32(request.request_hash.encode()))
            shape = request.grid.height, request.grid.width
            values = []
            for band in map(row.band, request.bands):
                mean, std = LEVELS[request.source][band.name]
                physical = mean + std * rng.standard_normal(shape, dtype=np.float32).clip(-2, 2)
                values.append((physical - band.offset) / band.scale)
            yield request, Chip(np.stack(values).astype(np.float32), request.bands, request.grid)


def network():
    """An untrained network of the paper's size."""
    torch.manual_seed(0)
    model = composite_unet.CompositeUNet.preset("paper")
    of = {
        f"{s}_{b}": (*map(float, level),) for s, some in LEVELS.items() for b, level in some.items()
    }
    about = {n: (of[n][0], of[n][1] or 1.0) for n in composite_unet.LAYERS} | {"name": "U-Net"}
    provenance = training.Provenance(composite_unet.LAYERS, about, "")
    checkpoint = training.Checkpoint(model.configuration, provenance, model.state_dict(), 0, 0.0)
    return composite_unet.TrainedComposite(model.eval(), checkpoint)


def cpu_s():
    """Seconds of the processor so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb():
    """The most memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(folder, km, days, *, csv=None):
    """Map the region; one line of what it took, and rows by mapped day."""
    torch.set_num_threads(1)
    spent, build = {}, cubes.build

    def timed(*args, **options):
        began = cpu_s()
        cube = build(*args, **options)
        spent["layers"] = cpu_s() - began
        rows.append({"day": 0, "cpu_s": cpu_s(), "peak_mb": peak_mb()})
        return cube

    class Counted(composite_unet.TrainedComposite):
        """Takes the time and the memory when each day's last tile is answered."""

        def scales(self, fine, land):
            """Both scales."""
            answered.append(fine.shape)
            day, left = divmod(len(answered), (-(-cells // 28)) ** 2)
            if not left:
                rows.append({"day": day, "cpu_s": cpu_s(), "peak_mb": peak_mb()})
            return super().scales(fine, land)

    rows, answered = [], []
    cubes.build = timed
    cells = round(km / 9)
    row, col = (int(n) for n in grids.ease2_cell(*CORNER))
    left, bottom, right, top = grids.ease2_grid(row, col, height=cells, width=cells).bounds_m
    to_degrees = grids.transformer(grids.EASE2_CRS, "EPSG:4326").transform
    (west, east), (south, north) = to_degrees((left + 50, right - 50), (bottom + 50, top - 50))
    began, clock, model = cpu_s(), time.time(), network()
    mapped = maps.predict_region(
        Counted(model.model, model.checkpoint), (west, south, east, north), archive=Noise(),
        store=folder, progress=False, dates=pd.date_range(FIRST, periods=days),
    )  # fmt: skip
    whole_s, clock = cpu_s() - began, time.time() - clock
    known = float(mapped["soil_moisture"][-1].notnull().mean())
    if csv:
        write_text_whole(csv, csv_text(pd.DataFrame(rows).round({"cpu_s": 1, "peak_mb": 0})))
    sizes = " x ".join(str(n) for n in mapped.sizes.values())
    sys.stdout.write(
        f"{sizes} pixels | layers {spent['layers']:.0f} s, maps {whole_s - spent['layers']:.0f} s "
        f"of the processor, {clock:.0f} s by the clock | peak {peak_mb():.0f} MB | "
        f"{known:.0%} of the last day known\n"
    )


def main():
    """Few days, all days, and all days killed on the way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--km", type=float, default=1000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--one", action="store_true", help="without being killed, in this process")
    parser.add_argument("--csv", type=Path, help="with --one: seconds and memory by day go here")
    asked = parser.parse_args()
    if asked.one:
        one(asked.folder, asked.km, asked.days, csv=asked.csv)
        return
    words = [sys.executable, "-m", "tests.benchmarks.bench_composite_map", "--one", "--km",
             f"{asked.km:g}"]  # fmt: skip
    few = max(1, asked.days // 10)
    subprocess.run([*words, "--days", str(few), str(asked.folder / "few")], check=True)
    folder = asked.folder / "all"
    child = subprocess.Popen([*words, "--days", str(asked.days), str(folder)])
    while child.poll() is None:
        time.sleep(1)
        if len(list(folder.glob("maps/*/*.tiles.json"))) > max(1, asked.days // 5):
            child.send_signal(signal.SIGKILL)
            break
    child.wait()
    subprocess.run([*words, "--days", str(asked.days), str(folder)], check=True)


if __name__ == "__main__":
    main()
