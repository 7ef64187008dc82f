"""Every number of the sensor models, with where it comes from; hashed into the world's version.

They are fixed from the literature and from the acceptance table of the synthetic world, and never
after a model's score was seen.
"""

from typing import Any

from soilkit import strata

# --- radar at 5.405 GHz ---------------------------------------------------------------------
WAVENUMBER_CM = 1.132  # 2 pi f / c, rad cm-1
# sigma0 = 10^a cos^b 10^(c cot mv) (k s)^(d sin): Baghdadi et al. (2016), doi:10.3390/rs8110920
SOIL_BACKSCATTER = {"VV": (-1.138, 1.528, 0.008, 0.71), "VH": (-2.325, -0.01, 0.011, 0.44)}
# Canopy scattering per NDVI: Baghdadi et al. (2017), doi:10.3390/rs9090969
CANOPY_SCATTERING = {"VV": 0.0950, "VH": 0.0413}
# Attenuation per NDVI: the same; per vegetation water (m2 kg-1), so that dense canopies close:
# Jackson and Schmugge (1991), doi:10.1016/0034-4257(91)90057-D, at 5.5 cm.
CANOPY_ATTENUATION = {"VV": 0.5513, "VH": 1.1662}
WATER_ATTENUATION_M2_KG = 0.40
FROZEN_MOISTURE_PERCENT = 3.0  # liquid water of frozen soil: Wegmueller (1990), RSE 33
WET_SNOW_LOSS_DB = 4.0  # beyond the 3 dB threshold of Nagler and Rott (2000), doi:10.1109/36.842004
BUILT_UP_SIGMA0 = {"VV": 0.25, "VH": 0.03}  # double bounce: Koppel et al. (2017), IJRS 38
WATER_SIGMA0 = {"VV": 0.010, "VH": 0.0015}  # smooth inland water, mostly at the noise floor
EQUIVALENT_LOOKS = 4.4  # ESA, Sentinel-1 product definition, GRD IW high resolution
SPECKLE_KERNEL = (0.5, 1.0, 0.5)  # 10 m pixels of a 20 m x 22 m resolution cell
NOISE_FLOOR_DB = -22.0  # NESZ, ESA product specification
CALIBRATION_STD_DB = 0.33  # radiometric accuracy of 1 dB, three sigma
NOMINAL_INCIDENCE_DEG = 38.0
# SMAP/Sentinel-1, after Das et al. (2019), doi:10.1016/j.rse.2019.111380: K of TB V per dB of VV,
# VV per VH between canopies (both set by the acceptance row), and noise left in a kilometre
BETA_K_DB, GAMMA_VV_VH, KM_NOISE_DB = -6.0, 0.5, 0.9

