"""What the ground is like on one grid at one moment: all that a sensor model may look at."""

from dataclasses import dataclass

import numpy as np

from soilkit.contracts import Grid


@dataclass(frozen=True)
class Surface:
    """The synthetic ground, every array (row, col) on ``grid`` at ``time`` (naive UTC).

    ``u_m`` and ``v_m`` are coordinates in the world's own plane: noise of sensors hangs on them, so
    that overlapping grids see the same ground. Land cover holds Copernicus 100 m class codes.
    """

    grid: Grid
    time: np.datetime64
    u_m: np.ndarray
    v_m: np.ndarray
    soil_moisture_m3_m3: np.ndarray  # 0-5 cm
    root_zone_m3_m3: np.ndarray  # 0-100 cm
    sand_percent: np.ndarray
    silt_percent: np.ndarray
    clay_percent: np.ndarray
    bulk_density_g_cm3: np.ndarray
    porosity: np.ndarray  # m3 m-3
    elevation_m: np.ndarray
    slope_east: np.ndarray  # dz/dx, m m-1
    slope_north: np.ndarray  # dz/dy, m m-1
    ndvi: np.ndarray  # the canopy's own, without atmosphere
    lai: np.ndarray  # m2 m-2
    vegetation_water_kg_m2: np.ndarray
    roughness_cm: np.ndarray  # root mean square height
    soil_temperature_c: np.ndarray
    frozen: np.ndarray  # bool
    wet_snow: np.ndarray  # bool
    land_cover: np.ndarray  # int16
