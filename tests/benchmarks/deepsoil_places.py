"""DEEPSOIL's network and loss on two real places, against trees on the same rows.

``python -m tests.benchmarks.deepsoil_places FOLDER OUT [PLACE [JOBS]]`` reads ``kings_creek`` and
``oznet_100m_daily`` in FOLDER and writes ``OUT/places.csv``. At Kings Creek (12 stations in 12 km2)
the network sees 30 m maps of NDVI and terrain, half a kilometre about a station, and the weather,
which is one for all pixels; each station is left out in turn. At Yanco the images of but one day
are there, so that the network sees each station's layers as a tile of equal pixels, in the authors'
four spatial folds. Soils are
those of the Oklahoma Mesonet (``mesosoil``): of their median at Kings Creek, of the nearest texture
at Yanco. Trees learn from the very same rows. Nothing is chosen by a score: settings stand here.
Days are thinned and passes few, so that all of it takes ten minutes of a processor.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
import torch
from joblib import Parallel, delayed

from soilkit import grids, metrics
from soilkit.export import antecedents, rasters, ten_day_table
from soilkit.files import csv_text, write_text_whole
from soilkit.metrics import intervals
from soilkit.models import training
from soilkit.models.deepsoil.network import DeepSoil, DeepSoilConfig, ScienceLoss, step_by
from soilkit.models.tabular import daily_weather, estimators

SEED, PIXEL_M, SIDE_PX, CROP_PX, NEAR = 0, 30.0, 128, 16, 2
WIDTHS = (12, 24, 48, 64)
LOSSES = {"U-Net, MSE": ScienceLoss("none"), "U-Net, MSE and suction": ScienceLoss("probe")}
SOIL = ["theta_r", "theta_s", "alpha_1_kPa", "n"]


class Batches:
    """Batches of numbered samples that ``read`` makes, in an order of their own each epoch."""

    def __init__(self, read, n, *, size, epochs, shuffled=True):
        self.read, self.n, self.size, self.epochs, self.shuffled = read, n, size, epochs, shuffled
        self.epoch = 0

    def set_epoch(self, epoch):
        """Choose the epoch that the next pass gives."""
        self.epoch = epoch

    def __len__(self):
        return -(-self.n // self.size)

    def __iter__(self):
        order = np.arange(self.n)
        if self.shuffled:
            np.random.default_rng([SEED, self.epoch]).shuffle(order)
        for some in np.array_split(order, len(self)):
            share = torch.full((len(some), 1, 1), self.epoch / self.epochs)
            yield {**self.read(some), "share": share}


def look(model, batch):
    """The prediction and the target, NaN where there is none."""
    return model(batch["inputs"]), torch.where(batch["valid"], batch["target"], torch.nan)


def trained(read, n, *, channels, low_level, loss, mean, size, epochs):
    """A network that has seen ``n`` samples ``epochs`` times; its last weights stand."""
    torch.manual_seed(SEED)
    config = DeepSoilConfig(channels, low_level=low_level, widths=WIDTHS)
    model = DeepSoil(config, mean_label_m3_m3=mean)
    batches = Batches(read, n, size=size, epochs=epochs)
    check = Batches(read, min(n, size), size=size, epochs=epochs, shuffled=False)
    settings = training.Settings(
        steps=epochs * len(batches), validate_every=epochs * len(batches), optimizer="adam",
        learning_rate=3e-3, weight_decay=0.0, max_gradient_norm=1.0, seed=SEED,
    )  # fmt: skip
    training.fit(model, training.Loaders(batches, check), step_by(loss), look, settings=settings,
                 score=lambda *_: 0.0, progress=False)  # fmt: skip
    return model.eval()


def scaled(values, train):
    """To [0, 1] by the range of the training rows, missing -1."""
    low, high = np.nanmin(train, axis=0), np.nanmax(train, axis=0)
    z = np.clip((values - low) / np.where(high > low, high - low, 1), 0, 1)
    return np.where(np.isfinite(z), z, -1).astype(np.float32)


def boosted():
    """The trees of the daily table."""
    system = next(s for s in daily_weather.SYSTEMS if s.name == daily_weather.BOOSTED)
    return system.make(None, preset="paper", seed=SEED)


# ---- Kings Creek ---------------------------------------------------------------------------------


def watershed(folder):
    """Readings, the weather of each day, and maps on one grid."""
    hours = pd.read_parquet(folder / "soil_hourly.parquet").astype({"station": str})
    hours = hours[hours["temp_5cm"] >= 1].assign(time=hours["timestamp_utc"].dt.floor("D"))
    by = hours.groupby(["time", "station"])["vwc_5cm"]
    daily = by.mean()[by.count() >= 12].rename("soil_moisture_m3_m3").reset_index()
    mesonet = pd.read_parquet(folder / "mesonet_ashland_hourly.parquet").set_index("TIMESTAMP")
    by_day = mesonet.resample("1D")
    parts = [by_day["PRECIP"].sum(min_count=20)]
    parts += [by_day["TEMP2MAVG"].agg(how) for how in ("mean", "min", "max")]
    parts += [by_day["RELHUM2MAVG"].mean()]
    columns = (part.to_numpy()[:, None] for part in parts)
    record = antecedents.build(
        antecedents.Weather(parts[0].index.to_numpy(), np.array([39.09]), *columns)
    )
    kept = ("rain", "api", "bucket", "demand", "dry", "season", "air_30d", "humidity_7d")
    record = {k: v[:, 0] for k, v in record.items()
              if k.startswith(kept) and not k.endswith(("so_far", "_above"))}  # fmt: skip
    weather = pd.DataFrame(record, index=parts[0].index)
    sites = pd.read_csv(folder / "stations.csv")
    to_plane = grids.transformer("EPSG:4326", "EPSG:32614").transform
    x, y = to_plane(sites["longitude"], sites["latitude"])
    half = SIDE_PX * PIXEL_M / 2
    middle = np.round([(min(x) + max(x)) / 2, (min(y) + max(y)) / 2])
    bounds = (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)
    left, top = bounds[0], bounds[3]
    grid = grids.Grid("EPSG:32614", left, top, PIXEL_M, SIDE_PX, SIDE_PX)
    place = {name: (int((top - b) // PIXEL_M), int((a - left) // PIXEL_M))
             for name, a, b in zip(sites["name"], x, y, strict=True)}  # fmt: skip
    return daily, weather, place, sites, grid


def maps_of(folder, grid):
    """Terrain (3, row, col) in [0, 1] and NDVI by date, NaN where clouds were."""
    (height,) = rasters.read(folder / "kings_creek_elevation.tif", grid, resampling="bilinear")
    north, east = np.gradient(height, PIXEL_M)
    terrain = np.stack([height, np.hypot(north, east), north])
    flat = terrain.reshape(len(terrain), -1).T
    terrain = scaled(flat, flat).T.reshape(terrain.shape)
    stack = folder / "ndvi_stack_int16_1e4.tif"  # its bands are called by their dates
    ndvi = rasters.read(stack, grid, resampling="bilinear") * 1e-4
    with rasterio.open(stack) as file:
        return terrain, ndvi, np.array(file.descriptions, "datetime64[D]")


def latest(ndvi, dates, day):
    """Each pixel's last clear NDVI of the 60 days to a day, and its age as a share of them."""
    shown, age = np.full((2, *ndvi.shape[1:]), np.nan)
    ages = (np.datetime64(day, "D") - dates).astype(int)
    for k in np.flatnonzero((ages >= 0) & (ages < 60)):
        known = np.isfinite(ndvi[k])
        shown, age = np.where(known, ndvi[k], shown), np.where(known, ages[k] / 60, age)
    return np.nan_to_num(np.stack([(shown + 0.2) / 1.2, age]), nan=-1).clip(-1, 1)


