"""Pictures of a study say what is ours and what the paper's, and why there is nothing to draw."""

import matplotlib

matplotlib.use("Agg")

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from soilkit.show import plots

TABLE = pd.DataFrame(
    {
        "variant": ["all", "without SMAP"] * 2,
        "metric": ["r", "r", "ubrmse_m3_m3", "ubrmse_m3_m3"],
        "paper": [0.7, 0.6, 0.05, 0.06],
        "ours": [0.8, 0.75, 0.04, 0.045],
        "ours_lower": [0.7, 0.65, 0.03, 0.035],
        "ours_upper": [0.9, 0.85, 0.05, 0.055],
        "paper_step": [float("nan"), -0.1, float("nan"), 0.01],
        "our_step": [float("nan"), -0.05, float("nan"), 0.005],
        "lower": [float("nan"), -0.08, float("nan"), 0.001],
        "upper": [float("nan"), -0.02, float("nan"), 0.009],
    }
)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_scores_stand_beside_the_papers_line_by_line():
    figure = plots.beside_paper(TABLE, title="synthetic")
    left = figure.axes[0]
    ours, papers = left.get_lines()[0], left.get_lines()[-1]
    assert list(ours.get_xdata()) == [0.8, 0.75]
    assert list(papers.get_xdata()) == [0.7, 0.6]
    assert "synthetic" in figure.get_suptitle()


def test_steps_leave_the_reference_line_out():
    figure = plots.beside_paper(TABLE, step=True)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["without SMAP"]


def test_a_study_that_was_not_run_says_what_to_do():
    empty = TABLE.assign(ours=float("nan"))
    assert "make study" in plots.beside_paper(empty).axes[0].texts[0].get_text()


def test_every_seed_has_its_curve_and_every_line_one_name():
    curves = pd.DataFrame({"key": ["a", "a", "b", "b"], "step": [1, 2] * 2, "score": [0.1] * 4})
    lines = pd.DataFrame({"key": ["a", "b"], "variant": "all", "seed": [0, 1]})
    figure = plots.learning_curves(curves, lines)
    assert len(figure.axes[0].get_lines()) == 2
    assert figure.axes[0].get_legend_handles_labels()[1] == ["all"]
