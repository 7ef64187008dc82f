"""Terrain, soil and land cover: layers that stand still; one row a layer."""

from functools import partial

from soilkit.sources.row import (
    STATIC,
    TILES,
    Band,
    Collection,
    EarthEngine,
    Linear,
    Source,
    Stac,
    alike,
)

SOILGRIDS_RANGE = Linear(0, 800)
SOILGRIDS = EarthEngine(STATIC, "projects/soilgrids-isric/{band}_mean", "{band}_0-5cm_mean")
_height = partial(alike, "m", (-500, 9000), features=("slope",))
PERCENT, FRACTION, DENSITY = (0, 100), (0, 1), (0, 2.65)  # no soil is denser than quartz


def _soilgrid(name: str, unit: str, valid_range: tuple[float, float], scale: float) -> Band:
    aliases = (f"{name}_0-5cm_mean", f"{name}_0-5cm", f"{name}_mean")
    return Band(name, unit, valid_range, SOILGRIDS_RANGE, scale=scale, aliases=aliases)


_coarse_map = partial(Source, resolution="low")
# The packing reaches from -4,192 to 12,192 m.
_elevation = partial(Source, resolution="high", packing=(0.25, 4000.0))
_nlcd = partial(
    Source,
    bands=(Band("landcover", "class", (11, 95), continuous=False),),
    pixel_size_m=30,
    resolution="high",
)

