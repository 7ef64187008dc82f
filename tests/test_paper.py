"""The printed scores are those of the paper, and stations come under the names that it uses."""

import numpy as np
import pandas as pd
import pytest

from soilkit import strata
from soilkit.errors import UnknownNameError
from soilkit.metrics.evaluation import literature
from soilkit.world.stations import CCI_CLASS

FULL = "Sentinel-1 + DEM + Sentinel-2 + SoilGrids + SMAP + GLDAS"


@pytest.mark.parametrize(
    ("split", "ubrmse", "rmse", "r"), [("validation", 11.5, 16.7, 9.7), ("test", 12.7, 11.1, 9.1)]
)
def test_the_gains_that_table_9_prints_follow_from_its_scores(split, ubrmse, rmse, r):
    """The paper prints the full model's gains over SMAP + GLDAS in percent: an oracle."""
    table = literature.paper_table(9)
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
    table = literature.paper_table(number)

    assert ((table["r"] - 0.727).abs()[~table["is_small"]] <= 0.16).all()
    assert table.loc[table["r"].isna(), "is_small"].all()


@pytest.mark.parametrize("number", [9, 10, 11, 12, 15, 16, 18, 19, 21])
def test_an_unbiased_error_never_passes_the_whole_error(number):
    table = literature.paper_table(number).dropna(subset=["r"])
    if number not in (16, 18, 21):  # which print no RMSE
        assert table["rmse_m3_m3"].notna().all()
    table = table.dropna(subset=["rmse_m3_m3"])

    assert (table["ubrmse_m3_m3"] <= table["rmse_m3_m3"]).all()


# Table 16 as printed: ubRMSE and R lost, in percent of the baseline's.
PERCENT_LOST = {
    "DEM": (7.4, 1.0),
    "Sentinel-1": (3.7, 3.2),
    "Sentinel-2": (7.4, 3.2),
    "SoilGrids": (18.5, 9.5),
    "SMAP": (5.6, 2.9),
    "GLDAS": (1.9, 1.5),
    "SMAP + GLDAS": (7.4, 7.2),
}


@pytest.mark.parametrize("source", PERCENT_LOST)
def test_the_losses_that_table_16_prints_follow_from_its_scores(source):
    """The paper prints what each removal costs in percent, with one digit: an oracle."""
    table = literature.paper_table(16).set_index("class")
    without, full = table.loc[source], table.loc["None (Baseline)"]
    ubrmse, r = PERCENT_LOST[source]

    assert 100 * (without["ubrmse_m3_m3"] / full["ubrmse_m3_m3"] - 1) == pytest.approx(
        ubrmse, abs=0.06
    )
    assert 100 * (1 - without["r"] / full["r"]) == pytest.approx(r, abs=0.06)


# Table 21 as printed: gains over the SMAP + GLDAS network of the same anchor, in percent.
PERCENT_GAINED = {
    ("sentinel1", FULL.removesuffix(" + SMAP + GLDAS")): (4.9, 1.8),
    ("sentinel1", FULL): (11.5, 9.7),
    ("smap", FULL.removesuffix(" + SMAP + GLDAS")): (1.5, -1.6),
    ("smap", FULL): (9.5, 9.5),
}


@pytest.mark.parametrize(("anchor", "model"), PERCENT_GAINED)
def test_the_gains_that_table_21_prints_follow_from_its_scores(anchor, model):
    table = literature.paper_table(21).set_index(["anchor", "class"])
    ours, coarse = table.loc[(anchor, model)], table.loc[(anchor, "SMAP + GLDAS NN")]
    ubrmse, r = PERCENT_GAINED[anchor, model]

    assert 100 * (1 - ours["ubrmse_m3_m3"] / coarse["ubrmse_m3_m3"]) == pytest.approx(
        ubrmse, abs=0.1
    )
    assert 100 * (ours["r"] / coarse["r"] - 1) == pytest.approx(r, abs=0.1)


@pytest.mark.parametrize(("number", "line"), [(16, "None (Baseline)"), (18, "None (Baseline)"),
                                              (19, FULL), (21, FULL)])  # fmt: skip
def test_the_full_model_scores_alike_wherever_it_is_printed(number, line):
    """Tables 16, 18, 19 and 21 repeat the last line of Table 9."""
    table_9 = literature.paper_table(9).query("split == 'validation'").set_index("class")
    table = literature.paper_table(number).query("anchor == 'sentinel1'").set_index("class")

    assert table.loc[line, "r"] == table_9.loc[FULL, "r"]
    assert table.loc[line, "ubrmse_m3_m3"] == table_9.loc[FULL, "ubrmse_m3_m3"]


def test_splits_have_the_sizes_that_section_2_tells():
    """23,408 points validate and 21,071 test, of 130,070; training has the other 85,591."""
    table = literature.paper_table(9).groupby("split")["n_samples"].agg(["min", "max"])

    assert table.loc["validation"].tolist() == [23_408, 23_408]
    assert table.loc["test"].tolist() == [21_071, 21_071]
    assert 130_070 - 23_408 - 21_071 == 85_591


def test_asterisks_stay_on_the_names_and_off_the_classes():
    names = literature.paper_table(11).set_index("class")

    assert names.loc["Sand", "name"] == "Sand*"
    assert names.loc["Sand", "is_small"]
    assert not names.loc["Sandy loam", "is_small"]


def test_the_papers_classes_are_those_that_strata_names():
    known = {name for name, _ in strata.TEXTURE_RULES}

    assert set(literature.paper_table(10)["class"]) <= set(strata.LAND_COVER_NAMES.values())
    assert set(literature.paper_table(11)["class"]) <= known
    assert set(literature.paper_table(12)["class"].str.len()) == {2}


def test_another_table_is_refused_by_number():
    with pytest.raises(UnknownNameError, match="9, 10, 11, 12, 15, 16"):
        literature.paper_table(13)


def stations(land_cover):
    return pd.DataFrame({"land_cover": land_cover, "texture": "clay loam", "koeppen": "Dfb"})


def test_both_land_cover_legends_name_the_same_ground_alike():
    """The synthetic archive writes each Copernicus class as its CCI counterpart."""
    copernicus = strata.land_cover_class(list(CCI_CLASS))
    ismn = strata.land_cover_class(list(CCI_CLASS.values()), legend="cci")
    assert copernicus.tolist() == ismn.tolist()


def test_unknown_land_cover_is_empty_and_words_stay():
    found = literature.paper_strata(stations(["", None, np.nan, "999", "Agriculture"]))

    assert found["land_cover"].tolist() == ["", "", "", "", "Agriculture"]


def test_texture_and_climate_come_in_the_spelling_of_the_tables():
    found = literature.paper_strata(stations(["Shrubs"])).iloc[0]

    assert found["texture"] in set(literature.paper_table(11)["class"])
    assert found["koeppen"] in set(literature.paper_table(12)["class"])
