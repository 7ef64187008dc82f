"""Vegetation, surface temperature, evapotranspiration and precipitation: one row a layer."""

from soilkit.sources.model import Band, Linear, Source

VEGETATION = (
    Source(
        "modis_lai",
        title="MODIS leaf area index, 4 days (MCD15A3H)",
        asset="MODIS/061/MCD15A3H",
        bands=(Band("Lai", "m2 m-2", Linear(0, 100), scale=0.1),),
        pixel_size_m=500,
        cadence="4D",
        dated_by="start",
        resolution="low",
        max_age={"sentinel1": "8D", "smap": "8D"},
        begins="2002-07-04",
        citation="Myneni et al. (2021), doi:10.5067/MODIS/MCD15A3H.061",
        trap="Collection 006 ended in early 2023. Stamped with the first of its four days. Stored "
        "values 0-100 are LAI x 10.",
    ),
)
