"""Systems that learn from a table of predictors: one row a sample, one column a predictor.

All speak scikit-learn's estimator language and take rows with missing predictors (NaN) as they are:
about four in ten ten-day windows lack radar or optics, and their prediction is wanted all the same.
``systems`` makes them train, predict, map and save alike.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from soilkit.models.tabular.estimators import SmapLinear as SmapLinear
from soilkit.models.tabular.estimators import TextureForest as TextureForest
from soilkit.models.tabular.estimators import cross_predict as cross_predict
from soilkit.models.tabular.estimators import forest as forest
from soilkit.models.tabular.problem import Problem as Problem

if TYPE_CHECKING:
    from soilkit.models.tabular.ensembles import DenseEnsemble as DenseEnsemble
    from soilkit.models.tabular.ensembles import ProbEnsemble as ProbEnsemble
    from soilkit.models.tabular.ensembles import WideDeepEnsemble as WideDeepEnsemble
    from soilkit.models.tabular.systems import SYSTEMS as SYSTEMS
    from soilkit.models.tabular.systems import load_trained as load_trained

WITH_TORCH = {"SYSTEMS": "systems", "load_trained": "systems"} | dict.fromkeys(
    ("DenseEnsemble", "ProbEnsemble", "WideDeepEnsemble"), "ensembles"
)


def __getattr__(name: str) -> Any:
    """What needs torch, when it is asked for: a forest does without."""
    if name not in WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"soilkit.models.tabular.{WITH_TORCH[name]}"), name)
