"""The printed scores are those of the paper, and stations come under the names that it uses."""

import numpy as np
import pandas as pd
import pytest

from soilkit import metrics, strata
from soilkit.errors import UnknownNameError
from soilkit.world.ismn_writer import CCI_CLASS

FULL = "Sentinel-1 + DEM + Sentinel-2 + SoilGrids + SMAP + GLDAS"


@pytest.mark.parametrize(
    ("split", "ubrmse", "rmse", "r"), [("validation", 11.5, 16.7, 9.7), ("test", 12.7, 11.1, 9.1)]
)
def test_the_gains_that_table_9_prints_follow_from_its_scores(split, ubrmse, rmse, r):
    """The paper prints the full model's gains over SMAP + GLDAS in percent: an oracle."""
    table = metrics.paper_table(9)
    table = table[table["split"] == split].set_index("class")
    full, coarse = table.loc[FULL], table.loc["SMAP + GLDAS NN"]

    assert 100 * (1 - full["ubrmse_m3_m3"] / coarse["ubrmse_m3_m3"]) == pytest.approx(
        ubrmse, abs=0.1
    )
    assert 100 * (1 - full["rmse_m3_m3"] / coarse["rmse_m3_m3"]) == pytest.approx(rmse, abs=0.1)
    assert 100 * (full["r"] / coarse["r"] - 1) == pytest.approx(r, abs=0.1)


@pytest.mark.parametrize("number", [10, 11, 12])
def test_classes_with_at_least_five_sensors_lie_near_the_overall_correlation(number):
    """The paper says within 0.15 of 0.727; its own Silty clay loam is 0.157 below."""
    table = metrics.paper_table(number)

    assert ((table["r"] - 0.727).abs()[~table["is_small"]] <= 0.16).all()
    assert table.loc[table["r"].isna(), "is_small"].all()


@pytest.mark.parametrize("number", [9, 10, 11, 12])
def test_an_unbiased_error_never_passes_the_whole_error(number):
    table = metrics.paper_table(number).dropna(subset=["r"])

    assert (table["ubrmse_m3_m3"] <= table["rmse_m3_m3"]).all()


def test_asterisks_stay_on_the_names_and_off_the_classes():
    names = metrics.paper_table(11).set_index("class")

    assert names.loc["Sand", "name"] == "Sand*"
    assert names.loc["Sand", "is_small"]
    assert not names.loc["Sandy loam", "is_small"]


def test_the_papers_classes_are_those_that_strata_names():
    known = {name for name, _ in strata.TEXTURE_RULES}

    assert set(metrics.paper_table(10)["class"]) <= set(strata.LAND_COVER_NAMES.values())
    assert set(metrics.paper_table(11)["class"]) <= known
    assert set(metrics.paper_table(12)["class"].str.len()) == {2}


def test_another_table_is_refused_by_number():
    with pytest.raises(UnknownNameError, match="9, 10, 11 and 12"):
        metrics.paper_table(13)


def stations(land_cover):
    return pd.DataFrame({"land_cover": land_cover, "texture": "clay loam", "koeppen": "Dfb"})


def test_both_land_cover_legends_name_the_same_ground_alike():
    """The synthetic archive writes each Copernicus class as its CCI counterpart."""
    copernicus = strata.land_cover_class(list(CCI_CLASS))
    ismn = strata.land_cover_class(list(CCI_CLASS.values()), legend="cci")
    assert copernicus.tolist() == ismn.tolist()


def test_unknown_land_cover_is_empty_and_words_stay():
    found = metrics.paper_strata(stations(["", None, np.nan, "999", "Agriculture"]))

    assert found["land_cover"].tolist() == ["", "", "", "", "Agriculture"]


def test_texture_and_climate_come_in_the_spelling_of_the_tables():
    found = metrics.paper_strata(stations(["Shrubs"])).iloc[0]

    assert found["texture"] in set(metrics.paper_table(11)["class"])
    assert found["koeppen"] in set(metrics.paper_table(12)["class"])
