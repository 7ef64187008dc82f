"""Systems that learn from a table of predictors: one row a sample, one column a predictor.

All speak scikit-learn's estimator language and take rows with missing predictors (NaN) as they are:
about four in ten ten-day windows lack radar or optics, and their prediction is wanted all the same.
``systems`` makes them train, predict, map and save alike.
"""

from soilkit.models.tabular.ensembles import DenseEnsemble, ProbEnsemble, WideDeepEnsemble
from soilkit.models.tabular.estimators import SmapLinear, TextureForest, cross_predict, forest
from soilkit.models.tabular.problem import Problem
from soilkit.models.tabular.systems import SYSTEMS, load_trained

__all__ = [
    "SYSTEMS",
    "DenseEnsemble",
    "ProbEnsemble",
    "Problem",
    "SmapLinear",
    "TextureForest",
    "WideDeepEnsemble",
    "cross_predict",
    "forest",
    "load_trained",
]
