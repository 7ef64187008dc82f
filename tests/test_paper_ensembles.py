"""The scores of the ensembles' paper agree with what its own text says about them."""

import numpy as np
import pytest

from soilkit.errors import UnknownNameError
from soilkit.metrics.evaluation import literature


def test_table_6_holds_the_numbers_of_the_abstract():
    """Dense 0.639 and 0.058 against SMAP's 0.562 and 0.065, cross-validated."""
    table = literature.ensembles_table(6)
    crossed = table[table["dataset"] == "cross-validation"].set_index("model")

    assert crossed.loc["Dense", ["r", "ubrmse_m3_m3"]].tolist() == [0.639, 0.058]
    assert crossed.loc["SMAP", ["r", "ubrmse_m3_m3"]].tolist() == [0.562, 0.065]


def test_biases_broken_over_two_lines_are_those_of_the_other_table():
    """Table 7's ensembles are Table 6's on the validation sites; R of Prob differs by a digit."""
    six, seven = literature.ensembles_table(6), literature.ensembles_table(7)
    six = six[six["dataset"] == "validation"].set_index("model").loc[["Dense", "Prob", "WDL"]]
    seven = seven[seven["member"] == "ensemble"].set_index("model").loc[six.index]

    assert (six["bias_m3_m3"] == seven["bias_m3_m3"]).all()
    assert (six["bias_m3_m3"] < 0).all()
    assert np.allclose(six["r"], seven["r"], atol=0.0011)


def test_table_7_has_seven_members_beside_each_ensemble():
    """Six characteristics and the unweighted one; the texture member of Dense is the weakest."""
    seven = literature.ensembles_table(7)
    members = seven[seven["member"] != "ensemble"]

    assert members.groupby("model").size().to_dict() == {"Dense": 7, "Prob": 7, "WDL": 7}
    dense = members[members["model"] == "Dense"].set_index("member")
    assert dense["r"].idxmin() == "texture"


@pytest.mark.parametrize("column", ["r_ratio", "ubrmse_ratio"])
def test_ratios_of_table_4_average_to_one_over_the_four_models(column):
    """A model's score over the mean of all: an oracle for cells read from a broken line."""
    table = literature.ensembles_table(4).dropna(subset=[column])
    groups = table.groupby(["characteristic", "class"])[column]

    assert (groups.size() == 4).all()
    assert np.allclose(groups.mean(), 1, atol=0.016)  # BSh is printed with a mean of 0.985
    assert ((table[column] - 1).abs().groupby(table["class"]).max() >= 0.099).all()


def test_cells_of_the_clean_copy_are_kept_and_cells_that_the_text_lost_are_empty():
    """Which of Table 3's other columns is Prob's and which the forest's cannot be told."""
    fort_cobb = literature.ensembles_table(3).set_index("model")
    smap = fort_cobb.loc["SMAP", ["r", "ubrmse_m3_m3", "bias_m3_m3"]]
    four = literature.ensembles_table(4)
    counts = four[four["r_ratio"].notna()].groupby("class")["n_stations"].agg(["min", "max"])

    assert fort_cobb.index[fort_cobb["r"].isna()].tolist() == ["Prob", "RF"]
    assert fort_cobb["r"].idxmax() == "SMAP"  # "with SMAP having the best R score"
    assert smap.tolist() == [0.752, 0.046, 0.062]
    assert counts.loc[["Silty clay loam", "Mixed forests", "BSh"]].to_numpy().tolist() == [
        [3, 3], [3, 3], [2, 2],
    ]  # fmt: skip


def test_another_table_is_refused_by_number():
    with pytest.raises(UnknownNameError, match="No table 5"):
        literature.ensembles_table(5)
