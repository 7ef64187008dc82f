"""SMAP at 412 pixels from the weather: the data, their predictors, and models that learn a year."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.signal import lfilter
from sklearn.ensemble import HistGradientBoostingRegressor
from torch import nn

from soilkit.export import antecedents
from soilkit.metrics.splits.folds import block_ids
from soilkit.models import training

# A year of SMAP to learn from, and the year after it, at pixels of one grid.

BLOCK_DEG = 6.0  # pixels lie 1.5 degrees apart: a block holds up to sixteen of them
N_FOLDS, N_WINDOWS = 3, 6
FORCINGS = ("APCP_FORA", "DLWRF_FORA", "DSWRF_FORA", "TMP_2_FORA", "SPFH_2_FORA", "VGRD_10_FORA",
            "UGRD_10_FORA")  # fmt: skip
CONSTANTS = ("Bulk", "Capa", "Clay", "NDVI", "Sand", "Silt", "flag_albedo", "flag_extraOrd",
             "flag_landcover", "flag_roughness", "flag_vegDense", "flag_waterbody")  # fmt: skip
MISSING, YEARS = -9999, (2015, 2016)  # a year begins on the first of April
ARCHIVE = Path("smap_nldas_conus", "CONUSv4f1.zip")


class Pixels(NamedTuple):
    """Daily series of places, the first ``n_train`` days to learn from.

    ``places`` (pixel: latitude, longitude), ``forcings`` (forcing, day, pixel) in the order of
    FORCINGS and the units of NLDAS-2, rain in mm h-1; ``constants`` (pixel, constant);
    ``smap_m3_m3`` (pixel, day), NaN where SMAP saw nothing.
    """

    places: pd.DataFrame
    forcings: np.ndarray
    constants: np.ndarray
    smap_m3_m3: np.ndarray
    n_train: int

    @property
    def blocks(self) -> np.ndarray:
        """The 6-degree block of each pixel, (pixel,)."""
        return block_ids(self.places, size_deg=BLOCK_DEG).to_numpy()

    def first_year(self) -> "Pixels":
        """The days to learn from alone."""
        n = self.n_train
        return self._replace(forcings=self.forcings[:, :n], smap_m3_m3=self.smap_m3_m3[:, :n])

    def folds(self) -> np.ndarray:
        """The fold that hides each pixel and day of the first year, (pixel, day).

        Blocks are dealt into three groups, the year is cut into six windows of two months: a fold
        hides two windows of every block, half a year apart, and other ones in each group.
        """
        codes, names = pd.factorize(self.blocks)
        group = np.random.default_rng(0).permutation(len(names))[codes] % N_FOLDS
        window = np.arange(self.n_train) * N_WINDOWS // self.n_train
        return (group[:, None] + window) % N_FOLDS


def read_pixels(path: Path) -> Pixels:
    """The archive of Fang et al. (2017): SMAP L3 of the morning, NLDAS-2 and constants [1]_.

    References
    ----------
    .. [1] Fang, Shen, Kifer and Yang (2017), doi:10.1002/2017GL075619
    """
    with zipfile.ZipFile(path) as archive:

        def table(name: str) -> np.ndarray:
            with archive.open(f"CONUSv4f1/{name}.csv") as file:
                return pd.read_csv(file, header=None, na_values=[MISSING]).to_numpy(float)

        forcings = [[table(f"{year}/{name}").T for name in FORCINGS] for year in YEARS]
        smap = [table(f"{year}/SMAP_AM") for year in YEARS]
        constants = np.hstack([table(f"const/{name}") for name in CONSTANTS])
        places = pd.DataFrame(table("crd"), columns=["latitude", "longitude"])
    constants = np.where(np.isnan(constants), np.nanmedian(constants, axis=0), constants)
    both = np.hstack(smap)
    return Pixels(places, np.concatenate(forcings, axis=1), constants, both, smap[0].shape[1])


# What the weather of a day and of the days before it tells.

HALF_LIVES, SLOW, CAPACITIES_MM = (1, 2, 4, 8, 16, 32, 90), (3, 10, 30), (8, 15, 30, 60, 150)
AIR_KPA, PSYCHROMETRIC_KPA_K, MJ_PER_W_DAY = 101.3, 0.066, 0.0864
RAW = ("rain", "long", "short", "air", "humidity", "east", "north")


def weather_of(pixels: Pixels) -> dict[str, np.ndarray]:
    """Predictors (day, pixel) by name; the past is the first year's weather once more before it.

    The air's demand is Makkink's, 0.61 D / (D + g) Rs / L - 0.12 mm d-1 [1]_; means of the past
    weigh 2^(-age / half-life); snow and buckets are those of ``antecedents``.

    References
    ----------
    .. [1] de Bruin (1987), in Evaporation and Weather, TNO Proceedings and Information 39, 5-31
    """
    n, (rate, long, short, air_k, humidity, east, north) = pixels.n_train, pixels.forcings
    rain, air = 24 * rate, air_k - 273.15
    saturation = 0.6108 * np.exp(17.27 * air / (air + 237.3))  # kPa, FAO-56 equation 11
    slope = 4098 * saturation / (air + 237.3) ** 2
    deficit = np.maximum(saturation - humidity * AIR_KPA / (0.622 + 0.378 * humidity), 0)
    energy_mm = short * MJ_PER_W_DAY / antecedents.LATENT_HEAT_MJ_KG
    demand = np.maximum(0.61 * slope / (slope + PSYCHROMETRIC_KPA_K) * energy_mm - 0.12, 0)

    def again(x):
        return np.concatenate([x[:n], x])

    def past(x, half_life):
        keep = 0.5 ** (1 / half_life)
        return lfilter([1 - keep], [1, -keep], again(x), axis=0)[n:]

    snow, water = antecedents.snowpack(again(rain), again(air))
    buckets = {
        f"bucket_{c}": antecedents.bucket(water, again(demand), capacity_mm=c)[n:]
        for c in CAPACITIES_MM
    }
    snow, water = snow[n:], water[n:]
    series = {"rain": rain, "water": water, "air": air, "short": short, "long": long,
              "humidity": humidity, "deficit": deficit, "demand": demand, "snow": snow,
              "east": east, "north": north, "wind": np.hypot(east, north)}  # fmt: skip
    means = {f"water_past{h}": past(water, h) for h in HALF_LIVES}
    means |= {
        f"{x}_past{h}": past(series[x], h) for x in ("demand", "deficit", "air") for h in SLOW
    }
    means |= {"short_past30": past(short, 30), "long_past10": past(long, 10)}
    lags = {f"water_{k}d_ago": np.concatenate([water[:1]] * k + [water[:-k]]) for k in (1, 2)}
    return series | means | buckets | lags


@dataclass(frozen=True)
class Inputs:
    """Standardised predictors of pixels, and what SMAP saw in the first year alone."""

    pixels: Pixels

    @cached_property
    def names(self) -> list[str]:
        """Names of the predictors of ``weather``."""
        return list(weather_of(self.pixels.first_year()))

    @cached_property
    def weather(self) -> np.ndarray:
        """Predictors (pixel, day, name), of mean 0 and deviation 1 in the first year."""
        series = weather_of(self.pixels)
        logs = ("rain", "water", "snow")
        values = [np.log1p(v) if k.startswith(logs) else v for k, v in series.items()]
        table = np.stack(values, axis=-1).transpose(1, 0, 2)
        first = table[:, : self.pixels.n_train]
        std = first.std(axis=(0, 1))
        scaled = (table - first.mean(axis=(0, 1))) / np.where(std > 0, std, 1)
        return scaled.astype(np.float32)

    @cached_property
    def target(self) -> np.ndarray:
        """SMAP of the first year, (pixel, day), m3 m-3."""
        return self.pixels.first_year().smap_m3_m3

    @cached_property
    def constants(self) -> np.ndarray:
        """Constants and the kind of land cover, standardised, (pixel, constant)."""
        cover = self.pixels.constants[:, CONSTANTS.index("flag_landcover"), None]
        return _scaled(np.hstack([self.pixels.constants, cover == np.unique(cover)]))

    def moments(self, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of each pixel's known SMAP, (pixel,), the latter 0.01 at least."""
        seen = np.where(known, self.target, np.nan)
        return np.nanmean(seen, axis=1), np.maximum(np.nanstd(seen, axis=1), 0.01)

    def statics(self, known: np.ndarray) -> np.ndarray:
        """What is fixed at a pixel (pixel, static): constants, climate, place, its known SMAP."""
        seen = np.where(known, self.target, np.nan)
        tails = np.nanpercentile(seen, [10, 90], axis=1).T
        climate = self.weather[:, : self.pixels.n_train].mean(axis=1)
        varying = np.hstack([climate, self.pixels.places, np.stack(self.moments(known), 1), tails])
        return np.hstack([self.constants, _scaled(varying)]).astype(np.float32)