# --- optics ---------------------------------------------------------------------------------
OPTICAL_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B11", "B12")
# R = Rs + (Rd - Rs) exp(-c moisture): Lobell and Asner (2002), doi:10.2136/sssaj2002.7220, Table 2:
# the visible saturates near 0.20 m3 m-3, the shortwave infrared later.
DRY_SOIL = (0.11, 0.15, 0.20, 0.23, 0.25, 0.265, 0.28, 0.38, 0.34)
SATURATED_TO_DRY = (0.52, 0.51, 0.50, 0.50, 0.50, 0.50, 0.50, 0.38, 0.30)
DARKENING = (15.0, 15.0, 15.0, 14.5, 14.0, 14.0, 13.0, 7.0, 5.0)
# A closed green canopy: Jacquemoud and Baret (1990), doi:10.1016/0034-4257(90)90100-Z
CANOPY = (0.025, 0.055, 0.025, 0.09, 0.32, 0.42, 0.45, 0.20, 0.09)
REFERENCE_MOISTURE_M3_M3 = 0.15  # of the soil that NDVI tells cover against
SOIL_BRIGHTNESS_STD = 0.12  # between fields
# Path reflectance of Rayleigh and a mean aerosol, and two-way transmittance, near nadir:
# Vermote et al. (1997), doi:10.1109/36.581987
PATH_REFLECTANCE = (0.066, 0.040, 0.022, 0.018, 0.015, 0.012, 0.009, 0.0015, 0.0007)
TRANSMITTANCE = (0.86, 0.89, 0.93, 0.93, 0.94, 0.95, 0.96, 0.96, 0.95)
CLOUD_REFLECTANCE = (0.62, 0.60, 0.60, 0.60, 0.61, 0.61, 0.61, 0.42, 0.36)
# Snow of grains of 0.2 mm and of a wet pack of 1 mm with a little dust: read off the curves of
# Wiscombe and Warren (1980), doi:10.1175/1520-0469(1980)037<2712:AMFTSA>2.0.CO;2
DRY_SNOW = (0.93, 0.93, 0.92, 0.91, 0.90, 0.89, 0.86, 0.13, 0.11)
WET_SNOW = (0.80, 0.80, 0.79, 0.76, 0.73, 0.71, 0.65, 0.03, 0.03)
# Area of branches and stems by Copernicus class, m2 m-2, within the wood areas of Breda (2003),
# doi:10.1093/jxb/erg263; closed forests above, open ones below
WOOD_AREA = {111: 2.0, 114: 1.2, 121: 0.8, 124: 0.5}
CANOPY_EXTINCTION = 0.5  # of a canopy with leaves in all directions: Nilson (1971)
WATER_REFLECTANCE = (0.04, 0.04, 0.025, 0.02, 0.015, 0.012, 0.01, 0.004, 0.002)
BUILT_UP_REFLECTANCE = (0.13, 0.14, 0.16, 0.17, 0.19, 0.20, 0.21, 0.23, 0.21)
SHADOW_TRANSMITTANCE = 0.45
CLOUD_HEIGHT_M = 1500.0
CLOUD_SCALES_M = (12_000.0, 3_000.0, 800.0)
CLOUD_WEIGHTS = (0.80, 0.50, 0.33)  # amplitudes, squares add to one
CIRRUS_SCALE_M = 15_000.0
SYNOPTIC_SCALE_M = 250_000.0
# Sky from clear to overcast: Wilson and Jetz (2016), doi:10.1371/journal.pbio.1002415, mean ~0.5
CLEAR_SKY_LOGIT, SYNOPTIC_LOGIT, RAIN_LOGIT = -1.0, 2.4, 2.2
MAX_CLOUD, CIRRUS_FRACTION = 0.995, 0.08
OPTICAL_NOISE = 0.003  # reflectance, pixel to pixel
# Centre wavelengths of the bands above: ESA, Sentinel-2 spectral responses; of Landsat's SR_B2 to
# SR_B7: Barsi et al. (2014), doi:10.3390/rs61010232
OPTICAL_NM = (492.0, 560.0, 665.0, 704.0, 740.0, 783.0, 833.0, 1614.0, 2202.0)
LANDSAT_NM = (482.0, 561.0, 655.0, 865.0, 1609.0, 2201.0)
# Error of surface reflectance, absolute and relative: Vermote et al. (2016),
# doi:10.1016/j.rse.2016.04.008; smooth as aerosol: Anderson et al. (2003),
# doi:10.1175/1520-0469(2003)060<0119:MVOTA>2.0.CO;2
LANDSAT_SPECIFICATION, AEROSOL_SCALE_M, ANGSTROM_EXPONENT = (0.005, 0.05), 40_000.0, 1.3
# Clouds are flagged three pixels wider: Foga et al. (2017), doi:10.1016/j.rse.2017.03.026; the
# logit of the cloud field changes so much over 90 m
DILATED_LOGIT = 0.10

