"""Radar and optical imagery: one row a layer."""

from soilkit.sources.model import Band, Linear, LogSigmoid, Source

REFLECTANCE = 1e-4  # one digital number of Sentinel-2


def _optical(name: str, log_mean: float, log_std: float) -> Band:
    return Band(name, "1", LogSigmoid(log_mean, log_std), scale=REFLECTANCE)


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
)
