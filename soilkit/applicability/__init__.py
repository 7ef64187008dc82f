"""Where a model may be asked: how far inputs lie from training data, and what skill is there.

The dissimilarity index and the area of applicability of Meyer and Pebesma (2021),
doi:10.1111/2041-210X.13650, for any table of predictors.
"""

from soilkit.applicability.area import Area, fit
from soilkit.applicability.skill import skill_by_dissimilarity

__all__ = ["Area", "fit", "skill_by_dissimilarity"]
