"""A model slid over a region, one window for each 320 m cell."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import pyproj
import torch
import xarray as xr
from numpy.lib.stride_tricks import sliding_window_view
from tqdm.auto import tqdm

from soilkit.contracts import Grid
from soilkit.errors import ContractError, UnknownNameError
from soilkit.models.maps import receptive_field
from soilkit.models.maps.scene import Scene
from soilkit.models.training import Look

_log = logging.getLogger(__name__)

MIN_VALID_FRACTION = 0.5  # a window with fewer pixels finite in all bands gives NaN
STANDARD_NAME = "volume_fraction_of_condensed_water_in_soil"  # CF standard name table
BLOCK_PX = 1024  # windows of cells so many pixels a side share their first layers
DENSE_BLOCK_PX = 4096  # cells of so many pixels a side are answered at a time
LOW_BATCH = 1024  # cells at a time where only small windows and heads are left
DEVIATION_CELLS = 32  # cells of a dense map that are answered exactly as well
DEVIATION, DEVIATION_N = "dense_deviation_m3_m3", "dense_deviation_n_cells"

Answers = Iterator[tuple[np.ndarray, torch.Tensor]]  # places (cell, 2) of a map, and their values


def predict_map(
    model: torch.nn.Module,
    scene: Scene,
    look: Look,
    *,
    mode: str = "exact",
    stride_m: float = 320,
    batch_size: int = 32,
    coarse: str = "smooth",
    margin: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Soil moisture for every cell of ``stride_m`` whose window of 2.56 km lies in the scene.

    Exact, the model runs on each window, as in training: a cell's value is the model's own answer
    for the chip around its centre, a missing pixel the middle of its band's range. Windows overlap,
    so neighbours are not independent [1]_; what they share of a fusion model's first layers is made
    once. A model that was trained on smaller crops has smaller windows.

    Dense, a fusion model's high-resolution encoder runs once over the scene and pooling is a
    convolution over its features; low-resolution windows stay windows. It is many times as fast
    and differs where a window sees padding and the scene goes on: by how much is measured at
    ``DEVIATION_CELLS`` cells drawn at random, logged, and kept as the attributes
    ``dense_deviation_m3_m3`` (root mean square) and ``dense_deviation_n_cells``.

    Parameters
    ----------
    model : module
    scene : Scene
    look : (model, batch) -> (predicted, ...), (B,) m3 m-3, of a batch named as the scene's layers
    mode : "exact" or "dense"
    stride_m : float, m, a whole number of pixels of every image; dense, of an encoder's features
    batch_size : int, whole windows at a time
    coarse : how rasters of scalars are read at a cell's centre: "smooth", bilinear between their
        pixels' centres, or "nearest", which draws their pixels' borders into the map
    margin : int, cells at each side that are left out: ground that a dense encoder sees besides
    progress : bool

    Returns
    -------
    Dataset of ``soil_moisture`` (y, x) float32 m3 m-3 and ``valid_fraction`` (y, x), with CF
    metadata; x and y are the cells' centres

    Raises
    ------
    ContractError
        When the stride does not fit the pixels, the scene is smaller than a window, or a model
        without encoders is to run densely.
    UnknownNameError
        For another mode or reading of rasters.

    References
    ----------
    .. [1] Batchu et al. (2022), arXiv:2206.09649, section 3e
    """
    for name, options in ((mode, ("exact", "dense")), (coarse, ("smooth", "nearest"))):
        if name not in options:
            raise UnknownNameError(f"No {name!r}; there are {' and '.join(options)}. Choose one.")
    windows = _Windows.of(scene, model, stride_m=stride_m, coarse=coarse, margin=margin)
    dense_step = _dense_step(model, windows) if mode == "dense" else 0
    valid = windows.valid_fractions()
    places = np.argwhere(valid >= MIN_VALID_FRACTION)
    moisture = np.full(valid.shape, np.nan, np.float32)  # (row, col)
    attributes: dict[str, Any] = {}
    was_training = model.training
    model.eval()
    with torch.inference_mode(), tqdm(total=len(places), disable=not progress) as bar:
        if dense_step:
            answers = _dense(model, windows, look, places, step=dense_step)
        else:
            answers = _exact(model, windows, look, places, batch_size=batch_size)
        for some, values in answers:
            moisture[tuple(some.T)] = values.float().cpu().numpy()
            bar.update(len(some))
        if mode == "dense":
            attributes = _deviation(model, windows, look, places, moisture)
    model.train(was_training)
    cells = windows.cells(*valid.shape)
    seen_fraction = {"units": "1", "long_name": "fraction of valid pixels in the window"}
    maps = {
        "soil_moisture": (moisture, {}),
        "valid_fraction": (valid.astype(np.float32), seen_fraction),
    }
    return map_dataset(maps, cells, **attributes)


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


