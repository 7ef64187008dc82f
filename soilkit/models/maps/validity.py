"""Where a map is not to be believed, and how far its answers may be off."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.ndimage import uniform_filter

from soilkit import sources, units
from soilkit.contracts import Grid
from soilkit.errors import ContractError
from soilkit.export import chips, ten_day_table
from soilkit.export.features import cloudy
from soilkit.metrics import calibration
from soilkit.metrics.evaluation import applicability
from soilkit.models.datasets import ChipDataset, image_sides
from soilkit.models.maps.scene import Scene
from soilkit.models.maps.windows import map_grid, scalars_at
from soilkit.sources import Source

REASONS = {
    "edge": 1, "cloud": 2, "water": 4, "snow_or_frozen": 8, "radar_shadow": 16,
    "outside_applicability": 32, "no_source": 64,
}  # fmt: skip
MOSTLY = 0.5  # of a cell's pixels
SNOW_NDSI, SNOW_INFRARED = 0.4, 0.11  # Hall et al. (1995), doi:10.1016/0034-4257(95)00137-P
WATER_MNDWI, WATER_INFRARED = 0.0, 0.10  # Xu (2006), doi:10.1080/01431160600589179; dark besides
FREEZING_K = 273.15
SOIL_TEMPERATURES = ("surface_temp", "surface_temperature", "tmmx")
WATER_CLASSES = {"land_cover": (80, 200), "nlcd_2019": (11,), "nlcd_2021": (11,),
                 "modis_land_cover": (17,)}  # fmt: skip
SNOW_CLASSES = {"land_cover": (70,), "nlcd_2019": (12,), "nlcd_2021": (12,),
                "modis_land_cover": (15,)}  # fmt: skip


def reasons_of(layers: xr.Dataset, cells: Grid) -> dict[str, np.ndarray]:
    """The share of each cell's pixels that a reason spoils, as far as the layers can tell.

    *edge* lies outside the region's outline. *cloud* is what flags of an optical scene say. *water*
    is a land-cover class, or optics with MNDWI > 0 and a dark infrared [1]_. *snow_or_frozen* is a
    class, optics with NDSI > 0.4 and infrared > 0.11 [2]_, or a surface below 0 degrees Celsius.
    *radar_shadow* is a slope so steep that, seen from the worst side, it lies in shadow (steeper
    than 90 degrees less the incidence angle) or is laid over (steeper than the angle).

    Parameters
    ----------
    layers : a cube of ``cubes.build`` at one moment, dims (y, x)
    cells : Grid of the map, in the cube's CRS

    Returns
    -------
    {reason: array (row, col), 0 to 1}, without reasons that no layer tells of

    References
    ----------
    .. [1] Xu (2006), doi:10.1080/01431160600589179
    .. [2] Hall et al. (1995), doi:10.1016/0034-4257(95)00137-P
    """
    present = [row for row in sources.CATALOGUE if any(f"{row.name}_{b.name}" in layers
                                                       for b in row.bands)]  # fmt: skip
    spoilt: dict[str, np.ndarray] = {}

    def add(reason: str, where: np.ndarray) -> None:
        spoilt[reason] = spoilt.get(reason, False) | where

    for row in present:
        for reason, where in _of_source(layers, row).items():
            add(reason, where)
    slope_deg = _slope_deg(layers, present)
    if slope_deg is not None and "sentinel1_angle" in layers:
        angle_deg = layers["sentinel1_angle"].to_numpy()
        add("radar_shadow", slope_deg > np.minimum(angle_deg, 90 - angle_deg))
    if "inside" in layers:
        add("edge", layers["inside"].to_numpy() == 0)
    return {reason: _share(where, layers, cells) for reason, where in spoilt.items()}


def with_validity(mapped: xr.Dataset, reasons: Iterable[Mapping[str, np.ndarray]]) -> xr.Dataset:
    """A map with ``validity``, bits of why a cell is not to be believed; 0 is valid.

    A cell has a reason where more than half of its pixels have it. Moisture becomes unknown there;
    only outside of the area of applicability it stays, flagged. A cell without an answer and
    without another reason has no source. Reasons that nothing tells of are listed in the attribute
    ``not_checked``.

    Parameters
    ----------
    mapped : a map, dims (y, x), with ``applicability`` where ``with_applicability`` was asked
    reasons : of ``reasons_of``, of each cube that the map was made of
    """
    moisture = mapped["soil_moisture"]
    flags = np.zeros(moisture.shape, np.uint8)
    known = ["edge", "no_source"]
    for shares in reasons:
        for reason, share in shares.items():
            flags |= np.where(share > MOSTLY, REASONS[reason], 0).astype(np.uint8)
            known.append(reason)
    answered = np.isfinite(moisture.to_numpy())
    flags[~answered & (flags == 0)] |= REASONS["no_source"]
    spoilt = flags != 0
    if "applicability" in mapped:
        is_inside = mapped["applicability"].to_numpy() <= 1
        flags[answered & ~is_inside] |= REASONS["outside_applicability"]
        known.append("outside_applicability")
    checked = [name for name in REASONS if name in known]
    attributes = {
        "long_name": "why a cell is not to be believed", "grid_mapping": "crs",
        "flag_masks": np.array([REASONS[n] for n in checked], np.uint8),
        "flag_meanings": " ".join(checked),
        "not_checked": " ".join(name for name in REASONS if name not in known),
    }  # fmt: skip
    numbers = [n for n in mapped if str(n).startswith("soil_moisture")]
    kept = mapped.assign({n: mapped[n].where(~spoilt) for n in numbers})
    for name in numbers:
        kept[name].attrs = mapped[name].attrs
    return kept.assign(validity=(moisture.dims, flags, attributes))


def reason_shares(mapped: xr.Dataset) -> pd.Series:
    """The share of a map's cells with each reason that was looked for, and of valid ones."""
    flags, words = mapped["validity"].to_numpy(), mapped["validity"].attrs
    names, masks = str(words["flag_meanings"]).split(), np.ravel(words["flag_masks"])
    shares = {n: float((flags & mask > 0).mean()) for n, mask in zip(names, masks, strict=True)}
    return pd.Series({"valid": float((flags == 0).mean()), **shares}, name="share of cells")