# --- passive microwave at 1.41 GHz -----------------------------------------------------------
# Columns of tables by vegetation follow fields.TYPES: bare, grass, shrub, summer and winter crop,
# evergreen, deciduous, built.
SMAP_INCIDENCE_DEG, SMAP_FREQUENCY_HZ = 40.0, 1.41e9
FOOTPRINT_M = 36_000.0  # between half powers: Chan et al. (2018), doi:10.1016/j.rse.2017.08.025
TB_NOISE_K = 1.3  # SMAP radiometer: Piepmeier et al. (2017), doi:10.1109/TGRS.2016.2631978
TB_NOISE_SCALE_M = 18_000.0  # interpolation to 9 km shares samples: Chan et al. (2018)
# Permittivity of moist soil: polynomials in clay, Mironov et al. (2009), equations 17-23, 24-25
MIRONOV = (
    (1.634, -0.539, 0.2748), (0.03952, -0.04038), (0.02863, 0.30673), (79.8, -85.4, 32.7),
    (1.062e-11, 3.450e-12), (0.3112, 0.467), (0.3631, 1.217),
)  # fmt: skip
MIRONOV_FREE = (100.0, 8.5e-12)
WATER_HIGH_PERMITTIVITY, VACUUM_PERMITTIVITY_F_M = 4.9, 8.854e-12
WATER_PERMITTIVITY = 78.0  # lakes, static to L band: Klein and Swift (1977)
# a + b m + c m^2, each by a base, sand and clay: Hallikainen et al. (1985), Table II, 1.4 GHz
HALLIKAINEN = ((2.862, -0.012, 0.001), (3.803, 0.462, -0.341), (119.006, -0.500, 0.633))
# What the single-channel algorithm takes: O'Neill et al. (2020), SMAP level 2 and 3 passive ATBD,
# Table 3; stems (kg m-2) are the world's, rounded.
TABLE_CANOPY = {
    "albedo": (0.0, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.03),
    "roughness": (0.150, 0.156, 0.110, 0.108, 0.108, 0.160, 0.160, 0.0),
    "b": (0.0, 0.13, 0.11, 0.11, 0.11, 0.10, 0.12, 0.10),
    "stem": (0.0, 0.2, 0.5, 0.3, 0.3, 8.0, 5.0, 0.5),
}
# What the world has on the mean, and what the dual-channel algorithm takes: albedo as fitted for
# it (the same, Table 4); roughness, b and departures from all three, for good and for weeks, are
# set by the acceptance row.
TRUE_CANOPY = {
    "albedo": (0.0, 0.07, 0.07, 0.06, 0.06, 0.07, 0.07, 0.08),
    "roughness": (0.25, 0.28, 0.22, 0.28, 0.28, 0.30, 0.30, 0.15),
    "b": (0.08, 0.12, 0.12, 0.12, 0.12, 0.10, 0.12, 0.10),
}
TRUE_CANOPY_LOG_STD = {"albedo": (0.2, 0.3), "roughness": (0.3, 0.9), "b": (0.2, 0.8)}
CANOPY_SCALE_M, SLOW_DAYS = 60_000.0, 12.0  # of departures: for good, and for weeks
MIXING = 0.1771  # Q = 0.1771 h: Chaubell et al. (2020), doi:10.1109/TGRS.2019.2959239
REGULARISATION_K, DUAL_CHANNEL_STEPS = 20.0, 6  # lambda: the same
RETRIEVED_RANGE_M3_M3 = (0.02, 0.60)
# L band senses a skin shallower than the probe: Shellito et al. (2016), doi:10.1002/2016GL069946
SKIN_GAIN, SKIN_DAYS = 0.0065, 1.6  # m3 m-3 per mm of rain; e-folding (set by the acceptance row)
SKIN_MOST_MM, SKIN_SHARE = 30.0, 0.85  # a day's rain that counts; its share of all rain
SURFACE_WEIGHT = 0.246  # of the surface in the effective temperature: Choudhury et al. (1982)
FREEZES_C, SNOW_MM, WET_SNOW_EMISSIVITY = -0.3, 2.0, 0.95
# Errors of the ancillary fields: vegetation water, Dong et al. (2018), doi:10.1002/2017GL075656;
# temperature, O'Neill et al. (2020), 2 K in all; texture, Hengl et al. (2017)
WATER_ERROR_STD = 0.25
TEMPERATURE_ERROR_STD_K, TEMPERATURE_SLOW_STD_K = 2.0, 2.0
TEXTURE_LOG_STD, WATER_MAP_ERROR = 0.25, 0.1
# Mean greenness of the warm season by normal rain (mm a year), as the climatology has it
CLIMATOLOGY_WETNESS = ((300.0, 1100.0), (0.45, 0.95))
# Bits of surface_flag with the values from which a retrieval is doubtful and is not attempted
# (fractions, mm h-1, kg m-2): O'Neill et al. (2020), Table 7
SURFACE_FLAGS = {
    "static water": (0, 0.05, 0.5), "urban": (3, 0.25, 1.0), "precipitation": (4, 1.0, 25.4),
    "snow": (5, 0.05, 0.5), "frozen ground": (8, 0.05, 0.5), "dense vegetation": (10, 5.0, 30.0),
}  # fmt: skip