def _starts(side_px: int, window_px: int, *, step: int) -> np.ndarray:
    if side_px < window_px:
        raise ContractError(
            f"The scene is {side_px} pixels long or wide; a window needs {window_px}. "
            "Cut a larger region."
        )
    return np.arange(0, side_px - window_px + 1, step)


@dataclass(frozen=True)
class _Windows:
    """A scene's windows: their first rows and columns, and the scalars (n, row, col) of each."""

    scene: Scene
    side: int
    step: int
    rows: np.ndarray
    cols: np.ndarray
    scalars: Mapping[str, np.ndarray]
    device: torch.device

    @classmethod
    def of(
        cls, scene: Scene, model: torch.nn.Module, *, stride_m: float, coarse: str, margin: int = 0
    ) -> "_Windows":
        """The windows of a scene for a model, a stride apart."""
        side, step = receptive_field.window_px(model), _step_px(scene, stride_m)
        shape = scene.grid.height, scene.grid.width
        rows, cols = (_starts(length, side, step=step) for length in shape)
        rows, cols = (starts[margin : len(starts) - margin] for starts in (rows, cols))
        centres = [(starts + side / 2) / n for starts, n in zip((rows, cols), shape, strict=True)]
        scalars = {
            n: scalars_at(v, centres[0], cols=centres[1], how=coarse)
            for n, v in scene.scalars.items()
        }
        device = next(model.parameters()).device
        return cls(scene, side, step, rows, cols, scalars, device)

    def image(self, name: str, spans: Sequence[slice]) -> torch.Tensor:
        """Some of an image, (1, band, row, col): channels last, no NaN.

        ``spans`` are the rows and columns in pixels of the grid.
        """
        ratio = self.scene.ratio(name)
        rows, cols = (slice(span.start // ratio, span.stop // ratio) for span in spans)
        part = torch.from_numpy(np.ascontiguousarray(self.scene.images[name][:, rows, cols]))
        part = part.to(self.device, torch.float32)[None].nan_to_num(nan=0.0)
        return part.contiguous(memory_format=torch.channels_last)

    def batch(self, places: np.ndarray, images: Sequence[str]) -> dict[str, torch.Tensor]:
        """The windows of some images, and all scalars, at places (cell, 2) of the map."""
        corners = list(zip(self.rows[places[:, 0]], self.cols[places[:, 1]], strict=True))
        batch = {}
        for name in images:
            ratio, values = self.scene.ratio(name), self.scene.images[name]
            side = self.side // ratio
            parts = [
                values[:, row // ratio : row // ratio + side, col // ratio : col // ratio + side]
                for row, col in corners
            ]
            whole = np.stack(parts).astype(np.float32, copy=False)
            batch[name] = torch.from_numpy(np.nan_to_num(whole, copy=False, nan=0.0))
        for name, values in self.scalars.items():
            at = values[:, places[:, 0], places[:, 1]].T.astype(np.float32)
            batch[name] = torch.from_numpy(np.nan_to_num(at, nan=0.0))
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def valid_fractions(self) -> np.ndarray:
        """The smallest fraction of a window's pixels, over the inputs, that all bands know."""
        parts = [np.isfinite(values).all(axis=0).astype(float) for values in self.scalars.values()]
        for name, values in self.scene.images.items():
            known = np.isfinite(values[0])
            for band in values[1:]:
                known &= np.isfinite(band)
            parts.append(self._means(known, self.scene.ratio(name)))
        return np.minimum.reduce(parts)

    def _means(self, known: np.ndarray, ratio: int) -> np.ndarray:
        """Means over the windows, by sums over squares that no window cuts."""
        side, step = self.side // ratio, self.step // ratio
        unit = gcd(side, step)
        spans = (self.span(starts) for starts in (self.rows, self.cols))
        inner = known[tuple(slice(s.start // ratio, s.stop // ratio) for s in spans)]
        height, width = (n // unit for n in inner.shape)
        squares = inner.reshape(height, unit, width, unit)
        sums = sliding_window_view(squares.sum(axis=(1, 3)), (side // unit, side // unit))
        return sums[:: step // unit, :: step // unit].sum(axis=(2, 3)) / side**2

    def cells(self, height: int, width: int) -> Grid:
        """The map's own grid: a cell of the stride around the centre of each window."""
        grid, inset_px = self.scene.grid, (self.side - self.step) / 2
        left, top = (n[0] + inset_px for n in (self.cols, self.rows))
        left_m, top_m = grid.left_m + left * grid.pixel_size_m, grid.top_m - top * grid.pixel_size_m
        return Grid(grid.crs, left_m, top_m, self.step * grid.pixel_size_m, height, width)

    def blocks(self, places: np.ndarray, side_px: int) -> Iterator[np.ndarray]:
        """Places of squares of cells, so many pixels a side."""
        corners = places // max(side_px // self.step, 1)
        for corner in np.unique(corners, axis=0):
            yield places[(corners == corner).all(axis=1)]

    def span(self, starts: np.ndarray) -> slice:
        """The rows or columns of pixels of windows that start there."""
        return slice(starts.min(), starts.max() + self.side)


def scalars_at(values: np.ndarray, rows: np.ndarray, *, cols: np.ndarray, how: str) -> np.ndarray:
    """Scalars (n,) or (n, row, col) at places in fractions of the sides, (n, place, place).

    Smooth is bilinear over the known of the four pixels around; where the place's own pixel is
    unknown, the place is.
    """
    if values.ndim == 1:
        return np.broadcast_to(values[:, None, None], (len(values), len(rows), len(cols)))
    r, c = (at * side for at, side in zip((rows, cols), values.shape[1:], strict=True))
    nearest = values[:, r.astype(int)[:, None], c.astype(int)]
    if how == "nearest":
        return nearest
    known = np.isfinite(values)
    across, along = _between(r, values.shape[1]), _between(c, values.shape[2]).T
    total = across @ np.where(known, values, 0.0) @ along
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.isfinite(nearest), total / (across @ known @ along), np.nan)


def _between(places: np.ndarray, n: int) -> np.ndarray:
    """Weights (place, pixel) of linear interpolation between the centres of n pixels."""
    at = np.clip(places - 0.5, 0, n - 1)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(n)), 0.0)


def _batches(places: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (places[start : start + size] for start in range(0, len(places), size))


# Exact: the model's own answer for each window.


def _each(
    model: torch.nn.Module, windows: _Windows, look: Look, places: np.ndarray, *, batch_size: int
) -> Answers:
    for some in _batches(places, batch_size):
        yield some, look(model, windows.batch(some, list(windows.scene.images)))[0]


def _exact(
    model: Any, windows: _Windows, look: Look, places: np.ndarray, *, batch_size: int
) -> Answers:
    """Answers for whole windows; the first layers of a high-resolution encoder are shared."""
    parts = _shared(model, windows)
    if parts is None:
        yield from _each(model, windows, look, places, batch_size=batch_size)
        return
    first, last = parts
    for block in windows.blocks(places, BLOCK_PX):
        tops, lefts = windows.rows[block[:, 0]], windows.cols[block[:, 1]]
        spans = [windows.span(starts) for starts in (tops, lefts)]
        columns, column_of = np.unique(lefts - spans[1].start, return_inverse=True)
        shared = receptive_field.Windows(
            first, windows.image("high", spans), lefts=columns.tolist(), side_px=windows.side
        )
        pooled = []
        for top in np.unique(tops):
            features = shared.row(int(top - spans[0].start), column_of[tops == top].tolist())
            pooled += [model.pool(last(some)) for some in features.split(batch_size)]
        yield from _answers(model, windows, look, block, torch.cat(pooled))


def _shared(model: Any, windows: _Windows) -> tuple[Any, Any] | None:
    """The layers that windows share and those that follow, where there are such."""
    encoders = getattr(model, "encoders", {})
    if "high" not in encoders or encoders.keys() != windows.scene.images.keys():
        return None
    return receptive_field.split(
        encoders["high"],
        lambda field: (
            field.edge_px <= receptive_field.EDGE_PX
            and windows.step % field.stride_px == windows.side % field.stride_px == 0
        ),
    )


class _Heads:
    """A fusion model from the pooled features of its high-resolution image on."""

    def __init__(self, model: Any):
        self.model = model

    def __call__(self, coarse: torch.Tensor | None = None, **images: torch.Tensor) -> torch.Tensor:
        others = self.model.encoders | {"high": None}
        pooled = [
            self.model.pool(encoder(images[name])) if encoder is not None else images[name]
            for name, encoder in others.items()
        ]
        return self.model.answer(pooled, coarse=coarse)


def _answers(
    model: Any, windows: _Windows, look: Look, places: np.ndarray, pooled: torch.Tensor
) -> Answers:
    """Answers at places by the pooled features (cell, depth) of the high-resolution image."""
    heads, others = _Heads(model), [name for name in model.encoders if name != "high"]
    for some, high in zip(_batches(places, LOW_BATCH), pooled.split(LOW_BATCH), strict=True):
        yield some, look(heads, windows.batch(some, others) | {"high": high})[0]


# Dense: the high-resolution encoder once over the scene.


def _dense_step(model: Any, windows: _Windows) -> int:
    """How many features of the high-resolution encoder lie between cells, 1 without one."""
    encoders = getattr(model, "encoders", None)
    if encoders is None:
        raise ContractError(
            f"{type(model).__name__} has no encoders that could run over a whole scene. Hand in a "
            "fusion model, or choose the mode 'exact'."
        )
    if "high" not in encoders:
        return 1
    stride = receptive_field.receptive_field(encoders["high"].layers).stride_px
    if windows.step % stride or windows.side % stride:
        size_m = windows.scene.grid.pixel_size_m
        raise ContractError(
            f"A stride of {windows.step * size_m:g} m in windows of {windows.side * size_m:g} m "
            f"lies between the encoder's features, which are {stride * size_m:g} m apart. Choose a "
            "multiple of that, or the mode 'exact'."
        )
    return windows.step // stride


def _dense(model: Any, windows: _Windows, look: Look, places: np.ndarray, *, step: int) -> Answers:
    """Answers from features of whole blocks of cells, with all around that the encoder sees."""
    if "high" not in model.encoders:
        yield from _each(model, windows, look, places, batch_size=LOW_BATCH)
        return
    encoder = receptive_field.DenseEncoder(model.encoders["high"])
    for block in windows.blocks(places, DENSE_BLOCK_PX):
        pooled = _pooled_block(model, windows, encoder, block, step=step)
        at = tuple((block - block.min(axis=0)).T)
        yield from _answers(model, windows, look, block, pooled[at])


def _pooled_block(
    model: Any,
    windows: _Windows,
    encoder: receptive_field.DenseEncoder,
    block: np.ndarray,
    *,
    step: int,
) -> torch.Tensor:
    """Pooled features (row, col, depth) of the cells from the first to the last of a block."""
    stride, halo_px = encoder.field.stride_px, encoder.field.edge_px
    shape = windows.scene.grid.height, windows.scene.grid.width
    unit = max(map(windows.scene.ratio, windows.scene.images))
    spans, insides = [], []
    for axis, starts in enumerate((windows.rows, windows.cols)):
        span = windows.span(starts[block[:, axis]])
        first, last = (
            max(span.start - halo_px, 0),
            min(span.stop + halo_px, shape[axis] // unit * unit),
        )
        spans.append(slice(first, last))
        insides.append(slice((span.start - first) // stride, (span.stop - first) // stride))
    images = {name: windows.image(name, spans) for name in windows.scene.images}
    features = encoder(model.stack(images)["high"])[..., insides[0], insides[1]]
    return receptive_field.pooled(features, model.pool, side=windows.side // stride, step=step)


def _deviation(
    model: torch.nn.Module, windows: _Windows, look: Look, places: np.ndarray, dense: np.ndarray
) -> dict[str, Any]:
    """How far a dense map is from the exact one at some of its cells, as attributes."""
    n = min(DEVIATION_CELLS, len(places))
    some = places[np.sort(np.random.default_rng(0).choice(len(places), n, replace=False))]
    squares = [
        (values.float().cpu().numpy() - dense[tuple(at.T)]) ** 2
        for at, values in _each(model, windows, look, some, batch_size=8)
    ]
    rms = float(np.concatenate(squares).mean() ** 0.5) if n else float("nan")
    _log.info("dense map: %.4f m3 m-3 (rms) from the exact one at %d cells", rms, n)
    return {DEVIATION: rms, DEVIATION_N: n}


def joint_deviation(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """How far dense maps are from the exact ones by what their parts say, weighted by cells.

    The parts are attributes; without one of a dense map there is nothing to say.
    """
    dense = [part for part in parts if part.get(DEVIATION_N)]
    if not dense:
        return {}
    n = sum(part[DEVIATION_N] for part in dense)
    squares = sum(part[DEVIATION_N] * part[DEVIATION] ** 2 for part in dense)
    return {DEVIATION: float((squares / n) ** 0.5), DEVIATION_N: n}


def map_dataset(
    variables: Mapping[str, tuple[np.ndarray, Mapping[str, str]]], grid: Grid, **attributes: Any
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
