"""Coarse soil moisture, brightness temperature and weather: one row a layer."""

from functools import partial

from soilkit.sources.row import GLOBAL, Band, Collection, EarthEngine, Linear, Source, Stac, alike

KELVIN = (50, 350)  # of brightness and surface temperature
FRACTION, CANOPY_KG_M2 = (0, 1), (0, 30)
_tb = partial(alike, "K", KELVIN)
_flags = partial(alike, "1", (0, 4095), continuous=False)
SMAP_L3_BANDS = (
    *alike("m3 m-3", FRACTION, "soil_moisture_am", "soil_moisture_pm"),
    *_tb("tb_h_corrected_am", "tb_v_corrected_am", "tb_h_corrected_pm", "tb_v_corrected_pm"),
    *alike("kg m-2", CANOPY_KG_M2, "vegetation_water_content_am", "vegetation_water_content_pm"),
    *_flags("retrieval_qual_flag_am", "retrieval_qual_flag_pm"),
)
_instant = partial(Source, resolution="coarse", dated_by="instant")
_composite = partial(Source, resolution="coarse", dated_by="start")  # stamped with its first moment
_smap_l3 = partial(
    Source, bands=SMAP_L3_BANDS,
    pixel_size_m=9_000, resolution="coarse", dated_by="middle", cadence="1D", max_age="3D",
)  # fmt: skip
ERA5_LAYERS_MM = (70, 210, 720, 1890)  # 0-7, 7-28, 28-100 and 100-289 cm
MOISTURE_ONLY = (1e-4, 0.0)  # a packing
_era5 = partial(
    _instant, cadence="1h", max_age="6h", packing=MOISTURE_ONLY,
    bands=tuple(
        Band(f"volumetric_soil_water_layer_{n}", "m3 m-3", FRACTION, layer_mm=mm,
             aliases=(f"swvl{n}",))
        for n, mm in enumerate(ERA5_LAYERS_MM, start=1)
    ),
)  # fmt: skip
_cci = partial(
    Source, bands=(Band("sm", "m3 m-3", FRACTION),), packing=MOISTURE_ONLY,
    pixel_size_m=27_830, resolution="coarse", dated_by="middle", cadence="1D", begins="1978-11-01",
    citation="Dorigo et al. (2017), doi:10.1016/j.rse.2017.07.001",
    trap="Made of radiometers, ASCAT and, for its scale, a land model: no independent third of a "
    "triplet with any of them. Its day is the 24 hours around 0:00 UTC, so in files of one's own "
    "say dated_by='middle': an unknown stamp of midnight is taken for the day that begins there.",
)  # fmt: skip
_smap_orbits = partial(_instant, pixel_size_m=9_000, cadence="3D", begins="2015-03-31")

