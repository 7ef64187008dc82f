"""The system: a cube of what SMAP sees becomes moisture a day, of cells and at stations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr

from soilkit import grids, sources, units
from soilkit.errors import ContractError, UnitError, UnknownNameError
from soilkit.export import cubes, ten_day_table
from soilkit.metrics.evaluation.applicability import Area
from soilkit.models import training
from soilkit.models.convlstm.gap_filter import ContinuousFilter, gaps_of
from soilkit.models.convlstm.recurrent import ConvLSTM
from soilkit.models.maps.validity import APPLICABILITY, FREEZING_K, REASONS, dissimilarity

SMAP = "smap_l3_ancillary"
ANCILLARY = (
    "tb_h_corrected", "tb_v_corrected", "albedo", "surface_temperature", "roughness_coefficient",
    "vegetation_opacity", "vegetation_water_content",
)  # fmt: skip
SOIL = ("sandtotal", "silttotal", "claytotal", "bd")
SURFACE_ESTIMATE = "soil_moisture_surface"
DAYS_AT_ONCE = 32  # that are read from a cube


class Depth(NamedTuple):
    """Teachers of a depth, names of layers of a cube, and the soil map that belongs to it."""

    level: str
    timing: str
    soil: str
    beta: float


# Table 2. The text gives the subsurface the RMSE alone, the table R of the same teacher as well.
DEPTHS = {
    "surface": Depth("nldas2_noah_SoilM_0_10cm", f"{SMAP}_soil_moisture_dca", "solus100", 1.0),
    "subsurface": Depth(
        "nldas2_noah_SoilM_10_40cm", "nldas2_noah_SoilM_10_40cm", "solus100_30cm", 0.0
    ),
}


def predictors(depth: str, scenario: int) -> tuple[str, ...]:
    """The layers that a model of a depth eats in one of the paper's two scenarios (Table 2) [1]_.

    References
    ----------
    .. [1] Rabiei et al. (2024), doi:10.20944/preprints202412.1356.v1

    Examples
    --------
    >>> [len(predictors(*c)) for c in (("surface", 1), ("surface", 2), ("subsurface", 2))]
    [7, 11, 12]
    """
    if depth not in DEPTHS or scenario not in (1, 2):
        raise UnknownNameError(
            f"No scenario {scenario!r} of the depth {depth!r}: depths are {', '.join(DEPTHS)}, "
            "scenarios 1 and 2."
        )
    names = tuple(f"{SMAP}_{name}" for name in ANCILLARY)
    if (depth, scenario) != ("surface", 1):
        names += tuple(f"{DEPTHS[depth].soil}_{name}" for name in SOIL)
    return names + ((SURFACE_ESTIMATE,) if (depth, scenario) == ("subsurface", 2) else ())


def sources_of(*depths: str) -> dict[str, list[str]]:
    """What ``cubes.build`` is to fetch for models of these depths, teachers included."""
    wanted = [f"{SMAP}_{name}" for name in (*ANCILLARY, "soil_moisture_dca")]
    for depth in depths:
        wanted += [*predictors(depth, 2), DEPTHS[depth].level]
    bands: dict[str, list[str]] = {}
    for source in sources.CATALOGUE:
        some = [b.name for b in source.bands if f"{source.name}_{b.name}" in wanted]
        bands |= {source.name: some} if some else {}
    return bands


def split_days(times: Any, *, shares: Sequence[float] = (0.6, 0.2, 0.2)) -> np.ndarray:
    """ "train", then "validation", then "test": labels of days (time,) by their order [1]_.

    References
    ----------
    .. [1] Rabiei et al. (2024), section 2.4: 2018-2020, 2021, 2022

    Examples
    --------
    >>> split_days(pd.date_range("2019-01-01", periods=5)).tolist()
    ['train', 'train', 'train', 'validation', 'test']
    """
    ends = np.cumsum(shares)[:2]
    part = np.searchsorted(np.round(ends * len(times)), np.arange(len(times)), side="right")
    return np.array(["train", "validation", "test"])[part]


# A cube, checked, day by day.


def _daily(cube: xr.Dataset, names: Sequence[str]) -> tuple[xr.Dataset, int]:
    """The layers of every day from the first to the last, and how many days were lacking."""
    absent = [name for name in names if name not in cube]
    if absent:
        raise ContractError(
            f"The cube lacks {', '.join(absent)}. Build it with convlstm.sources_of, or assign "
            "the layer; an estimate of the surface is the map of a model trained for it."
        )
    times = pd.DatetimeIndex(cubes.moments_of(cube["time"].values))
    if not (times - times[0] == (times.floor("D") - times[0].floor("D"))).all():
        raise ContractError(
            "The cube's moments differ in their hours; wanted one a day, always at the same hour. "
            "Choose them by cube.sel(time=...)."
        )
    every = pd.date_range(times[0], times[-1], freq="D").as_unit("us")
    dated = cube[list(names)]
    if len(every) > len(times):
        dated = dated.reindex(time=every)
    return dated, len(every) - len(times)


def teachers_of(cube: xr.Dataset, depth: str) -> tuple[np.ndarray, np.ndarray]:
    """Level and timing, (time, row, col) float32 m3 m-3, of a depth's teachers; NaN where unknown.

    Raises
    ------
    UnitError
        For a layer without a unit, or with values that are no m3 m-3.
    ContractError
        For a teacher that is absent everywhere, or one of the level that never changes.
    """
    level, timing = (_in_m3_m3(cube, name) for name in DEPTHS[depth][:2])
    if np.nanstd(level) < 1e-6:
        raise ContractError(
            f"{DEPTHS[depth].level} is {np.nanmean(level):.3g} m3 m-3 everywhere and always: a "
            "constant teaches nothing. Look for a fill value, or take another teacher."
        )
    return level, timing


def _in_m3_m3(cube: xr.Dataset, name: str) -> np.ndarray:
    layer = cube[name]
    bands = {f"{row.name}_{band.name}": band for row in sources.CATALOGUE for band in row.bands}
    unit = layer.attrs.get("units")
    if unit is None:
        raise UnitError(f"{name} has no unit. Say cube['{name}'].attrs['units'] = 'kg m-2' or so.")
    layer_mm = bands[name].layer_mm if name in bands else None
    factor, summand = units.conversion(unit, "m3 m-3", layer_mm=layer_mm)
    values = layer.transpose("time", "y", "x").to_numpy().astype(np.float32) * factor + summand
    known = np.isfinite(values)
    if not known.any():
        raise ContractError(
            f"{name} is unknown everywhere and always: the model would have no teacher. Bring days "
            "that have it, or leave its part out of the loss (alpha or beta of 0)."
        )
    if (typical := np.median(values[known])) > units.MAX_SOIL_MOISTURE_M3_M3:
        raise UnitError(
            f"{name} is {typical:.3g} in the middle and says {unit}: no soil holds more than 1 m3 "
            "m-3. Set its units to 'kg m-2' if it counts water in a layer."
        )
    return values.astype(np.float32)


class Scale(NamedTuple):
    """Names of channels, and what each is normalised by, (channel,)."""

    names: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray, names: Sequence[str], *, learns: np.ndarray) -> Scale:
        """Means and deviations of images (time, channel, row, col) where ``learns``."""
        rows = [images[:, k][learns] for k in range(len(names))]
        lacking = [n for n, row in zip(names, rows, strict=True) if not np.isfinite(row).any()]
        if lacking:
            raise ContractError(
                f"{', '.join(lacking)} is unknown on all training days and cells. Leave it out, "
                "or train where it is known."
            )
        mean, std = (np.array([f(row) for row in rows]) for f in (np.nanmean, np.nanstd))
        return cls(tuple(names), mean, np.where(std > 1e-6, std, 1.0))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Normalised images (time, channel, row, col), float32."""
        shape = (1, -1, 1, 1)
        normal = (images - self.mean.reshape(shape)) / self.std.reshape(shape)
        return normal.astype(np.float32)