GROUND = (
    _elevation(
        "dem",
        title="NASADEM elevation",
        asset="NASA/NASADEM_HGT/001",
        bands=_height("elevation", normalisation=Linear(0, 3000), aliases=("data", "dem")),
        pixel_size_m=30,
        stac=Stac((Collection("nasadem"),)),
        citation="NASA JPL (2020), doi:10.5067/MEaSUREs/NASADEM/NASADEM_HGT.001",
        trap="Acquired in February 2000; nothing beyond 60 N and 56 S.",
    ),
    _coarse_map(
        "soilgrids",
        title="SoilGrids 2.0 texture and bulk density, 0-5 cm",
        asset="projects/soilgrids-isric/{band}_mean",
        bands=(
            _soilgrid("sand", "%", PERCENT, 0.1),
            _soilgrid("silt", "%", PERCENT, 0.1),
            _soilgrid("clay", "%", PERCENT, 0.1),
            _soilgrid("bdod", "g cm-3", DENSITY, 0.01),
        ),
        pixel_size_m=250,
        packing=(0.1, 0.0),
        earth_engine=SOILGRIDS,
        stac=Stac((Collection("soilgrids250m"),)),
        citation="Hengl et al. (2017), doi:10.1371/journal.pone.0169748",
        trap="One asset a property, its band {band}_0-5cm_mean; stored as g/kg (/ 10 = %) and "
        "cg/cm3 (/ 100 = g cm-3). ISRIC/SoilGrids250m/v2_0 has only water contents.",
    ),
    _coarse_map(
        "soilgrids_ph",
        title="SoilGrids 2.0 pH in water, 0-5 cm",
        asset="projects/soilgrids-isric/{band}_mean",
        bands=(Band("phh2o", "1", (2, 12), scale=0.1),),
        pixel_size_m=250,
        earth_engine=SOILGRIDS,
        citation="Poggio et al. (2021), doi:10.5194/soil-7-217-2021",
        trap="Band {band}_0-5cm_mean; stored as pH x 10.",
    ),
    _elevation(
        "dem_3dep",
        title="3D Elevation Program, 10 m",
        asset="USGS/3DEP/10m_collection",
        bands=_height("elevation"),
        pixel_size_m=10.2,
        earth_engine=EarthEngine(TILES),
        citation="U.S. Geological Survey (2019), 3D Elevation Program",
        trap="USGS/3DEP/10m and USGS/NED are deprecated. Seed 000 took the one-arc-second (30 m) "
        "product. A collection of tiles: mosaic them.",
    ),
    _elevation(
        "dem_merit",
        title="MERIT elevation, 3 arc seconds",
        asset="MERIT/DEM/v1_0_3",
        bands=_height("dem"),
        pixel_size_m=92.77,
        resolution="low",
        citation="Yamazaki et al. (2017), doi:10.1002/2017GL072874",
    ),
    _elevation(
        "dem_srtm",
        title="SRTM elevation, 1 arc second",
        asset="USGS/SRTMGL1_003",
        bands=_height("elevation"),
        pixel_size_m=30,
        successor="dem",
        citation="Farr et al. (2007), doi:10.1029/2005RG000183",
        trap="NASADEM is its reprocessing.",
    ),
    _coarse_map(
        "polaris",
        title="POLARIS soil properties, 0-5 cm, 30 m",
        asset="projects/sat-io/open-datasets/polaris/{band}_mean",
        bands=(
            *alike("%", PERCENT, "sand", "silt", "clay"),
            Band("bd", "g cm-3", DENSITY),
            *alike("m3 m-3", FRACTION, "theta_s", "theta_r"),
            Band("ksat", "log10(cm h-1)", (-5, 4)),
            Band("om", "log10(%)", (-4, 2)),
            Band("hb", "log10(kPa)", (-4, 4)),
            Band("lambda", "1", (0, 10)),
            Band("n", "1", (1, 15)),
            Band("alpha", "log10(kPa-1)", (-6, 4)),
        ),
        pixel_size_m=30,
        earth_engine=EarthEngine(
            STATIC, "projects/sat-io/open-datasets/polaris/{band}_mean/{band}_0_5", ""
        ),
        citation="Chaney et al. (2019), doi:10.1029/2018WR022797",
        trap="ksat, om, hb and alpha are log10: average them as they are, raise 10 to them after. "
        "The image of a depth is {band}_0_5. Contiguous United States only.",
    ),
    _coarse_map(
        "gnatsgo",
        title="gNATSGO available water storage and thickness, 0-5 cm, 30 m",
        asset="projects/sat-io/open-datasets/gNATSGO/raster",
        bands=(Band("aws0_5", "mm", (0, 50), layer_mm=50), Band("tk0_5a", "cm", (0, 5))),
        pixel_size_m=30,
        earth_engine=EarthEngine(STATIC, "projects/sat-io/open-datasets/gNATSGO/raster/{band}", ""),
        citation="Soil Survey Staff (2020), gNATSGO, USDA-NRCS",
        trap="A map unit's average, constant over its polygon; breaks at survey borders.",
    ),
    _coarse_map(
        "gnatsgo_derived",
        title="Available water content, field capacity and porosity derived from gNATSGO, 90 m",
        asset="",
        bands=alike("m3 m-3", FRACTION, "available_water_content", "field_capacity", "porosity"),
        pixel_size_m=90,
        lives_at="Not published as maps: derive them from gNATSGO's tables (USDA-NRCS Geospatial "
        "Data Gateway), or from texture and bulk density by a pedotransfer function.",
        citation="Soil Survey Staff (2020), gNATSGO, USDA-NRCS",
    ),
    _coarse_map(
        "solus100",
        title="SOLUS100 texture and bulk density, 5 cm and 30 cm",
        asset="USDA/SOLUS100/V0",
        bands=(
            *alike("%", PERCENT, "sandtotal", "silttotal", "claytotal"),
            Band("bd", "g cm-3", DENSITY),
        ),
        pixel_size_m=100,
        earth_engine=EarthEngine(STATIC, "USDA/SOLUS100/V0/{band}", "r_5_cm_p"),
        citation="Nauman et al. (2024), doi:10.1002/saj2.20769",
        trap="One image a property, its bands r_5_cm_p, r_30_cm_p and so on (p predicts, l and h "
        "bound). Contiguous United States only.",
    ),
    _nlcd(
        "nlcd_2019",
        title="National Land Cover Database 2019",
        asset="USGS/NLCD_RELEASES/2019_REL/NLCD",
        successor="nlcd_2021",
        earth_engine=EarthEngine(STATIC, "USGS/NLCD_RELEASES/2019_REL/NLCD/2019"),
        citation="Dewitz (2021), doi:10.5066/P9KZCM54",
        trap="Holds the epochs 2001-2019: take the image of 2019. A mean of class codes means "
        "nothing.",
    ),
    _nlcd(
        "nlcd_2021",
        title="National Land Cover Database 2021",
        asset="USGS/NLCD_RELEASES/2021_REL/NLCD",
        earth_engine=EarthEngine(STATIC, "USGS/NLCD_RELEASES/2021_REL/NLCD/2021"),
        citation="Dewitz (2023), doi:10.5066/P9JZ7AO3",
        trap="Holds the epoch 2021 only.",
    ),
    _coarse_map(
        "koeppen",
        title="Koeppen-Geiger climate classes, 1 km",
        asset="",
        bands=(Band("class", "class", (1, 30), continuous=False),),
        pixel_size_m=1000,
        lives_at="https://www.gloh2o.org/koppen (Beck et al., GeoTIFF); Kottek's half-degree map, "
        "which seed 001 used: https://koeppen-geiger.vu-wien.ac.at. Stations of the ISMN carry "
        "their class among the static variables.",
        citation="Beck et al. (2018), doi:10.1038/sdata.2018.214; Kottek et al. (2006), "
        "doi:10.1127/0941-2948/2006/0130",
    ),
    _coarse_map(
        "land_cover",
        title="Copernicus Global Land Cover, 100 m, 2019",
        asset="COPERNICUS/Landcover/100m/Proba-V-C3/Global",
        bands=(Band("discrete_classification", "class", (0, 200), continuous=False),),
        pixel_size_m=100,
        begins="2015-01-01",
        ends="2020-01-01",
        earth_engine=EarthEngine(STATIC, "COPERNICUS/Landcover/100m/Proba-V-C3/Global/2019"),
        citation="Buchhorn et al. (2020), doi:10.5281/zenodo.3939050",
        trap="Five annual maps, 2015-2019, and none after: the last one stands for all times. "
        "Classes, never to be averaged.",
    ),
)
