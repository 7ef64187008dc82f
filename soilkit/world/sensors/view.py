"""Where a pass looks at a grid from: distance to the track, incidence angle, coverage."""

from dataclasses import dataclass

import numpy as np

from soilkit import grids
from soilkit.contracts import Grid
from soilkit.world import schedule

KNOTS = 9  # a side; a track bends by metres between them


@dataclass(frozen=True)
class View:
    """One pass over one grid, arrays (row, col); ``look_azimuth_rad`` is from radar to ground."""

    scene: str
    incidence_deg: np.ndarray
    covered: np.ndarray
    look_azimuth_rad: float


def view(
    mission: schedule.Mission, grid: Grid, *, time: np.datetime64, default_incidence_deg: float
) -> View:
    """How the pass that ended at ``time`` sees a grid.

    Where no pass was due, the scene is a virtual one of an ascending track that covers everything
    at ``default_incidence_deg``.

    Parameters
    ----------
    mission : Mission
    grid : Grid
    time : datetime64, UTC
    default_incidence_deg : float, degrees

    Returns
    -------
    View
    """
    knot_lon, knot_lat, row, col = _net(grid)
    middle_lon, middle_lat = (float(a.mean()) for a in (knot_lon, knot_lat))
    side = max(grid.height, grid.width) * grid.pixel_size_m
    found = schedule.pass_at(mission, time, longitude=middle_lon, latitude=middle_lat, side_m=side)
    shape = (grid.height, grid.width)
    if found is None:
        angle = np.full(shape, default_incidence_deg, dtype=np.float32)
        return View(f"virtual {time}", angle, np.ones(shape, dtype=bool), float(np.deg2rad(77)))
    distance = found.track.distance_m(knot_lon, knot_lat)
    angle = row @ schedule.incidence_deg(distance, height_m=mission.height_m) @ col.T
    along = row @ distance @ col.T  # (row, col)
    return View(
        found.scene_id,
        angle.astype(np.float32),
        (along >= mission.near_m) & (along <= mission.far_m),
        float(np.deg2rad(found.track.heading_deg(middle_lat) + 90)),
    )


def _net(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Longitude and latitude of a few knots, and the bilinear weights (row, knot), (col, knot)."""
    rows, row_weights = _hats(grid.height)
    cols, col_weights = _hats(grid.width)
    x = grid.left_m + (cols + 0.5) * grid.pixel_size_m
    y = grid.top_m - (rows + 0.5) * grid.pixel_size_m
    longitude, latitude = grids.transformer(grid.crs, "EPSG:4326").transform(*np.meshgrid(x, y))
    return longitude, latitude, row_weights, col_weights


def _hats(n: int) -> tuple[np.ndarray, np.ndarray]:
    knots = np.linspace(0, max(n - 1, 1), KNOTS)
    distance = np.abs(np.arange(n)[:, None] - knots) / (knots[1] - knots[0])
    return knots, np.clip(1 - distance, 0, 1)