# --- land models and weather ------------------------------------------------------------------
# Errors of precipitation, and the parts of their variance that kinds share (``observed_rain``).
# Satellites: Maggioni et al. (2016), doi:10.1175/JHM-D-15-0190.1; the smaller ones of products with
# gauges: Beck et al. (2019), doi:10.5194/hess-23-207-2019, sizes set by the acceptance rows.
RAIN_LOG_STD, RAIN_ERROR_SCALE_M = 0.7, 120_000.0
RAIN_FALSE_MM = 5.0
RAIN_GAIN_STD = 0.2  # of a place, for all times, where the error's size is RAIN_LOG_STD
_RAIN = ("log_std", "missed", "false", "satellites", "gauges")
RAIN_ERRORS = {
    "satellites": dict(zip(_RAIN, (0.7, 0.12, 0.04, 1.0, 0.0), strict=True)),
    "chirps": dict(zip(_RAIN, (0.6, 0.10, 0.04, 0.6, 0.1), strict=True)),
    "smap_l4": dict(zip(_RAIN, (0.5, 0.08, 0.03, 0.3, 0.5), strict=True)),
    "nldas2_noah": dict(zip(_RAIN, (0.5, 0.06, 0.03, 0.0, 1.0), strict=True)),
    "gridmet": dict(zip(_RAIN, (0.4, 0.05, 0.03, 0.0, 0.7), strict=True)),
}
RAIN_LASTS_HOURS, UNSEEN_RAIN_HOUR = 3.0, 21.0  # as in the world; of rain that was invented
# Palmer (1965), US Weather Bureau Research Paper 45: one inch above, the rest below
PALMER_SURFACE_MM, PALMER_LOWER_MM = 25.4, 127.0
PALMER_PET_LOG_STD = 0.15
# Bolten et al. (2010): the gain of the mean, and the retrievals that fill the layer
ASSIMILATION_GAIN, ASSIMILATED_RANGE_M3_M3 = 0.5, (0.08, 0.42)
SMAP10KM_MAX_MM = 25.39
# Two layers of water: depths, wilting point, field capacity and porosity [m3 m-3], days of drainage
# above field capacity, parts of the evaporation, capillary rise. Noah: Ek et al. (2003),
# doi:10.1029/2002JD003296; Catchment: Koster et al. (2000), doi:10.1029/2000JD900327. Wetter than
# the world's ground: the bias of coarse soil maps, set by the acceptance rows.
_LAYERS = (
    "top_mm", "low_mm", "wilting", "field", "porosity", "top_days", "low_days", "top_share",
    "low_share", "rise",
)  # fmt: skip
LAND_MODELS = {
    "gldas": dict(zip(_LAYERS, (100, 300, 0.12, 0.36, 0.46, 4, 20, 0.60, 0.25, 0.35), strict=True)),
    "nldas2_noah": dict(
        zip(_LAYERS, (100, 300, 0.10, 0.28, 0.45, 1.5, 20, 0.50, 0.35, 0.3), strict=True)
    ),
    "smap_l4": dict(
        zip(_LAYERS, (50, 1000, 0.11, 0.30, 0.46, 1.5, 25, 0.5, 0.6, 0.3), strict=True)
    ),
}
# Evapotranspiration of land models, wrong for weeks: Mueller et al. (2011),
# doi:10.1029/2010GL046230; the spread of field capacity between places set by the acceptance rows
LAND_PET_LOG_STD = {"gldas": 0.5, "nldas2_noah": 0.7, "smap_l4": 0.3}
LAND_PET_ERROR_DAYS, LAND_SOIL_STD = 30.0, 0.10
# SMAP L4: Reichle et al. (2019), doi:10.1029/2019MS001729; observations are rescaled to the model's
# climatology, here the mean of as many past innovations; set by the acceptance row
L4_GAIN, L4_CLIMATOLOGY_OBSERVATIONS = 0.30, 10
L4_MODEL_ONLY = (("2019-06-19", "2019-07-23"), ("2022-08-06", "2022-09-20"))  # the asset's page
# Weather: Allen et al. (1998), FAO 56. Daily range of temperature about the world's own, on dry and
# wet days: Dai et al. (1999), doi:10.1175/1520-0442(1999)012<2451:EOCSMP>2.0.CO;2
RANGE_C, RANGE_DRY, RANGE_WET, RANGE_LOG_STD = 10.0, 1.1, 0.65, 0.15
RANGE_RAIN_MM = 3.0  # of rain that makes a day wet
DEW_BELOW_MINIMUM_C, DEW_STD_C = 1.5, 2.0  # FAO 56, equation 6-6, and its spread
WIND_M_S, WIND_LOG_STD, WIND_DAYS = 4.5, 0.35, 2.0  # 10 m: Klink (1999), IJC 19, 471-488
HARGREAVES = 0.16  # FAO 56, equation 50, inland
# Errors of gridMET, Abatzoglou (2013), doi:10.1002/joc.3413: their sizes are set here
GRIDMET_STD = {"minimum_c": 1.6, "maximum_c": 1.4, "dew_c": 1.5}
GRIDMET_LOG_STD = {"radiation_w_m2": 0.10, "wind_m_s": 0.25}
# Skin above air temperature by bulk transfer, dT = r H / (rho cp): Monteith (1965); the resistance
# of short vegetation; loss at night. Error of the Catchment model's skin: 4.9 K in all, Reichle et
# al. (2010), doi:10.1175/2010JHM1262.1
SKIN_RESISTANCE_S_M, AIR_HEAT_J_M3_K = 50.0, 1200.0
NET_OF_SOLAR, LONGWAVE_LOSS_W_M2, GROUND_SHARE = 0.75, 60.0, 0.15
EVAPORATIVE_LEAST, EVAPORATIVE_MOST = 0.15, 0.80
SKIN_ERROR_K, SKIN_BIAS_K = 2.2, 1.5