CENTRE_PX = 32  # of 10 m: a cell of the paper
APPLICABILITY = {
    "units": "1",
    "long_name": "dissimilarity to the training samples, 1 at the rim of applicability",
}


def training_area(
    trained: Any, data: str | os.PathLike[str], *, split: Sequence[str]
) -> applicability.Area:
    """The area of applicability of a trained fusion model.

    Parameters
    ----------
    trained : what a fusion's ``train`` or ``load`` returned
    data : folder of its dataset
    split : labels (sample,), those of the training

    Raises
    ------
    ContractError
        When no sample is labelled "train", or as ``applicability.fit``.
    """
    folder, rows = Path(data), np.asarray(split) == "train"
    if not rows.any():
        raise ContractError("No sample is labelled train: hand in the split of the training.")
    tables = ten_day_table.read_dataset(folder)
    samples = tables.samples[rows]
    dataset = ChipDataset(
        samples, tables.features, chips.open_store(folder / "chips.zarr"), inputs=trained.inputs,
        crop_px=CENTRE_PX, statistics=trained.statistics,
        allow_missing=trained.model.config.source_dropout is not None,
    )  # fmt: skip
    return area_of(dataset, samples["station_id"].to_numpy())


def area_of(dataset: ChipDataset, groups: Any) -> applicability.Area:
    """The area of applicability of a model of chips, from its training samples.

    The predictors are the channels' means over the centre of 320 m, as the model gets them, and the
    coarse scalars: where a map's cell differs in them from every training sample, the model
    extrapolates.

    Parameters
    ----------
    dataset : the training samples, with ``crop_px`` of 32
    groups : (sample,), stations

    Raises
    ------
    ContractError
        For another crop, or as ``applicability.fit``.
    """
    if dataset.crop_px != CENTRE_PX:
        raise ContractError(
            f"An area is learnt from crops of {CENTRE_PX} pixels, found {dataset.crop_px}."
        )
    names = dataset.inputs.names
    return applicability.fit(centre_means(dataset), predictors=names, groups=groups)