def _scaled(values: np.ndarray) -> np.ndarray:
    return ((values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)).astype(np.float32)


# Members: each predicts every pixel and day, m3 m-3, from what is ``known`` of the first year.

UNIT_M3_M3 = 0.05  # targets of networks are deviations in it
CHUNK = 64  # pixels predicted at a time


def booster(inputs: Inputs, known: np.ndarray, *, seed: int) -> np.ndarray:
    """Boosted trees on a day's predictors, of the deviation from the pixel's mean, (pixel, day)."""
    mean, statics = inputs.moments(known)[0][:, None], inputs.statics(known)
    model = fitted(boosted(400, seed), inputs.weather, statics, inputs.target - mean, known)
    return by_trees(model, inputs.weather, statics) + mean


def boosted(n: int, seed: int) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        max_iter=n, learning_rate=0.05, min_samples_leaf=30, l2_regularization=1.0,
        max_features=0.3, early_stopping=False, random_state=seed,
    )  # fmt: skip


def fitted(model, weather, statics, target, known):
    """Trees that learned the target (pixel, day) where it is known."""
    pixel, day = np.nonzero(known)
    return model.fit(np.hstack([weather[pixel, day], statics[pixel]]), target[known])


def by_trees(model, weather, statics):
    """Predictions (pixel, day) of trees that see weather (pixel, day, name) and statics."""
    pairs = zip(weather, statics, strict=True)
    each = [np.hstack([w, np.repeat(s[None], len(w), axis=0)]) for w, s in pairs]
    return model.predict(np.concatenate(each)).reshape(weather.shape[:2])