MOISTURE = (
    _composite(
        "smap", title="SMAP surface soil moisture, enhanced by NASA and USDA (SMAP10KM)",
        asset="NASA_USDA/HSL/SMAP10KM_soil_moisture", pixel_size_m=10_000, cadence="3D",
        max_age="3D", begins="2015-04-02", ends="2022-08-02", successor="smap_l4",
        bands=(Band("ssm", "mm", (0, 25.39), layer_mm=50),),
        citation="Bolten et al. (2010), doi:10.1109/JSTARS.2009.2037163",
        trap="A three-day Palmer-model analysis with assimilation, no retrieval: its nominal time "
        "is no overpass. 0-25.39 mm, saturates. Table 4's SMAP range of 50-255 is neither mm nor "
        "m3 m-3 and serves only to decode the published shards: standardise with training "
        "statistics. Its rain is the satellites', whose errors GLDAS and IMERG share, L4 in part.",
    ),
    _instant(
        "gldas", title="GLDAS-2.1 Noah soil moisture, 0-10 cm",
        asset="NASA/GLDAS/V021/NOAH/G025/T3H",
        bands=(Band("SoilMoi0_10cm_inst", "kg m-2", (0, 100), Linear(0, 100), layer_mm=100),),
        pixel_size_m=27_830, cadence="3h", begins="2000-01-01",
        citation="Rodell et al. (2004), doi:10.1175/BAMS-85-3-381",
        trap="0-10 cm is not 0-5 cm; _inst fields hold at their stamp, so start equals end.",
    ),
    Source(
        "smap_l4", title="SMAP Level 4 surface and root-zone soil moisture",
        asset="NASA/SMAP/SPL4SMGP/008", pixel_size_m=11_000, resolution="coarse", dated_by="middle",
        cadence="3h", begins="2015-03-31",
        bands=(
            *alike("m3 m-3", FRACTION, "sm_surface", "sm_rootzone"),
            Band("surface_temp", "K", KELVIN),
        ),
        citation="Reichle et al. (2019), doi:10.1029/2019MS001729",
        trap="Model only, without observations, 2019-06-19 to 07-23 and 2022-08-06 to 09-20. "
        "Averages over three hours. Gauges correct its rain: errors in part NLDAS-2's, in part "
        "those of the satellites behind SMAP10KM and GLDAS.",
    ),
    _smap_l3(
        "smap_l3_005", title="SMAP enhanced Level 3, 9 km daily, version 5",
        asset="NASA/SMAP/SPL3SMP_E/005",
        begins="2015-03-31", ends="2023-12-04", successor="smap_l3_006",
        citation="O'Neill et al. (2021), doi:10.5067/4DQ54OUIJ9DL",
        trap="Dated 12:00 UTC whatever the overpass (6 h and 18 h local solar time): a morning "
        "value can lie hours before or after its date. Resampled from EASE-Grid 2.0. Bit 0 of "
        "retrieval_qual_flag_am warns of a doubtful one (canopy above 5 kg m-2, lakes, snow).",
    ),
    _smap_l3(
        "smap_l3_006", title="SMAP enhanced Level 3, 9 km daily, version 6",
        asset="NASA/SMAP/SPL3SMP_E/006", begins="2023-12-04",
        citation="O'Neill et al. (2023), doi:10.5067/M20OXIZHY3RJ",
        trap="A collection apart from version 5, which holds the years before; dated 12:00 UTC.",
    ),
    _smap_l3(
        "smap_l3_ancillary", title="SMAP enhanced Level 3 with all its ancillary fields, version 6",
        bands=(
            *_tb("tb_h_corrected", "tb_v_corrected"), Band("albedo", "1", FRACTION),
            Band("roughness_coefficient", "1", (0, 3)), Band("vegetation_opacity", "1", (0, 5)),
            Band("vegetation_water_content", "kg m-2", CANOPY_KG_M2),
            Band("soil_moisture_dca", "m3 m-3", FRACTION, aliases=("soil_moisture",)),
            Band("soil_moisture_scav", "m3 m-3", FRACTION, aliases=("soil_moisture_option2",)),
            Band("surface_temperature", "K", KELVIN),
            *_flags("retrieval_qual_flag", "surface_flag"),
        ),
        begins="2015-03-31",
        lives_at="NSIDC, https://nsidc.org/data/spl3smp_e: HDF5 on the 9 km EASE-Grid 2.0 "
        "(EPSG:6933); read from a local copy.",
        citation="O'Neill et al. (2023), doi:10.5067/M20OXIZHY3RJ",
        trap="Rabiei et al. fill its gaps in time before use: say so where a score depends on it.",
    ),
    _smap_orbits(
        "smap_l1c_tb", title="SMAP enhanced Level 1C brightness temperature, 9 km",
        bands=_tb("cell_tb_h_aft", "cell_tb_v_aft"),
        lives_at="NSIDC, https://nsidc.org/data/spl1ctb_e: half orbits in HDF5; read from a local "
        "copy.",
        citation="Chaubell et al. (2020), doi:10.5067/XB8K63YM4U8O",
    ),
    _smap_orbits(
        "smap_l2", title="SMAP enhanced Level 2 soil moisture and brightness temperature, 9 km",
        bands=(*_tb("tb_h_corrected", "tb_v_corrected"), Band("soil_moisture", "m3 m-3", FRACTION)),
        lives_at="NSIDC, https://nsidc.org/data/spl2smp_e: half orbits in HDF5; read from a local "
        "copy.",
        citation="O'Neill et al. (2021), doi:10.5067/LOT311EZHH8S",
    ),
    Source(
        "smap_hydroblocks", title="SMAP-HydroBlocks surface soil moisture, 30 m, United States",
        bands=(Band("soil_moisture", "m3 m-3", (0, 1)),),
        pixel_size_m=30, resolution="high", dated_by="instant", cadence="6h", begins="2015-03-31",
        ends="2020-01-01", packing=(1e-4, 0.0),
        lives_at="Zenodo, https://doi.org/10.5281/zenodo.5206725: values by hydrologic response "
        "unit with a map of the units; read from a local copy.",
        citation="Vergopolan et al. (2021), doi:10.1038/s41597-021-01050-2",
        trap="A model's product, 7-15 % off at stations: a target for pre-training, no truth.",
    ),
    _instant(
        "nldas2_noah", title="NLDAS-2 Noah soil moisture, 0-10 and 10-40 cm",
        bands=(
            Band("SoilM_0_10cm", "kg m-2", (0, 100), layer_mm=100),
            Band("SoilM_10_40cm", "kg m-2", (0, 300), layer_mm=300),
        ),
        pixel_size_m=13_900, cadence="1h", max_age="6h", begins="1979-01-02",
        lives_at="NASA GES DISC, NLDAS_NOAH0125_H 2.0 (https://disc.gsfc.nasa.gov): netCDF; read "
        "from a local copy. Earth Engine's NASA/NLDAS/FORA0125_H002 holds forcings only.",
        citation="Xia et al. (2012), doi:10.1029/2011JD016048",
        trap="0-10 cm is not 0-5 cm. Its rain comes from gauges: SMAP L4 and gridMET share a part "
        "of its errors, SMAP10KM and GLDAS none.",
    ),
    _instant(
        "ascat_ssm", title="ASCAT surface soil moisture of the Metop satellites (H SAF)",
        bands=(Band("surface_soil_moisture", "%", (0, 100), aliases=("ssm",)),),
        pixel_size_m=12_500, cadence="1D", max_age="2D", begins="2007-01-01",
        lives_at="EUMETSAT H SAF, https://hsaf.meteoam.it (H119, H120 and successors): time series "
        "at the points of a global net in netCDF; read from a local copy on a grid.",
        citation="Wagner et al. (2013), doi:10.1127/0941-2948/2013/0399",
        trap="Per cent of saturation between the driest and wettest backscatter seen there, no "
        "volume: compare R, or rescale on other years. Points, which want regridding first.",
    ),
    _composite(
        "smos_l3", title="SMOS Level 3 daily soil moisture, 25 km (CATDS)",
        bands=(Band("Soil_Moisture", "m3 m-3", FRACTION),),
        pixel_size_m=25_000, cadence="1D", max_age="3D", begins="2010-01-12",
        packing=MOISTURE_ONLY,
        lives_at="CATDS, https://www.catds.fr: netCDF, ascending (6 h) and descending (18 h local "
        "solar time) apart; read from a local copy.",
        citation="Al Bitar et al. (2017), doi:10.5194/essd-9-293-2017",
        trap="EASE-Grid 2.0 of 25 km, which nests in none of 9 and 36 km. Radio interference in "
        "Asia and the Middle East.",
    ),
    _cci(
        "esa_cci", title="ESA CCI soil moisture, combined, daily, 0.25 degrees",
        lives_at="ESA, https://climate.esa.int/en/projects/soil-moisture: netCDF; read from a "
        "local copy.",
    ),
    _cci(
        "c3s_soil_moisture", title="C3S soil moisture, combined, daily, 0.25 degrees",
        lives_at="Copernicus Climate Data Store, https://cds.climate.copernicus.eu "
        "(satellite-soil-moisture): netCDF; read from a local copy.",
    ),
    _era5(
        "era5", title="ERA5 volumetric soil water of four layers",
        asset="ECMWF/ERA5/HOURLY", pixel_size_m=27_830, begins="1940-01-01",
        citation="Hersbach et al. (2020), doi:10.1002/qj.3803",
        trap="Layer 1 is 0-7 cm, not 0-5 cm. Assimilates ASCAT soil moisture; months behind.",
    ),
    _era5(
        "era5_land", title="ERA5-Land volumetric soil water of four layers",
        asset="ECMWF/ERA5_LAND/HOURLY", pixel_size_m=11_132, begins="1950-01-01",
        citation="Munoz-Sabater et al. (2021), doi:10.5194/essd-13-4349-2021",
        trap="Layer 1 is 0-7 cm, not 0-5 cm. Its rain is ERA5's forecast, interpolated: nothing of "
        "9 km is in it. Lies days to months behind.",
    ),
    _instant(
        "geos5_lst", title="GEOS-5 land surface temperature",
        bands=(Band("surface_temperature", "K", KELVIN),),
        pixel_size_m=9_000, cadence="1h", max_age="6h",
        lives_at="NASA GMAO, GEOS forward processing (https://gmao.gsfc.nasa.gov); also carried "
        "as surface_temperature in SMAP's Level 2 files at NSIDC; read from a local copy.",
        citation="Lucchesi (2018), GMAO Office Note 4",
    ),
)  # fmt: skip

