"""A region's layers as a model eats them, and the model slid over them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import torch
import xarray as xr
from tqdm.auto import tqdm

from soilkit import sources
from soilkit.constants import CHIP_SIDE_M, CROP_PX, MIN_CLUSTERS, PIXEL_RATIO
from soilkit.contracts import Archive, Chip, Grid
from soilkit.errors import ContractError, SceneNotFoundError
from soilkit.export import rasters
from soilkit.export.chips.requests import Planner
from soilkit.metrics import intervals
from soilkit.metrics.points import Groups, points
from soilkit.models.inputs import INDICES, Inputs, coarse_column, coarse_values
from soilkit.models.training import Look


@dataclass(frozen=True)
class Scene:
    """A region's layers, normalised as in training, NaN where there is none.

    Parameters
    ----------
    grid : Grid of the finest layers (10 m); also needed where there are none
    images : {input: array (band, row, col)} on the grid, or coarser from the same NW corner
    scalars : {input: array (scalar,) or (scalar, row, col)}, one value for the region, or a raster
        of any pixel size over the grid's bounds, read at each window's centre
    ratios : {input: int}, how many of the grid's pixels make a side of one of an image's, else 1

    Raises
    ------
    ContractError
        When shapes and grid disagree.
    """

    grid: Grid
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    scalars: Mapping[str, np.ndarray] = field(default_factory=dict)
    ratios: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (self.grid.height, self.grid.width)
        for name, values in self.images.items():
            wanted = tuple(-(-side // self.ratio(name)) for side in shape)
            if values.shape[1:] != wanted:
                raise ContractError(
                    f"The scene's {name} layers have rows and columns {values.shape[1:]}; its grid "
                    f"of {shape} pixels wants {wanted}. Cut both over the same bounds."
                )

    def ratio(self, name: str) -> int:
        """How many of the grid's pixels make a side of one of an image's."""
        return self.ratios.get(name, 1)


def scene_of(
    region: Mapping[str, Any],
    *,
    inputs: Inputs,
    statistics: Mapping[str, Sequence[float]] | None = None,
) -> Scene:
    """Normalise a region's layers as ``ChipDataset`` does in training.

    Parameters
    ----------
    region : {source: layer}, a ``Chip`` of stored values with all bands of the catalogue in its
        order, as ``region_chips`` cut it; or for a coarse source a number, or array (row, col)
    inputs : Inputs, those of the training
    statistics : {coarse channel: (mean, std)}, those of the training

    Raises
    ------
    ContractError
        When a layer or a statistic is missing, no layer is a chip, or coarse rasters differ in
        shape.
    """
    statistics = statistics or {}
    missing = sorted(set(inputs.source_names) - region.keys())
    missing += sorted(set(inputs.coarse) - statistics.keys())
    if missing:
        raise ContractError(
            f"The scene lacks {', '.join(missing)} (a layer, or a coarse channel's mean and std); "
            f"the inputs are {', '.join(inputs.names)}. Hand in all of them."
        )
    cut = [layer.grid for layer in region.values() if isinstance(layer, Chip)]
    if not cut:
        raise ContractError("The region holds numbers only: hand at least one chip of 10 m pixels.")
    grid = min(cut, key=lambda grid: grid.pixel_size_m)
    layers = {
        name: layer.values if isinstance(layer, Chip) else np.asarray(layer, float)
        for name, layer in region.items()
    }
    fed = {name: channels for name in ("high", "low") if (channels := getattr(inputs, name))}
    images = {
        name: np.stack([_channel(layers, channel) for channel in channels])  # (band, row, col)
        for name, channels in fed.items()
    }
    scalars = {"coarse": _coarse(layers, inputs, statistics)} if inputs.coarse else {}
    return Scene(grid, images, scalars, {"low": PIXEL_RATIO})


def _channel(layers: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """One channel of an image, (row, col) float32: a band normalised, or an index."""
    source, _, band = name.partition(".")
    bands = sources.get(source).bands
    place = {b.name: n for n, b in enumerate(bands)}
    index = INDICES.get(source, {}).get(band)
    if index is not None:
        places = [place[b] for b in index.bands]
        physical = [layers[source][p] * bands[p].scale + bands[p].offset for p in places]
        return index(*physical).astype(np.float32)
    values, rule = layers[source][place[band]].astype(float), bands[place[band]].normalisation
    return (values if rule is None else rule(values)).astype(np.float32)


def _coarse(layers: Mapping[str, np.ndarray], inputs: Inputs, statistics) -> np.ndarray:
    """Standardised scalars (channel,), or rasters (channel, row, col)."""
    rasters = []
    for name in inputs.coarse:
        source, _, band = name.partition(".")
        values = layers[source]
        have = [b.name for b in sources.get(source).bands]
        rasters.append(values[have.index(band)] if values.ndim == 3 else values)
    if len({r.shape for r in rasters}) > 1:
        raise ContractError(
            f"The coarse layers have shapes {', '.join(str(r.shape) for r in rasters)}. "
            "Bring them to one grid over the scene's bounds, or hand in one number each."
        )
    columns = map(coarse_column, inputs.coarse)
    flat = pd.DataFrame({c: r.ravel() for c, r in zip(columns, rasters, strict=True)})
    mean, std = np.transpose([statistics[name] for name in inputs.coarse])
    z = (coarse_values(flat, inputs) - mean) / std  # (pixel, channel)
    return z.T.reshape(len(inputs.coarse), *rasters[0].shape).astype(np.float32)


# The layers of a region around a station: the scenes that the join chose, cut wider.


def region_chips(
    sample: Any, archive: Archive, *, stations: Any, inputs: Inputs, size_px: int
) -> dict[str, Chip]:
    """The image layers around a sample's station, of the very scenes that the join chose for it.

    Parameters
    ----------
    sample : samples table of one row, joined with this archive
    archive, stations : those of the join; stations as of their contract
    inputs : Inputs, whose high and low sources are cut
    size_px : int, pixels of 10 m a side; low-resolution layers cover the same ground at 160 m

    Returns
    -------
    {source: Chip} with all bands of the catalogue, stored values

    Raises
    ------
    ContractError
        When the table holds another number of samples than one.
    SceneNotFoundError
        When the archive has no such chip; it says why.
    """
    if len(sample) != 1:
        raise ContractError(
            f"A region is cut for one sample at a time, found {len(sample)}. Hand one row."
        )
    planner = Planner(sample, stations, size_px=size_px, version=archive.version)
    wanted = {name: [b.name for b in sources.get(name).bands] for name in inputs.image_sources}
    cut = {}
    for request, answer in archive.chips(planner.requests(wanted)):
        if not isinstance(answer, Chip):
            raise SceneNotFoundError(
                f"No {request.source} over the region around {request.station_id}: "
                f"{answer.reason}. Choose another sample, or a smaller region."
            )
        cut[request.source] = answer
    return {name: cut[name] for name in inputs.image_sources}


# A model slid over a region, one window for each 320 m cell.

MIN_VALID_FRACTION = 0.5  # a window with fewer pixels finite in all bands gives NaN
STANDARD_NAME = "volume_fraction_of_condensed_water_in_soil"  # CF standard name table


def predict_map(
    model: torch.nn.Module,
    scene: Scene,
    look: Look,
    *,
    stride_m: float = 320,
    batch_size: int = 32,
    progress: bool = True,
) -> xr.Dataset:
    """Soil moisture for every cell of ``stride_m`` whose 2.56 km window lies in the scene.

    The model runs on each window, as in training: a cell's value is the model's own answer for the
    chip around its centre, a missing pixel the middle of its band's range. Windows overlap, so
    neighbours are not independent [1]_.

    Parameters
    ----------
    model : module
    scene : Scene
    look : (model, batch) -> (predicted, ...), (B,) m3 m-3, of a batch named as the scene's layers
    stride_m : float, m, a whole number of pixels of every image
    batch_size : int, windows at a time
    progress : bool

    Returns
    -------
    Dataset of ``soil_moisture`` (y, x) float32 m3 m-3 and ``valid_fraction`` (y, x), with CF
    metadata; x and y are the cells' centres

    Raises
    ------
    ContractError
        When the stride does not fit the pixels, or the scene is smaller than a window.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, section 3e
    """
    step = _step_px(scene, stride_m)
    rows, cols = _starts(scene.grid.height, step), _starts(scene.grid.width, step)
    valid = _valid_fractions(scene, rows, cols)
    places = np.argwhere(valid >= MIN_VALID_FRACTION)
    moisture = np.full(valid.shape, np.nan, np.float32)  # (row, col)
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    with torch.inference_mode(), tqdm(total=len(places), disable=not progress) as bar:
        for start in range(0, len(places), batch_size):
            some = places[start : start + batch_size]
            windows = [_window(scene, rows[r], cols[c]) for r, c in some]
            answers = look(model, _stack(windows, device))[0]
            moisture[tuple(some.T)] = answers.float().cpu().numpy()
            bar.update(len(some))
    model.train(was_training)
    cells = _cells(scene.grid, step, len(rows), len(cols))
    seen_fraction = {"units": "1", "long_name": "fraction of valid pixels in the window"}
    maps = {
        "soil_moisture": (moisture, {}),
        "valid_fraction": (valid.astype(np.float32), seen_fraction),
    }
    return map_dataset(maps, cells)


def map_grid(dataset: xr.Dataset) -> Grid:
    """The pixel grid of a map.

    Raises
    ------
    ContractError
        When the dataset is no map of soilkit.
    """
    if "crs" not in dataset or "cell_size_m" not in dataset.attrs:
        raise ContractError(
            f"A map has a variable 'crs' and an attribute 'cell_size_m'; this dataset has "
            f"{', '.join(map(str, dataset.variables))}. Hand in what predict_map returned."
        )
    size = float(dataset.attrs["cell_size_m"])
    left, top = float(dataset.x[0]) - size / 2, float(dataset.y[0]) + size / 2
    crs = dataset["crs"].attrs["code"]
    return Grid(crs, left, top, size, dataset.sizes["y"], dataset.sizes["x"])


def to_cog(
    dataset: xr.Dataset, path: str | os.PathLike[str], *, tags: dict[str, str] | None = None
) -> None:
    """Write a map's soil moisture as a cloud-optimised GeoTIFF, NaN = no data.

    ``tags`` are those of the file, such as the model, the data's hash, or that it is synthetic.
    """
    rasters.write_cog(
        path, dataset["soil_moisture"].values, grid=map_grid(dataset), tags=tags,
        names=["soil_moisture"], units=["m3 m-3"],
    )  # fmt: skip


def _step_px(scene: Scene, stride_m: float) -> int:
    unit = max([1, *map(scene.ratio, scene.images)])
    step = stride_m / scene.grid.pixel_size_m
    if step < 1 or step % unit:
        raise ContractError(
            f"A stride of {stride_m:g} m is {step:g} pixels; it must be a whole number of "
            f"{unit * scene.grid.pixel_size_m:g} m. Choose such a stride, for instance 320 m."
        )
    return int(step)


def _starts(side_px: int, step: int) -> np.ndarray:
    if side_px < CROP_PX:
        raise ContractError(
            f"The scene is {side_px} pixels long or wide; a window needs {CROP_PX}. "
            "Cut a larger region."
        )
    return np.arange(0, side_px - CROP_PX + 1, step)


def _window(scene: Scene, row: int, col: int) -> dict[str, np.ndarray]:
    """The layers of a window by its north-west pixel: images (band, side, side), scalars (n,)."""
    window = {}
    for name, values in scene.images.items():
        r, c, side = (n // scene.ratio(name) for n in (row, col, CROP_PX))
        window[name] = values[:, r : r + side, c : c + side]
    for name, values in scene.scalars.items():
        if values.ndim == 3:
            r = int((row + CROP_PX / 2) / scene.grid.height * values.shape[1])
            c = int((col + CROP_PX / 2) / scene.grid.width * values.shape[2])
            values = values[:, r, c]
        window[name] = values
    return window


def _valid_fractions(scene: Scene, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """The smallest fraction of a window's pixels, over the inputs, that all bands know."""
    images, scalars = (
        {name: np.isfinite(values).all(axis=0, keepdims=True) for name, values in layers.items()}
        for layers in (scene.images, scene.scalars)
    )
    known = replace(scene, images=images, scalars=scalars)
    return np.array(
        [
            [min(float(part.mean()) for part in _window(known, r, c).values()) for c in cols]
            for r in rows
        ]
    )


