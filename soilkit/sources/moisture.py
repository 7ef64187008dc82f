"""Coarse soil moisture, retrieved or modelled, and brightness temperature: one row a layer."""

from soilkit.sources.model import Band, Linear, Source

MOISTURE = (
    Source(
        "smap",
        title="NASA-USDA enhanced SMAP surface soil moisture (SMAP10KM)",
        asset="NASA_USDA/HSL/SMAP10KM_soil_moisture",
        bands=(Band("ssm", "mm", layer_mm=50),),
        pixel_size_m=10_000,
        cadence="3D",
        dated_by="start",
        resolution="coarse",
        max_age={"sentinel1": "3D", "smap": "1h"},
        begins="2015-04-02",
        ends="2022-08-02",
        successor="smap_l4",
        citation="Bolten et al. (2010), doi:10.1109/JSTARS.2009.2037163",
        trap="A three-day Palmer-model analysis with assimilation, no retrieval: its nominal time "
        "is no overpass. 0-25.39 mm, saturates. Table 4's SMAP range of 50-255 is neither mm nor "
        "m3 m-3 and serves only to decode the published shards: standardise with training "
        "statistics. Shares precipitation errors with L4, GLDAS and NLDAS.",
    ),
    Source(
        "gldas",
        title="GLDAS-2.1 Noah soil moisture, 0-10 cm",
        asset="NASA/GLDAS/V021/NOAH/G025/T3H",
        bands=(Band("SoilMoi0_10cm_inst", "kg m-2", Linear(0, 100), layer_mm=100),),
        pixel_size_m=27_830,
        cadence="3h",
        dated_by="instant",
        resolution="coarse",
        max_age={"sentinel1": "6h", "smap": "6h"},
        begins="2000-01-01",
        citation="Rodell et al. (2004), doi:10.1175/BAMS-85-3-381",
        trap="0-10 cm is not 0-5 cm; _inst fields hold at their stamp, so start equals end.",
    ),
)