WEATHER = (
    _composite(
        "chirps", title="CHIRPS 2.0 daily precipitation",
        asset="UCSB-CHG/CHIRPS/DAILY", pixel_size_m=5566, cadence="1D", begins="1981-01-01",
        bands=(Band("precipitation", "mm d-1", (0, 2000)),),
        citation="Funk et al. (2015), doi:10.1038/sdata.2015.66",
        trap="Sums of a day, stamped with its beginning; 50 S to 50 N.",
    ),
    _composite(
        "gridmet", title="gridMET daily weather, 4 km, United States",
        asset="IDAHO_EPSCOR/GRIDMET", pixel_size_m=4638.3, cadence="1D", begins="1979-01-01",
        bands=(
            Band("pr", "mm d-1", (0, 2000)), *alike("K", KELVIN, "tmmn", "tmmx"),
            *alike("%", (0, 100), "rmin", "rmax"), Band("srad", "W m-2", (0, 600)),
            Band("vs", "m s-1", (0, 60)), Band("vpd", "kPa", (0, 15)),
            Band("eto", "mm d-1", (0, 30)),
        ),
        citation="Abatzoglou (2013), doi:10.1002/joc.3413",
        trap="Its day begins at 06:00 UTC. Its daily rain is NLDAS-2's: the two share errors.",
    ),
    _composite(
        "imerg", title="GPM IMERG half-hourly precipitation, version 7",
        asset="NASA/GPM_L3/IMERG_V07", pixel_size_m=11_132, cadence="30m", begins="2000-06-01",
        bands=(Band("precipitation", "mm h-1", (0, 400)),),
        citation="Huffman et al. (2023), doi:10.5067/GPM/IMERG/3B-HH/07",
        trap="A rate, not a sum: half of it falls in the half hour.",
    ),
)  # fmt: skip


