"""A model slid over a region, one window for each 320 m cell."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyproj
import torch
import xarray as xr
from tqdm.auto import tqdm

from soilkit.constants import CROP_PX
from soilkit.contracts import Grid
from soilkit.errors import ContractError
from soilkit.models.maps.scene import Scene
from soilkit.models.training import Look

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