def _images(cube: xr.Dataset, names: Sequence[str], days: slice = slice(None)) -> np.ndarray:
    """Layers of some days as stored numbers, (time, channel, row, col), static ones repeated."""
    some = cube[list(names)].isel(time=days)
    n_days = some.sizes["time"]
    layers = [
        some[name].transpose("time", "y", "x").to_numpy() if "time" in some[name].dims
        else np.repeat(some[name].transpose("y", "x").to_numpy()[None], n_days, axis=0)
        for name in names
    ]  # fmt: skip
    return np.stack(layers, axis=1).astype(np.float32)


def _seen_by_smap(names: Sequence[str]) -> list[int]:
    """The channels that come with an overpass and have gaps between them."""
    return [k for k, name in enumerate(names) if name.startswith(SMAP)]


FILTER = "filter."  # before the names of its weights in a file


def load(path: str | os.PathLike[str]) -> TrainedConvLSTM:
    """What ``TrainedConvLSTM.save`` wrote.

    Raises
    ------
    CheckpointError
        When the file is absent, damaged, holds code, or another system's model.
    """
    checkpoint = training.load_checkpoint(path)
    held = {k.removeprefix(FILTER): v for k, v in checkpoint.weights.items() if FILTER in k}
    plain = {k: v for k, v in checkpoint.weights.items() if FILTER not in k}
    checkpoint = replace(checkpoint, weights=plain)
    model = ConvLSTM.from_checkpoint(checkpoint)
    n_dated = held["decoder.bias"].numel() if held else 0
    gaps = ContinuousFilter(n_dated)
    gaps.load_state_dict(held)
    return TrainedConvLSTM(model, gaps.eval(), checkpoint)


