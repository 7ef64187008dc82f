"""Terrain, soil and land cover: layers that stand still; one row a layer."""

from soilkit.sources.model import Band, Linear, Source

STATIC = {"sentinel1": "50Y", "smap": "50Y"}
SOILGRIDS_RANGE = Linear(0, 800)

GROUND = (
    Source(
        "dem",
        title="NASADEM elevation",
        asset="NASA/NASADEM_HGT/001",
        bands=(Band("elevation", "m", Linear(0, 3000)),),
        pixel_size_m=30,
        cadence="",
        dated_by="static",
        resolution="high",
        max_age=STATIC,
        citation="NASA JPL (2020), doi:10.5067/MEaSUREs/NASADEM/NASADEM_HGT.001",
        trap="Acquired in February 2000; nothing beyond 60 N and 56 S.",
    ),
    Source(
        "soilgrids",
        title="SoilGrids 2.0 texture and bulk density, 0-5 cm",
        asset="projects/soilgrids-isric/{band}_mean",
        bands=(
            Band("sand", "%", SOILGRIDS_RANGE, scale=0.1),
            Band("silt", "%", SOILGRIDS_RANGE, scale=0.1),
            Band("clay", "%", SOILGRIDS_RANGE, scale=0.1),
            Band("bdod", "g cm-3", SOILGRIDS_RANGE, scale=0.01),
        ),
        pixel_size_m=250,
        cadence="",
        dated_by="static",
        resolution="low",
        max_age=STATIC,
        citation="Hengl et al. (2017), doi:10.1371/journal.pone.0169748",
        trap="One asset a property, its band {band}_0-5cm_mean; stored as g/kg (/ 10 = %) and "
        "cg/cm3 (/ 100 = g cm-3). ISRIC/SoilGrids250m/v2_0 has only water contents.",
    ),
    Source(
        "land_cover",
        title="Copernicus Global Land Cover, 100 m, 2019",
        asset="COPERNICUS/Landcover/100m/Proba-V-C3/Global",
        bands=(Band("discrete_classification", "class", continuous=False),),
        pixel_size_m=100,
        cadence="",
        dated_by="static",
        resolution="low",
        max_age=STATIC,
        begins="2015-01-01",
        ends="2020-01-01",
        citation="Buchhorn et al. (2020), doi:10.5281/zenodo.3939050",
        trap="Five annual maps, 2015-2019, and none after: the last one stands for all times. "
        "Classes, never to be averaged.",
    ),
)
