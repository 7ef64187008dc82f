"""Maps that stand still: soil, terrain, land cover and climate classes, on their native pixels.

A map is one map: its pixels and its errors lie in the world's plane (EASE-Grid 2.0), so that chips
in two projections read the same values.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from soilkit import grids, retention
from soilkit.contracts import Grid
from soilkit.world import climate, fields, noise
from soilkit.world.sensors import instruments as c

CM_OF_KPA = retention.CM_OF_KPA  # hashed with the world's constants
POINTS = 3  # a side of a grid's pixel, where it is that much coarser than the map's
CROSS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))  # arms of a pixel's net
Place = tuple[np.ndarray, np.ndarray]  # u_m, v_m (row, col), EPSG:6933


class Map(NamedTuple):
    """A map: ``make(seed, place)`` gives (band, row, col) of its pixels centred there.

    ``sampling`` is "bilinear"; "flat", pixels that are not blended into their neighbours; or
    "classes", which are never averaged either.
    """

    make: Callable[[int, Place], np.ndarray]
    size_m: float
    sampling: str = "bilinear"


def on_grid(layer: Map, grid: Grid, *, seed: int) -> np.ndarray:
    """A map on any grid: bilinear between the map's pixels, of classes and polygons the nearest.

    Where the grid's pixels are coarser, the mean of a net of up to 3 x 3 map pixels in each; of
    classes the commonest (of two equally common ones the smaller code).

    Returns
    -------
    float32 array (band, row, col); NaN where the map has a gap
    """
    k = int(np.clip(round(grid.pixel_size_m / layer.size_m), 1, POINTS))
    shape = grid.height * k, grid.width * k
    net = Grid(grid.crs, grid.left_m, grid.top_m, grid.pixel_size_m / k, *shape)
    # in pixels of the map from the origin of the plane, exact: overlapping grids agree
    x, y = (axis / layer.size_m for axis in grids.project(net, grids.EASE2_CRS, step_px=1))
    if k == 1:
        return _between(layer, seed, (x, y)).astype(np.float32)
    u_m, v_m = ((np.floor(axis) + 0.5) * layer.size_m for axis in (x, y))
    values = layer.make(seed, (u_m, v_m))
    blocks = values.reshape(len(values), grid.height, k, grid.width, k).swapaxes(2, 3)
    blocks = blocks.reshape(*blocks.shape[:3], k * k)  # (band, row, col, point)
    return (_commonest(blocks) if layer.sampling == "classes" else _mean(blocks)).astype(np.float32)


def _between(layer, seed, where):
    """The map at points (x, y) in its pixels, (row, col) each: the nearest, or bilinear."""
    low, high = (np.array([np.floor(pick(n)) for n in where], int) for pick in (np.min, np.max))
    net = ((np.arange(a - 1, b + 2) + 0.5) * layer.size_m for a, b in zip(low, high, strict=True))
    values = layer.make(seed, tuple(np.meshgrid(*net)))
    is_near = layer.sampling != "bilinear"
    shift = 0.0 if is_near else 0.5
    whole = [np.floor(n - shift) for n in where]
    i, j = (n.astype(int) - a + 1 for n, a in zip(whole, low, strict=True))
    if is_near:
        return values[:, j, i]
    a, b = (n - shift - m for n, m in zip(where, whole, strict=True))
    above = values[:, j, i] * (1 - a) + values[:, j, i + 1] * a
    below = values[:, j + 1, i] * (1 - a) + values[:, j + 1, i + 1] * a
    return above * (1 - b) + below * b


def _mean(blocks):
    """Mean over the last axis of what is no gap."""
    seen = np.isfinite(blocks)
    total = np.where(seen, blocks, 0).sum(axis=-1)
    return np.where(seen.any(axis=-1), total / np.maximum(seen.sum(axis=-1), 1), np.nan)


def _commonest(blocks):
    """The commonest class over the last axis."""
    codes = np.unique(blocks)
    counts = np.stack([(blocks == code).sum(axis=-1) for code in codes])
    return codes[counts.argmax(axis=0)]


def native_grid(grid: Grid, *, pixel_size_m: float) -> Grid:
    """Pixels of a size, aligned to multiples of it in a grid's own projection, that cover the grid.

    Examples
    --------
    >>> native_grid(Grid("EPSG:32614", 500_010.0, 4e6, 10, 256, 256), pixel_size_m=250).bounds_m
    (500000.0, 3997250.0, 502750.0, 4000000.0)
    """
    size = float(pixel_size_m)
    left, bottom, right, top = np.array(grid.bounds_m) / size
    left, top = float(np.floor(left)), float(np.ceil(top))
    shape = int(top - np.floor(bottom)), int(np.ceil(right) - left)
    return Grid(grid.crs, left * size, top * size, size, *shape)


def nearest(values: np.ndarray, native: Grid, *, grid: Grid) -> np.ndarray:
    """Values (..., row, col) of the native pixels that hold a grid's pixel centres."""
    row = (native.top_m - grid.y_m) // native.pixel_size_m
    col = (grid.x_m - native.left_m) // native.pixel_size_m
    return values[..., row.astype(int)[:, None], col.astype(int)]


