"""The analytic Earth: one row an asset; a value follows from asset, band, time and place."""

from dataclasses import dataclass, field

import numpy as np

from soilkit.sources import CATALOGUE
from tests.stand_in_ee import sentinel1, sentinel2
from tests.stand_in_ee.fields import is_sea, wave
from tests.stand_in_ee.scenes import Band, Periodic, Query, Scene, Single, moment
from tests.stand_in_ee.shapes import SINUSOIDAL

DAY_MS = 86_400_000
WGS84 = "EPSG:4326"
ARC_SECOND = 1 / 3600


def smooth(asset: str, name: str, kind: str, step: float, middle: float, half_range: float) -> Band:
    """A band that waves around ``middle``; over the sea it is masked."""

    def value(scene, x, y):
        time = scene.start_ms or 0
        return middle + half_range * wave((asset, name, time), x / step, y / step)

    def mask(scene, x, y):
        return ~(np.zeros(np.broadcast(x, y).shape, bool) | is_sea(x, y))

    return Band(name, kind, step, value, mask)


def classes(asset: str, name: str, step: float, codes: tuple[int, ...]) -> Band:
    """A band of classes, constant over some pixels; masked over the sea."""

    def value(scene, x, y):
        hill = (wave((asset, name, scene.start_ms or 0), x / step, y / step) + 1) / 2
        return np.array(codes)[np.minimum((hill * len(codes)).astype(int), len(codes) - 1)]

    return Band(name, "uint8", step, value, smooth(asset, name, "uint8", step, 0, 0).mask)


def _soilgrids(name: str, middle: float, half_range: float) -> Single:
    asset = f"projects/soilgrids-isric/{name}_mean"
    depths = ("0-5", "5-15", "15-30", "30-60", "60-100", "100-200")
    bands = tuple(
        smooth(asset, f"{name}_{depth}cm_mean", "int16", 250 / 111_320, middle, half_range)
        for depth in depths
    )
    return Single(asset, WGS84, bands)


def _smap10km() -> Periodic:
    asset = "NASA_USDA/HSL/SMAP10KM_soil_moisture"
    names = {"ssm": (12, 9), "susm": (110, 80), "smp": (0.5, 0.4), "ssma": (0, 2), "susma": (0, 2)}
    bands = tuple(smooth(asset, name, "float", 0.1, *levels) for name, levels in names.items())

    def index(start):
        return f"SM_SMAP_I_{moment(start, '%Y%m%d')}_{moment(start + 2 * DAY_MS, '%Y%m%d')}"

    return Periodic(
        asset, WGS84, (-180.0, 90.0), bands, "2015-04-02", "2022-08-02", 3 * DAY_MS, 3 * DAY_MS,
        index,
    )  # fmt: skip


def _gldas() -> Periodic:
    asset = "NASA/GLDAS/V021/NOAH/G025/T3H"
    bands = (
        smooth(asset, "SoilMoi0_10cm_inst", "double", 0.25, 24, 14),
        smooth(asset, "SoilMoi10_40cm_inst", "double", 0.25, 75, 40),
        smooth(asset, "SoilTMP0_10cm_inst", "double", 0.25, 288, 15),
    )
    return Periodic(
        asset, WGS84, (-180.0, 90.0), bands, "2000-01-01T03:00", "", 3 * 3_600_000, 3 * 3_600_000,
        lambda start: "A" + moment(start, "%Y%m%d_%H%M"),
    )  # fmt: skip


def _modis_lai() -> Periodic:
    asset = "MODIS/061/MCD15A3H"
    step = 463.31271652791725

    def leaves(scene, x, y):
        return 30 + 25 * wave((asset, "Lai", scene.start_ms), x / step, y / step)

    def fraction(scene, x, y):
        return 50 + 40 * wave((asset, "Fpar", scene.start_ms), x / step, y / step)

    bands = (Band("Fpar", "uint8", step, fraction), Band("Lai", "uint8", step, leaves))
    return Periodic(
        asset, SINUSOIDAL, (-20015109.354, 10007554.677), bands, "2002-07-04", "", 4 * DAY_MS,
        4 * DAY_MS, lambda start: moment(start, "%Y_%m_%d"), yearly=True,
    )  # fmt: skip