def centre_means(dataset: ChipDataset) -> pd.DataFrame:
    """Means of samples' images over their crop, and scalars, as the model eats them.

    (sample, channel) without unit: normalised as the catalogue and the training's statistics say.
    """
    rows = [_means(dataset[i]) for i in range(len(dataset))]
    return pd.DataFrame(rows, columns=list(dataset.inputs.names))


def _means(sample: Mapping[str, Any]) -> np.ndarray:
    """Means of a sample's images by channel, and its scalars, in the order of the inputs."""
    parts = [sample[n].numpy().mean(axis=(1, 2)) for n in ("high", "low") if n in sample]
    return np.concatenate([*parts, sample["coarse"].numpy()] if "coarse" in sample else parts)


def with_applicability(
    mapped: xr.Dataset, scene: Scene, *, area: applicability.Area, names: Sequence[str]
) -> xr.Dataset:
    """A map with ``applicability``: the dissimilarity index over its threshold; up to 1 is inside.

    Parameters
    ----------
    mapped : of ``predict_map`` on the scene
    scene : Scene
    area : of ``area_of``
    names : of the scene's channels, those of the model's inputs
    """
    cells = map_grid(mapped)
    table = cell_means(scene, cells, names=names)
    index = dissimilarity(area, table).reshape(cells.height, cells.width)
    return mapped.assign(applicability=(("y", "x"), index, APPLICABILITY | {"grid_mapping": "crs"}))


def dissimilarity(area: applicability.Area, table: pd.DataFrame) -> np.ndarray:
    """The dissimilarity index over its threshold, (row,) float32; infinite for an unseen value."""
    measured = area.measure(table)
    index = measured["dissimilarity_index"].to_numpy(float) / area.threshold
    is_unseen = measured["status"].str.startswith("unseen").to_numpy()
    return np.where(is_unseen, np.inf, index).astype(np.float32)


def cell_means(scene: Scene, cells: Grid, *, names: Sequence[str]) -> pd.DataFrame:
    """Channels' means over 320 m about each cell's centre, and its scalars, as the model eats them.

    (cell, channel) without unit, cells row by row; ``names`` are those of the scene's channels.
    """
    pixels = scene.grid
    rows = (pixels.top_m - cells.y_m) / pixels.pixel_size_m  # of the centres
    cols = (cells.x_m - pixels.left_m) / pixels.pixel_size_m
    channels: list[np.ndarray] = []
    for name, values in scene.images.items():
        side = image_sides(CENTRE_PX)[name]
        r, c = ((n / scene.ratio(name)).astype(int) for n in (rows, cols))
        box = uniform_filter(np.nan_to_num(values), (0, side, side), mode="nearest")
        channels += [*box[:, r][:, :, c]]
    down, across = rows / pixels.height, cols / pixels.width
    for values in scene.scalars.values():
        channels += [*scalars_at(values, down, cols=across, how="nearest")]
    return pd.DataFrame({n: np.ravel(one) for n, one in zip(names, channels, strict=True)})


