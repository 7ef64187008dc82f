"""A model slid over a region, one window for each 320 m cell."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyproj
import torch
import xarray as xr
from tqdm.auto import tqdm

from soilkit.contracts import Grid
from soilkit.errors import ContractError, UnknownNameError
from soilkit.export import rasters
from soilkit.maps.scene import LOW_PIXEL_RATIO, Scene

WINDOW_PX = 256
MODES = ("exact",)
STANDARD_NAME = "volume_fraction_of_condensed_water_in_soil"  # CF standard name table


def predict_map(
    model: torch.nn.Module,
    scene: Scene,
    *,
    mode: str = "exact",
    stride_m: float = 320,
    batch_size: int = 32,
    min_valid_fraction: float = 0.5,
    fill: float = 0.0,
    progress: bool = True,
) -> xr.Dataset:
    """Soil moisture for every cell of ``stride_m`` whose 2.56 km window lies in the scene.

    Mode "exact" runs the model on each window, as in training: a cell's value is the model's own
    answer for the chip around its centre. Windows overlap, so neighbours are not independent [1]_.

    Parameters
    ----------
    model : module, (high, low, coarse) -> (B,) m3 m-3
    scene : Scene
    mode : "exact"
    stride_m : float, m
        A whole number of pixels of 10 m, and of 160 m where the scene has low-resolution layers.
    batch_size : int, windows at a time
    min_valid_fraction : float
        A window with a smaller fraction of pixels finite in all bands gives NaN.
    fill : float
        What a missing pixel becomes, as in training (0 is the mean of a normalised band).
    progress : bool

    Returns
    -------
    Dataset
        ``soil_moisture`` (y, x) float32 m3 m-3 and ``valid_fraction`` (y, x), with CF metadata;
        x and y are the cells' centres.

    Raises
    ------
    UnknownNameError
        For another mode.
    ContractError
        When the stride does not fit the pixels, or the scene is smaller than a window.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, section 3e
    """
    if mode not in MODES:
        raise UnknownNameError(f"No mode {mode!r}; there is {', '.join(MODES)}.")
    step = _step_px(scene, stride_m)
    rows, cols = _starts(scene.grid.height, step), _starts(scene.grid.width, step)
    seen = _finite(scene)
    valid = np.array([[_valid_fraction(seen, r, c) for c in cols] for r in rows])
    places = [(r, c) for r, c in np.argwhere(valid >= min_valid_fraction)]
    moisture = np.full(valid.shape, np.nan, np.float32)  # (row, col)
    was_training = model.training
    model.eval()
    with torch.inference_mode(), tqdm(total=len(places), disable=not progress) as bar:
        for batch in _chunks(places, batch_size):
            windows = [_window(scene, rows[r], cols[c]) for r, c in batch]
            answers = model(*_stack(windows, fill, next(model.parameters()).device))
            moisture[tuple(np.transpose(batch))] = answers.float().cpu().numpy()
            bar.update(len(batch))
    model.train(was_training)
    cells = _cells(scene.grid, step, len(rows), len(cols))
    return _dataset(moisture, valid.astype(np.float32), cells)


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

    Parameters
    ----------
    dataset : Dataset from ``predict_map``
    path : file to write
    tags : dataset tags, such as the model, the data's hash, or that it is synthetic
    """
    rasters.write_cog(
        path,
        dataset["soil_moisture"].values,
        grid=map_grid(dataset),
        names=["soil_moisture"],
        units=["m3 m-3"],
        tags=tags,
    )


def _step_px(scene: Scene, stride_m: float) -> int:
    unit = LOW_PIXEL_RATIO if scene.low is not None else 1
    step = stride_m / scene.grid.pixel_size_m
    if step < 1 or step % unit:
        raise ContractError(
            f"A stride of {stride_m:g} m is {step:g} pixels; it must be a whole number of "
            f"{unit * scene.grid.pixel_size_m:g} m. Choose such a stride, for instance 320 m."
        )
    return int(step)


