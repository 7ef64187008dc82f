"""Layers of fine pixels: radar and optics, terrain, soil and land cover; one row a layer."""

from functools import partial

from soilkit.sources.row import (
    PASSES,
    STATIC,
    TILES,
    Band,
    Collection,
    EarthEngine,
    Linear,
    LogSigmoid,
    Source,
    Stac,
    alike,
)  # fmt: skip

REFLECTANCE = 1e-4  # one digital number of Sentinel-2
L2A = "Level-2A surface reflectance without QA60, not the paper's Level-1C"
NOT_GRIDDED = (
    "as delivered by the agency: uncalibrated amplitude in radar geometry, which is refused"
)
FLATTENED = (
    "gamma nought, terrain-flattened, in linear power (converted to dB), without incidence angle"
)


def _optical(name: str, log_mean: float, log_std: float, *aliases: str) -> Band:
    rule = LogSigmoid(log_mean, log_std)
    return Band(name, "1", (0, 2), rule, scale=REFLECTANCE, aliases=aliases)


LANDSAT_BANDS = (
    *(
        Band(f"SR_B{n}", "1", (0, 1), scale=2.75e-5, offset=-0.2, aliases=(f"OLI_B{n}", *names))
        for n, *names in ((2, "blue"), (3, "green"), (4, "red"), (5, "nir08", "nir"),
                          (6, "swir16"), (7, "swir22"))
    ),
    Band("QA_PIXEL", "bits", (2, 65_535), continuous=False, cloud_bits=(1, 2, 3)),  # 1 is fill
)  # fmt: skip
SHARED = Collection("landsat-c2-l2", "of Landsat 4 to 9 in one collection, this platform's items")
_ten_metres = partial(Source, pixel_size_m=10, resolution="high", dated_by="instant")
_landsat = partial(
    Source, bands=LANDSAT_BANDS,
    pixel_size_m=30, resolution="high", dated_by="instant", cadence="16D",
    packing=(1.0, 32768.0),  # integers of 16 bits without a sign begin at 1, 0 is their fill
    colours={"blue": "SR_B2", "red": "SR_B4", "infrared": "SR_B5"},
    earth_engine=EarthEngine(PASSES, valid_band="SR_B4"),
    citation="USGS (2020), doi:10.5066/P9OGBGM6",
)  # fmt: skip