def _around(seed, place, *, arm_m):
    """The ground at a cross of points around each place, (point, row, col); without arms one."""
    points = np.array(CROSS if arm_m else CROSS[:1])[..., None, None]
    return fields.ground(seed, *(x + arm_m * points[:, k] for k, x in enumerate(place)))


# Soil.


def soil(name: str, seed: int, *, place: Place) -> dict[str, np.ndarray]:
    """Texture, density and organic matter as a map tells them: the truth, smoothed, and errors.

    Smoothed by a cross of five points, as by a Gaussian; errors of sand and clay go together, and
    maps made from one soil survey share a part of theirs.

    Parameters
    ----------
    name : str, a key of ``instruments.SOIL_MAPS``, whose rows name their sources
    place : (u_m, v_m), arrays (row, col), m

    Returns
    -------
    dict of sand, silt, clay [%], bulk_density_g_cm3, organic_percent, arrays (row, col)
    """
    row = c.SOIL_MAPS[name]
    ground = _around(seed, place, arm_m=np.sqrt(3) * row["smoothing_m"])
    weights = (2, 1, 1, 1, 1)[: len(ground.sand_percent)]
    sand, clay, density, organic = (
        np.average(getattr(ground, field), axis=0, weights=weights)
        for field in ("sand_percent", "clay_percent", "bulk_density_g_cm3", "organic_percent")
    )

    def error(quantity):
        return row[quantity] * sum(
            part * noise.smooth(noise.key(seed, words, quantity, scale), place, scale_m=scale)
            for words, scale, part in row["errors"]
        )

    r = c.SAND_CLAY_ERROR_CORRELATION
    of_sand, of_clay = error("sand"), np.sqrt(1 - r**2) * error("clay")
    of_clay = of_clay + r * row["clay"] / row["sand"] * of_sand
    # fractions near 0 and 100 % can be less wrong
    sand = np.clip(sand + of_sand * np.sqrt(sand * (100 - sand)) / 40, 2, 96)
    clay = np.clip(clay + of_clay * np.sqrt(clay * (100 - clay)) / 40, 1, 70)
    excess = np.maximum(sand + clay - 98, 0) / 2
    sand, clay = sand - excess, clay - excess
    return {
        "sand": sand, "silt": 100 - sand - clay, "clay": clay,
        "bulk_density_g_cm3": np.clip(density + error("density"), 0.6, 2.2),
        "organic_percent": organic * np.exp(error("organic")),
    }  # fmt: skip


def _hydraulics(mapped):
    """Retention curve and conductivity that a map derives from its soil, cm h-1.

    Unlike the world's, its curve has a residual water content; it runs through the same water at
    field capacity and wilting point, as far as Se = (alpha h)^(1 - n) holds there.
    """
    words = {k: mapped[k] for k in ("bulk_density_g_cm3", "organic_percent")}
    curve = retention.from_texture(mapped["sand"], mapped["clay"], **words)
    suction = np.array([retention.FIELD_CAPACITY_CM, retention.WILTING_POINT_CM])
    water = retention.water_content(suction[:, None, None], curve)
    residual = c.RESIDUAL_OF_WILTING * water[1]
    field, wilting = np.log((water - residual) / (curve.saturated - residual))
    n = 1 + (field - wilting) / np.log(suction[1] / suction[0])
    alpha = np.exp(-wilting / (n - 1)) / suction[1]
    ksat = retention.saturated_conductivity_cm_h(mapped["sand"], mapped["clay"], **words)
    return replace(curve, residual=residual, alpha_per_cm=alpha, n=n), ksat


def _texture(seed, place, *, name, scales=(1, 1)):
    """Sand, silt, clay and bulk density, in stored units."""
    mapped = soil(name, seed, place=place)
    percent = [mapped[band] * scales[0] for band in ("sand", "silt", "clay")]
    return np.stack([*percent, mapped["bulk_density_g_cm3"] * scales[1]])


