"""Strata carry the names of the papers' tables."""

import ismn.const
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soilkit import strata
from soilkit.errors import ContractError, UnknownNameError

# One point well inside each class of the USDA triangle: sand, silt, clay [%].
INSIDE = {
    "Sand": (92, 5, 3), "Loamy sand": (82, 12, 6), "Sandy loam": (65, 25, 10),
    "Loam": (42, 40, 18), "Silt loam": (20, 65, 15), "Silt": (7, 88, 5),
    "Sandy clay loam": (60, 13, 27), "Clay loam": (33, 34, 33), "Silty clay loam": (10, 56, 34),
    "Sandy clay": (52, 7, 41), "Silty clay": (7, 47, 46), "Clay": (22, 20, 58),
}  # fmt: skip
MONTHS = np.arange(12)


@pytest.mark.parametrize("name", INSIDE)
def test_each_usda_class_has_its_place_in_the_triangle(name):
    """The middle of a class is that class."""
    sand, silt, clay = INSIDE[name]
    assert strata.texture_class(sand, silt, clay=clay) == name


@given(st.floats(0.001, 1), st.floats(0.001, 1), st.floats(0.001, 1), st.integers(-10, 10))
def test_texture_depends_on_shares_alone(sand, silt, clay, exponent):
    """Every soil has one class, whatever unit its fractions come in."""
    unit = 2.0**exponent  # a power of two, so that rounding moves no soil over a boundary
    name = str(strata.texture_class(sand, silt, clay=clay))
    assert name in INSIDE
    assert strata.texture_class(sand * unit, silt * unit, clay=clay * unit) == name


def test_a_missing_fraction_gives_no_texture():
    """NaN, negative and all-zero fractions are unknown, not sand."""
    found = strata.texture_class([np.nan, 0, -5, 90], [10, 0, 50, 5], clay=[10, 0, 55, 5])
    assert found.tolist() == ["", "", "", "Sand"]


def test_copernicus_codes_become_the_papers_classes():
    """Table 10's names; what the paper does not name is 'Other', what is no code is unknown."""
    codes = [40, 111, 116, 121, 126, 30, 20, 60, 50, 90, 80, 0, np.nan, 999]
    assert strata.land_cover_class(codes).tolist() == [
        "Agriculture", "Closed forest", "Closed forest", "Open forest", "Open forest",
        "Vegetation", "Shrubs", "Bareground", "Built-up", "Wetland", "Other", "", "", "",
    ]  # fmt: skip


def test_one_code_means_different_things_in_two_legends():
    """ISMN's 20 is irrigated cropland, Copernicus's 20 is shrubs; a name stays what it is."""
    assert strata.land_cover_class([20, 130, "Shrubs"]).tolist() == ["Shrubs", "", "Shrubs"]
    found = strata.land_cover_class(["20", 130, "Shrubs", ""], legend="cci")
    assert found.tolist() == ["Agriculture", "Vegetation", "Shrubs", ""]
    assert strata.land_cover_class(["Forest, closed to open"]).tolist() == ["Open forest"]
    with pytest.raises(UnknownNameError, match="copernicus, cci"):
        strata.land_cover_class([20], legend="modis")


def test_classes_with_fewer_than_five_stations_carry_an_asterisk():
    """Four stations make no aggregate."""
    assert strata.mark_small(["Loam", "Clay", "Sand"], [5, 4, 0]) == ["Loam", "Clay*", "Sand*"]


def season(mean, amplitude, *, warmest=6):
    return mean + amplitude * np.cos(2 * np.pi * (MONTHS - warmest) / 12)


# A made-up but typical climatology a class: monthly temperature [deg C], precipitation [mm].
CLIMATES = {
    "Af": (season(26, 1), np.full(12, 200.0)),
    "Am": (season(26, 1), np.array([15] * 2 + [300] * 10, float)),
    "Aw": (season(25, 2), np.where((MONTHS > 3) & (MONTHS < 10), 170.0, 5.0)),
    "BWh": (season(24, 8), np.full(12, 8.0)),
    "BSk": (season(8, 14), np.full(12, 22.0)),
    "Csa": (season(16, 8), np.where((MONTHS > 3) & (MONTHS < 9), 5.0, 90.0)),
    "Cfa": (season(16, 10), np.full(12, 95.0)),
    "Cfb": (season(10, 6), np.full(12, 70.0)),
    "Cwa": (season(19, 8), np.where((MONTHS > 3) & (MONTHS < 9), 200.0, 10.0)),
    "Dfa": (season(10, 14), np.full(12, 75.0)),
    "Dfb": (season(6, 14), np.full(12, 70.0)),
    "Dfc": (season(-3, 16), np.full(12, 45.0)),
    "Dfd": (season(-14, 30), np.full(12, 40.0)),
    "ET": (season(-8, 14), np.full(12, 30.0)),
    "EF": (season(-25, 10), np.full(12, 10.0)),
}


@pytest.mark.parametrize("name", CLIMATES)
def test_typical_climates_get_their_koeppen_class(name):
    """Peel et al. (2007), Table 1."""
    assert strata.koeppen(*CLIMATES[name]) == name


@pytest.mark.parametrize("name", CLIMATES)
def test_the_southern_hemisphere_has_the_same_classes(name):
    """Half a year's shift changes the hemisphere, not the climate."""
    temperature, rain = CLIMATES[name]
    assert strata.koeppen(np.roll(temperature, 6), np.roll(rain, 6)) == name


def test_koeppen_works_on_maps_and_admits_gaps():
    """Any leading shape; an unknown month makes an unknown class."""
    maps = [np.stack([values, values]) for values in CLIMATES["Cfa"]]
    maps[0][1, 3] = np.nan
    assert strata.koeppen(*maps).tolist() == ["Cfa", ""]
    with pytest.raises(ContractError, match="12 months"):
        strata.koeppen(np.zeros(11), np.zeros(11))


def test_two_letters_group_similar_climates():
    """As the paper does for its Table 12."""
    assert strata.koeppen_pair(["Dfb", "Dfa", "BSk", "ET", ""]).tolist() == [
        "Df", "Df", "BS", "ET", "",
    ]  # fmt: skip


def test_every_word_and_code_of_the_legend_in_ismn_is_one_of_the_papers_classes():
    """ISMN's stations carry ESA CCI's land cover as words or codes: both say the same class."""
    legend = {151: "Sparse trees (<15%)", 220: "Permanent snow and ice"}
    legend |= {code: word for word, code in ismn.const.LANDCOVER.items()}
    codes, words = zip(*legend.items(), strict=True)
    assert len(legend) == 37
    classes = strata.land_cover_class(words)
    assert set(classes) == set(strata.LAND_COVER_NAMES.values())
    assert classes.tolist() == strata.land_cover_class(codes, legend="cci").tolist()
    assert strata.land_cover_class([w.upper() for w in words]).tolist() == classes.tolist()
    by_code = dict(zip(codes, classes, strict=True))
    assert [by_code[c] for c in (50, 61, 62, 100, 180)] == [
        "Open forest", "Closed forest", "Open forest", "Open forest", "Wetland",
    ]  # fmt: skip
