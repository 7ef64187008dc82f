"""Systems that learn from a table of predictors: one row a sample, one column a predictor.

All speak scikit-learn's estimator language and take rows with missing predictors (NaN) as they are:
about four in ten ten-day windows lack radar or optics, and their prediction is wanted all the same.
``systems`` makes them train, predict, map and save alike.
"""

from soilkit.models.tabular.ensembles import DenseEnsemble as DenseEnsemble
from soilkit.models.tabular.ensembles import ProbEnsemble as ProbEnsemble
from soilkit.models.tabular.ensembles import WideDeepEnsemble as WideDeepEnsemble
from soilkit.models.tabular.estimators import SmapLinear as SmapLinear
from soilkit.models.tabular.estimators import TextureForest as TextureForest
from soilkit.models.tabular.estimators import cross_predict as cross_predict
from soilkit.models.tabular.estimators import forest as forest
from soilkit.models.tabular.problem import Problem as Problem
from soilkit.models.tabular.systems import SYSTEMS as SYSTEMS
from soilkit.models.tabular.systems import load_trained as load_trained