IMAGERY = (
    _ten_metres(
        "sentinel1", title="Sentinel-1 ground range detected backscatter (IW, VV + VH)",
        asset="COPERNICUS/S1_GRD", cadence="6D", max_age="7D", begins="2014-10-03", sliced=True,
        bands=(
            Band("VV", "dB", (-50, 30), Linear(-25, 5), features=("std",)),
            Band("VH", "dB", (-50, 30), Linear(-25, 5)),
            Band("angle", "deg", (0, 90), Linear(0, 90),
                 aliases=("incidence_angle", "local_incidence_angle")),
        ),
        packing=(0.02, 0.0),  # against speckle of 2 dB
        earth_engine=EarthEngine(
            PASSES, equal=(("instrumentMode", "IW"),), valid_band="VV",
            contains=(("transmitterReceiverPolarisation", "VV"),
                      ("transmitterReceiverPolarisation", "VH")),
        ),
        stac=Stac(
            (Collection("sentinel-1-rtc", FLATTENED, "power"),
             Collection("sentinel-1-grd", NOT_GRIDDED)),
            mode="IW", polarisations=("VV", "VH"), nodata=0.0,
        ),
        citation="Torres et al. (2012), doi:10.1016/j.rse.2011.05.028",
        trap="Filter instrumentMode IW and both polarisations; average in linear power; slices of "
        "one pass lie seconds apart; scene edges hold no data: check the valid fraction. The "
        "revisit doubled to 12 days when Sentinel-1B failed on 2021-12-23.",
    ),
    _ten_metres(
        "sentinel2", title="Sentinel-2 L1C top-of-atmosphere reflectance, harmonised",
        asset="COPERNICUS/S2_HARMONIZED",
        bands=(
            _optical("B2", 1.7417268007636313, 2.023298706048351, "B02", "B02_10m", "blue"),
            _optical("B3", 1.7261204997060209, 2.038905204308012, "B03", "B03_10m", "green"),
            _optical("B4", 1.6798346251414997, 2.179592821212937, "B04", "B04_10m", "red"),
            _optical("B5", 1.7734969472909623, 2.2890068333026603,
                     "B05", "B05_20m", "rededge1", "rededge071"),
            _optical("B6", 2.289154079164943, 2.6171674549378166,
                     "B06", "B06_20m", "rededge2", "rededge075"),
            _optical("B7", 2.382939712192371, 2.773418590375327,
                     "B07", "B07_20m", "rededge3", "rededge078"),
            _optical("B8", 2.3828939530384052, 2.7578332604178284, "B08", "B08_10m", "nir"),
            _optical("B11", 2.1952484264967844, 2.789092484314204, "B11_20m", "swir16"),
            _optical("B12", 1.554812948247501, 2.4140534947492487, "B12_20m", "swir22"),
            Band("QA60", "bits", (0, 3072), continuous=False, cloud_bits=(10, 11)),
        ),
        cadence="5D", max_age="14D", begins="2015-06-27", packing=(1.0, 0.0),
        model_bands=("B4", "B3", "B2", "B8", "B11", "B12"),  # Batchu et al., Table 3
        colours={"blue": "B2", "red": "B4", "infrared": "B8"},
        earth_engine=EarthEngine(PASSES, valid_band="B4", cloud_scores=True),
        stac=Stac(
            (Collection("sentinel-2-l1c", "Level-1C without QA60"),
             Collection("sentinel-2-c1-l2a", L2A), Collection("sentinel-2-l2a", L2A)),
            raised=(4.0, -1000.0),
            nodata=0.0,  # by the product's specification
        ),
        citation="Drusch et al. (2012), doi:10.1016/j.rse.2011.11.026",
        trap="QA60 is masked from 2022-01-25 to 2024-02-28: masked means unknown, not clear; use "
        "cloud_score_plus or s2_cloud_probability there. The 2022 offset of digital numbers is "
        "already removed in the harmonised collection. B5-B7, B11 and B12 are native at 20 m.",
    ),
    _ten_metres(
        "cloud_score_plus", title="Cloud Score+ of Sentinel-2",
        asset="GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED",
        bands=alike("1", (0, 1), "cs", "cs_cdf"),
        cadence="5D", max_age="14D", begins="2015-06-27",
        earth_engine=EarthEngine(PASSES, valid_band="cs_cdf"),
        citation="Pasquarella et al. (2023), doi:10.1109/CVPRW59228.2023.00206",
        trap="One is clear and zero is not: the opposite of a cloud probability. Joined to "
        "Sentinel-2 by system:index.",
    ),
    _ten_metres(
        "s2_cloud_probability", title="s2cloudless cloud probability of Sentinel-2",
        asset="COPERNICUS/S2_CLOUD_PROBABILITY", cadence="5D", max_age="14D", begins="2015-06-27",
        bands=(Band("probability", "%", (0, 100)),),
        earth_engine=EarthEngine(PASSES, valid_band="probability"),
        citation="Zupanc (2017), s2cloudless",
        trap="Joined to Sentinel-2 by system:index; some scenes have none.",
    ),
    _landsat(
        "landsat8", title="Landsat 8 surface reflectance, Collection 2 Level 2",
        asset="LANDSAT/LC08/C02/T1_L2", begins="2013-03-18",
        stac=Stac((SHARED,), platform="landsat-8"),
        trap="Reflectance = 2.75e-5 x DN - 0.2; mask clouds with QA_PIXEL.",
    ),
    _landsat(
        "landsat9", title="Landsat 9 surface reflectance, Collection 2 Level 2",
        asset="LANDSAT/LC09/C02/T1_L2", begins="2021-10-31",
        stac=Stac((SHARED,), platform="landsat-9"),
        trap="As Landsat 8, eight days apart from it.",
    ),
    _ten_metres(
        "ndvi_10m", title="NDVI of Sentinel-2 at 10 m, made by the user",
        bands=(Band("NDVI", "1", (-1, 1), scale=REFLECTANCE),),
        cadence="5D", max_age="14D", begins="2015-06-27", packing=(1.0, 0.0),
        lives_at="Made from red and near infrared by the user's own tool, such as an export of "
        "Earth Engine; read from a local copy.",
        citation="Tucker (1979), doi:10.1016/0034-4257(79)90013-0",
        trap="Whether clouds were masked, and of which level the reflectance is, only its maker "
        "knows. A date without an hour is taken for the whole day.",
    ),
    _ten_metres(
        "satellite_embedding", title="Satellite embeddings of a year, 64 numbers a pixel",
        asset="GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL",
        bands=alike("1", (-1, 1), *(f"A{n:02}" for n in range(64))),
        dated_by="start", cadence="1Y", begins="2017-01-01", packing=(4e-5, 0.0),
        earth_engine=EarthEngine(PASSES, valid_band="A00", new_year=True),
        citation="Brown, Kazmierski, Pasquarella et al. (2025), arXiv:2507.22291",
        trap="Made from the whole calendar year, so a reading is given the year before its own. "
        "One number alone means nothing. Sums up Sentinel-1 and -2, Landsat, rain and more.",
    ),
    Source(
        "cgls_ssm", title="Copernicus surface soil moisture of Sentinel-1, 1 km, Europe",
        bands=(Band("ssm", "%", (0, 100), scale=0.5),),
        pixel_size_m=1000, resolution="low", dated_by="start", cadence="1D", max_age="8D",
        begins="2014-10-01", packing=(1.0, 0.0),
        lives_at="Copernicus Land Monitoring Service, https://land.copernicus.eu (surface soil "
        "moisture, 1 km): netCDF; read from a local copy.",
        citation="Bauer-Marschallinger et al. (2019), doi:10.1109/TGRS.2018.2858004",
        trap="Per cent of saturation, no volume. Stored as halves; 241 to 255 are flags of water, "
        "slopes, fill. It is Sentinel-1: no independent witness of what was made from radar.",
    ),
    Source(
        "smap_sentinel1",
        title="SMAP and Sentinel-1 soil moisture and backscatter at 1 km (SPL2SMAP_S)",
        bands=(
            Band("soil_moisture_1km", "m3 m-3", (0, 1)),
            *alike("1", (0, 10), "sigma0_vv_aggregated_1km", "sigma0_vh_aggregated_1km"),
            Band("soil_moisture_3km", "m3 m-3", (0, 1)),
        ),
        pixel_size_m=1000, resolution="low", dated_by="instant", cadence="12D", begins="2015-03-31",
        packing=(0.0005, 0.0),
        lives_at="NSIDC, https://nsidc.org/data/spl2smap_s: half orbits in HDF5 on the 1 km "
        "EASE-Grid 2.0; read from a local copy.",
        citation="Das et al. (2019), doi:10.1016/j.rse.2019.111380",
        trap="Backscatter is linear power, not dB. Detail is Sentinel-1's, errors are SMAP's: at "
        "stations it is worse than SMAP at 9 km. The 3 km lie in a group apart.",
    ),
)  # fmt: skip