def polaris(seed: int, place: Place) -> np.ndarray:
    """POLARIS' bands, alpha, ksat, om and hb as log10 (kPa, cm h-1, %): (band, row, col) [1]_.

    Brooks and Corey's lambda = n - 1 and hb = 1 / alpha, as the curves meet in dry soil [2]_.

    References
    ----------
    .. [1] Chaney et al. (2019), doi:10.1029/2018WR022797
    .. [2] van Genuchten (1980), doi:10.2136/sssaj1980.03615995004400050002x
    """
    mapped = soil("polaris", seed, place=place)
    curve, ksat = _hydraulics(mapped)
    alpha = np.log10(curve.alpha_per_cm * CM_OF_KPA)
    texture = (mapped["sand"], mapped["silt"], mapped["clay"], mapped["bulk_density_g_cm3"])
    logs = np.log10(ksat), np.log10(mapped["organic_percent"]), -alpha
    water = (curve.saturated, curve.residual, *logs, curve.n - 1, curve.n, alpha)
    return np.stack([*texture, *water, ph("polaris", seed, place=place)])


def ph(name: str, seed: int, *, place: Place) -> np.ndarray:
    """pH in water: falls where rain exceeds demand, Slessarev (2016), doi:10.1038/nature20139."""
    normals = climate.climate(seed, place)
    half = (c.PH_DRY - c.PH_WET) / 2
    error = noise.smooth(noise.key(seed, name, "ph"), place, scale_m=c.PH_ERROR_SCALE_M)
    surplus = (normals.precipitation_mm - climate.normal_pet_mm(normals)) / c.PH_SCALE_MM
    return c.PH_WET + half * (1 - np.tanh(surplus)) + c.PH_ERROR * error


def map_unit(seed: int, place: Place) -> np.ndarray:
    """The map unit's polygon around each place: its middle (u_m, v_m) and its number (i, j).

    The nearest of points scattered one to a square; borders wind by smooth noise.
    """
    size = c.MAP_UNIT_M
    wind = [noise.smooth(noise.key(seed, "map unit", k), place, scale_m=size / 3) for k in (0, 1)]
    bent = [axis + c.MAP_UNIT_WINDING_M * off for axis, off in zip(place, wind, strict=True)]
    least = np.full(np.shape(place[0]), np.inf)
    middle, number = np.zeros((2, 2, *least.shape))
    for step in product((-1, 0, 1), repeat=2):
        index = [np.floor(axis / size) + k for axis, k in zip(bent, step, strict=True)]
        at = [
            size * (n + noise.uniform(noise.key(seed, "map unit point", k), index))
            for k, n in enumerate(index)
        ]
        distance = np.hypot(bent[0] - at[0], bent[1] - at[1])
        closer = distance < least
        least = np.where(closer, distance, least)
        middle, number = np.where(closer, at, middle), np.where(closer, index, number)
    return np.stack([middle, number])


def gnatsgo(seed: int, place: Place, *, is_derived: bool = False) -> np.ndarray:
    """What map units hold; a unit has one value, lakes none, and values break at survey borders.

    Available water of 0-5, 0-30 and 0-100 cm, mm, and thickness, cm; or, derived from it, available
    water, field capacity and porosity, m3 m-3: (band, row, col). Soil Survey Staff (2020).
    """
    middle, number = map_unit(seed, place)
    _, first, back = np.unique(number[0] + 1j * number[1], return_index=True, return_inverse=True)
    middle, number = (pair.reshape(2, 1, -1)[..., first] for pair in (middle, number))
    curve, _ = _hydraulics(soil("gnatsgo", seed, place=(middle[0], middle[1])))
    area = [np.floor(axis / c.SURVEY_AREA_M) for axis in middle]
    error = c.SURVEY_AREA_ERROR * noise.normal(noise.key(seed, "survey area"), area)
    error = error + c.MAP_UNIT_ERROR * noise.normal(noise.key(seed, "map unit value"), number)
    full = np.where(fields.ground(seed, *middle).land_cover == 80, np.nan, curve.saturated)
    low = retention.water_content(retention.WILTING_POINT_CM, curve)
    held = (retention.water_content(retention.FIELD_CAPACITY_CM, curve) - low) * np.exp(error)
    held = np.minimum(held, 0.95 * full - low)
    storage = (50 * held, 300 * held, 1000 * held, 5 + 0 * held)
    values = np.stack((held, low + held, full) if is_derived else storage)  # (band, 1, unit)
    return values[:, 0, back.reshape(np.shape(place[0]))]


# Terrain.


def _elevation(seed, place, *, name):
    """A DEM's heights: the truth and the errors of its row, of which radar's are shared."""
    error = sum(
        sd * noise.smooth(noise.key(seed, words, scale), place, scale_m=scale)
        for words, scale, sd in c.DEM_ERRORS_M[name]
    )
    return (fields.elevation_m(seed, place) + error)[None]


# Land cover and climate.


def _recoded(codes, table):
    out = np.zeros(np.shape(codes), np.int16)
    for code, other in table.items():
        out[codes == code] = other
    return out


