"""The catalogue says what the papers and archives say; these tables are transcribed by hand."""

import numpy as np
import pytest

from soilkit import sources
from soilkit.errors import BoundError, ContractError, UnitError, UnknownNameError
from soilkit.export.archives.scenes import interval
from soilkit.export.chips import packing_of
from soilkit.metrics.collocation import shared_sources
from soilkit.sources import Band, EarthEngine, Linear, LogSigmoid, Source
from soilkit.sources.row import PASSES
from soilkit.units import conversion

# name: Earth Engine asset, bands that must be there, pixel size [m].
EARTH_ENGINE = {
    "sentinel1": ("COPERNICUS/S1_GRD", "VV VH angle", 10),
    "sentinel2": ("COPERNICUS/S2_HARMONIZED", "B2 B3 B4 B5 B6 B7 B8 B11 B12 QA60", 10),
    "cloud_score_plus": ("GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED", "cs cs_cdf", 10),
    "s2_cloud_probability": ("COPERNICUS/S2_CLOUD_PROBABILITY", "probability", 10),
    "smap": ("NASA_USDA/HSL/SMAP10KM_soil_moisture", "ssm", 10_000),
    "smap_l4": ("NASA/SMAP/SPL4SMGP/008", "sm_surface sm_rootzone surface_temp", 11_000),
    "smap_l3_005": (
        "NASA/SMAP/SPL3SMP_E/005",
        "soil_moisture_am soil_moisture_pm tb_h_corrected_am tb_v_corrected_am "
        "vegetation_water_content_am",
        9000,
    ),
    "smap_l3_006": ("NASA/SMAP/SPL3SMP_E/006", "soil_moisture_am soil_moisture_pm", 9000),
    "era5": ("ECMWF/ERA5/HOURLY", "volumetric_soil_water_layer_1", 27_830),
    "era5_land": (
        "ECMWF/ERA5_LAND/HOURLY", "volumetric_soil_water_layer_1 volumetric_soil_water_layer_4",
        11_132,
    ),
    "satellite_embedding": ("GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL", "A00 A31 A63", 10),
    "gldas": ("NASA/GLDAS/V021/NOAH/G025/T3H", "SoilMoi0_10cm_inst", 27_830),
    "dem": ("NASA/NASADEM_HGT/001", "elevation", 30),
    "dem_3dep": ("USGS/3DEP/10m_collection", "elevation", 10.2),
    "dem_merit": ("MERIT/DEM/v1_0_3", "dem", 92.77),
    "soilgrids": ("projects/soilgrids-isric/{band}_mean", "sand silt clay bdod", 250),
    "soilgrids_ph": ("projects/soilgrids-isric/{band}_mean", "phh2o", 250),
    "modis_lai": ("MODIS/061/MCD15A3H", "Lai", 500),
    "modis_ndvi_500": ("MODIS/061/MOD13A1", "NDVI", 500),
    "modis_ndvi_250": ("MODIS/061/MOD13Q1", "NDVI", 250),
    "modis_lst": ("MODIS/061/MOD11A2", "LST_Day_1km", 1000),
    "modis_land_cover": ("MODIS/061/MCD12Q1", "LC_Type1", 500),
    "modis_et": ("MODIS/061/MOD16A2GF", "ET", 500),
    "chirps": ("UCSB-CHG/CHIRPS/DAILY", "precipitation", 5566),
    "gridmet": ("IDAHO_EPSCOR/GRIDMET", "pr tmmn tmmx rmin rmax", 4638.3),
    "imerg": ("NASA/GPM_L3/IMERG_V07", "precipitation", 11_132),
    "landsat8": ("LANDSAT/LC08/C02/T1_L2", "SR_B2 SR_B3 SR_B4 SR_B5", 30),
    "landsat9": ("LANDSAT/LC09/C02/T1_L2", "SR_B2 SR_B3 SR_B4 SR_B5", 30),
    "land_cover": (
        "COPERNICUS/Landcover/100m/Proba-V-C3/Global", "discrete_classification", 100,
    ),
    "nlcd_2019": ("USGS/NLCD_RELEASES/2019_REL/NLCD", "landcover", 30),
    "nlcd_2021": ("USGS/NLCD_RELEASES/2021_REL/NLCD", "landcover", 30),
    "polaris": (
        "projects/sat-io/open-datasets/polaris/{band}_mean",
        "sand silt clay bd theta_r ksat om", 30,
    ),
    "gnatsgo": ("projects/sat-io/open-datasets/gNATSGO/raster", "aws0_5 tk0_5a", 30),
    "solus100": ("USDA/SOLUS100/V0", "sandtotal silttotal claytotal bd", 100),
}  # fmt: skip
NOT_IN_EARTH_ENGINE = {
    "smap_l1c_tb", "smap_l2", "smap_hydroblocks", "nldas2_noah", "geos5_lst", "koeppen",
    "ascat_ssm", "smos_l3", "esa_cci", "c3s_soil_moisture", "cgls_ssm", "ndvi_10m",
}  # fmt: skip
# Batchu et al.: Table 5 (anchor Sentinel-1) and Table 20 (anchor SMAP).
YEARS_50 = np.timedelta64(50 * 36525 // 100, "D")
TABLE_5 = {
    "sentinel1": np.timedelta64(1, "h"), "sentinel2": np.timedelta64(14, "D"),
    "smap": np.timedelta64(3, "D"), "gldas": np.timedelta64(6, "h"),
    "modis_lai": np.timedelta64(8, "D"), "dem": YEARS_50, "soilgrids": YEARS_50,
}  # fmt: skip
TABLE_20 = {**TABLE_5, "sentinel1": np.timedelta64(7, "D"), "smap": np.timedelta64(1, "h")}
# Batchu et al., Table 4, but for SMAP, whose 50-255 only decodes the published shards.
TABLE_4 = {
    ("sentinel1", "VV"): (-25, 5), ("sentinel1", "VH"): (-25, 5), ("sentinel1", "angle"): (0, 90),
    ("modis_lai", "Lai"): (0, 100), ("soilgrids", "sand"): (0, 800),
    ("soilgrids", "silt"): (0, 800), ("soilgrids", "clay"): (0, 800),
    ("soilgrids", "bdod"): (0, 800), ("dem", "elevation"): (0, 3000),
    ("gldas", "SoilMoi0_10cm_inst"): (0, 100),
}  # fmt: skip
# Batchu et al., Table 17.
TABLE_17 = {
    "B2": (1.7417268007636313, 2.023298706048351),
    "B3": (1.7261204997060209, 2.038905204308012),
    "B4": (1.6798346251414997, 2.179592821212937),
    "B5": (1.7734969472909623, 2.2890068333026603),
    "B6": (2.289154079164943, 2.6171674549378166),
    "B7": (2.382939712192371, 2.773418590375327),
    "B8": (2.3828939530384052, 2.7578332604178284),
    "B11": (2.1952484264967844, 2.789092484314204),
    "B12": (1.554812948247501, 2.4140534947492487),
}
PHYSICAL = {  # one stored value and the physical one that it stands for
    ("sentinel2", "B4"): (1500, 0.15, "1"),
    ("soilgrids", "sand"): (412, 41.2, "%"),
    ("soilgrids", "bdod"): (135, 1.35, "g cm-3"),
    ("soilgrids_ph", "phh2o"): (65, 6.5, "1"),
    ("modis_lai", "Lai"): (25, 2.5, "m2 m-2"),
    ("modis_ndvi_500", "NDVI"): (6000, 0.6, "1"),
    ("modis_lst", "LST_Day_1km"): (15_000, 300.0, "K"),
    ("modis_et", "ET"): (120, 12.0, "kg m-2 per 8 days"),
    ("landsat8", "SR_B4"): (10_000, 0.075, "1"),
}
NAMES = [source.name for source in sources.CATALOGUE]


@pytest.mark.parametrize("name", EARTH_ENGINE)
def test_a_layer_stands_where_earth_engine_keeps_it(name):
    """Asset, bands and pixel size agree with the design's table of sources."""
    asset, bands, pixel_size_m = EARTH_ENGINE[name]
    source = sources.get(name)
    assert source.asset == asset
    assert set(bands.split()) <= {band.name for band in source.bands}
    assert source.pixel_size_m == pixel_size_m


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_without_an_asset_says_where_it_lives(name):
    """Earth Engine has the layer, or the row names the place that has."""
    source = sources.get(name)
    assert bool(source.asset) != bool(source.lives_at)
    if name in NOT_IN_EARTH_ENGINE:
        assert not source.asset


@pytest.mark.parametrize(("anchor", "table"), [("sentinel1", TABLE_5), ("smap", TABLE_20)])
def test_bounds_are_the_papers(anchor, table):
    """Tables 5 and 20 differ in the two anchors' own bounds only."""
    found = sources.bounds(anchor, table)
    assert list(found) == list(table)
    assert all(abs(found[name] - age) < np.timedelta64(1, "D") for name, age in table.items())
    assert all(found[n] == a for n, a in table.items() if n not in ("dem", "soilgrids"))


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_can_be_joined(name):
    """A scene is of use for a revisit at least, and a static layer for good."""
    source = sources.get(name)
    bound = sources.bounds("sentinel1", [name])[name]
    if source.is_static:
        assert bound == sources.duration("50Y")
    elif name != "sentinel1":
        assert bound >= sources.duration(source.cadence)


def test_nothing_is_anchored_at_a_layer_without_a_time():
    with pytest.raises(BoundError, match="dem has no time"):
        sources.bounds("dem", ["smap"])


@pytest.mark.parametrize("name", NAMES)
def test_every_band_knows_its_valid_range_and_a_chip_can_hold_it(name):
    """Physical limits lie in order, and within the integers of the chip store as stored values."""
    source = sources.get(name)
    for band in source.bands:
        low, high = band.valid_range
        assert low < high
        if source.resolution == "coarse" or band.continuous:
            least, most = packing_of(source, [band.name]).limits
            assert least <= (low - band.offset) / band.scale, band.name
            assert (high - band.offset) / band.scale <= most, band.name


def test_one_dated_and_fine_layer_must_say_how_earth_engine_holds_it():
    """Taken for a global product, every image of the planet would go to every station."""
    row = {
        "title": "Another radar", "asset": "A/RADAR", "bands": (Band("HH", "dB", (-50, 30)),),
        "pixel_size_m": 25, "resolution": "high", "dated_by": "instant", "cadence": "14D",
        "max_age": "28D",
    }  # fmt: skip
    with pytest.raises(ContractError, match="'radar' lacks its earth_engine part.*25 m"):
        Source("radar", **row)
    with pytest.raises(ContractError, match="'radar' lacks its cadence"):
        Source("radar", **row | {"cadence": "", "earth_engine": EarthEngine(PASSES)})
    assert Source("radar", **row, earth_engine=EarthEngine(PASSES)).earth_engine.image == "A/RADAR"


@pytest.mark.parametrize(("key", "limits"), TABLE_4.items(), ids=str)
def test_linear_ranges_are_table_4(key, limits):
    """A uniform variable on the range would come out with mean zero and variance one."""
    scale = sources.get(key[0]).band(key[1]).normalisation
    assert scale == Linear(*limits)
    uniform = np.linspace(*limits, 100_001)
    assert abs(scale(uniform).mean()) < 1e-9
    assert abs(scale(uniform).std() - 1) < 1e-4


def test_smap_has_no_fixed_normalisation():
    """50-255 is no range of millimetres that end at 25.39: training statistics serve instead."""
    assert sources.get("smap").band("ssm").normalisation is None
    assert "50-255" in sources.get("smap").trap


@pytest.mark.parametrize("name", TABLE_17)
def test_optical_constants_are_table_17(name):
    """All nine bands, to the last printed digit."""
    assert sources.get("sentinel2").band(name).normalisation == LogSigmoid(*TABLE_17[name])


def test_the_optical_transform_leaves_range_to_clear_pixels():
    """Clear land (0.05 to 0.3) spreads over more of [0, 1] than all cloud (0.5 to 1.2)."""
    red = sources.get("sentinel2").band("B4").normalisation
    dark, bright, thin, thick = red(np.array([500, 3000, 5000, 12_000]))
    # By hand for 500: ln(3.5) = 1.25276; (1.25276 - 1.67983) / 2.17959 = -0.19594;
    # 1 / (1 + exp(1 + 5 x 0.19594)) = 1 / (1 + 7.2406) = 0.12135.
    assert dark == pytest.approx(0.12135, abs=1e-5)
    assert bright - dark > 2 * (thick - thin)


@pytest.mark.parametrize(("key", "expected"), PHYSICAL.items(), ids=str)
def test_stored_values_become_physical_ones(key, expected):
    """Scale and offset of each product's own documentation."""
    stored, physical, unit = expected
    band = sources.get(key[0]).band(key[1])
    assert band.scale * stored + band.offset == pytest.approx(physical)
    assert band.unit == unit


def test_water_depths_name_their_layer():
    """25 mm in SMAP's 5 cm are 0.5 m3 m-3, and 25 kg m-2 in GLDAS's 10 cm are 0.25."""
    assert sources.get("smap").band("ssm").layer_mm == 50
    assert sources.get("gldas").band("SoilMoi0_10cm_inst").layer_mm == 100


def test_saturation_is_no_moisture():
    """ASCAT and the 1 km product are in per cent of saturation, which no factor makes m3 m-3."""
    for source, band in (("ascat_ssm", "surface_soil_moisture"), ("cgls_ssm", "ssm")):
        assert sources.get(source).band(band).unit == "%"
        assert "saturation" in sources.get(source).trap
        with pytest.raises(UnitError, match="vol %"):
            conversion("%", "m3 m-3")
    flags = sources.get("cgls_ssm").band("ssm").valid(np.array([0.0, 200.0, 201.0, 242.0, 255.0]))
    assert np.isfinite(flags).tolist() == [True, True, False, False, False]


def test_a_reading_is_given_the_embedding_of_the_year_before():
    """Of 2019, 2020 and 2021 a reading of New Year's Eve 2020 may know 2019 only: no leap day."""
    row = sources.get("satellite_embedding")
    years = interval(row, np.array(["2019-01-01", "2020-01-01", "2021-01-01"], "M8[us]"))
    known = years.end <= np.datetime64("2020-12-31T23:59:59")
    assert years.start[known].dt.year.tolist() == [2019]
    assert years.end.dt.strftime("%m-%d %H:%M").unique().tolist() == ["01-01 00:00"]
    assert sources.bounds("sentinel1", [row.name])[row.name] > np.timedelta64(366, "D")


def test_what_the_new_layers_are_made_of_decides_which_triplets_stand():
    """One bearer of the fact: the catalogue's names are understood by the collocation."""
    independent = {"a": ["smap_l3_005"], "b": ["ascat_ssm"], "c": ["era5_land"]}
    assert shared_sources(independent) == ""
    for pair in (("esa_cci", "smos_l3"), ("c3s_soil_moisture", "ascat_ssm"), ("era5", "gldas"),
                 ("era5", "era5_land"), ("cgls_ssm", "sentinel1"),
                 ("satellite_embedding", "sentinel2")):  # fmt: skip
        assert "share" in shared_sources({"a": [pair[0]], "b": [pair[1]], "c": ["in_situ"]}), pair


def test_classes_and_flags_are_never_continuous():
    """Interpolating a class code makes a class that is not there."""
    flat = {b.name for s in sources.CATALOGUE for b in s.bands if not b.continuous}
    assert flat == {
        "QA60", "QA_PIXEL", "discrete_classification", "landcover", "LC_Type1", "class",
        "retrieval_qual_flag_am", "retrieval_qual_flag_pm", "retrieval_qual_flag", "surface_flag",
    }  # fmt: skip
    assert all(
        b.continuous for s in sources.CATALOGUE for b in s.bands if b.normalisation is not None
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_row_uses_the_catalogues_words(name):
    """Dates, spans and kinds can be read by a program."""
    source = sources.get(name)
    assert source.dated_by in ("instant", "start", "middle", "static")
    assert source.resolution in ("high", "low", "coarse")
    assert source.is_static == (source.cadence == "")
    assert source.title and source.citation and source.bands
    for date in filter(None, (source.begins, source.ends)):
        np.datetime64(date, "D")
    if source.cadence:
        assert sources.duration(source.cadence) > np.timedelta64(0, "m")
    if source.successor:
        assert sources.get(source.successor).name != name
    assert sources.duration(source.max_age) > np.timedelta64(0, "m")


def test_known_ends_name_their_successor():
    """A study that runs past an end must be told what follows."""
    ends = {s.name: (s.ends, s.successor) for s in sources.CATALOGUE if s.ends and not s.is_static}
    assert ends == {
        "smap": ("2022-08-02", "smap_l4"),
        "smap_l3_005": ("2023-12-04", "smap_l3_006"),
        "smap_hydroblocks": ("2020-01-01", ""),
    }


def test_composites_are_dated_by_their_start_and_instants_are_not():
    """The join adds a composite's length to its stamp, and nothing to an instant's."""
    dated = {s.name: s.dated_by for s in sources.CATALOGUE}
    assert dated["smap"] == dated["modis_lai"] == dated["chirps"] == "start"
    assert dated["gldas"] == dated["sentinel1"] == dated["sentinel2"] == "instant"
    assert dated["smap_l3_005"] == dated["smap_l4"] == "middle"


def test_an_unknown_name_is_answered_with_the_known_ones():
    """Sources and bands alike."""
    with pytest.raises(UnknownNameError, match="sentinel1"):
        sources.get("sentinel3")
    with pytest.raises(UnknownNameError, match="VV, VH, angle"):
        sources.get("sentinel1").band("HH")
    with pytest.raises(UnknownNameError, match="No source is called"):
        sources.bounds("radar", ["smap"])