# Terrain, soil and land cover: layers that stand still.

SOILGRIDS_RANGE = Linear(0, 800)
SOILGRIDS = EarthEngine(STATIC, "projects/soilgrids-isric/{band}_mean", "{band}_0-5cm_mean")
POLARIS = "projects/sat-io/open-datasets/polaris/{band}_mean"
_height = partial(alike, "m", (-500, 9000), features=("slope",))
PERCENT, FRACTION, DENSITY = (0, 100), (0, 1), (0, 2.65)  # no soil is denser than quartz


def _soilgrid(name: str, unit: str, valid_range: tuple[float, float], scale: float) -> Band:
    aliases = (f"{name}_0-5cm_mean", f"{name}_0-5cm", f"{name}_mean")
    return Band(name, unit, valid_range, SOILGRIDS_RANGE, scale=scale, aliases=aliases)


_coarse_map = partial(Source, resolution="low")
# The packing reaches from -4,192 to 12,192 m.
_elevation = partial(Source, resolution="high", packing=(0.25, 4000.0))


def _solus(depth_cm: int) -> Source:
    return _coarse_map(
        "solus100" if depth_cm == 5 else f"solus100_{depth_cm}cm",
        title=f"SOLUS100 texture and bulk density, {depth_cm} cm",
        asset="USDA/SOLUS100/V0", pixel_size_m=100,
        bands=(
            *alike("%", PERCENT, "sandtotal", "silttotal", "claytotal"),
            Band("bd", "g cm-3", DENSITY),
        ),
        earth_engine=EarthEngine(STATIC, "USDA/SOLUS100/V0/{band}", f"r_{depth_cm}_cm_p"),
        citation="Nauman et al. (2024), doi:10.1002/saj2.20769",
        trap="One image a property, its bands r_5_cm_p, r_30_cm_p and so on (p predicts, l and h "
        "bound). Contiguous United States only.",
    )  # fmt: skip