def _stack(windows: list[dict[str, np.ndarray]], device: torch.device) -> dict[str, torch.Tensor]:
    batch = {}
    for name in windows[0]:
        values = np.stack([window[name] for window in windows]).astype(np.float32)
        batch[name] = torch.from_numpy(np.nan_to_num(values, nan=0.0)).to(device)
    return batch


def _cells(grid: Grid, step: int, height: int, width: int) -> Grid:
    """The map's own grid: a cell of the stride around the centre of each window."""
    size = step * grid.pixel_size_m
    inset = (CROP_PX * grid.pixel_size_m - size) / 2
    return Grid(grid.crs, grid.left_m + inset, grid.top_m - inset, size, height, width)


def map_dataset(
    variables: Mapping[str, tuple[np.ndarray, Mapping[str, str]]], grid: Grid, **attributes: str
) -> xr.Dataset:
    """Maps {name: (array (row, col), attributes)} on one grid with CF metadata.

    ``map_grid`` and ``to_cog`` read it; "soil_moisture" has attributes of its own.
    """
    moisture = {"units": "m3 m-3", "standard_name": STANDARD_NAME}
    moisture["long_name"] = "surface soil moisture, about 0-5 cm"
    contents: dict[str, Any] = {}
    for name, (values, attrs) in variables.items():
        attrs = {**(moisture if name == "soil_moisture" else {}), **attrs, "grid_mapping": "crs"}
        contents[name] = (("y", "x"), values, attrs)
    contents["crs"] = ((), np.int32(0), pyproj.CRS(grid.crs).to_cf() | {"code": grid.crs})
    axes = {}
    for n, values in (("x", grid.x_m), ("y", grid.y_m)):
        of_axis = {"units": "m", "axis": n.upper(), "standard_name": f"projection_{n}_coordinate"}
        axes[n] = (n, values, of_axis)
    about = {"Conventions": "CF-1.11", "cell_size_m": grid.pixel_size_m}
    return xr.Dataset(contents, axes, about | attributes)