def _starts(side_px: int, step: int) -> np.ndarray:
    if side_px < WINDOW_PX:
        raise ContractError(
            f"The scene is {side_px} pixels long or wide; a window needs {WINDOW_PX}. "
            "Cut a larger region."
        )
    return np.arange(0, side_px - WINDOW_PX + 1, step)


def _window(scene: Scene, row: int, col: int) -> tuple[Any, Any, Any]:
    """The layers of a window by its north-west pixel: (band, 256, 256), (band, 16, 16), (n,)."""
    high = low = None
    if scene.high is not None:
        high = scene.high[:, row : row + WINDOW_PX, col : col + WINDOW_PX]
    if scene.low is not None:
        r, c, side = (n // LOW_PIXEL_RATIO for n in (row, col, WINDOW_PX))
        low = scene.low[:, r : r + side, c : c + side]
    coarse = scene.coarse
    if coarse is not None and coarse.ndim == 3:
        r = int((row + WINDOW_PX / 2) / scene.grid.height * coarse.shape[1])
        c = int((col + WINDOW_PX / 2) / scene.grid.width * coarse.shape[2])
        coarse = coarse[:, r, c]
    return high, low, coarse


def _finite(scene: Scene) -> Scene:
    """The same scene with one band an input: whether all its bands are finite."""
    layers = {name: getattr(scene, name) for name in ("high", "low", "coarse")}
    masks: dict[str, Any] = {
        name: None if values is None else np.isfinite(values).all(axis=0, keepdims=True)
        for name, values in layers.items()
    }
    return replace(scene, **masks)


def _valid_fraction(seen: Scene, row: int, col: int) -> float:
    """The smallest fraction, over the inputs, of pixels finite in all bands."""
    parts = [part for part in _window(seen, row, col) if part is not None]
    return min((float(part.mean()) for part in parts), default=0.0)


def _stack(windows: list[tuple[Any, Any, Any]], fill: float, device: torch.device) -> list[Any]:
    def tensor(parts):
        if parts[0] is None:
            return None
        values = np.nan_to_num(np.stack(parts).astype(np.float32), nan=fill)
        return torch.from_numpy(values).to(device)

    return [tensor(parts) for parts in zip(*windows, strict=True)]


def _chunks(places: list, size: int) -> Iterator[list]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _cells(grid: Grid, step: int, height: int, width: int) -> Grid:
    """The map's own grid: a cell of the stride around the centre of each window."""
    size = step * grid.pixel_size_m
    inset = (WINDOW_PX * grid.pixel_size_m - size) / 2
    return Grid(grid.crs, grid.left_m + inset, grid.top_m - inset, size, height, width)


def _dataset(moisture: np.ndarray, valid: np.ndarray, cells: Grid) -> xr.Dataset:
    moisture_attrs = {
        "units": "m3 m-3",
        "standard_name": STANDARD_NAME,
        "long_name": "surface soil moisture, about 0-5 cm",
        "grid_mapping": "crs",
    }
    valid_attrs = {
        "units": "1",
        "long_name": "fraction of valid pixels in the window",
        "grid_mapping": "crs",
    }
    crs_attrs = pyproj.CRS(cells.crs).to_cf() | {"code": cells.crs}
    x_attrs = {"units": "m", "axis": "X", "standard_name": "projection_x_coordinate"}
    y_attrs = {"units": "m", "axis": "Y", "standard_name": "projection_y_coordinate"}
    return xr.Dataset(
        {
            "soil_moisture": (("y", "x"), moisture, moisture_attrs),
            "valid_fraction": (("y", "x"), valid, valid_attrs),
            "crs": ((), np.int32(0), crs_attrs),
        },
        {"x": ("x", cells.x_m, x_attrs), "y": ("y", cells.y_m, y_attrs)},
        {"Conventions": "CF-1.11", "cell_size_m": cells.pixel_size_m},
    )