# --- maps ------------------------------------------------------------------------------------
# R2 of SoilGrids against profiles 0.55-0.75: Hengl et al. (2017), doi:10.1371/journal.pone.0169748
SOILGRIDS_PIXEL_M, SOILGRIDS_SMOOTHING_PX = 250.0, 2.0
SOILGRIDS_ERROR_SCALES_M = (4_000.0, 60_000.0)
SOILGRIDS_ERROR_PERCENT = {"sand": 9.5, "clay": 6.5}  # both scales together
SOILGRIDS_ERROR_CORRELATION = -0.6  # of sand with clay
SOILGRIDS_DENSITY_ERROR = 0.055  # g cm-3
# Buckley et al. (2020), NASADEM user guide
DEM_PIXEL_M, DEM_ERROR_M, DEM_ERROR_SCALE_M = 30.0, 1.5, 90.0
# --- maps that stand still -------------------------------------------------------------------
MAP_PIXELS_M = {
    "soilgrids": 250.0, "soilgrids_ph": 250.0, "polaris": 30.0, "solus100": 100.0,
    "solus100_0cm": 100.0, "solus100_15cm": 100.0, "solus100_30cm": 100.0, "gnatsgo": 30.0,
    "gnatsgo_derived": 90.0, "dem": 30.0, "dem_3dep": 10.2, "dem_merit": 92.77,
    "land_cover": 100.0, "nlcd_2019": 30.0, "nlcd_2021": 30.0, "koeppen": 1000.0,
    "modis_land_cover": 500.0,
}  # fmt: skip
# Smoothing (m, one sigma), errors of sand and clay (% at 20 or 80 %), density (g cm-3) and organic
# matter (of its logarithm), and what errors are made of: (whose, knots m, weight; squares add to
# one). Sizes are set by the acceptance rows: R2 against profiles of SoilGrids 0.55-0.75, Hengl et
# al. (2017), doi:10.1371/journal.pone.0169748; POLARIS 0.4-0.7, Chaney et al. (2019),
# doi:10.1029/2018WR022797; SOLUS100 0.5-0.7, Nauman et al. (2024), doi:10.1002/saj2.20769. All but
# SoilGrids draw on one survey.
_SURVEY = (("survey", 3_000.0, 0.45), ("survey", 30_000.0, 0.45))
SOIL_MAPS: dict[str, dict[str, Any]] = {
    "soilgrids": {
        "smoothing_m": 500.0, "sand": 8.0, "clay": 6.6, "density": 0.055, "organic": 0.2,
        "errors": (("soilgrids", 4_000.0, 0.7071), ("soilgrids", 60_000.0, 0.7071)),
    },
    "polaris": {
        "smoothing_m": 0.0, "sand": 9.2, "clay": 8.2, "density": 0.065, "organic": 0.25,
        "errors": (*_SURVEY, ("polaris", 300.0, 0.55), ("polaris", 6_000.0, 0.5408)),
    },
    "gnatsgo": {
        "smoothing_m": 0.0, "sand": 8.3, "clay": 7.5, "density": 0.06, "organic": 0.25,
        "errors": (*_SURVEY, ("gnatsgo", 1_000.0, 0.7714)),
    },
    **{
        name: {
            "smoothing_m": 200.0, "sand": 8.6, "clay": 7.7, "density": 0.06, "organic": 0.2,
            "errors": (*_SURVEY, ("solus100", 10_000.0, 0.65), (name, 2_000.0, 0.4153)),
        }
        for name in ("solus100", "solus100_0cm", "solus100_15cm", "solus100_30cm")
    },
}  # fmt: skip
SAND_CLAY_ERROR_CORRELATION = -0.6
# Of the water left at 1500 kPa, in the mean of the Oklahoma Mesonet's layers, MesoSoil 2.0: Wyatt
# et al. (2021), doi:10.1002/vzj2.20134
RESIDUAL_OF_WILTING = 0.55
# Polygons of some 50 ha, a county's survey, and (of the logarithm of what is held) how units and
# surveys differ: Soil Survey Staff (2017), Soil Survey Manual, USDA Handbook 18, chapter 4
MAP_UNIT_M, MAP_UNIT_WINDING_M, MAP_UNIT_ERROR = 700.0, 90.0, 0.12
SURVEY_AREA_M, SURVEY_AREA_ERROR = 45_000.0, 0.07
# Errors of DEMs (whose, knots m, sd m). Buckley et al. (2020), NASADEM user guide; RMSE
# 0.82 m: USGS (2024), after Stoker and Miller (2022), doi:10.3390/rs14040940; MERIT, 58 % within
# 2 m: Yamazaki et al. (2017), doi:10.1002/2017GL072874. The radar's error is shared.
DEM_ERRORS_M = {
    "dem": (("radar", 90.0, 1.5),),
    "dem_3dep": (("survey flights", 400.0, 0.6), ("survey flights", 15_000.0, 0.56)),
    "dem_merit": (("radar", 90.0, 0.7), ("merit", 1_200.0, 2.38)),
}
# Rates of wrong labels, a patch's size, what share of the error is an epoch's: overall accuracy of
# NLCD 77.5 %, Wickham et al. (2023), doi:10.1080/15481603.2023.2181143; of Copernicus 80.3 %,
# Copernicus Global Land Service (2020), quality of LCC 100 m v3.0; of MCD12Q1 73.6 % and 1.6 % that
# change a year, Sulla-Menashe et al. (2019), doi:10.1016/j.rse.2018.12.013
LAND_COVER_ERRORS = {
    "copernicus": {"rate": 0.197, "patch_m": 400.0, "epoch": 0.0},
    "nlcd": {"rate": 0.225, "patch_m": 150.0, "epoch": 0.06},
    "igbp": {"rate": 0.264, "patch_m": 1_500.0, "epoch": 0.05},
}
# Copernicus' code to NLCD's and IGBP's (open forests are woody savannas), by their definitions.
NLCD = {20: 52, 30: 71, 40: 82, 50: 22, 60: 31, 80: 11, 90: 95, 111: 42, 114: 41, 121: 42, 124: 41}
IGBP = {20: 7, 30: 10, 40: 12, 50: 13, 60: 16, 80: 17, 90: 11, 111: 1, 114: 4, 121: 8, 124: 8}
HAY_RAIN_MM, HAY_SHARE, MIXED_FOREST_SHARE, WOODY_WETLAND_SHARE = 700.0, 0.4, 0.2, 0.4
DEVELOPED_SHARES = (0.45, 0.75, 0.93)  # up to open space, low, medium intensity
# What a class is taken for, mostly the first, else the second; lakes are known. Chosen by the
# legends' definitions: the papers tell how often, and their error matrices were not copied.
TAKEN_FOR = {
    "copernicus": {
        20: (30, 60), 30: (40, 20), 40: (30, 20), 50: (40, 30), 60: (20, 30), 90: (30, 126),
        111: (121, 114), 114: (124, 111), 121: (126, 20), 124: (126, 30),
    },
    "nlcd": {
        21: (22, 71), 22: (21, 82), 23: (22, 24), 24: (23, 22), 31: (52, 71), 41: (43, 90),
        42: (43, 52), 43: (41, 42), 52: (71, 42), 71: (81, 52), 81: (82, 71), 82: (81, 71),
        90: (41, 95), 95: (71, 90),
    },
    "igbp": {
        1: (8, 5), 4: (5, 8), 7: (10, 16), 8: (9, 4), 10: (12, 9), 11: (10, 8), 12: (14, 10),
        13: (12, 14), 14: (12, 10), 16: (7, 10),
    },
}  # fmt: skip
# Errors of the normals behind Koeppen's classes, as stations' interpolation leaves them: Beck et
# al. (2018), doi:10.1038/sdata.2018.214
KOEPPEN = strata.KOEPPEN_CODES
NORMALS_ERROR_C, NORMALS_RAIN_ERROR, NORMALS_ERROR_SCALE_M = 0.5, 0.06, 40_000.0