_landcover = Band("landcover", "class", (11, 95), continuous=False)
_nlcd = partial(Source, bands=(_landcover,), pixel_size_m=30, resolution="high")

GROUND = (
    _elevation(
        "dem", title="NASADEM elevation",
        asset="NASA/NASADEM_HGT/001", pixel_size_m=30,
        bands=_height("elevation", normalisation=Linear(0, 3000), aliases=("data", "dem")),
        stac=Stac((Collection("nasadem"),)),
        citation="NASA JPL (2020), doi:10.5067/MEaSUREs/NASADEM/NASADEM_HGT.001",
        trap="Acquired in February 2000; nothing beyond 60 N and 56 S.",
    ),
    _coarse_map(
        "soilgrids", title="SoilGrids 2.0 texture and bulk density, 0-5 cm",
        asset="projects/soilgrids-isric/{band}_mean", pixel_size_m=250, packing=(0.1, 0.0),
        bands=(
            _soilgrid("sand", "%", PERCENT, 0.1), _soilgrid("silt", "%", PERCENT, 0.1),
            _soilgrid("clay", "%", PERCENT, 0.1), _soilgrid("bdod", "g cm-3", DENSITY, 0.01),
        ),
        earth_engine=SOILGRIDS,
        stac=Stac((Collection("soilgrids250m"),)),
        citation="Hengl et al. (2017), doi:10.1371/journal.pone.0169748",
        trap="One asset a property, its band {band}_0-5cm_mean; stored as g/kg (/ 10 = %) and "
        "cg/cm3 (/ 100 = g cm-3). ISRIC/SoilGrids250m/v2_0 has only water contents.",
    ),
    _coarse_map(
        "soilgrids_ph", title="SoilGrids 2.0 pH in water, 0-5 cm",
        asset="projects/soilgrids-isric/{band}_mean", pixel_size_m=250,
        bands=(Band("phh2o", "1", (2, 12), scale=0.1),),
        earth_engine=SOILGRIDS,
        citation="Poggio et al. (2021), doi:10.5194/soil-7-217-2021",
        trap="Band {band}_0-5cm_mean; stored as pH x 10.",
    ),
    _elevation(
        "dem_3dep", title="3D Elevation Program, 10 m",
        asset="USGS/3DEP/10m_collection", pixel_size_m=10.2,
        bands=_height("elevation"),
        earth_engine=EarthEngine(TILES),
        citation="U.S. Geological Survey (2019), 3D Elevation Program",
        trap="USGS/3DEP/10m and USGS/NED are deprecated. Khandelwal et al. took the "
        "one-arc-second (30 m) product. A collection of tiles: mosaic them.",
    ),
    _elevation(
        "dem_merit", title="MERIT elevation, 3 arc seconds",
        asset="MERIT/DEM/v1_0_3", pixel_size_m=92.77, resolution="low",
        bands=_height("dem"),
        citation="Yamazaki et al. (2017), doi:10.1002/2017GL072874",
    ),
    _elevation(
        "dem_srtm", title="SRTM elevation, 1 arc second",
        asset="USGS/SRTMGL1_003", pixel_size_m=30, successor="dem",
        bands=_height("elevation"),
        citation="Farr et al. (2007), doi:10.1029/2005RG000183",
        trap="NASADEM is its reprocessing.",
    ),
    _coarse_map(
        "polaris", title="POLARIS soil properties, 0-5 cm, 30 m",
        asset=POLARIS, pixel_size_m=30,
        bands=(
            *alike("%", PERCENT, "sand", "silt", "clay"), Band("bd", "g cm-3", DENSITY),
            *alike("m3 m-3", FRACTION, "theta_s", "theta_r"),
            Band("ksat", "log10(cm h-1)", (-5, 4)), Band("om", "log10(%)", (-4, 2)),
            Band("hb", "log10(kPa)", (-4, 4)), Band("lambda", "1", (0, 10)),
            Band("n", "1", (1, 15)), Band("alpha", "log10(kPa-1)", (-6, 4)),
            Band("ph", "1", (2, 12)),
        ),
        earth_engine=EarthEngine(STATIC, f"{POLARIS}/{{band}}_0_5", ""),
        citation="Chaney et al. (2019), doi:10.1029/2018WR022797",
        trap="ksat, om, hb and alpha are log10: average them as they are, raise 10 to them after. "
        "The image of a depth is {band}_0_5. Contiguous United States only.",
    ),
    _coarse_map(
        "gnatsgo", title="gNATSGO available water storage and thickness, 30 m",
        asset="projects/sat-io/open-datasets/gNATSGO/raster", pixel_size_m=30,
        bands=(
            Band("aws0_5", "mm", (0, 50), layer_mm=50),
            Band("aws0_30", "mm", (0, 300), layer_mm=300),
            Band("aws0_100", "mm", (0, 600), layer_mm=1000), Band("tk0_5a", "cm", (0, 5)),
        ),
        packing=(0.02, 0.0),
        earth_engine=EarthEngine(STATIC, "projects/sat-io/open-datasets/gNATSGO/raster/{band}", ""),
        citation="Soil Survey Staff (2020), gNATSGO, USDA-NRCS",
        trap="A map unit's average, constant over its polygon; breaks at survey borders; lakes "
        "have no value.",
    ),
    _coarse_map(
        "gnatsgo_derived",
        title="Available water content, field capacity and porosity derived from gNATSGO, 90 m",
        bands=alike("m3 m-3", FRACTION, "available_water_content", "field_capacity", "porosity"),
        pixel_size_m=90,
        lives_at="Of the upper metre, in mm: USGS (2021), "
        "https://www.usgs.gov/data/soil-properties-dataset-united-states. Of other layers derive "
        "them from gNATSGO's tables (USDA-NRCS Geospatial Data Gateway).",
        citation="Soil Survey Staff (2020), gNATSGO, USDA-NRCS",
    ),
    *(_solus(depth) for depth in (5, 0, 15, 30)),
    _nlcd(
        "nlcd_2019", title="National Land Cover Database 2019",
        asset="USGS/NLCD_RELEASES/2019_REL/NLCD", successor="nlcd_2021",
        earth_engine=EarthEngine(STATIC, "USGS/NLCD_RELEASES/2019_REL/NLCD/2019"),
        citation="Dewitz (2021), doi:10.5066/P9KZCM54",
        trap="Holds the epochs 2001-2019: take the image of 2019. A mean of class codes means "
        "nothing.",
    ),
    _nlcd(
        "nlcd_2021", title="National Land Cover Database 2021",
        asset="USGS/NLCD_RELEASES/2021_REL/NLCD",
        earth_engine=EarthEngine(STATIC, "USGS/NLCD_RELEASES/2021_REL/NLCD/2021"),
        citation="Dewitz (2023), doi:10.5066/P9JZ7AO3",
        trap="Holds the epoch 2021 only.",
    ),
    _coarse_map(
        "koeppen", title="Koeppen-Geiger climate classes, 1 km",
        bands=(Band("class", "class", (1, 30), continuous=False),),
        pixel_size_m=1000,
        lives_at="https://www.gloh2o.org/koppen (Beck et al., GeoTIFF); Kottek's half-degree map, "
        "which Batchu et al. used: https://koeppen-geiger.vu-wien.ac.at. Stations of the ISMN "
        "carry their class among the static variables.",
        citation="Beck et al. (2018), doi:10.1038/sdata.2018.214; Kottek et al. (2006), "
        "doi:10.1127/0941-2948/2006/0130",
    ),
    _coarse_map(
        "land_cover", title="Copernicus Global Land Cover, 100 m, 2019",
        asset="COPERNICUS/Landcover/100m/Proba-V-C3/Global",
        bands=(Band("discrete_classification", "class", (0, 200), continuous=False),),
        pixel_size_m=100, begins="2015-01-01", ends="2020-01-01",
        earth_engine=EarthEngine(STATIC, "COPERNICUS/Landcover/100m/Proba-V-C3/Global/2019"),
        citation="Buchhorn et al. (2020), doi:10.5281/zenodo.3939050",
        trap="Five annual maps, 2015-2019, and none after: the last one stands for all times. "
        "Classes, never to be averaged.",
    ),
)  # fmt: skip
