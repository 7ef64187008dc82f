"""Which samples trained for which predictions, split by split and fold by fold."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from soilkit.errors import ContractError
from soilkit.evaluation.auditing import labels_of
from soilkit.evaluation.records import Background
from soilkit.evaluation.sifting import GIVEN


class Turn(NamedTuple):
    """``held_out`` positions of predictions, and ``trained``: folds by the ids that trained."""

    held_out: np.ndarray
    trained: pd.Series


def turns(own: pd.DataFrame, background: Background) -> list[Turn]:
    """One model's predictions by what trained for them, each by the folds of its own split.

    Parameters
    ----------
    own : predictions of one model with ``given_split``
    background : Background with ``samples``

    Raises
    ------
    ContractError
        Where the folds of a split, or of one of its samples, are not known.
    """
    ids, words = own["sample_id"].astype("str"), own[GIVEN].astype("str")
    found = []
    for name in words.unique():
        labels = labels_of(name, samples=background.samples, background=background)
        mine = None if labels is None else ids.map(labels).where(words == name)
        if labels is None or mine is None or mine[words == name].isna().any():
            raise ContractError(f"nobody said which samples trained for the split {name!r}")
        has_side = bool((labels == "train").any())
        for fold in mine.dropna().unique():
            trained = labels[labels == "train"] if has_side else labels[labels != fold]
            trained = trained[~trained.index.isin(ids[mine == fold])]
            if not len(trained):
                raise ContractError(f"no sample trained for the split {name!r}, fold {fold}")
            found.append(Turn(np.flatnonzero(mine == fold), trained))
    return found
