"""What an evaluation takes for training: the folds of the split that is scored, no other."""

import numpy as np
import pandas as pd
import pytest

from soilkit.errors import ContractError
from soilkit.metrics import evaluation
from soilkit.metrics.evaluation.records import (
    Background,
    Case,
    audit_splits,
    select_rows,
    training_folds,
)
from soilkit.metrics.evaluation.score_tables import baselines
from soilkit.metrics.splits.checks import Claim
from tests.test_evaluation import folds_of, world


@pytest.fixture(scope="module")
def pair():
    return world(noise={"ours": 0.02})


def season_of(predictions, folds):
    unseen = select_rows(predictions, "ours", audits={}).unseen
    known = Background(folds=folds, samples=predictions)
    *_, made = baselines(Case("ours", unseen, None, None, known))
    return made.set_index("sample_id")["predicted_m3_m3"].sort_index()


def test_folds_of_another_split_train_nothing_of_this_one(pair):
    """Random folds of the same samples, listed first, let a station know its own season."""
    predictions, _ = pair
    own = folds_of(predictions)
    random = pd.Series(np.random.default_rng(0).integers(0, 5, len(own)), index=own.index)

    alone = season_of(predictions, {"test": own})
    beside = season_of(predictions, {"a leaky split": random, "test": own})
    leaky = season_of(predictions.assign(split="a leaky split"), {"a leaky split": random})

    pd.testing.assert_series_equal(alone, beside)
    assert not np.allclose(alone, leaky)


def test_each_of_two_splits_is_trained_by_its_own_folds(pair):
    predictions, _ = pair
    first = predictions["station_id"] < "N1"
    table = predictions.assign(split=first.map({True: "by station", False: "by network"}))
    folds = {
        "by station": folds_of(table),
        "by network": folds_of(table, by="network"),
    }
    unseen = select_rows(table, "ours", audits={}).unseen
    found = training_folds(unseen, Background(folds=folds, samples=table))

    assert len(found) == 4 + 1, "four stations of N0 one by one, network N1 as a whole"
    assert sum(len(fold.held_out) for fold in found) == len(unseen)
    for fold in found:
        held_out = unseen.iloc[fold.held_out]
        trained = table[table["sample_id"].isin(fold.trained.index)]
        assert not set(held_out["station_id"]) & set(trained["station_id"])
    with pytest.raises(ContractError, match="which samples trained for the split 'by network'"):
        training_folds(unseen, Background(folds={"by station": folds["by station"]}, samples=table))


def test_the_predictions_alone_know_what_trained_where_folds_do(pair):
    """No table of samples is needed: each sample's reading stands beside its prediction."""
    predictions, stations = pair
    background = Background(folds={"test": folds_of(predictions)})
    found = evaluation.evaluate(predictions, stations, label="x", background=background)
    assert "climatology" in found.comparison["role"].tolist()
    assert evaluation.verdict(found)["answer"].iloc[2] != "not compared"


def test_training_samples_of_unknown_places_leave_nothing_to_claim(pair):
    """Of five folds two are at hand; the stations of the others may be those that are scored."""
    predictions, stations = pair
    labels = folds_of(predictions)
    elsewhere = pd.Series("N9__S9", index=[f"x{k}" for k in range(50)])
    for more, claim in ((labels[:0], False), (elsewhere, True)):
        folds = {"test": pd.concat([labels, more])}
        found = audit_splits(predictions, stations, background=Background(folds=folds))["test"]
        assert (found.claim() == Claim.NOT_AUDITABLE) == claim
        if claim:
            assert "50 of 690 samples with a label are in no table" in str(found)