@dataclass(frozen=True)
class TrainedConvLSTM:
    """A trained ConvLSTM and the filter of its gaps; ``counts`` tell what training left out."""

    model: ConvLSTM
    filter: ContinuousFilter
    checkpoint: training.Checkpoint
    history: pd.DataFrame | None = None
    counts: pd.Series | None = None

    @property
    def scale(self) -> Scale:
        """The channels and what they are normalised by."""
        names, numbers = self.checkpoint.provenance.inputs, self.checkpoint.provenance.normalisation
        return Scale(names, *np.array([numbers[name] for name in names]).T)

    @property
    def depth(self) -> str:
        """ "surface" or "subsurface"."""
        return next(n for n, d in DEPTHS.items() if d.level == self.model.config.target)

    @property
    def name(self) -> str:
        """What tables call the model."""
        scenario = 2 if self.scale.names == predictors(self.depth, 2) else 1
        ahead = "" if self.model.config.causal else ", looks ahead"
        return f"ConvLSTM, {self.depth}, scenario {scenario}{ahead}"

    def stream(self, cube: xr.Dataset) -> Iterator[tuple[pd.Timestamp, np.ndarray, np.ndarray]]:
        """Day by day: time, moisture (row, col) m3 m-3, and whether a cell was ever seen.

        The state of filter and network is carried from one day to the next: memory does not grow
        with the days. A model whose gaps were filled from both sides reads the whole cube first.
        """
        for time, moisture, seen, _ in self._days(cube):
            yield time, moisture, seen

    def _days(self, cube: xr.Dataset) -> Iterator[tuple]:
        """What ``stream`` yields, and the day's images (channel, row, col), normalised."""
        daily, _ = _daily(cube, self.scale.names)
        seen = np.zeros((daily.sizes["y"], daily.sizes["x"]), dtype=bool)
        lookback, memory = self.model.config.lookback_days, None
        days: list[torch.Tensor] = []
        times = pd.DatetimeIndex(daily["time"].values)
        for time, (image, known) in zip(times, self._filled(daily), strict=True):
            seen = seen | known
            with torch.inference_mode():
                if lookback:
                    days = [*days, torch.from_numpy(image)][-lookback:]
                    moisture = self.model(torch.stack(days)[None])[0, -1]
                else:
                    one = torch.from_numpy(image)[None, None]
                    answer, memory = self.model.advance(one, memory)
                    moisture = answer[0, 0]
            yield time, moisture.numpy(), seen, image

    def _filled(self, daily: xr.Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images (channel, row, col) without gaps, and where the day itself was seen."""
        scale = self.scale
        dated = _seen_by_smap(scale.names)
        n_days, causal = daily.sizes["time"], self.model.config.causal
        size = DAYS_AT_ONCE if causal else n_days
        gaps, belief = gaps_of(daily["time"].values).tolist(), None
        for first in range(0, n_days, size):
            images = scale(_images(daily, scale.names, slice(first, first + size)))
            series = images[:, dated].transpose(0, 2, 3, 1)  # (day, row, col, channel)
            known = np.isfinite(series).any(axis=3)
            flat = torch.from_numpy(series.reshape(len(series), -1, len(dated)))
            with torch.inference_mode():
                if causal:
                    for k, values in enumerate(flat):
                        belief = belief or self.filter.prior(len(values))
                        belief = self.filter.foresee(belief, gaps[first + k])
                        observed, error = self.filter.read(values)
                        belief = self.filter.update(belief, observed, error=error)
                        answer, _ = self.filter.decode(belief)
                        flat[k] = torch.where(torch.isfinite(values), values, answer)
                    filled = flat.numpy()
                else:
                    both = self.filter.fill(
                        flat.transpose(0, 1).numpy(), daily["time"].values, causal=False
                    )
                    filled = both.transpose(1, 0, 2)
            images[:, dated] = filled.reshape(series.shape).transpose(0, 3, 1, 2)
            yield from zip(np.nan_to_num(images), known, strict=True)

    def map(self, cube: xr.Dataset, *, area: Area | None = None) -> xr.Dataset:
        """Moisture of every cell and day: ``soil_moisture`` [m3 m-3] and ``validity``, its bits.

        Of the reasons of ``maps`` those that the layers tell of: outside of the region, a frozen
        surface, and no overpass yet; there the moisture is unknown. With an ``area`` of
        ``training_area`` there is ``applicability`` too, 1 at the rim; beyond it the moisture
        stays, flagged.
        """
        kept, index = [], []
        for *day, image in self._days(cube):
            kept.append(day)
            if area is not None:
                cells = pd.DataFrame(image.reshape(len(image), -1).T, columns=self.scale.names)
                index.append(dissimilarity(area, cells).reshape(image.shape[1:]))
        times, moisture, seen = (np.stack(part) for part in zip(*kept, strict=True))
        flags = np.where(seen, 0, REASONS["no_source"]).astype(np.uint8)
        daily, _ = _daily(cube, self.scale.names)
        kelvin = f"{SMAP}_surface_temperature"
        if kelvin in daily:
            frozen = daily[kelvin].transpose("time", "y", "x").to_numpy() < FREEZING_K
            flags |= np.where(frozen, REASONS["snow_or_frozen"], 0).astype(np.uint8)
        if "inside" in cube:
            outside = cube["inside"].transpose("y", "x").to_numpy() == 0
            flags |= np.where(outside, REASONS["edge"], 0).astype(np.uint8)
        named, dims = ["edge", "snow_or_frozen", "no_source"], ("time", "y", "x")
        values = np.where(flags == 0, moisture, np.nan).astype(np.float32)
        layers: dict[str, Any] = {"soil_moisture": (dims, values, {"units": "m3 m-3"})}
        if area is not None:
            layers["applicability"] = dims, np.stack(index), APPLICABILITY
            beyond = (np.stack(index) > 1) & (flags == 0)
            flags |= np.where(beyond, REASONS["outside_applicability"], 0).astype(np.uint8)
            named.append("outside_applicability")
        words = {"flag_masks": np.array([REASONS[n] for n in named], np.uint8),
                 "flag_meanings": " ".join(named)}  # fmt: skip
        layers["validity"] = dims, flags, words
        coords = {"time": times.astype("datetime64[us]"), "y": cube["y"], "x": cube["x"]}
        if "spatial_ref" in cube.coords:
            coords["spatial_ref"] = cube["spatial_ref"]
        return xr.Dataset(layers, coords, {"model": self.name})

    def predict(
        self, data: xr.Dataset, stations: pd.DataFrame, *, observations: pd.DataFrame | None = None,
        split: Any = "unknown",
    ) -> pd.DataFrame:  # fmt: skip
        """A predictions table of the stations on a cube, one row a sensor and day.

        Parameters
        ----------
        data : cube
        stations : of the contract, the sensors that are wanted
        observations : of the contract; a day's mean of at least twelve readings is what is observed
        split : one label, or one a day of the cube
        """
        mapped = self.map(data)
        return station_rows(
            mapped["soil_moisture"], stations, observations=observations, model=self.name,
            split=pd.Series(split, index=data["time"].values),
        )  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, filter, configuration, channels and normalisation whole or not at all."""
        weights = {f"{FILTER}{k}": v for k, v in self.filter.state_dict().items()}
        kept = replace(self.checkpoint, weights=self.checkpoint.weights | weights)
        training.save_checkpoint(path, kept)


def station_rows(
    field: xr.DataArray, stations: pd.DataFrame, *, observations: pd.DataFrame | None, model: str,
    split: pd.Series,
) -> pd.DataFrame:  # fmt: skip
    """A predictions table of a field (time, y, x), m3 m-3, at the cells that sensors lie in.

    A row is a sensor and day with a value of the field; sensors beyond the field have none. A day
    of the field is the one that ends at its time, or holds it. ``split`` is by time.
    """
    half = float(abs(field["x"][1] - field["x"][0])) / 2
    is_placed = "spatial_ref" in field.coords
    crs = field["spatial_ref"].attrs["crs_wkt"] if is_placed else grids.EASE2_CRS
    there = grids.transformer("EPSG:4326", crs)
    x_m, y_m = there.transform(stations["longitude"].to_numpy(), stations["latitude"].to_numpy())
    cells = [np.abs(field[d].values[:, None] - at) for d, at in (("y", y_m), ("x", x_m))]
    inside = (cells[0].min(axis=0) <= half) & (cells[1].min(axis=0) <= half)
    if not inside.any():
        raise ContractError(
            f"None of {len(stations)} sensors lies on the cube. Build it around the stations."
        )
    sensors = stations[inside].reset_index(drop=True)
    row, col = (c.argmin(axis=0)[inside] for c in cells)
    values = field.transpose("time", "y", "x").values[:, row, col]  # (time, sensor)
    day = (pd.DatetimeIndex(field["time"].values) - pd.Timedelta("1us")).floor("D")
    k, s = np.nonzero(np.isfinite(values))
    rows = sensors.loc[s, ["sensor_id", "station_id", "network"]].reset_index(drop=True)
    rows["time"] = day[k].as_unit("us")
    rows["sample_id"] = rows["sensor_id"].astype(str) + rows["time"].dt.strftime("_%Y%m%d")
    rows["soil_moisture_m3_m3"] = np.nan
    if observations is not None:
        daily = ten_day_table.daily_means(observations).astype({"sensor_id": str})
        known = daily.set_index(["sensor_id", "time"])["soil_moisture_m3_m3"]
        keys = pd.MultiIndex.from_frame(rows[["sensor_id", "time"]].astype({"sensor_id": str}))
        rows["soil_moisture_m3_m3"] = known.reindex(keys).to_numpy(float)
    labels = split.reindex(field["time"].values).fillna("unknown").to_numpy(str)[k]
    return ten_day_table.predictions_table(
        rows, sensors, predicted=values[k, s], model=model, split=labels
    )