# MODIS: vegetation, surface temperature, evapotranspiration, land cover.

RESTARTING = EarthEngine(GLOBAL, new_year=True)
LAND_SURFACE_K = (150, 360)  # the product's least number is 7,500
_composite = partial(Source, resolution="low", dated_by="start")  # stamped with its first day
_terra = partial(_composite, stac=Stac(platform="terra"))  # whose products Aqua's stand beside
_vegetation_indices = partial(
    _terra, bands=alike("1", (-0.2, 1), "NDVI", "EVI", scale=1e-4),
    cadence="16D", begins="2000-02-18", packing=(1.0, 0.0),
)  # fmt: skip

MODIS = (
    _composite(
        "modis_lai", title="MODIS leaf area index, 4 days (MCD15A3H)",
        asset="MODIS/061/MCD15A3H",
        bands=(Band("Lai", "m2 m-2", (0, 10), Linear(0, 100), scale=0.1, aliases=("Lai_500m",)),),
        pixel_size_m=500, cadence="4D", begins="2002-07-04", packing=(0.1, 0.0),
        earth_engine=RESTARTING,
        stac=Stac((Collection("modis-15A3H-061"),)),
        citation="Myneni et al. (2021), doi:10.5067/MODIS/MCD15A3H.061",
        trap="Collection 006 ended in early 2023. Stamped with the first of its four days. Stored "
        "values 0-100 are LAI x 10.",
    ),
    _vegetation_indices(
        "modis_ndvi_500", title="MODIS vegetation indices, 16 days, 500 m (MOD13A1)",
        asset="MODIS/061/MOD13A1", pixel_size_m=500,
        citation="Didan (2021), doi:10.5067/MODIS/MOD13A1.061",
        trap="The best pixel of sixteen days, stamped with the first: DayOfYear tells which day.",
    ),
    _vegetation_indices(
        "modis_ndvi_250", title="MODIS vegetation indices, 16 days, 250 m (MOD13Q1)",
        asset="MODIS/061/MOD13Q1", pixel_size_m=250,
        citation="Didan (2021), doi:10.5067/MODIS/MOD13Q1.061",
        trap="As MOD13A1.",
    ),
    _terra(
        "modis_lst", title="MODIS land surface temperature, 8 days (MOD11A2)",
        asset="MODIS/061/MOD11A2",
        bands=alike("K", LAND_SURFACE_K, "LST_Day_1km", "LST_Night_1km", scale=0.02),
        pixel_size_m=1000, cadence="8D", begins="2000-02-18", packing=(1.0, 32768.0),
        earth_engine=RESTARTING,
        citation="Wan et al. (2021), doi:10.5067/MODIS/MOD11A2.061",
        trap="Clear-sky mean over eight days, stamped with the first.",
    ),
    _terra(
        "modis_lst_daily", title="MODIS land surface temperature, daily, by day (MOD21A1D)",
        asset="MODIS/061/MOD21A1D",
        bands=(Band("LST_1KM", "K", LAND_SURFACE_K),),
        pixel_size_m=1000, cadence="1D", max_age="8D", begins="2000-02-24", packing=(0.01, 300.0),
        citation="Hulley and Hook (2021), doi:10.5067/MODIS/MOD21A1D.061",
        trap="Earth Engine has applied the scale already. The 8-day MOD21A2 is absent there.",
    ),
    _terra(
        "modis_et", title="MODIS evapotranspiration, 8 days, gap-filled (MOD16A2GF)",
        asset="MODIS/061/MOD16A2GF",
        bands=(Band("ET", "kg m-2 per 8 days", (0, 200), scale=0.1),),
        pixel_size_m=500, cadence="8D", begins="2000-01-01", packing=(1.0, 0.0),
        earth_engine=RESTARTING,
        citation="Running et al. (2021), doi:10.5067/MODIS/MOD16A2GF.061",
        trap="MOD16A2 of collection 061 begins in 2021, hence the gap-filled product. The year's "
        "last scene spans five or six days. Poehls et al. print MOD16A1, which does not exist.",
    ),
    _composite(
        "modis_land_cover", title="MODIS land cover, yearly, IGBP classes (MCD12Q1)",
        asset="MODIS/061/MCD12Q1", pixel_size_m=500, cadence="1Y", begins="2001-01-01",
        bands=(Band("LC_Type1", "class", (1, 17), continuous=False),),
        earth_engine=RESTARTING,
        citation="Friedl and Sulla-Menashe (2022), doi:10.5067/MODIS/MCD12Q1.061",
        trap="Made from the whole year that it is stamped with the first day of.",
    ),
)  # fmt: skip