@dataclass(frozen=True)
class Recipe:
    """A network: a linear layer, one with (``days`` > 1) or without memory, an output.

    ``columns`` of the weather, () for all; ``by_pixel``: it knows each pixel by an embedding, its
    climate and its SMAP so far, predicts the deviation from its mean and weighs a pixel by the
    inverse of its deviation. ``epochs`` of batches of ``batch`` windows of ``days`` days.
    """

    width: int
    days: int
    batch: int
    epochs: int
    columns: tuple[str, ...] = ()
    by_pixel: bool = True
    dropout: float = 0.2
    learning_rate: float = 3e-3


class SeriesNetwork(nn.Module):
    """Moisture (window, day) of a batch's weather (window, day, name), static and pixel."""

    def __init__(self, recipe: Recipe, *, n_inputs: int, n_pixels: int):
        super().__init__()
        embedded = 8 if recipe.by_pixel else 0
        self.embedding = nn.Embedding(n_pixels, embedded)
        self.embedding.weight.data *= 0.1
        self.first = nn.Linear(n_inputs + embedded, recipe.width)
        self.remembers = recipe.days > 1
        second = partial(nn.LSTM, batch_first=True) if self.remembers else nn.Linear
        self.second: nn.Module = second(recipe.width, recipe.width)
        self.drop, self.last = nn.Dropout(recipe.dropout), nn.Linear(recipe.width, 1)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Deviations (window, day), in UNIT_M3_M3."""
        weather = batch["weather"]
        fixed = torch.cat([batch["static"], self.embedding(batch["pixel"])], dim=-1)
        fixed = fixed[:, None].expand(-1, weather.shape[1], -1)
        hidden = nn.functional.silu(self.first(torch.cat([weather, fixed], dim=-1)))
        if self.remembers:
            hidden, _ = self.second(hidden)
        else:
            hidden = nn.functional.silu(self.second(self.drop(hidden)))
        return self.last(self.drop(hidden))[..., 0]


class Windows:
    """An epoch of batches of windows drawn at random, each with a known day at least."""

    def __init__(self, tables: dict[str, torch.Tensor], recipe: Recipe):
        self.tables, self.recipe, self.generator = tables, recipe, torch.Generator()
        weight, n = tables["weight"], recipe.days
        starts = torch.arange(-(n // 2), weight.shape[1] - n // 2).clip(0, weight.shape[1] - n)
        sums = nn.functional.pad(weight.cumsum(1), (1, 0))
        pixel, at = torch.nonzero((sums[:, starts + n] - sums[:, starts]) > 0, as_tuple=True)
        self.pixel, self.start = pixel, starts[at]

    def __len__(self) -> int:
        return max(1, len(self.pixel) // (self.recipe.batch * self.recipe.days))

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        tables = self.tables
        for _ in range(len(self)):
            drawn = torch.randint(len(self.pixel), (self.recipe.batch,), generator=self.generator)
            pixel, days = (
                self.pixel[drawn],
                self.start[drawn, None] + torch.arange(self.recipe.days),
            )
            daily = {k: tables[k][pixel[:, None], days] for k in ("weather", "target", "weight")}
            yield daily | {"static": tables["static"][pixel], "pixel": pixel}


def network(inputs: Inputs, known: np.ndarray, *, seed: int, recipe: Recipe) -> np.ndarray:
    """A network of a recipe, trained on what is known, on all pixels and days, (pixel, day)."""
    mean, std = inputs.moments(known)
    if not recipe.by_pixel:
        mean, std = np.full_like(mean, inputs.target[known].mean()), np.ones_like(std)
    statics = inputs.statics(known) if recipe.by_pixel else inputs.constants
    of = [inputs.names.index(name) for name in recipe.columns or inputs.names]
    deviation = np.where(known, inputs.target - mean[:, None], 0) / UNIT_M3_M3
    arrays = {
        "weather": inputs.weather[..., of], "static": statics, "target": deviation,
        "weight": known / std[:, None] * std.mean(),
    }  # fmt: skip
    tables = {k: torch.as_tensor(v, dtype=torch.float32) for k, v in arrays.items()}
    pixels = torch.arange(len(mean))
    whole = [
        {"weather": tables["weather"][p], "static": tables["static"][p], "pixel": p}
        for p in pixels.split(CHUNK)
    ]
    torch.manual_seed(seed)
    n_inputs = len(of) + statics.shape[1]
    model = SeriesNetwork(recipe, n_inputs=n_inputs, n_pixels=len(mean))
    windows = Windows(tables, recipe)
    steps = recipe.epochs * len(windows)
    settings = training.Settings(
        steps=steps, optimizer="adam", learning_rate=recipe.learning_rate, weight_decay=3e-5,
        momentum=0.9, max_gradient_norm=1.0, validate_every=steps, seed=seed,
    )  # fmt: skip
    training.fit(model, (windows, whole[:1]), _error, _look, settings=settings, progress=False)
    return training.predict(model, whole, _look) * UNIT_M3_M3 + mean[:, None]


def _error(model, batch):
    squares = batch["weight"] * (model(batch) - batch["target"]) ** 2
    return squares.sum() / batch["weight"].sum().clamp(min=1e-6)


def _look(model, batch):
    return model(batch), None


REMEMBERED = ("rain", "water", "air", "short", "long", "humidity", "wind", "demand", "snow",
              "water_past2", "water_past8", "water_past32", "bucket_15", "bucket_60", "air_past10",
              "demand_past10")  # fmt: skip
PLAIN, TREES = "plain LSTM", "booster"
RECIPES = {
    "dense": Recipe(128, days=1, batch=1024, epochs=40, learning_rate=4e-3),
    "recurrent": Recipe(
        64, days=92, batch=64, epochs=30, columns=REMEMBERED, dropout=0.3, learning_rate=6e-3
    ),
    PLAIN: Recipe(128, days=92, batch=64, epochs=40, columns=RAW, by_pixel=False, dropout=0.0),
}
MEMBERS = (TREES, *(name for name in RECIPES if name != PLAIN))
