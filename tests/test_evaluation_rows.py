"""Which rows an evaluation scores: by what the folds prove, and not by a split's name alone."""

import numpy as np
import pandas as pd
import pytest

from soilkit.metrics import evaluation
from soilkit.metrics.evaluation.records import TRAINING, Background, select_rows
from soilkit.metrics.splits.checks import NORMALISED, Claim
from tests.test_evaluation import folds_of, world


@pytest.fixture(scope="module")
def pair():
    return world(noise={"ours": 0.02})


@pytest.mark.parametrize(
    "name", ["train", "Training", "training set", "train_rows", "train 2019", "leaky",
             "by row (leaky)", "random rows", "rows at random", "random-row"],
)  # fmt: skip
def test_a_name_that_says_training_or_leaky_is_believed(name):
    assert TRAINING.search(name)


@pytest.mark.parametrize(
    "name", ["trained on 2019, tested on 2020", "train-test by station", "training climatology",
             "not leaky", "non-leaky blocks", "no leaks", "strain gauge", "random stations",
             "test", "by block"],
)  # fmt: skip
def test_an_honest_name_with_such_a_word_is_scored(name):
    assert not TRAINING.search(name)


def test_the_folds_prove_what_a_name_hides(pair):
    """Random rows called "by block" are leaky; whole stations called "random rows" are not."""
    predictions, stations = pair
    own = folds_of(predictions)
    random = pd.Series(np.random.default_rng(0).integers(0, 5, len(own)), index=own.index)
    table = pd.concat([predictions.assign(split=s) for s in ("by block", "random rows, moved")])
    folds = {"by block": random, "random rows, moved": own}
    found = evaluation.evaluate(table, stations, label="x", background=Background(folds=folds))
    assert found.audits["by block"].claim() == "random rows (leaky)"
    assert found.unseen["given_split"].unique().tolist() == ["random rows, moved"]
    assert found.is_unseen


def test_of_a_repeated_sample_the_row_with_a_pair_counts(pair):
    """A sample's first row has no prediction, its second has: only the first is lost."""
    predictions, _ = pair
    empty = predictions[:30].assign(predicted_m3_m3=[np.nan, np.inf, -np.inf] * 10, split="first")
    found = select_rows(pd.concat([empty, predictions]), "ours", audits={})
    lost = found.losses.set_index("reason")["n_rows"]
    assert len(found.unseen) == len(predictions)
    assert lost["the same model and sample again"] == 30 and lost["no finite prediction"] == 0
    assert found.handed_in == len(found.unseen) + lost.sum()


def test_a_scaling_that_saw_held_out_samples_denies_the_claim(pair):
    """A climatology of all stations, the held-out one too, in fold N0__S0; none in the others."""
    predictions, stations = pair
    folds = folds_of(predictions)
    fitted = {fold: set(folds) - {fold} for fold in set(folds)}
    claims = {}
    for name, seen in {"training": fitted, "all": fitted | {"N0__S0": set(folds)}}.items():
        background = Background(folds={"test": folds}, fitted_on=seen)
        found = evaluation.evaluate(predictions, stations, label="x", background=background)
        claims[name] = found.level
        check = {c.name: c.status for c in found.audits["test"].checks}[NORMALISED]
        assert check == ("pass" if name == "training" else "fail")
    assert claims["training"] is Claim.PLACES and claims["all"] is not Claim.PLACES


def test_notes_without_a_line_cost_nothing(pair):
    """What the command hands over where reading lost nothing: a table without rows or columns."""
    found = select_rows(pair[0], "ours", audits={}, notes=pd.DataFrame())
    assert found.handed_in == len(pair[0]) == len(found.unseen)


def test_categories_and_strings_are_the_same_table(pair):
    predictions, stations = pair
    names = ["sample_id", "sensor_id", "station_id", "network", "model", "split"]
    folds = folds_of(predictions)
    coded = folds.set_axis(pd.CategoricalIndex(folds.index)).astype("category")
    pages = []
    for kind, labels in (("str", folds), ("category", coded)):
        table = predictions.astype(dict.fromkeys(names, kind))
        background = Background(folds={"test": labels})
        found = evaluation.evaluate(table, stations, label="x", background=background)
        pages.append((found.claim, evaluation.verdict(found).to_dict("list")))
    assert pages[0] == pages[1]
    assert folds.index.equals(folds_of(predictions).index), "the caller's folds stay as they were"


@pytest.mark.parametrize("word", ["train", "Train", "training set"])
def test_training_rows_under_any_of_their_names_are_what_is_audited(pair, word):
    """The table's own training rows at the scored stations make the split leaky in rows."""
    predictions, stations = pair
    first = predictions.groupby("sensor_id").cumcount() < 40
    table = predictions.assign(split=first.map({True: word, False: "test"}))
    found = evaluation.evaluate(table, stations, label="x")
    assert not found.is_unseen and len(found.unseen) == (~first).sum()
    assert found.audits["test"].claim() != Claim.NOT_AUDITABLE
    apart = table["station_id"].isin(["N0__S0", "N1__S1"]).map({True: word, False: "test"})
    there = evaluation.evaluate(predictions.assign(split=apart), stations, label="x")
    assert there.is_unseen
    folds = pd.Series(word, index=predictions["sample_id"].unique())
    trained = evaluation.evaluate(
        predictions, stations, label="x", background=Background(folds={"test": folds})
    )
    assert trained.claim.startswith("leaky: 640 scored samples")