# A map against the truth at one moment: spatial scores, and what fine detail is worth.


def spatial_scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """R, ubRMSE, RMSE and bias over the cells of one map, at one moment.

    With d = predicted - truth over the cells where both are known: bias = mean(d), RMSE =
    sqrt(mean(d2)), ubRMSE = sqrt(mean((d - bias)2)) [1]_. R is NaN for a map of one value, whose
    ubRMSE is the truth's own spatial standard deviation.

    Parameters
    ----------
    predicted, truth : array (row, col), m3 m-3, on one grid; NaN is unknown

    Returns
    -------
    {"r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3", "n"}

    Raises
    ------
    ContractError
        When the shapes differ, or no cell is known on both sides.

    References
    ----------
    .. [1] Entekhabi et al. (2010), doi:10.1175/2010JHM1223.1
    """
    predicted, truth = _pair(predicted, truth)
    known = np.isfinite(predicted) & np.isfinite(truth)
    if not known.any():
        raise ContractError("The map and the truth share no known cell. Cut both over one region.")
    scores = points(Groups.of(truth[known], predicted[known]))
    return {name: float(value.item()) for name, value in scores.items()} | {"n": int(known.sum())}


def ubrmse_difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    truth: np.ndarray,
    cell_size_m: float,
    block_m: float = CHIP_SIDE_M,
    seed: int = 0,
) -> dict[str, float]:
    """ubRMSE of one map minus another's at one moment, with an interval over blocks of ground.

    Windows of neighbouring cells overlap and moisture is smooth, so blocks of about one window are
    resampled, not cells. Below five blocks the interval is NaN, without a common cell all of it.

    Parameters
    ----------
    first, second, truth : array (row, col), m3 m-3, on one grid; NaN is unknown
    cell_size_m, block_m : float, m
    seed : int, of the bootstrap

    Returns
    -------
    {"difference", "lower", "upper", "n_blocks"}, m3 m-3, a 95 % interval; negative is in favour of
    the first map

    Raises
    ------
    ContractError
        When the shapes differ.
    """
    errors = np.stack([np.subtract(*_pair(one, truth)) for one in (first, second)])
    known = np.isfinite(errors).all(axis=0)  # (row, col)
    if not known.any():
        return dict.fromkeys(("difference", "lower", "upper"), np.nan) | {"n_blocks": 0}
    block, d = _blocks(known.shape, cell_size_m, block_m=block_m)[known], errors[:, known]
    sums = intervals.cluster_sums(np.stack([np.ones(len(block)), *d, *d**2], axis=1), block)
    k, lower, upper = len(sums), np.nan, np.nan

    def difference(sums: np.ndarray) -> np.ndarray:
        n, *totals = np.moveaxis(sums, -1, 0)
        means = np.stack(totals) / n  # (errors of both maps and their squares, draw)
        spread = np.sqrt(np.maximum(means[2:] - means[:2] ** 2, 0))
        return spread[0] - spread[1]

    if k >= MIN_CLUSTERS:
        draws = difference(intervals.cluster_weights(k, np.random.default_rng(seed)) @ sums)
        (lower,), (upper,) = intervals.limits(draws[:, None], n_clusters=k)
    return {
        "difference": float(difference(sums.sum(axis=0))), "lower": float(lower),
        "upper": float(upper), "n_blocks": k,
    }  # fmt: skip


def _pair(predicted, truth) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = np.asarray(predicted, float), np.asarray(truth, float)
    if predicted.shape != truth.shape:
        raise ContractError(
            f"The map has shape {predicted.shape} and the truth {truth.shape}. Average the truth "
            "over the map's own cells first."
        )
    return predicted, truth


def _blocks(shape: tuple[int, int], cell_size_m: float, *, block_m: float) -> np.ndarray:
    """The block of each cell, blocks as even as the sides allow, (row, col) of int."""
    counts = [max(round(side * cell_size_m / block_m), 1) for side in shape]
    row, col = (np.arange(s) * k // s for s, k in zip(shape, counts, strict=True))
    return row[:, None] * counts[1] + col[None, :]
