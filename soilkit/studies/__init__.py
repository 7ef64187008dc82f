"""The paper's experiments: definitions, resumable trials, tables of paper and ours."""

from soilkit.studies.fusion_study import (
    EXPERIMENTS,
    FULL,
    PROFILES,
    Experiment,
    Profile,
    Study,
    Variant,
    chosen,
)
from soilkit.studies.fusion_trial import Data, Recipe, Trial, prepare
from soilkit.studies.paper_tables import (
    Results,
    beside_literature,
    by_stratum,
    mean_with_interval,
    open_study,
    paper_beside_ours,
    read_study,
    render,
    results_of,
    sizes,
    write_study,
)

__all__ = [
    "EXPERIMENTS",
    "FULL",
    "PROFILES",
    "Data",
    "Experiment",
    "Profile",
    "Recipe",
    "Results",
    "Study",
    "Trial",
    "Variant",
    "beside_literature",
    "by_stratum",
    "chosen",
    "mean_with_interval",
    "open_study",
    "paper_beside_ours",
    "prepare",
    "read_study",
    "render",
    "results_of",
    "sizes",
    "write_study",
]