def kings_creek(folder, soil, *, jobs, train_every=10, ask_every=5):
    """Predictions of all models at each station by those that learnt from the others."""
    daily, weather, place, sites, grid = watershed(folder)
    terrain, ndvi, dates = maps_of(folder, grid)
    since = (daily["time"] - daily["time"].min()).dt.days
    daily = daily[(since % ask_every == 0) & daily["time"].isin(weather.dropna().index)]
    daily = daily[daily["station"].isin(sites["name"])].reset_index(drop=True)
    days = np.sort(daily["time"].unique())
    daily["day"] = np.searchsorted(days, daily["time"])
    daily[["row", "col"]] = [place[name] for name in daily["station"]]
    is_thin = ((daily["time"] - daily["time"].min()).dt.days % train_every == 0).to_numpy()
    seen = np.stack([np.concatenate([latest(ndvi, dates, day), terrain]) for day in days])
    seen, told = seen.astype(np.float32), weather.loc[days].to_numpy()
    pixel = seen[daily["day"], :, daily["row"], daily["col"]]
    tables = {"trees, weather alone": told[daily["day"]]}
    tables["trees, weather and maps"] = np.c_[told[daily["day"]], pixel]
    truth = daily["soil_moisture_m3_m3"].to_numpy(np.float32)
    answers = {name: np.full(len(daily), np.nan) for name in (*tables, *LOSSES)}
    folds = {name: (daily["station"] == name).to_numpy() for name in daily["station"].unique()}
    for asked in folds.values():
        for name, columns in tables.items():
            learn = ~asked & is_thin
            trees = boosted().fit(columns[learn], truth[learn])
            answers[name][asked] = trees.predict(columns[asked])
    tasks = [(name, fold) for name in LOSSES for fold in folds]
    made = Parallel(jobs)(
        delayed(left_out)(daily, seen, told, learn=~folds[fold] & is_thin, asked=folds[fold],
                          loss=LOSSES[name], soil=soil)
        for name, fold in tasks
    )  # fmt: skip
    for (name, fold), values in zip(tasks, made, strict=True):
        answers[name][folds[fold]] = values
    return daily, answers


