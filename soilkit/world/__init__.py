"""``World``: the synthetic Earth as a function of time, grid and seed, with known soil moisture."""

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np

from soilkit import __version__, grids
from soilkit.contracts import Grid
from soilkit.errors import ContractError
from soilkit.world import bucket, noise, parameters, stations, surface
from soilkit.world.bucket import Cells, CellSeries
from soilkit.world.stations import Network
from soilkit.world.surface import Place, Surface

MAX_KEPT_PIXELS = 600 * 600  # of a place that is kept
MAX_PIXELS = 48 * 256 * 256  # of all that are, about 400 MB
TILE_POINTS = 512


class World:
    """A synthetic world with known soil moisture: the same for a seed on every call.

    It holds no rasters. ``truth`` is soil moisture, ``surface`` all that sensors may see,
    ``render`` what a source would have seen; each for any time of the period and any grid. Every
    number that comes from it is synthetic.

    Parameters
    ----------
    n_stations : int
        How many stations stand in it; stations carry one or more sensors.
    start, end : str or datetime64, UTC
        The period of the stations' readings, half-open; states reach 90 days further back.

    Examples
    --------
    >>> world = World(seed=0)
    >>> grid = grids.chip_grid(38.0, -98.0, size_px=16, pixel_size_m=160)
    >>> world.truth("2020-06-01 12:00", grid).shape
    (16, 16)
    """

    def __init__(self, seed: int = 0, n_stations: int = 120, start="2019-01-01", end="2021-01-01"):
        self.seed, self.n_stations = int(seed), int(n_stations)
        self.start, self.end = np.datetime64(start, "us"), np.datetime64(end, "us")
        if not self.start < self.end:
            raise ContractError(
                f"A world's start must lie before its end, found {start} and {end}."
            )
        first, last = self.start.astype("datetime64[D]"), self.end.astype("datetime64[D]")
        self._cells = Cells(self.seed, int(first.astype(int)), int(last.astype(int)) + 2)
        self._places: OrderedDict[Grid, Place] = OrderedDict()
        self._network: Network | None = None

    def __getstate__(self):
        return {**self.__dict__, "_places": OrderedDict()}

    @property
    def version(self) -> str:
        """A name for this very world: code version, hash of its constants, seed."""
        return f"synthetic-{__version__}-{parameters.constants_hash()[:12]}-{self.seed}"

    # ---- the ground --------------------------------------------------------------------------

    def truth(self, time, grid: Grid, *, depth_m=(0.0, 0.05)) -> np.ndarray:
        """Soil moisture at a moment, averaged over each pixel.

        Raises ``ContractError`` outside the world's period, at a depth that it does not have, on a
        grid of degrees.

        Parameters
        ----------
        time : datetime64 or str, UTC
        depth_m : float or (float, float), m
            A probe's depth, or a span of depths whose mean is wanted, within 0-1 m; by default
            0-5 cm (``bucket.profile_weights``).

        Returns
        -------
        array (row, col) float32, m3 m-3; of lakes, what their bed would hold if it were land
        """
        weights = bucket.profile_weights(depth_m)
        _check_metres(grid)
        if grid.pixel_size_m >= surface.COARSE_FROM_M:
            return self._coarse(time, grid, [weights])[0]
        factor = _refinement(grids.ground_pixel_m(grid))
        out = np.empty((grid.height, grid.width), np.float32)
        for rows, cols, tile in _tiles(grid, max(TILE_POINTS // factor, 1)):
            place = self._place(_refined(tile, factor))
            state = surface.coarse_states(self._cells, place, time=time)
            fine = surface.truth(state, place, weights=weights)
            out[rows, cols] = _block_mean(fine, factor)
        return out

    def truth_at(self, times, *, longitude, latitude, depth_m=(0.0, 0.05)) -> np.ndarray:
        """Soil moisture at points, not averaged over any pixel.

        Parameters
        ----------
        times : datetime64 array (time,), UTC
        longitude, latitude : array (point,), WGS84 degrees
        depth_m : float or (float, float), m, as in ``truth``

        Returns
        -------
        array (time, point), m3 m-3
        """
        weights = bucket.profile_weights(depth_m)
        there = grids.transformer("EPSG:4326", grids.EASE2_CRS)
        u_m, v_m = there.transform(np.atleast_1d(longitude), np.atleast_1d(latitude))
        place = surface.place_at(self.seed, (u_m, v_m))
        state = surface.point_states(self._cells, place, times=times)
        return surface.truth(state, place, weights=weights)

    def surface(self, time, grid: Grid) -> Surface:
        """The ground at a moment on a grid, averaged over each pixel (see ``Surface``).

        Raises ``ContractError`` outside the world's period, on a grid of degrees.
        """
        _check_metres(grid)
        is_coarse = grid.pixel_size_m >= surface.COARSE_FROM_M
        factor = 4 if is_coarse else _refinement(grids.ground_pixel_m(grid))
        place = self._place(_refined(grid, factor))
        state = surface.coarse_states(self._cells, place, time=time)
        fine = surface.surface(state, place, grid=_refined(grid, factor), time=time)
        if factor == 1:
            return fine
        averaged = _averaged(fine, grid, factor)
        if grid.pixel_size_m < surface.COARSE_FROM_M:
            return averaged
        top, root = self._coarse(time, grid, [surface.SURFACE, bucket.ROOT_ZONE])
        return replace(averaged, soil_moisture_m3_m3=top, root_zone_m3_m3=root)

    def _coarse(self, time, grid, profiles):
        """Means over cells for each of some profile weights: (profile, row, col)."""
        u_m, v_m = grids.project(grid, grids.EASE2_CRS)
        rows, cols, weights = surface.cell_weights(u_m, v_m)
        values = self._cells.states(time, rows=rows, cols=cols)[:, 0]
        state = {name: weights @ values[k] for name, k in bucket.INDEX.items()}
        means = [bucket.mean_of(state, one).reshape(u_m.shape) for one in profiles]
        return np.stack(means).astype(np.float32)

    def _place(self, grid: Grid) -> Place:
        if grid in self._places:
            self._places.move_to_end(grid)
            return self._places[grid]
        place = surface.place(self.seed, grid)
        if grid.height * grid.width <= MAX_KEPT_PIXELS:
            self._places[grid] = place
            while sum(kept.height * kept.width for kept in self._places) > MAX_PIXELS:
                self._places.popitem(last=False)
        return place

    # ---- the 9 km cells ----------------------------------------------------------------------

    def cells(self, rows, cols) -> CellSeries:
        """Daily series of EASE-Grid 9 km cells (``grids.ease2_cell`` numbers them)."""
        return self._cells.series(rows, cols)

    # ---- chance ------------------------------------------------------------------------------

    def rng(self, *words) -> np.random.Generator:
        """A generator seeded by the world's seed and some words, the same on every call."""
        return np.random.default_rng(noise.key(self.seed, *words))

    def noise(self, name: str, place, *, scale_m: float, zero_mean: bool = False) -> np.ndarray:
        """Smooth noise of unit variance at ``place`` = (u_m, v_m) (see ``noise.smooth``)."""
        key = noise.key(self.seed, name)
        return noise.smooth(key, place, scale_m=scale_m, zero_mean=zero_mean)

    def white(self, name: str, node) -> np.ndarray:
        """Standard normal white numbers, one a pair of integers ``node`` = (i, j)."""
        return noise.normal(noise.key(self.seed, name), node)

    # ---- sensors and stations ----------------------------------------------------------------

    def render(self, source: str, time, grid: Grid) -> np.ndarray:
        """What a source would have seen: (band, row, col) float32, stored values of the asset."""
        from soilkit.world import sensors

        return sensors.render(self, source, time, grid)

    def network(self) -> Network:
        """The stations with all that decides their readings."""
        if self._network is None:
            self._network = stations.network(self)
        return self._network

    def stations(self):
        """The stations table, one row a sensor (contract STATIONS)."""
        return self.network().table

    def readings(self, sensor_id: str):
        """A sensor's hourly readings, flags and the truth at its point (``stations.readings``)."""
        return stations.readings(self, sensor_id)

    def write_ismn(self, path) -> Path:
        """Write all sensors as an ISMN archive (zip, header+values, hourly); returns its path."""
        return stations.write(self, path)


def _check_metres(grid):
    if grids.in_degrees(grid.crs):
        raise ContractError(
            f"A world is seen on grids in metres; {grid.crs} counts degrees. Take a UTM zone "
            "(grids.chip_grid) or an EASE-Grid (grids.ease2_grid)."
        )


def _refinement(pixel_size_m):
    points = next(n for size, n in surface.MAX_REFINEMENT.items() if pixel_size_m <= size)
    return int(np.clip(round(pixel_size_m / surface.FINEST_M), 1, points))


def _refined(grid, factor):
    if factor == 1:
        return grid
    size = grid.pixel_size_m / factor
    return Grid(grid.crs, grid.left_m, grid.top_m, size, grid.height * factor, grid.width * factor)


def _tiles(grid, size):
    for top in range(0, grid.height, size):
        for left in range(0, grid.width, size):
            height, width = min(size, grid.height - top), min(size, grid.width - left)
            x, y = left * grid.pixel_size_m, top * grid.pixel_size_m
            tile = Grid(grid.crs, grid.left_m + x, grid.top_m - y, grid.pixel_size_m, height, width)
            yield slice(top, top + height), slice(left, left + width), tile


def _block_mean(values, factor):
    if factor == 1:
        return values
    rows, cols = values.shape[0] // factor, values.shape[1] // factor
    blocks = values.reshape(rows, factor, cols, factor)  # (row, y, col, x)
    return blocks.mean(axis=(1, 3), dtype=np.float64).astype(np.float32)


def _averaged(fine, grid, factor):
    words = {}
    for name, values in fine.__dict__.items():
        if not isinstance(values, np.ndarray):
            continue
        if name == "land_cover":
            words[name] = values[factor // 2 :: factor, factor // 2 :: factor]
        elif name in ("u_m", "v_m"):
            blocks = values.reshape(grid.height, factor, grid.width, factor)
            words[name] = blocks.mean(axis=(1, 3))
        elif values.dtype == bool:
            words[name] = _block_mean(values, factor) > 0.5
        else:
            words[name] = _block_mean(values, factor)
    return Surface(grid=grid, time=fine.time, **words)