def _land_cover() -> Periodic:
    asset = "COPERNICUS/Landcover/100m/Proba-V-C3/Global"
    codes = (20, 30, 40, 50, 90, 111, 112, 114, 116, 126)
    bands = (classes(asset, "discrete_classification", 1 / 1008, codes),)
    return Periodic(
        asset, WGS84, (-180.0, 80.0), bands, "2015-01-01", "2020-01-01", 366 * DAY_MS,
        365 * DAY_MS, lambda start: moment(start, "%Y"), yearly=True,
    )  # fmt: skip


DEM = "NASA/NASADEM_HGT/001"
ASSETS = (
    sentinel1.Sentinel1(),
    sentinel2.Sentinel2(),
    sentinel2.Sentinel2(sentinel2.SCORE, sentinel2.SCORE_BANDS, lacking=0.09),
    sentinel2.Sentinel2(sentinel2.PROBABILITY, sentinel2.PROBABILITY_BANDS, lacking=0.14),
    Single(
        DEM,
        WGS84,
        (smooth(DEM, "elevation", "int16", ARC_SECOND, 600, 400),
         classes(DEM, "num", ARC_SECOND, (1, 2, 3)),
         classes(DEM, "swb", ARC_SECOND, (0, 255))),
        times=("2000-02-11", "2000-02-22"),
    ),
    _soilgrids("sand", 400, 250),
    _soilgrids("silt", 350, 200),
    _soilgrids("clay", 250, 150),
    _soilgrids("bdod", 135, 25),
    _soilgrids("phh2o", 65, 15),
    _smap10km(),
    _gldas(),
    _modis_lai(),
    _land_cover(),
)  # fmt: skip


def _plain(source) -> list:
    """A catalogue row without a special layout: global, on latitudes and longitudes."""
    span = {"m": 60_000, "h": 3_600_000, "D": DAY_MS, "Y": 366 * DAY_MS}
    made = []
    for band in source.bands:
        asset = source.asset.format(band=band.name)
        step, (low, high) = source.pixel_size_m / 111_320, band.stored_range
        mean, amplitude = (low + high) / 2, (high - low) / 3
        made.append((asset, smooth(asset, band.name, "float", step, mean, amplitude)))
    found = []
    for asset in dict.fromkeys(name for name, _ in made):
        bands = tuple(band for name, band in made if name == asset)
        if source.is_static:
            found.append(Single(asset, WGS84, bands))
            continue
        length = int(source.cadence[:-1]) * span[source.cadence[-1]]
        found.append(
            Periodic(
                asset, WGS84, (-180.0, 90.0), bands, source.begins, source.ends, length, length,
                lambda start: moment(start, "%Y%m%d_%H%M"), yearly=source.cadence[-1] == "Y",
            )
        )  # fmt: skip
    return found


SPECIAL = {asset.asset for asset in ASSETS}
PLAIN = tuple(
    asset
    for source in CATALOGUE
    if source.asset
    for asset in _plain(source)
    if asset.asset not in SPECIAL
)


@dataclass
class Earth:
    """The assets, and what a test has taken away from them.

    Attributes
    ----------
    removed : set of str
        Assets that are gone, or ids of images that are.
    blank : set of str
        Ids of images without one valid pixel.
    """

    removed: set = field(default_factory=set)
    blank: set = field(default_factory=set)
    assets: dict = field(
        default_factory=lambda: {asset.asset: asset for asset in (*ASSETS, *PLAIN)}
    )

    def asset(self, name: str):
        """The asset of that name, None where there is none."""
        return None if name in self.removed else self.assets.get(name)

    def list(self, name: str, query: Query) -> list[Scene]:
        """The images of a collection that meet a query, oldest first."""
        return [scene for scene in self.assets[name].list(query) if scene.id not in self.removed]

    def image(self, image_id: str) -> Scene | None:
        """The image of an id, a collection's or one that is an asset itself."""
        parent, _, index = image_id.rpartition("/")
        if image_id in self.removed or parent in self.removed:
            return None
        if image_id in self.assets:
            asset = self.assets[image_id]
            return asset.get("") if asset.kind == "IMAGE" else None
        if parent not in self.assets or self.assets[parent].kind == "IMAGE":
            return None
        return self.assets[parent].get(index)

    def reset(self) -> None:
        """Give back all that was taken away."""
        self.removed.clear()
        self.blank.clear()
