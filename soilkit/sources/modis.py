"""MODIS: vegetation, surface temperature, evapotranspiration, land cover; one row a layer."""

from functools import partial

from soilkit.sources.row import GLOBAL, Band, Collection, EarthEngine, Linear, Source, Stac

RESTARTING = EarthEngine(GLOBAL, new_year=True)
VEGETATION_INDICES = (
    Band("NDVI", "1", (-0.2, 1), scale=1e-4),
    Band("EVI", "1", (-0.2, 1), scale=1e-4),
)
LAND_SURFACE_K = (180, 360)
_composite = partial(Source, resolution="low", dated_by="start")  # stamped with its first day

MODIS = (
    _composite(
        "modis_lai",
        title="MODIS leaf area index, 4 days (MCD15A3H)",
        asset="MODIS/061/MCD15A3H",
        bands=(Band("Lai", "m2 m-2", (0, 10), Linear(0, 100), scale=0.1, aliases=("Lai_500m",)),),
        pixel_size_m=500,
        cadence="4D",
        max_age="8D",
        begins="2002-07-04",
        packing=(0.1, 0.0),
        earth_engine=RESTARTING,
        stac=Stac((Collection("modis-15A3H-061"),)),
        citation="Myneni et al. (2021), doi:10.5067/MODIS/MCD15A3H.061",
        trap="Collection 006 ended in early 2023. Stamped with the first of its four days. Stored "
        "values 0-100 are LAI x 10.",
    ),
    _composite(
        "modis_ndvi_500",
        title="MODIS vegetation indices, 16 days, 500 m (MOD13A1)",
        asset="MODIS/061/MOD13A1",
        bands=VEGETATION_INDICES,
        pixel_size_m=500,
        cadence="16D",
        max_age="32D",
        begins="2000-02-18",
        packing=(1.0, 0.0),
        citation="Didan (2021), doi:10.5067/MODIS/MOD13A1.061",
        trap="The best pixel of sixteen days, stamped with the first: DayOfYear tells which day.",
    ),
    _composite(
        "modis_ndvi_250",
        title="MODIS vegetation indices, 16 days, 250 m (MOD13Q1)",
        asset="MODIS/061/MOD13Q1",
        bands=VEGETATION_INDICES,
        pixel_size_m=250,
        cadence="16D",
        max_age="32D",
        begins="2000-02-18",
        packing=(1.0, 0.0),
        citation="Didan (2021), doi:10.5067/MODIS/MOD13Q1.061",
        trap="As MOD13A1.",
    ),
    _composite(
        "modis_lst",
        title="MODIS land surface temperature, 8 days (MOD11A2)",
        asset="MODIS/061/MOD11A2",
        bands=(
            Band("LST_Day_1km", "K", LAND_SURFACE_K, scale=0.02),
            Band("LST_Night_1km", "K", LAND_SURFACE_K, scale=0.02),
        ),
        pixel_size_m=1000,
        cadence="8D",
        max_age="16D",
        begins="2000-02-18",
        packing=(1.0, 32768.0),
        earth_engine=RESTARTING,
        citation="Wan et al. (2021), doi:10.5067/MODIS/MOD11A2.061",
        trap="Clear-sky mean over eight days, stamped with the first.",
    ),
    _composite(
        "modis_lst_daily",
        title="MODIS land surface temperature, daily, by day (MOD21A1D)",
        asset="MODIS/061/MOD21A1D",
        bands=(Band("LST_1KM", "K", LAND_SURFACE_K),),
        pixel_size_m=1000,
        cadence="1D",
        max_age="8D",
        begins="2000-02-24",
        packing=(0.01, 300.0),
        citation="Hulley and Hook (2021), doi:10.5067/MODIS/MOD21A1D.061",
        trap="Earth Engine has applied the scale already. The 8-day MOD21A2 is absent there.",
    ),
    _composite(
        "modis_et",
        title="MODIS evapotranspiration, 8 days, gap-filled (MOD16A2GF)",
        asset="MODIS/061/MOD16A2GF",
        bands=(Band("ET", "kg m-2 per 8 days", (0, 200), scale=0.1),),
        pixel_size_m=500,
        cadence="8D",
        max_age="16D",
        begins="2000-01-01",
        packing=(1.0, 0.0),
        earth_engine=RESTARTING,
        citation="Running et al. (2021), doi:10.5067/MODIS/MOD16A2GF.061",
        trap="MOD16A2 of collection 061 begins in 2021, hence the gap-filled product. The year's "
        "last scene spans five or six days. Seed 004 prints MOD16A1, which does not exist.",
    ),
    _composite(
        "modis_land_cover",
        title="MODIS land cover, yearly, IGBP classes (MCD12Q1)",
        asset="MODIS/061/MCD12Q1",
        bands=(Band("LC_Type1", "class", (1, 17), continuous=False),),
        pixel_size_m=500,
        cadence="1Y",
        max_age="2Y",
        begins="2001-01-01",
        earth_engine=RESTARTING,
        citation="Friedl and Sulla-Menashe (2022), doi:10.5067/MODIS/MCD12Q1.061",
        trap="Made from the whole year that it is stamped with the first day of.",
    ),
)
