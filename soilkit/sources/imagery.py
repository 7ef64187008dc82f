"""Radar and optical imagery: one row a layer."""

from soilkit.sources.model import Band, Linear, LogSigmoid, Source

REFLECTANCE = 1e-4  # one digital number of Sentinel-2


def _optical(name: str, log_mean: float, log_std: float) -> Band:
    return Band(name, "1", LogSigmoid(log_mean, log_std), scale=REFLECTANCE)


LANDSAT_BANDS = (
    *(
        Band(f"SR_B{number}", "1", scale=2.75e-5, offset=-0.2)
        for number in range(2, 8)  # blue, green, red, near infrared, two shortwave infrared
    ),
    Band("QA_PIXEL", "bits", continuous=False),
)

IMAGERY = (
    Source(
        "sentinel1",
        title="Sentinel-1 ground range detected backscatter (IW, VV + VH)",
        asset="COPERNICUS/S1_GRD",
        bands=(
            Band("VV", "dB", Linear(-25, 5)),
            Band("VH", "dB", Linear(-25, 5)),
            Band("angle", "deg", Linear(0, 90)),
        ),
        pixel_size_m=10,
        cadence="6D",
        dated_by="instant",
        resolution="high",
        max_age={"sentinel1": "1h", "smap": "7D"},
        begins="2014-10-03",
        citation="Torres et al. (2012), doi:10.1016/j.rse.2011.05.028",
        trap="Filter instrumentMode IW and both polarisations; average in linear power; slices of "
        "one pass lie seconds apart; scene edges hold no data: check the valid fraction. The "
        "revisit doubled to 12 days when Sentinel-1B failed on 2021-12-23.",
    ),
    Source(
        "sentinel2",
        title="Sentinel-2 L1C top-of-atmosphere reflectance, harmonised",
        asset="COPERNICUS/S2_HARMONIZED",
        bands=(
            _optical("B2", 1.7417268007636313, 2.023298706048351),
            _optical("B3", 1.7261204997060209, 2.038905204308012),
            _optical("B4", 1.6798346251414997, 2.179592821212937),
            _optical("B5", 1.7734969472909623, 2.2890068333026603),
            _optical("B6", 2.289154079164943, 2.6171674549378166),
            _optical("B7", 2.382939712192371, 2.773418590375327),
            _optical("B8", 2.3828939530384052, 2.7578332604178284),
            _optical("B11", 2.1952484264967844, 2.789092484314204),
            _optical("B12", 1.554812948247501, 2.4140534947492487),
            Band("QA60", "bits", continuous=False),
        ),
        pixel_size_m=10,
        cadence="5D",
        dated_by="instant",
        resolution="high",
        max_age={"sentinel1": "14D", "smap": "14D"},
        begins="2015-06-27",
        citation="Drusch et al. (2012), doi:10.1016/j.rse.2011.11.026",
        trap="QA60 is masked from 2022-01-25 to 2024-02-28: masked means unknown, not clear; use "
        "cloud_score_plus or s2_cloud_probability there. The 2022 offset of digital numbers is "
        "already removed in the harmonised collection. B5-B7, B11 and B12 are native at 20 m.",
    ),
    Source(
        "cloud_score_plus",
        title="Cloud Score+ of Sentinel-2",
        asset="GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED",
        bands=(Band("cs", "1"), Band("cs_cdf", "1")),
        pixel_size_m=10,
        cadence="5D",
        dated_by="instant",
        resolution="high",
        begins="2015-06-27",
        citation="Pasquarella et al. (2023), doi:10.1109/CVPRW59228.2023.00206",
        trap="One is clear and zero is not: the opposite of a cloud probability. Joined to "
        "Sentinel-2 by system:index.",
    ),
    Source(
        "s2_cloud_probability",
        title="s2cloudless cloud probability of Sentinel-2",
        asset="COPERNICUS/S2_CLOUD_PROBABILITY",
        bands=(Band("probability", "%"),),
        pixel_size_m=10,
        cadence="5D",
        dated_by="instant",
        resolution="high",
        begins="2015-06-27",
        citation="Zupanc (2017), s2cloudless",
        trap="Joined to Sentinel-2 by system:index; some scenes have none.",
    ),
    Source(
        "landsat8",
        title="Landsat 8 surface reflectance, Collection 2 Level 2",
        asset="LANDSAT/LC08/C02/T1_L2",
        bands=LANDSAT_BANDS,
        pixel_size_m=30,
        cadence="16D",
        dated_by="instant",
        resolution="high",
        begins="2013-03-18",
        citation="USGS (2020), doi:10.5066/P9OGBGM6",
        trap="Reflectance = 2.75e-5 x DN - 0.2; mask clouds with QA_PIXEL.",
    ),
    Source(
        "landsat9",
        title="Landsat 9 surface reflectance, Collection 2 Level 2",
        asset="LANDSAT/LC09/C02/T1_L2",
        bands=LANDSAT_BANDS,
        pixel_size_m=30,
        cadence="16D",
        dated_by="instant",
        resolution="high",
        begins="2021-10-31",
        citation="USGS (2020), doi:10.5066/P9OGBGM6",
        trap="As Landsat 8, eight days apart from it.",
    ),
    Source(
        "smap_sentinel1",
        title="SMAP and Sentinel-1 soil moisture and backscatter at 1 km (SPL2SMAP_S)",
        asset="",
        bands=(
            Band("soil_moisture_1km", "m3 m-3"),
            Band("sigma0_vv_aggregated_1km", "1"),
            Band("sigma0_vh_aggregated_1km", "1"),
        ),
        pixel_size_m=1000,
        cadence="12D",
        dated_by="instant",
        resolution="low",
        begins="2015-03-31",
        lives_at="NSIDC, https://nsidc.org/data/spl2smap_s: half orbits in HDF5 on the 1 km "
        "EASE-Grid 2.0; read from a local copy.",
        citation="Das et al. (2019), doi:10.1016/j.rse.2019.111380",
        trap="Backscatter is linear power, not dB.",
    ),
)
