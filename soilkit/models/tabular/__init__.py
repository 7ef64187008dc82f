"""Systems that learn from a table of predictors: one row a sample, one column a predictor.

All speak scikit-learn's estimator language and take rows with missing predictors (NaN) as they are:
about four in ten ten-day windows lack radar or optics, and their prediction is wanted all the same.
"""

from soilkit.models.tabular.baselines import SmapLinear, forest
from soilkit.models.tabular.folds import cross_folds, cross_predict, predict_folds
from soilkit.models.tabular.networks import DenseEnsemble, ProbEnsemble
from soilkit.models.tabular.saving import load_ensemble, save_ensemble
from soilkit.models.tabular.strata import balanced_weights
from soilkit.models.tabular.textures import TextureForest
from soilkit.models.tabular.wide import WideDeepEnsemble

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
