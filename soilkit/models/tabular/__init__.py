"""Systems that learn from a table of predictors: one row a sample, one column a predictor.

All speak scikit-learn's estimator language and take rows with missing predictors (NaN) as they are:
about four in ten ten-day windows lack radar or optics, and their prediction is wanted all the same.
"""

from soilkit.models.tabular.ensembles import (
    DenseEnsemble,
    ProbEnsemble,
    WideDeepEnsemble,
    load_ensemble,
    save_ensemble,
)
from soilkit.models.tabular.forests import (
    SmapLinear,
    TextureForest,
    balanced_weights,
    cross_folds,
    cross_predict,
    forest,
    predict_folds,
)

__all__ = [
    "DenseEnsemble",
    "ProbEnsemble",
    "SmapLinear",
    "TextureForest",
    "WideDeepEnsemble",
    "balanced_weights",
    "cross_folds",
    "cross_predict",
    "forest",
    "load_ensemble",
    "predict_folds",
    "save_ensemble",
]
