"""The picture above the README: ``python docs/images/map.py OUT_DIR`` after notebooks 10, 20, 40.

A figure of 120 stations: ``-p n_stations=120`` for 10 and 40, as ``make report`` runs them."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr

OUT = Path(__file__).with_name("map.png")


def main(out_dir: Path) -> None:
    """One number, the model's map and the truth of the same cells, on one scale."""
    with xr.open_dataset(out_dir / "map.nc") as mapped:
        last = mapped.isel(time=-1).load()
    truth, ours = last["truth"].values, last["soil_moisture"].values
    scores = pd.read_csv(out_dir / "results" / "40_map_a_region" / "scores.csv")
    bias = scores[scores["metric"] == "bias_m3_m3"].set_index("model")["value"]
    number = truth.mean() + bias["SMAP + GLDAS network, one number"]
    valid = np.isfinite(ours)
    error = {"flat": number - truth[valid], "map": ours[valid] - truth[valid]}
    rmse = {name: np.sqrt((values**2).mean()) for name, values in error.items()}
    spread = {name: values.std() for name, values in error.items()}
    r = np.corrcoef(ours[valid], truth[valid])[0, 1]
    panels = {
        f"one coarse number: RMSE {rmse['flat']:.3f},\nubRMSE {spread['flat']:.3f}, no R": 0 * truth
        + number,
        f"the map, 320 m: RMSE {rmse['map']:.3f},\nubRMSE {spread['map']:.3f}, R {r:.2f}": ours,
        "the truth, which only a\nsynthetic world has": truth,
    }
    low, high = np.nanpercentile(truth, [1, 99])
    figure, axes = plt.subplots(1, 3, figsize=(10, 4), layout="constrained", sharey=True)
    half_km = truth.shape[1] * 0.16
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        extent = [-half_km, half_km, -half_km, half_km]
        axis.set_facecolor("0.75")
        image = axis.imshow(values, cmap="YlGnBu", vmin=low, vmax=high, extent=extent)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("east [km]")
    axes[0].set_ylabel("north [km]")
    figure.colorbar(image, ax=axes, label="soil moisture [m³ m⁻³]", extend="both", shrink=0.9)
    figure.savefig(OUT, dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