# --- composites ------------------------------------------------------------------------------
LAI_ERROR = 0.12  # relative; Yan et al. (2016), doi:10.3390/rs8050359
NDVI_ERROR = 0.025  # Vermote and Kotchenova (2008), doi:10.1029/2007JD009662
LST_ERROR_K, LST_STEP_K, ZERO_C_K = 1.0, 0.02, 273.15  # Wan (2014), doi:10.1016/j.rse.2013.08.027
# Of the value, and the soil's part of evaporation: Mu et al. (2011), doi:10.1016/j.rse.2011.02.019
ET_ERROR, ET_SOIL_SHARE = 0.2, 0.3
COMPOSITE_ERROR_SCALE_M = 20_000.0  # as far as aerosol and emissivity classes reach
# Slessarev et al. (2016), doi:10.1038/nature20139
PH_DRY, PH_WET, PH_SCALE_MM, PH_ERROR, PH_ERROR_SCALE_M = 8.2, 5.1, 250.0, 0.4, 20_000.0
# Units of about a third of a square kilometre; the unit of error is 7-15 % of saturation:
# Vergopolan et al. (2021), doi:10.1038/s41597-021-01050-2. The parts that stay with a unit, stay
# with a patch and pass, and the lags, are set by the acceptance row at stations.
HYDROBLOCKS_PIXEL_M, UNIT_M, UNIT_SAMPLES = 30.0, 960.0, 8
UNIT_ERROR, UNIT_ERROR_SPAN, UNIT_ERROR_SCALE_M = 0.11, 0.04, 30_000.0
UNIT_STAYS, UNIT_PATCH, UNIT_PASSES = 1.25, 1.25, 1.1
UNIT_PATCH_SCALE_M, UNIT_ERROR_DAYS = 6_000.0, 75.0
UNIT_LAGS_H = (0, 12, 36, 72)  # of the states whose mean answers rain late