def with_interval(
    mapped: xr.Dataset, predictions: pd.DataFrame, *, coverage: float = 0.9
) -> xr.Dataset:
    """A map with ``soil_moisture_lower`` and ``_upper``, from errors at stations not trained on.

    The width is split-conformal over whole stations: the ``calibration.row_threshold`` of the
    absolute residuals. It is promised for readings at unseen stations like those; outside the area
    of applicability the interval is unknown, not wide.

    Parameters
    ----------
    mapped : a map, with ``validity`` where the area of applicability is known
    predictions : table of one model at validation stations
    coverage : of single readings

    Raises
    ------
    ContractError
        When there are too few stations for the coverage.
    """
    residual = (predictions["predicted_m3_m3"] - predictions["observed_m3_m3"]).abs()
    rows = np.isfinite(residual.to_numpy())
    stations = predictions.loc[rows, "station_id"].astype(str).to_numpy()
    half = float(calibration.row_threshold(residual[rows], stations, coverage=coverage))
    moisture = mapped["soil_moisture"]
    if "validity" in mapped:
        outside = mapped["validity"] & REASONS["outside_applicability"]
        moisture = moisture.where(outside == 0)
    limits: dict[str, Any] = {}
    for name, sign, words in (("lower", -1, "lower"), ("upper", 1, "upper")):
        limit = (moisture + sign * half).clip(0, units.MAX_SOIL_MOISTURE_M3_M3).astype(np.float32)
        limit.attrs = {
            "units": "m3 m-3", "grid_mapping": "crs",
            "long_name": f"{words} limit of soil moisture, {coverage:.0%} of readings",
        }  # fmt: skip
        limits[f"soil_moisture_{name}"] = limit
    n = len(np.unique(stations))
    about = f"{coverage:.0%} of readings at unseen stations, by residuals at {n} of them"
    return mapped.assign(limits).assign_attrs(interval=about, interval_half_width_m3_m3=half)


def _of_source(layers: xr.Dataset, row: Source) -> dict[str, np.ndarray]:
    """Where one source tells of a reason, bool (row, col)."""
    bands = {
        b.name: layers[f"{row.name}_{b.name}"].to_numpy()
        for b in row.bands
        if f"{row.name}_{b.name}" in layers
    }
    where: dict[str, np.ndarray] = {}
    if row.cloud_band is not None and row.cloud_band.name in bands:
        where["cloud"] = cloudy(bands[row.cloud_band.name], row.cloud_band)
    clear = ~where.get("cloud", np.zeros((), bool))
    colours = {
        colour: bands[b.name]
        for colour in ("green", "nir", "swir16")
        for b in row.bands
        if colour in b.aliases and b.name in bands
    }
    if len(colours) == 3:
        index = units.normalised_difference(colours["green"], colours["swir16"])  # NDSI and MNDWI
        bright = colours["nir"]
        where["snow_or_frozen"] = clear & (index > SNOW_NDSI) & (bright > SNOW_INFRARED)
        where["water"] = clear & (index > WATER_MNDWI) & (bright < WATER_INFRARED)
    for reason, classes in (("water", WATER_CLASSES), ("snow_or_frozen", SNOW_CLASSES)):
        if row.name in classes:
            codes = np.isin(next(iter(bands.values())), classes[row.name])
            where[reason] = where.get(reason, False) | codes
    for name in bands.keys() & set(SOIL_TEMPERATURES):
        where["snow_or_frozen"] = where.get("snow_or_frozen", False) | (bands[name] < FREEZING_K)
    return where


def _slope_deg(layers: xr.Dataset, present: list[Source]) -> np.ndarray | None:
    """The slope of the ground of the first elevation among the layers; None without one."""
    for row in present:
        for band in row.bands:
            if "slope" in band.features and f"{row.name}_{band.name}" in layers:
                height = layers[f"{row.name}_{band.name}"].to_numpy().astype(float)
                if min(height.shape) < 2:
                    return None
                size_m = abs(float(layers["x"][1] - layers["x"][0]))
                return np.degrees(np.arctan(np.hypot(*np.gradient(height, size_m))))
    return None


def _share(where: np.ndarray, layers: xr.Dataset, cells: Grid) -> np.ndarray:
    """The share of pixels, by their centres, in each cell, (row, col); 0 for a cell without one."""
    row = np.floor((cells.top_m - layers["y"].to_numpy()) / cells.pixel_size_m).astype(int)
    col = np.floor((layers["x"].to_numpy() - cells.left_m) / cells.pixel_size_m).astype(int)
    rows, cols = ((n >= 0) & (n < most) for n, most in ((row, cells.height), (col, cells.width)))
    cell = row[rows][:, None] * cells.width + col[cols]
    size = cells.height * cells.width
    n = np.bincount(cell.ravel(), minlength=size)
    hits = np.bincount(cell.ravel(), weights=where[rows][:, cols].ravel(), minlength=size)
    return (hits / np.maximum(n, 1)).reshape(cells.height, cells.width)