def nlcd_class(seed: int, place: Place) -> np.ndarray:
    """The class of the National Land Cover Database that is true of each place, (row, col)."""
    ground = fields.ground(seed, *place)
    normals = climate.climate(seed, place)
    chance = ground.parcel * 7919 % 1  # one number a parcel
    code = _recoded(ground.land_cover, c.NLCD)
    moist = normals.precipitation_mm > c.HAY_RAIN_MM
    code = np.where((code == 71) & moist & (chance < c.HAY_SHARE), 81, code)
    code = np.where(np.isin(code, (41, 42)) & (chance < c.MIXED_FOREST_SHARE), 43, code)
    code = np.where((code == 95) & moist & (chance < c.WOODY_WETLAND_SHARE), 90, code)
    density = 21 + np.searchsorted(c.DEVELOPED_SHARES, chance)  # open space to high intensity
    return np.where(ground.land_cover == 50, density, code)


def copernicus_class(seed: int, place: Place) -> np.ndarray:
    """Copernicus' class that is true of each place, (row, col)."""
    return fields.ground(seed, *place).land_cover


def igbp_class(seed: int, place: Place) -> np.ndarray:
    """The IGBP class that is true of 500 m pixels, (row, col): the commonest of five points.

    Where two or three of them are cropland among other plants: the mosaic, 14.
    """
    cover = _around(seed, place, arm_m=c.MAP_PIXELS_M["modis_land_cover"] / 3).land_cover
    code = np.moveaxis(_recoded(cover, c.IGBP), 0, -1)  # (row, col, point)
    crops = (code == 12).sum(axis=-1)
    return np.where((crops == 2) | (crops == 3), 14, _commonest(code))


TRUE_CLASSES = {"copernicus": copernicus_class, "nlcd": nlcd_class, "igbp": igbp_class}


def _land_cover(seed, place, *, legend, epoch=""):
    """A map's classes, wrong in patches; its epochs share most of their errors."""
    true = TRUE_CLASSES[legend](seed, place)
    row = c.LAND_COVER_ERRORS[legend]

    def patches(*words):
        return noise.smooth(noise.key(seed, legend, *words), place, scale_m=row["patch_m"])

    fresh = row["epoch"]
    error = np.sqrt(1 - fresh**2) * patches("error") + fresh * patches("error", epoch)
    second = patches("second") > 0.5
    taken = c.TAKEN_FOR[legend]
    other = [_recoded(true, {code: pair[k] for code, pair in taken.items()}) for k in (0, 1)]
    is_wrong = (ndtr(error) < row["rate"]) & np.isin(true, list(taken))
    return np.where(is_wrong, np.where(second, *other[::-1]), true)[None]


def igbp(year: int) -> Map:
    """MCD12Q1's IGBP classes of one year."""
    make = partial(_land_cover, legend="igbp", epoch=year)
    return Map(make, c.MAP_PIXELS_M["modis_land_cover"], "classes")


def _koeppen(seed, place):
    """Koeppen-Geiger codes, from normals with the errors of interpolated stations (Beck 2018)."""
    normals = climate.climate(seed, place)
    warmth, rain = (
        noise.smooth(noise.key(seed, "koeppen", name), place, scale_m=c.NORMALS_ERROR_SCALE_M)
        for name in ("temperature", "precipitation")
    )
    seen = replace(
        normals,
        temperature_c=normals.temperature_c + c.NORMALS_ERROR_C * warmth,
        precipitation_mm=normals.precipitation_mm * (1 + c.NORMALS_RAIN_ERROR * rain),
    )
    return _recoded(climate.koeppen_of(seen), c.KOEPPEN)[None]


_MAKERS: dict[str, tuple] = {
    "soilgrids": (partial(_texture, name="soilgrids", scales=(10, 100)),),
    "soilgrids_ph": (lambda seed, place: 10 * ph("soilgrids", seed, place=place)[None],),
    "polaris": (polaris,),
    **{name: (partial(_texture, name=name),) for name in c.SOIL_MAPS if "solus" in name},
    "gnatsgo": (gnatsgo, "flat"),
    "gnatsgo_derived": (partial(gnatsgo, is_derived=True), "flat"),
    **{name: (partial(_elevation, name=name),) for name in c.DEM_ERRORS_M},
    "land_cover": (partial(_land_cover, legend="copernicus"), "classes"),
    "nlcd_2019": (partial(_land_cover, legend="nlcd", epoch=2019), "classes"),
    "nlcd_2021": (partial(_land_cover, legend="nlcd", epoch=2021), "classes"),
    "koeppen": (_koeppen, "classes"),
}
MAPS = {name: Map(make, c.MAP_PIXELS_M[name], *way) for name, (make, *way) in _MAKERS.items()}