def left_out(daily, seen, told, *, learn, asked, loss, soil, epochs=3):
    """A network that has seen the rows ``learn``, asked for others: m3 m-3."""
    torch.set_num_threads(1)
    z = scaled(told, told[daily["day"][learn]])
    kept = daily[learn].reset_index(drop=True)
    model = trained(
        lambda some: batch_of(kept.iloc[some], seen=seen, z=z, soil=soil), len(kept),
        channels=seen.shape[1] + z.shape[1], low_level=tuple(range(5)), loss=loss,
        mean=float(kept["soil_moisture_m3_m3"].mean()), size=16, epochs=epochs,
    )  # fmt: skip
    at = batch_of(daily[asked], seen=seen, z=z, soil=soil)
    with torch.inference_mode():
        drawn = torch.cat([model(part) for part in at["inputs"].split(64)])
    sys.stderr.write("kings creek: a network is trained and asked\n")
    return torch.where(at["valid"], drawn, torch.nan).flatten(1).nanmean(1).numpy()


def batch_of(rows, *, seen, z, soil):
    """Squares about the stations of some rows, whose reading stands for the 4 x 4 pixels there."""
    n, side = len(rows), CROP_PX
    target, inputs = np.full((n, side, side), np.nan, np.float32), []
    for k, one in enumerate(rows.itertuples()):
        top, left = (int(np.clip(m - side // 2, 0, SIDE_PX - side)) for m in (one.row, one.col))
        wide = np.broadcast_to(z[one.day][:, None, None], (z.shape[1], side, side))
        inputs.append(np.concatenate(
            [seen[one.day][:, top : top + side, left : left + side], wide]
        ))  # fmt: skip
        row, col = one.row - top - NEAR + 1, one.col - left - NEAR + 1
        target[k, row : row + 2 * NEAR, col : col + 2 * NEAR] = one.soil_moisture_m3_m3
    wide = np.broadcast_to(np.float32(soil)[None, :, None, None], (n, 4, side, side))
    return tensors(np.stack(inputs).astype(np.float32), target, wide)


def tensors(inputs, target, soil):
    """A batch as the loss wants it."""
    target = torch.from_numpy(target)
    return {"inputs": torch.from_numpy(inputs), "target": torch.nan_to_num(target),
            "valid": torch.isfinite(target), "weights": torch.ones_like(target), "probe": target,
            "soil": torch.from_numpy(np.ascontiguousarray(soil, np.float32))}  # fmt: skip


# ---- Yanco ---------------------------------------------------------------------------------------

DAY = ["dem", "silt", "awc", "lst_100m", "et_100m", "tavg", "vpd", "srad", "rain"]


def yanco(folder, soils, *, every=3, epochs=4, tile_px=16):
    """Predictions of all models in the authors' four folds, on every third clear row."""
    rows = pd.read_parquet(folder / "oznet_100m_daily.parquet").sort_values(["time", "site"])
    past = {}
    for name in ("rain", "vpd", "srad", "tavg", "et_100m"):
        wide = rows.pivot(index="time", columns="site", values=name)
        spans = (3, 7, 30, 90) if name == "rain" else (7, 30, 90)
        past |= {f"{name}_{n}d": wide_of(antecedents.past_mean(wide.to_numpy(), n), wide)
                 for n in spans}  # fmt: skip
    rows = rows.join(
        pd.concat({k: v.unstack() for k, v in past.items()}, axis=1), on=["site", "time"]
    )
    clear = rows["lst_100m"].notna() & rows["insitu_sm"].notna() & (rows["time"] < "2020-01-01")
    rows = rows[clear].iloc[::every].reset_index(drop=True)
    texture = rows[["sand", "clay"]].to_numpy() * 100
    apart = ((texture[:, None] - soils[["sand", "clay"]].to_numpy()) ** 2).sum(axis=2)
    soil = soils[SOIL].to_numpy(np.float32)[apart.argmin(axis=1)]
    truth, fold = rows["insitu_sm"].to_numpy(np.float32), rows["spatial_cv_fold"].to_numpy()
    forest = estimators.forest(seed=SEED, n_trees=60, n_jobs=1)
    kinds = {"forest, the day alone": DAY, "forest, with antecedents": DAY + list(past)}
    answers = {name: np.full(len(rows), np.nan) for name in (*kinds, *LOSSES)}
    every_layer = rows[DAY + list(past)].to_numpy(float)
    for k in np.unique(fold):
        asked = fold == k
        for name, columns in kinds.items():
            fitted = forest.fit(rows.loc[~asked, columns], truth[~asked])
            answers[name][asked] = fitted.predict(rows.loc[asked, columns])
        z, learn = scaled(every_layer, every_layer[~asked]), np.flatnonzero(~asked)

        def read(some, z=z, of=learn):
            at = of[some]
            square = (tile_px, tile_px)
            drawn = [np.broadcast_to(v[..., None, None], (*v.shape, *square)).copy()
                     for v in (z[at], truth[at], soil[at])]  # fmt: skip
            return tensors(*drawn)

        for name, loss in LOSSES.items():
            model = trained(
                read, int((~asked).sum()), channels=z.shape[1], loss=loss, low_level=(0, 1, 2),
                mean=float(truth[~asked].mean()), size=64, epochs=epochs,
            )  # fmt: skip
            with torch.inference_mode():
                wide = torch.from_numpy(z[asked])[..., None, None].expand(-1, -1, tile_px, tile_px)
                drawn = torch.cat([model(part) for part in wide.split(256)])
            answers[name][asked] = drawn[:, tile_px // 2, tile_px // 2].numpy()
            sys.stderr.write(f"yanco, fold {k}: {name}\n")
    rows = rows.rename(columns={"site": "station", "insitu_sm": "soil_moisture_m3_m3"})
    return rows, answers


def wide_of(values, like):
    return pd.DataFrame(values, like.index, like.columns)


# ---- scores --------------------------------------------------------------------------------------


def scores_of(rows, answers, place):
    """Means over stations with intervals, and differences to trees and to the MSE, row by row."""
    samples = pd.DataFrame({
        "sample_id": rows["station"].astype(str) + rows["time"].dt.strftime("_%Y%m%d"),
        "sensor_id": rows["station"].astype(str), "station_id": rows["station"].astype(str),
        "network": rows["station"].astype(str), "time": rows["time"],
        "soil_moisture_m3_m3": rows["soil_moisture_m3_m3"].astype(float),
    })  # fmt: skip
    table = partial(ten_day_table.predictions_table, samples, split="test")
    predictions = pd.concat([table(predicted=v, model=name) for name, v in answers.items()])
    by = ["r", "ubrmse_m3_m3", "rmse_m3_m3"]
    long = metrics.station_scores(predictions).melt(["model", "station_id"], by, "metric")
    wide = long.pivot(index=["metric", "station_id"], columns="model", values="value")
    lines = []
    for name in answers:
        for metric in by:
            values = wide[name].loc[metric].dropna()
            lines.append({"model": name, "against": "", "metric": metric,
                          **intervals.mean_of_means(values, values.index)})  # fmt: skip
    names = list(answers)
    for first in (names[0], "U-Net, MSE"):  # what comes after each is set against it
        for name in names[names.index(first) + 1 :]:
            for metric in by:
                less = (wide[name] - wide[first]).loc[metric].dropna()
                lines.append({"model": name, "against": first, "metric": metric,
                              **intervals.mean_of_means(less, less.index)})  # fmt: skip
    for name, values in answers.items():
        error = values - rows["soil_moisture_m3_m3"].to_numpy()
        lines.append({"model": name, "against": "", "metric": "pooled rmse_m3_m3",
                      "value": float(np.sqrt(np.mean(error**2)))})  # fmt: skip
    return (
        pd.DataFrame(lines)
        .rename(columns={"n_blocks": "n_stations"})
        .assign(data=place, n_rows=len(rows))
    )


def main(folder, out, only="", jobs=1):
    """Both places, or the one that is named."""
    torch.set_num_threads(1)
    folder, out = Path(folder), Path(out)
    soils = pd.read_parquet(folder / "mesosoil/mesosoil_v2.parquet").query("depth_cm == 5")
    soils = soils.dropna(subset=[*SOIL, "sand", "clay"])
    runs = {
        "kings_creek": lambda: kings_creek(
            folder / "kings_creek", soils[SOIL].median().to_numpy(), jobs=int(jobs)
        ),
        "oznet_100m_daily": lambda: yanco(folder / "oznet_100m_daily", soils),
    }
    old = pd.read_csv(out / "places.csv") if (out / "places.csv").exists() else pd.DataFrame()
    for place, run in runs.items():
        if only in ("", place):
            lines = scores_of(*run(), place)
            kept = old[old["data"] != place] if len(old) else old
            old = pd.concat([kept, lines], ignore_index=True)
            out.mkdir(parents=True, exist_ok=True)
            write_text_whole(out / "places.csv", csv_text(old))
    return old


if __name__ == "__main__":
    sys.stdout.write(main(*sys.argv[1:]).round(4).to_string() + "\n")
